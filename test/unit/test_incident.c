/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "core/incident.h"

#define N 30
#define MAX_INCIDENTS 4
#define MINUTE 60000ull

static const struct incident_rule rules = {.page_from = STATUS_BAD, .settle_ms = 2 * MINUTE, .repeat_ms = 5 * MINUTE,
					   .repeat_most_ms = 60 * MINUTE};
static struct incidents is;
static struct incident list[MAX_INCIDENTS];
static uint32_t of[N];
static struct device_told told[N];
static struct device_graph g;
static void *memory;
static struct quiet quiets[2];
static uint32_t quiet_count;
static uint64_t now, wall_ahead;
static char log_text[4096];

static int fresh(void **state UNUSED)
{
	/* b needs a, c needs b; d and the others are alone */
	static const struct device_need needs[] = {{0, 0}, {1, 0}};
	static const struct device_in in[N] = {[1] = {&needs[0], 1}, [2] = {&needs[1], 1}};
	static const struct device_rule device_rules = {1, 1, 1};
	uint32_t circle[DEVICE_CIRCLE_MAX];

	now = 1700000000000ull;
	wall_ahead = 0;
	quiet_count = 0;
	log_text[0] = 0;
	memory = util_alloc(device_graph_size(N, 2));
	assert_int_equal(device_graph_init(&g, memory, in, N, &device_rules, circle), 0);
	incident_init(&is, &rules, list, MAX_INCIDENTS, of, N, 1);
	for (int d = 0; d < N; d++)
		told[d] = (struct device_told){DEVICE_NONE, STATUS_GOOD, DEVICE_CLEAR, false, false};
	return 0;
}

static int gone(void **state UNUSED)
{
	free(memory);
	return 0;
}

/* "opened 1", "page 1 step 0", "closed 1 told 3" */
static void note(void *arg UNUSED, const struct incident_action *a)
{
	static const char *const names[INCIDENT_DO_COUNT] = {"opened", "page",	   "muted",    "cause",
							     "merged", "restored", "reopened", "closed"};
	size_t n = strlen(log_text);
	const struct incident *i = a->incident;

	n += (size_t)snprintf(log_text + n, sizeof(log_text) - n, "%s %d", names[a->kind], (int)i->number);
	if (a->kind == INCIDENT_DO_PAGE)
		n += (size_t)snprintf(log_text + n, sizeof(log_text) - n, " step %u", a->step);
	if (a->kind == INCIDENT_DO_MUTED)
		n += (size_t)snprintf(log_text + n, sizeof(log_text) - n, " by %s", a->quiet->who);
	if (a->kind == INCIDENT_DO_MERGED)
		n += (size_t)snprintf(log_text + n, sizeof(log_text) - n, " into %d", (int)a->into);
	if (a->kind == INCIDENT_DO_CLOSED)
		n += (size_t)snprintf(log_text + n, sizeof(log_text) - n, " told %x", (unsigned)i->told);
	snprintf(log_text + n, sizeof(log_text) - n, ", ");
}

static void assert_done(const char *want, const char *file, int line)
{
	size_t n = strlen(log_text);

	if (n >= 2)
		log_text[n - 2] = 0;
	if (strcmp(log_text, want) != 0) {
		print_error("done: '%s', wanted: '%s'\n", log_text, want);
		_fail(file, line);
	}
	log_text[0] = 0;
}
#define done(want) assert_done(want, __FILE__, __LINE__)

static void settle(void)
{
	incident_settle(&is, quiets, quiet_count, &g, now, now + wall_ahead, note, NULL);
	/* Whatever is due was done: the shell does not spin. */
	assert_true(incident_next_ms(&is) > now);
}

