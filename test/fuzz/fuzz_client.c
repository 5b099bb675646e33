/* SPDX-License-Identifier: Apache-2.0
 *
 * A hostile client of HTTP/1 (or of whatever its bytes begin), and a hostile target.
 *
 *	0	how the target answers when it has nothing of its own to say; whether it ends then
 *	1	who the client is: 1 behind a PROXY header, 2 a trusted proxy
 *	2	where the client's bytes are cut in two
 *	3, 4	how many of the last bytes the target says
 */
#include "fuzz_router.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The first answer, interim or not, is one that a strict client reads. */
static void check_heard(void)
{
	static const struct http1_limits limits = {.head_bytes = BYTES, .headers = HTTP1_HEADERS_MAX};
	static struct http1_head h;
	size_t scanned = 0;
	const char *why;
	enum http1_result r = http1_answer(heard.data, heard.len, &scanned, &limits, false, false, &h, &why);

	ensure(r == HTTP1_DONE || r == HTTP1_MORE);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	const uint8_t *kind = data;
	size_t cut;

	if (size < 5)
		return 0;
	if (!target)
		start();
	data += 5;
	size -= 5;
	said_len = MIN(size, (size_t)kind[3] << 8 | kind[4]);
	size -= said_len;
	said = data + size;
	cut = (size_t)kind[2] * 8 % (size + 1);
	be_client(data, size, cut, kind[0], kind[1] & 2 ? 0x0a000001 : 0xc0000207, kind[1] & 1);
	if (!memmem(data, size, "PRI * HTTP/2.0", 14))
		check_heard();
	return 0;
}
