/* SPDX-License-Identifier: Apache-2.0
 *
 * A router that takes another one's place: each thread gets client connections from a thread of the
 * old router, and acknowledges each before it touches it. That cannot be done any more: the old
 * one has taken it back, or is dead with what was still inside it; then it is not ours, and in
 * the second case the requests are counted here as lost, for they were inside neither.
 */
#include "route/route_priv.h"

#include <poll.h>

#include "wire/handover.h"

#define TAKE_BUDGET 32 /* packets in one turn */
#define TAKE_PACKET (sizeof(struct handover) + HANDOVER_BYTES_MAX)

struct taking {
	struct thread *t;
	struct loop_io io;
	uint64_t taken;
	bool orphaned; /* the router before died */
	char packet[TAKE_PACKET];
};

static void end(struct taking *k, const char *reason)
{
	int fd = k->io.fd;

	log_info("take.over", "thread=%u taken=%llu reason=\"%s\"", k->t->index,
		 (unsigned long long)k->taken, reason);
	loop_io_del(&k->t->loop, &k->io);
	close(fd);
	free(k);
}

static bool say(struct taking *k, enum handover_kind kind, uint64_t id)
{
	struct handover h;

	handover_init(&h, kind, id);
	return send(k->io.fd, &h, sizeof(h), MSG_NOSIGNAL) == sizeof(h);
}

/* Bytes into a buffer that reading can go on in. False: no memory. */
static bool give_bytes(struct conn *c, const char *p, uint32_t len)
{
	if (!len)
		return true;
	c->in = buffer_get(c->t, len < BUFFER_SMALL ? BUFFER_SMALL : len + BUFFER_SMALL);
	if (!c->in)
		return false;
	memcpy(c->in->data, p, len);
	c->in->len = len;
	return true;
}

static void adopt_client(struct client *c, const struct handover *h, const char *in)
{
	struct thread *t = c->conn.t;
	bool head = h->flags & HANDOVER_HEAD;
	uint32_t most = head ? t->table->limits.header_ms : t->table->limits.idle_ms;

	if (!give_bytes(&c->conn, in, h->in_len)) {
		client_close(c);
		return;
	}
	client_begin(c); /* plain HTTP: what has a layer is not handed over */
	if (h->flags & HANDOVER_PROXY) {
		client_expects_proxy(c);
		most = t->table->limits.header_ms;
	} else {
		c->state = head ? CLIENT_HEAD : CLIENT_IDLE;
	}
	c->first_us = MIN(h->first_us, clock_us());
	loop_timer_set(&t->loop, &c->timer, MIN(h->until_ms, t->loop.now_ms + most));
	if (head)
		client_again(c);
}

static struct slice16 slice(struct handover_slice s)
{
	return (struct slice16){s.at, s.len};
}

static void fill(struct exchange *x, const struct handover *h)
{
	x->is_head = h->flags & HANDOVER_IS_HEAD;
	x->safe = h->flags & HANDOVER_SAFE;
	x->upgrade = h->flags & HANDOVER_UPGRADE;
	x->expects = h->flags & HANDOVER_EXPECTS;
	x->te_trailers = h->flags & HANDOVER_TE_TRAILERS;
	x->old_client = h->flags & HANDOVER_OLD_CLIENT;
	x->keep = h->flags & HANDOVER_KEEP;
	x->waited = h->flags & HANDOVER_WAITED;
	x->framing = (enum http1_framing)h->framing;
	x->length = h->length;
	x->tries = h->tries;
	x->died_under = h->died_under;
	x->wait_us = h->wait_us;
	x->came_ms = MIN(h->came_ms, x->t->loop.now_ms);
	x->method = slice(h->method);
	x->host = slice(h->host);
	x->path = slice(h->path);
	x->id = slice(h->request_id);
	x->agent = slice(h->agent);
	x->trace = slice(h->trace);
	x->secure = h->flags & HANDOVER_SECURE;
	x->near = h->near;
	x->near_key = h->near_key;
}

static void start_ask(struct exchange *x, const struct handover *h)
{
	struct stream *s = &x->ask;

	stream_start(s, &x->client->conn, NULL, x->framing, h->length, x->framing == HTTP1_BODY_CHUNKED);
	s->pass_trailer = true;
	s->most = x->app->conf.body_max;
	if (h->flags & HANDOVER_BODY_JOINED) {
		s->ended = true;
		s->left = 0;
		s->bytes = h->bytes;
	}
	out_set_head(&s->out, x->req->data, x->req->len);
}

static struct app *find_app(struct thread *t, const struct handover *h, const char *req)
{
	struct http1_slice host = {req + h->host.at, h->host.len}, path = {req + h->path.at, h->path.len};
	const char *query = memchr(path.p, '?', path.len);

