/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/util.h"
#include "wire/http1.h"

static const struct http1_limits limits = {.head_bytes = 4096, .headers = 100};
static struct http1_head head;
static const char *why;

/* A copy that ends where the input ends, so that the sanitizer sees a read past it. */
static enum http1_result request_n(const char *text, size_t len, const struct http1_limits *l)
{
	static char *copy;
	size_t scanned = 0;

	free(copy);
	copy = util_alloc(len);
	memcpy(copy, text, len);
	why = NULL;
	return http1_request(copy, len, &scanned, l, &head, &why);
}

static enum http1_result request(const char *text)
{
	return request_n(text, strlen(text), &limits);
}

static enum http1_result answer(const char *text, bool to_head, bool to_connect)
{
	static char *copy;
	size_t len = strlen(text), scanned = 0;

	free(copy);
	copy = util_alloc(len);
	memcpy(copy, text, len);
	why = NULL;
	return http1_answer(copy, len, &scanned, &limits, to_head, to_connect, &head, &why);
}

static void is(struct http1_slice s, const char *text)
{
	if (s.len != strlen(text) || (s.len && memcmp(s.p, text, s.len) != 0))
		fail_msg("'%.*s' is not '%s'", (int)s.len, s.p ? s.p : "", text);
}

static void expect(enum http1_result got, enum http1_result want, const char *input)
{
	if (got != want)
		fail_msg("result %d, not %d, why '%s', for:\n%s", got, want, why ? why : "", input);
	if (want != HTTP1_DONE && want != HTTP1_MORE)
		assert_true(why && *why);
}

#define R(fields) "POST /x HTTP/1.1\r\nHost: a\r\n" fields "\r\n"

static void a_browsers_request_is_read(void **state UNUSED)
{
	static const char text[] = "GET /a/b?c=d&e HTTP/1.1\r\nHost: Shop.Example:8080\r\n"
				   "user-AGENT: x/1 \t \r\nAccept:*/*\r\nX-Empty:\r\n"
				   "Connection: keep-alive\r\nX-Request-Id: 7\r\n\r\nrest";

	expect(request(text), HTTP1_DONE, text);
	is(head.method, "GET");
	is(head.target, "/a/b?c=d&e");
	is(head.path, "/a/b");
	is(head.host, "Shop.Example:8080");
	assert_true(head.is_get && head.keep_alive && head.minor == 1);
	assert_false(head.upgrade || head.is_head || head.expect_continue || head.hop_named);
	assert_int_equal(head.framing, HTTP1_BODY_NONE);
	assert_int_equal(head.header_count, 6);
	is(http1_get(&head, HTTP1_USER_AGENT), "x/1");
	is(http1_get(&head, HTTP1_X_REQUEST_ID), "7");
	is(head.headers[3].name, "X-Empty");
	assert_int_equal(head.headers[3].value.len, 0);
	assert_int_equal(head.head_len, strlen(text) - 4);
}

static void every_known_header_is_recognised_in_any_case(void **state UNUSED)
{
	static const char *const names[] = {NULL,
#define X(name, lower) lower,
					    HTTP1_KNOWN_TABLE(X)
#undef X
	};

	for (int k = 1; k < HTTP1_KNOWN_COUNT; k++) {
		char text[256];

		for (int upper = 0; upper < 2; upper++) {
			char name[32];

			for (size_t i = 0; i <= strlen(names[k]); i++)
				name[i] = names[k][i] - (upper && names[k][i] >= 'a' ? 32 : 0);
			snprintf(text, sizeof(text), "HTTP/1.1 200 OK\r\n%s: %s\r\n\r\n", name,
				 k == HTTP1_CONTENT_LENGTH	? "5"
				 : k == HTTP1_TRANSFER_ENCODING ? "chunked"
								: "v");
			expect(answer(text, false, false), HTTP1_DONE, text);
			assert_int_equal(head.headers[0].known, k);
			assert_int_equal(head.known_at[k], 1);
			/* one letter off is another header */
			text[strlen("HTTP/1.1 200 OK\r\n") + 1] = '!';
			expect(answer(text, false, false), HTTP1_DONE, text);
			assert_int_equal(head.headers[0].known, HTTP1_OTHER);
		}
	}
}

