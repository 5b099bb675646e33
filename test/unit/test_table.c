/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <arpa/inet.h>
#include <sys/un.h>

#include "base/clock.h"
#include "core/table.h"

static struct err e;

/* App `name` with one host and one path, and no target. */
static struct table_in_app app(const char *name, const char *const *host, const char *const *path)
{
	return (struct table_in_app){.name = name, .hosts = host, .host_count = 1, .paths = path,
				     .path_count = 1};
}

static const struct table *built(const struct table_in *in, struct buf *b)
{
	assert_int_equal(table_build(in, 7, b, &e), 0);
	assert_int_equal(table_check(b->data, b->len, &e), 0);
	return (const void *)b->data;
}

static const char *name_at(const struct table *t, int32_t app)
{
	return app < 0 ? "-" : table_string(t, table_apps(t)[app].name);
}

static const char *found(const struct table *t, const char *host, const char *path)
{
	int32_t i = table_find(t, host, strlen(host), path, strlen(path));
	struct table_match m[2];
	uint32_t n = table_matches(t, host, strlen(host), path, strlen(path), m, ARRAY_LEN(m));

	/* The rule without the index says the same. */
	assert_int_equal(n ? (int32_t)m[0].app : -1, i);
	return name_at(t, i);
}

static const char *const exact[] = {"example.org"}, *const suffix[] = {"*.example.org"},
			*const deeper[] = {"*.a.EXAMPLE.org"}, *const any[] = {"*"};
static const char *const root[] = {"/"}, *const api[] = {"/api"}, *const v2[] = {"/api/v2/"};

static void the_most_specific_host_wins_then_the_longest_prefix(void **state UNUSED)
{
	struct table_in_app apps[] = {app("exact", exact, root), app("suffix", suffix, root),
				      app("deeper", deeper, api), app("any", any, root),
				      app("api", exact, api),	  app("v2", exact, v2)};
	struct table_in in = {.apps = apps, .app_count = ARRAY_LEN(apps)};
	CLEANUP_BUF struct buf b = {0};
	const struct table *t = built(&in, &b);

	assert_string_equal(found(t, "example.org", "/"), "exact");
	assert_string_equal(found(t, "example.org", "/apix"), "exact");
	assert_string_equal(found(t, "example.org", "/api"), "api");
	assert_string_equal(found(t, "example.org", "/api/"), "api");
	assert_string_equal(found(t, "example.org", "/api/v1/x"), "api");
	assert_string_equal(found(t, "example.org", "/api/v2"), "v2");
	assert_string_equal(found(t, "example.org", "/api/v2/"), "v2");
	assert_string_equal(found(t, "example.org", "/api/v2/x/y/z/"), "v2");
	assert_string_equal(found(t, "example.org", "/api/v22"), "api");
	assert_string_equal(found(t, "x.example.org", "/api"), "suffix");
	assert_string_equal(found(t, "x.a.example.org", "/api"), "deeper");
	assert_string_equal(found(t, "x.a.example.org", "/other"), "suffix");
	assert_string_equal(found(t, "a.example.org", "/api"), "suffix");
	assert_string_equal(found(t, ".example.org", "/"), "any");
	assert_string_equal(found(t, "example.com", "/api"), "any");
	assert_string_equal(found(t, "", "/"), "any");
	assert_string_equal(found(t, "org", "/"), "any");
}

static void matches(const struct table *t, const char *host, const char *path, const char *names)
{
	struct table_match m[3];
	uint32_t n = table_matches(t, host, strlen(host), path, strlen(path), m, ARRAY_LEN(m));
	CLEANUP_BUF struct buf b = {0};

	for (uint32_t i = 0; i < MIN(n, ARRAY_LEN(m)); i++)
		buf_addf(&b, "%s ", table_string(t, table_apps(t)[m[i].app].name));
	buf_addf(&b, "%u", n);
	assert_string_equal(buf_str(&b), names);
}

