/* SPDX-License-Identifier: Apache-2.0 */
#include "store_fixture.h"

#include <signal.h>

#define HELLO "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"

static struct store *s;
static struct store_manifest m1, m2;

static int setup(void **state)
{
	if (store_setup(state) < 0)
		return -1;
	scan("v1", &m1);
	scan("v2", &m2);
	return store_open("store", &s, &e);
}

static int teardown(void **state)
{
	store_close(s);
	store_manifest_free(&m1);
	store_manifest_free(&m2);
	return store_teardown(state);
}

static struct stat look(const char *id, const char *path)
{
	char full[512];
	struct stat st;

	snprintf(full, sizeof(full), "store/trees/%s%s%s", id, *path ? "/" : "", path);
	assert_int_equal(lstat(full, &st), 0);
	return st;
}

static void assert_said(int r, int code, const char *what)
{
	assert_int_equal(r, -code);
	if (!strstr(e.msg, what))
		fail_msg("'%s' does not say '%s'", e.msg, what);
}

static void assert_no_litter(void)
{
	assert_int_equal(
	    sh("test -z \"$(ls store/incoming; find store/trees -maxdepth 1 -name '.*')\""), 0);
}

static void a_release_becomes_a_tree_that_nobody_can_write(void **state UNUSED)
{
	umask(077);
	assert_false(store_has_tree(s, m1.id));
	assert_int_equal(deploy(s, "v1", &m1), 0);
	umask(022);
	assert_true(store_has_tree(s, m1.id));
	assert_int_equal(look(m1.id, "").st_mode, S_IFDIR | 0755);
	assert_int_equal(look(m1.id, "lib/empty").st_mode, S_IFDIR | 0755);
	assert_int_equal(look(m1.id, "a").st_mode, S_IFREG | 0444);
	assert_int_equal(look(m1.id, "bin/run").st_mode, S_IFREG | 0555);
	assert_int_equal(look(m1.id, "a").st_ino, look(m1.id, "lib/same").st_ino);
	assert_int_equal(sh("diff -r v1 store/trees/%s", m1.id), 0);
	assert_int_equal(sh("test $(readlink store/trees/%s/lib/link) = ../bin/run", m1.id), 0);
	assert_int_equal(store_verify(s, &m1, &e), 0);
	assert_no_litter();
}

static void the_same_release_again_changes_nothing(void **state UNUSED)
{
	ino_t before;

	assert_int_equal(deploy(s, "v1", &m1), 0);
	before = look(m1.id, "").st_ino;
	assert_int_equal(deploy(s, "v1", &m1), 0);
	assert_int_equal(look(m1.id, "").st_ino, before);
}

static void only_what_is_lacking_is_asked_for_and_once(void **state UNUSED)
{
	bool want[32];
	uint64_t bytes;

	assert_int_equal(store_missing(s, &m1, want, &bytes, &e), 0);
	for (size_t i = 0; i < m1.len; i++)
		assert_int_equal(want[i],
				 m1.files[i].type == 'f' && strcmp(m1.files[i].path, "lib/same"));
	assert_int_equal(bytes, m1.bytes - strlen("hello"));
	assert_int_equal(deploy(s, "v1", &m1), 0);
	assert_int_equal(store_missing(s, &m1, want, &bytes, &e), 0);
	assert_int_equal(bytes, 0);
	assert_int_equal(store_missing(s, &m2, want, &bytes, &e), 0);
	for (size_t i = 0; i < m2.len; i++)
		assert_int_equal(want[i], !strcmp(m2.files[i].path, "a") ||
					      !strcmp(m2.files[i].path, "lib/large") ||
					      !strcmp(m2.files[i].path, "lib/new"));
}

static void releases_share_what_they_have_in_common(void **state UNUSED)
{
	assert_int_equal(deploy(s, "v1", &m1), 0);
	assert_int_equal(deploy(s, "v2", &m2), 0);
	assert_int_equal(look(m1.id, "bin/run").st_ino, look(m2.id, "bin/run").st_ino);
	assert_int_not_equal(look(m1.id, "a").st_ino, look(m2.id, "a").st_ino);
	assert_int_equal(sh("diff -r v2 store/trees/%s", m2.id), 0);
	assert_int_equal(look(m2.id, "lib/large").st_mode, S_IFREG | 0555);
}

/* --- what comes in --- */

