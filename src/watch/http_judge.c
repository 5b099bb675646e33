/* SPDX-License-Identifier: Apache-2.0
 *
 * What an answer says: its status, fields, body, the time it took, and the certificates it came with.
 */
#include <math.h>
#include <string.h>

#include "base/clock.h"
#include "watch/http_priv.h"

static bool status_expected(const char *list, long status)
{
	for (const char *p = list; *p; p += *p == ',') {
		char *end;
		long from = strtol(p, &end, 10), to = from;

		end += strspn(end, " ");
		if (*end == '-')
			to = strtol(end + 1, &end, 10);
		if (status >= from && status <= to)
			return true;
		p = end + strcspn(end, ",");
	}
	return false;
}

/* The earliest end of what the server showed; 0: it showed nothing. */
static uint64_t certificate_end(CURL *easy)
{
	struct curl_certinfo *info = NULL;
	uint64_t earliest = 0;

	if (curl_easy_getinfo(easy, CURLINFO_CERTINFO, &info) != CURLE_OK || !info)
		return 0;
	for (int i = 0; i < info->num_of_certs; i++) {
		for (const struct curl_slist *s = info->certinfo[i]; s; s = s->next) {
			time_t t = strncmp(s->data, "Expire date:", 12) == 0 ? curl_getdate(s->data + 12, NULL) : -1;

			if (t > 0 && (!earliest || (uint64_t)t * 1000 < earliest))
				earliest = (uint64_t)t * 1000;
		}
	}
	return earliest;
}

/* NULL, or what the answer lacks. A number at the path of `json` goes to *ret_number. */
static const char *body_lacks(struct http_run *run, double *ret_number, char why[RESULT_TEXT_MAX])
{
	const struct watch_check *c = run->check;
	const char *text = watch_text(c, "text"), *path = watch_text(c, "json"), *is = watch_text(c, "is");
	CLEANUP(json_decrefp) json_t *o = NULL;
	CLEANUP_BUF struct buf found = {.max = 4096};
	const json_t *at;
	json_error_t error;

	if (text && !(run->body.len && memmem(run->body.data, run->body.len, text, strlen(text)))) {
		snprintf(why, RESULT_TEXT_MAX, "the answer does not have '%.100s'", text);
		return why;
	}
	if (!path)
		return NULL;
	o = run->body.len ? json_loadb(run->body.data, run->body.len, JSON_DECODE_ANY | JSON_REJECT_DUPLICATES, &error) : NULL;
	if (!o)
		return run->body.len == HTTP_BODY_MAX ? "the answer is longer than 256 KiB" : "the answer is no JSON";
	at = watch_json_at(o, path);
	if (!at) {
		snprintf(why, RESULT_TEXT_MAX, "the answer has nothing at '%.100s'", path);
		return why;
	}
	watch_json_text(at, &found);
	if (is && strcmp(is, buf_str(&found)) != 0) {
		snprintf(why, RESULT_TEXT_MAX, "'%.60s' is '%.80s', expected '%.80s'", path, buf_str(&found), is);
		return why;
	}
	if (json_is_number(at))
		*ret_number = json_number_value(at);
	return NULL;
}

/* version: what it says it runs against what it should. */
static void judge_version(struct http_run *run, long status)
{
	struct watch_check *c = run->check;
	const char *path = watch_text(c, "json"), *is = watch_text(c, "is"), *text, *end;
	CLEANUP(json_decrefp) json_t *o = NULL;
	CLEANUP_BUF struct buf found = {.max = 4096};
	const json_t *at = NULL;

	if (path && run->body.len)
		o = json_loadb(run->body.data, run->body.len, JSON_DECODE_ANY, NULL);
	if (path)
		at = watch_json_at(o, path);
	if (at)
		watch_json_text(at, &found);
	else if (!path)
		buf_add(&found, run->body.data, MIN(run->body.len, 1000u));
	text = buf_str(&found);
	text += strspn(text, " \t\r\n");
	end = text + strlen(text);
	while (end > text && strchr(" \t\r\n", end[-1]))
		end--;
	http_cancel(c);
	if (status < 200 || status > 299)
		watch_done(c, STATUS_BAD, NAN, RESULT_NONE_UNIT, "it does not tell what it runs: HTTP status %ld", status);
	else if ((size_t)(end - text) != strlen(is) || memcmp(text, is, strlen(is)) != 0)
		watch_done(c, STATUS_BAD, NAN, RESULT_NONE_UNIT, "runs '%.*s', should run '%.80s'",
			   (int)MIN(end - text, 80), text, is);
	else
		watch_done(c, STATUS_GOOD, NAN, RESULT_NONE_UNIT, "runs %.80s", is);
}

static const char *header_lacks(const struct http_run *run, char why[RESULT_TEXT_MAX])
{
	const char *expect = watch_text(run->check, "header");
	const char *value = expect ? strchr(expect, ':') + 1 : NULL;

	if (!expect)
		return NULL;
	value += strspn(value, " ");
	if (run->header_seen && strstr(run->header, value))
		return NULL;
	snprintf(why, RESULT_TEXT_MAX, run->header_seen ? "field '%.100s' is another" : "there is no field '%.100s'", expect);
	return why;
}

/* Is the value the number at the path of `json`, or the time? What the thresholds speak of. */
static bool is_of_json(const struct watch_check *c)
{
	return (c->bad.op && threshold_kind(&c->bad) != THRESHOLD_KIND_TIME) ||
	       (c->ugly.op && threshold_kind(&c->ugly) != THRESHOLD_KIND_TIME);
}

void http_judge(struct http_run *run)
{
	struct watch_check *c = run->check;
	double took = watch_took_ms(c), number = NAN;
	char text[RESULT_TEXT_MAX], when[CLOCK_TEXT];
	uint64_t expires = watch_number(c, "expires") * 1000, end = certificate_end(run->easy);
	const char *why;
	long status = 0;

	curl_easy_getinfo(run->easy, CURLINFO_RESPONSE_CODE, &status);
	if (c->kind == CONF_CHECK_VERSION) {
		judge_version(run, status);
		return;
	}
	if (!status_expected(watch_text(c, "status"), status)) {
		http_cancel(c);
		watch_done(c, STATUS_UGLY, took, RESULT_MS_UNIT, "HTTP status %ld, expected %s", status, watch_text(c, "status"));
		return;
	}
	why = header_lacks(run, text);
	why = why ? why : body_lacks(run, &number, text);
	http_cancel(c);
	if (why)
		watch_done(c, STATUS_UGLY, took, RESULT_MS_UNIT, "%s", why);
	else if (end && end < clock_wall_ms() + expires)
		watch_done(c, STATUS_BAD, took, RESULT_MS_UNIT, "its certificate expires %s", clock_text(end, when));
	else if (!isnan(number) && is_of_json(c))
		watch_done(c, STATUS_GOOD, number, RESULT_NONE_UNIT, "%s", watch_text(c, "json"));
	else
		watch_done(c, STATUS_GOOD, took, RESULT_MS_UNIT, "HTTP %ld", status);
}
