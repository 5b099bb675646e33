/* SPDX-License-Identifier: Apache-2.0
 *
 * Keys, requests and files of certificates that are got by themselves. uacme itself is tried in test/e2e.
 */
#include "unit.h"

#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "control/acme_priv.h"

static struct err e;
static char dir[] = "/tmp/acme-XXXXXX";

static json_t *names(const char *a, const char *b)
{
	return b ? json_pack("[s, s]", a, b) : json_pack("[s]", a);
}

static const char *path_of(const char *name)
{
	static char path[100];

	snprintf(path, sizeof(path), "%s/%s", dir, name);
	return path;
}

/* What an authority would answer to the request: signed by itself, for `days` from `from` on. */
static void sign(EVP_PKEY *key, const char *alt, int from, int days, struct buf *ret)
{
	X509 *x = X509_new();
	X509_NAME *name = X509_get_subject_name(x);
	X509_EXTENSION *ext = X509V3_EXT_conf_nid(NULL, NULL, NID_subject_alt_name, alt);
	BIO *bio = BIO_new(BIO_s_mem());
	char *p;

	assert_true(X509_set_version(x, 2) && X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC, (uint8_t *)"x", 1, -1, 0));
	assert_true(X509_set_issuer_name(x, name) && X509_add_ext(x, ext, -1) && X509_set_pubkey(x, key));
	X509_time_adj_ex(X509_getm_notBefore(x), from, 0, NULL);
	X509_time_adj_ex(X509_getm_notAfter(x), from + days, 0, NULL);
	assert_true(X509_sign(x, key, EVP_sha256()) > 0 && PEM_write_bio_X509(bio, x) == 1);
	buf_add(ret, p, (size_t)BIO_get_mem_data(bio, &p));
	BIO_free(bio);
	X509_EXTENSION_free(ext);
	X509_free(x);
}

static void the_account_is_made_once_and_for_nobody_else(void **state UNUSED)
{
	CLEANUP(acme_wipe) struct buf first = {0}, second = {0}, third = {0};
	char a[ACME_THUMBPRINT], b[ACME_THUMBPRINT];
	struct stat st;

	assert_int_equal(acme_account(dir, &first, a, &e), 0);
	assert_int_equal(acme_account(dir, &second, b, &e), 0);
	assert_string_equal(a, b);
	assert_int_equal(strlen(a), 43); /* 256 bits */
	assert_string_equal(buf_str(&first), buf_str(&second));
	assert_int_equal(stat(path_of("acme/account.pem"), &st), 0);
	assert_int_equal(st.st_mode & 0777, 0600);
	assert_int_equal(truncate(path_of("acme/account.pem"), 20), 0);
	assert_int_equal(acme_account(dir, &third, b, &e), -ERR_INPUT);
	assert_non_null(strstr(e.msg, "another account is made"));
	assert_int_equal(unlink(path_of("acme/account.pem")), 0);
}

/* The key of RFC 7517, A.2, as PKCS #8, and its thumbprint as other software computes it. */
#define KEY \
	"MIGHAgEAMBMGByqGSM49AgEGCCqGSM49AwEHBG0wawIBAQQg870MB6gfuTJ4HtUn\n" \
	"UvYMyJpr5eUZNP4Bk43bVdj3eAGhRANCAAQwoEJM0hwpRIOKLXXJKzfnbqINnwCJ\n" \
	"OjtO7oo8Cq/sPuBLZekkVtmIi1Kzeb371R7oae8fD8ZbZllpW2zOCBcj\n"
#define THUMBPRINT "cn-I_WNMClehiVp51i_0VpOENW1upEerA8sEam5hn-s"

static void the_thumbprint_is_that_of_rfc_7638(void **state UNUSED)
{
	static const char pem[] = "-----BEGIN PRIVATE KEY-----\n" KEY "-----END PRIVATE KEY-----\n";
	CLEANUP(acme_wipe) struct buf got = {0};
	char a[ACME_THUMBPRINT];
	FILE *f;

	mkdir(path_of("acme"), 0700);
	f = fopen(path_of("acme/account.pem"), "w");
	assert_true(f && fputs(pem, f) >= 0 && fclose(f) == 0);
	assert_int_equal(acme_account(dir, &got, a, &e), 0);
	assert_string_equal(a, THUMBPRINT);
	assert_int_equal(unlink(path_of("acme/account.pem")), 0);
}

static void a_request_has_all_names_and_its_key(void **state UNUSED)
{
	EVP_PKEY *key = acme_key_new();
	CLEANUP(json_decrefp) json_t *two = names("a.test", "b.test");
	CLEANUP_BUF struct buf b = {0};
	X509_REQ *r;
	STACK_OF(X509_EXTENSION) *list;
	GENERAL_NAMES *alt;
	BIO *bio;

	assert_int_equal(acme_request(key, two, &b, &e), 0);
	bio = BIO_new_mem_buf(b.data, (int)b.len);
	r = PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
	assert_true(r && X509_REQ_verify(r, key) == 1);
	list = X509_REQ_get_extensions(r);
	alt = X509V3_get_d2i(list, NID_subject_alt_name, NULL, NULL);
	assert_int_equal(sk_GENERAL_NAME_num(alt), 2);
	assert_null(strstr(buf_str(&b), "PRIVATE"));
	GENERAL_NAMES_free(alt);
	sk_X509_EXTENSION_pop_free(list, X509_EXTENSION_free);
	X509_REQ_free(r);
	BIO_free(bio);
	EVP_PKEY_free(key);
}

