/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <fcntl.h>
#include <pthread.h>
#include <sched.h>
#include <sys/mman.h>
#include <sys/wait.h>

#include "wire/ring.h"
#include "wire/shm.h"

/* --- numbers ------------------------------------------------------------- */

static void numbers_of_all_threads_are_summed_and_outlive_a_mapping(void **state UNUSED)
{
	int fd = shm_create(3);
	struct shm *a = shm_map(fd), *b = shm_map(fd);
	struct shm_sum sum;

	assert_non_null(a);
	for (uint32_t t = 0; t < 3; t++) {
		shm_add(&shm_counts(a, t, 7)->requests, t + 1);
		shm_add(&shm_counts(a, t, 7)->latency[shm_bucket(1000)], 1);
		atomic_store(&shm_counts(a, t, 7)->longest_us, 100 * t);
	}
	shm_add(&shm_counts(a, 0, 8)->requests, 99);
	shm_unmap(a);
	shm_sum_slot(b, 7, &sum);
	assert_int_equal(sum.requests, 6);
	assert_int_equal(sum.longest_us, 200);
	assert_int_equal(sum.latency[shm_bucket(1000)], 3);
	shm_zero_slot(b, 7);
	shm_sum_slot(b, 7, &sum);
	assert_int_equal(sum.requests, 0);
	shm_sum_slot(b, 8, &sum);
	assert_int_equal(sum.requests, 99);
	shm_unmap(b);
	close(fd);
}

static void two_routers_count_side_by_side_and_one_is_buried_alone(void **state UNUSED)
{
	int fd = shm_create(2 * SHM_BANKS);
	struct shm *a = shm_map(fd);
	struct shm_sum sum;

	a->slot[7].id = 1;
	assert_int_equal(shm_applied(a), 0); /* nobody is there who could have taken it */
	a->used[0] = 1;
	atomic_store(&a->thread[0].generation, 5);
	atomic_store(&a->thread[1].generation, 6);
	assert_int_equal(shm_applied(a), 5);
	a->used[1] = 1;
	assert_int_equal(shm_applied(a), 0);
	atomic_store(&a->thread[2].generation, 6);
	atomic_store(&a->thread[3].generation, 6);
	assert_int_equal(shm_applied(a), 5);
	shm_counts(a, 1, 7)->inflight = 3;
	shm_counts(a, 1, 7)->requests = 10;
	shm_counts(a, 2, 7)->inflight = 4;
	assert_int_equal(shm_bury(a, 0), 3);
	assert_int_equal(shm_applied(a), 6);
	shm_sum_slot(a, 7, &sum);
	assert_int_equal(sum.inflight, 4);
	assert_int_equal(sum.failed_lost, 3);
	assert_int_equal(sum.requests, 10);
	assert_int_equal(shm_bury(a, 1), 4);
	assert_int_equal(shm_applied(a), 0);
	shm_unmap(a);
	close(fd);
}

static void memory_of_another_shape_is_refused(void **state UNUSED)
{
	int small = memfd_create("x", MFD_CLOEXEC), wrong = memfd_create("x", MFD_CLOEXEC);
	int fd = shm_create(1);

	assert_null(shm_map(small));
	assert_int_equal(ftruncate(wrong, (off_t)shm_size(1)), 0);
	assert_null(shm_map(wrong));		   /* no magic */
	assert_int_equal(ftruncate(fd, 4096), -1); /* sealed */
	assert_int_equal(ftruncate(fd, (off_t)shm_size(2)), -1);
	close(small), close(wrong), close(fd);
}

static void a_latency_falls_into_a_bucket_whose_end_is_above_it(void **state UNUSED)
{
	for (uint64_t us = 0; us < 5000000; us = us * 17 / 16 + 1) {
		uint32_t i = shm_bucket(us);

		assert_true(us < shm_bucket_us(i));
		assert_true(i == 0 || us >= shm_bucket_us(i - 1));
	}
	assert_int_equal(shm_bucket(UINT64_MAX), SHM_BUCKETS - 1);
}

