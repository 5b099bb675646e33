/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <arpa/inet.h>

#include "wire/proxy.h"

static struct proxy_ends ends;
static size_t took;
static const char *why;

/* A copy that ends where the input ends, so that the sanitizer sees a read past it. */
static enum proxy_result parse_n(const char *p, size_t len)
{
	static char *copy;

	free(copy);
	copy = util_alloc(len);
	memcpy(copy, p, len);
	why = NULL;
	return proxy_parse(copy, len, &ends, &took, &why);
}

static void from_is(const char *addr, uint16_t port)
{
	char text[INET6_ADDRSTRLEN];

	assert_true(ends.known);
	assert_non_null(inet_ntop(AF_INET6, ends.from, text, sizeof(text)));
	assert_string_equal(text, addr);
	assert_int_equal(ends.from_port, port);
}

#define V2 "\r\n\r\n\0\r\nQUIT\n"
#define FOUR "\xc0\0\2\1\xc6\x33\x64\2\x04\xd2\0\x50"
#define SIX "\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\1\x20\1\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\2\x04\xd2\0\x50"
#define PARSE(text) parse_n(text, sizeof(text) - 1)

static void lines_are_read(void **state UNUSED)
{
	assert_int_equal(PARSE("PROXY TCP4 192.0.2.1 198.51.100.2 1234 80\r\nGET / "), PROXY_DONE);
	assert_int_equal(took, 43);
	from_is("::ffff:192.0.2.1", 1234);
	assert_int_equal(ends.to_port, 80);
	assert_int_equal(PARSE("PROXY TCP6 2001:db8::1 2001:db8::2 65535 0\r\n"), PROXY_DONE);
	from_is("2001:db8::1", 65535);
	assert_int_equal(PARSE("PROXY UNKNOWN\r\n"), PROXY_DONE);
	assert_false(ends.known);
	assert_int_equal(PARSE("PROXY UNKNOWN ffff:: x y whatever\r\n"), PROXY_DONE);
	assert_false(ends.known);
}

static void malformed_lines_are_refused(void **state UNUSED)
{
	static const char *const bad[] = {
		"GET / HTTP/1.1\r\n",
		"PROXX",
		"proxy TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
		"PROXY  TCP4 1.1.1.1 2.2.2.2 1 2\r\n",
		"PROXY TCP4  1.1.1.1 2.2.2.2 1 2\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1 2 \r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 01 2\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1 65536\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1 -2\r\n",
		"PROXY TCP4 1.1.1.01 2.2.2.2 1 2\r\n",
		"PROXY TCP4 ::1 ::2 1 2\r\n",
		"PROXY TCP6 1.1.1.1 2.2.2.2 1 2\r\n",
		"PROXY UDP4 1.1.1.1 2.2.2.2 1 2\r\n",
		"PROXY UNKNOWNS\r\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1 2\n",
		"PROXY TCP4 1.1.1.1 2.2.2.2 1\r2\r\n",
		"PROXY \n",
		"PROXY \r\n",
	};
	char longest[120] = "PROXY UNKNOWN ";

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		if (parse_n(bad[i], strlen(bad[i])) != PROXY_BAD || !why)
			fail_msg("was taken: %s", bad[i]);
	assert_int_equal(PARSE("PROXY TCP4 1.1.1.1\0 2.2.2.2 1 2\r\n"), PROXY_BAD);
	memset(longest + 14, 'x', sizeof(longest) - 14);
	assert_int_equal(parse_n(longest, 106), PROXY_MORE);
	assert_int_equal(parse_n(longest, 107), PROXY_BAD);
	memcpy(longest + 105, "\r\n", 2);
	assert_int_equal(parse_n(longest, 107), PROXY_DONE);
}

static void binary_headers_are_read(void **state UNUSED)
{
	assert_int_equal(PARSE(V2 "\x21\x11\0\x0c" FOUR "GET"), PROXY_DONE);
	assert_int_equal(took, 28);
	from_is("::ffff:192.0.2.1", 1234);
	assert_int_equal(PARSE(V2 "\x21\x21\0\x24" SIX), PROXY_DONE);
	from_is("2001:db8::1", 1234);
	assert_int_equal(ends.to_port, 80);
	/* TLVs are passed over. */
	assert_int_equal(PARSE(V2 "\x21\x11\0\x11" FOUR "\3\0\2ab" "G"), PROXY_DONE);
	assert_int_equal(took, 33);
	from_is("::ffff:192.0.2.1", 1234);
}

