/* SPDX-License-Identifier: Apache-2.0
 *
 * Calls that only tell.
 */
#include "tell/tell_priv.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "core/bucket.h"
#include "core/certs.h"
#include "core/renew.h"
#include "core/tally.h"
#include "wire/h2_head.h"
#include "wire/proxy.h"
#include "wire/ring.h"

#define LOG_TAIL_BYTES (1u << 20)
#define LOG_POLL_MS 250
#define HISTORY_LIMIT 1000
#define VERIFY_PORTION 10000
#define VERIFY_BYTES (256u << 20) /* of manifests at once */

json_t *tell_status_json(struct tell *t)
{
	struct ship *s = t->ship;
	json_t *parts = json_array(), *apps = json_array();
	struct ship_app *a;

	for (enum part p = 0; p < PART_COUNT; p++)
		if (p != PART_OTHER || s->parts[p].pid)
			json_array_append_new(parts, tell_part_json(t, p));
	LIST_EACH (a, &s->apps, link)
		if (a->conf)
			json_array_append_new(apps, tell_app_json(a));
	return json_pack("{s:{s:s, s:s, s:i}, s:o, s:o, s:o, s:o}", "upstate", "version", UPSTATE_VERSION, "state",
			 s->dir, "keeper", (int)s->parts[PART_KEEPER].pid, "parts", parts, "apps", apps,
			 "devices", tell_devices_json(t), "certificates", t->options.certificates(t->options.arg));
}

void tell_status(struct call *c, json_t *body UNUSED)
{
	tell_answer_json(c, 200, tell_status_json(c->t));
}

void tell_app_status(struct call *c, json_t *body UNUSED)
{
	struct ship_app *a;

	if (tell_app(c, &a) == 0)
		tell_answer_json(c, 200, tell_app_json(a));
}

static bool take_data(void *arg, json_t *record)
{
	*(json_t **)arg = json_incref(json_object_get(record, "data"));
	return false;
}

static void follow(struct call *c, struct ship_app *a)
{
	struct err e;

	if (c->t->follower_count == TELL_FOLLOWERS_MAX) {
		err_set(&e, ERR_LIMIT, "%d follow changes already", TELL_FOLLOWERS_MAX);
		tell_answer_err(c, &e);
		return;
	}
	server_begin(c->r, 200, "application/x-ndjson");
	for (uint32_t i = 0; i < a->change->told; i++) {
		CLEANUP_FREE char *text = NULL;
		json_t *o = json_pack("{s:s, s:I}", "step", a->change->steps[i].name, "ms",
				      (json_int_t)a->change->steps[i].ms);

		text = json_dumps(o, JSON_COMPACT);
		json_decref(o);
		server_write(c->r, text, strlen(text));
		server_write(c->r, "\n", 1);
	}
	c->change = a->change->number;
	list_add_tail(&c->t->followers, &c->link);
	c->t->follower_count++;
}

json_t *tell_find_change(struct tell *t, uint64_t number, struct err *e)
{
	json_t *found = NULL;
	struct ship_app *a;
	uint64_t seq;

	LIST_EACH (a, &t->ship->apps, link)
		if (a->change && a->change->number == number)
			return ship_change_json(a, a->change);
	if (state_history_change(t->ship->state, number, &seq, e) < 0 ||
	    (seq && state_history_read(t->ship->state, NULL, seq - 1, 0, 1, false, take_data, &found, e) < 0))
		return NULL;
	if (!found)
		err_set(e, ERR_NOT_FOUND, "there is no change %llu", (unsigned long long)number);
	return found;
}

