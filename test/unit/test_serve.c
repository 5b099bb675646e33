/* SPDX-License-Identifier: Apache-2.0
 *
 * The small decisions of the data plane: health, balance, retry, hold.
 */
#include "unit.h"

#include <errno.h>

#include "core/balance.h"
#include "core/health.h"
#include "core/hold.h"
#include "core/retry.h"

/* --- health --- */

static bool see(struct health *h, enum health_event ev)
{
	return health_step(h, ev, 2, 3, 1000, 50000);
}

static void an_unknown_target_is_up_with_its_first_pass(void **state UNUSED)
{
	struct health h = {0};

	assert_true(see(&h, HEALTH_PASSED));
	assert_int_equal(h.state, HEALTH_UP);
	assert_int_equal(h.next_probe_ms, 51000);
}

static void only_failures_in_a_row_make_a_target_down(void **state UNUSED)
{
	struct health h = {.state = HEALTH_UP};

	assert_false(see(&h, HEALTH_FAILED));
	assert_false(see(&h, HEALTH_FAILED));
	assert_false(see(&h, HEALTH_PASSED));
	assert_false(see(&h, HEALTH_FAILED));
	assert_false(see(&h, HEALTH_FAILED));
	assert_int_equal(h.next_probe_ms, 51000);
	assert_true(see(&h, HEALTH_FAILED));
	assert_int_equal(h.state, HEALTH_DOWN);
	assert_int_equal(h.next_probe_ms, 50100);
}

static void only_passes_in_a_row_bring_it_back(void **state UNUSED)
{
	struct health h = {.state = HEALTH_DOWN};

	assert_false(see(&h, HEALTH_PASSED));
	assert_false(see(&h, HEALTH_FAILED));
	assert_false(see(&h, HEALTH_PASSED));
	assert_true(see(&h, HEALTH_PASSED));
	assert_int_equal(h.state, HEALTH_UP);
}

static void a_refusal_makes_the_next_probe_due_at_once_until_it_is_down(void **state UNUSED)
{
	struct health h = {.state = HEALTH_UP};

	assert_false(see(&h, HEALTH_REFUSED));
	assert_int_equal(h.next_probe_ms, 50000);
	assert_false(see(&h, HEALTH_REFUSED));
	assert_true(see(&h, HEALTH_REFUSED));
	assert_int_equal(h.next_probe_ms, 50100);
	assert_false(see(&h, HEALTH_REFUSED));
	assert_int_equal(h.next_probe_ms, 50100);
}

static void fast_probes_are_at_least_20_ms_apart(void **state UNUSED)
{
	struct health h = {.state = HEALTH_DOWN};

	assert_false(health_step(&h, HEALTH_FAILED, 1, 1, 100, 0));
	assert_int_equal(h.next_probe_ms, 20);
	assert_true(health_step(&h, HEALTH_PASSED, 1, 1, 100, 0));
	assert_int_equal(h.next_probe_ms, 100);
	assert_true(health_step(&h, HEALTH_FAILED, 1, 1, 100, 0));
}

/* --- balance --- */

static struct balance_target targets[4];
static uint32_t taken;

static int four_that_are_up(void **state UNUSED)
{
	for (int i = 0; i < 4; i++)
		targets[i] = (struct balance_target){.use = USE_SERVE, .health = HEALTH_UP};
	taken = 99;
	return 0;
}

static void the_one_with_the_fewest_outstanding_is_taken(void **state UNUSED)
{
	targets[0].outstanding = targets[1].outstanding = targets[3].outstanding = 5;
	targets[2].outstanding = 4;
	for (uint32_t turn = 0; turn < 9; turn++) {
		assert_int_equal(balance_pick(targets, 4, 0, turn, &taken), BALANCE_PICKED);
		assert_int_equal(taken, 2);
	}
}

static void ties_go_round_evenly_though_one_is_out(void **state UNUSED)
{
	uint32_t times[4] = {0};

	targets[1].health = HEALTH_DOWN;
	for (uint32_t turn = 0; turn < 300; turn++) {
		assert_int_equal(balance_pick(targets, 4, 0, turn, &taken), BALANCE_PICKED);
		times[taken]++;
	}
	assert_int_equal(times[0], 100);
	assert_int_equal(times[1], 0);
	assert_int_equal(times[2], 100);
	assert_int_equal(times[3], 100);
}

