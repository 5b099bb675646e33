/* SPDX-License-Identifier: Apache-2.0
 *
 * What must hold of every head that was accepted.
 */
#pragma once

#include <string.h>

#include "wire/http1.h"

static inline void slice_inside(struct http1_slice s, const char *p, size_t len)
{
	ensure(!s.len || (s.p >= p && s.p + s.len <= p + len));
}

static inline void head_holds(const struct http1_head *h, const char *p, size_t len)
{
	ensure(h->head_len <= len && h->head_len >= 2);
	ensure(memcmp(p + h->head_len - 2, "\r\n", 2) == 0);
	ensure(h->header_count <= HTTP1_HEADERS_MAX && h->length <= INT64_MAX);
	slice_inside(h->method, p, h->head_len);
	slice_inside(h->host, p, h->head_len);
	slice_inside(h->reason, p, h->head_len);
	if (!h->is_options_star)
		slice_inside(h->target, p, h->head_len);
	ensure(!h->path.len || (h->path.p == h->target.p && h->path.len <= h->target.len));
	for (uint32_t i = 0; i < h->header_count; i++) {
		const struct http1_header *f = &h->headers[i];

		slice_inside(f->name, p, h->head_len);
		slice_inside(f->value, p, h->head_len);
		ensure(f->name.len && f->name.p + f->name.len < f->value.p);
		ensure(!memchr(f->value.p, '\r', f->value.len));
		ensure(!memchr(f->value.p, '\n', f->value.len));
		ensure(!memchr(f->value.p, '\0', f->value.len));
		ensure(!f->known || h->known_at[f->known]);
		http1_is_hop(h, f);
	}
}