static void what_is_not_a_known_connection_keeps_its_own_ends(void **state UNUSED)
{
	char text[16 + 216] = V2 "\x21\x31\0\xd8";

	assert_int_equal(PARSE(V2 "\x20\0\0\0"), PROXY_DONE); /* LOCAL */
	assert_false(ends.known);
	assert_int_equal(took, 16);
	assert_int_equal(PARSE(V2 "\x20\x11\0\x0c" FOUR), PROXY_DONE);
	assert_false(ends.known);
	assert_int_equal(PARSE(V2 "\x21\0\0\2xx"), PROXY_DONE); /* UNSPEC */
	assert_false(ends.known);
	assert_int_equal(PARSE(V2 "\x21\x12\0\x0c" FOUR), PROXY_DONE); /* UDP */
	assert_false(ends.known);
	assert_int_equal(PARSE(V2 "\x21\xf1\0\0"), PROXY_DONE); /* no family that there is */
	assert_false(ends.known);
	assert_int_equal(parse_n(text, sizeof(text)), PROXY_DONE); /* a unix socket */
	assert_false(ends.known);
}

static void malformed_binary_headers_are_refused(void **state UNUSED)
{
	assert_int_equal(PARSE(V2 "\x11\x11\0\x0c" FOUR), PROXY_BAD);
	assert_int_equal(PARSE(V2 "\x22\x11\0\x0c" FOUR), PROXY_BAD);
	assert_int_equal(PARSE(V2 "\x21\x11\0\x0b" FOUR), PROXY_BAD);
	assert_int_equal(PARSE(V2 "\x21\x21\0\x0c" FOUR), PROXY_BAD);
	assert_int_equal(PARSE(V2 "\x21\x31\0\xd7"), PROXY_BAD);
	assert_int_equal(PARSE(V2 "\x21\x11\xff\xff" FOUR), PROXY_BAD);
	assert_int_equal(PARSE("\r\n\r\n\0\r\nQUIX"), PROXY_BAD);
	assert_non_null(why);
}

static void a_header_may_come_byte_by_byte(void **state UNUSED)
{
	static const char line[] = "PROXY TCP4 192.0.2.1 198.51.100.2 1234 80\r\n";
	static const char binary[] = V2 "\x21\x11\0\x0e" FOUR "ab";

	for (size_t n = 0; n < sizeof(line) - 1; n++)
		assert_int_equal(parse_n(line, n), PROXY_MORE);
	assert_int_equal(PARSE(line), PROXY_DONE);
	for (size_t n = 0; n < sizeof(binary) - 1; n++)
		assert_int_equal(parse_n(binary, n), PROXY_MORE);
	assert_int_equal(PARSE(binary), PROXY_DONE);
}

static void what_is_written_is_read_again(void **state UNUSED)
{
	static const char *const addrs[] = {"::ffff:192.0.2.1", "2001:db8::1",
					    "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", "::"};
	char text[PROXY_FORMAT_MAX];

	for (enum proxy_version v = PROXY_V1; v <= PROXY_V2; v++) {
		struct proxy_ends no = {0};

		for (size_t i = 0; i < ARRAY_LEN(addrs) * ARRAY_LEN(addrs); i++) {
			struct proxy_ends in = {.known = true, .from_port = 65535, .to_port = 1};
			size_t n;

			inet_pton(AF_INET6, addrs[i / ARRAY_LEN(addrs)], in.from);
			inet_pton(AF_INET6, addrs[i % ARRAY_LEN(addrs)], in.to);
			n = proxy_format(v, &in, text);
			assert_int_equal(parse_n(text, n), PROXY_DONE);
			assert_int_equal(took, n);
			assert_memory_equal(ends.from, in.from, 16);
			assert_memory_equal(ends.to, in.to, 16);
			assert_int_equal(ends.from_port, 65535);
			assert_int_equal(ends.to_port, 1);
		}
		assert_int_equal(parse_n(text, proxy_format(v, &no, text)), PROXY_DONE);
		assert_false(ends.known);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(lines_are_read),
		cmocka_unit_test(malformed_lines_are_refused),
		cmocka_unit_test(binary_headers_are_read),
		cmocka_unit_test(what_is_not_a_known_connection_keeps_its_own_ends),
		cmocka_unit_test(malformed_binary_headers_are_refused),
		cmocka_unit_test(a_header_may_come_byte_by_byte),
		cmocka_unit_test(what_is_written_is_read_again),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
