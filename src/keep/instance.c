/* SPDX-License-Identifier: Apache-2.0
 *
 * An instance is a small machine: five states, five events, and a table that has
 * a step for each pair. Steps do the work and name the next state; nothing else
 * changes it.
 *
 *	             STARTED      READY       ENDED        TIMER        STOP
 *	STARTING     note it      -> RUNNING  -> WAITING   -            -> STOPPING
 *	RUNNING      note it      -           -> WAITING   -            -> STOPPING
 *	WAITING      -            -           -            -> STARTING  -> GONE
 *	STOPPING     -            -           -> GONE      kill all     sooner
 *	GONE         -            -           -            -            -
 *
 * What is not a process of the instance any more is no longer its own: when the
 * main process ends, whatever it left is killed before the next start.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "keep/kept.h"

#define GROUP_LOOK_MS 10
#define GROUP_LOOKS                                                                                \
	100 /* a process that SIGKILL does not end within 1 s is stuck in the kernel               \
	     */
#define PIPE_BYTES (1 << 20)

/* --- reports ------------------------------------------------------------- */

void instance_tell(struct instance *in)
{
	struct msg_instance m = {.id = in->id,
				 .state = in->state,
				 .pid = in->child.pid,
				 .starts = in->starts,
				 .wait_status = in->wait_status,
				 .since_wall_ms = in->since_wall_ms,
				 .next_wall_ms = in->next_wall_ms};

	util_copy(m.reason, sizeof(m.reason), in->reason);
	part_send(in->keeper, PART_CONTROLLER, MSG_INSTANCE, &m, -1);
}

static void enter(struct instance *in, enum instance_state state)
{
	log_info("instance", "name=%s from=%s to=%s pid=%d%s%s%s", in->order.start.name,
		 instance_state_name(in->state), instance_state_name(state), (int)in->child.pid,
		 in->reason[0] ? " reason=\"" : "", in->reason, in->reason[0] ? "\"" : "");
	in->state = state;
	in->since_wall_ms = clock_wall_ms();
	instance_tell(in);
}

void instance_stream(struct instance *in)
{
	struct msg_stream m = {.id = in->id};

	util_copy(m.app, sizeof(m.app), in->order.start.app);
	util_copy(m.name, sizeof(m.name), in->order.start.name);
	part_send(in->keeper, PART_LOGGER, MSG_STREAM, &m, in->out[0]);
}

/* --- start --------------------------------------------------------------- */

static void close_setup(struct instance *in)
{
	int fd = in->setup_io.fd;

	if (fd < 0)
		return;
	loop_io_del(&in->keeper->loop, &in->setup_io);
	close(fd);
}

/* The child says over a pipe what went wrong; that it says nothing and the pipe closes means that
 * exec succeeded. */
static void on_setup(struct loop_io *io, uint32_t events UNUSED)
{
	struct instance *in = container_of(io, struct instance, setup_io);
	char text[MSG_REASON];
	ssize_t n = read(io->fd, text, sizeof(text) - 1);

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	close_setup(in);
	if (n > 0) {
		text[n] = '\0';
		util_copy(in->reason, sizeof(in->reason), text);
		in->setup_failed = true;
	} else {
		instance_step_on(in, INSTANCE_EVENT_STARTED);
	}
}

static void wait_for(struct instance *in, uint64_t ms)
{
	loop_timer_set(&in->keeper->loop, &in->timer, in->keeper->loop.now_ms + ms);
}

static uint64_t back_off(struct instance *in)
{
	uint32_t random = 0;

	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = (uint32_t)clock_us();
	return supervise_ended(&in->supervise, &supervise_instance, random,
			       in->keeper->loop.now_ms);
}

static void wait_for_start(struct instance *in)
{
	uint64_t pause = back_off(in);

	in->next_wall_ms = clock_wall_ms() + pause;
	in->group_tries = 0;
	enter(in, INSTANCE_WAITING);
	wait_for(in, pause);
}

