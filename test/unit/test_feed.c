/* SPDX-License-Identifier: Apache-2.0
 *
 * The feeds are parsed back with libxml2, and questions are put to them as XPath.
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

static struct feed feed_of(const struct state_device *devices, size_t n)
{
	return (struct feed){
	    .name = "guestbook",
	    .authority = "host.example",
	    .base = "http://127.0.0.1:8081",
	    .updated = "2026-11-22T00:00:00.000Z",
	    .head_seq = 12,
	    .head_hash = HASH,
	    .devices = devices,
	    .device_count = n,
	};
}

static void render(const struct feed *f, bool as_rss, struct buf *ret)
{
	struct err e = {0};

	ret->len = 0;
	if ((as_rss ? feed_rss : feed_atom)(f, ret, &e) < 0)
		fail_msg("%s", e.msg);
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
	struct feed f = feed_of(&d, 1);
	CLEANUP_BUF struct buf b = {0};

	render(&f, false, &b);
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
	struct feed f = feed_of(&d, 1);
	CLEANUP_BUF struct buf b = {0};

	render(&f, true, &b);
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

static void a_change_tells_its_receipt(void **unused UNUSED)
{
	json_t *change =
	    json_pack("{s:i, s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:i, s:i, s:i, s:f, s:f}",
		      "change", 42, "app", "guestbook", "kind", "deploy", "from", "guestbook@11",
		      "to", "guestbook@12", "outcome", "undone", "reason", "not ready in 30 s",
		      "who", "ann", "requests", 1000, "answered", 999, "failed", 1, "held", 3,
		      "retried", 2, "p99_ms", 12.5, "longest_ms", 80.0);
	struct feed_change c = {.ended = "2026-11-22T03:12:15.123Z", .change = change};
	struct feed_change going_on = {.change = change};
	struct feed f = feed_of(NULL, 0);
	CLEANUP_BUF struct buf b = {0};

	f.changes = &c;
	f.change_count = 1;
	render(&f, false, &b);
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
	f.changes = &going_on;
	render(&f, false, &b);
	expect(&b, "count(//a:entry)", "0");
	json_decref(change);
}

static void a_feed_without_articles_has_the_date_it_is_given(void **unused UNUSED)
{
	struct feed f = feed_of(NULL, 0);
	CLEANUP_BUF struct buf b = {0};

	render(&f, false, &b);
	expect(&b, "/a:feed/a:updated", "2026-11-22T00:00:00.000Z");
	render(&f, true, &b);
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
	struct feed f = feed_of(d, 3), g = feed_of(back, 3);
	char etag[FEED_ETAG], same[FEED_ETAG], other[FEED_ETAG];
	CLEANUP_BUF struct buf b = {0};

	render(&f, false, &b);
	expect(&b, "//a:entry[1]/a:title", "BAD c since 03:12 UTC");
	expect(&b, "//a:entry[2]/a:title", "GOOD b since 03:12 UTC");
	expect(&b, "//a:entry[3]/a:title", "GOOD a since 03:12 UTC");
	feed_etag(b.data, b.len, etag);
	render(&g, false, &b);
	feed_etag(b.data, b.len, same);
	assert_string_equal(etag, same);
	back[0].seq = 4;
	render(&g, false, &b);
	feed_etag(b.data, b.len, other);
	assert_string_not_equal(etag, other);
	feed_etag("abc", 3, etag);
	assert_string_equal(etag,
			    "\"ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad\"");
}

static void hostile_text_neither_breaks_the_form_nor_gets_lost(void **unused UNUSED)
{
	struct state_device d =
	    device("x/\"<&>' \x01\xff\xc3\xa4%2f", "bad",
		   "</title>]]>&\x1b[31m\xed\xa0\x80\xef\xbf\xbf ok", "2026-11-22T03:12:15.123000Z",
		   1, "{\"a\":\"]]>]]>&<b>\\u0000\\u0007\"}");
	struct feed f = feed_of(&d, 1);
	CLEANUP_BUF struct buf b = {0};

	for (int as_rss = 0; as_rss < 2; as_rss++) {
		render(&f, as_rss, &b);
		expect_part(&b, "string(//a:entry/a:title | //item/title)",
			    "BAD x/\"<&>' \xef\xbf\xbd\xc3\xa4%2f: </title>]]>&[31m");
		expect_part(&b, "string(//a:entry/a:link/@href | //item/link)",
			    "/devices/x/%22%3C%26%3E%27%20%01%FF%C3%A4%252f");
		expect_part(&b, "string(//a:entry/a:content | //item/description)",
			    "]]>]]>&amp;&lt;b>\\u0000\\u0007");
		assert_null(strchr(buf_str(&b), '\x1b'));
	}
	/* not even JSON */
	d.body = (char *)(uintptr_t) "{]]>\xfe";
	render(&f, false, &b);
	expect_part(&b, "//a:entry/a:content", "{]]>\xef\xbf\xbd\n</pre>");
}

