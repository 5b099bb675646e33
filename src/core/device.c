/* SPDX-License-Identifier: Apache-2.0
 *
 * look() derives everything of one device from its counts and from what was derived of those that it needs; when
 * something came out that children see, they are looked at later in the same pass. Nothing else
 * changes what is derived, so it does not matter in which order results came.
 */
#include "core/device_priv.h"

#define PASS_DEPTH 32 /* so many devices in a row without a check of their own are asked through */

/* --- what its checks say --- */

static void count_check(struct device *d, const struct check *c, int by)
{
	enum status s = check_status(c);

	d->checks[s] = (uint16_t)(d->checks[s] + by);
	if (check_soft(c))
		d->soft[s] = (uint16_t)(d->soft[s] + by);
	if (c->flaps)
		d->flaps = (uint16_t)(d->flaps + by);
}

/* Of what its checks say now; since when is what the check says that made it so. */
static void take_own(struct device *d, const struct check *c, uint64_t now_ms)
{
	enum status own = STATUS_GOOD;

	for (int s = 0; s < STATUS_COUNT; s++)
		if (d->checks[s])
			own = status_worse((enum status)s, own);
	if (own == (enum status)d->own)
		return;
	d->own = (uint8_t)own;
	d->own_new = true;
	d->own_since_ms = check_status(c) == own && !c->is_blind ? c->since_ms : now_ms;
}

void device_add_check(struct device_graph *g, uint32_t device, const struct check *c, const struct check_rule *r)
{
	uint32_t rank = g->rank_of[device];
	struct device *d = &g->devices[rank];

	ensure(d->total < DEVICE_CHECKS_MAX);
	d->total++;
	d->pushed += r->pushed;
	count_check(d, c, 1);
	take_own(d, c, c->since_ms);
	device_mark(g->dirty, rank);
}

void device_restore(struct device_graph *g, uint32_t device, const struct device_told *told)
{
	struct device *d = &g->devices[g->rank_of[device]];

	d->told = *told;
	d->place = told->place;
	d->status = told->status;
	device_mark(g->dirty, g->rank_of[device]);
}

void device_feed(struct device_graph *g, uint32_t device, struct check *c, const struct check_rule *r,
		 enum status outcome, uint64_t now_ms, struct check_change *ret)
{
	uint32_t rank = g->rank_of[device];
	struct device *d = &g->devices[rank];
	enum status before = check_status(c);
	bool soft = check_soft(c), flaps = c->flaps;
	uint64_t heard_ms = c->heard_ms;

	count_check(d, c, -1);
	if (outcome != STATUS_COUNT)
		check_step(c, r, outcome, now_ms, ret);
	else if (!check_look(c, r, now_ms, ret))
		*ret = (struct check_change){.from = c->hard, .to = c->hard};
	count_check(d, c, 1);
	/* An answer is a result that was measured after the ask, the check's first. */
	if (d->asked_left && !r->pushed && outcome != STATUS_COUNT && now_ms >= d->asked_ms && heard_ms <= d->asked_ms)
		d->asked_left--;
	if (ret->what & CHECK_SOFT && outcome != STATUS_COUNT && status_rank(outcome) > status_rank(check_status(c)))
		d->asks_parents = true;
	if (check_status(c) == before && check_soft(c) == soft && c->flaps == flaps && !d->asks_parents)
		return;
	take_own(d, c, now_ms);
	device_mark(g->dirty, rank);
}

/* --- what follows from its needs --- */

struct behind {
	uint32_t root;	 /* of the group that is down, the first that was; DEVICE_NONE */
	uint64_t since_ms;
	uint32_t half;	 /* of a group of several of which one is down; DEVICE_NONE */
	bool blind;	 /* of a group nothing is known */
};

static void look_at_group(const struct device_graph *g, const struct device_need *n, uint32_t len, struct behind *b)
{
	const struct device *last = NULL; /* to go down: what made the group as it is */
	uint32_t downs = 0, unknown = 0;

	for (uint32_t k = 0; k < len; k++) {
		const struct device *p = &g->devices[n[k].device];

		downs += p->down;
		unknown += !p->down && p->status == STATUS_UNKNOWN;
		if (p->down && (!last || p->down_ms > last->down_ms))
			last = p;
	}
	if (downs < len && downs + unknown == len)
		b->blind = true;
	if (!downs)
		return;
	if (len > 1 && b->half == DEVICE_NONE)
		b->half = last->root;
	if (downs == len && (b->root == DEVICE_NONE || last->down_ms < b->since_ms)) {
		b->root = last->root;
		b->since_ms = last->down_ms;
	}
}

