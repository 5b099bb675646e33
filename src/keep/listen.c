/* SPDX-License-Identifier: Apache-2.0
 *
 * Listening sockets. They belong to the keeper, so that no crash of another process
 * refuses a connection: it waits in the queue of the socket. The router gets those
 * of users, the controller the others. A socket that a service manager passed
 * (LISTEN_FDS) is used where its address is the one that is asked for.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "base/log.h"
#include "keep/keep_priv.h"

#define LISTEN_RETRY_MS 20
#define LISTEN_TRIES 25 /* what a keeper that was killed leaves dies in a moment */
#define LISTEN_PASSED_FIRST 3

/* "127.0.0.1:80", "[::1]:80", or a path. Returns the length of the address, 0: not one. */
static socklen_t parse_addr(const struct msg_listen *o, struct sockaddr_storage *ret)
{
	struct sockaddr_in *in4 = (struct sockaddr_in *)ret;
	struct sockaddr_in6 *in6 = (struct sockaddr_in6 *)ret;
	struct sockaddr_un *un = (struct sockaddr_un *)ret;
	char host[MSG_PATH];
	const char *colon = strrchr(o->addr, ':');
	char *end;
	unsigned long port;
	size_t len;

	memset(ret, 0, sizeof(*ret));
	if (o->kind == LISTEN_CONTROL) {
		un->sun_family = AF_UNIX;
		return util_copy(un->sun_path, sizeof(un->sun_path), o->addr) ? sizeof(*un) : 0;
	}
	if (!colon || !colon[1])
		return 0;
	port = strtoul(colon + 1, &end, 10);
	if (*end || port > 65535)
		return 0;
	len = (size_t)(colon - o->addr);
	memcpy(host, o->addr, len);
	host[len] = '\0';
	if (host[0] == '[' && host[len - 1] == ']') {
		host[len - 1] = '\0';
		in6->sin6_family = AF_INET6;
		in6->sin6_port = htons((uint16_t)port);
		return inet_pton(AF_INET6, host + 1, &in6->sin6_addr) == 1 ? sizeof(*in6) : 0;
	}
	in4->sin_family = AF_INET;
	in4->sin_port = htons((uint16_t)port);
	return inet_pton(AF_INET, host, &in4->sin_addr) == 1 ? sizeof(*in4) : 0;
}

static bool same_addr(const struct sockaddr_storage *a, const struct sockaddr_storage *b)
{
	const struct sockaddr_in *a4 = (const void *)a, *b4 = (const void *)b;
	const struct sockaddr_in6 *a6 = (const void *)a, *b6 = (const void *)b;

	if (a->ss_family != b->ss_family)
		return false;
	switch (a->ss_family) {
	case AF_INET:
		return a4->sin_port == b4->sin_port && a4->sin_addr.s_addr == b4->sin_addr.s_addr;
	case AF_INET6:
		return a6->sin6_port == b6->sin6_port &&
		       !memcmp(&a6->sin6_addr, &b6->sin6_addr, sizeof(a6->sin6_addr));
	case AF_UNIX:
		return !strcmp(((const struct sockaddr_un *)a)->sun_path,
			       ((const struct sockaddr_un *)b)->sun_path);
	default:
		return false;
	}
}

void listen_passed_take(struct keeper *k)
{
	const char *pid = getenv("LISTEN_PID"), *count = getenv("LISTEN_FDS");
	long n = pid && count && strtol(pid, NULL, 10) == getpid() ? strtol(count, NULL, 10) : 0;

	n = MIN(n, KEEP_LISTENERS_MAX);
	if (n > 0)
		k->passed = util_alloc((size_t)n * sizeof(int));
	for (int i = 0; i < n; i++) {
		/* Away from the low numbers, where the channels of the parts go. */
		int low = LISTEN_PASSED_FIRST + i, fd = fcntl(low, F_DUPFD_CLOEXEC, 64);

		if (fd < 0)
			continue;
		close(low);
		fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);
		k->passed[k->passed_count++] = fd;
	}
	unsetenv("LISTEN_PID");
	unsetenv("LISTEN_FDS");
	unsetenv("LISTEN_FDNAMES");
}

