/* SPDX-License-Identifier: Apache-2.0 */
#include "unit.h"

#include <math.h>

#include "core/status.h"
#include "core/threshold.h"

static struct threshold read_it(const char *text)
{
	struct threshold t;
	struct err e = {0};

	if (threshold_parse(text, &t, &e) < 0)
		fail_msg("'%s': %s", text, e.msg);
	return t;
}

static void each_unit_is_known_and_comes_to_its_base(void **state UNUSED)
{
	static const struct {
		const char *text, *printed;
		enum threshold_kind kind;
		double value;
	} cells[] = {
	    {"> 150ms", "> 150ms", THRESHOLD_KIND_TIME, 150},
	    {">500us", "> 500us", THRESHOLD_KIND_TIME, 0.5},
	    {"> 5s", "> 5s", THRESHOLD_KIND_TIME, 5000},
	    {"> 5m", "> 5m", THRESHOLD_KIND_TIME, 300000},
	    {"> 5 min", "> 5min", THRESHOLD_KIND_TIME, 300000},
	    {"> 25h", "> 25h", THRESHOLD_KIND_TIME, 90000000},
	    {"< 14 d", "< 14d", THRESHOLD_KIND_TIME, 1209600000},
	    {"< 80%", "< 80%", THRESHOLD_KIND_PERCENT, 80},
	    {"!= 3", "!= 3", THRESHOLD_KIND_PLAIN, 3},
	    {"= 3", "== 3", THRESHOLD_KIND_PLAIN, 3},
	    {"==3", "== 3", THRESHOLD_KIND_PLAIN, 3},
	    {"<= 1B", "<= 1B", THRESHOLD_KIND_BYTES, 1},
	    {"< 3kb", "< 3kB", THRESHOLD_KIND_BYTES, 3000},
	    {"< 3 MB", "< 3MB", THRESHOLD_KIND_BYTES, 3e6},
	    {">= 2.5 GB", ">= 2.5GB", THRESHOLD_KIND_BYTES, 2.5e9},
	    {"< 1TB", "< 1TB", THRESHOLD_KIND_BYTES, 1e12},
	    {"< 1kib", "< 1KiB", THRESHOLD_KIND_BYTES, 1024},
	    {"< 1MiB", "< 1MiB", THRESHOLD_KIND_BYTES, 1 << 20},
	    {"< 10GiB", "< 10GiB", THRESHOLD_KIND_BYTES, 10.0 * (1 << 30)},
	    {"< 1.50TiB", "< 1.50TiB", THRESHOLD_KIND_BYTES, 1.5 * 1099511627776.0},
	    {" \t> \t-12.25 \t", "> -12.25", THRESHOLD_KIND_PLAIN, -12.25},
	    {"> +7", "> 7", THRESHOLD_KIND_PLAIN, 7},
	    {"> 0.1", "> 0.1", THRESHOLD_KIND_PLAIN, 0.1},
	    {"> 0.00000000000001", "> 0.00000000000001", THRESHOLD_KIND_PLAIN, 1e-14},
	    {"> 999999999999999", "> 999999999999999", THRESHOLD_KIND_PLAIN, 999999999999999},
	    {"> -0", "> 0", THRESHOLD_KIND_PLAIN, 0},
	    {"battery < 80%", "battery < 80%", THRESHOLD_KIND_PERCENT, 80},
	    {"battery.charge<80%", "battery.charge < 80%", THRESHOLD_KIND_PERCENT, 80},
	    {"/var_x-1 > 5", "/var_x-1 > 5", THRESHOLD_KIND_PLAIN, 5},
	    {"a2345678901234567890123456789012345z > 5", "a2345678901234567890123456789012345z > 5", THRESHOLD_KIND_PLAIN, 5},
	};
	char printed[THRESHOLD_TEXT];

	for (size_t i = 0; i < ARRAY_LEN(cells); i++) {
		struct threshold t = read_it(cells[i].text), again;

		assert_int_equal(threshold_print(&t, printed), strlen(cells[i].printed));
		assert_string_equal(printed, cells[i].printed);
		assert_int_equal(threshold_kind(&t), cells[i].kind);
		assert_true(t.value == cells[i].value);
		again = read_it(printed);
		assert_memory_equal(&t, &again, sizeof(t));
	}
}

