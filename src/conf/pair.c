/* SPDX-License-Identifier: Apache-2.0
 *
 * PEM is read whole into memory first, so that a file that changes meanwhile is one thing or another;
 * what held a key is wiped before it is freed.
 */
#include "conf/pair.h"

#include <ctype.h>
#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509v3.h>
#include <string.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "conf/problems.h"
#include "conf/read.h"

struct bytes {
	char *p;
	size_t len;
};

static void bytes_fini(struct bytes *b)
{
	if (b->p)
		OPENSSL_cleanse(b->p, b->len);
	free(b->p);
}

static int read_file(const char *path, struct bytes *ret, bool *ret_readable, struct err *e)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, "cannot read %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_INPUT, "cannot read %s: it is no file", path);
	*ret_readable = st.st_mode & S_IROTH;
	ret->p = util_alloc(PAIR_BYTES_MAX + 1);
	while (ret->len <= PAIR_BYTES_MAX) {
		ssize_t n = read(fd, ret->p + ret->len, PAIR_BYTES_MAX + 1 - ret->len);

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "cannot read %s", path);
		if (n == 0)
			return 0;
		ret->len += (size_t)n;
	}
	return err_set(e, ERR_INPUT, "%s is longer than %u MiB", path, PAIR_BYTES_MAX >> 20);
}

/* OpenSSL would ask at the terminal. */
static int no_pass_phrase(char *room UNUSED, int size UNUSED, int writing UNUSED, void *arg)
{
	*(bool *)arg = true;
	return -1;
}

/* The reason that OpenSSL gives, in its words; the queue is empty afterwards. */
static const char *ssl_reason(void)
{
	const char *text = ERR_reason_error_string(ERR_peek_last_error());

	ERR_clear_error();
	return text ? text : "it is malformed";
}

static void free_chain(STACK_OF(X509) **chain)
{
	sk_X509_pop_free(*chain, X509_free);
}

static void free_key(EVP_PKEY **key)
{
	EVP_PKEY_free(*key);
}

static void free_ctx(SSL_CTX **ctx)
{
	SSL_CTX_free(*ctx);
}

static int read_chain(const char *path, STACK_OF(X509) *chain, struct err *e)
{
	CLEANUP(bytes_fini) struct bytes text = {0};
	bool readable, asked = false;
	unsigned long end;
	X509 *x;
	BIO *bio;

	if (read_file(path, &text, &readable, e) < 0)
		return -(int)e->code;
	bio = BIO_new_mem_buf(text.p, (int)text.len);
	ensure(bio);
	while ((x = PEM_read_bio_X509(bio, NULL, no_pass_phrase, &asked)) && sk_X509_num(chain) < PAIR_CHAIN_MAX)
		sk_X509_push(chain, x);
	BIO_free(bio);
	end = ERR_peek_last_error();
	if (x) {
		X509_free(x);
		return err_set(e, ERR_INPUT, "%s has more than %d certificates", path, PAIR_CHAIN_MAX);
	}
	if (ERR_GET_LIB(end) != ERR_LIB_PEM || ERR_GET_REASON(end) != PEM_R_NO_START_LINE)
		return err_set(e, ERR_INPUT, "%s: certificate %d cannot be read: %s", path,
			       sk_X509_num(chain) + 1, ssl_reason());
	ERR_clear_error();
	if (!sk_X509_num(chain))
		return err_set(e, ERR_INPUT, "%s has no certificate (expected PEM: -----BEGIN CERTIFICATE-----)",
			       path);
	for (int i = 1; i < sk_X509_num(chain); i++)
		if (X509_check_issued(sk_X509_value(chain, i), sk_X509_value(chain, i - 1)) != X509_V_OK)
			return err_set(e, ERR_INPUT,
				       "%s: the chain is not in order: certificate %d was not issued by "
				       "certificate %d; the server's own comes first, then who issued it",
				       path, i, i + 1);
	return 0;
}

