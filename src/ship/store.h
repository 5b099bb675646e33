/* SPDX-License-Identifier: Apache-2.0
 *
 * The release store: files named by the SHA-256 of their content, releases named by
 * the SHA-256 of their manifest, trees made of hard links.
 *
 *	DIR/store/objects/ab/cdef...    a file's content (x at the end: executable); 0444/0555
 *	DIR/store/trees/ID/             a release, as files: hard links to objects
 *	DIR/store/incoming/             what is being received
 *
 * Nothing becomes visible under its name before it is complete, verified and on
 * disk (temporary name, one syncfs for all, rename), so a crash leaves at most litter
 * under temporary names, which store_open() removes.
 *
 * Manifest (text, canonical: entries sorted by path bytes, no duplicate, each parent directory has
 * its own entry):
 *
 *	upstate-manifest 1\n
 *	d 0755 path\n
 *	f 0644 SIZE SHA256 path\n
 *	l target\tpath\n          (relative, within the tree)
 *
 * A path has no NUL, no newline or tab, no empty, "." or ".." segment, and at most 4095 bytes.
 * Modes are 0755 or 0644 for files (x bit kept, nothing else), 0755 for directories.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#define STORE_HASH 65 /* hexadecimal SHA-256 with its NUL */
#define STORE_FILES_MAX 200000
#define STORE_MANIFEST_MAX (64u << 20) /* bytes of its text */

struct store;

struct store_file {
	char type; /* 'd', 'f', 'l' */
	bool executable;
	uint64_t size;
	char hash[STORE_HASH]; /* 'f' */
	const char *target;    /* 'l' */
	const char *path;
};

struct store_manifest {
	struct store_file *files;
	size_t len;
	uint64_t bytes; /* sum of sizes */
	char *text;	/* canonical; what the strings above point into is its copy */
	size_t text_len;
	char id[STORE_HASH];
	char *strings;
};

/* --- both sides --- */

/* Parses and checks a manifest text: anything not canonical is -ERR_INPUT with the line number. */
int store_manifest_parse(const char *text, size_t len, struct store_manifest *ret, struct err *e);
void store_manifest_free(struct store_manifest *m);

/* Reads a directory tree into a manifest (the CLI's side). Refused, each by its path: not there,
 * empty, sockets, devices, FIFOs, links that leave the tree, unreadable files, names with newline or
 * tab. .git at the top is left out. progress (may be NULL) is called now and then. Directories
 * without files are kept. */
int store_scan(const char *dir, struct store_manifest *ret,
	       void (*progress)(void *arg, size_t files, uint64_t bytes), void *arg, struct err *e);

/* --- the controller's side --- */

/* dir: DIR/store. One process at a time opens it, because this removes what a crash left; its
 * forked children may use it. */
int store_open(const char *dir, struct store **ret, struct err *e);
void store_close(struct store *s);

/* Which files' contents are lacking: sets want[i] for each 'f' entry (first of each hash). */
int store_missing(struct store *s, const struct store_manifest *m, bool *want, uint64_t *ret_bytes,
		  struct err *e);

/* -ERR_FULL when so many bytes more would leave less free than a twentieth of the disk (at most
 * 256 MiB): what runs here must be able to write on. Contents are checked so as they come;
 * asking with what store_missing() said spares the sending. */
int store_room(struct store *s, uint64_t bytes, struct err *e);

/* Receiving contents as a stream: repeated "SHA256 SIZE x|-\n" + SIZE bytes. Fed with pieces as
 * they come; each object is hashed while written, and refused (-ERR_INPUT, named) when it differs.
 * After an error nothing of the stream is left on the disk. */
struct store_intake;
int store_intake_begin(struct store *s, struct store_intake **ret, struct err *e);
int store_intake_feed(struct store_intake *in, const void *data, size_t len, struct err *e);
/* Publishes what was received whole; a stream that ends in the middle of an object is an error. It
 * waits for the disk: who must not wait forks a child that calls this and store_stage(), and calls
 * store_intake_abort() when the child has ended, however it did. */
int store_intake_end(struct store_intake *in, uint64_t *ret_objects, struct err *e); /* frees in */
void store_intake_abort(struct store_intake *in);

/* Makes DIR/store/trees/ID (hard links; copies when a link is refused with EMLINK) and verifies it:
 * every object re-hashed. Already there: verified only. -ERR_NOT_FOUND: a content was never sent.
 * -ERR_CORRUPT: an object is damaged; it is removed, so that the next deploy sends it anew.
 * May take a second: call it in a child process. */
int store_stage(struct store *s, const struct store_manifest *m, struct err *e);
/* Compares the tree with its manifest: content, modes, links, nothing more, nothing less.
 * -ERR_CORRUPT names the first few differences; -ERR_NOT_FOUND: there is no such tree. */
int store_verify(struct store *s, const struct store_manifest *m, struct err *e);
bool store_has_tree(struct store *s, const char *id);
void store_tree_path(struct store *s, const char *id, char *ret, size_t size);
/* A descriptor to read the content of a file by its hash; -ERR_NOT_FOUND when it is not kept. */
int store_object_open(struct store *s, const char *hash, struct err *e);
/* Removes the tree; all right when it is gone already. */
int store_drop_tree(struct store *s, const char *id, struct err *e);
/* Removes the objects that no tree holds (link count 1). Not between store_missing() and
 * store_stage() of a deploy: it would take what the one has found from the other. */
int store_sweep(struct store *s, uint64_t *ret_freed, struct err *e);
