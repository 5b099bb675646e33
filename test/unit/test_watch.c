/* SPDX-License-Identifier: Apache-2.0
 *
 * What the watcher reads and writes.
 */
#include "unit.h"

#include <math.h>

#include "watch/watch_priv.h"

/* --- paths into JSON --- */

static void paths_lead_through_maps_and_lists(void **state UNUSED)
{
	static const struct {
		const char *path, *text;
	} rows[] = {{"a.b", "1"},    {"a.c.1", "two"}, {"a.c.0", "true"}, {"a.d", "null"}, {"a.c", "[true,\"two\"]"},
		    {"a.x", NULL},   {"a.c.2", NULL},  {"a.c.-1", NULL},  {"a.c.x", NULL}, {"a.b.c", NULL},
		    {"a.e", "1.25"}, {"", "{\"a\":{\"b\":1,\"c\":[true,\"two\"],\"d\":null,\"e\":1.25}}"}};
	json_t *o = json_loads("{\"a\": {\"b\": 1, \"c\": [true, \"two\"], \"d\": null, \"e\": 1.25}}", 0, NULL);

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const json_t *at = watch_json_at(o, rows[i].path);
		CLEANUP_BUF struct buf text = {0};

		assert_int_equal(at != NULL, rows[i].text != NULL);
		if (!at)
			continue;
		watch_json_text(at, &text);
		assert_string_equal(buf_str(&text), rows[i].text);
	}
	json_decref(o);
}

/* --- results --- */

static void a_result_arrives_clean_and_frees_its_room_when_told(void **state UNUSED)
{
	int fd = results_create();
	struct results *rs = results_map(fd);
	struct result r = {.check = 7, .wall_ms = 8, .value = 9.5, .outcome = STATUS_BAD, .unit = RESULT_MS_UNIT}, got;
	char text[RESULT_TEXT_MAX + 1], long_text[1000];
	uint64_t at = ring_begin(&rs->ring), first = at;
	const char *record;
	uint32_t len;

	memset(long_text, 'x', sizeof(long_text) - 1);
	long_text[sizeof(long_text) - 1] = '\0';
	result_put(rs, &r, "  one\n\ttwo\x01\x7f three \xff\xc3\xa9 ");
	result_put(rs, &r, long_text);
	record = ring_look(&rs->ring, &at, &len);
	assert_true(result_read(record, len, &got, text));
	assert_string_equal(text, "one two three ?\xc3\xa9");
	assert_int_equal(got.check, 7);
	assert_true(got.value == 9.5);
	record = ring_look(&rs->ring, &at, &len);
	assert_true(result_read(record, len, &got, text));
	assert_int_equal(strlen(text), RESULT_TEXT_MAX);
	assert_null(ring_look(&rs->ring, &at, &len));
	assert_int_equal(ring_begin(&rs->ring), first); /* nothing was freed: another reader finds both */
	ring_free(&rs->ring, at);
	assert_int_equal(ring_begin(&rs->ring), at);
	close(fd);
}

static void a_full_ring_drops_counts_and_goes_on(void **state UNUSED)
{
	int fd = results_create();
	struct results *rs = results_map(fd);
	struct result r = {.value = NAN}, got;
	uint64_t at = ring_begin(&rs->ring), put = 0, seen = 0;
	char text[RESULT_TEXT_MAX + 1];
	const char *record;
	uint32_t len;

	for (int round = 0; round < 3; round++) {
		uint64_t dropped = rs->results_dropped;

		for (; rs->results_dropped < dropped + 10; put++) {
			r.check = put;
			result_put(rs, &r, "some text");
		}
		while ((record = ring_look(&rs->ring, &at, &len))) {
			assert_true(result_read(record, len, &got, text));
			assert_true(got.check >= seen); /* in order */
			seen = got.check + 1;
		}
		ring_free(&rs->ring, at);
	}
	assert_true(put > 3 * 10000);
	close(fd);
}

