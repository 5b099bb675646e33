/* SPDX-License-Identifier: Apache-2.0
 *
 * The feeds are parsed back with libxml2 and jansson, and questions are put to them as XPath.
 */
#include "unit.h"

#include <libxml/xpath.h>
#include <libxml/xpathInternals.h>

#include "tell/feed.h"

#define HASH "c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00c0ffee00"

static struct state_device device(const char *id, const char *status, const char *reason,
				  const char *since, uint64_t seq, const char *body)
{
	struct state_device d = {.seq = seq};

	util_copy(d.id, sizeof(d.id), id);
	util_copy(d.app, sizeof(d.app), "guestbook");
	util_copy(d.status, sizeof(d.status), status);
	util_copy(d.reason, sizeof(d.reason), reason);
	util_copy(d.since, sizeof(d.since), since);
	d.body = (char *)(uintptr_t)body; /* only read */
	return d;
}

static struct feed feed_of(enum feed_form form)
{
	return (struct feed){
	    .form = form,
	    .name = "guestbook",
	    .authority = "host.example",
	    .base = "http://127.0.0.1:8081",
	    .born = "2026-11-22T00:00:00.000Z",
	    .head_seq = 12,
	    .head_hash = HASH,
	};
}

static struct feed_article articles[20000];
static size_t article_count;
static char etag[FEED_ETAG]; /* of the feed that was written last */

static void write_device(const struct feed *f, const struct state_device *d, const struct state_status *past,
			 size_t n)
{
	struct err e = {0};

	if (feed_device(f, d, past, n, &articles[article_count++], &e) < 0)
		fail_msg("%s", e.msg);
}

/* The feed of what was written, which is then forgotten. */
static void render_written(const struct feed *f, struct buf *ret)
{
	static const struct feed_article *order[ARRAY_LEN(articles)];
	struct err e = {0};

	for (size_t i = 0; i < article_count; i++)
		order[i] = &articles[i];
	ret->len = 0;
	if (feed_write(f, order, article_count, ret, etag, &e) < 0)
		fail_msg("%s", e.msg);
	while (article_count)
		feed_article_free(&articles[--article_count]);
}

static void render(const struct feed *f, const struct state_device *d, size_t n, struct buf *ret)
{
	for (size_t i = 0; i < n; i++)
		write_device(f, &d[i], NULL, 0);
	render_written(f, ret);
}

/* The answer to an XPath question as a string; owned by the caller. */
static char *ask(const struct buf *xml, const char *question)
{
	xmlDocPtr doc = xmlReadMemory(xml->data, (int)xml->len, NULL, NULL, XML_PARSE_NONET);
	xmlXPathContextPtr x;
	xmlXPathObjectPtr o;
	char *s;

	assert_non_null(doc);
	x = xmlXPathNewContext(doc);
	xmlXPathRegisterNs(x, BAD_CAST "a", BAD_CAST "http://www.w3.org/2005/Atom");
	xmlXPathRegisterNs(x, BAD_CAST "u", BAD_CAST "urn:upstate:1");
	o = xmlXPathEvalExpression(BAD_CAST question, x);
	assert_non_null(o);
	s = (char *)xmlXPathCastToString(o);
	xmlXPathFreeObject(o);
	xmlXPathFreeContext(x);
	xmlFreeDoc(doc);
	return s;
}

static void expect(const struct buf *xml, const char *question, const char *answer)
{
	char *s = ask(xml, question);

	if (strcmp(s, answer) != 0)
		fail_msg("%s is '%s', not '%s'", question, s, answer);
	xmlFree(s);
}

static void expect_part(const struct buf *xml, const char *question, const char *part)
{
	char *s = ask(xml, question);

	if (!strstr(s, part))
		fail_msg("%s is '%s', without '%s'", question, s, part);
	xmlFree(s);
}

static const char good_body[] = "{\"pid\":7,\"inside\":0}";

