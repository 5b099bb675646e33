/* SPDX-License-Identifier: Apache-2.0
 *
 * http: one request over a connection of its own (an old one would hide that new ones fail), by libcurl, on our loop.
 *
 * Nothing of the environment takes part: no proxy, no .netrc. Names are looked up by us, since libcurl's own threads for that
 * cannot be left behind when the time is over. Redirects are followed by us too, each as a request of its own. What is read is
 * bounded: the first HTTP_BODY_MAX bytes are looked at, READ_MAX are taken.
 */
#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <string.h>
#include <strings.h>

#include "watch/http_priv.h"

#define READ_MAX (4u << 20)

struct http_io {
	struct loop_io io;
	struct watch_http *http;
};

struct watch_http {
	struct watcher *w;
	CURLM *multi;
	struct loop_timer timer;
};

/* --- libcurl on our loop --- */

static void look_for_done(struct watch_http *h);

static void on_io(struct loop_io *io, uint32_t events)
{
	struct http_io *x = container_of(io, struct http_io, io);
	struct watch_http *h = x->http;
	int running, bits = (events & EPOLLIN ? CURL_CSELECT_IN : 0) | (events & EPOLLOUT ? CURL_CSELECT_OUT : 0) |
			    (events & (EPOLLERR | EPOLLHUP) ? CURL_CSELECT_ERR : 0);

	curl_multi_socket_action(h->multi, io->fd, bits, &running);
	look_for_done(h);
}

static void on_time(struct loop_timer *t)
{
	struct watch_http *h = container_of(t, struct watch_http, timer);
	int running;

	curl_multi_socket_action(h->multi, CURL_SOCKET_TIMEOUT, 0, &running);
	look_for_done(h);
}

static int on_curl_timer(CURLM *multi UNUSED, long ms, void *arg)
{
	struct watch_http *h = arg;

	if (ms < 0)
		loop_timer_stop(&h->w->loop, &h->timer);
	else
		loop_timer_set(&h->w->loop, &h->timer, h->w->loop.now_ms + (uint64_t)ms);
	return 0;
}

static int on_curl_socket(CURL *easy UNUSED, curl_socket_t fd, int what, void *arg, void *socket)
{
	struct watch_http *h = arg;
	struct http_io *x = socket;
	uint32_t events = (what & CURL_POLL_IN ? EPOLLIN : 0u) | (what & CURL_POLL_OUT ? EPOLLOUT : 0u);

	if (what == CURL_POLL_REMOVE) {
		if (x)
			loop_io_del(&h->w->loop, &x->io);
		free(x);
		curl_multi_assign(h->multi, fd, NULL);
	} else if (x) {
		loop_io_change(&h->w->loop, &x->io, events);
	} else {
		x = util_alloc(sizeof(*x));
		*x = (struct http_io){.io = {.on_ready = on_io, .fd = -1}, .http = h};
		curl_multi_assign(h->multi, fd, x);
		if (loop_io_add(&h->w->loop, &x->io, fd, events) < 0)
			return -1;
	}
	return 0;
}

int watch_http_open(struct watcher *w, struct err *e)
{
	struct watch_http *h = util_alloc(sizeof(*h));

	if (curl_global_init(CURL_GLOBAL_DEFAULT) || !(h->multi = curl_multi_init())) {
		free(h);
		return err_set(e, ERR_SYS, "libcurl cannot be used");
	}
	h->w = w;
	h->timer.on_time = on_time;
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETFUNCTION, on_curl_socket);
	curl_multi_setopt(h->multi, CURLMOPT_SOCKETDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERFUNCTION, on_curl_timer);
	curl_multi_setopt(h->multi, CURLMOPT_TIMERDATA, h);
	curl_multi_setopt(h->multi, CURLMOPT_PIPELINING, CURLPIPE_NOTHING);
	w->http = h;
	return 0;
}

/* --- one run --- */

static void end_hop(struct http_run *run)
{
	if (run->easy) {
		curl_multi_remove_handle(run->check->w->http->multi, run->easy);
		curl_easy_cleanup(TAKE(run->easy));
	}
	curl_slist_free_all(TAKE(run->fields));
	curl_slist_free_all(TAKE(run->resolve));
	watch_resolve_cancel(&run->lookup);
	free(TAKE(run->url));
	buf_free(&run->body);
	run->read = 0;
	run->enough = run->header_seen = false;
	run->error[0] = '\0';
}

void http_cancel(struct watch_check *c)
{
	struct http_run *run = c->run;

	if (!run)
		return;
	end_hop(run);
	free(run);
	c->run = NULL;
}

