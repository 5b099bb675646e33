/* SPDX-License-Identifier: Apache-2.0
 *
 *	v1	PROXY TCP4 192.0.2.1 198.51.100.2 1234 80\r\n		at most 107 bytes (2.1)
 *	v2	12 bytes signature | version, command | family, protocol | length | addresses | TLVs (2.2)
 *
 * Strict: exactly one space, no leading zeros, no byte that could be read another way. A connection that
 * must begin with a header and does not is not guessed at.
 */
#include "wire/proxy.h"

#include <arpa/inet.h>
#include <string.h>

#define V1_MAX 107
#define V2_FIXED 16

static const char v1_start[] = "PROXY ";
static const char v2_start[12] = "\r\n\r\n\0\r\nQUIT\n";
static const uint8_t mapped[12] = {[10] = 0xff, [11] = 0xff};

static enum proxy_result bad(const char **why, const char *what)
{
	*why = what;
	return PROXY_BAD;
}

static bool is_v4(const uint8_t addr[16])
{
	return memcmp(addr, mapped, sizeof(mapped)) == 0;
}

/* --- version 1 --- */

/* The next word of a line, which one space ends; false when it does not fit. */
static bool take_word(const char **p, char *ret, size_t size, char end)
{
	const char *stop = strchr(*p, end);

	if (!stop || stop == *p || (size_t)(stop - *p) >= size)
		return false;
	memcpy(ret, *p, (size_t)(stop - *p));
	ret[stop - *p] = '\0';
	*p = stop + (end != '\0');
	return true;
}

static bool take_addr(const char **p, bool six, uint8_t ret[16])
{
	char text[INET6_ADDRSTRLEN];

	if (!take_word(p, text, sizeof(text), ' '))
		return false;
	if (six)
		return inet_pton(AF_INET6, text, ret) == 1;
	memcpy(ret, mapped, sizeof(mapped));
	return inet_pton(AF_INET, text, ret + 12) == 1;
}

static bool take_port(const char **p, char end, uint16_t *ret)
{
	char text[6];
	uint32_t port = 0;

	if (!take_word(p, text, sizeof(text), end) || (text[0] == '0' && text[1]))
		return false;
	for (const char *c = text; *c; c++) {
		if (*c < '0' || *c > '9')
			return false;
		port = port * 10 + (uint32_t)(*c - '0');
	}
	*ret = (uint16_t)port;
	return port <= 65535;
}

static enum proxy_result parse_v1(const char *p, size_t len, struct proxy_ends *ret, size_t *ret_len,
				  const char **why)
{
	const char *end = memchr(p, '\n', MIN(len, (size_t)V1_MAX)), *at;
	struct proxy_ends ends = {.known = true};
	char line[V1_MAX + 1], kind[8];

	if (!end)
		return len < V1_MAX ? PROXY_MORE : bad(why, "the line of the PROXY header does not end");
	*ret_len = (size_t)(end - p) + 1;
	if (*ret_len < 2 || end[-1] != '\r')
		return bad(why, "the line of the PROXY header ends without CR");
	memcpy(line, p, *ret_len - 2);
	line[*ret_len - 2] = '\0';
	at = line + strlen(v1_start);
	if (strlen(line) != *ret_len - 2 || strchr(line, '\r'))
		return bad(why, "a control byte in the PROXY header");
	if (strncmp(at, "UNKNOWN", 7) == 0 && (!at[7] || at[7] == ' ')) {
		*ret = (struct proxy_ends){0}; /* the rest of the line means nothing */
		return PROXY_DONE;
	}
	if (!take_word(&at, kind, sizeof(kind), ' ') ||
	    (strcmp(kind, "TCP4") != 0 && strcmp(kind, "TCP6") != 0))
		return bad(why, "the PROXY header has neither TCP4, TCP6 nor UNKNOWN");
	if (!take_addr(&at, kind[3] == '6', ends.from) || !take_addr(&at, kind[3] == '6', ends.to) ||
	    !take_port(&at, ' ', &ends.from_port) || !take_port(&at, '\0', &ends.to_port))
		return bad(why, "an address or port of the PROXY header is malformed");
	*ret = ends;
	return PROXY_DONE;
}

/* --- version 2 --- */

enum { V2_LOCAL = 0, V2_PROXY = 1, V2_TCP4 = 0x11, V2_TCP6 = 0x21 };

static uint16_t number16(const uint8_t *p)
{
	return (uint16_t)(p[0] << 8 | p[1]);
}

