/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the router share. Who owns what, and who may touch it:
 *
 *	main thread     the keeper's channel, routing tables, probes. Never a user's byte.
 *	router threads  each its own loop, client and target connections, buffers, and its own
 *	                view of apps and targets (struct app, struct target).
 *	shared          struct shared_app, struct shared_target: only atomics; reference counted.
 *
 * A request is a `struct exchange`; it ties a `struct client` to a `struct upstream` (a
 * connection to a target) through two `struct stream`s, one for each direction.
 */
#pragma once

#include <errno.h>
#include <netinet/in.h>
#include <pthread.h>
#include <stdatomic.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>

#include "base/clock.h"
#include "base/list.h"
#include "base/log.h"
#include "base/map.h"
#include "core/balance.h"
#include "core/bucket.h"
#include "core/budget.h"
#include "core/eject.h"
#include "core/hold.h"
#include "core/idle.h"
#include "core/near.h"
#include "core/policy.h"
#include "core/retry.h"
#include "core/silence.h"
#include "core/table.h"
#include "core/tally.h"
#include "loop/loop.h"
#include "wire/access.h"
#include "wire/boundary.h"
#include "wire/http1.h"
#include "wire/msg.h"
#include "wire/password.h"
#include "wire/ring.h"
#include "wire/shm.h"

#define BUFFER_SMALL 2048u   /* a usual head */
#define BUFFER_LARGE 32768u  /* what is read at once */
#define BUFFER_MOST (128u * 1024) /* a head, at the largest limit that can be configured */
#define POOL_KEEPS 1024	     /* free objects of a kind that a thread keeps */
#define ACCEPTS_PER_TURN 8
#define GREETS_PER_TURN 2    /* steps of TLS handshakes, for new bytes, and of those put off before */
#define ACCEPT_PAUSE_MS 100
#define PUMP_ROUNDS 16	     /* reads for one stream before others get their turn */
#define IDLE_MS 60000	     /* of a pooled connection */
#define IDLE_MAX 256	     /* pooled connections to a target in a thread */
#define LINGER_MS 2000	     /* reading out after an answer that closes */
#define LINGER_BYTES (256u * 1024)
#define TRIED_MAX 8
#define INTERIM_MAX 16	     /* 1xx answers to one request */
#define TICK_MS 500
#define WAIT_FIRST_MS 5	     /* look again for a place that nothing announces */
#define WAIT_MOST_MS 50

struct thread;
struct exchange;
struct conn;
struct tls_certs;
struct tls_thread;

/* --- memory (pool.c) --- */

struct buffer {
	struct buffer *next; /* in the free list */
	uint32_t cap, at, len; /* bytes at data + at */
	char data[];
};

struct pool { /* free objects of one size */
	void *first;
	uint32_t count;
	uint32_t size;
};

struct buffer *buffer_get(struct thread *t, uint32_t cap); /* NULL: no memory (counted) */
void buffer_put(struct thread *t, struct buffer **b);	   /* harmless on NULL */
/* An object of the pool, with what it had in it when it was put back; zeroed when new. */
void *pool_get(struct thread *t, struct pool *p);
/* False: the pool is full and the caller must free() the object, after ending its timers. */
bool pool_put(struct pool *p, void *object);

/* --- connections (conn.c) --- */

/* What stands between a connection and its socket, when it is not the socket itself. Each answers as
 * the system call does that it stands for: -1 and errno, EAGAIN when it must wait. */
struct conn_layer {
	ssize_t (*recv)(struct conn *c, void *p, size_t room);
	ssize_t (*send)(struct conn *c, const struct iovec *v, size_t n);
	int (*shut)(struct conn *c); /* no more will be sent */
	void (*close)(struct conn *c, bool reset); /* and gives up what the layer holds */
	void (*note)(struct conn *c, uint32_t events); /* the socket's; after conn_note() looked at them */
};

struct conn {
	struct loop_io io; /* its fd: -1 when a layer has none */
	const struct conn_layer *layer; /* NULL: the socket itself */
	void *layer_state;		/* its own */
	struct thread *t;
	struct buffer *in;
	bool readable, writable; /* as far as is known: cleared when a call says otherwise */
	bool half_closed;	 /* the peer sends no more */
	bool broken;		 /* it is gone altogether */
	bool is_unix;
	bool wants_out; /* EPOLLOUT is asked for, see conn.c */
};

