/* SPDX-License-Identifier: Apache-2.0
 *
 * Feeds on request. Readers ask often and there is rarely anything new: a feed is kept as it was
 * written, with what it was written from, so that such a question costs a comparison. It lies in a memory
 * file, from which each reader is served at its own pace.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/mman.h>
#include <zlib.h>

#include "base/clock.h"
#include "tell/tell_priv.h"

struct news_feed {
	struct list link;
	char name[64];
	enum feed_form form;
	enum feed_profile profile;
	uint64_t generation, head_seq; /* that it was written from */
	char etag[FEED_ETAG];
	int plain, gzip; /* memory files; gzip -1: nobody asked for it yet */
	size_t plain_len, gzip_len;
};

static const struct {
	const char *extension, *type;
} forms[FEED_FORM_COUNT] = {
#define X(name, extension, type) [FEED_##name] = {extension, type},
	FEED_FORM_TABLE(X)
#undef X
};

/* The name in all ids of the feeds, and the time of their birth: they must never change. */
static int feed_birth(struct tell *t, json_t **ret, struct err *e)
{
	char host[256] = "localhost", born[CLOCK_TEXT];

	if (state_get(t->ship->state, "feed", ret, e) < 0)
		return -(int)e->code;
	if (*ret)
		return 0;
	if (gethostname(host, sizeof(host) - 1) < 0)
		util_copy(host, sizeof(host), "localhost");
	*ret = json_pack("{s:s, s:s}", "authority", host, "born", clock_text(clock_wall_ms(), born));
	if (!*ret)
		*ret = json_pack("{s:s, s:s}", "authority", "localhost", "born", born);
	return state_put(t->ship->state, "feed", *ret, e);
}

/* --- writing one --- */

struct writing {
	struct tell *t;
	struct feed f;
	const struct feed_article **articles;
	size_t count, bytes;
	struct feed_article changes[FEED_CHANGES_MAX];
	size_t change_count;
	bool *needed; /* devices of the configuration, by the app whose feed it is */
	struct err *e;
	int result;
};

/* An app's feed tells its own devices, those of the configuration that it needs, and those that all apps stand on. */
static bool belongs(const struct writing *w, const struct news_device *d, const char *app)
{
	const struct conf *conf = w->t->conf;
	const struct conf_device *x = app && !d->app[0] ? conf_device(conf, d->id) : NULL;

	if (x)
		return w->needed[x - conf->devices];
	return !app || !d->app[0] || strcmp(d->app, app) == 0;
}

/* Over any number of steps. */
static bool *find_needed(const struct conf *conf, const char *app)
{
	bool *needed = util_alloc((conf->device_count + 1) * sizeof(*needed));

	if (app && conf_app(conf, app))
		conf_needed(conf, &conf_app(conf, app)->needs, needed);
	return needed;
}

/* The device's article, written now if it was not; NULL: no more in the state, or an error in w. */
static const struct feed_article *article_of(struct writing *w, struct news_device *d)
{
	struct feed_article **place = &d->articles[w->f.form][w->f.profile];
	struct state_status past[FEED_PAST_MAX + 1];
	struct state_device now;
	int r, n;

	if (*place)
		return *place;
	r = state_device_get(w->t->ship->state, d->id, &now, w->e);
	if (r != 1) {
		w->result = MIN(w->result, r);
		return NULL;
	}
	*place = util_alloc(sizeof(**place));
	n = state_device_past(w->t->ship->state, d->id, past, ARRAY_LEN(past), w->e);
	r = n < 0 ? n : feed_device(&w->f, &now, past, (size_t)n, *place, w->e);
	free(now.body);
	if (r < 0) {
		w->result = r;
		free(TAKE(*place));
	}
	return *place;
}

static void add_devices(struct writing *w, const char *app)
{
	struct news_device *d;

	LIST_EACH (d, &w->t->news.devices, link) {
		const struct feed_article *a;

		if (!belongs(w, d, app))
			continue;
		if (w->f.devices_left || w->count == FEED_DEVICES_MAX) {
			w->f.devices_left++;
			continue;
		}
		a = article_of(w, d);
		if (w->result < 0)
			return;
		if (!a)
			continue;
		if (w->bytes + a->text.len > NEWS_FEED_BYTES) {
			w->f.devices_left++;
			continue;
		}
		w->bytes += a->text.len;
		w->articles[w->count++] = a;
	}
}

static bool add_change(void *arg, json_t *record)
{
	struct writing *w = arg;
	struct feed_article *a = &w->changes[w->change_count];
	const char *ended = json_string_value(json_object_get(record, "time"));

	if (w->change_count == FEED_CHANGES_MAX) {
		w->f.changes_left = true;
		return false;
	}
	w->result = feed_change(&w->f, ended ? ended : "", json_object_get(record, "data"), a, w->e);
	if (w->result < 0)
		return false;
	w->change_count++;
	w->articles[w->count++] = a;
	return true;
}

