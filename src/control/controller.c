/* SPDX-License-Identifier: Apache-2.0
 *
 * Start: the keeper sends SHARED first; with the numbers in hand the state is loaded. Then it tells
 * what it holds, up to SYNCED; then the configuration is taken up and the world made like the state.
 */
#include "control/controller.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "base/log.h"
#include "control/control_priv.h"

static struct control control;

static __attribute__((noreturn)) void die(const struct err *e)
{
	fprintf(stderr, "upstate: %s\n", e->msg);
	exit(err_exit_status(e->code));
}

static void on_beat(struct loop_timer *t)
{
	struct control *c = container_of(t, struct control, beat);
	static const struct msg_none none;

	msg_send(&c->keeper, MSG_BEAT, &none, NULL, 0, NULL, 0);
	loop_timer_set(&c->loop, t, c->loop.now_ms + 1000);
	/* The bell can be lost with a router that dies between writing and ringing. */
	ship_on_bell(&c->ship);
	if (c->tell)
		tell_router_rang(c->tell);
	ship_turn(&c->ship);
	state_reserve_restore(c->state);
}

static void on_bell(struct loop_io *io, uint32_t events UNUSED)
{
	uint64_t n;

	struct control *c = container_of(io, struct control, bell);

	if (read(io->fd, &n, sizeof(n)) != sizeof(n))
		return;
	ship_on_bell(&c->ship);
	tell_router_rang(c->tell);
}

static void changed(void *arg, struct ship_app *a, const struct ship_change *c,
		    const struct ship_step *step)
{
	tell_change(((struct control *)arg)->tell, a, c, step);
}

static void status_changed(void *arg)
{
	tell_status_changed(((struct control *)arg)->tell);
}

static void reload_for(void *arg, const char *who,
		       void (*done)(void *arg, json_t *answer, const struct err *e), void *done_arg)
{
	control_reload(arg, who, done, done_arg);
}

static int on_shared(struct control *c, struct msg *m, struct err *e)
{
	const struct msg_shared *x = m->body;
	char store[sizeof(c->dir) + 8];
	struct tell_options tell = {.ship = &c->ship, .reload = reload_for, .certificates = control_certs_json,
				    .arg = c, .conf_path = c->conf_path};

	if (m->fds_len < 4)
		return err_set(e, ERR_PROTO, "the keeper sent %d descriptors", m->fds_len);
	c->ship.shm = shm_map(m->fds[0]);
	if (!c->ship.shm)
		return err_sys(e, "mapping the numbers");
	c->bell.on_ready = on_bell;
	if (loop_io_add(&c->loop, &c->bell, m->fds[1], EPOLLIN) < 0)
		return err_sys(e, "watching the router's bell");
	m->fds[1] = -1;
	snprintf(store, sizeof(store), "%s/store", c->dir);
	if (state_open(c->dir, &c->state, e) < 0 || store_open(store, &c->store, e) < 0)
		return -(int)e->code;
	c->ship.loop = &c->loop;
	c->ship.state = c->state;
	c->ship.store = c->store;
	c->ship.keeper = &c->keeper;
	c->ship.root = geteuid() == 0;
	c->ship.router_uid = x->router_uid;
	c->ship.router_gid = x->router_gid;
	c->ship.ops = (struct ship_ops){changed, status_changed, c};
	c->ship.parts[PART_KEEPER].pid = (int32_t)x->keeper_pid;
	util_copy(c->ship.dir, sizeof(c->ship.dir), c->dir);
	if (tell_create(&tell, &c->tell, e) < 0)
		return -(int)e->code;
	if (tell_results(c->tell, m->fds[2], m->fds[3]) < 0)
		return err_sys(e, "mapping the results of the watcher");
	m->fds[2] = -1;
	return ship_open(&c->ship, e);
}

static void on_synced(struct control *c)
{
	struct err e;

	if (control_first_conf(c, &e) < 0)
		die(&e);
}

/* The first configuration is in force: make the world like the state, and say READY. */
static void look_ready(struct control *c)
{
	static const struct msg_none none;

	if (c->started || !c->conf)
		return;
	c->started = true;
	ship_synced(&c->ship);
	tell_synced(c->tell);
	ship_turn(&c->ship);
	control_watch(c);
	msg_send(&c->keeper, MSG_READY, &none, NULL, 0, NULL, 0);
	log_info("ready", "state=%s", c->dir);
}

static void on_msg(struct msg_channel *ch, struct msg *m)
{
	struct control *c = container_of(ch, struct control, keeper);
	struct err e;

	if (!c->ship.shm && m->type != MSG_SHARED)
		return;
	switch (m->type) {
	case MSG_SHARED:
		if (on_shared(c, m, &e) < 0)
			die(&e);
		break;
	case MSG_LISTENING:
		control_on_listening(c, m);
		break;
	case MSG_CERTS:
		control_certs_held(c, m);
		break;
	case MSG_INSTANCE:
		ship_on_instance(&c->ship, m->body);
		break;
	case MSG_PART:
		ship_on_part(&c->ship, m->body);
		break;
	case MSG_SYNCED:
		on_synced(c);
		break;
	case MSG_OUTCOME:
		tell_outcome(c->tell, m->body);
		break;
	case MSG_RELOAD:
		control_reload(c, "SIGHUP", NULL, NULL);
		break;
	default:
		break;
	}
	look_ready(c);
}

static void on_end(struct msg_channel *ch UNUSED, const char *reason UNUSED)
{
	exit(0); /* the keeper is gone: so is everything */
}

int controller_main(int argc, char **argv)
{
	struct control *c = &control;

	log_init("controller", LOG_INFO);
	if (argc != 4) {
		fprintf(stderr, "upstate: _controller is started by upstate serve\n");
		return 2;
	}
	signal(SIGPIPE, SIG_IGN);
	umask(0077);
	util_copy(c->dir, sizeof(c->dir), argv[2]);
	util_copy(c->conf_path, sizeof(c->conf_path), argv[3]);
	c->keeper.on_msg = on_msg;
	c->keeper.on_end = on_end;
	c->beat.on_time = on_beat;
	c->watch.fd = -1;
	c->watch_settle.on_time = control_settled;
	control_certs_init(c);
	control_acme_init(c);
	fcntl(MSG_CHANNEL_FD, F_SETFD, FD_CLOEXEC);
	if (loop_init(&c->loop) < 0 || msg_channel_open(&c->keeper, &c->loop, MSG_CHANNEL_FD) < 0) {
		fprintf(stderr, "upstate: _controller: no keeper on descriptor %d: %s\n", MSG_CHANNEL_FD,
			strerror(errno));
		return 2;
	}
	while (!c->started)
		loop_turn(&c->loop, -1);
	loop_timer_set(&c->loop, &c->beat, c->loop.now_ms + 1000);
	loop_run(&c->loop);
	return 0;
}
