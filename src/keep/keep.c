/* SPDX-License-Identifier: Apache-2.0
 *
 * The life of the keeper: take the state, make what all share, start the parts,
 * turn the loop, end in order.
 *
 * The order of the end: no new connection is taken and the controller ends first, so that it does
 * not mistake what follows for failures; instances end with their signals and grace
 * while the router still carries what they answer; then the router; the logger last,
 * when all output has been written.
 */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/file.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>

#include "base/log.h"
#include "keep/kept.h"
#include "wire/result.h"
#include "wire/shm.h"

#define LOCK_RETRY_MS 20L
#define LOCK_TRIES 100
#define KEEP_THREADS_DEFAULT_MAX 8
#define KEEP_READY_LOOK_MS 10
#define KEEP_STRANGERS_MAX 1000 /* reaped in one go */

/* --- orders of the controller -------------------------------------------- */

static bool table_is_taken(const struct keeper *k)
{
	if (k->tables[0].fd < 0 || k->parts[PART_ROUTER]->state != PART_STATE_UP)
		return false;
	return shm_applied(k->shm) == k->tables[0].generation;
}

/* The table before is kept as the one to go back to; but one that no router has taken up is not
 * proven, and does not push out one that was. */
static void take_table(struct keeper *k, struct msg *m)
{
	const struct msg_table *t = m->body;
	int old;

	if (m->fds_len != 1)
		return;
	if (table_is_taken(k) && k->tables[0].generation != t->generation) {
		old = k->tables[1].fd;
		k->tables[1] = k->tables[0];
	} else {
		old = k->tables[0].fd;
	}
	if (old >= 0)
		close(old);
	k->tables[0] = (struct keep_table){TAKE_FD(m->fds[0]), t->generation};
	part_send(k, PART_ROUTER, MSG_TABLE, t, k->tables[0].fd);
	part_send(k, PART_OTHER, MSG_TABLE, t, k->tables[0].fd);
	keep_serve_ready(k);
}

static void take_certs(struct keeper *k, struct msg *m)
{
	const struct msg_certs *x = m->body;

	if (m->fds_len != 1)
		return;
	if (k->certs.fd >= 0)
		close(k->certs.fd);
	k->certs = (struct keep_table){TAKE_FD(m->fds[0]), x->generation};
	part_send_certs(k, PART_ROUTER);
	part_send_certs(k, PART_OTHER);
}

static void take_checks(struct keeper *k, struct msg *m)
{
	const struct msg_checks *x = m->body;

	if (m->fds_len != 1)
		return;
	if (k->checks.fd >= 0)
		close(k->checks.fd);
	k->checks = (struct keep_table){TAKE_FD(m->fds[0]), x->generation};
	part_send(k, PART_WATCHER, MSG_CHECKS, x, k->checks.fd);
}

void keep_order(struct part_proc *p, struct msg *m)
{
	struct keeper *k = p->keeper;

	switch (m->type) {
	case MSG_LISTEN:
		if (k->phase == KEEP_RUNS)
			listen_order(k, m->body);
		break;
	case MSG_UNLISTEN:
		listen_drop(k, ((const struct msg_id *)m->body)->id);
		break;
	case MSG_START:
		instance_start(k, m);
		break;
	case MSG_STOP:
		instance_stop(k, m->body);
		break;
	case MSG_TABLE:
		take_table(k, m);
		break;
	case MSG_CERTS:
		take_certs(k, m);
		break;
	case MSG_CHECKS:
		take_checks(k, m);
		break;
	case MSG_MEASURE:
		part_send(k, PART_WATCHER, MSG_MEASURE, m->body, -1);
		break;
	case MSG_LOGCONF:
		k->logconf = *(const struct msg_logconf *)m->body;
		k->logconf_set = true;
		part_send(k, PART_LOGGER, MSG_LOGCONF, &k->logconf, -1);
		break;
	case MSG_RESTART:
		replace_router(k);
		break;
	case MSG_UPGRADE:
		upgrade_begin(k, m->fds_len ? m->fds[0] : -1);
		break;
	case MSG_SHUTDOWN:
		keep_end(k, 0);
		break;
	default:
		part_kill(p, "sent what it may not send");
	}
}

/* --- ready --------------------------------------------------------------- */

