/* SPDX-License-Identifier: Apache-2.0
 *
 * The manifest: what a release consists of, as text that can only be written one way, so that
 * its hash names the release.
 *
 * It also is the gate: what passes here is later created below a directory without further
 * thought. So each parent is an entry of its own and a directory (never a link), and a link's
 * target stays inside however the other links of the manifest lead: ".." is accepted only where
 * what stands before it is a directory of the manifest.
 */
#include "ship/store_priv.h"

#include <limits.h>
#include <string.h>

#define HEADER "upstate-manifest 1\n"
#define PATH_LEN_MAX 4095

struct key {
	const char *path;
	size_t len;
};

static int compare(const void *key, const void *file)
{
	const struct key *k = key;
	const struct store_file *f = file;
	int r = strncmp(k->path, f->path, k->len);

	return r ? r : f->path[k->len] ? -1 : 0;
}

static bool is_directory(const struct store_manifest *m, const char *path, size_t len)
{
	struct key key = {path, len};
	const struct store_file *f;

	if (!len)
		return true;
	f = bsearch(&key, m->files, m->len, sizeof(*m->files), compare);
	return f && f->type == 'd';
}

static size_t parent_len(const char *path)
{
	const char *slash = strrchr(path, '/');

	return slash ? (size_t)(slash - path) : 0;
}

/* The next segment at *p; false at the end. */
static bool segment(const char **p, const char **ret, size_t *ret_len)
{
	if (!*p)
		return false;
	*ret = *p;
	*ret_len = strcspn(*p, "/");
	*p = (*p)[*ret_len] ? *p + *ret_len + 1 : NULL;
	return true;
}

static bool is_dots(const char *seg, size_t len)
{
	return (len == 1 || len == 2) && memcmp(seg, "..", len) == 0;
}

static bool path_ok(const char *path)
{
	const char *p = path, *seg;
	size_t len;

	if (strlen(path) > PATH_LEN_MAX || strpbrk(path, "\n\t"))
		return false;
	while (segment(&p, &seg, &len))
		if (!len || len > NAME_MAX || is_dots(seg, len))
			return false;
	return true;
}

static bool link_stays(const struct store_manifest *m, const struct store_file *f)
{
	char at[2 * PATH_LEN_MAX + 2];
	size_t len, n = parent_len(f->path);
	const char *p = f->target, *seg;

	if (*p == '/')
		return false;
	memcpy(at, f->path, n);
	while (segment(&p, &seg, &len)) {
		if (!len || (len == 1 && *seg == '.'))
			continue;
		if (is_dots(seg, len)) {
			if (!n || !is_directory(m, at, n))
				return false;
			at[n] = '\0';
			n = parent_len(at);
			continue;
		}
		if (n)
			at[n++] = '/';
		memcpy(at + n, seg, len);
		n += len;
	}
	return true;
}

/* SIZE SHA256 path */
static bool parse_file(struct store_file *f, char *s)
{
	char *end;

	if (!store_parse_size(s, &end, &f->size) || *end != ' ' || !store_is_hash(end + 1) ||
	    end[STORE_HASH] != ' ')
		return false;
	memcpy(f->hash, end + 1, STORE_HASH - 1);
	f->path = end + 1 + STORE_HASH;
	return true;
}

static bool parse_link(struct store_file *f, char *s)
{
	char *tab = strchr(s, '\t');

	if (!tab || tab == s || tab - s > PATH_LEN_MAX)
		return false;
	*tab = '\0';
	f->target = s;
	f->path = tab + 1;
	return true;
}

static int parse_entry(struct store_file *f, char *line, struct err *e)
{
	static const char forms[][8] = {"d 0755 ", "f 0644 ", "f 0755 ", "l "};
	size_t form = 0;
	bool ok = true;

	while (form < ARRAY_LEN(forms) && strncmp(line, forms[form], strlen(forms[form])) != 0)
		form++;
	if (form == ARRAY_LEN(forms))
		return err_set(e, ERR_INPUT, "expected 'd 0755', 'f 0644', 'f 0755' or 'l'");
	f->type = forms[form][0];
	f->executable = form == 2;
	line += strlen(forms[form]);
	if (f->type == 'd')
		f->path = line;
	else
		ok = f->type == 'f' ? parse_file(f, line) : parse_link(f, line);
	if (!ok)
		return err_set(e, ERR_INPUT, "expected '%s'",
			       f->type == 'f' ? "SIZE SHA256 path" : "target<tab>path");
	if (!path_ok(f->path))
		return err_set(e, ERR_INPUT, "'%.200s' is no path of a release", f->path);
	return 0;
}

