/* SPDX-License-Identifier: Apache-2.0
 *
 * GET /metrics: the numbers in Prometheus' text format 0.0.4
 * (https://prometheus.io/docs/instrumenting/exposition_formats/) or as OpenMetrics 1.0
 * (https://openmetrics.io), whichever the scraper wants more.
 *
 * All samples of a family stand together, so the writer goes from family to family, and in each
 * over all apps or targets. Families are the rows of fixed[] below and, one for each counter and gauge,
 * what metric_name() makes of the tables in wire/shm.h.
 *
 * Numbers lie in the memory that the keeper holds: a new router or controller goes on counting
 * where the old one ended.
 */
#include "tell/scrape.h"

#include <string.h>

#include "base/clock.h"
#include "tell/metrics_names.h"

struct family {
	char name[METRIC_NAME + 24]; /* without "_total" and "_info" */
	const char *unit, *help;
	enum metric_type type;
	enum metric_scope scope;
	/* Writes the samples of one subject (METRIC_ONE: x is NULL). */
	void (*write)(struct scrape *s, const struct family *f, const struct scrape_subject *x);
	uint32_t first, last; /* of a generated one: numbers of its rows, from 1 */
};

/* A number of the shared memory, a sample of a generated family. */
struct row {
	struct metric_name name;
	size_t offset; /* in shm_counts or shm_thread */
	uint32_t next; /* number of the family's next row; 0: the last */
};

#define X(name, what) +1
enum {
	SLOT_ROWS = 0 COUNT_TABLE(X) GAUGE_TABLE(X),
	ROUTER_ROWS = 0 THREAD_COUNT_TABLE(X),
	ROWS_MAX = 2 * SLOT_ROWS + ROUTER_ROWS,
	FAMILIES_MAX = ROWS_MAX + 32,
};
#undef X

static struct row rows[ROWS_MAX];
static struct family families[FAMILIES_MAX];
static uint32_t row_count, family_count;

/* --- samples --- */

/* NAME{LABELS,LABEL="VALUE"} N */
static void sample(struct scrape *s, const struct family *f, const char *suffix, const char *labels,
		   const char *label, const char *value, uint64_t n, uint32_t per)
{
	struct buf *b = &s->out;

	buf_adds(b, f->name);
	buf_adds(b, suffix);
	if (labels || label) {
		buf_addc(b, '{');
		buf_adds(b, labels ? labels : "");
		if (label) {
			if (labels)
				buf_addc(b, ',');
			buf_adds(b, label);
			buf_adds(b, "=\"");
			metric_escape(b, value);
			buf_addc(b, '"');
		}
		buf_addc(b, '}');
	}
	buf_addc(b, ' ');
	metric_number(b, n, per);
	buf_addc(b, '\n');
}

static const char *labels_of(const struct scrape *s, const struct scrape_subject *x)
{
	return s->texts.data + x->labels;
}

static const char *suffix_of(const struct family *f)
{
	return f->type == METRIC_COUNTER ? "_total" : f->type == METRIC_INFO ? "_info" : "";
}

static void header(struct scrape *s, const struct family *f)
{
	static const char *const types[] = {
		[METRIC_COUNTER] = "counter", [METRIC_GAUGE] = "gauge", [METRIC_INFO] = "info",
		[METRIC_HISTOGRAM] = "histogram"};
	/* The old format has no infos, and names a family as its samples are named. */
	const char *type = !s->open_metrics && f->type == METRIC_INFO ? "gauge" : types[f->type];
	const char *end = s->open_metrics ? "" : suffix_of(f);

	buf_addf(&s->out, "# HELP %s%s %s\n# TYPE %s%s %s\n", f->name, end, f->help, f->name, end, type);
	if (s->open_metrics && f->unit)
		buf_addf(&s->out, "# UNIT %s %s\n", f->name, f->unit);
}

/* --- out of the tables --- */

static uint64_t sum_slot(const struct scrape *s, uint32_t slot, size_t offset)
{
	struct shm *shm = s->c->t->ship->shm;
	uint64_t sum = 0;

	for (uint32_t t = 0; t < shm->threads; t++)
		sum += shm_get((const _Atomic uint64_t *)((const char *)shm_counts(shm, t, slot) + offset));
	return sum;
}

static uint64_t sum_threads(const struct scrape *s, size_t offset)
{
	struct shm *shm = s->c->t->ship->shm;
	uint64_t sum = 0;

	for (uint32_t t = 0; t < shm->threads; t++)
		sum += shm_get((const _Atomic uint64_t *)((const char *)&shm->thread[t] + offset));
	return sum;
}

