/* SPDX-License-Identifier: Apache-2.0 */
#include "core/threshold.h"

#include <math.h>
#include <string.h>
#include <strings.h>

static const struct unit {
	const char *name;
	enum threshold_kind kind;
	double factor;
} units[] = {
    {"", THRESHOLD_KIND_PLAIN, 1},
    {"%", THRESHOLD_KIND_PERCENT, 1},
    {"us", THRESHOLD_KIND_TIME, 1e-3},
    {"ms", THRESHOLD_KIND_TIME, 1},
    {"s", THRESHOLD_KIND_TIME, 1e3},
    {"m", THRESHOLD_KIND_TIME, 60e3},
    {"min", THRESHOLD_KIND_TIME, 60e3},
    {"h", THRESHOLD_KIND_TIME, 3600e3},
    {"d", THRESHOLD_KIND_TIME, 86400e3},
    {"B", THRESHOLD_KIND_BYTES, 1},
    {"kB", THRESHOLD_KIND_BYTES, 1e3},
    {"MB", THRESHOLD_KIND_BYTES, 1e6},
    {"GB", THRESHOLD_KIND_BYTES, 1e9},
    {"TB", THRESHOLD_KIND_BYTES, 1e12},
    {"KiB", THRESHOLD_KIND_BYTES, 1024.0},
    {"MiB", THRESHOLD_KIND_BYTES, 1048576.0},
    {"GiB", THRESHOLD_KIND_BYTES, 1073741824.0},
    {"TiB", THRESHOLD_KIND_BYTES, 1099511627776.0},
};

static const char *const op_text[THRESHOLD_OP_COUNT] = {
#define X(name, text) [THRESHOLD_##name] = text,
    THRESHOLD_OP_TABLE(X)
#undef X
};

/* --- reading --- */

static bool is_digit(char c)
{
	return c >= '0' && c <= '9';
}

static bool is_label(char c)
{
	return is_digit(c) || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c && strchr("_./-", c));
}

static const char *skip_blanks(const char *p)
{
	return p + strspn(p, " \t");
}

static const char *read_label(const char *p, char label[THRESHOLD_LABEL_MAX + 1], struct err *e)
{
	size_t n = 0;

	while (is_label(p[n]))
		n++;
	if (n > THRESHOLD_LABEL_MAX) {
		err_set(e, ERR_INPUT, "the name '%.40s...' is longer than %d characters", p,
			THRESHOLD_LABEL_MAX);
		return NULL;
	}
	memcpy(label, p, n);
	return skip_blanks(p + n);
}

static const char *read_op(const char *p, uint8_t *ret)
{
	size_t longest = 0;

	for (int i = THRESHOLD_NONE + 1; i < THRESHOLD_OP_COUNT; i++) {
		size_t n = strlen(op_text[i]);

		if (n > longest && strncmp(p, op_text[i], n) == 0) {
			longest = n;
			*ret = (uint8_t)i;
		}
	}
	if (!longest && *p == '=') {
		longest = 1;
		*ret = THRESHOLD_IS;
	}
	return longest ? p + longest : NULL;
}

/* With at most 15 digits both the digits and the power of ten are exact in a double, so one division gives
 * the nearest to what was written, as strtod() would, in any locale. */
static const char *read_number(const char *p, struct threshold *t, struct err *e)
{
	bool minus = *p == '-', point = false;
	double v = 0, scale = 1;
	int digits = 0;

	if (*p == '-' || *p == '+')
		p++;
	for (; is_digit(*p) || (*p == '.' && !point && digits && is_digit(p[1])); p++) {
		if (*p == '.') {
			point = true;
			continue;
		}
		if (digits++ == THRESHOLD_DIGITS_MAX) {
			err_set(e, ERR_INPUT, "the number has more than %d digits", THRESHOLD_DIGITS_MAX);
			return NULL;
		}
		v = v * 10 + (*p - '0');
		scale *= point ? 10 : 1;
		t->digits += point;
	}
	if (!digits) {
		err_set(e, ERR_INPUT, "expected a number behind '%s', as in '%s 150', found '%.40s'",
			op_text[t->op], op_text[t->op], p);
		return NULL;
	}
	t->number = (minus && v != 0 ? -v : v) / scale;
	return p;
}

static int read_unit(const char *p, struct threshold *t, struct err *e)
{
	size_t n = strcspn(p, " \t");

	for (size_t i = 0; i < ARRAY_LEN(units) && !*skip_blanks(p + n); i++) {
		if (strlen(units[i].name) != n || strncasecmp(p, units[i].name, n) != 0)
			continue;
		t->unit = (uint8_t)i;
		t->value = t->number * units[i].factor;
		return 0;
	}
	return err_set(e, ERR_INPUT, "'%.40s' is no unit: there are us, ms, s, m, h, d, %%, B, kB, MB, GB, TB, KiB, "
			"MiB, GiB and TiB", p);
}

int threshold_parse(const char *text, struct threshold *ret, struct err *e)
{
	struct threshold t = {.op = THRESHOLD_NONE};
	const char *p = read_label(skip_blanks(text), t.label, e), *op = p;

	if (!p)
		return -ERR_INPUT;
	p = read_op(op, &t.op);
	if (!p)
		return err_set(e, ERR_INPUT, "expected one of > >= < <= == != and a number, as in '> 150ms', "
				"found '%.40s'", text);
	p = read_number(skip_blanks(p), &t, e);
	if (!p)
		return -ERR_INPUT;
	if (read_unit(skip_blanks(p), &t, e) < 0)
		return -ERR_INPUT;
	*ret = t;
	return 0;
}

/* --- the rest --- */

size_t threshold_print(const struct threshold *t, char out[THRESHOLD_TEXT])
{
	int n = snprintf(out, THRESHOLD_TEXT, "%s%s%s %.*f%s", t->label, *t->label ? " " : "", op_text[t->op],
			 t->digits, t->number, units[t->unit].name);

	ensure(n > 0 && n < THRESHOLD_TEXT);
	return (size_t)n;
}

enum threshold_kind threshold_kind(const struct threshold *t)
{
	return units[t->unit].kind;
}

const char *threshold_wants(enum threshold_kind kind)
{
	static const char *const what[THRESHOLD_KIND_COUNT] = {
#define X(name, lower, what_) [THRESHOLD_KIND_##name] = what_,
	    THRESHOLD_KIND_TABLE(X)
#undef X
	};

	return what[kind];
}

bool threshold_crossed(const struct threshold *t, double value)
{
	if (isnan(value))
		return false;
	switch ((enum threshold_op)t->op) {
	case THRESHOLD_ABOVE:
		return value > t->value;
	case THRESHOLD_AT_LEAST:
		return value >= t->value;
	case THRESHOLD_BELOW:
		return value < t->value;
	case THRESHOLD_AT_MOST:
		return value <= t->value;
	case THRESHOLD_IS:
		return value == t->value;
	case THRESHOLD_IS_NOT:
		return value != t->value;
	case THRESHOLD_NONE:
	case THRESHOLD_OP_COUNT:
		break;
	}
	return false;
}
