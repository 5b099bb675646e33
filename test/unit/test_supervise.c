/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "core/supervise.h"

/* Ends `times` times in a row, each at once after its start; returns the last pause. */
static uint64_t crash(struct supervise *s, const struct supervise_rule *rule, uint32_t random,
		      int times)
{
	uint64_t pause = 0;

	for (int i = 0; i < times; i++) {
		supervise_started(s, 1000);
		pause = supervise_ended(s, rule, random, 1001);
	}
	return pause;
}

static void the_pause_of_an_instance_doubles_from_1_s_to_5_min(void **state)
{
	const uint64_t want[] = {1000,	2000,	4000,	8000,	16000, 32000,
				 64000, 128000, 256000, 300000, 300000};
	struct supervise s = {0};

	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		assert_int_equal(crash(&s, &supervise_instance, 0, 1), want[i]);
}

static void it_never_gives_up_and_never_overflows(void **state)
{
	struct supervise s = {.quick_ends = UINT32_MAX - 2};

	for (int i = 0; i < 5; i++)
		assert_int_equal(crash(&s, &supervise_instance, 0, 1), 300000);
	assert_int_equal(s.quick_ends, UINT32_MAX);
}

static void jitter_takes_away_up_to_a_quarter(void **state)
{
	struct supervise s = {0};

	assert_int_equal(crash(&s, &supervise_instance, 0x8000, 1), 1000 - 125);
	s = (struct supervise){0};
	assert_int_equal(crash(&s, &supervise_instance, 0xffff, 1), 1000 - 249);
	s = (struct supervise){0};
	assert_int_equal(crash(&s, &supervise_instance, 0xffff0000, 1), 1000); /* low bits count */
}

static void a_healthy_spell_starts_over_and_its_end_is_answered_at_once(void **state)
{
	struct supervise s = {0};

	crash(&s, &supervise_instance, 0, 5);
	supervise_started(&s, 5000);
	assert_int_equal(supervise_ended(&s, &supervise_instance, 0, 5000 + 59999), 32000);
	supervise_started(&s, 5000);
	assert_int_equal(supervise_ended(&s, &supervise_instance, 0, 5000 + 60000), 0);
	assert_int_equal(crash(&s, &supervise_instance, 0, 1), 1000);
}

static void a_part_is_started_at_once_three_times_then_from_100_ms_to_5_s(void **state)
{
	const uint64_t want[] = {0, 0, 0, 100, 200, 400, 800, 1600, 3200, 5000, 5000};
	struct supervise s = {0};

	for (size_t i = 0; i < ARRAY_LEN(want); i++)
		assert_int_equal(crash(&s, &supervise_part, 0, 1), want[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_pause_of_an_instance_doubles_from_1_s_to_5_min),
	    cmocka_unit_test(it_never_gives_up_and_never_overflows),
	    cmocka_unit_test(jitter_takes_away_up_to_a_quarter),
	    cmocka_unit_test(a_healthy_spell_starts_over_and_its_end_is_answered_at_once),
	    cmocka_unit_test(a_part_is_started_at_once_three_times_then_from_100_ms_to_5_s),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
