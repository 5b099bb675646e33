/* SPDX-License-Identifier: Apache-2.0 */
#include "core/tally.h"

#define COUNT_BITS 24
#define COUNT_MASK ((1u << COUNT_BITS) - 1)

static uint64_t tag_of(uint64_t hash)
{
	uint64_t tag = hash >> COUNT_BITS;

	return (tag ? tag : 1) << COUNT_BITS;
}

static _Atomic uint64_t *set_of(struct tally_table *t, uint64_t hash)
{
	return t->entry[hash & (TALLY_SETS - 1)];
}

struct search {
	int found, free; /* the first of each, -1: none */
	uint32_t sum;
	uint64_t value; /* of the one that was found */
};

static struct search search(_Atomic uint64_t *set, uint64_t tag)
{
	struct search s = {.found = -1, .free = -1};

	for (int i = 0; i < (int)TALLY_WAYS; i++) {
		uint64_t v = atomic_load(&set[i]);

		if (!v && s.free < 0)
			s.free = i;
		if ((v & ~(uint64_t)COUNT_MASK) != tag)
			continue;
		s.sum += (uint32_t)v & COUNT_MASK;
		if (s.found < 0) {
			s.found = i;
			s.value = v;
		}
	}
	return s;
}

enum tally_verdict tally_add(struct tally_table *t, uint64_t hash, uint32_t most)
{
	_Atomic uint64_t *set = set_of(t, hash);
	uint64_t tag = tag_of(hash);

	for (;;) {
		struct search s = search(set, tag);
		uint64_t none = 0;

		if (s.sum >= most)
			return TALLY_OVER;
		if (s.found >= 0) {
			if (atomic_compare_exchange_weak(&set[s.found], &s.value, s.value + 1))
				return TALLY_COUNTED;
			continue;
		}
		if (s.free < 0)
			return TALLY_NO_ROOM;
		if (!atomic_compare_exchange_strong(&set[s.free], &none, tag | 1))
			continue;
		if (search(set, tag).sum <= most)
			return TALLY_COUNTED;
		tally_sub(t, hash);
		return TALLY_OVER;
	}
}

void tally_sub(struct tally_table *t, uint64_t hash)
{
	_Atomic uint64_t *set = set_of(t, hash);

	for (;;) {
		struct search s = search(set, tag_of(hash));
		uint64_t less = (s.value & COUNT_MASK) > 1 ? s.value - 1 : 0;

		if (s.found < 0 || atomic_compare_exchange_weak(&set[s.found], &s.value, less))
			return;
	}
}

uint32_t tally_get(struct tally_table *t, uint64_t hash)
{
	return search(set_of(t, hash), tag_of(hash)).sum;
}
