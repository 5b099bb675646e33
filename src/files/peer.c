/* SPDX-License-Identifier: Apache-2.0
 *
 * One connection: bytes in, bytes out, limits of time.
 *
 *	HEAD ──complete──> (WAIT for a hash ──>) SEND ──out──> HEAD, or LINGER ──> gone
 *
 * A head is read into one buffer of the server and parsed there; only what is incomplete is copied and
 * kept. An answer is made in another one, and only what the socket does not take at once is kept. So an
 * idle connection is this struct, and a usual request allocates nothing.
 *
 * Everything ends in peer_run(), which is the only place that closes one.
 */
#include <errno.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>

#include "files/files_priv.h"

#define WATCH (EPOLLIN | EPOLLRDHUP | EPOLLET)

enum step { GO_ON, WAIT, GONE };

static void limit_set(struct peer *c, uint32_t ms)
{
	loop_timer_set(&c->server->loop, &c->limit, c->server->loop.now_ms + ms);
}

static void drop_file(struct peer *c)
{
	list_del(&c->in_file);
	file_unref(c->file);
	c->file = NULL;
	c->left = 0;
}

void peer_close(struct peer *c)
{
	struct server *s = c->server;
	int fd = c->io.fd;

	drop_file(c);
	loop_io_del(&s->loop, &c->io);
	loop_timer_fini(&s->loop, &c->limit);
	close(fd);
	list_del(&c->in_server);
	list_del(&c->in_again);
	free(c->in);
	free(c->out);
	free(c);
	s->peer_count--;
	server_peer_gone(s);
}

static void again(struct peer *c)
{
	if (!list_linked(&c->in_again))
		list_add_tail(&c->server->again, &c->in_again);
}

/* --- out --- */

/* Asks to be told when there is room; on a unix socket that would be told at each read of the peer, so
 * only while something waits. */
static void want_out(struct peer *c, bool want)
{
	if (c->wants_out == want)
		return;
	c->wants_out = want;
	loop_io_change(&c->server->loop, &c->io, want ? WATCH | EPOLLOUT : WATCH);
}

static bool keep_rest(struct peer *c, const char *p, uint32_t len)
{
	c->out = malloc(len);
	if (!c->out)
		return false;
	memcpy(c->out, p, len);
	c->out_at = 0;
	c->out_len = len;
	return true;
}

/* > 0: sent; 0: no room; -1: it is gone. */
static ssize_t send_some(struct peer *c, const char *p, size_t len)
{
	ssize_t n = send(c->io.fd, p, len, MSG_NOSIGNAL | (c->left ? MSG_MORE : 0));

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	return n;
}

static ssize_t send_file(struct peer *c)
{
	off_t at = (off_t)c->at;
	ssize_t n = sendfile(c->io.fd, c->file->fd, &at, MIN(c->left, (uint64_t)SERVER_PIECE));

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (n == 0) /* it was made shorter than its length that is said already: only a cut tells */
		return -1;
	c->at += (uint64_t)n;
	c->left -= (uint64_t)n;
	return n;
}

/* The answer that was just made. */
static enum step send_answer(struct peer *c)
{
	struct server *s = c->server;
	ssize_t n = send_some(c, s->out, s->out_len);

	c->state = PEER_SEND;
	limit_set(c, SERVER_MOVE_MS);
	if (n < 0 || ((uint32_t)n < s->out_len && !keep_rest(c, s->out + n, s->out_len - (uint32_t)n)))
		return GONE;
	return GO_ON;
}

static enum step send_rest(struct peer *c)
{
	for (int turn = 0; c->out_len || c->left; turn++) {
		ssize_t n;

		if (turn == SERVER_TURN) {
			again(c);
			return WAIT;
		}
		n = c->out_len ? send_some(c, c->out + c->out_at, c->out_len) : send_file(c);
		if (n < 0)
			return GONE;
		if (n == 0) {
			want_out(c, true);
			return WAIT;
		}
		limit_set(c, SERVER_MOVE_MS);
		if (!c->out_len)
			continue;
		c->out_at += (uint32_t)n;
		c->out_len -= (uint32_t)n;
	}
	free(c->out);
	c->out = NULL;
	want_out(c, false);
	drop_file(c);
	c->waited = false;
	if (!c->keep || c->server->ending) {
		if (shutdown(c->io.fd, SHUT_WR) < 0)
			return GONE;
		c->state = PEER_LINGER;
		limit_set(c, SERVER_LINGER_MS);
		return GO_ON;
	}
	c->state = PEER_HEAD;
	limit_set(c, c->in_len ? SERVER_HEAD_MS : SERVER_IDLE_MS);
	return GO_ON;
}

/* --- in --- */

/* What was read and not taken, put by until there is more of it. */
static bool put_by(struct peer *c, const char *p, uint32_t len)
{
	char *more = len ? malloc(len) : NULL;

	if (len && !more)
		return false;
	if (len)
		memcpy(more, p, len);
	free(c->in);
	c->in = more;
	c->in_len = len;
	return true;
}

static void take_head(struct peer *c, enum http1_result r, const char *why)
{
	static const int status[] = {[HTTP1_BAD] = 400,	      [HTTP1_LONG_LINE] = 414,
				     [HTTP1_LONG_HEAD] = 431, [HTTP1_VERSION] = 505,
				     [HTTP1_CODING] = 501};
	struct server *s = c->server;

	s->requests++;
	if (r != HTTP1_DONE) {
		c->keep = false;
		answer_refuse(c, status[r], why);
		return;
	}
	/* Nobody sends a body with what is served here; what follows one is not looked for. */
	c->keep = s->head.minor && s->head.keep_alive && s->head.framing == HTTP1_BODY_NONE && !s->ending;
}