static void write_rows(struct scrape *s, const struct family *f, const struct scrape_subject *x)
{
	for (uint32_t i = f->first; i; i = rows[i - 1].next) {
		const struct row *r = &rows[i - 1];
		uint64_t n = x ? sum_slot(s, x->slot, r->offset) : sum_threads(s, r->offset);

		/* A gauge is a sum of threads that add and subtract: seen in between it may be below 0. */
		if (f->type == METRIC_GAUGE && (int64_t)n < 0)
			n = 0;
		sample(s, f, suffix_of(f), x ? labels_of(s, x) : NULL, r->name.label[0] ? r->name.label : NULL,
		       r->name.value, n, r->name.per);
	}
}

/* One boundary an octave, from 128 microseconds to 67 s. They are ends of the finer buckets in memory, so
 * each number is exact. (A bucket there ends below its boundary, le includes it: times are cut to
 * microseconds, so what is below 128 us and what is at most 128 us differ by nothing that was measured.) */
static void write_latency(struct scrape *s, const struct family *f, const struct scrape_subject *x)
{
	uint64_t sum = 0, next = 128;
	const char *labels = labels_of(s, x);

	for (uint32_t i = 0; i < SHM_BUCKETS; i++) {
		sum += sum_slot(s, x->slot, offsetof(struct shm_counts, latency) + i * sizeof(uint64_t));
		if (shm_bucket_us(i) == next && next < 1u << 27) {
			char le[32];
			struct buf b = {.data = le, .cap = sizeof(le), .max = sizeof(le)};

			metric_number(&b, next, 1000000);
			le[b.len] = '\0';
			sample(s, f, "_bucket", labels, "le", le, sum, 1);
			next *= 2;
		}
	}
	sample(s, f, "_bucket", labels, "le", "+Inf", sum, 1);
	sample(s, f, "_sum", labels, NULL, NULL, sum_slot(s, x->slot, offsetof(struct shm_counts, latency_us)),
	       1000000);
	sample(s, f, "_count", labels, NULL, NULL, sum, 1);
}

/* --- the rest --- */

static void write_build(struct scrape *s, const struct family *f, const struct scrape_subject *x UNUSED)
{
	sample(s, f, "_info", NULL, "version", UPSTATE_VERSION, 1, 1);
}

static void write_part_up(struct scrape *s, const struct family *f, const struct scrape_subject *x UNUSED)
{
	struct tell_status_of of;

	for (enum part p = 0; p < PART_OTHER; p++) { /* that one comes and goes */
		tell_part_status(s->c->t, p, &of);
		sample(s, f, "", NULL, "part", part_name(p), strcmp(of.status, "good") == 0, 1);
	}
}

static void write_part_restarts(struct scrape *s, const struct family *f, const struct scrape_subject *x UNUSED)
{
	for (enum part p = 0; p < PART_OTHER; p++)
		sample(s, f, "_total", NULL, "part", part_name(p), MAX(s->c->t->ship->parts[p].starts, 1u) - 1, 1);
}

static void write_part_start(struct scrape *s, const struct family *f, const struct scrape_subject *x UNUSED)
{
	for (enum part p = 0; p < PART_OTHER; p++)
		if (s->c->t->ship->parts[p].since_wall_ms)
			sample(s, f, "", NULL, "part", part_name(p), s->c->t->ship->parts[p].since_wall_ms,
			       1000);
}

static void write_limits(struct scrape *s, const struct family *f, const char *field)
{
	CLEANUP(json_decrefp) json_t *list = tell_limits_json(s->c);
	const json_t *o;
	size_t i;

	json_array_foreach (list, i, o)
		sample(s, f, suffix_of(f), NULL, "limit", json_string_value(json_object_get(o, "name")),
		       (uint64_t)MAX(json_integer_value(json_object_get(o, field)), 0), 1);
}

static void write_bounds(struct scrape *s, const struct family *f, const struct scrape_subject *x UNUSED)
{
	write_limits(s, f, "bound");
}

static void write_used(struct scrape *s, const struct family *f, const struct scrape_subject *x UNUSED)
{
	write_limits(s, f, "used");
}

static void write_overflows(struct scrape *s, const struct family *f, const struct scrape_subject *x UNUSED)
{
	write_limits(s, f, "overflowed");
}

static void write_app_status(struct scrape *s, const struct family *f, const struct scrape_subject *x)
{
	static const char *const words[] = {"good", "bad", "ugly", "unknown"};
	struct ship_app *a = scrape_app(s, x);
	struct tell_status_of of;

	if (!a)
		return;
	tell_app_status_of(a, &of);
	for (size_t i = 0; i < ARRAY_LEN(words); i++)
		sample(s, f, "", labels_of(s, x), "status", words[i], strcmp(of.status, words[i]) == 0, 1);
}

