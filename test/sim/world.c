/* SPDX-License-Identifier: Apache-2.0
 *
 * Events are ordered by time, then by the order in which they were made. Each one
 * goes into a hash, so two runs that differ anywhere are told apart at the end.
 *
 * A process that hangs takes nothing: its events are put off to the end of the
 * hang, in their order. Messages wait in a queue for each channel, an event only
 * says that one of them is due, so no delay can make one overtake another.
 */
#include "sim.h"

#include <stdarg.h>
#include <string.h>

uint64_t sim_random(struct sim *s) /* xoshiro256** */
{
	uint64_t *x = s->rng, r = x[1] * 5, t = x[1] << 17;

	r = ((r << 7) | (r >> 57)) * 9;
	x[2] ^= x[0];
	x[3] ^= x[1];
	x[1] ^= x[2];
	x[0] ^= x[3];
	x[2] ^= t;
	x[3] = (x[3] << 45) | (x[3] >> 19);
	return r;
}

uint32_t sim_between(struct sim *s, uint32_t lo, uint32_t hi)
{
	return lo + (uint32_t)(sim_random(s) % (hi - lo + 1));
}

bool sim_chance(struct sim *s, uint32_t percent)
{
	return sim_random(s) % 100 < percent;
}

/* A sum of halving ranges: short times are frequent, long ones happen. No floating point, so that
 * every machine computes the same. */
uint32_t sim_around(struct sim *s, uint32_t mean)
{
	uint32_t t = sim_between(s, 1, mean);

	while (sim_chance(s, 40) && t < 8 * mean)
		t += sim_between(s, 0, mean);
	return t;
}

static bool before(const struct event *a, const struct event *b)
{
	return a->at != b->at ? a->at < b->at : a->seq < b->seq;
}

static void push(struct sim *s, struct event e)
{
	uint32_t i = s->heap_len++;

	while (i && before(&e, &s->heap[(i - 1) / 2])) {
		s->heap[i] = s->heap[(i - 1) / 2];
		i = (i - 1) / 2;
	}
	s->heap[i] = e;
}

static struct event pop(struct sim *s)
{
	struct event top = s->heap[0], last = s->heap[--s->heap_len];
	uint32_t i = 0, child;

	while ((child = 2 * i + 1) < s->heap_len) {
		if (child + 1 < s->heap_len && before(&s->heap[child + 1], &s->heap[child]))
			child++;
		if (!before(&s->heap[child], &last))
			break;
		s->heap[i] = s->heap[child];
		i = child;
	}
	s->heap[i] = last;
	return top;
}

void sim_at(struct sim *s, uint64_t at, enum event_type type, uint32_t a, uint64_t b, uint64_t c)
{
	if (s->heap_len == SIM_EVENTS) {
		sim_broken(s, "the model has more events than it should");
		return;
	}
	push(s, (struct event){MAX(at, s->now), s->seq++, type, a, b, c});
}

void sim_say(struct sim *s, const char *fmt, ...)
{
	va_list ap;

	if (!s->trace)
		return;
	printf("%8.3f  ", (double)s->now / 1000);
	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	putchar('\n');
}

void sim_broken(struct sim *s, const char *fmt, ...)
{
	va_list ap;

	if (s->failed)
		return;
	va_start(ap, fmt);
	vsnprintf(s->why, sizeof(s->why), fmt, ap);
	va_end(ap);
	s->failed = true;
	sim_say(s, "BROKEN: %s", s->why);
}

void sim_send(struct sim *s, enum channel_id id, const struct message *m)
{
	struct channel *ch = &s->ch[id];
	uint64_t at = s->now + sim_between(s, 0, SIM_MESSAGE_MS);

	if (s->o.slow_messages && !s->calm && sim_chance(s, 5))
		at += sim_around(s, 300);
	if (ch->len == SIM_MESSAGES) {
		sim_broken(s, "a channel of the model is full");
		return;
	}
	ch->queue[(ch->head + ch->len++) % SIM_MESSAGES] = *m;
	ch->last_at = MAX(at, ch->last_at);
	sim_at(s, ch->last_at, E_DELIVER, id, ch->epoch, 0);
}

void sim_cut(struct sim *s, enum channel_id id)
{
	s->ch[id].len = 0;
	s->ch[id].epoch++;
}

static void deliver(struct sim *s, enum channel_id id)
{
	struct channel *ch = &s->ch[id];
	struct message m = ch->queue[ch->head];

	ch->head = (ch->head + 1) % SIM_MESSAGES;
	ch->len--;
	if (id == CH_TO_KEEPER)
		keeper_message(s, &m);
	else if (id == CH_TO_CONTROLLER)
		controller_message(s, &m);
	else
		router_take_table(s, m.id);
}

/* Whose time an event needs; P_COUNT: nobody's who could be down or hang. */
static enum part_id part_of(const struct event *e)
{
	switch ((enum event_type)e->type) {
	case E_DELIVER:
		return e->a == CH_TO_CONTROLLER ? P_CONTROLLER
		       : e->a == CH_TO_ROUTER	? P_ROUTER
						: P_COUNT;
	case E_TICK:
	case E_BELL:
	case E_ACT:
		return P_CONTROLLER;
	case E_PROBE:
	case E_PROBE_LATE:
	case E_DRAIN_OVER:
	case E_ANSWER:
	case E_BROKE:
	case E_TIMEOUT:
	case E_RETRY:
	case E_LEAVE:
	case E_WAIT_OVER:
	case E_LOOK:
	case E_WATCH:
	case E_ACCUSED:
		return P_ROUTER;
	default:
		return P_COUNT;
	}
}

