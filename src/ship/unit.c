/* SPDX-License-Identifier: Apache-2.0
 *
 * Instances: what is seen of them (from the keeper's words and the router's numbers), and the
 * orders that make the keeper's world like the rollout.
 */
#include "ship/ship.h"

#include <arpa/inet.h>
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "base/log.h"

#define LOOK_LATE_MS 1000
#define UNIT_PATH "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

struct ship_unit *ship_unit(struct ship_app *a, uint64_t id)
{
	struct ship_unit *x = map_get(&a->ship->unit_by_id, id);
	struct shm_sum sum;

	if (x)
		return x;
	x = util_alloc(sizeof(*x));
	x->id = id;
	x->app = a;
	x->shm_slot = ship_slot(a->ship, id);
	shm_sum_slot(a->ship->shm, x->shm_slot, &sum);
	x->cut_before = sum.failed_cut; /* not 0 when only the controller is new */
	list_add_tail(&a->units, &x->link);
	map_put(&a->ship->unit_by_id, id, x);
	return x;
}

static void forget(struct ship_unit *x)
{
	ship_slot_leave(x->app->ship, x->id);
	map_del(&x->app->ship->unit_by_id, x->id);
	list_del(&x->link);
	free(x);
}

void ship_unit_name(const struct ship_app *a, const struct rollout_unit *u, char *ret, size_t size)
{
	snprintf(ret, size, "%s@%u/%u", a->name, u->version.release, u->slot);
}

static bool has_process(const struct ship_unit *x)
{
	return x->known && (x->seen.state == INSTANCE_STARTING || x->seen.state == INSTANCE_RUNNING);
}

/* The router looks at a target that is not up more often than at one that is: when it has not done so
 * for this long, it hangs, or is new. */
static bool looked_lately(const struct ship_app *a, const struct shm_slot *slot)
{
	uint32_t within_ms = a->conf ? a->conf->health_every_ms + a->conf->health_timeout_ms : 0;

	return a->ship->loop->now_ms - atomic_load(&slot->last_ms) <= within_ms + LOOK_LATE_MS;
}

void ship_units_look(struct ship_app *a)
{
	struct ship *s = a->ship;
	uint64_t applied = ship_applied(s);
	struct shm_sum app;

	shm_sum_slot(s->shm, a->shm_slot, &app);
	a->rollout.seen_waiting = app.held_now > 0;

	for (uint32_t i = 0; i < a->rollout.unit_count; i++) {
		struct rollout_unit *u = &a->rollout.units[i];
		struct ship_unit *x = ship_unit(a, u->id);
		const struct ship_settings *settings = ship_settings(a, u->version.settings);
		struct shm_slot *slot = &s->shm->slot[x->shm_slot];
		bool notify = settings && json_is_true(json_object_get(settings->json, "notify"));
		struct shm_sum sum;

		u->seen.starts = x->known ? x->seen.starts : 0;
		u->seen.gone = x->gone;
		u->seen.ready = has_process(x) && (!notify || x->seen.state == INSTANCE_RUNNING) &&
				atomic_load(&slot->state) == TARGET_UP && shm_get(&slot->passed) > 0;
		u->seen.unknown = has_process(x) && !u->seen.ready &&
				  (atomic_load(&slot->state) == TARGET_UNKNOWN ||
				   !looked_lately(a, slot));
		u->seen.drained = false;
		if (u->use == USE_DRAIN && x->published == USE_DRAIN &&
		    applied >= x->published_generation) {
			shm_sum_slot(s->shm, x->shm_slot, &sum);
			u->seen.drained = sum.inflight == 0 && sum.tunnels == 0;
		}
	}
}

static bool has_port(const struct ship *s, uint16_t port)
{
	struct ship_app *a;
	struct ship_unit *x;

	LIST_EACH (a, &s->apps, link)
		LIST_EACH (x, &a->units, link)
			if (x->port == port)
				return true;
	return false;
}

/* A port of the loopback that nobody has at this moment. */
static uint16_t ask_port(void)
{
	struct sockaddr_in in = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(in);
	CLEANUP_FD int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	if (fd < 0 || bind(fd, (struct sockaddr *)&in, sizeof(in)) < 0 ||
	    getsockname(fd, (struct sockaddr *)&in, &len) < 0)
		return 0;
	return ntohs(in.sin_port);
}

/* Nor an instance that is about to start, or between two starts. */
static uint16_t free_port(const struct ship *s)
{
	uint16_t port = 0;

	for (int i = 0; i < 100; i++) {
		port = ask_port();
		if (!has_port(s, port))
			break;
	}
	return port;
}