static void only_use_serve_is_taken(void **state UNUSED)
{
	targets[0].use = USE_PROBE;
	targets[1].use = USE_DRAIN;
	targets[2].use = USE_FENCE;
	assert_int_equal(balance_pick(targets, 4, 0, 0, &taken), BALANCE_PICKED);
	assert_int_equal(taken, 3);
	taken = 99;
	assert_int_equal(balance_pick(targets, 3, 0, 0, &taken), BALANCE_NONE);
	assert_int_equal(balance_pick(targets, 0, 0, 0, &taken), BALANCE_NONE);
	assert_int_equal(taken, 99);
}

static void an_unknown_one_is_tried_only_when_none_is_up(void **state UNUSED)
{
	targets[0].health = targets[1].health = HEALTH_DOWN;
	targets[2].health = HEALTH_UNKNOWN;
	targets[3].outstanding = 50;
	assert_int_equal(balance_pick(targets, 4, 0, 0, &taken), BALANCE_PICKED);
	assert_int_equal(taken, 3);
	targets[3].health = HEALTH_DOWN;
	assert_int_equal(balance_pick(targets, 4, 0, 0, &taken), BALANCE_PICKED);
	assert_int_equal(taken, 2);
	targets[2].health = HEALTH_DOWN;
	assert_int_equal(balance_pick(targets, 4, 0, 0, &taken), BALANCE_NONE);
}

static void the_limit_is_reached_and_never_passed(void **state UNUSED)
{
	for (int i = 0; i < 4; i++)
		targets[i].outstanding = 7;
	targets[1].outstanding = 6;
	assert_int_equal(balance_pick(targets, 4, 7, 0, &taken), BALANCE_PICKED);
	assert_int_equal(taken, 1);
	targets[1].outstanding = 7;
	assert_int_equal(balance_pick(targets, 4, 7, 0, &taken), BALANCE_FULL);
	assert_int_equal(balance_pick(targets, 4, 8, 0, &taken), BALANCE_PICKED);
}

static void a_full_up_one_is_waited_for_rather_than_an_unknown_one_tried(void **state UNUSED)
{
	targets[0].outstanding = 1;
	for (int i = 1; i < 4; i++)
		targets[i].health = HEALTH_UNKNOWN;
	assert_int_equal(balance_pick(targets, 4, 1, 0, &taken), BALANCE_FULL);
}

static void one_that_broke_is_better_than_waiting_for_a_full_one(void **state UNUSED)
{
	targets[0].tried = true;
	for (int i = 1; i < 4; i++)
		targets[i].outstanding = 1;
	assert_int_equal(balance_pick(targets, 4, 1, 0, &taken), BALANCE_PICKED);
	assert_int_equal(taken, 0);
}

static void one_that_broke_under_the_request_comes_last(void **state UNUSED)
{
	targets[0].tried = targets[1].tried = true;
	targets[2].outstanding = 3;
	targets[3].health = HEALTH_UNKNOWN;
	assert_int_equal(balance_pick(targets, 4, 0, 0, &taken), BALANCE_PICKED);
	assert_int_equal(taken, 2);
	targets[2].health = HEALTH_DOWN;
	assert_int_equal(balance_pick(targets, 4, 0, 0, &taken), BALANCE_PICKED);
	assert_int_equal(taken, 3);
	targets[3].health = HEALTH_DOWN;
	assert_int_equal(balance_pick(targets, 4, 0, 1, &taken), BALANCE_PICKED);
	assert_int_equal(taken, 1);
}

static void one_that_is_avoided_is_taken_only_when_nobody_else_is_there(void **state UNUSED)
{
	targets[0].avoid = targets[1].avoid = true;
	targets[2].outstanding = targets[3].outstanding = 8;
	for (uint32_t turn = 0; turn < 4; turn++) {
		assert_int_equal(balance_pick(targets, 4, 0, turn, &taken), BALANCE_PICKED);
		assert_int_equal(taken, 2 + turn % 2);
	}
	/* It is better to wait for one that does well, or to try again where it failed. */
	assert_int_equal(balance_pick(targets, 4, 8, 0, &taken), BALANCE_FULL);
	targets[2].tried = targets[3].tried = true;
	assert_int_equal(balance_pick(targets, 4, 0, 0, &taken), BALANCE_PICKED);
	assert_int_equal(taken, 2);
	targets[2].health = targets[3].health = HEALTH_UNKNOWN;
	assert_int_equal(balance_pick(targets, 4, 0, 0, &taken), BALANCE_PICKED);
	assert_int_equal(taken, 2);
	targets[2].health = targets[3].health = HEALTH_DOWN;
	targets[0].tried = true;
	assert_int_equal(balance_pick(targets, 4, 0, 0, &taken), BALANCE_PICKED);
	assert_int_equal(taken, 1);
}

