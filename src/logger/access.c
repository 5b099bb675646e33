/* SPDX-License-Identifier: Apache-2.0
 *
 * The access log. Records come through one ring for each thread of the router and
 * become one JSON object a line. The logger sleeps until a ring wakes it, then takes
 * what has gathered every 50 ms: one wake-up and one write for many requests.
 *
 * What clients sent stands in a record as it came, so strings are escaped, and what is
 * not UTF-8 becomes U+FFFD.
 */
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "logger/logger_priv.h"
#include "wire/ring.h"

#define WRITE_BYTES (256u << 10) /* one write */
#define LINE_FIXED_MAX 700	 /* of a line without its strings: keys, quotes, numbers */
#define RECORDS_MAX 50000	 /* of one ring in one turn */

/* --- JSON ---------------------------------------------------------------- */

/* Length of the UTF-8 sequence at p (RFC 3629: shortest form, no surrogates), 0: none. */
static size_t utf8_len(const unsigned char *p, size_t left)
{
	uint32_t code;
	size_t n;

	if (p[0] < 0xc2 || p[0] > 0xf4)
		return 0;
	n = p[0] < 0xe0 ? 2 : p[0] < 0xf0 ? 3 : 4;
	if (left < n)
		return 0;
	code = p[0] & (0xffu >> (n + 1));
	for (size_t i = 1; i < n; i++) {
		if ((p[i] & 0xc0) != 0x80)
			return 0;
		code = code << 6 | (p[i] & 0x3f);
	}
	if ((n == 3 && (code < 0x800 || (code >= 0xd800 && code <= 0xdfff))) ||
	    (n == 4 && (code < 0x10000 || code > 0x10ffff)))
		return 0;
	return n;
}

/* How a byte stands in a string: as it is, or how it must be looked at. */
enum byte_class { PLAIN, QUOTE, CONTROL, HIGH };

static const uint8_t classes[256] = {
    [0x00 ... 0x1f] = CONTROL, ['"'] = QUOTE,	       ['\\'] = QUOTE,
    [0x7f] = CONTROL,	       [0x80 ... 0xff] = HIGH,
};

/* Eight bytes, all of which stand as they are? (May say no where it is yes, never the reverse.) */
static bool eight_plain(uint64_t w)
{
	const uint64_t ones = 0x0101010101010101ull, tops = ones * 0x80;
	uint64_t quote = w ^ ones * '"', slash = w ^ ones * '\\', del = w ^ ones * 0x7f;

	/* The top bit of a byte of (x - ones) & ~x is set where that byte of x is 0. */
	return !((w | (w - ones * 0x20) | ((quote - ones) & ~quote) | ((slash - ones) & ~slash) |
		  ((del - ones) & ~del)) &
		 tops);
}

/* The writers below write at `to`, where there is room, and return the end of it. A byte becomes at
 * most six. */
static char *put_string(char *to, const char *s, size_t len)
{
	static const char hex[] = "0123456789abcdef";
	const unsigned char *p = (const unsigned char *)s, *end = p + len;

	*to++ = '"';
	while (p < end) {
		uint64_t eight;
		size_t n;

		if (end - p >= 8 && (memcpy(&eight, p, 8), eight_plain(eight))) {
			to = mempcpy(to, &eight, 8);
			p += 8;
			continue;
		}
		switch (classes[*p]) {
		case PLAIN:
			*to++ = (char)*p++;
			continue;
		case QUOTE:
			*to++ = '\\';
			*to++ = (char)*p++;
			continue;
		case CONTROL:
			memcpy(to, "\\u00", 4);
			to[4] = hex[*p >> 4];
			to[5] = hex[*p++ & 15];
			to += 6;
			continue;
		default:
			n = utf8_len(p, (size_t)(end - p));
			if (!n) {
				to = mempcpy(to, "\\ufffd", 6);
				p++;
				continue;
			}
			to = mempcpy(to, p, n);
			p += n;
		}
	}
	*to++ = '"';
	return to;
}

