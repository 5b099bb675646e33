/* SPDX-License-Identifier: Apache-2.0 */
#include "tell/news.h"

#include <string.h>

uint64_t news_mark(const char *status, const char *reason)
{
	return map_hash_more(map_hash(status, strlen(status)), reason, strlen(reason));
}

static void drop_articles(struct news_device *d)
{
	for (int form = 0; form < FEED_FORM_COUNT; form++)
		for (int profile = 0; profile < FEED_PROFILE_COUNT; profile++) {
			if (!d->articles[form][profile])
				continue;
			feed_article_free(d->articles[form][profile]);
			free(d->articles[form][profile]);
			d->articles[form][profile] = NULL;
		}
}

static void free_device(struct news *n, struct news_device *d)
{
	list_del(&d->link);
	drop_articles(d);
	free(d->id);
	free(d);
	n->count--;
	n->generation++;
}

void news_init(struct news *n)
{
	*n = (struct news){0};
	list_init(&n->devices);
	list_init(&n->feeds);
}

void news_forget(struct news *n)
{
	struct news_device *d, *next;

	LIST_EACH_SAFE (d, next, &n->devices, link)
		free_device(n, d);
	map_free(&n->by_id);
	n->by_id = (struct map){0};
	n->loaded = false;
	n->generation++;
}

struct news_device *news_find(const struct news *n, const char *id)
{
	struct news_device *d = map_get(&n->by_id, map_hash(id, strlen(id)));

	return d && strcmp(d->id, id) == 0 ? d : NULL;
}

void news_put(struct news *n, const char *id, const char *app, uint64_t mark, bool moved)
{
	struct news_device *d = news_find(n, id);

	if (!d) {
		d = util_alloc(sizeof(*d));
		d->id = util_strdup(id);
		map_put(&n->by_id, map_hash(id, strlen(id)), d);
		list_add_tail(&n->devices, &d->link);
		n->count++;
	}
	d->mark = mark;
	util_copy(d->app, sizeof(d->app), app);
	if (!moved)
		return;
	drop_articles(d);
	list_del(&d->link);
	list_add(&n->devices, &d->link);
	n->generation++;
}

void news_del(struct news *n, const char *id)
{
	struct news_device *d = news_find(n, id);

	if (!d)
		return;
	map_del(&n->by_id, map_hash(id, strlen(id)));
	free_device(n, d);
}

void news_rewrite(struct news *n)
{
	struct news_device *d;

	LIST_EACH (d, &n->devices, link)
		drop_articles(d);
	n->generation++;
}

static bool load_one(void *arg, const struct state_device *d)
{
	news_put(arg, d->id, d->app, news_mark(d->status, d->reason), false);
	return true;
}

int news_load(struct news *n, struct state *s, struct err *e)
{
	int r;

	if (n->loaded)
		return 0;
	r = state_device_each(s, NULL, load_one, n, e);
	if (r < 0)
		news_forget(n);
	else
		n->loaded = true;
	return r;
}
