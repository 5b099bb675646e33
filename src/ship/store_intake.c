/* SPDX-License-Identifier: Apache-2.0
 *
 * Contents on their way into the store. Each object is written to incoming/N and hashed meanwhile;
 * when the stream has ended well, one syncfs() for all of them, then each gets its name. So a
 * name never stands for bytes that are not on the disk. After an error nothing of it is left.
 */
#include "ship/store_priv.h"

#include <fcntl.h>
#include <string.h>

struct object {
	char hash[STORE_HASH];
	bool executable;
	uint64_t serial; /* its name in incoming/; 0: the store had it before */
};

struct store_intake {
	struct store *store;
	struct hasher hasher;
	struct object *objects; /* [len] is the one that is being received, if in_body */
	size_t len, cap, published;
	char head[128]; /* of the next object, as far as it has come */
	size_t head_len;
	bool in_body, failed;
	int fd; /* -1 when the store has the object */
	uint64_t left;
};

int store_intake_begin(struct store *s, struct store_intake **ret, struct err *e)
{
	struct store_intake *in = util_alloc(sizeof(*in));

	in->store = s;
	in->fd = -1;
	if (hasher_init(&in->hasher, e) < 0) {
		free(in);
		return -ERR_SYS;
	}
	*ret = in;
	return 0;
}

static void incoming_name(const struct object *o, char ret[24])
{
	snprintf(ret, 24, "%llu", (unsigned long long)o->serial);
}

/* Removes what has no name yet. */
static void discard(struct store_intake *in)
{
	char name[24];

	if (in->fd >= 0)
		close(in->fd);
	in->fd = -1;
	for (size_t i = in->published; i < in->len + in->in_body; i++) {
		incoming_name(&in->objects[i], name);
		if (in->objects[i].serial)
			FS(unlinkat(in->store->incoming, name, 0));
	}
	in->len = in->published;
	in->in_body = false;
	in->failed = true;
}

void store_intake_abort(struct store_intake *in)
{
	if (!in)
		return;
	discard(in);
	hasher_fini(&in->hasher);
	free(in->objects);
	free(in);
}

/* SHA256 SIZE x|- */
static bool parse_head(char *head, struct object *o, uint64_t *ret_size)
{
	char *end;

	if (!store_is_hash(head) || head[STORE_HASH - 1] != ' ' ||
	    !store_parse_size(head + STORE_HASH, &end, ret_size) ||
	    (strcmp(end, " x") != 0 && strcmp(end, " -") != 0))
		return false;
	memcpy(o->hash, head, STORE_HASH - 1);
	o->executable = end[1] == 'x';
	return true;
}

static int reserve(struct store_intake *in, struct err *e)
{
	size_t cap = in->cap ? in->cap * 2 : 64;
	void *grown;

	if (in->len == STORE_FILES_MAX)
		return err_set(e, ERR_LIMIT, "more than %d objects", STORE_FILES_MAX);
	if (in->len < in->cap)
		return 0;
	grown = reallocarray(in->objects, cap, sizeof(*in->objects));
	if (!grown)
		return err_set(e, ERR_SYS, "out of memory");
	in->objects = grown;
	in->cap = cap;
	return 0;
}

static int begin_object(struct store_intake *in, struct err *e)
{
	struct store *s = in->store;
	struct object *o;
	char name[24];
	int r = reserve(in, e);

	if (r < 0)
		return r;
	o = &in->objects[in->len];
	*o = (struct object){0};
	if (!parse_head(in->head, o, &in->left))
		return err_set(e, ERR_INPUT, "expected 'SHA256 SIZE x|-', not '%.100s'", in->head);
	hasher_begin(&in->hasher);
	r = store_has_object(s, o->hash, o->executable, in->left, e);
	if (r < 0)
		return r;
	in->in_body = true;
	if (r)
		return 0;
	r = store_check_room(s, in->left, e);
	if (r < 0)
		return r;
	o->serial = ++s->serial;
	incoming_name(o, name);
	in->fd = FS(openat(s->incoming, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0400));
	return in->fd < 0 ? err_sys(e, "receiving object %s", o->hash) : 0;
}

