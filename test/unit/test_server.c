/* SPDX-License-Identifier: Apache-2.0
 *
 * Real sockets over a real loop, in one thread: the client's side is written
 * and read between turns.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/buf.h"
#include "base/clock.h"
#include "tell/server.h"

#define LIMIT_MS 10000 /* a test that waits longer has failed */

static struct loop loop;
static struct server *server;
static struct sockaddr_un address;
static socklen_t address_len;
static struct sockaddr_in tcp_address;

/* What the handlers saw. */
static int requests, gones, bodies;
static struct buf seen;
static struct server_request *last;
static struct loop_timer later;
static bool in_handler;
static int file_fd = -1;

static void note_gone(struct server_request *r)
{
	assert_false(in_handler);
	gones++;
	if (last == r)
		last = NULL;
}

static void note_body(struct server_request *r, const char *body, size_t len)
{
	bodies++;
	assert_int_equal(body[len], '\0');
	server_answer(r, 200, "text/plain", NULL, body, len);
}

static void note_data(struct server_request *r UNUSED, const char *data, size_t len)
{
	assert_true(len > 0 && len <= 65536);
	buf_add(&seen, data, len);
}

static void note_end(struct server_request *r, const char *body UNUSED, size_t len)
{
	char text[32];

	assert_int_equal(len, 0);
	bodies++;
	snprintf(text, sizeof(text), "%zu", seen.len);
	server_answer(r, 200, "text/plain", NULL, text, strlen(text));
}

static void answer_later(struct loop_timer *timer UNUSED)
{
	struct server_request *r = last;

	in_handler = true;
	server_answer(r, 202, "text/plain", NULL, "late", 4);
	assert_ptr_equal(r, last); /* still there: gone comes from the loop */
	in_handler = false;
}

static void handle(struct server_request *r, void *arg)
{
	char text[4096], value[64] = "none";

	assert_ptr_equal(arg, &loop);
	in_handler = true;
	requests++;
	last = r;
	r->on_gone = note_gone;
	if (strcmp(r->path, "/body") == 0) {
		server_want_body(r, 1000, note_body);
	} else if (strcmp(r->path, "/upload") == 0) {
		server_want_stream(r, note_data, note_end);
	} else if (strcmp(r->path, "/later") == 0) {
		later.on_time = answer_later;
		loop_timer_set(&loop, &later, loop.now_ms + 2);
	} else if (strcmp(r->path, "/stream") == 0) {
		server_begin(r, 200, "application/x-ndjson");
		assert_true(server_write(r, "one\n", 4));
		assert_true(server_write(r, "", 0));
		assert_true(server_write(r, "two\n", 4));
		server_end(r);
		assert_false(server_write(r, "x", 1));
	} else if (strcmp(r->path, "/file") == 0) {
		server_answer_file(r, "text/plain", NULL, dup(file_fd));
	} else if (strcmp(r->path, "/silent") != 0) {
		server_param(r, "q", value, sizeof(value));
		snprintf(text, sizeof(text), "%s|%s|%s|%s|%d|%.*s", r->method, r->path, r->query,
			 value, r->local && r->uid == getuid() && r->pid == getpid(),
			 (int)server_header(r, "x-test").len, server_header(r, "x-test").p);
		server_answer(r, 200, "text/plain", "X-More: 1\r\n", text, strlen(text));
		server_answer(r, 500, NULL, NULL, NULL, 0); /* ignored */
	}
	in_handler = false;
}

static void listen_on_tcp(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
	socklen_t len = sizeof(tcp_address);

	tcp_address = (struct sockaddr_in){.sin_family = AF_INET,
					   .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
	assert_int_equal(bind(fd, (struct sockaddr *)&tcp_address, len), 0);
	getsockname(fd, (struct sockaddr *)&tcp_address, &len);
	assert_int_equal(listen(fd, 512), 0);
	assert_int_equal(server_listen(server, fd, false), 0);
}

static int start_with(const struct server_options *extra)
{
	struct server_options o = extra ? *extra : (struct server_options){0};
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	o.on_request = handle;
	o.arg = &loop;
	requests = gones = bodies = 0;
	last = NULL;
	later = (struct loop_timer){0};
	assert_int_equal(loop_init(&loop), 0);
	assert_int_equal(server_create(&loop, &o, &server), 0);
	address = (struct sockaddr_un){.sun_family = AF_UNIX};
	/* An abstract name that the kernel picks. */
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)), 0);
	address_len = sizeof(address);
	getsockname(fd, (struct sockaddr *)&address, &address_len);
	assert_int_equal(listen(fd, 512), 0);
	assert_int_equal(server_listen(server, fd, true), 0);
	return 0;
}

