/* SPDX-License-Identifier: Apache-2.0
 *
 * What can be shipped from a directory, and what not. Each test gets a fresh folder and stands in
 * it.
 */
#include "unit.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/un.h>

#include "ship/store_priv.h"

static struct err e;
static struct store_manifest m;
static char folder[64];

static void put(const char *path, const char *text, mode_t mode)
{
	CLEANUP_FD int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);

	assert_true(fd >= 0);
	assert_int_equal(write(fd, text, strlen(text)), strlen(text));
	assert_int_equal(fchmod(fd, mode), 0);
}

static int setup(void **state UNUSED)
{
	store_test_hook = NULL;
	strcpy(folder, "/tmp/upstate-scan.XXXXXX");
	return mkdtemp(folder) && chdir(folder) == 0 && mkdir("t", 0755) == 0 ? 0 : -1;
}

static int teardown(void **state UNUSED)
{
	char command[256];

	store_test_hook = NULL;
	store_manifest_free(&m);
	snprintf(command, sizeof(command), "chmod -R u+rwx %s; rm -rf %s", folder, folder);
	return chdir("/") == 0 && system(command) == 0 ? 0 : -1;
}

static void assert_refused(const char *why)
{
	assert_int_equal(store_scan("t", &m, NULL, NULL, &e), -ERR_INPUT);
	if (!strstr(e.msg, why))
		fail_msg("'%s' does not say '%s'", e.msg, why);
}

static void a_tree_becomes_a_sorted_manifest(void **state UNUSED)
{
	put("t/run", "#!/bin/sh\n", 0700);
	put("t/a-b", "hello", 0640);
	assert_int_equal(mkdir("t/a", 0700), 0);
	assert_int_equal(mkdir("t/a/empty", 0700), 0);
	put("t/a/\303\244 b", "", 0644);
	assert_int_equal(symlink("../run", "t/a/link"), 0);
	assert_int_equal(mkdir("t/.git", 0700), 0);
	put("t/.git/HEAD", "x", 0644);
	assert_int_equal(mkdir("t/a/.git", 0700), 0); /* not at the top: a file like any */
	assert_int_equal(store_scan("t", &m, NULL, NULL, &e), 0);
	assert_string_equal(
	    m.text,
	    "upstate-manifest 1\n"
	    "d 0755 a\n"
	    "f 0644 5 2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824 a-b\n"
	    "d 0755 a/.git\n"
	    "d 0755 a/empty\n"
	    "l ../run\ta/link\n"
	    "f 0644 0 e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855 a/\303\244 "
	    "b\n"
	    "f 0755 10 a8076d3d28d21e02012b20eaf7dbf75409a6277134439025f282e368e3305abf run\n");
}

static size_t seen_files;
static uint64_t seen_bytes;

static void progress(void *arg, size_t files, uint64_t bytes)
{
	assert_ptr_equal(arg, &seen_files);
	assert_true(files >= seen_files && bytes >= seen_bytes);
	seen_files = files;
	seen_bytes = bytes;
}

static void many_files_give_the_same_id_each_time_and_progress_is_told(void **state UNUSED)
{
	char id[STORE_HASH], path[64];

	for (int i = 0; i < 1000; i++) {
		snprintf(path, sizeof(path), "t/%d", i);
		put(path, path, 0644);
	}
	assert_int_equal(store_scan("t", &m, progress, &seen_files, &e), 0);
	assert_int_equal(seen_files, 1000);
	assert_int_equal(seen_bytes, m.bytes);
	strcpy(id, m.id);
	store_manifest_free(&m);
	assert_int_equal(store_scan("t/", &m, NULL, NULL, &e), 0);
	assert_string_equal(m.id, id);
}

static void what_is_not_there_or_empty_is_refused(void **state UNUSED)
{
	assert_refused("reading 't': it is empty");
	assert_int_equal(mkdir("t/d", 0755), 0);
	assert_refused("at least one file");
	assert_int_equal(store_scan("nowhere", &m, NULL, NULL, &e), -ERR_INPUT);
	assert_string_equal(e.msg, "'nowhere' cannot be shipped: No such file or directory");
	put("file", "x", 0644);
	assert_int_equal(store_scan("file", &m, NULL, NULL, &e), -ERR_INPUT);
	assert_string_equal(e.msg, "'file' cannot be shipped: Not a directory");
}

