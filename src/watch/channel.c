/* SPDX-License-Identifier: Apache-2.0 */
#include "watch/channel.h"

struct channel_io {
	struct loop_io io;
	struct watch_channel *channel;
	uint32_t events;
};

void watch_channel_asked(struct watch_channel *ch)
{
	struct timeval most = {.tv_sec = 60}, tv;
	struct timeval *left = ares_timeout(ch->ares, &most, &tv);

	if (ch->going)
		loop_timer_set(ch->loop, &ch->timer, ch->loop->now_ms + (uint64_t)left->tv_sec * 1000 +
							     (uint64_t)left->tv_usec / 1000 + 1);
	else
		loop_timer_stop(ch->loop, &ch->timer);
}

static void on_time(struct loop_timer *t)
{
	struct watch_channel *ch = container_of(t, struct watch_channel, timer);

	ares_process_fd(ch->ares, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	watch_channel_asked(ch);
}

static void on_io(struct loop_io *io, uint32_t events)
{
	struct watch_channel *ch = container_of(io, struct channel_io, io)->channel;
	int fd = io->fd;

	ares_process_fd(ch->ares, events & (EPOLLIN | EPOLLERR | EPOLLHUP) ? fd : ARES_SOCKET_BAD,
			events & EPOLLOUT ? fd : ARES_SOCKET_BAD);
	watch_channel_asked(ch);
}

static void on_socket(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct watch_channel *ch = arg;
	uint32_t events = (readable ? EPOLLIN : 0u) | (writable ? EPOLLOUT : 0u);
	struct channel_io *x = map_get(&ch->ios, (uint64_t)fd + 1);

	if (!events && x) {
		loop_io_del(ch->loop, &x->io);
		map_del(&ch->ios, (uint64_t)fd + 1);
		free(x);
	} else if (x && events != x->events) {
		x->events = events;
		loop_io_change(ch->loop, &x->io, events);
	} else if (events && !x) {
		x = util_alloc(sizeof(*x));
		*x = (struct channel_io){.io = {.on_ready = on_io, .fd = -1}, .channel = ch, .events = events};
		map_put(&ch->ios, (uint64_t)fd + 1, x);
		if (loop_io_add(ch->loop, &x->io, fd, events) < 0) /* it is asked anew when its time is over */
			return;
	}
}

int watch_channel_open(struct watch_channel *ch, struct loop *loop, const char *servers, int timeout_ms, int tries, int flags)
{
	struct ares_options o = {.flags = flags, .timeout = timeout_ms, .tries = tries, .sock_state_cb = on_socket,
				 .sock_state_cb_data = ch};
	int r = ares_init_options(&ch->ares, &o,
				  ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);

	ch->loop = loop;
	ch->timer.on_time = on_time;
	if (r == ARES_SUCCESS && servers) {
		r = ares_set_servers_ports_csv(ch->ares, servers);
		if (r != ARES_SUCCESS)
			ares_destroy(ch->ares);
	}
	return r;
}

void watch_channel_close(struct watch_channel *ch)
{
	ares_destroy(ch->ares);
	loop_timer_fini(ch->loop, &ch->timer);
	map_free(&ch->ios);
}
