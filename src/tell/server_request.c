/* SPDX-License-Identifier: Apache-2.0
 *
 * The meaning of a request, and its answer. Handlers get paths and queries that
 * are checked once, here: escapes, UTF-8 (so that they can stand in JSON and
 * XML), no control bytes, no "." and ".." segments.
 */
#include "tell/server_priv.h"

#include <string.h>
#include <time.h>

/* --- decoding --- */

static int hex(char c)
{
	if (c >= '0' && c <= '9')
		return c - '0';
	if ((c | 0x20) >= 'a' && (c | 0x20) <= 'f')
		return (c | 0x20) - 'a' + 10;
	return -1;
}

/* Decodes %XX (and '+' in queries) into ret; false: a broken escape, a control byte, or no room. */
static bool decode(const char *p, size_t len, bool plus, char *ret, size_t size)
{
	size_t n = 0;

	for (size_t i = 0; i < len; i++) {
		char c = p[i];

		if (c == '%') {
			if (len - i < 3 || hex(p[i + 1]) < 0 || hex(p[i + 2]) < 0)
				return false;
			c = (char)(hex(p[i + 1]) * 16 + hex(p[i + 2]));
			i += 2;
		} else if (c == '+' && plus) {
			c = ' ';
		}
		if ((uint8_t)c < 0x20 || c == 0x7f || n + 1 >= size)
			return false;
		ret[n++] = c;
	}
	ret[n] = '\0';
	return true;
}

/* RFC 3629: no overlong forms, no surrogates, nothing past U+10FFFF. */
static bool is_utf8(const char *s)
{
	const uint8_t *p = (const uint8_t *)s;

	while (*p) {
		int more = *p < 0x80 ? 0 : *p < 0xc2 ? -1 : *p < 0xe0 ? 1 : *p < 0xf0 ? 2 : 3;
		uint8_t low = 0x80, high = 0xbf;

		if (more < 0 || *p > 0xf4)
			return false;
		if (*p == 0xe0)
			low = 0xa0;
		else if (*p == 0xed)
			high = 0x9f;
		else if (*p == 0xf0)
			low = 0x90;
		else if (*p == 0xf4)
			high = 0x8f;
		for (p++; more > 0; more--, p++, low = 0x80, high = 0xbf)
			if (*p < low || *p > high)
				return false;
	}
	return true;
}

static bool has_dot_segment(const char *path)
{
	for (const char *p = path; p; p = strchr(p + 1, '/')) {
		const char *segment = *p == '/' ? p + 1 : p;
		size_t n = strcspn(segment, "/");

		if ((n == 1 && segment[0] == '.') || (n == 2 && memcmp(segment, "..", 2) == 0))
			return true;
	}
	return false;
}

bool server_param(const struct server_request *r, const char *name, char *ret, size_t size)
{
	return server_param_at(r, name, 0, ret, size);
}

bool server_param_at(const struct server_request *r, const char *name, uint32_t nth, char *ret, size_t size)
{
	const char *p = r->query;

	while (*p) {
		size_t n = strcspn(p, "&"), key = MIN(strcspn(p, "="), n);
		char decoded[sizeof(r->query)];

		if (decode(p, key, true, decoded, sizeof(decoded)) && strcmp(decoded, name) == 0 &&
		    nth-- == 0)
			return key == n ? decode(p, 0, true, ret, size)
					: decode(p + key + 1, n - key - 1, true, ret, size);
		p += n + (p[n] == '&');
	}
	return false;
}

struct http1_slice server_header(const struct server_request *r, const char *lower)
{
	for (uint32_t i = 0; r->head && i < r->head->header_count; i++)
		if (http1_is(r->head->headers[i].name, lower))
			return r->head->headers[i].value;
	return (struct http1_slice){0};
}

/* --- the request --- */

static struct server_conn *conn_of(struct server_request *r)
{
	return container_of(r, struct server_conn, request);
}

static void kick(struct server_conn *c)
{
	if (!c->running)
		loop_timer_set(c->server->loop, &c->kick, c->server->loop->now_ms);
}

/* What keeps this request from a handler: a status and a sentence, or 0. */
static int fill(struct server_request *r, const struct http1_head *h, const char **why)
{
	char decoded[sizeof(r->query)];
	struct http1_slice query;

	if (h->is_connect || h->method.len >= sizeof(r->method)) {
		*why = "this method is not known here";
		return 501;
	}
	memcpy(r->method, h->method.p, h->method.len);
	query = (struct http1_slice){h->path.p + h->path.len, h->target.len - h->path.len};
	if (h->path.len >= sizeof(r->path) || query.len >= sizeof(r->query)) {
		*why = "the path or the query is too long";
		return 414;
	}
	if (query.len) /* without the '?' */
		memcpy(r->query, query.p + 1, query.len - 1);
	if (!decode(h->path.p, h->path.len, false, r->path, sizeof(r->path)) ||
	    !decode(r->query, strlen(r->query), true, decoded, sizeof(decoded))) {
		*why = "a broken escape or a control byte in the target";
		return 400;
	}
	if (!is_utf8(r->path) || !is_utf8(decoded)) {
		*why = "the target is not UTF-8";
		return 400;
	}
	if (has_dot_segment(r->path)) {
		*why = "the path has '.' or '..' segments";
		return 400;
	}
	return 0;
}

