/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the controller: its parts, and the way a configuration is taken up.
 */
#pragma once

#include "conf/pair.h"
#include "core/certs.h"
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

/* A certificate of the configuration: what is in force of it, and what its files were when last read. */
struct control_cert {
	uint64_t id;
	char *path[2]; /* certificate, key */
	struct control_file {
		uint64_t dev, ino, size, mtime_ns, ctime_ns; /* all 0: it is not there */
	} seen[2];
	int watch[2];
	uint64_t from_ms, until_ms;
	json_t *names;
	bool changed; /* in this look */
	char problem[400]; /* why the files as they are now are not in force; "" when they are */
};

struct control_cert_set {
	struct control_cert *rows;
	uint32_t count;
	int fd; /* sealed, as core/certs.h says; -1: none */
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
	struct loop_io watch; /* inotify on the folders of the configuration and the certificates */
	struct control_cert_set certs, certs_next; /* in force; of the reload that is going on */
	struct loop_timer certs_timer;
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

/* certs.c: certificates come from their files, and go to the router by way of the keeper. */

void control_certs_init(struct control *c);
/* What the keeper holds, from before this controller. */
void control_certs_held(struct control *c, struct msg *m);
/* Reads and checks those of the candidate; what is wrong becomes a problem. The first error is
 * returned, and then the candidate must not come into force. */
int control_certs_load(struct control *c, const struct conf *conf, struct conf_problems *problems, struct err *e);
void control_certs_forget(struct control *c); /* the candidate came to nothing */
void control_certs_swap(struct control *c);   /* it is in force */
void control_certs_watch(struct control *c);  /* the folders of those in force */
void control_certs_changed(struct control *c); /* something did, in one of the folders */
json_t *control_certs_json(void *arg); /* arg: struct control. [{name, names, file, ...}] */
