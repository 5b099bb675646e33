/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <string.h>

#include "wire/h2_head.h"

static char memory[65536];
static struct h2_head head;
static const char key[] = "AAAAAAAAAAAAAAAAAAAAAA==";

static struct http1_slice slice(const char *s)
{
	return (struct http1_slice){s, (uint32_t)strlen(s)};
}

/* Name and value by turns; a NULL ends. */
static enum http1_result fields(const char *const *f)
{
	enum http1_result r = HTTP1_DONE;

	for (; f[0] && r == HTTP1_DONE; f += 2)
		r = h2_head_field(&head, slice(f[0]), slice(f[1]));
	return r;
}

#define FIELDS(...) fields((const char *const[]){__VA_ARGS__, NULL})
#define USUAL ":method", "GET", ":scheme", "http", ":authority", "any", ":path", "/"

static int fresh(void **state UNUSED)
{
	h2_head_begin(&head, memory, sizeof(memory), 16384, H2_HEAD_REQUEST);
	return 0;
}

static void text_is(const char *want)
{
	assert_int_equal(head.len - head.start, strlen(want));
	assert_memory_equal(head.p + head.start, want, strlen(want));
}

static void made(bool ended, const char *want)
{
	assert_int_equal(h2_head_end(&head, ended, key), HTTP1_DONE);
	text_is(want);
}

static void pseudo_fields_become_the_first_lines(void **state UNUSED)
{
	assert_int_equal(FIELDS(":path", "/a?b", ":authority", "Host:80", ":scheme", "https", ":method",
				"PURGE", "x-a", "1", "x-b", ""),
			 HTTP1_DONE);
	made(true, "PURGE /a?b HTTP/1.1\r\nHost: Host:80\r\nx-a: 1\r\nx-b: \r\n\r\n");
}

static void a_body_without_a_length_is_chunked(void **state UNUSED)
{
	assert_int_equal(FIELDS(USUAL), HTTP1_DONE);
	made(false, "GET / HTTP/1.1\r\nHost: any\r\nTransfer-Encoding: chunked\r\n\r\n");
	fresh(NULL);
	assert_int_equal(FIELDS(USUAL, "content-length", "5"), HTTP1_DONE);
	made(false, "GET / HTTP/1.1\r\nHost: any\r\ncontent-length: 5\r\n\r\n");
}

static void a_length_without_a_body_is_refused(void **state UNUSED)
{
	assert_int_equal(FIELDS(USUAL, "content-length", "5"), HTTP1_DONE);
	assert_int_equal(h2_head_end(&head, true, key), HTTP1_BAD);
	fresh(NULL);
	assert_int_equal(FIELDS(USUAL, "content-length", "0"), HTTP1_DONE);
	made(true, "GET / HTTP/1.1\r\nHost: any\r\ncontent-length: 0\r\n\r\n");
}

static void te_is_said_with_connection(void **state UNUSED)
{
	assert_int_equal(FIELDS(USUAL, "te", "trailers", "a", "b"), HTTP1_DONE);
	made(true, "GET / HTTP/1.1\r\nHost: any\r\na: b\r\nConnection: te\r\nTE: trailers\r\n\r\n");
}

static void crumbs_are_joined_wherever_they_stand(void **state UNUSED)
{
	assert_int_equal(FIELDS(":method", "GET", ":scheme", "http", ":path", "/", "cookie", "a=1", "x",
				"y", "cookie", "b=2", "host", "any", "cookie", "c=3", "host2", "z"),
			 HTTP1_DONE);
	made(true, "GET / HTTP/1.1\r\ncookie: a=1; b=2; c=3\r\nx: y\r\nhost: any\r\nhost2: z\r\n\r\n");
}

static void crumbs_are_bounded(void **state UNUSED)
{
	enum http1_result r = FIELDS(USUAL);
	int n = 0;

	while (r == HTTP1_DONE && n++ < 3000)
		r = FIELDS("cookie", "a");
	assert_int_equal(r, HTTP1_LONG_HEAD);
	assert_int_equal(n, H2_CRUMBS_MAX + 2);
}

