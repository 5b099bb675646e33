/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of HTTP/2 share. Two sides of one thing: clients that speak it to us, and targets that we
 * speak it to. What they have in common:
 *
 *	h2_link.c	a connection: an nghttp2 session, fields that come in, what goes out once a turn
 *	h2_flow.c	a stream: the text of HTTP/1.1 on our side of it, frames on the other; what comes,
 *	h2_flow_out.c	and what goes out
 *
 * and what each has of its own:
 *
 *	h2.c		sessions of clients
 *	h2_stream.c	streams of theirs, as clients that speak HTTP/1.1
 *	h2_frames.c	what nghttp2 calls back for those
 *	h2_answer.c	the heads of answers
 *
 *	h2_up.c		connections to targets
 *	h2_ask.c	streams of theirs, as connections to targets that speak HTTP/1.1
 *	h2_up_frames.c	what nghttp2 calls back for those
 *
 * Rule of who calls whom: nghttp2 calls back from within reading (h2_run) and writing
 * (the flush at the end of a turn) only, and what it calls never runs an exchange: it
 * notes, and asks for a turn (client_again). Exchanges, in their turns, only submit.
 */
#pragma once

#include <nghttp2/nghttp2.h>

#include "core/flood.h"
#include "route/route_priv.h"
#include "wire/h2_head.h"

#define H2_WINDOW (512u * 1024) /* body bytes of all streams of a client's connection that may wait here; */
#define H2_STREAM_FIRST 65535u	     /* of a stream, of either side, at first (RFC 9113, 6.9.2) */
#define H2_STREAM_MOST (256u * 1024) /* and when its reader takes all at once */
#define H2_OUT (64u * 1024)	/* frames that are sent at once; what may wait for a socket */
#define H2_FRAME_MIN 16384u	/* of nghttp2's own buffer for a frame; */
#define H2_FRAME (H2_FRAME_MIN + 512)
#define H2_TABLE_IN 4096u	/* HPACK: what is told to us in, */
#define H2_TABLE_OUT 1024u	/* and what we tell */
#define H2_BOMB 8		/* a list of fields so many times what is allowed ends the connection */
#define H2_DRAIN_MS 1000	/* for the echo that says that all frames on their way are here */
#define H2_END_MS 2000		/* for the last frames to be taken */
#define H2_TINY 64

struct h2_link;
struct h2_flow;

/* --- connections, whoever is at the other end (h2_link.c) --- */

struct h2_role {
	/* The end of a turn. 1: all is out; 0: the socket takes no more; -1: it broke. The last thing that is
	 * done with l. */
	void (*flushed)(struct h2_link *l, int result);
	void (*calm)(struct h2_link *l); /* the other end asks for too much: it is to lose the connection */
	void (*wake)(struct h2_flow *f); /* something may have become possible for its exchange */
	/* The text of a head that is to be sent: how much of it was taken; -1: it is wrong. */
	ssize_t (*take_head)(struct h2_flow *f, const char *p, size_t len);
};

struct h2_link {
	const struct h2_role *role;
	struct conn *conn;
	nghttp2_session *ng;
	struct list in_flush;
	struct buffer *left; /* what the socket did not take */
	struct flood flood;
	uint32_t writes; /* that took something */
	bool ahead;  /* the window of the connection is given back when bytes come, not when they are read */
	bool full;   /* no room for the DATA frame that nghttp2 wants to send */
	bool making; /* the session */
	/* Fields that are coming in, and become text: */
	struct h2_flow *reading;
	struct buffer **text;
	struct h2_head head;
	uint32_t most;	     /* bytes that they may have */
	uint64_t list_bytes; /* of them, as RFC 9113, 6.5.2 counts */
};

/* --- streams, as text of HTTP/1.1 (h2_flow.c) --- */

enum h2_out { OUT_HEAD, OUT_BODY, OUT_TRAILER, OUT_OVER };

