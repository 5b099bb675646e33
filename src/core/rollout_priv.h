/* SPDX-License-Identifier: Apache-2.0
 *
 * What the rules of the phases and the step around them share.
 */
#pragma once

#include "core/rollout.h"

struct step {
	struct rollout *r;
	const struct rollout_rules *rules;
	uint64_t now_ms;
	uint64_t *next_unit;
	struct rollout_result *ret;
	bool again; /* another step is due at once */
};

/* Says in the result what was done, to a unit or to the app (NULL). */
void step_note(struct step *s, enum rollout_step_type type, const struct rollout_unit *u);
void step_phase(struct step *s, enum rollout_phase phase);
void step_hold(struct step *s, bool hold);
void step_end_change(struct step *s, enum rollout_outcome outcome);
/* Looks whether a unit of the goal broke its word. True when the rollout was turned round. */
bool step_check_goal(struct step *s, bool must_be_ready);

typedef void rollout_rule(struct step *s);
extern rollout_rule *const rollout_rule_of[ROLLOUT_PHASE_COUNT];
