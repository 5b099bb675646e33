/* SPDX-License-Identifier: Apache-2.0
 *
 * Hash map from a 64-bit key to a pointer (open addressing, linear probing).
 * Strings are keyed by map_hash(), which is FNV-1a; the owner compares the
 * string itself where two keys could meet.
 */
#pragma once

#include "base/util.h"

struct map_entry {
	uint64_t key;
	void *value; /* NULL: free */
};

struct map {
	struct map_entry *entries;
	size_t cap, len;
};

uint64_t map_hash(const void *data, size_t len);
/* Continues a hash over more bytes: map_hash(ab) == map_hash_more(map_hash(a), b). */
uint64_t map_hash_more(uint64_t hash, const void *data, size_t len);

void map_put(struct map *m, uint64_t key, void *value); /* value is not NULL; replaces */
void *map_get(const struct map *m, uint64_t key);       /* NULL when absent */
void *map_del(struct map *m, uint64_t key);             /* returns what was there */
void map_free(struct map *m);                           /* values stay the owner's */
