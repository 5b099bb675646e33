/* SPDX-License-Identifier: Apache-2.0
 *
 * The keeper and the logger as they are, with a router and a controller that a test
 * can hold in its hands:
 *
 *	keeper_host serve STATE CONF	the keeper, which runs this program as the parts
 *	_controller			connects to the unix socket CONF: tells each message as a
 *					line of tab-separated words, obeys lines that come back;
 *					without that socket it ends with status 7
 *	_router				answers each connection with its pid and user; dies of table
 *666 _logger				the real one
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/log.h"
#include "keep/keep.h"
#include "logger/logger.h"
#include "watch/watcher.h"
#include "wire/msg.h"
#include "wire/shm.h"

#define ROUTER_LISTENERS 16
#define WORDS_MAX 32

static struct loop loop;
static struct msg_channel keeper;
static struct loop_timer beat;

static void on_beat(struct loop_timer *t)
{
	msg_send(&keeper, MSG_BEAT, &(struct msg_none){0}, NULL, 0, NULL, 0);
	loop_timer_set(&loop, t, loop.now_ms + 1000);
}

static void send_none(enum msg_type type)
{
	msg_send(&keeper, type, &(struct msg_none){0}, NULL, 0, NULL, 0);
}

static void on_end(struct msg_channel *ch UNUSED, const char *reason UNUSED)
{
	exit(0);
}

static void run_part(void (*on_msg)(struct msg_channel *, struct msg *))
{
	ensure(loop_init(&loop) == 0);
	keeper.on_msg = on_msg;
	keeper.on_end = on_end;
	beat.on_time = on_beat;
	ensure(msg_channel_open(&keeper, &loop, MSG_CHANNEL_FD) == 0);
	on_beat(&beat);
}

/* --- router -------------------------------------------------------------- */

static struct router_listener {
	struct loop_io io;
	uint64_t id;
} listeners[ROUTER_LISTENERS];
static struct shm *numbers;
static uint64_t certs, certs_before_table; /* generation; that was there when the first table came */

static void on_client(struct loop_io *io, uint32_t events UNUSED)
{
	int fd = accept4(io->fd, NULL, NULL, SOCK_CLOEXEC);

	if (fd < 0)
		return;
	dprintf(fd, "router certs=%llu before_table=%llu pid=%d uid=%d\n", (unsigned long long)certs,
		(unsigned long long)certs_before_table, (int)getpid(), (int)getuid());
	close(fd);
}

static void router_msg(struct msg_channel *ch UNUSED, struct msg *m)
{
	if (m->type == MSG_SHARED) {
		ensure(m->fds_len == 4);
		numbers = shm_map(m->fds[shared_at(PART_ROUTER, SHARED_NUMBERS)]);
		ensure(numbers);
	} else if (m->type == MSG_LISTENER) {
		for (int i = 0; i < ROUTER_LISTENERS; i++) {
			if (listeners[i].id)
				continue;
			listeners[i].id = ((struct msg_listener *)m->body)->id;
			listeners[i].io.on_ready = on_client;
			loop_io_add(&loop, &listeners[i].io, TAKE_FD(m->fds[0]), EPOLLIN);
			return;
		}
	} else if (m->type == MSG_UNLISTENER) {
		for (int i = 0; i < ROUTER_LISTENERS; i++) {
			if (listeners[i].id != ((struct msg_id *)m->body)->id)
				continue;
			int fd = listeners[i].io.fd;

			loop_io_del(&loop, &listeners[i].io);
			close(fd);
			listeners[i].id = 0;
		}
	} else if (m->type == MSG_CERTS) {
		ensure(m->fds_len == 1);
		certs = ((struct msg_certs *)m->body)->generation;
	} else if (m->type == MSG_TABLE) {
		static bool first = true;

		certs_before_table = first ? certs : certs_before_table;
		first = false;
		if (((struct msg_table *)m->body)->generation == 666)
			abort(); /* a table that it cannot stand on */
		for (uint32_t t = 0; t < numbers->threads; t++)
			atomic_store(&numbers->thread[t].generation,
				     ((struct msg_table *)m->body)->generation);
	}
}

