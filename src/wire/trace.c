/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/trace.h"

#define NO_DIGIT 0x80

/* What may stand there (HEXDIGLC of 3.2.1): lower case only. */
static const uint8_t digits[256] = {
	[0 ... '/'] = NO_DIGIT, ['0'] = 0, ['1'] = 1, ['2'] = 2, ['3'] = 3, ['4'] = 4, ['5'] = 5, ['6'] = 6, ['7'] = 7,
	['8'] = 8, ['9'] = 9, [':' ... '`'] = NO_DIGIT, ['a'] = 10, ['b'] = 11, ['c'] = 12, ['d'] = 13, ['e'] = 14,
	['f'] = 15, ['g' ... 255] = NO_DIGIT,
};

/* Of n characters: 0 when all are the digit 0, NO_DIGIT and more when one is no digit. No branch: nearly all
 * that comes is right. */
static inline unsigned look(const char *p, size_t n)
{
	unsigned any = 0;

	for (size_t i = 0; i < n; i++)
		any |= digits[(uint8_t)p[i]];
	return any;
}

static bool is_id(const char *p, size_t n)
{
	return look(p, n) - 1 < NO_DIGIT - 1;
}

bool trace_parse(const char *p, size_t len, struct trace *ret)
{
	if (len < TRACE_PARENT || p[2] != '-' || p[35] != '-' || p[52] != '-' || look(p, 2) >= NO_DIGIT ||
	    (p[0] == 'f' && p[1] == 'f') || !is_id(p + 3, TRACE_ID) || !is_id(p + 36, 16) ||
	    look(p + 53, 2) >= NO_DIGIT)
		return false;
	if (len > TRACE_PARENT && ((p[0] == '0' && p[1] == '0') || p[TRACE_PARENT] != '-'))
		return false;
	ret->id = p + 3;
	ret->flags = digits[(uint8_t)p[54]] & (TRACE_SAMPLED | TRACE_RANDOM);
	return true;
}
