/* SPDX-License-Identifier: Apache-2.0
 *
 * Connections of TCP apps. One is an exchange that has no head: it waits, is given a target and is tried
 * elsewhere by the same rules as a request, and is a tunnel as soon as it is connected. Not a byte of
 * it is read before that, so whatever went wrong until then, another target may have it.
 *
 * The bytes are read and written like those of a tunnel. splice() was measured in a relay of nothing else:
 * 12 % less CPU for long streams through a pipe of 64 KiB; for that each connection would have two pipes,
 * and each short message twice the calls.
 *
 * Where a request gets an answer of ours, a connection is reset: there is nothing that both sides
 * would understand.
 */
#include "route/route_priv.h"

#define TCP_STATUS 200 /* of one that was carried, in the numbers */

void tcp_begin(struct client *c, struct app *app)
{
	const struct table_policy *policy = policy_of(app);
	struct exchange *x;

	c->first_us = clock_us();
	x = exchange_new(c);
	if (!x)
		return;
	x->tcp = true;
	x->app = app;
	app->refs++;
	shm_add(&app->n->requests, 1);
	shm_add(&app->n->inflight, 1);
	stream_start(&x->ask, &c->conn, NULL, HTTP1_TUNNEL, 0, false);
	if (policy && policy_resets(x, policy))
		return;
	exchange_route(x);
}

void tcp_connected(struct exchange *x)
{
	x->status = TCP_STATUS;
	x->target_us = clock_us() - x->start_us - x->wait_us;
	stuck_did_well(x->target);
	exchange_answered_by(x);
	tunnel_start(x, false);
}

void tcp_refuse(struct exchange *x, uint16_t status)
{
	x->status = status;
	x->end = ACCESS_OWN;
	count_own(x, status);
	exchange_finish(x, AFTER_RESET);
}

/* Back to where no target had it. */
static void undo_tunnel(struct exchange *x)
{
	shm_sub(&x->app->n->tunnels, 1);
	shm_sub(&x->target->n->tunnels, 1);
	shm_add(&x->app->n->inflight, 1);
	if (x->waited)
		shm_add(&x->app->n->held_now, 1);
	x->app->inside++;
	x->upgraded = false;
	x->status = 0;
	x->answer_target[0] = '\0';
	x->answer_n = NULL;
	x->answer_release = 0;
	x->state = X_CONNECT;
}

/* One side of the tunnel broke (errno): the other one must not take what it got for the whole. But a target
 * that resets a connection on which nothing was said was killed while that stood in its backlog:
 * another one gets it. */
void tcp_broke(struct exchange *x, bool target)
{
	bool untouched = !x->reply.bytes && !x->ask.bytes && !x->reply.piece && !x->ask.piece;
	struct linger at_once = {.l_onoff = 1};
	int error = errno;

	if (target && untouched && error == ECONNRESET) {
		undo_tunnel(x);
		exchange_note_refused(x, error);
		exchange_broke(x, error);
		return;
	}
	if (target) {
		shm_add(&x->app->n->failed_cut, 1);
		shm_add(&x->target->n->failed_cut, 1);
		x->end = ACCESS_CUT;
	} else {
		shm_add(&x->app->n->client_left, 1);
		shm_add(&x->target->n->client_left, 1);
		x->end = ACCESS_CLIENT_LEFT;
		setsockopt(x->up->conn.io.fd, SOL_SOCKET, SO_LINGER, &at_once, sizeof(at_once));
	}
	exchange_finish(x, AFTER_RESET);
}