/* What waits to be sent: the head (or another first part), then the piece of a body in hand. */
struct out {
	struct iovec v[5];
	uint8_t at, n;
};

void conn_init(struct conn *c, struct thread *t, void (*on_ready)(struct loop_io *, uint32_t));
int conn_watch(struct conn *c, int fd, bool is_unix); /* 0, or -1 with errno */
void conn_want_out(struct conn *c); /* there is no room: an event tells when there is */
void conn_close(struct conn *c); /* gives its buffer back too */
void conn_reset(struct conn *c); /* so that the peer cannot take what it got for the whole */
int conn_shut(struct conn *c);	 /* no more will be sent; 0, or -1 with errno */
void conn_note(struct conn *c, uint32_t events);
/* Reads into c->in (which it gets). > 0: bytes; 0: end; -EAGAIN; another -errno. */
int conn_read(struct conn *c);
/* 1: all is out; 0: the socket takes no more now; -errno. *sent grows by what was taken, *writes by
 * the calls that took something. */
int conn_send(struct conn *c, struct out *o, uint64_t *sent, uint32_t *writes);

static inline void out_set_head(struct out *o, const char *p, size_t len)
{
	o->v[0] = (struct iovec){(void *)p, len};
	o->at = 0;
	o->n = 1;
}
static inline void out_add(struct out *o, const void *p, size_t len)
{
	ensure(o->n < ARRAY_LEN(o->v));
	o->v[o->n++] = (struct iovec){(void *)p, len};
}
static inline bool out_pending(const struct out *o)
{
	return o->at < o->n;
}

/* --- streams (stream.c): one direction of an exchange --- */

struct stream {
	struct conn *from, *to;
	enum http1_framing framing; /* of what comes in */
	bool to_chunked;	    /* of what goes out */
	bool pass_trailer;
	bool piece; /* a piece of the body is in `out` */
	bool ended; /* the last piece was made */
	bool over;  /* all is out */
	uint64_t left; /* HTTP1_BODY_LENGTH: not taken yet */
	uint64_t most; /* bytes that a chunked body may have; 0: any number */
	uint64_t bytes; /* of body so far */
	uint64_t sent; /* bytes written in this try, heads and framing included */
	uint32_t writes;
	uint32_t used; /* input bytes that the piece in hand came from */
	bool in_trailer;
	struct http1_chunked chunked;
	struct boundary watch; /* where it may be ended, if it goes on for ever */
	int wrong; /* enum stream_result, once the framing was found to be wrong; else 0 */
	struct out out;
	char size_line[20];
};

enum stream_result {
	STREAM_WAIT_FROM, /* for bytes to come */
	STREAM_WAIT_TO,	  /* for room to send */
	STREAM_AGAIN,	  /* it had its turn */
	STREAM_OVER,
	STREAM_FROM_ENDED, /* before the body was complete */
	STREAM_FROM_BROKE, /* errno */
	STREAM_TO_BROKE,   /* errno */
	STREAM_BAD,	   /* framing */
	STREAM_TOO_LARGE,
	STREAM_NO_MEMORY,
};

void stream_start(struct stream *s, struct conn *from, struct conn *to,
		  enum http1_framing framing, uint64_t length, bool to_chunked);
enum stream_result stream_pump(struct stream *s);
/* Makes a piece of what was read already, if there is one. STREAM_OVER: made, or nothing there. */
enum stream_result stream_fill(struct stream *s);
void stream_consumed(struct stream *s); /* the piece in hand is out */

/* --- shared between threads (view.c) --- */

