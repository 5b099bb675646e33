/* SPDX-License-Identifier: Apache-2.0
 *
 * One value by its row of the schema: text, numbers with their range, words, lists, the
 * environment. A value that is wrong leaves what was there.
 */
#include <ctype.h>
#include <string.h>
#include <strings.h>

#include "base/map.h"
#include "conf/read.h"

#define CONF_ON 3 /* index of "true" among the words of a switch, schema.c */
#define ENV_BYTES_MAX (48 * 1024) /* of one app: it travels in one message to the keeper */

/* --- lists --- */

void list_add_text(struct conf_text_list *l, const char *text, size_t len)
{
	if ((l->len & (l->len - 1)) == 0) { /* 0, 1, 2, 4, ...: time to double */
		size_t cap = l->len ? (size_t)l->len * 2 : 1;
		char **items = util_alloc(cap * sizeof(*items));

		if (l->len)
			memcpy(items, l->items, l->len * sizeof(*items));
		free(l->items);
		l->items = items;
	}
	l->items[l->len] = memcpy(util_alloc(len + 1), text, len);
	l->len++;
}

void list_free_texts(struct conf_text_list *l)
{
	for (uint32_t i = 0; i < l->len; i++)
		free(l->items[i]);
	free(l->items);
	*l = (struct conf_text_list){0};
}

/* --- single values --- */

/* Is it text with something in it? Says so when not. */
static bool is_text(struct reader *r, const struct schema_row *row, const struct tree_node *n)
{
	if (n->kind == TREE_TEXT && !tree_nothing(n))
		return true;
	WRONG(r, n, "%s: expected %s, found %s", row->path, schema_expected(row->type),
	      tree_kind_name(n));
	return false;
}

static bool in_range(struct reader *r, const struct schema_row *row, const struct tree_node *n,
		     uint64_t v)
{
	char bound[SCHEMA_NUMBER];

	if (v >= row->min && v <= row->max)
		return true;
	schema_number(row->type, v < row->min ? row->min : row->max, bound);
	WRONG(r, n, "%s: %.40s is %s %s", row->path, n->text, v < row->min ? "below" : "above",
	      bound);
	return false;
}

static bool digits_only(const char *text, uint64_t *ret)
{
	uint64_t v = 0;

	for (const char *p = text; *p; p++)
		if (!isdigit((unsigned char)*p) || __builtin_mul_overflow(v, 10u, &v) ||
		    __builtin_add_overflow(v, (uint64_t)(*p - '0'), &v))
			return false;
	*ret = v;
	return *text;
}

static void read_number(struct reader *r, const struct schema_row *row, const struct tree_node *n,
			void *field)
{
	uint64_t v = 0;
	bool good;

	if (!is_text(r, row, n))
		return;
	good = row->type == SCHEMA_INT					      ? digits_only(n->text, &v)
	       : row->type == SCHEMA_MS || row->type == SCHEMA_SECONDS ? conf_duration(n->text, &v)
	       : row->type == SCHEMA_PERCENT				      ? conf_percent(n->text, &v)
								      : conf_bytes(n->text, &v);
	if (!good) {
		char least[SCHEMA_NUMBER];

		schema_number(row->type, row->min, least);
		if (n->text[0] == '-' && isdigit((unsigned char)n->text[1]))
			WRONG(r, n, "%s: %.40s is below %s", row->path, n->text, least);
		else
			WRONG(r, n, "%s: expected %s, found '%.80s'", row->path,
			      schema_expected(row->type), n->text);
		return;
	}
	if (!in_range(r, row, n, v))
		return;
	if (row->type == SCHEMA_BYTES)
		*(uint64_t *)field = v;
	else if (row->type == SCHEMA_SECONDS)
		*(uint32_t *)field = (uint32_t)(v / 1000);
	else
		*(uint32_t *)field = (uint32_t)v;
}

