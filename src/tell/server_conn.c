/* SPDX-License-Identifier: Apache-2.0
 *
 * One connection of the API's server: reading, writing, limits of time.
 *
 *	HEAD ──head complete──▶ BODY ──read──▶ ANSWER ──sent──▶ HEAD   (kept alive)
 *	                          └──answered early──▶ sent ──▶ LINGER ──▶ gone
 *
 * Everything that happens to a connection ends in conn_run(), which moves it as
 * far as it goes and is the only place where one is destroyed. Calls of handlers
 * only append to `out` and, when they come from elsewhere, arm a timer that is
 * due at once. So no callback ever finds its connection freed below it.
 */
#include "tell/server_priv.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

/* --- the end of a request, and of a connection --- */

static void request_gone(struct server_conn *c)
{
	if (!c->live)
		return;
	c->live = false;
	if (c->request.on_gone)
		c->request.on_gone(&c->request);
}

void server_conn_destroy(struct server_conn *c)
{
	struct server *s = c->server;

	c->dead = true; /* whatever on_gone calls finds nobody */
	request_gone(c);
	loop_io_del(s->loop, &c->io);
	loop_timer_fini(s->loop, &c->limit);
	loop_timer_fini(s->loop, &c->kick);
	close(c->fd);
	if (c->file >= 0)
		close(c->file);
	list_del(&c->link);
	s->count--;
	s->remote -= !c->local;
	buf_free(&c->in);
	buf_free(&c->out);
	buf_free(&c->body);
	free(c);
}

static bool unsent(const struct server_conn *c)
{
	return c->out_at < c->out.len || c->file_left;
}

/* --- reading --- */

static void refuse_head(struct server_conn *c, enum http1_result r, const char *why)
{
	static const int status[] = {
		[HTTP1_BAD] = 400,	[HTTP1_LONG_LINE] = 414, [HTTP1_LONG_HEAD] = 431,
		[HTTP1_VERSION] = 505,	[HTTP1_CODING] = 501,
	};

	c->state = SERVER_BODY; /* of which nothing is read any more */
	server_fail(c, status[r], why);
}

/* Returns whether there was a whole head. */
static bool take_head(struct server_conn *c)
{
	static const struct http1_limits limits = {.head_bytes = SERVER_HEAD_MAX, .headers = SERVER_HEADERS_MAX};
	struct http1_head *head = &c->server->head;
	const char *why;
	enum http1_result r;

	if (!c->in.len)
		return false;
	r = http1_request(c->in.data, c->in.len, &c->scanned, &limits, head, &why);
	if (r == HTTP1_MORE)
		return false;
	c->scanned = 0;
	if (r != HTTP1_DONE) {
		refuse_head(c, r, why);
		return true;
	}
	c->state = SERVER_BODY;
	c->since = c->server->loop->now_ms;
	server_request_start(c, head);
	buf_drop(&c->in, head->head_len);
	return true;
}

/* Gives the chunks in `in` to the request. Returns whether the body is complete. */
static bool take_chunks(struct server_conn *c)
{
	struct http1_head *trailer = &c->server->head;
	const char *why = NULL;
	size_t len = c->in.len, used;
	enum http1_result r = http1_dechunk(&c->chunked, c->in.data, &len, &used, &why);

	if (r != HTTP1_BAD) {
		server_request_data(c, c->in.data, len);
		buf_drop(&c->in, used);
	}
	if (r == HTTP1_DONE) {
		r = http1_trailer(c->in.data, c->in.len, &c->scanned, trailer, &why);
		if (r == HTTP1_DONE) {
			buf_drop(&c->in, trailer->head_len);
			c->scanned = 0;
		}
	}
	if (r != HTTP1_DONE && r != HTTP1_MORE) {
		c->close = true;
		server_fail(c, 400, why);
	}
	return r == HTTP1_DONE;
}

/* Returns whether the body is complete. */
static bool take_body(struct server_conn *c)
{
	if (c->answered && c->close)
		return false; /* nobody wants the rest */
	if (c->framing == HTTP1_BODY_CHUNKED) {
		if (!c->in.len || !take_chunks(c))
			return false;
	} else if (c->framing == HTTP1_BODY_LENGTH && c->left) {
		size_t n = (size_t)MIN(c->left, c->in.len);

		c->left -= n;
		server_request_data(c, c->in.data, n);
		buf_drop(&c->in, n);
		if (c->left)
			return false;
	}
	c->state = SERVER_ANSWER;
	server_request_read(c);
	return true;
}

