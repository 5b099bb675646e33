/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the files about certificates by themselves:
 *
 *	acme.c		when, for whom, and what becomes of it
 *	acme_auto.c	one of them: its tries, when it is due, its status
 *	acme_key.c	keys, the request for a certificate, the file with both
 *	acme_run.c	uacme, with no right that it does not need
 */
#pragma once

#include <openssl/evp.h>

#include "control/control_priv.h"

static inline void acme_key_freep(EVP_PKEY **key)
{
	EVP_PKEY_free(*key); /* wipes it */
}

/* acme_auto.c */

/* When the next try is due, as core/renew.h says. */
uint64_t acme_due(const struct control_cert *row, uint64_t now_ms);
/* Writes down what is known of its tries, and why the last one failed. That this is not possible stops nothing: then it
 * is known as long as this process lives. */
void acme_remember(struct control *c, const struct control_auto *a, const char *reason);

/* acme_key.c. What holds a key in it is to be wiped by its owner: acme_wipe(). */

/* Reads the key of our account, DIR/acme/account.pem, or makes it: as PEM in ret_pem, and its thumbprint. */
int acme_account(const char *dir, struct buf *ret_pem, char ret_thumbprint[ACME_THUMBPRINT], struct err *e);
EVP_PKEY *acme_key_new(void); /* P-256 */
/* A request for a certificate with these names (RFC 2986), as PEM. */
int acme_request(EVP_PKEY *key, const json_t *names, struct buf *ret, struct err *e);
/* Puts the key and the chain (PEM, as it came) into one file, so that they change in one step, if they are a pair
 * for the names that is valid now. What is wrong leaves the file that was there. */
int acme_install(const char *path, EVP_PKEY *key, const char *chain, size_t len, const json_t *names, struct err *e);
/* What users are shown when there is no certificate at all: signed by itself, for no name. */
int acme_placeholder(struct pair *ret, struct err *e);
/* Does the certificate have all these names? */
bool acme_has_names(const json_t *has, const json_t *names);
void acme_wipe(struct buf *b);

/* acme_run.c */

/* Makes the folder that uacme works in, with the account's key and the request. Returns its descriptor. */
int acme_folder(const char *dir, const struct buf *account, const struct buf *request, struct err *e);
/* Starts uacme with these arguments (argv[0] is its name) in that folder. Its output comes out of *ret_out. It ends
 * with this process. */
pid_t acme_start(int folder, char *const *argv, int *ret_out, struct err *e);
/* The chain that it wrote. */
int acme_result(int folder, struct buf *ret, struct err *e);
/* Of what it printed, the reason why it failed, as a sentence for people. */
void acme_reason(const char *said, char *ret, size_t size);