static struct behind look_at_needs(const struct device_graph *g, uint32_t rank)
{
	struct behind b = {.root = DEVICE_NONE, .half = DEVICE_NONE};
	uint32_t k = g->needs_at[rank], end = g->needs_at[rank + 1], from;

	while (k < end) {
		for (from = k; k < end && g->needs[k].group == g->needs[from].group; k++)
			;
		look_at_group(g, &g->needs[from], k - from, &b);
	}
	return b;
}

static bool has_needs(const struct device_graph *g, uint32_t rank)
{
	return g->needs_at[rank] < g->needs_at[rank + 1];
}

static enum status status_of(const struct device_graph *g, uint32_t rank, const struct behind *b)
{
	const struct device *d = &g->devices[rank];
	bool half = b->half != DEVICE_NONE;

	if (d->total)
		return half ? status_worse((enum status)d->own, STATUS_BAD) : (enum status)d->own;
	if (b->root != DEVICE_NONE)
		return STATUS_UGLY;
	if (half)
		return STATUS_BAD;
	return b->blind || !has_needs(g, rank) ? STATUS_UNKNOWN : STATUS_GOOD;
}

/* What it was until then counts for what will be told when it is good again: tell(). */
static void change_status(struct device *d, enum status s, uint64_t since_ms)
{
	since_ms = MAX(since_ms, d->since_ms);
	if (d->away_ms && d->status == d->worst)
		d->worst_ms += since_ms - d->since_ms;
	d->status = (uint8_t)s;
	d->since_ms = since_ms;
	if (s == STATUS_GOOD || s == STATUS_UNKNOWN)
		return;
	if (!d->away_ms) {
		d->away_ms = MAX(since_ms, 1ull);
		d->worst = STATUS_GOOD;
	}
	if (status_rank(s) > status_rank((enum status)d->worst)) {
		d->worst = (uint8_t)s;
		d->worst_ms = 0;
	}
}

static void derive(struct device_graph *g, uint32_t rank, uint64_t now_ms)
{
	struct device *d = &g->devices[rank];
	struct behind b = look_at_needs(g, rank);
	bool seen = d->total && d->own != STATUS_UNKNOWN, down;
	enum status s = status_of(g, rank, &b);

	if (s != (enum status)d->status) /* or it is so on account of others */
		change_status(d, s, d->own_new && s == (enum status)d->own ? d->own_since_ms : now_ms);
	d->own_new = false;
	d->half = b.half != DEVICE_NONE;
	down = seen ? d->own == STATUS_UGLY : b.root != DEVICE_NONE;
	if (down && !d->down)
		d->down_ms = seen ? d->own_since_ms : b.since_ms;
	if (!down && d->down)
		d->back_ms = now_ms;
	d->down = down;
	d->root = !down ? DEVICE_NONE : b.root != DEVICE_NONE ? b.root : rank;
	d->cause = DEVICE_NONE;
	if (s != STATUS_GOOD && b.root != DEVICE_NONE)
		d->cause = b.root;
	else if (s == STATUS_BAD && d->half && !(seen && d->own != STATUS_GOOD))
		d->cause = b.half;
}

/* --- holding and asking --- */

static bool is_silent(const struct device *d) /* nothing of it can be measured: who asks it asks its parents */
{
	return d->total == d->pushed;
}

static void ask(struct device_graph *g, uint32_t rank, uint64_t within_ms, uint64_t now_ms, int depth, device_act *act,
		void *arg)
{
	struct device *d = &g->devices[rank];
	struct device_action a = {.kind = DEVICE_ASK, .device = g->index_of[rank], .within_ms = within_ms};

	if (!is_silent(d)) {
		if (!within_ms && d->asked_ms && d->asked_ms + DEVICE_ASK_GAP_MS > now_ms)
			a.within_ms = d->asked_ms + DEVICE_ASK_GAP_MS - now_ms;
		/* It is asked already, and no later than this. */
		if (d->asked_left && d->answer_until_ms > now_ms &&
		    d->answer_until_ms <= now_ms + a.within_ms + g->rule.answer_ms)
			return;
		d->asked_left = (uint32_t)(d->total - d->pushed);
		d->asked_ms = MAX(now_ms, 1ull);
		d->answer_until_ms = now_ms + a.within_ms + g->rule.answer_ms;
		act(arg, &a);
		return;
	}
	if (d->ask_pass == g->pass || depth == PASS_DEPTH)
		return;
	d->ask_pass = g->pass;
	for (uint32_t k = g->needs_at[rank]; k < g->needs_at[rank + 1]; k++)
		ask(g, g->needs[k].device, within_ms, now_ms, depth + 1, act, arg);
}