static void each_operator_at_its_edge(void **state UNUSED)
{
	static const struct {
		const char *text;
		bool below, at, above;
	} cells[] = {{"> 150ms", false, false, true}, {">= 150ms", false, true, true},
		     {"< 150ms", true, false, false}, {"<= 150ms", true, true, false},
		     {"== 150ms", false, true, false}, {"!= 150ms", true, false, true}};

	for (size_t i = 0; i < ARRAY_LEN(cells); i++) {
		struct threshold t = read_it(cells[i].text);

		assert_int_equal(threshold_crossed(&t, 149.99999999999997), cells[i].below); /* the next double */
		assert_int_equal(threshold_crossed(&t, 150000 / 1000.0), cells[i].at);
		assert_int_equal(threshold_crossed(&t, 150.00000000000003), cells[i].above);
		assert_int_equal(threshold_crossed(&t, -INFINITY), cells[i].below);
		assert_int_equal(threshold_crossed(&t, INFINITY), cells[i].above);
		assert_false(threshold_crossed(&t, NAN)); /* nothing was measured */
	}
	assert_false(threshold_crossed(&(struct threshold){0}, 1)); /* there is none */
}

static void what_is_wrong_is_said(void **state UNUSED)
{
	static const struct {
		const char *text, *why;
	} cells[] = {
	    {"", "expected one of"}, {"150ms", "expected one of"}, {"battery", "expected one of"},
	    {"~ 5", "expected one of"}, {"! 5", "expected one of"}, {"two words > 5", "expected one of"},
	    {">", "expected a number"}, {"> x", "expected a number"}, {"> .5", "expected a number"},
	    {"> -", "expected a number"}, {"> nan", "expected a number"}, {"> inf", "expected a number"},
	    {">> 5", "expected a number"}, {"=> 5", "expected a number"}, {"> - 5", "expected a number"},
	    {"> 5.", "is no unit"}, {"> 1e5", "is no unit"}, {"> 0x10", "is no unit"}, {"> 1,5", "is no unit"},
	    {"> 5 apples", "is no unit"}, {"> 5 m s", "is no unit"}, {"> 5ms 3", "is no unit"},
	    {"> 1.2.3", "is no unit"}, {"> 5%%", "is no unit"},
	    {"> 1234567890123456", "more than 15 digits"}, {"> 0.000000000000001", "more than 15 digits"},
	    {"a23456789012345678901234567890123456z > 5", "longer than 36"},
	};

	for (size_t i = 0; i < ARRAY_LEN(cells); i++) {
		struct threshold t = {.value = 42};
		struct err e = {0};

		assert_int_equal(threshold_parse(cells[i].text, &t, &e), -ERR_INPUT);
		if (!strstr(e.msg, cells[i].why))
			fail_msg("'%s': %s", cells[i].text, e.msg);
		assert_true(t.value == 42);
	}
}

static void each_kind_says_what_it_wants(void **state UNUSED)
{
	for (int k = 0; k < THRESHOLD_KIND_COUNT; k++)
		assert_true(threshold_wants((enum threshold_kind)k)[0]);
}

static void the_worse_of_two_statuses(void **state UNUSED)
{
	static const enum status order[] = {STATUS_GOOD, STATUS_UNKNOWN, STATUS_BAD, STATUS_UGLY};

	for (size_t i = 0; i < 4; i++) {
		for (size_t j = 0; j < 4; j++)
			assert_int_equal(status_worse(order[i], order[j]), order[MAX(i, j)]);
	}
	assert_string_equal(status_name(STATUS_UNKNOWN), "unknown");
	assert_int_equal(STATUS_UGLY, 2); /* as a plugin exits */
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(each_unit_is_known_and_comes_to_its_base),
		cmocka_unit_test(each_operator_at_its_edge),
		cmocka_unit_test(what_is_wrong_is_said),
		cmocka_unit_test(each_kind_says_what_it_wants),
		cmocka_unit_test(the_worse_of_two_statuses),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
