/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "core/device.h"

#define N 40
#define NEEDS(...) .needs = (const struct device_need[]){__VA_ARGS__},                                     \
		   .need_count = ARRAY_LEN(((const struct device_need[]){__VA_ARGS__}))

static const struct check_rule quick = {.interval_ms = 60000, .retry_ms = 5000, .rise = 1, .fall = 1},
			       careful = {.interval_ms = 60000, .retry_ms = 5000, .rise = 2, .fall = 3},
			       pushed = {.interval_ms = 60000, .late_ms = 60000, .rise = 1, .fall = 1, .pushed = true};
static const struct device_rule rules = {.answer_ms = 10000, .settle_ms = 60000, .most_ms = 600000};

static struct device_graph g;
static void *memory;
static struct check checks[N][2];
static const struct check_rule *rule_of[N];
static uint64_t now;
static char log_text[4096]; /* what was done since it was last asked for */

static int fresh(void **state UNUSED)
{
	now = 1700000000000ull;
	log_text[0] = 0;
	return 0;
}

static int gone(void **state UNUSED)
{
	free(memory);
	memory = NULL;
	return 0;
}

/* Devices are a, b, c, ...: "ask a", "a ugly open", "b ugly under a". */
static void note(void *arg UNUSED, const struct device_action *a)
{
	size_t n = strlen(log_text);
	char d = (char)('a' + a->device);

	if (a->kind == DEVICE_ASK && a->within_ms)
		snprintf(log_text + n, sizeof(log_text) - n, "ask %c later, ", d);
	else if (a->kind == DEVICE_WAS)
		snprintf(log_text + n, sizeof(log_text) - n, "%c was %s %d of %d ms, ", d, status_name(a->worst),
			 (int)a->worst_ms, (int)a->away_ms);
	else if (a->kind == DEVICE_ASK)
		snprintf(log_text + n, sizeof(log_text) - n, "ask %c, ", d);
	else if (a->now.place == DEVICE_FOLDED)
		snprintf(log_text + n, sizeof(log_text) - n, "%c %s under %c%s, ", d,
			 status_name((enum status)a->now.status), 'a' + a->now.cause, a->now.half ? " half" : "");
	else
		snprintf(log_text + n, sizeof(log_text) - n, "%c %s%s%s, ", d, status_name((enum status)a->now.status),
			 a->now.half ? " half" : "", a->now.flaps ? " flaps" : "");
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
	device_settle(&g, now, note, NULL);
}

static void build(const struct device_in *in, uint32_t n)
{
	uint32_t needs = 0, circle[DEVICE_CIRCLE_MAX];

	for (uint32_t i = 0; i < n; i++)
		needs += in[i].need_count;
	free(memory);
	memory = util_alloc(device_graph_size(n, needs));
	assert_int_equal(device_graph_init(&g, memory, in, n, &rules, circle), 0);
}

/* One check each by rule r, but for those in `without`; all of them good. */
static void all_good(uint32_t n, const struct check_rule *r, const char *without)
{
	struct check_change change;

	for (uint32_t i = 0; i < n; i++) {
		rule_of[i] = r;
		check_init(&checks[i][0], now);
		if (!strchr(without, (char)('a' + i)))
			device_add_check(&g, i, &checks[i][0], r);
	}
	settle();
	for (uint32_t i = 0; i < n; i++)
		if (!strchr(without, (char)('a' + i)))
			device_feed(&g, i, &checks[i][0], r, STATUS_GOOD, now, &change);
	settle();
	log_text[0] = 0;
	now += 100000;
}

static void feed(int device, enum status s)
{
	struct check_change change;
	int i = device - 'a';

	now += 10;
	device_feed(&g, (uint32_t)i, &checks[i][0], rule_of[i], s, now, &change);
}

static void result(int device, enum status s)
{
	feed(device, s);
	settle();
}

/* --- the order --- */

static void circles_are_named(void **state UNUSED)
{
	const struct device_in in[] = {{NEEDS({1, 0})}, {NEEDS({2, 0}, {4, 0})}, {NEEDS({3, 0})},
				       {NEEDS({4, 0}, {1, 1})}, {0}, {NEEDS({0, 0})}};
	const struct device_in self[] = {{0}, {NEEDS({0, 0}, {1, 0})}};
	uint32_t circle[DEVICE_CIRCLE_MAX];

	memory = util_alloc(device_graph_size(6, 8));
	assert_int_equal(device_graph_init(&g, memory, in, 6, &rules, circle), 3);
	for (int i = 0; i < 3; i++) /* 1 needs 2 needs 3 needs 1 */
		assert_int_equal(circle[(i + 1) % 3], circle[i] % 3 + 1);
	assert_int_equal(device_graph_init(&g, memory, self, 2, &rules, circle), 1);
	assert_int_equal(circle[0], 1);
}

