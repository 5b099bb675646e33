/* SPDX-License-Identifier: Apache-2.0
 *
 * When a check begins, and what becomes of it.
 *
 *	idle ── due ──> waits ── room ──> runs ── watch_done(), or its time is over ──> idle
 *
 * Each has its place in its interval by a hash of its id, so that they are spread evenly and stay where they are when others
 * come and go. While the last outcomes do not agree on a status yet (rise, fall), it is measured more often.
 *
 * What is this machine's own fault says nothing of the device. Beside errors that name it (no route, no descriptors), there
 * is time that went by without us: when the loop stood still, a measurement that was going on and did not end well is unknown.
 */
#include <errno.h>
#include <math.h>
#include <stdarg.h>
#include <string.h>

#include "base/clock.h"
#include "watch/watch_priv.h"

#define RETRY_LEAST_MS 1000
#define WAIT_LEAST_MS 5000

static void count(_Atomic uint64_t *n, uint64_t by)
{
	atomic_store_explicit(n, atomic_load_explicit(n, memory_order_relaxed) + by, memory_order_relaxed);
}

static void gauges(struct watcher *w)
{
	atomic_store_explicit(&w->results->waiting, w->waiting_count, memory_order_relaxed);
	atomic_store_explicit(&w->results->running, w->running, memory_order_relaxed);
	atomic_store_explicit(&w->results->programs, w->plugins, memory_order_relaxed);
}

/* --- next time --- */

/* The next time after now at the check's own place in its interval. */
static uint64_t next_place(const struct check *c, uint64_t now)
{
	uint64_t place = (c->id ^ c->id >> 29) % c->every_ms;
	uint64_t next = now - now % c->every_ms + place;

	return next > now ? next : next + c->every_ms;
}

static void set_next(struct check *c)
{
	uint64_t now = c->w->loop.now_ms;
	uint64_t enough = c->last == STATUS_GOOD ? c->rise : c->fall;

	c->due_ms = next_place(c, now);
	if (c->in_a_row && c->in_a_row < enough)
		c->due_ms = MIN(c->due_ms, now + MAX(c->every_ms / 4, RETRY_LEAST_MS));
	loop_timer_set(&c->w->loop, &c->next, c->due_ms);
}

/* --- the end of a measurement --- */

static bool stood_still(const struct check *c)
{
	const struct watcher *w = c->w;

	return w->loop.now_ms - w->beat_ms > 1000 + WATCH_STALL_MS || c->began_ms <= w->stalled_ms;
}

static void report(struct check *c, enum status outcome, double value, enum result_unit unit, const char *text)
{
	struct watcher *w = c->w;
	struct result r = {.check = c->id, .wall_ms = c->began_wall_ms, .value = value, .outcome = (uint8_t)outcome,
			   .unit = (uint8_t)unit, .took_us = (uint32_t)MIN(clock_us() - c->began_us, UINT32_MAX)};
	uint64_t one = 1;

	if (outcome == STATUS_UGLY && stood_still(c)) {
		r.outcome = STATUS_UNKNOWN;
		text = "this machine stood still, or had too much to do, while it was measured";
	}
	c->in_a_row = c->last == r.outcome ? c->in_a_row + 1 : 1;
	c->last = r.outcome;
	if (result_put(w->results, &r, text) && write(w->bell, &one, sizeof(one)) < 0)
		return; /* it rings already */
}

static void begin_waiting(struct watcher *w);

static void over(struct check *c, enum status outcome, double value, enum result_unit unit, const char *text)
{
	struct watcher *w = c->w;

	ensure(c->state == CHECK_RUNS);
	count(&w->results->measured, 1);
	count(&w->results->measured_us, clock_us() - c->began_us);
	report(c, outcome, value, unit, text);
	loop_timer_stop(&w->loop, &c->limit);
	c->state = CHECK_IDLE;
	c->run = NULL;
	w->running--;
	set_next(c);
	begin_waiting(w);
}

/* "HTTP 200: 162 ms > 150ms", "load: time 2 s > 1s" */
static void exceeds(const struct threshold *t, double value, enum result_unit unit, const char *said, char *ret, size_t size)
{
	char text[64], bound[THRESHOLD_TEXT];
	struct threshold bare = *t;

	bare.label[0] = '\0';
	threshold_print(&bare, bound);
	snprintf(ret, size, "%s%s%s%s%s %s", said, *said ? ": " : "", t->label, t->label[0] ? " " : "",
		 result_value_text(value, unit, text), bound);
}

void watch_done(struct check *c, enum status outcome, double value, enum result_unit unit, const char *fmt, ...)
{
	char said[RESULT_TEXT_MAX + 1], text[RESULT_TEXT_MAX + 100];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(said, sizeof(said), fmt, ap);
	va_end(ap);
	util_copy(text, sizeof(text), said);
	if ((outcome == STATUS_GOOD || outcome == STATUS_BAD) && threshold_crossed(&c->ugly, value)) {
		outcome = STATUS_UGLY;
		exceeds(&c->ugly, value, unit, said, text, sizeof(text));
	} else if (outcome == STATUS_GOOD && threshold_crossed(&c->bad, value)) {
		outcome = STATUS_BAD;
		exceeds(&c->bad, value, unit, said, text, sizeof(text));
	}
	over(c, outcome, value, unit, text);
}

