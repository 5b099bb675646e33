/* SPDX-License-Identifier: Apache-2.0
 *
 * The pages: what they say, and that nothing that comes from outside becomes part of their form.
 * They are read back with libxml2's HTML parser, and questions are put to them as XPath.
 */
#include "unit.h"

#include <libxml/HTMLparser.h>
#include <libxml/xpath.h>

#include "base/clock.h"
#include "tell/page.h"

#define EVIL "</td><script>alert(1)</script>\" onload='x' \x01\xff&"

static uint64_t now(void)
{
	uint64_t ms;

	assert_true(clock_parse("2026-11-22T05:20:00Z", &ms));
	return ms;
}

static json_t *load(const char *text)
{
	json_error_t problem;
	json_t *j = json_loads(text, 0, &problem);

	if (!j)
		fail_msg("%s", problem.text);
	return j;
}

static char *ask(struct buf *html, const char *question)
{
	htmlDocPtr doc =
	    htmlReadMemory(html->data, (int)html->len, NULL, "UTF-8",
			   HTML_PARSE_NOERROR | HTML_PARSE_NOWARNING | HTML_PARSE_NONET);
	xmlXPathContextPtr x;
	xmlXPathObjectPtr o;
	char *s;

	assert_false(html->failed);
	assert_non_null(doc);
	x = xmlXPathNewContext(doc);
	o = xmlXPathEvalExpression(BAD_CAST question, x);
	assert_non_null(o);
	s = (char *)xmlXPathCastToString(o);
	xmlXPathFreeObject(o);
	xmlXPathFreeContext(x);
	xmlFreeDoc(doc);
	return s;
}

static void expect(struct buf *html, const char *question, const char *answer)
{
	char *s = ask(html, question);

	if (strcmp(s, answer) != 0)
		fail_msg("%s is '%s', not '%s'", question, s, answer);
	xmlFree(s);
}

static const char status_text[] =
    "{'parts': [{'name': 'router', 'status': 'good', 'reason': 'beats', 'pid': 7, 'starts': 2,"
    "            'since': '2026-11-22T03:20:00Z'}],"
    " 'apps': [{'name': 'shop', 'status': 'good', 'reason': 'fine', 'current': 'shop@7',"
    "           'phase': 'idle', 'requests': 1923844, 'p50_ms': 1.75, 'p99_ms': 2410},"
    "          {'name': 'book', 'status': 'ugly', 'reason': 'none ready', 'held': true,"
    "           'current': null, 'phase': 'switch', 'change': 43, 'instances': ["
    "           {'name': 'book@1/1', 'device': 'book/1', 'status': 'ugly', 'reason': 'exited',"
    "            'release': 'book@1', 'use': 'probe', 'state': 'waiting', 'inside': 0,"
    "            'since': '2026-11-22T05:17:00Z'}]},"
    "          {'name': 'old', 'status': 'unknown', 'targets': [{'name': '127.0.0.1:9001',"
    "            'device': 'old/127.0.0.1:9001', 'status': 'unknown'}]}]}";

static const char change_text[] =
    "{'change': 42, 'app': 'shop', 'kind': 'deploy', 'from': 'shop@6', 'to': 'shop@7',"
    " 'outcome': 'undone', 'reason': 'not ready', 'who': 'ann', 'when': '2026-11-22T05:00:00Z',"
    " 'why': 'fonts', 'steps': [{'name': 'start shop@7/1', 'at': '2026-11-22T05:00:00.120Z', 'ms': "
    "12}],"
    " 'requests': 5012, 'answered': 5010, 'failed': 2, 'p50_ms': 4.2, 'longest_ms': 410}";

static json_t *load_quoted(const char *text)
{
	char *copy = util_strdup(text);
	json_t *j;

	for (char *p = copy; *p; p++)
		if (*p == '\'')
			*p = '"';
	j = load(copy);
	free(copy);
	return j;
}

