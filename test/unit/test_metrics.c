/* SPDX-License-Identifier: Apache-2.0
 *
 * What counters are called as metrics, and how they are written. The whole answer is tested end to end
 * by those who read it (test/e2e/test_metrics.py).
 */
#include "unit.h"

#include "tell/metrics_names.h"
#include "wire/shm.h"

static struct metric_name named(const char *counter, const char *what)
{
	struct metric_name m;

	metric_name(counter, what, &m);
	return m;
}

static void counters_that_tell_one_thing_apart_are_one_family(void **state UNUSED)
{
	struct metric_name m = named("answered_2xx", "");

	assert_string_equal(m.family, "responses");
	assert_string_equal(m.label, "class");
	assert_string_equal(m.value, "2xx");
	m = named("failed_503_full", "no place left in the waiting room (app)");
	assert_string_equal(m.family, "failures");
	assert_string_equal(m.value, "503_full");
	assert_true(m.app && !m.target);
	m = named("refused_401", "of these: no user of the app"); /* a sum would count it twice */
	assert_string_equal(m.family, "refused_401");
	assert_string_equal(m.label, "");
	assert_string_equal(m.help, "No user of the app.");
	m = named("ejected_latency", "slower than the others (target)"); /* nobody knows it yet */
	assert_string_equal(m.family, "ejections");
	assert_string_equal(m.value, "latency");
	assert_true(!m.app && m.target);
}

static void units_become_base_units_and_stand_in_the_name(void **state UNUSED)
{
	struct metric_name m = named("held_ms", "sum of the waits (app)");

	assert_string_equal(m.family, "held_seconds");
	assert_string_equal(m.unit, "seconds");
	assert_int_equal(m.per, 1000);
	assert_string_equal(m.help, "Sum of the waits.");
	m = named("spent_us", "time");
	assert_string_equal(m.family, "spent_seconds");
	assert_int_equal(m.per, 1000000);
	m = named("bytes_in", "body bytes from clients");
	assert_string_equal(m.family, "received_bytes");
	assert_string_equal(m.unit, "bytes");
	assert_int_equal(m.per, 1);
}

static void a_text_says_what_is_a_gauge(void **state UNUSED)
{
	assert_true(named("clients", "client connections now (gauge)").gauge);
	assert_string_equal(named("clients", "client connections now (gauge)").help, "Client connections now.");
	assert_false(named("accepted", "client connections accepted").gauge);
}

#define SEEN_MAX 400
static char seen[SEEN_MAX][3 * METRIC_NAME];
static size_t seen_len;

/* [a-z0-9_], said what it is, and told only once: two counters that became one sample would hide
 * each other. */
static void check_name(const char *scope, const char *counter, const char *what)
{
	struct metric_name m = named(counter, what);
	char *mine = seen[seen_len++];

	assert_true(seen_len < SEEN_MAX);
	if (!m.help[0])
		fail_msg("%s says not what it counts", counter);
	if (m.family[strspn(m.family, "abcdefghijklmnopqrstuvwxyz0123456789_")])
		fail_msg("'%s' is no name of a metric", m.family);
	snprintf(mine, sizeof(seen[0]), "%s %s %s", scope, m.family, m.value);
	for (size_t i = 0; i + 1 < seen_len; i++)
		assert_string_not_equal(seen[i], mine);
}

static void every_counter_has_a_name_of_its_own_and_a_text(void **state UNUSED)
{
	seen_len = 0;
#define X(name, what) check_name("slot", #name, what);
	COUNT_TABLE(X)
	GAUGE_TABLE(X)
#undef X
#define X(name, what) check_name("router", #name, what);
	THREAD_COUNT_TABLE(X)
#undef X
}

static void check_number(uint64_t n, uint32_t per, const char *text)
{
	CLEANUP_BUF struct buf b = {0};

	metric_number(&b, n, per);
	assert_string_equal(buf_str(&b), text);
}

static void numbers_are_exact(void **state UNUSED)
{
	check_number(0, 1, "0");
	check_number(UINT64_MAX, 1, "18446744073709551615");
	check_number(1, 1000, "0.001");
	check_number(1500, 1000, "1.500");
	check_number(2000, 1000, "2");
	check_number(UINT64_MAX, 1000000, "18446744073709.551615");
}

static void values_of_labels_are_escaped(void **state UNUSED)
{
	CLEANUP_BUF struct buf b = {0};

	metric_escape(&b, "unix:/a\"b\\c\nd");
	assert_string_equal(buf_str(&b), "unix:/a\\\"b\\\\c\\nd");
}

static bool wants(const char *accept)
{
	return metric_wants_open(accept, strlen(accept));
}

static void the_format_that_is_wanted_more_is_sent(void **state UNUSED)
{
	assert_false(metric_wants_open(NULL, 0));
	assert_false(wants("*/*"));
	assert_false(wants("text/plain"));
	assert_true(wants("application/openmetrics-text"));
	assert_true(wants("application/openmetrics-text; version=1.0.0"));
	assert_false(wants("application/openmetrics-text; version=2.0.0"));
	/* what Prometheus 2.42 and 3.0 send */
	assert_true(wants("application/openmetrics-text;version=1.0.0,application/openmetrics-text;version=0.0.1;"
			  "q=0.75,text/plain;version=0.0.4;q=0.5,*/*;q=0.1"));
	assert_true(wants("application/openmetrics-text;version=1.0.0;escaping=allow-utf-8;q=0.5,"
			  "text/plain;version=0.0.4;q=0.3,*/*;q=0.2"));
	assert_false(wants("application/openmetrics-text;q=0.2, text/plain;q=0.9"));
	assert_false(wants("application/openmetrics-text;q=0"));
	assert_false(wants("application/openmetrics-text;q=0.000, */*"));
	assert_false(wants(";;;,,,q=1"));
	assert_true(wants(" APPLICATION/OpenMetrics-Text ;\tq=1.0 "));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(counters_that_tell_one_thing_apart_are_one_family),
		cmocka_unit_test(units_become_base_units_and_stand_in_the_name),
		cmocka_unit_test(a_text_says_what_is_a_gauge),
		cmocka_unit_test(every_counter_has_a_name_of_its_own_and_a_text),
		cmocka_unit_test(numbers_are_exact),
		cmocka_unit_test(values_of_labels_are_escaped),
		cmocka_unit_test(the_format_that_is_wanted_more_is_sent),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