static void contents_may_come_in_any_pieces(void **state UNUSED)
{
	CLEANUP_BUF struct buf b = {0};
	bool want[32];
	uint64_t bytes;

	assert_int_equal(store_missing(s, &m1, want, &bytes, &e), 0);
	make_stream("v1", &m1, want, &b);
	for (size_t piece = 1; piece < 200; piece += piece < 80 ? 1 : 37) {
		assert_int_equal(sh("rm -rf store/objects/*"), 0);
		assert_int_equal(take_in(s, &b, piece), 0);
		assert_int_equal(store_missing(s, &m1, want, &bytes, &e), 0);
		assert_int_equal(bytes, 0);
	}
	assert_int_equal(store_stage(s, &m1, &e), 0);
}

static int take_text(const char *text)
{
	struct buf b = {.data = (char *)text, .len = strlen(text)};

	return take_in(s, &b, 7);
}

static void contents_that_are_not_what_they_say_are_refused(void **state UNUSED)
{
	char line[256];

	assert_said(take_text(HELLO " 5 -\nhallo"), ERR_INPUT,
		    "object " HELLO " came with the content");
	assert_no_litter();
	assert_said(take_text(HELLO " 5 -\nhell"), ERR_INPUT,
		    "end 1 bytes before the end of object");
	assert_said(take_text(HELLO " 5 -\n"), ERR_INPUT, "end 5 bytes before the end of object");
	assert_said(take_text(HELLO " 5"), ERR_INPUT, "in the middle of a line");
	assert_said(take_text(HELLO " 5 y\nhello"), ERR_INPUT, "expected 'SHA256 SIZE x|-'");
	assert_said(take_text(HELLO " 05 -\nhello"), ERR_INPUT, "expected 'SHA256 SIZE x|-'");
	assert_said(take_text(HELLO " -5 -\nhello"), ERR_INPUT, "expected 'SHA256 SIZE x|-'");
	assert_said(take_text("../../etc/passwd 5 -\nhello"), ERR_INPUT,
		    "expected 'SHA256 SIZE x|-'");
	memset(line, 'a', sizeof(line));
	line[255] = '\0';
	assert_said(take_text(line), ERR_INPUT, "not a long line");
	assert_no_litter();
	/* Nothing of a stream that is wrong at its end. */
	assert_said(take_text(HELLO " 5 -\nhello" HELLO " 5 x\nhallo"), ERR_INPUT, "came with");
	assert_no_litter();
	assert_int_equal(sh("test -z \"$(find store/objects -type f)\""), 0);
	assert_int_equal(take_text(HELLO " 5 -\nhello" HELLO " 5 x\nhello" HELLO " 5 x\nhello"), 0);
	assert_int_equal(sh("test \"$(find store/objects -type f | wc -l)\" = 2"), 0);
	assert_no_litter();
}

static void after_a_mistake_nothing_more_is_taken(void **state UNUSED)
{
	struct store_intake *in;
	uint64_t objects;

	assert_int_equal(store_intake_begin(s, &in, &e), 0);
	assert_int_equal(store_intake_feed(in, HELLO " 5 -\nhello", 73, &e), 0);
	assert_int_equal(store_intake_feed(in, "?\n", 2, &e), -ERR_INPUT);
	assert_no_litter();
	assert_int_equal(store_intake_feed(in, HELLO " 5 -\nhello", 73, &e), -ERR_REFUSED);
	assert_int_equal(store_intake_end(in, &objects, &e), -ERR_REFUSED);
	assert_int_equal(sh("test -z \"$(find store/objects -type f)\""), 0);
}

static void what_is_there_is_kept_but_still_checked(void **state UNUSED)
{
	char object[96];
	struct stat before, after;

	snprintf(object, sizeof(object), "store/objects/%.2s/%s", HELLO, &HELLO[2]);
	assert_int_equal(take_text(HELLO " 5 -\nhello"), 0);
	assert_int_equal(stat(object, &before), 0);
	assert_int_equal(take_text(HELLO " 5 -\nhello"), 0);
	assert_int_equal(stat(object, &after), 0);
	assert_int_equal(before.st_ino, after.st_ino);
	assert_said(take_text(HELLO " 5 -\nhallo"), ERR_INPUT, "came with the content");
	/* One that lost its end is no object: it is asked for, and replaced. */
	assert_int_equal(sh("chmod u+w %s; printf hell >%s", object, object), 0);
	assert_int_equal(take_text(HELLO " 5 -\nhello"), 0);
	assert_int_equal(sh("test $(cat %s) = hello", object), 0);
}

