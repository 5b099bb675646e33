/* SPDX-License-Identifier: Apache-2.0
 *
 * The keys are made here and not by uacme: so the process that speaks with the world never has the key of a
 * certificate, and the thumbprint of the account is known before anything is asked for. Each certificate has a new key.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/rand.h>
#include <openssl/sha.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "control/acme_priv.h"

#define ACCOUNT_MAX 8192u
#define PLACEHOLDER_DAYS 3650

static void free_bio(BIO **bio)
{
	BIO_free(*bio);
}

static void free_request(X509_REQ **r)
{
	X509_REQ_free(*r);
}

static void free_cert(X509 **x)
{
	X509_free(*x);
}

void acme_wipe(struct buf *b)
{
	if (b->data)
		explicit_bzero(b->data, b->cap);
	buf_free(b);
}

static int crypto_err(struct err *e, const char *doing)
{
	const char *why = ERR_reason_error_string(ERR_peek_last_error());

	ERR_clear_error();
	return err_set(e, ERR_SYS, "%s: %s", doing, why ? why : "no memory");
}

EVP_PKEY *acme_key_new(void)
{
	return EVP_EC_gen("P-256");
}

static void take_bio(BIO *bio, struct buf *ret)
{
	char *p;
	long n = BIO_get_mem_data(bio, &p);

	buf_add(ret, p, (size_t)n);
	OPENSSL_cleanse(p, (size_t)n);
}

static int key_pem(EVP_PKEY *key, struct buf *ret, struct err *e)
{
	CLEANUP(free_bio) BIO *bio = BIO_new(BIO_s_mem());

	if (!key || !bio || PEM_write_bio_PrivateKey(bio, key, NULL, NULL, 0, NULL, NULL) != 1)
		return crypto_err(e, "making a key");
	take_bio(bio, ret);
	return 0;
}

/* In one step: all of it, or what was there. */
static int replace_file(const char *path, const struct buf *b, struct err *e)
{
	char next[4400];
	CLEANUP_FD int fd = -1;
	bool done;

	snprintf(next, sizeof(next), "%s.new", path);
	fd = open(next, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC | O_NOFOLLOW, 0600);
	done = fd >= 0 && write(fd, b->data, b->len) == (ssize_t)b->len && fsync(fd) == 0;
	return done && rename(next, path) == 0 ? 0 : err_sys(e, "writing %s", path);
}

/* --- the account --- */

static void base64url(const uint8_t *bytes, size_t len, char *ret)
{
	char *end;

	EVP_EncodeBlock((unsigned char *)ret, bytes, (int)len);
	for (end = ret; *end && *end != '='; end++)
		*end = *end == '+' ? '-' : *end == '/' ? '_' : *end;
	*end = '\0';
}

static bool coordinate(EVP_PKEY *key, const char *name, char ret[45])
{
	BIGNUM *n = NULL;
	uint8_t bytes[32];
	bool done = EVP_PKEY_get_bn_param(key, name, &n) == 1 && BN_bn2binpad(n, bytes, sizeof(bytes)) == sizeof(bytes);

	BN_free(n);
	if (done)
		base64url(bytes, sizeof(bytes), ret);
	return done;
}

/* RFC 7638, 3: the members that are required, in order, without a space. */
static int thumbprint(EVP_PKEY *key, char ret[ACME_THUMBPRINT], struct err *e)
{
	uint8_t hash[SHA256_DIGEST_LENGTH];
	char x[45], y[45], jwk[200];

	if (EVP_PKEY_get_bits(key) != 256 || !coordinate(key, OSSL_PKEY_PARAM_EC_PUB_X, x) ||
	    !coordinate(key, OSSL_PKEY_PARAM_EC_PUB_Y, y)) {
		ERR_clear_error();
		return err_set(e, ERR_INPUT, "the account's key is not of P-256");
	}
	snprintf(jwk, sizeof(jwk), "{\"crv\":\"P-256\",\"kty\":\"EC\",\"x\":\"%s\",\"y\":\"%s\"}", x, y);
	SHA256((uint8_t *)jwk, strlen(jwk), hash);
	base64url(hash, sizeof(hash), ret);
	return 0;
}

static int read_account(const char *path, struct buf *ret, struct err *e)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	char *room = buf_room(ret, ACCOUNT_MAX);
	ssize_t n = fd >= 0 && room ? read(fd, room, ACCOUNT_MAX) : -1;

	if (n < 0)
		return err_sys(e, "cannot read %s", path);
	ret->len = (size_t)n;
	return 0;
}

int acme_account(const char *dir, struct buf *ret_pem, char ret_thumbprint[ACME_THUMBPRINT], struct err *e)
{
	CLEANUP(acme_key_freep) EVP_PKEY *key = NULL;
	CLEANUP(free_bio) BIO *bio = NULL;
	char path[600];

	snprintf(path, sizeof(path), "%s/acme", dir);
	if (mkdir(path, 0700) < 0 && errno != EEXIST)
		return err_sys(e, "making %s", path);
	snprintf(path, sizeof(path), "%s/acme/account.pem", dir);
	if (access(path, F_OK) < 0 && errno == ENOENT) {
		CLEANUP(acme_key_freep) EVP_PKEY *fresh = acme_key_new();

		if (key_pem(fresh, ret_pem, e) < 0 || replace_file(path, ret_pem, e) < 0)
			return -(int)e->code;
	} else if (read_account(path, ret_pem, e) < 0) {
		return -(int)e->code;
	}
	bio = BIO_new_mem_buf(ret_pem->data, (int)ret_pem->len);
	key = bio ? PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)"") : NULL;
	if (!key || thumbprint(key, ret_thumbprint, e) < 0) {
		crypto_err(e, "no key");
		return err_set(e, ERR_INPUT, "%s holds no key of P-256; move it away, and another account is made", path);
	}
	return 0;
}

