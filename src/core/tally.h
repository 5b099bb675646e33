/* SPDX-License-Identifier: Apache-2.0
 *
 * How many of something each client has now, in a table of a fixed size that all threads share
 * without locks.
 *
 * An entry is one word: 40 bits that tell the client, 24 that count. Two threads that meet a new
 * client in the same moment may each make an entry; so what a client has is the sum over its
 * set, and whoever made an entry looks at the sum once more.
 */
#pragma once

#include <stdatomic.h>

#include "base/util.h"

#define TALLY_SETS 8192u /* a power of two */
#define TALLY_WAYS 8u
#define TALLY_KEYS (TALLY_SETS * TALLY_WAYS)

struct tally_table { /* 512 KiB; zeroed: nobody has anything */
	_Atomic uint64_t entry[TALLY_SETS][TALLY_WAYS];
};

enum tally_verdict {
	TALLY_COUNTED, /* to be taken back with tally_sub() */
	TALLY_OVER,    /* the client has `most` */
	TALLY_NO_ROOM, /* its set is full of others: not counted */
};

/* hash: of a keyed hash function. most: from 1 to 2^24 - 2. */
enum tally_verdict tally_add(struct tally_table *t, uint64_t hash, uint32_t most);
void tally_sub(struct tally_table *t, uint64_t hash);
uint32_t tally_get(struct tally_table *t, uint64_t hash);