static int start(void **state UNUSED)
{
	return start_with(NULL);
}

static int stop(void **state UNUSED)
{
	server_destroy(server);
	loop_timer_fini(&loop, &later);
	loop_fini(&loop);
	buf_free(&seen);
	return 0;
}

static int client(void)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);

	assert_true(fd >= 0);
	assert_int_equal(connect(fd, (struct sockaddr *)&address, address_len), 0);
	return fd;
}

static int tcp_client(void)
{
	int fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

	assert_int_equal(connect(fd, (struct sockaddr *)&tcp_address, sizeof(tcp_address)), 0);
	fcntl(fd, F_SETFL, O_NONBLOCK);
	return fd;
}

static void say(int fd, const char *text)
{
	assert_int_equal(send(fd, text, strlen(text), MSG_NOSIGNAL), strlen(text));
}

/* Turns the loop until the client has read `until` (NULL: the end), or fails the test. */
__attribute__((returns_nonnull, noinline)) static const char *hear(int fd, const char *until)
{
	static struct buf got;
	uint64_t end = clock_ms() + LIMIT_MS;

	buf_free(&got);
	for (;;) {
		char piece[65536];
		ssize_t n = recv(fd, piece, sizeof(piece), 0);

		if (n > 0)
			buf_add(&got, piece, (size_t)n);
		if (until && strstr(buf_str(&got), until))
			return buf_str(&got);
		if (n == 0 && !until)
			return buf_str(&got);
		if (n == 0 || (n < 0 && errno != EAGAIN))
			fail_msg("ended (%s) after: %s", strerror(errno), buf_str(&got));
		if (clock_ms() > end)
			fail_msg("nothing more after: %s", buf_str(&got));
		if (n < 0)
			loop_turn(&loop, 1);
	}
}

static void turn_until(const int *count, int want)
{
	uint64_t end = clock_ms() + LIMIT_MS;

	while (*count != want) {
		assert_true(clock_ms() < end);
		loop_turn(&loop, 1);
	}
}

__attribute__((noinline)) static void has(const char *text, const char *part)
{
	if (!strstr(text, part))
		fail_msg("no '%s' in:\n%s", part, text);
}

static void a_request_reaches_the_handler_decoded(void **state UNUSED)
{
	int fd = client();
	const char *got;

	say(fd, "GET /a%20b/%C3%A4?x=1&q=%26+z%3d HTTP/1.1\r\nHost: u\r\nX-Test: yes\r\n\r\n");
	got = hear(fd, "yes");
	has(got, "HTTP/1.1 200 OK\r\n");
	has(got, "X-More: 1\r\n");
	has(got, "Date: ");
	has(got, "GET|/a b/\xc3\xa4|x=1&q=%26+z%3d|& z=|1|yes");
	assert_null(strstr(got, "Connection: close"));
	turn_until(&gones, 1);
	close(fd);
}

static void pipelined_requests_are_answered_in_their_order(void **state UNUSED)
{
	struct buf all = {0};
	int fd = client();
	const char *got, *at;

	for (int i = 0; i < 50; i++)
		buf_addf(&all, "%s /%s%d HTTP/1.1\r\nHost: u\r\nContent-Length: 2\r\n\r\nab",
			 i % 3 ? "GET" : "HEAD", i == 20 ? "later" : "n", i);
	buf_adds(&all, "GET /later HTTP/1.1\r\nHost: u\r\n\r\nGET /last HTTP/1.1\r\nHost: u\r\n"
		       "Connection: close\r\n\r\n");
	say(fd, buf_str(&all));
	got = at = hear(fd, NULL);
	for (int i = 0; i < 50; i++) {
		char path[32];

		snprintf(path, sizeof(path), "GET|/n%d|", i);
		if (i % 3 && i != 20)
			assert_non_null(at = strstr(at, path));
		else
			assert_null(strstr(got, path)); /* HEAD has no body */
	}
	assert_non_null(at = strstr(at, "late"));
	has(at, "Connection: close\r\n");
	has(at, "GET|/last|");
	assert_int_equal(requests, 52);
	assert_int_equal(gones, 52);
	buf_free(&all);
	close(fd);
}

