/* SPDX-License-Identifier: Apache-2.0
 *
 * Devices and their checks. A check is a map whose first key says what it measures; which of the
 * other keys mean something depends on that.
 */
#include <string.h>

#include "conf/read.h"
#include "core/threshold.h"

static const char *const names[] = {
#define X(name, key) #key,
    CONF_CHECK_TABLE(X)
#undef X
};

const char *conf_check_name(enum conf_check_kind kind)
{
	return names[kind];
}

enum conf_check_kind conf_check_kind(const char *key)
{
	size_t i = 0;

	while (i < CONF_CHECK_COUNT && strcmp(names[i], key) != 0)
		i++;
	return (enum conf_check_kind)i;
}

/* Missed beats are bad for a while first: the job may just be slow. */
struct check_rule conf_check_rule(uint64_t every_ms, uint32_t rise, uint32_t fall, bool pushed)
{
	return (struct check_rule){.interval_ms = every_ms, .retry_ms = MIN(every_ms, MAX(every_ms / 4, 1000u)),
				   .late_ms = MIN(every_ms / 4, 3600000u), .rise = (uint8_t)(pushed ? 1 : rise),
				   .fall = (uint8_t)(pushed ? 1 : fall), .flap_begin = CHECK_FLAP_BEGIN,
				   .flap_end = CHECK_FLAP_END, .pushed = pushed};
}

/* --- needs --- */

static void need_name(struct reader *r, const struct tree_node *n, struct conf_need *need)
{
	if (n->kind != TREE_TEXT || tree_nothing(n))
		WRONG(r, n, "needs: expected the name of a device, found %s", tree_kind_name(n));
	else
		list_add_text(&need->any, n->text, n->len);
}

static void read_need(struct reader *r, const struct tree_node *n, struct conf_need *need)
{
	const struct tree_node *any = tree_key(n, "any");

	need->line = n->line;
	need->column = n->column;
	if (n->kind != TREE_MAP) {
		need_name(r, n, need);
	} else if (!any || n->len != 1 || any->value->kind != TREE_LIST || !any->value->len) {
		WRONG(r, n, "needs: expected a name, or {any: [NAME, NAME]}");
	} else if (any->value->len > CONF_NEEDS_MAX) {
		WRONG(r, n, "needs: %u are more than %d", any->value->len, CONF_NEEDS_MAX);
	} else {
		for (const struct tree_node *i = any->value->first; i; i = i->next)
			need_name(r, i, need);
	}
}

void read_needs(struct reader *r, const struct schema_row *row, const struct tree_node *n,
		struct conf_needs *needs)
{
	if (tree_nothing(n)) {
		WRONG(r, n, "needs: expected %s, found nothing", schema_expected(row->type));
		return;
	}
	if (n->kind != TREE_LIST) {
		needs->items = util_alloc(sizeof(*needs->items));
		read_need(r, n, &needs->items[needs->len++]);
		return;
	}
	if (n->len > row->max) {
		WRONG(r, n, "needs: %u are more than %llu", n->len, (unsigned long long)row->max);
		return;
	}
	needs->items = util_alloc((n->len + 1) * sizeof(*needs->items));
	for (const struct tree_node *i = n->first; i; i = i->next)
		read_need(r, i, &needs->items[needs->len++]);
}

/* --- checks --- */

static void no_kind(struct reader *r, const struct tree_node *n, const char *found)
{
	const char *nearest = found ? conf_nearest(found, names, CONF_CHECK_COUNT) : NULL;
	CLEANUP_BUF struct buf list = {0};

	for (size_t i = 0; i < CONF_CHECK_COUNT; i++)
		buf_addf(&list, "%s%s", i ? ", " : "", names[i]);
	WRONG(r, n, "checks: a check begins with its kind (%s), found %s%.80s%s%s%s%s", buf_str(&list),
	      found ? "'" : "", found ? found : tree_kind_name(n), found ? "'" : "",
	      nearest ? "; did you mean '" : "", nearest ? nearest : "", nearest ? "'?" : "");
}

static void wrong_kind(struct reader *r, const struct tree_node *key, enum conf_check_kind kind)
{
	CLEANUP_BUF struct buf list = {0};

	for (size_t i = 0; i < schema_len; i++)
		if (schema_rows[i].owner == SCHEMA_CHECK && conf_check_kind(schema_rows[i].path) == CONF_CHECK_COUNT &&
		    (!schema_rows[i].kinds || (schema_rows[i].kinds & 1u << kind)))
			buf_addf(&list, "%s%s", list.len ? ", " : "", schema_rows[i].path);
	if (conf_check_kind(key->text) != CONF_CHECK_COUNT)
		WRONG(r, key, "checks: '%s' is another kind beside '%s': it is a check of its own, with a '-' of its own",
		      key->text, names[kind]);
	else
		WRONG(r, key, "checks: '%s' means nothing for '%s', which takes: %s", key->text, names[kind],
		      buf_str(&list));
}

