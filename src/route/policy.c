/* SPDX-License-Identifier: Apache-2.0
 *
 * What the operator of an app decided for it, done to a request. In this order, the one that a
 * person would expect: what concerns everyone, then where it comes from, how much of it, who it is,
 * and what for. So nobody is asked for a password whom the app is closed to, and guessing
 * passwords is bounded by the rate.
 *
 *	(to https)	308, when its operator wants it
 *	maintenance	503 to everyone
 *	allow, deny	403, by address
 *	rate		429, by address or header
 *	auth		401
 *	redirects	3xx, by path
 *	(the app)	fields set and taken out, a target that stays the same
 *
 * Fields are set and taken out in the parsed head, before anyone writes it: so it makes no
 * difference how it is written, and one without a policy is not looked at.
 */
#include "core/siphash.h"
#include "route/route_priv.h"

#define MAINTENANCE_RETRY_S 60

/* --- fields --- */

static void drop_field(struct http1_head *h, const char *name, uint32_t len)
{
	for (uint32_t i = 0; i < h->header_count; i++)
		if (policy_same_field(h->headers[i].name.p, h->headers[i].name.len, name, len))
			h->headers[i].known = HTTP1_DROPPED;
}

static void add_field(struct http1_head *h, struct http1_slice name, struct http1_slice value)
{
	if (h->header_count == ARRAY_LEN(h->headers))
		return;
	h->headers[h->header_count++] =
		(struct http1_header){.name = name, .value = value, .known = HTTP1_ADDED};
	h->added_len += name.len + value.len + 4;
}

/* What is set takes the place of what came under that name. Those that are taken out come first: so
 * one may be replaced whose name is spelled in another way. */
static void change_fields(const struct table *t, const struct table_policy *p, struct http1_head *h,
			  enum table_rule_kind remove, enum table_rule_kind set)
{
	const struct table_rule *r = table_rules(t) + p->rules[remove].first;

	for (uint32_t n = p->rules[remove].count; n--; r++)
		drop_field(h, table_string(t, r->key), r->key_len);
	r = table_rules(t) + p->rules[set].first;
	for (uint32_t n = p->rules[set].count; n--; r++) {
		drop_field(h, table_string(t, r->key), r->key_len);
		add_field(h, (struct http1_slice){table_string(t, r->key), r->key_len},
			  (struct http1_slice){table_string(t, r->value), r->value_len});
	}
}

/* --- whose request it is --- */

static bool is_trusted(const struct exchange *x)
{
	return x->t->table->trusted_count && table_trusted(x->t->table, x->client->addr);
}

/* The address of the client: of the connection; when a trusted proxy made it, the last one of its list
 * that is no trusted proxy's. What stands before that, anyone may have written. h NULL: none, with tcp. */
static void client_address(const struct exchange *x, const struct http1_head *h, uint8_t ret[16])
{
	enum http1_known list = h && h->known_at[HTTP1_X_FORWARDED_FOR] ? HTTP1_X_FORWARDED_FOR
								   : HTTP1_FORWARDED;

	memcpy(ret, x->client->addr, 16);
	if (!h || !is_trusted(x))
		return;
	for (uint32_t i = h->header_count; i-- > 0;) {
		size_t len = h->headers[i].value.len;
		enum policy_pop r;
		uint8_t addr[16];

		if (h->headers[i].known != list)
			continue;
		while ((r = policy_pop_address(h->headers[i].value.p, &len, addr)) == POP_ADDRESS) {
			memcpy(ret, addr, 16);
			if (!table_trusted(x->t->table, addr))
				return;
		}
		if (r == POP_OTHER)
			return;
	}
}

static struct http1_slice find_field(const struct http1_head *h, const char *name)
{
	for (uint32_t i = 0; i < h->header_count; i++)
		if (h->headers[i].known != HTTP1_ADDED &&
		    policy_same_field(h->headers[i].name.p, h->headers[i].name.len, name, strlen(name)))
			return h->headers[i].value;
	return (struct http1_slice){0};
}

/* Of IPv6 the network: one client has 2^64 addresses. */
static uint64_t hash_client(const uint64_t key[2], const uint8_t addr[16])
{
	static const uint8_t four[12] = {[10] = 0xff, [11] = 0xff};

	return siphash(key, addr, memcmp(addr, four, 12) ? 8 : 16);
}

static uint64_t hash_address(const struct exchange *x, const uint8_t addr[16])
{
	return hash_client(x->t->table->key, addr);
}

/* --- connections --- */

