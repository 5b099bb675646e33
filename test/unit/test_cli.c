/* SPDX-License-Identifier: Apache-2.0
 *
 * The command line without a server: what words mean, and how answers look. What goes over
 * the socket is tested end to end (test/e2e/test_cli_client.py).
 */
#include "unit.h"

#include "base/util.h"
#include "cli/show.h"
#include "cli/verbs.h"
#include "conf/conf.h"

static struct err e;

/* Parses a line of words; returns what verbs_parse() returned. */
static int parse(const char *line, struct cli *c)
{
	static char words[500];
	char *argv[20] = {"upstate"};
	int argc = 1;

	*c = (struct cli){0};
	assert_true(util_copy(words, sizeof(words), line));
	for (char *w = strtok(words, " "); w; w = strtok(NULL, " "))
		argv[argc++] = w;
	return verbs_parse(argc, argv, c, &e);
}

static void refused(const char *line, const char *message)
{
	struct cli c;

	assert_int_equal(parse(line, &c), -ERR_INPUT);
	assert_string_equal(e.msg, message);
	assert_int_equal(err_exit_status(e.code), 2);
}

/* --- words --- */

static void a_verb_takes_its_arguments_and_options_in_any_order(void **state UNUSED)
{
	struct cli c;

	assert_int_equal(parse("--state /s deploy --why because shop --json ./dir", &c), 0);
	assert_string_equal(c.verb->name, "deploy");
	assert_int_equal(c.arg_count, 2);
	assert_string_equal(c.args[0], "shop");
	assert_string_equal(c.args[1], "./dir");
	assert_string_equal(c.values[OPTION_STATE], "/s");
	assert_string_equal(c.values[OPTION_WHY], "because");
	assert_non_null(c.values[OPTION_JSON]);
	assert_null(c.values[OPTION_DETACH]);
}

static void values_of_options_may_stand_in_the_same_word(void **state UNUSED)
{
	struct cli c;

	assert_int_equal(parse("history --at=2026-11-22 --limit=5", &c), 0);
	assert_string_equal(c.values[OPTION_AT], "2026-11-22");
	assert_string_equal(c.values[OPTION_LIMIT], "5");
	assert_int_equal(parse("logs shop -n5 -f", &c), 0);
	assert_string_equal(c.values[OPTION_LINES], "5");
	assert_int_equal(parse("check -c x.yaml", &c), 0);
	assert_string_equal(c.values[OPTION_CONF], "x.yaml");
}

static void after_two_dashes_words_are_no_options(void **state UNUSED)
{
	struct cli c;

	assert_int_equal(parse("deploy shop -- --odd", &c), 0);
	assert_string_equal(c.args[1], "--odd");
}

static void nothing_and_help_show_help(void **state UNUSED)
{
	struct cli c;

	assert_int_equal(parse("", &c), 0);
	assert_string_equal(c.verb->name, "help");
	assert_int_equal(c.arg_count, 0);
	assert_int_equal(parse("deploy --help", &c), 0);
	assert_string_equal(c.verb->name, "help");
	assert_string_equal(c.args[0], "deploy");
	assert_int_equal(parse("--version", &c), 0);
	assert_string_equal(c.verb->name, "version");
}

#define ALL_VERBS                                                                                  \
	"verbs: serve, check, init, deploy, rollback, abort, attach, status, top, explain, history, " \
	"logs, verify, "                                                                               \
	"hold, resume, maintenance, drain, fence, unfence, beat, reload, files, restart, upgrade, limits, password, " \
	"completion, manual, help, version"

static void wrong_words_come_with_the_right_ones(void **state UNUSED)
{
	refused("deplyo", "there is no verb 'deplyo'; did you mean 'deploy'? " ALL_VERBS);
	refused("frobnicate", "there is no verb 'frobnicate'; " ALL_VERBS);
	refused("status --jsn", "'status' has no option '--jsn'; did you mean '--json'? options: "
				"--state, --json, --help");
	refused("status --why x",
		"'status' has no option '--why'; options: --state, --json, --help");
	refused("--why x status",
		"'status' has no option '--why'; options: --state, --json, --help");
	refused("limits -x", "'limits' has no option '-x'; options: --state, --json, --help");
}

static void missing_and_needless_words_show_the_usage(void **state UNUSED)
{
	refused("deploy shop", "'deploy' needs APP DIR; usage: upstate deploy APP DIR [--why TEXT] "
			       "[--json] [--detach]");
	refused("hold a b",
		"'b' is one word too many; usage: upstate hold APP [--why TEXT] [--json]");
	refused("history --at", "--at needs a value: --at TIME");
	refused("status --json=yes", "--json takes no value ('yes')");
}

