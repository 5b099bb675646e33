/* SPDX-License-Identifier: Apache-2.0
 *
 * The shipping shell without processes: this program is the keeper (it reads the orders and tells of
 * instances) and the router (it writes into the numbers). State and store are real, in a fresh folder.
 */
#include "unit.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <sqlite3.h>

#include "base/clock.h"
#include "base/log.h"
#include "ship/ship.h"
#include "state/state_priv.h"

#define ORDERS_MAX 512

struct order_seen {
	enum msg_type type;
	uint64_t id; /* of the instance; of a TABLE its generation */
	char name[MSG_NAME];
	char env[4096]; /* a line each */
};

static struct err e;
static struct loop loop;
static struct msg_channel keeper;
static struct ship ship;
static struct shm *shm;
static struct conf *conf;
static char folder[64];
static struct order_seen orders[ORDERS_MAX];
static uint32_t order_count;
static char *table; /* the newest */
static char last_end[256]; /* the change that ended last: "2 undone: reason" */

static const char config[] = "apps:\n"
			     "  web:\n"
			     "    hosts: ['*']\n"
			     "    run: ./serve --port $PORT\n"
			     "    instances: 2\n"
			     "    bake: 0s\n"
			     "    ready: { within: 60s }\n";

static void on_order(struct msg_channel *ch UNUSED, struct msg *m)
{
	struct order_seen *o = &orders[order_count];

	assert_true(order_count++ < ORDERS_MAX);
	*o = (struct order_seen){.type = m->type};
	if (m->type == MSG_START) {
		const struct msg_start *s = m->body;
		const char *argv[8], *env[64];
		size_t at = 0;

		o->id = s->id;
		util_copy(o->name, sizeof(o->name), s->name);
		assert_true(msg_strings(m, &at, s->argc, argv) && msg_strings(m, &at, s->envc, env));
		for (uint32_t i = 0; i < s->envc; i++) {
			strcat(o->env, env[i]);
			strcat(o->env, "\n");
		}
	} else if (m->type == MSG_STOP) {
		o->id = ((const struct msg_stop *)m->body)->id;
	} else if (m->type == MSG_TABLE) {
		off_t size = lseek(m->fds[0], 0, SEEK_END);

		free(table);
		table = util_alloc((size_t)size);
		assert_int_equal(pread(m->fds[0], table, (size_t)size, 0), size);
		o->id = ((const struct msg_table *)m->body)->generation;
		for (uint32_t t = 0; t < shm->threads; t++) /* the router takes it up */
			atomic_store(&shm->thread[t].generation, o->id);
	}
}

static void on_keeper_end(struct msg_channel *ch UNUSED, const char *reason)
{
	fail_msg("the channel ended: %s", reason);
}

static void on_change(void *arg UNUSED, struct ship_app *a UNUSED, const struct ship_change *c,
		      const struct ship_step *step)
{
	if (!step)
		snprintf(last_end, sizeof(last_end), "%llu %s: %.200s", (unsigned long long)c->number,
			 c->outcome, c->reason);
}

static void turns(int n)
{
	while (n--)
		loop_turn(&loop, 0);
}

/* Turns until the condition holds; a test that waits in vain fails. */
#define wait_until(cond)                                                                           \
	do {                                                                                       \
		uint64_t until_ = clock_ms() + 10000;                                              \
		while (!(cond)) {                                                                  \
			assert_true(clock_ms() < until_);                                          \
			loop_turn(&loop, 5);                                                       \
		}                                                                                  \
	} while (0)

static void configure(const char *text)
{
	struct conf_problems problems = {0};
	struct conf *c, *old = conf;

	if (conf_parse("upstate.yaml", text, strlen(text), &c, &problems, &e) < 0) {
		CLEANUP_BUF struct buf out = {0};

		conf_problems_print(&problems, "upstate.yaml", &out);
		fail_msg("%s", buf_str(&out));
	}
	conf_problems_free(&problems);
	assert_int_equal(ship_configure(&ship, c, NULL, &e), 0);
	conf = c;
	conf_free(old);
}

