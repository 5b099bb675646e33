/* SPDX-License-Identifier: Apache-2.0
 *
 * The load client's reading of answers: every answer gives the same result wherever the
 * network splits it, and what cannot be proved whole is not believed.
 */
#include "../test/unit/unit.h"

#include "answer.h"

/* Feeds it in two pieces; the body is compared when the answer is to be whole. */
static void expect_split(const char *text, size_t at, enum answer_result want, const char *body,
			 size_t want_used)
{
	struct answer a = {0};
	size_t used = 0, used2 = 0, len = strlen(text);
	enum answer_result r;

	answer_begin(&a, 1000);
	r = answer_feed(&a, text, at, &used);
	if (r == ANSWER_MORE) {
		assert_int_equal(used, at);
		r = answer_feed(&a, text + at, len - at, &used2);
	}
	assert_int_equal(r, want);
	if (want == ANSWER_BAD)
		assert_non_null(a.why);
	if (want == ANSWER_DONE) {
		assert_int_equal(used + used2, want_used);
		assert_int_equal(a.body.len, strlen(body));
		assert_memory_equal(a.body.data ? a.body.data : "", body, a.body.len);
	}
	answer_free(&a);
}

static void expect(const char *text, enum answer_result want, const char *body, size_t left_over)
{
	for (size_t at = 0; at <= strlen(text); at++)
		expect_split(text, at, want, body, strlen(text) - left_over);
}

#define OK "HTTP/1.1 200 OK\r\n"
#define CHUNKED OK "Transfer-Encoding: chunked\r\n\r\n"

static void test_whole_answers_are_read_however_they_are_split(void **state)
{
	(void)state;
	expect(OK "Content-Length: 5\r\n\r\nhello", ANSWER_DONE, "hello", 0);
	expect(OK "content-length:5 \r\nX: y\r\n\r\nhello", ANSWER_DONE, "hello", 0);
	expect(OK "Content-Length: 0\r\n\r\n", ANSWER_DONE, "", 0);
	expect("HTTP/1.1 204 No Content\r\n\r\n", ANSWER_DONE, "", 0);
	expect("HTTP/1.0 200 \r\nContent-Length: 2\r\n\r\nok", ANSWER_DONE, "ok", 0);
	expect(CHUNKED "5\r\nhello\r\n0\r\n\r\n", ANSWER_DONE, "hello", 0);
	expect(CHUNKED "5;a=b\r\nhello\r\n00001\r\n!\r\n0\r\nSum: 1\r\n\r\n", ANSWER_DONE, "hello!",
	       0);
	expect("HTTP/1.1 100 Continue\r\n\r\n" OK "Content-Length: 1\r\n\r\nx", ANSWER_DONE, "x",
	       0);
}

static void test_what_follows_an_answer_is_left_over(void **state)
{
	(void)state;
	for (size_t at = 39; at <= 46; at++)
		expect_split(OK "Content-Length: 5\r\n\r\nhelloHTTP/", 46, ANSWER_DONE, "hello",
			     43);
	expect_split(CHUNKED "0\r\n\r\nmore", strlen(CHUNKED "0\r\n\r\nmore"), ANSWER_DONE, "",
		     strlen(CHUNKED "0\r\n\r\n"));
}

static void test_an_answer_that_is_not_whole_stays_open(void **state)
{
	static const char *const cut[] = {
	    "",
	    OK,
	    OK "Content-Length: 5\r\n\r\nhell",
	    CHUNKED,
	    CHUNKED "5\r\nhello\r\n",
	    CHUNKED "5\r\nhello\r\n0\r\n",
	    "HTTP/1.1 100 Continue\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(cut); i++)
		expect(cut[i], ANSWER_MORE, "", 0);
}

static void test_what_cannot_be_proved_is_bad(void **state)
{
	static const char *const bad[] = {
	    OK "\r\n",
	    OK "Connection: close\r\n\r\n",
	    OK "Content-Length: 5\r\nContent-Length: 5\r\n\r\n",
	    OK "Content-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n",
	    OK "Content-Length: +5\r\n\r\n",
	    OK "Content-Length: 5, 5\r\n\r\n",
	    OK "Content-Length: \r\n\r\n",
	    OK "Content-Length: 1234567890123456789\r\n\r\n",
	    OK "Transfer-Encoding: gzip, chunked\r\n\r\n",
	    OK "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n",
	    OK "No colon\r\n\r\n",
	    OK "Space : x\r\n\r\n",
	    OK " folded: x\r\n\r\n",
	    OK "Control: \x01\r\n\r\n",
	    OK "Content-Length: 0\n\r\n",
	    "HTTP/2 200 OK\r\n\r\n",
	    "HTTP/1.1 2xx OK\r\n\r\n",
	    "HTTP/1.1 200\r\n\r\n",
	    "HTTP/1.1  200 OK\r\n\r\n",
	    "HTTP/1.1 101 Switching Protocols\r\n\r\n",
	    "HTTP/1.1 100 Continue\r\nContent-Length: 0\r\n\r\n",
	    CHUNKED "\r\n",
	    CHUNKED "0x5\r\nhello\r\n",
	    CHUNKED "-5\r\nhello\r\n",
	    CHUNKED "5\r\nhello!\r\n",
	    CHUNKED "5\nhello\r\n",
	    CHUNKED "1234567890abcdef\r\n",
	    CHUNKED "0\r\nno colon\r\n\r\n",
	};

	(void)state;
	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		expect(bad[i], ANSWER_BAD, "", 0);
}

static void test_it_is_bounded(void **state)
{
	struct answer a = {0};
	size_t used;
	enum answer_result r;

	(void)state;
	answer_begin(&a, 10);
	assert_int_equal(answer_feed(&a, OK "Content-Length: 11\r\n\r\n", 39, &used), ANSWER_MORE);
	assert_int_equal(answer_feed(&a, "hello world", 11, &used), ANSWER_BAD);
	answer_begin(&a, 10);
	r = answer_feed(&a, OK, strlen(OK), &used);
	for (int i = 0; i < 10000 && r == ANSWER_MORE; i++)
		r = answer_feed(&a, "Name: value\r\n", 13, &used);
	assert_int_equal(r, ANSWER_BAD);
	answer_free(&a);
}

static void test_close_is_heeded(void **state)
{
	struct answer a = {0};
	size_t used;
	const char *says_close = OK "Content-Length: 0\r\nConnection: x, Close\r\n\r\n";
	const char *old = "HTTP/1.0 200 OK\r\nContent-Length: 0\r\n\r\n";
	const char *keep = OK "Content-Length: 0\r\nConnection: closed\r\n\r\n";

	(void)state;
	answer_begin(&a, 10);
	answer_feed(&a, says_close, strlen(says_close), &used);
	assert_false(a.keep_alive);
	answer_begin(&a, 10);
	answer_feed(&a, old, strlen(old), &used);
	assert_false(a.keep_alive);
	answer_begin(&a, 10);
	answer_feed(&a, keep, strlen(keep), &used);
	assert_true(a.keep_alive);
	answer_free(&a);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(test_whole_answers_are_read_however_they_are_split),
	    cmocka_unit_test(test_what_follows_an_answer_is_left_over),
	    cmocka_unit_test(test_an_answer_that_is_not_whole_stays_open),
	    cmocka_unit_test(test_what_cannot_be_proved_is_bad),
	    cmocka_unit_test(test_it_is_bounded),
	    cmocka_unit_test(test_close_is_heeded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