static void start(struct instance *in)
{
	struct keeper *k = in->keeper;
	struct err e;
	int setup = -1;
	pid_t pid;

	/* The last one's children were killed; until they are gone they may hold its port. */
	if (in->starts && !group_empty(in) && in->group_tries++ < GROUP_LOOKS) {
		wait_for(in, GROUP_LOOK_MS);
		return;
	}
	supervise_started(&in->supervise, k->loop.now_ms);
	in->setup_failed = in->killed = false;
	in->next_wall_ms = 0;
	in->starts++;
	pid = start_fork(in, &setup, &e);
	if (pid > 0 && loop_child_add(&k->loop, &in->child, pid) < 0) {
		kill(pid, SIGKILL);
		close(setup);
		pid = err_sys(&e, "no descriptor left to watch it");
	}
	if (pid < 0) {
		snprintf(in->reason, sizeof(in->reason), "%.190s", e.msg);
		wait_for_start(in);
		return;
	}
	in->group_pid = pid;
	if (loop_io_add(&k->loop, &in->setup_io, setup, EPOLLIN) < 0)
		close(setup);
	enter(in, INSTANCE_STARTING);
}

/* --- end ----------------------------------------------------------------- */

static void destroy(struct instance *in)
{
	struct keeper *k = in->keeper;

	loop_timer_fini(&k->loop, &in->timer);
	loop_child_del(&k->loop, &in->child);
	close_setup(in);
	notify_close(in);
	for (int i = 0; i < 2; i++) /* with these the logger sees the end of the output */
		if (in->out[i] >= 0)
			close(in->out[i]);
	if (in->group_dir >= 0)
		close(in->group_dir);
	map_del(&k->by_id, in->id);
	list_del(&in->link);
	order_fini(&in->order);
	free(in);
}

static void on_child_end(struct loop_child *child, int status)
{
	struct instance *in = container_of(child, struct instance, child);
	struct keeper *k = in->keeper;
	char text[MSG_REASON];

	if (in->setup_io.fd >= 0)
		on_setup(&in->setup_io, 0);
	in->wait_status = status;
	if (!in->setup_failed) {
		part_says_end(status, k->loop.now_ms - in->supervise.started_ms, text,
			      sizeof(text));
		snprintf(in->reason, sizeof(in->reason), "%.150s%s", text,
			 in->killed ? "; it did not end within its grace" : "");
	}
	instance_step_on(in, INSTANCE_EVENT_ENDED);
	keep_reap_strangers(k);
}

static void on_time(struct loop_timer *timer)
{
	instance_step_on(container_of(timer, struct instance, timer), INSTANCE_EVENT_TIMER);
}

/* --- the steps ----------------------------------------------------------- */

static void nothing(struct instance *in UNUSED)
{
}

static void note_started(struct instance *in)
{
	instance_tell(in);
}

static void say_running(struct instance *in)
{
	enter(in, INSTANCE_RUNNING);
}

static void start_later(struct instance *in)
{
	group_kill(in);
	wait_for_start(in);
}

static void begin_stop(struct instance *in)
{
	loop_timer_stop(&in->keeper->loop, &in->timer);
	in->stop_by_ms = in->keeper->loop.now_ms + in->grace_ms;
	kill(in->child.pid, (int)in->stop_signal);
	if (in->stop_signal != SIGKILL && in->stop_signal != SIGSTOP)
		kill(in->child.pid, SIGCONT); /* one that was stopped must be able to hear it */
	enter(in, INSTANCE_STOPPING);
	wait_for(in, in->grace_ms);
}

/* Told again: only what makes the end come sooner counts, so telling it twice changes nothing. */
static void stop_sooner(struct instance *in)
{
	uint64_t by = in->keeper->loop.now_ms + in->grace_ms;

	if (by >= in->stop_by_ms)
		return;
	in->stop_by_ms = by;
	loop_timer_set(&in->keeper->loop, &in->timer, by);
}

static void kill_now(struct instance *in)
{
	in->killed = true;
	group_kill(in);
	wait_for(in, 1000); /* again, should one have been born in between */
}

