/* SPDX-License-Identifier: Apache-2.0
 *
 * The calls of conf.h: a file goes through tree.c (YAML), read.c (the schema) and
 * check.c (the whole); each appends its problems.
 */
#include "conf/conf.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>

#include "conf/read.h"

static void app_free(struct conf_app *a)
{
	free(a->name);
	free(a->tcp);
	list_free_texts(&a->hosts);
	list_free_texts(&a->paths);
	free(a->run);
	list_free_texts(&a->env);
	free(a->data);
	free(a->stop);
	list_free_texts(&a->targets);
	free(a->health_path);
}

void conf_free(struct conf *c)
{
	if (!c)
		return;
	free(c->path);
	for (uint32_t i = 0; c->listen_more && i < c->listen.len; i++)
		list_free_texts(&c->listen_more[i].proxy_from);
	free(c->listen_more);
	list_free_texts(&c->listen);
	free(c->admin);
	free(c->admin_group);
	list_free_texts(&c->trusted_proxies);
	for (uint32_t i = 0; i < c->app_count; i++)
		app_free(&c->apps[i]);
	free(c->apps);
	map_free(&c->index);
	free(c);
}

static void conf_freep(struct conf **c)
{
	conf_free(*c);
}

static int first_error(const struct conf_problems *p, const char *path, struct err *e)
{
	uint32_t i = 0;

	while (p->items[i].warning) /* there is an error among those kept, or none was dropped */
		if (++i == p->len)
			return err_set(e, ERR_INPUT, "%s: it has mistakes", path);
	if (p->items[i].line)
		err_set(e, ERR_INPUT, "%s:%u:%u: %s", path, p->items[i].line, p->items[i].column,
			p->items[i].text);
	else
		err_set(e, ERR_INPUT, "%s: %s", path, p->items[i].text);
	if (e && p->errors > 1)
		snprintf(e->msg + strlen(e->msg), sizeof(e->msg) - strlen(e->msg), " (and %u more)",
			 p->errors - 1);
	return -ERR_INPUT;
}

static void parse(const char *text, size_t len, struct conf *c, struct conf_problems *problems)
{
	struct tree tree;

	if (len > CONF_BYTES_MAX) {
		problem_error(problems, 0, 0, "the file is bigger than %u MiB",
			      CONF_BYTES_MAX >> 20);
		return;
	}
	if (!tree_parse(text, len, &tree, problems))
		return;
	if (tree_nothing(tree.root)) {
		problem_error(problems, 0, 0,
			      "the file is empty; `upstate init` writes a first configuration");
	} else if (tree.root->kind != TREE_MAP) {
		problem_error(problems, tree.root->line, tree.root->column,
			      "expected keys like 'apps:', found %s", tree_kind_name(tree.root));
	} else {
		read_conf(tree.root, c, problems);
		check_conf(tree.root, c, problems);
	}
	tree_free(&tree);
}

int conf_parse(const char *path, const char *text, size_t len, struct conf **ret,
	       struct conf_problems *problems, struct err *e)
{
	CLEANUP(conf_freep) struct conf *c = util_alloc(sizeof(*c));
	CLEANUP(conf_problems_free) struct conf_problems local = {0};
	struct conf_problems *p = problems ? problems : &local;

	c->path = util_strdup(path);
	parse(text, len, c, p);
	problems_sort(p);
	if (p->errors)
		return first_error(p, path, e);
	*ret = TAKE(c);
	return 0;
}

static int read_file(const char *path, struct buf *text, struct err *e)
{
	CLEANUP_FD int fd =
	    open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block us */
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, "cannot read %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_INPUT, "cannot read %s: it is no file", path);
	while (text->len <= CONF_BYTES_MAX) {
		char *room = buf_room(text, 65536);
		ssize_t n = room ? read(fd, room, 65536) : 0;

		if (n < 0 && errno == EINTR)
			continue;
		if (n < 0)
			return err_sys(e, "cannot read %s", path);
		if (n == 0)
			break;
		text->len += (size_t)n;
	}
	return 0;
}

int conf_load(const char *path, struct conf **ret, struct buf *ret_text,
	      struct conf_problems *problems, struct err *e)
{
	CLEANUP_BUF struct buf text = {0};
	int rc = read_file(path, &text, e);

	if (rc < 0)
		return rc;
	if (ret_text)
		buf_add(ret_text, text.data, text.len);
	return conf_parse(path, text.data ? text.data : "", text.len, ret, problems, e);
}

const struct conf_app *conf_app(const struct conf *c, const char *name)
{
	const struct conf_app *app = map_get(&c->index, map_hash(name, strlen(name)));

	return app && strcmp(app->name, name) == 0 ? app : NULL;
}
