/* SPDX-License-Identifier: Apache-2.0
 *
 * The folder of an instance: STATE/run/INSTANCE/{sock,notify,tmp/}. The instance owns it;
 * the router's group may enter, so that it alone besides the instance reaches the
 * socket; and what is made in it (set-group-ID) has that group too.
 * Beside them run/bin/upstate: this program, for instances that run it (upstate files).
 *
 * As root the folder is filled before it is given away: afterwards its owner could
 * put links where the keeper is about to write.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <grp.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>

#include "base/log.h"
#include "keep/keep_priv.h"

int rundir_mkdirs(const char *path, mode_t mode, struct err *e)
{
	char part[4096];

	if (!util_copy(part, sizeof(part), path))
		return err_set(e, ERR_INPUT, "'%s' is too long", path);
	for (char *p = part + 1; *p; p++) {
		if (*p != '/')
			continue;
		*p = '\0';
		if (mkdir(part, mode) < 0 && errno != EEXIST)
			return err_sys(e, "folder '%s'", part);
		*p = '/';
	}
	if (mkdir(part, mode) < 0 && errno != EEXIST)
		return err_sys(e, "folder '%s'", part);
	return 0;
}

static int bind_notify(const struct instance *in, int *ret_fd, struct err *e)
{
	const struct msg_start *s = &in->order.start;
	struct sockaddr_un un = {.sun_family = AF_UNIX};
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	int one = 1, n;
	mode_t mask;

	n = snprintf(un.sun_path, sizeof(un.sun_path), "%s/notify", s->run_dir);
	if (n >= (int)sizeof(un.sun_path))
		return err_set(e, ERR_INPUT,
			       "'%s' is too long for a socket; take a shorter --state", s->run_dir);
	if (fd < 0 || setsockopt(fd, SOL_SOCKET, SO_PASSCRED, &one, sizeof(one)) < 0)
		return err_sys(e, "notify socket");
	mask = umask(0177);
	n = bind(fd, (struct sockaddr *)&un, sizeof(un));
	umask(mask);
	if (n < 0)
		return err_sys(e, "'%s'", un.sun_path);
	if (s->uid != (uint32_t)-1 && lchown(un.sun_path, s->uid, s->gid) < 0)
		return err_sys(e, "'%s'", un.sun_path);
	*ret_fd = TAKE_FD(fd);
	return 0;
}

/* The folder is ours alone while this runs. */
static int fill(struct instance *in, int *ret_notify_fd, struct err *e)
{
	const struct msg_start *s = &in->order.start;
	char tmp[600];

	snprintf(tmp, sizeof(tmp), "%s/tmp", s->run_dir);
	if (mkdir(tmp, 0700) < 0)
		return err_sys(e, "'%s'", tmp);
	if (bind_notify(in, ret_notify_fd, e) < 0)
		return -(int)e->code;
	if (s->uid == (uint32_t)-1)
		return 0;
	if (lchown(tmp, s->uid, s->gid) < 0 || lchown(s->run_dir, s->uid, KEEP_ROUTER_ID) < 0 ||
	    chmod(s->run_dir, 02770) < 0)
		return err_sys(e, "giving '%s' to user %u", s->run_dir, s->uid);
	return 0;
}

int rundir_make(struct instance *in, struct err *e)
{
	const char *dir = in->order.start.run_dir;
	int fd = -1;

	if (mkdir(dir, 0700) < 0)
		return err_sys(e, "folder '%s'", dir);
	if (fill(in, &fd, e) == 0 && notify_open(in, fd, e) == 0)
		return 0;
	if (fd >= 0 && in->notify_io.fd < 0)
		close(fd);
	rundir_remove(in);
	return -(int)e->code;
}

