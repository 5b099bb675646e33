/* SPDX-License-Identifier: Apache-2.0
 *
 * Policies as their user writes them.
 */
#include "conf_fixture.h"

#include <fcntl.h>

#define LINE "apps: {a: {run: x $PORT, "
#define SALT "00112233445566778899aabbccddeeff"
#define HASH "0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef"

/* `keys` of an app (they begin in column 26) are refused with this message. */
static void keys_refused(const char *keys, const char *message)
{
	CLEANUP_BUF struct buf text = {0}, want = {0};

	buf_addf(&text, LINE "%s}}\n", keys);
	buf_addf(&want, "f:1:%s\n", message);
	refused(buf_str(&text), buf_str(&want));
}

static void an_app_has_no_policy_unless_it_says_so(void **state UNUSED)
{
	struct conf *c = parse(LINE "}}\n");
	const struct conf_app *a;

	assert_non_null(c);
	a = &c->apps[0];
	assert_false(a->maintenance.on);
	assert_null(a->maintenance.path);
	for (int i = 0; i < CONF_PAGE_COUNT; i++)
		assert_null(a->pages[i].path);
	assert_int_equal(a->allow.len + a->deny.len + a->users.len + a->redirect_count, 0);
	assert_int_equal(a->rate_requests, 0);
	assert_int_equal(a->rate_ms, 1000);
	assert_string_equal(a->rate_by, "address");
	assert_string_equal(a->sticky, "0");
	assert_string_equal(a->balance, "least");
	assert_false(a->auth_pass);
	conf_free(c);
}

static void everything_can_be_said_of_a_policy(void **state UNUSED)
{
	struct conf *c = parse("apps:\n"
			       "  a:\n"
			       "    run: x $PORT\n"
			       "    maintenance: soon.html\n"
			       "    allow: [10.0.0.0/8, \"2001:db8::/32\"]\n"
			       "    deny: 10.1.0.0/16\n"
			       "    rate: { requests: 100, per: 1m, burst: 200, by: header X-Api-Key }\n"
			       "    auth: { users: [\"ann:sha256:" SALT ":" HASH "\"], realm: Office, pass: yes }\n"
			       "    redirects:\n"
			       "      - { from: /old, to: /new }\n"
			       "      - { from: /b/*, to: \"https://b.example/*\", status: 308 }\n"
			       "    headers:\n"
			       "      request: { set: { X-A: b c, X-E: \"\" }, remove: [X-B] }\n"
			       "      response: { set: { X-C: \"1\" }, remove: X-D }\n"
			       "    errors: { 403: a.html, 429: b.html, 502: c.html, 503: d.html, 504: e.html }\n"
			       "    sticky: session\n");
	const struct conf_app *a;

	assert_string_equal(buf_str(&said), "");
	assert_non_null(c);
	a = &c->apps[0];
	assert_true(a->maintenance.on);
	assert_string_equal(a->maintenance.path, "soon.html");
	assert_int_equal(a->maintenance.line, 4);
	assert_int_equal(a->allow.len, 2);
	assert_int_equal(a->deny.len, 1);
	assert_int_equal(a->rate_requests, 100);
	assert_int_equal(a->rate_ms, 60000);
	assert_int_equal(a->rate_burst, 200);
	assert_string_equal(a->rate_by, "header x-api-key");
	assert_int_equal(a->users.len, 1);
	assert_string_equal(a->realm, "Office");
	assert_true(a->auth_pass);
	assert_int_equal(a->redirect_count, 2);
	assert_int_equal(a->redirects[0].status, 307);
	assert_string_equal(a->redirects[1].to, "https://b.example/*");
	assert_int_equal(a->redirects[1].status, 308);
	assert_int_equal(a->request_set.len, 2);
	assert_memory_equal(a->request_set.items[0], "X-A\0b c", 8);
	assert_memory_equal(a->request_set.items[1], "X-E\0", 5);
	assert_string_equal(a->request_remove.items[0], "X-B");
	assert_string_equal(a->answer_remove.items[0], "X-D");
	assert_string_equal(a->pages[CONF_PAGE_504].path, "e.html");
	assert_string_equal(a->sticky, "session");
	conf_free(c);
}

