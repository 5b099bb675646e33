/* SPDX-License-Identifier: Apache-2.0
 *
 * The routing table, made of configuration, rollouts and orders, and handed to the keeper.
 */
#include "ship/ship.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/un.h>

#include "base/clock.h"
#include "base/log.h"

void ship_table_dirty(struct ship *s)
{
	s->table_dirty = true;
	loop_timer_set(s->loop, &s->turn, s->loop->now_ms);
}

/* An order of a person stands above what the rollout says, but gives no traffic to what has none. */
static enum target_use ordered_use(const struct ship_app *a, const char *name,
				   enum target_use by_rollout, uint64_t *until_ms)
{
	json_t *order = json_object_get(a->ordered, name);
	const char *use = json_string_value(json_object_get(order, "use"));

	if (!use || by_rollout == USE_PROBE)
		return by_rollout;
	if (strcmp(use, "fence") == 0)
		return USE_FENCE;
	if (by_rollout == USE_SERVE)
		*until_ms = (uint64_t)json_integer_value(json_object_get(order, "until"));
	return USE_DRAIN;
}

enum target_use ship_use(const struct ship_app *a, const char *name, enum target_use by_rollout)
{
	uint64_t until;

	return ordered_use(a, name, by_rollout, &until);
}

static bool is_among(const struct ship_target *t, uint32_t n, uint64_t id)
{
	for (uint32_t i = 0; i < n; i++)
		if (t[i].id == id)
			return true;
	return false;
}

/* Those that were configured and are no more drain like an instance that ends; one that comes back
 * meanwhile is simply a target again. */
static void leave(struct ship_app *a, const struct ship_target *old, uint32_t old_count)
{
	uint64_t until = a->ship->loop->now_ms + (a->conf ? a->conf->drain_ms : SHIP_DRAIN_MS);
	struct ship_target *all = util_alloc((a->leaving_count + old_count + 1) * sizeof(*all));
	uint32_t n = 0;

	for (uint32_t i = 0; i < a->leaving_count; i++)
		if (!is_among(a->targets, a->target_count, a->leaving[i].id))
			all[n++] = a->leaving[i];
	for (uint32_t i = 0; i < old_count; i++) {
		if (is_among(a->targets, a->target_count, old[i].id))
			continue;
		if (!old[i].addr_len) { /* it never was in a table */
			ship_slot_leave(a->ship, old[i].id);
			continue;
		}
		all[n] = old[i];
		all[n].until_ms = until;
		all[n++].generation = 0;
	}
	free(a->leaving);
	a->leaving = all;
	a->leaving_count = n;
}

void ship_targets_configure(struct ship_app *a)
{
	const struct conf_app *c = a->conf;
	struct ship_target *old = a->targets;
	uint32_t old_count = a->target_count;

	a->target_count = c ? c->targets.len : 0;
	a->targets = util_alloc((a->target_count + 1) * sizeof(*a->targets));
	for (uint32_t i = 0; i < a->target_count; i++) {
		struct ship_target *t = &a->targets[i];

		util_copy(t->name, sizeof(t->name), c->targets.items[i]);
		t->id = map_hash_more(a->id, t->name, strlen(t->name)) | 1ull << 63;
		t->shm_slot = ship_slot(a->ship, t->id);
		ship_lookup_apply(a->ship, t);
	}
	leave(a, old, old_count);
	ship_orders_tidy(a);
	free(old);
}

void ship_targets_tidy(struct ship_app *a)
{
	struct ship *s = a->ship;
	uint64_t applied = ship_applied(s);
	uint32_t kept = 0;

	for (uint32_t i = 0; i < a->leaving_count; i++) {
		struct ship_target *t = &a->leaving[i];
		bool seen = t->generation && applied >= t->generation;
		struct shm_sum sum;

		shm_sum_slot(s->shm, t->shm_slot, &sum);
		if (seen && sum.inflight == 0 && sum.tunnels == 0) {
			ship_slot_leave(s, t->id);
			ship_table_dirty(s);
		} else {
			a->leaving[kept++] = *t;
		}
	}
	a->leaving_count = kept;
}

static bool unit_target(struct ship_app *a, const struct rollout_unit *u, struct table_in_target *t,
			char *name, size_t size)
{
	struct ship_unit *x = ship_unit(a, u->id);
	char text[600];

	ship_unit_name(a, u, name, size);
	*t = (struct table_in_target){.id = u->id, .slot = x->shm_slot, .release = u->version.release,
				      .name = name, .drain_until_ms = u->until_ms};
	t->use = (uint16_t)ordered_use(a, name, u->use, &t->drain_until_ms);
	if (x->port)
		snprintf(text, sizeof(text), "127.0.0.1:%u", x->port);
	else
		snprintf(text, sizeof(text), "unix:%.400s/run/%llu/sock", a->ship->dir,
			 (unsigned long long)u->id);
	return table_addr_parse(text, &t->kind, t->addr, &t->addr_len);
}