static void a_long_circle_is_named_in_part(void **state UNUSED)
{
	struct device_need needs[100];
	struct device_in in[100];
	uint32_t circle[DEVICE_CIRCLE_MAX];

	for (uint32_t i = 0; i < 100; i++) {
		needs[i] = (struct device_need){(i + 1) % 100, 0};
		in[i] = (struct device_in){&needs[i], 1};
	}
	memory = util_alloc(device_graph_size(100, 100));
	assert_int_equal(device_graph_init(&g, memory, in, 100, &rules, circle), 100);
	for (int i = 1; i < DEVICE_CIRCLE_MAX; i++)
		assert_int_equal(circle[i], (circle[i - 1] + 1) % 100);
}

static void a_tree_has_each_once_and_parents_first(void **state UNUSED)
{
	/* a needs b and c, both need d; e needs a; f is alone; b stands twice in a's needs */
	const struct device_in in[] = {{NEEDS({1, 0}, {2, 1}, {1, 2})}, {NEEDS({3, 0})}, {NEEDS({3, 0})}, {0},
				       {NEEDS({0, 0})}, {0}};
	uint32_t tree[6];

	build(in, 6);
	assert_int_equal(device_tree(&g, (uint32_t[]){0}, 1, tree, 6), 4);
	assert_int_equal(tree[0], 3);
	assert_int_equal(tree[1] + tree[2], 3);
	assert_int_equal(tree[3], 0);
	tree[2] = 77;
	assert_int_equal(device_tree(&g, (uint32_t[]){5, 4, 5, 3}, 4, tree, 2), 6); /* and says what was cut */
	assert_int_equal(tree[2], 77);
	assert_int_equal(device_tree(&g, NULL, 0, tree, 6), 0);
	build(NULL, 0);
	settle();
	done("");
}

/* --- what is so --- */

static void a_device_is_as_the_worst_of_its_checks(void **state UNUSED)
{
	const struct device_in in[] = {{0}};
	struct check second;
	struct check_change change;

	build(in, 1);
	check_init(&second, now);
	device_add_check(&g, 0, &second, &quick);
	all_good(1, &quick, "");
	assert_int_equal(device_status(&g, 0), STATUS_UNKNOWN); /* one has not said anything yet */
	device_feed(&g, 0, &second, &quick, STATUS_BAD, now, &change);
	settle();
	done("a bad");
	result('a', STATUS_UGLY);
	done("a ugly");
	device_feed(&g, 0, &second, &quick, STATUS_GOOD, now, &change);
	settle();
	done("");
	assert_int_equal(device_status(&g, 0), STATUS_UGLY);
	result('a', STATUS_UNKNOWN);
	done("a unknown");
	result('a', STATUS_GOOD);
	done("a good");
}

static void behind_a_parent_that_is_down_it_is_folded_under_the_topmost(void **state UNUSED)
{
	const struct device_in in[] = {{0}, {NEEDS({0, 0})}, {NEEDS({1, 0})}, {NEEDS({2, 0})}};

	build(in, 4);
	all_good(4, &quick, "");
	feed('d', STATUS_UGLY);
	feed('b', STATUS_UGLY);
	feed('c', STATUS_BAD);
	feed('a', STATUS_UGLY);
	settle();
	/* c is only bad: that does not explain why d is down. */
	done("a ugly, b ugly under a, c bad under a, ask c");
	result('c', STATUS_UGLY);
	done("c ugly under a, d ugly under a");
}

static void evidence_goes_before_inference(void **state UNUSED)
{
	const struct device_in in[] = {{0}, {NEEDS({0, 0})}};

	build(in, 2);
	all_good(2, &quick, "");
	result('a', STATUS_UGLY);
	done("a ugly");
	assert_int_equal(device_status(&g, 1), STATUS_GOOD);
	result('b', STATUS_UNKNOWN);
	done("b unknown under a");
}

