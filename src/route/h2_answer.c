/* SPDX-License-Identifier: Apache-2.0
 *
 * The text of an answer in HTTP/1.1, as an exchange sends it, taken apart into the frames
 * of its stream. The text was made by us, of an answer that was checked: a head comes whole,
 * a trailer section does too, and whatever does not fit is refused whole, to come again.
 *
 *	HEAD ──1xx──> HEAD
 *	  └──> BODY ──length reached──> OVER
 *	         └──last chunk──> TRAILER ──> OVER
 *
 * A stream whose text ends before OVER is reset: a cut answer never looks like a whole one.
 */
#include "route/h2_priv.h"

/* --- fields --- */

static bool is_left_out(const struct h2_stream *s, const struct http1_head *head,
			const struct http1_header *f)
{
	static const char accept[] = "sec-websocket-accept";

	/* RFC 8441, 5: what proves the switch in HTTP/1.1 has no place here. */
	return http1_is_hop(head, f) || (s->tunnel && http1_is(f->name, accept));
}

/* nghttp2 copies names and values, and makes the names lower case. */
static size_t fields_of(const struct h2_stream *s, const struct http1_head *head, nghttp2_nv *ret)
{
	size_t n = 0;

	for (uint32_t i = 0; i < head->header_count; i++) {
		const struct http1_header *f = &head->headers[i];

		if (is_left_out(s, head, f))
			continue;
		ret[n++] = (nghttp2_nv){.name = (uint8_t *)f->name.p, .namelen = f->name.len,
					.value = (uint8_t *)f->value.p, .valuelen = f->value.len};
	}
	return n;
}

static nghttp2_nv status_field(uint16_t status, char text[4])
{
	snprintf(text, 4, "%u", status % 1000u);
	return (nghttp2_nv){.name = (uint8_t *)":status", .namelen = 7, .value = (uint8_t *)text,
			    .valuelen = 3};
}

/* --- body --- */

/* The client made us cut small what could have been more: cheap for it, not for us. */
static void note_tiny(struct h2_stream *s, size_t length)
{
	if (length < H2_TINY && length < s->out->len)
		h2_note(s->h2, FLOOD_TINY);
}

static ssize_t on_read(nghttp2_session *ng UNUSED, int32_t id UNUSED, uint8_t *p UNUSED, size_t length,
		       uint32_t *flags, nghttp2_data_source *source, void *user UNUSED)
{
	struct h2_stream *s = source->ptr;
	const struct buffer *out = s->client.conn.t->h2_out;
	uint32_t len = s->out ? s->out->len : 0;

	if (!len && s->state != OUT_OVER) {
		s->deferred = true;
		return NGHTTP2_ERR_DEFERRED;
	}
	if (out->cap - out->len < MIN(len, length) + 9) {
		s->h2->full = true;
		return NGHTTP2_ERR_PAUSE;
	}
	*flags |= NGHTTP2_DATA_FLAG_NO_COPY;
	if (len > length) {
		note_tiny(s, length);
		return (ssize_t)length;
	}
	if (s->state == OUT_OVER) {
		*flags |= NGHTTP2_DATA_FLAG_EOF;
		if (s->out_trailer && h2_submit_trailer(s) == 0)
			*flags |= NGHTTP2_DATA_FLAG_NO_END_STREAM;
	}
	return (ssize_t)len;
}

static void resume(struct h2_stream *s)
{
	if (!s->deferred)
		return;
	s->deferred = false;
	nghttp2_session_resume_data(s->h2->ng, s->id);
}

/* --- head --- */

static int submit_answer(struct h2_stream *s, const nghttp2_nv *nv, size_t n)
{
	nghttp2_data_provider body = {.source.ptr = s, .read_callback = on_read};

	s->submitted = true;
	return nghttp2_submit_response(s->h2->ng, s->id, nv, n, s->state == OUT_OVER ? NULL : &body);
}