static size_t on_body(char *data, size_t one UNUSED, size_t len, void *arg)
{
	struct http_run *run = arg;

	if (run->body.len < HTTP_BODY_MAX)
		buf_add(&run->body, data, MIN(len, HTTP_BODY_MAX - run->body.len));
	run->read += len;
	run->enough = run->read >= READ_MAX;
	return run->enough ? 0 : len;
}

static size_t on_header(char *line, size_t one UNUSED, size_t len, void *arg)
{
	struct http_run *run = arg;
	const char *expect = watch_text(run->check, "header");
	size_t name = expect ? strcspn(expect, ":") : 0, n;
	const char *value;

	if (!expect || len <= name || line[name] != ':' || strncasecmp(line, expect, name) != 0)
		return len;
	value = line + name + 1;
	n = MIN(len - name - 1, sizeof(run->header) - 1);
	memcpy(run->header, value, n);
	run->header[n] = '\0';
	run->header_seen = true;
	return len;
}

static void curl_failed(struct http_run *run, CURLcode code)
{
	struct watch_check *c = run->check;
	long error = 0;
	char text[CURL_ERROR_SIZE];
	bool own;

	curl_easy_getinfo(run->easy, CURLINFO_OS_ERRNO, &error);
	own = (code == CURLE_COULDNT_CONNECT && watch_own_fault((int)error)) || code == CURLE_OUT_OF_MEMORY ||
	      code == CURLE_FAILED_INIT || code == CURLE_SSL_CACERT_BADFILE;
	util_copy(text, sizeof(text), run->error[0] ? run->error : curl_easy_strerror(code));
	if (code == CURLE_COULDNT_CONNECT && error) {
		http_cancel(c);
		watch_failed(c, (int)error, "connecting");
		return;
	}
	http_cancel(c);
	watch_done(c, own ? STATUS_UNKNOWN : STATUS_UGLY, NAN, RESULT_NONE_UNIT, "%s", text);
}

static void hop(struct http_run *run, const char *url);

static void run_done(struct http_run *run, CURLcode code)
{
	struct watch_check *c = run->check;
	const char *to = NULL;
	char *next;

	if (code != CURLE_OK && !run->enough) {
		curl_failed(run, code);
		return;
	}
	curl_easy_getinfo(run->easy, CURLINFO_REDIRECT_URL, &to);
	if (!to || !watch_number(c, "redirects")) {
		http_judge(run);
	} else if (run->hops++ == watch_number(c, "redirects")) {
		http_cancel(c);
		watch_done(c, STATUS_UGLY, NAN, RESULT_NONE_UNIT, "more than %u redirects",
			   (unsigned)watch_number(c, "redirects"));
	} else {
		next = util_strdup(to);
		hop(run, next);
		free(next);
	}
}

static void look_for_done(struct watch_http *h)
{
	CURLMsg *m;
	int left;

	while ((m = curl_multi_info_read(h->multi, &left))) {
		struct http_run *run = NULL;

		if (m->msg != CURLMSG_DONE)
			continue;
		curl_easy_getinfo(m->easy_handle, CURLINFO_PRIVATE, &run);
		run_done(run, m->data.result);
	}
}

/* --- one hop --- */

static void set_request(struct http_run *run)
{
	const struct watch_check *c = run->check;
	const char *method = watch_text(c, "method"), *ca = watch_text(c, "ca"), *name;
	json_t *value;
	CURL *easy = run->easy;

	json_object_foreach (json_object_get(c->o, "headers"), name, value) {
		CLEANUP_BUF struct buf line = {0};

		buf_addf(&line, "%s%s%s", name, *json_string_value(value) ? ": " : ";", json_string_value(value));
		run->fields = curl_slist_append(run->fields, buf_str(&line));
	}
	curl_easy_setopt(easy, CURLOPT_HTTPHEADER, run->fields);
	if (strcmp(method, "HEAD") == 0)
		curl_easy_setopt(easy, CURLOPT_NOBODY, 1L);
	if (strcmp(method, "POST") == 0)
		curl_easy_setopt(easy, CURLOPT_COPYPOSTFIELDS, "");
	if (ca) {
		curl_easy_setopt(easy, CURLOPT_CAINFO, ca);
		curl_easy_setopt(easy, CURLOPT_CAPATH, NULL);
	}
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYPEER, (long)watch_number(c, "verify"));
	curl_easy_setopt(easy, CURLOPT_SSL_VERIFYHOST, watch_number(c, "verify") ? 2L : 0L);
}

