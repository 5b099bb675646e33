/* SPDX-License-Identifier: Apache-2.0
 *
 *	sim --seeds N [--from SEED]     runs N seeds; 1 when one of them breaks a rule
 *	sim --seed S [--trace]          one seed, as a story
 *	sim --lines N [--from SEED]     N seeds without faults, each again and again with the
 *	                                controller killed at its first, second, ... last line
 *	sim --mutate NAME --seeds N     1 when nobody notices the fault
 *	sim --mutations [--seeds N]     all of them, as a table
 */
#include "sim.h"

#include <string.h>
#include <time.h>

static struct sim world;

static const struct {
	const char *name, *what;
} mutations[MUTATE_COUNT] = {
#define X(name, text, what) [MUTATE_##name] = {text, what},
    MUTATION_TABLE(X)
#undef X
};

struct args {
	uint64_t from, seeds;
	enum mutation mutation;
	bool one, trace, all_mutations, lines;
	uint64_t die_at_line;
};

static double seconds(void)
{
	struct timespec t;

	clock_gettime(CLOCK_MONOTONIC, &t);
	return (double)t.tv_sec + (double)t.tv_nsec / 1e9;
}

static int run_one(const struct args *a)
{
	uint64_t hash;

	if (a->die_at_line)
		sim_init_line(&world, a->from, a->die_at_line, a->trace);
	else
		sim_init(&world, a->from, a->mutation, a->trace);
	sim_run(&world);
	hash = world.hash;
	printf("seed %llu: %s%s; %llu events, %llu requests, %llu changes, hash %016llx\n",
	       (unsigned long long)a->from, world.failed ? "BROKEN: " : "good", world.why,
	       (unsigned long long)world.events, (unsigned long long)world.count_requests,
	       (unsigned long long)world.count_changes, (unsigned long long)hash);
	return world.failed;
}

/* The same seed again must be the same run. */
static bool repeats(uint64_t seed, uint64_t hash)
{
	sim_init(&world, seed, MUTATE_NOTHING, false);
	sim_run(&world);
	if (world.hash == hash)
		return true;
	printf("seed %llu gives another run the second time\n", (unsigned long long)seed);
	return false;
}

struct sums {
	uint64_t ejected[EJECT_CAUSE_COUNT], moved, refused;
	uint64_t events, requests, changes, virtual_ms, bad, slowest_rest_ms;
	uint64_t reached[ROLLOUT_PHASE_COUNT][2][4];
};

static void sum_up(struct sums *t)
{
	t->events += world.events;
	t->requests += world.count_requests;
	t->changes += world.count_changes;
	for (int c = 0; c < EJECT_CAUSE_COUNT; c++)
		t->ejected[c] += world.count_ejected[c];
	t->moved += world.count_moved;
	t->refused += world.count_refused;
	t->virtual_ms += world.now - 1000000;
	if (!world.o.crash_loop)
		t->slowest_rest_ms = MAX(t->slowest_rest_ms, world.slowest_rest_ms);
	for (int p = 0; p < ROLLOUT_PHASE_COUNT; p++)
		for (int u = 0; u < 2; u++)
			for (int k = 0; k < 4; k++)
				t->reached[p][u][k] += world.reached[p][u][k];
}

/* What was tried in which phase: a phase that nobody disturbed is not tested. */
static void print_reached(const struct sums *t)
{
	printf("orders that came in     forward: rollback    abort   undoing: rollback    abort\n");
	for (enum rollout_phase p = 0; p < ROLLOUT_PHASE_COUNT; p++)
		printf("  %-22s %16llu %8llu %19llu %8llu\n", rollout_phase_name(p),
		       (unsigned long long)t->reached[p][0][ROLLOUT_ROLLBACK],
		       (unsigned long long)t->reached[p][0][ROLLOUT_ABORT],
		       (unsigned long long)t->reached[p][1][ROLLOUT_ROLLBACK],
		       (unsigned long long)t->reached[p][1][ROLLOUT_ABORT]);
}

static int run_seeds(const struct args *a)
{
	struct sums t = {0};
	double start = seconds(), took;

	for (uint64_t seed = a->from; seed < a->from + a->seeds; seed++) {
		sim_init(&world, seed, MUTATE_NOTHING, false);
		if (!sim_run(&world) && t.bad++ < 10)
			printf("seed %llu: BROKEN: %s\n  sim --seed %llu --trace\n",
			       (unsigned long long)seed, world.why, (unsigned long long)seed);
		sum_up(&t);
		if (seed % 100 == 0 && !repeats(seed, world.hash))
			t.bad++;
	}
	took = seconds() - start;
	print_reached(&t);
	printf("ejected for failures %llu, errors %llu, latency %llu, stuck %llu; requests moved %llu, "
	       "retries refused %llu\n",
	       (unsigned long long)t.ejected[EJECT_FAILURES],
	       (unsigned long long)t.ejected[EJECT_ERRORS],
	       (unsigned long long)t.ejected[EJECT_LATENCY],
	       (unsigned long long)t.ejected[EJECT_STUCK], (unsigned long long)t.moved,
	       (unsigned long long)t.refused);
	printf("at rest %.1f s after the last fault at the latest\n",
	       (double)t.slowest_rest_ms / 1000);
	printf("%llu seeds from %llu: %llu broken; %.1f virtual days, %llu events, %llu requests, "
	       "%llu changes; %.0f seeds/s\n",
	       (unsigned long long)a->seeds, (unsigned long long)a->from,
	       (unsigned long long)t.bad, (double)t.virtual_ms / 86400000,
	       (unsigned long long)t.events, (unsigned long long)t.requests,
	       (unsigned long long)t.changes, (double)a->seeds / took);
	return t.bad != 0;
}

