/* SPDX-License-Identifier: Apache-2.0
 *
 * Every message between Upstate's processes, in one table.
 *
 * A message is one packet on a SOCK_SEQPACKET socket pair: a header, a fixed
 * struct, then (where the table says so) a tail of bytes, and descriptors
 * beside it. Nothing here comes from a network; sizes are checked all the same,
 * and a message that does not fit its row is a broken peer: the channel ends.
 *
 * What is a state rather than an event is not sent but kept where both sides
 * see it: the routing table (a sealed memory file, core/table.h) and the
 * numbers (wire/shm.h). So a process that missed messages has missed nothing.
 */
#pragma once

#include "base/err.h"
#include "loop/loop.h"

#define MSG_CHANNEL_FD 3	  /* where each child process finds its end */
#define MSG_TAIL_MAX (96u * 1024) /* bytes after the fixed part */
#define MSG_FDS_MAX 8
#define MSG_NAME 96  /* "guestbook@12/1" with room */
#define MSG_PATH 108 /* as sun_path */
#define MSG_REASON 200

/* The processes. X(name, what it does) */
#define PART_TABLE(X)                                                                              \
	X(KEEPER, keeper, "holds the sockets, starts and reaps everything")                        \
	X(ROUTER, router, "carries the users' requests")                                           \
	X(CONTROLLER, controller, "decides, remembers and tells")                                  \
	X(LOGGER, logger, "keeps what instances print and the access log")                        \
	X(WATCHER, watcher, "measures")                                                            \
	X(OTHER, other, "a second router: the next one until it serves, or the one before")

enum part {
#define X(name, lower, what) PART_##name,
	PART_TABLE(X)
#undef X
	PART_COUNT
};

const char *part_name(enum part part);

/* X(NAME, struct tag, descriptors, has a tail, from -> to: meaning) */
#define MSG_TABLE(X)                                                                               \
	/* any child -> keeper */                                                                  \
	X(READY, msg_none, 0, 0, "I have started and can work")                                    \
	X(BEAT, msg_none, 0, 0, "I am not stuck (each second)")                                    \
	/* controller -> keeper */                                                                 \
	X(LISTEN, msg_listen, 0, 0, "hold this listening socket; answered by LISTENING")           \
	X(UNLISTEN, msg_id, 0, 0, "close the listening socket with this id")                       \
	X(START, msg_start, 0, 1, "run this instance and keep it running (idempotent by id)")      \
	X(STOP, msg_stop, 0, 0, "end this instance and forget it (idempotent by id)")              \
	X(TABLE, msg_table, 1, 0, "route by this table; also keeper -> router")                    \
	X(CERTS, msg_certs, 1, 0, "certificates (core/certs.h); also keeper -> router, controller") \
	X(CHECKS, msg_checks, 1, 0, "measure these (JSON, sealed); also keeper -> watcher")            \
	X(MEASURE, msg_measure, 0, 0, "measure this check soon; also keeper -> watcher")                  \
	X(SHUTDOWN, msg_none, 0, 0, "end everything in order")                                     \
	X(RESTART, msg_restart, 0, 0, "put another router in the place of the one that serves")       \
	X(UPGRADE, msg_none, 1, 0, "become this program, with all that you hold")                  \
	/* keeper -> controller; on its start one of each for all that is, then SYNCED */          \
	X(SHARED, msg_shared, MSG_FDS_MAX, 0, "memory and bells; to every child, first")           \
	X(LISTENING, msg_listening, 1, 0, "the socket is held (descriptor) or could not be had")   \
	X(INSTANCE, msg_instance, 0, 0, "what an instance is doing, at each change")               \
	X(PART, msg_part, 0, 0, "what one of Upstate's own processes is doing")                    \
	X(SYNCED, msg_none, 0, 0, "you now know all that I hold")                                  \
	X(RELOAD, msg_none, 0, 0, "a person sent SIGHUP")                                          \
	X(OUTCOME, msg_outcome, 0, 0, "what became of RESTART, UPGRADE")                                    \
	/* keeper -> router */                                                                     \
	X(LISTENER, msg_listener, 1, 0, "accept on this socket")                                   \
	X(UNLISTENER, msg_id, 0, 0, "stop accepting on the socket with this id")                   \
	X(TAKE, msg_thread, 1, 0, "another router hands over to this thread of yours")             \
	X(LEAVE, msg_thread, 1, 0, "take nothing new; hand over what this thread has (none: drain)") \
	/* keeper -> logger */                                                                     \
	X(STREAM, msg_stream, 1, 0, "drain the output of this instance until it ends")             \
	X(LOGCONF, msg_logconf, 0, 0, "sizes of log files; also controller -> keeper")

