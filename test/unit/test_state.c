/* SPDX-License-Identifier: Apache-2.0
 *
 * What is remembered, and that it can be proved. Faults (kills, full disks, failing writes) are
 * in test_state_faults.c.
 */
#include "unit.h"

#include <fcntl.h>
#include <sqlite3.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "state/state.h"

#define T0 1795311555123ull

static char dir[64];
static struct state *state;

static void path_in(char *ret, const char *name)
{
	snprintf(ret, 128, "%s/%s", dir, name);
}

static int setup(void **unused UNUSED)
{
	struct err e = {0};

	snprintf(dir, sizeof(dir), "%s/upstate-state-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(dir));
	assert_int_equal(state_open(dir, &state, &e), 0);
	return 0;
}

static int teardown(void **unused UNUSED)
{
	static const char *const files[] = {"state.db", "state.db-wal", "state.db-journal",
					    "reserve"};
	char path[128];

	state_close(state);
	state = NULL;
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		path_in(path, files[i]);
		unlink(path);
	}
	return rmdir(dir);
}

static void reopen(void)
{
	struct err e = {0};

	state_close(state);
	state = NULL;
	if (state_open(dir, &state, &e) < 0)
		fail_msg("%s", e.msg);
}

/* Someone with the file in hand. */
static void tamper(const char *sql)
{
	char path[128], *msg = NULL;
	sqlite3 *db;

	state_close(state);
	state = NULL;
	path_in(path, "state.db");
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	if (sqlite3_exec(db, sql, NULL, NULL, &msg) != SQLITE_OK)
		fail_msg("%s", msg);
	sqlite3_close(db);
}

static uint64_t add(const char *app, int n)
{
	json_t *data = json_pack("{s:i, s:f}", "n", n, "half", n / 2.0);
	struct err e = {0};
	uint64_t seq = 0;

	if (state_history_add(state, T0 + (uint64_t)n, "step", app, data, &seq, &e) < 0)
		fail_msg("%s", e.msg);
	json_decref(data);
	return seq;
}

static bool collect(void *arg, json_t *record)
{
	struct buf *b = arg;

	buf_addf(b, "%d ", (int)json_integer_value(json_object_get(record, "seq")));
	return json_integer_value(json_object_get(record, "seq")) != 99;
}

static const char *read_seqs(struct buf *b, const char *app, uint64_t after, uint64_t until,
			     uint32_t limit, bool newest)
{
	struct err e = {0};

	b->len = 0;
	assert_int_equal(
	    state_history_read(state, app, after, until, limit, newest, collect, b, &e), 0);
	return buf_str(b);
}

static void an_empty_history_has_a_head_of_zeros_and_verifies(void **unused UNUSED)
{
	char hash[STATE_HASH];
	uint64_t seq = 9, records = 9;

	assert_int_equal(state_history_head(state, &seq, hash, NULL), 0);
	assert_int_equal(seq, 0);
	assert_int_equal(strspn(hash, "0"), 64);
	assert_int_equal(state_history_verify(state, &records, NULL), 0);
	assert_int_equal(records, 0);
}

static bool check_first(void *arg, json_t *record)
{
	const char *hash = json_string_value(json_object_get(record, "hash"));

	assert_int_equal(json_object_size(record), 7);
	assert_string_equal(json_string_value(json_object_get(record, "time")),
			    "2026-11-22T01:39:15.124Z");
	/* computed apart, with sha256sum over the canonical bytes */
	assert_string_equal(hash, arg);
	return false;
}

static void a_record_is_chained_as_documented(void **unused UNUSED)
{
	static char hash[] = "08be7f9eb3aca1b6230ba8b9b35a8de4c77770373e80673f6a30022e1671559a";

	assert_int_equal(add("shop", 1), 1);
	assert_int_equal(add("shop", 2), 2);
	assert_int_equal(state_history_read(state, NULL, 0, 0, 5, false, check_first, hash, NULL),
			 0);
}

