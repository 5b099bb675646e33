/* SPDX-License-Identifier: Apache-2.0
 *
 * What the files of the keeper share. One struct keeper is passed to all of them.
 *
 *	keep.c      start, loop, signals, the controller's orders, the end in order
 *	parts.c     the router, the controller, the logger and the watcher: start, watch, supervise
 *	replace.c   another router in the place of the one that serves
 *	upgrade.c   another program in the place of the one that runs; kept.c: what it takes over
 *	listen.c    listening sockets; owner.c: who has the port that we want
 *	instance.c  the states of an instance, as a table; output pipe, reports
 *	order.c     the start order of an instance, checked and copied
 *	start.c     what happens between fork and exec
 *	sandbox.c   what an instance may not do
 *	rundir.c    the folder of an instance
 *	group.c     all processes of an instance: control group or process group
 *	notify.c    READY=1
 */
#pragma once

#include "base/err.h"
#include "base/list.h"
#include "base/map.h"
#include "core/supervise.h"
#include "keep/keep.h"
#include "wire/msg.h"

#define KEEP_INSTANCES_MAX 1024
#define KEEP_LISTENERS_MAX 256
#define KEEP_SILENT_MS 9000  /* a part that does not beat this long is suspected */
#define KEEP_SUSPECT_MS 1000 /* and this much later ended */
#define KEEP_PART_GRACE_MS 2000
#define KEEP_ARGS_MAX 1024 /* arguments, variables or paths of one start order */

struct keeper;

/* --- the parts ----------------------------------------------------------- */

struct part_proc {
	struct keeper *keeper;
	enum part part;
	enum part_state state;
	struct loop_child child;
	struct loop_timer pause;  /* until the next start */
	struct loop_timer silent; /* until it is ended for not beating, or not ending */
	struct msg_channel channel;
	struct supervise supervise;
	uint32_t quick_crashes; /* in a row, other than by SIGKILL */
	uint32_t starts;
	uint32_t bank; /* of a router: its rows in the numbers */
	uint64_t since_wall_ms;
	bool was_ready; /* since the keeper started */
	bool ending;	/* was asked to */
	bool restart;	/* and then starts anew, by order */
	bool suspected;
	char killed_for[MSG_REASON]; /* why it is being killed; "" when it is not */
	char reason[MSG_REASON];     /* of its last end, or why it cannot start */
};

/* --- listening sockets --------------------------------------------------- */

struct listener {
	struct list link;
	struct loop_timer retry; /* while the port is still held by what just died */
	struct keeper *keeper;
	struct msg_listen order;
	int fd; /* -1: not there yet */
	int tries;
};

/* --- instances ----------------------------------------------------------- */

/* A start order, checked. Strings point into `tail`, arrays end with NULL. */
struct order {
	struct msg_start start;
	char *tail;
	size_t tail_len;
	char **argv, **envp, **writes;
	char *extra[4]; /* variables that the keeper adds, owned */
};

/* What can happen to an instance. X(NAME) */
#define INSTANCE_EVENT_TABLE(X)                                                                    \
	X(STARTED) /* the program runs: exec succeeded */                                          \
	X(READY)   /* it said so */                                                                \
	X(ENDED)   /* its main process did */                                                      \
	X(TIMER)   /* what it waited for is over */                                                \
	X(STOP)	   /* it is to end */

enum instance_event {
#define X(name) INSTANCE_EVENT_##name,
	INSTANCE_EVENT_TABLE(X)
#undef X
	    INSTANCE_EVENT_COUNT
};

