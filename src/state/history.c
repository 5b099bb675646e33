/* SPDX-License-Identifier: Apache-2.0
 *
 * The history and its chain.
 *
 * The bytes of a record are canonical JSON (sorted keys, no blanks) with the hash of the record
 * before in it; its own hash is over these bytes. The columns beside them are for searching and are
 * compared with the record when the chain is verified, so that a query cannot be led astray either.
 * Records that are missing at the end cannot be found here: against that the head
 * stands in the feeds.
 */
#include "state/state_priv.h"

#include "base/clock.h"

#define TIME_MAX_MS 253402300799999ull /* the end of the year 9999 */

static const char no_hash[STATE_HASH] =
    "0000000000000000000000000000000000000000000000000000000000000000";

int state_history_head(struct state *s, uint64_t *ret_seq, char ret_hash[STATE_HASH], struct err *e)
{
	sqlite3_stmt *q = state_sql(s, SQL_HISTORY_HEAD);
	int r = state_row(s, q, e);

	if (r < 0)
		return r;
	*ret_seq = 0;
	memcpy(ret_hash, no_hash, STATE_HASH);
	if (r == 1) {
		*ret_seq = (uint64_t)sqlite3_column_int64(q, 0);
		util_copy(ret_hash, STATE_HASH, state_column_text(q, 1));
		sqlite3_reset(q);
	}
	return 0;
}

/* The canonical bytes. What would not read back as it is written (too deep, not UTF-8) is refused.
 */
static int canonical(json_t *record, char **ret, struct err *e)
{
	CLEANUP_FREE char *text = json_dumps(record, JSON_SORT_KEYS | JSON_COMPACT);
	json_t *back;
	int r;

	if (!text)
		return err_set(e, ERR_INPUT, "a history record cannot be written as JSON");
	if (strlen(text) > STATE_RECORD_MAX)
		return err_set(e, ERR_LIMIT, "a history record of %zu bytes; at most %u fit",
			       strlen(text), STATE_RECORD_MAX);
	r = state_json(text, strlen(text), &back, e);
	if (r < 0) {
		r = err_wrap(e, "a history record");
		return e ? err_set(e, ERR_INPUT, "%s", e->msg) : r;
	}
	json_decref(back);
	*ret = TAKE(text);
	return 0;
}

static int insert(struct state *s, uint64_t wall_ms, const char *kind, const char *app,
		  json_t *data, uint64_t *ret_seq, struct err *e)
{
	char prev[STATE_HASH], hash[STATE_HASH], time[CLOCK_TEXT];
	CLEANUP_FREE char *text = NULL;
	sqlite3_stmt *q;
	json_t *record;
	uint64_t seq;
	int r;

	r = state_history_head(s, &seq, prev, e);
	if (r < 0)
		return r;
	seq++;
	record = json_pack("{s:I, s:s, s:s, s:s, s:O, s:s}", "seq", (json_int_t)seq, "time",
			   clock_text(wall_ms, time), "kind", kind, "app", app, "data", data,
			   "prev", prev);
	if (!record)
		return err_set(e, ERR_INPUT, "a history record's kind or app is not UTF-8");
	r = canonical(record, &text, e);
	json_decref(record);
	if (r < 0)
		return r;
	state_sha256(text, strlen(text), hash);
	q = state_sql(s, SQL_HISTORY_ADD);
	sqlite3_bind_int64(q, 1, (sqlite3_int64)seq);
	sqlite3_bind_int64(q, 2, (sqlite3_int64)wall_ms);
	state_bind_text(q, 3, kind);
	state_bind_text(q, 4, app);
	state_bind_text(q, 5, text);
	state_bind_text(q, 6, hash);
	r = state_run(s, q, e);
	sqlite3_clear_bindings(q);
	if (r == 0)
		*ret_seq = seq;
	return r;
}

/* Where the end of a change stands: pages and people ask for it by its number. */
static int note_change(struct state *s, json_int_t number, const char *app, uint64_t seq, struct err *e)
{
	sqlite3_stmt *q = state_sql(s, SQL_CHANGE_SET);

	sqlite3_bind_int64(q, 1, number);
	sqlite3_bind_int64(q, 2, (sqlite3_int64)seq);
	state_bind_text(q, 3, app);
	return state_run(s, q, e);
}

