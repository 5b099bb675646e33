/* SPDX-License-Identifier: Apache-2.0
 *
 * Orders that concern Upstate itself. The keeper carries them out and says what became of them;
 * history has both who ordered it and how it ended.
 */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "tell/tell_priv.h"

static const char *text_of(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

/* Recorded, or said that it could not be: it has happened all the same. */
static void record(struct state *s, const char *kind, json_t *data)
{
	struct err e;

	if (state_begin(s, &e) < 0)
		goto failed;
	if (state_history_add(s, clock_wall_ms(), kind, "", data, NULL, &e) < 0) {
		state_rollback(s);
		goto failed;
	}
	if (state_commit(s, &e) == 0)
		return;
failed:
	log_warn("history", "kind=%s reason=\"%s\"", kind, e.msg);
}

static void let_go(struct call *c)
{
	c->pending = false;
	if (c->gone)
		tell_free_call(c);
}

void tell_restart(struct call *c, json_t *body)
{
	struct msg_restart m = {PART_ROUTER};
	struct tell *t = c->t;
	struct err e;

	if (strcmp(text_of(body, "part"), part_name(PART_ROUTER)) != 0)
		err_set(&e, ERR_INPUT, "part: '%s' cannot be put in another's place; there is: router",
			text_of(body, "part"));
	else if (t->restart)
		err_set(&e, ERR_REFUSED, "the router is being replaced by an order of %s", t->restart->who);
	else if (!msg_send(t->ship->keeper, MSG_RESTART, &m, NULL, 0, NULL, 0))
		err_set(&e, ERR_GONE, "the keeper cannot be told");
	else {
		util_text(t->restart_why, sizeof(t->restart_why), text_of(body, "why"));
		t->restart = c;
		c->pending = true;
		return;
	}
	tell_answer_err(c, &e);
}

static void restarted(struct tell *t, const struct msg_outcome *m)
{
	struct call *c = TAKE(t->restart);
	CLEANUP(json_decrefp) json_t *data = NULL;
	struct err e;

	if (!c)
		return; /* ordered by a controller before this one */
	data = json_pack("{s:s, s:s, s:s, s:s, s:s}", "who", c->who, "why", t->restart_why, "part",
			 part_name(PART_ROUTER), "outcome", m->error ? "refused" : "done", "reason",
			 m->reason);
	record(t->ship->state, "restart", data);
	if (c->gone) {
		let_go(c);
		return;
	}
	c->pending = false;
	err_set(&e, (enum err_code)m->error, "%s", m->reason);
	if (m->error)
		tell_answer_err(c, &e);
	else
		tell_answer_json(c, 200, json_incref(data));
}

void tell_outcome(struct tell *t, struct msg_outcome *m)
{
	m->reason[sizeof(m->reason) - 1] = '\0';
	util_utf8(m->reason);
	if (m->error >= ERR_COUNT)
		m->error = ERR_PROTO;
	if (m->order == MSG_RESTART)
		restarted(t, m);
}