static void a_child_may_finish_what_its_parent_received(void **state UNUSED)
{
	CLEANUP_BUF struct buf b = {0};
	struct store_intake *in;
	bool want[32];
	uint64_t bytes;
	pid_t pid;
	int status;

	assert_int_equal(store_missing(s, &m1, want, &bytes, &e), 0);
	make_stream("v1", &m1, want, &b);
	assert_int_equal(store_intake_begin(s, &in, &e), 0);
	assert_int_equal(store_intake_feed(in, b.data, b.len, &e), 0);
	pid = fork();
	if (!pid)
		_exit(store_intake_end(in, &bytes, &e) == 0 && store_stage(s, &m1, &e) == 0 ? 0
											    : 1);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	store_intake_abort(in);
	assert_int_equal(store_verify(s, &m1, &e), 0);
	assert_no_litter();
}

static void what_would_fill_the_disk_is_refused_before_it_comes(void **state UNUSED)
{
	assert_int_equal(store_room(s, 0, &e), 0);
	assert_said(store_room(s, UINT64_MAX, &e), ERR_FULL, "must stay free");
	assert_said(take_text(HELLO " 17592186044416 -\nhello"), ERR_FULL, "must stay free");
	assert_no_litter();
}

/* --- staging --- */

static void a_size_that_is_a_lie_harms_no_content(void **state UNUSED)
{
	static const char lie[] = "upstate-manifest 1\nf 0644 6 " HELLO " a\n";
	struct store_manifest m;

	assert_int_equal(deploy(s, "v1", &m1), 0);
	assert_int_equal(store_manifest_parse(lie, strlen(lie), &m, &e), 0);
	assert_said(store_stage(s, &m, &e), ERR_CORRUPT, "content of 'a' is damaged");
	assert_said(take_text(HELLO " 6 -\nhello!"), ERR_INPUT, "came with the content");
	store_manifest_free(&m);
	assert_int_equal(store_missing(s, &m1, (bool[32]){false}, &(uint64_t){0}, &e), 0);
	assert_int_equal(store_drop_tree(s, m1.id, &e), 0);
	assert_int_equal(store_stage(s, &m1, &e), 0);
}

static void a_release_of_many_files_is_read_by_two_threads(void **state UNUSED)
{
	struct store_manifest m;

	assert_int_equal(sh("mkdir many; for i in $(seq 300); do echo $i >many/$i; done"), 0);
	scan("many", &m);
	assert_int_equal(deploy(s, "many", &m), 0);
	assert_int_equal(sh("cd store/trees/%s; for i in 9 77 288; do chmod u+w $i; echo x >$i; "
			    "chmod u-w $i; done",
			    m.id),
			 0);
	assert_said(store_verify(s, &m, &e), ERR_CORRUPT,
		    "'288' has other content, '77' has other content, '9' has other content");
	store_manifest_free(&m);
}

static void a_release_with_a_content_missing_is_not_staged(void **state UNUSED)
{
	assert_int_equal(send_missing(s, "v1", &m1), 0);
	assert_int_equal(sh("rm store/objects/%.2s/%s", HELLO, &HELLO[2]), 0);
	assert_said(store_stage(s, &m1, &e), ERR_NOT_FOUND,
		    "the content of 'a' is not in the store");
	assert_false(store_has_tree(s, m1.id));
	assert_no_litter();
}

static void a_damaged_content_is_found_and_asked_for_anew(void **state UNUSED)
{
	char object[96];

	snprintf(object, sizeof(object), "store/objects/%.2s/%s", HELLO, &HELLO[2]);
	assert_int_equal(send_missing(s, "v1", &m1), 0);
	assert_int_equal(sh("chmod u+w %s; printf hallo >%s; chmod u-w %s", object, object, object),
			 0);
	assert_said(store_stage(s, &m1, &e), ERR_CORRUPT,
		    "content of 'a' is damaged; deploy again");
	assert_false(store_has_tree(s, m1.id));
	assert_no_litter();
	assert_int_equal(deploy(s, "v1", &m1), 0);
}

static int no_links(const char *call)
{
	return strncmp(call, "linkat", 6) == 0 ? EMLINK : 0;
}

static void files_are_copied_when_a_content_has_all_the_links_it_can(void **state UNUSED)
{
	store_test_hook = no_links;
	assert_int_equal(deploy(s, "v1", &m1), 0);
	assert_int_equal(look(m1.id, "a").st_nlink, 1);
	assert_int_equal(look(m1.id, "a").st_mode, S_IFREG | 0444);
	assert_int_equal(look(m1.id, "bin/run").st_mode, S_IFREG | 0555);
	assert_int_equal(sh("diff -r v1 store/trees/%s", m1.id), 0);
}

