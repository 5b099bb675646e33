/* SPDX-License-Identifier: Apache-2.0
 *
 * A screen of upstate top. Columns stand in one table; those that there is no room for are left out from
 * the right, and what room is left goes to the names, then to the reasons of what is not good.
 */
#include <string.h>

#include "cli/show.h"
#include "cli/top.h"

#define NAME_MIN 16
#define NAME_MOST 48
#define CELL 64

/* X(NAME, head, width) from left to right; all but the first and the last two are numbers. */
#define COLUMN_TABLE(X)                                                                            \
	X(STATUS, "STATUS", 7)                                                                     \
	X(REQUESTS, "REQ/S", 7)                                                                    \
	X(P50, "P50", 6)                                                                           \
	X(P99, "P99", 6)                                                                           \
	X(FAILED, "FAIL/S", 6)                                                                     \
	X(RETRIED, "RETRY/S", 7)                                                                   \
	X(HELD, "HELD", 5)                                                                         \
	X(INSIDE, "INSIDE", 6)                                                                     \
	X(CONNECTIONS, "CONNS", 5)                                                                 \
	X(RELEASE, "RELEASE", 18)                                                                  \
	X(REMARK, "REMARK", 20)

enum column {
#define X(name, head, width) COLUMN_##name,
	COLUMN_TABLE(X)
#undef X
	COLUMN_COUNT
};

static const struct {
	const char *head;
	int width;
} columns[] = {
#define X(name, head, width) {head, width},
	COLUMN_TABLE(X)
#undef X
};

struct layout {
	int name, remark; /* widths */
	int shown;	  /* columns */
};

/* --- cells --- */

static const char *show_rate(const struct top_row *r, double v, char text[CELL])
{
	if (!r->known)
		snprintf(text, CELL, "-");
	else if (v > 0 && v < 9.95)
		snprintf(text, CELL, "%.1f", v);
	else
		show_count((uint64_t)(v + 0.5), text);
	return text;
}

/* "1.9ms": a column has no room for the blank. */
static const char *show_span(double ms, char text[CELL])
{
	char *blank;

	if (ms < 0)
		return "-";
	show_ms(ms, text);
	blank = strchr(text, ' ');
	if (blank)
		memmove(blank, blank + 1, strlen(blank));
	return text;
}

/* What the router does with it, when that is something special; else how it is. */
static const char *status_of(const struct top_row *r)
{
	if (r->held)
		return "held";
	if (r->target && *r->use && strcmp(r->use, "serve") != 0)
		return r->use;
	return r->status;
}

static const char *cell_text(const struct top_row *r, enum column column, char text[CELL])
{
	switch (column) {
	case COLUMN_STATUS:
		return status_of(r);
	case COLUMN_REQUESTS:
		return show_rate(r, r->requests, text);
	case COLUMN_P50:
		return show_span(r->p50_ms, text);
	case COLUMN_P99:
		return show_span(r->p99_ms, text);
	case COLUMN_FAILED:
		return show_rate(r, r->failed, text);
	case COLUMN_RETRIED:
		return show_rate(r, r->retried, text);
	case COLUMN_HELD:
		return r->target ? "" : show_count(r->waiting, text);
	case COLUMN_INSIDE:
		return show_count(r->inside, text);
	case COLUMN_CONNECTIONS:
		return show_count(r->connections, text);
	case COLUMN_RELEASE:
		return *r->release ? r->release : "-";
	default:
		return strcmp(r->status, "good") == 0 ? "" : r->reason;
	}
}

static const char *colour_of(const struct top_row *r, enum column column)
{
	if (column == COLUMN_STATUS && (r->held || strcmp(r->status, "bad") == 0))
		return "\033[33m";
	if (column == COLUMN_STATUS)
		return strcmp(r->status, "good") == 0	? "\033[32m"
		       : strcmp(r->status, "ugly") == 0 ? "\033[31m"
							: "\033[35m";
	if (column == COLUMN_FAILED && r->failed > 0)
		return "\033[31m";
	if ((column == COLUMN_RETRIED && r->retried > 0) || (column == COLUMN_HELD && r->waiting))
		return "\033[33m";
	return NULL;
}

/* Columns on a screen; UTF-8 continuation bytes take none. */
static int text_width(const char *s)
{
	int n = 0;

	for (; *s; s++)
		n += (*s & 0xc0) != 0x80;
	return n;
}

/* The text in exactly `width` columns; a '>' stands where its end was cut off. */
static void put(struct buf *out, const char *text, int width, bool right, const char *colour)
{
	CLEANUP_BUF struct buf clean = {0};
	int n = text_width(text), at = 0;

	show_clean(&clean, text);
	for (int i = n; right && i < width; i++)
		buf_addc(out, ' ');
	buf_adds(out, colour ? colour : "");
	for (const char *p = buf_str(&clean); *p; p++) {
		at += (*p & 0xc0) != 0x80;
		if (n > width && at >= width) {
			if (width > 0)
				buf_addc(out, '>');
			break;
		}
		buf_addc(out, *p);
	}
	buf_adds(out, colour ? "\033[0m" : "");
	for (int i = n; !right && i < width; i++)
		buf_addc(out, ' ');
}

static bool is_right(int column)
{
	return column > COLUMN_STATUS && column < COLUMN_RELEASE;
}

