/* SPDX-License-Identifier: Apache-2.0
 *
 * A hostile target that speaks HTTP/2: whatever frames it sends, its users get answers that the strict parser takes,
 * whole or cut off with the connection; and when all have gone, nothing is left of them.
 */
#include <sys/un.h>

#include "route/route_priv.h"

#define USERS 3
#define CONNS 16
#define BYTES 262144u

static struct thread thread;
static struct router router = {.threads = &thread, .thread_count = 1, .controller_bell = -1,
			       .log_bell = -1, .main_bell = -1};
static struct table_listener anyone = {.app = UINT32_MAX};
static struct listener door = {.t = &thread, .conf = &anyone};
static int target;

static void take_table(const struct sockaddr_un *addr, bool h2)
{
	static const char *const any[] = {"*"}, *const root[] = {"/"};
	struct table_in_target g = {.id = 1, .slot = 1, .use = USE_SERVE, .kind = TARGET_UNIX, .name = "t",
				    .addr_len = sizeof(sa_family_t) + 6};
	struct table_in_app a = {.name = "a", .hosts = any, .host_count = 1, .paths = root,
				 .path_count = 1, .targets = &g, .target_count = 1,
				 .v = {.connect_ms = 1000, .response_ms = 1000, .body_ms = 1000,
				       .probe_ms = 1000, .probe_timeout_ms = 1000, .rise = 1, .fall = 1, .h2 = h2}};
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

/* h2: the target speaks HTTP/2. */
static void start(bool h2)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	socklen_t len = sizeof(addr);

	target = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	ensure(bind(target, (void *)&addr, sizeof(sa_family_t)) == 0 && listen(target, 64) == 0);
	getsockname(target, (void *)&addr, &len); /* an abstract name of five letters */
	router.shm = shm_map(shm_create(1));
	thread.r = &router;
	ensure(router.shm && thread_init(&thread) == 0);
	take_table(&addr, h2);
}

static const char hello[] = "\0\0\0\4\0\0\0\0"; /* SETTINGS */
static const char *const requests[USERS] = {
	"GET /a HTTP/1.1\r\nHost: a\r\n\r\nHEAD /b HTTP/1.1\r\nHost: a\r\n\r\n",
	"POST /c HTTP/1.1\r\nHost: a\r\nTE: trailers\r\nConnection: te\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n",
	"PUT /d HTTP/1.1\r\nHost: a\r\nExpect: 100-continue\r\nContent-Length: 5\r\n\r\nhello",
};
static struct {
	int fd;
	uint32_t len;
	bool ended;
	char data[BYTES];
} users[USERS];
static int conns[CONNS], conn_count;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* The body of an answer at p. False: it is not whole. */
static bool body(const struct http1_head *h, char **p, size_t *len)
{
	struct http1_chunked c = {0};
	struct http1_head trailer;
	size_t n = *len, used, scanned = 0;
	const char *why;
	enum http1_result r;

	ensure(h->framing == HTTP1_BODY_NONE || h->framing == HTTP1_BODY_LENGTH || h->framing == HTTP1_BODY_CHUNKED);
	if (h->framing == HTTP1_BODY_NONE)
		return true;
	if (h->framing == HTTP1_BODY_LENGTH) {
		if (*len < h->length)
			return false;
		*p += h->length;
		*len -= h->length;
		return true;
	}
	r = http1_dechunk(&c, *p, &n, &used, &why);
	ensure(r == HTTP1_DONE || r == HTTP1_MORE);
	if (r == HTTP1_MORE)
		return false;
	r = http1_trailer(*p + used, *len - used, &scanned, &trailer, &why);
	ensure(r == HTTP1_DONE || r == HTTP1_MORE);
	if (r == HTTP1_MORE)
		return false;
	*p += used + trailer.head_len;
	*len -= used + trailer.head_len;
	return true;
}

static void check(char *p, size_t len, bool second_is_head)
{
	static const struct http1_limits limits = {.head_bytes = BYTES, .headers = HTTP1_HEADERS_MAX};
	static struct http1_head h;
	int finals = 0;

	while (len) {
		size_t scanned = 0;
		const char *why;
		enum http1_result r = http1_answer(p, len, &scanned, &limits, second_is_head && finals == 1, false, &h, &why);

		ensure(r == HTTP1_DONE || r == HTTP1_MORE);
		if (r == HTTP1_MORE)
			return;
		p += h.head_len;
		len -= h.head_len;
		ensure(h.status != 101);
		if (h.status < 200)
			continue;
		finals++;
		if (!body(&h, &p, &len))
			return;
	}
	ensure(finals <= 2);
}

static void turn(const uint8_t *data, size_t size)
{
	char room[65536];
	int fd;

	thread_turn(&thread, 0);
	while (conn_count < CONNS && (fd = accept4(target, NULL, NULL, SOCK_NONBLOCK)) >= 0) {
		conns[conn_count++] = fd;
		(void)!send(fd, hello, sizeof(hello), MSG_NOSIGNAL);
		(void)!send(fd, data, size, MSG_NOSIGNAL);
	}
	for (int i = 0; i < conn_count; i++)
		while (recv(conns[i], room, sizeof(room), MSG_DONTWAIT) > 0)
			;
	for (int i = 0; i < USERS; i++) {
		ssize_t n = users[i].fd < 0 ? 0 : recv(users[i].fd, users[i].data + users[i].len, BYTES - users[i].len, MSG_DONTWAIT);

		users[i].len += n > 0 ? (uint32_t)n : 0;
	}
}

static void turns(int n, const uint8_t *data, size_t size)
{
	while (n--)
		turn(data, size);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct sockaddr_storage from = {.ss_family = AF_INET};
	size_t cut = size ? (size_t)data[0] * 16 % (size + 1) : 0;
	int pair[2], first;

	if (!target)
		start(true);
	for (int i = 0; i < USERS; i++) {
		ensure(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) == 0);
		users[i].fd = pair[1];
		users[i].len = 0;
		client_open(&door, pair[0], &from);
		(void)!send(pair[1], requests[i], strlen(requests[i]), MSG_NOSIGNAL);
	}
	turns(4, data, cut);
	first = conn_count ? conns[0] : -1;
	if (first >= 0)
		(void)!send(first, data + cut, size - cut, MSG_NOSIGNAL);
	turns(4, data, size);
	(void)!send(users[1].fd, "0\r\nX-T: 1\r\n\r\n", 14, MSG_NOSIGNAL);
	turns(4, data, size);
	while (conn_count)
		close(conns[--conn_count]);
	turns(6, NULL, 0);
	for (int i = 0; i < USERS; i++) {
		check(users[i].data, users[i].len, i == 0);
		close(users[i].fd);
		users[i].fd = -1;
	}
	for (int i = 0; shm_get(&thread.n->clients); i++) {
		ensure(i < 1000);
		turn(NULL, 0);
	}
	while (conn_count)
		close(conns[--conn_count]);
	turns(3, NULL, 0);
	ensure(!shm_get(&shm_counts(router.shm, 0, 0)->inflight) && !shm_get(&shm_counts(router.shm, 0, 1)->connections));
	return 0;
}