/* There is no process now, and none may be killed by a number that may by now be someone else's. */
static void finish_idle(struct instance *in)
{
	loop_timer_stop(&in->keeper->loop, &in->timer);
	enter(in, INSTANCE_GONE);
	rundir_remove(in);
}

static void finish(struct instance *in)
{
	group_kill(in);
	finish_idle(in);
}

/* clang-format off */
instance_step *const instance_table[INSTANCE_STATE_COUNT][INSTANCE_EVENT_COUNT] = {
#define ROW(state, started, ready, ended, timer, stop)                                             \
	[INSTANCE_##state] = {[INSTANCE_EVENT_STARTED] = started, [INSTANCE_EVENT_READY] = ready,  \
			      [INSTANCE_EVENT_ENDED] = ended, [INSTANCE_EVENT_TIMER] = timer,      \
			      [INSTANCE_EVENT_STOP] = stop}
	/*  state     STARTED       READY        ENDED        TIMER     STOP */
	ROW(STARTING, note_started, say_running, start_later, nothing,  begin_stop),
	ROW(RUNNING,  note_started, nothing,     start_later, nothing,  begin_stop),
	ROW(WAITING,  nothing,      nothing,     nothing,     start,    finish_idle),
	ROW(STOPPING, nothing,      nothing,     finish,      kill_now, stop_sooner),
	ROW(GONE,     nothing,      nothing,     nothing,     nothing,  nothing),
#undef ROW
};
/* clang-format on */

/* An instance that is GONE afterwards is freed. */
void instance_step_on(struct instance *in, enum instance_event event)
{
	struct keeper *k = in->keeper;

	instance_table[in->state][event](in);
	if (in->state == INSTANCE_GONE) {
		destroy(in);
		keep_next_phase(k);
	}
}

/* --- orders -------------------------------------------------------------- */

static void refuse(struct keeper *k, uint64_t id, const char *reason)
{
	struct msg_instance m = {
	    .id = id, .state = INSTANCE_GONE, .since_wall_ms = clock_wall_ms()};

	util_copy(m.reason, sizeof(m.reason), reason);
	part_send(k, PART_CONTROLLER, MSG_INSTANCE, &m, -1);
}

static int open_output(struct instance *in, struct err *e)
{
	const struct msg_start *s = &in->order.start;

	if (pipe2(in->out, O_CLOEXEC) < 0)
		return err_sys(e, "no pipe for its output");
	fcntl(in->out[0], F_SETFL, O_NONBLOCK);
	/* A wish: it bridges the moment in which a logger is away. */
	fcntl(in->out[0], F_SETPIPE_SZ, PIPE_BYTES);
	/* So that it may open /dev/stderr, which is this pipe, as its own user. */
	if (s->uid != (uint32_t)-1 && fchown(in->out[1], s->uid, s->gid) < 0)
		return err_sys(e, "its output cannot be given to user %u", s->uid);
	return 0;
}

static int prepare(struct instance *in, const struct msg *m, struct err *e)
{
	if (in->keeper->by_id.len > KEEP_INSTANCES_MAX)
		return err_set(e, ERR_LIMIT, "%d instances are running, which is the limit",
			       KEEP_INSTANCES_MAX);
	if (order_take(&in->order, m, e) < 0 || open_output(in, e) < 0 || rundir_make(in, e) < 0)
		return -(int)e->code;
	in->stop_signal = in->order.start.stop_signal ? in->order.start.stop_signal : SIGTERM;
	in->grace_ms = in->order.start.grace_ms;
	return 0;
}

static struct instance *make(struct keeper *k, uint64_t id)
{
	struct instance *in = util_alloc(sizeof(*in));

	*in = (struct instance){.keeper = k,
				.id = id,
				.state = INSTANCE_WAITING,
				.child.on_exit = on_child_end,
				.timer.on_time = on_time,
				.setup_io = {on_setup, -1},
				.notify_io = {NULL, -1},
				.out = {-1, -1},
				.group_dir = -1,
				.since_wall_ms = clock_wall_ms()};
	list_add_tail(&k->instances, &in->link);
	map_put(&k->by_id, in->id, in);
	return in;
}

