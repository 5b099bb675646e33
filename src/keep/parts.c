/* SPDX-License-Identifier: Apache-2.0
 *
 * Upstate's own processes. Each has a channel to the keeper on descriptor 3 and
 * nothing else but what comes over it. A part that ends is started anew (core/supervise);
 * one that is silent, breaks the protocol or does not read is ended first. Nothing
 * is kept for a part that is away: a new one is told all that is.
 */
#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <linux/capability.h>
#include <linux/close_range.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "keep/keep_priv.h"
#include "wire/shm.h"

bool part_send(struct keeper *k, enum part to, enum msg_type type, const void *body, int fd)
{
	return msg_send(&k->parts[to]->channel, type, body, NULL, 0, &fd, fd >= 0);
}

void part_tell(struct part_proc *p)
{
	struct msg_part m = {.part = p->part,
			     .state = p->state,
			     .pid = p->part == PART_KEEPER ? getpid() : p->child.pid,
			     .starts = p->starts,
			     .since_wall_ms = p->since_wall_ms};

	util_copy(m.reason, sizeof(m.reason), p->reason);
	part_send(p->keeper, PART_CONTROLLER, MSG_PART, &m, -1);
}

static bool is_router(const struct part_proc *p)
{
	return p->part == PART_ROUTER || p->part == PART_OTHER;
}

static void set_state(struct part_proc *p, enum part_state state)
{
	p->state = state;
	p->since_wall_ms = clock_wall_ms();
	part_tell(p);
}

const char *part_says_end(int wait_status, uint64_t ran_ms, char *text, size_t size)
{
	char span[CLOCK_TEXT];

	clock_span(ran_ms, span);
	if (WIFSIGNALED(wait_status))
		snprintf(text, size, "killed by signal %d (%s) after %s", WTERMSIG(wait_status),
			 sigabbrev_np(WTERMSIG(wait_status)) ?: "?", span);
	else
		snprintf(text, size, "exited with status %d after %s", WEXITSTATUS(wait_status),
			 span);
	return text;
}

/* In the child: of all that root may do, what the watcher needs for ICMP. It gives that up when it has its sockets;
 * where it cannot be had, it does without. */
static void keep_raw_sockets(void)
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct caps[2] = {{1u << CAP_NET_RAW, 1u << CAP_NET_RAW, 1u << CAP_NET_RAW}, {0}};

	if (syscall(SYS_capset, &head, caps) < 0) {
		caps[0] = (struct __user_cap_data_struct){0};
		syscall(SYS_capset, &head, caps);
	} else {
		prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_RAISE, CAP_NET_RAW, 0, 0);
	}
}

/* In the child: nothing of the keeper stays open but its end of the channel. */
__attribute__((noreturn)) static void become_part(const struct part_proc *p, int channel)
{
	struct keeper *k = p->keeper;
	char verb[32];
	char *argv[] = {(char *)"upstate", verb, NULL, NULL, NULL};
	sigset_t none;
	pid_t keeper = getppid();
	uid_t id = is_router(p) ? KEEP_ROUTER_ID : p->part == PART_WATCHER ? KEEP_WATCHER_ID : 0;
	int null = open("/dev/null", O_RDWR);

	snprintf(verb, sizeof(verb), "_%s", is_router(p) ? "router" : part_name(p->part));
	if (p->part == PART_CONTROLLER || p->part == PART_LOGGER)
		argv[2] = k->state;
	if (p->part == PART_CONTROLLER)
		argv[3] = k->conf;
	sigemptyset(&none);
	sigprocmask(SIG_SETMASK, &none, NULL);
	signal(SIGPIPE, SIG_IGN); /* parts write to peers that leave, and never want it */
	setsid(); /* a ^C at the terminal is for the keeper, which ends things in order */
	if (null >= 0)
		dup2(null, STDIN_FILENO);
	if (channel == MSG_CHANNEL_FD)
		fcntl(channel, F_SETFD, 0);
	else if (dup2(channel, MSG_CHANNEL_FD) < 0)
		_exit(126);
	syscall(SYS_close_range, MSG_CHANNEL_FD + 1, ~0u, CLOSE_RANGE_CLOEXEC);
	if (p->part == PART_WATCHER && k->root)
		prctl(PR_SET_KEEPCAPS, 1, 0, 0, 0);
	if (id && k->root &&
	    (setgroups(0, NULL) < 0 || setresgid(id, id, id) < 0 || setresuid(id, id, id) < 0))
		_exit(126);
	if (p->part == PART_WATCHER && k->root)
		keep_raw_sockets();
	/* After the change of user, which would clear it. */
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	prctl(PR_SET_NO_NEW_PRIVS, is_router(p) || p->part == PART_LOGGER, 0, 0, 0);
	if (getppid() != keeper)
		_exit(126);
	syscall(SYS_execveat, k->binary_fd, "", argv, environ, AT_EMPTY_PATH);
	log_error("part.start", "part=%s reason=\"cannot run the program: %s\"", part_name(p->part),
		  strerror(errno));
	_exit(126);
}

