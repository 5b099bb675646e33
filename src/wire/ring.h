/* SPDX-License-Identifier: Apache-2.0
 *
 * A bounded ring of records in shared memory: one router thread writes, the
 * logger reads. Writing never waits: a record for which there is no room is
 * dropped, and the writer counts it. The bell (an eventfd) is rung only when
 * the reader said that it sleeps.
 *
 * Positions count bytes for ever; `mask` folds them. A record is a 32-bit length
 * (of what follows), then its bytes, padded to 8; a length of RING_SKIP sends
 * the reader to the start of the ring.
 */
#pragma once

#include <stdatomic.h>

#include "base/util.h"

#define RING_BYTES (1u << 20)
#define RING_SKIP 0xffffffffu

struct ring {
	_Atomic uint64_t written;
	uint64_t pad1[7];
	_Atomic uint64_t read;
	uint64_t pad2[7];
	_Atomic uint32_t sleeping; /* the reader waits for the bell */
	uint32_t pad3[15];
	char data[RING_BYTES];
};

int ring_create(uint32_t n); /* a descriptor of memory for n empty rings, or -1 with errno */
struct ring *ring_map(int fd, uint32_t n); /* the array of them, or NULL with errno */

/* Writer: room for a record of at most max bytes, or NULL when there is none. */
char *ring_reserve(struct ring *r, uint32_t max);
/* Writer: publishes the first len bytes of what was reserved. Returns true when the reader sleeps
 * and the caller should ring its bell. */
bool ring_commit(struct ring *r, uint32_t len);

/* Reader: the next record, or NULL; valid until ring_next() is called again. A ring whose content
 * cannot be right (a writer that died in the middle) is emptied. */
const char *ring_next(struct ring *r, uint32_t *ret_len);

/* Reader that may free records only later, all at once: the one at *at (at first ring_begin()), or NULL; *at moves
 * behind it. What was looked at stays in the ring until ring_free() with that place. */
uint64_t ring_begin(const struct ring *r);
const char *ring_look(struct ring *r, uint64_t *at, uint32_t *ret_len);
void ring_free(struct ring *r, uint64_t at);
