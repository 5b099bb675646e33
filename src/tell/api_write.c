/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls that change something.
 */
#include "tell/tell_priv.h"

#include <string.h>

/* A text of the body; "" when it is not there. */
static const char *text_of(json_t *body, const char *key)
{
	return json_string_value(json_object_get(body, key)) ?: "";
}

void tell_missing(struct call *c, const char *body, size_t len)
{
	struct ship *s = c->t->ship;
	struct store_manifest m;
	struct ship_app *a;
	json_t *missing;
	char hash[STATE_HASH];
	uint64_t bytes = 0;
	bool *want;
	struct err e;

	if (tell_app(c, &a) < 0)
		return;
	if (store_manifest_parse(body, len, &m, &e) < 0) {
		tell_answer_err(c, &e);
		return;
	}
	s->upload_ms = s->loop->now_ms;
	ship_prune_stop(s); /* it may remove what is not asked for now */
	want = util_alloc(m.len * sizeof(*want));
	if (store_missing(s->store, &m, want, &bytes, &e) < 0 || store_room(s->store, bytes, &e) < 0 ||
	    state_text_put(s->state, m.text, m.text_len, hash, &e) < 0) {
		tell_answer_err(c, &e);
	} else {
		missing = json_array();
		for (size_t i = 0; i < m.len; i++)
			if (want[i])
				json_array_append_new(missing, json_string(m.files[i].hash));
		tell_answer_json(c, 200, json_pack("{s:s, s:I, s:o, s:I}", "release", m.id, "files",
						   (json_int_t)m.len, "missing", missing, "bytes",
						   (json_int_t)bytes));
	}
	free(want);
	store_manifest_free(&m);
}

static void objects_data(struct server_request *r, const char *data, size_t len)
{
	struct call *c = r->user;

	if (c->intake && store_intake_feed(c->intake, data, len, &c->failed) < 0) {
		store_intake_abort(TAKE(c->intake)); /* the rest is read and thrown away */
	}
}

static int publish(struct call *c, json_t **ret_body)
{
	uint64_t objects = 0;
	struct err e;

	if (store_intake_end(TAKE(c->intake), &objects, &e) < 0)
		return tell_err_json(&e, ret_body);
	*ret_body = json_pack("{s:I}", "objects", (json_int_t)objects);
	return 200;
}

static void objects_end(struct server_request *r, const char *body UNUSED, size_t len UNUSED)
{
	struct call *c = r->user;

	c->t->ship->upload_ms = c->t->ship->loop->now_ms;
	if (c->failed.code)
		tell_answer_err(c, &c->failed);
	else
		tell_in_child(c, publish); /* it waits for the disk */
}

void tell_objects(struct call *c)
{
	struct err e;

	if (store_intake_begin(c->t->ship->store, &c->intake, &e) < 0) {
		tell_answer_err(c, &e);
		return;
	}
	server_want_stream(c->r, objects_data, objects_end);
}

static void accepted(struct call *c, uint64_t change)
{
	tell_answer_json(c, 202, json_pack("{s:I}", "change", (json_int_t)change));
}

/* Said again by a client that did not hear the answer: then it is answered, and nothing is done. */
static bool again(struct call *c, struct ship_app *a, json_t *body)
{
	uint64_t change;

	if (!ship_is_done(a, text_of(body, "key"), &change))
		return false;
	accepted(c, change);
	return true;
}

void tell_deploy(struct call *c, json_t *body)
{
	struct ship *s = c->t->ship;
	CLEANUP_BUF struct buf text = {.max = 256u << 20};
	const char *why = text_of(body, "why"), *id = text_of(body, "release");
	struct store_manifest m;
	struct ship_app *a;
	uint64_t change;
	struct err e;
	int r;

	if (tell_app(c, &a) < 0 || again(c, a, body))
		return;
	if (!why[0])
		r = err_set(&e, ERR_INPUT, "a deploy needs a reason: why");
	else if (strlen(id) != STORE_HASH - 1)
		r = err_set(&e, ERR_INPUT, "release: '%s' is not the id of a manifest that was sent", id);
	else
		r = state_text_get(s->state, id, &text, &e);
	if (r == 0)
		r = store_manifest_parse(text.data, text.len, &m, &e);
	if (r < 0) {
		tell_answer_err(c, &e);
		return;
	}
	util_copy(a->order_key, sizeof(a->order_key), text_of(body, "key"));
	r = ship_deploy(a, &m, text_of(body, "source"), c->who, why, &change, &e);
	a->order_key[0] = '\0';
	store_manifest_free(&m);
	if (r < 0)
		tell_answer_err(c, &e);
	else
		accepted(c, change);
}

