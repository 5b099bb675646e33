/* SPDX-License-Identifier: Apache-2.0
 *
 * What is good, bad, ugly or unknown, and why; and the shapes in which the API tells it.
 *
 * Reasons name states, not moments ("restarts", not "restarts in 3 s"): a reason that changes is a
 * new status, and statuses are news.
 */
#include "tell/tell_priv.h"

#include <stdarg.h>
#include <string.h>

#include "base/clock.h"
#include "core/eject.h"

static PRINTF(3, 4) void set(struct tell_status_of *ret, const char *status, const char *fmt, ...)
{
	va_list ap;

	ret->status = status;
	va_start(ap, fmt);
	vsnprintf(ret->reason, sizeof(ret->reason), fmt, ap);
	va_end(ap);
	util_utf8(ret->reason);
}

/* A router beside the one that serves. */
static void other_router(struct tell *t, const struct msg_part *m, struct tell_status_of *ret)
{
	const struct shm *shm = t->ship->shm;
	uint32_t rows = shm->threads / SHM_BANKS, from = atomic_load(&shm->speaker) ? 0 : rows;
	uint64_t clients = 0;

	for (uint32_t i = from; i < from + rows; i++)
		clients += shm_get(&shm->thread[i].clients);
	if (m->state == PART_STATE_STARTING)
		set(ret, "good", "starts, to take the router's place");
	else
		set(ret, "good", "finishes what it has: %llu connection%s left", (unsigned long long)clients,
		    clients == 1 ? " is" : "s are");
}

void tell_part_status(struct tell *t, enum part p, struct tell_status_of *ret)
{
	const struct msg_part *m = &t->ship->parts[p];
	char since[CLOCK_TEXT];

	clock_text(m->since_wall_ms, since);
	if (p == PART_OTHER)
		other_router(t, m, ret);
	else if (p == PART_KEEPER)
		set(ret, "good", "runs");
	else if (!m->since_wall_ms)
		set(ret, "unknown", "the keeper has not told of it yet");
	else if (m->state == PART_STATE_DOWN)
		set(ret, "ugly", "%s; it is started anew", m->reason[0] ? m->reason : "ended");
	else if (m->starts > 1)
		set(ret, "good", "runs since %s, start %u; before: %s", since, m->starts,
		    m->reason[0] ? m->reason : "ended");
	else
		set(ret, "good", "runs since %s", since);
}

/* Is it up, and gets no requests all the same? Then ret says why. */
static bool ejected(const struct shm_slot *slot, char *ret, size_t size)
{
	enum eject_cause cause = (enum eject_cause)atomic_load(&slot->ejected);
	uint32_t value = atomic_load(&slot->ejected_value);
	uint64_t until = atomic_load(&slot->ejected_until_wall_ms);
	char when[CLOCK_TEXT], what[80];

	switch (cause) {
	case EJECT_FAILURES:
		snprintf(what, sizeof(what), "%u failures in a row", value);
		break;
	case EJECT_ERRORS:
		snprintf(what, sizeof(what), "%u %% of what it was sent failed", value);
		break;
	case EJECT_SERVER_ERRORS:
		snprintf(what, sizeof(what), "%u %% of its answers are 5xx, the others give fewer", value);
		break;
	case EJECT_LATENCY:
		snprintf(what, sizeof(what), "it takes %u ms, the others are much faster", value);
		break;
	case EJECT_STUCK:
		snprintf(what, sizeof(what), "it takes requests and answers nothing");
		break;
	default:
		return false;
	}
	if (until)
		snprintf(ret, size, "ejected: %s, until %.8s UTC", what, clock_text(until, when) + 11);
	else
		snprintf(ret, size, "ejected: %s, until it does", what);
	return true;
}

static void process_status(struct ship_app *a, const struct rollout_unit *u, const char *name,
			   struct tell_status_of *ret)
{
	struct ship_unit *x = ship_unit(a, u->id);
	const struct shm_slot *slot = &a->ship->shm->slot[x->shm_slot];
	enum target_state state = (enum target_state)atomic_load(&slot->state);
	char out[160];

	if (x->refused)
		set(ret, "ugly", "%s could not be started: %s; it is tried again", name, x->why);
	else if (!x->known)
		set(ret, "unknown", "%s is being started", name);
	else if (x->seen.state == INSTANCE_WAITING)
		set(ret, "ugly", "%s %s; it is started again", name, x->seen.reason);
	else if (x->seen.state == INSTANCE_STOPPING || x->seen.state == INSTANCE_GONE)
		set(ret, "ugly", "%s is ending", name);
	else if (state == TARGET_UP && ejected(slot, out, sizeof(out)))
		set(ret, "bad", "%s is %s", name, out);
	else if (state == TARGET_UP && x->seen.starts > 1)
		set(ret, "good", "%s serves, start %u; before: %s", name, x->seen.starts, x->seen.reason);
	else if (state == TARGET_UP)
		set(ret, "good", "%s serves", name);
	else if (state == TARGET_UNKNOWN)
		set(ret, "unknown", "%s was not looked at yet", name);
	else
		set(ret, "ugly", "%s does not serve: %s", name, ship_probe_error(atomic_load(&slot->error)));
}

