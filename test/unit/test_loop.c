/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "base/clock.h"
#include "loop/loop.h"

static struct loop loop;
static uint64_t fired[64];
static int fired_len;

static void note_fired(struct loop_timer *t)
{
	fired[fired_len++] = t->at_ms;
}

static void timers_fire_in_order_though_moved_later_and_earlier(void **state UNUSED)
{
	struct loop_timer t[20];
	uint64_t base;

	loop_init(&loop);
	base = loop.now_ms;
	for (int i = 0; i < 20; i++) {
		t[i] = (struct loop_timer){.on_time = note_fired};
		loop_timer_set(&loop, &t[i], base + (uint64_t)((i * 7) % 20));
	}
	loop_timer_set(&loop, &t[0], base + 21); /* later: lazily */
	loop_timer_set(&loop, &t[1], base);	 /* earlier: at once */
	loop_timer_stop(&loop, &t[2]);
	loop_timer_fini(&loop, &t[3]);
	fired_len = 0;
	while (clock_ms() <= base + 25 || fired_len < 18)
		loop_turn(&loop, 5);
	assert_int_equal(fired_len, 18);
	for (int i = 1; i < fired_len; i++)
		assert_true(fired[i] >= fired[i - 1]);
	assert_int_equal(fired[17], base + 21);
	for (int i = 0; i < 20; i++)
		loop_timer_fini(&loop, &t[i]);
	loop_fini(&loop);
}

static struct loop_io first, second;

static void remove_the_other(struct loop_io *io, uint32_t events UNUSED)
{
	char c;

	assert_int_equal(read(io->fd, &c, 1), 1);
	loop_io_del(&loop, io == &first ? &second : &first);
	fired_len++;
}

static void an_io_removed_by_another_callback_of_the_turn_is_not_called(void **state UNUSED)
{
	int a[2], b[2];

	loop_init(&loop);
	assert_int_equal(pipe(a) | pipe(b), 0);
	first.on_ready = second.on_ready = remove_the_other;
	assert_int_equal(loop_io_add(&loop, &first, a[0], EPOLLIN), 0);
	assert_int_equal(loop_io_add(&loop, &second, b[0], EPOLLIN), 0);
	assert_int_equal(write(a[1], "x", 1) + write(b[1], "x", 1), 2);
	fired_len = 0;
	loop_turn(&loop, 100);
	assert_int_equal(fired_len, 1);
	loop_fini(&loop);
	for (int i = 0; i < 2; i++)
		close(a[i]), close(b[i]);
}

static int child_status = -1;

static void child_ended(struct loop_child *child UNUSED, int status)
{
	child_status = status;
	loop_stop(&loop);
}

static void a_child_is_reaped_and_reported(void **state UNUSED)
{
	struct loop_child child = {.on_exit = child_ended};
	pid_t pid;

	loop_init(&loop);
	pid = fork();
	if (pid == 0)
		_exit(7);
	assert_int_equal(loop_child_add(&loop, &child, pid), 0);
	loop_run(&loop);
	assert_int_equal(child_status >> 8, 7);
	loop_fini(&loop);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(timers_fire_in_order_though_moved_later_and_earlier),
		cmocka_unit_test(an_io_removed_by_another_callback_of_the_turn_is_not_called),
		cmocka_unit_test(a_child_is_reaped_and_reported),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