/* In the child, as the keeper's user. Folders above may be passed through, not looked into. */
int rundir_data(const struct instance *in, struct err *e)
{
	const struct msg_start *s = &in->order.start;
	char above[sizeof(s->data_dir)];
	mode_t mask;
	int made;

	if (!s->data_dir[0])
		return 0;
	util_copy(above, sizeof(above), s->data_dir);
	*strrchr(above, '/') = '\0';
	mask = umask(0022);
	made = above[0] ? rundir_mkdirs(above, 0711, e) : 0;
	umask(mask);
	if (made < 0)
		return made;
	if (mkdir(s->data_dir, 0700) < 0)
		return errno == EEXIST ? 0 : err_sys(e, "folder '%s'", s->data_dir);
	if (s->uid != (uint32_t)-1 && lchown(s->data_dir, s->uid, s->gid) < 0)
		return err_sys(e, "giving '%s' to user %u", s->data_dir, s->uid);
	return 0;
}

/* --- removing ------------------------------------------------------------ */

static int remove_one(const char *path, const struct stat *st UNUSED, int type UNUSED, struct FTW *ftw)
{
	if (ftw->level > 0)
		remove(path); /* what cannot be removed is seen when its folder cannot */
	return 0;
}

static void empty(const char *path)
{
	nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS | FTW_MOUNT);
}

/* In a child: as the user of the instance where there is one, since its other instances could play
 * tricks with links; then the folder itself. */
__attribute__((noreturn)) static void remove_as(const struct instance *in, const char *path)
{
	uid_t uid = in->order.start.uid;
	gid_t gid = in->order.start.gid;
	pid_t pid = -1;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (uid != (uid_t)-1) {
		pid = fork();
		if (pid == 0 && (setgroups(0, NULL) < 0 || setresgid(gid, gid, gid) < 0 ||
				 setresuid(uid, uid, uid) < 0))
			_exit(1);
	}
	if (pid <= 0) {
		empty(path);
		if (pid == 0)
			_exit(0);
	} else {
		waitpid(pid, NULL, 0);
	}
	rmdir(path);
	group_remove(in);
	_exit(0);
}

/* The name is free at once; the work is a child's. */
void rundir_remove(struct instance *in)
{
	const struct msg_start *s = &in->order.start;
	struct keeper *k = in->keeper;
	char aside[4200];

	snprintf(aside, sizeof(aside), "%s/run/.removed-%llu", k->state,
		 (unsigned long long)++k->removed);
	if (rename(s->run_dir, aside) < 0) {
		if (errno != ENOENT)
			log_warn("rundir", "dir=%s reason=\"cannot be put aside: %s\"", s->run_dir,
				 strerror(errno));
		return;
	}
	if (fork() == 0) /* reaped with the strangers */
		remove_as(in, aside);
}

/* Before anything runs, so that nobody can interfere. */
void rundir_clear(struct keeper *k)
{
	char run[4200];

	snprintf(run, sizeof(run), "%s/run", k->state);
	empty(run);
}

/* --- the program itself -------------------------------------------------- */

static int copy_all(int from, int to)
{
	ssize_t n;

	do
		n = sendfile(to, from, NULL, 1u << 30);
	while (n > 0 || (n < 0 && errno == EINTR));
	return (int)n;
}

/* Copied, and not linked to: the file that it was started from may be replaced, or lie where an app's user
 * cannot look. That it fails (a full disk) is said, and hurts only who runs it. */
void rundir_program(const struct keeper *k)
{
	char dir[4200], name[4300], tmp[4300], self[64];
	CLEANUP_FD int from = -1, to = -1;

	snprintf(dir, sizeof(dir), "%s/run/bin", k->state);
	snprintf(name, sizeof(name), "%s/upstate", dir);
	snprintf(tmp, sizeof(tmp), "%s/.upstate", dir);
	snprintf(self, sizeof(self), "/proc/self/fd/%d", k->binary_fd);
	from = open(self, O_RDONLY | O_CLOEXEC);
	unlink(tmp);
	if ((mkdir(dir, 0755) < 0 && errno != EEXIST) || from < 0)
		goto failed;
	to = open(tmp, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0755);
	if (to >= 0 && copy_all(from, to) == 0 && rename(tmp, name) == 0)
		return;
failed:
	log_warn("rundir", "file=%s reason=\"%s\" effect=\"instances do not find upstate\"", name,
		 strerror(errno));
}
