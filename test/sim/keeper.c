/* SPDX-License-Identifier: Apache-2.0
 *
 * Model of the keeper: what it promises in wire/msg.h. START and STOP are
 * idempotent by id; STOP of one that it does not know is answered by GONE, too,
 * for the one who asks cannot know whether it was heard before. An instance that
 * ends starts again after the pause that core/supervise says. Controller and
 * router likewise.
 */
#include "sim.h"

#include <string.h>

static const char *const part_names[P_COUNT] = {"controller", "router"};

struct inst *keeper_find(struct sim *s, uint64_t id)
{
	for (uint32_t i = 0; i < s->keeper.len; i++)
		if (s->keeper.inst[i].id == id)
			return &s->keeper.inst[i];
	return NULL;
}

static void tell(struct sim *s, const struct inst *in, enum inst_state state)
{
	struct message m = {.type = M_INSTANCE, .id = in->id, .state = state, .starts = in->starts};

	if (s->part[P_CONTROLLER].up)
		sim_send(s, CH_TO_CONTROLLER, &m);
}

static void set_state(struct sim *s, struct inst *in, enum inst_state state)
{
	in->state = state;
	tell(s, in, state);
}

static void forget(struct sim *s, struct inst *in)
{
	struct keeper *k = &s->keeper;
	uint32_t i = (uint32_t)(in - k->inst);

	memmove(in, in + 1, (k->len - i - 1) * sizeof(*in));
	k->len--;
}

static void gone(struct sim *s, struct inst *in)
{
	sim_say(s, "keeper: unit %llu is gone", (unsigned long long)in->id);
	tell(s, in, I_GONE);
	forget(s, in);
}

static void spawn(struct sim *s, struct inst *in)
{
	in->pid = proc_start(s, in->app, in->version.release, in->id);
	in->starts++;
	in->started_ms = s->now;
	supervise_started(&in->sup, s->now);
	sim_say(s, "keeper: starts unit %llu (%u@%u/%u) as pid %u", (unsigned long long)in->id,
		in->app, in->version.release, in->slot, in->pid);
	set_state(s, in, I_STARTING);
}

static void start(struct sim *s, const struct message *m)
{
	struct keeper *k = &s->keeper;
	struct inst *in = keeper_find(s, m->id);

	if (in && (!rollout_same(in->version, m->version) || in->app != m->app))
		sim_broken(s, "unit %llu was started before, as something else",
			   (unsigned long long)m->id);
	if (in && !sim_mutated(s, MUTATE_STARTS))
		return;
	if (k->len == SIM_INSTANCES) {
		sim_broken(s, "more instances than the model has room for");
		return;
	}
	in = &k->inst[k->len++];
	*in = (struct inst){.id = m->id, .app = m->app, .slot = m->slot, .version = m->version};
	spawn(s, in);
}

static void stop(struct sim *s, const struct message *m)
{
	struct inst *in = keeper_find(s, m->id);
	struct inst unknown = {.id = m->id};

	if (!in) {
		tell(s, &unknown, I_GONE);
		return;
	}
	if (in->stopping)
		return;
	check_stop(s, in);
	in->stopping = true;
	if (!in->pid) {
		gone(s, in);
		return;
	}
	set_state(s, in, I_STOPPING);
	sim_at(s, s->now + s->app[in->app].grace_ms, E_PROC_KILL, 0, in->pid, 0);
	proc_term(s, in->pid);
}

void keeper_message(struct sim *s, const struct message *m)
{
	struct keeper *k = &s->keeper;

	switch (m->type) {
	case M_START:
		start(s, m);
		break;
	case M_STOP:
		stop(s, m);
		break;
	case M_TABLE:
		k->table_before = k->table;
		k->table = m->id;
		if (s->part[P_ROUTER].up)
			sim_send(s, CH_TO_ROUTER, m);
		break;
	default:
		break;
	}
}

void keeper_proc_up(struct sim *s, uint32_t pid)
{
	for (uint32_t i = 0; i < s->keeper.len; i++)
		if (s->keeper.inst[i].pid == pid && !s->keeper.inst[i].stopping)
			set_state(s, &s->keeper.inst[i], I_RUNNING);
}

static uint64_t pause_after(struct sim *s, struct supervise *sup, const struct supervise_rule *rule,
			    uint64_t started_ms)
{
	struct supervise_rule wrong = *rule;
	uint32_t ends_before = sup->quick_ends;
	uint64_t pause;

	if (sim_mutated(s, MUTATE_NO_CEILING))
		wrong.max_ms = UINT64_MAX / 4;
	if (sim_mutated(s, MUTATE_NO_RESET))
		wrong.healthy_ms = UINT64_MAX;
	pause = supervise_ended(sup, &wrong, (uint32_t)sim_random(s), s->now);
	if (sim_mutated(s, MUTATE_NO_PAUSE))
		pause = 0;
	check_pause(s, rule, ends_before, s->now - started_ms, pause);
	return pause;
}