struct instance {
	struct list link;
	struct keeper *keeper;
	uint64_t id;
	enum instance_state state;
	struct order order;
	struct supervise supervise;
	struct loop_child child;
	struct loop_timer timer;  /* WAITING: next start; STOPPING: end of grace */
	struct loop_io setup_io;  /* what the child says about its start */
	struct loop_io notify_io; /* its notify socket */
	int out[2];		  /* its output: read end, write end */
	int group_dir;		  /* its control group, or -1 */
	char group[64];
	pid_t group_pid; /* process group of the last start */
	uint32_t starts;
	int wait_status;
	uint64_t since_wall_ms, next_wall_ms;
	uint32_t group_tries; /* looks at whether all of the last start are gone */
	uint32_t stop_signal, grace_ms;
	uint64_t stop_by_ms;
	bool setup_failed; /* reason has it */
	bool killed;	   /* by the keeper, after its grace */
	char reason[MSG_REASON];
};

typedef void instance_step(struct instance *in);
extern instance_step *const instance_table[INSTANCE_STATE_COUNT][INSTANCE_EVENT_COUNT];

/* --- the keeper ---------------------------------------------------------- */

enum keep_phase { KEEP_RUNS, KEEP_ENDS_INSTANCES, KEEP_ENDS_ROUTER, KEEP_ENDS_LOGGER };

struct keep_table {
	int fd;
	uint64_t generation;
};

struct keeper {
	struct loop loop;
	char state[4096];
	char conf[4096];
	bool root;
	int lock_fd, binary_fd;
	int shared[SHARED_COUNT];
	struct shm *shm; /* to see whether routers have taken a table, and to bury those that ended */
	uint32_t threads;
	uint64_t files_soft; /* RLIMIT_NOFILE as it was: what an instance gets */
	struct part_proc procs[PART_COUNT];
	struct part_proc *parts[PART_COUNT]; /* who is what: routers change places */
	bool coming; /* PART_OTHER is the next router, else the one before */
	struct loop_timer coming_limit;
	struct msg_outcome outcome;
	bool outcome_due; /* no controller has been told yet */
	struct {
		struct loop_child trial; /* the new program reads what we hold */
		struct loop_timer limit;
		int binary_fd; /* of the new program, before exec */
		int said_fd;   /* what the trial says */
		int old_fd;    /* of the program before, after exec, until all parts are new */
		bool due;      /* at the end of this turn */
		bool going;    /* parts are being replaced: order[at] */
		uint32_t at;
	} upgrade;
	struct list listeners;
	uint32_t listener_count;
	int *passed; /* LISTEN_FDS */
	int passed_count;
	struct keep_table tables[2]; /* the last, the one before */
	struct keep_table certs, checks; /* the last ones; nothing of them is looked at here */
	struct map by_id;	     /* instances */
	struct list instances;
	struct msg_logconf logconf;
	bool logconf_set;
	char notify_path[MSG_PATH]; /* of the service manager, "" when there is none */
	bool ready;
	struct loop_timer ready_timer;
	enum keep_phase phase;
	int exit_status;
	int landlock;	  /* its ABI, 0: not there */
	bool namespaces;  /* mount namespaces can be had */
	char cgroup[512]; /* folder below which instances get theirs, "" when there is none */
	uint64_t cgroup_tag;
	uint64_t removed; /* run folders put aside so far, to name the next */
};

/* keep.c */
void keep_serve_ready(struct keeper *k); /* looks whether READY=1 can be said */
void keep_next_phase(struct keeper *k);	 /* something ended: is it the next one's turn? */
void keep_end(struct keeper *k, int exit_status);
void keep_reap_strangers(struct keeper *k);
void keep_order(struct part_proc *p, struct msg *m); /* a message of the controller */

/* parts.c */
void part_init(struct keeper *k, enum part part);
void part_start(struct part_proc *p);
void part_stop(struct part_proc *p); /* asks it to end; SIGKILL after KEEP_PART_GRACE_MS */
void part_kill(struct part_proc *p, const char *reason);
void part_restart(struct part_proc *p); /* any but the router, by order */
void part_tell(struct part_proc *p); /* reports it to the controller */
bool part_send(struct keeper *k, enum part to, enum msg_type type, const void *body, int fd);
void part_send_certs(struct keeper *k, enum part to); /* when there are any */
const char *part_says_end(int wait_status, uint64_t ran_ms, char *text, size_t size);

