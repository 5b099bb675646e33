/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration: one file, upstate.yaml, read into one immutable struct.
 *
 * One table in conf/schema.c holds for each key its name, type, range, default and
 * a sentence; parsing, checks, `upstate check`, upstate.yaml(5) and the suggestions
 * in messages come out of it. Every mistake of a file is reported at once, each as
 * file:line:column with what is wrong, what was expected and the nearest right word.
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"
#include "base/map.h"
#include "core/device.h"

#define CONF_APPS_MAX 20000
#define CONF_BYTES_MAX (16u << 20)
#define CONF_PROBLEMS_MAX 200
#define CONF_PAGE_MAX (64u * 1024) /* of a page of an app's own; core/table.h: TABLE_PAGE_MAX */
#define CONF_PAGES_MAX (64u << 20) /* of all */
#define CONF_REDIRECTS_MAX 200
#define CONF_USERS_MAX 200
#define CONF_CERTIFICATES_MAX 1000 /* from files and by themselves; core/certs.h: CERTS_PAIRS_MAX */
#define CONF_AUTO_NAMES_MAX 100 /* of one certificate: what Let's Encrypt puts into one */
#define CONF_DEVICES_MAX 10000
#define CONF_DEVICE_CHECKS_MAX 64 /* of one device */
#define CONF_CHECKS_MAX 100000	  /* of all */
#define CONF_NEEDS_MAX 1000

struct conf_text_list {
	char **items;
	uint32_t len;
};

/* What listen says of an address beside it. */
struct conf_listen {
	bool tls; /* https */
	bool proxy; /* connections from these networks begin with a PROXY header */
	struct conf_text_list proxy_from; /* none: trusted_proxies */
};

enum conf_mixed { CONF_MIXED_OK, CONF_MIXED_NEVER };
enum conf_protocol { CONF_HTTP1, CONF_H2C };
enum conf_https { CONF_HTTPS_OPTIONAL, CONF_HTTPS_REDIRECT };
enum conf_tls { CONF_TLS_FILES, CONF_TLS_AUTO };

struct conf_certificate {
	char *cert, *key; /* PEM files; not absolute: from the folder of the configuration */
	uint32_t line, column; /* of its row in the file */
};

/* A certificate that is got by itself: for those hosts of an app that no app before it has one for. */
struct conf_auto {
	const struct conf_app *app;
	struct conf_text_list names;
};

/* A page of an app's own, read by conf_load(). */
struct conf_page {
	char *path; /* as written; NULL: none */
	bool on;    /* maintenance: it is in force */
	uint32_t line, column;
	char *data; /* NULL: none, or it could not be read */
	uint32_t len;
};

/* Statuses that an app may have a page for. */
#define CONF_PAGE_TABLE(X) X(403) X(429) X(502) X(503) X(504)
enum {
#define X(status) CONF_PAGE_##status,
	CONF_PAGE_TABLE(X)
#undef X
	CONF_PAGE_COUNT
};

struct conf_redirect {
	char *from, *to; /* with a final '*': what is below, the tail is carried over */
	uint32_t status;
};

/* What something needs: each item one device, or any of several. */
struct conf_need {
	struct conf_text_list any;
	uint32_t *devices; /* their places in conf->devices */
	uint32_t line, column;
};

struct conf_needs {
	struct conf_need *items;
	uint32_t len;
};

/* What a check measures. X(NAME, key) */
#define CONF_CHECK_TABLE(X)                                                                        \
	X(HTTP, http)                                                                              \
	X(TCP, tcp)                                                                                \
	X(PLUGIN, plugin)                                                                          \
	X(PUSH, push)                                                                              \
	X(TLS, tls)                                                                                \
	X(DNS, dns)                                                                                \
	X(ICMP, icmp)                                                                              \
	X(VERSION, version)                                                                        \
	X(FILE, file)                                                                              \
	X(HOST, host)                                                                              \
	X(PROCESS, process)

enum conf_check_kind {
#define X(name, key) CONF_CHECK_##name,
	CONF_CHECK_TABLE(X)
#undef X
	CONF_CHECK_COUNT
};

/* "http", ...; and the kind of such a key, CONF_CHECK_COUNT when it is none. */
const char *conf_check_name(enum conf_check_kind kind);
enum conf_check_kind conf_check_kind(const char *key);

