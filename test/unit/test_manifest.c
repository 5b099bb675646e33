/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include "ship/store.h"

#define HEAD "upstate-manifest 1\n"
#define SUM "2cf24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824"
#define FILE_A "f 0644 5 " SUM " a\n"

static struct err e;

static int parse(const char *text)
{
	struct store_manifest m;
	int r = store_manifest_parse(text, strlen(text), &m, &e);

	if (r == 0)
		store_manifest_free(&m);
	return r;
}

static void assert_refused(const char *body, const char *why)
{
	char text[8192];

	snprintf(text, sizeof(text), HEAD "%s", body);
	assert_int_equal(parse(text), -ERR_INPUT);
	if (!strstr(e.msg, why))
		fail_msg("'%s' does not say '%s'", e.msg, why);
}

static void a_manifest_reads_back_as_written(void **state UNUSED)
{
	static const char text[] = HEAD "d 0755 bin\n"
					"l ../lib/x\tbin/link\n"
					"f 0755 5 " SUM " bin/run me\n"
					"d 0755 lib\n"
					"f 0644 0 " SUM " lib-a\n"
					"f 0644 70000000000 " SUM " lib/\303\244\n";
	struct store_manifest m;

	assert_int_equal(store_manifest_parse(text, strlen(text), &m, &e), 0);
	assert_int_equal(m.len, 6);
	assert_int_equal(m.bytes, 70000000005);
	assert_string_equal(m.text, text);
	assert_int_equal(m.text_len, strlen(text));
	assert_int_equal(strlen(m.id), 64);
	assert_int_equal(m.files[1].type, 'l');
	assert_string_equal(m.files[1].target, "../lib/x");
	assert_string_equal(m.files[1].path, "bin/link");
	assert_true(m.files[2].executable);
	assert_string_equal(m.files[2].path, "bin/run me");
	assert_string_equal(m.files[2].hash, SUM);
	assert_false(m.files[5].executable);
	assert_int_equal(m.files[5].size, 70000000000);
	store_manifest_free(&m);
}

static void the_id_is_the_hash_of_the_text(void **state UNUSED)
{
	/* printf 'upstate-manifest 1\nf 0644 5 2cf2... a\n' | sha256sum */
	static const char *id = "b22f40c903e7b1e83c3879ea359228c0861435d8cc8e697619e0080571edc5f5";
	struct store_manifest m;

	assert_int_equal(store_manifest_parse(HEAD FILE_A, strlen(HEAD FILE_A), &m, &e), 0);
	assert_string_equal(m.id, id);
	store_manifest_free(&m);
}

static void what_is_not_canonical_is_refused_with_its_line(void **state UNUSED)
{
	assert_int_equal(parse(""), -ERR_INPUT);
	assert_int_equal(parse("upstate-manifest 2\n" FILE_A), -ERR_INPUT);
	assert_refused("", "line 1: a release has at least one file");
	assert_refused("d 0755 a\n", "at least one file");
	assert_refused(FILE_A "f 0644 5 " SUM " b", "cut off");
	assert_refused(FILE_A "\n", "line 3: expected");
	assert_refused(FILE_A "x 0644 b\n", "line 3: expected");
	assert_refused("d 0700 a\n", "line 2: expected");
	assert_refused("f 0600 5 " SUM " a\n", "line 2: expected");
	assert_refused(FILE_A FILE_A, "line 3: 'a' stands behind 'a'");
	assert_refused("f 0644 5 " SUM " b\n" FILE_A, "line 3: 'a' stands behind 'b'");
	assert_refused("f 0644 5 " SUM "  a\n" FILE_A "l a a\n", "target<tab>path");
}

static void sizes_and_hashes_are_written_one_way_only(void **state UNUSED)
{
	static const char *const wrong[] = {
	    "f 0644 05 " SUM " a\n",
	    "f 0644 +5 " SUM " a\n",
	    "f 0644 -5 " SUM " a\n",
	    "f 0644  5 " SUM " a\n",
	    "f 0644 5" SUM " a\n",
	    "f 0644 17592186044417 " SUM " a\n",
	    "f 0644 99999999999999999999999999 " SUM " a\n",
	    "f 0644 5 2CF24dba5fb0a30e26e83b2ac5b9e29e1b161e5c1fa7425e73043362938b9824 a\n",
	    "f 0644 5 " SUM "0 a\n",
	    "f 0644 5 2cf2 a\n",
	    "f 0644 5 " SUM "\n",
	    "f 0644 5\n",
	    "f 0644 \n",
	};

	for (size_t i = 0; i < sizeof(wrong) / sizeof(*wrong); i++)
		assert_refused(wrong[i], "line 2: expected 'SIZE SHA256 path'");
}

