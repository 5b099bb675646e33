/* SPDX-License-Identifier: Apache-2.0 */
#include "core/policy.h"

#include <arpa/inet.h>
#include <string.h>

/* --- who may come --- */

/* Bits of the smallest network that holds the address; -1: none does. */
static int smallest(const struct table *t, struct table_range nets, const uint8_t addr[16])
{
	int bits = -1;

	for (uint32_t i = nets.first; i < nets.first + nets.count; i++) {
		const struct table_net *net = &table_nets(t)[i];

		if ((int)net->bits > bits && table_net_has(net, addr))
			bits = (int)net->bits;
	}
	return bits;
}

bool policy_admits(const struct table *t, const struct table_policy *p, const uint8_t addr[16])
{
	int allowed = smallest(t, p->allow, addr), denied = smallest(t, p->deny, addr);

	if (allowed < 0 && denied < 0)
		return !p->allow.count;
	return allowed > denied;
}

/* --- fields and pages --- */

static char folded(char c)
{
	return c == '_' ? '-' : c >= 'A' && c <= 'Z' ? (char)(c | 0x20) : c;
}

bool policy_same_field(const char *a, size_t a_len, const char *b, size_t b_len)
{
	if (a_len != b_len)
		return false;
	for (size_t i = 0; i < a_len; i++)
		if (folded(a[i]) != folded(b[i]))
			return false;
	return true;
}

const struct table_rule *policy_page(const struct table *t, const struct table_policy *p,
				     uint16_t status)
{
	const struct table_rule *r = table_rules(t) + p->rules[RULE_PAGE].first;

	for (uint32_t n = p->rules[RULE_PAGE].count; n--; r++)
		if (r->number == status)
			return r;
	return NULL;
}

/* --- redirects --- */

/* Length of a text without its final '*'. */
static size_t fixed(const char *text, size_t len)
{
	return len && text[len - 1] == '*' ? len - 1 : len;
}

const struct table_rule *policy_redirect(const struct table *t, const struct table_policy *p,
					 const char *path, size_t path_len)
{
	const struct table_rule *r = table_rules(t) + p->rules[RULE_REDIRECT].first;

	for (uint32_t n = p->rules[RULE_REDIRECT].count; n--; r++) {
		const char *from = table_string(t, r->key);
		size_t len = fixed(from, r->key_len);

		if ((len < r->key_len ? path_len >= len : path_len == len) && !memcmp(from, path, len))
			return r;
	}
	return NULL;
}

size_t policy_location(const struct table *t, const struct table_rule *r, const char *target,
		       size_t target_len, size_t path_len, char *ret)
{
	const char *to = table_string(t, r->value), *tail = target, *end = target + path_len;
	size_t len = fixed(to, r->value_len);
	char *at = ret + len;

	memcpy(ret, to, len);
	if (len < r->value_len) {
		tail += fixed(table_string(t, r->key), r->key_len);
		while (tail < end && (!len || to[len - 1] == '/') && (*tail == '/' || *tail == '\\'))
			tail++;
		memcpy(at, tail, (size_t)(end - tail));
		at += end - tail;
	}
	if (!memchr(to, '?', r->value_len) && !memchr(to, '#', r->value_len)) {
		memcpy(at, end, target_len - path_len);
		at += target_len - path_len;
	}
	return (size_t)(at - ret);
}

/* --- addresses in lists --- */

static bool is_space(char c)
{
	return c == ' ' || c == '\t';
}

static void trim(const char **p, const char **end)
{
	while (*p < *end && is_space(**p))
		++*p;
	while (*p < *end && is_space((*end)[-1]))
		--*end;
}

/* The value of `for` among the pairs of an item of Forwarded; the item itself when there is none. */
static void find_for(const char **p, const char **end)
{
	for (const char *at = *p, *next; at < *end; at = next) {
		const char *stop = memchr(at, ';', (size_t)(*end - at));

		next = stop ? stop + 1 : *end;
		stop = stop ? stop : *end;
		trim(&at, &stop);
		if (stop - at > 4 && policy_same_field(at, 4, "for=", 4)) {
			*p = at + 4;
			*end = stop;
			break;
		}
	}
	if (*end - *p >= 2 && **p == '"' && (*end)[-1] == '"') {
		++*p;
		--*end;
	}
}

/* a.b.c.d, a.b.c.d:port, v6, [v6], [v6]:port */
static bool parse_address(const char *p, const char *end, uint8_t ret[16])
{
	char text[INET6_ADDRSTRLEN];
	const char *colon = memchr(p, ':', (size_t)(end - p));
	bool six = colon && memchr(colon + 1, ':', (size_t)(end - colon - 1));

	if (p < end && *p == '[') {
		end = memchr(p, ']', (size_t)(end - p));
		p++;
		six = true;
	} else if (colon && !six) {
		end = colon;
	}
	if (!end || (size_t)(end - p) >= sizeof(text))
		return false;
	memcpy(text, p, (size_t)(end - p));
	text[end - p] = '\0';
	if (six)
		return inet_pton(AF_INET6, text, ret) == 1;
	memset(ret, 0, 10);
	ret[10] = ret[11] = 0xff;
	return inet_pton(AF_INET, text, ret + 12) == 1;
}

enum policy_pop policy_pop_address(const char *list, size_t *len, uint8_t ret[16])
{
	const char *p = list, *end = list + *len;

	for (;;) {
		const char *comma = *len ? memrchr(list, ',', *len) : NULL;

		end = list + *len;
		p = comma ? comma + 1 : list;
		*len = comma ? (size_t)(comma - list) : 0;
		trim(&p, &end);
		if (p < end)
			break;
		if (!comma) /* empty items between commas are none (RFC 9110, 5.6.1) */
			return POP_NONE;
	}
	find_for(&p, &end);
	return parse_address(p, end, ret) ? POP_ADDRESS : POP_OTHER;
}