static void all_that_match_are_told_in_the_order_in_which_they_win(void **state UNUSED)
{
	struct table_in_app apps[] = {app("any", any, root),	app("exact", exact, root),
				      app("v2", exact, v2),	app("suffix", suffix, root),
				      app("deeper", deeper, api), app("api", exact, api)};
	struct table_in in = {.apps = apps, .app_count = ARRAY_LEN(apps)};
	CLEANUP_BUF struct buf b = {0};
	const struct table *t = built(&in, &b);

	matches(t, "example.org", "/api/v2/x", "v2 api exact 4");
	matches(t, "x.a.example.org", "/api", "deeper suffix any 3");
	matches(t, "x.a.example.org", "/", "suffix any 2");
	matches(t, "org", "/", "any 1");
	matches(t, "org", "", "0");
}

static void a_host_without_a_matching_prefix_is_unknown(void **state UNUSED)
{
	struct table_in_app apps[] = {app("api", exact, api)};
	struct table_in in = {.apps = apps, .app_count = 1};
	CLEANUP_BUF struct buf b = {0};
	const struct table *t = built(&in, &b);

	assert_string_equal(found(t, "example.org", "/"), "-");
	assert_string_equal(found(t, "example.org", ""), "-");
	assert_string_equal(found(t, "example.net", "/api"), "-");
	assert_int_equal(t->generation, 7);
}

static void two_apps_that_claim_the_same_are_both_named(void **state UNUSED)
{
	static const char *const slash[] = {"/api/"};
	struct table_in_app apps[] = {app("one", suffix, api), app("two", suffix, slash)};
	struct table_in in = {.apps = apps, .app_count = 2};
	CLEANUP_BUF struct buf b = {0};

	assert_int_equal(table_build(&in, 1, &b, &e), -ERR_INPUT);
	assert_non_null(strstr(e.msg, "'one' and 'two'"));
	assert_non_null(strstr(e.msg, "'*.example.org' with path '/api'"));
	assert_int_equal(b.len, 0);
	apps[1].name = "one";
	in.app_count = 1;
	assert_int_equal(table_build(&in, 1, &b, &e), 0);
}

static void patterns_that_are_none_are_refused(void **state UNUSED)
{
	static const char *const bad_hosts[] = {"", "*x", "*.", ".x", "a*b", "a b", "a/b"};
	static const char *const bad_paths[] = {"", "x", "/a?b", "/a#b"};

	for (size_t i = 0; i < ARRAY_LEN(bad_hosts) + ARRAY_LEN(bad_paths); i++) {
		bool host = i < ARRAY_LEN(bad_hosts);
		struct table_in_app a = app("a", host ? &bad_hosts[i] : exact,
					    host ? root : &bad_paths[i - ARRAY_LEN(bad_hosts)]);
		struct table_in in = {.apps = &a, .app_count = 1};
		CLEANUP_BUF struct buf b = {0};

		assert_int_equal(table_build(&in, 1, &b, &e), -ERR_INPUT);
	}
}

#define MANY 10000

static void ten_thousand_apps_are_found_in_a_time_that_does_not_grow(void **state UNUSED)
{
	static char names[MANY][32], hosts[MANY][40];
	static const char *host_at[MANY];
	static struct table_in_app apps[MANY];
	struct table_in in = {.apps = apps, .app_count = MANY};
	CLEANUP_BUF struct buf b = {0}, again = {0};
	const struct table *t;

	for (int i = 0; i < MANY; i++) {
		snprintf(names[i], sizeof(names[i]), "app%d", i);
		snprintf(hosts[i], sizeof(hosts[i]), i % 2 ? "*.h%d.example.org" : "h%d.example.org",
			 i);
		host_at[i] = hosts[i];
		apps[i] = app(names[i], &host_at[i], root);
	}
	t = built(&in, &b);
	built(&in, &again);
	assert_int_equal(b.len, again.len);
	assert_memory_equal(b.data, again.data, b.len);
	for (int i = 0; i < MANY; i++) {
		char host[64];

		snprintf(host, sizeof(host), i % 2 ? "www.h%d.example.org" : "h%d.example.org", i);
		assert_string_equal(name_at(t, table_find(t, host, strlen(host), "/some/path", 10)), names[i]);
	}
	/* The longest run of occupied places is what a lookup costs at most. */
	{
		const struct table_route *r = (const void *)((const char *)t + t->routes);
		uint32_t run = 0, longest = 0;

		for (uint32_t i = 0; i < t->route_cap; i++) {
			run = r[i].hash ? run + 1 : 0;
			longest = MAX(longest, run);
		}
		assert_true(longest < 64);
	}
}

