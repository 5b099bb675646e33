/* SPDX-License-Identifier: Apache-2.0
 *
 * The load client's connections. It behaves like a good client, so that what fails is
 * the fault of the other side: before it uses an idle connection again it looks whether
 * that has ended, it takes the server at its word when that says "close", it sends each
 * request once, and one request at a time on a connection.
 *
 * When all connections are busy a request waits here; its time counts all the same, from
 * when it was due.
 */
#pragma once

#include <sys/socket.h>

#include "answer.h"
#include "base/err.h"
#include "base/list.h"
#include "loop/loop.h"
#include "tally.h"

enum kind { KIND_ECHO, KIND_SIGN, KIND_BOOK, KIND_PLAIN };

struct request {
	struct list link; /* among those that wait */
	uint64_t seq;
	enum kind kind;
	bool fresh;	/* on a connection of its own */
	bool chunked;	/* KIND_ECHO: asks for a chunked answer */
	uint16_t lines; /* KIND_ECHO: length of the answer; KIND_SIGN: of the text */
	uint64_t due_us;
	uint64_t sent_us;   /* 0: no byte of it was written */
	bool permitted;	    /* a fault happened that may cost this request its answer */
	struct tally *step; /* NULL: between steps */
};

static inline enum method request_method(const struct request *r)
{
	return r->kind == KIND_SIGN ? METHOD_POST : METHOD_GET;
}

struct client_options {
	struct sockaddr_storage addr;
	socklen_t addr_len;
	char host[256]; /* the Host field */
	uint32_t connections;
	uint32_t timeout_ms; /* from sending to the end of the answer */
	uint32_t waiting;    /* at most so many wait; beyond it a request is UNSENT */
	size_t body_max;
};

struct client {
	struct loop *loop;
	struct client_options o;
	struct list idle, busy, waiting; /* the longest idle first */
	uint32_t idle_count, busy_count, waiting_count;
	uint32_t busy_most, waiting_most;
	bool pumping;
	uint64_t opened;	  /* connections */
	uint64_t router_fault_us; /* of the last that is still going on; 0: none */
	/* Writes the whole request (head and body). */
	void (*write)(struct client *c, const struct request *r, struct buf *out);
	/* It is settled: OUTCOME_OK stands for a whole, well-formed answer with status 200, whose
	 * content `a` is still to be judged; otherwise `detail` says more (`a` is NULL when nothing
	 * was sent). `a` is valid until the callee sends another request. */
	void (*on_end)(struct client *c, struct request *r, enum outcome o, const struct answer *a,
		       const char *detail);
	void (*on_waits)(struct client *c, struct request *r);
	void (*on_stray)(struct client *c); /* bytes that answer nothing */
};

/* Fills *ret from "127.0.0.1:80", "[::1]:80" or "unix:/path". */
int client_addr(const char *text, struct client_options *ret, struct err *e);

void client_init(struct client *c, struct loop *loop, const struct client_options *o);
void client_fini(struct client *c); /* closes all; requests in it are not settled */
/* Sends it at once or lets it wait; on_end is called for it exactly once, perhaps before this
 * returns. The memory stays the caller's. */
void client_send(struct client *c, struct request *r);
/* Settles all that wait as UNSENT. */
void client_drop_waiting(struct client *c);

struct client_in_flight {
	uint64_t all, posts; /* sent and unanswered at this moment */
};
/* The router dies now: what was sent and is unanswered may fail. So may what is sent from now on
 * over a connection that exists now, because its end cannot be seen yet; that is over when a
 * connection that was opened later brings a first answer. */
struct client_in_flight client_router_fault(struct client *c, uint64_t now_us);
/* An instance dies now: POSTs that were sent and are unanswered may fail. */
struct client_in_flight client_instance_fault(struct client *c);
struct client_in_flight client_count_in_flight(struct client *c); /* permits nothing */
