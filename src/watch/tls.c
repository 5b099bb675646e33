/* SPDX-License-Identifier: Apache-2.0
 *
 * tls: a handshake at HOST:PORT, and what the certificates say: for this name, from an authority that is trusted, not expired, and
 * not about to. The handshake goes on whatever they say, so that a reason can be given.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>

#include "base/clock.h"
#include "watch/watch_priv.h"

struct tls_run {
	struct watch_conn conn; /* first */
	SSL *ssl;
};

static void tls_cancel(struct watch_check *c)
{
	struct tls_run *run = c->run;

	if (!run)
		return;
	SSL_free(run->ssl);
	watch_conn_close(&run->conn);
	free(run);
	c->run = NULL;
}

/* The authorities of this machine are read once. */
static SSL_CTX *context(const char *ca)
{
	static SSL_CTX *common;
	SSL_CTX *ctx = ca || !common ? SSL_CTX_new(TLS_client_method()) : common;

	if (!ctx || ctx == common)
		return ctx;
	SSL_CTX_set_session_cache_mode(ctx, SSL_SESS_CACHE_OFF);
	if (ca ? SSL_CTX_load_verify_file(ctx, ca) : SSL_CTX_set_default_verify_paths(ctx)) {
		if (!ca)
			common = ctx;
		return ctx;
	}
	SSL_CTX_free(ctx);
	return NULL;
}

static bool is_address(const char *host)
{
	unsigned char any[16];

	return inet_pton(AF_INET, host, any) == 1 || inet_pton(AF_INET6, host, any) == 1;
}

static bool set_name(SSL *ssl, const char *name)
{
	if (is_address(name))
		return X509_VERIFY_PARAM_set1_ip_asc(SSL_get0_param(ssl), name);
	SSL_set_hostflags(ssl, X509_CHECK_FLAG_NO_PARTIAL_WILDCARDS);
	return SSL_set1_host(ssl, name) && SSL_set_tlsext_host_name(ssl, name);
}

static uint64_t end_of(const X509 *x)
{
	struct tm tm = {0};

	if (!ASN1_TIME_to_tm(X509_get0_notAfter(x), &tm))
		return 0;
	return (uint64_t)MAX(timegm(&tm), 0) * 1000;
}

/* The earliest end of those that were shown. */
static uint64_t earliest_end(SSL *ssl)
{
	STACK_OF(X509) *chain = SSL_get_peer_cert_chain(ssl);
	uint64_t earliest = UINT64_MAX;

	for (int i = 0; i < sk_X509_num(chain); i++)
		earliest = MIN(earliest, end_of(sk_X509_value(chain, i)));
	return earliest;
}

static void judge(struct watch_check *c)
{
	struct tls_run *run = c->run;
	double took = watch_took_ms(c);
	uint64_t end = earliest_end(run->ssl), expires = watch_number(c, "expires") * 1000;
	long verified = SSL_get_verify_result(run->ssl);
	char version[16], when[CLOCK_TEXT];

	util_copy(version, sizeof(version), SSL_get_version(run->ssl));
	tls_cancel(c);
	if (verified != X509_V_OK && watch_number(c, "verify"))
		watch_done(c, STATUS_UGLY, took, RESULT_MS_UNIT, "its certificate: %s", X509_verify_cert_error_string(verified));
	else if (end != UINT64_MAX && end < clock_wall_ms() + expires)
		watch_done(c, STATUS_BAD, took, RESULT_MS_UNIT, "its certificate expires %s", clock_text(end, when));
	else
		watch_done(c, STATUS_GOOD, took, RESULT_MS_UNIT, "%s", version);
}

static void shake(struct watch_check *c)
{
	struct tls_run *run = c->run;
	int r, error;
	unsigned long why;

	ERR_clear_error();
	r = SSL_connect(run->ssl);
	if (r == 1) {
		judge(c);
		return;
	}
	error = SSL_get_error(run->ssl, r);
	if (error == SSL_ERROR_WANT_READ || error == SSL_ERROR_WANT_WRITE) {
		loop_io_change(&c->w->loop, &run->conn.io, error == SSL_ERROR_WANT_READ ? EPOLLIN : EPOLLOUT);
		return;
	}
	error = error == SSL_ERROR_SYSCALL ? errno : 0;
	why = ERR_get_error();
	tls_cancel(c);
	if (error)
		watch_failed(c, error, "shaking hands");
	else
		watch_done(c, STATUS_UGLY, NAN, RESULT_NONE_UNIT, "shaking hands: %s",
			   why ? ERR_reason_error_string(why) ?: "it failed" : "it ended the connection");
}

static void on_ready(struct loop_io *io, uint32_t events UNUSED)
{
	shake(container_of(io, struct watch_conn, io)->check);
}

/* The connection is open. */
static void opened(struct watch_check *c)
{
	struct tls_run *run = c->run;
	const char *name = watch_text(c, "server_name");
	SSL_CTX *ctx = context(watch_text(c, "ca"));
	char host[300];
	uint16_t port;

	watch_split(c->what, host, &port);
	run->ssl = ctx ? SSL_new(ctx) : NULL;
	if (watch_text(c, "ca"))
		SSL_CTX_free(ctx); /* the connection keeps it */
	if (!run->ssl || !set_name(run->ssl, name ? name : host) || !SSL_set_fd(run->ssl, run->conn.io.fd)) {
		ERR_clear_error();
		tls_cancel(c);
		watch_done(c, STATUS_UNKNOWN, NAN, RESULT_NONE_UNIT, "the authorities that are trusted cannot be read%s%s",
			   watch_text(c, "ca") ? ": " : "", watch_text(c, "ca") ?: "");
		return;
	}
	c->stage = "shaking hands";
	run->conn.io.on_ready = on_ready;
	shake(c);
}

static void tls_begin(struct watch_check *c)
{
	struct tls_run *run = util_alloc(sizeof(*run));

	c->run = run;
	watch_connect(c, &run->conn, opened);
}

const struct watch_engine watch_tls = {tls_begin, tls_cancel};