static void switches_are_words(void **state UNUSED)
{
	static const struct {
		const char *word, *sticky;
		bool on;
	} rows[] = {{"true", "1", true}, {"on", "1", true},  {"yes", "1", true},
		    {"off", "0", false}, {"no", "0", false}, {"false", "0", false}};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		CLEANUP_BUF struct buf text = {0};
		struct conf *c;

		buf_addf(&text, LINE "maintenance: %s, sticky: %s}}\n", rows[i].word, rows[i].word);
		c = parse(buf_str(&text));
		assert_non_null(c);
		assert_int_equal(c->apps[0].maintenance.on, rows[i].on);
		assert_null(c->apps[0].maintenance.path);
		assert_string_equal(c->apps[0].sticky, rows[i].sticky);
		conf_free(c);
	}
}

static void bad_fields_are_explained(void **state UNUSED)
{
	keys_refused("headers: {request: {set: {'X A': b}}}",
		"52: error: headers.request.set: 'X A': the name of a field has letters, digits and '-', "
		"and no space or ':'");
	keys_refused("headers: {request: {set: {Host: b}}}",
		"52: error: headers.request.set: 'Host': Upstate says this itself to the app (see "
		"trusted_proxies)");
	keys_refused("headers: {request: {remove: [X_Forwarded_For]}}",
		"55: error: headers.request.remove: 'X_Forwarded_For': Upstate says this itself to the app "
		"(see trusted_proxies)");
	keys_refused("headers: {response: {remove: [content-Length]}}",
		"56: error: headers.response.remove: 'content-Length': this field belongs to the connection "
		"or the framing: Upstate sets it itself");
	keys_refused("headers: {response: {set: {X-A: \"b\\nc\"}}}",
		"58: error: headers.response.set: X-A: the value of a field is one line");
	keys_refused("headers: {response: {set: {X-A: ' b'}}}",
		"58: error: headers.response.set: X-A: the value of a field neither begins nor ends with a "
		"space");
	keys_refused("headers: {response: {set: {X-A: [b]}}}",
		"58: error: headers.response.set: X-A: expected text, found a list");
	keys_refused("headers: {response: {set: [X-A]}}",
		"52: error: headers.response.set: expected a map of NAME: VALUE, found a list");
	keys_refused("headers: {set: {A: b}}",
		"36: error: unknown key 'set' in headers; it belongs below 'headers.request'");
	keys_refused("headers: {request: {add: {A: b}}}",
		"46: error: unknown key 'add' in headers.request; known are: set, remove");
}

static void bad_redirects_are_explained(void **state UNUSED)
{
	keys_refused("redirects: [{from: old, to: /new}]",
		"45: error: redirects.from: 'old': a path begins with '/'");
	keys_refused("redirects: [{from: /a*b, to: /new}]",
		"45: error: redirects.from: '/a*b': '*' can only stand at the end");
	keys_refused("redirects: [{from: /a?b, to: /new}]",
		"45: error: redirects.from: '/a?b': a path stands without '?' or '#'");
	keys_refused("redirects: [{from: /a, to: //evil.example/}]",
		"53: error: redirects.to: '//evil.example/': it is a path like /new, or begins with "
		"https:// or http://");
	keys_refused("redirects: [{from: /a/*, to: 'https://h*'}]",
		"55: error: redirects.to: 'https://h*': after :// stands a host, and '*' only behind a '/' "
		"after it");
	keys_refused("redirects: [{from: /a/*, to: 'https://h?*'}]",
		"55: error: redirects.to: 'https://h?*': '*' stands behind the '/' that ends the host");
	keys_refused("redirects: [{from: /a, to: 'https:///x'}]",
		"53: error: redirects.to: 'https:///x': after :// stands a host, and '*' only behind a '/' "
		"after it");
	keys_refused("redirects: [{from: /a, to: '/b c'}]",
		"53: error: redirects.to: '/b c': a path has no spaces, quotes, backslashes or letters "
		"beyond ASCII (write %XX)");
	keys_refused("redirects: [{from: /a/*, to: /a/b/*}]",
		"38: error: redirects: '/a/*' leads back to itself");
	keys_refused("redirects: [{from: /a}]", "38: error: redirects: 'to' is missing");
	keys_refused("redirects: [{from: /a, to: /b, status: 303}]",
		"65: error: redirects.status: expected 301, 302, 307 or 308, found 303");
	keys_refused("redirects: [{from: /a, to: /b, status: 200}]",
		"65: error: redirects.status: 200 is below 301");
	keys_refused("redirects: [{form: /a, to: /b}]",
		"39: error: unknown key 'form' in redirects; did you mean 'from'?");
	keys_refused("redirects: [/a]", "38: error: redirects: expected '{ from: /old, to: /new }', found text");
}

