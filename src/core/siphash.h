/* SPDX-License-Identifier: Apache-2.0
 *
 * SipHash-2-4 (Aumasson and Bernstein, 2012): a hash under a key, for tables whose keys clients
 * choose, and for values that they see but must not be able to make. Not a secret's only guard.
 */
#pragma once

#include "base/util.h"

uint64_t siphash(const uint64_t key[2], const void *data, size_t len);
