/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection to a target that speaks HTTP/2: one nghttp2 session over it, and for each stream a
 * connection of its own (h2_ask.c), which everything behind it takes for one that speaks HTTP/1.1. So
 * picking, waiting, retrying, ejecting and counting stay one.
 *
 *	exchanges ──text of requests──> struct upstream, one a stream ──> nghttp2 ──flush──> socket
 *	exchanges <─text of answers─────┘                                 nghttp2 <──read─── socket
 *
 * A thread has few connections to a target, each with as many streams as the target allows; a request
 * that finds no place waits where it can still go elsewhere. The window of a connection is given back as
 * bytes come, that of a stream as they are read: who reads slowly holds up nobody else, and no stream has
 * more than its window here.
 *
 *	CONNECTING ──> OPEN ──GOAWAY, its target leaves, idle for too long──> closing: ends with the last stream
 *	     └──────────┴──it breaks──> streams end: unread if their HEADERS did not go out, or GOAWAY said so
 */
#include "route/h2_priv.h"

/* --- time --- */

static uint32_t ping_ms(const struct h2_up *h)
{
	return MIN(h->target->app->conf.response_ms / 4, H2_PING_MS);
}

/* A connection whose other end has gone without a word (its machine, the way to it) is found out by a PING.
 * A unix socket cannot lose its other end like that. */
static uint64_t ping_due(const struct h2_up *h)
{
	if (h->target->kind != TARGET_TCP || h->connecting || !h->ask_count)
		return UINT64_MAX;
	if (h->pinging || h->pinged_ms < h->heard_ms)
		return MAX(h->heard_ms, h->pinged_ms) + ping_ms(h);
	return h->pinged_ms + MAX(ping_ms(h), H2_PING_AGAIN_MS);
}

static uint64_t due(const struct h2_up *h)
{
	uint64_t at = ping_due(h);

	if (h->linger_ms)
		at = MIN(at, h->linger_ms);
	if (!h->ask_count)
		at = MIN(at, h->idle_since_ms + (h->closing ? H2_END_MS : IDLE_MS));
	return at;
}

void h2_up_wait(struct h2_up *h)
{
	uint64_t at = due(h);

	/* When it is too early, it is set anew. */
	if (at != UINT64_MAX && (!h->timer.armed || at < h->timer.at_ms))
		loop_timer_set(&h->conn.t->loop, &h->timer, at);
}

static void calm(struct h2_link *l)
{
	struct h2_up *h = h2_up_of(l);

	if (h->goodbye)
		return;
	shm_add(&l->conn->t->n->h2_calmed, 1);
	log_info("h2.calmed", "target=%s", h->target->name);
	h->closing = h->goodbye = true;
	nghttp2_session_terminate_session(l->ng, NGHTTP2_ENHANCE_YOUR_CALM);
	h2_flush_soon(l);
}

/* No new streams. */
static void leave(struct h2_up *h)
{
	h->closing = true;
	h2_flush_soon(&h->link); /* whose end looks */
}

/* --- the end --- */

/* error: as errno; 0: the target ended it. */
static void end(struct h2_up *h, int error)
{
	struct thread *t = h->conn.t;
	struct target *g = h->target;

	list_del(&h->in_target); /* nobody gets a stream of it any more */
	while (!list_empty(&h->asks)) {
		struct h2_ask *a = container_of(h->asks.next, struct h2_ask, in_h2);

		a->flow.error = error;
		a->up.unread |= !a->head_made || a->made_at == h->link.writes; /* no byte of it went out */
		a->up.conn.broken = true;
		h2_ask_over(a);
	}
	h2_link_fini(&h->link);
	conn_close(&h->conn);
	loop_timer_fini(&t->loop, &h->timer);
	free(h);
	shm_sub(&g->n->connections, 1);
	target_unref(g);
}

/* It does not work any more. */
static void lost(struct h2_up *h, int error)
{
	if (!h->ask_count && h->old && !h->closing)
		upstream_learn(h->target, h->conn.t->loop.now_ms - h->idle_since_ms);
	end(h, error);
}

static void end_lingering(struct h2_up *h, uint64_t now)
{
	struct h2_ask *a;

	h->linger_ms = 0;
	LIST_EACH(a, &h->asks, in_h2) {
		if (!a->done)
			continue;
		if (a->done_ms + LINGER_MS <= now)
			nghttp2_submit_rst_stream(h->link.ng, NGHTTP2_FLAG_NONE, a->flow.id, NGHTTP2_CANCEL);
		else
			h->linger_ms = MIN(h->linger_ms ? h->linger_ms : UINT64_MAX, a->done_ms + LINGER_MS);
	}
}

