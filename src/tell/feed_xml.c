/* SPDX-License-Identifier: Apache-2.0
 *
 * Articles written as Atom (RFC 4287) and as RSS 2.0, with libxml2's writer. The writer escapes but
 * does not check: everything passes text_clean() first, and "]]>" is split here.
 */
#include "tell/feed_priv.h"

#include <inttypes.h>
#include <libxml/xmlwriter.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"
#include "tell/text.h"

#define NS_ATOM "http://www.w3.org/2005/Atom"
#define NS_OURS "urn:upstate:1"

struct out {
	xmlTextWriterPtr w;
	bool failed;
};

static void note(struct out *o, int r)
{
	o->failed |= r < 0;
}

static void open_element(struct out *o, const char *name)
{
	note(o, xmlTextWriterStartElement(o->w, BAD_CAST name));
}

static void close_element(struct out *o)
{
	note(o, xmlTextWriterEndElement(o->w));
}

static void attribute(struct out *o, const char *name, const char *value)
{
	CLEANUP_BUF struct buf b = {0};

	text_clean(&b, value);
	note(o, xmlTextWriterWriteAttribute(o->w, BAD_CAST name, BAD_CAST buf_str(&b)));
	o->failed |= b.failed;
}

static void string(struct out *o, const char *text)
{
	CLEANUP_BUF struct buf b = {0};

	text_clean(&b, text);
	note(o, xmlTextWriterWriteString(o->w, BAD_CAST buf_str(&b)));
	o->failed |= b.failed;
}

static void element(struct out *o, const char *name, const char *text)
{
	open_element(o, name);
	string(o, text);
	close_element(o);
}

/* "]]>" would end the section: its parts go into two. */
static void cdata(struct out *o, const char *html)
{
	CLEANUP_BUF struct buf b = {0};
	const char *p = html, *end;

	while ((end = strstr(p, "]]>"))) {
		b.len = 0;
		buf_add(&b, p, (size_t)(end + 2 - p));
		note(o, xmlTextWriterWriteCDATA(o->w, BAD_CAST buf_str(&b)));
		p = end + 2;
	}
	note(o, xmlTextWriterWriteCDATA(o->w, BAD_CAST p));
	o->failed |= b.failed;
}

static void head(struct out *o, const struct feed *f)
{
	char seq[24];

	snprintf(seq, sizeof(seq), "%" PRIu64, f->head_seq);
	open_element(o, "upstate:history");
	attribute(o, "seq", seq);
	attribute(o, "hash", f->head_hash);
	close_element(o);
}

static void title(struct out *o, const struct feed *f)
{
	CLEANUP_BUF struct buf b = {0};

	buf_addf(&b, "%s on %s", f->name, f->authority);
	element(o, "title", buf_str(&b));
	o->failed |= b.failed;
}

static char *address(const struct feed *f, const char *extension)
{
	CLEANUP_BUF struct buf b = {0};

	buf_addf(&b, "%s/feeds/", f->base);
	text_path(&b, f->name);
	buf_adds(&b, extension);
	return strdup(buf_str(&b));
}

static void link_to(struct out *o, const char *name, const char *rel, const char *type,
		    const char *href)
{
	open_element(o, name);
	attribute(o, "rel", rel);
	attribute(o, "type", type);
	attribute(o, "href", href ? href : "");
	close_element(o);
}

/* --- Atom --- */

static void atom_entry(struct out *o, const struct feed_entry *n)
{
	open_element(o, "entry");
	element(o, "id", n->id);
	element(o, "title", n->title);
	element(o, "updated", n->updated);
	link_to(o, "link", "alternate", "text/html", n->link);
	open_element(o, "category");
	attribute(o, "term", n->category);
	close_element(o);
	open_element(o, "content");
	attribute(o, "type", "html");
	cdata(o, n->body);
	close_element(o);
	close_element(o);
}