static void one_in_its_slow_start_gets_a_share_that_grows(void **state UNUSED)
{
	uint32_t before = 0;

	for (uint32_t up_ms = 0; up_ms <= 10000; up_ms += 2500) {
		uint32_t times = 0, n = 2560;

		targets[1].weight = balance_weight(up_ms, 10000);
		for (uint32_t turn = 0; turn < n; turn++) {
			assert_int_equal(balance_pick(targets, 4, 0, turn, &taken), BALANCE_PICKED);
			times += taken == 1;
		}
		/* A quarter is its full share of four. */
		assert_in_range(times, n / 4 * MAX(up_ms, 1000u) / 10000 * 8 / 10,
				n / 4 * MAX(up_ms, 1000u) / 10000 * 12 / 10);
		assert_true(times > before);
		before = times;
	}
}

static void under_load_it_has_its_share_of_the_outstanding_and_no_more(void **state UNUSED)
{
	targets[0].weight = balance_weight(2500, 10000);
	for (uint32_t turn = 0; turn < 325; turn++) { /* nobody answers */
		assert_int_equal(balance_pick(targets, 4, 0, turn, &taken), BALANCE_PICKED);
		targets[taken].outstanding++;
	}
	assert_in_range(targets[0].outstanding, 23, 27);
	assert_in_range(targets[1].outstanding, 98, 102);
}

static void alone_it_gets_everything_at_once(void **state UNUSED)
{
	for (int i = 0; i < 4; i++)
		targets[i].weight = balance_weight(0, 10000);
	for (uint32_t turn = 0; turn < 100; turn++)
		assert_int_equal(balance_pick(targets, 1, 0, turn, &taken), BALANCE_PICKED);
	/* All in it: as if none were. */
	for (uint32_t turn = 0; turn < 100; turn++) {
		assert_int_equal(balance_pick(targets, 4, 25, turn, &taken), BALANCE_PICKED);
		targets[taken].outstanding++;
	}
	for (int i = 0; i < 4; i++)
		assert_int_equal(targets[i].outstanding, 25);
	/* And before waiting for a place elsewhere. */
	targets[0].outstanding = 1;
	for (int i = 1; i < 4; i++)
		targets[i].weight = 0;
	for (uint32_t turn = 0; turn < 24; turn++) {
		assert_int_equal(balance_pick(targets, 4, 25, turn, &taken), BALANCE_PICKED);
		assert_int_equal(taken, 0);
		targets[0].outstanding++;
	}
	assert_int_equal(balance_pick(targets, 4, 25, 0, &taken), BALANCE_FULL);
}

/* --- retry --- */

/* A small POST over a unix socket, sent in one write, reset before an answer. */
static const struct retry_facts unread = {.is_unix = true, .unread_counts = true,
					  .replayable = true, .written = 4096, .writes = 1,
					  .all_written = true, .error = ECONNRESET, .died_under = 1};

static void what_was_never_written_goes_to_another_as_often_as_it_takes(void **state UNUSED)
{
	struct retry_facts f = {.replayable = true, .error = EPIPE, .died_under = 50};

	assert_int_equal(retry_decide(&f), RETRY_UNSENT);
	f.replayable = false;
	assert_int_equal(retry_decide(&f), RETRY_NO);
}

/* Over HTTP/2 the target says so itself. */
static void what_a_target_refuses_goes_on_whatever_it_is(void **state UNUSED)
{
	struct retry_facts f = {.refused = true, .replayable = true, .written = 100000, .writes = 50,
				.error = ECONNRESET, .died_under = 9};

	assert_int_equal(retry_decide(&f), RETRY_UNREAD);
	f.replayable = false;
	assert_int_equal(retry_decide(&f), RETRY_NO);
	f.replayable = true;
	f.answer_begun = true;
	assert_int_equal(retry_decide(&f), RETRY_NO);
}

static void each_part_of_the_proof_that_it_is_unread_is_needed(void **state UNUSED)
{
	struct retry_facts f[] = {unread, unread, unread, unread, unread,
				  unread, unread, unread, unread};

	assert_int_equal(retry_decide(&unread), RETRY_UNREAD);
	f[0].is_unix = false;
	f[1].unread_counts = false;
	f[2].written = 4097;
	f[3].writes = 2;
	f[4].all_written = false;
	f[5].error = 0; /* a clean end: all was read */
	f[6].error = EPIPE;
	f[7].answer_begun = true;
	f[8].replayable = false;
	for (size_t i = 0; i < ARRAY_LEN(f); i++)
		assert_int_equal(retry_decide(&f[i]), RETRY_NO);
}