/* Names of instances live in `names` until the table is built. */
static uint32_t app_targets(struct ship_app *a, struct table_in_target *t, char (*names)[MSG_NAME])
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < a->rollout.unit_count; i++) {
		const struct rollout_unit *u = &a->rollout.units[i];

		if (!u->stop && unit_target(a, u, &t[n], names[n], MSG_NAME))
			n++;
	}
	for (uint32_t i = 0; i < a->target_count; i++) {
		const struct ship_target *x = &a->targets[i];

		if (!x->addr_len)
			continue;
		t[n] = (struct table_in_target){.id = x->id, .slot = x->shm_slot, .kind = x->kind,
						.addr_len = x->addr_len, .name = x->name};
		memcpy(t[n].addr, x->addr, x->addr_len);
		t[n].use = (uint16_t)ordered_use(a, x->name, USE_SERVE, &t[n].drain_until_ms);
		n++;
	}
	for (uint32_t i = 0; i < a->leaving_count; i++) {
		const struct ship_target *x = &a->leaving[i];

		t[n] = (struct table_in_target){.id = x->id, .slot = x->shm_slot, .kind = x->kind,
						.addr_len = x->addr_len, .name = x->name,
						.drain_until_ms = x->until_ms};
		memcpy(t[n].addr, x->addr, x->addr_len);
		t[n].use = (uint16_t)ordered_use(a, x->name, USE_DRAIN, &t[n].drain_until_ms);
		n++;
	}
	return n;
}

static void app_values(const struct ship_app *a, struct table_app *v)
{
	const struct conf_app *c = a->conf;

	*v = (struct table_app){
		.slot = a->shm_slot,
		.hold = a->held || a->rollout.hold,
		.hold_wait_ms = c->hold_wait_ms,
		.hold_requests = c->hold_requests,
		.hold_bytes = c->hold_bytes,
		.target_limit = c->target_limit,
		.body_max = c->body_max,
		.connect_ms = c->connect_ms,
		.response_ms = c->response_ms,
		.body_ms = c->body_ms,
		.tunnel_ms = c->tunnel_ms,
		.request_ms = c->request_ms,
		.probe_ms = c->health_every_ms,
		.probe_timeout_ms = c->health_timeout_ms,
		.rise = c->health_rise,
		.fall = c->health_fall,
		.retry_unread = c->retry_unread,
		.h2 = c->protocol == CONF_H2C,
		.proxy = (uint32_t)c->proxy,
		.to_https = c->https == CONF_HTTPS_REDIRECT,
		.acme = c->tls == CONF_TLS_AUTO && a->ship->acme[0],
		.hsts_s = c->hsts_s,
		.drain_ms = c->drain_ms,
		.slow_start_ms = c->slow_start_ms,
		.retry_share = c->retry_share,
		.retry_least = c->retry_least,
		.eject = {.failures = c->eject_failures,
			  .errors = c->eject_errors,
			  .server_errors = c->eject_server_errors,
			  .latency = c->eject_latency,
			  .latency_least_ms = c->eject_latency_by_ms,
			  .requests = c->eject_requests,
			  .window_ms = c->eject_window_ms,
			  .time_ms = c->eject_time_ms,
			  .most_ms = c->eject_most_ms,
			  .silent_ms = c->eject_silence_ms},
	};
}

uint32_t ship_nets(const struct conf_text_list *texts, struct table_net *ret)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < texts->len; i++)
		n += table_net_parse(texts->items[i], &ret[n]);
	return n;
}

/* The sockets of users; nets has room for all networks that they name. */
static uint32_t listeners(const struct conf *c, struct table_in_listener *ret, struct table_net *nets)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < c->listen.len; i++) {
		const struct conf_listen *more = &c->listen_more[i];
		struct table_in_listener *l = &ret[n++];

		*l = (struct table_in_listener){.id = msg_listen_id(LISTEN_USERS, c->listen.items[i]),
						.app = UINT32_MAX, .nets = nets, .tls = more->tls};
		if (more->proxy)
			l->net_count = ship_nets(more->proxy_from.len ? &more->proxy_from : &c->trusted_proxies,
						  nets);
		nets += l->net_count;
	}
	return n;
}

static uint32_t count_nets(const struct conf *c)
{
	uint32_t n = c->trusted_proxies.len;

	for (uint32_t i = 0; i < c->listen.len; i++)
		n += c->listen_more[i].proxy_from.len ? c->listen_more[i].proxy_from.len : c->trusted_proxies.len;
	return n;
}