static void a_quantile_is_the_end_of_the_bucket_that_it_falls_in(void **state UNUSED)
{
	struct shm_sum s = {0};

	assert_int_equal(shm_quantile_us(&s, 0.5), 0);
	s.latency[shm_bucket(100)] = 99;
	s.latency[shm_bucket(50000)] = 1;
	assert_int_equal(shm_quantile_us(&s, 0.5), shm_bucket_us(shm_bucket(100)));
	assert_int_equal(shm_quantile_us(&s, 1.0), shm_bucket_us(shm_bucket(50000)));
}

static void a_difference_of_two_sums_is_what_happened_in_between(void **state UNUSED)
{
	struct shm_sum before = {.requests = 5, .inflight = 3},
		       after = {.requests = 9, .inflight = 2};

	shm_sum_minus(&after, &before);
	assert_int_equal(after.requests, 4);
	assert_int_equal(after.inflight, 2);
	shm_sum_plus(&after, &before);
	assert_int_equal(after.requests, 9);
}

/* --- ring ---------------------------------------------------------------- */

static struct ring *ring;
static int ring_fd;

static int make_ring(void **state UNUSED)
{
	ring_fd = ring_create(1);
	ring = ring_map(ring_fd, 1);
	return ring ? 0 : -1;
}

static int drop_ring(void **state UNUSED)
{
	munmap(ring, sizeof(*ring));
	close(ring_fd);
	return 0;
}

/* A record is its number, repeated; its length depends on the number. */
static uint32_t length_of(uint32_t n)
{
	return 4 + n * 37 % 3000 / 4 * 4;
}

static bool put(uint32_t n)
{
	uint32_t len = length_of(n);
	char *p = ring_reserve(ring, len);

	if (!p)
		return false;
	for (uint32_t i = 0; i < len; i += 4)
		memcpy(p + i, &n, 4);
	ring_commit(ring, len);
	return true;
}

static bool take(uint32_t n)
{
	uint32_t len, got;
	const char *p = ring_next(ring, &len);

	if (!p)
		return false;
	assert_int_equal(len, length_of(n));
	for (uint32_t i = 0; i < len; i += 4) {
		memcpy(&got, p + i, 4);
		assert_int_equal(got, n);
	}
	return true;
}

static void records_come_out_as_they_went_in_round_and_round(void **state UNUSED)
{
	for (uint32_t n = 0; n < 20000; n++) { /* some 30 times round */
		assert_true(put(n));
		if (n >= 10)
			assert_true(take(n - 10));
	}
	for (uint32_t n = 19990; n < 20000; n++)
		assert_true(take(n));
	assert_false(take(0));
}

static void a_full_ring_takes_nothing_and_loses_nothing(void **state UNUSED)
{
	uint32_t n = 0, taken = 0;

	while (put(n))
		n++;
	assert_true(n > 300);
	assert_false(put(n));
	while (take(taken))
		taken++;
	assert_int_equal(taken, n);
	assert_true(put(0));
}

static void a_record_that_is_too_large_for_a_ring_is_refused(void **state UNUSED)
{
	assert_null(ring_reserve(ring, RING_BYTES / 4));
	assert_null(ring_reserve(ring, UINT32_MAX - 2));
	assert_non_null(ring_reserve(ring, RING_BYTES / 4 - 8));
}

static void the_record_in_hand_is_not_overwritten(void **state UNUSED)
{
	uint32_t len;
	const char *p;

	assert_true(put(5));
	p = ring_next(ring, &len);
	while (put(9))
		;
	for (uint32_t i = 0, got; i < len; i += 4) {
		memcpy(&got, p + i, 4);
		assert_int_equal(got, 5);
	}
}

static void a_writer_that_dies_within_a_record_leaves_nothing_of_it(void **state UNUSED)
{
	pid_t pid;

	assert_true(put(1));
	pid = fork();
	if (pid == 0) {
		char *p = ring_reserve(ring, 1000);

		memset(p, 'x', 1000);
		_exit(0); /* before it was committed */
	}
	waitpid(pid, NULL, 0);
	assert_true(take(1));
	assert_false(take(0));
	assert_true(put(2)); /* the next writer goes on */
	assert_true(take(2));
}

