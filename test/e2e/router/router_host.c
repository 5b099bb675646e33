/* SPDX-License-Identifier: Apache-2.0
 *
 * A keeper and a controller in the small, for tests of the router alone:
 *
 *	router_host TABLE.txt		prints "port N pid P tls N"
 *
 * Orders come in on stdin, one a line, each answered by one line:
 *
 *	table		reads TABLE.txt again; answered when every thread has taken it up
 *	rotate		as table, and with a new key of session tickets
 *	numbers		the counters as JSON
 *	log		the access log since the last time, as JSON
 *	kill		SIGKILL for the router, and a new one; answered when it is ready
 *	beats		how many BEATs came so far
 *	replace		a second router takes the place of the first; its pid, when it has been told to
 *	replace alone	the same, but the first is told of no heir: it drains
 *	replace stopped	the same, but the second is stopped (SIGSTOP) before
 *	left		how many routers there are beside the one that serves
 *
 * TABLE.txt, words separated by spaces:
 *
 *	threads 2
 *	user 65534			(whom the router becomes)
 *	limit idle_ms=60000 clients=100
 *	trust 127.0.0.0/8
 *	proxied 127.0.0.0/8		(connections from there begin with a PROXY header)
 *	tcp				(the connections are those of the last app, whatever they speak)
 *	cert CERT.pem KEY.pem		(for the port that speaks TLS)
 *	app NAME hosts=a,b paths=/ health=/up hold=1 hold_wait_ms=1000 ...
 *	target NAME ADDRESS use=drain drain_ms=500		(of the last app)
 *	policy maintenance=1 rate_requests=10 realm=x ...	(of the last app; the same for what follows)
 *	rule KIND KEY VALUE NUMBER				(in VALUE, ~ is a space)
 *	allow NETWORK, deny NETWORK
 */
#include <arpa/inet.h>
#include <fcntl.h>
#include <signal.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/map.h"
#include "conf/pair.h"
#include "core/certs.h"
#include "core/table.h"
#include "route/router.h"
#include "wire/access.h"
#include "wire/msg.h"
#include "wire/ring.h"
#include "wire/shm.h"

#define APPS 64
#define TARGETS 64
#define WORDS 40

static struct {
	struct loop loop;
	struct loop_io input;
	struct router_proc {
		struct msg_channel ch;
		struct loop_child child;
		bool ready;
		uint32_t bank;
	} routers[2], *now, *other; /* the one that serves, and the one beside it */
	const char *path;
	uint32_t threads, user; /* 0: do not change it */
	uint64_t generation;
	int shm_fd, ring_fd, bell, log_bell, listener, tls_listener, table_fd, certs_fd;
	struct shm *shm;
	struct ring *rings;
	uint32_t beats;
} host;

/* --- the table --- */

static struct table_in_app apps[APPS];
static struct table_in_target targets[APPS][TARGETS];
static const char *hosts[APPS][16], *paths[APPS][16];
static struct table_net trusted[8], proxied[8];
static struct table_in_policy policies[APPS];
static struct table_in_rule rules[APPS][16];
static struct table_net nets[APPS][2][8]; /* allow, deny */
static struct table_in_listener listeners[] = {{.id = 1, .app = UINT32_MAX, .nets = proxied},
						{.id = 2, .app = UINT32_MAX, .nets = proxied, .tls = true}};
static struct table_in in;
static struct pair pairs[8];
static uint32_t pair_count;
static struct certs_ticket tickets[CERTS_TICKETS];

/* Strings of tables stay for ever: a test swaps a few. */
static char *keep(const char *s)
{
	static char pool[1 << 20];
	static size_t used;
	size_t n = strlen(s) + 1;

	ensure(n <= sizeof(pool) - used);
	used += n;
	return memcpy(pool + used - n, s, n);
}

static uint32_t split(char *list, const char **ret, char *by)
{
	uint32_t n = 0;
	char *save;

	for (char *w = strtok_r(list, by, &save); w && n < WORDS; w = strtok_r(NULL, by, &save))
		ret[n++] = w;
	return n;
}

