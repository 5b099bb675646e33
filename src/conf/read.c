/* SPDX-License-Identifier: Apache-2.0
 *
 * Maps of keys: each key finds its row of the schema, and its value is read by that
 * (value.c). A value that is wrong leaves the default in place and the reading goes on, so
 * that the rest of the file is looked at too.
 */
#include "conf/read.h"

#include <string.h>

#define WORDS_MAX 64

void read_defaults(struct reader *r, enum schema_owner owner, void *base)
{
	for (size_t i = 0; i < schema_len; i++) {
		const struct schema_row *row = &schema_rows[i];
		struct tree_node n = {.kind = TREE_TEXT, .plain = true, .text = row->fallback};

		if (row->owner != owner || !row->fallback)
			continue;
		n.len = (uint32_t)strlen(row->fallback);
		read_value(r, row, &n, base);
	}
}

/* "run:serve" is text, to everyone's surprise. */
static const char *colon_hint(const struct tree_node *n)
{
	return n->kind == TREE_TEXT && n->plain && strchr(n->text, ':')
		   ? "; after the ':' of a key stands a space"
		   : "";
}

static void read_apps(struct reader *r, const struct schema_row *row, const struct tree_node *n)
{
	struct conf *c = r->conf;

	if (n->kind != TREE_MAP) {
		WRONG(r, n, "apps: expected %s, found %s", schema_expected(row->type),
		      tree_kind_name(n));
		return;
	}
	if (n->len > row->max) {
		WRONG(r, n, "apps: %u are more than %llu", n->len, (unsigned long long)row->max);
		return;
	}
	c->apps = util_alloc((n->len ? n->len : 1) * sizeof(*c->apps));
	for (const struct tree_node *key = n->first; key; key = key->next) {
		struct conf_app *app = &c->apps[c->app_count++];
		CLEANUP_FREE char *name = util_strdup(key->text);
		const char *why = text_name(name);

		if (why)
			WRONG(r, key, "app '%.80s': %s", key->text, why);
		app->name = TAKE(name);
		read_defaults(r, SCHEMA_APP, app);
		r->app = app->name;
		if (key->value->kind == TREE_MAP)
			read_map(r, key->value, SCHEMA_APP, "", app);
		else
			WRONG(r, key->value,
			      "app '%.80s': expected a map of keys with 'run' or 'targets', found "
			      "%s%s",
			      key->text, tree_kind_name(key->value), colon_hint(key->value));
		r->app = NULL;
	}
}

static void read_certs(struct reader *r, const struct schema_row *row, const struct tree_node *n)
{
	struct conf *c = r->conf;

	if (n->kind != TREE_LIST || n->len < row->min || n->len > row->max) {
		WRONG(r, n, "certificates: expected %s, with %llu to %llu items, found %s",
		      schema_expected(row->type), (unsigned long long)row->min,
		      (unsigned long long)row->max, tree_kind_name(n));
		return;
	}
	c->certificates = util_alloc(n->len * sizeof(*c->certificates));
	for (const struct tree_node *i = n->first; i; i = i->next) {
		struct conf_certificate *cert = &c->certificates[c->certificate_count++];

		cert->line = i->line;
		cert->column = i->column;
		if (i->kind != TREE_MAP) {
			WRONG(r, i, "certificates: expected cert and key, found %s%s", tree_kind_name(i),
			      colon_hint(i));
			continue;
		}
		read_map(r, i, SCHEMA_CERT, "", cert);
		if (!tree_key(i, "cert") || !tree_key(i, "key"))
			WRONG(r, i, "certificates: there is no '%s' beside '%s'",
			      tree_key(i, "cert") ? "key" : "cert", tree_key(i, "cert") ? "cert" : "key");
	}
}

/* Does the key stand somewhere else in the schema? Then that is what was meant. */
static const struct schema_row *find_elsewhere(enum schema_owner owner, const char *key)
{
	const struct schema_row *found = NULL;

	for (size_t i = 0; i < schema_len; i++) {
		if (strcmp(schema_key(&schema_rows[i]), key) != 0)
			continue;
		if (schema_rows[i].owner == owner)
			return &schema_rows[i];
		found = found ? found : &schema_rows[i];
	}
	return found;
}

