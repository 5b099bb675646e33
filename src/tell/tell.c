/* SPDX-License-Identifier: Apache-2.0
 *
 * From a request to its handler: who may, which route, what body.
 */
#include "tell/tell_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/crypto.h>
#include <pwd.h>
#include <string.h>
#include <sys/random.h>
#include <sys/wait.h>

#include "base/log.h"
#include "tell/scrape.h"

#define STATUS_DELAY_MS 50 /* a burst of changes is looked at once */

#define ROUTE(method_, pattern_, run_, ...)                                                        \
	{.method = method_, .pattern = pattern_, .run = run_, __VA_ARGS__}

static const struct route routes[] = {
	ROUTE("GET", "/v1/status", tell_status, .body = ROUTE_PLAIN),
	ROUTE("GET", "/v1/apps/@", tell_app_status, .body = ROUTE_PLAIN),
	ROUTE("POST", "/v1/apps/@/missing", NULL, .body = ROUTE_RAW, .raw = tell_missing),
	ROUTE("PUT", "/v1/objects", NULL, .body = ROUTE_STREAM),
	ROUTE("POST", "/v1/apps/@/deploy", tell_deploy, .body = ROUTE_JSON),
	ROUTE("POST", "/v1/apps/@/rollback", tell_rollback, .body = ROUTE_JSON),
	ROUTE("POST", "/v1/apps/@/abort", tell_abort, .body = ROUTE_JSON),
	ROUTE("POST", "/v1/apps/@/hold", tell_hold, .body = ROUTE_JSON),
	ROUTE("POST", "/v1/apps/@/resume", tell_resume, .body = ROUTE_JSON),
	ROUTE("POST", "/v1/apps/@/maintenance", tell_maintenance, .body = ROUTE_JSON),
	ROUTE("POST", "/v1/apps/@/drain", tell_drain, .body = ROUTE_JSON),
	ROUTE("POST", "/v1/apps/@/fence", tell_fence, .body = ROUTE_JSON),
	ROUTE("POST", "/v1/apps/@/serve", tell_serve, .body = ROUTE_JSON),
	ROUTE("GET", "/v1/apps/@/logs", tell_logs, .body = ROUTE_PLAIN),
	ROUTE("GET", "/v1/changes/@", tell_change_get, .body = ROUTE_PLAIN),
	ROUTE("GET", "/v1/history", tell_history, .body = ROUTE_PLAIN),
	ROUTE("GET", "/v1/history/verify", tell_history_verify, .body = ROUTE_PLAIN),
	ROUTE("GET", "/v1/releases/@", tell_release, .body = ROUTE_PLAIN),
	ROUTE("GET", "/v1/objects/@", tell_object, .body = ROUTE_PLAIN),
	ROUTE("GET", "/v1/explain", tell_explain, .body = ROUTE_PLAIN),
	ROUTE("GET", "/v1/numbers", tell_numbers, .body = ROUTE_PLAIN),
	ROUTE("GET", "/v1/limits", tell_limits, .body = ROUTE_PLAIN),
	ROUTE("GET", "/v1/verify", tell_verify, .body = ROUTE_PLAIN),
	ROUTE("POST", "/v1/reload", tell_reload, .body = ROUTE_JSON),
	ROUTE("POST", "/v1/beat/@", tell_beat, .body = ROUTE_JSON, .open = true),
	ROUTE("POST", "/v1/beat/@/@", tell_beat, .body = ROUTE_JSON, .open = true),
	ROUTE("GET", "/metrics", tell_metrics, .open = true),
	ROUTE("POST", "/v1/restart", tell_restart, .body = ROUTE_JSON),
	ROUTE("POST", "/v1/upgrade", tell_upgrade, .body = ROUTE_JSON),
	ROUTE("GET", "/v1/upgrade", tell_upgrade_get, .body = ROUTE_PLAIN),
	ROUTE("GET", "/", tell_page, .open = true),
	ROUTE("GET", "/feeds/@", tell_feed, .open = true),
	ROUTE("GET", "/changes/@", tell_change_page, .open = true),
	ROUTE("GET", "/devices/@", tell_device_page, .open = true),
	ROUTE("GET", "/devices/@/@", tell_device_page, .open = true),
};

void tell_answer_json(struct call *c, int status, json_t *o)
{
	char *text;

	ensure(o);
	text = json_dumps(o, JSON_COMPACT);
	json_decref(o);
	ensure(text);
	server_answer(c->r, status, "application/json", NULL, text, strlen(text));
	free(text);
}

