/* SPDX-License-Identifier: Apache-2.0
 *
 * Certificates by themselves: which one is due (core/renew.h), one at a time, by way of uacme, which asks the
 * authority; the authority asks the router, which answers every challenge (route/challenge.c). What comes of it is
 * checked and becomes a file, DIR/acme/APP.pem, that is taken up like any other certificate's (certs.c). So a failure
 * leaves what is in force, and is told by the certificate's status.
 *
 *	due, and the router has the table ──> account made, if it is new ──> issue ──> file ──> taken up, recorded
 *	                                                └── fails, or takes 5 min ──> remembered, a pause
 *
 * A try counts as failed from its beginning until it is known better: who dies in the middle of one, again and again,
 * must not ask more often than the authority allows. uacme dies with this process.
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "control/acme_priv.h"

#define LOOK_MS 60000  /* the calendar may be set */
#define TABLE_MS 200   /* the router does not answer challenges yet */

/* --- what is remembered --- */

static void remember_key(const struct control_auto *a, char ret[SHIP_NAME + 8])
{
	snprintf(ret, SHIP_NAME + 8, "acme/%s", a->app);
}

/* That it cannot be written down stops nothing: it is remembered here as long as this process lives. */
static void remember(struct control *c, const struct control_auto *a)
{
	CLEANUP(json_decrefp) json_t *failed = json_array();
	CLEANUP(json_decrefp) json_t *value = NULL;
	char key[SHIP_NAME + 8];
	bool any = false;
	struct err e;

	for (int i = 0; i < RENEW_FAILURES; i++) {
		any |= a->renew.failed_ms[i] != 0;
		json_array_append_new(failed, json_integer((json_int_t)a->renew.failed_ms[i]));
	}
	value = json_pack("{s:I, s:O, s:s}", "failures", (json_int_t)a->renew.failures, "failed", failed, "reason",
			  a->reason);
	remember_key(a, key);
	if (state_put(c->state, key, any || a->renew.failures ? value : NULL, &e) < 0)
		log_warn("acme", "app=%s reason=\"%s\"", a->app, e.msg);
}

static void recall(struct control *c, struct control_auto *a)
{
	CLEANUP(json_decrefp) json_t *value = NULL;
	const char *reason;
	char key[SHIP_NAME + 8];
	struct err e;

	remember_key(a, key);
	if (state_get(c->state, key, &value, &e) < 0 || !value)
		return;
	a->renew.failures = (uint32_t)json_integer_value(json_object_get(value, "failures"));
	for (size_t i = 0; i < RENEW_FAILURES; i++)
		a->renew.failed_ms[i] =
			(uint64_t)json_integer_value(json_array_get(json_object_get(value, "failed"), i));
	reason = json_string_value(json_object_get(value, "reason"));
	util_text(a->reason, sizeof(a->reason), reason ? reason : "");
}

struct control_auto *control_auto_new(struct control *c, const struct conf_auto *conf)
{
	struct control_auto *a = util_alloc(sizeof(*a));

	util_copy(a->app, sizeof(a->app), conf->app->name);
	a->names = json_array();
	for (uint32_t i = 0; i < conf->names.len; i++)
		json_array_append_new(a->names, json_string(conf->names.items[i]));
	recall(c, a);
	a->asked = c->conf != NULL; /* a person changed something: perhaps what was in the way */
	return a;
}

void control_auto_free(struct control_auto *a)
{
	if (a)
		json_decref(a->names);
	free(a);
}

/* --- what is due --- */

static struct renew_cert cert_of(const struct control_cert *row)
{
	return (struct renew_cert){row->from_ms, row->until_ms, acme_has_names(row->names, row->automatic->names)};
}

/* Any bits, the same for each try: by its names, since many machines may have an app 'web'. */
static uint32_t dice(const struct control_auto *a)
{
	const char *name = json_string_value(json_array_get(a->names, 0));
	uint64_t hash = map_hash(name, strlen(name));

	hash = map_hash_more(hash, &a->renew.failures, sizeof(a->renew.failures));
	return (uint32_t)(hash ^ hash >> 32);
}

static uint64_t due_of(const struct control_cert *row, uint64_t now)
{
	const struct control_auto *a = row->automatic;
	struct renew_cert cert = cert_of(row);

	return renew_due(&a->renew, &cert, a->asked, dice(a), now);
}

