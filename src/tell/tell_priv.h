/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside tell/: a call of the API, and who answers what.
 */
#pragma once

#include "tell/news.h"
#include "tell/tell.h"
#include "wire/result.h"

#define TELL_LISTENERS_MAX 16
#define TELL_FOLLOWERS_MAX 128
#define TELL_SCRAPES_MAX 8 /* answers with all numbers that are being made */
#define TELL_APPLIED_MS 2000 /* how long an order waits for the router */
#define TELL_BODY_MAX (64u << 20) /* of a manifest; other bodies are small */

struct tell_listener {
	struct server *server;
	bool local, open;
	char addr[MSG_PATH];
	struct tell *tell;
};

/* Counters of the controller that outlive it: a plain copy of struct shm_controller. */
struct tell_kept {
#define X(name, what) uint64_t name;
	CONTROLLER_COUNT_TABLE(X)
#undef X
};

struct scrape;

/* devices.c: the devices of the configuration */
struct tell_devices {
	struct tell_device *rows;
	uint32_t count;
	struct map checks; /* by id */
	struct device_graph *graph;
	void *graph_memory;
	uint64_t clock_ms; /* with the loop's time, the steady clock of core/check.h */
	uint64_t overdue_look_ms;
	bool dirty; /* some are not stored yet */
	struct results *results;
	uint64_t at; /* in their ring: what lies before was looked at */
	struct loop_io bell;
	struct loop_timer batch;
};

struct tell {
	struct ship *ship;
	struct tell_options options;
	const struct conf *conf;
	struct tell_listener listeners[TELL_LISTENERS_MAX];
	uint32_t listener_count;
	char token[65];
	struct list followers; /* struct call, by link */
	struct list unapplied; /* struct call, by in_unapplied */
	uint32_t follower_count, scrape_count;
	struct tell_kept kept; /* as an earlier controller left them */
	struct loop_timer status_timer;
	struct news news;
	struct call *restart; /* waits for the router to be replaced */
	char restart_why[500];
	struct {
		bool trying;
		int fd; /* of the new program */
		json_t *from;
		char path[1024], why[500], key[40];
	} upgrade;
	struct tell_devices devices;
	bool devices_stale; /* the configuration is another one: some may be no more */
};

/* One request of the API. It lives as long as the server's request does. */
struct call {
	struct list link; /* among the followers */
	struct tell *t;
	struct server_request *r;
	const struct route *route;
	char arg[2][256]; /* what stands for the stars of the pattern */
	char who[64];
	bool trusted; /* it has the token, or came over the control socket */
	uint64_t change; /* followed */
	struct store_intake *intake;
	struct err failed;    /* of the intake; answered at the end of the body */
	struct loop_timer tail; /* of a followed log, or of a chain that is verified in portions */
	struct state_verify verify;
	struct scrape *scrape; /* all numbers, told piece by piece */
	int tail_fd;
	struct loop_io child_io; /* output of a child that works for it: "STATUS\n", then JSON */
	struct buf child_out;
	/* Gets what the child said, instead of the client; not called when that has left. */
	void (*child_said)(struct call *c, int status, const char *text);
	struct list in_unapplied; /* answered when the router works by table `wanted` */
	uint64_t wanted;
	json_t *answer;
	bool gone, pending; /* client left; something else will still answer (and then frees) */
};

struct route {
	const char *method, *pattern; /* "/v1/apps/@/deploy": @ stands for one segment */
	void (*run)(struct call *c, json_t *body);
	enum { ROUTE_PLAIN, ROUTE_JSON, ROUTE_RAW, ROUTE_STREAM } body;
	bool open; /* answered on the admin address without a token */
	void (*raw)(struct call *c, const char *body, size_t len);
};

void tell_answer_json(struct call *c, int status, json_t *o); /* takes o */
/* The same with 200 and "applied", once the router works by what was just ordered; at the latest in
 * 2 s, and then that is false. */
void tell_answer_applied(struct call *c, json_t *o); /* takes o */
void tell_answer_err(struct call *c, const struct err *e);
/* Adds "problems" and the like to an error's body. */
void tell_answer_err_with(struct call *c, const struct err *e, json_t *more);
/* Has a child process do what may take long (hashing, waiting for the disk): work() runs there and
 * returns the status and *ret_body of the answer, which is sent when the child has ended. */