static void write_app_hold(struct scrape *s, const struct family *f, const struct scrape_subject *x)
{
	struct ship_app *a = scrape_app(s, x);

	if (a)
		sample(s, f, "", labels_of(s, x), NULL, NULL, a->held || a->rollout.hold, 1);
}

static void write_waiting_limit(struct scrape *s, const struct family *f, const struct scrape_subject *x)
{
	struct ship_app *a = scrape_app(s, x);

	if (a)
		sample(s, f, "", labels_of(s, x), NULL, NULL, a->conf->hold_requests, 1);
}

static void write_release(struct scrape *s, const struct family *f, const struct scrape_subject *x)
{
	struct ship_app *a = scrape_app(s, x);
	const struct ship_release *now = a ? ship_release(a, a->rollout.current.release) : NULL;
	char labels[SHIP_NAME * 2 + 64];

	if (!now)
		return;
	snprintf(labels, sizeof(labels), "%s,release=\"%s@%u\"", labels_of(s, x), a->name, now->number);
	sample(s, f, "_info", labels, "id", now->id, 1, 1);
}

static void write_target_state(struct scrape *s, const struct family *f, const struct scrape_subject *x)
{
	static const char *const words[] = {
#define X(name, lower) [TARGET_##name] = #lower,
		TARGET_STATE_TABLE(X)
#undef X
	};
	uint32_t state;

	if (!scrape_app(s, x))
		return;
	state = atomic_load(&s->c->t->ship->shm->slot[x->slot].state);
	for (uint32_t i = 0; i < ARRAY_LEN(words); i++)
		sample(s, f, "", labels_of(s, x), "state", words[i], state == i, 1);
}

static void write_target_use(struct scrape *s, const struct family *f, const struct scrape_subject *x)
{
	static const char *const words[USE_COUNT] = {
#define X(name, lower, what) [USE_##name] = #lower,
		TARGET_USE_TABLE(X)
#undef X
	};
	struct ship_app *a = scrape_app(s, x);
	const struct rollout_unit *u;
	const struct ship_target *g;
	char name[MSG_NAME], release[96] = "";
	CLEANUP_BUF struct buf labels = {0};

	if (!a)
		return;
	scrape_target(a, x, &u, &g);
	if (!u && !g)
		return;
	if (u) {
		ship_unit_name(a, u, name, sizeof(name));
		ship_version_name(a, u->version, release, sizeof(release));
	}
	buf_addf(&labels, "%s,release=\"%s\"", labels_of(s, x), release);
	sample(s, f, "_info", buf_str(&labels), "use",
	       words[ship_use(a, u ? name : g->name, u ? u->use : USE_SERVE)], 1, 1);
}

#define FIXED(name_, unit_, type_, scope_, write_, help_)                                            \
	{                                                                                          \
		.name = name_, .unit = unit_, .type = METRIC_##type_, .scope = METRIC_##scope_,    \
		.write = write_, .help = help_                                                     \
	}

static const struct family fixed[] = {
	FIXED("upstate_build", NULL, INFO, ONE, write_build, "The version of Upstate that answers."),
	FIXED("upstate_part_up", NULL, GAUGE, ONE, write_part_up, "1 while this process of Upstate runs."),
	FIXED("upstate_part_restarts", NULL, COUNTER, ONE, write_part_restarts,
	      "How often the keeper had to start this process anew."),
	FIXED("upstate_part_start_time_seconds", "seconds", GAUGE, ONE, write_part_start,
	      "When this process was started last, since 1970."),
	FIXED("upstate_limit", NULL, GAUGE, ONE, write_bounds,
	      "Every bound of the whole; those of apps are with the apps."),
	FIXED("upstate_limit_used", NULL, GAUGE, ONE, write_used, "How much of the bound is used."),
	FIXED("upstate_limit_overflows", NULL, COUNTER, ONE, write_overflows, "How often the bound was met."),
	FIXED("upstate_app_status", NULL, GAUGE, APP, write_app_status,
	      "1 at the status that the app has, 0 at the others."),
	FIXED("upstate_app_hold", NULL, GAUGE, APP, write_app_hold,
	      "1 while requests wait by order, of a person or of a change."),
	FIXED("upstate_app_waiting_limit", NULL, GAUGE, APP, write_waiting_limit,
	      "Requests that may be in the waiting room."),
	FIXED("upstate_release", NULL, INFO, APP, write_release,
	      "The release that is in force, and the hash of its content."),
	FIXED("upstate_app_latency_seconds", "seconds", HISTOGRAM, APP, write_latency,
	      "Answered requests, from their first byte to the answer's last, waiting included."),
	FIXED("upstate_target", NULL, INFO, TARGET, write_target_use,
	      "What the router may do with the target, and the release that it runs."),
	FIXED("upstate_target_state", NULL, GAUGE, TARGET, write_target_state,
	      "1 at the state that the router found the target in, 0 at the others."),
	FIXED("upstate_target_latency_seconds", "seconds", HISTOGRAM, TARGET, write_latency,
	      "Requests that it answered, from their first byte to the answer's last, waiting included."),
};

