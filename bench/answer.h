/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads one HTTP/1.1 answer for the load client and says whether it is complete and
 * well-formed. On purpose it shares nothing with the parser that is under test, and it
 * is stricter than a client would be: the length of an answer must be proved by
 * Content-Length or by chunks, so an answer that ends with its connection is bad.
 */
#pragma once

#include "base/buf.h"

#define ANSWER_HEAD_MAX (64u << 10)

enum answer_result { ANSWER_MORE, ANSWER_DONE, ANSWER_BAD };

enum answer_at {
	ANSWER_HEAD,
	ANSWER_COUNTED,
	ANSWER_CHUNK_SIZE,
	ANSWER_CHUNK_DATA,
	ANSWER_CHUNK_END,
	ANSWER_TRAILER,
	ANSWER_COMPLETE,
};

struct answer {
	enum answer_at at;
	struct buf line; /* the head or the line that is being read */
	struct buf body;
	size_t fields_len; /* of head and trailer so far */
	uint64_t left;	   /* of the body or of the chunk */
	uint16_t status;   /* of the final answer; 0: not read yet */
	uint8_t minor;
	bool keep_alive; /* the connection may be used again */
	bool chunked, counted;
	bool begun;	 /* a byte of an answer was read */
	const char *why; /* of ANSWER_BAD: a static sentence */
};

/* Makes it ready for the answer to the next request; keeps its memory. body_max bounds the body. */
void answer_begin(struct answer *a, size_t body_max);
/* Takes bytes of the connection; *ret_used of them belonged to this answer. */
enum answer_result answer_feed(struct answer *a, const char *p, size_t len, size_t *ret_used);
void answer_free(struct answer *a);