/* A controller starts: the state is loaded, the keeper tells nothing but that it is all. */
static void begin(const char *text)
{
	char store[80];
	int fds[2];

	assert_int_equal(msg_pair(fds), 0);
	keeper = (struct msg_channel){.on_msg = on_order, .on_end = on_keeper_end};
	ship = (struct ship){.loop = &loop, .shm = shm, .ops = {.on_change = on_change}};
	ship.keeper = util_alloc(sizeof(*ship.keeper));
	ship.keeper->on_msg = on_order;
	ship.keeper->on_end = on_keeper_end;
	assert_int_equal(msg_channel_open(&keeper, &loop, fds[0]), 0);
	assert_int_equal(msg_channel_open(ship.keeper, &loop, fds[1]), 0);
	util_copy(ship.dir, sizeof(ship.dir), folder);
	snprintf(store, sizeof(store), "%s/store", folder);
	assert_int_equal(state_open(folder, &ship.state, &e), 0);
	assert_int_equal(store_open(store, &ship.store, &e), 0);
	assert_int_equal(ship_open(&ship, &e), 0);
	configure(text);
	ship_synced(&ship);
	turns(3);
}

/* A controller has no end but its process's, so that nothing frees what it knows; and begin() forgets
 * where the one before lay. Leaks cannot be told from that here. */
const char *__asan_default_options(void);
const char *__asan_default_options(void)
{
	return "detect_leaks=0";
}

/* The controller is killed: nothing of it is left but what was saved. (Its memory is let go.) */
static void end(void)
{
	struct ship_app *a;
	struct ship_unit *x;

	loop_timer_fini(&loop, &ship.turn);
	loop_timer_fini(&loop, &ship.retry);
	ship_prune_stop(&ship);
	LIST_EACH (a, &ship.apps, link) {
		loop_timer_fini(&loop, &a->wake);
		loop_timer_fini(&loop, &a->again);
		LIST_EACH (x, &a->units, link)
			(void)x;
	}
	msg_channel_close(&keeper);
	msg_channel_close(ship.keeper);
	store_close(ship.store);
	state_close(ship.state);
}

static int setup(void **state UNUSED)
{
	int fd;

	strcpy(folder, access("/dev/shm", W_OK) == 0 ? "/dev/shm/upstate-ship.XXXXXX"
						     : "/tmp/upstate-ship.XXXXXX");
	if (!mkdtemp(folder) || loop_init(&loop) < 0)
		return -1;
	fd = shm_create(2);
	shm = shm_map(fd);
	close(fd);
	if (shm)
		atomic_store(&shm->used[0], 1); /* there is a router */
	order_count = 0;
	last_end[0] = '\0';
	if (!shm)
		return -1;
	begin(config);
	return 0;
}

static int teardown(void **state UNUSED)
{
	char command[256];

	end();
	conf_free(TAKE(conf));
	shm_unmap(shm);
	loop_fini(&loop);
	free(TAKE(table));
	snprintf(command, sizeof(command), "chmod -R u+rwx %s; rm -rf %s", folder, folder);
	return system(command);
}

static struct ship_app *web(void)
{
	return ship_find(&ship, "web");
}

static void sha256(const char *text, char ret[STORE_HASH])
{
	unsigned char raw[32];

	EVP_Digest(text, strlen(text), raw, NULL, EVP_sha256(), NULL);
	for (int i = 0; i < 32; i++)
		snprintf(ret + 2 * i, 3, "%02x", raw[i]);
}

/* Sends a release of one file with this content and orders its deploy. */
static int try_deploy(const char *content, const char *why, uint64_t *change)
{
	struct store_manifest m;
	struct store_intake *in;
	char hash[STORE_HASH], text[2048], id[STATE_HASH];
	uint64_t objects;
	int n, r;

	ensure(content);
	ship.upload_ms = loop.now_ms; /* as the API does when somebody asks what to send */
	ship_prune_stop(&ship);
	sha256(content, hash);
	n = snprintf(text, sizeof(text), "%.64s %zu x\n%s", hash, strlen(content), content);
	assert_int_equal(store_intake_begin(ship.store, &in, &e), 0);
	assert_int_equal(store_intake_feed(in, text, (size_t)n, &e), 0);
	assert_int_equal(store_intake_end(in, &objects, &e), 0);
	n = snprintf(text, sizeof(text), "upstate-manifest 1\nf 0755 %zu %.64s serve\n", strlen(content), hash);
	assert_int_equal(state_text_put(ship.state, text, (size_t)n, id, &e), 0);
	assert_int_equal(store_manifest_parse(text, (size_t)n, &m, &e), 0);
	r = ship_deploy(web(), &m, "/home/someone/web", "someone", why, change, &e);
	store_manifest_free(&m);
	return r;
}

