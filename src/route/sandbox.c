/* SPDX-License-Identifier: Apache-2.0
 *
 * Least bit: the router reads what anyone may send, so it keeps only what carrying
 * bytes needs. As root it becomes another user; then no new privileges, no dump
 * of its memory, no file at all (Landlock), and a short list of system calls
 * (seccomp). A call that is not on it ends the process: whatever made it, it was
 * not this program.
 */
#include "route/route_priv.h"

#include <fcntl.h>
#include <grp.h>
#include <linux/landlock.h>
#include <seccomp.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

__attribute__((noreturn)) static void refuse(const char *what)
{
	log_error("sandbox.failed", "reason=\"%s: %s\"", what, strerror(errno));
	exit(1);
}

static void drop_user(const struct router *r)
{
	if (geteuid() != 0 || r->uid == (uint32_t)-1)
		return;
	if (setgroups(0, NULL) < 0 || setresgid(r->gid, r->gid, r->gid) < 0 ||
	    setresuid(r->uid, r->uid, r->uid) < 0)
		refuse("becoming the router's user");
}

/* A rule set that handles every right and grants none. Connecting to unix sockets by path is not
 * among the rights. */
static void drop_files(void)
{
	struct landlock_ruleset_attr attr = {.handled_access_fs = LANDLOCK_ACCESS_FS_MAKE_SYM * 2 - 1};
	int fd = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);

	if (fd < 0) {
		log_info("sandbox.landlock", "used=no reason=\"%s\"", strerror(errno));
		return;
	}
	if (syscall(SYS_landlock_restrict_self, fd, 0) < 0)
		refuse("giving up the file system");
	close(fd);
}

/* What the data path and the main thread call, and what libc calls on their behalf (threads,
 * memory, ending). */
static const int allowed[] = {
	SCMP_SYS(read),		  SCMP_SYS(write),	   SCMP_SYS(close),
	SCMP_SYS(recvfrom),	  SCMP_SYS(sendto),	   SCMP_SYS(recvmsg),
	SCMP_SYS(sendmsg),	  SCMP_SYS(epoll_wait),	   SCMP_SYS(epoll_pwait),
	SCMP_SYS(epoll_ctl),	  SCMP_SYS(epoll_create1), SCMP_SYS(accept4),
	SCMP_SYS(socket),	  SCMP_SYS(connect),	   SCMP_SYS(shutdown),
	SCMP_SYS(getsockopt),	  SCMP_SYS(setsockopt),	   SCMP_SYS(getpeername),
	SCMP_SYS(getsockname),
	SCMP_SYS(eventfd2),	  SCMP_SYS(fcntl),	   SCMP_SYS(dup),
	SCMP_SYS(mmap),		  SCMP_SYS(munmap),	   SCMP_SYS(mremap),
	SCMP_SYS(mprotect),	  SCMP_SYS(madvise),	   SCMP_SYS(brk),
	SCMP_SYS(fstat),	  SCMP_SYS(newfstatat),	   SCMP_SYS(futex),
	SCMP_SYS(clone),	  SCMP_SYS(clone3),	   SCMP_SYS(set_robust_list),
	SCMP_SYS(rseq),		  SCMP_SYS(sched_yield),   SCMP_SYS(sched_getaffinity),
	SCMP_SYS(clock_gettime),  SCMP_SYS(gettimeofday),  SCMP_SYS(getrandom),
	SCMP_SYS(getpid),	  SCMP_SYS(gettid),	   SCMP_SYS(tgkill),
	SCMP_SYS(rt_sigprocmask), SCMP_SYS(rt_sigaction),  SCMP_SYS(rt_sigreturn),
	SCMP_SYS(poll),		  SCMP_SYS(restart_syscall), SCMP_SYS(exit),	   SCMP_SYS(exit_group),
};

static void drop_calls(void)
{
	scmp_filter_ctx filter = seccomp_init(SCMP_ACT_KILL_PROCESS);

	if (!filter)
		refuse("making the filter of system calls");
	seccomp_attr_set(filter, SCMP_FLTATR_CTL_TSYNC, 1);
	/* One comparison for a third of the calls, not a walk down the list. */
	seccomp_attr_set(filter, SCMP_FLTATR_CTL_OPTIMIZE, 2);
	for (size_t i = 0; i < ARRAY_LEN(allowed); i++)
		if (seccomp_rule_add(filter, SCMP_ACT_ALLOW, allowed[i], 0) < 0)
			refuse("making the filter of system calls");
	/* free() asks a file under /proc how it may shrink a thread's heap, once the heap is large
	 * enough, and takes a no for an answer. Landlock grants no file anyway. */
	if (seccomp_rule_add(filter, SCMP_ACT_ERRNO(EACCES), SCMP_SYS(openat), 0) < 0)
		refuse("making the filter of system calls");
	if (seccomp_load(filter) < 0)
		refuse("giving up system calls");
	seccomp_release(filter);
}

void sandbox_enter(const struct router *r)
{
	/* The first line of the log makes libc read its time zone: a file. */
	log_info("router.starts", "threads=%u", r->thread_count);
	drop_user(r);
	if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) < 0 || prctl(PR_SET_DUMPABLE, 0, 0, 0, 0) < 0)
		refuse("giving up privileges");
	drop_files();
	if (SANITIZED)
		log_info("sandbox.seccomp", "used=no reason=\"built with a sanitizer\"");
	else
		drop_calls();
}
