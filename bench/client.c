/* SPDX-License-Identifier: Apache-2.0
 *
 * A connection is idle (in `idle`, watched for its end), or carries one request (in
 * `busy`): connecting, then sending, then reading, which overlap: an answer may come
 * before the request is written to its end.
 */
#include "client.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "base/clock.h"

struct conn {
	struct client *client;
	struct list link;
	struct loop_io io;
	struct loop_timer timer;
	uint64_t opened_us;
	struct request *request; /* NULL: idle */
	bool connecting;
	uint32_t watched; /* events */
	struct buf out;	  /* what is still to be written begins at out_at */
	size_t out_at;
	struct answer answer;
};

int client_addr(const char *text, struct client_options *ret, struct err *e)
{
	struct sockaddr_un *un = (void *)&ret->addr;
	struct sockaddr_in *in = (void *)&ret->addr;
	struct sockaddr_in6 *in6 = (void *)&ret->addr;
	const char *colon = strrchr(text, ':');
	char host[64], *end;
	long port;

	memset(&ret->addr, 0, sizeof(ret->addr));
	if (strncmp(text, "unix:", 5) == 0) {
		un->sun_family = AF_UNIX;
		ret->addr_len = sizeof(*un);
		if (!util_copy(un->sun_path, sizeof(un->sun_path), text + 5))
			return err_set(e, ERR_INPUT, "'%s' is too long for a unix socket", text);
		return 0;
	}
	port = colon ? strtol(colon + 1, &end, 10) : 0;
	if (port < 1 || port > 65535 || *end || (size_t)(colon - text) >= sizeof(host))
		goto bad;
	memcpy(host, text, (size_t)(colon - text));
	host[colon - text] = 0;
	if (inet_pton(AF_INET, host, &in->sin_addr) == 1) {
		in->sin_family = AF_INET;
		in->sin_port = htons((uint16_t)port);
		ret->addr_len = sizeof(*in);
		return 0;
	}
	if (host[0] == '[' && host[strlen(host) - 1] == ']') {
		host[strlen(host) - 1] = 0;
		if (inet_pton(AF_INET6, host + 1, &in6->sin6_addr) == 1) {
			in6->sin6_family = AF_INET6;
			in6->sin6_port = htons((uint16_t)port);
			ret->addr_len = sizeof(*in6);
			return 0;
		}
	}
bad:
	return err_set(e, ERR_INPUT, "'%s' is no address: 127.0.0.1:8080, [::1]:8080 or unix:/path",
		       text);
}

/* Takes it out of its list, closes it, frees it. Its request is the caller's again. */
static void conn_destroy(struct conn *n)
{
	struct client *c = n->client;
	int fd = n->io.fd;

	if (n->request)
		c->busy_count--;
	else
		c->idle_count--;
	list_del(&n->link);
	loop_io_del(c->loop, &n->io);
	loop_timer_fini(c->loop, &n->timer);
	close(fd);
	buf_free(&n->out);
	answer_free(&n->answer);
	free(n);
}

static bool start(struct client *c, struct request *r);

/* A connection became free: those that wait come first. */
static void pump(struct client *c)
{
	if (c->pumping)
		return; /* a request that failed at once, below: the loop goes on anyway */
	c->pumping = true;
	while (c->waiting_count) {
		struct request *r = container_of(c->waiting.next, struct request, link);

		if (!start(c, r))
			break;
	}
	c->pumping = false;
}

/* The request is over, and so is the connection. */
static void conn_fail(struct conn *n, enum outcome o, const char *detail)
{
	struct client *c = n->client;
	struct request *r = n->request;
	struct answer a = n->answer;

	n->answer = (struct answer){0}; /* on_end may look at it when the connection is gone */
	conn_destroy(n);
	c->on_end(c, r, o, &a, detail);
	answer_free(&a);
	pump(c);
}

/* What the kernel said about a connection that was up. */
static void conn_broken(struct conn *n, int error)
{
	conn_fail(n, error == ECONNRESET || error == EPIPE ? OUTCOME_RESET : OUTCOME_EOF,
		  strerror(error));
}

