/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections to targets. Idle ones are kept, the newest is used first, so that
 * those that are not needed grow old and go. One on which anything arrives while
 * it is idle (an end, an error, an answer to nobody's question) is closed at once.
 */
#include "route/route_priv.h"

#include <netinet/tcp.h>

static void on_upstream(struct loop_io *io, uint32_t events)
{
	struct upstream *u = container_of(io, struct upstream, conn.io);

	conn_note(&u->conn, events);
	if (u->x) {
		exchange_run(u->x);
	} else if (u->conn.readable || u->conn.broken) {
		if (u->conn.half_closed || u->conn.broken)
			upstream_learn(u->target, u->conn.t->loop.now_ms - u->idle_since_ms);
		upstream_close(u);
	}
}

void upstream_learn(struct target *g, uint64_t age_ms)
{
	uint64_t before, now = g->t->loop.now_ms;

	if (g->kind != TARGET_TCP) /* nothing is on its way there */
		return;
	before = atomic_load_explicit(&g->shared->idle, memory_order_relaxed);
	atomic_store_explicit(&g->shared->idle, idle_learn(before, age_ms, now), memory_order_relaxed);
}

/* What the target is about to end is better ended here: nobody takes it by mistake. The newest are
 * used first, so one look at the oldest whenever another one comes is enough. */
static void drop_near_its_end(struct target *g, uint64_t now_ms)
{
	uint64_t near = idle_near_ms(atomic_load_explicit(&g->shared->idle, memory_order_relaxed));
	struct upstream *oldest = container_of(g->idle.next, struct upstream, in_target);

	if (near != UINT64_MAX && now_ms - oldest->idle_since_ms >= near && g->idle_count > 1)
		upstream_close(oldest);
}

static void unpool(struct upstream *u)
{
	list_del(&u->in_target);
	list_del(&u->in_age);
	u->target->idle_count--;
}

void upstream_close(struct upstream *u)
{
	struct thread *t = u->conn.t;

	if (u->is_stream) {
		h2_ask_close(u, false);
		return;
	}
	if (list_linked(&u->in_age))
		unpool(u);
	else
		list_del(&u->in_target);
	conn_close(&u->conn);
	shm_sub(&u->target->n->connections, 1);
	if (!pool_put(&t->upstreams, u))
		free(u);
}

/* Is there nothing to be read? A read that filled its buffer leaves that open; and what is left
 * there would be announced by no event, and taken for the answer to the next request. */
static bool is_drained(struct upstream *u)
{
	char byte;

	if (u->conn.readable && recv(u->conn.io.fd, &byte, 1, MSG_PEEK) < 0 && errno == EAGAIN)
		u->conn.readable = false;
	return !u->conn.readable;
}

void upstream_keep(struct upstream *u)
{
	struct target *g = u->target;
	struct thread *t = u->conn.t;

	if (u->is_stream) {
		h2_ask_close(u, true);
		return;
	}
	if (g->use != USE_SERVE || t->leaving || g->app->conf.proxy || g->idle_count >= IDLE_MAX || u->conn.half_closed ||
	    u->conn.broken || u->outdated || !is_drained(u)) {
		upstream_close(u);
		return;
	}
	buffer_put(t, &u->conn.in);
	list_del(&u->in_target);
	u->x = NULL;
	u->idle_since_ms = t->loop.now_ms;
	list_add_tail(&g->idle, &u->in_target);
	list_add_tail(&t->idle_upstreams, &u->in_age);
	g->idle_count++;
	drop_near_its_end(g, t->loop.now_ms);
}

void upstream_drop_idle(struct target *g)
{
	while (!list_empty(&g->idle))
		upstream_close(container_of(g->idle.next, struct upstream, in_target));
	h2_up_drop_idle(g);
}

void upstream_outdate(struct target *g)
{
	struct upstream *u;

	upstream_drop_idle(g);
	LIST_EACH(u, &g->active, in_target)
		u->outdated = true;
}

void upstream_sweep(struct thread *t)
{
	while (!list_empty(&t->idle_upstreams)) {
		struct upstream *u =
			container_of(t->idle_upstreams.next, struct upstream, in_age);

		if (t->loop.now_ms - u->idle_since_ms < IDLE_MS)
			break;
		upstream_close(u);
	}
}

/* A request that may not be repeated takes, over TCP, only a connection that is surely alive: the
 * target's end of it may be on its way (core/idle.h). Over a unix socket nothing is on its way. */
static struct upstream *take_idle(struct exchange *x, struct target *g)
{
	struct upstream *u;
	uint64_t age;

	if (list_empty(&g->idle) || g->app->conf.proxy)
		return NULL;
	u = container_of(g->idle.prev, struct upstream, in_target);
	age = x->t->loop.now_ms - u->idle_since_ms;
	if (g->kind == TARGET_TCP && !x->safe &&
	    age >= idle_sure_ms(atomic_load_explicit(&g->shared->idle, memory_order_relaxed)))
		return NULL;
	unpool(u);
	u->idle_ms = age;
	u->reused = true;
	return u;
}

static int connect_to(const struct target *g, int fd)
{
	int rc;

	do
		rc = connect(fd, (const struct sockaddr *)g->addr, g->addr_len);
	while (rc < 0 && errno == EINTR);
	return rc;
}

int upstream_connect(struct conn *c, const struct target *g, bool *ret_going_on)
{
	int family = g->kind == TARGET_UNIX ? AF_UNIX : ((const struct sockaddr *)g->addr)->sa_family;
	int fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), one = 1, saved;

	if (fd < 0)
		return -1;
	*ret_going_on = false;
	if (g->kind == TARGET_TCP)
		setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	if (connect_to(g, fd) < 0) {
		if (errno != EINPROGRESS)
			goto failed;
		*ret_going_on = true;
		c->writable = false;
	}
	if (conn_watch(c, fd, g->kind == TARGET_UNIX) == 0)
		return 0;
failed:
	saved = errno;
	close(fd);
	errno = saved;
	return -1;
}