static void the_status_page_tells_the_worst_first(void **unused UNUSED)
{
	json_t *status = load_quoted(status_text), *change = load_quoted(change_text);
	json_t *changes = json_pack("[o]", change);
	CLEANUP_BUF struct buf b = {0};

	page_status(status, changes, now(), &b);
	expect(&b, "//title", "ugly - Upstate");
	expect(&b, "//header/span[1]", "ugly");
	expect(&b, "//section[1]//h2", "book");
	expect(&b, "//section[1]//h2/a/@href", "/devices/book");
	expect(&b, "//section[2]//h2", "old");
	expect(&b, "//section[3]//h2", "shop");
	expect(&b, "//section[4]//h2", "Last changes");
	expect(&b, "//section[5]//h2", "Upstate itself");
	expect(&b, "count(//script)", "0");
	json_decref(changes);
	json_decref(status);
}

static void an_app_shows_its_state_figures_and_instances(void **unused UNUSED)
{
	json_t *status = load_quoted(status_text);
	CLEANUP_BUF struct buf b = {0};

	page_status(status, NULL, now(), &b);
	expect(&b, "string(//section[1]/p)",
	       "no release \xc2\xb7 phase switch \xc2\xb7 change 43 \xc2\xb7 "
	       "its requests are held");
	expect(&b, "//section[1]//tr[2]/td[1]/a/@href", "/devices/book/1");
	expect(&b, "//section[1]//tr[2]/td[2]/span/@class", "w ugly");
	expect(&b, "//section[1]//tr[2]/td[2]", "ugly");
	expect(&b, "//section[1]//tr[2]/td[4]", "3 min");
	expect(&b, "//section[1]//tr[2]/td[4]/time/@title", "2026-11-22 05:17:00");
	expect(&b, "//section[3]//dd[1]",
	       "1\xe2\x80\xaf"
	       "923\xe2\x80\xaf"
	       "844");
	expect(&b, "//section[3]//div[5]/dd", "2.4 s");
	expect(&b, "//section[3]//div[2]/dd", "\xe2\x80\x93");
	expect(&b, "//section[2]//a[contains(@href, '9001')]/@href",
	       "/devices/old/127.0.0.1%3A9001");
	expect(&b, "//section[4]//tr[2]/td[1]/a/@href", "/devices/upstate/router");
	json_decref(status);
}

static void a_change_shows_its_receipt_and_steps(void **unused UNUSED)
{
	json_t *change = load_quoted(change_text);
	CLEANUP_BUF struct buf b = {0};

	page_change(change, now(), &b);
	expect(&b, "//h1", "Change 42: deploy shop@6 \xe2\x86\x92 shop@7");
	expect(&b, "//h1/following-sibling::span/@class", "w bad");
	expect(&b, "//dt[.='failed']/following-sibling::dd", "2");
	expect(&b, "//dt[.='held']/following-sibling::dd", "\xe2\x80\x93");
	expect(&b, "//dt[.='longest']/following-sibling::dd", "410 ms");
	expect(&b, "//dt[.='when']/following-sibling::dd", "2026-11-22 05:00:00 (20 min ago)");
	expect(&b, "//tr[2]/td[1]", "2026-11-22 05:00:00.120");
	expect(&b, "//tr[2]/td[3]", "start shop@7/1");
	json_decref(change);
}

static void a_device_shows_what_it_was_and_is(void **unused UNUSED)
{
	struct state_device d = {.id = "book/1",
				 .app = "book",
				 .status = "ugly",
				 .reason = "exited",
				 .since = "2026-11-22T05:17:00.123001Z",
				 .seq = 9,
				 .body = (char *)(uintptr_t) "{\"then\":1}"};
	const struct state_status past[] = {
		{9, "ugly", "exited", "2026-11-22T05:17:00.123001Z"},
		{4, "good", "ready <now>", "2026-11-22T04:17:00.120000Z"},
	};
	json_t *is = load("{\"now\":2}");
	CLEANUP_BUF struct buf b = {0};

	page_device(&d, past, 2, is, now(), &b);
	expect(&b, "//h1", "book/1");
	expect(&b, "//dt[.='since']/following-sibling::dd", "2026-11-22 05:17:00 (2 min ago)");
	expect(&b, "//section[2]/pre", "{\n  \"now\": 2\n}");
	expect(&b, "//tr[@id='4']/td[1]", "2026-11-22 04:17:00.120");
	expect(&b, "//tr[@id='4']/td[3]", "ready <now>");
	expect(&b, "//section[4]/pre", "{\n  \"then\": 1\n}");
	json_decref(is);
	b.len = 0;
	page_device(&d, NULL, 0, NULL, now(), &b);
	expect(&b, "//section[2]/p", "It is not there any more.");
}

