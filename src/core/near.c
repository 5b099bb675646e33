/* SPDX-License-Identifier: Apache-2.0 */
#include "core/near.h"

#include <string.h>

#include "core/siphash.h"

static bool is_up(const struct balance_target *t)
{
	return t->use == USE_SERVE && t->health == HEALTH_UP && !t->avoid;
}

static bool may_take(const struct balance_target *t, uint32_t limit)
{
	return is_up(t) && !t->tried && (!limit || t->outstanding < limit);
}

int32_t near_marked(const struct balance_target *t, uint32_t n, uint32_t limit, uint64_t mark)
{
	for (uint32_t i = 0; i < n; i++)
		if (t[i].mark == mark)
			return may_take(&t[i], limit) ? (int32_t)i : -1;
	return -1;
}

/* The finisher of MurmurHash3: each bit of x decides each bit of the weight. */
static uint64_t weight(uint64_t x)
{
	x = (x ^ x >> 33) * 0xff51afd7ed558ccdu;
	x = (x ^ x >> 33) * 0xc4ceb9fe1a85ec53u;
	return x ^ x >> 33;
}

int32_t near_hashed(const struct balance_target *t, uint32_t n, uint32_t limit, uint64_t hash)
{
	uint64_t inside = 1, up = 0, most, best = 0; /* this request counts */
	int32_t found = -1;

	for (uint32_t i = 0; i < n; i++) {
		if (!is_up(&t[i]))
			continue;
		up++;
		inside += t[i].outstanding;
	}
	if (!up)
		return -1;
	most = MAX((inside * 5 + up * 4 - 1) / (up * 4), (uint64_t)NEAR_LEAST);
	for (uint32_t i = 0; i < n; i++) {
		uint64_t w = weight(t[i].mark ^ hash);

		if (!may_take(&t[i], limit) || t[i].outstanding >= most || (found >= 0 && w <= best))
			continue;
		best = w;
		found = (int32_t)i;
	}
	return found;
}

/* --- cookies --- */

uint64_t near_mark(const uint64_t key[2], uint64_t target_id)
{
	uint64_t mark = siphash(key, &target_id, sizeof(target_id));

	return mark ? mark : 1;
}

void near_text(uint64_t mark, char ret[NEAR_TEXT])
{
	for (int i = 0; i < NEAR_TEXT - 1; i++, mark <<= 4)
		ret[i] = "0123456789abcdef"[mark >> 60];
	ret[NEAR_TEXT - 1] = '\0';
}

static uint64_t parse_mark(const char *p)
{
	uint64_t mark = 0;

	for (int i = 0; i < NEAR_TEXT - 1; i++) {
		int digit = p[i] >= '0' && p[i] <= '9' ? p[i] - '0' : p[i] >= 'a' && p[i] <= 'f' ? p[i] - 'a' + 10 : -1;

		if (digit < 0)
			return 0;
		mark = mark << 4 | (uint64_t)digit;
	}
	return mark;
}

uint64_t near_cookie(const char *field, size_t len, const char *name)
{
	size_t name_len = strlen(name);
	const char *p = field, *end = field + len;

	while (p < end) {
		const char *stop = memchr(p, ';', (size_t)(end - p)), *last;

		stop = stop ? stop : end;
		for (last = stop; last > p && (last[-1] == ' ' || last[-1] == '\t'); last--)
			;
		while (p < last && (*p == ' ' || *p == '\t'))
			p++;
		if ((size_t)(last - p) == name_len + 1 + NEAR_TEXT - 1 && !memcmp(p, name, name_len) &&
		    p[name_len] == '=')
			return parse_mark(p + name_len + 1);
		p = stop < end ? stop + 1 : end;
	}
	return 0;
}
