/* SPDX-License-Identifier: Apache-2.0
 *
 * What is remembered survives: SIGKILL at every single write, a write or fsync that fails, each in
 * turn, and a full disk. A layer below SQLite (its VFS) counts the writes of a scripted life:
 *
 *	open, 6 steps, close (writes the log back), open, 6 steps, close
 *
 * Afterwards exactly the steps that were answered are there (or, when killed, the one in hand as
 * well), the chain verifies, and going on leads to the same end as a life without a fault.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <sqlite3.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "state/state.h"

#define T0 1795311555123ull
#define STEPS 12

static char dir[64];

/* --- the layer below SQLite --- */

enum fault { FAULT_NONE, FAULT_KILL, FAULT_TORN, FAULT_IOERR, FAULT_FULL, FAULT_FULL_FROM };

static struct {
	enum fault fault;
	uint32_t at;	/* the operation that it befalls, from 1 */
	uint32_t count; /* operations so far */
} plan;

struct shim {
	sqlite3_file base;
	sqlite3_file *real;
};

static sqlite3_file *real(sqlite3_file *f)
{
	return ((struct shim *)f)->real;
}

/* Called before each operation that changes the disk: what it shall return instead, or SQLITE_OK.
 * Only a write can be torn, or find the disk full. */
static int befall(bool write)
{
	bool hit = ++plan.count == plan.at;

	switch (plan.fault) {
	case FAULT_TORN:
		if (write)
			return SQLITE_OK;
		/* fall through */
	case FAULT_KILL:
		if (hit)
			kill(getpid(), SIGKILL);
		return SQLITE_OK;
	case FAULT_IOERR:
		return hit ? SQLITE_IOERR : SQLITE_OK;
	case FAULT_FULL:
		return hit && write ? SQLITE_FULL : SQLITE_OK;
	case FAULT_FULL_FROM:
		return plan.count >= plan.at && write ? SQLITE_FULL : SQLITE_OK;
	default:
		return SQLITE_OK;
	}
}

static int shim_close(sqlite3_file *f)
{
	int r = real(f)->pMethods->xClose(real(f));

	free(real(f));
	return r;
}

static int shim_read(sqlite3_file *f, void *p, int n, sqlite3_int64 at)
{
	return real(f)->pMethods->xRead(real(f), p, n, at);
}

static int shim_write(sqlite3_file *f, const void *p, int n, sqlite3_int64 at)
{
	int r = befall(true);

	if (plan.fault == FAULT_TORN && plan.count == plan.at) {
		real(f)->pMethods->xWrite(real(f), p, n / 2, at);
		kill(getpid(), SIGKILL);
	}
	/* a disk that fills up takes a part */
	if (r == SQLITE_FULL)
		real(f)->pMethods->xWrite(real(f), p, n / 2, at);
	return r != SQLITE_OK ? r : real(f)->pMethods->xWrite(real(f), p, n, at);
}

static int shim_truncate(sqlite3_file *f, sqlite3_int64 size)
{
	int r = befall(false);

	return r != SQLITE_OK ? r : real(f)->pMethods->xTruncate(real(f), size);
}

static int shim_sync(sqlite3_file *f, int flags)
{
	int r = befall(false);

	return r != SQLITE_OK ? r : real(f)->pMethods->xSync(real(f), flags);
}

static int shim_size(sqlite3_file *f, sqlite3_int64 *ret)
{
	return real(f)->pMethods->xFileSize(real(f), ret);
}

static int shim_lock(sqlite3_file *f, int how)
{
	return real(f)->pMethods->xLock(real(f), how);
}

static int shim_unlock(sqlite3_file *f, int how)
{
	return real(f)->pMethods->xUnlock(real(f), how);
}

static int shim_reserved(sqlite3_file *f, int *ret)
{
	return real(f)->pMethods->xCheckReservedLock(real(f), ret);
}

