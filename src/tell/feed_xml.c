/* SPDX-License-Identifier: Apache-2.0
 *
 * Written as Atom (RFC 4287) and as RSS 2.0, with libxml2's writer. The writer escapes but does not
 * check: what comes here is clean, and "]]>" is split here.
 */
#include "tell/feed_priv.h"

#include <inttypes.h>
#include <libxml/xmlwriter.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

#define NS_ATOM "http://www.w3.org/2005/Atom"
#define NS_OURS "urn:upstate:1"

struct out {
	xmlBufferPtr xml;
	xmlTextWriterPtr w;
	size_t gap;
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
	note(o, xmlTextWriterWriteAttribute(o->w, BAD_CAST name, BAD_CAST value));
}

static void string(struct out *o, const char *text)
{
	note(o, xmlTextWriterWriteString(o->w, BAD_CAST text));
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

static void link_to(struct out *o, const char *name, const char *rel, const char *type,
		    const char *href)
{
	open_element(o, name);
	attribute(o, "rel", rel);
	attribute(o, "type", type);
	attribute(o, "href", href);
	close_element(o);
}

/* Where the articles go: behind what was written until now. */
static void gap(struct out *o)
{
	note(o, xmlTextWriterWriteRaw(o->w, BAD_CAST "\n"));
	note(o, xmlTextWriterFlush(o->w));
	o->gap = (size_t)xmlBufferLength(o->xml);
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

static void atom_frame(struct out *o, const struct feed *f, const struct feed_frame *x)
{
	open_element(o, "feed");
	attribute(o, "xmlns", NS_ATOM);
	attribute(o, "xmlns:upstate", NS_OURS);
	element(o, "id", x->id);
	element(o, "title", x->title);
	element(o, "subtitle", x->subtitle);
	element(o, "updated", x->updated);
	open_element(o, "author");
	element(o, "name", "Upstate");
	close_element(o);
	open_element(o, "generator");
	attribute(o, "version", UPSTATE_VERSION);
	string(o, "Upstate");
	close_element(o);
	link_to(o, "link", "self", "application/atom+xml", x->self);
	link_to(o, "link", "alternate", "text/html", f->base);
	head(o, f);
	gap(o);
	close_element(o);
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

static void rss_frame(struct out *o, const struct feed *f, const struct feed_frame *x)
{
	open_element(o, "rss");
	attribute(o, "version", "2.0");
	attribute(o, "xmlns:atom", NS_ATOM);
	attribute(o, "xmlns:upstate", NS_OURS);
	open_element(o, "channel");
	element(o, "title", x->title);
	element(o, "link", f->base);
	element(o, "description", x->subtitle);
	date_element(o, "lastBuildDate", x->updated);
	element(o, "generator", "Upstate " UPSTATE_VERSION);
	link_to(o, "atom:link", "self", "application/rss+xml", x->self);
	head(o, f);
	gap(o);
	close_element(o);
	close_element(o);
}

/* --- both --- */

static bool begin(struct out *o)
{
	*o = (struct out){.xml = xmlBufferCreate()};
	o->w = o->xml ? xmlNewTextWriterMemory(o->xml, 0) : NULL;
	o->failed = !o->w;
	if (o->w)
		note(o, xmlTextWriterSetIndent(o->w, 1));
	return !o->failed;
}

static bool end(struct out *o, struct buf *ret)
{
	if (o->w)
		xmlFreeTextWriter(o->w); /* flushes */
	if (!o->failed)
		buf_add(ret, xmlBufferContent(o->xml), (size_t)xmlBufferLength(o->xml));
	xmlBufferFree(o->xml);
	return !o->failed;
}

bool feed_xml_entry(const struct feed *f, const struct feed_entry *n, struct buf *ret)
{
	struct out o;

	if (begin(&o))
		(f->form == FEED_ATOM ? atom_entry : rss_item)(&o, n);
	return end(&o, ret);
}

bool feed_xml_frame(const struct feed *f, const struct feed_frame *x, struct buf *ret, size_t *ret_gap)
{
	struct out o;

	if (begin(&o)) {
		note(&o, xmlTextWriterStartDocument(o.w, "1.0", "UTF-8", NULL));
		(f->form == FEED_ATOM ? atom_frame : rss_frame)(&o, f, x);
		note(&o, xmlTextWriterEndDocument(o.w));
	}
	*ret_gap = o.gap;
	return end(&o, ret);
}
