/* SPDX-License-Identifier: Apache-2.0
 *
 * Devices, what needs them, and their checks, as their user writes them.
 */
#include "conf_fixture.h"

#define KINDS "http, tcp, plugin, push, tls, dns, icmp, version, file, host, process"
#define APPS "apps: {a: {run: x $PORT}}\n"

/* A device with this check (which begins in column 14 of line 3) is refused. */
static void check_refused(const char *check, const char *message)
{
	CLEANUP_BUF struct buf text = {0}, want = {0};

	buf_addf(&text, APPS "devices: {d: {checks: [\n%s]}}\n", check);
	buf_addf(&want, "f:3:%s\n", message);
	refused(buf_str(&text), buf_str(&want));
}

static void a_device_has_the_defaults_of_a_careful_operator(void **state UNUSED)
{
	struct conf *c = parse(APPS "devices: {d: {checks: [{http: 'http://x/', every: 10s}, {tcp: 'x:1'}]}, e: }\n");
	const struct conf_check *k;

	assert_non_null(c);
	assert_int_equal(c->device_count, 2);
	assert_int_equal(c->check_count, 2);
	k = conf_device(c, "d")->checks;
	assert_int_equal(k[0].kind, CONF_CHECK_HTTP);
	assert_string_equal(k[0].what, "http://x/");
	assert_string_equal(k[0].status, "200-399");
	assert_int_equal(k[0].every_ms, 10000);
	assert_int_equal(k[0].timeout_ms, 10000);
	assert_int_equal(k[0].rise, 1);
	assert_int_equal(k[0].fall, 2);
	assert_true(k[0].verify);
	assert_int_equal(k[0].expires_s, 14 * 86400);
	assert_int_equal(k[1].kind, CONF_CHECK_TCP);
	assert_int_equal(k[1].every_ms, 60000);
	assert_null(conf_device(c, "x"));
	conf_free(c);
}

static uint64_t id_of(const char *checks, uint32_t i)
{
	CLEANUP_BUF struct buf text = {0};
	struct conf *c;
	uint64_t id;

	buf_addf(&text, APPS "devices: {d: {checks: [%s]}}\n", checks);
	c = parse(buf_str(&text));
	assert_non_null(c);
	id = c->devices[0].checks[i].id;
	conf_free(c);
	return id;
}

static void a_check_is_known_by_its_name_or_its_place_among_its_kind(void **state UNUSED)
{
	uint64_t one = id_of("{tcp: 'x:1'}", 0);

	assert_int_equal(one, id_of("{http: 'http://x/'}, {tcp: 'y:2', every: 5s}", 1));
	assert_int_not_equal(one, id_of("{tcp: 'x:1'}, {tcp: 'x:1'}", 1));
	assert_int_not_equal(one, id_of("{http: 'http://x/'}", 0));
	assert_int_equal(id_of("{tcp: 'x:1', name: n}", 0), id_of("{tcp: 'x:1'}, {tcp: 'x:1', name: n}", 1));
}

static void what_is_needed_is_found_over_any_number_of_steps(void **state UNUSED)
{
	struct conf *c;
	bool set[5] = {0}, other[5] = {0};

	c = parse("apps: {a: {run: x $PORT, hosts: a, needs: [b, {any: [c, d]}]}, o: {run: x $PORT, hosts: o, needs: f}}\n"
		  "devices: {b: {needs: e}, c: , d: {needs: [e, {any: [b]}]}, e: , f: }\n");
	assert_non_null(c);
	conf_needed(c, &c->apps[0].needs, set);
	conf_needed(c, &c->apps[1].needs, other);
	assert_true(set[0] && set[1] && set[2] && set[3] && !set[4]);
	assert_true(!other[0] && !other[3] && other[4]);
	assert_false(conf_app_differs(&c->apps[0], &c->apps[0]));
	conf_free(c);
}

