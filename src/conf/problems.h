/* SPDX-License-Identifier: Apache-2.0
 *
 * Gathering what is wrong with a file. All of conf/ appends here and goes on, so that
 * a person sees every mistake at once. Beyond the bound problems are only counted.
 */
#pragma once

#include "conf/conf.h"

void problem_error(struct conf_problems *p, uint32_t line, uint32_t column, const char *fmt, ...)
    PRINTF(4, 5);
void problem_warn(struct conf_problems *p, uint32_t line, uint32_t column, const char *fmt, ...)
    PRINTF(4, 5);
/* In the order of the file. */
void problems_sort(struct conf_problems *p);
