/* SPDX-License-Identifier: Apache-2.0
 *
 * Is a target up? Asked by the main thread, so that no user's request waits behind
 * a probe. The verdict (core/health.h) goes into an atomic that the router's threads
 * read, and into the numbers, for the controller, whose bell is rung.
 *
 * A probe is a GET of the app's health path; 200 to 399 passes, and a redirect is
 * not followed. Without a path, a connection that opens passes. Its own connection
 * each time: an app that takes no new ones is not up.
 *
 * A target that speaks HTTP/2 is asked in that, and without a path whether it speaks it (probe_h2.c): a
 * connection that opens would be no proof that its requests can be sent.
 *
 * A process that is stopped still has connections opened by its kernel. So when a target without a
 * health path is suspected to be stuck, it is asked `OPTIONS *`, the ping of HTTP (RFC 9110, 9.3.7), and
 * whatever it says to that is a sign of life.
 */
#include "route/route_priv.h"

#include "wire/proxy.h"

#define PROBES_AT_ONCE 256
#define PROBE_HEAD 512 /* the status line is in it, or it is none */
#define PROBE_LATER_MS 10

struct probe {
	struct list in_router;
	struct router *r;
	struct shared_target *shared;
	struct health health;
	struct loop_io io;
	struct loop_timer timer; /* the next one is due, or the one in hand takes too long */
	struct table_target target;
	uint32_t interval_ms, timeout_ms, rise, fall, slot, app_slot, seen, proxy;
	uint32_t len;
	bool open, asked, watched;
	bool is_h2;
	struct probe_h2 *h2; /* the question in hand */
	bool life; /* it is no health path that was asked for: any answer is a sign of life */
	char host[256], path[1024], name[MSG_NAME], answer[PROBE_HEAD];
};

static uint32_t mark; /* of the last table: main thread only */

static void publish(struct probe *p, int error)
{
	struct shm_slot *slot = &p->r->shm->slot[p->slot];
	static const uint32_t state[] = {[HEALTH_UNKNOWN] = TARGET_UNKNOWN,
					 [HEALTH_UP] = TARGET_UP, [HEALTH_DOWN] = TARGET_DOWN};

	atomic_store(&p->shared->health, p->health.state);
	if (!router_speaks(p->r))
		return;
	atomic_store(&slot->error, error);
	if (atomic_load(&slot->state) == state[p->health.state])
		return;
	atomic_store(&slot->since_ms, p->r->loop.now_ms);
	atomic_store(&slot->state, state[p->health.state]);
	/* Its process ended, and with it connections of any age: that says nothing of its limit. */
	if (p->health.state == HEALTH_DOWN)
		atomic_store(&p->shared->idle, 0);
	if (p->health.state == HEALTH_UP) {
		atomic_store(&p->shared->up_since_ms, p->r->loop.now_ms);
		eject_came_up(p->r, p->shared, p->target.app);
	}
	log_info(p->health.state == HEALTH_UP ? "target.up" : "target.down", "target=%s error=%d",
		 p->name, error);
}

static void close_probe(struct probe *p)
{
	int fd = p->io.fd;

	if (!p->open)
		return;
	p->open = false;
	p->r->probes_open--;
	probe_h2_end(p->h2);
	p->h2 = NULL;
	loop_io_del(&p->r->loop, &p->io);
	close(fd);
}

/* The probe in hand is over; error: errno, or the HTTP status that was not good enough. */
static void done(struct probe *p, enum health_event ev, int error)
{
	struct router *r = p->r;
	struct shm_slot *slot = &r->shm->slot[p->slot];
	struct shm_counts *n = shm_counts(r->shm, r->first_row, p->slot);
	bool answered = p->asked && p->len;
	uint64_t next;
	bool changed;

	close_probe(p);
	shm_add(&n->probes, 1);
	if (ev != HEALTH_PASSED)
		shm_add(&n->probes_failed, 1);
	else if (router_speaks(r))
		shm_add(&slot->passed, 1);
	if (router_speaks(r))
		atomic_store(&slot->last_ms, r->loop.now_ms);
	changed = health_step(&p->health, ev, p->rise, p->fall, p->interval_ms, r->loop.now_ms);
	publish(p, ev == HEALTH_PASSED ? 0 : error);
	if (changed)
		view_outage(r, p->target.app);
	/* Also after each pass and failure: readiness is judged by them. */
	bell_ring(changed || ev == HEALTH_FAILED ? r->controller_bell : -1);
	eject_probe_done(r, p->shared, p->target.app, answered, ev == HEALTH_PASSED);
	next = atomic_load(&p->shared->ejected) ? r->loop.now_ms + p->interval_ms / 10
						: p->health.next_probe_ms;
	loop_timer_set(&r->loop, &p->timer, MAX(next, r->loop.now_ms + 1));
}

static enum health_event refusal(int error)
{
	return error == ECONNREFUSED || error == ENOENT ? HEALTH_REFUSED : HEALTH_FAILED;
}

