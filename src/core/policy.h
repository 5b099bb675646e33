/* SPDX-License-Identifier: Apache-2.0
 *
 * What the operator of an app decided for it, applied to one request: who may come, where a path
 * leads, which page stands for a status. Over the rules of the routing table (core/table.h), which
 * were checked when it was taken up; here nothing is checked again.
 */
#pragma once

#include "core/table.h"

/* May this address (IPv4 as ::ffff:a.b.c.d) use the app? Of the networks that hold it the smallest
 * decides, deny before allow; when none does, the address may unless there is a list of who may. */
bool policy_admits(const struct table *t, const struct table_policy *p, const uint8_t addr[16]);

/* The same name of a field? ASCII without case, '_' as '-': servers that hand fields on as variables
 * (CGI, WSGI, Rack) cannot tell these two. */
bool policy_same_field(const char *a, size_t a_len, const char *b, size_t b_len);

/* The page for this status, or NULL. */
const struct table_rule *policy_page(const struct table *t, const struct table_policy *p,
				     uint16_t status);

/* The first redirect that has this path (without query), or NULL. */
const struct table_rule *policy_redirect(const struct table *t, const struct table_policy *p,
					 const char *path, size_t path_len);
/* Writes where r leads for a target (path and query; the path has path_len bytes) into ret, which has
 * room for r->value_len + target_len bytes; returns how many they are. A client cannot make it lead to
 * another host: what it says stands behind a host or a path of ours, and never makes "//" at the front
 * (RFC 3986, 4.2: a reference that begins so names a host; browsers take '\' for '/'). */
size_t policy_location(const struct table *t, const struct table_rule *r, const char *target,
		       size_t target_len, size_t path_len, char *ret);

enum policy_pop { POP_NONE, POP_ADDRESS, POP_OTHER };

/* Takes the last item off a list, of X-Forwarded-For or Forwarded (RFC 7239: the `for` of it). *len
 * becomes what is left. OTHER: an item that is no address ("unknown", a name). */
enum policy_pop policy_pop_address(const char *list, size_t *len, uint8_t ret[16]);
