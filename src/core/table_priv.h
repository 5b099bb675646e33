/* SPDX-License-Identifier: Apache-2.0
 *
 * What building and reading the table must do alike: the hash of a pattern (from
 * its end to its front) that goes on over a path prefix. FNV-1a; nobody but our own
 * controller puts keys in, so it need not resist anyone.
 */
#pragma once

#include "core/table.h"

#define TABLE_HASH_START 0xcbf29ce484222325u

static inline uint64_t table_hash(uint64_t hash, char c)
{
	return (hash ^ (uint8_t)c) * 0x100000001b3u;
}

/* Low bits of FNV-1a depend on low bits only: fold. 0 means a free place. */
static inline uint64_t table_hash_done(uint64_t hash)
{
	hash ^= hash >> 32;
	return hash ? hash : 1;
}
