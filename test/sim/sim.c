/* SPDX-License-Identifier: Apache-2.0
 *
 *	sim --seeds N [--from SEED]     runs N seeds; 1 when one of them breaks a rule
 *	sim --seed S [--trace]          one seed, as a story
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
#define X(name, text, what) [MUTATE_##name] = {text_of(text), what},
#define text_of(t) #t
	MUTATION_TABLE(X)
#undef X
};

struct args {
	uint64_t from, seeds;
	enum mutation mutation;
	bool one, trace, all_mutations;
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

static int run_seeds(const struct args *a)
{
	uint64_t events = 0, requests = 0, changes = 0, virtual_ms = 0, bad = 0;
	double start = seconds(), took;

	for (uint64_t seed = a->from; seed < a->from + a->seeds; seed++) {
		sim_init(&world, seed, MUTATE_NOTHING, false);
		if (!sim_run(&world) && bad++ < 10)
			printf("seed %llu: BROKEN: %s\n  sim --seed %llu --trace\n",
			       (unsigned long long)seed, world.why, (unsigned long long)seed);
		events += world.events;
		requests += world.count_requests;
		changes += world.count_changes;
		virtual_ms += world.now - 1000000;
		if (seed % 100 == 0 && !repeats(seed, world.hash))
			bad++;
	}
	took = seconds() - start;
	printf("%llu seeds from %llu: %llu broken; %.1f virtual days, %llu events, %llu requests, "
	       "%llu changes; %.0f seeds/s\n",
	       (unsigned long long)a->seeds, (unsigned long long)a->from, (unsigned long long)bad,
	       (double)virtual_ms / 86400000, (unsigned long long)events,
	       (unsigned long long)requests, (unsigned long long)changes, (double)a->seeds / took);
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
		if (strcmp(argv[i], "--seeds") == 0)
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
		fprintf(stderr, "usage: sim [--seeds N] [--from SEED] [--seed SEED [--trace]] "
				"[--mutations | --mutate NAME]\nmutations:\n");
		for (enum mutation m = 1; m < MUTATE_COUNT; m++)
			fprintf(stderr, "  %-18s %s\n", mutations[m].name, mutations[m].what);
		return 2;
	}
	if (a.one)
		return run_one(&a);
	if (!a.mutation && !a.all_mutations)
		return run_seeds(&a);
	for (enum mutation m = 1; m < MUTATE_COUNT; m++)
		if (a.all_mutations || m == a.mutation)
			missed += run_mutation(&a, m) == 0;
	return missed != 0;
}
