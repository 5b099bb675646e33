/* SPDX-License-Identifier: Apache-2.0
 *
 * One byte for each request: two flags, and how often the app's book names it.
 */
#include "ledger.h"

#include <string.h>

#define SENT 0x80
#define ACKNOWLEDGED 0x40
#define FOUND 0x3f /* counts to here */

static uint8_t *entry(struct ledger *l, uint64_t seq)
{
	ensure(seq < LEDGER_MAX);
	if (seq >= l->len) {
		uint64_t len = MAX(l->len * 2, 4096);

		while (len <= seq)
			len *= 2;
		l->entries = realloc(l->entries, len);
		ensure(l->entries);
		memset(l->entries + l->len, 0, len - l->len);
		l->len = len;
	}
	return &l->entries[seq];
}

void ledger_sent(struct ledger *l, uint64_t seq)
{
	*entry(l, seq) |= SENT;
}

void ledger_acknowledged(struct ledger *l, uint64_t seq)
{
	ensure(*entry(l, seq) & SENT);
	*entry(l, seq) |= ACKNOWLEDGED;
}

/* Reads digits up to the end of the line; false when there is anything else, or too much. */
static bool number(const char *p, size_t len, uint64_t *ret)
{
	uint64_t n = 0;

	if (!len || len > 18)
		return false;
	for (size_t i = 0; i < len; i++) {
		if (p[i] < '0' || p[i] > '9')
			return false;
		n = n * 10 + (uint64_t)(p[i] - '0');
	}
	*ret = n;
	return true;
}

static void found(struct ledger *l, uint64_t seq, struct ledger_result *r)
{
	uint8_t *e;

	r->found++;
	if (seq >= l->len || !(l->entries[seq] & SENT)) {
		r->strange++;
		return;
	}
	e = &l->entries[seq];
	if ((*e & FOUND) < FOUND)
		(*e)++;
}

/* All lines; *ret_ended when the last was the right "end N". */
static bool read_book(struct ledger *l, const char *prefix, const char *p, const char *end,
		      struct ledger_result *r, const char **ret_why)
{
	size_t prefix_len = strlen(prefix);
	uint64_t lines = 0, n;

	while (p < end) {
		const char *lf = memchr(p, '\n', (size_t)(end - p));
		size_t len = lf ? (size_t)(lf - p) : 0;

		if (!lf) {
			*ret_why = "the book's last line is cut";
			return false;
		}
		if (len > 4 && memcmp(p, "end ", 4) == 0) {
			*ret_why = "the book's end does not fit its lines";
			return number(p + 4, len - 4, &n) && n == lines && lf + 1 == end;
		}
		lines++;
		if (len > prefix_len && memcmp(p, prefix, prefix_len) == 0) {
			if (!number(p + prefix_len, len - prefix_len, &n))
				n = UINT64_MAX;
			found(l, n, r);
		}
		p = lf + 1;
	}
	*ret_why = "the book has no end";
	return false;
}

bool ledger_compare(struct ledger *l, const char *prefix, const char *body, size_t len,
		    struct ledger_result *ret, const char **ret_why)
{
	struct ledger_result r = {0};

	for (uint64_t i = 0; i < l->len; i++)
		l->entries[i] &= (uint8_t)~FOUND;
	if (!read_book(l, prefix, body, body + len, &r, ret_why))
		return false;
	for (uint64_t i = 0; i < l->len; i++) {
		uint8_t e = l->entries[i];

		r.posts += (e & SENT) != 0;
		r.acknowledged += (e & ACKNOWLEDGED) != 0;
		r.missing += (e & ACKNOWLEDGED) && !(e & FOUND);
		r.doubled += (e & FOUND) > 1;
	}
	*ret = r;
	return true;
}

void ledger_free(struct ledger *l)
{
	free(l->entries);
	*l = (struct ledger){0};
}
