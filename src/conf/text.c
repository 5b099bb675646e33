/* SPDX-License-Identifier: Apache-2.0
 *
 * The small languages inside values: durations, sizes, hosts, paths, addresses,
 * names; and which word was perhaps meant.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>
#include <strings.h>
#include <sys/un.h>

#include "conf/schema.h"

/* --- numbers with units --- */

struct unit {
	const char *name;
	uint64_t factor;
};

/* "1.5" times a unit's factor. Whole and part are digits only; at most three after the point. */
static bool with_unit(const char *text, const struct unit *units, size_t n, uint64_t *ret)
{
	uint64_t whole = 0, part = 0, scale = 1;
	const char *p = text;

	if (!isdigit((unsigned char)*p))
		return false;
	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(whole, 10u, &whole) ||
		    __builtin_add_overflow(whole, (uint64_t)(*p - '0'), &whole))
			return false;
	if (*p == '.') {
		if (!isdigit((unsigned char)*++p))
			return false;
		for (; isdigit((unsigned char)*p); p++, scale *= 10) {
			if (scale == 1000)
				return false;
			part = part * 10 + (uint64_t)(*p - '0');
		}
	}
	while (*p == ' ')
		p++;
	for (size_t i = 0; i < n; i++) {
		uint64_t value;

		if (strcasecmp(p, units[i].name) != 0)
			continue;
		if (__builtin_mul_overflow(whole, units[i].factor, &value) ||
		    __builtin_add_overflow(value, part * units[i].factor / scale, &value))
			return false;
		*ret = value;
		return true;
	}
	return false;
}

bool conf_duration(const char *text, uint64_t *ret_ms)
{
	static const struct unit units[] = {{"", 1000},	    {"ms", 1},	    {"s", 1000},
					    {"m", 60000},   {"min", 60000}, {"h", 3600000},
					    {"d", 86400000}};

	return with_unit(text, units, ARRAY_LEN(units), ret_ms);
}

bool conf_percent(const char *text, uint64_t *ret_millionths)
{
	static const struct unit units[] = {{"%", 10000}};

	return with_unit(text, units, ARRAY_LEN(units), ret_millionths);
}

bool conf_bytes(const char *text, uint64_t *ret_bytes)
{
	static const struct unit units[] = {
	    {"", 1},
	    {"b", 1},
	    {"k", 1 << 10},
	    {"kib", 1 << 10},
	    {"m", 1 << 20},
	    {"mib", 1 << 20},
	    {"g", 1 << 30},
	    {"gib", 1 << 30},
	    {"t", 1ull << 40},
	    {"tib", 1ull << 40},
	    {"kb", 1000},
	    {"mb", 1000000},
	    {"gb", 1000000000},
	    {"tb", 1000000000000},
	};

	return with_unit(text, units, ARRAY_LEN(units), ret_bytes);
}

/* --- the word that was meant --- */

#define WORD_MAX 40

/* Edits (insert, delete, replace, swap neighbours) that make b of a; both at most WORD_MAX long. */
static size_t distance(const char *a, const char *b)
{
	size_t la = strlen(a), lb = strlen(b);
	size_t rows[3][WORD_MAX + 1];
	size_t *before = rows[0], *above = rows[1], *here = rows[2];

	for (size_t j = 0; j <= lb; j++)
		above[j] = j;
	for (size_t i = 1; i <= la; i++) {
		size_t *spare = before;

		here[0] = i;
		for (size_t j = 1; j <= lb; j++) {
			size_t cost =
			    tolower((unsigned char)a[i - 1]) != tolower((unsigned char)b[j - 1]);

			here[j] = MIN(MIN(above[j] + 1, here[j - 1] + 1), above[j - 1] + cost);
			if (i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1])
				here[j] = MIN(here[j], before[j - 2] + 1);
		}
		before = above;
		above = here;
		here = spare;
	}
	return above[lb];
}

const char *conf_nearest(const char *word, const char *const *words, size_t n)
{
	size_t len = strlen(word), best = SIZE_MAX;
	const char *nearest = NULL;

	if (!len || len > WORD_MAX)
		return NULL;
	for (size_t i = 0; i < n; i++) {
		size_t d;

		if (strlen(words[i]) > WORD_MAX)
			continue;
		d = distance(word, words[i]);
		if (d < best) {
			best = d;
			nearest = words[i];
		}
	}
	/* A third of the word may be wrong; of short ones one letter. */
	return best <= MAX((size_t)1, len / 3) && best < len ? nearest : NULL;
}