/* A table that no router can stand on must not take the service with it: after some quick crashes
 * in a row the one before is given instead, until the controller sends another. The end by SIGKILL is
 * no crash: it came from outside, and the newest table is the one that is right. */
static void send_table(struct part_proc *router)
{
	struct keeper *k = router->keeper;
	bool older =
	    router->quick_crashes > supervise_part.free_ends && k->tables[1].fd >= 0;
	struct msg_table t = {k->tables[older].generation};

	if (k->tables[older].fd < 0)
		return;
	if (older)
		log_warn("table.older", "generation=%llu instead=%llu",
			 (unsigned long long)t.generation,
			 (unsigned long long)k->tables[0].generation);
	part_send(k, router->part, MSG_TABLE, &t, k->tables[older].fd);
}

void part_send_certs(struct keeper *k, enum part to)
{
	struct msg_certs m = {k->certs.generation};

	if (k->certs.fd >= 0)
		part_send(k, to, MSG_CERTS, &m, k->certs.fd);
}

/* What a new part must know, in the order in which it can use it. */
static void send_all(struct part_proc *p)
{
	struct keeper *k = p->keeper;
	struct msg_shared shared = {.threads = k->threads,
				    .bank = p->bank,
				    .router_uid = (uint32_t)-1,
				    .router_gid = (uint32_t)-1,
				    .keeper_pid = (uint32_t)getpid()};
	int fds[SHARED_COUNT], n = 0;

	if (k->root)
		shared.router_uid = shared.router_gid = KEEP_ROUTER_ID;
	for (int i = 0; i < SHARED_COUNT; i++)
		if (shared_at(p->part, i) >= 0)
			fds[n++] = k->shared[i];
	msg_send(&p->channel, MSG_SHARED, &shared, NULL, 0, fds, n);
	switch (p->part) {
	case PART_ROUTER:
	case PART_OTHER:
		listen_tell_all(k, p->part);
		part_send_certs(k, p->part);
		send_table(p);
		break;
	case PART_CONTROLLER:
		listen_tell_all(k, PART_CONTROLLER);
		part_send_certs(k, PART_CONTROLLER);
		instance_tell_all(k);
		for (int i = 0; i < PART_COUNT; i++)
			if (i != PART_OTHER || k->parts[i]->child.pid)
				part_tell(k->parts[i]);
		part_send(k, PART_CONTROLLER, MSG_SYNCED, &(struct msg_none){0}, -1);
		replace_tell(k);
		break;
	case PART_WATCHER:
		if (k->checks.fd >= 0)
			part_send(k, PART_WATCHER, MSG_CHECKS, &(struct msg_checks){k->checks.generation}, k->checks.fd);
		break;
	case PART_LOGGER:
		if (k->logconf_set)
			part_send(k, PART_LOGGER, MSG_LOGCONF, &k->logconf, -1);
		instance_stream_all(k);
		break;
	default:
		break;
	}
}

