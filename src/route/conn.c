/* SPDX-License-Identifier: Apache-2.0
 *
 * A stream socket on an edge-triggered loop. What an event said is remembered
 * until a system call says otherwise, so that calls which would only answer
 * EAGAIN are not made.
 *
 * A descriptor is registered once, for what comes in. EPOLLOUT is asked for when
 * something waits to be sent (a connect that goes on, too): a socket that is new has
 * room, and would be reported at once for it, one useless turn for each connection.
 * TCP keeps it from then on: the kernel reports it only after a send that did not fit.
 * A unix socket would report it each time that the peer reads; there it is given up
 * again when all is out.
 */
#include "route/route_priv.h"

#define WATCH (EPOLLIN | EPOLLRDHUP | EPOLLET)

void conn_init(struct conn *c, struct thread *t, void (*on_ready)(struct loop_io *, uint32_t))
{
	*c = (struct conn){.io = {.on_ready = on_ready, .fd = -1}, .t = t, .writable = true};
}

int conn_watch(struct conn *c, int fd, bool is_unix)
{
	c->is_unix = is_unix;
	c->wants_out = !c->writable;
	return loop_io_add(&c->t->loop, &c->io, fd, c->writable ? WATCH : WATCH | EPOLLOUT);
}

int conn_shut(struct conn *c)
{
	return c->layer ? c->layer->shut(c) : shutdown(c->io.fd, SHUT_WR);
}

static void end(struct conn *c, bool reset)
{
	struct linger at_once = {.l_onoff = 1};
	int fd = c->io.fd;

	if (c->layer)
		c->layer->close(c, reset);
	if (fd >= 0) {
		if (reset)
			setsockopt(fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
		/* Closing the only descriptor takes it off epoll; but events of this turn may
		 * still be in hand, and loop_io_del() passes them over. */
		loop_io_del(&c->t->loop, &c->io);
		close(fd);
	}
	buffer_put(c->t, &c->in);
}

void conn_close(struct conn *c)
{
	end(c, false);
}

void conn_reset(struct conn *c)
{
	end(c, true);
}

void conn_note(struct conn *c, uint32_t events)
{
	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR))
		c->readable = true;
	if (events & (EPOLLOUT | EPOLLHUP | EPOLLERR))
		c->writable = true;
	if (events & EPOLLRDHUP)
		c->half_closed = true;
	if (events & (EPOLLHUP | EPOLLERR))
		c->half_closed = c->broken = true;
	if (c->layer)
		c->layer->note(c, events);
}

/* In place of a small buffer that is empty or full; on no memory, the small one stays. */
static struct buffer *larger(struct conn *c)
{
	struct buffer *b = c->in, *more = buffer_get(c->t, BUFFER_LARGE);

	if (!more)
		return b;
	memcpy(more->data, b->data + b->at, b->len);
	more->len = b->len;
	buffer_put(c->t, &c->in);
	return c->in = more;
}

int conn_read(struct conn *c)
{
	struct buffer *b = c->in;
	uint32_t room;
	ssize_t n;

	if (!b) {
		b = c->in = buffer_get(c->t, BUFFER_LARGE);
		if (!b)
			return -ENOMEM;
	}
	if (b->cap < BUFFER_LARGE && (!b->len || b->at + b->len == b->cap))
		b = larger(c);
	if (b->len == 0) {
		b->at = 0;
	} else if (b->at && b->at + b->len == b->cap) {
		memmove(b->data, b->data + b->at, b->len);
		b->at = 0;
	}
	room = b->cap - b->at - b->len;
	if (!room)
		return -ENOBUFS;
	do
		n = c->layer ? c->layer->recv(c, b->data + b->at + b->len, room)
			     : recv(c->io.fd, b->data + b->at + b->len, room, 0);
	while (n < 0 && errno == EINTR);
	if (n > 0) {
		b->len += (uint32_t)n;
		/* Less than there was room for: it is drained, unless its end is to be read. */
		if ((uint32_t)n < room && !c->half_closed && !c->layer)
			c->readable = false;
		return (int)n;
	}
	if (n == 0) {
		c->half_closed = true;
		c->readable = true; /* the end can be read again */
		return 0;
	}
	if (errno == EAGAIN)
		c->readable = false;
	return -errno;
}

void conn_want_out(struct conn *c)
{
	c->writable = false;
	if (c->io.fd >= 0 && !c->wants_out) {
		c->wants_out = true;
		loop_io_change(&c->t->loop, &c->io, WATCH | EPOLLOUT);
	}
}

static void want_no_out(struct conn *c)
{
	if (c->is_unix && c->wants_out) {
		c->wants_out = false;
		loop_io_change(&c->t->loop, &c->io, WATCH);
	}
}

static void out_advance(struct out *o, size_t n)
{
	while (o->at < o->n && n >= o->v[o->at].iov_len)
		n -= o->v[o->at++].iov_len;
	if (o->at < o->n) {
		o->v[o->at].iov_base = (char *)o->v[o->at].iov_base + n;
		o->v[o->at].iov_len -= n;
	} else {
		o->at = o->n = 0;
	}
}

static ssize_t send_some(struct conn *c, struct iovec *v, size_t n)
{
	struct msghdr m = {.msg_iov = v, .msg_iovlen = n};

	if (c->layer)
		return c->layer->send(c, v, n);
	return n == 1 ? send(c->io.fd, v->iov_base, v->iov_len, MSG_NOSIGNAL)
		      : sendmsg(c->io.fd, &m, MSG_NOSIGNAL);
}

int conn_send(struct conn *c, struct out *o, uint64_t *sent, uint32_t *writes)
{
	while (out_pending(o)) {
		ssize_t n;

		if (!c->writable)
			return 0;
		n = send_some(c, &o->v[o->at], (size_t)(o->n - o->at));
		if (n < 0) {
			if (errno == EINTR)
				continue;
			if (errno != EAGAIN)
				return -errno;
			conn_want_out(c);
			return 0;
		}
		*sent += (uint64_t)n;
		++*writes;
		out_advance(o, (size_t)n);
	}
	want_no_out(c);
	return 1;
}
