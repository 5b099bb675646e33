/* SPDX-License-Identifier: Apache-2.0
 *
 * From fork to exec. The keeper only forks; everything that could take time or
 * fail is done by the child, step after step from the most rights to the least:
 *
 *	control group -> own session -> descriptors -> limits -> mounts (root)
 *	-> Landlock -> user and group -> ends with the keeper -> folder -> exec
 *
 * A step that fails is written to a pipe that exec closes, and becomes the reason
 * that people read.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/close_range.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "keep/keep_priv.h"

static void default_signals(void)
{
	sigset_t none;

	for (int i = 1; i < NSIG; i++)
		signal(i, SIG_DFL);
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
}

/* 0: /dev/null; 1 and 2: the pipe; nothing else survives exec. */
static int set_descriptors(const struct instance *in, struct err *e)
{
	CLEANUP_FD int null = open("/dev/null", O_RDONLY | O_CLOEXEC);

	if (null < 0 || dup2(null, STDIN_FILENO) < 0)
		return err_sys(e, "/dev/null");
	if (dup2(in->out[1], STDOUT_FILENO) < 0 || dup2(in->out[1], STDERR_FILENO) < 0)
		return err_sys(e, "its output");
	if (syscall(SYS_close_range, 3, ~0u, CLOSE_RANGE_CLOEXEC) < 0)
		return err_sys(e, "closing what is not its own");
	return 0;
}

/* The keeper raised its own limit; the instance gets what was there, or what it is configured. */
static int set_limits(const struct instance *in, struct err *e)
{
	rlim_t want =
	    in->order.start.files_max ? in->order.start.files_max : in->keeper->files_soft;
	struct rlimit r;

	if (getrlimit(RLIMIT_NOFILE, &r) < 0)
		return err_sys(e, "limit of open files");
	r.rlim_cur = want;
	if (want > r.rlim_max)
		r.rlim_max = want; /* which only root may */
	if (setrlimit(RLIMIT_NOFILE, &r) < 0)
		return err_sys(e, "limit of %llu open files", (unsigned long long)want);
	return 0;
}

static int set_user(const struct instance *in, struct err *e)
{
	uid_t uid = in->order.start.uid;
	gid_t gid = in->order.start.gid;

	if (uid == (uid_t)-1)
		return 0;
	if (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 || setresuid(uid, uid, uid) < 0)
		return err_sys(e, "becoming user %u, group %u", uid, gid);
	return 0;
}

static int end_with_keeper(pid_t keeper, struct err *e)
{
	/* After the change of user, which clears it. */
	if (prctl(PR_SET_PDEATHSIG, SIGKILL) < 0)
		return err_sys(e, "PR_SET_PDEATHSIG");
	if (getppid() != keeper)
		return err_set(e, ERR_GONE, "the keeper ended");
	return 0;
}

static int prepare(const struct instance *in, pid_t keeper, struct err *e)
{
	group_join(in);
	if (setsid() < 0)
		return err_sys(e, "own session");
	umask(0007);
	if (set_descriptors(in, e) < 0 || set_limits(in, e) < 0 || rundir_data(in, e) < 0 ||
	    sandbox_mounts(in, e) < 0)
		return -(int)e->code;
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0)
		return err_sys(e, "PR_SET_NO_NEW_PRIVS");
	if (sandbox_writes(in, e) < 0 || set_user(in, e) < 0 || end_with_keeper(keeper, e) < 0)
		return -(int)e->code;
	if (chdir(in->order.start.dir) < 0)
		return err_sys(e, "folder '%s'", in->order.start.dir);
	return 0;
}

__attribute__((noreturn)) static void become_instance(const struct instance *in, pid_t keeper,
						      int setup)
{
	const struct order *o = &in->order;
	struct err e;

	default_signals();
	if (prepare(in, keeper, &e) == 0) {
		environ = o->envp; /* execvpe() looks for PATH in the present one */
		execvpe(o->argv[0], o->argv, o->envp);
		err_sys(&e, "cannot run '%s'", o->argv[0]);
	} else {
		err_wrap(&e, "cannot start");
	}
	if (write(setup, e.msg, MIN(strlen(e.msg), MSG_REASON - 1u)) < 0)
		_exit(126);
	_exit(127);
}

pid_t start_fork(struct instance *in, int *ret_setup_fd, struct err *e)
{
	pid_t keeper = getpid(), pid;
	char path[600];
	int ends[2];

	/* A socket that the last start left would be "address in use" to the next. */
	snprintf(path, sizeof(path), "%s/sock", in->order.start.run_dir);
	unlink(path);
	if (pipe2(ends, O_CLOEXEC | O_NONBLOCK) < 0)
		return err_sys(e, "no pipe to start it");
	pid = fork();
	if (pid == 0)
		become_instance(in, keeper, ends[1]);
	close(ends[1]);
	if (pid < 0) {
		close(ends[0]);
		return err_sys(e, "no process left for it");
	}
	*ret_setup_fd = ends[0];
	return pid;
}
