/* SPDX-License-Identifier: Apache-2.0
 *
 * Policies: built into a table, and applied to one request.
 */
#include "unit.h"

#include "core/policy.h"

static struct err e;
static struct buf b;

static int teardown(void **state UNUSED)
{
	buf_free(&b);
	return 0;
}

/* A table with one app of this policy; NULL when it is refused. */
static const struct table *table(const struct table_in_policy *p)
{
	static const char *const any[] = {"*"}, *const root[] = {"/"};
	struct table_in_app a = {.name = "a", .hosts = any, .host_count = 1, .paths = root,
				 .path_count = 1, .policy = p};
	struct table_in in = {.apps = &a, .app_count = 1, .key = {1, 2}};

	buf_free(&b);
	if (table_build(&in, 1, &b, &e) < 0)
		return NULL;
	return (const void *)b.data;
}

static void address(const char *text, uint8_t ret[16])
{
	struct table_net net;

	assert_true(table_net_parse(text, &net));
	memcpy(ret, net.addr, 16);
}

static bool admits(const char *allow, const char *deny, const char *text)
{
	struct table_net nets[2][4];
	struct table_in_policy p = {.allow = nets[0], .deny = nets[1]};
	const char *lists[] = {allow, deny};
	uint32_t *count[] = {&p.allow_count, &p.deny_count};
	const struct table *t;
	uint8_t addr[16];

	for (int i = 0; i < 2; i++) {
		char copy[200], *save;

		assert_true(util_copy(copy, sizeof(copy), lists[i]));
		for (char *w = strtok_r(copy, " ", &save); w; w = strtok_r(NULL, " ", &save))
			assert_true(table_net_parse(w, &nets[i][(*count[i])++]));
	}
	t = table(&p);
	assert_non_null(t);
	assert_int_equal(table_apps(t)[0].policy, 1);
	address(text, addr);
	return policy_admits(t, table_policies(t), addr);
}

static void the_smallest_network_decides_and_deny_before_allow(void **state UNUSED)
{
	assert_true(admits("", "", "10.0.0.1"));
	assert_false(admits("10.0.0.0/8", "", "11.0.0.1"));
	assert_true(admits("10.0.0.0/8", "", "10.0.0.1"));
	assert_true(admits("", "10.0.0.0/8", "11.0.0.1"));
	assert_false(admits("", "10.0.0.0/8", "10.255.255.255"));
	assert_false(admits("10.0.0.0/8", "10.1.0.0/16", "10.1.2.3"));
	assert_true(admits("10.1.0.0/16", "10.0.0.0/8", "10.1.2.3"));
	assert_true(admits("10.0.0.7", "0.0.0.0/0", "10.0.0.7"));
	assert_false(admits("10.0.0.7", "0.0.0.0/0", "10.0.0.8"));
	assert_false(admits("10.0.0.7", "10.0.0.7", "10.0.0.7"));
	assert_false(admits("10.0.0.0/8", "::/0", "2001:db8::1"));
	assert_true(admits("2001:db8::/32", "", "2001:db8:ffff::1"));
	assert_false(admits("2001:db8::/32", "", "2001:db9::1"));
	assert_false(admits("0.0.0.0/0", "", "::1"));
}

static void names_of_fields_are_the_same_without_case_and_with_underscores(void **state UNUSED)
{
	assert_true(policy_same_field("X-Internal_User", 15, "x-internal-user", 15));
	assert_true(policy_same_field("", 0, "", 0));
	assert_false(policy_same_field("X-A", 3, "X-AB", 4));
	assert_false(policy_same_field("X-A", 3, "X-B", 3));
	assert_false(policy_same_field("@", 1, "`", 1));
}

