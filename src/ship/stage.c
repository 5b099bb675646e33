/* SPDX-License-Identifier: Apache-2.0
 *
 * Work on files that takes long, in child processes: putting a release in place and verifying it,
 * and removing what no release in use needs. The controller goes on meanwhile.
 */
#include "ship/ship.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"

#define SWEEP_QUIET_MS 120000 /* since somebody was told which files need not be sent */

/* In the child: the result goes to the parent as text; no text means done. */
static void stage_in_child(struct ship_app *a, const struct store_manifest *m, int out)
{
	struct err e = {0};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (store_stage(a->ship->store, m, &e) < 0) {
		ssize_t n = write(out, e.msg, strlen(e.msg));

		_exit(n < 0 ? 2 : 1);
	}
	_exit(0);
}

/* A change that ends before its rollout began. */
void ship_change_fail(struct ship_app *a, const char *outcome, const char *reason)
{
	struct err e;

	ship_change_end(a, a->change, outcome, reason);
	ship_note(a, "change.end", ship_change_json(a, a->change));
	ship_commit(a, true, &e); /* else it is tried again */
	ship_change_tell(a, a->change, true);
	a->settings_due = true;
	ship_app_look(a);
}

static void staged(struct loop_child *child, int status)
{
	struct ship_app *a = container_of(child, struct ship_app, stage_child);
	struct rollout_event ev = {.type = ROLLOUT_DEPLOY};
	char why[200] = "putting its files in place was interrupted";
	ssize_t n = read(a->stage_pipe, why, sizeof(why) - 1);
	struct err e;

	close(a->stage_pipe);
	a->stage_pipe = -1;
	if (n > 0)
		why[n] = '\0';
	if (a->change->number != a->stage_change || a->change->ended_ms)
		return; /* aborted, or superseded */
	a->change->staging = false;
	if (status != 0) {
		ship_change_fail(a, "failed", why);
		return;
	}
	ship_change_step(a, "files are in place and verified");
	ev.version = a->change->to;
	ev.change = a->change->number;
	if (ship_app_step(a, &ev, &e) < 0)
		ship_change_fail(a, "failed", e.msg);
}

int ship_stage_begin(struct ship_app *a, struct err *e)
{
	struct ship_release *release = ship_release(a, a->change->to.release);
	struct store_manifest m;
	CLEANUP_BUF struct buf text = {.max = 256u << 20};
	int fds[2];
	pid_t pid;

	ensure(release && a->stage_pipe < 0);
	ship_prune_stop(a->ship); /* it decided before it knew of this */
	if (state_text_get(a->ship->state, release->id, &text, e) < 0 ||
	    store_manifest_parse(text.data, text.len, &m, e) < 0)
		return err_wrap(e, "reading the manifest of %s@%u", a->name, release->number);
	if (pipe2(fds, O_CLOEXEC) < 0) {
		store_manifest_free(&m);
		return err_sys(e, "making a pipe");
	}
	pid = fork();
	if (pid == 0)
		stage_in_child(a, &m, fds[1]);
	store_manifest_free(&m);
	close(fds[1]);
	if (pid < 0 || loop_child_add(a->ship->loop, &a->stage_child, pid) < 0) {
		err_sys(e, "starting a process to put files in place");
		close(fds[0]);
		a->stage_child.pid = 0;
		if (pid > 0 && kill(pid, SIGKILL) == 0)
			waitpid(pid, NULL, 0);
		return -(int)e->code;
	}
	a->stage_pipe = fds[0];
	a->stage_child.on_exit = staged;
	a->stage_change = a->change->number;
	return 0;
}

void ship_stage_stop(struct ship_app *a)
{
	if (a->stage_child.pid > 0)
		kill(a->stage_child.pid, SIGKILL);
}

static bool needed(struct ship *s, const char *id)
{
	struct ship_app *a;

	LIST_EACH (a, &s->apps, link) {
		const struct ship_release *now = ship_release(a, a->rollout.current.release);
		uint32_t kept = 0;

		if (a->change && !a->change->ended_ms) {
			struct ship_release *to = ship_release(a, a->change->to.release);

			if (to && strcmp(to->id, id) == 0)
				return true;
		}
		for (uint32_t i = 0; i < a->rollout.unit_count; i++) {
			struct ship_release *r = ship_release(a, a->rollout.units[i].version.release);

			if (r && strcmp(r->id, id) == 0)
				return true;
		}
		for (uint32_t i = a->release_count; i-- > 0;) {
			const struct ship_release *r = &a->releases[i];
			bool in_use = r->number == a->rollout.current.release ||
				      (now && r->number == now->before) || /* the way back */
				      r->number == a->rollout.from.release ||
				      r->number == a->rollout.to.release;

			if (!in_use && kept++ >= (a->conf ? a->conf->keep : 5))
				continue;
			if (strcmp(r->id, id) == 0)
				return true;
		}
	}
	return false;
}

static void pruned(struct loop_child *child UNUSED, int status UNUSED)
{
}

void ship_prune_stop(struct ship *s)
{
	if (!s->prune_child.pid)
		return;
	/* What is removed already is no release any more; the next one goes on. */
	kill(s->prune_child.pid, SIGKILL);
	waitpid(s->prune_child.pid, NULL, 0);
	loop_child_del(s->loop, &s->prune_child);
}

static void prune_in_child(struct ship_app *a, bool sweep)
{
	struct store *store = a->ship->store;
	uint64_t freed = 0;
	struct err e;

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	for (uint32_t i = 0; i < a->release_count; i++)
		if (store_has_tree(store, a->releases[i].id) && !needed(a->ship, a->releases[i].id))
			store_drop_tree(store, a->releases[i].id, &e);
	if (sweep)
		store_sweep(store, &freed, &e);
	_exit(0);
}

/* Removing files is nobody's hurry: a child does it, and its failure only costs disk; the next change
 * of the app tries again. */
void ship_prune(struct ship_app *a)
{
	struct ship *s = a->ship;
	bool any = false, sweep = clock_ms() - s->upload_ms > SWEEP_QUIET_MS;
	struct ship_app *o;
	pid_t pid;

	if (s->prune_child.pid)
		return;
	LIST_EACH (o, &s->apps, link)
		sweep &= o->stage_pipe < 0;
	for (uint32_t i = 0; i < a->release_count && !any; i++)
		any = store_has_tree(s->store, a->releases[i].id) && !needed(s, a->releases[i].id);
	if (!any)
		return;
	pid = fork();
	if (pid == 0)
		prune_in_child(a, sweep);
	s->prune_child.on_exit = pruned;
	if (pid < 0 || loop_child_add(s->loop, &s->prune_child, pid) < 0) {
		log_warn("prune", "reason=\"%s\"", strerror(errno));
		s->prune_child.pid = 0; /* by which it is known to run */
		if (pid > 0 && kill(pid, SIGKILL) == 0)
			waitpid(pid, NULL, 0);
		return;
	}
}