static void targets_keep_what_they_were_given(void **state UNUSED)
{
	struct table_in_target targets[2] = {
		{.id = 11, .slot = 3, .name = "a/1", .use = USE_SERVE, .release = 12},
		{.id = 12, .slot = 4, .name = "a/2", .use = USE_DRAIN, .drain_until_ms = 99}};
	struct table_in_app a = app("a", exact, root);
	struct table_in in = {.apps = &a, .app_count = 1};
	CLEANUP_BUF struct buf b = {0};
	const struct table_target *g;

	assert_true(table_addr_parse("unix:/run/x", &targets[0].kind, targets[0].addr,
				     &targets[0].addr_len));
	assert_true(table_addr_parse("[::1]:80", &targets[1].kind, targets[1].addr,
				     &targets[1].addr_len));
	a.targets = targets;
	a.target_count = 2;
	a.v.slot = 5;
	a.health_path = "/up";
	g = table_targets(built(&in, &b));
	assert_int_equal(g[0].id, 11);
	assert_int_equal(g[0].release, 12);
	assert_int_equal(g[1].use, USE_DRAIN);
	assert_int_equal(g[1].drain_until_ms, 99);
	assert_string_equal(table_string((void *)b.data, g[1].name), "a/2");
	assert_int_equal(table_apps((void *)b.data)->slot, 5);
	assert_string_equal(table_string((void *)b.data, table_apps((void *)b.data)->health_path),
			    "/up");
	targets[0].kind = TARGET_TCP; /* its address is a unix socket's */
	b.len = 0;
	assert_int_equal(table_build(&in, 1, &b, NULL), -ERR_CORRUPT);
}

static void addresses_are_numbers_or_paths_and_nothing_else(void **state UNUSED)
{
	static const char *const bad[] = {"",	    "127.0.0.1",     "127.0.0.1:0",  "127.0.0.1:65536",
					  "host:80", "[::1]",	     "::1:80",	     "[::1:80",
					  "unix:",   "unix:relative", "127.0.0.1:8x", "[127.0.0.1]:80"};
	char longest[200] = "unix:/";
	uint8_t addr[TABLE_ADDR_MAX];
	uint16_t kind, len;

	for (size_t i = 0; i < ARRAY_LEN(bad); i++)
		assert_false(table_addr_parse(bad[i], &kind, addr, &len));
	assert_true(table_addr_parse("127.0.0.1:65535", &kind, addr, &len));
	assert_int_equal(((struct sockaddr_in *)addr)->sin_port, 0xffff);
	memset(longest + 6, 'x', 106);
	assert_true(table_addr_parse(longest, &kind, addr, &len)); /* 107 bytes of path */
	assert_int_equal(len, sizeof(struct sockaddr_un));
	longest[112] = 'x';
	assert_false(table_addr_parse(longest, &kind, addr, &len));
}

static bool trusts(const char *net, const char *addr)
{
	struct table_net n, a;
	struct table_in in = {.trusted = &n, .trusted_count = 1};
	CLEANUP_BUF struct buf b = {0};

	assert_true(table_net_parse(net, &n) && table_net_parse(addr, &a));
	return table_trusted(built(&in, &b), a.addr);
}

