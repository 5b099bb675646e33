/* SPDX-License-Identifier: Apache-2.0
 *
 * Taking up a configuration: the file is parsed and checked whole, the sockets it wants are asked
 * of the keeper, and only when all are there is it swapped in. The text of each configuration that
 * was in force stays in the state: at a start with a broken file the last good one is used.
 */
#include "control/control_priv.h"

#include <errno.h>
#include <grp.h>
#include <string.h>
#include <sys/inotify.h>

#include "base/clock.h"
#include "base/log.h"

#define SETTLE_MS 200 /* an editor writes in several steps */

static struct control_listener *want_listener(struct control *c, enum listen_kind kind, const char *addr,
					      uint32_t group)
{
	struct control_listener *l = NULL;
	uint64_t id = msg_listen_id(kind, addr);

	for (uint32_t i = 0; i < c->listener_count; i++)
		if (c->listeners[i].ask.id == id)
			l = &c->listeners[i];
	if (!l) {
		if (c->listener_count == CONTROL_LISTENERS_MAX)
			return NULL;
		l = &c->listeners[c->listener_count++];
		*l = (struct control_listener){.ask = {.id = id, .kind = kind, .backlog = 4096}, .fd = -1};
		util_copy(l->ask.addr, sizeof(l->ask.addr), addr);
		l->state = LISTENER_FAILED;
	}
	l->ask.group = group;
	l->wanted = true;
	if (l->state == LISTENER_FAILED) {
		l->state = LISTENER_ASKED;
		msg_send(&c->keeper, MSG_LISTEN, &l->ask, NULL, 0, NULL, 0);
	}
	return l;
}

static int want_all(struct control *c, const struct conf *conf, struct err *e)
{
	char control[sizeof(c->dir) + 16];
	uint32_t group = (uint32_t)-1;

	if (conf->admin_group) {
		struct group *g = getgrnam(conf->admin_group);

		if (!g)
			return err_set(e, ERR_INPUT, "admin: group: there is no group '%s'",
				       conf->admin_group);
		group = g->gr_gid;
	}
	snprintf(control, sizeof(control), "%s/control.sock", c->dir);
	if (strlen(control) >= MSG_PATH)
		return err_set(e, ERR_INPUT, "the path of the state directory is too long: '%s'", c->dir);
	for (uint32_t i = 0; i < c->listener_count; i++)
		c->listeners[i].wanted = false;
	want_listener(c, LISTEN_CONTROL, control, group);
	if (conf->admin)
		want_listener(c, LISTEN_ADMIN, conf->admin, (uint32_t)-1);
	for (uint32_t i = 0; i < conf->listen.len; i++)
		if (!want_listener(c, LISTEN_USERS, conf->listen.items[i], (uint32_t)-1))
			return err_set(e, ERR_LIMIT, "more than %d addresses to listen on",
				       CONTROL_LISTENERS_MAX);
	for (uint32_t i = 0; i < conf->app_count; i++)
		if (conf->apps[i].tcp && !want_listener(c, LISTEN_USERS, conf->apps[i].tcp, (uint32_t)-1))
			return err_set(e, ERR_LIMIT, "more than %d addresses to listen on",
				       CONTROL_LISTENERS_MAX);
	return 0;
}

/* Gives back what neither the configuration in force nor a candidate wants. */
static void drop_unwanted(struct control *c)
{
	uint32_t kept = 0;

	for (uint32_t i = 0; i < c->listener_count; i++) {
		struct control_listener *l = &c->listeners[i];

		if (l->wanted) {
			c->listeners[kept++] = *l;
			continue;
		}
		if (l->ask.kind != LISTEN_USERS)
			tell_unlisten(c->tell, l->ask.addr);
		if (l->fd >= 0)
			close(l->fd);
		msg_send(&c->keeper, MSG_UNLISTEN, &(struct msg_id){l->ask.id}, NULL, 0, NULL, 0);
	}
	c->listener_count = kept;
}

static void answer(struct control *c, json_t *body, const struct err *e)
{
	struct control_reload r = c->reload;

	c->reload = (struct control_reload){0};
	control_certs_forget(c);
	conf_free(r.conf);
	json_decref(r.warnings);
	if (e)
		log_warn("reload.refused", "who=%s reason=\"%s\"", r.who, e->msg);
	if (r.done)
		r.done(r.arg, body, e);
	if (c->reload_again) /* after this turn: whoever called may still be at it */
		loop_timer_set(&c->loop, &c->watch_settle, c->loop.now_ms);
}

