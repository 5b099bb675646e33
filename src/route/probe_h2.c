/* SPDX-License-Identifier: Apache-2.0
 *
 * A probe in HTTP/2: our preface, and a GET if there is a path to be asked for. Without one, the other
 * end's preface is the answer (RFC 9113, 3.4): only a process that runs and speaks HTTP/2 says it.
 */
#include <nghttp2/nghttp2.h>

#include "route/route_priv.h"

#define ROOM 4096 /* read at once, and in one turn */

struct probe_h2 {
	nghttp2_session *ng;
	int32_t asked; /* the stream; 0: none */
	int status, error;
};

static int on_header(nghttp2_session *ng UNUSED, const nghttp2_frame *f, const uint8_t *name, size_t name_len,
		     const uint8_t *value, size_t value_len, uint8_t flags UNUSED, void *user)
{
	struct probe_h2 *p = user;

	if (f->hd.stream_id != p->asked || name_len != 7 || memcmp(name, ":status", 7) != 0 || value_len != 3)
		return 0;
	p->status = (value[0] - '0') * 100 + (value[1] - '0') * 10 + value[2] - '0';
	if (p->status < 200) { /* an interim answer to a probe is no answer */
		p->status = 0;
		p->error = EPROTO;
	}
	return 0;
}

static int on_frame(nghttp2_session *ng UNUSED, const nghttp2_frame *f, void *user)
{
	struct probe_h2 *p = user;

	if (f->hd.type == NGHTTP2_SETTINGS && !p->asked)
		p->status = 200;
	if (f->hd.type == NGHTTP2_GOAWAY && !p->status)
		p->error = ECONNRESET;
	return 0;
}

static int on_close(nghttp2_session *ng UNUSED, int32_t id UNUSED, uint32_t code UNUSED, void *user)
{
	struct probe_h2 *p = user;

	if (!p->status)
		p->error = ECONNRESET;
	return 0;
}

static nghttp2_session *session_new(struct probe_h2 *p)
{
	nghttp2_session_callbacks *cb = NULL;
	nghttp2_session *ng = NULL;

	if (nghttp2_session_callbacks_new(&cb))
		return NULL;
	nghttp2_session_callbacks_set_on_header_callback(cb, on_header);
	nghttp2_session_callbacks_set_on_frame_recv_callback(cb, on_frame);
	nghttp2_session_callbacks_set_on_stream_close_callback(cb, on_close);
	if (nghttp2_session_client_new(&ng, cb, p))
		ng = NULL;
	nghttp2_session_callbacks_del(cb);
	return ng;
}

static nghttp2_nv field(const char *name, const char *value)
{
	return (nghttp2_nv){.name = (uint8_t *)name, .namelen = strlen(name), .value = (uint8_t *)value,
			    .valuelen = strlen(value)};
}

static bool submit(struct probe_h2 *p, const char *host, const char *path)
{
	const nghttp2_settings_entry no_push = {NGHTTP2_SETTINGS_ENABLE_PUSH, 0};
	const nghttp2_nv nv[] = {field(":method", "GET"),    field(":scheme", "http"),
				 field(":authority", host),  field(":path", path),
				 field("accept", "*/*"),     field("user-agent", "upstate-probe")};

	if (nghttp2_submit_settings(p->ng, NGHTTP2_FLAG_NONE, &no_push, 1))
		return false;
	if (path[0])
		p->asked = nghttp2_submit_request(p->ng, NULL, nv, ARRAY_LEN(nv), NULL, NULL);
	return p->asked >= 0;
}

/* A fresh socket takes it whole. 0, or -errno. */
static int send_all(struct probe_h2 *p, int fd)
{
	const uint8_t *data;
	ssize_t n;

	while ((n = nghttp2_session_mem_send(p->ng, &data)) > 0) {
		ssize_t sent = send(fd, data, (size_t)n, MSG_NOSIGNAL);

		if (sent != n)
			return sent < 0 ? -errno : -EIO;
	}
	return n < 0 ? -ENOMEM : 0;
}

struct probe_h2 *probe_h2_ask(int fd, const char *host, const char *path)
{
	struct probe_h2 *p = util_alloc(sizeof(*p));
	int error;

	p->ng = session_new(p);
	error = p->ng && submit(p, host, path) ? send_all(p, fd) : -ENOMEM;
	if (!error)
		return p;
	probe_h2_end(p);
	errno = -error;
	return NULL;
}

int probe_h2_read(struct probe_h2 *p, int fd)
{
	uint8_t room[ROOM];
	ssize_t n = recv(fd, room, sizeof(room), 0);
	int error;

	if (n < 0 && (errno == EAGAIN || errno == EINTR))
		return 0;
	if (n <= 0)
		return n < 0 ? -errno : -ECONNRESET;
	if (nghttp2_session_mem_recv(p->ng, room, (size_t)n) < 0)
		return -EPROTO;
	if (p->status || p->error)
		return p->status ? p->status : -p->error;
	error = send_all(p, fd); /* it may want to hear that its settings came */
	return error ? error : nghttp2_session_want_read(p->ng) ? 0 : -EPROTO;
}

void probe_h2_end(struct probe_h2 *p)
{
	if (!p)
		return;
	nghttp2_session_del(p->ng);
	free(p);
}
