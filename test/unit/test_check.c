/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "core/check.h"

#define MINUTE 60000ull

static const struct check_rule rule = {.interval_ms = MINUTE, .retry_ms = 10000, .rise = 2, .fall = 3,
				       .flap_begin = CHECK_FLAP_BEGIN, .flap_end = CHECK_FLAP_END};
static struct check c;
static struct check_change change;
static uint64_t now;

static int fresh(void **state UNUSED)
{
	now = 1700000000000ull;
	check_init(&c, now);
	return 0;
}

/* G, B, U(gly), ? a minute apart; returns all that happened. */
static unsigned results(const char *letters)
{
	unsigned what = 0;

	for (; *letters; letters++) {
		static const char of[] = "GBU?";

		now += MINUTE;
		check_step(&c, &rule, (enum status)(strchr(of, *letters) - of), now, &change);
		what |= change.what;
	}
	return what;
}

/* --- soft and hard --- */

static void every_cell_at_its_edge(void **state UNUSED)
{
	static const struct {
		const char *before, *results;
		enum status hard;
		bool soft;
	} cells[] = {
	    {"", "", STATUS_UNKNOWN, false},
	    {"", "G", STATUS_GOOD, false},
	    {"", "BB", STATUS_UNKNOWN, true},
	    {"", "BBB", STATUS_BAD, false},
	    {"", "UU", STATUS_UNKNOWN, true},
	    {"", "UUU", STATUS_UGLY, false},
	    {"", "BBG", STATUS_GOOD, false},
	    {"", "???", STATUS_UNKNOWN, false},
	    /* good */
	    {"G", "BB", STATUS_GOOD, true},
	    {"G", "BBG", STATUS_GOOD, false},
	    {"G", "BBGBB", STATUS_GOOD, true},
	    {"G", "BBB", STATUS_BAD, false},
	    {"G", "UUU", STATUS_UGLY, false},
	    {"G", "UUB", STATUS_BAD, false},
	    {"G", "BBU", STATUS_BAD, true},
	    {"G", "BBUU", STATUS_BAD, true},
	    {"G", "BBUUU", STATUS_UGLY, false},
	    {"G", "UBU", STATUS_BAD, true},
	    /* bad */
	    {"GBBB", "G", STATUS_BAD, true},
	    {"GBBB", "GG", STATUS_GOOD, false},
	    {"GBBB", "GBG", STATUS_BAD, true},
	    {"GBBB", "UU", STATUS_BAD, true},
	    {"GBBB", "UUB", STATUS_BAD, false},
	    {"GBBB", "UUU", STATUS_UGLY, false},
	    {"GBBB", "UUGUU", STATUS_BAD, true},
	    /* ugly */
	    {"GUUU", "G", STATUS_UGLY, true},
	    {"GUUU", "B", STATUS_UGLY, true},
	    {"GUUU", "GG", STATUS_GOOD, false},
	    {"GUUU", "BB", STATUS_BAD, false},
	    {"GUUU", "GB", STATUS_BAD, false},
	    {"GUUU", "BG", STATUS_BAD, true},
	    {"GUUU", "BGG", STATUS_GOOD, false},
	    {"GUUU", "GUG", STATUS_UGLY, true},
	    /* unknown freezes the rows */
	    {"G", "B?B", STATUS_GOOD, true},
	    {"G", "B?B?B", STATUS_BAD, false},
	    {"G", "UU????U", STATUS_UGLY, false},
	    {"GUUU", "G????G", STATUS_GOOD, false},
	};

	for (size_t i = 0; i < ARRAY_LEN(cells); i++) {
		fresh(NULL);
		results(cells[i].before);
		results(cells[i].results);
		if (c.hard != cells[i].hard || check_soft(&c) != cells[i].soft)
			fail_msg("%s then %s: %s%s", cells[i].before, cells[i].results,
				 status_name((enum status)c.hard), check_soft(&c) ? " soft" : "");
	}
}

