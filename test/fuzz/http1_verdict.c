/* SPDX-License-Identifier: Apache-2.0
 *
 * What our parser makes of request heads: a head in hex on each line of the
 * input, a line of JSON for each. For comparing it with the parsers of others
 * (test/e2e/test_http1_differential.py). Bytes are printed as Latin-1.
 */
#include <string.h>

#include "wire/http1.h"

static void print_text(struct http1_slice s)
{
	putchar('"');
	for (uint32_t i = 0; i < s.len; i++)
		printf("\\u%04x", (uint8_t)s.p[i]);
	putchar('"');
}

static void print_head(const struct http1_head *h)
{
	static const char *const framing[] = {
		[HTTP1_BODY_NONE] = "none",
		[HTTP1_BODY_LENGTH] = "length",
		[HTTP1_BODY_CHUNKED] = "chunked",
	};

	printf("{\"method\": ");
	print_text(h->method);
	printf(", \"target\": ");
	print_text(h->target);
	printf(", \"host\": ");
	print_text(h->host);
	printf(", \"minor\": %d, \"framing\": \"%s\", \"length\": %llu, \"keep_alive\": %s, "
	       "\"head_len\": %u, \"headers\": [",
	       h->minor, framing[h->framing], (unsigned long long)h->length,
	       h->keep_alive ? "true" : "false", h->head_len);
	for (uint32_t i = 0; i < h->header_count; i++) {
		printf(i ? ", [" : "[");
		print_text(h->headers[i].name);
		printf(", ");
		print_text(h->headers[i].value);
		putchar(']');
	}
	printf("]}\n");
}

/* Turns a line of hex into its bytes, in place; returns their number. */
static size_t unhex(char *line)
{
	size_t n = 0;
	unsigned byte;

	for (const char *p = line; sscanf(p, "%2x", &byte) == 1; p += 2)
		line[n++] = (char)byte;
	return n;
}

int main(void)
{
	static const struct http1_limits limits = {.head_bytes = 16384, .headers = 100};
	static struct http1_head head;
	static char line[65536];

	while (fgets(line, sizeof(line), stdin)) {
		const char *why = "";
		size_t scanned = 0, len = unhex(line);
		enum http1_result r = http1_request(line, len, &scanned, &limits, &head, &why);

		if (r == HTTP1_DONE)
			print_head(&head);
		else
			printf("{\"error\": %d, \"why\": \"%s\"}\n", r, why);
	}
	return 0;
}