bool policy_connects(struct client *c)
{
	struct thread *t = c->conn.t;
	uint32_t most = t->table->limits.connections;
	enum tally_verdict v;

	if (!most || (t->table->trusted_count && table_trusted(t->table, c->addr)))
		return true;
	v = tally_add(&t->r->addresses, hash_client(t->r->address_key, c->addr), most);
	if (v == TALLY_OVER)
		shm_add(&t->n->connections_refused, 1);
	if (v == TALLY_NO_ROOM)
		shm_add(&t->n->addresses_full, 1);
	c->counted = v == TALLY_COUNTED;
	return v != TALLY_OVER;
}

void policy_disconnects(struct client *c)
{
	struct router *r = c->conn.t->r;

	if (!c->counted)
		return;
	c->counted = false;
	tally_sub(&r->addresses, hash_client(r->address_key, c->addr));
}

/* By the field if the request has it, else by the client's address. */
static uint64_t hash_field(const struct exchange *x, const struct http1_head *h, const char *name)
{
	struct http1_slice value = find_field(h, name);
	uint64_t key[2] = {x->t->table->key[0] ^ 1, x->t->table->key[1]};
	uint8_t addr[16];

	if (value.len)
		return siphash(key, value.p, value.len);
	client_address(x, h, addr);
	return hash_address(x, addr);
}

/* --- which target --- */

static uint64_t find_cookie(const struct http1_head *h, const char *name)
{
	uint64_t mark = 0;

	for (uint32_t i = 0; i < h->header_count && !mark; i++)
		if (http1_is(h->headers[i].name, "cookie"))
			mark = near_cookie(h->headers[i].value.p, h->headers[i].value.len, name);
	return mark;
}

static void choose_near(struct exchange *x, const struct table_policy *p, const struct http1_head *h)
{
	const char *name = table_string(x->t->table, p->near_name);
	uint8_t addr[16];

	x->near = (uint8_t)p->near;
	switch ((enum table_near)p->near) {
	case NEAR_NONE:
		break;
	case NEAR_COOKIE:
		x->near_key = find_cookie(h, name);
		x->secure = x->client->https ||
			    (is_trusted(x) && http1_is(http1_get(h, HTTP1_X_FORWARDED_PROTO), "https"));
		break;
	case NEAR_ADDRESS:
		client_address(x, h, addr);
		x->near_key = hash_address(x, addr);
		break;
	case NEAR_PATH:
		x->near_key = siphash(x->t->table->key, h->path.p, h->path.len);
		break;
	case NEAR_HEADER:
		x->near_key = hash_field(x, h, name);
		break;
	}
}

/* Does the target that the client has a cookie of still serve? Then that stays, though another one
 * may have answered this once. */
static bool keeps_target(const struct exchange *x)
{
	for (uint32_t i = 0; i < x->app->target_count; i++) {
		const struct target *g = x->app->targets[i];

		if (g->mark == x->near_key)
			return g == x->target || (g->use == USE_SERVE && atomic_load(&g->shared->health) == HEALTH_UP);
	}
	return false;
}

static void set_cookie(struct exchange *x, const struct table_policy *p, struct http1_head *h)
{
	char *to = x->t->cookie, mark[NEAR_TEXT];
	int n;

	if (x->near != NEAR_COOKIE || p->near != NEAR_COOKIE || keeps_target(x))
		return;
	near_text(x->target->mark, mark);
	n = snprintf(to, sizeof(x->t->cookie), "%.120s=%s; Path=/; HttpOnly; SameSite=Lax%s",
		     table_string(x->t->table, p->near_name), mark, x->secure ? "; Secure" : "");
	add_field(h, (struct http1_slice){"Set-Cookie", 10}, (struct http1_slice){to, (uint32_t)n});
}

/* --- a request --- */

void policy_request(struct exchange *x, const struct table_policy *p, struct http1_head *h)
{
	choose_near(x, p, h); /* by what came, not by what is set */
	change_fields(x->t->table, p, h, RULE_REQUEST_REMOVE, RULE_REQUEST_SET);
}

