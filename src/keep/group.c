/* SPDX-License-Identifier: Apache-2.0
 *
 * All processes of an instance. With control groups (v2) and the right to make
 * one, they are in a group that none of them can leave, and one write kills them
 * all; without, the process group and session of the main process have to do, which a process
 * can leave on purpose.
 */
#include <errno.h>
#include <fcntl.h>
#include <dirent.h>
#include <linux/magic.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/vfs.h>

#include "base/log.h"
#include "keep/keep_priv.h"

/* Our own group, from the line "0::/path". */
static bool own_group(char *ret, size_t size)
{
	static const char *const roots[] = {"/sys/fs/cgroup", "/sys/fs/cgroup/unified"};
	CLEANUP_FILE FILE *f = fopen("/proc/self/cgroup", "re");
	char line[512] = "";
	struct statfs fs;
	bool found = false;

	while (f && !found && fgets(line, sizeof(line), f))
		found = !strncmp(line, "0::/", 4);
	line[strcspn(line, "\n")] = '\0';
	for (size_t i = 0; found && i < ARRAY_LEN(roots); i++)
		if (statfs(roots[i], &fs) == 0 && fs.f_type == CGROUP2_SUPER_MAGIC)
			return snprintf(ret, size, "%s%s", roots[i], line + 3) < (int)size;
	return false;
}

static void write_at(int dir, const char *file, const char *text)
{
	CLEANUP_FD int fd = openat(dir, file, O_WRONLY | O_CLOEXEC);

	if (fd >= 0 && write(fd, text, strlen(text)) < 0)
		return; /* whoever asks looks at the processes, not at this */
}

/* Groups that a keeper of the same state left when it was killed: we hold its lock, so it is dead.
 */
static void clear_left(struct keeper *k)
{
	char prefix[40];
	struct dirent *entry;
	DIR *dir = opendir(k->cgroup);

	snprintf(prefix, sizeof(prefix), "upstate-%016llx-", (unsigned long long)k->cgroup_tag);
	while (dir && (entry = readdir(dir))) {
		CLEANUP_FD int fd = -1;

		if (strncmp(entry->d_name, prefix, strlen(prefix)) != 0)
			continue;
		fd = openat(dirfd(dir), entry->d_name, O_PATH | O_DIRECTORY | O_CLOEXEC);
		write_at(fd, "cgroup.kill", "1");
		unlinkat(dirfd(dir), entry->d_name, AT_REMOVEDIR);
	}
	if (dir)
		closedir(dir);
}

void group_probe(struct keeper *k)
{
	char path[600];

	k->cgroup_tag = map_hash(k->state, strlen(k->state));
	if (!own_group(k->cgroup, sizeof(k->cgroup)))
		k->cgroup[0] = '\0';
	if (k->cgroup[0])
		clear_left(k);
	/* The root group has no cgroup.kill itself; its children have. */
	snprintf(path, sizeof(path), "%s/upstate-%016llx-probe", k->cgroup,
		 (unsigned long long)k->cgroup_tag);
	if (k->cgroup[0] && mkdir(path, 0755) < 0)
		k->cgroup[0] = '\0';
	if (k->cgroup[0]) {
		strncat(path, "/cgroup.kill", sizeof(path) - strlen(path) - 1);
		if (access(path, W_OK) < 0)
			k->cgroup[0] = '\0';
		*strrchr(path, '/') = '\0';
		rmdir(path);
	}
	log_info("sandbox", "landlock=%d namespaces=%d cgroups=%d", k->landlock, k->namespaces,
		 k->cgroup[0] != '\0');
}

void group_make(struct instance *in)
{
	struct keeper *k = in->keeper;
	char path[600];

	if (!k->cgroup[0])
		return;
	snprintf(in->group, sizeof(in->group), "upstate-%016llx-%016llx",
		 (unsigned long long)k->cgroup_tag, (unsigned long long)in->id);
	snprintf(path, sizeof(path), "%s/%s", k->cgroup, in->group);
	if (mkdir(path, 0755) < 0 && errno != EEXIST)
		return;
	in->group_dir = open(path, O_PATH | O_DIRECTORY | O_CLOEXEC);
}

void group_join(const struct instance *in)
{
	if (in->group_dir >= 0)
		write_at(in->group_dir, "cgroup.procs", "0");
}

void group_kill(struct instance *in)
{
	if (in->group_pid)
		kill(-in->group_pid, SIGKILL);
	/* Between fork and setsid the child is in no group of its own yet. */
	if (in->child.pid)
		kill(in->child.pid, SIGKILL);
	if (in->group_dir >= 0)
		write_at(in->group_dir, "cgroup.kill", "1");
}

bool group_empty(const struct instance *in)
{
	CLEANUP_FD int fd = -1;
	char text[16];

	if (in->group_pid && kill(-in->group_pid, 0) == 0)
		return false;
	if (in->group_dir < 0)
		return true;
	fd = openat(in->group_dir, "cgroup.procs", O_RDONLY | O_CLOEXEC);
	return fd < 0 || read(fd, text, sizeof(text)) <= 0;
}

/* In a helper process: the last of its processes may need a moment yet. */
void group_remove(const struct instance *in)
{
	char path[600];

	if (in->group_dir < 0)
		return;
	snprintf(path, sizeof(path), "%s/%s", in->keeper->cgroup, in->group);
	for (int i = 0; i < 100 && rmdir(path) < 0 && errno == EBUSY; i++)
		usleep(10000);
}