/* replace.c */
void replace_router(struct keeper *k); /* by order; the outcome is told */
void replace_ready(struct part_proc *p);
void replace_ended(struct part_proc *p); /* PART_OTHER did */
void replace_not_ready(struct loop_timer *timer);
/* What became of an order, to the controller that is there, or the next one. */
void replace_outcome(struct keeper *k, enum msg_type order, enum err_code error, const char *reason);
void replace_tell(struct keeper *k);

/* upgrade.c */
void upgrade_init(struct keeper *k);
void upgrade_begin(struct keeper *k, int binary); /* by order; the outcome is told */
bool upgrade_goes_on(const struct keeper *k);
void upgrade_part_ready(struct keeper *k, enum part part);
void upgrade_part_ended(struct keeper *k, enum part part, const char *reason);
/* Was it for the upgrade that the router was replaced? */
bool upgrade_router_outcome(struct keeper *k, enum err_code error, const char *reason);
void upgrade_on_time(struct loop_timer *timer);

/* For what is taken over from the program before. */
struct kept;
struct kept_instance;
struct keeper *keep_make(void); /* keep.c */
int keep_resume(struct keeper *k, const struct kept *kept, struct err *e);
int keep_run(struct keeper *k);
void part_adopted(struct part_proc *p);
void listen_adopt(struct keeper *k, const struct msg_listen *order, int fd, int tries);
int instance_adopt(struct keeper *k, const struct kept_instance *s, const char *tail, struct err *e);

/* listen.c */
void listen_passed_take(struct keeper *k); /* LISTEN_FDS */
void listen_order(struct keeper *k, const struct msg_listen *order);
void listen_drop(struct keeper *k, uint64_t id);
void listen_drop_all(struct keeper *k, bool users_only);
void listen_tell_all(struct keeper *k, enum part to); /* to a new controller or router */

/* owner.c: "nginx (pid 812)" into text, or false */
struct sockaddr_storage;
bool owner_of_port(const struct sockaddr_storage *addr, char *text, size_t size);

/* order.c */
int order_take(struct order *o, const struct msg *m, struct err *e);
void order_fini(struct order *o);

/* instance.c */
void instance_start(struct keeper *k, const struct msg *m);
void instance_stop(struct keeper *k, const struct msg_stop *stop);
void instance_stop_all(struct keeper *k);
void instance_kill_all(struct keeper *k); /* at once, without waiting for them */
void instance_step_on(struct instance *in, enum instance_event event);
void instance_tell(struct instance *in);
void instance_tell_all(struct keeper *k);
void instance_stream(struct instance *in);
void instance_stream_all(struct keeper *k);

/* start.c: returns the pid, and the pipe that says what went wrong, or a negative error */
pid_t start_fork(struct instance *in, int *ret_setup_fd, struct err *e);

/* sandbox.c: probes in the keeper; the others run in the child, and fail with an error */
void sandbox_probe(struct keeper *k);
int sandbox_mounts(const struct instance *in, struct err *e);
int sandbox_writes(const struct instance *in, struct err *e);

/* rundir.c */
int rundir_make(struct instance *in, struct err *e); /* with its notify socket */
int rundir_data(const struct instance *in, struct err *e);
void rundir_remove(struct instance *in);
void rundir_clear(struct keeper *k); /* at start: what an earlier keeper left */
void rundir_program(const struct keeper *k); /* run/bin/upstate, anew: once for each binary that it becomes */
int rundir_mkdirs(const char *path, mode_t mode, struct err *e);

/* group.c */
void group_probe(struct keeper *k);
void group_make(struct instance *in);
void group_join(const struct instance *in); /* in the child */
void group_kill(struct instance *in);
bool group_empty(const struct instance *in);
void group_remove(const struct instance *in);

/* notify.c */
int notify_open(struct instance *in, int fd, struct err *e);
void notify_close(struct instance *in);