static void a_change_is_told_once_and_since_is_when_it_began(void **state UNUSED)
{
	uint64_t began;

	assert_int_equal(results("G"), CHECK_HARD);
	began = now + MINUTE;
	assert_int_equal(results("B"), CHECK_SOFT);
	assert_int_equal(results("B"), 0);
	assert_int_equal(results("B"), CHECK_HARD);
	assert_int_equal(change.from, STATUS_GOOD);
	assert_int_equal(change.to, STATUS_BAD);
	assert_int_equal(c.since_ms, began);
	assert_int_equal(results("BBB"), 0);
	assert_int_equal(c.since_ms, began);
	began = now + MINUTE;
	assert_int_equal(results("UU"), CHECK_SOFT);
	assert_int_equal(results("U") & CHECK_HARD, CHECK_HARD);
	assert_int_equal(c.since_ms, began);
	began = now + MINUTE;
	results("BB");
	assert_int_equal(c.hard, STATUS_BAD);
	assert_int_equal(c.since_ms, began);
}

/* --- what went bad and good again --- */

static void an_excursion_stays_tellable(void **state UNUSED)
{
	results("GBBBB");
	assert_int_equal(c.hard, STATUS_BAD);
	now += 10000; /* so that it was 4 min 10 s */
	assert_int_equal(results("G"), CHECK_SOFT);
	results("G");
	assert_int_equal(change.what & CHECK_HARD, CHECK_HARD);
	assert_int_equal(change.worst, STATUS_BAD);
	assert_int_equal(change.worst_ms, 4 * MINUTE + 10000);
	assert_int_equal(change.away_ms, 4 * MINUTE + 10000);
	/* And later, when someone asks, also after a dip that was none. */
	assert_int_equal(results("GG"), 0);
	results("BG");
	assert_int_equal(c.was, STATUS_BAD);
	assert_int_equal(c.was_ms, 4 * MINUTE + 10000);
}

static void the_worst_of_it_is_told_and_how_long_that_was(void **state UNUSED)
{
	results("GBBBUUBBGG");
	assert_int_equal(change.what & CHECK_HARD, CHECK_HARD);
	assert_int_equal(change.worst, STATUS_UGLY); /* though it never got hard */
	assert_int_equal(change.worst_ms, 2 * MINUTE);
	assert_int_equal(change.away_ms, 7 * MINUTE);
	results("UUUGUGG");
	assert_int_equal(change.worst, STATUS_UGLY);
	assert_int_equal(change.worst_ms, 4 * MINUTE); /* the good one between was no time there */
	assert_int_equal(change.away_ms, 5 * MINUTE);
}

static void a_dip_that_never_got_hard_is_told_too(void **state UNUSED)
{
	results("G");
	assert_int_equal(results("B"), CHECK_SOFT);
	assert_int_equal(results("U"), 0);
	assert_int_equal(results("G"), CHECK_OVER);
	assert_int_equal(change.from, STATUS_GOOD);
	assert_int_equal(change.to, STATUS_GOOD);
	assert_int_equal(change.worst, STATUS_UGLY);
	assert_int_equal(change.worst_ms, MINUTE);
	assert_int_equal(change.away_ms, 2 * MINUTE);
	assert_int_equal(c.was, STATUS_GOOD);
	assert_int_equal(results("GG"), 0);
}

static void time_in_which_nobody_looked_is_nobodys(void **state UNUSED)
{
	results("GBBBB????BGG");
	assert_int_equal(change.worst, STATUS_BAD);
	assert_int_equal(change.worst_ms, 5 * MINUTE);
	assert_int_equal(change.away_ms, 9 * MINUTE);
}

/* --- unknown --- */

