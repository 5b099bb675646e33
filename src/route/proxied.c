/* SPDX-License-Identifier: Apache-2.0
 *
 * The PROXY protocol on both sides.
 *
 * In: a connection that must begin with a header is in CLIENT_PROXY until it is there; then the address
 * in it is the client's for everything: logs, forwarding fields, rules. The header is peeked at and
 * then taken, exactly, so what follows on the socket (TLS, say) finds its first byte.
 *
 * Out: the header is the first thing on each new connection to a target. A connection that says who it is
 * from can serve nobody else: it is not kept after its request.
 */
#include "route/route_priv.h"

#include "wire/proxy.h"

static void refuse(struct client *c, const char *why)
{
	shm_add(&c->conn.t->n->proxy_refused, 1);
	log_debug("proxy.refused", "peer=%s reason=\"%s\"", c->ip, why);
	client_close(c);
}

void proxied_read(struct client *c)
{
	char head[PROXY_MAX];
	struct proxy_ends ends;
	const char *why = "it ended before its PROXY header did";
	size_t len;
	ssize_t n;

	do
		n = recv(c->conn.io.fd, head, sizeof(head), MSG_PEEK);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN) {
		c->conn.readable = false;
		return;
	}
	if (n <= 0) {
		refuse(c, why);
		return;
	}
	switch (proxy_parse(head, (size_t)n, &ends, &len, &why)) {
	case PROXY_MORE: /* more bytes are a new event */
		c->conn.readable = false;
		if (c->conn.half_closed)
			refuse(c, why);
		return;
	case PROXY_BAD:
		refuse(c, why);
		return;
	case PROXY_DONE:
		break;
	}
	if (recv(c->conn.io.fd, head, len, 0) != (ssize_t)len) {
		refuse(c, why);
		return;
	}
	if (ends.known) {
		client_is_from(c, ends.from, ends.from_port);
		if (!policy_connects(c)) {
			client_close(c);
			return;
		}
	}
	if (client_begin(c))
		client_run(c);
}

/* Where the client came in, as far as that is known. */
static void note_own_end(const struct client *c, struct proxy_ends *ends)
{
	struct sockaddr_storage own = {0};
	socklen_t len = sizeof(own);

	memcpy(ends->to, c->addr, 12); /* unknown: 0.0.0.0 of the client's family */
	if (getsockname(c->conn.io.fd, (struct sockaddr *)&own, &len) == 0)
		client_addr(&own, ends->to, &ends->to_port);
}

int proxied_send(struct exchange *x)
{
	const struct client *c = x->client;
	struct proxy_ends ends = {.known = true, .from_port = c->port};
	char text[PROXY_FORMAT_MAX];
	size_t len;
	ssize_t n;

	memcpy(ends.from, c->addr, sizeof(ends.from));
	note_own_end(c, &ends);
	len = proxy_format((enum proxy_version)x->app->conf.proxy, &ends, text);
	/* A new socket takes it whole. In one packet with the request, which follows at once. */
	n = send(x->up->conn.io.fd, text, len, MSG_NOSIGNAL | (x->tcp ? 0 : MSG_MORE));
	return n == (ssize_t)len ? 0 : n < 0 ? -errno : -EIO;
}