/* --- a certificate --- */

static X509_EXTENSION *names_extension(const json_t *names)
{
	CLEANUP_BUF struct buf text = {0};
	const json_t *name;
	size_t i;

	json_array_foreach (names, i, name)
		buf_addf(&text, "%sDNS:%s", i ? "," : "", json_string_value(name));
	return X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, buf_str(&text));
}

int acme_request(EVP_PKEY *key, const json_t *names, struct buf *ret, struct err *e)
{
	CLEANUP(free_request) X509_REQ *r = X509_REQ_new();
	CLEANUP(free_bio) BIO *bio = BIO_new(BIO_s_mem());
	STACK_OF(X509_EXTENSION) *list = sk_X509_EXTENSION_new_null();
	X509_EXTENSION *x = names_extension(names);
	bool done = key && r && bio && list && x && sk_X509_EXTENSION_push(list, x) > 0;

	done = done && X509_REQ_set_version(r, 0) && X509_REQ_set_pubkey(r, key) && X509_REQ_add_extensions(r, list) &&
	       X509_REQ_sign(r, key, EVP_sha256()) > 0 && PEM_write_bio_X509_REQ(bio, r) == 1;
	sk_X509_EXTENSION_free(list);
	X509_EXTENSION_free(x);
	if (!done)
		return crypto_err(e, "making the request for a certificate");
	take_bio(bio, ret);
	return 0;
}

bool acme_has_names(const json_t *has, const json_t *names)
{
	const json_t *name, *other;
	size_t i, j;

	json_array_foreach (names, i, name) {
		bool found = false;

		json_array_foreach (has, j, other)
			found |= json_equal(name, other);
		if (!found)
			return false;
	}
	return json_array_size(has) > 0;
}

static int check_pair(const struct pair *p, const json_t *names, struct err *e)
{
	CLEANUP(json_decrefp) json_t *has = json_array();
	uint64_t now = clock_wall_ms();
	char when[CLOCK_TEXT];

	for (uint32_t i = 0; i < p->names.len; i++)
		json_array_append_new(has, json_string(p->names.items[i]));
	if (!acme_has_names(has, names))
		return err_set(e, ERR_INPUT, "the certificate that was issued lacks a name that was asked for");
	if (p->until_ms <= now)
		return err_set(e, ERR_INPUT, "the certificate that was issued expired %s: is this machine's clock right?",
			       clock_text(p->until_ms, when));
	if (p->from_ms > now)
		return err_set(e, ERR_INPUT, "the certificate that was issued is valid only from %s: is this machine's clock "
			       "right?", clock_text(p->from_ms, when));
	return 0;
}

int acme_install(const char *path, EVP_PKEY *key, const char *chain, size_t len, const json_t *names, struct err *e)
{
	CLEANUP(acme_wipe) struct buf b = {.max = 2 * PAIR_BYTES_MAX};
	CLEANUP(pair_fini) struct pair p = {0};
	char trial[4400];

	if (key_pem(key, &b, e) < 0)
		return -(int)e->code;
	buf_add(&b, chain, len);
	snprintf(trial, sizeof(trial), "%s.trial", path);
	if (b.failed)
		return err_set(e, ERR_LIMIT, "the certificate is too long");
	if (replace_file(trial, &b, e) < 0)
		return -(int)e->code;
	if (pair_load(trial, trial, &p, e) < 0 || check_pair(&p, names, e) < 0) {
		unlink(trial);
		return -(int)e->code;
	}
	return rename(trial, path) == 0 ? 0 : err_sys(e, "writing %s", path);
}

/* --- when there is none --- */

int acme_placeholder(struct pair *ret, struct err *e)
{
	CLEANUP(acme_key_freep) EVP_PKEY *key = acme_key_new();
	CLEANUP(free_cert) X509 *x = X509_new();
	X509_NAME *name = x ? X509_get_subject_name(x) : NULL;
	CLEANUP_FREE uint8_t *chain = NULL, *own = NULL;
	PKCS8_PRIV_KEY_INFO *p8 = NULL;
	uint64_t serial = 1;
	int chain_len = 0, own_len = 0;
	bool done = key && name && RAND_bytes((uint8_t *)&serial, sizeof(serial)) == 1 && X509_set_version(x, 2) &&
		    ASN1_INTEGER_set_uint64(X509_get_serialNumber(x), serial >> 1) &&
		    X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (const uint8_t *)"Upstate: no certificate yet",
					       -1, -1, 0) &&
		    X509_set_issuer_name(x, name) && X509_gmtime_adj(X509_getm_notBefore(x), -3600) &&
		    X509_time_adj_ex(X509_getm_notAfter(x), PLACEHOLDER_DAYS, 0, NULL) && X509_set_pubkey(x, key) &&
		    X509_sign(x, key, EVP_sha256()) > 0;

	if (done && (p8 = EVP_PKEY2PKCS8(key))) {
		chain_len = i2d_X509(x, &chain);
		own_len = i2d_PKCS8_PRIV_KEY_INFO(p8, &own);
	}
	PKCS8_PRIV_KEY_INFO_free(p8);
	done = chain_len > 0 && own_len > 0 && pair_copy(chain, (uint32_t)chain_len, own, (uint32_t)own_len, ret);
	if (own)
		OPENSSL_cleanse(own, (size_t)own_len);
	return done ? 0 : crypto_err(e, "making a certificate that stands in");
}