/* The controller is killed before and after every save and between any two orders. */
static int run_lines(const struct args *a)
{
	uint64_t runs = 0, bad = 0;
	double start = seconds();

	for (uint64_t seed = a->from; seed < a->from + a->seeds; seed++) {
		uint64_t last = 0;

		for (uint64_t at = 0; at <= last; at++, runs++) {
			sim_init_line(&world, seed, at, false);
			if (!sim_run(&world) && bad++ < 10)
				printf("seed %llu, line %llu: BROKEN: %s\n"
				       "  sim --seed %llu --line %llu --trace\n",
				       (unsigned long long)seed, (unsigned long long)at, world.why,
				       (unsigned long long)seed, (unsigned long long)at);
			if (at == 0)
				last = world.count_lines;
		}
	}
	printf("%llu worlds, the controller killed at each of their lines: %llu runs, %llu broken; "
	       "%.0f runs/s\n",
	       (unsigned long long)a->seeds, (unsigned long long)runs, (unsigned long long)bad,
	       (double)runs / (seconds() - start));
	return bad != 0;
}

/* Returns how many of the seeds noticed it. */
static uint64_t run_mutation(const struct args *a, enum mutation m)
{
	uint64_t noticed = 0, first = 0;
	char why[sizeof(world.why)] = "";

	for (uint64_t seed = a->from; seed < a->from + a->seeds; seed++) {
		sim_init(&world, seed, m, false);
		if (sim_run(&world) || noticed++)
			continue;
		first = seed;
		snprintf(why, sizeof(why), "%s", world.why);
	}
	printf("%-18s %6llu of %llu  ", mutations[m].name, (unsigned long long)noticed,
	       (unsigned long long)a->seeds);
	if (noticed)
		printf("seed %llu: %s\n", (unsigned long long)first, why);
	else
		printf("NOBODY NOTICED: %s\n", mutations[m].what);
	fflush(stdout);
	return noticed;
}

static bool parse(int argc, char **argv, struct args *a)
{
	for (int i = 1; i < argc; i++) {
		const char *v = i + 1 < argc ? argv[i + 1] : NULL;

		if (strcmp(argv[i], "--trace") == 0) {
			a->trace = true;
			continue;
		}
		if (strcmp(argv[i], "--mutations") == 0) {
			a->all_mutations = true;
			continue;
		}
		if (!v)
			return false;
		a->lines |= strcmp(argv[i], "--lines") == 0;
		if (strcmp(argv[i], "--line") == 0)
			a->die_at_line = strtoull(v, NULL, 10);
		else if (strcmp(argv[i], "--seeds") == 0 || strcmp(argv[i], "--lines") == 0)
			a->seeds = strtoull(v, NULL, 10);
		else if (strcmp(argv[i], "--from") == 0 || strcmp(argv[i], "--seed") == 0)
			a->from = strtoull(v, NULL, 10);
		else if (strcmp(argv[i], "--mutate") != 0)
			return false;
		a->one |= strcmp(argv[i], "--seed") == 0;
		if (strcmp(argv[i], "--mutate") == 0) {
			for (enum mutation m = 1; m < MUTATE_COUNT; m++)
				if (strcmp(mutations[m].name, v) == 0)
					a->mutation = m;
			if (!a->mutation)
				return false;
		}
		i++;
	}
	return true;
}

int main(int argc, char **argv)
{
	struct args a = {.from = 1, .seeds = 1000};
	int missed = 0;

	if (!parse(argc, argv, &a)) {
		fprintf(stderr, "usage: sim [--seeds N | --lines N] [--from SEED] "
				"[--seed SEED [--line N] [--trace]] "
				"[--mutations | --mutate NAME]\nmutations:\n");
		for (enum mutation m = 1; m < MUTATE_COUNT; m++)
			fprintf(stderr, "  %-18s %s\n", mutations[m].name, mutations[m].what);
		return 2;
	}
	if (a.one)
		return run_one(&a);
	if (a.lines)
		return run_lines(&a);
	if (!a.mutation && !a.all_mutations)
		return run_seeds(&a);
	for (enum mutation m = 1; m < MUTATE_COUNT; m++)
		if (a.all_mutations || m == a.mutation)
			missed += run_mutation(&a, m) == 0;
	return missed != 0;
}
