/* SPDX-License-Identifier: Apache-2.0
 *
 * A release of the past, as files: the manifest names them, the API has their contents.
 *
 * Nothing is believed: the manifest must hash to the id, each file to its name in the
 * manifest. Links are made last, so that no file is ever written through one.
 */
#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>

#include "cli/cli_priv.h"
#include "ship/store.h"

struct checkout {
	struct api *api;
	int dir;
	struct progress progress;
	uint64_t done, all;
};

struct file_sink {
	int fd;
	EVP_MD_CTX *hash;
};

static bool take_text(void *arg, const char *data, size_t len)
{
	struct buf *b = arg;

	buf_add(b, data, len);
	return !b->failed;
}

static bool take_file(void *arg, const char *data, size_t len)
{
	struct file_sink *s = arg;

	EVP_DigestUpdate(s->hash, data, len);
	while (len) {
		ssize_t n = write(s->fd, data, len);

		if (n < 0 && errno != EINTR)
			return false;
		if (n > 0) {
			data += n;
			len -= (size_t)n;
		}
	}
	return true;
}

static void hash_text(EVP_MD_CTX *hash, char text[STORE_HASH])
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	unsigned len;

	EVP_DigestFinal_ex(hash, digest, &len);
	for (unsigned i = 0; i < 32; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
}

static int write_file(struct checkout *k, const struct store_file *f, struct err *e)
{
	CLEANUP_FD int fd =
	    openat(k->dir, f->path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
	struct file_sink sink = {.fd = fd};
	char path[100], got[STORE_HASH];
	int rc;

	if (fd < 0)
		return err_sys(e, "cannot write %s", f->path);
	sink.hash = EVP_MD_CTX_new();
	ensure(sink.hash && EVP_DigestInit_ex(sink.hash, EVP_sha256(), NULL));
	snprintf(path, sizeof(path), "/v1/objects/%s", f->hash);
	errno = 0;
	rc = api_stream(k->api, path, take_file, &sink, e);
	hash_text(sink.hash, got);
	EVP_MD_CTX_free(sink.hash);
	if (rc < 0 && errno == ENOSPC)
		return err_set(e, ERR_FULL, "cannot write %s: no space left", f->path);
	if (rc < 0)
		return err_wrap(e, "%s", f->path);
	if (strcmp(got, f->hash) != 0)
		return err_set(e, ERR_CORRUPT,
			       "%s is not what was shipped: its hash is %.12s, not %.12s", f->path,
			       got, f->hash);
	if (fchmod(fd, f->executable ? 0755 : 0644) < 0)
		return err_sys(e, "cannot write %s", f->path);
	return 0;
}

static int write_all(struct checkout *k, const struct store_manifest *m, struct err *e)
{
	for (size_t i = 0; i < m->len; i++) {
		const struct store_file *f = &m->files[i];
		char text[200], a[SHOW_TEXT], b[SHOW_TEXT];
		int rc = 0;

		if (f->type == 'd' && mkdirat(k->dir, f->path, 0755) < 0)
			return err_sys(e, "cannot make %s", f->path);
		if (f->type == 'f')
			rc = write_file(k, f, e);
		if (rc < 0)
			return rc;
		k->done += f->size;
		snprintf(text, sizeof(text), "writing %s of %s", show_bytes(k->done, a),
			 show_bytes(m->bytes, b));
		progress_show(&k->progress, text);
	}
	for (size_t i = 0; i < m->len; i++)
		if (m->files[i].type == 'l' &&
		    symlinkat(m->files[i].target, k->dir, m->files[i].path) < 0)
			return err_sys(e, "cannot make the link %s", m->files[i].path);
	return 0;
}

static int get_manifest(struct checkout *k, const char *id, struct store_manifest *ret,
			struct err *e)
{
	CLEANUP_BUF struct buf path = {0}, text = {0};
	int rc;

	buf_adds(&path, "/v1/releases/");
	api_escape(&path, id);
	rc = api_stream(k->api, buf_str(&path), take_text, &text, e);
	if (rc == 0)
		rc = store_manifest_parse(text.data ? text.data : "", text.len, ret, e);
	if (rc == 0 && strcmp(ret->id, id) != 0) {
		store_manifest_free(ret);
		rc =
		    err_set(e, ERR_CORRUPT, "the manifest's hash is %.12s, not %.12s", ret->id, id);
	}
	return rc < 0 ? err_wrap(e, "release %.12s", id) : 0;
}

int checkout_release(struct cli *c, const char *id, const char *dir, struct err *e)
{
	struct checkout k = {.dir = -1, .progress = {.tty = isatty(STDERR_FILENO)}};
	struct store_manifest m = {0};
	int rc = cli_api(c, &k.api, e);

	if (rc < 0 || (rc = get_manifest(&k, id, &m, e)) < 0)
		return rc;
	if (mkdir(dir, 0755) < 0)
		rc = errno == EEXIST
			 ? err_set(e, ERR_REFUSED,
				   "%s is there already: --checkout writes into a new directory",
				   dir)
			 : err_sys(e, "cannot make %s", dir);
	if (rc == 0)
		k.dir = open(dir, O_DIRECTORY | O_CLOEXEC | O_NOFOLLOW);
	if (rc == 0 && k.dir < 0)
		rc = err_sys(e, "cannot open %s", dir);
	if (rc == 0)
		rc = write_all(&k, &m, e);
	progress_end(&k.progress);
	if (rc == 0)
		fprintf(stderr, "%s holds the files of release %.12s\n", dir, id);
	else if (k.dir >= 0)
		err_wrap(e, "%s is not complete", dir);
	if (k.dir >= 0)
		close(k.dir);
	store_manifest_free(&m);
	return rc;
}
