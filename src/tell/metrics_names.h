/* SPDX-License-Identifier: Apache-2.0
 *
 * What the counters of wire/shm.h are called as metrics: rules, not a list, so that a
 * counter that is added there is exported by itself. Names follow Prometheus' conventions
 * (https://prometheus.io/docs/practices/naming): base units, the unit in the name. Pure.
 */
#pragma once

#include "base/buf.h"

#define METRIC_NAME 64

enum metric_type { METRIC_COUNTER, METRIC_GAUGE, METRIC_INFO, METRIC_HISTOGRAM };
/* Whose counters are looked at. */
enum metric_scope { METRIC_ONE, METRIC_APP, METRIC_TARGET };

/* How one counter is told: the sample FAMILY{LABEL="VALUE"}, its number divided. */
struct metric_name {
	char family[METRIC_NAME]; /* without "upstate_SCOPE_" and "_total" */
	char label[16], value[32]; /* "" for none */
	char help[160];
	const char *unit; /* "seconds", "bytes" or NULL: the end of the family's name */
	uint32_t per;	  /* the number counts 1/per of the unit */
	bool gauge, app, target; /* told for apps, for targets */
};

void metric_name(const char *counter, const char *what, struct metric_name *ret);

/* Text in quotes: backslash, quote and line feed are escaped, the same in both formats. */
void metric_escape(struct buf *out, const char *text);
/* n / per as a decimal number, exactly. per is a power of ten. */
void metric_number(struct buf *out, uint64_t n, uint32_t per);

/* Does this Accept want OpenMetrics rather than the older text format? (RFC 9110, 12.5.1: the one of
 * greater weight; OpenMetrics when they are equal; without the header the older one, which
 * everything reads.) */
bool metric_wants_open(const char *accept, size_t len);