static void an_atom_article_tells_a_device(void **unused UNUSED)
{
	struct state_device d =
	    device("guestbook/1", "good", "ready", "2026-11-22T03:12:15.123000Z", 7, good_body);
	struct feed f = feed_of(FEED_ATOM);
	CLEANUP_BUF struct buf b = {0};

	render(&f, &d, 1, &b);
	expect(&b, "count(/a:feed/a:entry)", "1");
	expect(&b, "/a:feed/a:id", "tag:host.example,2026:feed/guestbook");
	expect(&b, "/a:feed/a:title", "guestbook on host.example");
	expect(&b, "/a:feed/a:updated", "2026-11-22T03:12:15.123000Z");
	expect(&b, "/a:feed/a:link[@rel='self']/@href",
	       "http://127.0.0.1:8081/feeds/guestbook.atom");
	expect(&b, "/a:feed/u:history/@seq", "12");
	expect(&b, "/a:feed/u:history/@hash", HASH);
	expect(&b, "//a:entry/a:id", "tag:host.example,2026:device/guestbook/1");
	expect(&b, "//a:entry/a:title", "GOOD guestbook/1: ready, since 03:12 UTC");
	expect(&b, "//a:entry/a:updated", "2026-11-22T03:12:15.123000Z");
	expect(&b, "//a:entry/a:link/@href", "http://127.0.0.1:8081/devices/guestbook/1");
	expect(&b, "//a:entry/a:category/@term", "good");
	expect(&b, "//a:entry/a:content/@type", "html");
	expect(&b, "//a:entry/a:content",
	       "<pre>device: guestbook/1\nstatus: good\nreason: ready\n"
	       "since:  2026-11-22T03:12:15.123000Z\nchange: 7\n\n"
	       "{\n  \"inside\": 0,\n  \"pid\": 7\n}\n</pre>");
	assert_non_null(strstr(buf_str(&b), "<![CDATA[<pre>"));
}

static void an_rss_item_tells_the_same_under_the_same_id(void **unused UNUSED)
{
	struct state_device d = device("guestbook/1", "ugly", "exited with 1",
				       "2026-02-01T03:02:05.123456Z", 7, good_body);
	struct feed f = feed_of(FEED_RSS);
	CLEANUP_BUF struct buf b = {0};

	render(&f, &d, 1, &b);
	expect(&b, "/rss/@version", "2.0");
	expect(&b, "count(/rss/channel/item)", "1");
	expect(&b, "//channel/lastBuildDate", "Sun, 01 Feb 2026 03:02:05 GMT");
	expect(&b, "//channel/a:link/@href", "http://127.0.0.1:8081/feeds/guestbook.rss");
	expect(&b, "//channel/u:history/@seq", "12");
	expect(&b, "//item/title", "UGLY guestbook/1: exited with 1, since 03:02 UTC");
	expect(&b, "//item/guid", "tag:host.example,2026:device/guestbook/1");
	expect(&b, "//item/guid/@isPermaLink", "false");
	expect(&b, "//item/pubDate", "Sun, 01 Feb 2026 03:02:05 GMT");
	expect(&b, "//item/link", "http://127.0.0.1:8081/devices/guestbook/1");
	expect_part(&b, "//item/description", "\"pid\": 7");
}

static json_t *parse(struct buf *b)
{
	json_error_t problem;
	json_t *o = json_loadb(b->data, b->len, 0, &problem);

	if (!o)
		fail_msg("line %d: %s", problem.line, problem.text);
	return o;
}

static const char *text_of(const json_t *o, const char *key)
{
	return json_string_value(json_object_get(o, key));
}