static void who_has_no_checks_is_as_what_it_needs(void **state UNUSED)
{
	/* c needs any of a and b; d needs c; e needs a and b; f needs nothing */
	const struct device_in in[] = {{0}, {0}, {NEEDS({0, 0}, {1, 0})}, {NEEDS({2, 0})}, {NEEDS({0, 0}, {1, 1})}, {0}};

	build(in, 6);
	all_good(6, &quick, "cdef");
	assert_int_equal(device_status(&g, 2), STATUS_GOOD);
	assert_int_equal(device_status(&g, 3), STATUS_GOOD);
	assert_int_equal(device_status(&g, 5), STATUS_UNKNOWN);
	result('a', STATUS_UGLY);
	done("a ugly, c bad under a half, e ugly under a");
	assert_int_equal(device_status(&g, 3), STATUS_GOOD); /* users feel nothing */
	result('b', STATUS_UGLY);
	done("b ugly, c ugly under b half, d ugly under b");
	result('a', STATUS_GOOD);
	done("a good, c bad under b half, e ugly under b, d good");
	result('b', STATUS_GOOD);
	done("b good, c good, e good");
	result('a', STATUS_UNKNOWN);
	done("a unknown, e unknown");
	result('b', STATUS_UNKNOWN);
	done("b unknown, c unknown, d unknown");
}

static void a_pair_that_lost_one_is_bad_though_it_measures_well(void **state UNUSED)
{
	const struct device_in in[] = {{0}, {0}, {NEEDS({0, 0}, {1, 0})}};

	build(in, 3);
	all_good(3, &quick, "");
	result('b', STATUS_UGLY);
	done("b ugly, c bad under b half");
	/* It has a trouble of its own: that is not on account of b. */
	result('c', STATUS_BAD);
	done("ask a");
	result('a', STATUS_GOOD);
	now += DEVICE_HELD_LOOK_MS;
	settle();
	done("c bad half");
	result('c', STATUS_GOOD);
	done("c bad under b half");
	result('b', STATUS_GOOD);
	done("b good, c good");
}

static void the_cause_is_what_went_down_first_and_of_a_pair_what_went_last(void **state UNUSED)
{
	/* d needs a, and any of b and c */
	const struct device_in in[] = {{0}, {0}, {0}, {NEEDS({0, 0}, {1, 1}, {2, 1})}};

	build(in, 4);
	all_good(4, &quick, "");
	result('b', STATUS_UGLY);
	result('c', STATUS_UGLY);
	done("b ugly, d bad under b half, c ugly, d bad under c half"); /* it measures well */
	result('d', STATUS_UGLY);
	done("d ugly under c half");
	result('a', STATUS_UGLY);
	done("a ugly");
	result('c', STATUS_GOOD);
	done("c good, d ugly under a half");
}

/* --- asking and holding --- */

static void a_child_that_fails_has_its_parents_asked_at_once(void **state UNUSED)
{
	/* c needs b (no checks), which needs a and d; e is pushed, f needs e */
	const struct device_in in[] = {{0}, {NEEDS({0, 0}, {3, 1})}, {NEEDS({1, 0})}, {0}, {NEEDS({0, 0})}, {NEEDS({4, 0})}};

	build(in, 6);
	all_good(6, &careful, "be");
	check_init(&checks[4][0], now);
	device_add_check(&g, 4, &checks[4][0], &pushed);
	settle();
	done("e unknown");
	result('c', STATUS_UGLY); /* soft: not told, but asked */
	done("ask a, ask d");
	result('c', STATUS_UGLY);
	done("");
	result('f', STATUS_BAD); /* through what cannot be asked; a is asked already */
	done("");
	result('a', STATUS_GOOD);
	now += DEVICE_ASK_GAP_MS;
	result('f', STATUS_GOOD);
	result('f', STATUS_BAD);
	done("ask a");
}

static void five_hundred_children_ask_once(void **state UNUSED)
{
	struct device_need need = {0, 0};
	struct device_in in[N] = {{0}};

	for (int i = 1; i < N; i++)
		in[i] = (struct device_in){&need, 1};
	build(in, N);
	for (uint32_t i = 0; i < N; i++) {
		check_init(&checks[i][0], now);
		device_add_check(&g, i, &checks[i][0], rule_of[i] = &careful);
	}
	settle();
	for (int i = 1; i < N; i++)
		result('a' + i, STATUS_UGLY);
	done("ask a");
	/* It answers and they ask again: not at once. */
	result('a', STATUS_GOOD);
	done("a good");
	result('b', STATUS_GOOD);
	result('b', STATUS_UGLY);
	done("b good, ask a later");
}