struct shared_target {
	_Atomic uint32_t refs;
	_Atomic uint32_t outstanding; /* requests and tunnels inside, all threads */
	_Atomic uint32_t health;      /* enum health_state; written by main */
	_Atomic uint32_t refused;     /* a thread met a refusal that main has not looked at */
	_Atomic uint64_t idle;	      /* what was learned of its idle connections: core/idle.h */
	_Atomic uint32_t suspect;     /* silent for too long; set by a thread, cleared by who hears of it */
	_Atomic uint32_t ejected;     /* enum eject_cause; written by main */
	_Atomic uint32_t streak;      /* tries that failed in a row */
	_Atomic uint64_t stuck_ms;    /* when it was last ejected as stuck; 0: never */
	_Atomic uint64_t up_since_ms; /* 0: since before this router */
	_Atomic uint64_t heard_ms;    /* the last sign of life; in the future: it is excused until then */
	uint64_t id;
	struct probe *probe; /* this one and all below: main's */
	struct eject *eject; /* NULL: never looked at */
	uint64_t judge_ms;   /* suspected: when its silence is taken for proven; else 0 */
};

/* Who came how often to an app with a rate. It begins anew when the rate is changed. */
struct limiter {
	_Atomic uint32_t refs;
	struct bucket_rate rate;
	struct bucket_table buckets;
};

static inline bool target_avoided(const struct shared_target *g)
{
	return atomic_load_explicit(&g->suspect, memory_order_relaxed) ||
	       atomic_load_explicit(&g->ejected, memory_order_relaxed);
}

struct shared_app {
	_Atomic uint32_t refs;
	_Atomic uint32_t waiting; /* requests in the waiting room, all threads */
	_Atomic uint64_t waiting_bytes;
	_Atomic uint64_t outage_since_ms; /* nobody can serve since; 0: someone can */
	_Atomic uint32_t waiters[SHM_THREADS / SHM_BANKS];
	struct limiter *limiter; /* main's: the newest; NULL: none */
	char name[TABLE_NAME_MAX + 1];
};

struct view {
	_Atomic uint32_t refs;
	const struct table *table; /* mapped */
	size_t size;
	struct shared_app **apps;
	struct shared_target **targets;
	struct limiter **limiters; /* by policy; NULL: no rate */
};

struct shared_app *shared_app_ref(struct shared_app *a);
void shared_app_unref(struct shared_app *a);
struct shared_target *shared_target_ref(struct shared_target *g);
void shared_target_unref(struct shared_target *g);
void view_unref(struct view *v);
void limiter_unref(struct limiter *l); /* harmless on NULL */

/* --- a thread's own view of apps and targets (apps.c) --- */

struct target {
	struct shared_target *shared;
	struct thread *t;
	struct app *app;
	struct shm_counts *n;
	struct list idle;   /* struct upstream, newest last */
	struct list h2;	    /* struct h2_up: connections that speak HTTP/2 */
	struct list active; /* struct upstream */
	struct loop_timer drain;
	struct loop_timer watch; /* armed while it owes answers, and some time longer */
	struct silence silence;
	uint64_t drain_until_ms, id, mark, serves_since_ms;
	uint32_t idle_count, slot, release, refs; /* exchanges, and 1 for the table */
	uint32_t seen; /* generation mark of the last table that had it */
	enum target_use use;
	uint16_t kind, addr_len;
	uint8_t addr[TABLE_ADDR_MAX];
	char name[MSG_NAME];
};

struct app {
	struct shared_app *shared;
	struct thread *t;
	struct shm_counts *n;
	struct table_app conf; /* its plain values */
	struct hold hold;
	struct hold_limits limits;
	struct budget budget; /* this thread's part of it */
	struct list waiting;	/* struct exchange, first come first */
	struct list in_waiting; /* of the thread's apps with waiters */
	struct loop_timer again;
	uint32_t again_ms;
	uint32_t inside; /* exchanges of this thread that are with a target */
	uint32_t waiting_count, turn, refs, slot, seen;
	bool looking; /* in wait_look() */
	uint32_t target_count;
	struct target **targets;
};

/* --- connections to targets (upstream.c) --- */

struct upstream {
	struct conn conn;
	struct target *target;
	struct exchange *x;    /* NULL: idle */
	struct list in_target; /* its idle or active ones */
	struct list in_age;    /* of the thread's idle ones, oldest first */
	uint64_t idle_since_ms, idle_ms; /* idle_ms: for how long it was, when it was taken */
	bool connecting, reused;
	bool outdated; /* the target has another address now */
	bool is_stream; /* of HTTP/2: h2_ask.c */
	bool unread;	/* the target has said that it does not work on what was sent */
};

