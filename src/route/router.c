/* SPDX-License-Identifier: Apache-2.0
 *
 * The process: what the keeper sends is taken in here, by the main thread.
 *
 *	SHARED     memory and bells. Then: rights are given up, threads start.
 *	LISTENER   to each thread (its own descriptor of the same socket)
 *	TABLE      to each thread, once there is a first one; listeners wait for it
 *	TAKE       to the thread that it names: another router hands over to it (take.c)
 *	LEAVE      likewise: it takes nothing new, and hands over (leave.c). When all that all of
 *	           them had is gone: exit(0). What is left when the longest drain is over, too.
 *	(end)      exit(0)
 *
 * READY is said when every thread has taken up a table, BEAT each second while all
 * of them turn.
 */
#include "route/router.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/random.h>
#include <sys/resource.h>

#include "route/route_priv.h"

#define BEAT_MS 1000
#define STUCK_MS 3000
#define LISTENERS_MAX 256
#define LEAVE_LOOK_MS 20
#define LEAVE_MARGIN_MS 15000 /* after the longest drain: answers of our own, lingering */

/* Listeners as the keeper told them; ids beyond the array are refused. */
static struct {
	uint64_t id;
	int fd; /* -1: free */
	bool told;
} listeners[LISTENERS_MAX];

__attribute__((noreturn)) static void give_up(const char *what)
{
	log_error("router.failed", "reason=\"%s: %s\"", what, strerror(errno));
	exit(1);
}

static void tell_listener(struct router *r, int i)
{
	if (!r->view || listeners[i].told)
		return;
	listeners[i].told = true;
	for (uint32_t t = 0; t < r->thread_count; t++) {
		int fd = fcntl(listeners[i].fd, F_DUPFD_CLOEXEC, 0);

		if (fd < 0) {
			log_error("listener.failed", "reason=\"%s\"", strerror(errno));
			return;
		}
		thread_command(&r->threads[t], (struct command){.type = COMMAND_LISTEN,
								.id = listeners[i].id, .fd = fd});
	}
}

static void forget_listener(struct router *r, uint64_t id)
{
	for (int i = 0; i < LISTENERS_MAX; i++) {
		if (listeners[i].fd < 0 || listeners[i].id != id)
			continue;
		close(listeners[i].fd);
		listeners[i].fd = -1;
		for (uint32_t t = 0; listeners[i].told && t < r->thread_count; t++)
			thread_command(&r->threads[t],
				       (struct command){.type = COMMAND_UNLISTEN, .id = id});
	}
}

static void take_listener(struct router *r, struct msg *m)
{
	const struct msg_listener *body = m->body;

	if (m->fds_len != 1 || body->kind != LISTEN_USERS)
		return;
	forget_listener(r, body->id);
	for (int i = 0; i < LISTENERS_MAX; i++) {
		if (listeners[i].fd >= 0)
			continue;
		listeners[i].id = body->id;
		listeners[i].fd = m->fds[0];
		listeners[i].told = false;
		m->fds[0] = -1;
		fcntl(listeners[i].fd, F_SETFL, fcntl(listeners[i].fd, F_GETFL) | O_NONBLOCK);
		tell_listener(r, i);
		return;
	}
	log_error("listener.refused", "addr=%.*s reason=\"there is room for %d\"",
		  (int)sizeof(body->addr), body->addr, LISTENERS_MAX);
}

static void start_threads(struct router *r)
{
	r->threads = util_alloc(r->thread_count * sizeof(*r->threads));
	for (uint32_t i = 0; i < r->thread_count; i++) {
		struct thread *t = &r->threads[i];

		t->r = r;
		t->index = i;
		t->ring = &r->rings[r->bank * r->thread_count + i];
		if (thread_start(t) < 0)
			give_up("starting a thread");
	}
	r->started = true;
}

static void take_shared(struct router *r, struct msg *m)
{
	const struct msg_shared *body = m->body;

	if (r->started)
		return;
	if (m->fds_len <= SHARED_RING || !body->threads || body->threads > SHM_THREADS / SHM_BANKS ||
	    body->bank >= SHM_BANKS) {
		errno = EPROTO;
		give_up("taking in the shared memory");
	}
	r->thread_count = body->threads;
	r->uid = body->router_uid;
	r->gid = body->router_gid;
	r->shm = shm_map(m->fds[SHARED_NUMBERS]);
	r->bank = body->bank;
	r->rings = ring_map(m->fds[SHARED_RING], r->thread_count * SHM_BANKS);
	if (!r->shm || !r->rings || r->shm->threads < r->thread_count * SHM_BANKS)
		give_up("taking in the shared memory");
	r->first_row = r->bank * (r->shm->threads / SHM_BANKS);
	r->controller_bell = m->fds[SHARED_ROUTER_BELL];
	r->log_bell = m->fds[SHARED_LOG_BELL];
	m->fds[SHARED_ROUTER_BELL] = m->fds[SHARED_LOG_BELL] = -1;
	if (getrandom(r->address_key, sizeof(r->address_key), 0) != sizeof(r->address_key))
		give_up("getting random bytes");
	tls_init();
	sandbox_enter(r);
	start_threads(r);
}

static void take_certs(struct router *r, struct msg *m)
{
	const struct msg_certs *body = m->body;
	struct err e = {0};
	struct tls_certs *x = m->fds_len == 1 ? tls_certs_take(m->fds[0], &e) : NULL;

	if (!x) {
		log_error("certs.refused", "generation=%llu reason=\"%s\"",
			  (unsigned long long)body->generation, e.msg);
		return;
	}
	tls_certs_unref(r->certs);
	r->certs = x;
	for (uint32_t i = 0; i < r->thread_count; i++)
		thread_command(&r->threads[i],
			       (struct command){.type = COMMAND_CERTS, .certs = tls_certs_ref(x)});
	log_info("certs.taken", "generation=%llu", (unsigned long long)body->generation);
}

