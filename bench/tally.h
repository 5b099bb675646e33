/* SPDX-License-Identifier: Apache-2.0
 *
 * What became of the requests: counts by outcome and method, times, and which of the
 * failed ones a fault permits. One tally for the whole run and one for each step; a
 * request belongs to the step in which it was due, however late it ends.
 */
#pragma once

#include <jansson.h>

#include "base/util.h"

/* X(NAME, key in the output, failed): how a request ended. WRONG is counted by itself, not as
 * failed: it is worse. */
#define OUTCOME_TABLE(X)                                                                           \
	X(OK, ok, false)                                                                           \
	X(REFUSED, refused, true) /* no connection was had */                                      \
	X(RESET, reset, true)	  /* ECONNRESET or EPIPE after it was sent */                      \
	X(EOF, eof, true)	  /* the connection ended before a byte of the answer */           \
	X(CUT, cut, true)	  /* it ended within the answer */                                 \
	X(TIMEOUT, timeout, true)                                                                  \
	X(MALFORMED, malformed, true) /* not HTTP as it should be */                               \
	X(S5XX, s5xx, true)                                                                        \
	X(S4XX, s4xx, true)                                                                        \
	X(STATUS, status, true) /* any other status that is not 200 */                             \
	X(UNSENT, unsent, true) /* never sent: the client's own bounds or the run's end */         \
	X(WRONG, wrong, false)	/* a whole answer, but not the one to this request */

enum outcome {
#define X(name, key, failed) OUTCOME_##name,
	OUTCOME_TABLE(X)
#undef X
	    OUTCOME_COUNT
};

bool outcome_failed(enum outcome o);
const char *outcome_name(enum outcome o);

enum method { METHOD_GET, METHOD_POST, METHOD_COUNT };

#define TALLY_TIMES 2048 /* 32 for each power of two of microseconds: 3 % wide at most */
#define TALLY_VERSIONS 32
#define TALLY_SAMPLES 12

struct tally {
	char name[64];
	uint64_t begin_us, end_us; /* end_us 0: still open */
	uint64_t due;		   /* requests that belong to it */
	uint64_t settled;
	uint64_t permitted;
	uint64_t waited;  /* had to wait for a connection of the client's bound */
	uint64_t stray;	  /* bytes that answer nothing: on an idle connection or after an answer */
	uint64_t late_us; /* longest time that the client itself was behind its schedule */
	uint64_t by[OUTCOME_COUNT][METHOD_COUNT];
	uint32_t times[TALLY_TIMES];
	uint64_t longest_us;
	struct {
		char name[24];
		uint64_t count;
	} versions[TALLY_VERSIONS];
	char *samples[TALLY_SAMPLES]; /* the first failures, for a person */
	uint32_t sample_count;
	json_t *faults; /* array */
};

struct tally *tally_new(const char *name, uint64_t now_us);
void tally_free(struct tally *t);

void tally_settle(struct tally *t, enum outcome o, enum method m, uint64_t took_us, bool permitted);
void tally_version(struct tally *t, const char *name, size_t len);
void tally_sample(struct tally *t, const char *text);
uint64_t tally_failed(const struct tally *t);
uint64_t tally_wrong(const struct tally *t); /* wrong answers, and strays */
uint64_t tally_percentile_us(const struct tally *t, unsigned permille);
/* A new object: requests, failed, permitted, not_permitted, wrong, times, classes... */
json_t *tally_json(const struct tally *t, uint64_t now_us);
