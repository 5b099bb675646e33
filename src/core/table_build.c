/* SPDX-License-Identifier: Apache-2.0
 *
 * Building the routing table: sizes first, then one block that is filled in from
 * its front to its end, so the same input gives the same bytes.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <sys/un.h>

#include "core/table_priv.h"

/* What a pattern is stored as: without "*". */
static const char *host_text(const char *host)
{
	return host[0] == '*' ? host + 1 : host;
}

/* "/api/" means "/api"; "/" stays. */
static uint32_t prefix_len(const char *path)
{
	size_t n = strlen(path);

	while (n > 1 && path[n - 1] == '/')
		n--;
	return (uint32_t)n;
}

static int check_host(const char *app, const char *host, struct err *e)
{
	const char *text = host_text(host);

	if (strlen(host) > TABLE_TEXT_MAX || !*host || (*host == '*' && *text && *text != '.') ||
	    (*host == '.') || (*text == '.' && !text[1]))
		return err_set(e, ERR_INPUT,
			       "app '%s': '%s' is no host; expected a name, *.name, or *", app, host);
	for (; *text; text++)
		if (*text == '*' || *text == '/' || (unsigned char)*text <= ' ')
			return err_set(e, ERR_INPUT, "app '%s': host '%s' must not contain '%c'",
				       app, host, *text);
	return 0;
}

static int check_path(const char *app, const char *path, struct err *e)
{
	if (path[0] != '/' || strlen(path) > TABLE_TEXT_MAX || strpbrk(path, "?#"))
		return err_set(e, ERR_INPUT,
			       "app '%s': '%s' is no path; expected one that begins with / and has "
			       "neither ? nor #",
			       app, path);
	return 0;
}

static int measure_app(struct build *b, const struct table_in_app *a)
{
	const char *health = a->health_path ? a->health_path : "";

	if (strlen(a->name) > TABLE_NAME_MAX || strlen(health) > TABLE_TEXT_MAX)
		return err_set(b->e, ERR_LIMIT, "app '%.40s...': name or health path is too long",
			       a->name);
	b->strings_len += strlen(a->name) + strlen(health) + 2;
	for (uint32_t i = 0; i < a->host_count; i++) {
		if (check_host(a->name, a->hosts[i], b->e) < 0)
			return -(int)ERR_INPUT;
		b->strings_len += (strlen(host_text(a->hosts[i])) + 1) * (a->v.acme ? 2 : 1);
	}
	for (uint32_t i = 0; i < a->path_count; i++) {
		if (check_path(a->name, a->paths[i], b->e) < 0)
			return -(int)ERR_INPUT;
		b->strings_len += strlen(a->paths[i]) + 1;
	}
	for (uint32_t i = 0; i < a->target_count; i++) {
		if (strlen(a->targets[i].name) > TABLE_NAME_MAX)
			return err_set(b->e, ERR_LIMIT, "app '%s': the name of a target is too long",
				       a->name);
		b->strings_len += strlen(a->targets[i].name) + 1;
	}
	b->target_count += a->target_count;
	b->route_count += (uint64_t)a->host_count * ((uint64_t)a->path_count + 1 + (a->v.acme != 0));
	return a->policy ? table_measure_policy(b, a) : 0;
}

static int measure(struct build *b)
{
	b->strings_len = 1 + strlen(TABLE_ACME) + 1 + (b->in->acme ? strlen(b->in->acme) + 1 : 0);
	b->net_count = b->in->trusted_count;
	for (uint32_t i = 0; i < b->in->listener_count; i++)
		b->net_count += b->in->listeners[i].net_count;
	for (uint32_t i = 0; i < b->in->app_count; i++) {
		int rc = measure_app(b, &b->in->apps[i]);

		if (rc < 0)
			return rc;
	}
	if (b->in->app_count > TABLE_APPS_MAX)
		return err_set(b->e, ERR_LIMIT, "%u apps; there is room for %u", b->in->app_count,
			       TABLE_APPS_MAX);
	if (b->target_count > TABLE_TARGETS_MAX)
		return err_set(b->e, ERR_LIMIT, "%llu targets; there is room for %u",
			       (unsigned long long)b->target_count, TABLE_TARGETS_MAX);
	return 0;
}

static uint64_t place(uint64_t *end, uint64_t n, size_t size)
{
	uint64_t at = (*end + 7) & ~7ull;

	*end = at + n * size;
	return at;
}