static void a_json_feed_tells_the_same_again(void **unused UNUSED)
{
	struct state_device d[] = {
	    device("a", "good", "fine", "2026-02-01T03:02:05.123456Z", 6, good_body),
	    device("guestbook/1", "ugly", "exited with \"1\"", "2026-02-01T03:02:05.123457Z", 7, good_body),
	};
	struct feed f = feed_of(FEED_JSON);
	CLEANUP_BUF struct buf b = {0};
	json_t *o, *item;

	render(&f, d, 2, &b);
	o = parse(&b);
	assert_string_equal(text_of(o, "version"), "https://jsonfeed.org/version/1.1");
	assert_string_equal(text_of(o, "title"), "guestbook on host.example");
	assert_string_equal(text_of(o, "feed_url"), "http://127.0.0.1:8081/feeds/guestbook.json");
	assert_string_equal(text_of(o, "home_page_url"), "http://127.0.0.1:8081");
	assert_int_equal(json_array_size(json_object_get(o, "items")), 2);
	item = json_array_get(json_object_get(o, "items"), 0);
	assert_string_equal(text_of(item, "id"), "tag:host.example,2026:device/guestbook/1");
	assert_string_equal(text_of(item, "url"), "http://127.0.0.1:8081/devices/guestbook/1");
	assert_string_equal(text_of(item, "title"), "UGLY guestbook/1: exited with \"1\", since 03:02 UTC");
	assert_string_equal(text_of(item, "date_modified"), "2026-02-01T03:02:05.123457Z");
	assert_non_null(strstr(text_of(item, "content_html"), "\"pid\": 7"));
	json_decref(o);
	render(&f, d, 0, &b);
	o = parse(&b);
	assert_int_equal(json_array_size(json_object_get(o, "items")), 0);
	json_decref(o);
}

static void by_change_each_one_is_an_article_of_its_own(void **unused UNUSED)
{
	struct state_device d =
	    device("guestbook/1", "good", "ready", "2026-11-22T03:12:15.123000Z", 7, good_body);
	struct feed f = feed_of(FEED_ATOM);
	CLEANUP_BUF struct buf b = {0};

	f.profile = FEED_BY_CHANGE;
	render(&f, &d, 1, &b);
	expect(&b, "/a:feed/a:id", "tag:host.example,2026:changes/guestbook");
	expect(&b, "/a:feed/a:link[@rel='self']/@href",
	       "http://127.0.0.1:8081/feeds/guestbook.atom?profile=change");
	expect(&b, "//a:entry/a:id", "tag:host.example,2026:device/guestbook/1#7");
	expect(&b, "//a:entry/a:link/@href", "http://127.0.0.1:8081/devices/guestbook/1#7");
}

/* What the title says behind the time, given the statuses before as "status:seconds that it lasted", newest
 * first. */
static void expect_excursion(const char *present, const char *before, const char *expected)
{
	struct state_device d = device("w", present, "", "2026-11-22T03:00:00.000000Z", 99, "{}");
	struct state_status past[10] = {{.seq = 99}};
	struct feed f = feed_of(FEED_ATOM);
	CLEANUP_BUF struct buf b = {0};
	unsigned at = 3 * 3600, lasted, n = 1;
	char word[16], title[128], part[128];
	int used;

	util_copy(past[0].status, sizeof(past[0].status), present);
	util_copy(past[0].since, sizeof(past[0].since), d.since);
	for (; sscanf(before, " %15[a-z]:%u%n", word, &lasted, &used) == 2; before += used, n++) {
		at -= lasted;
		util_copy(past[n].status, sizeof(past[n].status), word);
		snprintf(past[n].since, sizeof(past[n].since), "2026-11-22T%02u:%02u:%02u.000000Z", at / 3600,
			 at / 60 % 60, at % 60);
		util_copy(past[n].reason, sizeof(past[n].reason), "reason <x>");
	}
	write_device(&f, &d, past, n);
	render_written(&f, &b);
	snprintf(title, sizeof(title), " w since 03:00 UTC%s", expected);
	snprintf(part, sizeof(part), "substring(//a:entry/a:title, %zu)", strlen(present) + 1);
	expect(&b, part, title);
	if (n > 1)
		expect_part(&b, "//a:entry/a:content", "\nbefore:\n2026-11-22T0");
}