static int record(struct control *c, const char *who, struct err *e)
{
	CLEANUP(json_decrefp) json_t *data = json_pack("{s:s, s:s, s:s}", "who", who, "config",
						       c->reload.hash, "path", c->conf_path);
	CLEANUP(json_decrefp) json_t *value = json_pack("{s:s}", "hash", c->reload.hash);
	CLEANUP(json_decrefp) json_t *before = NULL;

	if (state_get(c->state, "config", &before, e) < 0)
		return -(int)e->code;
	if (before && json_equal(before, value))
		return 0;
	if (state_begin(c->state, e) < 0)
		return -(int)e->code;
	if (state_put(c->state, "config", value, e) < 0 ||
	    state_history_add(c->state, clock_wall_ms(), "config", "", data, NULL, e) < 0) {
		state_rollback(c->state);
		return -(int)e->code;
	}
	return state_commit(c->state, e);
}

/* Only when a configuration is in force: who asks before waits, rather than hear of no app. */
static void answer_on_all(struct control *c)
{
	for (uint32_t i = 0; i < c->listener_count; i++) {
		struct control_listener *l = &c->listeners[i];

		if (l->fd >= 0)
			tell_listen(c->tell, TAKE_FD(l->fd), l->ask.kind == LISTEN_CONTROL, l->ask.addr);
	}
}

/* All sockets are there: the swap. */
static void swap(struct control *c)
{
	CLEANUP(json_decrefp) json_t *body = json_pack("{s:[], s:O}", "changed", "warnings",
						       c->reload.warnings);
	struct msg_logconf logs;
	struct conf *old = c->conf;
	struct err e;

	if (ship_configure(&c->ship, c->reload.conf, json_object_get(body, "changed"), &e) < 0) {
		if (old)
			want_all(c, old, &(struct err){0});
		drop_unwanted(c);
		answer(c, NULL, &e);
		return;
	}
	if (record(c, c->reload.who, &e) < 0) /* in force all the same; said, not hidden */
		json_array_append_new(json_object_get(body, "warnings"),
				      json_sprintf("it could not be recorded: %s", e.msg));
	c->conf = TAKE(c->reload.conf);
	control_certs_swap(c);
	drop_unwanted(c);
	logs = (struct msg_logconf){c->conf->log_bytes, c->conf->log_files, c->conf->access_log};
	msg_send(&c->keeper, MSG_LOGCONF, &logs, NULL, 0, NULL, 0);
	control_checks_send(c);
	tell_configured(c->tell, c->conf);
	conf_free(old);
	answer_on_all(c);
	log_info("config", "file=%s apps=%u", c->conf_path, c->conf->app_count);
	answer(c, body, NULL);
}

static void look_at_listeners(struct control *c)
{
	struct err e;

	if (!c->reload.conf)
		return;
	for (uint32_t i = 0; i < c->listener_count; i++) {
		struct control_listener *l = &c->listeners[i];

		if (l->wanted && l->state == LISTENER_ASKED)
			return;
	}
	for (uint32_t i = 0; i < c->listener_count; i++) {
		struct control_listener *l = &c->listeners[i];

		if (!l->wanted || l->state != LISTENER_FAILED)
			continue;
		err_set(&e, ERR_INPUT,
			"cannot listen: %s; 'listen' and 'admin.http' in the configuration "
			"choose other addresses",
			l->reason);
		if (c->conf)
			want_all(c, c->conf, &(struct err){0});
		else
			l->wanted = false;
		drop_unwanted(c);
		answer(c, NULL, &e);
		return;
	}
	swap(c);
}

