/* SPDX-License-Identifier: Apache-2.0
 *
 * The verbs that need no running Upstate.
 */
#include <errno.h>
#include <fcntl.h>
#include <string.h>

#include "cli/cli.h"
#include "cli/cli_priv.h"
#include "base/clock.h"
#include "conf/pair.h"
#include "conf/problems.h"
#include "files/files.h"

static json_t *problems_json(const struct conf_problems *p)
{
	json_t *list = json_array();

	for (uint32_t i = 0; i < p->len; i++)
		json_array_append_new(list, json_pack("{s:i, s:i, s:b, s:s}", "line", (int)p->items[i].line,
						      "column", (int)p->items[i].column, "warning",
						      p->items[i].warning, "text", p->items[i].text));
	return list;
}

static bool is_installed(const char *program)
{
	const char *dirs = getenv("PATH") ?: "/usr/bin:/bin";
	CLEANUP_FREE char *list = util_strdup(dirs);
	char path[4200], *save;

	for (char *dir = strtok_r(list, ":", &save); dir; dir = strtok_r(NULL, ":", &save)) {
		snprintf(path, sizeof(path), "%.4000s/%s", dir, program);
		if (access(path, X_OK) == 0)
			return true;
	}
	return false;
}

static int look_at_certificates(struct cli *c, struct conf **conf, struct conf_problems *problems,
				struct err *e)
{
	uint32_t count = (*conf)->certificate_count;
	CLEANUP_FREE struct pair *pairs = util_alloc((count + 1) * sizeof(*pairs));

	pair_load_all(*conf, clock_wall_ms(), NULL, NULL, pairs, problems);
	if ((*conf)->auto_count && !is_installed("uacme"))
		problem_warn(problems, 0, 0, "tls: auto: uacme is not installed; it is what asks for certificates");
	problems_sort(problems);
	for (uint32_t i = 0; i < count; i++)
		pair_fini(&pairs[i]);
	if (!problems->errors)
		return 0;
	conf_free(TAKE(*conf));
	return conf_problems_error(problems, c->conf_path, e);
}

/* Reads the configuration and prints all that is wrong with it. */
static int load(struct cli *c, struct conf **ret, struct conf_problems *problems, struct err *e)
{
	int rc = conf_load(c->conf_path, ret, NULL, problems, e);
	CLEANUP_BUF struct buf said = {0};

	if (rc == 0)
		rc = look_at_certificates(c, ret, problems, e);
	if (rc < 0 && !problems->errors && rc == -ERR_SYS && !c->values[OPTION_CONF])
		return err_set(e, ERR_INPUT,
			       "no configuration: neither ./upstate.yaml nor /etc/upstate/upstate.yaml "
			       "can be read; `upstate init` writes a first one, -c FILE names another");
	if (rc < 0 && !problems->errors)
		return rc;
	conf_problems_print(problems, c->conf_path, &said);
	if (!c->values[OPTION_JSON])
		fputs(buf_str(&said), stderr);
	return rc;
}

static void conf_freep(struct conf **c)
{
	conf_free(*c);
}

static void print_right(const char *path, const struct conf *conf)
{
	printf("%s is right: %u app%s", path, conf->app_count, conf->app_count == 1 ? "" : "s");
	if (conf->device_count)
		printf(", %u device%s", conf->device_count, conf->device_count == 1 ? "" : "s");
	printf("\n");
}

int verb_check(struct cli *c, struct err *e)
{
	CLEANUP(conf_problems_free) struct conf_problems problems = {0};
	CLEANUP(conf_freep) struct conf *conf = NULL;
	int rc = load(c, &conf, &problems, e);

	if (rc < 0 && !problems.errors)
		return rc;
	if (c->values[OPTION_JSON])
		cli_print_json(json_pack("{s:s, s:i, s:o}", "file", c->conf_path, "apps",
					 conf ? (int)conf->app_count : 0, "problems",
					 problems_json(&problems)));
	else if (conf)
		print_right(c->conf_path, conf);
	else
		return err_set(e, ERR_INPUT, "%s has %u mistake%s", c->conf_path, problems.errors,
			       problems.errors == 1 ? "" : "s");
	return rc < 0 ? 2 : 0;
}

/* The file is not looked at here: the keeper parses nothing. The controller does, and when it refuses
 * (and no configuration was in force before) everything ends with its words and status. */
int verb_serve(struct cli *c, struct err *e UNUSED)
{
	ensure(cli_serve);
	return cli_serve(c->conf_path, c->state_dir);
}

int verb_init(struct cli *c, struct err *e)
{
	const char *path = c->arg_count ? c->args[0] : "upstate.yaml";
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
	CLEANUP_BUF struct buf text = {0};

	if (fd < 0 && errno == EEXIST)
		return err_set(e, ERR_REFUSED, "%s is there already: it is left as it is", path);
	if (fd < 0)
		return err_sys(e, "cannot write %s", path);
	conf_example(&text);
	if (write(fd, text.data, text.len) != (ssize_t)text.len || fsync(fd) < 0) {
		err_sys(e, "cannot write %s", path);
		unlink(path);
		return -(int)e->code;
	}
	printf("%s is written; next: look into it, then\n"
	       "  upstate check -c %s\n"
	       "  upstate serve -c %s\n"
	       "and in another terminal\n"
	       "  upstate deploy hello DIR --why \"first\"\n",
	       path, path, path);
	return 0;
}

int verb_files(struct cli *c, struct err *e)
{
	const struct files_options o = {.dir = c->args[0], .spa = c->values[OPTION_SPA] != NULL,
					.cache = c->values[OPTION_CACHE]};

	for (const char *p = o.cache; p && *p; p++)
		if (*p < ' ' || *p > '~' || p - o.cache >= 200)
			return err_set(e, ERR_INPUT,
				       "--cache: expected at most 200 characters of a Cache-Control field, found '%.40s'",
				       o.cache);
	return files_serve(&o, e);
}

int verb_completion(struct cli *c, struct err *e)
{
	struct buf out = {0};

	if (strcmp(c->args[0], "bash") != 0)
		return err_set(e, ERR_INPUT, "there is no completion for '%.40s'; there is: bash",
			       c->args[0]);
	help_completion(&out);
	cli_print(&out);
	return 0;
}

int verb_manual(struct cli *c, struct err *e)
{
	const char *page = c->arg_count ? c->args[0] : "upstate.1";
	struct buf out = {0};

	if (strcmp(page, "upstate.1") == 0 || strcmp(page, "upstate") == 0)
		help_manual(&out);
	else if (strcmp(page, "upstate.yaml.5") == 0 || strcmp(page, "upstate.yaml") == 0)
		conf_manual(&out);
	else
		return err_set(e, ERR_INPUT, "there is no page '%.40s'; pages: upstate.1, upstate.yaml.5",
			       page);
	cli_print(&out);
	return 0;
}

int verb_help(struct cli *c, struct err *e)
{
	const struct verbs_row *verb = c->arg_count ? verbs_find(c->args[0]) : NULL;
	struct buf out = {0};

	if (c->arg_count && !verb)
		return verbs_wrong(c->args[0], e);
	if (verb)
		help_verb(verb, &out);
	else
		help_all(&out);
	cli_print(&out);
	return 0;
}

int verb_version(struct cli *c UNUSED, struct err *e UNUSED)
{
	puts("upstate " UPSTATE_VERSION);
	return 0;
}
