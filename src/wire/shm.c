/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/shm.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>

size_t shm_size(uint32_t threads)
{
	return sizeof(struct shm) + (size_t)threads * SHM_SLOTS * sizeof(struct shm_counts);
}

int shm_create(uint32_t threads)
{
	CLEANUP_FD int fd = memfd_create("upstate-numbers", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	struct shm *shm;

	if (fd < 0 || ftruncate(fd, (off_t)shm_size(threads)) < 0 ||
	    fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_SEAL) < 0)
		return -1;
	shm = mmap(NULL, sizeof(*shm), PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shm == MAP_FAILED)
		return -1;
	shm->magic = SHM_MAGIC;
	shm->version = SHM_VERSION;
	shm->threads = threads;
	shm->slots = SHM_SLOTS;
	munmap(shm, sizeof(*shm));
	return TAKE_FD(fd);
}

struct shm *shm_map(int fd)
{
	struct shm *shm;
	struct stat st;

	if (fstat(fd, &st) < 0)
		return NULL;
	if ((size_t)st.st_size < sizeof(*shm)) {
		errno = EINVAL;
		return NULL;
	}
	shm = mmap(NULL, (size_t)st.st_size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (shm == MAP_FAILED)
		return NULL;
	if (shm->magic != SHM_MAGIC || shm->version != SHM_VERSION || shm->slots != SHM_SLOTS ||
	    shm->threads > SHM_THREADS || (size_t)st.st_size != shm_size(shm->threads)) {
		munmap(shm, (size_t)st.st_size);
		errno = EINVAL;
		return NULL;
	}
	return shm;
}

void shm_unmap(struct shm *shm)
{
	if (shm)
		munmap(shm, shm_size(shm->threads));
}

void shm_sum_slot(struct shm *shm, uint32_t slot, struct shm_sum *ret)
{
	*ret = (struct shm_sum){0};
	for (uint32_t t = 0; t < shm->threads; t++) {
		struct shm_counts *c = shm_counts(shm, t, slot);

#define X(name, what) ret->name += shm_get(&c->name);
		COUNT_TABLE(X)
		GAUGE_TABLE(X)
#undef X
		ret->latency_us += shm_get(&c->latency_us);
		ret->longest_us = MAX(ret->longest_us, shm_get(&c->longest_us));
		for (uint32_t i = 0; i < SHM_BUCKETS; i++)
			ret->latency[i] += shm_get(&c->latency[i]);
	}
}

void shm_sum_minus(struct shm_sum *a, const struct shm_sum *b)
{
#define X(name, what) a->name -= b->name;
	COUNT_TABLE(X)
#undef X
	a->latency_us -= b->latency_us;
	for (uint32_t i = 0; i < SHM_BUCKETS; i++)
		a->latency[i] -= b->latency[i];
}

void shm_sum_plus(struct shm_sum *a, const struct shm_sum *b)
{
#define X(name, what) a->name += b->name;
	COUNT_TABLE(X)
	GAUGE_TABLE(X)
#undef X
	a->latency_us += b->latency_us;
	a->longest_us = MAX(a->longest_us, b->longest_us);
	for (uint32_t i = 0; i < SHM_BUCKETS; i++)
		a->latency[i] += b->latency[i];
}

void shm_zero_slot(struct shm *shm, uint32_t slot)
{
	for (uint32_t t = 0; t < shm->threads; t++)
		memset(shm_counts(shm, t, slot), 0, sizeof(struct shm_counts));
	memset(&shm->slot[slot], 0, sizeof(shm->slot[slot]));
}

uint64_t shm_applied(const struct shm *shm)
{
	uint32_t rows = shm->threads / SHM_BANKS;
	uint64_t least = UINT64_MAX;

	for (uint32_t t = 0; t < rows * SHM_BANKS; t++)
		if (atomic_load(&shm->used[t / rows]))
			least = MIN(least, shm_get(&shm->thread[t].generation));
	return least == UINT64_MAX ? 0 : least;
}

static uint64_t bury_slot(struct shm *shm, uint32_t thread, uint32_t slot)
{
	struct shm_counts *n = shm_counts(shm, thread, slot);
	uint64_t inside = shm_get(&n->inflight);

	if (inside)
		shm_add(&n->failed_lost, inside);
#define X(name, what) atomic_store(&n->name, 0);
	GAUGE_TABLE(X)
#undef X
	return inside;
}

uint64_t shm_bury(struct shm *shm, uint32_t bank)
{
	uint32_t rows = shm->threads / SHM_BANKS;
	uint64_t lost = 0;

	for (uint32_t t = bank * rows; t < (bank + 1) * rows; t++) {
		atomic_store(&shm->thread[t].clients, 0);
		atomic_store(&shm->thread[t].generation, 0);
		for (uint32_t s = 0; s < SHM_SLOTS; s++)
			if (shm_get(&shm->slot[s].id))
				lost += bury_slot(shm, t, s);
	}
	atomic_store(&shm->used[bank], 0);
	return lost;
}

uint32_t shm_bucket(uint64_t us)
{
	uint32_t octave, quarter;

	if (us < 32)
		return 0;
	octave = 63 - (uint32_t)__builtin_clzll(us); /* >= 5 */
	/* Quarters are taken linearly within an octave: at most 6 % off 2^(1/4), and no logarithm. */
	quarter = (uint32_t)(us >> (octave - 2)) & 3;
	return MIN((octave - 5) * 4 + quarter + 1, SHM_BUCKETS - 1u);
}

uint64_t shm_bucket_us(uint32_t i)
{
	uint32_t octave, quarter;

	if (i == 0)
		return 32;
	octave = (i - 1) / 4 + 5;
	quarter = (i - 1) % 4;
	return ((uint64_t)(4 + quarter + 1)) << (octave - 2);
}

uint64_t shm_quantile_us(const struct shm_sum *s, double q)
{
	uint64_t total = 0, seen = 0, want;

	for (uint32_t i = 0; i < SHM_BUCKETS; i++)
		total += s->latency[i];
	if (!total)
		return 0;
	want = (uint64_t)(q * (double)(total - 1)) + 1;
	for (uint32_t i = 0; i < SHM_BUCKETS; i++) {
		seen += s->latency[i];
		if (seen >= want)
			return shm_bucket_us(i);
	}
	return shm_bucket_us(SHM_BUCKETS - 1);
}
