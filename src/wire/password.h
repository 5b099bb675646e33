/* SPDX-License-Identifier: Apache-2.0
 *
 * Passwords of basic authentication (RFC 7617), as a salted SHA-256.
 *
 * The router computes one for each request, on the thread that carries everyone's: a hash that is slow
 * on purpose would let anyone stop all apps by sending wrong passwords, and a cache of right ones does
 * not help against that. So the hash is fast, and passwords must be long: `upstate password` takes none
 * below PASSWORD_LEAST characters. Guessing through the router is bounded by the app's rate.
 */
#pragma once

#include "base/util.h"

#define PASSWORD_LEAST 12u
#define PASSWORD_MOST 256u
#define PASSWORD_SALT 16u
#define PASSWORD_HASH 32u
#define PASSWORD_TEXT 105u /* "sha256:SALT:HASH" in hex digits, NUL included */

/* Once for each thread that checks; false: no memory. */
struct password_hasher {
	void *md, *ctx; /* EVP_MD, EVP_MD_CTX */
};
bool password_init(struct password_hasher *h);
void password_fini(struct password_hasher *h);

void password_write(struct password_hasher *h, const uint8_t salt[PASSWORD_SALT], const char *password,
		    size_t len, char ret[PASSWORD_TEXT]);
/* Is it the one of this text? Takes as long for a wrong as for the right one; false for a text that is
 * none, after the same work. */
bool password_is(struct password_hasher *h, const char *text, size_t text_len, const char *password,
		 size_t len);

/* Takes the value of an Authorization field apart. Writes name and password, each with its NUL, into ret;
 * false when it is no basic authentication, or longer than can be right. */
#define PASSWORD_BASIC 512u
bool password_basic(const char *field, size_t len, char ret[PASSWORD_BASIC], const char **ret_password,
		    size_t *ret_len);