static void conn_answered(struct conn *n, bool stray)
{
	struct client *c = n->client;
	struct request *r = n->request;
	uint16_t status = n->answer.status;
	enum outcome o = status == 200	 ? OUTCOME_OK
			 : status >= 500 ? OUTCOME_S5XX
			 : status >= 400 ? OUTCOME_S4XX
					 : OUTCOME_STATUS;
	bool whole = n->out_at == n->out.len;
	char detail[32];

	if (stray)
		c->on_stray(c);
	if (n->opened_us > c->router_fault_us)
		c->router_fault_us = 0;
	snprintf(detail, sizeof(detail), "status %u", status);
	if (stray || !whole || !n->answer.keep_alive || r->fresh) {
		conn_fail(n, o, detail);
		return;
	}
	loop_timer_stop(c->loop, &n->timer);
	list_del(&n->link);
	list_add_tail(&c->idle, &n->link);
	c->busy_count--;
	c->idle_count++;
	n->request = NULL;
	c->on_end(c, r, o, &n->answer, detail);
	pump(c);
}

static void conn_ended(struct conn *n)
{
	conn_fail(n, n->answer.begun ? OUTCOME_CUT : OUTCOME_EOF,
		  n->answer.begun ? "the answer was cut short" : "closed without an answer");
}

/* Reads until there is nothing; true when the connection lives and the answer is not complete. */
static bool conn_read(struct conn *n)
{
	static char chunk[64 << 10];

	for (;;) {
		ssize_t len = read(n->io.fd, chunk, sizeof(chunk));
		size_t used;

		if (len < 0 && errno == EAGAIN)
			return true;
		if (len < 0 && n->answer.begun && errno == ECONNRESET)
			conn_fail(n, OUTCOME_RESET, "reset within the answer");
		else if (len < 0)
			conn_broken(n, errno);
		else if (len == 0)
			conn_ended(n);
		if (len <= 0)
			return false;
		switch (answer_feed(&n->answer, chunk, (size_t)len, &used)) {
		case ANSWER_MORE:
			break;
		case ANSWER_DONE:
			conn_answered(n, used < (size_t)len);
			return false;
		case ANSWER_BAD:
			conn_fail(n, OUTCOME_MALFORMED, n->answer.why);
			return false;
		}
	}
}

static void conn_watch(struct conn *n, uint32_t events)
{
	if (n->watched == events)
		return;
	ensure(loop_io_change(n->client->loop, &n->io, events) == 0);
	n->watched = events;
}

/* False when the connection is gone. */
static bool conn_write(struct conn *n)
{
	struct request *r = n->request;

	while (n->out_at < n->out.len) {
		ssize_t len;

		if (!r->sent_us) {
			r->sent_us = clock_us();
			r->permitted |= n->opened_us <= n->client->router_fault_us;
		}
		len = send(n->io.fd, n->out.data + n->out_at, n->out.len - n->out_at, MSG_NOSIGNAL);
		if (len < 0 && errno == EAGAIN)
			break;
		if (len < 0) {
			int error = errno;

			/* What it said before it left counts: an early answer, then a close. */
			if (conn_read(n))
				conn_broken(n, error);
			return false;
		}
		n->out_at += (size_t)len;
	}
	conn_watch(n, EPOLLIN | (n->out_at < n->out.len ? EPOLLOUT : 0));
	return true;
}

static bool conn_connected(struct conn *n)
{
	int error = 0;
	socklen_t len = sizeof(error);

	getsockopt(n->io.fd, SOL_SOCKET, SO_ERROR, &error, &len);
	if (error) {
		conn_fail(n, OUTCOME_REFUSED, strerror(error));
		return false;
	}
	n->connecting = false;
	return true;
}

static void conn_idle_ready(struct conn *n)
{
	char byte;

	ssize_t len = recv(n->io.fd, &byte, 1, MSG_DONTWAIT);

	if (len < 0 && errno == EAGAIN)
		return; /* an event of the time before it was idle */
	if (len > 0)
		n->client->on_stray(n->client);
	conn_destroy(n);
}

static void conn_ready(struct loop_io *io, uint32_t events)
{
	struct conn *n = container_of(io, struct conn, io);

	if (!n->request) {
		conn_idle_ready(n);
		return;
	}
	if (n->connecting && !conn_connected(n))
		return;
	if (n->out_at < n->out.len && !conn_write(n))
		return;
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		conn_read(n);
}

static void conn_late(struct loop_timer *timer)
{
	struct conn *n = container_of(timer, struct conn, timer);

	conn_fail(n, n->connecting ? OUTCOME_REFUSED : OUTCOME_TIMEOUT,
		  n->connecting ? "not connected in time" : "no whole answer in time");
}

