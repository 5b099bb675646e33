/* SPDX-License-Identifier: Apache-2.0 */
#include "ship/store_priv.h"

#include <fcntl.h>
#include <string.h>

int store_object_open(struct store *s, const char *hash, struct err *e)
{
	char name[STORE_OBJECT];
	int fd = -1;

	if (strlen(hash) != STORE_HASH - 1 || !store_is_hash(hash))
		return err_set(e, ERR_INPUT, "'%.80s' is not a SHA-256", hash);
	for (int executable = 0; executable < 2 && fd < 0; executable++) {
		store_object_name(hash, executable, name);
		fd = openat(s->objects, name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW);
	}
	if (fd < 0)
		return err_set(e, ERR_NOT_FOUND, "the file %s is no longer kept", hash);
	return fd;
}
