/* SPDX-License-Identifier: Apache-2.0
 *
 * One request, from its head to the end of its answer.
 *
 *	state    client: bytes   client: gone  target: bytes     target: broken       time is up
 *	-------  --------------  ------------  ----------------  -------------------  -------------
 *	WAIT     (stay unread)   left          -                 -                    503
 *	CONNECT  (stay unread)   left          connected: ASK    next one, or WAIT    next, or WAIT
 *	ASK      sent on         left          head: REPLY,      retry as core/retry  504; 408 when
 *	                                       TUNNEL            says, else 502       the body stays
 *	REPLY    sent on         left          sent on; all: end cut                  cut
 *	TUNNEL   sent on         end           sent on           end                  end
 *	OWN      (stay unread)   left          -                 -                    end
 *
 * Whatever may end an exchange is the last thing that a function does: after such a
 * call x may be gone.
 */
#include "route/route_priv.h"

static void on_exchange_time(struct loop_timer *timer);

struct exchange *exchange_new(struct client *c)
{
	struct thread *t = c->conn.t;
	struct exchange *x = pool_get(t, &t->exchanges);
	struct loop_timer timer;

	if (!x) {
		c->x = NULL;
		client_close(c);
		return NULL;
	}
	timer = x->timer; /* may still be in the heap */
	memset(x, 0, offsetof(struct exchange, tried));
	x->answer_target[0] = '\0';
	x->answer_n = NULL;
	x->answer_release = 0;
	x->timer = timer;
	x->timer.on_time = on_exchange_time;
	x->t = t;
	x->client = c;
	x->state = X_OWN;
	x->start_us = c->first_us;
	x->came_ms = t->loop.now_ms;
	c->x = x;
	c->state = CLIENT_BUSY;
	loop_timer_stop(&t->loop, &c->timer);
	return x;
}

void exchange_timer(struct exchange *x, uint32_t ms)
{
	uint64_t at = ms ? x->t->loop.now_ms + ms : UINT64_MAX;

	if (x->limit_ms)
		at = MIN(at, x->limit_ms);
	if (at != UINT64_MAX)
		loop_timer_set(&x->t->loop, &x->timer, at);
	else
		loop_timer_stop(&x->t->loop, &x->timer);
}

/* Through a tunnel of HTTP/2, requests would pass that nobody routed, counted, or told the app whose
 * they are; RFC 9113 has given that switch up, and an upgrade may always be ignored. */
static bool may_upgrade(const struct http1_head *h)
{
	static const char *const http[] = {"h2c", "h2", "http/2.0", "http/2", "http/1.1"};
	struct http1_slice to = http1_get(h, HTTP1_UPGRADE);

	for (size_t i = 0; i < ARRAY_LEN(http); i++)
		if (http1_has_token(to, http[i]))
			return false;
	return true;
}

static void note_traits(struct exchange *x, const struct http1_head *h)
{
	x->is_head = h->is_head;
	x->safe = (h->is_get || h->is_head) && h->framing == HTTP1_BODY_NONE;
	x->upgrade = h->upgrade && may_upgrade(h);
	x->expects = h->expect_continue;
	x->te_trailers = h->te_trailers;
	x->old_client = h->minor == 0;
	x->keep = h->keep_alive;
	x->framing = h->framing;
	x->length = h->length;
}

struct app *exchange_app(struct thread *t, struct http1_slice host, struct http1_slice path)
{
	bool star = path.len == 1 && *path.p == '*'; /* OPTIONS * */
	int n = http1_host_name(host, t->host);
	int32_t i = n < 0 ? -1 : table_find(t->table, t->host, (size_t)n, star ? "/" : path.p, path.len);

	return i < 0 ? NULL : t->apps[i];
}

/* A small body that came with its head goes out with it, in one write: then the kernel can prove
 * whether it was read, and it is still here when it must be sent again. part: a piece of it is kept, too:
 * a target that speaks HTTP/2 may say of what went out in several that it has not worked on it. */
static void join_body(struct exchange *x, bool part)
{
	struct out *o = &x->ask.out;
	struct buffer *req = x->req, *more;
	uint8_t first = x->ask.sent == 0; /* before it stands the head */
	uint32_t start = first ? 0 : req->len;
	size_t total = req->len;

	if (x->framing == HTTP1_BODY_NONE || stream_fill(&x->ask) != STREAM_OVER)
		return; /* what is wrong with it, pumping will find again */
	for (uint8_t i = first; i < o->n; i++)
		total += o->v[i].iov_len;
	if (!x->ask.piece || !(x->ask.ended || part) || total > RETRY_WRITE_MAX)
		return;
	if (total > req->cap) {
		more = buffer_get(x->t, (uint32_t)total);
		if (!more)
			return;
		memcpy(more->data, req->data, req->len);
		more->len = req->len;
		buffer_put(x->t, &x->req);
		x->req = req = more;
	}
	for (uint8_t i = first; i < o->n; i++) {
		memcpy(req->data + req->len, o->v[i].iov_base, o->v[i].iov_len);
		req->len += (uint32_t)o->v[i].iov_len;
	}
	stream_consumed(&x->ask);
	out_set_head(o, req->data + start, req->len - start);
}