static void bodies_come_whole_counted_or_chunked(void **state UNUSED)
{
	int fd = client();

	say(fd, "POST /body HTTP/1.1\r\nHost: u\r\nContent-Length: 5\r\n\r\nhe");
	while (!requests)
		loop_turn(&loop, 1);
	say(fd, "llo");
	has(hear(fd, "hello"), "Content-Length: 5\r\n");
	say(fd, "POST /body HTTP/1.1\r\nHost: u\r\nTransfer-Encoding: chunked\r\n\r\n"
		"3\r\nabc\r\n2;x\r\nde\r\n0\r\n");
	while (requests < 2)
		loop_turn(&loop, 1);
	assert_int_equal(bodies, 1); /* the trailer section is not complete */
	say(fd, "A: b\r\n\r\n");
	hear(fd, "\r\n\r\nabcde");
	say(fd, "POST /body HTTP/1.1\r\nHost: u\r\n\r\n");
	has(hear(fd, "\r\n\r\n"), "Content-Length: 0\r\n");
	assert_int_equal(bodies, 3);
	turn_until(&gones, 3);
	close(fd);
}

static void expect_is_answered_before_the_body_is_sent(void **state UNUSED)
{
	int fd = client();

	say(fd, "POST /body HTTP/1.1\r\nHost: u\r\nExpect: 100-continue\r\nContent-Length: 2\r\n\r\n");
	assert_string_equal(hear(fd, "\r\n\r\n"), "HTTP/1.1 100 Continue\r\n\r\n");
	say(fd, "ok");
	has(hear(fd, "\r\n\r\nok"), "200 OK");
	/* Refused at once: no 100, and the connection cannot be used on. */
	say(fd, "POST /body HTTP/1.1\r\nHost: u\r\nExpect: 100-continue\r\nContent-Length: 1001\r\n\r\n");
	assert_memory_equal(hear(fd, NULL), "HTTP/1.1 413", 12);
	close(fd);
	fd = client();
	say(fd, "POST /x HTTP/1.1\r\nHost: u\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n");
	has(hear(fd, NULL), "Connection: close\r\n");
	turn_until(&gones, 3);
	close(fd);
}

static void a_body_too_large_is_413_though_the_client_still_sends(void **state UNUSED)
{
	static const char *const framing[] = {"Content-Length: 4000000", "Transfer-Encoding: chunked"};
	static char block[16384];

	listen_on_tcp(); /* where closing too early would reset the answer away */
	for (int i = 0; i < 4; i++) {
		int fd = i < 2 ? client() : tcp_client();
		char text[256];
		const char *got;
		size_t sent = 0;

		snprintf(text, sizeof(text), "POST /body HTTP/1.1\r\nHost: u\r\n%s\r\n\r\n%s",
			 framing[i % 2], i % 2 ? "400000\r\n" : "");
		say(fd, text);
		while (sent < 4000000) {
			ssize_t n = send(fd, block, MIN(sizeof(block), 4000000 - sent), MSG_NOSIGNAL);

			if (n < 0)
				assert_int_equal(errno, EAGAIN);
			sent += n < 0 ? 0 : (size_t)n;
			loop_turn(&loop, 0);
		}
		got = hear(fd, NULL);
		has(got, "HTTP/1.1 413 Content Too Large\r\n");
		has(got, "Connection: close\r\n");
		has(got, "{\"error\": {\"code\": \"LIMIT\", \"message\": \"the body is larger");
		assert_int_equal(bodies, 0);
		turn_until(&gones, i + 1);
		close(fd);
	}
}

static void an_answer_may_come_later(void **state UNUSED)
{
	int fd = client();

	say(fd, "POST /later HTTP/1.1\r\nHost: u\r\nContent-Length: 3\r\n\r\nabc");
	has(hear(fd, "late"), "HTTP/1.1 202 Accepted\r\n");
	say(fd, "GET /next HTTP/1.1\r\nHost: u\r\n\r\n");
	hear(fd, "GET|/next|");
	turn_until(&gones, 2);
	close(fd);
}