static void a_child_is_held_until_its_parents_have_answered(void **state UNUSED)
{
	const struct device_in in[] = {{0}, {NEEDS({0, 0})}};

	build(in, 2);
	all_good(2, &quick, "");
	assert_true(device_next_ms(&g) == UINT64_MAX);
	result('b', STATUS_UGLY);
	done("ask a");
	assert_int_equal(device_place(&g, 1), DEVICE_HELD);
	assert_int_equal(device_next_ms(&g), now + DEVICE_HELD_LOOK_MS);
	result('a', STATUS_GOOD);
	now += DEVICE_HELD_LOOK_MS;
	settle();
	done("b ugly");
	assert_true(device_next_ms(&g) == UINT64_MAX);
}

static void an_old_result_is_no_answer(void **state UNUSED)
{
	const struct device_in in[] = {{0}, {NEEDS({0, 0})}};
	struct check_change change;

	build(in, 2);
	all_good(2, &quick, "");
	result('b', STATUS_UGLY);
	device_feed(&g, 0, &checks[0][0], &quick, STATUS_GOOD, now - 5000, &change); /* measured before the ask */
	now += DEVICE_HELD_LOOK_MS;
	settle();
	done("ask a");
	result('a', STATUS_GOOD);
	now += DEVICE_HELD_LOOK_MS;
	settle();
	done("b ugly");
}

static void each_of_the_checks_must_answer(void **state UNUSED)
{
	const struct device_in in[] = {{0}, {NEEDS({0, 0})}};
	struct check_change change;

	build(in, 2);
	check_init(&checks[0][1], now);
	device_add_check(&g, 0, &checks[0][1], &quick);
	device_feed(&g, 0, &checks[0][1], &quick, STATUS_GOOD, now, &change);
	all_good(2, &quick, "");
	result('b', STATUS_UGLY);
	result('a', STATUS_GOOD);
	result('a', STATUS_GOOD);
	now += DEVICE_HELD_LOOK_MS;
	settle();
	done("ask a");
	device_feed(&g, 0, &checks[0][1], &quick, STATUS_UGLY, now, &change);
	settle();
	done("a ugly, b ugly under a");
}

static void to_see_that_it_is_overdue_is_no_answer(void **state UNUSED)
{
	const struct device_in in[] = {{0}, {NEEDS({0, 0})}};
	struct check_change change;

	build(in, 2);
	g.rule.answer_ms = 1000000;
	all_good(2, &quick, "");
	result('b', STATUS_UGLY);
	now += 200000;
	device_feed(&g, 0, &checks[0][0], &quick, STATUS_COUNT, now, &change);
	settle();
	done("ask a, a unknown");
}

static void an_ask_that_nobody_answers_is_not_waited_for(void **state UNUSED)
{
	const struct device_in in[] = {{0}, {NEEDS({0, 0})}};

	build(in, 2);
	all_good(2, &quick, "");
	result('b', STATUS_UGLY);
	now += rules.answer_ms - 1;
	settle();
	done("ask a");
	now += DEVICE_HELD_LOOK_MS;
	settle();
	done("b ugly");
}

static void a_child_is_held_while_its_parent_is_soft(void **state UNUSED)
{
	const struct device_in in[] = {{0}, {NEEDS({0, 0})}};

	build(in, 2);
	all_good(2, &careful, "");
	rule_of[1] = &quick;
	result('b', STATUS_UGLY);
	result('a', STATUS_UGLY);
	for (int i = 0; i < 5; i++) {
		now += 20000;
		settle();
	}
	done("ask a");
	result('a', STATUS_UGLY);
	result('a', STATUS_UGLY);
	done("a ugly, b ugly under a");
}

static void what_is_soft_again_is_held_on(void **state UNUSED)
{
	const struct device_in in[] = {{0}, {NEEDS({0, 0})}};

	build(in, 2);
	all_good(2, &careful, "");
	rule_of[0] = &quick;
	for (int i = 0; i < 3; i++)
		result('b', STATUS_UGLY);
	result('b', STATUS_GOOD); /* one good of two */
	result('a', STATUS_GOOD);
	now += 20000;
	settle();
	done("ask a");
	result('b', STATUS_GOOD);
	done("b was ugly 30 of 30 ms"); /* it was never told, and is over */
}

