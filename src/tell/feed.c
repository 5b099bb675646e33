/* SPDX-License-Identifier: Apache-2.0
 *
 * What the articles are: their order, titles, bodies. How they are written is in feed_xml.c.
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
	return take(&b);
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

static bool complete(const struct feed_entry *n)
{
	return n->id && n->title && n->link && n->body && n->category;
}

/* --- devices --- */

/* "GOOD guestbook/1: ready, since 03:12 UTC" */
static char *device_title(const struct state_device *d)
{
	struct buf b = {0};

	for (const char *p = d->status; *p; p++)
		buf_addc(&b, (char)toupper((unsigned char)*p));
	buf_addf(&b, " %s%s%s", d->id, *d->reason ? ": " : "", d->reason);
	if (strlen(d->since) > 16)
		buf_addf(&b, "%s since %.5s UTC", *d->reason ? "," : "", d->since + 11);
	return take(&b);
}

static char *device_body(const struct state_device *d)
{
	json_t *dump = json_loads(d->body ? d->body : "", JSON_DECODE_ANY | JSON_ALLOW_NUL, NULL);
	struct buf b = {0};

	buf_addf(&b, "device: %s\nstatus: %s\nreason: %s\nsince:  %s\nchange: %" PRIu64 "\n\n",
		 d->id, d->status, d->reason, d->since, d->seq);
	if (dump)
		add_json(&b, dump);
	else
		add_dump(&b, d->body ? d->body : "");
	json_decref(dump);
	return make_body(&b);
}

