/* SPDX-License-Identifier: Apache-2.0
 *
 * Paths into JSON: "data.nodes.0.state". A number is an index of a list, and a key of a map.
 */
#include <string.h>

#include "watch/watch_priv.h"

const json_t *watch_json_at(const json_t *o, const char *path)
{
	while (o && *path) {
		size_t len = strcspn(path, ".");
		char key[201];

		if (!len || len >= sizeof(key))
			return NULL;
		memcpy(key, path, len);
		key[len] = '\0';
		if (json_is_array(o)) {
			char *end;
			unsigned long i = strtoul(key, &end, 10);

			o = *end || key[0] == '-' || key[0] == '+' ? NULL : json_array_get(o, i);
		} else {
			o = json_object_get(o, key); /* NULL too when it is no map */
		}
		path += len;
		path += *path == '.';
	}
	return o;
}

void watch_json_text(const json_t *o, struct buf *ret)
{
	char *text;

	if (json_is_string(o)) {
		buf_adds(ret, json_string_value(o));
		return;
	}
	text = json_dumps(o, JSON_COMPACT | JSON_ENCODE_ANY | JSON_REAL_PRECISION(15));
	buf_adds(ret, text ? text : "");
	free(text);
}
