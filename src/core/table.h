/* SPDX-License-Identifier: Apache-2.0
 *
 * The routing table: everything the router must know, in one block of bytes
 * without pointers. The controller builds it, the keeper holds it in a sealed
 * memory file, each router maps it and reads it in place. It is swapped whole and
 * never edited.
 *
 * Finding an app costs O(length of host and path): one hash table holds a key for
 * each (host pattern, path prefix), and one for each host pattern alone, so that
 * patterns that do not exist are passed over without looking at the path.
 *
 * Which app wins: the most specific host pattern (exact; then *.suffix, longest
 * first; then *) that has any prefix matching the path; within it the longest
 * prefix. Prefixes match whole segments: "/api" matches "/api" and "/api/x", not
 * "/apix".
 */
#pragma once

#include "base/buf.h"
#include "base/err.h"

#define TABLE_MAGIC 0x55505442u
#define TABLE_VERSION 3
#define TABLE_APPS_MAX 20000
#define TABLE_TARGETS_MAX 30000
#define TABLE_ADDR_MAX 112
#define TABLE_NAME_MAX 255 /* of an app, a target */
#define TABLE_TEXT_MAX 4096 /* of a host pattern, a path, a name or value of a rule */
#define TABLE_PAGE_MAX (64u * 1024) /* of a page of an app's own */
#define TABLE_RULES_MAX (1u << 22)
#define TABLE_ACME "/.well-known/acme-challenge" /* RFC 8555, 8.3 */
#define TABLE_TOKEN_MAX 128 /* of a challenge; Let's Encrypt's have 43 characters */

enum target_kind { TARGET_UNIX, TARGET_TCP };

/* What the router may do with a target. X(NAME, lower, meaning) */
#define TARGET_USE_TABLE(X)                                                                        \
	X(PROBE, probe, "look whether it is up, send no requests")                                 \
	X(SERVE, serve, "send it requests while it is up")                                         \
	X(DRAIN, drain, "send nothing new; what is there may finish until drain_until_ms")         \
	X(FENCE, fence, "send nothing, cut what is there")

enum target_use {
#define X(name, lower, what) USE_##name,
	TARGET_USE_TABLE(X)
#undef X
	USE_COUNT
};

/* What is done about W3C Trace Context. */
enum table_trace {
	TRACE_OFF,  /* its fields are like any other */
	TRACE_PASS, /* passed on as a hop of the trace */
	TRACE_MAKE, /* and a trace begins where none came */
};

struct table_limits {
	uint32_t clients;	  /* client connections, all threads */
	uint32_t header_bytes;	  /* of a request head; more is 431 (414 for the request line) */
	uint32_t header_count;
	uint32_t header_ms;	  /* from a request's first byte to the end of its head */
	uint32_t idle_ms;	  /* a client connection between requests */
	uint32_t access_log;	  /* 1: write records to the ring */
	uint32_t trace;		  /* enum table_trace */
	uint32_t log_sample;	  /* parts of a million of the requests, that are logged */
	uint32_t log_slow_ms;	  /* what took longer always is; 0: that is no reason */
	uint32_t connections;	  /* from one address; 0: as many as it likes */
	uint32_t https_port;	  /* where redirects lead; 0: 443 */
	uint32_t streams;	  /* of an HTTP/2 connection at once; 0: it is not spoken */
};

struct table_target {
	uint64_t id; /* the same target in the next table has the same id */
	uint64_t drain_until_ms; /* clock_ms(); USE_DRAIN */
	uint32_t slot;		 /* in the numbers */
	uint32_t app;		 /* index */
	uint32_t name;		 /* offset of its name, "guestbook@12/1" */
	uint32_t release;	 /* number, 0: not ours */
	uint16_t kind, use;
	uint16_t addr_len;
	uint8_t addr[TABLE_ADDR_MAX]; /* a sockaddr */
};

/* When a target that is up is not as good as the others: core/eject.h. Where nothing else is said, 0
 * means that it is not looked at. */
struct eject_rules {
	uint32_t failures;	    /* tries that failed in a row */
	uint32_t errors;	    /* percent of its tries that failed */
	uint32_t server_errors;	    /* 5xx, points of percent above the others */
	uint32_t latency;	    /* times as slow as the others ... */
	uint32_t latency_least_ms;  /* ... and by so much */
	uint32_t requests;	    /* in the window: with less, no share is judged */
	uint32_t window_ms, time_ms, most_ms; /* time: of the first ejection; most: of any. Never 0 */
	uint32_t silent_ms;	    /* silence that is no cause for suspicion yet */
};

