/* SPDX-License-Identifier: Apache-2.0
 *
 * From objects to a tree. It is built under a name of this process, every file is read once
 * more, all goes to the disk with one syncfs(), and one rename makes it the release. Two
 * processes that stage the same release at once don't meet before that rename; the second finds it
 * done.
 *
 * A file whose content turns out to be damaged loses its object, so that it is asked for anew
 * at the next try: with hard links there is no second copy to repair it from.
 */
#include "ship/store_priv.h"

#include <fcntl.h>
#include <string.h>

void store_tmp_name(const char *id, char ret[STORE_TMP])
{
	snprintf(ret, STORE_TMP, ".%.64s.%d", id, (int)getpid());
}

struct build {
	struct store *store;
	int tree;
	struct hasher hasher;
};

/* One of another size counts as missing already, and is replaced when the content comes. */
static int damaged(struct store *s, const struct store_file *f, struct err *e)
{
	char name[STORE_OBJECT];

	store_object_name(f->hash, f->executable, name);
	if (store_has_object(s, f->hash, f->executable, f->size, NULL) == 1)
		FS(unlinkat(s->objects, name, 0));
	return err_set(e, ERR_CORRUPT,
		       "the stored content of '%.300s' is damaged; deploy again to send it anew",
		       f->path);
}

static int copy_file(struct build *b, const struct store_file *f, const char *object, struct err *e)
{
	CLEANUP_FD int from =
	    FS(openat(b->store->objects, object, O_RDONLY | O_NOFOLLOW | O_CLOEXEC));
	CLEANUP_FD int to = -1;
	mode_t mode = f->executable ? 0555 : 0444;
	char hash[STORE_HASH];
	bool whole;

	if (from < 0)
		return err_sys(e, "opening the stored content of '%.300s'", f->path);
	to = FS(openat(b->tree, f->path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600));
	if (to < 0)
		return err_sys(e, "making '%.300s'", f->path);
	whole = hasher_file(&b->hasher, from, f->size, to, hash);
	if (!whole && errno)
		return err_sys(e, "copying '%.300s'", f->path);
	if (!whole || strcmp(hash, f->hash) != 0)
		return damaged(b->store, f, e);
	return FS(fchmod(to, mode)) < 0 ? err_sys(e, "making '%.300s'", f->path) : 0;
}

static int make_file(struct build *b, const struct store_file *f, struct err *e)
{
	char object[STORE_OBJECT];

	store_object_name(f->hash, f->executable, object);
	if (FS(linkat(b->store->objects, object, b->tree, f->path, 0)) == 0)
		return 0;
	/* EMLINK: as many links as the file system can. EPERM: it can none. */
	if (errno != EMLINK && errno != EPERM && errno != ENOENT)
		return err_sys(e, "linking '%.300s'", f->path);
	if (FS(faccessat(b->store->objects, object, F_OK, 0)) < 0 && errno == ENOENT)
		return err_set(
		    e, ERR_NOT_FOUND,
		    "the content of '%.300s' is not in the store; deploy again to send it",
		    f->path);
	return copy_file(b, f, object, e);
}

static int make_entry(struct build *b, const struct store_file *f, struct err *e)
{
	if (f->type == 'f')
		return make_file(b, f, e);
	if (f->type == 'l')
		return FS(symlinkat(f->target, b->tree, f->path)) < 0
			   ? err_sys(e, "making link '%.300s'", f->path)
			   : 0;
	if (FS(mkdirat(b->tree, f->path, 0700)) < 0 || FS(fchmodat(b->tree, f->path, 0755, 0)) < 0)
		return err_sys(e, "making directory '%.300s'", f->path);
	return 0;
}

/* Fills the new, empty directory parent/name. */
static int build(struct build *b, const struct store_manifest *m, int parent, const char *name,
		 struct err *e)
{
	int r;

	b->tree = FS(openat(parent, name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));
	if (b->tree < 0 || FS(fchmod(b->tree, 0755)) < 0)
		return err_sys(e, "opening '%.300s'", name);
	r = hasher_init(&b->hasher, e);
	for (size_t i = 0; r == 0 && i < m->len; i++)
		r = make_entry(b, &m->files[i], e);
	hasher_fini(&b->hasher);
	return r;
}

/* Is it what it should be? When a content is not, its object goes. */
static int check(struct store *s, const struct store_manifest *m, int tree, struct err *e)
{
	CLEANUP_FREE bool *bad = calloc(m->len + 1, sizeof(*bad));
	int r;

	if (!bad)
		return err_set(e, ERR_SYS, "out of memory");
	r = store_compare(tree, m, bad, e);
	for (size_t i = m->len; i-- > 0;)
		if (bad[i])
			r = damaged(s, &m->files[i], e);
	return r;
}

static int stage(struct build *b, const struct store_manifest *m, const char *tmp, struct err *e)
{
	struct store *s = b->store;
	int r;

	if (FS(mkdirat(s->trees, tmp, 0700)) < 0)
		return err_sys(e, "making '%s'", tmp);
	r = build(b, m, s->trees, tmp, e);
	if (r == 0)
		r = check(s, m, b->tree, e);
	if (r < 0)
		return r;
	if (FS(syncfs(b->tree)) < 0)
		return err_sys(e, "writing the release to disk");
	if (FS(renameat(s->trees, tmp, s->trees, m->id)) < 0) {
		if (errno == EEXIST || errno == ENOTEMPTY) { /* another process was first */
			store_remove_tree(s->trees, tmp, NULL);
			return store_verify(s, m, e);
		}
		return err_sys(e, "naming the release");
	}
	return FS(fsync(s->trees)) < 0 ? err_sys(e, "writing the release to disk") : 0;
}

int store_stage(struct store *s, const struct store_manifest *m, struct err *e)
{
	struct build b = {.store = s, .tree = -1};
	char tmp[STORE_TMP];
	int r;

	if (store_has_tree(s, m->id))
		return store_verify(s, m, e);
	store_tmp_name(m->id, tmp);
	r = store_remove_tree(s->trees, tmp, e); /* of an earlier process with this number */
	if (r == 0)
		r = stage(&b, m, tmp, e);
	util_closep(&b.tree);
	if (r < 0) {
		store_remove_tree(s->trees, tmp, NULL);
		store_told(s, r, e);
		return err_wrap(e, "staging release %.12s", m->id);
	}
	return 0;
}
