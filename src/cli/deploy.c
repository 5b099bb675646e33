/* SPDX-License-Identifier: Apache-2.0
 *
 * Shipping a directory: hash the tree, ask which contents are lacking, send those, begin
 * the change, follow it.
 *
 *	scan ──manifest──> missing ──hashes──> objects ──> deploy ──change──> follow
 *
 * Files are read a second time when they are sent. One that is not what it was when it was
 * hashed is named, and nothing is deployed.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <openssl/evp.h>
#include <string.h>
#include <sys/stat.h>

#include "base/map.h"
#include "cli/cli_priv.h"
#include "ship/store.h"

#define SEND_AGAIN 3 /* when the controller is replaced meanwhile */

struct upload {
	struct api_source source;
	const char *dir;
	const struct store_file **files; /* that are to be sent */
	size_t count, next;
	/* of the one at hand */
	const struct store_file *file;
	int fd;
	EVP_MD_CTX *hash;
	uint64_t left;
	char header[STORE_HASH + 40];
	size_t header_len, header_sent;
	/* for the person who waits */
	struct progress progress;
	uint64_t sent;
};

static void on_scan(void *arg, size_t files, uint64_t bytes)
{
	char text[120], a[SHOW_TEXT], b[SHOW_TEXT];

	snprintf(text, sizeof(text), "hashing: %s files, %s", show_count(files, a),
		 show_bytes(bytes, b));
	progress_show(arg, text);
}

static void on_sent(struct upload *u, size_t n)
{
	CLEANUP_BUF struct buf text = {0};
	char a[SHOW_TEXT], b[SHOW_TEXT];

	u->sent += n;
	buf_adds(&text, "sending ");
	show_bar(u->sent, u->source.len, 40, &text);
	buf_addf(&text, "  %s of %s", show_bytes(u->sent, a), show_bytes(u->source.len, b));
	progress_show(&u->progress, buf_str(&text));
}

/* --- one file after the other --- */

static int changed(struct upload *u)
{
	return err_set(
	    &u->source.failed, ERR_INPUT,
	    "%s/%s changed while it was read: nothing was deployed; try again when it is at rest",
	    u->dir, u->file->path);
}

static size_t make_header(const struct store_file *f, char *text, size_t size)
{
	return (size_t)snprintf(text, size, "%s %llu %c\n", f->hash, (unsigned long long)f->size,
				f->executable ? 'x' : '-');
}

