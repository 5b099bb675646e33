/* SPDX-License-Identifier: Apache-2.0
 *
 * One call: parse, run the handler of the verb, print the error if there is one.
 */
#include "cli/cli.h"

#include <errno.h>
#include <string.h>
#include <sys/random.h>
#include <sys/ioctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "cli/cli_priv.h"

#define PROGRESS_EVERY_MS 80

int (*cli_serve)(const char *conf_path, const char *state_dir);

/* --- where things are --- */

static int find_state(struct cli *c, struct err *e)
{
	const char *given = c->values[OPTION_STATE], *home = getenv("HOME");
	int n;

	if (!given || !*given)
		given = getenv("UPSTATE_STATE");
	if (given && *given)
		n = snprintf(c->state_dir, sizeof(c->state_dir), "%s", given);
	else if (geteuid() == 0)
		n = snprintf(c->state_dir, sizeof(c->state_dir), "/var/lib/upstate");
	else if (home && *home)
		n = snprintf(c->state_dir, sizeof(c->state_dir), "%s/.local/state/upstate", home);
	else
		return err_set(e, ERR_INPUT, "there is no $HOME: give --state DIR");
	if (n >= (int)sizeof(c->state_dir))
		return err_set(e, ERR_INPUT, "the path of the state directory is too long");
	return 0;
}

static int find_conf(struct cli *c, struct err *e)
{
	const char *given = c->values[OPTION_CONF];

	if (!given)
		given = access("upstate.yaml", F_OK) == 0 ? "upstate.yaml"
							  : "/etc/upstate/upstate.yaml";
	if (!util_copy(c->conf_path, sizeof(c->conf_path), given))
		return err_set(e, ERR_INPUT, "the path of the configuration is too long");
	return 0;
}

/* --- talking to Upstate --- */

int cli_api(struct cli *c, struct api **ret, struct err *e)
{
	int rc = c->api ? 0 : api_open(c->state_dir, &c->api, e);

	if (rc == 0)
		*ret = c->api;
	return rc;
}

int cli_get(struct cli *c, const char *path, json_t **ret, struct err *e)
{
	struct api *a;
	int rc = cli_api(c, &a, e);

	return rc < 0 ? rc : api_json(a, "GET", path, NULL, NULL, ret, e);
}

int cli_post_order(struct cli *c, const char *path, json_t *body, json_t **ret, struct err *e)
{
	uint64_t key[2];
	char text[40];

	ensure(getrandom(key, sizeof(key), 0) == sizeof(key));
	snprintf(text, sizeof(text), "%016llx%016llx", (unsigned long long)key[0],
		 (unsigned long long)key[1]);
	json_object_set_new(body, "key", json_string(text));
	return cli_post(c, path, body, ret, e);
}

int cli_post(struct cli *c, const char *path, json_t *body, json_t **ret, struct err *e)
{
	CLEANUP_FREE char *text = body ? json_dumps(body, JSON_COMPACT) : util_strdup("{}");
	struct buf b = {.data = text, .len = text ? strlen(text) : 0};
	struct api *a;
	int rc = cli_api(c, &a, e);

	json_decref(body);
	return rc < 0 ? rc : api_json(a, "POST", path, "application/json", &b, ret, e);
}

const char *cli_app_path(struct buf *b, const char *app, const char *rest)
{
	buf_free(b);
	buf_adds(b, "/v1/apps/");
	api_escape(b, app);
	buf_adds(b, rest);
	return buf_str(b);
}

/* --- printing --- */

void cli_print(struct buf *b)
{
	if (b->data)
		fwrite(b->data, 1, b->len, stdout);
	buf_free(b);
}

int cli_print_json(json_t *json)
{
	CLEANUP_FREE char *text = json_dumps(json, JSON_INDENT(2));

	json_decref(json);
	puts(text ? text : "null");
	return 0;
}

void progress_show(struct progress *p, const char *text)
{
	uint64_t now = clock_ms();

	if (!p->tty || now - p->shown_ms < PROGRESS_EVERY_MS)
		return;
	p->shown_ms = now;
	fprintf(stderr, "\r\033[K%s", text);
	fflush(stderr);
}

void progress_end(struct progress *p)
{
	if (p->tty && p->shown_ms)
		fputs("\r\033[K", stderr);
	p->shown_ms = 0;
}

/* --- options --- */

json_t *cli_why(const struct cli *c)
{
	return json_pack("{s:s}", "why", c->values[OPTION_WHY] ? c->values[OPTION_WHY] : "");
}

int cli_need_why(const struct cli *c, json_t **ret, struct err *e)
{
	const char *why = c->values[OPTION_WHY];
	char line[1000] = "";

	if (!why && isatty(STDIN_FILENO)) {
		fputs("why? ", stderr);
		if (!fgets(line, sizeof(line), stdin))
			line[0] = '\0';
		line[strcspn(line, "\n")] = '\0';
		why = line;
	}
	if (!why || !why[strspn(why, " \t")])
		return err_set(e, ERR_INPUT,
			       "'%s' needs a reason for the history: --why \"what for\"",
			       c->verb->name);
	*ret = json_pack("{s:s}", "why", why);
	return *ret ? 0 : err_set(e, ERR_INPUT, "--why: the reason is not UTF-8");
}

int cli_number(const struct cli *c, enum verbs_option option, uint64_t max, uint64_t fallback,
	       uint64_t *ret, struct err *e)
{
	const char *text = c->values[option];
	char *end;

	*ret = fallback;
	if (!text)
		return 0;
	errno = 0;
	*ret = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || !*ret || *ret > max)
		return err_set(e, ERR_INPUT, "%s: expected a number from 1 to %llu, found '%.40s'",
			       verbs_options[option].name, (unsigned long long)max, text);
	return 0;
}

/* --- one call --- */

static int run(struct cli *c, int argc, char **argv, struct err *e)
{
	int rc = verbs_parse(argc, argv, c, e);

	if (rc == 0)
		rc = find_state(c, e);
	if (rc == 0)
		rc = find_conf(c, e);
	return rc < 0 ? rc : c->verb->run(c, e);
}

int cli_main(int argc, char **argv)
{
	struct cli c = {.tty = isatty(STDOUT_FILENO)};
	const char *no_color = getenv("NO_COLOR"), *term = getenv("TERM");
	struct err e = {0};
	int rc;

	c.colour = c.tty && !(no_color && *no_color) && !(term && strcmp(term, "dumb") == 0);
	rc = run(&c, argc, argv, &e);
	if (rc < 0) {
		fflush(stdout);
		fprintf(stderr, "upstate: %s\n", e.msg);
		if (c.api)
			c.exit_status = api_exit_status(c.api);
		rc = c.exit_status ? c.exit_status : err_exit_status((enum err_code) - rc);
	}
	api_close(c.api);
	if (fflush(stdout) != 0 || ferror(stdout)) {
		fprintf(stderr, "upstate: cannot write to standard output: %s\n", strerror(errno));
		rc = rc ? rc : 1;
	}
	return rc;
}
