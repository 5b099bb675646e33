/* SPDX-License-Identifier: Apache-2.0
 *
 * Who changed what, when and why; and what ran at a moment.
 */
#include <string.h>

#include "base/clock.h"
#include "cli/cli_priv.h"

/* --- records --- */

static bool is_kind(const json_t *record, const char *kind)
{
	return strcmp(field_text(record, "kind"), kind) == 0;
}

/* A change is shown once: by its end, or by its newest record while it goes on. */
static bool is_told_later(const json_t *records, size_t i)
{
	const json_t *r = json_array_get(records, i);
	uint64_t change = field_count(json_object_get(r, "data"), "change");

	if (strncmp(field_text(r, "kind"), "change.", 7) != 0 || is_kind(r, "change.end"))
		return false;
	for (size_t k = i + 1; k < json_array_size(records); k++) {
		const json_t *o = json_array_get(records, k);

		if (strncmp(field_text(o, "kind"), "change.", 7) == 0 &&
		    field_count(json_object_get(o, "data"), "change") == change)
			return true;
	}
	return false;
}

static void add_change(const json_t *data, struct buf *out)
{
	char span[SHOW_TEXT], requests[SHOW_TEXT];

	if (*field_text(data, "from"))
		buf_addf(out, "%s -> ", field_text(data, "from"));
	buf_addf(out, "%s: %s", field_text(data, "to"), field_text(data, "outcome"));
	if (*field_text(data, "reason"))
		buf_addf(out, " (%s)", field_text(data, "reason"));
	if (strcmp(field_text(data, "outcome"), "running") == 0)
		return;
	buf_addf(out, " in %s, ", show_ms((double)field_count(data, "ms"), span));
	if (field_count(data, "requests"))
		buf_addf(out, "%llu of %s requests failed",
			 (unsigned long long)field_count(data, "failed"),
			 show_count(field_count(data, "requests"), requests));
	else
		buf_adds(out, "no requests came");
}

static void add_upgrade(const json_t *data, struct buf *out)
{
	const json_t *from = json_object_get(data, "from"), *to = json_object_get(data, "to");

	buf_addf(out, "%s (%.12s) -> ", field_text(from, "version"), field_text(from, "hash"));
	if (to)
		buf_addf(out, "%s (%.12s)", field_text(to, "version"), field_text(to, "hash"));
	else
		buf_adds(out, field_text(data, "path"));
	buf_addf(out, ": %s", field_text(data, "outcome"));
	if (*field_text(data, "reason"))
		buf_addf(out, " (%s)", field_text(data, "reason"));
}

/* The data of a record in a line. */
static void add_what(const json_t *record, struct buf *out)
{
	const json_t *data = json_object_get(record, "data");

	if (strncmp(field_text(record, "kind"), "change.", 7) == 0)
		add_change(data, out);
	else if (*field_text(data, "target"))
		buf_adds(out, field_text(data, "target"));
	else if (is_kind(record, "upgrade"))
		add_upgrade(data, out);
	else if (is_kind(record, "certificate"))
		buf_addf(out, "%s: valid until %s", json_string_value(json_array_get(json_object_get(data, "names"), 0)) ?: "",
			 field_text(data, "until"));
	else if (*field_text(data, "part"))
		buf_addf(out, "%s: %s%s%s%s", field_text(data, "part"), field_text(data, "outcome"),
			 *field_text(data, "reason") ? " (" : "", field_text(data, "reason"),
			 *field_text(data, "reason") ? ")" : "");
	else if (*field_text(data, "config"))
		buf_addf(out, "%s is now %.12s", field_text(data, "path"), field_text(data, "config"));
	if (*field_text(data, "why"))
		buf_addf(out, "%s\"%s\"", out->len ? "; " : "", field_text(data, "why"));
}

static void show_records(const struct cli *c, const json_t *records, struct buf *out)
{
	static const char *const heads[] = {"CHANGE", "TIME (UTC)", "KIND", "APP",
					    "WHO", "WHAT",	 NULL};
	struct show_table t = {.heads = heads, .colour = c->colour};

	for (size_t i = 0; i < json_array_size(records); i++) {
		const json_t *r = json_array_get(records, i), *data = json_object_get(r, "data");
		CLEANUP_BUF struct buf what = {0};
		bool change = strncmp(field_text(r, "kind"), "change.", 7) == 0;
		char when[SHOW_TEXT];

		if (is_told_later(records, i))
			continue;
		add_what(r, &what);
		if (change)
			show_cell(&t, "%llu", (unsigned long long)field_count(data, "change"));
		else
			show_cell(&t, "-");
		show_cell(&t, "%s", show_time(field_text(r, "time"), when));
		show_cell(&t, "%s", field_text(change ? data : r, "kind"));
		show_cell(&t, "%s", *field_text(r, "app") ? field_text(r, "app") : "-");
		show_cell(&t, "%s", *field_text(data, "who") ? field_text(data, "who") : "-");
		show_cell(&t, "%s", buf_str(&what));
	}
	show_table_end(&t, out);
}

