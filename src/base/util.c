/* SPDX-License-Identifier: Apache-2.0 */
#include "base/util.h"

#include <string.h>

void util_ensure_failed(const char *cond, const char *file, int line, const char *func)
{
	fprintf(stderr, "upstate[%d]: bug: '%s' does not hold in %s (%s:%d)\n", (int)getpid(), cond,
		func, file, line);
	abort();
}

void *util_alloc(size_t size)
{
	void *p = calloc(1, size ? size : 1);

	if (!p) {
		fprintf(stderr, "upstate[%d]: out of memory for %zu bytes\n", (int)getpid(), size);
		abort();
	}
	return p;
}

char *util_strdup(const char *s)
{
	size_t n = strlen(s) + 1;

	return memcpy(util_alloc(n), s, n);
}

bool util_copy(char *dst, size_t size, const char *src)
{
	size_t n = strlen(src);
	size_t take = MIN(n, size - 1);

	memcpy(dst, src, take);
	dst[take] = '\0';
	return take == n;
}
