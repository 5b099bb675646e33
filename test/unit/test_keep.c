/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "keep/kept.h"
#include "wire/shm.h"

/* A keeper without parts: what it says goes nowhere. */
static struct keeper k;
static char state[] = "/tmp/upstate-keep-XXXXXX";

static int setup(void **unused UNUSED)
{
	char run[64];

	memset(&k, 0, sizeof(k));
	for (int i = 0; i < PART_COUNT; i++)
		k.parts[i] = &k.procs[i];
	list_init(&k.instances);
	list_init(&k.listeners);
	k.files_soft = 256;
	k.phase = KEEP_RUNS;
	strcpy(state, "/tmp/upstate-keep-XXXXXX");
	if (!mkdtemp(state) || loop_init(&k.loop) < 0)
		return -1;
	util_copy(k.state, sizeof(k.state), state);
	snprintf(run, sizeof(run), "%s/run", state);
	return mkdir(run, 0711);
}

static int teardown(void **unused UNUSED)
{
	char run[64];
	struct instance *in;

	while (!list_empty(&k.instances)) {
		in = container_of(k.instances.next, struct instance, link);
		in->state = INSTANCE_STOPPING;
		if (in->child.pid)
			kill(in->child.pid, SIGKILL);
		instance_step_on(in, INSTANCE_EVENT_ENDED);
	}
	while (waitpid(-1, NULL, 0) > 0)
		;
	snprintf(run, sizeof(run), "%s/run", state);
	rundir_clear(&k);
	rmdir(run);
	rmdir(state);
	map_free(&k.by_id);
	loop_fini(&k.loop);
	return 0;
}

/* --- orders -------------------------------------------------------------- */

static struct msg_start order_body;
static struct msg order_msg;

/* "sleep 1000" with NAME=x, allowed to write below /tmp. */
static const struct msg *order_for(uint64_t id)
{
	static const char tail[] = "sleep\0"
				   "1000\0"
				   "NAME=x\0"
				   "/tmp";

	order_body = (struct msg_start){.id = id,
					.app = "book",
					.name = "book@1/1",
					.dir = "/",
					.uid = (uint32_t)-1,
					.gid = (uint32_t)-1,
					.argc = 2,
					.envc = 1,
					.writec = 1,
					.stop_signal = SIGTERM,
					.grace_ms = 60000};
	snprintf(order_body.run_dir, sizeof(order_body.run_dir), "%s/run/%llu", state,
		 (unsigned long long)id);
	order_msg = (struct msg){
	    .type = MSG_START, .body = &order_body, .tail = tail, .tail_len = sizeof(tail)};
	return &order_msg;
}

static bool has_env(const struct order *o, const char *start)
{
	for (char **v = o->envp; *v; v++)
		if (!strncmp(*v, start, strlen(start)))
			return true;
	return false;
}

static void an_order_is_copied_with_what_the_keeper_adds(void **unused UNUSED)
{
	const struct msg *m = order_for(1);
	struct order o;
	struct err e;

	assert_int_equal(order_take(&o, m, &e), 0);
	assert_string_equal(o.argv[0], "sleep");
	assert_string_equal(o.argv[1], "1000");
	assert_null(o.argv[2]);
	assert_string_equal(o.writes[0], "/tmp");
	assert_null(o.writes[1]);
	assert_true(has_env(&o, "NAME=x") && has_env(&o, "PATH=/usr/local") &&
		    has_env(&o, "HOME="));
	assert_true(has_env(&o, "TMPDIR=/tmp/upstate-keep"));
	assert_true(has_env(&o, "NOTIFY_SOCKET=/tmp/upstate-keep"));
	order_fini(&o);
}

static void an_order_may_name_its_home_and_path_but_not_the_notify_socket(void **unused UNUSED)
{
	static const char tail[] = "x\0"
				   "HOME=/h\0"
				   "NOTIFY_SOCKET=/evil\0"
				   "PATH=/p";
	struct msg m = *order_for(1);
	struct order o;
	struct err e;

	order_body.argc = 1;
	order_body.envc = 3;
	order_body.writec = 0;
	m.tail = tail;
	m.tail_len = sizeof(tail);
	assert_int_equal(order_take(&o, &m, &e), 0);
	assert_true(has_env(&o, "HOME=/h") && has_env(&o, "PATH=/p"));
	assert_false(has_env(&o, "NOTIFY_SOCKET=/evil"));
	order_fini(&o);
}

