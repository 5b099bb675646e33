/* SPDX-License-Identifier: Apache-2.0
 *
 * Preloaded by test_upgrade.py: what the file that $UPSTATE_TEST_FAULT_FILE names says goes wrong, once;
 * the file is removed first. The program itself knows nothing of this.
 *
 *	crash, hang, fail	the keeper that has just become another program, before it took over
 *	NAME			the process _NAME (logger, controller, router) ends as it starts
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <stdlib.h>
#include <sys/signalfd.h>
#include <unistd.h>

/* The first words of the command line into text, each with its NUL. */
static void read_file(const char *path, char *text, size_t size)
{
	int fd = path ? open(path, O_RDONLY | O_CLOEXEC) : -1;
	ssize_t n = fd >= 0 ? read(fd, text, size - 1) : 0;

	if (fd >= 0)
		close(fd);
	text[n > 0 ? n : 0] = '\0';
}

static int is_process(const char *name)
{
	char line[256];

	read_file("/proc/self/cmdline", line, sizeof(line));
	return strcmp(line + strlen(line) + 1, name) == 0;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("UPSTATE_TEST_FAULT_FILE");
	char fault[32], name[33] = "_";

	read_file(path, fault, sizeof(fault));
	if (!fault[0] || !is_process(strcat(name, fault)))
		return;
	unlink(path);
	_exit(9);
}

/* The keeper calls it once in each program that it becomes. */
int signalfd(int fd, const sigset_t *set, int flags)
{
	static int (*next)(int, const sigset_t *, int);
	const char *path = getenv("UPSTATE_TEST_FAULT_FILE");
	char fault[32];

	read_file(path, fault, sizeof(fault));
	if (is_process("_keeper") &&
	    (!strcmp(fault, "crash") || !strcmp(fault, "hang") || !strcmp(fault, "fail"))) {
		unlink(path);
		if (!strcmp(fault, "crash"))
			raise(SIGSEGV);
		while (!strcmp(fault, "hang"))
			pause();
		errno = EMFILE;
		return -1;
	}
	if (!next)
		next = (int (*)(int, const sigset_t *, int))dlsym(RTLD_NEXT, "signalfd");
	return next(fd, set, flags);
}