static json_t *err_json(const struct err *e)
{
	char text[sizeof(e->msg)];

	util_text(text, sizeof(text), e->msg); /* it may quote what somebody sent */
	return json_pack("{s:{s:s, s:s, s:i}}", "error", "code", err_name(e->code), "message", text,
			 "exit", err_exit_status(e->code));
}

void tell_answer_err_with(struct call *c, const struct err *e, json_t *more)
{
	json_t *o = err_json(e);

	if (more)
		json_object_update(json_object_get(o, "error"), more);
	tell_answer_json(c, err_http_status(e->code), o);
}

int tell_err_json(const struct err *e, json_t **ret_body)
{
	*ret_body = err_json(e);
	return err_http_status(e->code);
}

void tell_answer_err(struct call *c, const struct err *e)
{
	tell_answer_err_with(c, e, NULL);
}

int tell_app(struct call *c, struct ship_app **ret)
{
	struct err e;

	if (ship_find_or_list(c->t->ship, c->arg[0], ret, &e) == 0)
		return 0;
	tell_answer_err(c, &e);
	return -(int)e.code;
}

static void answer_applied(struct call *c, bool applied)
{
	list_del(&c->in_unapplied);
	loop_timer_stop(c->t->ship->loop, &c->tail);
	json_object_set_new(c->answer, "applied", json_boolean(applied));
	tell_answer_json(c, 200, TAKE(c->answer));
}

static void not_applied(struct loop_timer *timer)
{
	answer_applied(container_of(timer, struct call, tail), false);
}

void tell_router_rang(struct tell *t)
{
	struct call *c, *next;

	LIST_EACH_SAFE (c, next, &t->unapplied, in_unapplied)
		if (ship_applied(t->ship) >= c->wanted)
			answer_applied(c, true);
}

/* Who ordered a hold or a fence goes on to do what must not meet a request any more: so the answer
 * waits for the router, which takes a new table within milliseconds. */
void tell_answer_applied(struct call *c, json_t *o)
{
	struct tell *t = c->t;

	ship_publish(t->ship);
	c->answer = o;
	c->wanted = t->ship->generation;
	c->tail.on_time = not_applied;
	loop_timer_set(t->ship->loop, &c->tail, t->ship->loop->now_ms + TELL_APPLIED_MS);
	list_add_tail(&t->unapplied, &c->in_unapplied);
	tell_router_rang(t);
}

static bool matches(const struct route *route, const char *path, struct call *c)
{
	const char *p = route->pattern;
	int args = 0;

	while (*p) {
		if (*p != '@') {
			if (*p++ != *path++)
				return false;
			continue;
		}
		size_t len = strcspn(path, "/");

		if (!len || len >= sizeof(c->arg[0]))
			return false;
		memcpy(c->arg[args], path, len);
		c->arg[args++][len] = '\0';
		path += len;
		p++;
	}
	return *path == '\0';
}

/* The login user, also behind sudo; else the user of the process. */
static void find_who(struct server_request *r, char *ret, size_t size)
{
	char path[64], text[32] = "";
	uid_t uid = r->uid;
	struct passwd *pw;
	int fd;

	if (!r->local) {
		util_copy(ret, size, "token");
		return;
	}
	snprintf(path, sizeof(path), "/proc/%d/loginuid", (int)r->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd >= 0) {
		ssize_t n = read(fd, text, sizeof(text) - 1);
		unsigned long login = n > 0 ? strtoul(text, NULL, 10) : 4294967295ul;

		close(fd);
		if (login != 4294967295ul)
			uid = (uid_t)login;
	}
	pw = getpwuid(uid);
	if (pw)
		util_text(ret, size, pw->pw_name);
	else
		snprintf(ret, size, "%u", uid);
}

static bool may(struct tell *t, struct server_request *r)
{
	struct http1_slice h = server_header(r, "authorization");
	size_t len = strlen(t->token);

	if (r->local)
		return true; /* the socket's mode has decided */
	return h.len == len + 7 && strncasecmp(h.p, "Bearer ", 7) == 0 &&
	       CRYPTO_memcmp(h.p + 7, t->token, len) == 0;
}

void tell_free_call(struct call *c)
{
	buf_free(&c->child_out);
	free(c);
}

static void gone(struct server_request *r)
{
	struct call *c = r->user;

	if (list_linked(&c->link)) {
		list_del(&c->link);
		c->t->follower_count--;
	}
	if (c->intake && !c->pending) /* else a child works on it */
		store_intake_abort(TAKE(c->intake));
	if (c->tail_fd >= 0)
		close(c->tail_fd);
	if (list_linked(&c->in_unapplied))
		list_del(&c->in_unapplied);
	json_decref(c->answer);
	scrape_free(TAKE(c->scrape));
	loop_timer_fini(c->t->ship->loop, &c->tail);
	c->gone = true;
	if (!c->pending)
		tell_free_call(c);
}