void server_request_start(struct server_conn *c, const struct http1_head *head)
{
	struct server_request *r = &c->request;
	const char *why = NULL;
	int status;

	*r = (struct server_request){.local = c->local, .uid = c->uid, .pid = c->pid};
	c->answered = c->ended = c->chunked_out = false;
	c->is_head = head->is_head;
	c->http10 = head->minor == 0;
	c->close = !head->keep_alive;
	c->framing = head->framing;
	c->left = head->length;
	c->chunked = (struct http1_chunked){0};
	c->mode = SERVER_DISCARD;
	c->expects = head->expect_continue;
	status = fill(r, head, &why);
	if (status) {
		server_fail(c, status, why);
		return;
	}
	r->head = head;
	c->live = true;
	c->server->options.on_request(r, c->server->options.arg);
	r->head = NULL;
	if (c->expects && !c->answered && c->framing != HTTP1_BODY_NONE) {
		buf_adds(&c->out, "HTTP/1.1 100 Continue\r\n\r\n");
		c->expects = false;
	}
}

void server_request_data(struct server_conn *c, const char *data, size_t len)
{
	if (!len || c->answered)
		return;
	if (c->mode == SERVER_STREAM) {
		c->request.on_data(&c->request, data, len);
	} else if (c->mode == SERVER_WHOLE) {
		if (len > c->body_max - c->body.len) {
			server_fail(c, 413, "the body is larger than this request may have");
			return;
		}
		buf_add(&c->body, data, len);
		if (c->body.failed)
			server_fail(c, 503, "out of memory for the body");
	}
}

void server_request_read(struct server_conn *c)
{
	const char *body = buf_str(&c->body);

	if (c->body.failed) /* no memory for the NUL */
		server_fail(c, 503, "out of memory for the body");
	else if (!c->answered && c->mode != SERVER_DISCARD)
		c->request.on_body(&c->request, body, c->body.len);
	buf_free(&c->body);
}

void server_want_body(struct server_request *r, size_t max,
		      void (*on_body)(struct server_request *r, const char *body, size_t len))
{
	struct server_conn *c = conn_of(r);

	ensure(r->head && on_body);
	c->body_max = max && max < SERVER_BODY_MAX ? max : SERVER_BODY_MAX;
	c->body.max = c->body_max + 1; /* the NUL */
	c->mode = SERVER_WHOLE;
	r->on_body = on_body;
	if (c->framing == HTTP1_BODY_LENGTH && c->left > c->body_max)
		server_fail(c, 413, "the body is larger than this request may have");
}

void server_want_stream(struct server_request *r,
			void (*on_data)(struct server_request *r, const char *data, size_t len),
			void (*on_end)(struct server_request *r, const char *body, size_t len))
{
	ensure(r->head && on_data && on_end);
	conn_of(r)->mode = SERVER_STREAM;
	r->on_data = on_data;
	r->on_body = on_end;
}

/* --- the answer --- */

static void add_date(struct buf *out)
{
	char text[64];
	time_t now = time(NULL);
	struct tm tm;

	gmtime_r(&now, &tm);
	/* The program never calls setlocale(), so the names are English (RFC 9110, 5.6.7). */
	strftime(text, sizeof(text), "Date: %a, %d %b %Y %H:%M:%S GMT\r\n", &tm);
	buf_adds(out, text);
}

/* A connection is kept only when the rest of the body is sure to come soon. */
static bool must_close(const struct server_conn *c)
{
	if (c->close || c->state == SERVER_ANSWER || c->framing == HTTP1_BODY_NONE)
		return c->close;
	/* Who waits for "100 Continue" may send no body after another answer (RFC 9110, 10.1.1). */
	return c->expects || c->framing == HTTP1_BODY_CHUNKED || c->left > SERVER_SKIP_MAX;
}

static bool has_no_body(int status)
{
	return status < 200 || status == 204 || status == 304;
}

