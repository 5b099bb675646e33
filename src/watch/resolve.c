/* SPDX-License-Identifier: Apache-2.0
 *
 * Names to addresses, by c-ares, on our loop. One channel serves all checks; a query of it cannot be taken back alone, so
 * one whose check does not want it any more is left to end by itself, with nobody behind it.
 *
 * The servers are those of /etc/resolv.conf; when that file changes, the next query that finds no other going on reads it.
 */
#include <ares.h>
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/stat.h>

#include "watch/watch_priv.h"

#define QUERY_MS 2000 /* then the next server is asked */
#define QUERY_TRIES 3

struct name_io {
	struct loop_io io;
	struct watch_names *names;
	uint32_t events;
};

struct watch_names {
	struct loop *loop;
	ares_channel channel;
	struct loop_timer timer;
	struct map ios; /* by descriptor + 1 */
	uint32_t going;
	struct timespec conf_mtime;
};

struct watch_lookup {
	struct watch_names *names;
	struct check *check; /* NULL: it is not wanted any more */
	watch_found *done;
	struct watch_lookup **handle;
};

static void set_timer(struct watch_names *n)
{
	struct timeval most = {.tv_sec = 60}, tv;
	struct timeval *left = ares_timeout(n->channel, &most, &tv);

	if (n->going)
		loop_timer_set(n->loop, &n->timer, n->loop->now_ms + (uint64_t)left->tv_sec * 1000 +
							   (uint64_t)left->tv_usec / 1000 + 1);
	else
		loop_timer_stop(n->loop, &n->timer);
}