void keeper_proc_ended(struct sim *s, uint32_t pid)
{
	struct keeper *k = &s->keeper;
	struct inst *in = NULL;
	uint64_t pause;

	for (uint32_t i = 0; i < k->len; i++)
		if (k->inst[i].pid == pid)
			in = &k->inst[i];
	if (!in)
		return;
	in->pid = 0;
	if (in->stopping && !sim_mutated(s, MUTATE_REVIVE)) {
		gone(s, in);
		return;
	}
	s->crashed[in->id] = s->now;
	pause = pause_after(s, &in->sup, &supervise_instance, in->started_ms);
	if (sim_mutated(s, MUTATE_FORGET) && pause) {
		forget(s, in);
		return;
	}
	set_state(s, in, I_WAITING);
	sim_say(s, "keeper: unit %llu ended, starts again in %llu ms", (unsigned long long)in->id,
		(unsigned long long)pause);
	sim_at(s, s->now + pause, E_RESTART, 0, in->id, k->epoch);
}

void keeper_restart_inst(struct sim *s, uint64_t id)
{
	struct inst *in = keeper_find(s, id);

	if (in && !in->pid)
		spawn(s, in);
}

/* --- its own parts --- */

static void start_later(struct sim *s, enum part_id id, uint64_t pause)
{
	sim_at(s, s->now + pause + sim_between(s, 5, 100), E_PART_START, id, 0, s->keeper.epoch);
}

void keeper_part_died(struct sim *s, enum part_id id)
{
	struct part *p = &s->part[id];

	if (!p->up)
		return;
	p->up = false;
	p->epoch++;
	sim_say(s, "the %s died", part_names[id]);
	if (id == P_ROUTER) {
		sim_cut(s, CH_TO_ROUTER);
		router_died(s);
	} else {
		sim_cut(s, CH_TO_CONTROLLER);
		/* What it sent is read before its end is noticed, or lost with the channel; later
		 * it can no longer come. */
		if (sim_chance(s, 50))
			sim_cut(s, CH_TO_KEEPER);
		while (s->ch[CH_TO_KEEPER].len) {
			struct channel *ch = &s->ch[CH_TO_KEEPER];
			struct message m = ch->queue[ch->head];

			ch->head = (ch->head + 1) % SIM_MESSAGES;
			ch->len--;
			keeper_message(s, &m);
		}
		sim_cut(s, CH_TO_KEEPER);
	}
	start_later(s, id, pause_after(s, &p->sup, &supervise_part, p->resumed_ms));
}

static void greet_controller(struct sim *s)
{
	struct keeper *k = &s->keeper;
	struct message synced = {.type = M_SYNCED, .id = k->boot};

	controller_start(s);
	for (uint32_t i = 0; i < k->len; i++)
		tell(s, &k->inst[i], k->inst[i].stopping ? I_STOPPING : k->inst[i].state);
	sim_send(s, CH_TO_CONTROLLER, &synced);
}

void keeper_part_start(struct sim *s, enum part_id id)
{
	struct part *p = &s->part[id];
	struct keeper *k = &s->keeper;
	struct message table = {.type = M_TABLE, .id = k->table};

	p->up = true;
	p->epoch++;
	p->hung_until = 0;
	p->resumed_ms = s->now;
	supervise_started(&p->sup, s->now);
	sim_say(s, "keeper: starts the %s", part_names[id]);
	if (id == P_CONTROLLER) {
		greet_controller(s);
		return;
	}
	router_start(s);
	if (sim_mutated(s, MUTATE_REORDER) && k->table_before)
		table.id = k->table_before;
	if (table.id)
		sim_send(s, CH_TO_ROUTER, &table);
}

void keeper_boot(struct sim *s)
{
	s->keeper.boot++;
	s->keeper.epoch++;
	for (int i = 0; i < P_COUNT; i++) {
		s->part[i].sup = (struct supervise){0};
		start_later(s, i, 0);
	}
}

/* It was killed: everything ends with it, and the init system starts it anew. */
void keeper_restart(struct sim *s)
{
	sim_say(s, "the keeper dies, and everything with it");
	for (int i = 0; i < P_COUNT; i++) {
		s->part[i].epoch++;
		if (s->part[i].up && i == P_ROUTER)
			router_died(s);
		s->part[i].up = false;
	}
	for (int i = 0; i < CH_COUNT; i++)
		sim_cut(s, i);
	s->keeper.len = 0;
	s->keeper.table = s->keeper.table_before = 0;
	for (uint32_t i = 0; i < SIM_PROCS; i++)
		s->proc[i].pid = 0;
	memset(&s->numbers, 0, sizeof(s->numbers));
	keeper_boot(s);
}
