/* SPDX-License-Identifier: Apache-2.0
 *
 * A log file with a bound. A line is in it whole or not at all: what a full disk cut
 * short is taken back, so that whoever reads the file reads lines.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "logger/logger_priv.h"

#define COMPLAIN_MS 60000
#define RETRY_MS 1000

void logfile_init(struct logfile *f, const struct msg_logconf *conf, const char *state,
		  const char *name)
{
	*f = (struct logfile){.conf = conf, .fd = -1};
	snprintf(f->path, sizeof(f->path), "%s/log/%s", state, name);
}

void logfile_fini(struct logfile *f)
{
	if (f->fd >= 0)
		close(f->fd);
	f->fd = -1;
}

static void drop(struct logfile *f, size_t len, const char *what, uint64_t now_ms)
{
	int error = errno;

	f->dropped += len;
	if (now_ms < f->complain_ms)
		return;
	log_warn("log.dropped", "file=%s bytes=%llu reason=\"%s: %s\"", f->path,
		 (unsigned long long)f->dropped, what, strerror(error));
	f->complain_ms = now_ms + COMPLAIN_MS;
	f->dropped = 0;
}

/* file -> file.1 -> file.2 ...; what would be beyond the last is overwritten. */
static bool rotate(struct logfile *f)
{
	uint32_t files = MAX(f->conf->files, 1u);
	char from[4320], to[4320];

	logfile_fini(f);
	if (files == 1)
		return unlink(f->path) == 0;
	for (uint32_t i = files - 1; i > 0; i--) {
		snprintf(to, sizeof(to), "%s.%u", f->path, i);
		snprintf(from, sizeof(from), i > 1 ? "%s.%u" : "%s", f->path, i - 1);
		if (rename(from, to) < 0 && (i == 1 || errno != ENOENT))
			return false;
	}
	return true;
}

static bool open_file(struct logfile *f)
{
	struct stat st;

	f->fd = open(f->path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0640);
	if (f->fd < 0)
		return false;
	f->size = fstat(f->fd, &st) == 0 ? (uint64_t)st.st_size : 0;
	return true;
}

static bool make_ready(struct logfile *f, size_t len, uint64_t now_ms)
{
	if (f->fd < 0) {
		if (now_ms < f->retry_ms) {
			errno = f->error;
			return false;
		}
		f->retry_ms = now_ms + RETRY_MS;
		if (!open_file(f)) {
			f->error = errno;
			return false;
		}
	}
	if (f->size && f->size + len > f->conf->file_bytes)
		return rotate(f) && open_file(f);
	return true;
}

void logfile_write(struct logfile *f, const char *data, size_t len, uint64_t now_ms)
{
	size_t done = 0;

	if (!len)
		return;
	if (!make_ready(f, len, now_ms)) {
		drop(f, len, "cannot be opened", now_ms);
		return;
	}
	while (done < len) {
		ssize_t n = write(f->fd, data + done, len - done);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0) {
			drop(f, len, "cannot be written", now_ms);
			if (done && ftruncate(f->fd, (off_t)f->size) < 0)
				logfile_fini(f); /* its size is then looked up anew */
			return;
		}
		done += (size_t)n;
	}
	f->size += len;
}