/* What its value is; THRESHOLD_KIND_COUNT: it may be any. */
static enum threshold_kind kind_of_value(const struct conf_check *c)
{
	switch (c->kind) {
	case CONF_CHECK_HOST:
		return strcmp(c->what, "load") == 0 ? THRESHOLD_KIND_PLAIN : THRESHOLD_KIND_PERCENT;
	case CONF_CHECK_FILE:
		return c->of ? THRESHOLD_KIND_BYTES : THRESHOLD_KIND_TIME;
	case CONF_CHECK_HTTP:
		return c->json ? THRESHOLD_KIND_COUNT : THRESHOLD_KIND_TIME;
	case CONF_CHECK_PROCESS:
		return THRESHOLD_KIND_PLAIN;
	case CONF_CHECK_PLUGIN:
	case CONF_CHECK_PUSH:
		return THRESHOLD_KIND_COUNT;
	default:
		return THRESHOLD_KIND_TIME;
	}
}

/* Time is compared with time, and so on; a number alone may be bytes. Only plugins have several values. */
static void check_threshold(struct reader *r, const struct tree_node *n, const char *key, const char *text,
			    const struct conf_check *check)
{
	enum threshold_kind kind = check->what ? kind_of_value(check) : THRESHOLD_KIND_COUNT, is;
	struct threshold t;

	if (!text || threshold_parse(text, &t, NULL) < 0)
		return;
	is = threshold_kind(&t);
	if (t.label[0] && check->kind != CONF_CHECK_PLUGIN)
		WRONG(r, tree_key(n, key)->value, "%s: '%s' has one value, which has no name; leave '%s' out", key,
		      names[check->kind], t.label);
	else if (kind != THRESHOLD_KIND_COUNT && is != kind && !(kind == THRESHOLD_KIND_BYTES && is == THRESHOLD_KIND_PLAIN))
		WRONG(r, tree_key(n, key)->value, "%s: '%s' measures otherwise; expected %s", key, names[check->kind],
		      threshold_wants(kind));
}

/* The record of a result has room for one value. */
static void check_labels(struct reader *r, const struct tree_node *n, const struct conf_check *check)
{
	struct threshold bad, ugly;

	if (check->bad && check->ugly && threshold_parse(check->bad, &bad, NULL) == 0 &&
	    threshold_parse(check->ugly, &ugly, NULL) == 0 && strcmp(bad.label, ugly.label) != 0)
		WRONG(r, tree_key(n, "ugly")->value, "ugly: it speaks of another value than 'bad': that is a check of its own");
}

static void check_is(struct reader *r, const struct tree_node *n, const struct conf_check *check)
{
	if (check->kind == CONF_CHECK_HTTP && check->is && !check->json)
		WRONG(r, tree_key(n, "is"), "checks: 'is' says what stands at a path of 'json', and there is none");
	if (check->kind == CONF_CHECK_VERSION && !check->is)
		WRONG(r, n->first, "checks: 'version' needs 'is': what should run?");
}

static void read_check(struct reader *r, const struct tree_node *n, struct conf_check *check)
{
	if (n->kind != TREE_MAP || !n->first) {
		no_kind(r, n, NULL);
		return;
	}
	check->line = n->line;
	check->column = n->column;
	check->kind = conf_check_kind(n->first->text);
	if (check->kind == CONF_CHECK_COUNT) {
		no_kind(r, n->first, n->first->text);
		return;
	}
	read_defaults(r, SCHEMA_CHECK, check);
	for (const struct tree_node *key = n->first; key; key = key->next) {
		const struct schema_row *row = schema_find(SCHEMA_CHECK, "", key->text);

		if (row && row->kinds && !(row->kinds & 1u << check->kind)) {
			wrong_kind(r, key, check->kind);
			return;
		}
	}
	read_map(r, n, SCHEMA_CHECK, "", check);
	check_threshold(r, n, "bad", check->bad, check);
	check_threshold(r, n, "ugly", check->ugly, check);
	check_labels(r, n, check);
	check_is(r, n, check);
}

void read_checks(struct reader *r, const struct schema_row *row, const struct tree_node *n,
		 struct conf_device *device)
{
	if (n->kind != TREE_LIST || n->len < row->min || n->len > row->max) {
		WRONG(r, n, "checks: expected %s, with %llu to %llu items, found %s", schema_expected(row->type),
		      (unsigned long long)row->min, (unsigned long long)row->max, tree_kind_name(n));
		return;
	}
	if (r->conf->check_count + n->len > CONF_CHECKS_MAX) {
		WRONG(r, n, "checks: the devices have more than %d checks in all", CONF_CHECKS_MAX);
		return;
	}
	r->conf->check_count += n->len;
	device->checks = util_alloc(n->len * sizeof(*device->checks));
	for (const struct tree_node *i = n->first; i; i = i->next)
		read_check(r, i, &device->checks[device->check_count++]);
}

