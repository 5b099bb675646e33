/* SPDX-License-Identifier: Apache-2.0
 *
 * The first byte: how many descriptors came along. The rest: a packet of a hand-over. What is accepted
 * is walked over as the router does; then its bytes are taken as a stream that is to be ended.
 */
#include <string.h>

#include "wire/boundary.h"
#include "wire/handover.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static volatile char seen; /* so that each byte is read */

static void touch(const char *p, size_t len)
{
	while (len--)
		seen = *p++;
}

static void walk(const char *packet, size_t len, const struct handover *h)
{
	const struct handover_slice *s[] = {&h->method, &h->host, &h->path, &h->request_id, &h->agent, &h->trace};
	const char *req = packet + sizeof(*h);

	ensure(sizeof(*h) + h->req_len + h->in_len == len);
	touch(req, h->req_len + h->in_len);
	for (size_t i = 0; h->kind == HANDOVER_REQUEST && i < ARRAY_LEN(s); i++) {
		ensure(s[i]->at + (uint32_t)s[i]->len <= h->req_len);
		touch(req + s[i]->at, s[i]->len);
	}
	ensure(h->kind != HANDOVER_REQUEST || h->bytes <= h->req_len);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	CLEANUP_FREE char *packet = size ? util_alloc(size) : NULL; /* of exactly its length */
	struct boundary frames, events;
	struct handover h;
	struct err e;

	if (size < 2)
		return 0;
	memcpy(packet, data + 1, size - 1);
	boundary_start(&frames, BOUNDARY_FRAMES);
	boundary_start(&events, BOUNDARY_EVENTS);
	for (size_t at = 0; at < size - 1; at += 1 + data[0] % 32u) {
		size_t n = MIN(1 + data[0] % 32u, size - 1 - at);

		boundary_feed(&frames, packet + at, n);
		boundary_feed(&events, packet + at, n);
		ensure(frames.have <= frames.need && frames.need <= 14);
	}
	if (handover_decode(packet, size - 1, data[0] % 3, &h, &e) == 0)
		walk(packet, size - 1, &h);
	return 0;
}
