/* SPDX-License-Identifier: Apache-2.0
 *
 * Something went wrong between an exchange and its target: does another one get it, does it wait on, or
 * has it failed? core/retry decides from the facts that are gathered here.
 */
#include "route/route_priv.h"

#define STALE_US 100000 /* an end that was on its way arrives sooner: then nobody has worked on the request */

/* Makes the request ready to be sent from its beginning. */
static void rewind_ask(struct exchange *x)
{
	struct out *o = &x->ask.out;
	const char *first = o->n ? o->v[0].iov_base : NULL;

	if (x->req) {
		/* A piece of the body may be in hand of which nothing went out: it stands behind what did. */
		if (first && !o->at && (first < x->req->data || first >= x->req->data + x->req->cap)) {
			ensure(o->n < ARRAY_LEN(o->v));
			memmove(&o->v[1], &o->v[0], o->n++ * sizeof(o->v[0]));
		}
		o->v[0] = (struct iovec){x->req->data, x->req->len};
		o->at = 0;
		o->n = MAX(o->n, 1);
	}
	x->ask.sent = 0;
	x->ask.writes = 0;
	x->ask.over = false;
	x->ask_failed = false;
	x->scanned = 0;
}

static void count_retry(struct exchange *x, struct target *g, enum retry_verdict v)
{
	struct shm_counts *n[] = {x->app->n, g->n};

	for (int i = 0; i < 2; i++)
		shm_add(v == RETRY_UNSENT   ? &n[i]->retried_unsent
			: v == RETRY_UNREAD ? &n[i]->retried_unread
			: v == RETRY_MOVED  ? &n[i]->retried_moved
					    : &n[i]->retried_safe,
			1);
}

static struct retry_facts facts_of(const struct exchange *x, int error)
{
	/* What a socket says of all of its streams proves nothing about one. */
	return (struct retry_facts){.is_unix = x->target->kind == TARGET_UNIX && !x->up->is_stream,
				    .unread_counts = x->app->conf.retry_unread,
				    .safe_method = x->safe,
				    .replayable = !x->req || x->ask.sent <= x->req->len,
				    .answer_begun = x->answer_begun,
				    .written = x->ask.sent,
				    .writes = x->ask.writes,
				    .all_written = x->ask.over,
				    .refused = x->up->unread,
				    .moved = x->moved,
				    .error = error};
}

/* May a target that may work on it get it as well? Each thread has its part of what is allowed. */
static bool within_budget(struct exchange *x, enum retry_verdict v)
{
	const struct table_app *conf = &x->app->conf;
	uint32_t least = conf->retry_least * (BUDGET_WINDOW_MS / 1000) / x->t->r->thread_count;

	if (v != RETRY_SAFE && v != RETRY_MOVED)
		return true;
	if (budget_take(&x->app->budget, conf->retry_share, conf->retry_least ? MAX(least, 1u) : 0,
			shm_get(&x->app->n->requests), x->t->loop.now_ms))
		return true;
	shm_add(&x->app->n->retry_refused, 1);
	shm_add(&x->target->n->retry_refused, 1);
	return false;
}

/* To another target, or into the waiting room. note: that it was at this one. One that says it does not work on
 * it (HTTP/2) may be asked again, but not at once. */
static void send_elsewhere(struct exchange *x, enum retry_verdict v, bool note)
{
	struct app *app = x->app;
	bool unread = x->up->unread;

	count_retry(x, x->target, v);
	if (note || unread)
		exchange_note_tried(x, x->target, v == RETRY_UNSENT || unread);
	x->fresh = !unread;
	x->cut = false;
	exchange_let_go(x, false);
	buffer_put(x->t, &x->ans);
	rewind_ask(x);
	app->refs++;
	exchange_route(x);
	/* It may stand behind others now, and have left a place that they can take. */
	if (!unread)
		wait_freed(app);
	app_unref(app);
}

static void give_up(struct exchange *x, int error)
{
	struct shm_counts *n = x->target->n;

	if (x->cut)
		shm_add(&x->app->n->failed_cut, 1), shm_add(&n->failed_cut, 1);
	else
		shm_add(error == ETIMEDOUT ? &n->failed_504 : &n->failed_502, 1);
	answer_own(x, error == ETIMEDOUT ? 504 : 502,
		   error == ETIMEDOUT ? "the app did not answer in time"
				      : "the app broke off before it answered",
		   false);
}

void exchange_broke(struct exchange *x, int error)
{
	bool reused = x->up->reused;
	bool stale = reused && !x->answer_begun &&
		     (error == 0 || error == ECONNRESET || error == EPIPE);
	bool at_once = stale && clock_us() - x->sent_us < STALE_US;
	struct retry_facts f = facts_of(x, error);
	enum retry_verdict v;

	if (at_once)
		upstream_learn(x->target, x->up->idle_ms);
	if (!stale && !x->cut && !f.refused)
		stuck_failed(x->target, error);
	x->stale |= stale && f.written;
	x->died_under += f.written > 0 && !f.refused;
	f.died_under = x->died_under;
	v = retry_decide(&f);
	if (v == RETRY_NO || (!at_once && !within_budget(x, v)))
		give_up(x, error);
	else /* an old connection that was closed says nothing about the target */
		send_elsewhere(x, v, !reused);
}

void exchange_move(struct exchange *x)
{
	struct retry_facts f;
	enum retry_verdict v;

	if (x->state != X_CONNECT && (x->state != X_ASK || !x->owed))
		return;
	f = facts_of(x, 0);
	f.stuck = true;
	/* Where an old connection broke, no target died. */
	f.died_under = x->died_under + 1u - x->stale;
	v = retry_decide(&f);
	if (v == RETRY_NO || !within_budget(x, v))
		return;
	x->died_under++;
	x->moved = true;
	send_elsewhere(x, v, true);
}