static void a_streamed_answer_is_chunked_or_ends_with_the_connection(void **state UNUSED)
{
	int fd = client();
	const char *got;

	say(fd, "GET /stream HTTP/1.1\r\nHost: u\r\n\r\n");
	got = hear(fd, "0\r\n\r\n");
	has(got, "Transfer-Encoding: chunked\r\n");
	has(got, "\r\n\r\n4\r\none\n\r\n4\r\ntwo\n\r\n0\r\n\r\n");
	say(fd, "HEAD /stream HTTP/1.1\r\nHost: u\r\n\r\nGET /n HTTP/1.1\r\nHost: u\r\n\r\n");
	got = hear(fd, "GET|/n|");
	assert_null(strstr(got, "one\n"));
	say(fd, "GET /stream HTTP/1.0\r\n\r\n");
	got = hear(fd, NULL);
	assert_null(strstr(got, "Transfer-Encoding"));
	has(got, "\r\n\r\none\ntwo\n");
	turn_until(&gones, 4);
	close(fd);
}

static void a_file_of_any_size_is_sent_as_the_client_takes_it(void **state UNUSED)
{
	static char block[1 << 20];
	const size_t offset = 5, size = 20 * sizeof(block);
	int fd = client();
	const char *got;

	file_fd = memfd_create("file", MFD_CLOEXEC);
	memset(block, 'f', sizeof(block));
	for (size_t i = 0; i < size; i += sizeof(block))
		assert_int_equal(write(file_fd, block, sizeof(block)), sizeof(block));
	lseek(file_fd, offset, SEEK_SET);
	say(fd, "HEAD /file HTTP/1.1\r\nHost: u\r\n\r\n");
	has(hear(fd, "\r\n\r\n"), "Content-Length: 20971515\r\n");
	say(fd, "GET /file HTTP/1.1\r\nHost: u\r\nConnection: close\r\n\r\n");
	got = hear(fd, NULL);
	assert_int_equal(strlen(strstr(got, "\r\n\r\n") + 4), size - offset);
	assert_int_equal(gones, 2);
	close(fd);
	fd = client(); /* gone in the middle of it */
	lseek(file_fd, 0, SEEK_SET);
	say(fd, "GET /file HTTP/1.1\r\nHost: u\r\n\r\n");
	hear(fd, "fff");
	close(fd);
	turn_until(&gones, 3);
	close(file_fd);
}

static void an_upload_is_streamed_in_pieces(void **state UNUSED)
{
	static char block[30000];
	int fd = client();
	size_t sent = 0;

	memset(block, 'x', sizeof(block));
	say(fd, "PUT /upload HTTP/1.1\r\nHost: u\r\nContent-Length: 3000000\r\n\r\n");
	while (sent < 3000000) {
		ssize_t n = send(fd, block, MIN(sizeof(block), 3000000 - sent), MSG_NOSIGNAL);

		sent += n < 0 ? 0 : (size_t)n;
		loop_turn(&loop, 0);
	}
	hear(fd, "\r\n\r\n3000000");
	assert_int_equal(seen.len, 3000000);
	close(fd);
}

static void a_client_that_leaves_is_told_to_the_handler_once(void **state UNUSED)
{
	static const char *const texts[] = {
		"POST /body HTTP/1.1\r\nHost: u\r\nContent-Length: 100\r\n\r\npart",
		"PUT /upload HTTP/1.1\r\nHost: u\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nab",
		"GET /silent HTTP/1.1\r\nHost: u\r\n\r\n",
		"POST /silent HTTP/1.1\r\nHost: u\r\nContent-Length: 100\r\n\r\npart",
	};

	for (int i = 0; i < (int)ARRAY_LEN(texts); i++) {
		int fd = client();

		say(fd, texts[i]);
		turn_until(&requests, i + 1);
		assert_int_equal(gones, i);
		close(fd);
		turn_until(&gones, i + 1);
		assert_null(last);
	}
	assert_int_equal(bodies, 0);
	assert_int_equal(server_connections(server, NULL), 0);
}

static void a_half_closed_client_still_gets_its_answers(void **state UNUSED)
{
	int fd = client();
	const char *got;

	say(fd, "GET /later HTTP/1.1\r\nHost: u\r\n\r\nGET /n HTTP/1.1\r\nHost: u\r\n\r\n");
	shutdown(fd, SHUT_WR);
	got = hear(fd, NULL);
	has(got, "late");
	has(got, "GET|/n|");
	assert_int_equal(gones, 2);
	close(fd);
	fd = client(); /* more than one turn handles */
	for (int i = 0; i < 100; i++)
		say(fd, "GET /n HTTP/1.1\r\nHost: u\r\n\r\n");
	shutdown(fd, SHUT_WR);
	hear(fd, NULL);
	assert_int_equal(gones, 102);
	close(fd);
}

