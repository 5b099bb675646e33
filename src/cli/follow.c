/* SPDX-License-Identifier: Apache-2.0
 *
 * Following a change: a line a step, then the receipt.
 *
 * The controller may be replaced meanwhile; the change goes on without us and we ask again.
 * Steps that were told already are not told twice.
 */
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli_priv.h"

#define ASK_AGAIN_MS 60000 /* so long without an answer, and we give up (the change does not) */
#define LINE_MAX_BYTES (1u << 20)

struct follow {
	struct cli *c;
	uint64_t change;
	uint64_t began_ms;
	struct buf line;
	json_t *steps; /* that were told */
	json_t *end;   /* the whole change, when its last line came */
	struct progress progress;
};

/* As it happens a step comes as {"step", "ms"}, within the whole change as {"name", "at", "ms"}. */
static const char *step_name(const json_t *step)
{
	return *field_text(step, "step") ? field_text(step, "step") : field_text(step, "name");
}

static bool is_known(const struct follow *f, const json_t *step)
{
	for (size_t i = 0; i < json_array_size(f->steps); i++) {
		const json_t *known = json_array_get(f->steps, i);

		if (field_count(known, "ms") == field_count(step, "ms") &&
		    strcmp(step_name(known), step_name(step)) == 0)
			return true;
	}
	return false;
}

static void tell_step(struct follow *f, json_t *step)
{
	struct buf out = {0};

	if (is_known(f, step))
		return;
	json_array_append(f->steps, step);
	if (f->c->values[OPTION_JSON])
		return;
	progress_end(&f->progress);
	show_step(step_name(step), field_real(step, "ms"), &out);
	cli_print(&out);
	fflush(stdout);
}

static void on_line(struct follow *f)
{
	json_t *json = json_loadb(f->line.data ? f->line.data : "", f->line.len, 0, NULL);

	if (json_object_get(json, "outcome")) {
		const json_t *steps = json_object_get(json, "steps");

		for (size_t i = 0; i < json_array_size(steps); i++)
			tell_step(f, json_array_get(steps, i));
		json_decref(f->end);
		f->end = json_incref(json);
	} else if (*step_name(json)) {
		tell_step(f, json);
	}
	json_decref(json);
}

static bool on_data(void *arg, const char *data, size_t len)
{
	struct follow *f = arg;

	while (len) {
		const char *end = memchr(data, '\n', len);
		size_t n = end ? (size_t)(end - data) : len;

		buf_add(&f->line, data, n);
		if (end) {
			on_line(f);
			buf_free(&f->line);
		}
		data += n + (end != NULL);
		len -= n + (end != NULL);
	}
	return !f->line.failed;
}

static void on_wait(void *arg)
{
	struct follow *f = arg;
	char text[100], span[SHOW_TEXT];

	snprintf(text, sizeof(text), "%9s  change %llu goes on (Ctrl-C leaves, and does not stop it)",
		 show_ms((double)(clock_ms() - f->began_ms), span), (unsigned long long)f->change);
	progress_show(&f->progress, text);
}

static bool has_ended(const struct follow *f)
{
	return f->end && strcmp(field_text(f->end, "outcome"), "running") != 0;
}

/* Asks until the end is there; a lost connection is no end. */
static int ask(struct follow *f, struct api *a, struct err *e)
{
	uint64_t silent_since = clock_ms();
	char path[64];

	snprintf(path, sizeof(path), "/v1/changes/%llu?follow=1", (unsigned long long)f->change);
	for (;;) {
		size_t known = json_array_size(f->steps);
		int rc = api_stream(a, path, on_data, f, e);

		if (f->line.len)
			on_line(f); /* the last line may come without its end */
		buf_free(&f->line);
		if (api_interrupted() || has_ended(f))
			return 0;
		if (rc < 0 && !api_lost(a))
			return rc;
		if (rc == 0 || json_array_size(f->steps) > known)
			silent_since = clock_ms();
		if (clock_ms() - silent_since > ASK_AGAIN_MS)
			return rc;
		on_wait(f);
		nanosleep(&(struct timespec){.tv_nsec = 200 * 1000000}, NULL);
	}
}

static int tell_end(struct follow *f, bool undo)
{
	int status = show_exit_status(f->end);
	struct buf out = {0};

	if (undo && status == 4)
		status = 0;
	if (f->c->values[OPTION_JSON]) {
		cli_print_json(json_incref(f->end));
	} else {
		show_receipt(f->end, &out);
		cli_print(&out);
	}
	if (status == 4 && isatty(STDERR_FILENO))
		fprintf(stderr, "what its instances printed: upstate logs %s\n", field_text(f->end, "app"));
	return status;
}

int follow_change(struct cli *c, uint64_t change, bool undo, struct err *e)
{
	struct follow f = {.c = c,
			   .change = change,
			   .began_ms = clock_ms(),
			   .steps = json_array(),
			   .line = {.max = LINE_MAX_BYTES},
			   .progress = {.tty = c->tty && isatty(STDERR_FILENO)}};
	struct api *a;
	int rc = cli_api(c, &a, e);

	if (rc == 0) {
		api_catch_interrupts();
		api_on_wait(a, on_wait, &f);
		rc = ask(&f, a, e);
		api_on_wait(a, NULL, NULL);
		progress_end(&f.progress);
	}
	if (rc == 0 && has_ended(&f)) {
		rc = tell_end(&f, undo);
	} else if (rc == 0) {
		fprintf(stderr, "change %llu goes on; `upstate attach %llu` follows it again\n",
			(unsigned long long)change, (unsigned long long)change);
		rc = CLI_INTERRUPTED;
	}
	json_decref(f.steps);
	json_decref(f.end);
	buf_free(&f.line);
	return rc;
}

int follow_begun(struct cli *c, json_t *answer, bool undo, struct err *e)
{
	uint64_t change = field_count(answer, "change");

	if (c->values[OPTION_DETACH] && c->values[OPTION_JSON])
		return cli_print_json(answer);
	json_decref(answer);
	if (c->values[OPTION_DETACH]) {
		printf("change %llu has begun; `upstate attach %llu` follows it\n",
		       (unsigned long long)change, (unsigned long long)change);
		return 0;
	}
	return follow_change(c, change, undo, e);
}

int verb_attach(struct cli *c, struct err *e)
{
	char *end;
	uint64_t change = strtoull(c->args[0], &end, 10);

	if (c->args[0][0] < '0' || c->args[0][0] > '9' || *end)
		return err_set(e, ERR_INPUT, "'%.40s' is no number of a change", c->args[0]);
	return follow_change(c, change, false, e);
}

int verb_rollback(struct cli *c, struct err *e)
{
	CLEANUP_BUF struct buf path = {0};
	json_t *body, *answer;
	int rc = cli_need_why(c, &body, e);

	if (rc < 0)
		return rc;
	json_object_set_new(body, "release",
			    c->arg_count > 1 ? json_string(c->args[1]) : json_null());
	rc = cli_post_order(c, cli_app_path(&path, c->args[0], "/rollback"), body, &answer, e);
	return rc < 0 ? rc : follow_begun(c, answer, false, e);
}

int verb_abort(struct cli *c, struct err *e)
{
	CLEANUP_BUF struct buf path = {0};
	json_t *answer;
	int rc = cli_post_order(c, cli_app_path(&path, c->args[0], "/abort"), cli_why(c), &answer, e);

	return rc < 0 ? rc : follow_begun(c, answer, true, e);
}
