/* SPDX-License-Identifier: Apache-2.0
 *
 * Errors travel up by value: the function that finds the problem sets it, each
 * caller prefixes what it was doing, and only the outermost layer prints.
 *
 *	return err_set(e, ERR_INPUT, "app '%s' has nothing to run", name);
 *	return err_wrap(e, "loading '%s'", path);
 *
 * Functions return 0, or the negative code of the error they set.
 */
#pragma once

#include "base/util.h"

/* X(name, exit status of the command line, HTTP status of the API) */
#define ERR_TABLE(X)                                                                               \
	X(SYS, 1, 500)       /* a system call failed */                                            \
	X(INPUT, 2, 400)     /* what the user gave is wrong */                                     \
	X(NOT_FOUND, 2, 404) /* no such app, release, verb */                                      \
	X(REFUSED, 3, 409)   /* right, but not now: frozen, held by another, unsafe */             \
	X(DENIED, 3, 403)    /* this user may not */                                               \
	X(FULL, 3, 507)      /* no disk for it */                                                  \
	X(LIMIT, 3, 429)     /* a bound was reached */                                             \
	X(PROTO, 1, 400)     /* the other side broke the protocol */                               \
	X(CORRUPT, 1, 500)   /* what is stored is not what was stored */                           \
	X(GONE, 1, 503)      /* the other side is not there */

enum err_code {
	ERR_OK,
#define X(name, exit_status, http) ERR_##name,
	ERR_TABLE(X)
#undef X
	ERR_COUNT
};

struct err {
	enum err_code code;
	char msg[1024];
};

/* Sets the error and returns -code. e may be NULL: then only the code is returned. */
int err_set(struct err *e, enum err_code code, const char *fmt, ...) PRINTF(3, 4);
/* Sets an ERR_SYS from errno (ENOSPC and EDQUOT become ERR_FULL): "what: No such file". */
int err_sys(struct err *e, const char *fmt, ...) PRINTF(2, 3);
/* Prefixes context: "context: cause". Returns the negative code again. */
int err_wrap(struct err *e, const char *fmt, ...) PRINTF(2, 3);

const char *err_name(enum err_code code); /* "not-found" style is left to callers: "NOT_FOUND" */
int err_exit_status(enum err_code code);
int err_http_status(enum err_code code);
