/* SPDX-License-Identifier: Apache-2.0
 *
 * Written as JSON Feed 1.1 (jsonfeed.org/version/1.1).
 */
#include "tell/feed_priv.h"

static bool dump(json_t *o, struct buf *ret)
{
	char *text = o ? json_dumps(o, JSON_COMPACT) : NULL;

	json_decref(o);
	if (!text)
		return false;
	buf_adds(ret, text);
	free(text);
	return true;
}

bool feed_json_entry(const struct feed *f UNUSED, const struct feed_entry *n, struct buf *ret)
{
	return dump(json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:[s]}", "id", n->id, "url", n->link, "title",
			      n->title, "content_html", n->body, "date_published", n->updated, "date_modified",
			      n->updated, "tags", n->category),
		    ret);
}

bool feed_json_frame(const struct feed *f, const struct feed_frame *x, struct buf *ret, size_t *ret_gap)
{
	json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s, s:[{s:s}], s:{s:s, s:I, s:s, s:s}}", "version",
			      "https://jsonfeed.org/version/1.1", "title", x->title, "description", x->subtitle,
			      "home_page_url", f->base, "feed_url", x->self, "authors", "name", "Upstate",
			      "_upstate", "id", x->id, "history", (json_int_t)f->head_seq, "hash", f->head_hash,
			      "updated", x->updated);

	if (!dump(o, ret) || ret->failed)
		return false;
	ret->len--; /* its closing brace */
	buf_adds(ret, ",\"items\":[\n");
	*ret_gap = ret->len;
	buf_adds(ret, "]}\n");
	return true;
}
