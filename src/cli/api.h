/* SPDX-License-Identifier: Apache-2.0
 *
 * A client of the API on STATE/control.sock, one request at a time over one kept connection.
 *
 * Calls return 0, or a negative error code: what the API answered (its message, its `exit`), or
 * that nobody answers there. Waiting ends when api_interrupted() becomes true.
 */
#pragma once

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"

struct api;

/* What is sent as a body, piece by piece: fills data, returns its length, 0 at the end, -1 to give
 * up (then e of the call is what `failed` holds). */
struct api_source {
	uint64_t len; /* of the whole */
	long (*read)(struct api_source *s, char *data, size_t size);
	struct err failed;
};

/* Takes what comes, as it comes; false to give up. */
typedef bool api_sink(void *arg, const char *data, size_t len);

/* path is STATE/control.sock; nothing is connected yet. */
int api_open(const char *state_dir, struct api **ret, struct err *e);
void api_close(struct api *a);

/* body: JSON text or other text, NULL for none. *ret is a new reference (NULL: not wanted). A request
 * whose connection broke is sent again, a few times: every call is harmless twice, or has a key. */
int api_json(struct api *a, const char *method, const char *path, const char *type,
	     const struct buf *body, json_t **ret, struct err *e);
int api_upload(struct api *a, const char *path, struct api_source *source, struct err *e);
/* GET; what comes goes to the sink. An answer that is no 2xx never reaches it. */
int api_stream(struct api *a, const char *path, api_sink *sink, void *arg, struct err *e);

/* What the last refused request's body said we should end with; 0 when it said nothing. */
int api_exit_status(const struct api *a);
/* The whole body of the last refused request, when it was JSON; borrowed. */
const json_t *api_refusal(const struct api *a);
/* Was the connection lost, or did nobody answer? (Then asking again may help.) */
bool api_lost(const struct api *a);
/* Was there a connection, and it ended without an answer? The controller is being replaced: the next
 * connection waits in the listening socket until the new one is there. */
bool api_broken(const struct api *a);

/* From now on SIGINT and SIGTERM end waiting rather than the program. */
void api_catch_interrupts(void);
bool api_interrupted(void);
void api_interrupt(void); /* as such a signal would */
/* Called now and then while waiting. */
void api_on_wait(struct api *a, void (*wait)(void *arg), void *arg);

/* Appends text as a part of a path or query (RFC 3986: all but unreserved is escaped). */
void api_escape(struct buf *out, const char *text);