static void tell_since(int device, enum status s, int cause, uint64_t since)
{
	uint32_t d = (uint32_t)(device - 'a');
	struct device_action a = {.kind = DEVICE_TELL, .device = d, .before = told[d], .since_ms = since};

	told[d] = (struct device_told){cause ? (uint32_t)(cause - 'a') : DEVICE_NONE, (uint8_t)s,
				       s == STATUS_GOOD ? DEVICE_CLEAR : cause ? DEVICE_FOLDED : DEVICE_OPEN, false, false};
	a.now = told[d];
	incident_tell(&is, &a, now, note, NULL);
}

static void tell(int device, enum status s, int cause)
{
	tell_since(device, s, cause, now);
}

static void after(uint64_t ms)
{
	now += ms;
	settle();
}

/* --- one incident for one cause --- */

static void one_cause_is_one_incident_and_one_page(void **state UNUSED)
{
	tell('a', STATUS_UGLY, 0);
	tell('b', STATUS_UGLY, 'a');
	tell('c', STATUS_BAD, 'a');
	settle();
	done("opened 1, page 1 step 0");
	after(1000);
	done("");
	assert_int_equal(list[0].now, 3);
	assert_int_equal(list[0].noticed_ms, now - 1000);
	incident_told(&is, 1, 1);
	tell('a', STATUS_GOOD, 0);
	settle();
	tell('b', STATUS_GOOD, 0);
	settle();
	done("");
	after(500);
	tell('c', STATUS_GOOD, 0);
	settle();
	done("restored 1");
	assert_int_equal(list[0].restored_ms, now);
	after(rules.settle_ms - 1);
	done("");
	after(1);
	done("closed 1 told 1");
	assert_null(incident_find(&is, 1));
	assert_true(incident_next_ms(&is) == UINT64_MAX);
}

static void two_causes_are_two(void **state UNUSED)
{
	tell('a', STATUS_UGLY, 0);
	tell('d', STATUS_UGLY, 0);
	settle();
	done("opened 1, page 1 step 0, opened 2, page 2 step 0");
}

static void what_is_over_before_it_was_announced_was_never_there(void **state UNUSED)
{
	tell('a', STATUS_UGLY, 0);
	tell('a', STATUS_GOOD, 0);
	settle();
	done("");
	assert_true(incident_next_ms(&is) == UINT64_MAX);
}

static void what_deviated_first_is_told_in_order_and_bounded(void **state UNUSED)
{
	uint64_t t = now;

	tell_since('z', STATUS_UGLY, 0, t - 500);
	for (int d = 'a'; d < 'z'; d++) /* found in any order */
		tell_since(d, STATUS_BAD, 'z', t - 400 - 10 * (uint64_t)((d * 7) % 26));
	settle();
	assert_int_equal(list[0].first_count, INCIDENT_FIRST_MAX);
	for (uint32_t k = 1; k < INCIDENT_FIRST_MAX; k++)
		assert_true(list[0].first[k - 1].at_ms <= list[0].first[k].at_ms);
	assert_int_equal(list[0].first[0].at_ms, list[0].start_ms);
	assert_int_equal(list[0].start_ms, t - 400 - 250);
	assert_int_equal(list[0].first[INCIDENT_FIRST_MAX - 1].at_ms, t - 400 - 10 * 10);
	assert_int_equal(list[0].all, 26);
	/* One that was named is not named twice. */
	tell('a', STATUS_GOOD, 0);
	tell_since('a', STATUS_BAD, 'z', t);
	assert_int_equal(list[0].first_count, INCIDENT_FIRST_MAX);
	assert_int_equal(list[0].all, 27);
}

static void back_within_the_settle_time_it_is_the_same_one(void **state UNUSED)
{
	tell('a', STATUS_UGLY, 0);
	settle();
	tell('a', STATUS_GOOD, 0);
	after(1000);
	done("opened 1, page 1 step 0, restored 1");
	now += rules.settle_ms - 2000;
	tell('a', STATUS_UGLY, 0);
	settle();
	done("reopened 1"); /* who was paged was not told that it was over */
	assert_int_equal(list[0].restored_ms, 0);
	assert_int_equal(list[0].reopened, 1);
	tell('a', STATUS_GOOD, 0);
	settle();
	after(rules.settle_ms);
	done("restored 1, closed 1 told 0");
	tell('a', STATUS_UGLY, 0);
	settle();
	done("opened 2, page 2 step 0");
}