static void listeners_have_their_app_and_networks(void **state UNUSED)
{
	struct table_net trusted, nets[2], a, b4;
	struct table_in_app apps[] = {{.name = "a"}, {.name = "b"}};
	struct table_in_listener l[] = {{.id = 7, .app = UINT32_MAX, .nets = nets, .net_count = 2},
					{.id = 9, .app = 1}};
	struct table_in in = {.trusted = &trusted, .trusted_count = 1, .apps = apps, .app_count = 2,
			      .listeners = l, .listener_count = 2};
	CLEANUP_BUF struct buf b = {0};
	const struct table *t;

	assert_true(table_net_parse("192.0.2.0/24", &trusted) && table_net_parse("10.0.0.0/8", &nets[0]) &&
		    table_net_parse("::1", &nets[1]) && table_net_parse("10.1.2.3", &a) &&
		    table_net_parse("192.0.2.1", &b4));
	t = built(&in, &b);
	assert_int_equal(table_listener(t, 7)->app, UINT32_MAX);
	assert_int_equal(table_listener(t, 9)->app, 1);
	assert_null(table_listener(t, 8));
	assert_true(table_proxied(t, table_listener(t, 7), a.addr));
	assert_true(table_proxied(t, table_listener(t, 7), nets[1].addr));
	assert_false(table_proxied(t, table_listener(t, 7), b4.addr));
	assert_false(table_proxied(t, table_listener(t, 9), a.addr));
	assert_true(table_trusted(t, b4.addr));
	assert_false(table_trusted(t, a.addr));
	l[1].app = 2;
	buf_free(&b);
	assert_int_equal(table_build(&in, 1, &b, NULL), -ERR_CORRUPT);
}

static void networks_end_at_their_bit(void **state UNUSED)
{
	struct table_net n;

	assert_true(trusts("10.0.0.0/8", "10.255.255.255"));
	assert_false(trusts("10.0.0.0/8", "11.0.0.0"));
	assert_true(trusts("192.168.4.0/22", "192.168.7.255"));
	assert_false(trusts("192.168.4.0/22", "192.168.8.0"));
	assert_true(trusts("192.0.2.1", "192.0.2.1"));
	assert_false(trusts("192.0.2.1", "192.0.2.0"));
	assert_true(trusts("::/0", "203.0.113.9"));
	assert_false(trusts("0.0.0.0/0", "::1"));
	assert_true(trusts("2001:db8::/33", "2001:db8:7fff::1"));
	assert_false(trusts("2001:db8::/33", "2001:db8:8000::1"));
	assert_false(table_net_parse("10.0.0.0/33", &n));
	assert_false(table_net_parse("::/129", &n));
	assert_false(table_net_parse("10.0.0.0/", &n));
	assert_false(table_net_parse("10.0.0/8", &n));
	assert_false(table_net_parse("10.0.0.0/8x", &n));
	assert_false(table_net_parse("", &n));
}

static void no_flipped_bit_and_no_cut_makes_reading_unsafe(void **state UNUSED)
{
	struct table_in_target target = {.id = 1, .name = "a/1", .use = USE_SERVE};
	struct table_in_app a = app("a", suffix, api);
	struct table_in in = {.apps = &a, .app_count = 1};
	CLEANUP_BUF struct buf b = {0};
	struct table_match m[2];
	uint64_t *copy;
	uint32_t refused = 0;

	assert_true(table_addr_parse("127.0.0.1:80", &target.kind, target.addr, &target.addr_len));
	a.targets = &target;
	a.target_count = 1;
	built(&in, &b);
	copy = util_alloc(b.len);
	for (size_t bit = 0; bit < b.len * 8; bit++) {
		memcpy(copy, b.data, b.len);
		((uint8_t *)copy)[bit / 8] ^= (uint8_t)(1 << (bit % 8));
		if (table_check(copy, b.len, &e) < 0) {
			refused++;
			continue;
		}
		name_at((void *)copy, table_find((void *)copy, "x.example.org", 13, "/api/x", 6));
		table_matches((void *)copy, "x.example.org", 13, "/api/x", 6, m, ARRAY_LEN(m));
	}
	assert_true(refused > 500);
	for (size_t len = 0; len < b.len; len++) {
		memcpy(copy, b.data, len);
		assert_int_equal(table_check(copy, len, &e), -ERR_CORRUPT);
	}
	free(copy);
}

