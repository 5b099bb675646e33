/* SPDX-License-Identifier: Apache-2.0
 *
 * A line at a time: status line, fields, chunk sizes and trailers all end in CRLF, so
 * one function collects a line and one switch says what the line is. Only data of
 * bodies goes around it.
 */
#include "answer.h"

#include <string.h>
#include <strings.h>

void answer_begin(struct answer *a, size_t body_max)
{
	struct buf line = a->line, body = a->body;

	*a = (struct answer){.line = line, .body = body, .keep_alive = true};
	a->line.len = 0;
	a->line.max = ANSWER_HEAD_MAX;
	a->line.failed = false;
	a->body.len = 0;
	a->body.max = body_max;
	a->body.failed = false;
}

void answer_free(struct answer *a)
{
	buf_free(&a->line);
	buf_free(&a->body);
}

static enum answer_result bad(struct answer *a, const char *why)
{
	a->why = why;
	return ANSWER_BAD;
}

static bool is_token(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		unsigned char c = (unsigned char)p[i];

		if (c <= ' ' || c >= 127 || strchr("\"(),/:;<=>?@[\\]{}", c))
			return false;
	}
	return len > 0;
}

static bool is_text(const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++)
		if (((unsigned char)p[i] < ' ' && p[i] != '\t') || p[i] == 127)
			return false;
	return true;
}

/* RFC 9112, 4: HTTP/1.x SP 3DIGIT SP reason. */
static enum answer_result status_line(struct answer *a, const char *p, size_t len)
{
	if (len < 13 || memcmp(p, "HTTP/1.", 7) != 0 || (p[7] != '0' && p[7] != '1') || p[8] != ' ')
		return bad(a, "the status line is not one of HTTP/1.x");
	for (int i = 9; i < 12; i++)
		if (p[i] < '0' || p[i] > '9')
			return bad(a, "the status is not three digits");
	if (p[9] == '0' || p[12] != ' ' || !is_text(p, len))
		return bad(a, "the status line is malformed");
	a->minor = (uint8_t)(p[7] - '0');
	a->status = (uint16_t)((p[9] - '0') * 100 + (p[10] - '0') * 10 + (p[11] - '0'));
	a->keep_alive = a->minor == 1;
	if (a->status == 101)
		return bad(a, "101 was not asked for");
	return ANSWER_MORE;
}

static bool same(const char *p, size_t len, const char *word)
{
	return len == strlen(word) && strncasecmp(p, word, len) == 0;
}

static enum answer_result content_length(struct answer *a, const char *p, size_t len)
{
	uint64_t n = 0;

	if (a->counted)
		return bad(a, "Content-Length stands there twice");
	if (len == 0 || len > 18)
		return bad(a, "Content-Length is not a number");
	for (size_t i = 0; i < len; i++) {
		if (p[i] < '0' || p[i] > '9')
			return bad(a, "Content-Length is not a number");
		n = n * 10 + (uint64_t)(p[i] - '0');
	}
	a->counted = true;
	a->left = n;
	return ANSWER_MORE;
}

static void connection(struct answer *a, const char *p, size_t len)
{
	const char *end = p + len;

	while (p < end) {
		const char *comma = memchr(p, ',', (size_t)(end - p));
		const char *last = comma ? comma : end;
		const char *next = comma ? comma + 1 : end;

		while (p < last && (*p == ' ' || *p == '\t'))
			p++;
		while (last > p && (last[-1] == ' ' || last[-1] == '\t'))
			last--;
		if (same(p, (size_t)(last - p), "close"))
			a->keep_alive = false;
		p = next;
	}
}

static enum answer_result field(struct answer *a, const char *p, size_t len)
{
	const char *colon = memchr(p, ':', len), *value, *end = p + len;

	if (!colon || !is_token(p, (size_t)(colon - p)))
		return bad(a, "a field has no proper name");
	value = colon + 1;
	while (value < end && (*value == ' ' || *value == '\t'))
		value++;
	while (end > value && (end[-1] == ' ' || end[-1] == '\t'))
		end--;
	if (!is_text(value, (size_t)(end - value)))
		return bad(a, "a field holds control characters");
	if (a->at == ANSWER_TRAILER)
		return ANSWER_MORE;
	if (same(p, (size_t)(colon - p), "content-length"))
		return content_length(a, value, (size_t)(end - value));
	if (same(p, (size_t)(colon - p), "transfer-encoding")) {
		if (a->chunked || !same(value, (size_t)(end - value), "chunked"))
			return bad(a, "Transfer-Encoding is not just chunked");
		a->chunked = true;
	}
	if (same(p, (size_t)(colon - p), "connection"))
		connection(a, value, (size_t)(end - value));
	return ANSWER_MORE;
}

