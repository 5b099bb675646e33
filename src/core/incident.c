/* SPDX-License-Identifier: Apache-2.0
 *
 * incident_tell() only moves devices in and out; what that means is decided once, in incident_settle(), when all
 * of a pass is known. So a child and its cause that are told in one pass make one incident and one page.
 */
#include "core/incident.h"

#include <string.h>

void incident_init(struct incidents *is, const struct incident_rule *rule, struct incident *list, uint32_t max,
		   uint32_t *of, uint32_t device_count, uint64_t next_number)
{
	ensure(max > 0);
	*is = (struct incidents){.rule = *rule, .list = list, .max = max, .of = of, .device_count = device_count,
				 .next_number = next_number};
	memset(list, 0, max * sizeof(*list));
	for (uint32_t d = 0; d < device_count; d++)
		of[d] = INCIDENT_NONE;
}

static void act_on(struct incident *i, enum incident_action_kind kind, incident_act *act, void *arg)
{
	act(arg, &(struct incident_action){.kind = kind, .incident = i});
}

/* --- which one --- */

static uint32_t by_cause(const struct incidents *is, uint32_t cause)
{
	uint32_t n = is->of[cause];

	if (n != INCIDENT_NONE && is->list[n].cause == cause)
		return n;
	for (n = 0; n < is->max; n++)
		if (is->list[n].state != INCIDENT_FREE && is->list[n].cause == cause)
			return n;
	return INCIDENT_NONE;
}

/* A free place; else of one that only settles; else none is made: it joins the newest, and is counted. */
static uint32_t open_for(struct incidents *is, uint32_t cause, uint64_t now_ms, incident_act *act, void *arg)
{
	uint32_t found = INCIDENT_NONE, newest = 0;

	for (uint32_t n = 0; n < is->max && found == INCIDENT_NONE; n++)
		if (is->list[n].state == INCIDENT_FREE)
			found = n;
	for (uint32_t n = 0; n < is->max && found == INCIDENT_NONE; n++) {
		struct incident *i = &is->list[n];

		if (i->state == INCIDENT_SETTLING && !i->now && act) {
			act_on(i, INCIDENT_DO_CLOSED, act, arg);
			found = n;
		}
		if (i->number > is->list[newest].number)
			newest = n;
	}
	if (found == INCIDENT_NONE) {
		is->overflowed++;
		return newest;
	}
	is->list[found] = (struct incident){.number = is->next_number++, .cause = cause, .state = INCIDENT_OPEN,
					    .status = STATUS_GOOD, .worst = STATUS_GOOD, .paged = STATUS_GOOD,
					    .noticed_ms = now_ms};
	return found;
}

/* --- in and out --- */

static void note_first(struct incident *i, uint32_t device, enum status s, uint64_t at_ms)
{
	uint32_t k;

	for (k = 0; k < i->first_count; k++)
		if (i->first[k].device == device)
			return;
	for (k = i->first_count; k > 0 && i->first[k - 1].at_ms > at_ms; k--)
		if (k < INCIDENT_FIRST_MAX)
			i->first[k] = i->first[k - 1];
	if (k < INCIDENT_FIRST_MAX) {
		i->first[k] = (struct incident_first){at_ms, device, s};
		i->first_count += i->first_count < INCIDENT_FIRST_MAX;
	}
	if (!i->start_ms || at_ms < i->start_ms)
		i->start_ms = at_ms;
}

static void leave(struct incidents *is, uint32_t device, uint64_t now_ms)
{
	struct incident *i;

	if (is->of[device] == INCIDENT_NONE)
		return;
	i = &is->list[is->of[device]];
	is->of[device] = INCIDENT_NONE;
	if (i->cause == device)
		i->has_cause = false;
	if (--i->now == 0)
		i->restored_ms = now_ms;
}

static void join(struct incidents *is, uint32_t n, uint32_t device, const struct device_told *t, uint64_t since_ms,
		 uint64_t now_ms)
{
	struct incident *i = &is->list[n];

	if (is->of[device] != n) {
		leave(is, device, now_ms);
		is->of[device] = n;
		i->now++;
		i->all++;
		i->restored_ms = i->state == INCIDENT_OPEN ? 0 : i->restored_ms;
		note_first(i, device, (enum status)t->status, since_ms);
	}
	if (i->cause != device)
		return;
	i->has_cause = true;
	if (t->status == STATUS_UNKNOWN)
		return;
	i->status = t->status;
	i->worst = (uint8_t)status_worse((enum status)i->worst, (enum status)t->status);
}

