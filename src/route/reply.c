/* SPDX-License-Identifier: Apache-2.0
 *
 * The way back: the head of the target's answer, its body, or a tunnel.
 *
 * Nothing of the body is waited for: what came with the head goes out with it, in
 * one write, and each later piece as it comes (server-sent events).
 */
#include "route/route_priv.h"

static void bad_answer(struct exchange *x, const char *why)
{
	shm_add(&x->target->n->failed_502, 1);
	stuck_failed(x->target, EPROTO);
	log_debug("answer.bad", "target=%s reason=\"%s\"", x->target->name, why);
	answer_own(x, 502, why, false);
}

void exchange_answered_by(struct exchange *x)
{
	memcpy(x->answer_target, x->target->name, sizeof(x->answer_target));
	x->answer_release = x->target->release;
	x->answer_n = x->target->n;
	hold_answered(&x->app->hold);
}

void tunnel_start(struct exchange *x, bool websocket)
{
	struct upstream *u = x->up;

	x->state = X_TUNNEL;
	x->upgraded = true;
	x->keep = false;
	if (x->waited)
		shm_sub(&x->app->n->held_now, 1);
	x->app->inside--; /* it may go on for days, and nobody waits for its end */
	x->limit_ms = 0;
	shm_add(&x->app->n->upgraded, 1);
	shm_add(&x->target->n->upgraded, 1);
	shm_sub(&x->app->n->inflight, 1);
	shm_add(&x->app->n->tunnels, 1);
	shm_add(&x->target->n->tunnels, 1);
	stream_start(&x->reply, &u->conn, &x->client->conn, HTTP1_TUNNEL, 0, false);
	if (websocket)
		boundary_start(&x->reply.watch, BOUNDARY_FRAMES);
	stream_start(&x->ask, &x->client->conn, &u->conn, HTTP1_TUNNEL, 0, false);
	tunnel_run(x);
}

/* A short body is put behind its head: one plain send is cheaper than a gathering one. */
static void join_reply(struct exchange *x)
{
	struct out *o = &x->reply.out;
	struct buffer *ans = x->ans;
	size_t total = 0;

	if (stream_fill(&x->reply) != STREAM_OVER || !x->reply.piece)
		return;
	for (uint8_t i = 1; i < o->n; i++)
		total += o->v[i].iov_len;
	if (total > ans->cap - ans->len)
		return;
	for (uint8_t i = 1; i < o->n; i++) {
		memcpy(ans->data + ans->len, o->v[i].iov_base, o->v[i].iov_len);
		ans->len += (uint32_t)o->v[i].iov_len;
	}
	stream_consumed(&x->reply);
	out_set_head(o, ans->data, ans->len);
}

/* Events come as long as somebody listens (HTML, 9.2): no time is too long for them. */
static bool is_event_stream(const struct http1_head *h)
{
	struct http1_slice type = http1_get(h, HTTP1_CONTENT_TYPE);

	type.len = MIN(type.len, strlen("text/event-stream")); /* parameters may follow */
	return http1_is(type, "text/event-stream");
}

static void start_reply(struct exchange *x, struct http1_head *h)
{
	const struct table_policy *policy = policy_of(x->app);
	struct upstream *u = x->up;
	bool chunked = !x->old_client && (h->framing == HTTP1_BODY_CHUNKED ||
					  h->framing == HTTP1_BODY_CLOSE);
	bool unbounded = x->old_client && (h->framing == HTTP1_BODY_CHUNKED ||
					   h->framing == HTTP1_BODY_CLOSE);

	/* Answered before the request was there: whether the rest comes is not known. */
	if (unbounded || !x->ask.over || (x->t->leaving && leave_closes(x->client)))
		x->keep = false;
	if (policy)
		policy_answer(x, policy, h);
	if (!headers_answer(x, h, chunked, h->status != 101 && !x->keep)) {
		answer_own(x, 503, "out of memory", true);
		return;
	}
	x->status = h->status;
	x->target_us = clock_us() - x->sent_us;
	stuck_answered(x);
	x->up_reusable = h->keep_alive;
	u->conn.in->at += h->head_len;
	u->conn.in->len -= h->head_len;
	out_set_head(&x->reply.out, x->ans->data, x->ans->len);
	exchange_answered_by(x);
	if (h->framing == HTTP1_TUNNEL) {
		tunnel_start(x, http1_has_token(http1_get(h, HTTP1_UPGRADE), "websocket"));
		return;
	}
	if (x->limit_ms && is_event_stream(h))
		x->limit_ms = 0;
	x->state = X_REPLY;
	stream_start(&x->reply, &u->conn, &x->client->conn, h->framing, h->length, chunked);
	x->reply.pass_trailer = x->te_trailers;
	if ((h->framing == HTTP1_BODY_CHUNKED || h->framing == HTTP1_BODY_CLOSE) && is_event_stream(h))
		boundary_start(&x->reply.watch, BOUNDARY_EVENTS);
	exchange_timer(x, x->app->conf.body_ms);
	join_reply(x);
	reply_run(x);
}

