/* SPDX-License-Identifier: Apache-2.0
 *
 * The database itself: opening, transactions, errors, the counters.
 *
 * One connection with an exclusive lock: nobody else can write or checkpoint beside it
 * (several writers can damage a log in the SQLite of Debian 12), and a second controller on
 * the same state is told so. WAL with synchronous=FULL: a commit is one append and one fsync, and
 * it is on disk when the call returns. After SIGKILL the lock is gone with the process, and
 * the next open replays what was committed.
 *
 * The tables of history and texts refuse UPDATE and DELETE by trigger. That is no protection
 * against someone with the file in hand (the chain is), but it is against our own mistakes.
 */
#include "state/state_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/sha.h>
#include <sys/stat.h>

#define SCHEMA_VERSION 2
#define APPLICATION_ID 0x55707374 /* "Upst" */
#define NUMBER_(x) #x
#define NUMBER(x) NUMBER_(x)

#define FIXED(table)                                                                               \
	"CREATE TRIGGER " table "_update BEFORE UPDATE ON " table                                  \
	" BEGIN SELECT RAISE(ABORT, '" table " is never changed'); END;"                           \
	"CREATE TRIGGER " table "_delete BEFORE DELETE ON " table                                  \
	" BEGIN SELECT RAISE(ABORT, '" table " is never pruned'); END;"
#define COUNTED(table)                                                                             \
	"CREATE TRIGGER " table "_more AFTER INSERT ON " table                                     \
	" BEGIN UPDATE counter SET value = value + 1 WHERE name = '" table "'; END;"               \
	"CREATE TRIGGER " table "_less AFTER DELETE ON " table                                     \
	" BEGIN UPDATE counter SET value = value - 1 WHERE name = '" table "'; END;"

/* What makes each version out of the one before; a new file goes through all of them.
 * clang-format off */
static const char *const schema_steps[SCHEMA_VERSION] = {
	"CREATE TABLE counter(name TEXT PRIMARY KEY, value INTEGER NOT NULL) STRICT;"
	"INSERT INTO counter VALUES('desired', 0), ('device', 0), ('device_seq', 0), "
	"('device_us', 0);"
	"CREATE TABLE history(seq INTEGER PRIMARY KEY CHECK(seq > 0), time INTEGER NOT NULL, "
	"kind TEXT NOT NULL, app TEXT NOT NULL, record TEXT NOT NULL, hash TEXT NOT NULL) STRICT;"
	"CREATE INDEX history_app ON history(app, seq);"
	"CREATE TABLE change(number INTEGER PRIMARY KEY, seq INTEGER NOT NULL) STRICT;"
	"CREATE TRIGGER history_next BEFORE INSERT ON history "
	"WHEN NEW.seq <> (SELECT coalesce(max(seq), 0) + 1 FROM history) "
	"BEGIN SELECT RAISE(ABORT, 'history has no gaps'); END;"
	FIXED("history")
	"CREATE TABLE text(hash TEXT PRIMARY KEY, body BLOB NOT NULL) STRICT;"
	FIXED("text")
	"CREATE TABLE desired(key TEXT PRIMARY KEY, value TEXT NOT NULL) STRICT;"
	COUNTED("desired")
	"CREATE TABLE device(id TEXT PRIMARY KEY, app TEXT NOT NULL, status TEXT NOT NULL, "
	"reason TEXT NOT NULL, since_us INTEGER NOT NULL, seq INTEGER NOT NULL UNIQUE, "
	"body TEXT NOT NULL) STRICT;"
	"CREATE INDEX device_app ON device(app, seq);"
	COUNTED("device")
	"PRAGMA application_id = " NUMBER(APPLICATION_ID) ";"
	"PRAGMA user_version = 1",

	"CREATE TABLE status(seq INTEGER PRIMARY KEY, device TEXT NOT NULL, since_us INTEGER NOT NULL, "
	"status TEXT NOT NULL, reason TEXT NOT NULL) STRICT;"
	"CREATE INDEX status_device ON status(device, seq);"
	"INSERT INTO counter VALUES('status', (SELECT count(*) FROM device));"
	"INSERT INTO status SELECT seq, id, since_us, status, reason FROM device;"
	COUNTED("status")
	"ALTER TABLE change ADD COLUMN app TEXT NOT NULL DEFAULT '';"
	"UPDATE change SET app = (SELECT h.app FROM history h WHERE h.seq = change.seq);"
	"CREATE INDEX change_app ON change(app, seq);"
	"CREATE INDEX change_seq ON change(seq);"
	"PRAGMA user_version = 2",
};
/* clang-format on */