/* --- names --- */

static bool only(const char *text, const char *more)
{
	for (const char *p = text; *p; p++)
		if (!(*p >= 'a' && *p <= 'z') && !(*p >= '0' && *p <= '9') && !strchr(more, *p))
			return false;
	return true;
}

const char *text_name(char *text)
{
	if (!only(text, "-") || text[0] == '-' || !text[0] || strlen(text) > 63)
		return "an app's name has lower-case letters, digits and '-', at most 63, and does "
		       "not "
		       "begin with '-'";
	if (strcmp(text, "upstate") == 0 || strcmp(text, "all") == 0)
		return "this name is Upstate's own; choose another";
	return NULL;
}

const char *text_device(char *text)
{
	return text_name(text) ? "a device's name has lower-case letters, digits and '-', at most 63, does not begin "
				 "with '-', and is not 'upstate' or 'all'"
			       : NULL;
}

const char *text_data(char *text)
{
	if (!only(text, "._-") || text[0] == '-' || text[0] == '.')
		return "the name of a data directory has lower-case letters, digits, '.', '_' and "
		       "'-', and "
		       "begins with a letter or digit; it is no path";
	return NULL;
}

const char *text_group(char *text)
{
	for (const char *p = text; *p; p++)
		if (*p <= ' ' || *p == ':' || *p == '/' || *p == ',')
			return "this is no name of a group";
	return NULL;
}

const char *text_command(char *text)
{
	if (!text[strspn(text, " \t\r\n")])
		return "there is no command in it";
	return NULL;
}

/* --- hosts and paths --- */

static const char *check_labels(const char *p)
{
	size_t label = 0, all = strlen(p);

	if (all > 253)
		return "a host has at most 253 characters";
	for (; *p; p++) {
		if (*p == '.') {
			if (!label)
				return "a host has no empty part between dots";
			label = 0;
		} else if (!isalnum((unsigned char)*p) && *p != '-' && *p != '_') {
			return *p == '*' ? "'*' can only stand alone, or first as in *.example.org"
					 : "a host has letters, digits, '-' and '.'";
		} else if (++label > 63) {
			return "a part between dots has at most 63 characters";
		}
	}
	return label ? NULL : "a host stands without a final dot";
}

const char *text_host(char *text)
{
	struct in6_addr v6;
	size_t len = strlen(text);

	for (char *p = text; *p; p++) {
		if (*p & 0x80)
			return "write it in its xn-- form (as `idn2` prints it)";
		*p = (char)tolower((unsigned char)*p);
	}
	if (!len)
		return "it is empty";
	if (strcmp(text, "*") == 0)
		return NULL;
	if (strstr(text, "://"))
		return "a host stands without http:// or https://";
	if (strchr(text, '/'))
		return "a host stands without a path; that is said with 'path'";
	if (text[0] == '[') {
		char inside[64] = "";

		if (text[len - 1] == ']' && len < sizeof(inside))
			memcpy(inside, text + 1, len - 2);
		return inet_pton(AF_INET6, inside, &v6) == 1 ? NULL : "this is no IPv6 address";
	}
	if (strchr(text, ':'))
		return "a host stands without a port; that is said with 'listen'";
	return check_labels(strncmp(text, "*.", 2) == 0 ? text + 2 : text);
}

static const char *check_path(const char *text)
{
	if (text[0] != '/')
		return "a path begins with '/'";
	for (const char *p = text; *p; p++) {
		if (*p <= ' ' || *p == 127 || (*p & 0x80))
			return "a path has no spaces, control characters or letters beyond ASCII "
			       "(write %XX)";
		if (*p == '#' || *p == '*')
			return "a path is a plain prefix, without '*' or '#'";
	}
	return NULL;
}