static void child_said(struct loop_io *io, uint32_t events UNUSED)
{
	struct call *c = container_of(io, struct call, child_io);
	char piece[4096];
	ssize_t n = read(io->fd, piece, sizeof(piece));
	int fd = io->fd, status = 500, begin = 0;

	if (n > 0)
		buf_add(&c->child_out, piece, (size_t)n);
	if (n > 0 || (n < 0 && errno == EAGAIN))
		return;
	loop_io_del(c->t->ship->loop, io);
	close(fd);
	if (c->intake)
		store_intake_abort(TAKE(c->intake));
	c->pending = false;
	if (c->gone) {
		if (c->child_said)
			tell_upgrade_left(c->t);
		tell_free_call(c);
		return;
	}
	if (sscanf(buf_str(&c->child_out), "%d\n%n", &status, &begin) < 1)
		buf_adds(&c->child_out, "{}"); /* it was killed before it could say anything */
	if (c->child_said) {
		c->child_said(c, status, buf_str(&c->child_out) + begin);
		return;
	}
	server_answer(c->r, status, "application/json", NULL, c->child_out.data + begin,
		      c->child_out.len - (size_t)begin);
}

void tell_in_child(struct call *c, int (*work)(struct call *c, json_t **ret_body))
{
	struct err e;
	int fds[2];
	pid_t pid;

	if (pipe2(fds, O_CLOEXEC) < 0) {
		err_sys(&e, "no pipe to a process that does it");
		tell_answer_err(c, &e);
		return;
	}
	pid = fork();
	if (pid < 0) {
		err_sys(&e, "starting a process to do it");
		close(fds[0]);
		close(fds[1]);
		tell_answer_err(c, &e);
		return;
	}
	if (pid == 0) {
		json_t *body = NULL;
		int status;

		if (fork() != 0)
			_exit(0); /* nobody has to wait for the grandchild */
		status = work(c, &body);
		dprintf(fds[1], "%d\n", status);
		json_dumpfd(body, fds[1], JSON_COMPACT);
		_exit(0);
	}
	waitpid(pid, NULL, 0); /* it ends at once */
	close(fds[1]);
	c->pending = true;
	c->child_io.on_ready = child_said;
	ensure(loop_io_add(c->t->ship->loop, &c->child_io, fds[0], EPOLLIN) == 0);
}

static void json_body(struct server_request *r, const char *body, size_t len)
{
	struct call *c = r->user;
	json_error_t error;
	CLEANUP(json_decrefp) json_t *o = len ? json_loadb(body, len, 0, &error) : json_object();
	struct err e;

	if (!json_is_object(o)) {
		err_set(&e, ERR_INPUT, "the body is not a JSON object: %s", o ? "" : error.text);
		tell_answer_err(c, &e);
		return;
	}
	c->route->run(c, o);
}

static void raw_body(struct server_request *r, const char *body, size_t len)
{
	struct call *c = r->user;

	c->route->raw(c, body, len);
}

static void not_found(struct call *c, bool path_known)
{
	struct err e;

	if (path_known)
		err_set(&e, ERR_INPUT, "'%s' does not take %s", c->r->path, c->r->method);
	else
		err_set(&e, ERR_NOT_FOUND, "there is no '%s' here; see docs/API.md", c->r->path);
	tell_answer_err(c, &e);
}

static void on_request(struct server_request *r, void *arg)
{
	struct tell_listener *l = arg;
	struct call *c = util_alloc(sizeof(*c));
	bool path_known = false, head = strcmp(r->method, "HEAD") == 0;
	struct err e;

	c->t = l->tell;
	c->r = r;
	c->tail_fd = -1;
	c->child_io.fd = -1;
	r->user = c;
	r->on_gone = gone;
	for (size_t i = 0; i < ARRAY_LEN(routes) && !c->route; i++) {
		if (!matches(&routes[i], r->path, c))
			continue;
		path_known = true;
		if (strcmp(routes[i].method, head ? "GET" : r->method) == 0)
			c->route = &routes[i];
	}
	if (!c->route) {
		not_found(c, path_known);
		return;
	}
	c->trusted = may(c->t, r);
	if (!c->route->open && !c->trusted) {
		err_set(&e, ERR_DENIED,
			"this address wants 'Authorization: Bearer TOKEN', with the content of %s/token",
			c->t->ship->dir);
		tell_answer_err(c, &e);
		return;
	}
	if (c->route->body != ROUTE_PLAIN) /* who only looks is not recorded, so nobody waits for names */
		find_who(r, c->who, sizeof(c->who));
	switch (c->route->body) {
	case ROUTE_PLAIN:
		c->route->run(c, NULL);
		break;
	case ROUTE_JSON:
		server_want_body(r, 1 << 20, json_body);
		break;
	case ROUTE_RAW:
		server_want_body(r, TELL_BODY_MAX, raw_body);
		break;
	case ROUTE_STREAM:
		tell_objects(c);
		break;
	}
}