static char *put_number(char *to, uint64_t n)
{
	char text[20], *p = text + sizeof(text);

	do {
		*--p = (char)('0' + n % 10);
		n /= 10;
	} while (n);
	return mempcpy(to, p, (size_t)(text + sizeof(text) - p));
}

/* Microseconds as milliseconds with three digits. */
static char *put_ms(char *to, uint32_t us)
{
	to = put_number(to, us / 1000);
	*to++ = '.';
	*to++ = (char)('0' + us / 100 % 10);
	*to++ = (char)('0' + us / 10 % 10);
	*to++ = (char)('0' + us % 10);
	return to;
}

/* Parts of a million as a number from 0 to 1, without needless digits: "0.1". */
static char *put_share(char *to, uint32_t share)
{
	if (share >= ACCESS_ALL) {
		*to++ = '1';
		return to;
	}
	*to++ = '0';
	*to++ = '.';
	for (uint32_t unit = ACCESS_ALL / 10; share && unit; unit /= 10) {
		*to++ = (char)('0' + share / unit);
		share %= unit;
	}
	return to;
}

static char *put_time(char *to, uint64_t wall_us)
{
	static uint64_t second = UINT64_MAX;
	static char text[CLOCK_TEXT];
	uint32_t ms = (uint32_t)(wall_us / 1000 % 1000);

	/* Taking a time apart costs more than all the rest of the line: once a second is enough. */
	if (second != wall_us / 1000000) {
		second = wall_us / 1000000;
		clock_text(MIN(second, 253402300799u) * 1000, text); /* the year has four digits */
	}
	text[20] = (char)('0' + ms / 100);
	text[21] = (char)('0' + ms / 10 % 10);
	text[22] = (char)('0' + ms % 10);
	return mempcpy(to, text, 24);
}

bool access_line(const char *record, uint32_t len, struct buf *out)
{
	static const char *const ends[ACCESS_END_COUNT] = {
#define X(name, text) [ACCESS_##name] = text,
	    ACCESS_END_TABLE(X)
#undef X
	};
	struct access_record r;
	const char *at = record + sizeof(r);
	char *to, *room;
	const char *method, *host, *path, *app, *target, *client, *id, *agent, *trace;

	if (len < sizeof(r))
		return false;
	memcpy(&r, record, sizeof(r));
	if (len - sizeof(r) != (size_t)r.method_len + r.host_len + r.path_len + r.app_len +
				   r.target_len + r.client_len + r.id_len + r.agent_len + r.trace_len)
		return false;
		/* In the order of the lengths in the record; the line has its own. */
#define NEXT(field) (field = at, at += r.field##_len)
	NEXT(method), NEXT(host), NEXT(path), NEXT(app), NEXT(target), NEXT(client), NEXT(id);
	NEXT(agent), NEXT(trace);
#undef NEXT
	/* One look at the room for the longest that it can become, none while writing. */
	room = to = buf_room(out, LINE_FIXED_MAX + 6 * (len - sizeof(r)));
	if (!to)
		return true; /* no memory: dropped, not wrong */
#define KEY(text) (to = mempcpy(to, text, sizeof(text) - 1))
	KEY("{\"time\":\""), to = put_time(to, r.wall_us);
	KEY("\",\"client\":"), to = put_string(to, client, r.client_len);
	KEY(",\"method\":"), to = put_string(to, method, r.method_len);
	KEY(",\"host\":"), to = put_string(to, host, r.host_len);
	KEY(",\"path\":"), to = put_string(to, path, r.path_len);
	KEY(",\"status\":"), to = put_number(to, r.status);
	KEY(",\"bytes_in\":"), to = put_number(to, r.bytes_in);
	KEY(",\"bytes_out\":"), to = put_number(to, r.bytes_out);
	KEY(",\"ms\":"), to = put_ms(to, r.total_us);
	KEY(",\"wait_ms\":"), to = put_ms(to, r.wait_us);
	KEY(",\"target_ms\":"), to = put_ms(to, r.target_us);
	KEY(",\"app\":"), to = put_string(to, app, r.app_len);
	KEY(",\"release\":"), to = put_number(to, r.release);
	KEY(",\"target\":"), to = put_string(to, target, r.target_len);
	if (r.http) {
		KEY(",\"http\":"), to = put_number(to, r.http / 10);
		KEY("."), to = put_number(to, r.http % 10);
	}
	KEY(",\"tries\":"), to = put_number(to, r.tries);
	KEY(",\"id\":"), to = put_string(to, id, r.id_len);
	KEY(",\"trace\":"), to = put_string(to, trace, r.trace_len);
	KEY(",\"sample\":"), to = put_share(to, r.sample);
	KEY(",\"end\":\""), to = stpcpy(to, r.end < ACCESS_END_COUNT ? ends[r.end] : "?");
	KEY("\",\"agent\":"), to = put_string(to, agent, r.agent_len);
	KEY("}\n");
#undef KEY
	out->len += (size_t)(to - room);
	return true;
}

