/* SPDX-License-Identifier: Apache-2.0
 *
 * The texts of policies: names and values of fields, where redirects lead, users.
 */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "conf/schema.h"

/* --- fields --- */

/* RFC 9110, 5.6.2 */
static bool is_token(const char *text)
{
	for (const char *p = text; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("!#$%&'*+-.^_`|~", *p))
			return false;
	return *text;
}

static bool is_among(const char *name, const char *const *names)
{
	for (; *names; names++) {
		const char *a = name, *b = *names;

		/* Servers that hand fields on as variables take '_' for '-'. */
		while (*a && (tolower((unsigned char)*a) == *b || (*a == '_' && *b == '-')))
			a++, b++;
		if (!*a && !*b)
			return true;
	}
	return false;
}

static const char *check_field(const char *name)
{
	static const char *const connection[] = {
	    "connection", "content-length", "transfer-encoding", "upgrade",	      "te",
	    "trailer",	  "keep-alive",	    "proxy-connection",	 "http2-settings", NULL};

	if (!is_token(name))
		return "the name of a field has letters, digits and '-', and no space or ':'";
	if (strlen(name) > 100)
		return "the name of a field has at most 100 characters";
	if (is_among(name, connection))
		return "this field belongs to the connection or the framing: Upstate sets it itself";
	return NULL;
}

const char *text_request_field(char *text)
{
	static const char *const ours[] = {"host",
					   "expect",
					   "forwarded",
					   "x-forwarded-for",
					   "x-forwarded-proto",
					   "x-forwarded-host",
					   "x-request-id",
					   "traceparent",
					   "tracestate",
					   NULL};
	const char *why = check_field(text);

	if (why)
		return why;
	return is_among(text, ours) ? "Upstate says this itself to the app (see trusted_proxies)" : NULL;
}

const char *text_answer_field(char *text)
{
	return check_field(text);
}

const char *text_field_value(char *text)
{
	size_t len = strlen(text);

	for (const char *p = text; *p; p++)
		if (((unsigned char)*p < ' ' && *p != '\t') || *p == 127)
			return "the value of a field is one line";
	if (len > 2000)
		return "the value of a field has at most 2,000 characters";
	if (isspace((unsigned char)text[0]) || (len && isspace((unsigned char)text[len - 1])))
		return "the value of a field neither begins nor ends with a space";
	return NULL;
}

/* --- redirects --- */

static const char *check_place(const char *text)
{
	for (const char *p = text; *p; p++) {
		if (*p <= ' ' || *p == 127 || (*p & 0x80) || strchr("\"<>\\^`{|}", *p))
			return "a path has no spaces, quotes, backslashes or letters beyond ASCII (write %XX)";
		if (*p == '*' && p[1])
			return "'*' can only stand at the end";
	}
	return NULL;
}

const char *text_redirect_from(char *text)
{
	if (text[0] != '/')
		return "a path begins with '/'";
	if (strpbrk(text, "?#"))
		return "a path stands without '?' or '#'";
	return check_place(text);
}

const char *text_redirect_to(char *text)
{
	const char *host = NULL, *path;

	if (strncasecmp(text, "https://", 8) == 0)
		host = text + 8;
	else if (strncasecmp(text, "http://", 7) == 0)
		host = text + 7;
	if (!host && (text[0] != '/' || text[1] == '/'))
		return "it is a path like /new, or begins with https:// or http://";
	if (host) {
		path = host + strcspn(host, "/?#");
		if (path == host || strcspn(host, "@*") < (size_t)(path - host))
			return "after :// stands a host, and '*' only behind a '/' after it";
		if (strchr(text, '*') && *path != '/')
			return "'*' stands behind the '/' that ends the host";
	}
	if (strchr(text, '*') && strpbrk(text, "?#"))
		return "a path with '*' stands without '?' or '#'";
	return check_place(text);
}

bool text_redirect_loops(const char *from, const char *to)
{
	size_t n = strlen(from);
	bool below = from[n - 1] == '*';

	return to[0] == '/' && (below ? strncmp(from, to, n - 1) == 0 : strcmp(from, to) == 0);
}

/* --- users --- */

static bool is_hex(const char *p, size_t n)
{
	for (size_t i = 0; i < n; i++)
		if (!isdigit((unsigned char)p[i]) && !(p[i] >= 'a' && p[i] <= 'f'))
			return false;
	return true;
}

/* As wire/password.h writes it: NAME:sha256:SALT:HASH, 32 and 64 digits. */
const char *text_user(char *text)
{
	const char *colon = strchr(text, ':');

	if (!colon || colon == text || colon - text > 64 || strlen(colon) != 105 ||
	    strncmp(colon, ":sha256:", 8) != 0 || !is_hex(colon + 8, 32) || colon[40] != ':' ||
	    !is_hex(colon + 41, 64))
		return "a user is written as `upstate password NAME` prints it: NAME:sha256:SALT:HASH";
	for (const char *p = text; p < colon; p++)
		if ((unsigned char)*p < ' ' || *p == 127)
			return "the name of a user has no control characters";
	return NULL;
}

const char *text_realm(char *text)
{
	for (const char *p = text; *p; p++)
		if (*p < ' ' || *p == 127 || (*p & 0x80) || *p == '"' || *p == '\\')
			return "a realm has letters, digits and spaces, and no quotes";
	return NULL;
}

/* --- which target --- */

static bool key_header(char *text)
{
	if (strncasecmp(text, "header ", 7) != 0 || !is_token(text + 7) || strlen(text + 7) > 100)
		return false;
	for (char *p = text; *p; p++)
		*p = (char)tolower((unsigned char)*p);
	return true;
}

const char *text_key_by(char *text)
{
	return strcmp(text, "address") == 0 || key_header(text) ? NULL
								: "expected 'address' or 'header NAME'";
}

const char *text_balance(char *text)
{
	if (strcmp(text, "least") == 0 || strcmp(text, "hash address") == 0 ||
	    strcmp(text, "hash path") == 0 || (strncmp(text, "hash ", 5) == 0 && key_header(text + 5)))
		return NULL;
	return "expected 'least', 'hash address', 'hash path' or 'hash header NAME'";
}

/* Becomes "0", "1", or stays the name of a cookie. */
const char *text_sticky(char *text)
{
	static const char *const no[] = {"false", "no", "off", NULL}, *const yes[] = {"true", "yes", "on", NULL};

	if (is_among(text, no) || is_among(text, yes))
		memcpy(text, is_among(text, no) ? "0" : "1", 2);
	return is_token(text) ? NULL : "the name of a cookie has letters, digits, '-' and '_'";
}
