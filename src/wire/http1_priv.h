/* SPDX-License-Identifier: Apache-2.0
 *
 * What heads and trailers share: character classes, the search for the end of
 * a section, and the parser of its fields. Only for the HTTP/1 files here.
 */
#pragma once

#include "wire/http1.h"

enum http1_class {
	HTTP1_TCHAR = 1,  /* token characters (RFC 9110, 5.6.2) */
	HTTP1_TARGET = 2, /* visible ASCII without '#': what browsers put into a target */
	HTTP1_HOST_CHAR = 4, /* unreserved (RFC 3986, 2.3): no escapes, no commas */
};

extern const uint8_t http1_class[256];

static inline bool http1_char(char c, enum http1_class class)
{
	return http1_class[(uint8_t)c] & class;
}

static inline enum http1_result http1_refuse(const char **why, const char *sentence)
{
	*why = sentence;
	return HTTP1_BAD;
}

/* What a section may look like at its start. */
struct http1_shape {
	size_t start;	  /* where its first line starts */
	size_t limit;	  /* bytes that it may have in all, `start` included */
	bool may_be_empty; /* a trailer section may be just the empty line */
};

/* Is the section complete, and without bytes that no line may have? DONE, MORE, BAD, LONG_LINE,
 * LONG_HEAD. Looks at each byte once over all calls (*scanned). The verdict depends on the bytes
 * only, not on how they were cut into calls. */
enum http1_result http1_find_end(const char *p, size_t len, const struct http1_shape *shape,
				 size_t *scanned, const char **why);
/* Parses field lines from p up to and with the empty line. *ret_twice has the bit of each known
 * field that is there more than once; *ret_end points behind the section. */
enum http1_result http1_fields(const char *p, const char *end, uint32_t max,
			       struct http1_head *ret, uint32_t *ret_twice, const char **ret_end,
			       const char **why);
/* Reads Host and the request's target; framing is known already. DONE or BAD. */
enum http1_result http1_target(struct http1_head *ret, const char **why);
/* Are these tokens or hosts the same, whatever their case? */
bool http1_same(struct http1_slice a, struct http1_slice b);
