/* SPDX-License-Identifier: Apache-2.0
 *
 * file, host, process: what this machine knows of itself. A file may lie on a server that does not answer, and whoever looks at
 * it then waits for ever: so these run in a process of their own, like plugins, and speak as plugins do.
 */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <time.h>

#include "base/clock.h"
#include "watch/watch_priv.h"

#define CONTENT_MAX (256u << 10)
#define CPU_SAMPLE_MS 500

enum { GOOD, BAD, UGLY, UNKNOWN };

__attribute__((noreturn)) PRINTF(2, 3) static void end(int status, const char *fmt, ...)
{
	va_list ap;

	va_start(ap, fmt);
	vprintf(fmt, ap);
	va_end(ap);
	fflush(stdout);
	_exit(status);
}

/* What this machine cannot do says nothing of the device; a file that is not there does. */
__attribute__((noreturn)) static void end_errno(const char *what)
{
	end(watch_own_fault(errno) ? UNKNOWN : UGLY, "%s: %s", what, strerror(errno));
}

static size_t read_file(const char *path, char *text, size_t size)
{
	CLEANUP_FD int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
	size_t len = 0;
	ssize_t n = 1;

	if (fd < 0)
		end_errno(path);
	while (len < size - 1 && n > 0) {
		n = read(fd, text + len, size - 1 - len);
		if (n < 0)
			end_errno(path);
		len += (size_t)n;
	}
	text[len] = '\0';
	return len;
}

/* --- file --- */

__attribute__((noreturn)) static void run_file(const struct watch_check *c)
{
	static char content[CONTENT_MAX + 1];
	const char *text = watch_text(c, "text"), *of = watch_text(c, "of") ?: "age";
	uint64_t now = clock_wall_ms(), mtime;
	struct stat st;

	if (stat(c->what, &st) < 0)
		end_errno("the file");
	if (text && !memmem(content, read_file(c->what, content, sizeof(content)), text, strlen(text)))
		end(UGLY, "the file does not have '%.100s'", text);
	if (strcmp(of, "size") == 0)
		end(GOOD, "size | size=%lldB", (long long)st.st_size);
	mtime = (uint64_t)st.st_mtim.tv_sec * 1000 + (uint64_t)st.st_mtim.tv_nsec / 1000000;
	end(GOOD, "age | age=%llums", (unsigned long long)(now > mtime ? now - mtime : 0));
}

/* --- host --- */

static double field_of(const char *text, const char *name)
{
	const char *at = strstr(text, name);

	return at ? strtod(at + strlen(name), NULL) : 0;
}

/* Share that is used, in percent. */
__attribute__((noreturn)) static void end_share(const char *what, double all, double free)
{
	if (all <= 0)
		end(GOOD, "%s: there is none | used=0%%", what);
	end(GOOD, "%s | used=%.2f%%", what, 100 * (all - free) / all);
}

static void cpu_times(double *ret_all, double *ret_idle)
{
	char text[4096];
	double v[8] = {0};

	read_file("/proc/stat", text, sizeof(text));
	sscanf(text, "cpu %lf %lf %lf %lf %lf %lf %lf %lf", &v[0], &v[1], &v[2], &v[3], &v[4], &v[5], &v[6], &v[7]);
	*ret_all = 0;
	for (int i = 0; i < 8; i++)
		*ret_all += v[i];
	*ret_idle = v[3] + v[4];
}

__attribute__((noreturn)) static void run_cpu(const struct watch_check *c)
{
	uint64_t ms = MIN(CPU_SAMPLE_MS, c->timeout_ms / 2);
	double all[2], idle[2];

	cpu_times(&all[0], &idle[0]);
	nanosleep(&(struct timespec){.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000}, NULL);
	cpu_times(&all[1], &idle[1]);
	end_share("cpu", all[1] - all[0], idle[1] - idle[0]);
}

__attribute__((noreturn)) static void run_memory(bool swap)
{
	char text[16384];

	read_file("/proc/meminfo", text, sizeof(text));
	if (swap)
		end_share("swap", field_of(text, "SwapTotal:"), field_of(text, "SwapFree:"));
	end_share("memory", field_of(text, "MemTotal:"), field_of(text, "MemAvailable:"));
}

__attribute__((noreturn)) static void run_disk(const char *path, bool inodes)
{
	struct statvfs v;

	if (statvfs(path, &v) < 0)
		end_errno(path);
	if (inodes)
		end_share("inodes", (double)v.f_files, (double)v.f_favail);
	/* As df has it: what only root may use is neither free nor used. */
	end_share("disk", (double)(v.f_blocks - v.f_bfree + v.f_bavail), (double)v.f_bavail);
}

__attribute__((noreturn)) static void run_host(const struct watch_check *c)
{
	double load;

	if (strncmp(c->what, "disk ", 5) == 0)
		run_disk(c->what + 5, false);
	if (strncmp(c->what, "inodes ", 7) == 0)
		run_disk(c->what + 7, true);
	if (strcmp(c->what, "memory") == 0 || strcmp(c->what, "swap") == 0)
		run_memory(c->what[0] == 's');
	if (strcmp(c->what, "cpu") == 0)
		run_cpu(c);
	if (getloadavg(&load, 1) < 1)
		end(UNKNOWN, "the load is not known");
	end(GOOD, "load | load=%.2f", load);
}

/* --- process --- */

/* Its name, or the last part of the path of its program. */
static bool is_named(const char *pid, const char *name)
{
	char path[300], text[4096];
	CLEANUP_FD int fd = -1;
	const char *slash;
	ssize_t n;

	snprintf(path, sizeof(path), "/proc/%.20s/cmdline", pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	n = fd >= 0 ? read(fd, text, sizeof(text) - 1) : 0;
	if (n <= 0)
		return false; /* one of the kernel's, or it has just ended */
	text[n] = '\0';
	slash = strrchr(text, '/');
	return strcmp(slash ? slash + 1 : text, name) == 0;
}

__attribute__((noreturn)) static void run_process(const struct watch_check *c)
{
	DIR *dir = opendir("/proc");
	unsigned count = 0;

	if (!dir)
		end_errno("/proc");
	for (struct dirent *d; (d = readdir(dir));)
		count += d->d_name[0] >= '1' && d->d_name[0] <= '9' && is_named(d->d_name, c->what);
	if (!count && !c->bad.op && !c->ugly.op)
		end(UGLY, "it does not run | count=0");
	end(GOOD, "processes | count=%u", count);
}

void watch_local_run(const struct watch_check *c)
{
	if (c->kind == CONF_CHECK_FILE)
		run_file(c);
	if (c->kind == CONF_CHECK_PROCESS)
		run_process(c);
	run_host(c);
}