static struct control_cert *find_row(struct control *c, const char *app)
{
	for (uint32_t i = 0; i < c->certs.count; i++)
		if (c->certs.rows[i].automatic && strcmp(c->certs.rows[i].automatic->app, app) == 0)
			return &c->certs.rows[i];
	return NULL;
}

static void look_again(struct control *c, uint64_t in_ms)
{
	loop_timer_set(&c->loop, &c->acme.timer, c->loop.now_ms + in_ms);
}

/* --- a try --- */

static void forget_try(struct control_acme *x)
{
	EVP_PKEY_free(x->key);
	x->key = NULL;
	json_decref(x->names);
	x->names = NULL;
	if (x->folder >= 0)
		close(x->folder);
	x->folder = -1;
	x->app[0] = '\0';
}

static void failed(struct control *c, struct control_cert *row, const char *reason)
{
	log_warn("acme.failed", "app=%s reason=\"%s\"", c->acme.app, reason);
	if (row) {
		row->automatic->renew.failed_ms[0] = clock_wall_ms();
		util_text(row->automatic->reason, sizeof(row->automatic->reason), reason);
		remember(c, row->automatic);
	}
	forget_try(&c->acme);
	tell_status_changed(c->tell);
	look_again(c, 0);
}

static void record(struct control *c, const struct control_cert *row)
{
	char until[CLOCK_TEXT];
	CLEANUP(json_decrefp) json_t *data =
		json_pack("{s:O, s:s, s:s}", "names", c->acme.names, "until", clock_text(row->until_ms, until), "who", "upstate");
	struct err e;

	log_info("acme.done", "app=%s names=%zu until=%s", c->acme.app, json_array_size(c->acme.names), until);
	if (state_history_add(c->state, clock_wall_ms(), "certificate", c->acme.app, data, NULL, &e) < 0)
		log_warn("history", "kind=certificate reason=\"%s\"", e.msg);
}

/* There is a chain: the file is written, and taken up. */
static void issued(struct control *c, struct control_cert *row)
{
	CLEANUP_BUF struct buf chain = {.max = 2 * PAIR_BYTES_MAX};
	uint64_t until;
	struct err e;

	if (!row) { /* the configuration has the app no more */
		failed(c, NULL, "nobody wants it any more");
		return;
	}
	if (acme_result(c->acme.folder, &chain, &e) < 0 ||
	    acme_install(row->path[0], c->acme.key, buf_str(&chain), chain.len, c->acme.names, &e) < 0) {
		failed(c, row, e.msg);
		return;
	}
	until = row->until_ms;
	control_certs_look(c);
	if (row->problem[0] || row->until_ms == until) {
		failed(c, row, row->problem[0] ? row->problem : "the new certificate could not be taken up");
		return;
	}
	renew_done(&row->automatic->renew);
	row->automatic->reason[0] = '\0';
	remember(c, row->automatic);
	record(c, row);
	forget_try(&c->acme);
	tell_status_changed(c->tell);
	look_again(c, 0);
}

static bool run(struct control *c, struct err *e);

static void on_output(struct loop_io *io, uint32_t events UNUSED)
{
	struct control_acme *x = container_of(io, struct control_acme, out);
	char rest[1024];
	ssize_t n;

	do { /* beyond the bound it is read and dropped: it must not wait for us */
		bool full = x->said_len == sizeof(x->said) - 1;

		n = read(io->fd, full ? rest : x->said + x->said_len, full ? sizeof(rest) : sizeof(x->said) - 1 - x->said_len);
		x->said_len += n > 0 && !full ? (uint32_t)n : 0;
	} while (n > 0 || (n < 0 && errno == EINTR));
	x->said[x->said_len] = '\0';
	if (n == 0 && io->fd >= 0) { /* closed before it ended: its end comes too */
		int fd = io->fd;

		loop_io_del(&container_of(x, struct control, acme)->loop, io);
		close(fd);
	}
}

static void close_output(struct control *c)
{
	int fd = c->acme.out.fd;

	if (fd >= 0)
		on_output(&c->acme.out, 0);
	fd = c->acme.out.fd;
	if (fd < 0)
		return;
	loop_io_del(&c->loop, &c->acme.out);
	close(fd);
}