/* The token of the admin address: made once, readable by the owner only. */
static int read_token(struct tell *t, struct err *e)
{
	char path[600];
	unsigned char random[32];
	CLEANUP_FD int fd = -1;
	ssize_t n;

	snprintf(path, sizeof(path), "%s/token", t->ship->dir);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (fd < 0)
		return err_sys(e, "opening '%s'", path);
	n = read(fd, t->token, sizeof(t->token) - 1);
	if (n == 64)
		return 0;
	ensure(getrandom(random, sizeof(random), 0) == sizeof(random));
	for (size_t i = 0; i < sizeof(random); i++)
		snprintf(t->token + 2 * i, 3, "%02x", random[i]);
	if (pwrite(fd, t->token, 64, 0) != 64)
		log_warn("token", "reason=\"cannot be written, valid until the controller ends\"");
	return 0;
}

static void look_at_status(struct loop_timer *timer)
{
	tell_devices_look(container_of(timer, struct tell, status_timer));
}

int tell_create(const struct tell_options *o, struct tell **ret, struct err *e)
{
	struct tell *t = util_alloc(sizeof(*t));

	t->ship = o->ship;
	t->options = *o;
#define X(name, what) t->kept.name = shm_get(&o->ship->shm->controller.name);
	CONTROLLER_COUNT_TABLE(X)
#undef X
	list_init(&t->followers);
	list_init(&t->unapplied);
	news_init(&t->news);
	t->status_timer.on_time = look_at_status;
	if (read_token(t, e) < 0) {
		free(t);
		return -(int)e->code;
	}
	*ret = t;
	return 0;
}

void tell_listen(struct tell *t, int fd, bool local, const char *addr)
{
	struct tell_listener *l = NULL;
	struct server_options o = {.on_request = on_request};

	for (uint32_t i = 0; i < t->listener_count && !l; i++)
		if (!t->listeners[i].open && !server_connections(t->listeners[i].server, NULL))
			l = &t->listeners[i];
	if (!l && t->listener_count < TELL_LISTENERS_MAX) {
		l = &t->listeners[t->listener_count];
		o.arg = l;
		if (server_create(t->ship->loop, &o, &l->server) < 0)
			l = NULL;
		else
			t->listener_count++;
	}
	if (!l || server_listen(l->server, fd, local) < 0) {
		log_error("listen", "addr=%s reason=\"%s\"", addr, strerror(errno));
		close(fd);
		return;
	}
	l->tell = t;
	l->local = local;
	l->open = true;
	util_copy(l->addr, sizeof(l->addr), addr);
}

void tell_unlisten(struct tell *t, const char *addr)
{
	for (uint32_t i = 0; i < t->listener_count; i++) {
		struct tell_listener *l = &t->listeners[i];

		if (!l->open || strcmp(l->addr, addr) != 0)
			continue;
		server_unlisten_all(l->server);
		l->open = false;
	}
}

void tell_configured(struct tell *t, const struct conf *c)
{
	t->conf = c;
	t->devices_stale = true;
	news_rewrite(&t->news);
	tell_devices_configured(t, c);
	tell_status_changed(t);
}

void tell_status_changed(struct tell *t)
{
	if (!t->status_timer.armed)
		loop_timer_set(t->ship->loop, &t->status_timer, t->ship->loop->now_ms + STATUS_DELAY_MS);
}

static void follow_line(struct call *c, json_t *o)
{
	char *text = json_dumps(o, JSON_COMPACT);

	json_decref(o);
	ensure(text);
	server_write(c->r, text, strlen(text));
	server_write(c->r, "\n", 1);
	free(text);
}

void tell_change(struct tell *t, struct ship_app *a, const struct ship_change *change,
		 const struct ship_step *step)
{
	struct call *c, *tmp;

	LIST_EACH_SAFE (c, tmp, &t->followers, link) {
		if (c->change != change->number)
			continue;
		if (step) {
			follow_line(c, json_pack("{s:s, s:I}", "step", step->name, "ms",
						 (json_int_t)step->ms));
			continue;
		}
		list_del(&c->link);
		t->follower_count--;
		follow_line(c, ship_change_json(a, change));
		server_end(c->r);
	}
	if (!step)
		tell_status_changed(t);
}
