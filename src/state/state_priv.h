/* SPDX-License-Identifier: Apache-2.0
 *
 * Shared by the files of this folder.
 *
 * Every call that writes stands between state_write_begin() and state_write_end(): alone it is a
 * transaction of its own; within state_begin() it joins that one. A write that failed within a
 * group spoils the group: SQLite may have undone all of it already, so the calls that
 * follow must not land outside, and the commit returns what went wrong first.
 *
 * A read never leaves a statement open while a callback runs (it fetches row by row, each by the
 * key of the one before), so callbacks may call anything here, and nothing pins the log.
 */
#pragma once

#include <sqlite3.h>
#include <string.h>

#include "state/state.h"

/* X(NAME, sql) prepared once, kept until the database is closed */
#define STATE_SQL_TABLE(X)                                                                         \
	X(BEGIN, "BEGIN IMMEDIATE")                                                                \
	X(COMMIT, "COMMIT")                                                                        \
	X(COUNTER_GET, "SELECT value FROM counter WHERE name = ?1")                                \
	X(COUNTER_SET, "UPDATE counter SET value = ?2 WHERE name = ?1")                            \
	X(HISTORY_HEAD, "SELECT seq, hash FROM history ORDER BY seq DESC LIMIT 1")                 \
	X(HISTORY_ADD, "INSERT INTO history(seq, time, kind, app, record, hash) "                  \
		       "VALUES(?1, ?2, ?3, ?4, ?5, ?6)")                                           \
	X(HISTORY_NEXT, "SELECT seq, time, kind, app, record, hash FROM history "                  \
			"WHERE seq > ?1 AND time <= ?2 ORDER BY seq LIMIT 1")                      \
	X(HISTORY_NEXT_APP, "SELECT seq, time, kind, app, record, hash FROM history "              \
			    "WHERE app = ?3 AND seq > ?1 AND time <= ?2 ORDER BY seq LIMIT 1")     \
	X(HISTORY_FROM, "SELECT min(seq) FROM (SELECT seq FROM history "                           \
			"WHERE seq > ?1 AND time <= ?2 ORDER BY seq DESC LIMIT ?4)")               \
	X(HISTORY_FROM_APP, "SELECT min(seq) FROM (SELECT seq FROM history WHERE app = ?3 "        \
			    "AND seq > ?1 AND time <= ?2 ORDER BY seq DESC LIMIT ?4)")             \
	X(CHANGE_GET, "SELECT seq FROM change WHERE number = ?1")                                  \
	X(CHANGE_SET, "INSERT OR REPLACE INTO change(number, seq, app) VALUES(?1, ?2, ?3)")        \
	X(CHANGE_NEXT, "SELECT seq FROM change WHERE seq < ?1 ORDER BY seq DESC LIMIT 1")          \
	X(CHANGE_NEXT_APP, "SELECT seq FROM change WHERE app = ?2 AND seq < ?1 ORDER BY seq DESC LIMIT 1") \
	X(TEXT_HAS, "SELECT 1 FROM text WHERE hash = ?1")                                          \
	X(TEXT_ADD, "INSERT INTO text(hash, body) VALUES(?1, ?2)")                                 \
	X(TEXT_GET, "SELECT body FROM text WHERE hash = ?1")                                       \
	X(DESIRED_GET, "SELECT value FROM desired WHERE key = ?1")                                 \
	X(DESIRED_ADD, "INSERT INTO desired(key, value) VALUES(?1, ?2)")                           \
	X(DESIRED_SET, "UPDATE desired SET value = ?2 WHERE key = ?1")                             \
	X(DESIRED_DEL, "DELETE FROM desired WHERE key = ?1")                                       \
	X(DESIRED_FIRST, "SELECT key, value FROM desired WHERE key >= ?1 ORDER BY key LIMIT 1")    \
	X(DESIRED_NEXT, "SELECT key, value FROM desired WHERE key > ?1 ORDER BY key LIMIT 1")      \
	X(DEVICE_GET, "SELECT status, reason FROM device WHERE id = ?1")                           \
	X(DEVICE_ADD, "INSERT INTO device(id, app, status, reason, since_us, seq, body) "          \
		      "VALUES(?1, ?2, ?3, ?4, ?5, ?6, ?7)")                                        \
	X(DEVICE_SET, "UPDATE device SET app = ?2, status = ?3, reason = ?4, since_us = ?5, "      \
		      "seq = ?6, body = ?7 WHERE id = ?1")                                         \
	X(DEVICE_DEL, "DELETE FROM device WHERE id = ?1")                                          \
	X(DEVICE_READ, "SELECT id, app, status, reason, since_us, seq, body FROM device WHERE id = ?1") \
	X(STATUS_ADD, "INSERT INTO status(seq, device, since_us, status, reason) VALUES(?1, ?2, ?3, ?4, ?5)") \
	X(STATUS_TRIM, "DELETE FROM status WHERE seq = (SELECT min(seq) FROM status)")              \
	X(STATUS_TRIM_DEVICE, "DELETE FROM status WHERE seq = (SELECT seq FROM status WHERE device = ?1 " \
			      "ORDER BY seq DESC LIMIT 1 OFFSET ?2)")                              \
	X(STATUS_NEXT, "SELECT seq, since_us, status, reason FROM status WHERE device = ?1 AND seq < ?2 " \
		       "ORDER BY seq DESC LIMIT 1")                                                \
	X(DEVICE_NEXT, "SELECT id, app, status, reason, since_us, seq, body FROM device "          \
		       "WHERE seq < ?1 ORDER BY seq DESC LIMIT 1")                                 \
	X(DEVICE_NEXT_APP, "SELECT id, app, status, reason, since_us, seq, body FROM device "      \
			   "WHERE app = ?2 AND seq < ?1 ORDER BY seq DESC LIMIT 1")

enum state_sql {
#define X(name, sql) SQL_##name,
	STATE_SQL_TABLE(X)
#undef X
	SQL_COUNT
};

struct state {
	sqlite3 *db;
	sqlite3_stmt *sql[SQL_COUNT];
	char *dir;
	bool reserve; /* DIR/reserve holds its bytes */
	bool group;   /* between state_begin() and state_commit() */
	struct err spoilt; /* the first failure within the group */
	uint64_t keys_refused, devices_refused;
};

/* The statement, ready for binding. */
sqlite3_stmt *state_sql(struct state *s, enum state_sql which);
/* Runs a statement that returns no row. */
int state_run(struct state *s, sqlite3_stmt *q, struct err *e);
/* 1: there is a row (reset the statement when it was read); 0: none; negative: an error. */
int state_row(struct state *s, sqlite3_stmt *q, struct err *e);
/* The last error of SQLite in our words. */
int state_error(struct state *s, struct err *e);

/* e is not NULL in these two. result: of what was in between; when negative, e says why. */
int state_write_begin(struct state *s, struct err *e);
int state_write_end(struct state *s, int result, struct err *e);

int state_counter_get(struct state *s, const char *name, uint64_t *ret, struct err *e);
int state_counter_set(struct state *s, const char *name, uint64_t value, struct err *e);

void state_bind_text(sqlite3_stmt *q, int at, const char *text);
/* "" when NULL; valid until the statement is stepped or reset. */
const char *state_column_text(sqlite3_stmt *q, int at);

/* DIR/reserve; see reserve.c. */
bool reserve_make(const char *dir);
bool reserve_use(const char *dir);

/* What was read from the database and does not parse: names what it was. */
int state_json(const char *text, size_t len, json_t **ret, struct err *e);
