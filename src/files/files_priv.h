/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the file server share. One thread, one loop, one struct server.
 *
 *	files.c   start, listening socket, rights given up, the end
 *	peer.c    connections: bytes in, bytes out, time
 *	answer.c  from a request's head to the head of its answer
 *	tree.c    files that are open, looked up by name
 *	hash.c    their hashes
 *	ask.c, type.c   what a request and a name say: pure
 */
#pragma once

#include <time.h>

#include "base/buf.h"
#include "base/list.h"
#include "base/map.h"
#include "files/ask.h"
#include "files/files.h"
#include "loop/loop.h"

#define SERVER_IN 65536	       /* a request's head at most */
#define SERVER_HEAD 1536       /* an answer's head at most */
#define SERVER_FIRST 32768     /* of a body, sent with its head in one write */
#define SERVER_PIECE (1u << 20) /* of a body, in one call */
#define SERVER_TURN 16	       /* pieces or requests of a connection before others get their turn */
#define SERVER_IDLE_MS 90000   /* more than the router keeps one: it is the one that closes */
#define SERVER_HEAD_MS 10000
#define SERVER_MOVE_MS 60000 /* without anything sent, while something is to be */
#define SERVER_LINGER_MS 2000
#define SERVER_LINGER_BYTES (256u << 10)
#define FILE_FRESH_MS 1000 /* so long an open file is not looked for anew */
#define HASH_AT_ONCE 65536 /* a file up to this size is hashed while its request is at hand */
#define HASH_PIECE 262144  /* of a longer one, between which requests are answered */
#define HASH_WAIT_MS 1000  /* then it is sent without its tag */

/* --- files (tree.c) --- */

/* X(NAME, in headers, suffix of the file): compressed beforehand, beside the file; best first */
#define CODING_TABLE(X)                                                                            \
	X(BR, "br", ".br")                                                                         \
	X(GZIP, "gzip", ".gz")

enum coding {
	CODING_NONE,
#define X(name, token, suffix) CODING_##name,
	CODING_TABLE(X)
#undef X
	CODING_COUNT
};

extern const char *const coding_token[CODING_COUNT], *const coding_suffix[CODING_COUNT];

enum file_hash { HASH_NONE, HASH_QUEUED, HASH_DONE, HASH_FAILED };

/* A file that is open. It stays the same content, whatever the name leads to later. */
struct file {
	struct list in_age;   /* of the cache: least lately used first */
	struct list in_queue; /* to be hashed */
	struct list waiters;  /* struct peer: for the hash */
	struct server *server;
	uint64_t key;
	uint32_t refs; /* connections that use it, and 1 for the cache */
	bool cached;
	int fd;
	struct {
		uint64_t dev, ino, size;
		struct timespec changed, written;
	} id; /* what has the same one has the same content */
	uint64_t looked_ms;
	enum coding coding;
	unsigned variants; /* bits of enum coding: what lies beside it */
	enum file_hash hash;
	char tag[ASK_TAG]; /* HASH_DONE */
	struct buf fields; /* of its answers, but for those that each answer has its own of; "" until made */
	char name[];
};

struct tree {
	int fd;
	struct map by_key;
	struct list age;
	uint32_t count;
};

/* The file of this name, or the variant beside it, referenced. 0; -EISDIR; -ENOENT for what is not there
 * or not to be served; another -errno when this server lacks something. */
int tree_get(struct server *s, const char *name, enum coding coding, struct file **ret);
void tree_fini(struct server *s);
void file_unref(struct file *f); /* harmless on NULL */

/* --- hashes (hash.c) --- */

/* Hashes it now, or begins to. Returns whether it is done (or failed). False also when too many wait. */
bool hash_want(struct file *f);
void hash_forget(struct file *f); /* its last user is gone */
void hash_turn(struct server *s); /* the next piece */
int hash_init(struct server *s, struct err *e);
void hash_fini(struct server *s);

/* --- connections (peer.c) --- */

enum peer_state {
	PEER_HEAD, /* between requests, or in the head of one */
	PEER_WAIT, /* for a hash; the request is still in `in` */
	PEER_SEND,
	PEER_LINGER, /* our side is shut; what comes is thrown away (RFC 9112, 9.6) */
};

struct peer {
	struct loop_io io;
	struct loop_timer limit;
	struct list in_server, in_again, in_file;
	struct server *server;
	enum peer_state state;
	bool readable, half_closed, wants_out;
	bool keep;   /* another request may follow */
	bool waited; /* for a hash, in vain */
	bool looked; /* what is in `in` is no whole head */
	char *in;    /* read, not taken: what waits for its rest */
	uint32_t in_len, lingered;
	size_t scanned;
	char *out; /* what the socket did not take of a head and a body's beginning */
	uint32_t out_at, out_len;
	struct file *file; /* what follows, from `at` on */
	uint64_t at, left;
};

bool peer_open(struct server *s, int fd);
void peer_close(struct peer *c);
void peer_end_idle(struct server *s); /* those that owe no answer */
void peer_go_on(struct peer *c);      /* what it waited for is there */
void peer_turns(struct server *s);    /* those that had their turn get another */

/* --- answers (answer.c) --- */

/* Makes the answer to a head: bytes in s->out, and what follows in c->file. False: c waits for the
 * hash of c->file. */
bool answer_make(struct peer *c, const struct http1_head *h);
/* To a head that is none. */
void answer_refuse(struct peer *c, int status, const char *why);

/* --- the server (files.c) --- */

struct server {
	struct loop loop;
	const struct files_options *options;
	struct tree tree;
	struct loop_io listen_io;
	struct loop_timer listen_again;
	struct list peers, again, hashes;
	uint32_t peer_count, hash_count;
	struct evp_md_ctx_st *hash_ctx; /* of the first of `hashes` */
	struct evp_md_st *hash_md;
	uint64_t hash_at;
	bool hash_begun;
	bool ending;
	uint64_t requests, unhashed, not_cached; /* told at the end */
	char date[32];			       /* "Thu, 26 Nov 2026 11:20:00 GMT" */
	uint64_t date_s;
	struct http1_head head;		       /* scratch, as are these: */
	char in[SERVER_IN], out[SERVER_HEAD + SERVER_FIRST], piece[HASH_PIECE];
	uint32_t out_len;
};

void server_peer_gone(struct server *s); /* one less: accept again, or end */