static void unknown_key(struct reader *r, const struct tree_node *key, enum schema_owner owner,
			const char *prefix)
{
	const char *words[WORDS_MAX], *nearest;
	const struct schema_row *row;
	CLEANUP_BUF struct buf said = {0}, list = {0};
	size_t n = 0;

	if (r->problems->len == CONF_PROBLEMS_MAX) { /* will only be counted: no need to search */
		WRONG(r, key, "unknown key");
		return;
	}
	buf_addf(&said, "unknown key '%.80s'", key->text);
	if (prefix[0])
		buf_addf(&said, " in %.*s", (int)strlen(prefix) - 1, prefix);
	else if (r->app || r->device)
		buf_addf(&said, " in %s '%.63s'", r->app ? "app" : "device", r->app ? r->app : r->device);
	for (size_t i = 0; i < schema_len && n < WORDS_MAX; i++) {
		if (!schema_below(&schema_rows[i], owner, prefix))
			continue;
		buf_addf(&list, "%s%s", n ? ", " : "", schema_rows[i].path + strlen(prefix));
		words[n++] = schema_rows[i].path + strlen(prefix);
	}
	nearest = conf_nearest(key->text, words, n);
	row = find_elsewhere(owner, key->text);
	if (nearest)
		buf_addf(&said, "; did you mean '%s'?", nearest);
	else if (row && strchr(row->path, '.'))
		buf_addf(&said, "; it belongs below '%.*s'%s",
			 (int)(strrchr(row->path, '.') - row->path), row->path,
			 row->owner == owner	    ? ""
			 : row->owner == SCHEMA_APP ? " of an app"
						    : " at the top of the file");
	else if (row)
		buf_addf(&said, "; it belongs %s",
			 row->owner == SCHEMA_APP      ? "to an app"
			 : row->owner == SCHEMA_CERT   ? "to an item of certificates"
			 : row->owner == SCHEMA_DEVICE ? "to a device"
			 : row->owner == SCHEMA_CHECK  ? "to a check"
						       : "at the top of the file");
	else
		buf_addf(&said, "; known are: %s", buf_str(&list));
	WRONG(r, key, "%s", buf_str(&said));
}

static void no_section(struct reader *r, const struct schema_row *section,
		       const struct tree_node *n)
{
	CLEANUP_BUF struct buf keys = {0};
	char prefix[64];

	snprintf(prefix, sizeof(prefix), "%s.", section->path);
	for (size_t i = 0; i < schema_len; i++)
		if (schema_below(&schema_rows[i], section->owner, prefix))
			buf_addf(&keys, "%s%s", keys.len ? ", " : "", schema_key(&schema_rows[i]));
	WRONG(r, n, "%s: expected a map of keys (%s), found %s%s", section->path, buf_str(&keys),
	      tree_kind_name(n), colon_hint(n));
}

void read_map(struct reader *r, const struct tree_node *map, enum schema_owner owner, const char *prefix,
	      void *base)
{
	for (struct tree_node *key = map->first; key; key = key->next) {
		const struct schema_row *row = schema_find(owner, prefix, key->text);
		char below[64];

		if (!row) {
			unknown_key(r, key, owner, prefix);
		} else if (row->type == SCHEMA_APPS) {
			read_apps(r, row, key->value);
		} else if (row->type == SCHEMA_CERTS) {
			read_certs(r, row, key->value);
		} else if (row->type == SCHEMA_DEVICES) {
			read_devices(r, row, key->value);
		} else if (row->type == SCHEMA_CHECKS) {
			read_checks(r, row, key->value, base);
		} else if (row->type != SCHEMA_SECTION) {
			read_value(r, row, key->value, base);
		} else if (key->value->kind != TREE_MAP) {
			no_section(r, row, key->value);
		} else {
			snprintf(below, sizeof(below), "%s.", row->path);
			read_map(r, key->value, owner, below, base);
		}
	}
}

void read_conf(const struct tree_node *root, struct conf *conf, struct conf_problems *problems)
{
	struct reader r = {.conf = conf, .problems = problems};

	read_defaults(&r, SCHEMA_TOP, conf);
	read_map(&r, root, SCHEMA_TOP, "", conf);
}
