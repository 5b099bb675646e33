/* SPDX-License-Identifier: Apache-2.0
 *
 * faulty ADDRESS BOOK DELAY_US CLOSE_US: a target for bench/faults and bench/changes. It answers each
 * request after DELAY_US, a GET with its path and a POST with its body, writes the body of each POST as a
 * line into BOOK when it has read all of it (that is what "executed" means here), and ends a connection on
 * which nothing was asked after a random time of up to twice CLOSE_US (0: never).
 */
#include <err.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <strings.h>
#include <sys/epoll.h>
#include <time.h>

#include "base/clock.h"
#include "sock.h"

#define CONNECTIONS 4096
#define REQUEST_MAX 8192

struct talk {
	bool open, answers; /* answers: at `due_us`; else it is ended then, if that is not 0 */
	uint64_t due_us;
	size_t len;
	char in[REQUEST_MAX + 1];
	size_t out_len;
	char out[REQUEST_MAX + 100];
};

static struct talk talks[CONNECTIONS]; /* by descriptor */
static int top, book;
static uint64_t delay_us, close_us, dice = 88172645463325252ull;

static uint64_t roll(uint64_t sides) /* xorshift64 */
{
	dice ^= dice << 13;
	dice ^= dice >> 7;
	dice ^= dice << 17;
	return dice % sides;
}

static void end(int fd)
{
	talks[fd].open = false;
	close(fd);
}

static void rest(struct talk *t)
{
	t->answers = false;
	t->due_us = close_us ? clock_us() + roll(2 * close_us) : 0;
}

static void prepare(struct talk *t, const char *body, size_t len)
{
	t->out_len = (size_t)snprintf(t->out, sizeof(t->out),
				      "HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\n"
				      "Content-Length: %zu\r\n\r\n",
				      len);
	memcpy(t->out + t->out_len, body, len);
	t->out_len += len;
}

/* Is a whole request there? Then it is executed, and to be answered. */
static void look(struct talk *t)
{
	const char *head_end, *field;
	size_t head, body;

	t->in[t->len] = '\0';
	head_end = strstr(t->in, "\r\n\r\n");
	if (t->answers || !head_end)
		return;
	head = (size_t)(head_end + 4 - t->in);
	field = strcasestr(t->in, "\r\ncontent-length:");
	body = field && field < head_end ? strtoul(field + 17, NULL, 10) : 0;
	if (t->len < head + body)
		return;
	if (!strncmp(t->in, "POST", 4)) {
		prepare(t, t->in + head, body);
		t->in[head + body] = '\n';
		if (write(book, t->in + head, body + 1) != (ssize_t)body + 1)
			errx(1, "the book takes no more");
	} else {
		const char *path = t->in + strcspn(t->in, " ") + 1;

		prepare(t, path, strcspn(path, " "));
	}
	t->len = 0; /* a proxy sends one at a time */
	t->answers = true;
	t->due_us = clock_us() + delay_us;
}

static void take(int fd)
{
	struct talk *t = &talks[fd];
	ssize_t n = read(fd, t->in + t->len, REQUEST_MAX - t->len);

	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		end(fd);
		return;
	}
	t->len += (size_t)n;
	look(t);
}

/* What is due; returns when the next is. */
static uint64_t turn(void)
{
	uint64_t next = clock_us() + 1000000;

	for (int fd = 0; fd <= top; fd++) {
		struct talk *t = &talks[fd];

		if (!t->open || !t->due_us)
			continue;
		if (clock_us() >= t->due_us && !t->answers) {
			end(fd);
			continue;
		}
		if (clock_us() >= t->due_us) {
			if (send(fd, t->out, t->out_len, MSG_NOSIGNAL) < 0) {
				end(fd);
				continue;
			}
			rest(t);
		}
		if (t->due_us)
			next = MIN(next, t->due_us);
	}
	return next;
}

static void greet(int listener, int epoll)
{
	int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
	struct epoll_event ev = {.events = EPOLLIN, .data.fd = fd};

	if (fd < 0)
		return;
	if (fd >= CONNECTIONS) {
		close(fd);
		return;
	}
	sock_nodelay(fd);
	top = MAX(top, fd);
	talks[fd] = (struct talk){.open = true};
	epoll_ctl(epoll, EPOLL_CTL_ADD, fd, &ev);
}

int main(int argc, char **argv)
{
	int epoll = epoll_create1(EPOLL_CLOEXEC), listener;
	struct epoll_event ev = {.events = EPOLLIN}, got[64];

	if (argc != 5)
		errx(2, "usage: faulty ADDRESS BOOK DELAY_US CLOSE_US");
	delay_us = strtoull(argv[3], NULL, 10);
	close_us = strtoull(argv[4], NULL, 10);
	book = open(argv[2], O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0644);
	if (book < 0)
		err(1, "%s", argv[2]);
	listener = sock_listen(argv[1]);
	ev.data.fd = listener;
	epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &ev);
	for (;;) {
		uint64_t next = turn(), now = clock_us();
		uint64_t us = next > now ? next - now : 0;
		struct timespec wait = {(time_t)(us / 1000000), (long)(us % 1000000) * 1000};
		int n = epoll_pwait2(epoll, got, ARRAY_LEN(got), &wait, NULL);

		for (int i = 0; i < n; i++) {
			if (got[i].data.fd == listener)
				greet(listener, epoll);
			else if (talks[got[i].data.fd].open)
				take(got[i].data.fd);
		}
	}
}