static void malformed_requests_get_an_error_of_the_api(void **state UNUSED)
{
	static const struct {
		const char *text, *status;
	} table[] = {
		{"GET / HTTP/1.1\nHost: u\n\n", "HTTP/1.1 400 "},
		{"nonsense\r\n\r\n", "HTTP/1.1 400 "},
		{"GET / HTTP/1.1\r\n\r\n", "HTTP/1.1 400 "},
		{"GET /%00 HTTP/1.1\r\nHost: u\r\n\r\n", "HTTP/1.1 400 "},
		{"GET /%0a HTTP/1.1\r\nHost: u\r\n\r\n", "HTTP/1.1 400 "},
		{"GET /%zz HTTP/1.1\r\nHost: u\r\n\r\n", "HTTP/1.1 400 "},
		{"GET /%2 HTTP/1.1\r\nHost: u\r\n\r\n", "HTTP/1.1 400 "},
		{"GET /?% HTTP/1.1\r\nHost: u\r\n\r\n", "HTTP/1.1 400 "},
		{"GET /?%ff HTTP/1.1\r\nHost: u\r\n\r\n", "HTTP/1.1 400 "},
		{"GET /%c0%af HTTP/1.1\r\nHost: u\r\n\r\n", "HTTP/1.1 400 "},
		{"GET /%ed%a0%80 HTTP/1.1\r\nHost: u\r\n\r\n", "HTTP/1.1 400 "},
		{"GET /%e2%82 HTTP/1.1\r\nHost: u\r\n\r\n", "HTTP/1.1 400 "},
		{"GET /a/../b HTTP/1.1\r\nHost: u\r\n\r\n", "HTTP/1.1 400 "},
		{"GET /a/%2e%2E HTTP/1.1\r\nHost: u\r\n\r\n", "HTTP/1.1 400 "},
		{"GET /..%2fb HTTP/1.1\r\nHost: u\r\n\r\n", "HTTP/1.1 400 "},
		{"GET /. HTTP/1.1\r\nHost: u\r\n\r\n", "HTTP/1.1 400 "},
		{"GET / HTTP/2.0\r\nHost: u\r\n\r\n", "HTTP/1.1 505 "},
		{"POST / HTTP/1.1\r\nHost: u\r\nTransfer-Encoding: gzip\r\n\r\n", "HTTP/1.1 501 "},
		{"CONNECT a:1 HTTP/1.1\r\nHost: a:1\r\n\r\n", "HTTP/1.1 501 "},
		{"ABCDEFGHIJKLMNOP / HTTP/1.1\r\nHost: u\r\n\r\n", "HTTP/1.1 501 "},
	};

	for (size_t i = 0; i < ARRAY_LEN(table); i++) {
		int fd = client();
		const char *got;

		/* A good request before it: nothing of it may stick. */
		say(fd, "HEAD /ok HTTP/1.1\r\nHost: u\r\n\r\n");
		hear(fd, "\r\n\r\n");
		say(fd, table[i].text);
		got = hear(fd, NULL);
		has(got, table[i].status);
		has(got, "{\"error\": {\"code\": \"PROTO\", \"message\": \"");
		close(fd);
	}
	assert_int_equal(requests, ARRAY_LEN(table)); /* the good ones */
	turn_until(&gones, requests);
}

static void paths_and_dots_that_are_fine_pass(void **state UNUSED)
{
	int fd = client();

	say(fd, "GET /a/...//.b/c..?..=%F0%9F%98%80 HTTP/1.1\r\nHost: u\r\n\r\n");
	hear(fd, "GET|/a/...//.b/c..|..=%F0%9F%98%80|none");
	say(fd, "GET /?qq=1&q HTTP/1.1\r\nHost: u\r\n\r\n");
	hear(fd, "GET|/|qq=1&q||1");
	say(fd, "OPTIONS * HTTP/1.1\r\nHost: u\r\n\r\n");
	hear(fd, "OPTIONS|*||none");
	close(fd);
}

