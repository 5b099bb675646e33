/* SPDX-License-Identifier: Apache-2.0
 *
 * Making the block of certificates (core/certs.h), and reading the one in force. What holds keys is kept
 * out of dumps, and wiped when it was on the stack.
 */
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "control/acme_priv.h"
#include "control/certs_priv.h"

struct certs_mapped certs_map(int fd)
{
	struct certs_mapped m = {0};
	struct stat st;
	void *p;

	if (fd < 0 || fstat(fd, &st) < 0 || !st.st_size)
		return m;
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return m;
	madvise(p, (size_t)st.st_size, MADV_DONTDUMP);
	m = (struct certs_mapped){p, (size_t)st.st_size};
	if (certs_check(p, m.size, NULL) == 0)
		return m;
	munmap(p, m.size);
	return (struct certs_mapped){0};
}

void certs_unmap(struct certs_mapped *m)
{
	if (m->certs)
		munmap((void *)m->certs, m->size);
}

/* Secrets are written into the file itself and nowhere else. */
static int seal(const struct certs_in *in, struct err *e)
{
	CLEANUP_FD int fd = memfd_create("upstate-certs", MFD_CLOEXEC | MFD_ALLOW_SEALING);
	size_t size = (size_t)certs_size(in);
	void *p = MAP_FAILED;
	int r;

	if (fd >= 0 && ftruncate(fd, (off_t)size) == 0)
		p = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
	if (p == MAP_FAILED)
		return err_sys(e, "making the memory for certificates");
	madvise(p, size, MADV_DONTDUMP);
	r = certs_build(in, clock_wall_ms(), p, e);
	munmap(p, size);
	if (r < 0)
		return r;
	if (fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return err_sys(e, "sealing the certificates");
	return TAKE_FD(fd);
}

static void take_tickets(struct certs_in *in, const struct certs *before)
{
	struct certs_ticket fresh;

	if (before)
		memcpy(in->tickets, before->tickets, sizeof(in->tickets));
	ensure(getrandom(&fresh, sizeof(fresh), 0) == sizeof(fresh));
	certs_rotate(in->tickets, &fresh, clock_wall_ms());
	explicit_bzero(&fresh, sizeof(fresh));
}

static struct certs_in_pair in_pair(uint64_t id, const struct pair *p)
{
	return (struct certs_in_pair){.id = id, .from_ms = p->from_ms, .until_ms = p->until_ms, .chain = p->chain,
				      .chain_len = p->chain_len, .key = p->key, .key_len = p->key_len,
				      .names = p->names.items, .name_count = p->names.len};
}

int certs_seal(const struct control_cert *rows, const struct pair *pairs, uint32_t count,
	       const struct certs *before, struct err *e)
{
	CLEANUP_FREE struct certs_in_pair *list = util_alloc((count + 1) * sizeof(*list));
	CLEANUP(pair_fini) struct pair placeholder = {0};
	struct certs_in in = {.pairs = list};
	int fd;

	for (uint32_t i = 0; i < count; i++)
		if (pairs[i].chain)
			list[in.pair_count++] = in_pair(rows[i].id, &pairs[i]);
	if (!in.pair_count) {
		if (acme_placeholder(&placeholder, e) < 0)
			return -(int)e->code;
		list[in.pair_count++] = in_pair(0, &placeholder);
	}
	take_tickets(&in, before);
	fd = seal(&in, e);
	explicit_bzero(&in, sizeof(in));
	return fd;
}