static uint64_t start_deploy(const char *content)
{
	uint64_t change;

	assert_int_equal(try_deploy(content, "a test", &change), 0);
	wait_until(web()->stage_pipe < 0);
	turns(2);
	return change;
}

static void tell(uint64_t id, enum instance_state state, uint32_t starts, const char *reason)
{
	struct msg_instance m = {.id = id, .state = state, .starts = starts,
				 .pid = state <= INSTANCE_RUNNING ? 100 : 0};

	util_copy(m.reason, sizeof(m.reason), reason);
	ship_on_instance(&ship, &m);
	turns(2);
}

static void probe(uint64_t id, enum target_state state)
{
	struct shm_slot *slot = &shm->slot[ship_slot(&ship, id)];

	atomic_store(&slot->passed, state == TARGET_UP);
	atomic_store(&slot->state, state);
	ship_on_bell(&ship);
	turns(2);
}

/* A world in which all goes well: instances start, get ready and end as ordered. Runs until nothing
 * is ordered any more. */
static void go_on(uint32_t *from)
{
	while (*from < order_count) {
		struct order_seen o = orders[(*from)++];

		if (o.type == MSG_START) {
			tell(o.id, INSTANCE_STARTING, 1, "");
			probe(o.id, TARGET_UP);
		} else if (o.type == MSG_STOP) {
			tell(o.id, INSTANCE_GONE, 1, "exited with status 0 after 1 s");
		}
		ship_on_bell(&ship);
		turns(3);
	}
}

static void finish(uint32_t *from)
{
	wait_until((go_on(from), web()->rollout.phase == ROLLOUT_IDLE && !web()->rollout.change));
}

static uint64_t deployed(const char *content, uint32_t *from)
{
	uint64_t change = start_deploy(content);

	finish(from);
	return change;
}

/* The nth of this type. */
static struct order_seen *order_of(enum msg_type type, uint32_t nth)
{
	for (uint32_t i = 0; i < order_count; i++)
		if (orders[i].type == type && !nth--)
			return &orders[i];
	fail_msg("no such order");
	return NULL;
}

static uint32_t orders_of(enum msg_type type, uint32_t from)
{
	uint32_t n = 0;

	for (; from < order_count; from++)
		n += orders[from].type == type;
	return n;
}

/* From now on (or no more) nothing can be written into the state. */
static void disk(bool full)
{
	const char *sql = full ? "PRAGMA query_only = 1" : "PRAGMA query_only = 0";

	assert_int_equal(sqlite3_exec(ship.state->db, sql, NULL, NULL, NULL), 0);
}

/* --- tests --- */

static void test_a_release_is_deployed(void **state UNUSED)
{
	uint32_t at = 0;

	deployed("one", &at);
	assert_string_equal(last_end, "1 done: ");
	assert_int_equal(web()->rollout.current.release, 1);
	assert_int_equal(orders_of(MSG_START, 0), 2);
	assert_non_null(strstr(order_of(MSG_START, 0)->env, "UPSTATE_INSTANCE=1\n"));
}

static void test_a_start_that_the_keeper_refuses_undoes_the_deploy(void **state UNUSED)
{
	uint32_t at = 0, seen;

	deployed("one", &at);
	seen = order_count;
	start_deploy("two");
	assert_int_equal(orders_of(MSG_START, seen), 1);
	tell(order_of(MSG_START, 2)->id, INSTANCE_GONE, 0, "1024 instances are running, which is the limit");
	finish(&at);
	assert_string_equal(last_end, "2 undone: instance web@2/1 ended: 1024 instances are running, which "
				      "is the limit");
	assert_int_equal(web()->rollout.unit_count, 2);
}

