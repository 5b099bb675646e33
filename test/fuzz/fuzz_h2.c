/* SPDX-License-Identifier: Apache-2.0
 *
 * A hostile HTTP/2 client of the router: whatever frames it sends, its target gets
 * requests that the strict parser takes, whole or cut off and never two at once; and when
 * it has gone, nothing is left of it.
 */
#include <sys/un.h>

#include "route/route_priv.h"

#define CONNS 64
#define BYTES 65536u

static struct thread thread;
static struct router router = {.threads = &thread, .thread_count = 1, .controller_bell = -1,
			       .log_bell = -1, .main_bell = -1};
static struct table_listener anyone = {.app = UINT32_MAX};
static struct listener door = {.t = &thread, .conf = &anyone};
static int target;
static struct {
	int fd;
	bool answered;
	uint32_t len;
	char data[BYTES];
} conns[CONNS];
static int conn_count;

static const char *const answers[] = {
	"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhello",
	("HTTP/1.1 103 Hints\r\nLink: x\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
	 "3\r\nabc\r\n0\r\nX-T: 1\r\n\r\n"),
	"HTTP/1.1 101 Go\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nbytes",
	"HTTP/1.1 204 None\r\n\r\n",
	"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\ncut",
};

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take_table(const struct sockaddr_un *addr)
{
	static const char *const any[] = {"*"}, *const root[] = {"/"};
	struct table_in_target g = {.id = 1, .slot = 1, .use = USE_SERVE, .kind = TARGET_UNIX, .name = "t",
				    .addr_len = sizeof(sa_family_t) + 6};
	struct table_in_app a = {.name = "a", .hosts = any, .host_count = 1, .paths = root,
				 .path_count = 1, .targets = &g, .target_count = 1,
				 .v = {.connect_ms = 1000, .response_ms = 1000, .body_ms = 1000,
				       .probe_ms = 1000, .probe_timeout_ms = 1000, .rise = 1, .fall = 1}};
	struct table_in in = {.apps = &a, .app_count = 1,
			      .limits = {.clients = 10, .streams = 50, .header_bytes = 4096,
					 .header_count = 50, .header_ms = 1000, .idle_ms = 1000}};
	struct buf b = {0};
	struct view *v = util_alloc(sizeof(*v));
	struct shared_app *app = util_alloc(sizeof(*app));
	struct shared_target *t = util_alloc(sizeof(*t));

	memcpy(g.addr, addr, sizeof(*addr));
	ensure(table_build(&in, 1, &b, NULL) == 0);
	app->refs = t->refs = 1;
	t->id = 1;
	t->health = HEALTH_UP;
	*v = (struct view){.refs = 1, .table = (const void *)b.data, .size = b.len};
	v->apps = memcpy(util_alloc(sizeof(app)), &app, sizeof(app));
	v->targets = memcpy(util_alloc(sizeof(t)), &t, sizeof(t));
	apps_take(&thread, v);
}

static void start(void)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(addr);

	target = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	ensure(bind(target, (void *)&addr, sizeof(sa_family_t)) == 0 && listen(target, 64) == 0);
	getsockname(target, (void *)&addr, &len); /* an abstract name of five letters */
	router.shm = shm_map(shm_create(1));
	thread.r = &router;
	ensure(router.shm && thread_init(&thread) == 0);
	take_table(&addr);
}

/* One request, whole or not yet; what is behind it belongs to a tunnel, or is not there. */
static void check(const char *p, size_t len, bool *ret_whole)
{
	static const struct http1_limits limits = {BYTES, HTTP1_HEADERS_MAX};
	static struct http1_head h;
	struct http1_chunked c = {0};
	size_t scanned = 0, used = 0, n;
	const char *why;
	enum http1_result r = http1_request(p, len, &scanned, &limits, &h, &why);
	char *body;

	*ret_whole = false;
	ensure(r == HTTP1_DONE || r == HTTP1_MORE);
	if (r == HTTP1_MORE)
		return;
	ensure(!h.is_connect && h.host.len);
	n = len - h.head_len;
	*ret_whole = h.framing == HTTP1_BODY_NONE || n == h.length;
	ensure(h.upgrade || (h.framing == HTTP1_BODY_NONE ? !n : h.framing != HTTP1_BODY_LENGTH || n <= h.length));
	if (h.framing != HTTP1_BODY_CHUNKED)
		return;
	body = memcpy(util_alloc(n + 1), p + h.head_len, n);
	r = http1_dechunk(&c, body, &n, &used, &why);
	ensure(r == HTTP1_DONE || r == HTTP1_MORE);
	scanned = 0;
	n = len - h.head_len - used;
	if (r == HTTP1_DONE)
		r = http1_trailer(p + h.head_len + used, n, &scanned, &h, &why);
	ensure(r == HTTP1_MORE || (r == HTTP1_DONE && h.head_len == n));
	*ret_whole = r == HTTP1_DONE;
	free(body);
}

/* Reads what came; a request that is whole is answered, and the connection can take the next. */
static void serve(int i, uint8_t kind)
{
	ssize_t n = recv(conns[i].fd, conns[i].data + conns[i].len, BYTES - conns[i].len, MSG_DONTWAIT);
	const char *answer = answers[kind % ARRAY_LEN(answers)];
	bool whole;

	if (n <= 0 || conns[i].answered)
		return;
	conns[i].len += (uint32_t)n;
	check(conns[i].data, conns[i].len, &whole);
	if (!whole)
		return;
	(void)!send(conns[i].fd, answer, strlen(answer), MSG_NOSIGNAL);
	conns[i].len = 0;
	conns[i].answered = kind % ARRAY_LEN(answers) == 2;
	if (kind % ARRAY_LEN(answers) == 4)
		shutdown(conns[i].fd, SHUT_RDWR);
}

static void turn(uint8_t kind)
{
	int fd;

	thread_turn(&thread, 0);
	while (conn_count < CONNS && (fd = accept4(target, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		conns[conn_count].fd = fd;
		conns[conn_count].answered = false;
		conns[conn_count++].len = 0;
	}
	for (int i = 0; i < conn_count; i++)
		serve(i, kind + (uint8_t)i);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static const char hello[] = "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n\0\0\0\4\0\0\0\0";
	struct sockaddr_storage from = {.ss_family = AF_INET};
	uint8_t kind = size ? data[size - 1] : 0;
	size_t cut = size ? (size_t)data[0] * 16 % (size + 1) : 0;
	int pair[2];

	if (!target)
		start();
	ensure(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
	client_open(&door, pair[0], &from);
	(void)!send(pair[1], hello, sizeof(hello), MSG_NOSIGNAL);
	(void)!send(pair[1], data, cut, MSG_NOSIGNAL);
	for (int i = 0; i < 3; i++)
		turn(kind);
	if (kind & 64)
		h2_drain_all(&thread);
	(void)!send(pair[1], data + cut, size - cut, MSG_NOSIGNAL);
	for (int i = 0; i < 6; i++)
		turn(kind);
	close(pair[1]);
	for (int i = 0; shm_get(&thread.n->clients); i++) {
		ensure(i < 1000);
		turn(kind);
	}
	while (conn_count)
		close(conns[--conn_count].fd);
	turn(kind);
	ensure(!shm_get(&shm_counts(router.shm, 0, 0)->inflight) && list_empty(&thread.h2_sessions));
	return 0;
}