static void a_fifo_is_refused(void **state UNUSED)
{
	put("t/a", "x", 0644);
	assert_int_equal(mkfifo("t/pipe", 0600), 0);
	assert_refused("'pipe' is a FIFO");
}

static void a_socket_is_refused(void **state UNUSED)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX, .sun_path = "t/sock"};
	CLEANUP_FD int fd = socket(AF_UNIX, SOCK_STREAM, 0);

	put("t/a", "x", 0644);
	assert_int_equal(bind(fd, (struct sockaddr *)&address, sizeof(address)), 0);
	assert_refused("'sock' is a socket");
}

static void a_device_is_refused(void **state UNUSED)
{
	put("t/a", "x", 0644);
	if (mknod("t/null", S_IFCHR | 0600, makedev(1, 3)) < 0) {
		print_message("may not make devices here\n");
		skip();
	}
	assert_refused("'null' is a device");
}

static void links_that_leave_the_tree_are_refused(void **state UNUSED)
{
	put("t/a", "x", 0644);
	assert_int_equal(symlink("../secret", "t/out"), 0);
	assert_refused("link 'out' leaves the tree: it points to '../secret'");
	assert_int_equal(unlink("t/out"), 0);
	assert_int_equal(symlink("/etc/passwd", "t/absolute"), 0);
	assert_refused("link 'absolute' leaves the tree: it points to '/etc/passwd'");
}

static void links_are_described_not_followed(void **state UNUSED)
{
	put("t/a", "x", 0644);
	assert_int_equal(symlink(".", "t/loop"), 0);
	assert_int_equal(symlink("nowhere", "t/dangling"), 0);
	assert_int_equal(store_scan("t", &m, NULL, NULL, &e), 0);
	assert_int_equal(m.len, 3);
}

static void names_with_newline_or_tab_are_refused(void **state UNUSED)
{
	put("t/a\nb", "x", 0644);
	assert_refused("'a?b' (? is a newline or tab)");
	assert_int_equal(rename("t/a\nb", "t/a\tb"), 0);
	assert_refused("'a?b' (? is a newline or tab)");
}

static void unreadable_files_and_directories_are_named(void **state UNUSED)
{
	put("t/a", "x", 0644);
	put("t/secret", "x", 0000);
	if (geteuid() == 0 && (setegid(65534) < 0 || chown(folder, 65534, 65534) < 0 ||
			       chown("t", 65534, 65534) < 0 || seteuid(65534) < 0)) {
		print_message("cannot stop being root here\n");
		skip();
	}
	assert_refused("'secret' may not be read by you");
	assert_int_equal(unlink("t/secret"), 0);
	assert_int_equal(mkdir("t/locked", 0000), 0);
	assert_refused("'locked' cannot be read: Permission denied");
	if (getuid() == 0)
		assert_int_equal(seteuid(0) | setegid(0), 0);
}

/* --- the tree changes while it is read --- */

static const char *when;
static void (*meanwhile)(void);

static int change(const char *call)
{
	if (when && strncmp(call, when, strlen(when)) == 0) {
		when = NULL;
		meanwhile();
	}
	return 0;
}

static void assert_noticed(const char *at, void (*what)(void), const char *name)
{
	char why[128];

	snprintf(why, sizeof(why), "'%s' changed while it was read", name);
	when = at;
	meanwhile = what;
	store_test_hook = change;
	assert_refused(why);
	assert_null(when);
	store_test_hook = NULL;
}

static void grow(void)
{
	put("t/d/a", "longer", 0644);
}

static void cut(void)
{
	assert_int_equal(truncate("t/d/a", 1), 0);
}

/* Same size and time, but another file. */
static void replace(void)
{
	struct timespec times[2] = {{1, 0}, {1, 0}};

	put("t/new", "same", 0644);
	assert_int_equal(utimensat(AT_FDCWD, "t/new", times, 0), 0);
	assert_int_equal(rename("t/new", "t/d/a"), 0);
}

