/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/handover.h"

#include <string.h>

#include "core/table.h"
#include "wire/http1.h"

static_assert(sizeof(struct handover) % 8 == 0, "no bytes between the fixed part and the others");

static const uint8_t brings_fd[HANDOVER_KIND_COUNT] = {
#define X(name, fd) [HANDOVER_##name] = fd,
	HANDOVER_KIND_TABLE(X)
#undef X
};

void handover_init(struct handover *h, enum handover_kind kind, uint64_t id)
{
	memset(h, 0, sizeof(*h));
	h->magic = HANDOVER_MAGIC;
	h->version = HANDOVER_VERSION;
	h->kind = (uint16_t)kind;
	h->id = id;
}

static bool within(struct handover_slice s, uint32_t len)
{
	return (uint32_t)s.at + s.len <= len;
}

/* What a request must be for the rest of the router to stand on it. */
static const char *wrong_request(const struct handover *h)
{
	bool joined = h->flags & HANDOVER_BODY_JOINED;

	if (!h->req_len)
		return "a request without a head";
	if (!within(h->method, h->req_len) || !within(h->host, h->req_len) ||
	    !within(h->path, h->req_len) || !within(h->request_id, h->req_len) ||
	    !within(h->agent, h->req_len) || !within(h->trace, h->req_len) || !h->path.len)
		return "a part of the head that lies outside of it";
	if (h->near > NEAR_HEADER)
		return "a way to choose a target that there is not";
	if (h->framing > HTTP1_BODY_CHUNKED)
		return "a body that no request has";
	if (h->bytes > (joined ? h->req_len : 0))
		return "more body than bytes";
	if (joined && h->framing == HTTP1_BODY_NONE)
		return "a body that was not announced";
	if (h->framing == HTTP1_BODY_LENGTH && (!h->length || (joined && h->bytes != h->length)))
		return "a body of another length";
	if ((h->flags & HANDOVER_SAFE) && h->framing != HTTP1_BODY_NONE)
		return "a body where none may be sent twice";
	return NULL;
}

static const char *wrong(const struct handover *h, size_t len, int fds_len)
{
	if (h->kind <= HANDOVER_NONE || h->kind >= HANDOVER_KIND_COUNT)
		return "no such kind";
	if (fds_len != brings_fd[h->kind])
		return "the wrong number of descriptors";
	if (h->req_len > HANDOVER_BYTES_MAX || h->in_len > HANDOVER_BYTES_MAX ||
	    len != sizeof(*h) + h->req_len + h->in_len)
		return "the wrong length";
	if (h->flags & ~HANDOVER_FLAGS)
		return "an unknown flag";
	if (h->kind == HANDOVER_REQUEST)
		return h->flags & (HANDOVER_HEAD | HANDOVER_PROXY) ? "a flag of another kind"
								   : wrong_request(h);
	if (h->req_len || (h->flags & ~(HANDOVER_HEAD | HANDOVER_PROXY)))
		return "parts of a request in another kind";
	if (h->kind != HANDOVER_CLIENT && (h->in_len || h->flags))
		return "bytes where none belong";
	if (h->kind == HANDOVER_CLIENT && !(h->flags & HANDOVER_HEAD) != !h->in_len)
		return "a head without bytes, or bytes of none";
	return NULL;
}

int handover_decode(const void *packet, size_t len, int fds_len, struct handover *ret, struct err *e)
{
	const char *why;
	struct handover h;

	if (len < offsetof(struct handover, id))
		return err_set(e, ERR_PROTO, "a packet of %zu bytes is none of a hand-over", len);
	memcpy(&h, packet, MIN(len, sizeof(h)));
	if (h.magic != HANDOVER_MAGIC)
		return err_set(e, ERR_PROTO, "a packet that is none of a hand-over");
	if (h.version != HANDOVER_VERSION)
		return err_set(e, ERR_PROTO, "the hand-over speaks version %u, this router %u", h.version,
			       HANDOVER_VERSION);
	if (len < sizeof(h))
		return err_set(e, ERR_PROTO, "a packet of a hand-over is too short");
	why = wrong(&h, len, fds_len);
	if (why)
		return err_set(e, ERR_PROTO, "a packet of a hand-over has %s", why);
	*ret = h;
	return 0;
}
