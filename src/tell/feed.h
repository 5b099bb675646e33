/* SPDX-License-Identifier: Apache-2.0
 *
 * The feed, as Atom (RFC 4287) and RSS 2.0: one article for each device, under an id that never
 * changes and with the time of its last change of status as its date; and one for each deploy and
 * rollback, with its receipt.
 *
 * Pure: the bytes depend on nothing but `struct feed`, so that without a change not one moves, and
 * their hash is the ETag. Each change alters the article's body (its number and time stand in it):
 * readers that notice updates at all compare bodies.
 *
 * Newest first. Bounded to the newest FEED_DEVICES_MAX and FEED_CHANGES_MAX; the subtitle says what
 * was left out. The head of the history stands in the feed, so that everyone who reads it is a
 * witness of what was recorded.
 */
#pragma once

#include <jansson.h>

#include "state/state.h"

#define FEED_DEVICES_MAX 1000
#define FEED_CHANGES_MAX 50
#define FEED_DUMP_MAX (16u << 10) /* bytes of the dump in an article */
#define FEED_ETAG 67 /* quoted hexadecimal SHA-256 with its NUL */

#define FEED_ATOM_TYPE "application/atom+xml; charset=utf-8"
#define FEED_RSS_TYPE "application/rss+xml; charset=utf-8"

struct feed_change {
	const char *ended; /* RFC 3339: the date of the article; NULL: left out, it is going on */
	json_t *change;	   /* in the API's shape; what is missing in it is not told */
};

struct feed {
	const char *name;      /* the app, or "all" */
	const char *authority; /* in all ids: host name at birth, remembered; must never change */
	const char *base;      /* address of the pages, without a slash: "http://10.0.0.1:8081" */
	const char *updated;   /* RFC 3339; of a feed that has no article yet */
	uint64_t head_seq;     /* state_history_head() */
	const char *head_hash;
	/* In any order; borrowed. */
	const struct state_device *devices;
	size_t device_count;
	const struct feed_change *changes;
	size_t change_count;
	/* How many more there are that the caller did not even give. */
	size_t devices_more, changes_more;
};

/* -ERR_SYS when there is no memory for it. */
int feed_atom(const struct feed *f, struct buf *ret, struct err *e);
int feed_rss(const struct feed *f, struct buf *ret, struct err *e);
/* Strong ETag of the bytes, in quotes. */
void feed_etag(const void *bytes, size_t len, char ret[FEED_ETAG]);