static void expect_refused(const struct msg *m, enum err_code code)
{
	struct order o;
	struct err e;

	assert_int_equal(order_take(&o, m, &e), -(int)code);
	order_fini(&o);
}

static void an_order_that_does_not_add_up_is_refused(void **unused UNUSED)
{
	struct msg m = *order_for(1);

	order_body.argc = 0;
	expect_refused(&m, ERR_LIMIT);
	order_body.argc = UINT32_MAX;
	expect_refused(&m, ERR_LIMIT);
	order_body.argc = 3; /* one string too few */
	expect_refused(&m, ERR_PROTO);
	order_body.argc = 1; /* one too many */
	expect_refused(&m, ERR_PROTO);
	m = *order_for(1);
	m.tail_len--; /* without its end */
	expect_refused(&m, ERR_PROTO);
	m = *order_for(1);
	order_body.run_dir[0] = 'x';
	expect_refused(&m, ERR_INPUT);
	m = *order_for(1);
	order_body.dir[0] = 'x';
	expect_refused(&m, ERR_INPUT);
}

static void strings_without_an_end_end_within_their_field(void **unused UNUSED)
{
	const struct msg *m = order_for(1);
	struct order o;
	struct err e;

	memset(order_body.dir, '/', sizeof(order_body.dir));
	memset(order_body.app, 'a', sizeof(order_body.app));
	assert_int_equal(order_take(&o, m, &e), 0);
	assert_int_equal(strlen(o.start.dir), sizeof(o.start.dir) - 1);
	assert_int_equal(strlen(o.start.app), sizeof(o.start.app) - 1);
	order_fini(&o);
}

/* --- the table of states ------------------------------------------------- */

static void no_cell_of_the_table_is_empty(void **unused UNUSED)
{
	for (int s = 0; s < INSTANCE_STATE_COUNT; s++)
		for (int e = 0; e < INSTANCE_EVENT_COUNT; e++)
			assert_non_null(instance_table[s][e]);
}

static void each_event_leads_from_each_state_to_the_right_one(void **unused UNUSED)
{
	/* Rows and columns as in instance.c; GONE is met from the other states. */
	enum {
		S = INSTANCE_STARTING,
		R = INSTANCE_RUNNING,
		W = INSTANCE_WAITING,
		T = INSTANCE_STOPPING,
		G = INSTANCE_GONE
	};
	static const int next[INSTANCE_STATE_COUNT - 1][INSTANCE_EVENT_COUNT] = {
	    /* STARTED READY ENDED TIMER STOP */
	    {S, R, W, S, T},
	    {R, R, W, R, T},
	    {W, W, W, S, G},
	    {T, T, G, T, T},
	};
	uint64_t id = 0;

	for (int s = 0; s < INSTANCE_STATE_COUNT - 1; s++) {
		for (int ev = 0; ev < INSTANCE_EVENT_COUNT; ev++) {
			struct instance *in;
			pid_t pid;

			instance_start(&k, order_for(++id));
			in = map_get(&k.by_id, id);
			assert_non_null(in);
			assert_int_equal(in->state, INSTANCE_STARTING);
			pid = in->child.pid;
			if (s == W || ev == INSTANCE_EVENT_ENDED) { /* then it has no process */
				kill(pid, SIGKILL);
				loop_child_del(&k.loop, &in->child);
				waitpid(pid, NULL, 0);
			}
			in->state = (enum instance_state)s;
			instance_step_on(in, (enum instance_event)ev);
			in = map_get(&k.by_id, id);
			if (next[s][ev] == G)
				assert_null(in);
			else
				assert_int_equal(in->state, next[s][ev]);
		}
	}
}

static void a_start_that_is_told_twice_is_one_start(void **unused UNUSED)
{
	struct instance *in;

	instance_start(&k, order_for(5));
	in = map_get(&k.by_id, 5);
	instance_start(&k, order_for(5));
	assert_ptr_equal(map_get(&k.by_id, 5), in);
	assert_int_equal(in->starts, 1);
	assert_int_equal(k.by_id.len, 1);
}