/* The status line and the fields that every answer has. */
static void add_head(struct server_conn *c, int status, const char *type)
{
	c->close = must_close(c);
	c->answered = true;
	buf_addf(&c->out, "HTTP/1.1 %d %s\r\n", status, http1_reason((uint16_t)status));
	add_date(&c->out);
	if (type)
		buf_addf(&c->out, "Content-Type: %s\r\n", type);
	if (c->close)
		buf_adds(&c->out, "Connection: close\r\n");
	else if (c->http10)
		buf_adds(&c->out, "Connection: keep-alive\r\n");
}

void server_answer(struct server_request *r, int status, const char *type, const char *headers,
		   const void *body, size_t len)
{
	struct server_conn *c = conn_of(r);

	if (c->answered || c->dead)
		return;
	add_head(c, status, type);
	if (headers)
		buf_adds(&c->out, headers);
	if (!has_no_body(status))
		buf_addf(&c->out, "Content-Length: %zu\r\n", len);
	buf_adds(&c->out, "\r\n");
	if (!c->is_head && !has_no_body(status) && len)
		buf_add(&c->out, body, len);
	c->ended = true;
	kick(c);
}

void server_answer_file(struct server_request *r, const char *type, const char *headers, int fd)
{
	struct server_conn *c = conn_of(r);
	off_t at = lseek(fd, 0, SEEK_CUR), size = lseek(fd, 0, SEEK_END);

	if (c->answered || c->dead || at < 0 || size < 0 || lseek(fd, at, SEEK_SET) < 0) {
		close(fd);
		if (!c->answered && !c->dead)
			server_fail(c, 500, "the file cannot be read");
		return;
	}
	add_head(c, 200, type);
	if (headers)
		buf_adds(&c->out, headers);
	c->file_left = size > at ? (uint64_t)(size - at) : 0;
	buf_addf(&c->out, "Content-Length: %llu\r\n\r\n", (unsigned long long)c->file_left);
	if (c->is_head || !c->file_left) {
		c->file_left = 0;
		close(fd);
	} else {
		c->file = fd;
	}
	c->ended = true;
	kick(c);
}

void server_begin(struct server_request *r, int status, const char *type)
{
	struct server_conn *c = conn_of(r);

	if (c->answered || c->dead)
		return;
	c->close |= c->http10;
	add_head(c, status, type);
	c->chunked_out = !c->http10 && !has_no_body(status);
	if (c->chunked_out)
		buf_adds(&c->out, "Transfer-Encoding: chunked\r\n");
	buf_adds(&c->out, "\r\n");
	kick(c);
}

bool server_write(struct server_request *r, const void *data, size_t len)
{
	struct server_conn *c = conn_of(r);

	if (c->dead || !c->answered || c->ended)
		return false;
	if (c->is_head || !len)
		return true;
	if (len > SERVER_STREAM_MAX || c->out.len - c->out_at > SERVER_STREAM_MAX - len) {
		c->dead = true; /* reads too slowly: the loop cuts it */
		kick(c);
		return false;
	}
	if (c->chunked_out)
		buf_addf(&c->out, "%zx\r\n", len);
	buf_add(&c->out, data, len);
	if (c->chunked_out)
		buf_adds(&c->out, "\r\n");
	kick(c);
	return !c->out.failed;
}

void server_end(struct server_request *r)
{
	struct server_conn *c = conn_of(r);

	if (c->dead || !c->answered || c->ended)
		return;
	if (c->chunked_out && !c->is_head)
		buf_adds(&c->out, "0\r\n\r\n");
	c->ended = true;
	kick(c);
}

void server_cut(struct server_request *r)
{
	struct server_conn *c = conn_of(r);

	c->dead = true;
	kick(c);
}

/* --- errors of the protocol itself --- */

static void add_error(struct buf *b, int status, const char *message)
{
	enum err_code code = ERR_PROTO;

	if (status == 500)
		code = ERR_SYS;
	if (status == 413 || status == 414 || status == 431 || status == 503)
		code = ERR_LIMIT;
	/* Messages are sentences of this program: nothing in them needs escaping. */
	buf_addf(b, "{\"error\": {\"code\": \"%s\", \"message\": \"%s\", \"exit\": %d}}\n",
		 err_name(code), message, err_exit_status(code));
}

void server_fail(struct server_conn *c, int status, const char *message)
{
	CLEANUP_BUF struct buf body = {0};

	if (c->answered) {
		c->dead = true;
		return;
	}
	c->close = true;
	add_error(&body, status, message);
	server_answer(&c->request, status, "application/json", NULL, body.data, body.len);
}

void server_error_text(struct buf *out, int status, const char *message)
{
	CLEANUP_BUF struct buf body = {0};

	add_error(&body, status, message);
	buf_addf(out, "HTTP/1.1 %d %s\r\nContent-Type: application/json\r\nContent-Length: %zu\r\n"
		      "Connection: close\r\n\r\n",
		 status, http1_reason((uint16_t)status), body.len);
	buf_add(out, body.data, body.len);
}