static void on_up_time(struct loop_timer *timer)
{
	struct h2_up *h = container_of(timer, struct h2_up, timer);
	uint64_t now = h->conn.t->loop.now_ms;

	if (h->more) {
		h->more = false;
		h->conn.io.on_ready(&h->conn.io, 0);
		return;
	}
	if (!h->ask_count && now >= due(h)) {
		if (h->closing || h->connecting)
			end(h, ETIMEDOUT);
		else
			leave(h);
		return;
	}
	if (h->linger_ms && now >= h->linger_ms)
		end_lingering(h, now);
	if (now >= ping_due(h)) {
		if (h->pinging) {
			log_info("h2.gone", "target=%s reason=\"no answer to PING\"", h->target->name);
			end(h, ENETRESET);
			return;
		}
		h->pinging = true;
		h->pinged_ms = now;
		nghttp2_submit_ping(h->link.ng, NGHTTP2_FLAG_NONE, NULL);
	}
	h2_flush_soon(&h->link);
	h2_up_wait(h);
}

/* --- reading and writing --- */

/* False: it is gone. */
static bool read_all(struct h2_up *h)
{
	struct conn *c = &h->conn;

	for (int round = 0; c->readable && nghttp2_session_want_read(h->link.ng); round++) {
		int n = 0;

		if (round == PUMP_ROUNDS) { /* others get their turn */
			h->more = true;
			loop_timer_set(&c->t->loop, &h->timer, c->t->loop.now_ms);
			break;
		}
		n = conn_read(c);
		if (n == -EAGAIN)
			break;
		if (n <= 0) {
			lost(h, -n);
			return false;
		}
		h->heard_ms = c->t->loop.now_ms;
		h->pinging = false;
		n = (int)h2_link_feed(&h->link);
		if (n < 0) {
			log_debug("h2.ended", "target=%s reason=\"%s\"", h->target->name, nghttp2_strerror(n));
			lost(h, EPROTO);
			return false;
		}
	}
	buffer_put(c->t, &c->in);
	return true;
}

