/* SPDX-License-Identifier: Apache-2.0
 *
 * What the controller remembers: one transaction holds the rollout, the numbers
 * given out, and the history's records of what began and ended. A full disk refuses
 * it whole; now and then the reply is lost although it was done.
 */
#include "sim.h"

#include <string.h>

/* Units that are not there need not be copied. */
void store_copy(struct rollout *to, const struct rollout *from)
{
	memcpy(to, from,
	       offsetof(struct rollout, units) + from->unit_count * sizeof(from->units[0]));
}

static void history(struct sim *s, uint32_t app, uint64_t begun, const struct rollout_result *res)
{
	struct store *st = &s->store;

	if (begun >= SIM_CHANGES) {
		sim_broken(s, "more changes than the model has room for");
		return;
	}
	if (begun && st->change[begun].begun++)
		sim_broken(s, "change %llu began twice", (unsigned long long)begun);
	if (begun)
		s->count_changes++;
	if (!res->ended || (sim_mutated(s, MUTATE_NO_END) && res->outcome == ROLLOUT_SUPERSEDED))
		return;
	sim_say(s, "change %llu of app %u: %s %s", (unsigned long long)res->ended, app,
		rollout_outcome_name(res->outcome), res->reason);
	st->last_ended = res->ended;
	if (!st->change[res->ended].begun)
		sim_broken(s, "change %llu ended and never began", (unsigned long long)res->ended);
	if (st->change[res->ended].ended++)
		sim_broken(s, "change %llu ended twice", (unsigned long long)res->ended);
	if (res->outcome == ROLLOUT_NONE)
		sim_broken(s, "change %llu ended without an outcome",
			   (unsigned long long)res->ended);
}

enum store_verdict store_save(struct sim *s, uint32_t app, const struct rollout *r, uint64_t begun,
			      const struct rollout_result *res, bool urgent)
{
	struct store *st = &s->store;
	bool faults = s->o.disk && !s->calm;

	if (urgent)
		st->reserve_open = true;
	if ((st->full && !st->reserve_open) || (faults && !urgent && sim_chance(s, 2)))
		return STORE_FAILED;
	check_saved(s, app, &st->app[app].r, r);
	store_copy(&st->app[app].r, r);
	st->app[app].boot = s->ctl.keeper_boot;
	st->next_unit = s->ctl.next_unit;
	st->next_change = s->ctl.next_change;
	st->generation = s->ctl.generation;
	history(s, app, begun, res);
	if (faults && sim_chance(s, 2))
		return STORE_LOST_REPLY;
	return STORE_SAVED;
}
