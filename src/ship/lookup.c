/* SPDX-License-Identifier: Apache-2.0
 *
 * The addresses of targets that are configured by name. A name server may take as long as it likes,
 * so a child process asks, once for each configuration, and the controller goes on. What a name meant
 * last is remembered: neither a new controller nor a name server that is down takes a target out of
 * the table.
 */
#include "ship/ship.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <string.h>
#include <sys/wait.h>

#include "base/log.h"

/* In the child: a line "NAME\tADDRESS\tPROBLEM\n", one of the two empty. False: nobody reads. */
static bool look_up(const char *name, int out)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM}, *found = NULL;
	char host[256] = "", ip[INET6_ADDRSTRLEN] = "", line[1024];
	const char *colon = strrchr(name, ':');
	int n, r = EAI_NONAME;

	if (colon && (size_t)(colon - name) < sizeof(host)) {
		memcpy(host, name, (size_t)(colon - name));
		r = getaddrinfo(host, colon + 1, &hints, &found);
	}
	if (r == 0)
		r = getnameinfo(found->ai_addr, found->ai_addrlen, ip, sizeof(ip), NULL, 0, NI_NUMERICHOST);
	if (r == 0)
		n = snprintf(line, sizeof(line), strchr(ip, ':') ? "%s\t[%s]%s\t\n" : "%s\t%s%s\t\n", name, ip,
			     colon);
	else
		n = snprintf(line, sizeof(line), "%s\t\tlooking up '%s': %s\n", name, host, gai_strerror(r));
	if (found)
		freeaddrinfo(found);
	return write(out, line, (size_t)n) == n;
}

static void look_up_all(struct ship *s, int out)
{
	struct ship_app *a;

	LIST_EACH (a, &s->apps, link)
		for (uint32_t i = 0; i < a->target_count; i++)
			if (a->targets[i].by_name && !look_up(a->targets[i].name, out))
				return;
}

void ship_lookup_apply(struct ship *s, struct ship_target *t)
{
	const char *address = json_string_value(json_object_get(s->addresses, t->name));

	t->problem[0] = '\0';
	t->by_name = !table_addr_parse(t->name, &t->kind, t->addr, &t->addr_len);
	if (!t->by_name)
		return;
	t->addr_len = 0;
	if (!address || !table_addr_parse(address, &t->kind, t->addr, &t->addr_len))
		util_copy(t->problem, sizeof(t->problem), "its name is being looked up");
}

/* A line of the child's. */
static void learn(struct ship *s, char *line)
{
	char *address = strchr(line, '\t'), *problem;
	struct ship_app *a;

	if (!address)
		return;
	*address++ = '\0';
	problem = strchr(address, '\t');
	if (!problem)
		return;
	*problem++ = '\0';
	if (problem[0])
		log_warn("target.lookup", "target=%s reason=\"%s\"", line, problem);
	else
		json_object_set_new(s->addresses, line, json_string(address));
	LIST_EACH (a, &s->apps, link) {
		for (uint32_t i = 0; i < a->target_count; i++) {
			struct ship_target *t = &a->targets[i];

			if (!t->by_name || strcmp(t->name, line) != 0)
				continue;
			ship_lookup_apply(s, t);
			if (problem[0])
				util_text(t->problem, sizeof(t->problem), problem);
		}
	}
}

static void stop(struct ship *s)
{
	int fd = s->lookup.fd;

	if (fd < 0)
		return;
	loop_io_del(s->loop, &s->lookup);
	close(fd); /* a child that is at it still ends with its next word */
	buf_free(&s->looked_up);
}

static void said(struct loop_io *io, uint32_t events UNUSED)
{
	struct ship *s = container_of(io, struct ship, lookup);
	char piece[4096], *line, *end;
	ssize_t n = read(io->fd, piece, sizeof(piece));
	struct err e;

	if (n > 0) {
		buf_add(&s->looked_up, piece, (size_t)n);
		return;
	}
	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return;
	for (line = (char *)buf_str(&s->looked_up); (end = strchr(line, '\n')); line = end + 1) {
		*end = '\0';
		learn(s, line);
	}
	stop(s);
	if (state_put(s->state, "addresses", s->addresses, &e) < 0) /* then the next controller asks */
		log_warn("target.lookup", "reason=\"%s\"", e.msg);
	ship_table_dirty(s);
	if (s->ops.on_status)
		s->ops.on_status(s->ops.arg);
}

/* Names that no target has any more are forgotten. */
static bool tidy(struct ship *s)
{
	json_t *kept = json_object(), *address;
	bool any = false;
	struct ship_app *a;

	LIST_EACH (a, &s->apps, link) {
		for (uint32_t i = 0; i < a->target_count; i++) {
			any |= a->targets[i].by_name;
			address = json_object_get(s->addresses, a->targets[i].name);
			if (a->targets[i].by_name && address)
				json_object_set(kept, a->targets[i].name, address);
		}
	}
	json_decref(s->addresses);
	s->addresses = kept;
	return any;
}

void ship_lookup_begin(struct ship *s)
{
	int fds[2];
	pid_t pid;

	stop(s);
	if (!tidy(s))
		return;
	if (pipe2(fds, O_CLOEXEC) < 0 || (s->lookup.on_ready = said,
					  loop_io_add(s->loop, &s->lookup, fds[0], EPOLLIN) < 0)) {
		log_warn("target.lookup", "reason=\"%s\"", strerror(errno));
		return;
	}
	pid = fork();
	if (pid == 0) {
		if (fork() == 0) /* nobody has to wait for the grandchild */
			look_up_all(s, fds[1]);
		_exit(0);
	}
	if (pid > 0)
		waitpid(pid, NULL, 0); /* it ends at once */
	close(fds[1]); /* nobody else may hold it: its end is what is waited for */
}
