/* SPDX-License-Identifier: Apache-2.0
 *
 * The list of checks: JSON in a sealed memory file, made by the controller out of a configuration that it has checked. A
 * check that stands in the new list as it did in the old one goes on, its measurement too; so a new list (each controller
 * sends one at its start) costs only what is new in it.
 */
#include <errno.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

#include "base/log.h"
#include "watch/watch_priv.h"

#define LIST_BYTES_MAX (256u << 20)

const struct watch_engine *const watch_engines[CONF_CHECK_COUNT] = {
    [CONF_CHECK_HTTP] = &watch_http,
    [CONF_CHECK_TCP] = &watch_tcp,
    [CONF_CHECK_PLUGIN] = &watch_plugin,
    [CONF_CHECK_VERSION] = &watch_http,
    [CONF_CHECK_TLS] = &watch_tls,
    [CONF_CHECK_DNS] = &watch_dns,
    [CONF_CHECK_ICMP] = &watch_icmp,
    [CONF_CHECK_FILE] = &watch_plugin,
    [CONF_CHECK_HOST] = &watch_plugin,
    [CONF_CHECK_PROCESS] = &watch_plugin,
};

const char *watch_text(const struct watch_check *c, const char *key)
{
	return json_string_value(json_object_get(c->o, key));
}

uint64_t watch_number(const struct watch_check *c, const char *key)
{
	const json_t *o = json_object_get(c->o, key);

	return json_is_true(o) ? 1 : (uint64_t)json_integer_value(o);
}

static void take_threshold(const struct watch_check *c, const char *key, struct threshold *ret)
{
	const char *text = watch_text(c, key);

	if (text && threshold_parse(text, ret, NULL) < 0)
		log_error("check", "id=%016llx reason=\"%s cannot be read\"", (unsigned long long)c->id, key);
}

static void check_free(struct watch_check *c)
{
	watch_unschedule(c);
	json_decref(c->o);
	free(c);
}

static struct watch_check *check_new(struct watcher *w, uint64_t id, json_t *o)
{
	struct watch_check *c = util_alloc(sizeof(*c));

	c->w = w;
	c->id = id;
	c->o = json_incref(o);
	c->kind = conf_check_kind(watch_text(c, "kind") ?: "");
	c->what = watch_text(c, "what");
	c->every_ms = (uint32_t)watch_number(c, "every");
	c->timeout_ms = (uint32_t)watch_number(c, "timeout");
	c->rule = conf_check_rule(c->every_ms, (uint32_t)watch_number(c, "rise"), (uint32_t)watch_number(c, "fall"), false);
	take_threshold(c, "bad", &c->bad);
	take_threshold(c, "ugly", &c->ugly);
	if (c->kind != CONF_CHECK_COUNT && watch_engines[c->kind] && c->what && c->every_ms)
		return c;
	log_error("check", "id=%016llx reason=\"it cannot be measured\"", (unsigned long long)id);
	json_decref(c->o);
	free(c);
	return NULL;
}

static void take_one(struct watcher *w, json_t *o)
{
	uint64_t id = strtoull(json_string_value(json_object_get(o, "id")) ?: "0", NULL, 16);
	struct watch_check *c = map_get(&w->checks, id);

	if (c && json_equal(c->o, o)) {
		c->listed = true;
		return;
	}
	if (c) {
		map_del(&w->checks, id);
		check_free(c);
	}
	c = check_new(w, id, o);
	if (!c)
		return;
	c->listed = true;
	map_put(&w->checks, id, c);
	watch_schedule(c);
}

static void take_all(struct watcher *w, json_t *list)
{
	CLEANUP_FREE uint64_t *gone = util_alloc((w->checks.len + 1) * sizeof(*gone));
	size_t n = 0, i;
	json_t *o;

	json_array_foreach (list, i, o)
		take_one(w, o);
	for (i = 0; i < w->checks.cap; i++) {
		struct watch_check *c = w->checks.entries[i].value;

		if (c && !c->listed)
			gone[n++] = c->id;
		else if (c)
			c->listed = false;
	}
	for (i = 0; i < n; i++)
		check_free(map_del(&w->checks, gone[i]));
	atomic_store(&w->results->checks, w->checks.len);
}

int watch_take_list(struct watcher *w, int fd, struct err *e)
{
	CLEANUP(json_decrefp) json_t *list = NULL;
	json_error_t error;
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0)
		return err_sys(e, "the list of checks");
	if (!st.st_size || (uint64_t)st.st_size > LIST_BYTES_MAX)
		return err_set(e, ERR_INPUT, "the list of checks has %lld bytes", (long long)st.st_size);
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return err_sys(e, "the list of checks");
	list = json_loadb(p, (size_t)st.st_size, 0, &error);
	munmap(p, (size_t)st.st_size);
	if (!json_is_array(list))
		return err_set(e, ERR_INPUT, "the list of checks is none: %s", error.text);
	take_all(w, list);
	return 0;
}
