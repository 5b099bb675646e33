/* SPDX-License-Identifier: Apache-2.0
 *
 * Orders that concern Upstate itself. The keeper carries them out and says what became of them;
 * history has both who ordered it and how it ended.
 *
 * A program that is to take this one's place first runs its controller to readiness on a copy of
 * the state (control/trial.c), led by a process of ours; only then the keeper is told. By the time it
 * has an outcome, this controller may be the new program's.
 */
#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <linux/close_range.h>
#include <poll.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/log.h"
#include "tell/tell_priv.h"

static const char *text_of(json_t *o, const char *key)
{
	const char *s = json_string_value(json_object_get(o, key));

	return s ? s : "";
}

/* Recorded, or said that it could not be: it has happened all the same. */
static void record(struct state *s, const char *kind, json_t *data)
{
	struct err e;

	if (state_begin(s, &e) < 0)
		goto failed;
	if (state_history_add(s, clock_wall_ms(), kind, "", data, NULL, &e) < 0) {
		state_rollback(s);
		goto failed;
	}
	if (state_commit(s, &e) == 0)
		return;
failed:
	log_warn("history", "kind=%s reason=\"%s\"", kind, e.msg);
}

static void let_go(struct call *c)
{
	c->pending = false;
	if (c->gone)
		tell_free_call(c);
}

void tell_restart(struct call *c, json_t *body)
{
	struct msg_restart m = {PART_ROUTER};
	struct tell *t = c->t;
	struct err e;

	if (strcmp(text_of(body, "part"), part_name(PART_ROUTER)) != 0)
		err_set(&e, ERR_INPUT, "part: '%s' cannot be put in another's place; there is: router",
			text_of(body, "part"));
	else if (t->restart)
		err_set(&e, ERR_REFUSED, "the router is being replaced by an order of %s", t->restart->who);
	else if (!msg_send(t->ship->keeper, MSG_RESTART, &m, NULL, 0, NULL, 0))
		err_set(&e, ERR_GONE, "the keeper cannot be told");
	else {
		util_text(t->restart_why, sizeof(t->restart_why), text_of(body, "why"));
		t->restart = c;
		c->pending = true;
		return;
	}
	tell_answer_err(c, &e);
}

static void restarted(struct tell *t, const struct msg_outcome *m)
{
	struct call *c = TAKE(t->restart);
	CLEANUP(json_decrefp) json_t *data = NULL;
	struct err e;

	if (!c)
		return; /* ordered by a controller before this one */
	data = json_pack("{s:s, s:s, s:s, s:s, s:s}", "who", c->who, "why", t->restart_why, "part",
			 part_name(PART_ROUTER), "outcome", m->error ? "refused" : "done", "reason",
			 m->reason);
	record(t->ship->state, "restart", data);
	if (c->gone) {
		let_go(c);
		return;
	}
	c->pending = false;
	err_set(&e, (enum err_code)m->error, "%s", m->reason);
	if (m->error)
		tell_answer_err(c, &e);
	else
		tell_answer_json(c, 200, json_incref(data));
}

/* --- another program ----------------------------------------------------- */

#define TRIAL_SECONDS 30
#define TRIAL_TEXT 4096

/* What the trial has found out; in the process that runs it. */
static struct {
	int fd;
	char dir[600], hash[STATE_HASH];
	const char *conf;
} try;

static int remove_one(const char *path, const struct stat *st UNUSED, int type UNUSED, struct FTW *f UNUSED)
{
	return remove(path);
}

static void remove_all(const char *path)
{
	nftw(path, remove_one, 32, FTW_DEPTH | FTW_PHYS);
}

static int hash_file(int fd, char ret[STATE_HASH], struct err *e)
{
	struct stat st;
	void *p;

	if (fstat(fd, &st) < 0)
		return err_sys(e, "looking at the program");
	if (!S_ISREG(st.st_mode) || !st.st_size)
		return err_set(e, ERR_INPUT, "that is no program");
	p = mmap(NULL, (size_t)st.st_size, PROT_READ, MAP_PRIVATE, fd, 0);
	if (p == MAP_FAILED)
		return err_sys(e, "reading the program");
	state_sha256(p, (size_t)st.st_size, ret);
	munmap(p, (size_t)st.st_size);
	return 0;
}

