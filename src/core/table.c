/* SPDX-License-Identifier: Apache-2.0
 *
 * Reading the routing table. It comes from our own controller, but a router that
 * trusted a damaged one would take every app down at once: so everything that
 * reading relies on is checked before the table is taken up, and then read
 * without a check.
 *
 * A host is hashed from its end to its front, so that one pass yields the hash of
 * every suffix at which a label begins; a path from its front on, which yields
 * every prefix that ends with a segment.
 */
#include "core/table.h"

#include <netinet/in.h>
#include <string.h>
#include <sys/un.h>

#include "core/table_priv.h"

/* --- finding --- */

static const struct table_route *routes(const struct table *t)
{
	return (const void *)((const char *)t + t->routes);
}

static const struct table_route *lookup(const struct table *t, uint64_t hash, const char *host,
					size_t host_len, const char *path, size_t path_len)
{
	uint32_t mask = t->route_cap - 1;

	hash = table_hash_done(hash);
	/* table_check() made sure that a place is free, so this ends. */
	for (uint32_t i = (uint32_t)hash & mask; routes(t)[i].hash; i = (i + 1) & mask) {
		const struct table_route *r = &routes(t)[i];

		if (r->hash == hash && r->host_len == host_len && r->path_len == path_len &&
		    !memcmp(table_string(t, r->host), host, host_len) &&
		    !memcmp(table_string(t, r->path), path, path_len))
			return r;
	}
	return NULL;
}

/* The longest prefix of the path that this pattern has, or -1. */
static int32_t find_path(const struct table *t, uint64_t hash, const char *host, size_t host_len,
			 const char *path, size_t path_len)
{
	size_t end = MIN(path_len, (size_t)t->path_longest + 1);
	const struct table_route *r;
	int32_t found = -1;

	if (!lookup(t, hash, host, host_len, path, 0))
		return -1;
	for (size_t i = 0; i < end; i++) {
		if (i > 0 && path[i] == '/') {
			r = lookup(t, hash, host, host_len, path, i);
			found = r ? (int32_t)r->app : found;
		}
		hash = table_hash(hash, path[i]);
		if (i == 0) {
			r = lookup(t, hash, host, host_len, path, 1);
			found = r ? (int32_t)r->app : found;
		}
	}
	if (end == path_len && end > 1) {
		r = lookup(t, hash, host, host_len, path, end);
		found = r ? (int32_t)r->app : found;
	}
	return found;
}

#define LABELS_MAX 128 /* a name of 255 bytes has no more */

int32_t table_find(const struct table *t, const char *host, size_t host_len, const char *path,
		   size_t path_len)
{
	struct {
		uint64_t hash;
		size_t at;
	} suffix[LABELS_MAX];
	uint64_t hash = TABLE_HASH_START;
	uint32_t labels = 0;
	int32_t app = -1;

	if (path_len == 0)
		return -1;
	for (size_t i = host_len; i-- > 0;) {
		hash = table_hash(hash, host[i]);
		if (host[i] == '.' && i > 0 && labels < LABELS_MAX) {
			suffix[labels].hash = hash;
			suffix[labels++].at = i;
		}
	}
	if (host_len && host[0] != '.')
		app = find_path(t, hash, host, host_len, path, path_len);
	while (app < 0 && labels-- > 0)
		app = find_path(t, suffix[labels].hash, host + suffix[labels].at,
				host_len - suffix[labels].at, path, path_len);
	return app >= 0 ? app : find_path(t, TABLE_HASH_START, "", 0, path, path_len);
}

static const struct table_listener *listeners(const struct table *t)
{
	return (const void *)((const char *)t + t->listeners);
}

bool table_net_has(const struct table_net *net, const uint8_t addr[16])
{
	uint32_t whole = net->bits / 8, rest = net->bits % 8;
	uint8_t mask = (uint8_t)(0xff00 >> rest);

	return !memcmp(net->addr, addr, whole) &&
	       (!rest || !((net->addr[whole] ^ addr[whole]) & mask));
}

static bool is_within(const struct table_net *net, uint32_t count, const uint8_t addr[16])
{
	for (uint32_t i = 0; i < count; i++)
		if (table_net_has(&net[i], addr))
			return true;
	return false;
}

bool table_trusted(const struct table *t, const uint8_t addr[16])
{
	return is_within(table_nets(t), t->trusted_count, addr);
}

/* The challenge by which a certificate is got stays plain (RFC 8555, 8.3). */
bool table_to_https(const struct table_app *a, bool https, const char *path, size_t path_len)
{
	static const char challenge[] = TABLE_ACME "/";
	size_t n = sizeof(challenge) - 1;

	return a->to_https && !https && !(path_len > n && memcmp(path, challenge, n) == 0);
}

static bool is_base64url(char c)
{
	return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
}

bool table_challenge(const struct table_app *a, const char *path, size_t path_len, const char **ret_token,
		     size_t *ret_len)
{
	static const char challenge[] = TABLE_ACME "/";
	size_t n = sizeof(challenge) - 1, len = 0;

	if (!a->acme || path_len < n || memcmp(path, challenge, n) != 0)
		return false;
	while (n + len < path_len && len <= TABLE_TOKEN_MAX && is_base64url(path[n + len]))
		len++;
	*ret_token = path + n;
	*ret_len = n + len == path_len && len <= TABLE_TOKEN_MAX ? len : 0;
	return true;
}

const struct table_listener *table_listener(const struct table *t, uint64_t id)
{
	for (uint32_t i = 0; i < t->listener_count; i++)
		if (listeners(t)[i].id == id)
			return &listeners(t)[i];
	return NULL;
}

