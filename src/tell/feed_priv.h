/* SPDX-License-Identifier: Apache-2.0
 *
 * Between feed.c, which decides what the articles are, and feed_xml.c, which writes them.
 */
#pragma once

#include "tell/feed.h"

struct feed_entry {
	char *id;    /* tag URI (RFC 4151) */
	char *title; /* plain text */
	char *link;
	char *body;	/* HTML */
	char *category; /* status of a device, outcome of a change */
	const char *updated; /* RFC 3339; borrowed */
	uint64_t updated_ms;
};

struct feed_list {
	struct feed_entry *entries; /* newest first */
	size_t len;
	char *subtitle;
	const char *updated;
};

/* false when there is no memory for it. */
bool feed_list_make(const struct feed *f, struct feed_list *ret);
void feed_list_free(struct feed_list *l);
