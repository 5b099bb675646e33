/* SPDX-License-Identifier: Apache-2.0
 *
 * The devices of the configuration: what the watcher measured becomes a status, and a status that is told is stored, from where
 * feeds and pages have it.
 *
 *	ring ──> core/check: soft and hard ──> core/device: who is the cause, what is held ──> state
 *	                                                    └── asks ──> watcher: measure this one now
 *
 * Records stay in the ring until what follows from them is on disk: a controller that dies in between leaves them to the next
 * one, which has read the statuses that were stored. The reason of a status is what was measured when it changed;
 * what is measured later is told as it is now, and is no news.
 */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "base/log.h"
#include "tell/devices_priv.h"

#define BATCH_MS 20	   /* a burst of results is stored as one */
#define BATCH_RECORDS 5000 /* looked at in one turn */
#define AGAIN_MS 1000	   /* after a disk that was full */
#define OVERDUE_LOOK_MS 5000 /* for checks of which nothing is heard */

uint64_t tell_steady_ms(const struct tell *t)
{
	return t->devices.clock_ms + t->ship->loop->now_ms;
}

uint32_t tell_device_index(const struct tell_device *d)
{
	return (uint32_t)(d - d->t->devices.rows);
}

/* --- results --- */

void tell_take_result(struct tell_check *c, enum status outcome, uint64_t at_ms, const char *text)
{
	struct tell *t = c->device->t;
	struct check_change change;

	device_feed(t->devices.graph, tell_device_index(c->device), &c->state, &c->rule, outcome, at_ms, &change);
	if (c->text && !(change.what & (CHECK_HARD | CHECK_BLIND | CHECK_SEES)))
		return;
	free(c->text);
	c->text = util_strdup(text);
}

/* Returns how many records there were, at most BATCH_RECORDS. */
static uint32_t look_at_ring(struct tell *t)
{
	struct tell_devices *x = &t->devices;
	uint64_t now = tell_steady_ms(t), wall = clock_wall_ms();
	uint32_t n = 0, len;
	const char *record;

	while (n < BATCH_RECORDS && (record = ring_look(&x->results->ring, &x->at, &len))) {
		char text[RESULT_TEXT_MAX + 1];
		struct tell_check *c;
		struct result r;

		n++;
		if (!result_read(record, len, &r, text))
			continue;
		c = map_get(&x->checks, r.check);
		if (!c) /* it has just gone from the configuration */
			continue;
		c->value = r.value;
		c->unit = (enum result_unit)r.unit;
		c->took_us = r.took_us;
		tell_take_result(c, (enum status)r.outcome, now - (wall > r.wall_ms ? MIN(wall - r.wall_ms, now) : 0), text);
	}
	return n;
}

/* Checks that were not heard of for too long: the watcher cannot keep up, or does not run. */
static void look_for_overdue(struct tell *t)
{
	struct tell_devices *x = &t->devices;
	uint64_t now = tell_steady_ms(t);

	if (now < x->overdue_look_ms)
		return;
	x->overdue_look_ms = now + OVERDUE_LOOK_MS;
	for (uint32_t i = 0; i < x->count; i++)
		for (uint32_t k = 0; k < x->rows[i].check_count; k++) {
			struct tell_check *c = &x->rows[i].checks[k];

			if (!c->rule.pushed && check_late_ms(&c->state, &c->rule) <= now)
				tell_take_result(c, STATUS_COUNT, now, "nothing was heard of its measurements");
		}
}

/* --- what follows --- */

static void ask(struct tell_device *d, uint64_t within_ms)
{
	for (uint32_t i = 0; i < d->check_count; i++) {
		struct msg_measure m = {d->checks[i].conf->id, within_ms};

		if (!d->checks[i].rule.pushed)
			msg_send(d->t->ship->keeper, MSG_MEASURE, &m, NULL, 0, NULL, 0);
	}
}