static void adopt_numbers(struct instance *in, const struct kept_instance *s)
{
	in->state = (enum instance_state)s->state;
	in->supervise = s->supervise;
	for (int i = 0; i < 2; i++)
		in->out[i] = s->out[i];
	in->group_dir = s->group_dir;
	util_copy(in->group, sizeof(in->group), s->group);
	in->group_pid = s->group_pid;
	in->starts = s->starts;
	in->wait_status = s->wait_status;
	in->since_wall_ms = s->since_wall_ms;
	in->next_wall_ms = s->next_wall_ms;
	in->group_tries = s->group_tries;
	in->stop_signal = s->stop_signal;
	in->grace_ms = s->grace_ms;
	in->stop_by_ms = s->stop_by_ms;
	in->setup_failed = s->setup_failed;
	in->killed = s->killed;
	util_copy(in->reason, sizeof(in->reason), s->reason);
}

int instance_adopt(struct keeper *k, const struct kept_instance *s, const char *tail, struct err *e)
{
	const struct msg order = {
	    .type = MSG_START, .body = (void *)&s->start, .tail = tail, .tail_len = s->tail_len};
	struct instance *in = make(k, s->id);

	if (order_take(&in->order, &order, e) < 0)
		return -(int)e->code;
	adopt_numbers(in, s);
	if (s->pid > 0 && loop_child_add(&k->loop, &in->child, s->pid) < 0)
		return err_sys(e, "watching %s", in->order.start.name);
	if (s->setup_fd >= 0 && loop_io_add(&k->loop, &in->setup_io, s->setup_fd, EPOLLIN) < 0)
		return err_sys(e, "the start of %s", in->order.start.name);
	if (s->notify_fd >= 0 && notify_open(in, s->notify_fd, e) < 0)
		return -(int)e->code;
	if (s->timer_armed)
		loop_timer_set(&k->loop, &in->timer, s->timer_at_ms);
	return 0;
}

void instance_start(struct keeper *k, const struct msg *m)
{
	const struct msg_start *s = m->body;
	struct instance *in = map_get(&k->by_id, s->id);
	struct err e;

	if (in) {
		instance_tell(in);
		return;
	}
	if (k->phase != KEEP_RUNS) {
		refuse(k, s->id, "Upstate is ending");
		return;
	}
	in = make(k, s->id);
	if (prepare(in, m, &e) < 0) {
		log_error("instance.refused", "name=%s reason=\"%s\"", in->order.start.name, e.msg);
		refuse(k, in->id, e.msg);
		destroy(in);
		return;
	}
	group_make(in);
	instance_stream(in);
	instance_step_on(in, INSTANCE_EVENT_TIMER);
}

void instance_stop(struct keeper *k, const struct msg_stop *stop)
{
	struct instance *in = map_get(&k->by_id, stop->id);

	if (!in) {
		refuse(k, stop->id, "not known to the keeper");
		return;
	}
	if (stop->signal > 0 && stop->signal < NSIG)
		in->stop_signal = stop->signal;
	in->grace_ms = stop->grace_ms;
	instance_step_on(in, INSTANCE_EVENT_STOP);
}

void instance_stop_all(struct keeper *k)
{
	struct instance *in, *next;

	LIST_EACH_SAFE (in, next, &k->instances, link)
		instance_step_on(in, INSTANCE_EVENT_STOP);
}

void instance_kill_all(struct keeper *k)
{
	struct instance *in;

	LIST_EACH (in, &k->instances, link)
		if (in->child.pid)
			group_kill(in);
}

void instance_tell_all(struct keeper *k)
{
	struct instance *in;

	LIST_EACH (in, &k->instances, link)
		instance_tell(in);
}

void instance_stream_all(struct keeper *k)
{
	struct instance *in;

	LIST_EACH (in, &k->instances, link)
		instance_stream(in);
}
