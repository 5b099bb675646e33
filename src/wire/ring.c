/* SPDX-License-Identifier: Apache-2.0
 *
 * ring_next() frees the record that it returned the last time, so that the
 * reader may use it in place; what it stands on is therefore kept in the
 * reserved word `pad2[0]` of the reader's own cache line.
 */
#include "wire/ring.h"

#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>

static_assert((RING_BYTES & (RING_BYTES - 1)) == 0, "positions are folded with a mask");

static uint32_t padded(uint32_t len)
{
	return (len + 4 + 7) & ~7u;
}

int ring_create(uint32_t n)
{
	CLEANUP_FD int fd = memfd_create("upstate-ring", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	if (fd < 0 || ftruncate(fd, (off_t)(n * sizeof(struct ring))) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -1;
	return TAKE_FD(fd);
}

struct ring *ring_map(int fd, uint32_t n)
{
	void *p = mmap(NULL, n * sizeof(struct ring), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);

	return p == MAP_FAILED ? NULL : p;
}

char *ring_reserve(struct ring *r, uint32_t max)
{
	uint64_t w = atomic_load_explicit(&r->written, memory_order_relaxed);
	uint64_t rd = atomic_load_explicit(&r->read, memory_order_acquire);
	uint32_t at = (uint32_t)(w & (RING_BYTES - 1)), need = padded(max);
	uint32_t to_end = RING_BYTES - at, skip = need > to_end ? to_end : 0;

	if (max > RING_BYTES / 4 || need > RING_BYTES / 4 || w + skip + need - rd > RING_BYTES)
		return NULL;
	if (skip) {
		uint32_t mark = RING_SKIP;

		memcpy(r->data + at, &mark, sizeof(mark));
		atomic_store_explicit(&r->written, w + skip, memory_order_release);
		at = 0;
	}
	return r->data + at + 4;
}

bool ring_commit(struct ring *r, uint32_t len)
{
	uint64_t w = atomic_load_explicit(&r->written, memory_order_relaxed);

	memcpy(r->data + (w & (RING_BYTES - 1)), &len, sizeof(len));
	/* Sequentially consistent, as is the reader's "I sleep" followed by a last look: one of the
	 * two sees the other. */
	atomic_store(&r->written, w + padded(len));
	return atomic_load(&r->sleeping) && atomic_exchange(&r->sleeping, 0);
}

uint64_t ring_begin(const struct ring *r)
{
	return atomic_load_explicit(&((struct ring *)r)->read, memory_order_relaxed);
}

void ring_free(struct ring *r, uint64_t at)
{
	atomic_store_explicit(&r->read, at, memory_order_release);
}

const char *ring_look(struct ring *r, uint64_t *at, uint32_t *ret_len)
{
	uint64_t rd = *at, w = atomic_load(&r->written);

	for (;;) {
		uint32_t place = (uint32_t)(rd & (RING_BYTES - 1)), len;

		*at = rd;
		if (rd == w)
			return NULL;
		/* The writer is another process, and the one that strangers talk to: nothing that it
		 * wrote may lead this one out of the ring, or round it for ever. */
		if (w - rd > RING_BYTES || place % 8) {
			rd = w & ~7ull;
			w = rd;
			continue;
		}
		memcpy(&len, r->data + place, sizeof(len));
		if (len == RING_SKIP) {
			rd += RING_BYTES - place;
			continue;
		}
		if (len > RING_BYTES / 4 || padded(len) > w - rd || padded(len) > RING_BYTES - place) {
			rd = w & ~7ull;
			w = rd;
			continue;
		}
		*at = rd + padded(len);
		*ret_len = len;
		return r->data + place + 4;
	}
}

const char *ring_next(struct ring *r, uint32_t *ret_len)
{
	uint64_t at = ring_begin(r) + r->pad2[0];
	const char *record;

	r->pad2[0] = 0;
	record = ring_look(r, &at, ret_len);
	if (record)
		r->pad2[0] = padded(*ret_len);
	ring_free(r, at - r->pad2[0]);
	return record;
}
