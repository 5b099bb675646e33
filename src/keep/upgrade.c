/* SPDX-License-Identifier: Apache-2.0
 *
 * The keeper becomes another program, and stays the same process: its children stay its children, its
 * sockets stay open, and what ends meanwhile waits to be reaped.
 *
 *	controller	has run the new program's controller to readiness on a copy of the state
 *	UPGRADE   	what the keeper holds is written down, and the new program, as a child, reads it
 *	exec      	written down anew; every descriptor of it inherited. `_keeper KEPT OLD [WHY]`
 *	took over 	controller, logger, watcher and router are replaced by ones of the new program, in turn
 *	OUTCOME   	the old program is let go of
 *
 * What protects against what. A program that cannot start (a library that lacks, another machine's), or
 * crashes early, or reads another format: the two trials; nothing has changed then. One that fails
 * between exec and its first turn of the loop, by an error, an abort, a crash or by taking 5 s:
 * it executes the old program again, from the signal handler if need be, with the same memory file:
 * until then it has changed nothing. One that took over, but whose other processes do not get ready:
 * it writes down what it holds and becomes the old program again. Against a crash of the kernel's loader
 * between the trial, which has just passed, and main() there is nothing; and a keeper that crashes
 * later ends everything, as at any other time.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/close_range.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/time.h>

#include "base/log.h"
#include "keep/kept.h"

#define UPGRADE_TRIAL_MS 5000
#define UPGRADE_RESUME_S 5
#define UPGRADE_PART_MS 20000 /* for each part to get ready */

static const enum part order[] = {PART_CONTROLLER, PART_LOGGER, PART_WATCHER, PART_ROUTER};

static void refuse(struct keeper *k, enum err_code code, const char *reason)
{
	if (k->upgrade.binary_fd >= 0)
		close(TAKE_FD(k->upgrade.binary_fd));
	replace_outcome(k, MSG_UPGRADE, code, reason);
}

/* --- exec ---------------------------------------------------------------- */

/* Becomes the program; returns only when that fails. */
static int become(struct keeper *k, int binary, int old, const char *why, struct err *e)
{
	char kept_text[16], old_text[16], why_text[MSG_REASON];
	char *argv[] = {(char *)"upstate", (char *)"_keeper", kept_text, old_text,
			why ? why_text : NULL, NULL};
	struct itimerval limit = {.it_value.tv_sec = UPGRADE_RESUME_S}, none = {0};
	CLEANUP_FD int kept = kept_write(k, e);
	sigset_t set;

	if (kept < 0)
		return -(int)e->code;
	snprintf(kept_text, sizeof(kept_text), "%d", kept);
	snprintf(old_text, sizeof(old_text), "%d", old);
	util_copy(why_text, sizeof(why_text), why ? why : "");
	/* Blocked until the new program has its handler; its default would end everything. */
	sigemptyset(&set);
	sigaddset(&set, SIGALRM);
	sigprocmask(SIG_BLOCK, &set, NULL);
	kept_inherit(k, true);
	fcntl(kept, F_SETFD, 0);
	if (old >= 0)
		fcntl(old, F_SETFD, 0);
	setitimer(ITIMER_REAL, &limit, NULL);
	syscall(SYS_execveat, binary, "", argv, environ, AT_EMPTY_PATH);
	err_sys(e, "the program cannot be run");
	setitimer(ITIMER_REAL, &none, NULL);
	kept_inherit(k, false);
	if (old >= 0)
		fcntl(old, F_SETFD, FD_CLOEXEC);
	return -(int)e->code;
}

/* --- the trial ----------------------------------------------------------- */

__attribute__((noreturn)) static void become_trial(struct keeper *k, int kept, int said)
{
	char *argv[] = {(char *)"upstate", (char *)"_kept", NULL};
	sigset_t none;

	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (dup2(said, STDERR_FILENO) < 0 || dup2(kept, MSG_CHANNEL_FD) < 0)
		_exit(126);
	fcntl(MSG_CHANNEL_FD, F_SETFD, 0);
	syscall(SYS_close_range, MSG_CHANNEL_FD + 1, ~0u, CLOSE_RANGE_CLOEXEC);
	syscall(SYS_execveat, k->upgrade.binary_fd, "", argv, environ, AT_EMPTY_PATH);
	dprintf(STDERR_FILENO, "it cannot be run: %s", strerror(errno));
	_exit(126);
}

static void end_trial(struct keeper *k, int status)
{
	char text[MSG_REASON] = "", end[96], reason[MSG_REASON];
	ssize_t n = read(k->upgrade.said_fd, text, sizeof(text) - 1);
	struct err e;

	close(TAKE_FD(k->upgrade.said_fd));
	loop_timer_stop(&k->loop, &k->upgrade.limit);
	if (status == 0 && k->phase == KEEP_RUNS) {
		k->upgrade.due = true; /* from the loop's end of turn, where nothing is half done */
		loop_timer_set(&k->loop, &k->upgrade.limit, k->loop.now_ms);
		return;
	}
	text[MAX(n, 0)] = '\0';
	text[strcspn(text, "\n")] = '\0';
	part_says_end(status, 0, end, sizeof(end));
	snprintf(reason, sizeof(reason), "the new program cannot take over: %.140s", text[0] ? text : end);
	err_set(&e, ERR_REFUSED, "%s", reason);
	refuse(k, ERR_REFUSED, e.msg);
}

