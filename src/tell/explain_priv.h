/* SPDX-License-Identifier: Apache-2.0
 *
 * Inside the two halves of explain: explain.c reads the request and finds its app, explain_app.c tells what
 * that would do with it.
 */
#pragma once

#include "tell/tell_priv.h"

struct explain {
	struct call *c;
	const struct table *t;
	const struct table_app *app;
	struct ship_app *ship_app;
	struct http1_head head;
	struct buf text; /* the request */
	uint8_t addr[16]; /* the client's, when `from` is there */
	char url[1024], method[32], from[64], host[256];
	int host_len;
	bool https, trusted;
	json_t *o, *unknown;
};

/* verdict: "send", "wait" or "refuse"; status: what the client gets from Upstate itself, or 0. */
void explain_decide(struct explain *x, const char *verdict, int status, const char *fmt, ...) PRINTF(4, 5);
void explain_unknown(struct explain *x, const char *fmt, ...) PRINTF(2, 3);

/* All need x->app. */
void explain_targets(struct explain *x);
void explain_cases(struct explain *x);
void explain_headers(struct explain *x);
/* explain_policy.c; true: the policy of the app answers, and no target is asked. */
bool explain_policy(struct explain *x);
