/* SPDX-License-Identifier: Apache-2.0
 *
 * TLS over a client's socket, as a layer (struct conn_layer); the socket's side is in tls_socket.c.
 *
 * The loop is edge-triggered, and either direction may have to wait for the other (a key update is
 * answered while reading; RFC 8446, 4.6.3):
 *
 *	recv wants to write	recv says EAGAIN, `writable` goes; the event of room makes it `readable`
 *	send wants to read	send says EAGAIN; the event of bytes makes it `writable`
 *
 * A connection that ends without close_notify was cut by someone on the way (RFC 8446, 6.1): that is an
 * error here and not an end, so that a tunnel's half is not taken for the whole.
 */
#include "route/tls_priv.h"

#include <openssl/err.h>

#define SESSION_S 86400 /* a session may be resumed; tickets' keys go sooner or a little later */

/* ECDHE and AEAD only (RFC 9325, 4.2); ChaCha20 for clients that put it first, as those without AES do. */
#define CIPHERS_12                                                                                 \
	"ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256:"                               \
	"ECDHE-ECDSA-AES256-GCM-SHA384:ECDHE-RSA-AES256-GCM-SHA384:"                               \
	"ECDHE-ECDSA-CHACHA20-POLY1305:ECDHE-RSA-CHACHA20-POLY1305"
/* As above: 128 bits are enough (RFC 8446, 9.1), and SHA-256, which processors know, makes the keys. */
#define CIPHERS_13 "TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"

/* --- the layer --- */

/* What a call of OpenSSL that gave nothing comes to: 0 is the end, -1 with errno as of the socket. */
static int gave_nothing(struct conn *c, int result, bool *wants_other)
{
	struct tls *s = c->layer_state;
	int why = SSL_get_error(s->ssl, result);
	bool reading = wants_other == &s->recv_wants_out;

	if (why == SSL_ERROR_ZERO_RETURN)
		return 0;
	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
		*wants_other = (why == SSL_ERROR_WANT_WRITE) == reading;
		if (why == SSL_ERROR_WANT_WRITE)
			conn_want_out(c);
		errno = EAGAIN;
		return -1;
	}
	s->failed = true;
	ERR_clear_error();
	errno = s->error ? s->error : s->ended ? ECONNRESET : EPROTO;
	return -1;
}

static ssize_t layer_recv(struct conn *c, void *p, size_t room)
{
	struct tls *s = c->layer_state;
	int n;

	if (s->failed) {
		errno = s->error ? s->error : ECONNRESET;
		return -1;
	}
	n = SSL_read(s->ssl, p, (int)MIN(room, (size_t)INT32_MAX));
	if (n <= 0)
		return gave_nothing(c, n, &s->recv_wants_out);
	/* Bytes that OpenSSL holds raise no event: only without any is there nothing to read. */
	if (s->drained && !SSL_has_pending(s->ssl))
		c->readable = false;
	return n;
}

/* The pieces as one record, so that a short answer is one, and one write. */
static size_t join(struct tls_thread *tt, const struct iovec *v, size_t n)
{
	size_t len = 0;

	for (size_t i = 0; i < n && len < TLS_RECORD; i++) {
		size_t more = MIN(v[i].iov_len, TLS_RECORD - len);

		memcpy(tt->joined + len, v[i].iov_base, more);
		len += more;
	}
	return len;
}

static ssize_t layer_send(struct conn *c, const struct iovec *v, size_t n)
{
	struct tls *s = c->layer_state;
	const void *p = v[0].iov_base;
	size_t len = MIN(v[0].iov_len, (size_t)TLS_RECORD);
	int sent;

	if (s->failed || s->said_end) {
		errno = EPIPE;
		return -1;
	}
	if (n > 1 && v[0].iov_len < TLS_RECORD) {
		len = join(c->t->tls, v, n);
		p = c->t->tls->joined;
	}
	if (!len)
		return 0;
	/* After EAGAIN the same bytes come again: the pieces stay as they were until they are out. */
	sent = SSL_write(s->ssl, p, (int)len);
	if (sent > 0)
		return sent;
	if (gave_nothing(c, sent, &s->send_wants_in) == 0)
		errno = EPIPE;
	return -1;
}

static int say_end(struct conn *c)
{
	struct tls *s = c->layer_state;
	int result;

	if (s->said_end || s->failed || !s->done)
		return 0;
	result = SSL_shutdown(s->ssl);
	if (result < 0 && gave_nothing(c, result, &s->send_wants_in) < 0 && errno == EAGAIN)
		return -1;
	s->said_end = true;
	ERR_clear_error();
	return 0;
}

