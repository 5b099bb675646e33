/* SPDX-License-Identifier: Apache-2.0
 *
 * A router that another one takes the place of. It takes nothing new. What it has goes over to the
 * heir, or ends by itself, and nobody should notice either:
 *
 *	between requests, or with part of a head	handed over
 *	waiting for a target				handed over, with its bytes
 *	inside a target					answered here, then handed over
 *	WebSocket					close frame 1012 behind a frame: while the client
 *							speaks, one that came after its last word
 *	event stream					ended behind an event
 *	HTTP/2						GOAWAY in two steps, ends with its last stream
 *	with a layer (TLS), or no heir to take it	"Connection: close" with its next answer
 *
 * Long streams are ended spread over the first half of their app's drain, so that not all of their
 * clients come back at once. What is still inside at the end of the app's drain is cut, and counted.
 *
 * To be handed over, a descriptor is first taken off epoll (an event of what another process reads
 * now would be taken for ours), then sent, and kept until the heir has acknowledged it. A channel on
 * which nothing is acknowledged for a while is given up: it is shut for acknowledgements first,
 * then those that came are read, and only then what is left is watched here again. So a connection
 * never has two owners. wire/handover.h has the packets.
 */
#include "route/route_priv.h"
#include "wire/handover.h"

#define OFFERED_MAX 128 /* not acknowledged yet: the acknowledgements must find room in the socket */
#define LEAVE_TICK_MS 20
#define LEAVE_PATIENCE_MS 1000 /* for the heir's next word */
#define LEAVE_QUIET_MS 3000    /* so long after its last word the client of a WebSocket is taken for silent */
#define LEAVE_CLOSE_MS 2000    /* from our close frame to the end of the connection */
#define LEAVE_DRAIN_MS 30000   /* when there is no app that says */

struct leaving {
	struct thread *t;
	struct loop_io io;	    /* to the heir */
	struct loop_timer tick;
	struct list offered;	    /* struct client, in the order of their ids */
	uint64_t since_ms, until_ms, heard_ms;
	uint64_t sent, acked;	    /* ids */
	bool open, greeted;	    /* the heir speaks our version */
};

static void offer_all(struct leaving *l);

/* --- what goes over ------------------------------------------------------ */

/* Nothing of the body has gone anywhere but behind the head: all there is to it are bytes. */
static bool is_plain(const struct exchange *x)
{
	const struct stream *s = &x->ask;

	if (x->state != X_WAIT || x->tcp || x->req->len > UINT16_MAX || s->wrong)
		return false;
	if (s->ended && !s->piece) /* no body, or joined to the head */
		return true;
	if (s->framing == HTTP1_BODY_LENGTH)
		return s->left + (s->piece ? s->used : 0) == x->length;
	return s->framing == HTTP1_BODY_CHUNKED && !s->piece && !s->bytes && !s->in_trailer &&
	       s->chunked.state == HTTP1_CHUNK_SIZE && !s->chunked.digits && !s->chunked.ext_len;
}

static bool may_go(const struct leaving *l, const struct client *c)
{
	const struct buffer *in = c->conn.in;
	size_t bytes = (in ? in->len : 0) + (c->x ? c->x->req ? c->x->req->len : 0 : 0);

	if (!l->greeted || l->sent - l->acked >= OFFERED_MAX || c->https || c->conn.layer || c->conn.half_closed ||
	    c->conn.broken || bytes > HANDOVER_BYTES_MAX)
		return false;
	return c->state == CLIENT_PROXY || c->state == CLIENT_IDLE || c->state == CLIENT_HEAD ||
	       (c->state == CLIENT_BUSY && is_plain(c->x));
}

static struct handover_slice slice(struct slice16 s, uint32_t len)
{
	return (uint32_t)s.at + s.len <= len ? (struct handover_slice){s.at, s.len}
					     : (struct handover_slice){0};
}