static void end_line(const struct top_view *v, struct buf *out)
{
	if (v->height) {
		/* The next line is cleared before it is written: behind a full one, clearing would take
		 * its last character. */
		buf_adds(out, "\n\033[K");
		return;
	}
	while (out->len && out->data[out->len - 1] == ' ')
		out->len--;
	buf_addc(out, '\n');
}

static void draw_row(const struct top_view *v, const struct layout *l, const struct top_row *r, struct buf *out)
{
	char name[300], text[CELL];

	snprintf(name, sizeof(name), "%s%s", r->target ? "  " : "", r->name);
	put(out, name, l->name, false, v->colour && !r->target ? "\033[1m" : NULL);
	for (int i = 0; i < l->shown; i++) {
		buf_addc(out, ' ');
		put(out, cell_text(r, (enum column)i, text), i == COLUMN_REMARK ? l->remark : columns[i].width,
		    is_right(i), v->colour ? colour_of(r, (enum column)i) : NULL);
	}
	end_line(v, out);
}

static void draw_heads(const struct top_view *v, const struct layout *l, struct buf *out)
{
	const char *on = v->colour ? "\033[7m" : NULL;
	CLEANUP_BUF struct buf line = {0};

	put(&line, "NAME", l->name, false, NULL);
	for (int i = 0; i < l->shown; i++) {
		buf_addc(&line, ' ');
		put(&line, columns[i].head, i == COLUMN_REMARK ? l->remark : columns[i].width, is_right(i), NULL);
	}
	put(out, buf_str(&line), v->height ? v->width : text_width(buf_str(&line)), false, on);
	end_line(v, out);
}

/* --- what is shown --- */

static bool is_shown(const struct top_view *v, const struct top_row *r)
{
	return (v->targets || !r->target) && strstr(r->app, v->filter);
}

static struct layout lay_out(const struct top *t, const struct top_view *v)
{
	int longest = NAME_MIN, used = 0, room = v->height ? v->width : 400;
	struct layout l = {.shown = 0};

	for (size_t i = 0; i < t->count; i++)
		if (is_shown(v, &t->rows[i]))
			longest = MAX(longest, text_width(t->rows[i].name) + 2 * t->rows[i].target);
	longest = MIN(longest, v->height ? NAME_MOST : 200);
	while (l.shown < COLUMN_COUNT && used + 1 + columns[l.shown].width + NAME_MIN <= room)
		used += 1 + columns[l.shown++].width;
	/* A release is told by the names of its instances: those go first. */
	while (l.shown > COLUMN_RELEASE && used + longest > room)
		used -= 1 + columns[--l.shown].width;
	l.name = MAX(MIN(longest, room - used), 1);
	l.remark = columns[COLUMN_REMARK].width + (v->height ? room - used - l.name : 200);
	return l;
}

static void draw_title(const struct top *t, const struct top_view *v, size_t apps, struct buf *out)
{
	double requests = 0, failed = 0;
	CLEANUP_BUF struct buf line = {0};
	char text[SHOW_TEXT];
	static const char *const keys[] = {
#define X(name, letter, shown) shown,
		TOP_KEY_TABLE(X)
#undef X
	};

	for (size_t i = 0; i < t->count; i++) {
		if (t->rows[i].target || !strstr(t->rows[i].app, v->filter))
			continue;
		requests += t->rows[i].requests;
		failed += t->rows[i].failed;
	}
	if (*v->trouble)
		buf_addf(&line, "OLD: %s; ", v->trouble);
	buf_addf(&line, "upstate top%s: %zu app%s, %s requests/s, ", v->paused ? " (PAUSED)" : "", apps, apps == 1 ? "" : "s",
		 show_count((uint64_t)(requests + 0.5), text));
	if (failed > 0 && failed < 9.95)
		snprintf(text, sizeof(text), "%.1f", failed);
	else
		show_count((uint64_t)(failed + 0.5), text);
	buf_addf(&line, "%s failed/s, by %s", text, keys[v->key]);
	if (v->typing || *v->filter)
		buf_addf(&line, ", filter: %s%s", v->filter, v->typing ? "_" : "");
	put(out, buf_str(&line), v->width, false, v->colour && (v->paused || *v->trouble) ? "\033[33m" : NULL);
	end_line(v, out);
}

static void draw_help(const struct top_view *v, struct buf *out)
{
	put(out,
	    v->typing ? "type a part of an app's name; Enter: done, Esc: all apps"
		      : "sort: r p f h i n   / filter   t targets   space pause   j k scroll   q quit",
	    v->width - 1, false, v->colour ? "\033[2m" : NULL);
}

void top_draw(const struct top *t, struct top_view *v, struct buf *out)
{
	struct layout l = lay_out(t, v);
	size_t shown = 0, apps = 0, lines = v->height ? (size_t)MAX(v->height - 3, 1) : SIZE_MAX, drawn = 0;

	for (size_t i = 0; i < t->count; i++) {
		shown += is_shown(v, &t->rows[i]);
		apps += !t->rows[i].target && strstr(t->rows[i].app, v->filter) != NULL;
	}
	v->skip = MIN(v->skip, shown > lines ? shown - lines : 0);
	if (v->height)
		draw_title(t, v, apps, out);
	draw_heads(v, &l, out);
	for (size_t i = 0, at = 0; i < t->count && drawn < lines; i++) {
		if (!is_shown(v, &t->rows[i]) || at++ < v->skip)
			continue;
		draw_row(v, &l, &t->rows[i], out);
		drawn++;
	}
	for (; v->height && drawn < lines; drawn++)
		end_line(v, out);
	if (v->height)
		draw_help(v, out);
}
