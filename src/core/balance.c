/* SPDX-License-Identifier: Apache-2.0
 *
 * The targets that may be taken form four classes; the first that has anyone in
 * it decides. One that broke under this request comes last, even after one that
 * nobody has looked at yet.
 */
#include "core/balance.h"

enum class { UP, UNKNOWN, UP_TRIED, UNKNOWN_TRIED, CLASS_COUNT };

static enum class class_of(const struct balance_target *t)
{
	if (t->use != USE_SERVE || t->health == HEALTH_DOWN)
		return CLASS_COUNT;
	return (t->health == HEALTH_UP ? UP : UNKNOWN) + (t->tried ? UP_TRIED : UP);
}

static bool has_place(const struct balance_target *t, uint32_t limit)
{
	return limit == 0 || t->outstanding < limit;
}

enum balance_verdict balance_pick(const struct balance_target *t, uint32_t n, uint32_t limit,
				  uint32_t turn, uint32_t *ret_index)
{
	enum class best = CLASS_COUNT;
	uint32_t least = UINT32_MAX, ties = 0;

	for (uint32_t i = 0; i < n; i++) {
		enum class class = class_of(&t[i]);

		if (class == CLASS_COUNT || class > best)
			continue;
		if (class < best) {
			best = class;
			least = UINT32_MAX;
			ties = 0;
		}
		if (!has_place(&t[i], limit) || t[i].outstanding > least)
			continue;
		ties = t[i].outstanding == least ? ties + 1 : 1;
		least = t[i].outstanding;
	}
	if (best == CLASS_COUNT)
		return BALANCE_NONE;
	if (!ties)
		return BALANCE_FULL;
	/* Counting the equal ones and not the places keeps the work equal when one of several is
	 * out: no neighbour inherits its turns. */
	ties = turn % ties;
	for (uint32_t i = 0; i < n; i++) {
		if (class_of(&t[i]) != best || t[i].outstanding != least ||
		    !has_place(&t[i], limit) || ties--)
			continue;
		*ret_index = i;
		break;
	}
	return BALANCE_PICKED;
}