enum connect_result { CONNECT_OK, CONNECT_GOING_ON, CONNECT_BACKLOG, CONNECT_FAILED };

/* Gets a connection to the target for x: a pooled one unless `fresh`. On CONNECT_OK and GOING_ON
 * x->up is set; on FAILED errno tells. */
enum connect_result upstream_get(struct exchange *x, struct target *g, bool fresh);
void upstream_close(struct upstream *u); /* its exchange must have let go of it */
void upstream_keep(struct upstream *u);	 /* back into the pool */
void upstream_drop_idle(struct target *g);
void upstream_outdate(struct target *g); /* keeps no connection that there is now */
void upstream_sweep(struct thread *t); /* closes those that were idle for too long */
int upstream_error(struct upstream *u);
/* Begins to connect c (initialised) to the target. 0: *ret_going_on says whether it is to be waited for; -1: errno. */
int upstream_connect(struct conn *c, const struct target *g, bool *ret_going_on);
/* Its target ended it when it had been idle for age_ms. */
void upstream_learn(struct target *g, uint64_t age_ms);

/* --- clients (client.c, accept.c) --- */

enum client_state {
	CLIENT_PROXY,
	CLIENT_GREET,
	CLIENT_IDLE,
	CLIENT_HEAD,
	CLIENT_BUSY,
	CLIENT_LINGER,
	CLIENT_H2,
	CLIENT_OFFERED, /* to the next router, which has not acknowledged it yet */
};

struct client {
	struct conn conn;
	struct exchange *x;
	struct h2 *h2; /* CLIENT_H2 */
	struct loop_timer timer;
	struct list in_again, in_thread;
	size_t scanned;
	uint64_t first_us; /* first byte of the request at hand */
	uint32_t lingered;
	enum client_state state;
	bool used;	/* a request came before */
	bool is_stream; /* of HTTP/2 */
	bool counted; /* among the connections of its address */
	bool https; /* the user speaks TLS */
	uint8_t addr[16];
	char ip[INET6_ADDRSTRLEN];
	uint16_t port;
	uint8_t before; /* CLIENT_OFFERED: the state that it was in */
};

struct listener {
	struct loop_io io;
	struct thread *t;
	const struct table_listener *conf; /* in the thread's table; NULL: not to be accepted from */
	struct list in_thread;
	struct loop_timer pause;
	uint64_t id;
	int fd;
};

void client_open(struct listener *l, int fd, const struct sockaddr_storage *peer);
enum client_from {
	FROM_LISTENER,
	FROM_PROXY,  /* who its client is, is not known yet: not counted as anyone's */
	FROM_ROUTER, /* it was let in already */
};
/* NULL: no memory, or there are too many of its address; fd is closed. addr: IPv4 as ::ffff:a.b.c.d. */
struct client *client_adopt(struct thread *t, int fd, const uint8_t addr[16], uint16_t port,
			    enum client_from from);
/* It is known who it is: requests may come, after a handshake. False: it is gone, for want of memory. */
bool client_begin(struct client *c);
void client_run(struct client *c); /* something may have become possible */
void client_expects_proxy(struct client *c);
void client_is_from(struct client *c, const uint8_t addr[16], uint16_t port);
/* IPv4 as ::ffff:a.b.c.d; of another family: zeros. */
void client_addr(const struct sockaddr_storage *from, uint8_t ret[16], uint16_t *ret_port);
void client_init(struct client *c, struct thread *t, void (*on_ready)(struct loop_io *, uint32_t));
void client_close(struct client *c);
void client_linger(struct client *c); /* no more is sent; what comes is read and thrown away */
enum client_after {
	AFTER_KEEP,   /* the next request may come */
	AFTER_LINGER, /* end it so that the answer arrives though more may come in */
	AFTER_CLOSE,
	AFTER_RESET, /* so that the client cannot take what it got for the whole */
};
void client_next(struct client *c, enum client_after after); /* the exchange is over */
void client_process(struct client *c); /* bytes may be there */
void client_run(struct client *c);     /* what its state says */
void client_refuse(struct client *c, enum http1_result r, const char *why); /* a bad head */
/* Run it again in this turn, after the others. */
void client_again(struct client *c);
void listener_add(struct thread *t, uint64_t id, int fd);
void listener_remove(struct thread *t, uint64_t id);
void listener_obey(struct listener *l); /* there is a new table */
void listener_leave(struct thread *t); /* takes what has come, and no more */