static int open_next(struct upload *u)
{
	const struct store_file *f = u->files[u->next++];
	CLEANUP_BUF struct buf path = {0};
	struct stat st;

	u->file = f;
	buf_addf(&path, "%s/%s", u->dir, f->path);
	u->fd = open(buf_str(&path), O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
	if (u->fd < 0 && (errno == ENOENT || errno == ELOOP))
		return changed(u);
	if (u->fd < 0)
		return err_sys(&u->source.failed, "cannot read %s/%s", u->dir, f->path);
	if (fstat(u->fd, &st) < 0 || !S_ISREG(st.st_mode) || (uint64_t)st.st_size != f->size)
		return changed(u);
	ensure(EVP_DigestInit_ex(u->hash, EVP_sha256(), NULL));
	u->left = f->size;
	u->header_len = make_header(f, u->header, sizeof(u->header));
	u->header_sent = 0;
	return 0;
}

/* All bytes were read: were they those that were hashed, and no more? */
static int close_file(struct upload *u)
{
	unsigned char digest[EVP_MAX_MD_SIZE];
	char text[STORE_HASH], more;
	unsigned len;
	bool longer = read(u->fd, &more, 1) != 0;

	close(u->fd);
	u->fd = -1;
	EVP_DigestFinal_ex(u->hash, digest, &len);
	for (unsigned i = 0; i < 32; i++)
		snprintf(text + 2 * i, 3, "%02x", digest[i]);
	if (longer || strcmp(text, u->file->hash) != 0)
		return changed(u);
	u->file = NULL;
	return 0;
}

static long read_file(struct upload *u, char *data, size_t size)
{
	ssize_t n = read(u->fd, data, MIN(size, u->left));

	if (n < 0)
		return err_sys(&u->source.failed, "cannot read %s/%s", u->dir, u->file->path);
	if (n == 0)
		return changed(u);
	EVP_DigestUpdate(u->hash, data, (size_t)n);
	u->left -= (uint64_t)n;
	return n;
}

/* Fills the whole of data, over as many small files as fit. */
static long read_source(struct api_source *s, char *data, size_t size)
{
	struct upload *u = container_of(s, struct upload, source);
	size_t used = 0;

	while (used < size && (u->file || u->next < u->count)) {
		long n;

		if (!u->file && open_next(u) < 0)
			return -1;
		if (u->header_sent < u->header_len) {
			n = (long)MIN(size - used, u->header_len - u->header_sent);
			memcpy(data + used, u->header + u->header_sent, (size_t)n);
			u->header_sent += (size_t)n;
		} else {
			n = u->left ? read_file(u, data + used, size - used) : 0;
		}
		if (n < 0)
			return -1;
		used += (size_t)n;
		if (u->header_sent == u->header_len && !u->left && close_file(u) < 0)
			return -1;
	}
	on_sent(u, used);
	return (long)used;
}

/* --- which files --- */

/* The files with these contents: one of each content and x bit. */
static void choose(struct upload *u, const struct store_manifest *m, const json_t *missing)
{
	struct map wanted = {0}, chosen = {0};
	static char yes;
	size_t i;
	json_t *item;

	json_array_foreach(missing, i, item)
	{
		const char *hash = json_string_value(item);

		if (hash)
			map_put(&wanted, map_hash(hash, strnlen(hash, STORE_HASH - 1)), &yes);
	}
	u->files = util_alloc((m->len ? m->len : 1) * sizeof(*u->files));
	for (i = 0; i < m->len; i++) {
		const struct store_file *f = &m->files[i];
		uint64_t key = map_hash(f->hash, STORE_HASH - 1);
		char header[sizeof(u->header)];

		if (f->type != 'f' || !map_get(&wanted, key) ||
		    map_get(&chosen, key + f->executable))
			continue;
		map_put(&chosen, key + f->executable, &yes);
		u->files[u->count++] = f;
		u->source.len += make_header(f, header, sizeof(header)) + f->size;
	}
	map_free(&wanted);
	map_free(&chosen);
}

static int send_missing(struct cli *c, const char *dir, const struct store_manifest *m,
			const json_t *missing, struct err *e)
{
	struct upload u = {.source = {.read = read_source},
			   .dir = dir,
			   .fd = -1,
			   .progress = {.tty = isatty(STDERR_FILENO)}};
	struct api *a;
	int rc = cli_api(c, &a, e);

	if (rc < 0)
		return rc;
	choose(&u, m, missing);
	u.hash = EVP_MD_CTX_new();
	ensure(u.hash);
	if (u.count)
		rc = api_upload(a, "/v1/objects", &u.source, e);
	progress_end(&u.progress);
	if (u.fd >= 0)
		close(u.fd);
	EVP_MD_CTX_free(u.hash);
	free(u.files);
	return rc;
}

/* --- the verb --- */

static int scan(const char *dir, struct store_manifest *ret, struct err *e)
{
	struct progress progress = {.tty = isatty(STDERR_FILENO)};
	int rc = store_scan(dir, ret, on_scan, &progress, e);

	progress_end(&progress);
	return rc;
}

static int ship(struct cli *c, const struct store_manifest *m, struct err *e)
{
	struct buf manifest = {.data = m->text, .len = m->text_len};
	CLEANUP_BUF struct buf path = {0};
	char files[SHOW_TEXT], bytes[SHOW_TEXT];
	json_t *answer;
	struct api *a;
	int rc = cli_api(c, &a, e);

	if (rc < 0)
		return rc;
	rc = api_json(a, "POST", cli_app_path(&path, c->args[0], "/missing"), "text/plain",
		      &manifest, &answer, e);
	if (rc < 0)
		return rc;
	if (!c->values[OPTION_JSON]) {
		printf("%s file%s, %s", show_count(field_count(answer, "files"), files),
		       field_count(answer, "files") == 1 ? "" : "s", show_bytes(m->bytes, bytes));
		printf("; %s to send (%s)\n",
		       show_count(json_array_size(json_object_get(answer, "missing")), files),
		       show_bytes(field_count(answer, "bytes"), bytes));
		fflush(stdout);
	}
	rc = send_missing(c, c->args[1], m, json_object_get(answer, "missing"), e);
	json_decref(answer);
	return rc;
}

static int begin(struct cli *c, json_t *body, const char *id, struct err *e)
{
	CLEANUP_FREE char *source = realpath(c->args[1], NULL);
	CLEANUP_BUF struct buf path = {0};
	json_t *answer;
	int rc;

	json_object_set_new(body, "release", json_string(id));
	json_object_set_new(body, "source", json_string(source ? source : c->args[1]));
	rc = cli_post_order(c, cli_app_path(&path, c->args[0], "/deploy"), body, &answer, e);
	return rc < 0 ? rc : follow_begun(c, answer, false, e);
}

int verb_deploy(struct cli *c, struct err *e)
{
	struct store_manifest m = {0};
	CLEANUP_BUF struct buf path = {0};
	json_t *body;
	int rc = cli_need_why(c, &body, e);

	if (rc < 0)
		return rc;
	/* Hashing may take a while: is there someone, and such an app? */
	rc = cli_get(c, cli_app_path(&path, c->args[0], ""), NULL, e);
	if (rc == 0)
		rc = scan(c->args[1], &m, e);
	if (rc == 0) {
		rc = ship(c, &m, e);
		for (int i = 0; rc < 0 && c->api && api_broken(c->api) && i < SEND_AGAIN; i++)
			rc = ship(c, &m, e); /* what did arrive is not sent again */
		if (rc == 0)
			rc = begin(c, json_incref(body), m.id, e);
		store_manifest_free(&m);
	}
	json_decref(body);
	return rc;
}