static void when_it_was_restored_is_the_last_time(void **state UNUSED)
{
	tell('a', STATUS_UGLY, 0);
	settle();
	tell('a', STATUS_GOOD, 0); /* and back, before anyone looked */
	tell('a', STATUS_UGLY, 0);
	settle();
	done("opened 1, page 1 step 0");
	assert_int_equal(list[0].restored_ms, 0);
	now += 5 * MINUTE;
	tell('a', STATUS_GOOD, 0);
	settle();
	assert_int_equal(list[0].restored_ms, now);
}

static void it_is_not_over_while_it_flaps(void **state UNUSED)
{
	struct device_action a = {.kind = DEVICE_TELL, .device = 0};

	tell('a', STATUS_UGLY, 0);
	settle();
	a.now = (struct device_told){DEVICE_NONE, STATUS_GOOD, DEVICE_CLEAR, true, false};
	incident_tell(&is, &a, now, note, NULL);
	settle();
	after(10 * rules.settle_ms);
	done("opened 1, page 1 step 0, restored 1");
	a.now.flaps = false;
	incident_tell(&is, &a, now, note, NULL);
	settle();
	done("closed 1 told 0");
}

static void unknown_opens_nothing_and_resolves_nothing(void **state UNUSED)
{
	tell('a', STATUS_UNKNOWN, 0);
	tell('b', STATUS_UNKNOWN, 'a');
	settle();
	done("");
	tell('a', STATUS_UGLY, 0);
	settle();
	tell('a', STATUS_UNKNOWN, 0);
	after(10000);
	done("opened 1, page 1 step 0");
	assert_int_equal(list[0].status, STATUS_UGLY);
	tell('b', STATUS_UNKNOWN, 'a'); /* on account of a: it is in it */
	assert_int_equal(list[0].now, 2);
}

/* --- a cause that has a cause --- */

static void the_cause_behind_the_cause_takes_over_without_another_page(void **state UNUSED)
{
	tell_since('b', STATUS_UGLY, 0, now - 5000);
	tell('c', STATUS_UGLY, 'b');
	settle();
	incident_told(&is, 1, 2);
	done("opened 1, page 1 step 0");
	tell_since('a', STATUS_UGLY, 0, now - 3000);
	tell('b', STATUS_UGLY, 'a');
	tell('c', STATUS_UGLY, 'a');
	settle();
	done("cause 1");
	assert_int_equal(list[0].cause, 0);
	assert_int_equal(list[0].now, 3);
	assert_int_equal(list[0].start_ms, now - 5000);
	assert_int_equal(list[0].first[0].device, 1);
	assert_int_equal(list[0].first[1].device, 0);
	tell('a', STATUS_GOOD, 0);
	tell('b', STATUS_GOOD, 0);
	tell('c', STATUS_GOOD, 0);
	settle();
	after(rules.settle_ms);
	done("restored 1, closed 1 told 2");
}

static void two_that_were_both_announced_become_one(void **state UNUSED)
{
	tell('b', STATUS_UGLY, 0);
	settle();
	tell('a', STATUS_UGLY, 0);
	settle();
	incident_told(&is, 1, 1);
	incident_told(&is, 2, 2);
	incident_take(&is, 1, now);
	done("opened 1, page 1 step 0, opened 2, page 2 step 0");
	tell('b', STATUS_UGLY, 'a');
	settle();
	done("merged 1 into 2");
	assert_null(incident_find(&is, 1));
	assert_int_equal(incident_find(&is, 2)->taken_ms, now);
	tell('b', STATUS_GOOD, 0);
	tell('a', STATUS_GOOD, 0);
	settle();
	after(rules.settle_ms);
	done("restored 2, closed 2 told 3");
}