static void unknown_is_shown_after_as_many_and_until_it_is_sure(void **state UNUSED)
{
	results("G");
	assert_int_equal(results("??"), 0);
	assert_int_equal(check_status(&c), STATUS_GOOD);
	assert_true(check_soft(&c));
	assert_int_equal(results("?"), CHECK_BLIND);
	assert_int_equal(check_status(&c), STATUS_UNKNOWN);
	assert_false(check_soft(&c)); /* who cannot look need not hurry */
	assert_int_equal(results("???"), 0);
	assert_int_equal(c.hard, STATUS_GOOD);
	/* The next result speaks against what was: neither good nor known. */
	assert_int_equal(results("U"), CHECK_SOFT);
	assert_int_equal(check_status(&c), STATUS_UNKNOWN);
	results("U");
	assert_int_equal(results("U") & (CHECK_HARD | CHECK_SEES), CHECK_HARD | CHECK_SEES);
	assert_int_equal(check_status(&c), STATUS_UGLY);
	/* One that agrees ends it at once. */
	results("????");
	assert_int_equal(results("U"), CHECK_SEES);
	assert_int_equal(check_status(&c), STATUS_UGLY);
}

/* --- flapping --- */

static void the_measure_is_that_of_nagios(void **state UNUSED)
{
	results("GGGGGGGGGGGGGGGGGGGGG");
	assert_int_equal(check_flap_permille(&c), 0);
	results("B"); /* the newest weighs 1.25 of 20 */
	assert_int_equal(check_flap_permille(&c), 62);
	results("BBBBBBBBBBBBBBBBBBB"); /* the oldest 0.75 */
	assert_int_equal(check_flap_permille(&c), 37);
	results("B");
	assert_int_equal(check_flap_permille(&c), 0);
	results("GBGBGBGBGBGBGBGBGBGBGB");
	assert_int_equal(check_flap_permille(&c), 1000);
	/* Places 16 and 17 of 20: (0.75 + 0.5 * 15/19 + 0.75 + 0.5 * 16/19) / 20 */
	fresh(NULL);
	results("BB"); /* what was never seen was as the first */
	assert_int_equal(check_flap_permille(&c), 0);
	fresh(NULL);
	results("GBGGGG");
	assert_int_equal(check_flap_permille(&c), 115);
}

static void flapping_begins_and_ends_once(void **state UNUSED)
{
	unsigned what;

	results("GGG");
	assert_int_equal(results("BGBG") & CHECK_FLAPS, 0); /* two dips are none */
	assert_int_equal(results("BGB") & (CHECK_FLAPS | CHECK_STEADY), CHECK_FLAPS);
	assert_true(c.flaps);
	assert_int_equal(results("GBGBGB") & (CHECK_FLAPS | CHECK_STEADY), 0);
	assert_int_equal(c.hard, STATUS_GOOD); /* `fall` saw nothing of it */
	assert_int_equal(results("GGGGGGGGGG") & (CHECK_FLAPS | CHECK_STEADY), 0);
	what = results("GGGGGGGGGGG");
	assert_int_equal(what & (CHECK_FLAPS | CHECK_STEADY), CHECK_STEADY);
	assert_false(c.flaps);
}

static void flapping_is_not_looked_for_without_a_bound(void **state UNUSED)
{
	struct check_rule r = rule;

	r.flap_begin = 0;
	for (int i = 0; i < 50; i++) {
		check_step(&c, &r, i % 2 ? STATUS_BAD : STATUS_GOOD, now += MINUTE, &change);
		assert_int_equal(change.what & (CHECK_FLAPS | CHECK_STEADY), 0);
	}
}

/* --- when --- */

static void checks_are_spread_evenly_and_keep_their_turn(void **state UNUSED)
{
	unsigned in_second[60] = {0}, first[60] = {0}, retried[15] = {0};

	results("G");
	for (uint64_t id = 0; id < 60000; id++) {
		uint64_t due = check_due_ms(&c, &rule, id, now);

		assert_in_range(due, now + 1, now + MINUTE);
		/* It does not matter how long measuring took. */
		assert_int_equal(check_due_ms(&c, &rule, id, due - 1), due);
		assert_int_equal(check_due_ms(&c, &rule, id, due), due + MINUTE);
		assert_int_equal(check_due_ms(&c, &rule, id, due + 5 * MINUTE + 1), due + 6 * MINUTE);
		in_second[due % MINUTE / 1000]++;
		first[(check_first_ms(&rule, id, now) - now) / 1000]++;
	}
	results("B");
	for (uint64_t id = 0; id < 60000; id++) {
		uint64_t due = check_due_ms(&c, &rule, id, now);

		assert_in_range(due, now + 5001, now + 15000);
		retried[(due - now - 1) / 1000]++;
	}
	for (int s = 0; s < 60; s++) { /* 1000 each, six times sqrt(1000) either way */
		assert_in_range(in_second[s], 810, 1190);
		assert_in_range(first[s], 810, 1190);
	}
	for (int s = 5; s < 15; s++)
		assert_in_range(retried[s], 5550, 6450);
}

