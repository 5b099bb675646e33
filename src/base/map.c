/* SPDX-License-Identifier: Apache-2.0 */
#include "base/map.h"

static size_t slot_of(const struct map *m, uint64_t key)
{
	/* Fibonacci hashing: keys may be small consecutive numbers. */
	return (size_t)((key * 0x9e3779b97f4a7c15ull) >> 32) & (m->cap - 1);
}

uint64_t map_hash_more(uint64_t hash, const void *data, size_t len)
{
	const unsigned char *p = data;

	for (size_t i = 0; i < len; i++)
		hash = (hash ^ p[i]) * 0x100000001b3ull;
	return hash;
}

uint64_t map_hash(const void *data, size_t len)
{
	return map_hash_more(0xcbf29ce484222325ull, data, len);
}

static struct map_entry *find(const struct map *m, uint64_t key)
{
	size_t i = slot_of(m, key);

	while (m->entries[i].value && m->entries[i].key != key)
		i = (i + 1) & (m->cap - 1);
	return &m->entries[i];
}

static void grow(struct map *m)
{
	struct map old = *m;

	m->cap = old.cap ? old.cap * 2 : 16;
	m->entries = util_alloc(m->cap * sizeof(*m->entries));
	for (size_t i = 0; i < old.cap; i++)
		if (old.entries[i].value)
			*find(m, old.entries[i].key) = old.entries[i];
	free(old.entries);
}

void map_put(struct map *m, uint64_t key, void *value)
{
	struct map_entry *e;

	ensure(value);
	if (m->len * 4 >= m->cap * 3)
		grow(m);
	e = find(m, key);
	if (!e->value)
		m->len++;
	*e = (struct map_entry){key, value};
}

void *map_get(const struct map *m, uint64_t key)
{
	return m->cap ? find(m, key)->value : NULL;
}

void *map_del(struct map *m, uint64_t key)
{
	struct map_entry *e;
	void *value;
	size_t hole, i;

	if (!m->cap)
		return NULL;
	e = find(m, key);
	value = e->value;
	if (!value)
		return NULL;
	m->len--;
	/* Close the hole: move back each follower whose own slot is at or before it. */
	hole = i = (size_t)(e - m->entries);
	for (;;) {
		size_t home;

		i = (i + 1) & (m->cap - 1);
		if (!m->entries[i].value)
			break;
		home = slot_of(m, m->entries[i].key);
		if (((i - home) & (m->cap - 1)) >= ((i - hole) & (m->cap - 1))) {
			m->entries[hole] = m->entries[i];
			hole = i;
		}
	}
	m->entries[hole].value = NULL;
	return value;
}

void map_free(struct map *m)
{
	free(m->entries);
	*m = (struct map){0};
}
