/* SPDX-License-Identifier: Apache-2.0
 *
 * Damaged certificates are refused, or are safe to read. The input overwrites a good block in places:
 * offset, value, offset, value, ...
 */
#include <string.h>

#include "core/certs.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *const names[] = {"a.test", "*.a.test", "b.test"}, *const more[] = {"*.b.test", "b.test"};
	const struct certs_in_pair pairs[] = {{1, 1, 2, "chain", "key", 5, 3, names, 3},
					      {2, 1, 2, "other", "key", 5, 3, more, 2}};
	const struct certs_in in = {.pairs = pairs, .pair_count = 2};
	size_t len = (size_t)certs_size(&in);
	char *mem = util_alloc(len);
	const struct certs *c = (const void *)mem;

	ensure(certs_build(&in, 1, mem, NULL) == 0);
	for (uint16_t at; size >= 6; data += 6, size -= 6) {
		memcpy(&at, data, 2);
		memcpy(mem + at % (len - 4), data + 2, 4);
	}
	if (certs_check(mem, len, NULL) == 0) {
		ensure(certs_find(c, "a.test", 6) < c->pair_count && certs_find(c, "x.b.test", 8) < c->pair_count);
		for (uint32_t i = 0; i < c->pair_count; i++)
			free(memcpy(util_alloc(certs_pairs(c)[i].chain_len), certs_bytes(c, certs_pairs(c)[i].chain),
				    certs_pairs(c)[i].chain_len));
	}
	free(mem);
	return 0;
}
