/* SPDX-License-Identifier: Apache-2.0
 *
 * What an instance may not do. Reading and executing are as Unix permissions say;
 * writing is only below its own folders and those that its configuration lists
 * (Landlock). When Upstate is root it also gets a /tmp of its own, and its release is
 * mounted read-only. What this kernel does not have is left out, and said once.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/landlock.h>
#include <sched.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/log.h"
#include "keep/keep_priv.h"

#ifndef LANDLOCK_ACCESS_FS_TRUNCATE
#define LANDLOCK_ACCESS_FS_TRUNCATE (1ULL << 14) /* ABI 3, newer than the headers here */
#endif

#define WRITE_TO_FILES (LANDLOCK_ACCESS_FS_WRITE_FILE | LANDLOCK_ACCESS_FS_TRUNCATE)
#define WRITE_ALL                                                                                  \
	(WRITE_TO_FILES | LANDLOCK_ACCESS_FS_REMOVE_DIR | LANDLOCK_ACCESS_FS_REMOVE_FILE |         \
	 LANDLOCK_ACCESS_FS_MAKE_CHAR | LANDLOCK_ACCESS_FS_MAKE_DIR |                              \
	 LANDLOCK_ACCESS_FS_MAKE_REG | LANDLOCK_ACCESS_FS_MAKE_SOCK |                              \
	 LANDLOCK_ACCESS_FS_MAKE_FIFO | LANDLOCK_ACCESS_FS_MAKE_BLOCK |                            \
	 LANDLOCK_ACCESS_FS_MAKE_SYM | LANDLOCK_ACCESS_FS_REFER)

/* --- what is there ------------------------------------------------------- */

static bool may_mount(void)
{
	int status = 1;
	pid_t pid = fork();

	if (pid == 0)
		_exit(unshare(CLONE_NEWNS) < 0 ||
		      mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0);
	return pid > 0 && waitpid(pid, &status, 0) == pid && status == 0;
}

void sandbox_probe(struct keeper *k)
{
	long abi = syscall(SYS_landlock_create_ruleset, NULL, 0, LANDLOCK_CREATE_RULESET_VERSION);

	k->landlock = abi > 0 ? (int)abi : 0;
	if (!k->landlock)
		log_warn("sandbox",
			 "landlock=absent effect=\"instances may write wherever their user may\"");
	k->namespaces = k->root && may_mount();
	if (k->root && !k->namespaces)
		log_warn("sandbox", "namespaces=absent effect=\"instances share /tmp\"");
}

/* --- mounts -------------------------------------------------------------- */

static bool is_below(const char *path, const char *dir)
{
	size_t n = strlen(dir);

	return !strncmp(path, dir, n) && (path[n] == '/' || !path[n]);
}

/* A private folder over `tmp` would hide what the instance needs below it. */
static bool needs(const struct instance *in, const char *tmp)
{
	const struct msg_start *s = &in->order.start;

	if (is_below(s->dir, tmp) || is_below(s->run_dir, tmp) || is_below(s->data_dir, tmp))
		return true;
	for (char **w = in->order.writes; *w; w++)
		if (strcmp(*w, tmp) != 0 && is_below(*w, tmp))
			return true;
	return false;
}

static int bind_tmp(const struct instance *in, const char *over, struct err *e)
{
	char own[600], self[64];
	CLEANUP_FD int fd = -1;

	if (needs(in, over))
		return 0;
	snprintf(own, sizeof(own), "%s/tmp", in->order.start.run_dir);
	/* The instance may have put a link there before its last end: it is not followed. */
	fd = open(own, O_PATH | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", fd);
	if (fd < 0 || mount(self, over, NULL, MS_BIND, NULL) < 0)
		return err_sys(e, "own folder over %s", over);
	return 0;
}

int sandbox_mounts(const struct instance *in, struct err *e)
{
	const char *dir = in->order.start.dir;

	if (!in->keeper->namespaces)
		return 0;
	if (unshare(CLONE_NEWNS) < 0 || mount(NULL, "/", NULL, MS_REC | MS_SLAVE, NULL) < 0)
		return err_sys(e, "own mounts");
	if (bind_tmp(in, "/tmp", e) < 0 || bind_tmp(in, "/var/tmp", e) < 0)
		return -(int)e->code;
	if (mount(dir, dir, NULL, MS_BIND, NULL) < 0 ||
	    mount(NULL, dir, NULL, MS_BIND | MS_REMOUNT | MS_RDONLY | MS_NOSUID, NULL) < 0)
		return err_sys(e, "read-only release '%s'", dir);
	return 0;
}

/* --- Landlock ------------------------------------------------------------ */

static uint64_t handled(int abi)
{
	uint64_t rights = WRITE_ALL;

	if (abi < 2) /* without it, moving between folders is always refused */
		rights &= ~(uint64_t)LANDLOCK_ACCESS_FS_REFER;
	if (abi < 3)
		rights &= ~(uint64_t)LANDLOCK_ACCESS_FS_TRUNCATE;
	return rights;
}

static int allow(int rules, const char *path, uint64_t rights, struct err *e)
{
	CLEANUP_FD int fd = open(path, O_PATH | O_CLOEXEC);
	struct landlock_path_beneath_attr below = {.allowed_access = rights, .parent_fd = fd};
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, "writing below '%s'", path);
	if (!S_ISDIR(st.st_mode))
		below.allowed_access &= WRITE_TO_FILES;
	if (syscall(SYS_landlock_add_rule, rules, LANDLOCK_RULE_PATH_BENEATH, &below, 0) < 0)
		return err_sys(e, "Landlock rule for '%s'", path);
	return 0;
}

static int allow_own(int rules, const struct instance *in, uint64_t all, struct err *e)
{
	const struct msg_start *s = &in->order.start;
	const char *always[] = {"/tmp", "/var/tmp", "/dev/shm"};

	if (allow(rules, s->run_dir, all, e) < 0 ||
	    (s->data_dir[0] && allow(rules, s->data_dir, all, e) < 0))
		return -(int)e->code;
	for (char **w = in->order.writes; *w; w++)
		if (allow(rules, *w, all, e) < 0)
			return -(int)e->code;
	for (size_t i = 0; i < ARRAY_LEN(always); i++)
		allow(rules, always[i], all, NULL);	  /* what is not there cannot be written */
	allow(rules, "/dev", all & WRITE_TO_FILES, NULL); /* null, tty, ... */
	return 0;
}

int sandbox_writes(const struct instance *in, struct err *e)
{
	struct landlock_ruleset_attr attr = {.handled_access_fs = handled(in->keeper->landlock)};
	CLEANUP_FD int rules = -1;

	if (!in->keeper->landlock)
		return 0;
	rules = (int)syscall(SYS_landlock_create_ruleset, &attr, sizeof(attr), 0);
	if (rules < 0)
		return err_sys(e, "Landlock");
	if (allow_own(rules, in, attr.handled_access_fs, e) < 0)
		return -(int)e->code;
	if (syscall(SYS_landlock_restrict_self, rules, 0) < 0)
		return err_sys(e, "Landlock");
	return 0;
}
