/* SPDX-License-Identifier: Apache-2.0
 *
 * What each client has now: exact at the limit, over threads, and bounded.
 */
#include "unit.h"

#include <pthread.h>

#include "core/tally.h"

static struct tally_table t;

static void fresh(void)
{
	memset((void *)&t, 0, sizeof(t));
}

static void a_client_has_at_most_so_many(void **state UNUSED)
{
	fresh();
	for (int i = 0; i < 3; i++)
		assert_int_equal(tally_add(&t, 5ull << 30, 3), TALLY_COUNTED);
	assert_int_equal(tally_add(&t, 5ull << 30, 3), TALLY_OVER);
	assert_int_equal(tally_add(&t, 6ull << 30, 3), TALLY_COUNTED);
	tally_sub(&t, 5ull << 30);
	assert_int_equal(tally_get(&t, 5ull << 30), 2);
	assert_int_equal(tally_add(&t, 5ull << 30, 3), TALLY_COUNTED);
	assert_int_equal(tally_add(&t, 5ull << 30, 2), TALLY_OVER); /* the limit was lowered */
	for (int i = 0; i < 3; i++)
		tally_sub(&t, 5ull << 30);
	assert_int_equal(tally_get(&t, 5ull << 30), 0);
	tally_sub(&t, 5ull << 30); /* who has nothing can lose nothing */
	assert_int_equal(tally_get(&t, 5ull << 30), 0);
	assert_int_equal(tally_get(&t, 6ull << 30), 1);
	assert_int_equal(tally_get(&t, 0), 0);
}

static void a_full_set_is_told_and_room_comes_back(void **state UNUSED)
{
	fresh();
	for (uint64_t i = 1; i <= TALLY_WAYS; i++)
		assert_int_equal(tally_add(&t, i << 30, 1), TALLY_COUNTED);
	assert_int_equal(tally_add(&t, 99ull << 30, 1), TALLY_NO_ROOM);
	assert_int_equal(tally_add(&t, 99ull << 30 | 1, 1), TALLY_COUNTED); /* another set */
	assert_int_equal(tally_add(&t, 3ull << 30, 2), TALLY_COUNTED);
	tally_sub(&t, 4ull << 30);
	assert_int_equal(tally_add(&t, 99ull << 30, 1), TALLY_COUNTED);
}

#define ROUNDS 20000

static _Atomic int inside[4], most_inside;

static void *come_and_go(void *arg)
{
	uint32_t seed = (uint32_t)(uintptr_t)arg;

	for (int i = 0; i < ROUNDS; i++) {
		uint32_t client = (seed = seed * 1664525u + 1013904223u) >> 30;
		int now;

		if (tally_add(&t, (uint64_t)(client + 1) << 30, 2) != TALLY_COUNTED)
			continue;
		now = atomic_fetch_add(&inside[client], 1) + 1;
		if (now > atomic_load(&most_inside))
			atomic_store(&most_inside, now);
		atomic_fetch_sub(&inside[client], 1);
		tally_sub(&t, (uint64_t)(client + 1) << 30);
	}
	return NULL;
}

static void threads_that_come_and_go_never_pass_the_limit_and_leave_nothing(void **state UNUSED)
{
	pthread_t thread[4];

	fresh();
	for (uintptr_t i = 0; i < ARRAY_LEN(thread); i++)
		pthread_create(&thread[i], NULL, come_and_go, (void *)(i + 1));
	for (size_t i = 0; i < ARRAY_LEN(thread); i++)
		pthread_join(thread[i], NULL);
	assert_in_range(most_inside, 1, 2);
	for (uint64_t client = 1; client <= 4; client++)
		assert_int_equal(tally_get(&t, client << 30), 0);
	for (size_t i = 0; i < TALLY_WAYS; i++)
		assert_int_equal(t.entry[0][i], 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_client_has_at_most_so_many),
	    cmocka_unit_test(a_full_set_is_told_and_room_comes_back),
	    cmocka_unit_test(threads_that_come_and_go_never_pass_the_limit_and_leave_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