void control_on_listening(struct control *c, struct msg *m)
{
	const struct msg_listening *x = m->body;
	struct control_listener *l = NULL;

	for (uint32_t i = 0; i < c->listener_count; i++)
		if (c->listeners[i].ask.id == x->id)
			l = &c->listeners[i];
	if (!l) { /* held since before this controller; later ones were given back meanwhile */
		if (c->conf || c->reload.conf || c->listener_count == CONTROL_LISTENERS_MAX)
			return;
		l = &c->listeners[c->listener_count++];
		*l = (struct control_listener){.ask = {.id = x->id, .kind = x->kind, .backlog = 4096}, .fd = -1};
		util_copy(l->ask.addr, sizeof(l->ask.addr), x->addr);
	}
	l->state = x->error ? LISTENER_FAILED : LISTENER_HELD;
	util_copy(l->reason, sizeof(l->reason), x->reason);
	if (!x->error && x->kind != LISTEN_USERS && m->fds_len) {
		if (l->fd >= 0)
			close(l->fd);
		l->fd = TAKE_FD(m->fds[0]);
		if (c->conf)
			answer_on_all(c);
	}
	look_at_listeners(c);
}

static json_t *problems_json(const struct conf_problems *p)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < p->len; i++)
		json_array_append_new(list, json_pack("{s:i, s:i, s:b, s:s}", "line",
						      (int)p->items[i].line, "column",
						      (int)p->items[i].column, "warning",
						      p->items[i].warning, "text", p->items[i].text));
	return list;
}

static json_t *warnings_json(const struct control *c, const struct conf_problems *p)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < p->len; i++)
		json_array_append_new(list, json_sprintf("%s:%u:%u: %s", c->conf_path, p->items[i].line,
							 p->items[i].column, p->items[i].text));
	return list;
}

static int parse(struct control *c, struct conf_problems *problems, struct conf **ret, struct err *e)
{
	CLEANUP_BUF struct buf text = {.max = CONF_BYTES_MAX};

	if (conf_load(c->conf_path, ret, &text, problems, e) < 0)
		return -(int)e->code;
	if (control_certs_load(c, *ret, problems, e) < 0) {
		conf_free(TAKE(*ret));
		return -(int)e->code;
	}
	if (state_text_put(c->state, text.data, text.len, c->reload.hash, e) == 0)
		return 0;
	control_certs_forget(c);
	conf_free(TAKE(*ret));
	return err_wrap(e, "keeping the configuration");
}

void control_reload(struct control *c, const char *who,
		    void (*done)(void *arg, json_t *answer, const struct err *e), void *arg)
{
	struct conf_problems problems = {0};
	struct conf *conf = NULL;
	struct err e = {0};

	if (c->reload.conf) {
		err_set(&e, ERR_REFUSED, "another reload is going on");
		if (done)
			done(arg, NULL, &e);
		else
			c->reload_again = true; /* what it reads may be older than this */
		return;
	}
	c->reload_again = false;
	if (parse(c, &problems, &conf, &e) < 0) {
		CLEANUP(json_decrefp) json_t *body = json_pack("{s:o}", "problems",
							       problems_json(&problems));

		log_warn("reload.refused", "who=%s reason=\"%s\"", who, e.msg);
		if (done)
			done(arg, body, &e);
		conf_problems_free(&problems);
		return;
	}
	c->reload.warnings = warnings_json(c, &problems);
	conf_problems_free(&problems);
	c->reload.conf = conf;
	c->reload.done = done;
	c->reload.arg = arg;
	util_copy(c->reload.who, sizeof(c->reload.who), who);
	if (want_all(c, conf, &e) < 0) {
		if (c->conf)
			want_all(c, c->conf, &(struct err){0});
		drop_unwanted(c);
		answer(c, NULL, &e);
		return;
	}
	look_at_listeners(c);
}

static void print_problems(struct control *c, const struct conf_problems *p)
{
	CLEANUP_BUF struct buf out = {0};

	conf_problems_print(p, c->conf_path, &out);
	fputs(buf_str(&out), stderr);
}

static int last_good(struct control *c, struct conf **ret, struct err *e)
{
	CLEANUP(json_decrefp) json_t *saved = NULL;
	CLEANUP_BUF struct buf text = {.max = CONF_BYTES_MAX};
	struct conf_problems problems = {0};
	const char *hash;
	int r;

	if (state_get(c->state, "config", &saved, e) < 0)
		return -(int)e->code;
	hash = json_string_value(json_object_get(saved, "hash"));
	if (!hash)
		return err_set(e, ERR_NOT_FOUND, "no configuration was in force before");
	if (state_text_get(c->state, hash, &text, e) < 0)
		return -(int)e->code;
	r = conf_parse(c->conf_path, text.data, text.len, ret, &problems, e);
	if (r == 0 && (r = control_certs_load(c, *ret, &problems, e)) < 0)
		conf_free(TAKE(*ret));
	conf_problems_free(&problems);
	util_copy(c->reload.hash, sizeof(c->reload.hash), hash);
	return r < 0 ? r : conf_read_pages(*ret, NULL, e); /* a lost page keeps no app down */
}