/* 1xx: passed on when the client can understand it. True: go on reading; false: x has ended. */
static bool pass_interim(struct exchange *x, const struct http1_head *h)
{
	struct buffer *in = x->up->conn.in;
	bool wanted = !x->old_client && (h->status != 100 || x->expects);

	if (++x->interim > INTERIM_MAX) {
		bad_answer(x, "the app sent too many interim answers");
		return false;
	}
	if (wanted && !headers_interim(x, h)) {
		answer_own(x, 503, "out of memory", true);
		return false;
	}
	in->at += h->head_len;
	in->len -= h->head_len;
	x->scanned = 0;
	if (wanted) {
		shm_add(&x->app->n->answered_1xx, 1);
		shm_add(&x->target->n->answered_1xx, 1);
		out_set_head(&x->reply.out, x->ans->data, x->ans->len);
	}
	return true;
}

/* 1: out; 0: wait; -1: the client is gone, and x with it. */
static int flush_interim(struct exchange *x)
{
	int n = conn_send(&x->client->conn, &x->reply.out, &x->reply.sent, &x->reply.writes);

	if (n < 0)
		exchange_client_left(x);
	return n < 0 ? -1 : n;
}

/* What reading gave instead of bytes. */
static void no_bytes(struct exchange *x, int n)
{
	if (n == -EAGAIN) {
		if (x->ask_failed)
			exchange_broke(x, x->ask_error);
		return;
	}
	if (n == -ENOMEM)
		answer_own(x, 503, "out of memory", true);
	else if (n == -ENOBUFS)
		bad_answer(x, "the head of the app's answer is too long");
	else
		exchange_broke(x, -n);
}

void reply_head(struct exchange *x)
{
	const struct http1_limits limits = {.head_bytes = BUFFER_LARGE,
					    .headers = HTTP1_HEADERS_MAX};
	struct http1_head *h = &x->t->head;
	struct upstream *u = x->up;
	enum http1_result r;
	const char *why = "";
	int n;

	for (;;) {
		n = flush_interim(x);
		if (n <= 0)
			return;
		if (!u->conn.in || !u->conn.in->len || x->scanned) {
			n = u->conn.readable ? conn_read(&u->conn) : -EAGAIN;
			if (n <= 0) {
				no_bytes(x, n);
				return;
			}
		}
		if (!x->answer_begun)
			stuck_heard(x->target);
		x->answer_begun = true;
		r = http1_answer(u->conn.in->data + u->conn.in->at, u->conn.in->len, &x->scanned,
				 &limits, x->is_head, false, h, &why);
		if (r == HTTP1_MORE) {
			x->scanned = MAX(x->scanned, 1); /* so that more is read first */
			continue;
		}
		if (r != HTTP1_DONE) {
			bad_answer(x, why);
			return;
		}
		/* Before the request is out, its body and the tunnel's bytes could be taken for
		 * each other (RFC 9110, 7.8: not before the request was received). */
		if (h->status == 101 && (!x->upgrade || !x->ask.over)) {
			bad_answer(x, x->upgrade ? "the app switched protocols too early"
						 : "the app switched protocols unasked");
			return;
		}
		if (h->status / 100 != 1 || h->status == 101)
			break;
		if (!pass_interim(x, h))
			return;
	}
	start_reply(x, h);
}

