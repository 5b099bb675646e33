/* SPDX-License-Identifier: Apache-2.0
 *
 * What the two halves of the server share: server.c moves bytes and time,
 * server_request.c gives a request its meaning and its answer.
 */
#pragma once

#include "base/err.h"
#include "base/list.h"
#include "tell/server.h"

#define SERVER_HEAD_MAX 16384
#define SERVER_HEADERS_MAX 64
#define SERVER_PIECE 65536	     /* read in one turn; the largest piece of a stream */
#define SERVER_STREAM_MAX (4u << 20) /* of a streamed answer, unsent */
#define SERVER_SKIP_MAX 262144	     /* unread body that is worth reading to keep a connection */
#define SERVER_TURN_PIECES 8 /* of a file, sent in one turn */
#define SERVER_TURN_REQUESTS 16	     /* pipelined requests handled in one turn */

enum server_state {
	SERVER_HEAD,   /* between requests, or in the head of one */
	SERVER_BODY,   /* reading its body; the answer may have begun */
	SERVER_ANSWER, /* it was read; the answer is awaited or being sent */
	SERVER_LINGER, /* our side is shut: what still comes is thrown away, so that no reset
			* overtakes the answer (RFC 9112, 9.6) */
};

enum server_mode { SERVER_DISCARD, SERVER_WHOLE, SERVER_STREAM };

struct server_conn {
	struct server *server;
	struct list link;
	struct loop_io io;
	struct loop_timer limit, kick;
	uint32_t events; /* what epoll watches */
	int fd;
	enum server_state state;
	uint64_t since; /* ms; what the limit of this state counts from */
	bool local, running, dead, half_closed;
	bool blocked; /* the last turn left something unsent */
	uid_t uid;
	pid_t pid;
	struct buf in, out, body;
	size_t out_at;	/* sent of out */
	int file;	/* what follows out, or -1 */
	uint64_t file_left;
	size_t scanned; /* of a head or trailer */
	/* the request */
	struct server_request request;
	bool live; /* a handler knows it */
	bool is_head, http10, close;
	bool expects;  /* "100 Continue", and was not told so */
	bool answered; /* its head was written */
	bool ended;    /* and all of it */
	bool chunked_out;
	enum server_mode mode;
	enum http1_framing framing;
	struct http1_chunked chunked;
	uint64_t left; /* of a counted body */
	size_t body_max;
};

struct server {
	struct loop *loop;
	struct server_options options;
	struct list listeners, conns;
	uint32_t count, remote;
	uint64_t refused;
	struct http1_head head; /* of the request whose on_request runs, or of a trailer */
};

/* A connection that takes its descriptor over, and reports itself to the loop; false: no memory. */
bool server_conn_create(struct server *s, int fd, bool local);
void server_conn_destroy(struct server_conn *c);

/* Fills the request from the head and calls the handler, or answers what no handler should see. */
void server_request_start(struct server_conn *c, const struct http1_head *head);
/* A piece of the body, in the order in which it came. */
void server_request_data(struct server_conn *c, const char *data, size_t len);
/* The body is complete. */
void server_request_read(struct server_conn *c);
/* Answers an error of the protocol itself and closes; only cuts when an answer has begun. */
void server_fail(struct server_conn *c, int status, const char *message);
/* The bytes of such an answer, for a connection that is not even taken. */
void server_error_text(struct buf *out, int status, const char *message);
