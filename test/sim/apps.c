/* SPDX-License-Identifier: Apache-2.0
 *
 * The processes of the apps. What a process does follows from its release; faults
 * from outside (kill, hang) come on top.
 */
#include "sim.h"

static const struct behaviour *behaviour(struct sim *s, const struct proc *p)
{
	return &s->app[p->app].behaviour[p->release];
}

struct proc *proc_find(struct sim *s, uint32_t pid)
{
	for (uint32_t i = 0; pid && i < SIM_PROCS; i++)
		if (s->proc[i].pid == pid)
			return &s->proc[i];
	return NULL;
}

struct proc *proc_of(struct sim *s, uint64_t unit)
{
	struct inst *in = keeper_find(s, unit);

	return in ? proc_find(s, in->pid) : NULL;
}

uint32_t proc_start(struct sim *s, uint32_t app, uint32_t release, uint64_t unit)
{
	struct proc *p = NULL;
	const struct behaviour *b;

	for (uint32_t i = 0; !p && i < SIM_PROCS; i++)
		if (!s->proc[i].pid)
			p = &s->proc[i];
	if (!p) {
		sim_broken(s, "more processes than the model has room for");
		return 0;
	}
	check_spawn(s, app, release, unit);
	*p = (struct proc){.pid = s->next_pid++, .app = app, .release = release, .unit = unit};
	b = behaviour(s, p);
	if (!b->never_ready)
		sim_at(s, s->now + b->start_ms, E_PROC_UP, 0, p->pid, 0);
	if (b->crash_ms)
		sim_at(s, s->now + sim_around(s, b->crash_ms), E_PROC_CRASH, 0, p->pid, 0);
	if (b->hang_ms)
		sim_at(s, s->now + sim_around(s, b->hang_ms), E_PROC_HANG, 0, p->pid, 0);
	if (b->flap_ms)
		sim_at(s, s->now + sim_around(s, b->flap_ms), E_PROC_FLAP, 0, p->pid, 0);
	return p->pid;
}

void proc_end(struct sim *s, uint32_t pid)
{
	struct proc *p = proc_find(s, pid), was;

	if (!p)
		return;
	was = *p;
	p->pid = 0;
	clients_proc_died(s, &was);
	keeper_proc_ended(s, pid);
}

void proc_term(struct sim *s, uint32_t pid)
{
	struct proc *p = proc_find(s, pid);

	if (!p || p->ending || behaviour(s, p)->ignores_term)
		return;
	p->ending = true;
	if (!p->hung)
		sim_at(s, s->now + behaviour(s, p)->stop_ms, E_PROC_EXIT, 0, pid, 0);
}

void proc_hang(struct sim *s, uint32_t pid, uint32_t ms)
{
	struct proc *p = proc_find(s, pid);

	if (!p || p->hung)
		return;
	p->hung = true;
	p->hung_ms = s->now;
	if (ms)
		sim_at(s, s->now + ms, E_PROC_UNHANG, 0, pid, 0);
}

void proc_event_unhang(struct sim *s, struct proc *p)
{
	p->hung = false;
	if (p->ending)
		sim_at(s, s->now + behaviour(s, p)->stop_ms, E_PROC_EXIT, 0, p->pid, 0);
}

void proc_event(struct sim *s, const struct event *e)
{
	struct proc *p = proc_find(s, (uint32_t)e->b);

	if (!p)
		return;
	switch ((enum event_type)e->type) {
	case E_PROC_UP:
		if (p->hung) {
			sim_at(s, s->now + 100, E_PROC_UP, 0, p->pid, 0);
			break;
		}
		sim_say(s, "%u@%u unit %llu: pid %u listens", p->app, p->release,
			(unsigned long long)p->unit, p->pid);
		p->up = true;
		s->last_up[p->unit] = s->now;
		keeper_proc_up(s, p->pid);
		break;
	case E_PROC_CRASH:
		sim_say(s, "%u@%u unit %llu: pid %u crashes", p->app, p->release,
			(unsigned long long)p->unit, p->pid);
		proc_end(s, p->pid);
		break;
	case E_PROC_HANG:
		sim_say(s, "%u@%u unit %llu: pid %u hangs", p->app, p->release,
			(unsigned long long)p->unit, p->pid);
		proc_hang(s, p->pid, 0);
		break;
	case E_PROC_UNHANG:
		proc_event_unhang(s, p);
		break;
	case E_PROC_FLAP:
		p->flapping = !p->flapping;
		sim_at(s, s->now + sim_around(s, behaviour(s, p)->flap_ms), E_PROC_FLAP, 0, p->pid,
		       0);
		break;
	case E_PROC_EXIT:
		if (!p->hung)
			proc_end(s, p->pid);
		break;
	case E_PROC_KILL:
		proc_end(s, p->pid);
		break;
	default:
		break;
	}
}
