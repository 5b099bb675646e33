/* SPDX-License-Identifier: Apache-2.0
 *
 * The verbs that command something and are done: hold, resume, maintenance, drain, fence, unfence, reload,
 * restart, upgrade.
 */
#include <string.h>

#include "base/clock.h"
#include "cli/cli_priv.h"

#define UPGRADE_FOLLOW_MS 180000
#define UPGRADE_ASK_MS 100

/* The order stands, but its effect is not certain yet. */
static void warn_not_applied(const json_t *answer)
{
	if (json_is_false(json_object_get(answer, "applied")))
		fputs("the router has not taken it up yet; `upstate status` tells whether it runs\n", stderr);
}

static int hold(struct cli *c, const char *rest, struct err *e)
{
	CLEANUP_BUF struct buf path = {0};
	json_t *answer;
	int rc = cli_post(c, cli_app_path(&path, c->args[0], rest), cli_why(c), &answer, e);

	if (rc < 0)
		return rc;
	if (c->values[OPTION_JSON])
		return cli_print_json(answer);
	if (json_is_true(json_object_get(answer, "held")))
		printf("requests of %s wait; `upstate resume %s` lets them go on\n", c->args[0],
		       c->args[0]);
	else
		printf("requests of %s go on\n", c->args[0]);
	warn_not_applied(answer);
	json_decref(answer);
	return 0;
}

int verb_hold(struct cli *c, struct err *e)
{
	return hold(c, "/hold", e);
}

int verb_resume(struct cli *c, struct err *e)
{
	return hold(c, "/resume", e);
}

int verb_maintenance(struct cli *c, struct err *e)
{
	bool on = strcmp(c->args[1], "on") == 0;
	CLEANUP_BUF struct buf path = {0};
	json_t *body, *answer;
	int rc;

	if (!on && strcmp(c->args[1], "off") != 0)
		return err_set(e, ERR_INPUT, "expected 'on' or 'off', found '%.40s'; usage: upstate maintenance APP "
					     "on|off", c->args[1]);
	body = cli_why(c);
	json_object_set_new(body, "on", json_boolean(on));
	rc = cli_post(c, cli_app_path(&path, c->args[0], "/maintenance"), body, &answer, e);
	if (rc < 0)
		return rc;
	if (c->values[OPTION_JSON])
		return cli_print_json(answer);
	if (on)
		printf("%s is in maintenance; `upstate maintenance %s off` ends it\n", c->args[0], c->args[0]);
	else
		printf("%s takes requests again\n", c->args[0]);
	warn_not_applied(answer);
	json_decref(answer);
	return 0;
}

static int use_target(struct cli *c, const char *rest, struct err *e)
{
	CLEANUP_BUF struct buf path = {0};
	json_t *body = cli_why(c), *answer;
	int rc;

	json_object_set_new(body, "target", json_string(c->args[1]));
	rc = cli_post(c, cli_app_path(&path, c->args[0], rest), body, &answer, e);
	if (rc < 0)
		return rc;
	if (c->values[OPTION_JSON])
		return cli_print_json(answer);
	printf("%s: %s\n", field_text(answer, "target"), field_text(answer, "use"));
	warn_not_applied(answer);
	json_decref(answer);
	return 0;
}

static int number_of(const struct cli *c, enum verbs_option option, const char *key, json_t *body, struct err *e)
{
	const char *text = c->values[option];
	char *end;
	double v;

	if (!text)
		return 0;
	v = strtod(text, &end);
	if (*end || end == text || !(v > -1e300 && v < 1e300))
		return err_set(e, ERR_INPUT, "%s: '%.40s' is no number", verbs_options[option].name, text);
	json_object_set_new(body, key, json_real(v));
	return 0;
}

int verb_beat(struct cli *c, struct err *e)
{
	CLEANUP_BUF struct buf path = {0};
	json_t *body = json_object(), *answer;
	int rc;

	if ((rc = number_of(c, OPTION_VALUE, "value", body, e)) < 0 ||
	    (rc = number_of(c, OPTION_TOOK, "took_ms", body, e)) < 0) {
		json_decref(body);
		return rc;
	}
	buf_adds(&path, "/v1/beat/");
	api_escape(&path, c->args[0]);
	if (c->arg_count > 1) {
		buf_addc(&path, '/');
		api_escape(&path, c->args[1]);
	}
	rc = cli_post(c, buf_str(&path), body, &answer, e);
	if (rc < 0)
		return rc;
	if (c->values[OPTION_JSON])
		return cli_print_json(answer);
	printf("%s is %s; the next beat is due until %s\n", field_text(answer, "device"), field_text(answer, "status"),
	       field_text(answer, "next"));
	json_decref(answer);
	return 0;
}

int verb_drain(struct cli *c, struct err *e)
{
	return use_target(c, "/drain", e);
}

int verb_fence(struct cli *c, struct err *e)
{
	return use_target(c, "/fence", e);
}