/* The next piece, as long as all that went out is still here. */
static void join_more(struct exchange *x)
{
	struct conn *from = x->ask.from;

	if (x->ask.sent != x->req->len || out_pending(&x->ask.out) || x->ask.ended)
		return;
	if (from->readable && !(from->in && from->in->len) && conn_read(from) <= 0)
		return; /* pumping finds it again */
	join_body(x, true);
}

void exchange_begin(struct client *c)
{
	struct thread *t = c->conn.t;
	const struct http1_head *h = &t->head;
	struct exchange *x = exchange_new(c);
	const struct table_policy *policy;
	struct app *app;

	if (!x)
		return;
	note_traits(x, h);
	app = h->is_connect ? NULL : exchange_app(t, h->host, h->path);
	policy = app ? policy_of(app) : NULL;
	if (policy)
		policy_request(x, policy, &t->head);
	if (!headers_request(x, h)) {
		answer_own(x, 503, "out of memory", true);
		return;
	}
	stream_start(&x->ask, &c->conn, NULL, h->framing, h->length,
		     h->framing == HTTP1_BODY_CHUNKED);
	x->ask.pass_trailer = true;
	if (h->is_connect) {
		answer_own(x, 405, "CONNECT is not served here", true);
		return;
	}
	if (!app) {
		shm_add(&t->n->unknown_host, 1);
		answer_own(x, 404, "no app has this host and path", false);
		return;
	}
	x->app = app;
	app->refs++;
	shm_add(&app->n->requests, 1);
	shm_add(&app->n->inflight, 1);
	if (app->conf.acme && challenge_answers(x, h))
		return;
	if (app->conf.to_https && redirect_to_https(x, h))
		return;
	if (policy && policy_answers(x, policy, h))
		return;
	if (app->conf.h2 && !h->host.len) { /* HTTP/1.0 may leave it out */
		answer_own(x, 400, "the app is asked over HTTP/2, which names a host: the request has none", false);
		return;
	}
	if (app->conf.body_max && h->framing == HTTP1_BODY_LENGTH && h->length > app->conf.body_max) {
		answer_own(x, 413, "the body is larger than this app takes", true);
		return;
	}
	x->ask.most = app->conf.body_max;
	if (app->conf.request_ms)
		x->limit_ms = x->came_ms + app->conf.request_ms;
	out_set_head(&x->ask.out, x->req->data, x->req->len);
	join_body(x, app->conf.h2); /* a trailer is read into h */
	exchange_route(x);
}

/* --- its end --- */

void exchange_client_left(struct exchange *x)
{
	if (x->state == X_OWN) { /* counted by what we answered, taken or not */
		exchange_finish(x, AFTER_CLOSE);
		return;
	}
	wait_leave(x);
	x->end = ACCESS_CLIENT_LEFT;
	if (x->app)
		shm_add(&x->app->n->client_left, 1);
	if (x->target)
		shm_add(&x->target->n->client_left, 1);
	exchange_let_go(x, false);
	exchange_finish(x, AFTER_CLOSE);
}

void exchange_cut_target(struct target *g)
{
	while (!list_empty(&g->active)) {
		struct upstream *u = container_of(g->active.next, struct upstream, in_target);
		struct exchange *x = u->x;

		x->cut = true;
		if (x->state == X_CONNECT || x->state == X_ASK) {
			exchange_broke(x, ECONNABORTED);
			continue;
		}
		exchange_cut(x);
	}
}

void exchange_cut(struct exchange *x)
{
	shm_add(&x->app->n->failed_cut, 1);
	shm_add(&x->target->n->failed_cut, 1);
	x->end = ACCESS_CUT;
	exchange_finish(x, exchange_after_cut(x));
}

/* A client that cannot tell from the framing that its answer is cut must get an error. */
enum client_after exchange_after_cut(const struct exchange *x)
{
	bool by_close = x->old_client && (x->reply.framing == HTTP1_BODY_CHUNKED ||
					  x->reply.framing == HTTP1_BODY_CLOSE);

	return by_close || x->tcp ? AFTER_RESET : AFTER_CLOSE;
}

static void put_back(struct exchange *x)
{
	struct thread *t = x->t;

	loop_timer_stop(&t->loop, &x->timer);
	buffer_put(t, &x->req);
	buffer_put(t, &x->ans);
	if (!pool_put(&t->exchanges, x)) {
		loop_timer_fini(&t->loop, &x->timer);
		free(x);
	}
}

void exchange_handed(struct exchange *x)
{
	struct app *app = x->app;

	ensure(!x->waiting && !x->target);
	x->client->x = NULL;
	put_back(x);
	app_unref(app);
}