void tell_change_get(struct call *c, json_t *body UNUSED)
{
	uint64_t number = strtoull(c->arg[0], NULL, 10);
	char wants[8];
	struct ship_app *a;
	json_t *found;
	struct err e;

	if (server_param(c->r, "follow", wants, sizeof(wants)) && wants[0] == '1') {
		LIST_EACH (a, &c->t->ship->apps, link) {
			if (a->change && a->change->number == number && !a->change->ended_ms) {
				follow(c, a);
				return;
			}
		}
	}
	found = tell_find_change(c->t, number, &e);
	if (found)
		tell_answer_json(c, 200, found);
	else
		tell_answer_err(c, &e);
}

static bool collect(void *arg, json_t *record)
{
	json_array_append(arg, record);
	return true;
}

/* What ran then: for each app the last change that was done. */
static bool collect_ran(void *arg, json_t *record)
{
	json_t *ran = arg, *data = json_object_get(record, "data");
	const char *app = json_string_value(json_object_get(record, "app"));
	const char *outcome = json_string_value(json_object_get(data, "outcome"));

	if (app && app[0] && outcome && strcmp(outcome, "done") == 0 &&
	    strcmp(json_string_value(json_object_get(record, "kind")) ?: "", "change.end") == 0)
		json_object_set_new(ran, app,
				    json_pack("{s:s, s:O, s:O?, s:O?, s:O}", "app", app, "release",
					      json_object_get(data, "to"), "id",
					      json_object_get(data, "release"), "settings",
					      json_object_get(data, "settings"), "since",
					      json_object_get(record, "time")));
	return true;
}

static json_t *ran_at(struct call *c, uint64_t until, struct err *e)
{
	CLEANUP(json_decrefp) json_t *by_app = json_object();
	json_t *list, *one;
	const char *key;

	if (state_history_read(c->t->ship->state, NULL, 0, until, UINT32_MAX, false, collect_ran, by_app,
			       e) < 0)
		return NULL;
	list = json_array();
	json_object_foreach (by_app, key, one)
		json_array_append(list, one);
	return list;
}

void tell_history(struct call *c, json_t *body UNUSED)
{
	char app[SHIP_NAME], at[64], number[24], hash[STATE_HASH];
	bool has_app = server_param(c->r, "app", app, sizeof(app));
	bool has_at = server_param(c->r, "at", at, sizeof(at)), has_after;
	uint32_t limit = 100;
	uint64_t until = 0, after = 0, seq;
	CLEANUP(json_decrefp) json_t *o = NULL;
	json_t *records, *ran;
	struct err e;

	if (server_param(c->r, "limit", number, sizeof(number)))
		limit = (uint32_t)MIN(strtoul(number, NULL, 10), HISTORY_LIMIT);
	has_after = server_param(c->r, "after", number, sizeof(number));
	if (has_after)
		after = strtoull(number, NULL, 10);
	if (has_at && !clock_parse(at, &until)) {
		err_set(&e, ERR_INPUT, "'%s' is not a time such as 2026-11-22T03:12:00Z", at);
		tell_answer_err(c, &e);
		return;
	}
	records = json_array();
	o = json_pack("{s:o}", "records", records);
	if (state_history_read(c->t->ship->state, has_app ? app : NULL, after, until, limit, !has_after, collect,
			       records, &e) < 0 ||
	    state_history_head(c->t->ship->state, &seq, hash, &e) < 0) {
		tell_answer_err(c, &e);
		return;
	}
	json_object_set_new(o, "head", json_pack("{s:I, s:s}", "seq", (json_int_t)seq, "hash", hash));
	if (has_at) {
		ran = ran_at(c, until, &e);
		if (!ran) {
			tell_answer_err(c, &e);
			return;
		}
		json_object_set_new(o, "ran", ran);
	}
	tell_answer_json(c, 200, TAKE(o));
}

/* In portions: a long chain must not keep the controller from everything else. */
static void verify_more(struct loop_timer *t)
{
	struct call *c = container_of(t, struct call, tail);
	struct err e;
	int r = state_history_verify_some(c->t->ship->state, &c->verify, VERIFY_PORTION, &e);

	if (r < 0)
		tell_answer_err(c, &e);
	else if (r > 0)
		loop_timer_set(c->t->ship->loop, t, c->t->ship->loop->now_ms);
	else
		tell_answer_json(c, 200, json_pack("{s:I, s:s}", "records", (json_int_t)c->verify.seq,
						   "head", c->verify.hash));
}