static int router(void)
{
	run_part(router_msg);
	send_none(MSG_READY);
	loop_run(&loop);
	return 0;
}

/* --- controller ---------------------------------------------------------- */

static struct loop_io test_io;
static char input[65536];
static size_t input_len;

static void controller_msg(struct msg_channel *ch UNUSED, struct msg *m)
{
	int fd = test_io.fd;

	switch (m->type) {
	case MSG_SHARED:
		dprintf(fd, "SHARED\t%d\t%u\t%d\n", m->fds_len,
			((struct msg_shared *)m->body)->threads,
			(int)((struct msg_shared *)m->body)->router_uid);
		break;
	case MSG_LISTENING: {
		struct msg_listening *l = m->body;

		dprintf(fd, "LISTENING\t%llu\t%u\t%d\t%d\t%s\t%s\n", (unsigned long long)l->id,
			l->kind, l->error, m->fds_len, l->addr, l->reason);
		break;
	}
	case MSG_INSTANCE: {
		struct msg_instance *i = m->body;

		dprintf(fd, "INSTANCE\t%llu\t%s\t%d\t%u\t%d\t%lld\t%s\n", (unsigned long long)i->id,
			instance_state_name(i->state), i->pid, i->starts, i->wait_status,
			i->next_wall_ms ? (long long)(i->next_wall_ms - i->since_wall_ms) : 0ll,
			i->reason);
		break;
	}
	case MSG_PART: {
		struct msg_part *p = m->body;

		dprintf(fd, "PART\t%s\t%u\t%d\t%u\t%s\n", part_name(p->part), p->state, p->pid,
			p->starts, p->reason);
		break;
	}
	case MSG_CERTS:
		dprintf(fd, "CERTS\t%llu\t%d\n",
			(unsigned long long)((struct msg_certs *)m->body)->generation, m->fds_len);
		break;
	default:
		dprintf(fd, "%s\n", msg_name(m->type));
	}
}

/* Appends the words of a list, each with its end; returns how many. */
static uint32_t add_words(char *tail, size_t *len, char *list)
{
	uint32_t n = 0;

	for (char *word; (word = strsep(&list, ";"));) {
		if (!*word)
			continue;
		*len += (size_t)snprintf(tail + *len, 4096, "%s", word) + 1;
		n++;
	}
	return n;
}

/* start id app name dir run_dir data_dir uid grace_ms writes env arguments...; writes and env are
 * joined by ";" */
static void order_start(char **w, int n)
{
	struct msg_start s = {.id = strtoull(w[1], NULL, 10),
			      .uid = (uint32_t)strtol(w[7], NULL, 10),
			      .grace_ms = (uint32_t)strtoul(w[8], NULL, 10),
			      .stop_signal = SIGTERM};
	char tail[16384];
	size_t len = 0;

	s.gid = s.uid;
	util_copy(s.app, sizeof(s.app), w[2]);
	util_copy(s.name, sizeof(s.name), w[3]);
	util_copy(s.dir, sizeof(s.dir), w[4]);
	util_copy(s.run_dir, sizeof(s.run_dir), w[5]);
	util_copy(s.data_dir, sizeof(s.data_dir), w[6]);
	for (int i = 11; i < n; i++, s.argc++)
		len += (size_t)snprintf(tail + len, 4096, "%s", w[i]) + 1;
	s.envc = add_words(tail, &len, w[10]);
	s.writec = add_words(tail, &len, w[9]);
	msg_send(&keeper, MSG_START, &s, tail, len, NULL, 0);
}