static void a_long_interval_does_not_make_one_wait_at_the_start(void **state UNUSED)
{
	struct check_rule day = rule, second = rule;

	day.interval_ms = 24 * 60 * MINUTE;
	second.interval_ms = 1000;
	for (uint64_t id = 0; id < 1000; id++) {
		assert_in_range(check_first_ms(&day, id, now), now, now + CHECK_FIRST_SPREAD_MS - 1);
		assert_in_range(check_first_ms(&second, id, now), now, now + 999);
	}
}

static void what_comes_out_of_order_counts_as_now(void **state UNUSED)
{
	uint64_t last;

	results("GB");
	last = now;
	check_step(&c, &rule, STATUS_BAD, now - 10 * MINUTE, &change);
	check_step(&c, &rule, STATUS_BAD, now - 5 * MINUTE, &change);
	assert_int_equal(change.to, STATUS_BAD);
	assert_int_equal(c.since_ms, last);
	results("GG");
	assert_int_equal(change.worst_ms, MINUTE);
}

/* --- pushed --- */

static const struct check_rule push = {.interval_ms = 25 * 60 * MINUTE, .late_ms = 120 * MINUTE, .rise = 1,
				       .fall = 1, .pushed = true};

static void late_is_bad_and_later_is_ugly_each_at_its_edge(void **state UNUSED)
{
	uint64_t beat = now;

	check_step(&c, &push, STATUS_GOOD, beat, &change);
	assert_int_equal(check_late_ms(&c, &push), beat + push.interval_ms);
	assert_false(check_look(&c, &push, beat + push.interval_ms - 1, &change));
	/* However late one looks, it was late at its time. */
	assert_true(check_look(&c, &push, beat + push.interval_ms + 777, &change));
	assert_int_equal(change.what, CHECK_HARD);
	assert_int_equal(change.to, STATUS_BAD);
	assert_int_equal(c.since_ms, beat + push.interval_ms);
	assert_false(check_look(&c, &push, beat + push.interval_ms + 778, &change));
	assert_int_equal(check_late_ms(&c, &push), beat + push.interval_ms + push.late_ms);
	assert_false(check_look(&c, &push, beat + push.interval_ms + push.late_ms - 1, &change));
	assert_true(check_look(&c, &push, beat + push.interval_ms + push.late_ms, &change));
	assert_int_equal(change.to, STATUS_UGLY);
	assert_true(check_late_ms(&c, &push) == UINT64_MAX);
	assert_false(check_look(&c, &push, beat + 1000 * push.interval_ms, &change));
	/* The beat that came after all. */
	check_step(&c, &push, STATUS_GOOD, beat + push.interval_ms + push.late_ms + MINUTE, &change);
	assert_int_equal(change.to, STATUS_GOOD);
	assert_int_equal(change.worst, STATUS_UGLY);
	assert_int_equal(change.worst_ms, MINUTE);
	assert_int_equal(change.away_ms, push.late_ms + MINUTE);
}

static void one_that_never_came_is_late_in_its_time(void **state UNUSED)
{
	assert_int_equal(check_status(&c), STATUS_UNKNOWN);
	assert_false(check_look(&c, &push, now + push.interval_ms - 1, &change));
	assert_true(check_look(&c, &push, now + push.interval_ms, &change));
	assert_int_equal(check_status(&c), STATUS_BAD);
}