/* The other side has sent all that it will. */
static void input_ended(struct server_conn *c)
{
	if (c->state == SERVER_ANSWER || (c->state == SERVER_BODY && c->ended && c->close)) {
		/* It may still read; or it may be gone, which on TCP looks the same. */
		c->half_closed = true;
		c->since = c->server->loop->now_ms;
		return;
	}
	c->dead = true;
}

/* Moving bytes earn time: whoever stays under 1000 a second on the whole uses up move_ms, however
 * regularly a byte comes. */
static void earn_time(struct server_conn *c, size_t bytes)
{
	c->since = MIN(c->server->loop->now_ms, c->since + bytes);
}

/* One piece, so that no client keeps the others waiting. */
static void conn_read(struct server_conn *c)
{
	static char thrown_away[SERVER_PIECE];
	const bool keep = c->state != SERVER_LINGER;
	char *room = keep ? buf_room(&c->in, SERVER_PIECE) : thrown_away;
	ssize_t n;

	if (!room) {
		c->dead = true;
		return;
	}
	n = recv(c->fd, room, SERVER_PIECE, 0);
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (n < 0) {
		c->dead = true;
		return;
	}
	if (n == 0) {
		input_ended(c);
		return;
	}
	if (!keep)
		return;
	if (c->state == SERVER_BODY)
		earn_time(c, (size_t)n);
	else if (!c->in.len) /* the time for a head runs from its first byte */
		c->since = c->server->loop->now_ms;
	c->in.len += (size_t)n;
}

/* --- writing --- */

/* The next piece of a file that is sent; only when all before it is out. */
static void refill(struct server_conn *c)
{
	char *room;
	ssize_t n = -1;

	c->out.len = c->out_at = 0;
	room = buf_room(&c->out, SERVER_PIECE);
	if (room)
		n = read(c->file, room, (size_t)MIN(c->file_left, (uint64_t)SERVER_PIECE));
	if (n <= 0) {
		c->dead = true; /* shorter than was said: only a cut tells */
		return;
	}
	c->out.len = (size_t)n;
	c->file_left -= (uint64_t)n;
	if (!c->file_left) {
		close(c->file);
		c->file = -1;
	}
}

static void conn_flush(struct server_conn *c)
{
	for (int pieces = 0; unsent(c) && !c->dead;) {
		ssize_t n;

		if (c->out_at == c->out.len) {
			if (pieces++ == SERVER_TURN_PIECES)
				break;
			refill(c);
			continue;
		}
		n = send(c->fd, c->out.data + c->out_at, c->out.len - c->out_at, MSG_NOSIGNAL);
		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			c->dead = true;
			return;
		}
		c->out_at += (size_t)n;
		if (c->blocked)
			earn_time(c, (size_t)n);
	}
	if (c->out_at == c->out.len) {
		c->out.len = c->out_at = 0;
	} else if (c->out_at > c->out.len / 2) {
		buf_drop(&c->out, c->out_at);
		c->out_at = 0;
	}
}

/* The answer is out: what now? Returns whether another request may follow in `in`. */
static bool conn_answered(struct server_conn *c)
{
	if (!c->ended || unsent(c))
		return false;
	if (c->state == SERVER_BODY && !c->close)
		return false; /* first the rest of the body */
	request_gone(c);
	c->since = c->server->loop->now_ms;
	buf_free(&c->body);
	c->half_closed = false; /* what it sent before may still be unread */
	if (c->close) {
		shutdown(c->fd, SHUT_WR);
		c->state = SERVER_LINGER;
		return false;
	}
	c->answered = c->ended = c->is_head = c->chunked_out = false;
	c->state = SERVER_HEAD;
	return true;
}

/* --- time --- */

static uint32_t limit_ms(const struct server_conn *c)
{
	const struct server_options *o = &c->server->options;

	if (c->state == SERVER_LINGER)
		return o->linger_ms;
	if (unsent(c))
		return o->move_ms;
	if (c->state == SERVER_HEAD)
		return c->in.len ? o->head_ms : o->idle_ms;
	if (c->state == SERVER_BODY)
		return o->move_ms;
	return c->half_closed ? o->linger_ms : 0; /* handlers may take their time */
}

static void conn_run(struct server_conn *c);

