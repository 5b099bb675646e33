/* SPDX-License-Identifier: Apache-2.0
 *
 * Start and end of the file server: the folder, the socket, the rights that are given up, the loop.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/un.h>

#include "base/log.h"
#include "files/files_priv.h"

#define BACKLOG 4096
#define ACCEPTS_PER_TURN 16
#define ACCEPT_PAUSE_MS 100
#define SPARE_DESCRIPTORS 32

/* --- the socket --- */

static int listen_port(const char *text, struct err *e)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	CLEANUP_FD int fd = -1;
	char *end;
	unsigned long port = strtoul(text, &end, 10);
	int one = 1;

	if (*text < '0' || *text > '9' || *end || !port || port > 65535)
		return err_set(e, ERR_INPUT, "$PORT is '%.40s', which is no port", text);
	in.sin_port = htons((uint16_t)port);
	fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0)
		return err_sys(e, "socket");
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* accepted ones inherit it */
	if (bind(fd, (struct sockaddr *)&in, sizeof(in)) < 0 || listen(fd, BACKLOG) < 0)
		return err_sys(e, "127.0.0.1:%lu", port);
	return TAKE_FD(fd);
}

static int listen_path(const char *path, struct err *e)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (!util_copy(un.sun_path, sizeof(un.sun_path), path))
		return err_set(e, ERR_INPUT, "'%s' is too long for a socket", path);
	if (fd < 0 || bind(fd, (struct sockaddr *)&un, sizeof(un)) < 0 || listen(fd, BACKLOG) < 0)
		return err_sys(e, "'%s'", path);
	return TAKE_FD(fd);
}

static int open_socket(struct err *e)
{
	const char *port = getenv("PORT"), *path = getenv("UPSTATE_SOCKET");

	if (port && *port)
		return listen_port(port, e);
	if (path && *path)
		return listen_path(path, e);
	return err_set(e, ERR_INPUT,
		       "neither $PORT nor $UPSTATE_SOCKET says where to listen; as an app of Upstate it is told; "
		       "by hand: PORT=8000 upstate files DIR");
}

static void accept_some(struct server *s, int listener)
{
	for (int i = 0; i < ACCEPTS_PER_TURN && s->peer_count < FILES_CONNECTIONS_MAX; i++) {
		int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);

		if (fd >= 0 && !peer_open(s, fd))
			close(fd);
		if (fd < 0 && (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)) {
			loop_io_change(&s->loop, &s->listen_io, 0);
			loop_timer_set(&s->loop, &s->listen_again, s->loop.now_ms + ACCEPT_PAUSE_MS);
		}
		if (fd < 0 && errno != EINTR && errno != ECONNABORTED)
			return;
	}
	/* The others wait in the kernel until one of these ends. */
	if (s->peer_count >= FILES_CONNECTIONS_MAX)
		loop_io_change(&s->loop, &s->listen_io, 0);
}

static void on_listener(struct loop_io *io, uint32_t events UNUSED)
{
	accept_some(container_of(io, struct server, listen_io), io->fd);
}

static void on_pause_over(struct loop_timer *timer)
{
	struct server *s = container_of(timer, struct server, listen_again);

	if (s->listen_io.fd >= 0)
		loop_io_change(&s->loop, &s->listen_io, EPOLLIN);
}

void server_peer_gone(struct server *s)
{
	if (s->ending && s->peer_count == 0)
		loop_stop(&s->loop);
	if (!s->ending && s->peer_count == FILES_CONNECTIONS_MAX - 1)
		loop_io_change(&s->loop, &s->listen_io, EPOLLIN);
}

/* --- least bit --- */

