/* SPDX-License-Identifier: Apache-2.0
 *
 * The PROXY protocol, versions 1 and 2 (haproxy's proxy-protocol.txt, 2020/03/05): who a connection is
 * from, said by who passes it on, in its first bytes. Pure functions over bytes.
 */
#pragma once

#include "base/util.h"

#define PROXY_MAX 4096	     /* a header that is longer is refused */
#define PROXY_FORMAT_MAX 108 /* of those that are written here */

enum proxy_result { PROXY_DONE, PROXY_MORE, PROXY_BAD };

enum proxy_version { PROXY_NONE, PROXY_V1, PROXY_V2 };

/* Both ends of a connection. IPv4 as ::ffff:a.b.c.d; ports in host order. */
struct proxy_ends {
	bool known; /* false: LOCAL, UNKNOWN, another family: the connection's own ends count */
	uint8_t from[16], to[16];
	uint16_t from_port, to_port;
};

/* Reads the header at p. DONE: *ret and *ret_len, the bytes it took; MORE: it is not complete; BAD: this
 * is none, or one that is malformed or too long, and why (a static sentence). What stands in version 2
 * behind the addresses (TLVs) is passed over. */
enum proxy_result proxy_parse(const char *p, size_t len, struct proxy_ends *ret, size_t *ret_len,
			      const char **why);
/* Writes one; returns its length. Ends of two families are both written as IPv6. */
size_t proxy_format(enum proxy_version version, const struct proxy_ends *ends,
		    char ret[PROXY_FORMAT_MAX]);
