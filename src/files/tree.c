/* SPDX-License-Identifier: Apache-2.0
 *
 * Files by name. One that was asked for stays open, so that a request for it costs no look-up; after a
 * second the name is looked up anew, and if another file is found the old one lives only until its
 * last connection is done. So even a folder that changes under the server never gives half of one
 * file and half of another.
 *
 * The kernel keeps a look-up below the root (openat2, RESOLVE_BENEATH): links may lead around inside it,
 * and nowhere else.
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/openat2.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "files/files_priv.h"

#define RACES_MAX 8 /* a rename above the root while it looks: EAGAIN, and it is tried again */

const char *const coding_token[CODING_COUNT] = {
#define X(name, token, suffix) [CODING_##name] = token,
	CODING_TABLE(X)
#undef X
}, *const coding_suffix[CODING_COUNT] = {
	[CODING_NONE] = "",
#define X(name, token, suffix) [CODING_##name] = suffix,
	CODING_TABLE(X)
#undef X
};

static int open_below(const struct tree *t, const char *name, enum coding coding, uint64_t flags)
{
	struct open_how how = {.flags = flags | O_CLOEXEC,
			       .resolve = RESOLVE_BENEATH | RESOLVE_NO_MAGICLINKS};
	char path[ASK_PATH_MAX + 32];
	int fd = -1;

	snprintf(path, sizeof(path), "%s%s", name, coding_suffix[coding]);
	errno = EAGAIN;
	for (int i = 0; i < RACES_MAX && fd < 0 && (errno == EAGAIN || errno == EINTR); i++)
		fd = (int)syscall(SYS_openat2, t->fd, path, &how, sizeof(how));
	return fd;
}

/* An open regular file, or -1 with errno; EISDIR for a folder. */
static int open_file(const struct tree *t, const char *name, enum coding coding, struct stat *ret)
{
	/* So that a FIFO does not keep us waiting, nor a terminal becomes ours. */
	CLEANUP_FD int fd = open_below(t, name, coding, O_RDONLY | O_NONBLOCK | O_NOCTTY);

	if (fd < 0 || fstat(fd, ret) < 0)
		return -1;
	if (!S_ISREG(ret->st_mode)) {
		errno = S_ISDIR(ret->st_mode) ? EISDIR : ENOENT;
		return -1;
	}
	return TAKE_FD(fd);
}

static bool is_same(const struct file *f, const struct stat *st)
{
	return f->id.dev == st->st_dev && f->id.ino == st->st_ino &&
	       f->id.size == (uint64_t)st->st_size && f->id.changed.tv_sec == st->st_ctim.tv_sec &&
	       f->id.changed.tv_nsec == st->st_ctim.tv_nsec &&
	       f->id.written.tv_sec == st->st_mtim.tv_sec &&
	       f->id.written.tv_nsec == st->st_mtim.tv_nsec;
}

void file_unref(struct file *f)
{
	if (!f || --f->refs)
		return;
	hash_forget(f);
	close(f->fd);
	buf_free(&f->fields);
	free(f);
}

static void uncache(struct file *f)
{
	struct tree *t = &f->server->tree;

	if (!f->cached)
		return;
	f->cached = false;
	list_del(&f->in_age);
	map_del(&t->by_key, f->key);
	t->count--;
	file_unref(f);
}

/* Room for one more; false: all of them are in use. */
static bool make_room(struct tree *t)
{
	struct file *f;

	if (t->count < FILES_OPEN_MAX)
		return true;
	LIST_EACH (f, &t->age, in_age) {
		if (f->refs > 1)
			continue;
		uncache(f);
		return true;
	}
	return false;
}

static void cache(struct file *f)
{
	struct tree *t = &f->server->tree;

	if (!make_room(t)) {
		f->server->not_cached++;
		return;
	}
	f->cached = true;
	f->refs++;
	list_add_tail(&t->age, &f->in_age);
	map_put(&t->by_key, f->key, f);
	t->count++;
}

/* What lies beside it: offered to who takes it, and told to caches (Vary) when nobody does. */
static unsigned look_for_variants(const struct tree *t, const struct file *f)
{
	unsigned found = 0;

	for (int i = CODING_NONE + 1; f->coding == CODING_NONE && i < CODING_COUNT; i++) {
		int fd = open_below(t, f->name, (enum coding)i, O_PATH);

		if (fd < 0)
			continue;
		found |= 1u << i;
		close(fd);
	}
	return found;
}

static void note_looked(struct file *f)
{
	unsigned variants = look_for_variants(&f->server->tree, f);

	if (variants != f->variants)
		buf_free(&f->fields); /* Vary stands in them */
	f->variants = variants;
	f->looked_ms = f->server->loop.now_ms;
}

static struct file *file_make(struct server *s, const char *name, enum coding coding, uint64_t key,
			      int fd, const struct stat *st)
{
	size_t len = strlen(name) + 1;
	struct file *f = calloc(1, sizeof(*f) + len);

	if (!f)
		return NULL;
	f->server = s;
	f->key = key;
	f->refs = 1;
	f->fd = fd;
	f->id.dev = st->st_dev;
	f->id.ino = st->st_ino;
	f->id.size = (uint64_t)st->st_size;
	f->id.changed = st->st_ctim;
	f->id.written = st->st_mtim;
	f->coding = coding;
	f->fields.max = SERVER_HEAD;
	list_init(&f->waiters);
	memcpy(f->name, name, len);
	return f;
}

static int lack(int error)
{
	static const int ours[] = {EMFILE, ENFILE, ENOMEM, EAGAIN, EIO, ENOBUFS};

	if (error == EISDIR)
		return -EISDIR;
	for (size_t i = 0; i < ARRAY_LEN(ours); i++)
		if (error == ours[i])
			return -error;
	return -ENOENT; /* links that leave the tree, names too long, files without rights: none of them is there */
}

int tree_get(struct server *s, const char *name, enum coding coding, struct file **ret)
{
	uint64_t key = map_hash(name, strlen(name)) + (uint64_t)coding;
	struct file *f = map_get(&s->tree.by_key, key);
	struct stat st;
	int fd;

	if (f && (strcmp(f->name, name) != 0 || f->coding != coding))
		uncache(f), f = NULL; /* two names, one key: the newer has the place */
	if (!f || s->loop.now_ms - f->looked_ms >= FILE_FRESH_MS) {
		fd = open_file(&s->tree, name, coding, &st);
		if (f && (fd < 0 || !is_same(f, &st)))
			uncache(f), f = NULL;
		if (fd < 0)
			return lack(errno);
		if (f) {
			close(fd);
		} else {
			f = file_make(s, name, coding, key, fd, &st);
			if (!f) {
				close(fd);
				return -ENOMEM;
			}
			cache(f);
			f->refs--; /* the caller's is added below */
		}
		f->refs++;
		note_looked(f);
	} else {
		f->refs++;
	}
	if (f->cached) {
		list_del(&f->in_age);
		list_add_tail(&s->tree.age, &f->in_age);
	}
	*ret = f;
	return 0;
}

void tree_fini(struct server *s)
{
	struct file *f, *tmp;

	LIST_EACH_SAFE (f, tmp, &s->tree.age, in_age)
		uncache(f);
	map_free(&s->tree.by_key);
	if (s->tree.fd >= 0)
		close(s->tree.fd);
}
