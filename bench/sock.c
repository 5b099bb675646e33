/* SPDX-License-Identifier: Apache-2.0 */
#include "sock.h"

#include <arpa/inet.h>
#include <err.h>
#include <errno.h>
#include <netinet/tcp.h>
#include <string.h>
#include <sys/un.h>

struct sock_addr sock_addr(const char *text)
{
	struct sock_addr a = {0};
	struct sockaddr_un *un = (void *)&a.ss;
	struct sockaddr_in *in = (void *)&a.ss;
	unsigned port = 0;
	char host[16];

	if (strncmp(text, "unix:", 5) == 0 &&
	    util_copy(un->sun_path, sizeof(un->sun_path), text + 5)) {
		un->sun_family = AF_UNIX;
		a.len = sizeof(*un);
		return a;
	}
	if (sscanf(text, "%15[0-9.]:%u", host, &port) != 2 || port > 65535 ||
	    inet_pton(AF_INET, host, &in->sin_addr) != 1)
		errx(2, "'%s' is no address: 127.0.0.1:8080 or unix:/path", text);
	in->sin_family = AF_INET;
	in->sin_port = htons((uint16_t)port);
	a.len = sizeof(*in);
	return a;
}

void sock_nodelay(int fd)
{
	int one = 1;

	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)); /* harmless on a unix socket */
}

int sock_listen(const char *text)
{
	struct sock_addr a = sock_addr(text);
	int one = 1, fd = socket(a.ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (a.ss.ss_family == AF_UNIX)
		unlink(text + 5);
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
	if (bind(fd, (void *)&a.ss, a.len) < 0 || listen(fd, 4096) < 0)
		err(1, "listening on %s", text);
	return fd;
}

int sock_connect(const struct sock_addr *a)
{
	int fd = socket(a->ss.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

	if (fd < 0)
		return -1;
	sock_nodelay(fd);
	if (connect(fd, (const void *)&a->ss, a->len) < 0 && errno != EINPROGRESS) {
		close(fd);
		return -1;
	}
	return fd;
}
