/* SPDX-License-Identifier: Apache-2.0
 *
 * A stream of contents, in pieces whose size is its first byte. The store has nothing, and
 * the last step fails, so that it has nothing afterwards either.
 */
#include <fcntl.h>
#include <string.h>

#include "ship/store_priv.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static char dir[] = "/tmp/upstate-fuzz.XXXXXX";
static struct store *s;

static void clean_up(void)
{
	store_close(s);
	store_remove_tree(AT_FDCWD, dir, NULL);
}

static int nothing_there(const char *call)
{
	return strncmp(call, "fstatat", 7) == 0	 ? ENOENT
	       : strncmp(call, "syncfs", 6) == 0 ? EIO
						 : 0;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct store_intake *in;
	struct err e = {0};
	uint64_t objects;

	if (!size)
		return 0;
	if (!s)
		ensure(mkdtemp(dir) && store_open(dir, &s, &e) == 0 && atexit(clean_up) == 0);
	store_test_hook = nothing_there;
	ensure(store_intake_begin(s, &in, &e) == 0);
	for (size_t at = 1, n; at < size; at += n) {
		n = MIN(size - at, (size_t)data[0] + 1);
		if (store_intake_feed(in, data + at, n, &e) < 0)
			break;
	}
	store_intake_end(in, &objects, &e);
	store_test_hook = NULL;
	return 0;
}
