/* SPDX-License-Identifier: Apache-2.0
 *
 * Between feed.c, which decides what is told, and feed_xml.c and feed_json.c, which write it.
 */
#pragma once

#include "tell/feed.h"

/* An article before it is written. All cleaned of what XML does not allow. */
struct feed_entry {
	char *id;    /* tag URI (RFC 4151) */
	char *title; /* plain text */
	char *link;
	char *body;	/* HTML */
	char *category; /* status of a device, outcome of a change */
	const char *updated; /* RFC 3339 */
};

/* What stands around the articles. */
struct feed_frame {
	char *id, *title, *subtitle, *self;
	const char *updated;
};

/* Both return false when there is no memory for it. */
typedef bool feed_write_entry(const struct feed *f, const struct feed_entry *n, struct buf *ret);
/* With a gap for the articles behind *ret_gap bytes. */
typedef bool feed_write_frame(const struct feed *f, const struct feed_frame *x, struct buf *ret,
			      size_t *ret_gap);

feed_write_entry feed_xml_entry, feed_json_entry;
feed_write_frame feed_xml_frame, feed_json_frame;