static void what_is_no_result_is_refused(void **state UNUSED)
{
	struct result r = {.outcome = STATUS_GOOD, .text_len = 3}, got;
	char record[sizeof(r) + 400] = {0}, text[RESULT_TEXT_MAX + 1];

	memcpy(record, &r, sizeof(r));
	assert_true(result_read(record, sizeof(r) + 3, &got, text));
	assert_false(result_read(record, sizeof(r) + 2, &got, text));
	assert_false(result_read(record, sizeof(r) - 1, &got, text));
	r.outcome = STATUS_COUNT;
	memcpy(record, &r, sizeof(r));
	assert_false(result_read(record, sizeof(r) + 3, &got, text));
	r = (struct result){.text_len = RESULT_TEXT_MAX + 1};
	memcpy(record, &r, sizeof(r));
	assert_false(result_read(record, sizeof(r) + RESULT_TEXT_MAX + 1, &got, text));
	r = (struct result){.unit = RESULT_UNIT_COUNT};
	memcpy(record, &r, sizeof(r));
	assert_false(result_read(record, sizeof(r), &got, text));
}

static void values_are_written_for_people(void **state UNUSED)
{
	char text[64];

	assert_string_equal(result_value_text(162.4, RESULT_MS_UNIT, text), "162 ms");
	assert_string_equal(result_value_text(1.5, RESULT_MS_UNIT, text), "1.5 ms");
	assert_string_equal(result_value_text(3221225472.0, RESULT_BYTES_UNIT, text), "3 GiB");
	assert_string_equal(result_value_text(80.25, RESULT_PERCENT_UNIT, text), "80.2 %");
	assert_string_equal(result_value_text(12, RESULT_NONE_UNIT, text), "12");
	assert_string_equal(result_value_text(NAN, RESULT_MS_UNIT, text), "");
}

/* --- plugins --- */

static void perfdata_is_read_with_its_units(void **state UNUSED)
{
	static const struct {
		const char *text, *label;
		double value;
		enum result_unit unit;
	} rows[] = {{"time=0.25s;1;2;0;10", "time", 250, RESULT_MS_UNIT},
		    {"'a b''c'=5%", "a b'c", 5, RESULT_PERCENT_UNIT},
		    {"/=2643MB;5948;5958;0;5968", "/", 2643.0 * 1048576, RESULT_BYTES_UNIT},
		    {"rta=310us", "rta", 0.31, RESULT_MS_UNIT},
		    {"n=-1.5", "n", -1.5, RESULT_NONE_UNIT},
		    {"c=77c", "c", 77, RESULT_NONE_UNIT},
		    {"junk =3 a=U b=nan c=0x10 d=1e999 e=7;;;", "e", 7, RESULT_NONE_UNIT},
		    {"'never ends=3", "ends", 3, RESULT_NONE_UNIT},
		    {"", "", 0, 0},
		    {"a=;1;2", "", 0, 0}};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		const char *at = rows[i].text;
		struct perfdata p = {0};

		assert_int_equal(perfdata_next(&at, &p), rows[i].label[0] != '\0');
		if (!rows[i].label[0])
			continue;
		assert_string_equal(p.label, rows[i].label);
		assert_true(p.value >= rows[i].value - 1e-9 && p.value <= rows[i].value + 1e-9);
		assert_int_equal(p.unit, rows[i].unit);
		assert_false(perfdata_next(&at, &p));
	}
}

static void output_of_plugins_is_split_and_cleaned(void **state UNUSED)
{
	char text[] = "<b>DISK</b> OK - 3 < 4 <br/>free | /=1MB\nmore | x=2\n", bare[] = "OK", open[] = "a <b";
	const char *perf = plugin_split(text);

	assert_string_equal(perf, " /=1MB");
	plugin_strip_tags(text);
	assert_string_equal(text, "DISK OK - 3 < 4 free");
	assert_string_equal(plugin_split(bare), "");
	plugin_strip_tags(open);
	assert_string_equal(open, "a <b");
}

/* --- addresses --- */

static void addresses_are_split(void **state UNUSED)
{
	char host[300];
	uint16_t port;

	watch_split("example.org:80", host, &port);
	assert_string_equal(host, "example.org");
	assert_int_equal(port, 80);
	watch_split("[::1]:65535", host, &port);
	assert_string_equal(host, "::1");
	assert_int_equal(port, 65535);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(paths_lead_through_maps_and_lists),
	    cmocka_unit_test(a_result_arrives_clean_and_frees_its_room_when_told),
	    cmocka_unit_test(a_full_ring_drops_counts_and_goes_on),
	    cmocka_unit_test(what_is_no_result_is_refused),
	    cmocka_unit_test(values_are_written_for_people),
	    cmocka_unit_test(perfdata_is_read_with_its_units),
	    cmocka_unit_test(output_of_plugins_is_split_and_cleaned),
	    cmocka_unit_test(addresses_are_split),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
