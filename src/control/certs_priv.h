/* SPDX-License-Identifier: Apache-2.0
 *
 * Between the two files about certificates.
 */
#pragma once

#include "control/control_priv.h"

struct certs_mapped {
	const struct certs *certs; /* checked; NULL: there are none */
	size_t size;
};

struct certs_mapped certs_map(int fd); /* fd -1: none */
void certs_unmap(struct certs_mapped *m);
/* The block of these pairs, a row each, with the keys of tickets of the one before moved on when it is
 * time. Returns its descriptor, sealed, or a negative error. */
int certs_seal(const struct control_cert *rows, const struct pair *pairs, uint32_t count,
	       const struct certs *before, struct err *e);
