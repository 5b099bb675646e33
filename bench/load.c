/* SPDX-License-Identifier: Apache-2.0
 *
 * load: an open-loop HTTP/1.1 client that judges every answer.
 *
 *	load [options] ADDRESS		127.0.0.1:8080, [::1]:8080 or unix:/path
 *
 * Requests are due at fixed times, whatever became of those before: a slow server gets
 * no relief, and each time counts from when the request was due, so that no wait is
 * left out. Nothing is ever repeated.
 *
 * A script leads it through standard input, a command a line, and reads a JSON object a
 * line from standard output:
 *
 *	mark NAME			a step begins
 *	fault KIND [PID [SIGNAL]]	note what is in flight now, and send the signal (KILL)
 *	end				the step ends; "step" comes when all its requests ended
 *	stat				how it stands
 *	quit				no more requests; "total" comes, then exit
 *
 * What may fail follows from what it saw at the instant of a fault, and from nothing
 * that the server says: when KIND is router-killed, requests that were sent and
 * unanswered; when instance-killed, those of them that are POSTs; otherwise none. A
 * negative PID is a process group. So that no time passes between looking and killing,
 * it does both itself.
 *
 * With --seconds it needs no script. Exit: 0 when nothing failed that may not, nothing
 * was wrong, and (--verify) each acknowledged POST is in the book once; else 1; 2 usage.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <string.h>
#include <sys/random.h>
#include <sys/timerfd.h>

#include "base/clock.h"
#include "ledger.h"
#include "options.h"
#include "talk.h"

#define VERIFY_TRIES 40
#define VERIFY_EVERY_MS 250
#define LINES_MAX 60 /* of an answer or a text: up to about 1.2 and 2.5 KB */

struct load {
	struct loop loop;
	struct client client;
	struct talk talk;
	struct ledger ledger;
	struct options o;
	struct tally *total, *step;
	struct loop_io clock, input;
	struct loop_timer verify_timer;
	struct loop_timer patience; /* with those that wait for a connection at the end */
	uint64_t begin_us, sent;    /* when the first request was due; how many were */
	uint64_t end_us;	    /* --seconds */
	uint64_t open;		    /* requests that are not settled */
	uint64_t dice;
	bool quitting, verified;
	unsigned verify_tries;
	struct request book;
	struct ledger_result result;
	const char *verify_why;
	char line[512];
	size_t line_len;
};

static void say(const char *event, json_t *j)
{
	json_object_set_new(j, "event", json_string(event));
	json_dumpf(j, stdout, JSON_COMPACT | JSON_REAL_PRECISION(10));
	putchar('\n');
	fflush(stdout);
	json_decref(j);
}

static void say_error(const char *text)
{
	say("error", json_pack("{s:s}", "text", text));
}

/* xorshift64* */
static unsigned roll(struct load *l, unsigned sides)
{
	l->dice ^= l->dice >> 12;
	l->dice ^= l->dice << 25;
	l->dice ^= l->dice >> 27;
	return (unsigned)((l->dice * 0x2545F4914F6CDD1Dull) >> 33) % sides;
}

/* --- requests --- */

static void step_maybe_over(struct tally *t, uint64_t now_us)
{
	if (!t || !t->end_us || t->settled < t->due)
		return;
	say("step", tally_json(t, now_us));
	tally_free(t);
}

static void settle(struct load *l, struct request *r, enum outcome o, const char *detail,
		   uint64_t now_us)
{
	struct tally *both[] = {l->total, r->step};
	char text[200];

	snprintf(text, sizeof(text), "%s %s%" PRIu64 " %s after %.1f ms%s%s%s",
		 request_method(r) == METHOD_POST ? "POST" : "GET", l->talk.run, r->seq,
		 outcome_name(o), (double)(now_us - r->due_us) / 1000.0, detail ? ": " : "",
		 detail ? detail : "", r->permitted ? " (permitted)" : "");
	for (int i = 0; i < 2 && both[i]; i++) {
		tally_settle(both[i], o, request_method(r), now_us - r->due_us, r->permitted);
		if (o != OUTCOME_OK)
			tally_sample(both[i], text);
	}
	step_maybe_over(r->step, now_us);
	l->open--;
	free(r);
}

static void finish(struct load *l);
static void book_came(struct load *l, enum outcome o, const struct answer *a, const char *detail);

