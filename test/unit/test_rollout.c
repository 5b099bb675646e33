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
	step((struct rollout_event){ROLLOUT_LOOK});
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

static int fresh(void **state)
{
	memset(&r, 0, sizeof(r));
	rules.never_mixed = false;
	now = 1000000;
	next_unit = 1;
	deploy(1);
	settle();
	assert_int_equal(r.phase, ROLLOUT_IDLE);
	assert_int_equal(count(1, USE_SERVE), 2);
	return 0;
}

static void deploy_does_one_slot_at_a_time_and_parks_the_old(void **state)
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

static void a_unit_that_never_gets_ready_is_undone(void **state)
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

static void an_end_in_the_bake_goes_back_to_the_parked_in_one_step(void **state)
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

static void rollback_starts_all_slots_at_once(void **state)
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

static void abort_is_legal_in_every_phase(void **state)
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

static void versions_that_must_not_mix_never_run_together(void **state)
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

static void a_failed_first_deploy_leaves_nothing(void **state)
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
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
