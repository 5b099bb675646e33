/* SPDX-License-Identifier: Apache-2.0
 *
 * The texts of devices and their checks: URLs, addresses, thresholds, statuses, paths into JSON.
 */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "conf/schema.h"
#include "core/threshold.h"

static bool printable(const char *text)
{
	for (; *text; text++)
		if ((unsigned char)*text < ' ' || *text == 127)
			return false;
	return true;
}

const char *text_url(char *text)
{
	const char *host = strncasecmp(text, "https://", 8) == 0  ? text + 8
			   : strncasecmp(text, "http://", 7) == 0 ? text + 7
								  : NULL;

	if (!host)
		return "a URL begins with http:// or https://";
	if (!*host || strchr("/?#:", *host))
		return "after :// stands a host";
	for (const char *p = text; *p; p++)
		if (*p <= ' ' || *p == 127 || (*p & 0x80) || strchr("\"<>\\^`{|}", *p))
			return "a URL has no spaces, quotes, backslashes or letters beyond ASCII (write %XX)";
	if (memchr(host, '@', strcspn(host, "/?#")))
		return "a URL stands without a user: name them in 'headers: {Authorization: ...}'";
	return NULL;
}

const char *text_address(char *text)
{
	const char *colon = strrchr(text, ':'), *end;
	char *rest;
	unsigned long port;

	if (!colon || colon == text || !isdigit((unsigned char)colon[1]))
		return "expected HOST:PORT";
	port = strtoul(colon + 1, &rest, 10);
	if (*rest || !port || port > 65535)
		return "a port is a number from 1 to 65535";
	if (text[0] == '[') {
		end = strchr(text, ']');
		return end && end + 1 == colon ? NULL : "an IPv6 address stands in brackets: [::1]:80";
	}
	for (const char *p = text; p < colon; p++)
		if (!isalnum((unsigned char)*p) && !strchr("-._", *p))
			return "a host has letters, digits, '.' and '-'; an IPv6 address stands in brackets";
	return NULL;
}

const char *text_period(char *text)
{
	uint64_t ms;

	return conf_duration(text, &ms) && ms >= 1000 && ms <= 366 * 86400000ull ? NULL : "expected a time from 1s to 366d, as 25h";
}

const char *text_secret(char *text)
{
	if (strlen(text) < 16)
		return "a secret has 16 characters at least";
	for (const char *p = text; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("-._~", *p))
			return "a secret has letters, digits and any of -._~, since it stands in a URL";
	return NULL;
}

const char *text_host_name(char *text)
{
	for (const char *p = text; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("-._:", *p))
			return "expected the name of a host, or its address";
	return NULL;
}

const char *text_domain(char *text)
{
	for (const char *p = text; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("-._*", *p))
			return "expected a name like example.org";
	return NULL;
}

const char *text_server(char *text)
{
	size_t host = strspn(text, "0123456789.");

	if (text[0] == '[' || (strchr(text, ':') && strchr(text, ':') != strrchr(text, ':')))
		host = strspn(text, "0123456789abcdefABCDEF:.[]"); /* IPv6 */
	if (!host || (text[host] && text[host] != ':') || strspn(text + host, ":0123456789") != strlen(text + host))
		return "expected ADDRESS, or ADDRESS:PORT: 10.0.0.53, [2001:db8::53]:5353";
	return NULL;
}

const char *text_version(char *text)
{
	return text[0] == '/' && text[1] != '/' ? NULL : text_url(text);
}

const char *text_measure(char *text)
{
	static const char *const words[] = {"load", "cpu", "memory", "swap"};

	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		if (strcmp(text, words[i]) == 0)
			return NULL;
	if (strncmp(text, "disk /", 6) == 0 || strncmp(text, "inodes /", 8) == 0)
		return NULL;
	return "expected load, cpu, memory, swap, 'disk PATH' or 'inodes PATH'";
}

const char *text_program(char *text)
{
	return printable(text) && !strchr(text, '/') ? NULL : "expected the name of a program, without its folder";
}

const char *text_label(char *text)
{
	return printable(text) ? NULL : "a name is one line";
}

const char *text_absolute(char *text)
{
	return text[0] == '/' ? NULL : "expected a path that begins with /";
}

const char *text_statuses(char *text)
{
	const char *p = text;

	for (;;) {
		unsigned from = 0, to = 0;
		int n = 0;

		if (sscanf(p, " %3u - %3u%n", &from, &to, &n) < 2 || !n) {
			n = 0;
			if (sscanf(p, " %3u%n", &from, &n) < 1)
				break;
			to = from;
		}
		if (from < 100 || to > 599 || from > to)
			break;
		p += n;
		p += strspn(p, " ");
		if (!*p)
			return NULL;
		if (*p++ != ',')
			break;
	}
	return "expected statuses like 200, or 200-299, 301";
}

const char *text_check_field(char *text)
{
	for (const char *p = text; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("!#$%&'*+-.^_`|~", *p))
			return "the name of a field has letters, digits and '-', and no space or ':'";
	return NULL;
}

const char *text_expect_header(char *text)
{
	char *colon = strchr(text, ':');
	const char *why;

	if (!colon || colon == text)
		return "expected 'NAME: TEXT'";
	*colon = '\0';
	why = text_check_field(text);
	*colon = ':';
	return why;
}

const char *text_json_path(char *text)
{
	size_t len = strlen(text);

	if (text[0] == '.' || text[len - 1] == '.' || strstr(text, ".."))
		return "a path into JSON has keys and indexes with one dot between: data.nodes.0";
	return printable(text) ? NULL : "a path into JSON is one line";
}

const char *text_threshold(char *text)
{
	static struct err e; /* one thread reads configurations, and says what is wrong at once */
	struct threshold t;

	return threshold_parse(text, &t, &e) < 0 ? e.msg : NULL;
}
