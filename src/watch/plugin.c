/* SPDX-License-Identifier: Apache-2.0
 *
 * plugin: any program that keeps to the monitoring-plugins' rules: status 0 good, 1 bad, 2 ugly, 3 unknown, a line for
 * people, numbers behind a '|'.
 *
 * It is a stranger. It runs in a process group of its own, which is killed when the program ends, when its time is
 * over, and when it has printed more than OUTPUT_MAX; its output may hold anything and is cleaned. What it leaves
 * behind outside of its group becomes our child, and is ended by watch_sweep().
 */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "watch/watch_priv.h"

#define OUTPUT_MAX (64u << 10)
#define PLUGIN_PATH                                                                                \
	"/usr/lib/nagios/plugins:/usr/local/lib/nagios/plugins:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct plugin_run {
	struct list link; /* among all that live, also those that nobody waits for any more */
	struct loop_child child;
	struct loop_io io;
	struct watcher *w;
	struct watch_check *check; /* NULL: it was cancelled, and is only reaped */
	uint64_t id;	     /* of the check */
	pid_t group;
	struct buf output;
	bool too_much;
};

static void close_io(struct plugin_run *run)
{
	int fd = run->io.fd;

	loop_io_del(&run->w->loop, &run->io);
	if (fd >= 0)
		close(fd);
}

static void count_cost(struct watcher *w)
{
	struct rusage u;

	getrusage(RUSAGE_CHILDREN, &u);
	atomic_store(&w->results->plugin_us, (uint64_t)(u.ru_utime.tv_sec + u.ru_stime.tv_sec) * 1000000 +
						     (uint64_t)(u.ru_utime.tv_usec + u.ru_stime.tv_usec));
}

static void read_output(struct plugin_run *run)
{
	while (!run->too_much) {
		char *room = buf_room(&run->output, 4096);
		ssize_t n = room ? read(run->io.fd, room, 4096) : 0;

		if (n < 0)
			return; /* nothing now */
		if (n == 0)
			break;
		run->output.len += (size_t)n;
		run->too_much = run->output.len > OUTPUT_MAX;
	}
	close_io(run); /* its end, or what we do not want to read */
	if (run->too_much)
		kill(-run->group, SIGKILL);
}

static void on_output(struct loop_io *io, uint32_t events UNUSED)
{
	read_output(container_of(io, struct plugin_run, io));
}

/* --- what it says --- */

/* The number that the thresholds speak of: the one with their name, else the first. */
static void find_number(const struct watch_check *c, const char *perf, double *ret, enum result_unit *ret_unit)
{
	const char *label = c->bad.op ? c->bad.label : c->ugly.label;
	struct perfdata p;

	*ret = NAN;
	*ret_unit = RESULT_NONE_UNIT;
	while (perfdata_next(&perf, &p)) {
		if (*label && strcmp(label, p.label) != 0)
			continue;
		*ret = p.value;
		*ret_unit = p.unit;
		return;
	}
}

static void say(struct watch_check *c, int status, char *output)
{
	static const enum status outcomes[] = {STATUS_GOOD, STATUS_BAD, STATUS_UGLY, STATUS_UNKNOWN};
	int sig = WIFSIGNALED(status)	     ? WTERMSIG(status)
		  : WEXITSTATUS(status) > 128 ? WEXITSTATUS(status) - 128 /* as a shell tells it */
					      : 0;
	char *perf = plugin_split(output);
	enum result_unit unit;
	double value;

	find_number(c, perf, &value, &unit);
	plugin_strip_tags(output);
	if (sig)
		watch_done(c, STATUS_UNKNOWN, NAN, RESULT_NONE_UNIT, "the program was killed by signal %d (%s)", sig,
			   sigabbrev_np(sig) ?: "?");
	else if (WEXITSTATUS(status) < (int)ARRAY_LEN(outcomes))
		watch_done(c, outcomes[WEXITSTATUS(status)], value, unit, "%s", *output ? output : "it printed nothing");
	else if (WEXITSTATUS(status) == 127 || WEXITSTATUS(status) == 126)
		watch_done(c, STATUS_UNKNOWN, NAN, RESULT_NONE_UNIT,
			   "the program cannot be run; it is looked for in %s", PLUGIN_PATH);
	else
		watch_done(c, STATUS_UNKNOWN, NAN, RESULT_NONE_UNIT, "the program ended with status %d: %s", WEXITSTATUS(status),
			   output);
}

static void run_free(struct plugin_run *run)
{
	close_io(run);
	list_del(&run->link);
	run->w->plugins--;
	buf_free(&run->output);
	free(run);
}

static void on_exit_of(struct loop_child *child, int status)
{
	struct plugin_run *run = container_of(child, struct plugin_run, child);
	struct watch_check *c = run->check;
	char *output;
	struct loop *loop = child->loop;
	bool too_much;

	if (run->io.fd >= 0)
		read_output(run); /* what came last */
	kill(-run->group, SIGKILL); /* those that it left */
	count_cost(run->w);
	too_much = run->too_much;
	output = util_strdup(buf_str(&run->output));
	run_free(run);
	if (!c)
		watch_more(loop);
	else if (too_much)
		watch_done(c, STATUS_UNKNOWN, NAN, RESULT_NONE_UNIT, "the program printed more than %u KiB, and was ended",
			   OUTPUT_MAX >> 10);
	else
		say(c, status, output);
	free(output);
}

/* --- its start --- */

/* The shell takes no place between us and the program, where the command is a single plain one: what ends us
 * then ends it. */
