/* SPDX-License-Identifier: Apache-2.0
 *
 * The last change of status of each device, and those before it. Feeds are made from this, and readers
 * of feeds sort and compare by time, so no two changes ever have the same one, even when the
 * clock stood still or was set back: then a microsecond is added to the last. Always six digits,
 * so that the times sort as text too.
 */
#include "state/state_priv.h"

#include <inttypes.h>

#include "base/clock.h"

#define TIME_MAX_US 253402300799999999ull /* the end of the year 9999 */

static void since_text(uint64_t us, char ret[40])
{
	char text[CLOCK_TEXT];

	clock_text(us / 1000, text);
	/* "...123Z" becomes "...123456Z" */
	snprintf(ret, 40, "%.*s%03uZ", (int)strlen(text) - 1, text, (unsigned)(us % 1000));
}

/* Copies as much as fits, never half a character. */
static void cut_copy(char *dst, size_t size, const char *src)
{
	if (!util_copy(dst, size, src)) {
		size_t n = size - 1;

		while (n && ((unsigned char)src[n] & 0xc0) == 0x80)
			n--;
		dst[n] = '\0';
	}
}

static bool is_utf8(const char *text)
{
	json_t *j = json_string(text);

	json_decref(j);
	return j != NULL;
}

static int check(const char *id, const char *app, const char *status, const char *reason,
		 struct err *e)
{
	static const char *const words[] = {"good", "bad", "ugly", "unknown"};
	bool known = false;

	if (!*id || strlen(id) >= sizeof((struct state_device){0}.id) || !is_utf8(id))
		return err_set(e, ERR_INPUT, "'%.80s' cannot be the id of a device", id);
	if (strlen(app) >= sizeof((struct state_device){0}.app) || !is_utf8(app))
		return err_set(e, ERR_INPUT, "device '%s': '%.80s' cannot be the name of an app",
			       id, app);
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		known |= strcmp(status, words[i]) == 0;
	if (!known)
		return err_set(
		    e, ERR_INPUT,
		    "device '%s': '%.20s' is no status; there are good, bad, ugly, unknown", id,
		    status);
	if (!is_utf8(reason))
		return err_set(e, ERR_INPUT, "device '%s': its reason is not UTF-8", id);
	return 0;
}

/* What is stored: 1 when it is the same, 0 when it differs, SQL_DEVICE_ADD or _SET in *ret_how. */
static int compare(struct state *s, const char *id, const char *status, const char *reason,
		   enum state_sql *ret_how, struct err *e)
{
	sqlite3_stmt *q = state_sql(s, SQL_DEVICE_GET);
	int r;

	state_bind_text(q, 1, id);
	r = state_row(s, q, e);
	*ret_how = r == 1 ? SQL_DEVICE_SET : SQL_DEVICE_ADD;
	if (r != 1)
		return r;
	r = strcmp(state_column_text(q, 0), status) == 0 &&
	    strcmp(state_column_text(q, 1), reason) == 0;
	sqlite3_reset(q);
	return r;
}

/* Asked before anything is written: one device too many must not spoil the group in which the
 * others are recorded. */
static int check_room(struct state *s, const char *id, struct err *e)
{
	uint64_t devices;
	int r = state_counter_get(s, "device", &devices, e);

	if (r < 0 || devices < STATE_DEVICES_MAX)
		return r;
	s->devices_refused++;
	return err_set(e, ERR_LIMIT, "'%s' would be one more than %d devices", id,
		       STATE_DEVICES_MAX);
}

/* The number and time of the next change. */
static int next_change(struct state *s, uint64_t *us, uint64_t *ret_seq, struct err *e)
{
	uint64_t last_us, seq;
	int r;

	if ((r = state_counter_get(s, "device_us", &last_us, e)) < 0 ||
	    (r = state_counter_get(s, "device_seq", &seq, e)) < 0)
		return r;
	*us = MAX(*us, last_us + 1);
	*ret_seq = seq + 1;
	if ((r = state_counter_set(s, "device_us", *us, e)) < 0)
		return r;
	return state_counter_set(s, "device_seq", *ret_seq, e);
}

/* Each status that was, as long as there is room: one comes, so at most one of the device and one of
 * all have to go. */
static int add_past(struct state *s, uint64_t seq, const char *id, uint64_t us, const char *status,
		    const char *reason, struct err *e)
{
	sqlite3_stmt *q = state_sql(s, SQL_STATUS_ADD);
	uint64_t past;
	int r;

	sqlite3_bind_int64(q, 1, (sqlite3_int64)seq);
	state_bind_text(q, 2, id);
	sqlite3_bind_int64(q, 3, (sqlite3_int64)us);
	state_bind_text(q, 4, status);
	state_bind_text(q, 5, reason);
	r = state_run(s, q, e);
	sqlite3_clear_bindings(q);
	if (r < 0)
		return r;
	q = state_sql(s, SQL_STATUS_TRIM_DEVICE);
	state_bind_text(q, 1, id);
	sqlite3_bind_int64(q, 2, STATE_PAST_DEVICE_MAX);
	if ((r = state_run(s, q, e)) < 0 || (r = state_counter_get(s, "status", &past, e)) < 0)
		return r;
	return past > STATE_PAST_MAX ? state_run(s, state_sql(s, SQL_STATUS_TRIM), e) : 0;
}