static void fill_request(struct handover *h, const struct exchange *x)
{
	const struct {
		bool set;
		uint32_t flag;
	} flags[] = {{x->is_head, HANDOVER_IS_HEAD},	     {x->safe, HANDOVER_SAFE},
		     {x->upgrade, HANDOVER_UPGRADE},	     {x->expects, HANDOVER_EXPECTS},
		     {x->te_trailers, HANDOVER_TE_TRAILERS}, {x->old_client, HANDOVER_OLD_CLIENT},
		     {x->keep, HANDOVER_KEEP},		     {x->waited, HANDOVER_WAITED},
		     {x->secure, HANDOVER_SECURE},
		     {x->framing != HTTP1_BODY_NONE && x->ask.ended && !x->ask.piece,
		      HANDOVER_BODY_JOINED}};

	for (size_t i = 0; i < ARRAY_LEN(flags); i++)
		h->flags |= flags[i].set ? flags[i].flag : 0;
	h->req_len = x->req->len;
	h->framing = (uint8_t)x->framing;
	h->tries = x->tries;
	h->died_under = x->died_under;
	h->first_us = x->start_us;
	h->until_ms = x->until_ms;
	h->length = x->framing == HTTP1_BODY_LENGTH ? x->length : 0;
	h->bytes = h->flags & HANDOVER_BODY_JOINED ? x->ask.bytes : 0;
	h->wait_us = x->wait_us + clock_us() - x->wait_since_us;
	h->came_ms = x->came_ms;
	h->method = slice(x->method, x->req->len);
	h->host = slice(x->host, x->req->len);
	h->path = slice(x->path, x->req->len);
	h->request_id = slice(x->id, x->req->len);
	h->agent = slice(x->agent, x->req->len);
	h->trace = slice(x->trace, x->req->len);
	h->near = x->near;
	h->near_key = x->near_key;
}

static ssize_t send_client(struct leaving *l, const struct client *c, int fd)
{
	const struct exchange *x = c->x;
	const struct buffer *in = c->conn.in;
	union {
		struct cmsghdr align;
		char space[CMSG_SPACE(sizeof(int))];
	} control = {0};
	struct handover h;
	struct iovec v[] = {{&h, sizeof(h)},
			    {x ? x->req->data : NULL, x ? x->req->len : 0},
			    {in ? (char *)in->data + in->at : NULL, in ? in->len : 0}};
	struct msghdr m = {.msg_iov = v, .msg_iovlen = ARRAY_LEN(v), .msg_control = &control,
			   .msg_controllen = sizeof(control)};
	struct cmsghdr *cm = CMSG_FIRSTHDR(&m);

	handover_init(&h, x ? HANDOVER_REQUEST : HANDOVER_CLIENT, l->sent + 1);
	memcpy(h.addr, c->addr, sizeof(h.addr));
	h.port = c->port;
	h.in_len = (uint32_t)v[2].iov_len;
	h.first_us = c->first_us;
	h.until_ms = c->timer.at_ms;
	if (x)
		fill_request(&h, x);
	else if (h.in_len)
		h.flags = HANDOVER_HEAD;
	else if (c->state == CLIENT_PROXY)
		h.flags = HANDOVER_PROXY;
	cm->cmsg_level = SOL_SOCKET;
	cm->cmsg_type = SCM_RIGHTS;
	cm->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(cm), &fd, sizeof(fd));
	return sendmsg(l->io.fd, &m, MSG_NOSIGNAL);
}

/* Watches it here again. False: that cannot be, and it is gone. */
static bool watch_again(struct client *c)
{
	int fd = c->conn.io.fd;

	c->conn.io.fd = -1;
	c->conn.readable = true; /* whatever came meanwhile */
	if (conn_watch(&c->conn, fd, false) == 0)
		return true;
	c->conn.io.fd = fd;
	if (c->x)
		exchange_client_left(c->x);
	else
		client_close(c);
	return false;
}