static void ask(struct probe *p)
{
	char text[PROXY_FORMAT_MAX + sizeof(p->path) + sizeof(p->host) + 128];
	const struct proxy_ends own = {.known = false};
	int n = 0;

	if (p->is_h2) {
		p->life = false;
		p->asked = true;
		p->h2 = probe_h2_ask(p->io.fd, p->host, p->path);
		if (!p->h2)
			done(p, HEALTH_FAILED, errno ? errno : EIO);
		return;
	}
	/* Never of a TCP app: what is silent there owes nobody an answer. */
	p->life = !p->path[0] && (atomic_load(&p->shared->suspect) ||
				  atomic_load(&p->shared->ejected) == EJECT_STUCK);
	if (p->proxy)
		n = (int)proxy_format((enum proxy_version)p->proxy, &own, text);
	if (!p->path[0] && !p->life) {
		if (n && send(p->io.fd, text, (size_t)n, MSG_NOSIGNAL) != n)
			done(p, HEALTH_FAILED, errno ? errno : EIO);
		else
			done(p, HEALTH_PASSED, 0);
		return;
	}
	n += snprintf(text + n, sizeof(text) - (size_t)n,
		     "%s %s HTTP/1.1\r\nHost: %s\r\nUser-Agent: upstate-probe\r\nAccept: */*\r\n"
		     "Connection: close\r\n\r\n",
		     p->life ? "OPTIONS" : "GET", p->life ? "*" : p->path, p->host);
	p->asked = true;
	/* A fresh socket takes it whole. */
	if (send(p->io.fd, text, (size_t)n, MSG_NOSIGNAL) != n)
		done(p, HEALTH_FAILED, errno ? errno : EIO);
}

static void read_answer_h2(struct probe *p)
{
	int n = probe_h2_read(p->h2, p->io.fd);

	if (!n)
		return;
	p->len = n > 0;
	done(p, n >= 200 && n <= 399 ? HEALTH_PASSED : HEALTH_FAILED, n < 0 ? -n : n);
}

static void read_answer(struct probe *p)
{
	ssize_t n = recv(p->io.fd, p->answer + p->len, sizeof(p->answer) - p->len, 0);
	int status = 0;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	if (p->life) { /* an end too is something that only a process that runs can do */
		p->len = 1;
		done(p, HEALTH_PASSED, 0);
		return;
	}
	if (n <= 0) {
		done(p, HEALTH_FAILED, n < 0 ? errno : ECONNRESET);
		return;
	}
	p->len += (uint32_t)n;
	if (p->len < 12)
		return;
	if (memcmp(p->answer, "HTTP/1.", 7) || p->answer[8] != ' ') {
		done(p, HEALTH_FAILED, EPROTO);
		return;
	}
	for (int i = 9; i < 12; i++)
		status = status * 10 + (p->answer[i] - '0');
	/* The numbers below 200 are those of errno; an interim answer to a probe is no answer. */
	done(p, status >= 200 && status <= 399 ? HEALTH_PASSED : HEALTH_FAILED,
	     status < 200 ? EPROTO : status);
}

static void on_probe(struct loop_io *io, uint32_t events)
{
	struct probe *p = container_of(io, struct probe, io);
	int error = 0;
	socklen_t len = sizeof(error);

	if (p->asked) {
		if (p->h2)
			read_answer_h2(p);
		else
			read_answer(p);
		return;
	}
	if (getsockopt(io->fd, SOL_SOCKET, SO_ERROR, &error, &len) < 0)
		error = errno;
	if (error) {
		done(p, refusal(error), error);
		return;
	}
	if (events & (EPOLLOUT | EPOLLHUP)) {
		loop_io_change(&p->r->loop, io, EPOLLIN | EPOLLRDHUP);
		ask(p);
	}
}

