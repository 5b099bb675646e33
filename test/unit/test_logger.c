/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <fcntl.h>
#include <jansson.h>
#include <sys/eventfd.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/wait.h>

#include "logger/logger.h"
#include "logger/logger_priv.h"
#include "wire/ring.h"
#include "wire/shm.h"

#define WALL 1795310355123ull /* 2026-11-22T01:19:15.123Z */
#define WHEN "2026-11-22T01:19:15.123Z "

static char state[64];

static int setup(void **unused UNUSED)
{
	char path[80];

	strcpy(state, "/tmp/upstate-logger-XXXXXX");
	if (!mkdtemp(state))
		return -1;
	snprintf(path, sizeof(path), "%s/log", state);
	return mkdir(path, 0700);
}

static int teardown(void **unused UNUSED)
{
	static const char *const names[] = {"a.log",	      "a.log.1",   "a.log.2",
					    "a.log.3",	      "book.log",  "access.log",
					    "access.app.log", "_.x_y.log", ""};
	char path[100];

	for (size_t i = 0; i < ARRAY_LEN(names); i++) {
		snprintf(path, sizeof(path), "%s/log/%s", state, names[i]);
		remove(path);
	}
	return rmdir(state);
}

static const char *content(const char *name)
{
	static char text[200000];
	char path[100];
	FILE *f;
	size_t n = 0;

	snprintf(path, sizeof(path), "%s/log/%s", state, name);
	f = fopen(path, "r");
	if (f) {
		n = fread(text, 1, sizeof(text) - 1, f);
		fclose(f);
	}
	text[n] = '\0';
	return text;
}

/* --- lines --------------------------------------------------------------- */

static void bytes_become_lines_wherever_they_are_cut(void **unused UNUSED)
{
	static const char in[] = "one\ntwo\r\n\nthree";
	static const char want[] = WHEN "i one\n" WHEN "i two\n" WHEN "i \n" WHEN "i three\n";

	for (size_t cut = 0; cut < sizeof(in); cut++) {
		struct lines l = {.name = "i"};
		CLEANUP_BUF struct buf out = {0};

		lines_add(&l, in, cut, WALL, &out);
		lines_add(&l, in + cut, sizeof(in) - 1 - cut, WALL, &out);
		assert_null(strstr(buf_str(&out), "three")); /* its end is not there yet */
		lines_flush(&l, WALL, &out);
		lines_flush(&l, WALL, &out);
		assert_string_equal(buf_str(&out), want);
	}
}

static void a_line_is_cut_at_its_bound_and_says_so(void **unused UNUSED)
{
	static char in[LOG_LINE_MAX + 1000];
	struct lines l = {.name = "i"};
	CLEANUP_BUF struct buf out = {0};

	memset(in, 'x', sizeof(in));
	lines_add(&l, in, sizeof(in), WALL, &out);
	lines_add(&l, "\nnext\n", 6, WALL, &out);
	assert_non_null(strstr(buf_str(&out), "xxx [1000 more bytes were cut]\n" WHEN "i next\n"));
	assert_int_equal(out.len, 2 * (strlen(WHEN) + 2) + LOG_LINE_MAX +
				      strlen(" [1000 more bytes were cut]\nnext\n"));
	buf_free(&out);
	lines_add(&l, in, LOG_LINE_MAX, WALL, &out); /* exactly as long as it may be */
	lines_add(&l, "\n", 1, WALL, &out);
	assert_null(strstr(buf_str(&out), "cut"));
}

/* --- files --------------------------------------------------------------- */

static void a_file_is_rotated_at_its_size_and_the_oldest_goes(void **unused UNUSED)
{
	const struct msg_logconf conf = {.file_bytes = 10, .files = 3, .access = 1};
	struct logfile f;

	logfile_init(&f, &conf, state, "a.log");
	for (int i = 0; i < 9; i++) {
		char line[] = "line0\n";

		line[4] = (char)('0' + i);
		logfile_write(&f, line, 6, 0);
	}
	assert_string_equal(content("a.log"), "line8\n");
	assert_string_equal(content("a.log.1"), "line7\n");
	assert_string_equal(content("a.log.2"), "line6\n");
	assert_string_equal(content("a.log.3"), "");
	logfile_fini(&f);
	logfile_init(&f, &conf, state, "a.log"); /* a new logger goes on where the file is */
	logfile_write(&f, "new\n", 4, 0);
	assert_string_equal(content("a.log"), "line8\nnew\n");
	assert_int_equal(f.dropped, 0);
	logfile_fini(&f);
}

