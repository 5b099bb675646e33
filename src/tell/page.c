/* SPDX-License-Identifier: Apache-2.0
 *
 * The frame around every page, and the pieces that they are made of.
 */
#include "tell/page_priv.h"

#include <inttypes.h>
#include <string.h>

#include "base/clock.h"

/* clang-format off */
static const char style[] =
	":root{color-scheme:light dark;--ink:#1c2024;--dim:#60666d;--line:#dfe3e8;--paper:#f6f7f9;"
	"--card:#fff;--link:#0b5cad;--good:#176f3c;--goodbg:#dff3e6;--bad:#855500;--badbg:#fdf0cf;"
	"--ugly:#b3171f;--uglybg:#fde2e2;--unknown:#565c64;--unknownbg:#e8eaed}"
	"@media(prefers-color-scheme:dark){:root{--ink:#e4e7eb;--dim:#98a0a9;--line:#2e343b;"
	"--paper:#14171a;--card:#1c2024;--link:#7db8f5;--good:#71d899;--goodbg:#143222;"
	"--bad:#f0c14f;"
	"--badbg:#3a2d0b;--ugly:#ff8f8f;--uglybg:#431a1c;--unknown:#a9b1ba;--unknownbg:#2b3036}}"
	"*{box-sizing:border-box}"
	"body{margin:0 auto;max-width:64rem;padding:1rem;background:var(--paper);color:var(--ink);"
	"font:15px/1.45 system-ui,-apple-system,'Segoe UI','DejaVu Sans',sans-serif}"
	"a{color:var(--link);text-decoration:none}a:hover{text-decoration:underline}"
	"h1{font-size:1.35rem;margin:.3rem 0}h2{font-size:1.1rem;margin:0}"
	"h3{font-size:.8rem;margin:1.1rem 0 .2rem;color:var(--dim);font-weight:600}"
	"header{display:flex;flex-wrap:wrap;gap:.2rem .8rem;align-items:center;margin-bottom:.8rem}"
	"header>.end{margin-left:auto}"
	"section{background:var(--card);border:1px solid var(--line);border-radius:8px;"
	"padding:.9rem 1rem;margin:0 0 1rem}"
	".top{display:flex;flex-wrap:wrap;gap:.2rem .7rem;align-items:center}"
	".top>.end{margin-left:auto}"
	".dim,footer{color:var(--dim)}footer{font-size:.85rem}"
	".w{display:inline-block;padding:.05rem .5rem;border-radius:5px;font-weight:600;"
	"font-size:.88em;color:var(--unknown);background:var(--unknownbg)}"
	".w.good{color:var(--good);background:var(--goodbg)}"
	".w.bad{color:var(--bad);background:var(--badbg)}"
	".w.ugly{color:var(--ugly);background:var(--uglybg)}"
	".t{overflow-x:auto;margin-top:.7rem}"
	"table{border-collapse:collapse;width:100%;font-size:.93em}"
	"th,td{text-align:left;padding:.32rem .8rem .32rem 0;border-top:1px solid var(--line);"
	"vertical-align:top;white-space:nowrap}tr:first-child>th{border-top:0}"
	"th{color:var(--dim);font-weight:500;font-size:.88em}"
	"td.wide{white-space:normal;min-width:11rem;width:99%}"
	".n{text-align:right;font-variant-numeric:tabular-nums}"
	"td:last-child,th:last-child{padding-right:0}"
	"dl{display:grid;grid-template-columns:repeat(auto-fill,minmax(5.4rem,1fr));gap:.5rem 1rem;"
	"margin:.8rem 0 0}dt{color:var(--dim);font-size:.8rem}"
	"dd{margin:0;font-weight:600;font-variant-numeric:tabular-nums;overflow-wrap:anywhere}"
	"dl.facts{grid-template-columns:max-content 1fr;gap:.25rem 1rem}dl.facts dt{font-size:1em}"
	"dl.facts dd{font-weight:400}"
	"pre{overflow-x:auto;font-size:.87em;margin:.3rem 0 0;white-space:pre-wrap;"
	"overflow-wrap:anywhere}"
	/* on a phone, what can be spared */
	"@media(max-width:40rem){.x{display:none}td.wide{min-width:9rem}}";
/* clang-format on */

static const struct {
	const char *word, *colour; /* class of the style */
	const char *icon;	   /* of the page */
} words[] = {
	{"good", "good", "2b9b57"},   {"bad", "bad", "e0a100"},   {"ugly", "ugly", "d62b35"},
	{"done", "good", "2b9b57"},   {"undone", "bad", "e0a100"}, {"failed", "ugly", "d62b35"},
};

static const char *colour_of(const char *word, const char **ret_icon)
{
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (strcmp(word, words[i].word) == 0) {
			*ret_icon = words[i].icon;
			return words[i].colour;
		}
	*ret_icon = "8a929b";
	return "";
}