struct table_app {
	uint32_t name;	      /* offset */
	uint32_t health_path; /* offset of "/up"; of "": a connection that opens is enough */
	uint32_t slot;
	uint32_t first_target, target_count;
	uint32_t hold; /* 1: requests wait, by order */
	uint32_t hold_wait_ms, hold_requests;
	uint64_t hold_bytes;
	uint32_t target_limit; /* requests at once to a target; 0: no limit */
	uint64_t body_max;     /* bytes; 0: no limit */
	uint32_t connect_ms, response_ms, body_ms, tunnel_ms; /* body: between two pieces, either way;
								 tunnel: silence in both directions, 0: none */
	uint32_t probe_ms, probe_timeout_ms, rise, fall;
	uint32_t proxy; /* enum proxy_version: what connections to its targets begin with */
	uint32_t retry_unread; /* 1: a unix socket's ECONNRESET proves a small request unread */
	uint32_t to_https;     /* 1: plain requests are redirected */
	uint32_t acme; /* 1: below TABLE_ACME we answer ourselves, at all its hosts, whatever its paths are */
	uint32_t hsts_s;       /* Strict-Transport-Security: max-age; 0: none */
	uint32_t drain_ms; /* what is inside a router may go on so long when the next one takes its place */
	uint32_t request_ms; /* for a request as a whole; 0: no limit. Not for tunnels and event streams */
	uint32_t slow_start_ms; /* in which a target that came up grows into its share; 0: at once */
	uint32_t retry_share, retry_least; /* percent of the requests; and so many a second */
	struct eject_rules eject;
	uint32_t h2;	 /* 1: its targets speak HTTP/2, with prior knowledge */
	uint32_t policy; /* index + 1 of what its operator wants beyond that; 0: nothing */
};

/* What a rule says, by its kind. X(NAME, meaning of key, value and number) */
#define TABLE_RULE_TABLE(X)                                                                        \
	X(REQUEST_SET, "a field of the request: name, value")                                      \
	X(REQUEST_REMOVE, "a field that is not passed on: name")                                   \
	X(ANSWER_SET, "a field of the answer: name, value")                                        \
	X(ANSWER_REMOVE, "a field that is not passed on: name")                                    \
	X(REDIRECT, "path (with a final '*': all below it), where to, status")                     \
	X(PAGE, "content type, content, status of our own answers that it stands for")             \
	X(USER, "name, salt and hash of the password as wire/password.h writes them")

enum table_rule_kind {
#define X(name, what) RULE_##name,
	TABLE_RULE_TABLE(X)
#undef X
	RULE_COUNT
};

struct table_rule {
	uint32_t key, key_len; /* offsets; each text is followed by a NUL */
	uint32_t value, value_len;
	uint32_t number;
};

struct table_range {
	uint32_t first, count;
};

enum table_rate { RATE_NONE, RATE_ADDRESS, RATE_HEADER };
enum table_near { NEAR_NONE, NEAR_COOKIE, NEAR_ADDRESS, NEAR_PATH, NEAR_HEADER };

/* What the operator of an app wants beyond reaching it. An app without such wishes has none of these,
 * and costs one test of a zero. */
struct table_policy {
	struct table_range rules[RULE_COUNT]; /* in the order in which they were written */
	struct table_range allow, deny;	      /* networks */
	uint32_t maintenance;		      /* 1: 503 to everyone */
	uint32_t auth;	/* 1: only for users; offset of the realm's name: */
	uint32_t realm;
	uint32_t rate; /* enum table_rate */
	uint32_t rate_header; /* offset of its name, lower case */
	uint32_t rate_requests, rate_ms, rate_burst;
	uint32_t near;	    /* enum table_near: by what a request finds the same target again */
	uint32_t near_name; /* offset: of the cookie, of the header (lower case) */
};

struct table_route {
	uint64_t hash; /* of pattern and prefix; 0: free place */
	uint32_t host, host_len; /* offset; pattern without "*": ".example.org", "" for "*" */
	uint32_t path, path_len; /* offset; path_len 0 with app UINT32_MAX: the pattern alone */
	uint32_t app;
};

struct table_net {
	uint8_t addr[16]; /* IPv4 as ::ffff:a.b.c.d */
	uint32_t bits;	  /* of the 128 */
};

/* A socket on which users come in. One that the table does not have is not accepted from: what its
 * connections are is not known yet. */
struct table_listener {
	uint64_t id; /* as in msg_listener */
	uint32_t app; /* UINT32_MAX: HTTP; else index of the app whose connections these are, whatever they speak */
	uint32_t first_net, net_count; /* from these networks, connections begin with a PROXY header */
	uint32_t tls; /* 1: TLS comes first, after such a header */
};

struct table {
	uint32_t magic, version;
	uint64_t size, generation;
	struct table_limits limits;
	uint32_t app_count, target_count, route_cap, listener_count;
	uint32_t net_count, trusted_count; /* the first of them are the trusted ones */
	uint32_t policy_count, rule_count;
	uint32_t apps, targets, routes, nets, listeners, policies, rules, strings; /* offsets of the arrays */
	uint32_t strings_len;
	uint64_t key[2]; /* for hashes that clients must not be able to foresee; the same for ever */
	uint32_t acme; /* offset: thumbprint of the key of our ACME account (RFC 7638), "" for none */
	uint32_t path_longest; /* bytes of the longest prefix: what is behind it need not be hashed */
};