static struct device_action last_tell;

static void keep_last(void *arg UNUSED, const struct device_action *a)
{
	last_tell = *a;
}

static void what_went_bad_and_good_again_is_told_with_the_good_news(void **state UNUSED)
{
	const struct device_in in[] = {{0}};
	uint64_t began;

	build(in, 1);
	all_good(1, &quick, "");
	began = now + 10;
	feed('a', STATUS_BAD);
	device_settle(&g, now, keep_last, NULL);
	assert_int_equal(last_tell.worst, STATUS_GOOD);
	assert_int_equal(last_tell.since_ms, began);
	now = began + 1000 - 10;
	result('a', STATUS_UGLY);
	now = began + 1500 - 10;
	result('a', STATUS_BAD);
	now = began + 2500 - 10;
	result('a', STATUS_UGLY);
	now = began + 2600 - 10;
	result('a', STATUS_UNKNOWN);
	now = began + 9000 - 10;
	feed('a', STATUS_GOOD);
	device_settle(&g, now, keep_last, NULL);
	assert_int_equal(last_tell.kind, DEVICE_TELL);
	assert_int_equal(last_tell.worst, STATUS_UGLY);
	assert_int_equal(last_tell.worst_ms, 600);
	assert_int_equal(last_tell.away_ms, 9000);
	assert_int_equal(last_tell.since_ms, began + 9000);
	/* The next time it is another one. */
	feed('a', STATUS_BAD);
	device_settle(&g, now, keep_last, NULL);
	assert_int_equal(last_tell.worst, STATUS_GOOD);
	now += 990;
	feed('a', STATUS_GOOD);
	device_settle(&g, now, keep_last, NULL);
	assert_int_equal(last_tell.worst, STATUS_BAD);
	assert_int_equal(last_tell.worst_ms, 1000);
	/* Not to know is not to be bad. */
	result('a', STATUS_UNKNOWN);
	feed('a', STATUS_GOOD);
	device_settle(&g, now, keep_last, NULL);
	assert_int_equal(last_tell.worst, STATUS_GOOD);
	assert_int_equal(last_tell.away_ms, 0);
}

static void a_parent_that_came_back_is_given_time(void **state UNUSED)
{
	const struct device_in in[] = {{0}, {NEEDS({0, 0})}, {NEEDS({0, 0})}};
	uint64_t back;

	build(in, 3);
	all_good(3, &quick, "");
	feed('a', STATUS_UGLY);
	feed('b', STATUS_UGLY);
	feed('c', STATUS_UGLY);
	settle();
	done("a ugly, b ugly under a, c ugly under a");
	result('a', STATUS_GOOD);
	back = now;
	done("a good, ask b later, ask c later");
	result('b', STATUS_GOOD);
	done("b good");
	result('c', STATUS_UGLY); /* still: but it is too early to say so */
	now = back + rules.settle_ms - 1;
	settle();
	done("");
	assert_int_equal(device_place(&g, 2), DEVICE_HELD);
	now += DEVICE_HELD_LOOK_MS;
	settle();
	done("c ugly");
}

static void what_was_asked_itself_is_held_until_it_has_answered(void **state UNUSED)
{
	const struct device_in in[] = {{0}, {NEEDS({0, 0})}};

	build(in, 2);
	g.rule.settle_ms = 5000; /* over before the answer comes */
	all_good(2, &quick, "");
	feed('a', STATUS_UGLY);
	feed('b', STATUS_UGLY);
	settle();
	result('a', STATUS_GOOD);
	done("a ugly, b ugly under a, a good, ask b later");
	now += rules.answer_ms - 100;
	settle();
	done("");
	result('b', STATUS_UGLY);
	now += DEVICE_HELD_LOOK_MS;
	settle();
	done("b ugly");
}

static void what_is_behind_something_held_is_held_with_it(void **state UNUSED)
{
	/* c and d stand behind b, which has a parent that does not answer */
	const struct device_in in[] = {{0}, {NEEDS({0, 0})}, {NEEDS({1, 0})}, {NEEDS({2, 0})}};

	build(in, 4);
	all_good(4, &quick, "");
	feed('b', STATUS_UGLY);
	feed('c', STATUS_UGLY);
	feed('d', STATUS_UGLY);
	settle();
	done("ask a");
	assert_int_equal(device_cause(&g, 3), 1);
	assert_int_equal(device_place(&g, 3), DEVICE_HELD);
	result('a', STATUS_GOOD);
	now += DEVICE_HELD_LOOK_MS;
	settle();
	done("b ugly, c ugly under b, d ugly under b");
}

