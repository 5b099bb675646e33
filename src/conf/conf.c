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

static void page_free(struct conf_page *p)
{
	free(p->path);
	free(p->data);
}

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
	page_free(&a->maintenance);
	for (int i = 0; i < CONF_PAGE_COUNT; i++)
		page_free(&a->pages[i]);
	list_free_texts(&a->allow);
	list_free_texts(&a->deny);
	free(a->rate_by);
	list_free_texts(&a->users);
	free(a->realm);
	for (uint32_t i = 0; i < a->redirect_count; i++) {
		free(a->redirects[i].from);
		free(a->redirects[i].to);
	}
	free(a->redirects);
	list_free_texts(&a->request_set);
	list_free_texts(&a->request_remove);
	list_free_texts(&a->answer_set);
	list_free_texts(&a->answer_remove);
	free(a->sticky);
	free(a->balance);
	needs_fini(&a->needs);
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
	for (uint32_t i = 0; i < c->certificate_count; i++) {
		free(c->certificates[i].cert);
		free(c->certificates[i].key);
	}
	free(c->certificates);
	for (uint32_t i = 0; i < c->auto_count; i++)
		list_free_texts(&c->autos[i].names);
	free(c->autos);
	free(c->acme_server);
	free(c->acme_mail);
	map_free(&c->index);
	for (uint32_t i = 0; i < c->device_count; i++)
		device_fini(&c->devices[i]);
	free(c->devices);
	map_free(&c->device_index);
	free(c);
}

static void conf_freep(struct conf **c)
{
	conf_free(*c);
}

int conf_problems_error(const struct conf_problems *p, const char *path, struct err *e)
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
		return conf_problems_error(p, path, e);
	*ret = TAKE(c);
	return 0;
}

/* Reads at most max bytes and one more. */
static int read_file(const char *path, size_t max, struct buf *text, struct err *e)
{
	CLEANUP_FD int fd =
	    open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a FIFO must not block us */
	struct stat st;

	if (fd < 0 || fstat(fd, &st) < 0)
		return err_sys(e, "cannot read %s", path);
	if (!S_ISREG(st.st_mode))
		return err_set(e, ERR_INPUT, "cannot read %s: it is no file", path);
	while (text->len <= max) {
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

static int read_page(const char *dir, size_t dir_len, struct conf_page *p, uint64_t *all, struct err *e)
{
	CLEANUP_BUF struct buf path = {0}, text = {0};
	int r;

	if (p->path[0] != '/')
		buf_add(&path, dir, dir_len);
	buf_adds(&path, p->path);
	r = read_file(buf_str(&path), CONF_PAGE_MAX, &text, e);
	if (r < 0)
		return r;
	if (text.len > CONF_PAGE_MAX)
		return err_set(e, ERR_LIMIT, "%s is larger than %u KiB", buf_str(&path),
			       CONF_PAGE_MAX / 1024);
	if (!text.len)
		return err_set(e, ERR_INPUT, "%s is empty", buf_str(&path));
	*all += text.len;
	if (*all > CONF_PAGES_MAX)
		return err_set(e, ERR_LIMIT, "the pages of all apps are larger than %u MiB",
			       CONF_PAGES_MAX >> 20);
	p->len = (uint32_t)text.len;
	p->data = TAKE(text.data);
	return 0;
}

int conf_read_pages(struct conf *c, struct conf_problems *problems, struct err *e)
{
	const char *slash = strrchr(c->path, '/');
	size_t dir_len = slash ? (size_t)(slash - c->path) + 1 : 0;
	uint64_t all = 0;

	for (uint32_t i = 0; i < c->app_count * (CONF_PAGE_COUNT + 1u); i++) {
		struct conf_app *a = &c->apps[i / (CONF_PAGE_COUNT + 1)];
		uint32_t at = i % (CONF_PAGE_COUNT + 1);
		struct conf_page *p = at == CONF_PAGE_COUNT ? &a->maintenance : &a->pages[at];
		struct err why;

		if (p->path && read_page(c->path, dir_len, p, &all, &why) < 0 && problems)
			problem_error(problems, p->line, p->column, "app '%s': %s", a->name, why.msg);
	}
	if (!problems || !problems->errors)
		return 0;
	problems_sort(problems);
	return conf_problems_error(problems, c->path, e);
}

int conf_load(const char *path, struct conf **ret, struct buf *ret_text,
	      struct conf_problems *problems, struct err *e)
{
	CLEANUP_BUF struct buf text = {0};
	CLEANUP(conf_freep) struct conf *c = NULL;
	CLEANUP(conf_problems_free) struct conf_problems local = {0};
	struct conf_problems *p = problems ? problems : &local;
	int rc = read_file(path, CONF_BYTES_MAX, &text, e);

	if (rc < 0)
		return rc;
	if (ret_text)
		buf_add(ret_text, text.data, text.len);
	rc = conf_parse(path, text.data ? text.data : "", text.len, &c, p, e);
	if (rc == 0)
		rc = conf_read_pages(c, p, e);
	if (rc == 0)
		*ret = TAKE(c);
	return rc;
}

const struct conf_app *conf_app(const struct conf *c, const char *name)
{
	const struct conf_app *app = map_get(&c->index, map_hash(name, strlen(name)));

	return app && strcmp(app->name, name) == 0 ? app : NULL;
}

uint32_t conf_https_port(const struct conf *c)
{
	for (uint32_t i = 0; i < c->listen.len; i++)
		if (c->listen_more[i].tls)
			return (uint32_t)strtoul(strrchr(c->listen.items[i], ':') + 1, NULL, 10);
	return 0;
}