/* --- at a moment --- */

static void show_ran(const struct cli *c, const json_t *ran, struct buf *out)
{
	static const char *const heads[] = {"APP", "RELEASE", "ID", "SINCE (UTC)", NULL};
	struct show_table t = {.heads = heads, .colour = c->colour};

	for (size_t i = 0; i < json_array_size(ran); i++) {
		const json_t *r = json_array_get(ran, i);
		char when[SHOW_TEXT];

		show_cell(&t, "%s", field_text(r, "app"));
		show_cell(&t, "%s", *field_text(r, "release") ? field_text(r, "release") : "-");
		show_cell(&t, "%.12s", field_text(r, "id"));
		show_cell(&t, "%s", show_time(field_text(r, "since"), when));
	}
	show_table_end(&t, out);
}

/* The release whose files are wanted: the app's, or that of the only one. */
static int checkout(struct cli *c, const json_t *ran, struct err *e)
{
	const json_t *found = NULL;

	for (size_t i = 0; i < json_array_size(ran); i++) {
		const json_t *r = json_array_get(ran, i);

		if (c->arg_count && strcmp(field_text(r, "app"), c->args[0]) != 0)
			continue;
		if (found)
			return err_set(e, ERR_INPUT,
				       "several apps ran then: name one, as in `upstate history "
				       "APP --at ...`");
		found = r;
	}
	if (!found || !*field_text(found, "id"))
		return err_set(e, ERR_NOT_FOUND, "no release%s%s ran at that time",
			       c->arg_count ? " of " : "", c->arg_count ? c->args[0] : "");
	return checkout_release(c, field_text(found, "id"), c->values[OPTION_CHECKOUT], e);
}

static int show_at(struct cli *c, json_t *answer, struct err *e)
{
	const json_t *ran = json_object_get(answer, "ran");
	struct buf out = {0};
	int rc = 0;

	if (c->values[OPTION_CHECKOUT])
		rc = checkout(c, ran, e);
	if (rc == 0 && c->values[OPTION_JSON])
		return cli_print_json(answer);
	if (rc == 0 && json_array_size(ran))
		show_ran(c, ran, &out);
	else if (rc == 0)
		buf_adds(&out, "nothing ran at that time\n");
	cli_print(&out);
	json_decref(answer);
	return rc;
}

/* --- the verb --- */

static int verify(struct cli *c, struct err *e)
{
	char count[SHOW_TEXT];
	json_t *answer;
	int rc = cli_get(c, "/v1/history/verify", &answer, e);

	if (rc < 0)
		return rc;
	if (c->values[OPTION_JSON])
		return cli_print_json(answer);
	printf("%s records, and the chain is whole; its head is %s\n",
	       show_count(field_count(answer, "records"), count), field_text(answer, "head"));
	json_decref(answer);
	return 0;
}

static int make_path(struct cli *c, struct buf *path, struct err *e)
{
	const char *at = c->values[OPTION_AT];
	uint64_t limit, ms;
	int rc = cli_number(c, OPTION_LIMIT, 100000, 50, &limit, e);

	if (rc < 0)
		return rc;
	if (at && !clock_parse(at, &ms))
		return err_set(e, ERR_INPUT,
			       "--at: '%.60s' is no time; write 2026-11-22, 2026-11-22T10:30 or "
			       "2026-11-22T10:30:00+01:00",
			       at);
	if (c->values[OPTION_CHECKOUT] && !at)
		return err_set(e, ERR_INPUT, "--checkout needs --at TIME");
	buf_addf(path, "/v1/history?limit=%llu", (unsigned long long)limit);
	if (c->arg_count) {
		buf_adds(path, "&app=");
		api_escape(path, c->args[0]);
	}
	if (at) {
		char text[CLOCK_TEXT];

		buf_adds(path, "&at=");
		api_escape(path, clock_text(ms, text));
	}
	return 0;
}

int verb_history(struct cli *c, struct err *e)
{
	CLEANUP_BUF struct buf path = {0};
	struct buf out = {0};
	json_t *answer;
	int rc;

	if (c->values[OPTION_VERIFY])
		return verify(c, e);
	rc = make_path(c, &path, e);
	if (rc < 0 || (rc = cli_get(c, buf_str(&path), &answer, e)) < 0)
		return rc;
	if (c->values[OPTION_AT])
		return show_at(c, answer, e);
	if (c->values[OPTION_JSON])
		return cli_print_json(answer);
	if (json_array_size(json_object_get(answer, "records")))
		show_records(c, json_object_get(answer, "records"), &out);
	else
		buf_addf(&out, "nothing is recorded%s%s yet\n", c->arg_count ? " of app " : "",
			 c->arg_count ? c->args[0] : "");
	cli_print(&out);
	json_decref(answer);
	return 0;
}
