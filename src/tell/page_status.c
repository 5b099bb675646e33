/* SPDX-License-Identifier: Apache-2.0
 *
 * The status page: each app with its instances and targets, the last changes with their receipts,
 * Upstate's own parts. The worst comes first, so that a phone shows it without scrolling.
 */
#include "tell/page_priv.h"

#include <string.h>

static int rank(const char *status)
{
	static const char *const order[] = {"ugly", "bad", "unknown", "good"};

	for (size_t i = 0; i < ARRAY_LEN(order); i++)
		if (strcmp(status, order[i]) == 0)
			return (int)i;
	return 2;
}

static const char *worst_of(const json_t *array, const char *so_far)
{
	const json_t *o;
	size_t i;

	json_array_foreach (array, i, o)
		if (rank(page_field(o, "status")) < rank(so_far))
			so_far = page_field(o, "status");
	return so_far;
}

static void table_open(struct buf *b, const char *heads)
{
	buf_adds(b, "<div class=\"t\"><table><tr>");
	buf_adds(b, heads);
	buf_adds(b, "</tr>\n");
}

static void table_close(struct buf *b, size_t rows)
{
	buf_adds(b, "</table></div>\n");
	if (rows > PAGE_ROWS_MAX)
		buf_addf(b, "<p class=\"dim\">and %zu more</p>\n", rows - PAGE_ROWS_MAX);
}

static void cell_text(struct buf *b, const char *class, const char *text)
{
	buf_addf(b, "<td class=\"%s\">", class);
	text_html(b, text);
	buf_adds(b, "</td>");
}

/* class x: a phone can do without it */
static void cell_number(struct buf *b, const char *class, const json_t *o, const char *key)
{
	buf_addf(b, "<td class=\"%s\">", class);
	page_number(b, json_object_get(o, key));
	buf_adds(b, "</td>");
}

static void cell_word(struct buf *b, const char *word)
{
	buf_adds(b, "<td>");
	page_word(b, word);
	buf_adds(b, "</td>");
}

static void cell_since(struct buf *b, const json_t *o, uint64_t now_ms)
{
	buf_adds(b, "<td class=\"n\">");
	page_since(b, page_field(o, "since"), now_ms);
	buf_adds(b, "</td>");
}

/* The id under which the device has its page. */
static const char *device_of(const json_t *o)
{
	const char *device = page_field(o, "device");

	return *device ? device : page_field(o, "name");
}

static void instance_row(struct buf *b, const json_t *o, uint64_t now_ms)
{
	buf_adds(b, "<tr><td>");
	page_link(b, "devices", device_of(o));
	buf_adds(b, "</td>");
	cell_word(b, page_field(o, "status"));
	cell_text(b, "wide", page_field(o, "reason"));
	cell_since(b, o, now_ms);
	cell_text(b, "", page_field(o, "release"));
	cell_text(b, "x", page_field(o, "state"));
	cell_text(b, "x", page_field(o, "use"));
	cell_number(b, "n x", o, "inside");
	cell_number(b, "n", o, "requests");
	cell_number(b, "n x", o, "starts");
	buf_adds(b, "</tr>\n");
}

static void target_row(struct buf *b, const json_t *o, uint64_t now_ms)
{
	buf_adds(b, "<tr><td>");
	page_link(b, "devices", device_of(o));
	buf_adds(b, "</td>");
	cell_word(b, page_field(o, "status"));
	cell_text(b, "wide", page_field(o, "reason"));
	cell_since(b, o, now_ms);
	cell_text(b, "x", page_field(o, "use"));
	cell_number(b, "n x", o, "inside");
	cell_number(b, "n", o, "requests");
	buf_adds(b, "</tr>\n");
}

static void rows(struct buf *b, const json_t *array, uint64_t now_ms,
		 void (*row)(struct buf *b, const json_t *o, uint64_t now_ms))
{
	const json_t *o;
	size_t i;

	json_array_foreach (array, i, o) {
		if (i == PAGE_ROWS_MAX)
			break;
		row(b, o, now_ms);
	}
	table_close(b, json_array_size(array));
}

