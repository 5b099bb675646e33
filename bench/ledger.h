/* SPDX-License-Identifier: Apache-2.0
 *
 * The client's own book of what it signed: each POST is sent once, and is afterwards
 * acknowledged or not. Held against the book of the app: an acknowledged one must be in
 * it exactly once, any other at most once, and nothing of this run that was never sent.
 */
#pragma once

#include "base/util.h"

#define LEDGER_MAX (64u << 20) /* requests in one run */

struct ledger {
	uint8_t *entries; /* by number of the request */
	uint64_t len;
};

struct ledger_result {
	uint64_t posts, acknowledged, found; /* found: lines of this run in the app's book */
	uint64_t missing, doubled, strange;  /* strange: never posted */
};

void ledger_sent(struct ledger *l, uint64_t seq); /* a POST with this number exists */
void ledger_acknowledged(struct ledger *l, uint64_t seq);
/* Compares with the whole body of GET /book: lines "PREFIXn", last "end N" with the number of
 * lines before it. False when the body is not like that; *ret_why then says how. */
bool ledger_compare(struct ledger *l, const char *prefix, const char *body, size_t len,
		    struct ledger_result *ret, const char **ret_why);
void ledger_free(struct ledger *l);
