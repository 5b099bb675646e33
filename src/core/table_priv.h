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

struct build {
	const struct table_in *in;
	struct err *e;
	/* sizes */
	uint64_t target_count, route_count, strings_len, policy_count, rule_count, net_count;
	/* the block */
	struct table *t;
	struct table_app *apps;
	struct table_target *targets;
	struct table_route *routes;
	char *strings;
	uint32_t string_at, target_at, policy_at, rule_at, net_at;
};

/* A copy of s among the strings; returns its offset. */
uint32_t table_add_string(struct build *b, const char *s);

/* table_policy.c */
int table_measure_policy(struct build *b, const struct table_in_app *a);
/* Writes the policy; returns its index + 1. */
uint32_t table_add_policy(struct build *b, const struct table_in_policy *p);
const char *table_check_policies(const struct table *t); /* NULL, or what is wrong */
bool table_is_string(const struct table *t, uint32_t at, size_t max);