static const char *challenge(const struct table *t, const char *host, const char *path)
{
	static char said[300];
	int32_t i = table_find(t, host, strlen(host), path, strlen(path));
	const char *token;
	size_t len;

	if (i < 0 || !table_challenge(&table_apps(t)[i], path, strlen(path), &token, &len))
		return "no";
	snprintf(said, sizeof(said), "%s %.*s", found(t, host, path), (int)len, token);
	return said;
}

static void challenges_come_in_at_the_hosts_of_apps_that_want_them(void **state UNUSED)
{
	static const char *const two[] = {"example.org", "B.example.org"}, *const b[] = {"b.example.org"},
				*const given[] = {"/.well-known/acme-challenge"}, *const c[] = {"c.example.org"};
	struct table_in_app apps[] = {app("auto", two, api), app("plain", exact, root), app("other", b, root),
				      app("c", c, root), app("own", c, given)};
	struct table_in in = {.apps = apps, .app_count = ARRAY_LEN(apps), .acme = "thumb"};
	CLEANUP_BUF struct buf buf = {0}, buf2 = {0};
	const struct table *t;
	char path[300] = TABLE_ACME "/";
	size_t n = strlen(path);

	apps[0].host_count = 2;
	apps[0].v.acme = apps[2].v.acme = apps[3].v.acme = 1;
	t = built(&in, &buf);
	assert_string_equal(table_string(t, t->acme), "thumb");
	/* The app has other paths only; the rest of the host stays who it was. */
	assert_string_equal(challenge(t, "example.org", TABLE_ACME "/a_Z-09"), "auto a_Z-09");
	assert_string_equal(challenge(t, "b.example.org", TABLE_ACME "/x"), "auto x"); /* the first of two */
	assert_string_equal(challenge(t, "example.org", "/api"), "no");
	assert_string_equal(found(t, "example.org", "/.well-known/other"), "plain");
	assert_string_equal(challenge(t, "example.org", TABLE_ACME), "no");
	assert_string_equal(challenge(t, "x.example.org", TABLE_ACME "/x"), "no");
	/* A path that was given to an app is that app's. */
	assert_string_equal(challenge(t, "c.example.org", TABLE_ACME "/x"), "no");
	assert_string_equal(found(t, "c.example.org", TABLE_ACME "/x"), "own");
	/* What no server would ask for. */
	assert_string_equal(challenge(t, "example.org", TABLE_ACME "/"), "auto ");
	assert_string_equal(challenge(t, "example.org", TABLE_ACME "/a.b"), "auto ");
	assert_string_equal(challenge(t, "example.org", TABLE_ACME "/a/b"), "auto ");
	assert_string_equal(challenge(t, "example.org", TABLE_ACME "/a%62"), "auto ");
	memset(path + n, 'x', TABLE_TOKEN_MAX);
	assert_int_equal(strlen(challenge(t, "example.org", path)), strlen("auto ") + TABLE_TOKEN_MAX);
	path[n + TABLE_TOKEN_MAX] = 'x';
	assert_string_equal(challenge(t, "example.org", path), "auto ");
	in.acme = NULL;
	t = built(&in, &buf2);
	assert_string_equal(table_string(t, t->acme), "");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_most_specific_host_wins_then_the_longest_prefix),
		cmocka_unit_test(all_that_match_are_told_in_the_order_in_which_they_win),
		cmocka_unit_test(a_host_without_a_matching_prefix_is_unknown),
		cmocka_unit_test(two_apps_that_claim_the_same_are_both_named),
		cmocka_unit_test(patterns_that_are_none_are_refused),
		cmocka_unit_test(ten_thousand_apps_are_found_in_a_time_that_does_not_grow),
		cmocka_unit_test(targets_keep_what_they_were_given),
		cmocka_unit_test(addresses_are_numbers_or_paths_and_nothing_else),
		cmocka_unit_test(networks_end_at_their_bit),
		cmocka_unit_test(listeners_have_their_app_and_networks),
		cmocka_unit_test(challenges_come_in_at_the_hosts_of_apps_that_want_them),
		cmocka_unit_test(no_flipped_bit_and_no_cut_makes_reading_unsafe),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