static void beyond_its_bounds_it_says_what_was_left_out(void **unused UNUSED)
{
	struct state_device *d = util_alloc(1200 * sizeof(*d));
	struct feed_change c[60];
	struct feed f = feed_of(d, 1200);
	CLEANUP_BUF struct buf b = {0};
	char id[32];

	for (uint64_t i = 0; i < 1200; i++) {
		snprintf(id, sizeof(id), "d/%u", (unsigned)i);
		d[i] = device(id, "good", "", "2026-11-22T03:12:15.123000Z", i, good_body);
	}
	for (int i = 0; i < 60; i++)
		c[i] = (struct feed_change){"2026-11-22T03:12:15.123Z",
					    json_pack("{s:i}", "change", i)};
	f.changes = c;
	f.change_count = 60;
	f.devices_more = 5;
	render(&f, false, &b);
	expect(&b, "count(//a:entry)", "1050");
	expect(&b, "count(//a:entry[a:link/@href = 'http://127.0.0.1:8081/devices/d/199'])", "0");
	expect(&b, "count(//a:entry[a:link/@href = 'http://127.0.0.1:8081/devices/d/200'])", "1");
	expect(&b, "count(//a:entry[a:link/@href = 'http://127.0.0.1:8081/changes/9'])", "0");
	expect_part(&b, "//a:subtitle", "Left out: 205 devices that changed before these.");
	expect_part(&b, "//a:subtitle", "Left out: 10 older deploys and rollbacks.");
	for (int i = 0; i < 60; i++)
		json_decref(c[i].change);
	free(d);
}

static void a_huge_dump_is_cut(void **unused UNUSED)
{
	char *huge = util_alloc(FEED_DUMP_MAX * 2 + 1);
	struct state_device d = device("a", "good", "", "2026-11-22T03:12:15.123000Z", 1, huge);
	struct feed f = feed_of(&d, 1);
	CLEANUP_BUF struct buf b = {0};

	memset(huge, 'x', FEED_DUMP_MAX * 2);
	render(&f, false, &b);
	expect_part(&b, "//a:entry/a:content", "x\n(the first 16384 of 32768 bytes)\n");
	free(huge);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_atom_article_tells_a_device),
	    cmocka_unit_test(an_rss_item_tells_the_same_under_the_same_id),
	    cmocka_unit_test(a_change_tells_its_receipt),
	    cmocka_unit_test(a_feed_without_articles_has_the_date_it_is_given),
	    cmocka_unit_test(the_same_input_in_any_order_gives_the_same_bytes_newest_first),
	    cmocka_unit_test(hostile_text_neither_breaks_the_form_nor_gets_lost),
	    cmocka_unit_test(beyond_its_bounds_it_says_what_was_left_out),
	    cmocka_unit_test(a_huge_dump_is_cut),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);

	xmlCleanupParser();
	return r;
}