static void read_bool(struct reader *r, const struct schema_row *row, const struct tree_node *n,
		      bool *field)
{
	static const char *const yes[] = {"true", "yes", "on"}, *const no[] = {"false", "no",
									       "off"};

	if (!is_text(r, row, n))
		return;
	for (size_t i = 0; i < ARRAY_LEN(yes); i++) {
		if (strcasecmp(n->text, yes[i]) == 0 || strcasecmp(n->text, no[i]) == 0) {
			*field = strcasecmp(n->text, yes[i]) == 0;
			return;
		}
	}
	WRONG(r, n, "%s: expected true or false, found '%.80s'", row->path, n->text);
}

/* "expected one of ok, never, found 'nver'; did you mean 'never'?" */
static void wrong_word(struct reader *r, const struct schema_row *row, const struct tree_node *n,
		       const char *const *words, const char *found)
{
	struct buf list = {0};
	const char *nearest;
	size_t count = 0;

	for (; words[count]; count++)
		buf_addf(&list, "%s%s", count ? ", " : "", words[count]);
	nearest = conf_nearest(found, words, count);
	WRONG(r, n, "%s: expected one of %s, found '%.80s'%s%s%s", row->path, buf_str(&list),
	      n->text, nearest ? "; did you mean '" : "", nearest ? nearest : "",
	      nearest ? "'?" : "");
	buf_free(&list);
}

static void read_word(struct reader *r, const struct schema_row *row, const struct tree_node *n,
		      unsigned *field)
{
	if (!is_text(r, row, n))
		return;
	for (int i = 0; row->words[i]; i++) {
		if (strcmp(row->words[i], n->text) == 0) {
			*field = (unsigned)i;
			return;
		}
	}
	wrong_word(r, row, n, row->words, n->text);
}

static void read_signal(struct reader *r, const struct schema_row *row, const struct tree_node *n,
			void *base)
{
	struct conf_app *app = base;
	const char *name;

	if (!is_text(r, row, n))
		return;
	name = strncmp(n->text, "SIG", 3) == 0 ? n->text + 3 : n->text;
	if (!schema_signal(name)) {
		wrong_word(r, row, n, schema_signals, name);
		return;
	}
	free(app->stop);
	app->stop = util_strdup(name);
	app->stop_signal = (uint32_t)schema_signal(name);
}

/* Checks a text by its row; the copy may come out changed. Returns NULL when it is wrong. */
static char *checked(struct reader *r, const struct schema_row *row, const struct tree_node *n)
{
	CLEANUP_FREE char *text = util_strdup(n->text);
	const char *why = row->check ? row->check(text) : NULL;

	if (why) {
		WRONG(r, n, "%s: '%.100s': %s", row->path, n->text, why);
		return NULL;
	}
	return TAKE(text);
}

static void read_text(struct reader *r, const struct schema_row *row, const struct tree_node *n,
		      char **field)
{
	char *text;

	if (!is_text(r, row, n))
		return;
	if (n->len > row->max) {
		WRONG(r, n, "%s: longer than %llu characters", row->path,
		      (unsigned long long)row->max);
		return;
	}
	text = checked(r, row, n);
	if (!text)
		return;
	free(*field);
	*field = text;
}

/* --- several values --- */

struct gather {
	const struct schema_row *row;
	struct conf_text_list *list;
	struct map seen; /* hash -> node */
};

static void gather_item(struct reader *r, struct gather *g, struct tree_node *n)
{
	CLEANUP_FREE char *text = NULL;
	const struct tree_node *first;
	uint64_t hash;

	if (n->kind != TREE_TEXT || tree_nothing(n)) {
		WRONG(r, n, "%s: expected text in the list, found %s", g->row->path,
		      tree_kind_name(n));
		return;
	}
	text = checked(r, g->row, n);
	if (!text)
		return;
	hash = map_hash(text, strlen(text));
	first = map_get(&g->seen, hash);
	if (first) {
		WRONG(r, n, "%s: '%.100s' stands here a second time; the first is on line %u",
		      g->row->path, text, first->line);
		return;
	}
	map_put(&g->seen, hash, n);
	list_add_text(g->list, text, strlen(text));
}

