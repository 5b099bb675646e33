/* SPDX-License-Identifier: Apache-2.0
 *
 * When does something that ended start again? After a pause that doubles from
 * rule->first_ms to rule->max_ms, with jitter, for ever; a healthy spell starts
 * over. The end of what had been healthy is answered at once: most crashes are
 * single ones, and users wait.
 */
#pragma once

#include "base/util.h"

struct supervise_rule {
	uint64_t first_ms, max_ms;
	uint64_t healthy_ms; /* having run this long counts as healthy */
	uint32_t free_ends;  /* quick ends in a row that are answered at once all the same */
};

/* Instances of apps: 1 s to 5 min. */
extern const struct supervise_rule supervise_instance;
/* Upstate's own processes, without which nothing works: at once three times, then 100 ms to 5 s. */
extern const struct supervise_rule supervise_part;

struct supervise {
	uint32_t quick_ends; /* in a row, each before a healthy spell was over */
	uint64_t started_ms;
};

void supervise_started(struct supervise *s, uint64_t now_ms);
/* It ended at now_ms. Returns how long to wait before the next start: 0, or a pause less a jitter
 * of up to a quarter. `random` is any 32 random bits. */
uint64_t supervise_ended(struct supervise *s, const struct supervise_rule *rule, uint32_t random,
			 uint64_t now_ms);
