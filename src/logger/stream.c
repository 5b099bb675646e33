/* SPDX-License-Identifier: Apache-2.0
 *
 * The output of an instance: a pipe, cut into lines, each with its time and the
 * name of the instance before it. All instances of an app share its file.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "logger/logger_priv.h"

#define READ_BYTES (64u << 10)
#define READ_BUDGET 8 /* reads of one stream in one turn, so that none starves the others */

/* --- lines --------------------------------------------------------------- */

static void write_line(struct lines *l, uint64_t wall_ms, struct buf *out)
{
	char when[CLOCK_TEXT];

	if (l->len && l->text[l->len - 1] == '\r' && !l->cut)
		l->len--;
	buf_adds(out, clock_text(wall_ms, when));
	buf_addc(out, ' ');
	buf_adds(out, l->name);
	buf_addc(out, ' ');
	buf_add(out, l->text, l->len);
	if (l->cut)
		buf_addf(out, " [%llu more bytes were cut]", (unsigned long long)l->cut);
	buf_addc(out, '\n');
	l->len = 0;
	l->cut = 0;
}

void lines_add(struct lines *l, const char *data, size_t len, uint64_t wall_ms, struct buf *out)
{
	while (len) {
		const char *end = memchr(data, '\n', len);
		size_t n = end ? (size_t)(end - data) : len;
		size_t take = MIN(n, sizeof(l->text) - l->len);

		memcpy(l->text + l->len, data, take);
		l->len += take;
		l->cut += n - take;
		if (!end)
			return;
		write_line(l, wall_ms, out);
		data += n + 1;
		len -= n + 1;
	}
}

void lines_flush(struct lines *l, uint64_t wall_ms, struct buf *out)
{
	if (l->len)
		write_line(l, wall_ms, out);
}

/* --- the file of an app -------------------------------------------------- */

static struct app_log *app_log_of(struct logger *lg, const char *app)
{
	struct app_log *a;
	char name[80];

	LIST_EACH (a, &lg->app_logs, link)
		if (!strcmp(a->app, app))
			return a;
	a = util_alloc(sizeof(*a));
	util_copy(a->app, sizeof(a->app), app);
	snprintf(name, sizeof(name), strcmp(app, "access") ? "%s.log" : "%s.app.log", app);
	for (char *p = name; *p;
	     p++) /* a name of an app has none of these; a path must not either */
		if (*p == '/' || (p == name && *p == '.'))
			*p = '_';
	logfile_init(&a->file, &lg->conf, lg->state, name);
	list_add_tail(&lg->app_logs, &a->link);
	return a;
}

static void app_log_leave(struct app_log *a)
{
	if (--a->streams)
		return;
	logfile_fini(&a->file);
	list_del(&a->link);
	free(a);
}

/* --- streams ------------------------------------------------------------- */

static void write_out(struct stream *s)
{
	struct logger *lg = s->logger;

	if (lg->out.len)
		logfile_write(&s->log->file, lg->out.data, lg->out.len, lg->loop.now_ms);
	lg->out.len = 0;
	lg->out.failed = false;
}

static void destroy(struct stream *s)
{
	struct logger *lg = s->logger;
	int fd = s->io.fd;

	loop_timer_fini(&lg->loop, &s->partial);
	loop_io_del(&lg->loop, &s->io);
	close(fd);
	list_del(&s->link);
	lg->stream_count--;
	app_log_leave(s->log);
	free(s);
}

/* Reads what is there, at most `budget` times. False: the stream ended, and is freed. */
static bool drain(struct stream *s, int budget)
{
	static char data[READ_BYTES];
	struct logger *lg = s->logger;
	uint64_t wall_ms = clock_wall_ms();

	while (budget-- > 0) {
		ssize_t n = read(s->io.fd, data, sizeof(data));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0 && errno == EAGAIN)
			break;
		if (n <= 0) {
			lines_flush(&s->lines, wall_ms, &lg->out);
			write_out(s);
			destroy(s);
			return false;
		}
		lines_add(&s->lines, data, (size_t)n, wall_ms, &lg->out);
		write_out(s);
		if ((size_t)n < sizeof(data))
			break;
	}
	if (s->lines.len && !s->partial.armed)
		loop_timer_set(&lg->loop, &s->partial, lg->loop.now_ms + LOG_PARTIAL_MS);
	else if (!s->lines.len)
		loop_timer_stop(&lg->loop, &s->partial);
	return true;
}

static void on_readable(struct loop_io *io, uint32_t events UNUSED)
{
	drain(container_of(io, struct stream, io), READ_BUDGET);
}

static void on_partial(struct loop_timer *timer)
{
	struct stream *s = container_of(timer, struct stream, partial);

	lines_flush(&s->lines, clock_wall_ms(), &s->logger->out);
	write_out(s);
}

void stream_open(struct logger *lg, const struct msg_stream *m, int fd)
{
	char app[sizeof(m->app)];
	struct stream *s;

	util_copy(app, sizeof(app), m->app);
	if (lg->stream_count >= LOG_STREAMS_MAX) {
		log_warn("log.refused", "name=%.90s reason=\"%d streams are the limit\"", m->name,
			 LOG_STREAMS_MAX);
		close(fd);
		return;
	}
	s = util_alloc(sizeof(*s));
	*s = (struct stream){.logger = lg, .id = m->id};
	util_copy(s->lines.name, sizeof(s->lines.name), m->name);
	s->io.on_ready = on_readable;
	s->partial.on_time = on_partial;
	if (loop_io_add(&lg->loop, &s->io, fd, EPOLLIN) < 0) {
		close(fd);
		free(s);
		return;
	}
	s->log = app_log_of(lg, app);
	s->log->streams++;
	list_add_tail(&lg->streams, &s->link);
	lg->stream_count++;
}

void stream_drain_all(struct logger *lg)
{
	struct stream *s, *next;

	/* A pipe holds at most 1 MiB; an instance that goes on printing is not waited for. */
	LIST_EACH_SAFE (s, next, &lg->streams, link) {
		if (!drain(s, 2 * (1 << 20) / READ_BYTES))
			continue;
		lines_flush(&s->lines, clock_wall_ms(), &lg->out);
		write_out(s);
	}
}
