/* SPDX-License-Identifier: Apache-2.0
 *
 * From the fields of an HTTP/2 request or answer to the head of an HTTP/1.1 one (RFC 9113,
 * 8.3), as text: so that everything behind it stays one path, and the strict parser of
 * HTTP/1 has the last word. Pure: bytes in, bytes out, in the caller's memory.
 *
 * Refused is what could mean something else over there than it means here: names in
 * upper case or with a colon, bytes that end a line, fields of one connection only, a
 * Host beside another :authority, pseudo fields twice, unknown or late.
 */
#pragma once

#include "wire/http1.h"

#define H2_PSEUDO_TABLE(X)                                                                         \
	X(METHOD, ":method")                                                                       \
	X(SCHEME, ":scheme")                                                                       \
	X(AUTHORITY, ":authority")                                                                 \
	X(PATH, ":path")                                                                           \
	X(PROTOCOL, ":protocol") /* RFC 8441 */

enum h2_pseudo {
#define X(name, text) H2_##name,
	H2_PSEUDO_TABLE(X)
#undef X
	H2_PSEUDO_COUNT
};

#define H2_UPS 16	   /* connections to a target in a thread */
#define H2_ASKS 256	   /* streams on one at once, if the target allows as many */
#define H2_CRUMBS_MAX 1000 /* cookie fields, which become one */
#define H2_KEY_LEN 24	   /* of a Sec-WebSocket-Key */

struct h2_span {
	uint32_t at, len;
};

enum h2_head_kind { H2_HEAD_REQUEST, H2_HEAD_ANSWER, H2_HEAD_TRAILER };

/* Offsets, so that the caller may move the text into more room. */
struct h2_head {
	char *p;
	uint32_t cap, len;
	uint32_t max;	/* bytes that the text may have */
	uint32_t start; /* where it begins: the pseudo fields' values lie before it */
	struct h2_span pseudo[H2_PSEUDO_COUNT], host;
	uint32_t cookie_end, crumbs;
	uint8_t seen; /* bit of each pseudo field */
	enum h2_head_kind kind;
	bool begun, te_trailers, length, empty;
	bool to_head;	 /* of an answer: said by the caller, it is one to HEAD */
	bool chunked;	 /* of an answer, once it is over: its body is told in chunks */
	uint16_t status; /* of an answer; 0: it was not told yet */
	const char *why; /* of anything but DONE and MORE: a static sentence */
};

/* The text of a head, or of a trailer section (which begins with its last chunk), will be
 * made in p[0..cap). */
void h2_head_begin(struct h2_head *h, char *p, uint32_t cap, uint32_t max, enum h2_head_kind kind);
/* Takes the next field. DONE; MORE: it needs a larger cap (nothing was done); BAD; LONG_LINE,
 * LONG_HEAD: it would pass max. */
enum http1_result h2_head_field(struct h2_head *h, struct http1_slice name, struct http1_slice value);
/* No more fields. `ended`: no body follows. key: H2_KEY_LEN characters for a request that opens a
 * WebSocket. As above; on DONE the text lies in p[start..len). */
enum http1_result h2_head_end(struct h2_head *h, bool ended, const char *key);

static inline bool h2_head_is_tunnel(const struct h2_head *h)
{
	return h->seen >> H2_PROTOCOL & 1;
}