static void one_file_only_starts_over(void **unused UNUSED)
{
	const struct msg_logconf conf = {.file_bytes = 10, .files = 1};
	struct logfile f;

	logfile_init(&f, &conf, state, "a.log");
	logfile_write(&f, "aaaaaaaa\n", 9, 0);
	logfile_write(&f, "bbbbbbbbbbbbbbb\n", 16, 0); /* longer than a file: it has its own */
	assert_string_equal(content("a.log"), "bbbbbbbbbbbbbbb\n");
	assert_string_equal(content("a.log.1"), "");
	logfile_fini(&f);
}

/* RLIMIT_FSIZE stands for a disk that is full: it cuts a write short in the same way. */
static void a_full_disk_drops_whole_lines_and_counts_them_and_goes_on_later(void **unused UNUSED)
{
	const struct msg_logconf conf = {.file_bytes = 1 << 20, .files = 2};
	struct rlimit was, small;
	struct logfile f;

	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &was);
	small = was;
	small.rlim_cur = 15;
	logfile_init(&f, &conf, state, "a.log");
	f.complain_ms = UINT64_MAX; /* silent here; so dropped is not reset */
	setrlimit(RLIMIT_FSIZE, &small);
	logfile_write(&f, "0123456789\n", 11, 0);
	logfile_write(&f, "0123456789\n", 11, 0); /* 4 bytes of it would fit */
	setrlimit(RLIMIT_FSIZE, &was);
	assert_string_equal(content("a.log"), "0123456789\n");
	assert_int_equal(f.dropped, 11);
	logfile_write(&f, "after\n", 6, 0);
	assert_string_equal(content("a.log"), "0123456789\nafter\n");
	logfile_fini(&f);
}

static void a_file_that_cannot_be_opened_is_tried_again_each_second(void **unused UNUSED)
{
	const struct msg_logconf conf = {.file_bytes = 1 << 20, .files = 2};
	struct logfile f;
	char moved[100], path[100];

	snprintf(path, sizeof(path), "%s/log", state);
	snprintf(moved, sizeof(moved), "%s/gol", state);
	rename(path, moved);
	logfile_init(&f, &conf, state, "a.log");
	logfile_write(&f, "lost\n", 5, 1000);
	rename(moved, path);
	logfile_write(&f, "lost\n", 5, 1999);
	logfile_write(&f, "there\n", 6, 2000);
	assert_string_equal(content("a.log"), "there\n");
	assert_int_equal(f.dropped, 5); /* since it was said, after the first */
	logfile_fini(&f);
}

/* --- access -------------------------------------------------------------- */

#define SHARE_OF_ID 725952 /* the smallest share that has the id of W3C's examples */

static char record[2000];

static uint32_t make_record(const char *path, size_t path_len)
{
	struct access_record r = {.wall_us = WALL * 1000 + 999,
				  .bytes_in = 5,
				  .bytes_out = 7000000000,
				  .total_us = 12345,
				  .wait_us = 1000,
				  .target_us = 9,
				  .status = 200,
				  .tries = 2,
				  .end = ACCESS_DONE,
				  .sample = 12500,
				  .http = 11,
				  .release = 12,
				  .method_len = 3,
				  .host_len = 2,
				  .path_len = (uint16_t)path_len,
				  .app_len = 4,
				  .target_len = 1,
				  .client_len = 9,
				  .id_len = 2,
				  .agent_len = 1,
				  .trace_len = 2};
	char *p = record;

	memcpy(p, &r, sizeof(r));
	p += sizeof(r);
	memcpy(p, "GETho", 5);
	memcpy(p + 5, path, path_len);
	memcpy(p + 5 + path_len, "bookT127.0.0.1idUtr", 19);
	return (uint32_t)(sizeof(r) + 5 + path_len + 19);
}

static void a_record_becomes_a_line_of_json(void **unused UNUSED)
{
	CLEANUP_BUF struct buf out = {0};

	assert_true(access_line(record, make_record("/a?b", 4), &out));
	assert_string_equal(
	    buf_str(&out),
	    "{\"time\":\"2026-11-22T01:19:15.123Z\",\"client\":\"127.0.0.1\","
	    "\"method\":\"GET\",\"host\":\"ho\",\"path\":\"/a?b\",\"status\":200,"
	    "\"bytes_in\":5,\"bytes_out\":7000000000,\"ms\":12.345,\"wait_ms\":1.000,"
	    "\"target_ms\":0.009,\"app\":\"book\",\"release\":12,\"target\":\"T\","
	    "\"http\":1.1,\"tries\":2,\"id\":\"id\",\"trace\":\"tr\",\"sample\":0.0125,\"end\":\"done\",\"agent\":\"U\"}\n");
}

