/* SPDX-License-Identifier: Apache-2.0
 *
 * Where a stream that goes on for ever may be ended without tearing something in two: between two
 * frames of a WebSocket (RFC 6455, 5.2), between two events of an event stream (HTML, 9.2.6: an
 * empty line ends one). The bytes pass by once, in any pieces; nothing is kept of them.
 */
#pragma once

#include "base/util.h"

enum boundary_kind { BOUNDARY_NONE, BOUNDARY_FRAMES, BOUNDARY_EVENTS };

struct boundary {
	uint8_t kind;	    /* enum boundary_kind */
	uint8_t have, need; /* bytes of the frame's header: so far, in all; events: has any passed */
	uint8_t length_end; /* where in the header the length ends */
	char last[4];	    /* of the stream, for events */
	uint64_t left;	    /* of the frame's payload */
};

void boundary_start(struct boundary *b, enum boundary_kind kind);
void boundary_feed(struct boundary *b, const char *p, size_t len);
/* Is nothing torn when the stream ends here? Never for NONE. */
bool boundary_here(const struct boundary *b);
