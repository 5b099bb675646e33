/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/boundary.h"

#include <string.h>

void boundary_start(struct boundary *b, enum boundary_kind kind)
{
	*b = (struct boundary){.kind = (uint8_t)kind, .need = 2};
}

/* One byte of a frame's header: FIN and opcode, MASK and length, 0, 2 or 8 bytes of length, then 4 of
 * the mask if there is one. */
static void take_header(struct boundary *b, uint8_t byte)
{
	if (b->have == 1) {
		uint8_t length = byte & 127;

		b->left = length < 126 ? length : 0;
		b->length_end = (uint8_t)(2 + (length == 126 ? 2 : length == 127 ? 8 : 0));
		b->need = (uint8_t)(b->length_end + (byte & 128 ? 4 : 0));
	} else if (b->have > 1 && b->have < b->length_end) {
		b->left = b->left << 8 | byte;
	}
	b->have++;
}

static void feed_frames(struct boundary *b, const char *p, size_t len)
{
	while (len) {
		size_t n = 1;

		if (b->have < b->need) {
			take_header(b, (uint8_t)*p);
		} else {
			n = (size_t)MIN(b->left, len);
			b->left -= n;
		}
		if (b->have == b->need && !b->left) {
			b->have = 0;
			b->need = 2;
		}
		p += n;
		len -= n;
	}
}

static void feed_events(struct boundary *b, const char *p, size_t len)
{
	size_t n = MIN(len, sizeof(b->last));

	if (!len)
		return;
	memmove(b->last, b->last + n, sizeof(b->last) - n);
	memcpy(b->last + sizeof(b->last) - n, p + len - n, n);
	b->have = 1;
}

void boundary_feed(struct boundary *b, const char *p, size_t len)
{
	if (b->kind == BOUNDARY_FRAMES)
		feed_frames(b, p, len);
	else if (b->kind == BOUNDARY_EVENTS)
		feed_events(b, p, len);
}

/* The length of the line end (CR LF, LF or CR) that stands before p[n]; 0: there is none. */
static size_t line_end(const char *p, size_t n)
{
	if (n && p[n - 1] == '\n')
		return n > 1 && p[n - 2] == '\r' ? 2 : 1;
	return n && p[n - 1] == '\r' ? 1 : 0;
}

bool boundary_here(const struct boundary *b)
{
	size_t n = sizeof(b->last), end;

	if (b->kind == BOUNDARY_FRAMES)
		return b->have == 0;
	if (b->kind != BOUNDARY_EVENTS)
		return false;
	if (!b->have)
		return true; /* nothing has passed yet */
	end = line_end(b->last, n);
	return end && line_end(b->last, n - end);
}
