/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "core/eject.h"
#include "core/silence.h"

#define N 6

static const struct eject_rules rules = {.failures = 5, .errors = 50, .server_errors = 50,
					 .latency = 5, .latency_least_ms = 500, .requests = 20,
					 .window_ms = 10000, .time_ms = 1000, .most_ms = 8000,
					 .silent_ms = 250};
static struct eject e[N];
static struct eject_seen seen[N];
static struct eject_numbers numbers[N];
static uint64_t now;
static uint32_t value;

static int fresh(void **state UNUSED)
{
	now = 1000000;
	for (int i = 0; i < N; i++) {
		e[i] = (struct eject){0};
		numbers[i] = (struct eject_numbers){0};
		seen[i] = (struct eject_seen){.use = USE_SERVE, .health = HEALTH_UP, .e = &e[i]};
		eject_count(&e[i].window, &numbers[i], rules.window_ms, now);
	}
	return 0;
}

static void serve(int i, struct eject_numbers more)
{
	numbers[i].tries += more.tries;
	numbers[i].failed += more.failed;
	numbers[i].server_errors += more.server_errors;
	numbers[i].answers += more.answers;
	numbers[i].answers_us += more.answers_us;
	eject_count(&e[i].window, &numbers[i], rules.window_ms, now);
}

static enum eject_cause judge(uint32_t n, uint32_t i)
{
	return eject_judge(&rules, seen, n, i, now, &value);
}

/* --- what speaks against a target --- */

static void a_row_of_failures_opens_the_circuit(void **state UNUSED)
{
	seen[0].streak = 4;
	assert_int_equal(judge(3, 0), EJECT_NO);
	seen[0].streak = 5;
	assert_int_equal(judge(3, 0), EJECT_FAILURES);
	assert_int_equal(value, 5);
}

static void a_share_of_failures_needs_enough_requests(void **state UNUSED)
{
	serve(0, (struct eject_numbers){.tries = 19, .failed = 19});
	assert_int_equal(judge(3, 0), EJECT_NO);
	serve(0, (struct eject_numbers){.tries = 1});
	assert_int_equal(judge(3, 0), EJECT_ERRORS);
	assert_int_equal(value, 95);
	serve(0, (struct eject_numbers){.tries = 19});
	assert_int_equal(judge(3, 0), EJECT_NO); /* 19 of 39 */
}

static void the_window_slides(void **state UNUSED)
{
	serve(0, (struct eject_numbers){.tries = 100, .failed = 100});
	for (int i = 0; i < 10; i++) {
		assert_int_equal(judge(3, 0), EJECT_ERRORS);
		now += 1000;
		serve(0, (struct eject_numbers){.tries = 7});
	}
	for (int i = 0; i < 3; i++) {
		now += 1000;
		serve(0, (struct eject_numbers){.tries = 7});
	}
	/* Of the window before, 7 s are in it still: 70 failures in 140 tries. */
	assert_int_equal(judge(3, 0), EJECT_ERRORS);
	for (int i = 0; i < 7; i++) {
		now += 1000;
		serve(0, (struct eject_numbers){.tries = 7});
	}
	assert_int_equal(judge(3, 0), EJECT_NO);
	/* After a long silence nothing of before is in it. */
	serve(0, (struct eject_numbers){.tries = 100, .failed = 100});
	now += 100000;
	serve(0, (struct eject_numbers){.tries = 30});
	assert_int_equal(judge(3, 0), EJECT_NO);
}

static void server_errors_are_compared_with_the_others(void **state UNUSED)
{
	for (int i = 0; i < 4; i++)
		serve(i, (struct eject_numbers){.tries = 100, .server_errors = 80});
	for (uint32_t i = 0; i < 4; i++)
		assert_int_equal(judge(4, i), EJECT_NO); /* it is the app's */
	fresh(NULL);
	for (int i = 0; i < 4; i++)
		serve(i, (struct eject_numbers){.tries = 100, .server_errors = i ? 10 : 59});
	assert_int_equal(judge(4, 0), EJECT_NO); /* 49 points above */
	serve(0, (struct eject_numbers){.tries = 100, .server_errors = 65});
	assert_int_equal(judge(4, 0), EJECT_SERVER_ERRORS);
	assert_int_equal(value, 62);
}

static void slow_is_who_is_slower_than_the_others_by_factor_and_by_time(void **state UNUSED)
{
	for (int i = 0; i < 3; i++)
		serve(i, (struct eject_numbers){.tries = 50, .answers = 50,
						.answers_us = 50ull * (i ? 200000 : 900000)});
	assert_int_equal(judge(3, 0), EJECT_NO); /* 4.5 times */
	fresh(NULL);
	for (int i = 0; i < 3; i++)
		serve(i, (struct eject_numbers){.tries = 50, .answers = 50,
						.answers_us = 50ull * (i ? 1000 : 400000)});
	assert_int_equal(judge(3, 0), EJECT_NO); /* 399 ms */
	fresh(NULL);
	for (int i = 0; i < 3; i++)
		serve(i, (struct eject_numbers){.tries = 50, .answers = 50,
						.answers_us = 50ull * (i ? 1000 : 501000)});
	assert_int_equal(judge(3, 0), EJECT_LATENCY);
	assert_int_equal(value, 501);
}

