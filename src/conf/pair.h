/* SPDX-License-Identifier: Apache-2.0
 *
 * A certificate with its chain, and its private key, out of two PEM files. What is loaded was checked:
 * the key belongs to the certificate, the chain is in order, OpenSSL takes both for a server. Whether
 * it is valid now is a question of time, and the caller's.
 */
#pragma once

#include "conf/conf.h"

#define PAIR_BYTES_MAX (1u << 20) /* of a file */
#define PAIR_CHAIN_MAX 16	  /* certificates in one */
#define PAIR_WARN_MS (21ull * 86400 * 1000) /* before its end it is time to renew */

struct pair {
	uint8_t *chain, *key; /* DER; the key PKCS #8 */
	uint32_t chain_len, key_len;
	struct conf_text_list names; /* of its subjectAltName, lower case: "example.org", "*.example.org" */
	uint64_t from_ms, until_ms;  /* wall clock */
	bool readable; /* by everyone: the file with the key */
};

/* Reads and checks. ret (zero before) is the caller's, to be given to pair_fini() on success. Errors
 * name the file and what is wrong with it. Never asks for a pass phrase. */
int pair_load(const char *cert, const char *key, struct pair *ret, struct err *e);
void pair_fini(struct pair *p); /* wipes the key */
/* The same out of what was loaded once. False: it is no certificate. */
bool pair_copy(const uint8_t *chain, uint32_t chain_len, const uint8_t *key, uint32_t key_len, struct pair *ret);

/* A path of the configuration as it is to be opened: from its own folder, when it is not absolute. */
void pair_path(const struct conf *c, const char *path, char *ret, size_t size);

/* Loads all that the configuration names: ret[certificate_count]. What is wrong becomes a problem at
 * its row: one that cannot be used or has expired is an error (ret is empty there), one that will soon
 * expire or whose key everyone can read a warning. `in_force`, when not NULL, says that a pair is
 * already shown to users: that it has expired is then a warning too, since to refuse it would change
 * nothing for the better. */
void pair_load_all(const struct conf *c, uint64_t now_ms,
		   bool (*in_force)(void *arg, const struct conf_certificate *row, const struct pair *p),
		   void *arg, struct pair *ret, struct conf_problems *problems);
