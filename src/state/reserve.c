/* SPDX-License-Identifier: Apache-2.0
 *
 * Disk space kept back for the day when there is none: a file of that size, whose
 * blocks are handed to the database's log when a commit found the disk full. So the way
 * back (rollback, abort, hold) can be recorded when everything else is refused.
 *
 * Whatever filled the disk would also take the blocks that removing the file sets free. So they
 * are asked for in the next call, behind the end of the log (KEEP_SIZE: nobody sees a longer file),
 * where commits are appended. The log may be opened here at any time: SQLite locks only state.db.
 */
#include "state/state_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>

/* The reserve is not made where it would be the last that fits. */
#define LEAVE_BYTES (4u << 20)

static void path_in(const char *dir, const char *name, char ret[4096])
{
	snprintf(ret, 4096, "%s/%s", dir, name);
}

static bool write_zeroes(int fd, off_t from, off_t to)
{
	static const char zeroes[65536];

	while (from < to) {
		ssize_t n = pwrite(fd, zeroes, (size_t)MIN((off_t)sizeof(zeroes), to - from), from);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return false;
		from += n;
	}
	return true;
}

/* Are its blocks there? A kill can leave a file that is shorter, or has holes. */
static bool is_whole(int fd)
{
	struct stat st;

	return fstat(fd, &st) == 0 && st.st_size == STATE_RESERVE_BYTES &&
	       st.st_blocks * 512 >= (off_t)STATE_RESERVE_BYTES;
}

static bool has_room(int fd)
{
	struct statvfs fs;

	return fstatvfs(fd, &fs) == 0 &&
	       (uint64_t)fs.f_bavail * fs.f_frsize >= (uint64_t)STATE_RESERVE_BYTES + LEAVE_BYTES;
}

static bool fill(int fd)
{
	if (!has_room(fd) || ftruncate(fd, 0) < 0)
		return false;
	if (fallocate(fd, 0, 0, STATE_RESERVE_BYTES) < 0 &&
	    ((errno != EOPNOTSUPP && errno != ENOSYS) || !write_zeroes(fd, 0, STATE_RESERVE_BYTES)))
		return false;
	return fsync(fd) == 0;
}

bool reserve_make(const char *dir)
{
	CLEANUP_FD int fd = -1;
	char path[4096];

	path_in(dir, "reserve", path);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return false;
	if (is_whole(fd) || fill(fd))
		return true;
	unlink(path);
	return false;
}

bool reserve_use(const char *dir)
{
	CLEANUP_FD int log = -1;
	char path[4096];
	struct stat st;

	path_in(dir, "state.db-wal", path);
	log = open(path, O_RDWR | O_CLOEXEC | O_NOFOLLOW);
	path_in(dir, "reserve", path);
	if (unlink(path) < 0)
		return false;
	/* What cannot be claimed is free for everyone, which is better than nothing. */
	if (log >= 0 && fstat(log, &st) == 0)
		for (off_t bytes = STATE_RESERVE_BYTES; bytes >= 65536; bytes /= 2)
			if (fallocate(log, FALLOC_FL_KEEP_SIZE, st.st_size, bytes) == 0)
				break;
	return true;
}