void tell_rollback(struct call *c, json_t *body)
{
	const char *release = json_string_value(json_object_get(body, "release"));
	struct ship_app *a;
	uint64_t change;
	struct err e;
	int r;

	if (tell_app(c, &a) < 0 || again(c, a, body))
		return;
	util_copy(a->order_key, sizeof(a->order_key), text_of(body, "key"));
	r = ship_rollback(a, release, c->who, text_of(body, "why"), &change, &e);
	a->order_key[0] = '\0';
	if (r < 0)
		tell_answer_err(c, &e);
	else
		accepted(c, change);
}

void tell_abort(struct call *c, json_t *body)
{
	struct ship_app *a;
	uint64_t change;
	struct err e;
	int r;

	if (tell_app(c, &a) < 0 || again(c, a, body))
		return;
	util_copy(a->order_key, sizeof(a->order_key), text_of(body, "key"));
	r = ship_abort(a, c->who, text_of(body, "why"), &change, &e);
	a->order_key[0] = '\0';
	if (r < 0)
		tell_answer_err(c, &e);
	else
		accepted(c, change);
}

static void hold(struct call *c, json_t *body, bool on)
{
	struct ship_app *a;
	struct err e;

	if (tell_app(c, &a) < 0)
		return;
	if (ship_hold(a, on, c->who, text_of(body, "why"), &e) < 0)
		tell_answer_err(c, &e);
	else
		tell_answer_applied(c, json_pack("{s:s, s:b}", "app", a->name, "held", on));
}

void tell_hold(struct call *c, json_t *body)
{
	hold(c, body, true);
}

void tell_resume(struct call *c, json_t *body)
{
	hold(c, body, false);
}

void tell_maintenance(struct call *c, json_t *body)
{
	json_t *on = json_object_get(body, "on");
	struct ship_app *a;
	struct err e;

	if (tell_app(c, &a) < 0)
		return;
	if (!json_is_boolean(on))
		err_set(&e, ERR_INPUT, "'on' is true or false: is app '%s' in maintenance?", a->name);
	else if (ship_maintenance(a, json_is_true(on), c->who, text_of(body, "why"), &e) == 0) {
		tell_answer_applied(c, json_pack("{s:s, s:b}", "app", a->name, "maintenance", a->maintenance));
		return;
	}
	tell_answer_err(c, &e);
}

static void order(struct call *c, json_t *body, enum target_use use, const char *name)
{
	struct ship_app *a;
	struct err e;

	if (tell_app(c, &a) < 0)
		return;
	if (ship_order_target(a, text_of(body, "target"), use, c->who, text_of(body, "why"), &e) < 0)
		tell_answer_err(c, &e);
	else
		tell_answer_applied(c, json_pack("{s:s, s:s}", "target", text_of(body, "target"), "use",
						 name));
}

void tell_drain(struct call *c, json_t *body)
{
	order(c, body, USE_DRAIN, "drain");
}

void tell_fence(struct call *c, json_t *body)
{
	order(c, body, USE_FENCE, "fence");
}

void tell_serve(struct call *c, json_t *body)
{
	order(c, body, USE_SERVE, "serve");
}

static void reloaded(void *arg, json_t *body, const struct err *e)
{
	struct call *c = arg;

	c->pending = false;
	if (c->gone) {
		buf_free(&c->child_out);
		free(c);
		return;
	}
	if (e)
		tell_answer_err_with(c, e, body);
	else
		tell_answer_applied(c, json_incref(body));
}

void tell_reload(struct call *c, json_t *body UNUSED)
{
	c->pending = true;
	c->t->options.reload(c->t->options.arg, c->who, reloaded, c);
}
