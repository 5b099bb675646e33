/* SPDX-License-Identifier: Apache-2.0
 *
 * The first byte: how many descriptors came along. The rest: a packet.
 */
#include <string.h>

#include "wire/msg.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *packet = size ? util_alloc(size - 1) : NULL; /* of exactly its length */
	const char *strings[8];
	struct msg m = {0};
	size_t at = 0;
	struct err e;

	if (!packet)
		return 0;
	memcpy(packet, data + 1, size - 1);
	if (msg_decode(packet, size - 1, data[0] % (MSG_FDS_MAX + 2), &m, &e) < 0)
		return 0;
	ensure((char *)m.body + msg_body_size(m.type) == m.tail);
	ensure(m.tail + m.tail_len == packet + size - 1 && m.fds_len <= MSG_FDS_MAX);
	while (msg_strings(&m, &at, 1, strings))
		ensure(at <= m.tail_len && strlen(strings[0]) < m.tail_len);
	return 0;
}
