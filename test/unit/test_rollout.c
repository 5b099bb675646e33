/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "core/rollout.h"

/* A world in which the test says what is seen. */
static struct rollout r;
static struct rollout_result result;
static struct rollout_rules rules = {.instances = 2, .ready_ms = 1000, .drain_ms = 500,
				     .bake_ms = 300, .switch_ms = 200};
static uint64_t now, next_unit;

static void step(struct rollout_event ev)
{
	rollout_step(&r, &rules, &ev, now, &next_unit, &result);
	assert_null(rollout_check(&r));
}

static void look(void)
{
	step((struct rollout_event){.type = ROLLOUT_LOOK});
}

static void deploy(uint32_t release)
{
	step((struct rollout_event){ROLLOUT_DEPLOY, {release, 1}, release, NULL});
}

/* Everything that should run is ready, what drains is empty, what should end is gone. */
static void world_obeys(void)
{
	for (uint32_t i = 0; i < r.unit_count; i++) {
		r.units[i].seen.ready = !r.units[i].stop;
		r.units[i].seen.starts = 1;
		r.units[i].seen.drained = r.units[i].use == USE_DRAIN;
		r.units[i].seen.gone = r.units[i].stop;
	}
	look();
}

static uint32_t count(uint32_t release, enum target_use use)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < r.unit_count; i++)
		n += !r.units[i].stop && r.units[i].version.release == release &&
		     r.units[i].use == use;
	return n;
}

static void settle(void)
{
	for (int i = 0; i < 20 && r.phase != ROLLOUT_IDLE; i++) {
		world_obeys();
		now += 400;
	}
	world_obeys();
}

static int fresh(void **state UNUSED)
{
	memset(&r, 0, sizeof(r));
	rules.never_mixed = false;
	rules.instances = 2;
	now = 1000000;
	next_unit = 1;
	deploy(1);
	settle();
	assert_int_equal(r.phase, ROLLOUT_IDLE);
	assert_int_equal(count(1, USE_SERVE), 2);
	return 0;
}

static void deploy_does_one_slot_at_a_time_and_parks_the_old(void **state UNUSED)
{
	deploy(2);
	assert_int_equal(count(2, USE_PROBE), 1);
	assert_int_equal(count(1, USE_SERVE), 2);
	world_obeys();
	assert_int_equal(count(2, USE_SERVE), 1);
	assert_int_equal(count(1, USE_SERVE), 1);
	world_obeys();
	world_obeys();
	assert_int_equal(r.phase, ROLLOUT_BAKE);
	assert_int_equal(count(2, USE_SERVE), 2);
	assert_int_equal(count(1, USE_PROBE), 2); /* parked */
	now += 300;
	world_obeys();
	world_obeys();
	assert_int_equal(r.phase, ROLLOUT_IDLE);
	assert_int_equal(result.outcome, ROLLOUT_DONE);
	assert_int_equal(r.unit_count, 2);
}

static void a_unit_that_never_gets_ready_is_undone(void **state UNUSED)
{
	deploy(2);
	now += 1000;
	look();
	assert_true(r.undoing);
	assert_int_equal(count(1, USE_SERVE), 2);
	settle();
	assert_int_equal(result.outcome, ROLLOUT_NONE);
	assert_int_equal(r.current.release, 1);
	assert_int_equal(count(2, USE_SERVE), 0);
}

static void an_end_in_the_bake_goes_back_to_the_parked_in_one_step(void **state UNUSED)
{
	deploy(2);
	world_obeys();
	world_obeys();
	world_obeys();
	assert_int_equal(r.phase, ROLLOUT_BAKE);
	for (uint32_t i = 0; i < r.unit_count; i++)
		if (r.units[i].version.release == 2)
			r.units[i].seen.starts = 2;
	look();
	assert_int_equal(count(1, USE_SERVE), 2);
	assert_int_equal(count(2, USE_SERVE), 0);
	assert_non_null(strstr(r.reason, "ended"));
}

static void rollback_starts_all_slots_at_once(void **state UNUSED)
{
	deploy(2);
	settle();
	step((struct rollout_event){ROLLOUT_ROLLBACK, {1, 1}, 9, NULL});
	assert_int_equal(count(1, USE_PROBE), 2);
	assert_int_equal(count(2, USE_SERVE), 2);
	world_obeys();
	assert_int_equal(count(1, USE_SERVE), 2);
	settle();
	assert_int_equal(r.current.release, 1);
}

