/* SPDX-License-Identifier: Apache-2.0
 *
 * libcurl does the HTTP; here is what it means for a person: who does not answer, who may not,
 * what was refused.
 */
#include "cli/api.h"

#include <curl/curl.h>
#include <errno.h>
#include <grp.h>
#include <pwd.h>
#include <signal.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>

#include "cli/show.h"

#define ANSWER_MAX (256u << 20)
#define REFUSAL_MAX (1u << 20)
#define TRIES_AGAIN 4

struct api {
	CURL *curl;
	char socket[sizeof(((struct sockaddr_un *)0)->sun_path)];
	int exit_status;
	json_t *refusal;
	bool lost, broken;
	void (*wait)(void *arg);
	void *wait_arg;
	/* of the request at hand */
	api_sink *sink;
	void *sink_arg;
	struct buf refused; /* body of an answer that is no 2xx */
	struct api_source *source;
};

static volatile sig_atomic_t interrupted;

static void on_signal(int signal UNUSED)
{
	interrupted = 1;
}

void api_catch_interrupts(void)
{
	struct sigaction sa = {.sa_handler = on_signal};

	sigaction(SIGINT, &sa, NULL);
	sigaction(SIGTERM, &sa, NULL);
}

void api_interrupt(void)
{
	interrupted = 1;
}

bool api_interrupted(void)
{
	return interrupted;
}

int api_open(const char *state_dir, struct api **ret, struct err *e)
{
	struct api *a = util_alloc(sizeof(*a));

	a->refused.max = REFUSAL_MAX;
	if (snprintf(a->socket, sizeof(a->socket), "%s/control.sock", state_dir) >=
	    (int)sizeof(a->socket)) {
		free(a);
		return err_set(
		    e, ERR_INPUT,
		    "the path %s/control.sock is too long for a socket (107 bytes): give a "
		    "shorter --state DIR",
		    state_dir);
	}
	curl_global_init(CURL_GLOBAL_DEFAULT);
	a->curl = curl_easy_init();
	if (!a->curl) {
		free(a);
		return err_set(e, ERR_SYS, "libcurl does not start");
	}
	*ret = a;
	return 0;
}

void api_close(struct api *a)
{
	if (!a)
		return;
	curl_easy_cleanup(a->curl);
	curl_global_cleanup();
	json_decref(a->refusal);
	buf_free(&a->refused);
	free(a);
}

int api_exit_status(const struct api *a)
{
	return a->exit_status;
}

const json_t *api_refusal(const struct api *a)
{
	return a->refusal;
}

bool api_broken(const struct api *a)
{
	return a->broken;
}

bool api_lost(const struct api *a)
{
	return a->lost;
}

void api_on_wait(struct api *a, void (*wait)(void *arg), void *arg)
{
	a->wait = wait;
	a->wait_arg = arg;
}

void api_escape(struct buf *out, const char *text)
{
	for (const unsigned char *p = (const void *)text; *p; p++)
		if ((*p >= 'a' && *p <= 'z') || (*p >= 'A' && *p <= 'Z') ||
		    (*p >= '0' && *p <= '9') || strchr("-._~", *p))
			buf_addc(out, (char)*p);
		else
			buf_addf(out, "%%%02X", *p);
}

/* --- libcurl's callbacks --- */

static size_t on_body(char *data, size_t size, size_t n, void *arg)
{
	struct api *a = arg;
	long status = 0;

	n *= size;
	curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &status);
	if (status < 200 || status > 299)
		buf_add(&a->refused, data, n);
	else if (a->sink && !a->sink(a->sink_arg, data, n))
		return CURL_WRITEFUNC_ERROR;
	return n;
}

static size_t on_read(char *data, size_t size, size_t n, void *arg)
{
	struct api *a = arg;
	long got = a->source->read(a->source, data, size * n);

	return got < 0 ? CURL_READFUNC_ABORT : (size_t)got;
}

static int on_progress(void *arg, curl_off_t down_all UNUSED, curl_off_t down UNUSED, curl_off_t up_all UNUSED,
		       curl_off_t up UNUSED)
{
	struct api *a = arg;

	if (a->wait)
		a->wait(a->wait_arg);
	return interrupted;
}

/* --- what went wrong --- */

