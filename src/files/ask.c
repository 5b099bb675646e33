/* SPDX-License-Identifier: Apache-2.0
 *
 * The path is refused rather than cleaned: a name that needs cleaning was not made by a browser, and
 * what one program cleans another may not. So every file has one URL (and its escapes), and a redirect
 * made of a path can never begin with two slashes, which would lead to another host.
 */
#include "files/ask.h"

#include <string.h>

/* --- the path --- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	c = (char)(c | 0x20);
	return c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static int decode(struct http1_slice path, char *ret)
{
	size_t n = 0;

	for (uint32_t i = 1; i < path.len; i++) {
		int c = (unsigned char)path.p[i];

		if (c == '%') {
			int high = i + 1 < path.len ? hex(path.p[i + 1]) : -1;
			int low = high >= 0 && i + 2 < path.len ? hex(path.p[i + 2]) : -1;

			if (low < 0)
				return 400;
			c = high << 4 | low;
			i += 2;
			if (c == '/')
				return 400;
		}
		if (c < ' ' || c == 0x7f || c == '\\')
			return 400;
		if (n + 1 >= ASK_PATH_MAX)
			return 414;
		ret[n++] = (char)c;
	}
	ret[n] = '\0';
	return 0;
}

static int check_segment(const char *s, size_t len, bool first, bool last)
{
	if (len == 0)
		return last ? 0 : 404; /* "a/" is a directory, "a//b" nothing */
	if (s[0] != '.')
		return 0;
	if (len == 1 || (len == 2 && s[1] == '.'))
		return 400;
	return first && !last && len == 11 && memcmp(s, ".well-known", 11) == 0 ? 0 : 404;
}

int ask_path(struct http1_slice path, char ret[ASK_PATH_MAX])
{
	int status = path.len && path.p[0] == '/' ? decode(path, ret) : 400, worst = 0;

	if (status)
		return status;
	for (const char *s = ret;;) {
		size_t len = strcspn(s, "/");

		status = check_segment(s, len, s == ret, !s[len]);
		if (status == 400)
			return 400;
		worst = status ? status : worst;
		if (!s[len])
			return worst;
		s += len + 1;
	}
}

/* --- lists --- */

static bool is_blank(char c)
{
	return c == ' ' || c == '\t';
}

static void skip_blanks(struct http1_slice *s)
{
	while (s->len && is_blank(s->p[0]))
		s->p++, s->len--;
}

static bool take(struct http1_slice *s, char c)
{
	if (!s->len || s->p[0] != c)
		return false;
	s->p++;
	s->len--;
	return true;
}

/* Blanks and commas: lists may have empty elements (RFC 9110, 5.6.1). False: nothing is left. */
static bool next_element(struct http1_slice *s)
{
	while (s->len && (is_blank(s->p[0]) || s->p[0] == ','))
		s->p++, s->len--;
	return s->len > 0;
}

/* --- ranges --- */

/* 1*DIGIT; what passes 64 bits stays at their end, which is behind any file's. */
static bool take_number(struct http1_slice *s, uint64_t *ret)
{
	uint32_t before = s->len;
	uint64_t n = 0;

	for (; s->len && s->p[0] >= '0' && s->p[0] <= '9'; s->p++, s->len--) {
		uint64_t digit = (uint64_t)(s->p[0] - '0');

		n = n > (UINT64_MAX - digit) / 10 ? UINT64_MAX : n * 10 + digit;
	}
	if (s->len == before)
		return false;
	*ret = n;
	return true;
}

enum ask_range ask_range(struct http1_slice value, uint64_t size, uint64_t *ret_at, uint64_t *ret_len)
{
	struct http1_slice unit = {value.p, MIN(value.len, 6u)};
	uint64_t first = 0, last = UINT64_MAX;
	bool has_first;

	if (!http1_is(unit, "bytes="))
		return ASK_WHOLE;
	value.p += 6;
	value.len -= 6;
	next_element(&value);
	has_first = take_number(&value, &first);
	if (!take(&value, '-'))
		return ASK_WHOLE;
	if (!take_number(&value, &last) && !has_first)
		return ASK_WHOLE;
	if ((has_first && last < first) || next_element(&value))
		return ASK_WHOLE;
	if (!has_first) { /* the last so many */
		first = size - MIN(last, size);
		last = UINT64_MAX;
	}
	if (first >= size)
		return ASK_NONE;
	*ret_at = first;
	*ret_len = MIN(last, size - 1) - first + 1;
	return ASK_PART;
}

/* --- tags --- */

/* One entity-tag with its quotes (RFC 9110, 8.8.3). */
static bool take_tag(struct http1_slice *s, bool *ret_weak, struct http1_slice *ret)
{
	const char *end;

	*ret_weak = s->len > 2 && s->p[0] == 'W' && s->p[1] == '/';
	if (*ret_weak)
		s->p += 2, s->len -= 2;
	if (!s->len || s->p[0] != '"')
		return false;
	end = memchr(s->p + 1, '"', s->len - 1);
	if (!end)
		return false;
	*ret = (struct http1_slice){s->p, (uint32_t)(end + 1 - s->p)};
	s->p += ret->len;
	s->len -= ret->len;
	return true;
}

static bool is_tag(struct http1_slice s, const char *tag)
{
	return s.len == strlen(tag) && memcmp(s.p, tag, s.len) == 0;
}

bool ask_names(struct http1_slice list, const char *tag, bool weak)
{
	struct http1_slice one;
	bool is_weak;

	if (list.len == 1 && list.p[0] == '*')
		return true;
	while (next_element(&list)) {
		if (!take_tag(&list, &is_weak, &one))
			return false;
		if (is_tag(one, tag) && (weak || !is_weak))
			return true;
		skip_blanks(&list);
		if (list.len && list.p[0] != ',')
			return false;
	}
	return false;
}

bool ask_if_range(struct http1_slice value, const char *tag)
{
	return is_tag(value, tag);
}

/* --- codings --- */

/* "q=0.5" behind the ';' of an element; 1000 without. Malformed: 0, so that it is not used. */
static int take_weight(struct http1_slice *s)
{
	int weight, scale = 100;

	skip_blanks(s);
	if (!take(s, ';'))
		return 1000;
	skip_blanks(s);
	if (!take(s, 'q') && !take(s, 'Q'))
		return 0;
	if (!take(s, '=') || !s->len || (s->p[0] != '0' && s->p[0] != '1'))
		return 0;
	weight = (s->p[0] - '0') * 1000;
	s->p++, s->len--;
	if (take(s, '.'))
		for (; s->len && s->p[0] >= '0' && s->p[0] <= '9'; s->p++, s->len--, scale /= 10)
			weight += (s->p[0] - '0') * scale;
	return MIN(weight, 1000);
}

int ask_weight(struct http1_slice accept, const char *coding)
{
	int any = -1;

	while (next_element(&accept)) {
		struct http1_slice name = accept;
		int weight;

		for (name.len = 0; name.len < accept.len; name.len++)
			if (is_blank(name.p[name.len]) || name.p[name.len] == ',' || name.p[name.len] == ';')
				break;
		accept.p += name.len;
		accept.len -= name.len;
		weight = take_weight(&accept);
		if (http1_is(name, coding))
			return weight;
		if (name.len == 1 && name.p[0] == '*')
			any = weight;
		while (accept.len && accept.p[0] != ',')
			accept.p++, accept.len--;
	}
	return any;
}