static int read_key(const char *path, EVP_PKEY **ret, bool *ret_readable, struct err *e)
{
	CLEANUP(bytes_fini) struct bytes text = {0};
	bool asked = false;
	BIO *bio;

	if (read_file(path, &text, ret_readable, e) < 0)
		return -(int)e->code;
	bio = BIO_new_mem_buf(text.p, (int)text.len);
	ensure(bio);
	*ret = PEM_read_bio_PrivateKey(bio, NULL, no_pass_phrase, &asked);
	BIO_free(bio);
	if (*ret)
		return 0;
	if (asked) {
		ERR_clear_error();
		return err_set(e, ERR_INPUT,
			       "%s: the key has a pass phrase, which nobody is there to give; `openssl pkey` "
			       "writes it without",
			       path);
	}
	return err_set(e, ERR_INPUT, "%s: no private key can be read: %s", path, ssl_reason());
}

static uint64_t time_ms(const ASN1_TIME *t)
{
	struct tm tm;
	time_t s = ASN1_TIME_to_tm(t, &tm) ? timegm(&tm) : 0;

	return s > 0 ? (uint64_t)s * 1000 : 0;
}

/* Letters of host names only: a name with anything else nobody can ask for. */
static bool is_name(const char *text, size_t len)
{
	if (!len || len > 253 || text[0] == '.')
		return false;
	for (size_t i = 0; i < len; i++)
		if (!isalnum((unsigned char)text[i]) && !strchr("-_.", text[i]) &&
		    !(text[i] == '*' && i == 0 && len > 2 && text[1] == '.'))
			return false;
	return true;
}

static void take_names(X509 *x, struct conf_text_list *names)
{
	GENERAL_NAMES *list = X509_get_ext_d2i(x, NID_subject_alt_name, NULL, NULL);

	for (int i = 0; i < sk_GENERAL_NAME_num(list); i++) {
		int type;
		const ASN1_STRING *s = GENERAL_NAME_get0_value(sk_GENERAL_NAME_value(list, i), &type);
		const char *text = type == GEN_DNS ? (const char *)ASN1_STRING_get0_data(s) : NULL;

		if (!text || !is_name(text, (size_t)ASN1_STRING_length(s)))
			continue;
		list_add_text(names, text, (size_t)ASN1_STRING_length(s));
		for (char *c = names->items[names->len - 1]; *c; c++)
			*c = (char)tolower((unsigned char)*c);
	}
	GENERAL_NAMES_free(list);
	ERR_clear_error();
}

static void take_der(STACK_OF(X509) *chain, EVP_PKEY *key, struct pair *ret)
{
	PKCS8_PRIV_KEY_INFO *p8 = EVP_PKEY2PKCS8(key);
	uint8_t *at;

	for (int i = 0; i < sk_X509_num(chain); i++)
		ret->chain_len += (uint32_t)i2d_X509(sk_X509_value(chain, i), NULL);
	at = ret->chain = util_alloc(ret->chain_len);
	for (int i = 0; i < sk_X509_num(chain); i++)
		i2d_X509(sk_X509_value(chain, i), &at);
	ensure(p8);
	ret->key_len = (uint32_t)i2d_PKCS8_PRIV_KEY_INFO(p8, NULL);
	at = ret->key = util_alloc(ret->key_len);
	i2d_PKCS8_PRIV_KEY_INFO(p8, &at);
	PKCS8_PRIV_KEY_INFO_free(p8);
}

/* Would a server of ours take them? Keys that are too short or of an unknown kind are found here. */
static int try_out(const char *cert, STACK_OF(X509) *chain, EVP_PKEY *key, struct err *e)
{
	CLEANUP(free_ctx) SSL_CTX *ctx = SSL_CTX_new(TLS_server_method());
	CLEANUP(free_chain) STACK_OF(X509) *rest = sk_X509_dup(chain);
	X509 *own = sk_X509_value(chain, 0);

	for (int i = 0; rest && i < sk_X509_num(rest); i++)
		X509_up_ref(sk_X509_value(rest, i));
	if (!ctx || !rest)
		return err_set(e, ERR_SYS, "no memory to look at %s", cert);
	SSL_CTX_set_security_level(ctx, 2);
	X509_free(sk_X509_shift(rest));
	if (SSL_CTX_use_cert_and_key(ctx, own, key, rest, 1) != 1)
		return err_set(e, ERR_INPUT, "%s cannot be used: %s", cert, ssl_reason());
	return 0;
}

