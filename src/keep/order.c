/* SPDX-License-Identifier: Apache-2.0
 *
 * The start order of an instance: the keeper keeps its own copy, so that it can
 * start the instance again when the controller is not there.
 */
#include <string.h>

#include "keep/keep_priv.h"

static bool has(char *const *envp, const char *name)
{
	size_t len = strlen(name);

	for (; *envp; envp++)
		if (!strncmp(*envp, name, len) && (*envp)[len] == '=')
			return true;
	return false;
}

/* Adds NAME=value (with `below` behind it), if the order does not have NAME. */
static void add(struct order *o, const char *name, const char *value, const char *below)
{
	size_t n = 0, len = strlen(name) + strlen(value) + strlen(below) + 2;
	int extra = 0;

	if (has(o->envp, name))
		return;
	while (o->envp[n])
		n++;
	while (o->extra[extra])
		extra++;
	o->extra[extra] = util_alloc(len);
	snprintf(o->extra[extra], len, "%s=%s%s", name, value, below);
	o->envp[n] = o->extra[extra];
}

/* The fields are arrays of another process: they end within themselves, or we end them. */
static void end_strings(struct msg_start *s)
{
	s->app[sizeof(s->app) - 1] = '\0';
	s->name[sizeof(s->name) - 1] = '\0';
	s->dir[sizeof(s->dir) - 1] = '\0';
	s->run_dir[sizeof(s->run_dir) - 1] = '\0';
	s->data_dir[sizeof(s->data_dir) - 1] = '\0';
}

/* The notify socket is the keeper's to name. */
static void drop_notify(char **envp)
{
	char **to = envp;

	for (; *envp; envp++)
		if (strncmp(*envp, "NOTIFY_SOCKET=", strlen("NOTIFY_SOCKET=")))
			*to++ = *envp;
	*to = NULL;
}

static int split_tail(struct order *o, size_t tail_len, struct err *e)
{
	const struct msg own = {.tail = o->tail, .tail_len = tail_len};
	const struct msg_start *s = &o->start;
	size_t at = 0;

	o->argv = util_alloc((s->argc + 1) * sizeof(char *));
	o->envp = util_alloc((s->envc + 1 + ARRAY_LEN(o->extra)) * sizeof(char *));
	o->writes = util_alloc((s->writec + 1) * sizeof(char *));
	if (!msg_strings(&own, &at, s->argc, (const char **)o->argv) ||
	    !msg_strings(&own, &at, s->envc, (const char **)o->envp) ||
	    !msg_strings(&own, &at, s->writec, (const char **)o->writes) || at != tail_len)
		return err_set(e, ERR_PROTO, "the strings of the start order do not add up");
	return 0;
}

int order_take(struct order *o, const struct msg *m, struct err *e)
{
	struct msg_start *s = &o->start;

	*o = (struct order){.start = *(const struct msg_start *)m->body};
	end_strings(s);
	if (!s->argc || s->argc > KEEP_ARGS_MAX || s->envc > KEEP_ARGS_MAX ||
	    s->writec > KEEP_ARGS_MAX)
		return err_set(e, ERR_LIMIT,
			       "between 1 and %d arguments, at most %d variables and "
			       "paths",
			       KEEP_ARGS_MAX, KEEP_ARGS_MAX);
	if (s->run_dir[0] != '/' || s->dir[0] != '/' || (s->data_dir[0] && s->data_dir[0] != '/'))
		return err_set(e, ERR_INPUT, "the folders of an instance begin with '/'");
	o->tail = util_alloc(m->tail_len);
	memcpy(o->tail, m->tail, m->tail_len);
	o->tail_len = m->tail_len;
	if (split_tail(o, m->tail_len, e) < 0)
		return -(int)e->code;
	drop_notify(o->envp);
	add(o, "NOTIFY_SOCKET", s->run_dir, "/notify");
	add(o, "TMPDIR", s->run_dir, "/tmp");
	add(o, "HOME", s->data_dir[0] ? s->data_dir : s->run_dir, "");
	add(o, "PATH", "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "");
	return 0;
}

void order_fini(struct order *o)
{
	for (size_t i = 0; i < ARRAY_LEN(o->extra); i++)
		free(o->extra[i]);
	free(o->argv);
	free(o->envp);
	free(o->writes);
	free(o->tail);
	*o = (struct order){0};
}
