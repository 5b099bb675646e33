/* SPDX-License-Identifier: Apache-2.0
 *
 * From the head of a request to the head of its answer (RFC 9110). What a short answer consists of is
 * put behind its head, so that one write is all; of a longer one, its beginning.
 *
 * There is no Last-Modified: a release has no times of its own, and a time that means nothing would be
 * believed. Caches ask by the tag, which is made of the content.
 */
#include <errno.h>
#include <stdarg.h>
#include <string.h>

#include "base/clock.h"
#include "files/files_priv.h"

#define IMMUTABLE "public, max-age=31536000, immutable"

static const char page[] = "<!doctype html>\n<title>%d %s</title>\n<h1>%d %s</h1>\n<p>%s.</p>\n";

/* The fields of a request that matter here. */
struct asked {
	struct http1_slice range, if_range, if_match, if_none_match, accept_encoding;
};

static void note_fields(const struct http1_head *h, struct asked *ret)
{
	const struct {
		const char *name;
		struct http1_slice *to;
	} fields[] = {{"range", &ret->range},
		      {"if-range", &ret->if_range},
		      {"if-match", &ret->if_match},
		      {"if-none-match", &ret->if_none_match},
		      {"accept-encoding", &ret->accept_encoding}};
	bool ranges = false;

	*ret = (struct asked){0};
	for (uint32_t i = 0; i < h->header_count; i++) {
		const struct http1_header *f = &h->headers[i];
		char first = f->known == HTTP1_OTHER ? (char)(f->name.p[0] | 0x20) : 0;

		if (first != 'r' && first != 'i' && first != 'a')
			continue;
		for (size_t j = 0; j < ARRAY_LEN(fields); j++)
			if (!fields[j].to->len && http1_is(f->name, fields[j].name))
				*fields[j].to = f->value;
			else if (j == 0 && fields[0].to->len && http1_is(f->name, "range"))
				ranges = true;
	}
	if (ranges) /* it may stand there once: which one was meant? */
		ret->range.len = 0;
}

/* --- writing --- */

static void put(struct server *s, const char *fmt, ...) PRINTF(2, 3);

static void put(struct server *s, const char *fmt, ...)
{
	size_t room = sizeof(s->out) - s->out_len;
	va_list ap;
	int n;

	va_start(ap, fmt);
	n = vsnprintf(s->out + s->out_len, room, fmt, ap);
	va_end(ap);
	ensure(n >= 0 && (size_t)n < room);
	s->out_len += (uint32_t)n;
}

static const char *date(struct server *s)
{
	time_t now = (time_t)(clock_wall_ms() / 1000);
	struct tm tm;

	if ((uint64_t)now != s->date_s && gmtime_r(&now, &tm)) {
		strftime(s->date, sizeof(s->date), "%a, %d %b %Y %H:%M:%S GMT", &tm);
		s->date_s = (uint64_t)now;
	}
	return s->date;
}

static void put_status(struct peer *c, int status)
{
	c->server->out_len = 0;
	put(c->server, "HTTP/1.1 %d %s\r\nDate: %s\r\n", status, http1_reason((uint16_t)status),
	    date(c->server));
}

static void put_end(struct peer *c)
{
	put(c->server, "%s\r\n", c->keep ? "" : "Connection: close\r\n");
}

static void answer_page(struct peer *c, int status, const char *fields, const char *why, bool to_head)
{
	const char *reason = http1_reason((uint16_t)status);
	char body[512];
	int n = snprintf(body, sizeof(body), page, status, reason, status, reason, why);

	put_status(c, status);
	put(c->server, "Content-Type: text/html; charset=utf-8\r\nContent-Length: %d\r\nCache-Control: no-cache\r\n%s",
	    n, fields);
	put_end(c);
	if (!to_head)
		put(c->server, "%s", body);
}

void answer_refuse(struct peer *c, int status, const char *why)
{
	answer_page(c, status, "", why, false);
}

