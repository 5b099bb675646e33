/* SPDX-License-Identifier: Apache-2.0
 *
 * Statuses as news: each device (an app, its slots, its targets, Upstate's own processes) is
 * looked at when something may have changed; what differs from the last time is stored with its
 * time, and feeds and pages are made of what is stored. Between changes not a byte of them moves.
 */
#include "tell/tell_priv.h"

#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "tell/feed.h"
#include "tell/page.h"

#define HISTORY_LOOK 400 /* newest records among which ended changes are looked for */

static uint64_t mark_of(const struct tell_status_of *s)
{
	return map_hash_more(map_hash(s->status, strlen(s->status)), s->reason, strlen(s->reason)) | 1;
}

/* Is the status another than the one stored last? Asked before anything is made of it: there may be
 * ten thousand devices, and hardly ever one that changed. */
static bool is_news(struct tell *t, const char *id, const struct tell_status_of *s)
{
	return (uintptr_t)map_get(&t->device_marks, map_hash(id, strlen(id))) != (uintptr_t)mark_of(s);
}

static void put(struct tell *t, const char *id, const char *app, const struct tell_status_of *s,
		json_t *body)
{
	bool changed = false;
	struct err e;

	if (state_device_put(t->ship->state, id, app, s->status, s->reason, body, clock_wall_ms(), &changed,
			     &e) < 0)
		log_warn("device", "id=%s reason=\"%s\"", id, e.msg);
	else
		map_put(&t->device_marks, map_hash(id, strlen(id)), (void *)(uintptr_t)mark_of(s));
	if (changed)
		log_info("status", "device=%s status=%s reason=\"%s\"", id, s->status, s->reason);
	json_decref(body);
}

static json_t *slot_json(struct ship_app *a, uint32_t slot, const char *id,
			 const struct tell_status_of *s)
{
	json_t *units = json_array();

	for (uint32_t i = 0; i < a->rollout.unit_count; i++)
		if (a->rollout.units[i].slot == slot && !a->rollout.units[i].stop)
			json_array_append_new(units, tell_unit_json(a, &a->rollout.units[i]));
	return json_pack("{s:s, s:s, s:s, s:o}", "device", id, "status", s->status, "reason", s->reason,
			 "instances", units);
}

static void look_at_app(struct tell *t, struct ship_app *a)
{
	struct tell_status_of s;
	char id[200];

	tell_app_status_of(a, &s);
	if (is_news(t, a->name, &s))
		put(t, a->name, a->name, &s, tell_app_json(a));
	for (uint32_t slot = 1; a->conf->run && slot <= a->conf->instances; slot++) {
		snprintf(id, sizeof(id), "%s/%u", a->name, slot);
		tell_slot_status(a, slot, &s);
		if (is_news(t, id, &s))
			put(t, id, a->name, &s, slot_json(a, slot, id, &s));
	}
	for (uint32_t i = 0; i < a->target_count; i++) {
		snprintf(id, sizeof(id), "%s/%s", a->name, a->targets[i].name);
		tell_target_status(a, &a->targets[i], &s);
		if (is_news(t, id, &s))
			put(t, id, a->name, &s, tell_target_json(a, &a->targets[i]));
	}
}

/* The device of the i-th; two may be for the same name. */
static void certificate_id(const json_t *list, size_t i, char *ret, size_t size)
{
	const char *name = json_string_value(json_object_get(json_array_get(list, i), "name"));
	size_t same = 1;

	for (size_t j = 0; j < i; j++)
		same += strcmp(json_string_value(json_object_get(json_array_get(list, j), "name")), name) == 0;
	if (same == 1)
		snprintf(ret, size, "certificate/%.150s", name);
	else
		snprintf(ret, size, "certificate/%.150s#%zu", name, same);
}

static void look_at_certificates(struct tell *t)
{
	CLEANUP(json_decrefp) json_t *list = t->options.certificates(t->options.arg);
	struct tell_status_of s;
	char id[200];

	for (size_t i = 0; i < json_array_size(list); i++) {
		json_t *x = json_array_get(list, i);

		certificate_id(list, i, id, sizeof(id));
		s.status = json_string_value(json_object_get(x, "status"));
		util_text(s.reason, sizeof(s.reason), json_string_value(json_object_get(x, "reason")));
		if (is_news(t, id, &s)) {
			json_object_set_new(x, "device", json_string(id));
			put(t, id, "", &s, json_incref(x));
		}
	}
}

static bool is_certificate(const json_t *list, const char *id)
{
	char other[200];

	for (size_t i = 0; i < json_array_size(list); i++) {
		certificate_id(list, i, other, sizeof(other));
		if (strcmp(other, id) == 0)
			return true;
	}
	return false;
}

struct leftovers {
	struct tell *t;
	json_t *ids;
	json_t *certificates;
};