void tell_history_verify(struct call *c, json_t *body UNUSED)
{
	c->tail.on_time = verify_more;
	loop_timer_set(c->t->ship->loop, &c->tail, c->t->ship->loop->now_ms);
}

void tell_release(struct call *c, json_t *body UNUSED)
{
	CLEANUP_BUF struct buf text = {.max = 256u << 20};
	struct err e;

	if (state_text_get(c->t->ship->state, c->arg[0], &text, &e) < 0)
		tell_answer_err(c, &e);
	else
		server_answer(c->r, 200, "text/plain; charset=utf-8", NULL, text.data, text.len);
}

void tell_object(struct call *c, json_t *body UNUSED)
{
	struct err e;
	CLEANUP_FD int fd = store_object_open(c->t->ship->store, c->arg[0], &e);

	if (fd < 0) {
		tell_answer_err(c, &e);
		return;
	}
	server_answer_file(c->r, "application/octet-stream", NULL, TAKE_FD(fd));
}

/* Sends what came to the file since the last look; a rotated file is begun anew. */
static void tail_more(struct loop_timer *t)
{
	struct call *c = container_of(t, struct call, tail);
	char piece[65536], path[900];
	struct stat here, now;
	ssize_t n = 0;

	/* In pieces, so that a long backlog is not more than the server lets wait. */
	for (int i = 0; i < 16 && (n = read(c->tail_fd, piece, sizeof(piece))) > 0; i++)
		if (!server_write(c->r, piece, (size_t)n))
			return;
	snprintf(path, sizeof(path), "%s/log/%s.log", c->t->ship->dir, c->arg[0]);
	if (fstat(c->tail_fd, &here) == 0 && stat(path, &now) == 0 && here.st_ino != now.st_ino) {
		int fd = open(path, O_RDONLY | O_CLOEXEC);

		if (fd >= 0) {
			close(c->tail_fd);
			c->tail_fd = fd;
		}
	}
	loop_timer_set(c->t->ship->loop, &c->tail, c->t->ship->loop->now_ms + LOG_POLL_MS);
}

/* Leaves the descriptor where the last `lines` lines begin. */
static void seek_lines(int fd, uint32_t lines)
{
	CLEANUP_FREE char *text = util_alloc(LOG_TAIL_BYTES);
	off_t end = lseek(fd, 0, SEEK_END), from = MAX(end - (off_t)LOG_TAIL_BYTES, 0);
	ssize_t n = pread(fd, text, LOG_TAIL_BYTES, from);
	ssize_t at = MAX(n, 0);

	for (uint32_t seen = 0; lines && at > 0; at--)
		if (text[at - 1] == '\n' && at < n && ++seen == lines)
			break;
	lseek(fd, from + at, SEEK_SET);
}

void tell_logs(struct call *c, json_t *body UNUSED)
{
	char path[900], number[16];
	struct ship_app *a;
	uint32_t lines = 100;
	struct err e;

	if (tell_app(c, &a) < 0)
		return;
	if (server_param(c->r, "lines", number, sizeof(number)))
		lines = (uint32_t)strtoul(number, NULL, 10);
	snprintf(path, sizeof(path), "%s/log/%s.log", c->t->ship->dir, a->name);
	c->tail_fd = open(path, O_RDONLY | O_CLOEXEC);
	if (c->tail_fd < 0 && errno != ENOENT) {
		err_sys(&e, "opening '%s'", path);
		tell_answer_err(c, &e);
		return;
	}
	if (c->tail_fd < 0)
		c->tail_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	else
		seek_lines(c->tail_fd, lines);
	if (!server_param(c->r, "follow", number, sizeof(number)) || number[0] != '1') {
		server_answer_file(c->r, "text/plain; charset=utf-8", NULL, TAKE_FD(c->tail_fd));
		return;
	}
	server_begin(c->r, 200, "text/plain; charset=utf-8");
	c->tail.on_time = tail_more;
	tail_more(&c->tail);
}