/* What the client is told to ask for; "-" without a redirect. */
static const char *leads(const char *from, const char *to, const char *target)
{
	static char said[300];
	struct table_in_rule rule = {.kind = RULE_REDIRECT, .key = from, .value = to, .number = 307};
	struct table_in_policy p = {.rules = &rule, .rule_count = 1};
	const struct table *t = table(&p);
	const struct table_rule *r;
	size_t path_len = strcspn(target, "?"), n;

	assert_non_null(t);
	r = policy_redirect(t, table_policies(t), target, path_len);
	if (!r)
		return "-";
	n = policy_location(t, r, target, strlen(target), path_len, said);
	assert_true(n <= r->value_len + strlen(target) && n < sizeof(said));
	said[n] = '\0';
	return said;
}

static void redirects_take_a_whole_path_or_all_below_one(void **state UNUSED)
{
	assert_string_equal(leads("/old", "/new", "/old"), "/new");
	assert_string_equal(leads("/old", "/new", "/old/x"), "-");
	assert_string_equal(leads("/old", "/new", "/ol"), "-");
	assert_string_equal(leads("/old", "/new", "/old?a=b"), "/new?a=b");
	assert_string_equal(leads("/old", "/new?c", "/old?a=b"), "/new?c");
	assert_string_equal(leads("/old", "/new#c", "/old?a=b"), "/new#c");
	assert_string_equal(leads("/blog/*", "https://b.example/*", "/blog/a/b?q"),
			    "https://b.example/a/b?q");
	assert_string_equal(leads("/blog/*", "https://b.example/*", "/blog/"), "https://b.example/");
	assert_string_equal(leads("/blog/*", "https://b.example/", "/blog/a"), "https://b.example/");
	assert_string_equal(leads("/blog/*", "/x/*", "/blog"), "-");
	assert_string_equal(leads("/*", "/x/*", "/"), "/x/");
	assert_string_equal(leads("/a*", "/b*", "/ab"), "/bb");
}

static void a_redirect_never_leads_to_a_host_that_the_client_names(void **state UNUSED)
{
	assert_string_equal(leads("/go/*", "/*", "/go//evil.example"), "/evil.example");
	assert_string_equal(leads("/go*", "/*", "/go//evil.example"), "/evil.example");
	assert_string_equal(leads("/go*", "/*", "/go/\\/evil.example"), "/evil.example");
	assert_string_equal(leads("/go/*", "/*", "/go/\\evil.example"), "/evil.example");
	assert_string_equal(leads("/go/*", "/*", "/go/?//evil.example"), "/?//evil.example");
	assert_string_equal(leads("/go/*", "https://h.example/*", "/go//evil.example"),
			    "https://h.example/evil.example");
	assert_string_equal(leads("/go/*", "https://h.example/x*", "/go/.evil.example"),
			    "https://h.example/x.evil.example");
}

static void the_first_redirect_that_fits_is_taken(void **state UNUSED)
{
	struct table_in_rule rules[] = {
	    {.kind = RULE_REDIRECT, .key = "/a", .value = "/1", .number = 301},
	    {.kind = RULE_PAGE, .key = "text/plain", .value = "gone", .number = 502},
	    {.kind = RULE_REDIRECT, .key = "/a*", .value = "/2", .number = 308}};
	struct table_in_policy p = {.rules = rules, .rule_count = 3};
	const struct table *t = table(&p);

	assert_non_null(t);
	assert_int_equal(policy_redirect(t, table_policies(t), "/a", 2)->number, 301);
	assert_int_equal(policy_redirect(t, table_policies(t), "/ab", 3)->number, 308);
	assert_null(policy_redirect(t, table_policies(t), "/", 1));
	assert_int_equal(policy_page(t, table_policies(t), 502)->value_len, 4);
	assert_null(policy_page(t, table_policies(t), 503));
}

/* The list from its end, as text. */
static const char *popped(const char *list)
{
	static char said[400];
	size_t len = strlen(list), n = 0;
	enum policy_pop r;
	uint8_t a[16];

	said[0] = '\0';
	while ((r = policy_pop_address(list, &len, a)) != POP_NONE)
		n += (size_t)(r == POP_OTHER
				  ? snprintf(said + n, sizeof(said) - n, "? ")
			      : a[10] == 0xff
				  ? snprintf(said + n, sizeof(said) - n, "%d.%d.%d.%d ", a[12], a[13], a[14], a[15])
				  : snprintf(said + n, sizeof(said) - n, "%02x%02x..%02x ", a[0], a[1], a[15]));
	return said;
}

