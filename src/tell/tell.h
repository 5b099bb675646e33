/* SPDX-License-Identifier: Apache-2.0
 *
 * What the controller tells: the API (docs/API.md), the feeds and the pages.
 */
#pragma once

#include "ship/ship.h"
#include "tell/server.h"

struct tell;

struct tell_options {
	struct ship *ship;
	/* Takes up the configuration file; done() is called once. */
	void (*reload)(void *arg, const char *who,
		       void (*done)(void *done_arg, json_t *answer, const struct err *e), void *done_arg);
	json_t *(*certificates)(void *arg); /* [{name, names, file, expires, status, reason}] */
	void *arg;
	const char *conf_path;
};

int tell_create(const struct tell_options *o, struct tell **ret, struct err *e);
/* Answers on this socket (taken over). local: the control socket, whose file mode says who may. */
void tell_listen(struct tell *t, int fd, bool local, const char *addr);
void tell_unlisten(struct tell *t, const char *addr);
void tell_configured(struct tell *t, const struct conf *c);
/* A step of a change of the app, or (step NULL) its end: to those who follow it, and to the feed. */
void tell_change(struct tell *t, struct ship_app *a, const struct ship_change *change,
		 const struct ship_step *step);
/* What statuses are made of may have changed: they are looked at at the end of the turn. */
void tell_status_changed(struct tell *t);
/* What became of an order that concerns Upstate itself. */
void tell_outcome(struct tell *t, struct msg_outcome *m);
/* The memory in which the watcher leaves its results (fd stays the caller's), and its bell (taken over). -1 with errno. */
int tell_results(struct tell *t, int bell, int fd);
/* The keeper has told all. */
void tell_synced(struct tell *t);
/* The router may have taken up a table. */
void tell_router_rang(struct tell *t);
