/* SPDX-License-Identifier: Apache-2.0
 *
 * The pages: the status of everything, a device, a change. Plain HTML with its style inside: no
 * script, no other file, quick on a phone over a bad line in the middle of an outage; dark where
 * the reader's system is. Statuses are words that also have a colour, never a colour alone.
 *
 * They are made from the same JSON that the API answers with (docs/API.md), so they cannot tell
 * anything else. What is missing or of another type in it is left out. Everything is
 * escaped: names and reasons come from outside.
 *
 * Devices have their pages under /devices/ID: an instance or target under its "device", an app
 * under its name, a part under "upstate/NAME".
 *
 * Pure, but for `now_ms`, from which "since 5 min" is reckoned. When memory is gone, ret->failed.
 */
#pragma once

#include <jansson.h>

#include "state/state.h"

#define PAGE_TYPE "text/html; charset=utf-8"
#define PAGE_ROWS_MAX 2000 /* rows of a table; what is beyond is counted */

/* status: the answer to /v1/status. changes: an array in the shape of `change`, newest first; or
 * NULL. */
void page_status(const json_t *status, const json_t *changes, uint64_t now_ms, struct buf *ret);
/* now: the device as it is now (instance, target, app or part of the status), or NULL when it is
 * gone. */
void page_device(const struct state_device *d, const struct state_status *past, size_t past_count,
		 const json_t *now, uint64_t now_ms, struct buf *ret);
void page_change(const json_t *change, uint64_t now_ms, struct buf *ret);
/* For what is not there, or went wrong: "404: no device 'x'". */
void page_message(int http_status, const char *text, struct buf *ret);
