/* SPDX-License-Identifier: Apache-2.0
 *
 * Certificates. What is in force is one sealed block (core/certs.h) that the keeper holds; this process
 * keeps a descriptor of the same, and no key in its memory for longer than it takes to build the next:
 *
 *	configuration ──> files read and checked ──> block ──(the reload succeeds)──> keeper ──> router
 *	a file changed ─> only that one is read ───> block, the others as in the one before ──^
 *	every 12 h ─────> a new key of session tickets, all else as before ───────────────────^
 *
 * Those that are got by themselves (acme.c) come last; their files are ours, and may not be there yet. While no
 * certificate is there at all, one that nobody trusts stands in: handshakes work, and a browser says why not.
 *
 * Files that cannot be used never take the place of those that can: the pair before stays, and its
 * status says why. So does a controller that takes another's place: the keeper hands it the block.
 */
#include <errno.h>
#include <string.h>
#include <sys/inotify.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "conf/problems.h"
#include "control/acme_priv.h"
#include "control/certs_priv.h"

#define LOOK_MS 60000	/* for what inotify cannot see: other file systems, links to links */
#define SETTLE_MS 200	/* certificate and key are written one after the other */
#define WATCHED (IN_CLOSE_WRITE | IN_MOVED_TO | IN_CREATE | IN_MASK_ADD)

/* --- rows --- */

static struct control_file file_seen(const char *path)
{
	struct stat st;

	if (stat(path, &st) < 0)
		return (struct control_file){0};
	return (struct control_file){
	    st.st_dev, st.st_ino, (uint64_t)st.st_size,
	    (uint64_t)st.st_mtim.tv_sec * 1000000000u + (uint64_t)st.st_mtim.tv_nsec,
	    (uint64_t)st.st_ctim.tv_sec * 1000000000u + (uint64_t)st.st_ctim.tv_nsec};
}

static bool look_at_files(struct control_cert *row)
{
	bool changed = false;

	for (int i = 0; i < 2; i++) {
		struct control_file now = file_seen(row->path[i]);

		changed |= memcmp(&now, &row->seen[i], sizeof(now)) != 0;
		row->seen[i] = now;
	}
	return changed;
}

static uint64_t pair_id(const char *cert, const char *key)
{
	return map_hash_more(map_hash(cert, strlen(cert) + 1), key, strlen(key));
}

static void row_init(struct control_cert *row, const struct conf *conf, const struct conf_certificate *c)
{
	char path[2][4400];

	pair_path(conf, c->cert, path[0], sizeof(path[0]));
	pair_path(conf, c->key, path[1], sizeof(path[1]));
	*row = (struct control_cert){.id = pair_id(path[0], path[1]), .watch = {-1, -1}};
	for (int i = 0; i < 2; i++)
		row->path[i] = util_strdup(path[i]);
}

static void row_init_auto(struct control *c, struct control_cert *row, const struct conf_auto *a)
{
	char path[600];

	snprintf(path, sizeof(path), "%s/acme/%s.pem", c->dir, a->app->name);
	*row = (struct control_cert){.id = pair_id(path, path), .automatic = control_auto_new(c, a), .watch = {-1, -1}};
	for (int i = 0; i < 2; i++)
		row->path[i] = util_strdup(path);
}

static void row_take(struct control_cert *row, const struct pair *p, const char *problem)
{
	row->from_ms = p->from_ms;
	row->until_ms = p->until_ms;
	json_decref(row->names);
	row->names = json_array();
	for (uint32_t i = 0; i < p->names.len; i++)
		json_array_append_new(row->names, json_string(p->names.items[i]));
	util_text(row->problem, sizeof(row->problem), problem);
}

static void set_fini(struct control_cert_set *set)
{
	for (uint32_t i = 0; i < set->count; i++) {
		free(set->rows[i].path[0]);
		free(set->rows[i].path[1]);
		json_decref(set->rows[i].names);
		control_auto_free(set->rows[i].automatic);
	}
	free(set->rows);
	if (set->fd >= 0)
		close(set->fd);
	*set = (struct control_cert_set){.fd = -1};
}

/* The pair with this id as it is in force. */
static bool pair_before(const struct certs *before, uint64_t id, struct pair *ret)
{
	const struct certs_pair *p = before ? certs_by_id(before, id) : NULL;

	return p && pair_copy(certs_bytes(before, p->chain), p->chain_len, certs_bytes(before, p->key),
			      p->key_len, ret);
}