static void who_is_asked_for_later_is_asked_at_once_when_a_child_fails(void **state UNUSED)
{
	const struct device_in in[] = {{0}, {NEEDS({0, 0})}, {NEEDS({1, 0})}};

	build(in, 3);
	all_good(3, &quick, "");
	feed('a', STATUS_UGLY);
	feed('b', STATUS_BAD); /* not down: c does not stand behind it */
	settle();
	result('a', STATUS_GOOD);
	done("a ugly, b bad under a, a good, ask b later");
	now += 2 * DEVICE_ASK_GAP_MS;
	result('c', STATUS_UGLY);
	done("ask b");
	result('c', STATUS_GOOD);
	result('c', STATUS_UGLY);
	done("c was ugly 10 of 10 ms"); /* once is enough */
}

static void a_chain_comes_back_without_a_burst(void **state UNUSED)
{
	const struct device_in in[] = {{0}, {NEEDS({0, 0})}, {NEEDS({1, 0})}};

	build(in, 3);
	all_good(3, &quick, "");
	feed('a', STATUS_UGLY);
	feed('b', STATUS_UGLY);
	feed('c', STATUS_UGLY);
	settle();
	done("a ugly, b ugly under a, c ugly under a");
	result('a', STATUS_GOOD); /* b is held, and with it what is behind b */
	done("a good, ask b later");
	result('c', STATUS_UGLY);
	done("");
	assert_int_equal(device_place(&g, 2), DEVICE_HELD);
	result('b', STATUS_GOOD);
	done("b good, ask c later");
	result('c', STATUS_GOOD);
	done("c good");
}

static void a_hold_always_ends(void **state UNUSED)
{
	const struct device_in in[] = {{0}, {NEEDS({0, 0})}};
	uint64_t since;

	build(in, 2);
	all_good(2, &careful, "");
	rule_of[1] = &quick;
	result('a', STATUS_UGLY); /* and stays soft for ever */
	result('b', STATUS_UGLY);
	since = now;
	done("ask a");
	now = since + rules.most_ms - 1;
	settle();
	done("");
	now += DEVICE_HELD_LOOK_MS;
	settle();
	done("b ugly");
}

static void what_gets_worse_is_held_again_and_what_gets_better_never(void **state UNUSED)
{
	const struct device_in in[] = {{0}, {NEEDS({0, 0})}};

	build(in, 2);
	all_good(2, &quick, "");
	result('b', STATUS_BAD);
	result('a', STATUS_GOOD);
	now += 2000;
	settle();
	done("ask a, b bad");
	result('b', STATUS_UGLY); /* slow for days, and now this: is it the switch? */
	done("ask a");
	result('a', STATUS_UGLY);
	done("a ugly, b ugly under a");
	result('b', STATUS_BAD);
	done("b bad under a");
	result('b', STATUS_GOOD);
	done("b good");
}

static void a_child_that_was_told_is_folded_when_its_parent_turns_out_to_be_the_cause(void **state UNUSED)
{
	const struct device_in in[] = {{0}, {NEEDS({0, 0})}};

	build(in, 2);
	all_good(2, &quick, "");
	result('b', STATUS_UGLY);
	result('a', STATUS_GOOD);
	now += 2000;
	settle();
	done("ask a, b ugly");
	result('a', STATUS_UGLY);
	done("a ugly, b ugly under a");
}

static void flapping_is_told_of_the_device(void **state UNUSED)
{
	static const struct check_rule flappy = {.interval_ms = 60000, .retry_ms = 5000, .rise = 3, .fall = 3,
						 .flap_begin = CHECK_FLAP_BEGIN, .flap_end = CHECK_FLAP_END};
	const struct device_in in[] = {{0}};

	build(in, 1);
	all_good(1, &flappy, "");
	for (int i = 0; i < 10; i++)
		result('a', i % 2 ? STATUS_GOOD : STATUS_UGLY);
	done("a good flaps");
	for (int i = 0; i < 20; i++)
		result('a', STATUS_GOOD);
	done("a good");
}