static ssize_t take_head(struct h2_stream *s, const char *p, size_t len)
{
	const struct http1_limits limits = {.head_bytes = UINT32_MAX, .headers = HTTP1_HEADERS_MAX};
	struct http1_head *head = &s->client.conn.t->head;
	nghttp2_nv nv[HTTP1_HEADERS_MAX + 1];
	char status[4];
	size_t scanned = 0, n;
	const char *why;

	if (http1_answer(p, len, &scanned, &limits, s->is_head, false, head, &why) != HTTP1_DONE)
		return -1;
	n = 1 + fields_of(s, head, nv + 1);
	nv[0] = status_field(head->status == 101 ? 200 : head->status, status);
	if (head->status / 100 == 1 && head->status != 101)
		return nghttp2_submit_headers(s->h2->ng, NGHTTP2_FLAG_NONE, s->id, NULL, nv, n, NULL)
			       ? -1 : (ssize_t)head->head_len;
	if (head->framing == HTTP1_BODY_CLOSE || (head->framing == HTTP1_TUNNEL && !s->tunnel))
		return -1;
	s->framing = head->framing;
	s->left = head->length;
	s->state = head->framing == HTTP1_BODY_NONE ? OUT_OVER : OUT_BODY;
	return submit_answer(s, nv, n) ? -1 : (ssize_t)head->head_len;
}

/* --- what comes after it --- */

/* Room at the end of what waits to be sent; 0: none. */
static uint32_t out_room(struct h2_stream *s, size_t len)
{
	struct thread *t = s->client.conn.t;
	struct buffer *b = s->out;

	if (!b)
		b = s->out = buffer_get(t, len <= BUFFER_SMALL ? BUFFER_SMALL : BUFFER_LARGE);
	if (!b)
		return 0;
	if (b->at && b->at + b->len == b->cap) {
		memmove(b->data, b->data + b->at, b->len);
		b->at = 0;
	}
	return b->cap - b->at - b->len;
}

static ssize_t take_body(struct h2_stream *s, const char *p, size_t len)
{
	uint32_t n = (uint32_t)MIN(out_room(s, len), len);
	char *to;
	size_t data, used;
	const char *why;
	enum http1_result r = HTTP1_MORE;

	if (!n)
		return s->out ? 0 : -1;
	if (s->framing == HTTP1_BODY_LENGTH)
		n = (uint32_t)MIN(n, s->left);
	to = s->out->data + s->out->at + s->out->len;
	memcpy(to, p, n);
	data = used = n;
	if (s->framing == HTTP1_BODY_CHUNKED)
		r = http1_dechunk(&s->dechunk, to, &data, &used, &why);
	if (r == HTTP1_BAD)
		return -1;
	s->out->len += (uint32_t)data;
	s->left -= s->framing == HTTP1_BODY_LENGTH ? n : 0;
	if (r == HTTP1_DONE)
		s->state = OUT_TRAILER;
	else if (s->framing == HTTP1_BODY_LENGTH && !s->left)
		s->state = OUT_OVER;
	if (!s->out->len)
		buffer_put(s->client.conn.t, &s->out);
	resume(s);
	return (ssize_t)used;
}

static ssize_t take_trailer(struct h2_stream *s, const char *p, size_t len)
{
	struct thread *t = s->client.conn.t;
	size_t scanned = 0;
	const char *why;

	if (http1_trailer(p, len, &scanned, &t->head, &why) != HTTP1_DONE)
		return -1;
	if (t->head.header_count) {
		s->out_trailer = buffer_get(t, t->head.head_len);
		if (!s->out_trailer)
			return -1;
		memcpy(s->out_trailer->data, p, t->head.head_len);
		s->out_trailer->len = t->head.head_len;
	}
	s->state = OUT_OVER;
	resume(s);
	return (ssize_t)t->head.head_len;
}

int h2_submit_trailer(struct h2_stream *s)
{
	struct http1_head *head = &s->client.conn.t->head;
	struct buffer *b = s->out_trailer;
	nghttp2_nv nv[HTTP1_HEADERS_MAX];
	size_t scanned = 0;
	const char *why;

	if (http1_trailer(b->data, b->len, &scanned, head, &why) != HTTP1_DONE)
		return -1;
	return nghttp2_submit_trailer(s->h2->ng, s->id, nv, fields_of(s, head, nv));
}

ssize_t h2_take(struct h2_stream *s, const char *p, size_t len)
{
	size_t took = 0;

	while (took < len) {
		ssize_t n = 0;

		switch (s->state) {
		case OUT_HEAD:
			n = take_head(s, p + took, len - took);
			break;
		case OUT_BODY:
			n = take_body(s, p + took, len - took);
			break;
		case OUT_TRAILER:
			n = take_trailer(s, p + took, len - took);
			break;
		case OUT_OVER: /* of an error page to HEAD, say */
			return (ssize_t)len;
		}
		if (n < 0)
			return -1;
		if (n == 0)
			break;
		took += (size_t)n;
	}
	return (ssize_t)took;
}