static void history_is_read_by_app_number_time_and_from_its_end(void **unused UNUSED)
{
	CLEANUP_BUF struct buf b = {0};

	for (int i = 1; i <= 8; i++)
		add(i % 2 ? "odd" : "even", i);
	assert_string_equal(read_seqs(&b, NULL, 0, 0, 100, false), "1 2 3 4 5 6 7 8 ");
	assert_string_equal(read_seqs(&b, "odd", 0, 0, 100, false), "1 3 5 7 ");
	assert_string_equal(read_seqs(&b, "odd", 3, 0, 1, false), "5 ");
	assert_string_equal(read_seqs(&b, NULL, 0, T0 + 3, 100, false), "1 2 3 ");
	assert_string_equal(read_seqs(&b, NULL, 0, 0, 3, true), "6 7 8 ");
	assert_string_equal(read_seqs(&b, "even", 0, T0 + 7, 2, true), "4 6 ");
	assert_string_equal(read_seqs(&b, NULL, 7, 0, 3, true), "8 ");
	assert_string_equal(read_seqs(&b, "none", 0, 0, 3, true), "");
	assert_string_equal(read_seqs(&b, NULL, 0, 0, 0, true), "");
	assert_string_equal(read_seqs(&b, NULL, UINT64_MAX, UINT64_MAX, 3, false), "");
}

static void the_chain_verifies_after_closing_and_opening(void **unused UNUSED)
{
	char before[STATE_HASH], after[STATE_HASH];
	struct state_verify v = {0};
	uint64_t seq, records;

	for (int i = 1; i <= 50; i++)
		add("shop", i);
	state_history_head(state, &seq, before, NULL);
	reopen();
	state_history_head(state, &seq, after, NULL);
	assert_string_equal(before, after);
	assert_int_equal(state_history_verify(state, &records, NULL), 0);
	assert_int_equal(records, 50);
	assert_int_equal(state_history_verify_some(state, &v, 30, NULL), 1);
	assert_int_equal(v.seq, 30);
	assert_int_equal(state_history_verify_some(state, &v, 30, NULL), 0);
	assert_string_equal(v.hash, after);
}

static void expect_broken(const char *sql, const char *message)
{
	struct err e = {0};

	for (int i = 1; i <= 5; i++)
		add("shop", i);
	tamper(
	    "DROP TRIGGER history_update; DROP TRIGGER history_delete; DROP TRIGGER history_next");
	reopen();
	assert_int_equal(state_history_verify(state, NULL, &e), 0);
	tamper(sql);
	reopen();
	assert_int_equal(state_history_verify(state, NULL, &e), -ERR_CORRUPT);
	assert_string_equal(e.msg, message);
}

static void a_record_whose_content_was_changed_is_named(void **unused UNUSED)
{
	expect_broken(
	    "UPDATE history SET record = replace(record, '\"n\":3', '\"n\":4') WHERE seq = 3",
	    "history record 3: its hash is not that of its content");
}

static void a_record_that_was_taken_out_is_named(void **unused UNUSED)
{
	expect_broken("DELETE FROM history WHERE seq = 2", "history record 2 is missing");
}

static void records_that_were_exchanged_are_named(void **unused UNUSED)
{
	expect_broken("UPDATE history SET seq = 100 WHERE seq = 2;"
		      "UPDATE history SET seq = 2 WHERE seq = 3;"
		      "UPDATE history SET seq = 3 WHERE seq = 100",
		      "history record 2: it does not name the record before it");
}

static void a_column_that_no_longer_tells_the_content_is_named(void **unused UNUSED)
{
	expect_broken("UPDATE history SET app = 'other' WHERE seq = 4",
		      "history record 4: its columns differ from its content");
}

static void what_is_not_json_any_more_is_named(void **unused UNUSED)
{
	expect_broken("UPDATE history SET record = '{' WHERE seq = 5",
		      "history record 5: it is not JSON");
}

static void the_tables_themselves_refuse_to_change_the_past(void **unused UNUSED)
{
	static const char *const tries[] = {"UPDATE history SET app = 'x'", "DELETE FROM history",
					    "UPDATE text SET body = x'00'", "DELETE FROM text",
					    "INSERT INTO history VALUES(9, 0, '', '', '', '')"};
	char path[128], hash[STATE_HASH];
	sqlite3 *db;

	add("shop", 1);
	assert_int_equal(state_text_put(state, "abc", 3, hash, NULL), 0);
	state_close(state);
	state = NULL;
	path_in(path, "state.db");
	assert_int_equal(sqlite3_open(path, &db), SQLITE_OK);
	for (size_t i = 0; i < ARRAY_LEN(tries); i++)
		assert_int_equal(sqlite3_exec(db, tries[i], NULL, NULL, NULL), SQLITE_CONSTRAINT);
	sqlite3_close(db);
}