static struct upstream *open_new(struct exchange *x, struct target *g)
{
	struct thread *t = x->t;
	struct upstream *u = pool_get(t, &t->upstreams);

	if (!u) {
		errno = ENOMEM;
		return NULL;
	}
	memset(u, 0, sizeof(*u));
	conn_init(&u->conn, t, on_upstream);
	u->target = g;
	if (upstream_connect(&u->conn, g, &u->connecting) == 0)
		return u;
	if (!pool_put(&t->upstreams, u))
		free(u);
	return NULL;
}

enum connect_result upstream_get(struct exchange *x, struct target *g, bool fresh)
{
	struct upstream *u;

	if (g->app->conf.h2)
		return h2_up_get(x, g, fresh);
	u = fresh ? NULL : take_idle(x, g);
	if (u) {
		shm_add(&g->n->reused, 1);
	} else {
		u = open_new(x, g);
		/* A full backlog: EAGAIN, and nothing will tell when it is not full any more. */
		if (!u && errno == EAGAIN && g->kind == TARGET_UNIX)
			return CONNECT_BACKLOG;
		if (!u) {
			shm_add(&g->n->connect_failed, 1);
			return CONNECT_FAILED;
		}
		shm_add(&g->n->connects, 1);
		shm_add(&g->n->connections, 1);
	}
	u->x = x;
	x->up = u;
	list_add_tail(&g->active, &u->in_target);
	return u->connecting ? CONNECT_GOING_ON : CONNECT_OK;
}

int upstream_error(struct upstream *u)
{
	int error = 0;
	socklen_t len = sizeof(error);

	if (u->is_stream)
		return h2_ask_error(u);
	if (getsockopt(u->conn.io.fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		return errno;
	return error;
}