int pair_load(const char *cert, const char *key, struct pair *ret, struct err *e)
{
	CLEANUP(free_chain) STACK_OF(X509) *chain = sk_X509_new_null();
	CLEANUP(free_key) EVP_PKEY *private = NULL;
	X509 *own;

	/* Nothing is to be read but what is named here. */
	OPENSSL_init_ssl(OPENSSL_INIT_NO_LOAD_CONFIG | OPENSSL_INIT_NO_ATEXIT, NULL);
	ERR_clear_error();
	ensure(chain);
	if (read_chain(cert, chain, e) < 0 || read_key(key, &private, &ret->readable, e) < 0)
		return -(int)e->code;
	own = sk_X509_value(chain, 0);
	if (X509_check_private_key(own, private) != 1) {
		ERR_clear_error();
		return err_set(e, ERR_INPUT, "the key in %s does not belong to the certificate in %s", key, cert);
	}
	if (try_out(cert, chain, private, e) < 0)
		return -(int)e->code;
	ret->from_ms = time_ms(X509_get0_notBefore(own));
	ret->until_ms = time_ms(X509_get0_notAfter(own));
	take_names(own, &ret->names);
	take_der(chain, private, ret);
	return 0;
}

bool pair_copy(const uint8_t *chain, uint32_t chain_len, const uint8_t *key, uint32_t key_len, struct pair *ret)
{
	const uint8_t *at = chain;
	X509 *own = d2i_X509(NULL, &at, chain_len);

	if (!own) {
		ERR_clear_error();
		return false;
	}
	*ret = (struct pair){.chain_len = chain_len, .key_len = key_len,
			     .from_ms = time_ms(X509_get0_notBefore(own)),
			     .until_ms = time_ms(X509_get0_notAfter(own))};
	take_names(own, &ret->names);
	X509_free(own);
	ret->chain = memcpy(util_alloc(chain_len), chain, chain_len);
	ret->key = memcpy(util_alloc(key_len), key, key_len);
	return true;
}

void pair_fini(struct pair *p)
{
	if (p->key)
		OPENSSL_cleanse(p->key, p->key_len);
	free(p->key);
	free(p->chain);
	list_free_texts(&p->names);
	*p = (struct pair){0};
}

void pair_path(const struct conf *c, const char *path, char *ret, size_t size)
{
	const char *slash = strrchr(c->path, '/');

	if (path[0] == '/' || !slash)
		snprintf(ret, size, "%s", path);
	else
		snprintf(ret, size, "%.*s/%s", (int)(slash - c->path), c->path, path);
}

static void say_times(const struct conf_certificate *row, const struct pair *p, uint64_t now_ms, bool in_force,
		      const char *cert, struct conf_problems *problems)
{
	char when[CLOCK_TEXT], span[CLOCK_TEXT];

	if (p->until_ms <= now_ms)
		(in_force ? problem_warn : problem_error)(problems, row->line, row->column,
							  "certificate %.200s has expired: %s", cert,
							  clock_text(p->until_ms, when));
	else if (p->from_ms > now_ms)
		(in_force ? problem_warn : problem_error)(problems, row->line, row->column,
							  "certificate %.200s is valid only from %s on", cert,
							  clock_text(p->from_ms, when));
	else if (p->until_ms - now_ms < PAIR_WARN_MS)
		problem_warn(problems, row->line, row->column, "certificate %.200s expires in %s: %s", cert,
			     clock_span(p->until_ms - now_ms, span), clock_text(p->until_ms, when));
}

void pair_load_all(const struct conf *c, uint64_t now_ms,
		   bool (*in_force)(void *arg, const struct conf_certificate *row, const struct pair *p),
		   void *arg, struct pair *ret, struct conf_problems *problems)
{
	for (uint32_t i = 0; i < c->certificate_count; i++) {
		const struct conf_certificate *row = &c->certificates[i];
		uint32_t errors = problems->errors;
		char cert[4400], key[4400];
		struct err e;

		pair_path(c, row->cert, cert, sizeof(cert));
		pair_path(c, row->key, key, sizeof(key));
		if (pair_load(cert, key, &ret[i], &e) < 0) {
			problem_error(problems, row->line, row->column, "certificates: %.300s", e.msg);
			continue;
		}
		say_times(row, &ret[i], now_ms, in_force && in_force(arg, row, &ret[i]), cert, problems);
		if (problems->errors > errors)
			pair_fini(&ret[i]);
		else if (ret[i].readable)
			problem_warn(problems, row->line, row->column,
				     "%.200s: everyone on this machine can read the key; chmod 600 it", key);
	}
}