/* Who may use the socket, as far as its owner and group tell. */
static int denied(const struct api *a, struct err *e)
{
	struct stat st;
	const struct passwd *me = getpwuid(geteuid());
	char name[64], owner[64] = "the user that runs Upstate", group[100] = "";

	snprintf(name, sizeof(name), "%s", me ? me->pw_name : "this user");
	if (stat(a->socket, &st) == 0) {
		const struct passwd *pw = getpwuid(st.st_uid);
		const struct group *gr = getgrgid(st.st_gid);

		if (pw)
			snprintf(owner, sizeof(owner), "%s", pw->pw_name);
		if (gr && (st.st_mode & 0020))
			snprintf(group, sizeof(group), " and members of group %s", gr->gr_name);
	} else {
		snprintf(group, sizeof(group),
			 " and members of its configured group (admin: group)");
	}
	return err_set(e, ERR_DENIED, "%s may not use %s: %s%s%s may", name, a->socket, owner,
		       strcmp(owner, "root") == 0 ? "" : ", root", group);
}

/* libcurl tells that it could not connect, and not why: also when somebody took the connection and
 * died at once. */
static int not_connected(struct api *a, struct err *e)
{
	struct sockaddr_un addr = {.sun_family = AF_UNIX};
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);

	util_copy(addr.sun_path, sizeof(addr.sun_path), a->socket);
	if (fd >= 0 && connect(fd, (struct sockaddr *)&addr, sizeof(addr)) == 0) {
		a->broken = true;
		return err_set(e, ERR_GONE, "the connection to %s was lost", a->socket);
	}
	if (fd >= 0 && (errno == EACCES || errno == EPERM))
		return denied(a, e);
	return err_set(
	    e, ERR_GONE,
	    "no Upstate answers on %s: is `upstate serve` running? (or give --state DIR)",
	    a->socket);
}

static enum err_code code_of(const char *name)
{
	for (int i = 1; i < ERR_COUNT; i++)
		if (strcmp(err_name((enum err_code)i), name) == 0)
			return (enum err_code)i;
	return ERR_PROTO;
}

/* An answer that is no 2xx: {"error": {"code", "message", "exit"}}. */
static int refusal(struct api *a, long status, struct err *e)
{
	const json_t *error;
	const char *message;

	a->refusal = json_loadb(a->refused.data ? a->refused.data : "", a->refused.len, 0, NULL);
	error = json_object_get(a->refusal, "error");
	message = field_text(error, "message");
	a->exit_status = (int)MIN(field_count(error, "exit"), 125);
	if (!*message)
		return err_set(e, ERR_PROTO, "%s answered %ld without a reason; is it Upstate?",
			       a->socket, status);
	return err_set(e, code_of(field_text(error, "code")), "%s", message);
}

static int result(struct api *a, CURLcode rc, struct err *e)
{
	long status = 0;

	curl_easy_getinfo(a->curl, CURLINFO_RESPONSE_CODE, &status);
	if (a->source && a->source->failed.code) {
		*e = a->source->failed;
		return -(int)e->code;
	}
	if (interrupted)
		return err_set(e, ERR_GONE, "interrupted");
	/* An answer may come, and the connection end, before all was sent: the answer counts. */
	if (status >= 300 && a->refused.len)
		return refusal(a, status, e);
	if (rc == CURLE_COULDNT_CONNECT) {
		a->lost = true;
		return not_connected(a, e);
	}
	if (rc == CURLE_WRITE_ERROR)
		return err_set(e, ERR_SYS, "what came could not be taken");
	if (rc != CURLE_OK) {
		a->lost = a->broken = true;
		return err_set(e, ERR_GONE, "the connection to %s was lost (%s)", a->socket,
			       curl_easy_strerror(rc));
	}
	return status >= 200 && status <= 299 ? 0 : refusal(a, status, e);
}

/* --- requests --- */

