/* SPDX-License-Identifier: Apache-2.0
 *
 * A record of the access log as it lies in the ring: this struct, then the
 * strings, not terminated, in the order of their lengths. The router only copies;
 * the logger makes JSON of it.
 */
#pragma once

#include "base/util.h"

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
	uint32_t release;   /* number of the release that answered; 0: none */
	uint16_t method_len, host_len, path_len, app_len, target_len, client_len, id_len, agent_len,
		trace_len;
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