static void a_child_that_stays_down_is_an_incident_of_its_own(void **state UNUSED)
{
	tell('a', STATUS_UGLY, 0);
	tell('b', STATUS_UGLY, 'a');
	settle();
	tell('a', STATUS_GOOD, 0);
	settle();
	after(20 * MINUTE);
	done("opened 1, page 1 step 0"); /* nobody is paged again for what is good */
	tell('b', STATUS_UGLY, 0);
	settle();
	done("restored 1, opened 2, page 2 step 0");
}

/* --- pages --- */

static void pages_go_on_at_growing_intervals_until_it_is_taken(void **state UNUSED)
{
	static const uint64_t minutes[] = {5, 10, 20, 40, 60, 60, 60};

	tell('a', STATUS_UGLY, 0);
	settle();
	done("opened 1, page 1 step 0");
	for (size_t k = 0; k < ARRAY_LEN(minutes); k++) {
		char want[40];

		assert_int_equal(incident_next_ms(&is), now + minutes[k] * MINUTE);
		after(minutes[k] * MINUTE - 1);
		done("");
		after(1);
		snprintf(want, sizeof(want), "page 1 step %zu", k + 1);
		done(want);
	}
	assert_true(incident_take(&is, 1, now));
	assert_true(incident_next_ms(&is) == UINT64_MAX);
	after(10000 * MINUTE);
	done("");
	assert_false(incident_take(&is, 2, now));
	assert_false(incident_told(&is, 2, 1));
}

static void who_has_had_it_for_long_is_reminded(void **state UNUSED)
{
	is.rule.taken_ms = 120 * MINUTE;
	tell('a', STATUS_UGLY, 0);
	settle();
	now += MINUTE;
	incident_take(&is, 1, now);
	assert_int_equal(incident_next_ms(&is), now + 120 * MINUTE);
	after(120 * MINUTE - 1);
	done("opened 1, page 1 step 0");
	after(1);
	done("page 1 step 1");
	assert_true(incident_take(&is, 1, now)); /* I still have it */
	after(120 * MINUTE - 1);
	done("");
}

static void what_gets_worse_is_paged_at_once_to_the_same_people(void **state UNUSED)
{
	tell('a', STATUS_BAD, 0);
	settle();
	incident_take(&is, 1, now);
	tell('a', STATUS_UGLY, 0);
	settle();
	done("opened 1, page 1 step 0, page 1 step 0");
	tell('a', STATUS_BAD, 0);
	settle();
	tell('a', STATUS_UGLY, 0);
	settle();
	done("");
	assert_int_equal(list[0].worst, STATUS_UGLY);
}

static void only_what_is_bad_enough_is_paged(void **state UNUSED)
{
	is.rule.page_from = STATUS_UGLY;
	tell('a', STATUS_BAD, 0);
	after(100 * MINUTE);
	done("opened 1");
	tell('a', STATUS_UGLY, 0);
	settle();
	done("page 1 step 0");
	tell('a', STATUS_BAD, 0);
	after(100 * MINUTE);
	done("");
	is.rule.page_from = STATUS_GOOD;
	tell('d', STATUS_UGLY, 0);
	after(100 * MINUTE);
	done("opened 2");
}

/* --- silences --- */

static void quiet(enum quiet_scope scope, int device, uint64_t from, uint64_t until)
{
	quiets[quiet_count] = (struct quiet){.scope = scope, .device = (uint32_t)(device - 'a'), .from_ms = from,
					     .until_ms = until, .who = quiet_count ? "bo" : "al", .why = "works"};
	quiet_count++;
}