static void abort_is_legal_in_every_phase(void **state UNUSED)
{
	for (int after = 0; after < 12; after++) {
		fresh(NULL);
		rules.never_mixed = after % 2;
		deploy(2);
		for (int i = 0; i < after / 2 && r.phase != ROLLOUT_IDLE; i++)
			world_obeys();
		step((struct rollout_event){ROLLOUT_ABORT, {0, 0}, 0, "enough"});
		settle();
		assert_int_equal(r.phase, ROLLOUT_IDLE);
		assert_int_equal(count(r.current.release, USE_SERVE), 2);
		if (after < 10)
			assert_int_equal(r.current.release, 1);
	}
}

static void versions_that_must_not_mix_never_run_together(void **state UNUSED)
{
	rules.never_mixed = true;
	deploy(2);
	assert_true(r.hold);
	assert_int_equal(count(1, USE_DRAIN), 2);
	assert_int_equal(count(2, USE_PROBE), 0);
	world_obeys(); /* drained, told to stop */
	assert_int_equal(count(2, USE_PROBE), 0);
	world_obeys(); /* gone, new ones started */
	assert_int_equal(count(2, USE_PROBE), 2);
	assert_true(r.hold);
	world_obeys();
	assert_false(r.hold);
	assert_int_equal(count(2, USE_SERVE), 2);
	settle();
	assert_int_equal(r.current.release, 2);
}

static void a_failed_first_deploy_leaves_nothing(void **state UNUSED)
{
	memset(&r, 0, sizeof(r));
	deploy(1);
	now += 1000;
	look();
	settle();
	assert_int_equal(r.phase, ROLLOUT_IDLE);
	assert_int_equal(r.unit_count, 0);
	assert_int_equal(r.current.release, 0);
}

static struct rollout_unit *unit(uint32_t release, uint32_t slot)
{
	for (uint32_t i = 0; i < r.unit_count; i++)
		if (!r.units[i].stop && r.units[i].version.release == release &&
		    r.units[i].slot == slot)
			return &r.units[i];
	fail_msg("no unit @%u/%u", release, slot);
	return NULL;
}

static void until_baking(void)
{
	for (int i = 0; i < 10 && r.phase != ROLLOUT_BAKE; i++)
		world_obeys();
	assert_int_equal(r.phase, ROLLOUT_BAKE);
}

static void rollback(uint32_t release, uint64_t change)
{
	step((struct rollout_event){ROLLOUT_ROLLBACK, {release, 1}, change, NULL});
}

static void an_undo_does_its_work_in_the_step_that_decides_it(void **state UNUSED)
{
	deploy(2);
	unit(2, 1)->seen.starts = 2;
	look();
	assert_true(r.undoing);
	assert_int_equal(count(2, USE_PROBE), 0);
	look();
	assert_false(result.changed);
}

static void fewer_instances_for_a_moment_leave_none_draining(void **state UNUSED)
{
	rules.instances = 1;
	look();
	assert_int_equal(count(1, USE_DRAIN), 1);
	rules.instances = 2;
	look();
	assert_int_equal(count(1, USE_SERVE), 2);
}

static void more_instances_in_the_bake_must_be_ready_before_it_ends(void **state UNUSED)
{
	deploy(2);
	until_baking();
	rules.instances = 3;
	now += 300;
	look();
	assert_int_equal(r.phase, ROLLOUT_BAKE);
	assert_int_equal(count(2, USE_PROBE), 1);
	settle();
	assert_int_equal(r.phase, ROLLOUT_IDLE);
	assert_int_equal(count(2, USE_SERVE), 3);
	rules.instances = 2;
}

static void what_crashed_before_the_change_does_not_undo_it(void **state UNUSED)
{
	unit(1, 1)->seen.starts = 5;
	deploy(2);
	unit(1, 1)->seen.starts = 5;
	rollback(1, 9);
	assert_false(r.undoing);
	assert_int_equal(r.change, 9);
}

static void a_change_to_what_runs_gives_the_unready_their_time(void **state UNUSED)
{
	unit(1, 1)->seen.ready = false;
	deploy(1);
	now += 999;
	look();
	assert_false(r.undoing);
	assert_int_equal(r.phase, ROLLOUT_BAKE);
	unit(1, 1)->seen.ready = true;
	look();
	assert_int_equal(r.phase, ROLLOUT_IDLE);
	assert_int_equal(result.outcome, ROLLOUT_DONE);
}

