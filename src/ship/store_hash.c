/* SPDX-License-Identifier: Apache-2.0
 *
 * Hashing for the store. OpenSSL's SHA-256 runs at the speed of memory where the processor has
 * instructions for it, so that for small files the system calls are what costs; a second
 * thread halves both. More threads would be taken from those that answer users.
 */
#include "ship/store_priv.h"

#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <string.h>

#define THREADS 2
#define THREADS_FROM 64 /* so many items are worth a thread */

int hasher_init(struct hasher *h, struct err *e)
{
	*h = (struct hasher){
	    .md = EVP_MD_fetch(NULL, "SHA256", NULL),
	    .ctx = EVP_MD_CTX_new(),
	    .piece = malloc(HASHER_PIECE),
	};
	if (h->md && h->ctx && h->piece && EVP_DigestInit_ex2(h->ctx, h->md, NULL))
		return 0;
	hasher_fini(h);
	return err_set(e, ERR_SYS, "SHA-256 is not to be had: out of memory?");
}

void hasher_fini(struct hasher *h)
{
	EVP_MD_CTX_free(h->ctx);
	EVP_MD_free(h->md);
	free(h->piece);
	*h = (struct hasher){0};
}

void hasher_begin(struct hasher *h)
{
	ensure(EVP_DigestInit_ex2(h->ctx, h->md, NULL));
}

void hasher_add(struct hasher *h, const void *data, size_t len)
{
	ensure(EVP_DigestUpdate(h->ctx, data, len));
}

void hasher_end(struct hasher *h, char ret[STORE_HASH])
{
	static const char digits[] = "0123456789abcdef";
	unsigned char sum[32];

	ensure(EVP_DigestFinal_ex(h->ctx, sum, NULL));
	for (size_t i = 0; i < sizeof(sum); i++) {
		ret[2 * i] = digits[sum[i] >> 4];
		ret[2 * i + 1] = digits[sum[i] & 15];
	}
	ret[STORE_HASH - 1] = '\0';
}

bool hasher_file(struct hasher *h, int fd, uint64_t size, int copy_to, char ret[STORE_HASH])
{
	hasher_begin(h);
	while (size) {
		ssize_t n = FS(read(fd, h->piece, MIN(size, HASHER_PIECE)));

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			if (!n)
				errno = 0;
			return false;
		}
		hasher_add(h, h->piece, (size_t)n);
		if (copy_to >= 0 && store_write(copy_to, h->piece, (size_t)n) < 0)
			return false;
		size -= (uint64_t)n;
	}
	hasher_end(h, ret);
	return true;
}

struct work {
	size_t len;
	int (*one)(void *arg, size_t i, struct hasher *h, struct err *e);
	void (*tick)(void *arg);
	void *arg;
	_Atomic size_t next, end; /* end: len, or the lowest item that failed */
};

struct worker {
	struct work *work;
	struct hasher hasher;
	size_t failed_at;
	struct err err;
	pthread_t thread;
	bool caller;
};

static void *run(void *arg)
{
	struct worker *w = arg;
	struct work *work = w->work;

	for (;;) {
		size_t i = atomic_fetch_add(&work->next, 1), end = atomic_load(&work->end);

		if (i >= end)
			return NULL;
		if (work->one(work->arg, i, &w->hasher, &w->err) < 0) {
			w->failed_at = i;
			while (i < end && !atomic_compare_exchange_weak(&work->end, &end, i))
				;
			return NULL;
		}
		if (w->caller && work->tick && i % 64 == 0)
			work->tick(work->arg);
	}
}

/* A thread must take no signal that the program waits for elsewhere. */
static bool start(struct worker *w)
{
	sigset_t all, old;
	bool ok;

	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	ok = pthread_create(&w->thread, NULL, run, w) == 0;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ok;
}

int hasher_each(size_t len, int (*one)(void *arg, size_t i, struct hasher *h, struct err *e),
		void (*tick)(void *arg), void *arg, struct err *e)
{
	struct work work = {.len = len, .one = one, .tick = tick, .arg = arg, .end = len};
	struct worker workers[THREADS] = {0}, *first = NULL;
	size_t count = 0, want = len >= THREADS_FROM ? THREADS : 1;

	for (; count < want; count++) {
		struct worker *w = &workers[count];

		*w = (struct worker){.work = &work, .failed_at = SIZE_MAX, .caller = count == 0};
		if (hasher_init(&w->hasher, &w->err) < 0)
			break;
		if (!w->caller && !start(w)) { /* one does it, too, if slower */
			hasher_fini(&w->hasher);
			break;
		}
	}
	if (!count)
		return err_set(e, ERR_SYS, "%s", workers[0].err.msg);
	run(&workers[0]);
	for (size_t i = 0; i < count; i++) {
		if (i)
			pthread_join(workers[i].thread, NULL);
		hasher_fini(&workers[i].hasher);
		if (workers[i].failed_at != SIZE_MAX &&
		    (!first || workers[i].failed_at < first->failed_at))
			first = &workers[i];
	}
	return first ? err_set(e, first->err.code, "%s", first->err.msg) : 0;
}
