/* SPDX-License-Identifier: Apache-2.0
 *
 * The head of an answer in HTTP/1.1, as an exchange sends it, becomes the fields of its stream.
 *
 * A stream whose text ends before it is over is reset: a cut answer never looks like a whole one.
 */
#include "route/h2_priv.h"

static nghttp2_nv status_field(uint16_t status, char text[4])
{
	snprintf(text, 4, "%u", status % 1000u);
	return (nghttp2_nv){.name = (uint8_t *)":status", .namelen = 7, .value = (uint8_t *)text,
			    .valuelen = 3};
}

static int submit_answer(struct h2_flow *f, const nghttp2_nv *nv, size_t n)
{
	nghttp2_data_provider body = h2_flow_body(f);

	h2_stream_of_flow(f)->submitted = true;
	return nghttp2_submit_response(f->link->ng, f->id, nv, n, f->state == OUT_OVER ? NULL : &body);
}

ssize_t h2_answer_head(struct h2_flow *f, const char *p, size_t len)
{
	const struct http1_limits limits = {UINT32_MAX, HTTP1_PASSED_MAX, true};
	struct http1_head *head = &f->conn->t->head;
	nghttp2_nv nv[HTTP1_PASSED_MAX + 1];
	char status[4];
	size_t scanned = 0, n;
	const char *why;

	if (http1_answer(p, len, &scanned, &limits, f->is_head, false, head, &why) != HTTP1_DONE)
		return -1;
	n = 1 + h2_flow_fields(head, f->tunnel, nv + 1);
	nv[0] = status_field(head->status == 101 ? 200 : head->status, status);
	if (head->status / 100 == 1 && head->status != 101)
		return nghttp2_submit_headers(f->link->ng, NGHTTP2_FLAG_NONE, f->id, NULL, nv, n, NULL)
			       ? -1 : (ssize_t)head->head_len;
	if (f->tunnel && head->status / 100 == 2) /* would say that the WebSocket is open (RFC 8441, 5) */
		return -1;
	if (head->framing == HTTP1_BODY_CLOSE || (head->framing == HTTP1_TUNNEL && !f->tunnel))
		return -1;
	f->framing = head->framing;
	f->left = head->length;
	f->state = head->framing == HTTP1_BODY_NONE ? OUT_OVER : OUT_BODY;
	return submit_answer(f, nv, n) ? -1 : (ssize_t)head->head_len;
}
