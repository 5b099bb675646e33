/* SPDX-License-Identifier: Apache-2.0
 *
 * A PROXY header is read the same way however it is cut; what is read, and written, is read again.
 */
#include <string.h>

#include "wire/proxy.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct proxy_ends ends, cut;
	size_t took = 0, cut_took = 0, n = 0;
	const char *why = NULL, *p = (const char *)data;
	enum proxy_result want = proxy_parse(p, size, &ends, &took, &why), r;
	char text[PROXY_FORMAT_MAX];

	ensure(want != PROXY_BAD || why);
	ensure(want != PROXY_MORE || size < PROXY_MAX);
	ensure(want != PROXY_DONE || (took && took <= size && took <= PROXY_MAX));
	do {
		n = MIN(n + 1, size);
		r = proxy_parse(p, n, &cut, &cut_took, &why);
	} while (r == PROXY_MORE && n < size);
	ensure(r == want);
	if (want != PROXY_DONE)
		return 0;
	ensure(cut_took == took && cut.known == ends.known);
	for (enum proxy_version v = PROXY_V1; v <= PROXY_V2; v++) {
		n = proxy_format(v, &ends, text);
		ensure(n <= sizeof(text) && proxy_parse(text, n, &cut, &took, &why) == PROXY_DONE && took == n);
		ensure(cut.known == ends.known &&
		       (!ends.known || (!memcmp(cut.from, ends.from, 16) && cut.from_port == ends.from_port &&
					!memcmp(cut.to, ends.to, 16) && cut.to_port == ends.to_port)));
	}
	return 0;
}
