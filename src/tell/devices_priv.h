/* SPDX-License-Identifier: Apache-2.0
 *
 * The devices of the configuration.
 *
 *	devices.c       results to statuses (core/check.h, core/device.h), and these to the state
 *	devices_conf.c  rows of a configuration; what was stored of them
 *	devices_json.c  how the API tells them, and in which words
 *	beat.c          checks that are waited for
 */
#pragma once

#include "core/device.h"
#include "tell/tell_priv.h"

#define TELL_REASON 300

/* Rows are as those of the configuration, in its order; so a device's row is its number in the graph. */
struct tell_check {
	struct tell_device *device;
	const struct conf_check *conf;
	struct check_rule rule;
	struct check state;
	char *text; /* of the measurement that made it what it is; NULL: never measured */
	double value; /* of the last measurement; NaN: none */
	enum result_unit unit;
	uint32_t took_us;
	struct loop_timer late; /* push: until a beat is missed */
	uint64_t beat_ms;	/* by the wall clock, the last one; 0: never */
};

struct tell_device {
	struct tell *t;
	const struct conf_device *conf;
	struct tell_check *checks;
	uint32_t check_count;
	struct device_told told; /* what the graph wants to be told */
	char was[80];		 /* what is over and was never told; "" */
	bool dirty;		 /* not stored yet */
};

/* A clock that stands near the real one and never jumps: core/check.h. */
uint64_t tell_steady_ms(const struct tell *t);
uint32_t tell_device_index(const struct tell_device *d);
/* What was measured at this time of it; STATUS_COUNT: nothing, is it late? The text is of a person's. */
void tell_take_result(struct tell_check *c, enum status outcome, uint64_t at_ms, const char *text);
/* What follows from results is looked at, and stored, soon. */
void tell_devices_soon(struct tell *t);

/* beat.c: when the last beats came, and the wait for the next ones */
void tell_beats_configured(struct tell *t);
void tell_beat_fini(struct tell_check *c);

/* The reason of what is told of it. */
void tell_device_reason(const struct tell_device *d, char reason[TELL_REASON]);
json_t *tell_device_json(const struct tell_device *d);
