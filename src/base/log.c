/* SPDX-License-Identifier: Apache-2.0 */
#include "base/log.h"

#include <stdarg.h>

#include "base/clock.h"

static const char *log_part = "upstate";
static enum log_level log_least = LOG_INFO;

void log_init(const char *part, enum log_level least)
{
	log_part = part;
	log_least = least;
}

void log_event(enum log_level level, const char *event, const char *fmt, ...)
{
	static const char *const mark[] = {"", "", " warning", " error"};
	char line[2048], when[CLOCK_TEXT];
	int n, m;
	va_list ap;

	if (level < log_least)
		return;
	n = snprintf(line, sizeof(line), "%s %s%s %s ", clock_text(clock_wall_ms(), when), log_part,
		     mark[level], event);
	va_start(ap, fmt);
	m = vsnprintf(line + n, sizeof(line) - (size_t)n - 1, fmt, ap);
	va_end(ap);
	n += MIN(m, (int)sizeof(line) - n - 2);
	line[n++] = '\n';
	/* One write a line, so that lines of several processes do not mix. A log that cannot be
	 * written must not stop the work: the result is ignored. */
	if (write(STDERR_FILENO, line, (size_t)n) < 0)
		return;
}
