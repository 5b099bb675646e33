/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "core/budget.h"

static struct budget b;
static uint64_t now, requests;

static int fresh(void **state UNUSED)
{
	b = (struct budget){0};
	now = 5000000;
	requests = 0;
	return 0;
}

/* A stretch of time in which every request that is sent wants `each` retries; how many it got. */
static uint32_t run(uint32_t ms, uint32_t per_ms, uint32_t each, uint32_t share, uint32_t least)
{
	uint32_t got = 0;

	for (uint32_t i = 0; i < ms; i++, now++) {
		requests += per_ms;
		for (uint32_t j = 0; j < per_ms * each; j++)
			got += budget_take(&b, share, least, requests, now);
	}
	return got;
}

static void retries_are_a_share_of_the_requests(void **state UNUSED)
{
	/* 60 s at 2000 a second, everything fails: 20 % of 120,000, and a little for the fading sum */
	assert_in_range(run(60000, 2, 1, 20, 0), 23000, 25000);
}

static void a_few_are_let_through_in_any_case(void **state UNUSED)
{
	for (int i = 0; i < 100; i++)
		assert_int_equal(budget_take(&b, 0, 100, 0, now), true);
	assert_false(budget_take(&b, 0, 100, 0, now));
	now += 1000;
	/* a tenth of the window later about a tenth is free again */
	for (int i = 0; i < 9; i++)
		assert_true(budget_take(&b, 0, 100, 0, now));
	assert_false(budget_take(&b, 0, 100, 0, now));
}

static void none_is_none(void **state UNUSED)
{
	assert_int_equal(run(1000, 10, 1, 0, 0), 0);
}

static void requests_of_long_ago_buy_nothing(void **state UNUSED)
{
	uint32_t got = 0;

	/* A million requests over a day of silence are 115 in any ten seconds. */
	budget_take(&b, 20, 0, 0, now);
	now += 86400000;
	for (int i = 0; i < 1000; i++)
		got += budget_take(&b, 20, 0, 1000000, now);
	assert_in_range(got, 20, 24);
}

static void a_burst_may_be_tried_again_when_the_load_was_high(void **state UNUSED)
{
	uint32_t got = 0;

	run(20000, 1, 0, 20, 0);
	for (int i = 0; i < 5000; i++)
		got += budget_take(&b, 20, 0, requests, now);
	assert_in_range(got, 1000, 3000); /* about ten seconds' worth */
}

static void no_number_is_too_large(void **state UNUSED)
{
	assert_true(budget_take(&b, 100, UINT32_MAX, UINT64_MAX, now));
	now = UINT64_MAX;
	assert_true(budget_take(&b, 100, UINT32_MAX, 0, now));
	assert_true(budget_take(&b, 100, 1, UINT64_MAX, now));
}

int main(void)
{
#define T(name) cmocka_unit_test_setup(name, fresh)
	const struct CMUnitTest tests[] = {
		T(retries_are_a_share_of_the_requests),
		T(a_few_are_let_through_in_any_case),
		T(none_is_none),
		T(requests_of_long_ago_buy_nothing),
		T(a_burst_may_be_tried_again_when_the_load_was_high),
		T(no_number_is_too_large),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
