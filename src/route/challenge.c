/* SPDX-License-Identifier: Apache-2.0
 *
 * The challenge http-01 (RFC 8555, 8.3): who is to get a certificate for a name shows that it answers there, with
 * the token it is asked for, a dot, and the thumbprint of its account's key (8.1). The thumbprint stands in the
 * routing table and the token in the question: so nothing has to be told to the router when a certificate is
 * asked for, and whoever asks learns nothing that helps without the key.
 *
 * It comes before everything that an app's operator decided: redirects, maintenance, passwords and rates would keep
 * the certificate away that the app needs.
 */
#include "route/route_priv.h"

bool challenge_answers(struct exchange *x, const struct http1_head *h)
{
	char text[TABLE_TOKEN_MAX + 1 + 64];
	const char *token;
	size_t len;
	int n;

	if (!table_challenge(&x->app->conf, h->path.p, h->path.len, &token, &len))
		return false;
	if (!len || !(h->is_get || h->is_head)) {
		answer_own(x, 404, "this is no challenge of a certificate authority", false);
		return true;
	}
	n = snprintf(text, sizeof(text), "%.*s.%.63s", (int)len, token, table_string(x->t->table, x->t->table->acme));
	answer_bytes(x, text, (uint32_t)n);
	return true;
}