static void bad_policies_are_explained(void **state UNUSED)
{
	keys_refused("allow: [10.0.0.0/33]", "34: error: allow: '10.0.0.0/33': that is more bits than the address "
					"has");
	keys_refused("rate: {per: 1s}", "26: error: app 'a': rate: 'requests' is missing: how many may come in "
				   "1000 ms?");
	keys_refused("rate: {requests: 1, by: cookie}",
		"50: error: rate.by: 'cookie': expected 'address' or 'header NAME'");
	keys_refused("auth: {realm: x}", "26: error: app 'a': auth: 'users' is missing; `upstate password NAME` "
				    "makes one");
	keys_refused("auth: {users: ['ann:secret']}",
		"41: error: auth.users: 'ann:secret': a user is written as `upstate password NAME` prints "
		"it: NAME:sha256:SALT:HASH");
	keys_refused("auth: {users: ['ann:sha256:" SALT ":" HASH "'], realm: 'a\"b'}",
		"161: error: auth.realm: 'a\"b': a realm has letters, digits and spaces, and no quotes");
	keys_refused("balance: most", "35: error: balance: 'most': expected 'least', 'hash address', 'hash path' "
				 "or 'hash header NAME'");
	keys_refused("balance: hash header a b",
		"35: error: balance: 'hash header a b': expected 'least', 'hash address', 'hash path' or "
		"'hash header NAME'");
	keys_refused("sticky: a=b", "34: error: sticky: 'a=b': the name of a cookie has letters, digits, '-' and "
			       "'_'");
	keys_refused("sticky: true, balance: hash path",
		"26: error: app 'a': 'sticky' and 'balance: hash path' both choose the target; leave one out");
	keys_refused("tcp: '127.0.0.1:1', sticky: true",
		"46: error: app 'a' has 'tcp', so 'sticky' means nothing: nobody reads what its users say");
	keys_refused("tcp: '127.0.0.1:1', balance: hash path",
		"8: error: app 'a' has 'tcp': 'rate' and 'balance' can go by address alone");
	keys_refused("errors: {500: x}", "35: error: unknown key '500' in errors; did you mean '502'?");
	keys_refused("errors: {502: [x]}", "40: error: errors.502: expected the path of a file, found a list");
}

static void a_policy_that_changed_is_another_and_one_that_moved_is_not(void **state UNUSED)
{
	static const char *const keys[] = {
	    "drain: 30s", "maintenance: a", "maintenance: true", "maintenance: b", "allow: 10.0.0.1", "deny: 10.0.0.1",
	    "rate: {requests: 5}", "rate: {requests: 5, by: header X}", "rate: {requests: 5, burst: 6}",
	    "auth: {users: ['ann:sha256:" SALT ":" HASH "']}",
	    "auth: {users: ['ann:sha256:" SALT ":" HASH "'], pass: true}",
	    "auth: {users: ['ann:sha256:" SALT ":" HASH "'], realm: x}", "redirects: [{from: /a, to: /b}]",
	    "redirects: [{from: /a, to: /c}]", "redirects: [{from: /a, to: /b, status: 301}]",
	    "headers: {request: {set: {A: b}}}", "headers: {request: {set: {A: c}}}",
	    "headers: {response: {set: {A: b}}}", "headers: {request: {remove: [A]}}",
	    "headers: {response: {remove: [A]}}", "errors: {502: a}", "errors: {502: b}", "errors: {503: a}",
	    "sticky: true", "sticky: x", "balance: hash path", "balance: hash address"};
	struct conf *c[2][ARRAY_LEN(keys)];

	for (size_t moved = 0; moved < 2; moved++)
		for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
			CLEANUP_BUF struct buf text = {0};

			buf_addf(&text, "%s" LINE "%s}}\n", moved ? "\n\n" : "", keys[i]);
			c[moved][i] = parse(buf_str(&text));
			assert_non_null(c[moved][i]);
		}
	for (size_t i = 0; i < ARRAY_LEN(keys); i++)
		for (size_t j = 0; j < ARRAY_LEN(keys); j++)
			assert_int_equal(conf_app_differs(c[0][i]->apps, c[1][j]->apps), i != j);
	assert_true(conf_app_differs(NULL, c[0][0]->apps));
	assert_true(conf_app_differs(c[0][0]->apps, NULL));
	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		conf_free(c[0][i]);
		conf_free(c[1][i]);
	}
}