static void running(struct buf *b, const json_t *app, uint64_t now_ms)
{
	const json_t *instances = json_object_get(app, "instances");
	const json_t *targets = json_object_get(app, "targets");

	if (json_array_size(instances)) {
		table_open(b, "<th>instance<th>status<th>reason<th class=\"n\">since<th>release"
			      "<th class=\"x\">state<th class=\"x\">use<th class=\"n x\">inside"
			      "<th class=\"n\">requests<th class=\"n x\">starts");
		rows(b, instances, now_ms, instance_row);
	}
	if (json_array_size(targets)) {
		table_open(b, "<th>target<th>status<th>reason<th class=\"n\">since"
			      "<th class=\"x\">use<th class=\"n x\">inside"
			      "<th class=\"n\">requests");
		rows(b, targets, now_ms, target_row);
	}
}

static void figure(struct buf *b, const char *name, const json_t *value,
		   void (*how)(struct buf *b, const json_t *value))
{
	buf_addf(b, "<div><dt>%s</dt><dd>", name);
	how(b, value);
	buf_adds(b, "</dd></div>");
}

static void app_figures(struct buf *b, const json_t *app)
{
	buf_adds(b, "<dl>");
	figure(b, "requests", json_object_get(app, "requests"), page_number);
	figure(b, "failed", json_object_get(app, "failed"), page_number);
	figure(b, "waiting", json_object_get(app, "waiting"), page_number);
	figure(b, "half within", json_object_get(app, "p50_ms"), page_ms);
	figure(b, "99 % within", json_object_get(app, "p99_ms"), page_ms);
	buf_adds(b, "</dl>\n");
}

/* What goes on with it: release, hold, phase, change. */
static void app_state(struct buf *b, const json_t *app)
{
	const char *current = page_field(app, "current"), *phase = page_field(app, "phase");
	json_t *change = json_object_get(app, "change");
	char number[32];

	buf_adds(b, "<p class=\"dim\">");
	if (*current) {
		buf_adds(b, "release ");
		text_html(b, current);
	} else if (json_array_size(json_object_get(app, "targets")) == 0) {
		buf_adds(b, "no release");
	} else {
		buf_adds(b, "servers that Upstate does not run");
	}
	if (*phase && strcmp(phase, "idle") != 0) {
		buf_adds(b, " &middot; phase ");
		text_html(b, phase);
	}
	if (json_is_integer(change)) {
		snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
			 json_integer_value(change));
		buf_adds(b, " &middot; change ");
		page_link(b, "changes", number);
	}
	if (json_is_true(json_object_get(app, "held")))
		buf_adds(b, " &middot; <b>its requests are held</b>");
	buf_adds(b, "</p>\n");
}

static void app_section(struct buf *b, const json_t *app, uint64_t now_ms)
{
	const char *name = page_field(app, "name");

	buf_adds(b, "<section><div class=\"top\"><h2>");
	page_link(b, "devices", name);
	buf_adds(b, "</h2>");
	page_word(b, page_field(app, "status"));
	buf_adds(b, "<span>");
	text_html(b, page_field(app, "reason"));
	buf_adds(b, "</span><span class=\"end dim\">feed: <a href=\"/feeds/");
	text_path(b, name);
	buf_adds(b, ".atom\">Atom</a> <a href=\"/feeds/");
	text_path(b, name);
	buf_adds(b, ".rss\">RSS</a></span></div>\n");
	app_state(b, app);
	app_figures(b, app);
	running(b, app, now_ms);
	buf_adds(b, "</section>\n");
}

static void app_sections(struct buf *b, const json_t *apps, uint64_t now_ms)
{
	const json_t *app;
	size_t i;

	if (json_array_size(apps) == 0)
		buf_adds(b, "<section>No apps yet: add one to the configuration file, "
			    "then <code>upstate deploy</code> it.</section>\n");
	for (int r = 0; r < 4; r++)
		json_array_foreach (apps, i, app)
			if (i < PAGE_ROWS_MAX && rank(page_field(app, "status")) == r)
				app_section(b, app, now_ms);
	if (json_array_size(apps) > PAGE_ROWS_MAX)
		buf_addf(b, "<p class=\"dim\">and %zu more apps</p>\n",
			 json_array_size(apps) - PAGE_ROWS_MAX);
}

