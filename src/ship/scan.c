/* SPDX-License-Identifier: Apache-2.0
 *
 * Reads a directory tree of someone who deploys into a manifest. The tree is not ours and may
 * change under our eyes: what is described is exactly what was there during the whole reading, or
 * it is refused, by name. First the tree is listed, then the files are hashed on two threads, then
 * each is looked at again.
 */
#include "ship/store_priv.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <string.h>

struct scan {
	struct walk walk;
	int root;
	void (*progress)(void *arg, size_t files, uint64_t bytes);
	void *arg;
	_Atomic size_t files;
	_Atomic uint64_t bytes;
};

static int changed(const char *path, struct err *e)
{
	return err_set(e, ERR_INPUT,
		       "'%.500s' changed while it was read; deploy again when it is at rest", path);
}

/* A name that would not fit on one line of a manifest, nor of a message. */
static int check_name(const char *path, struct err *e)
{
	char shown[512];

	if (!strpbrk(path, "\n\t"))
		return 0;
	util_copy(shown, sizeof(shown), path);
	for (char *p = shown; (p = strpbrk(p, "\n\t"));)
		*p = '?';
	return err_set(e, ERR_INPUT, "'%s' (? is a newline or tab): such a name cannot be shipped",
		       shown);
}

static int check_entry(const struct walk_entry *entry, struct err *e)
{
	mode_t mode = entry->st.st_mode;

	if (check_name(entry->path, e) < 0)
		return -ERR_INPUT;
	if (entry->target && (!*entry->target || strpbrk(entry->target, "\n\t")))
		return err_set(e, ERR_INPUT, "link '%.500s' has a target that cannot be shipped",
			       entry->path);
	if (S_ISREG(mode) || S_ISDIR(mode) || S_ISLNK(mode))
		return 0;
	return err_set(e, ERR_INPUT,
		       "'%.500s' is a %s: it cannot be shipped; move it out of the tree",
		       entry->path,
		       S_ISSOCK(mode)	? "socket"
		       : S_ISFIFO(mode) ? "FIFO"
					: "device");
}

/* One look after reading is enough: it is the same file, size and time as when it was listed. */
static int hash_one(void *arg, size_t i, struct hasher *h, struct err *e)
{
	struct scan *s = arg;
	struct walk_entry *entry = &s->walk.entries[i];
	CLEANUP_FD int fd = -1;
	struct stat st;

	if (!S_ISREG(entry->st.st_mode))
		return 0;
	fd = FS(openat(s->root, entry->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
	if (fd < 0 && errno == EACCES)
		return err_set(e, ERR_INPUT, "'%.500s' may not be read by you: Permission denied",
			       entry->path);
	if (fd < 0 && (errno == ENOENT || errno == ELOOP || errno == ENXIO || errno == ENOTDIR))
		return changed(entry->path, e);
	if (fd < 0)
		return err_sys(e, "opening '%.500s'", entry->path);
	if (!hasher_file(h, fd, (uint64_t)entry->st.st_size, -1, entry->hash))
		return errno ? err_sys(e, "reading '%.500s'", entry->path)
			     : changed(entry->path, e);
	if (FS(fstat(fd, &st)) < 0)
		return err_sys(e, "looking at '%.500s'", entry->path);
	if (!walk_same(&st, &entry->st))
		return changed(entry->path, e);
	atomic_fetch_add(&s->files, 1);
	atomic_fetch_add(&s->bytes, (uint64_t)st.st_size);
	return 0;
}

static void tick(void *arg)
{
	struct scan *s = arg;

	if (s->progress)
		s->progress(s->arg, atomic_load(&s->files), atomic_load(&s->bytes));
}

/* Did a name come or go? A directory's time says so. */
static int check_directories(struct scan *s, struct err *e)
{
	struct stat st;

	if (FS(fstat(s->root, &st)) < 0 || !walk_same(&st, &s->walk.top))
		return changed(".", e);
	for (size_t i = 0; i < s->walk.len; i++) {
		struct walk_entry *entry = &s->walk.entries[i];

		if (S_ISDIR(entry->st.st_mode) &&
		    (FS(fstatat(s->root, entry->path, &st, AT_SYMLINK_NOFOLLOW)) < 0 ||
		     !walk_same(&st, &entry->st)))
			return changed(entry->path, e);
	}
	return 0;
}

static void write_entry(struct buf *b, const struct walk_entry *entry)
{
	if (S_ISDIR(entry->st.st_mode))
		buf_addf(b, "d 0755 %s\n", entry->path);
	else if (entry->target)
		buf_addf(b, "l %s\t%s\n", entry->target, entry->path);
	else
		buf_addf(b, "f %s %llu %s %s\n", entry->st.st_mode & S_IXUSR ? "0755" : "0644",
			 (unsigned long long)entry->st.st_size, entry->hash, entry->path);
}

static int scan(struct scan *s, struct store_manifest *ret, struct err *e)
{
	CLEANUP_BUF struct buf text = {.max = STORE_MANIFEST_MAX};
	size_t line;
	int r = walk_tree(&s->walk, s->root, e);

	if (r < 0)
		return r;
	if (!s->walk.len)
		return err_set(e, ERR_INPUT, "it is empty");
	for (size_t i = 0; i < s->walk.len; i++)
		if (check_entry(&s->walk.entries[i], e) < 0)
			return -ERR_INPUT;
	r = hasher_each(s->walk.len, hash_one, tick, s, e);
	if (r == 0)
		r = check_directories(s, e);
	if (r < 0)
		return r;
	buf_adds(&text, "upstate-manifest 1\n");
	for (size_t i = 0; i < s->walk.len; i++)
		write_entry(&text, &s->walk.entries[i]);
	if (text.failed)
		return err_set(e, ERR_LIMIT, "its list of files is larger than %u MiB",
			       STORE_MANIFEST_MAX >> 20);
	tick(s);
	return manifest_read(text.data, text.len, ret, &line, e);
}

int store_scan(const char *dir, struct store_manifest *ret,
	       void (*progress)(void *arg, size_t files, uint64_t bytes), void *arg, struct err *e)
{
	CLEANUP_FD int root = FS(open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	struct scan s = {
	    .walk = {.max = STORE_FILES_MAX, .skip = ".git"},
	    .root = root,
	    .progress = progress,
	    .arg = arg,
	};
	int r;

	if (root < 0)
		return err_set(e, ERR_INPUT, "'%.500s' cannot be shipped: %s", dir,
			       strerror(errno));
	r = scan(&s, ret, e);
	walk_free(&s.walk);
	return r < 0 ? err_wrap(e, "reading '%.300s'", dir) : 0;
}
