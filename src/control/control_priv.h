/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the controller: its parts, and the way a configuration is taken up.
 */
#pragma once

#include "ship/ship.h"
#include "tell/tell.h"

#define CONTROL_LISTENERS_MAX 256 /* of the old and the new configuration together */

enum control_listener_state { LISTENER_ASKED, LISTENER_HELD, LISTENER_FAILED };

struct control_listener {
	struct msg_listen ask;
	enum control_listener_state state;
	bool wanted; /* by the configuration in force, or by the one being taken up */
	int fd; /* not answered on yet; else -1 */
	char reason[MSG_REASON];
};

struct control {
	struct loop loop;
	struct msg_channel keeper;
	struct ship ship;
	struct state *state;
	struct store *store;
	struct tell *tell;
	char dir[512];
	char conf_path[512];
	struct conf *conf;
	bool started;	/* READY was said */
	bool fell_back; /* the file could not be taken up at the start */
	struct control_listener listeners[CONTROL_LISTENERS_MAX];
	uint32_t listener_count;
	struct loop_timer beat;
	struct loop_io bell;
	struct loop_io watch; /* inotify on the folder of the configuration */
	struct loop_timer watch_settle;
	struct control_reload {
		struct conf *conf; /* the candidate; NULL: no reload is going on */
		char hash[STATE_HASH];
		void (*done)(void *arg, json_t *answer, const struct err *e);
		void *arg;
		char who[64];
		json_t *warnings; /* of the file: [TEXT] */
	} reload;
	bool reload_again; /* the file changed, or a SIGHUP came, while a reload was going on */
};

/* reload.c: parse -> check -> have the sockets -> swap; any failure leaves everything as it was. */

/* Begins taking up the file; done() is called once, perhaps at once: with an answer
 * ({changed, warnings}), or with an error and {problems} (or NULL). Borrowed by done(). */
void control_reload(struct control *c, const char *who,
		    void (*done)(void *arg, json_t *answer, const struct err *e), void *arg);
/* At start: the file, or when it is bad the configuration that was last in force. */
int control_first_conf(struct control *c, struct err *e);
void control_on_listening(struct control *c, struct msg *m);
void control_watch(struct control *c);
void control_settled(struct loop_timer *t); /* the file is to be read anew */
