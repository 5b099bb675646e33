/* SPDX-License-Identifier: Apache-2.0
 *
 * Any bytes as a configuration: it is read, or refused with at least one error that has a message. And as
 * a threshold, which is printed so that the same one is read again.
 */
#include <math.h>
#include <string.h>

#include "conf/conf.h"
#include "core/threshold.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void threshold(const uint8_t *data, size_t size)
{
	char *text = util_alloc(size + 1), printed[THRESHOLD_TEXT], twice[THRESHOLD_TEXT]; /* its end is watched */
	struct threshold t = {0}, again;
	struct err e = {0};

	if (size)
		memcpy(text, data, size);
	text[size] = 0;
	if (threshold_parse(text, &t, &e) < 0) {
		ensure(e.msg[0] && t.op == THRESHOLD_NONE && !threshold_crossed(&t, 1));
	} else {
		ensure(isfinite(t.value) && t.op && threshold_kind(&t) < THRESHOLD_KIND_COUNT);
		ensure(threshold_print(&t, printed) == strlen(printed));
		ensure(threshold_parse(printed, &again, &e) == 0 && memcmp(&t, &again, sizeof(t)) == 0);
		threshold_print(&again, twice);
		ensure(strcmp(printed, twice) == 0);
	}
	free(text);
}

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
	threshold(data, size);
	return 0;
}
