/* SPDX-License-Identifier: Apache-2.0
 *
 * The rule of core/table.h once more, as it is said there and without an index: which
 * patterns match, in the order in which they win. It is for people, who ask now and then
 * (upstate explain), and it is what table_find() is tested against.
 */
#include <string.h>

#include "core/table.h"

static bool host_matches(const char *pattern, size_t pattern_len, const char *host, size_t host_len)
{
	if (pattern_len == 0)
		return true;
	if (pattern[0] == '.') /* *.suffix: something must stand before it */
		return host_len > pattern_len &&
		       memcmp(host + host_len - pattern_len, pattern, pattern_len) == 0;
	return host_len == pattern_len && memcmp(host, pattern, host_len) == 0;
}

/* "/api" matches "/api" and "/api/x". */
static bool path_matches(const char *prefix, size_t prefix_len, const char *path, size_t path_len)
{
	if (path_len < prefix_len || memcmp(path, prefix, prefix_len) != 0)
		return false;
	return prefix_len == 1 || path_len == prefix_len || path[prefix_len] == '/';
}

/* Exact, then *.suffix, longest first, then *: an exact one is never shorter than a suffix that matches
 * the same host, so length alone tells. */
static bool wins(const struct table_match *a, const struct table_match *b)
{
	return a->host_len != b->host_len ? a->host_len > b->host_len : a->path_len > b->path_len;
}

uint32_t table_matches(const struct table *t, const char *host, size_t host_len, const char *path,
		       size_t path_len, struct table_match *ret, uint32_t max)
{
	const struct table_route *r = (const void *)((const char *)t + t->routes);
	uint32_t found = 0;

	for (const struct table_route *end = r + t->route_cap; r < end; r++) {
		struct table_match m = {r->app, table_string(t, r->host), table_string(t, r->path),
					r->host_len, r->path_len};
		uint32_t at;

		if (!r->hash || !r->path_len || !host_matches(m.host, m.host_len, host, host_len) ||
		    !path_matches(m.path, m.path_len, path, path_len))
			continue;
		for (at = MIN(found, max); at > 0 && wins(&m, &ret[at - 1]); at--)
			if (at < max)
				ret[at] = ret[at - 1];
		if (at < max)
			ret[at] = m;
		found++;
	}
	return found;
}
