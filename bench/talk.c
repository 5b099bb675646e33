/* SPDX-License-Identifier: Apache-2.0 */
#include "talk.h"

#include <inttypes.h>
#include <string.h>

#define ID 40

static const char *id_text(const struct talk *t, const struct request *r, char id[ID])
{
	snprintf(id, ID, "%s%" PRIu64, t->run, r->seq);
	return id;
}

static void fields(const struct talk *t, const struct request *r, struct buf *out)
{
	buf_addf(out, " HTTP/1.1\r\nHost: %s\r\nUser-Agent: upstate-load\r\nAccept: */*\r\n",
		 t->host);
	if (r->fresh)
		buf_adds(out, "Connection: close\r\n");
}

static void write_sign(const struct talk *t, const struct request *r, const char *id,
		       struct buf *out)
{
	static const char words[] = "There+was+light+and+nobody+waited+for+it.+";
	size_t text = 1 + r->lines;
	size_t len = strlen("id=&text=") + strlen(id) + text * strlen(words);

	buf_adds(out, "POST /sign");
	fields(t, r, out);
	buf_addf(out,
		 "Content-Type: application/x-www-form-urlencoded\r\nContent-Length: %zu\r\n\r\n"
		 "id=%s&text=",
		 len, id);
	for (size_t i = 0; i < text; i++)
		buf_adds(out, words);
}

void talk_write(const struct talk *t, const struct request *r, struct buf *out)
{
	char id[ID];

	switch (r->kind) {
	case KIND_ECHO:
		buf_addf(out, "GET /echo/%s?lines=%u%s", id_text(t, r, id), r->lines,
			 r->chunked ? "&chunked=1" : "");
		break;
	case KIND_BOOK:
		buf_addf(out, "GET /book?prefix=%s", t->run);
		break;
	case KIND_PLAIN:
		buf_addf(out, "GET %s", t->path);
		break;
	case KIND_SIGN:
		write_sign(t, r, id_text(t, r, id), out);
		return;
	}
	fields(t, r, out);
	buf_adds(out, "\r\n");
}

/* Takes `text` off the front. */
static bool take(const char **p, size_t *len, const char *text, size_t text_len)
{
	if (*len < text_len || memcmp(*p, text, text_len) != 0)
		return false;
	*p += text_len;
	*len -= text_len;
	return true;
}

/* "WORD VERSION ID\n" */
static bool first_line(const char **p, size_t *len, const char *word, const char *id_lf,
		       const char **ret_version, size_t *ret_version_len)
{
	const char *space;

	if (!take(p, len, word, strlen(word)))
		return false;
	space = memchr(*p, ' ', *len);
	if (!space || space == *p || memchr(*p, '\n', (size_t)(space - *p)))
		return false;
	*ret_version = *p;
	*ret_version_len = (size_t)(space - *p);
	return take(p, len, *p, *ret_version_len + 1) && take(p, len, id_lf, strlen(id_lf));
}

static bool judge_plain(struct talk *t, const struct buf *body)
{
	if (!t->plain.data) {
		buf_add(&t->plain, body->data, body->len);
		buf_str(&t->plain); /* has memory now, even when empty */
		return true;
	}
	return t->plain.len == body->len && memcmp(t->plain.data, body->data, body->len) == 0;
}

bool talk_judge(struct talk *t, const struct request *r, const struct buf *body,
		const char **ret_version, size_t *ret_version_len)
{
	const char *p = body->data;
	size_t len = body->len, id_len;
	char id[ID];

	*ret_version_len = 0;
	if (r->kind == KIND_PLAIN)
		return judge_plain(t, body);
	if (r->kind == KIND_BOOK)
		return true;
	id_len = (size_t)snprintf(id, sizeof(id), "%s%" PRIu64 "\n", t->run, r->seq);
	if (!first_line(&p, &len, r->kind == KIND_SIGN ? "signed " : "guestbook ", id, ret_version,
			ret_version_len))
		return false;
	if (r->kind == KIND_ECHO)
		for (unsigned i = 0; i < r->lines; i++)
			if (!take(&p, &len, id, id_len))
				return false;
	return len == 0;
}
