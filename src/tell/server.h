/* SPDX-License-Identifier: Apache-2.0
 *
 * A small HTTP/1.1 server on the controller's loop, for the API, the feeds and the
 * pages. It is not on the users' path: it is bounded (connections, bytes, time) and
 * simple. Requests on one connection are handled one after another; keep-alive.
 *
 * A handler gets the request when its head is complete. It then either
 * - does nothing but answer: server_answer() or server_begin()/write()/end(), now or
 *   later; the body is read and thrown away; or
 * - calls server_want_body(): on_body is called once with the whole body; or
 * - calls server_want_stream(): on_data is called with pieces as they come (with
 *   back-pressure: not reading stops the client), then on_body with len 0.
 *
 * A request lives until its answer has been sent or the client left; `on_gone` is called
 * exactly once in both cases, and the pointer is invalid afterwards.
 */
#pragma once

#include <sys/types.h>

#include "base/buf.h"
#include "loop/loop.h"
#include "wire/http1.h"

#define SERVER_CONNECTIONS_MAX 256
#define SERVER_REMOTE_MAX 224 /* of these; the rest is kept for the control socket */
#define SERVER_BODY_MAX (64u << 20)

struct server;

struct server_request {
	const struct http1_head *head; /* valid while the handler for the head runs; copy what you need */
	char method[16];
	char path[1024];  /* decoded, without query; no "." or ".." segments */
	char query[1024]; /* raw */
	bool local;	  /* over the control socket */
	uid_t uid;	  /* of the peer, when local */
	pid_t pid;
	void *user; /* the handler's own */
	void (*on_data)(struct server_request *r, const char *data, size_t len);
	void (*on_body)(struct server_request *r, const char *body, size_t len);
	void (*on_gone)(struct server_request *r);
	/* Of an answer that was begun: all that was written is out, write more (once a turn, so that a
	 * long answer neither waits in memory nor keeps others waiting), or end it. */
	void (*on_room)(struct server_request *r);
};

struct server_options {
	void (*on_request)(struct server_request *r, void *arg);
	void *arg;
	uint32_t idle_ms; /* between requests; 0: 60 s */
	uint32_t head_ms; /* from the first byte of a request to the end of its head; 0: 10 s */
	uint32_t move_ms; /* for the next bytes of a body or of an answer to move; 0: 30 s */
	uint32_t linger_ms; /* reading on behind an early answer; a client that sends no more; 0: 5 s */
};

/* Requests that are malformed, too large or too slow are answered here, with the error body of
 * docs/API.md. Paths and queries that reach a handler are valid UTF-8 without control bytes, and
 * have no broken escapes. */
int server_create(struct loop *loop, const struct server_options *o, struct server **ret);
void server_destroy(struct server *s); /* cuts every connection; not from a callback of its own */
/* Accepts on this socket (taken over); `local` as in server_request. 0, or -1 with errno. */
int server_listen(struct server *s, int fd, bool local);
/* Stops accepting; connections that are there live on. */
void server_unlisten_all(struct server *s);
uint32_t server_connections(const struct server *s, uint64_t *ret_refused);

/* Both only while on_request runs. A body over `max` (0: SERVER_BODY_MAX) is answered with 413 and
 * on_body is not called. The body is followed by a NUL that is not counted, and valid while on_body
 * runs. A body is not handed on once an answer was given. */
void server_want_body(struct server_request *r, size_t max,
		      void (*on_body)(struct server_request *r, const char *body, size_t len));
void server_want_stream(struct server_request *r,
			void (*on_data)(struct server_request *r, const char *data, size_t len),
			void (*on_end)(struct server_request *r, const char *body, size_t len));

/* headers: more header lines, each ended with CRLF, or NULL. A second answer is ignored. on_gone is
 * never called from inside these: it comes later, from the loop. */
void server_answer(struct server_request *r, int status, const char *type, const char *headers,
		   const void *body, size_t len);
/* 200 with the file from its present offset to its present end; the descriptor is taken over. For
 * what may be larger than 4 MiB: it is read as the client takes it. */
void server_answer_file(struct server_request *r, const char *type, const char *headers, int fd);
/* A chunked answer (or until close for HTTP/1.0). write() returns false when the client is gone or more
 * than 4 MiB wait for it (a slow reader is then cut). */
void server_begin(struct server_request *r, int status, const char *type);
bool server_write(struct server_request *r, const void *data, size_t len);
void server_end(struct server_request *r);
/* Ends the connection: what was begun cannot be finished. */
void server_cut(struct server_request *r);
/* The header line of the request with this lower-case name; only while on_request runs. */
struct http1_slice server_header(const struct server_request *r, const char *lower);
/* Value of a query parameter, decoded into ret; false when it is not there. */
bool server_param(const struct server_request *r, const char *name, char *ret, size_t size);
/* Of the nth (from 0) with this name. */
bool server_param_at(const struct server_request *r, const char *name, uint32_t nth, char *ret, size_t size);