/* False: it is not connected yet, or gone. */
static bool connected(struct h2_up *h)
{
	int error = 0;
	socklen_t len = sizeof(error);
	struct h2_ask *a;

	if (!h->conn.writable && !h->conn.broken)
		return false;
	if (getsockopt(h->conn.io.fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error) {
		end(h, error);
		return false;
	}
	h->connecting = false;
	h->heard_ms = h->conn.t->loop.now_ms;
	LIST_EACH(a, &h->asks, in_h2) {
		a->up.conn.writable = true;
		h2_ask_wake(&a->flow);
	}
	return true;
}

static void on_up(struct loop_io *io, uint32_t events)
{
	struct h2_up *h = container_of(io, struct h2_up, conn.io);

	conn_note(&h->conn, events);
	if (h->connecting && !connected(h))
		return;
	if (read_all(h))
		h2_flush_soon(&h->link);
}

static void flushed(struct h2_link *l, int result)
{
	struct h2_up *h = h2_up_of(l);
	bool over = h->closing || h->target->use != USE_SERVE || h->conn.t->leaving;

	if (result < 0) {
		/* What it said before it broke counts: which streams it did not work on. */
		h->conn.readable = true;
		if (read_all(h))
			lost(h, EPIPE);
		return;
	}
	if (result > 0 && !nghttp2_session_want_read(l->ng) && !nghttp2_session_want_write(l->ng)) {
		lost(h, EPROTO);
		return;
	}
	if (over && !h->ask_count) {
		h->closing = true;
		if (h->goodbye && result > 0) {
			end(h, 0);
			return;
		}
		if (!h->goodbye) {
			h->goodbye = true;
			nghttp2_session_terminate_session(l->ng, NGHTTP2_NO_ERROR);
			h2_flush_soon(l);
		}
	}
	h2_up_wait(h);
}

/* --- the beginning --- */

static bool submit_beginning(struct h2_up *h)
{
	const nghttp2_settings_entry settings[] = {
		{NGHTTP2_SETTINGS_ENABLE_PUSH, 0},
		{NGHTTP2_SETTINGS_MAX_HEADER_LIST_SIZE, H2_UP_HEAD},
		{NGHTTP2_SETTINGS_HEADER_TABLE_SIZE, H2_TABLE_IN},
		{NGHTTP2_SETTINGS_INITIAL_WINDOW_SIZE, H2_STREAM_FIRST},
		{NGHTTP2_SETTINGS_NO_RFC7540_PRIORITIES, 1},
	};
	nghttp2_session *ng = h->link.ng;

	return nghttp2_submit_settings(ng, NGHTTP2_FLAG_NONE, settings, ARRAY_LEN(settings)) == 0 &&
	       nghttp2_session_set_local_window_size(ng, NGHTTP2_FLAG_NONE, 0, H2_UP_WINDOW) == 0;
}

/* NULL: errno. */
static struct h2_up *h2_up_open(struct target *g)
{
	static const struct h2_role role = {flushed, calm, h2_ask_wake, h2_ask_head};
	struct thread *t = g->t;
	struct h2_up *h = calloc(1, sizeof(*h));
	int error = ENOMEM;

	if (!h)
		goto failed;
	conn_init(&h->conn, t, on_up);
	h->link.role = &role;
	h->link.conn = &h->conn;
	h->link.ahead = true;
	h->link.most = H2_UP_HEAD;
	h->timer.on_time = on_up_time;
	h->target = g;
	h->heard_ms = h->idle_since_ms = t->loop.now_ms;
	list_init(&h->asks);
	if (!h2_link_open(&h->link, false, h2_up_frames_set) || !submit_beginning(h))
		goto failed;
	if (upstream_connect(&h->conn, g, &h->connecting) < 0) {
		error = errno;
		goto failed;
	}
	g->refs++;
	list_add_tail(&g->h2, &h->in_target);
	h2_flush_soon(&h->link);
	return h;
failed:
	if (h)
		h2_link_fini(&h->link);
	free(h);
	errno = error;
	return NULL;
}

static uint32_t places(const struct h2_up *h)
{
	/* 100 until the target's SETTINGS are here (nghttp2's way, RFC 9113, 6.5.2). */
	return MIN(nghttp2_session_get_remote_settings(h->link.ng, NGHTTP2_SETTINGS_MAX_CONCURRENT_STREAMS), H2_ASKS);
}

/* As in upstream.c: over TCP the end of an idle connection may be on its way. It may also have come in this
 * turn, and not have been looked at. */
static bool is_alive(const struct exchange *x, const struct target *g, const struct h2_up *h)
{
	uint64_t age = x->t->loop.now_ms - h->idle_since_ms;
	char byte;

	if (g->kind != TARGET_TCP || x->safe)
		return true;
	return age < idle_sure_ms(atomic_load_explicit(&g->shared->idle, memory_order_relaxed)) &&
	       recv(h->conn.io.fd, &byte, 1, MSG_PEEK) < 0 && errno == EAGAIN;
}

static struct h2_up *find(const struct exchange *x, struct target *g, bool fresh, uint32_t *ret_count)
{
	struct h2_up *h, *tmp;

	*ret_count = 0;
	LIST_EACH_SAFE(h, tmp, &g->h2, in_target) {
		++*ret_count;
		if (h->closing || h->ask_count >= places(h))
			continue;
		if (h->ask_count || !h->old || (!fresh && is_alive(x, g, h)))
			return h;
		leave(h);
	}
	return NULL;
}

enum connect_result h2_up_get(struct exchange *x, struct target *g, bool fresh)
{
	uint32_t count;
	struct h2_up *h = find(x, g, fresh, &count);
	struct h2_ask *a;

	if (!h && count >= H2_UPS) {
		shm_add(&x->t->n->h2_full, 1);
		return CONNECT_BACKLOG;
	}
	if (h) {
		shm_add(&g->n->reused, 1);
	} else {
		h = h2_up_open(g);
		/* A full backlog: see upstream_get(). */
		if (!h && errno == EAGAIN && g->kind == TARGET_UNIX)
			return CONNECT_BACKLOG;
		if (!h) {
			shm_add(&g->n->connect_failed, 1);
			return CONNECT_FAILED;
		}
		shm_add(&g->n->connects, 1);
		shm_add(&g->n->connections, 1);
	}
	a = h2_ask_new(h);
	if (!a) {
		errno = ENOMEM;
		return CONNECT_FAILED;
	}
	a->up.x = x;
	x->up = &a->up;
	list_add_tail(&g->active, &a->up.in_target);
	return a->up.connecting ? CONNECT_GOING_ON : CONNECT_OK;
}

void h2_up_drop_idle(struct target *g)
{
	struct h2_up *h;

	LIST_EACH(h, &g->h2, in_target)
		leave(h);
}