static const char *const sql_text[SQL_COUNT] = {
#define X(name, sql) [SQL_##name] = sql,
	STATE_SQL_TABLE(X)
#undef X
};

int state_error(struct state *s, struct err *e)
{
	int code = sqlite3_errcode(s->db), saved = sqlite3_system_errno(s->db);
	const char *msg = sqlite3_errmsg(s->db);

	switch (code) {
	case SQLITE_FULL:
		return err_set(e, ERR_FULL, "'%s/state.db': no space left on the disk", s->dir);
	case SQLITE_BUSY:
	case SQLITE_LOCKED:
		return err_set(e, ERR_REFUSED,
			       "'%s/state.db' is in use by another process: end that first",
			       s->dir);
	case SQLITE_CORRUPT:
	case SQLITE_NOTADB:
		return err_set(e, ERR_CORRUPT,
			       "'%s/state.db' is damaged (%s): put it back from a copy", s->dir,
			       msg);
	case SQLITE_TOOBIG:
		return err_set(e, ERR_LIMIT, "too large for the database");
	case SQLITE_IOERR:
	case SQLITE_CANTOPEN:
		if (saved == ENOSPC || saved == EDQUOT)
			return err_set(e, ERR_FULL, "'%s/state.db': %s", s->dir, strerror(saved));
		return err_set(e, ERR_SYS, "'%s/state.db': %s%s%s", s->dir, msg, saved ? ": " : "",
			       saved ? strerror(saved) : "");
	default:
		return err_set(e, ERR_SYS, "'%s/state.db': %s", s->dir, msg);
	}
}

sqlite3_stmt *state_sql(struct state *s, enum state_sql which)
{
	sqlite3_stmt *q = s->sql[which];

	sqlite3_reset(q);
	sqlite3_clear_bindings(q);
	return q;
}

int state_row(struct state *s, sqlite3_stmt *q, struct err *e)
{
	int r = sqlite3_step(q);

	if (r == SQLITE_ROW)
		return 1;
	if (r == SQLITE_DONE) {
		sqlite3_reset(q);
		return 0;
	}
	r = state_error(s, e);
	sqlite3_reset(q);
	return r;
}

int state_run(struct state *s, sqlite3_stmt *q, struct err *e)
{
	int r = state_row(s, q, e);

	ensure(r <= 0);
	return r;
}

void state_bind_text(sqlite3_stmt *q, int at, const char *text)
{
	sqlite3_bind_text(q, at, text, -1, SQLITE_STATIC);
}

const char *state_column_text(sqlite3_stmt *q, int at)
{
	const char *text = (const char *)sqlite3_column_text(q, at);

	return text ? text : "";
}

void state_sha256(const void *data, size_t len, char ret[STATE_HASH])
{
	unsigned char sum[SHA256_DIGEST_LENGTH];

	SHA256(data, len, sum);
	for (size_t i = 0; i < sizeof(sum); i++)
		snprintf(ret + 2 * i, 3, "%02x", sum[i]);
}

int state_json(const char *text, size_t len, json_t **ret, struct err *e)
{
	json_error_t problem;

	*ret = json_loadb(text, len, JSON_DECODE_ANY | JSON_ALLOW_NUL, &problem);
	if (!*ret)
		return err_set(e, ERR_CORRUPT, "is not JSON (%s)", problem.text);
	return 0;
}

/* --- transactions --- */

static void undo(struct state *s)
{
	/* SQLite has undone it by itself after some errors. */
	if (!sqlite3_get_autocommit(s->db))
		sqlite3_exec(s->db, "ROLLBACK", NULL, NULL, NULL);
}

int state_write_begin(struct state *s, struct err *e)
{
	if (!s->group)
		return state_run(s, state_sql(s, SQL_BEGIN), e);
	if (s->spoilt.code == ERR_OK)
		return 0;
	return err_set(e, s->spoilt.code, "%s", s->spoilt.msg);
}

static int commit(struct state *s, struct err *e)
{
	int r = state_run(s, state_sql(s, SQL_COMMIT), e);

	if (r < 0)
		undo(s);
	return r;
}

int state_write_end(struct state *s, int result, struct err *e)
{
	if (!s->group) {
		if (result == 0)
			return commit(s, e);
		undo(s);
		return result;
	}
	if (result < 0 && s->spoilt.code == ERR_OK)
		s->spoilt = *e;
	return result;
}

