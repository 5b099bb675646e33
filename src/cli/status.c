/* SPDX-License-Identifier: Apache-2.0
 *
 * The verbs that show something: status, limits, verify, logs.
 */
#include <string.h>

#include "cli/cli_priv.h"

/* --- status --- */

static const char *or_dash(const char *text)
{
	return *text ? text : "-";
}

/* "2 of 3": that are good, of all that should be. */
static void count_good(const json_t *app, char text[SHOW_TEXT])
{
	unsigned good = 0, all = 0;

	for (int list = 0; list < 2; list++) {
		const json_t *items = json_object_get(app, list ? "targets" : "instances");

		for (size_t i = 0; i < json_array_size(items); i++, all++)
			good += strcmp(field_text(json_array_get(items, i), "status"), "good") == 0;
	}
	snprintf(text, SHOW_TEXT, "%u of %u", good, all);
}

/* What is going on, and why it is not good. */
static void add_remarks(const json_t *app, struct buf *out)
{
	const char *phase = field_text(app, "phase"), *reason = field_text(app, "reason");
	const char *sep = "";

	if (json_is_true(json_object_get(app, "held"))) {
		buf_adds(out, "requests are held");
		sep = "; ";
	}
	if (field_count(app, "change")) {
		buf_addf(out, "%schange %llu: %s", sep,
			 (unsigned long long)field_count(app, "change"), phase);
		sep = "; ";
	}
	if (field_count(app, "waiting")) {
		buf_addf(out, "%s%llu waiting", sep,
			 (unsigned long long)field_count(app, "waiting"));
		sep = "; ";
	}
	if (*reason && strcmp(field_text(app, "status"), "good") != 0)
		buf_addf(out, "%s%s", sep, reason);
}

static void add_app(struct show_table *t, const json_t *app)
{
	char a[SHOW_TEXT], b[SHOW_TEXT];
	CLEANUP_BUF struct buf remarks = {0};

	count_good(app, a);
	show_cell(t, "%s", field_text(app, "name"));
	show_cell(t, "%s", or_dash(field_text(app, "status")));
	show_cell(t, "%s", or_dash(field_text(app, "current")));
	show_cell(t, "%s", a);
	show_cell(t, "%s", show_count(field_count(app, "requests"), a));
	show_cell(t, "%s", show_count(field_count(app, "failed"), b));
	show_cell(t, "%s", field_count(app, "requests") ? show_ms(field_real(app, "p50_ms"), a) : "-");
	show_cell(t, "%s", field_count(app, "requests") ? show_ms(field_real(app, "p99_ms"), b) : "-");
	add_remarks(app, &remarks);
	show_cell(t, "%s", buf_str(&remarks));
}

static const char *const app_heads[] = {"APP",	  "STATUS", "RELEASE", "UP",	  "REQUESTS",
					"FAILED", "P50",    "P99",     "REMARKS", NULL};

static void show_parts(const struct cli *c, const json_t *parts, struct buf *out)
{
	static const char *const heads[] = {"PART",  "STATUS",	"PID", "STARTS",
					    "SINCE", "REMARKS", NULL};
	struct show_table t = {.heads = heads, .colour = c->colour};
	char when[SHOW_TEXT];

	for (size_t i = 0; i < json_array_size(parts); i++) {
		const json_t *p = json_array_get(parts, i);

		show_cell(&t, "%s", field_text(p, "name"));
		show_cell(&t, "%s", or_dash(field_text(p, "status")));
		show_cell(&t, "%llu", (unsigned long long)field_count(p, "pid"));
		show_cell(&t, "%llu", (unsigned long long)field_count(p, "starts"));
		show_cell(&t, "%s", show_time(field_text(p, "since"), when));
		/* What comes and goes tells what it does. */
		show_cell(&t, "%s",
			  strcmp(field_text(p, "status"), "good") == 0 && !strchr(field_text(p, "name"), '(')
			      ? ""
			      : field_text(p, "reason"));
	}
	show_table_end(&t, out);
}