static void a_refused_instance_leaves_nothing_behind(void **unused UNUSED)
{
	struct stat st;

	order_for(6);
	order_body.argc = 0;
	instance_start(&k, &order_msg);
	assert_null(map_get(&k.by_id, 6));
	order_for(7);
	memset(order_body.run_dir + strlen(order_body.run_dir), 'x', 90); /* no room for a socket */
	instance_start(&k, &order_msg);
	assert_null(map_get(&k.by_id, 7));
	assert_int_equal(stat(order_body.run_dir, &st), -1);
	assert_true(list_empty(&k.instances));
}

static void instances_have_a_limit(void **unused UNUSED)
{
	struct instance *in = NULL;

	for (uint64_t id = 1; id <= KEEP_INSTANCES_MAX; id++)
		map_put(&k.by_id, 100000 + id, &k);
	instance_start(&k, order_for(1));
	in = map_get(&k.by_id, 1);
	assert_null(in);
	for (uint64_t id = 1; id <= KEEP_INSTANCES_MAX; id++)
		map_del(&k.by_id, 100000 + id);
}

static void stop_falls_back_on_kill_and_reports_the_end(void **unused UNUSED)
{
	struct instance *in;
	struct msg_stop stop = {.id = 8, .signal = SIGCONT, .grace_ms = 50}; /* it does not mind */

	instance_start(&k, order_for(8));
	in = map_get(&k.by_id, 8);
	while (in->setup_io.fd >= 0)
		loop_turn(&k.loop, 1000);
	instance_stop(&k, &stop);
	assert_int_equal(in->state, INSTANCE_STOPPING);
	while (map_get(&k.by_id, 8))
		loop_turn(&k.loop, 1000);
}

/* --- who has a port ------------------------------------------------------ */

static void the_owner_of_a_port_is_found(void **unused UNUSED)
{
	struct sockaddr_storage addr = {0};
	struct sockaddr_in *in = (struct sockaddr_in *)&addr;
	socklen_t len = sizeof(addr);
	int fd = socket(AF_INET, SOCK_STREAM, 0);
	char text[96], pid[32];

	in->sin_family = AF_INET;
	in->sin_addr.s_addr = htonl(INADDR_LOOPBACK);
	assert_int_equal(bind(fd, (struct sockaddr *)&addr, sizeof(*in)), 0);
	assert_int_equal(getsockname(fd, (struct sockaddr *)&addr, &len), 0);
	assert_false(owner_of_port(&addr, text, sizeof(text))); /* bound, but does not listen */
	assert_int_equal(listen(fd, 1), 0);
	assert_true(owner_of_port(&addr, text, sizeof(text)));
	snprintf(pid, sizeof(pid), "(pid %d)", (int)getpid());
	assert_non_null(strstr(text, pid));
	assert_non_null(strstr(text, "test_keep"));
	close(fd);
}

/* --- what another program takes over -------------------------------------- */

static int memory_of(const void *data, size_t len)
{
	int fd = memfd_create("kept", MFD_CLOEXEC);

	assert_int_equal(write(fd, data, len), (ssize_t)len);
	return fd;
}

static bool is_read(const void *data, size_t len)
{
	int fd = memory_of(data, len);
	struct kept kept;
	struct err e;
	int rc = kept_read(fd, &kept, &e);

	kept_free(&kept);
	close(fd);
	return rc == 0;
}

/* The keeper with an instance and a socket, written down; the bytes are the caller's. */
static char *written(size_t *ret_len)
{
	struct msg_listen l = {.id = 5, .addr = "127.0.0.1:1"};
	struct stat st;
	struct err e;
	char *data;
	int fd;

	k.lock_fd = k.tables[0].fd = k.tables[1].fd = -1;
	for (int i = 0; i < SHARED_COUNT; i++)
		k.shared[i] = -1;
	k.shared[SHARED_NUMBERS] = shm_create(SHM_BANKS);
	k.removed = 77;
	listen_adopt(&k, &l, -1, 3);
	instance_start(&k, order_for(1));
	fd = kept_write(&k, &e);
	assert_true(fd >= 0 && fstat(fd, &st) == 0);
	assert_int_equal(write(fd, "x", 1), -1); /* sealed */
	*ret_len = (size_t)st.st_size;
	data = util_alloc(*ret_len);
	assert_int_equal(pread(fd, data, *ret_len, 0), st.st_size);
	close(fd);
	return data;
}