static void on_trial_end(struct loop_child *child, int status)
{
	struct keeper *k = container_of(child, struct keeper, upgrade.trial);

	end_trial(k, status);
	keep_reap_strangers(k);
}

static void try(struct keeper *k)
{
	struct err e;
	CLEANUP_FD int kept = kept_write(k, &e);
	int said[2];
	pid_t pid;

	if (kept < 0 || pipe2(said, O_CLOEXEC | O_NONBLOCK) < 0) {
		refuse(k, ERR_SYS, kept < 0 ? e.msg : "no pipe to the new program");
		return;
	}
	pid = fork();
	if (pid == 0)
		become_trial(k, kept, said[1]);
	close(said[1]);
	if (pid < 0 || loop_child_add(&k->loop, &k->upgrade.trial, pid) < 0) {
		close(said[0]);
		if (pid > 0)
			kill(pid, SIGKILL);
		refuse(k, ERR_SYS, "no process to try the new program");
		return;
	}
	k->upgrade.said_fd = said[0];
	loop_timer_set(&k->loop, &k->upgrade.limit, k->loop.now_ms + UPGRADE_TRIAL_MS);
}

/* `_kept`: reads what a keeper holds, from descriptor 3, and does nothing with it. */
int keep_trial_main(int argc UNUSED, char **argv UNUSED)
{
	struct kept kept;
	struct err e;

	if (kept_read(MSG_CHANNEL_FD, &kept, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		return err_exit_status(e.code);
	}
	kept_free(&kept);
	return 0;
}

static const char *not_now(const struct keeper *k)
{
	if (k->phase != KEEP_RUNS || !k->ready)
		return "Upstate is starting or ending";
	if (upgrade_goes_on(k))
		return "an upgrade is going on";
	if (k->coming || k->parts[PART_OTHER]->child.pid)
		return "the router before has not finished yet; `upstate status` shows it";
	for (size_t i = 0; i < ARRAY_LEN(order); i++)
		if (k->parts[order[i]]->state != PART_STATE_UP)
			return "a part of Upstate is being started; `upstate status` shows it";
	return NULL;
}

bool upgrade_goes_on(const struct keeper *k)
{
	return k->upgrade.trial.pid || k->upgrade.due || k->upgrade.going;
}

void upgrade_begin(struct keeper *k, int binary)
{
	const char *why = not_now(k);

	if (why || binary < 0) {
		replace_outcome(k, MSG_UPGRADE, ERR_REFUSED, why ? why : "there is no program");
		return;
	}
	/* High, out of the way of the channels of the parts. */
	k->upgrade.binary_fd = fcntl(binary, F_DUPFD_CLOEXEC, 64);
	if (k->upgrade.binary_fd < 0)
		refuse(k, ERR_SYS, "no descriptor for the new program");
	else
		try(k);
}

/* A message that waits for room would be lost. */
static bool all_is_sent(const struct keeper *k)
{
	for (int i = 0; i < PART_COUNT; i++)
		if (msg_channel_is_open(&k->parts[i]->channel) && k->parts[i]->channel.queue)
			return false;
	return true;
}

static void go(struct keeper *k)
{
	const char *why;
	struct err e;

	k->upgrade.due = false;
	why = not_now(k);
	if (!why && !all_is_sent(k))
		why = "a part of Upstate does not read what it is told";
	if (why) {
		refuse(k, ERR_REFUSED, why);
		return;
	}
	log_info("upgrade", "step=exec");
	if (become(k, k->upgrade.binary_fd, k->binary_fd, NULL, &e) < 0)
		refuse(k, e.code, e.msg);
}

/* --- the new program ----------------------------------------------------- */

/* For what is done from a signal handler: only system calls, and texts that are there. */
static struct {
	int old_fd;
	char kept[16], why[MSG_REASON];
} back;

__attribute__((noreturn)) static void go_back(void)
{
	char *argv[] = {(char *)"upstate", (char *)"_keeper", back.kept, (char *)"-1", back.why, NULL};
	const struct itimerval none = {0};

	setitimer(ITIMER_REAL, &none, NULL);
	if (back.old_fd >= 0)
		syscall(SYS_execveat, back.old_fd, "", argv, environ, AT_EMPTY_PATH);
	_exit(1);
}

static void on_fatal(int signo)
{
	util_copy(back.why, sizeof(back.why),
		  signo == SIGALRM ? "the new program did not take over in time"
				   : "the new program crashed while it took over");
	go_back();
}

static void arm(bool on)
{
	static const int fatal[] = {SIGALRM, SIGSEGV, SIGBUS, SIGABRT, SIGILL, SIGFPE, SIGTRAP, SIGSYS};
	const struct itimerval none = {0};
	sigset_t set;

	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LEN(fatal); i++) {
		signal(fatal[i], on ? on_fatal : SIG_DFL);
		sigaddset(&set, fatal[i]);
	}
	if (on) /* the program before may have gone back out of a handler */
		sigprocmask(SIG_UNBLOCK, &set, NULL);
	else
		setitimer(ITIMER_REAL, &none, NULL);
}

