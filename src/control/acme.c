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
#define READS_MAX 16   /* of its output in a turn: who prints without end holds nobody up */

/* --- what is due --- */

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
		acme_remember(c, row->automatic, row->automatic->reason);
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
	acme_remember(c, row->automatic, row->automatic->reason);
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
	uint32_t reads = 0;
	ssize_t n;

	do { /* beyond the bound it is read and dropped: it must not wait for us */
		bool full = x->said_len == sizeof(x->said) - 1;

		n = read(io->fd, full ? rest : x->said + x->said_len, full ? sizeof(rest) : sizeof(x->said) - 1 - x->said_len);
		x->said_len += n > 0 && !full ? (uint32_t)n : 0;
	} while ((n > 0 || (n < 0 && errno == EINTR)) && ++reads < READS_MAX);
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
	if (!row) {
		failed(c, NULL, "the configuration has it no more");
	} else if (x->late) {
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
	loop_timer_set(&c->loop, &x->limit, c->loop.now_ms + RENEW_RUN_MS);
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
	a->asked = false;
	acme_remember(c, a, "the last try was interrupted");
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
		uint64_t due = row->automatic ? acme_due(row, now) : UINT64_MAX;

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
