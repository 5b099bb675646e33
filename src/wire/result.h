/* SPDX-License-Identifier: Apache-2.0
 *
 * What the watcher measured, on its way to the controller: records in one ring, in memory that the keeper
 * makes, so that they outlive both. The watcher never waits: for what finds no room it counts. The controller
 * frees a record when what follows from it is on disk.
 */
#pragma once

#include "core/status.h"
#include "wire/ring.h"

#define RESULT_TEXT_MAX 300
#define WATCH_RUNNING_MAX 1000 /* measurements at once */
#define WATCH_PLUGINS_MAX 64   /* programs at once */

/* Of the value. X(NAME, how it is written) */
#define RESULT_UNIT_TABLE(X)                                                                       \
	X(NONE, "")                                                                                \
	X(MS, " ms")                                                                               \
	X(BYTES, " B")                                                                             \
	X(PERCENT, " %")

enum result_unit {
#define X(name, text) RESULT_##name##_UNIT,
	RESULT_UNIT_TABLE(X)
#undef X
	RESULT_UNIT_COUNT
};
/* "162 ms", "3.2 GiB"; "" when there is none. */
const char *result_value_text(double value, enum result_unit unit, char text[64]);

struct result {
	uint64_t check;	  /* conf_check.id */
	uint64_t wall_ms; /* when it began */
	double value;	  /* NaN: none */
	uint32_t took_us;
	uint8_t outcome; /* enum status; UNKNOWN: the fault is the monitor's own */
	uint8_t unit;	 /* enum result_unit */
	uint16_t text_len; /* of the text behind it: UTF-8, one line, not terminated */
};

/* Counters of the watcher. X(name, what it counts; "(gauge)" at the end: what is now) */
#define WATCH_COUNT_TABLE(X)                                                                       \
	X(checks, "checks of the configuration in force (gauge)")                                  \
	X(running, "measurements going on (gauge)")                                                \
	X(programs, "programs that run for checks (gauge)")                                        \
	X(waiting, "measurements that wait for others to end (gauge)")                             \
	X(measured, "measurements")                                                                \
	X(measured_us, "sum of the time they took, in microseconds")                               \
	X(late, "of these: began over 1 s late")                                                   \
	X(late_ms, "sum of the delays, in milliseconds")                                           \
	X(overtime, "of these: ended because their time was over")                                 \
	X(skipped, "not made: the one before had not begun yet")                                   \
	X(plugin_us, "processor time of programs run for checks, in microseconds")                 \
	X(results_dropped, "results for which the ring had no room")

struct results {
#define X(name, what) _Atomic uint64_t name;
	WATCH_COUNT_TABLE(X)
#undef X
	uint64_t pad[4];
	struct ring ring;
};

int results_create(void); /* a descriptor of the memory, or -1 with errno */
struct results *results_map(int fd); /* NULL with errno */

/* Writer: puts a record; text is made one clean line of at most RESULT_TEXT_MAX bytes. True: the reader sleeps, ring its
 * bell. */
bool result_put(struct results *rs, const struct result *r, const char *text);
/* Reader: copies one record of len bytes, and its text, clean. False: it is none. */
bool result_read(const char *record, uint32_t len, struct result *ret, char ret_text[RESULT_TEXT_MAX + 1]);
