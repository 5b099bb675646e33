/* SPDX-License-Identifier: Apache-2.0
 *
 * The tag of a file is the SHA-256 of what is in it (its first 128 bits): the same content has the same
 * tag in every instance, on every machine, in every release, so a browser's copy and a download that
 * was cut stay good over a deploy. Modification times would not do: releases have none of their own.
 *
 * A short file is hashed at once. A long one is hashed in pieces, between which requests are answered;
 * who asked for it waits a moment, then gets it without a tag.
 */
#include <errno.h>
#include <openssl/evp.h>
#include <string.h>

#include "files/files_priv.h"

static void done(struct file *f, bool good)
{
	struct server *s = f->server;
	unsigned char md[EVP_MAX_MD_SIZE];
	size_t n = 0;

	f->hash = HASH_FAILED;
	if (!good || !EVP_DigestFinal_ex(s->hash_ctx, md, NULL))
		return;
	f->tag[n++] = '"';
	for (size_t i = 0; i < 16; i++)
		n += (size_t)snprintf(f->tag + n, sizeof(f->tag) - n, "%02x", md[i]);
	f->tag[n++] = '"';
	f->tag[n] = '\0';
	f->hash = HASH_DONE;
	buf_free(&f->fields);
}

/* Takes in the next bytes; 1: that was the last of them, 0: there are more, -1: it cannot be read, or is
 * no longer as long as it was. */
static int step(struct file *f, uint64_t *at)
{
	struct server *s = f->server;
	uint64_t want = MIN(f->id.size - *at, (uint64_t)HASH_PIECE);
	ssize_t n = want ? pread(f->fd, s->piece, want, (off_t)*at) : 0;

	if (n < 0 && errno == EINTR)
		return 0;
	if (n < 0 || (want && n == 0) || !EVP_DigestUpdate(s->hash_ctx, s->piece, (size_t)n))
		return -1;
	*at += (uint64_t)n;
	return *at == f->id.size;
}

static bool begin(struct server *s)
{
	return EVP_DigestInit_ex2(s->hash_ctx, s->hash_md, NULL) == 1;
}

static void leave_queue(struct file *f)
{
	list_del(&f->in_queue);
	f->server->hash_count--;
	f->server->hash_begun = false;
}

void hash_turn(struct server *s)
{
	struct file *f = container_of(s->hashes.next, struct file, in_queue);
	int r;

	if (!s->hash_count)
		return;
	if (!s->hash_begun) {
		s->hash_at = 0;
		s->hash_begun = begin(s);
	}
	r = s->hash_begun ? step(f, &s->hash_at) : -1;
	if (r == 0)
		return;
	done(f, r > 0);
	leave_queue(f);
	f->refs++;
	while (!list_empty(&f->waiters))
		peer_go_on(container_of(f->waiters.next, struct peer, in_file));
	file_unref(f);
}

static void hash_at_once(struct file *f)
{
	uint64_t at = 0;
	int r = begin(f->server) ? 0 : -1;

	while (r == 0)
		r = step(f, &at);
	done(f, r > 0);
}

bool hash_want(struct file *f)
{
	struct server *s = f->server;

	if (f->hash == HASH_DONE || f->hash == HASH_FAILED)
		return true;
	if (f->hash == HASH_QUEUED)
		return false;
	/* With one in hand its context is taken: then a short one stands in the queue too. */
	if (f->id.size <= HASH_AT_ONCE && !s->hash_count) {
		hash_at_once(f);
		return true;
	}
	if (s->hash_count == FILES_HASHES_MAX)
		return false;
	f->hash = HASH_QUEUED;
	list_add_tail(&s->hashes, &f->in_queue);
	s->hash_count++;
	return false;
}

void hash_forget(struct file *f)
{
	bool first = f->server->hashes.next == &f->in_queue, begun = f->server->hash_begun;

	if (!list_linked(&f->in_queue))
		return;
	leave_queue(f);
	f->server->hash_begun = begun && !first;
}

int hash_init(struct server *s, struct err *e)
{
	list_init(&s->hashes);
	s->hash_md = EVP_MD_fetch(NULL, "SHA256", NULL);
	s->hash_ctx = EVP_MD_CTX_new();
	return s->hash_md && s->hash_ctx ? 0 : err_set(e, ERR_SYS, "SHA-256 is not to be had: out of memory?");
}

void hash_fini(struct server *s)
{
	EVP_MD_CTX_free(s->hash_ctx);
	EVP_MD_free(s->hash_md);
}