static void on_end(struct client *c, struct request *r, enum outcome o, const struct answer *a,
		   const char *detail)
{
	struct load *l = container_of(c, struct load, client);
	const char *version;
	size_t version_len;

	if (r->kind == KIND_BOOK) {
		book_came(l, o, a, detail);
		return;
	}
	if (o == OUTCOME_OK) {
		detail = NULL;
		if (!talk_judge(&l->talk, r, &a->body, &version, &version_len)) {
			o = OUTCOME_WRONG;
		} else {
			tally_version(l->total, version, version_len);
			if (r->step)
				tally_version(r->step, version, version_len);
			if (r->kind == KIND_SIGN)
				ledger_acknowledged(&l->ledger, r->seq);
		}
	}
	settle(l, r, o, detail, clock_us());
	if (l->quitting && !l->open)
		finish(l);
}

static void on_waits(struct client *c, struct request *r)
{
	struct load *l = container_of(c, struct load, client);

	l->total->waited++;
	if (r->step)
		r->step->waited++;
}

static void on_stray(struct client *c)
{
	struct load *l = container_of(c, struct load, client);

	l->total->stray++;
	if (l->step)
		l->step->stray++;
}

static void on_write(struct client *c, const struct request *r, struct buf *out)
{
	talk_write(&container_of(c, struct load, client)->talk, r, out);
}

static void arrive(struct load *l, uint64_t due_us)
{
	struct request *r = util_alloc(sizeof(*r));

	*r = (struct request){.seq = l->sent++, .due_us = due_us, .step = l->step};
	r->fresh = roll(l, 100) < l->o.fresh;
	r->chunked = roll(l, 100) < l->o.chunked;
	r->lines = (uint16_t)roll(l, LINES_MAX);
	r->kind = roll(l, 100) < l->o.post ? KIND_SIGN : KIND_ECHO;
	if (l->o.plain)
		r->kind = KIND_PLAIN;
	if (r->kind == KIND_SIGN)
		ledger_sent(&l->ledger, r->seq);
	l->total->due++;
	if (l->step)
		l->step->due++;
	l->open++;
	client_send(&l->client, r);
}

static void drain(struct load *l);

static void arm(struct load *l, uint64_t at_us)
{
	struct itimerspec t = {
	    .it_value = {(time_t)(at_us / 1000000), (long)(at_us % 1000000) * 1000}};

	ensure(timerfd_settime(l->clock.fd, TFD_TIMER_ABSTIME, &t, NULL) == 0);
}

static uint64_t next_due(const struct load *l)
{
	return l->begin_us + (uint64_t)((double)l->sent * 1e6 / l->o.rate);
}

static void note_late(struct load *l, uint64_t late_us)
{
	l->total->late_us = MAX(l->total->late_us, late_us);
	if (l->step)
		l->step->late_us = MAX(l->step->late_us, late_us);
}

static void on_clock(struct loop_io *io, uint32_t events)
{
	struct load *l = container_of(io, struct load, clock);
	uint64_t times, now = clock_us(), due;

	(void)events;
	if (read(io->fd, &times, sizeof(times)) < 0 || l->quitting)
		return;
	while ((due = next_due(l)) <= now) {
		if ((l->end_us && due >= l->end_us) || l->sent >= LEDGER_MAX) {
			drain(l);
			return;
		}
		note_late(l, now - due);
		arrive(l, due);
	}
	arm(l, due);
}

/* --- the end --- */

static void cmd_end(struct load *l)
{
	struct tally *t = TAKE(l->step);

	if (!t) {
		say_error("end: no step is going on; 'mark NAME' begins one");
		return;
	}
	t->end_us = clock_us();
	step_maybe_over(t, t->end_us);
}

static void drain(struct load *l)
{
	if (l->quitting)
		return;
	l->quitting = true;
	if (l->step)
		cmd_end(l);
	loop_timer_set(&l->loop, &l->patience, clock_ms() + l->o.client.timeout_ms);
	if (!l->open)
		finish(l);
}

static void ask_book(struct loop_timer *timer)
{
	struct load *l = container_of(timer, struct load, verify_timer);

	l->verify_tries++;
	l->book = (struct request){.kind = KIND_BOOK, .fresh = true, .due_us = clock_us()};
	client_send(&l->client, &l->book);
}