/* A request on its way is inside neither router: who gets it counts it, or counts it as lost. */
static void count_inside(const struct client *c, int by)
{
	if (!c->x)
		return;
	shm_add(&c->x->app->n->inflight, (uint64_t)by);
	if (c->x->waited)
		shm_add(&c->x->app->n->held_now, (uint64_t)by);
}

bool leave_offer(struct client *c)
{
	struct thread *t = c->conn.t;
	struct leaving *l = t->leaving;
	int fd = c->conn.io.fd;

	if (!may_go(l, c))
		return false;
	loop_io_del(&t->loop, &c->conn.io);
	c->conn.io.fd = fd;
	count_inside(c, -1);
	if (send_client(l, c, fd) < 0) { /* no room now: the tick tries again; the end is read elsewhere */
		count_inside(c, 1);
		return !watch_again(c);
	}
	if (l->sent++ == l->acked)
		l->heard_ms = t->loop.now_ms;
	if (c->x)
		wait_leave(c->x);
	c->before = (uint8_t)c->state;
	c->state = CLIENT_OFFERED;
	loop_timer_stop(&t->loop, &c->timer);
	list_del(&c->in_again);
	list_del(&c->in_thread);
	list_add_tail(&l->offered, &c->in_thread);
	return true;
}

/* --- the heir's words ---------------------------------------------------- */

static void is_handed(struct client *c)
{
	shm_add(&c->conn.t->n->handed_over, 1);
	if (c->x)
		exchange_handed(c->x);
	client_close(c); /* this descriptor of it: the connection lives on */
}

/* 1: one was taken; 0: none is there; -1: the channel has ended, or is no good. */
static int take_word(struct leaving *l)
{
	char packet[sizeof(struct handover) + 1];
	ssize_t n = recv(l->io.fd, packet, sizeof(packet), 0);
	struct handover h;
	struct err e;

	if (n < 0)
		return errno == EAGAIN || errno == EINTR ? 0 : -1;
	if (n == 0)
		return -1;
	l->heard_ms = l->t->loop.now_ms;
	if (handover_decode(packet, (size_t)n, 0, &h, &e) < 0) {
		log_warn("leave.refused", "reason=\"%s\"", e.msg);
		return -1;
	}
	if (h.kind == HANDOVER_HELLO) {
		l->greeted = true;
		return 1;
	}
	if (h.kind != HANDOVER_ACK || h.id != l->acked + 1 || list_empty(&l->offered))
		return -1;
	l->acked++;
	is_handed(container_of(l->offered.next, struct client, in_thread));
	return 1;
}

static void take_back(struct client *c)
{
	struct thread *t = c->conn.t;
	struct exchange *x = c->x;
	bool idle;

	list_del(&c->in_thread);
	list_add_tail(&t->everyone, &c->in_thread);
	c->state = (enum client_state)c->before;
	idle = c->state == CLIENT_IDLE;
	count_inside(c, 1);
	if (!watch_again(c))
		return;
	if (x) {
		exchange_route(x);
		return;
	}
	loop_timer_set(&t->loop, &c->timer,
		       t->loop.now_ms + (idle ? t->table->limits.idle_ms : t->table->limits.header_ms));
	if (c->state != CLIENT_PROXY) /* of which an event tells */
		client_again(c);
}

static void give_up(struct leaving *l, const char *reason)
{
	int fd = l->io.fd;

	/* From here on the heir cannot acknowledge, so what is not acknowledged is ours. */
	shutdown(fd, SHUT_RD);
	while (take_word(l) > 0)
		;
	log_info("leave.alone", "reason=\"%s\" back=%llu", reason,
		 (unsigned long long)(l->sent - l->acked));
	loop_io_del(&l->t->loop, &l->io);
	close(fd);
	l->open = l->greeted = false;
	while (!list_empty(&l->offered))
		take_back(container_of(l->offered.next, struct client, in_thread));
	l->sent = l->acked = 0;
}

