/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz_http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const struct http1_limits limits = {.head_bytes = 600, .headers = 40};
	static struct http1_head whole, cut;
	const char *p = (const char *)data, *why = NULL;
	const bool to_head = size % 3 == 1, to_connect = size % 3 == 2;
	size_t scanned = 0, n = 0;
	enum http1_result want, r;

	want = http1_answer(p, size, &scanned, &limits, to_head, to_connect, &whole, &why);
	ensure(want == HTTP1_DONE || want == HTTP1_MORE || why);
	if (want == HTTP1_DONE)
		head_holds(&whole, p, size);
	scanned = 0;
	do {
		n = MIN(n + 1 + size % 5, size);
		r = http1_answer(p, n, &scanned, &limits, to_head, to_connect, &cut, &why);
	} while (r == HTTP1_MORE && n < size);
	ensure(r == want);
	ensure(r != HTTP1_DONE || (cut.head_len == whole.head_len && cut.length == whole.length &&
				   cut.framing == whole.framing && cut.status == whole.status));
	return 0;
}
