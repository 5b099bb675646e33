/* SPDX-License-Identifier: Apache-2.0 */
#include "core/check.h"

#define HISTORY_BITS (2 * CHECK_HISTORY)
#define HISTORY_MASK ((1ull << HISTORY_BITS) - 1)

static_assert(sizeof(struct check) <= 128, "there are ten thousand of them and more");
static_assert(CHECK_ROW_MAX < INT8_MAX, "rows are counted in int8_t");
static_assert(STATUS_GOOD == 0 && STATUS_BAD == 1 && STATUS_UGLY == 2, "results are compared by <");

void check_init(struct check *c, uint64_t now_ms)
{
	*c = (struct check){.since_ms = now_ms, .heard_ms = now_ms, .seen_ms = now_ms, .hard = STATUS_UNKNOWN,
			    .last = STATUS_UNKNOWN, .worst = STATUS_GOOD, .was = STATUS_GOOD};
}

bool check_restore(struct check *c, uint64_t now_ms)
{
	uint64_t *times[] = {&c->since_ms, &c->heard_ms, &c->seen_ms, &c->turn_ms[0], &c->turn_ms[1], &c->away_ms};

	if (c->hard >= STATUS_COUNT || c->last >= STATUS_COUNT || c->worst > STATUS_UGLY ||
	    c->was > STATUS_UGLY || c->history > HISTORY_MASK)
		return false;
	for (unsigned i = 0; i < HISTORY_BITS; i += 2)
		if ((c->history >> i & 3) > STATUS_UGLY)
			return false;
	for (size_t i = 0; i < ARRAY_LEN(times); i++)
		*times[i] = MIN(*times[i], now_ms);
	return true;
}

enum status check_status(const struct check *c)
{
	return c->is_blind ? STATUS_UNKNOWN : (enum status)c->hard;
}

bool check_soft(const struct check *c)
{
	if (c->blind) /* nobody hurries who cannot look anyway */
		return !c->is_blind && c->hard != STATUS_UNKNOWN;
	switch ((enum status)c->hard) {
	case STATUS_GOOD:
	case STATUS_UNKNOWN:
		return c->row[0] > 0;
	case STATUS_BAD:
		return c->row[0] < 0 || c->row[1] > 0;
	case STATUS_UGLY:
		return c->row[1] < 0;
	case STATUS_COUNT:
		break;
	}
	return false;
}

/* --- flapping --- */

unsigned check_flap_permille(const struct check *c)
{
	unsigned sum = 0; /* in 1/19 of a thousandth: all 20 weights make 20 * 1000 * 19 */

	for (unsigned x = 1; x < CHECK_HISTORY; x++) {
		unsigned newer = 2 * (CHECK_HISTORY - 1 - x);

		if ((c->history >> newer & 3) != (c->history >> (newer + 2) & 3))
			sum += 750 * 19 + 500 * (x - 1);
	}
	return sum / (19 * 20);
}

static unsigned watch_flapping(struct check *c, const struct check_rule *r)
{
	bool flaps = check_flap_permille(c) >= 10u * (c->flaps ? r->flap_end : r->flap_begin) && r->flap_begin;

	if (flaps == c->flaps)
		return 0;
	c->flaps = flaps;
	return flaps ? CHECK_FLAPS : CHECK_STEADY;
}

static void remember(struct check *c, enum status outcome)
{
	bool first = !c->row[0];

	c->history = (c->history << 2 | outcome) & HISTORY_MASK;
	for (unsigned i = 2; first && i < HISTORY_BITS; i += 2)
		c->history |= (uint64_t)outcome << i;
}

/* --- what went bad and good again --- */

/* The time since the last result was as that one was. */
static void account(struct check *c, enum status outcome, uint64_t at_ms)
{
	if (c->away_ms && c->last == c->worst)
		c->worst_ms += at_ms - c->seen_ms;
	c->seen_ms = at_ms;
	c->last = outcome;
	if (outcome == STATUS_UNKNOWN || outcome == STATUS_GOOD)
		return;
	if (!c->away_ms)
		c->away_ms = MAX(at_ms, 1ull);
	if (outcome > c->worst) {
		c->worst = outcome;
		c->worst_ms = 0;
	}
}

static void is_over(struct check *c, bool was_hard, struct check_change *ret)
{
	if (!c->away_ms)
		return;
	ret->worst = c->worst;
	ret->worst_ms = c->worst_ms;
	ret->away_ms = c->turn_ms[0] - MIN(c->away_ms, c->turn_ms[0]);
	if (was_hard) {
		c->was = c->worst;
		c->was_ms = c->worst_ms;
	} else {
		ret->what |= CHECK_OVER;
	}
	c->away_ms = c->worst_ms = 0;
	c->worst = STATUS_GOOD;
}

/* --- soft and hard --- */

static void count(struct check *c, int which, bool over, uint64_t at_ms)
{
	int8_t *row = &c->row[which];

	if (over != (*row > 0) || !*row) {
		*row = over ? 1 : -1;
		c->turn_ms[which] = at_ms;
	} else if (*row < CHECK_ROW_MAX && *row > -CHECK_ROW_MAX) {
		*row += over ? 1 : -1;
	}
}

