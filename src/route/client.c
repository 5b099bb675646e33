/* SPDX-License-Identifier: Apache-2.0
 *
 * A client's connection between and at the start of requests. While it is idle it
 * is this struct and a descriptor, nothing else: the buffer comes when bytes do.
 *
 *	(PROXY ──its header──>)
 *	(GREET ──TLS handshake──>)
 *	IDLE ──bytes──> HEAD ──complete──> BUSY (an exchange has it) ──over──> IDLE
 *	  │ idle_ms       │ header_ms: 408                              └─────> LINGER ──> gone
 *	  └──> gone       └ bad: 400, 414, 431, 501, 505 ───────────────────────^
 *
 * LINGER: our side is closed, what still comes in is read and thrown away, bounded
 * in bytes and time. Closing with unread input would make the kernel send a reset,
 * and that can destroy the answer on its way (RFC 9112, 9.6).
 */
#include "route/route_priv.h"

#include <arpa/inet.h>

static void on_client_time(struct loop_timer *timer)
{
	struct client *c = container_of(timer, struct client, timer);
	struct exchange *x;

	if (c->state == CLIENT_H2) {
		h2_time(c);
		return;
	}
	if (c->state != CLIENT_HEAD) {
		if (c->state == CLIENT_PROXY)
			shm_add(&c->conn.t->n->proxy_refused, 1);
		if (c->state == CLIENT_GREET)
			tls_late(&c->conn);
		client_close(c);
		return;
	}
	x = exchange_new(c);
	if (x)
		answer_own(x, 408, "the head of the request did not arrive in time", true);
}

static void linger_read(struct client *c)
{
	/* What tells of the end may not have fitted the first time (TLS). */
	if (c->conn.layer && c->conn.writable)
		conn_shut(&c->conn);
	/* Enough was read: a client that goes on sending is not helped by a reset, which would take our answer
	 * with it, but by being stopped, until it looks or its time is up. */
	while ((c->conn.readable && c->lingered <= LINGER_BYTES) || c->conn.broken) {
		int n = c->conn.broken ? 0 : conn_read(&c->conn);

		if (n == -EAGAIN)
			return;
		if (n <= 0) {
			client_close(c);
			return;
		}
		c->lingered += (uint32_t)n;
		c->conn.in->len = 0;
	}
}

/* The handshake, then what was agreed begins. Each step of it takes as long as many requests: when hundreds
 * come at once, requests have their turn in between. */
static void greet(struct client *c)
{
	struct thread *t = c->conn.t;
	struct exchange *x;

	if (t->greets++ >= GREETS_PER_TURN) {
		shm_add(&t->n->tls_put_off, 1);
		client_again(c);
		return;
	}
	switch (tls_greet(&c->conn)) {
	case TLS_WAIT:
		return;
	case TLS_FAILED:
		client_close(c);
		return;
	case TLS_PLAIN:
		c->https = false;
		c->first_us = clock_us();
		x = exchange_new(c);
		if (x)
			answer_own(x, 400, "here TLS is spoken: the address begins with https://", true);
		return;
	case TLS_DONE:
		if (tls_protocol(&c->conn) == TLS_H2) {
			h2_open(c);
			return;
		}
		c->state = CLIENT_IDLE;
		loop_timer_set(&t->loop, &c->timer, t->loop.now_ms + t->table->limits.idle_ms);
		if (c->conn.readable)
			client_process(c);
		return;
	}
}

void client_run(struct client *c)
{
	if (c->is_stream) {
		h2_stream_run(c);
		return;
	}
	switch (c->state) {
	case CLIENT_PROXY:
		proxied_read(c);
		return;
	case CLIENT_GREET:
		greet(c);
		return;
	case CLIENT_BUSY:
		exchange_run(c->x);
		return;
	case CLIENT_LINGER:
		linger_read(c);
		return;
	case CLIENT_H2:
		h2_run(c);
		return;
	case CLIENT_IDLE:
	case CLIENT_HEAD:
		client_process(c);
		return;
	case CLIENT_OFFERED: /* not watched */
		return;
	}
}

static void on_client(struct loop_io *io, uint32_t events)
{
	struct client *c = container_of(io, struct client, conn.io);

	conn_note(&c->conn, events);
	if (c->conn.readable || (c->state != CLIENT_IDLE && c->state != CLIENT_HEAD))
		client_run(c);
}

void client_addr(const struct sockaddr_storage *from, uint8_t ret[16], uint16_t *ret_port)
{
	const struct sockaddr_in6 *six = (const void *)from;
	const struct sockaddr_in *four = (const void *)from;

	memset(ret, 0, 16);
	*ret_port = 0;
	if (from->ss_family == AF_INET6) {
		memcpy(ret, &six->sin6_addr, 16);
		*ret_port = ntohs(six->sin6_port);
	} else if (from->ss_family == AF_INET) {
		ret[10] = ret[11] = 0xff;
		memcpy(ret + 12, &four->sin_addr, 4);
		*ret_port = ntohs(four->sin_port);
	}
}

