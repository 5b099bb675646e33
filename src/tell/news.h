/* SPDX-License-Identifier: Apache-2.0
 *
 * The devices in memory, as the state has them, in the order in which they changed: so that a look at ten
 * thousand of them writes only what differs, and a feed is put together without a query for each.
 */
#pragma once

#include "base/list.h"
#include "base/map.h"
#include "tell/feed.h"

#define NEWS_FEEDS_MAX 64 /* feeds that are kept as they were asked for last */
#define NEWS_FEED_BYTES (32u << 20) /* of articles in one; more devices are left out */
#define NEWS_FEEDS_BYTES (128u << 20) /* of all that are kept */

struct news_device {
	struct list link; /* newest change first */
	char *id;
	char app[sizeof((struct state_device){0}.app)];
	uint64_t mark; /* of its status and reason */
	/* Its article as last written; NULL: not since the last change. */
	struct feed_article *articles[FEED_FORM_COUNT][FEED_PROFILE_COUNT];
};

struct news {
	struct map by_id;    /* struct news_device, by the hash of its id */
	struct list devices; /* the same */
	size_t count;
	bool loaded;
	uint64_t generation; /* counts up whenever a feed may have to be another one */
	struct list feeds;   /* struct news_feed, the one that was asked for last first */
	size_t feed_count, feed_bytes;
};

void news_init(struct news *n);
/* All is read from the state anew when it is next needed. */
void news_forget(struct news *n);
int news_load(struct news *n, struct state *s, struct err *e);
uint64_t news_mark(const char *status, const char *reason);
struct news_device *news_find(const struct news *n, const char *id);
/* The state has this device now; as its newest change when `moved`. */
void news_put(struct news *n, const char *id, const char *app, uint64_t mark, bool moved);
void news_del(struct news *n, const char *id);
/* Articles are to be written anew: the address in their links is another one. */
void news_rewrite(struct news *n);
