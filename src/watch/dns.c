/* SPDX-License-Identifier: Apache-2.0
 *
 * dns: a name server answers, with what is expected. Each measurement has a channel of c-ares of its own: so the server
 * can be chosen, and all of it goes when the time is over. The answer is read by libresolv; it may hold anything.
 */
#include <ares.h>
#include <arpa/inet.h>
#include <arpa/nameser.h>
#include <math.h>
#include <netdb.h>
#include <resolv.h>
#include <string.h>
#undef MIN /* of sys/param.h: ours are the same */
#undef MAX

#include "watch/channel.h"
#include "watch/watch_priv.h"

struct dns_run {
	struct watch_channel channel;
	struct watch_check *check; /* NULL: it is being closed */
	struct loop_timer said;
	int status;
	size_t answer_len;
	unsigned char answer[NS_PACKETSZ * 8];
};

static const struct {
	const char *name;
	ns_type type;
} types[] = {{"A", ns_t_a},   {"AAAA", ns_t_aaaa}, {"CNAME", ns_t_cname}, {"MX", ns_t_mx},
	     {"NS", ns_t_ns}, {"PTR", ns_t_ptr},   {"SOA", ns_t_soa},	  {"TXT", ns_t_txt}};

static ns_type type_of(const struct watch_check *c)
{
	const char *name = watch_text(c, "type") ?: "";

	for (size_t i = 0; i < ARRAY_LEN(types); i++)
		if (strcmp(types[i].name, name) == 0)
			return types[i].type;
	return ns_t_a;
}

static void dns_cancel(struct watch_check *c)
{
	struct dns_run *run = c->run;

	if (!run)
		return;
	c->run = NULL;
	run->check = NULL;
	watch_channel_close(&run->channel);
	loop_timer_fini(&c->w->loop, &run->said);
	free(run);
}

/* --- answers as text --- */

static bool add_name(const ns_msg *m, const ns_rr *rr, size_t skip, struct buf *out)
{
	char name[NS_MAXDNAME];

	if (ns_rr_rdlen(*rr) < skip ||
	    ns_name_uncompress(ns_msg_base(*m), ns_msg_end(*m), ns_rr_rdata(*rr) + skip, name, sizeof(name)) < 0)
		return false;
	buf_adds(out, name);
	return true;
}

static bool add_strings(const ns_rr *rr, struct buf *out)
{
	const unsigned char *p = ns_rr_rdata(*rr), *end = p + ns_rr_rdlen(*rr);

	while (p < end) {
		size_t len = *p++;

		if (len > (size_t)(end - p))
			return false;
		buf_add(out, p, len);
		p += len;
	}
	return true;
}

static bool add_record(const ns_msg *m, const ns_rr *rr, struct buf *out)
{
	char text[INET6_ADDRSTRLEN];

	switch ((int)ns_rr_type(*rr)) {
	case ns_t_a:
	case ns_t_aaaa:
		if (ns_rr_rdlen(*rr) != (ns_rr_type(*rr) == ns_t_a ? 4 : 16))
			return false;
		buf_adds(out, inet_ntop(ns_rr_type(*rr) == ns_t_a ? AF_INET : AF_INET6, ns_rr_rdata(*rr), text, sizeof(text)));
		return true;
	case ns_t_mx:
		if (ns_rr_rdlen(*rr) < 3)
			return false;
		buf_addf(out, "%u ", ns_get16(ns_rr_rdata(*rr)));
		return add_name(m, rr, 2, out);
	case ns_t_txt:
		return add_strings(rr, out);
	default: /* of SOA: its first name */
		return add_name(m, rr, 0, out);
	}
}

/* All records of the type, with commas between; -1: the answer is malformed, else how many. `found` when one is as expected. */
static int add_records(ns_msg *m, ns_type type, const char *expect, struct buf *out, bool *found)
{
	int count = 0;

	for (int i = 0; i < ns_msg_count(*m, ns_s_an); i++) {
		CLEANUP_BUF struct buf one = {0};
		ns_rr rr;

		if (ns_parserr(m, ns_s_an, i, &rr) < 0)
			return -1;
		if (ns_rr_type(rr) != type)
			continue;
		if (!add_record(m, &rr, &one))
			return -1;
		*found |= expect && strcmp(expect, buf_str(&one)) == 0;
		if (out->len < 200)
			buf_addf(out, "%s%.100s", count ? ", " : "", buf_str(&one));
		count++;
	}
	return count;
}