static void limit(json_t *list, const char *name, const char *what, uint64_t bound, uint64_t used,
		  uint64_t overflowed)
{
	json_array_append_new(list, json_pack("{s:s, s:s, s:I, s:I, s:I}", "name", name, "what", what,
					      "bound", (json_int_t)bound, "used", (json_int_t)used,
					      "overflowed", (json_int_t)overflowed));
}

static void app_limits(struct ship_app *a, json_t *list)
{
	char name[SHIP_NAME + 32];
	struct shm_sum sum;

	shm_sum_slot(a->ship->shm, a->shm_slot, &sum);
	snprintf(name, sizeof(name), "%s.hold.requests", a->name);
	limit(list, name, "requests that wait", a->conf->hold_requests, sum.waiting, sum.failed_503_full);
	snprintf(name, sizeof(name), "%s.hold.bytes", a->name);
	limit(list, name, "their bytes", a->conf->hold_bytes, sum.waiting_bytes, sum.failed_503_full);
	snprintf(name, sizeof(name), "%s.hold.wait", a->name);
	limit(list, name, "ms that one may wait", a->conf->hold_wait_ms, 0, sum.failed_503_waited);
	snprintf(name, sizeof(name), "%s.timeouts.response", a->name);
	limit(list, name, "ms until a target answers", a->conf->response_ms, 0, sum.failed_504);
	if (a->conf->rate_requests) {
		snprintf(name, sizeof(name), "%s.rate.clients", a->name);
		limit(list, name, "clients whose rate is known", BUCKET_KEYS, 0, sum.rate_forgotten);
	}
	snprintf(name, sizeof(name), "%s.timeouts.request", a->name);
	limit(list, name, "ms for a request as a whole", a->conf->request_ms, 0, sum.over_time);
	snprintf(name, sizeof(name), "%s.retry", a->name);
	limit(list, name, "percent of requests that may be tried again", a->conf->retry_share, 0,
	      sum.retry_refused);
	if (a->conf->run) {
		snprintf(name, sizeof(name), "%s.units", a->name);
		limit(list, name, "instances, old and new ones", ROLLOUT_UNITS_MAX, a->rollout.unit_count, 0);
		snprintf(name, sizeof(name), "%s.releases", a->name);
		limit(list, name, "releases known by number", SHIP_RELEASES_MAX, a->release_count, 0);
	}
}

/* What was counted since this controller began goes on from what the one before had counted. */
#define KEPT(c, name, now) keep_count(&(c)->t->ship->shm->controller.name, (c)->t->kept.name + (now))

static uint64_t keep_count(_Atomic uint64_t *where, uint64_t n)
{
	atomic_store(where, n);
	return n;
}