static void on_msg(struct msg_channel *ch, struct msg *m)
{
	struct part_proc *p = container_of(ch, struct part_proc, channel);

	switch (m->type) {
	case MSG_READY:
		p->was_ready = true;
		if (p->state != PART_STATE_UP)
			set_state(p, PART_STATE_UP);
		replace_ready(p);
		upgrade_part_ready(p->keeper, p->part);
		keep_serve_ready(p->keeper);
		break;
	case MSG_BEAT:
		p->suspected = false;
		if (!p->ending)
			loop_timer_set(&p->keeper->loop, &p->silent,
				       p->keeper->loop.now_ms + KEEP_SILENT_MS);
		break;
	default:
		if (p->part == PART_CONTROLLER)
			keep_order(p, m);
		else
			part_kill(p, "sent what only the controller may send");
	}
}

static void on_end(struct msg_channel *ch, const char *reason)
{
	struct part_proc *p = container_of(ch, struct part_proc, channel);

	if (p->child.pid && !p->ending) {
		char text[MSG_REASON];

		/* Closed: it is ending by itself, most likely, and says more by how it does. */
		snprintf(text, sizeof(text), "its channel: %.150s", reason);
		part_kill(p, strcmp(reason, "closed") == 0 ? "" : text);
	}
}

void part_kill(struct part_proc *p, const char *reason)
{
	msg_channel_close(&p->channel);
	if (!p->child.pid)
		return;
	util_copy(p->killed_for, sizeof(p->killed_for), reason);
	kill(p->child.pid, SIGKILL);
}

static void on_silent(struct loop_timer *timer)
{
	struct part_proc *p = container_of(timer, struct part_proc, silent);

	if (p->ending) {
		part_kill(p, "did not end in time");
	} else if (p->suspected) {
		part_kill(p, "hung: it had not said for 10 s that it works");
	} else {
		/* It may be the keeper that slept (stopped, or the machine was): what was sent
		 * meanwhile is read before the second time. */
		p->suspected = true;
		loop_timer_set(&p->keeper->loop, &p->silent,
			       p->keeper->loop.now_ms + KEEP_SUSPECT_MS);
	}
}

void part_stop(struct part_proc *p)
{
	p->ending = true;
	loop_timer_stop(&p->keeper->loop, &p->pause);
	if (!p->child.pid)
		return;
	if (p->part == PART_LOGGER)
		msg_channel_close(&p->channel); /* it drains what is there, then ends */
	else
		kill(p->child.pid, SIGTERM);
	loop_timer_set(&p->keeper->loop, &p->silent, p->keeper->loop.now_ms + KEEP_PART_GRACE_MS);
}

/* What was inside a router that died is known, and counted as lost. */
static void bury_router(struct part_proc *p)
{
	uint64_t lost = shm_bury(p->keeper->shm, p->bank);

	if (lost)
		log_warn("router.lost", "inside=%llu", (unsigned long long)lost);
}

void part_restart(struct part_proc *p)
{
	if (p->child.pid) {
		p->restart = true;
		part_stop(p);
	} else {
		loop_timer_stop(&p->keeper->loop, &p->pause);
		part_start(p);
	}
}

/* Taken over from the program before: it is watched from here on. */
void part_adopted(struct part_proc *p)
{
	struct keeper *k = p->keeper;

	if (msg_channel_is_open(&p->channel))
		loop_timer_set(&k->loop, &p->silent, k->loop.now_ms + KEEP_SILENT_MS);
	else if (!p->child.pid && p->part != PART_KEEPER && p->part != PART_OTHER)
		loop_timer_set(&k->loop, &p->pause, k->loop.now_ms);
}

