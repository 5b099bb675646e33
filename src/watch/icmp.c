/* SPDX-License-Identifier: Apache-2.0
 *
 * icmp: an echo comes back. One that does not within a third of the time is asked for again: the network may lose one.
 *
 * Through "ping sockets" where this machine lets us (net.ipv4.ping_group_range), else through raw ones, for which the keeper, when it
 * is root, leaves us the right to open them once. One socket of each family serves all checks; an answer is known by a
 * random number in it.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <linux/icmp.h>
#include <linux/icmpv6.h>
#include <math.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/random.h>

#include "watch/watch_priv.h"

#define TRIES 3

struct icmp_socket {
	struct loop_io io;
	struct watcher *w;
	bool raw, v6;
	int error; /* why there is none */
};

struct watch_icmp {
	struct icmp_socket sockets[2]; /* of IPv4, of IPv6 */
	struct map runs;	       /* by cookie */
};

struct icmp_run {
	struct watch_check *check;
	struct watch_lookup *lookup;
	struct loop_timer again;
	struct sockaddr_storage to;
	uint64_t cookie, sent_us;
	uint32_t tries;
};

struct echo {
	uint8_t type, code;
	uint16_t checksum, id, sequence;
	uint64_t cookie;
	char fill[40]; /* 56 bytes of data, as ping has it */
};

static void icmp_cancel(struct watch_check *c)
{
	struct icmp_run *run = c->run;

	if (!run)
		return;
	watch_resolve_cancel(&run->lookup);
	loop_timer_fini(&c->w->loop, &run->again);
	map_del(&c->w->icmp->runs, run->cookie);
	free(run);
	c->run = NULL;
}

/* RFC 1071; of ICMPv6 the kernel makes it. */
static uint16_t checksum(const void *data, size_t len)
{
	const uint8_t *p = data;
	uint32_t sum = 0;

	for (; len > 1; len -= 2, p += 2)
		sum += (uint32_t)(p[0] | p[1] << 8);
	sum = (sum >> 16) + (sum & 0xffff);
	sum += sum >> 16;
	return (uint16_t)~sum;
}

/* --- answers --- */

static void take_answer(struct icmp_socket *s, const char *packet, size_t len)
{
	size_t head = s->raw && !s->v6 && len ? (size_t)(packet[0] & 15) * 4 : 0; /* that of IPv4 */
	struct icmp_run *run;
	struct watch_check *c;
	struct echo e;
	double took;

	if (len < head + sizeof(e))
		return;
	memcpy(&e, packet + head, sizeof(e));
	if (e.type != (s->v6 ? ICMPV6_ECHO_REPLY : ICMP_ECHOREPLY))
		return;
	run = map_get(&s->w->icmp->runs, e.cookie);
	if (!run)
		return;
	c = run->check;
	took = watch_took_ms(c) - (double)(run->sent_us - c->began_us) / 1000;
	icmp_cancel(c);
	watch_done(c, STATUS_GOOD, took, RESULT_MS_UNIT, "answers");
}

static void on_packet(struct loop_io *io, uint32_t events UNUSED)
{
	struct icmp_socket *s = container_of(io, struct icmp_socket, io);
	char packet[2048];
	ssize_t n;

	for (int i = 0; i < 256 && (n = recv(io->fd, packet, sizeof(packet), 0)) >= 0; i++)
		take_answer(s, packet, (size_t)n);
}

/* --- asking --- */

static void send_echo(struct icmp_run *run)
{
	struct watch_check *c = run->check;
	bool v6 = run->to.ss_family == AF_INET6;
	struct icmp_socket *s = &c->w->icmp->sockets[v6];
	struct echo e = {.type = v6 ? ICMPV6_ECHO_REQUEST : ICMP_ECHO, .id = (uint16_t)run->cookie,
			 .sequence = htons((uint16_t)++run->tries), .cookie = run->cookie};
	int error;

	if (!v6)
		e.checksum = checksum(&e, sizeof(e));
	run->sent_us = c->began_us + (uint64_t)(watch_took_ms(c) * 1000);
	if (sendto(s->io.fd, &e, sizeof(e), 0, (struct sockaddr *)&run->to, watch_addr_len(&run->to)) < 0 && errno != EAGAIN) {
		error = errno;
		icmp_cancel(c);
		watch_failed(c, error, "sending");
		return;
	}
	if (run->tries < TRIES)
		loop_timer_set(&c->w->loop, &run->again, c->w->loop.now_ms + c->timeout_ms / TRIES);
}

static void on_again(struct loop_timer *t)
{
	send_echo(container_of(t, struct icmp_run, again));
}

static void found(struct watch_check *c, const struct watch_addrs *addrs, bool no_such_name, const char *why)
{
	struct icmp_run *run = c->run;
	const struct icmp_socket *s;

	if (!addrs) {
		icmp_cancel(c);
		watch_done(c, no_such_name ? STATUS_UGLY : STATUS_UNKNOWN, NAN, RESULT_NONE_UNIT, "%s", why);
		return;
	}
	run->to = addrs->at[0];
	s = &c->w->icmp->sockets[run->to.ss_family == AF_INET6];
	if (s->io.fd < 0) {
		icmp_cancel(c);
		watch_done(c, STATUS_UNKNOWN, NAN, RESULT_NONE_UNIT,
			   "this machine does not let us (%s): set sysctl net.ipv4.ping_group_range=\"0 2147483647\"",
			   strerror(s->error));
		return;
	}
	c->stage = "waiting for an echo";
	send_echo(run);
}

static void icmp_begin(struct watch_check *c)
{
	struct icmp_run *run = util_alloc(sizeof(*run));

	run->check = c;
	run->again.on_time = on_again;
	ensure(getrandom(&run->cookie, sizeof(run->cookie), 0) == sizeof(run->cookie));
	run->cookie |= 1; /* 0 is no key */
	c->run = run;
	map_put(&c->w->icmp->runs, run->cookie, run);
	watch_resolve(c, c->what, 0, found, &run->lookup);
}

/* --- sockets --- */

static void open_socket(struct icmp_socket *s, struct watcher *w, bool v6)
{
	int family = v6 ? AF_INET6 : AF_INET, proto = v6 ? IPPROTO_ICMPV6 : IPPROTO_ICMP;
	int fd = socket(family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, proto);
	struct icmp_filter only = {~(1u << ICMP_ECHOREPLY)};

	*s = (struct icmp_socket){.io = {.on_ready = on_packet, .fd = -1}, .w = w, .v6 = v6};
	s->error = errno;
	if (fd < 0 && (fd = socket(family, SOCK_RAW | SOCK_NONBLOCK | SOCK_CLOEXEC, proto)) >= 0) {
		s->raw = true;
		if (!v6)
			setsockopt(fd, SOL_RAW, ICMP_FILTER, &only, sizeof(only));
	}
	if (fd >= 0 && loop_io_add(&w->loop, &s->io, fd, EPOLLIN) < 0)
		close(fd);
}

void watch_icmp_open(struct watcher *w)
{
	w->icmp = util_alloc(sizeof(*w->icmp));
	for (int v6 = 0; v6 < 2; v6++)
		open_socket(&w->icmp->sockets[v6], w, v6);
}

const struct watch_engine watch_icmp = {icmp_begin, icmp_cancel};