int state_begin(struct state *s, struct err *e)
{
	int r;

	ensure(!s->group);
	r = state_run(s, state_sql(s, SQL_BEGIN), e);
	if (r < 0)
		return r;
	s->group = true;
	s->spoilt.code = ERR_OK;
	return 0;
}

int state_commit(struct state *s, struct err *e)
{
	ensure(s->group);
	s->group = false;
	if (s->spoilt.code == ERR_OK)
		return commit(s, e);
	undo(s);
	return err_set(e, s->spoilt.code, "%s", s->spoilt.msg);
}

void state_rollback(struct state *s)
{
	if (!s->group)
		return;
	s->group = false;
	undo(s);
}

/* --- counters --- */

int state_counter_get(struct state *s, const char *name, uint64_t *ret, struct err *e)
{
	sqlite3_stmt *q = state_sql(s, SQL_COUNTER_GET);
	int r;

	state_bind_text(q, 1, name);
	r = state_row(s, q, e);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(e, ERR_CORRUPT, "'%s/state.db' has no counter '%s'", s->dir, name);
	*ret = (uint64_t)sqlite3_column_int64(q, 0);
	sqlite3_reset(q);
	return 0;
}

int state_counter_set(struct state *s, const char *name, uint64_t value, struct err *e)
{
	sqlite3_stmt *q = state_sql(s, SQL_COUNTER_SET);

	state_bind_text(q, 1, name);
	sqlite3_bind_int64(q, 2, (sqlite3_int64)value);
	return state_run(s, q, e);
}

static int pragma_number(struct state *s, const char *sql, int64_t *ret, struct err *e)
{
	sqlite3_stmt *q;
	int r;

	if (sqlite3_prepare_v2(s->db, sql, -1, &q, NULL) != SQLITE_OK)
		return state_error(s, e);
	r = state_row(s, q, e);
	if (r == 1)
		*ret = sqlite3_column_int64(q, 0);
	sqlite3_finalize(q);
	return r < 0 ? r : 0;
}

int state_usage(struct state *s, struct state_usage *ret, struct err *e)
{
	struct state_usage u = {.keys_refused = s->keys_refused,
				.devices_refused = s->devices_refused,
				.reserve = s->reserve};
	char hash[STATE_HASH];
	int64_t pages = 0, page = 0;
	int r;

	if ((r = state_counter_get(s, "desired", &u.keys, e)) < 0 ||
	    (r = state_counter_get(s, "device", &u.devices, e)) < 0 ||
	    (r = state_counter_get(s, "status", &u.past, e)) < 0 ||
	    (r = state_counter_get(s, "device_seq", &u.past_dropped, e)) < 0 ||
	    (r = state_history_head(s, &u.records, hash, e)) < 0 ||
	    (r = pragma_number(s, "PRAGMA page_count", &pages, e)) < 0 ||
	    (r = pragma_number(s, "PRAGMA page_size", &page, e)) < 0)
		return r;
	u.past_dropped -= MIN(u.past, u.past_dropped);
	u.bytes = (uint64_t)(pages * page);
	*ret = u;
	return 0;
}

/* --- opening --- */

static int exec(struct state *s, const char *sql, struct err *e)
{
	int r = 0;

	if (sqlite3_exec(s->db, sql, NULL, NULL, NULL) != SQLITE_OK) {
		r = state_error(s, e);
		undo(s);
	}
	return r;
}

/* A new file gets its tables, an older one what it lacks; one that is not ours, or newer than we are,
 * is refused. */
static int check_schema(struct state *s, struct err *e)
{
	int64_t version = 0, id = 0, tables = 0;
	int r;

	if ((r = pragma_number(s, "PRAGMA user_version", &version, e)) < 0 ||
	    (r = pragma_number(s, "PRAGMA application_id", &id, e)) < 0 ||
	    (r = pragma_number(s, "SELECT count(*) FROM sqlite_schema", &tables, e)) < 0)
		return r;
	if ((tables || version || id) && id != APPLICATION_ID)
		return err_set(e, ERR_CORRUPT, "'%s/state.db' is not a database of Upstate",
			       s->dir);
	if (version > SCHEMA_VERSION)
		return err_set(e, ERR_REFUSED,
			       "'%s/state.db' was made by a newer Upstate (schema %lld, this one "
			       "knows %d): run that version",
			       s->dir, (long long)version, SCHEMA_VERSION);
	if (version < 0)
		return err_set(e, ERR_CORRUPT, "'%s/state.db' has the unknown schema %lld", s->dir,
			       (long long)version);
	for (; version < SCHEMA_VERSION; version++)
		if ((r = exec(s, "BEGIN IMMEDIATE", e)) < 0 || (r = exec(s, schema_steps[version], e)) < 0 ||
		    (r = exec(s, "COMMIT", e)) < 0)
			return r;
	return 0;
}