void tell_in_child(struct call *c, int (*work)(struct call *c, json_t **ret_body));
/* The body of an error, for work(). */
int tell_err_json(const struct err *e, json_t **ret_body);
void tell_free_call(struct call *c);
int tell_app(struct call *c, struct ship_app **ret); /* of arg[0]; answers the error itself */

/* api_write.c */
void tell_missing(struct call *c, const char *body, size_t len);
void tell_objects(struct call *c);
void tell_deploy(struct call *c, json_t *body);
void tell_rollback(struct call *c, json_t *body);
void tell_abort(struct call *c, json_t *body);
void tell_hold(struct call *c, json_t *body);
void tell_resume(struct call *c, json_t *body);
void tell_maintenance(struct call *c, json_t *body);
void tell_drain(struct call *c, json_t *body);
void tell_fence(struct call *c, json_t *body);
void tell_serve(struct call *c, json_t *body);
void tell_reload(struct call *c, json_t *body);

/* api_self.c */
void tell_restart(struct call *c, json_t *body);
void tell_upgrade(struct call *c, json_t *body);
void tell_upgrade_get(struct call *c, json_t *body);
void tell_upgrade_left(struct tell *t); /* who ordered it left while it was tried */

/* api_read.c */
void tell_status(struct call *c, json_t *body);
void tell_app_status(struct call *c, json_t *body);
void tell_change_get(struct call *c, json_t *body);
void tell_history(struct call *c, json_t *body);
void tell_history_verify(struct call *c, json_t *body);
void tell_release(struct call *c, json_t *body);
void tell_object(struct call *c, json_t *body);
void tell_logs(struct call *c, json_t *body);
void tell_limits(struct call *c, json_t *body);
/* Those of the whole, without the apps': an array as in docs/API.md. */
json_t *tell_limits_json(struct call *c);
void tell_verify(struct call *c, json_t *body);

/* metrics.c, numbers.c: all numbers */
void tell_metrics(struct call *c, json_t *body);
void tell_numbers(struct call *c, json_t *body);
void tell_explain(struct call *c, json_t *body); /* explain.c */

/* status.c: what is good, bad, ugly or unknown, and why */
struct tell_status_of {
	const char *status;
	char reason[300];
};
void tell_part_status(struct tell *t, enum part p, struct tell_status_of *ret);
void tell_slot_status(struct ship_app *a, uint32_t slot, struct tell_status_of *ret);
void tell_target_status(struct ship_app *a, const struct ship_target *x, struct tell_status_of *ret);
void tell_app_status_of(struct ship_app *a, struct tell_status_of *ret);
json_t *tell_part_json(struct tell *t, enum part p);
json_t *tell_app_json(struct ship_app *a);
json_t *tell_unit_json(struct ship_app *a, const struct rollout_unit *u);
json_t *tell_target_json(struct ship_app *a, const struct ship_target *x);

/* beat.c */
void tell_beat(struct call *c, json_t *body);

void tell_devices_configured(struct tell *t, const struct conf *conf);
json_t *tell_devices_json(const struct tell *t);

/* news.c: statuses that changed go to the state; feeds and pages come from there */
void tell_devices_look(struct tell *t);
/* Is the status another than the one stored last? Asked before anything is made of it: there may be
 * ten thousand devices, and hardly ever one that changed. */
bool tell_is_news(const struct tell *t, const char *id, const char *status, const char *reason);
/* Within a transaction: stores it, and tells the log when it is another one. Takes body. */
void tell_news_put(struct tell *t, const char *id, const char *app, const char *status, const char *reason,
		   json_t *body);
/* feeds.c, pages.c */
void tell_feed(struct call *c, json_t *body);
void tell_page(struct call *c, json_t *body);
void tell_device_page(struct call *c, json_t *body);
void tell_change_page(struct call *c, json_t *body);
/* The whole status, and a change by its number as history has it (NULL: there is none), as JSON. */
json_t *tell_status_json(struct tell *t);
json_t *tell_find_change(struct tell *t, uint64_t number, struct err *e);
