/* SPDX-License-Identifier: Apache-2.0
 *
 * relay LISTEN TARGET: bytes from each connection to one of its own at the target, and back.
 * No HTTP, no pool, no log: what any proxy must at least spend on this machine (one wait, two
 * reads and two writes a request), so the limit that the others are held against.
 */
#include <err.h>
#include <errno.h>
#include <signal.h>
#include <sys/epoll.h>

#include "sock.h"

#define DESCRIPTORS (1 << 16)

static int peer[DESCRIPTORS]; /* of each descriptor; 0: none */
static int epoll;

static void watch(int fd, uint32_t events, int op)
{
	struct epoll_event ev = {.events = events, .data.fd = fd};

	epoll_ctl(epoll, op, fd, &ev);
}

static void end(int fd)
{
	int other = peer[fd];

	peer[fd] = peer[other] = 0;
	close(fd);
	close(other);
}

/* What does not fit is waited for: the messages of the benchmark are smaller than any socket's
 * buffer, so this is for slow readers only. */
static bool pass_on(int to, const char *p, size_t len)
{
	while (len) {
		ssize_t n = send(to, p, len, MSG_NOSIGNAL);

		if (n < 0 && errno != EAGAIN)
			return false;
		p += MAX(n, 0);
		len -= (size_t)MAX(n, 0);
	}
	return true;
}

static void move(int fd)
{
	static char bytes[65536];
	ssize_t len = read(fd, bytes, sizeof(bytes));

	if (len < 0 && errno == EAGAIN)
		return;
	if (len <= 0 || !pass_on(peer[fd], bytes, (size_t)len))
		end(fd);
}

static void take(int listener, const struct sock_addr *target)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	int other = fd < 0 ? -1 : sock_connect(target);

	if (fd < 0)
		return;
	if (other < 0 || fd >= DESCRIPTORS || other >= DESCRIPTORS) {
		close(fd);
		if (other >= 0)
			close(other);
		return;
	}
	sock_nodelay(fd);
	peer[fd] = other;
	peer[other] = fd;
	watch(fd, EPOLLIN, EPOLL_CTL_ADD);
	watch(other, EPOLLIN, EPOLL_CTL_ADD);
}

int main(int argc, char **argv)
{
	struct epoll_event got[256];
	struct sock_addr target;
	int listener;

	if (argc != 3)
		errx(2, "usage: relay LISTEN TARGET");
	target = sock_addr(argv[2]);
	listener = sock_listen(argv[1]);
	epoll = epoll_create1(EPOLL_CLOEXEC);
	watch(listener, EPOLLIN, EPOLL_CTL_ADD);
	for (;;) {
		int n = epoll_wait(epoll, got, ARRAY_LEN(got), -1);

		for (int i = 0; i < n; i++) {
			int fd = got[i].data.fd;

			if (fd == listener)
				take(listener, &target);
			else if (peer[fd])
				move(fd);
		}
	}
}
