/* SPDX-License-Identifier: Apache-2.0 */
#include "wire/msg.h"

#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/map.h"

#define MSG_BODY_MAX 4096
#define MSG_PACKET_MAX (sizeof(struct msg_header) + MSG_BODY_MAX + MSG_TAIL_MAX)
#define MSG_BUDGET 64 /* messages taken in one turn of the loop */

struct msg_header {
	uint32_t type;
	uint32_t tail_len;
};

struct msg_queued {
	struct msg_queued *next;
	size_t len;
	int fds[MSG_FDS_MAX];
	int fds_len;
	char packet[];
};

static const struct {
	const char *name;
	size_t size;
	int fds;
	bool tail;
} rows[MSG_COUNT] = {
#define X(n, type, fds_, tail_, what) [MSG_##n] = {#n, sizeof(struct type), fds_, tail_},
	MSG_TABLE(X)
#undef X
};

#define X(n, type, fds_, tail_, what)                                                              \
	static_assert(sizeof(struct type) <= MSG_BODY_MAX, "body of " #n " is too long");          \
	static_assert(fds_ <= MSG_FDS_MAX, "too many descriptors in " #n);
MSG_TABLE(X)
#undef X

const char *part_name(enum part part)
{
	static const char *const names[PART_COUNT] = {
#define X(name, lower, what) [PART_##name] = #lower,
		PART_TABLE(X)
#undef X
	};

	return names[part];
}

const char *instance_state_name(enum instance_state state)
{
	static const char *const names[INSTANCE_STATE_COUNT] = {
#define X(name, lower, what) [INSTANCE_##name] = #lower,
		INSTANCE_STATE_TABLE(X)
#undef X
	};

	return names[state];
}

int shared_at(enum part part, enum shared_fd which)
{
	static const bool gets[PART_COUNT][SHARED_COUNT] = {
		[PART_ROUTER] = {true, true, true, true},
		[PART_OTHER] = {true, true, true, true},
		[PART_CONTROLLER] = {[SHARED_NUMBERS] = true, [SHARED_ROUTER_BELL] = true,
				     [SHARED_RESULT_BELL] = true, [SHARED_RESULTS] = true},
		[PART_LOGGER] = {[SHARED_LOG_BELL] = true, [SHARED_RING] = true},
		[PART_WATCHER] = {[SHARED_RESULT_BELL] = true, [SHARED_RESULTS] = true},
	};
	int at = 0;

	if (!gets[part][which])
		return -1;
	for (int i = 0; i < (int)which; i++)
		at += gets[part][i];
	return at;
}

size_t msg_body_size(enum msg_type type)
{
	return rows[type].size;
}

const char *msg_name(enum msg_type type)
{
	return rows[type].name;
}

static uint32_t mix(uint32_t sum, const void *data, size_t len)
{
	for (const uint8_t *p = data; len--; p++)
		sum = (sum ^ *p) * 16777619u; /* FNV-1a */
	return sum;
}

uint32_t msg_protocol(void)
{
	uint32_t sum = 2166136261u;

	for (int i = MSG_NONE + 1; i < MSG_COUNT; i++) {
		uint32_t shape[] = {(uint32_t)rows[i].size, (uint32_t)rows[i].fds, rows[i].tail};

		sum = mix(sum, rows[i].name, strlen(rows[i].name) + 1);
		sum = mix(sum, shape, sizeof(shape));
	}
	return sum;
}

int msg_pair(int ret_fds[2])
{
	int size = 1 << 20;

	if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ret_fds) < 0)
		return -1;
	for (int i = 0; i < 2; i++) /* a wish: more room means less queueing in this process */
		setsockopt(ret_fds[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size));
	return 0;
}

