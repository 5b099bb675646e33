/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <string.h>

#include "wire/boundary.h"
#include "wire/handover.h"
#include "wire/http1.h"

/* --- packets ------------------------------------------------------------- */

static struct {
	struct handover h;
	char bytes[64];
} packet;

static int decode(int fds)
{
	struct handover got;
	struct err e;

	return handover_decode(&packet, sizeof(packet.h) + packet.h.req_len + packet.h.in_len, fds, &got, &e);
}

static void begin(enum handover_kind kind)
{
	memset(&packet, 0, sizeof(packet));
	handover_init(&packet.h, kind, 1);
}

static void request(void)
{
	begin(HANDOVER_REQUEST);
	packet.h.req_len = 40;
	packet.h.method = (struct handover_slice){0, 3};
	packet.h.path = (struct handover_slice){4, 1};
	packet.h.host = (struct handover_slice){22, 3};
	packet.h.agent = (struct handover_slice){40, 0};
}

static void each_kind_is_understood(void **state UNUSED)
{
	begin(HANDOVER_HELLO);
	assert_int_equal(decode(0), 0);
	begin(HANDOVER_ACK);
	assert_int_equal(decode(0), 0);
	begin(HANDOVER_CLIENT);
	assert_int_equal(decode(1), 0);
	packet.h.flags = HANDOVER_HEAD;
	packet.h.in_len = 7;
	assert_int_equal(decode(1), 0);
	request();
	assert_int_equal(decode(1), 0);
	packet.h.in_len = 20; /* the next request, pipelined */
	assert_int_equal(decode(1), 0);
	packet.h.framing = HTTP1_BODY_LENGTH;
	packet.h.length = 1000;
	assert_int_equal(decode(1), 0);
	packet.h.flags = HANDOVER_BODY_JOINED;
	packet.h.length = packet.h.bytes = 10;
	assert_int_equal(decode(1), 0);
	packet.h.framing = HTTP1_BODY_CHUNKED;
	packet.h.length = 0;
	assert_int_equal(decode(1), 0);
}

#define REFUSED(change, fds)                                                                       \
	do {                                                                                       \
		request();                                                                         \
		assert_int_equal(decode(1), 0);                                                    \
		change;                                                                            \
		assert_true(decode(fds) < 0);                                                      \
	} while (0)

static void what_does_not_add_up_is_refused(void **state UNUSED)
{
	REFUSED(packet.h.magic++, 1);
	REFUSED(packet.h.version++, 1);
	REFUSED(packet.h.kind = HANDOVER_KIND_COUNT, 1);
	REFUSED(packet.h.kind = HANDOVER_NONE, 0);
	REFUSED((void)0, 0);
	REFUSED((void)0, 2);
	REFUSED(packet.h.flags = HANDOVER_FLAGS + 1, 1);
	REFUSED(packet.h.flags = HANDOVER_HEAD, 1);
	REFUSED(packet.h.req_len = 0, 1);
	REFUSED(packet.h.method.len = 41, 1);
	REFUSED(packet.h.path.at = 65535, 1);
	REFUSED(packet.h.path.len = 0, 1);
	REFUSED(packet.h.agent.at = 41, 1);
	REFUSED(packet.h.request_id = ((struct handover_slice){39, 2}), 1);
	REFUSED(packet.h.trace.len = 41, 1);
	REFUSED(packet.h.near = 99, 1);
	REFUSED(packet.h.framing = HTTP1_BODY_CLOSE, 1);
	REFUSED(packet.h.framing = HTTP1_TUNNEL, 1);
	REFUSED(packet.h.framing = HTTP1_BODY_LENGTH, 1); /* of no length */
	REFUSED(packet.h.flags = HANDOVER_BODY_JOINED, 1);
	REFUSED(packet.h.bytes = 4, 1);
	REFUSED((packet.h.flags = HANDOVER_BODY_JOINED, packet.h.bytes = 4), 1);
	REFUSED((packet.h.framing = HTTP1_BODY_LENGTH, packet.h.length = 9,
		 packet.h.flags = HANDOVER_BODY_JOINED, packet.h.bytes = 4), 1);
	REFUSED((packet.h.framing = HTTP1_BODY_CHUNKED, packet.h.flags = HANDOVER_BODY_JOINED,
		 packet.h.bytes = 41), 1);
	REFUSED((packet.h.framing = HTTP1_BODY_CHUNKED, packet.h.flags = HANDOVER_SAFE), 1);
	begin(HANDOVER_CLIENT);
	packet.h.in_len = 5; /* bytes, and no head */
	assert_true(decode(1) < 0);
	begin(HANDOVER_ACK);
	packet.h.in_len = 5;
	assert_true(decode(0) < 0);
	begin(HANDOVER_HELLO);
	packet.h.flags = HANDOVER_KEEP;
	assert_true(decode(0) < 0);
}

