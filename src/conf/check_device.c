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

/* Where a walk down the needs stands: a device, and which of its needs comes next. */
struct step {
	uint32_t device, item, of;
};

/* The next device that this step leads to; false: there is no more. */
static bool next_need(const struct conf *c, struct step *s, uint32_t *ret)
{
	const struct conf_needs *needs = &c->devices[s->device].needs;

	for (; s->item < needs->len; s->item++, s->of = 0) {
		if (s->of < needs->items[s->item].any.len) {
			*ret = needs->items[s->item].devices[s->of++];
			return true;
		}
	}
	return false;
}

static void circle(struct conf *c, struct conf_problems *problems, const struct step *steps, uint32_t len,
		   uint32_t again)
{
	const struct conf_need *at = &c->devices[steps[len - 1].device].needs.items[steps[len - 1].item];
	CLEANUP_BUF struct buf way = {0};
	uint32_t from = 0;

	while (steps[from].device != again)
		from++;
	for (uint32_t i = from; i < len && way.len < 300; i++)
		buf_addf(&way, "%s needs ", c->devices[steps[i].device].name);
	problem_error(problems, at->line, at->column, "needs in a circle: %s%s", buf_str(&way), c->devices[again].name);
}

/* Depth first; each device is entered once. */
static void find_circles(struct conf *c, struct conf_problems *problems)
{
	enum { NEW, ENTERED, LEFT };
	CLEANUP_FREE struct step *steps = util_alloc((c->device_count + 1) * sizeof(*steps));
	CLEANUP_FREE uint8_t *state = util_alloc(c->device_count + 1);
	uint32_t len, next;

	for (uint32_t i = 0; i < c->device_count; i++) {
		if (state[i] != NEW)
			continue;
		steps[0] = (struct step){.device = i};
		state[i] = ENTERED;
		for (len = 1; len;) {
			if (!next_need(c, &steps[len - 1], &next)) {
				state[steps[--len].device] = LEFT;
			} else if (state[next] == ENTERED) {
				circle(c, problems, steps, len, next);
			} else if (state[next] == NEW) {
				state[next] = ENTERED;
				steps[len++] = (struct step){.device = next};
			}
		}
	}
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
		find_circles(c, problems);
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
