/* SPDX-License-Identifier: Apache-2.0 */
#include "ship/store_priv.h"

#include <string.h>

int (*store_test_hook)(const char *call);

int store_write(int fd, const void *data, size_t len)
{
	const char *p = data;

	while (len) {
		ssize_t n = FS(write(fd, p, len));

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return -1;
		p += n;
		len -= (size_t)n;
	}
	return 0;
}

bool store_is_hash(const char *s)
{
	return strspn(s, "0123456789abcdef") >= STORE_HASH - 1;
}

void store_object_name(const char *hash, bool executable, char ret[STORE_OBJECT])
{
	snprintf(ret, STORE_OBJECT, "%.2s/%s%s", hash, hash + 2, executable ? "x" : "");
}