static void get_is_tried_once_more_and_never_after_two_deaths(void **state UNUSED)
{
	struct retry_facts f = {.safe_method = true, .replayable = true, .written = 100,
				.writes = 1, .all_written = true, .died_under = 1};

	assert_int_equal(retry_decide(&f), RETRY_SAFE);
	f.error = ECONNRESET;
	assert_int_equal(retry_decide(&f), RETRY_SAFE);
	f.error = ETIMEDOUT;
	assert_int_equal(retry_decide(&f), RETRY_NO);
	f.error = 0;
	f.died_under = 2;
	assert_int_equal(retry_decide(&f), RETRY_NO);
	f.died_under = 1;
	f.answer_begun = true;
	assert_int_equal(retry_decide(&f), RETRY_NO);
}

static void what_a_stuck_target_owes_goes_elsewhere_once_if_it_may_be_asked_twice(void **state UNUSED)
{
	struct retry_facts f = {.safe_method = true, .replayable = true, .written = 100, .writes = 1,
				.all_written = true, .stuck = true, .died_under = 1};

	assert_int_equal(retry_decide(&f), RETRY_MOVED);
	f.moved = true;
	assert_int_equal(retry_decide(&f), RETRY_NO);
	f.moved = false;
	f.died_under = 2;
	assert_int_equal(retry_decide(&f), RETRY_NO);
	f.died_under = 1;
	f.answer_begun = true;
	assert_int_equal(retry_decide(&f), RETRY_NO);
	f.answer_begun = false;
	/* A POST that it has may be executed when it goes on; one that it has not goes. */
	f.safe_method = false;
	f.is_unix = f.unread_counts = true;
	f.error = ECONNRESET;
	assert_int_equal(retry_decide(&f), RETRY_NO);
	f.written = f.writes = 0;
	assert_int_equal(retry_decide(&f), RETRY_UNSENT);
}

/* --- hold --- */

static const struct hold_limits limits = {.wait_ms = 1000, .requests = 3, .bytes = 100};
static uint64_t until;

static enum hold_verdict admit(const struct hold *h, uint32_t n, uint64_t bytes, uint64_t more,
			       uint64_t came, uint64_t now)
{
	return hold_admit(h, &limits, n, bytes, more, came, now, &until);
}

static void the_room_is_full_at_its_bounds_and_not_before(void **state UNUSED)
{
	struct hold h = {.reason = HOLD_ORDER};

	assert_int_equal(admit(&h, 2, 60, 40, 0, 0), HOLD_WAIT);
	assert_int_equal(admit(&h, 3, 0, 0, 0, 0), HOLD_REFUSE_FULL);
	assert_int_equal(admit(&h, 2, 60, 41, 0, 0), HOLD_REFUSE_FULL);
	assert_int_equal(admit(&h, 2, 60, UINT64_MAX, 0, 0), HOLD_REFUSE_FULL);
}

static void by_order_each_waits_its_own_time(void **state UNUSED)
{
	struct hold h = {0};

	assert_false(hold_set(&h, HOLD_ORDER, 5000));
	assert_int_equal(admit(&h, 0, 0, 0, 9000, 9999), HOLD_WAIT);
	assert_int_equal(until, 10000);
	assert_int_equal(admit(&h, 0, 0, 0, 9000, 10000), HOLD_REFUSE_LATE);
}

static void in_an_outage_the_time_counts_from_its_start(void **state UNUSED)
{
	struct hold h = {0};

	hold_set(&h, HOLD_OUTAGE, 5000);
	hold_set(&h, HOLD_OUTAGE, 5500); /* it goes on; it does not begin anew */
	assert_int_equal(admit(&h, 0, 0, 0, 5900, 5999), HOLD_WAIT);
	assert_int_equal(until, 6000);
	assert_int_equal(admit(&h, 0, 0, 0, 9000, 9000), HOLD_REFUSE_LATE);
}

static void what_was_held_is_let_out_at_the_pace_of_the_answers(void **state UNUSED)
{
	struct hold h = {0};

	assert_true(hold_may_pass(&h, 1000000));
	hold_set(&h, HOLD_ORDER, 0);
	assert_false(hold_may_pass(&h, 0));
	assert_true(hold_set(&h, HOLD_NO, 0));
	assert_true(hold_may_pass(&h, HOLD_WINDOW_START - 1));
	assert_false(hold_may_pass(&h, HOLD_WINDOW_START));
	hold_answered(&h);
	assert_true(hold_may_pass(&h, HOLD_WINDOW_START));
	for (int i = 0; i < HOLD_WINDOW_STEADY; i++)
		hold_answered(&h);
	assert_true(hold_may_pass(&h, 1000000));
	hold_answered(&h);
	assert_true(hold_may_pass(&h, 1000000));
}