static void test_a_start_that_the_keeper_refuses_is_ordered_again_when_there_is_no_way_back(void **state UNUSED)
{
	uint32_t at = 0, seen;

	deployed("one", &at);
	seen = order_count;
	tell(web()->rollout.units[0].id, INSTANCE_GONE, 0, "no descriptor left");
	assert_int_equal(orders_of(MSG_START, seen), 0);
	wait_until(orders_of(MSG_START, seen) == 1);
	tell(web()->rollout.units[0].id, INSTANCE_GONE, 0, "no descriptor left");
	assert_int_equal(ship_unit(web(), web()->rollout.units[0].id)->refused, 2);
}

static void test_an_undone_deploy_says_what_its_instance_did(void **state UNUSED)
{
	uint32_t at = 0;
	uint64_t id;

	deployed("one", &at);
	start_deploy("two");
	id = order_of(MSG_START, 2)->id;
	tell(id, INSTANCE_STARTING, 1, "");
	tell(id, INSTANCE_WAITING, 1, "exited with status 3 after 0.7 s");
	tell(id, INSTANCE_STARTING, 2, "");
	tell(id, INSTANCE_WAITING, 2, "exited with status 3 after 0.7 s");
	finish(&at);
	assert_string_equal(last_end, "2 undone: instance web@2/1 ended: exited with status 3 after 0.7 s");
}

static void test_settings_that_nothing_has_are_forgotten(void **state UNUSED)
{
	char text[300];
	uint32_t at = 0;

	deployed("one", &at);
	for (int i = 0; i < 12; i++) {
		snprintf(text, sizeof(text), "apps:\n  web:\n    hosts: ['*']\n    run: ./serve %d\n"
					     "    instances: 2\n    bake: 0s\n", i);
		configure(text);
		turns(3);
		finish(&at);
	}
	assert_int_equal(web()->rollout.current.settings, 13);
	assert_true(web()->settings_count <= 4);
}

static uint32_t slots_taken(void)
{
	uint32_t n = 0;

	for (uint32_t i = 0; i < SHM_SLOTS; i++)
		n += shm_get(&shm->slot[i].id) != 0;
	return n;
}

static void test_places_in_the_numbers_are_given_back(void **state UNUSED)
{
	static const char other[] = "apps:\n  other:\n    hosts: ['*']\n    targets: [127.0.0.1:1, 127.0.0.1:2]\n";
	uint32_t at = 0;

	for (int i = 0; i < 5; i++) {
		deployed(i % 2 ? "one" : "two", &at);
		end(); /* with the old instances' places not given back yet */
		begin(config);
	}
	configure("apps:\n  web:\n    hosts: [a]\n    run: ./serve --port $PORT\n    instances: 2\n    bake: 0s\n");
	wait_until((ship_turn(&ship), slots_taken() == 3)); /* as at each beat */
	configure(other);
	wait_until((go_on(&at), web()->rollout.unit_count == 0));
	configure(other);
	ship_table_dirty(&ship);
	turns(5);
	configure("apps:\n  other:\n    hosts: ['*']\n    targets: [127.0.0.1:1]\n");
	wait_until((ship_turn(&ship), slots_taken() == 2));
}

static void test_an_order_for_an_instance_ends_with_it(void **state UNUSED)
{
	uint32_t at = 0;
	uint64_t change;

	deployed("one", &at);
	assert_int_equal(ship_order_target(web(), "web@1/1", USE_FENCE, "someone", "why", &e), 0);
	deployed("two", &at); /* fenced or not, it drains and ends */
	assert_int_equal(ship_rollback(web(), NULL, "someone", "why", &change, &e), 0);
	finish(&at);
	assert_int_equal(ship_use(web(), "web@1/1", USE_SERVE), USE_SERVE);
}

static void test_the_way_back_stays_open_whatever_is_tried(void **state UNUSED)
{
	static const char *const names[] = {"b1", "b2", "b3", "b4", "b5", "b6", "b7", "b8"};
	uint32_t at = 0;
	uint64_t change;

	deployed("one", &at);
	deployed("two", &at);
	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		start_deploy(names[i]);
		assert_int_equal(ship_abort(web(), "someone", "why", &change, &e), 0);
		finish(&at);
	}
	wait_until(!store_has_tree(ship.store, web()->releases[2].id)); /* it was tidied up */
	assert_int_equal(ship_rollback(web(), NULL, "someone", "why", &change, &e), 0);
	finish(&at);
	assert_int_equal(web()->rollout.current.release, 1);
}