static void what_two_parsers_could_read_differently_is_refused(void **state UNUSED)
{
	static const struct {
		enum http1_result want;
		const char *text;
	} table[] = {
		/* line ends */
		{HTTP1_BAD, "GET / HTTP/1.1\nHost: a\n\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: a\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: a\r\n\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\rHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: a\rX: b\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: a\r\n\rX"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "\n\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "\r\n\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "\x16\x03\x01"}, /* TLS */
		/* request line */
		{HTTP1_BAD, " GET / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET  / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1 \r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET /  HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET\t/\tHTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET /a b HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET /\r\n\r\n"},
		{HTTP1_BAD, "GET / \r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "G(T / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET/ HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET /\x80 HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET /#a HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET / http/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/11\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.10\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1x\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/+1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTQ/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_VERSION, "GET / HTTP/2.0\r\nHost: a\r\n\r\n"},
		{HTTP1_VERSION, "GET / HTTP/1.2\r\nHost: a\r\n\r\n"},
		{HTTP1_VERSION, "GET / HTTP/0.9\r\nHost: a\r\n\r\n"},
		{HTTP1_VERSION, "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"},
		/* targets */
		{HTTP1_BAD, "GET * HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "OPTIONS ** HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET a HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET ?a HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET a:80 HTTP/1.1\r\nHost: a:80\r\n\r\n"},
		{HTTP1_BAD, "GET ftp://a/ HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET http:/a/ HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET http:// HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET http:///x HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET http://b/ HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET http://a:81/ HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET https://a:80/ HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET http://u@a/ HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET http://a?q HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET http://a\\@b/ HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET http://a/ HTTP/1.1\r\n\r\n"},
		{HTTP1_BAD, "CONNECT / HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "CONNECT a HTTP/1.1\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "CONNECT a:1 HTTP/1.1\r\nHost: b:1\r\n\r\n"},
		{HTTP1_BAD, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nContent-Length: 0\r\n\r\n"},
		{HTTP1_BAD, "CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\nTransfer-Encoding: chunked\r\n\r\n"},
		/* Host */
		{HTTP1_BAD, "GET / HTTP/1.1\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost:\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: a\r\nHost: a\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.0\r\nHost: a\r\nhost: b\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: a b\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: a,b\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: a/b\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: u@a\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: a%41\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: a:\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: a:b\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: a:65536\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: a:000080\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: a:1:2\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: :80\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: [::1\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: [::1]x\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: [v1.a]\r\n\r\n"},
		{HTTP1_BAD, "GET / HTTP/1.1\r\nHost: \xc3\xa4\r\n\r\n"},
		/* header lines */
		{HTTP1_BAD, R("X : a\r\n")},
		{HTTP1_BAD, R("X\t: a\r\n")},
		{HTTP1_BAD, R(" X: a\r\n")},
		{HTTP1_BAD, R("X: a\r\n b\r\n")},
		{HTTP1_BAD, R("X: a\r\n\tb\r\n")},
		{HTTP1_BAD, "GET / HTTP/1.1\r\n Host: a\r\n\r\n"},
		{HTTP1_BAD, R(": a\r\n")},
		{HTTP1_BAD, R("X\r\n")},
		{HTTP1_BAD, R("X y: a\r\n")},
		{HTTP1_BAD, R("X\xa0: a\r\n")},
		{HTTP1_BAD, R("X(: a\r\n")},
		{HTTP1_BAD, R("X: a\x01\r\n")},
		{HTTP1_BAD, R("X: a\x0b\r\n")},
		{HTTP1_BAD, R("X: a\x7f\r\n")},
		{HTTP1_BAD, R("Content-Length: 5\r\nX: aaaaaaaaaaaaaaaaaaaaaaaaa\x1f\r\n")},
		/* Content-Length */
		{HTTP1_BAD, R("Content-Length: 5\r\nContent-Length: 6\r\n")},
		{HTTP1_BAD, R("Content-Length: 5\r\nContent-Length: 5\r\n")},
		{HTTP1_BAD, R("Content-Length: 5, 5\r\n")},
		{HTTP1_BAD, R("Content-Length:\r\n")},
		{HTTP1_BAD, R("Content-Length: +5\r\n")},
		{HTTP1_BAD, R("Content-Length: -5\r\n")},
		{HTTP1_BAD, R("Content-Length: 0x5\r\n")},
		{HTTP1_BAD, R("Content-Length: 5 5\r\n")},
		{HTTP1_BAD, R("Content-Length: 5.\r\n")},
		{HTTP1_BAD, R("Content-Length: 9223372036854775808\r\n")},
		{HTTP1_BAD, R("Content-Length: 18446744073709551616\r\n")},
		{HTTP1_BAD, R("Content-Length: 00000000000000000005\r\n")},
		/* Transfer-Encoding */
		{HTTP1_BAD, R("Content-Length: 5\r\nTransfer-Encoding: chunked\r\n")},
		{HTTP1_BAD, R("Transfer-Encoding: chunked\r\nContent-Length: 5\r\n")},
		{HTTP1_BAD, R("Transfer-Encoding: chunked\r\nContent-Length: 0\r\n")},
		{HTTP1_BAD, R("Transfer-Encoding: x\r\nContent-Length: 0\r\n")},
		{HTTP1_BAD, R("Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n")},
		{HTTP1_BAD, R("Transfer-Encoding: chunked\r\nTransfer-Encoding: x\r\n")},
		{HTTP1_BAD, R("Transfer-Encoding: chunked, chunked\r\n")},
		{HTTP1_BAD, R("Transfer-Encoding: chunked, gzip\r\n")},
		{HTTP1_BAD, R("Transfer-Encoding: chunked,\r\n")},
		{HTTP1_BAD, R("Transfer-Encoding:\r\n")},
		{HTTP1_BAD, R("Transfer-Encoding: ,\r\n")},
		{HTTP1_BAD, R("Transfer-Encoding : chunked\r\n")},
		{HTTP1_BAD, R("Transfer-Encoding\n: chunked\r\n")},
		{HTTP1_BAD, R("Transfer-Encoding:\x0b" "chunked\r\n")},
		{HTTP1_BAD, R("Transfer-Encoding:\r\n chunked\r\n")},
		{HTTP1_BAD, "POST / HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n"},
		{HTTP1_CODING, R("Transfer-Encoding: gzip, chunked\r\n")},
		{HTTP1_CODING, R("Transfer-Encoding: identity\r\n")},
		{HTTP1_CODING, R("Transfer-Encoding: xchunked\r\n")},
		{HTTP1_CODING, R("Transfer-Encoding: chunked;q=1\r\n")},
		{HTTP1_CODING, R("Transfer-Encoding: \"chunked\"\r\n")},
		/* not there yet */
		{HTTP1_MORE, ""},
		{HTTP1_MORE, "\r"},
		{HTTP1_MORE, "\r\n\r\n"},
		{HTTP1_MORE, "GET / HTTP/1.1\r\nHost: a\r\n"},
		{HTTP1_MORE, "GET / HTTP/1.1\r\nHost: a\r\n\r"},
		{HTTP1_MORE, "G(T / HTTP/1.1\r\n"}, /* judged when it is whole */
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++)
		expect(request(table[i].text), table[i].want, table[i].text);
	/* NUL, which a C string cannot show */
	assert_int_equal(request_n("GET /\0 HTTP/1.1\r\n", 17, &limits), HTTP1_BAD);
	assert_int_equal(request_n("GET / HTTP/1.1\r\nA: \0\r\n", 22, &limits), HTTP1_BAD);
}

static void what_the_rfc_allows_is_taken(void **state UNUSED)
{
	static const struct {
		const char *text, *target, *host;
		enum http1_framing framing;
		uint64_t length;
	} table[] = {
		{"\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "/", "a", HTTP1_BODY_NONE, 0},
		{"\r\n\r\nGET / HTTP/1.1\r\nHost: a\r\n\r\n", "/", "a", HTTP1_BODY_NONE, 0},
		{"GET / HTTP/1.0\r\n\r\n", "/", "", HTTP1_BODY_NONE, 0},
		{"GET / HTTP/1.1\r\nHost:a\r\n\r\n", "/", "a", HTTP1_BODY_NONE, 0},
		{"GET / HTTP/1.1\r\nHost:\t a \t\r\n\r\n", "/", "a", HTTP1_BODY_NONE, 0},
		{"GET //x//?a?b/{|}\\^`\"<> HTTP/1.1\r\nHost: a\r\n\r\n", "//x//?a?b/{|}\\^`\"<>", "a",
		 HTTP1_BODY_NONE, 0},
		{"GET HTTP://A:80/x?y HTTP/1.1\r\nHost: a\r\n\r\n", "/x?y", "A:80", HTTP1_BODY_NONE, 0},
		{"GET http://a HTTP/1.1\r\nHost: a:80\r\n\r\n", "/", "a", HTTP1_BODY_NONE, 0},
		{"GET https://a/ HTTP/1.1\r\nHost: a:443\r\n\r\n", "/", "a", HTTP1_BODY_NONE, 0},
		{"GET http://a/ HTTP/1.0\r\n\r\n", "/", "a", HTTP1_BODY_NONE, 0},
		{"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n", "*", "a", HTTP1_BODY_NONE, 0},
		{"OPTIONS http://a HTTP/1.1\r\nHost: a\r\n\r\n", "*", "a", HTTP1_BODY_NONE, 0},
		{"CONNECT a:443 HTTP/1.1\r\nHost: a\r\n\r\n", "a:443", "a:443", HTTP1_BODY_NONE, 0},
		{"GET / HTTP/1.1\r\nHost: [::1]:8080\r\n\r\n", "/", "[::1]:8080", HTTP1_BODY_NONE, 0},
		{"GET / HTTP/1.1\r\nHost: a_b-c.d~:65535\r\n\r\n", "/", "a_b-c.d~:65535", HTTP1_BODY_NONE, 0},
		{R("Content-Length: 0\r\n"), "/x", "a", HTTP1_BODY_NONE, 0},
		{R("Content-Length: 9223372036854775807\r\n"), "/x", "a", HTTP1_BODY_LENGTH, INT64_MAX},
		{R("content-length:\t12 \r\n"), "/x", "a", HTTP1_BODY_LENGTH, 12},
		{R("Transfer-Encoding: chunked\r\n"), "/x", "a", HTTP1_BODY_CHUNKED, 0},
		{R("tRANSFER-eNCODING:CHUNKED \r\n"), "/x", "a", HTTP1_BODY_CHUNKED, 0},
		{R("X: \xff\x80 a\tb\r\n"), "/x", "a", HTTP1_BODY_NONE, 0},
		{"ABCDEFGHIJKLMNOPQRSTUVWXYZ-!'*+. / HTTP/1.1\r\nHost: a\r\n\r\n", "/", "a", HTTP1_BODY_NONE, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		expect(request(table[i].text), HTTP1_DONE, table[i].text);
		is(head.target, table[i].target);
		is(head.host, table[i].host);
		assert_int_equal(head.framing, table[i].framing);
		assert_int_equal(head.length, table[i].length);
	}
}

static void framing_of_answers_follows_the_rfc(void **state UNUSED)
{
	static const struct {
		const char *text;
		bool to_head, to_connect;
		enum http1_result want;
		enum http1_framing framing;
	} table[] = {
		{"HTTP/1.1 200 OK\r\n\r\n", false, false, HTTP1_DONE, HTTP1_BODY_CLOSE},
		{"HTTP/1.1 200 OK\r\n\r\n", true, false, HTTP1_DONE, HTTP1_BODY_NONE},
		{"HTTP/1.1 200 OK\r\n\r\n", false, true, HTTP1_DONE, HTTP1_TUNNEL},
		{"HTTP/1.1 200 \r\nContent-Length: 3\r\n\r\n", false, false, HTTP1_DONE, HTTP1_BODY_LENGTH},
		{"HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", false, false, HTTP1_DONE, HTTP1_BODY_NONE},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", true, false, HTTP1_DONE, HTTP1_BODY_NONE},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\n", false, true, HTTP1_DONE, HTTP1_TUNNEL},
		{"HTTP/1.1 404 no\r\nContent-Length: 3\r\n\r\n", false, true, HTTP1_DONE, HTTP1_BODY_LENGTH},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, false, HTTP1_DONE, HTTP1_BODY_CHUNKED},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", true, false, HTTP1_DONE, HTTP1_BODY_NONE},
		{"HTTP/1.1 100 Continue\r\n\r\n", false, false, HTTP1_DONE, HTTP1_BODY_NONE},
		{"HTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n", false, false, HTTP1_DONE, HTTP1_BODY_NONE},
		{"HTTP/1.1 101 Up\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n", false, false, HTTP1_DONE, HTTP1_TUNNEL},
		{"HTTP/1.1 204 No Content\r\n\r\n", false, false, HTTP1_DONE, HTTP1_BODY_NONE},
		{"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", false, false, HTTP1_DONE, HTTP1_BODY_NONE},
		{"HTTP/1.1 599 \xe4\t!\r\nContent-Length: 1\r\n\r\n", false, false, HTTP1_DONE, HTTP1_BODY_LENGTH},
		{"HTTP/1.1 600 OK\r\n\r\n", false, false, HTTP1_BAD, 0},
		{"HTTP/1.1 099 OK\r\n\r\n", false, false, HTTP1_BAD, 0},
		{"HTTP/1.1 20 OK\r\n\r\n", false, false, HTTP1_BAD, 0},
		{"HTTP/1.1 2000 OK\r\n\r\n", false, false, HTTP1_BAD, 0},
		{"HTTP/1.1  200 OK\r\n\r\n", false, false, HTTP1_BAD, 0},
		{"HTTP/1.1 200OK\r\n\r\n", false, false, HTTP1_BAD, 0},
		{"HTTP/2 200 OK\r\n\r\n", false, false, HTTP1_BAD, 0},
		{"HTTP/2.0 200 OK\r\n\r\n", false, false, HTTP1_VERSION, 0},
		{"ICY 200 OK\r\n\r\n", false, false, HTTP1_BAD, 0},
		{"\r\nHTTP/1.1 200 OK\r\n\r\n", false, false, HTTP1_BAD, 0},
		{"HTTP/1.1 200 O\x01K\r\n\r\n", false, false, HTTP1_BAD, 0},
		{"HTTP/1.1 200 OK\nA: b\n\n", false, false, HTTP1_BAD, 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n", false, false, HTTP1_BAD, 0},
		{"HTTP/1.1 200 OK\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\n", true, false, HTTP1_BAD, 0},
		{"HTTP/1.0 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n", false, false, HTTP1_BAD, 0},
		{"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip\r\n\r\n", false, false, HTTP1_CODING, 0},
		{"HTTP/1.1 200", false, false, HTTP1_MORE, 0},
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		expect(answer(table[i].text, table[i].to_head, table[i].to_connect), table[i].want,
		       table[i].text);
		if (table[i].want == HTTP1_DONE && head.framing != table[i].framing)
			fail_msg("framing %d for:\n%s", head.framing, table[i].text);
		if (table[i].framing == HTTP1_BODY_CLOSE || table[i].framing == HTTP1_TUNNEL)
			assert_false(head.keep_alive);
	}
	expect(answer("HTTP/1.1 302 Moved  there\r\nContent-Length: 7\r\n\r\n", true, false), HTTP1_DONE, "");
	is(head.reason, "Moved  there");
	assert_int_equal(head.status, 302);
	assert_int_equal(head.length, 7);
}

static void keep_alive_upgrade_and_expect_come_from_their_headers(void **state UNUSED)
{
	static const struct {
		const char *fields;
		int minor;
		bool alive, upgrade, expect, trailers;
	} table[] = {
		{"", 1, true, false, false, false},
		{"", 0, false, false, false, false},
		{"Connection: close\r\n", 1, false, false, false, false},
		{"Connection: keep-alive\r\n", 0, true, false, false, false},
		{"Connection: x,  Close ,y\r\n", 1, false, false, false, false},
		{"Connection: keep-alive\r\nConnection: close\r\n", 1, false, false, false, false},
		{"Connection: closed\r\n", 1, true, false, false, false},
		{"Connection: Upgrade\r\nUpgrade: websocket\r\n", 1, true, true, false, false},
		{"Connection: keep-alive\r\nX: y\r\nConnection: upgrade\r\nUpgrade: a\r\n", 1, true, true, false, false},
		{"Connection: Upgrade\r\n", 1, true, false, false, false},
		{"Upgrade: websocket\r\n", 1, true, false, false, false},
		{"Connection: Upgrade\r\nUpgrade: websocket\r\n", 0, false, false, false, false},
		{"Expect: 100-Continue\r\n", 1, true, false, true, false},
		{"Expect: 100-continue\r\n", 0, false, false, false, false},
		{"Expect: 100-continued\r\n", 1, true, false, false, false},
		{"TE: trailers\r\nConnection: TE\r\n", 1, true, false, false, true},
		{"TE: deflate;q=0.5, trailers\r\nConnection: TE\r\n", 1, true, false, false, true},
		{"TE: trailers\r\n", 1, true, false, false, false},
		{"Connection: TE\r\n", 1, true, false, false, false},
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		char text[256];

		snprintf(text, sizeof(text), "GET / HTTP/1.%d\r\nHost: a\r\n%s\r\n", table[i].minor,
			 table[i].fields);
		expect(request(text), HTTP1_DONE, text);
		if (head.keep_alive != table[i].alive || head.upgrade != table[i].upgrade ||
		    head.expect_continue != table[i].expect ||
		    head.te_trailers != table[i].trailers)
			fail_msg("wrong for:\n%s", text);
	}
}

static void hop_by_hop_headers_are_known_and_named_ones_too(void **state UNUSED)
{
	static const char text[] = R("Connection: close, X-Mine, Host,content-length\r\n"
				     "x-mine: 1\r\nTE: trailers\r\nKeep-Alive: 5\r\nTrailer: x\r\n"
				     "Proxy-Connection: close\r\nUpgrade: h2c\r\nX-Min: 2\r\n"
				     "Content-Length: 3\r\nConnection: x-other\r\nX-OTHER: 2\r\n");
	static const bool hop[] = {false, true, true, true, true, true,
				   true,  true, false, false, true, true};

	expect(request(text), HTTP1_DONE, text);
	assert_int_equal(head.header_count, ARRAY_LEN(hop));
	for (size_t i = 0; i < ARRAY_LEN(hop); i++)
		if (http1_is_hop(&head, &head.headers[i]) != hop[i])
			fail_msg("%.*s", (int)head.headers[i].name.len, head.headers[i].name.p);
	expect(request(R("Connection: close\r\nX: 1\r\nTransfer-Encoding: chunked\r\n")), HTTP1_DONE, "");
	assert_false(http1_is_hop(&head, &head.headers[2]));
	assert_true(http1_is_hop(&head, &head.headers[3]));
}

static void a_connection_header_cannot_name_without_end(void **state UNUSED)
{
	char text[512] = "GET / HTTP/1.1\r\nHost: a\r\nConnection: ";

	for (int i = 0; i < 32; i++)
		strcat(text, "a,");
	strcat(text, "\r\n\r\n");
	expect(request(text), HTTP1_DONE, text);
	strcpy(strstr(text, "\r\n\r\n"), "b\r\n\r\n");
	expect(request(text), HTTP1_BAD, text);
}

/* Feeds text in two pieces, then byte by byte; whatever it says in the end must be the same. */
static void same_however_cut(const char *text, bool is_answer)
{
	size_t len = strlen(text);
	struct http1_head *whole = util_alloc(sizeof(*whole));
	size_t scanned = 0;
	enum http1_result want = is_answer ? http1_answer(text, len, &scanned, &limits, false, false,
							  whole, &why)
					   : http1_request(text, len, &scanned, &limits, whole, &why);

	for (size_t cut = 0; cut <= len; cut++) {
		for (size_t step = 1; step <= len; step += len - 1) {
			enum http1_result r = HTTP1_MORE;

			scanned = 0;
			for (size_t n = cut; r == HTTP1_MORE; n = MIN(n + step, len)) {
				r = is_answer ? http1_answer(text, n, &scanned, &limits, false,
							     false, &head, &why)
					      : http1_request(text, n, &scanned, &limits, &head, &why);
				if (n == len)
					break;
			}
			assert_int_equal(r, want);
			if (r != HTTP1_DONE)
				continue;
			assert_int_equal(head.head_len, whole->head_len);
			assert_int_equal(head.header_count, whole->header_count);
			assert_int_equal(head.framing, whole->framing);
			assert_ptr_equal(head.target.p, whole->target.p);
			assert_memory_equal(head.headers, whole->headers,
					    head.header_count * sizeof(head.headers[0]));
		}
	}
	free(whole);
}

static void the_verdict_does_not_depend_on_how_the_bytes_came(void **state UNUSED)
{
	same_however_cut("\r\n\r\nGET /a?b HTTP/1.1\r\nHost: a.b:80\r\nX:  y \r\n\r\nGET ", false);
	same_however_cut(R("Content-Length: 10\r\nCookie: a=b; c=\td\r\n") "0123456789", false);
	same_however_cut(R("Transfer-Encoding: chunked\r\n") "5\r\nhello\r\n0\r\n\r\n", false);
	same_however_cut("HTTP/1.1 200\r\nContent-Length: 2\r\n\r\nok", true);
	same_however_cut("HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\n\r\n", true);
	same_however_cut("G(T / HTTP/1.1\r\nHost: a\r\nX: y\nZ: 1\r\n\r\n", false);
	same_however_cut("GET / HTTP/1.1\r\nHost : a\r\n\r\n", false);
	same_however_cut("GET / HTTP/3.1\r\nHost : a\r\n", false);
}

static void limits_hold_at_their_edge(void **state UNUSED)
{
	const char text[] = "GET / HTTP/1.1\r\nHost: a\r\nB: c\r\n\r\n";
	const size_t len = sizeof(text) - 1;
	struct http1_limits l = {.head_bytes = (uint32_t)len, .headers = 2};
	char *many = util_alloc(8192);

	assert_int_equal(request_n(text, len, &l), HTTP1_DONE);
	l.headers = 1;
	assert_int_equal(request_n(text, len, &l), HTTP1_LONG_HEAD);
	l.headers = 2;
	l.head_bytes--;
	assert_int_equal(request_n(text, len, &l), HTTP1_LONG_HEAD);
	assert_int_equal(request_n(text, len - 1, &l), HTTP1_LONG_HEAD);
	assert_int_equal(request_n(text, len - 2, &l), HTTP1_MORE);
	l.head_bytes = 16;
	assert_int_equal(request_n(text, len, &l), HTTP1_LONG_HEAD);
	l.head_bytes = 15;
	assert_int_equal(request_n(text, len, &l), HTTP1_LONG_LINE);
	assert_int_equal(request_n(text, 14, &l), HTTP1_MORE);
	/* more header lines than the struct has place for, though the caller allows it */
	l = (struct http1_limits){.head_bytes = 8192, .headers = 5000};
	strcpy(many, "GET / HTTP/1.1\r\nHost: a\r\n");
	for (int i = 1; i < HTTP1_HEADERS_MAX; i++)
		strcat(many, "A: b\r\n");
	strcat(many, "\r\n");
	assert_int_equal(request_n(many, strlen(many), &l), HTTP1_DONE);
	assert_int_equal(head.header_count, HTTP1_HEADERS_MAX);
	strcpy(many + strlen(many) - 2, "A: b\r\n\r\n");
	assert_int_equal(request_n(many, strlen(many), &l), HTTP1_LONG_HEAD);
	l.passed = true; /* but for what is made here of such a head */
	assert_int_equal(request_n(many, strlen(many), &l), HTTP1_DONE);
	/* methods */
	assert_int_equal(request("abcdefghijklmnopqrstuvwxyz012345 / HTTP/1.1\r\nHost: a\r\n\r\n"),
			 HTTP1_DONE);
	assert_int_equal(request("abcdefghijklmnopqrstuvwxyz0123456 / HTTP/1.1\r\nHost: a\r\n\r\n"),
			 HTTP1_BAD);
	free(many);
}

/* --- chunked --- */

/* Decodes text in pieces of `step` bytes; ret gets the body. */
static enum http1_result dechunk(const char *text, size_t len, size_t step, char *ret,
				 size_t *ret_len, size_t *ret_used)
{
	struct http1_chunked c = {0};
	enum http1_result r = HTTP1_MORE;

	*ret_len = *ret_used = 0;
	while (r == HTTP1_MORE && *ret_used < len) {
		size_t n = MIN(step, len - *ret_used), given = n, used;
		char *piece = util_alloc(n);

		memcpy(piece, text + *ret_used, n);
		r = http1_dechunk(&c, piece, &n, &used, &why);
		assert_true(used <= given && n <= used);
		assert_true(r != HTTP1_MORE || used == given);
		memcpy(ret + *ret_len, piece, n);
		*ret_len += n;
		*ret_used += used;
		free(piece);
	}
	if (r == HTTP1_DONE)
		assert_int_equal(c.state, HTTP1_CHUNK_TRAILER);
	return r;
}

static void a_chunked_body_is_decoded_however_it_is_cut(void **state UNUSED)
{
	static const char text[] = "5\r\nhello\r\n1;a=b;c=\"d e\"\r\n \r\n00000C\r\nworld, again\r\n"
				   "0;last\r\nTrailer: x\r\n\r\n";
	size_t len, used;
	char body[128];

	for (size_t step = 1; step < sizeof(text); step++) {
		assert_int_equal(dechunk(text, sizeof(text) - 1, step, body, &len, &used),
				 HTTP1_DONE);
		assert_int_equal(len, 18);
		assert_memory_equal(body, "hello world, again", 18);
		assert_memory_equal(text + used, "Trailer", 7);
	}
}

static void malformed_chunks_are_refused(void **state UNUSED)
{
	static const char *const table[] = {
		"\r\n", ";a\r\n", "x\r\n", "-1\r\n", "0x5\r\n", "+5\r\n", " 5\r\n", "5 \r\n", "5 ;a\r\n",
		"5\n", "5\rx", "5;a\n", "5;a\rb", "5;\x01\r\n", "5;\x7f", "5\r\nhellox\r\n",
		"5\r\nhello\n", "5\r\nhello\rx", "5\r\nhello0\r\n", "0\n\r\n", "0\r\r\n",
		"1000000000000001\r\n", "ffffffffffffffff\r\n", "10000000000000000\r\n",
		"00000000000000005\r\n", "5\r\nhello\r\n\r\n",
	};
	char body[128];
	size_t len, used;

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		expect(dechunk(table[i], strlen(table[i]), 100, body, &len, &used), HTTP1_BAD, table[i]);
		expect(dechunk(table[i], strlen(table[i]), 1, body, &len, &used), HTTP1_BAD, table[i]);
	}
	expect(dechunk("1000000000000000\r\n", 18, 100, body, &len, &used), HTTP1_MORE, "2^60");
	expect(dechunk("0000000000000005\r\n", 18, 100, body, &len, &used), HTTP1_MORE, "16 digits");
}

static void chunk_extensions_are_bounded_over_the_whole_body(void **state UNUSED)
{
	struct http1_chunked c = {0};
	enum http1_result r = HTTP1_MORE;
	size_t total = 0;

	while (r == HTTP1_MORE) {
		char chunk[] = "1;abcdefghi\r\nx\r\n";
		size_t n = sizeof(chunk) - 1, used;

		r = http1_dechunk(&c, chunk, &n, &used, &why);
		total += 9;
	}
	assert_int_equal(r, HTTP1_BAD);
	assert_in_range(total, HTTP1_CHUNK_EXT_MAX, HTTP1_CHUNK_EXT_MAX + 9);
}

static enum http1_result trailer(const char *text, size_t step)
{
	size_t scanned = 0, n = 0, len = strlen(text);
	enum http1_result r = HTTP1_MORE;

	while (r == HTTP1_MORE && n < len) {
		n = MIN(n + step, len);
		r = http1_trailer(text, n, &scanned, &head, &why);
	}
	return r;
}

static void trailers_are_read_and_dangerous_ones_refused(void **state UNUSED)
{
	static const struct {
		const char *text;
		enum http1_result want;
		uint32_t count;
	} table[] = {
		{"\r\n", HTTP1_DONE, 0},
		{"\r\nGET /", HTTP1_DONE, 0},
		{"Grpc-Status: 0\r\nDigest: x\r\n\r\n", HTTP1_DONE, 2},
		{"", HTTP1_MORE, 0},
		{"\r", HTTP1_MORE, 0},
		{"A: b\r\n", HTTP1_MORE, 0},
		{"\n", HTTP1_BAD, 0},
		{"\rx", HTTP1_BAD, 0},
		{"A: b\n\r\n", HTTP1_BAD, 0},
		{"A : b\r\n\r\n", HTTP1_BAD, 0},
		{"A: b\r\n c\r\n\r\n", HTTP1_BAD, 0},
		{"Content-Length: 5\r\n\r\n", HTTP1_BAD, 0},
		{"transfer-encoding: chunked\r\n\r\n", HTTP1_BAD, 0},
		{"Host: x\r\n\r\n", HTTP1_BAD, 0},
		{"A: b\r\nAUTHORIZATION: x\r\n\r\n", HTTP1_BAD, 0},
		{"Set-Cookie: x\r\n\r\n", HTTP1_BAD, 0},
		{"X-Forwarded-For: 1\r\n\r\n", HTTP1_BAD, 0},
	};
	char *large = util_alloc(HTTP1_TRAILER_MAX + 16);

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		for (size_t step = 1; step < 40; step++)
			expect(trailer(table[i].text, step), table[i].want, table[i].text);
		if (table[i].want == HTTP1_DONE)
			assert_int_equal(head.header_count, table[i].count);
	}
	memset(large, 'a', HTTP1_TRAILER_MAX - 6);
	memcpy(large + 1, ": ", 2);
	memcpy(large + HTTP1_TRAILER_MAX - 4, "\r\n\r\n", 5);
	memcpy(large + HTTP1_TRAILER_MAX - 6, "aa", 2);
	assert_int_equal(trailer(large, 100), HTTP1_DONE);
	assert_int_equal(head.head_len, HTTP1_TRAILER_MAX);
	memcpy(large + HTTP1_TRAILER_MAX - 4, "a\r\n\r\n", 6);
	assert_int_equal(trailer(large, 100), HTTP1_LONG_HEAD);
	free(large);
}

static void lists_and_reasons_are_looked_up(void **state UNUSED)
{
	struct http1_slice list = {" a ,\t, Bc,d e", 13};

	assert_true(http1_has_token(list, "a"));
	assert_true(http1_has_token(list, "bc"));
	assert_true(http1_has_token(list, "d e"));
	assert_false(http1_has_token(list, "d"));
	assert_false(http1_has_token((struct http1_slice){0}, "a"));
	assert_true(http1_is((struct http1_slice){"Ab-c", 4}, "ab-c"));
	assert_false(http1_is((struct http1_slice){"Ab-c", 4}, "ab-"));
	assert_false(http1_is((struct http1_slice){"Ab-", 3}, "ab-c"));
	assert_false(http1_is((struct http1_slice){"@", 1}, "`"));
	assert_string_equal(http1_reason(404), "Not Found");
	assert_string_equal(http1_reason(599), "");
	assert_string_equal(http1_reason(65535), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_browsers_request_is_read),
		cmocka_unit_test(every_known_header_is_recognised_in_any_case),
		cmocka_unit_test(what_two_parsers_could_read_differently_is_refused),
		cmocka_unit_test(what_the_rfc_allows_is_taken),
		cmocka_unit_test(framing_of_answers_follows_the_rfc),
		cmocka_unit_test(keep_alive_upgrade_and_expect_come_from_their_headers),
		cmocka_unit_test(hop_by_hop_headers_are_known_and_named_ones_too),
		cmocka_unit_test(a_connection_header_cannot_name_without_end),
		cmocka_unit_test(the_verdict_does_not_depend_on_how_the_bytes_came),
		cmocka_unit_test(limits_hold_at_their_edge),
		cmocka_unit_test(a_chunked_body_is_decoded_however_it_is_cut),
		cmocka_unit_test(malformed_chunks_are_refused),
		cmocka_unit_test(chunk_extensions_are_bounded_over_the_whole_body),
		cmocka_unit_test(trailers_are_read_and_dangerous_ones_refused),
		cmocka_unit_test(lists_and_reasons_are_looked_up),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