static int rank(const char *status)
{
	return strcmp(status, "good") == 0 ? 3 : strcmp(status, "bad") == 0 ? 2
					 : strcmp(status, "unknown") == 0   ? 1
									    : 0;
}

/* A slot is as good as the best unit that has traffic in it. */
void tell_slot_status(struct ship_app *a, uint32_t slot, struct tell_status_of *ret)
{
	bool any = false;

	if (a->rollout.current.release)
		set(ret, "ugly", "nothing runs in it");
	else
		set(ret, "unknown", "nothing was deployed yet");
	for (uint32_t i = 0; i < a->rollout.unit_count; i++) {
		const struct rollout_unit *u = &a->rollout.units[i];
		struct tell_status_of s;
		char name[MSG_NAME];

		if (u->slot != slot || u->stop || u->use != USE_SERVE)
			continue;
		ship_unit_name(a, u, name, sizeof(name));
		process_status(a, u, name, &s);
		if (ship_use(a, name, USE_SERVE) != USE_SERVE)
			set(&s, "bad", "%s gets no traffic, by order", name);
		if (!any || rank(s.status) > rank(ret->status))
			*ret = s;
		any = true;
	}
	if (!any && a->rollout.phase != ROLLOUT_IDLE)
		set(ret, "unknown", "a change is going on in it");
}

void tell_target_status(struct ship_app *a, const struct ship_target *x, struct tell_status_of *ret)
{
	const struct shm_slot *slot = &a->ship->shm->slot[x->shm_slot];
	enum target_state state = (enum target_state)atomic_load(&slot->state);
	char out[160];

	if (!x->addr_len)
		set(ret, "ugly", "%s", x->problem);
	else if (ship_use(a, x->name, USE_SERVE) != USE_SERVE)
		set(ret, "bad", "it gets no traffic, by order");
	else if (state == TARGET_UP && ejected(slot, out, sizeof(out)))
		set(ret, "bad", "%s", out);
	else if (state == TARGET_UP && x->problem[0])
		set(ret, "bad", "it serves at its last known address: %s", x->problem);
	else if (state == TARGET_UP)
		set(ret, "good", "it serves");
	else if (state == TARGET_UNKNOWN)
		set(ret, "unknown", "it was not looked at yet");
	else
		set(ret, "ugly", "it does not serve: %s", ship_probe_error(atomic_load(&slot->error)));
}

void tell_app_status_of(struct ship_app *a, struct tell_status_of *ret)
{
	uint32_t good = 0, of = 0, unknown = 0;
	struct tell_status_of s;

	for (uint32_t slot = 1; a->conf && a->conf->run && slot <= a->conf->instances; slot++, of++) {
		tell_slot_status(a, slot, &s);
		good += strcmp(s.status, "good") == 0;
		unknown += strcmp(s.status, "unknown") == 0;
	}
	for (uint32_t i = 0; i < a->target_count; i++, of++) {
		tell_target_status(a, &a->targets[i], &s);
		good += strcmp(s.status, "good") == 0;
		unknown += strcmp(s.status, "unknown") == 0;
	}
	if (a->conf && a->conf->run && !a->rollout.current.release && !good)
		set(ret, "unknown", "nothing was deployed yet: upstate deploy %s DIR", a->name);
	else if (a->maintenance || (a->conf && a->conf->maintenance.on))
		set(ret, "bad", "in maintenance, by %s", a->maintenance ? "order" : "its configuration");
	else if (a->held)
		set(ret, "bad", "requests are held, by order");
	else if (good == of && of == 1)
		set(ret, "good", "serves");
	else if (good == of)
		set(ret, "good", "all %u serve", of);
	else if (good)
		set(ret, "bad", "%u of %u serve", good, of);
	else if (unknown)
		set(ret, "unknown", "none is known to serve");
	else
		set(ret, "ugly", "none of %u serves", of);
}

json_t *tell_part_json(struct tell *t, enum part p)
{
	const struct msg_part *m = &t->ship->parts[p];
	struct tell_status_of s;
	char since[CLOCK_TEXT];

	tell_part_status(t, p, &s);
	return json_pack("{s:s, s:s, s:s, s:i, s:i, s:s}", "name",
			 p != PART_OTHER			    ? part_name(p)
			 : m->state == PART_STATE_STARTING ? "router (next)"
							    : "router (leaving)",
			 "status", s.status,
			 "reason", s.reason, "pid", (int)m->pid, "starts", (int)m->starts, "since",
			 clock_text(m->since_wall_ms, since));
}

