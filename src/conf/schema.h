/* SPDX-License-Identifier: Apache-2.0
 *
 * The one table of all keys. Reading, range checks, defaults, suggestions and the
 * manual are loops over it; a new key is a new row (and a field in conf.h).
 */
#pragma once

#include "conf/conf.h"

/* Whose key it is. X(NAME, what messages call it) */
#define SCHEMA_OWNER_TABLE(X)                                                                      \
	X(TOP, "the file")                                                                         \
	X(APP, "an app")                                                                           \
	X(CERT, "a certificate")                                                                   \
	X(DEVICE, "a device")                                                                      \
	X(CHECK, "a check")

enum schema_owner {
#define X(name, what) SCHEMA_##name,
	SCHEMA_OWNER_TABLE(X)
#undef X
};

/* How a value is written, and the C type of its field.
 * X(NAME, what messages expect, what the manual calls it) */
#define SCHEMA_TYPE_TABLE(X)                                                                       \
	X(SECTION, "a map of keys", "")                  /* has keys of its own; no field */       \
	X(TEXT, "text", "text")                          /* char * */                              \
	X(LIST, "a list", "text or list")                /* struct conf_text_list */               \
	X(INT, "a number", "number")                     /* uint32_t */                            \
	X(MS, "a duration like 30s", "duration")         /* uint32_t, milliseconds */              \
	X(SECONDS, "a duration like 365d", "duration")   /* uint32_t, seconds; the row has ms */   \
	X(BYTES, "a size like 10MiB", "size")            /* uint64_t */                            \
	X(BYTES32, "a size like 32KiB", "size")          /* uint32_t */                            \
	X(PERCENT, "a share like 10%", "share")          /* uint32_t, parts of a million */         \
	X(BOOL, "true or false", "true or false")        /* bool */                                \
	X(WORD, "one of some words", "word")             /* int, index in words */                 \
	X(SIGNAL, "the name of a signal", "signal")      /* char *, and its number after it */     \
	X(ENV, "a map of NAME: VALUE", "map")            /* struct conf_text_list */               \
	X(FIELDS, "a map of NAME: VALUE", "map")         /* struct conf_text_list of "NAME\0VALUE" */ \
	X(REDIRECTS, "a list like '- { from: /old, to: /new }'", "list") /* redirects, redirect_count */ \
	X(PAGE, "the path of a file", "file")            /* struct conf_page */                    \
	X(LISTEN, "a list like '- http: 0.0.0.0:8080'", "list") /* struct conf_text_list */        \
	X(CERTS, "a list like '- {cert: FILE, key: FILE}'", "list") /* certificates, and their number */ \
	X(APPS, "a map of NAME: app", "map")             /* apps, app_count */                    \
	X(DEVICES, "a map of NAME: device", "map")       /* devices, device_count */               \
	X(CHECKS, "a list like '- http: http://10.0.0.5/'", "list") /* checks, check_count */     \
	X(NEEDS, "a list of devices", "list")            /* struct conf_needs */

enum schema_type {
#define X(name, expected, manual) SCHEMA_##name,
	SCHEMA_TYPE_TABLE(X)
#undef X
	SCHEMA_TYPE_COUNT
};

/* Checks one text and may change it in place (lower case, a '/' less; never longer). Returns NULL,
 * or what is wrong with it, as the rest of a sentence: "a host stands without a port". */
typedef const char *schema_check(char *text);

struct schema_row {
	enum schema_owner owner;
	const char *path; /* "hold.wait" */
	enum schema_type type;
	bool run_only; /* means nothing for an app with targets */
	uint32_t kinds; /* of check: bits of those that have the key; 0: all */
	size_t offset; /* in struct conf or struct conf_app */
	uint64_t min, max; /* of numbers; number of items of lists; length of text */
	const char *fallback; /* as written in a file; NULL: none */
	const char *example;  /* as written in a file; NULL: the fallback */
	schema_check *check;
	const char *const *words; /* WORD: ends with NULL */
	const char *doc;
};

extern const struct schema_row schema_rows[];
extern const size_t schema_len;

/* The row of prefix + key ("hold." + "wait"), or NULL. */
const struct schema_row *schema_find(enum schema_owner owner, const char *prefix, const char *key);
/* The part of a path after its last dot. */
const char *schema_key(const struct schema_row *row);
/* Does the row stand directly below prefix ("" or "hold.")? */
bool schema_below(const struct schema_row *row, enum schema_owner owner, const char *prefix);
const char *schema_expected(enum schema_type type);
const char *schema_type_name(enum schema_type type);
/* A number as a file would have it: "30s", "10MiB", "64"; returns text. */
#define SCHEMA_NUMBER 32
const char *schema_number(enum schema_type type, uint64_t v, char text[SCHEMA_NUMBER]);

/* Signals by name, without SIG; 0: no such. */
int schema_signal(const char *name);
extern const char *const schema_signals[]; /* ends with NULL */

/* The checks, in conf/text.c. */
schema_check text_host, text_route_path, text_health_path, text_listen, text_admin, text_target,
	text_network, text_name, text_data, text_command, text_group, text_file;

/* conf/auto.c */
schema_check text_acme_server, text_mail;
/* Those of devices and checks, in conf/text_check.c. */
schema_check text_device, text_period, text_secret, text_url, text_address, text_label, text_threshold, text_statuses, text_expect_header,
	text_json_path, text_domain, text_server, text_host_name, text_version, text_measure,
	text_program, text_check_field, text_absolute;

/* Those of policies, in conf/text_policy.c. */
schema_check text_request_field, text_answer_field, text_field_value, text_redirect_from,
	text_redirect_to, text_key_by, text_user, text_realm, text_sticky, text_balance;
/* Can that which leads there be followed for ever? Both were checked. */
bool text_redirect_loops(const char *from, const char *to);
