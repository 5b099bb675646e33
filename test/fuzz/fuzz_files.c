/* SPDX-License-Identifier: Apache-2.0
 *
 * What a request may say to the file server. Whatever it is: a name that is given is one below the root
 * and shows no dot file; a part lies within the file; a tag that is named stands in the list.
 */
#include <string.h>

#include "files/ask.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void path_holds(struct http1_slice text)
{
	char name[ASK_PATH_MAX];
	int status = ask_path(text, name);

	ensure(status == 0 || status == 400 || status == 404 || status == 414);
	if (status)
		return;
	ensure(name[0] != '/' && !strstr(name, "//") && !strstr(name, "/.") && !strchr(name, '\\'));
	ensure(name[0] != '.' || strncmp(name, ".well-known/", 12) == 0);
	for (const char *p = name; *p; p++)
		ensure((unsigned char)*p >= ' ' && *p != 0x7f);
	ensure(*type_of(name));
	type_is_fingerprinted(name);
}

static void range_holds(struct http1_slice text, uint64_t size)
{
	uint64_t at = 0, len = 0;

	if (ask_range(text, size, &at, &len) == ASK_PART)
		ensure(len && at < size && len <= size - at);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct http1_slice text = {(const char *)data, (uint32_t)size};
	int weight = ask_weight(text, "br");

	path_holds(text);
	range_holds(text, 0);
	range_holds(text, 10);
	range_holds(text, UINT64_MAX);
	ensure(weight >= -1 && weight <= 1000);
	if (ask_names(text, "\"tag\"", true) && !(size == 1 && data[0] == '*'))
		ensure(memmem(data, size, "\"tag\"", 5));
	ensure(!ask_names(text, "\"tag\"", false) || ask_names(text, "\"tag\"", true));
	ask_if_range(text, "\"tag\"");
	return 0;
}