static void a_record_that_could_not_be_read_back_is_refused(void **unused UNUSED)
{
	json_t *data = json_object(), *deep = json_array();
	struct err e = {0};
	uint64_t seq;

	assert_int_equal(state_history_add(state, T0, "x", "", json_null(), &seq, &e), -ERR_INPUT);
	assert_int_equal(state_history_add(state, T0, "\xff", "", data, &seq, &e), -ERR_INPUT);
	for (int i = 0; i < 2046; i++)
		deep = json_pack("[o]", deep);
	json_object_set_new(data, "deep", deep);
	assert_int_equal(state_history_add(state, T0, "x", "", data, &seq, &e), -ERR_INPUT);
	json_decref(data);
	data = json_pack("{s:o}", "nul", json_stringn("a\0b", 3));
	assert_int_equal(state_history_add(state, T0, "x", "", data, &seq, &e), 0);
	json_decref(data);
	assert_int_equal(state_history_verify(state, &seq, &e), 0);
	assert_int_equal(seq, 1);
}

static void a_record_beyond_the_bound_is_refused(void **unused UNUSED)
{
	char *big = util_alloc(STATE_RECORD_MAX + 1);
	json_t *data;
	uint64_t seq;

	memset(big, 'x', STATE_RECORD_MAX);
	data = json_pack("{s:s}", "big", big);
	assert_int_equal(state_history_add(state, T0, "x", "", data, &seq, NULL), -ERR_LIMIT);
	json_decref(data);
	big[STATE_RECORD_MAX - 1000] = '\0';
	data = json_pack("{s:s}", "big", big);
	assert_int_equal(state_history_add(state, T0, "x", "", data, &seq, NULL), 0);
	json_decref(data);
	free(big);
}

static void texts_are_found_by_their_hash(void **unused UNUSED)
{
	static const char text[] = "a\0b";
	char hash[STATE_HASH], again[STATE_HASH];
	CLEANUP_BUF struct buf b = {0};
	struct err e = {0};

	assert_int_equal(state_text_put(state, text, 3, hash, &e), 0);
	assert_int_equal(state_text_put(state, text, 3, again, &e), 0);
	assert_string_equal(hash, again);
	reopen();
	assert_int_equal(state_text_get(state, hash, &b, &e), 0);
	assert_int_equal(b.len, 3);
	assert_memory_equal(b.data, text, 3);
	assert_int_equal(state_text_put(state, "", 0, hash, &e), 0);
	b.len = 0;
	assert_int_equal(state_text_get(state, hash, &b, &e), 0);
	assert_int_equal(b.len, 0);
	hash[0] ^= 1;
	assert_int_equal(state_text_get(state, hash, &b, &e), -ERR_NOT_FOUND);
}

static void a_text_that_was_changed_is_not_given_out(void **unused UNUSED)
{
	char hash[STATE_HASH];
	CLEANUP_BUF struct buf b = {0};

	assert_int_equal(state_text_put(state, "abc", 3, hash, NULL), 0);
	tamper("DROP TRIGGER text_update; UPDATE text SET body = CAST('abd' AS BLOB)");
	reopen();
	assert_int_equal(state_text_get(state, hash, &b, NULL), -ERR_CORRUPT);
	assert_int_equal(b.len, 0);
}

static bool keys(void *arg, const char *key, json_t *value)
{
	buf_addf(arg, "%s=%d ", key, (int)json_integer_value(value));
	/* what is called from here may use everything */
	assert_int_equal(state_put(state, key, NULL, NULL), 0);
	return true;
}