static void an_undo_never_trades_a_ready_unit_for_one_that_is_not(void **state UNUSED)
{
	rollback(9, 9);
	unit(9, 1)->seen.ready = true;
	look();
	assert_int_equal(unit(9, 1)->use, USE_SERVE);
	for (uint32_t i = 0; i < r.unit_count; i++)
		r.units[i].seen.ready = r.units[i].version.release == 9 && r.units[i].slot == 1;
	now += 5000; /* 9 in slot 2 is late, and 1 is down */
	look();
	assert_true(r.undoing);
	now += 5000;
	look();
	assert_int_equal(unit(9, 1)->use, USE_SERVE);
	rollback(9, 10); /* and a person can always say so */
	assert_int_equal(r.change, 10);
}

static void an_undo_to_what_never_gets_ready_ends(void **state UNUSED)
{
	rollback(9, 9);
	for (int i = 0; i < 20; i++) {
		for (uint32_t j = 0; j < r.unit_count; j++) {
			r.units[j].seen.ready = false;
			r.units[j].seen.drained = true;
			r.units[j].seen.gone = r.units[j].stop;
		}
		now += 1000;
		look();
	}
	assert_int_equal(r.phase, ROLLOUT_IDLE);
	assert_int_equal(count(1, USE_SERVE), 2);
}

static void an_undo_keeps_what_is_left_until_the_old_is_ready(void **state UNUSED)
{
	deploy(2);
	until_baking();
	for (uint32_t i = 0; i < r.unit_count; i++)
		r.units[i].seen.ready = false; /* the parked ones died, and the new one flaps */
	look();
	assert_true(r.undoing);
	assert_int_equal(count(2, USE_SERVE), 2);
}

static void superseded_units_leave_room_in_the_table(void **state UNUSED)
{
	rules.instances = ROLLOUT_INSTANCES_MAX;
	settle();
	for (uint32_t release = 2; release < 12; release++) {
		rollback(release, release);
		for (uint32_t i = 0; i < r.unit_count; i++)
			r.units[i].seen.gone = r.units[i].stop;
	}
	settle();
	assert_int_equal(r.phase, ROLLOUT_IDLE);
	assert_int_equal(r.current.release, 11);
	assert_int_equal(count(11, USE_SERVE), ROLLOUT_INSTANCES_MAX);
	rules.instances = 2;
}

static void each_change_ends_in_a_result_of_its_own(void **state UNUSED)
{
	deploy(2);
	for (int i = 0; i < 20 && r.phase != ROLLOUT_FINISH; i++) {
		world_obeys();
		now += 100;
	}
	for (uint32_t i = 0; i < r.unit_count; i++)
		r.units[i].seen.gone = r.units[i].stop;
	rollback(2, 9); /* to what runs, as the last step of the deploy is done */
	assert_int_equal(result.ended, 2);
	assert_int_equal(result.outcome, ROLLOUT_SUPERSEDED);
	assert_int_equal(result.wake_ms, now);
	look();
	assert_int_equal(result.ended, 9);
	assert_int_equal(result.outcome, ROLLOUT_DONE);
}

static void a_new_router_that_looked_at_nobody_undoes_nothing(void **state UNUSED)
{
	deploy(2);
	until_baking();
	for (uint32_t i = 0; i < r.unit_count; i++) {
		r.units[i].seen.ready = false;
		r.units[i].seen.unknown = true;
	}
	look();
	assert_false(r.undoing);
	unit(2, 1)->seen.unknown = false;
	look();
	assert_true(r.undoing);
}

static void time_to_get_ready_does_not_run_out_while_nobody_looks(void **state UNUSED)
{
	deploy(2);
	unit(2, 1)->seen.unknown = true;
	now += 1000;
	look();
	assert_false(r.undoing);
	assert_in_range(result.wake_ms, now, now + 200); /* nothing else would say that it is over */
	now += 5000;
	unit(2, 1)->seen.unknown = false;
	unit(2, 1)->seen.ready = true;
	look();
	assert_false(r.undoing);
	assert_int_equal(unit(2, 1)->use, USE_SERVE);
}