/* A command that names neither gets a port: many programs read $PORT by themselves, and none that was not
 * written for Upstate reads $UPSTATE_SOCKET; upstate files was. */
static bool wants_port(const char *run)
{
	return strstr(run, "$PORT") || strstr(run, "${PORT") ||
	       !(strstr(run, "$UPSTATE_SOCKET") || strstr(run, "${UPSTATE_SOCKET") || conf_runs_files(run));
}

static void add_string(struct buf *b, const char *s)
{
	buf_add(b, s, strlen(s) + 1);
}

static void add_env(struct buf *b, uint32_t *count, const char *name, const char *value)
{
	buf_addf(b, "%s=%s", name, value);
	buf_addc(b, '\0');
	(*count)++;
}

/* The environment of an instance: what the configuration gives, then what Upstate tells it. */
static uint32_t build_env(const struct ship_app *a, const struct rollout_unit *u,
			  const struct ship_unit *x, const struct ship_settings *settings,
			  const struct msg_start *m, struct buf *b)
{
	const struct ship_release *release = ship_release(a, u->version.release);
	json_t *env = json_object_get(settings->json, "env"), *item;
	char text[600];
	uint32_t n = 0;
	size_t i;
	const char *path = UNIT_PATH;

	json_array_foreach (env, i, item) {
		const char *value = json_string_value(item);

		if (strncmp(value, "PATH=", 5) == 0) {
			path = value + 5;
			continue;
		}
		add_string(b, value);
		n++;
	}
	/* First comes this very program: run/bin/ is the keeper's. */
	buf_addf(b, "PATH=%s/run/bin:%s", a->ship->dir, path);
	buf_addc(b, '\0');
	n++;
	snprintf(text, sizeof(text), "%s/sock", m->run_dir);
	add_env(b, &n, "UPSTATE_SOCKET", text);
	add_env(b, &n, "UPSTATE_APP", a->name);
	snprintf(text, sizeof(text), "%u", u->version.release);
	add_env(b, &n, "UPSTATE_RELEASE", text);
	add_env(b, &n, "UPSTATE_RELEASE_ID", release ? release->id : "");
	snprintf(text, sizeof(text), "%u", u->slot);
	add_env(b, &n, "UPSTATE_INSTANCE", text);
	if (m->data_dir[0])
		add_env(b, &n, "UPSTATE_DATA", m->data_dir);
	if (x->port) {
		snprintf(text, sizeof(text), "%u", x->port);
		add_env(b, &n, "PORT", text);
	}
	return n;
}

/* The shell stays in front of the program, unless told to become it; then the signal that asks for an
 * orderly end would reach the shell alone, and its end would be taken for the app's. So a single plain
 * command is told so. What has any other form says `exec` itself where it wants to. */
static void add_command(struct buf *b, const char *run)
{
	static const char *const of_the_shell[] = {".",	   "eval", "exec", "command", "set",   "exit",
						   "ulimit", "trap", "wait", "umask",	"read",	 "cd",
						   "{"};
	size_t blank = strspn(run, " \t");
	size_t word = strspn(run + blank, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789"
					  "_./+-$\"'{}");
	bool plain = word && strchr(" \t", run[blank + word]) &&
		     !strpbrk(run, ";&|()`\n");

	for (size_t i = 0; i < ARRAY_LEN(of_the_shell); i++)
		plain &= strlen(of_the_shell[i]) != word ||
			 memcmp(run + blank, of_the_shell[i], word) != 0;
	if (plain)
		buf_adds(b, "exec ");
	add_string(b, run);
}