/* The first bytes of c's file behind the head; the rest follows from c->at. */
static void begin_body(struct peer *c, uint64_t at, uint64_t len)
{
	struct server *s = c->server;
	uint64_t first = MIN(len, MIN((uint64_t)SERVER_FIRST, sizeof(s->out) - s->out_len));
	ssize_t n = first ? pread(c->file->fd, s->out + s->out_len, first, (off_t)at) : 0;

	n = MAX(n, 0); /* sending will meet the same, and cut the connection */
	s->out_len += (uint32_t)n;
	c->at = at + (uint64_t)n;
	c->left = len - (uint64_t)n;
}

/* --- a file --- */

static void make_fields(struct file *f)
{
	const struct files_options *o = f->server->options;
	const char *cache = o->cache ? o->cache : "no-cache";

	buf_addf(&f->fields, "Content-Type: %s\r\n", type_of(f->name));
	if (f->coding)
		buf_addf(&f->fields, "Content-Encoding: %s\r\n", coding_token[f->coding]);
	if (f->variants || f->coding)
		buf_adds(&f->fields, "Vary: Accept-Encoding\r\n");
	if (f->hash == HASH_DONE)
		buf_addf(&f->fields, "ETag: %s\r\n", f->tag);
	buf_addf(&f->fields, "Cache-Control: %s\r\nX-Content-Type-Options: nosniff\r\n",
		 type_is_fingerprinted(f->name) ? IMMUTABLE : cache);
	buf_str(&f->fields);
}

static const char *fields_of(struct file *f)
{
	if (!f->fields.len)
		make_fields(f);
	return buf_str(&f->fields);
}

/* In the order of RFC 9110, 13.2.2. Returns the status that the conditions give, or 200. */
static int judge(const struct asked *q, const char *tag)
{
	if (q->if_match.len && !ask_names(q->if_match, tag, false))
		return 412;
	if (q->if_none_match.len && ask_names(q->if_none_match, tag, true))
		return 304;
	return 200;
}

static void answer_file(struct peer *c, const struct asked *q, bool is_head)
{
	struct file *f = c->file;
	struct server *s = c->server;
	const char *tag = f->hash == HASH_DONE ? f->tag : "";
	uint64_t at = 0, len = f->id.size;
	enum ask_range range = ASK_WHOLE;
	int status = judge(q, tag);

	if (status == 412) {
		answer_page(c, 412, "", "the file is another one by now", is_head);
		return;
	}
	if (status == 200 && q->range.len && !is_head &&
	    (!q->if_range.len || ask_if_range(q->if_range, tag)))
		range = ask_range(q->range, f->id.size, &at, &len);
	status = range == ASK_PART ? 206 : range == ASK_NONE ? 416 : status;
	put_status(c, status);
	if (status == 416) {
		put(s, "Content-Range: bytes */%llu\r\nContent-Length: 0\r\n", (unsigned long long)len);
	} else {
		put(s, "%sAccept-Ranges: bytes\r\n", fields_of(f));
		if (status == 206)
			put(s, "Content-Range: bytes %llu-%llu/%llu\r\n", (unsigned long long)at,
			    (unsigned long long)(at + len - 1), (unsigned long long)f->id.size);
		if (status != 304)
			put(s, "Content-Length: %llu\r\n", (unsigned long long)len);
	}
	put_end(c);
	if (!is_head && status / 100 == 2)
		begin_body(c, at, len);
}

/* The page of the site, if it has one; it is whole whatever was asked for. */
static void answer_not_found(struct peer *c, bool is_head)
{
	if (tree_get(c->server, "404.html", CODING_NONE, &c->file) < 0) {
		c->file = NULL;
		answer_page(c, 404, "", "there is no such file", is_head);
		return;
	}
	put_status(c, 404);
	put(c->server, "Content-Type: text/html; charset=utf-8\r\nContent-Length: %llu\r\nCache-Control: no-cache\r\n",
	    (unsigned long long)c->file->id.size);
	put_end(c);
	if (!is_head)
		begin_body(c, 0, c->file->id.size);
}