void client_init(struct client *c, struct thread *t, void (*on_ready)(struct loop_io *, uint32_t))
{
	conn_init(&c->conn, t, on_ready);
	c->x = NULL;
	c->h2 = NULL;
	c->in_again = c->in_thread = (struct list){0};
	c->scanned = 0;
	c->lingered = 0;
	c->state = CLIENT_IDLE;
	c->used = c->is_stream = c->counted = false;
}

void client_is_from(struct client *c, const uint8_t addr[16], uint16_t port)
{
	struct in6_addr six;

	memcpy(&six, addr, sizeof(six));
	memcpy(c->addr, addr, sizeof(c->addr));
	c->port = port;
	if (IN6_IS_ADDR_V4MAPPED(&six))
		inet_ntop(AF_INET, c->addr + 12, c->ip, sizeof(c->ip));
	else
		inet_ntop(AF_INET6, c->addr, c->ip, sizeof(c->ip));
}

bool client_begin(struct client *c)
{
	struct thread *t = c->conn.t;

	if (c->https && tls_open(&c->conn) < 0) {
		client_close(c);
		return false;
	}
	c->state = c->https ? CLIENT_GREET : CLIENT_IDLE;
	loop_timer_set(&t->loop, &c->timer,
		       t->loop.now_ms + (c->https ? t->table->limits.header_ms : t->table->limits.idle_ms));
	return true;
}

void client_expects_proxy(struct client *c)
{
	struct thread *t = c->conn.t;

	c->state = CLIENT_PROXY;
	loop_timer_set(&t->loop, &c->timer, t->loop.now_ms + t->table->limits.header_ms);
}

struct client *client_adopt(struct thread *t, int fd, const uint8_t addr[16], uint16_t port,
			    enum client_from from)
{
	struct client *c = pool_get(t, &t->clients);
	bool admitted;

	if (!c) {
		close(fd);
		return NULL;
	}
	client_init(c, t, on_client);
	c->timer.on_time = on_client_time;
	client_is_from(c, addr, port);
	admitted = from == FROM_PROXY || policy_connects(c) || from == FROM_ROUTER;
	if (!admitted || conn_watch(&c->conn, fd, false) < 0) {
		policy_disconnects(c);
		close(fd);
		if (!pool_put(&t->clients, c)) {
			loop_timer_fini(&t->loop, &c->timer);
			free(c);
		}
		return NULL;
	}
	list_add_tail(&t->everyone, &c->in_thread);
	shm_add(&t->n->clients, 1);
	atomic_fetch_add(&t->r->clients, 1);
	c->https = false;
	return c;
}

void client_open(struct listener *l, int fd, const struct sockaddr_storage *peer)
{
	struct thread *t = l->t;
	struct client *c;
	uint8_t addr[16];
	uint16_t port;
	bool proxied;

	client_addr(peer, addr, &port);
	proxied = l->conf->app == UINT32_MAX && l->conf->net_count && table_proxied(t->table, l->conf, addr);
	c = client_adopt(t, fd, addr, port, proxied ? FROM_PROXY : FROM_LISTENER);
	if (!c)
		return;
	c->https = l->conf->tls;
	if (l->conf->app != UINT32_MAX) {
		client_begin(c);
		tcp_begin(c, t->apps[l->conf->app]);
	} else if (proxied) {
		client_expects_proxy(c);
	} else if (client_begin(c) && c->https) {
		/* Its hello left together with the last packet of TCP's handshake, so it may be here. */
		c->conn.readable = true;
		client_run(c);
	}
}

static void end(struct client *c, bool reset)
{
	struct thread *t = c->conn.t;

	ensure(!c->x && !c->h2);
	if (c->is_stream) {
		h2_stream_over(c);
		return;
	}
	list_del(&c->in_again);
	list_del(&c->in_thread);
	if (reset)
		conn_reset(&c->conn);
	else
		conn_close(&c->conn);
	policy_disconnects(c);
	shm_sub(&t->n->clients, 1);
	atomic_fetch_sub(&t->r->clients, 1);
	loop_timer_stop(&t->loop, &c->timer);
	if (!pool_put(&t->clients, c)) {
		loop_timer_fini(&t->loop, &c->timer);
		free(c);
	}
}

void client_close(struct client *c)
{
	end(c, false);
}

void client_again(struct client *c)
{
	if (!list_linked(&c->in_again))
		list_add_tail(&c->conn.t->again, &c->in_again);
}

void client_linger(struct client *c)
{
	if (conn_shut(&c->conn) < 0 && !(c->conn.layer && errno == EAGAIN)) {
		client_close(c);
		return;
	}
	c->state = CLIENT_LINGER;
	if (c->conn.in)
		c->conn.in->len = 0;
	loop_timer_set(&c->conn.t->loop, &c->timer, c->conn.t->loop.now_ms + LINGER_MS);
	linger_read(c);
}