static void every_verb_has_help_a_handler_and_a_place(void **state UNUSED)
{
	for (size_t i = 0; i < verbs_len; i++) {
		const struct verbs_row *v = &verbs_rows[i];
		CLEANUP_BUF struct buf out = {0};

		assert_non_null(v->run);
		assert_true(v->least <= v->most && v->most <= CLI_ARGS_MAX);
		assert_true((*v->arguments != 0) == (v->most > 0));
		assert_ptr_equal(verbs_find(v->name), v);
		help_verb(v, &out);
		assert_non_null(strstr(buf_str(&out), v->help));
		for (const char *line = buf_str(&out); *line; line = strchr(line, '\n') + 1)
			assert_true(strchr(line, '\n') - line <= 90);
	}
}

static void completion_knows_every_verb_and_option(void **state UNUSED)
{
	CLEANUP_BUF struct buf out = {0};

	help_completion(&out);
	for (size_t i = 0; i < verbs_len; i++)
		assert_non_null(strstr(buf_str(&out), verbs_rows[i].name));
	for (size_t i = 0; i < OPTION_COUNT; i++)
		assert_non_null(strstr(buf_str(&out), verbs_options[i].name));
}

/* --- numbers --- */

static void numbers_are_for_people(void **state UNUSED)
{
	char t[SHOW_TEXT];

	assert_string_equal(show_count(0, t), "0");
	assert_string_equal(show_count(999, t), "999");
	assert_string_equal(show_count(1532, t), "1,532");
	assert_string_equal(show_count(UINT64_MAX, t), "18,446,744,073,709,551,615");
	assert_string_equal(show_ms(0, t), "0 ms");
	assert_string_equal(show_ms(1.94, t), "1.9 ms");
	assert_string_equal(show_ms(9.96, t), "10 ms");
	assert_string_equal(show_ms(340, t), "340 ms");
	assert_string_equal(show_ms(999.7, t), "1 s");
	assert_string_equal(show_ms(2400, t), "2.4 s");
	assert_string_equal(show_ms(600000, t), "10 min");
	assert_string_equal(show_ms(1e300, t), "1000000000 h");
	assert_string_equal(show_bytes(812, t), "812 B");
	assert_string_equal(show_bytes(1400, t), "1.4 kB");
	assert_string_equal(show_bytes(191000000, t), "191 MB");
	assert_string_equal(show_bytes(UINT64_MAX, t), "18 EB");
	assert_string_equal(show_time("2026-11-22T01:39:15.123Z", t), "2026-11-22 01:39:15");
	assert_string_equal(show_time("now", t), "now");
}

static void a_bar_fills_as_its_part_is_done(void **state UNUSED)
{
	struct buf out = {0};

	show_bar(0, 100, 19, &out);
	assert_string_equal(buf_str(&out), "[----------]   0 %");
	buf_free(&out);
	show_bar(45, 100, 19, &out);
	assert_string_equal(buf_str(&out), "[####------]  45 %");
	buf_free(&out);
	show_bar(200, 100, 19, &out);
	assert_string_equal(buf_str(&out), "[##########] 100 %");
	buf_free(&out);
	show_bar(0, 0, 19, &out);
	assert_string_equal(buf_str(&out), "[##########] 100 %");
	buf_free(&out);
}

/* --- tables --- */

static const char *const heads[] = {"APP", "STATUS", "REMARKS", NULL};

static void tables_are_aligned(void **state UNUSED)
{
	struct show_table t = {.heads = heads};
	struct buf out = {0};

	show_cell(&t, "guestbook");
	show_cell(&t, "good");
	show_cell(&t, "%s", "");
	show_cell(&t, "b\xc3\xbc"
		      "cher");
	show_cell(&t, "ugly");
	show_cell(&t, "no target");
	show_table_end(&t, &out);
	assert_string_equal(buf_str(&out), "APP        STATUS  REMARKS\n"
					   "guestbook  good\n"
					   "b\xc3\xbc"
					   "cher     ugly    no target\n");
	buf_free(&out);
}

static void colours_are_there_when_wanted_only(void **state UNUSED)
{
	struct show_table t = {.heads = heads, .colour = true};
	struct buf out = {0};

	show_cell(&t, "a");
	show_cell(&t, "good");
	show_cell(&t, "x");
	show_table_end(&t, &out);
	assert_non_null(strstr(buf_str(&out), "\033[32mgood\033[0m"));
	buf_free(&out);
	t = (struct show_table){.heads = heads};
	show_cell(&t, "a");
	show_cell(&t, "good");
	show_cell(&t, "x");
	show_table_end(&t, &out);
	assert_null(strchr(buf_str(&out), '\033'));
	buf_free(&out);
}

static void an_empty_table_is_its_head(void **state UNUSED)
{
	struct show_table t = {.heads = heads};
	struct buf out = {0};

	show_table_end(&t, &out);
	assert_string_equal(buf_str(&out), "APP  STATUS  REMARKS\n");
	buf_free(&out);
}

