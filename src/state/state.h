/* SPDX-License-Identifier: Apache-2.0
 *
 * What must be remembered, in one SQLite file, by one connection of one process
 * (the controller).
 *
 * Three kinds:
 * - history: append-only, each record chained to the one before by SHA-256. What
 *   happened can be proved; nothing is ever changed or pruned in it, nor the texts
 *   (manifests, configurations) that it names.
 * - desired: what should be (rollouts, numbers given out, settings); small, overwritten.
 * - device statuses: what the feed tells, and those that were before; bounded.
 *
 * Every call is one transaction and durable when it returns. When the disk is full
 * it returns -ERR_FULL and nothing has changed; state_reserve_use() then frees
 * the reserve, so that rollback, abort and hold can still be recorded.
 */
#pragma once

#include <jansson.h>

#include "base/buf.h"
#include "base/err.h"

struct state;

#define STATE_RESERVE_BYTES (16u << 20)
#define STATE_HASH 65 /* hexadecimal SHA-256 with its NUL */

/* Bounds; beyond them a call returns -ERR_LIMIT and nothing has changed. */
#define STATE_RECORD_MAX (4u << 20) /* bytes of a history record */
#define STATE_TEXT_MAX (64u << 20)
#define STATE_VALUE_MAX (16u << 20) /* bytes of a desired value, as JSON */
#define STATE_BODY_MAX (256u << 10) /* bytes of a device's body, as JSON */
#define STATE_KEY_MAX 512	    /* bytes of a desired value's key */
#define STATE_KEYS_MAX 100000
#define STATE_DEVICES_MAX 100000
/* Statuses that were: the oldest make room, of the device and of all. */
#define STATE_PAST_MAX 500000
#define STATE_PAST_DEVICE_MAX 1000

/* Opens or makes DIR/state.db and DIR/reserve (when there is room for it). -ERR_REFUSED: another
 * process has it open, or a newer Upstate made it. After a kill at any moment, what was
 * committed is there and nothing else. */
int state_open(const char *dir, struct state **ret, struct err *e);
void state_close(struct state *s);
/* Gives the reserve's disk space to the database. Called after -ERR_FULL, before trying again.
 * False when it was used already. */
bool state_reserve_use(struct state *s);
/* Makes the reserve anew when there is room (called now and then). */
void state_reserve_restore(struct state *s);

struct state_usage {
	uint64_t records, keys, devices, past;
	uint64_t keys_refused, devices_refused; /* since state_open() */
	uint64_t past_dropped; /* statuses that made room, ever */
	uint64_t bytes;				/* of the database, without its log */
	bool reserve;				/* there, and not used */
};
int state_usage(struct state *s, struct state_usage *ret, struct err *e);

/* --- history --- */

/* Appends a record: kind ("deploy.begin", "deploy.end", "step", "hold", "config", ...), app ("" for
 * Upstate itself), and data (an object; borrowed). ret_seq gets its number. The stored bytes are
 * the canonical JSON of {seq, time, kind, app, data, prev}: keys sorted, compact, and
 * hash = SHA-256 of these bytes. */
int state_history_add(struct state *s, uint64_t wall_ms, const char *kind, const char *app,
		      json_t *data, uint64_t *ret_seq, struct err *e);
/* Calls `each` for records in ascending order with seq > after (and of the app when app is not
 * NULL, and time <= until_ms when that is not 0), at most `limit` (the newest `limit` of them when
 * `newest`).
 * `record` is {seq, time, kind, app, data, prev, hash}; borrowed. each() returns false to stop. */
int state_history_read(struct state *s, const char *app, uint64_t after, uint64_t until_ms,
		       uint32_t limit, bool newest, bool (*each)(void *arg, json_t *record),
		       void *arg, struct err *e);
/* The number of the newest "change.end" record whose data has this "change"; 0 when there is none. It
 * is looked up, not searched for. */
int state_history_change(struct state *s, uint64_t change, uint64_t *ret_seq, struct err *e);
/* Calls `each` for the newest "change.end" records, of the app when that is not NULL, newest first, at
 * most `limit`. They are looked up, not searched for. */