static void show_certificates(const struct cli *c, const json_t *certs, struct buf *out)
{
	static const char *const heads[] = {"CERTIFICATE", "STATUS", "EXPIRES", "FILE", "REMARKS", NULL};
	struct show_table t = {.heads = heads, .colour = c->colour};
	char when[SHOW_TEXT];

	if (!json_array_size(certs))
		return;
	buf_addc(out, '\n');
	for (size_t i = 0; i < json_array_size(certs); i++) {
		const json_t *x = json_array_get(certs, i);
		size_t names = json_array_size(json_object_get(x, "names"));

		if (names > 1)
			show_cell(&t, "%s and %zu more", field_text(x, "name"), names - 1);
		else
			show_cell(&t, "%s", field_text(x, "name"));
		show_cell(&t, "%s", field_text(x, "status"));
		show_cell(&t, "%s", show_time(field_text(x, "expires"), when));
		show_cell(&t, "%s", field_text(x, "file"));
		show_cell(&t, "%s",
			  strcmp(field_text(x, "status"), "good") == 0 ? "" : field_text(x, "reason"));
	}
	show_table_end(&t, out);
}

static void show_devices(const struct cli *c, const json_t *devices, struct buf *out)
{
	static const char *const heads[] = {"DEVICE", "STATUS", "CHECKS", "AT", "REMARKS", NULL};
	struct show_table t = {.heads = heads, .colour = c->colour};

	if (!json_array_size(devices))
		return;
	buf_addc(out, '\n');
	for (size_t i = 0; i < json_array_size(devices); i++) {
		const json_t *d = json_array_get(devices, i);

		show_cell(&t, "%s", field_text(d, "name"));
		show_cell(&t, "%s", field_text(d, "status"));
		show_cell(&t, "%zu", json_array_size(json_object_get(d, "checks")));
		show_cell(&t, "%s", field_text(d, "at"));
		show_cell(&t, "%s", strcmp(field_text(d, "status"), "good") == 0 ? "" : field_text(d, "reason"));
	}
	show_table_end(&t, out);
}

static void show_units(const struct cli *c, const json_t *app, struct buf *out)
{
	static const char *const heads[] = {"NAME",  "STATUS",	"USE",	  "STATE",
					    "PID",   "STARTS",	"INSIDE", "REQUESTS",
					    "SINCE", "REMARKS", NULL};
	struct show_table t = {.heads = heads, .colour = c->colour};
	char text[SHOW_TEXT];

	for (int list = 0; list < 2; list++) {
		const json_t *items = json_object_get(app, list ? "targets" : "instances");

		for (size_t i = 0; i < json_array_size(items); i++) {
			const json_t *u = json_array_get(items, i);

			show_cell(&t, "%s", field_text(u, "name"));
			show_cell(&t, "%s", or_dash(field_text(u, "status")));
			show_cell(&t, "%s", or_dash(field_text(u, "use")));
			show_cell(&t, "%s", or_dash(field_text(u, "state")));
			show_cell(&t, "%llu", (unsigned long long)field_count(u, "pid"));
			show_cell(&t, "%llu", (unsigned long long)field_count(u, "starts"));
			show_cell(&t, "%s", show_count(field_count(u, "inside"), text));
			show_cell(&t, "%s", show_count(field_count(u, "requests"), text));
			show_cell(&t, "%s", or_dash(show_time(field_text(u, "since"), text)));
			show_cell(&t, "%s",
				  strcmp(field_text(u, "status"), "good") == 0
				      ? ""
				      : field_text(u, "reason"));
		}
	}
	show_table_end(&t, out);
}

int verb_status(struct cli *c, struct err *e)
{
	struct show_table t = {.heads = app_heads, .colour = c->colour};
	CLEANUP_BUF struct buf path = {0};
	const json_t *apps;
	struct buf out = {0};
	json_t *answer;
	int rc = cli_get(c, c->arg_count ? cli_app_path(&path, c->args[0], "") : "/v1/status",
			 &answer, e);

	if (rc < 0)
		return rc;
	if (c->values[OPTION_JSON])
		return cli_print_json(answer);
	apps = json_object_get(answer, "apps");
	if (c->arg_count)
		add_app(&t, answer);
	for (size_t i = 0; i < json_array_size(apps); i++)
		add_app(&t, json_array_get(apps, i));
	show_table_end(&t, &out);
	buf_addc(&out, '\n');
	if (c->arg_count)
		show_units(c, answer, &out);
	else
		show_parts(c, json_object_get(answer, "parts"), &out);
	if (!c->arg_count)
		show_devices(c, json_object_get(answer, "devices"), &out);
	if (!c->arg_count)
		show_certificates(c, json_object_get(answer, "certificates"), &out);
	cli_print(&out);
	json_decref(answer);
	return 0;
}