static bool is_plain(const char *command)
{
	static const char *const of_the_shell[] = {"exit", "cd",  "set",   ".",	    "eval", "exec",   "command", "if",	 "while",
						   "for",  "case", "until", "!",    ":",    "ulimit", "umask",	 "trap", "read"};
	size_t blank = strspn(command, " \t"), word = strcspn(command + blank, " \t");

	if (strpbrk(command, ";&|()`\n{}") || memchr(command + blank, '=', word))
		return false;
	for (size_t i = 0; i < ARRAY_LEN(of_the_shell); i++)
		if (strlen(of_the_shell[i]) == word && memcmp(command + blank, of_the_shell[i], word) == 0)
			return false;
	return true;
}

bool watch_is_program(enum conf_check_kind kind)
{
	return kind == CONF_CHECK_PLUGIN || kind == CONF_CHECK_FILE || kind == CONF_CHECK_HOST || kind == CONF_CHECK_PROCESS;
}

__attribute__((noreturn)) static void become(const struct watch_check *c, int out)
{
	static char *const env[] = {(char *)"PATH=" PLUGIN_PATH, (char *)"LANG=C.UTF-8", (char *)"HOME=/", NULL};
	char text[2048];
	char *const argv[] = {(char *)"sh", (char *)"-c", text, NULL};
	const struct rlimit none = {0, 0}, files = {1024, 1024};
	int null = open("/dev/null", O_RDWR);
	sigset_t set;

	snprintf(text, sizeof(text), "%s%s", is_plain(c->what) ? "exec " : "", c->what);
	setpgid(0, 0);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	sigemptyset(&set);
	sigprocmask(SIG_SETMASK, &set, NULL);
	signal(SIGPIPE, SIG_DFL);
	setrlimit(RLIMIT_CORE, &none);
	setrlimit(RLIMIT_NOFILE, &files);
	dup2(null, STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(null, STDERR_FILENO);
	syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, 0); /* libraries do not mark all of theirs */
	if (c->kind != CONF_CHECK_PLUGIN)
		watch_local_run(c);
	execve("/bin/sh", argv, env);
	_exit(127);
}

/* What the kernel holds (a disk, or a server of files, that does not answer) cannot be killed: nothing more is started
 * for such a check until that has ended. */
static bool is_stuck(const struct watch_check *c)
{
	const struct plugin_run *run;

	LIST_EACH (run, &c->w->programs, link)
		if (run->id == c->id)
			return true;
	return false;
}

static void plugin_begin(struct watch_check *c)
{
	struct plugin_run *run;
	int out[2];
	pid_t pid;

	if (is_stuck(c)) {
		watch_done(c, STATUS_UGLY, NAN, RESULT_NONE_UNIT, "the program of the measurement before is stuck in the kernel");
		return;
	}
	if (pipe2(out, O_CLOEXEC) < 0) {
		watch_failed(c, errno, "a pipe to the program");
		return;
	}
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	pid = fork();
	if (pid == 0)
		become(c, out[1]);
	close(out[1]);
	if (pid < 0) {
		close(out[0]);
		watch_failed(c, EAGAIN, "starting the program");
		return;
	}
	setpgid(pid, pid); /* here too: it is to be there when we want to kill it */
	c->stage = "running the program";
	c->run = run = util_alloc(sizeof(*run));
	*run = (struct plugin_run){.w = c->w, .check = c, .id = c->id, .group = pid, .output = {.max = OUTPUT_MAX + 8192}};
	run->io.fd = -1;
	run->io.on_ready = on_output;
	run->child.on_exit = on_exit_of;
	list_add_tail(&c->w->programs, &run->link);
	c->w->plugins++;
	c->w->swept = true;
	if (loop_child_add(&c->w->loop, &run->child, pid) < 0 || loop_io_add(&c->w->loop, &run->io, out[0], EPOLLIN) < 0) {
		int error = errno;

		if (run->io.fd < 0)
			close(out[0]);
		loop_child_del(&c->w->loop, &run->child);
		kill(-pid, SIGKILL); /* reaped by the next sweep */
		c->run = NULL;
		run_free(run);
		watch_failed(c, error, "watching the program");
	}
}

static void plugin_cancel(struct watch_check *c)
{
	struct plugin_run *run = c->run;

	if (!run)
		return;
	run->check = NULL;
	c->run = NULL;
	close_io(run);
	kill(-run->group, SIGKILL);
}

/* --- what is left behind --- */

static bool is_ours(struct watcher *w, pid_t pid)
{
	struct plugin_run *run;

	LIST_EACH (run, &w->programs, link)
		if (run->group == pid || run->group == getpgid(pid))
			return true;
	return false;
}

/* Children whose parents have ended are given to us (PR_SET_CHILD_SUBREAPER). */
void watch_sweep(struct watcher *w)
{
	char text[4096];
	int fd = w->swept ? open("/proc/thread-self/children", O_RDONLY | O_CLOEXEC) : -1;
	ssize_t n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
	char *at = text, *end;

	if (fd >= 0)
		close(fd);
	text[MAX(n, 0)] = '\0';
	for (long pid; (pid = strtol(at, &end, 10)) > 0; at = end) {
		if (is_ours(w, (pid_t)pid))
			continue;
		kill((pid_t)pid, SIGKILL);
		waitpid((pid_t)pid, NULL, WNOHANG);
	}
	w->swept = w->plugins > 0 || n > 0;
}

const struct watch_engine watch_plugin = {plugin_begin, plugin_cancel};
