/* SPDX-License-Identifier: Apache-2.0
 *
 * What policies read out of a request: lists of addresses, basic authentication, cookies, and paths
 * that are redirected, which must never lead to a host that the path names; and the trace that it is a hop of.
 */
#include <string.h>

#include "core/near.h"
#include "core/policy.h"
#include "wire/password.h"
#include "wire/trace.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void redirected(const char *path, size_t len)
{
	static const char *const any[] = {"*"}, *const root[] = {"/"};
	static const struct table_in_rule rules[] = {
	    {.kind = RULE_REDIRECT, .key = "/go*", .value = "/*", .number = 307},
	    {.kind = RULE_REDIRECT, .key = "/*", .value = "/", .number = 307}};
	static const struct table_in_policy policy = {.rules = rules, .rule_count = 2};
	static const struct table_in_app app = {.name = "a", .hosts = any, .host_count = 1,
						.paths = root, .path_count = 1, .policy = &policy};
	static const struct table_in in = {.apps = &app, .app_count = 1};
	static struct buf b;
	const struct table_rule *r;
	char *place;
	size_t n;

	if (!b.len)
		ensure(table_build(&in, 1, &b, NULL) == 0);
	r = policy_redirect((const void *)b.data, table_policies((const void *)b.data), path, len);
	if (!r)
		return;
	place = util_alloc(r->value_len + len); /* its end is watched */
	n = policy_location((const void *)b.data, r, path, len, len, place);
	ensure(n >= 1 && n <= r->value_len + len && place[0] == '/');
	ensure(n < 2 || (place[1] != '/' && place[1] != '\\'));
	free(place);
}

/* A trace that is taken up and written has the same id, and is one again. */
static void traced(const char *p, size_t len)
{
	char text[TRACE_PARENT];
	struct trace came, went;

	if (!trace_parse(p, len, &came))
		return;
	ensure(came.id > p && came.id + TRACE_ID < p + len && !(came.flags & ~(TRACE_SAMPLED | TRACE_RANDOM)));
	ensure(trace_write(text, came.id, 1, came.flags) == text + sizeof(text));
	ensure(trace_parse(text, sizeof(text), &went) && !memcmp(went.id, came.id, TRACE_ID) &&
	       went.flags == came.flags);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *exact = size ? memcpy(util_alloc(size), data, size) : util_alloc(1); /* its end is watched */
	char basic[PASSWORD_BASIC];
	const char *password;
	uint8_t addr[16];
	size_t len = size;

	while (policy_pop_address(exact, &len, addr) != POP_NONE)
		ensure(len < size);
	if (password_basic(exact, size, basic, &password, &len))
		ensure(password > basic && password + len < basic + sizeof(basic) && !password[len]);
	near_cookie(exact, size, "upstate-a");
	redirected(exact, size);
	traced(exact, size);
	free(exact);
	return 0;
}
