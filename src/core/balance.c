/* SPDX-License-Identifier: Apache-2.0
 *
 * The targets that may be taken form classes; the first that has anyone with
 * a place decides. One that broke under this request comes last, even after one
 * that nobody has looked at yet; behind it only those that are avoided. UP_SLOW are those in their slow
 * start whose turn it is not.
 */
#include "core/balance.h"

enum class { UP, UP_SLOW, UNKNOWN, UP_TRIED, UNKNOWN_TRIED, AVOID, AVOID_TRIED, CLASS_COUNT };

static bool is_slow(const struct balance_target *t)
{
	return t->weight && t->weight < BALANCE_WEIGHT;
}

/* Its share of the turns, spread evenly (the fraction of turn * golden ratio). */
static bool takes_part(const struct balance_target *t, uint32_t turn)
{
	return !is_slow(t) || turn * 2654435769u >> 24 < t->weight;
}

static uint64_t cost(const struct balance_target *t)
{
	return is_slow(t) ? (uint64_t)t->outstanding * BALANCE_WEIGHT / t->weight : t->outstanding;
}

static enum class class_of(const struct balance_target *t, uint32_t turn)
{
	if (t->use != USE_SERVE || t->health == HEALTH_DOWN)
		return CLASS_COUNT;
	if (t->avoid)
		return t->tried ? AVOID_TRIED : AVOID;
	if (t->health != HEALTH_UP)
		return t->tried ? UNKNOWN_TRIED : UNKNOWN;
	if (t->tried)
		return UP_TRIED;
	return takes_part(t, turn) ? UP : UP_SLOW;
}

static bool has_place(const struct balance_target *t, uint32_t limit)
{
	return limit == 0 || t->outstanding < limit;
}

struct candidates {
	bool any;
	uint64_t least;
	uint32_t ties; /* among those that have a place */
};

static void count(struct candidates *c, const struct balance_target *t, uint32_t limit)
{
	uint64_t of = cost(t);

	c->any = true;
	if (!has_place(t, limit) || (c->ties && of > c->least))
		return;
	c->ties = c->ties && of == c->least ? c->ties + 1 : 1;
	c->least = of;
}

/* The class that decides, or CLASS_COUNT when all that count are full. That it broke under this
 * request only puts a target last: if nobody else has a place, to go there again is better than
 * to wait, at the head of all others, for one that may never have a place. */
static enum class decide(const struct candidates c[CLASS_COUNT])
{
	bool up_full = false; /* then it is waited for, rather than an unknown one tried */
	bool any_full = false; /* or one that is avoided */

	for (enum class class = UP; class < CLASS_COUNT; class++) {
		bool up = class <= UP_SLOW || class == UP_TRIED;

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
		enum class class = class_of(&t[i], turn);

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
		if (class_of(&t[i], turn) != best || cost(&t[i]) != c[best].least ||
		    !has_place(&t[i], limit) || skip--)
			continue;
		*ret_index = i;
		break;
	}
	return BALANCE_PICKED;
}
