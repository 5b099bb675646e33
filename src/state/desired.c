/* SPDX-License-Identifier: Apache-2.0
 *
 * The texts that history names, and the desired values: small named JSON that is overwritten. These
 * are what several machines would have to agree on one day, so they know nothing of each other.
 */
#include "state/state_priv.h"

/* --- texts --- */

int state_text_put(struct state *s, const void *text, size_t len, char ret_hash[STATE_HASH],
		   struct err *e)
{
	struct err own = {0};
	sqlite3_stmt *q;
	int r;

	e = e ? e : &own;
	if (len > STATE_TEXT_MAX)
		return err_set(e, ERR_LIMIT, "a text of %zu bytes; at most %u fit", len,
			       STATE_TEXT_MAX);
	state_sha256(text, len, ret_hash);
	q = state_sql(s, SQL_TEXT_HAS);
	state_bind_text(q, 1, ret_hash);
	r = state_row(s, q, e);
	sqlite3_reset(q);
	if (r != 0)
		return MIN(r, 0);
	r = state_write_begin(s, e);
	if (r < 0)
		return r;
	q = state_sql(s, SQL_TEXT_ADD);
	state_bind_text(q, 1, ret_hash);
	if (len)
		sqlite3_bind_blob64(q, 2, text, len, SQLITE_STATIC);
	else
		sqlite3_bind_zeroblob(q, 2, 0);
	r = state_run(s, q, e);
	sqlite3_clear_bindings(q);
	return state_write_end(s, r, e);
}

int state_text_get(struct state *s, const char *hash, struct buf *ret, struct err *e)
{
	sqlite3_stmt *q = state_sql(s, SQL_TEXT_GET);
	char found[STATE_HASH];
	const void *body;
	size_t len;
	int r;

	state_bind_text(q, 1, hash);
	r = state_row(s, q, e);
	if (r < 0)
		return r;
	if (r == 0)
		return err_set(e, ERR_NOT_FOUND, "no text %.64s is kept", hash);
	body = sqlite3_column_blob(q, 0);
	len = (size_t)sqlite3_column_bytes(q, 0);
	state_sha256(body, len, found);
	if (strcmp(found, hash) != 0)
		r = err_set(e, ERR_CORRUPT, "the text %s has become another, %s", hash, found);
	else
		buf_add(ret, body, len);
	sqlite3_reset(q);
	if (r > 0 && ret->failed)
		return err_set(e, ERR_LIMIT, "the text %s of %zu bytes has no room", hash, len);
	return MIN(r, 0);
}

/* --- desired --- */

static int check_key(const char *key, struct err *e)
{
	size_t n = strlen(key);

	if (n == 0 || n > STATE_KEY_MAX)
		return err_set(e, ERR_INPUT, "a key of %zu bytes; 1 to %d are possible", n,
			       STATE_KEY_MAX);
	return 0;
}

/* The text of the value; one that would not read back is refused. */
static int value_text(const char *key, json_t *value, char **ret, struct err *e)
{
	CLEANUP_FREE char *text =
	    json_dumps(value, JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY);
	json_t *back;

	if (!text)
		return err_set(e, ERR_INPUT, "'%s' cannot be written as JSON", key);
	if (strlen(text) > STATE_VALUE_MAX)
		return err_set(e, ERR_LIMIT, "'%s' would have %zu bytes; at most %u fit", key,
			       strlen(text), STATE_VALUE_MAX);
	if (state_json(text, strlen(text), &back, NULL) < 0)
		return err_set(e, ERR_INPUT, "'%s' is too deep for JSON", key);
	json_decref(back);
	*ret = TAKE(text);
	return 0;
}

static int put(struct state *s, const char *key, const char *text, struct err *e)
{
	sqlite3_stmt *q = state_sql(s, SQL_DESIRED_SET);
	uint64_t keys;
	int r;

	state_bind_text(q, 1, key);
	state_bind_text(q, 2, text);
	r = state_run(s, q, e);
	sqlite3_clear_bindings(q);
	if (r < 0 || sqlite3_changes(s->db) > 0)
		return r;
	r = state_counter_get(s, "desired", &keys, e);
	if (r < 0)
		return r;
	if (keys >= STATE_KEYS_MAX) {
		s->keys_refused++;
		return err_set(e, ERR_LIMIT, "'%s' would be one more than %d values", key,
			       STATE_KEYS_MAX);
	}
	q = state_sql(s, SQL_DESIRED_ADD);
	state_bind_text(q, 1, key);
	state_bind_text(q, 2, text);
	r = state_run(s, q, e);
	sqlite3_clear_bindings(q);
	return r;
}

static int del(struct state *s, enum state_sql which, const char *key, struct err *e)
{
	sqlite3_stmt *q = state_sql(s, which);

	state_bind_text(q, 1, key);
	return state_run(s, q, e);
}

int state_put(struct state *s, const char *key, json_t *value, struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	struct err own = {0};
	int r;

	e = e ? e : &own;
	r = state_write_begin(s, e);
	if (r < 0)
		return r;
	r = check_key(key, e);
	if (r == 0 && value)
		r = value_text(key, value, &text, e);
	if (r == 0)
		r = text ? put(s, key, text, e) : del(s, SQL_DESIRED_DEL, key, e);
	return state_write_end(s, r, e);
}

static int column_value(sqlite3_stmt *q, int at, const char *key, json_t **ret, struct err *e)
{
	struct err own = {0};

	e = e ? e : &own;
	if (state_json(state_column_text(q, at), (size_t)sqlite3_column_bytes(q, at), ret, e) < 0)
		return err_wrap(e, "the value '%s'", key);
	return 0;
}

int state_get(struct state *s, const char *key, json_t **ret, struct err *e)
{
	sqlite3_stmt *q = state_sql(s, SQL_DESIRED_GET);
	json_t *value = NULL;
	int r;

	state_bind_text(q, 1, key);
	r = state_row(s, q, e);
	if (r == 1) {
		r = column_value(q, 0, key, &value, e);
		sqlite3_reset(q);
	}
	if (r == 0)
		*ret = value;
	return r;
}

int state_each(struct state *s, const char *prefix,
	       bool (*each)(void *arg, const char *key, json_t *value), void *arg, struct err *e)
{
	CLEANUP_FREE char *key = NULL;
	bool more = true;

	while (more) {
		sqlite3_stmt *q = state_sql(s, key ? SQL_DESIRED_NEXT : SQL_DESIRED_FIRST);
		json_t *value;
		int r;

		state_bind_text(q, 1, key ? key : prefix);
		r = state_row(s, q, e);
		if (r != 1)
			return r;
		free(key);
		key = util_strdup(state_column_text(q, 0));
		if (strncmp(key, prefix, strlen(prefix)) != 0) {
			sqlite3_reset(q);
			return 0;
		}
		r = column_value(q, 1, key, &value, e);
		sqlite3_reset(q);
		if (r < 0)
			return r;
		more = each(arg, key, value);
		json_decref(value);
	}
	return 0;
}