static void next_part(struct keeper *k);

/* A part of the new program does not get ready. What it holds now is what the old one takes over. */
static void give_back(struct keeper *k, const char *reason)
{
	int old = TAKE_FD(k->upgrade.old_fd);
	struct err e;

	k->upgrade.going = false;
	loop_timer_stop(&k->loop, &k->upgrade.limit);
	log_error("upgrade", "step=back reason=\"%s\"", reason);
	if (become(k, old, -1, reason, &e) < 0)
		log_error("upgrade", "step=back reason=\"%s\"", e.msg);
	close(old);
	replace_outcome(k, MSG_UPGRADE, ERR_GONE, reason);
}

void upgrade_part_ready(struct keeper *k, enum part part)
{
	if (k->upgrade.going && part == order[k->upgrade.at] && part != PART_ROUTER) {
		k->upgrade.at++;
		next_part(k);
	}
}

bool upgrade_router_outcome(struct keeper *k, enum err_code error, const char *reason)
{
	if (!k->upgrade.going)
		return false;
	if (error) {
		give_back(k, reason);
	} else {
		k->upgrade.at++;
		next_part(k);
	}
	return true;
}

void upgrade_part_ended(struct keeper *k, enum part part, const char *reason)
{
	char text[MSG_REASON];

	/* Its own, asked for end comes with `restart`; this is the new one's. */
	if (!k->upgrade.going || part != order[k->upgrade.at] || part == PART_ROUTER)
		return;
	snprintf(text, sizeof(text), "the new %s %.150s", part_name(part), reason);
	give_back(k, text);
}

static void next_part(struct keeper *k)
{
	loop_timer_stop(&k->loop, &k->upgrade.limit);
	if (k->upgrade.at == ARRAY_LEN(order)) {
		k->upgrade.going = false;
		close(TAKE_FD(k->upgrade.old_fd));
		log_info("upgrade", "step=done");
		replace_outcome(k, MSG_UPGRADE, ERR_OK, "");
		return;
	}
	loop_timer_set(&k->loop, &k->upgrade.limit, k->loop.now_ms + UPGRADE_PART_MS);
	if (order[k->upgrade.at] == PART_ROUTER)
		replace_router(k);
	else
		part_restart(k->parts[order[k->upgrade.at]]);
}

void upgrade_on_time(struct loop_timer *timer)
{
	struct keeper *k = container_of(timer, struct keeper, upgrade.limit);
	char text[MSG_REASON];

	if (k->upgrade.due) {
		go(k);
	} else if (k->upgrade.trial.pid) {
		kill(k->upgrade.trial.pid, SIGKILL);
	} else if (k->upgrade.going) {
		snprintf(text, sizeof(text), "the new %s did not get ready in time",
			 part_name(order[k->upgrade.at]));
		give_back(k, text);
	}
}

void upgrade_init(struct keeper *k)
{
	k->upgrade.binary_fd = k->upgrade.said_fd = k->upgrade.old_fd = -1;
	k->upgrade.trial.on_exit = on_trial_end;
	k->upgrade.limit.on_time = upgrade_on_time;
}

/* Everything is as it was, but with another program behind it. */
static void took_over(struct keeper *k, const char *came_back)
{
	keep_reap_strangers(k);
	if (came_back) {
		log_error("upgrade", "step=came-back reason=\"%s\"", came_back);
		part_restart(k->parts[PART_LOGGER]);
		part_restart(k->parts[PART_WATCHER]);
		part_restart(k->parts[PART_CONTROLLER]);
		replace_outcome(k, MSG_UPGRADE, ERR_GONE, came_back);
		return;
	}
	log_info("upgrade", "step=took-over");
	k->upgrade.going = true;
	next_part(k);
}

int keep_resume_main(int argc, char **argv)
{
	const char *came_back = argc > 4 ? argv[4] : NULL;
	struct kept kept;
	struct keeper *k;
	struct err e;
	int fd;

	if (argc < 4) {
		fprintf(stderr, "upstate: _keeper is run by the keeper before\n");
		return 2;
	}
	back.old_fd = (int)strtol(argv[3], NULL, 10);
	util_copy(back.kept, sizeof(back.kept), argv[2]);
	arm(true);
	log_init("keeper", LOG_INFO);
	fd = (int)strtol(argv[2], NULL, 10);
	k = keep_make();
	if (kept_read(fd, &kept, &e) < 0 || keep_resume(k, &kept, &e) < 0) {
		log_error("upgrade", "step=refused reason=\"%s\"", e.msg);
		util_copy(back.why, sizeof(back.why), e.msg);
		go_back();
	}
	kept_free(&kept);
	kept_inherit(k, false);
	close(fd);
	arm(false);
	k->upgrade.old_fd = back.old_fd;
	if (back.old_fd >= 0)
		fcntl(back.old_fd, F_SETFD, FD_CLOEXEC);
	took_over(k, came_back);
	return keep_run(k);
}