static void log_output(const struct control_acme *x)
{
	char copy[sizeof(x->said)], *save;

	memcpy(copy, x->said, sizeof(copy));
	util_utf8(copy);
	for (char *line = strtok_r(copy, "\n", &save); line; line = strtok_r(NULL, "\n", &save)) {
		for (char *p = line; *p; p++)
			*p = *p == '"' ? '\'' : (unsigned char)*p < ' ' ? ' ' : *p;
		log_info("acme.said", "app=%s text=\"%.1000s\"", x->app, line);
	}
}

static void on_exit_of_uacme(struct loop_child *child, int status)
{
	struct control_acme *x = container_of(child, struct control_acme, child);
	struct control *c = container_of(x, struct control, acme);
	struct control_cert *row;
	char reason[300];
	struct err e;

	close_output(c);
	loop_timer_stop(&c->loop, &x->limit);
	log_output(x);
	row = find_row(c, x->app);
	if (row && !json_equal(row->automatic->names, x->names)) /* other hosts meanwhile: the next try is for those */
		row->automatic->asked = true;
	acme_reason(x->said, reason, sizeof(reason));
	if (x->late) {
		failed(c, row, "uacme took longer than 5 min and was ended");
	} else if (!x->issuing) { /* "new" fails too when the account is there: what matters is the next step */
		x->issuing = true;
		util_text(x->first_reason, sizeof(x->first_reason),
			  status && !strstr(x->said, "already exists") ? reason : "");
		if (!run(c, &e))
			failed(c, row, e.msg);
	} else if (status) { /* without an account, why there is none says more */
		failed(c, row, x->first_reason[0] ? x->first_reason : reason);
	} else {
		issued(c, row);
	}
}

static void on_limit(struct loop_timer *timer)
{
	struct control_acme *x = container_of(timer, struct control_acme, limit);

	x->late = true;
	if (x->child.pid > 0)
		kill(-x->child.pid, SIGKILL); /* with its hook */
}

/* Starts uacme: first for the account, then for the certificate. */
static bool run(struct control *c, struct err *e)
{
	struct control_acme *x = &c->acme;
	char *url = (char *)conf_acme_url(c->conf), *mail = c->conf->acme_mail;
	char *account[] = {(char *)"uacme", (char *)"-c", (char *)".", (char *)"-a", url, (char *)"-n", (char *)"-y",
			   (char *)"new", mail, NULL};
	char *issue[] = {(char *)"uacme", (char *)"-c", (char *)".", (char *)"-a", url, (char *)"-n", (char *)"-h",
			 (char *)"./hook", (char *)"issue", (char *)"csr.pem", NULL};
	pid_t pid;
	int out;

	x->said_len = 0;
	x->said[0] = '\0';
	pid = acme_start(x->folder, x->issuing ? issue : account, &out, e);
	if (pid < 0)
		return false;
	if (loop_child_add(&c->loop, &x->child, pid) < 0 || loop_io_add(&c->loop, &x->out, out, EPOLLIN) < 0) {
		err_sys(e, "watching uacme");
		loop_child_del(&c->loop, &x->child);
		x->out.fd = -1;
		close(out);
		if (kill(pid, SIGKILL) == 0)
			waitpid(pid, NULL, 0);
		return false;
	}
	loop_timer_set(&c->loop, &x->limit, c->loop.now_ms + ACME_RUN_MS);
	return true;
}

static bool prepare(struct control *c, struct err *e)
{
	CLEANUP(acme_wipe) struct buf account = {0};
	CLEANUP_BUF struct buf request = {0};
	struct control_acme *x = &c->acme;
	char thumbprint[ACME_THUMBPRINT];

	if (acme_account(c->dir, &account, thumbprint, e) < 0)
		return false;
	if (strcmp(thumbprint, c->ship.acme) != 0) {
		control_acme_account(c);
		err_set(e, ERR_GONE, "the key of the account became another one just now");
		return false;
	}
	x->key = acme_key_new();
	return acme_request(x->key, x->names, &request, e) == 0 &&
	       (x->folder = acme_folder(c->dir, &account, &request, e)) >= 0;
}

