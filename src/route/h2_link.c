/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection that speaks HTTP/2, whoever is at its other end: an nghttp2 session.
 *
 * Frames of all streams that a turn made are sent in one write. What the socket does not
 * take waits here, bounded; then nothing more is asked of nghttp2, streams fill up, and
 * their exchanges wait.
 */
#include "route/h2_priv.h"

void h2_flush_soon(struct h2_link *l)
{
	if (!list_linked(&l->in_flush))
		list_add_tail(&l->conn->t->h2_flush, &l->in_flush);
}

void h2_note(struct h2_link *l, enum flood_kind kind)
{
	if (!flood_note(&l->flood, kind, l->conn->t->loop.now_ms))
		l->role->calm(l);
}

void h2_note_control(struct h2_link *l, uint8_t type)
{
	switch (type) {
	case NGHTTP2_SETTINGS:
		h2_note(l, FLOOD_SETTINGS);
		break;
	case NGHTTP2_PING:
		h2_note(l, FLOOD_PING);
		break;
	case NGHTTP2_WINDOW_UPDATE:
		h2_note(l, FLOOD_WINDOW);
		break;
	default:
		h2_note(l, FLOOD_PRIORITY);
	}
}

/* --- reading --- */

ssize_t h2_link_feed(struct h2_link *l)
{
	struct buffer *b = l->conn->in;
	ssize_t n = nghttp2_session_mem_recv(l->ng, (const uint8_t *)b->data + b->at, b->len);

	b->len = 0;
	if (n == NGHTTP2_ERR_FLOODED)
		shm_add(&l->conn->t->n->h2_calmed, 1);
	return n;
}

bool h2_link_begin(struct h2_link *l, struct h2_flow *f, struct buffer **text, uint32_t most, enum h2_head_kind kind)
{
	*text = buffer_get(l->conn->t, BUFFER_SMALL);
	if (!*text)
		return false;
	h2_head_begin(&l->head, (*text)->data, (*text)->cap, most, kind);
	l->reading = f;
	l->text = text;
	return true;
}

static bool more_room(struct h2_link *l)
{
	struct thread *t = l->conn->t;
	struct buffer *more = buffer_get(t, (*l->text)->cap * 2);

	if (!more) {
		l->head.why = "out of memory";
		return false;
	}
	memcpy(more->data, (*l->text)->data, l->head.len);
	buffer_put(t, l->text);
	*l->text = more;
	l->head.p = more->data;
	l->head.cap = more->cap;
	return true;
}

static void note_result(struct h2_link *l, enum http1_result r)
{
	struct h2_flow *f = l->reading;

	if (r == HTTP1_DONE || f->refused)
		return;
	f->refused = r == HTTP1_MORE ? HTTP1_LONG_HEAD : r;
	f->why = l->head.why;
}

static int on_header(nghttp2_session *ng UNUSED, const nghttp2_frame *f UNUSED, const uint8_t *name,
		     size_t name_len, const uint8_t *value, size_t value_len, uint8_t flags UNUSED,
		     void *user)
{
	struct h2_link *l = user;
	struct http1_slice n = {(const char *)name, (uint32_t)name_len},
			   v = {(const char *)value, (uint32_t)value_len};
	enum http1_result r;

	l->list_bytes += name_len + value_len + 32;
	if (l->list_bytes > (uint64_t)H2_BOMB * l->most)
		l->role->calm(l);
	if (!l->reading || l->reading->refused)
		return 0;
	do
		r = h2_head_field(&l->head, n, v);
	while (r == HTTP1_MORE && more_room(l));
	note_result(l, r);
	return 0;
}

/* nghttp2 would leave the field out and go on; others may not. */
static int on_invalid_header(nghttp2_session *ng UNUSED, const nghttp2_frame *f UNUSED,
			     const uint8_t *name UNUSED, size_t name_len UNUSED,
			     const uint8_t *value UNUSED, size_t value_len UNUSED,
			     uint8_t flags UNUSED, void *user UNUSED)
{
	return NGHTTP2_ERR_TEMPORAL_CALLBACK_FAILURE;
}

void h2_link_end(struct h2_link *l, bool ended, const char *key)
{
	enum http1_result r;
	struct buffer *b;

	do
		r = l->reading->refused ? HTTP1_DONE : h2_head_end(&l->head, ended, key);
	while (r == HTTP1_MORE && more_room(l));
	note_result(l, r);
	b = *l->text;
	b->at = l->head.start;
	b->len = l->head.len - l->head.start;
	l->reading = NULL;
}

/* --- writing --- */

/* Sends b; what is left stays in it. 1: all out; 0: the socket takes no more; -1: broken. */
static int send_buffer(struct h2_link *l, struct buffer *b)
{
	struct out o = {0};
	uint64_t sent = 0;
	uint32_t writes = 0;
	int n;

	if (!b->len)
		return 1;
	out_set_head(&o, b->data + b->at, b->len);
	n = conn_send(l->conn, &o, &sent, &writes);
	l->writes += writes;
	b->at += (uint32_t)sent;
	b->len -= (uint32_t)sent;
	return n < 0 ? -1 : n;
}

static int send_left(struct h2_link *l)
{
	int n = l->left ? send_buffer(l, l->left) : 1;

	if (n == 1)
		buffer_put(l->conn->t, &l->left);
	return n;
}

