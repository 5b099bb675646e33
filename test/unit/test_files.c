/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "files/ask.h"

/* A copy that ends where the text ends, so that the sanitizer sees a read past it. */
static struct http1_slice slice(const char *text)
{
	static char *copy;
	size_t len = strlen(text);

	free(copy);
	copy = util_alloc(len);
	memcpy(copy, text, len);
	return (struct http1_slice){copy, (uint32_t)len};
}

static void path_is(const char *path, int want, const char *name)
{
	char got[ASK_PATH_MAX] = "";
	int status = ask_path(slice(path), got);

	if (status != want || (!want && strcmp(got, name) != 0))
		fail_msg("%s: %d '%s', not %d '%s'", path, status, got, want, name ? name : "");
}

static void a_path_becomes_a_name(void **state UNUSED)
{
	path_is("/", 0, "");
	path_is("/a", 0, "a");
	path_is("/a/", 0, "a/");
	path_is("/a/b.html", 0, "a/b.html");
	path_is("/a%20b/%C3%a4", 0, "a b/\xc3\xa4");
	path_is("/a+b", 0, "a+b");
	path_is("/a..b/c.", 0, "a..b/c.");
	path_is("/.well-known/x", 0, ".well-known/x");
	path_is("/.well-known/acme/y", 0, ".well-known/acme/y");
}

static void what_could_mean_something_else_is_refused(void **state UNUSED)
{
	static const char *const bad[] = {"",	      "a",	 "*",	      "/..",	    "/../a",	"/a/../b",
					  "/.",	      "/./a",	 "/a/.",      "/%2e%2e/a",  "/%2E%2E",	"/..%2fa",
					  "/a%2Fb",   "/a%2fb",	 "/%00",      "/a%00.html", "/a%",	"/a%2",
					  "/a%zz",    "/a%5cb",	 "/a\\b",     "/%0d%0a",    "/%7f",	"/.%2e/x",
					  "/a//../b", "/.git/..", "/%09",      "/.well-known/.."};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		path_is(bad[i], 400, NULL);
}

static void dot_files_and_empty_segments_are_not_there(void **state UNUSED)
{
	static const char *const none[] = {"/.git/config", "/.env",  "/a/.htaccess", "//",	    "//evil.example/a",
					   "/a//b",	   "/a//",   "/...",	     "/.well-known", "/a/.well-known/x",
					   "/%2egit",	   "/.well-known/.x"};

	for (size_t i = 0; i < ARRAY_LEN(none); i++)
		path_is(none[i], 404, NULL);
}

static void a_path_has_a_bound(void **state UNUSED)
{
	char text[ASK_PATH_MAX + 8], got[ASK_PATH_MAX];

	memset(text, 'a', sizeof(text));
	text[0] = '/';
	assert_int_equal(ask_path((struct http1_slice){text, ASK_PATH_MAX}, got), 0);
	assert_int_equal(strlen(got), ASK_PATH_MAX - 1);
	assert_int_equal(ask_path((struct http1_slice){text, ASK_PATH_MAX + 1}, got), 414);
}

static void range_is(const char *text, uint64_t size, enum ask_range want, uint64_t at, uint64_t len)
{
	uint64_t got_at = 0, got_len = 0;
	enum ask_range got = ask_range(slice(text), size, &got_at, &got_len);

	if (got != want || got_at != at || got_len != len)
		fail_msg("'%s' of %llu: %d %llu+%llu", text, (unsigned long long)size, got,
			 (unsigned long long)got_at, (unsigned long long)got_len);
}

static void one_range_is_found(void **state UNUSED)
{
	range_is("bytes=0-0", 10, ASK_PART, 0, 1);
	range_is("bytes=0-9", 10, ASK_PART, 0, 10);
	range_is("bytes=3-", 10, ASK_PART, 3, 7);
	range_is("bytes=3-99", 10, ASK_PART, 3, 7);
	range_is("bytes=-3", 10, ASK_PART, 7, 3);
	range_is("bytes=-99", 10, ASK_PART, 0, 10);
	range_is("Bytes= 1-2 ", 10, ASK_PART, 1, 2);
	range_is("bytes=,1-2,", 10, ASK_PART, 1, 2);
	range_is("bytes=5368709120-", 5368709125, ASK_PART, 5368709120, 5);
	range_is("bytes=0-99999999999999999999999", 10, ASK_PART, 0, 10);
	range_is("bytes=-99999999999999999999999", 10, ASK_PART, 0, 10);
}

static void a_range_behind_the_end_is_none(void **state UNUSED)
{
	range_is("bytes=10-", 10, ASK_NONE, 0, 0);
	range_is("bytes=10-20", 10, ASK_NONE, 0, 0);
	range_is("bytes=-0", 10, ASK_NONE, 0, 0);
	range_is("bytes=0-", 0, ASK_NONE, 0, 0);
	range_is("bytes=-5", 0, ASK_NONE, 0, 0);
	range_is("bytes=99999999999999999999999-", 10, ASK_NONE, 0, 0);
}

static void what_is_no_single_range_means_all(void **state UNUSED)
{
	static const char *const all[] = {"",	      "bytes",	   "bytes=",  "bytes=-",  "bytes=a-b",	"bytes=5-3",
					  "bytes=1",  "items=0-1", "bytes=1-2,4-5", "bytes=1-2;", "bytes=1 -2",
					  "bytes=--1", "bytes=+1-2", "bytes=0x1-2"};

	for (size_t i = 0; i < ARRAY_LEN(all); i++)
		range_is(all[i], 10, ASK_WHOLE, 0, 0);
}

