/* SPDX-License-Identifier: Apache-2.0
 *
 * When a check begins, and what becomes of it.
 *
 *	idle ── due ──> waits ── room ──> runs ── watch_done(), or its time is over ──> idle
 *
 * Each has its place in its interval by a hash of its id, so that they are spread evenly and stay where they are when others
 * come and go. While the last outcomes do not agree on a status yet (core/check.h), it is measured more often; and when the
 * controller wants to know.
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

static void set_due(struct watch_check *c, uint64_t at_ms)
{
	c->due_ms = at_ms;
	loop_timer_set(&c->w->loop, &c->next, at_ms);
}

/* --- the end of a measurement --- */

static bool stood_still(const struct watch_check *c)
{
	const struct watcher *w = c->w;

	return w->loop.now_ms - w->beat_ms > 1000 + WATCH_STALL_MS || c->began_ms <= w->stalled_ms;
}

static void report(struct watch_check *c, enum status outcome, double value, enum result_unit unit, const char *text)
{
	struct watcher *w = c->w;
	struct result r = {.check = c->id, .wall_ms = c->began_wall_ms, .value = value, .outcome = (uint8_t)outcome,
			   .unit = (uint8_t)unit, .took_us = (uint32_t)MIN(clock_us() - c->began_us, UINT32_MAX)};
	struct check_change change;
	uint64_t one = 1;

	if (outcome == STATUS_UGLY && stood_still(c)) {
		r.outcome = STATUS_UNKNOWN;
		text = "this machine stood still, or had too much to do, while it was measured";
	}
	check_step(&c->state, &c->rule, (enum status)r.outcome, w->loop.now_ms, &change);
	if (result_put(w->results, &r, text) && write(w->bell, &one, sizeof(one)) < 0)
		return; /* it rings already */
}

static void begin_waiting(struct watcher *w);

static void over(struct watch_check *c, enum status outcome, double value, enum result_unit unit, const char *text)
{
	struct watcher *w = c->w;

	ensure(c->phase == CHECK_RUNS);
	count(&w->results->measured, 1);
	count(&w->results->measured_us, clock_us() - c->began_us);
	report(c, outcome, value, unit, text);
	loop_timer_stop(&w->loop, &c->limit);
	c->phase = CHECK_IDLE;
	c->run = NULL;
	w->running--;
	set_due(c, check_due_ms(&c->state, &c->rule, c->id, w->loop.now_ms));
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

void watch_done(struct watch_check *c, enum status outcome, double value, enum result_unit unit, const char *fmt, ...)
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

double watch_took_ms(const struct watch_check *c)
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

void watch_failed(struct watch_check *c, int error, const char *what)
{
	bool own = watch_own_fault(error);

	watch_done(c, own ? STATUS_UNKNOWN : STATUS_UGLY, NAN, RESULT_NONE_UNIT, "%s%s: %s",
		   own ? "this machine's own fault: " : "", what, strerror(error));
}

static void leave_queue(struct watch_check *c)
{
	list_del(&c->link);
	c->w->waiting_count--;
}

static void on_limit(struct loop_timer *t)
{
	struct watch_check *c = container_of(t, struct watch_check, limit);
	struct watcher *w = c->w;
	char text[RESULT_TEXT_MAX + 1], span[CLOCK_TEXT];

	if (c->phase == CHECK_WAITS) { /* and never began */
		leave_queue(c);
		c->phase = CHECK_IDLE;
		c->began_ms = w->loop.now_ms;
		c->began_us = clock_us();
		c->began_wall_ms = clock_wall_ms();
		count(&w->results->skipped, 1);
		snprintf(text, sizeof(text), "this machine has too much to do: %u other measurements were going on", w->running);
		report(c, STATUS_UNKNOWN, NAN, RESULT_NONE_UNIT, text);
		set_due(c, check_due_ms(&c->state, &c->rule, c->id, w->loop.now_ms));
		return;
	}
	count(&w->results->overtime, 1);
	snprintf(text, sizeof(text), "%s: not done within %s", c->stage, clock_span(c->timeout_ms, span));
	watch_engines[c->kind]->cancel(c);
	over(c, STATUS_UGLY, NAN, RESULT_NONE_UNIT, text);
}

/* --- its beginning --- */

static void begin(struct watch_check *c)
{
	struct watcher *w = c->w;
	uint64_t late = w->loop.now_ms - MIN(c->due_ms, w->loop.now_ms);

	c->phase = CHECK_RUNS;
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
static struct watch_check *next_waiting(struct watcher *w)
{
	for (int i = w->plugins >= WATCH_PLUGINS_MAX; i < 2 && w->running < WATCH_RUNNING_MAX; i++)
		if (!list_empty(&w->waiting[i]))
			return container_of(w->waiting[i].next, struct watch_check, link);
	return NULL;
}

/* A measurement that is done at once calls this again, from within. */
static void begin_waiting(struct watcher *w)
{
	struct watch_check *c;

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
	struct watch_check *c = container_of(t, struct watch_check, next);
	struct watcher *w = c->w;

	if (c->phase != CHECK_IDLE)
		return;
	c->phase = CHECK_WAITS;
	list_add_tail(&w->waiting[!watch_is_program(c->kind)], &c->link);
	w->waiting_count++;
	loop_timer_set(&w->loop, &c->limit, w->loop.now_ms + MAX(c->every_ms, WAIT_LEAST_MS));
	begin_waiting(w);
}

void watch_more(struct loop *loop)
{
	begin_waiting(container_of(loop, struct watcher, loop));
}

void watch_schedule(struct watch_check *c)
{
	c->next.on_time = on_due;
	c->limit.on_time = on_limit;
	check_init(&c->state, c->w->loop.now_ms);
	set_due(c, check_first_ms(&c->rule, c->id, c->w->loop.now_ms));
}

void watch_measure(struct watcher *w, uint64_t id, uint64_t within_ms)
{
	struct watch_check *c = map_get(&w->checks, id);
	uint64_t at = w->loop.now_ms + within_ms;

	if (c && c->phase == CHECK_IDLE && c->due_ms > at)
		set_due(c, at);
}

void watch_unschedule(struct watch_check *c)
{
	struct watcher *w = c->w;

	if (c->phase == CHECK_WAITS)
		leave_queue(c);
	if (c->phase == CHECK_RUNS) {
		watch_engines[c->kind]->cancel(c);
		w->running--;
	}
	c->phase = CHECK_IDLE;
	loop_timer_fini(&w->loop, &c->next);
	loop_timer_fini(&w->loop, &c->limit);
}