/* STARTING ends with READY=1, which only those say whose configuration says so. */
static const char *state_name(struct ship_app *a, const struct rollout_unit *u, const struct ship_unit *x)
{
	const struct ship_settings *settings = ship_settings(a, u->version.settings);

	if (!x->known)
		return "unknown";
	if (x->seen.state == INSTANCE_STARTING && settings &&
	    !json_is_true(json_object_get(settings->json, "notify")))
		return "running";
	return instance_state_name((enum instance_state)x->seen.state);
}

json_t *tell_unit_json(struct ship_app *a, const struct rollout_unit *u)
{
	struct ship_unit *x = ship_unit(a, u->id);
	char name[MSG_NAME], device[MSG_NAME], release[96], since[CLOCK_TEXT];
	struct tell_status_of s;
	struct shm_sum sum;

	ship_unit_name(a, u, name, sizeof(name));
	ship_version_name(a, u->version, release, sizeof(release));
	snprintf(device, sizeof(device), "%s/%u", a->name, u->slot);
	process_status(a, u, name, &s);
	shm_sum_slot(a->ship->shm, x->shm_slot, &sum);
	return json_pack("{s:s, s:s, s:s, s:s, s:s, s:s, s:s, s:i, s:i, s:s, s:I, s:I}", "name", name,
			 "device", device, "status", s.status, "reason", s.reason, "release", release,
			 "use", (const char *[]){"probe", "serve", "drain", "fence"}[ship_use(a, name, u->use)],
			 "state", state_name(a, u, x),
			 "pid", (int)x->seen.pid, "starts", (int)x->seen.starts, "since",
			 clock_text(x->seen.since_wall_ms, since), "inside", (json_int_t)sum.inflight,
			 "requests", (json_int_t)sum.requests);
}

json_t *tell_target_json(struct ship_app *a, const struct ship_target *x)
{
	struct tell_status_of s;
	struct shm_sum sum;

	tell_target_status(a, x, &s);
	shm_sum_slot(a->ship->shm, x->shm_slot, &sum);
	return json_pack("{s:s, s:o, s:s, s:s, s:I, s:I}", "name", x->name, "device", json_sprintf("%s/%s", a->name, x->name), "status",
			 s.status, "reason", s.reason, "inside", (json_int_t)sum.inflight, "requests",
			 (json_int_t)sum.requests);
}

json_t *tell_app_json(struct ship_app *a)
{
	const struct ship_release *now = ship_release(a, a->rollout.current.release);
	json_t *units = json_array(), *targets = json_array(), *receipt = json_object(), *o;
	char current[96], before[96];
	struct ship_receipt r;
	struct tell_status_of s;
	struct shm_sum sum, zero = {0};

	ship_version_name(a, a->rollout.current, current, sizeof(current));
	snprintf(before, sizeof(before), "%s@%u", a->name, now ? now->before : 0);
	for (uint32_t i = 0; i < a->rollout.unit_count; i++)
		if (!a->rollout.units[i].stop)
			json_array_append_new(units, tell_unit_json(a, &a->rollout.units[i]));
	for (uint32_t i = 0; i < a->target_count; i++)
		json_array_append_new(targets, tell_target_json(a, &a->targets[i]));
	tell_app_status_of(a, &s);
	shm_sum_slot(a->ship->shm, a->shm_slot, &sum);
	ship_receipt(&sum, &zero, &r);
	o = json_pack("{s:s, s:s, s:s, s:b, s:b, s:o, s:o, s:s, s:o, s:o, s:I, s:I, s:I, s:f, s:f, s:o, s:o}",
		      "name", a->name, "status", s.status, "reason", s.reason, "held",
		      a->held || a->rollout.hold, "maintenance",
		      a->maintenance || (a->conf && a->conf->maintenance.on), "current", now ? json_string(current) : json_null(), "id",
		      now ? json_string(now->id) : json_null(), "phase",
		      rollout_phase_name(a->rollout.phase), "change",
		      a->change && !a->change->ended_ms ? json_integer((json_int_t)a->change->number)
							: json_null(),
		      "previous", now && now->before ? json_string(before) : json_null(), "waiting",
		      (json_int_t)sum.waiting, "requests", (json_int_t)r.requests, "failed",
		      (json_int_t)r.failed, "p50_ms", (double)r.p50_us / 1000, "p99_ms",
		      (double)r.p99_us / 1000, "instances", units, "targets", targets);
	ensure(o);
	ship_receipt_json(&r, receipt);
	json_object_set_new(o, "receipt", receipt);
	return o;
}