	if (query)
		path.len = (uint32_t)(query - path.p);
	return exchange_app(t, host, path);
}

/* The request was counted where it came in; here it is one more that is inside. */
static void adopt_request(struct client *c, const struct handover *h, const char *req)
{
	struct thread *t = c->conn.t;
	const char *in = req + h->req_len;
	struct exchange *x;

	c->first_us = MIN(h->first_us, clock_us());
	x = exchange_new(c);
	if (!x)
		return;
	x->keep = h->flags & HANDOVER_KEEP;
	x->req = buffer_get(t, h->req_len);
	if (!x->req || !give_bytes(&c->conn, in, h->in_len)) {
		answer_own(x, 503, "out of memory", true);
		return;
	}
	memcpy(x->req->data, req, h->req_len);
	x->req->len = h->req_len;
	fill(x, h);
	x->app = find_app(t, h, req);
	if (!x->app) {
		answer_own(x, 404, "the app was removed", h->framing != HTTP1_BODY_NONE);
		return;
	}
	x->app->refs++;
	shm_add(&x->app->n->inflight, 1);
	if (x->waited)
		shm_add(&x->app->n->held_now, 1);
	start_ask(x, h);
	exchange_route(x);
}

/* What has come is not ours. False: the channel has ended. */
static bool lose(struct taking *k, const struct handover *h, const char *req)
{
	struct pollfd p = {.fd = k->io.fd};

	/* Shut in one direction it has been given up; in both, the other process is no more. */
	if (poll(&p, 1, 0) != 1 || !(p.revents & POLLHUP)) {
		end(k, "the router before has taken the rest back");
		return false;
	}
	k->orphaned = true;
	if (h->kind == HANDOVER_REQUEST) {
		struct app *app = find_app(k->t, h, req);

		if (app)
			shm_add(&app->n->failed_lost, 1);
	}
	return true;
}

/* False: the channel has ended. */
static bool take_one(struct taking *k, size_t len, const int *fds, int fds_len)
{
	struct handover h;
	struct client *c;
	struct err e;
	const char *bytes = k->packet + sizeof(h);

	if (handover_decode(k->packet, len, fds_len, &h, &e) < 0) {
		for (int i = 0; i < fds_len; i++)
			close(fds[i]);
		end(k, e.msg);
		return false;
	}
	if (fds_len == 0)
		return true; /* a word of a later minor kind: nothing to do */
	if (k->orphaned || !say(k, HANDOVER_ACK, h.id)) {
		close(fds[0]);
		return lose(k, &h, bytes);
	}
	k->taken++;
	shm_add(&k->t->n->taken_over, 1);
	c = client_adopt(k->t, fds[0], h.addr, h.port,
			 h.flags & HANDOVER_PROXY ? FROM_PROXY : FROM_ROUTER);
	if (c && h.kind == HANDOVER_REQUEST)
		adopt_request(c, &h, bytes);
	else if (c)
		adopt_client(c, &h, bytes);
	return true;
}

/* One packet. False: none is there, or the channel has ended. */
static bool receive(struct taking *k)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(2 * sizeof(int))]; /* one more than is right is seen as wrong */
	} control;
	struct iovec v = {k->packet, sizeof(k->packet)};
	struct msghdr m = {.msg_iov = &v, .msg_iovlen = 1, .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(k->io.fd, &m, MSG_CMSG_CLOEXEC);
	int fds[2] = {-1, -1}, fds_len = 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return false;
	if (n <= 0) {
		end(k, n < 0 ? strerror(errno) : "all is handed over");
		return false;
	}
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&m); c; c = CMSG_NXTHDR(&m, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		fds_len = (int)MIN((c->cmsg_len - CMSG_LEN(0)) / sizeof(int), ARRAY_LEN(fds));
		memcpy(fds, CMSG_DATA(c), (size_t)fds_len * sizeof(int));
	}
	/* What was cut to fit has the wrong length, and is refused for that. */
	return take_one(k, (size_t)n, fds, m.msg_flags & MSG_CTRUNC ? 2 : fds_len);
}

static void on_packets(struct loop_io *io, uint32_t events)
{
	struct taking *k = container_of(io, struct taking, io);

	(void)events;
	for (int i = 0; i < TAKE_BUDGET && receive(k); i++)
		;
}

void take_begin(struct thread *t, int fd)
{
	struct taking *k = t->table ? malloc(sizeof(*k)) : NULL;

	if (!k) {
		close(fd);
		return;
	}
	*k = (struct taking){.t = t, .io = {.on_ready = on_packets, .fd = -1}};
	if (loop_io_add(&t->loop, &k->io, fd, EPOLLIN) < 0) {
		close(fd);
		free(k);
		return;
	}
	if (!say(k, HANDOVER_HELLO, 0))
		end(k, "the router before is gone");
}
