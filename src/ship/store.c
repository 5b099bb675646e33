/* SPDX-License-Identifier: Apache-2.0
 *
 * The store's folders: opening them (which ends what a crash left undone), asking what is there,
 * and throwing away. How things come in: store_intake.c, how they become trees: store_stage.c.
 *
 * Every step towards a release is one that can be done again or forgotten:
 *
 *	incoming/N           written, hashed      forgotten by store_open()
 *	objects/ab/cd...     renamed from there   forgotten by store_sweep(), when no tree has it
 *	trees/.ID.PID        links to objects     forgotten by store_open()
 *	trees/ID             renamed from there   the release
 */
#include "ship/store_priv.h"

#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/statvfs.h>

#define KEPT_FREE_MAX (UINT64_C(256) << 20)

int (*store_test_hook)(const char *call);

int store_write(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n = FS(write(fd, p, len));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

bool store_is_hash(const char *s)
{
	return strspn(s, "0123456789abcdef") >= STORE_HASH - 1;
}

bool store_parse_size(char *s, char **ret_end, uint64_t *ret)
{
	if (*s < '0' || *s > '9' || (*s == '0' && s[1] >= '0' && s[1] <= '9'))
		return false;
	errno = 0;
	*ret = strtoull(s, ret_end, 10);
	return !errno && *ret <= STORE_FILE_SIZE_MAX;
}

void store_object_name(const char *hash, bool executable, char ret[STORE_OBJECT])
{
	snprintf(ret, STORE_OBJECT, "%.2s/%s%s", hash, hash + 2, executable ? "x" : "");
}

int store_has_object(struct store *s, const char *hash, bool executable, uint64_t size,
		     struct err *e)
{
	char name[STORE_OBJECT];
	struct stat st;

	store_object_name(hash, executable, name);
	if (FS(fstatat(s->objects, name, &st, AT_SYMLINK_NOFOLLOW)) < 0)
		return errno == ENOENT ? 0 : err_sys(e, "looking for object %s", hash);
	return S_ISREG(st.st_mode) && (uint64_t)st.st_size == size;
}

int store_told(struct store *s, int r, struct err *e)
{
	if (r == -ERR_FULL)
		err_wrap(e, "the disk of '%.300s' is full; free some of it and deploy again",
			 s->dir);
	return r;
}

/* --- folders --- */

static int remove_all(int dir, struct err *e)
{
	struct walk w = {0};
	int r = walk_tree(&w, dir, e);

	for (size_t i = w.len; r == 0 && i-- > 0;) { /* what is in a directory stands behind it */
		bool is_dir = S_ISDIR(w.entries[i].st.st_mode);

		if (FS(unlinkat(dir, w.entries[i].path, is_dir ? AT_REMOVEDIR : 0)) < 0)
			r = err_sys(e, "removing '%s'", w.entries[i].path);
	}
	walk_free(&w);
	return r;
}

int store_remove_tree(int parent, const char *name, struct err *e)
{
	CLEANUP_FD int dir = -1;
	int r;

	if (FS(unlinkat(parent, name, 0)) == 0 || errno == ENOENT)
		return 0;
	dir = FS(openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
	if (dir < 0)
		return err_sys(e, "opening '%s'", name);
	r = remove_all(dir, e);
	if (r == 0 && FS(unlinkat(parent, name, AT_REMOVEDIR)) < 0)
		return err_sys(e, "removing '%s'", name);
	return r;
}

static int clean_incoming(void *arg UNUSED, int dir, const char *name, struct err *e)
{
	return store_remove_tree(dir, name, e);
}

/* While running, only of processes that were killed: others may be at work on theirs. */
static int clean_trees(void *only_dead, int dir, const char *name, struct err *e)
{
	const char *pid = strrchr(name, '.'); /* .ID.PID */

	if (*name != '.')
		return 0;
	if (only_dead && (kill((pid_t)strtol(pid + 1, NULL, 10), 0) == 0 || errno != ESRCH))
		return 0;
	return store_remove_tree(dir, name, e);
}

static int each_name(int parent, const char *name,
		     int (*fn)(void *arg, int dir, const char *name, struct err *e), void *arg,
		     struct err *e)
{
	int fd = FS(openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));

	return fd < 0 ? err_sys(e, "opening '%s'", name) : walk_names(fd, fn, arg, e);
}

static int open_folder(int parent, const char *path, mode_t mode, int *ret, struct err *e)
{
	if (FS(mkdirat(parent, path, mode)) < 0 && errno != EEXIST)
		return err_sys(e, "making '%s'", path);
	*ret = FS(openat(parent, path, O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	if (*ret < 0 || FS(fchmod(*ret, mode)) < 0) /* whatever the umask is */
		return err_sys(e, "opening '%s'", path);
	return 0;
}

/* Others may pass through to a release whose name they know (instances run as users of their own),
 * and not see what else is there. */
static int open_folders(struct store *s, struct err *e)
{
	int r = open_folder(AT_FDCWD, s->dir, 0711, &s->root, e);

	if (r == 0)
		r = open_folder(s->root, "objects", 0700, &s->objects, e);
	if (r == 0)
		r = open_folder(s->root, "trees", 0711, &s->trees, e);
	if (r == 0)
		r = open_folder(s->root, "incoming", 0700, &s->incoming, e);
	if (r == 0)
		r = each_name(s->root, "incoming", clean_incoming, NULL, e);
	if (r == 0)
		r = each_name(s->root, "trees", clean_trees, NULL, e);
	return r;
}

int store_open(const char *dir, struct store **ret, struct err *e)
{
	struct store *s = util_alloc(sizeof(*s));

	*s = (struct store){.root = -1, .objects = -1, .trees = -1, .incoming = -1};
	s->dir = util_strdup(dir);
	if (open_folders(s, e) < 0) {
		store_close(s);
		return err_wrap(e, "opening the store '%.300s'", dir);
	}
	*ret = s;
	return 0;
}

void store_close(struct store *s)
{
	if (!s)
		return;
	util_closep(&s->root);
	util_closep(&s->objects);
	util_closep(&s->trees);
	util_closep(&s->incoming);
	free(s->dir);
	free(s);
}

/* --- what is there --- */

static int by_object(const void *a, const void *b)
{
	const struct store_file *x = *(struct store_file *const *)a;
	const struct store_file *y = *(struct store_file *const *)b;
	int r = strcmp(x->hash, y->hash);

	if (!r)
		r = x->executable - y->executable;
	return r ? r : x < y ? -1 : x > y;
}

static int find_missing(struct store *s, const struct store_manifest *m,
			const struct store_file **missing, size_t *ret_len, struct err *e)
{
	for (size_t i = 0; i < m->len; i++) {
		const struct store_file *f = &m->files[i];
		int r = f->type != 'f' || store_has_object(s, f->hash, f->executable, f->size, e);

		if (r < 0)
			return r;
		if (!r)
			missing[(*ret_len)++] = f;
	}
	return 0;
}

int store_missing(struct store *s, const struct store_manifest *m, bool *want, uint64_t *ret_bytes,
		  struct err *e)
{
	CLEANUP_FREE const struct store_file **missing = calloc(m->len + 1, sizeof(*missing));
	const struct store_file *last = NULL;
	uint64_t bytes = 0;
	size_t len = 0;
	int r;

	if (!missing)
		return err_set(e, ERR_SYS, "out of memory");
	r = find_missing(s, m, missing, &len, e);
	if (r < 0)
		return r;
	memset(want, 0, m->len * sizeof(*want));
	qsort(missing, len, sizeof(*missing), by_object);
	for (size_t i = 0; i < len; i++) {
		const struct store_file *f = missing[i];

		if (last && strcmp(last->hash, f->hash) == 0 && last->executable == f->executable)
			continue;
		last = f;
		want[f - m->files] = true;
		bytes += f->size;
	}
	*ret_bytes = bytes;
	return 0;
}

int store_check_room(struct store *s, uint64_t bytes, struct err *e)
{
	struct statvfs fs;
	uint64_t available, kept;

	if (FS(fstatvfs(s->incoming, &fs)) < 0)
		return err_sys(e, "asking for the room in '%s'", s->dir);
	available = fs.f_bavail * fs.f_frsize;
	kept = MIN(fs.f_blocks * fs.f_frsize / 20, KEPT_FREE_MAX);
	if (bytes <= available && available - bytes >= kept)
		return 0;
	return err_set(e, ERR_FULL,
		       "%llu kB are to come, %llu kB are free and %llu kB must stay free",
		       (unsigned long long)bytes >> 10, (unsigned long long)available >> 10,
		       (unsigned long long)kept >> 10);
}

int store_room(struct store *s, uint64_t bytes, struct err *e)
{
	return store_told(s, store_check_room(s, bytes, e), e);
}

static bool is_id(const char *id)
{
	return strlen(id) == STORE_HASH - 1 && store_is_hash(id);
}

bool store_has_tree(struct store *s, const char *id)
{
	struct stat st;

	return is_id(id) && FS(fstatat(s->trees, id, &st, AT_SYMLINK_NOFOLLOW)) == 0;
}

void store_tree_path(struct store *s, const char *id, char *ret, size_t size)
{
	snprintf(ret, size, "%s/trees/%s", s->dir, id);
}

/* --- throwing away --- */

int store_drop_tree(struct store *s, const char *id, struct err *e)
{
	char tmp[STORE_TMP];

	if (!is_id(id))
		return err_set(e, ERR_INPUT, "'%.100s' is no id of a release", id);
	store_tmp_name(id, tmp);
	/* From one moment to the next it is no release any more, rather than half a one. */
	if (FS(renameat(s->trees, id, s->trees, tmp)) < 0 && errno != ENOENT)
		return err_sys(e, "dropping release %s", id);
	return store_remove_tree(s->trees, tmp, e);
}

static int sweep_object(void *freed, int dir, const char *name, struct err *e)
{
	struct stat st;

	if (FS(fstatat(dir, name, &st, AT_SYMLINK_NOFOLLOW)) < 0)
		return err_sys(e, "looking at object %s", name);
	if (st.st_nlink > 1)
		return 0;
	if (FS(unlinkat(dir, name, 0)) < 0)
		return err_sys(e, "removing object %s", name);
	*(uint64_t *)freed += (uint64_t)st.st_size;
	return 0;
}

static int sweep_folder(void *freed, int dir, const char *name, struct err *e)
{
	return each_name(dir, name, sweep_object, freed, e);
}

int store_sweep(struct store *s, uint64_t *ret_freed, struct err *e)
{
	int r = each_name(s->root, "trees", clean_trees, s, e);

	*ret_freed = 0;
	return r < 0 ? r : each_name(s->root, "objects", sweep_folder, ret_freed, e);
}