static void limit_reached(struct loop_timer *timer)
{
	struct server_conn *c = container_of(timer, struct server_conn, limit);
	const bool reading = c->state == SERVER_BODY || (c->state == SERVER_HEAD && c->in.len);

	if (!reading || unsent(c) || c->answered) {
		c->dead = true;
	} else {
		c->state = SERVER_BODY;
		server_fail(c, 408, "the request did not come in time");
	}
	conn_run(c);
}

/* --- the machine --- */

static void conn_watch(struct server_conn *c)
{
	const bool reads = c->state == SERVER_HEAD || c->state == SERVER_LINGER ||
			   (c->state == SERVER_BODY && !(c->answered && c->close));
	uint32_t ms = limit_ms(c), events = 0;

	if (unsent(c) && !c->blocked)
		c->since = c->server->loop->now_ms;
	c->blocked = unsent(c);
	if (reads && !(c->state == SERVER_HEAD && c->kick.armed)) /* `in` has more for the next turn */
		events |= EPOLLIN;
	if (!reads && !c->half_closed)
		events |= EPOLLRDHUP;
	if (unsent(c))
		events |= EPOLLOUT;
	if (events != c->events && loop_io_change(c->server->loop, &c->io, events) == 0)
		c->events = events;
	if (ms)
		loop_timer_set(c->server->loop, &c->limit, c->since + ms);
	else
		loop_timer_stop(c->server->loop, &c->limit);
	if (!c->in.len && c->state == SERVER_HEAD) {
		buf_free(&c->in); /* an idle connection holds nothing */
		buf_free(&c->out);
	}
}

/* The next piece of an answer that is made as the client takes it. */
static void conn_more(struct server_conn *c)
{
	if (c->dead || !c->live || !c->answered || c->ended || !c->request.on_room || unsent(c))
		return;
	c->request.on_room(&c->request);
	c->dead |= c->out.failed;
	conn_flush(c);
	if (!c->dead && !unsent(c))
		loop_timer_set(c->server->loop, &c->kick, c->server->loop->now_ms + 1);
}

static void conn_run(struct server_conn *c)
{
	bool goes_on = !c->dead;

	c->running = true;
	for (int n = 0; goes_on && !c->dead; n++) {
		if (n == SERVER_TURN_REQUESTS) {
			loop_timer_set(c->server->loop, &c->kick, c->server->loop->now_ms + 1);
			break;
		}
		goes_on = c->state == SERVER_HEAD && take_head(c);
		if (c->state == SERVER_BODY)
			take_body(c);
		c->dead |= c->out.failed || c->in.failed;
		conn_flush(c);
		goes_on |= conn_answered(c);
	}
	conn_more(c);
	c->running = false;
	if (c->dead)
		server_conn_destroy(c);
	else
		conn_watch(c);
}

static void conn_ready(struct loop_io *io, uint32_t events)
{
	struct server_conn *c = container_of(io, struct server_conn, io);

	if (c->events & EPOLLIN && events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		conn_read(c);
	else if (events & (EPOLLHUP | EPOLLERR))
		c->dead = true;
	else if (events & EPOLLRDHUP)
		input_ended(c);
	conn_run(c);
}

static void conn_kicked(struct loop_timer *timer)
{
	conn_run(container_of(timer, struct server_conn, kick));
}

/* --- its start --- */

bool server_conn_create(struct server *s, int fd, bool local)
{
	struct server_conn *c = calloc(1, sizeof(*c));
	struct ucred peer = {.pid = 0, .uid = (uid_t)-1};
	socklen_t size = sizeof(peer);

	if (!c)
		return false;
	if (local)
		getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &size);
	*c = (struct server_conn){
		.server = s, .fd = fd, .file = -1, .local = local, .uid = peer.uid, .pid = peer.pid,
		.since = s->loop->now_ms, .events = EPOLLIN,
		.io = {.on_ready = conn_ready, .fd = -1},
		.limit.on_time = limit_reached, .kick.on_time = conn_kicked,
		.in.max = 2 * SERVER_PIECE, .out.max = SERVER_BODY_MAX + SERVER_PIECE,
	};
	s->count++;
	s->remote += !local;
	list_add_tail(&s->conns, &c->link);
	if (loop_io_add(s->loop, &c->io, fd, c->events) < 0)
		server_conn_destroy(c);
	else
		conn_watch(c);
	return true;
}