static int end_object(struct store_intake *in, struct err *e)
{
	const struct object *o = &in->objects[in->len];
	char hash[STORE_HASH];

	hasher_end(&in->hasher, hash);
	if (strcmp(hash, o->hash) != 0)
		return err_set(e, ERR_INPUT, "object %s came with the content of %s", o->hash,
			       hash);
	if (in->fd >= 0 &&
	    (FS(fchmod(in->fd, o->executable ? 0555 : 0444)) < 0 || close(TAKE_FD(in->fd)) < 0))
		return err_sys(e, "receiving object %s", o->hash);
	in->in_body = false;
	in->len++;
	return 0;
}

/* Returns how many bytes it took, or an error. */
static ssize_t feed_head(struct store_intake *in, const char *data, size_t len, struct err *e)
{
	const char *end = memchr(data, '\n', len);
	size_t take = end ? (size_t)(end - data) : len;
	int r;

	if (take >= sizeof(in->head) - in->head_len)
		return err_set(e, ERR_INPUT, "expected 'SHA256 SIZE x|-', not a long line");
	memcpy(in->head + in->head_len, data, take);
	in->head_len += take;
	if (!end)
		return (ssize_t)take;
	in->head[in->head_len] = '\0';
	in->head_len = 0;
	r = begin_object(in, e);
	return r < 0 ? r : (ssize_t)take + 1;
}

static ssize_t feed_body(struct store_intake *in, const char *data, size_t len, struct err *e)
{
	size_t take = MIN(len, in->left);

	hasher_add(&in->hasher, data, take);
	if (in->fd >= 0 && store_write(in->fd, data, take) < 0)
		return err_sys(e, "receiving object %s", in->objects[in->len].hash);
	in->left -= take;
	return (ssize_t)take;
}

int store_intake_feed(struct store_intake *in, const void *data, size_t len, struct err *e)
{
	const char *p = data;

	if (in->failed)
		return err_set(e, ERR_REFUSED, "receiving contents failed before");
	while (len) {
		ssize_t n = in->in_body ? feed_body(in, p, len, e) : feed_head(in, p, len, e);

		if (n >= 0 && in->in_body && !in->left) {
			int r = end_object(in, e);

			n = r < 0 ? r : n;
		}
		if (n < 0) {
			discard(in);
			return store_told(in->store, (int)n, e);
		}
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

static int publish(struct store_intake *in, const struct object *o, struct err *e)
{
	struct store *s = in->store;
	char from[24], to[STORE_OBJECT];

	if (!o->serial)
		return 0;
	incoming_name(o, from);
	store_object_name(o->hash, o->executable, to);
	if (FS(renameat(s->incoming, from, s->objects, to)) == 0)
		return 0;
	if (errno == ENOENT) { /* the first whose hash begins like this */
		to[2] = '\0';
		if (FS(mkdirat(s->objects, to, 0700)) < 0)
			return err_sys(e, "making objects/%s", to);
		to[2] = '/';
		if (FS(renameat(s->incoming, from, s->objects, to)) == 0)
			return 0;
	}
	return err_sys(e, "keeping object %s", o->hash);
}

static int finish(struct store_intake *in, struct err *e)
{
	bool any = false;
	int r = 0;

	if (in->failed)
		return err_set(e, ERR_REFUSED, "receiving contents failed before");
	if (in->in_body)
		return err_set(e, ERR_INPUT, "contents end %llu bytes before the end of object %s",
			       (unsigned long long)in->left, in->objects[in->len].hash);
	if (in->head_len)
		return err_set(e, ERR_INPUT, "contents end in the middle of a line");
	for (size_t i = 0; i < in->len; i++)
		any |= in->objects[i].serial != 0;
	if (any && FS(syncfs(in->store->incoming)) < 0)
		return err_sys(e, "writing contents to disk");
	for (; r == 0 && in->published < in->len; in->published += r == 0)
		r = publish(in, &in->objects[in->published], e);
	return r;
}

int store_intake_end(struct store_intake *in, uint64_t *ret_objects, struct err *e)
{
	size_t len = in->len;
	int r = store_told(in->store, finish(in, e), e);

	if (r == 0)
		*ret_objects = len;
	store_intake_abort(in);
	return r;
}