__attribute__((noreturn)) static void become_trial(int out)
{
	char *argv[] = {(char *)"upstate", (char *)"_trial", try.dir, (char *)try.conf, NULL};

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	dup2(open("/dev/null", O_RDONLY | O_CLOEXEC), STDIN_FILENO);
	dup2(out, STDOUT_FILENO);
	dup2(out, STDERR_FILENO);
	syscall(SYS_close_range, STDERR_FILENO + 1, ~0u, CLOSE_RANGE_CLOEXEC);
	syscall(SYS_execveat, try.fd, "", argv, environ, AT_EMPTY_PATH);
	dprintf(STDERR_FILENO, "it cannot be run: %s\n", strerror(errno));
	_exit(126);
}

/* Reads what it says until it has ended or its time is over; the end of that. */
static void listen_to(int fd, char text[TRIAL_TEXT])
{
	uint64_t until = clock_ms() + TRIAL_SECONDS * 1000;
	size_t len = 0;

	for (;;) {
		struct pollfd p = {.fd = fd, .events = POLLIN};
		uint64_t now = clock_ms();
		ssize_t n;

		if (now >= until || poll(&p, 1, (int)(until - now)) <= 0)
			break;
		if (len == TRIAL_TEXT - 1) {
			len /= 2;
			memmove(text, text + len + 1, len);
		}
		n = read(fd, text + len, TRIAL_TEXT - 1 - len);
		if (n <= 0)
			break;
		len += (size_t)n;
	}
	text[len] = '\0';
}

/* The last line that says something. */
static const char *last_line(char *text)
{
	char *end = text + strlen(text), *line;

	while (end > text && (end[-1] == '\n' || end[-1] == ' '))
		*--end = '\0';
	line = strrchr(text, '\n');
	line = line ? line + 1 : text;
	return strncmp(line, "upstate: ", 9) == 0 ? line + 9 : line;
}

static int judge(int status, bool timed_out, char *text, json_t **ret, struct err *e)
{
	const char *line = last_line(text);
	json_t *o = WIFEXITED(status) && !WEXITSTATUS(status) ? json_loads(line, 0, NULL) : NULL;
	const char *version = json_string_value(json_object_get(o, "version"));
	int rc = 0;

	if (timed_out)
		rc = err_set(e, ERR_REFUSED, "the new program does not answer");
	else if (!version && WIFSIGNALED(status))
		rc = err_set(e, ERR_REFUSED, "the new program was killed by signal %d", WTERMSIG(status));
	else if (!version)
		rc = err_set(e, ERR_REFUSED, "the new program does not get ready: %.300s",
			     line[0] && !(WIFEXITED(status) && !WEXITSTATUS(status)) ? line
										      : "it says nothing about it");
	else if (json_integer_value(json_object_get(o, "state")) != state_format())
		rc = err_set(e, ERR_REFUSED,
			     "the new program keeps its state in format %d, this one in %d: "
			     "end this one and start that",
			     (int)json_integer_value(json_object_get(o, "state")), state_format());
	else
		*ret = json_pack("{s:s, s:s}", "version", version, "hash", try.hash);
	json_decref(o);
	return rc;
}

/* In a process of its own. */
static int run_trial(struct call *c UNUSED, json_t **ret_body)
{
	char text[TRIAL_TEXT];
	int out[2], status = 0, rc;
	bool timed_out;
	struct err e;
	pid_t pid;

	prctl(PR_SET_PDEATHSIG, 0);
	if (pipe2(out, O_CLOEXEC) < 0 || (pid = fork()) < 0) {
		err_sys(&e, "no process to try the new program");
		remove_all(try.dir);
		return tell_err_json(&e, ret_body);
	}
	if (pid == 0)
		become_trial(out[1]);
	close(out[1]);
	listen_to(out[0], text);
	timed_out = waitpid(pid, &status, WNOHANG) == 0;
	for (int i = 0; timed_out && i < 100; i++) { /* its end may be a moment behind its last word */
		usleep(10000);
		timed_out = waitpid(pid, &status, WNOHANG) == 0;
	}
	if (timed_out) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
	remove_all(try.dir);
	rc = judge(status, timed_out, text, ret_body, &e);
	return rc < 0 ? tell_err_json(&e, ret_body) : 200;
}