void client_next(struct client *c, enum client_after after)
{
	struct thread *t = c->conn.t;

	c->x = NULL;
	c->state = CLIENT_IDLE;
	c->used = true;
	if (c->is_stream) {
		h2_stream_over(c);
		return;
	}
	/* An end that TLS could not tell of yet, since the client reads slowly, is waited for. */
	if (after == AFTER_CLOSE && c->conn.layer && conn_shut(&c->conn) < 0 && errno == EAGAIN)
		after = AFTER_LINGER;
	if (after == AFTER_LINGER && !c->conn.broken) {
		client_linger(c);
		return;
	}
	if (after != AFTER_KEEP) {
		end(c, after == AFTER_RESET);
		return;
	}
	loop_timer_set(&t->loop, &c->timer, t->loop.now_ms + t->table->limits.idle_ms);
	if (c->conn.in && !c->conn.in->len)
		buffer_put(t, &c->conn.in);
	/* Not at once: a client that pipelines must not keep the others waiting. */
	if (c->conn.in || c->conn.readable || t->leaving)
		client_again(c);
}

/* Who sends a head in pieces may be one of thousands that never send the last: what is there moves
 * into a small buffer while the rest is waited for. */
static void shrink(struct client *c)
{
	struct buffer *b = c->conn.in, *less;

	if (c->state != CLIENT_HEAD || !b || b->cap <= BUFFER_SMALL || b->len > BUFFER_SMALL / 2)
		return;
	less = buffer_get(c->conn.t, BUFFER_SMALL);
	if (!less)
		return;
	memcpy(less->data, b->data + b->at, b->len);
	less->len = b->len;
	buffer_put(c->conn.t, &c->conn.in);
	c->conn.in = less;
}

/* Makes room for a head that is longer than a buffer. False: the client is gone. */
static bool make_room(struct client *c)
{
	struct buffer *b = c->conn.in, *more;
	uint32_t want = MIN(c->conn.t->table->limits.header_bytes + 16, BUFFER_MOST);


	if (b->at + b->len < b->cap || b->cap < BUFFER_LARGE) /* reading makes it larger */
		return true;
	if (b->at) {
		memmove(b->data, b->data + b->at, b->len);
		b->at = 0;
		return true;
	}
	more = want > b->cap ? buffer_get(c->conn.t, want) : NULL;
	if (!more) {
		client_close(c);
		return false;
	}
	memcpy(more->data, b->data, b->len);
	more->len = b->len;
	buffer_put(c->conn.t, &c->conn.in);
	c->conn.in = more;
	return true;
}

void client_refuse(struct client *c, enum http1_result r, const char *why)
{
	static const uint16_t status[] = {[HTTP1_BAD] = 400,	   [HTTP1_LONG_LINE] = 414,
					  [HTTP1_LONG_HEAD] = 431, [HTTP1_VERSION] = 505,
					  [HTTP1_CODING] = 501};
	struct thread *t = c->conn.t;
	struct exchange *x = exchange_new(c);

	shm_add(&t->n->bad_requests, 1);
	if (x)
		answer_own(x, status[r], why, true);
}

/* HTTP/2 with prior knowledge (RFC 9113, 3.3): what is a bad head in HTTP/1, for this reason. */
static bool is_preface(const struct buffer *b)
{
	static const char preface[] = "PRI * HTTP/2.0\r\n\r\n";

	return b->len >= sizeof(preface) - 1 &&
	       memcmp(b->data + b->at, preface, sizeof(preface) - 1) == 0;
}

/* Looks at what was read. True: a request began (or the client is gone); false: read more. */
static bool take_head(struct client *c)
{
	struct thread *t = c->conn.t;
	struct buffer *b = c->conn.in;
	struct http1_limits limits = {
		.head_bytes = MIN(t->table->limits.header_bytes, BUFFER_MOST - 16),
		.headers = MIN(t->table->limits.header_count, (uint32_t)HTTP1_HEADERS_MAX)};
	const char *why = "";
	enum http1_result r;

	if (c->state == CLIENT_IDLE)
		c->first_us = clock_us();
	r = http1_request(b->data + b->at, b->len, &c->scanned, &limits, &t->head, &why);
	if (r == HTTP1_MORE) {
		if (c->state == CLIENT_IDLE) {
			c->state = CLIENT_HEAD;
			loop_timer_set(&t->loop, &c->timer,
				       t->loop.now_ms + t->table->limits.header_ms);
		}
		return !make_room(c);
	}
	loop_timer_stop(&t->loop, &c->timer);
	c->scanned = 0;
	c->state = CLIENT_BUSY;
	if (r != HTTP1_DONE) {
		if (r == HTTP1_VERSION && !c->used && t->table->limits.streams && is_preface(b))
			h2_open(c);
		else
			client_refuse(c, r, why);
		return true;
	}
	b->at += t->head.head_len;
	b->len -= t->head.head_len;
	exchange_begin(c);
	return true;
}

void client_process(struct client *c)
{
	int n;

	if (c->conn.t->leaving && leave_offer(c))
		return;
	for (;;) {
		if (c->conn.in && c->conn.in->len && take_head(c))
			return;
		n = c->conn.readable ? conn_read(&c->conn) : -EAGAIN;
		if (n > 0)
			continue;
		if (n == -EAGAIN) {
			if (c->conn.in && !c->conn.in->len)
				buffer_put(c->conn.t, &c->conn.in);
			shrink(c);
			return;
		}
		client_close(c); /* it ended, or there is no memory for it */
		return;
	}
}