/* Lays the arrays out and gets the memory for all of it. */
static int lay_out(struct build *b, uint64_t generation, struct buf *ret)
{
	uint64_t cap = 8, size = sizeof(struct table), at[8];
	struct table *t;

	while (cap < 2 * b->route_count + 2)
		cap *= 2;
	at[0] = place(&size, b->in->app_count, sizeof(struct table_app));
	at[1] = place(&size, b->target_count, sizeof(struct table_target));
	at[2] = place(&size, cap, sizeof(struct table_route));
	at[3] = place(&size, b->net_count, sizeof(struct table_net));
	at[4] = place(&size, b->in->listener_count, sizeof(struct table_listener));
	at[5] = place(&size, b->policy_count, sizeof(struct table_policy));
	at[6] = place(&size, b->rule_count, sizeof(struct table_rule));
	at[7] = place(&size, b->strings_len, 1);
	t = size < UINT32_MAX ? (void *)buf_room(ret, size) : NULL;
	if (!t)
		return err_set(b->e, ERR_LIMIT, "a routing table of %llu bytes is too large",
			       (unsigned long long)size);
	memset(t, 0, size);
	ret->len = size;
	*t = (struct table){.magic = TABLE_MAGIC, .version = TABLE_VERSION, .size = size,
			    .generation = generation, .limits = b->in->limits,
			    .app_count = b->in->app_count,
			    .target_count = (uint32_t)b->target_count, .route_cap = (uint32_t)cap,
			    .listener_count = b->in->listener_count,
			    .net_count = (uint32_t)b->net_count,
			    .trusted_count = b->in->trusted_count,
			    .policy_count = (uint32_t)b->policy_count,
			    .rule_count = (uint32_t)b->rule_count, .apps = (uint32_t)at[0],
			    .targets = (uint32_t)at[1], .routes = (uint32_t)at[2],
			    .nets = (uint32_t)at[3], .listeners = (uint32_t)at[4],
			    .policies = (uint32_t)at[5], .rules = (uint32_t)at[6],
			    .strings = (uint32_t)at[7], .strings_len = (uint32_t)b->strings_len,
			    .key = {b->in->key[0], b->in->key[1]}};
	b->t = t;
	b->apps = (void *)((char *)t + at[0]);
	b->targets = (void *)((char *)t + at[1]);
	b->routes = (void *)((char *)t + at[2]);
	b->strings = (char *)t + at[7];
	b->string_at = 1;
	return 0;
}

static void add_listeners(struct build *b)
{
	struct table_net *nets = (void *)((char *)b->t + b->t->nets);
	struct table_listener *to = (void *)((char *)b->t + b->t->listeners);
	uint32_t at = b->in->trusted_count;

	if (at)
		memcpy(nets, b->in->trusted, at * sizeof(*nets));
	for (uint32_t i = 0; i < b->in->listener_count; i++) {
		const struct table_in_listener *l = &b->in->listeners[i];

		to[i] = (struct table_listener){.id = l->id, .app = l->app, .tls = l->tls, .first_net = at,
						.net_count = l->net_count};
		if (l->net_count)
			memcpy(nets + at, l->nets, l->net_count * sizeof(*nets));
		at += l->net_count;
	}
	b->net_at = at;
}

uint32_t table_add_string(struct build *b, const char *s)
{
	uint32_t at = b->string_at;
	size_t n = strlen(s) + 1;

	if (n == 1)
		return 0;
	memcpy(b->strings + at, s, n);
	b->string_at += (uint32_t)n;
	return at;
}

/* Finds the place of a key; `r` is filled in but for its hash and app. */
static struct table_route *find_place(struct build *b, const struct table_route *r, uint64_t hash)
{
	uint32_t mask = b->t->route_cap - 1;

	for (uint32_t i = (uint32_t)hash & mask;; i = (i + 1) & mask) {
		struct table_route *o = &b->routes[i];

		if (!o->hash || (o->hash == hash && o->host_len == r->host_len &&
				 o->path_len == r->path_len &&
				 !memcmp(b->strings + o->host, b->strings + r->host, r->host_len) &&
				 !memcmp(b->strings + o->path, b->strings + r->path, r->path_len)))
			return o;
	}
}