static void addresses_are_taken_off_a_list_from_its_end(void **state UNUSED)
{
	assert_string_equal(popped(""), "");
	assert_string_equal(popped(" , ,"), "");
	assert_string_equal(popped("192.0.2.1"), "192.0.2.1 ");
	assert_string_equal(popped("192.0.2.1, 10.0.0.2:81 ,,"), "10.0.0.2 192.0.2.1 ");
	assert_string_equal(popped("2001:db8::1,[2001:db8::2],[2001:db8::3]:80"), "2001..03 2001..02 2001..01 ");
	assert_string_equal(popped("unknown, 1.2.3"), "? ? ");
	assert_string_equal(popped("for=192.0.2.1;proto=http, For=\"[2001:db8::7]:4711\";by=x"),
			    "2001..07 192.0.2.1 ");
	assert_string_equal(popped("proto=http; for=192.0.2.1"), "192.0.2.1 ");
	assert_string_equal(popped("for=\"_hidden\", for="), "? ? ");
	assert_string_equal(popped("[::1, ["), "? ? ");
	assert_string_equal(popped("\"1.2.3.4\""), "1.2.3.4 ");
	assert_string_equal(popped("aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa"), "? ");
}

static void a_policy_lies_in_the_table_as_it_was_given(void **state UNUSED)
{
	struct table_in_rule rules[] = {
	    {.kind = RULE_ANSWER_REMOVE, .key = "server"},
	    {.kind = RULE_REQUEST_SET, .key = "X-A", .value = ""},
	    {.kind = RULE_USER, .key = "ann:rest", .key_len = 3, .value = "rest"},
	    {.kind = RULE_PAGE, .key = "text/html", .value = "a\0b", .value_len = 3, .number = 503}};
	struct table_in_policy p = {.rules = rules, .rule_count = 4, .realm = "r", .near_name = "c",
				    .v = {.auth = 1, .near = NEAR_COOKIE, .rate = RATE_ADDRESS,
					  .rate_requests = 1, .rate_ms = 1, .rate_burst = 1}};
	const struct table *t = table(&p);
	const struct table_policy *v = table_policies(t);
	const struct table_rule *r = table_rules(t);

	assert_int_equal(t->policy_count, 1);
	assert_int_equal(t->rule_count, 4);
	assert_int_equal(t->key[1], 2);
	assert_string_equal(table_string(t, v->realm), "r");
	assert_string_equal(table_string(t, v->rate_header), "");
	assert_string_equal(table_string(t, v->near_name), "c");
	for (int kind = 0; kind < RULE_COUNT; kind++)
		assert_int_equal(v->rules[kind].count, kind == RULE_ANSWER_REMOVE ||
						       kind == RULE_REQUEST_SET || kind == RULE_USER ||
						       kind == RULE_PAGE);
	assert_string_equal(table_string(t, r[v->rules[RULE_USER].first].key), "ann");
	assert_memory_equal(table_string(t, r[v->rules[RULE_PAGE].first].value), "a\0b", 4);
	assert_string_equal(table_string(t, r[v->rules[RULE_REQUEST_SET].first].value), "");
}

static void what_no_policy_can_be_is_refused(void **state UNUSED)
{
	static char longer[TABLE_PAGE_MAX + 2];
	struct table_in_rule bad[] = {
	    {.kind = RULE_REQUEST_SET, .key = "", .value = "x"},
	    {.kind = RULE_REDIRECT, .key = "/a", .value = "/b", .number = 303},
	    {.kind = RULE_PAGE, .key = "text/html", .value = "x", .number = 200},
	    {.kind = RULE_PAGE, .key = "text/html", .value = longer, .number = 502},
	    {.kind = RULE_REQUEST_SET, .key = "x", .value = longer + TABLE_PAGE_MAX - TABLE_TEXT_MAX}};
	struct table_in_policy p = {.rule_count = 1};

	memset(longer, 'x', sizeof(longer) - 1);
	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		p.rules = &bad[i];
		assert_null(table(&p));
	}
	bad[3].value = longer + 1; /* exactly as long as it may be */
	p.rules = &bad[3];
	assert_non_null(table(&p));
	p = (struct table_in_policy){.v = {.rate = RATE_ADDRESS}};
	assert_null(table(&p));
	p = (struct table_in_policy){.realm = longer};
	assert_null(table(&p));
}