static void set_bounds(struct http_run *run)
{
	CURL *easy = run->easy;

	curl_easy_setopt(easy, CURLOPT_PRIVATE, run);
	curl_easy_setopt(easy, CURLOPT_ERRORBUFFER, run->error);
	curl_easy_setopt(easy, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(easy, CURLOPT_PROXY, "");
	curl_easy_setopt(easy, CURLOPT_PROTOCOLS_STR, "http,https");
	curl_easy_setopt(easy, CURLOPT_FRESH_CONNECT, 1L);
	curl_easy_setopt(easy, CURLOPT_FORBID_REUSE, 1L);
	curl_easy_setopt(easy, CURLOPT_SSL_SESSIONID_CACHE, 0L);
	curl_easy_setopt(easy, CURLOPT_CERTINFO, 1L);
	curl_easy_setopt(easy, CURLOPT_USERAGENT, "Upstate/" UPSTATE_VERSION);
	curl_easy_setopt(easy, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(easy, CURLOPT_WRITEDATA, run);
	curl_easy_setopt(easy, CURLOPT_HEADERFUNCTION, on_header);
	curl_easy_setopt(easy, CURLOPT_HEADERDATA, run);
}

/* "HOST:PORT:ADDRESS,ADDRESS" */
static void set_addresses(struct http_run *run, const struct watch_addrs *addrs)
{
	CLEANUP_BUF struct buf line = {0};
	char text[INET6_ADDRSTRLEN];

	buf_addf(&line, "+%s:%u:", run->host, run->port);
	for (uint32_t i = 0; i < addrs->count; i++) {
		const struct sockaddr_storage *a = &addrs->at[i];
		bool v6 = a->ss_family == AF_INET6;

		inet_ntop(a->ss_family, v6 ? (const void *)&((const struct sockaddr_in6 *)a)->sin6_addr
					   : (const void *)&((const struct sockaddr_in *)a)->sin_addr,
			  text, sizeof(text));
		buf_addf(&line, v6 ? "%s[%s]" : "%s%s", i ? "," : "", text);
	}
	run->resolve = curl_slist_append(NULL, buf_str(&line));
	curl_easy_setopt(run->easy, CURLOPT_RESOLVE, run->resolve);
}

static void found(struct watch_check *c, const struct watch_addrs *addrs, bool no_such_name, const char *why)
{
	struct http_run *run = c->run;

	if (!addrs) {
		http_cancel(c);
		watch_done(c, no_such_name ? STATUS_UGLY : STATUS_UNKNOWN, NAN, RESULT_NONE_UNIT, "%s", why);
		return;
	}
	c->stage = "waiting for the answer";
	run->easy = curl_easy_init();
	if (!run->easy) {
		http_cancel(c);
		watch_failed(c, ENOMEM, "asking");
		return;
	}
	curl_easy_setopt(run->easy, CURLOPT_URL, run->url);
	set_bounds(run);
	set_request(run);
	if (run->host[0] != '[')
		set_addresses(run, addrs);
	curl_multi_add_handle(c->w->http->multi, run->easy);
}

/* Host and port of a URL; false: it is none that we ask. */
static bool take_host(struct http_run *run, const char *url)
{
	char *host = NULL, *port = NULL, *scheme = NULL;
	CURLU *u = curl_url();
	bool ok = curl_url_set(u, CURLUPART_URL, url, 0) == CURLUE_OK &&
		  curl_url_get(u, CURLUPART_SCHEME, &scheme, 0) == CURLUE_OK &&
		  curl_url_get(u, CURLUPART_HOST, &host, 0) == CURLUE_OK &&
		  curl_url_get(u, CURLUPART_PORT, &port, CURLU_DEFAULT_PORT) == CURLUE_OK &&
		  (strcmp(scheme, "http") == 0 || strcmp(scheme, "https") == 0) &&
		  util_copy(run->host, sizeof(run->host), host);

	if (ok)
		run->port = (uint16_t)strtoul(port, NULL, 10);
	curl_free(host);
	curl_free(port);
	curl_free(scheme);
	curl_url_cleanup(u);
	return ok;
}

static void hop(struct http_run *run, const char *url)
{
	struct watch_check *c = run->check;
	char host[300];

	end_hop(run);
	run->url = util_strdup(url);
	run->body.max = HTTP_BODY_MAX + 1;
	if (!take_host(run, url)) {
		http_cancel(c);
		watch_done(c, STATUS_UGLY, NAN, RESULT_NONE_UNIT, "redirected to where nobody can go: %.200s", url);
		return;
	}
	if (run->host[0] == '[')
		snprintf(host, sizeof(host), "%.*s", (int)strcspn(run->host + 1, "]"), run->host + 1);
	else
		util_copy(host, sizeof(host), run->host);
	watch_resolve(c, host, run->port, found, &run->lookup);
}

static void http_begin(struct watch_check *c)
{
	struct http_run *run = util_alloc(sizeof(*run));

	run->check = c;
	c->run = run;
	hop(run, c->what);
}

const struct watch_engine watch_http = {http_begin, http_cancel};