int verb_unfence(struct cli *c, struct err *e)
{
	return use_target(c, "/serve", e);
}

int verb_restart(struct cli *c, struct err *e)
{
	json_t *body = cli_why(c), *answer;
	int rc;

	json_object_set_new(body, "part", json_string(c->args[0]));
	rc = cli_post(c, "/v1/restart", body, &answer, e);
	if (rc < 0)
		return rc;
	if (c->values[OPTION_JSON])
		return cli_print_json(answer);
	puts("another router serves; the one before hands over, and ends when it is empty");
	json_decref(answer);
	return 0;
}

static void say_program(const char *word, const json_t *p)
{
	printf("%s%s (%.12s)", word, field_text(p, "version"), field_text(p, "hash"));
}

/* Asks until it has an outcome. Meanwhile the controller that answers is replaced. */
static int follow_upgrade(struct cli *c, json_t **ret, struct err *e)
{
	uint64_t until = clock_ms() + UPGRADE_FOLLOW_MS;
	int rc;

	for (;;) {
		rc = cli_get(c, "/v1/upgrade", ret, e);
		if (rc == 0 && strcmp(field_text(*ret, "outcome"), "running") != 0)
			return 0;
		if (rc < 0 && !api_lost(c->api) && !api_broken(c->api))
			return rc;
		if (rc == 0)
			json_decref(*ret);
		if (clock_ms() >= until)
			return err_set(e, ERR_GONE, "it has no outcome yet; `upstate history` will tell");
		usleep(UPGRADE_ASK_MS * 1000);
	}
}

int verb_upgrade(struct cli *c, struct err *e)
{
	CLEANUP_FREE char *path = c->arg_count ? realpath(c->args[0], NULL) : NULL;
	json_t *body = cli_why(c), *answer;
	const char *outcome;
	int rc;

	if (c->arg_count && !path) {
		json_decref(body);
		return err_sys(e, "'%s'", c->args[0]);
	}
	if (path)
		json_object_set_new(body, "path", json_string(path));
	rc = cli_post_order(c, "/v1/upgrade", body, &answer, e);
	if (rc < 0)
		return rc;
	if (!c->values[OPTION_JSON]) {
		say_program("tried: ", json_object_get(answer, "to"));
		puts(" gets ready on a copy of the state; the keeper becomes that program");
		fflush(stdout);
	}
	json_decref(answer);
	rc = follow_upgrade(c, &answer, e);
	if (rc < 0)
		return rc;
	outcome = field_text(answer, "outcome");
	rc = strcmp(outcome, "done") == 0     ? 0
	     : strcmp(outcome, "refused") == 0 ? 3
	     : strcmp(outcome, "undone") == 0  ? 4
					       : 1;
	if (c->values[OPTION_JSON]) {
		cli_print_json(answer);
		return rc;
	}
	if (rc == 0)
		say_program("done: ", json_object_get(answer, "to"));
	else
		printf("%s: %s", outcome, field_text(answer, "reason"));
	putchar('\n');
	json_decref(answer);
	return rc;
}

/* The mistakes of a file that was refused, a line each. */
static void print_problems(const json_t *refusal)
{
	const json_t *list = json_object_get(refusal, "problems");

	if (!list)
		list = json_object_get(json_object_get(refusal, "error"), "problems");
	for (size_t i = 0; i < json_array_size(list); i++) {
		const json_t *p = json_array_get(list, i);
		CLEANUP_BUF struct buf text = {0};

		show_clean(&text, field_text(p, "text"));
		fprintf(stderr, "%llu:%llu: %s\n", (unsigned long long)field_count(p, "line"),
			(unsigned long long)field_count(p, "column"), buf_str(&text));
	}
}

int verb_reload(struct cli *c, struct err *e)
{
	json_t *answer, *changed, *warnings;
	struct buf out = {0};
	int rc = cli_post(c, "/v1/reload", NULL, &answer, e);

	if (rc < 0) {
		if (c->api)
			print_problems(api_refusal(c->api));
		return rc;
	}
	if (c->values[OPTION_JSON])
		return cli_print_json(answer);
	changed = json_object_get(answer, "changed");
	warnings = json_object_get(answer, "warnings");
	for (size_t i = 0; i < json_array_size(warnings); i++) {
		const char *text = json_string_value(json_array_get(warnings, i));

		buf_adds(&out, "warning: ");
		show_clean(&out, text ? text : "");
		buf_addc(&out, '\n');
	}
	buf_adds(&out, json_array_size(changed) ? "the configuration is taken; changed:"
						: "nothing has changed");
	for (size_t i = 0; i < json_array_size(changed); i++) {
		const char *name = json_string_value(json_array_get(changed, i));

		buf_adds(&out, i ? ", " : " ");
		show_clean(&out, name ? name : "?");
	}
	buf_addc(&out, '\n');
	cli_print(&out);
	json_decref(answer);
	return 0;
}