static int put_file(const void *bytes, size_t len, struct err *e)
{
	int fd = memfd_create("upstate-feed", MFD_CLOEXEC);

	if (fd >= 0 && ftruncate(fd, (off_t)len) == 0 && pwrite(fd, bytes, len, 0) == (ssize_t)len)
		return fd;
	err_sys(e, "memory for a feed of %zu bytes", len);
	if (fd >= 0)
		close(fd);
	return -(int)e->code;
}

static void empty_feed(struct news *n, struct news_feed *x)
{
	if (x->plain >= 0)
		close(x->plain);
	if (x->gzip >= 0)
		close(x->gzip);
	n->feed_bytes -= x->plain_len + x->gzip_len;
	x->plain = x->gzip = -1;
	x->plain_len = x->gzip_len = 0;
}

static int store(struct news *n, struct news_feed *x, const struct buf *out, struct err *e)
{
	int fd = put_file(out->data, out->len, e);

	if (fd < 0)
		return fd;
	empty_feed(n, x);
	x->plain = fd;
	x->plain_len = out->len;
	n->feed_bytes += x->plain_len;
	return 0;
}

static int write_feed(struct tell *t, struct news_feed *x, uint64_t head_seq, const char *head_hash,
		      struct err *e)
{
	const char *app = strcmp(x->name, "all") == 0 ? NULL : x->name;
	CLEANUP(json_decrefp) json_t *birth = NULL;
	CLEANUP_BUF struct buf out = {.max = NEWS_FEED_BYTES * 2};
	char base[MSG_PATH + 16], etag[FEED_ETAG];
	struct writing *w;
	int r = feed_birth(t, &birth, e);

	if (r < 0)
		return r;
	snprintf(base, sizeof(base), "http://%s", t->conf->admin ?: "localhost");
	w = util_alloc(sizeof(*w));
	*w = (struct writing){.t = t, .e = e};
	w->f = (struct feed){.form = x->form, .profile = x->profile, .name = x->name, .base = base,
			     .authority = json_string_value(json_object_get(birth, "authority")),
			     .born = json_string_value(json_object_get(birth, "born")),
			     .head_seq = head_seq, .head_hash = head_hash};
	w->articles = util_alloc((MIN(t->news.count, (size_t)FEED_DEVICES_MAX) + FEED_CHANGES_MAX) *
				 sizeof(*w->articles));
	w->needed = find_needed(t->conf, app);
	add_devices(w, app);
	r = w->result;
	if (r == 0)
		r = state_history_changes(t->ship->state, app, FEED_CHANGES_MAX + 1, add_change, w, e);
	if (r == 0)
		r = w->result;
	if (r == 0)
		r = feed_write(&w->f, w->articles, w->count, &out, etag, e);
	if (r == 0)
		r = store(&t->news, x, &out, e);
	if (r == 0)
		memcpy(x->etag, etag, sizeof(etag));
	for (size_t i = 0; i < w->change_count; i++)
		feed_article_free(&w->changes[i]);
	free(w->articles);
	free(w->needed);
	free(w);
	return r;
}

/* --- those that are kept --- */

static void free_feed(struct news *n, struct news_feed *x)
{
	empty_feed(n, x);
	list_del(&x->link);
	free(x);
	n->feed_count--;
}

/* The one with this name, first in the list; made when there is none. */
static struct news_feed *find_feed(struct news *n, const char *name, enum feed_form form,
				   enum feed_profile profile)
{
	struct news_feed *x, *found = NULL;

	LIST_EACH (x, &n->feeds, link)
		if (x->form == form && x->profile == profile && strcmp(x->name, name) == 0)
			found = x;
	if (!found) {
		if (n->feed_count == NEWS_FEEDS_MAX)
			free_feed(n, container_of(n->feeds.prev, struct news_feed, link));
		found = util_alloc(sizeof(*found));
		*found = (struct news_feed){.form = form, .profile = profile, .plain = -1, .gzip = -1};
		util_copy(found->name, sizeof(found->name), name);
		n->feed_count++;
	}
	list_del(&found->link);
	list_add(&n->feeds, &found->link);
	return found;
}

static int look_at_feed(struct tell *t, struct news_feed *x, struct err *e)
{
	struct news *n = &t->news;
	char hash[STATE_HASH];
	uint64_t seq;
	int r;

	if ((r = news_load(n, t->ship->state, e)) < 0 ||
	    (r = state_history_head(t->ship->state, &seq, hash, e)) < 0)
		return r;
	if (x->plain < 0 || x->generation != n->generation || x->head_seq != seq) {
		r = write_feed(t, x, seq, hash, e);
		if (r < 0)
			return r;
		x->generation = n->generation;
		x->head_seq = seq;
	}
	while (n->feed_bytes > NEWS_FEEDS_BYTES && n->feed_count > 1)
		free_feed(n, container_of(n->feeds.prev, struct news_feed, link));
	return 0;
}

