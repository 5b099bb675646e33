/* SPDX-License-Identifier: Apache-2.0
 *
 * Timers sit in a 4-ary heap that keeps its own copy of the due time. Setting a
 * timer later, which a busy connection does for each request, only writes the
 * timer; when the heap's older time comes up, the entry sinks to the new place.
 */
#include "loop/loop.h"

#include <errno.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"

struct loop_slot {
	uint64_t at_ms;
	struct loop_timer *timer;
};

int loop_init(struct loop *loop)
{
	memset(loop, 0, sizeof(*loop));
	loop->signal_io.fd = -1;
	loop->epoll = epoll_create1(EPOLL_CLOEXEC);
	loop->now_ms = clock_ms();
	return loop->epoll < 0 ? -1 : 0;
}

void loop_fini(struct loop *loop)
{
	if (loop->signal_io.fd >= 0)
		close(loop->signal_io.fd);
	close(loop->epoll);
	free(loop->heap);
}

int loop_io_add(struct loop *loop, struct loop_io *io, int fd, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = io};

	ensure(io->on_ready);
	if (epoll_ctl(loop->epoll, EPOLL_CTL_ADD, fd, &ev) < 0)
		return -1;
	io->fd = fd;
	return 0;
}

int loop_io_change(struct loop *loop, struct loop_io *io, uint32_t events)
{
	struct epoll_event ev = {.events = events, .data.ptr = io};

	return epoll_ctl(loop->epoll, EPOLL_CTL_MOD, io->fd, &ev);
}

void loop_io_del(struct loop *loop, struct loop_io *io)
{
	if (io->fd < 0)
		return;
	epoll_ctl(loop->epoll, EPOLL_CTL_DEL, io->fd, NULL);
	io->fd = -1;
	for (int i = loop->events_at + 1; i < loop->events_len; i++)
		if (loop->events[i].data.ptr == io)
			loop->events[i].data.ptr = NULL;
}

static void heap_put(struct loop *loop, uint32_t i, struct loop_slot slot)
{
	loop->heap[i] = slot;
	slot.timer->place = i + 1;
}

static void heap_up(struct loop *loop, uint32_t i)
{
	struct loop_slot slot = loop->heap[i];

	while (i > 0 && loop->heap[(i - 1) / 4].at_ms > slot.at_ms) {
		heap_put(loop, i, loop->heap[(i - 1) / 4]);
		i = (i - 1) / 4;
	}
	heap_put(loop, i, slot);
}

static void heap_down(struct loop *loop, uint32_t i)
{
	struct loop_slot slot = loop->heap[i];

	for (;;) {
		uint32_t least = i, end = MIN(4 * i + 5, loop->heap_len);
		uint64_t at = slot.at_ms;

		for (uint32_t c = 4 * i + 1; c < end; c++) {
			if (loop->heap[c].at_ms < at) {
				at = loop->heap[c].at_ms;
				least = c;
			}
		}
		if (least == i)
			break;
		heap_put(loop, i, loop->heap[least]);
		i = least;
	}
	heap_put(loop, i, slot);
}

static void heap_remove(struct loop *loop, uint32_t i)
{
	struct loop_slot last = loop->heap[--loop->heap_len];

	loop->heap[i].timer->place = 0;
	if (i == loop->heap_len)
		return;
	heap_put(loop, i, last);
	heap_down(loop, i);
	heap_up(loop, last.timer->place - 1);
}

void loop_timer_set(struct loop *loop, struct loop_timer *timer, uint64_t at_ms)
{
	ensure(timer->on_time);
	timer->at_ms = at_ms;
	timer->armed = true;
	if (timer->place) {
		struct loop_slot *slot = &loop->heap[timer->place - 1];

		if (at_ms < slot->at_ms) {
			slot->at_ms = at_ms;
			heap_up(loop, timer->place - 1);
		}
		return;
	}
	if (loop->heap_len == loop->heap_cap) {
		loop->heap_cap = loop->heap_cap ? loop->heap_cap * 2 : 64;
		loop->heap = realloc(loop->heap, loop->heap_cap * sizeof(*loop->heap));
		ensure(loop->heap);
	}
	loop->heap[loop->heap_len] = (struct loop_slot){at_ms, timer};
	heap_up(loop, loop->heap_len++);
}

