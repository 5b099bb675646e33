/* SPDX-License-Identifier: Apache-2.0
 *
 * A thread of the router: a loop, and a letter box. The main thread drops
 * commands into the box (a lock-free stack, turned round when it is emptied) and
 * rings; anyone may ring to have what waits looked at again.
 */
#include "route/route_priv.h"

#include <sys/eventfd.h>
#include <sys/random.h>

void bell_ring(int fd)
{
	uint64_t one = 1;

	/* A bell that is full has been rung. */
	if (fd >= 0 && write(fd, &one, sizeof(one)) < 0)
		return;
}

void thread_wake(struct thread *t)
{
	bell_ring(t->wake_fd);
}

void thread_command(struct thread *t, struct command c)
{
	struct command *put = util_alloc(sizeof(*put));

	*put = c;
	put->next = atomic_load(&t->commands);
	while (!atomic_compare_exchange_weak(&t->commands, &put->next, put))
		;
	thread_wake(t);
}

static void obey(struct thread *t, const struct command *c)
{
	switch (c->type) {
	case COMMAND_TABLE:
		apps_take(t, c->view);
		bell_ring(t->r->main_bell);
		return;
	case COMMAND_LISTEN:
		listener_add(t, c->id, c->fd);
		return;
	case COMMAND_UNLISTEN:
		listener_remove(t, c->id);
		return;
	case COMMAND_CERTS:
		tls_thread_take(t, c->certs);
		return;
	case COMMAND_TAKE:
		take_begin(t, c->fd);
		return;
	case COMMAND_LEAVE:
		leave_begin(t, c->fd);
		return;
	}
}

static void take_commands(struct thread *t)
{
	struct command *c = atomic_exchange(&t->commands, NULL), *in_order = NULL, *next;

	for (; c; c = next) {
		next = c->next;
		c->next = in_order;
		in_order = c;
	}
	for (c = in_order; c; c = next) {
		next = c->next;
		obey(t, c);
		free(c);
	}
}

static void on_wake(struct loop_io *io, uint32_t events)
{
	struct thread *t = container_of(io, struct thread, wake_io);
	struct app *app, *tmp;
	uint64_t n;

	(void)events;
	if (read(io->fd, &n, sizeof(n)) < 0)
		return;
	take_commands(t);
	if (atomic_exchange(&t->move, false))
		stuck_move(t);
	if (!atomic_exchange(&t->look, false))
		return;
	LIST_EACH_SAFE(app, tmp, &t->waiting_apps, in_waiting)
		wait_look(app);
}

static void on_tick(struct loop_timer *timer)
{
	struct thread *t = container_of(timer, struct thread, tick);

	atomic_store(&t->n->tick_ms, t->loop.now_ms);
	t->wall_offset_us = clock_wall_ms() * 1000 - clock_us();
	upstream_sweep(t);
	loop_timer_set(&t->loop, timer, t->loop.now_ms + TICK_MS);
}

/* xorshift128+: ids must not collide, nobody has to be unable to guess them. */
uint64_t thread_random(struct thread *t)
{
	uint64_t a = t->random[0], b = t->random[1];

	t->random[0] = b;
	a ^= a << 23;
	t->random[1] = a ^ b ^ (a >> 17) ^ (b >> 26);
	return t->random[1] + b;
}

static void run_again(struct thread *t)
{
	struct list todo;

	if (list_empty(&t->again))
		return;
	/* Those that ask for another turn while this goes on get it in the next one. */
	list_init(&todo);
	list_add(&t->again, &todo);
	list_del(&t->again);
	list_init(&t->again);
	while (!list_empty(&todo)) {
		struct client *c = container_of(todo.next, struct client, in_again);

		list_del(&c->in_again);
		client_run(c);
	}
}

void thread_turn(struct thread *t, int max_ms)
{
	t->greets = 0;
	loop_turn(&t->loop, list_empty(&t->again) ? max_ms : 0);
	t->greets = 0; /* those that come anew must not keep those back that wait */
	run_again(t);
	h2_flush(t);
}

static void *thread_main(void *arg)
{
	struct thread *t = arg;

	for (;;)
		thread_turn(t, -1);
	return NULL;
}

int thread_init(struct thread *t)
{
	list_init(&t->waiting_apps);
	list_init(&t->idle_upstreams);
	list_init(&t->again);
	list_init(&t->listeners);
	list_init(&t->h2_sessions);
	list_init(&t->h2_flush);
	list_init(&t->everyone);
	t->clients.size = sizeof(struct client);
	t->exchanges.size = sizeof(struct exchange);
	t->upstreams.size = sizeof(struct upstream);
	t->n = &t->r->shm->thread[t->r->first_row + t->index];
	t->tick.on_time = on_tick;
	t->wake_io.on_ready = on_wake;
	if (getrandom(t->random, sizeof(t->random), 0) != sizeof(t->random) ||
	    loop_init(&t->loop) < 0 || !password_init(&t->passwords))
		return -1;
	t->wake_fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	if (t->wake_fd < 0 || loop_io_add(&t->loop, &t->wake_io, t->wake_fd, EPOLLIN | EPOLLET) < 0)
		return -1;
	on_tick(&t->tick);
	return 0;
}

int thread_start(struct thread *t)
{
	if (thread_init(t) < 0)
		return -1;
	errno = pthread_create(&t->pthread, NULL, thread_main, t);
	return errno ? -1 : 0;
}
