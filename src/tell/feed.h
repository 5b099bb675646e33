/* SPDX-License-Identifier: Apache-2.0
 *
 * The feed, as Atom (RFC 4287), RSS 2.0 and JSON Feed 1.1: one article for each device, with the time of
 * its last change of status as its date; and one for each deploy and rollback, with its receipt.
 *
 * Two profiles. By device, an article keeps its id for ever and is published again when its device
 * changes; a reader that ignores updates is blind to that, so by change the number of the change is part
 * of the id. What a device went through between two looks stands in title and body.
 *
 * Pure: the bytes depend on nothing but the arguments, so that without a change not one moves, and
 * a hash of them is the ETag. Each change alters the article's body (its number and time stand in it):
 * readers that notice updates at all compare bodies. An article is written once for each change, and
 * a feed is put together of what is written.
 *
 * The head of the history stands in the feed, so that everyone who reads it is a witness of what was
 * recorded.
 */
#pragma once

#include <jansson.h>

#include "state/state.h"

#define FEED_DEVICES_MAX 10000
#define FEED_CHANGES_MAX 50
#define FEED_PAST_MAX 10 /* earlier statuses in an article */
#define FEED_DUMP_MAX (16u << 10) /* bytes of the dump in an article */
#define FEED_ETAG 67 /* quoted hexadecimal SHA-256 with its NUL */

/* X(NAME, extension, content type) */
#define FEED_FORM_TABLE(X)                                                                         \
	X(ATOM, "atom", "application/atom+xml; charset=utf-8")                                     \
	X(RSS, "rss", "application/rss+xml; charset=utf-8")                                        \
	X(JSON, "json", "application/feed+json; charset=utf-8")

enum feed_form {
#define X(name, extension, type) FEED_##name,
	FEED_FORM_TABLE(X)
#undef X
	FEED_FORM_COUNT
};

enum feed_profile { FEED_BY_DEVICE, FEED_BY_CHANGE, FEED_PROFILE_COUNT };

struct feed {
	enum feed_form form;
	enum feed_profile profile;
	const char *name;      /* the app, or "all" */
	const char *authority; /* in all ids: host name at birth, remembered; must never change */
	const char *base;      /* address of the pages, without a slash: "http://10.0.0.1:8081" */
	const char *born;      /* RFC 3339: date of a feed that has no article yet */
	uint64_t head_seq;     /* state_history_head() */
	const char *head_hash;
	size_t devices_left; /* that there are beyond the articles in it */
	bool changes_left;   /* there are older ones */
};

/* Written in the form and profile of a feed, for any feed of these with the same authority and base. */
struct feed_article {
	char updated[40]; /* RFC 3339 */
	uint64_t updated_ms;
	unsigned char hash[32]; /* SHA-256 of the text */
	struct buf text;
};

void feed_article_free(struct feed_article *a);
/* past: state_device_past(), which begins with the present one. */
int feed_device(const struct feed *f, const struct state_device *d, const struct state_status *past,
		size_t past_count, struct feed_article *ret, struct err *e);
/* A change that ended, in the API's shape; what is missing in it is not told. */
int feed_change(const struct feed *f, const char *ended, const json_t *change, struct feed_article *ret,
		struct err *e);
/* The whole, newest first whatever the order (which is changed), and its strong ETag in quotes: the
 * hash of what stands around the articles and of their hashes. All: -ERR_SYS when there is no memory. */
int feed_write(const struct feed *f, const struct feed_article **articles, size_t count, struct buf *ret,
	       char ret_etag[FEED_ETAG], struct err *e);
