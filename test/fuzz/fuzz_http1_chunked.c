/* SPDX-License-Identifier: Apache-2.0 */
#include "fuzz_http1.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Decodes in pieces of `step`; returns the verdict, and in hash and used what it depends on. */
static enum http1_result run(const uint8_t *data, size_t size, size_t step, uint32_t *hash,
			     size_t *used)
{
	struct http1_chunked c = {0};
	enum http1_result r = HTTP1_MORE;
	static struct http1_head head;
	const char *why = NULL;
	size_t scanned = 0, len, n;

	*hash = 0;
	for (*used = 0; *used < size && r == HTTP1_MORE; *used += n) {
		char *piece = util_alloc(len = MIN(step, size - *used));

		memcpy(piece, data + *used, len);
		r = http1_dechunk(&c, piece, &len, &n, &why);
		ensure(len <= n && n <= step && (r != HTTP1_BAD || why));
		for (size_t i = 0; i < len; i++)
			*hash = *hash * 31 + (uint8_t)piece[i];
		free(piece);
	}
	for (n = *used, scanned = 0; r == HTTP1_DONE; n = MIN(n + step, size)) {
		const char *p = (const char *)data + *used;

		r = http1_trailer(p, n - *used, &scanned, &head, &why);
		if (r == HTTP1_DONE) {
			head_holds(&head, p, n - *used);
			*used += head.head_len;
			return r;
		}
		if (r == HTTP1_MORE && n < size)
			r = HTTP1_DONE; /* try with more */
	}
	return r;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	uint32_t hash, hash_cut;
	size_t used, used_cut;
	enum http1_result want = run(data, size, size, &hash, &used);
	enum http1_result r = run(data, size, 1 + size % 5, &hash_cut, &used_cut);

	ensure(r == want);
	ensure(r != HTTP1_DONE || (hash == hash_cut && used == used_cut));
	return 0;
}