static void desired_values_are_put_got_listed_and_deleted(void **unused UNUSED)
{
	static const char *const names[] = {"app/b", "app/a", "app/c", "apple", "ap", "zoo"};
	CLEANUP_BUF struct buf b = {0};
	json_t *value;

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		value = json_integer((json_int_t)i);
		assert_int_equal(state_put(state, names[i], value, NULL), 0);
		json_decref(value);
	}
	value = json_integer(7);
	assert_int_equal(state_put(state, "app/a", value, NULL), 0);
	json_decref(value);
	reopen();
	assert_int_equal(state_get(state, "app/a", &value, NULL), 0);
	assert_int_equal(json_integer_value(value), 7);
	json_decref(value);
	assert_int_equal(state_each(state, "app/", keys, &b, NULL), 0);
	assert_string_equal(buf_str(&b), "app/a=7 app/b=0 app/c=2 ");
	assert_int_equal(state_get(state, "app/a", &value, NULL), 0);
	assert_null(value);
	b.len = 0;
	assert_int_equal(state_each(state, "", keys, &b, NULL), 0);
	assert_string_equal(buf_str(&b), "ap=4 apple=3 zoo=5 ");
}

static void a_desired_value_has_bounds(void **unused UNUSED)
{
	char *big = util_alloc(STATE_VALUE_MAX + 1);
	char key[STATE_KEY_MAX + 2] = "";
	json_t *value;

	memset(big, 'x', STATE_VALUE_MAX - 1);
	value = json_string(big);
	assert_int_equal(state_put(state, "k", value, NULL), -ERR_LIMIT);
	json_decref(value);
	big[STATE_VALUE_MAX - 2] = '\0';
	value = json_string(big);
	assert_int_equal(state_put(state, "k", value, NULL), 0);
	assert_int_equal(state_put(state, "", value, NULL), -ERR_INPUT);
	json_decref(value);
	memset(key, 'k', STATE_KEY_MAX + 1);
	assert_int_equal(state_put(state, key, json_true(), NULL), -ERR_INPUT);
	key[STATE_KEY_MAX] = '\0';
	assert_int_equal(state_put(state, key, json_true(), NULL), 0);
	free(big);
}

static void one_value_more_than_the_bound_is_refused_and_counted(void **unused UNUSED)
{
	struct state_usage u;
	char key[32];

	assert_int_equal(state_begin(state, NULL), 0);
	for (int i = 0; i < STATE_KEYS_MAX; i++) {
		snprintf(key, sizeof(key), "%d", i);
		assert_int_equal(state_put(state, key, json_true(), NULL), 0);
	}
	assert_int_equal(state_commit(state, NULL), 0);
	assert_int_equal(state_put(state, "more", json_true(), NULL), -ERR_LIMIT);
	assert_int_equal(state_put(state, "7", json_false(), NULL), 0);
	assert_int_equal(state_put(state, "8", NULL, NULL), 0);
	assert_int_equal(state_put(state, "more", json_true(), NULL), 0);
	assert_int_equal(state_usage(state, &u, NULL), 0);
	assert_int_equal(u.keys, STATE_KEYS_MAX);
	assert_int_equal(u.keys_refused, 1);
}

/* --- groups --- */

static void a_group_is_kept_whole_or_not_at_all(void **unused UNUSED)
{
	json_t *value;

	assert_int_equal(state_begin(state, NULL), 0);
	assert_int_equal(add("shop", 1), 1);
	assert_int_equal(state_put(state, "k", json_true(), NULL), 0);
	state_rollback(state);
	assert_int_equal(state_get(state, "k", &value, NULL), 0);
	assert_null(value);
	assert_int_equal(add("shop", 2), 1);
	assert_int_equal(state_begin(state, NULL), 0);
	assert_int_equal(add("shop", 3), 2);
	assert_int_equal(state_put(state, "k", json_true(), NULL), 0);
	assert_int_equal(state_commit(state, NULL), 0);
	reopen();
	assert_int_equal(state_get(state, "k", &value, NULL), 0);
	assert_true(json_is_true(value));
	json_decref(value);
}

static void a_failed_write_spoils_its_group(void **unused UNUSED)
{
	struct err e = {0};
	json_t *value;
	uint64_t seq;

	assert_int_equal(state_begin(state, NULL), 0);
	add("shop", 1);
	assert_int_equal(state_put(state, "", json_true(), NULL), -ERR_INPUT);
	assert_int_equal(state_put(state, "k", json_true(), NULL), -ERR_INPUT);
	assert_int_equal(state_history_add(state, T0, "x", "", json_null(), &seq, NULL),
			 -ERR_INPUT);
	assert_int_equal(state_commit(state, &e), -ERR_INPUT);
	assert_non_null(strstr(e.msg, "a key of 0 bytes"));
	assert_int_equal(state_get(state, "k", &value, NULL), 0);
	assert_null(value);
	assert_int_equal(add("shop", 1), 1);
}