enum msg_type {
	MSG_NONE,
#define X(name, type, fds, tail, what) MSG_##name,
	MSG_TABLE(X)
#undef X
	MSG_COUNT
};

struct msg_none {
	uint32_t zero;
};

struct msg_id {
	uint64_t id;
};

enum listen_kind { LISTEN_USERS, LISTEN_ADMIN, LISTEN_CONTROL };

struct msg_listen {
	uint64_t id; /* the controller's number for it: a hash of kind and address */
	uint32_t kind;
	uint32_t backlog;
	char addr[MSG_PATH]; /* "127.0.0.1:8080", "[::]:80", or a path for LISTEN_CONTROL */
	uint32_t group;	     /* of a path: gid that may connect; (uint32_t)-1: owner only */
};

/* By which the controller, the keeper, the router and the routing table know a listening socket. */
uint64_t msg_listen_id(enum listen_kind kind, const char *addr);

struct msg_listening {
	uint64_t id;
	uint32_t kind;
	int32_t error; /* 0, or the errno of the call that failed */
	char addr[MSG_PATH];
	char reason[MSG_REASON]; /* for a person, with who holds the port if it can be known */
};

struct msg_thread {
	uint32_t index; /* one message for each thread of a router */
};

struct msg_listener {
	uint64_t id;
	uint32_t kind;
	char addr[MSG_PATH];
};

/* The start order of an instance. The tail is three blocks of NUL-terminated strings:
 * argc arguments, envc "NAME=value" pairs, writec paths that it may write below. */
struct msg_start {
	uint64_t id;
	char app[64];
	char name[MSG_NAME]; /* "guestbook@12/1", for messages and logs */
	char dir[512];	     /* the release: working directory, read-only */
	char run_dir[512];   /* its own: socket, notify socket, tmp/ (made by the keeper) */
	char data_dir[512];  /* its data, or "" (made by the keeper, owned by uid) */
	uint32_t uid, gid;   /* run as; (uint32_t)-1: as the keeper's own user */
	uint32_t argc, envc, writec;
	uint32_t stop_signal, grace_ms; /* used when the keeper itself ends it */
	uint32_t files_max;		/* RLIMIT_NOFILE; 0: as it is */
};

struct msg_stop {
	uint64_t id;
	uint32_t signal;
	uint32_t grace_ms; /* then SIGKILL to the whole group */
};

struct msg_table {
	uint64_t generation;
};

struct msg_certs {
	uint64_t generation;
};

struct msg_checks {
	uint64_t generation;
};

struct msg_measure {
	uint64_t check;
	uint64_t within_ms;
};

/* The descriptors of SHARED, in this order; what a part does not need is left out, and what
 * follows moves up (shared_at() counts). A bell is an eventfd.
 *
 *	router		NUMBERS ROUTER_BELL LOG_BELL RING	fds[0] to fds[3]
 *	controller	NUMBERS ROUTER_BELL RESULT_BELL RESULTS	fds[0] to fds[3]
 *	logger		LOG_BELL RING				fds[0], fds[1]
 *	watcher		RESULT_BELL RESULTS			fds[0], fds[1]
 */
enum shared_fd {
	SHARED_NUMBERS,
	SHARED_ROUTER_BELL,
	SHARED_LOG_BELL,
	SHARED_RING,
	SHARED_RESULT_BELL,
	SHARED_RESULTS,
	SHARED_COUNT
};

/* Where `which` stands in the fds of the SHARED that this part receives; -1: it is not sent. */
int shared_at(enum part part, enum shared_fd which);

struct msg_shared {
	uint32_t threads; /* of a router */
	uint32_t bank;	  /* its rows of the numbers, and likewise its rings: see wire/shm.h */
	uint32_t router_uid, router_gid; /* who the router runs as, when keeper is root; else -1 */
	uint32_t keeper_pid;
};

/* X(name, lower case, what it means) */
#define INSTANCE_STATE_TABLE(X)                                                                    \
	X(STARTING, starting, "was started, has not said READY")                                   \
	X(RUNNING, running, "runs, and has said READY=1 on its notify socket")                     \
	X(WAITING, waiting, "ended; starts again when its back-off is over")                       \
	X(STOPPING, stopping, "was told to end")                                                   \
	X(GONE, gone, "ended as told; the keeper has forgotten it")