/* --- devices --- */

static uint64_t check_id(const struct conf_device *d, const struct conf_check *c, uint32_t index)
{
	const char *kind = names[c->kind];
	uint64_t hash = map_hash(d->name, strlen(d->name) + 1);

	hash = map_hash_more(hash, kind, strlen(kind) + 1);
	return c->label ? map_hash_more(hash, c->label, strlen(c->label)) : map_hash_more(hash, &index, sizeof(index));
}

/* A path is one of the device's first http check. */
static void finish_version(struct reader *r, struct conf_device *d, struct conf_check *c)
{
	const char *base = NULL;
	CLEANUP_BUF struct buf url = {0};

	if (!c->what || c->what[0] != '/')
		return;
	for (uint32_t i = 0; i < d->check_count && !base; i++)
		if (d->checks[i].kind == CONF_CHECK_HTTP)
			base = d->checks[i].what;
	if (!base) {
		problem_error(r->problems, c->line, c->column,
			      "device '%s': version: '%s' is a path, and there is no http check whose server would be asked",
			      d->name, c->what);
		return;
	}
	buf_add(&url, base, (size_t)(strstr(base, "://") - base) + 3);
	base += url.len;
	buf_add(&url, base, strcspn(base, "/?#"));
	buf_adds(&url, c->what);
	free(c->what);
	c->what = util_strdup(buf_str(&url));
}

/* What a check does not say itself is its device's; and by what it is known. */
static void finish_checks(struct reader *r, struct conf_device *d)
{
	uint32_t index[CONF_CHECK_COUNT] = {0};

	for (uint32_t i = 0; i < d->check_count; i++) {
		struct conf_check *c = &d->checks[i];

		if (c->kind == CONF_CHECK_COUNT)
			continue;
		if (c->kind == CONF_CHECK_PUSH && c->what)
			conf_duration(c->what, &c->period_ms);
		if (c->kind == CONF_CHECK_VERSION)
			finish_version(r, d, c);
		c->every_ms = c->every_ms ? c->every_ms : d->every_ms;
		c->timeout_ms = c->timeout_ms ? c->timeout_ms : d->timeout_ms;
		c->rise = c->rise ? c->rise : d->rise;
		c->fall = c->fall ? c->fall : d->fall;
		c->id = check_id(d, c, index[c->kind]++);
	}
}

void read_devices(struct reader *r, const struct schema_row *row, const struct tree_node *n)
{
	struct conf *c = r->conf;

	if (tree_nothing(n))
		return;
	if (n->kind != TREE_MAP) {
		WRONG(r, n, "devices: expected %s, found %s", schema_expected(row->type), tree_kind_name(n));
		return;
	}
	if (n->len > row->max) {
		WRONG(r, n, "devices: %u are more than %llu", n->len, (unsigned long long)row->max);
		return;
	}
	c->devices = util_alloc((n->len + 1) * sizeof(*c->devices));
	for (const struct tree_node *key = n->first; key; key = key->next) {
		struct conf_device *d = &c->devices[c->device_count++];
		const char *why;

		d->name = util_strdup(key->text);
		why = text_device(d->name);
		if (why)
			WRONG(r, key, "device '%.80s': %s", key->text, why);
		read_defaults(r, SCHEMA_DEVICE, d);
		r->device = d->name;
		if (key->value->kind == TREE_MAP)
			read_map(r, key->value, SCHEMA_DEVICE, "", d);
		else if (!tree_nothing(key->value))
			WRONG(r, key->value, "device '%.80s': expected a map of keys with 'checks', found %s", key->text,
			      tree_kind_name(key->value));
		r->device = NULL;
		finish_checks(r, d);
	}
}

/* --- freeing --- */

void needs_fini(struct conf_needs *needs)
{
	for (uint32_t i = 0; i < needs->len; i++) {
		list_free_texts(&needs->items[i].any);
		free(needs->items[i].devices);
	}
	free(needs->items);
}

static void check_fini(struct conf_check *c)
{
	for (size_t i = 0; i < schema_len; i++) {
		const struct schema_row *row = &schema_rows[i];
		void *field = (char *)c + row->offset;

		/* All kinds have the one field `what`. */
		if (row->owner != SCHEMA_CHECK || (row->type != SCHEMA_TEXT && row->type != SCHEMA_FIELDS))
			continue;
		if (row->type == SCHEMA_FIELDS) {
			list_free_texts(field);
		} else {
			free(*(char **)field);
			*(char **)field = NULL;
		}
	}
}

void device_fini(struct conf_device *d)
{
	free(d->name);
	free(d->at);
	free(d->runbook);
	needs_fini(&d->needs);
	for (uint32_t i = 0; i < d->check_count; i++)
		check_fini(&d->checks[i]);
	free(d->checks);
}
