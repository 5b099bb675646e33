/* SPDX-License-Identifier: Apache-2.0
 *
 * HTTP/1.1 heads and message framing, strictly by RFC 9112 and RFC 9110: whatever
 * two parsers could read differently is an error, not a guess. Pure functions over
 * bytes: no allocation, no I/O, nothing kept but what the caller holds.
 *
 * A head is parsed in place: names and values are slices of the caller's buffer.
 * Parsing is incremental in the sense that the caller calls again with more bytes;
 * `scanned` makes that linear, not quadratic.
 */
#pragma once

#include "base/util.h"

#define HTTP1_HEADERS_MAX 128
#define HTTP1_ADDED_MAX 20 /* that whoever passes a head on may put behind those that came */
#define HTTP1_PASSED_MAX (HTTP1_HEADERS_MAX + HTTP1_ADDED_MAX + 12) /* of a head as we send it on */

struct http1_slice {
	const char *p;
	uint32_t len;
};

/* Headers that the program looks at; found while parsing, so that no later search is needed.
 * X(NAME, lower-case name) */
#define HTTP1_KNOWN_TABLE(X)                                                                       \
	X(CONNECTION, "connection")                                                                \
	X(CONTENT_LENGTH, "content-length")                                                        \
	X(TRANSFER_ENCODING, "transfer-encoding")                                                  \
	X(HOST, "host")                                                                            \
	X(UPGRADE, "upgrade")                                                                      \
	X(EXPECT, "expect")                                                                        \
	X(TE, "te")                                                                                \
	X(TRAILER, "trailer")                                                                      \
	X(KEEP_ALIVE, "keep-alive")                                                                \
	X(PROXY_CONNECTION, "proxy-connection")                                                    \
	X(X_FORWARDED_FOR, "x-forwarded-for")                                                      \
	X(X_FORWARDED_PROTO, "x-forwarded-proto")                                                  \
	X(X_FORWARDED_HOST, "x-forwarded-host")                                                    \
	X(FORWARDED, "forwarded")                                                                  \
	X(X_REQUEST_ID, "x-request-id")                                                            \
	X(IDEMPOTENCY_KEY, "idempotency-key")                                                      \
	X(USER_AGENT, "user-agent")                                                                \
	X(CONTENT_TYPE, "content-type")                                                            \
	X(TRACEPARENT, "traceparent")                                                              \
	X(TRACESTATE, "tracestate")

enum http1_known {
	HTTP1_OTHER,
#define X(name, text) HTTP1_##name,
	HTTP1_KNOWN_TABLE(X)
#undef X
	HTTP1_KNOWN_COUNT,
	/* Of a field that whoever passes the head on has taken out, or put in himself: */
	HTTP1_DROPPED = HTTP1_KNOWN_COUNT,
	HTTP1_ADDED,
};

struct http1_header {
	struct http1_slice name, value; /* value without white space around it */
	enum http1_known known;
};

enum http1_framing {
	HTTP1_BODY_NONE, /* also Content-Length: 0; `length` is still what an answer to HEAD says */
	HTTP1_BODY_LENGTH,
	HTTP1_BODY_CHUNKED,
	HTTP1_BODY_CLOSE, /* answers only: until the connection ends */
	HTTP1_TUNNEL,	  /* answers only: 101, or 2xx to CONNECT */
};

struct http1_head {
	/* requests */
	struct http1_slice method;
	struct http1_slice target; /* origin form: path and query; "*" for OPTIONS * */
	struct http1_slice host;   /* of an absolute form or the Host header, as sent, with port; letters, digits,
				    * "-._~" or an IPv6 address in brackets; empty only in 1.0 */
	struct http1_slice path;   /* of target, without query */
	bool is_head, is_connect, is_options_star, is_get;
	/* answers */
	uint16_t status;
	struct http1_slice reason;
	/* both */
	uint8_t minor; /* HTTP/1.minor */
	bool keep_alive; /* the sender will take another message on this connection */
	bool upgrade;	 /* Connection: upgrade, with an Upgrade header */
	bool expect_continue;
	bool te_trailers; /* TE: trailers, named in Connection */
	bool hop_named;	  /* Connection names headers of its own */
	enum http1_framing framing;
	uint64_t length; /* HTTP1_BODY_LENGTH */
	uint32_t header_count;
	uint32_t added_len; /* of fields that were put in, as lines */
	struct http1_header headers[HTTP1_PASSED_MAX];
	uint32_t known_at[HTTP1_KNOWN_COUNT]; /* index + 1 of the first header of each kind; 0: none */
	uint32_t head_len; /* bytes of the head, empty line included */
};

