/* SPDX-License-Identifier: Apache-2.0
 *
 * One line for each change of state, to standard error:
 *
 *	2026-11-22T01:39:15.123Z router target.down target=guestbook/1 reason="refused"
 *
 * The event is a stable id that a person or a program can search for; the rest
 * is key=value. Libraries stay silent; the shells log.
 */
#pragma once

#include "base/util.h"

enum log_level { LOG_DEBUG, LOG_INFO, LOG_WARN, LOG_ERROR };

/* Names this process in its lines, and drops lines below a level. Call once at start. */
void log_init(const char *part, enum log_level least);
void log_event(enum log_level level, const char *event, const char *fmt, ...) PRINTF(3, 4);

#define log_debug(event, ...) log_event(LOG_DEBUG, event, __VA_ARGS__)
#define log_info(event, ...) log_event(LOG_INFO, event, __VA_ARGS__)
#define log_warn(event, ...) log_event(LOG_WARN, event, __VA_ARGS__)
#define log_error(event, ...) log_event(LOG_ERROR, event, __VA_ARGS__)
