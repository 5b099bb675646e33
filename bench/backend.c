/* SPDX-License-Identifier: Apache-2.0
 *
 * backend ADDRESS: answers "GET /BYTES" with so many bytes (100 where no number stands), as cheaply as
 * HTTP/1.1 can be answered, so that what is measured is what stands before it. It looks for the path
 * and for the empty line that ends a head, and at nothing else; requests with a body are not for it.
 * What the socket does not take waits, and nothing more is read meanwhile.
 */
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>

#include "sock.h"

#define DESCRIPTORS (1 << 16)
#define BYTES_MAX (1u << 20)
#define SIZES 8 /* different ones in a run */

struct answer {
	uint32_t bytes; /* of the body */
	size_t len;
	char *text;
};

static struct peer {
	uint8_t matched; /* bytes of "\r\n\r\n" seen */
	bool in_head;
	const struct answer *wanted; /* by the head at hand, then by what is being sent */
	uint32_t owed;		     /* answers, of the same size: as many heads came at once */
	size_t sent;		     /* of the first of them */
} peers[DESCRIPTORS];

static struct answer answers[SIZES];
static int epoll;

static const struct answer *answer_of(uint32_t bytes)
{
	struct answer *a = answers;
	size_t room = BYTES_MAX + 200;

	while (a->text && a->bytes != bytes)
		if (++a == answers + SIZES)
			errx(1, "more than %d sizes", SIZES);
	if (a->text)
		return a;
	a->text = util_alloc(room);
	a->bytes = bytes;
	a->len = (size_t)snprintf(a->text, room,
				  "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
				  "Content-Length: %u\r\n\r\n",
				  bytes);
	memset(a->text + a->len, 'x', bytes);
	a->len += bytes;
	return a;
}

/* "GET /123 HTTP/1.1": a request line that comes in pieces counts as one without a number. */
static const struct answer *wanted(const char *p, size_t len)
{
	uint32_t bytes = 0;
	size_t i = 5;

	if (len > i && p[i] >= '0' && p[i] <= '9') {
		while (i < len && p[i] >= '0' && p[i] <= '9' && bytes <= BYTES_MAX)
			bytes = bytes * 10 + (uint32_t)(p[i++] - '0');
		return answer_of(MIN(bytes, BYTES_MAX));
	}
	return answer_of(100);
}

/* Counts the heads that end in these bytes. */
static void heads(struct peer *e, const char *p, size_t len)
{
	for (size_t i = 0; i < len; i++) {
		const char *cr;

		if (!e->in_head) {
			e->in_head = true;
			e->wanted = wanted(p + i, len - i);
		}
		if (e->matched == 0) {
			cr = memchr(p + i, '\r', len - i);
			if (!cr)
				break;
			i = (size_t)(cr - p);
		}
		if (p[i] == "\r\n\r\n"[e->matched])
			e->matched++;
		else
			e->matched = p[i] == '\r';
		if (e->matched == 4) {
			e->matched = 0;
			e->in_head = false;
			e->owed++;
		}
	}
}

/* False: the peer is gone. */
static bool answer(struct peer *e, int fd)
{
	while (e->owed) {
		ssize_t n = send(fd, e->wanted->text + e->sent, e->wanted->len - e->sent, MSG_NOSIGNAL);

		if (n < 0)
			return errno == EAGAIN;
		e->sent += (size_t)n;
		if (e->sent == e->wanted->len) {
			e->sent = 0;
			e->owed--;
		}
	}
	return true;
}

static void serve(int fd, uint32_t events)
{
	static char in[65536];
	struct peer *e = &peers[fd];
	struct epoll_event ev = {.data.fd = fd};
	bool was_owing = e->owed;
	ssize_t len = 1;

	if (events & (EPOLLIN | EPOLLHUP | EPOLLERR) && !was_owing) {
		len = read(fd, in, sizeof(in));
		if (len > 0)
			heads(e, in, (size_t)len);
	}
	if (len <= 0 || !answer(e, fd)) {
		close(fd);
		return;
	}
	if (was_owing == (e->owed > 0))
		return;
	ev.events = e->owed ? EPOLLOUT : EPOLLIN;
	epoll_ctl(epoll, EPOLL_CTL_MOD, fd, &ev);
}

static void take_in(int listener)
{
	struct epoll_event ev = {.events = EPOLLIN};

	ev.data.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	if (ev.data.fd < 0)
		return;
	if (ev.data.fd >= DESCRIPTORS) {
		close(ev.data.fd);
		return;
	}
	sock_nodelay(ev.data.fd);
	peers[ev.data.fd] = (struct peer){0};
	epoll_ctl(epoll, EPOLL_CTL_ADD, ev.data.fd, &ev);
}

int main(int argc, char **argv)
{
	struct epoll_event ev = {.events = EPOLLIN}, got[256];

	if (argc != 2)
		errx(2, "usage: backend ADDRESS");
	epoll = epoll_create1(EPOLL_CLOEXEC);
	ev.data.fd = sock_listen(argv[1]);
	epoll_ctl(epoll, EPOLL_CTL_ADD, ev.data.fd, &ev);
	for (;;) {
		int n = epoll_wait(epoll, got, ARRAY_LEN(got), -1);

		for (int i = 0; i < n; i++) {
			if (got[i].data.fd == ev.data.fd)
				take_in(ev.data.fd);
			else
				serve(got[i].data.fd, got[i].events);
		}
	}
}
