/* SPDX-License-Identifier: Apache-2.0
 *
 * What the load client says to the guestbook, and what it must hear. Each request has an
 * id that is its alone, and every answer names it, with the version that answered:
 *
 *	GET /echo/ID?lines=N[&chunked=1]	"guestbook VERSION ID\n", then N times "ID\n"
 *	POST /sign   id=ID&text=TEXT		"signed VERSION ID\n"
 *	GET /book?prefix=RUN			"ID\n" for each entry, then "end COUNT\n"
 */
#pragma once

#include "client.h"

struct talk {
	char run[16];	  /* "r0123abcd-": prefix of all ids of this run */
	const char *host; /* the Host field */
	const char *path; /* of KIND_PLAIN */
	struct buf plain; /* the first answer to it: all others must be the same */
};

void talk_write(const struct talk *t, const struct request *r, struct buf *out);
/* Does the body answer this request? Then *ret_version is the part of it that names the version
 * (len 0: it names none). */
bool talk_judge(struct talk *t, const struct request *r, const struct buf *body,
		const char **ret_version, size_t *ret_version_len);