/* --- the PROXY protocol (proxied.c) --- */

void proxied_read(struct client *c);	/* CLIENT_PROXY: bytes are there */
int proxied_send(struct exchange *x); /* as the first bytes to x->up; 0 or -errno */

/* --- HTTP/2 with clients (h2.c; the map of its files is in h2_priv.h) --- */

/* Makes the client's connection, whatever layer is below it, an HTTP/2 session, whose preface (RFC
 * 9113, 3.4) is in conn.in or still to come. The client may be gone afterwards. */
void h2_open(struct client *c);
void h2_run(struct client *c);	/* bytes may be there, or room */
void h2_time(struct client *c); /* its timer */
/* No new streams: GOAWAY in two steps; the connection ends with the last stream. */
void h2_drain(struct client *c);
void h2_drain_all(struct thread *t);
void h2_flush(struct thread *t); /* the end of a turn: what it made is sent */
void h2_stream_run(struct client *c);
void h2_stream_over(struct client *c); /* there is no exchange (any more), and none will come */

/* --- HTTP/2 with targets (h2_up.c; likewise) --- */

/* As upstream_get(): a stream of a connection to the target that has a place for one more. */
enum connect_result h2_up_get(struct exchange *x, struct target *g, bool fresh);
void h2_up_drop_idle(struct target *g);	/* no new streams; each connection ends with its last */
/* Its exchange lets go of it. whole: after an answer that was read to its end; else the target is told that
 * nobody wants it any more. */
void h2_ask_close(struct upstream *u, bool whole);
int h2_ask_error(struct upstream *u);

/* --- exchanges (exchange.c, pick.c, reply.c, answer.c, wait.c) --- */

enum exchange_state { X_WAIT, X_CONNECT, X_ASK, X_REPLY, X_TUNNEL, X_OWN };

struct slice16 {
	uint16_t at, len; /* in the request head that is sent */
};

struct exchange {
	struct thread *t;
	struct client *client;
	struct app *app;       /* NULL: unknown */
	struct target *target; /* holds a place there */
	struct upstream *up;
	enum exchange_state state;
	struct loop_timer timer;
	struct list in_app; /* waiting */
	struct buffer *req, *ans;
	struct stream ask, reply;
	uint64_t start_us, wait_us, wait_since_us, sent_us, target_us, came_ms, until_ms;
	uint64_t wait_bytes;
	uint64_t limit_ms; /* when it must be over; 0: no limit */
	/* the request */
	bool tcp; /* it is a connection of a TCP app, and has no head: tcp.c */
	bool is_head, safe, upgrade, expects, te_trailers, old_client, keep;
	bool secure;	   /* it came over TLS; set for cookies alone */
	uint8_t near;	   /* enum table_near */
	uint64_t near_key; /* mark of the target (cookie; 0: none yet), or a hash */
	enum http1_framing framing;
	uint64_t length;
	struct slice16 method, host, path, id, agent, trace;
	/* how it goes */
	bool waited, upgraded, answer_begun, ask_failed, cut, waiting;
	bool leave_due, leave_ending; /* of a stream in a router that leaves; see leave.c */
	uint32_t leave_after_ms;
	uint64_t spoke_ms; /* of a tunnel: when the client last did; 0: never */
	int ask_error;
	bool up_reusable, fresh;
	bool owed;  /* the target has it whole and has not begun to answer */
	bool moved; /* away from a target that was stuck */
	bool stale; /* a connection that had ended broke under it */
	uint8_t tries, died_under, interim, tried_count;
	enum access_end end;
	uint16_t status;
	size_t scanned;
	struct {
		struct target *target;
		bool refused;
	} tried[TRIED_MAX];
	struct shm_counts *answer_n; /* of the target that answered */
	char answer_target[MSG_NAME];
	uint32_t answer_release;
};