static bool check_length(struct reader *r, const struct schema_row *row, const struct tree_node *n)
{
	if (n->len >= row->min && n->len <= row->max)
		return true;
	if (n->len < row->min)
		WRONG(r, n, "%s: the list is empty", row->path);
	else
		WRONG(r, n, "%s: %u are more than %llu", row->path, n->len,
		      (unsigned long long)row->max);
	return false;
}

static void read_list(struct reader *r, const struct schema_row *row, struct tree_node *n,
		      struct conf_text_list *field)
{
	struct gather g = {.row = row, .list = field};

	if (n->kind == TREE_MAP || tree_nothing(n)) {
		WRONG(r, n, "%s: expected a list, found %s", row->path, tree_kind_name(n));
		return;
	}
	list_free_texts(field);
	if (n->kind == TREE_TEXT) {
		gather_item(r, &g, n);
	} else if (check_length(r, row, n)) {
		for (struct tree_node *i = n->first; i; i = i->next)
			gather_item(r, &g, i);
	}
	map_free(&g.seen);
}

/* `proxy: true`, or the networks from which connections begin with a PROXY header. */
static void read_listen_proxy(struct reader *r, struct tree_node *n, struct conf_listen *ret)
{
	static const struct schema_row networks = {.path = "listen: proxy", .type = SCHEMA_LIST, .min = 1,
						   .max = 1000, .check = text_network};

	if (n->kind == TREE_TEXT && strcmp(n->text, "false") == 0)
		return;
	ret->proxy = n->kind == TREE_TEXT && strcmp(n->text, "true") == 0;
	if (!ret->proxy) {
		read_list(r, &networks, n, &ret->proxy_from);
		ret->proxy = ret->proxy_from.len > 0;
	}
}

static void read_listen_item(struct reader *r, struct gather *g, const struct tree_node *item)
{
	const struct tree_node *http = tree_key(item, "http"), *proxy = tree_key(item, "proxy");
	const struct tree_node *https = tree_key(item, "https"), *address = https ? https : http;
	uint32_t before = g->list->len;

	for (const struct tree_node *key = item->first; key; key = key->next)
		if (key != http && key != https && key != proxy)
			WRONG(r, key, "unknown key '%.80s' in listen; it takes 'http' or 'https', and 'proxy'",
			      key->text);
	if (http && https)
		WRONG(r, https, "listen: 'http' and 'https' are two addresses: each begins with a '-' of its own");
	if (!address && proxy)
		WRONG(r, proxy, "listen: 'proxy' stands beside an address; expected 'http: ADDRESS:PORT' too");
	if (address)
		gather_item(r, g, address->value);
	if (g->list->len == before)
		return;
	r->conf->listen_more[before].tls = https != NULL;
	if (proxy)
		read_listen_proxy(r, proxy->value, &r->conf->listen_more[before]);
}

static void read_listen(struct reader *r, const struct schema_row *row, struct tree_node *n,
			struct conf_text_list *field)
{
	struct gather g = {.row = row, .list = field};

	if (n->kind != TREE_LIST) {
		WRONG(r, n, "listen: expected %s, found %s", schema_expected(row->type),
		      tree_kind_name(n));
		return;
	}
	if (!check_length(r, row, n))
		return;
	r->conf->listen_more = util_alloc(n->len * sizeof(*r->conf->listen_more));
	for (struct tree_node *i = n->first; i; i = i->next) {
		if (i->kind != TREE_MAP || !i->first)
			WRONG(r, i, "listen: expected 'http: ADDRESS:PORT', found %s",
			      tree_kind_name(i));
		else
			read_listen_item(r, &g, i);
	}
	map_free(&g.seen);
}

static const char *check_env_name(const char *name)
{
	if (!(isalpha((unsigned char)name[0]) || name[0] == '_'))
		return "the name of a variable begins with a letter or '_'";
	for (const char *p = name; *p; p++)
		if (!isalnum((unsigned char)*p) && *p != '_')
			return "the name of a variable has letters, digits and '_'";
	if (strncmp(name, "UPSTATE_", 8) == 0 || strcmp(name, "PORT") == 0 ||
	    strcmp(name, "NOTIFY_SOCKET") == 0)
		return "Upstate sets this variable itself";
	return NULL;
}

