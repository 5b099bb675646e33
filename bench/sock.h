/* SPDX-License-Identifier: Apache-2.0
 *
 * Sockets for the small servers of the benchmark, which need no event loop but epoll's own.
 */
#pragma once

#include <sys/socket.h>

#include "base/util.h"

struct sock_addr {
	struct sockaddr_storage ss;
	socklen_t len;
};

/* "127.0.0.1:80" or "unix:/path"; ends the program with a message when it is neither. */
struct sock_addr sock_addr(const char *text);
/* A non-blocking listening socket (a unix path is replaced), or ends the program. */
int sock_listen(const char *text);
/* Non-blocking; connected or being connected; -1 with errno. */
int sock_connect(const struct sock_addr *a);
void sock_nodelay(int fd);
