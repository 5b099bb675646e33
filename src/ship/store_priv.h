/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the store share: calls of the file system that a test can make fail,
 * hashing (on two threads when there is much of it), and the walk over a directory tree.
 */
#pragma once

#include <errno.h>
#include <sys/stat.h>

#include <openssl/evp.h>

#include "ship/store.h"

struct store {
	char *dir;
	int root, objects, trees, incoming; /* directories */
	uint64_t serial;		    /* names in incoming/ */
};

/* --- the file system --- */

/* Null but in tests. Sees every call of the file system before it is made; 0 lets it happen, an
 * errno makes it fail with that. It may also end the process, as a crash would. */
extern int (*store_test_hook)(const char *call);

static inline bool store_test_fails(const char *call)
{
	return store_test_hook && (errno = store_test_hook(call)) != 0;
}

#define FS(call) (store_test_fails(#call) ? -1 : (call))

/* Writes all of it; -1 with errno. */
int store_write(int fd, const void *data, size_t len);

#define STORE_OBJECT 72
/* "ab/cdef...", with an x at the end for an executable. */
void store_object_name(const char *hash, bool executable, char ret[STORE_OBJECT]);
bool store_is_hash(const char *s); /* begins with 64 lower-case hexadecimal digits */
/* A decimal number as it is written in one way only; ret_end: behind it. */
#define STORE_FILE_SIZE_MAX (UINT64_C(1) << 44) /* so that no sum overflows */
bool store_parse_size(char *s, char **ret_end, uint64_t *ret);
/* 1: it is there (with that size), 0: it is not. */
int store_has_object(struct store *s, const char *hash, bool executable, uint64_t size,
		     struct err *e);
/* As store_room(), without what to do. */
int store_check_room(struct store *s, uint64_t bytes, struct err *e);
/* Returns r; when it says that the disk is full, adds what to do. */
int store_told(struct store *s, int r, struct err *e);

/* --- hashing --- */

#define HASHER_PIECE (256u << 10)

struct hasher {
	EVP_MD *md;
	EVP_MD_CTX *ctx;
	char *piece; /* HASHER_PIECE bytes to read into */
};

int hasher_init(struct hasher *h, struct err *e);
void hasher_fini(struct hasher *h);
void hasher_begin(struct hasher *h);
void hasher_add(struct hasher *h, const void *data, size_t len);
void hasher_end(struct hasher *h, char ret[STORE_HASH]);
/* Hashes the next size bytes of fd, and writes them to copy_to unless that is -1. False with errno;
 * errno 0 when the file is shorter. */
bool hasher_file(struct hasher *h, int fd, uint64_t size, int copy_to, char ret[STORE_HASH]);

/* Calls one(arg, i, ...) for each i below len, on two threads when there are many. The error that
 * is returned is the one of the lowest i. tick (may be NULL) is called now and then by the caller's
 * thread. */
int hasher_each(size_t len, int (*one)(void *arg, size_t i, struct hasher *h, struct err *e),
		void (*tick)(void *arg), void *arg, struct err *e);

/* --- manifest --- */

/* As store_manifest_parse(), but the errors don't speak of lines: *ret_line has it. */
int manifest_read(const char *text, size_t len, struct store_manifest *ret, size_t *ret_line,
		  struct err *e);

/* --- walk --- */

/* Calls fn for each name in the directory, until one fails. Closes fd. */
int walk_names(int fd, int (*fn)(void *arg, int dir, const char *name, struct err *e), void *arg,
	       struct err *e);

struct walk_entry {
	char *path, *target; /* target: of a link, else NULL */
	struct stat st;
	char hash[STORE_HASH]; /* for the caller */
};

struct walk {
	struct walk_entry *entries; /* sorted by the bytes of their paths, as in a manifest */
	size_t len, cap, max;	    /* max: -ERR_LIMIT beyond it; 0: none */
	const char *skip;	    /* a name at the top that is left out, or NULL */
	struct stat top;
};

/* Lists what is below the directory root; follows no link, opens nothing but directories, and
 * notices when one was exchanged meanwhile. -ERR_INPUT names what cannot be read. */
int walk_tree(struct walk *w, int root, struct err *e);
void walk_free(struct walk *w);
bool walk_same(const struct stat *a, const struct stat *b); /* untouched between the two? */

/* --- trees --- */

#define STORE_TMP 96
void store_tmp_name(const char *id, char ret[STORE_TMP]); /* in trees/, of this process */
#define STORE_OTHER_CONTENT "has other content"
/* Compares what is below the directory with the manifest. ret_damaged (may be NULL): [i] tells
 * whether the content of entry i differs. */
int store_compare(int tree, const struct store_manifest *m, bool *ret_damaged, struct err *e);
/* Removes parent/name and everything in it; all right when it is not there. */
int store_remove_tree(int parent, const char *name, struct err *e);