/* A request head was parsed (t->head, which lies in the client's buffer). */
void exchange_begin(struct client *c);
void exchange_run(struct exchange *x);	 /* something may have become possible */
void exchange_route(struct exchange *x); /* pick a target and send, or wait */
void exchange_client_left(struct exchange *x);
void exchange_let_go(struct exchange *x, bool keep_up); /* of target and connection */
void exchange_finish(struct exchange *x, enum client_after after);
enum client_after exchange_after_cut(const struct exchange *x);
void exchange_cut(struct exchange *x); /* its answer has begun: it ends, and is counted as cut */
void exchange_cut_target(struct target *g); /* all that is inside */
/* Another router has it, and counts it as inside: it ends here without having ended. */
void exchange_handed(struct exchange *x);
struct app *exchange_app(struct thread *t, struct http1_slice host, struct http1_slice path);
struct exchange *exchange_new(struct client *c);
/* Gives x the connection that it needs. False: nobody can take it now. */
bool exchange_try(struct exchange *x);
void exchange_send(struct exchange *x); /* x->up is open */
void exchange_note_tried(struct exchange *x, struct target *g, bool refused);
/* x's target gave this error: if nobody listens there, the probes should know. */
void exchange_note_refused(struct exchange *x, int error);
void exchange_timer(struct exchange *x, uint32_t ms); /* 0: none */

/* broke.c */
/* The target broke: error as in struct retry_facts. */
void exchange_broke(struct exchange *x, int error);
/* Its target is stuck: it goes elsewhere when that is right, else it waits on. */
void exchange_move(struct exchange *x);

/* stuck.c: what the threads note about targets that fail */
void stuck_on_watch(struct loop_timer *timer);
void stuck_asked(struct exchange *x);	 /* all of it was sent */
void stuck_heard(struct target *g);	 /* bytes came from it */
void stuck_answered(struct exchange *x); /* its answer began; x->target_us is set */
void stuck_did_well(struct target *g);	 /* a try at it did not fail */
void stuck_dropped(struct exchange *x);	 /* it lets go of its target; harmless when nothing is owed */
void stuck_failed(struct target *g, int error); /* a try at it failed */
void stuck_move(struct thread *t);	 /* what was sent to stuck targets */

/* wait.c */
void wait_enter(struct exchange *x);
void wait_leave(struct exchange *x);
void wait_freed(struct app *app); /* a place at a target became free */
void wait_look(struct app *app); /* let go on whom it is now possible for */
void wait_refresh(struct app *app);

/* tcp.c */
void tcp_begin(struct client *c, struct app *app);
void tcp_connected(struct exchange *x);
void tcp_refuse(struct exchange *x, uint16_t status); /* what an answer would have had */
void tcp_broke(struct exchange *x, bool target);

/* reply.c: from the target's answer head on */
void reply_head(struct exchange *x); /* reads it; then goes on */
void reply_run(struct exchange *x);
void exchange_answered_by(struct exchange *x); /* its target, as it is now */
void tunnel_start(struct exchange *x, bool websocket);
void tunnel_run(struct exchange *x);

/* leave.c: another router takes this one's place */
void leave_begin(struct thread *t, int fd); /* hands over through fd; -1: nobody takes it */
bool leave_offer(struct client *c);	    /* true: it is the next router's, or soon will be */
/* While this router leaves: must the connection end after this answer? */
bool leave_closes(const struct client *c);
bool leave_stream(struct exchange *x); /* ends it if it can be ended now; then x is gone, or will be */
void leave_tunnel_run(struct exchange *x);
/* take.c: this one takes another's */
void take_begin(struct thread *t, int fd);

/* answer.c: our own. `close`: the framing is in doubt, or the rest of the request is unread. */
void answer_own(struct exchange *x, uint16_t status, const char *why, bool close);
/* With more lines of the head ("Name: value\r\n"), to which the place for Retry-After belongs. */
void answer_more(struct exchange *x, uint16_t status, const char *why, bool close, const char *more);
/* 200 with these bytes, which are copied. */
void answer_bytes(struct exchange *x, const char *bytes, uint32_t len);
void answer_run(struct exchange *x);
/* challenge.c: answers what a certificate is got by. False: it is not for that. */
bool challenge_answers(struct exchange *x, const struct http1_head *h);
/* redirect.c: answers a plain request for an app that wants https. False: it is not for that. */
bool redirect_to_https(struct exchange *x, const struct http1_head *h);