static void test_names_of_targets_are_looked_up_aside_and_remembered(void **state UNUSED)
{
	static const char text[] = "apps:\n  old:\n    hosts: ['*']\n    targets: ['localhost:9001']\n";
	CLEANUP(json_decrefp) json_t *last = json_pack("{s:s}", "localhost:9001", "127.0.0.9:9001");
	struct ship_target *t;

	configure(text);
	t = ship_find(&ship, "old")->targets;
	assert_int_equal(t->addr_len, 0);
	wait_until(t->addr_len);
	assert_string_equal(t->problem, "");
	end();
	begin(text);
	assert_true(ship_find(&ship, "old")->targets->addr_len != 0);
	wait_until(ship.lookup.fd < 0);
	json_object_update(ship.addresses, last);
	configure(text); /* the last known one, until another is */
	t = ship_find(&ship, "old")->targets;
	assert_int_equal(t->addr[7], 9);
	wait_until(ship.lookup.fd < 0);
	assert_int_not_equal(t->addr[7], 9);
}

static void test_long_reasons_in_any_language_do_no_harm(void **state UNUSED)
{
	char why[1200];
	uint64_t change;
	uint32_t at = 0;
	json_t *o;

	/* Three bytes each: each bound cuts one of them in half, whatever came before. */
	for (size_t pad = 0; pad < 3; pad++) {
		memset(why, 'x', pad);
		why[pad] = '\0';
		for (int i = 0; i < 300; i++)
			strcat(why, "語");
		assert_int_equal(try_deploy(pad ? "two" : "one", why, &change), 0);
		assert_int_equal(ship_abort(web(), why, why, &change, &e), 0);
		wait_until(web()->stage_pipe < 0);
		assert_true(web()->change->ended_ms != 0);
		deployed(pad == 1 ? "x1" : pad ? "x2" : "x0", &at);
		start_deploy(pad == 1 ? "y1" : pad ? "y2" : "y0");
		assert_int_equal(ship_abort(web(), why, why, &change, &e), 0);
		finish(&at);
		o = ship_change_json(web(), web()->change);
		assert_string_equal(json_string_value(json_object_get(o, "outcome")), "undone");
		json_decref(o);
		assert_int_equal(ship_hold(web(), true, why, why, &e), 0);
		assert_int_equal(ship_hold(web(), false, "x", why, &e), 0);
	}
}

/* The outcomes in the history, by change: "1:done 2:superseded " */
static bool gather_outcomes(void *arg, json_t *record)
{
	json_t *data = json_object_get(record, "data");
	char text[64];

	if (strcmp(json_string_value(json_object_get(record, "kind")), "change.end") == 0) {
		snprintf(text, sizeof(text), "%lld:%.30s ",
			 json_integer_value(json_object_get(data, "change")),
			 json_string_value(json_object_get(data, "outcome")));
		strcat(arg, text);
	}
	return true;
}

static const char *outcomes(void)
{
	static char text[1000];

	text[0] = '\0';
	assert_int_equal(state_history_read(ship.state, "web", 0, 0, 1000, false, gather_outcomes, text, &e), 0);
	return text;
}

static void test_what_cannot_be_saved_is_not_done_but_later(void **state UNUSED)
{
	uint32_t at = 0, seen;
	uint64_t change;

	deployed("one", &at);
	start_deploy("two");
	seen = order_count;
	disk(true);
	go_on(&at);
	assert_int_equal(orders_of(MSG_TABLE, seen), 0);
	assert_int_equal(web()->rollout.unit_count, 3);
	assert_true(ship_abort(web(), "someone", "why", &change, &e) < 0);
	assert_false(web()->rollout.undoing);
	assert_true(ship_rollback(web(), "1", "someone", "why", &change, &e) < 0);
	assert_int_equal(web()->change->number, 2);
	assert_int_equal(web()->change->ended_ms, 0);
	assert_int_equal(ship_hold(web(), true, "someone", "why", &e), 0); /* is never refused */
	disk(false);
	finish(&at);
	assert_string_equal(outcomes(), "1:done 2:done ");
	assert_int_equal(state_history_change(ship.state, 1, &change, &e), 0);
	assert_true(change > 0);
	assert_int_equal(state_history_change(ship.state, 99, &change, &e), 0);
	assert_int_equal(change, 0);
	assert_int_equal(web()->releases[1].before, 1);
	assert_true(web()->held);
	wait_until(json_array_size(web()->unsaved) == 0);
	assert_int_equal(web()->change->step_count, web()->change->told);
}