int state_history_add(struct state *s, uint64_t wall_ms, const char *kind, const char *app,
		      json_t *data, uint64_t *ret_seq, struct err *e)
{
	struct err own = {0};
	uint64_t seq = 0;
	int r;

	e = e ? e : &own;
	if (!json_is_object(data))
		return err_set(e, ERR_INPUT, "the data of a history record is not an object");
	r = state_write_begin(s, e);
	if (r < 0)
		return r;
	r = insert(s, MIN(wall_ms, TIME_MAX_MS), kind, app, data, &seq, e);
	if (r == 0 && strcmp(kind, "change.end") == 0)
		r = note_change(s, json_integer_value(json_object_get(data, "change")), app, seq, e);
	r = state_write_end(s, r, e);
	if (r == 0 && ret_seq)
		*ret_seq = seq;
	return r;
}

/* --- reading --- */

struct row {
	uint64_t seq, time;
	char *kind, *app, *text;
	char hash[STATE_HASH];
};

static void row_fini(struct row *row)
{
	free(row->kind);
	free(row->app);
	free(row->text);
	*row = (struct row){0};
}

static void bind_range(sqlite3_stmt *q, const char *app, uint64_t after, uint64_t until_ms)
{
	sqlite3_bind_int64(q, 1, (sqlite3_int64)MIN(after, (uint64_t)INT64_MAX));
	sqlite3_bind_int64(q, 2,
			   until_ms && until_ms < INT64_MAX ? (sqlite3_int64)until_ms : INT64_MAX);
	if (app)
		state_bind_text(q, 3, app);
}

/* The next record after that number: 1, or 0 when there is none. */
static int next_row(struct state *s, const char *app, uint64_t after, uint64_t until_ms,
		    struct row *ret, struct err *e)
{
	sqlite3_stmt *q = state_sql(s, app ? SQL_HISTORY_NEXT_APP : SQL_HISTORY_NEXT);
	int r;

	bind_range(q, app, after, until_ms);
	r = state_row(s, q, e);
	if (r != 1)
		return r;
	row_fini(ret);
	ret->seq = (uint64_t)sqlite3_column_int64(q, 0);
	ret->time = (uint64_t)sqlite3_column_int64(q, 1);
	ret->kind = util_strdup(state_column_text(q, 2));
	ret->app = util_strdup(state_column_text(q, 3));
	ret->text = util_strdup(state_column_text(q, 4));
	util_copy(ret->hash, sizeof(ret->hash), state_column_text(q, 5));
	sqlite3_reset(q);
	return 1;
}

/* Where to begin so that the newest `limit` are what follows. */
static int newest_from(struct state *s, const char *app, uint64_t *after, uint64_t until_ms,
		       uint32_t limit, struct err *e)
{
	sqlite3_stmt *q = state_sql(s, app ? SQL_HISTORY_FROM_APP : SQL_HISTORY_FROM);
	int r;

	bind_range(q, app, *after, until_ms);
	sqlite3_bind_int64(q, 4, limit);
	r = state_row(s, q, e);
	if (r != 1)
		return r;
	if (sqlite3_column_type(q, 0) != SQLITE_NULL)
		*after = (uint64_t)sqlite3_column_int64(q, 0) - 1;
	sqlite3_reset(q);
	return 0;
}

int state_history_read(struct state *s, const char *app, uint64_t after, uint64_t until_ms,
		       uint32_t limit, bool newest, bool (*each)(void *arg, json_t *record),
		       void *arg, struct err *e)
{
	CLEANUP(row_fini) struct row row = {0};
	struct err own = {0};
	int r = 0;

	e = e ? e : &own;
	if (newest && limit)
		r = newest_from(s, app, &after, until_ms, limit, e);
	for (; r >= 0 && limit; limit--) {
		json_t *record;
		bool more;

		r = next_row(s, app, after, until_ms, &row, e);
		if (r != 1)
			return r;
		after = row.seq;
		if (state_json(row.text, strlen(row.text), &record, e) < 0)
			return err_wrap(e, "history record %llu", (unsigned long long)row.seq);
		json_object_set_new(record, "hash", json_string(row.hash));
		more = each(arg, record);
		json_decref(record);
		if (!more)
			break;
	}
	return r < 0 ? r : 0;
}