/* close_notify is the end of this direction (RFC 8446, 6.1); the socket need not say it again. */
static int layer_shut(struct conn *c)
{
	struct tls *s = c->layer_state;

	return s->failed ? shutdown(c->io.fd, SHUT_WR) : say_end(c);
}

static void layer_close(struct conn *c, bool reset)
{
	struct tls *s = c->layer_state;

	/* We owe an end to whoever waits for it (RFC 8446, 6.1). Who has said its own and ended the socket
	 * as well has none left, as a rule: what we would send is met by a reset. */
	if (!reset && c->io.fd >= 0 && !(s->half_closed && SSL_get_shutdown(s->ssl) & SSL_RECEIVED_SHUTDOWN))
		say_end(c);
	SSL_free(s->ssl);
	s->ssl = NULL;
	buffer_put(c->t, &s->held);
	if (!pool_put(&c->t->tls->pool, s))
		free(s);
	c->layer = NULL;
	c->layer_state = NULL;
}

static void layer_note(struct conn *c, uint32_t events)
{
	struct tls *s = c->layer_state;

	if (events & (EPOLLIN | EPOLLRDHUP | EPOLLHUP | EPOLLERR)) {
		s->drained = false;
		s->half_closed = s->half_closed || events & (EPOLLRDHUP | EPOLLHUP);
		if (s->send_wants_in)
			c->writable = true;
		s->send_wants_in = false;
	}
	if (s->recv_wants_out && c->writable) {
		s->recv_wants_out = false;
		c->readable = true;
	}
}

static const struct conn_layer layer = {layer_recv, layer_send, layer_shut, layer_close, layer_note};

/* --- the handshake --- */

int tls_open(struct conn *c)
{
	struct tls_thread *tt = c->t->tls;
	struct tls *s = tt ? pool_get(c->t, &tt->pool) : NULL;

	if (!s)
		return -1;
	*s = (struct tls){.ssl = SSL_new(tt->ctx)};
	if (!s->ssl || !tls_socket_open(c, s->ssl)) {
		shm_add(&c->t->n->no_memory, 1);
		SSL_free(s->ssl);
		free(s);
		ERR_clear_error();
		return -1;
	}
	SSL_set_accept_state(s->ssl);
	c->layer = &layer;
	c->layer_state = s;
	return 0;
}

static void count_failure(struct conn *c, const struct tls *s)
{
	unsigned long e = ERR_peek_error();
	int reason = ERR_GET_LIB(e) == ERR_LIB_SSL ? ERR_GET_REASON(e) : 0;
	struct shm_thread *n = c->t->n;

	switch (reason) {
	case SSL_R_NO_SHARED_CIPHER:
	case SSL_R_NO_SUITABLE_KEY_SHARE:
	case SSL_R_NO_SUITABLE_SIGNATURE_ALGORITHM:
	case SSL_R_NO_APPLICATION_PROTOCOL:
	case SSL_R_UNSUPPORTED_PROTOCOL:
	case SSL_R_VERSION_TOO_LOW:
	case SSL_R_INAPPROPRIATE_FALLBACK:
		shm_add(&n->tls_unshared, 1);
		break;
	default:
		/* An alert of the client is above SSL_AD_REASON_OFFSET: it was the one to end it. */
		if (s->error || s->ended || !reason || reason >= SSL_AD_REASON_OFFSET)
			shm_add(&n->tls_left, 1);
		else
			shm_add(&n->tls_garbage, 1);
	}
	log_debug("tls.failed", "reason=\"%s\"", reason ? ERR_reason_error_string(e) : "the client left");
}

static enum tls_step not_done(struct conn *c, int result)
{
	struct tls *s = c->layer_state;
	int why = SSL_get_error(s->ssl, result);
	unsigned long e = ERR_peek_error();

	if (why == SSL_ERROR_WANT_READ || why == SSL_ERROR_WANT_WRITE) {
		if (why == SSL_ERROR_WANT_READ)
			c->readable = false;
		else
			conn_want_out(c);
		return TLS_WAIT;
	}
	s->failed = true;
	if (ERR_GET_LIB(e) == ERR_LIB_SSL && ERR_GET_REASON(e) == SSL_R_HTTP_REQUEST) {
		shm_add(&c->t->n->tls_garbage, 1);
		layer_close(c, true);
		c->readable = true;
		ERR_clear_error();
		return TLS_PLAIN;
	}
	count_failure(c, s);
	ERR_clear_error();
	return TLS_FAILED;
}

