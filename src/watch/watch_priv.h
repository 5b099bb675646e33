/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the watcher.
 *
 *	watcher.c    the process: what the keeper sends, its beat, its end
 *	checks.c     the list of checks, read; one that did not change goes on as it is
 *	schedule.c   when each begins, how many at once, how long it may take, what became of it
 *	resolve.c    names to addresses (c-ares)
 *	http.c, ...  one file for each kind of check
 *
 * Everything is one thread that never waits: an engine begins a measurement, and calls watch_done() once,
 * perhaps at once.
 */
#pragma once

#include <jansson.h>
#include <sys/socket.h>

#include "base/list.h"
#include "base/map.h"
#include "conf/conf.h"
#include "core/threshold.h"
#include "wire/msg.h"
#include "wire/result.h"

#define WATCH_STALL_MS 2000	 /* the loop did not turn for so long: nobody could look */
#define WATCH_LATE_MS 1000
#define WATCH_ADDRS_MAX 8

struct watcher;
struct watch_check;

struct watch_engine {
	/* Both may call watch_done(); after cancel() nothing of the measurement is left, and nothing is reported. */
	void (*begin)(struct watch_check *c);
	void (*cancel)(struct watch_check *c);
};

struct watch_check {
	struct list link; /* among those that wait to begin */
	struct watcher *w;
	json_t *o;	/* what the controller sent; texts below are borrowed from it */
	uint64_t id;
	enum conf_check_kind kind;
	const char *what;
	uint32_t every_ms, timeout_ms;
	struct check_rule rule; /* and what was measured, for when to measure next */
	struct check state;
	struct threshold bad, ugly; /* op NONE: there is none */
	struct loop_timer next;	 /* when it is due */
	struct loop_timer limit; /* while it waits, or runs */
	enum { CHECK_IDLE, CHECK_WAITS, CHECK_RUNS } phase;
	uint64_t due_ms;
	uint64_t began_ms, began_us, began_wall_ms;
	const char *stage; /* what it is doing, for when its time is over: "connecting" */
	void *run;	   /* the engine's, of this measurement */
	bool listed;	   /* by the newest list */
};

struct watcher {
	struct loop loop;
	struct msg_channel channel;
	struct loop_timer beat;
	uint64_t beat_ms;    /* of the last beat */
	uint64_t stalled_ms; /* when the loop was last found to have stood still */
	struct results *results;
	int bell;
	struct map checks; /* by id */
	struct list waiting[2]; /* of plugins, of others */
	uint32_t waiting_count, running;
	struct list programs; /* plugins that live */
	uint32_t plugins;     /* how many */
	bool swept;	      /* something may have been left behind */
	bool beginning;
	struct watch_http *http;
	struct watch_icmp *icmp;
	struct watch_names *names;
};

/* --- schedule.c --- */

void watch_schedule(struct watch_check *c); /* a new one */
void watch_unschedule(struct watch_check *c);
/* Measures it sooner than it is due: the controller wants to know. */
void watch_measure(struct watcher *w, uint64_t id, uint64_t within_ms);
/* The measurement is over. outcome GOOD is then judged by the thresholds, against the value (NaN: none). The text is for
 * a person. */
void watch_done(struct watch_check *c, enum status outcome, double value, enum result_unit unit, const char *fmt, ...)
	PRINTF(5, 6);
/* How long it has been going on. */
double watch_took_ms(const struct watch_check *c);
/* Is such an errno this machine's own fault? Then the device is unknown. */
bool watch_own_fault(int error);
/* A place may have become free. */
void watch_more(struct loop *loop);
/* watch_done() for a call that failed: what, and why. */
void watch_failed(struct watch_check *c, int error, const char *what);

/* --- checks.c --- */

int watch_take_list(struct watcher *w, int fd, struct err *e);
const char *watch_text(const struct watch_check *c, const char *key); /* NULL: not there */
uint64_t watch_number(const struct watch_check *c, const char *key);
extern const struct watch_engine *const watch_engines[CONF_CHECK_COUNT];

/* --- jsonpath.c --- */

/* The value at a path of keys and indexes with dots between; NULL: there is none. */
const json_t *watch_json_at(const json_t *o, const char *path);
/* As text: of strings what is in them, of others their JSON. */
void watch_json_text(const json_t *o, struct buf *ret);

/* --- resolve.c --- */

struct watch_addrs {
	uint32_t count;
	struct sockaddr_storage at[WATCH_ADDRS_MAX];
};
struct watch_lookup; /* one that is going on */

/* Looks up host (a name or an address); done() is called once, perhaps at once: with addresses, or with NULL and what is
 * wrong, and whether that is the name's own fault. Until then *handle, which may be gone after that call, can be cancelled. */
typedef void watch_found(struct watch_check *c, const struct watch_addrs *addrs, bool no_such_name, const char *why);
void watch_resolve(struct watch_check *c, const char *host, uint16_t port, watch_found *done, struct watch_lookup **handle);
void watch_resolve_cancel(struct watch_lookup **handle);
int watch_names_open(struct watcher *w, struct err *e);
/* "HOST:PORT" or "[ADDRESS]:PORT" in two. */
void watch_split(const char *address, char host[300], uint16_t *ret_port);
socklen_t watch_addr_len(const struct sockaddr_storage *a);

/* --- connect.c --- */

struct watch_conn {
	struct loop_io io; /* on_ready is the engine's once it is open */
	struct watch_check *check;
	void (*open)(struct watch_check *c);
	struct watch_lookup *lookup;
	struct watch_addrs addrs;
	uint32_t next; /* address */
	int error;     /* of the last try */
};
/* Connects to what the check says, HOST:PORT; conn stands first in c->run. open() is called, or the engine's cancel() and then
 * watch_done(). */
void watch_connect(struct watch_check *c, struct watch_conn *conn, void (*open)(struct watch_check *c));
void watch_conn_close(struct watch_conn *conn);

/* --- http.c --- */

int watch_http_open(struct watcher *w, struct err *e);

/* --- icmp.c --- */

void watch_icmp_open(struct watcher *w);

/* --- plugin.c, perfdata.c --- */

/* Is it measured by a program? */
bool watch_is_program(enum conf_check_kind kind);

struct perfdata {
	char label[64];
	double value; /* in ms, bytes, percent, or as it is */
	enum result_unit unit;
};
/* The next number of what stands behind the '|'; moves *at behind it. False: there is no more. */
bool perfdata_next(const char **at, struct perfdata *ret);
/* Ends the first line at its '|'; returns what stands behind that, up to the end of the line. */
char *plugin_split(char *output);
void plugin_strip_tags(char *text); /* of HTML */
struct plugin_run;
/* local.c, in a process of its own: prints as a plugin does, and ends. */
__attribute__((noreturn)) void watch_local_run(const struct watch_check *c);
void watch_sweep(struct watcher *w); /* ends what plugins left behind */

extern const struct watch_engine watch_http, watch_tcp, watch_tls, watch_dns, watch_icmp, watch_plugin;
