/* SPDX-License-Identifier: Apache-2.0
 *
 * What the articles are: their titles, bodies, order. How they are written is in feed_xml.c, feed_json.c.
 */
#include "tell/feed_priv.h"

#include <ctype.h>
#include <inttypes.h>
#include <openssl/sha.h>
#include <string.h>

#include "base/clock.h"
#include "tell/text.h"

/* Ids keep their year for ever: it says when the name was given out, not when the thing happened.
 */
#define TAG "tag:%s,2026:"

/* Takes the content out of the buffer as a string; NULL when it had failed. */
static char *take(struct buf *b)
{
	char *s;

	buf_addc(b, '\0');
	s = b->failed ? NULL : TAKE(b->data);
	buf_free(b);
	return s;
}

/* Takes the text over. */
static char *cleaned(char *text)
{
	struct buf b = {0};

	if (text)
		text_clean(&b, text);
	b.failed |= !text;
	free(text);
	return take(&b);
}

static const char *field(const json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

static uint64_t number(const json_t *o, const char *key)
{
	json_int_t n = json_integer_value(json_object_get(o, key));

	return n > 0 ? (uint64_t)n : 0;
}

static char *make_id(const struct feed *f, const char *kind, const char *name)
{
	struct buf b = {0};

	buf_addf(&b, TAG "%s/", f->authority, kind);
	text_path(&b, name);
	return cleaned(take(&b));
}

static char *make_link(const struct feed *f, const char *kind, const char *name)
{
	struct buf b = {0};

	buf_adds(&b, f->base);
	buf_addf(&b, "/%ss/", kind);
	text_path(&b, name);
	return take(&b);
}

/* Text within <pre>. A '>' is left as it is: legal in HTML, and it keeps JSON readable; the writer
 * of the CDATA section splits "]]>". */
static char *make_body(struct buf *text)
{
	CLEANUP_BUF struct buf clean = {.max = text->max};
	struct buf b = {0};

	text_clean(&clean, buf_str(text));
	buf_adds(&b, "<pre>");
	for (size_t i = 0; i < clean.len; i++) {
		if (clean.data[i] == '&')
			buf_adds(&b, "&amp;");
		else if (clean.data[i] == '<')
			buf_adds(&b, "&lt;");
		else
			buf_addc(&b, clean.data[i]);
	}
	buf_adds(&b, "</pre>");
	b.failed |= text->failed || clean.failed;
	buf_free(text);
	return take(&b);
}

static void add_dump(struct buf *b, const char *text)
{
	size_t n = strlen(text);

	buf_add(b, text, MIN(n, FEED_DUMP_MAX));
	buf_addc(b, '\n');
	if (n > FEED_DUMP_MAX)
		buf_addf(b, "(the first %u of %zu bytes)\n", FEED_DUMP_MAX, n);
}

static void add_json(struct buf *b, const json_t *j)
{
	CLEANUP_FREE char *text = json_dumps(j, JSON_INDENT(2) | JSON_SORT_KEYS | JSON_ENCODE_ANY);

	if (text)
		add_dump(b, text);
	else
		b->failed = true;
}

static void free_entry(struct feed_entry *n)
{
	free(n->id);
	free(n->title);
	free(n->link);
	free(n->body);
	free(n->category);
}

/* Takes the entry over. */
static int write_entry(const struct feed *f, struct feed_entry *n, struct feed_article *ret, struct err *e)
{
	bool ok;

	*ret = (struct feed_article){0};
	util_copy(ret->updated, sizeof(ret->updated), n->updated);
	clock_parse(ret->updated, &ret->updated_ms);
	ok = n->id && n->title && n->link && n->body && n->category &&
	     (f->form == FEED_JSON ? feed_json_entry : feed_xml_entry)(f, n, &ret->text);
	free_entry(n);
	if (ok && !ret->text.failed) {
		SHA256((unsigned char *)ret->text.data, ret->text.len, ret->hash);
		return 0;
	}
	feed_article_free(ret);
	return err_set(e, ERR_SYS, "no memory for an article of the feed");
}

void feed_article_free(struct feed_article *a)
{
	buf_free(&a->text);
}

/* --- devices --- */

static void add_upper(struct buf *b, const char *word)
{
	for (; *word; word++)
		buf_addc(b, (char)toupper((unsigned char)*word));
}

static int badness(const char *status)
{
	static const char *const words[] = {"good", "unknown", "bad", "ugly"};

	for (int i = 0; i < (int)ARRAY_LEN(words); i++)
		if (strcmp(status, words[i]) == 0)
			return i;
	return 0;
}

static uint64_t lasted_ms(const struct state_status *s, const char *until)
{
	uint64_t from_ms = 0, until_ms = 0;

	clock_parse(s->since, &from_ms);
	clock_parse(until, &until_ms);
	return until_ms > from_ms ? until_ms - from_ms : 0;
}

/* What users of the device felt since it last had the status that it has now: the worst, and for how
 * long it was worse than now. Who looks rarely would not see it otherwise. */
static void add_excursion(struct buf *b, const struct state_status *past, size_t n)
{
	const struct state_status *worst = NULL;
	char span[CLOCK_TEXT];
	uint64_t ms = 0;

	for (size_t i = 1; i < n; i++) {
		if (strcmp(past[i].status, past[0].status) == 0) {
			if (worst)
				break;
			continue; /* the same for another reason */
		}
		if (badness(past[i].status) <= badness(past[0].status))
			continue;
		ms += lasted_ms(&past[i], past[i - 1].since);
		if (!worst || badness(past[i].status) > badness(worst->status))
			worst = &past[i];
	}
	if (!worst || strcmp(worst->status, "unknown") == 0)
		return;
	buf_adds(b, ", was ");
	add_upper(b, worst->status);
	buf_addf(b, " for %s", clock_span(ms, span));
}

/* "GOOD web-1: HTTP 12 ms, since 03:16 UTC, was UGLY for 4 min" */
static char *device_title(const struct state_device *d, const struct state_status *past, size_t n)
{
	struct buf b = {0};

	add_upper(&b, d->status);
	buf_addf(&b, " %s%s%s", d->id, *d->reason ? ": " : "", d->reason);
	if (strlen(d->since) > 16)
		buf_addf(&b, "%s since %.5s UTC", *d->reason ? "," : "", d->since + 11);
	add_excursion(&b, past, n);
	return cleaned(take(&b));
}

static void add_past(struct buf *b, const struct state_status *past, size_t n)
{
	char span[CLOCK_TEXT];

	if (n < 2)
		return;
	buf_adds(b, "\nbefore:\n");
	for (size_t i = 1; i < n; i++)
		buf_addf(b, "%s %-7s %s (%s)\n", past[i].since, past[i].status, past[i].reason,
			 clock_span(lasted_ms(&past[i], past[i - 1].since), span));
}

static char *device_body(const struct state_device *d, const struct state_status *past, size_t n)
{
	json_t *dump = json_loads(d->body ? d->body : "", JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	struct buf b = {0};

	buf_addf(&b, "device: %s\nstatus: %s\nreason: %s\nsince:  %s\nchange: %" PRIu64 "\n",
		 d->id, d->status, d->reason, d->since, d->seq);
	add_past(&b, past, MIN(n, FEED_PAST_MAX + 1));
	buf_addc(&b, '\n');
	if (dump)
		add_json(&b, dump);
	else
		add_dump(&b, d->body ? d->body : "");
	json_decref(dump);
	return make_body(&b);
}

/* By change, the link leads to the line of that change on the device's page. */
static char *make_of_change(const struct feed *f, char *(*make)(const struct feed *, const char *, const char *),
			    const struct state_device *d)
{
	CLEANUP_FREE char *text = make(f, "device", d->id);
	struct buf b = {.failed = !text};

	buf_adds(&b, text ? text : "");
	if (f->profile == FEED_BY_CHANGE)
		buf_addf(&b, "#%" PRIu64, d->seq);
	return take(&b);
}

int feed_device(const struct feed *f, const struct state_device *d, const struct state_status *past,
		size_t past_count, struct feed_article *ret, struct err *e)
{
	struct feed_entry n = {
	    .id = make_of_change(f, make_id, d),
	    .title = device_title(d, past, past_count),
	    .link = make_of_change(f, make_link, d),
	    .body = device_body(d, past, past_count),
	    .category = strdup(d->status),
	    .updated = d->since,
	};

	return write_entry(f, &n, ret, e);
}

/* --- changes --- */

/* "deploy of guestbook, guestbook@11 to guestbook@12: undone (not ready in 30 s)" */
static char *change_title(const json_t *c)
{
	const char *from = field(c, "from"), *to = field(c, "to"), *reason = field(c, "reason");
	struct buf b = {0};

	buf_addf(&b, "%s of %s", field(c, "kind"), field(c, "app"));
	if (*to)
		buf_addf(&b, ", %s%s%s", from, *from ? " to " : "", to);
	buf_addf(&b, ": %s", field(c, "outcome"));
	if (*reason)
		buf_addf(&b, " (%s)", reason);
	buf_addf(&b, "; %" PRIu64 " of %" PRIu64 " requests failed", number(c, "failed"),
		 number(c, "requests"));
	return take(&b);
}

static void add_receipt(struct buf *b, const json_t *c)
{
	static const char *const counts[] = {"requests", "answered", "failed",
					     "held",	 "retried",  "slowed"};
	static const char *const times[] = {"p50_ms", "p99_ms", "longest_ms"};

	buf_adds(b, "receipt:");
	for (size_t i = 0; i < ARRAY_LEN(counts); i++)
		buf_addf(b, "%s %" PRIu64 " %s", i ? "," : "", number(c, counts[i]), counts[i]);
	for (size_t i = 0; i < ARRAY_LEN(times); i++) {
		json_t *ms = json_object_get(c, times[i]);

		if (json_is_number(ms))
			buf_addf(b, "; %.*s %.1f ms", (int)strlen(times[i]) - 3, times[i],
				 json_number_value(ms));
	}
	buf_adds(b, "\n");
}

static char *change_body(const char *ended, const json_t *change)
{
	static const char *const keys[] = {"change", "kind", "app",  "from",	"to",
					   "who",    "why",  "when", "outcome", "reason"};
	struct buf b = {0};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		json_t *v = json_object_get(change, keys[i]);

		if (json_is_string(v))
			buf_addf(&b, "%-8s %s\n", keys[i], json_string_value(v));
		else if (json_is_integer(v))
			buf_addf(&b, "%-8s %" JSON_INTEGER_FORMAT "\n", keys[i],
				 json_integer_value(v));
	}
	buf_addf(&b, "%-8s %s\n", "ended", ended);
	add_receipt(&b, change);
	buf_addc(&b, '\n');
	add_json(&b, change);
	return make_body(&b);
}

int feed_change(const struct feed *f, const char *ended, const json_t *change, struct feed_article *ret,
		struct err *e)
{
	char name[24];
	struct feed_entry n;

	snprintf(name, sizeof(name), "%" PRIu64, number(change, "change"));
	n = (struct feed_entry){
	    .id = make_id(f, "change", name),
	    .title = cleaned(change_title(change)),
	    .link = make_link(f, "change", name),
	    .body = change_body(ended, change),
	    .category = cleaned(strdup(field(change, "outcome"))),
	    .updated = ended,
	};
	return write_entry(f, &n, ret, e);
}

/* --- the whole --- */

/* Newest first; where times are equal the rest decides, so that the order is always the same. */
static int by_time(const void *a, const void *b)
{
	const struct feed_article *x = *(const struct feed_article *const *)a;
	const struct feed_article *y = *(const struct feed_article *const *)b;
	int order = (x->updated_ms < y->updated_ms) - (x->updated_ms > y->updated_ms);

	if (order == 0)
		order = strcmp(y->updated, x->updated);
	if (order == 0)
		order = memcmp(y->text.data, x->text.data, MIN(x->text.len, y->text.len));
	return order ? order : (x->text.len < y->text.len) - (x->text.len > y->text.len);
}

static char *make_subtitle(const struct feed *f)
{
	struct buf b = {0};

	buf_adds(&b, "Status of each device, and each deploy and rollback with its receipt.");
	if (f->devices_left)
		buf_addf(&b, " Left out: %zu devices that changed before these.", f->devices_left);
	if (f->changes_left)
		buf_adds(&b, " Left out: older deploys and rollbacks.");
	buf_addf(&b, " History: record %" PRIu64 ", %s.", f->head_seq, f->head_hash);
	return take(&b);
}

static char *make_self(const struct feed *f)
{
	static const char *const extensions[] = {
#define X(name, extension, type) [FEED_##name] = extension,
		FEED_FORM_TABLE(X)
#undef X
	};
	struct buf b = {0};

	buf_addf(&b, "%s/feeds/", f->base);
	text_path(&b, f->name);
	buf_addf(&b, ".%s%s", extensions[f->form], f->profile == FEED_BY_CHANGE ? "?profile=change" : "");
	return take(&b);
}

static char *make_title(const struct feed *f)
{
	struct buf b = {0};

	buf_addf(&b, "%s on %s", f->name, f->authority);
	return cleaned(take(&b));
}

/* SHA-256 of several pieces needs the calls that OpenSSL 3 calls deprecated, or an allocation; of one
 * buffer it needs neither. */
static void make_etag(const struct buf *frame, const struct feed_article *const *articles, size_t count,
		      char ret[FEED_ETAG])
{
	CLEANUP_BUF struct buf b = {0};
	char hash[STATE_HASH];

	buf_add(&b, frame->data, frame->len);
	for (size_t i = 0; i < count; i++)
		buf_add(&b, articles[i]->hash, sizeof(articles[i]->hash));
	state_sha256(b.data, b.len, hash);
	snprintf(ret, FEED_ETAG, "\"%s\"", hash);
}

/* The articles into their gap. */
static void fill(const struct feed *f, const struct buf *frame, size_t gap,
		 const struct feed_article *const *articles, size_t count, struct buf *ret)
{
	buf_add(ret, frame->data, gap);
	for (size_t i = 0; i < count; i++) {
		if (i && f->form == FEED_JSON)
			buf_adds(ret, ",\n");
		buf_add(ret, articles[i]->text.data, articles[i]->text.len);
	}
	buf_add(ret, frame->data + gap, frame->len - gap);
}

int feed_write(const struct feed *f, const struct feed_article **articles, size_t count, struct buf *ret,
	       char ret_etag[FEED_ETAG], struct err *e)
{
	struct feed_frame x = {
	    .id = make_id(f, f->profile == FEED_BY_CHANGE ? "changes" : "feed", f->name),
	    .title = make_title(f),
	    .subtitle = make_subtitle(f),
	    .self = make_self(f),
	    .updated = f->born,
	};
	bool ok = x.id && x.title && x.subtitle && x.self;
	CLEANUP_BUF struct buf frame = {0};
	size_t gap = 0;

	if (count) {
		qsort(articles, count, sizeof(const struct feed_article *), by_time);
		x.updated = articles[0]->updated;
	}
	ok = ok && (f->form == FEED_JSON ? feed_json_frame : feed_xml_frame)(f, &x, &frame, &gap) && !frame.failed;
	if (ok) {
		fill(f, &frame, gap, articles, count, ret);
		make_etag(&frame, articles, count, ret_etag);
	}
	free(x.id);
	free(x.title);
	free(x.subtitle);
	free(x.self);
	if (!ok || ret->failed)
		return err_set(e, ERR_SYS, "no memory for the feed of '%s'", f->name);
	return 0;
}
