/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside TLS: certificates as OpenSSL has them, and what a thread needs for its handshakes. Each thread
 * has one SSL_CTX for as long as it lives; which certificate a client gets, and which keys its tickets
 * have, is asked of it during each handshake (tls_certs.c), so new certificates are a swap of one
 * pointer, and a connection that is open holds no more of the old ones than its own.
 */
#pragma once

#include <openssl/ssl.h>

#include "core/certs.h"
#include "route/route_priv.h"

#define TLS_RECORD 16384u /* plain bytes that one holds at most (RFC 8446, 5.1) */

struct tls_certs {
	_Atomic uint32_t refs;
	const struct certs *block; /* mapped; not in dumps */
	size_t size;
	struct tls_pair {
		X509 *own;
		STACK_OF(X509) *chain; /* without it */
		EVP_PKEY *key;
	} *pairs; /* [block->pair_count] */
};

struct tls_thread {
	SSL_CTX *ctx;
	BIO_METHOD *socket;
	EVP_CIPHER *ticket_cipher;
	struct tls_certs *certs;
	struct pool pool;
	char joined[TLS_RECORD]; /* pieces that go out as one record */
};

struct tls {
	SSL *ssl; /* NULL in the pool */
	struct buffer *held; /* tickets, until the bytes come that they go out with */
	bool drained; /* the socket has nothing more, until an event says otherwise */
	bool ended;   /* the socket came to its end */
	bool half_closed; /* likewise, but what came before may not be read yet */
	bool recv_wants_out, send_wants_in;
	bool done, failed, said_end;
	int error; /* errno of the socket */
};

/* tls_socket.c: false: no memory */
bool tls_socket_init(struct tls_thread *tt);
bool tls_socket_open(struct conn *c, SSL *ssl);

/* Has the context ask for certificate and ticket keys. False: no memory. */
bool tls_certs_serve(struct tls_thread *tt);
