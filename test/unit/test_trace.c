/* SPDX-License-Identifier: Apache-2.0
 *
 * Each rule of W3C Trace Context for traceparent (3.2.2 and 4.3), at its edge.
 */
#include "unit.h"

#include "wire/trace.h"

#define ID "0af7651916cd43dd8448eb211c80319c"
#define PARENT "b7ad6b7169203331"

static struct trace trace;

static bool valid(const char *text)
{
	return trace_parse(text, strlen(text), &trace);
}

static void what_the_specification_shows_is_read(void **state UNUSED)
{
	assert_true(valid("00-" ID "-" PARENT "-01"));
	assert_memory_equal(trace.id, ID, TRACE_ID);
	assert_int_equal(trace.flags, TRACE_SAMPLED);
	assert_true(valid("00-" ID "-" PARENT "-00"));
	assert_int_equal(trace.flags, 0);
}

static void flags_that_nobody_knows_yet_are_taken_off(void **state UNUSED)
{
	assert_true(valid("00-" ID "-" PARENT "-ff"));
	assert_int_equal(trace.flags, TRACE_SAMPLED | TRACE_RANDOM);
	assert_true(valid("00-" ID "-" PARENT "-f8"));
	assert_int_equal(trace.flags, 0);
}

static void ids_of_zeros_are_none(void **state UNUSED)
{
	assert_false(valid("00-00000000000000000000000000000000-" PARENT "-01"));
	assert_false(valid("00-" ID "-0000000000000000-01"));
	assert_true(valid("00-00000000000000000000000000000001-0000000000000001-01"));
	assert_true(valid("00-10000000000000000000000000000000-1000000000000000-01"));
}

static void every_byte_stands_where_it_must(void **state UNUSED)
{
	static const char good[] = "00-" ID "-" PARENT "-01", wrong[] = {'A', 'F', 'g', '-', ' ', '\0', '/', ':', '`'};
	char text[sizeof(good)];

	for (size_t i = 0; i < TRACE_PARENT; i++) {
		for (size_t j = 0; j < sizeof(wrong); j++) {
			memcpy(text, good, sizeof(good));
			if (text[i] == wrong[j])
				continue;
			text[i] = wrong[j];
			assert_false(trace_parse(text, TRACE_PARENT, &trace));
		}
		assert_false(trace_parse(good, i, &trace)); /* cut short */
	}
}

static void version_00_has_one_length_and_later_ones_may_have_more(void **state UNUSED)
{
	assert_false(valid("00-" ID "-" PARENT "-01-"));
	assert_false(valid("00-" ID "-" PARENT "-01-what-comes"));
	assert_false(valid("00-" ID "-" PARENT "-010"));
	assert_true(valid("01-" ID "-" PARENT "-01"));
	assert_true(valid("cc-" ID "-" PARENT "-01-what-comes"));
	assert_memory_equal(trace.id, ID, TRACE_ID);
	assert_true(valid("fe-" ID "-" PARENT "-01-"));
	assert_false(valid("cc-" ID "-" PARENT "-01.what-comes"));
	assert_false(valid("cc-" ID "-" PARENT "-010"));
	assert_false(valid("ff-" ID "-" PARENT "-01"));
	assert_false(valid("0-" ID "-" PARENT "-01"));
}

static void what_is_written_is_read_again(void **state UNUSED)
{
	char text[TRACE_PARENT + 1] = "";
	uint64_t parents[] = {1, 0x0123456789abcdef, UINT64_MAX, 0x8000000000000000, 0xa5f0};

	for (size_t i = 0; i < ARRAY_LEN(parents); i++) {
		assert_ptr_equal(trace_write(text, ID, parents[i], 0xff), text + TRACE_PARENT);
		assert_true(valid(text));
		assert_memory_equal(trace.id, ID, TRACE_ID);
		assert_int_equal(trace.flags, 3);
	}
	trace_write(text, ID, UINT64_MAX, TRACE_SAMPLED);
	assert_string_equal(text, "00-" ID "-ffffffffffffffff-01");
}

static void hexadecimal_digits_are_all_there(void **state UNUSED)
{
	char text[17] = "";
	uint32_t seen = 0;

	trace_hex(text, 0x0123456789abcdef);
	for (int i = 0; i < 16; i++)
		seen |= 1u << (text[i] <= '9' ? text[i] - '0' : text[i] - 'a' + 10);
	assert_int_equal(seen, 0xffff);
	assert_int_equal(strspn(text, "0123456789abcdef"), 16);
	trace_hex(text, 0);
	assert_string_equal(text, "0000000000000000");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_the_specification_shows_is_read),
		cmocka_unit_test(flags_that_nobody_knows_yet_are_taken_off),
		cmocka_unit_test(ids_of_zeros_are_none),
		cmocka_unit_test(every_byte_stands_where_it_must),
		cmocka_unit_test(version_00_has_one_length_and_later_ones_may_have_more),
		cmocka_unit_test(what_is_written_is_read_again),
		cmocka_unit_test(hexadecimal_digits_are_all_there),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