static void a_beat_that_says_that_it_failed_is_believed_at_once(void **state UNUSED)
{
	check_step(&c, &push, STATUS_UGLY, now, &change);
	assert_int_equal(check_status(&c), STATUS_UGLY);
	assert_false(check_look(&c, &push, now + MINUTE, &change)); /* to look makes nothing better */
}

static void where_nobody_could_hear_a_beat_its_time_begins_anew(void **state UNUSED)
{
	check_step(&c, &push, STATUS_GOOD, now, &change);
	now += push.interval_ms + push.late_ms;
	check_step(&c, &push, STATUS_UNKNOWN, now, &change);
	assert_int_equal(check_late_ms(&c, &push), now + push.interval_ms);
	assert_false(check_look(&c, &push, now + push.interval_ms - 1, &change));
	assert_true(check_look(&c, &push, now + push.interval_ms, &change));
}

static void what_nobody_measures_does_not_stay_good(void **state UNUSED)
{
	struct check_rule r = rule;
	uint64_t last;

	results("G");
	last = now;
	assert_int_equal(check_late_ms(&c, &rule), last + 2 * MINUTE);
	assert_false(check_look(&c, &rule, last + 2 * MINUTE - 1, &change));
	for (int i = 1; i <= 3; i++) {
		assert_int_equal(check_status(&c), STATUS_GOOD);
		assert_true(check_look(&c, &rule, last + 2 * (uint64_t)i * MINUTE, &change));
		assert_false(check_look(&c, &rule, last + 2 * (uint64_t)i * MINUTE, &change));
	}
	assert_int_equal(change.what, CHECK_BLIND);
	assert_int_equal(check_status(&c), STATUS_UNKNOWN);
	now = last + 6 * MINUTE;
	assert_int_equal(results("G"), CHECK_SEES);
	r.interval_ms = 1000;
	assert_int_equal(check_late_ms(&c, &r), now + 1000 + CHECK_OVERDUE_LEAST_MS);
	r.interval_ms = 60 * MINUTE;
	assert_int_equal(check_late_ms(&c, &r), now + 60 * MINUTE + CHECK_OVERDUE_MOST_MS);
}

/* --- stored --- */

static void what_was_stored_goes_on_and_what_is_none_is_refused(void **state UNUSED)
{
	struct check stored, bad;

	results("GBB");
	stored = c;
	assert_true(check_restore(&stored, now + 5 * MINUTE));
	assert_memory_equal(&stored, &c, sizeof(c));
	check_step(&stored, &rule, STATUS_BAD, now + 5 * MINUTE, &change);
	assert_int_equal(change.to, STATUS_BAD);
	/* The clock was set back by a day: what lies ahead is now. */
	stored = c;
	now -= 24 * 60 * MINUTE;
	assert_true(check_restore(&stored, now));
	assert_int_equal(stored.heard_ms, now);
	check_step(&stored, &rule, STATUS_BAD, now + MINUTE, &change);
	assert_int_equal(change.to, STATUS_BAD);
	assert_int_equal(stored.seen_ms, now + MINUTE);
	for (size_t i = 0; i < sizeof(bad); i++) { /* whatever was there: no crash, and what is taken is sane */
		bad = c;
		((unsigned char *)&bad)[i] = 0xee;
		if (check_restore(&bad, now)) {
			check_step(&bad, &rule, STATUS_UGLY, now, &change);
			assert_true(bad.hard < STATUS_COUNT && bad.worst <= STATUS_UGLY);
		}
	}
	bad = c;
	bad.hard = STATUS_COUNT;
	assert_false(check_restore(&bad, now));
	bad = c;
	bad.history |= 3;
	assert_false(check_restore(&bad, now));
}

/* --- against the definition, with everything remembered --- */

#define LONG 300

static uint32_t seed;

static uint32_t roll(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)seed * below >> 32);
}

static int in_a_row(const enum status *known, int n, bool (*is)(enum status))
{
	int row = 0;

	while (row < n && is(known[n - 1 - row]))
		row++;
	return row;
}

