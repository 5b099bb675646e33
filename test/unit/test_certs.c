/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "core/certs.h"

static struct err e;

static struct certs_in_pair pair(uint64_t id, const char *chain, char *const *names, uint32_t count)
{
	return (struct certs_in_pair){.id = id, .from_ms = 10, .until_ms = 20 + id, .chain = chain,
				      .chain_len = (uint32_t)strlen(chain), .key = "key", .key_len = 3,
				      .names = names, .name_count = count};
}

static const struct certs *built(const struct certs_in *in)
{
	void *mem = util_alloc((size_t)certs_size(in));

	assert_int_equal(certs_build(in, 7, mem, &e), 0);
	assert_int_equal(certs_check(mem, (size_t)certs_size(in), &e), 0);
	return mem;
}

static uint32_t found(const struct certs *c, const char *host)
{
	return certs_find(c, host, strlen(host));
}

static char *const first[] = {"first.test"}, *const exact[] = {"www.a.test", "a.test"},
		  *const wild[] = {"*.A.test", "A.TEST"}, *const deep[] = {"*.b.a.test"};

static const struct certs *usual(void)
{
	struct certs_in_pair pairs[] = {pair(1, "one", first, 1), pair(2, "two", exact, 2),
					pair(3, "three", wild, 2), pair(4, "four", deep, 1)};
	struct certs_in in = {.pairs = pairs, .pair_count = ARRAY_LEN(pairs)};

	return built(&in);
}

static void the_exact_name_wins_then_the_wildcard_of_one_label(void **state UNUSED)
{
	CLEANUP_FREE const struct certs *c = usual();

	assert_int_equal(found(c, "www.a.test"), 1);
	assert_int_equal(found(c, "a.test"), 1); /* the third has it too: the earlier wins */
	assert_int_equal(found(c, "x.a.test"), 2);
	assert_int_equal(found(c, "X.A.Test"), 2);
	assert_int_equal(found(c, "WWW.a.TEST."), 1);
	assert_int_equal(found(c, "b.a.test"), 2);
	assert_int_equal(found(c, "x.b.a.test"), 3);
	assert_int_equal(found(c, "first.test"), 0);
}

static void who_asks_for_another_name_gets_the_first(void **state UNUSED)
{
	CLEANUP_FREE const struct certs *c = usual();
	char longer[300];

	memset(longer, 'a', sizeof(longer));
	assert_int_equal(found(c, ""), 0);
	assert_int_equal(found(c, "."), 0);
	assert_int_equal(found(c, "unknown"), 0);
	assert_int_equal(found(c, "x.y.a.test"), 0); /* two labels */
	assert_int_equal(found(c, ".a.test"), 0);    /* as a wildcard is stored: no name */
	assert_int_equal(found(c, "*.a.test"), 2);
	assert_int_equal(certs_find(c, longer, sizeof(longer)), 0);
}

static void what_went_in_comes_out(void **state UNUSED)
{
	CLEANUP_FREE const struct certs *c = usual();
	const struct certs_pair *p = certs_by_id(c, 3);

	assert_non_null(p);
	assert_int_equal(p->until_ms, 23);
	assert_int_equal(p->chain_len, 5);
	assert_memory_equal(certs_bytes(c, p->chain), "three", 5);
	assert_memory_equal(certs_bytes(c, p->key), "key", 3);
	assert_null(certs_by_id(c, 5));
	assert_int_equal(c->name_count, 5);
}

static void a_certificate_without_names_is_found_as_the_first_only(void **state UNUSED)
{
	struct certs_in_pair pairs[] = {pair(1, "one", NULL, 0)};
	struct certs_in in = {.pairs = pairs, .pair_count = 1};
	CLEANUP_FREE const struct certs *c = built(&in);

	assert_int_equal(found(c, "a.test"), 0);
}

static void bounds_are_told(void **state UNUSED)
{
	struct certs_in_pair *pairs = util_alloc((CERTS_PAIRS_MAX + 1) * sizeof(*pairs));
	char *const empty[] = {"*"};
	struct certs_in in = {.pairs = pairs};
	char room[64];

	assert_int_equal(certs_build(&in, 1, room, &e), -ERR_LIMIT);
	for (uint32_t i = 0; i <= CERTS_PAIRS_MAX; i++)
		pairs[i] = pair(i, "x", NULL, 0);
	in.pair_count = CERTS_PAIRS_MAX + 1;
	assert_int_equal(certs_build(&in, 1, room, &e), -ERR_LIMIT);
	in.pair_count = CERTS_PAIRS_MAX;
	free((void *)built(&in));
	pairs[0] = pair(0, "x", empty, 1);
	assert_int_equal(certs_build(&in, 1, room, &e), -ERR_INPUT);
	pairs[0].name_count = CERTS_NAMES_MAX + 1;
	pairs[0].names = util_alloc(pairs[0].name_count * sizeof(char *));
	for (uint32_t i = 0; i < pairs[0].name_count; i++)
		((char **)pairs[0].names)[i] = (char *)"a.test";
	assert_int_equal(certs_build(&in, 1, room, &e), -ERR_LIMIT);
	free((void *)pairs[0].names);
	free(pairs);
}

/* Every single byte of it changed: refused, or safe to read (under ASan) all the same. */
static void damage_is_refused_or_harmless(void **state UNUSED)
{
	CLEANUP_FREE const struct certs *good = usual();
	size_t size = (size_t)good->size;
	CLEANUP_FREE char *bad = util_alloc(size);
	uint32_t refused = 0;

	for (size_t i = 0; i < size; i++) {
		memcpy(bad, good, size);
		bad[i] ^= 0x80;
		if (certs_check(bad, size, &e) < 0)
			refused++;
		else
			assert_in_range(found((const void *)bad, "x.a.test"), 0, 3);
	}
	assert_true(refused > 20);
	assert_int_equal(certs_check(good, size - 1, &e), -ERR_CORRUPT);
	assert_int_equal(certs_check(good, 8, &e), -ERR_CORRUPT);
}

static void keys_of_tickets_move_on(void **state UNUSED)
{
	struct certs_ticket keys[CERTS_TICKETS] = {0}, a = {.name = "a"}, b = {.name = "b"}, c = {.name = "c"},
			    d = {.name = "d"};
	uint64_t t = 1000000;

	assert_true(certs_rotate(keys, &a, t));
	assert_false(certs_rotate(keys, &b, t));
	assert_false(certs_rotate(keys, &b, t + CERTS_TICKET_MS - 1));
	assert_true(certs_rotate(keys, &b, t += CERTS_TICKET_MS));
	assert_true(certs_rotate(keys, &c, t += CERTS_TICKET_MS));
	assert_string_equal((char *)keys[0].name, "c");
	assert_string_equal((char *)keys[1].name, "b");
	assert_string_equal((char *)keys[2].name, "a");
	assert_true(certs_rotate(keys, &d, t += CERTS_TICKET_MS));
	assert_string_equal((char *)keys[2].name, "b");
	assert_true(certs_rotate(keys, &a, t - 1)); /* the clock was set back */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_exact_name_wins_then_the_wildcard_of_one_label),
	    cmocka_unit_test(who_asks_for_another_name_gets_the_first),
	    cmocka_unit_test(what_went_in_comes_out),
	    cmocka_unit_test(a_certificate_without_names_is_found_as_the_first_only),
	    cmocka_unit_test(bounds_are_told),
	    cmocka_unit_test(damage_is_refused_or_harmless),
	    cmocka_unit_test(keys_of_tickets_move_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