static uint32_t count_sampled(uint32_t share, uint32_t of)
{
	uint32_t count = 0;
	char id[33];

	for (uint32_t i = 0; i < of; i++) {
		/* Ids that count up are the hardest: only their last digits differ. */
		snprintf(id, sizeof(id), "0af7651916cd43dd8448eb21%08x", i);
		count += access_sampled(id, 32, share);
		if (access_sampled(id, 32, share))
			assert_true(access_sampled(id, 32, share + share / 2)); /* a part of a larger one */
	}
	return count;
}

static void a_share_of_the_traces_is_logged_and_always_the_same_ones(void **unused UNUSED)
{
	assert_int_equal(count_sampled(0, 10000), 0);
	assert_int_equal(count_sampled(ACCESS_ALL, 10000), 10000);
	assert_in_range(count_sampled(100000, 100000), 9700, 10300);
	assert_in_range(count_sampled(1000, 100000), 70, 130);
	assert_in_range(count_sampled(500000, 100000), 49500, 50500);
	/* Written down, because other hops decide alike: it must not change from version to version. */
	assert_true(access_sampled("0af7651916cd43dd8448eb211c80319c", 32, SHARE_OF_ID));
	assert_false(access_sampled("0af7651916cd43dd8448eb211c80319c", 32, SHARE_OF_ID - 1));
	assert_true(access_sampled("", 0, ACCESS_ALL));
}

/* Jansson, a strict reader, is the judge. */
static void any_bytes_become_valid_json_and_text_stays_what_it_was(void **unused UNUSED)
{
	static const char *const good[] = {"/plain",	"/\"quoted\\",	 "/\x01\x1f\x7f",
					   "/\xc3\xa9", "/\xe2\x82\xac", "/\xf0\x9f\x98\x80"};
	unsigned seed = 1;

	for (size_t i = 0; i < ARRAY_LEN(good); i++) {
		CLEANUP_BUF struct buf out = {0};
		json_t *j;

		assert_true(access_line(record, make_record(good[i], strlen(good[i])), &out));
		j = json_loads(buf_str(&out), 0, NULL);
		assert_non_null(j);
		assert_string_equal(json_string_value(json_object_get(j, "path")), good[i]);
		json_decref(j);
	}
	for (int i = 0; i < 20000; i++) {
		CLEANUP_BUF struct buf out = {0};
		char bytes[24];
		json_t *j;

		for (size_t n = 0; n < sizeof(bytes); n++) {
			seed = seed * 1103515245 + 12345;
			bytes[n] = (char)(i % 2 ? seed >> 16 : 0x80 | seed >> 16);
		}
		assert_true(access_line(record, make_record(bytes, (size_t)i % 25), &out));
		j = json_loads(buf_str(&out), JSON_ALLOW_NUL, NULL);
		assert_non_null(j);
		json_decref(j);
	}
}

static void what_is_not_utf8_becomes_a_replacement_character(void **unused UNUSED)
{
	static const char *const bad[] = {"\xc0\xaf", "\xed\xa0\x80", "\xf5\x80\x80\x80",
					  "\xe2\x82", "\x80"};

	for (size_t i = 0; i < ARRAY_LEN(bad); i++) {
		CLEANUP_BUF struct buf out = {0};

		assert_true(access_line(record, make_record(bad[i], strlen(bad[i])), &out));
		assert_non_null(strstr(buf_str(&out), "\"path\":\"\\ufffd"));
	}
}

static void a_record_whose_lengths_do_not_add_up_is_refused(void **unused UNUSED)
{
	uint32_t len = make_record("/", 1);
	CLEANUP_BUF struct buf out = {0};

	for (uint32_t n = 0; n < len + 20; n++)
		if (n != len)
			assert_false(access_line(record, n, &out));
	assert_int_equal(out.len, 0);
}

/* --- the whole process --------------------------------------------------- */

static struct msg_channel keeper;
static struct loop loop;
static bool is_ready, has_ended;

static void on_msg(struct msg_channel *ch UNUSED, struct msg *m)
{
	is_ready |= m->type == MSG_READY;
}

static void on_end(struct msg_channel *ch UNUSED, const char *reason UNUSED)
{
	has_ended = true;
}

static pid_t start_logger(int ring, int bell)
{
	struct msg_shared shared = {.threads = 1};
	int ends[2], fds[2] = {bell, ring};
	pid_t pid;

	assert_int_equal(msg_pair(ends), 0);
	pid = fork();
	if (pid == 0) {
		char *argv[] = {(char *)"upstate", (char *)"_logger", state, NULL};

		dup2(ends[1], MSG_CHANNEL_FD);
		close_range(MSG_CHANNEL_FD + 1, ~0u, 0);
		_exit(logger_main(3, argv));
	}
	close(ends[1]);
	keeper = (struct msg_channel){.on_msg = on_msg, .on_end = on_end};
	is_ready = has_ended = false;
	assert_int_equal(loop_init(&loop), 0);
	assert_int_equal(msg_channel_open(&keeper, &loop, ends[0]), 0);
	msg_send(&keeper, MSG_SHARED, &shared, NULL, 0, fds, 2);
	while (!is_ready)
		loop_turn(&loop, 1000);
	return pid;
}

