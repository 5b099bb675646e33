/* SPDX-License-Identifier: Apache-2.0 */
#include "cli/show.h"

#include <stdarg.h>
#include <string.h>

#include "base/clock.h"

/* --- numbers --- */

const char *show_count(uint64_t n, char text[SHOW_TEXT])
{
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%llu", (unsigned long long)n);
	char *p = text;

	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			*p++ = ',';
		*p++ = digits[i];
	}
	*p = '\0';
	return text;
}

/* One digit after the point where it tells something: "1.9", "8". */
static void add_tenths(double v, const char *unit, char text[SHOW_TEXT])
{
	long tenths = (long)(v * 10 + 0.5);

	if (tenths % 10)
		snprintf(text, SHOW_TEXT, "%ld.%ld %s", tenths / 10, tenths % 10, unit);
	else
		snprintf(text, SHOW_TEXT, "%ld %s", tenths / 10, unit);
}

const char *show_ms(double ms, char text[SHOW_TEXT])
{
	if (!(ms > 0))
		snprintf(text, SHOW_TEXT, "0 ms");
	else if (ms < 9.95)
		add_tenths(ms, "ms", text);
	else if (ms < 999.5)
		snprintf(text, SHOW_TEXT, "%.0f ms", ms);
	else if (ms < 119950)
		add_tenths(ms / 1000, "s", text);
	else if (ms < 120 * 60000.0)
		snprintf(text, SHOW_TEXT, "%.0f min", ms / 60000);
	else
		snprintf(text, SHOW_TEXT, "%.0f h", MIN(ms / 3600000, 1e9));
	return text;
}

const char *show_bytes(uint64_t bytes, char text[SHOW_TEXT])
{
	static const char *const units[] = {"kB", "MB", "GB", "TB", "PB", "EB"};
	double v = (double)bytes / 1000;
	size_t unit = 0;

	if (bytes < 1000) {
		snprintf(text, SHOW_TEXT, "%u B", (unsigned)bytes);
		return text;
	}
	for (; v >= 999.5 && unit + 1 < ARRAY_LEN(units); unit++)
		v /= 1000;
	snprintf(text, SHOW_TEXT, v < 9.95 ? "%.1f %s" : "%.0f %s", v, units[unit]);
	return text;
}

const char *show_time(const char *rfc3339, char text[SHOW_TEXT])
{
	char whole[CLOCK_TEXT];
	uint64_t ms;

	if (!clock_parse(rfc3339, &ms)) {
		snprintf(text, SHOW_TEXT, "%.31s", rfc3339);
		return text;
	}
	clock_text(ms, whole);
	snprintf(text, SHOW_TEXT, "%.10s %.8s", whole, whole + 11);
	return text;
}

void show_clean(struct buf *out, const char *text)
{
	for (; *text; text++)
		buf_addc(out, (unsigned char)*text < ' ' || *text == 127 ? ' ' : *text);
}

/* --- fields --- */