static void tags_are_compared(void **state UNUSED)
{
	assert_true(ask_names(slice("\"a\""), "\"a\"", false));
	assert_true(ask_names(slice("*"), "\"a\"", false));
	assert_true(ask_names(slice("\"b\", \"a\""), "\"a\"", false));
	assert_true(ask_names(slice(",, \"b\" ,\"a\""), "\"a\"", false));
	assert_true(ask_names(slice("\"x,y\",\"a\""), "\"a\"", false));
	assert_true(ask_names(slice("W/\"a\""), "\"a\"", true));
	assert_false(ask_names(slice("W/\"a\""), "\"a\"", false));
	assert_false(ask_names(slice("\"b\""), "\"a\"", true));
	assert_false(ask_names(slice("a"), "\"a\"", true));
	assert_false(ask_names(slice(""), "\"a\"", true));
	assert_false(ask_names(slice("\"a"), "\"a\"", true));
	assert_false(ask_names(slice("\"b\" \"a\""), "\"a\"", true));
	assert_false(ask_names(slice("w/\"a\""), "\"a\"", true));
	assert_false(ask_names(slice("*, \"a\""), "\"b\"", true));
	/* A file whose tag is not known yet has none that could be named; but it is there. */
	assert_false(ask_names(slice("\"\""), "", true));
	assert_true(ask_names(slice("*"), "", true));
	assert_true(ask_if_range(slice("\"a\""), "\"a\""));
	assert_false(ask_if_range(slice("W/\"a\""), "\"a\""));
	assert_false(ask_if_range(slice("Thu, 26 Nov 2026 11:20:00 GMT"), "\"a\""));
}

static void weights_of_codings_are_read(void **state UNUSED)
{
	assert_int_equal(ask_weight(slice("gzip, deflate, br, zstd"), "br"), 1000);
	assert_int_equal(ask_weight(slice("gzip;q=0.5,br;q=0.25"), "gzip"), 500);
	assert_int_equal(ask_weight(slice("gzip;q=0.5,br ; q=0.125"), "br"), 125);
	assert_int_equal(ask_weight(slice("GZIP"), "gzip"), 1000);
	assert_int_equal(ask_weight(slice("gzip;q=0"), "gzip"), 0);
	assert_int_equal(ask_weight(slice("gzip;q=0.000"), "gzip"), 0);
	assert_int_equal(ask_weight(slice("*;q=0.3"), "br"), 300);
	assert_int_equal(ask_weight(slice("*;q=0.3, br;q=0"), "br"), 0);
	assert_int_equal(ask_weight(slice("brotli"), "br"), -1);
	assert_int_equal(ask_weight(slice(""), "br"), -1);
	assert_int_equal(ask_weight(slice("br;q="), "br"), 0);
	assert_int_equal(ask_weight(slice("br;q=1.999999999999"), "br"), 1000);
	assert_int_equal(ask_weight(slice("br;level=3"), "br"), 0);
}

static void a_name_tells_its_type(void **state UNUSED)
{
	assert_string_equal(type_of("index.html"), "text/html; charset=utf-8");
	assert_string_equal(type_of("a/B.JPG"), "image/jpeg");
	assert_string_equal(type_of("a.tar.gz"), "application/gzip");
	assert_string_equal(type_of("noext"), "application/octet-stream");
	assert_string_equal(type_of("dir.html/noext"), "application/octet-stream");
	assert_string_equal(type_of("x."), "application/octet-stream");
	assert_string_equal(type_of("x.unheardof"), "application/octet-stream");
}

static void a_name_tells_whether_it_has_a_hash(void **state UNUSED)
{
	assert_true(type_is_fingerprinted("app.3f2a1b9c.js"));
	assert_true(type_is_fingerprinted("a/b/app-0123456789abcdef0123456789abcdef.css"));
	assert_true(type_is_fingerprinted("app.3f2a1b9c.js.map"));
	assert_false(type_is_fingerprinted("app.js"));
	assert_false(type_is_fingerprinted("report.20241126.pdf"));
	assert_false(type_is_fingerprinted("a.deadbeef.js")); /* no digit: a word */
	assert_false(type_is_fingerprinted("3f2a1b9c.js"));   /* the name itself */
	assert_false(type_is_fingerprinted("app.3f2a1b9c"));
	assert_false(type_is_fingerprinted("app.3f2a.js"));
	assert_false(type_is_fingerprinted("x.3f2a1b9c.d/app.js"));
	assert_false(type_is_fingerprinted(""));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_path_becomes_a_name),
		cmocka_unit_test(what_could_mean_something_else_is_refused),
		cmocka_unit_test(dot_files_and_empty_segments_are_not_there),
		cmocka_unit_test(a_path_has_a_bound),
		cmocka_unit_test(one_range_is_found),
		cmocka_unit_test(a_range_behind_the_end_is_none),
		cmocka_unit_test(what_is_no_single_range_means_all),
		cmocka_unit_test(tags_are_compared),
		cmocka_unit_test(weights_of_codings_are_read),
		cmocka_unit_test(a_name_tells_its_type),
		cmocka_unit_test(a_name_tells_whether_it_has_a_hash),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
