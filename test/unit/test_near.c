/* SPDX-License-Identifier: Apache-2.0
 *
 * Requests that belong together find the same target, as long as it can take them.
 */
#include "unit.h"

#include "core/near.h"

static const uint64_t key[2] = {3, 4};

/* n targets that are up and empty; their ids count from `first`. */
static void up(struct balance_target *t, uint32_t n, uint64_t first)
{
	for (uint32_t i = 0; i < n; i++)
		t[i] = (struct balance_target){.use = USE_SERVE, .health = HEALTH_UP,
					       .mark = near_mark(key, first + i)};
}

static void a_marked_target_is_taken_while_it_serves_is_up_and_has_a_place(void **state UNUSED)
{
	struct balance_target t[3];

	up(t, 3, 1);
	assert_int_equal(near_marked(t, 3, 0, t[1].mark), 1);
	assert_int_equal(near_marked(t, 3, 0, 0), -1);
	assert_int_equal(near_marked(t, 3, 0, near_mark(key, 99)), -1);
	assert_int_equal(near_marked(t, 0, 0, t[1].mark), -1);
	t[1].outstanding = 4;
	assert_int_equal(near_marked(t, 3, 5, t[1].mark), 1);
	assert_int_equal(near_marked(t, 3, 4, t[1].mark), -1);
	t[1].tried = true;
	assert_int_equal(near_marked(t, 3, 0, t[1].mark), -1);
	t[1].tried = false;
	for (enum target_use use = 0; use < USE_COUNT; use++) {
		t[1].use = use;
		assert_int_equal(near_marked(t, 3, 0, t[1].mark), use == USE_SERVE ? 1 : -1);
	}
	t[1].use = USE_SERVE;
	t[1].avoid = true;
	assert_int_equal(near_marked(t, 3, 0, t[1].mark), -1);
	t[1].avoid = false;
	t[1].health = HEALTH_DOWN;
	assert_int_equal(near_marked(t, 3, 0, t[1].mark), -1);
	t[1].health = HEALTH_UNKNOWN;
	assert_int_equal(near_marked(t, 3, 0, t[1].mark), -1);
}

static uint64_t hash_of(uint32_t i)
{
	return (i + 1) * 0x9e3779b97f4a7c15u;
}

static void each_key_has_its_target_and_keys_spread_evenly(void **state UNUSED)
{
	enum { N = 10, KEYS = 20000 };
	struct balance_target t[N];
	int count[N] = {0};

	up(t, N, 1);
	for (uint32_t i = 0; i < KEYS; i++) {
		int32_t at = near_hashed(t, N, 0, hash_of(i));

		assert_in_range(at, 0, N - 1);
		assert_int_equal(near_hashed(t, N, 0, hash_of(i)), at);
		count[at]++;
	}
	for (int i = 0; i < N; i++)
		assert_in_range(count[i], KEYS / N * 9 / 10, KEYS / N * 11 / 10);
}

static void when_one_goes_only_its_keys_move(void **state UNUSED)
{
	struct balance_target before[5], after[4];

	up(before, 5, 1);
	memcpy(after, before, 2 * sizeof(*before));
	memcpy(after + 2, before + 3, 2 * sizeof(*before));
	for (uint32_t i = 0; i < 5000; i++) {
		uint64_t was = before[near_hashed(before, 5, 0, hash_of(i))].mark;
		uint64_t is = after[near_hashed(after, 4, 0, hash_of(i))].mark;
		struct balance_target down[5];

		assert_true(was == is || was == before[2].mark);
		memcpy(down, before, sizeof(down));
		down[2].health = HEALTH_DOWN;
		assert_int_equal(down[near_hashed(down, 5, 0, hash_of(i))].mark, is);
	}
}

static void none_gets_more_than_its_share_and_a_quarter(void **state UNUSED)
{
	enum { N = 4, ALL = 400 };
	struct balance_target t[N];
	uint32_t most = 0;

	up(t, N, 1);
	for (uint32_t i = 0; i < ALL; i++) { /* all want the same one, and all stay */
		int32_t at = near_hashed(t, N, 0, hash_of(7));

		assert_in_range(at, 0, N - 1);
		t[at].outstanding++;
		most = MAX(most, t[at].outstanding);
		assert_true(t[at].outstanding <= MAX((5 * (i + 1) + 4 * N - 1) / (4 * N), NEAR_LEAST));
	}
	assert_int_equal(most, ALL / N * 5 / 4);
	up(t, N, 1);
	for (uint32_t i = 0; i < NEAR_LEAST; i++) { /* so little is no load */
		assert_int_equal(near_hashed(t, N, 0, hash_of(7)), near_hashed(t, N, 0, hash_of(7)));
		t[near_hashed(t, N, 0, hash_of(7))].outstanding++;
	}
	most = 0;
	for (int i = 0; i < N; i++)
		most = MAX(most, t[i].outstanding);
	assert_int_equal(most, NEAR_LEAST);
}

static void nobody_up_or_no_place_is_told(void **state UNUSED)
{
	struct balance_target t[2];

	up(t, 2, 1);
	t[0].outstanding = t[1].outstanding = 3;
	assert_int_equal(near_hashed(t, 2, 3, 5), -1);
	assert_int_not_equal(near_hashed(t, 2, 4, 5), -1);
	t[0].use = USE_DRAIN;
	assert_int_equal(near_hashed(t, 2, 0, 5), 1);
	t[1].tried = true;
	assert_int_equal(near_hashed(t, 2, 0, 5), -1);
	t[1].health = HEALTH_DOWN;
	assert_int_equal(near_hashed(t, 2, 0, 5), -1);
	assert_int_equal(near_hashed(t, 0, 0, 5), -1);
}

static uint64_t cookie(const char *field)
{
	return near_cookie(field, strlen(field), "up");
}

static void a_mark_is_read_from_its_cookie_alone(void **state UNUSED)
{
	char text[NEAR_TEXT];

	near_text(0x0123456789abcdef, text);
	assert_string_equal(text, "0123456789abcdef");
	assert_int_equal(cookie("up=0123456789abcdef"), 0x0123456789abcdef);
	assert_int_equal(cookie("a=b; up=0123456789abcdef; c=d"), 0x0123456789abcdef);
	assert_int_equal(cookie("a=b;up=0123456789abcdef "), 0x0123456789abcdef);
	assert_int_equal(cookie("xup=0123456789abcdef"), 0);
	assert_int_equal(cookie("UP=0123456789abcdef"), 0);
	assert_int_equal(cookie("up=0123456789abcde"), 0);
	assert_int_equal(cookie("up=0123456789abcdeg"), 0);
	assert_int_equal(cookie("up=0123456789ABCDEF"), 0);
	assert_int_equal(cookie("up=0123456789abcdef0"), 0);
	assert_int_equal(cookie("up"), 0);
	assert_int_equal(cookie(";;; "), 0);
	assert_int_equal(cookie(""), 0);
	assert_int_not_equal(near_mark(key, 1), near_mark(key, 2));
	assert_int_not_equal(near_mark(key, 1), near_mark((uint64_t[]){3, 5}, 1));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_marked_target_is_taken_while_it_serves_is_up_and_has_a_place),
	    cmocka_unit_test(each_key_has_its_target_and_keys_spread_evenly),
	    cmocka_unit_test(when_one_goes_only_its_keys_move),
	    cmocka_unit_test(none_gets_more_than_its_share_and_a_quarter),
	    cmocka_unit_test(nobody_up_or_no_place_is_told),
	    cmocka_unit_test(a_mark_is_read_from_its_cookie_alone),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