static bool is_same(const struct certs *before, uint64_t id, const struct pair *now)
{
	const struct certs_pair *p = before ? certs_by_id(before, id) : NULL;

	return p && p->chain_len == now->chain_len && p->key_len == now->key_len &&
	       memcmp(certs_bytes(before, p->chain), now->chain, now->chain_len) == 0 &&
	       memcmp(certs_bytes(before, p->key), now->key, now->key_len) == 0;
}

/* --- a configuration --- */

struct candidate {
	const struct certs *before;
	const struct conf *conf;
	bool first; /* this process has none in force yet: users must not wait for a renewal */
};

/* For pair_load_all(): may a pair stand although the calendar is against it? */
static bool in_force(void *arg, const struct conf_certificate *row, const struct pair *p)
{
	const struct candidate *x = arg;
	char path[2][4400];

	pair_path(x->conf, row->cert, path[0], sizeof(path[0]));
	pair_path(x->conf, row->key, path[1], sizeof(path[1]));
	return x->first || is_same(x->before, pair_id(path[0], path[1]), p);
}

/* A new controller that finds files it cannot use goes on with what was in force. */
static void resume_pairs(struct control *c, const struct candidate *x, struct pair *pairs,
			 struct conf_problems *problems)
{
	for (uint32_t i = 0; i < x->conf->certificate_count; i++) {
		const struct conf_certificate *conf = &x->conf->certificates[i];
		struct control_cert *row = &c->certs_next.rows[i];

		if (pairs[i].chain || !pair_before(x->before, row->id, &pairs[i]))
			continue;
		row_take(row, &pairs[i], "the files cannot be used");
		for (uint32_t p = 0; p < problems->len; p++) {
			if (problems->items[p].line != conf->line || problems->items[p].warning)
				continue;
			util_text(row->problem, sizeof(row->problem), problems->items[p].text);
			problems->items[p].warning = true;
			problems->errors--;
		}
		log_warn("certificate.refused", "file=%s reason=\"%s\" using=\"the one before\"", row->path[0],
			 row->problem);
	}
}

/* The one in force that a client gets for this name now, if it has the name itself. */
static bool pair_for_name(const struct certs *before, const char *name, struct pair *ret)
{
	const struct certs_pair *p = before ? &certs_pairs(before)[certs_find(before, name, strlen(name))] : NULL;
	bool has = false;

	if (!p || !pair_copy(certs_bytes(before, p->chain), p->chain_len, certs_bytes(before, p->key), p->key_len, ret))
		return false;
	for (uint32_t i = 0; i < ret->names.len; i++)
		has |= strcmp(ret->names.items[i], name) == 0;
	if (!has)
		pair_fini(ret);
	return has;
}

/* Not there is no mistake: it will be. Until then an app that was renamed, or got the hosts of another, goes on with what
 * users are shown. */
static void load_auto(const struct candidate *x, struct control_cert *row, struct pair *ret)
{
	struct err e;

	if (pair_load(row->path[0], row->path[1], ret, &e) == 0) {
		row_take(row, ret, "");
		return;
	}
	pair_fini(ret);
	if (pair_before(x->before, row->id, ret))
		row_take(row, ret, e.msg);
	else if (row->seen[0].ino)
		util_text(row->problem, sizeof(row->problem), e.msg);
	else if (pair_for_name(x->before, json_string_value(json_array_get(row->automatic->names, 0)), ret))
		row_take(row, ret, "");
}

static int load(struct control *c, struct candidate *x, struct conf_problems *problems, struct err *e)
{
	uint32_t given = x->conf->certificate_count, count = given + x->conf->auto_count;
	CLEANUP_FREE struct pair *pairs = util_alloc(count * sizeof(*pairs));
	struct control_cert_set *next = &c->certs_next;
	int r = 0;

	next->count = count;
	next->rows = util_alloc(count * sizeof(*next->rows));
	for (uint32_t i = 0; i < count; i++) {
		if (i < given)
			row_init(&next->rows[i], x->conf, &x->conf->certificates[i]);
		else
			row_init_auto(c, &next->rows[i], &x->conf->autos[i - given]);
		look_at_files(&next->rows[i]);
	}
	pair_load_all(x->conf, clock_wall_ms(), in_force, x, pairs, problems);
	for (uint32_t i = 0; i < given; i++)
		if (pairs[i].chain)
			row_take(&next->rows[i], &pairs[i], "");
	for (uint32_t i = given; i < count; i++)
		load_auto(x, &next->rows[i], &pairs[i]);
	if (x->first)
		resume_pairs(c, x, pairs, problems);
	problems_sort(problems);
	if (problems->errors)
		r = conf_problems_error(problems, x->conf->path, e);
	else
		r = next->fd = certs_seal(next->rows, pairs, count, x->before, e);
	for (uint32_t i = 0; i < count; i++)
		pair_fini(&pairs[i]);
	return r < 0 ? r : 0;
}

