/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a configuration: it is read, or refused with at least one error that has a message.
 */
#include "conf/conf.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct conf *c = NULL;
	struct conf_problems problems = {0};
	struct err e = {0};
	int rc = conf_parse("fuzz", (const char *)data, size, &c, &problems, &e);

	ensure((rc == 0) == (problems.errors == 0) && (rc == 0) == (c != NULL));
	ensure(rc == 0 || (e.msg[0] && problems.items[0].text[0]));
	for (uint32_t i = 0; rc == 0 && i < c->app_count; i++)
		ensure(conf_app(c, c->apps[i].name) == &c->apps[i] && c->apps[i].hosts.len &&
		       c->apps[i].paths.len && (c->apps[i].run != NULL) == !c->apps[i].targets.len);
	conf_free(c);
	conf_problems_free(&problems);
	return 0;
}
