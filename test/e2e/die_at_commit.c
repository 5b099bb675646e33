/* SPDX-License-Identifier: Apache-2.0
 *
 * Preloaded by test_crash.py: the process dies by SIGKILL right before or right after the n-th commit of
 * SQLite from now on. The program itself knows nothing of this.
 *
 * "N before" or "N after" stands in the file that $UPSTATE_TEST_DIE_FILE names. Each commit counts
 * it down; without the file nothing happens. The file is removed before the end, so the next process
 * lives.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static void look(const char *when)
{
	const char *path = getenv("UPSTATE_TEST_DIE_FILE");
	int fd = path ? open(path, O_RDWR | O_CLOEXEC) : -1;
	char text[32] = "", where[16];
	unsigned n;

	if (fd < 0)
		return;
	if (read(fd, text, sizeof(text) - 1) > 0 && sscanf(text, "%u %15s", &n, where) == 2 &&
	    strcmp(where, when) == 0) {
		if (n <= 1) {
			unlink(path);
			kill(getpid(), SIGKILL);
		}
		n = (unsigned)snprintf(text, sizeof(text), "%-8u %s\n", n - 1, where);
		if (pwrite(fd, text, n, 0) != (ssize_t)n)
			abort();
	}
	close(fd);
}

int sqlite3_step(sqlite3_stmt *q)
{
	static int (*real)(sqlite3_stmt *);
	const char *sql = sqlite3_sql(q);
	int commit = sql && strcmp(sql, "COMMIT") == 0, r;

	if (!real)
		real = (int (*)(sqlite3_stmt *))dlsym(RTLD_NEXT, "sqlite3_step");
	if (commit)
		look("before");
	r = real(q);
	if (commit && r == SQLITE_DONE)
		look("after");
	return r;
}
