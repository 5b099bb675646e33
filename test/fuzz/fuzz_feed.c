/* SPDX-License-Identifier: Apache-2.0
 *
 * Whatever stands in a reason, a name or a dump: the feeds are well-formed XML, and JSON.
 */
#include <libxml/parser.h>
#include <string.h>

#include "tell/feed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void parse(enum feed_form form, const struct buf *b)
{
	if (form == FEED_JSON) {
		json_t *o = json_loadb(b->data, b->len, 0, NULL);

		ensure(o);
		json_decref(o);
	} else {
		int flags = XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_NONET | XML_PARSE_HUGE;
		xmlDocPtr doc = xmlReadMemory(b->data, (int)b->len, NULL, NULL, flags);

		ensure(doc);
		xmlFreeDoc(doc);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *text = strndup((const char *)data, size);
	struct state_device d = {.since = "2026-11-22T03:12:15.123000Z", .body = text};
	struct state_status past[2] = {{1, "good", "", "2026-11-22T03:12:15.123000Z"},
				       {0, "bad", "", "2026-11-22T03:12:14.123000Z"}};
	struct feed f = {.name = text, .authority = "host", .base = "http://host", .head_hash = "",
			 .born = d.since};

	util_copy(d.id, sizeof(d.id), text);
	util_copy(d.reason, sizeof(d.reason), text);
	util_copy(past[1].reason, sizeof(past[1].reason), text);
	for (f.form = 0; f.form < FEED_FORM_COUNT; f.form++) {
		CLEANUP_BUF struct buf b = {0};
		struct feed_article a;
		char etag[FEED_ETAG];
		const struct feed_article *all[] = {&a};

		ensure(feed_device(&f, &d, past, 2, &a, NULL) == 0);
		ensure(feed_write(&f, all, 1, &b, etag, NULL) == 0);
		parse(f.form, &b);
		feed_article_free(&a);
	}
	return 0;
}