static int add_route(struct build *b, struct table_route r, uint64_t hash)
{
	struct table_route *o;

	hash = table_hash_done(hash);
	o = find_place(b, &r, hash);
	if (!o->hash) {
		*o = r;
		o->hash = hash;
		return 0;
	}
	if (o->app == r.app) /* the pattern alone; or one app says it twice */
		return 0;
	return err_set(b->e, ERR_INPUT,
		       "apps '%s' and '%s' both claim host '%s%.*s' with path '%.*s'; give one of "
		       "them another",
		       b->strings + b->apps[o->app].name, b->strings + b->apps[r.app].name,
		       r.host_len == 0 || b->strings[r.host] == '.' ? "*" : "", (int)r.host_len,
		       b->strings + r.host, (int)r.path_len, b->strings + r.path);
}

/* The pattern of a host, as it is stored, and its hash. */
static uint64_t add_host(struct build *b, const char *host, struct table_route *ret)
{
	uint32_t len = (uint32_t)strlen(host_text(host));
	uint64_t hash = TABLE_HASH_START;

	*ret = (struct table_route){.host_len = len, .app = UINT32_MAX};
	ret->host = table_add_string(b, host_text(host));
	for (uint32_t j = len; j-- > 0;) {
		char *c = &b->strings[ret->host + j];

		*c = (char)tolower((unsigned char)*c);
		hash = table_hash(hash, *c);
	}
	add_route(b, *ret, hash);
	return hash;
}

static uint64_t hash_path(uint64_t hash, const char *path, uint32_t len)
{
	for (uint32_t k = 0; k < len; k++)
		hash = table_hash(hash, path[k]);
	return hash;
}

static int add_routes(struct build *b, const struct table_in_app *a, uint32_t app)
{
	uint32_t paths = b->string_at;

	for (uint32_t i = 0; i < a->path_count; i++) {
		table_add_string(b, a->paths[i]);
		b->t->path_longest = MAX(b->t->path_longest, prefix_len(a->paths[i]));
	}
	for (uint32_t i = 0; i < a->host_count; i++) {
		uint32_t path = paths;
		struct table_route r;
		uint64_t host_hash = add_host(b, a->hosts[i], &r);

		for (uint32_t j = 0; j < a->path_count; j++) {
			r.app = app;
			r.path = path;
			r.path_len = prefix_len(a->paths[j]);
			if (add_route(b, r, hash_path(host_hash, a->paths[j], r.path_len)) < 0)
				return -(int)ERR_INPUT;
			path += (uint32_t)strlen(a->paths[j]) + 1;
		}
	}
	return 0;
}

/* Where challenges come in, for hosts of apps that get their certificates by themselves: also when the app has
 * other paths only. Where a path of that name was given to an app, or two of them share a host, the first
 * one has it. */
static void add_challenges(struct build *b)
{
	uint32_t path = 0, len = (uint32_t)strlen(TABLE_ACME);

	for (uint32_t app = 0; app < b->in->app_count; app++) {
		const struct table_in_app *a = &b->in->apps[app];

		for (uint32_t i = 0; a->v.acme && i < a->host_count; i++) {
			struct table_route r, *o;
			uint64_t hash = add_host(b, a->hosts[i], &r);

			path = path ? path : table_add_string(b, TABLE_ACME);
			b->t->path_longest = MAX(b->t->path_longest, len);
			r.app = app;
			r.path = path;
			r.path_len = len;
			hash = table_hash_done(hash_path(hash, TABLE_ACME, len));
			o = find_place(b, &r, hash);
			if (!o->hash) {
				*o = r;
				o->hash = hash;
			}
		}
	}
}

static int add_app(struct build *b, const struct table_in_app *a, uint32_t app)
{
	struct table_app *v = &b->apps[app];

	*v = a->v;
	v->name = table_add_string(b, a->name);
	v->health_path = table_add_string(b, a->health_path ? a->health_path : "");
	v->first_target = b->target_at;
	v->target_count = a->target_count;
	v->policy = a->policy ? table_add_policy(b, a->policy) : 0;
	for (uint32_t i = 0; i < a->target_count; i++) {
		const struct table_in_target *from = &a->targets[i];
		struct table_target *g = &b->targets[b->target_at++];

		g->id = from->id;
		g->drain_until_ms = from->drain_until_ms;
		g->slot = from->slot;
		g->release = from->release;
		g->kind = from->kind;
		g->use = from->use;
		g->app = app;
		g->name = table_add_string(b, from->name);
		g->addr_len = MIN(from->addr_len, (uint16_t)TABLE_ADDR_MAX);
		memcpy(g->addr, from->addr, g->addr_len);
	}
	return add_routes(b, a, app);
}