/* "key=value" sets the field of that name. */
#define FIELD(of, name)                                                                            \
	if (!strcmp(word, #name)) {                                                                \
		(of).name = (__typeof__((of).name))strtoull(value, NULL, 10);                      \
		return;                                                                            \
	}

static void set_limit(char *word, char *value)
{
	FIELD(in.limits, clients)
	FIELD(in.limits, header_bytes)
	FIELD(in.limits, header_count)
	FIELD(in.limits, header_ms)
	FIELD(in.limits, idle_ms)
	FIELD(in.limits, access_log)
	FIELD(in.limits, trace)
	FIELD(in.limits, log_sample)
	FIELD(in.limits, log_slow_ms)
	FIELD(in.limits, connections)
	FIELD(in.limits, https_port)
	FIELD(in.limits, streams)
	fprintf(stderr, "no limit is called %s\n", word);
	exit(2);
}

static void set_app(struct table_in_app *a, uint32_t i, char *word, char *value)
{
	if (!strcmp(word, "hosts")) {
		a->host_count = split(value, hosts[i], ",");
		return;
	}
	if (!strcmp(word, "paths")) {
		a->path_count = split(value, paths[i], ",");
		return;
	}
	if (!strcmp(word, "health")) {
		a->health_path = value;
		return;
	}
	FIELD(a->v, hold)
	FIELD(a->v, hold_wait_ms)
	FIELD(a->v, hold_requests)
	FIELD(a->v, hold_bytes)
	FIELD(a->v, target_limit)
	FIELD(a->v, body_max)
	FIELD(a->v, connect_ms)
	FIELD(a->v, response_ms)
	FIELD(a->v, body_ms)
	FIELD(a->v, tunnel_ms)
	FIELD(a->v, probe_ms)
	FIELD(a->v, probe_timeout_ms)
	FIELD(a->v, rise)
	FIELD(a->v, fall)
	FIELD(a->v, retry_unread)
	FIELD(a->v, proxy)
	FIELD(a->v, h2)
	FIELD(a->v, to_https)
	FIELD(a->v, acme)
	FIELD(a->v, hsts_s)
	FIELD(a->v, drain_ms)
	FIELD(a->v, slow_start_ms)
	FIELD(a->v, request_ms)
	FIELD(a->v, retry_share)
	FIELD(a->v, retry_least)
	if (!strncmp(word, "eject_", 6)) {
		word += 6;
		FIELD(a->v.eject, failures)
		FIELD(a->v.eject, errors)
		FIELD(a->v.eject, server_errors)
		FIELD(a->v.eject, latency)
		FIELD(a->v.eject, latency_least_ms)
		FIELD(a->v.eject, requests)
		FIELD(a->v.eject, window_ms)
		FIELD(a->v.eject, time_ms)
		FIELD(a->v.eject, most_ms)
		FIELD(a->v.eject, silent_ms)
	}
	fprintf(stderr, "no setting of an app is called %s\n", word);
	exit(2);
}

static void set_target(struct table_in_target *g, char *word, char *value)
{
	static const char *const uses[USE_COUNT] = {"probe", "serve", "drain", "fence"};

	if (!strcmp(word, "drain_ms"))
		g->drain_until_ms = clock_ms() + strtoull(value, NULL, 10);
	for (uint16_t u = 0; u < USE_COUNT; u++)
		if (!strcmp(word, "use") && !strcmp(value, uses[u]))
			g->use = u;
}

static void set_policy(struct table_in_policy *p, char *word, char *value)
{
	FIELD(p->v, maintenance)
	FIELD(p->v, auth)
	FIELD(p->v, rate)
	FIELD(p->v, rate_requests)
	FIELD(p->v, rate_ms)
	FIELD(p->v, rate_burst)
	FIELD(p->v, near)
	if (!strcmp(word, "realm"))
		p->realm = value;
	else if (!strcmp(word, "rate_header"))
		p->rate_header = value;
	else if (!strcmp(word, "near_name"))
		p->near_name = value;
	else
		exit(2);
}

static void add_rule(struct table_in_policy *p, struct table_in_rule *to, const char *const *word, uint32_t n)
{
	static const char *const kinds[] = {
#define X(name, what) #name,
		TABLE_RULE_TABLE(X)
#undef X
	};
	struct table_in_rule *r = &to[p->rule_count++];
	char *value = n > 3 ? keep(word[3]) : NULL;

	*r = (struct table_in_rule){.key = keep(word[2]), .value = value,
				    .number = n > 4 ? (uint32_t)atoi(word[4]) : 0};
	while (strcmp(kinds[r->kind], word[1]))
		ensure(++r->kind < RULE_COUNT);
	for (; value && *value; value++)
		*value = *value == '~' ? ' ' : *value;
}

/* Slots are given by name and kept, as the controller does. */
static uint32_t slot_of(const char *name, uint64_t *ret_id)
{
	static char names[200][64];
	uint32_t i = 0;

	while (names[i][0] && strcmp(names[i], name))
		i++;
	ensure(i < 199);
	util_copy(names[i], sizeof(names[i]), name);
	*ret_id = map_hash(name, strlen(name));
	host.shm->slot[i].id = *ret_id;
	return i;
}

static void read_line(char *line)
{
	const char *word[WORDS];
	uint32_t n = split(line, word, " \t\n"), from = 1;
	uint32_t i = in.app_count - 1;
	uint64_t id;

	if (!n || word[0][0] == '#')
		return;
	if (!strcmp(word[0], "threads")) {
		host.threads = (uint32_t)atoi(word[1]);
		return;
	}
	if (!strcmp(word[0], "user")) {
		host.user = (uint32_t)atoi(word[1]);
		return;
	}
	if (!strcmp(word[0], "cert")) {
		struct err e;

		if (pair_load(word[1], word[2], &pairs[pair_count++], &e) < 0) {
			fprintf(stderr, "%s\n", e.msg);
			exit(2);
		}
		return;
	}
	if (!strcmp(word[0], "thumbprint")) {
		in.acme = keep(word[1]);
		return;
	}
	if (!strcmp(word[0], "trust")) {
		ensure(table_net_parse(word[1], &trusted[in.trusted_count++]));
		return;
	}
	if (!strcmp(word[0], "proxied")) {
		ensure(table_net_parse(word[1], &proxied[listeners[0].net_count++]));
		listeners[1].net_count = listeners[0].net_count;
		return;
	}
	if (!strcmp(word[0], "tcp")) {
		listeners[0].app = i;
		return;
	}
	if (!strcmp(word[0], "policy") || !strcmp(word[0], "rule") || !strcmp(word[0], "allow") ||
	    !strcmp(word[0], "deny"))
		apps[i].policy = &policies[i];
	if (!strcmp(word[0], "rule")) {
		add_rule(&policies[i], rules[i], word, n);
		return;
	}
	if (!strcmp(word[0], "allow") || !strcmp(word[0], "deny")) {
		bool deny = word[0][0] == 'd';

		ensure(table_net_parse(word[1], &nets[i][deny][deny ? policies[i].deny_count++
								    : policies[i].allow_count++]));
		return;
	}
	if (!strcmp(word[0], "app")) {
		static const struct table_app usual = {
			.hold_wait_ms = 5000, .hold_requests = 1000, .hold_bytes = 16 << 20,
			.connect_ms = 2000, .response_ms = 30000, .body_ms = 30000, .probe_ms = 1000,
			.probe_timeout_ms = 1000, .rise = 1, .fall = 2, .retry_unread = 1,
			.drain_ms = 30000,
			.retry_share = 20, .retry_least = 10,
			.eject = {.window_ms = 10000, .time_ms = 5000, .most_ms = 60000,
				  .requests = 20}};

		i = in.app_count++;
		hosts[i][0] = "*";
		paths[i][0] = "/";
		apps[i] = (struct table_in_app){.name = keep(word[1]), .hosts = hosts[i],
						.host_count = 1, .paths = paths[i], .path_count = 1,
						.v = usual, .targets = targets[i]};
		policies[i] = (struct table_in_policy){.rules = rules[i], .allow = nets[i][0],
						       .deny = nets[i][1]};
		apps[i].v.slot = slot_of(word[1], &id);
		from = 2;
	} else if (!strcmp(word[0], "target")) {
		struct table_in_target *g = &targets[i][apps[i].target_count++];

		*g = (struct table_in_target){.use = USE_SERVE, .name = keep(word[1])};
		g->slot = slot_of(word[1], &g->id);
		ensure(table_addr_parse(word[2], &g->kind, g->addr, &g->addr_len));
		from = 3;
	}
	for (uint32_t w = from; w < n; w++) {
		char *key = keep(word[w]), *value = strchr(key, '=');

		ensure(value);
		*value++ = '\0';
		if (word[0][0] == 'l')
			set_limit(key, value);
		else if (word[0][0] == 'a')
			set_app(&apps[i], i, key, value);
		else if (word[0][0] == 'p')
			set_policy(&policies[i], key, value);
		else
			set_target(&targets[i][apps[i].target_count - 1], key, value);
	}
}

static int make_table(void)
{
	CLEANUP_FILE FILE *f = fopen(host.path, "r");
	CLEANUP_BUF struct buf b = {0};
	struct err e = {0};
	char *line = NULL;
	size_t cap = 0;
	int fd;

	ensure(f);
	listeners[0].app = UINT32_MAX;
	listeners[0].net_count = listeners[1].net_count = 0;
	in = (struct table_in){.apps = apps, .trusted = trusted, .listeners = listeners, .listener_count = 2,
			       .key = {1, 2},
			       .limits = {.clients = 10000, .streams = 128, .header_bytes = 16384,
					  .header_count = 100, .header_ms = 10000,
					  .idle_ms = 60000, .access_log = 1, .trace = TRACE_MAKE,
					  .log_sample = ACCESS_ALL}};
	while (getline(&line, &cap, f) > 0)
		read_line(line);
	free(line);
	if (table_build(&in, ++host.generation, &b, &e) < 0) {
		fprintf(stderr, "%s\n", e.msg);
		exit(2);
	}
	fd = memfd_create("table", MFD_CLOEXEC);
	ensure(fd >= 0 && write(fd, b.data, b.len) == (ssize_t)b.len);
	return fd;
}

static void rotate_tickets(void)
{
	struct certs_ticket fresh;

	for (size_t i = 0; i < sizeof(fresh); i++)
		((uint8_t *)&fresh)[i] = (uint8_t)rand();
	certs_rotate(tickets, &fresh, tickets[0].made_ms + CERTS_TICKET_MS);
}

/* -1: there is none. */
static int make_certs(void)
{
	struct certs_in_pair list[ARRAY_LEN(pairs)] = {0};
	struct certs_in c = {.pairs = list, .pair_count = pair_count};
	int fd = memfd_create("certs", MFD_CLOEXEC);
	void *mem;

	for (uint32_t i = 0; i < pair_count; i++)
		list[i] = (struct certs_in_pair){i, pairs[i].from_ms, pairs[i].until_ms, pairs[i].chain,
						 pairs[i].key, pairs[i].chain_len, pairs[i].key_len,
						 pairs[i].names.items, pairs[i].names.len};
	memcpy(c.tickets, tickets, sizeof(tickets));
	if (!pair_count) {
		close(fd);
		return -1;
	}
	mem = util_alloc((size_t)certs_size(&c));
	ensure(certs_build(&c, host.generation, mem, NULL) == 0);
	ensure(write(fd, mem, (size_t)certs_size(&c)) == (ssize_t)certs_size(&c));
	free(mem);
	while (pair_count)
		pair_fini(&pairs[--pair_count]);
	return fd;
}

/* --- the router --- */

static void on_msg(struct msg_channel *ch, struct msg *m)
{
	struct router_proc *p = container_of(ch, struct router_proc, ch);

	p->ready |= m->type == MSG_READY;
	host.beats += m->type == MSG_BEAT;
}

static void on_end(struct msg_channel *ch, const char *reason)
{
	(void)ch, (void)reason;
}

static void on_exit_of_router(struct loop_child *child, int status)
{
	struct router_proc *p = container_of(child, struct router_proc, child);
	bool killed = WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;

	fprintf(stderr, "router ended: %d\n", status);
	if (!killed && (p == host.now || status))
		exit(1);
	msg_channel_close(&p->ch);
	shm_bury(host.shm, p->bank);
}

static void send_table(struct router_proc *p)
{
	struct msg_table body = {host.generation};
	struct msg_certs certs = {host.generation};

	if (host.certs_fd >= 0)
		msg_send(&p->ch, MSG_CERTS, &certs, NULL, 0, &host.certs_fd, 1);
	msg_send(&p->ch, MSG_TABLE, &body, NULL, 0, &host.table_fd, 1);
}

static void start_router(struct router_proc *p)
{
	struct msg_shared shared = {.threads = host.threads,
				    .bank = p->bank,
				    .router_uid = host.user ? host.user : (uint32_t)-1,
				    .router_gid = host.user ? host.user : (uint32_t)-1,
				    .keeper_pid = (uint32_t)getpid()};
	struct msg_listener told = {.id = 1, .kind = LISTEN_USERS}, tls = {.id = 2, .kind = LISTEN_USERS};
	int fds[] = {host.shm_fd, host.bell, host.log_bell, host.ring_fd}, pair[2];
	pid_t pid;

	ensure(msg_pair(pair) == 0);
	pid = fork();
	if (pid == 0) {
		char *argv[] = {"router", NULL};
		int fd = dup2(pair[1], 100);

		for (int i = 3; i < 100; i++)
			close(i);
		dup2(fd, MSG_CHANNEL_FD);
		close(fd);
		exit(router_main(1, argv));
	}
	close(pair[1]);
	p->ready = false;
	p->ch.on_msg = on_msg;
	p->ch.on_end = on_end;
	p->child.on_exit = on_exit_of_router;
	host.shm->used[p->bank] = 1;
	ensure(loop_child_add(&host.loop, &p->child, pid) == 0);
	ensure(msg_channel_open(&p->ch, &host.loop, pair[0]) == 0);
	msg_send(&p->ch, MSG_SHARED, &shared, NULL, 0, fds, 4);
	msg_send(&p->ch, MSG_LISTENER, &told, NULL, 0, &host.listener, 1);
	msg_send(&p->ch, MSG_LISTENER, &tls, NULL, 0, &host.tls_listener, 1);
	send_table(p);
	while (!p->ready)
		loop_turn(&host.loop, -1);
}

/* Gives each thread of the two an end of a socket pair; with none, the old one has no heir. */
static void hand_over(bool alone)
{
	for (uint32_t i = 0; i < host.threads; i++) {
		struct msg_thread body = {i};
		int pair[2];

		if (alone) {
			msg_send(&host.other->ch, MSG_LEAVE, &body, NULL, 0, NULL, 0);
			continue;
		}
		ensure(msg_pair(pair) == 0);
		msg_send(&host.now->ch, MSG_TAKE, &body, NULL, 0, &pair[0], 1);
		msg_send(&host.other->ch, MSG_LEAVE, &body, NULL, 0, &pair[1], 1);
		close(pair[0]);
		close(pair[1]);
	}
}

static void replace(bool alone, bool stopped)
{
	struct router_proc *old = host.now;

	while (host.other->child.pid) /* one leaves at a time */
		loop_turn(&host.loop, -1);
	start_router(host.other);
	host.now = host.other;
	host.other = old;
	host.shm->speaker = host.now->bank;
	if (stopped)
		kill(host.now->child.pid, SIGSTOP);
	hand_over(alone);
}

static bool all_took(void)
{
	uint32_t rows = SHM_THREADS / SHM_BANKS;

	for (uint32_t i = 0; i < SHM_THREADS; i++)
		if (host.shm->used[i / rows] && i % rows < host.threads &&
		    shm_get(&host.shm->thread[i].generation) < host.generation)
			return false;
	return true;
}

static void swap_table(void)
{
	close(host.table_fd);
	if (host.certs_fd >= 0)
		close(host.certs_fd);
	host.table_fd = make_table();
	host.certs_fd = make_certs();
	send_table(host.now);
	send_table(host.other);
	while (!all_took())
		loop_turn(&host.loop, 1);
}

/* --- what is asked --- */

static void print_slot(const char *name, uint32_t slot, const char **comma)
{
	struct shm_sum s;

	shm_sum_slot(host.shm, slot, &s);
	printf("%s\"%s\": {\"state\": %u, \"passed\": %llu, \"cause\": %u", *comma, name,
	       host.shm->slot[slot].state, (unsigned long long)host.shm->slot[slot].passed,
	       host.shm->slot[slot].ejected);
#define X(n, what) printf(", \"" #n "\": %llu", (unsigned long long)s.n);
	COUNT_TABLE(X)
#undef X
#define X(n, what) printf(", \"" #n "\": %lld", (long long)s.n);
	GAUGE_TABLE(X)
#undef X
	printf("}");
	*comma = ", ";
}

static void print_numbers(void)
{
	const char *comma = "{";
	static uint64_t rung;
	uint64_t bells = 0, id;

	for (uint32_t i = 0; i < in.app_count; i++) {
		print_slot(apps[i].name, slot_of(apps[i].name, &id), &comma);
		for (uint32_t j = 0; j < apps[i].target_count; j++)
			print_slot(targets[i][j].name, targets[i][j].slot, &comma);
	}
#define X(n, what)                                                                                 \
	{                                                                                          \
		uint64_t sum = 0;                                                                  \
                                                                                                   \
		for (uint32_t t = 0; t < SHM_THREADS; t++)                                         \
			sum += shm_get(&host.shm->thread[t].n);                                    \
		printf(", \"" #n "\": %llu", (unsigned long long)sum);                             \
	}
	THREAD_COUNT_TABLE(X)
#undef X
	if (read(host.bell, &bells, sizeof(bells)) < 0)
		bells = 0;
	rung += bells;
	printf(", \"bells\": %llu}\n", (unsigned long long)rung);
}

static void print_log(void)
{
	const char *comma = "";

	printf("[");
	for (uint32_t t = 0; t < host.threads * SHM_BANKS; t++) {
		const char *p;
		uint32_t len;

		while ((p = ring_next(&host.rings[t], &len))) {
			static const char *const names[] = {"method", "host", "path", "app",
							    "target", "client", "id", "agent",
							    "trace"};
			struct access_record rec;
			const uint16_t *n = &rec.method_len;

			memcpy(&rec, p, sizeof(rec));
			printf("%s{\"status\": %u, \"end\": %u, \"sample\": %u, \"tries\": %u, \"bytes_in\": %llu, "
			       "\"bytes_out\": %llu, \"wall_us\": %llu, \"total_us\": %u, \"http\": %u",
			       comma, rec.status, rec.end, rec.sample, rec.tries,
			       (unsigned long long)rec.bytes_in, (unsigned long long)rec.bytes_out,
			       (unsigned long long)rec.wall_us, rec.total_us, rec.http);
			p += sizeof(rec);
			for (size_t i = 0; i < ARRAY_LEN(names); p += n[i++])
				printf(", \"%s\": \"%.*s\"", names[i], n[i], p);
			printf("}");
			comma = ", ";
		}
	}
	printf("]\n");
}

static void on_input(struct loop_io *io, uint32_t events)
{
	char line[256];

	(void)io, (void)events;
	if (!fgets(line, sizeof(line), stdin))
		exit(0);
	if (!strcmp(line, "table\n")) {
		swap_table();
		printf("ok\n");
	} else if (!strcmp(line, "rotate\n")) {
		rotate_tickets();
		swap_table();
		printf("ok\n");
	} else if (!strcmp(line, "numbers\n")) {
		print_numbers();
	} else if (!strcmp(line, "log\n")) {
		print_log();
	} else if (!strcmp(line, "beats\n")) {
		printf("%u\n", host.beats);
	} else if (!strcmp(line, "left\n")) {
		printf("%d\n", host.other->child.pid != 0);
	} else if (!strncmp(line, "replace", 7)) {
		replace(strstr(line, "alone"), strstr(line, "stopped"));
		printf("%d\n", host.now->child.pid);
	} else if (!strcmp(line, "kill\n")) {
		kill(host.now->child.pid, SIGKILL);
		while (host.now->child.pid)
			loop_turn(&host.loop, -1);
		start_router(host.now);
		if (host.other->child.pid)
			hand_over(false);
		printf("%d\n", host.now->child.pid);
	}
	fflush(stdout);
}

static int listen_somewhere(uint16_t *ret_port)
{
	struct sockaddr_in a = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	socklen_t len = sizeof(a);
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	ensure(fd >= 0 && bind(fd, (void *)&a, len) == 0 && listen(fd, 1024) == 0);
	ensure(getsockname(fd, (void *)&a, &len) == 0);
	*ret_port = ntohs(a.sin_port);
	return fd;
}

int main(int argc, char **argv)
{
	uint16_t port, tls_port;

	if (argc != 2) {
		fprintf(stderr, "usage: %s TABLE.txt\n", argv[0]);
		return 2;
	}
	setvbuf(stdin, NULL, _IONBF, 0);
	host.path = argv[1];
	host.threads = 2;
	host.shm_fd = shm_create(SHM_THREADS);
	host.shm = shm_map(host.shm_fd);
	ensure(host.shm && loop_init(&host.loop) == 0);
	host.listener = listen_somewhere(&port);
	host.tls_listener = listen_somewhere(&tls_port);
	rotate_tickets();
	host.bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	host.log_bell = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
	host.table_fd = make_table();
	host.certs_fd = make_certs();
	host.ring_fd = ring_create(host.threads * SHM_BANKS);
	host.rings = ring_map(host.ring_fd, host.threads * SHM_BANKS);
	ensure(host.rings);
	host.now = &host.routers[0];
	host.other = &host.routers[1];
	host.other->bank = 1;
	start_router(host.now);
	host.input.on_ready = on_input;
	ensure(loop_io_add(&host.loop, &host.input, STDIN_FILENO, EPOLLIN) == 0);
	printf("port %u pid %d tls %u\n", port, host.now->child.pid, tls_port);
	fflush(stdout);
	loop_run(&host.loop);
}