/* All of one goes into another; what was known of it, too. */
static void merge(struct incidents *is, uint32_t from, uint32_t into)
{
	struct incident *f = &is->list[from], *i = &is->list[into];

	for (uint32_t d = 0; d < is->device_count; d++)
		if (is->of[d] == from)
			is->of[d] = into;
	for (uint32_t k = 0; k < f->first_count; k++)
		note_first(i, f->first[k].device, (enum status)f->first[k].status, f->first[k].at_ms);
	i->now += f->now;
	i->all += f->all;
	i->told |= f->told;
	i->worst = (uint8_t)status_worse((enum status)i->worst, (enum status)f->worst);
	i->noticed_ms = MIN(i->noticed_ms, f->noticed_ms);
	if (f->pages && !i->pages) { /* who was paged for it has been paged for this */
		i->pages = f->pages;
		i->page_ms = f->page_ms;
		i->paged = f->paged;
	}
	if (f->taken_ms && !i->taken_ms)
		i->taken_ms = f->taken_ms;
	f->state = INCIDENT_FREE;
}

/* The cause of one turned out to be on account of the cause of another. */
static uint32_t unite(struct incidents *is, uint32_t old, uint32_t new, incident_act *act, void *arg)
{
	struct incident *o = &is->list[old], *n = &is->list[new];

	if (o->announced && !n->announced) { /* nobody has heard of the new one */
		o->cause = n->cause;
		o->status = n->status;
		o->has_cause = n->has_cause;
		o->flaps = n->flaps;
		merge(is, new, old);
		act_on(o, INCIDENT_DO_CAUSE, act, arg);
		return old;
	}
	merge(is, old, new);
	if (o->announced)
		act(arg, &(struct incident_action){.kind = INCIDENT_DO_MERGED, .incident = o, .into = n->number});
	return new;
}

void incident_tell(struct incidents *is, const struct device_action *a, uint64_t now_ms, incident_act *act, void *arg)
{
	const struct device_told *t = &a->now;
	uint32_t d = a->device, cur = is->of[d], n, cause = t->place == DEVICE_FOLDED ? t->cause : d;

	n = by_cause(is, cause);
	if (cause == d && n != INCIDENT_NONE)
		is->list[n].flaps = t->flaps;
	if (t->status == STATUS_GOOD) {
		leave(is, d, now_ms);
		return;
	}
	if (t->status == STATUS_UNKNOWN && (cause == d || n == INCIDENT_NONE))
		return; /* it opens nothing, and resolves nothing */
	if (n == INCIDENT_NONE)
		n = open_for(is, cause, now_ms, act, arg);
	else if (cause != d && cur != INCIDENT_NONE && cur != n && is->list[cur].cause == d)
		n = unite(is, cur, n, act, arg);
	join(is, n, d, t, a->since_ms, now_ms);
}

/* --- what is to be done --- */

/* When to page; UINT64_MAX: not as things are. */
static uint64_t page_at(const struct incidents *is, const struct incident *i)
{
	bool bad_enough = is->rule.page_from != STATUS_GOOD && i->has_cause &&
			  status_rank((enum status)i->status) >= status_rank((enum status)is->rule.page_from);

	if (i->state != INCIDENT_OPEN || !bad_enough)
		return UINT64_MAX;
	if (status_rank((enum status)i->status) > status_rank((enum status)i->paged))
		return 0;
	if (!i->taken_ms)
		return i->page_ms;
	return is->rule.taken_ms ? MAX(i->page_ms, i->taken_ms + is->rule.taken_ms) : UINT64_MAX;
}

static void page(struct incidents *is, struct incident *i, uint64_t now_ms, incident_act *act, void *arg)
{
	struct incident_action a = {.kind = INCIDENT_DO_PAGE, .incident = i};
	uint64_t pause = is->rule.repeat_ms;

	if (i->pages && page_at(is, i))
		i->step += i->step < UINT32_MAX;
	for (uint32_t k = 0; k < i->step && pause < is->rule.repeat_most_ms; k++)
		pause *= 2;
	i->pages += i->pages < UINT32_MAX;
	i->page_ms = now_ms + MAX(MIN(pause, is->rule.repeat_most_ms), 1ull);
	i->paged = i->status;
	i->muted = false;
	a.step = i->step;
	act(arg, &a);
}

static void mute(struct incident *i, const struct quiet *q, uint64_t now_ms, uint64_t wall_ms, incident_act *act,
		 void *arg)
{
	/* Looked at each minute: the wall clock may be set. */
	i->quiet_ms = now_ms + MIN(q->until_ms - wall_ms, 60000ull);
	if (i->muted)
		return;
	i->muted = true;
	act(arg, &(struct incident_action){.kind = INCIDENT_DO_MUTED, .incident = i, .quiet = q});
}

static void settle_open(struct incidents *is, struct incident *i, const struct quiet *quiets, uint32_t n,
			struct device_graph *g, uint64_t now_ms, uint64_t wall_ms, incident_act *act, void *arg)
{
	const struct quiet *q;

	if (!i->announced) {
		i->announced = true;
		act_on(i, INCIDENT_DO_OPENED, act, arg);
	}
	if (page_at(is, i) > now_ms) {
		i->muted = false;
		return;
	}
	q = quiet_find(quiets, n, g, i->cause, wall_ms);
	if (q)
		mute(i, q, now_ms, wall_ms, act, arg);
	else
		page(is, i, now_ms, act, arg);
}