static void needs_that_are_not_there_come_with_the_right_word(void **state UNUSED)
{
	refused("apps: {a: {run: x $PORT, needs: [web-2]}}\ndevices: {web-1: {needs: {any: [switsh]}}, switch: }\n",
		"f:1:34: error: app 'a' needs 'web-2', and there is no such device; did you mean 'web-1'?\n"
		"f:2:26: error: device 'web-1' needs 'switsh', and there is no such device; did you mean 'switch'?\n");
	refused(APPS "devices: {d: {needs: {all: [e]}}, e: }\n",
		"f:2:22: error: needs: expected a name, or {any: [NAME, NAME]}\n");
	refused(APPS "devices: {a: }\n", "f:2:11: error: device 'a' has the name of an app; give it another\n");
	refused(APPS "devices: {Web: }\n",
		"f:2:11: error: device 'Web': a device's name has lower-case letters, digits and '-', at most 63, does not "
		"begin with '-', and is not 'upstate' or 'all'\n");
}

static void circles_are_named(void **state UNUSED)
{
	refused(APPS "devices:\n  b: {needs: c}\n  c: {needs: [{any: [e, d]}]}\n  d: {needs: b}\n  e: \n",
		"f:4:15: error: needs in a circle: c needs d needs b needs c\n");
	refused(APPS "devices:\n  b: \n  e: {needs: [b, e]}\n", "f:4:18: error: needs in a circle: e needs e\n");
}

static void checks_that_are_wrong_are_explained(void **state UNUSED)
{
	check_refused("{htp: 'http://x/'}", "2: error: checks: a check begins with its kind (" KINDS
					    "), found 'htp'; did you mean 'http'?");
	check_refused("{bad: '> 1s', http: 'http://x/'}",
		      "2: error: checks: a check begins with its kind (" KINDS "), found 'bad'");
	check_refused("{http: 'http://x/', tcp: 'x:1'}",
		      "21: error: checks: 'tcp' is another kind beside 'http': it is a check of its own, with a '-' of its own");
	check_refused("{tcp: 'x:1', json: a}", "14: error: checks: 'json' means nothing for 'tcp', which takes: name, every, "
					       "timeout, rise, fall, bad, ugly, send, expect");
	check_refused("{tcp: 'x:1', bda: '> 1s'}", "14: error: unknown key 'bda' in device 'd'; did you mean 'bad'?");
	check_refused("{tcp: x}", "7: error: tcp: 'x': expected HOST:PORT");
	check_refused("{tcp: 'x:70000'}", "7: error: tcp: 'x:70000': a port is a number from 1 to 65535");
	check_refused("{tcp: '::1:80'}", "7: error: tcp: '::1:80': a host has letters, digits, '.' and '-'; an IPv6 address "
					 "stands in brackets");
	check_refused("{http: 'x/'}", "8: error: http: 'x/': a URL begins with http:// or https://");
	check_refused("{http: 'http://u:p@x/'}", "8: error: http: 'http://u:p@x/': a URL stands without a user: name them in "
						 "'headers: {Authorization: ...}'");
	check_refused("{http: 'http://x/', status: 20}",
		      "29: error: status: '20': expected statuses like 200, or 200-299, 301");
	check_refused("{http: 'http://x/', bad: 150ms}",
		      "26: error: bad: '150ms': expected one of > >= < <= == != and a number, as in '> 150ms', found '150ms'");
	check_refused("{http: 'http://x/', bad: '> 15 %'}",
		      "26: error: bad: 'http' measures otherwise; expected a time, as 150ms, 2s, 5m, 3h or 25h");
	check_refused("{http: 'http://x/', bad: 'battery > 1s'}",
		      "26: error: bad: 'http' has one value, which has no name; leave 'battery' out");
	check_refused("{plugin: x, bad: 'a > 1', ugly: 'b > 2'}",
		      "33: error: ugly: it speaks of another value than 'bad': that is a check of its own");
	check_refused("{http: 'http://x/', is: y}",
		      "21: error: checks: 'is' says what stands at a path of 'json', and there is none");
	check_refused("{host: disc}",
		      "8: error: host: 'disc': expected load, cpu, memory, swap, 'disk PATH' or 'inodes PATH'");
	check_refused("{host: disk /, bad: '> 5s'}", "21: error: bad: 'host' measures otherwise; expected a percentage, as 80%");
	check_refused("{file: /x, of: size, bad: '> 5s'}",
		      "27: error: bad: 'file' measures otherwise; expected a size, as 512B, 10MiB or 2.5GB");
	check_refused("{file: x}", "8: error: file: 'x': expected a path that begins with /");
	check_refused("{version: 'http://x/v'}", "2: error: checks: 'version' needs 'is': what should run?");
	check_refused("{version: /v, is: 1}", "1: error: device 'd': version: '/v' is a path, and there is no http check whose "
					      "server would be asked");
	check_refused("{dns: x, server: here}", "18: error: server: 'here': expected ADDRESS, or ADDRESS:PORT: 10.0.0.53, "
						"[2001:db8::53]:5353");
	check_refused("{push: 1ms}", "8: error: push: '1ms': expected a time from 1s to 366d, as 25h");
	check_refused("{push: 1h, every: 5s}",
		      "12: error: checks: 'every' means nothing for 'push', which takes: secret, name, bad, ugly");
	check_refused("{push: 1h, secret: short}", "20: error: secret: 'short': a secret has 16 characters at least");
	check_refused("{plugin: ' '}", "10: error: plugin: ' ': there is no command in it");
	check_refused("{http: 'http://x/', every: 1ms}", "28: error: every: 1ms is below 100ms");
}