static void a_silence_puts_a_page_off_until_its_end(void **state UNUSED)
{
	quiet(QUIET_ALL, 'a', now, now + 30 * MINUTE);
	tell('a', STATUS_UGLY, 0);
	settle();
	done("opened 1, muted 1 by al");
	after(30 * MINUTE - 1);
	done("");
	after(1);
	done("page 1 step 0");
}

static void what_is_over_within_it_is_told_to_nobody(void **state UNUSED)
{
	quiet(QUIET_ALL, 'a', now, now + 30 * MINUTE);
	tell('a', STATUS_UGLY, 0);
	settle();
	tell('a', STATUS_GOOD, 0);
	settle();
	after(31 * MINUTE);
	done("opened 1, muted 1 by al, restored 1, closed 1 told 0");
}

static void what_was_paged_before_is_resolved_in_its_midst(void **state UNUSED)
{
	tell('a', STATUS_UGLY, 0);
	settle();
	incident_told(&is, 1, 4);
	quiet(QUIET_ALL, 'a', now, now + 600 * MINUTE);
	after(5 * MINUTE);
	done("opened 1, page 1 step 0, muted 1 by al");
	tell('a', STATUS_GOOD, 0);
	settle();
	after(rules.settle_ms);
	done("restored 1, closed 1 told 4");
}

static void what_was_taken_before_anyone_was_paged_is_not_paged(void **state UNUSED)
{
	quiet(QUIET_ALL, 'a', now, now + 30 * MINUTE);
	tell('a', STATUS_BAD, 0);
	settle();
	assert_true(incident_take(&is, 1, now));
	after(31 * MINUTE);
	done("opened 1, muted 1 by al");
	tell('a', STATUS_UGLY, 0); /* but when it gets worse, it is */
	settle();
	done("page 1 step 0");
}

static void the_wall_clock_says_when_it_ends(void **state UNUSED)
{
	quiet(QUIET_ALL, 'a', now, now + 600 * MINUTE);
	tell('a', STATUS_UGLY, 0);
	settle();
	done("opened 1, muted 1 by al");
	wall_ahead = 600 * MINUTE; /* it was set */
	assert_true(incident_next_ms(&is) <= now + MINUTE);
	after(MINUTE);
	done("page 1 step 0");
}

static void each_scope_covers_what_it_says(void **state UNUSED)
{
	static const struct {
		enum quiet_scope scope;
		char device;
		const char *covers;
	} cells[] = {{QUIET_ALL, 'd', "abcd"}, {QUIET_BEHIND, 'a', "abc"}, {QUIET_BEHIND, 'b', "bc"},
		     {QUIET_BEHIND, 'd', "d"}, {QUIET_TREE, 'b', "ab"}, {QUIET_TREE, 'a', "a"}, {QUIET_TREE, 'c', "abc"}};

	for (size_t k = 0; k < ARRAY_LEN(cells); k++) {
		struct quiet q = {.scope = cells[k].scope, .device = (uint32_t)(cells[k].device - 'a'), .from_ms = 10,
				  .until_ms = 20};

		for (int d = 'a'; d <= 'd'; d++) {
			bool covered = strchr(cells[k].covers, d);

			assert_int_equal(quiet_find(&q, 1, &g, (uint32_t)(d - 'a'), 10) != NULL, covered);
			assert_null(quiet_find(&q, 1, &g, (uint32_t)(d - 'a'), 9));
			assert_null(quiet_find(&q, 1, &g, (uint32_t)(d - 'a'), 20));
		}
	}
	quiet(QUIET_ALL, 'a', 10, 20);
	quiet(QUIET_BEHIND, 'a', 10, 30);
	assert_string_equal(quiet_find(quiets, 2, &g, 0, 15)->who, "bo"); /* the one that ends last */
	assert_string_equal(quiet_find(quiets, 2, &g, 3, 15)->who, "al");
	assert_null(quiet_find(quiets, 0, &g, 3, 15));
	quiets[0].until_ms = 40;
	assert_string_equal(quiet_find(quiets, 2, &g, 0, 15)->who, "al");
}