json_t *tell_limits_json(struct call *c)
{
	struct ship *s = c->t->ship;
	const struct results *results = c->t->devices.results;
	CLEANUP(json_decrefp) json_t *certificates = c->t->options.certificates(c->t->options.arg);
	json_t *list = json_array();
	uint64_t clients = 0, refused = 0, failed = 0, dropped = 0, memory = 0, calls = 0,
		 calls_refused = 0, late = 0, unproxied = 0, many = 0, full = 0, calmed = 0, full_up = 0;
	struct rlimit files;
	struct state_usage usage;
	struct err e;

	for (uint32_t i = 0; i < s->shm->threads; i++) {
		const struct shm_thread *x = &s->shm->thread[i];

		clients += shm_get(&x->clients);
		refused += shm_get(&x->clients_refused);
		failed += shm_get(&x->accept_failed);
		unproxied += shm_get(&x->proxy_refused);
		dropped += shm_get(&x->log_dropped);
		memory += shm_get(&x->no_memory);
		many += shm_get(&x->connections_refused);
		full += shm_get(&x->addresses_full);
		late += shm_get(&x->tls_late);
		calmed += shm_get(&x->h2_calmed);
		full_up += shm_get(&x->h2_full);
	}
	for (uint32_t i = 0; i < c->t->listener_count; i++) {
		uint64_t n;

		calls += server_connections(c->t->listeners[i].server, &n);
		calls_refused += n;
	}
	limit(list, "clients", "connections of users", s->conf->clients, clients, refused);
	limit(list, "clients.connections", "connections of users from one address (0: any number)",
	      s->conf->connections, 0, many);
	limit(list, "clients.addresses", "addresses whose connections are counted", TALLY_KEYS, 0, full);
	limit(list, "streams", "requests at once on an HTTP/2 connection (overflowed: ended for a flood)",
	      s->conf->streams, 0, calmed);
	limit(list, "targets.http2", "connections with HTTP/2 to a target, each thread; what finds no stream waits",
	      H2_UPS, 0, full_up);
	limit(list, "targets.streams", "requests at once on one, if the target allows as many", H2_ASKS, 0, 0);
	getrlimit(RLIMIT_NOFILE, &files);
	limit(list, "routers", "the one that serves, and one beside it", SHM_BANKS,
	      1 + (s->parts[PART_OTHER].pid != 0), 0);
	limit(list, "descriptors", "of the router (used: clients alone)", files.rlim_cur, clients, failed);
	limit(list, "listen.proxy", "bytes of a PROXY header (overflowed: connections without a right one in time)",
	      PROXY_MAX, 0, unproxied);
	limit(list, "memory", "requests failed for want of it", 0, 0, memory);
	limit(list, "log.ring", "bytes of records on their way to the log, each thread", RING_BYTES, 0,
	      dropped);
	limit(list, "api.connections", "connections to API and pages",
	      (uint64_t)SERVER_CONNECTIONS_MAX * MAX(c->t->listener_count, 1u), calls,
	      KEPT(c, api_refused, calls_refused));
	limit(list, "api.followers", "who follow a change", TELL_FOLLOWERS_MAX, c->t->follower_count, 0);
	limit(list, "api.scrapes", "answers with all numbers at once", TELL_SCRAPES_MAX, c->t->scrape_count,
	      shm_get(&s->shm->controller.scrapes_refused));
	limit(list, "certificates", "certificates with their keys", CERTS_PAIRS_MAX,
	      json_array_size(certificates), 0);
	limit(list, "certificates.failures", "failed tries an hour to get one by itself, each app", RENEW_FAILURES, 0, 0);
	limit(list, "certificates.try", "ms that getting one by itself may take", RENEW_RUN_MS, 0, 0);
	limit(list, "tls.handshake", "ms that a TLS handshake may take (limits.header_time)", s->conf->header_ms, 0,
	      late);
	limit(list, "devices", "devices of the configuration", CONF_DEVICES_MAX, s->conf->device_count, 0);
	limit(list, "checks", "checks of all devices", CONF_CHECKS_MAX, s->conf->check_count, 0);
	limit(list, "watch.running", "measurements at once (overflowed: could not begin in time)", WATCH_RUNNING_MAX,
	      shm_get(&results->running), shm_get(&results->skipped));
	limit(list, "watch.programs", "programs at once that run for checks", WATCH_PLUGINS_MAX, shm_get(&results->programs), 0);
	limit(list, "watch.results", "bytes of results on their way to the controller", RING_BYTES, 0,
	      shm_get(&results->results_dropped));
	limit(list, "apps", "apps", CONF_APPS_MAX, s->by_name.len, 0);
	limit(list, "slots", "apps and targets that are counted", SHM_SLOTS, s->slot_by_id.len, 0);
	limit(list, "keeper.queue", "messages to the keeper that wait", MSG_QUEUE_MAX, s->keeper->queue_len,
	      0);
	if (state_usage(s->state, &usage, &e) == 0) {
		limit(list, "state.devices", "statuses that are kept", STATE_DEVICES_MAX, usage.devices,
		      KEPT(c, devices_refused, usage.devices_refused));
		limit(list, "state.past", "statuses that were; the oldest make room", STATE_PAST_MAX, usage.past,
		      usage.past_dropped);
		limit(list, "state.keys", "values that are kept", STATE_KEYS_MAX, usage.keys,
		      KEPT(c, keys_refused, usage.keys_refused));
	}
	return list;
}