int control_certs_load(struct control *c, const struct conf *conf, struct conf_problems *problems, struct err *e)
{
	CLEANUP(certs_unmap) struct certs_mapped m = certs_map(c->certs.fd);
	struct candidate x = {m.certs, conf, !c->conf};
	int r;

	control_certs_forget(c);
	if (!conf->certificate_count && !conf->auto_count)
		return 0;
	prctl(PR_SET_DUMPABLE, 0, 0, 0, 0); /* keys pass through this memory */
	if (conf->auto_count)
		control_acme_account(c);
	r = load(c, &x, problems, e);
	if (r < 0)
		control_certs_forget(c);
	return r;
}

void control_certs_forget(struct control *c)
{
	set_fini(&c->certs_next);
}

static void send(struct control *c)
{
	struct msg_certs m = {clock_wall_ms()};

	if (c->certs.fd >= 0)
		msg_send(&c->keeper, MSG_CERTS, &m, NULL, 0, &c->certs.fd, 1);
	log_info("certificates", "generation=%llu pairs=%u", (unsigned long long)m.generation, c->certs.count);
}

static bool is_watched(const struct control *c, int watch)
{
	for (uint32_t i = 0; i < c->certs.count; i++)
		if (c->certs.rows[i].watch[0] == watch || c->certs.rows[i].watch[1] == watch)
			return true;
	return false;
}

void control_certs_watch(struct control *c)
{
	for (uint32_t i = 0; c->watch.fd >= 0 && i < c->certs.count; i++) {
		for (int f = 0; f < 2; f++) {
			CLEANUP_FREE char *dir = util_strdup(c->certs.rows[i].path[f]);
			char *slash = strrchr(dir, '/');

			if (slash)
				slash[slash == dir] = '\0';
			c->certs.rows[i].watch[f] =
			    inotify_add_watch(c->watch.fd, slash ? dir : ".", WATCHED);
		}
	}
}

void control_certs_swap(struct control *c)
{
	struct control_cert_set old = c->certs;

	c->certs = c->certs_next;
	c->certs_next = (struct control_cert_set){.fd = -1};
	if (!c->certs.count) { /* the keys of tickets, for when there are some again */
		c->certs.fd = TAKE_FD(old.fd);
	} else {
		send(c);
		control_certs_watch(c);
	}
	for (uint32_t i = 0; i < old.count; i++)
		for (int f = 0; f < 2; f++)
			if (old.rows[i].watch[f] > 1 && !is_watched(c, old.rows[i].watch[f]))
				inotify_rm_watch(c->watch.fd, old.rows[i].watch[f]);
	set_fini(&old);
	loop_timer_set(&c->loop, &c->certs_timer, c->loop.now_ms + LOOK_MS);
	control_acme_look(c);
}

void control_certs_held(struct control *c, struct msg *m)
{
	if (m->fds_len != 1 || c->conf || c->certs.count)
		return;
	if (c->certs.fd >= 0)
		close(c->certs.fd);
	c->certs.fd = TAKE_FD(m->fds[0]);
}

/* --- what changes later --- */

/* Fills the pair that the row shall have from now on. Returns whether it is another. */
static bool renew(struct control_cert *row, const struct certs *before, bool changed, struct pair *ret)
{
	uint64_t now = clock_wall_ms();
	struct pair p = {0};
	struct err e;

	if (changed && pair_load(row->path[0], row->path[1], &p, &e) == 0) {
		bool same = is_same(before, row->id, &p);

		if (!same && p.until_ms <= now)
			err_set(&e, ERR_INPUT, "%s has expired", row->path[0]);
		else if (!same && p.from_ms > now)
			err_set(&e, ERR_INPUT, "%s is not valid yet", row->path[0]);
		else {
			row_take(row, &p, "");
			*ret = p;
			return !same;
		}
		pair_fini(&p);
	}
	if (changed) {
		util_text(row->problem, sizeof(row->problem), e.msg);
		log_warn("certificate.refused", "file=%s reason=\"%s\" using=\"the one before\"", row->path[0],
			 e.msg);
	}
	ensure(pair_before(before, row->id, ret) || row->automatic);
	return false;
}