/* The table of check.h; ret_since: the row that made it. */
static enum status decide(const struct check *c, const struct check_rule *r, uint64_t *ret_since)
{
	enum status hard = c->hard;

	*ret_since = c->turn_ms[1];
	if (hard != STATUS_UGLY && c->row[1] >= r->fall)
		return STATUS_UGLY;
	if (hard == STATUS_UGLY && c->row[1] <= -r->rise && c->row[0] > -r->rise)
		return STATUS_BAD;
	*ret_since = c->turn_ms[0];
	if ((hard == STATUS_GOOD || hard == STATUS_UNKNOWN) && c->row[0] >= r->fall)
		return STATUS_BAD;
	if (hard == STATUS_UNKNOWN ? c->row[0] < 0 : c->row[0] <= -r->rise)
		return STATUS_GOOD;
	return hard;
}

static void step_unknown(struct check *c, const struct check_rule *r, struct check_change *ret)
{
	c->blind += c->blind < UINT8_MAX;
	if (c->is_blind || c->hard == STATUS_UNKNOWN || c->blind < r->fall)
		return;
	c->is_blind = true;
	ret->what |= CHECK_BLIND;
}

static void step_known(struct check *c, const struct check_rule *r, enum status outcome, uint64_t at_ms,
		       struct check_change *ret)
{
	bool was_soft = check_soft(c);
	uint64_t since;

	c->blind = 0;
	remember(c, outcome);
	count(c, 0, outcome >= STATUS_BAD, at_ms);
	count(c, 1, outcome >= STATUS_UGLY, at_ms);
	ret->to = decide(c, r, &since);
	if (ret->to != ret->from) {
		c->hard = (uint8_t)ret->to;
		c->since_ms = since;
		ret->what |= CHECK_HARD;
	} else if (!was_soft && check_soft(c)) {
		ret->what |= CHECK_SOFT;
	}
	if (c->is_blind && (ret->to != ret->from || outcome == ret->to)) {
		c->is_blind = false;
		ret->what |= CHECK_SEES;
	}
	if (ret->to == STATUS_GOOD && outcome == STATUS_GOOD)
		is_over(c, ret->from == STATUS_BAD || ret->from == STATUS_UGLY, ret);
	ret->what |= watch_flapping(c, r);
}

void check_step(struct check *c, const struct check_rule *r, enum status outcome, uint64_t now_ms,
		struct check_change *ret)
{
	uint64_t at = MAX(now_ms, c->seen_ms);

	*ret = (struct check_change){.from = c->hard, .to = c->hard, .worst = STATUS_GOOD};
	account(c, outcome, at);
	c->heard_ms = MAX(c->heard_ms, at);
	if (outcome == STATUS_UNKNOWN)
		step_unknown(c, r, ret);
	else
		step_known(c, r, outcome, at, ret);
}

/* --- when --- */

/* The finalizer of MurmurHash3: ids may be close to one another. */
static uint64_t mix(uint64_t x)
{
	x = (x ^ x >> 33) * 0xff51afd7ed558ccdull;
	x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53ull;
	return x ^ x >> 33;
}

uint64_t check_spread(uint64_t id, uint64_t below)
{
	return mix(id) % MAX(below, 1ull);
}

/* The first time after `after` at which the check has its turn, one each `every`. */
static uint64_t turn(uint64_t id, uint64_t every, uint64_t after)
{
	uint64_t t;

	every = MAX(every, 1ull);
	t = after - after % every + check_spread(id, every);
	return t > after ? t : t + every;
}

uint64_t check_due_ms(const struct check *c, const struct check_rule *r, uint64_t id, uint64_t now_ms)
{
	return check_soft(c) ? turn(id, r->retry_ms, now_ms + r->retry_ms / 2) : turn(id, r->interval_ms, now_ms);
}

uint64_t check_first_ms(const struct check_rule *r, uint64_t id, uint64_t now_ms)
{
	return now_ms + check_spread(id, MIN(r->interval_ms, (uint64_t)CHECK_FIRST_SPREAD_MS));
}

/* --- what is not heard of --- */

static uint64_t overdue_ms(const struct check_rule *r)
{
	return r->interval_ms +
	       MIN(MAX(r->interval_ms, (uint64_t)CHECK_OVERDUE_LEAST_MS), (uint64_t)CHECK_OVERDUE_MOST_MS);
}

uint64_t check_late_ms(const struct check *c, const struct check_rule *r)
{
	if (!r->pushed)
		return c->heard_ms + overdue_ms(r);
	if (c->hard == STATUS_UGLY)
		return UINT64_MAX;
	return c->heard_ms + r->interval_ms + (c->hard == STATUS_BAD ? r->late_ms : 0);
}

bool check_look(struct check *c, const struct check_rule *r, uint64_t now_ms, struct check_change *ret)
{
	uint64_t beat = c->heard_ms, late = beat + r->interval_ms;
	enum status is = now_ms >= late + r->late_ms ? STATUS_UGLY : STATUS_BAD;

	if (now_ms < check_late_ms(c, r))
		return false;
	if (!r->pushed) {
		check_step(c, r, STATUS_UNKNOWN, now_ms, ret);
		return true;
	}
	check_step(c, r, is, is == STATUS_UGLY ? late + r->late_ms : late, ret);
	c->heard_ms = beat; /* only a beat makes it better */
	return true;
}
