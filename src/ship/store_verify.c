/* SPDX-License-Identifier: Apache-2.0
 *
 * Is a tree what its manifest says? Both lists are sorted alike, so one pass pairs them; then
 * every content is hashed. All differences are counted and the first few are named, because
 * one changed file and a thousand of them have different causes.
 */
#include "ship/store_priv.h"

#include <fcntl.h>
#include <string.h>

#define NAMED 5

struct pair {
	const struct walk_entry *entry; /* of a file that is to be hashed */
	const char *differs;		/* NULL: it does not */
};

struct comparison {
	int tree;
	const struct store_manifest *m;
	struct pair *pairs; /* one for each entry of the manifest */
	struct buf said;
	size_t differences;
};

static void note(struct comparison *c, const char *path, const char *differs)
{
	if (c->differences++ < NAMED)
		buf_addf(&c->said, "%s'%.120s' %s", c->said.len ? ", " : "", path, differs);
}

static void pair_up(struct pair *p, const struct store_file *f, const struct walk_entry *entry)
{
	mode_t mode = entry->st.st_mode;

	if ((f->type == 'd') != S_ISDIR(mode) || (f->type == 'f') != S_ISREG(mode) ||
	    (f->type == 'l') != S_ISLNK(mode)) {
		p->differs = "is of another kind";
	} else if (f->type == 'l') {
		if (strcmp(f->target, entry->target) != 0)
			p->differs = "points elsewhere";
	} else if (f->type == 'f' && (uint64_t)entry->st.st_size != f->size) {
		p->differs = STORE_OTHER_CONTENT;
	} else {
		mode_t expected = f->type == 'd' ? 0755 : f->executable ? 0555 : 0444;

		if ((mode & 07777) != expected)
			p->differs = "has another mode";
		if (f->type == 'f')
			p->entry = entry;
	}
}

static void pair_all(struct comparison *c, const struct walk *w)
{
	const struct store_manifest *m = c->m;
	size_t i = 0, j = 0;

	while (i < m->len || j < w->len) {
		int order = i == m->len	  ? 1
			    : j == w->len ? -1
					  : strcmp(m->files[i].path, w->entries[j].path);

		if (order < 0)
			c->pairs[i++].differs = "is missing";
		else if (order > 0)
			note(c, w->entries[j++].path, "was added");
		else {
			pair_up(&c->pairs[i], &m->files[i], &w->entries[j++]);
			i++;
		}
	}
}

static int hash_one(void *arg, size_t i, struct hasher *h, struct err *e)
{
	struct comparison *c = arg;
	struct pair *p = &c->pairs[i];
	const struct store_file *f = &c->m->files[i];
	CLEANUP_FD int fd = -1;
	char hash[STORE_HASH];

	if (!p->entry)
		return 0;
	fd = FS(openat(c->tree, f->path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC));
	if (fd < 0 && p->differs) /* its mode is why */
		return 0;
	if (fd < 0)
		return err_sys(e, "opening '%.300s'", f->path);
	if (!hasher_file(h, fd, f->size, -1, hash)) {
		if (errno)
			return err_sys(e, "reading '%.300s'", f->path);
		p->differs = STORE_OTHER_CONTENT;
	} else if (strcmp(hash, f->hash) != 0) {
		p->differs = STORE_OTHER_CONTENT;
	}
	return 0;
}

static int compare(struct comparison *c, struct walk *w, bool *ret_damaged, struct err *e)
{
	struct err why;
	int r = walk_tree(w, c->tree, &why);

	if (r < 0)
		return r == -ERR_INPUT ? err_set(e, ERR_CORRUPT, "%s", why.msg)
				       : err_set(e, (enum err_code) - r, "%s", why.msg);
	if ((w->top.st_mode & 07777) != 0755)
		note(c, ".", "has another mode");
	pair_all(c, w);
	r = hasher_each(c->m->len, hash_one, NULL, c, e);
	if (r < 0)
		return r;
	for (size_t i = 0; i < c->m->len; i++) {
		if (c->pairs[i].differs)
			note(c, c->m->files[i].path, c->pairs[i].differs);
		if (ret_damaged)
			ret_damaged[i] = c->pairs[i].differs &&
					 strcmp(c->pairs[i].differs, STORE_OTHER_CONTENT) == 0;
	}
	if (!c->differences)
		return 0;
	if (c->differences > NAMED)
		buf_addf(&c->said, ", and %zu more", c->differences - NAMED);
	return err_set(e, ERR_CORRUPT, "release %.12s is not what its manifest says: %s", c->m->id,
		       buf_str(&c->said));
}

int store_compare(int tree, const struct store_manifest *m, bool *ret_damaged, struct err *e)
{
	CLEANUP_FREE struct pair *pairs = calloc(m->len + 1, sizeof(*pairs));
	struct comparison c = {.tree = tree, .m = m, .pairs = pairs};
	struct walk w = {.max = 2 * STORE_FILES_MAX};
	int r;

	if (!pairs)
		return err_set(e, ERR_SYS, "out of memory");
	r = compare(&c, &w, ret_damaged, e);
	walk_free(&w);
	buf_free(&c.said);
	return r;
}

int store_verify(struct store *s, const struct store_manifest *m, struct err *e)
{
	CLEANUP_FD int tree =
	    FS(openat(s->trees, m->id, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC));

	if (tree < 0 && errno == ENOENT)
		return err_set(e, ERR_NOT_FOUND, "release %.12s is not in the store", m->id);
	if (tree < 0)
		return err_sys(e, "opening release %.12s", m->id);
	return store_compare(tree, m, NULL, e);
}