static void a_packet_of_any_length_is_looked_at_within_itself(void **state UNUSED)
{
	struct handover got;
	struct err e;

	request();
	for (size_t n = 0; n < sizeof(packet); n++) {
		CLEANUP_FREE char *exact = util_alloc(n + 1); /* the sanitizer sees a byte too far */
		char *p = n ? malloc(n) : NULL;

		if (n)
			memcpy(p, &packet, n);
		if (n != sizeof(packet.h) + 40)
			assert_true(handover_decode(n ? p : exact, n, 1, &got, &e) < 0);
		free(p);
	}
	packet.h.req_len = HANDOVER_BYTES_MAX + 1;
	assert_true(handover_decode(&packet, sizeof(packet.h) + HANDOVER_BYTES_MAX + 1, 1, &got, &e) < 0);
}

/* --- boundaries ---------------------------------------------------------- */

/* Feeds the text in pieces of n bytes; what boundary_here() says after each byte goes into ret. */
static void mark(enum boundary_kind kind, const char *p, size_t len, size_t piece, char *ret)
{
	struct boundary b;

	boundary_start(&b, kind);
	for (size_t at = 0; at < len; at += piece) {
		size_t n = MIN(piece, len - at);

		boundary_feed(&b, p + at, n);
		ret[at + n - 1] = boundary_here(&b) ? '!' : '.';
	}
	ret[len] = '\0';
}

static void frames_have_their_ends_found(void **state UNUSED)
{
	/* "hi" unmasked, empty ping, "x" masked, 126 bytes, an empty one with a length of 8 bytes */
	char text[400] = "\x81\x02hi\x89\x00\x81\x81mask.\x82\x7e\x00\x7e", marks[400];
	size_t len = 4 + 2 + 7 + 4 + 126;
	struct boundary b;

	memcpy(text + len, "\x82\x7f\0\0\0\0\0\0\0\0", 10);
	len += 10;
	mark(BOUNDARY_FRAMES, text, len, 1, marks);
	for (size_t i = 0; i < len; i++)
		assert_int_equal(marks[i], i == 3 || i == 5 || i == 12 || i == 142 || i == 152 ? '!' : '.');
	for (size_t piece = 2; piece < len; piece++) {
		memset(marks, ' ', sizeof(marks));
		mark(BOUNDARY_FRAMES, text, len, piece, marks);
		assert_int_equal(marks[len - 1], '!');
	}
	boundary_start(&b, BOUNDARY_FRAMES);
	assert_true(boundary_here(&b));
	boundary_feed(&b, "\x82\x7f\xff\xff\xff\xff\xff\xff\xff\xff", 10); /* longer than anything */
	boundary_feed(&b, text, sizeof(text));
	assert_false(boundary_here(&b));
}

static void events_end_with_an_empty_line(void **state UNUSED)
{
	static const struct {
		const char *text, *marks;
	} rows[] = {
		{"data: 1\n\ndata", "........!...."}, {"a\r\n\r\nb", "...!!."}, {"a\r\rb", "..!."},
		{"a\n\r\n", "..!!"},		     {"a\r\n:b\n", "......"},
	};
	struct boundary b;

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char marks[64];

		mark(BOUNDARY_EVENTS, rows[i].text, strlen(rows[i].text), 1, marks);
		assert_string_equal(marks, rows[i].marks);
	}
	boundary_start(&b, BOUNDARY_EVENTS);
	assert_true(boundary_here(&b));
	boundary_feed(&b, "data: long enough\n", 18);
	assert_false(boundary_here(&b));
	boundary_feed(&b, "\n", 1);
	assert_true(boundary_here(&b));
	boundary_start(&b, BOUNDARY_NONE);
	assert_false(boundary_here(&b));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(each_kind_is_understood),
	    cmocka_unit_test(what_does_not_add_up_is_refused),
	    cmocka_unit_test(a_packet_of_any_length_is_looked_at_within_itself),
	    cmocka_unit_test(frames_have_their_ends_found),
	    cmocka_unit_test(events_end_with_an_empty_line),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
