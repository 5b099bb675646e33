/* SPDX-License-Identifier: Apache-2.0
 *
 * Certificates by themselves: what `tls: auto` of an app needs, and for which names each of them is. A name that
 * two apps share (with different paths) is asked for once, by the first of them. What no public authority could
 * issue over HTTP is said here, not after a failed try.
 */
#include <arpa/inet.h>
#include <ctype.h>
#include <string.h>

#include "conf/read.h"

#define LETS_ENCRYPT "https://acme-v02.api.letsencrypt.org/directory"
#define LETS_ENCRYPT_STAGING "https://acme-staging-v02.api.letsencrypt.org/directory"

const char *conf_acme_url(const struct conf *c)
{
	return strcmp(c->acme_server, "letsencrypt") == 0 ? LETS_ENCRYPT
	       : strcmp(c->acme_server, "staging") == 0   ? LETS_ENCRYPT_STAGING
							  : c->acme_server;
}

const char *text_acme_server(char *text)
{
	if (strcmp(text, "letsencrypt") == 0 || strcmp(text, "staging") == 0)
		return NULL;
	if (strncmp(text, "https://", 8) != 0 || !isalnum((unsigned char)text[8]))
		return "expected letsencrypt, staging, or the URL of an ACME directory (https://...)";
	for (const char *p = text; *p; p++)
		if (*p <= ' ' || *p == 127 || (*p & 0x80))
			return "a URL has no spaces, control characters or letters beyond ASCII";
	return NULL;
}

/* It becomes a part of mailto: (RFC 6068) and an argument of a command. */
const char *text_mail(char *text)
{
	const char *at = strchr(text, '@');

	if (!at || at == text || !at[1] || strchr(at + 1, '@') || !isalnum((unsigned char)text[0]))
		return "expected an address such as ops@example.org";
	for (const char *p = text; *p; p++)
		if (!isalnum((unsigned char)*p) && !strchr("@.-_+", *p))
			return "an address has letters, digits and . - _ +";
	return NULL;
}

/* Why nobody would issue a certificate for it over HTTP; NULL: somebody might. */
static const char *wrong_name(const char *host)
{
	struct in_addr v4;

	if (host[0] == '*')
		return "a wildcard cannot be proven over HTTP (it would take DNS); name each host, or use "
		       "'certificates'";
	if (host[0] == '[' || inet_pton(AF_INET, host, &v4) == 1)
		return "an address is no name; give the host a name, or use 'certificates'";
	if (!strchr(host, '.'))
		return "a name without a dot is known to nobody outside";
	if (strchr(host, '_'))
		return "no authority takes a name with '_'";
	return NULL;
}

struct autos {
	struct conf *conf;
	struct conf_problems *problems;
	struct map names; /* hash -> the app that has it */
};

static const struct tree_node *place_of(const struct tree_node *hosts, uint32_t i, uint32_t count)
{
	const struct tree_node *n = hosts->value;

	if (n->kind != TREE_LIST || n->len != count)
		return n;
	for (n = n->first; i; n = n->next)
		i--;
	return n;
}

static void gather(struct autos *a, const struct conf_app *app, const struct tree_node *key)
{
	const struct tree_node *hosts = tree_key(key->value, "hosts"), *tls = tree_key(key->value, "tls");
	struct conf_auto *to = &a->conf->autos[a->conf->auto_count];

	*to = (struct conf_auto){.app = app};
	for (uint32_t i = 0; i < app->hosts.len; i++) {
		const char *host = app->hosts.items[i], *why = wrong_name(host);
		const struct tree_node *at = hosts ? place_of(hosts, i, app->hosts.len) : tls;
		uint64_t hash = map_hash(host, strlen(host));

		if (why)
			problem_error(a->problems, at->line, at->column, "app '%s': tls: auto: '%.100s': %s", app->name,
				      host, why);
		if (why || map_get(&a->names, hash))
			continue;
		map_put(&a->names, hash, (void *)app);
		list_add_text(&to->names, host, strlen(host));
	}
	if (to->names.len > CONF_AUTO_NAMES_MAX)
		problem_error(a->problems, tls->line, tls->column,
			      "app '%s': tls: auto: %u hosts; one certificate has %u at most. Make several apps of it",
			      app->name, to->names.len, CONF_AUTO_NAMES_MAX);
	a->conf->auto_count += to->names.len > 0;
}

/* Where users and the authority come in. */
static void check_listen(struct autos *a, const struct tree_node *root, const struct tree_node *tls, const char *app)
{
	const struct tree_node *listen = tree_key(root, "listen");
	bool http = false, port80 = false;

	for (uint32_t i = 0; i < a->conf->listen.len; i++) {
		http |= !a->conf->listen_more[i].tls;
		port80 |= !a->conf->listen_more[i].tls && strcmp(strrchr(a->conf->listen.items[i], ':'), ":80") == 0;
	}
	if (!conf_https_port(a->conf))
		problem_error(a->problems, tls->line, tls->column,
			      "app '%s': tls: auto: no address in 'listen' has https", app);
	if (!http)
		problem_error(a->problems, listen->line, listen->column,
			      "listen: for tls: auto (app '%s') the authority asks over plain HTTP: add "
			      "'- http: 0.0.0.0:80'", app);
	else if (!port80)
		problem_warn(a->problems, listen ? listen->line : tls->line, listen ? listen->column : tls->column,
			     "for tls: auto (app '%s') the authority asks at port 80, which is not in 'listen': it must "
			     "lead here some other way", app);
}

void check_auto(const struct tree_node *root, struct conf *conf, struct conf_problems *problems)
{
	const struct tree_node *key = tree_key(root, "apps")->value->first, *first = NULL;
	struct autos a = {conf, problems, {0}};
	const char *name = "";

	conf->autos = util_alloc((conf->app_count + 1) * sizeof(*conf->autos));
	for (uint32_t i = 0; i < conf->app_count; i++, key = key->next) {
		const struct conf_app *app = &conf->apps[i];

		if (app->tls != CONF_TLS_AUTO || app->tcp)
			continue;
		if (!first) {
			first = tree_key(key->value, "tls");
			name = app->name;
		}
		gather(&a, app, key);
	}
	map_free(&a.names);
	if (!first)
		return;
	check_listen(&a, root, first, name);
	if (!conf->acme_agree)
		problem_error(problems, first->line, first->column,
			      "app '%s': tls: auto: say that you agree to the terms of service of %s: 'acme: { agree: true }' "
			      "at the top", name, conf_acme_url(conf));
	if (conf->certificate_count + conf->auto_count > CONF_CERTIFICATES_MAX)
		problem_error(problems, first->line, first->column,
			      "%u certificates, %u of them by tls: auto; %u are possible",
			      conf->certificate_count + conf->auto_count, conf->auto_count, CONF_CERTIFICATES_MAX);
}