static void begin(struct control *c, struct control_cert *row)
{
	struct control_acme *x = &c->acme;
	struct control_auto *a = row->automatic;
	struct err e;

	util_copy(x->app, sizeof(x->app), a->app);
	x->names = json_incref(a->names);
	x->issuing = x->late = false;
	renew_failed(&a->renew, clock_wall_ms());
	util_text(a->reason, sizeof(a->reason), "the last try was interrupted");
	a->asked = false;
	remember(c, a);
	log_info("acme.begin", "app=%s names=%zu server=%s", a->app, json_array_size(a->names), conf_acme_url(c->conf));
	if (!prepare(c, &e) || !run(c, &e))
		failed(c, row, e.msg);
	tell_status_changed(c->tell);
}

static bool router_answers(const struct control *c)
{
	return c->started && !c->ship.table_dirty && ship_applied(&c->ship) >= c->ship.generation;
}

static void look(struct loop_timer *timer)
{
	struct control *c = container_of(timer, struct control, acme.timer);
	uint64_t now = clock_wall_ms(), first = UINT64_MAX;
	struct control_cert *next = NULL;

	if (c->acme.app[0])
		return;
	for (uint32_t i = 0; i < c->certs.count; i++) {
		struct control_cert *row = &c->certs.rows[i];
		uint64_t due = row->automatic ? due_of(row, now) : UINT64_MAX;

		if (due < first) {
			first = due;
			next = row;
		}
	}
	if (!next)
		return;
	if (first > now)
		look_again(c, MIN(first - now, LOOK_MS));
	else if (!router_answers(c))
		look_again(c, TABLE_MS);
	else
		begin(c, next);
}

/* --- the rest of the controller --- */

void control_acme_init(struct control *c)
{
	c->acme.timer.on_time = look;
	c->acme.limit.on_time = on_limit;
	c->acme.child.on_exit = on_exit_of_uacme;
	c->acme.out.on_ready = on_output;
	c->acme.out.fd = c->acme.folder = -1;
}

void control_acme_account(struct control *c)
{
	CLEANUP(acme_wipe) struct buf account = {0};
	char thumbprint[ACME_THUMBPRINT];
	struct err e;

	if (acme_account(c->dir, &account, thumbprint, &e) < 0) {
		log_error("acme", "reason=\"%s\"", e.msg);
		return;
	}
	if (c->conf && strcmp(c->ship.acme, thumbprint) != 0)
		ship_table_dirty(&c->ship);
	util_copy(c->ship.acme, sizeof(c->ship.acme), thumbprint);
}

void control_acme_look(struct control *c)
{
	look_again(c, 0);
}

const char *control_acme_status(struct control *c, const struct control_cert *row, char reason[500])
{
	static const char *const words[] = {
#define X(name, text) text,
		RENEW_STATUS_TABLE(X)
#undef X
	};
	const struct control_auto *a = row->automatic;
	struct renew_cert cert = cert_of(row);
	struct renew renew = a->renew;
	uint64_t now = clock_wall_ms();
	bool runs = strcmp(c->acme.app, a->app) == 0;
	char when[CLOCK_TEXT];
	int n;

	clock_text(row->until_ms, when);
	if (runs) /* it counts as failed already */
		renew.failures--;
	renew.failures += row->problem[0] != '\0';
	if (!cert.until_ms)
		n = snprintf(reason, 500, "there is no certificate yet");
	else if (cert.until_ms <= now)
		n = snprintf(reason, 500, "it expired %s", when);
	else
		n = snprintf(reason, 500, "valid until %s%s", when, cert.fits ? "" : ", but not for all hosts");
	if (row->problem[0])
		snprintf(reason + n, 500 - (size_t)n, "; its file cannot be used: %s", row->problem);
	else if (renew.failures && !runs)
		snprintf(reason + n, 500 - (size_t)n, "; getting a new one failed: %s", a->reason);
	else if (!cert.until_ms)
		snprintf(reason + n, 500 - (size_t)n, "; it is being asked for");
	return words[renew_status(&renew, &cert, now)];
}

json_t *control_acme_json(const struct control_cert *row)
{
	uint64_t due = due_of(row, clock_wall_ms());
	char next[CLOCK_TEXT];

	return json_pack("{s:s, s:i, s:s}", "app", row->automatic->app, "failures", (int)row->automatic->renew.failures,
			 "next", clock_text(MAX(due, clock_wall_ms()), next));
}
