/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the controller: its parts, and the way a configuration is taken up.
 */
#pragma once

#include "conf/pair.h"
#include "core/certs.h"
#include "core/renew.h"
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

#define ACME_THUMBPRINT 45 /* base64url of SHA-256, with its NUL */

/* What is wanted for an app with tls: auto, and how getting it stands. */
struct control_auto {
	char app[SHIP_NAME];
	json_t *names;
	struct renew renew;
	bool asked; /* somebody changed something: a pause is over */
	char reason[300]; /* of the last failure */
};

/* The try that goes on, of one certificate at a time. */
struct control_acme {
	struct loop_timer timer, limit; /* the next look; the end of its time */
	struct loop_child child;	/* uacme */
	struct loop_io out;
	char app[SHIP_NAME]; /* "": none goes on */
	json_t *names;
	struct evp_pkey_st *key; /* of the certificate to come */
	int folder;
	bool issuing; /* the account is there */
	bool late;
	char said[4096];
	uint32_t said_len;
	char first_reason[300]; /* why there may be no account */
};

/* A certificate of the configuration: what is in force of it, and what its files were when last read. */
struct control_cert {
	uint64_t id;
	struct control_auto *automatic; /* NULL: from files that others write */
	char *path[2]; /* certificate, key */
	struct control_file {
		uint64_t dev, ino, size, mtime_ns, ctime_ns; /* all 0: it is not there */
	} seen[2];
	int watch[2];
	uint64_t from_ms, until_ms; /* 0: there is none yet */
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
	struct control_acme acme;
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

void control_checks_send(struct control *c); /* checks.c: those of the configuration in force, to the watcher */

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
void control_certs_look(struct control *c);    /* now */
json_t *control_certs_json(void *arg); /* arg: struct control. [{name, names, file, ...}] */

/* acme.c, acme_auto.c: those that are got by themselves. */

void control_acme_init(struct control *c);
/* Has the key of our account, whose thumbprint goes into the routing table. Without one, tries fail and say so. */
void control_acme_account(struct control *c);
void control_acme_look(struct control *c); /* something may be due */
struct control_auto *control_auto_new(struct control *c, const struct conf_auto *conf);
void control_auto_free(struct control_auto *a);
const char *control_acme_status(struct control *c, const struct control_cert *row, char reason[500]);
json_t *control_acme_json(const struct control_cert *row); /* {app, failures, next} */