/* policy.c: what the operator of an app decided for it (core/policy.h). The exchange keeps no pointer
 * to it: a table may be swapped while it goes on. */
void policy_request(struct exchange *x, const struct table_policy *p, struct http1_head *h);
/* Counts a new connection of its address, if they have a limit. False: there are as many as allowed. */
bool policy_connects(struct client *c);
void policy_disconnects(struct client *c); /* harmless on one that was not counted */
/* The request is not for the app. True: it was answered, and x may be gone. */
bool policy_answers(struct exchange *x, const struct table_policy *p, const struct http1_head *h);
/* The same of a connection of a TCP app, which is reset then. */
bool policy_resets(struct exchange *x, const struct table_policy *p);
void policy_answer(struct exchange *x, const struct table_policy *p, struct http1_head *h);

/* headers.c */
bool headers_request(struct exchange *x, const struct http1_head *h); /* false: no memory */
bool headers_answer(struct exchange *x, const struct http1_head *h, bool chunked, bool close);
bool headers_interim(struct exchange *x, const struct http1_head *h);
/* Does a trusted proxy before us say that its user speaks TLS? */
bool headers_proxy_https(const struct exchange *x, const struct http1_head *h);

/* count.c */
void count_own(struct exchange *x, uint16_t status);
void count_end(struct exchange *x);

/* --- threads (thread.c) --- */

/* --- TLS (tls.c, tls_certs.c) --- */

enum tls_step { TLS_DONE, TLS_WAIT, TLS_PLAIN, TLS_FAILED };
enum tls_protocol { TLS_HTTP1, TLS_H2 };

void tls_init(void); /* before rights are given up */
/* Puts TLS over a client's socket that is watched already. 0, or -1: no memory, or no certificate. */
int tls_open(struct conn *c);
/* Goes on with the handshake. PLAIN: the client spoke HTTP without TLS; the layer is gone, nothing was
 * taken from what it said. FAILED is counted, and the connection is to be closed. */
enum tls_step tls_greet(struct conn *c);
void tls_late(struct conn *c); /* it is to be closed since the handshake took too long: counted */
/* After DONE: what both sides agreed to speak (ALPN). */
enum tls_protocol tls_protocol(const struct conn *c);
/* What the keeper sent: mapped, checked and parsed. NULL: it cannot be used (e). */
struct tls_certs *tls_certs_take(int fd, struct err *e);
struct tls_certs *tls_certs_ref(struct tls_certs *x);
void tls_certs_unref(struct tls_certs *x);
/* From now on this thread's handshakes use them (taken over). */
void tls_thread_take(struct thread *t, struct tls_certs *x);

enum command_type { COMMAND_TABLE, COMMAND_LISTEN, COMMAND_UNLISTEN, COMMAND_CERTS, COMMAND_TAKE, COMMAND_LEAVE };

struct command {
	struct command *next;
	enum command_type type;
	struct view *view;
	struct tls_certs *certs;
	uint64_t id;
	int fd;
};

struct thread {
	struct router *r;
	uint32_t index;
	pthread_t pthread;
	struct loop loop;
	struct loop_io wake_io;
	int wake_fd;
	_Atomic(struct command *) commands;
	_Atomic bool look; /* health or places changed: look at what waits */
	_Atomic bool move; /* a target was ejected as stuck: look at what was sent to it */
	struct loop_timer tick, sweep;
	struct view *view;
	const struct table *table;
	struct app **apps; /* by index in the table */
	uint32_t app_count, mark;
	struct map apps_by_slot, targets_by_id;
	struct list waiting_apps, idle_upstreams, again, listeners;
	struct list h2_sessions, h2_flush; /* struct h2: all of them; struct h2_link: with frames to send */
	struct buffer *h2_out;		   /* scratch, for those frames */
	void *h2_frame;			   /* scratch of nghttp2 */
	struct pool clients, exchanges, upstreams, h2_streams, h2_asks, small, large;
	struct tls_thread *tls; /* NULL: it has had no certificate yet */
	struct list everyone; /* struct client, those that are offered excepted */
	struct leaving *leaving; /* NULL: this router stays */
	struct shm_thread *n;
	struct shm_counts nowhere; /* where what has no slot any more is counted */
	struct ring *ring;
	uint64_t random[2];
	uint64_t wall_offset_us; /* wall clock less monotonic clock */
	uint32_t paused_listeners;
	uint32_t greets; /* of GREETS_PER_TURN */
	struct http1_head head; /* of the request or answer being looked at: scratch */
	char host[256];
	char cookie[256]; /* scratch: a field that is set */
	struct password_hasher passwords;
	struct balance_target *balance; /* scratch */
	uint32_t balance_cap;
};