static bool is_good(enum status s)
{
	return s == STATUS_GOOD;
}

static bool is_not_good(enum status s)
{
	return s != STATUS_GOOD;
}

static bool is_ugly(enum status s)
{
	return s == STATUS_UGLY;
}

static bool is_not_ugly(enum status s)
{
	return s != STATUS_UGLY;
}

static enum status defined(enum status hard, const enum status *known, int n, const struct check_rule *r)
{
	if (hard != STATUS_UGLY && in_a_row(known, n, is_ugly) >= r->fall)
		return STATUS_UGLY;
	if (hard != STATUS_UGLY && hard != STATUS_BAD && in_a_row(known, n, is_not_good) >= r->fall)
		return STATUS_BAD;
	if (in_a_row(known, n, is_good) >= (hard == STATUS_UNKNOWN ? 1 : r->rise))
		return STATUS_GOOD;
	if (hard == STATUS_UGLY && in_a_row(known, n, is_not_ugly) >= r->rise)
		return STATUS_BAD;
	return hard;
}

static void any_row_of_results_comes_to_what_the_definition_says(void **state UNUSED)
{
	for (uint32_t s = 1; s <= 3000; s++) {
		enum status known[LONG], hard = STATUS_UNKNOWN;
		struct check_rule r = rule;
		int n = 0;

		seed = s;
		fresh(NULL);
		r.rise = (uint8_t)(1 + roll(4));
		r.fall = (uint8_t)(1 + roll(4));
		for (int i = 0; i < LONG; i++) {
			static const enum status mostly[] = {STATUS_GOOD, STATUS_BAD, STATUS_UGLY, STATUS_UNKNOWN};
			enum status x = roll(3) && n ? known[n - 1] : mostly[roll(4)], before = hard;
			uint64_t ms = 1 + roll(100000);

			now += ms;
			check_step(&c, &r, x, now, &change);
			if (x != STATUS_UNKNOWN) {
				known[n++] = x;
				hard = defined(hard, known, n, &r);
			}
			if (c.hard != hard || change.to != hard || change.from != before ||
			    !!(change.what & CHECK_HARD) != (hard != before))
				fail_msg("seed %u, result %d: %s, should be %s", s, i,
					 status_name((enum status)c.hard), status_name(hard));
			assert_true(c.worst_ms <= now - MIN(now, c.away_ms) || !c.away_ms);
			assert_true(change.worst_ms <= change.away_ms);
			assert_int_equal(c.away_ms == 0, c.worst == STATUS_GOOD);
			assert_true(hard == STATUS_GOOD || hard == STATUS_UNKNOWN || c.away_ms);
		}
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup(name, fresh)
	const struct CMUnitTest tests[] = {
		T(every_cell_at_its_edge),
		T(a_change_is_told_once_and_since_is_when_it_began),
		T(an_excursion_stays_tellable),
		T(the_worst_of_it_is_told_and_how_long_that_was),
		T(a_dip_that_never_got_hard_is_told_too),
		T(time_in_which_nobody_looked_is_nobodys),
		T(unknown_is_shown_after_as_many_and_until_it_is_sure),
		T(the_measure_is_that_of_nagios),
		T(flapping_begins_and_ends_once),
		T(flapping_is_not_looked_for_without_a_bound),
		T(checks_are_spread_evenly_and_keep_their_turn),
		T(a_long_interval_does_not_make_one_wait_at_the_start),
		T(what_comes_out_of_order_counts_as_now),
		T(late_is_bad_and_later_is_ugly_each_at_its_edge),
		T(one_that_never_came_is_late_in_its_time),
		T(a_beat_that_says_that_it_failed_is_believed_at_once),
		T(where_nobody_could_hear_a_beat_its_time_begins_anew),
		T(what_nobody_measures_does_not_stay_good),
		T(what_was_stored_goes_on_and_what_is_none_is_refused),
		T(any_row_of_results_comes_to_what_the_definition_says),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
