/* SPDX-License-Identifier: Apache-2.0
 *
 * What holds between devices: that what is needed is there, and that nothing needs itself by any way.
 */
#include <string.h>

#include "conf/read.h"

static void unknown_device(struct conf *c, struct conf_problems *problems, const struct conf_need *need,
			   const char *whose, const char *owner, const char *name)
{
	CLEANUP_FREE const char **words = util_alloc((c->device_count + 1) * sizeof(*words));
	const char *nearest;

	for (uint32_t i = 0; i < c->device_count; i++)
		words[i] = c->devices[i].name;
	nearest = problems->len < CONF_PROBLEMS_MAX ? conf_nearest(name, words, c->device_count) : NULL;
	problem_error(problems, need->line, need->column, "%s '%s' needs '%.80s', and there is no such device%s%s%s",
		      whose, owner, name, nearest ? "; did you mean '" : "", nearest ? nearest : "",
		      nearest ? "'?" : "");
}

static void find_needs(struct conf *c, struct conf_problems *problems, struct conf_needs *needs,
		       const char *whose, const char *owner)
{
	for (uint32_t i = 0; i < needs->len; i++) {
		struct conf_need *need = &needs->items[i];

		need->devices = util_alloc((need->any.len + 1) * sizeof(*need->devices));
		for (uint32_t k = 0; k < need->any.len; k++) {
			const struct conf_device *d = conf_device(c, need->any.items[k]);

			if (d)
				need->devices[k] = (uint32_t)(d - c->devices);
			else
				unknown_device(c, problems, need, whose, owner, need->any.items[k]);
		}
	}
}

/* --- circles --- */

static void add_needs(struct device_need *needs, const struct conf_needs *conf, uint32_t *n)
{
	for (uint32_t i = 0; i < conf->len; i++)
		for (uint32_t k = 0; k < conf->items[i].any.len; k++)
			needs[(*n)++] = (struct device_need){conf->items[i].devices[k], i};
}

uint32_t conf_graph(const struct conf *c, const struct device_rule *rule, struct device_graph *ret, void **ret_memory,
		    uint32_t ret_circle[DEVICE_CIRCLE_MAX])
{
	CLEANUP_FREE struct device_in *in = util_alloc((c->device_count + 1) * sizeof(*in));
	CLEANUP_FREE struct device_need *needs = NULL;
	uint32_t total = 0, n = 0;

	for (uint32_t i = 0; i < c->device_count; i++)
		for (uint32_t k = 0; k < c->devices[i].needs.len; k++)
			total += c->devices[i].needs.items[k].any.len;
	needs = util_alloc((total + 1) * sizeof(*needs));
	for (uint32_t i = 0; i < c->device_count; i++) {
		uint32_t from = n;

		add_needs(needs, &c->devices[i].needs, &n);
		in[i] = (struct device_in){&needs[from], n - from};
	}
	*ret_memory = util_alloc(device_graph_size(c->device_count, total) + 8);
	return device_graph_init(ret, *ret_memory, in, c->device_count, rule, ret_circle);
}

/* Where in the file the first of a circle says that it needs the second. */
static const struct conf_need *place_of(const struct conf *c, uint32_t first, uint32_t second)
{
	const struct conf_needs *needs = &c->devices[first].needs;

	for (uint32_t i = 0; i < needs->len; i++)
		for (uint32_t k = 0; k < needs->items[i].any.len; k++)
			if (needs->items[i].devices[k] == second)
				return &needs->items[i];
	ensure(false);
	return NULL;
}

static void find_circle(const struct conf *c, struct conf_problems *problems)
{
	static const struct device_rule none;
	uint32_t circle[DEVICE_CIRCLE_MAX], n;
	CLEANUP_FREE void *memory = NULL;
	CLEANUP_BUF struct buf way = {0};
	const struct conf_need *at;
	struct device_graph g;

	n = conf_graph(c, &none, &g, &memory, circle);
	if (!n)
		return;
	for (uint32_t i = 0; i < MIN(n, DEVICE_CIRCLE_MAX) && way.len < 300; i++)
		buf_addf(&way, "%s needs ", c->devices[circle[i]].name);
	at = place_of(c, circle[0], circle[n > 1]);
	problem_error(problems, at->line, at->column, "needs in a circle: %s%s%s", buf_str(&way),
		      n > DEVICE_CIRCLE_MAX ? "... needs " : "", c->devices[circle[0]].name);
}

void check_devices(const struct tree_node *root, struct conf *c, struct conf_problems *problems)
{
	const struct tree_node *devices = tree_key(root, "devices");
	const struct tree_node *key = devices ? devices->value->first : NULL;
	uint32_t errors = problems->errors;

	for (uint32_t i = 0; i < c->device_count; i++, key = key->next) {
		struct conf_device *d = &c->devices[i];

		map_put(&c->device_index, map_hash(d->name, strlen(d->name)), d);
		if (conf_app(c, d->name))
			problem_error(problems, key->line, key->column,
				      "device '%s' has the name of an app; give it another", d->name);
	}
	for (uint32_t i = 0; i < c->device_count; i++)
		find_needs(c, problems, &c->devices[i].needs, "device", c->devices[i].name);
	for (uint32_t i = 0; i < c->app_count; i++)
		find_needs(c, problems, &c->apps[i].needs, "app", c->apps[i].name);
	if (problems->errors == errors)
		find_circle(c, problems);
}

const struct conf_device *conf_device(const struct conf *c, const char *name)
{
	const struct conf_device *d = map_get(&c->device_index, map_hash(name, strlen(name)));

	return d && strcmp(d->name, name) == 0 ? d : NULL;
}

void conf_needed(const struct conf *c, const struct conf_needs *needs, bool *set)
{
	CLEANUP_FREE uint32_t *queue = util_alloc((c->device_count + 1) * sizeof(*queue));
	uint32_t at = 0, end = 0;

	for (;;) {
		for (uint32_t i = 0; i < needs->len; i++) {
			for (uint32_t k = 0; k < needs->items[i].any.len; k++) {
				uint32_t d = needs->items[i].devices[k];

				if (!set[d])
					queue[end++] = d;
				set[d] = true;
			}
		}
		if (at == end)
			return;
		needs = &c->devices[queue[at++]].needs;
	}
}
