/* SPDX-License-Identifier: Apache-2.0
 *
 * Settings: what of the configuration reaches an instance. A version is a release with
 * settings, so a changed environment is rolled out, and undone, like changed files.
 */
#include "ship/ship.h"

#include <string.h>

json_t *ship_settings_json(const struct conf_app *c)
{
	json_t *env = json_array();

	for (uint32_t i = 0; i < c->env.len; i++)
		json_array_append_new(env, json_string(c->env.items[i]));
	return json_pack("{s:s, s:o, s:s?, s:i, s:i, s:b, s:i}", "run", c->run, "env", env, "data",
			 c->data, "stop_signal", (int)c->stop_signal, "grace_ms", (int)c->grace_ms,
			 "notify", c->notify, "files_max", (int)c->files_max);
}

static bool in_use(const struct ship_app *a, uint32_t number)
{
	const struct rollout *r = &a->rollout;

	if (r->current.settings == number || r->from.settings == number || r->to.settings == number ||
	    (a->change && (a->change->from.settings == number || a->change->to.settings == number)))
		return true;
	for (uint32_t i = 0; i < r->unit_count; i++)
		if (r->units[i].version.settings == number)
			return true;
	return false;
}

/* History names settings by their hash and keeps the text; here are only those that may be started. */
static void drop_unused(struct ship_app *a)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < a->settings_count; i++) {
		if (in_use(a, a->settings[i].number))
			a->settings[kept++] = a->settings[i];
		else
			json_decref(a->settings[i].json);
	}
	a->settings_count = kept;
}

int ship_settings_number(struct ship_app *a, json_t *settings, uint32_t *ret, struct err *e)
{
	char *text = json_dumps(settings, JSON_COMPACT | JSON_SORT_KEYS);
	char hash[STATE_HASH];
	int r;

	ensure(text);
	r = state_text_put(a->ship->state, text, strlen(text), hash, e);
	free(text);
	if (r < 0)
		return err_wrap(e, "keeping the settings of '%s'", a->name);
	for (uint32_t i = 0; i < a->settings_count; i++) {
		if (strcmp(a->settings[i].hash, hash) == 0) {
			*ret = a->settings[i].number;
			return 0;
		}
	}
	drop_unused(a);
	a->settings = realloc(a->settings, (a->settings_count + 1) * sizeof(*a->settings));
	ensure(a->settings);
	a->settings[a->settings_count] =
		(struct ship_settings){.number = a->next_settings++, .json = json_incref(settings)};
	util_copy(a->settings[a->settings_count].hash, STATE_HASH, hash);
	*ret = a->settings[a->settings_count++].number;
	return 0;
}

const struct ship_settings *ship_settings(const struct ship_app *a, uint32_t number)
{
	for (uint32_t i = 0; i < a->settings_count; i++)
		if (a->settings[i].number == number)
			return &a->settings[i];
	return NULL;
}
