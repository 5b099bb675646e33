/* SPDX-License-Identifier: Apache-2.0
 *
 * The only places where time is read. Decisions get `now` as an argument; the
 * event loop reads the clock once a turn.
 */
#pragma once

#include "base/util.h"

#define CLOCK_TEXT 32

uint64_t clock_ms(void);      /* monotonic, shared by all processes of this boot */
uint64_t clock_us(void);      /* the same clock in microseconds */
uint64_t clock_wall_ms(void); /* since 1970, UTC */

/* RFC 3339 in UTC with milliseconds: "2026-11-22T01:39:15.123Z"; returns text. */
const char *clock_text(uint64_t wall_ms, char text[CLOCK_TEXT]);
/* Reads what clock_text() wrote, with or without fraction, with Z or an offset, or only a date
 * (midnight UTC). Returns false when it is none of these. */
bool clock_parse(const char *text, uint64_t *ret_wall_ms);
/* "340 ms", "2.4 s", "3 min", "5 h", "12 d"; returns text. */
const char *clock_span(uint64_t ms, char text[CLOCK_TEXT]);