static void count_cut(struct exchange *x)
{
	shm_add(&x->app->n->failed_cut, 1);
	shm_add(&x->target->n->failed_cut, 1);
	x->end = ACCESS_CUT;
}

/* Of a stream that came to its end: what becomes of the two connections. */
static void reply_over(struct exchange *x)
{
	struct upstream *u = x->up;
	bool asked = x->ask.over && !x->ask_failed;
	bool more = x->client->conn.readable || (x->client->conn.in && x->client->conn.in->len);

	exchange_let_go(x, x->up_reusable && asked && !(u->conn.in && u->conn.in->len));
	if (x->keep && asked)
		exchange_finish(x, AFTER_KEEP);
	else
		exchange_finish(x, asked && !more ? AFTER_CLOSE : AFTER_LINGER);
}

void reply_run(struct exchange *x)
{
	uint64_t asked = x->ask.sent, replied = x->reply.sent;
	enum stream_result r;

	if (!x->ask.over && !x->ask_failed) {
		r = stream_pump(&x->ask);
		if (r == STREAM_AGAIN)
			client_again(x->client);
		else if (r > STREAM_OVER)
			x->ask_failed = true; /* the answer is what counts now */
	}
	r = stream_pump(&x->reply);
	switch (r) {
	case STREAM_OVER:
		reply_over(x);
		return;
	case STREAM_AGAIN:
		client_again(x->client);
		break;
	case STREAM_WAIT_FROM:
	case STREAM_WAIT_TO:
		break;
	case STREAM_TO_BROKE:
		exchange_client_left(x);
		return;
	default:
		stuck_failed(x->target, EPIPE);
		count_cut(x);
		exchange_finish(x, exchange_after_cut(x));
		return;
	}
	/* A client that has said all may still want an answer, but one that listens to events (HTML, 9.2)
	 * has no reason to say so: it has gone, and no event may come by which that would show. */
	if (x->client->conn.half_closed && x->reply.watch.kind == BOUNDARY_EVENTS) {
		exchange_client_left(x);
		return;
	}
	if (x->leave_due && leave_stream(x))
		return;
	/* Time is given for what passes, not for events: who does not read can always send a byte. */
	if (x->reply.sent != replied || (r == STREAM_WAIT_FROM && x->ask.sent != asked))
		exchange_timer(x, x->app->conf.body_ms);
}

/* One direction of a tunnel. An idle one holds no buffer: it may be one of thousands. */
static enum stream_result tunnel_pump(struct exchange *x, struct stream *s)
{
	enum stream_result r;

	if (s->over)
		return STREAM_OVER;
	r = stream_pump(s);
	if (r == STREAM_AGAIN)
		client_again(x->client);
	if (r == STREAM_OVER && conn_shut(s->to) < 0)
		return STREAM_TO_BROKE;
	if (r == STREAM_WAIT_FROM && s->from->in && !s->from->in->len)
		buffer_put(x->t, &s->from->in);
	return r;
}

void tunnel_run(struct exchange *x)
{
	uint64_t asked = x->ask.sent, replied = x->reply.sent;
	enum stream_result back, forth;
	bool spoke;

	if (x->leave_ending) {
		leave_tunnel_run(x);
		return;
	}
	back = tunnel_pump(x, &x->reply);
	forth = back > STREAM_OVER ? STREAM_WAIT_FROM : tunnel_pump(x, &x->ask);
	spoke = x->ask.sent != asked;
	if (spoke)
		x->spoke_ms = x->t->loop.now_ms;
	if (x->tcp && (back > STREAM_OVER || forth > STREAM_OVER)) {
		tcp_broke(x, back == STREAM_FROM_BROKE || forth == STREAM_TO_BROKE);
		return;
	}
	x->end = ACCESS_UPGRADED;
	if (back > STREAM_OVER || forth > STREAM_OVER || (x->reply.over && x->ask.over)) {
		exchange_finish(x, AFTER_CLOSE);
		return;
	}
	if (x->leave_due && !spoke && x->reply.sent != replied && leave_stream(x))
		return;
	exchange_timer(x, x->app->conf.tunnel_ms);
}