/* Everything that reading a policy touches. */
static size_t read_all(const struct table *t)
{
	static char place[TABLE_TEXT_MAX + 16];
	const uint8_t addr[16] = {10};
	size_t sum = 0;

	for (uint32_t i = 0; i < t->app_count; i++) {
		const struct table_policy *p = &table_policies(t)[table_apps(t)[i].policy - 1];
		const struct table_rule *r;

		if (!table_apps(t)[i].policy)
			continue;
		sum += policy_admits(t, p, addr) + (policy_page(t, p, 502) != NULL);
		r = policy_redirect(t, p, "/old/x?y", 6);
		sum += r ? policy_location(t, r, "/old/x?y", 8, 6, place) : 0;
		sum += strlen(table_string(t, p->realm)) + strlen(table_string(t, p->near_name)) +
		       strlen(table_string(t, p->rate_header));
		for (int kind = 0; kind < RULE_COUNT; kind++)
			for (uint32_t j = 0; j < p->rules[kind].count; j++) {
				r = &table_rules(t)[p->rules[kind].first + j];
				sum += (size_t)table_string(t, r->key)[r->key_len] +
				       (size_t)table_string(t, r->value)[r->value_len];
			}
	}
	return sum;
}

static void no_flipped_bit_makes_reading_a_policy_unsafe(void **state UNUSED)
{
	struct table_net net;
	struct table_in_rule rules[] = {
	    {.kind = RULE_REQUEST_SET, .key = "X-A", .value = "a"},
	    {.kind = RULE_REDIRECT, .key = "/old/*", .value = "/new/*", .number = 307},
	    {.kind = RULE_PAGE, .key = "text/html", .value = "<p>{id}", .number = 502}};
	struct table_in_policy p = {.rules = rules, .rule_count = 3, .allow = &net, .allow_count = 1,
				    .deny = &net, .deny_count = 1, .realm = "r", .near_name = "n"};
	static volatile size_t sum;
	size_t right = 0;

	assert_true(table_net_parse("10.0.0.0/8", &net));
	assert_non_null(table(&p));
	for (size_t bit = 0; bit < b.len * 8; bit++) {
		char *copy = memcpy(util_alloc(b.len), b.data, b.len); /* its end is watched */

		copy[bit / 8] = (char)(copy[bit / 8] ^ 1 << bit % 8);
		if (table_check(copy, b.len, &e) == 0) {
			sum += read_all((const void *)copy);
			right++;
		}
		free(copy);
	}
	assert_in_range(right, 1, b.len * 8 - 1);
	assert_true(sum < SIZE_MAX); /* so that nothing is optimised away */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test_teardown(the_smallest_network_decides_and_deny_before_allow, teardown),
	    cmocka_unit_test(names_of_fields_are_the_same_without_case_and_with_underscores),
	    cmocka_unit_test_teardown(redirects_take_a_whole_path_or_all_below_one, teardown),
	    cmocka_unit_test_teardown(a_redirect_never_leads_to_a_host_that_the_client_names, teardown),
	    cmocka_unit_test_teardown(the_first_redirect_that_fits_is_taken, teardown),
	    cmocka_unit_test(addresses_are_taken_off_a_list_from_its_end),
	    cmocka_unit_test_teardown(a_policy_lies_in_the_table_as_it_was_given, teardown),
	    cmocka_unit_test_teardown(no_flipped_bit_makes_reading_a_policy_unsafe, teardown),
	    cmocka_unit_test_teardown(what_no_policy_can_be_is_refused, teardown),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