bool table_proxied(const struct table *t, const struct table_listener *l, const uint8_t addr[16])
{
	return is_within(table_nets(t) + l->first_net, l->net_count, addr);
}

/* --- checking --- */

static bool array_fits(const struct table *t, uint32_t at, uint64_t n, size_t size)
{
	return at % 8 == 0 && at >= sizeof(*t) && at <= t->size && n <= (t->size - at) / size;
}

bool table_is_string(const struct table *t, uint32_t at, size_t max)
{
	return at < t->strings_len && strnlen(table_string(t, at), max + 1) <= max;
}

static bool is_text(const struct table *t, uint32_t at, uint32_t len)
{
	return len <= TABLE_TEXT_MAX && at <= t->strings_len && len <= t->strings_len - at;
}

static const char *check_frame(const struct table *t, size_t len)
{
	if (t->magic != TABLE_MAGIC || t->version != TABLE_VERSION)
		return "it is of another kind or version";
	if (t->size != len)
		return "it is cut short";
	if (t->app_count > TABLE_APPS_MAX || t->target_count > TABLE_TARGETS_MAX)
		return "it has too many apps or targets";
	if (!t->route_cap || (t->route_cap & (t->route_cap - 1)))
		return "the size of its index is no power of two";
	if (!array_fits(t, t->apps, t->app_count, sizeof(struct table_app)) ||
	    !array_fits(t, t->targets, t->target_count, sizeof(struct table_target)) ||
	    !array_fits(t, t->routes, t->route_cap, sizeof(struct table_route)) ||
	    !array_fits(t, t->nets, t->net_count, sizeof(struct table_net)) ||
	    !array_fits(t, t->listeners, t->listener_count, sizeof(struct table_listener)) ||
	    !array_fits(t, t->policies, t->policy_count, sizeof(struct table_policy)) ||
	    !array_fits(t, t->rules, t->rule_count, sizeof(struct table_rule)) ||
	    !array_fits(t, t->strings, t->strings_len, 1))
		return "an array lies outside of it";
	if (!t->strings_len || table_string(t, t->strings_len - 1)[0])
		return "its strings do not end";
	if (!table_is_string(t, t->acme, TABLE_TEXT_MAX))
		return "its thumbprint lies outside of it";
	return NULL;
}

static bool addr_is_right(const struct table_target *g)
{
	sa_family_t family;

	memcpy(&family, g->addr, sizeof(family));
	if (g->kind == TARGET_UNIX)
		return family == AF_UNIX && g->addr_len > sizeof(family) &&
		       g->addr_len <= sizeof(struct sockaddr_un);
	return g->kind == TARGET_TCP &&
	       ((family == AF_INET && g->addr_len == sizeof(struct sockaddr_in)) ||
		(family == AF_INET6 && g->addr_len == sizeof(struct sockaddr_in6)));
}

/* Targets lie app by app, so that each belongs to exactly one. */
static const char *check_apps(const struct table *t)
{
	const struct table_target *g = table_targets(t);
	uint32_t next = 0;

	for (uint32_t i = 0; i < t->app_count; i++) {
		const struct table_app *a = &table_apps(t)[i];

		if (!table_is_string(t, a->name, TABLE_NAME_MAX) ||
		    !table_is_string(t, a->health_path, TABLE_TEXT_MAX))
			return "an app's string lies outside of it";
		if (a->policy > t->policy_count)
			return "an app's policy lies outside of it";
		if (a->first_target != next || a->target_count > t->target_count - next)
			return "an app's targets lie outside of it";
		for (next += a->target_count; g < table_targets(t) + next; g++) {
			if (g->app != i)
				return "a target belongs to another app";
			if (!table_is_string(t, g->name, TABLE_NAME_MAX) || g->use >= USE_COUNT)
				return "a target's name or use is wrong";
			if (!addr_is_right(g))
				return "a target's address is wrong";
		}
	}
	return next == t->target_count ? NULL : "a target belongs to no app";
}

static const char *check_routes(const struct table *t)
{
	uint32_t used = 0;

	for (uint32_t i = 0; i < t->route_cap; i++) {
		const struct table_route *r = &routes(t)[i];

		if (!r->hash)
			continue;
		used++;
		if (!is_text(t, r->host, r->host_len) || !is_text(t, r->path, r->path_len))
			return "a route's text lies outside of it";
		if (r->path_len ? r->app >= t->app_count : r->app != UINT32_MAX)
			return "a route leads to no app";
	}
	return used < t->route_cap ? NULL : "its index has no free place";
}

static const char *check_listeners(const struct table *t)
{
	for (uint32_t i = 0; i < t->listener_count; i++) {
		const struct table_listener *l = &listeners(t)[i];

		if (l->app != UINT32_MAX && l->app >= t->app_count)
			return "a listener leads to no app";
		if (l->first_net > t->net_count || l->net_count > t->net_count - l->first_net)
			return "a listener's networks lie outside of it";
	}
	return NULL;
}

int table_check(const void *data, size_t len, struct err *e)
{
	const struct table *t = data;
	const char *wrong;

	if (len < sizeof(*t) || (uintptr_t)data % 8)
		return err_set(e, ERR_CORRUPT, "the routing table is cut short");
	wrong = check_frame(t, len);
	if (!wrong)
		wrong = check_apps(t);
	if (!wrong)
		wrong = check_routes(t);
	if (!wrong)
		wrong = table_check_policies(t);
	if (!wrong)
		wrong = check_listeners(t);
	return wrong ? err_set(e, ERR_CORRUPT, "the routing table cannot be used: %s", wrong) : 0;
}