/* To the service manager, if there is one. That it does not listen is its own affair. */
static void tell_manager(const struct keeper *k, const char *text)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	size_t len = strlen(k->notify_path);
	CLEANUP_FD int fd = -1;

	if (!len)
		return;
	memcpy(un.sun_path, k->notify_path, len);
	if (un.sun_path[0] == '@')
		un.sun_path[0] = '\0';
	fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
	if (fd >= 0)
		sendto(fd, text, strlen(text), MSG_NOSIGNAL, (struct sockaddr *)&un,
		       (socklen_t)(offsetof(struct sockaddr_un, sun_path) + len));
}

void keep_serve_ready(struct keeper *k)
{
	if (k->ready || k->phase != KEEP_RUNS || !k->parts[PART_CONTROLLER]->was_ready)
		return;
	if (!table_is_taken(k)) {
		loop_timer_set(&k->loop, &k->ready_timer, k->loop.now_ms + KEEP_READY_LOOK_MS);
		return;
	}
	k->ready = true;
	log_info("serve.ready", "state=%s pid=%d threads=%u", k->state, (int)getpid(), k->threads);
	tell_manager(k, "READY=1");
}

static void look_again(struct loop_timer *timer)
{
	keep_serve_ready(container_of(timer, struct keeper, ready_timer));
}

/* --- the end ------------------------------------------------------------- */

void keep_next_phase(struct keeper *k)
{
	if (k->phase == KEEP_ENDS_INSTANCES && list_empty(&k->instances)) {
		k->phase = KEEP_ENDS_ROUTER;
		part_stop(k->parts[PART_ROUTER]);
		part_stop(k->parts[PART_OTHER]);
	}
	if (k->phase == KEEP_ENDS_ROUTER && !k->parts[PART_ROUTER]->child.pid &&
	    !k->parts[PART_OTHER]->child.pid && !k->parts[PART_CONTROLLER]->child.pid &&
	    !k->parts[PART_WATCHER]->child.pid) {
		k->phase = KEEP_ENDS_LOGGER;
		part_stop(k->parts[PART_LOGGER]);
	}
	if (k->phase == KEEP_ENDS_LOGGER && !k->parts[PART_LOGGER]->child.pid)
		loop_stop(&k->loop);
}

void keep_end(struct keeper *k, int exit_status)
{
	if (k->phase != KEEP_RUNS)
		return;
	log_info("serve.end", "status=%d", exit_status);
	tell_manager(k, "STOPPING=1");
	k->phase = KEEP_ENDS_INSTANCES;
	k->exit_status = exit_status;
	listen_drop_all(k, true);
	part_stop(k->parts[PART_CONTROLLER]);
	part_stop(k->parts[PART_WATCHER]);
	instance_stop_all(k);
	keep_next_phase(k);
}

static void end_at_once(struct keeper *k)
{
	log_warn("serve.end", "reason=\"told twice: at once\"");
	k->exit_status = 1;
	instance_kill_all(k);
	for (int i = PART_KEEPER + 1; i < PART_COUNT; i++)
		part_kill(k->parts[i], "told twice to end");
	loop_stop(&k->loop);
}

/* --- signals and children ------------------------------------------------ */

static bool is_known(const struct keeper *k, pid_t pid)
{
	struct instance *in;

	for (int i = 0; i < PART_COUNT; i++)
		if (k->parts[i]->child.pid == pid)
			return true;
	LIST_EACH (in, &k->instances, link)
		if (in->child.pid == pid)
			return true;
	return k->upgrade.trial.pid == pid;
}

/* Children that nobody waits for: helpers that remove folders, and, as the first process of a
 * container, all orphans. A known one is left to its own callback, which calls this again. */
void keep_reap_strangers(struct keeper *k)
{
	for (int i = 0; i < KEEP_STRANGERS_MAX; i++) {
		siginfo_t info = {0};

		if (waitid(P_ALL, 0, &info, WEXITED | WNOHANG | WNOWAIT) < 0 || !info.si_pid ||
		    is_known(k, info.si_pid))
			return;
		waitpid(info.si_pid, NULL, WNOHANG);
	}
}

static void on_signal(struct loop *loop, int signo)
{
	struct keeper *k = container_of(loop, struct keeper, loop);

	switch (signo) {
	case SIGCHLD:
		keep_reap_strangers(k);
		break;
	case SIGHUP:
		part_send(k, PART_CONTROLLER, MSG_RELOAD, &(struct msg_none){0}, -1);
		break;
	default:
		if (k->phase == KEEP_RUNS)
			keep_end(k, 0);
		else
			end_at_once(k);
	}
}