static int build(struct ship *s, struct buf *ret, struct err *e)
{
	const struct conf *c = s->conf;
	struct table_in in = {.limits = {c->clients, c->header_bytes, c->header_count, c->header_ms,
					 c->idle_ms, c->access_log, c->trace, c->log_sample, c->log_slow_ms,
					 c->connections, conf_https_port(c), c->streams}};
	uint32_t apps = 0, targets = 0, at = 0;
	struct ship_app *a;
	int r;

	LIST_EACH (a, &s->apps, link) {
		apps += a->conf != NULL;
		targets += a->rollout.unit_count + a->target_count + a->leaving_count;
	}
	CLEANUP_FREE struct table_in_app *in_apps = util_alloc(apps * sizeof(*in_apps));
	CLEANUP_FREE struct table_in_target *in_targets = util_alloc(targets * sizeof(*in_targets));
	CLEANUP_FREE char(*names)[MSG_NAME] = util_alloc(targets * MSG_NAME);
	CLEANUP_FREE struct table_net *nets = util_alloc(count_nets(c) * sizeof(*nets));
	CLEANUP_FREE struct table_in_listener *in_listeners = util_alloc((c->listen.len + apps) * sizeof(*in_listeners));
	CLEANUP(ship_policies_free) struct ship_policies policies = {
		.items = util_alloc(apps * sizeof(*policies.items))};

	in.trusted_count = ship_nets(&c->trusted_proxies, nets);
	in.listener_count = listeners(c, in_listeners, nets + in.trusted_count);
	LIST_EACH (a, &s->apps, link) {
		struct table_in_app *x = &in_apps[in.app_count];

		if (!a->conf)
			continue;
		*x = (struct table_in_app){.name = a->name, .health_path = a->conf->health_path,
					   .hosts = (const char *const *)a->conf->hosts.items,
					   .host_count = a->conf->hosts.len,
					   .paths = (const char *const *)a->conf->paths.items,
					   .path_count = a->conf->paths.len, .targets = &in_targets[at]};
		app_values(a, &x->v);
		x->policy = ship_policy(a, &policies);
		x->target_count = app_targets(a, &in_targets[at], &names[at]);
		at += x->target_count;
		if (a->conf->tcp)
			in_listeners[in.listener_count++] = (struct table_in_listener){
				.id = msg_listen_id(LISTEN_USERS, a->conf->tcp), .app = in.app_count};
		in.app_count++;
	}
	in.apps = in_apps;
	in.trusted = nets;
	in.acme = s->acme;
	in.listeners = in_listeners;
	in.key[0] = s->key[0];
	in.key[1] = s->key[1];
	r = table_build(&in, 0, ret, e);
	return r;
}

static int seal(const struct buf *b)
{
	CLEANUP_FD int fd = memfd_create("upstate-table", MFD_CLOEXEC | MFD_ALLOW_SEALING);

	for (size_t at = 0; fd >= 0 && at < b->len;) {
		ssize_t n = write(fd, b->data + at, b->len - at);

		if (n < 0)
			return -1;
		at += (size_t)n;
	}
	if (fd < 0 || fcntl(fd, F_ADD_SEALS, F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL) < 0)
		return -1;
	return TAKE_FD(fd);
}

/* Which table first said what to do with a unit: its draining counts from when that is in use. */
static void note_published(struct ship *s)
{
	struct ship_app *a;

	LIST_EACH (a, &s->apps, link) {
		for (uint32_t i = 0; i < a->rollout.unit_count; i++) {
			const struct rollout_unit *u = &a->rollout.units[i];
			struct ship_unit *x = ship_unit(a, u->id);

			if (x->published_generation && x->published == u->use)
				continue;
			x->published = u->use;
			x->published_generation = s->generation;
		}
		for (uint32_t i = 0; i < a->leaving_count; i++)
			if (!a->leaving[i].generation)
				a->leaving[i].generation = s->generation;
	}
}

static struct buf last; /* what the router has, to send nothing when nothing changed */

const struct table *ship_table(void)
{
	return last.len ? (const void *)last.data : NULL;
}

void ship_publish(struct ship *s)
{
	CLEANUP_BUF struct buf b = {.max = 512u << 20};
	struct msg_table m;
	struct err e;

	if (!s->synced || !s->conf)
		return;
	/* On a failure the table stays dirty: each turn, the next beat at the latest, tries again. */
	if (build(s, &b, &e) < 0) {
		log_error("table", "reason=\"%s\"", e.msg);
		return;
	}
	if (b.len == last.len && last.len && memcmp(b.data, last.data, b.len) == 0) {
		s->table_dirty = false;
		note_published(s); /* an order may hide what the rollout says: it is in force all the same */
		return;
	}
	buf_free(&last);
	last.max = b.max;
	buf_add(&last, b.data, b.len);
	s->generation = MAX(s->generation + 1, clock_ms());
	((struct table *)b.data)->generation = m.generation = s->generation;
	CLEANUP_FD int fd = seal(&b);

	if (fd < 0 || !msg_send(s->keeper, MSG_TABLE, &m, NULL, 0, &fd, 1)) {
		log_error("table", "reason=\"%s\"", strerror(errno));
		buf_free(&last);
		return;
	}
	s->table_dirty = false;
	note_published(s);
}