int msg_decode(void *packet, size_t len, int fds_len, struct msg *ret, struct err *e)
{
	struct msg_header h;

	if (len < sizeof(h))
		return err_set(e, ERR_PROTO, "a message of %zu bytes has no header", len);
	memcpy(&h, packet, sizeof(h));
	if (h.type <= MSG_NONE || h.type >= MSG_COUNT)
		return err_set(e, ERR_PROTO, "no message has the number %u", h.type);
	if (h.tail_len > MSG_TAIL_MAX || (h.tail_len && !rows[h.type].tail) ||
	    len != sizeof(h) + rows[h.type].size + h.tail_len)
		return err_set(e, ERR_PROTO, "message %s has the wrong length %zu",
			       rows[h.type].name, len);
	if (fds_len > rows[h.type].fds)
		return err_set(e, ERR_PROTO, "message %s brings %d descriptors", rows[h.type].name,
			       fds_len);
	ret->type = (enum msg_type)h.type;
	ret->body = (char *)packet + sizeof(h);
	ret->tail = (char *)packet + sizeof(h) + rows[h.type].size;
	ret->tail_len = h.tail_len;
	ret->fds_len = fds_len;
	return 0;
}

bool msg_strings(const struct msg *m, size_t *at, uint32_t n, const char **ret)
{
	for (uint32_t i = 0; i < n; i++) {
		const char *end;

		if (*at >= m->tail_len)
			return false;
		end = memchr(m->tail + *at, 0, m->tail_len - *at);
		if (!end)
			return false;
		ret[i] = m->tail + *at;
		*at = (size_t)(end - m->tail) + 1;
	}
	return true;
}

static void end_channel(struct msg_channel *ch, const char *reason)
{
	msg_channel_close(ch);
	ch->on_end(ch, reason);
}

/* Receives one packet. 1: a message was handled; 0: none there; -1: the channel ended. */
static int receive(struct msg_channel *ch)
{
	static _Thread_local char packet[MSG_PACKET_MAX] __attribute__((aligned(8)));
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(MSG_FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = {packet, sizeof(packet)};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1, .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	ssize_t n = recvmsg(ch->io.fd, &h, MSG_CMSG_CLOEXEC);
	struct msg m = {0};
	struct err e;
	int bad;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : (end_channel(ch, "broken"), -1);
	for (struct cmsghdr *c = CMSG_FIRSTHDR(&h); c; c = CMSG_NXTHDR(&h, c)) {
		if (c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
			continue;
		m.fds_len = (int)((c->cmsg_len - CMSG_LEN(0)) / sizeof(int));
		memcpy(m.fds, CMSG_DATA(c), (size_t)m.fds_len * sizeof(int));
	}
	if (n == 0)
		return end_channel(ch, "closed"), -1;
	bad = h.msg_flags & (MSG_TRUNC | MSG_CTRUNC)
		      ? err_set(&e, ERR_PROTO, "a message is too long")
		      : msg_decode(packet, (size_t)n, m.fds_len, &m, &e);
	if (!bad)
		ch->on_msg(ch, &m);
	for (int i = 0; i < m.fds_len; i++)
		if (m.fds[i] >= 0)
			close(m.fds[i]);
	if (bad && msg_channel_is_open(ch))
		end_channel(ch, e.msg);
	return msg_channel_is_open(ch) ? 1 : -1;
}

void msg_channel_read(struct msg_channel *ch)
{
	for (int i = 0; i < MSG_BUDGET && msg_channel_is_open(ch) && receive(ch) > 0; i++)
		;
}

static ssize_t send_packet(int fd, const void *packet, size_t len, const int *fds, int fds_len)
{
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(MSG_FDS_MAX * sizeof(int))];
	} control;
	struct iovec iov = {(void *)packet, len};
	struct msghdr h = {.msg_iov = &iov, .msg_iovlen = 1};

	if (fds_len) {
		struct cmsghdr *c;

		memset(&control, 0, sizeof(control));
		h.msg_control = &control;
		h.msg_controllen = CMSG_SPACE((size_t)fds_len * sizeof(int));
		c = CMSG_FIRSTHDR(&h);
		c->cmsg_level = SOL_SOCKET;
		c->cmsg_type = SCM_RIGHTS;
		c->cmsg_len = CMSG_LEN((size_t)fds_len * sizeof(int));
		memcpy(CMSG_DATA(c), fds, (size_t)fds_len * sizeof(int));
	}
	return sendmsg(fd, &h, MSG_NOSIGNAL);
}