static void what_is_too_long_is_414_or_431(void **state UNUSED)
{
	struct buf text = {0};
	int fd = client();

	buf_addf(&text, "GET /%01023d HTTP/1.1\r\nHost: u\r\n\r\n", 0);
	say(fd, buf_str(&text));
	has(hear(fd, NULL), "HTTP/1.1 414 ");
	close(fd);
	buf_free(&text);
	buf_addf(&text, "GET /%01022d?%01022d HTTP/1.1\r\nHost: u\r\n\r\n", 0, 0);
	fd = client();
	say(fd, buf_str(&text));
	has(hear(fd, "|none"), "HTTP/1.1 200 ");
	close(fd);
	buf_free(&text);
	buf_addf(&text, "GET / HTTP/1.1\r\nHost: u\r\nX: %020000d\r\n\r\n", 0);
	fd = client();
	say(fd, buf_str(&text));
	has(hear(fd, NULL), "HTTP/1.1 431 ");
	close(fd);
	buf_free(&text);
}

static void malformed_chunks_are_400(void **state UNUSED)
{
	int fd = client();

	say(fd, "POST /body HTTP/1.1\r\nHost: u\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabcd\r\n");
	has(hear(fd, NULL), "HTTP/1.1 400 ");
	turn_until(&gones, 1);
	assert_int_equal(bodies, 0);
	close(fd);
}

static void slow_clients_meet_their_limits(void **state UNUSED)
{
	static const struct server_options quick = {
		.idle_ms = 30, .head_ms = 30, .move_ms = 30, .linger_ms = 30};
	int idle, head, body, pushy;

	stop(NULL);
	start_with(&quick);
	idle = client();
	head = client();
	body = client();
	pushy = client();
	say(head, "GET / HTTP/1.1\r\nHost: u\r\n");
	say(body, "POST /body HTTP/1.1\r\nHost: u\r\nContent-Length: 5\r\n\r\nab");
	say(pushy, "nonsense\r\n\r\n"); /* answered, and then it never closes */
	assert_string_equal(hear(idle, NULL), "");
	has(hear(head, NULL), "HTTP/1.1 408 ");
	has(hear(body, NULL), "HTTP/1.1 408 ");
	has(hear(pushy, NULL), "HTTP/1.1 400 ");
	turn_until(&gones, 1);
	for (uint64_t end = clock_ms() + LIMIT_MS; server_connections(server, NULL);) {
		assert_true(clock_ms() < end);
		loop_turn(&loop, 1);
	}
	close(idle);
	close(head);
	close(body);
	close(pushy);
}

static void a_client_that_trickles_a_body_is_cut(void **state UNUSED)
{
	static const struct server_options quick = {.move_ms = 30, .linger_ms = 30};
	uint64_t begin;
	int fd;

	stop(NULL);
	start_with(&quick);
	fd = client();
	say(fd, "POST /body HTTP/1.1\r\nHost: u\r\nContent-Length: 1000\r\n\r\n");
	begin = clock_ms();
	while (!gones) { /* a byte every few milliseconds: never silent for 30 */
		send(fd, "x", 1, MSG_NOSIGNAL);
		for (uint64_t next = clock_ms() + 3; clock_ms() < next && !gones;)
			loop_turn(&loop, 1);
		assert_true(clock_ms() < begin + LIMIT_MS);
	}
	assert_int_equal(bodies, 0);
	has(hear(fd, NULL), "HTTP/1.1 408 ");
	close(fd);
}

static void a_slow_reader_of_a_stream_is_cut_at_the_bound(void **state UNUSED)
{
	static char block[65536];
	int fd = client(), written = 0;

	say(fd, "GET /silent HTTP/1.1\r\nHost: u\r\n\r\n");
	turn_until(&requests, 1);
	server_begin(last, 200, "text/plain");
	while (server_write(last, block, sizeof(block))) {
		loop_turn(&loop, 0);
		assert_true(++written < 1000);
	}
	assert_in_range(written, 64, 1000); /* 4 MiB, and what the kernel took */
	assert_int_equal(gones, 0);
	turn_until(&gones, 1);
	assert_int_equal(server_connections(server, NULL), 0);
	close(fd);
}