static void a_host_beside_authority_must_be_the_same(void **state UNUSED)
{
	assert_int_equal(FIELDS(USUAL, "host", "ANY"), HTTP1_DONE);
	made(true, "GET / HTTP/1.1\r\nHost: any\r\n\r\n");
	fresh(NULL);
	assert_int_equal(FIELDS(USUAL, "host", "other"), HTTP1_BAD);
	assert_string_equal(head.why, "Host is not :authority");
}

static void a_websocket_becomes_an_upgrade(void **state UNUSED)
{
	assert_int_equal(FIELDS(":method", "CONNECT", ":protocol", "websocket", ":scheme", "https",
				":authority", "any", ":path", "/ws", "sec-websocket-version", "13",
				"sec-websocket-key", "theirs"),
			 HTTP1_DONE);
	assert_true(h2_head_is_tunnel(&head));
	made(false, "GET /ws HTTP/1.1\r\nHost: any\r\nsec-websocket-version: 13\r\n"
		    "Connection: upgrade\r\nUpgrade: websocket\r\n"
		    "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n");
	fresh(NULL);
	assert_int_equal(FIELDS(":method", "CONNECT", ":protocol", "websocket", ":scheme", "https",
				":authority", "any", ":path", "/ws", "content-length", "0"),
			 HTTP1_DONE);
	assert_int_equal(h2_head_end(&head, false, key), HTTP1_BAD);
}

static void plain_connect_keeps_its_form(void **state UNUSED)
{
	assert_int_equal(FIELDS(":method", "CONNECT", ":authority", "any:443"), HTTP1_DONE);
	made(false, "CONNECT any:443 HTTP/1.1\r\nHost: any:443\r\n\r\n");
}

static void trailers_stand_behind_the_last_chunk(void **state UNUSED)
{
	h2_head_begin(&head, memory, sizeof(memory), HTTP1_TRAILER_MAX, H2_HEAD_TRAILER);
	assert_int_equal(FIELDS("x-sum", "1"), HTTP1_DONE);
	made(true, "0\r\nx-sum: 1\r\n\r\n");
	h2_head_begin(&head, memory, sizeof(memory), HTTP1_TRAILER_MAX, H2_HEAD_TRAILER);
	assert_int_equal(FIELDS(":path", "/"), HTTP1_BAD);
	h2_head_begin(&head, memory, sizeof(memory), HTTP1_TRAILER_MAX, H2_HEAD_TRAILER);
	assert_int_equal(FIELDS("connection", "close"), HTTP1_BAD);
}

static void what_could_mean_something_else_is_refused(void **state UNUSED)
{
	static const char *const wrong[][16] = {
		{USUAL, "X-A", "1"},
		{USUAL, "x a", "1"},
		{USUAL, "x:a", "1"},
		{USUAL, "x\r\na", "1"},
		{USUAL, "", "1"},
		{USUAL, "x", "1\r\ny: 2"},
		{USUAL, "x", "1\n2"},
		{USUAL, "x", "\x01"},
		{USUAL, "x", "\x7f"},
		{USUAL, "x", " 1"},
		{USUAL, "x", "1\t"},
		{USUAL, "connection", "close"},
		{USUAL, "keep-alive", "1"},
		{USUAL, "proxy-connection", "close"},
		{USUAL, "transfer-encoding", "chunked"},
		{USUAL, "upgrade", "websocket"},
		{USUAL, "te", "gzip"},
		{USUAL, "te", "trailers, gzip"},
		{USUAL, "x", "1", ":path", "/"},
		{USUAL, ":path", "/"},
		{USUAL, ":authority", "any"},
		{USUAL, ":status", "200"},
		{USUAL, ":", "200"},
		{":method", "GET", ":scheme", "http", "x", "1"},
		{":scheme", "http", ":path", "/", "x", "1"},
		{":method", "GET", ":path", "/", "x", "1"},
		{":method", "", ":path", "/"},
		{":method", "GE T"},
		{":method", "GET\r\n"},
		{":scheme", "ftp"},
		{":scheme", ""},
		{":path", ""},
		{":path", "a"},
		{":path", "http://any/"},
		{":path", "/ HTTP/1.1"},
		{":path", "/\r\nx: y"},
		{":path", "/a#b"},
		{":path", "/\xc3\xa4"},
		{":authority", ""},
		{":authority", "a b"},
		{":authority", "a\r\nx: y"},
		{":protocol", "tcp"},
		{":method", "GET", ":protocol", "websocket", ":scheme", "http", ":path", "/", ":authority",
		 "any", "x", "1"},
		{":method", "CONNECT", ":protocol", "websocket", ":authority", "any", "x", "1"},
		{":method", "CONNECT", ":scheme", "http", ":path", "/", ":authority", "any", "x", "1"},
		{":method", "CONNECT", "x", "1"},
	};

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		fresh(NULL);
		if (fields(wrong[i]) != HTTP1_BAD)
			fail_msg("row %zu was taken", i);
		assert_non_null(head.why);
	}
}