static void look(struct loop_timer *t)
{
	struct control *c = container_of(t, struct control, certs_timer);
	CLEANUP(certs_unmap) struct certs_mapped m = certs_map(c->certs.fd);
	uint64_t now = clock_wall_ms();
	struct pair *pairs;
	bool changed = false, other = false;
	struct err e;
	int fd;

	if (!c->certs.count || !m.certs)
		return;
	loop_timer_set(&c->loop, t, c->loop.now_ms + LOOK_MS);
	for (uint32_t i = 0; i < c->certs.count; i++)
		changed |= c->certs.rows[i].changed = look_at_files(&c->certs.rows[i]);
	tell_status_changed(c->tell);
	if (!changed && m.certs->tickets[0].made_ms <= now && now - m.certs->tickets[0].made_ms < CERTS_TICKET_MS)
		return;
	pairs = util_alloc(c->certs.count * sizeof(*pairs));
	for (uint32_t i = 0; i < c->certs.count; i++)
		other |= renew(&c->certs.rows[i], m.certs, c->certs.rows[i].changed, &pairs[i]);
	fd = other || !changed ? certs_seal(c->certs.rows, pairs, c->certs.count, m.certs, &e) : -1;
	for (uint32_t i = 0; i < c->certs.count; i++)
		pair_fini(&pairs[i]);
	free(pairs);
	if (fd >= 0) {
		close(c->certs.fd);
		c->certs.fd = fd;
		send(c);
	} else if (other || !changed) {
		log_error("certificates", "reason=\"%s\"", e.msg);
	}
}

void control_certs_look(struct control *c)
{
	look(&c->certs_timer);
}

void control_certs_changed(struct control *c)
{
	if (!c->certs.count)
		return;
	/* Not put off by each event: a folder where something is always written must not starve it. */
	if (!c->certs_timer.armed || c->certs_timer.at_ms > c->loop.now_ms + SETTLE_MS)
		loop_timer_set(&c->loop, &c->certs_timer, c->loop.now_ms + SETTLE_MS);
}

void control_certs_init(struct control *c)
{
	c->certs.fd = c->certs_next.fd = -1;
	c->certs_timer.on_time = look;
}

/* --- telling --- */

static const char *status_of(struct control *c, const struct control_cert *row, char reason[500])
{
	uint64_t now = clock_wall_ms();
	char when[CLOCK_TEXT];

	clock_text(row->until_ms, when);
	if (row->automatic)
		return control_acme_status(c, row, reason);
	if (row->until_ms <= now) {
		snprintf(reason, 500, "it expired %s%s%s", when, row->problem[0] ? "; " : "", row->problem);
		return "ugly";
	}
	if (row->problem[0]) {
		snprintf(reason, 500, "the files changed and cannot be used: %s; the one before stays, until %s",
			 row->problem, when);
		return "bad";
	}
	snprintf(reason, 500, "valid until %s", when);
	return row->until_ms - now < PAIR_WARN_MS ? "bad" : "good";
}

json_t *control_certs_json(void *arg)
{
	struct control *c = arg;
	json_t *list = json_array();

	for (uint32_t i = 0; i < c->certs.count; i++) {
		const struct control_cert *row = &c->certs.rows[i];
		char when[CLOCK_TEXT], reason[500];
		const json_t *names = row->automatic ? row->automatic->names : row->names;
		const char *status = status_of(c, row, reason);

		const char *first = json_string_value(json_array_get(names, 0));
		json_t *o = json_pack("{s:s, s:O, s:s, s:s, s:s, s:s}", "name", first ? first : row->path[0], "names", names,
				      "file", row->path[0], "expires", row->until_ms ? clock_text(row->until_ms, when) : "",
				      "status", status, "reason", reason);

		if (row->automatic)
			json_object_set_new(o, "auto", control_acme_json(row));
		json_array_append_new(list, o);
	}
	return list;
}
