/* SPDX-License-Identifier: Apache-2.0
 *
 * The same piece of the store's life (two deploys, a drop, a sweep) with each single call of the
 * file system failing, being the last one before a SIGKILL, or finding the disk full. Afterwards,
 * what is called a release is one, and doing it again ends where an undisturbed life ends.
 */
#include "store_fixture.h"

#include <glob.h>
#include <sched.h>
#include <signal.h>
#include <sys/mount.h>

static struct store_manifest m1, m2, undisturbed;
static long calls, at, fails_with;

static int setup(void **state)
{
	if (store_setup(state) < 0)
		return -1;
	scan("v1", &m1);
	scan("v2", &m2);
	at = calls = 0;
	return 0;
}

static int teardown(void **state)
{
	store_manifest_free(&m1);
	store_manifest_free(&m2);
	store_manifest_free(&undisturbed);
	return store_teardown(state);
}

static int live(const char *dir)
{
	struct store *s;
	uint64_t freed;
	int r = store_open(dir, &s, &e);

	if (r < 0)
		return r;
	r = deploy(s, "v1", &m1);
	if (r == 0)
		r = deploy(s, "v2", &m2);
	if (r == 0)
		r = store_drop_tree(s, m1.id, &e);
	if (r == 0)
		r = store_sweep(s, &freed, &e);
	store_close(s);
	return r;
}

static bool is_tidy(const char *dir)
{
	static const char *const litter[] = {"incoming/*", "trees/.[!.]*"};
	char path[64];

	for (size_t i = 0; i < ARRAY_LEN(litter); i++) {
		glob_t found = {0};

		snprintf(path, sizeof(path), "%s/%s", dir, litter[i]);
		if (glob(path, 0, NULL, &found) != GLOB_NOMATCH) {
			globfree(&found);
			return false;
		}
	}
	return true;
}

static void assert_releases_are_whole(const char *dir)
{
	struct store *s;
	int r;

	assert_int_equal(store_open(dir, &s, &e), 0);
	assert_true(is_tidy(dir));
	r = store_has_tree(s, m1.id) ? store_verify(s, &m1, &e) : 0;
	if (r == 0)
		r = store_has_tree(s, m2.id) ? store_verify(s, &m2, &e) : 0;
	store_close(s);
	if (r < 0)
		fail_msg("at call %ld: %s", at, e.msg);
}

/* The whole store as one manifest: every name, mode and content. */
static void assert_life_ends_as_undisturbed(void)
{
	struct store_manifest now;

	store_test_hook = NULL;
	assert_int_equal(live("store"), 0);
	scan("store", &now);
	if (!undisturbed.len)
		undisturbed = now;
	else
		assert_string_equal(now.text, undisturbed.text);
	if (undisturbed.text != now.text)
		store_manifest_free(&now);
	assert_int_equal(store_remove_tree(AT_FDCWD, "store", &e), 0);
}

static int die(const char *call UNUSED)
{
	if (++calls == at)
		raise(SIGKILL);
	return 0;
}

static void killed_at_each_call_it_ends_the_same(void **state UNUSED)
{
	int status = 1;

	assert_life_ends_as_undisturbed();
	for (at = 1; status; at++) {
		pid_t pid = fork();

		if (!pid) {
			calls = 0;
			store_test_hook = die;
			_exit(live("store") == 0 ? 0 : 1);
		}
		assert_int_equal(waitpid(pid, &status, 0), pid);
		assert_true(!status || (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL));
		assert_releases_are_whole("store");
		assert_life_ends_as_undisturbed();
	}
	assert_true(at > 100);
	print_message("%ld calls\n", at - 2);
}

static int fail_there(const char *call UNUSED)
{
	return ++calls == at ? (int)fails_with : 0;
}

static void each_call_fails(int code)
{
	bool reached = true;

	fails_with = code;
	assert_life_ends_as_undisturbed();
	for (at = 1; reached; at++) {
		int r;

		calls = 0;
		e = (struct err){0};
		store_test_hook = fail_there;
		r = live("store");
		store_test_hook = NULL;
		reached = calls >= at;
		assert_true(r == 0 || (e.code == (enum err_code) - r && *e.msg));
		assert_releases_are_whole("store");
		assert_life_ends_as_undisturbed();
	}
	assert_true(at > 100);
}

static void with_each_call_failing_it_ends_the_same(void **state UNUSED)
{
	each_call_fails(EIO);
}

static void with_each_call_finding_no_room_it_ends_the_same(void **state UNUSED)
{
	each_call_fails(ENOSPC);
}

/* One try on a new, small disk; true when all of it fitted. */
static bool fits(const char *options)
{
	int r;

	assert_int_equal(mount("none", "disk", "tmpfs", 0, options), 0);
	e = (struct err){0};
	r = live("disk/store");
	if (r < 0) {
		assert_int_equal(r, -ERR_FULL);
		assert_true(strstr(e.msg, "No space left on device") ||
			    strstr(e.msg, "must stay free"));
		assert_true(is_tidy("disk/store"));
	}
	assert_int_equal(umount2("disk", MNT_DETACH), 0);
	return r == 0;
}

static void a_disk_that_fills_at_each_step_keeps_nothing_half(void **state UNUSED)
{
	char options[64];
	int kib = 4, files = 2;

	assert_int_equal(mkdir("disk", 0700), 0);
	if (unshare(CLONE_NEWNS) < 0 || mount("none", "/", NULL, MS_REC | MS_PRIVATE, NULL) < 0 ||
	    mount("none", "disk", "tmpfs", 0, NULL) < 0 || umount("disk") < 0) {
		print_message("skipped: may not mount here\n");
		skip();
	}
	do {
		snprintf(options, sizeof(options), "size=%dk", kib);
		kib += 4;
	} while (!fits(options));
	assert_true(kib > 40);
	do {
		snprintf(options, sizeof(options), "nr_inodes=%d", files++);
	} while (!fits(options));
	assert_true(files > 20);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(killed_at_each_call_it_ends_the_same),
		TEST(with_each_call_failing_it_ends_the_same),
		TEST(with_each_call_finding_no_room_it_ends_the_same),
		TEST(a_disk_that_fills_at_each_step_keeps_nothing_half),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
