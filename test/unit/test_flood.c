/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "core/flood.h"

static const uint32_t at_once[] = {
#define X(name, n, a_second, what) n,
	FLOOD_TABLE(X)
#undef X
}, a_second[] = {
#define X(name, at_once, n, what) n,
	FLOOD_TABLE(X)
#undef X
};

static struct flood f;

static int fresh(void **state UNUSED)
{
	f = (struct flood){.at_ms = 1000};
	return 0;
}

static uint32_t until_full(enum flood_kind k, uint64_t now)
{
	uint32_t n = 0;

	while (flood_note(&f, k, now))
		n++;
	return n;
}

static void each_kind_has_its_own_bound(void **state UNUSED)
{
	for (int k = 0; k < FLOOD_COUNT; k++)
		assert_int_equal(until_full((enum flood_kind)k, 1000), at_once[k]);
}

static void what_leaked_may_come_again(void **state UNUSED)
{
	for (int k = 0; k < FLOOD_COUNT; k++) {
		fresh(NULL);
		until_full((enum flood_kind)k, 1000);
		assert_int_equal(until_full((enum flood_kind)k, 2000), a_second[k]);
		/* A millisecond at a time is no more and no less. */
		for (uint64_t now = 2001; now <= 4000; now++)
			until_full((enum flood_kind)k, now);
		assert_int_equal(until_full((enum flood_kind)k, 5000), a_second[k]);
		assert_int_equal(until_full((enum flood_kind)k, 1000000000), at_once[k]);
	}
}

static void the_allowed_rate_goes_on_for_ever(void **state UNUSED)
{
	for (int k = 0; k < FLOOD_COUNT; k++, fresh(NULL))
		for (uint64_t i = 0; i < 10000; i++)
			assert_true(flood_note(&f, (enum flood_kind)k, 1000 + (i * 1000 + a_second[k] - 1) / a_second[k]));
}

static void what_was_called_for_does_not_count(void **state UNUSED)
{
	for (int i = 0; i < 100000; i++) {
		assert_true(flood_note(&f, FLOOD_WINDOW, 1000));
		flood_credit(&f, FLOOD_WINDOW, 2);
	}
	assert_int_equal(until_full(FLOOD_WINDOW, 1000), at_once[FLOOD_WINDOW]);
}

static void a_clock_that_stands_or_goes_back_gives_nothing(void **state UNUSED)
{
	until_full(FLOOD_PING, 5000);
	assert_false(flood_note(&f, FLOOD_PING, 4000));
	assert_false(flood_note(&f, FLOOD_PING, 5000));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(each_kind_has_its_own_bound, fresh),
		cmocka_unit_test_setup(what_leaked_may_come_again, fresh),
		cmocka_unit_test_setup(the_allowed_rate_goes_on_for_ever, fresh),
		cmocka_unit_test_setup(what_was_called_for_does_not_count, fresh),
		cmocka_unit_test_setup(a_clock_that_stands_or_goes_back_gives_nothing, fresh),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