static void act(void *arg, const struct device_action *a)
{
	struct tell *t = arg;
	struct tell_device *d = &t->devices.rows[a->device];
	char span[CLOCK_TEXT];

	if (a->kind == DEVICE_ASK) {
		ask(d, a->within_ms);
		return;
	}
	d->told = a->now;
	d->was[0] = '\0';
	if (a->kind == DEVICE_WAS)
		snprintf(d->was, sizeof(d->was), "; was %s for %s", status_name(a->worst), clock_span(a->worst_ms, span));
	d->dirty = t->devices.dirty = true;
}

static void store_one(struct tell *t, struct tell_device *d)
{
	const char *name = d->conf->name, *status = status_name((enum status)d->told.status);
	char reason[TELL_REASON];

	tell_device_reason(d, reason);
	if (tell_is_news(t, name, status, reason))
		tell_news_put(t, name, "", status, reason, tell_device_json(d));
}

/* All that changed, in one transaction; false: it is tried again, and nothing was stored. */
static bool store(struct tell *t)
{
	struct tell_devices *x = &t->devices;
	struct err e;

	if (!x->dirty)
		return true;
	if (news_load(&t->news, t->ship->state, &e) == 0 && state_begin(t->ship->state, &e) == 0) {
		for (uint32_t i = 0; i < x->count; i++)
			if (x->rows[i].dirty)
				store_one(t, &x->rows[i]);
		if (state_commit(t->ship->state, &e) == 0) {
			for (uint32_t i = 0; i < x->count; i++)
				x->rows[i].dirty = false;
			x->dirty = false;
			return true;
		}
		news_forget(&t->news);
	}
	log_warn("device", "reason=\"%s\"", e.msg);
	return false;
}

/* --- turns --- */

static void again(struct tell *t, uint64_t in_ms)
{
	struct loop *loop = t->ship->loop;

	if (!t->devices.batch.armed || t->devices.batch.at_ms > loop->now_ms + in_ms)
		loop_timer_set(loop, &t->devices.batch, loop->now_ms + in_ms);
}

/* When there is something to do without any result. */
static void wait_for_time(struct tell *t)
{
	uint64_t now = tell_steady_ms(t), next = device_next_ms(t->devices.graph);

	if (t->devices.count)
		next = MIN(next, t->devices.overdue_look_ms);
	if (next != UINT64_MAX)
		again(t, next > now ? next - now : 0);
}

static void on_batch(struct loop_timer *timer)
{
	struct tell *t = container_of(timer, struct tell, devices.batch);
	struct tell_devices *x = &t->devices;
	uint32_t n;

	if (!x->graph || !t->ship->synced) {
		again(t, AGAIN_MS);
		return;
	}
	n = look_at_ring(t);
	look_for_overdue(t);
	device_settle(x->graph, tell_steady_ms(t), act, t);
	if (!store(t)) {
		again(t, AGAIN_MS);
		return;
	}
	ring_free(&x->results->ring, x->at);
	wait_for_time(t);
	if (n) {
		again(t, n == BATCH_RECORDS ? 0 : BATCH_MS);
		return;
	}
	/* Asleep: who writes from now on rings. What came just before is found by a last look. */
	atomic_store(&x->results->ring.sleeping, 1);
	if (ring_begin(&x->results->ring) != atomic_load(&x->results->ring.written))
		again(t, 0);
}

static void on_bell(struct loop_io *io, uint32_t events UNUSED)
{
	struct tell *t = container_of(io, struct tell, devices.bell);
	uint64_t rings;

	if (read(io->fd, &rings, sizeof(rings)) == sizeof(rings))
		again(t, BATCH_MS);
}

void tell_devices_soon(struct tell *t)
{
	again(t, BATCH_MS);
}

int tell_results(struct tell *t, int bell, int fd)
{
	struct tell_devices *x = &t->devices;

	x->results = results_map(fd);
	if (!x->results)
		return -1;
	x->clock_ms = clock_wall_ms() - t->ship->loop->now_ms;
	x->at = ring_begin(&x->results->ring);
	x->batch.on_time = on_batch;
	x->bell.on_ready = on_bell;
	if (loop_io_add(t->ship->loop, &x->bell, bell, EPOLLIN) < 0)
		return -1;
	again(t, 0); /* what an earlier controller left */
	return 0;
}
