/* SPDX-License-Identifier: Apache-2.0
 *
 * A hostile client of the API's server: whatever it sends, each request that
 * began is over exactly once, and nothing is left when the client has gone. Its
 * parameters (of /v1/explain: a URL, headers) are texts that end.
 */
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "tell/server.h"

static struct loop loop;
static struct server *server;
static struct sockaddr_un address = {.sun_family = AF_UNIX};
static socklen_t address_len = sizeof(address);
static int begun, gone;

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void on_gone(struct server_request *r UNUSED)
{
	gone++;
}

static void on_body(struct server_request *r, const char *body, size_t len)
{
	ensure(body[len] == '\0');
	server_answer(r, 200, "text/plain", NULL, body, len);
}

static void on_data(struct server_request *r, const char *data, size_t len)
{
	server_begin(r, 200, "text/plain");
	server_write(r, data, len);
}

static void on_end(struct server_request *r, const char *body UNUSED, size_t len UNUSED)
{
	server_begin(r, 200, "text/plain");
	server_end(r);
}

static void read_params(const struct server_request *r)
{
	char value[20];

	for (uint32_t i = 0; server_param_at(r, "h", i, value, sizeof(value)); i++)
		ensure(i < 10000 && memchr(value, '\0', sizeof(value)));
	if (server_param(r, "url", value, sizeof(value)))
		ensure(memchr(value, '\0', sizeof(value)));
}

static void on_request(struct server_request *r, void *arg UNUSED)
{
	begun++;
	read_params(r);
	r->on_gone = on_gone;
	if (r->method[0] == 'P')
		server_want_body(r, 40, on_body);
	else if (r->method[0] == 'D')
		server_want_stream(r, on_data, on_end);
	else if (r->path[1] != 's')
		server_answer(r, r->path[1] == 'e' ? 204 : 200, "text/plain", NULL, "ok", 2);
}

static void start(void)
{
	const struct server_options o = {.on_request = on_request};
	int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	ensure(loop_init(&loop) == 0 && server_create(&loop, &o, &server) == 0);
	ensure(bind(fd, (struct sockaddr *)&address, sizeof(sa_family_t)) == 0);
	getsockname(fd, (struct sockaddr *)&address, &address_len);
	ensure(listen(fd, 8) == 0 && server_listen(server, fd, true) == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	size_t cut = size ? data[size - 1] % (size + 1) : 0;

	if (!server)
		start();
	begun = gone = 0;
	ensure(connect(fd, (struct sockaddr *)&address, address_len) == 0);
	(void)!send(fd, data, cut, MSG_NOSIGNAL);
	for (int i = 0; i < 3; i++)
		loop_turn(&loop, 0);
	(void)!send(fd, data + cut, size - cut, MSG_NOSIGNAL);
	if (size % 2)
		shutdown(fd, SHUT_WR);
	for (int i = 0; i < 3; i++)
		loop_turn(&loop, 0);
	close(fd);
	for (int i = 0; server_connections(server, NULL); i++) {
		ensure(i < 1000);
		loop_turn(&loop, 1);
	}
	ensure(begun == gone);
	return 0;
}