static uint64_t serves_until(const char *path)
{
	CLEANUP(pair_fini) struct pair p = {0};

	assert_int_equal(pair_load(path, path, &p, &e), 0);
	assert_false(p.readable);
	return p.until_ms;
}

static void only_what_serves_takes_the_place_of_what_is_there(void **state UNUSED)
{
	static const struct {
		const char *alt;
		int from, days;
		bool other_key;
		const char *said;
	} wrong[] = {{"DNS:a.test", 0, 9, false, "lacks a name"},
		     {"DNS:a.test,DNS:b.test", 0, 9, true, "does not belong"},
		     {"DNS:a.test,DNS:b.test", -20, 9, false, "expired"},
		     {"DNS:a.test,DNS:b.test", 2, 9, false, "valid only from"},
		     {NULL, 0, 0, false, "no certificate"}};
	CLEANUP(json_decrefp) json_t *two = names("b.test", "a.test");
	EVP_PKEY *key = acme_key_new(), *other = acme_key_new();
	CLEANUP_BUF struct buf good = {0};
	char path[100];
	uint64_t until;

	snprintf(path, sizeof(path), "%s", path_of("web.pem"));
	sign(key, "DNS:a.test,DNS:b.test,DNS:c.test", -1, 30, &good);
	assert_int_equal(acme_install(path, key, good.data, good.len, two, &e), 0);
	until = serves_until(path);
	for (size_t i = 0; i < ARRAY_LEN(wrong); i++) {
		CLEANUP_BUF struct buf b = {0};

		if (wrong[i].alt)
			sign(key, wrong[i].alt, wrong[i].from, wrong[i].days, &b);
		assert_true(acme_install(path, wrong[i].other_key ? other : key, buf_str(&b), b.len, two, &e) < 0);
		print_message("%s\n", e.msg);
		assert_non_null(strstr(e.msg, wrong[i].said));
		assert_int_equal(serves_until(path), until);
		assert_int_equal(access(path_of("web.pem.trial"), F_OK), -1);
	}
	assert_int_equal(acme_install(path_of("none/web.pem"), key, good.data, good.len, two, &e), -ERR_SYS);
	assert_int_equal(unlink(path), 0);
	EVP_PKEY_free(key);
	EVP_PKEY_free(other);
}

static void what_stands_in_is_for_no_name(void **state UNUSED)
{
	CLEANUP(pair_fini) struct pair p = {0};

	assert_int_equal(acme_placeholder(&p, &e), 0);
	assert_int_equal(p.names.len, 0);
	assert_true(p.chain_len && p.key_len && p.until_ms > clock_wall_ms());
}

static void says(const char *said, const char *reason)
{
	char text[300];

	acme_reason(said, text, sizeof(text));
	assert_string_equal(text, reason);
}

static void the_reason_is_the_servers_own(void **state UNUSED)
{
	char lone[400];

	says("uacme: challenge https://x/1 failed with status invalid\nuacme: the server reported the following error:\n"
	     "{\n    \"type\": \"urn:ietf:params:acme:error:connection\",\n    \"detail\": \"Get \\\"http://b.test/\\\": refused\",\n"
	     "    \"status\": 400\n}\nuacme: failed to authorize order\n",
	     "Get 'http://b.test/': refused");
	says("uacme: hello\nuacme: curl_get: GET https://x failed: Couldn't connect\nuacme: it failed again\n",
	     "curl_get: GET https://x failed: Couldn't connect");
	says("uacme: Account already exists\n", "Account already exists");
	says("{\"detail\": 7} \x01", "{'detail': 7}  ");
	says("", "uacme did not say why");
	memset(lone, 'x', sizeof(lone));
	lone[sizeof(lone) - 1] = '\0';
	lone[297] = (char)0xc3, lone[298] = (char)0xa4;
	lone[299] = '\0';
	acme_reason(lone, lone, 299);
	assert_int_equal(strlen(lone), 297); /* no half character */
}

static void names_are_compared_as_sets(void **state UNUSED)
{
	CLEANUP(json_decrefp) json_t *ab = names("a.test", "b.test"), *ba = names("b.test", "a.test"), *a = names("a.test", NULL);

	assert_true(acme_has_names(ab, ba) && acme_has_names(ab, a));
	assert_false(acme_has_names(a, ab) || acme_has_names(NULL, a));
}

static int setup(void **state UNUSED)
{
	return mkdtemp(dir) ? 0 : -1;
}

static int teardown(void **state UNUSED)
{
	rmdir(path_of("acme"));
	return rmdir(dir);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(the_account_is_made_once_and_for_nobody_else),
	    cmocka_unit_test(the_thumbprint_is_that_of_rfc_7638),
	    cmocka_unit_test(a_request_has_all_names_and_its_key),
	    cmocka_unit_test(only_what_serves_takes_the_place_of_what_is_there),
	    cmocka_unit_test(what_stands_in_is_for_no_name),
	    cmocka_unit_test(the_reason_is_the_servers_own),
	    cmocka_unit_test(names_are_compared_as_sets),
	};

	return cmocka_run_group_tests(tests, setup, teardown);
}
