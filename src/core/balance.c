/* SPDX-License-Identifier: Apache-2.0
 *
 * The targets that may be taken form classes; the first that has anyone with
 * a place decides. One that broke under this request comes last, even after one
 * that nobody has looked at yet; behind it only those that are avoided.
 */
#include "core/balance.h"

enum class { UP, UNKNOWN, UP_TRIED, UNKNOWN_TRIED, AVOID, AVOID_TRIED, CLASS_COUNT };

static enum class class_of(const struct balance_target *t)
{
	if (t->use != USE_SERVE || t->health == HEALTH_DOWN)
		return CLASS_COUNT;
	if (t->avoid)
		return t->tried ? AVOID_TRIED : AVOID;
	return (t->health == HEALTH_UP ? UP : UNKNOWN) + (t->tried ? UP_TRIED : UP);
}

static bool has_place(const struct balance_target *t, uint32_t limit)
{
	return limit == 0 || t->outstanding < limit;
}

struct candidates {
	bool any;
	uint32_t least, ties; /* among those that have a place */
};

static void count(struct candidates *c, const struct balance_target *t, uint32_t limit)
{
	c->any = true;
	if (!has_place(t, limit) || (c->ties && t->outstanding > c->least))
		return;
	c->ties = c->ties && t->outstanding == c->least ? c->ties + 1 : 1;
	c->least = t->outstanding;
}

/* The class that decides, or CLASS_COUNT when all that count are full. That it broke under this
 * request only puts a target last: if nobody else has a place, to go there again is better than
 * to wait, at the head of all others, for one that may never have a place. */
static enum class decide(const struct candidates c[CLASS_COUNT])
{
	bool up_full = false; /* then it is waited for, rather than an unknown one tried */
	bool any_full = false; /* or one that is avoided */

	for (enum class class = UP; class < CLASS_COUNT; class++) {
		bool up = class == UP || class == UP_TRIED;

		if (!c[class].any || (!up && up_full) || (class >= AVOID && any_full))
			continue;
		if (c[class].ties)
			return class;
		up_full |= up;
		any_full |= class < AVOID;
	}
	return CLASS_COUNT;
}

enum balance_verdict balance_pick(const struct balance_target *t, uint32_t n, uint32_t limit,
				  uint32_t turn, uint32_t *ret_index)
{
	struct candidates c[CLASS_COUNT] = {{false, 0, 0}};
	bool any = false;
	enum class best;
	uint32_t skip;

	for (uint32_t i = 0; i < n; i++) {
		enum class class = class_of(&t[i]);

		if (class == CLASS_COUNT)
			continue;
		any = true;
		count(&c[class], &t[i], limit);
	}
	best = decide(c);
	if (best == CLASS_COUNT)
		return any ? BALANCE_FULL : BALANCE_NONE;
	/* Counting the equal ones and not the places keeps the work equal when one of several is
	 * out: no neighbour inherits its turns. */
	skip = turn % c[best].ties;
	for (uint32_t i = 0; i < n; i++) {
		if (class_of(&t[i]) != best || t[i].outstanding != c[best].least ||
		    !has_place(&t[i], limit) || skip--)
			continue;
		*ret_index = i;
		break;
	}
	return BALANCE_PICKED;
}
