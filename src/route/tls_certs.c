/* SPDX-License-Identifier: Apache-2.0
 *
 * The certificates that the keeper handed over: taken up by the main thread, asked during handshakes
 * by the others. A ticket's key is found by its name; one that is not the newest is understood, and
 * the client gets a new ticket with it (RFC 5077, 5.5). So sessions outlive this process.
 */
#include "route/tls_priv.h"

#include <openssl/core_names.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/rand.h>
#include <openssl/x509.h>
#include <sys/mman.h>
#include <sys/stat.h>

static void free_pair(struct tls_pair *p)
{
	X509_free(p->own);
	sk_X509_pop_free(p->chain, X509_free);
	EVP_PKEY_free(p->key);
}

struct tls_certs *tls_certs_ref(struct tls_certs *x)
{
	atomic_fetch_add(&x->refs, 1);
	return x;
}

void tls_certs_unref(struct tls_certs *x)
{
	if (!x || atomic_fetch_sub(&x->refs, 1) != 1)
		return;
	for (uint32_t i = 0; i < x->block->pair_count; i++)
		free_pair(&x->pairs[i]);
	free(x->pairs);
	munmap((void *)x->block, x->size);
	free(x);
}

static bool parse(const struct certs *block, const struct certs_pair *from, struct tls_pair *to)
{
	const uint8_t *at = certs_bytes(block, from->chain), *end = at + from->chain_len;
	const uint8_t *key = certs_bytes(block, from->key);
	X509 *x;

	to->own = d2i_X509(NULL, &at, end - at);
	to->chain = sk_X509_new_null();
	while (to->own && to->chain && at < end && (x = d2i_X509(NULL, &at, end - at)))
		sk_X509_push(to->chain, x);
	to->key = d2i_AutoPrivateKey(NULL, &key, from->key_len);
	return to->own && to->chain && at == end && to->key && X509_check_private_key(to->own, to->key) == 1;
}

static const struct certs *map(int fd, size_t *ret_size, struct err *e)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0 || st.st_size <= 0) {
		err_set(e, ERR_CORRUPT, "the certificates are empty");
		return NULL;
	}
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED) {
		err_sys(e, "mapping the certificates");
		return NULL;
	}
	madvise(p, (size_t)st.st_size, MADV_DONTDUMP);
	*ret_size = (size_t)st.st_size;
	if (certs_check(p, *ret_size, e) == 0)
		return p;
	munmap(p, *ret_size);
	return NULL;
}

struct tls_certs *tls_certs_take(int fd, struct err *e)
{
	struct tls_certs *x;
	size_t size;
	const struct certs *block = map(fd, &size, e);

	if (!block)
		return NULL;
	x = util_alloc(sizeof(*x));
	x->refs = 1;
	x->block = block;
	x->size = size;
	x->pairs = util_alloc(block->pair_count * sizeof(*x->pairs));
	for (uint32_t i = 0; i < block->pair_count; i++) {
		if (parse(block, &certs_pairs(block)[i], &x->pairs[i]))
			continue;
		ERR_clear_error();
		err_set(e, ERR_CORRUPT, "certificate %u of %u cannot be used", i + 1, block->pair_count);
		tls_certs_unref(x);
		return NULL;
	}
	return x;
}

/* The client has said whom it wants to talk to (SNI). Not called for sessions that are resumed. */
static int on_cert(SSL *ssl, void *arg)
{
	struct tls_thread *tt = arg;
	const char *host = SSL_get_servername(ssl, TLSEXT_NAMETYPE_host_name);
	const struct tls_pair *p = &tt->certs->pairs[host ? certs_find(tt->certs->block, host, strlen(host)) : 0];

	return SSL_use_cert_and_key(ssl, p->own, p->key, p->chain, 1);
}

static bool set_up(const struct tls_thread *tt, const struct certs_ticket *k, const uint8_t *iv,
		   EVP_CIPHER_CTX *cipher, EVP_MAC_CTX *mac, bool seal)
{
	OSSL_PARAM params[] = {
	    OSSL_PARAM_construct_octet_string(OSSL_MAC_PARAM_KEY, (void *)k->mac, sizeof(k->mac)),
	    OSSL_PARAM_construct_utf8_string(OSSL_MAC_PARAM_DIGEST, (char *)"SHA256", 0),
	    OSSL_PARAM_construct_end()};

	return EVP_CipherInit_ex(cipher, tt->ticket_cipher, NULL, k->cipher, iv, seal) == 1 &&
	       EVP_MAC_CTX_set_params(mac, params) == 1;
}

/* SSL_CTX_set_tlsext_ticket_key_evp_cb(3): 1 goes on, 2 goes on with a new ticket, 0 has no such key. */
static int on_ticket(SSL *ssl, unsigned char name[16], unsigned char *iv, EVP_CIPHER_CTX *cipher,
		     EVP_MAC_CTX *mac, int seal)
{
	const struct tls_thread *tt = SSL_CTX_get_app_data(SSL_get_SSL_CTX(ssl));
	const struct certs_ticket *keys = tt->certs->block->tickets;

	if (seal) {
		if (!keys[0].made_ms || RAND_bytes(iv, EVP_CIPHER_get_iv_length(tt->ticket_cipher)) != 1)
			return -1;
		memcpy(name, keys[0].name, sizeof(keys[0].name));
		return set_up(tt, &keys[0], iv, cipher, mac, true) ? 1 : -1;
	}
	for (int i = 0; i < CERTS_TICKETS; i++) {
		if (!keys[i].made_ms || memcmp(name, keys[i].name, sizeof(keys[i].name)) != 0)
			continue;
		if (!set_up(tt, &keys[i], iv, cipher, mac, false))
			return -1;
		/* In 1.3 a client uses each ticket once (RFC 8446, C.4): it needs the next. */
		return i || SSL_version(ssl) == TLS1_3_VERSION ? 2 : 1;
	}
	return 0;
}

bool tls_certs_serve(struct tls_thread *tt)
{
	tt->ticket_cipher = EVP_CIPHER_fetch(NULL, "AES-256-CBC", NULL);
	SSL_CTX_set_app_data(tt->ctx, tt);
	SSL_CTX_set_cert_cb(tt->ctx, on_cert, tt);
	return tt->ticket_cipher && SSL_CTX_set_tlsext_ticket_key_evp_cb(tt->ctx, on_ticket) == 1;
}