/* --- devices --- */

static bool put_device(const char *id, const char *status, const char *reason, uint64_t ms)
{
	json_t *body = json_pack("{s:s}", "reason", reason);
	struct err e = {0};
	bool changed;

	if (state_device_put(state, id, "shop", status, reason, body, ms, &changed, &e) < 0)
		fail_msg("%s", e.msg);
	json_decref(body);
	return changed;
}

static bool list(void *arg, const struct state_device *d)
{
	buf_addf(arg, "%s %s %s %llu %s\n", d->id, d->status, d->since, (unsigned long long)d->seq,
		 d->body);
	return true;
}

static const char *devices(struct buf *b, const char *app)
{
	b->len = 0;
	assert_int_equal(state_device_each(state, app, list, b, NULL), 0);
	return buf_str(b);
}

static void a_device_moves_forward_only_when_its_status_changes(void **unused UNUSED)
{
	CLEANUP_BUF struct buf b = {0};

	assert_true(put_device("shop/1", "good", "ready", T0));
	assert_true(put_device("shop/2", "good", "ready", T0 + 1));
	assert_false(put_device("shop/1", "good", "ready", T0 + 2));
	assert_true(put_device("shop/1", "ugly", "exited", T0 + 3));
	assert_true(put_device("shop/2", "good", "ready again", T0 + 4));
	assert_string_equal(
	    devices(&b, "shop"),
	    "shop/2 good 2026-11-22T01:39:15.127000Z 4 {\"reason\":\"ready again\"}\n"
	    "shop/1 ugly 2026-11-22T01:39:15.126000Z 3 {\"reason\":\"exited\"}\n");
	assert_string_equal(devices(&b, "other"), "");
	assert_int_equal(state_device_del(state, "shop/1", NULL), 0);
	assert_int_equal(state_device_del(state, "shop/1", NULL), 0);
	assert_true(put_device("shop/1", "ugly", "exited", T0 + 5));
	assert_non_null(strstr(devices(&b, NULL), "shop/1 ugly 2026-11-22T01:39:15.128000Z 5"));
}

static void no_two_changes_have_the_same_time_even_when_the_clock_goes_back(void **unused UNUSED)
{
	CLEANUP_BUF struct buf b = {0};

	put_device("a", "good", "", T0);
	put_device("b", "good", "", T0);
	put_device("c", "good", "", T0 - 5000);
	reopen();
	put_device("d", "good", "", T0 - 5000);
	put_device("e", "good", "", T0 + 1);
	assert_string_equal(devices(&b, NULL),
			    "e good 2026-11-22T01:39:15.124000Z 5 {\"reason\":\"\"}\n"
			    "d good 2026-11-22T01:39:15.123003Z 4 {\"reason\":\"\"}\n"
			    "c good 2026-11-22T01:39:15.123002Z 3 {\"reason\":\"\"}\n"
			    "b good 2026-11-22T01:39:15.123001Z 2 {\"reason\":\"\"}\n"
			    "a good 2026-11-22T01:39:15.123000Z 1 {\"reason\":\"\"}\n");
}

static bool reason_is(void *arg, const struct state_device *d)
{
	assert_string_equal(d->reason, arg);
	return true;
}

static void a_long_reason_is_cut_at_a_character(void **unused UNUSED)
{
	char reason[400], expected[300];

	for (size_t i = 0; i + 1 < sizeof(reason); i += 2)
		memcpy(reason + i, "\xc3\xa4", 2);
	reason[398] = '\0';
	memcpy(expected, reason, 298);
	expected[298] = '\0';
	assert_true(put_device("a", "bad", reason, T0));
	assert_false(put_device("a", "bad", reason, T0));
	assert_int_equal(state_device_each(state, NULL, reason_is, expected, NULL), 0);
}