struct conf_check {
	uint64_t id; /* stable over reloads: a hash of device, kind, and name or index among its kind */
	enum conf_check_kind kind;
	char *what; /* the value of the key that names its kind */
	char *label;
	uint32_t every_ms, timeout_ms, rise, fall;
	char *bad, *ugly; /* thresholds: "> 150ms" */
	char *status, *text, *json, *header, *is, *send, *expect, *ca, *secret, *server_name, *server;
	struct conf_text_list headers; /* "NAME\0VALUE" */
	int method, record, of;	       /* indexes of conf_check_methods, ... */
	bool verify, authoritative;
	uint32_t expires_s, redirects;
	uint64_t period_ms; /* push: a beat must come within it */
	uint32_t line, column;
};
/* Each ends with NULL. */
/* What core/check.h wants to know of it; of a plain row of numbers too. */
struct check_rule conf_check_rule(uint64_t every_ms, uint32_t rise, uint32_t fall, bool pushed);
extern const char *const conf_check_methods[], *const conf_check_records[], *const conf_check_ofs[];

struct conf_device {
	char *name; /* as an app's, and no app has it */
	char *at, *runbook;
	struct conf_needs needs;
	uint32_t every_ms, timeout_ms, rise, fall; /* of its checks that say nothing else */
	struct conf_check *checks;
	uint32_t check_count;
};

struct conf_app {
	char *name; /* [a-z0-9][a-z0-9-]{0,62} */
	char *tcp;  /* its own address for users, who speak to it whatever they like; NULL: HTTP, by hosts and paths */
	struct conf_text_list hosts; /* lower case; default ["*"] when it is the only app */
	struct conf_text_list paths; /* default ["/"] */

	/* how it runs; run and targets exclude each other */
	char *run; /* for /bin/sh -c; NULL: targets */
	uint32_t instances;
	struct conf_text_list env; /* "NAME=value", sorted by name */
	char *data;		   /* name of its data directory, or NULL */
	char *stop;		   /* "TERM" */
	uint32_t stop_signal;
	uint32_t grace_ms;
	bool notify; /* ready: { notify: true }: it says READY=1 */
	uint32_t ready_ms; /* ready: { within: 60s } */
	uint32_t files_max;
	struct conf_text_list targets; /* "unix:/path", "127.0.0.1:80", "name:80" */

	/* its health */
	char *health_path; /* NULL: a connection that opens is enough */
	uint32_t health_every_ms, health_timeout_ms, health_rise, health_fall;

	/* its traffic */
	uint32_t drain_ms;
	uint32_t hold_wait_ms, hold_requests;
	uint64_t hold_bytes;
	uint32_t target_limit;
	uint64_t body_max;
	uint32_t connect_ms, response_ms, body_ms, tunnel_ms, request_ms;
	bool retry_unread;
	enum conf_protocol protocol; /* what its targets speak */
	int proxy; /* enum proxy_version */
	enum conf_https https;
	enum conf_tls tls; /* where its certificate comes from */
	uint32_t hsts_s; /* Strict-Transport-Security; 0: none */
	uint32_t retry_share, retry_least;
	uint32_t slow_start_ms;
	uint32_t eject_failures, eject_errors, eject_server_errors, eject_requests;
	uint32_t eject_latency, eject_latency_by_ms, eject_silence_ms;
	uint32_t eject_window_ms, eject_time_ms, eject_most_ms;

	/* its policy */
	struct conf_page maintenance, pages[CONF_PAGE_COUNT];
	struct conf_text_list allow, deny; /* networks */
	uint32_t rate_requests, rate_ms, rate_burst; /* requests 0: no limit; burst 0: as requests */
	char *rate_by;				     /* "address", "header NAME" */
	struct conf_text_list users; /* "ann:sha256:SALT:HASH" */
	char *realm;
	bool auth_pass;
	struct conf_redirect *redirects;
	uint32_t redirect_count;
	struct conf_text_list request_set, answer_set; /* "NAME\0VALUE" */
	struct conf_text_list request_remove, answer_remove;
	char *sticky;  /* "0": no, "1": yes, or the cookie's name */
	char *balance; /* "least", "hash address", "hash path", "hash header NAME" */

	/* its changes */
	enum conf_mixed mixed;
	uint32_t bake_ms;
	uint32_t keep; /* releases whose files are kept besides those in use */

	struct conf_needs needs; /* devices that it cannot do without */
};

