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