/* False: the event is put off, or void. */
static bool is_due(struct sim *s, struct event *e)
{
	enum part_id id = part_of(e);
	struct part *p = &s->part[id];

	if (e->type == E_DELIVER && e->b != s->ch[e->a].epoch)
		return false;
	if (id == P_COUNT)
		return true;
	if (e->type == E_RETRY && !p->up) { /* the listening socket stays: it waits there */
		sim_at(s, s->now + 20, e->type, e->a, e->b, e->c);
		return false;
	}
	if (!p->up || (id == P_CONTROLLER && e->type != E_DELIVER && e->b != p->epoch))
		return false;
	if (s->now < p->hung_until) { /* what waits in its socket is read before anything is judged */
		bool later = id == P_CONTROLLER && e->type != E_DELIVER && e->type != E_ACT &&
			     !sim_mutated(s, MUTATE_OLD_NEWS);

		sim_at(s, p->hung_until + later, e->type, e->a, e->b, e->c);
		return false;
	}
	return true;
}

static void part_event(struct sim *s, const struct event *e)
{
	if (e->type == E_PART_START && e->c == s->keeper.epoch) {
		keeper_part_start(s, e->a);
	} else if (e->type == E_PART_KILL && e->b == s->part[e->a].epoch && s->part[e->a].up &&
		   s->now < s->part[e->a].hung_until) {
		sim_say(s, "keeper: %s is silent: killed", e->a ? "router" : "controller");
		keeper_part_died(s, e->a);
	}
}

static void dispatch(struct sim *s, const struct event *e)
{
	switch ((enum event_type)e->type) {
	case E_DELIVER:
		deliver(s, e->a);
		break;
	case E_PART_START:
	case E_PART_KILL:
		part_event(s, e);
		break;
	case E_TICK:
		controller_tick(s);
		break;
	case E_BELL:
		controller_look(s, e->a);
		break;
	case E_ACT:
		if (s->ctl.pending_act[e->a])
			controller_act(s, e->a);
		break;
	case E_RESTART:
		if (e->c == s->keeper.epoch)
			keeper_restart_inst(s, e->b);
		break;
	case E_OPERATE:
	case E_FAULT:
	case E_CALM:
	case E_QUIET:
	case E_DISK_OK:
		operators_event(s, e);
		break;
	case E_PROBE:
	case E_PROBE_LATE:
	case E_DRAIN_OVER:
		if (e->c >> 32 == s->part[P_ROUTER].epoch)
			router_event(s, e);
		break;
	case E_LOOK:
	case E_WATCH:
	case E_ACCUSED:
		if (e->c >> 32 == s->part[P_ROUTER].epoch)
			failure_event(s, e);
		break;
	case E_ARRIVE:
	case E_STUCK_CHECK:
	case E_READ:
	case E_ANSWER:
	case E_BROKE:
	case E_TIMEOUT:
	case E_RETRY:
	case E_LEAVE:
	case E_WAIT_OVER:
		clients_event(s, e);
		break;
	default:
		proc_event(s, e);
		break;
	}
}

static void init(struct sim *s, uint64_t seed)
{
	uint64_t z = seed;

	memset(s, 0, sizeof(*s));
	for (int i = 0; i < 4; i++) { /* splitmix64 */
		uint64_t x = z += 0x9e3779b97f4a7c15u;

		x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
		x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
		s->rng[i] = x ^ (x >> 31);
	}
	s->now = 1000000; /* as on a machine that has been up for a while */
	s->hash = 0xcbf29ce484222325u;
	s->next_pid = 100;
	s->store.next_unit = 1;
	options_expand(s, seed);
}

static void begin(struct sim *s)
{
	if (s->trace)
		options_print(s);
	keeper_boot(s);
	for (uint32_t i = 0; i < s->o.apps; i++) {
		sim_at(s, s->now + 1, E_OPERATE, i, 1, 0);
		sim_at(s, s->now + sim_between(s, 1, 3000), E_ARRIVE, i, 0, 0);
	}
	sim_at(s, s->now + sim_between(s, 500, 5000), E_FAULT, 0, 0, 0);
	sim_at(s, s->now + s->o.calm_ms, E_CALM, 0, 0, 0);
}

void sim_init(struct sim *s, uint64_t seed, enum mutation m, bool trace)
{
	init(s, seed);
	s->mutation = m;
	s->trace = trace;
	begin(s);
}

void sim_init_line(struct sim *s, uint64_t seed, uint64_t line, bool trace)
{
	struct options o;

	init(s, seed);
	o = s->o;
	s->o = (struct options){.seed = seed,
				.apps = 1,
				.calm_ms = MIN(o.calm_ms, 20000u),
				.fault_ms = o.fault_ms,
				.operate_ms = MIN(o.operate_ms, 2500u),
				.liveness = true};
	s->die_at_line = line;
	s->trace = trace;
	begin(s);
}

bool sim_run(struct sim *s)
{
	while (!s->failed && !s->quiet && s->heap_len) {
		struct event e = pop(s);

		s->now = e.at;
		s->events++;
		s->hash = (s->hash ^ e.at ^ ((uint64_t)e.type << 56) ^ ((uint64_t)e.a << 40) ^
			   (e.b << 20) ^ e.c) *
			  0x100000001b3u;
		s->hash ^= s->hash >> 29;
		if (is_due(s, &e))
			dispatch(s, &e);
		for (uint32_t i = 0; i < s->o.apps && s->part[P_ROUTER].up; i++)
			check_room(s, i);
	}
	return !s->failed;
}
