/* SPDX-License-Identifier: Apache-2.0
 *
 * The walk over a directory tree. It keeps no stack of open directories: each is opened by its path
 * from the top, and must then be the very one that its parent listed. So a directory that someone
 * exchanges for a link meanwhile is noticed, and the depth needs no bound but the length of a path.
 */
#include "ship/store_priv.h"

#include <dirent.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>

bool walk_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_mode == b->st_mode &&
	       a->st_size == b->st_size && a->st_mtim.tv_sec == b->st_mtim.tv_sec &&
	       a->st_mtim.tv_nsec == b->st_mtim.tv_nsec;
}

static int no_memory(struct err *e)
{
	return err_set(e, ERR_SYS, "out of memory");
}

static int unreadable(const char *path, struct err *e)
{
	if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == EIO)
		return err_sys(e, "reading '%.500s'", path);
	return err_set(e, ERR_INPUT, "'%.500s' cannot be read: %s", path, strerror(errno));
}

static int read_target(int dir, const char *name, struct walk_entry *entry, struct err *e)
{
	char target[PATH_MAX];
	ssize_t n = FS(readlinkat(dir, name, target, sizeof(target)));

	if (n < 0)
		return unreadable(entry->path, e);
	entry->target = strndup(target, (size_t)n);
	return entry->target ? 0 : no_memory(e);
}

static int add(struct walk *w, int dir, const char *parent, const char *name, struct err *e)
{
	struct walk_entry *entry;

	if (w->max && w->len == w->max)
		return err_set(e, ERR_LIMIT, "more than %zu files and directories", w->max);
	if (w->len == w->cap) {
		size_t cap = w->cap ? w->cap * 2 : 256;
		void *grown = reallocarray(w->entries, cap, sizeof(*w->entries));

		if (!grown)
			return no_memory(e);
		w->entries = grown;
		w->cap = cap;
	}
	entry = &w->entries[w->len];
	*entry = (struct walk_entry){0};
	if (asprintf(&entry->path, "%s%s%s", parent, *parent ? "/" : "", name) < 0)
		return no_memory(e);
	w->len++;
	if (strlen(entry->path) >= PATH_MAX)
		return err_set(e, ERR_INPUT, "a path is longer than %d bytes: '%.200s...'",
			       PATH_MAX - 1, entry->path);
	if (FS(fstatat(dir, name, &entry->st, AT_SYMLINK_NOFOLLOW)) < 0)
		return unreadable(entry->path, e);
	return S_ISLNK(entry->st.st_mode) ? read_target(dir, name, entry, e) : 0;
}

int walk_names(int fd, int (*fn)(void *arg, int dir, const char *name, struct err *e), void *arg,
	       struct err *e)
{
	DIR *dir = fdopendir(fd);
	struct dirent *d;
	int r = 0;

	if (!dir) {
		close(fd);
		return no_memory(e);
	}
	while (r == 0) {
		errno = store_test_fails("readdir") ? errno : 0;
		d = errno ? NULL : readdir(dir);
		if (!d) {
			r = errno ? err_sys(e, "reading a directory") : 0;
			break;
		}
		if (strcmp(d->d_name, ".") != 0 && strcmp(d->d_name, "..") != 0)
			r = fn(arg, fd, d->d_name, e);
	}
	closedir(dir);
	return r;
}

struct place {
	struct walk *walk;
	const char *path; /* "" for the top */
};

static int add_name(void *arg, int dir, const char *name, struct err *e)
{
	struct place *p = arg;

	if (p->walk->skip && !*p->path && strcmp(name, p->walk->skip) == 0)
		return 0;
	return add(p->walk, dir, p->path, name, e);
}

/* seen: what the parent's listing said of it; gets what is there now, before its names are read, so
 * that a later look shows whether any came or went. */
static int walk_dir(struct walk *w, int root, const char *path, struct stat *seen, struct err *e)
{
	CLEANUP_FD int fd =
	    FS(openat(root, *path ? path : ".", O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
	struct stat now;

	if (fd < 0 || FS(fstat(fd, &now)) < 0)
		return unreadable(*path ? path : ".", e);
	if (*path && (now.st_dev != seen->st_dev || now.st_ino != seen->st_ino))
		return err_set(e, ERR_INPUT, "'%.500s' changed while it was read", path);
	*seen = now;
	return walk_names(TAKE_FD(fd), add_name, &(struct place){w, path}, e);
}

static int by_path(const void *a, const void *b)
{
	return strcmp(((const struct walk_entry *)a)->path, ((const struct walk_entry *)b)->path);
}

int walk_tree(struct walk *w, int root, struct err *e)
{
	int r = walk_dir(w, root, "", &w->top, e);

	for (size_t i = 0; r == 0 && i < w->len; i++) {
		struct stat st = w->entries[i].st;

		if (!S_ISDIR(st.st_mode))
			continue;
		r = walk_dir(w, root, w->entries[i].path, &st, e);
		w->entries[i].st = st; /* the entries may have moved */
	}
	if (w->len)
		qsort(w->entries, w->len, sizeof(*w->entries), by_path);
	return r;
}

void walk_free(struct walk *w)
{
	for (size_t i = 0; i < w->len; i++) {
		free(w->entries[i].path);
		free(w->entries[i].target);
	}
	free(w->entries);
	w->entries = NULL;
	w->len = w->cap = 0;
}
