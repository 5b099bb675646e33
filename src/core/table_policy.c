/* SPDX-License-Identifier: Apache-2.0
 *
 * Policies in the routing table: built, and checked before anything is read. Rules of all
 * kinds have one shape, so that one loop writes them and one checks them.
 */
#include <string.h>

#include "core/table_priv.h"

static const char *text_or_none(const char *s)
{
	return s ? s : "";
}

static uint32_t key_len(const struct table_in_rule *r)
{
	return r->key_len ? r->key_len : (uint32_t)strlen(r->key);
}

static uint32_t value_len(const struct table_in_rule *r)
{
	return r->value_len || !r->value ? r->value_len : (uint32_t)strlen(r->value);
}

static uint32_t value_max(enum table_rule_kind kind)
{
	return kind == RULE_PAGE ? TABLE_PAGE_MAX : TABLE_TEXT_MAX;
}

int table_measure_policy(struct build *b, const struct table_in_app *a)
{
	const struct table_in_policy *p = a->policy;
	const char *const names[] = {p->realm, p->rate_header, p->near_name};

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		if (strlen(text_or_none(names[i])) > TABLE_NAME_MAX)
			return err_set(b->e, ERR_LIMIT, "app '%s': '%.40s...' is too long", a->name,
				       names[i]);
		b->strings_len += strlen(text_or_none(names[i])) + 1;
	}
	for (uint32_t i = 0; i < p->rule_count; i++) {
		const struct table_in_rule *r = &p->rules[i];

		if (key_len(r) > TABLE_TEXT_MAX || value_len(r) > value_max(r->kind))
			return err_set(b->e, ERR_LIMIT, "app '%s': what is said of '%.40s' is too long",
				       a->name, r->key);
		b->strings_len += (uint64_t)key_len(r) + value_len(r) + 2;
	}
	b->policy_count++;
	b->rule_count += p->rule_count;
	b->net_count += (uint64_t)p->allow_count + p->deny_count;
	if (b->rule_count > TABLE_RULES_MAX || b->net_count > TABLE_RULES_MAX)
		return err_set(b->e, ERR_LIMIT, "more than %u rules or networks", TABLE_RULES_MAX);
	return 0;
}

static uint32_t add_text(struct build *b, const char *s, uint32_t len)
{
	uint32_t at = b->string_at;

	if (len)
		memcpy(b->strings + at, s, len);
	b->string_at += len + 1; /* its NUL is there */
	return at;
}

static struct table_range add_nets(struct build *b, const struct table_net *nets, uint32_t n)
{
	struct table_net *to = (void *)((char *)b->t + b->t->nets);
	struct table_range range = {b->net_at, n};

	if (n)
		memcpy(to + b->net_at, nets, n * sizeof(*nets));
	b->net_at += n;
	return range;
}

uint32_t table_add_policy(struct build *b, const struct table_in_policy *p)
{
	struct table_policy *v = (void *)((char *)b->t + b->t->policies);
	struct table_rule *rules = (void *)((char *)b->t + b->t->rules);

	v += b->policy_at;
	*v = p->v;
	v->allow = add_nets(b, p->allow, p->allow_count);
	v->deny = add_nets(b, p->deny, p->deny_count);
	v->realm = table_add_string(b, text_or_none(p->realm));
	v->rate_header = table_add_string(b, text_or_none(p->rate_header));
	v->near_name = table_add_string(b, text_or_none(p->near_name));
	for (int kind = 0; kind < RULE_COUNT; kind++) {
		v->rules[kind] = (struct table_range){b->rule_at, 0};
		for (uint32_t i = 0; i < p->rule_count; i++) {
			const struct table_in_rule *from = &p->rules[i];
			struct table_rule *r = &rules[b->rule_at];

			if ((int)from->kind != kind)
				continue;
			r->key_len = key_len(from);
			r->key = add_text(b, from->key, r->key_len);
			r->value_len = value_len(from);
			r->value = add_text(b, from->value, r->value_len);
			r->number = from->number;
			v->rules[kind].count++;
			b->rule_at++;
		}
	}
	return ++b->policy_at;
}

/* --- checking --- */

static bool range_fits(struct table_range r, uint32_t n)
{
	return r.first <= n && r.count <= n - r.first;
}

static bool is_text(const struct table *t, uint32_t at, uint32_t len, uint32_t max)
{
	return len <= max && at < t->strings_len && len < t->strings_len - at &&
	       !table_string(t, at)[len];
}

/* What a number may be, where reading relies on it. */
static bool number_is_right(enum table_rule_kind kind, uint32_t n)
{
	if (kind == RULE_REDIRECT)
		return n == 301 || n == 302 || n == 307 || n == 308;
	return kind != RULE_PAGE || (n >= 400 && n <= 599);
}

static const char *check_rules(const struct table *t, const struct table_policy *p)
{
	for (int kind = 0; kind < RULE_COUNT; kind++) {
		const struct table_rule *r = table_rules(t) + p->rules[kind].first;

		if (!range_fits(p->rules[kind], t->rule_count))
			return "a policy's rules lie outside of it";
		for (uint32_t i = 0; i < p->rules[kind].count; i++, r++) {
			if (!is_text(t, r->key, r->key_len, TABLE_TEXT_MAX) || !r->key_len ||
			    !is_text(t, r->value, r->value_len, value_max(kind)))
				return "a rule's text lies outside of it";
			if (!number_is_right(kind, r->number))
				return "a rule's number is none that it can have";
		}
	}
	return NULL;
}

const char *table_check_policies(const struct table *t)
{
	if (t->trusted_count > t->net_count)
		return "its trusted networks lie outside of it";
	for (uint32_t i = 0; i < t->net_count; i++)
		if (table_nets(t)[i].bits > 128)
			return "a network has more than 128 bits";
	for (uint32_t i = 0; i < t->policy_count; i++) {
		const struct table_policy *p = &table_policies(t)[i];
		const char *wrong = check_rules(t, p);

		if (wrong)
			return wrong;
		if (!range_fits(p->allow, t->net_count) || !range_fits(p->deny, t->net_count))
			return "a policy's networks lie outside of it";
		if (!table_is_string(t, p->realm, TABLE_NAME_MAX) ||
		    !table_is_string(t, p->rate_header, TABLE_NAME_MAX) ||
		    !table_is_string(t, p->near_name, TABLE_NAME_MAX))
			return "a policy's string lies outside of it";
		if (p->rate && (!p->rate_requests || !p->rate_ms || !p->rate_burst))
			return "a policy's rate is none";
	}
	return NULL;
}