const char *field_text(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

uint64_t field_count(const json_t *o, const char *key)
{
	json_int_t v = json_integer_value(json_object_get(o, key));

	return v > 0 ? (uint64_t)v : 0;
}

double field_real(const json_t *o, const char *key)
{
	return json_number_value(json_object_get(o, key));
}

/* --- tables --- */

void show_cell(struct show_table *t, const char *fmt, ...)
{
	CLEANUP_FREE char *text = NULL;
	va_list ap;

	va_start(ap, fmt);
	if (vasprintf(&text, fmt, ap) < 0)
		text = NULL;
	va_end(ap);
	if (!text)
		t->cells.failed = true;
	else
		show_clean(&t->cells, text);
	buf_addc(&t->cells, '\0');
	t->count++;
}

/* Columns on a screen: UTF-8 continuation bytes take none. */
static size_t text_width(const char *s)
{
	size_t n = 0;

	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

static const char *status_colour(const char *cell)
{
	static const struct {
		const char *word, *code;
	} colours[] = {{"good", "\033[32m"},	{"bad", "\033[33m"},	{"ugly", "\033[31m"},
		       {"unknown", "\033[35m"}, {"done", "\033[32m"},	{"undone", "\033[33m"},
		       {"failed", "\033[31m"},	{"running", "\033[36m"}};

	for (size_t i = 0; i < ARRAY_LEN(colours); i++)
		if (strcmp(colours[i].word, cell) == 0)
			return colours[i].code;
	return NULL;
}

static void add_cell(struct buf *out, const char *cell, size_t width, const char *colour)
{
	buf_adds(out, colour ? colour : "");
	buf_adds(out, cell);
	buf_adds(out, colour ? "\033[0m" : "");
	for (size_t n = text_width(cell); n < width; n++)
		buf_addc(out, ' ');
}

static void drop_blanks(struct buf *out)
{
	while (out->len && out->data[out->len - 1] == ' ')
		out->len--;
	buf_addc(out, '\n');
}

void show_table_end(struct show_table *t, struct buf *out)
{
	size_t widths[TABLE_COLUMNS_MAX], columns = 0;
	const char *cell = t->cells.data;

	for (; t->heads[columns]; columns++) {
		ensure(columns < TABLE_COLUMNS_MAX);
		widths[columns] = text_width(t->heads[columns]);
	}
	if (t->cells.failed)
		t->count = 0;
	for (size_t i = 0; i < t->count; i++, cell += strlen(cell) + 1)
		widths[i % columns] = MAX(widths[i % columns], text_width(cell));
	for (size_t i = 0; i < columns; i++)
		add_cell(out, t->heads[i], i + 1 < columns ? widths[i] + 2 : 0,
			 t->colour ? "\033[1m" : NULL);
	drop_blanks(out);
	cell = t->cells.data;
	for (size_t i = 0; i < t->count; i++, cell += strlen(cell) + 1) {
		bool last = i % columns + 1 == columns;

		add_cell(out, cell, last ? 0 : widths[i % columns] + 2,
			 t->colour ? status_colour(cell) : NULL);
		if (last)
			drop_blanks(out);
	}
	buf_free(&t->cells);
	t->count = 0;
}

/* --- changes --- */

/* From its beginning to its last step, in milliseconds. */
static double change_took(const json_t *change)
{
	const json_t *steps = json_object_get(change, "steps");
	const json_t *last = json_array_get(steps, json_array_size(steps) - 1);
	uint64_t from, to;

	if (clock_parse(field_text(change, "when"), &from) &&
	    clock_parse(field_text(last, "at"), &to) && to >= from)
		return (double)(to - from);
	return 0;
}

static void add_numbers(const json_t *c, struct buf *out)
{
	char a[SHOW_TEXT], b[SHOW_TEXT];

	buf_addf(out, ": %s requests, %s failed", show_count(field_count(c, "requests"), a),
		 show_count(field_count(c, "failed"), b));
	if (field_count(c, "held"))
		buf_addf(out, ", %s held (longest %s)", show_count(field_count(c, "held"), a),
			 show_ms(field_real(c, "longest_ms"), b));
	if (field_count(c, "retried"))
		buf_addf(out, ", %s retried", show_count(field_count(c, "retried"), a));
	if (field_count(c, "slowed"))
		buf_addf(out, ", %s slowed", show_count(field_count(c, "slowed"), a));
	if (field_count(c, "requests"))
		buf_addf(out, ", p50 %s, p99 %s", show_ms(field_real(c, "p50_ms"), a),
			 show_ms(field_real(c, "p99_ms"), b));
}

void show_receipt(const json_t *change, struct buf *out)
{
	const char *outcome = field_text(change, "outcome"), *to = field_text(change, "to");
	const char *from = field_text(change, "from"), *reason = field_text(change, "reason");
	double took = change_took(change);
	char span[SHOW_TEXT];

	if (*to)
		show_clean(out, to);
	else
		buf_addf(out, "change %llu", (unsigned long long)field_count(change, "change"));
	if (strcmp(outcome, "running") == 0)
		buf_adds(out, " is under way");
	else {
		buf_addc(out, ' ');
		show_clean(out, *outcome ? outcome : "ended");
		if (took > 0)
			buf_addf(out, " in %s", show_ms(took, span));
	}
	if (*reason) {
		buf_adds(out, " (");
		show_clean(out, reason);
		buf_addc(out, ')');
	}
	if (strcmp(outcome, "undone") == 0 && *from) {
		buf_adds(out, ", ");
		show_clean(out, from);
		buf_adds(out, " serves");
	}
	add_numbers(change, out);
	buf_addc(out, '\n');
}

void show_step(const json_t *step, struct buf *out)
{
	char span[SHOW_TEXT];

	buf_addf(out, "%9s  ", show_ms(field_real(step, "ms"), span));
	show_clean(out, field_text(step, "name"));
	buf_addc(out, '\n');
}

int show_exit_status(const json_t *change)
{
	const char *outcome = field_text(change, "outcome");

	return strcmp(outcome, "done") == 0 ? 0 : strcmp(outcome, "undone") == 0 ? 4 : 1;
}

void show_bar(uint64_t done, uint64_t all, int width, struct buf *out)
{
	int cells = MAX(width - 9, 4);
	double part = all ? (double)MIN(done, all) / (double)all : 1;

	buf_addc(out, '[');
	for (int i = 0; i < cells; i++)
		buf_addc(out, i < (int)(part * cells) ? '#' : '-');
	buf_addf(out, "] %3d %%", (int)(part * 100));
}