/* --- start --------------------------------------------------------------- */

static int open_state(struct keeper *k, const struct keep_options *o, struct err *e)
{
	const char *below[] = {"", "/run", "/data"};
	char path[4200], *real;
	size_t longest;

	if (rundir_mkdirs(o->state_dir, 0711, e) < 0)
		return -(int)e->code;
	real = realpath(o->state_dir, NULL);
	if (!real || !util_copy(k->state, sizeof(k->state), real)) {
		free(real);
		return err_sys(e, "state '%s'", o->state_dir);
	}
	free(real);
	longest = strlen(k->state) + strlen("/run/18446744073709551615/notify");
	if (longest >= MSG_PATH)
		return err_set(e, ERR_INPUT,
			       "state '%s' is %zu bytes too long: the sockets of "
			       "instances lie below it, and a path of a socket has at most %d",
			       k->state, longest - MSG_PATH + 1, MSG_PATH - 1);
	for (size_t i = 0; i < ARRAY_LEN(below); i++) {
		snprintf(path, sizeof(path), "%s%s", k->state, below[i]);
		/* Users of apps and the router pass through; they cannot look around. */
		if ((mkdir(path, 0711) < 0 && errno != EEXIST) || chmod(path, 0711) < 0)
			return err_sys(e, "'%s'", path);
	}
	return 0;
}

/* Who wrote that it has the lock; text gets its pid as it stands there. */
static bool holder_lives(int fd, char *text, size_t size)
{
	ssize_t n = pread(fd, text, size - 1, 0);
	pid_t pid;

	text[MAX(n, 0)] = '\0';
	text[strcspn(text, "\n")] = '\0';
	pid = (pid_t)strtol(text, NULL, 10);
	return pid <= 0 || kill(pid, 0) == 0 || errno != ESRCH;
}

/* What a keeper that was killed had just forked has its lock too, until it dies of that. */
static bool try_lock(int fd, char *text, size_t size)
{
	for (int i = 0; flock(fd, LOCK_EX | LOCK_NB) < 0; i++) {
		if (errno != EWOULDBLOCK)
			return false;
		if (holder_lives(fd, text, size) || i == LOCK_TRIES) {
			errno = EWOULDBLOCK;
			return false;
		}
		nanosleep(&(struct timespec){.tv_nsec = LOCK_RETRY_MS * 1000000}, NULL);
	}
	return true;
}

static int take_lock(struct keeper *k, struct err *e)
{
	char path[4200], text[24] = "";
	ssize_t n;

	snprintf(path, sizeof(path), "%s/lock", k->state);
	k->lock_fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (k->lock_fd < 0)
		return err_sys(e, "'%s'", path);
	if (!try_lock(k->lock_fd, text, sizeof(text))) {
		if (errno != EWOULDBLOCK)
			return err_sys(e, "locking '%s'", path);
		return err_set(e, ERR_REFUSED,
			       "another serve (pid %s) works on '%s'; end that one, "
			       "or take another --state",
			       text[0] ? text : "unknown", k->state);
	}
	n = snprintf(text, sizeof(text), "%d\n", (int)getpid());
	if (ftruncate(k->lock_fd, 0) < 0 || pwrite(k->lock_fd, text, (size_t)n, 0) != n)
		return err_sys(e, "writing '%s'", path);
	return 0;
}

static uint32_t count_threads(void)
{
	const char *asked = getenv("UPSTATE_THREADS");
	long n = asked ? strtol(asked, NULL, 10) : 0;
	cpu_set_t cpus;

	if (n > 0)
		return (uint32_t)MIN(n, SHM_THREADS / SHM_BANKS);
	if (sched_getaffinity(0, sizeof(cpus), &cpus) < 0)
		return 1;
	return (uint32_t)MIN(CPU_COUNT(&cpus), KEEP_THREADS_DEFAULT_MAX);
}

static int make_shared(struct keeper *k, struct err *e)
{
	k->threads = count_threads();
	k->shared[SHARED_NUMBERS] = shm_create(k->threads * SHM_BANKS);
	k->shared[SHARED_RING] = ring_create(k->threads * SHM_BANKS);
	k->shared[SHARED_ROUTER_BELL] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	k->shared[SHARED_LOG_BELL] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	k->shared[SHARED_RESULTS] = results_create();
	k->shared[SHARED_RESULT_BELL] = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	for (int i = 0; i < SHARED_COUNT; i++)
		if (k->shared[i] < 0)
			return err_sys(e, "shared memory");
	k->shm = shm_map(k->shared[SHARED_NUMBERS]);
	return k->shm ? 0 : err_sys(e, "shared memory");
}

