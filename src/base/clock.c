/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <time.h>

static uint64_t read_us(clockid_t id)
{
	struct timespec t;

	ensure(clock_gettime(id, &t) == 0);
	return (uint64_t)t.tv_sec * 1000000 + (uint64_t)t.tv_nsec / 1000;
}

uint64_t clock_ms(void)
{
	return read_us(CLOCK_MONOTONIC) / 1000;
}

uint64_t clock_us(void)
{
	return read_us(CLOCK_MONOTONIC);
}

uint64_t clock_wall_ms(void)
{
	return read_us(CLOCK_REALTIME) / 1000;
}

const char *clock_text(uint64_t wall_ms, char text[CLOCK_TEXT])
{
	time_t s = (time_t)(wall_ms / 1000);
	struct tm tm;
	size_t n;

	gmtime_r(&s, &tm);
	n = strftime(text, CLOCK_TEXT, "%Y-%m-%dT%H:%M:%S", &tm);
	snprintf(text + n, CLOCK_TEXT - n, ".%03uZ", (unsigned)(wall_ms % 1000));
	return text;
}

bool clock_parse(const char *text, uint64_t *ret_wall_ms)
{
	int y, mo, d, h = 0, mi = 0, s = 0, n = 0, oh = 0, om = 0;
	uint64_t frac = 0;
	int64_t offset = 0;
	struct tm tm = {0};
	const char *p;

	if (sscanf(text, "%4d-%2d-%2d%n", &y, &mo, &d, &n) != 3 || n != 10)
		return false;
	p = text + n;
	if (*p == 'T' || *p == ' ') {
		if (sscanf(p + 1, "%2d:%2d%n", &h, &mi, &n) != 2 || n != 5)
			return false;
		p += 1 + n;
		if (*p == ':') {
			if (sscanf(p + 1, "%2d%n", &s, &n) != 1 || n != 2)
				return false;
			p += 1 + n;
		}
		if (*p == '.') {
			uint64_t unit = 100;

			for (p++; *p >= '0' && *p <= '9'; p++, unit /= 10)
				frac += (uint64_t)(*p - '0') * unit;
		}
		if (*p == '+' || *p == '-') {
			if (sscanf(p + 1, "%2d:%2d%n", &oh, &om, &n) != 2 || n != 5)
				return false;
			offset = (*p == '-' ? -1 : 1) * (oh * 3600 + om * 60);
			p += 1 + n;
		} else if (*p == 'Z') {
			p++;
		}
	}
	if (*p || y < 1970 || mo < 1 || mo > 12 || d < 1 || d > 31 || h > 23 || mi > 59 || s > 60)
		return false;
	tm = (struct tm){.tm_year = y - 1900, .tm_mon = mo - 1, .tm_mday = d,
			 .tm_hour = h, .tm_min = mi, .tm_sec = s};
	*ret_wall_ms = (uint64_t)((int64_t)timegm(&tm) - offset) * 1000 + frac;
	return true;
}

const char *clock_span(uint64_t ms, char text[CLOCK_TEXT])
{
	if (ms < 1000)
		snprintf(text, CLOCK_TEXT, "%u ms", (unsigned)ms);
	else if (ms < 120000)
		snprintf(text, CLOCK_TEXT, "%u.%u s", (unsigned)(ms / 1000),
			 (unsigned)(ms % 1000 / 100));
	else if (ms < 120 * 60000)
		snprintf(text, CLOCK_TEXT, "%u min", (unsigned)(ms / 60000));
	else if (ms < 48ull * 3600000)
		snprintf(text, CLOCK_TEXT, "%u h", (unsigned)(ms / 3600000));
	else
		snprintf(text, CLOCK_TEXT, "%llu d", (unsigned long long)(ms / 86400000));
	return text;
}