static void forget_listeners(void)
{
	listen_drop_all(&k, false);
	close(k.shared[SHARED_NUMBERS]);
}

static void what_a_keeper_holds_is_taken_over(void **unused UNUSED)
{
	static struct keeper other;
	struct instance *in, *was;
	size_t len;
	CLEANUP_FREE char *data = written(&len);
	int fd = memory_of(data, len);
	struct kept kept;
	struct err e;

	memset(&other, 0, sizeof(other));
	list_init(&other.instances);
	list_init(&other.listeners);
	for (int i = 0; i < PART_COUNT; i++)
		part_init(&other, i);
	assert_int_equal(loop_init(&other.loop), 0);
	assert_int_equal(kept_read(fd, &kept, &e), 0);
	assert_int_equal(kept_adopt(&other, &kept, &e), 0);
	kept_free(&kept);
	close(fd);
	assert_string_equal(other.state, k.state);
	assert_int_equal(other.removed, 77);
	assert_int_equal(other.listener_count, 1);
	was = map_get(&k.by_id, 1);
	in = map_get(&other.by_id, 1);
	assert_non_null(in);
	assert_int_equal(in->child.pid, was->child.pid);
	assert_int_equal(in->out[0], was->out[0]);
	assert_int_equal(in->state, INSTANCE_STARTING);
	assert_string_equal(in->order.argv[1], "1000");
	assert_true(has_env(&in->order, "NAME=x") && has_env(&in->order, "NOTIFY_SOCKET="));
	loop_child_del(&other.loop, &in->child);
	order_fini(&in->order);
	free(in);
	free(container_of(other.listeners.next, struct listener, link));
	map_free(&other.by_id);
	free(other.passed);
	shm_unmap(other.shm);
	loop_fini(&other.loop);
	forget_listeners();
}

static void what_a_keeper_cannot_hold_is_refused(void **unused UNUSED)
{
	size_t len, at = sizeof(struct kept_head) + sizeof(struct kept_keeper);
	CLEANUP_FREE char *data = written(&len);
	struct kept_head *h = (void *)data;
	struct kept_part *parts = (void *)(data + at);
	struct kept_instance *in = (void *)(data + at + PART_COUNT * sizeof(*parts) + sizeof(struct kept_listener));
	uint32_t *changed[] = {&h->magic, &h->format, &h->messages, &h->numbers, &h->parts, &h->listeners,
			       &h->instances, &parts[1].part, &parts[1].state, &parts[1].bank,
			       &parts[1].proc, &in->tail_len, &in->state};

	assert_true(is_read(data, len));
	for (size_t i = 0; i < ARRAY_LEN(changed); i++) {
		uint32_t before = *changed[i];

		*changed[i] = before + 100;
		assert_false(is_read(data, len));
		*changed[i] = before;
	}
	parts[1].proc = parts[2].proc; /* one process cannot be two parts */
	assert_false(is_read(data, len));
	parts[1].proc = 1;
	assert_true(is_read(data, len));
	for (size_t n = 1; n < len; n += 37) {
		h->size = n;
		assert_false(is_read(data, n));
	}
	forget_listeners();
}

static void an_end_is_said_in_words(void **unused UNUSED)
{
	char text[100];

	assert_string_equal(part_says_end(3 << 8, 40, text, sizeof(text)),
			    "exited with status 3 after 40 ms");
	assert_string_equal(part_says_end(9, 2400, text, sizeof(text)),
			    "killed by signal 9 (KILL) after 2.4 s");
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    T(an_order_is_copied_with_what_the_keeper_adds),
	    T(an_order_may_name_its_home_and_path_but_not_the_notify_socket),
	    T(an_order_that_does_not_add_up_is_refused),
	    T(strings_without_an_end_end_within_their_field),
	    cmocka_unit_test(no_cell_of_the_table_is_empty),
	    T(each_event_leads_from_each_state_to_the_right_one),
	    T(a_start_that_is_told_twice_is_one_start),
	    T(a_refused_instance_leaves_nothing_behind),
	    T(instances_have_a_limit),
	    T(stop_falls_back_on_kill_and_reports_the_end),
	    cmocka_unit_test(the_owner_of_a_port_is_found),
	    T(what_a_keeper_holds_is_taken_over),
	    T(what_a_keeper_cannot_hold_is_refused),
	    cmocka_unit_test(an_end_is_said_in_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
