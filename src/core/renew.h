/* SPDX-License-Identifier: Apache-2.0
 *
 * When a certificate is asked for anew, and how its getting stands. Who issues them for nothing bounds how
 * often may be asked: Let's Encrypt takes 5 failed validations of a name in an hour from an account, then
 * none (letsencrypt.org/docs/rate-limits). So the last failures are remembered, and no pause, no
 * restart and no impatient person leads to more.
 */
#pragma once

#include "base/util.h"

#define RENEW_FAILURES 5 /* in an hour; further tries wait */
#define RENEW_WINDOW_MS (3600 * 1000ull)
#define RENEW_RUN_MS (5 * 60000u) /* of one try; then it has failed */

/* What is remembered of an app's tries; all zero: there was none. Saved by its owner. */
struct renew {
	uint32_t failures;			/* in a row */
	uint64_t failed_ms[RENEW_FAILURES]; /* wall clock, newest first; 0: none */
};

/* The certificate that is in force. until_ms 0: none. */
struct renew_cert {
	uint64_t from_ms, until_ms; /* wall clock */
	bool fits;		    /* it has all the names that are wanted */
};

/* X(NAME, the status of a device) */
#define RENEW_STATUS_TABLE(X)                                                                      \
	X(GOOD, "good")                                                                            \
	X(BAD, "bad")                                                                              \
	X(UGLY, "ugly")

enum renew_status {
#define X(name, text) RENEW_##name,
	RENEW_STATUS_TABLE(X)
#undef X
};

/* When it is time for the next try, as wall clock; not after now_ms: now. At once when there is no
 * certificate or it lacks a name, else when two thirds of its life are over (with 90 days: 30 before its
 * end). After failures there is a pause of 2 min, 6, 18, ... 8 h; `asked` (a person changed something)
 * passes over the pause, and over nothing else. `random`: any bits, the same each time for this try; they
 * spread renewals over 1/50 of a life, and pauses over a quarter. */
uint64_t renew_due(const struct renew *r, const struct renew_cert *c, bool asked, uint32_t random,
		   uint64_t now_ms);
/* A try failed. Also said before one begins, so that what is cut short counts: renew_done() takes it back. */
void renew_failed(struct renew *r, uint64_t now_ms);
void renew_done(struct renew *r);
/* good; bad: it works, and renewing it does not, or it lacks a name, or the first is on its way; ugly: users
 * are refused, or will be within two days (a tenth of its life, where that is less) because renewing fails. */
enum renew_status renew_status(const struct renew *r, const struct renew_cert *c, uint64_t now_ms);