/* Puts the string in the place of every string. */
static json_t *poison(const json_t *j, const char *with)
{
	const char *key;
	json_t *v, *copy;
	size_t i;

	if (json_is_string(j))
		return json_stringn_nocheck(with, strlen(with));
	if (json_is_array(j)) {
		copy = json_array();
		json_array_foreach(j, i, v) json_array_append_new(copy, poison(v, with));
		return copy;
	}
	if (json_is_object(j)) {
		copy = json_object();
		json_object_foreach((json_t *)(uintptr_t)j, key, v)
		    json_object_set_new(copy, key, poison(v, with));
		return copy;
	}
	return json_deep_copy(j);
}

static void check_harmless(struct buf *b)
{
	expect(b, "count(//script)", "0");
	expect(b, "count(//@onload)", "0");
	assert_null(memchr(b->data, '\x01', b->len));
	assert_null(memchr(b->data, '\xff', b->len));
	assert_null(strstr(buf_str(b), "onload='x'"));
	expect(b, "count(//*[contains(text(), '<script>')]) > 0", "true");
	b->len = 0;
}

static void hostile_text_in_every_place_stays_text(void **unused UNUSED)
{
	json_t *status = load_quoted(status_text), *change = load_quoted(change_text);
	json_t *evil_status = poison(status, EVIL), *evil_change = poison(change, EVIL);
	json_t *changes = json_pack("[O]", evil_change);
	struct state_device d = {.id = EVIL,
				 .app = EVIL,
				 .reason = EVIL,
				 .since = "<script>",
				 .body = (char *)(uintptr_t) "{\"a\":\"<script>\"}"};
	CLEANUP_BUF struct buf b = {0};

	page_status(evil_status, changes, now(), &b);
	check_harmless(&b);
	page_change(evil_change, now(), &b);
	check_harmless(&b);
	page_device(&d, NULL, 0, evil_change, now(), &b);
	check_harmless(&b);
	page_message(404, EVIL, &b);
	check_harmless(&b);
	json_decref(changes);
	json_decref(evil_change);
	json_decref(evil_status);
	json_decref(change);
	json_decref(status);
}

static void what_is_missing_or_of_another_type_is_left_out(void **unused UNUSED)
{
	static const char *const odd[] = {
	    "{}",
	    "[]",
	    "{\"apps\":7,\"parts\":\"x\"}",
	    "{\"apps\":[1,null,[],{}],\"parts\":[{},3]}",
	    "{\"apps\":[{\"name\":1,\"instances\":[{}],\"targets\":[[]]}]}",
	    "{\"apps\":[{\"requests\":-1,\"p50_ms\":-5,\"p99_ms\":1e300,\"change\":\"x\"}]}",
	};
	CLEANUP_BUF struct buf b = {0};

	for (size_t i = 0; i < ARRAY_LEN(odd); i++) {
		json_t *j = load(odd[i]);

		b.len = 0;
		page_status(j, j, now(), &b);
		expect(&b, "count(//footer)", "1");
		b.len = 0;
		page_change(j, now(), &b);
		expect(&b, "count(//footer)", "1");
		json_decref(j);
	}
}

static void a_table_beyond_its_bound_counts_the_rest(void **unused UNUSED)
{
	json_t *changes = json_array();
	CLEANUP_BUF struct buf b = {0};

	for (int i = 0; i < PAGE_ROWS_MAX + 3; i++)
		json_array_append_new(changes, json_pack("{s:i}", "change", i));
	page_status(NULL, changes, now(), &b);
	expect(&b, "count(//tr) - 1", "2000");
	expect(&b, "//section[2]/p", "and 3 more");
	json_decref(changes);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_status_page_tells_the_worst_first),
	    cmocka_unit_test(an_app_shows_its_state_figures_and_instances),
	    cmocka_unit_test(a_change_shows_its_receipt_and_steps),
	    cmocka_unit_test(a_device_shows_what_it_was_and_is),
	    cmocka_unit_test(hostile_text_in_every_place_stays_text),
	    cmocka_unit_test(what_is_missing_or_of_another_type_is_left_out),
	    cmocka_unit_test(a_table_beyond_its_bound_counts_the_rest),
	};
	int r = cmocka_run_group_tests(tests, NULL, NULL);

	xmlCleanupParser();
	return r;
}
