/* SPDX-License-Identifier: Apache-2.0
 *
 * The certificates, their keys, the names they are for, and the keys of session tickets, in one block
 * of bytes without pointers. The controller reads files and builds it, the keeper holds it in a sealed
 * memory file, each router takes it up whole. It holds secrets: whoever has it mapped keeps it out of
 * core dumps, and nobody prints it.
 *
 * Which certificate a client gets (RFC 6066, 3; RFC 9525, 6.3): the exact name, then the wildcard of
 * one label, then the first one in the list, which also serves clients that name no host.
 */
#pragma once

#include "base/err.h"

#define CERTS_MAGIC 0x55504354u
#define CERTS_VERSION 1
#define CERTS_PAIRS_MAX 1000
#define CERTS_NAMES_MAX 50000
#define CERTS_BYTES_MAX (64u << 20)
#define CERTS_NAME_MAX 255
#define CERTS_TICKETS 3 /* the key that is used, and those before it that are still understood */
#define CERTS_TICKET_MS (12 * 3600 * 1000ull) /* then there is a new one */

/* A key of session tickets (RFC 5077, 4: name, AES key, HMAC key). made_ms 0: none. */
struct certs_ticket {
	uint8_t name[16], cipher[32], mac[32];
	uint64_t made_ms; /* wall clock */
};

struct certs_pair {
	uint64_t id; /* of the two files' names: the same pair in the next block has the same */
	uint64_t from_ms, until_ms; /* wall clock: when it is valid */
	uint32_t chain, chain_len; /* offset; DER, its own certificate first */
	uint32_t key, key_len;	   /* offset; DER, PKCS #8 */
};

struct certs_name { /* sorted by text, lower case; a wildcard without its "*": ".example.org" */
	uint32_t text, len;
	uint32_t pair;
};

struct certs {
	uint32_t magic, version;
	uint64_t size, generation;
	uint32_t pair_count, name_count;
	uint32_t pairs, names; /* offsets of the arrays */
	struct certs_ticket tickets[CERTS_TICKETS]; /* newest first */
};

static inline const struct certs_pair *certs_pairs(const struct certs *c)
{
	return (const void *)((const char *)c + c->pairs);
}
static inline const struct certs_name *certs_names(const struct certs *c)
{
	return (const void *)((const char *)c + c->names);
}
static inline const void *certs_bytes(const struct certs *c, uint32_t offset)
{
	return (const char *)c + offset;
}

/* --- building (controller) --- */

struct certs_in_pair {
	uint64_t id, from_ms, until_ms;
	const void *chain, *key;
	uint32_t chain_len, key_len;
	char *const *names; /* "example.org", "*.example.org" */
	uint32_t name_count;
};

struct certs_in {
	const struct certs_in_pair *pairs; /* the first one is for whom no other is */
	uint32_t pair_count;
	struct certs_ticket tickets[CERTS_TICKETS];
};

/* Bytes that it will take (an upper bound: names that stand twice are left out). */
uint64_t certs_size(const struct certs_in *in);
/* Builds it at mem (zeroed, aligned to 8, of certs_size() bytes): secrets are written where they
 * stay, and nowhere else. Of two pairs with the same name the earlier one gets it. ERR_LIMIT when a
 * bound is passed. The same input gives the same bytes. */
int certs_build(const struct certs_in *in, uint64_t generation, void *mem, struct err *e);

/* Moves the keys on when the newest is older than CERTS_TICKET_MS (or none is there, or it is from
 * the future): `fresh` comes first, the last one goes. Returns whether it did. */
bool certs_rotate(struct certs_ticket tickets[CERTS_TICKETS], const struct certs_ticket *fresh,
		  uint64_t now_ms);

/* --- reading (router, controller) --- */

/* Checks every offset, index and order before anything is used. */
int certs_check(const void *data, size_t len, struct err *e);
/* The pair for the host name that a client asks for (any case); 0 when there is none for it. */
uint32_t certs_find(const struct certs *c, const char *host, size_t len);
/* The pair with this id, or NULL. */
const struct certs_pair *certs_by_id(const struct certs *c, uint64_t id);