/* Is the device one of the configuration's? */
static bool exists(struct tell *t, const char *id, const char *app)
{
	const struct ship_app *a = ship_find(t->ship, app);
	const char *name = strchr(id, '/');
	char slot[16];

	if (!app[0])
		return true;
	if (!a || !a->conf)
		return false;
	if (!name)
		return true;
	for (uint32_t i = 0; i < a->target_count; i++)
		if (strcmp(a->targets[i].name, name + 1) == 0)
			return true;
	for (uint32_t i = 1; a->conf->run && i <= a->conf->instances; i++) {
		snprintf(slot, sizeof(slot), "%u", i);
		if (strcmp(slot, name + 1) == 0)
			return true;
	}
	return false;
}

static bool look_for_leftover(void *arg, const struct state_device *d)
{
	struct leftovers *l = arg;

	if (strncmp(d->id, "certificate/", 12) == 0 ? !is_certificate(l->certificates, d->id)
						    : !exists(l->t, d->id, d->app))
		json_array_append_new(l->ids, json_string(d->id));
	return true;
}

/* Devices that the configuration no longer has would stand in the feed for ever as they were last. */
static void drop_leftovers(struct tell *t)
{
	CLEANUP(json_decrefp) json_t *ids = json_array();
	CLEANUP(json_decrefp) json_t *certificates = t->options.certificates(t->options.arg);
	struct leftovers l = {t, ids, certificates};
	json_t *id;
	struct err e;
	size_t i;

	if (state_device_each(t->ship->state, NULL, look_for_leftover, &l, &e) < 0)
		return;
	json_array_foreach (ids, i, id) {
		const char *text = json_string_value(id);

		if (state_device_del(t->ship->state, text, &e) < 0)
			return;
		map_del(&t->device_marks, map_hash(text, strlen(text)));
		log_info("status", "device=%s status=gone", text);
	}
	t->devices_stale = false;
}

void tell_devices_look(struct tell *t)
{
	struct ship_app *a;
	struct tell_status_of s;
	char id[64];
	struct err e;

	if (!t->conf || !t->ship->synced)
		return;
	if (state_begin(t->ship->state, &e) < 0) { /* the next look tries again */
		log_warn("device", "reason=\"%s\"", e.msg);
		return;
	}
	if (t->devices_stale)
		drop_leftovers(t);
	for (enum part p = 0; p < PART_OTHER; p++) { /* that one comes and goes */
		snprintf(id, sizeof(id), "upstate/%s", part_name(p));
		tell_part_status(t, p, &s);
		if (is_news(t, id, &s))
			put(t, id, "", &s, tell_part_json(t, p));
	}
	look_at_certificates(t);
	LIST_EACH (a, &t->ship->apps, link)
		if (a->conf)
			look_at_app(t, a);
	if (state_commit(t->ship->state, &e) < 0) {
		log_warn("device", "reason=\"%s\"", e.msg);
		map_free(&t->device_marks); /* nothing was stored: all is news again */
		t->devices_stale = true;
	}
}

/* --- feeds --- */

struct gather {
	struct feed feed;
	struct state_device *devices;
	struct feed_change *changes;
	json_t *records; /* keeps what `changes` borrow */
};

static bool gather_device(void *arg, const struct state_device *d)
{
	struct gather *g = arg;

	if (g->feed.device_count == FEED_DEVICES_MAX) {
		g->feed.devices_more++;
		return true;
	}
	g->devices[g->feed.device_count] = *d;
	g->devices[g->feed.device_count++].body = util_strdup(d->body);
	return true;
}

static bool gather_change(void *arg, json_t *record)
{
	struct gather *g = arg;
	const char *kind = json_string_value(json_object_get(record, "kind"));

	if (!kind || strcmp(kind, "change.end") != 0)
		return true;
	json_array_append(g->records, record);
	return true;
}

static void free_gather(struct gather *g)
{
	for (size_t i = 0; i < g->feed.device_count; i++)
		free(g->devices[i].body);
	free(g->devices);
	free(g->changes);
	json_decref(g->records);
}

/* The name in all ids of the feeds, and the time of their birth: they must never change. */
static int feed_birth(struct tell *t, json_t **ret, struct err *e)
{
	char host[256] = "localhost", born[CLOCK_TEXT];

	if (state_get(t->ship->state, "feed", ret, e) < 0)
		return -(int)e->code;
	if (*ret)
		return 0;
	if (gethostname(host, sizeof(host) - 1) < 0)
		util_copy(host, sizeof(host), "localhost");
	*ret = json_pack("{s:s, s:s}", "authority", host, "born", clock_text(clock_wall_ms(), born));
	if (!*ret)
		*ret = json_pack("{s:s, s:s}", "authority", "localhost", "born", born);
	return state_put(t->ship->state, "feed", *ret, e);
}

/* All that the feed of an app (NULL: of everything) is made of. */
static int gather(struct tell *t, const char *app, struct gather *g, struct err *e)
{
	struct state *s = t->ship->state;

	*g = (struct gather){.records = json_array()};
	g->devices = util_alloc(FEED_DEVICES_MAX * sizeof(*g->devices));
	if (state_device_each(s, app, gather_device, g, e) < 0 ||
	    (app && state_device_each(s, "", gather_device, g, e) < 0) ||
	    state_history_read(s, app, 0, 0, HISTORY_LOOK, true, gather_change, g, e) < 0)
		return -(int)e->code;
	g->changes = util_alloc((json_array_size(g->records) + 1) * sizeof(*g->changes));
	for (size_t i = json_array_size(g->records); i-- > 0;) {
		json_t *record = json_array_get(g->records, i);

		g->changes[g->feed.change_count++] =
			(struct feed_change){json_string_value(json_object_get(record, "time")),
					     json_object_get(record, "data")};
	}
	g->feed.devices = g->devices;
	g->feed.changes = g->changes;
	return 0;
}