static void a_silence_ends_and_says_who_and_why(void **state UNUSED)
{
	struct quiet q = {.from_ms = 5, .until_ms = 6, .who = "al", .why = "works"}, bad;
	struct err e;

	assert_int_equal(quiet_check(&q, &e), 0);
	q.until_ms = q.from_ms + QUIET_MOST_MS;
	assert_int_equal(quiet_check(&q, &e), 0);
	bad = q;
	bad.until_ms++;
	assert_int_equal(quiet_check(&bad, &e), -ERR_INPUT);
	assert_non_null(strstr(e.msg, "at most 31 days"));
	bad = q;
	bad.until_ms = bad.from_ms;
	assert_int_equal(quiet_check(&bad, &e), -ERR_INPUT);
	bad = q;
	bad.who = "";
	assert_int_equal(quiet_check(&bad, &e), -ERR_INPUT);
	bad.who = NULL;
	assert_int_equal(quiet_check(&bad, &e), -ERR_INPUT);
	bad = q;
	bad.why = "";
	assert_int_equal(quiet_check(&bad, &e), -ERR_INPUT);
	bad.why = NULL;
	assert_int_equal(quiet_check(&bad, &e), -ERR_INPUT);
}

/* --- bounds and restarts --- */

static void what_has_no_room_joins_the_newest_and_is_counted(void **state UNUSED)
{
	for (int d = 'a'; d < 'a' + MAX_INCIDENTS; d++)
		tell(d, STATUS_UGLY, 0);
	settle();
	assert_int_equal(is.overflowed, 0);
	log_text[0] = 0;
	tell('m', STATUS_UGLY, 0);
	settle();
	done("");
	assert_int_equal(is.overflowed, 1);
	assert_int_equal(incident_find(&is, 4)->now, 2);
	tell('d', STATUS_GOOD, 0);
	settle();
	done(""); /* m is in it still */
	tell('m', STATUS_GOOD, 0);
	settle();
	done("restored 4");
	/* One that only settles makes room. */
	tell('n', STATUS_UGLY, 0);
	settle();
	done("closed 4 told 0, opened 5, page 5 step 0");
}

static void after_a_restart_it_goes_on(void **state UNUSED)
{
	struct incident stored[2];
	uint32_t twice[N];

	tell('a', STATUS_UGLY, 0);
	tell('b', STATUS_UGLY, 'a');
	tell('d', STATUS_BAD, 0);
	settle();
	incident_told(&is, 1, 1);
	log_text[0] = 0;
	memcpy(stored, list, sizeof(stored));
	incident_init(&is, &rules, list, MAX_INCIDENTS, twice, N, 1);
	assert_true(incident_restore(&is, &stored[0], now));
	assert_true(incident_restore(&is, &stored[1], now));
	for (uint32_t d = 0; d < N; d++)
		incident_rejoin(&is, d, &told[d], now, now);
	settle();
	done("");
	assert_int_equal(list[0].now, 2);
	assert_int_equal(list[0].all, 2);
	after(5 * MINUTE);
	done("page 1 step 1, page 2 step 1");
	/* And after one at which the clock was set back by years. */
	memcpy(stored, list, sizeof(stored));
	now -= 1000000 * MINUTE;
	incident_init(&is, &rules, list, MAX_INCIDENTS, twice, N, 1);
	for (int k = 0; k < 2; k++)
		assert_true(incident_restore(&is, &stored[k], now));
	for (uint32_t d = 0; d < N; d++)
		incident_rejoin(&is, d, &told[d], now, now);
	settle();
	done("");
	assert_true(list[0].start_ms <= now && list[0].noticed_ms <= now);
	after(60 * MINUTE);
	done("page 1 step 2, page 2 step 2");
	tell('a', STATUS_GOOD, 0);
	tell('b', STATUS_GOOD, 0);
	tell('m', STATUS_UGLY, 0);
	settle();
	after(rules.settle_ms);
	done("restored 1, opened 3, page 3 step 0, closed 1 told 1");
}