static inline const struct table_app *table_apps(const struct table *t)
{
	return (const void *)((const char *)t + t->apps);
}
static inline const struct table_target *table_targets(const struct table *t)
{
	return (const void *)((const char *)t + t->targets);
}
static inline const struct table_net *table_nets(const struct table *t)
{
	return (const void *)((const char *)t + t->nets);
}
static inline const struct table_rule *table_rules(const struct table *t)
{
	return (const void *)((const char *)t + t->rules);
}
static inline const struct table_policy *table_policies(const struct table *t)
{
	return (const void *)((const char *)t + t->policies);
}
static inline const char *table_string(const struct table *t, uint32_t offset)
{
	return (const char *)t + t->strings + offset;
}

/* --- building (controller) --- */

struct table_in_target {
	uint64_t id, drain_until_ms;
	uint32_t slot, release;
	uint16_t kind, use;
	const char *name;
	uint16_t addr_len;
	uint8_t addr[TABLE_ADDR_MAX];
};

struct table_in_rule {
	enum table_rule_kind kind;
	const char *key, *value;     /* value NULL: none */
	uint32_t key_len, value_len; /* 0: up to its end */
	uint32_t number;
};

struct table_in_policy {
	const struct table_in_rule *rules;
	const struct table_net *allow, *deny;
	uint32_t rule_count, allow_count, deny_count;
	const char *realm, *rate_header, *near_name; /* NULL: none */
	struct table_policy v; /* its plain values */
};

struct table_in_app {
	const char *name;
	const char *health_path; /* NULL or "": connect only */
	const char *const *hosts; /* "example.org", "*.example.org", "*" */
	uint32_t host_count;
	const char *const *paths; /* "/", "/api" */
	uint32_t path_count;
	struct table_app v; /* its plain values; offsets and indexes are filled in by the builder */
	const struct table_in_target *targets;
	uint32_t target_count;
	const struct table_in_policy *policy; /* NULL: none */
};

struct table_in_listener {
	uint64_t id;
	uint32_t app; /* index; UINT32_MAX: HTTP */
	const struct table_net *nets; /* whose connections begin with a PROXY header */
	uint32_t net_count;
	bool tls;
};

struct table_in {
	struct table_limits limits;
	const struct table_net *trusted;
	uint32_t trusted_count;
	const struct table_in_app *apps;
	uint32_t app_count;
	const struct table_in_listener *listeners;
	uint32_t listener_count;
	const char *acme; /* NULL: none */
	uint64_t key[2];
};

/* Appends the table to `ret` (empty before). ERR_INPUT when two apps claim the same host and path
 * (both named), ERR_LIMIT when a bound is passed. Deterministic: the same input, the same bytes. */
int table_build(const struct table_in *in, uint64_t generation, struct buf *ret, struct err *e);

/* Parses "10.0.0.0/8", "::1" or "192.0.2.1" (no "/": that address alone). */
bool table_net_parse(const char *text, struct table_net *ret);

/* Makes the address of a target: "unix:/path" or "127.0.0.1:80" or "[::1]:80" (numbers only).
 * False when it is none of them or too long. */
bool table_addr_parse(const char *text, uint16_t *ret_kind, uint8_t ret_addr[TABLE_ADDR_MAX],
		      uint16_t *ret_len);

/* --- reading (router) --- */

/* Checks every offset, index and string before anything is used. */
int table_check(const void *data, size_t len, struct err *e);
/* Index of the app, or -1. host is lower case, without port; path begins with '/' and has no
 * query. */
int32_t table_find(const struct table *t, const char *host, size_t host_len, const char *path,
		   size_t path_len);
/* A pattern that matches, for who wants to know why an app was found. */
struct table_match {
	uint32_t app;
	const char *host, *path; /* in the table, not terminated; host as in struct table_route */
	uint32_t host_len, path_len;
};
/* All patterns that match, best first, the first max of them; returns how many there are. The first one's
 * app is what table_find() returns. Looks at every pattern. */
uint32_t table_matches(const struct table *t, const char *host, size_t host_len, const char *path,
		       size_t path_len, struct table_match *ret, uint32_t max);
bool table_trusted(const struct table *t, const uint8_t addr[16]);
/* Is a request that came like this (https: over TLS, to us or to a trusted proxy) led to https? */
bool table_to_https(const struct table_app *a, bool https, const char *path, size_t path_len);
/* Is this path the app's no more, but a challenge by which a certificate is got? *ret_token then lies in the
 * path; its length is 0 when it is none that an ACME server could have made (RFC 8555, 8.3: base64url). */
bool table_challenge(const struct table_app *a, const char *path, size_t path_len, const char **ret_token,
		     size_t *ret_len);
/* The listener with this id, or NULL. */
const struct table_listener *table_listener(const struct table *t, uint64_t id);
/* Must a connection from there begin with a PROXY header? */
bool table_proxied(const struct table *t, const struct table_listener *l, const uint8_t addr[16]);
bool table_net_has(const struct table_net *net, const uint8_t addr[16]);
