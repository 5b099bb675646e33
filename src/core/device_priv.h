/* SPDX-License-Identifier: Apache-2.0
 *
 * What device.c knows of each device; device_graph.c lays it out.
 */
#pragma once

#include "core/device.h"

struct device {
	/* What its checks say. */
	uint16_t checks[STATUS_COUNT], soft[STATUS_COUNT]; /* by what is shown of them */
	uint16_t flaps, pushed, total;
	uint8_t own;	/* enum status: the worst of them */
	bool own_new; /* since the last look */
	uint64_t own_since_ms;

	/* What follows from that and its needs: made by look(), in the order of ranks. */
	uint8_t status, place;
	bool down, half;
	uint64_t since_ms; /* of status */
	uint64_t away_ms, worst_ms; /* since when it is not good, 0: it is; how long it was as bad as worst */
	uint8_t worst;		    /* enum status */
	uint32_t cause;	   /* rank; DEVICE_NONE */
	uint32_t root;	/* down: the topmost that is, or itself */
	uint64_t down_ms, back_ms; /* since when it is; when it last came back (0: never) */

	/* Holding and asking. */
	uint64_t held_ms, asked_ms, answer_until_ms;
	uint64_t alone_ms; /* when what it was folded under came back */
	uint32_t held_prev, held_next;
	uint32_t asked_left; /* checks that have not answered */
	bool asks_parents;
	uint32_t ask_pass, query; /* the last that went through it */

	struct device_told told; /* cause: index */
};

static inline void device_mark(uint64_t *bits, uint32_t rank)
{
	bits[rank / 64] |= 1ull << rank % 64;
}

static inline bool device_is_marked(const uint64_t *bits, uint32_t rank)
{
	return bits[rank / 64] >> rank % 64 & 1;
}