const char *text_route_path(char *text)
{
	size_t len = strlen(text);
	const char *why = check_path(text);

	if (why)
		return why;
	if (len > 1023)
		return "a path has at most 1,023 characters";
	if (strchr(text, '?'))
		return "a path is a plain prefix, without '?'";
	if (strstr(text, "//") || strstr(text, "/./") || strstr(text, "/../"))
		return "a path has no empty, '.' or '..' parts";
	if (len > 1 && text[len - 1] == '/')
		text[len - 1] = '\0'; /* "/api/" means "/api": whole segments match */
	return NULL;
}

const char *text_health_path(char *text)
{
	return check_path(text);
}

/* --- addresses --- */

/* Splits "host:port" at the last colon; brackets of IPv6 are taken off. */
static bool split_port(const char *text, char host[256], bool *ret_v6)
{
	const char *colon = strrchr(text, ':');
	size_t len = colon ? (size_t)(colon - text) : 0;
	uint32_t port = 0;

	if (!colon || !len || len > 255 || !colon[1] || strlen(colon + 1) > 5)
		return false;
	for (const char *p = colon + 1; *p; p++) {
		if (!isdigit((unsigned char)*p))
			return false;
		port = port * 10 + (uint32_t)(*p - '0');
	}
	if (port < 1 || port > 65535)
		return false;
	*ret_v6 = text[0] == '[' && text[len - 1] == ']';
	if (*ret_v6) {
		text++;
		len -= 2;
	}
	memcpy(host, text, len);
	host[len] = '\0';
	return true;
}

static bool numeric(const char *host, bool v6)
{
	unsigned char addr[16];

	return inet_pton(v6 ? AF_INET6 : AF_INET, host, addr) == 1;
}

const char *text_listen(char *text)
{
	char host[256];
	bool v6;

	if (!split_port(text, host, &v6))
		return "an address is like 0.0.0.0:8080 or [::]:8080, with a port from 1 to 65535";
	if (!numeric(host, v6))
		return "an address to listen on is given in numbers, like 127.0.0.1:8080, "
		       "0.0.0.0:8080 "
		       "or [::]:8080";
	return NULL;
}

const char *text_file(char *text)
{
	return text[strlen(text) - 1] == '/' ? "this is a folder; expected a file" : NULL;
}

const char *text_admin(char *text)
{
	return strcmp(text, "off") == 0 ? NULL : text_listen(text);
}

const char *text_target(char *text)
{
	char host[256];
	bool v6;

	if (strncmp(text, "unix:", 5) == 0) {
		if (text[5] != '/')
			return "a unix socket is given by its whole path: unix:/run/app.sock";
		if (strlen(text + 5) >= sizeof(((struct sockaddr_un *)0)->sun_path))
			return "the path of a unix socket has at most 107 characters";
		return NULL;
	}
	if (text[0] == '/')
		return "a unix socket is written unix:/PATH";
	if (strstr(text, "://"))
		return "a target stands without http://, as ADDRESS:PORT";
	if (!split_port(text, host, &v6))
		return "a target is like 127.0.0.1:9001, [::1]:9001, name:9001 or "
		       "unix:/run/app.sock";
	if (numeric(host, v6))
		return NULL;
	if (v6)
		return "this is no IPv6 address";
	if (only(host, ".") && !host[strspn(host, "0123456789.")])
		return "this is no IPv4 address";
	for (char *p = host; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return strchr(host, '*') ? "a target is one address, without '*'" : check_labels(host);
}

const char *text_network(char *text)
{
	char host[64];
	const char *slash = strchr(text, '/');
	size_t len = slash ? (size_t)(slash - text) : strlen(text);
	bool v6 = strchr(text, ':') != NULL;
	unsigned bits = 0;

	if (len >= sizeof(host))
		return "a network is like 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32";
	memcpy(host, text, len);
	host[len] = '\0';
	if (!numeric(host, v6))
		return "a network is like 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32";
	if (!slash)
		return NULL;
	if (!slash[1] || strlen(slash + 1) > 3)
		return "after '/' stands the number of bits";
	for (const char *p = slash + 1; *p; p++) {
		if (!isdigit((unsigned char)*p))
			return "after '/' stands the number of bits";
		bits = bits * 10 + (unsigned)(*p - '0');
	}
	return bits > (v6 ? 128u : 32u) ? "that is more bits than the address has" : NULL;
}