static void on_heir(struct loop_io *io, uint32_t events)
{
	struct leaving *l = container_of(io, struct leaving, io);
	int n;

	(void)events;
	do
		n = take_word(l);
	while (n > 0);
	if (n < 0)
		give_up(l, "the next router is gone, or speaks otherwise");
	else
		offer_all(l);
}

/* --- what ends here ------------------------------------------------------ */

bool leave_closes(const struct client *c)
{
	return !c->is_stream && (!c->conn.t->leaving->open || c->conn.layer);
}

bool leave_stream(struct exchange *x)
{
	static const char closing[] = {(char)0x88, 2, 1012 >> 8, (char)(1012 & 255)};
	struct stream *s = &x->reply;

	if (s->piece || s->over || s->ended || out_pending(&s->out) || !boundary_here(&s->watch))
		return false;
	if (x->state == X_TUNNEL) {
		out_set_head(&s->out, closing, sizeof(closing));
		x->leave_ending = true;
		exchange_timer(x, LEAVE_CLOSE_MS);
		leave_tunnel_run(x);
		return true;
	}
	x->leave_due = false;
	x->up_reusable = false;
	if (!s->to_chunked) {
		exchange_finish(x, AFTER_LINGER);
		return true;
	}
	out_set_head(&s->out, "0\r\n\r\n", 5);
	s->ended = true;
	reply_run(x);
	return true;
}

/* The client's own close frame goes on to the app, which then ends its connection in order; what it
 * still sends stands behind a close frame and is thrown away. */
void leave_tunnel_run(struct exchange *x)
{
	struct conn *up = &x->up->conn;
	enum stream_result r;
	int sent = conn_send(&x->client->conn, &x->reply.out, &x->reply.sent, &x->reply.writes);
	bool over = sent < 0;

	while (!over && up->readable) {
		int n = conn_read(up);

		if (n == -EAGAIN)
			break;
		over = n <= 0;
		if (up->in)
			up->in->len = 0;
	}
	if (!over && !x->ask.over) {
		r = stream_pump(&x->ask);
		if (r == STREAM_AGAIN)
			client_again(x->client);
		over = r >= STREAM_OVER;
	}
	if (over && sent != 0)
		exchange_finish(x, sent < 0 ? AFTER_CLOSE : AFTER_LINGER);
}

/* Its time is over. */
static void cut(struct exchange *x)
{
	static const char why[] = "Upstate's router was replaced, and the time to finish is over";

	switch (x->state) {
	case X_WAIT:
		wait_leave(x);
		shm_add(&x->app->n->failed_503_waited, 1);
		answer_own(x, 503, why, true);
		return;
	case X_CONNECT:
	case X_ASK:
		shm_add(&x->app->n->failed_cut, 1);
		shm_add(&x->target->n->failed_cut, 1);
		x->cut = true;
		answer_own(x, 503, why, true);
		return;
	case X_REPLY:
	case X_TUNNEL:
		exchange_cut(x);
		return;
	case X_OWN: /* has a time limit of its own */
		return;
	}
}

/* What the client of a WebSocket says while a close frame is on its way to it, and what the app has not
 * answered yet, gets no answer, and it cannot know what became of it. So while it speaks, its end comes right
 * behind what the app says, in tunnel_run(); one that never gets an answer is waited for only so long. */
static bool is_talking(const struct leaving *l, const struct exchange *x)
{
	uint64_t now = l->t->loop.now_ms;

	return x->state == X_TUNNEL && x->spoke_ms && now - x->spoke_ms < LEAVE_QUIET_MS &&
	       now - l->since_ms < (uint64_t)x->app->conf.drain_ms / 4 * 3;
}

static bool is_stream(const struct exchange *x)
{
	return (x->state == X_TUNNEL || x->state == X_REPLY) && x->reply.watch.kind != BOUNDARY_NONE;
}

