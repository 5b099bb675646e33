/* SPDX-License-Identifier: Apache-2.0 */
#include "core/renew.h"

#include <string.h>

#define PAUSE_FIRST_MS (2 * 60000ull)
#define PAUSE_MAX_MS (8 * 3600000ull)
#define ALARM_MS (2 * 86400000ull)

static uint64_t life(const struct renew_cert *c)
{
	return c->until_ms > c->from_ms ? c->until_ms - c->from_ms : 0;
}

/* A part of `whole`, by 16 bits. */
static uint64_t share(uint64_t whole, uint32_t random)
{
	return (uint64_t)((double)whole * (double)(random & 0xffff) / 65536);
}

static uint64_t pause_after(uint32_t failures, uint32_t random)
{
	uint64_t pause = PAUSE_FIRST_MS;

	for (uint32_t i = 1; i < failures && pause < PAUSE_MAX_MS; i++)
		pause *= 3;
	pause = MIN(pause, PAUSE_MAX_MS);
	return pause + share(pause / 4, random);
}

uint64_t renew_due(const struct renew *r, const struct renew_cert *c, bool asked, uint32_t random,
		   uint64_t now_ms)
{
	uint64_t last = r->failed_ms[0], oldest = r->failed_ms[RENEW_FAILURES - 1], due = 0;

	if (c->until_ms && c->fits)
		due = c->from_ms + life(c) / 3 * 2 - share(life(c) / 50, random >> 16);
	/* Failures of the future are from before the clock was set back: they say nothing. */
	if (r->failures && !asked && last <= now_ms)
		due = MAX(due, last + pause_after(r->failures, random));
	if (oldest && oldest <= now_ms)
		due = MAX(due, oldest + RENEW_WINDOW_MS);
	return due;
}

void renew_failed(struct renew *r, uint64_t now_ms)
{
	r->failures += r->failures < UINT32_MAX;
	memmove(&r->failed_ms[1], &r->failed_ms[0], (RENEW_FAILURES - 1) * sizeof(r->failed_ms[0]));
	r->failed_ms[0] = now_ms;
}

void renew_done(struct renew *r)
{
	r->failures = 0;
	memmove(&r->failed_ms[0], &r->failed_ms[1], (RENEW_FAILURES - 1) * sizeof(r->failed_ms[0]));
	r->failed_ms[RENEW_FAILURES - 1] = 0;
}

enum renew_status renew_status(const struct renew *r, const struct renew_cert *c, uint64_t now_ms)
{
	uint64_t left = c->until_ms > now_ms ? c->until_ms - now_ms : 0;

	if (!c->until_ms)
		return r->failures ? RENEW_UGLY : RENEW_BAD;
	if (!left)
		return RENEW_UGLY;
	if (r->failures && left < MIN(ALARM_MS, life(c) / 10))
		return RENEW_UGLY;
	/* In the last sixth it should long have been renewed, whoever is to blame that it was not. */
	return r->failures || !c->fits || left < life(c) / 6 ? RENEW_BAD : RENEW_GOOD;
}
