/* SPDX-License-Identifier: Apache-2.0
 *
 * The words of load's command line.
 */
#pragma once

#include "client.h"

struct options {
	struct client_options client;
	double rate;
	unsigned post, fresh, chunked; /* percent */
	unsigned seconds;
	const char *plain;
	bool verify;
	uint64_t seed;
};

/* Defaults, then the words. False, with a message to standard error, when they are no good. */
bool options_parse(int argc, char **argv, struct options *ret);