struct conf {
	char *path; /* as given */
	struct conf_text_list listen; /* addresses for users: "0.0.0.0:8080" */
	struct conf_listen *listen_more; /* of each of them */
	struct conf_certificate *certificates; /* in order of the file */
	uint32_t certificate_count;
	struct conf_auto *autos; /* one for each app with tls: auto that has names of its own */
	uint32_t auto_count;
	bool acme_agree;
	char *acme_server; /* "letsencrypt", "staging" or a URL: conf_acme_url() */
	char *acme_mail;   /* or NULL */
	char *admin;		      /* address of the pages, or NULL */
	char *admin_group;	      /* may use the control socket, or NULL */
	struct conf_text_list trusted_proxies; /* networks */
	uint32_t clients, connections, header_bytes, header_count, header_ms, idle_ms, streams;
	bool access_log;
	uint32_t trace; /* enum table_trace */
	uint32_t log_sample; /* parts of a million */
	uint32_t log_slow_ms;
	uint64_t log_bytes;
	uint32_t log_files;
	struct conf_app *apps; /* in order of the file */
	uint32_t app_count;
	struct map index; /* of the apps, by name: conf_app() */
	struct conf_device *devices; /* in order of the file */
	uint32_t device_count, check_count;
	struct map device_index; /* by name: conf_device() */
};

/* One mistake (or warning) in a file. line and column count from 1; 0: the file as a whole. */
struct conf_problem {
	uint32_t line, column;
	bool warning; /* said, but the file is used */
	char text[400]; /* "unknown key 'host'; did you mean 'hosts'?" */
};

struct conf_problems {
	struct conf_problem *items;
	uint32_t len;	  /* at most CONF_PROBLEMS_MAX */
	uint32_t dropped; /* beyond it */
	uint32_t errors;  /* of them no warnings */
};

/* Parses text (the whole file). problems (zero before, or NULL) is the caller's to free. On success *ret is the caller's, to be freed with conf_free();
 * problems may still hold warnings. Otherwise returns -ERR_INPUT, with the first error in e, all of
 * them in problems, and *ret untouched. */
int conf_parse(const char *path, const char *text, size_t len, struct conf **ret,
	       struct conf_problems *problems, struct err *e);
/* Reads the pages that it names, below the directory of its file; call once. One that cannot be read is
 * a mistake, or when problems is NULL left out: Upstate's own page stands in. -ERR_INPUT as above. */
int conf_read_pages(struct conf *c, struct conf_problems *problems, struct err *e);
/* Reads the file, then conf_parse() and conf_read_pages(); ret_text, when not NULL, gets the bytes that were read. */
int conf_load(const char *path, struct conf **ret, struct buf *ret_text,
	      struct conf_problems *problems, struct err *e);
void conf_free(struct conf *c);
void conf_problems_free(struct conf_problems *p);
/* The first error among them, as conf_parse() returns it. */
int conf_problems_error(const struct conf_problems *p, const char *path, struct err *e);
/* All problems, a line each: "upstate.yaml:3:5: error: unknown key ...". */
void conf_problems_print(const struct conf_problems *p, const char *path, struct buf *out);

const struct conf_app *conf_app(const struct conf *c, const char *name); /* NULL: not there */
const struct conf_device *conf_device(const struct conf *c, const char *name); /* NULL: not there */
/* The graph of the devices, in their order; *ret_memory is the caller's. Not 0: core/device.h, a circle. Of a configuration that was
 * checked there is none. */
uint32_t conf_graph(const struct conf *c, const struct device_rule *rule, struct device_graph *ret, void **ret_memory,
		    uint32_t ret_circle[DEVICE_CIRCLE_MAX]);
/* Marks in set[device_count] (zero before) what these need, and what that needs, and so on. */
void conf_needed(const struct conf *c, const struct conf_needs *needs, bool *set);
/* The port of the first address with https; 0: there is none. */
uint32_t conf_https_port(const struct conf *c);
/* The directory of the ACME server (RFC 8555, 7.1.1). */
const char *conf_acme_url(const struct conf *c);
/* Either may be NULL: not there. */
bool conf_app_differs(const struct conf_app *x, const struct conf_app *y);

/* upstate.yaml(5), the whole page, as mdoc, out of the schema. */
void conf_manual(struct buf *out);
/* A first configuration, with comments, for `upstate init`. */
void conf_example(struct buf *out);

/* Shared with messages elsewhere: the nearest of n words to `word`, or NULL when none is near. */
const char *conf_nearest(const char *word, const char *const *words, size_t n);
/* Does this command run our own file server, which finds $UPSTATE_SOCKET by itself? */
bool conf_runs_files(const char *run);
/* "30s", "500ms", "2m", "1h" (a number alone: seconds); "10MiB", "64k". */
bool conf_duration(const char *text, uint64_t *ret_ms);
bool conf_bytes(const char *text, uint64_t *ret_bytes);
/* "10%", "0.125%": parts of a million; up to three digits behind the point. */
bool conf_percent(const char *text, uint64_t *ret_millionths);