int table_build(const struct table_in *in, uint64_t generation, struct buf *ret, struct err *e)
{
	struct build b = {.in = in, .e = e};
	int rc = measure(&b);

	if (rc == 0)
		rc = lay_out(&b, generation, ret);
	if (rc == 0) {
		add_listeners(&b);
		b.t->acme = in->acme ? table_add_string(&b, in->acme) : 0;
	}
	for (uint32_t i = 0; rc == 0 && i < in->app_count; i++)
		rc = add_app(&b, &in->apps[i], i);
	if (rc == 0)
		add_challenges(&b);
	/* What it gives is what it would itself take: a wrong kind, use or address is found here. */
	if (rc == 0)
		rc = table_check(ret->data, ret->len, e);
	if (rc < 0)
		ret->len = 0;
	return rc;
}

bool table_net_parse(const char *text, struct table_net *ret)
{
	char addr[INET6_ADDRSTRLEN];
	const char *slash = strchr(text, '/');
	size_t n = slash ? (size_t)(slash - text) : strlen(text);
	struct table_net net = {.bits = 128};
	uint32_t bits = 0, first;
	struct in_addr v4;

	if (n >= sizeof(addr))
		return false;
	memcpy(addr, text, n);
	addr[n] = '\0';
	if (inet_pton(AF_INET, addr, &v4) == 1) {
		net.addr[10] = net.addr[11] = 0xff;
		memcpy(net.addr + 12, &v4, 4);
		first = 96;
	} else if (inet_pton(AF_INET6, addr, net.addr) == 1) {
		first = 0;
	} else {
		return false;
	}
	if (slash) {
		for (const char *p = slash + 1; *p; p++) {
			if (*p < '0' || *p > '9' || bits > 128)
				return false;
			bits = bits * 10 + (uint32_t)(*p - '0');
		}
		if (!slash[1] || bits > 128 - first)
			return false;
		net.bits = first + bits;
	}
	*ret = net;
	return true;
}

static bool parse_port(const char *text, uint16_t *ret)
{
	uint32_t port = 0;

	for (const char *p = text; *p; p++) {
		if (*p < '0' || *p > '9' || port > 65535)
			return false;
		port = port * 10 + (uint32_t)(*p - '0');
	}
	*ret = htons((uint16_t)port);
	return *text && port && port <= 65535;
}

static bool parse_unix(const char *path, uint8_t ret_addr[TABLE_ADDR_MAX], uint16_t *ret_len)
{
	struct sockaddr_un un = {.sun_family = AF_UNIX};

	if (path[0] != '/' || !util_copy(un.sun_path, sizeof(un.sun_path), path))
		return false;
	memset(ret_addr, 0, TABLE_ADDR_MAX);
	memcpy(ret_addr, &un, sizeof(un));
	*ret_len = (uint16_t)(offsetof(struct sockaddr_un, sun_path) + strlen(path) + 1);
	return true;
}

bool table_addr_parse(const char *text, uint16_t *ret_kind, uint8_t ret_addr[TABLE_ADDR_MAX],
		      uint16_t *ret_len)
{
	struct sockaddr_in6 in6 = {.sin6_family = AF_INET6};
	struct sockaddr_in in = {.sin_family = AF_INET};
	const char *colon = strrchr(text, ':');
	bool is6 = text[0] == '[';
	char host[INET6_ADDRSTRLEN + 2];
	size_t n;

	if (!strncmp(text, "unix:", 5)) {
		*ret_kind = TARGET_UNIX;
		return parse_unix(text + 5, ret_addr, ret_len);
	}
	n = colon ? (size_t)(colon - text) : sizeof(host);
	if (n >= sizeof(host) || (is6 && (n < 3 || text[n - 1] != ']')))
		return false;
	memcpy(host, text, n);
	host[is6 ? n - 1 : n] = '\0';
	memset(ret_addr, 0, TABLE_ADDR_MAX);
	*ret_kind = TARGET_TCP;
	if (is6) {
		if (!parse_port(colon + 1, &in6.sin6_port) ||
		    inet_pton(AF_INET6, host + 1, &in6.sin6_addr) != 1)
			return false;
		memcpy(ret_addr, &in6, sizeof(in6));
		*ret_len = sizeof(in6);
		return true;
	}
	if (!parse_port(colon + 1, &in.sin_port) || inet_pton(AF_INET, host, &in.sin_addr) != 1)
		return false;
	memcpy(ret_addr, &in, sizeof(in));
	*ret_len = sizeof(in);
	return true;
}