static void change_row(struct buf *b, const json_t *c, uint64_t now_ms UNUSED)
{
	char number[32];

	snprintf(number, sizeof(number), "%" JSON_INTEGER_FORMAT,
		 json_integer_value(json_object_get(c, "change")));
	buf_adds(b, "<tr><td>");
	page_link(b, "changes", number);
	buf_adds(b, "</td>");
	cell_word(b, page_field(c, "outcome"));
	buf_adds(b, "<td class=\"wide\">");
	text_html(b, page_field(c, "kind"));
	buf_addc(b, ' ');
	page_from_to(b, c);
	buf_adds(b, "<br><span class=\"dim\">");
	text_html(b, page_field(c, "who"));
	buf_adds(b, ": ");
	text_html(b, page_field(c, "why"));
	buf_adds(b, "</span></td><td>");
	page_time(b, page_field(c, "when"));
	buf_adds(b, "</td>");
	cell_number(b, "n", c, "requests");
	cell_number(b, "n", c, "failed");
	cell_number(b, "n x", c, "held");
	buf_adds(b, "<td class=\"n\">");
	page_ms(b, json_object_get(c, "longest_ms"));
	buf_adds(b, "</td></tr>\n");
}

static void changes_section(struct buf *b, const json_t *changes, uint64_t now_ms)
{
	if (json_array_size(changes) == 0)
		return;
	buf_adds(b, "<section><h2>Last changes</h2>\n");
	table_open(b, "<th>change<th>outcome<th>what, who, why<th>when<th class=\"n\">requests"
		      "<th class=\"n\">failed<th class=\"n x\">held<th class=\"n\">longest");
	rows(b, changes, now_ms, change_row);
	buf_adds(b, "</section>\n");
}

static void device_row(struct buf *b, const json_t *d, uint64_t now_ms UNUSED)
{
	buf_adds(b, "<tr><td>");
	page_link(b, "devices", page_field(d, "name"));
	buf_adds(b, "</td>");
	cell_word(b, page_field(d, "status"));
	cell_text(b, "wide", page_field(d, "reason"));
	cell_text(b, "x", page_field(d, "at"));
	buf_adds(b, "</tr>\n");
}

static void devices_section(struct buf *b, const json_t *devices, uint64_t now_ms)
{
	json_t *sorted = json_array(), *d;
	size_t i;

	for (int r = 0; r < 4; r++)
		json_array_foreach (devices, i, d)
			if (rank(page_field(d, "status")) == r)
				json_array_append(sorted, d);
	if (json_array_size(sorted)) {
		buf_adds(b, "<section><h2>Devices</h2>\n");
		table_open(b, "<th>device<th>status<th>reason<th class=\"x\">at");
		rows(b, sorted, now_ms, device_row);
		buf_adds(b, "</section>\n");
	}
	json_decref(sorted);
}

static void part_row(struct buf *b, const json_t *p, uint64_t now_ms)
{
	const char *name = page_field(p, "name");

	buf_adds(b, "<tr><td><a href=\"/devices/upstate/");
	text_path(b, name);
	buf_adds(b, "\">");
	text_html(b, name);
	buf_adds(b, "</a></td>");
	cell_word(b, page_field(p, "status"));
	cell_text(b, "wide", page_field(p, "reason"));
	cell_since(b, p, now_ms);
	buf_addf(b, "<td class=\"n\">%" JSON_INTEGER_FORMAT "</td>",
		 json_integer_value(json_object_get(p, "pid")));
	cell_number(b, "n", p, "starts");
	buf_adds(b, "</tr>\n");
}

static void parts_section(struct buf *b, const json_t *parts, uint64_t now_ms)
{
	if (json_array_size(parts) == 0)
		return;
	buf_adds(b, "<section><h2>Upstate itself</h2>\n");
	table_open(b, "<th>part<th>status<th>reason<th class=\"n\">since<th class=\"n\">pid"
		      "<th class=\"n\">starts");
	rows(b, parts, now_ms, part_row);
	buf_adds(b, "</section>\n");
}

void page_status(const json_t *status, const json_t *changes, uint64_t now_ms, struct buf *ret)
{
	const json_t *apps = json_object_get(status, "apps");
	const json_t *parts = json_object_get(status, "parts");
	const json_t *devices = json_object_get(status, "devices");
	const char *worst = worst_of(devices, worst_of(parts, worst_of(apps, "good")));
	struct buf title = {0};

	buf_addf(&title, "%s - Upstate", worst);
	page_open(ret, buf_str(&title), worst, false);
	buf_free(&title);
	buf_adds(ret, "<header><h1>Upstate</h1>");
	page_word(ret, worst);
	buf_adds(ret, "<span class=\"end dim\"><a href=\"/feeds/all.atom\">feed of everything</a>"
		      "</span></header>\n");
	app_sections(ret, apps, now_ms);
	devices_section(ret, devices, now_ms);
	changes_section(ret, changes, now_ms);
	parts_section(ret, parts, now_ms);
	page_close(ret);
}