static int add_entry(struct store_manifest *m, char *line, struct err *e)
{
	struct store_file *f = &m->files[m->len];
	size_t parent;

	if (parse_entry(f, line, e) < 0)
		return -ERR_INPUT;
	if (m->len && strcmp(f[-1].path, f->path) >= 0)
		return err_set(e, ERR_INPUT, "'%.200s' stands behind '%.200s'", f->path,
			       f[-1].path);
	parent = parent_len(f->path);
	if (!is_directory(m, f->path, parent))
		return err_set(e, ERR_INPUT, "'%.200s' has no directory '%.*s' before it", f->path,
			       (int)MIN(parent, 200), f->path);
	m->bytes += f->size;
	m->len++;
	return 0;
}

static int add_entries(struct store_manifest *m, char *p, size_t *line, struct err *e)
{
	bool any = false;

	for (char *end; *p; p = end + 1) {
		++*line;
		end = strchr(p, '\n');
		*end = '\0';
		if (add_entry(m, p, e) < 0)
			return -ERR_INPUT;
		any |= m->files[m->len - 1].type == 'f';
	}
	if (!any)
		return err_set(e, ERR_INPUT, "a release has at least one file");
	for (size_t i = 0; i < m->len; i++) {
		const struct store_file *f = &m->files[i];

		*line = i + 2;
		if (f->type == 'l' && !link_stays(m, f))
			return err_set(
			    e, ERR_INPUT,
			    "link '%.200s' leaves the tree: it points to '%.200s'; make it "
			    "relative and keep it inside",
			    f->path, f->target);
	}
	return 0;
}

static size_t count_lines(const char *text, size_t len)
{
	size_t n = 0;

	for (const char *p = text; (p = memchr(p, '\n', len - (size_t)(p - text))); p++)
		n++;
	return n;
}

static int fill(struct store_manifest *m, size_t *line, struct err *e)
{
	struct hasher h;

	if (hasher_init(&h, e) < 0)
		return -ERR_SYS;
	hasher_begin(&h);
	hasher_add(&h, m->text, m->text_len);
	hasher_end(&h, m->id);
	hasher_fini(&h);
	return add_entries(m, m->strings + strlen(HEADER), line, e);
}

int manifest_read(const char *text, size_t len, struct store_manifest *ret, size_t *ret_line,
		  struct err *e)
{
	struct store_manifest m = {0};
	size_t lines;
	int r;

	*ret_line = 1;
	if (len > STORE_MANIFEST_MAX)
		return err_set(e, ERR_LIMIT, "larger than %u MiB", STORE_MANIFEST_MAX >> 20);
	if (len < strlen(HEADER) || memcmp(text, HEADER, strlen(HEADER)) != 0)
		return err_set(e, ERR_INPUT, "expected 'upstate-manifest 1'");
	if (text[len - 1] != '\n' || memchr(text, '\0', len))
		return err_set(e, ERR_INPUT, "cut off, or not text");
	lines = count_lines(text, len);
	if (lines > STORE_FILES_MAX + 1)
		return err_set(e, ERR_LIMIT, "more than %d entries", STORE_FILES_MAX);
	m.files = calloc(lines, sizeof(*m.files));
	m.text = malloc(len + 1);
	m.strings = malloc(len + 1);
	m.text_len = len;
	if (m.files && m.text && m.strings) {
		memcpy(m.text, text, len);
		memcpy(m.strings, text, len);
		m.text[len] = m.strings[len] = '\0';
		r = fill(&m, ret_line, e);
	} else {
		r = err_set(e, ERR_SYS, "out of memory");
	}
	if (r < 0)
		store_manifest_free(&m);
	else
		*ret = m;
	return r;
}

int store_manifest_parse(const char *text, size_t len, struct store_manifest *ret, struct err *e)
{
	size_t line;

	if (manifest_read(text, len, ret, &line, e) < 0)
		return err_wrap(e, "manifest, line %zu", line);
	return 0;
}

void store_manifest_free(struct store_manifest *m)
{
	free(m->files);
	free(m->text);
	free(m->strings);
	*m = (struct store_manifest){0};
}
