/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "core/renew.h"

#define MINUTE 60000ull
#define HOUR (60 * MINUTE)
#define DAY (24 * HOUR)
#define START (20000 * DAY) /* of the calendar */

static const struct renew none;
static const struct renew_cert months = {START, START + 90 * DAY, true};

static void the_first_is_wanted_at_once(void **state UNUSED)
{
	struct renew_cert c = {0};

	assert_true(renew_due(&none, &c, false, ~0u, START) <= START);
	c = months;
	c.fits = false; /* a host came in addition */
	assert_true(renew_due(&none, &c, false, ~0u, START) <= START);
}

static void two_thirds_of_a_life_are_used(void **state UNUSED)
{
	const struct renew_cert days = {START, START + 6 * DAY, true};

	assert_int_equal(renew_due(&none, &months, false, 0, START), START + 60 * DAY);
	assert_int_equal(renew_due(&none, &days, false, 0, START), START + 4 * DAY);
	for (uint32_t random = 0; random < 1000; random++) {
		uint64_t due = renew_due(&none, &months, false, random * 4294967u, START);

		assert_in_range(due, START + 58 * DAY, START + 60 * DAY);
	}
}

/* However the dice fall, with any certificate, and with somebody who is impatient all the time. */
static void no_hour_has_more_failures_than_are_allowed(void **state UNUSED)
{
	const struct renew_cert certs[] = {{0}, months, {START - 30 * DAY, START + 10, true}};

	for (uint32_t seed = 0; seed < 300; seed++) {
		const struct renew_cert *c = &certs[seed % ARRAY_LEN(certs)];
		struct renew r = {0};
		uint64_t failed[400], now = START;
		bool asked = seed % 2;

		for (uint32_t i = 0; i < ARRAY_LEN(failed); i++) {
			now = MAX(now, renew_due(&r, c, asked, seed * 2654435761u + i * 40503u, now));
			failed[i] = now;
			renew_failed(&r, now);
			if (i >= RENEW_FAILURES)
				assert_true(now - failed[i - RENEW_FAILURES] >= RENEW_WINDOW_MS);
			/* One try of the hour is left to a person. */
			if (!asked && i >= RENEW_FAILURES - 1)
				assert_true(now - failed[i - RENEW_FAILURES + 1] >= RENEW_WINDOW_MS);
			now += 1000;
		}
		if (!asked) { /* and it goes on for ever, three times a day at least */
			uint64_t due = renew_due(&r, c, asked, seed, now);

			assert_in_range(due, now, now + 10 * HOUR);
		}
	}
}

static void asking_passes_over_a_pause(void **state UNUSED)
{
	struct renew_cert c = {0};
	struct renew r = {0};

	renew_failed(&r, START);
	assert_in_range(renew_due(&r, &c, false, 0xffff, START), START + 2 * MINUTE, START + 3 * MINUTE);
	assert_true(renew_due(&r, &c, true, 0, START + 1) <= START + 1);
	assert_int_equal(renew_due(&r, &months, true, 0, START), START + 60 * DAY); /* and over nothing else */
}

static void what_succeeds_is_no_failure(void **state UNUSED)
{
	struct renew r = {0};

	renew_failed(&r, START);
	renew_failed(&r, START + HOUR); /* before the try begins */
	renew_done(&r);
	assert_int_equal(r.failures, 0);
	assert_int_equal(r.failed_ms[0], START);
	assert_int_equal(r.failed_ms[1], 0);
	renew_failed(&r, START + 2 * HOUR);
	renew_done(&r);
	renew_done(&r);
	assert_memory_equal(&r, &none, sizeof(r));
}

static void a_clock_that_was_set_back_stops_nothing(void **state UNUSED)
{
	struct renew_cert c = {0};
	struct renew r = {0};

	for (int i = 0; i < RENEW_FAILURES; i++)
		renew_failed(&r, START + 365 * DAY);
	assert_true(renew_due(&r, &c, false, 0, START) <= START);
}

static enum renew_status status(uint32_t failures, const struct renew_cert *c, uint64_t now)
{
	return renew_status(&(struct renew){.failures = failures}, c, now);
}

static void statuses_tell_how_near_the_end_is(void **state UNUSED)
{
	const struct renew_cert absent = {0}, days = {START, START + 6 * DAY, true};
	struct renew_cert lacking = months;

	lacking.fits = false;
	assert_int_equal(status(0, &absent, START), RENEW_BAD);
	assert_int_equal(status(1, &absent, START), RENEW_UGLY);
	assert_int_equal(status(0, &months, START + 60 * DAY), RENEW_GOOD);
	assert_int_equal(status(1, &months, START + 60 * DAY), RENEW_BAD);
	assert_int_equal(status(9, &months, START + 87 * DAY), RENEW_BAD);
	assert_int_equal(status(9, &months, START + 88 * DAY + 1), RENEW_UGLY);
	assert_int_equal(status(0, &months, START + 80 * DAY), RENEW_BAD);
	assert_int_equal(status(0, &months, START + 90 * DAY), RENEW_UGLY);
	assert_int_equal(status(1, &days, START + 5 * DAY), RENEW_BAD);
	assert_int_equal(status(1, &days, START + 6 * DAY - 14 * HOUR), RENEW_UGLY);
	assert_int_equal(status(0, &lacking, START), RENEW_BAD);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_first_is_wanted_at_once),
	    cmocka_unit_test(two_thirds_of_a_life_are_used),
	    cmocka_unit_test(no_hour_has_more_failures_than_are_allowed),
	    cmocka_unit_test(asking_passes_over_a_pause),
	    cmocka_unit_test(what_succeeds_is_no_failure),
	    cmocka_unit_test(a_clock_that_was_set_back_stops_nothing),
	    cmocka_unit_test(statuses_tell_how_near_the_end_is),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