/* NULL: it has none. */
static inline const struct table_policy *policy_of(const struct app *app)
{
	return app->conf.policy ? &table_policies(app->t->table)[app->conf.policy - 1] : NULL;
}

int thread_init(struct thread *t); /* 0, or -1 with errno */
int thread_start(struct thread *t);
void thread_turn(struct thread *t, int max_ms); /* one turn of its loop, and what that made */
void thread_command(struct thread *t, struct command c);
void thread_wake(struct thread *t);
uint64_t thread_random(struct thread *t);
/* apps.c */
void apps_take(struct thread *t, struct view *v);
void app_unref(struct app *app);
void target_unref(struct target *g);

/* --- the process (router.c, view.c, probe.c, sandbox.c) --- */

struct router {
	struct loop loop;
	struct msg_channel keeper;
	struct shm *shm;
	struct ring *rings;
	int controller_bell, log_bell, main_bell;
	struct loop_io main_io;
	struct loop_timer beat;
	struct loop_timer look, verdict; /* eject.c */
	struct eject_seen *seen;	 /* scratch of it */
	uint32_t seen_cap;
	uint32_t thread_count;
	uint32_t bank, first_row; /* in the numbers: row first_row + i is thread i's */
	uint32_t uid, gid;
	struct thread *threads;
	struct view *view; /* the newest */
	struct tls_certs *certs; /* likewise; NULL: none */
	struct map apps_by_slot, targets_by_id;
	struct list probes;
	uint32_t probes_open;
	bool ready, started;
	_Atomic uint32_t clients;
	uint64_t address_key[2];
	struct tally_table addresses; /* their connections */
	_Atomic uint32_t leavers; /* threads that leave */
	bool leaving;
	uint64_t leave_until_ms;
	struct loop_timer leave_look;
	_Atomic bool refused; /* some target's `refused` is set */
	_Atomic bool accused; /* some target's `suspect` is, or its `streak` is long */
};

/* Two routers may look at the same targets; the numbers have one word for each. */
static inline bool router_speaks(const struct router *r)
{
	return atomic_load(&r->shm->speaker) == r->bank;
}

void view_take(struct router *r, int fd, uint64_t generation);
void view_outage(struct router *r, uint32_t app); /* after health changed there */
void bell_ring(int fd);
void probe_take(struct router *r, struct view *v); /* a new table */
void probe_refused(struct router *r);
/* probe_h2.c: a question in HTTP/2, over a connection of its own. path "": whether that is spoken. */
struct probe_h2;
struct probe_h2 *probe_h2_ask(int fd, const char *host, const char *path); /* NULL: errno */
/* Bytes are there. > 0: the answer: a status, 200 when none was asked for; 0: it is still to come; -errno. */
int probe_h2_read(struct probe_h2 *p, int fd);
void probe_h2_end(struct probe_h2 *p); /* harmless on NULL; its socket is the caller's */
void probe_now(struct shared_target *g); /* unless one is on its way already */
/* eject.c */
void eject_start(struct router *r);
void eject_accused(struct router *r);
/* A probe ended. answered: whatever it was, so the target is not stuck. */
void eject_probe_done(struct router *r, struct shared_target *g, uint32_t app, bool answered, bool passed);
void eject_came_up(struct router *r, struct shared_target *g, uint32_t app);
/* Gives up every right that carrying requests does not need. Exits when that fails. */
void sandbox_enter(const struct router *r);