/* --- rings --------------------------------------------------------------- */

static void write_out(struct logger *lg)
{
	if (lg->out.len && lg->conf.access)
		logfile_write(&lg->access_file, lg->out.data, lg->out.len, lg->loop.now_ms);
	lg->out.len = 0;
	lg->out.failed = false;
}

/* Takes what is there; returns how many records. */
static uint64_t take(struct logger *lg)
{
	uint64_t taken = 0, bad = 0;

	for (uint32_t i = 0; i < lg->ring_count; i++) {
		const char *record;
		uint32_t len;

		for (int n = 0; n < RECORDS_MAX && (record = ring_next(&lg->rings[i], &len)); n++) {
			taken++;
			if (lg->conf.access && !access_line(record, len, &lg->out))
				bad++;
			if (lg->out.len >= WRITE_BYTES)
				write_out(lg);
		}
	}
	write_out(lg);
	if (bad)
		log_warn("log.access", "records=%llu reason=\"their lengths do not add up\"",
			 (unsigned long long)bad);
	return taken;
}

static void set_sleeping(struct logger *lg, uint32_t sleeping)
{
	for (uint32_t i = 0; i < lg->ring_count; i++)
		atomic_store(&lg->rings[i].sleeping, sleeping);
}

/* After "I sleep" comes a last look: a record that came in between is either seen by it, or its
 * writer has seen that we sleep, and rings. */
static void on_batch(struct loop_timer *timer)
{
	struct logger *lg = container_of(timer, struct logger, batch);

	if (take(lg) == 0) {
		set_sleeping(lg, 1);
		if (take(lg) == 0)
			return;
		set_sleeping(lg, 0);
	}
	loop_timer_set(&lg->loop, &lg->batch, lg->loop.now_ms + LOG_BATCH_MS);
}

static void on_bell(struct loop_io *io, uint32_t events UNUSED)
{
	struct logger *lg = container_of(io, struct logger, bell);
	uint64_t rings;

	while (read(io->fd, &rings, sizeof(rings)) == sizeof(rings))
		;
	set_sleeping(lg, 0);
	if (!lg->batch.armed)
		loop_timer_set(&lg->loop, &lg->batch, lg->loop.now_ms + LOG_BATCH_MS);
}

void access_start(struct logger *lg, int bell, struct ring *rings, uint32_t count)
{
	lg->rings = rings;
	lg->ring_count = count;
	lg->bell.on_ready = on_bell;
	lg->batch.on_time = on_batch;
	logfile_init(&lg->access_file, &lg->conf, lg->state, "access.log");
	ensure(loop_io_add(&lg->loop, &lg->bell, bell, EPOLLIN) == 0);
	on_batch(&lg->batch); /* an earlier logger may have left some, awake or asleep */
}

void access_drain(struct logger *lg)
{
	take(lg);
}
