/* SPDX-License-Identifier: Apache-2.0
 *
 * upstate top, in three: top_rows.c makes rates and quantiles out of two answers of
 * /v1/numbers, top_view.c draws them, top.c has the terminal. The first two touch nothing outside.
 */
#pragma once

#include <jansson.h>

#include "base/buf.h"

/* What one may sort by. X(NAME, key on the keyboard, name on the screen) */
#define TOP_KEY_TABLE(X)                                                                           \
	X(REQUESTS, 'r', "requests")                                                               \
	X(P99, 'p', "p99")                                                                         \
	X(FAILED, 'f', "failed")                                                                   \
	X(HELD, 'h', "held")                                                                       \
	X(INSIDE, 'i', "inside")                                                                   \
	X(NAME, 'n', "name")

enum top_key {
#define X(name, letter, text) TOP_##name,
	TOP_KEY_TABLE(X)
#undef X
	TOP_KEY_COUNT
};

/* An app, or a target of the app before it. Texts are those of the answer, as they came. */
struct top_row {
	const char *app, *name, *status, *reason, *release, *use, *state;
	bool target, held;
	bool known; /* there was an answer before, so that the next ones mean something */
	double requests, failed, retried; /* a second */
	double p50_ms, p99_ms;		  /* of those answered in the interval; < 0: none was */
	uint64_t waiting, inside, connections;
	double key, app_key; /* while sorting */
};

struct top {
	struct top_row *rows;
	size_t count;
	double seconds; /* between the answers; 0: there was only one */
	json_t *numbers; /* what the texts lie in */
};

/* before may be NULL. Holds a reference to now. */
void top_rows(const json_t *before, json_t *now, struct top *ret);
void top_free(struct top *t);
/* The highest first (by name: a to z); targets stay below their app, sorted alike (by name where
 * apps are by requests). */
void top_sort(struct top *t, enum top_key key);
json_t *top_json(const struct top *t);

struct top_view {
	int width, height; /* 0: as long as it is, for a pipe */
	bool colour, targets, paused, typing;
	enum top_key key;
	const char *filter; /* part of an app's name; "" for all */
	const char *trouble; /* why the numbers are old; "" */
	size_t skip;	     /* rows scrolled past; made smaller when there are not so many */
};

/* The table alone (height 0), or a whole screen, each line cleared before it. */
void top_draw(const struct top *t, struct top_view *v, struct buf *out);
