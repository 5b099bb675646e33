/* SPDX-License-Identifier: Apache-2.0 */
#include "tell/text.h"

#include <string.h>

#define REPLACEMENT "\xef\xbf\xbd"

/* Length of the UTF-8 character at s, or 0 when there is none (RFC 3629, table in section 4). */
static size_t utf8(const unsigned char *s, uint32_t *ret)
{
	static const struct {
		unsigned char first, last, low, high; /* range of the first and second byte */
		size_t len;
	} forms[] = {
	    {0x00, 0x7f, 0x00, 0xff, 1}, {0xc2, 0xdf, 0x80, 0xbf, 2}, {0xe0, 0xe0, 0xa0, 0xbf, 3},
	    {0xe1, 0xec, 0x80, 0xbf, 3}, {0xed, 0xed, 0x80, 0x9f, 3}, {0xee, 0xef, 0x80, 0xbf, 3},
	    {0xf0, 0xf0, 0x90, 0xbf, 4}, {0xf1, 0xf3, 0x80, 0xbf, 4}, {0xf4, 0xf4, 0x80, 0x8f, 4},
	};

	for (size_t i = 0; i < ARRAY_LEN(forms); i++) {
		size_t n = forms[i].len;

		if (s[0] < forms[i].first || s[0] > forms[i].last)
			continue;
		*ret = n == 1 ? s[0] : s[0] & (0xffu >> (n + 1));
		for (size_t k = 1; k < n; k++) {
			if (s[k] < (k == 1 ? forms[i].low : 0x80) ||
			    s[k] > (k == 1 ? forms[i].high : 0xbf))
				return 0;
			*ret = *ret << 6 | (s[k] & 0x3f);
		}
		return n;
	}
	return 0;
}

static bool allowed(uint32_t c)
{
	if (c < 0x20)
		return c == '\t' || c == '\n';
	if ((c >= 0x202a && c <= 0x202e) || (c >= 0x2066 && c <= 0x2069))
		return false; /* would turn round the text behind it */
	return !(c >= 0x7f && c < 0xa0) && c != 0xfffe && c != 0xffff;
}

static const char *reference(uint32_t c)
{
	switch (c) {
	case '&':
		return "&amp;";
	case '<':
		return "&lt;";
	case '>':
		return "&gt;";
	case '"':
		return "&quot;";
	case '\'':
		return "&#39;";
	default:
		return NULL;
	}
}

static void add(struct buf *b, const char *s, bool html)
{
	while (*s) {
		uint32_t c;
		size_t n = utf8((const unsigned char *)s, &c);

		if (n == 0)
			buf_adds(b, REPLACEMENT);
		else if (html && reference(c))
			buf_adds(b, reference(c));
		else if (allowed(c))
			buf_add(b, s, n);
		s += MAX(n, 1);
	}
}

void text_clean(struct buf *b, const char *s)
{
	add(b, s, false);
}

void text_html(struct buf *b, const char *s)
{
	add(b, s, true);
}

void text_path(struct buf *b, const char *s)
{
	static const char plain[] =
	    "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";

	for (; *s; s++) {
		if (strchr(plain, *s))
			buf_addc(b, *s);
		else
			buf_addf(b, "%%%02X", (unsigned)(unsigned char)*s);
	}
}
