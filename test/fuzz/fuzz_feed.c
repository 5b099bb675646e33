/* SPDX-License-Identifier: Apache-2.0
 *
 * Whatever stands in a reason, a name or a dump: both feeds are well-formed XML.
 */
#include <libxml/parser.h>
#include <string.h>

#include "tell/feed.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *text = strndup((const char *)data, size);
	struct state_device d = {.since = "2026-11-22T03:12:15.123000Z", .body = text};
	struct feed f = {.name = text, .authority = "host", .base = "http://host", .head_hash = "",
			 .updated = d.since, .devices = &d, .device_count = 1};
	int flags = XML_PARSE_NOERROR | XML_PARSE_NOWARNING | XML_PARSE_NONET | XML_PARSE_HUGE;

	util_copy(d.id, sizeof(d.id), text);
	util_copy(d.reason, sizeof(d.reason), text);
	for (int as_rss = 0; as_rss < 2; as_rss++) {
		CLEANUP_BUF struct buf b = {0};
		xmlDocPtr doc;

		ensure((as_rss ? feed_rss : feed_atom)(&f, &b, NULL) == 0);
		doc = xmlReadMemory(b.data, (int)b.len, NULL, NULL, flags);
		ensure(doc);
		xmlFreeDoc(doc);
	}
	return 0;
}
