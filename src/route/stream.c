/* SPDX-License-Identifier: Apache-2.0
 *
 * One direction of an exchange: bytes are read into the buffer of the connection
 * they come from, looked at (framing), and sent from where they lie. The next
 * read happens when the last piece is out: that is the back-pressure, and the
 * bound on memory.
 *
 *	read ──> piece in the buffer ──> out: [head] [size line] [data] [CRLF, last chunk, trailer]
 *	  ^                                                                          │
 *	  └──────────────────────────── sent, consumed ──────────────────────────────┘
 */
#include "route/route_priv.h"

void stream_start(struct stream *s, struct conn *from, struct conn *to,
		  enum http1_framing framing, uint64_t length, bool to_chunked)
{
	s->from = from;
	s->to = to;
	s->framing = framing;
	s->to_chunked = to_chunked;
	s->pass_trailer = false;
	s->piece = s->over = s->in_trailer = false;
	s->ended = framing == HTTP1_BODY_NONE;
	s->left = length;
	s->most = s->bytes = s->sent = 0;
	s->writes = s->used = 0;
	s->wrong = 0;
	s->watch.kind = BOUNDARY_NONE;
	s->chunked = (struct http1_chunked){0};
}

static struct buffer *filled(const struct stream *s)
{
	struct buffer *in = s->from->in;

	return in && in->len ? in : NULL;
}

/* Puts a piece of data into `out`, framed as the other side wants it. */
static void add_data(struct stream *s, const char *p, size_t len)
{
	if (!len)
		return;
	s->bytes += len;
	if (s->watch.kind)
		boundary_feed(&s->watch, p, len);
	if (s->to_chunked) {
		int n = snprintf(s->size_line, sizeof(s->size_line), "%zx\r\n", len);

		out_add(&s->out, s->size_line, (size_t)n);
	}
	out_add(&s->out, p, len);
}

/* The end of a chunk that may have been there, the last chunk, and a trailer section that was
 * checked (it ends with its empty line). */
static void add_end(struct stream *s, bool after_data, const char *trailer, size_t len)
{
	static const char end[] = "\r\n0\r\n\r\n";

	s->ended = true;
	if (!s->to_chunked)
		return;
	out_add(&s->out, after_data ? end : end + 2, (after_data ? 5 : 3) + (len ? 0 : 2));
	if (len)
		out_add(&s->out, trailer, len);
}

static enum stream_result take_trailer(struct stream *s, const char *p, uint32_t len, uint32_t used,
				       bool after_data)
{
	struct http1_head *fields = &s->from->t->head;
	const char *why;
	size_t scanned = 0;
	enum http1_result r = http1_trailer(p, len, &scanned, fields, &why);

	if (r == HTTP1_MORE) {
		if (after_data && s->to_chunked)
			out_add(&s->out, "\r\n", 2);
		s->used = used;
		return STREAM_WAIT_FROM;
	}
	if (r != HTTP1_DONE)
		return STREAM_BAD;
	add_end(s, after_data, p, s->pass_trailer && fields->header_count ? fields->head_len : 0);
	s->used = used + fields->head_len;
	return STREAM_OVER;
}

static enum stream_result fill_chunked(struct stream *s, struct buffer *in)
{
	char *p = in->data + in->at;
	size_t len = in->len, used;
	const char *why;
	enum http1_result r;

	if (s->in_trailer) {
		enum stream_result t = take_trailer(s, p, in->len, 0, false);

		s->piece = t == STREAM_OVER;
		return t;
	}
	r = http1_dechunk(&s->chunked, p, &len, &used, &why);
	if (r == HTTP1_BAD)
		return STREAM_BAD;
	if (s->most && s->bytes + len > s->most)
		return STREAM_TOO_LARGE;
	add_data(s, p, len);
	s->used = (uint32_t)used;
	if (r == HTTP1_DONE) {
		s->in_trailer = true;
		if (take_trailer(s, p + used, in->len - (uint32_t)used, (uint32_t)used, len > 0) ==
		    STREAM_BAD)
			return STREAM_BAD;
	} else if (len && s->to_chunked) {
		out_add(&s->out, "\r\n", 2);
	}
	/* Bytes of framing only: taken, and nothing to send for them. */
	s->piece = true;
	return STREAM_OVER;
}

enum stream_result stream_fill(struct stream *s)
{
	struct buffer *in = filled(s);
	uint32_t n;

	if (s->wrong)
		return (enum stream_result)s->wrong;
	if (s->piece || s->ended || !in)
		return STREAM_OVER;
	if (s->framing == HTTP1_BODY_CHUNKED) {
		enum stream_result r = fill_chunked(s, in);

		/* Decoding is done in place: what was looked at once cannot be looked at again. */
		if (r == STREAM_BAD || r == STREAM_TOO_LARGE)
			s->wrong = (int)r;
		return r;
	}
	n = s->framing == HTTP1_BODY_LENGTH ? (uint32_t)MIN(s->left, in->len) : in->len;
	add_data(s, in->data + in->at, n);
	if (s->to_chunked)
		out_add(&s->out, "\r\n", 2);
	s->left -= s->framing == HTTP1_BODY_LENGTH ? n : 0;
	s->ended = s->framing == HTTP1_BODY_LENGTH && s->left == 0;
	s->used = n;
	s->piece = true;
	return STREAM_OVER;
}

void stream_consumed(struct stream *s)
{
	struct buffer *in = s->from->in;

	s->piece = false;
	in->at += s->used;
	in->len -= s->used;
	s->used = 0;
}

static enum stream_result read_more(struct stream *s)
{
	int n;

	if (!s->from->readable)
		return STREAM_WAIT_FROM;
	n = conn_read(s->from);
	if (n > 0)
		return STREAM_OVER;
	if (n == -EAGAIN)
		return STREAM_WAIT_FROM;
	if (n == -ENOMEM)
		return STREAM_NO_MEMORY;
	if (n == -ENOBUFS) /* a trailer that does not end */
		return STREAM_BAD;
	if (n < 0) {
		errno = -n;
		return STREAM_FROM_BROKE;
	}
	if (s->framing == HTTP1_BODY_CLOSE) {
		add_end(s, false, NULL, 0);
		return STREAM_OVER;
	}
	if (s->framing == HTTP1_TUNNEL) {
		s->ended = true;
		return STREAM_OVER;
	}
	return STREAM_FROM_ENDED;
}

enum stream_result stream_pump(struct stream *s)
{
	for (int round = 0;;) {
		enum stream_result r = stream_fill(s);
		int n;

		if (r != STREAM_OVER && r != STREAM_WAIT_FROM)
			return r;
		n = conn_send(s->to, &s->out, &s->sent, &s->writes);
		if (n < 0) {
			errno = -n;
			return STREAM_TO_BROKE;
		}
		if (n == 0)
			return STREAM_WAIT_TO;
		if (s->piece) {
			stream_consumed(s);
			continue;
		}
		if (s->ended) {
			s->over = true;
			return STREAM_OVER;
		}
		if (round++ == PUMP_ROUNDS)
			return STREAM_AGAIN;
		r = read_more(s);
		if (r != STREAM_OVER)
			return r;
	}
}
