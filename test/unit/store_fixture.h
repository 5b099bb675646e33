/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of the store share: a fresh folder in memory with two trees of an app, and
 * the way of a deploy through the store.
 */
#pragma once

#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "ship/store_priv.h"

static struct err e;
static char folder[64];

static inline int sh(const char *fmt, ...) PRINTF(1, 2);
static inline int sh(const char *fmt, ...)
{
	char command[1024];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(command, sizeof(command), fmt, ap);
	va_end(ap);
	return system(command);
}

/* v1 and v2 differ in one content, one mode, one file less and one more. */
static int store_setup(void **state UNUSED)
{
	store_test_hook = NULL;
	strcpy(folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/upstate-store.XXXXXX"
						     : "/tmp/upstate-store.XXXXXX");
	if (!mkdtemp(folder) || chdir(folder) < 0)
		return -1;
	return sh("mkdir -p v1/bin v1/lib/empty; printf hello >v1/a; printf hello >v1/lib/same;"
		  "printf '#!/bin/sh\\n' >v1/bin/run; chmod 755 v1/bin/run; : >v1/lib/nothing;"
		  "seq 5000 >v1/lib/large; ln -s ../bin/run v1/lib/link;"
		  "cp -a v1 v2; echo 2 >v2/a; chmod 755 v2/lib/large; rm v2/lib/same;"
		  "echo new >v2/lib/new");
}

static int store_teardown(void **state UNUSED)
{
	store_test_hook = NULL;
	return chdir("/") == 0 ? sh("chmod -R u+rwx %s; rm -rf %s", folder, folder) : -1;
}

static inline bool read_whole(const char *path, struct buf *b, uint64_t size)
{
	CLEANUP_FD int fd = open(path, O_RDONLY);
	char *room = buf_room(b, size + 1);

	if (fd < 0 || !room || read(fd, room, size + 1) != (ssize_t)size)
		return false;
	b->len += size;
	return true;
}

/* The stream of what the store wants from a source tree, as the command line sends it. */
static inline void make_stream(const char *source, const struct store_manifest *m, const bool *want,
			       struct buf *b)
{
	char path[512];

	for (size_t i = 0; i < m->len; i++) {
		const struct store_file *f = &m->files[i];

		if (!want[i])
			continue;
		buf_addf(b, "%s %llu %c\n", f->hash, (unsigned long long)f->size,
			 f->executable ? 'x' : '-');
		snprintf(path, sizeof(path), "%s/%s", source, f->path);
		ensure(read_whole(path, b, f->size));
	}
	ensure(!b->failed);
}

static inline int take_in(struct store *s, const struct buf *b, size_t piece)
{
	struct store_intake *in;
	uint64_t objects;
	int r = store_intake_begin(s, &in, &e);

	for (size_t at = 0; r == 0 && at < b->len; at += piece) {
		r = store_intake_feed(in, b->data + at, MIN(piece, b->len - at), &e);
		if (r < 0) {
			store_intake_abort(in);
			return r;
		}
	}
	return r < 0 ? r : store_intake_end(in, &objects, &e);
}

static inline int send_missing(struct store *s, const char *source, const struct store_manifest *m)
{
	CLEANUP_FREE bool *want = calloc(m->len, sizeof(*want));
	CLEANUP_BUF struct buf b = {0};
	uint64_t bytes;
	int r = store_missing(s, m, want, &bytes, &e);

	if (r < 0)
		return r;
	make_stream(source, m, want, &b);
	return take_in(s, &b, 1000);
}

static inline int deploy(struct store *s, const char *source, const struct store_manifest *m)
{
	int r = send_missing(s, source, m);

	return r < 0 ? r : store_stage(s, m, &e);
}

/* Reads a tree though a hook is set. */
static inline void scan(const char *dir, struct store_manifest *ret)
{
	int (*hook)(const char *call) = TAKE(store_test_hook);

	if (store_scan(dir, ret, NULL, NULL, &e) < 0)
		fail_msg("%s", e.msg);
	store_test_hook = hook;
}