void exchange_finish(struct exchange *x, enum client_after after)
{
	struct client *c = x->client;
	struct app *app = x->app;

	exchange_let_go(x, false);
	count_end(x);
	put_back(x);
	client_next(c, after);
	if (!app)
		return;
	wait_freed(app);
	app_unref(app);
}

/* --- being run --- */

static void connect_run(struct exchange *x)
{
	struct upstream *u = x->up;
	int error;

	if (!u->conn.writable && !u->conn.broken)
		return;
	error = upstream_error(u);
	if (error == 0) {
		u->connecting = false;
		exchange_send(x);
		return;
	}
	shm_add(&x->target->n->connect_failed, 1);
	exchange_note_refused(x, error);
	exchange_broke(x, error);
}

/* The client's part of an exchange went wrong while nothing was answered yet. */
static bool ask_went_wrong(struct exchange *x, enum stream_result r)
{
	switch (r) {
	case STREAM_FROM_ENDED:
	case STREAM_FROM_BROKE:
		exchange_client_left(x);
		return true;
	case STREAM_BAD:
		answer_own(x, 400, "the chunks of the body are malformed", true);
		return true;
	case STREAM_TOO_LARGE:
		answer_own(x, 413, "the body is larger than this app takes", true);
		return true;
	case STREAM_NO_MEMORY:
		answer_own(x, 503, "out of memory", true);
		return true;
	default:
		return false;
	}
}

static void ask_run(struct exchange *x)
{
	if (!x->ask.over && !x->ask_failed) {
		uint64_t before = x->ask.sent;
		enum stream_result r;

		if (x->app->conf.h2)
			join_more(x);
		r = stream_pump(&x->ask);
		if (ask_went_wrong(x, r))
			return;
		if (r == STREAM_TO_BROKE) {
			x->ask_error = errno;
			if (x->ask.sent == 0) {
				exchange_broke(x, x->ask_error);
				return;
			}
			/* It may have answered before it closed (413): look. */
			x->ask_failed = true;
			x->up->conn.readable = true;
		}
		if (r == STREAM_AGAIN)
			client_again(x->client);
		if (r == STREAM_OVER)
			stuck_asked(x);
		if (r == STREAM_OVER || x->ask.sent != before)
			exchange_timer(x, r == STREAM_WAIT_FROM ? x->app->conf.body_ms
								: x->app->conf.response_ms);
	}
	/* An interim answer that the client had no room for may wait before what was read already. */
	if (x->up->conn.readable || out_pending(&x->reply.out))
		reply_head(x);
}

void exchange_run(struct exchange *x)
{
	if (x->client->conn.broken && x->state != X_TUNNEL) {
		exchange_client_left(x);
		return;
	}
	switch (x->state) {
	case X_WAIT:
		/* Who has said all may still want to hear. */
		if (x->client->conn.half_closed && !x->tcp)
			exchange_client_left(x);
		return;
	case X_CONNECT:
		connect_run(x);
		return;
	case X_ASK:
		ask_run(x);
		return;
	case X_REPLY:
		reply_run(x);
		return;
	case X_TUNNEL:
		tunnel_run(x);
		return;
	case X_OWN:
		answer_run(x);
		return;
	}
}

/* All that came of the request went on: it is the client that is waited for. */
static bool client_is_late(const struct exchange *x)
{
	return x->state == X_ASK && !x->ask.over && !x->ask_failed && !out_pending(&x->ask.out);
}

/* Whether its target is to blame nobody knows: it may have waited for most of the time. */
static void over_time(struct exchange *x)
{
	shm_add(&x->app->n->over_time, 1);
	wait_leave(x);
	if (x->state == X_REPLY) {
		exchange_cut(x);
		return;
	}
	if (client_is_late(x)) {
		answer_own(x, 408, "the body of the request did not arrive in time", true);
		return;
	}
	if (x->target)
		shm_add(&x->target->n->failed_504, 1);
	answer_own(x, 504, "the request took longer than is allowed", false);
}

static void on_exchange_time(struct loop_timer *timer)
{
	struct exchange *x = container_of(timer, struct exchange, timer);

	if (x->limit_ms && x->t->loop.now_ms >= x->limit_ms) {
		over_time(x);
		return;
	}
	switch (x->state) {
	case X_WAIT:
		wait_leave(x);
		shm_add(&x->app->n->failed_503_waited, 1);
		answer_own(x, 503, "the app could not take the request in time", false);
		return;
	case X_CONNECT:
		shm_add(&x->target->n->connect_failed, 1);
		exchange_broke(x, ETIMEDOUT);
		return;
	case X_ASK:
		if (client_is_late(x))
			answer_own(x, 408, "the body of the request did not arrive in time", true);
		else
			exchange_broke(x, ETIMEDOUT);
		return;
	case X_REPLY:
		exchange_cut(x);
		return;
	case X_TUNNEL:
	case X_OWN:
		exchange_finish(x, AFTER_CLOSE);
		return;
	}
}