/* --- judging --- */

static const char *rcode_text(unsigned rcode, char text[40])
{
	switch (rcode) {
	case ns_r_formerr:
		return "the server did not understand";
	case ns_r_servfail:
		return "the server failed";
	case ns_r_nxdomain:
		return "there is no such name";
	case ns_r_refused:
		return "the server refuses";
	default:
		snprintf(text, 40, "the server answers with code %u", rcode);
		return text;
	}
}

static void judge(struct watch_check *c, const unsigned char *answer, int len)
{
	CLEANUP_BUF struct buf text = {0};
	const char *expect = watch_text(c, "is");
	double took = watch_took_ms(c);
	bool found = false, authoritative;
	char code[40];
	ns_msg m;
	int n;

	dns_cancel(c);
	if (ns_initparse(answer, len, &m) < 0) {
		watch_done(c, STATUS_UGLY, took, RESULT_MS_UNIT, "the answer is malformed");
		return;
	}
	authoritative = ns_msg_getflag(m, ns_f_aa);
	if (ns_msg_getflag(m, ns_f_rcode)) {
		watch_done(c, STATUS_UGLY, took, RESULT_MS_UNIT, "%s", rcode_text((unsigned)ns_msg_getflag(m, ns_f_rcode), code));
		return;
	}
	n = add_records(&m, type_of(c), expect, &text, &found);
	if (n < 0)
		watch_done(c, STATUS_UGLY, took, RESULT_MS_UNIT, "the answer is malformed");
	else if (n == 0)
		watch_done(c, STATUS_UGLY, took, RESULT_MS_UNIT, "the name has no %s", watch_text(c, "type"));
	else if (expect && !found)
		watch_done(c, STATUS_UGLY, took, RESULT_MS_UNIT, "the answer is %s, expected %s", buf_str(&text), expect);
	else if (watch_number(c, "authoritative") && !authoritative)
		watch_done(c, STATUS_UGLY, took, RESULT_MS_UNIT, "the server has no authority over the name");
	else
		watch_done(c, STATUS_GOOD, took, RESULT_MS_UNIT, "%s", buf_str(&text));
}

static void on_said(struct loop_timer *t)
{
	struct dns_run *run = container_of(t, struct dns_run, said);
	struct watch_check *c = run->check;
	unsigned char answer[sizeof(run->answer)];
	int status = run->status, len = (int)run->answer_len;

	memcpy(answer, run->answer, sizeof(answer));
	if (len) {
		judge(c, answer, len);
		return;
	}
	dns_cancel(c);
	watch_done(c, status == ARES_ENOMEM ? STATUS_UNKNOWN : STATUS_UGLY, NAN, RESULT_NONE_UNIT, "no answer: %s",
		   ares_strerror(status));
}

static void on_answer(void *arg, int status, int timeouts UNUSED, unsigned char *answer, int len)
{
	struct dns_run *run = arg;

	run->channel.going--;
	if (!run->check)
		return;
	/* A channel must not be closed within its own callback: what there is to say is said a little later. */
	run->status = status;
	run->answer_len = answer && len > 0 ? MIN((size_t)len, sizeof(run->answer)) : 0;
	if (run->answer_len)
		memcpy(run->answer, answer, run->answer_len);
	loop_timer_set(run->channel.loop, &run->said, run->channel.loop->now_ms);
}

static void dns_begin(struct watch_check *c)
{
	struct dns_run *run = util_alloc(sizeof(*run));
	int tries = 2, r;

	run->check = c;
	run->said.on_time = on_said;
	c->stage = "asking";
	r = watch_channel_open(&run->channel, &c->w->loop, watch_text(c, "server"), (int)MAX(c->timeout_ms / 3, 50u), tries,
			       ARES_FLAG_NOSEARCH | ARES_FLAG_NOALIASES | ARES_FLAG_NOCHECKRESP);
	if (r != ARES_SUCCESS) {
		free(run);
		watch_done(c, STATUS_UNKNOWN, NAN, RESULT_NONE_UNIT, "this machine cannot ask: %s", ares_strerror(r));
		return;
	}
	c->run = run;
	run->channel.going++;
	ares_query(run->channel.ares, c->what, ns_c_in, (int)type_of(c), on_answer, run);
	watch_channel_asked(&run->channel);
}

const struct watch_engine watch_dns = {dns_begin, dns_cancel};
