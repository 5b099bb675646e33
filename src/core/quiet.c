/* SPDX-License-Identifier: Apache-2.0 */
#include "core/quiet.h"

int quiet_check(const struct quiet *q, struct err *e)
{
	if (!q->who || !*q->who)
		return err_set(e, ERR_INPUT, "a silence says who wants it");
	if (!q->why || !*q->why)
		return err_set(e, ERR_INPUT, "a silence says why: give --why TEXT");
	if (q->until_ms <= q->from_ms)
		return err_set(e, ERR_INPUT, "a silence ends after it begins");
	if (q->until_ms - q->from_ms > QUIET_MOST_MS)
		return err_set(e, ERR_INPUT, "a silence lasts at most %llu days: make it shorter, and extend it then",
			       QUIET_MOST_MS / 86400000);
	return 0;
}

static bool covers(const struct quiet *q, struct device_graph *g, uint32_t cause)
{
	switch (q->scope) {
	case QUIET_ALL:
		return true;
	case QUIET_BEHIND:
		return device_leads_to(g, cause, q->device);
	case QUIET_TREE:
		return device_leads_to(g, q->device, cause);
	case QUIET_SCOPE_COUNT:
		break;
	}
	return false;
}

const struct quiet *quiet_find(const struct quiet *q, uint32_t n, struct device_graph *g, uint32_t cause,
			       uint64_t wall_ms)
{
	const struct quiet *found = NULL;

	for (uint32_t i = 0; i < n; i++)
		if (wall_ms >= q[i].from_ms && wall_ms < q[i].until_ms &&
		    (!found || q[i].until_ms > found->until_ms) && covers(&q[i], g, cause))
			found = &q[i];
	return found;
}