static void connections_are_bounded_and_the_next_is_told(void **state UNUSED)
{
	int fds[SERVER_CONNECTIONS_MAX], more;
	uint64_t refused;

	for (int i = 0; i < SERVER_CONNECTIONS_MAX; i++)
		fds[i] = client();
	while (server_connections(server, &refused) < SERVER_CONNECTIONS_MAX)
		loop_turn(&loop, 1);
	assert_int_equal(refused, 0);
	more = client();
	say(more, "GET / HTTP/1.1\r\nHost: u\r\n\r\n");
	has(hear(more, NULL), "HTTP/1.1 503 ");
	server_connections(server, &refused);
	assert_int_equal(refused, 1);
	close(more);
	close(fds[7]);
	while (server_connections(server, NULL) == SERVER_CONNECTIONS_MAX)
		loop_turn(&loop, 1);
	more = client();
	say(more, "GET / HTTP/1.1\r\nHost: u\r\n\r\n");
	has(hear(more, "none"), "HTTP/1.1 200 ");
	close(more);
	for (int i = 0; i < SERVER_CONNECTIONS_MAX; i++)
		if (i != 7)
			close(fds[i]);
}

static void nothing_new_is_accepted_after_unlisten_but_the_old_live_on(void **state UNUSED)
{
	int fd = client(), more = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	say(fd, "GET /later HTTP/1.1\r\nHost: u\r\n\r\n");
	turn_until(&requests, 1);
	server_unlisten_all(server);
	assert_int_equal(connect(more, (struct sockaddr *)&address, address_len), -1);
	hear(fd, "late");
	say(fd, "GET /silent HTTP/1.1\r\nHost: u\r\n\r\n");
	turn_until(&requests, 2);
	server_destroy(server); /* with a request inside: it is told */
	server = NULL;
	assert_int_equal(gones, 2);
	close(fd);
	close(more);
}

static void connections_from_afar_cannot_lock_out_the_control_socket(void **state UNUSED)
{
	int fds[SERVER_REMOTE_MAX], more, fd;

	listen_on_tcp();
	for (int i = 0; i < SERVER_REMOTE_MAX; i++)
		fds[i] = tcp_client();
	while (server_connections(server, NULL) < SERVER_REMOTE_MAX)
		loop_turn(&loop, 1);
	more = tcp_client();
	has(hear(more, NULL), "HTTP/1.1 503 ");
	fd = client();
	say(fd, "GET / HTTP/1.1\r\nHost: u\r\n\r\n");
	hear(fd, "|1|");
	say(fds[0], "GET / HTTP/1.1\r\nHost: u\r\n\r\n");
	hear(fds[0], "|0|"); /* nobody's credentials are known there */
	close(fd);
	close(more);
	for (int i = 0; i < SERVER_REMOTE_MAX; i++)
		close(fds[i]);
}

#define SERVER_TEST(name) cmocka_unit_test_setup_teardown(name, start, stop)

int main(void)
{
	const struct CMUnitTest tests[] = {
		SERVER_TEST(a_request_reaches_the_handler_decoded),
		SERVER_TEST(pipelined_requests_are_answered_in_their_order),
		SERVER_TEST(bodies_come_whole_counted_or_chunked),
		SERVER_TEST(expect_is_answered_before_the_body_is_sent),
		SERVER_TEST(a_body_too_large_is_413_though_the_client_still_sends),
		SERVER_TEST(an_answer_may_come_later),
		SERVER_TEST(a_streamed_answer_is_chunked_or_ends_with_the_connection),
		SERVER_TEST(a_file_of_any_size_is_sent_as_the_client_takes_it),
		SERVER_TEST(an_upload_is_streamed_in_pieces),
		SERVER_TEST(a_client_that_leaves_is_told_to_the_handler_once),
		SERVER_TEST(a_half_closed_client_still_gets_its_answers),
		SERVER_TEST(malformed_requests_get_an_error_of_the_api),
		SERVER_TEST(paths_and_dots_that_are_fine_pass),
		SERVER_TEST(what_is_too_long_is_414_or_431),
		SERVER_TEST(malformed_chunks_are_400),
		SERVER_TEST(slow_clients_meet_their_limits),
		SERVER_TEST(a_client_that_trickles_a_body_is_cut),
		SERVER_TEST(a_slow_reader_of_a_stream_is_cut_at_the_bound),
		SERVER_TEST(connections_are_bounded_and_the_next_is_told),
		SERVER_TEST(connections_from_afar_cannot_lock_out_the_control_socket),
		SERVER_TEST(nothing_new_is_accepted_after_unlisten_but_the_old_live_on),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
