/* SPDX-License-Identifier: Apache-2.0 */
#include "tell/metrics_names.h"

#include <string.h>
#include <strings.h>

#define PART "of these: "

/* Counters that tell one thing apart: PREFIXvalue becomes family{label="value"}. */
static const struct {
	const char *prefix, *family, *label, *help;
} groups[] = {
	{"answered_", "responses", "class", "Answers of targets that were passed on, by class of status."},
	{"refused_", "refused", "class", "Answered by Upstate itself, because the request was at fault."},
	{"failed_", "failures", "cause", "Requests that Upstate could not get an answer for, by cause."},
	{"retried_", "retries", "class", "Sent to another target, by what made that right."},
	{"ejected_", "ejections", "cause", "Taken out for a while because of its answers, by cause."},
};

static const struct {
	const char *counter, *family;
} renamed[] = {
	{"bytes_in", "received_bytes"},
	{"bytes_out", "sent_bytes"},
};

static const struct {
	const char *suffix, *base;
	uint32_t per;
	const char *unit;
} units[] = {
	{"_ms", "_seconds", 1000, "seconds"},
	{"_us", "_seconds", 1000000, "seconds"},
	{"_seconds", "_seconds", 1, "seconds"},
	{"_bytes", "_bytes", 1, "bytes"},
};

static bool ends_with(const char *text, size_t len, const char *end)
{
	size_t n = strlen(end);

	return len >= n && memcmp(text + len - n, end, n) == 0;
}

/* Takes " (app)" and the like off the text's end. */
static bool take_mark(const char *what, size_t *len, const char *mark)
{
	if (!ends_with(what, *len, mark))
		return false;
	*len -= strlen(mark);
	while (*len && what[*len - 1] == ' ')
		--*len;
	return true;
}

/* It counts some of what another one counts: in one family with that, a sum would have them twice. */
static bool is_part(const char *what)
{
	return strncmp(what, PART, strlen(PART)) == 0;
}

/* "sum of the waits (app)" becomes "Sum of the waits." */
static void read_text(const char *what, struct metric_name *ret)
{
	size_t len = strlen(what);
	bool only_app = take_mark(what, &len, "(app)"), only_target = take_mark(what, &len, "(target)");

	ret->gauge = take_mark(what, &len, "(gauge)");
	ret->app = !only_target;
	ret->target = !only_app;
	if (is_part(what)) {
		what += strlen(PART);
		len -= strlen(PART);
	}
	if (!len)
		return;
	snprintf(ret->help, sizeof(ret->help), "%.*s.", (int)MIN(len, sizeof(ret->help) - 2), what);
	if (ret->help[0] >= 'a' && ret->help[0] <= 'z')
		ret->help[0] = (char)(ret->help[0] - 'a' + 'A');
}

static bool in_group(const char *counter, struct metric_name *ret)
{
	for (size_t i = 0; i < ARRAY_LEN(groups); i++) {
		size_t n = strlen(groups[i].prefix);

		if (strncmp(counter, groups[i].prefix, n) != 0)
			continue;
		util_copy(ret->family, sizeof(ret->family), groups[i].family);
		util_copy(ret->label, sizeof(ret->label), groups[i].label);
		util_copy(ret->value, sizeof(ret->value), counter + n);
		util_copy(ret->help, sizeof(ret->help), groups[i].help);
		return true;
	}
	return false;
}

void metric_name(const char *counter, const char *what, struct metric_name *ret)
{
	size_t len = strlen(counter);

	*ret = (struct metric_name){.per = 1};
	read_text(what, ret);
	if (!is_part(what) && in_group(counter, ret))
		return;
	util_copy(ret->family, sizeof(ret->family), counter);
	for (size_t i = 0; i < ARRAY_LEN(renamed); i++)
		if (strcmp(counter, renamed[i].counter) == 0)
			util_copy(ret->family, sizeof(ret->family), renamed[i].family);
	len = strlen(ret->family);
	for (size_t i = 0; i < ARRAY_LEN(units); i++) {
		if (!ends_with(ret->family, len, units[i].suffix))
			continue;
		len -= strlen(units[i].suffix);
		snprintf(ret->family + len, sizeof(ret->family) - len, "%s", units[i].base);
		ret->unit = units[i].unit;
		ret->per = units[i].per;
		return;
	}
}

void metric_escape(struct buf *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\n') {
			buf_adds(out, "\\n");
			continue;
		}
		if (*text == '\\' || *text == '"')
			buf_addc(out, '\\');
		buf_addc(out, *text);
	}
}

void metric_number(struct buf *out, uint64_t n, uint32_t per)
{
	char text[32], *p = text + sizeof(text);
	uint64_t rest = n % per;

	if (rest) {
		for (uint32_t unit = per; unit > 1; unit /= 10, rest /= 10)
			*--p = (char)('0' + rest % 10);
		*--p = '.';
	}
	n /= per;
	do
		*--p = (char)('0' + n % 10);
	while (n /= 10);
	buf_add(out, p, (size_t)(text + sizeof(text) - p));
}

/* --- Accept --- */

/* "q=0.5" in thousandths; what is no weight counts as none given. */
static uint32_t weight(const char *p, size_t len)
{
	uint32_t q = 0, unit = 1000;

	for (size_t i = 0; i < len && unit; i++) {
		if (p[i] == '.' && i == 1)
			continue;
		if (p[i] < '0' || p[i] > '9')
			return 1000;
		q += (uint32_t)(p[i] - '0') * unit;
		unit /= 10;
	}
	return MIN(q, 1000u);
}

static size_t skip_blank(const char *p, size_t i, size_t len)
{
	while (i < len && (p[i] == ' ' || p[i] == '\t'))
		i++;
	return i;
}

/* One member of the list: its type, and its q. False: a version that is not spoken here. */
static bool read_member(const char *p, size_t len, size_t *ret_type_len, uint32_t *ret_q)
{
	size_t i = 0;
	bool known = true;

	*ret_q = 1000;
	for (bool first = true; i < len; first = false) {
		size_t from = i = skip_blank(p, i, len), end;

		while (i < len && p[i] != ';')
			i++;
		for (end = i; end > from && (p[end - 1] == ' ' || p[end - 1] == '\t'); end--)
			;
		if (first)
			*ret_type_len = end;
		else if (end - from > 2 && strncasecmp(p + from, "q=", 2) == 0)
			*ret_q = weight(p + from + 2, end - from - 2);
		else if (end - from > 8 && strncasecmp(p + from, "version=", 8) == 0)
			known = end - from == 13 && (memcmp(p + from + 8, "1.0.0", 5) == 0 ||
						     memcmp(p + from + 8, "0.0.4", 5) == 0);
		i += i < len;
	}
	return known;
}

static bool is_type(const char *p, size_t len, const char *type)
{
	return len == strlen(type) && strncasecmp(p, type, len) == 0;
}

bool metric_wants_open(const char *accept, size_t len)
{
	uint32_t open = 0, text = 0;

	for (size_t i = 0; i < len; i++) {
		size_t from = i = skip_blank(accept, i, len), type_len = 0;
		uint32_t q;

		while (i < len && accept[i] != ',')
			i++;
		if (!read_member(accept + from, i - from, &type_len, &q))
			continue;
		if (is_type(accept + from, type_len, "application/openmetrics-text"))
			open = MAX(open, q);
		else if (is_type(accept + from, type_len, "text/plain"))
			text = MAX(text, q);
	}
	return open && open >= text;
}
