/* SPDX-License-Identifier: Apache-2.0
 *
 * Token buckets: exact at their edges, over threads, and when more clients come than there is room for.
 */
#include "unit.h"

#include <pthread.h>

#include "core/bucket.h"
#include "core/siphash.h"

static struct bucket_table *fresh(void)
{
	static struct bucket_table t;

	memset((void *)&t, 0, sizeof(t));
	return &t;
}

static int taken(struct bucket_table *t, const struct bucket_rate *r, uint64_t hash, uint64_t now, int tries)
{
	uint64_t wait;
	int n = 0;

	while (tries--)
		n += bucket_take(t, r, hash, now, &wait) != BUCKET_EMPTY;
	return n;
}

static void the_hash_is_the_one_of_its_paper(void **state UNUSED)
{
	uint8_t key[16], data[15];
	uint64_t k[2];

	for (uint8_t i = 0; i < 16; i++)
		key[i] = i;
	for (uint8_t i = 0; i < 15; i++)
		data[i] = i;
	memcpy(k, key, 16);
	assert_int_equal(siphash(k, data, 15), 0xa129ca6149be45e5); /* its appendix A */
	assert_int_equal(siphash(k, data, 0), 0x726fdb47dd0e0e31);
	assert_int_equal(siphash(k, data, 8), 0x93f5f5799a932462);
}

static void a_burst_is_taken_and_then_one_as_each_comes_back(void **state UNUSED)
{
	struct bucket_table *t = fresh();
	struct bucket_rate r = {.requests = 10, .ms = 1000, .burst = 5};
	uint64_t now = 123456789, wait;

	assert_int_equal(taken(t, &r, 7, now, 100), 5);
	assert_int_equal(bucket_take(t, &r, 7, now, &wait), BUCKET_EMPTY);
	assert_in_range(wait, 90, 110);
	assert_int_equal(taken(t, &r, 7, now + 49, 1), 0);
	assert_int_equal(taken(t, &r, 7, now + wait, 2), 1);
	assert_int_equal(taken(t, &r, 7, now + 1000, 100), 5); /* never more than the bucket holds */
	assert_int_equal(taken(t, &r, 7, now + 1000000, 100), 5);
	assert_int_equal(taken(t, &r, 8, now, 100), 5); /* another client */
}

static void what_is_taken_over_a_long_time_is_the_rate(void **state UNUSED)
{
	static const struct bucket_rate rates[] = {
	    {1, 1000, 1}, {1, 86400000, 3}, {7, 1000, 1}, {100, 1000, 200}, {10000, 1000, 10000}, {333, 10, 5}};

	for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
		const struct bucket_rate *r = &rates[i];
		struct bucket_table *t = fresh();
		uint64_t span = (uint64_t)r->ms * 50, n = 0, step = MAX(span / 5000, 1ull);
		uint64_t most = (uint64_t)r->requests * 50, wait;

		for (uint64_t now = 1000; now <= 1000 + span && n <= most + r->burst; now += step)
			while (bucket_take(t, r, 99, now, &wait) != BUCKET_EMPTY)
				if (++n > most + r->burst)
					break;
		assert_true(n <= most + r->burst);
		assert_true(n >= MIN(most * 8 / 10, r->burst * span / step));
	}
}

static void the_wait_that_is_told_is_long_enough_and_not_longer(void **state UNUSED)
{
	static const struct bucket_rate rates[] = {{1, 1000, 1}, {3, 1000, 2}, {1, 3600000, 1}, {100, 60000, 10}};

	for (size_t i = 0; i < ARRAY_LEN(rates); i++) {
		const struct bucket_rate *r = &rates[i];
		struct bucket_table *t = fresh();
		uint64_t wait = 0;

		taken(t, r, 1, 5000, (int)r->burst);
		assert_int_equal(bucket_take(t, r, 1, 5000, &wait), BUCKET_EMPTY);
		assert_in_range(wait, 1, r->ms / r->requests + 1 + r->ms / r->requests / 64);
		assert_int_not_equal(bucket_take(t, r, 1, 5000 + wait, &(uint64_t){0}), BUCKET_EMPTY);
	}
}

static void time_that_goes_round_makes_no_one_wait(void **state UNUSED)
{
	struct bucket_rate r = {.requests = 1000000, .ms = 10, .burst = 10};
	struct bucket_table *t = fresh();

	/* 6.4 million units a millisecond: 2^40 of them go by in 172 s. */
	for (uint64_t now = 1; now < 2000000; now += 997)
		assert_int_equal(taken(t, &r, 5, now, 20), 10);
}

static void too_many_clients_push_out_who_owes_least_and_that_is_told(void **state UNUSED)
{
	struct bucket_table *t = fresh();
	struct bucket_rate r = {.requests = 1, .ms = 1000, .burst = 100};
	uint64_t wait, evicted = 0;

	assert_int_equal(taken(t, &r, 1ull << 40, 1000, 100), 100); /* it has used up everything */
	for (uint64_t i = 2; i < 50; i++)
		evicted += bucket_take(t, &r, i << 40, 1000, &wait) == BUCKET_EVICTED; /* the same set */
	assert_int_equal(evicted, 48 - 7);
	assert_int_equal(bucket_take(t, &r, 1ull << 40, 1000, &wait), BUCKET_EMPTY);
	/* Full buckets are places that are free. */
	for (uint64_t i = 100; i < 107; i++)
		assert_int_equal(bucket_take(t, &r, i << 40, 3000, &wait), BUCKET_TAKEN);
}

struct worker {
	pthread_t thread;
	struct bucket_table *t;
	const struct bucket_rate *r;
	int taken;
};

static void *work(void *arg)
{
	struct worker *w = arg;

	/* One may be up to a second behind the others. */
	for (uint64_t now = 1000; now < 2000; now++)
		for (uint64_t client = 0; client < 6; client++)
			w->taken += taken(w->t, w->r, client << 40, now, 2);
	return NULL;
}

static void threads_together_take_what_one_would(void **state UNUSED)
{
	struct bucket_rate r = {.requests = 100, .ms = 1000, .burst = 50};

	for (int round = 0; round < 20; round++) {
		struct bucket_table *t = fresh();
		struct worker w[4];
		int all = 0;

		for (int i = 0; i < 4; i++) {
			w[i] = (struct worker){.t = t, .r = &r};
			pthread_create(&w[i].thread, NULL, work, &w[i]);
		}
		for (int i = 0; i < 4; i++) {
			pthread_join(w[i].thread, NULL);
			all += w[i].taken;
		}
		/* Each client: the burst, and a second's worth; those of the same moment are one. */
		assert_in_range(all, 5 * (50 + 99), 5 * (50 + 100) + 150);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_hash_is_the_one_of_its_paper),
	    cmocka_unit_test(a_burst_is_taken_and_then_one_as_each_comes_back),
	    cmocka_unit_test(what_is_taken_over_a_long_time_is_the_rate),
	    cmocka_unit_test(the_wait_that_is_told_is_long_enough_and_not_longer),
	    cmocka_unit_test(time_that_goes_round_makes_no_one_wait),
	    cmocka_unit_test(too_many_clients_push_out_who_owes_least_and_that_is_told),
	    cmocka_unit_test(threads_together_take_what_one_would),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
