/* SPDX-License-Identifier: Apache-2.0
 *
 * A request of a check of kind http or version, and its answer.
 */
#pragma once

#include <curl/curl.h>

#include "watch/watch_priv.h"

#define HTTP_BODY_MAX (256u << 10) /* is looked at */
#define HTTP_HEADER_MAX 1000

struct http_run {
	struct watch_check *check;
	CURL *easy;
	struct curl_slist *fields, *resolve;
	struct watch_lookup *lookup;
	char *url; /* of this hop */
	char host[300];
	uint16_t port;
	uint32_t hops;
	struct buf body;
	size_t read;
	bool enough; /* we ended it, having read what we want */
	char header[HTTP_HEADER_MAX]; /* value of the field that is expected */
	bool header_seen;
	char error[CURL_ERROR_SIZE];
};

void http_cancel(struct watch_check *c);
/* The answer is there: http_cancel() and watch_done(). */
void http_judge(struct http_run *run);