static enum proxy_result parse_v2(const uint8_t *p, size_t len, struct proxy_ends *ret,
				  size_t *ret_len, const char **why)
{
	static const uint16_t least[16] = {[1] = 12, [2] = 36, [3] = 216}; /* by family */
	struct proxy_ends ends = {.known = true};
	const uint8_t *body = p + V2_FIXED;
	uint16_t body_len;

	if (len < V2_FIXED)
		return PROXY_MORE;
	body_len = number16(p + 14);
	if (p[12] >> 4 != 2 || (p[12] & 15) > V2_PROXY)
		return bad(why, "the PROXY header has another version or an unknown command");
	if (V2_FIXED + body_len > PROXY_MAX)
		return bad(why, "the PROXY header is too long");
	if ((p[12] & 15) == V2_PROXY && body_len < least[p[13] >> 4])
		return bad(why, "the PROXY header is shorter than its addresses");
	if (len < (size_t)V2_FIXED + body_len)
		return PROXY_MORE;
	*ret_len = (size_t)V2_FIXED + body_len;
	if ((p[12] & 15) == V2_PROXY && p[13] == V2_TCP4) {
		memcpy(ends.from, mapped, sizeof(mapped));
		memcpy(ends.to, mapped, sizeof(mapped));
		memcpy(ends.from + 12, body, 4);
		memcpy(ends.to + 12, body + 4, 4);
		ends.from_port = number16(body + 8);
		ends.to_port = number16(body + 10);
	} else if ((p[12] & 15) == V2_PROXY && p[13] == V2_TCP6) {
		memcpy(ends.from, body, 16);
		memcpy(ends.to, body + 16, 16);
		ends.from_port = number16(body + 32);
		ends.to_port = number16(body + 34);
	} else { /* LOCAL, a unix socket, or what there will be one day */
		ends = (struct proxy_ends){0};
	}
	*ret = ends;
	return PROXY_DONE;
}

enum proxy_result proxy_parse(const char *p, size_t len, struct proxy_ends *ret, size_t *ret_len,
			      const char **why)
{
	size_t v1 = MIN(len, sizeof(v1_start) - 1), v2 = MIN(len, sizeof(v2_start));

	if (memcmp(p, v1_start, v1) == 0)
		return v1 < sizeof(v1_start) - 1 ? PROXY_MORE : parse_v1(p, len, ret, ret_len, why);
	if (memcmp(p, v2_start, v2) == 0)
		return v2 < sizeof(v2_start)
			       ? PROXY_MORE
			       : parse_v2((const uint8_t *)p, len, ret, ret_len, why);
	return bad(why, "the connection does not begin with a PROXY header");
}

/* --- writing --- */

static size_t format_v1(const struct proxy_ends *ends, char *ret)
{
	bool four = is_v4(ends->from) && is_v4(ends->to);
	char from[INET6_ADDRSTRLEN], to[INET6_ADDRSTRLEN];

	if (!ends->known)
		return (size_t)snprintf(ret, PROXY_FORMAT_MAX, "PROXY UNKNOWN\r\n");
	inet_ntop(four ? AF_INET : AF_INET6, ends->from + (four ? 12 : 0), from, sizeof(from));
	inet_ntop(four ? AF_INET : AF_INET6, ends->to + (four ? 12 : 0), to, sizeof(to));
	return (size_t)snprintf(ret, PROXY_FORMAT_MAX, "PROXY TCP%c %s %s %u %u\r\n", four ? '4' : '6', from,
				to, ends->from_port, ends->to_port);
}

static uint8_t *put16(uint8_t *p, uint16_t n)
{
	p[0] = (uint8_t)(n >> 8);
	p[1] = (uint8_t)n;
	return p + 2;
}

static size_t format_v2(const struct proxy_ends *ends, uint8_t *ret)
{
	bool four = is_v4(ends->from) && is_v4(ends->to);
	size_t n = four ? 4 : 16;
	uint8_t *p = ret + V2_FIXED;

	memcpy(ret, v2_start, sizeof(v2_start));
	ret[12] = 0x20 | (ends->known ? V2_PROXY : V2_LOCAL);
	ret[13] = !ends->known ? 0 : four ? V2_TCP4 : V2_TCP6;
	if (ends->known) {
		memcpy(p, ends->from + 16 - n, n);
		memcpy(p + n, ends->to + 16 - n, n);
		p = put16(put16(p + 2 * n, ends->from_port), ends->to_port);
	}
	put16(ret + 14, (uint16_t)(p - ret - V2_FIXED));
	return (size_t)(p - ret);
}

size_t proxy_format(enum proxy_version version, const struct proxy_ends *ends,
		    char ret[PROXY_FORMAT_MAX])
{
	return version == PROXY_V1 ? format_v1(ends, ret) : format_v2(ends, (uint8_t *)ret);
}