static int shim_control(sqlite3_file *f, int op, void *arg)
{
	return real(f)->pMethods->xFileControl(real(f), op, arg);
}

static int shim_sector(sqlite3_file *f)
{
	return real(f)->pMethods->xSectorSize(real(f));
}

static int shim_traits(sqlite3_file *f)
{
	return real(f)->pMethods->xDeviceCharacteristics(real(f));
}

/* Version 1: without shared memory, which a single connection does not need. */
static const sqlite3_io_methods shim_methods = {
    .iVersion = 1,
    .xClose = shim_close,
    .xRead = shim_read,
    .xWrite = shim_write,
    .xTruncate = shim_truncate,
    .xSync = shim_sync,
    .xFileSize = shim_size,
    .xLock = shim_lock,
    .xUnlock = shim_unlock,
    .xCheckReservedLock = shim_reserved,
    .xFileControl = shim_control,
    .xSectorSize = shim_sector,
    .xDeviceCharacteristics = shim_traits,
};

static int shim_open(sqlite3_vfs *vfs, const char *name, sqlite3_file *f, int flags, int *ret_flags)
{
	sqlite3_vfs *below = vfs->pAppData;
	struct shim *s = (struct shim *)f;
	int r;

	s->base.pMethods = NULL;
	s->real = calloc(1, (size_t)below->szOsFile);
	assert_non_null(s->real);
	r = below->xOpen(below, name, s->real, flags, ret_flags);
	if (s->real->pMethods)
		s->base.pMethods = &shim_methods;
	else
		free(s->real);
	return r;
}

static int shim_delete(sqlite3_vfs *vfs, const char *name, int sync)
{
	sqlite3_vfs *below = vfs->pAppData;
	int r = befall(false);

	return r != SQLITE_OK ? SQLITE_IOERR_DELETE : below->xDelete(below, name, sync);
}

static void shim_register(void)
{
	static sqlite3_vfs vfs;

	vfs = *sqlite3_vfs_find(NULL);
	vfs.pAppData = sqlite3_vfs_find(NULL);
	vfs.zName = "shim";
	vfs.szOsFile = sizeof(struct shim);
	vfs.xOpen = shim_open;
	vfs.xDelete = shim_delete;
	assert_int_equal(sqlite3_vfs_register(&vfs, 1), SQLITE_OK);
}

/* --- the scripted life --- */

/* Step i, in one transaction; odd ones are single calls. Its record has the number i + 1. */
static int step(struct state *s, int i, struct err *e)
{
	json_t *data = json_pack("{s:i}", "step", i);
	char text[3000], hash[STATE_HASH], id[16];
	uint64_t seq;
	bool changed;
	int r = 0;

	if (i % 2 == 0) {
		memset(text, 'a' + i, sizeof(text));
		snprintf(id, sizeof(id), "device/%d", i % 3);
		r = state_begin(s, e);
		if (r == 0) {
			state_text_put(s, text, sizeof(text), hash, e);
			state_put(s, "step", data, e);
			if (i == 6)
				state_device_del(s, "device/0", e);
			state_device_put(s, id, "app", i % 4 ? "good" : "bad", "", data, T0,
					 &changed, e);
			state_history_add(s, T0 + (uint64_t)i, "group", "app", data, &seq, e);
			r = state_commit(s, e);
		}
	} else {
		r = state_history_add(s, T0 + (uint64_t)i, "single", "app", data, &seq, e);
	}
	json_decref(data);
	return r;
}

static bool dump_record(void *arg, json_t *record)
{
	buf_addf(arg, "%s\n", json_string_value(json_object_get(record, "hash")));
	return true;
}

static bool dump_value(void *arg, const char *key, json_t *value)
{
	char *text = json_dumps(value, JSON_COMPACT);

	buf_addf(arg, "%s=%s\n", key, text);
	free(text);
	return true;
}

static bool dump_device(void *arg, const struct state_device *d)
{
	buf_addf(arg, "%s %s %s %llu %s\n", d->id, d->status, d->since, (unsigned long long)d->seq,
		 d->body);
	return true;
}

