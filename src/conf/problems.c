/* SPDX-License-Identifier: Apache-2.0 */
#include "conf/problems.h"

#include <stdarg.h>

static void problem_add(struct conf_problems *p, uint32_t line, uint32_t column, bool warning,
			const char *fmt, va_list ap)
{
	struct conf_problem *item;

	if (!warning)
		p->errors++;
	if (p->len == CONF_PROBLEMS_MAX) {
		p->dropped++;
		return;
	}
	if (!p->items)
		p->items = util_alloc(CONF_PROBLEMS_MAX * sizeof(*p->items));
	item = &p->items[p->len++];
	*item = (struct conf_problem){.line = line, .column = column, .warning = warning};
	vsnprintf(item->text, sizeof(item->text), fmt, ap);
	/* What is quoted from a file may hold anything; a message stays one line. */
	for (char *c = item->text; *c; c++)
		if ((unsigned char)*c < ' ' || *c == 127)
			*c = '?';
}

void problem_error(struct conf_problems *p, uint32_t line, uint32_t column, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	problem_add(p, line, column, false, fmt, ap);
	va_end(ap);
}

void problem_warn(struct conf_problems *p, uint32_t line, uint32_t column, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	problem_add(p, line, column, true, fmt, ap);
	va_end(ap);
}

static int by_place(const void *a, const void *b)
{
	const struct conf_problem *x = a, *y = b;

	if (x->line != y->line)
		return x->line < y->line ? -1 : 1;
	if (x->column != y->column)
		return x->column < y->column ? -1 : 1;
	return (int)x->warning - (int)y->warning;
}

void problems_sort(struct conf_problems *p)
{
	if (p->len)
		qsort(p->items, p->len, sizeof(*p->items), by_place);
}

void conf_problems_free(struct conf_problems *p)
{
	free(p->items);
	*p = (struct conf_problems){0};
}

void conf_problems_print(const struct conf_problems *p, const char *path, struct buf *out)
{
	for (uint32_t i = 0; i < p->len; i++) {
		const struct conf_problem *item = &p->items[i];

		buf_adds(out, path);
		if (item->line)
			buf_addf(out, ":%u:%u", item->line, item->column);
		buf_addf(out, ": %s: %s\n", item->warning ? "warning" : "error", item->text);
	}
	if (p->dropped)
		buf_addf(out, "%s: and %u more\n", path, p->dropped);
}