/* --- the list of families --- */

static uint32_t find_family(const char *name, const struct metric_name *m, enum metric_scope scope, bool gauge)
{
	for (uint32_t i = 0; i < family_count; i++)
		if (strcmp(families[i].name, name) == 0) {
			/* Else a new counter has the name of something else: the test of all names tells. */
			ensure(families[i].write == write_rows && (families[i].type == METRIC_GAUGE) == gauge);
			return i;
		}
	ensure(family_count < FAMILIES_MAX);
	families[family_count] = (struct family){.unit = m->unit, .help = m->help, .scope = scope,
						 .type = gauge ? METRIC_GAUGE : METRIC_COUNTER,
						 .write = write_rows};
	util_copy(families[family_count].name, sizeof(families[0].name), name);
	return family_count++;
}

static void add_row(const char *counter, const char *what, size_t offset, enum metric_scope scope, bool gauge)
{
	static const char *const scopes[] = {"router", "app", "target"};
	struct row *r = &rows[row_count];
	char name[METRIC_NAME + 24];
	struct family *f;

	metric_name(counter, what, &r->name);
	if ((scope == METRIC_APP && !r->name.app) || (scope == METRIC_TARGET && !r->name.target))
		return;
	ensure(row_count < ROWS_MAX);
	snprintf(name, sizeof(name), "upstate_%s_%s", scopes[scope], r->name.family);
	r->offset = offset;
	f = &families[find_family(name, &r->name, scope, gauge || r->name.gauge)];
	r->next = 0;
	row_count++;
	if (f->last)
		rows[f->last - 1].next = row_count;
	else
		f->first = row_count;
	f->last = row_count;
}

static void list_families(void)
{
	if (family_count)
		return;
	for (size_t i = 0; i < ARRAY_LEN(fixed); i++)
		families[family_count++] = fixed[i];
#define X(name, what) add_row(#name, what, offsetof(struct shm_thread, name), METRIC_ONE, false);
	THREAD_COUNT_TABLE(X)
#undef X
	for (enum metric_scope scope = METRIC_APP; scope <= METRIC_TARGET; scope++) {
#define X(name, what) add_row(#name, what, offsetof(struct shm_counts, name), scope, false);
		COUNT_TABLE(X)
#undef X
#define X(name, what) add_row(#name, what, offsetof(struct shm_counts, name), scope, true);
		GAUGE_TABLE(X)
#undef X
	}
}

static bool concerns(const struct family *f, const struct scrape_subject *x)
{
	return f->scope == (x->target ? METRIC_TARGET : METRIC_APP);
}

static bool more(struct scrape *s)
{
	for (; s->step < family_count; s->step++, s->at = 0) {
		const struct family *f = &families[s->step];

		if (s->at == 0)
			header(s, f);
		if (f->scope == METRIC_ONE) {
			f->write(s, f, NULL);
			continue;
		}
		while (s->at < s->count) {
			const struct scrape_subject *x = &s->subjects[s->at++];

			if (concerns(f, x) && shm_get(&s->c->t->ship->shm->slot[x->slot].id) == x->id)
				f->write(s, f, x);
			if (scrape_is_piece(s))
				return false;
		}
	}
	if (s->open_metrics)
		buf_adds(&s->out, "# EOF\n");
	return true;
}

void tell_metrics(struct call *c, json_t *body UNUSED)
{
	struct http1_slice accept = server_header(c->r, "accept");
	bool open = metric_wants_open(accept.p, accept.len);
	char app[SHIP_NAME];
	bool one = server_param(c->r, "app", app, sizeof(app));
	struct ship_app *a;
	struct err e;

	if (one && ship_find_or_list(c->t->ship, app, &a, &e) < 0) {
		tell_answer_err(c, &e);
		return;
	}
	list_families();
	scrape_begin(c, open ? "application/openmetrics-text; version=1.0.0; charset=utf-8"
			     : "text/plain; version=0.0.4; charset=utf-8",
		     one ? app : NULL, open, more);
}