/* Held open, so that it stays the same program when the file is replaced. */
static int open_binary(struct keeper *k, const struct keep_options *o, struct err *e)
{
	const char *path = o->binary ? o->binary : "/proc/self/exe";
	CLEANUP_FD int fd = open(path, O_PATH | O_CLOEXEC);

	/* High, out of the way of the channels of the parts. */
	k->binary_fd = fd < 0 ? -1 : fcntl(fd, F_DUPFD_CLOEXEC, 64);
	return k->binary_fd < 0 ? err_sys(e, "program '%s'", path) : 0;
}

static int raise_limit(struct keeper *k, struct err *e)
{
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0)
		return err_sys(e, "limit of open files");
	k->files_soft = r.rlim_cur;
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);
	return 0;
}

static int start_loop(struct keeper *k, struct err *e)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	sigaddset(&set, SIGINT);
	sigaddset(&set, SIGHUP);
	sigaddset(&set, SIGCHLD);
	signal(SIGPIPE, SIG_IGN);
	signal(SIGCHLD, SIG_DFL); /* ignored, as we may have inherited it, no end would be told */
	if (loop_init(&k->loop) < 0 || loop_signals(&k->loop, &set, on_signal) < 0)
		return err_sys(e, "event loop");
	return 0;
}

static int start(struct keeper *k, const struct keep_options *o, struct err *e)
{
	const char *notify = getenv("NOTIFY_SOCKET");

	umask(0022);
	k->root = geteuid() == 0;
	listen_passed_take(k);
	if (notify && (notify[0] == '/' || notify[0] == '@'))
		util_copy(k->notify_path, sizeof(k->notify_path), notify);
	unsetenv("NOTIFY_SOCKET");
	if (!util_copy(k->conf, sizeof(k->conf), o->conf_path))
		return err_set(e, ERR_INPUT, "'%s' is too long", o->conf_path);
	if (open_state(k, o, e) < 0 || take_lock(k, e) < 0 || open_binary(k, o, e) < 0 ||
	    raise_limit(k, e) < 0 || make_shared(k, e) < 0)
		return -(int)e->code;
	rundir_clear(k);
	rundir_program(k);
	sandbox_probe(k);
	group_probe(k);
	return start_loop(k, e);
}

static void init(struct keeper *k)
{
	memset(k, 0, sizeof(*k));
	k->lock_fd = k->binary_fd = k->tables[0].fd = k->tables[1].fd = k->certs.fd = k->checks.fd = k->loop.epoll = -1;
	for (int i = 0; i < SHARED_COUNT; i++)
		k->shared[i] = -1;
	list_init(&k->listeners);
	list_init(&k->instances);
	k->ready_timer.on_time = look_again;
	k->coming_limit.on_time = replace_not_ready;
	upgrade_init(k);
	for (int i = 0; i < PART_COUNT; i++)
		part_init(k, i);
}

/* What is still held ends with this process; only names in the file system would stay. */
static void fini(struct keeper *k)
{
	listen_drop_all(k, false);
	free(k->passed);
	map_free(&k->by_id);
	shm_unmap(k->shm);
	if (k->loop.epoll >= 0)
		loop_fini(&k->loop);
}

struct keeper *keep_make(void)
{
	static struct keeper k; /* one to a process, and too large for a stack */

	init(&k);
	return &k;
}

int keep_resume(struct keeper *k, const struct kept *kept, struct err *e)
{
	static const struct keep_options own; /* this program */

	umask(0022);
	if (start_loop(k, e) < 0 || open_binary(k, &own, e) < 0)
		return -(int)e->code;
	return kept_adopt(k, kept, e);
}

int keep_run(struct keeper *k)
{
	loop_run(&k->loop);
	fini(k);
	return k->exit_status;
}

int keep_serve(const struct keep_options *options)
{
	struct keeper *k = keep_make();
	struct err e;

	log_init("keeper", LOG_INFO);
	if (start(k, options, &e) < 0) {
		fprintf(stderr, "upstate: %s\n", e.msg);
		fini(k);
		return err_exit_status(e.code);
	}
	for (int i = PART_KEEPER + 1; i < PART_OTHER; i++)
		part_start(k->parts[i]);
	return keep_run(k);
}
