/* SPDX-License-Identifier: Apache-2.0
 *
 * The event loop: descriptors (epoll), timers (a heap), signals (signalfd) and
 * children (pidfd), each an intrusive struct that its owner embeds and that
 * must outlive its registration. One loop belongs to one thread.
 *
 * The clock is read once a turn: loop->now_ms is the time that every callback
 * and decision of that turn sees.
 *
 * Callbacks may remove and free any io, timer or child, their own included.
 */
#pragma once

#include <signal.h>
#include <sys/epoll.h>
#include <sys/types.h>

#include "base/util.h"

#define LOOP_EVENTS 256 /* events taken in one turn */

struct loop_io {
	void (*on_ready)(struct loop_io *io, uint32_t events);
	int fd; /* -1 when not registered */
};

struct loop_timer {
	void (*on_time)(struct loop_timer *timer);
	uint64_t at_ms;	 /* when it is due; meaningless when not armed */
	uint32_t place;	 /* place in the heap + 1; 0: not in it */
	bool armed;
};

struct loop_child {
	void (*on_exit)(struct loop_child *child, int wait_status);
	struct loop_io io;
	struct loop *loop;
	pid_t pid; /* 0 when not registered */
};

struct loop_slot; /* one place of the timer heap */

struct loop {
	uint64_t now_ms;
	int epoll;
	bool stopped;
	struct loop_slot *heap;
	uint32_t heap_len, heap_cap;
	struct epoll_event events[LOOP_EVENTS];
	int events_len, events_at;
	struct loop_io signal_io;
	void (*on_signal)(struct loop *loop, int signo);
};

int loop_init(struct loop *loop); /* 0, or -1 with errno */
void loop_fini(struct loop *loop);

/* Watches fd for epoll `events` (add EPOLLET, EPOLLEXCLUSIVE and the like as wanted).
 * on_ready must be set. 0, or -1 with errno. */
int loop_io_add(struct loop *loop, struct loop_io *io, int fd, uint32_t events);
int loop_io_change(struct loop *loop, struct loop_io *io, uint32_t events);
/* Stops watching; no event that is already in hand reaches it. Does not close the descriptor. */
void loop_io_del(struct loop *loop, struct loop_io *io);

/* Arms or moves a timer. Moving it later costs nothing: the heap learns of it when the old time
 * comes. Aborts only when memory for the heap is gone. */
void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t at_ms);
void loop_timer_stop(struct loop *loop, struct loop_timer *timer);
/* Must be called before the memory of a timer that was ever armed is freed. */
void loop_timer_fini(struct loop *loop, struct loop_timer *timer);

/* Blocks the signals of the set for this process and reports them through on_signal. */
int loop_signals(struct loop *loop, const sigset_t *set,
		 void (*on_signal)(struct loop *loop, int signo));

/* Reports the end of a child of this process, once, and reaps it. 0, or -1 with errno. */
int loop_child_add(struct loop *loop, struct loop_child *child, pid_t pid);
void loop_child_del(struct loop *loop, struct loop_child *child);

/* One turn: waits at most until the next timer (and at most max_ms; -1: no limit). */
void loop_turn(struct loop *loop, int max_ms);
/* Turns until loop_stop(). */
void loop_run(struct loop *loop);
void loop_stop(struct loop *loop);