static void what_became_good_while_nobody_looked_is_restored(void **state UNUSED)
{
	struct incident stored, bad;

	tell('a', STATUS_UGLY, 0);
	settle();
	stored = list[0];
	incident_init(&is, &rules, list, MAX_INCIDENTS, of, N, 1);
	bad = stored;
	bad.cause = N;
	assert_false(incident_restore(&is, &bad, now));
	bad.cause = DEVICE_NONE; /* it is no longer configured: that is an end, and told */
	bad.told = 1;
	assert_true(incident_restore(&is, &bad, now));
	settle();
	after(rules.settle_ms);
	done("opened 1, page 1 step 0, restored 1, closed 1 told 1");
	bad = stored;
	bad.first_count = INCIDENT_FIRST_MAX + 1;
	assert_false(incident_restore(&is, &bad, now));
	bad = stored;
	bad.state = INCIDENT_STATE_COUNT;
	assert_false(incident_restore(&is, &bad, now));
	assert_true(incident_restore(&is, &stored, now));
	settle();
	assert_int_equal(list[0].restored_ms, now);
	after(rules.settle_ms);
	done("restored 1, closed 1 told 0");
}

static void whatever_was_stored_does_no_harm(void **state UNUSED)
{
	struct incident stored, bad;

	tell('a', STATUS_UGLY, 0);
	tell('b', STATUS_UGLY, 'a');
	settle();
	stored = list[0];
	for (size_t k = 0; k < sizeof(bad); k++) {
		bad = stored;
		((unsigned char *)&bad)[k] ^= 0xa5;
		incident_init(&is, &rules, list, MAX_INCIDENTS, of, N, 1);
		if (!incident_restore(&is, &bad, now))
			continue;
		for (uint32_t d = 0; d < N; d++)
			incident_rejoin(&is, d, &told[d], now, now);
		settle();
		tell('a', STATUS_GOOD, 0);
		tell('b', STATUS_GOOD, 0);
		after(0);
		for (uint32_t j = 0; j < MAX_INCIDENTS; j++)
			assert_int_not_equal(list[j].state, INCIDENT_OPEN);
		told[0] = (struct device_told){DEVICE_NONE, STATUS_UGLY, DEVICE_OPEN, false, false};
		told[1] = (struct device_told){0, STATUS_UGLY, DEVICE_FOLDED, false, false};
		log_text[0] = 0;
	}
}

/* --- any row of tells --- */

static uint32_t seed, opened, ended;

static uint32_t roll(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)seed * below >> 32);
}

static void tally(void *arg UNUSED, const struct incident_action *a)
{
	opened += a->kind == INCIDENT_DO_OPENED;
	ended += a->kind == INCIDENT_DO_CLOSED || a->kind == INCIDENT_DO_MERGED;
	if (a->kind == INCIDENT_DO_PAGE)
		incident_told(&is, a->incident->number, 1);
	/* Whoever was paged is told of the end. */
	if (a->kind == INCIDENT_DO_CLOSED)
		assert_int_equal(a->incident->told, a->incident->pages ? 1 : 0);
}

static void check_members(void)
{
	uint32_t in[MAX_INCIDENTS] = {0};

	for (uint32_t d = 0; d < N; d++) {
		if (of[d] == INCIDENT_NONE)
			continue;
		assert_int_not_equal(told[d].status, STATUS_GOOD);
		assert_int_not_equal(list[of[d]].state, INCIDENT_FREE);
		in[of[d]]++;
	}
	for (uint32_t k = 0; k < MAX_INCIDENTS; k++) {
		if (list[k].state == INCIDENT_FREE)
			continue;
		assert_int_equal(list[k].now, in[k]);
		assert_int_equal(list[k].state == INCIDENT_OPEN, in[k] > 0);
		for (uint32_t j = 0; j < k; j++)
			assert_true(list[j].state == INCIDENT_FREE || list[j].cause != list[k].cause);
	}
}

