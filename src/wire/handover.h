/* SPDX-License-Identifier: Apache-2.0
 *
 * What a router tells the one that takes its place: one packet on a SOCK_SEQPACKET socket for each
 * client connection that it hands over, the descriptor beside it. Pure functions over bytes.
 *
 *	new                             old
 *	HELLO (version) ────────────>
 *	     <──────────── CLIENT 1 + fd	between requests, or with the beginning of a head
 *	ACK 1 ──────────────────────>		from here on it is the new one's
 *	     <──────────── REQUEST 2 + fd	waiting for a target: the request with its bytes
 *	ACK 2 ──────────────────────>
 *
 * The acknowledgement decides: until it has come the old one keeps the descriptor and may take the
 * connection back; a new one that cannot acknowledge must not touch it. Both routers run on one
 * machine, so times of clock_ms() and clock_us() mean the same to both.
 *
 * The layout belongs to a version. Whoever meets another one ends the channel, and what would
 * have been handed over drains instead.
 */
#pragma once

#include "base/err.h"

#define HANDOVER_MAGIC 0x55505348u
#define HANDOVER_VERSION 1
#define HANDOVER_BYTES_MAX (160u * 1024) /* behind the fixed part; what has more stays */

/* X(NAME, brings a descriptor) */
#define HANDOVER_KIND_TABLE(X)                                                                     \
	X(HELLO, 0)                                                                                \
	X(ACK, 0)                                                                                  \
	X(CLIENT, 1)                                                                               \
	X(REQUEST, 1)

enum handover_kind {
	HANDOVER_NONE,
#define X(name, fd) HANDOVER_##name,
	HANDOVER_KIND_TABLE(X)
#undef X
	HANDOVER_KIND_COUNT
};

#define HANDOVER_HEAD 1u	/* CLIENT: bytes of a head have come */
#define HANDOVER_IS_HEAD 2u	/* and of a REQUEST, as struct exchange has them */
#define HANDOVER_SAFE 4u
#define HANDOVER_UPGRADE 8u
#define HANDOVER_EXPECTS 16u
#define HANDOVER_TE_TRAILERS 32u
#define HANDOVER_OLD_CLIENT 64u
#define HANDOVER_KEEP 128u
#define HANDOVER_WAITED 256u
#define HANDOVER_BODY_JOINED 512u /* the whole body stands behind the head in req */
#define HANDOVER_PROXY 1024u	 /* CLIENT: its PROXY header has not come yet */
#define HANDOVER_SECURE 2048u	 /* REQUEST */
#define HANDOVER_FLAGS (4096u - 1)

struct handover_slice {
	uint16_t at, len; /* in req */
};

/* The fixed part of each packet; behind it req_len bytes of the request as it is sent to a target,
 * then in_len bytes that were read from the client and not looked at. */
struct handover {
	uint32_t magic;
	uint16_t version, kind;
	uint64_t id; /* CLIENT, REQUEST: counts from 1 on a channel; ACK: the one that is meant */
	uint8_t addr[16];
	uint64_t first_us; /* of the request: its first byte */
	uint64_t until_ms; /* the time limit that runs */
	uint32_t flags, req_len, in_len;
	uint8_t framing; /* enum http1_framing, of the request's body */
	uint8_t tries, died_under, near; /* enum table_near */
	uint64_t length;  /* of a body with a length */
	uint64_t bytes;	  /* of body behind the head, when it is joined */
	uint64_t wait_us, came_ms;
	uint64_t near_key;
	struct handover_slice method, host, path, request_id, agent, trace;
	uint16_t port, zero; /* of the client */
	uint32_t zero2;
};

/* Makes the fixed part of a kind; everything else is the caller's to fill in. */
void handover_init(struct handover *h, enum handover_kind kind, uint64_t id);
/* Checks a packet of len bytes that came with so many descriptors; ret is a copy of the fixed part, the
 * bytes stand at packet + sizeof(*ret). After success every number that points into the bytes, or
 * chooses what is done with them, is right. Returns 0 or a negative error. */
int handover_decode(const void *packet, size_t len, int fds_len, struct handover *ret, struct err *e);
