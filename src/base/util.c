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

/* Bytes of the character at p; 0: none begins here, or not all of it is there. */
static size_t utf8_len(const uint8_t *p)
{
	uint8_t low = *p == 0xe0 ? 0xa0 : *p == 0xf0 ? 0x90 : 0x80;
	uint8_t high = *p == 0xed ? 0x9f : *p == 0xf4 ? 0x8f : 0xbf;
	size_t len = *p < 0x80 ? 1 : *p < 0xe0 ? 2 : *p < 0xf0 ? 3 : 4;

	if ((*p >= 0x80 && *p < 0xc2) || *p > 0xf4)
		return 0;
	for (size_t i = 1; i < len; i++, low = 0x80, high = 0xbf)
		if (p[i] < low || p[i] > high) /* a NUL is below */
			return 0;
	return len;
}

/* Only the beginning of a character is left of the text? */
static bool cut_off(const char *s)
{
	size_t len = 1;

	while (((uint8_t)s[len] & 0xc0) == 0x80)
		len++;
	return (uint8_t)*s >= 0xc2 && len < 4 && !s[len];
}

void util_utf8(char *s)
{
	size_t len;

	for (; *s; s += len) {
		len = utf8_len((const uint8_t *)s);
		if (len)
			continue;
		len = 1;
		if (cut_off(s))
			break;
		*s = '?';
	}
	*s = '\0';
}

void util_text(char *dst, size_t size, const char *src)
{
	util_copy(dst, size, src);
	util_utf8(dst);
}

bool util_copy(char *dst, size_t size, const char *src)
{
	size_t n = strlen(src);
	size_t take = MIN(n, size - 1);

	memcpy(dst, src, take);
	dst[take] = '\0';
	return take == n;
}
