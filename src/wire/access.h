/* SPDX-License-Identifier: Apache-2.0
 *
 * A record of the access log as it lies in the ring: this struct, then the
 * strings, not terminated, in the order of their lengths. The router only copies;
 * the logger makes JSON of it.
 */
#pragma once

#include <endian.h>
#include <string.h>

#include "base/util.h"

#define ACCESS_ALL 1000000u

struct access_record {
	uint64_t wall_us;  /* when the first byte of the request was read */
	uint64_t bytes_in; /* body bytes */
	uint64_t bytes_out;
	uint32_t total_us;  /* first byte in to last byte out */
	uint32_t wait_us;   /* of that, in the waiting room */
	uint32_t target_us; /* of that, from sending the request to the target's answer head */
	uint16_t status;    /* 0: none was sent */
	uint8_t tries;	    /* targets that it was sent to */
	uint8_t end;	    /* enum access_end */
	uint32_t sample;    /* parts of a million: the share of its like that is logged */
	uint32_t release;   /* number of the release that answered; 0: none */
	uint16_t method_len, host_len, path_len, app_len, target_len, client_len, id_len, agent_len,
		trace_len;
	uint8_t http; /* its version: 10, 11, 20; 0: a TCP app's connection */
};

/* How it ended. X(NAME, text in the log) */
#define ACCESS_END_TABLE(X)                                                                        \
	X(DONE, "done")                                                                            \
	X(OWN, "own") /* Upstate's own answer */                                                   \
	X(CLIENT_LEFT, "client-left")                                                              \
	X(CUT, "cut")                                                                              \
	X(UPGRADED, "upgraded")

enum access_end {
#define X(name, text) ACCESS_##name,
	ACCESS_END_TABLE(X)
#undef X
	ACCESS_END_COUNT
};

/* Is a request with this id (of its trace) among the `share` parts of a million that are logged? The same
 * id has the same answer everywhere, and a smaller share is a part of a larger one. The id may be chosen
 * by who wants to be seen, or not to be: it hides nothing but an ordinary answer. */
static inline bool access_sampled(const char *id, size_t len, uint32_t share)
{
	uint64_t hash = 0x9e3779b97f4a7c15, word;

	for (size_t i = 0; i < len; i += 8) {
		word = 0;
		memcpy(&word, id + i, MIN(len - i, 8u));
		hash = (hash ^ le64toh(word)) * 0xbf58476d1ce4e5b9;
		hash ^= hash >> 29;
	}
	hash *= 0x94d049bb133111eb;
	return (hash >> 32) * ACCESS_ALL >> 32 < share;
}