static void the_past_of_a_device_is_kept_within_its_bound(void **unused UNUSED)
{
	static struct state_status past[STATE_PAST_DEVICE_MAX + 10];
	struct state_usage u;
	struct state_device d;
	char reason[32];

	put_device("web-1", "good", "fine", T0);
	put_device("web-2", "good", "fine", T0);
	put_device("web-1", "ugly", "gone", T0 + 1000);
	put_device("web-1", "good", "back", T0 + 3500);
	assert_int_equal(state_device_past(state, "web-1", past, 10, NULL), 3);
	assert_string_equal(past[0].status, "good");
	assert_string_equal(past[0].reason, "back");
	assert_string_equal(past[1].status, "ugly");
	assert_string_equal(past[1].since, "2026-11-22T01:39:16.123000Z");
	assert_string_equal(past[2].reason, "fine");
	assert_int_equal(state_device_past(state, "web-1", past, 2, NULL), 2);
	assert_int_equal(state_device_past(state, "other", past, 2, NULL), 0);
	assert_int_equal(state_device_get(state, "web-1", &d, NULL), 1);
	assert_string_equal(d.reason, "back");
	assert_int_equal(d.seq, past[0].seq);
	free(d.body);
	assert_int_equal(state_device_get(state, "other", &d, NULL), 0);

	assert_int_equal(state_begin(state, NULL), 0);
	for (int i = 0; i < STATE_PAST_DEVICE_MAX + 5; i++) {
		snprintf(reason, sizeof(reason), "%d", i);
		put_device("web-1", i % 2 ? "good" : "bad", reason, T0 + 5000);
	}
	assert_int_equal(state_commit(state, NULL), 0);
	assert_int_equal(state_device_past(state, "web-1", past, ARRAY_LEN(past), NULL), STATE_PAST_DEVICE_MAX);
	assert_string_equal(past[STATE_PAST_DEVICE_MAX - 1].reason, "5");
	assert_int_equal(state_device_past(state, "web-2", past, 10, NULL), 1);
	assert_int_equal(state_usage(state, &u, NULL), 0);
	assert_int_equal(u.past, STATE_PAST_DEVICE_MAX + 1);
	assert_int_equal(state_device_del(state, "web-2", NULL), 0); /* what was, was */
	assert_int_equal(state_device_past(state, "web-2", past, 10, NULL), 1);
}

static void beyond_the_bound_of_all_the_oldest_past_makes_room(void **unused UNUSED)
{
	struct state_status past[3];
	struct state_usage u;

	put_device("a", "good", "first", T0);
	put_device("b", "good", "second", T0);
	tamper("UPDATE counter SET value = 500000 WHERE name = 'status'");
	reopen();
	put_device("b", "bad", "third", T0);
	assert_int_equal(state_device_past(state, "a", past, 3, NULL), 0);
	assert_int_equal(state_device_past(state, "b", past, 3, NULL), 2);
	assert_int_equal(state_usage(state, &u, NULL), 0);
	assert_int_equal(u.past, STATE_PAST_MAX);
}

static void a_device_that_makes_no_sense_is_refused(void **unused UNUSED)
{
	char id[201];
	struct err e = {0};

	memset(id, 'i', 200);
	id[200] = '\0';
	assert_int_equal(state_device_put(state, id, "", "good", "", NULL, T0, NULL, &e),
			 -ERR_INPUT);
	assert_int_equal(state_device_put(state, "", "", "good", "", NULL, T0, NULL, &e),
			 -ERR_INPUT);
	assert_int_equal(state_device_put(state, "a", "", "fine", "", NULL, T0, NULL, &e),
			 -ERR_INPUT);
	assert_non_null(strstr(e.msg, "good, bad, ugly, unknown"));
	assert_int_equal(state_device_put(state, "a", "", "good", "\xc0", NULL, T0, NULL, &e),
			 -ERR_INPUT);
	id[199] = '\0';
	assert_int_equal(state_device_put(state, id, "", "good", "", NULL, T0, NULL, &e), 0);
}

static void a_device_that_is_refused_does_not_keep_the_others_from_being_recorded(void **unused UNUSED)
{
	CLEANUP_BUF struct buf b = {0};

	assert_int_equal(state_begin(state, NULL), 0);
	put_device("a", "good", "", T0);
	assert_int_equal(state_device_put(state, "", "", "good", "", NULL, T0, NULL, NULL),
			 -ERR_INPUT);
	put_device("b", "good", "", T0);
	assert_int_equal(state_commit(state, NULL), 0);
	assert_non_null(strstr(devices(&b, NULL), "b good"));
	assert_non_null(strstr(devices(&b, NULL), "a good"));
}