static void a_nul_byte_is_refused(void **state UNUSED)
{
	assert_int_equal(FIELDS(USUAL), HTTP1_DONE);
	assert_int_equal(h2_head_field(&head, slice("x"), (struct http1_slice){"a\0b", 3}), HTTP1_BAD);
	assert_int_equal(h2_head_field(&head, (struct http1_slice){"a\0b", 3}, slice("x")), HTTP1_BAD);
}

static void what_is_too_long_is_refused(void **state UNUSED)
{
	static char path[20000];

	memset(path, 'a', sizeof(path) - 1);
	path[0] = '/';
	assert_int_equal(FIELDS(":path", path), HTTP1_LONG_LINE);
	fresh(NULL);
	path[0] = 'a';
	assert_int_equal(FIELDS(":authority", path), HTTP1_LONG_HEAD);
	fresh(NULL);
	assert_int_equal(FIELDS(USUAL, "x", path), HTTP1_LONG_HEAD);
}

/* --- answers --- */

static void answer(bool to_head)
{
	h2_head_begin(&head, memory, sizeof(memory), 16384, H2_HEAD_ANSWER);
	head.to_head = to_head;
}

static void an_answer_gets_a_status_line_and_a_framing(void **state UNUSED)
{
	answer(false);
	assert_int_equal(FIELDS(":status", "200", "x-a", "1", "te", "any", "host", "h"), HTTP1_DONE);
	made(false, "HTTP/1.1 200 OK\r\nx-a: 1\r\nte: any\r\nhost: h\r\ntransfer-encoding: chunked\r\n\r\n");
	assert_true(head.chunked);
	answer(false);
	assert_int_equal(FIELDS(":status", "599", "content-length", "5"), HTTP1_DONE);
	made(false, "HTTP/1.1 599 \r\ncontent-length: 5\r\n\r\n");
	assert_false(head.chunked);
	answer(false); /* what is over may not look as if it went on to the connection's end */
	assert_int_equal(FIELDS(":status", "200", "grpc-status", "5"), HTTP1_DONE);
	made(true, "HTTP/1.1 200 OK\r\ngrpc-status: 5\r\ncontent-length: 0\r\n\r\n");
}

static void an_answer_without_a_body_is_told_none(void **state UNUSED)
{
	static const char *const status[] = {"103", "204", "304"};

	for (size_t i = 0; i < ARRAY_LEN(status); i++) {
		answer(false);
		assert_int_equal(FIELDS(":status", status[i]), HTTP1_DONE);
		assert_int_equal(h2_head_end(&head, false, NULL), HTTP1_DONE);
		assert_false(head.chunked);
		assert_null(memmem(head.p, head.len, "transfer", 8));
	}
	answer(true);
	assert_int_equal(FIELDS(":status", "200"), HTTP1_DONE);
	made(false, "HTTP/1.1 200 OK\r\n\r\n");
	answer(true);
	assert_int_equal(FIELDS(":status", "200", "content-length", "7"), HTTP1_DONE);
	made(true, "HTTP/1.1 200 OK\r\ncontent-length: 7\r\n\r\n");
}

