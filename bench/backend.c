/* SPDX-License-Identifier: Apache-2.0
 *
 * backend ADDRESS [BYTES]: answers every GET with BYTES (default 100) bytes, as cheaply as
 * HTTP/1.1 can be answered, so that what is measured is what stands before it. It looks for
 * the empty line that ends a head, and at nothing else; requests with a body are not for it.
 */
#include <err.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>

#include "sock.h"

#define DESCRIPTORS (1 << 16)

static char answer[70000];
static size_t answer_len;
static uint8_t matched[DESCRIPTORS]; /* bytes of "\r\n\r\n" seen, for each descriptor */

/* How many heads end in these bytes? */
static unsigned heads(int fd, const char *p, size_t len)
{
	unsigned n = 0;

	for (size_t i = 0; i < len; i++) {
		const char *cr;

		if (matched[fd] == 0) {
			cr = memchr(p + i, '\r', len - i);
			if (!cr)
				break;
			i = (size_t)(cr - p);
		}
		if (p[i] == "\r\n\r\n"[matched[fd]])
			matched[fd]++;
		else
			matched[fd] = p[i] == '\r';
		if (matched[fd] == 4) {
			matched[fd] = 0;
			n++;
		}
	}
	return n;
}

static void serve(int fd)
{
	static char in[65536];
	ssize_t len = read(fd, in, sizeof(in));

	if (len <= 0) {
		close(fd);
		return;
	}
	for (unsigned n = heads(fd, in, (size_t)len); n; n--) {
		if (send(fd, answer, answer_len, MSG_NOSIGNAL) != (ssize_t)answer_len) {
			close(fd);
			return;
		}
	}
}

int main(int argc, char **argv)
{
	struct epoll_event ev = {.events = EPOLLIN}, got[256];
	int epoll = epoll_create1(EPOLL_CLOEXEC), listener, size = argc > 2 ? atoi(argv[2]) : 100;

	if (argc < 2 || size < 0 || size > 65536)
		errx(2, "usage: backend ADDRESS [BYTES up to 65536]");
	answer_len = (size_t)snprintf(answer, sizeof(answer),
				      "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
				      "Content-Length: %d\r\n\r\n",
				      size);
	memset(answer + answer_len, 'x', (size_t)size);
	answer_len += (size_t)size;
	listener = sock_listen(argv[1]);
	ev.data.fd = listener;
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &ev);
	for (;;) {
		int n = epoll_wait(epoll, got, ARRAY_LEN(got), -1);

		for (int i = 0; i < n; i++) {
			if (got[i].data.fd != listener) {
				serve(got[i].data.fd);
				continue;
			}
			ev.data.fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
			if (ev.data.fd < 0)
				continue;
			if (ev.data.fd >= DESCRIPTORS) {
				close(ev.data.fd);
				continue;
			}
			sock_nodelay(ev.data.fd);
			matched[ev.data.fd] = 0;
			epoll_ctl(epoll, EPOLL_CTL_ADD, ev.data.fd, &ev);
		}
	}
}
