/* SPDX-License-Identifier: Apache-2.0
 *
 * Names to addresses, by c-ares, on our loop. One channel serves all checks; a query of it cannot be taken back alone, so
 * one whose check does not want it any more is left to end by itself, with nobody behind it.
 *
 * The servers are those of /etc/resolv.conf; when that file changes, the next query that finds no other going on reads it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <string.h>
#include <sys/stat.h>

#include "watch/channel.h"
#include "watch/watch_priv.h"

#define QUERY_MS 2000 /* then the next server is asked */
#define QUERY_TRIES 3

struct watch_names {
	struct watch_channel *channel;
	uint32_t inside; /* callbacks of it that are going on */
	struct timespec conf_mtime;
};

struct watch_lookup {
	struct watch_names *names;
	struct watch_channel *channel;
	struct watch_check *check; /* NULL: it is not wanted any more */
	watch_found *done;
	struct watch_lookup **handle;
};

static int open_channel(struct watch_names *n, struct loop *loop)
{
	struct watch_channel *ch = util_alloc(sizeof(*ch));
	struct stat st = {0};
	int r;

	stat("/etc/resolv.conf", &st);
	r = watch_channel_open(ch, loop, NULL, QUERY_MS, QUERY_TRIES, ARES_FLAG_NOSEARCH);
	if (r != ARES_SUCCESS) {
		free(ch);
		return r;
	}
	n->channel = ch;
	n->conf_mtime = st.st_mtim;
	return r;
}

int watch_names_open(struct watcher *w, struct err *e)
{
	struct watch_names *n = util_alloc(sizeof(*n));
	int r = ares_library_init(ARES_LIB_INIT_ALL);

	if (r == ARES_SUCCESS)
		r = open_channel(n, &w->loop);
	if (r != ARES_SUCCESS) {
		free(n);
		return err_set(e, ERR_SYS, "names cannot be looked up: %s", ares_strerror(r));
	}
	w->names = n;
	return 0;
}

static void look_at_conf(struct watch_names *n)
{
	struct watch_channel *old = n->channel;
	struct stat st = {0};

	if (n->inside || old->going || stat("/etc/resolv.conf", &st) < 0 ||
	    (st.st_mtim.tv_sec == n->conf_mtime.tv_sec && st.st_mtim.tv_nsec == n->conf_mtime.tv_nsec))
		return;
	if (open_channel(n, old->loop) != ARES_SUCCESS)
		return;
	watch_channel_close(old);
	free(old);
}

socklen_t watch_addr_len(const struct sockaddr_storage *a)
{
	return a->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

static void on_found(void *arg, int status, int timeouts UNUSED, struct ares_addrinfo *info)
{
	struct watch_lookup *l = arg;
	struct watch_addrs addrs = {0};
	struct watch_names *n = l->names;
	struct watch_check *c = l->check;
	watch_found *done = l->done;
	char why[200];

	l->channel->going--;
	if (c)
		*l->handle = NULL;
	free(l);
	for (struct ares_addrinfo_node *x = info ? info->nodes : NULL; x && addrs.count < WATCH_ADDRS_MAX; x = x->ai_next)
		if (x->ai_addrlen <= sizeof(addrs.at[0]))
			memcpy(&addrs.at[addrs.count++], x->ai_addr, x->ai_addrlen);
	ares_freeaddrinfo(info);
	if (!c)
		return;
	n->inside++;
	snprintf(why, sizeof(why), "its name cannot be looked up: %s", ares_strerror(status));
	if (status == ARES_SUCCESS && addrs.count)
		done(c, &addrs, false, NULL);
	else
		done(c, NULL, status == ARES_ENOTFOUND || status == ARES_ENODATA || status == ARES_EBADNAME, why);
	n->inside--;
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

void watch_resolve(struct watch_check *c, const char *host, uint16_t port, watch_found *done, struct watch_lookup **handle)
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
	*l = (struct watch_lookup){n, n->channel, c, done, handle};
	n->channel->going++;
	snprintf(service, sizeof(service), "%u", port);
	/* What is found at once (in /etc/hosts) is told at once too, and then l is no more. */
	ares_getaddrinfo(n->channel->ares, host, service, &hints, on_found, l);
	watch_channel_asked(n->channel);
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
