/* SPDX-License-Identifier: Apache-2.0
 *
 * From what the configuration says of an app to the rules of the routing table. An app that
 * says nothing beyond its defaults gets none, and costs the router nothing.
 */
#include "ship/ship.h"

#include <string.h>
#include <strings.h>

#define COOKIE_PREFIX "upstate-"

/* One allocation for each app that has a policy: this, then its rules, then its networks. */
struct made {
	struct table_in_policy p;
	char cookie[sizeof(COOKIE_PREFIX) + SHIP_NAME];
	struct table_in_rule *rules; /* where the next one goes */
};

static void add(struct made *m, enum table_rule_kind kind, const char *key, const char *value,
		uint32_t number)
{
	*m->rules++ = (struct table_in_rule){.kind = kind, .key = key, .value = value, .number = number};
	m->p.rule_count++;
}

/* Items are "NAME\0VALUE", or names alone. */
static void add_fields(struct made *m, enum table_rule_kind kind, const struct conf_text_list *l, bool values)
{
	for (uint32_t i = 0; i < l->len; i++)
		add(m, kind, l->items[i], values ? l->items[i] + strlen(l->items[i]) + 1 : NULL, 0);
}

static const char *content_type(const char *path)
{
	static const struct {
		const char *end, *type;
	} types[] = {{".txt", "text/plain; charset=utf-8"},
		     {".json", "application/json"},
		     {".xml", "application/xml"}};
	const char *dot = strrchr(path, '.');

	for (size_t i = 0; dot && i < ARRAY_LEN(types); i++)
		if (strcasecmp(dot, types[i].end) == 0)
			return types[i].type;
	return "text/html; charset=utf-8";
}

static void add_page(struct made *m, const struct conf_page *page, uint32_t status)
{
	if (!page->data)
		return;
	add(m, RULE_PAGE, content_type(page->path), page->data, status);
	m->rules[-1].value_len = page->len;
}

static void add_pages(struct made *m, const struct conf_app *c)
{
	static const uint32_t status[] = {
#define X(status) status,
		CONF_PAGE_TABLE(X)
#undef X
	};

	if (m->p.v.maintenance) /* the first that fits is taken */
		add_page(m, &c->maintenance, 503);
	for (int i = 0; i < CONF_PAGE_COUNT; i++)
		add_page(m, &c->pages[i], status[i]);
}

static void add_users(struct made *m, const struct conf_app *c)
{
	for (uint32_t i = 0; i < c->users.len; i++) {
		const char *colon = strchr(c->users.items[i], ':');

		add(m, RULE_USER, c->users.items[i], colon + 1, 0);
		m->rules[-1].key_len = (uint32_t)(colon - c->users.items[i]);
	}
	m->p.v.auth = c->users.len > 0;
	m->p.realm = c->realm;
	if (c->users.len && !c->auth_pass)
		add(m, RULE_REQUEST_REMOVE, "authorization", NULL, 0);
}

static void set_rate(struct made *m, const struct conf_app *c)
{
	bool header = strncmp(c->rate_by, "header ", 7) == 0;

	if (!c->rate_requests)
		return;
	m->p.v.rate = header ? RATE_HEADER : RATE_ADDRESS;
	m->p.rate_header = header ? c->rate_by + 7 : NULL;
	m->p.v.rate_requests = c->rate_requests;
	m->p.v.rate_ms = c->rate_ms;
	m->p.v.rate_burst = c->rate_burst ? c->rate_burst : c->rate_requests;
}

static void set_near(struct made *m, const struct ship_app *a)
{
	const char *hash = strncmp(a->conf->balance, "hash ", 5) == 0 ? a->conf->balance + 5 : "";
	const char *sticky = a->conf->sticky;

	if (strcmp(sticky, "0") != 0) {
		snprintf(m->cookie, sizeof(m->cookie), "%s%s", COOKIE_PREFIX, a->name);
		m->p.v.near = NEAR_COOKIE;
		m->p.near_name = strcmp(sticky, "1") == 0 ? m->cookie : sticky;
	} else if (strcmp(hash, "address") == 0) {
		m->p.v.near = NEAR_ADDRESS;
	} else if (strcmp(hash, "path") == 0) {
		m->p.v.near = NEAR_PATH;
	} else if (hash[0]) {
		m->p.v.near = NEAR_HEADER;
		m->p.near_name = hash + strlen("header ");
	}
}

static struct made *make(const struct ship_app *a)
{
	const struct conf_app *c = a->conf;
	uint32_t rules = c->request_set.len + c->request_remove.len + c->answer_set.len +
			 c->answer_remove.len + c->redirect_count + c->users.len + 1 + CONF_PAGE_COUNT + 1;
	struct made *m = util_alloc(sizeof(*m) + rules * sizeof(struct table_in_rule) +
				    (c->allow.len + c->deny.len) * sizeof(struct table_net));
	struct table_net *n = (void *)((struct table_in_rule *)(m + 1) + rules);

	m->p.rules = m->rules = (void *)(m + 1);
	m->p.v.maintenance = c->maintenance.on || a->maintenance;
	add_fields(m, RULE_REQUEST_SET, &c->request_set, true);
	add_fields(m, RULE_REQUEST_REMOVE, &c->request_remove, false);
	add_fields(m, RULE_ANSWER_SET, &c->answer_set, true);
	add_fields(m, RULE_ANSWER_REMOVE, &c->answer_remove, false);
	for (uint32_t i = 0; i < c->redirect_count; i++)
		add(m, RULE_REDIRECT, c->redirects[i].from, c->redirects[i].to, c->redirects[i].status);
	add_users(m, c);
	add_pages(m, c);
	m->p.allow = n;
	m->p.allow_count = ship_nets(&c->allow, n);
	m->p.deny = n + m->p.allow_count;
	m->p.deny_count = ship_nets(&c->deny, n + m->p.allow_count);
	set_rate(m, c);
	set_near(m, a);
	return m;
}

const struct table_in_policy *ship_policy(const struct ship_app *a, struct ship_policies *all)
{
	struct made *m = make(a);
	const struct table_in_policy *p = &m->p;

	static_assert(offsetof(struct made, p) == 0, "what is freed is what was allocated");
	if (!p->rule_count && !p->allow_count && !p->deny_count && !p->v.maintenance && !p->v.rate &&
	    !p->v.near) {
		free(m);
		return NULL;
	}
	all->items[all->len++] = &m->p;
	return p;
}

void ship_policies_free(struct ship_policies *all)
{
	for (uint32_t i = 0; i < all->len; i++)
		free(all->items[i]);
	free(all->items);
}