static void free_queued(struct msg_queued *q)
{
	for (int i = 0; i < q->fds_len; i++)
		close(q->fds[i]);
	free(q);
}

static void flush_queue(struct msg_channel *ch)
{
	while (ch->queue) {
		struct msg_queued *q = ch->queue;

		if (send_packet(ch->io.fd, q->packet, q->len, q->fds, q->fds_len) < 0) {
			/* Anything but "full" shows up as the end of the channel when reading. */
			if (errno == EAGAIN)
				return;
		}
		ch->queue = q->next;
		ch->queue_len--;
		free_queued(q);
	}
	ch->queue_tail = &ch->queue;
	loop_io_change(ch->loop, &ch->io, EPOLLIN);
}

static void on_ready(struct loop_io *io, uint32_t events)
{
	struct msg_channel *ch = container_of(io, struct msg_channel, io);

	if ((events & EPOLLOUT) && ch->queue)
		flush_queue(ch);
	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR))
		msg_channel_read(ch);
}

int msg_channel_open(struct msg_channel *ch, struct loop *loop, int fd)
{
	ensure(ch->on_msg && ch->on_end);
	ch->io.on_ready = on_ready;
	ch->queue = NULL;
	ch->queue_tail = &ch->queue;
	ch->queue_len = 0;
	if (loop_io_add(loop, &ch->io, fd, EPOLLIN) < 0)
		return -1;
	ch->loop = loop;
	return 0;
}

void msg_channel_close(struct msg_channel *ch)
{
	int fd = ch->io.fd;

	if (!ch->loop)
		return;
	loop_io_del(ch->loop, &ch->io);
	close(fd);
	while (ch->queue) {
		struct msg_queued *q = ch->queue;

		ch->queue = q->next;
		free_queued(q);
	}
	ch->loop = NULL;
}

/* Keeps a packet, with copies of its descriptors, until the socket takes more. */
static bool enqueue(struct msg_channel *ch, const void *packet, size_t len, const int *fds,
		    int fds_len)
{
	struct msg_queued *q = malloc(sizeof(*q) + len);

	if (!q)
		return false;
	*q = (struct msg_queued){.len = len};
	memcpy(q->packet, packet, len);
	for (int i = 0; i < fds_len; i++) {
		q->fds[i] = dup(fds[i]);
		if (q->fds[i] < 0) {
			free_queued(q);
			return false;
		}
		q->fds_len++;
	}
	*ch->queue_tail = q;
	ch->queue_tail = &q->next;
	if (ch->queue_len++ == 0)
		loop_io_change(ch->loop, &ch->io, EPOLLIN | EPOLLOUT);
	return true;
}

bool msg_send(struct msg_channel *ch, enum msg_type type, const void *body, const void *tail,
	      size_t tail_len, const int *fds, int fds_len)
{
	static _Thread_local char packet[MSG_PACKET_MAX] __attribute__((aligned(8)));
	struct msg_header h = {type, (uint32_t)tail_len};
	size_t len = sizeof(h) + rows[type].size + tail_len;

	ensure(tail_len <= MSG_TAIL_MAX && fds_len <= rows[type].fds);
	ensure(!tail_len || rows[type].tail);
	if (!ch->loop)
		return false;
	memcpy(packet, &h, sizeof(h));
	memcpy(packet + sizeof(h), body, rows[type].size);
	if (tail_len)
		memcpy(packet + sizeof(h) + rows[type].size, tail, tail_len);
	if (!ch->queue) {
		if (send_packet(ch->io.fd, packet, len, fds, fds_len) >= 0)
			return true;
		if (errno != EAGAIN && errno != ENOBUFS)
			return false; /* the loop reports the end */
	}
	if (ch->queue_len < MSG_QUEUE_MAX && enqueue(ch, packet, len, fds, fds_len))
		return true;
	/* Too far behind: end it from the loop, where on_end may be called safely. */
	shutdown(ch->io.fd, SHUT_RDWR);
	return false;
}

uint64_t msg_listen_id(enum listen_kind kind, const char *addr)
{
	const uint32_t number = kind;

	return map_hash_more(map_hash(&number, sizeof(number)), addr, strlen(addr));
}