static void settle_state(struct incidents *is, struct incident *i, uint64_t now_ms, incident_act *act, void *arg)
{
	if (i->state == INCIDENT_OPEN && !i->now) {
		i->state = i->announced ? INCIDENT_SETTLING : INCIDENT_FREE;
		i->restored_ms = i->restored_ms ? i->restored_ms : now_ms;
		i->muted = false;
		if (i->announced)
			act_on(i, INCIDENT_DO_RESTORED, act, arg);
	} else if (i->state == INCIDENT_SETTLING && i->now) {
		i->state = INCIDENT_OPEN;
		i->restored_ms = 0;
		i->reopened += i->reopened < UINT32_MAX;
		act_on(i, INCIDENT_DO_REOPENED, act, arg);
	}
	if (i->state == INCIDENT_SETTLING && !i->flaps && now_ms >= i->restored_ms + is->rule.settle_ms) {
		i->state = INCIDENT_FREE;
		act_on(i, INCIDENT_DO_CLOSED, act, arg);
	}
}

void incident_settle(struct incidents *is, const struct quiet *quiets, uint32_t n, struct device_graph *g,
		     uint64_t now_ms, uint64_t wall_ms, incident_act *act, void *arg)
{
	for (uint32_t k = 0; k < is->max; k++) {
		struct incident *i = &is->list[k];

		if (i->state != INCIDENT_FREE)
			settle_state(is, i, now_ms, act, arg);
		if (i->state == INCIDENT_OPEN)
			settle_open(is, i, quiets, n, g, now_ms, wall_ms, act, arg);
	}
}

uint64_t incident_next_ms(const struct incidents *is)
{
	uint64_t next = UINT64_MAX;

	for (uint32_t k = 0; k < is->max; k++) {
		const struct incident *i = &is->list[k];
		uint64_t at = UINT64_MAX;

		if (i->state == INCIDENT_SETTLING && !i->flaps)
			at = i->restored_ms + is->rule.settle_ms;
		else if (i->state == INCIDENT_OPEN)
			at = i->muted ? i->quiet_ms : page_at(is, i);
		next = MIN(next, at);
	}
	return next;
}

/* --- people --- */

static struct incident *find(const struct incidents *is, uint64_t number)
{
	for (uint32_t k = 0; k < is->max; k++)
		if (is->list[k].state != INCIDENT_FREE && is->list[k].number == number)
			return &is->list[k];
	return NULL;
}

const struct incident *incident_find(const struct incidents *is, uint64_t number)
{
	return find(is, number);
}

bool incident_take(struct incidents *is, uint64_t number, uint64_t now_ms)
{
	struct incident *i = find(is, number);

	if (!i)
		return false;
	i->taken_ms = MAX(now_ms, 1ull);
	if (status_rank((enum status)i->status) > status_rank((enum status)i->paged))
		i->paged = i->status; /* whoever has it need not be paged for what it is */
	return true;
}

bool incident_told(struct incidents *is, uint64_t number, uint64_t who)
{
	struct incident *i = find(is, number);

	if (i)
		i->told |= who;
	return i;
}

/* --- after a restart --- */

bool incident_restore(struct incidents *is, const struct incident *i, uint64_t now_ms)
{
	struct incident *r;
	uint32_t n = 0;

	while (n < is->max && is->list[n].state != INCIDENT_FREE)
		n++;
	if (n == is->max || i->state == INCIDENT_FREE || i->state >= INCIDENT_STATE_COUNT || !i->number ||
	    (i->cause >= is->device_count && i->cause != DEVICE_NONE) || i->first_count > INCIDENT_FIRST_MAX || i->status >= STATUS_COUNT ||
	    i->worst >= STATUS_COUNT || i->paged >= STATUS_COUNT)
		return false;
	r = &is->list[n];
	*r = *i;
	r->now = 0; /* who is in it comes back by incident_rejoin() */
	r->has_cause = false;
	r->start_ms = MIN(r->start_ms, now_ms);
	r->noticed_ms = MIN(r->noticed_ms, now_ms);
	r->taken_ms = MIN(r->taken_ms, now_ms);
	r->restored_ms = MIN(r->restored_ms, now_ms);
	r->page_ms = MIN(r->page_ms, now_ms + is->rule.repeat_most_ms);
	r->quiet_ms = MIN(r->quiet_ms, now_ms);
	is->next_number = MAX(is->next_number, i->number + 1);
	return true;
}

void incident_rejoin(struct incidents *is, uint32_t device, const struct device_told *told, uint64_t since_ms,
		     uint64_t now_ms)
{
	uint32_t cause = told->place == DEVICE_FOLDED ? told->cause : device, n = by_cause(is, cause);

	if (told->status == STATUS_GOOD || (told->status == STATUS_UNKNOWN && n == INCIDENT_NONE))
		return;
	if (n == INCIDENT_NONE)
		n = open_for(is, cause, now_ms, NULL, NULL);
	else
		is->list[n].all -= is->list[n].all > 0; /* it was counted when it joined */
	join(is, n, device, told, since_ms, now_ms);
}