static void order_listen(char **w)
{
	struct msg_listen l = {.id = strtoull(w[1], NULL, 10),
			       .kind = (uint32_t)strtoul(w[2], NULL, 10),
			       .group = (uint32_t)-1};

	util_copy(l.addr, sizeof(l.addr), w[3]);
	msg_send(&keeper, MSG_LISTEN, &l, NULL, 0, NULL, 0);
}

static void order_stop(char **w)
{
	struct msg_stop s = {strtoull(w[1], NULL, 10), (uint32_t)strtoul(w[2], NULL, 10),
			     (uint32_t)strtoul(w[3], NULL, 10)};

	msg_send(&keeper, MSG_STOP, &s, NULL, 0, NULL, 0);
}

static void order_table(char **w)
{
	struct msg_table t = {strtoull(w[1], NULL, 10)};
	int fd = memfd_create("table", MFD_CLOEXEC);

	msg_send(&keeper, MSG_TABLE, &t, NULL, 0, &fd, 1);
	close(fd);
}

static void order_certs(char **w)
{
	struct msg_certs c = {strtoull(w[1], NULL, 10)};
	int fd = memfd_create("certs", MFD_CLOEXEC);

	msg_send(&keeper, MSG_CERTS, &c, NULL, 0, &fd, 1);
	close(fd);
}

static void obey(char *line)
{
	char *w[WORDS_MAX] = {line};
	int n = 0;

	for (char *p = line; n < WORDS_MAX && p;)
		w[n++] = strsep(&p, "\t");
	if (!strcmp(w[0], "ready"))
		send_none(MSG_READY);
	else if (!strcmp(w[0], "start") && n > 11)
		order_start(w, n);
	else if (!strcmp(w[0], "stop") && n == 4)
		order_stop(w);
	else if (!strcmp(w[0], "listen") && n == 4)
		order_listen(w);
	else if (!strcmp(w[0], "unlisten") && n == 2)
		msg_send(&keeper, MSG_UNLISTEN, &(struct msg_id){strtoull(w[1], NULL, 10)}, NULL, 0,
			 NULL, 0);
	else if (!strcmp(w[0], "table") && n == 2)
		order_table(w);
	else if (!strcmp(w[0], "certs") && n == 2)
		order_certs(w);
	else if (!strcmp(w[0], "shutdown"))
		send_none(MSG_SHUTDOWN);
	else if (!strcmp(w[0], "exit"))
		exit((int)strtol(w[1], NULL, 10));
	else
		ensure(!"an order that is known");
}

static void on_test(struct loop_io *io, uint32_t events UNUSED)
{
	ssize_t n = read(io->fd, input + input_len, sizeof(input) - input_len);
	char *end, *line = input;

	if (n <= 0)
		exit(0);
	input_len += (size_t)n;
	while ((end = memchr(line, '\n', input_len - (size_t)(line - input)))) {
		*end = '\0';
		obey(line);
		line = end + 1;
	}
	input_len -= (size_t)(line - input);
	memmove(input, line, input_len);
}

static int controller(const char *path)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	util_copy(un.sun_path, sizeof(un.sun_path), path);
	if (connect(fd, (struct sockaddr *)&un, sizeof(un)) < 0)
		return 7;
	run_part(controller_msg);
	test_io.on_ready = on_test;
	loop_io_add(&loop, &test_io, fd, EPOLLIN);
	loop_run(&loop);
	return 0;
}

int main(int argc, char **argv)
{
	if (argc == 4 && !strcmp(argv[1], "serve"))
		return keep_serve(&(struct keep_options){argv[3], argv[2], NULL});
	if (argc == 4 && !strcmp(argv[1], "_controller"))
		return controller(argv[3]);
	if (argc == 2 && !strcmp(argv[1], "_router"))
		return router();
	if (argc == 3 && !strcmp(argv[1], "_logger"))
		return logger_main(argc, argv);
	if (argc == 2 && !strcmp(argv[1], "_watcher"))
		return watcher_main(argc, argv);
	return 2;
}