void loop_timer_stop(struct loop *loop, struct loop_timer *timer)
{
	(void)loop;
	timer->armed = false;
}

void loop_timer_fini(struct loop *loop, struct loop_timer *timer)
{
	timer->armed = false;
	if (timer->place)
		heap_remove(loop, timer->place - 1);
}

static void run_timers(struct loop *loop)
{
	while (loop->heap_len && loop->heap[0].at_ms <= loop->now_ms) {
		struct loop_timer *timer = loop->heap[0].timer;

		if (timer->armed && timer->at_ms > loop->now_ms) {
			loop->heap[0].at_ms = timer->at_ms;
			heap_down(loop, 0);
			continue;
		}
		heap_remove(loop, 0);
		if (timer->armed) {
			timer->armed = false;
			timer->on_time(timer);
		}
	}
}

static void read_signals(struct loop_io *io, uint32_t events)
{
	struct loop *loop = container_of(io, struct loop, signal_io);
	struct signalfd_siginfo info;

	(void)events;
	while (read(io->fd, &info, sizeof(info)) == sizeof(info))
		loop->on_signal(loop, (int)info.ssi_signo);
}

int loop_signals(struct loop *loop, const sigset_t *set,
		 void (*on_signal)(struct loop *loop, int signo))
{
	int fd;

	if (sigprocmask(SIG_BLOCK, set, NULL) < 0)
		return -1;
	fd = signalfd(-1, set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (fd < 0)
		return -1;
	loop->on_signal = on_signal;
	loop->signal_io.on_ready = read_signals;
	return loop_io_add(loop, &loop->signal_io, fd, EPOLLIN);
}

static void child_ended(struct loop_io *io, uint32_t events)
{
	struct loop_child *child = container_of(io, struct loop_child, io);
	int status = 0, fd = io->fd;

	(void)events;
	if (waitpid(child->pid, &status, WNOHANG) != child->pid)
		return;
	loop_io_del(child->loop, io);
	close(fd);
	child->pid = 0;
	child->on_exit(child, status);
}

int loop_child_add(struct loop *loop, struct loop_child *child, pid_t pid)
{
	int fd = (int)syscall(SYS_pidfd_open, pid, 0);

	if (fd < 0)
		return -1;
	child->pid = pid;
	child->loop = loop;
	child->io.on_ready = child_ended;
	if (loop_io_add(loop, &child->io, fd, EPOLLIN) < 0) {
		int saved = errno;

		close(fd);
		errno = saved;
		return -1;
	}
	return 0;
}

void loop_child_del(struct loop *loop, struct loop_child *child)
{
	int fd = child->io.fd;

	if (!child->pid)
		return;
	loop_io_del(loop, &child->io);
	close(fd);
	child->pid = 0;
}

static int wait_ms(const struct loop *loop, int max_ms)
{
	uint64_t until;

	if (!loop->heap_len)
		return max_ms;
	until = loop->heap[0].at_ms > loop->now_ms ? loop->heap[0].at_ms - loop->now_ms : 0;
	if (max_ms >= 0 && until > (uint64_t)max_ms)
		return max_ms;
	return (int)MIN(until, 3600000u);
}

void loop_turn(struct loop *loop, int max_ms)
{
	int n = epoll_wait(loop->epoll, loop->events, LOOP_EVENTS, wait_ms(loop, max_ms));

	ensure(n >= 0 || errno == EINTR);
	loop->now_ms = clock_ms();
	loop->events_len = MAX(n, 0);
	for (loop->events_at = 0; loop->events_at < loop->events_len; loop->events_at++) {
		struct epoll_event *ev = &loop->events[loop->events_at];
		struct loop_io *io = ev->data.ptr;

		if (io)
			io->on_ready(io, ev->events);
	}
	loop->events_len = 0;
	run_timers(loop);
}

void loop_run(struct loop *loop)
{
	loop->stopped = false;
	while (!loop->stopped)
		loop_turn(loop, -1);
}

void loop_stop(struct loop *loop)
{
	loop->stopped = true;
}