static int passed_fd(struct keeper *k, const struct sockaddr_storage *want)
{
	for (int i = 0; i < k->passed_count; i++) {
		struct sockaddr_storage has = {0};
		socklen_t len = sizeof(has);

		if (getsockname(k->passed[i], (struct sockaddr *)&has, &len) == 0 &&
		    same_addr(&has, want))
			return fcntl(k->passed[i], F_DUPFD_CLOEXEC, 64);
	}
	return -1;
}

/* Binds; a path appears with the rights that it shall have. */
static int bind_to(int fd, const struct msg_listen *o, const struct sockaddr_storage *addr,
		   socklen_t len)
{
	bool path = addr->ss_family == AF_UNIX, grouped = o->group != (uint32_t)-1;
	mode_t mask = 0;
	int one = 1, result;

	if (!path) {
		setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof(one));
		/* "[::]" is IPv6 and nothing else, whatever this machine's default is. */
		if (addr->ss_family == AF_INET6)
			setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &one, sizeof(one));
		return bind(fd, (const struct sockaddr *)addr, len);
	}
	unlink(o->addr); /* the lock says that nobody else lives in this state */
	mask = umask(0177);
	result = bind(fd, (const struct sockaddr *)addr, len);
	umask(mask);
	if (result == 0 && grouped &&
	    (lchown(o->addr, (uid_t)-1, o->group) < 0 || chmod(o->addr, 0660) < 0))
		return -1;
	return result;
}

/* A listening socket, or -1 with errno. */
static int make_socket(struct keeper *k, const struct msg_listen *o,
		       const struct sockaddr_storage *addr, socklen_t len)
{
	CLEANUP_FD int fd = passed_fd(k, addr);

	if (fd >= 0)
		return TAKE_FD(fd);
	fd = socket(addr->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0 || bind_to(fd, o, addr, len) < 0 ||
	    listen(fd, o->backlog ? (int)MIN(o->backlog, 65535u) : 4096) < 0)
		return -1;
	return TAKE_FD(fd);
}

/* Says for a person why the socket could not be had, and what to do. */
static void explain(const struct msg_listen *o, const struct sockaddr_storage *addr, int error,
		    struct err *e)
{
	const struct sockaddr_in *in = (const void *)addr; /* the port of both families is there */
	bool net = addr->ss_family != AF_UNIX;
	char owner[96];

	if (net && error == EADDRINUSE && owner_of_port(addr, owner, sizeof(owner)))
		err_set(e, ERR_REFUSED, "%s is in use by %s", o->addr, owner);
	else if (net && error == EADDRINUSE)
		err_set(e, ERR_REFUSED,
			"%s is in use by a process of another user "
			"('ss -ltnp' as root says which)",
			o->addr);
	else if (net && error == EACCES && ntohs(in->sin_port) < 1024)
		err_set(e, ERR_DENIED,
			"%s: ports below 1024 need root or CAP_NET_BIND_SERVICE; "
			"take a higher one, or lower net.ipv4.ip_unprivileged_port_start",
			o->addr);
	else if (error == EADDRNOTAVAIL)
		err_set(e, ERR_INPUT, "%s: this machine does not have that address", o->addr);
	else
		err_set(e, ERR_SYS, "%s: %s", o->addr, strerror(error));
}

static void tell_listening(const struct listener *l, int error, const char *reason)
{
	struct msg_listening m = {.id = l->order.id, .kind = l->order.kind, .error = error};

	util_copy(m.addr, sizeof(m.addr), l->order.addr);
	util_copy(m.reason, sizeof(m.reason), reason);
	part_send(l->keeper, PART_CONTROLLER, MSG_LISTENING, &m,
		  l->order.kind == LISTEN_USERS ? -1 : l->fd);
}

static void tell_router(const struct listener *l, enum part to)
{
	struct msg_listener m = {.id = l->order.id, .kind = l->order.kind};

	if (l->order.kind != LISTEN_USERS)
		return;
	util_copy(m.addr, sizeof(m.addr), l->order.addr);
	part_send(l->keeper, to, MSG_LISTENER, &m, l->fd);
}