/* --- limits --- */

int verb_limits(struct cli *c, struct err *e)
{
	static const char *const heads[] = {"LIMIT", "BOUND", "USED", "OVERFLOWED", "WHAT", NULL};
	struct show_table t = {.heads = heads, .colour = c->colour};
	const json_t *limits;
	struct buf out = {0};
	json_t *answer;
	int rc = cli_get(c, "/v1/limits", &answer, e);

	if (rc < 0)
		return rc;
	if (c->values[OPTION_JSON])
		return cli_print_json(answer);
	limits = json_object_get(answer, "limits");
	for (size_t i = 0; i < json_array_size(limits); i++) {
		const json_t *l = json_array_get(limits, i);
		char text[SHOW_TEXT];

		show_cell(&t, "%s", field_text(l, "name"));
		show_cell(&t, "%s",
			  field_count(l, "bound") ? show_count(field_count(l, "bound"), text)
						  : "-");
		show_cell(&t, "%s", show_count(field_count(l, "used"), text));
		show_cell(&t, "%s", show_count(field_count(l, "overflowed"), text));
		show_cell(&t, "%s", field_text(l, "what"));
	}
	show_table_end(&t, &out);
	cli_print(&out);
	json_decref(answer);
	return 0;
}

/* --- verify --- */

static bool add_release(const json_t *r, struct buf *out)
{
	const json_t *differences = json_object_get(r, "differences");
	bool ok = json_is_true(json_object_get(r, "ok"));

	show_clean(out, field_text(r, "release"));
	buf_addf(out, " (%.12s): %s\n", field_text(r, "id"), ok ? "as it was shipped" : "DIFFERS");
	for (size_t i = 0; i < json_array_size(differences); i++) {
		const char *text = json_string_value(json_array_get(differences, i));

		buf_adds(out, "    ");
		show_clean(out, text ? text : "");
		buf_addc(out, '\n');
	}
	return ok;
}

int verb_verify(struct cli *c, struct err *e)
{
	CLEANUP_BUF struct buf path = {0};
	const json_t *releases;
	struct buf out = {0};
	bool ok = true;
	json_t *answer;
	int rc;

	buf_adds(&path, "/v1/verify");
	if (c->arg_count) {
		buf_adds(&path, "?app=");
		api_escape(&path, c->args[0]);
	}
	rc = cli_get(c, buf_str(&path), &answer, e);
	if (rc < 0)
		return rc;
	releases = json_object_get(answer, "releases");
	for (size_t i = 0; i < json_array_size(releases); i++)
		ok &= add_release(json_array_get(releases, i), &out);
	if (!json_array_size(releases))
		buf_adds(&out, "no release is in use\n");
	if (c->values[OPTION_JSON]) {
		buf_free(&out);
		cli_print_json(answer);
		return ok ? 0 : 1;
	}
	cli_print(&out);
	json_decref(answer);
	return ok ? 0 : 1;
}

/* --- logs --- */

static bool print_data(void *arg UNUSED, const char *data, size_t len)
{
	return fwrite(data, 1, len, stdout) == len && fflush(stdout) == 0;
}

int verb_logs(struct cli *c, struct err *e)
{
	CLEANUP_BUF struct buf path = {0};
	char rest[64];
	uint64_t lines;
	struct api *a;
	int rc = cli_number(c, OPTION_LINES, 1000000, 100, &lines, e);

	if (rc < 0 || (rc = cli_api(c, &a, e)) < 0)
		return rc;
	snprintf(rest, sizeof(rest), "/logs?lines=%llu&follow=%d", (unsigned long long)lines,
		 c->values[OPTION_FOLLOW] != NULL);
	return api_stream(a, cli_app_path(&path, c->args[0], rest), print_data, NULL, e);
}