/* Looks at `len` bytes in s->in. */
static enum step take_bytes(struct peer *c, uint32_t len)
{
	static const struct http1_limits limits = {.head_bytes = SERVER_IN - 16,
						   .headers = HTTP1_HEADERS_MAX};
	struct server *s = c->server;
	const char *why = "";
	enum http1_result r = http1_request(s->in, len, &c->scanned, &limits, &s->head, &why);
	bool complete;

	if (r == HTTP1_MORE) {
		if (!c->in)
			limit_set(c, SERVER_HEAD_MS);
		c->looked = true;
		return put_by(c, s->in, len) ? GO_ON : GONE;
	}
	c->scanned = 0;
	c->looked = false;
	take_head(c, r, why);
	if (r == HTTP1_DONE && !answer_make(c, &s->head)) {
		c->state = PEER_WAIT;
		limit_set(c, HASH_WAIT_MS);
		list_add_tail(&c->file->waiters, &c->in_file);
		s->requests--;
		return put_by(c, s->in, len) ? WAIT : GONE;
	}
	complete = r == HTTP1_DONE && s->head.head_len == len;
	if (!put_by(c, s->in + (complete ? len : s->head.head_len),
		    complete || r != HTTP1_DONE ? 0 : len - s->head.head_len))
		return GONE;
	return send_answer(c);
}

static enum step read_head(struct peer *c)
{
	struct server *s = c->server;
	uint32_t had = c->in_len;
	ssize_t n = 0;

	if (had)
		memcpy(s->in, c->in, had);
	/* What is left from before may be a request as it is. */
	if (had && !c->looked)
		return take_bytes(c, had);
	if (!c->readable)
		return WAIT;
	n = recv(c->io.fd, s->in + had, SERVER_IN - had, 0);
	if (n < 0 && errno == EINTR)
		return GO_ON;
	if (n < 0 && errno == EAGAIN) {
		c->readable = false;
		return WAIT;
	}
	if (n <= 0)
		return GONE;
	if ((size_t)n < SERVER_IN - had && !c->half_closed)
		c->readable = false;
	return take_bytes(c, had + (uint32_t)n);
}

static enum step linger(struct peer *c)
{
	ssize_t n = c->readable ? recv(c->io.fd, c->server->in, SERVER_IN, 0) : -1;

	if (!c->readable || (n < 0 && errno == EAGAIN)) {
		c->readable = false;
		return WAIT;
	}
	if (n <= 0 || (c->lingered += (uint32_t)n) > SERVER_LINGER_BYTES)
		return GONE;
	return GO_ON;
}

/* --- the machine --- */

static void peer_run(struct peer *c)
{
	static enum step (*const steps[])(struct peer *) = {
		[PEER_HEAD] = read_head, [PEER_SEND] = send_rest, [PEER_LINGER] = linger};
	enum step r = GO_ON;

	for (int turn = 0; r == GO_ON; turn++) {
		if (c->state == PEER_WAIT)
			return;
		if (turn == 2 * SERVER_TURN) {
			again(c);
			return;
		}
		r = steps[c->state](c);
	}
	if (r == GONE)
		peer_close(c);
}

static void on_ready(struct loop_io *io, uint32_t events)
{
	struct peer *c = container_of(io, struct peer, io);

	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->readable = true;
	if (events & (EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->half_closed = true;
	if (events & (EPOLLHUP | EPOLLERR) && c->state != PEER_LINGER)
		peer_close(c);
	else
		peer_run(c);
}

void peer_go_on(struct peer *c)
{
	list_del(&c->in_file);
	drop_file(c);
	c->state = PEER_HEAD;
	c->scanned = 0;
	c->waited = true;
	peer_run(c);
}

static void on_limit(struct loop_timer *timer)
{
	struct peer *c = container_of(timer, struct peer, limit);

	if (c->state == PEER_WAIT) {
		peer_go_on(c);
		return;
	}
	if (c->state == PEER_HEAD && c->in_len) {
		c->keep = false;
		answer_refuse(c, 408, "the head of the request did not arrive in time");
		c->in_len = 0;
		if (send_answer(c) == GONE)
			peer_close(c);
		else
			peer_run(c);
		return;
	}
	peer_close(c);
}

void peer_turns(struct server *s)
{
	struct list todo;

	if (list_empty(&s->again))
		return;
	/* Those that ask for another turn while this goes on get it in the next one. */
	list_init(&todo);
	list_add(&s->again, &todo);
	list_del(&s->again);
	list_init(&s->again);
	while (!list_empty(&todo)) {
		struct peer *c = container_of(todo.next, struct peer, in_again);

		list_del(&c->in_again);
		peer_run(c);
	}
}

void peer_end_idle(struct server *s)
{
	struct peer *c, *tmp;

	LIST_EACH_SAFE (c, tmp, &s->peers, in_server)
		if (c->state == PEER_HEAD && !c->in_len && !c->readable)
			peer_close(c);
}

bool peer_open(struct server *s, int fd)
{
	struct peer *c = calloc(1, sizeof(*c));

	if (!c)
		return false;
	c->server = s;
	c->io.on_ready = on_ready;
	c->limit.on_time = on_limit;
	if (loop_io_add(&s->loop, &c->io, fd, WATCH) < 0) {
		free(c);
		return false;
	}
	list_add_tail(&s->peers, &c->in_server);
	s->peer_count++;
	limit_set(c, SERVER_IDLE_MS);
	return true;
}
