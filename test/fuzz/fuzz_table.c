/* SPDX-License-Identifier: Apache-2.0
 *
 * A damaged routing table is refused, or is safe to read. The first bytes of the
 * input overwrite a good table in places: offset, value, offset, value, ...
 */
#include <string.h>

#include "core/policy.h"
#include "core/table.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static size_t read_policy(const struct table *t, const struct table_policy *p)
{
	static const char target[] = "/old/x?y";
	static char place[TABLE_TEXT_MAX + sizeof(target)];
	const uint8_t addr[16] = {10};
	const struct table_rule *r = policy_redirect(t, p, target, 6);
	size_t sum = policy_admits(t, p, addr);

	if (r)
		sum += policy_location(t, r, target, 8, 6, place);
	for (uint16_t status = 400; status < 600; status++)
		sum += policy_page(t, p, status) != NULL;
	for (int kind = 0; kind < RULE_COUNT; kind++)
		for (uint32_t i = 0; i < p->rules[kind].count; i++) {
			r = &table_rules(t)[p->rules[kind].first + i];
			sum += strlen(table_string(t, r->key)) + strlen(table_string(t, r->value));
		}
	return sum + strlen(table_string(t, p->realm)) + strlen(table_string(t, p->rate_header)) +
	       strlen(table_string(t, p->near_name));
}

static void read_all(const struct table *t)
{
	static const char *const hosts[] = {"example.org", "a.b.example.org", "x", "", "."};
	static const char *const paths[] = {"/", "/api", "/api/v2/x", "//", "/a/b/c/d"};
	const uint8_t addr[16] = {10};
	size_t sum = 0;

	for (size_t i = 0; i < 25; i++)
		sum += (size_t)(1 + table_find(t, hosts[i / 5], strlen(hosts[i / 5]), paths[i % 5],
					       strlen(paths[i % 5])));
	for (uint32_t i = 0; i < t->policy_count; i++)
		sum += read_policy(t, &table_policies(t)[i]);
	for (uint32_t i = 0; i < t->app_count; i++)
		sum += strlen(table_string(t, table_apps(t)[i].name)) +
		       strlen(table_string(t, table_apps(t)[i].health_path));
	for (uint32_t i = 0; i < t->target_count; i++)
		sum += strlen(table_string(t, table_targets(t)[i].name));
	sum += strlen(table_string(t, t->acme));
	ensure(sum + table_trusted(t, addr) < SIZE_MAX); /* so that nothing is optimised away */
}

static struct buf good_table(void)
{
	static const char *const hosts[] = {"example.org", "*.example.org", "*"};
	static const char *const paths[] = {"/", "/api"};
	struct table_in_target g = {.id = 1, .use = USE_SERVE, .name = "a/1"};
	static const struct table_in_rule rules[] = {
	    {.kind = RULE_REQUEST_SET, .key = "X-A", .value = "a"},
	    {.kind = RULE_REDIRECT, .key = "/old/*", .value = "/new/*", .number = 307},
	    {.kind = RULE_PAGE, .key = "text/html", .value = "<p>{id}", .number = 502},
	    {.kind = RULE_USER, .key = "ann", .value = "sha256:00:00"}};
	struct table_net net;
	struct table_in_policy policy = {.rules = rules, .rule_count = 4, .allow = &net,
					 .allow_count = 1, .deny = &net, .deny_count = 1, .realm = "r",
					 .v = {.rate = RATE_ADDRESS, .rate_requests = 1, .rate_ms = 1,
					       .rate_burst = 1, .near = NEAR_PATH}};
	struct table_in_app a = {.name = "a",
				 .health_path = "/up",
				 .hosts = hosts,
				 .host_count = 3,
				 .paths = paths,
				 .path_count = 2,
				 .targets = &g,
				 .target_count = 1,
				 .policy = &policy,
				 .v = {.acme = 1}};
	struct table_in in = {.apps = &a, .app_count = 1, .trusted = &net, .trusted_count = 1, .acme = "thumb"};
	struct buf b = {0};

	ensure(table_net_parse("10.0.0.0/8", &net));
	ensure(table_addr_parse("127.0.0.1:80", &g.kind, g.addr, &g.addr_len));
	ensure(table_build(&in, 1, &b, NULL) == 0);
	return b;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct buf b = good_table();

	for (; size >= 6; data += 6, size -= 6) {
		uint16_t at;

		memcpy(&at, data, 2);
		memcpy(b.data + at % (b.len - 4), data + 2, 4);
	}
	if (table_check(b.data, b.len, NULL) == 0)
		read_all((const void *)b.data);
	buf_free(&b);
	return 0;
}
