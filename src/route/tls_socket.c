/* SPDX-License-Identifier: Apache-2.0
 *
 * The socket below TLS. OpenSSL reads and writes through a BIO of ours, which knows what the loop knows:
 * a read that came back short has emptied the socket, so the next one waits for an event instead of
 * asking the kernel for EAGAIN.
 *
 * OpenSSL writes each ticket of a session by itself. They are held here, and go out in one write with
 * the bytes that they were made before (layer_send()); when those do not fit, the caller comes
 * again with them, as always, and so the tickets are not forgotten either.
 */
#include "route/tls_priv.h"

static int on_read(BIO *b, char *p, int room)
{
	struct conn *c = BIO_get_data(b);
	struct tls *s = c->layer_state;
	ssize_t n = -1;

	BIO_clear_retry_flags(b);
	errno = EAGAIN;
	if (!s->drained)
		do
			n = recv(c->io.fd, p, (size_t)room, 0);
		while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN) {
		s->drained = true;
		BIO_set_retry_read(b);
	} else if (n < 0) {
		s->error = errno;
	} else {
		s->ended = n == 0;
		s->drained = n && n < room && !c->half_closed;
	}
	return (int)n;
}

static bool hold(struct conn *c, const char *p, size_t len)
{
	struct tls *s = c->layer_state;
	struct buffer *b;

	if (SSL_get_state(s->ssl) != TLS_ST_SW_SESSION_TICKET) /* 1.2 has them in a flight of its handshake */
		return false;
	b = s->held ? s->held : buffer_get(c->t, BUFFER_SMALL);
	if (!b)
		return false;
	s->held = b;
	if (len > b->cap - b->at - b->len)
		return false;
	memcpy(b->data + b->at + b->len, p, len);
	b->len += (uint32_t)len;
	return true;
}

/* What is held goes first. Returns what was taken of p. */
static ssize_t send_after_held(struct conn *c, const char *p, size_t len)
{
	struct tls *s = c->layer_state;
	struct buffer *b = s->held;
	struct iovec v[2] = {{b->data + b->at, b->len}, {(char *)p, len}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = 2};
	ssize_t n = sendmsg(c->io.fd, &m, MSG_NOSIGNAL);
	uint32_t taken;

	if (n < 0)
		return n;
	taken = MIN((uint32_t)n, b->len);
	b->at += taken;
	b->len -= taken;
	if (!b->len)
		buffer_put(c->t, &s->held);
	if (n > taken)
		return n - taken;
	errno = EAGAIN;
	return -1;
}

static int on_write(BIO *b, const char *p, int len)
{
	struct conn *c = BIO_get_data(b);
	struct tls *s = c->layer_state;
	ssize_t n;

	BIO_clear_retry_flags(b);
	if (hold(c, p, (size_t)len))
		return len;
	do
		n = s->held ? send_after_held(c, p, (size_t)len) : send(c->io.fd, p, (size_t)len, MSG_NOSIGNAL);
	while (n < 0 && errno == EINTR);
	if (n < 0 && errno == EAGAIN)
		BIO_set_retry_write(b);
	else if (n < 0)
		s->error = errno;
	return (int)n;
}

static long on_control(BIO *b UNUSED, int what, long n UNUSED, void *p UNUSED)
{
	return what == BIO_CTRL_FLUSH;
}

bool tls_socket_init(struct tls_thread *tt)
{
	tt->socket = BIO_meth_new(BIO_get_new_index() | BIO_TYPE_SOURCE_SINK, "upstate");
	return tt->socket && BIO_meth_set_read(tt->socket, on_read) && BIO_meth_set_write(tt->socket, on_write) &&
	       BIO_meth_set_ctrl(tt->socket, on_control);
}

bool tls_socket_open(struct conn *c, SSL *ssl)
{
	struct tls_thread *tt = c->t->tls;
	BIO *b = BIO_new(tt->socket);

	if (!b)
		return false;
	BIO_set_data(b, c);
	BIO_set_init(b, 1);
	SSL_set_bio(ssl, b, b);
	return true;
}
