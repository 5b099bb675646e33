/* SPDX-License-Identifier: Apache-2.0 */
#include "base/err.h"

#include <errno.h>
#include <stdarg.h>
#include <string.h>

static const struct {
	const char *name;
	int exit_status, http;
} codes[ERR_COUNT] = {
	[ERR_OK] = {"OK", 0, 200},
#define X(n, exit_status_, http_) [ERR_##n] = {#n, exit_status_, http_},
	ERR_TABLE(X)
#undef X
};

int err_set(struct err *e, enum err_code code, const char *fmt, ...)
{
	va_list ap;

	if (e) {
		e->code = code;
		va_start(ap, fmt);
		vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
		va_end(ap);
	}
	return -(int)code;
}

int err_sys(struct err *e, const char *fmt, ...)
{
	int saved = errno;
	enum err_code code = saved == ENOSPC || saved == EDQUOT ? ERR_FULL : ERR_SYS;
	va_list ap;

	if (e) {
		size_t n;

		e->code = code;
		va_start(ap, fmt);
		vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
		va_end(ap);
		n = strlen(e->msg);
		snprintf(e->msg + n, sizeof(e->msg) - n, ": %s", strerror(saved));
	}
	errno = saved;
	return -(int)code;
}

int err_wrap(struct err *e, const char *fmt, ...)
{
	char cause[sizeof(e->msg)];
	va_list ap;
	size_t n;

	if (!e)
		return -ERR_SYS;
	ensure(e->code != ERR_OK);
	memcpy(cause, e->msg, sizeof(cause));
	va_start(ap, fmt);
	vsnprintf(e->msg, sizeof(e->msg), fmt, ap);
	va_end(ap);
	n = strlen(e->msg);
	if (snprintf(e->msg + n, sizeof(e->msg) - n, ": %s", cause) < 0)
		e->msg[n] = '\0';
	return -(int)e->code;
}

const char *err_name(enum err_code code)
{
	return codes[code].name;
}

int err_exit_status(enum err_code code)
{
	return codes[code].exit_status;
}

int err_http_status(enum err_code code)
{
	return codes[code].http;
}