static void what_went_bad_and_good_again_stands_in_the_title(void **unused UNUSED)
{
	expect_excursion("good", "", "");
	expect_excursion("good", "good:60", "");
	expect_excursion("good", "bad:240 good:60", ", was BAD for 4 min");
	expect_excursion("good", "bad:10 ugly:20 bad:30 good:5 ugly:500", ", was UGLY for 60.0 s");
	expect_excursion("good", "good:7 ugly:20 good:9 bad:8", ", was UGLY for 20.0 s");
	expect_excursion("bad", "ugly:30 good:5", ", was UGLY for 30.0 s");
	expect_excursion("bad", "good:30", "");
	expect_excursion("ugly", "bad:30 good:5", "");
	expect_excursion("good", "unknown:30 good:5", "");
	expect_excursion("good", "unknown:30 bad:5 good:7", ", was BAD for 35.0 s");
}

static void a_change_tells_its_receipt(void **unused UNUSED)
{
	json_t *change =
	    json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:f, s:f}",
		      "change", 42, "app", "guestbook", "kind", "deploy", "from", "guestbook@11",
		      "to", "guestbook@12", "outcome", "undone", "reason", "not ready in 30 s",
		      "who", "ann", "requests", 1000, "answered", 999, "failed", 1, "held", 3,
		      "retried", 2, "p99_ms", 12.5, "longest_ms", 80.0);
	struct feed f = feed_of(FEED_ATOM);
	CLEANUP_BUF struct buf b = {0};

	assert_int_equal(feed_change(&f, "2026-11-22T03:12:15.123Z", change, &articles[article_count++], NULL), 0);
	render_written(&f, &b);
	expect(&b, "//a:entry/a:id", "tag:host.example,2026:change/42");
	expect(&b, "//a:entry/a:link/@href", "http://127.0.0.1:8081/changes/42");
	expect(&b, "//a:entry/a:updated", "2026-11-22T03:12:15.123Z");
	expect(&b, "//a:entry/a:category/@term", "undone");
	expect(&b, "//a:entry/a:title",
	       "deploy of guestbook, guestbook@11 to guestbook@12: undone (not ready in 30 s); "
	       "1 of 1000 requests failed");
	expect_part(&b, "//a:entry/a:content", "who      ann\n");
	expect_part(&b, "//a:entry/a:content",
		    "receipt: 1000 requests, 999 answered, 1 failed, 3 held, 2 retried, 0 slowed; "
		    "p99 12.5 ms; longest 80.0 ms\n");
	json_decref(change);
}

static void a_feed_without_articles_has_the_date_it_is_given(void **unused UNUSED)
{
	struct feed f = feed_of(FEED_ATOM);
	CLEANUP_BUF struct buf b = {0};

	render(&f, NULL, 0, &b);
	expect(&b, "/a:feed/a:updated", "2026-11-22T00:00:00.000Z");
	f.form = FEED_RSS;
	render(&f, NULL, 0, &b);
	expect(&b, "//lastBuildDate", "Sun, 22 Nov 2026 00:00:00 GMT");
}

static void the_same_input_in_any_order_gives_the_same_bytes_newest_first(void **unused UNUSED)
{
	struct state_device d[] = {
	    device("a", "good", "", "2026-11-22T03:12:15.123000Z", 1, good_body),
	    device("b", "good", "", "2026-11-22T03:12:15.123001Z", 2, good_body),
	    device("c", "bad", "", "2026-11-22T03:12:15.124000Z", 3, good_body),
	};
	struct state_device back[] = {d[2], d[0], d[1]};
	struct feed f = feed_of(FEED_ATOM);
	char first[FEED_ETAG];
	CLEANUP_BUF struct buf b = {0};

	render(&f, d, 3, &b);
	expect(&b, "//a:entry[1]/a:title", "BAD c since 03:12 UTC");
	expect(&b, "//a:entry[2]/a:title", "GOOD b since 03:12 UTC");
	expect(&b, "//a:entry[3]/a:title", "GOOD a since 03:12 UTC");
	memcpy(first, etag, sizeof(first));
	assert_int_equal(strlen(first), 66);
	render(&f, back, 3, &b);
	assert_string_equal(first, etag);
	back[0].seq = 4;
	render(&f, back, 3, &b);
	assert_string_not_equal(first, etag);
	f.head_seq++;
	render(&f, d, 3, &b);
	assert_string_not_equal(first, etag);
}