/* The program that is run now, or what lies there in its place by now. */
static void own_path(char *ret, size_t size)
{
	static const char gone[] = " (deleted)";
	ssize_t n = readlink("/proc/self/exe", ret, size - 1);

	ret[MAX(n, 0)] = '\0';
	if (n > (ssize_t)strlen(gone) && strcmp(ret + n - strlen(gone), gone) == 0)
		ret[n - (ssize_t)strlen(gone)] = '\0';
}

static json_t *own_program(struct err *e)
{
	CLEANUP_FD int fd = open("/proc/self/exe", O_RDONLY | O_CLOEXEC);
	char hash[STATE_HASH];

	if (fd < 0) {
		err_sys(e, "the program that runs");
		return NULL;
	}
	return hash_file(fd, hash, e) < 0 ? NULL
					  : json_pack("{s:s, s:s}", "version", UPSTATE_VERSION, "hash", hash);
}

static json_t *last_upgrade(struct tell *t)
{
	json_t *o = NULL;

	return state_get(t->ship->state, "upgrade", &o, &(struct err){0}) == 0 ? o : NULL;
}

static bool is_running(json_t *o)
{
	return strcmp(text_of(o, "outcome"), "running") == 0;
}

static int save(struct tell *t, json_t *o, bool ended, struct err *e)
{
	struct state *s = t->ship->state;

	if (state_begin(s, e) < 0)
		return -(int)e->code;
	if (state_put(s, "upgrade", o, e) < 0 ||
	    (ended && state_history_add(s, clock_wall_ms(), "upgrade", "", o, NULL, e) < 0)) {
		state_rollback(s);
		return -(int)e->code;
	}
	return state_commit(s, e);
}

static void end_upgrade(struct tell *t, json_t *o, const char *outcome, const char *reason)
{
	struct err e;

	json_object_set_new(o, "outcome", json_string(outcome));
	json_object_set_new(o, "reason", json_string(reason));
	if (save(t, o, true, &e) < 0)
		log_warn("upgrade", "outcome=%s reason=\"it could not be recorded: %s\"", outcome, e.msg);
}

/* The trial is over: what it said is the answer, or the keeper is told. */
static void tried(struct call *c, int status, const char *text)
{
	struct tell *t = c->t;
	CLEANUP(json_decrefp) json_t *o = json_pack("{s:s, s:s, s:s, s:s, s:s}", "who", c->who, "why",
						    t->upgrade.why, "path", t->upgrade.path, "outcome",
						    "running", "reason", "");
	CLEANUP(json_decrefp) json_t *said = json_loads(text, 0, NULL);
	CLEANUP_FD int fd = TAKE_FD(t->upgrade.fd);
	struct err e;

	t->upgrade.trying = false;
	json_object_set_new(o, "key", json_string(t->upgrade.key));
	json_object_set_new(o, "from", TAKE(t->upgrade.from));
	if (status != 200) {
		json_t *error = json_object_get(said, "error");

		end_upgrade(t, o, "refused", text_of(error, "message"));
		server_answer(c->r, status, "application/json", NULL, text, strlen(text));
		return;
	}
	json_object_set(o, "to", said);
	if (save(t, o, false, &e) < 0) {
		tell_answer_err(c, &e);
		return;
	}
	tell_answer_json(c, 202, json_incref(o));
	if (!msg_send(t->ship->keeper, MSG_UPGRADE, &(struct msg_none){0}, NULL, 0, &fd, 1))
		end_upgrade(t, o, "refused", "the keeper cannot be told");
}