static void one_device_more_than_the_bound_is_refused_and_counted(void **unused UNUSED)
{
	struct state_usage u;
	char id[32];

	assert_int_equal(state_begin(state, NULL), 0);
	for (int i = 0; i < STATE_DEVICES_MAX; i++) {
		snprintf(id, sizeof(id), "%d", i);
		assert_int_equal(state_device_put(state, id, "", "good", "", NULL, T0, NULL, NULL),
				 0);
	}
	assert_int_equal(state_commit(state, NULL), 0);
	assert_int_equal(state_device_put(state, "more", "", "good", "", NULL, T0, NULL, NULL),
			 -ERR_LIMIT);
	/* in a group too, and the others of the group are recorded */
	assert_int_equal(state_begin(state, NULL), 0);
	assert_int_equal(state_device_put(state, "more", "", "good", "", NULL, T0, NULL, NULL),
			 -ERR_LIMIT);
	assert_int_equal(state_device_put(state, "7", "", "bad", "", NULL, T0, NULL, NULL), 0);
	assert_int_equal(state_commit(state, NULL), 0);
	assert_int_equal(state_usage(state, &u, NULL), 0);
	assert_int_equal(u.devices, STATE_DEVICES_MAX);
	assert_int_equal(u.devices_refused, 2);
}

/* --- opening --- */

static void a_second_process_on_the_same_state_is_refused(void **unused UNUSED)
{
	struct state *second = NULL;
	struct err e = {0};

	assert_int_equal(state_open(dir, &second, &e), -ERR_REFUSED);
	assert_non_null(strstr(e.msg, "in use by another process"));
	assert_null(second);
	add("shop", 1);
}

static void a_database_of_a_newer_version_is_refused(void **unused UNUSED)
{
	struct err e = {0};

	tamper("PRAGMA user_version = 1000");
	assert_int_equal(state_open(dir, &state, &e), -ERR_REFUSED);
	assert_non_null(strstr(e.msg, "newer Upstate"));
	assert_null(state);
}

static bool list_change(void *arg, json_t *record)
{
	buf_addf(arg, "%lld ", (long long)json_integer_value(json_object_get(json_object_get(record, "data"), "change")));
	return true;
}

static const char *changes(struct buf *b, const char *app, uint32_t limit)
{
	b->len = 0;
	assert_int_equal(state_history_changes(state, app, limit, list_change, b, NULL), 0);
	return buf_str(b);
}

static void end_change(const char *app, int number)
{
	json_t *data = json_pack("{s:i}", "change", number);

	assert_int_equal(state_history_add(state, T0, "change.end", app, data, NULL, NULL), 0);
	json_decref(data);
}

static void ended_changes_are_found_newest_first_among_other_records(void **unused UNUSED)
{
	CLEANUP_BUF struct buf b = {0};

	assert_string_equal(changes(&b, NULL, 9), "");
	end_change("shop", 1);
	add("shop", 1);
	end_change("blog", 2);
	end_change("shop", 3);
	add("shop", 1);
	assert_string_equal(changes(&b, NULL, 9), "3 2 1 ");
	assert_string_equal(changes(&b, NULL, 2), "3 2 ");
	assert_string_equal(changes(&b, "shop", 9), "3 1 ");
	assert_string_equal(changes(&b, "none", 9), "");
}

static void a_database_of_the_first_version_gets_what_it_lacks(void **unused UNUSED)
{
	struct state_status past[3];
	struct state_usage u;
	CLEANUP_BUF struct buf b = {0};

	put_device("web-1", "bad", "slow", T0);
	end_change("shop", 7);
	tamper("DROP TABLE status; DELETE FROM counter WHERE name = 'status'; DROP INDEX change_app; "
	       "DROP INDEX change_seq; ALTER TABLE change DROP COLUMN app; PRAGMA user_version = 1");
	reopen();
	assert_int_equal(state_device_past(state, "web-1", past, 3, NULL), 1);
	assert_string_equal(past[0].reason, "slow");
	assert_int_equal(state_usage(state, &u, NULL), 0);
	assert_int_equal(u.past, 1);
	assert_string_equal(changes(&b, "shop", 9), "7 ");
	assert_int_equal(state_history_verify(state, NULL, NULL), 0);
}

