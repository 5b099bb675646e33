/* SPDX-License-Identifier: Apache-2.0 */
#include "core/flood.h"

static const struct {
	uint32_t at_once, a_second;
} bounds[] = {
#define X(name, at_once_, a_second_, what) {at_once_, a_second_},
	FLOOD_TABLE(X)
#undef X
};

bool flood_note(struct flood *f, enum flood_kind kind, uint64_t now_ms)
{
	uint64_t passed = now_ms > f->at_ms ? now_ms - f->at_ms : 0;

	for (int i = 0; passed && i < FLOOD_COUNT; i++) {
		uint64_t leaked = passed * bounds[i].a_second;

		f->level[i] -= (uint32_t)MIN(leaked, f->level[i]);
	}
	f->at_ms = MAX(f->at_ms, now_ms);
	if (f->level[kind] > (bounds[kind].at_once - 1) * 1000)
		return false;
	f->level[kind] += 1000;
	return true;
}

void flood_credit(struct flood *f, enum flood_kind kind, uint32_t n)
{
	f->level[kind] -= MIN(n * 1000, f->level[kind]);
}