int state_history_changes(struct state *s, const char *app, uint32_t limit,
			  bool (*each)(void *arg, json_t *record), void *arg, struct err *e);
/* The newest record's number and hash; 0 and 64 zeros when there is none. */
int state_history_head(struct state *s, uint64_t *ret_seq, char ret_hash[STATE_HASH],
		       struct err *e);
/* Recomputes the whole chain. -ERR_CORRUPT names the first record that does not fit. */
int state_history_verify(struct state *s, uint64_t *ret_records, struct err *e);
/* The same in portions, for a process that must not be silent for long (100,000 records take about
 * a second): begins with *v all zero, checks up to `limit` records; 1 when there may be more, 0
 * when the chain is whole: then v holds its end. */
struct state_verify {
	uint64_t seq;
	char hash[STATE_HASH];
};
int state_history_verify_some(struct state *s, struct state_verify *v, uint32_t limit,
			      struct err *e);

/* --- texts that history names by their SHA-256 (manifests, configurations); never pruned --- */

int state_text_put(struct state *s, const void *text, size_t len, char ret_hash[STATE_HASH],
		   struct err *e);
int state_text_get(struct state *s, const char *hash, struct buf *ret, struct err *e);

void state_sha256(const void *data, size_t len, char ret[STATE_HASH]); /* as hex digits */

/* --- desired: named JSON values --- */

int state_put(struct state *s, const char *key, json_t *value, struct err *e); /* NULL: delete */
/* *ret is a new reference, or NULL when there is none (0 is returned then too). */
int state_get(struct state *s, const char *key, json_t **ret, struct err *e);
/* All with this prefix, in order of the key. */
int state_each(struct state *s, const char *prefix,
	       bool (*each)(void *arg, const char *key, json_t *value), void *arg, struct err *e);

/* Groups calls into one transaction. Nested calls are not possible. A write that fails within the
 * group spoils it: later writes in it return the same error, and so does the commit. */
int state_begin(struct state *s, struct err *e);
int state_commit(struct state *s, struct err *e); /* on an error everything since begin is undone */
void state_rollback(struct state *s);

/* A copy of the whole, as it is now, in another folder: DIR/state.db. Not within a transaction. */
int state_copy(struct state *s, const char *dir, struct err *e);
int state_format(void); /* of state.db, as this program writes it */

/* --- device statuses (for feeds): one row per device, moved forward at each change; and the past --- */

struct state_device {
	char id[200];	 /* stable: "guestbook/1", "upstate/router" */
	char app[64];	 /* "" for Upstate's own */
	char status[16]; /* good, bad, ugly, unknown */
	char reason[300];
	char since[40]; /* RFC 3339 with microseconds, strictly increasing over all devices */
	uint64_t seq;	/* number of the change over all devices */
	char *body;	/* JSON text: the dump of the status at the change; owned */
};

/* Records a status when it differs (in status or reason) from what is stored; *ret_changed tells.
 * A reason that is too long is cut; anything else that is too long or not UTF-8 is -ERR_INPUT.
 * -ERR_INPUT and -ERR_LIMIT do not spoil a group: the statuses of others are still recorded. */
int state_device_put(struct state *s, const char *id, const char *app, const char *status,
		     const char *reason, json_t *body, uint64_t wall_ms, bool *ret_changed,
		     struct err *e);
int state_device_del(struct state *s, const char *id, struct err *e);
/* In order of seq, newest first. app NULL: all. d is borrowed. */
int state_device_each(struct state *s, const char *app,
		      bool (*each)(void *arg, const struct state_device *d), void *arg,
		      struct err *e);
/* One of them: 1, or 0 when there is none. Its body is the caller's. */
int state_device_get(struct state *s, const char *id, struct state_device *ret, struct err *e);

/* A status that a device has or had. */
struct state_status {
	uint64_t seq;
	char status[16];
	char reason[300];
	char since[40];
};
/* Those of a device, newest first: the present one, then those before, also of one that is no more.
 * Fills at most `max`; returns how many, or a negative error. */
int state_device_past(struct state *s, const char *id, struct state_status *ret, uint32_t max,
		      struct err *e);