static int meet(const char *call)
{
	pid_t pid;

	if (strncmp(call, "renameat(s->trees", 17) != 0)
		return 0;
	store_test_hook = NULL;
	pid = fork();
	if (!pid)
		_exit(store_stage(s, &m1, &e) == 0 ? 0 : 1);
	assert_int_equal(waitpid(pid, &(int){0}, 0), pid);
	assert_true(store_has_tree(s, m1.id));
	return 0;
}

static void two_that_stage_the_same_at_once_both_succeed(void **state UNUSED)
{
	assert_int_equal(send_missing(s, "v1", &m1), 0);
	store_test_hook = meet;
	assert_int_equal(store_stage(s, &m1, &e), 0);
	assert_null(store_test_hook);
	assert_int_equal(store_verify(s, &m1, &e), 0);
	assert_no_litter();
}

static void a_user_without_rights_can_do_all_of_it(void **state UNUSED)
{
	int status;
	pid_t pid = fork();

	if (!pid) {
		struct store *mine;

		if (geteuid() == 0 &&
		    (mkdir("mine", 0700) < 0 || chown("mine", 65534, 65534) < 0 ||
		     chmod(folder, 0755) < 0 || setgid(65534) < 0 || setuid(65534) < 0))
			_exit(77);
		mkdir("mine", 0700);
		if (store_open("mine/store", &mine, &e) < 0 || deploy(mine, "v1", &m1) < 0 ||
		    deploy(mine, "v2", &m2) < 0 || store_drop_tree(mine, m1.id, &e) < 0 ||
		    store_sweep(mine, &(uint64_t){0}, &e) < 0 || store_verify(mine, &m2, &e) < 0)
			dprintf(2, "%s\n", e.msg);
		else
			_exit(0);
		_exit(1);
	}
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
}

/* --- verifying --- */

static void every_kind_of_difference_is_found_and_named(void **state UNUSED)
{
	static const struct {
		const char *deed, *found;
	} cases[] = {
	    {"rm lib/large", "'lib/large' is missing"},
	    {"rmdir lib/empty", "'lib/empty' is missing"},
	    {"touch lib/empty/x", "'lib/empty/x' was added"},
	    {"mkdir .git", "'.git' was added"},
	    {"mkfifo p", "'p' was added"},
	    {"ln -s a \"$(printf 'b\\nc')\"", "was added"},
	    {"chmod 644 a", "'a' has another mode"},
	    {"chmod 4555 bin/run", "'bin/run' has another mode"},
	    {"chmod 0 a", "'a' has another mode"},
	    {"chmod 777 lib", "'lib' has another mode"},
	    {"chmod 700 .", "'.' has another mode"},
	    {"rm a; printf hallo >a; chmod 444 a", "'a' has other content"},
	    {"rm a; printf hallo >a; chmod 777 a", "'a' has other content"},
	    {"rm a; printf hell >a; chmod 444 a", "'a' has other content"},
	    {"ln -sfn ../bin lib/link", "'lib/link' points elsewhere"},
	    {"rm a; mkdir a", "'a' is of another kind"},
	    {"rm a; ln -s /etc/passwd a", "'a' is of another kind"},
	    {"rm a; mkfifo a", "'a' is of another kind"},
	    {"mv bin lib/bin; ln -s lib/bin bin", "'bin' is of another kind"},
	    {"rm -r *", "'a' is missing, 'bin' is missing, 'bin/run' is missing, 'lib' is missing, "
			"'lib/empty' is missing, and 4 more"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cases); i++) {
		assert_int_equal(deploy(s, "v1", &m1), 0);
		assert_int_equal(sh("cd store/trees/%s && %s", m1.id, cases[i].deed), 0);
		assert_said(store_verify(s, &m1, &e), ERR_CORRUPT, cases[i].found);
		/* Staging what is there does not put it right behind the back of what runs in it.
		 */
		assert_said(store_stage(s, &m1, &e), ERR_CORRUPT, cases[i].found);
		assert_int_equal(sh("chmod -R u+rwx store/trees store/objects; rm -rf store/*/*"),
				 0);
	}
	assert_said(store_verify(s, &m2, &e), ERR_NOT_FOUND, "is not in the store");
}

/* --- throwing away --- */