static void look_empty(struct loop_timer *timer)
{
	struct router *r = container_of(timer, struct router, leave_look);
	uint32_t left = atomic_load(&r->clients);

	if (atomic_load(&r->leavers) == r->thread_count && !left) {
		log_info("router.ends", "reason=\"another one has taken its place\"");
		_exit(0);
	}
	if (r->loop.now_ms >= r->leave_until_ms) {
		log_warn("router.ends", "reason=\"its time to leave is over\" clients=%u", left);
		_exit(0);
	}
	loop_timer_set(&r->loop, timer, r->loop.now_ms + LEAVE_LOOK_MS);
}

static void leave(struct router *r)
{
	const struct table *t = r->view ? r->view->table : NULL;
	uint32_t longest = 0;

	if (r->leaving)
		return;
	r->leaving = true;
	for (uint32_t i = 0; t && i < t->app_count; i++)
		longest = MAX(longest, table_apps(t)[i].drain_ms);
	r->leave_until_ms = r->loop.now_ms + longest + LEAVE_MARGIN_MS;
	look_empty(&r->leave_look);
}

static void tell_thread(struct router *r, struct msg *m)
{
	uint32_t i = ((const struct msg_thread *)m->body)->index;
	bool take = m->type == MSG_TAKE;

	if (i >= r->thread_count || (take && (r->leaving || !m->fds_len)))
		return;
	if (!take)
		leave(r);
	thread_command(&r->threads[i],
		       (struct command){.type = take ? COMMAND_TAKE : COMMAND_LEAVE,
					.fd = m->fds_len ? TAKE_FD(m->fds[0]) : -1});
}

static void on_msg(struct msg_channel *ch, struct msg *m)
{
	struct router *r = container_of(ch, struct router, keeper);

	if (!r->started && m->type != MSG_SHARED)
		return;
	switch (m->type) {
	case MSG_SHARED:
		take_shared(r, m);
		return;
	case MSG_LISTENER:
		if (!r->leaving)
			take_listener(r, m);
		return;
	case MSG_UNLISTENER:
		forget_listener(r, ((const struct msg_id *)m->body)->id);
		return;
	case MSG_TABLE:
		if (m->fds_len != 1)
			return;
		view_take(r, m->fds[0], ((const struct msg_table *)m->body)->generation);
		for (int i = 0; i < LISTENERS_MAX; i++)
			if (listeners[i].fd >= 0)
				tell_listener(r, i);
		return;
	case MSG_CERTS:
		take_certs(r, m);
		return;
	case MSG_TAKE:
	case MSG_LEAVE:
		tell_thread(r, m);
		return;
	default:
		return;
	}
}

static void on_end(struct msg_channel *ch, const char *reason)
{
	(void)ch;
	log_info("router.ends", "reason=\"the keeper's socket: %s\"", reason);
	_exit(0);
}

static void say(struct router *r, enum msg_type type)
{
	struct msg_none none = {0};

	msg_send(&r->keeper, type, &none, NULL, 0, NULL, 0);
}

static bool all_turn(const struct router *r)
{
	for (uint32_t i = 0; i < r->thread_count; i++)
		if (r->loop.now_ms - shm_get(&r->threads[i].n->tick_ms) > STUCK_MS)
			return false;
	return true;
}

static void on_beat(struct loop_timer *timer)
{
	struct router *r = container_of(timer, struct router, beat);

	if (r->started && all_turn(r))
		say(r, MSG_BEAT);
	loop_timer_set(&r->loop, timer, r->loop.now_ms + BEAT_MS);
}

/* A thread has taken up a table, or met a refusal. */
static void on_main_bell(struct loop_io *io, uint32_t events)
{
	struct router *r = container_of(io, struct router, main_io);
	uint64_t n;

	(void)events;
	if (read(io->fd, &n, sizeof(n)) < 0)
		return;
	probe_refused(r);
	eject_accused(r);
	if (r->ready || !r->view)
		return;
	for (uint32_t i = 0; i < r->thread_count; i++)
		if (!shm_get(&r->threads[i].n->generation))
			return;
	r->ready = true;
	say(r, MSG_READY);
}

static void raise_descriptor_limit(void)
{
	struct rlimit limit;

	if (getrlimit(RLIMIT_NOFILE, &limit) == 0) {
		limit.rlim_cur = limit.rlim_max;
		setrlimit(RLIMIT_NOFILE, &limit);
	}
}

int router_main(int argc, char **argv)
{
	static struct router r = {.controller_bell = -1, .log_bell = -1};

	(void)argc, (void)argv;
	log_init("router", LOG_INFO);
	signal(SIGPIPE, SIG_IGN);
	raise_descriptor_limit();
	for (int i = 0; i < LISTENERS_MAX; i++)
		listeners[i].fd = -1;
	list_init(&r.probes);
	if (loop_init(&r.loop) < 0)
		give_up("making a loop");
	r.main_bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	r.main_io.on_ready = on_main_bell;
	r.beat.on_time = on_beat;
	r.leave_look.on_time = look_empty;
	r.keeper.on_msg = on_msg;
	r.keeper.on_end = on_end;
	if (r.main_bell < 0 || loop_io_add(&r.loop, &r.main_io, r.main_bell, EPOLLIN) < 0 ||
	    msg_channel_open(&r.keeper, &r.loop, MSG_CHANNEL_FD) < 0)
		give_up("opening the keeper's socket");
	on_beat(&r.beat);
	eject_start(&r);
	loop_run(&r.loop);
	return 0;
}
