/* SPDX-License-Identifier: Apache-2.0
 *
 * What the tests of the configuration share.
 */
#pragma once

#include "unit.h"

#include "conf/conf.h"

static struct conf_problems problems;
static struct buf said;

/* Parses; all problems, a line each, stand in `said`. NULL when it was refused. */
static struct conf *parse(const char *text)
{
	struct conf *c = NULL;
	struct err e = {0};

	conf_problems_free(&problems);
	buf_free(&said);
	if (conf_parse("f", text, strlen(text), &c, &problems, &e) < 0)
		assert_int_equal(e.code, ERR_INPUT);
	conf_problems_print(&problems, "f", &said);
	return c;
}

static int teardown(void **state UNUSED)
{
	conf_problems_free(&problems);
	buf_free(&said);
	return 0;
}

static void refused(const char *text, const char *message)
{
	struct conf *c = parse(text);

	if (c || strcmp(buf_str(&said), message) != 0)
		print_error("for:\n%s\nwanted:\n%sgot:\n%s", text, message, buf_str(&said));
	assert_null(c);
	assert_string_equal(buf_str(&said), message);
}