double watch_took_ms(const struct check *c)
{
	return (double)(clock_us() - c->began_us) / 1000;
}

bool watch_own_fault(int error)
{
	switch (error) {
	case ENETDOWN:
	case ENETUNREACH: /* no route from here */
	case EADDRNOTAVAIL:
	case EMFILE:
	case ENFILE:
	case ENOMEM:
	case ENOBUFS:
	case EAGAIN:
	case EPERM: /* a firewall of this machine */
	case EACCES:
	case EAFNOSUPPORT:
		return true;
	default:
		return false;
	}
}

void watch_failed(struct check *c, int error, const char *what)
{
	bool own = watch_own_fault(error);

	watch_done(c, own ? STATUS_UNKNOWN : STATUS_UGLY, NAN, RESULT_NONE_UNIT, "%s%s: %s",
		   own ? "this machine's own fault: " : "", what, strerror(error));
}

static void leave_queue(struct check *c)
{
	list_del(&c->link);
	c->w->waiting_count--;
}

static void on_limit(struct loop_timer *t)
{
	struct check *c = container_of(t, struct check, limit);
	struct watcher *w = c->w;
	char text[RESULT_TEXT_MAX + 1], span[CLOCK_TEXT];

	if (c->state == CHECK_WAITS) { /* and never began */
		leave_queue(c);
		c->state = CHECK_IDLE;
		c->began_ms = w->loop.now_ms;
		c->began_us = clock_us();
		c->began_wall_ms = clock_wall_ms();
		count(&w->results->skipped, 1);
		snprintf(text, sizeof(text), "this machine has too much to do: %u other measurements were going on", w->running);
		report(c, STATUS_UNKNOWN, NAN, RESULT_NONE_UNIT, text);
		set_next(c);
		return;
	}
	count(&w->results->overtime, 1);
	snprintf(text, sizeof(text), "%s: not done within %s", c->stage, clock_span(c->timeout_ms, span));
	watch_engines[c->kind]->cancel(c);
	over(c, STATUS_UGLY, NAN, RESULT_NONE_UNIT, text);
}

/* --- its beginning --- */

static void begin(struct check *c)
{
	struct watcher *w = c->w;
	uint64_t late = w->loop.now_ms - MIN(c->due_ms, w->loop.now_ms);

	c->state = CHECK_RUNS;
	w->running++;
	c->began_ms = w->loop.now_ms;
	c->began_us = clock_us();
	c->began_wall_ms = clock_wall_ms();
	c->stage = "measuring";
	count(&w->results->late_ms, late);
	count(&w->results->late, late > WATCH_LATE_MS);
	loop_timer_set(&w->loop, &c->limit, w->loop.now_ms + c->timeout_ms);
	watch_engines[c->kind]->begin(c);
}

/* The next one that may begin, or NULL. Programs have fewer places: what waits for one of these holds up no other. */
static struct check *next_waiting(struct watcher *w)
{
	for (int i = w->plugins >= WATCH_PLUGINS_MAX; i < 2 && w->running < WATCH_RUNNING_MAX; i++)
		if (!list_empty(&w->waiting[i]))
			return container_of(w->waiting[i].next, struct check, link);
	return NULL;
}

/* A measurement that is done at once calls this again, from within. */
static void begin_waiting(struct watcher *w)
{
	struct check *c;

	if (w->beginning)
		return;
	w->beginning = true;
	while ((c = next_waiting(w))) {
		leave_queue(c);
		begin(c);
	}
	w->beginning = false;
	gauges(w);
}

static void on_due(struct loop_timer *t)
{
	struct check *c = container_of(t, struct check, next);
	struct watcher *w = c->w;

	if (c->state != CHECK_IDLE)
		return;
	c->state = CHECK_WAITS;
	list_add_tail(&w->waiting[!watch_is_program(c->kind)], &c->link);
	w->waiting_count++;
	loop_timer_set(&w->loop, &c->limit, w->loop.now_ms + MAX(c->every_ms, WAIT_LEAST_MS));
	begin_waiting(w);
}

void watch_more(struct loop *loop)
{
	begin_waiting(container_of(loop, struct watcher, loop));
}

void watch_schedule(struct check *c)
{
	c->next.on_time = on_due;
	c->limit.on_time = on_limit;
	c->last = STATUS_COUNT;
	set_next(c);
}

void watch_unschedule(struct check *c)
{
	struct watcher *w = c->w;

	if (c->state == CHECK_WAITS)
		leave_queue(c);
	if (c->state == CHECK_RUNS) {
		watch_engines[c->kind]->cancel(c);
		w->running--;
	}
	c->state = CHECK_IDLE;
	loop_timer_fini(&w->loop, &c->next);
	loop_timer_fini(&w->loop, &c->limit);
}
