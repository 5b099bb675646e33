/* SPDX-License-Identifier: Apache-2.0
 *
 * What the policy of an app (core/policy.h) would do with the request, in the router's order: maintenance,
 * networks, rate, users, redirects; then which target it keeps to, and which fields change.
 */
#include "core/policy.h"

#include <string.h>

#include "tell/explain_priv.h"

static bool is_refused_address(struct explain *x, const struct table_policy *p)
{
	if (!p->allow.count && !p->deny.count)
		return false;
	if (!x->from[0]) {
		explain_unknown(x, "whether the client's address may use the app: give it");
		return false;
	}
	if (x->trusted && x->head.known_at[HTTP1_X_FORWARDED_FOR]) {
		explain_unknown(x, "whether the address that the trusted proxy names may use the app");
		return false;
	}
	return !policy_admits(x->t, p, x->addr);
}

/* Which of the targets that could be next it is, only the router's key tells. */
static void tell_nearness(struct explain *x, const struct table_policy *p)
{
	static const char *const by[] = {[NEAR_COOKIE] = "cookie", [NEAR_ADDRESS] = "client's address",
					 [NEAR_PATH] = "path", [NEAR_HEADER] = "header"};

	if (p->near != NEAR_NONE)
		explain_unknown(x, "which target its %s keeps it to, while that has a place: only the router can tell",
				by[p->near]);
}

static void tell_fields(struct explain *x, const struct table_policy *p)
{
	static const struct {
		enum table_rule_kind kind;
		const char *key;
	} kinds[] = {{RULE_REQUEST_SET, "set"}, {RULE_REQUEST_REMOVE, "removed"}};
	json_t *o = json_object();

	for (size_t i = 0; i < ARRAY_LEN(kinds); i++) {
		const struct table_rule *r = table_rules(x->t) + p->rules[kinds[i].kind].first;
		json_t *list = json_array();

		for (uint32_t n = p->rules[kinds[i].kind].count; n--; r++)
			json_array_append_new(list, json_pack("{s:s, s:s}", "name", table_string(x->t, r->key), "value",
							      kinds[i].kind == RULE_REQUEST_SET
								      ? table_string(x->t, r->value)
								      : ""));
		json_object_set_new(o, kinds[i].key, list);
	}
	json_object_set_new(x->o, "policy", o);
}

static bool tell_redirect(struct explain *x, const struct table_policy *p)
{
	const struct http1_head *h = &x->head;
	const struct table_rule *r = policy_redirect(x->t, p, h->path.p, h->path.len);
	CLEANUP_BUF struct buf to = {0};
	char *room;

	if (!r)
		return false;
	room = buf_room(&to, r->value_len + h->target.len);
	if (room)
		to.len = policy_location(x->t, r, h->target.p, h->target.len, h->path.len, room);
	explain_decide(x, "redirect", (int)r->number, "it is sent to %s", buf_str(&to));
	return true;
}

bool explain_policy(struct explain *x)
{
	const struct table_policy *p;

	if (!x->app->policy)
		return false;
	p = &table_policies(x->t)[x->app->policy - 1];
	tell_fields(x, p);
	if (p->maintenance) {
		explain_decide(x, "refuse", 503, "the app is in maintenance");
		return true;
	}
	if (is_refused_address(x, p)) {
		explain_decide(x, "refuse", 403, "the client's address may not use the app");
		return true;
	}
	if (p->rate)
		explain_unknown(x, "whether the client is over its rate, %u requests in %u ms: then it gets 429",
				p->rate_requests, p->rate_ms);
	if (p->auth)
		explain_unknown(x, "whether it names a user of the app: else it gets 401");
	if (p->rules[RULE_REDIRECT].count && tell_redirect(x, p))
		return true;
	tell_nearness(x, p);
	return false;
}