int state_device_put(struct state *s, const char *id, const char *app, const char *status,
		     const char *reason, json_t *body, uint64_t wall_ms, bool *ret_changed,
		     struct err *e)
{
	CLEANUP_FREE char *text = NULL;
	char cut[sizeof((struct state_device){0}.reason)];
	uint64_t us = MIN(wall_ms, TIME_MAX_US / 1000) * 1000, seq = 0;
	struct err own = {0};
	enum state_sql how = SQL_DEVICE_ADD;
	sqlite3_stmt *q;
	int r;

	e = e ? e : &own;
	if (ret_changed)
		*ret_changed = false;
	r = check(id, app, status, reason, e);
	if (r < 0)
		return r;
	cut_copy(cut, sizeof(cut), reason);
	r = compare(s, id, status, cut, &how, e);
	if (r != 0)
		return MIN(r, 0);
	if (how == SQL_DEVICE_ADD && (r = check_room(s, id, e)) < 0)
		return r;
	text = body ? json_dumps(body, JSON_SORT_KEYS | JSON_COMPACT | JSON_ENCODE_ANY)
		    : util_strdup("{}");
	if (!text || strlen(text) > STATE_BODY_MAX)
		return err_set(e, ERR_LIMIT,
			       "device '%s': its body is not JSON of at most %u bytes", id,
			       STATE_BODY_MAX);
	r = state_write_begin(s, e);
	if (r < 0)
		return r;
	r = next_change(s, &us, &seq, e);
	if (r == 0) {
		q = state_sql(s, how);
		state_bind_text(q, 1, id);
		state_bind_text(q, 2, app);
		state_bind_text(q, 3, status);
		state_bind_text(q, 4, cut);
		sqlite3_bind_int64(q, 5, (sqlite3_int64)us);
		sqlite3_bind_int64(q, 6, (sqlite3_int64)seq);
		state_bind_text(q, 7, text);
		r = state_run(s, q, e);
		sqlite3_clear_bindings(q);
	}
	if (r == 0)
		r = add_past(s, seq, id, us, status, cut, e);
	r = state_write_end(s, r, e);
	if (r == 0 && ret_changed)
		*ret_changed = true;
	return r;
}

int state_device_del(struct state *s, const char *id, struct err *e)
{
	struct err own = {0};
	sqlite3_stmt *q;
	int r;

	e = e ? e : &own;
	r = state_write_begin(s, e);
	if (r < 0)
		return r;
	q = state_sql(s, SQL_DEVICE_DEL);
	state_bind_text(q, 1, id);
	return state_write_end(s, state_run(s, q, e), e);
}

/* Takes the row out of a statement that selects like DEVICE_NEXT. */
static void take_device(sqlite3_stmt *q, struct state_device *ret)
{
	*ret = (struct state_device){.seq = (uint64_t)sqlite3_column_int64(q, 5)};
	util_copy(ret->id, sizeof(ret->id), state_column_text(q, 0));
	util_copy(ret->app, sizeof(ret->app), state_column_text(q, 1));
	util_copy(ret->status, sizeof(ret->status), state_column_text(q, 2));
	util_copy(ret->reason, sizeof(ret->reason), state_column_text(q, 3));
	since_text((uint64_t)sqlite3_column_int64(q, 4), ret->since);
	ret->body = util_strdup(state_column_text(q, 6));
	sqlite3_reset(q);
}

int state_device_get(struct state *s, const char *id, struct state_device *ret, struct err *e)
{
	sqlite3_stmt *q = state_sql(s, SQL_DEVICE_READ);
	int r;

	state_bind_text(q, 1, id);
	r = state_row(s, q, e);
	if (r == 1)
		take_device(q, ret);
	return r;
}

int state_device_past(struct state *s, const char *id, struct state_status *ret, uint32_t max,
		      struct err *e)
{
	uint64_t before = INT64_MAX;
	uint32_t n = 0;

	for (; n < max; n++) {
		sqlite3_stmt *q = state_sql(s, SQL_STATUS_NEXT);
		int r;

		state_bind_text(q, 1, id);
		sqlite3_bind_int64(q, 2, (sqlite3_int64)before);
		r = state_row(s, q, e);
		if (r < 0)
			return r;
		if (r == 0)
			break;
		ret[n].seq = before = (uint64_t)sqlite3_column_int64(q, 0);
		since_text((uint64_t)sqlite3_column_int64(q, 1), ret[n].since);
		util_copy(ret[n].status, sizeof(ret[n].status), state_column_text(q, 2));
		util_copy(ret[n].reason, sizeof(ret[n].reason), state_column_text(q, 3));
		sqlite3_reset(q);
	}
	return (int)n;
}

int state_device_each(struct state *s, const char *app,
		      bool (*each)(void *arg, const struct state_device *d), void *arg,
		      struct err *e)
{
	uint64_t before = INT64_MAX;
	bool more = true;

	while (more) {
		sqlite3_stmt *q = state_sql(s, app ? SQL_DEVICE_NEXT_APP : SQL_DEVICE_NEXT);
		struct state_device d;
		int r;

		sqlite3_bind_int64(q, 1, (sqlite3_int64)before);
		if (app)
			state_bind_text(q, 2, app);
		r = state_row(s, q, e);
		if (r != 1)
			return r;
		take_device(q, &d);
		before = d.seq;
		more = each(arg, &d);
		free(d.body);
	}
	return 0;
}