/* Everything that is remembered, as text. Checks that it is whole on the way. */
static void dump(struct state *s, struct buf *ret)
{
	struct state_usage u;
	uint64_t records;
	struct err e = {0};

	if (state_history_verify(s, &records, &e) < 0)
		fail_msg("%s", e.msg);
	ret->len = 0;
	assert_int_equal(state_history_read(s, NULL, 0, 0, 1000, false, dump_record, ret, &e), 0);
	assert_int_equal(state_each(s, "", dump_value, ret, &e), 0);
	assert_int_equal(state_device_each(s, NULL, dump_device, ret, &e), 0);
	assert_int_equal(state_usage(s, &u, &e), 0);
	buf_addf(ret, "%llu %llu %llu\n", (unsigned long long)u.records, (unsigned long long)u.keys,
		 (unsigned long long)u.devices);
}

static void clear(void)
{
	static const char *const files[] = {"state.db", "state.db-wal", "state.db-journal",
					    "state.db-shm", "reserve"};
	char path[128];

	for (size_t i = 0; i < ARRAY_LEN(files); i++) {
		snprintf(path, sizeof(path), "%s/%s", dir, files[i]);
		unlink(path);
	}
}

/* What is remembered after each number of steps, in lives without a fault. */
static struct buf expected[STEPS + 1];

static struct state *open_healthy(void)
{
	struct state *s = NULL;
	struct err e = {0};

	plan.fault = FAULT_NONE;
	if (state_open(dir, &s, &e) < 0)
		fail_msg("%s", e.msg);
	return s;
}