static void answers_that_are_none_are_refused(void **state UNUSED)
{
	static const char *const wrong[][4] = {
		{":status", "20"},   {":status", "2000"}, {":status", "2x0"},	  {":status", "x20"},
		{":status", "099"},  {":status", "600"},  {":status", "101"},	  {":status", ""},
		{":path", "/"},	     {"x", "1"},	  {":status", "200", ":status", "200"},
		{"x", "1", ":status", "200"},		  {":status", "200", "connection", "x"},
		{":status", "200", "transfer-encoding", "chunked"},		  {":status", "200", "X", "y"},
		{":status", "200", "a", "b\r\nc"},	  {":status", "200", ":method", "GET"},
	};

	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		enum http1_result r;

		answer(false);
		r = h2_head_field(&head, slice(wrong[i][0]), slice(wrong[i][1]));
		if (r == HTTP1_DONE && wrong[i][2])
			r = h2_head_field(&head, slice(wrong[i][2]), slice(wrong[i][3]));
		assert_int_equal(r, HTTP1_BAD);
	}
	answer(false);
	assert_int_equal(h2_head_end(&head, true, NULL), HTTP1_BAD);
	answer(false);
	assert_int_equal(FIELDS(":status", "103"), HTTP1_DONE);
	assert_int_equal(h2_head_end(&head, true, NULL), HTTP1_BAD);
	answer(false);
	assert_int_equal(FIELDS(":status", "200", "content-length", "5"), HTTP1_DONE);
	assert_int_equal(h2_head_end(&head, true, NULL), HTTP1_BAD);
}

/* Whatever room is given at first, and wherever it moves to, the text is the same. */
static void it_grows_at_any_byte(void **state UNUSED)
{
	static const char *const f[] = {USUAL, "x-a", "1", "cookie", "a", "te", "trailers", "cookie",
					"b", "host", "any", NULL};
	static char rooms[2][4096];
	char want[4096];
	uint32_t want_len;

	assert_int_equal(fields(f), HTTP1_DONE);
	assert_int_equal(h2_head_end(&head, false, key), HTTP1_DONE);
	want_len = head.len - head.start;
	memcpy(want, head.p + head.start, want_len);
	for (uint32_t cap = 1; cap < 600; cap++) {
		enum http1_result r = HTTP1_DONE;
		int at = 0, room = 0;

		h2_head_begin(&head, rooms[0], cap, 16384, H2_HEAD_REQUEST);
		while (at >= 0) {
			r = f[at] ? h2_head_field(&head, slice(f[at]), slice(f[at + 1]))
				  : h2_head_end(&head, false, key);
			if (r == HTTP1_MORE) {
				room = !room;
				memcpy(rooms[room], head.p, head.len);
				head.p = rooms[room];
				head.cap += 7;
				continue;
			}
			assert_int_equal(r, HTTP1_DONE);
			at = f[at] ? at + 2 : -1;
		}
		assert_int_equal(head.len - head.start, want_len);
		assert_memory_equal(head.p + head.start, want, want_len);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_answer_gets_a_status_line_and_a_framing),
		cmocka_unit_test(an_answer_without_a_body_is_told_none),
		cmocka_unit_test(answers_that_are_none_are_refused),
		cmocka_unit_test_setup(pseudo_fields_become_the_first_lines, fresh),
		cmocka_unit_test_setup(a_body_without_a_length_is_chunked, fresh),
		cmocka_unit_test_setup(a_length_without_a_body_is_refused, fresh),
		cmocka_unit_test_setup(te_is_said_with_connection, fresh),
		cmocka_unit_test_setup(crumbs_are_joined_wherever_they_stand, fresh),
		cmocka_unit_test_setup(crumbs_are_bounded, fresh),
		cmocka_unit_test_setup(a_host_beside_authority_must_be_the_same, fresh),
		cmocka_unit_test_setup(a_websocket_becomes_an_upgrade, fresh),
		cmocka_unit_test_setup(plain_connect_keeps_its_form, fresh),
		cmocka_unit_test_setup(trailers_stand_behind_the_last_chunk, fresh),
		cmocka_unit_test_setup(what_could_mean_something_else_is_refused, fresh),
		cmocka_unit_test_setup(a_nul_byte_is_refused, fresh),
		cmocka_unit_test_setup(what_is_too_long_is_refused, fresh),
		cmocka_unit_test_setup(it_grows_at_any_byte, fresh),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
