/* SPDX-License-Identifier: Apache-2.0
 *
 * A growing byte buffer with a bound. When it would pass the bound, or memory
 * is gone, it stops taking bytes and remembers so (sticky `failed`): a caller
 * appends at will and checks once at the end.
 */
#pragma once

#include "base/util.h"

struct buf {
	char *data; /* not terminated unless buf_str() was called */
	size_t len, cap;
	size_t max; /* 0: 64 MiB */
	bool failed;
};

void buf_add(struct buf *b, const void *data, size_t len);
void buf_adds(struct buf *b, const char *s);
void buf_addc(struct buf *b, char c);
void buf_addf(struct buf *b, const char *fmt, ...) PRINTF(2, 3);
/* Room for at least n more bytes at data + len, or NULL when that fails. */
char *buf_room(struct buf *b, size_t n);
/* Drops the first n bytes. */
void buf_drop(struct buf *b, size_t n);
/* The content as a string; "" when empty or failed. Valid until the next change. */
const char *buf_str(struct buf *b);
void buf_free(struct buf *b); /* frees the memory and zeroes all but max */
#define CLEANUP_BUF CLEANUP(buf_free)