static void a_change_that_held_ends_after_those_it_held(void **state UNUSED)
{
	rules.never_mixed = true;
	rules.hold_ms = 2000;
	rollback(2, 2);
	r.seen_waiting = true;
	for (int i = 0; i < 5; i++)
		world_obeys();
	assert_int_equal(r.phase, ROLLOUT_FINISH);
	assert_false(r.hold);
	assert_in_range(result.wake_ms, now, now + 200);
	r.seen_waiting = false;
	world_obeys();
	assert_int_equal(r.phase, ROLLOUT_IDLE);
	rollback(1, 3);
	r.seen_waiting = true; /* for ever: by order, or because more come than are answered */
	for (int i = 0; i < 5; i++)
		world_obeys();
	assert_int_equal(r.phase, ROLLOUT_FINISH);
	now += 2000;
	world_obeys();
	assert_int_equal(r.phase, ROLLOUT_IDLE);
	rules.never_mixed = false;
}

static void the_hold_ends_when_versions_may_mix_again(void **state UNUSED)
{
	rules.never_mixed = true;
	deploy(2);
	assert_true(r.hold);
	rules.never_mixed = false;
	step((struct rollout_event){ROLLOUT_ABORT, {0, 0}, 0, NULL});
	assert_false(r.hold);
	settle();
	assert_int_equal(r.phase, ROLLOUT_IDLE);
	assert_int_equal(r.current.release, 1);
}

static void a_first_deploy_that_is_superseded_does_not_mix(void **state UNUSED)
{
	memset(&r, 0, sizeof(r));
	rules.never_mixed = true;
	deploy(1);
	world_obeys();
	rollback(7, 2);
	assert_int_equal(count(7, USE_PROBE), 0);
	assert_true(r.hold);
	settle();
	assert_int_equal(r.current.release, 7);
	rules.never_mixed = false;
}

static void all_steps_of_the_largest_app_are_told(void **state UNUSED)
{
	rules.instances = ROLLOUT_INSTANCES_MAX;
	settle();
	rollback(2, 2);
	world_obeys(); /* each of 64 serves, each of 64 drains */
	assert_int_equal(result.steps_left_out, 0);
	assert_in_range(result.step_count, 2 * ROLLOUT_INSTANCES_MAX, ROLLOUT_STEPS_MAX);
	rules.instances = 2;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup(deploy_does_one_slot_at_a_time_and_parks_the_old, fresh),
		cmocka_unit_test_setup(a_unit_that_never_gets_ready_is_undone, fresh),
		cmocka_unit_test_setup(an_end_in_the_bake_goes_back_to_the_parked_in_one_step, fresh),
		cmocka_unit_test_setup(rollback_starts_all_slots_at_once, fresh),
		cmocka_unit_test_setup(abort_is_legal_in_every_phase, fresh),
		cmocka_unit_test_setup(versions_that_must_not_mix_never_run_together, fresh),
		cmocka_unit_test_setup(a_failed_first_deploy_leaves_nothing, fresh),
		cmocka_unit_test_setup(an_undo_does_its_work_in_the_step_that_decides_it, fresh),
		cmocka_unit_test_setup(fewer_instances_for_a_moment_leave_none_draining, fresh),
		cmocka_unit_test_setup(more_instances_in_the_bake_must_be_ready_before_it_ends, fresh),
		cmocka_unit_test_setup(what_crashed_before_the_change_does_not_undo_it, fresh),
		cmocka_unit_test_setup(a_change_to_what_runs_gives_the_unready_their_time, fresh),
		cmocka_unit_test_setup(an_undo_never_trades_a_ready_unit_for_one_that_is_not, fresh),
		cmocka_unit_test_setup(an_undo_to_what_never_gets_ready_ends, fresh),
		cmocka_unit_test_setup(an_undo_keeps_what_is_left_until_the_old_is_ready, fresh),
		cmocka_unit_test_setup(superseded_units_leave_room_in_the_table, fresh),
		cmocka_unit_test_setup(each_change_ends_in_a_result_of_its_own, fresh),
		cmocka_unit_test_setup(a_new_router_that_looked_at_nobody_undoes_nothing, fresh),
		cmocka_unit_test_setup(time_to_get_ready_does_not_run_out_while_nobody_looks, fresh),
		cmocka_unit_test_setup(a_change_that_held_ends_after_those_it_held, fresh),
		cmocka_unit_test_setup(the_hold_ends_when_versions_may_mix_again, fresh),
		cmocka_unit_test_setup(a_first_deploy_that_is_superseded_does_not_mix, fresh),
		cmocka_unit_test_setup(all_steps_of_the_largest_app_are_told, fresh),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
