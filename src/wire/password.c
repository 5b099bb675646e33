/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/password.h"

#include <string.h>
#include <strings.h>

#include <openssl/crypto.h>
#include <openssl/evp.h>

#define PREFIX "sha256:"

bool password_init(struct password_hasher *h)
{
	h->md = EVP_MD_fetch(NULL, "SHA256", NULL);
	h->ctx = EVP_MD_CTX_new();
	if (h->md && h->ctx && EVP_DigestInit_ex2(h->ctx, h->md, NULL))
		return true;
	password_fini(h);
	return false;
}

void password_fini(struct password_hasher *h)
{
	EVP_MD_CTX_free(h->ctx);
	EVP_MD_free(h->md);
	*h = (struct password_hasher){0};
}

static void digest(struct password_hasher *h, const uint8_t salt[PASSWORD_SALT], const char *password,
		   size_t len, uint8_t ret[PASSWORD_HASH])
{
	ensure(EVP_DigestInit_ex2(h->ctx, NULL, NULL) && EVP_DigestUpdate(h->ctx, salt, PASSWORD_SALT) &&
	       EVP_DigestUpdate(h->ctx, password, len) && EVP_DigestFinal_ex(h->ctx, ret, NULL));
}

static char *put_hex(char *to, const uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		*to++ = "0123456789abcdef"[p[i] >> 4];
		*to++ = "0123456789abcdef"[p[i] & 15];
	}
	return to;
}

static int digit(char c)
{
	return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
}

static bool take_hex(const char *from, uint8_t *p, size_t n)
{
	for (size_t i = 0; i < n; i++) {
		int high = digit(from[2 * i]), low = digit(from[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		p[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

void password_write(struct password_hasher *h, const uint8_t salt[PASSWORD_SALT], const char *password,
		    size_t len, char ret[PASSWORD_TEXT])
{
	uint8_t hash[PASSWORD_HASH];
	char *to = ret + strlen(PREFIX);

	digest(h, salt, password, len, hash);
	memcpy(ret, PREFIX, strlen(PREFIX));
	to = put_hex(to, salt, PASSWORD_SALT);
	*to++ = ':';
	to = put_hex(to, hash, PASSWORD_HASH);
	*to = '\0';
}

bool password_is(struct password_hasher *h, const char *text, size_t text_len, const char *password,
		 size_t len)
{
	uint8_t salt[PASSWORD_SALT] = {0}, want[PASSWORD_HASH] = {0}, got[PASSWORD_HASH];
	const char *at = text_len == PASSWORD_TEXT - 1 ? text + strlen(PREFIX) : NULL;
	bool good = at && !memcmp(text, PREFIX, strlen(PREFIX)) && take_hex(at, salt, sizeof(salt)) && at[2 * PASSWORD_SALT] == ':' &&
		    take_hex(at + 2 * PASSWORD_SALT + 1, want, sizeof(want));

	digest(h, salt, password, len, got);
	return !CRYPTO_memcmp(want, got, sizeof(got)) && good;
}

/* --- the field --- */

static int value64(char c)
{
	return c >= 'A' && c <= 'Z'   ? c - 'A'
	       : c >= 'a' && c <= 'z' ? c - 'a' + 26
	       : c >= '0' && c <= '9' ? c - '0' + 52
	       : c == '+'	      ? 62
	       : c == '/'	      ? 63
				      : -1;
}

/* RFC 4648, 4; the padding may be missing. Returns the length, or -1. */
static int decode64(const char *p, size_t len, char *ret)
{
	uint32_t bits = 0;
	int n = 0;

	while (len && p[len - 1] == '=' && len > 1)
		len--;
	if (len % 4 == 1)
		return -1;
	for (size_t i = 0; i < len; i++) {
		int v = value64(p[i]);

		if (v < 0)
			return -1;
		bits = bits << 6 | (uint32_t)v;
		if (i % 4)
			ret[n++] = (char)(bits >> (6 - i % 4 * 2));
	}
	return n;
}

bool password_basic(const char *field, size_t len, char ret[PASSWORD_BASIC], const char **ret_password,
		    size_t *ret_len)
{
	const char *end = field + len;
	char *colon;
	int n;

	if (len < 7 || strncasecmp(field, "basic ", 6) != 0)
		return false;
	for (field += 6; field < end && *field == ' '; field++)
		;
	if ((size_t)(end - field) >= PASSWORD_BASIC)
		return false;
	n = decode64(field, (size_t)(end - field), ret);
	colon = n > 0 ? memchr(ret, ':', (size_t)n) : NULL;
	if (!colon || memchr(ret, '\0', (size_t)(colon - ret)))
		return false;
	*colon = '\0';
	*ret_password = colon + 1;
	*ret_len = (size_t)(ret + n - colon - 1);
	ret[n] = '\0';
	return true;
}