static void on_exit_of_part(struct loop_child *child, int status)
{
	struct part_proc *p = container_of(child, struct part_proc, child);
	struct keeper *k = p->keeper;
	char text[MSG_REASON], why[MSG_REASON];
	uint64_t pause;
	uint32_t random = 0;

	msg_channel_close(&p->channel);
	loop_timer_stop(&k->loop, &p->silent);
	if (is_router(p))
		bury_router(p);
	part_says_end(status, k->loop.now_ms - p->supervise.started_ms, text, sizeof(text));
	util_copy(why, sizeof(why), p->killed_for);
	p->killed_for[0] = '\0';
	snprintf(p->reason, sizeof(p->reason), "%.90s%s%.100s", text, why[0] ? ": " : "", why);
	set_state(p, PART_STATE_DOWN);
	keep_reap_strangers(k);
	if (k->phase == KEEP_RUNS && p->restart) {
		p->restart = p->ending = false;
		part_start(p);
		return;
	}
	if (p->part == PART_OTHER)
		replace_ended(p);
	if (k->phase != KEEP_RUNS)
		keep_next_phase(k);
	if (k->phase != KEEP_RUNS || p->part == PART_OTHER)
		return;
	log_warn("part.ended", "part=%s reason=\"%s%s%s\"", part_name(p->part), text,
		 why[0] ? "; " : "", why);
	upgrade_part_ended(k, p->part, p->reason);
	if (p->part == PART_CONTROLLER && !p->was_ready && WIFEXITED(status) &&
	    WEXITSTATUS(status)) {
		/* It has said why: a configuration with mistakes, a state that cannot be read.
		 * Starting it again would only say it again. */
		keep_end(k, WEXITSTATUS(status));
		return;
	}
	if (getrandom(&random, sizeof(random), GRND_NONBLOCK) < 0)
		random = (uint32_t)clock_us();
	if (k->loop.now_ms - p->supervise.started_ms >= supervise_part.healthy_ms)
		p->quick_crashes = 0;
	else if (!WIFSIGNALED(status) || WTERMSIG(status) != SIGKILL)
		p->quick_crashes++;
	pause = supervise_ended(&p->supervise, &supervise_part, random, k->loop.now_ms);
	if (pause)
		loop_timer_set(&k->loop, &p->pause, k->loop.now_ms + pause);
	else
		part_start(p);
}

static void on_pause_over(struct loop_timer *timer)
{
	part_start(container_of(timer, struct part_proc, pause));
}

/* It could not even be started (no memory, no descriptor): as if it had ended at once. */
static void start_failed(struct part_proc *p, const char *what)
{
	snprintf(p->reason, sizeof(p->reason), "cannot be started: %s: %s", what, strerror(errno));
	log_error("part.start", "part=%s reason=\"%s\"", part_name(p->part), p->reason);
	set_state(p, PART_STATE_DOWN);
	if (p->part == PART_OTHER)
		replace_ended(p);
	else
		loop_timer_set(&p->keeper->loop, &p->pause, p->keeper->loop.now_ms + 1000);
}

void part_start(struct part_proc *p)
{
	struct keeper *k = p->keeper;
	int ends[2];
	pid_t pid;

	if (msg_pair(ends) < 0) {
		start_failed(p, "socketpair");
		return;
	}
	if (is_router(p))
		atomic_store(&k->shm->used[p->bank], 1);
	pid = fork();
	if (pid == 0)
		become_part(p, ends[1]);
	close(ends[1]);
	if (pid < 0 || loop_child_add(&k->loop, &p->child, pid) < 0) {
		close(ends[0]);
		if (pid > 0)
			kill(pid, SIGKILL); /* reaped as a stranger */
		start_failed(p, "fork");
		return;
	}
	supervise_started(&p->supervise, k->loop.now_ms);
	p->starts++;
	p->suspected = false;
	if (msg_channel_open(&p->channel, &k->loop, ends[0]) < 0) {
		close(ends[0]);
		part_kill(p, "no memory for its channel");
		return;
	}
	loop_timer_set(&k->loop, &p->silent, k->loop.now_ms + KEEP_SILENT_MS);
	log_info("part.start", "part=%s pid=%d", part_name(p->part), (int)pid);
	/* Its state goes out with all the others when it is the controller that starts. */
	p->state = PART_STATE_STARTING;
	p->since_wall_ms = clock_wall_ms();
	if (p->part != PART_CONTROLLER)
		part_tell(p);
	send_all(p);
}

void part_init(struct keeper *k, enum part part)
{
	struct part_proc *p = k->parts[part] = &k->procs[part];

	*p = (struct part_proc){.keeper = k, .part = part, .state = PART_STATE_DOWN};
	p->bank = part == PART_OTHER;
	p->child.on_exit = on_exit_of_part;
	p->pause.on_time = on_pause_over;
	p->silent.on_time = on_silent;
	p->channel.on_msg = on_msg;
	p->channel.on_end = on_end;
	p->since_wall_ms = clock_wall_ms();
	if (part == PART_KEEPER) {
		p->state = PART_STATE_UP;
		p->starts = 1;
	}
}