static void look_at(struct leaving *l, struct client *c)
{
	uint64_t elapsed = l->t->loop.now_ms - l->since_ms;
	struct exchange *x = c->x;
	uint32_t drain;

	if (c->state == CLIENT_H2 || leave_offer(c)) /* it has said GOAWAY, and ends with its last stream */
		return;
	if (!x) {
		if (l->t->loop.now_ms >= l->until_ms && c->state != CLIENT_LINGER)
			client_next(c, AFTER_LINGER);
		return;
	}
	if (!x->app || x->leave_ending)
		return;
	drain = x->app->conf.drain_ms;
	if (is_stream(x)) {
		if (!x->leave_after_ms)
			x->leave_after_ms = 1 + (uint32_t)(thread_random(l->t) % (drain / 2 + 1));
		x->leave_due = elapsed >= x->leave_after_ms;
		if (x->leave_due && !is_talking(l, x) && leave_stream(x))
			return;
	}
	if (elapsed >= drain)
		cut(x);
}

/* Whatever is done to one client may end others. */
static void each_client(struct leaving *l, void (*fn)(struct leaving *, struct client *))
{
	struct list *all = &l->t->everyone, todo;

	if (list_empty(all))
		return;
	list_init(&todo);
	list_add(all, &todo);
	list_del(all);
	list_init(all);
	while (!list_empty(&todo)) {
		struct client *c = container_of(todo.next, struct client, in_thread);

		list_del(&c->in_thread);
		list_add_tail(all, &c->in_thread);
		fn(l, c);
	}
}

static void offer_one(struct leaving *l, struct client *c)
{
	if (l->open)
		leave_offer(c);
}

static void offer_all(struct leaving *l)
{
	each_client(l, offer_one);
}

static void on_tick(struct loop_timer *timer)
{
	struct leaving *l = container_of(timer, struct leaving, tick);
	uint64_t now = l->t->loop.now_ms;

	if (l->open && (!l->greeted || l->sent != l->acked) && now - l->heard_ms >= LEAVE_PATIENCE_MS)
		give_up(l, "the next router does not answer");
	each_client(l, look_at);
	loop_timer_set(&l->t->loop, timer, now + LEAVE_TICK_MS);
}

/* --- the beginning ------------------------------------------------------- */

static uint32_t longest_drain(const struct thread *t)
{
	uint32_t most = 0;

	for (uint32_t i = 0; i < t->app_count; i++)
		most = MAX(most, t->apps[i]->conf.drain_ms);
	return t->app_count ? most : LEAVE_DRAIN_MS;
}

static void open_channel(struct leaving *l, int fd)
{
	if (l->open)
		give_up(l, "another one takes its place");
	l->io.on_ready = on_heir;
	l->heard_ms = l->t->loop.now_ms;
	if (loop_io_add(&l->t->loop, &l->io, fd, EPOLLIN) == 0)
		l->open = true;
	else
		close(fd);
}

void leave_begin(struct thread *t, int fd)
{
	struct leaving *l = t->leaving;

	if (!l) {
		l = t->leaving = util_alloc(sizeof(*l));
		l->t = t;
		l->since_ms = t->loop.now_ms;
		l->until_ms = t->loop.now_ms + longest_drain(t);
		l->tick.on_time = on_tick;
		list_init(&l->offered);
		listener_leave(t);
		h2_drain_all(t);
		/* Some servers have a process for each connection: they are the next router's now. */
		while (!list_empty(&t->idle_upstreams))
			upstream_close(container_of(t->idle_upstreams.next, struct upstream, in_age));
		atomic_fetch_add(&t->r->leavers, 1);
		loop_timer_set(&t->loop, &l->tick, t->loop.now_ms + LEAVE_TICK_MS);
	}
	if (fd >= 0)
		open_channel(l, fd);
}