static void on_time(struct loop_timer *t)
{
	struct watch_names *n = container_of(t, struct watch_names, timer);

	ares_process_fd(n->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
	set_timer(n);
}

static void on_io(struct loop_io *io, uint32_t events)
{
	struct name_io *x = container_of(io, struct name_io, io);
	struct watch_names *n = x->names;
	int fd = io->fd;

	ares_process_fd(n->channel, events & (EPOLLIN | EPOLLERR | EPOLLHUP) ? fd : ARES_SOCKET_BAD,
			events & EPOLLOUT ? fd : ARES_SOCKET_BAD);
	set_timer(n);
}

static void on_socket(void *arg, ares_socket_t fd, int readable, int writable)
{
	struct watch_names *n = arg;
	uint32_t events = (readable ? EPOLLIN : 0u) | (writable ? EPOLLOUT : 0u);
	struct name_io *x = map_get(&n->ios, (uint64_t)fd + 1);

	if (!events && x) {
		loop_io_del(n->loop, &x->io);
		map_del(&n->ios, (uint64_t)fd + 1);
		free(x);
	} else if (x && events != x->events) {
		x->events = events;
		loop_io_change(n->loop, &x->io, events);
	} else if (events && !x) {
		x = util_alloc(sizeof(*x));
		*x = (struct name_io){.io = {.on_ready = on_io, .fd = -1}, .names = n, .events = events};
		map_put(&n->ios, (uint64_t)fd + 1, x);
		if (loop_io_add(n->loop, &x->io, fd, events) < 0) /* it is asked anew when its time is over */
			return;
	}
}

static int open_channel(struct watch_names *n)
{
	struct ares_options o = {.flags = ARES_FLAG_NOSEARCH, .timeout = QUERY_MS, .tries = QUERY_TRIES,
				 .sock_state_cb = on_socket, .sock_state_cb_data = n};
	struct stat st = {0};

	stat("/etc/resolv.conf", &st);
	n->conf_mtime = st.st_mtim;
	return ares_init_options(&n->channel, &o,
				 ARES_OPT_FLAGS | ARES_OPT_TIMEOUTMS | ARES_OPT_TRIES | ARES_OPT_SOCK_STATE_CB);
}

int watch_names_open(struct watcher *w, struct err *e)
{
	struct watch_names *n = util_alloc(sizeof(*n));
	int r = ares_library_init(ARES_LIB_INIT_ALL);

	n->loop = &w->loop;
	n->timer.on_time = on_time;
	if (r == ARES_SUCCESS)
		r = open_channel(n);
	if (r != ARES_SUCCESS) {
		free(n);
		return err_set(e, ERR_SYS, "names cannot be looked up: %s", ares_strerror(r));
	}
	w->names = n;
	return 0;
}

static void look_at_conf(struct watch_names *n)
{
	struct stat st = {0};
	ares_channel old = n->channel;

	if (n->going || stat("/etc/resolv.conf", &st) < 0 ||
	    (st.st_mtim.tv_sec == n->conf_mtime.tv_sec && st.st_mtim.tv_nsec == n->conf_mtime.tv_nsec))
		return;
	if (open_channel(n) == ARES_SUCCESS)
		ares_destroy(old);
	else
		n->channel = old;
}

socklen_t watch_addr_len(const struct sockaddr_storage *a)
{
	return a->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

static void on_found(void *arg, int status, int timeouts UNUSED, struct ares_addrinfo *info)
{
	struct watch_lookup *l = arg;
	struct watch_addrs addrs = {0};
	struct check *c = l->check;
	watch_found *done = l->done;
	char why[200];

	l->names->going--;
	if (c)
		*l->handle = NULL;
	free(l);
	for (struct ares_addrinfo_node *x = info ? info->nodes : NULL; x && addrs.count < WATCH_ADDRS_MAX; x = x->ai_next)
		if (x->ai_addrlen <= sizeof(addrs.at[0]))
			memcpy(&addrs.at[addrs.count++], x->ai_addr, x->ai_addrlen);
	ares_freeaddrinfo(info);
	if (!c)
		return;
	snprintf(why, sizeof(why), "its name cannot be looked up: %s", ares_strerror(status));
	if (status == ARES_SUCCESS && addrs.count)
		done(c, &addrs, false, NULL);
	else
		done(c, NULL, status == ARES_ENOTFOUND || status == ARES_ENODATA || status == ARES_EBADNAME, why);
}

/* Is host an address? */
static bool literal(const char *host, uint16_t port, struct watch_addrs *ret)
{
	struct sockaddr_in *v4 = (struct sockaddr_in *)&ret->at[0];
	struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&ret->at[0];

	*ret = (struct watch_addrs){.count = 1};
	if (inet_pton(AF_INET, host, &v4->sin_addr) == 1) {
		v4->sin_family = AF_INET;
		v4->sin_port = htons(port);
		return true;
	}
	if (inet_pton(AF_INET6, host, &v6->sin6_addr) == 1) {
		v6->sin6_family = AF_INET6;
		v6->sin6_port = htons(port);
		return true;
	}
	return false;
}

void watch_resolve(struct check *c, const char *host, uint16_t port, watch_found *done, struct watch_lookup **handle)
{
	struct watch_names *n = c->w->names;
	struct ares_addrinfo_hints hints = {.ai_family = AF_UNSPEC, .ai_socktype = SOCK_STREAM, .ai_flags = ARES_AI_NUMERICSERV};
	struct watch_lookup *l;
	struct watch_addrs addrs;
	char service[8];

	if (literal(host, port, &addrs)) {
		done(c, &addrs, false, NULL);
		return;
	}
	look_at_conf(n);
	c->stage = "looking up its name";
	*handle = l = util_alloc(sizeof(*l));
	*l = (struct watch_lookup){n, c, done, handle};
	n->going++;
	snprintf(service, sizeof(service), "%u", port);
	/* What is found at once (in /etc/hosts) is told at once too, and then l is no more. */
	ares_getaddrinfo(n->channel, host, service, &hints, on_found, l);
	set_timer(n);
}

void watch_resolve_cancel(struct watch_lookup **handle)
{
	if (*handle)
		(*handle)->check = NULL;
	*handle = NULL;
}

void watch_split(const char *address, char host[300], uint16_t *ret_port)
{
	const char *colon = strrchr(address, ':');
	size_t len = (size_t)(colon - address);

	*ret_port = (uint16_t)strtoul(colon + 1, NULL, 10);
	if (address[0] == '[') {
		address++;
		len -= 2;
	}
	snprintf(host, 300, "%.*s", (int)len, address);
}
