/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/buf.h"
#include "base/clock.h"
#include "base/err.h"
#include "base/map.h"

static void errors_gather_context_on_their_way_up(void **state UNUSED)
{
	struct err e = {0};

	assert_int_equal(err_set(&e, ERR_INPUT, "no %s", "bread"), -ERR_INPUT);
	assert_int_equal(err_wrap(&e, "breakfast"), -ERR_INPUT);
	assert_string_equal(e.msg, "breakfast: no bread");
	assert_int_equal(err_exit_status(e.code), 2);
}

static void buffer_stops_at_its_bound_and_remembers(void **state UNUSED)
{
	struct buf b = {.max = 10};

	buf_adds(&b, "12345");
	buf_addf(&b, "%d", 678);
	assert_string_equal(buf_str(&b), "12345678");
	buf_adds(&b, "abc");
	assert_true(b.failed);
	assert_int_equal(b.len, 8);
	buf_free(&b);
}

static void map_keeps_what_is_put_through_growth_and_deletion(void **state UNUSED)
{
	struct map m = {0};
	static char values[5000];

	for (uint64_t i = 0; i < 5000; i++)
		map_put(&m, i * 1000, &values[i]);
	for (uint64_t i = 0; i < 5000; i += 2)
		assert_ptr_equal(map_del(&m, i * 1000), &values[i]);
	for (uint64_t i = 0; i < 5000; i++)
		assert_ptr_equal(map_get(&m, i * 1000), i % 2 ? &values[i] : NULL);
	assert_int_equal(m.len, 2500);
	map_free(&m);
}

static void times_read_back_as_written(void **state UNUSED)
{
	char text[CLOCK_TEXT];
	uint64_t ms;

	assert_string_equal(clock_text(1795311555123, text), "2026-11-22T01:39:15.123Z");
	assert_true(clock_parse(text, &ms));
	assert_int_equal(ms, 1795311555123);
	assert_true(clock_parse("2026-11-22T02:39:15+01:00", &ms));
	assert_int_equal(ms, 1795311555000);
	assert_true(clock_parse("2026-11-22", &ms));
	assert_false(clock_parse("2026-11-22T01:39:15.123Zx", &ms));
	assert_false(clock_parse("yesterday", &ms));
}

static void texts_that_were_cut_end_at_a_whole_character(void **state UNUSED)
{
	char text[8];

	util_text(text, sizeof(text), "aaaaaa語");
	assert_string_equal(text, "aaaaaa");
	util_text(text, sizeof(text), "aaaa語");
	assert_string_equal(text, "aaaa語");
	util_text(text, sizeof(text), "a\xffz\xe8\xaa");
	assert_string_equal(text, "a?z");
	util_text(text, sizeof(text), "\xed\xa0\x80!"); /* a surrogate */
	assert_string_equal(text, "??" "?!");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(errors_gather_context_on_their_way_up),
		cmocka_unit_test(buffer_stops_at_its_bound_and_remembers),
		cmocka_unit_test(map_keeps_what_is_put_through_growth_and_deletion),
		cmocka_unit_test(times_read_back_as_written),
		cmocka_unit_test(texts_that_were_cut_end_at_a_whole_character),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