static enum answer_result complete(struct answer *a)
{
	a->at = ANSWER_COMPLETE;
	return ANSWER_DONE;
}

/* The empty line after the fields: what follows? RFC 9112, 6.3. */
static enum answer_result head_end(struct answer *a)
{
	if (a->status < 200) {
		if (a->counted || a->chunked)
			return bad(a, "an interim answer has a body");
		a->status = 0;
		return ANSWER_MORE;
	}
	if (a->counted && a->chunked)
		return bad(a, "both Content-Length and Transfer-Encoding");
	if (a->status == 204 || a->status == 304)
		return complete(a);
	if (a->chunked) {
		a->at = ANSWER_CHUNK_SIZE;
		return ANSWER_MORE;
	}
	if (!a->counted)
		return bad(a, "neither Content-Length nor chunks: its end cannot be proved");
	if (!a->left)
		return complete(a);
	a->at = ANSWER_COUNTED;
	return ANSWER_MORE;
}

/* RFC 9112, 7.1: hexadecimal size, extensions after ';'. */
static enum answer_result chunk_size(struct answer *a, const char *p, size_t len)
{
	size_t i;
	uint64_t n = 0;

	for (i = 0; i < len && i < 15; i++) {
		char c = p[i];

		if (c >= '0' && c <= '9')
			n = n * 16 + (uint64_t)(c - '0');
		else if ((c | 32) >= 'a' && (c | 32) <= 'f')
			n = n * 16 + (uint64_t)((c | 32) - 'a' + 10);
		else
			break;
	}
	if (i == 0 || (i < len && p[i] != ';') || !is_text(p, len))
		return bad(a, "a chunk's size is malformed");
	a->left = n;
	a->at = n ? ANSWER_CHUNK_DATA : ANSWER_TRAILER;
	return ANSWER_MORE;
}

static enum answer_result take_line(struct answer *a, const char *p, size_t len)
{
	switch (a->at) {
	case ANSWER_HEAD:
		if (!a->status)
			return status_line(a, p, len);
		return len ? field(a, p, len) : head_end(a);
	case ANSWER_CHUNK_SIZE:
		return chunk_size(a, p, len);
	case ANSWER_CHUNK_END:
		a->at = ANSWER_CHUNK_SIZE;
		return len ? bad(a, "a chunk is longer than it says") : ANSWER_MORE;
	case ANSWER_TRAILER:
		return len ? field(a, p, len) : complete(a);
	default:
		return bad(a, "unreachable");
	}
}

/* Collects a line; *ret_used bytes were taken. */
static enum answer_result feed_line(struct answer *a, const char *p, size_t len, size_t *ret_used)
{
	const char *lf = memchr(p, '\n', len);
	size_t take = lf ? (size_t)(lf - p) + 1 : len;
	enum answer_result r;

	*ret_used = take;
	/* A chunk's data ends where it says: no byte of a longer one is waited for. */
	if (a->at == ANSWER_CHUNK_END && ((a->line.len == 0 && p[0] != '\r') || a->line.len > 1))
		return bad(a, "a chunk is longer than it says");
	buf_add(&a->line, p, take);
	a->fields_len += a->at == ANSWER_HEAD || a->at == ANSWER_TRAILER ? take : 0;
	if (a->line.failed || a->fields_len > ANSWER_HEAD_MAX)
		return bad(a, "the head is too long");
	if (!lf)
		return ANSWER_MORE;
	if (a->line.len < 2 || a->line.data[a->line.len - 2] != '\r')
		return bad(a, "a line ends without CR");
	r = take_line(a, a->line.data, a->line.len - 2);
	a->line.len = 0;
	return r;
}

static enum answer_result feed_data(struct answer *a, const char *p, size_t len, size_t *ret_used)
{
	size_t take = (size_t)MIN((uint64_t)len, a->left);

	*ret_used = take;
	buf_add(&a->body, p, take);
	if (a->body.failed)
		return bad(a, "the body is longer than any that was asked for");
	a->left -= take;
	if (a->left)
		return ANSWER_MORE;
	if (a->at == ANSWER_COUNTED)
		return complete(a);
	a->at = ANSWER_CHUNK_END;
	return ANSWER_MORE;
}

enum answer_result answer_feed(struct answer *a, const char *p, size_t len, size_t *ret_used)
{
	size_t used = 0, n = 0;
	enum answer_result r = a->at == ANSWER_COMPLETE ? ANSWER_DONE : ANSWER_MORE;

	while (r == ANSWER_MORE && used < len) {
		a->begun = true;
		if (a->at == ANSWER_COUNTED || a->at == ANSWER_CHUNK_DATA)
			r = feed_data(a, p + used, len - used, &n);
		else
			r = feed_line(a, p + used, len - used, &n);
		used += n;
	}
	*ret_used = used;
	return r;
}