static void paths_that_could_lead_elsewhere_are_refused(void **state UNUSED)
{
	static const char *const paths[] = {"/a",   "a/",   "a//b",  ".",    "..", "./a",
					    "../a", "a/..", "a/./b", "a\tb", ""};
	char line[512], longest[257] = "";

	for (size_t i = 0; i < sizeof(paths) / sizeof(*paths); i++) {
		snprintf(line, sizeof(line), "f 0644 5 " SUM " %s\n", paths[i]);
		assert_refused(line, "is no path of a release");
	}
	memset(longest, 'a', 256);
	snprintf(line, sizeof(line), "f 0644 5 " SUM " %s\n", longest);
	assert_refused(line, "is no path of a release");
	snprintf(line, sizeof(line), HEAD "f 0644 5 " SUM " %s\n", longest + 1);
	assert_int_equal(parse(line), 0);
	assert_refused("d 0755 a\nf 0644 5 " SUM " a/..b/c\n", "no directory 'a/..b'");
}

static void a_parent_is_a_directory_of_its_own(void **state UNUSED)
{
	assert_refused("f 0644 5 " SUM " a/b\n", "line 2: 'a/b' has no directory 'a'");
	assert_refused(FILE_A "f 0644 5 " SUM " a/b\n", "line 3: 'a/b' has no directory 'a'");
	assert_refused("l .\ta\nf 0644 5 " SUM " a/b\n", "line 3: 'a/b' has no directory 'a'");
	assert_int_equal(parse(HEAD "d 0755 a\nf 0644 5 " SUM " a-\nf 0644 5 " SUM " a/b\n"), 0);
}

static void links_stay_inside(void **state UNUSED)
{
	static const char *const outside[] = {"/",	   "/etc/passwd",  "..",   "../x",
					      "b/../..",   "../a/../../x", "s/..", "s/../x",
					      "none/../x", "c/.."};
	static const char *const inside[] = {"b", "./b",  "b/", "b/..", "b/../c", "b//c",
					     ".", "none", "s",	"s/x",	"..."};
	char line[512];

	/* s leads up to the top, so that going up behind it would leave the tree. */
	for (size_t i = 0; i < sizeof(outside) / sizeof(*outside); i++) {
		snprintf(line, sizeof(line), "d 0755 b\nf 0644 5 " SUM " c\nl %s\tl\nl b/..\ts\n",
			 outside[i]);
		assert_refused(line, "line 4: link 'l' leaves the tree");
	}
	for (size_t i = 0; i < sizeof(inside) / sizeof(*inside); i++) {
		snprintf(line, sizeof(line),
			 HEAD "d 0755 b\nf 0644 5 " SUM " c\nl %s\tl\nl b/..\ts\n", inside[i]);
		assert_int_equal(parse(line), 0);
	}
	assert_int_equal(parse(HEAD "d 0755 a\nd 0755 a/b\nl ../../c\ta/b/l\n" FILE_A), -ERR_INPUT);
	assert_int_equal(parse(HEAD "d 0755 a\nd 0755 a/b\nl ../../c\ta/b/l\nf 0644 5 " SUM " c\n"),
			 0);
	assert_refused("d 0755 a\nl ../../c\ta/l\nf 0644 5 " SUM " c\n", "line 3: link 'a/l'");
}

static void a_byte_that_ends_strings_ends_nothing(void **state UNUSED)
{
	static const char text[] = HEAD FILE_A "d 0755 x\0/../../etc\n";
	struct store_manifest m;

	assert_int_equal(store_manifest_parse(text, sizeof(text) - 1, &m, &e), -ERR_INPUT);
}

static void there_is_a_largest_number_of_entries(void **state UNUSED)
{
	size_t cap = (STORE_FILES_MAX + 2) * 100, len;
	char *text = malloc(cap);
	struct store_manifest m;

	assert_non_null(text);
	len = (size_t)sprintf(text, HEAD);
	for (int i = 0; i < STORE_FILES_MAX; i++)
		len += (size_t)sprintf(text + len, "f 0644 5 " SUM " %07d\n", i);
	assert_int_equal(store_manifest_parse(text, len, &m, &e), 0);
	assert_int_equal(m.len, STORE_FILES_MAX);
	store_manifest_free(&m);
	len += (size_t)sprintf(text + len, "f 0644 5 " SUM " x\n");
	assert_int_equal(store_manifest_parse(text, len, &m, &e), -ERR_LIMIT);
	free(text);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_manifest_reads_back_as_written),
	    cmocka_unit_test(the_id_is_the_hash_of_the_text),
	    cmocka_unit_test(what_is_not_canonical_is_refused_with_its_line),
	    cmocka_unit_test(sizes_and_hashes_are_written_one_way_only),
	    cmocka_unit_test(paths_that_could_lead_elsewhere_are_refused),
	    cmocka_unit_test(a_parent_is_a_directory_of_its_own),
	    cmocka_unit_test(links_stay_inside),
	    cmocka_unit_test(a_byte_that_ends_strings_ends_nothing),
	    cmocka_unit_test(there_is_a_largest_number_of_entries),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