/* A folder, asked for without its slash. The path as it came is in its escapes and begins with one slash
 * and no second. */
static void answer_redirect(struct peer *c, const struct http1_head *h)
{
	struct http1_slice query = {h->path.p + h->path.len, h->target.len - h->path.len};
	char field[2 * ASK_PATH_MAX];

	if (h->path.len + query.len > sizeof(field) - 32) {
		answer_page(c, 414, "", "the path is too long", h->is_head);
		return;
	}
	snprintf(field, sizeof(field), "Location: %.*s/%.*s\r\n", (int)h->path.len, h->path.p,
		 (int)query.len, query.p ? query.p : "");
	answer_page(c, 301, field, "it is a folder", h->is_head);
}

/* The file that this request gets: it itself, or what was compressed beforehand. */
static int choose(struct server *s, const char *name, const struct asked *q, struct file **ret)
{
	struct file *f, *other;
	enum coding best = CODING_NONE;
	int r = tree_get(s, name, CODING_NONE, &f), weight = 0;

	if (r < 0)
		return r;
	for (int i = CODING_NONE + 1; q->accept_encoding.len && i < CODING_COUNT; i++) {
		int w = f->variants & 1u << i ? ask_weight(q->accept_encoding, coding_token[i]) : 0;

		if (w > weight)
			best = (enum coding)i, weight = w;
	}
	if (best && tree_get(s, name, best, &other) == 0) {
		file_unref(f);
		f = other;
	}
	*ret = f;
	return 0;
}

/* What stands for a path that is no file in an app of one page: not what looks like a file of its own. */
static bool is_of_the_app(const struct server *s, const char *name)
{
	const char *slash = strrchr(name, '/');

	return s->options->spa && !strchr(slash ? slash + 1 : name, '.');
}

/* Finds the file of a path. 0, or the status; 301: a folder. */
static int find(struct peer *c, const struct http1_head *h, const struct asked *q)
{
	char name[ASK_PATH_MAX + sizeof("index.html")], *end;
	int status = ask_path(h->path, name), r;

	if (status)
		return status;
	end = name + strlen(name);
	if (end == name || end[-1] == '/')
		memcpy(end, "index.html", sizeof("index.html"));
	r = choose(c->server, name, q, &c->file);
	if (r == -EISDIR && *end == '\0')
		return 301;
	if (r == -ENOENT && (*end = '\0', is_of_the_app(c->server, name)))
		r = choose(c->server, "index.html", q, &c->file);
	if (r == -ENOENT || r == -EISDIR)
		return 404;
	return r < 0 ? 503 : 0;
}

bool answer_make(struct peer *c, const struct http1_head *h)
{
	static const char *const why[] = {[0] = "the path of the request cannot be a file's",
					  [1] = "the path is too long",
					  [2] = "the server lacks descriptors or memory at the moment"};
	struct asked q;
	int status;

	if (!h->is_get && !h->is_head) {
		answer_page(c, 405, "Allow: GET, HEAD\r\n", "files can be got, and nothing else", false);
		return true;
	}
	note_fields(h, &q);
	status = find(c, h, &q);
	if (status == 0) {
		if (!hash_want(c->file) && c->file->hash == HASH_QUEUED && !c->waited)
			return false;
		c->server->unhashed += c->file->hash != HASH_DONE;
		answer_file(c, &q, h->is_head);
	} else if (status == 301) {
		answer_redirect(c, h);
	} else if (status == 404) {
		answer_not_found(c, h->is_head);
	} else {
		answer_page(c, status, "", why[status == 400 ? 0 : status == 414 ? 1 : 2], h->is_head);
	}
	return true;
}