static void book_came(struct load *l, enum outcome o, const struct answer *a, const char *detail UNUSED)
{
	l->verify_why = o == OUTCOME_OK ? NULL : outcome_name(o);
	if (o == OUTCOME_OK)
		l->verified = ledger_compare(&l->ledger, l->talk.run, a->body.data, a->body.len,
					     &l->result, &l->verify_why);
	if (l->verified || l->verify_tries >= VERIFY_TRIES)
		loop_stop(&l->loop);
	else
		loop_timer_set(&l->loop, &l->verify_timer, clock_ms() + VERIFY_EVERY_MS);
}

static void give_up(struct loop_timer *timer)
{
	client_drop_waiting(&container_of(timer, struct load, patience)->client);
}

/* All requests are settled. */
static void finish(struct load *l)
{
	if (l->o.verify)
		loop_timer_set(&l->loop, &l->verify_timer, clock_ms());
	else
		loop_stop(&l->loop);
}

static int say_total(struct load *l)
{
	json_t *j = tally_json(l->total, clock_us());
	const struct ledger_result *r = &l->result;
	bool good = tally_failed(l->total) == l->total->permitted && !tally_wrong(l->total) &&
		    (!l->o.verify || (l->verified && !r->missing && !r->doubled && !r->strange));

	json_object_set_new(j, "run", json_string(l->talk.run));
	json_object_set_new(j, "rate", json_real(l->o.rate));
	json_object_set_new(j, "connections_opened", json_integer((json_int_t)l->client.opened));
	json_object_set_new(j, "busy_most", json_integer(l->client.busy_most));
	json_object_set_new(j, "waiting_most", json_integer(l->client.waiting_most));
	json_object_set_new(j, "verified", json_boolean(l->verified));
	if (l->o.verify && !l->verified)
		json_object_set_new(j, "verify_error", json_string(l->verify_why));
	if (l->verified)
		json_object_update_new(
		    j, json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "posts", (json_int_t)r->posts,
				 "acknowledged_posts", (json_int_t)r->acknowledged, "found_posts",
				 (json_int_t)r->found, "missing_posts", (json_int_t)r->missing,
				 "double_posts", (json_int_t)r->doubled, "strange_posts",
				 (json_int_t)r->strange));
	json_object_set_new(j, "good", json_boolean(good));
	say("total", j);
	return good ? 0 : 1;
}

/* --- commands --- */

static void cmd_mark(struct load *l, const char *name)
{
	uint64_t now = clock_us();

	if (l->step) {
		say_error("mark: a step is going on; 'end' comes first");
		return;
	}
	l->step = tally_new(name, now);
	say("mark", json_pack("{s:s}", "name", l->step->name));
}

/* Words of "KIND [PID [SIGNAL]]". */
static void cmd_fault(struct load *l, const char *words)
{
	char kind[64] = "";
	long pid = 0;
	int signo = SIGKILL, error = 0;
	int n = sscanf(words, "%63s %ld %d", kind, &pid, &signo);
	uint64_t now = clock_us();
	struct client_in_flight f;
	json_t *j;

	if (n < 1 || (n >= 2 && (pid == 0 || pid == 1 || pid == -1))) {
		say_error("fault: KIND [PID [SIGNAL]] is wanted");
		return;
	}
	if (strcmp(kind, "router-killed") == 0)
		f = client_router_fault(&l->client, now);
	else if (strcmp(kind, "instance-killed") == 0)
		f = client_instance_fault(&l->client);
	else
		f = client_count_in_flight(&l->client);
	if (n >= 2 && kill((pid_t)pid, signo) < 0)
		error = errno;
	j = json_pack("{s:s, s:f, s:I, s:I}", "kind", kind, "at_ms",
		      (double)(now - l->total->begin_us) / 1000.0, "in_flight", (json_int_t)f.all,
		      "in_flight_posts", (json_int_t)f.posts);
	if (error)
		json_object_set_new(j, "error", json_string(strerror(error)));
	json_array_append(l->total->faults, j);
	if (l->step)
		json_array_append(l->step->faults, j);
	say("fault", json_copy(j));
	json_decref(j);
}

