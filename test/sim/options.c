/* SPDX-License-Identifier: Apache-2.0
 *
 * A seed becomes a world. Each kind of fault is there in some worlds only, so that
 * one that is loud does not drown the others.
 *
 * Safety and liveness are apart: in half of the worlds the faults stop at some
 * moment, and then everything must come to rest; in the others they go on to the
 * end, and only the rules that hold at every moment are looked at.
 */
#include "sim.h"

static struct behaviour behaviour_of(struct sim *s, uint32_t release)
{
	struct behaviour b = {
	    .start_ms = sim_between(s, 20, 1500),
	    .service_ms = sim_between(s, 2, sim_chance(s, 30) ? 1500 : 150),
	    .stop_ms = sim_between(s, 5, 800),
	};

	if (release <= SIM_GOOD)
		return b;
	switch (sim_between(s, 0, 9)) {
	case 0:
		b.never_ready = true;
		break;
	case 1:
		b.crash_ms = sim_between(s, 50, 1500); /* often before it is ready */
		break;
	case 2:
		b.crash_ms = sim_between(s, 1500, 30000);
		break;
	case 3:
		b.hang_ms = sim_between(s, 500, 20000);
		break;
	case 4:
		b.flap_ms = sim_between(s, 300, 10000);
		break;
	case 5:
		b.ignores_term = true;
		break;
	case 6:
		b.start_ms = sim_between(s, 1500, 9000); /* some are too slow */
		break;
	default:
		break;
	}
	return b;
}

static void expand_app(struct sim *s, struct app *a)
{
	a->rules = (struct rollout_rules){
	    .instances = sim_between(s, 1, SIM_SLOTS),
	    .ready_ms = sim_between(s, 2000, 8000),
	    .drain_ms = sim_between(s, 300, 4000),
	    .bake_ms = sim_between(s, 0, 4000),
	    .switch_ms = sim_between(s, 200, 2000),
	    .never_mixed = sim_chance(s, 30),
	};
	for (uint32_t i = 1; i <= SIM_RELEASES; i++)
		a->behaviour[i] = behaviour_of(s, i);
	a->limits = (struct hold_limits){
	    .wait_ms = sim_between(s, 500, 10000),
	    .requests = sim_between(s, 1, 60),
	    .bytes = sim_between(s, 2000, 300000),
	};
	a->rules.hold_ms = a->limits.wait_ms;
	a->probe_ms = sim_between(s, 200, 1000);
	a->probe_timeout_ms = sim_between(s, 50, 500);
	a->rise = sim_between(s, 1, 3);
	a->fall = sim_between(s, 1, 3);
	a->target_limit = sim_chance(s, 50) ? 0 : sim_between(s, 1, 8);
	a->response_ms = sim_between(s, 1000, 8000);
	a->grace_ms = sim_between(s, 200, 3000);
	a->arrive_ms = sim_between(s, 40, 600);
	a->eject = (struct eject_rules){
	    .failures = sim_chance(s, 70) ? sim_between(s, 2, 6) : 0,
	    .errors = sim_chance(s, 70) ? sim_between(s, 20, 90) : 0,
	    .latency = sim_chance(s, 70) ? sim_between(s, 2, 6) : 0,
	    .latency_least_ms = sim_between(s, 50, 1000),
	    .requests = sim_between(s, 5, 20),
	    .window_ms = sim_between(s, 2000, 10000),
	    .time_ms = sim_between(s, 500, 3000),
	    .most_ms = sim_between(s, 3000, 15000),
	    .silent_ms = sim_chance(s, 90) ? sim_between(s, 50, 300) : 0,
	};
	a->slow_start_ms = sim_chance(s, 30) ? sim_between(s, 100, 5000) : 0;
	a->retry_share = sim_chance(s, 60) ? sim_between(s, 1, 30) : 0;
	a->retry_least = sim_chance(s, 50) ? sim_between(s, 0, 3) : 100;
	a->is_unix = sim_chance(s, 70);
	a->unread_counts = sim_chance(s, 80);
}

/* Several targets, a request soon after another, and what hangs is found soon: so that the same request
 * can meet more than one that is stuck. */
