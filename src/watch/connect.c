/* SPDX-License-Identifier: Apache-2.0
 *
 * A TCP connection to HOST:PORT. Of several addresses each is tried in turn, as a client would.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "watch/watch_priv.h"

static void next_address(struct watch_conn *conn);

static void close_fd(struct watch_conn *conn)
{
	int fd = conn->io.fd;

	loop_io_del(&conn->check->w->loop, &conn->io);
	if (fd >= 0)
		close(fd);
}

void watch_conn_close(struct watch_conn *conn)
{
	watch_resolve_cancel(&conn->lookup);
	close_fd(conn);
}

static void on_connected(struct loop_io *io, uint32_t events UNUSED)
{
	struct watch_conn *conn = container_of(io, struct watch_conn, io);
	socklen_t len = sizeof(conn->error);

	if (getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &conn->error, &len) < 0)
		conn->error = errno;
	if (conn->error) {
		close_fd(conn);
		next_address(conn);
	} else {
		conn->open(conn->check);
	}
}

static void next_address(struct watch_conn *conn)
{
	struct watch_check *c = conn->check;
	int error;

	while (conn->next < conn->addrs.count) {
		const struct sockaddr_storage *a = &conn->addrs.at[conn->next++];
		int fd = socket(a->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

		if (fd >= 0 && (connect(fd, (const struct sockaddr *)a, watch_addr_len(a)) == 0 || errno == EINPROGRESS) &&
		    loop_io_add(&c->w->loop, &conn->io, fd, EPOLLOUT) == 0)
			return;
		conn->error = errno;
		if (fd >= 0)
			close(fd);
	}
	error = conn->error;
	watch_engines[c->kind]->cancel(c);
	watch_failed(c, error, "connecting");
}

static void found(struct watch_check *c, const struct watch_addrs *addrs, bool no_such_name, const char *why)
{
	struct watch_conn *conn = c->run; /* it stands first in each run that has one */

	if (!addrs) {
		watch_engines[c->kind]->cancel(c);
		watch_done(c, no_such_name ? STATUS_UGLY : STATUS_UNKNOWN, NAN, RESULT_NONE_UNIT, "%s", why);
		return;
	}
	conn->addrs = *addrs;
	c->stage = "connecting";
	next_address(conn);
}

void watch_connect(struct watch_check *c, struct watch_conn *conn, void (*open)(struct watch_check *c))
{
	char host[300];
	uint16_t port;

	*conn = (struct watch_conn){.io = {.on_ready = on_connected, .fd = -1}, .check = c, .open = open};
	watch_split(c->what, host, &port);
	watch_resolve(c, host, port, found, &conn->lookup);
}