static void what_was_told_before_a_restart_is_not_told_again(void **state UNUSED)
{
	const struct device_in in[] = {{0}, {NEEDS({0, 0})}, {0}, {0}};
	const struct device_told told[] = {{DEVICE_NONE, STATUS_UGLY, DEVICE_OPEN, false, false},
					   {0, STATUS_UGLY, DEVICE_FOLDED, false, false},
					   {DEVICE_NONE, STATUS_GOOD, DEVICE_CLEAR, false, false},
					   {DEVICE_NONE, STATUS_BAD, DEVICE_OPEN, false, false}};
	static const enum status is[] = {STATUS_UGLY, STATUS_UGLY, STATUS_GOOD, STATUS_GOOD};
	struct check_change change;

	build(in, 4);
	for (uint32_t i = 0; i < 4; i++) {
		rule_of[i] = &quick;
		check_init(&checks[i][0], now);
		check_step(&checks[i][0], &quick, is[i], now, &change);
		assert_true(check_restore(&checks[i][0], now));
		device_add_check(&g, i, &checks[i][0], &quick);
		device_restore(&g, i, &told[i]);
	}
	settle();
	done("d good"); /* what changed just before the end */
	result('a', STATUS_GOOD);
	done("a good, ask b later");
}

/* --- any graph, any results: what was derived step by step is what follows from the end --- */

static uint32_t seed;

static uint32_t roll(uint32_t below)
{
	seed = seed * 1664525u + 1013904223u;
	return (uint32_t)((uint64_t)seed * below >> 32);
}

static struct device_need random_needs[N][8];
static struct device_in random_in[N];
static bool is_down[N], has_check[N];

/* By the definition, from nothing but the checks. Needs point to lower numbers only. */
static enum status by_definition(uint32_t i)
{
	const struct device_in *d = &random_in[i];
	enum status own = has_check[i] ? check_status(&checks[i][0]) : STATUS_UNKNOWN;
	bool behind = false, half = false, blind = false;

	for (uint32_t group = 0; group < 8; group++) {
		uint32_t of = 0, down = 0, unknown = 0;

		for (uint32_t k = 0; k < d->need_count; k++) {
			uint32_t p = d->needs[k].device;

			if (d->needs[k].group != group)
				continue;
			of++;
			down += is_down[p];
			unknown += !is_down[p] && device_status(&g, p) == STATUS_UNKNOWN;
		}
		behind |= of && down == of;
		half |= down && of > 1;
		blind |= of && down < of && down + unknown == of;
	}
	is_down[i] = own == STATUS_UNKNOWN ? behind : own == STATUS_UGLY;
	if (has_check[i])
		return half ? status_worse(own, STATUS_BAD) : own;
	return behind	? STATUS_UGLY
	       : half	? STATUS_BAD
	       : blind || !d->need_count ? STATUS_UNKNOWN
					 : STATUS_GOOD;
}

static bool needs_it(uint32_t i, uint32_t of)
{
	uint32_t tree[N], n = device_tree(&g, &i, 1, tree, N);
	bool found = false;

	for (uint32_t k = 0; k < n; k++)
		found |= tree[k] == of;
	assert_int_equal(device_leads_to(&g, i, of), found);
	return found && i != of;
}

static struct device_told last_told[N];

static void remember_told(void *arg UNUSED, const struct device_action *a)
{
	if (a->kind != DEVICE_TELL)
		return;
	assert_memory_equal(&a->before, &last_told[a->device], sizeof(a->before));
	assert_int_not_equal(a->now.place, DEVICE_HELD);
	/* Under something that was told before. */
	if (a->now.place == DEVICE_FOLDED)
		assert_int_not_equal(last_told[a->now.cause].status, STATUS_GOOD);
	last_told[a->device] = a->now;
}

static void check_all(uint32_t s)
{
	for (uint32_t i = 0; i < N; i++) {
		enum status want = by_definition(i), is = device_status(&g, i);
		enum device_place place = device_place(&g, i);
		uint32_t cause = device_cause(&g, i);

		if (is != want)
			fail_msg("seed %u: device %u is %s, by definition %s", s, i, status_name(is), status_name(want));
		assert_int_equal(place == DEVICE_CLEAR, is == STATUS_GOOD);
		assert_true(place != DEVICE_FOLDED || cause != DEVICE_NONE);
		if (cause != DEVICE_NONE) {
			assert_true(is_down[cause] && device_cause(&g, cause) == DEVICE_NONE && needs_it(i, cause));
			assert_int_equal(place, device_place(&g, cause) == DEVICE_HELD ? DEVICE_HELD : DEVICE_FOLDED);
		}
		if (place != DEVICE_HELD)
			assert_true(last_told[i].status == is && last_told[i].place == place &&
				    last_told[i].cause == (place == DEVICE_FOLDED ? cause : DEVICE_NONE));
	}
}

