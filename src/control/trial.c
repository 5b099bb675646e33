/* SPDX-License-Identifier: Apache-2.0
 *
 * `upstate _trial STATE_COPY CONFIGURATION`: this program's controller is run to readiness on a copy of
 * the state, by a keeper that only says yes. It holds no socket that anyone knows, starts nothing,
 * and sends no table to a router: the table is checked and forgotten. What is right is
 * told on standard output, as JSON, with status 0; what is wrong on standard error.
 */
#include "control/controller.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/log.h"
#include "core/table.h"
#include "state/state.h"
#include "wire/msg.h"
#include "wire/result.h"
#include "wire/shm.h"

#define TRIAL_MS 20000

static struct trial {
	struct loop loop;
	struct msg_channel channel;
	struct loop_child child;
	struct loop_timer limit;
	const char *dir;
	uint32_t sockets;
	bool ready, table, ended;
	struct err wrong;
} trial;

static void look_done(struct trial *t)
{
	if (t->wrong.code || t->ended || (t->ready && t->table))
		loop_stop(&t->loop);
}

/* One that listens, so that accepting on it waits; it has a name in the copy's folder only. */
static int make_socket(struct trial *t)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int n = snprintf(un.sun_path, sizeof(un.sun_path), "%s/%u", t->dir, t->sockets++);

	if (fd >= 0 && n < (int)sizeof(un.sun_path) &&
	    bind(fd, (struct sockaddr *)&un, sizeof(un)) == 0 && listen(fd, 1) == 0)
		return fd;
	err_sys(&t->wrong, "a socket in '%s'", t->dir);
	if (fd >= 0)
		close(fd);
	return -1;
}

static void say_listening(struct trial *t, const struct msg_listen *l)
{
	struct msg_listening m = {.id = l->id, .kind = l->kind};
	CLEANUP_FD int fd = l->kind == LISTEN_USERS ? -1 : make_socket(t);

	memcpy(m.addr, l->addr, sizeof(m.addr));
	msg_send(&t->channel, MSG_LISTENING, &m, NULL, 0, &fd, fd >= 0);
}

static void check_table(struct trial *t, int fd)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0 ||
	    (p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0)) == MAP_FAILED) {
		err_sys(&t->wrong, "its routing table");
		return;
	}
	if (table_check(p, (size_t)st.st_size, &t->wrong) == 0)
		t->table = true;
	munmap(p, (size_t)st.st_size);
}

static void on_msg(struct msg_channel *ch, struct msg *m)
{
	struct trial *t = container_of(ch, struct trial, channel);

	if (m->type == MSG_LISTEN)
		say_listening(t, m->body);
	else if (m->type == MSG_TABLE && m->fds_len)
		check_table(t, m->fds[0]);
	else if (m->type == MSG_READY)
		t->ready = true;
	look_done(t);
}

static void on_end(struct msg_channel *ch UNUSED, const char *reason UNUSED)
{
}

static void on_exit_of_controller(struct loop_child *child, int status)
{
	struct trial *t = container_of(child, struct trial, child);

	t->ended = true;
	if (!t->wrong.code && WIFSIGNALED(status))
		err_set(&t->wrong, ERR_GONE, "its controller was killed by signal %d", WTERMSIG(status));
	else if (!t->wrong.code) /* it has said why */
		err_set(&t->wrong, (enum err_code)ERR_GONE, "%s", "");
	look_done(t);
}

static void on_limit(struct loop_timer *timer)
{
	struct trial *t = container_of(timer, struct trial, limit);

	err_set(&t->wrong, ERR_GONE, "its controller was not ready within %d s", TRIAL_MS / 1000);
	look_done(t);
}

static void begin(struct trial *t)
{
	struct msg_shared shared = {.threads = 1, .router_uid = (uint32_t)-1, .router_gid = (uint32_t)-1,
				    .keeper_pid = (uint32_t)getpid()};
	int fds[] = {shm_create(SHM_BANKS), eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK),
		     eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK), results_create()};

	msg_send(&t->channel, MSG_SHARED, &shared, NULL, 0, fds, ARRAY_LEN(fds));
	msg_send(&t->channel, MSG_SYNCED, &(struct msg_none){0}, NULL, 0, NULL, 0);
}

/* The child is the controller; it ends with this process. */
static int start(struct trial *t, const char *conf)
{
	char *argv[] = {(char *)"upstate", (char *)"_controller", (char *)t->dir, (char *)conf, NULL};
	int ends[2];
	pid_t pid;

	if (msg_pair(ends) < 0)
		return err_sys(&t->wrong, "a socket pair");
	pid = fork();
	if (pid == 0) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (dup2(ends[1], MSG_CHANNEL_FD) < 0)
			_exit(126);
		exit(controller_main(4, argv));
	}
	close(ends[1]);
	if (pid < 0 || loop_child_add(&t->loop, &t->child, pid) < 0 ||
	    msg_channel_open(&t->channel, &t->loop, ends[0]) < 0)
		return err_sys(&t->wrong, "a process");
	begin(t);
	return 0;
}

int trial_main(int argc, char **argv)
{
	struct trial *t = &trial;

	log_init("trial", LOG_WARN);
	if (argc != 4) {
		fprintf(stderr, "upstate: _trial is run by the controller that is to be replaced\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	t->dir = argv[2];
	t->channel.on_msg = on_msg;
	t->channel.on_end = on_end;
	t->child.on_exit = on_exit_of_controller;
	t->limit.on_time = on_limit;
	if (loop_init(&t->loop) < 0 || start(t, argv[3]) < 0) {
		fprintf(stderr, "upstate: %s\n", t->wrong.code ? t->wrong.msg : strerror(errno));
		return 1;
	}
	loop_timer_set(&t->loop, &t->limit, t->loop.now_ms + TRIAL_MS);
	loop_run(&t->loop);
	if (t->child.pid) {
		kill(t->child.pid, SIGKILL);
		waitpid(t->child.pid, NULL, 0);
	}
	if (t->wrong.code) {
		if (t->wrong.msg[0])
			fprintf(stderr, "upstate: %s\n", t->wrong.msg);
		return 1;
	}
	printf("{\"version\": \"%s\", \"state\": %d}\n", UPSTATE_VERSION, state_format());
	return 0;
}
