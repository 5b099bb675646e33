/* SPDX-License-Identifier: Apache-2.0
 *
 * A bound that a measured value is compared with: "> 150ms", "< 80%", "!= 3", ">= 2.5 GB",
 * "battery < 80%". Read once, when the configuration is; compared for each result.
 *
 *	[LABEL] OPERATOR NUMBER [UNIT]
 *
 *	label     which of several values (a metric of a UPS, perfdata of a plugin): letters, digits and _ . / -
 *	operator  > >= < <= = == !=
 *	number    decimal digits, at most 15 of them, with a sign and a point where wanted: no exponent, so
 *	          that what is printed is what was written
 *	unit      of time, bytes or %, see below; upper and lower case are the same
 *
 * Values are compared in the base unit of their kind: milliseconds, percent (0 to 100), bytes, or as they
 * are. So the shell gives microseconds / 1000.0, and 150 ms is exactly the 150 that was written.
 */
#pragma once

#include "base/err.h"

#define THRESHOLD_LABEL_MAX 36 /* so that the struct has no holes */
#define THRESHOLD_DIGITS_MAX 15 /* what a double holds of any decimal number */
#define THRESHOLD_TEXT (THRESHOLD_LABEL_MAX + THRESHOLD_DIGITS_MAX + 16)

/* X(NAME, lower, the base unit in words) */
#define THRESHOLD_KIND_TABLE(X)                                                                    \
	X(PLAIN, plain, "a plain number")                                                          \
	X(TIME, time, "a time, as 150ms, 2s, 5m, 3h or 25h")                                       \
	X(PERCENT, percent, "a percentage, as 80%")                                                \
	X(BYTES, bytes, "a size, as 512B, 10MiB or 2.5GB")

enum threshold_kind {
#define X(name, lower, what) THRESHOLD_KIND_##name,
	THRESHOLD_KIND_TABLE(X)
#undef X
	THRESHOLD_KIND_COUNT
};

/* X(NAME, as written) */
#define THRESHOLD_OP_TABLE(X)                                                                      \
	X(NONE, "")                                                                                \
	X(ABOVE, ">")                                                                              \
	X(AT_LEAST, ">=")                                                                          \
	X(BELOW, "<")                                                                              \
	X(AT_MOST, "<=")                                                                           \
	X(IS, "==")                                                                                \
	X(IS_NOT, "!=")

enum threshold_op {
#define X(name, text) THRESHOLD_##name,
	THRESHOLD_OP_TABLE(X)
#undef X
	THRESHOLD_OP_COUNT
};

struct threshold {
	double value;	/* in the base unit of its kind */
	double number;	/* as written */
	uint8_t op;	/* enum threshold_op; NONE (zeroed): there is no threshold, nothing crosses it */
	uint8_t unit;	/* which of the known units */
	uint8_t digits; /* behind the point */
	char label[THRESHOLD_LABEL_MAX + 1];
};

/* Reads a text of any content that ends with 0. On failure says what is wrong, and *ret is untouched. */
int threshold_parse(const char *text, struct threshold *ret, struct err *e);
/* Writes it as threshold_parse() reads it: the same threshold again. Returns the length. */
size_t threshold_print(const struct threshold *t, char out[THRESHOLD_TEXT]);
enum threshold_kind threshold_kind(const struct threshold *t);
/* What the kind wants, for a message: "a time, as 150ms". */
const char *threshold_wants(enum threshold_kind kind);
/* Is a value beyond it? value is in the base unit of its kind; NaN (nothing was measured) never is. */
bool threshold_crossed(const struct threshold *t, double value);
