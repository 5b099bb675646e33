/* SPDX-License-Identifier: Apache-2.0
 *
 * A target for requests that belong together: the one that served a client before (by a cookie), or the
 * one that a hash of something in the request chooses. It is a wish: where it cannot be met now,
 * core/balance.h decides as for any request.
 *
 * By hash: rendezvous hashing (Thaler and Ravishankar, 1998): the target with the highest weight
 * for this key, so that when one comes or goes only the keys of that one move, and no ring is kept;
 * with a bound on load (Mirrokni, Thorup and Zadimoghaddam, 2016): none has more than 5/4 of its
 * share inside, and the next in weight takes what is over. Under a load so small that a share means
 * nothing, NEAR_LEAST at once are everyone's.
 *
 * The mark of a target is a keyed hash of its id: all threads, and routers to come, find the same.
 */
#pragma once

#include "core/balance.h"

#define NEAR_LEAST 8u
#define NEAR_TEXT 17 /* of a mark in a cookie, NUL included */

/* Index of the target with this mark while it serves, is up, and has a place; else -1. */
int32_t near_marked(const struct balance_target *t, uint32_t n, uint32_t limit, uint64_t mark);
/* Index of the target for this hash; -1: none that is up has a place. */
int32_t near_hashed(const struct balance_target *t, uint32_t n, uint32_t limit, uint64_t hash);

uint64_t near_mark(const uint64_t key[2], uint64_t target_id); /* never 0 */
void near_text(uint64_t mark, char ret[NEAR_TEXT]);
/* The mark in the value of the cookie `name`, in a Cookie field (RFC 6265, 4.2); 0: there is none. */
uint64_t near_cookie(const char *field, size_t len, const char *name);