static void nobody_is_compared_with_a_few_requests(void **state UNUSED)
{
	serve(0, (struct eject_numbers){.tries = 100, .server_errors = 100});
	serve(1, (struct eject_numbers){.tries = 19});
	assert_int_equal(judge(2, 0), EJECT_NO);
	serve(1, (struct eject_numbers){.tries = 1});
	assert_int_equal(judge(2, 0), EJECT_SERVER_ERRORS);
}

static void each_reason_can_be_switched_off(void **state UNUSED)
{
	struct eject_rules off = rules;

	seen[0].streak = 100;
	serve(0, (struct eject_numbers){.tries = 100, .failed = 100, .server_errors = 100,
					.answers = 100, .answers_us = 100000000});
	serve(1, (struct eject_numbers){.tries = 100, .answers = 100, .answers_us = 100});
	off.failures = 0;
	assert_int_equal(eject_judge(&off, seen, 2, 0, now, &value), EJECT_ERRORS);
	off.errors = 0;
	assert_int_equal(eject_judge(&off, seen, 2, 0, now, &value), EJECT_SERVER_ERRORS);
	off.server_errors = 0;
	assert_int_equal(eject_judge(&off, seen, 2, 0, now, &value), EJECT_LATENCY);
	off.latency = 0;
	assert_int_equal(eject_judge(&off, seen, 2, 0, now, &value), EJECT_NO);
}

/* --- the panic floor --- */

static void never_the_last_that_is_up(void **state UNUSED)
{
	for (int i = 0; i < N; i++)
		seen[i].streak = 100;
	assert_int_equal(judge(1, 0), EJECT_NO);
	assert_int_equal(judge(2, 0), EJECT_FAILURES);
	seen[1].health = HEALTH_DOWN;
	assert_int_equal(judge(2, 0), EJECT_NO);
	seen[1].health = HEALTH_UNKNOWN;
	assert_int_equal(judge(2, 0), EJECT_NO);
	seen[1] = (struct eject_seen){.use = USE_DRAIN, .health = HEALTH_UP, .e = &e[1]};
	assert_int_equal(judge(2, 0), EJECT_NO);
}

static void never_more_than_half(void **state UNUSED)
{
	for (uint32_t n = 1; n <= N; n++) {
		uint32_t out = 0;

		fresh(NULL);
		for (uint32_t i = 0; i < n; i++) {
			seen[i].streak = 100;
			if (judge(n, i) == EJECT_NO)
				continue;
			eject_begin(&e[i], &rules, EJECT_FAILURES, 100, now);
			out++;
		}
		assert_int_equal(out, n / 2);
	}
}

/* --- its time --- */

static void the_time_doubles_to_the_ceiling_and_begins_anew_after_a_good_while(void **state UNUSED)
{
	uint64_t want = 1000;

	for (int i = 0; i < 40; i++) {
		eject_begin(&e[0], &rules, EJECT_FAILURES, 5, now);
		assert_int_equal(e[0].until_ms - now, want);
		assert_false(eject_over(&e[0], 1, false, e[0].until_ms - 1));
		assert_true(eject_over(&e[0], 1, false, e[0].until_ms));
		now = e[0].until_ms;
		eject_end(&e[0], now);
		want = MIN(want * 2, 8000);
	}
	now += 8000;
	eject_begin(&e[0], &rules, EJECT_FAILURES, 5, now);
	assert_int_equal(e[0].until_ms - now, 1000);
}

static void where_there_is_a_health_path_it_must_be_well_too(void **state UNUSED)
{
	eject_begin(&e[0], &rules, EJECT_ERRORS, 60, now);
	now = e[0].until_ms;
	assert_false(eject_over(&e[0], 2, true, now));
	eject_probed(&e[0], true);
	eject_probed(&e[0], false);
	eject_probed(&e[0], true);
	assert_false(eject_over(&e[0], 2, true, now));
	eject_probed(&e[0], true);
	assert_true(eject_over(&e[0], 2, true, now));
	assert_false(eject_over(&e[0], 2, true, now - 1));
}

static void a_stuck_one_is_back_when_it_answers_whatever_the_time(void **state UNUSED)
{
	eject_begin(&e[0], &rules, EJECT_STUCK, 250, now);
	assert_false(eject_over(&e[0], 1, false, now + 1000000));
	eject_probed(&e[0], true);
	assert_true(eject_over(&e[0], 1, false, now));
}