static void ask_parents(struct device_graph *g, uint32_t rank, uint64_t now_ms, device_act *act, void *arg)
{
	g->devices[rank].asks_parents = false;
	for (uint32_t k = g->needs_at[rank]; k < g->needs_at[rank + 1]; k++)
		if (!g->devices[g->needs[k].device].down)
			ask(g, g->needs[k].device, 0, now_ms, 0, act, arg);
}

/* Until when those that need it wait for it: UINT64_MAX for what takes as long as it takes. One that is down is waited
 * for by nobody: who needs it is folded, or has another. */
static uint64_t wait_for(struct device_graph *g, uint32_t rank, int depth)
{
	struct device *d = &g->devices[rank];
	uint64_t until = 0;

	if (d->down || d->query == g->query || depth == PASS_DEPTH)
		return 0;
	d->query = g->query; /* the longest is what counts, so once is enough */
	if (d->asked_left)
		until = d->answer_until_ms;
	if (d->back_ms)
		until = MAX(until, d->back_ms + g->rule.settle_ms);
	for (int s = 0; s < STATUS_COUNT; s++)
		if (d->soft[s])
			until = UINT64_MAX;
	for (uint32_t k = g->needs_at[rank]; k < g->needs_at[rank + 1] && is_silent(d); k++) {
		uint64_t parent = wait_for(g, g->needs[k].device, depth + 1);

		until = MAX(until, parent);
	}
	return until;
}

static bool released(struct device_graph *g, uint32_t rank, uint64_t now_ms)
{
	const struct device *d = &g->devices[rank];

	if (now_ms >= d->held_ms + g->rule.most_ms)
		return true;
	if (d->alone_ms && now_ms < d->alone_ms + g->rule.settle_ms)
		return false;
	if (d->soft[d->own] || (d->asked_left && d->answer_until_ms > now_ms))
		return false;
	g->query++;
	for (uint32_t k = g->needs_at[rank]; k < g->needs_at[rank + 1]; k++)
		if (wait_for(g, g->needs[k].device, 0) > now_ms)
			return false;
	return true;
}

static void hold(struct device_graph *g, uint32_t rank, uint64_t now_ms)
{
	struct device *d = &g->devices[rank];

	d->held_ms = now_ms;
	d->held_prev = DEVICE_NONE;
	d->held_next = g->held;
	if (g->held != DEVICE_NONE)
		g->devices[g->held].held_prev = rank;
	g->held = rank;
	if (g->held_count++ == 0)
		g->held_look_ms = now_ms + DEVICE_HELD_LOOK_MS;
}

static void let_go(struct device_graph *g, uint32_t rank)
{
	struct device *d = &g->devices[rank];

	if (d->held_prev != DEVICE_NONE)
		g->devices[d->held_prev].held_next = d->held_next;
	else
		g->held = d->held_next;
	if (d->held_next != DEVICE_NONE)
		g->devices[d->held_next].held_prev = d->held_prev;
	g->held_count--;
}

/* --- a pass --- */

static enum device_place place_of(const struct device_graph *g, uint32_t rank)
{
	const struct device *d = &g->devices[rank];

	if (d->status == STATUS_GOOD)
		return DEVICE_CLEAR;
	if (d->cause != DEVICE_NONE)
		return g->devices[d->cause].place == DEVICE_HELD ? DEVICE_HELD : DEVICE_FOLDED;
	if (d->status == STATUS_UNKNOWN)
		return DEVICE_OPEN;
	if (d->told.place == DEVICE_OPEN &&
	    status_rank((enum status)d->status) <= status_rank((enum status)d->told.status))
		return DEVICE_OPEN;
	return DEVICE_HELD;
}