static int by_text(const void *a, const void *b)
{
	return strcmp(*(char *const *)a, *(char *const *)b);
}

static void read_env(struct reader *r, const struct schema_row *row, const struct tree_node *n,
		     struct conf_text_list *field)
{
	size_t bytes = 0;

	if (n->kind != TREE_MAP) {
		WRONG(r, n, "env: expected %s, found %s", schema_expected(row->type),
		      tree_kind_name(n));
		return;
	}
	if (!check_length(r, row, n))
		return;
	for (const struct tree_node *key = n->first; key; key = key->next) {
		const char *why = check_env_name(key->text);
		CLEANUP_BUF struct buf item = {0};

		if (why) {
			WRONG(r, key, "env: '%.80s': %s", key->text, why);
			continue;
		}
		if (key->value->kind != TREE_TEXT) {
			WRONG(r, key->value, "env: %.80s: expected text, found %s", key->text,
			      tree_kind_name(key->value));
			continue;
		}
		buf_addf(&item, "%s=%s", key->text, key->value->text);
		bytes += item.len + 1;
		list_add_text(field, buf_str(&item), item.len);
	}
	if (bytes > ENV_BYTES_MAX)
		WRONG(r, n, "env: %zu bytes in all are more than %u", bytes, ENV_BYTES_MAX);
	if (field->len)
		qsort(field->items, field->len, sizeof(*field->items), by_text);
}

/* --- policies --- */

static void read_fields(struct reader *r, const struct schema_row *row, const struct tree_node *n,
			struct conf_text_list *field)
{
	struct gather g = {.row = row, .list = &(struct conf_text_list){0}};

	if (n->kind != TREE_MAP) {
		WRONG(r, n, "%s: expected %s, found %s", row->path, schema_expected(row->type),
		      tree_kind_name(n));
		return;
	}
	if (!check_length(r, row, n))
		return;
	for (struct tree_node *key = n->first; key; key = key->next) {
		CLEANUP_BUF struct buf item = {0};
		uint32_t before = g.list->len;
		const char *why;

		gather_item(r, &g, key); /* its name: checked, and no name twice */
		if (g.list->len == before)
			continue;
		if (key->value->kind != TREE_TEXT) {
			WRONG(r, key->value, "%s: %.80s: expected text, found %s", row->path, key->text,
			      tree_kind_name(key->value));
			continue;
		}
		buf_add(&item, key->text, key->len + 1);
		buf_add(&item, key->value->text, key->value->len);
		why = text_field_value((char *)buf_str(&item) + key->len + 1);
		if (why)
			WRONG(r, key->value, "%s: %.80s: %s", row->path, key->text, why);
		else
			list_add_text(field, buf_str(&item), item.len);
	}
	list_free_texts(g.list);
	map_free(&g.seen);
}

/* One of from, to and status. */
static void read_redirect_key(struct reader *r, const struct tree_node *key, struct conf_redirect *to)
{
	static const char *const words[] = {"from", "to", "status"};
	static const struct schema_row rows[] = {
	    {.path = "redirects.from", .type = SCHEMA_TEXT, .max = 1023, .check = text_redirect_from},
	    {.path = "redirects.to", .type = SCHEMA_TEXT, .max = 2000, .check = text_redirect_to},
	    {.path = "redirects.status", .type = SCHEMA_INT, .min = 301, .max = 308}};
	const char *nearest = conf_nearest(key->text, words, ARRAY_LEN(words));

	if (strcmp(key->text, "from") == 0)
		read_text(r, &rows[0], key->value, &to->from);
	else if (strcmp(key->text, "to") == 0)
		read_text(r, &rows[1], key->value, &to->to);
	else if (strcmp(key->text, "status") == 0)
		read_number(r, &rows[2], key->value, &to->status);
	else
		WRONG(r, key, "unknown key '%.80s' in redirects; %s%s%s", key->text,
		      nearest ? "did you mean '" : "it takes from, to and status", nearest ? nearest : "",
		      nearest ? "'?" : "");
	if (to->status > 302 && to->status < 307) {
		WRONG(r, key->value, "redirects.status: expected 301, 302, 307 or 308, found %u", to->status);
		to->status = 307;
	}
}