enum instance_state {
#define X(name, lower, what) INSTANCE_##name,
	INSTANCE_STATE_TABLE(X)
#undef X
	INSTANCE_STATE_COUNT
};

const char *instance_state_name(enum instance_state state);

struct msg_instance {
	uint64_t id;
	uint32_t state;
	int32_t pid;		/* 0: no process now */
	uint32_t starts;	/* processes started so far */
	int32_t wait_status;	/* of the last end, as waitpid() gives it */
	uint64_t since_wall_ms; /* of this state */
	uint64_t next_wall_ms;	/* INSTANCE_WAITING: when it starts again */
	char reason[MSG_REASON]; /* of its last end: "exited with status 1 after 40 ms", or why it
				    cannot start: "cannot run 'x': ..."; "" when there was none */
};

enum part_state { PART_STATE_STARTING, PART_STATE_UP, PART_STATE_DOWN };

struct msg_part {
	uint32_t part;
	uint32_t state;
	int32_t pid;
	uint32_t starts;
	uint64_t since_wall_ms;
	char reason[MSG_REASON];
};

struct msg_restart {
	uint32_t part; /* PART_ROUTER */
};

struct msg_outcome {
	uint32_t order; /* enum msg_type */
	uint32_t error; /* enum err_code; 0: it is done */
	char reason[MSG_REASON];
};

struct msg_stream {
	uint64_t id;
	char app[64];
	char name[MSG_NAME];
};

struct msg_logconf {
	uint64_t file_bytes; /* a log file is rotated at this size */
	uint32_t files;	     /* this many are kept */
	uint32_t access;     /* 1: write the access log */
};

/* A received message. `body` points at the fixed struct of its type (aligned), `tail` behind it. */
struct msg {
	enum msg_type type;
	void *body;
	const char *tail;
	size_t tail_len;
	int fds[MSG_FDS_MAX]; /* the receiver owns them; take one by setting it to -1 */
	int fds_len;
};

/* One end of a socket pair, on a loop. Sending never blocks: what the socket does not take at once
 * waits in a bounded queue; a peer that lets it fill up (a stopped controller) loses nothing that
 * matters: the channel is then closed, and a new one begins with a full SYNC. */
struct msg_channel {
	struct loop_io io;
	struct loop *loop;
	/* A message arrived; descriptors that are not taken are closed afterwards. */
	void (*on_msg)(struct msg_channel *ch, struct msg *m);
	/* The other end is gone, or broke the protocol (reason). The channel is closed already. */
	void (*on_end)(struct msg_channel *ch, const char *reason);
	struct msg_queued *queue, **queue_tail;
	uint32_t queue_len;
};

#define MSG_QUEUE_MAX 4096

/* Both ends, non-blocking and close-on-exec. 0, or -1 with errno. */
int msg_pair(int ret_fds[2]);
/* Takes fd over and reports through the two callbacks, which must be set. 0, or -1 with errno. */
int msg_channel_open(struct msg_channel *ch, struct loop *loop, int fd);
void msg_channel_close(struct msg_channel *ch); /* no callback; harmless when closed */
/* Handles what has arrived by now (a bounded number); the loop does so by itself. Not from on_msg. */
void msg_channel_read(struct msg_channel *ch);
static inline bool msg_channel_is_open(const struct msg_channel *ch)
{
	return ch->loop != NULL;
}
/* Sends one message; the descriptors stay the caller's. False: the channel is closed, or its queue
 * is full (then it was closed and on_end will be called from the loop). */
bool msg_send(struct msg_channel *ch, enum msg_type type, const void *body, const void *tail,
	      size_t tail_len, const int *fds, int fds_len);

/* Decodes and checks one packet of len bytes (which must be 8-byte aligned); for msg.c and the
 * fuzzer. Returns 0 or a negative error. */
int msg_decode(void *packet, size_t len, int fds_len, struct msg *ret, struct err *e);
size_t msg_body_size(enum msg_type type);
const char *msg_name(enum msg_type type);
/* Tells this table from another: processes that differ in it cannot understand one another. */
uint32_t msg_protocol(void);

/* Splits a tail block of NUL-terminated strings: fills at most n pointers from *at on, moves *at
 * behind them. False when there are fewer than n. */
bool msg_strings(const struct msg *m, size_t *at, uint32_t n, const char **ret);