static void conn_take(struct conn *n, struct request *r)
{
	struct client *c = n->client;

	if (list_linked(&r->link)) {
		list_del(&r->link);
		c->waiting_count--;
	}
	n->request = r;
	list_add_tail(&c->busy, &n->link);
	c->busy_count++;
	c->busy_most = MAX(c->busy_most, c->busy_count);
	n->out.len = n->out_at = 0;
	c->write(c, r, &n->out);
	ensure(!n->out.failed);
	answer_begin(&n->answer, c->o.body_max);
	loop_timer_set(c->loop, &n->timer, clock_ms() + c->o.timeout_ms);
}

/* Opens a connection for the request, which is settled at once when that fails. */
static void conn_open(struct client *c, struct request *r)
{
	struct conn *n = util_alloc(sizeof(*n));
	int one = 1;
	int fd = socket(c->o.addr.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	ensure(fd >= 0); /* the bound of connections was checked against the limit of descriptors */
	*n = (struct conn){.client = c, .opened_us = clock_us(), .connecting = true};
	n->watched = EPOLLIN | EPOLLOUT;
	n->io.on_ready = conn_ready;
	n->timer.on_time = conn_late;
	if (c->o.addr.ss_family != AF_UNIX)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	ensure(loop_io_add(c->loop, &n->io, fd, n->watched) == 0);
	c->opened++;
	conn_take(n, r);
	if (connect(fd, (void *)&c->o.addr, c->o.addr_len) == 0) {
		n->connecting = false;
		conn_write(n);
	} else if (errno != EINPROGRESS) {
		conn_fail(n, OUTCOME_REFUSED, strerror(errno));
	}
}

/* An idle connection that has not ended, as far as can be seen; or NULL. */
static struct conn *take_idle(struct client *c)
{
	while (!list_empty(&c->idle)) {
		struct conn *n = container_of(c->idle.next, struct conn, link);
		char byte;

		if (recv(n->io.fd, &byte, 1, MSG_PEEK | MSG_DONTWAIT) < 0 && errno == EAGAIN) {
			list_del(&n->link);
			c->idle_count--;
			return n;
		}
		conn_idle_ready(n);
	}
	return NULL;
}

/* False when there is no connection for it. */
static bool start(struct client *c, struct request *r)
{
	struct conn *n = r->fresh ? NULL : take_idle(c);

	if (n) {
		conn_take(n, r);
		conn_write(n);
		return true;
	}
	if (c->busy_count + c->idle_count >= c->o.connections) {
		if (list_empty(&c->idle))
			return false;
		conn_destroy(container_of(c->idle.next, struct conn, link));
	}
	conn_open(c, r);
	return true;
}

void client_init(struct client *c, struct loop *loop, const struct client_options *o)
{
	*c = (struct client){.loop = loop, .o = *o};
	list_init(&c->idle);
	list_init(&c->busy);
	list_init(&c->waiting);
}

void client_fini(struct client *c)
{
	while (!list_empty(&c->idle))
		conn_destroy(container_of(c->idle.next, struct conn, link));
	while (!list_empty(&c->busy))
		conn_destroy(container_of(c->busy.next, struct conn, link));
}

void client_send(struct client *c, struct request *r)
{
	r->link = (struct list){0};
	if (!c->waiting_count && start(c, r))
		return;
	if (c->waiting_count >= c->o.waiting) {
		c->on_end(c, r, OUTCOME_UNSENT, NULL, "too many wait for a connection");
		return;
	}
	list_add_tail(&c->waiting, &r->link);
	c->waiting_count++;
	c->waiting_most = MAX(c->waiting_most, c->waiting_count);
	c->on_waits(c, r);
}

void client_drop_waiting(struct client *c)
{
	while (c->waiting_count) {
		struct request *r = container_of(c->waiting.next, struct request, link);

		list_del(&r->link);
		c->waiting_count--;
		c->on_end(c, r, OUTCOME_UNSENT, NULL, "no connection became free");
	}
}

/* Counts what is sent and unanswered, and permits it to fail: all, or only POSTs. */
static struct client_in_flight in_flight(struct client *c, bool permit_get, bool permit_post)
{
	struct client_in_flight f = {0};
	struct conn *n;

	LIST_EACH (n, &c->busy, link) {
		bool post = request_method(n->request) == METHOD_POST;

		if (!n->request->sent_us)
			continue;
		f.all++;
		f.posts += post;
		n->request->permitted |= post ? permit_post : permit_get;
	}
	return f;
}

struct client_in_flight client_router_fault(struct client *c, uint64_t now_us)
{
	c->router_fault_us = now_us;
	return in_flight(c, true, true);
}

struct client_in_flight client_instance_fault(struct client *c)
{
	return in_flight(c, false, true);
}

struct client_in_flight client_count_in_flight(struct client *c)
{
	return in_flight(c, false, false);
}