int state_history_change(struct state *s, uint64_t change, uint64_t *ret_seq, struct err *e)
{
	sqlite3_stmt *q = state_sql(s, SQL_CHANGE_GET);
	int r;

	*ret_seq = 0;
	sqlite3_bind_int64(q, 1, (sqlite3_int64)MIN(change, (uint64_t)INT64_MAX));
	r = state_row(s, q, e);
	if (r != 1)
		return r;
	*ret_seq = (uint64_t)sqlite3_column_int64(q, 0);
	sqlite3_reset(q);
	return 0;
}

int state_history_changes(struct state *s, const char *app, uint32_t limit,
			  bool (*each)(void *arg, json_t *record), void *arg, struct err *e)
{
	uint64_t before = INT64_MAX;

	for (; limit; limit--) {
		sqlite3_stmt *q = state_sql(s, app ? SQL_CHANGE_NEXT_APP : SQL_CHANGE_NEXT);
		int r;

		sqlite3_bind_int64(q, 1, (sqlite3_int64)before);
		if (app)
			state_bind_text(q, 2, app);
		r = state_row(s, q, e);
		if (r != 1)
			return r;
		before = (uint64_t)sqlite3_column_int64(q, 0);
		sqlite3_reset(q);
		r = state_history_read(s, NULL, before - 1, 0, 1, false, each, arg, e);
		if (r < 0)
			return r;
	}
	return 0;
}

/* --- the chain --- */

static bool column_fits(const json_t *record, const char *key, const char *column)
{
	const char *text = json_string_value(json_object_get(record, key));

	return text && strcmp(text, column) == 0;
}

/* Why this row does not follow (seq - 1, prev), or NULL. */
static const char *row_problem(const struct row *row, const json_t *record, uint64_t seq,
			       const char *prev)
{
	CLEANUP_FREE char *again = json_dumps(record, JSON_SORT_KEYS | JSON_COMPACT);
	char hash[STATE_HASH], time[CLOCK_TEXT];

	state_sha256(row->text, strlen(row->text), hash);
	if (strcmp(hash, row->hash) != 0)
		return "its hash is not that of its content";
	if (!again || strcmp(again, row->text) != 0)
		return "it is not canonical JSON";
	if (!column_fits(record, "prev", prev))
		return "it does not name the record before it";
	if (json_integer_value(json_object_get(record, "seq")) != (json_int_t)seq)
		return "it has another number";
	if (row->time > TIME_MAX_MS || !column_fits(record, "time", clock_text(row->time, time)) ||
	    !column_fits(record, "kind", row->kind) || !column_fits(record, "app", row->app))
		return "its columns differ from its content";
	return NULL;
}

/* One row of the chain: 1, 0 at its end, or what is wrong with it. */
static int verify_next(struct state *s, struct state_verify *v, struct row *row, struct err *e)
{
	const char *problem;
	json_t *record;
	int r = next_row(s, NULL, v->seq, 0, row, e);

	if (r != 1)
		return r;
	if (row->seq != v->seq + 1)
		return err_set(e, ERR_CORRUPT, "history record %llu is missing",
			       (unsigned long long)v->seq + 1);
	if (state_json(row->text, strlen(row->text), &record, NULL) < 0)
		return err_set(e, ERR_CORRUPT, "history record %llu: it is not JSON",
			       (unsigned long long)row->seq);
	problem = row_problem(row, record, row->seq, v->seq ? v->hash : no_hash);
	json_decref(record);
	if (problem)
		return err_set(e, ERR_CORRUPT, "history record %llu: %s",
			       (unsigned long long)row->seq, problem);
	v->seq = row->seq;
	memcpy(v->hash, row->hash, sizeof(v->hash));
	return 1;
}

int state_history_verify_some(struct state *s, struct state_verify *v, uint32_t limit,
			      struct err *e)
{
	CLEANUP(row_fini) struct row row = {0};
	int r = 1;

	while (limit-- && r == 1)
		r = verify_next(s, v, &row, e);
	return r;
}

int state_history_verify(struct state *s, uint64_t *ret_records, struct err *e)
{
	struct state_verify v = {0};
	int r = state_history_verify_some(s, &v, UINT32_MAX, e);

	if (r == 0 && ret_records)
		*ret_records = v.seq;
	return MIN(r, 0);
}