static void prepare(struct api *a, const char *path)
{
	CLEANUP_BUF struct buf url = {0};

	buf_addf(&url, "http://upstate%s", path);
	a->exit_status = 0;
	a->lost = a->broken = false;
	json_decref(a->refusal);
	a->refusal = NULL;
	buf_free(&a->refused);
	a->sink = NULL;
	a->source = NULL;
	curl_easy_reset(a->curl); /* the connection stays */
	curl_easy_setopt(a->curl, CURLOPT_UNIX_SOCKET_PATH, a->socket);
	curl_easy_setopt(a->curl, CURLOPT_URL, buf_str(&url));
	curl_easy_setopt(a->curl, CURLOPT_PROXY, "");
	curl_easy_setopt(a->curl, CURLOPT_NOSIGNAL, 1L);
	curl_easy_setopt(a->curl, CURLOPT_USERAGENT, "upstate/" UPSTATE_VERSION);
	curl_easy_setopt(a->curl, CURLOPT_WRITEFUNCTION, on_body);
	curl_easy_setopt(a->curl, CURLOPT_WRITEDATA, a);
	curl_easy_setopt(a->curl, CURLOPT_NOPROGRESS, 0L);
	curl_easy_setopt(a->curl, CURLOPT_XFERINFOFUNCTION, on_progress);
	curl_easy_setopt(a->curl, CURLOPT_XFERINFODATA, a);
}

static bool take_json(void *arg, const char *data, size_t len)
{
	struct buf *b = arg;

	buf_add(b, data, len);
	return !b->failed;
}

static int api_json_once(struct api *a, const char *method, const char *path, const char *type,
			 const struct buf *body, json_t **ret, struct err *e)
{
	CLEANUP_BUF struct buf answer = {.max = ANSWER_MAX};
	struct curl_slist *headers = NULL;
	char line[100];
	json_t *json;
	int rc;

	prepare(a, path);
	a->sink = take_json;
	a->sink_arg = &answer;
	curl_easy_setopt(a->curl, CURLOPT_CUSTOMREQUEST, method);
	if (body) {
		snprintf(line, sizeof(line), "Content-Type: %s", type);
		headers = curl_slist_append(headers, line);
		headers = curl_slist_append(headers, "Expect:");
		curl_easy_setopt(a->curl, CURLOPT_HTTPHEADER, headers);
		curl_easy_setopt(a->curl, CURLOPT_POSTFIELDSIZE_LARGE, (curl_off_t)body->len);
		curl_easy_setopt(a->curl, CURLOPT_POSTFIELDS, body->data ? body->data : "");
	}
	rc = result(a, curl_easy_perform(a->curl), e);
	curl_slist_free_all(headers);
	if (rc < 0 || !ret)
		return rc;
	json = json_loadb(answer.data ? answer.data : "", answer.len, 0, NULL);
	if (!json)
		return err_set(e, ERR_PROTO, "%s answered something that is no JSON", a->socket);
	*ret = json;
	return 0;
}

int api_json(struct api *a, const char *method, const char *path, const char *type,
	     const struct buf *body, json_t **ret, struct err *e)
{
	int rc = api_json_once(a, method, path, type, body, ret, e);

	for (int i = 0; rc < 0 && a->broken && i < TRIES_AGAIN; i++)
		rc = api_json_once(a, method, path, type, body, ret, e);
	return rc;
}

int api_upload(struct api *a, const char *path, struct api_source *source, struct err *e)
{
	struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
	int rc;

	prepare(a, path);
	a->source = source;
	headers = curl_slist_append(headers, "Content-Type: application/octet-stream");
	curl_easy_setopt(a->curl, CURLOPT_HTTPHEADER, headers);
	curl_easy_setopt(a->curl, CURLOPT_UPLOAD, 1L);
	curl_easy_setopt(a->curl, CURLOPT_UPLOAD_BUFFERSIZE, 512 * 1024L);
	curl_easy_setopt(a->curl, CURLOPT_INFILESIZE_LARGE, (curl_off_t)source->len);
	curl_easy_setopt(a->curl, CURLOPT_READFUNCTION, on_read);
	curl_easy_setopt(a->curl, CURLOPT_READDATA, a);
	rc = result(a, curl_easy_perform(a->curl), e);
	curl_slist_free_all(headers);
	return rc;
}

int api_stream(struct api *a, const char *path, api_sink *sink, void *arg, struct err *e)
{
	prepare(a, path);
	a->sink = sink;
	a->sink_arg = arg;
	return result(a, curl_easy_perform(a->curl), e);
}