static void atom(struct out *o, const struct feed *f, const struct feed_list *l)
{
	CLEANUP_FREE char *self = address(f, ".atom");
	CLEANUP_BUF struct buf id = {0};

	buf_addf(&id, "tag:%s,2026:feed/", f->authority);
	text_path(&id, f->name);
	open_element(o, "feed");
	attribute(o, "xmlns", NS_ATOM);
	attribute(o, "xmlns:upstate", NS_OURS);
	element(o, "id", buf_str(&id));
	title(o, f);
	element(o, "subtitle", l->subtitle);
	element(o, "updated", l->updated);
	open_element(o, "author");
	element(o, "name", "Upstate");
	close_element(o);
	open_element(o, "generator");
	attribute(o, "version", UPSTATE_VERSION);
	string(o, "Upstate");
	close_element(o);
	link_to(o, "link", "self", "application/atom+xml", self);
	link_to(o, "link", "alternate", "text/html", f->base);
	head(o, f);
	for (size_t i = 0; i < l->len; i++)
		atom_entry(o, &l->entries[i]);
	close_element(o);
	o->failed |= !self || id.failed;
}

/* --- RSS --- */

/* RFC 822 as RSS wants it: "Sun, 22 Nov 2026 01:39:15 GMT". Not strftime(): that speaks the
 * user's language. */
static void date_element(struct out *o, const char *name, const char *when)
{
	static const char days[][4] = {"Sun", "Mon", "Tue", "Wed", "Thu", "Fri", "Sat"};
	static const char months[][4] = {"Jan", "Feb", "Mar", "Apr", "May", "Jun",
					 "Jul", "Aug", "Sep", "Oct", "Nov", "Dec"};
	uint64_t ms = 0;
	char text[64];
	struct tm tm;
	time_t t;

	clock_parse(when, &ms);
	t = (time_t)(ms / 1000);
	gmtime_r(&t, &tm);
	snprintf(text, sizeof(text), "%s, %02d %s %d %02d:%02d:%02d GMT", days[tm.tm_wday],
		 tm.tm_mday, months[tm.tm_mon], tm.tm_year + 1900, tm.tm_hour, tm.tm_min,
		 tm.tm_sec);
	element(o, name, text);
}

static void rss_item(struct out *o, const struct feed_entry *n)
{
	open_element(o, "item");
	element(o, "title", n->title);
	element(o, "link", n->link);
	open_element(o, "guid");
	attribute(o, "isPermaLink", "false");
	string(o, n->id);
	close_element(o);
	date_element(o, "pubDate", n->updated);
	element(o, "category", n->category);
	open_element(o, "description");
	cdata(o, n->body);
	close_element(o);
	close_element(o);
}

static void rss(struct out *o, const struct feed *f, const struct feed_list *l)
{
	CLEANUP_FREE char *self = address(f, ".rss");

	open_element(o, "rss");
	attribute(o, "version", "2.0");
	attribute(o, "xmlns:atom", NS_ATOM);
	attribute(o, "xmlns:upstate", NS_OURS);
	open_element(o, "channel");
	title(o, f);
	element(o, "link", f->base);
	element(o, "description", l->subtitle);
	date_element(o, "lastBuildDate", l->updated);
	element(o, "generator", "Upstate " UPSTATE_VERSION);
	link_to(o, "atom:link", "self", "application/rss+xml", self);
	head(o, f);
	for (size_t i = 0; i < l->len; i++)
		rss_item(o, &l->entries[i]);
	close_element(o);
	close_element(o);
	o->failed |= !self;
}

static int write_feed(const struct feed *f,
		      void (*form)(struct out *o, const struct feed *f, const struct feed_list *l),
		      struct buf *ret, struct err *e)
{
	xmlBufferPtr xml = xmlBufferCreate();
	struct feed_list l = {0};
	struct out o = {.w = xml ? xmlNewTextWriterMemory(xml, 0) : NULL};

	o.failed = !o.w || !feed_list_make(f, &l);
	if (!o.failed) {
		note(&o, xmlTextWriterSetIndent(o.w, 1));
		note(&o, xmlTextWriterStartDocument(o.w, "1.0", "UTF-8", NULL));
		form(&o, f, &l);
		note(&o, xmlTextWriterEndDocument(o.w));
	}
	if (o.w)
		xmlFreeTextWriter(o.w); /* flushes */
	if (!o.failed)
		buf_add(ret, xmlBufferContent(xml), (size_t)xmlBufferLength(xml));
	xmlBufferFree(xml);
	feed_list_free(&l);
	if (o.failed || ret->failed)
		return err_set(e, ERR_SYS, "no memory for the feed of '%s'", f->name);
	return 0;
}

int feed_atom(const struct feed *f, struct buf *ret, struct err *e)
{
	return write_feed(f, atom, ret, e);
}

int feed_rss(const struct feed *f, struct buf *ret, struct err *e)
{
	return write_feed(f, rss, ret, e);
}