static void answer_feed(struct call *c, const struct feed *f, bool atom)
{
	CLEANUP_BUF struct buf out = {0};
	char etag[FEED_ETAG], headers[FEED_ETAG + 64];
	struct http1_slice known = server_header(c->r, "if-none-match");
	struct err e;

	if ((atom ? feed_atom : feed_rss)(f, &out, &e) < 0) {
		tell_answer_err(c, &e);
		return;
	}
	feed_etag(out.data, out.len, etag);
	snprintf(headers, sizeof(headers), "ETag: %s\r\nCache-Control: no-cache\r\n", etag);
	if (known.len && memmem(known.p, known.len, etag, strlen(etag)))
		server_answer(c->r, 304, NULL, headers, NULL, 0);
	else
		server_answer(c->r, 200, atom ? FEED_ATOM_TYPE : FEED_RSS_TYPE, headers, out.data, out.len);
}

/* /feeds/APP.atom, /feeds/APP.rss, /feeds/all.atom */
void tell_feed(struct call *c, json_t *body UNUSED)
{
	struct tell *t = c->t;
	char *dot = strrchr(c->arg[0], '.');
	bool atom = dot && strcmp(dot, ".atom") == 0, all;
	CLEANUP(json_decrefp) json_t *birth = NULL;
	char base[MSG_PATH + 16], hash[STATE_HASH];
	struct gather g;
	struct ship_app *a;
	struct err e;

	if (!dot || (!atom && strcmp(dot, ".rss") != 0)) {
		err_set(&e, ERR_NOT_FOUND, "feeds are named APP.atom, APP.rss and all.atom");
		tell_answer_err(c, &e);
		return;
	}
	*dot = '\0';
	all = strcmp(c->arg[0], "all") == 0;
	if (!all && tell_app(c, &a) < 0)
		return;
	snprintf(base, sizeof(base), "http://%s", t->conf->admin ?: "localhost");
	if (gather(t, all ? NULL : c->arg[0], &g, &e) < 0 || feed_birth(t, &birth, &e) < 0 ||
	    state_history_head(t->ship->state, &g.feed.head_seq, hash, &e) < 0) {
		tell_answer_err(c, &e);
	} else {
		g.feed.name = c->arg[0];
		g.feed.base = base;
		g.feed.head_hash = hash;
		g.feed.authority = json_string_value(json_object_get(birth, "authority"));
		g.feed.updated = json_string_value(json_object_get(birth, "born"));
		answer_feed(c, &g.feed, atom);
	}
	free_gather(&g);
}

/* --- pages --- */

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

void tell_page(struct call *c, json_t *body UNUSED)
{
	CLEANUP_BUF struct buf page = {0};
	CLEANUP(json_decrefp) json_t *status = tell_status_json(c->t), *changes = json_array();
	struct gather g;
	struct err e;

	if (gather(c->t, NULL, &g, &e) == 0)
		for (size_t i = 0; i < g.feed.change_count && i < 20; i++)
			json_array_append(changes, g.changes[i].change);
	free_gather(&g);
	page_status(status, changes, clock_wall_ms(), &page);
	answer_page(c, 200, &page);
}

struct find_device {
	struct call *c;
	const char *id;
	const json_t *status;
	bool found;
};

/* What the device is now: the part, app, instance or target of the status that has its name. */
static const json_t *device_now(const json_t *status, const char *id)
{
	const json_t *one, *inner;
	size_t i, k;

	json_array_foreach (json_object_get(status, "parts"), i, one)
		if (strncmp(id, "upstate/", 8) == 0 &&
		    strcmp(json_string_value(json_object_get(one, "name")), id + 8) == 0)
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

static bool show_device(void *arg, const struct state_device *d)
{
	struct find_device *f = arg;
	CLEANUP_BUF struct buf page = {0};

	if (strcmp(d->id, f->id) != 0)
		return true;
	f->found = true;
	page_device(d, device_now(f->status, d->id), clock_wall_ms(), &page);
	answer_page(f->c, 200, &page);
	return false;
}

void tell_device_page(struct call *c, json_t *body UNUSED)
{
	CLEANUP(json_decrefp) json_t *status = tell_status_json(c->t);
	char id[sizeof(c->arg)];
	struct find_device f = {c, id, status, false};
	struct err e;

	snprintf(id, sizeof(id), "%s%s%s", c->arg[0], c->arg[1][0] ? "/" : "", c->arg[1]);
	if (state_device_each(c->t->ship->state, NULL, show_device, &f, &e) < 0)
		tell_answer_err(c, &e);
	else if (!f.found)
		no_page(c, "device");
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