enum http1_result {
	HTTP1_DONE = 0,
	HTTP1_MORE, /* the head is not complete */
	HTTP1_BAD,  /* 400; `why` tells */
	HTTP1_LONG_LINE, /* 414: the request line passes the limit */
	HTTP1_LONG_HEAD, /* 431: bytes or number of headers pass the limit */
	HTTP1_VERSION,	 /* 505 */
	HTTP1_CODING,	 /* 501: a transfer coding other than chunked */
};

struct http1_limits {
	uint32_t head_bytes, headers; /* headers: at most HTTP1_HEADERS_MAX, */
	bool passed;		      /* or HTTP1_PASSED_MAX in one that was made to be sent on */
};

/* Parses a request head at p[0..len). *scanned is 0 for a new head and kept by the caller between
 * calls; up to two empty lines before the request line are skipped (RFC 9112, 2.2) and counted in
 * head_len. *why, on anything but DONE and MORE, is a static sentence. */
enum http1_result http1_request(const char *p, size_t len, size_t *scanned,
				const struct http1_limits *limits, struct http1_head *ret,
				const char **why);
/* Parses the head of an answer to a request with these traits. */
enum http1_result http1_answer(const char *p, size_t len, size_t *scanned,
			       const struct http1_limits *limits, bool to_head, bool to_connect,
			       struct http1_head *ret, const char **why);

/* The value of a known header; len 0 when it is not there. */
static inline struct http1_slice http1_get(const struct http1_head *h, enum http1_known k)
{
	return h->known_at[k] ? h->headers[h->known_at[k] - 1].value : (struct http1_slice){0};
}

/* Must this header not be passed on? Hop-by-hop ones and those that Connection names (RFC 9110,
 * 7.6.1). Connection, Upgrade, TE, Transfer-Encoding, Keep-Alive, Proxy-Connection, Trailer are;
 * Content-Length is not. The other known ones are not either, even when Connection names them: a
 * sender must not be able to talk us out of Host, framing, or who it is. */
bool http1_is_hop(const struct http1_head *h, const struct http1_header *header);

/* --- chunked bodies (RFC 9112, 7.1) --- */

enum http1_chunk_state { HTTP1_CHUNK_SIZE, HTTP1_CHUNK_EXT, HTTP1_CHUNK_SIZE_LF, HTTP1_CHUNK_DATA,
			 HTTP1_CHUNK_DATA_CR, HTTP1_CHUNK_DATA_LF, HTTP1_CHUNK_TRAILER,
			 HTTP1_CHUNK_END };

struct http1_chunked {
	enum http1_chunk_state state;
	uint64_t left;	   /* of the chunk's data */
	uint32_t digits;   /* of the size read so far */
	uint32_t ext_len;  /* of extensions, all chunks; bounded */
	uint32_t trailer_len;
};

#define HTTP1_CHUNK_EXT_MAX 4096
#define HTTP1_TRAILER_MAX 8192

/* Decodes in place: moves the data bytes of p[0..*len) to its front and sets *len to their number.
 * *ret_used: how many input bytes were taken (all, unless the body ended before). Trailer fields are
 * left to the caller: when `state` is TRAILER, decoding stops at the first byte of the trailer
 * section (used points there) and http1_trailer() takes over.
 * DONE: the size line of the last chunk was read, the trailer section follows; MORE; BAD. */
enum http1_result http1_dechunk(struct http1_chunked *c, char *p, size_t *len, size_t *ret_used,
				const char **why);
/* Parses the trailer section (which is just an empty line when there are no fields). DONE: ret
 * holds its fields and head_len its length. Fields that must not stand in a trailer (framing,
 * routing, RFC 9110 6.5.1) are BAD. */
enum http1_result http1_trailer(const char *p, size_t len, size_t *scanned, struct http1_head *ret,
				const char **why);

/* The host without port and last dot, in lower case: what apps are found by. Returns its length, or -1
 * when it cannot be one. Not terminated. */
int http1_host_name(struct http1_slice host, char ret[256]);
const char *http1_reason(uint16_t status); /* "Not Found"; "" when unknown */
/* Case-insensitive comparison of a slice with a lower-case literal. */
bool http1_is(struct http1_slice s, const char *lower);
/* Is `token` (lower case) in the comma separated list? */
bool http1_has_token(struct http1_slice list, const char *token);