/* --- answering --- */

/* RFC 1952; level 1: it is compressed anew after each change. */
static bool compress_feed(struct news *n, struct news_feed *x)
{
	void *plain = mmap(NULL, x->plain_len, PROT_READ, MAP_SHARED, x->plain, 0), *out;
	z_stream z = {0};
	struct err e;
	size_t room;

	if (plain == MAP_FAILED)
		return false;
	if (deflateInit2(&z, 1, Z_DEFLATED, 15 + 16, 8, Z_DEFAULT_STRATEGY) == Z_OK) {
		room = deflateBound(&z, x->plain_len);
		out = util_alloc(room);
		z.next_in = plain;
		z.avail_in = (uInt)x->plain_len;
		z.next_out = out;
		z.avail_out = (uInt)room;
		if (deflate(&z, Z_FINISH) == Z_STREAM_END)
			x->gzip = put_file(out, z.total_out, &e);
		if (x->gzip >= 0) {
			x->gzip_len = z.total_out;
			n->feed_bytes += x->gzip_len;
		}
		deflateEnd(&z);
		free(out);
	}
	munmap(plain, x->plain_len);
	return x->gzip >= 0;
}

/* Does the reader take gzip (RFC 9110, 12.5.3)? */
static bool wants_gzip(const struct server_request *r)
{
	struct http1_slice h = server_header(r, "accept-encoding");
	char text[256], *rest = text, *one;

	snprintf(text, sizeof(text), "%.*s", (int)MIN(h.len, sizeof(text) - 1), h.len ? h.p : "");
	while ((one = strsep(&rest, ","))) {
		char *q = strstr(one, "q=");

		one += strspn(one, " \t");
		if (strncasecmp(one, "gzip", 4) == 0 && (!one[4] || strchr(" \t;", one[4])))
			return !q || strtod(q + 2, NULL) > 0;
	}
	return false;
}

static void answer_feed(struct call *c, struct news_feed *x)
{
	bool gzip = wants_gzip(c->r) && (x->gzip >= 0 || compress_feed(&c->t->news, x));
	struct http1_slice known = server_header(c->r, "if-none-match");
	char headers[FEED_ETAG + 160], path[64];
	struct err e;
	int fd;

	/* The two codings are two representations: each has a tag of its own. */
	snprintf(headers, sizeof(headers), "ETag: %.65s%s\"\r\nCache-Control: no-cache\r\nVary: Accept-Encoding\r\n%s",
		 x->etag, gzip ? "-gzip" : "", gzip ? "Content-Encoding: gzip\r\n" : "");
	if (known.len && memmem(known.p, known.len, x->etag, FEED_ETAG - 2)) {
		server_answer(c->r, 304, NULL, headers, NULL, 0);
		return;
	}
	snprintf(path, sizeof(path), "/proc/self/fd/%d", gzip ? x->gzip : x->plain);
	fd = open(path, O_RDONLY | O_CLOEXEC); /* with an offset of its own */
	if (fd < 0) {
		err_sys(&e, "opening the feed of '%s'", x->name);
		tell_answer_err(c, &e);
		return;
	}
	server_answer_file(c->r, forms[x->form].type, headers, fd);
}

/* Splits "APP.atom" in place; FEED_FORM_COUNT: it has none of the extensions. */
static enum feed_form take_form(char *name)
{
	char *dot = strrchr(name, '.');
	int form = 0;

	while (form < FEED_FORM_COUNT && (!dot || strcmp(dot + 1, forms[form].extension) != 0))
		form++;
	if (form < FEED_FORM_COUNT)
		*dot = '\0';
	return (enum feed_form)form;
}

/* /feeds/APP.atom, .rss, .json, /feeds/all.atom ...; ?profile=device (as without) or change */
void tell_feed(struct call *c, json_t *body UNUSED)
{
	enum feed_form form = take_form(c->arg[0]);
	char profile[16] = "device";
	struct news_feed *x;
	struct ship_app *a;
	struct err e;

	server_param(c->r, "profile", profile, sizeof(profile));
	if (form == FEED_FORM_COUNT)
		err_set(&e, ERR_NOT_FOUND, "feeds are named APP.atom, APP.rss, APP.json, and all.atom and so on");
	else if (strcmp(profile, "device") != 0 && strcmp(profile, "change") != 0)
		err_set(&e, ERR_INPUT, "a feed has no profile '%s': there are device and change", profile);
	else if (strcmp(c->arg[0], "all") != 0 && tell_app(c, &a) < 0)
		return;
	else {
		x = find_feed(&c->t->news, c->arg[0], form,
			      profile[0] == 'c' ? FEED_BY_CHANGE : FEED_BY_DEVICE);
		if (look_at_feed(c->t, x, &e) == 0) {
			answer_feed(c, x);
			return;
		}
	}
	tell_answer_err(c, &e);
}
