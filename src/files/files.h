/* SPDX-License-Identifier: Apache-2.0
 *
 * `upstate files DIR`: a directory over HTTP/1.1, as an instance like any other. It listens on
 * 127.0.0.1 at $PORT when that is set, else on the unix socket $UPSTATE_SOCKET; says READY=1 to
 * $NOTIFY_SOCKET; and ends on TERM after it has sent what it has begun.
 */
#pragma once

#include "base/err.h"

#define FILES_CONNECTIONS_MAX 4096 /* at once; more wait in the listening socket */
#define FILES_OPEN_MAX 512	   /* files that are kept open between requests */
#define FILES_HASHES_MAX 64	   /* files that wait for their hash */

struct files_options {
	const char *dir;
	bool spa;	   /* what is no file and has no dot in its last segment: /index.html */
	const char *cache; /* Cache-Control of what is not named by its content; NULL: no-cache */
};

/* Serves until TERM or INT; 0, or a negative error when it cannot begin. */
int files_serve(const struct files_options *o, struct err *e);