static void read_redirects(struct reader *r, const struct schema_row *row, const struct tree_node *n,
			   struct conf_app *app)
{
	if (n->kind != TREE_LIST) {
		WRONG(r, n, "redirects: expected %s, found %s", schema_expected(row->type),
		      tree_kind_name(n));
		return;
	}
	if (!check_length(r, row, n))
		return;
	app->redirects = util_alloc(n->len * sizeof(*app->redirects));
	for (const struct tree_node *i = n->first; i; i = i->next) {
		struct conf_redirect *to = &app->redirects[app->redirect_count];
		uint32_t errors = r->problems->errors;

		if (i->kind != TREE_MAP) {
			WRONG(r, i, "redirects: expected '{ from: /old, to: /new }', found %s",
			      tree_kind_name(i));
			continue;
		}
		app->redirect_count++;
		to->status = 307;
		for (const struct tree_node *key = i->first; key; key = key->next)
			read_redirect_key(r, key, to);
		if (r->problems->errors != errors)
			continue;
		if (!to->from || !to->to)
			WRONG(r, i, "redirects: '%s' is missing", to->from ? "to" : "from");
		else if (text_redirect_loops(to->from, to->to))
			WRONG(r, i, "redirects: '%.100s' leads back to itself", to->from);
	}
}

static void read_page(struct reader *r, const struct schema_row *row, const struct tree_node *n,
		      struct conf_page *page)
{
	if (!is_text(r, row, n))
		return;
	page->line = n->line;
	page->column = n->column;
	for (int i = 0; n->plain && row->words && row->words[i]; i++) {
		if (strcasecmp(row->words[i], n->text) == 0) {
			page->on = i >= CONF_ON;
			return;
		}
	}
	page->on = true;
	read_text(r, row, n, &page->path);
}

/* --- by type --- */

void read_value(struct reader *r, const struct schema_row *row, struct tree_node *n, void *base)
{
	void *field = (char *)base + row->offset;

	switch (row->type) {
	case SCHEMA_TEXT:
		read_text(r, row, n, field);
		break;
	case SCHEMA_LIST:
		read_list(r, row, n, field);
		break;
	case SCHEMA_INT:
	case SCHEMA_MS:
	case SCHEMA_SECONDS:
	case SCHEMA_BYTES:
	case SCHEMA_BYTES32:
	case SCHEMA_PERCENT:
		read_number(r, row, n, field);
		break;
	case SCHEMA_BOOL:
		read_bool(r, row, n, field);
		break;
	case SCHEMA_WORD:
		read_word(r, row, n, field);
		break;
	case SCHEMA_SIGNAL:
		read_signal(r, row, n, base);
		break;
	case SCHEMA_ENV:
		read_env(r, row, n, field);
		break;
	case SCHEMA_FIELDS:
		read_fields(r, row, n, field);
		break;
	case SCHEMA_REDIRECTS:
		read_redirects(r, row, n, base);
		break;
	case SCHEMA_PAGE:
		read_page(r, row, n, field);
		break;
	case SCHEMA_LISTEN:
		read_listen(r, row, n, field);
		break;
	case SCHEMA_NEEDS:
		read_needs(r, row, n, field);
		break;
	case SCHEMA_SECTION: /* these are maps of keys: read_map(), read_apps(), read_certs(), read_device.c */
	case SCHEMA_APPS:
	case SCHEMA_DEVICES:
	case SCHEMA_CHECKS:
	case SCHEMA_CERTS:
	case SCHEMA_TYPE_COUNT:
		ensure(false);
	}
}