static void start(struct probe *p)
{
	struct router *r = p->r;
	int family = p->target.kind == TARGET_UNIX
			     ? AF_UNIX
			     : ((const struct sockaddr *)p->target.addr)->sa_family;
	int fd, rc, error;

	if (r->probes_open >= PROBES_AT_ONCE) {
		loop_timer_set(&r->loop, &p->timer, r->loop.now_ms + PROBE_LATER_MS);
		return;
	}
	fd = socket(family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
	if (fd < 0) { /* our own want, not the target's */
		loop_timer_set(&r->loop, &p->timer, r->loop.now_ms + p->interval_ms);
		return;
	}
	rc = connect(fd, (const struct sockaddr *)p->target.addr, p->target.addr_len);
	error = rc < 0 ? errno : 0;
	p->asked = false;
	p->len = 0;
	if ((error && error != EINPROGRESS) ||
	    loop_io_add(&r->loop, &p->io, fd, error ? EPOLLOUT : EPOLLIN | EPOLLRDHUP) < 0) {
		close(fd);
		done(p, refusal(error), error);
		return;
	}
	p->open = true;
	r->probes_open++;
	loop_timer_set(&r->loop, &p->timer, r->loop.now_ms + p->timeout_ms);
	if (!error)
		ask(p);
}

static void on_probe_time(struct loop_timer *timer)
{
	struct probe *p = container_of(timer, struct probe, timer);

	if (p->open && p->asked && p->life) /* its connection did open */
		done(p, HEALTH_PASSED, 0);
	else if (p->open)
		done(p, HEALTH_FAILED, ETIMEDOUT);
	else
		start(p);
}

void probe_now(struct shared_target *g)
{
	if (g->probe && !g->probe->open)
		start(g->probe);
}

static struct probe *probe_make(struct router *r, struct shared_target *shared, uint32_t slot)
{
	struct probe *p = util_alloc(sizeof(*p));

	p->r = r;
	p->shared = shared_target_ref(shared);
	p->slot = slot;
	p->io.fd = -1;
	p->io.on_ready = on_probe;
	p->timer.on_time = on_probe_time;
	p->health.state = (enum health_state)atomic_load(&shared->health);
	if (p->health.state == HEALTH_UNKNOWN && router_speaks(r))
		atomic_store(&r->shm->slot[slot].state, TARGET_UNKNOWN);
	shared->probe = p;
	list_add_tail(&r->probes, &p->in_router);
	return p;
}

static void probe_end(struct probe *p)
{
	close_probe(p);
	loop_timer_fini(&p->r->loop, &p->timer);
	list_del(&p->in_router);
	p->shared->probe = NULL;
	shared_target_unref(p->shared);
	free(p);
}

/* The host that each app is asked under: its first exact one, as some apps refuse any other. The
 * texts of an app's hosts lie in the table in the order in which they were configured. */
static const struct table_route **first_hosts(const struct table *t)
{
	const struct table_route *r = (const void *)((const char *)t + t->routes);
	const struct table_route **ret = util_alloc(t->app_count * sizeof(struct table_route *));

	for (uint32_t i = 0; i < t->route_cap; i++) {
		const struct table_route **best = r[i].app < t->app_count ? &ret[r[i].app] : NULL;

		if (best && r[i].hash && r[i].host_len && table_string(t, r[i].host)[0] != '.' &&
		    (!*best || r[i].host < (*best)->host))
			*best = &r[i];
	}
	return ret;
}

static void probe_obey(struct probe *p, const struct table *t, const struct table_target *g,
		       const struct table_route *host)
{
	const struct table_app *app = &table_apps(t)[g->app];
	bool moved = p->target.addr_len != g->addr_len ||
		     memcmp(p->target.addr, g->addr, sizeof(g->addr));

	p->seen = mark;
	p->target = *g;
	p->interval_ms = MAX(app->probe_ms, 10u);
	p->timeout_ms = MAX(app->probe_timeout_ms, 10u);
	p->rise = MAX(app->rise, 1u);
	p->fall = MAX(app->fall, 1u);
	p->proxy = app->proxy;
	p->is_h2 = app->h2;
	snprintf(p->host, sizeof(p->host), "%.*s", host ? (int)host->host_len : 9,
		 host ? table_string(t, host->host) : "localhost");
	util_copy(p->path, sizeof(p->path), table_string(t, app->health_path));
	util_copy(p->name, sizeof(p->name), table_string(t, g->name));
	if (!p->timer.armed || (moved && !p->open))
		loop_timer_set(&p->r->loop, &p->timer, p->r->loop.now_ms);
}

void probe_take(struct router *r, struct view *v)
{
	const struct table_route **host = first_hosts(v->table);
	struct probe *p, *tmp;

	mark++;
	for (uint32_t i = 0; i < v->table->target_count; i++) {
		const struct table_target *g = &table_targets(v->table)[i];

		if (g->use == USE_FENCE)
			continue;
		p = v->targets[i]->probe;
		probe_obey(p ? p : probe_make(r, v->targets[i], g->slot), v->table, g,
			   host[g->app]);
	}
	free(host);
	LIST_EACH_SAFE(p, tmp, &r->probes, in_router)
		if (p->seen != mark)
			probe_end(p);
}

/* Requests met refusals: each counts as a failed probe, and the next one follows at once. */
void probe_refused(struct router *r)
{
	struct probe *p;

	if (!atomic_exchange(&r->refused, false))
		return;
	LIST_EACH(p, &r->probes, in_router) {
		bool changed;

		if (!atomic_exchange(&p->shared->refused, 0))
			continue;
		changed = health_step(&p->health, HEALTH_REFUSED, p->rise, p->fall, p->interval_ms,
				      r->loop.now_ms);
		publish(p, ECONNREFUSED);
		if (changed) {
			view_outage(r, p->target.app);
			bell_ring(r->controller_bell);
		}
		if (!p->open)
			loop_timer_set(&r->loop, &p->timer, p->health.next_probe_ms);
	}
}
