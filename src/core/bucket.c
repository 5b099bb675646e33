/* SPDX-License-Identifier: Apache-2.0
 *
 * An entry: 24 bits of the hash (never 0), 40 bits of time. Which set it lies in tells 10 bits
 * more, so two clients are taken for one once in 2 million pairs that meet in a set. The time
 * goes round after 2^34 tokens (200 days at 1,000 a second); whatever lies further in the
 * future than an empty bucket could is the past. Threads do not look at the clock in the same
 * moment, so one may be a little behind the one that wrote last.
 */
#include "core/bucket.h"

#define TIME_BITS 40
#define TIME_MASK ((1ull << TIME_BITS) - 1)
#define TOKEN 64u
#define BEHIND_MS 1000u

static uint64_t tag_of(uint64_t hash)
{
	uint64_t tag = hash >> TIME_BITS;

	return (tag ? tag : 1) << TIME_BITS;
}

/* How long until this bucket is full; 0: it is. */
static uint64_t debt_of(uint64_t entry, uint64_t now, const struct bucket_rate *r)
{
	uint64_t ahead = (entry - now) & TIME_MASK;
	uint64_t behind = (uint64_t)r->requests * TOKEN * BEHIND_MS / r->ms;

	return ahead <= (uint64_t)r->burst * TOKEN + behind ? ahead : 0;
}

static uint64_t entry_of(uint64_t tag, uint64_t now, uint64_t debt)
{
	return tag | ((now + debt) & TIME_MASK);
}

struct search {
	int found; /* -1: not there */
	int victim;
	uint64_t found_value, victim_value, victim_debt;
};

static struct search search(_Atomic uint64_t *set, uint64_t tag, uint64_t now, const struct bucket_rate *r)
{
	struct search s = {.found = -1, .victim_debt = UINT64_MAX};

	for (int i = 0; i < (int)BUCKET_WAYS; i++) {
		uint64_t v = atomic_load_explicit(&set[i], memory_order_relaxed);
		uint64_t debt = v ? debt_of(v, now, r) : 0;

		if ((v & ~TIME_MASK) == tag) {
			s.found = i;
			s.found_value = v;
			return s;
		}
		if (debt < s.victim_debt) {
			s.victim = i;
			s.victim_value = v;
			s.victim_debt = debt;
		}
	}
	return s;
}

/* Another thread may have given the same client another entry in the same moment: the one that
 * stands first stays, and takes over what the other one owes. */
static void merge(_Atomic uint64_t *set, int mine, uint64_t tag, uint64_t now, const struct bucket_rate *r)
{
	for (int i = 0; i < (int)BUCKET_WAYS; i++) {
		uint64_t v = atomic_load(&set[i]), owed;

		if (i == mine || (v & ~TIME_MASK) != tag)
			continue;
		owed = debt_of(atomic_exchange(&set[MAX(i, mine)], 0), now, r);
		v = atomic_load(&set[MIN(i, mine)]);
		while ((v & ~TIME_MASK) == tag) {
			uint64_t debt = MIN(debt_of(v, now, r) + owed, (uint64_t)r->burst * TOKEN);

			if (atomic_compare_exchange_weak(&set[MIN(i, mine)], &v, entry_of(tag, now, debt)))
				break;
		}
		return;
	}
}

enum bucket_verdict bucket_take(struct bucket_table *t, const struct bucket_rate *r, uint64_t hash,
				uint64_t now_ms, uint64_t *ret_wait_ms)
{
	uint64_t now = (uint64_t)((unsigned __int128)now_ms * r->requests * TOKEN / r->ms);
	_Atomic uint64_t *set = t->entry[hash & (BUCKET_SETS - 1)];
	uint64_t tag = tag_of(hash), room = (uint64_t)(r->burst - 1) * TOKEN;

	for (;;) {
		struct search s = search(set, tag, now, r);
		uint64_t debt = s.found >= 0 ? debt_of(s.found_value, now, r) : 0;

		if (debt > room) {
			*ret_wait_ms = (uint64_t)(((unsigned __int128)(debt - room) * r->ms + (uint64_t)r->requests * TOKEN - 1) /
						  ((uint64_t)r->requests * TOKEN));
			return BUCKET_EMPTY;
		}
		if (s.found >= 0) {
			if (atomic_compare_exchange_weak(&set[s.found], &s.found_value,
							 entry_of(tag, now, debt + TOKEN)))
				return BUCKET_TAKEN;
			continue;
		}
		if (!atomic_compare_exchange_strong(&set[s.victim], &s.victim_value,
						    entry_of(tag, now, TOKEN)))
			continue;
		merge(set, s.victim, tag, now, r);
		return s.victim_debt ? BUCKET_EVICTED : BUCKET_TAKEN;
	}
}
