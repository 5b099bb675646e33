/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "core/idle.h"

#define NOW 50000000ull

static void before_anything_is_known_a_second_is_sure(void **state UNUSED)
{
	assert_int_equal(idle_sure_ms(0), 1000);
	assert_true(idle_near_ms(0) == UINT64_MAX);
}

static void half_of_the_least_age_is_sure_and_its_last_eighth_is_near(void **state UNUSED)
{
	uint64_t w = idle_learn(0, 60001, NOW);

	assert_int_equal(idle_sure_ms(w), 30000);
	assert_int_equal(idle_near_ms(w), 52500);
	w = idle_learn(w, 4001, NOW);
	assert_int_equal(idle_sure_ms(w), 2000);
	w = idle_learn(w, 60001, NOW);
	assert_int_equal(idle_sure_ms(w), 2000);
}

static void one_that_ends_them_at_once_keeps_none(void **state UNUSED)
{
	for (uint64_t age = 0; age <= 2; age++) {
		uint64_t w = idle_learn(0, age, NOW);

		assert_true(w != 0); /* not the word for "nothing learned" */
		assert_int_equal(idle_sure_ms(w), 0);
	}
}

static void what_nothing_confirms_yields_in_the_end(void **state UNUSED)
{
	uint64_t w = idle_learn(0, 5, NOW), t = NOW;

	w = idle_learn(w, 60001, t += IDLE_FORGET_MS - 1000);
	assert_int_equal(idle_sure_ms(w), 2);
	w = idle_learn(w, 60001, t += 1000);
	assert_int_equal(idle_sure_ms(w), 30000);
	/* A fixed limit confirms itself, although no two ages are the same. */
	for (int i = 0; i < 50; i++)
		w = idle_learn(w, 60001 + (uint64_t)i * 10, t += IDLE_FORGET_MS / 2);
	assert_int_equal(idle_sure_ms(w), 30000);
}

static void ages_beyond_all_bounds_fit_in(void **state UNUSED)
{
	uint64_t w = idle_learn(0, UINT64_MAX, UINT64_MAX);

	assert_int_equal(idle_sure_ms(w), (UINT32_MAX - 1) / 2);
	w = idle_learn(w, 101, UINT64_MAX);
	assert_int_equal(idle_sure_ms(w), 50);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(before_anything_is_known_a_second_is_sure),
		cmocka_unit_test(half_of_the_least_age_is_sure_and_its_last_eighth_is_near),
		cmocka_unit_test(one_that_ends_them_at_once_keeps_none),
		cmocka_unit_test(what_nothing_confirms_yields_in_the_end),
		cmocka_unit_test(ages_beyond_all_bounds_fit_in),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