struct h2_flow {
	struct h2_link *link;
	struct conn *conn; /* without a descriptor: h2_flow_layer, with this as its state */
	int32_t id;
	/* what came and was not read yet */
	struct buffer *heads; /* of answers; whoever gets requests has theirs otherwise */
	uint32_t head_count;
	struct buffer *body, *body_last, *trailer;
	uint32_t queued; /* bytes of body */
	uint32_t window, taken; /* what may be sent ahead; and was taken since that grew */
	uint32_t piece;	 /* of them, in the chunk at hand */
	uint32_t frame_len;
	const char *frame; /* framing that is read first */
	char line[12];
	enum http1_result refused;
	const char *why;
	/* what goes out */
	struct buffer *out, *out_trailer;
	enum h2_out state;
	enum http1_framing framing;
	uint64_t left;
	struct http1_chunked dechunk;
	bool chunked, tunnel, is_head;
	bool remote_ended, end_read; /* END_STREAM came; was read */
	bool deferred, local_ended;
	bool closed; /* nghttp2 knows it no more */
	int error;   /* then: how it ended, unless in order; 0: by an end of the connection */
};

extern const struct conn_layer h2_flow_layer;

/* --- clients --- */

enum h2_wait { H2_BUSY, H2_IDLE, H2_HEAD, H2_DRAINING, H2_ENDING };

struct h2 {
	struct h2_link link;
	struct client *c;
	struct list streams, in_thread;
	uint32_t stream_count;
	enum h2_wait wait; /* what the client's timer stands for */
	bool draining, last_said;
};

struct h2_stream {
	struct client client; /* conn.in: the text of the request, its head from the start */
	struct h2_flow flow;
	struct h2 *h2;
	struct list in_h2;
	bool submitted;
	bool done; /* no exchange, and none to come */
	bool cut;  /* by us: not the client's doing */
};

static inline struct h2_stream *h2_stream_of(struct client *c)
{
	return container_of(c, struct h2_stream, client);
}

static inline struct h2 *h2_of(struct h2_link *l)
{
	return container_of(l, struct h2, link);
}

static inline struct h2_stream *h2_stream_of_flow(struct h2_flow *f)
{
	return f ? container_of(f, struct h2_stream, flow) : NULL;
}

/* h2_link.c */
/* Makes l->ng; l->role and l->conn are set. more: sets the callbacks of its side. False: no memory. */
bool h2_link_open(struct h2_link *l, bool server, void (*more)(nghttp2_session_callbacks *cb));
void h2_link_fini(struct h2_link *l); /* harmless on one that was not opened */
void h2_flush_soon(struct h2_link *l);
void h2_note(struct h2_link *l, enum flood_kind kind); /* one more frame that asks for something */
void h2_note_control(struct h2_link *l, uint8_t type); /* one of a type that costs the same from either end */
/* Feeds what was read. Negative: the session is of no use any more, for this reason of nghttp2's. */
ssize_t h2_link_feed(struct h2_link *l);
/* Fields of f follow, at most `most` bytes: they become text in a new buffer at *text. False: no memory. */
bool h2_link_begin(struct h2_link *l, struct h2_flow *f, struct buffer **text, uint32_t most, enum h2_head_kind kind);
/* They are over: the text is whole, or f->refused says why it is not. */
void h2_link_end(struct h2_link *l, bool ended, const char *key);

/* h2_flow.c, h2_flow_out.c */
void h2_flow_init(struct h2_flow *f, struct h2_link *l, struct conn *c); /* of zeros; c is an open one */
bool h2_flow_data(struct h2_flow *f, const uint8_t *p, size_t len); /* false: no memory */
void h2_flow_readable(struct h2_flow *f);
void h2_flow_head(struct h2_flow *f, struct buffer *text); /* takes it over */
void h2_flow_dropped(struct h2_flow *f); /* gives up what is queued; the others get the window */
size_t h2_flow_fields(const struct http1_head *head, bool tunnel, nghttp2_nv *ret);
/* How much of the text was taken; -1: it is wrong, which is ours or its maker's fault. */
ssize_t h2_flow_take(struct h2_flow *f, const char *p, size_t len);
void h2_flow_resume(struct h2_flow *f); /* there is more, or the end */
nghttp2_data_provider h2_flow_body(struct h2_flow *f);
int h2_flow_send_data(nghttp2_session *ng, nghttp2_frame *f, const uint8_t *head, size_t len,
		      nghttp2_data_source *source, void *user);