static void tell(struct device_graph *g, uint32_t rank, device_act *act, void *arg)
{
	struct device *d = &g->devices[rank];
	struct device_action a = {.kind = DEVICE_TELL, .device = g->index_of[rank], .before = d->told,
				  .since_ms = d->since_ms, .worst = STATUS_GOOD};
	struct device_told *t = &d->told;
	uint32_t cause = d->place == DEVICE_FOLDED ? g->index_of[d->cause] : DEVICE_NONE;
	bool over = d->status == STATUS_GOOD && d->away_ms;

	if (d->place == DEVICE_HELD)
		return;
	if (over) {
		a.worst = (enum status)d->worst;
		a.worst_ms = d->worst_ms;
		a.away_ms = d->since_ms - MIN(d->away_ms, d->since_ms);
		d->away_ms = 0;
	}
	if (t->status == d->status && t->place == d->place && t->cause == cause && t->flaps == (d->flaps > 0) &&
	    t->half == d->half) {
		if (!over)
			return;
		a.kind = DEVICE_WAS;
	}
	*t = (struct device_told){cause, d->status, d->place, d->flaps > 0, d->half};
	a.now = *t;
	act(arg, &a);
}

/* It is worse than what was told, on nobody else's account: held until it is clear. */
static void worse(struct device_graph *g, uint32_t rank, const struct device *was, uint64_t now_ms, device_act *act,
		  void *arg)
{
	struct device *d = &g->devices[rank];

	bool alone = was->cause != DEVICE_NONE ? !g->devices[was->cause].down
		     : was->place != DEVICE_HELD && d->told.place == DEVICE_FOLDED; /* before a restart */

	if (alone) /* what it was folded under is back: is it, too? */
		d->alone_ms = now_ms;
	if (alone)
		ask(g, rank, MAX(check_spread(rank, g->rule.settle_ms / 2), 1ull), now_ms, 0, act, arg);
	else if (was->place != DEVICE_HELD || was->cause != DEVICE_NONE)
		ask_parents(g, rank, now_ms, act, arg);
	if (!released(g, rank, now_ms))
		return;
	let_go(g, rank);
	d->place = DEVICE_OPEN;
}

static void look(struct device_graph *g, uint32_t rank, uint64_t now_ms, device_act *act, void *arg)
{
	struct device *d = &g->devices[rank], was = *d;

	derive(g, rank, now_ms);
	if (d->asks_parents)
		ask_parents(g, rank, now_ms, act, arg);
	d->place = (uint8_t)place_of(g, rank);
	if (d->place == DEVICE_HELD && was.place != DEVICE_HELD)
		hold(g, rank, now_ms);
	else if (d->place != DEVICE_HELD && was.place == DEVICE_HELD)
		let_go(g, rank);
	if (d->place == DEVICE_HELD && d->cause == DEVICE_NONE)
		worse(g, rank, &was, now_ms, act, arg);
	tell(g, rank, act, arg);
	/* Those that are held with it look by themselves. */
	if (d->down == was.down && d->root == was.root && (d->status == STATUS_UNKNOWN) == (was.status == STATUS_UNKNOWN))
		return;
	for (uint32_t k = g->children_at[rank]; k < g->children_at[rank + 1]; k++)
		device_mark(g->dirty, g->children[k]);
}

void device_settle(struct device_graph *g, uint64_t now_ms, device_act *act, void *arg)
{
	uint32_t words = (g->count + 63) / 64;

	g->pass++;
	if (g->held_count && now_ms >= g->held_look_ms) {
		for (uint32_t r = g->held; r != DEVICE_NONE; r = g->devices[r].held_next)
			device_mark(g->dirty, r);
		g->held_look_ms = now_ms + DEVICE_HELD_LOOK_MS;
	}
	for (uint32_t w = 0; w < words; w++) {
		while (g->dirty[w]) { /* children stand behind, maybe in the same word */
			uint32_t rank = w * 64 + (uint32_t)__builtin_ctzll(g->dirty[w]);

			g->dirty[w] &= g->dirty[w] - 1;
			look(g, rank, now_ms, act, arg);
		}
	}
}

uint64_t device_next_ms(const struct device_graph *g)
{
	return g->held_count ? g->held_look_ms : UINT64_MAX;
}

/* --- for pages --- */

enum status device_status(const struct device_graph *g, uint32_t device)
{
	return (enum status)g->devices[g->rank_of[device]].status;
}

enum device_place device_place(const struct device_graph *g, uint32_t device)
{
	return (enum device_place)g->devices[g->rank_of[device]].place;
}

uint32_t device_cause(const struct device_graph *g, uint32_t device)
{
	uint32_t cause = g->devices[g->rank_of[device]].cause;

	return cause == DEVICE_NONE ? DEVICE_NONE : g->index_of[cause];
}