static void dropping_a_release_frees_what_no_other_has(void **state UNUSED)
{
	uint64_t freed;

	assert_int_equal(deploy(s, "v1", &m1), 0);
	assert_int_equal(deploy(s, "v2", &m2), 0);
	assert_int_equal(store_sweep(s, &freed, &e), 0);
	assert_int_equal(freed, 0);
	assert_int_equal(store_drop_tree(s, m1.id, &e), 0);
	assert_int_equal(store_drop_tree(s, m1.id, &e), 0); /* as after a crash */
	assert_false(store_has_tree(s, m1.id));
	assert_int_equal(store_sweep(s, &freed, &e), 0);
	assert_int_equal(freed, strlen("hello") + 23893); /* a, and large without its x bit */
	assert_int_equal(store_verify(s, &m2, &e), 0);
	assert_int_equal(store_drop_tree(s, m2.id, &e), 0);
	assert_int_equal(store_sweep(s, &freed, &e), 0);
	assert_int_equal(sh("test -z \"$(find store -type f)\""), 0);
	assert_int_equal(deploy(s, "v1", &m1), 0);
}

static void only_an_id_names_a_release(void **state UNUSED)
{
	char longer[STORE_HASH + 1];

	assert_int_equal(deploy(s, "v1", &m1), 0);
	snprintf(longer, sizeof(longer), "%s0", m1.id);
	assert_false(store_has_tree(s, "../objects"));
	assert_false(store_has_tree(s, ""));
	assert_false(store_has_tree(s, longer));
	assert_said(store_drop_tree(s, "../objects", &e), ERR_INPUT, "is no id of a release");
	assert_said(store_drop_tree(s, "", &e), ERR_INPUT, "is no id of a release");
	assert_int_equal(store_verify(s, &m1, &e), 0);
}

static void what_a_crash_left_is_removed_at_the_next_start(void **state UNUSED)
{
	assert_int_equal(deploy(s, "v1", &m1), 0);
	store_close(s);
	assert_int_equal(sh("cp -a store/trees/%s store/trees/.%s.77", m1.id, m1.id), 0);
	assert_int_equal(sh("echo x >store/incoming/1; mkdir -p store/incoming/d/e"), 0);
	assert_int_equal(store_open("store", &s, &e), 0);
	assert_no_litter();
	assert_int_equal(store_verify(s, &m1, &e), 0);
}

static void a_sweep_removes_the_litter_of_dead_processes_only(void **state UNUSED)
{
	uint64_t freed;
	pid_t pid = fork();

	if (!pid)
		_exit(0);
	assert_int_equal(waitpid(pid, NULL, 0), pid);
	assert_int_equal(
	    sh("mkdir store/trees/.%s.%d store/trees/.%s.%d", m1.id, pid, m1.id, getpid()), 0);
	assert_int_equal(store_sweep(s, &freed, &e), 0);
	assert_int_not_equal(sh("test -e store/trees/.%s.%d", m1.id, pid), 0);
	assert_int_equal(sh("test -e store/trees/.%s.%d", m1.id, getpid()), 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

int main(void)
{
	const struct CMUnitTest tests[] = {
		TEST(a_release_becomes_a_tree_that_nobody_can_write),
		TEST(the_same_release_again_changes_nothing),
		TEST(only_what_is_lacking_is_asked_for_and_once),
		TEST(releases_share_what_they_have_in_common),
		TEST(contents_may_come_in_any_pieces),
		TEST(contents_that_are_not_what_they_say_are_refused),
		TEST(after_a_mistake_nothing_more_is_taken),
		TEST(what_is_there_is_kept_but_still_checked),
		TEST(a_child_may_finish_what_its_parent_received),
		TEST(what_would_fill_the_disk_is_refused_before_it_comes),
		TEST(a_size_that_is_a_lie_harms_no_content),
		TEST(a_release_of_many_files_is_read_by_two_threads),
		TEST(a_release_with_a_content_missing_is_not_staged),
		TEST(a_damaged_content_is_found_and_asked_for_anew),
		TEST(files_are_copied_when_a_content_has_all_the_links_it_can),
		TEST(two_that_stage_the_same_at_once_both_succeed),
		TEST(a_user_without_rights_can_do_all_of_it),
		TEST(every_kind_of_difference_is_found_and_named),
		TEST(dropping_a_release_frees_what_no_other_has),
		TEST(only_an_id_names_a_release),
		TEST(what_a_crash_left_is_removed_at_the_next_start),
		TEST(a_sweep_removes_the_litter_of_dead_processes_only),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
