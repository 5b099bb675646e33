/* SPDX-License-Identifier: Apache-2.0
 *
 * The pages that articles of the feed link to: a device, and a change with its receipt and steps.
 */
#include "tell/page_priv.h"

#include <inttypes.h>
#include <string.h>

static void fact_open(struct buf *b, const char *name)
{
	buf_addf(b, "<dt>%s</dt><dd>", name);
}

static void fact(struct buf *b, const char *name, const char *text)
{
	if (!*text)
		return;
	fact_open(b, name);
	text_html(b, text);
	buf_adds(b, "</dd>");
}

/* --- device --- */

/* A line for each status, which feeds by change link to. */
static void past_section(struct buf *b, const struct state_status *past, size_t n)
{
	buf_adds(b, "<section><h2>History</h2><div class=\"t\"><table><tr><th>since<th>status<th>reason</tr>\n");
	for (size_t i = 0; i < n; i++) {
		buf_addf(b, "<tr id=\"%" PRIu64 "\"><td>", past[i].seq);
		page_instant(b, past[i].since);
		buf_adds(b, "</td><td>");
		page_word(b, past[i].status);
		buf_adds(b, "</td><td class=\"wide\">");
		text_html(b, past[i].reason);
		buf_adds(b, "</td></tr>\n");
	}
	buf_adds(b, "</table></div></section>\n");
}

void page_device(const struct state_device *d, const struct state_status *past, size_t past_count,
		 const json_t *now, uint64_t now_ms, struct buf *ret)
{
	json_t *dump = json_loads(d->body ? d->body : "", JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	struct buf title = {0};

	buf_addf(&title, "%s: %s", d->id, d->status);
	page_open(ret, buf_str(&title), d->status, true);
	buf_free(&title);
	buf_adds(ret, "<section><div class=\"top\"><h1>");
	text_html(ret, d->id);
	buf_adds(ret, "</h1>");
	page_word(ret, d->status);
	buf_adds(ret, "<span>");
	text_html(ret, d->reason);
	buf_adds(ret, "</span></div>\n<dl class=\"facts\">");
	fact_open(ret, "since");
	page_time(ret, d->since);
	buf_adds(ret, " (");
	page_since(ret, d->since, now_ms);
	buf_adds(ret, " ago)</dd>");
	fact(ret, "app", d->app);
	fact_open(ret, "change");
	buf_addf(ret, "%" PRIu64 " of all changes of status</dd></dl></section>\n", d->seq);
	buf_adds(ret, "<section><h2>Now</h2>");
	if (json_is_object(now))
		page_json(ret, now);
	else
		buf_adds(ret, "<p class=\"dim\">It is not there any more.</p>");
	buf_adds(ret, "</section>\n");
	past_section(ret, past, past_count);
	buf_adds(ret, "<section><h2>When its status changed</h2>");
	if (dump)
		page_json(ret, dump);
	buf_adds(ret, "</section>\n");
	json_decref(dump);
	page_close(ret);
}

/* --- change --- */

static void receipt(struct buf *b, const json_t *c)
{
	static const char *const counts[] = {"requests", "answered", "failed",
					     "held",	 "retried",  "slowed"};
	static const char *const times[][2] = {{"p50_ms", "half within"},
					       {"p99_ms", "99 % within"},
					       {"longest_ms", "longest"}};

	buf_adds(b, "<section><h2>Receipt: what users saw</h2><dl>");
	for (size_t i = 0; i < ARRAY_LEN(counts); i++) {
		buf_addf(b, "<div><dt>%s</dt><dd>", counts[i]);
		page_number(b, json_object_get(c, counts[i]));
		buf_adds(b, "</dd></div>");
	}
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		buf_addf(b, "<div><dt>%s</dt><dd>", times[i][1]);
		page_ms(b, json_object_get(c, times[i][0]));
		buf_adds(b, "</dd></div>");
	}
	buf_adds(b, "</dl></section>\n");
}

static void steps_section(struct buf *b, const json_t *steps)
{
	const json_t *s;
	size_t i;

	if (json_array_size(steps) == 0)
		return;
	buf_adds(b, "<section><h2>Steps</h2><div class=\"t\"><table>"
		    "<tr><th>at<th class=\"n\">after<th>step</tr>\n");
	json_array_foreach (steps, i, s) {
		if (i == PAGE_ROWS_MAX)
			break;
		buf_adds(b, "<tr><td>");
		page_instant(b, page_field(s, "at"));
		buf_adds(b, "</td><td class=\"n\">");
		page_ms(b, json_object_get(s, "ms"));
		buf_adds(b, "</td><td class=\"wide\">");
		text_html(b, page_field(s, "name"));
		buf_adds(b, "</td></tr>\n");
	}
	buf_adds(b, "</table></div>");
	if (i < json_array_size(steps))
		buf_addf(b, "<p class=\"dim\">and %zu more</p>", json_array_size(steps) - i);
	buf_adds(b, "</section>\n");
}

void page_change(const json_t *change, uint64_t now_ms, struct buf *ret)
{
	const char *outcome = page_field(change, "outcome"), *when = page_field(change, "when");
	struct buf title = {0};

	buf_addf(&title, "%s of %s: %s", page_field(change, "kind"), page_field(change, "app"),
		 outcome);
	page_open(ret, buf_str(&title), outcome, true);
	buf_free(&title);
	buf_addf(ret, "<section><div class=\"top\"><h1>Change %" JSON_INTEGER_FORMAT ": ",
		 json_integer_value(json_object_get(change, "change")));
	text_html(ret, page_field(change, "kind"));
	buf_adds(ret, " ");
	page_from_to(ret, change);
	buf_adds(ret, "</h1>");
	page_word(ret, outcome);
	buf_adds(ret, "</div>\n<dl class=\"facts\">");
	fact(ret, "app", page_field(change, "app"));
	fact(ret, "reason", page_field(change, "reason"));
	fact(ret, "who", page_field(change, "who"));
	fact_open(ret, "when");
	page_time(ret, when);
	buf_adds(ret, " (");
	page_since(ret, when, now_ms);
	buf_adds(ret, " ago)</dd>");
	fact(ret, "why", page_field(change, "why"));
	buf_adds(ret, "</dl></section>\n");
	receipt(ret, change);
	steps_section(ret, json_object_get(change, "steps"));
	page_close(ret);
}