/* Made beforehand, so that nobody but the owner can read it or the log beside it; and its name is
 * on disk before anything is called durable. */
static int make_file(const char *dir, const char *path, struct err *e)
{
	CLEANUP_FD int dirfd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	int fd;

	if (dirfd < 0)
		return err_sys(e, "'%s'", dir);
	fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno == EEXIST ? 0 : err_sys(e, "'%s'", path);
	close(fd);
	if (fsync(dirfd) < 0)
		return err_sys(e, "'%s'", dir);
	return 0;
}

static int connect_file(struct state *s, const char *path, struct err *e)
{
	static const char settings[] = "PRAGMA locking_mode = EXCLUSIVE;"
				       "PRAGMA journal_mode = WAL;"
				       "PRAGMA synchronous = FULL;"
				       "PRAGMA foreign_keys = ON;"
				       "PRAGMA recursive_triggers = ON;"
				       "PRAGMA trusted_schema = OFF;"
				       "PRAGMA cell_size_check = ON;"
				       "PRAGMA temp_store = MEMORY;"
				       "PRAGMA journal_size_limit = 16777216";
	int r;

	if (sqlite3_open_v2(path, &s->db, SQLITE_OPEN_READWRITE, NULL) != SQLITE_OK)
		return s->db ? state_error(s, e) : err_set(e, ERR_SYS, "out of memory");
	sqlite3_extended_result_codes(s->db, 0);
	sqlite3_busy_timeout(s->db, 1000);
	if ((r = exec(s, settings, e)) < 0 || (r = check_schema(s, e)) < 0)
		return r;
	for (int i = 0; i < SQL_COUNT; i++)
		if (sqlite3_prepare_v3(s->db, sql_text[i], -1, SQLITE_PREPARE_PERSISTENT,
				       &s->sql[i], NULL) != SQLITE_OK)
			return state_error(s, e);
	return 0;
}

int state_open(const char *dir, struct state **ret, struct err *e)
{
	char path[4096];
	struct state *s;
	int r;

	if (snprintf(path, sizeof(path), "%s/state.db", dir) >= (int)sizeof(path))
		return err_set(e, ERR_INPUT, "the path of the state directory is too long");
	r = make_file(dir, path, e);
	if (r < 0)
		return r;
	s = util_alloc(sizeof(*s));
	s->dir = util_strdup(dir);
	r = connect_file(s, path, e);
	if (r < 0) {
		state_close(s);
		return r;
	}
	s->reserve = reserve_make(dir);
	*ret = s;
	return 0;
}

void state_close(struct state *s)
{
	if (!s)
		return;
	state_rollback(s);
	for (int i = 0; i < SQL_COUNT; i++)
		sqlite3_finalize(s->sql[i]);
	/* Writes the log back and removes it; when that fails, the next open reads it. */
	if (s->db)
		ensure(sqlite3_close(s->db) == SQLITE_OK);
	free(s->dir);
	free(s);
}

int state_format(void)
{
	return SCHEMA_VERSION;
}

int state_copy(struct state *s, const char *dir, struct err *e)
{
	sqlite3_backup *copy = NULL;
	sqlite3 *to = NULL;
	char path[4096];
	int rc;

	if (snprintf(path, sizeof(path), "%s/state.db", dir) >= (int)sizeof(path))
		return err_set(e, ERR_INPUT, "the path of the copy is too long");
	rc = sqlite3_open_v2(path, &to, SQLITE_OPEN_READWRITE | SQLITE_OPEN_CREATE, NULL);
	if (rc == SQLITE_OK)
		copy = sqlite3_backup_init(to, "main", s->db, "main");
	if (copy) {
		sqlite3_backup_step(copy, -1);
		rc = sqlite3_backup_finish(copy);
	} else if (rc == SQLITE_OK) {
		rc = sqlite3_errcode(to);
	}
	sqlite3_close(to);
	if (rc == SQLITE_OK)
		return 0;
	return err_set(e, rc == SQLITE_FULL ? ERR_FULL : ERR_SYS, "copying the state to '%s': %s", path,
		       sqlite3_errstr(rc));
}

bool state_reserve_use(struct state *s)
{
	s->reserve = false;
	return reserve_use(s->dir);
}

void state_reserve_restore(struct state *s)
{
	if (!s->reserve)
		s->reserve = reserve_make(s->dir);
}
