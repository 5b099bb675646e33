/* SPDX-License-Identifier: Apache-2.0 */
#include "tell/scrape.h"

#include <string.h>

#include "tell/metrics_names.h"

static const char *text_at(const struct scrape *s, uint32_t offset)
{
	return s->texts.data + offset;
}

static void add_subject(struct scrape *s, const struct ship_app *a, uint32_t name, uint64_t id, uint32_t slot,
			const char *target)
{
	s->subjects[s->count++] = (struct scrape_subject){
		.id = id, .slot = slot, .app = name, .labels = (uint32_t)s->texts.len, .target = target != NULL};
	buf_addf(&s->texts, "app=\"%s\"", a->name);
	if (target) {
		buf_adds(&s->texts, ",target=\"");
		metric_escape(&s->texts, target);
		buf_addc(&s->texts, '"');
	}
	buf_addc(&s->texts, '\0');
}

static void add_app(struct scrape *s, struct ship_app *a)
{
	uint32_t name = (uint32_t)s->texts.len;
	char text[MSG_NAME];

	buf_add(&s->texts, a->name, strlen(a->name) + 1);
	add_subject(s, a, name, a->id, a->shm_slot, NULL);
	for (uint32_t i = 0; i < a->rollout.unit_count; i++) {
		const struct rollout_unit *u = &a->rollout.units[i];

		if (u->stop)
			continue;
		ship_unit_name(a, u, text, sizeof(text));
		add_subject(s, a, name, u->id, ship_unit(a, u->id)->shm_slot, text);
	}
	for (uint32_t i = 0; i < a->target_count; i++) {
		util_text(text, sizeof(text), a->targets[i].name);
		add_subject(s, a, name, a->targets[i].id, a->targets[i].shm_slot, text);
	}
}

static void gather(struct scrape *s, const char *only)
{
	struct ship *ship = s->c->t->ship;
	struct ship_app *a;
	uint32_t most = 0;

	LIST_EACH (a, &ship->apps, link)
		most += 1 + a->rollout.unit_count + a->target_count;
	s->subjects = util_alloc((most + 1) * sizeof(*s->subjects));
	LIST_EACH (a, &ship->apps, link)
		if (a->conf && a->has_slot && (!only || strcmp(only, a->name) == 0))
			add_app(s, a);
}

static void on_room(struct server_request *r)
{
	struct call *c = r->user;
	struct scrape *s = c->scrape;
	bool over = s->out.failed || s->texts.failed || s->more(s);

	if (s->out.failed || s->texts.failed) {
		server_cut(r); /* only a cut tells that it is not the whole */
		return;
	}
	if (s->out.len)
		server_write(r, s->out.data, s->out.len);
	s->out.len = 0;
	if (over)
		server_end(r);
}

void scrape_begin(struct call *c, const char *type, const char *app, bool open_metrics,
		  bool (*more)(struct scrape *s))
{
	struct tell *t = c->t;
	struct scrape *s;
	struct err e;

	if (t->scrape_count == TELL_SCRAPES_MAX) {
		shm_add(&t->ship->shm->controller.scrapes_refused, 1);
		err_set(&e, ERR_LIMIT, "%d such calls go on already; try again", TELL_SCRAPES_MAX);
		tell_answer_err(c, &e);
		return;
	}
	s = util_alloc(sizeof(*s));
	*s = (struct scrape){.c = c, .more = more, .open_metrics = open_metrics};
	c->scrape = s;
	t->scrape_count++;
	server_begin(c->r, 200, type);
	if (strcmp(c->r->method, "HEAD") == 0) {
		server_end(c->r);
		return;
	}
	gather(s, app);
	c->r->on_room = on_room;
}

void scrape_free(struct scrape *s)
{
	if (!s)
		return;
	s->c->t->scrape_count--;
	buf_free(&s->texts);
	buf_free(&s->out);
	free(s->subjects);
	free(s);
}

struct ship_app *scrape_app(const struct scrape *s, const struct scrape_subject *x)
{
	struct ship *ship = s->c->t->ship;
	struct ship_app *a;

	if (shm_get(&ship->shm->slot[x->slot].id) != x->id)
		return NULL;
	a = ship_find(ship, text_at(s, x->app));
	return a && a->conf ? a : NULL;
}

void scrape_target(struct ship_app *a, const struct scrape_subject *x, const struct rollout_unit **ret_unit,
		   const struct ship_target **ret_target)
{
	*ret_unit = NULL;
	*ret_target = NULL;
	for (uint32_t i = 0; i < a->rollout.unit_count; i++)
		if (a->rollout.units[i].id == x->id && !a->rollout.units[i].stop)
			*ret_unit = &a->rollout.units[i];
	for (uint32_t i = 0; i < a->target_count; i++)
		if (a->targets[i].id == x->id)
			*ret_target = &a->targets[i];
}