static void a_file_that_is_no_database_of_ours_is_refused(void **unused UNUSED)
{
	char path[128];
	struct err e = {0};
	int fd;

	tamper("PRAGMA application_id = 7");
	assert_int_equal(state_open(dir, &state, &e), -ERR_CORRUPT);
	path_in(path, "state.db");
	fd = open(path, O_WRONLY | O_TRUNC);
	for (int i = 0; i < 1000; i++)
		assert_int_equal(write(fd, "rubbish ", 8), 8);
	close(fd);
	assert_int_equal(state_open(dir, &state, &e), -ERR_CORRUPT);
	assert_int_equal(state_open("/nonexistent/dir", &state, &e), -ERR_SYS);
	assert_non_null(strstr(e.msg, "/nonexistent/dir"));
}

static void nobody_else_can_read_it(void **unused UNUSED)
{
	static const char *const files[] = {"state.db", "state.db-wal", "reserve"};
	struct stat st;
	char path[128];

	add("shop", 1);
	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		path_in(path, files[i]);
		assert_int_equal(stat(path, &st), 0);
		assert_int_equal(st.st_mode & 0777, 0600);
	}
}

static void the_reserve_is_made_used_once_and_restored(void **unused UNUSED)
{
	struct state_usage u;
	struct stat st;
	char path[128];

	path_in(path, "reserve");
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, STATE_RESERVE_BYTES);
	assert_true(st.st_blocks * 512 >= (off_t)STATE_RESERVE_BYTES);
	assert_true(state_reserve_use(state));
	assert_int_equal(stat(path, &st), -1);
	assert_false(state_reserve_use(state));
	state_reserve_restore(state);
	assert_int_equal(stat(path, &st), 0);
	/* one that a kill left half made */
	assert_int_equal(truncate(path, 5000), 0);
	reopen();
	assert_int_equal(state_usage(state, &u, NULL), 0);
	assert_true(u.reserve);
	assert_int_equal(stat(path, &st), 0);
	assert_int_equal(st.st_size, STATE_RESERVE_BYTES);
}

#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
	    T(an_empty_history_has_a_head_of_zeros_and_verifies),
	    T(a_record_is_chained_as_documented),
	    T(history_is_read_by_app_number_time_and_from_its_end),
	    T(the_chain_verifies_after_closing_and_opening),
	    T(a_record_whose_content_was_changed_is_named),
	    T(a_record_that_was_taken_out_is_named),
	    T(records_that_were_exchanged_are_named),
	    T(a_column_that_no_longer_tells_the_content_is_named),
	    T(what_is_not_json_any_more_is_named),
	    T(the_tables_themselves_refuse_to_change_the_past),
	    T(a_record_that_could_not_be_read_back_is_refused),
	    T(a_record_beyond_the_bound_is_refused),
	    T(texts_are_found_by_their_hash),
	    T(a_text_that_was_changed_is_not_given_out),
	    T(desired_values_are_put_got_listed_and_deleted),
	    T(a_desired_value_has_bounds),
	    T(one_value_more_than_the_bound_is_refused_and_counted),
	    T(a_group_is_kept_whole_or_not_at_all),
	    T(a_failed_write_spoils_its_group),
	    T(a_device_moves_forward_only_when_its_status_changes),
	    T(no_two_changes_have_the_same_time_even_when_the_clock_goes_back),
	    T(a_long_reason_is_cut_at_a_character),
	    T(the_past_of_a_device_is_kept_within_its_bound),
	    T(beyond_the_bound_of_all_the_oldest_past_makes_room),
	    T(a_device_that_makes_no_sense_is_refused),
	    T(a_device_that_is_refused_does_not_keep_the_others_from_being_recorded),
	    T(one_device_more_than_the_bound_is_refused_and_counted),
	    T(a_second_process_on_the_same_state_is_refused),
	    T(a_database_of_a_newer_version_is_refused),
	    T(ended_changes_are_found_newest_first_among_other_records),
	    T(a_database_of_the_first_version_gets_what_it_lacks),
	    T(a_file_that_is_no_database_of_ours_is_refused),
	    T(nobody_else_can_read_it),
	    T(the_reserve_is_made_used_once_and_restored),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