static void what_others_wrote_cannot_command_the_terminal(void **state UNUSED)
{
	struct show_table t = {.heads = heads};
	struct buf out = {0};

	show_cell(&t, "a\033[2J\nb");
	show_cell(&t, "good");
	show_cell(&t, "x");
	show_table_end(&t, &out);
	assert_string_equal(buf_str(&out), "APP      STATUS  REMARKS\na [2J b  good    x\n");
	buf_free(&out);
}

/* --- receipts --- */

static void receipt(const char *json, const char *text, int exit_status)
{
	json_t *change = json_loads(json, 0, NULL);
	struct buf out = {0};

	assert_non_null(change);
	show_receipt(change, &out);
	assert_string_equal(buf_str(&out), text);
	assert_int_equal(show_exit_status(change), exit_status);
	buf_free(&out);
	json_decref(change);
}

static void a_receipt_tells_what_users_saw(void **state UNUSED)
{
	receipt("{\"change\": 7, \"app\": \"guestbook\", \"from\": \"guestbook@12\", \"to\": "
		"\"guestbook@13\","
		" \"outcome\": \"done\", \"reason\": \"\", \"when\": \"2026-11-22T01:00:00.000Z\", "
		"\"steps\": ["
		" {\"name\": \"begun\", \"at\": \"2026-11-22T01:00:00.100Z\", \"ms\": 100},"
		" {\"name\": \"done\", \"at\": \"2026-11-22T01:00:02.400Z\", \"ms\": 2400}],"
		" \"requests\": 1532, \"failed\": 0, \"held\": 3, \"retried\": 1, \"slowed\": 0,"
		" \"p50_ms\": 1.9, \"p99_ms\": 8, \"longest_ms\": 200}",
		"guestbook@13 done in 2.4 s: 1,532 requests, 0 failed, 3 held (longest 200 ms), 1 "
		"retried, "
		"p50 1.9 ms, p99 8 ms\n",
		0);
	receipt("{\"change\": 8, \"from\": \"guestbook@13\", \"to\": \"guestbook@14\", "
		"\"outcome\": \"undone\","
		" \"reason\": \"guestbook@14/1 was not ready within 60 s\", \"requests\": 0, "
		"\"failed\": 0}",
		"guestbook@14 undone (guestbook@14/1 was not ready within 60 s), guestbook@13 "
		"serves: 0 requests, "
		"0 failed\n",
		4);
	receipt("{\"change\": 9, \"to\": null, \"outcome\": \"superseded\"}",
		"change 9 superseded: 0 requests, 0 failed\n", 1);
	receipt("{}", "change 0 ended: 0 requests, 0 failed\n", 1);
}

static void a_step_is_a_line(void **state UNUSED)
{
	struct buf out = {0};

	show_step("guestbook@13/1 serves", 412, &out);
	assert_string_equal(buf_str(&out), "   412 ms  guestbook@13/1 serves\n");
	buf_free(&out);
}

/* --- manuals --- */

static void the_manuals_pass_mandoc(void **state UNUSED)
{
	void (*const pages[])(struct buf * out) = {help_manual, conf_manual};

	if (system("command -v mandoc >/dev/null") != 0)
		skip();
	for (size_t i = 0; i < ARRAY_LEN(pages); i++) {
		FILE *lint = popen("mandoc -T lint -W warning", "w");
		CLEANUP_BUF struct buf out = {0};

		pages[i](&out);
		assert_false(out.failed);
		assert_non_null(lint);
		assert_int_equal(fwrite(out.data, 1, out.len, lint), out.len);
		assert_int_equal(pclose(lint), 0);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_verb_takes_its_arguments_and_options_in_any_order),
	    cmocka_unit_test(values_of_options_may_stand_in_the_same_word),
	    cmocka_unit_test(after_two_dashes_words_are_no_options),
	    cmocka_unit_test(nothing_and_help_show_help),
	    cmocka_unit_test(wrong_words_come_with_the_right_ones),
	    cmocka_unit_test(missing_and_needless_words_show_the_usage),
	    cmocka_unit_test(every_verb_has_help_a_handler_and_a_place),
	    cmocka_unit_test(completion_knows_every_verb_and_option),
	    cmocka_unit_test(numbers_are_for_people),
	    cmocka_unit_test(a_bar_fills_as_its_part_is_done),
	    cmocka_unit_test(tables_are_aligned),
	    cmocka_unit_test(colours_are_there_when_wanted_only),
	    cmocka_unit_test(an_empty_table_is_its_head),
	    cmocka_unit_test(what_others_wrote_cannot_command_the_terminal),
	    cmocka_unit_test(a_receipt_tells_what_users_saw),
	    cmocka_unit_test(a_step_is_a_line),
	    cmocka_unit_test(the_manuals_pass_mandoc),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
