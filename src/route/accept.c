/* SPDX-License-Identifier: Apache-2.0
 *
 * New connections. All threads watch the same listening sockets; the kernel wakes
 * one of them (EPOLLEXCLUSIVE), which takes a few and leaves the others theirs.
 * Without descriptors or memory, accepting rests for a moment: the connections wait
 * in the kernel, where they are safe. So they do until the routing table says what the
 * listener is for.
 */
#include "route/route_priv.h"

#include <netinet/tcp.h>

#define ACCEPTS_LAST 65536 /* the longest queue that there can be */

static void pause_accepting(struct listener *l)
{
	struct thread *t = l->t;

	shm_add(&t->n->accept_failed, 1);
	if (t->leaving)
		return;
	loop_io_del(&t->loop, &l->io);
	loop_timer_set(&t->loop, &l->pause, t->loop.now_ms + ACCEPT_PAUSE_MS);
}

void listener_obey(struct listener *l)
{
	struct loop *loop = &l->t->loop;

	l->conf = l->t->table ? table_listener(l->t->table, l->id) : NULL;
	if (!l->conf || (l->conf->tls && !l->t->tls) || l->t->leaving) { /* or not yet: there is no certificate */
		loop_io_del(loop, &l->io);
		loop_timer_stop(loop, &l->pause);
	} else if (l->io.fd < 0 && !l->pause.armed &&
		   loop_io_add(loop, &l->io, l->fd, EPOLLIN | EPOLLEXCLUSIVE) < 0) {
		log_error("listener.failed", "id=%llx reason=\"%s\"", (unsigned long long)l->id,
			  strerror(errno));
		pause_accepting(l);
	}
}

static void on_pause_over(struct loop_timer *timer)
{
	listener_obey(container_of(timer, struct listener, pause));
}

static void take_in(struct listener *l, int fd, const struct sockaddr_storage *peer)
{
	struct thread *t = l->t;
	uint32_t limit = t->table ? t->table->limits.clients : 0;

	shm_add(&t->n->accepted, 1);
	if (limit && atomic_load(&t->r->clients) >= limit) {
		shm_add(&t->n->clients_refused, 1);
		close(fd);
		return;
	}
	client_open(l, fd, peer);
}

/* False: no more are to be had. */
static bool accept_one(struct listener *l)
{
	struct sockaddr_storage peer = {0};
	socklen_t len = sizeof(peer);
	int fd = accept4(l->fd, (struct sockaddr *)&peer, &len, SOCK_NONBLOCK | SOCK_CLOEXEC);

	if (fd >= 0) {
		take_in(l, fd, &peer);
		return true;
	}
	if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM)
		pause_accepting(l);
	/* Anything else concerns the one connection that went away meanwhile. */
	return errno == EINTR || errno == ECONNABORTED;
}

static void on_listener(struct loop_io *io, uint32_t events)
{
	struct listener *l = container_of(io, struct listener, io);

	(void)events;
	for (int i = 0; i < ACCEPTS_PER_TURN && accept_one(l); i++)
		;
}

void listener_add(struct thread *t, uint64_t id, int fd)
{
	struct listener *l = util_alloc(sizeof(*l));
	int one = 1;

	/* Accepted sockets inherit it: no call for each of them. Fails on unix sockets, which do
	 * not need it. */
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one));
	/* A tunnel may have no limit of time: that its client is gone for good must be found out. */
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &one, sizeof(one));
	l->t = t;
	l->id = id;
	l->fd = fd;
	l->io.fd = -1;
	l->io.on_ready = on_listener;
	l->pause.on_time = on_pause_over;
	list_add_tail(&t->listeners, &l->in_thread);
	listener_obey(l);
}

void listener_leave(struct thread *t)
{
	struct listener *l;

	LIST_EACH(l, &t->listeners, in_thread) {
		loop_timer_stop(&t->loop, &l->pause);
		loop_io_del(&t->loop, &l->io);
		/* The kernel may have told this thread alone of a connection that waits: others would
		 * hear of it with the next one. */
		for (int i = 0; l->conf && i < ACCEPTS_LAST && accept_one(l); i++)
			;
	}
}

void listener_remove(struct thread *t, uint64_t id)
{
	struct listener *l, *tmp;

	LIST_EACH_SAFE(l, tmp, &t->listeners, in_thread) {
		if (l->id != id)
			continue;
		list_del(&l->in_thread);
		loop_io_del(&t->loop, &l->io);
		loop_timer_fini(&t->loop, &l->pause);
		close(l->fd);
		free(l);
	}
}