static void nonsense_from_a_writer_leads_the_reader_nowhere(void **state UNUSED)
{
	const uint64_t positions[] = {1,
				      7,
				      8,
				      16,
				      RING_BYTES - 8,
				      RING_BYTES,
				      RING_BYTES * 2ull + 8,
				      UINT64_MAX,
				      UINT64_MAX - 7,
				      1ull << 63};
	const uint32_t lengths[] = {0,	 1, RING_SKIP, RING_SKIP - 1, RING_BYTES, RING_BYTES / 4,
				    4096};
	uint32_t len;

	for (size_t i = 0; i < ARRAY_LEN(positions); i++)
		for (size_t j = 0; j < ARRAY_LEN(lengths); j++)
			for (uint64_t read = 0; read <= RING_BYTES; read += RING_BYTES / 2 - 8) {
				int records = 0;

				for (uint32_t at = 0; at < RING_BYTES; at += 4)
					memcpy(ring->data + at, &lengths[j], 4);
				atomic_store(&ring->read, read);
				atomic_store(&ring->written, positions[i]);
				ring->pad2[0] = 0;
				for (const char *p; (p = ring_next(ring, &len)); records++) {
					assert_true(p >= ring->data);
					assert_true(p + len <= ring->data + RING_BYTES);
					assert_true(records < (int)RING_BYTES);
				}
			}
}

static void the_bell_is_asked_for_only_by_a_reader_that_sleeps_and_once(void **state UNUSED)
{
	assert_non_null(ring_reserve(ring, 8));
	assert_false(ring_commit(ring, 8));
	atomic_store(&ring->sleeping, 1);
	assert_non_null(ring_reserve(ring, 8));
	assert_true(ring_commit(ring, 8));
	assert_non_null(ring_reserve(ring, 8));
	assert_false(ring_commit(ring, 8));
}

#define MANY 200000

static void *write_many(void *arg UNUSED)
{
	for (uint32_t n = 0; n < MANY;) {
		if (put(n))
			n++;
		else
			sched_yield();
	}
	return NULL;
}

static void a_writer_and_a_reader_at_once_agree_on_every_record(void **state UNUSED)
{
	pthread_t writer;

	assert_int_equal(pthread_create(&writer, NULL, write_many, NULL), 0);
	for (uint32_t n = 0; n < MANY;) {
		if (take(n))
			n++;
		else
			sched_yield();
	}
	pthread_join(writer, NULL);
}

static void a_ring_cannot_be_made_smaller_under_its_reader(void **state UNUSED)
{
	assert_int_equal(ftruncate(ring_fd, 0), -1);
}

int main(void)
{
#define RING_TEST(f) cmocka_unit_test_setup_teardown(f, make_ring, drop_ring)
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(numbers_of_all_threads_are_summed_and_outlive_a_mapping),
	    cmocka_unit_test(two_routers_count_side_by_side_and_one_is_buried_alone),
	    cmocka_unit_test(memory_of_another_shape_is_refused),
	    cmocka_unit_test(a_latency_falls_into_a_bucket_whose_end_is_above_it),
	    cmocka_unit_test(a_quantile_is_the_end_of_the_bucket_that_it_falls_in),
	    cmocka_unit_test(a_difference_of_two_sums_is_what_happened_in_between),
	    RING_TEST(records_come_out_as_they_went_in_round_and_round),
	    RING_TEST(a_full_ring_takes_nothing_and_loses_nothing),
	    RING_TEST(a_record_that_is_too_large_for_a_ring_is_refused),
	    RING_TEST(the_record_in_hand_is_not_overwritten),
	    RING_TEST(a_writer_that_dies_within_a_record_leaves_nothing_of_it),
	    RING_TEST(nonsense_from_a_writer_leads_the_reader_nowhere),
	    RING_TEST(the_bell_is_asked_for_only_by_a_reader_that_sleeps_and_once),
	    RING_TEST(a_writer_and_a_reader_at_once_agree_on_every_record),
	    RING_TEST(a_ring_cannot_be_made_smaller_under_its_reader),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
