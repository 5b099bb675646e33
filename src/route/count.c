/* SPDX-License-Identifier: Apache-2.0
 *
 * What became of a request, in numbers and as a line for the access log. The log
 * never waits: a record without room in the ring is dropped and counted.
 */
#include "route/route_priv.h"

#define LOG_TEXT_MAX 2048u /* of one string of a record */
#define SLOW_WAIT_US 1000000u

void count_own(struct exchange *x, uint16_t status)
{
	if (!x->app || x->cut)
		return;
	if (status / 100 == 4)
		shm_add(&x->app->n->refused_4xx, 1);
	else if (status == 502)
		shm_add(&x->app->n->failed_502, 1);
	else if (status == 504)
		shm_add(&x->app->n->failed_504, 1);
	else if (status / 100 == 3)
		shm_add(&x->app->n->redirected, 1);
	if (status == 401 || status == 403 || status == 429)
		shm_add(status == 401	? &x->app->n->refused_401
			: status == 403 ? &x->app->n->refused_403
					: &x->app->n->refused_429,
			1);
}

static _Atomic uint64_t *class_of(struct shm_counts *n, uint16_t status)
{
	switch (status / 100) {
	case 1:
		return &n->answered_1xx;
	case 2:
		return &n->answered_2xx;
	case 3:
		return &n->answered_3xx;
	case 4:
		return &n->answered_4xx;
	default:
		return &n->answered_5xx;
	}
}

static void count_answer(struct exchange *x, struct shm_counts *n, uint64_t us)
{
	shm_add(class_of(n, x->status), 1);
	shm_add(&n->bytes_in, x->ask.bytes);
	shm_add(&n->bytes_out, x->reply.bytes);
	if (x->upgraded)
		return;
	shm_add(&n->latency[shm_bucket(us)], 1);
	shm_add(&n->latency_us, us);
	if (us > shm_get(&n->longest_us))
		atomic_store_explicit(&n->longest_us, us, memory_order_relaxed);
}

struct text {
	const char *p;
	uint16_t len;
};

static struct text slice_text(const struct exchange *x, struct slice16 s)
{
	/* A slice of a head longer than 64 KiB may lie beyond what its numbers can say. */
	if (!x->req || (uint32_t)s.at + s.len > x->req->len)
		return (struct text){"", 0};
	return (struct text){x->req->data + s.at, (uint16_t)MIN(s.len, LOG_TEXT_MAX)};
}

static struct text string_text(const char *s)
{
	return (struct text){s, (uint16_t)strlen(s)};
}

/* What somebody will want to look at is always logged. */
static bool is_special(const struct exchange *x, uint64_t us)
{
	uint32_t slow_ms = x->t->table->limits.log_slow_ms;

	return x->status >= 500 || x->end == ACCESS_CUT || x->tries > 1 || x->waited ||
	       (slow_ms && us > slow_ms * 1000ull);
}

/* The share of requests like this one that is logged, in parts of a million; 0: this one is not. */
static uint32_t log_share(const struct exchange *x, uint64_t us)
{
	uint32_t share = x->t->table->limits.log_sample;
	struct text id;

	if (share >= ACCESS_ALL || is_special(x, us))
		return ACCESS_ALL;
	id = slice_text(x, x->trace.len ? x->trace : x->id);
	if (!id.len) /* a connection of a TCP app has none, and no other hop */
		id = (struct text){(const char *)&x->start_us, sizeof(x->start_us)};
	return access_sampled(id.p, id.len, share) ? share : 0;
}

static uint8_t http_version(const struct exchange *x)
{
	return x->tcp ? 0 : x->client->is_stream ? 20 : x->old_client ? 10 : 11;
}

static void log_access(struct exchange *x, uint64_t us, uint32_t share)
{
	struct thread *t = x->t;
	struct text text[] = {x->tcp ? string_text("TCP") : slice_text(x, x->method),
			      slice_text(x, x->host),
			      slice_text(x, x->path),
			      string_text(x->app ? x->app->shared->name : ""),
			      string_text(x->answer_target),
			      string_text(x->client->ip),
			      slice_text(x, x->id),
			      slice_text(x, x->agent),
			      slice_text(x, x->trace)};
	struct access_record rec = {.wall_us = x->start_us + t->wall_offset_us,
				    .bytes_in = x->ask.bytes,
				    .bytes_out = x->reply.bytes,
				    .total_us = (uint32_t)MIN(us, UINT32_MAX),
				    .wait_us = (uint32_t)MIN(x->wait_us, UINT32_MAX),
				    .target_us = (uint32_t)MIN(x->target_us, UINT32_MAX),
				    .status = x->status,
				    .tries = x->tries,
				    .end = (uint8_t)x->end,
				    .sample = share,
				    .http = http_version(x),
				    .release = x->answer_release};
	uint16_t *len = &rec.method_len;
	uint32_t total = sizeof(rec);
	char *p;

	for (size_t i = 0; i < ARRAY_LEN(text); i++) {
		len[i] = text[i].len;
		total += text[i].len;
	}
	p = ring_reserve(t->ring, total);
	if (!p) {
		shm_add(&t->n->log_dropped, 1);
		return;
	}
	memcpy(p, &rec, sizeof(rec));
	p += sizeof(rec);
	for (size_t i = 0; i < ARRAY_LEN(text); i++) {
		memcpy(p, text[i].p, text[i].len);
		p += text[i].len;
	}
	shm_add(&t->n->log_written, 1);
	if (ring_commit(t->ring, total))
		bell_ring(t->r->log_bell);
}

static_assert(offsetof(struct access_record, trace_len) - offsetof(struct access_record, method_len) ==
		      8 * sizeof(uint16_t),
	      "the lengths of a record lie side by side");

void count_end(struct exchange *x)
{
	uint64_t us = clock_us() - x->start_us;

	if (x->app) {
		struct shm_counts *n = x->app->n;

		if (x->waited) {
			if (!x->upgraded)
				shm_sub(&n->held_now, 1);
			shm_add(&n->held_ms, x->wait_us / 1000);
			if (x->wait_us > SLOW_WAIT_US)
				shm_add(&n->slowed, 1);
		}
		/* What was cut is counted as that: a receipt must not call it answered too. */
		if (x->status && x->end != ACCESS_OWN && x->end != ACCESS_CUT)
			count_answer(x, n, us), count_answer(x, x->answer_n, us);
		if (x->upgraded)
			shm_sub(&n->tunnels, 1), shm_sub(&x->answer_n->tunnels, 1);
		else
			shm_sub(&n->inflight, 1);
	}
	if (x->t->ring && x->t->table->limits.access_log) {
		uint32_t share = log_share(x, us);

		if (share)
			log_access(x, us, share);
		else
			shm_add(&x->t->n->log_left_out, 1);
	}
}
