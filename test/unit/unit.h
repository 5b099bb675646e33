/* SPDX-License-Identifier: Apache-2.0
 *
 * What a cmocka program needs, in the order in which it wants it.
 */
#pragma once

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/util.h"