static void one_that_is_out_and_turns_stuck_needs_both(void **state UNUSED)
{
	eject_begin(&e[0], &rules, EJECT_FAILURES, 5, now);
	eject_turned_stuck(&e[0]);
	eject_probed(&e[0], true);
	assert_false(eject_over(&e[0], 1, false, now));
	now = e[0].until_ms;
	assert_true(eject_over(&e[0], 1, false, now));
	eject_probed(&e[0], false);
	assert_false(eject_over(&e[0], 1, false, now));
}

/* --- silence --- */

static void silence_is_judged_by_what_is_usual_and_a_floor(void **state UNUSED)
{
	struct silence s = {0};

	assert_false(silence_suspects(&s, 250, 0, now)); /* it owes nothing */
	for (int i = 0; i < 50; i++) {
		silence_asked(&s, now);
		silence_answered(&s, 2000, now, 0);
	}
	silence_asked(&s, now);
	assert_false(silence_suspects(&s, 250, now, now + 249));
	assert_true(silence_suspects(&s, 250, now, now + 250));
	assert_false(silence_suspects(&s, 0, now, now + 250)); /* switched off */
	silence_asked(&s, now + 200); /* another question is no sign of life */
	assert_true(silence_suspects(&s, 250, now, now + 250));
	assert_false(silence_suspects(&s, 250, now + 100, now + 349));
	assert_false(silence_suspects(&s, 250, now + 1000, now + 1249)); /* excused until then */
	assert_true(silence_does_well(&s, 250, now, now + 124));
	assert_false(silence_does_well(&s, 250, now, now + 125));
}

static void who_is_slow_as_a_rule_is_given_longer(void **state UNUSED)
{
	struct silence s = {0};

	for (int i = 0; i < 200; i++) {
		silence_asked(&s, now);
		silence_answered(&s, i % 2 ? 100000 : 300000, now, 0);
	}
	/* 200 ms, give or take 100: about 4 x 600 */
	assert_in_range(silence_limit_ms(&s, 250), 2000, 2800);
	for (int i = 0; i < 200; i++) {
		silence_asked(&s, now);
		silence_answered(&s, UINT64_MAX, now, 0);
	}
	assert_true(silence_limit_ms(&s, 250) > 1000000);
	for (int i = 0; i < 200; i++) {
		silence_asked(&s, now);
		silence_answered(&s, 0, now, 0);
	}
	assert_int_equal(silence_limit_ms(&s, 250), 250);
	assert_int_equal(s.owed, 0);
}

static void what_a_stuck_one_answers_late_is_not_usual(void **state UNUSED)
{
	struct silence s = {0};

	for (int i = 0; i < 50; i++) {
		silence_asked(&s, now);
		silence_answered(&s, 2000, now, 0);
	}
	/* It is stuck with eight requests, and answers all of them after 10 s. */
	for (int i = 0; i < 8; i++)
		silence_asked(&s, now);
	for (int i = 0; i < 8; i++)
		silence_answered(&s, 10000000, now, now + 500);
	assert_int_equal(s.owed, 0);
	assert_in_range(silence_limit_ms(&s, 250), 251, 1300);
	for (int i = 0; i < 20; i++) {
		silence_asked(&s, now + 20000);
		silence_answered(&s, 2000, now + 20000, now + 500);
	}
	assert_int_equal(silence_limit_ms(&s, 250), 250);
	/* One that only looks like that, time and again, is known as slow in the end. */
	for (uint64_t i = 1; i < 10; i++) {
		silence_asked(&s, now + i * 20000);
		silence_answered(&s, 2000000, now + i * 20000, now + i * 20000 + 500);
	}
	assert_true(silence_limit_ms(&s, 250) > 2000);
}

int main(void)
{
#define T(name) cmocka_unit_test_setup(name, fresh)
	const struct CMUnitTest tests[] = {
		T(a_row_of_failures_opens_the_circuit),
		T(a_share_of_failures_needs_enough_requests),
		T(the_window_slides),
		T(server_errors_are_compared_with_the_others),
		T(slow_is_who_is_slower_than_the_others_by_factor_and_by_time),
		T(nobody_is_compared_with_a_few_requests),
		T(each_reason_can_be_switched_off),
		T(never_the_last_that_is_up),
		T(never_more_than_half),
		T(the_time_doubles_to_the_ceiling_and_begins_anew_after_a_good_while),
		T(where_there_is_a_health_path_it_must_be_well_too),
		T(a_stuck_one_is_back_when_it_answers_whatever_the_time),
		T(one_that_is_out_and_turns_stuck_needs_both),
		T(silence_is_judged_by_what_is_usual_and_a_floor),
		T(who_is_slow_as_a_rule_is_given_longer),
		T(what_a_stuck_one_answers_late_is_not_usual),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
