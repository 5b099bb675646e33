/* SPDX-License-Identifier: Apache-2.0 */
#include "options.h"

#include <errno.h>
#include <getopt.h>
#include <sys/resource.h>

static const char usage[] =
    "usage: load [options] ADDRESS     (127.0.0.1:8080, [::1]:8080, unix:/path)\n"
    "  --rate N         requests a second (500)\n"
    "  --seconds N      ends by itself (default: reads commands from standard input)\n"
    "  --post N         percent of POSTs (20)\n"
    "  --fresh N        percent with a connection of their own (20)\n"
    "  --chunked N      percent of GETs that ask for a chunked answer (25)\n"
    "  --connections N  at most so many at once (400)\n"
    "  --timeout MS     for an answer, from when the request was sent (40000)\n"
    "  --host NAME      the Host field (guestbook.localhost)\n"
    "  --plain PATH     only GET PATH; all answers must be the same\n"
    "  --verify         read the app's book at the end and compare\n"
    "  --seed N         of the mix of requests\n";

enum {
	O_RATE = 256,
	O_SECONDS,
	O_POST,
	O_FRESH,
	O_CHUNKED,
	O_CONNS,
	O_TIMEOUT,
	O_HOST,
	O_PLAIN,
	O_VERIFY,
	O_SEED
};

static bool number(const char *text, uint64_t max, uint64_t *ret)
{
	char *end;

	errno = 0;
	*ret = strtoull(text, &end, 10);
	return *text >= '0' && *text <= '9' && !*end && !errno && *ret <= max;
}

static bool take_option(struct options *o, int key, const char *value)
{
	uint64_t n = 0;

	if (key == O_VERIFY)
		return o->verify = true;
	if (key == O_HOST)
		return util_copy(o->client.host, sizeof(o->client.host), value);
	if (key == O_PLAIN) {
		o->plain = value;
		return *value == '/';
	}
	if (key == '?' || !number(value, key == O_SEED ? UINT64_MAX : 1000000, &n))
		return false;
	switch (key) {
	case O_RATE:
		o->rate = (double)n;
		return n > 0;
	case O_SECONDS:
		o->seconds = (unsigned)n;
		return n > 0;
	case O_POST:
		o->post = (unsigned)n;
		return n <= 100;
	case O_FRESH:
		o->fresh = (unsigned)n;
		return n <= 100;
	case O_CHUNKED:
		o->chunked = (unsigned)n;
		return n <= 100;
	case O_CONNS:
		o->client.connections = (uint32_t)n;
		return n > 0;
	case O_TIMEOUT:
		o->client.timeout_ms = (uint32_t)n;
		return n > 0;
	default:
		o->seed = n;
		return true;
	}
}

static bool parse(int argc, char **argv, struct options *o)
{
	static const struct option longs[] = {
	    {"rate", 1, NULL, O_RATE},	     {"seconds", 1, NULL, O_SECONDS},
	    {"post", 1, NULL, O_POST},	     {"fresh", 1, NULL, O_FRESH},
	    {"chunked", 1, NULL, O_CHUNKED}, {"connections", 1, NULL, O_CONNS},
	    {"timeout", 1, NULL, O_TIMEOUT}, {"host", 1, NULL, O_HOST},
	    {"plain", 1, NULL, O_PLAIN},     {"verify", 0, NULL, O_VERIFY},
	    {"seed", 1, NULL, O_SEED},	     {0},
	};
	struct err e = {0};
	int key;

	while ((key = getopt_long(argc, argv, "", longs, NULL)) != -1)
		if (!take_option(o, key, optarg)) {
			if (key != '?')
				fprintf(stderr, "load: '%s' is no good value here\n", optarg);
			return false;
		}
	if (optind != argc - 1)
		return false;
	if (client_addr(argv[optind], &o->client, &e) < 0) {
		fprintf(stderr, "load: %s\n", e.msg);
		return false;
	}
	return true;
}

static bool enough_descriptors(const struct options *o)
{
	struct rlimit r;

	getrlimit(RLIMIT_NOFILE, &r);
	r.rlim_cur = r.rlim_max;
	setrlimit(RLIMIT_NOFILE, &r);
	if (r.rlim_cur >= o->client.connections + 32u)
		return true;
	fprintf(stderr, "load: %u connections need more open files than the limit of %ju\n",
		o->client.connections, (uintmax_t)r.rlim_cur);
	return false;
}

bool options_parse(int argc, char **argv, struct options *ret)
{
	*ret = (struct options){
	    .rate = 500,
	    .post = 20,
	    .fresh = 20,
	    .chunked = 25,
	    .client = {.host = "guestbook.localhost",
		       .connections = 400,
		       .timeout_ms = 40000,
		       .waiting = 1u << 20,
		       .body_max = 1u << 30},
	};
	if (!parse(argc, argv, ret)) {
		fputs(usage, stderr);
		return false;
	}
	return enough_descriptors(ret);
}
