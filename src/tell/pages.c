/* SPDX-License-Identifier: Apache-2.0
 *
 * Pages on request: the status, a device, a change.
 */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "tell/page.h"
#include "tell/tell_priv.h"

#define CHANGES_SHOWN 20
#define PAST_SHOWN 50

static void answer_page(struct call *c, int status, struct buf *page)
{
	server_answer(c->r, page->failed ? 500 : status, PAGE_TYPE, "Cache-Control: no-cache\r\n",
		      page->data, page->len);
}

static void no_page(struct call *c, const char *what)
{
	CLEANUP_BUF struct buf page = {0};
	char text[600];

	snprintf(text, sizeof(text), "no %s '%s%s%s'", what, c->arg[0], c->arg[1][0] ? "/" : "", c->arg[1]);
	page_message(404, text, &page);
	answer_page(c, 404, &page);
}

static bool add_change(void *arg, json_t *record)
{
	json_array_append(arg, json_object_get(record, "data"));
	return true;
}

void tell_page(struct call *c, json_t *body UNUSED)
{
	CLEANUP_BUF struct buf page = {0};
	CLEANUP(json_decrefp) json_t *status = tell_status_json(c->t), *changes = json_array();
	struct err e;

	if (state_history_changes(c->t->ship->state, NULL, CHANGES_SHOWN, add_change, changes, &e) < 0)
		log_warn("page", "reason=\"%s\"", e.msg);
	page_status(status, changes, clock_wall_ms(), &page);
	answer_page(c, 200, &page);
}

/* What the device is now: the part, app, instance or target of the status that has its name. */
static const json_t *device_now(const json_t *status, const char *id)
{
	const json_t *one, *inner;
	size_t i, k;

	json_array_foreach (json_object_get(status, "parts"), i, one)
		if (strncmp(id, "upstate/", 8) == 0 &&
		    strcmp(json_string_value(json_object_get(one, "name")), id + 8) == 0)
			return one;
	json_array_foreach (json_object_get(status, "devices"), i, one)
		if (strcmp(json_string_value(json_object_get(one, "name")), id) == 0)
			return one;
	json_array_foreach (json_object_get(status, "apps"), i, one) {
		if (strcmp(json_string_value(json_object_get(one, "name")), id) == 0)
			return one;
		json_array_foreach (json_object_get(one, "instances"), k, inner)
			if (strcmp(json_string_value(json_object_get(inner, "device")), id) == 0)
				return inner;
		json_array_foreach (json_object_get(one, "targets"), k, inner)
			if (strcmp(json_string_value(json_object_get(inner, "device")), id) == 0)
				return inner;
	}
	return NULL;
}

void tell_device_page(struct call *c, json_t *body UNUSED)
{
	CLEANUP(json_decrefp) json_t *status = tell_status_json(c->t);
	CLEANUP_BUF struct buf page = {0};
	struct state_status past[PAST_SHOWN];
	struct state_device d;
	char id[sizeof(c->arg)];
	struct err e;
	int r, n = 0;

	snprintf(id, sizeof(id), "%s%s%s", c->arg[0], c->arg[1][0] ? "/" : "", c->arg[1]);
	r = state_device_get(c->t->ship->state, id, &d, &e);
	if (r == 1 && (n = state_device_past(c->t->ship->state, id, past, PAST_SHOWN, &e)) >= 0) {
		page_device(&d, past, (size_t)n, device_now(status, id), clock_wall_ms(), &page);
		answer_page(c, 200, &page);
	} else if (r == 0) {
		no_page(c, "device");
	} else {
		tell_answer_err(c, &e);
	}
	if (r == 1)
		free(d.body);
}

void tell_change_page(struct call *c, json_t *body UNUSED)
{
	CLEANUP_BUF struct buf page = {0};
	struct err e;
	CLEANUP(json_decrefp) json_t *change =
		tell_find_change(c->t, strtoull(c->arg[0], NULL, 10), &e);

	if (!change) {
		no_page(c, "change");
		return;
	}
	page_change(change, clock_wall_ms(), &page);
	answer_page(c, 200, &page);
}
