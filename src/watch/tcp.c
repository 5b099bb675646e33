/* SPDX-License-Identifier: Apache-2.0
 *
 * tcp: a connection opens; where wanted something is said, and something comes. Of several addresses each is tried in turn,
 * as a client would.
 */
#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <string.h>

#include "watch/watch_priv.h"

#define READ_MAX (64u << 10)

struct tcp_run {
	struct loop_io io;
	struct check *check;
	struct watch_lookup *lookup;
	struct watch_addrs addrs;
	uint32_t next; /* address */
	int error;     /* of the last try */
	size_t sent;
	struct buf got;
};

static void next_address(struct tcp_run *run);

static void close_io(struct tcp_run *run)
{
	int fd = run->io.fd;

	loop_io_del(&run->check->w->loop, &run->io);
	if (fd >= 0)
		close(fd);
}

static void tcp_cancel(struct check *c)
{
	struct tcp_run *run = c->run;

	if (!run)
		return;
	watch_resolve_cancel(&run->lookup);
	close_io(run);
	buf_free(&run->got);
	free(run);
	c->run = NULL;
}

static void good(struct check *c, const char *what)
{
	double took = watch_took_ms(c);

	tcp_cancel(c);
	watch_done(c, RESULT_GOOD, took, RESULT_MS_UNIT, "%s", what);
}

static void failed(struct check *c, int error, const char *what)
{
	tcp_cancel(c);
	watch_failed(c, error, what);
}

static void look_for(struct tcp_run *run)
{
	struct check *c = run->check;
	const char *expect = watch_text(c, "expect");
	char begin[80];
	ssize_t n;

	while (run->got.len < READ_MAX) {
		char *room = buf_room(&run->got, 4096);

		n = room ? recv(run->io.fd, room, 4096, 0) : 0;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			failed(c, errno, "reading");
			return;
		}
		run->got.len += (size_t)n;
		if (memmem(run->got.data, run->got.len, expect, strlen(expect))) {
			good(c, "answers as expected");
			return;
		}
		if (n == 0)
			break;
	}
	snprintf(begin, sizeof(begin), "%.*s", (int)MIN(run->got.len, sizeof(begin) - 1), buf_str(&run->got));
	n = (ssize_t)run->got.len;
	tcp_cancel(c);
	if (n)
		watch_done(c, RESULT_UGLY, NAN, RESULT_NONE_UNIT, "answers '%s', without what is expected", begin);
	else
		watch_done(c, RESULT_UGLY, NAN, RESULT_NONE_UNIT, "ended the connection without an answer");
}

/* It is open. */
static void talk(struct tcp_run *run)
{
	struct check *c = run->check;
	const char *send_text = watch_text(c, "send"), *expect = watch_text(c, "expect");
	size_t len = send_text ? strlen(send_text) : 0;

	while (run->sent < len) {
		ssize_t n = send(run->io.fd, send_text + run->sent, len - run->sent, MSG_NOSIGNAL);

		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			failed(c, errno, "sending");
			return;
		}
		run->sent += (size_t)n;
	}
	if (!expect) {
		good(c, "connects");
		return;
	}
	c->stage = "connected, waiting for an answer";
	loop_io_change(&c->w->loop, &run->io, EPOLLIN);
	look_for(run);
}

static void on_ready(struct loop_io *io, uint32_t events)
{
	struct tcp_run *run = container_of(io, struct tcp_run, io);
	socklen_t len = sizeof(run->error);

	if (events & EPOLLOUT || (events & (EPOLLERR | EPOLLHUP) && !run->got.len)) {
		if (getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &run->error, &len) < 0)
			run->error = errno;
		if (run->error) {
			close_io(run);
			next_address(run);
		} else {
			talk(run);
		}
		return;
	}
	look_for(run);
}

static void next_address(struct tcp_run *run)
{
	struct check *c = run->check;

	while (run->next < run->addrs.count) {
		const struct sockaddr_storage *a = &run->addrs.at[run->next++];
		int fd = socket(a->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

		if (fd >= 0 && (connect(fd, (const struct sockaddr *)a, watch_addr_len(a)) == 0 || errno == EINPROGRESS) &&
		    loop_io_add(&c->w->loop, &run->io, fd, EPOLLOUT) == 0)
			return;
		run->error = errno;
		if (fd >= 0)
			close(fd);
	}
	failed(c, run->error, "connecting");
}

static void found(struct check *c, const struct watch_addrs *addrs, bool no_such_name, const char *why)
{
	struct tcp_run *run = c->run;

	if (!addrs) {
		tcp_cancel(c);
		watch_done(c, no_such_name ? RESULT_UGLY : RESULT_UNKNOWN, NAN, RESULT_NONE_UNIT, "%s", why);
		return;
	}
	run->addrs = *addrs;
	c->stage = "connecting";
	next_address(run);
}

static void tcp_begin(struct check *c)
{
	struct tcp_run *run = util_alloc(sizeof(*run));
	char host[300];
	uint16_t port;

	*run = (struct tcp_run){.io = {.on_ready = on_ready, .fd = -1}, .check = c, .got = {.max = READ_MAX + 8192}};
	c->run = run;
	watch_split(c->what, host, &port);
	watch_resolve(c, host, port, found, &run->lookup);
}

const struct watch_engine watch_tcp = {tcp_begin, tcp_cancel};
