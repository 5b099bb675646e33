/* SPDX-License-Identifier: Apache-2.0
 *
 * The devices of the configuration, as devices.c has them.
 */
#pragma once

#include "tell/tell_priv.h"

#define TELL_REASON 300

/* Rows are as those of the configuration, in its order. */
struct tell_check {
	struct tell_device *device;
	const struct conf_check *conf;
	bool known; /* was ever measured */
	enum status now, last;
	uint32_t in_a_row; /* measurements that said `last` */
	char *text;	   /* of the measurement that made it what it is now */
	uint64_t since_ms, measured_ms;
	double value; /* of the last measurement */
	enum result_unit unit;
	uint32_t took_us;
	struct loop_timer late; /* push: until a beat is missed */
	uint64_t beat_ms;	/* the last one; 0: never */
};

struct tell_device {
	struct tell *t;
	const struct conf_device *conf;
	struct tell_check *checks;
	uint32_t check_count;
	bool dirty; /* not stored yet */
};

/* What was measured; what follows from it is stored by the next tell_devices_store_soon() or bundle of results. */
void tell_take_result(struct tell_check *c, const struct result *r, const char *text);
void tell_devices_store_soon(struct tell *t);
/* beat.c: when the last beats came, and the wait for the next ones */
void tell_beats_configured(struct tell *t);
void tell_beat_fini(struct tell_check *c);

const char *tell_device_status(const struct tell_device *d, char reason[TELL_REASON]);
json_t *tell_device_json(const struct tell_device *d);