static void retouch(void)
{
	put("t/d/a", "Same", 0644);
}

static void come(void)
{
	put("t/d/b", "late", 0644);
}

static void go(void)
{
	assert_int_equal(unlink("t/d/a"), 0);
}

static void swap_file_for_link(void)
{
	assert_int_equal(unlink("t/d/a"), 0);
	assert_int_equal(symlink("/etc/passwd", "t/d/a"), 0);
}

static void swap_file_for_fifo(void)
{
	assert_int_equal(unlink("t/d/a"), 0);
	assert_int_equal(mkfifo("t/d/a", 0600), 0);
}

static void swap_directory(void)
{
	assert_int_equal(rename("t/d", "d"), 0);
	assert_int_equal(mkdir("t/d", 0755), 0);
	put("t/d/a", "same", 0644);
}

static void changes_while_reading_are_noticed(void **state UNUSED)
{
	static const struct {
		const char *when;
		void (*what)(void);
		const char *name;
	} cases[] = {
	    {"openat(s->root", grow, "d/a"},
	    {"openat(s->root", cut, "d/a"},
	    {"openat(s->root", replace, "d/a"},
	    {"openat(s->root", retouch, "d/a"},
	    {"openat(s->root", come, "d"},
	    {"openat(s->root", go, "d/a"},
	    {"openat(s->root", swap_file_for_link, "d/a"},
	    {"openat(s->root", swap_file_for_fifo, "d/a"},
	    {"openat(s->root", swap_directory, "d/a"},
	    {"read(fd", grow, "d/a"},
	    {"read(fd", cut, "d/a"},
	    {"fstat(fd, &st)", retouch, "d/a"},
	    {"fstat(s->root", come, "d"},
	    {"fstat(s->root", go, "d"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		struct timespec times[2] = {{1, 0}, {1, 0}};

		assert_int_equal(system("rm -rf t d; mkdir -p t/d"), 0);
		put("t/d/a", "same", 0644);
		assert_int_equal(utimensat(AT_FDCWD, "t/d/a", times, 0), 0);
		assert_noticed(cases[i].when, cases[i].what, cases[i].name);
	}
}

static int swap_at_second_directory(const char *call)
{
	static int opened;

	if (strncmp(call, "openat(root", 11) == 0 && ++opened == 2)
		swap_directory();
	return 0;
}

static void a_directory_exchanged_before_it_is_listed_is_noticed(void **state UNUSED)
{
	assert_int_equal(mkdir("t/d", 0755), 0);
	put("t/d/a", "same", 0644);
	store_test_hook = swap_at_second_directory;
	assert_refused("'d' changed while it was read");
}

static long calls, fail_at;

static int fail_nth(const char *call UNUSED)
{
	return ++calls == fail_at ? EIO : 0;
}

static void each_call_may_fail_and_nothing_leaks(void **state UNUSED)
{
	int r = -1;

	put("t/a", "x", 0644);
	assert_int_equal(mkdir("t/d", 0755), 0);
	put("t/d/b", "x", 0644);
	assert_int_equal(symlink("a", "t/l"), 0);
	store_test_hook = fail_nth;
	for (fail_at = 1; r < 0; fail_at++) {
		calls = 0;
		e.msg[0] = '\0';
		r = store_scan("t", &m, NULL, NULL, &e);
		assert_true(r == 0 || e.msg[0]);
	}
	assert_true(fail_at > 15);
	assert_true(calls < fail_at);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_tree_becomes_a_sorted_manifest),
		TEST(many_files_give_the_same_id_each_time_and_progress_is_told),
		TEST(what_is_not_there_or_empty_is_refused),
		TEST(a_fifo_is_refused),
		TEST(a_socket_is_refused),
		TEST(a_device_is_refused),
		TEST(links_that_leave_the_tree_are_refused),
		TEST(links_are_described_not_followed),
		TEST(names_with_newline_or_tab_are_refused),
		TEST(unreadable_files_and_directories_are_named),
		TEST(changes_while_reading_are_noticed),
		TEST(a_directory_exchanged_before_it_is_listed_is_noticed),
		TEST(each_call_may_fail_and_nothing_leaks),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