void page_open(struct buf *b, const char *title, const char *status, bool home)
{
	const char *icon;

	colour_of(status, &icon);
	buf_adds(b, "<!DOCTYPE html>\n<html lang=\"en\"><head><meta charset=\"utf-8\"><title>");
	text_html(b, title);
	buf_adds(b, "</title>\n<meta name=\"viewport\" "
		    "content=\"width=device-width,initial-scale=1\">"
		    "<meta name=\"color-scheme\" content=\"light dark\">\n");
	buf_addf(b,
		 "<link rel=\"icon\" href=\"data:image/svg+xml,%%3Csvg "
		 "xmlns='http://www.w3.org/2000/svg' viewBox='0 0 16 16'%%3E%%3Ccircle cx='8' "
		 "cy='8' r='7' fill='%%23%s'/%%3E%%3C/svg%%3E\">\n",
		 icon);
	buf_adds(b, "<link rel=\"alternate\" type=\"application/atom+xml\" title=\"everything\" "
		    "href=\"/feeds/all.atom\">\n<style>");
	buf_adds(b, style);
	buf_adds(b, "</style></head>\n<body>\n");
	if (home)
		buf_adds(b, "<p><a href=\"/\">&larr; status of everything</a></p>\n");
}

void page_close(struct buf *b)
{
	buf_adds(b, "<footer>Upstate " UPSTATE_VERSION
		    ". Times are UTC.</footer>\n</body></html>\n");
}

const char *page_field(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

void page_word(struct buf *b, const char *word)
{
	const char *icon;

	if (!*word)
		return;
	buf_addf(b, "<span class=\"w %s\">", colour_of(word, &icon));
	text_html(b, word);
	buf_adds(b, "</span>");
}

/* Groups of three, apart by a narrow space that does not break. */
static void add_grouped(struct buf *b, uint64_t n)
{
	char digits[24];
	int len = snprintf(digits, sizeof(digits), "%" PRIu64, n);

	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			buf_adds(b, "&#8239;");
		buf_addc(b, digits[i]);
	}
}

void page_number(struct buf *b, const json_t *n)
{
	if (json_is_integer(n) && json_integer_value(n) >= 0)
		add_grouped(b, (uint64_t)json_integer_value(n));
	else
		buf_adds(b, "&ndash;");
}

void page_ms(struct buf *b, const json_t *ms)
{
	double v = json_is_number(ms) ? json_number_value(ms) : -1;
	char text[CLOCK_TEXT];

	if (!(v >= 0 && v < 1e15))
		buf_adds(b, "&ndash;");
	else if (v < 100)
		buf_addf(b, "%.1f ms", v);
	else
		buf_adds(b, clock_span((uint64_t)v, text));
}

/* "2026-11-22T03:12:15.123Z" as "2026-11-22 03:12:15", in an element or in its title. */
static bool time_text(const char *when, int digits, char ret[CLOCK_TEXT], char ret_iso[CLOCK_TEXT])
{
	uint64_t ms;

	if (!clock_parse(when, &ms))
		return false;
	clock_text(ms, ret_iso);
	snprintf(ret, CLOCK_TEXT, "%.10s %.*s", ret_iso, digits, ret_iso + 11);
	return true;
}

static void add_time(struct buf *b, const char *when, int digits)
{
	char text[CLOCK_TEXT], iso[CLOCK_TEXT];

	if (time_text(when, digits, text, iso))
		buf_addf(b, "<time datetime=\"%s\">%s</time>", iso, text);
	else
		buf_adds(b, "&ndash;");
}

void page_time(struct buf *b, const char *when)
{
	add_time(b, when, 8);
}

void page_instant(struct buf *b, const char *when)
{
	add_time(b, when, 12);
}

void page_since(struct buf *b, const char *when, uint64_t now_ms)
{
	char text[CLOCK_TEXT], iso[CLOCK_TEXT], span[CLOCK_TEXT];
	uint64_t ms;

	if (clock_parse(when, &ms) && ms <= now_ms && time_text(when, 8, text, iso))
		buf_addf(b, "<time datetime=\"%s\" title=\"%s\">%s</time>", iso, text,
			 clock_span(now_ms - ms, span));
	else
		page_time(b, when);
}

void page_link(struct buf *b, const char *kind, const char *name)
{
	buf_addf(b, "<a href=\"/%s/", kind);
	text_path(b, name);
	buf_adds(b, "\">");
	text_html(b, name);
	buf_adds(b, "</a>");
}

void page_json(struct buf *b, const json_t *j)
{
	CLEANUP_FREE char *text = json_dumps(j, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENCODE_ANY);

	buf_adds(b, "<pre>");
	if (text)
		text_html(b, text);
	buf_adds(b, "</pre>\n");
}

void page_from_to(struct buf *b, const json_t *change)
{
	const char *from = page_field(change, "from"), *to = page_field(change, "to");

	text_html(b, from);
	if (*from && *to)
		buf_adds(b, " &rarr; ");
	text_html(b, to);
}

void page_message(int http_status, const char *text, struct buf *ret)
{
	page_open(ret, text, "unknown", true);
	buf_addf(ret, "<section><h1>%d</h1><p>", http_status);
	text_html(ret, text);
	buf_adds(ret, "</p></section>\n");
	page_close(ret);
}