static void bounds_hold(void **state UNUSED)
{
	CLEANUP_BUF struct buf text = {0};
	struct conf *c;

	buf_adds(&text, APPS "devices:\n");
	for (int i = 0; i < CONF_DEVICES_MAX; i++)
		buf_addf(&text, "  d%d: {needs: [d%d], checks: [{http: 'http://10.0.0.1/%d', bad: '> 1s'}, {tcp: 'x:1'}]}\n", i,
			 i + 1, i);
	buf_addf(&text, "  d%d: \n", CONF_DEVICES_MAX);
	assert_null(parse(buf_str(&text)));
	assert_non_null(strstr(buf_str(&said), "devices: 10001 are more than 10000"));
	text.len -= strlen("  d10000: \n");
	assert_null(parse(buf_str(&text)));
	assert_non_null(strstr(buf_str(&said), "'d9999' needs 'd10000'"));
	text.len = (size_t)(strstr(buf_str(&text), "  d9999:") - text.data);
	buf_addf(&text, "  d9999: {checks: [");
	for (int i = 0; i < CONF_DEVICE_CHECKS_MAX; i++)
		buf_addf(&text, "%s{tcp: 'x:%d'}", i ? ", " : "", i + 1);
	buf_adds(&text, "]}\n");
	c = parse(buf_str(&text)); /* each needs the next: as deep as can be */
	assert_non_null(c);
	assert_int_equal(c->check_count, 2 * 9999 + 64);
	conf_free(c);
	text.len -= 3;
	buf_adds(&text, ", {tcp: 'x:1'}]}\n");
	assert_null(parse(buf_str(&text)));
	assert_non_null(strstr(buf_str(&said), "with 1 to 64 items"));
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(a_device_has_the_defaults_of_a_careful_operator),
	    cmocka_unit_test(a_check_is_known_by_its_name_or_its_place_among_its_kind),
	    cmocka_unit_test(what_is_needed_is_found_over_any_number_of_steps),
	    cmocka_unit_test(needs_that_are_not_there_come_with_the_right_word),
	    cmocka_unit_test(circles_are_named),
	    cmocka_unit_test(checks_that_are_wrong_are_explained),
	    cmocka_unit_test(bounds_hold),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
