/* SPDX-License-Identifier: Apache-2.0
 *
 * May a request whose target broke be sent to another one?
 *
 * Any method, as often as there are targets: when it is proven that the target
 * did not read it: nothing was written; the first write failed with EPIPE; or
 * over a unix socket, ECONNRESET before any byte of an answer, when head and body
 * had gone out in one write of at most 4 KiB (the kernel then says that they were
 * not read to the end; the assumption that an app's first read takes them all
 * can be switched off); or a target that speaks HTTP/2 says so itself (RFC 9113, 8.7: REFUSED_STREAM, or
 * a stream above the last of its GOAWAY).
 * GET and HEAD, once: when no byte of an answer has arrived, and fewer than two targets
 * have died under it.
 * GET and HEAD that a stuck target owes (core/silence.h), once: it has not died, but for this request it
 * is as good as that. What arrives from it later is dropped.
 * Nothing else: a POST that may have been executed is never executed twice.
 */
#pragma once

#include "base/util.h"

#define RETRY_WRITE_MAX 4096

struct retry_facts {
	bool is_unix;	       /* the target's socket */
	bool unread_counts;    /* the app's switch for the unix rule */
	bool safe_method;      /* GET or HEAD, without a body */
	bool replayable;       /* every byte that was sent is still in memory */
	bool answer_begun;     /* a byte of an answer was read */
	uint64_t written;      /* bytes of it that the socket took */
	uint32_t writes;       /* write calls that took bytes */
	bool all_written;      /* head and whole body */
	bool refused;	       /* the target has said that it does not work on it */
	bool stuck;	       /* nothing broke: the target was ejected because it is stuck */
	bool moved;	       /* it was sent on for that reason before */
	int error;	       /* errno; 0: end of stream; ETIMEDOUT: no answer in time */
	uint32_t died_under;   /* targets that broke under this request after it was sent to them,
				  this one included */
};

enum retry_verdict {
	RETRY_NO,
	RETRY_UNSENT, /* the names are those of the counters */
	RETRY_UNREAD,
	RETRY_SAFE,
	RETRY_MOVED, /* only when stuck */
};

enum retry_verdict retry_decide(const struct retry_facts *f);
