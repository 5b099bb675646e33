/* SPDX-License-Identifier: Apache-2.0
 *
 * Token buckets, one for each client, in a table of a fixed size that all threads share.
 *
 * A bucket is one word: some bits that tell the client, and the moment at which the bucket will be
 * full again (the theoretical arrival time of GCRA, ITU-T I.371, which is a token bucket written
 * in another way). So taking a token is one compare-and-swap: no lock, exact over threads, and an
 * entry whose moment has passed is a full bucket, which need not be kept.
 *
 * Time counts in 64ths of what one token takes to come back, so nothing is rounded but "now".
 *
 * A client's entry lies in one set of 8 (a cache line). When a set is full of others, the one
 * that is next to be full again goes: whoever has used up least loses least.
 */
#pragma once

#include <stdatomic.h>

#include "base/util.h"

#define BUCKET_SETS 1024u /* a power of two */
#define BUCKET_WAYS 8u
#define BUCKET_KEYS (BUCKET_SETS * BUCKET_WAYS)

struct bucket_rate {
	uint32_t requests, ms, burst; /* all at least 1; requests and burst up to 1,000,000 */
};

struct bucket_table { /* 64 KiB; zeroed: every bucket is full */
	_Atomic uint64_t entry[BUCKET_SETS][BUCKET_WAYS];
};

enum bucket_verdict {
	BUCKET_TAKEN,
	BUCKET_EVICTED, /* taken, and another client's bucket was forgotten for it */
	BUCKET_EMPTY,
};

/* Takes a token of the client with this hash (of a keyed hash function). BUCKET_EMPTY: *ret_wait_ms is
 * the time until there is one. */
enum bucket_verdict bucket_take(struct bucket_table *t, const struct bucket_rate *r, uint64_t hash,
				uint64_t now_ms, uint64_t *ret_wait_ms);
