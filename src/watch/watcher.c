/* SPDX-License-Identifier: Apache-2.0
 *
 * The process: it gets memory for its results and a list of checks from the keeper, and measures until it is told to end. It
 * remembers nothing: one that died is started anew, with the same list, and the controller knows what was.
 */
#include "watch/watcher.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <linux/capability.h>
#include <sys/prctl.h>
#include <sys/syscall.h>

#include "base/log.h"
#include "watch/watch_priv.h"

static void on_beat(struct loop_timer *t)
{
	struct watcher *w = container_of(t, struct watcher, beat);
	uint64_t now = w->loop.now_ms;

	msg_send(&w->channel, MSG_BEAT, &(struct msg_none){0}, NULL, 0, NULL, 0);
	if (w->beat_ms && now - w->beat_ms > 1000 + WATCH_STALL_MS)
		w->stalled_ms = now;
	w->beat_ms = now;
	w->swept |= w->plugins > 0;
	watch_sweep(w);
	loop_timer_set(&w->loop, t, now + 1000);
}

static void take_shared(struct watcher *w, struct msg *m)
{
	int bell = shared_at(PART_WATCHER, SHARED_RESULT_BELL), results = shared_at(PART_WATCHER, SHARED_RESULTS);

	if (w->results || m->fds_len <= MAX(bell, results))
		return;
	w->results = results_map(m->fds[results]);
	w->bell = TAKE_FD(m->fds[bell]);
	if (!w->results) {
		log_error("results", "reason=\"they cannot be mapped: %s\"", strerror(errno));
		exit(1);
	}
}

static void take_list(struct watcher *w, struct msg *m)
{
	struct err e;

	if (!w->results || m->fds_len != 1)
		return;
	/* What only checks need costs nothing while there are none. */
	if (!w->http && (watch_names_open(w, &e) < 0 || watch_http_open(w, &e) < 0)) {
		log_error("watcher", "reason=\"%s\"", e.msg);
		exit(1);
	}
	if (watch_take_list(w, m->fds[0], &e) < 0)
		log_error("checks", "reason=\"%s\"", e.msg);
	else
		log_info("checks", "count=%zu", w->checks.len);
}

static void on_msg(struct msg_channel *ch, struct msg *m)
{
	struct watcher *w = container_of(ch, struct watcher, channel);

	if (m->type == MSG_SHARED)
		take_shared(w, m);
	else if (m->type == MSG_CHECKS)
		take_list(w, m);
	else if (m->type == MSG_MEASURE)
		watch_measure(w, ((const struct msg_measure *)m->body)->check, ((const struct msg_measure *)m->body)->within_ms);
}

static void stop_all(struct watcher *w)
{
	for (size_t i = 0; i < w->checks.cap; i++)
		if (w->checks.entries[i].value)
			watch_unschedule(w->checks.entries[i].value);
}

static void on_end(struct msg_channel *ch, const char *reason UNUSED)
{
	loop_stop(&container_of(ch, struct watcher, channel)->loop);
}

static void on_signal(struct loop *loop, int signo UNUSED)
{
	loop_stop(loop);
}

/* What the keeper left us of root's rights: the sockets are there now, or cannot be had. */
static void give_up_raw_sockets(void)
{
	struct __user_cap_header_struct head = {_LINUX_CAPABILITY_VERSION_3, 0};
	struct __user_cap_data_struct none[2] = {{0}};

	if (geteuid() == 0)
		return; /* a keeper that is root makes us somebody else */
	prctl(PR_CAP_AMBIENT, PR_CAP_AMBIENT_CLEAR_ALL, 0, 0, 0);
	syscall(SYS_capset, &head, none);
}

static int start(struct watcher *w)
{
	sigset_t set;

	sigemptyset(&set);
	sigaddset(&set, SIGTERM);
	signal(SIGPIPE, SIG_IGN);
	w->channel.on_msg = on_msg;
	w->channel.on_end = on_end;
	w->beat.on_time = on_beat;
	list_init(&w->waiting[0]);
	list_init(&w->waiting[1]);
	list_init(&w->programs);
	fcntl(MSG_CHANNEL_FD, F_SETFD, FD_CLOEXEC);
	if (loop_init(&w->loop) < 0 || loop_signals(&w->loop, &set, on_signal) < 0 ||
	    msg_channel_open(&w->channel, &w->loop, MSG_CHANNEL_FD) < 0) {
		log_error("watcher", "reason=\"%s\"", strerror(errno));
		return -1;
	}
	watch_icmp_open(w);
	give_up_raw_sockets();
	prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0);
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* checks have secrets in their requests */
	msg_send(&w->channel, MSG_READY, &(struct msg_none){0}, NULL, 0, NULL, 0);
	on_beat(&w->beat);
	return 0;
}

int watcher_main(int argc, char **argv UNUSED)
{
	static struct watcher w;

	log_init("watcher", LOG_INFO);
	if (argc != 2) {
		fprintf(stderr, "upstate: the watcher is started by upstate serve\n");
		return 2;
	}
	if (start(&w) < 0)
		return 1;
	loop_run(&w.loop);
	stop_all(&w);
	return 0;
}