static bool add_device(const struct feed *f, const struct state_device *d, struct feed_entry *ret)
{
	*ret = (struct feed_entry){
	    .id = make_id(f, "device", d->id),
	    .title = device_title(d),
	    .link = make_link(f, "device", d->id),
	    .body = device_body(d),
	    .category = strdup(d->status),
	    .updated = d->since,
	};
	return complete(ret);
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

static char *change_body(const struct feed_change *c)
{
	static const char *const keys[] = {"change", "kind", "app",  "from",	"to",
					   "who",    "why",  "when", "outcome", "reason"};
	struct buf b = {0};

	for (size_t i = 0; i < ARRAY_LEN(keys); i++) {
		json_t *v = json_object_get(c->change, keys[i]);

		if (json_is_string(v))
			buf_addf(&b, "%-8s %s\n", keys[i], json_string_value(v));
		else if (json_is_integer(v))
			buf_addf(&b, "%-8s %" JSON_INTEGER_FORMAT "\n", keys[i],
				 json_integer_value(v));
	}
	buf_addf(&b, "%-8s %s\n", "ended", c->ended);
	add_receipt(&b, c->change);
	buf_addc(&b, '\n');
	add_json(&b, c->change);
	return make_body(&b);
}

static bool add_change(const struct feed *f, const struct feed_change *c, struct feed_entry *ret)
{
	char name[24];

	snprintf(name, sizeof(name), "%" PRIu64, number(c->change, "change"));
	*ret = (struct feed_entry){
	    .id = make_id(f, "change", name),
	    .title = change_title(c->change),
	    .link = make_link(f, "change", name),
	    .body = change_body(c),
	    .category = strdup(field(c->change, "outcome")),
	    .updated = c->ended,
	};
	return complete(ret);
}

/* --- all of them --- */

static int by_seq(const void *a, const void *b)
{
	const struct state_device *x = *(const struct state_device *const *)a;
	const struct state_device *y = *(const struct state_device *const *)b;

	return (x->seq < y->seq) - (x->seq > y->seq);
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = number((*(const struct feed_change *const *)a)->change, "change");
	uint64_t y = number((*(const struct feed_change *const *)b)->change, "change");

	return (x < y) - (x > y);
}

/* Newest first; where times are equal the rest decides, so that the order is always the same. */
static int by_time(const void *a, const void *b)
{
	const struct feed_entry *x = a, *y = b;
	int order = (x->updated_ms < y->updated_ms) - (x->updated_ms > y->updated_ms);

	if (order == 0)
		order = strcmp(y->updated, x->updated);
	return order ? order : strcmp(y->id, x->id);
}

/* Appends up to `max` of the newest devices; returns how many were left out. */
static bool list_devices(const struct feed *f, struct feed_list *l, size_t *ret_left)
{
	CLEANUP_FREE const struct state_device **order =
	    calloc(f->device_count + 1, sizeof(*order));
	size_t take_count = MIN(f->device_count, FEED_DEVICES_MAX);

	if (!order)
		return false;
	for (size_t i = 0; i < f->device_count; i++)
		order[i] = &f->devices[i];
	qsort(order, f->device_count, sizeof(const struct state_device *), by_seq);
	for (size_t i = 0; i < take_count; i++)
		if (!add_device(f, order[i], &l->entries[l->len++]))
			return false;
	*ret_left = f->device_count - take_count + f->devices_more;
	return true;
}

static bool list_changes(const struct feed *f, struct feed_list *l, size_t *ret_left)
{
	CLEANUP_FREE const struct feed_change **order = calloc(f->change_count + 1, sizeof(*order));
	size_t n = 0, take_count;

	if (!order)
		return false;
	for (size_t i = 0; i < f->change_count; i++)
		if (f->changes[i].ended)
			order[n++] = &f->changes[i];
	qsort(order, n, sizeof(const struct feed_change *), by_number);
	take_count = MIN(n, FEED_CHANGES_MAX);
	for (size_t i = 0; i < take_count; i++)
		if (!add_change(f, order[i], &l->entries[l->len++]))
			return false;
	*ret_left = n - take_count + f->changes_more;
	return true;
}

static char *make_subtitle(const struct feed *f, size_t devices_left, size_t changes_left)
{
	struct buf b = {0};

	buf_adds(&b, "Status of each device, and each deploy and rollback with its receipt.");
	if (devices_left)
		buf_addf(&b, " Left out: %zu devices that changed before these.", devices_left);
	if (changes_left)
		buf_addf(&b, " Left out: %zu older deploys and rollbacks.", changes_left);
	buf_addf(&b, " History: record %" PRIu64 ", %s.", f->head_seq, f->head_hash);
	return take(&b);
}

bool feed_list_make(const struct feed *f, struct feed_list *ret)
{
	struct feed_list l = {.updated = f->updated};
	size_t devices_left = 0, changes_left = 0;

	l.entries = calloc(FEED_DEVICES_MAX + FEED_CHANGES_MAX, sizeof(*l.entries));
	if (!l.entries || !list_devices(f, &l, &devices_left) ||
	    !list_changes(f, &l, &changes_left))
		goto fail;
	for (size_t i = 0; i < l.len; i++)
		clock_parse(l.entries[i].updated, &l.entries[i].updated_ms);
	qsort(l.entries, l.len, sizeof(*l.entries), by_time);
	if (l.len)
		l.updated = l.entries[0].updated;
	l.subtitle = make_subtitle(f, devices_left, changes_left);
	if (!l.subtitle)
		goto fail;
	*ret = l;
	return true;
fail:
	feed_list_free(&l);
	return false;
}

void feed_list_free(struct feed_list *l)
{
	for (size_t i = 0; i < l->len; i++) {
		struct feed_entry *n = &l->entries[i];

		free(n->id);
		free(n->title);
		free(n->link);
		free(n->body);
		free(n->category);
	}
	free(l->entries);
	free(l->subtitle);
	*l = (struct feed_list){0};
}

void feed_etag(const void *bytes, size_t len, char ret[FEED_ETAG])
{
	unsigned char sum[SHA256_DIGEST_LENGTH];

	SHA256(bytes, len, sum);
	for (size_t i = 0; i < sizeof(sum); i++)
		snprintf(ret + 1 + 2 * i, 3, "%02x", sum[i]);
	ret[0] = ret[65] = '"';
	ret[66] = '\0';
}