static int keep_left(struct h2_link *l, const struct buffer *b)
{
	l->left = buffer_get(l->conn->t, b->len);
	if (!l->left)
		return -1;
	memcpy(l->left->data, b->data + b->at, b->len);
	l->left->len = b->len;
	return 0;
}

/* Takes frames out of nghttp2, as many as fit. 1: there may be more; 0: that was all; -1: broken. */
static int collect(struct h2_link *l, struct buffer *b)
{
	b->at = b->len = 0;
	while (b->cap - b->len >= H2_FRAME) {
		const uint8_t *p;
		ssize_t n;

		l->full = false;
		n = nghttp2_session_mem_send(l->ng, &p);
		if (n <= 0)
			return n < 0 ? -1 : l->full;
		ensure((size_t)n <= b->cap - b->len);
		memcpy(b->data + b->len, p, (size_t)n);
		b->len += (uint32_t)n;
	}
	return 1;
}

/* 1: all out; 0: wait; -1: broken. */
static int send_all(struct h2_link *l)
{
	struct buffer *b = l->conn->t->h2_out;

	for (;;) {
		int n = send_left(l), more;

		if (n <= 0)
			return n;
		more = collect(l, b);
		if (more < 0)
			return -1;
		n = send_buffer(l, b);
		if (n == 0)
			n = keep_left(l, b);
		if (n <= 0 || !more)
			return n;
	}
}

void h2_flush(struct thread *t)
{
	while (!list_empty(&t->h2_flush)) {
		struct h2_link *l = container_of(t->h2_flush.next, struct h2_link, in_flush);

		list_del(&l->in_flush);
		l->role->flushed(l, send_all(l));
	}
}

/* --- memory ---
 *
 * A session holds a buffer of 16 KiB in which a frame is made, from one call of
 * nghttp2_session_mem_send() to the next. No frame of ours is left in there (what a call returns is
 * copied at once; of DATA, only its head is made there, and only when there is room for the whole:
 * a flow pauses else), so all sessions of a thread share one: it is most of what an idle
 * connection would take. */

static bool is_shared(const struct h2_link *l, const void *p)
{
	return p && p == l->conn->t->h2_frame;
}

static void *mem_realloc(void *p, size_t n, void *user)
{
	struct h2_link *l = user;
	struct thread *t = l->conn->t;
	void *more;

	if (!p && l->making && n >= H2_FRAME_MIN && n <= H2_FRAME) {
		l->making = false; /* one for each session; a frame in several pieces has more */
		if (!t->h2_frame)
			t->h2_frame = malloc(H2_FRAME);
		return t->h2_frame;
	}
	if (!is_shared(l, p))
		return realloc(p, n);
	if (n <= H2_FRAME)
		return p;
	more = malloc(n);
	return more ? memcpy(more, p, H2_FRAME) : NULL;
}

static void *mem_malloc(size_t n, void *user)
{
	return mem_realloc(NULL, n, user);
}

static void *mem_calloc(size_t n, size_t size, void *user UNUSED)
{
	return calloc(n, size);
}

static void mem_free(void *p, void *user)
{
	if (!is_shared(user, p))
		free(p);
}

/* --- its life --- */

/* What a client's session begins with lies in that shared buffer from the start: others would write over it. */
static bool take_preface(struct h2_link *l)
{
	const uint8_t *p;
	ssize_t n = nghttp2_session_mem_send(l->ng, &p);

	l->left = n > 0 ? buffer_get(l->conn->t, (uint32_t)n) : NULL;
	if (!l->left)
		return false;
	memcpy(l->left->data, p, (size_t)n);
	l->left->len = (uint32_t)n;
	return true;
}

bool h2_link_open(struct h2_link *l, bool server, void (*more)(nghttp2_session_callbacks *cb))
{
	nghttp2_mem mem = {l, mem_malloc, mem_free, mem_calloc, mem_realloc};
	nghttp2_session_callbacks *cb = NULL;
	nghttp2_option *o = NULL;
	struct thread *t = l->conn->t;

	if (!t->h2_out) /* the first of this thread */
		t->h2_out = buffer_get(t, H2_OUT);
	if (t->h2_out && nghttp2_session_callbacks_new(&cb) == 0 && nghttp2_option_new(&o) == 0) {
		nghttp2_option_set_no_auto_window_update(o, 1);
		nghttp2_option_set_no_closed_streams(o, 1);
		nghttp2_option_set_max_deflate_dynamic_table_size(o, H2_TABLE_OUT);
		nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
		nghttp2_session_callbacks_set_on_invalid_header_callback(cb, on_invalid_header);
		nghttp2_session_callbacks_set_send_data_callback(cb, h2_flow_send_data);
		more(cb);
		l->making = true;
		if ((server ? nghttp2_session_server_new3(&l->ng, cb, l, o, &mem)
			    : nghttp2_session_client_new3(&l->ng, cb, l, o, &mem)) != 0)
			l->ng = NULL;
		l->making = false;
	}
	nghttp2_session_callbacks_del(cb);
	nghttp2_option_del(o);
	return l->ng && (server || take_preface(l));
}

void h2_link_fini(struct h2_link *l)
{
	list_del(&l->in_flush);
	nghttp2_session_del(l->ng);
	l->ng = NULL;
	buffer_put(l->conn->t, &l->left);
}
