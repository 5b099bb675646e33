/* SPDX-License-Identifier: Apache-2.0
 *
 * The API's server as a whole: accepting, within its bounds. The life of a
 * connection is in server_conn.c, what a request means in server_request.c.
 */
#include "tell/server_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>

#define ACCEPTS_A_TURN 32
#define ACCEPT_PAUSE_MS 100

struct listener {
	struct server *server;
	struct list link;
	struct loop_io io;
	struct loop_timer pause;
	int fd;
	bool local;
};

static void refuse(struct server *s, int fd)
{
	CLEANUP_BUF struct buf out = {0};
	char unread[4096];

	s->refused++;
	server_error_text(&out, 503, "too many connections; try again");
	/* What came already is read, since closing on it would reset the answer away. */
	for (int i = 0; i < 16; i++)
		if (recv(fd, unread, sizeof(unread), MSG_DONTWAIT) <= 0)
			break;
	if (out.len)
		(void)!send(fd, out.data, out.len, MSG_NOSIGNAL | MSG_DONTWAIT);
	close(fd);
}

static bool full(const struct listener *l)
{
	return l->server->count == SERVER_CONNECTIONS_MAX ||
	       (!l->local && l->server->remote == SERVER_REMOTE_MAX);
}

static void accept_again(struct loop_timer *timer)
{
	struct listener *l = container_of(timer, struct listener, pause);

	if (loop_io_add(l->server->loop, &l->io, l->fd, EPOLLIN) < 0)
		loop_timer_set(l->server->loop, timer, l->server->loop->now_ms + ACCEPT_PAUSE_MS);
}

static void accept_some(struct loop_io *io, uint32_t events)
{
	struct listener *l = container_of(io, struct listener, io);

	(void)events;
	for (int i = 0; i < ACCEPTS_A_TURN; i++) {
		int fd = accept4(l->fd, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0) {
			if (full(l) || !server_conn_create(l->server, fd, l->local))
				refuse(l->server, fd);
			continue;
		}
		if (errno == EINTR || errno == ECONNABORTED)
			continue;
		if (errno == EAGAIN)
			return;
		/* No descriptors or no memory: the socket stays ready, and would spin the loop. */
		loop_io_del(l->server->loop, io);
		loop_timer_set(l->server->loop, &l->pause,
			       l->server->loop->now_ms + ACCEPT_PAUSE_MS);
		return;
	}
}

int server_listen(struct server *s, int fd, bool local)
{
	struct listener *l;
	int flags = fcntl(fd, F_GETFL);

	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK) < 0)
		return -1;
	l = util_alloc(sizeof(*l));
	*l = (struct listener){.server = s, .fd = fd, .local = local,
			       .io = {.on_ready = accept_some, .fd = -1},
			       .pause.on_time = accept_again};
	if (loop_io_add(s->loop, &l->io, fd, EPOLLIN) < 0) {
		int saved = errno;

		free(l);
		errno = saved;
		return -1;
	}
	list_add_tail(&s->listeners, &l->link);
	return 0;
}

void server_unlisten_all(struct server *s)
{
	struct listener *l, *next;

	LIST_EACH_SAFE(l, next, &s->listeners, link) {
		loop_io_del(s->loop, &l->io);
		loop_timer_fini(s->loop, &l->pause);
		close(l->fd);
		list_del(&l->link);
		free(l);
	}
}

int server_create(struct loop *loop, const struct server_options *o, struct server **ret)
{
	struct server *s = util_alloc(sizeof(*s));

	ensure(o->on_request);
	s->loop = loop;
	s->options = *o;
	if (!s->options.idle_ms)
		s->options.idle_ms = 60000;
	if (!s->options.head_ms)
		s->options.head_ms = 10000;
	if (!s->options.move_ms)
		s->options.move_ms = 30000;
	if (!s->options.linger_ms)
		s->options.linger_ms = 5000;
	list_init(&s->listeners);
	list_init(&s->conns);
	*ret = s;
	return 0;
}

void server_destroy(struct server *s)
{
	struct server_conn *c, *next;

	if (!s)
		return;
	server_unlisten_all(s);
	LIST_EACH_SAFE(c, next, &s->conns, link)
		server_conn_destroy(c);
	free(s);
}

uint32_t server_connections(const struct server *s, uint64_t *ret_refused)
{
	if (ret_refused)
		*ret_refused = s->refused;
	return s->count;
}
