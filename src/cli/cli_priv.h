/* SPDX-License-Identifier: Apache-2.0
 *
 * What the handlers of verbs share.
 */
#pragma once

#include "cli/api.h"
#include "cli/show.h"
#include "cli/verbs.h"

/* The client of c, opened at the first use. */
int cli_api(struct cli *c, struct api **ret, struct err *e);
/* path is a printf format whose strings must be escaped already; see cli_path(). *ret is new. */
int cli_get(struct cli *c, const char *path, json_t **ret, struct err *e);
/* body is taken over; NULL: an empty object. */
int cli_post(struct cli *c, const char *path, json_t *body, json_t **ret, struct err *e);
/* With a key, by which it is carried out once however often it is sent. body must not be NULL. */
int cli_post_order(struct cli *c, const char *path, json_t *body, json_t **ret, struct err *e);
/* "/v1/apps/" + escaped app + rest. */
const char *cli_app_path(struct buf *b, const char *app, const char *rest);

void cli_print(struct buf *b); /* to standard output; frees b */
/* The answer as it is, for --json. Takes json over. */
int cli_print_json(json_t *json);

/* {"why": TEXT} with what was given, "" else. */
json_t *cli_why(const struct cli *c);
/* The same, but asks on a terminal, and is ERR_INPUT without one. */
int cli_need_why(const struct cli *c, json_t **ret, struct err *e);
/* A number of an option: ERR_INPUT when it is none from 1 to max; fallback when it was not given.
 */
int cli_number(const struct cli *c, enum verbs_option option, uint64_t max, uint64_t fallback,
	       uint64_t *ret, struct err *e);

/* Follows a change to its end (or, with --detach, only tells of it) and shows its receipt; returns
 * the exit status. undo: being undone is what was asked for. */
int follow_change(struct cli *c, uint64_t change, bool undo, struct err *e);
/* The change that an answer of 202 names. */
int follow_begun(struct cli *c, json_t *answer, bool undo, struct err *e);

/* Writes a release into a new directory. */
int checkout_release(struct cli *c, const char *id, const char *dir, struct err *e);

/* One line at the bottom of a terminal that is written over; nothing elsewhere. */
struct progress {
	bool tty;
	uint64_t shown_ms; /* when, so that it is not written too often */
};

void progress_show(struct progress *p, const char *text);
void progress_end(struct progress *p); /* clears it */