/* The Authorization field says who; when there are several, nobody. */
static bool is_user(struct exchange *x, const struct table_policy *p, const struct http1_head *h)
{
	static const char nobody[] = "";
	const struct table *t = x->t->table;
	const struct table_rule *r = table_rules(t) + p->rules[RULE_USER].first;
	const char *password = nobody, *text = nobody;
	char name[PASSWORD_BASIC] = "";
	size_t len = 0, text_len = 0;
	uint32_t found = 0;

	for (uint32_t i = 0; i < h->header_count; i++) {
		const struct http1_header *f = &h->headers[i];

		if (f->known == HTTP1_ADDED || !http1_is(f->name, "authorization"))
			continue;
		if (++found > 1 || !password_basic(f->value.p, f->value.len, name, &password, &len))
			return false;
	}
	if (!found)
		return false;
	for (uint32_t n = p->rules[RULE_USER].count; n--; r++) {
		if (strcmp(table_string(t, r->key), name) != 0)
			continue;
		text = table_string(t, r->value);
		text_len = r->value_len;
	}
	/* Also for a name that is none: the time must not tell which ones there are. */
	return password_is(&x->t->passwords, text, text_len, password, len);
}

static void ask_who(struct exchange *x, const struct table_policy *p)
{
	char more[TABLE_NAME_MAX + 60];

	snprintf(more, sizeof(more), "WWW-Authenticate: Basic realm=\"%s\", charset=\"UTF-8\"\r\n",
		 table_string(x->t->table, p->realm));
	answer_more(x, 401, "this app asks for a name and a password", false, more);
}

static bool redirect(struct exchange *x, const struct table_policy *p, const struct http1_head *h)
{
	struct thread *thread = x->t;
	const struct table *t = thread->table;
	const struct table_rule *r = policy_redirect(t, p, h->path.p, h->path.len);
	struct buffer *more;
	size_t n;

	if (!r)
		return false;
	more = buffer_get(thread, r->value_len + h->target.len + 20);
	if (!more) {
		answer_own(x, 503, "out of memory", true);
		return true;
	}
	n = (size_t)snprintf(more->data, more->cap, "Location: ");
	n += policy_location(t, r, h->target.p, h->target.len, h->path.len, more->data + n);
	memcpy(more->data + n, "\r\n", 3);
	answer_more(x, (uint16_t)r->number, "it is elsewhere", false, more->data);
	buffer_put(thread, &more);
	return true;
}

static bool is_welcome(const struct exchange *x, const struct table_policy *p, const struct http1_head *h)
{
	uint8_t addr[16];

	client_address(x, h, addr);
	return policy_admits(x->t->table, p, addr);
}

static bool over_rate(struct exchange *x, const struct table_policy *p, const struct http1_head *h)
{
	struct limiter *l = x->t->view->limiters[x->app->conf.policy - 1];
	enum bucket_verdict v;
	uint64_t wait_ms = 0, hash;
	uint8_t addr[16];
	char more[40];

	if (p->rate == RATE_HEADER && h) {
		hash = hash_field(x, h, table_string(x->t->table, p->rate_header));
	} else {
		client_address(x, h, addr);
		hash = hash_address(x, addr);
	}
	v = bucket_take(&l->buckets, &l->rate, hash, x->t->loop.now_ms, &wait_ms);
	if (v == BUCKET_EVICTED)
		shm_add(&x->app->n->rate_forgotten, 1);
	if (v != BUCKET_EMPTY)
		return false;
	snprintf(more, sizeof(more), "Retry-After: %llu\r\n", (unsigned long long)(wait_ms + 999) / 1000);
	answer_more(x, 429, "too many requests came from here", false, more);
	return true;
}

bool policy_answers(struct exchange *x, const struct table_policy *p, const struct http1_head *h)
{
	if (p->maintenance) {
		char more[40];

		snprintf(more, sizeof(more), "Retry-After: %u\r\n", MAINTENANCE_RETRY_S);
		shm_add(&x->app->n->refused_503, 1);
		answer_more(x, 503, "the app is in maintenance; please come back soon", false, more);
		return true;
	}
	if ((p->allow.count || p->deny.count) && !is_welcome(x, p, h)) {
		answer_own(x, 403, "this address may not use the app", false);
		return true;
	}
	if (p->rate && over_rate(x, p, h))
		return true;
	if (!h) /* nobody reads the rest of it */
		return false;
	if (p->auth && !is_user(x, p, h)) {
		ask_who(x, p);
		return true;
	}
	return p->rules[RULE_REDIRECT].count && redirect(x, p, h);
}

bool policy_resets(struct exchange *x, const struct table_policy *p)
{
	if (p->near == NEAR_ADDRESS) {
		x->near = NEAR_ADDRESS;
		x->near_key = hash_address(x, x->client->addr);
	}
	return policy_answers(x, p, NULL);
}

/* --- its answer --- */

void policy_answer(struct exchange *x, const struct table_policy *p, struct http1_head *h)
{
	change_fields(x->t->table, p, h, RULE_ANSWER_REMOVE, RULE_ANSWER_SET);
	set_cookie(x, p, h);
}