/* From here on: files below the root may be read, and nothing else be opened. */
static int drop_rights(const struct server *s, struct err *e)
{
	struct landlock_ruleset_attr attr = {.handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_SYM * 2 - 1};
	struct landlock_path_beneath_attr below = {
		.allowed_access = LANDLOCK_ACCESS_FS_READ_FILE | LANDLOCK_ACCESS_FS_READ_DIR,
		.parent_fd = s->tree.fd};
	CLEANUP_FD int rules = -1;

	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(e, "PR_SET_NO_NEW_PRIVS");
	if (SANITIZED) /* which looks into /proc at the end */
		return 0;
	rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (rules < 0) {
		log_info("sandbox.landlock", "used=no reason=\"%s\"", strerror(errno));
		return 0;
	}
	if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &below, 0) < 0 ||
	    syscall(SYS_landlock_restrict_self, rules, 0) < 0)
		return err_sys(e, "giving up the file system");
	return 0;
}

/* As many descriptors as connections and open files may take, where that is allowed. */
static void raise_limit(void)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0)
		return;
	r.rlim_cur = MIN(r.rlim_max, (rlim_t)FILES_CONNECTIONS_MAX + FILES_OPEN_MAX + SPARE_DESCRIPTORS);
	setrlimit(RLIMIT_NOFILE, &r);
}

/* --- start and end --- */

static void say_ready(void)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	const char *path = getenv("NOTIFY_SOCKET");
	CLEANUP_FD int fd = -1;

	if (!path || !util_copy(un.sun_path, sizeof(un.sun_path), path))
		return;
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (un.sun_path[0] == '@')
		un.sun_path[0] = '\0';
	if (fd >= 0)
		sendto(fd, "READY=1", 7, MSG_NOSIGNAL, (struct sockaddr *)&un,
		       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path)));
}

/* What has begun is sent to its end; nothing new is begun. */
static void on_signal(struct loop *loop, int signo UNUSED)
{
	struct server *s = container_of(loop, struct server, loop);
	int fd = s->listen_io.fd;

	if (s->ending)
		return;
	s->ending = true;
	loop_timer_stop(loop, &s->listen_again);
	loop_io_del(loop, &s->listen_io);
	close(fd);
	peer_end_idle(s);
	if (s->peer_count == 0)
		loop_stop(loop);
}

static int start(struct server *s, const struct files_options *o, struct err *e)
{
	CLEANUP_FD int fd = -1;
	sigset_t set;

	s->options = o;
	s->tree.fd = open(o->dir, O_PATH | O_DIRECTORY | O_CLOEXEC);
	if (s->tree.fd < 0)
		return err_sys(e, "folder '%s'", o->dir);
	raise_limit();
	fd = open_socket(e);
	if (fd < 0 || hash_init(s, e) < 0)
		return -(int)e->code;
	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	s->listen_io.on_ready = on_listener;
	s->listen_again.on_time = on_pause_over;
	if (loop_init(&s->loop) < 0 || loop_signals(&s->loop, &set, on_signal) < 0 ||
	    loop_io_add(&s->loop, &s->listen_io, fd, EPOLLIN) < 0)
		return err_sys(e, "event loop");
	(void)TAKE_FD(fd);
	return drop_rights(s, e);
}

static void run(struct server *s)
{
	while (!s->loop.stopped) {
		loop_turn(&s->loop, list_empty(&s->again) && !s->hash_count ? -1 : 0);
		hash_turn(s);
		peer_turns(s);
	}
}

int files_serve(const struct files_options *o, struct err *e)
{
	static struct server s; /* one to a process, and too large for a stack */

	log_init("files", LOG_INFO);
	list_init(&s.peers);
	list_init(&s.again);
	list_init(&s.tree.age);
	if (start(&s, o, e) < 0)
		return -(int)e->code;
	log_info("files.ready", "dir=%s", o->dir);
	say_ready();
	run(&s);
	log_info("files.end", "requests=%llu without_tag=%llu not_kept_open=%llu",
		 (unsigned long long)s.requests, (unsigned long long)s.unhashed,
		 (unsigned long long)s.not_cached);
	tree_fini(&s);
	hash_fini(&s);
	loop_fini(&s.loop);
	return 0;
}