/* --- pages --- */

static char dir[] = "/tmp/upstate-pages-XXXXXX";

static const char *in_dir(const char *name)
{
	static char path[100];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

static void write_file(const char *name, const char *text, size_t len)
{
	CLEANUP_FD int fd = open(in_dir(name), O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, len), len);
}

static void pages_are_read_beside_the_file_and_bounded(void **state UNUSED)
{
	static char large[CONF_PAGE_MAX + 1];
	static const char text[] = "apps:\n  a:\n    run: x $PORT\n    maintenance: p.html\n"
				   "    errors: { 502: large.html }\n";
	struct conf *c = NULL;
	CLEANUP_BUF struct buf want = {0};
	struct err e = {0};

	assert_non_null(mkdtemp(dir));
	write_file("f.yaml", text, strlen(text));
	write_file("p.html", "a\0b", 3);
	memset(large, 'x', sizeof(large));
	write_file("large.html", large, CONF_PAGE_MAX);
	assert_int_equal(conf_load(in_dir("f.yaml"), &c, NULL, NULL, &e), 0);
	assert_memory_equal(c->apps[0].maintenance.data, "a\0b", 3);
	assert_int_equal(c->apps[0].maintenance.len, 3);
	assert_int_equal(c->apps[0].pages[CONF_PAGE_502].len, CONF_PAGE_MAX);
	conf_free(c);

	write_file("large.html", large, CONF_PAGE_MAX + 1);
	unlink(in_dir("p.html"));
	conf_problems_free(&problems);
	assert_int_equal(conf_load(in_dir("f.yaml"), &c, NULL, &problems, &e), -ERR_INPUT);
	buf_free(&said);
	conf_problems_print(&problems, "f", &said);
	buf_addf(&want,
		 "f:4:18: error: app 'a': cannot read %s/p.html: No such file or directory\n"
		 "f:5:20: error: app 'a': %s/large.html is larger than 64 KiB\n",
		 dir, dir);
	assert_string_equal(buf_str(&said), buf_str(&want));

	/* What was in force before must come up again, with a page less. */
	assert_int_equal(conf_parse(in_dir("f.yaml"), text, strlen(text), &c, NULL, &e), 0);
	assert_int_equal(conf_read_pages(c, NULL, &e), 0);
	assert_null(c->apps[0].maintenance.data);
	assert_true(c->apps[0].maintenance.on);
	conf_free(c);
	unlink(in_dir("large.html"));
	unlink(in_dir("f.yaml"));
	rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(an_app_has_no_policy_unless_it_says_so),
	    cmocka_unit_test(everything_can_be_said_of_a_policy),
	    cmocka_unit_test(switches_are_words),
	    cmocka_unit_test(bad_fields_are_explained),
	    cmocka_unit_test(bad_redirects_are_explained),
	    cmocka_unit_test(bad_policies_are_explained),
	    cmocka_unit_test(a_policy_that_changed_is_another_and_one_that_moved_is_not),
	    cmocka_unit_test(pages_are_read_beside_the_file_and_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