static int setup_group(void **unused UNUSED)
{
	struct state *s;
	struct err e = {0};

	snprintf(dir, sizeof(dir), "%s/upstate-faults-XXXXXX",
		 access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
	assert_non_null(mkdtemp(dir));
	shim_register();
	s = open_healthy();
	for (int i = 0; i <= STEPS; i++) {
		dump(s, &expected[i]);
		if (i < STEPS)
			assert_int_equal(step(s, i, &e), 0);
	}
	state_close(s);
	clear();
	return 0;
}

static int teardown_group(void **unused UNUSED)
{
	for (int i = 0; i <= STEPS; i++)
		buf_free(&expected[i]);
	clear();
	return rmdir(dir);
}

/* How many steps are remembered; what is there must be exactly what they leave behind. */
static uint64_t steps_done(struct state *s)
{
	CLEANUP_BUF struct buf now = {0};
	char hash[STATE_HASH];
	uint64_t n;

	assert_int_equal(state_history_head(s, &n, hash, NULL), 0);
	assert_true(n <= STEPS);
	dump(s, &now);
	assert_string_equal(buf_str(&now), buf_str(&expected[n]));
	return n;
}

/* --- killed --- */

/* Writes the number of answered steps where the parent sees it. */
static void child_life(enum fault fault, uint32_t at, volatile uint32_t *answered)
{
	struct state *s = NULL;
	struct err e;

	plan.fault = fault;
	plan.at = at;
	plan.count = 0;
	for (int i = 0; i < STEPS; i++) {
		if (i % 6 == 0) {
			state_close(s);
			if (state_open(dir, &s, &e) < 0)
				_exit(1);
		}
		if (step(s, i, &e) < 0)
			_exit(1);
		*answered = (uint32_t)i + 1;
	}
	state_close(s);
	_exit(0);
}

/* False when the child came to its end. */
static bool killed_at(enum fault fault, uint32_t at, volatile uint32_t *answered)
{
	int status;
	pid_t pid;

	*answered = 0;
	pid = fork();
	assert_true(pid >= 0);
	if (pid == 0)
		child_life(fault, at, answered);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	if (WIFEXITED(status)) {
		assert_int_equal(WEXITSTATUS(status), 0);
		return false;
	}
	assert_int_equal(WTERMSIG(status), SIGKILL);
	return true;
}

static void kill_at_every_write(enum fault fault)
{
	volatile uint32_t *answered = mmap(NULL, sizeof(*answered), PROT_READ | PROT_WRITE,
					   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	uint32_t in_hand = 0, at = 1;
	struct err e = {0};

	assert_ptr_not_equal(answered, MAP_FAILED);
	for (;; at++) {
		bool killed = killed_at(fault, at, answered);
		struct state *s = open_healthy();
		uint64_t done = steps_done(s);

		assert_in_range(done, *answered, *answered + (killed ? 1 : 0));
		in_hand += done > *answered;
		for (uint64_t i = done; i < STEPS; i++)
			assert_int_equal(step(s, (int)i, &e), 0);
		assert_int_equal(steps_done(s), STEPS);
		state_close(s);
		clear();
		if (!killed)
			break;
	}
	/* The life has that many writes, and some kills came between the commit and the answer. */
	assert_true(at > 5 * STEPS);
	assert_true(in_hand > 0);
	print_message("%u places to be killed at, %u with the step in hand kept\n", at - 1,
		      in_hand);
	munmap((void *)answered, sizeof(*answered));
}

static void killed_before_any_write_it_keeps_exactly_what_was_answered(void **unused UNUSED)
{
	kill_at_every_write(FAULT_KILL);
}

static void killed_in_the_middle_of_any_write_it_keeps_exactly_what_was_answered(void **unused UNUSED)
{
	kill_at_every_write(FAULT_TORN);
}

/* --- failing --- */

/* A life in this process where operations may fail; every step is tried until it succeeds. Returns
 * how many calls failed. */
static uint32_t stubborn_life(enum fault fault, uint32_t at, enum err_code expect)
{
	struct state *s = NULL;
	uint32_t failed = 0;
	struct err e = {0};

	plan.fault = fault;
	plan.at = at;
	plan.count = 0;
	for (int i = 0; i < STEPS; i++) {
		int r;

		if (i % 6 == 0) {
			state_close(s);
			s = NULL;
			r = state_open(dir, &s, &e);
			if (r < 0) {
				if (r != -(int)expect)
					fail_msg("open, operation %u: %s", plan.count, e.msg);
				failed++;
				s = open_healthy();
			}
		}
		while ((r = step(s, i, &e)) < 0) {
			if (r != -(int)expect || ++failed > 10)
				fail_msg("step %d, operation %u: %s", i, plan.count, e.msg);
			assert_int_equal(steps_done(s), i);
			/* a disk that stays full is made room on */
			if (fault == FAULT_FULL_FROM)
				plan.fault = FAULT_NONE;
		}
		assert_int_equal(steps_done(s), i + 1);
	}
	state_close(s);
	return failed;
}

static void fail_every_write(enum fault fault, enum err_code expect)
{
	uint32_t failed = 0, at = 1;

	do {
		struct state *s;

		failed += stubborn_life(fault, at, expect);
		s = open_healthy();
		assert_int_equal(steps_done(s), STEPS);
		state_close(s);
		clear();
	} while (at++ <= plan.count);
	assert_true(at > 5 * STEPS);
	assert_true(failed > at / 4);
	print_message("%u operations failed in turn, %u calls said so\n", at - 1, failed);
}

static void any_write_that_fails_undoes_its_call_and_nothing_else(void **unused UNUSED)
{
	fail_every_write(FAULT_IOERR, ERR_SYS);
}

static void a_disk_full_for_one_write_undoes_its_call_and_nothing_else(void **unused UNUSED)
{
	fail_every_write(FAULT_FULL, ERR_FULL);
}

static void a_disk_full_from_any_write_on_undoes_its_call_and_nothing_else(void **unused UNUSED)
{
	fail_every_write(FAULT_FULL_FROM, ERR_FULL);
}

/* --- a disk that is full --- */

static void fill_disk(const char *path)
{
	static const char block[65536];
	int fd = open(path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
	size_t n = sizeof(block);

	assert_true(fd >= 0);
	while (n)
		if (write(fd, block, n) < 0) {
			assert_int_equal(errno, ENOSPC);
			n /= 2;
		}
	close(fd);
}

static uint64_t add_until_full(struct state *s)
{
	char filler[4000];
	json_t *data;
	uint64_t seq, added = 0;
	struct err e = {0};
	int r;

	memset(filler, 'f', sizeof(filler) - 1);
	filler[sizeof(filler) - 1] = '\0';
	data = json_pack("{s:s}", "filler", filler);
	while ((r = state_history_add(s, T0, "filler", "", data, &seq, &e)) == 0)
		assert_true(++added < 100000);
	assert_int_equal(r, -ERR_FULL);
	assert_non_null(strstr(e.msg, "no space left"));
	json_decref(data);
	return added;
}

static void life_on_a_full_disk(void)
{
	char ballast[128];
	struct state *s = open_healthy();
	uint64_t added, more, records;
	struct state_usage u;
	struct stat st;
	struct err e = {0};

	snprintf(ballast, sizeof(ballast), "%s/ballast", dir);
	assert_int_equal(state_usage(s, &u, &e), 0);
	assert_true(u.reserve);
	fill_disk(ballast);
	assert_int_equal(stat(ballast, &st), 0);
	assert_int_equal(truncate(ballast, st.st_size - (1 << 20)), 0);
	added = add_until_full(s);
	assert_true(added > 0);
	assert_int_equal(state_history_verify(s, &records, &e), 0);
	assert_int_equal(records, added);

	/* the reserve is the database's, even when others go on filling the disk */
	assert_true(state_reserve_use(s));
	fill_disk(ballast);
	more = add_until_full(s);
	print_message("%u records, and %u more in the reserve\n", (unsigned)added, (unsigned)more);
	assert_true(more > 500);
	assert_false(state_reserve_use(s));
	assert_int_equal(state_history_verify(s, &records, &e), 0);
	assert_int_equal(records, added + more);

	/* closed and opened while full */
	state_close(s);
	s = open_healthy();
	assert_int_equal(state_history_verify(s, &records, &e), 0);
	assert_int_equal(records, added + more);
	state_reserve_restore(s);
	assert_int_equal(state_usage(s, &u, &e), 0);
	assert_false(u.reserve);

	assert_int_equal(unlink(ballast), 0);
	assert_int_equal(state_put(s, "k", json_true(), &e), 0);
	state_close(s);
}

static void on_a_full_disk_it_refuses_and_the_reserve_lets_more_in(void **unused UNUSED)
{
	strcat(dir, "/tmpfs");
	assert_int_equal(mkdir(dir, 0700), 0);
	if (mount("upstate-test", dir, "tmpfs", 0, "size=48m") < 0) {
		print_message("not tried: mounting a small disk: %s\n", strerror(errno));
		skip();
	}
	life_on_a_full_disk();
}

static int teardown_disk(void **unused UNUSED)
{
	umount2(dir, MNT_DETACH);
	rmdir(dir);
	*strrchr(dir, '/') = '\0';
	return 0;
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(killed_before_any_write_it_keeps_exactly_what_was_answered),
	    cmocka_unit_test(killed_in_the_middle_of_any_write_it_keeps_exactly_what_was_answered),
	    cmocka_unit_test(any_write_that_fails_undoes_its_call_and_nothing_else),
	    cmocka_unit_test(a_disk_full_for_one_write_undoes_its_call_and_nothing_else),
	    cmocka_unit_test(a_disk_full_from_any_write_on_undoes_its_call_and_nothing_else),
	    cmocka_unit_test_teardown(on_a_full_disk_it_refuses_and_the_reserve_lets_more_in,
				      teardown_disk),
	};

	return cmocka_run_group_tests(tests, setup_group, teardown_group);
}