static void every_way_out_of_a_wait_says_that_someone_may_go(void **state UNUSED)
{
	static const struct {
		enum hold_reason from, to;
		bool released;
	} moves[] = {{HOLD_NO, HOLD_NO, false},	      {HOLD_ORDER, HOLD_NO, true},
		     {HOLD_OUTAGE, HOLD_NO, true},    {HOLD_FULL, HOLD_NO, true},
		     {HOLD_ORDER, HOLD_FULL, true},   {HOLD_OUTAGE, HOLD_ORDER, false},
		     {HOLD_ORDER, HOLD_OUTAGE, false}, {HOLD_NO, HOLD_FULL, false}};

	for (size_t i = 0; i < ARRAY_LEN(moves); i++) {
		struct hold h = {.reason = moves[i].from};

		assert_int_equal(hold_set(&h, moves[i].to, 1), moves[i].released);
	}
}

static void an_outage_after_an_order_begins_with_the_orders_end(void **state UNUSED)
{
	struct hold h = {0};

	hold_set(&h, HOLD_OUTAGE, 1000);
	hold_set(&h, HOLD_ORDER, 2000);
	hold_set(&h, HOLD_OUTAGE, 90000);
	assert_int_equal(admit(&h, 0, 0, 0, 90500, 90500), HOLD_WAIT);
}

static void retry_after_is_at_least_a_second_and_bounded(void **state UNUSED)
{
	struct hold h = {0};

	assert_int_equal(hold_retry_after(&h, &limits, 0), 1);
	hold_set(&h, HOLD_OUTAGE, 1000);
	assert_int_equal(hold_retry_after(&h, &limits, 1000), 1);
	assert_int_equal(hold_retry_after(&h, &limits, 11000), 10);
	assert_int_equal(hold_retry_after(&h, &limits, 90000000), 60);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(an_unknown_target_is_up_with_its_first_pass),
		cmocka_unit_test(only_failures_in_a_row_make_a_target_down),
		cmocka_unit_test(only_passes_in_a_row_bring_it_back),
		cmocka_unit_test(a_refusal_makes_the_next_probe_due_at_once_until_it_is_down),
		cmocka_unit_test(fast_probes_are_at_least_20_ms_apart),
		cmocka_unit_test_setup(the_one_with_the_fewest_outstanding_is_taken, four_that_are_up),
		cmocka_unit_test_setup(ties_go_round_evenly_though_one_is_out, four_that_are_up),
		cmocka_unit_test_setup(only_use_serve_is_taken, four_that_are_up),
		cmocka_unit_test_setup(an_unknown_one_is_tried_only_when_none_is_up, four_that_are_up),
		cmocka_unit_test_setup(one_in_its_slow_start_gets_a_share_that_grows, four_that_are_up),
		cmocka_unit_test_setup(under_load_it_has_its_share_of_the_outstanding_and_no_more, four_that_are_up),
		cmocka_unit_test_setup(alone_it_gets_everything_at_once, four_that_are_up),
		cmocka_unit_test_setup(one_that_is_avoided_is_taken_only_when_nobody_else_is_there, four_that_are_up),
		cmocka_unit_test_setup(the_limit_is_reached_and_never_passed, four_that_are_up),
		cmocka_unit_test_setup(a_full_up_one_is_waited_for_rather_than_an_unknown_one_tried,
				       four_that_are_up),
		cmocka_unit_test_setup(one_that_broke_under_the_request_comes_last, four_that_are_up),
		cmocka_unit_test_setup(one_that_broke_is_better_than_waiting_for_a_full_one, four_that_are_up),
		cmocka_unit_test(what_was_never_written_goes_to_another_as_often_as_it_takes),
		cmocka_unit_test(what_a_target_refuses_goes_on_whatever_it_is),
		cmocka_unit_test(each_part_of_the_proof_that_it_is_unread_is_needed),
		cmocka_unit_test(get_is_tried_once_more_and_never_after_two_deaths),
		cmocka_unit_test(the_room_is_full_at_its_bounds_and_not_before),
		cmocka_unit_test(by_order_each_waits_its_own_time),
		cmocka_unit_test(in_an_outage_the_time_counts_from_its_start),
		cmocka_unit_test(what_was_held_is_let_out_at_the_pace_of_the_answers),
		cmocka_unit_test(every_way_out_of_a_wait_says_that_someone_may_go),
		cmocka_unit_test(an_outage_after_an_order_begins_with_the_orders_end),
		cmocka_unit_test(what_a_stuck_target_owes_goes_elsewhere_once_if_it_may_be_asked_twice),
		cmocka_unit_test(retry_after_is_at_least_a_second_and_bounded),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