/* h2.c */
void h2_calm(struct h2_link *l); /* ends a connection that asks for too much */
void h2_say_last(struct h2 *h); /* the second GOAWAY */
void h2_wait(struct h2 *h);	/* sets the timer anew after streams came or went */
void h2_wait_over(struct h2 *h);

/* h2_stream.c */
struct h2_stream *h2_stream_new(struct h2 *h, int32_t id); /* NULL: no memory */
void h2_stream_free(struct h2_stream *s);
void h2_stream_gone(struct h2_stream *s); /* its connection is */
void h2_stream_wake(struct h2_flow *f);
void h2_stream_linger(struct h2_stream *s);  /* it was answered; the request may go on */

/* h2_answer.c */
ssize_t h2_answer_head(struct h2_flow *f, const char *p, size_t len);

/* h2_frames.c */
void h2_frames_set(nghttp2_session_callbacks *cb);

/* --- targets --- */

#define H2_UP_WINDOW (1024u * 1024) /* of a connection on their way */
#define H2_UP_HEAD (BUFFER_LARGE - 1024) /* of an answer; a reader has BUFFER_LARGE for its text */
#define H2_PING_MS 15000	   /* silence, over TCP, after which a connection is asked whether it is there */
#define H2_PING_AGAIN_MS 300000	   /* servers of gRPC take PINGs that come more often for an attack */

struct h2_up {
	struct h2_link link;
	struct conn conn;
	struct target *target; /* referenced */
	struct list in_target, asks;
	struct loop_timer timer;
	uint32_t ask_count; /* streams that nghttp2 knows, or will know */
	uint64_t heard_ms, idle_since_ms, pinged_ms;
	uint64_t linger_ms; /* when a stream that nobody reads any more must have been ended; 0: never */
	bool connecting;
	bool old;     /* it had a stream before */
	bool closing; /* no new streams */
	bool goodbye; /* GOAWAY was said */
	bool pinging; /* the answer is due */
	bool more;    /* there is more to be read */
};

struct h2_ask {
	struct upstream up; /* its conn has no descriptor */
	struct h2_flow flow;
	struct h2_up *h2;   /* NULL: the stream is over, or its connection is; what came can still be read */
	struct list in_h2;
	struct buffer *text; /* of a head that is coming in */
	bool head_made;	     /* the HEADERS of the request were, when there had been so many writes: */
	uint32_t made_at;
	bool final;	     /* the head of the answer came */
	bool done;	     /* its exchange has let go of it; nghttp2 has not */
	uint64_t done_ms;    /* since then */
};

static inline struct h2_up *h2_up_of(struct h2_link *l)
{
	return container_of(l, struct h2_up, link);
}

static inline struct h2_ask *h2_ask_of_flow(struct h2_flow *f)
{
	return f ? container_of(f, struct h2_ask, flow) : NULL;
}

/* h2_up.c */
void h2_up_wait(struct h2_up *h); /* what is waited for has changed */

/* h2_ask.c */
struct h2_ask *h2_ask_new(struct h2_up *h); /* NULL: no memory */
/* It is over for nghttp2, or with its connection. The connection may be idle then. */
void h2_ask_over(struct h2_ask *a);
void h2_ask_wake(struct h2_flow *f);
void h2_ask_reset(struct h2_ask *a, int error, uint32_t code); /* by us: what came cannot be used */
ssize_t h2_ask_head(struct h2_flow *f, const char *p, size_t len);

/* h2_up_frames.c */
void h2_up_frames_set(nghttp2_session_callbacks *cb);