static void order_start(struct ship_app *a, const struct rollout_unit *u, struct ship_unit *x)
{
	struct ship *s = a->ship;
	const struct ship_settings *settings = ship_settings(a, u->version.settings);
	const struct ship_release *release = ship_release(a, u->version.release);
	CLEANUP_BUF struct buf tail = {.max = MSG_TAIL_MAX};
	struct msg_start m = {.id = u->id, .uid = a->uid, .gid = a->uid, .argc = 3};
	const char *data;

	if (!settings || !release) { /* cannot be: both are saved before a version is named */
		log_error("instance.start", "app=%s reason=\"its settings or release are unknown\"",
			  a->name);
		return;
	}
	data = json_string_value(json_object_get(settings->json, "data"));
	util_copy(m.app, sizeof(m.app), a->name);
	ship_unit_name(a, u, m.name, sizeof(m.name));
	store_tree_path(s->store, release->id, m.dir, sizeof(m.dir));
	snprintf(m.run_dir, sizeof(m.run_dir), "%.400s/run/%llu", s->dir, (unsigned long long)u->id);
	if (data)
		snprintf(m.data_dir, sizeof(m.data_dir), "%.400s/data/%.100s", s->dir, data);
	m.stop_signal = (uint32_t)json_integer_value(json_object_get(settings->json, "stop_signal"));
	m.grace_ms = (uint32_t)json_integer_value(json_object_get(settings->json, "grace_ms"));
	m.files_max = (uint32_t)json_integer_value(json_object_get(settings->json, "files_max"));
	add_string(&tail, "/bin/sh");
	add_string(&tail, "-c");
	add_command(&tail, json_string_value(json_object_get(settings->json, "run")));
	m.envc = build_env(a, u, x, settings, &m, &tail);
	if (tail.failed) {
		log_error("instance.start", "instance=%s reason=\"run and env are too long together\"",
			  m.name);
		return;
	}
	x->gone = false;
	x->ordered_start = msg_send(s->keeper, MSG_START, &m, tail.data, tail.len, NULL, 0);
}

static void order_stop(struct ship_app *a, const struct rollout_unit *u, struct ship_unit *x)
{
	const struct ship_settings *settings = ship_settings(a, u->version.settings);
	struct msg_stop m = {.id = u->id, .signal = 15, .grace_ms = 10000};

	if (settings) {
		m.signal = (uint32_t)json_integer_value(json_object_get(settings->json, "stop_signal"));
		m.grace_ms = (uint32_t)json_integer_value(json_object_get(settings->json, "grace_ms"));
	}
	x->ordered_stop = msg_send(a->ship->keeper, MSG_STOP, &m, NULL, 0, NULL, 0);
}

void ship_units_sync(struct ship_app *a)
{
	struct ship_unit *x;

	if (!a->ship->synced)
		return;
	for (uint32_t i = 0; i < a->rollout.unit_count; i++) {
		struct rollout_unit *u = &a->rollout.units[i];

		x = ship_unit(a, u->id);
		if (u->stop && !x->ordered_stop && !x->gone)
			order_stop(a, u, x);
		else if (!u->stop && !x->ordered_start && a->ship->loop->now_ms >= x->again_ms)
			order_start(a, u, x);
	}
	ship_units_tidy(a);
}

void ship_units_tidy(struct ship_app *a)
{
	struct ship_unit *x, *tmp;

	LIST_EACH_SAFE (x, tmp, &a->units, link) {
		bool wanted = false;

		for (uint32_t i = 0; i < a->rollout.unit_count; i++)
			wanted |= a->rollout.units[i].id == x->id;
		if (!wanted)
			forget(x);
	}
}

void ship_units_prepare(struct ship_app *a)
{
	for (uint32_t i = 0; i < a->rollout.unit_count; i++) {
		const struct rollout_unit *u = &a->rollout.units[i];
		const struct ship_settings *settings = ship_settings(a, u->version.settings);
		bool is_new = !map_get(&a->ship->unit_by_id, u->id);
		struct ship_unit *x = ship_unit(a, u->id);

		x->version = u->version;
		x->slot = u->slot;
		if (is_new && settings &&
		    wants_port(json_string_value(json_object_get(settings->json, "run"))))
			x->port = free_port(a->ship);
	}
}

const char *ship_probe_error(int error)
{
	static char text[80];

	if (error >= 200 && error < 600) /* what is smaller is an errno */
		snprintf(text, sizeof(text), "its health path answers %d", error);
	else if (error)
		snprintf(text, sizeof(text), "%s", strerror(error));
	else
		snprintf(text, sizeof(text), "its probes fail");
	return text;
}

void ship_unit_why(const struct ship_app *a, const struct ship_unit *x, char *ret, size_t size)
{
	const struct shm_slot *slot = &a->ship->shm->slot[x->shm_slot];
	const struct ship_settings *settings = ship_settings(a, x->version.settings);

	if (!has_process(x))
		snprintf(ret, size, "%s", x->why[0] ? x->why : "it has no process");
	else if (x->seen.state == INSTANCE_STARTING && settings &&
		 json_is_true(json_object_get(settings->json, "notify")))
		snprintf(ret, size, "it has not said READY=1");
	else if (atomic_load(&slot->state) == TARGET_UNKNOWN)
		snprintf(ret, size, "it was not looked at yet");
	else
		snprintf(ret, size, "%s", ship_probe_error(atomic_load(&slot->error)));
}