static void cmd_stat(struct load *l)
{
	say("stat",
	    json_pack("{s:I, s:I, s:I, s:I, s:I, s:I}", "requests", (json_int_t)l->total->settled,
		      "failed", (json_int_t)tally_failed(l->total), "permitted",
		      (json_int_t)l->total->permitted, "wrong", (json_int_t)tally_wrong(l->total),
		      "open", (json_int_t)l->open, "waiting", (json_int_t)l->client.waiting_count));
}

static void command(struct load *l, char *line)
{
	char *space = strchr(line, ' ');
	const char *rest = space ? space + 1 : "";

	if (space)
		*space = 0;
	if (strcmp(line, "mark") == 0)
		cmd_mark(l, rest);
	else if (strcmp(line, "fault") == 0)
		cmd_fault(l, rest);
	else if (strcmp(line, "end") == 0)
		cmd_end(l);
	else if (strcmp(line, "stat") == 0)
		cmd_stat(l);
	else if (strcmp(line, "quit") == 0)
		drain(l);
	else if (*line)
		say_error("commands: mark NAME, fault KIND [PID [SIGNAL]], end, stat, quit");
}

static void on_input(struct loop_io *io, uint32_t events)
{
	struct load *l = container_of(io, struct load, input);
	ssize_t n = read(io->fd, l->line + l->line_len, sizeof(l->line) - 1 - l->line_len);
	char *lf;

	(void)events;
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0) {
		loop_io_del(&l->loop, io);
		if (!l->end_us)
			drain(l);
		return;
	}
	l->line_len += (size_t)n;
	while ((lf = memchr(l->line, '\n', l->line_len))) {
		size_t len = (size_t)(lf - l->line) + 1;

		*lf = 0;
		command(l, l->line);
		l->line_len -= len;
		memmove(l->line, lf + 1, l->line_len);
	}
	if (l->line_len == sizeof(l->line) - 1) {
		say_error("a command is too long");
		l->line_len = 0;
	}
}

/* --- start --- */

static void load_init(struct load *l)
{
	uint64_t now;

	ensure(loop_init(&l->loop) == 0);
	client_init(&l->client, &l->loop, &l->o.client);
	l->client.write = on_write;
	l->client.on_end = on_end;
	l->client.on_waits = on_waits;
	l->client.on_stray = on_stray;
	l->talk.host = l->client.o.host;
	l->talk.path = l->o.plain;
	ensure(getrandom(&now, sizeof(now), 0) == sizeof(now));
	snprintf(l->talk.run, sizeof(l->talk.run), "r%08x-", (unsigned)now);
	l->dice = (l->o.seed ? l->o.seed : now) | 1;
	l->clock.on_ready = on_clock;
	l->input.on_ready = on_input;
	l->verify_timer.on_time = ask_book;
	l->patience.on_time = give_up;
	now = clock_us();
	l->begin_us = now;
	l->end_us = l->o.seconds ? now + l->o.seconds * 1000000ull : 0;
	l->total = tally_new("total", now);
	ensure(loop_io_add(&l->loop, &l->clock,
			   timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK),
			   EPOLLIN) == 0);
	arm(l, now);
}

/* A file (as after < /dev/null) cannot be waited for; with --seconds none is needed. */
static bool listen_to_input(struct load *l)
{
	fcntl(0, F_SETFL, fcntl(0, F_GETFL) | O_NONBLOCK);
	return loop_io_add(&l->loop, &l->input, 0, EPOLLIN) == 0 || l->o.seconds;
}

int main(int argc, char **argv)
{
	static struct load l = {.input = {.fd = -1}};
	int status;

	if (!options_parse(argc, argv, &l.o))
		return 2;
	load_init(&l);
	if (!listen_to_input(&l)) {
		fputs("load: standard input is no pipe; --seconds N needs none\n", stderr);
		return 2;
	}
	say("ready", json_pack("{s:s, s:f}", "run", l.talk.run, "rate", l.o.rate));
	loop_run(&l.loop);
	status = say_total(&l);
	client_fini(&l.client);
	loop_timer_fini(&l.loop, &l.verify_timer);
	loop_timer_fini(&l.loop, &l.patience);
	loop_io_del(&l.loop, &l.input);
	close(l.clock.fd);
	loop_fini(&l.loop);
	ledger_free(&l.ledger);
	buf_free(&l.talk.plain);
	tally_free(l.total);
	return status;
}