static void hostile_text_neither_breaks_the_form_nor_gets_lost(void **unused UNUSED)
{
	struct state_device d =
	    device("x/\"<&>' \x01\xff\xc3\xa4\xe2\x80\xae%2f", "bad",
		   "</title>]]>&\x1b[31m\xed\xa0\x80\xef\xbf\xbf ok", "2026-11-22T03:12:15.123000Z",
		   1, "{\"a\":\"]]>]]>&<b>\\u0000\\u0007\"}");
	struct feed f = feed_of(FEED_ATOM);
	CLEANUP_BUF struct buf b = {0};

	for (f.form = 0; f.form < FEED_JSON; f.form++) {
		render(&f, &d, 1, &b);
		expect_part(&b, "string(//a:entry/a:title | //item/title)",
			    "BAD x/\"<&>' \xef\xbf\xbd\xc3\xa4%2f: </title>]]>&[31m");
		expect_part(&b, "string(//a:entry/a:link/@href | //item/link)",
			    "/devices/x/%22%3C%26%3E%27%20%01%FF%C3%A4%E2%80%AE%252f");
		expect_part(&b, "string(//a:entry/a:content | //item/description)",
			    "]]>]]>&amp;&lt;b>\\u0000\\u0007");
		assert_null(strchr(buf_str(&b), '\x1b'));
	}
	f.form = FEED_JSON;
	render(&f, &d, 1, &b);
	json_decref(parse(&b));
	/* not even JSON */
	d.body = (char *)(uintptr_t) "{]]>\xfe";
	f.form = FEED_ATOM;
	render(&f, &d, 1, &b);
	expect_part(&b, "//a:entry/a:content", "{]]>\xef\xbf\xbd\n</pre>");
}

static void it_says_what_was_left_out(void **unused UNUSED)
{
	struct feed f = feed_of(FEED_ATOM);
	CLEANUP_BUF struct buf b = {0};

	f.devices_left = 205;
	f.changes_left = true;
	render(&f, NULL, 0, &b);
	expect_part(&b, "//a:subtitle", "Left out: 205 devices that changed before these.");
	expect_part(&b, "//a:subtitle", "Left out: older deploys and rollbacks.");
}

static void a_huge_dump_is_cut(void **unused UNUSED)
{
	char *huge = util_alloc(FEED_DUMP_MAX * 2 + 1);
	struct state_device d = device("a", "good", "", "2026-11-22T03:12:15.123000Z", 1, huge);
	struct feed f = feed_of(FEED_ATOM);
	CLEANUP_BUF struct buf b = {0};

	memset(huge, 'x', FEED_DUMP_MAX * 2);
	render(&f, &d, 1, &b);
	expect_part(&b, "//a:entry/a:content", "x\n(the first 16384 of 32768 bytes)\n");
	free(huge);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_atom_article_tells_a_device),
	    cmocka_unit_test(an_rss_item_tells_the_same_under_the_same_id),
	    cmocka_unit_test(a_json_feed_tells_the_same_again),
	    cmocka_unit_test(by_change_each_one_is_an_article_of_its_own),
	    cmocka_unit_test(what_went_bad_and_good_again_stands_in_the_title),
	    cmocka_unit_test(a_change_tells_its_receipt),
	    cmocka_unit_test(a_feed_without_articles_has_the_date_it_is_given),
	    cmocka_unit_test(the_same_input_in_any_order_gives_the_same_bytes_newest_first),
	    cmocka_unit_test(hostile_text_neither_breaks_the_form_nor_gets_lost),
	    cmocka_unit_test(it_says_what_was_left_out),
	    cmocka_unit_test(a_huge_dump_is_cut),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);

	xmlCleanupParser();
	return r;
}