static void random_graph(void)
{
	for (uint32_t i = 0; i < N; i++) {
		uint32_t n = i ? roll(6) : 0, group = 0;

		has_check[i] = roll(5) > 0;
		for (uint32_t k = 0; k < n; k++) {
			group += k && roll(2);
			random_needs[i][k] = (struct device_need){roll(i), group};
		}
		random_in[i] = (struct device_in){random_needs[i], n};
		rule_of[i] = roll(2) ? &quick : &careful;
		check_init(&checks[i][0], now);
		last_told[i] = (struct device_told){DEVICE_NONE, STATUS_UNKNOWN, DEVICE_OPEN, false, false};
	}
}

static void step_by_step_is_as_from_nothing(void **state UNUSED)
{
	for (uint32_t s = 1; s <= 400; s++) {
		struct check_change change;

		seed = s;
		now = 1700000000000ull;
		random_graph();
		build(random_in, N);
		for (uint32_t i = 0; i < N; i++)
			if (has_check[i])
				device_add_check(&g, i, &checks[i][0], rule_of[i]);
		for (int step = 0; step < 150; step++) {
			for (uint32_t n = roll(8); n > 0; n--) {
				uint32_t i = roll(N);

				if (has_check[i])
					device_feed(&g, i, &checks[i][0], rule_of[i],
						    roll(3) ? STATUS_GOOD : (enum status)roll(STATUS_COUNT), now, &change);
			}
			now += roll(4) ? roll(2000) : roll(100000);
			device_settle(&g, now, remember_told, NULL);
			check_all(s);
		}
		/* When nothing happens any more, nothing is held for long. */
		now += rules.most_ms + DEVICE_HELD_LOOK_MS;
		device_settle(&g, now, remember_told, NULL);
		check_all(s);
		assert_int_equal(g.held_count, 0);
		assert_true(device_next_ms(&g) == UINT64_MAX);
	}
}

int main(void)
{
#define T(name) cmocka_unit_test_setup_teardown(name, fresh, gone)
	const struct CMUnitTest tests[] = {
		T(circles_are_named),
		T(a_long_circle_is_named_in_part),
		T(a_tree_has_each_once_and_parents_first),
		T(a_device_is_as_the_worst_of_its_checks),
		T(behind_a_parent_that_is_down_it_is_folded_under_the_topmost),
		T(evidence_goes_before_inference),
		T(who_has_no_checks_is_as_what_it_needs),
		T(a_pair_that_lost_one_is_bad_though_it_measures_well),
		T(the_cause_is_what_went_down_first_and_of_a_pair_what_went_last),
		T(a_child_that_fails_has_its_parents_asked_at_once),
		T(five_hundred_children_ask_once),
		T(a_child_is_held_until_its_parents_have_answered),
		T(an_old_result_is_no_answer),
		T(each_of_the_checks_must_answer),
		T(to_see_that_it_is_overdue_is_no_answer),
		T(an_ask_that_nobody_answers_is_not_waited_for),
		T(a_child_is_held_while_its_parent_is_soft),
		T(what_is_soft_again_is_held_on),
		T(what_went_bad_and_good_again_is_told_with_the_good_news),
		T(a_parent_that_came_back_is_given_time),
		T(what_was_asked_itself_is_held_until_it_has_answered),
		T(what_is_behind_something_held_is_held_with_it),
		T(who_is_asked_for_later_is_asked_at_once_when_a_child_fails),
		T(a_chain_comes_back_without_a_burst),
		T(a_hold_always_ends),
		T(what_gets_worse_is_held_again_and_what_gets_better_never),
		T(a_child_that_was_told_is_folded_when_its_parent_turns_out_to_be_the_cause),
		T(flapping_is_told_of_the_device),
		T(what_was_told_before_a_restart_is_not_told_again),
		T(step_by_step_is_as_from_nothing),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