static void expand_stuck(struct sim *s, struct app *a)
{
	a->rules.instances = SIM_SLOTS;
	a->arrive_ms = sim_between(s, 15, 60);
	a->eject.silent_ms = sim_between(s, 50, 150);
	a->retry_least = sim_chance(s, 70) ? 100 : 0;
	for (uint32_t i = 1; i <= SIM_RELEASES; i++)
		a->behaviour[i].service_ms = MIN(a->behaviour[i].service_ms, 100u);
}

void options_expand(struct sim *s, uint64_t seed)
{
	struct options *o = &s->o;
	bool *const faults[] = {&o->kill_controller, &o->crash_lines, &o->hang_controller,
				&o->kill_router,     &o->hang_router, &o->kill_procs,
				&o->hang_procs,	     &o->disk,	      &o->keeper_restart,
				&o->slow_messages};

	o->seed = seed;
	o->apps = sim_chance(s, 60) ? 1 : sim_between(s, 2, SIM_APPS);
	o->calm_ms = sim_between(s, 15000, 60000);
	o->fault_ms = sim_between(s, 200, 4000);
	o->operate_ms = sim_between(s, 800, 8000);
	o->liveness = sim_chance(s, 50);
	for (size_t i = 0; i < ARRAY_LEN(faults); i++)
		*faults[i] = sim_chance(s, 40);
	o->keeper_restart = o->keeper_restart && sim_chance(s, 40);
	for (uint32_t i = 0; i < o->apps; i++) {
		expand_app(s, &s->app[i]);
		if (o->hang_procs && sim_chance(s, 40))
			expand_stuck(s, &s->app[i]);
	}
	o->crash_loop = o->liveness && sim_chance(s, 5);
	if (o->crash_loop)
		s->app[0].behaviour[SIM_RELEASES] = (struct behaviour){
		    .start_ms = 20, .service_ms = 10, .stop_ms = 10, .crash_ms = 3000};
}

static void print_app(const struct app *a, uint32_t number)
{
	printf("app %u: %u instances%s, ready %u drain %u bake %u switch %u grace %u ms, %s, "
	       "probe %u/%u ms rise %u fall %u, limit %u, hold %u ms %u requests %llu bytes, "
	       "a request each %u ms\n",
	       number, a->rules.instances, a->rules.never_mixed ? ", mixed: never" : "",
	       a->rules.ready_ms, a->rules.drain_ms, a->rules.bake_ms, a->rules.switch_ms,
	       a->grace_ms, a->is_unix ? "unix" : "tcp", a->probe_ms, a->probe_timeout_ms, a->rise,
	       a->fall, a->target_limit, a->limits.wait_ms, a->limits.requests,
	       (unsigned long long)a->limits.bytes, a->arrive_ms);
	for (uint32_t i = 1; i <= SIM_RELEASES; i++) {
		const struct behaviour *b = &a->behaviour[i];

		printf("  @%u: starts in %u, serves in %u, stops in %u ms", i, b->start_ms,
		       b->service_ms, b->stop_ms);
		if (b->never_ready)
			printf(", is never ready");
		if (b->crash_ms)
			printf(", crashes after about %u ms", b->crash_ms);
		if (b->hang_ms)
			printf(", hangs after about %u ms", b->hang_ms);
		if (b->flap_ms)
			printf(", flaps each %u ms", b->flap_ms);
		if (b->ignores_term)
			printf(", ignores TERM");
		printf("\n");
	}
}

void options_print(const struct sim *s)
{
	const struct options *o = &s->o;

	printf("seed %llu: %u apps, %s after %u ms; a fault each %u ms, an operator each %u ms\n"
	       "faults:%s%s%s%s%s%s%s%s%s%s\n",
	       (unsigned long long)o->seed, o->apps,
	       o->crash_loop ? "calm with a crash loop"
	       : o->liveness ? "calm"
			     : "ends",
	       o->calm_ms, o->fault_ms, o->operate_ms, o->kill_controller ? " kill-controller" : "",
	       o->crash_lines ? " crash-lines" : "", o->hang_controller ? " hang-controller" : "",
	       o->kill_router ? " kill-router" : "", o->hang_router ? " hang-router" : "",
	       o->kill_procs ? " kill-instances" : "", o->hang_procs ? " hang-instances" : "",
	       o->disk ? " disk" : "", o->keeper_restart ? " keeper-restart" : "",
	       o->slow_messages ? " slow-messages" : "");
	for (uint32_t i = 0; i < o->apps; i++)
		print_app(&s->app[i], i);
}
