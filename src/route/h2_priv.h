/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of HTTP/2 share (h2.c: sessions; h2_stream.c: streams as clients;
 * h2_frames.c: what nghttp2 calls back).
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

#define H2_WINDOW (512u * 1024) /* body bytes of all streams of a connection that may wait here; */
#define H2_STREAM_MOST (256u * 1024) /* of one of them, whose target takes all at once */
#define H2_OUT (64u * 1024)	/* frames that are sent at once; what may wait for a socket */
#define H2_FRAME_MIN 16384u	/* of nghttp2's own buffer for a frame; */
#define H2_FRAME (H2_FRAME_MIN + 512)
#define H2_TABLE_IN 4096u	/* HPACK: what requests are told in, */
#define H2_TABLE_OUT 1024u	/* and answers */
#define H2_BOMB 8		/* a list of fields so many times what is allowed ends the connection */
#define H2_DRAIN_MS 1000	/* for the echo that says that all frames on their way are here */
#define H2_END_MS 2000		/* for the last frames to be taken */
#define H2_TINY 64

enum h2_wait { H2_BUSY, H2_IDLE, H2_HEAD, H2_DRAINING, H2_ENDING };

struct h2 {
	struct client *c;
	nghttp2_session *ng;
	struct list streams, in_thread, in_flush;
	uint32_t stream_count;
	enum h2_wait wait; /* what the client's timer stands for */
	bool draining, last_said;
	bool full; /* no room for the DATA frame that nghttp2 wants to send */
	bool making; /* the session */
	struct buffer *left; /* what the socket did not take */
	struct flood flood;
	struct h2_stream *reading; /* whose fields are coming in */
	struct h2_head head;
	uint64_t list_bytes; /* of them, as RFC 9113, 6.5.2 counts */
};

enum h2_out { OUT_HEAD, OUT_BODY, OUT_TRAILER, OUT_OVER };

struct h2_stream {
	struct client client; /* its connection has no descriptor; conn.in: the text of the request */
	struct h2 *h2;
	struct list in_h2;
	int32_t id;
	/* what came and was not read yet */
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
	bool submitted, deferred, local_ended;
	bool done;   /* no exchange, and none to come */
	bool closed; /* nghttp2 knows it no more */
	bool cut;    /* by us: not the client's doing */
};

static inline struct h2_stream *h2_stream_of(struct client *c)
{
	return container_of(c, struct h2_stream, client);
}

/* h2.c */
void h2_flush_soon(struct h2 *h);
void h2_calm(struct h2 *h); /* ends a connection that asks for too much */
void h2_note(struct h2 *h, enum flood_kind kind);
void h2_say_last(struct h2 *h); /* the second GOAWAY */
void h2_wait(struct h2 *h);	/* sets the timer anew after streams came or went */
void h2_wait_over(struct h2 *h);

/* h2_stream.c */
struct h2_stream *h2_stream_new(struct h2 *h, int32_t id); /* NULL: no memory */
void h2_stream_free(struct h2_stream *s);
void h2_stream_gone(struct h2_stream *s); /* its connection is */
bool h2_stream_data(struct h2_stream *s, const uint8_t *p, size_t len); /* false: no memory */
void h2_stream_readable(struct h2_stream *s);
void h2_stream_dropped(struct h2_stream *s); /* gives up what is queued; the others get the window */
void h2_stream_linger(struct h2_stream *s);  /* it was answered; the request may go on */

/* h2_answer.c: the text of an answer, taken apart. h2_take: how much of it was taken; -1: it is wrong,
 * which is ours or the target's fault. */
ssize_t h2_take(struct h2_stream *s, const char *p, size_t len);
int h2_submit_trailer(struct h2_stream *s);

/* h2_frames.c */
nghttp2_session *h2_session_new(struct h2 *h); /* NULL: no memory */