static void every_incident_ends_and_whoever_was_paged_is_told(void **state UNUSED)
{
	for (uint32_t s = 1; s <= 1000; s++) {
		seed = s;
		opened = ended = 0;
		gone(NULL);
		fresh(NULL);
		for (int step = 0; step < 100; step++) {
			for (uint32_t n = roll(5); n > 0; n--) {
				uint32_t d = roll(8), cause = roll(3);
				enum status st = roll(3) ? (enum status)roll(STATUS_COUNT) : STATUS_GOOD;
				bool folds = cause < d && d < 3 && told[cause].place == DEVICE_OPEN;
				struct device_action a = {.kind = DEVICE_TELL, .device = d, .before = told[d],
							  .since_ms = now - roll(5000)};

				told[d] = (struct device_told){folds && st != STATUS_GOOD ? cause : DEVICE_NONE, (uint8_t)st,
							       st == STATUS_GOOD ? DEVICE_CLEAR : folds ? DEVICE_FOLDED : DEVICE_OPEN,
							       false, false};
				a.now = told[d];
				incident_tell(&is, &a, now, tally, NULL);
			}
			incident_settle(&is, NULL, 0, &g, now, now, tally, NULL);
			check_members();
			now += roll(3) ? roll(1000) : roll(10) * MINUTE;
		}
		for (uint32_t d = 0; d < N; d++) {
			struct device_action a = {.kind = DEVICE_TELL, .device = d, .before = told[d]};

			a.now = told[d] = (struct device_told){DEVICE_NONE, STATUS_GOOD, DEVICE_CLEAR, false, false};
			incident_tell(&is, &a, now, tally, NULL);
		}
		incident_settle(&is, NULL, 0, &g, now, now, tally, NULL);
		now += rules.settle_ms;
		incident_settle(&is, NULL, 0, &g, now, now, tally, NULL);
		check_members();
		if (opened != ended || incident_next_ms(&is) != UINT64_MAX)
			fail_msg("seed %u: %u opened, %u ended", s, opened, ended);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fresh, gone)
	const struct CMUnitTest tests[] = {
		T(one_cause_is_one_incident_and_one_page),
		T(two_causes_are_two),
		T(what_is_over_before_it_was_announced_was_never_there),
		T(what_deviated_first_is_told_in_order_and_bounded),
		T(back_within_the_settle_time_it_is_the_same_one),
		T(when_it_was_restored_is_the_last_time),
		T(it_is_not_over_while_it_flaps),
		T(unknown_opens_nothing_and_resolves_nothing),
		T(the_cause_behind_the_cause_takes_over_without_another_page),
		T(two_that_were_both_announced_become_one),
		T(a_child_that_stays_down_is_an_incident_of_its_own),
		T(pages_go_on_at_growing_intervals_until_it_is_taken),
		T(who_has_had_it_for_long_is_reminded),
		T(what_gets_worse_is_paged_at_once_to_the_same_people),
		T(only_what_is_bad_enough_is_paged),
		T(a_silence_puts_a_page_off_until_its_end),
		T(what_is_over_within_it_is_told_to_nobody),
		T(what_was_paged_before_is_resolved_in_its_midst),
		T(what_was_taken_before_anyone_was_paged_is_not_paged),
		T(the_wall_clock_says_when_it_ends),
		T(each_scope_covers_what_it_says),
		T(a_silence_ends_and_says_who_and_why),
		T(what_has_no_room_joins_the_newest_and_is_counted),
		T(after_a_restart_it_goes_on),
		T(what_became_good_while_nobody_looked_is_restored),
		T(whatever_was_stored_does_no_harm),
		T(every_incident_ends_and_whoever_was_paged_is_told),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