enum tls_step tls_greet(struct conn *c)
{
	struct tls *s = c->layer_state;
	int result = SSL_do_handshake(s->ssl);

	if (result != 1)
		return not_done(c, result);
	s->done = true;
	shm_add(&c->t->n->tls_handshakes, 1);
	if (SSL_session_reused(s->ssl))
		shm_add(&c->t->n->tls_resumed, 1);
	ERR_clear_error(); /* of what was tried on the way */
	c->readable = !s->drained || SSL_has_pending(s->ssl);
	return TLS_DONE;
}

void tls_late(struct conn *c)
{
	shm_add(&c->t->n->tls_late, 1);
}

/* --- what is spoken inside (ALPN, RFC 7301) --- */

/* In our order of preference, as SSL_select_next_proto(3) wants it. */
static const unsigned char offered[] = "\x02h2\x08http/1.1";

static int on_alpn(SSL *ssl, const unsigned char **ret, unsigned char *ret_len, const unsigned char *theirs,
		   unsigned theirs_len, void *arg)
{
	const struct thread *t = arg;
	unsigned skip = t->table->limits.streams ? 0 : 3;
	int found = SSL_select_next_proto((unsigned char **)ret, ret_len, offered + skip,
					  (unsigned)sizeof(offered) - 1 - skip, theirs, theirs_len);

	if (found != OPENSSL_NPN_NEGOTIATED)
		return SSL_TLSEXT_ERR_ALERT_FATAL;
	/* A ticket is for one connection (RFC 8446, C.4). HTTP/1.1 has some side by side, and gets two. */
	if (*ret_len == 2)
		SSL_set_num_tickets(ssl, 1);
	return SSL_TLSEXT_ERR_OK;
}

enum tls_protocol tls_protocol(const struct conn *c)
{
	const struct tls *s = c->layer_state;
	const unsigned char *agreed;
	unsigned len;

	SSL_get0_alpn_selected(s->ssl, &agreed, &len);
	return len == 2 && memcmp(agreed, "h2", 2) == 0 ? TLS_H2 : TLS_HTTP1;
}

/* --- once for all, once for each thread --- */

void tls_init(void)
{
	/* Configuration file and engines would be looked for when there are no files any more. */
	OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL);
}

static bool set_rules(SSL_CTX *ctx, struct thread *t)
{
	SSL_CTX_set_options(ctx, SSL_OP_NO_RENEGOTIATION | SSL_OP_NO_COMPRESSION | SSL_OP_CIPHER_SERVER_PREFERENCE |
				     SSL_OP_PRIORITIZE_CHACHA);
	SSL_CTX_set_mode(ctx, SSL_MODE_RELEASE_BUFFERS | SSL_MODE_ENABLE_PARTIAL_WRITE |
				  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF); /* tickets only: nothing is kept here */
	SSL_CTX_set_timeout(ctx, SESSION_S);
	SSL_CTX_set_read_ahead(ctx, 1);
	SSL_CTX_set_security_level(ctx, 2);
	SSL_CTX_set_alpn_select_cb(ctx, on_alpn, t);
	return SSL_CTX_set_min_proto_version(ctx, TLS1_2_VERSION) == 1 &&
	       SSL_CTX_set_cipher_list(ctx, CIPHERS_12) == 1 && SSL_CTX_set_ciphersuites(ctx, CIPHERS_13) == 1 &&
	       SSL_CTX_set1_groups_list(ctx, "X25519:P-256:P-384") == 1 &&
	       SSL_CTX_set_session_id_context(ctx, (const unsigned char *)"upstate", 7) == 1;
}

static void start(struct thread *t)
{
	struct tls_thread *tt = util_alloc(sizeof(*tt));

	tt->pool.size = sizeof(struct tls);
	tt->ctx = SSL_CTX_new(TLS_server_method());
	ensure(tt->ctx && set_rules(tt->ctx, t) && tls_socket_init(tt) && tls_certs_serve(tt));
	t->tls = tt;
}

void tls_thread_take(struct thread *t, struct tls_certs *x)
{
	struct tls_certs *before;
	struct listener *l;

	if (!t->tls)
		start(t);
	before = t->tls->certs;
	t->tls->certs = x;
	tls_certs_unref(before);
	LIST_EACH (l, &t->listeners, in_thread)
		listener_obey(l); /* some may have waited for the first ones */
}