static int take_up_first(struct control *c, struct conf *conf, struct err *e);

static void first_done(void *arg, json_t *body UNUSED, const struct err *e)
{
	struct control *c = arg;
	struct conf *conf = NULL;
	struct err other;

	if (!e)
		return;
	/* A file that was changed, and whose addresses cannot be had, must not keep a controller from
	 * taking the place of one that died. A person who starts Upstate is told instead. */
	if (c->ship.resumed && !c->fell_back && last_good(c, &conf, &other) == 0) {
		c->fell_back = true;
		log_warn("config", "file=%s reason=\"%s\" using=\"the configuration last in force\"",
			 c->conf_path, e->msg);
		if (take_up_first(c, conf, &other) == 0)
			return;
	}
	fprintf(stderr, "upstate: %s\n", e->msg);
	exit(err_exit_status(e->code));
}

static int take_up_first(struct control *c, struct conf *conf, struct err *e)
{
	c->reload.warnings = json_array();
	c->reload.conf = conf;
	c->reload.done = first_done;
	c->reload.arg = c;
	util_copy(c->reload.who, sizeof(c->reload.who), "upstate");
	if (want_all(c, conf, e) < 0)
		return -(int)e->code;
	look_at_listeners(c);
	return 0;
}

int control_first_conf(struct control *c, struct err *e)
{
	struct conf_problems problems = {0};
	struct conf *conf = NULL;
	struct err why;

	if (parse(c, &problems, &conf, &why) < 0) {
		if (last_good(c, &conf, e) < 0) {
			print_problems(c, &problems);
			conf_problems_free(&problems);
			*e = why;
			return -(int)why.code;
		}
		log_warn("config", "file=%s reason=\"%s\" using=\"the configuration last in force\"",
			 c->conf_path, why.msg);
	}
	conf_problems_free(&problems);
	return take_up_first(c, conf, e);
}

void control_settled(struct loop_timer *t)
{
	struct control *c = container_of(t, struct control, watch_settle);

	control_reload(c, "the file changed", NULL, NULL);
}

static void watch_ready(struct loop_io *io, uint32_t events UNUSED)
{
	struct control *c = container_of(io, struct control, watch);
	char events_buf[4096] __attribute__((aligned(8)));
	const char *name = strrchr(c->conf_path, '/');
	bool ours = false, certs = false;
	ssize_t n;

	name = name ? name + 1 : c->conf_path;
	while ((n = read(io->fd, events_buf, sizeof(events_buf))) > 0) {
		for (char *p = events_buf; p < events_buf + n;) {
			struct inotify_event *ev = (struct inotify_event *)p;

			if (ev->len && strcmp(ev->name, name) == 0)
				ours = true;
			else
				certs = true;
			p += sizeof(*ev) + ev->len;
		}
	}
	if (ours)
		loop_timer_set(&c->loop, &c->watch_settle, c->loop.now_ms + SETTLE_MS);
	if (certs)
		control_certs_changed(c);
}

/* The folder is watched, not the file: editors replace it. Without inotify, `upstate reload`. */
void control_watch(struct control *c)
{
	char dir[sizeof(c->conf_path)];
	char *slash;
	int fd = inotify_init1(IN_CLOEXEC | IN_NONBLOCK);

	util_copy(dir, sizeof(dir), c->conf_path);
	slash = strrchr(dir, '/');
	if (slash)
		slash[slash == dir] = '\0';
	c->watch.on_ready = watch_ready;
	if (fd >= 0 && inotify_add_watch(fd, slash ? dir : ".", IN_CLOSE_WRITE | IN_MOVED_TO) >= 0 &&
	    loop_io_add(&c->loop, &c->watch, fd, EPOLLIN) == 0) {
		control_certs_watch(c);
	} else {
		log_warn("config.watch", "reason=\"%s\" next=\"use upstate reload\"", strerror(errno));
		if (fd >= 0)
			close(fd);
	}
}