static void test_settings_whose_beginning_cannot_be_saved_begin_later(void **state UNUSED)
{
	uint32_t at = 0;

	deployed("one", &at);
	disk(true);
	configure("apps:\n  web:\n    hosts: ['*']\n    run: ./serve again\n    instances: 2\n    bake: 0s\n");
	turns(3);
	assert_int_equal(web()->rollout.phase, ROLLOUT_IDLE);
	disk(false);
	wait_until(web()->rollout.phase != ROLLOUT_IDLE);
	finish(&at);
	assert_string_equal(outcomes(), "1:done 2:done ");
	assert_int_equal(web()->rollout.current.settings, 2);
	assert_int_equal(web()->settings_count, 2);
}

static void test_a_rollback_in_the_middle_of_a_deploy_goes_where_it_was_told(void **state UNUSED)
{
	uint32_t at = 0;
	uint64_t change;

	deployed("one", &at);
	deployed("two", &at);
	assert_int_equal(try_deploy("three", "a test", &change), 0); /* its files come in place */
	assert_int_equal(ship_rollback(web(), "web@1", "someone", "why", &change, &e), 0);
	finish(&at);
	wait_until(web()->stage_pipe < 0);
	assert_int_equal(web()->rollout.current.release, 1);
	start_deploy("four"); /* it runs */
	assert_int_equal(ship_rollback(web(), "2", "someone", "why", &change, &e), 0);
	finish(&at);
	assert_int_equal(web()->rollout.current.release, 2);
	assert_string_equal(outcomes(), "1:done 2:done 3:superseded 4:done 5:superseded 6:done ");
}

static void test_an_abort_while_files_come_in_place_is_for_good(void **state UNUSED)
{
	uint64_t change;
	uint32_t at = 0;

	deployed("one", &at);
	assert_int_equal(try_deploy("two", "a test", &change), 0);
	assert_int_equal(ship_abort(web(), "someone", "no", &change, &e), 0);
	/* The controller dies before the child is seen to end. */
	web()->stage_pipe = (close(web()->stage_pipe), -1);
	loop_child_del(&loop, &web()->stage_child);
	end();
	begin(config);
	turns(20);
	assert_int_equal(web()->stage_pipe, -1);
	assert_string_equal(outcomes(), "1:done 2:undone ");
	assert_string_equal(web()->change->reason, "aborted by someone: no");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
#define T(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
		T(test_a_release_is_deployed),
		T(test_what_cannot_be_saved_is_not_done_but_later),
		T(test_settings_whose_beginning_cannot_be_saved_begin_later),
		T(test_a_rollback_in_the_middle_of_a_deploy_goes_where_it_was_told),
		T(test_an_abort_while_files_come_in_place_is_for_good),
		T(test_a_start_that_the_keeper_refuses_undoes_the_deploy),
		T(test_a_start_that_the_keeper_refuses_is_ordered_again_when_there_is_no_way_back),
		T(test_an_undone_deploy_says_what_its_instance_did),
		T(test_settings_that_nothing_has_are_forgotten),
		T(test_places_in_the_numbers_are_given_back),
		T(test_an_order_for_an_instance_ends_with_it),
		T(test_the_way_back_stays_open_whatever_is_tried),
		T(test_names_of_targets_are_looked_up_aside_and_remembered),
		T(test_long_reasons_in_any_language_do_no_harm),
	};

	log_init("test", LOG_ERROR);
	return cmocka_run_group_tests(tests, NULL, NULL);
}
