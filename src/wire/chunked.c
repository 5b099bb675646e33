/* SPDX-License-Identifier: Apache-2.0
 *
 * Chunked bodies (RFC 9112, 7.1). A byte-at-a-time machine for the framing, and
 * a bulk move for the data. Stricter than the RFC in one point: no white space
 * after a size. Recipients disagree on it, and no sender needs it.
 */
#include "wire/http1_priv.h"

#include <string.h>

#define CHUNK_MAX (1ull << 60)
#define CHUNK_DIGITS_MAX 16

static int hex_digit(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

static enum http1_result size_byte(struct http1_chunked *c, char byte, const char **why)
{
	int digit = hex_digit(byte);

	if (digit >= 0) {
		if (c->digits == 0)
			c->left = 0;
		if (++c->digits > CHUNK_DIGITS_MAX || c->left > CHUNK_MAX / 16)
			return http1_refuse(why, "a chunk size is too large");
		c->left = c->left * 16 + (uint64_t)digit;
		return HTTP1_MORE;
	}
	if (c->digits == 0)
		return http1_refuse(why, "a chunk size is missing");
	if (c->left > CHUNK_MAX)
		return http1_refuse(why, "a chunk size is too large");
	if (byte == '\r')
		c->state = HTTP1_CHUNK_SIZE_LF;
	else if (byte == ';')
		c->state = HTTP1_CHUNK_EXT;
	else
		return http1_refuse(why, "invalid byte after a chunk size");
	return HTTP1_MORE;
}

static enum http1_result extension_byte(struct http1_chunked *c, char byte, const char **why)
{
	if (byte == '\r') {
		c->state = HTTP1_CHUNK_SIZE_LF;
		return HTTP1_MORE;
	}
	if (((uint8_t)byte < 0x20 && byte != '\t') || byte == 0x7f)
		return http1_refuse(why, "control byte in a chunk extension");
	if (++c->ext_len > HTTP1_CHUNK_EXT_MAX)
		return http1_refuse(why, "chunk extensions are too long");
	return HTTP1_MORE;
}

/* One byte that is not data. DONE: the last chunk's size line ended. */
static enum http1_result frame_byte(struct http1_chunked *c, char byte, const char **why)
{
	switch (c->state) {
	case HTTP1_CHUNK_SIZE:
		return size_byte(c, byte, why);
	case HTTP1_CHUNK_EXT:
		return extension_byte(c, byte, why);
	case HTTP1_CHUNK_SIZE_LF:
		if (byte != '\n')
			return http1_refuse(why, "CR without LF after a chunk size");
		c->state = c->left ? HTTP1_CHUNK_DATA : HTTP1_CHUNK_TRAILER;
		c->digits = 0;
		return c->left ? HTTP1_MORE : HTTP1_DONE;
	case HTTP1_CHUNK_DATA_CR:
		if (byte != '\r')
			return http1_refuse(why, "a chunk is longer than its size");
		c->state = HTTP1_CHUNK_DATA_LF;
		return HTTP1_MORE;
	case HTTP1_CHUNK_DATA_LF:
		if (byte != '\n')
			return http1_refuse(why, "CR without LF after a chunk");
		c->state = HTTP1_CHUNK_SIZE;
		return HTTP1_MORE;
	default:
		ensure(!"a state without framing bytes");
	}
}

enum http1_result http1_dechunk(struct http1_chunked *c, char *p, size_t *len, size_t *ret_used,
				const char **why)
{
	enum http1_result r = HTTP1_MORE;
	size_t in = 0, out = 0;

	if (c->state == HTTP1_CHUNK_TRAILER || c->state == HTTP1_CHUNK_END)
		r = HTTP1_DONE;
	while (in < *len && r == HTTP1_MORE) {
		if (c->state == HTTP1_CHUNK_DATA) {
			size_t n = (size_t)MIN(c->left, *len - in);

			if (out != in)
				memmove(p + out, p + in, n);
			in += n;
			out += n;
			c->left -= n;
			if (!c->left)
				c->state = HTTP1_CHUNK_DATA_CR;
			continue;
		}
		r = frame_byte(c, p[in++], why);
	}
	*len = out;
	*ret_used = in;
	return r;
}

/* Fields that decide how the message is framed, routed, authorised or read, and so cannot come
 * after it (RFC 9110, 6.5.1). The known ones are refused by their kind. */
static bool may_trail(const struct http1_header *h)
{
	static const char *const never[] = {
		"authorization", "proxy-authorization", "proxy-authenticate", "www-authenticate",
		"cookie",	 "set-cookie",		"content-encoding",   "content-range",
		"range",	 "cache-control",	"max-forwards",	      "if-match",
		"if-none-match", "if-range",		"if-modified-since",  "if-unmodified-since",
		"location",	 "vary",		"x-forwarded-port",   "x-real-ip",
	};

	if (h->known)
		return false;
	for (size_t i = 0; i < ARRAY_LEN(never); i++)
		if (http1_is(h->name, never[i]))
			return false;
	return true;
}

enum http1_result http1_trailer(const char *p, size_t len, size_t *scanned, struct http1_head *ret,
				const char **why)
{
	const struct http1_shape shape = {.limit = HTTP1_TRAILER_MAX, .may_be_empty = true};
	enum http1_result r = http1_find_end(p, len, &shape, scanned, why);
	uint32_t twice;
	const char *end;

	if (r == HTTP1_LONG_LINE || r == HTTP1_LONG_HEAD) {
		*why = "the trailer section is too long";
		return HTTP1_LONG_HEAD;
	}
	if (r != HTTP1_DONE)
		return r;
	/* The search stopped at the CR of the empty line. */
	r = http1_fields(p, p + *scanned + 2, HTTP1_HEADERS_MAX, ret, &twice, &end, why);
	if (r != HTTP1_DONE)
		return r;
	for (uint32_t i = 0; i < ret->header_count; i++)
		if (!may_trail(&ret->headers[i]))
			return http1_refuse(why, "a field that must not stand in a trailer");
	ret->head_len = (uint32_t)(end - p);
	return HTTP1_DONE;
}