void tell_limits(struct call *c, json_t *body UNUSED)
{
	json_t *list = tell_limits_json(c);
	struct ship *s = c->t->ship;
	struct ship_app *a;

	LIST_EACH (a, &s->apps, link)
		if (a->conf)
			app_limits(a, list);
	tell_answer_json(c, 200, json_pack("{s:o}", "limits", list));
}

static json_t *verify_app(struct ship_app *a, const struct buf *manifest)
{
	const struct ship_release *now = ship_release(a, a->rollout.current.release);
	struct store_manifest m;
	struct err e = {0};
	int r = store_manifest_parse(manifest->data, manifest->len, &m, &e);

	if (r == 0) {
		r = store_verify(a->ship->store, &m, &e);
		store_manifest_free(&m);
	}
	return json_pack("{s:s, s:o, s:s, s:b, s:o}", "app", a->name, "release",
			 json_sprintf("%s@%u", a->name, now->number), "id", now->id, "ok", r == 0,
			 "differences", r == 0 ? json_array() : json_pack("[s]", e.msg));
}

/* What to verify. The database is not for the child: the manifests are read before it is born. */
static struct {
	struct ship_app *app;
	struct buf manifest;
} *to_verify;
static size_t to_verify_len;

static int verify_all(struct call *c UNUSED, json_t **ret_body)
{
	json_t *list = json_array();

	for (size_t i = 0; i < to_verify_len; i++)
		json_array_append_new(list, verify_app(to_verify[i].app, &to_verify[i].manifest));
	*ret_body = json_pack("{s:o}", "releases", list);
	return 200;
}

static int gather_manifests(struct ship *s, const struct ship_app *one, struct err *e)
{
	struct ship_app *a;
	size_t bytes = 0;

	LIST_EACH (a, &s->apps, link) {
		struct buf *text = &to_verify[to_verify_len].manifest;

		if (!a->conf || !a->rollout.current.release || (one && one != a))
			continue;
		text->max = 256u << 20;
		to_verify[to_verify_len++].app = a;
		if (state_text_get(s->state, ship_release(a, a->rollout.current.release)->id, text, e) < 0)
			return -(int)e->code;
		bytes += text->len;
		if (bytes > VERIFY_BYTES)
			return err_set(e, ERR_LIMIT, "too many files to verify at once: name an app");
	}
	return 0;
}

void tell_verify(struct call *c, json_t *body UNUSED)
{
	struct ship *s = c->t->ship;
	struct ship_app *one = NULL;
	char app[SHIP_NAME];
	struct err e;

	if (server_param(c->r, "app", app, sizeof(app)) && ship_find_or_list(s, app, &one, &e) < 0) {
		tell_answer_err(c, &e);
		return;
	}
	to_verify = util_alloc((s->by_name.len + 1) * sizeof(*to_verify));
	if (gather_manifests(s, one, &e) < 0)
		tell_answer_err(c, &e);
	else
		tell_in_child(c, verify_all);
	for (size_t i = 0; i < to_verify_len; i++)
		buf_free(&to_verify[i].manifest);
	free(TAKE(to_verify));
	to_verify_len = 0;
}
