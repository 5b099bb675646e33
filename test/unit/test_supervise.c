/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "core/supervise.h"

static struct supervise s;
static uint64_t now;

/* Starts, runs for ran_ms, ends; returns the pause. */
static uint64_t run(const struct supervise_rule *rule, uint64_t ran_ms, uint32_t random)
{
	supervise_started(&s, now);
	now += ran_ms;
	return supervise_ended(&s, rule, random, now);
}

static int fresh(void **state UNUSED)
{
	s = (struct supervise){0};
	now = 5000;
	return 0;
}

static void pauses_double_up_to_the_ceiling_and_stay_there(void **state UNUSED)
{
	uint64_t want = 1000;

	for (int i = 0; i < 200; i++) {
		assert_int_equal(run(&supervise_instance, 10, 0), want);
		want = MIN(want * 2, 300000);
	}
}

static void jitter_takes_a_quarter_at_most_and_never_all(void **state UNUSED)
{
	for (int i = 0; i < 20; i++) {
		struct supervise before = s;
		uint64_t longest = run(&supervise_instance, 10, 0), shortest;

		s = before;
		shortest = run(&supervise_instance, 10, UINT32_MAX);
		assert_in_range(shortest, longest - longest / 4, longest - 1);
	}
}

static void a_healthy_spell_is_answered_at_once_and_starts_over(void **state UNUSED)
{
	for (int i = 0; i < 5; i++)
		run(&supervise_instance, 10, 0);
	assert_int_equal(run(&supervise_instance, 60000, 0), 0);
	assert_int_equal(run(&supervise_instance, 59999, 0), 1000);
}

static void parts_have_three_ends_free_then_short_pauses(void **state UNUSED)
{
	static const uint64_t want[] = {0, 0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000};

	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		assert_int_equal(run(&supervise_part, 999, 0), want[i]);
	assert_int_equal(run(&supervise_part, 1000, 0), 0);
	assert_int_equal(run(&supervise_part, 0, 0), 0);
}

static void it_never_gives_up(void **state UNUSED)
{
	s.quick_ends = UINT32_MAX - 1;
	assert_int_equal(run(&supervise_instance, 0, 0), 300000);
	assert_int_equal(run(&supervise_instance, 0, 0), 300000);
	assert_int_equal(s.quick_ends, UINT32_MAX);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(pauses_double_up_to_the_ceiling_and_stay_there, fresh),
		cmocka_unit_test_setup(jitter_takes_a_quarter_at_most_and_never_all, fresh),
		cmocka_unit_test_setup(a_healthy_spell_is_answered_at_once_and_starts_over, fresh),
		cmocka_unit_test_setup(parts_have_three_ends_free_then_short_pauses, fresh),
		cmocka_unit_test_setup(it_never_gives_up, fresh),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
