/* SPDX-License-Identifier: Apache-2.0
 *
 * The few macros that everything uses: scoped cleanup, ownership hand-over,
 * and an assertion that stays in release builds.
 *
 * ensure() is for what cannot happen unless the program itself is wrong; it is
 * never used on input, on what a peer sent, or on what a disk returned.
 */
#pragma once

#include <assert.h> /* static_assert only: ensure() is for run time */
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

/* What a sanitizer does at its end needs more system calls and memory than we would allow. */
#if defined(__SANITIZE_ADDRESS__) || defined(__SANITIZE_THREAD__)
#define SANITIZED 1
#elif defined(__has_feature)
#if __has_feature(address_sanitizer) || __has_feature(thread_sanitizer)
#define SANITIZED 1
#endif
#endif
#ifndef SANITIZED
#define SANITIZED 0
#endif

#define ARRAY_LEN(a) (sizeof(a) / sizeof((a)[0]))
#define MIN(a, b) ((a) < (b) ? (a) : (b))
#define MAX(a, b) ((a) > (b) ? (a) : (b))

#define UNUSED __attribute__((unused)) /* of a callback that does not need it */
#define PRINTF(fmt, args) __attribute__((format(printf, fmt, args)))
#define CLEANUP(fn) __attribute__((cleanup(fn)))
#define CLEANUP_FREE CLEANUP(util_freep)
#define CLEANUP_FD CLEANUP(util_closep)
#define CLEANUP_FILE CLEANUP(util_fclosep)

/* Hands a pointer or a descriptor over to someone else; the cleanup then finds nothing to do. */
#define TAKE(p)                                                                                    \
	__extension__({                                                                            \
		__typeof__(p) take_ = (p);                                                         \
		(p) = NULL;                                                                        \
		take_;                                                                             \
	})
#define TAKE_FD(fd)                                                                                \
	__extension__({                                                                            \
		int take_ = (fd);                                                                  \
		(fd) = -1;                                                                         \
		take_;                                                                             \
	})

#define container_of(ptr, type, member) ((type *)((char *)(ptr)-offsetof(type, member)))

#define ensure(cond)                                                                               \
	do {                                                                                       \
		if (__builtin_expect(!(cond), 0))                                                  \
			util_ensure_failed(#cond, __FILE__, __LINE__, __func__);                   \
	} while (0)

/* Says what was expected and where, then aborts: the supervisor starts the process anew. */
__attribute__((noreturn)) void util_ensure_failed(const char *cond, const char *file, int line,
						  const char *func);

/* Allocation for start-up and for small control structures: aborts with a message when memory is
 * gone. The data path uses plain malloc and fails only the request at hand. */
void *util_alloc(size_t size);
char *util_strdup(const char *s);

/* Copies src into dst[size], always terminated; returns false when it did not fit. */
bool util_copy(char *dst, size_t size, const char *src);

/* Makes a text that may come from anywhere, or was cut to fit, UTF-8 (RFC 3629): a character that was
 * cut off at the end goes, any other byte that belongs to none becomes '?'. */
void util_utf8(char *s);
/* Both: what fits of it, whole characters only. */
void util_text(char *dst, size_t size, const char *src);

static inline void util_freep(void *p)
{
	free(*(void **)p);
}

static inline void util_closep(int *fd)
{
	if (*fd >= 0)
		close(*fd);
}

static inline void util_fclosep(FILE **f)
{
	if (*f)
		fclose(*f);
}
