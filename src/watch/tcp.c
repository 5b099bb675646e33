/* SPDX-License-Identifier: Apache-2.0
 *
 * tcp: a connection opens; where wanted something is said, and something comes.
 */
#include <errno.h>
#include <math.h>
#include <string.h>

#include "watch/watch_priv.h"

#define READ_MAX (64u << 10)

struct tcp_run {
	struct watch_conn conn; /* first */
	size_t sent;
	struct buf got;
};

static void tcp_cancel(struct watch_check *c)
{
	struct tcp_run *run = c->run;

	if (!run)
		return;
	watch_conn_close(&run->conn);
	buf_free(&run->got);
	free(run);
	c->run = NULL;
}

static void good(struct watch_check *c, const char *what)
{
	double took = watch_took_ms(c);

	tcp_cancel(c);
	watch_done(c, STATUS_GOOD, took, RESULT_MS_UNIT, "%s", what);
}

static void failed(struct watch_check *c, int error, const char *what)
{
	tcp_cancel(c);
	watch_failed(c, error, what);
}

static void other_answer(struct watch_check *c)
{
	struct tcp_run *run = c->run;
	char begin[80];
	bool some = run->got.len;

	snprintf(begin, sizeof(begin), "%.*s", (int)MIN(run->got.len, sizeof(begin) - 1), buf_str(&run->got));
	tcp_cancel(c);
	if (some)
		watch_done(c, STATUS_UGLY, NAN, RESULT_NONE_UNIT, "answers '%s', without what is expected", begin);
	else
		watch_done(c, STATUS_UGLY, NAN, RESULT_NONE_UNIT, "ended the connection without an answer");
}

static void look_for(struct watch_check *c)
{
	struct tcp_run *run = c->run;
	const char *expect = watch_text(c, "expect");

	while (run->got.len < READ_MAX) {
		char *room = buf_room(&run->got, 4096);
		ssize_t n = room ? recv(run->conn.io.fd, room, 4096, 0) : 0;

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
	other_answer(c);
}

static void on_answer(struct loop_io *io, uint32_t events UNUSED)
{
	look_for(container_of(io, struct watch_conn, io)->check);
}

static void talk(struct watch_check *c);

static void on_room(struct loop_io *io, uint32_t events UNUSED)
{
	talk(container_of(io, struct watch_conn, io)->check);
}

/* It is open. */
static void talk(struct watch_check *c)
{
	struct tcp_run *run = c->run;
	const char *text = watch_text(c, "send");
	size_t len = text ? strlen(text) : 0;

	while (run->sent < len) {
		ssize_t n = send(run->conn.io.fd, text + run->sent, len - run->sent, MSG_NOSIGNAL);

		run->conn.io.on_ready = on_room;
		if (n < 0 && errno == EAGAIN)
			return;
		if (n < 0) {
			failed(c, errno, "sending");
			return;
		}
		run->sent += (size_t)n;
	}
	if (!watch_text(c, "expect")) {
		good(c, "connects");
		return;
	}
	c->stage = "connected, waiting for an answer";
	run->conn.io.on_ready = on_answer;
	loop_io_change(&c->w->loop, &run->conn.io, EPOLLIN);
	look_for(c);
}

static void tcp_begin(struct watch_check *c)
{
	struct tcp_run *run = util_alloc(sizeof(*run));

	run->got.max = READ_MAX + 8192;
	c->run = run;
	watch_connect(c, &run->conn, talk);
}

const struct watch_engine watch_tcp = {tcp_begin, tcp_cancel};
