/* SPDX-License-Identifier: Apache-2.0
 *
 * Frames of a hostile HTTP/2 client. The first byte: where they are cut in two; the last: how the target
 * answers, and whether the connection is drained meanwhile.
 */
#include "fuzz_router.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";
	uint8_t kind = size ? data[size - 1] : 0;
	size_t cut = size ? (size_t)data[0] * 16 % (size + 1) : 0;
	uint8_t *whole = util_alloc(sizeof(hello) + size);

	if (!target)
		start();
	memcpy(whole, hello, sizeof(hello));
	if (size)
		memcpy(whole + sizeof(hello), data, size);
	be_client(whole, sizeof(hello) + size, sizeof(hello) + cut, kind, 0, false);
	free(whole);
	return 0;
}