static void end_logger(pid_t pid)
{
	int status = -1;

	msg_channel_close(&keeper);
	assert_int_equal(waitpid(pid, &status, 0), pid);
	assert_int_equal(status, 0);
	loop_fini(&loop);
}

static int open_stream(const char *app, const char *name)
{
	struct msg_stream m = {.id = 1};
	int out[2];

	util_copy(m.app, sizeof(m.app), app);
	util_copy(m.name, sizeof(m.name), name);
	assert_int_equal(pipe2(out, O_CLOEXEC), 0);
	fcntl(out[0], F_SETFL, O_NONBLOCK);
	msg_send(&keeper, MSG_STREAM, &m, NULL, 0, &out[0], 1);
	close(out[0]);
	return out[1];
}

static void wait_for(const char *file, const char *text)
{
	for (int i = 0; i < 2000 && !strstr(content(file), text); i++)
		loop_turn(&loop, 10);
	assert_non_null(strstr(content(file), text));
}

static void the_logger_writes_lines_partial_lines_and_what_is_left_at_the_end(void **unused UNUSED)
{
	int ring = ring_create(SHM_BANKS), bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	pid_t pid = start_logger(ring, bell);
	int one = open_stream("book", "book@1/1"), two = open_stream("book", "book@1/2");
	int odd = open_stream("access", "access@1/1"), evil = open_stream("..x/y", "evil");

	dprintf(one, "first\n");
	wait_for("book.log", "Z book@1/1 first\n");
	dprintf(two, "no end");
	wait_for("book.log", "Z book@1/2 no end\n");
	dprintf(odd, "not the access log\n");
	wait_for("access.app.log", "not the access log\n");
	dprintf(evil, "stays within\n");
	wait_for("_.x_y.log", "stays within\n");
	dprintf(one, "left\nand left");
	close(one), close(two), close(odd), close(evil);
	end_logger(pid);
	assert_non_null(strstr(content("book.log"), "left\n"));
	assert_non_null(strstr(content("book.log"), "and left\n"));
	close(ring), close(bell);
}

static void the_bell_wakes_the_logger_and_records_reach_the_access_log(void **unused UNUSED)
{
	int ring_fd = ring_create(SHM_BANKS), bell = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	struct ring *ring = ring_map(ring_fd, SHM_BANKS);
	pid_t pid = start_logger(ring_fd, bell);
	uint32_t len = make_record("/one", 4);

	while (!atomic_load(&ring->sleeping))
		loop_turn(&loop, 10);
	memcpy(ring_reserve(ring, len), record, len);
	assert_true(ring_commit(ring, len));
	assert_int_equal(write(bell, &(uint64_t){1}, 8), 8);
	wait_for("access.log", "\"path\":\"/one\"");
	len = make_record("/two",
			  4); /* while it is awake, or asleep again: it is written at the end */
	memcpy(ring_reserve(ring, len), record, len);
	ring_commit(ring, len);
	end_logger(pid);
	assert_non_null(strstr(content("access.log"), "\"path\":\"/two\""));
	close(ring_fd), close(bell);
}

int main(void)
{
#define T(f) cmocka_unit_test_setup_teardown(f, setup, teardown)
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(bytes_become_lines_wherever_they_are_cut),
	    cmocka_unit_test(a_line_is_cut_at_its_bound_and_says_so),
	    T(a_file_is_rotated_at_its_size_and_the_oldest_goes),
	    T(one_file_only_starts_over),
	    T(a_full_disk_drops_whole_lines_and_counts_them_and_goes_on_later),
	    T(a_file_that_cannot_be_opened_is_tried_again_each_second),
	    cmocka_unit_test(a_record_becomes_a_line_of_json),
	    cmocka_unit_test(any_bytes_become_valid_json_and_text_stays_what_it_was),
	    cmocka_unit_test(what_is_not_utf8_becomes_a_replacement_character),
	    cmocka_unit_test(a_record_whose_lengths_do_not_add_up_is_refused),
	    T(the_logger_writes_lines_partial_lines_and_what_is_left_at_the_end),
	    T(a_share_of_the_traces_is_logged_and_always_the_same_ones),
	    T(the_bell_wakes_the_logger_and_records_reach_the_access_log),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