static int open_program(struct call *c, json_t *body, struct err *e)
{
	struct tell *t = c->t;
	const char *path = text_of(body, "path");

	/* Who may name a program runs it as us; other orders only reach what apps may do. */
	if (path[0] && (!c->r->local || (c->r->uid != 0 && c->r->uid != geteuid())))
		return err_set(e, ERR_DENIED, "only the user that runs Upstate, or root, may name a program");
	if (path[0] && (path[0] != '/' || strlen(path) >= sizeof(t->upgrade.path)))
		return err_set(e, ERR_INPUT, "path: '%.100s' is not the whole path of a program", path);
	if (path[0])
		util_copy(t->upgrade.path, sizeof(t->upgrade.path), path);
	else
		own_path(t->upgrade.path, sizeof(t->upgrade.path));
	t->upgrade.fd = open(t->upgrade.path, O_RDONLY | O_CLOEXEC);
	return t->upgrade.fd < 0 ? err_sys(e, "'%s'", t->upgrade.path) : 0;
}

/* A copy of the state, and where everything else of a controller may come to lie. */
static int make_copy(struct tell *t, struct err *e)
{
	snprintf(try.dir, sizeof(try.dir), "%s/trial", t->ship->dir);
	remove_all(try.dir);
	if (mkdir(try.dir, 0700) < 0)
		return err_sys(e, "'%s'", try.dir);
	return state_copy(t->ship->state, try.dir, e);
}

static int begin_upgrade(struct call *c, json_t *body, struct err *e)
{
	struct tell *t = c->t;

	if (open_program(c, body, e) < 0 || hash_file(t->upgrade.fd, try.hash, e) < 0)
		return -(int)e->code;
	t->upgrade.from = own_program(e);
	if (!t->upgrade.from || make_copy(t, e) < 0)
		return -(int)e->code;
	try.fd = t->upgrade.fd;
	try.conf = t->options.conf_path;
	util_text(t->upgrade.why, sizeof(t->upgrade.why), text_of(body, "why"));
	util_text(t->upgrade.key, sizeof(t->upgrade.key), text_of(body, "key"));
	t->upgrade.trying = true;
	c->child_said = tried;
	tell_in_child(c, run_trial);
	return 0;
}

void tell_upgrade(struct call *c, json_t *body)
{
	struct tell *t = c->t;
	CLEANUP(json_decrefp) json_t *last = last_upgrade(t);
	const char *key = text_of(body, "key");
	struct err e;

	if (last && key[0] && strcmp(text_of(last, "key"), key) == 0) {
		tell_answer_json(c, 202, json_incref(last)); /* the answer was lost */
		return;
	}
	if (t->upgrade.trying || (last && is_running(last))) {
		err_set(&e, ERR_REFUSED, "an upgrade is going on");
		tell_answer_err(c, &e);
		return;
	}
	t->upgrade.fd = -1;
	if (begin_upgrade(c, body, &e) == 0)
		return;
	if (t->upgrade.fd >= 0)
		close(TAKE_FD(t->upgrade.fd));
	json_decref(TAKE(t->upgrade.from));
	remove_all(try.dir);
	tell_answer_err(c, &e);
}

void tell_upgrade_left(struct tell *t)
{
	t->upgrade.trying = false;
	close(TAKE_FD(t->upgrade.fd));
	json_decref(TAKE(t->upgrade.from));
}

void tell_upgrade_get(struct call *c, json_t *body UNUSED)
{
	json_t *last = last_upgrade(c->t);

	tell_answer_json(c, 200, last ? last : json_pack("{s:s}", "outcome", "none"));
}

static void upgraded(struct tell *t, const struct msg_outcome *m)
{
	CLEANUP(json_decrefp) json_t *last = last_upgrade(t);

	if (last && is_running(last))
		end_upgrade(t, last, !m->error ? "done" : m->error == ERR_GONE ? "undone" : "refused",
			    m->reason);
}

void tell_synced(struct tell *t)
{
	CLEANUP(json_decrefp) json_t *last = last_upgrade(t);

	if (last && is_running(last) && !t->ship->resumed)
		end_upgrade(t, last, "failed", "Upstate ended while it went on");
}

void tell_outcome(struct tell *t, struct msg_outcome *m)
{
	m->reason[sizeof(m->reason) - 1] = '\0';
	util_utf8(m->reason);
	if (m->error >= ERR_COUNT)
		m->error = ERR_PROTO;
	if (m->order == MSG_RESTART)
		restarted(t, m);
	else if (m->order == MSG_UPGRADE)
		upgraded(t, m);
}