static void destroy(struct listener *l)
{
	loop_timer_fini(&l->keeper->loop, &l->retry);
	list_del(&l->link);
	l->keeper->listener_count--;
	if (l->fd >= 0)
		close(l->fd);
	free(l);
}

static void try_listen(struct listener *l)
{
	struct sockaddr_storage addr;
	socklen_t len = parse_addr(&l->order, &addr);
	struct err e;
	int error;

	l->fd = len ? make_socket(l->keeper, &l->order, &addr, len) : -1;
	if (l->fd >= 0) {
		log_info("listen", "addr=%s", l->order.addr);
		tell_listening(l, 0, "");
		tell_router(l, PART_ROUTER);
		tell_router(l, PART_OTHER); /* which ignores it when it leaves */
		return;
	}
	error = len ? errno : EINVAL;
	if (error == EADDRINUSE && ++l->tries < LISTEN_TRIES) {
		loop_timer_set(&l->keeper->loop, &l->retry,
			       l->keeper->loop.now_ms + LISTEN_RETRY_MS);
		return;
	}
	if (len)
		explain(&l->order, &addr, error, &e);
	else
		err_set(&e, ERR_INPUT, "'%s' is not an address with a port", l->order.addr);
	log_warn("listen.failed", "reason=\"%s\"", e.msg);
	tell_listening(l, error, e.msg);
	destroy(l);
}

static void on_retry(struct loop_timer *timer)
{
	try_listen(container_of(timer, struct listener, retry));
}

static struct listener *find(struct keeper *k, uint64_t id)
{
	struct listener *l;

	LIST_EACH (l, &k->listeners, link)
		if (l->order.id == id)
			return l;
	return NULL;
}

void listen_order(struct keeper *k, const struct msg_listen *order)
{
	struct listener *l = find(k, order->id);

	if (l) {
		if (l->fd >= 0)
			tell_listening(l, 0, "");
		return; /* or it is being tried, and will be answered */
	}
	l = util_alloc(sizeof(*l));
	l->keeper = k;
	l->order = *order;
	l->order.addr[sizeof(l->order.addr) - 1] = '\0';
	l->fd = -1;
	l->retry.on_time = on_retry;
	list_add_tail(&k->listeners, &l->link);
	if (++k->listener_count <= KEEP_LISTENERS_MAX) {
		try_listen(l);
		return;
	}
	tell_listening(l, ENFILE, "more than 256 listening sockets");
	destroy(l);
}

void listen_adopt(struct keeper *k, const struct msg_listen *order, int fd, int tries)
{
	struct listener *l = util_alloc(sizeof(*l));

	l->keeper = k;
	l->order = *order;
	l->fd = fd;
	l->tries = tries;
	l->retry.on_time = on_retry;
	list_add_tail(&k->listeners, &l->link);
	k->listener_count++;
	if (fd < 0)
		loop_timer_set(&k->loop, &l->retry, k->loop.now_ms + LISTEN_RETRY_MS);
}

static void drop(struct listener *l)
{
	if (l->order.kind == LISTEN_CONTROL && l->fd >= 0)
		unlink(l->order.addr);
	for (int i = 0; l->order.kind == LISTEN_USERS && i < 2; i++)
		part_send(l->keeper, i ? PART_OTHER : PART_ROUTER, MSG_UNLISTENER,
			  &(struct msg_id){l->order.id}, -1);
	destroy(l);
}

void listen_drop(struct keeper *k, uint64_t id)
{
	struct listener *l = find(k, id);

	if (l)
		drop(l);
}

void listen_drop_all(struct keeper *k, bool users_only)
{
	struct listener *l, *next;

	LIST_EACH_SAFE (l, next, &k->listeners, link)
		if (!users_only || l->order.kind == LISTEN_USERS)
			drop(l);
}

void listen_tell_all(struct keeper *k, enum part to)
{
	struct listener *l;

	LIST_EACH (l, &k->listeners, link) {
		if (l->fd < 0)
			continue;
		if (to != PART_CONTROLLER)
			tell_router(l, to);
		else
			tell_listening(l, 0, "");
	}
}
