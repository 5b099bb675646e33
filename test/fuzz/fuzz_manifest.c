/* SPDX-License-Identifier: Apache-2.0
 *
 * A manifest that is accepted must be exactly what was read, and in order.
 */
#include <string.h>

#include "ship/store.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store_manifest m;
	struct err e = {0};

	if (store_manifest_parse((const char *)data, size, &m, &e) < 0) {
		ensure(e.code && *e.msg);
		return 0;
	}
	ensure(m.text_len == size && memcmp(m.text, data, size) == 0);
	for (size_t i = 1; i < m.len; i++)
		ensure(strcmp(m.files[i - 1].path, m.files[i].path) < 0);
	store_manifest_free(&m);
	return 0;
}
