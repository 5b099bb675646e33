/* SPDX-License-Identifier: Apache-2.0
 *
 * The configuration as its user meets it: what a right file means, and what is said
 * about a wrong one.
 */
#include "conf_fixture.h"

#include <time.h>

#include "core/table.h"

#define APP "apps: {hello: {run: \"serve $PORT\"}}\n"

static void warned(const char *text, const char *message)
{
	struct conf *c = parse(text);

	if (!c)
		print_error("%s", buf_str(&said));
	assert_non_null(c);
	assert_string_equal(buf_str(&said), message);
	conf_free(c);
}

/* --- what a right file means --- */

static void three_lines_make_an_app_and_the_rest_has_defaults(void **state UNUSED)
{
	struct conf *c = parse("apps:\n  hello:\n    run: serve $UPSTATE_SOCKET\n");
	const struct conf_app *a;

	assert_non_null(c);
	assert_string_equal(buf_str(&said), "");
	assert_string_equal(c->path, "f");
	assert_int_equal(c->listen.len, 1);
	assert_string_equal(c->listen.items[0], "127.0.0.1:8080");
	assert_string_equal(c->admin, "127.0.0.1:8081");
	assert_null(c->admin_group);
	assert_int_equal(c->trusted_proxies.len, 0);
	assert_int_equal(c->clients, 10000);
	assert_int_equal(c->header_bytes, 32768);
	assert_int_equal(c->header_count, 100);
	assert_int_equal(c->header_ms, 10000);
	assert_int_equal(c->idle_ms, 75000);
	assert_true(c->access_log);
	assert_int_equal(c->trace, TRACE_MAKE);
	assert_int_equal(c->log_sample, 1000000);
	assert_int_equal(c->log_slow_ms, 1000);
	assert_int_equal(c->log_bytes, 10 << 20);
	assert_int_equal(c->log_files, 5);
	assert_int_equal(c->app_count, 1);
	a = conf_app(c, "hello");
	assert_ptr_equal(a, &c->apps[0]);
	assert_null(conf_app(c, "other"));
	assert_string_equal(a->name, "hello");
	assert_string_equal(a->run, "serve $UPSTATE_SOCKET");
	assert_int_equal(a->hosts.len, 1);
	assert_string_equal(a->hosts.items[0], "*");
	assert_int_equal(a->paths.len, 1);
	assert_string_equal(a->paths.items[0], "/");
	conf_free(c);
}

static void an_app_has_the_defaults_of_a_careful_operator(void **state UNUSED)
{
	struct conf *c = parse(APP);
	const struct conf_app *a;

	assert_non_null(c);
	a = &c->apps[0];
	assert_int_equal(a->instances, 1);
	assert_int_equal(a->env.len, 0);
	assert_null(a->data);
	assert_string_equal(a->stop, "TERM");
	assert_int_equal(a->stop_signal, 15);
	assert_int_equal(a->grace_ms, 10000);
	assert_false(a->notify);
	assert_int_equal(a->ready_ms, 60000);
	assert_int_equal(a->files_max, 0);
	assert_int_equal(a->targets.len, 0);
	assert_null(a->health_path);
	assert_int_equal(a->health_every_ms, 1000);
	assert_int_equal(a->health_timeout_ms, 5000);
	assert_int_equal(a->health_rise, 1);
	assert_int_equal(a->health_fall, 3);
	assert_int_equal(a->drain_ms, 30000);
	assert_int_equal(a->hold_wait_ms, 30000);
	assert_int_equal(a->hold_requests, 1000);
	assert_int_equal(a->hold_bytes, 64 << 20);
	assert_int_equal(a->target_limit, 128);
	assert_int_equal(a->body_max, 0);
	assert_int_equal(a->connect_ms, 2000);
	assert_int_equal(a->response_ms, 60000);
	assert_int_equal(a->body_ms, 60000);
	assert_int_equal(a->tunnel_ms, 0);
	assert_true(a->retry_unread);
	assert_int_equal(a->request_ms, 0);
	assert_int_equal(a->slow_start_ms, 0);
	assert_int_equal(a->retry_share, 20);
	assert_int_equal(a->retry_least, 10);
	assert_int_equal(a->eject_failures, 5);
	assert_int_equal(a->eject_errors, 50);
	assert_int_equal(a->eject_server_errors, 50);
	assert_int_equal(a->eject_latency, 5);
	assert_int_equal(a->eject_latency_by_ms, 500);
	assert_int_equal(a->eject_requests, 50);
	assert_int_equal(a->eject_window_ms, 10000);
	assert_int_equal(a->eject_silence_ms, 250);
	assert_int_equal(a->eject_time_ms, 5000);
	assert_int_equal(a->eject_most_ms, 120000);
	assert_int_equal(a->mixed, CONF_MIXED_OK);
	assert_int_equal(a->bake_ms, 10000);
	assert_int_equal(a->keep, 5);
	conf_free(c);
}

static const char everything[] =
    "listen:\n  - http: 0.0.0.0:80\n  - http: '[::]:80'\n"
    "admin: { http: off, group: ops }\n"
    "trusted_proxies: [10.0.0.0/8, 192.0.2.1, \"2001:db8::/32\"]\n"
    "limits: { clients: 500, header: 16KiB, headers: 50, header_time: 5s, idle: 1m, streams: 7 }\n"
    "log: { access: no, size: 1GiB, files: 2 }\n"
    "apps:\n"
    "  shop:\n"
    "    hosts: [Shop.Example.org, \"*.shop.example.org\", '[::1]']\n"
    "    path: [/api/, /v1]\n"
    "    run: |\n      cd web\n      exec serve --unix $UPSTATE_SOCKET\n"
    "    instances: 3\n"
    "    env: { ZED: 1, A_B: \"x y\", EMPTY: }\n"
    "    data: shop.db\n    stop: SIGQUIT\n    grace: 1.5s\n    files: 4096\n"
    "    ready: { within: 2m, notify: true }\n"
    "    health: { path: /up?deep=1, every: 500ms, timeout: 250ms, rise: 2, fall: 5 }\n"
    "    drain: 0\n    hold: { wait: 5s, requests: 0, bytes: 1k }\n    limit: 0\n    body: 10MB\n"
    "    timeouts: { connect: 1s, response: 90, body: 30s, tunnel: 1h, request: 2h }\n"
    "    eject: { failures: 3, errors: 20, server_errors: 0, latency: 2, latency_by: 1s, requests: 10,\n"
    "      window: 1m, silence: 1s, time: 10s, most: 10s }\n"
    "    retry: { share: 10, least: 1 }\n    slow_start: 30s\n"
    "    retry_unread: false\n    mixed: never\n    bake: 1m\n    keep: 2\n"
    "  old:\n"
    "    hosts: old.example.org\n"
    "    targets: [127.0.0.1:9001, \"[::1]:9001\", DB.internal:80, unix:/run/old.sock]\n";

static void everything_can_be_said(void **state UNUSED)
{
	struct conf *c = parse(everything);

	if (!c)
		print_error("%s", buf_str(&said));
	assert_non_null(c);
	assert_string_equal(buf_str(&said), "");
	assert_int_equal(c->listen.len, 2);
	assert_string_equal(c->listen.items[1], "[::]:80");
	assert_null(c->admin);
	assert_string_equal(c->admin_group, "ops");
	assert_int_equal(c->trusted_proxies.len, 3);
	assert_int_equal(c->clients, 500);
	assert_int_equal(c->header_bytes, 16384);
	assert_int_equal(c->header_count, 50);
	assert_int_equal(c->header_ms, 5000);
	assert_int_equal(c->idle_ms, 60000);
	assert_int_equal(c->streams, 7);
	assert_false(c->access_log);
	assert_int_equal(c->log_bytes, 1 << 30);
	assert_int_equal(c->log_files, 2);
	assert_int_equal(c->app_count, 2);
	assert_string_equal(c->apps[1].name, "old");
	assert_int_equal(c->apps[1].hosts.len, 1);
	assert_int_equal(c->apps[1].targets.len, 4);
	assert_string_equal(c->apps[1].targets.items[2], "DB.internal:80");
	conf_free(c);
}

#define AUTO "listen: [{http: '0.0.0.0:80'}, {https: '0.0.0.0:443'}]\nacme: {agree: true}\n"

static void certificates_by_themselves_are_for_the_hosts_of_their_app(void **state UNUSED)
{
	struct conf *c = parse(AUTO "apps:\n"
			       "  a: {tls: auto, hosts: [A.test, b.test], run: \"x $PORT\"}\n"
			       "  b: {tls: auto, hosts: [b.test, c.test], path: /b, run: \"x $PORT\"}\n"
			       "  c: {tls: auto, hosts: [a.test], path: /c, run: \"x $PORT\"}\n"
			       "  d: {tls: files, hosts: [\"*\"], run: \"x $PORT\"}\n");

	assert_non_null(c);
	assert_string_equal(buf_str(&said), "");
	assert_int_equal(c->auto_count, 2); /* a name that two share is asked for once */
	assert_string_equal(c->autos[0].app->name, "a");
	assert_int_equal(c->autos[0].names.len, 2);
	assert_string_equal(c->autos[0].names.items[0], "a.test");
	assert_string_equal(c->autos[1].app->name, "b");
	assert_int_equal(c->autos[1].names.len, 1);
	assert_string_equal(c->autos[1].names.items[0], "c.test");
	assert_string_equal(conf_acme_url(c), "https://acme-v02.api.letsencrypt.org/directory");
	conf_free(c);
	c = parse("acme: {server: staging, mail: a.b@x.test}\n" APP);
	assert_string_equal(conf_acme_url(c), "https://acme-staging-v02.api.letsencrypt.org/directory");
	assert_string_equal(c->acme_mail, "a.b@x.test");
	conf_free(c);
	c = parse("acme: {server: \"https://ca.internal:9000/acme/acme/directory\"}\n" APP);
	assert_string_equal(conf_acme_url(c), "https://ca.internal:9000/acme/acme/directory");
	conf_free(c);
}

static void what_no_authority_could_issue_is_refused(void **state UNUSED)
{
	refused(AUTO "apps: {a: {tls: auto, hosts: [\"*.a.test\", localhost, 192.0.2.1, a_b.test, a.test], run: \"x $PORT\"}}\n",
		"f:3:31: error: app 'a': tls: auto: '*.a.test': a wildcard cannot be proven over HTTP (it would take DNS); "
		"name each host, or use 'certificates'\n"
		"f:3:43: error: app 'a': tls: auto: 'localhost': a name without a dot is known to nobody outside\n"
		"f:3:54: error: app 'a': tls: auto: '192.0.2.1': an address is no name; give the host a name, or use "
		"'certificates'\n"
		"f:3:65: error: app 'a': tls: auto: 'a_b.test': no authority takes a name with '_'\n");
	refused(AUTO "apps: {a: {tls: auto, run: \"x $PORT\"}}\n",
		"f:3:12: error: app 'a': tls: auto: '*': a wildcard cannot be proven over HTTP (it would take DNS); "
		"name each host, or use 'certificates'\n");
	refused("listen: [{http: '0.0.0.0:80'}, {https: '0.0.0.0:443'}]\n"
		"apps: {a: {hosts: a.test, tls: auto, run: \"x $PORT\"}}\n",
		"f:2:27: error: app 'a': tls: auto: say that you agree to the terms of service of "
		"https://acme-v02.api.letsencrypt.org/directory: 'acme: { agree: true }' at the top\n");
	refused("listen: [{http: '0.0.0.0:80'}]\nacme: {agree: true}\napps: {a: {hosts: a.test, tls: auto, run: \"x $PORT\"}}\n",
		"f:3:27: error: app 'a': tls: auto: no address in 'listen' has https\n");
	refused("listen: [{https: '0.0.0.0:443'}]\nacme: {agree: true}\napps: {a: {hosts: a.test, tls: auto, run: \"x $PORT\"}}\n",
		"f:1:1: error: listen: for tls: auto (app 'a') the authority asks over plain HTTP: add '- http: 0.0.0.0:80'\n");
	warned("listen: [{http: '0.0.0.0:8080'}, {https: '0.0.0.0:443'}]\nacme: {agree: true}\n"
	       "apps: {a: {hosts: a.test, tls: auto, run: \"x $PORT\"}}\n",
	       "f:1:1: warning: for tls: auto (app 'a') the authority asks at port 80, which is not in 'listen': it must lead "
	       "here some other way\n");
	refused("acme: {server: \"http://ca.test/dir\", mail: \"-x\"}\n" APP,
		"f:1:16: error: acme.server: 'http://ca.test/dir': expected letsencrypt, staging, or the URL of an ACME "
		"directory (https://...)\n"
		"f:1:44: error: acme.mail: '-x': expected an address such as ops@example.org\n");
}

static void one_certificate_has_so_many_names(void **state UNUSED)
{
	struct buf b = {0};
	struct conf *c;

	for (int n = 100; n <= 101; n++) {
		buf_free(&b);
		buf_adds(&b, AUTO "apps: {a: {tls: auto, run: \"x $PORT\", hosts: [a.test");
		for (int i = 1; i < n; i++)
			buf_addf(&b, ", a%d.test", i);
		buf_adds(&b, "]}}\n");
		c = parse(buf_str(&b));
		assert_int_equal(c != NULL, n == 100);
		conf_free(c);
	}
	assert_string_equal(buf_str(&said), "f:3:12: error: app 'a': tls: auto: 101 hosts; one certificate has 100 at most. "
					    "Make several apps of it\n");
	buf_free(&b);
}

#define CERTS "certificates: [{cert: a.pem, key: /b.key}]\n"

static void addresses_with_https_have_certificates(void **state UNUSED)
{
	struct conf *c = parse("listen: [{http: '0.0.0.0:1'}, {https: '0.0.0.0:2'}, {https: '[::]:3', proxy: ['::1']}]\n"
			       "certificates:\n- {cert: a.pem, key: /b.key}\n-   cert: c.pem\n    key: d.key\n"
			       "apps: {hello: {run: \"serve $PORT\", https: redirect, hsts: 365d}}\n");

	assert_non_null(c);
	assert_string_equal(buf_str(&said), "");
	assert_false(c->listen_more[0].tls);
	assert_true(c->listen_more[1].tls && c->listen_more[2].tls && c->listen_more[2].proxy);
	assert_int_equal(conf_https_port(c), 2);
	assert_int_equal(c->certificate_count, 2);
	assert_string_equal(c->certificates[0].cert, "a.pem");
	assert_string_equal(c->certificates[1].key, "d.key");
	assert_int_equal(c->certificates[1].line, 4);
	assert_int_equal(c->apps[0].https, CONF_HTTPS_REDIRECT);
	assert_int_equal(c->apps[0].hsts_s, 365 * 86400);
	conf_free(c);
	refused("listen: [{https: '0.0.0.0:1'}]\n" APP,
		"f:1:1: error: listen: https needs a certificate; add 'certificates: [{cert: FILE, key: FILE}]', "
		"or 'tls: auto' to an app\n");
	warned(CERTS APP, "f:1:1: warning: certificates have no effect: no address in 'listen' has https\n");
	refused("listen: [{https: '0.0.0.0:1', http: '0.0.0.0:2'}]\n" CERTS APP,
		"f:1:11: error: listen: 'http' and 'https' are two addresses: each begins with a '-' of its own\n");
	refused("listen: [{https: '0.0.0.0:1'}]\ncertificates: [{cert: a.pem}]\n" APP,
		"f:2:16: error: certificates: there is no 'key' beside 'cert'\n");
	refused("listen: [{https: '0.0.0.0:1'}]\ncertificates: a.pem\n" APP,
		"f:2:15: error: certificates: expected a list like '- {cert: FILE, key: FILE}', with 1 to 1000 items, "
		"found text\n");
	refused("listen: [{https: '0.0.0.0:1'}]\ncertificates: [{cert: a.pem, kye: b.key}]\n" APP,
		"f:2:16: error: certificates: there is no 'key' beside 'cert'\n"
		"f:2:30: error: unknown key 'kye'; did you mean 'key'?\n");
	refused("apps: {hello: {run: \"serve $PORT\", https: redirect}}\n",
		"f:1:36: error: app 'hello': there is nothing to redirect to: no address in 'listen' has https, and no "
		"trusted proxy may have it\n");
	refused("apps: {hello: {run: \"serve $PORT\", hsts: 3y}}\n",
		"f:1:42: error: hsts: expected a duration like 365d, found '3y'\n");
	refused("apps: {hello: {run: \"serve $PORT\", hsts: 731d}}\n", "f:1:42: error: hsts: 731d is above 730d\n");
}

static void listeners_say_from_whom_a_proxy_header_comes(void **state UNUSED)
{
	struct conf *c = parse("trusted_proxies: [192.0.2.0/24]\n"
			       "listen: [{http: '0.0.0.0:1'}, {http: '0.0.0.0:2', proxy: true}, "
			       "{proxy: [10.0.0.0/8, '::1'], http: '0.0.0.0:3'}, {http: '0.0.0.0:4', proxy: false}, "
			       "{http: '0.0.0.0:5', proxy: 10.1.2.3}]\n" APP);

	assert_int_equal(c->listen.len, 5);
	assert_false(c->listen_more[0].proxy);
	assert_true(c->listen_more[1].proxy && c->listen_more[1].proxy_from.len == 0);
	assert_true(c->listen_more[2].proxy && c->listen_more[2].proxy_from.len == 2);
	assert_string_equal(c->listen_more[2].proxy_from.items[1], "::1");
	assert_false(c->listen_more[3].proxy);
	assert_string_equal(c->listen_more[4].proxy_from.items[0], "10.1.2.3");
	conf_free(c);
	refused("listen: [{http: '0.0.0.0:1', proxy: true}]\n" APP,
		"f:1:1: error: listen: 0.0.0.0:1 has 'proxy: true', which believes trusted_proxies, and there are none; "
		"give them, or write 'proxy: [NETWORK]'\n");
	refused("listen: [{http: '0.0.0.0:1', proxy: maybe}]\n" APP,
		"f:1:37: error: listen: proxy: 'maybe': a network is like 10.0.0.0/8, 192.0.2.1 or 2001:db8::/32\n");
	refused("listen: [{proxy: true}]\n" APP,
		"f:1:11: error: listen: 'proxy' stands beside an address; expected 'http: ADDRESS:PORT' too\n");
}

static void targets_may_speak_http2(void **state UNUSED)
{
	struct conf *c = parse("apps: {a: {run: 'x $PORT', protocol: h2c, hosts: [a]}, b: {run: 'x $PORT', hosts: [b]}}\n");

	assert_int_equal(conf_app(c, "a")->protocol, CONF_H2C);
	assert_int_equal(conf_app(c, "b")->protocol, CONF_HTTP1);
	conf_free(c);
	refused("apps: {a: {run: 'x $PORT', protocol: h2}}\n",
		"f:1:38: error: protocol: expected one of http1, h2c, found 'h2'; did you mean 'h2c'?\n");
	refused("apps: {a: {run: 'x $PORT', protocol: h2c, proxy: v2}}\n",
		"f:1:43: error: app 'a' has 'protocol: h2c', where clients share connections, so 'proxy' cannot say who one "
		"is; X-Forwarded-For does\n");
	refused("apps: {a: {run: 'x $PORT', protocol: h2c, tcp: '0.0.0.0:1'}}\n",
		"f:1:28: error: app 'a' has 'tcp', so 'protocol' means nothing: nobody reads what its users say\n");
}

static void an_app_may_have_an_address_of_its_own(void **state UNUSED)
{
	struct conf *c = parse("apps: {db: {tcp: '0.0.0.0:6379', targets: [127.0.0.1:1], proxy: v2}, "
			       "web: {run: 'serve $PORT'}}\n");

	assert_string_equal(conf_app(c, "db")->tcp, "0.0.0.0:6379");
	assert_int_equal(conf_app(c, "db")->hosts.len, 0);
	assert_int_equal(conf_app(c, "db")->target_limit, 1024);
	assert_int_equal(conf_app(c, "db")->proxy, 2);
	/* The only one of HTTP needs no hosts. */
	assert_string_equal(conf_app(c, "web")->hosts.items[0], "*");
	assert_int_equal(conf_app(c, "web")->target_limit, 128);
	conf_free(c);
	refused("apps:\n  db: {tcp: '0.0.0.0:1', run: 'x $PORT', hosts: [a], health: {path: /}}\n",
		"f:2:42: error: app 'db' has 'tcp', so 'hosts' means nothing: nobody reads what its users say\n"
		"f:2:63: error: app 'db' has 'tcp': its health is that a connection opens, without a path\n");
	refused("apps:\n  a: {tcp: '0.0.0.0:1', run: 'x $PORT'}\n  b: {tcp: '0.0.0.0:1', run: 'x $PORT'}\n"
		"  c: {tcp: '127.0.0.1:8080', run: 'x $PORT'}\n  d: {tcp: '127.0.0.1:8081', run: 'x $PORT'}\n",
		"f:3:7: error: app 'b': 0.0.0.0:1 belongs to 'a' already; give one of them another\n"
		"f:4:7: error: app 'c': 127.0.0.1:8080 belongs to 'listen' already; give one of them another\n"
		"f:5:7: error: app 'd': 127.0.0.1:8081 belongs to 'admin' already; give one of them another\n");
	refused("apps: {a: {tcp: 'host:1', run: 'x $PORT'}}\n",
		"f:1:17: error: tcp: 'host:1': an address to listen on is given in numbers, like 127.0.0.1:8080, "
		"0.0.0.0:8080 or [::]:8080\n");
}

static void everything_can_be_said_of_an_app(void **state UNUSED)
{
	struct conf *c = parse(everything);
	const struct conf_app *a;

	assert_non_null(c);
	a = &c->apps[0];
	assert_string_equal(a->hosts.items[0], "shop.example.org");
	assert_string_equal(a->hosts.items[1], "*.shop.example.org");
	assert_string_equal(a->paths.items[0], "/api");
	assert_string_equal(a->run, "cd web\nexec serve --unix $UPSTATE_SOCKET\n");
	assert_int_equal(a->env.len, 3);
	assert_string_equal(a->env.items[0], "A_B=x y");
	assert_string_equal(a->env.items[1], "EMPTY=");
	assert_string_equal(a->env.items[2], "ZED=1");
	assert_string_equal(a->data, "shop.db");
	assert_string_equal(a->stop, "QUIT");
	assert_int_equal(a->stop_signal, 3);
	assert_int_equal(a->grace_ms, 1500);
	assert_int_equal(a->files_max, 4096);
	assert_int_equal(a->ready_ms, 120000);
	assert_true(a->notify);
	assert_string_equal(a->health_path, "/up?deep=1");
	assert_int_equal(a->health_every_ms, 500);
	assert_int_equal(a->health_timeout_ms, 250);
	assert_int_equal(a->health_rise, 2);
	assert_int_equal(a->health_fall, 5);
	assert_int_equal(a->drain_ms, 0);
	assert_int_equal(a->hold_wait_ms, 5000);
	assert_int_equal(a->hold_requests, 0);
	assert_int_equal(a->hold_bytes, 1024);
	assert_int_equal(a->target_limit, 0);
	assert_int_equal(a->body_max, 10000000);
	assert_int_equal(a->connect_ms, 1000);
	assert_int_equal(a->response_ms, 90000);
	assert_int_equal(a->body_ms, 30000);
	assert_int_equal(a->tunnel_ms, 3600000);
	assert_false(a->retry_unread);
	assert_int_equal(a->request_ms, 7200000);
	assert_int_equal(a->slow_start_ms, 30000);
	assert_int_equal(a->retry_share, 10);
	assert_int_equal(a->retry_least, 1);
	assert_int_equal(a->eject_failures, 3);
	assert_int_equal(a->eject_errors, 20);
	assert_int_equal(a->eject_server_errors, 0);
	assert_int_equal(a->eject_latency, 2);
	assert_int_equal(a->eject_latency_by_ms, 1000);
	assert_int_equal(a->eject_requests, 10);
	assert_int_equal(a->eject_window_ms, 60000);
	assert_int_equal(a->eject_silence_ms, 1000);
	assert_int_equal(a->eject_time_ms, 10000);
	assert_int_equal(a->eject_most_ms, 10000);
	assert_int_equal(a->mixed, CONF_MIXED_NEVER);
	assert_int_equal(a->bake_ms, 60000);
	assert_int_equal(a->keep, 2);
	conf_free(c);
}

static void the_example_is_right(void **state UNUSED)
{
	CLEANUP_BUF struct buf example = {0};

	conf_example(&example);
	warned(buf_str(&example), "");
}

static void durations_and_sizes_are_read_with_their_units(void **state UNUSED)
{
	uint64_t v = 7;

	assert_true(conf_duration("30s", &v) && v == 30000);
	assert_true(conf_duration("30", &v) && v == 30000);
	assert_true(conf_duration("500ms", &v) && v == 500);
	assert_true(conf_duration("2m", &v) && v == 120000);
	assert_true(conf_duration("1 h", &v) && v == 3600000);
	assert_true(conf_duration("0.25s", &v) && v == 250);
	assert_true(conf_percent("10%", &v) && v == 100000);
	assert_true(conf_percent("0.125%", &v) && v == 1250);
	assert_true(conf_percent("100 %", &v) && v == 1000000);
	assert_false(conf_percent("10", &v) || conf_percent("%", &v) || conf_percent("-1%", &v) ||
		     conf_percent("0.1", &v) || conf_percent("1.2345%", &v));
	assert_false(conf_duration("", &v) || conf_duration("s", &v) || conf_duration("5x", &v) ||
		     conf_duration("-5s", &v) || conf_duration("1.s", &v) ||
		     conf_duration("1.2345s", &v) || conf_duration("99999999999999999999s", &v) ||
		     conf_duration("18446744073709551615h", &v));
	assert_true(conf_bytes("64k", &v) && v == 65536);
	assert_true(conf_bytes("10MiB", &v) && v == 10 << 20);
	assert_true(conf_bytes("10M", &v) && v == 10 << 20);
	assert_true(conf_bytes("10MB", &v) && v == 10000000);
	assert_true(conf_bytes("1.5GiB", &v) && v == 1536u << 20);
	assert_true(conf_bytes("512", &v) && v == 512);
	assert_false(conf_bytes("10 apples", &v));
}

static void the_nearest_word_is_near(void **state UNUSED)
{
	static const char *const words[] = {"hosts", "path", "run", "instances"};

	assert_string_equal(conf_nearest("host", words, 4), "hosts");
	assert_string_equal(conf_nearest("instacnes", words, 4), "instances");
	assert_string_equal(conf_nearest("RUN", words, 4), "run");
	assert_null(conf_nearest("banana", words, 4));
	assert_null(conf_nearest("x", words, 4));
	assert_null(conf_nearest("", words, 4));
}

/* --- what is said about a wrong one --- */

static void unknown_keys_come_with_the_right_word(void **state UNUSED)
{
	refused("apps:\n  web:\n    run: a $PORT\n    host: x\n",
		"f:4:5: error: unknown key 'host' in app 'web'; did you mean 'hosts'?\n");
	refused("limit: { client: 5 }\n" APP,
		"f:1:1: error: unknown key 'limit'; did you mean 'limits'?\n");
	refused("limits: { client: 5 }\n" APP,
		"f:1:11: error: unknown key 'client' in limits; did you mean 'clients'?\n");
	refused("apps: {web: {run: a $PORT, wait: 5s}}\n",
		"f:1:28: error: unknown key 'wait' in app 'web'; it belongs below 'hold'\n");
	refused("run: x\n" APP, "f:1:1: error: unknown key 'run'; it belongs to an app\n");
	refused("apps: {web: {run: a $PORT, listen: []}}\n",
		"f:1:28: error: unknown key 'listen' in app 'web'; it belongs at the top of the "
		"file\n");
	refused("log: { banana: 5 }\n" APP,
		"f:1:8: error: unknown key 'banana' in log; known are: access, sample, slow, size, files\n");
	refused("listen: [{htps: '0.0.0.0:443'}]\n" APP,
		"f:1:11: error: unknown key 'htps' in listen; it takes 'http' or 'https', and 'proxy'\n");
}

static void every_mistake_is_told_at_once_in_order(void **state UNUSED)
{
	refused(
	    "log: { files: many }\nlimits: 5\napps:\n  web:\n    instances: 100\n    drain: soon\n    "
	    "stop: TREM\n",
	    "f:1:15: error: log.files: expected a number, found 'many'\n"
	    "f:2:9: error: limits: expected a map of keys (clients, connections, header, headers, header_time, "
	    "idle, streams), found text\n"
	    "f:4:3: error: app 'web' has neither 'run' nor 'targets': say how it runs, or "
	    "where it is\n"
	    "f:5:16: error: instances: 100 is above 64\n"
	    "f:6:12: error: drain: expected a duration like 30s, found 'soon'\n"
	    "f:7:11: error: stop: expected one of TERM, INT, QUIT, HUP, USR1, USR2, KILL, "
	    "WINCH, ABRT, "
	    "found 'TREM'; did you mean 'TERM'?\n");
}

static void the_first_ejection_is_not_longer_than_the_longest(void **state UNUSED)
{
	refused("apps:\n  web:\n    run: a $PORT\n    eject: { time: 10s, most: 9s }\n",
		"f:4:14: error: app 'web': the first ejection (eject.time) is longer than the longest "
		"(eject.most)\n");
	refused("apps:\n  web:\n    run: a $PORT\n    eject:\n      most: 1s\n",
		"f:5:7: error: app 'web': the first ejection (eject.time) is longer than the longest "
		"(eject.most)\n");
}

static void types_are_named_when_they_are_wrong(void **state UNUSED)
{
	refused("listen: 80\n" APP,
		"f:1:9: error: listen: expected a list like '- http: 0.0.0.0:8080', found text\n");
	refused("listen: [80]\n" APP,
		"f:1:10: error: listen: expected 'http: ADDRESS:PORT', found text\n");
	refused("listen: []\n" APP, "f:1:9: error: listen: the list is empty\n");
	refused("trusted_proxies: {a: b}\n" APP,
		"f:1:18: error: trusted_proxies: expected a list, found a map of keys\n");
	refused("log: { files: [1] }\n" APP,
		"f:1:15: error: log.files: expected a number, found a list\n");
	refused("log: { files: }\n" APP,
		"f:1:15: error: log.files: expected a number, found nothing\n");
	refused("log: { sample: 0.1 }\n" APP,
		"f:1:16: error: log.sample: expected a share like 10%, found '0.1'\n");
	refused("log: { sample: 101% }\n" APP, "f:1:16: error: log.sample: 101% is above 100%\n");
	refused("log: { access: maybe }\n" APP,
		"f:1:16: error: log.access: expected true or false, found 'maybe'\n");
	refused("apps: [hello]\n",
		"f:1:7: error: apps: expected a map of NAME: app, found a list\n");
	refused("apps: {hello: }\n", "f:1:15: error: app 'hello': expected a map of keys with "
				     "'run' or 'targets', found nothing\n");
	refused("apps: {a: {run: x $PORT, hosts: [[x]]}}\n",
		"f:1:34: error: hosts: expected text in the list, found a list\n");
	refused("apps: {a: {run: x $PORT, env: [A]}}\n",
		"f:1:31: error: env: expected a map of NAME: VALUE, found a list\n");
	refused("apps: {a: {run: x $PORT, env: {A: [1]}}}\n",
		"f:1:35: error: env: A: expected text, found a list\n");
	refused("just text\n", "f:1:1: error: expected keys like 'apps:', found text\n");
}

static void ranges_are_told_with_their_bound(void **state UNUSED)
{
	refused("limits: { header: 100 }\n" APP,
		"f:1:19: error: limits.header: 100 is below 1KiB\n");
	refused("limits: { header_time: 2h }\n" APP,
		"f:1:24: error: limits.header_time: 2h is above 1h\n");
	refused("log: { files: -1 }\n" APP, "f:1:15: error: log.files: -1 is below 1\n");
	refused("log: { files: 0 }\n" APP, "f:1:15: error: log.files: 0 is below 1\n");
	refused("apps: {a: {run: x $PORT, health: {every: 1ms}}}\n",
		"f:1:42: error: health.every: 1ms is below 100ms\n");
	refused("apps: {a: {run: x $PORT, mixed: nver}}\n",
		"f:1:33: error: mixed: expected one of ok, never, found 'nver'; did you mean "
		"'never'?\n");
}

static void an_app_runs_or_is_elsewhere(void **state UNUSED)
{
	refused("apps: {a: {hosts: [x]}}\n", "f:1:8: error: app 'a' has neither 'run' nor "
					     "'targets': say how it runs, or where it is\n");
	refused("apps:\n  a:\n    run: x $PORT\n    targets: [127.0.0.1:1]\n",
		"f:4:5: error: app 'a' has 'run' (line 3) and 'targets': Upstate either runs it or "
		"not\n");
	refused("apps: {a: {run: '  '}}\n",
		"f:1:17: error: run: '  ': there is no command in it\n");
	warned("apps: {a: {run: ./serve}}\n",
	       "f:1:12: warning: app 'a': 'run' names neither $PORT nor $UPSTATE_SOCKET; the "
	       "program must then read $PORT itself to know where to listen\n");
	warned("apps: {a: {run: './serve ${X}'}}\n", "");
	warned(
	    "apps: {a: {targets: [127.0.0.1:1], instances: 2}}\n",
	    "f:1:36: warning: app 'a': 'instances' has no effect, because Upstate does not run its "
	    "targets\n");
}

static void hosts_are_needed_when_there_are_several_apps(void **state UNUSED)
{
	refused("apps:\n  a: {run: x $PORT, hosts: [x]}\n  b: {run: x $PORT}\n",
		"f:3:3: error: app 'b' has no hosts, and there are other apps: give it 'hosts: "
		"[b.example.org]', or 'hosts: [\"*\"]' for what no other app takes\n");
}

static void two_apps_cannot_have_the_same_host_and_path(void **state UNUSED)
{
	refused(
	    "apps:\n  a: {run: x $PORT, hosts: [x, y]}\n  b:\n    run: x $PORT\n    hosts:\n      "
	    "- z\n      - Y\n",
	    "f:7:9: error: app 'b': host 'y' with path '/' belongs to app 'a' already (line 2)\n");
	warned("apps:\n  a: {run: x $PORT, hosts: x}\n  b: {run: x $PORT, hosts: x, path: /b}\n",
	       "");
	refused("apps: {a: {run: x $PORT, hosts: [x, X]}}\n",
		"f:1:37: error: hosts: 'x' stands here a second time; the first is on line 1\n");
	refused("apps: {a: {run: x $PORT, path: [/a, /a/]}}\n",
		"f:1:37: error: path: '/a' stands here a second time; the first is on line 1\n");
}

static void bad_hosts_are_explained(void **state UNUSED)
{
	static const struct {
		const char *host, *why;
	} rows[] = {
	    {"http://a.org", "a host stands without http:// or https://"},
	    {"a.org:80", "a host stands without a port; that is said with 'listen'"},
	    {"a.org/x", "a host stands without a path; that is said with 'path'"},
	    {"a.*.org", "'*' can only stand alone, or first as in *.example.org"},
	    {"a..org", "a host has no empty part between dots"},
	    {"a.org.", "a host stands without a final dot"},
	    {"a b", "a host has letters, digits, '-' and '.'"},
	    {"*.", "a host stands without a final dot"},
	    {"[::x]", "this is no IPv6 address"},
	    {"b\xc3\xbc"
	     "cher.org",
	     "write it in its xn-- form (as `idn2` prints it)"},
	};

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		char text[200], message[300];

		snprintf(text, sizeof(text), "apps: {a: {run: x $PORT, hosts: ['%s']}}\n",
			 rows[i].host);
		snprintf(message, sizeof(message), "f:1:34: error: hosts: '%s': %s\n", rows[i].host,
			 rows[i].why);
		refused(text, message);
	}
}

static void bad_addresses_are_explained(void **state UNUSED)
{
	static const struct {
		const char *text, *why;
	} rows[] = {
	    {"/run/x.sock", "a unix socket is written unix:/PATH"},
	    {"unix:x.sock", "a unix socket is given by its whole path: unix:/run/app.sock"},
	    {"http://a:1", "a target stands without http://, as ADDRESS:PORT"},
	    {"localhost",
	     "a target is like 127.0.0.1:9001, [::1]:9001, name:9001 or unix:/run/app.sock"},
	    {"a:70000",
	     "a target is like 127.0.0.1:9001, [::1]:9001, name:9001 or unix:/run/app.sock"},
	    {"1.2.3:80", "this is no IPv4 address"},
	    {"[1.2.3.4]:80", "this is no IPv6 address"},
	};
	char text[200], message[300];

	for (size_t i = 0; i < ARRAY_LEN(rows); i++) {
		snprintf(text, sizeof(text), "apps: {a: {targets: ['%s']}}\n", rows[i].text);
		snprintf(message, sizeof(message), "f:1:22: error: targets: '%s': %s\n",
			 rows[i].text, rows[i].why);
		refused(text, message);
	}
	refused("listen: [{http: 'localhost:80'}]\n" APP,
		"f:1:17: error: listen: 'localhost:80': an address to listen on is given in "
		"numbers, like "
		"127.0.0.1:8080, 0.0.0.0:8080 or [::]:8080\n");
	refused("listen: [{http: 8080}]\n" APP, "f:1:17: error: listen: '8080': an address is like "
						"0.0.0.0:8080 or [::]:8080, with a port "
						"from 1 to 65535\n");
	refused("listen: [{http: '127.0.0.1:8081'}]\n" APP,
		"f:1:1: error: admin: 127.0.0.1:8081 is an address for users already (listen); "
		"give admin "
		"another, or 'http: off'\n");
	refused("trusted_proxies: [10.0.0.0/33]\n" APP,
		"f:1:19: error: trusted_proxies: '10.0.0.0/33': that is more bits than the address "
		"has\n");
	refused("trusted_proxies: [all]\n" APP,
		"f:1:19: error: trusted_proxies: 'all': a network is like 10.0.0.0/8, 192.0.2.1 or "
		"2001:db8::/32\n");
}

static void bad_names_and_paths_are_explained(void **state UNUSED)
{
	refused("apps: {My_App: {run: x $PORT}}\n", "f:1:8: error: app 'My_App': an app's name has "
						    "lower-case letters, digits and '-', at most "
						    "63, and does not begin with '-'\n");
	refused("apps: {upstate: {run: x $PORT}}\n",
		"f:1:8: error: app 'upstate': this name is Upstate's own; choose another\n");
	refused("apps: {a: {run: x $PORT, path: api}}\n",
		"f:1:32: error: path: 'api': a path begins with '/'\n");
	refused("apps: {a: {run: x $PORT, path: /a/../b}}\n",
		"f:1:32: error: path: '/a/../b': a path has no empty, '.' or '..' parts\n");
	refused("apps: {a: {run: x $PORT, health: {path: up}}}\n",
		"f:1:41: error: health.path: 'up': a path begins with '/'\n");
	refused("apps: {a: {run: x $PORT, data: /var/x}}\n",
		"f:1:32: error: data: '/var/x': the name of a data directory has lower-case "
		"letters, digits, "
		"'.', '_' and '-', and begins with a letter or digit; it is no path\n");
	refused("apps: {a: {run: x $PORT, env: {UPSTATE_DATA: x, 1A: y}}}\n",
		"f:1:32: error: env: 'UPSTATE_DATA': Upstate sets this variable itself\n"
		"f:1:49: error: env: '1A': the name of a variable begins with a letter or '_'\n");
	warned("apps:\n  a: {run: x $PORT, hosts: a, data: d}\n  b: {run: x $PORT, hosts: b, data: "
	       "d}\n",
	       "f:3:31: warning: app 'b' shares its data directory 'd' with app 'a' (line 2)\n");
}

static void a_key_that_stands_twice_is_refused(void **state UNUSED)
{
	refused("log: {}\nlog: {}\n" APP,
		"f:2:1: error: 'log' stands here a second time; the first is on line 1\n");
	refused("apps:\n  a: {run: x $PORT}\n  a: {run: y $PORT}\n",
		"f:3:3: error: 'a' stands here a second time; the first is on line 2\n");
}

static void what_is_no_yaml_is_explained(void **state UNUSED)
{
	refused("", "f: error: the file is empty; `upstate init` writes a first configuration\n");
	refused("# nothing\n",
		"f: error: the file is empty; `upstate init` writes a first configuration\n");
	refused("apps:\n\thello:\n",
		"f:2:1: error: a tab is used for indentation; YAML wants spaces\n");
	refused("apps: {a: {hosts: [*]}}\n", "f:1:21: error: '*' and '&' begin a name in YAML: put "
					     "the value in quotes, as in \"*\"\n");
	refused("apps: &x {}\n",
		"f:1:7: error: anchors ('&name') are not supported: write the values out\n");
	refused("apps: *x\n",
		"f:1:7: error: aliases ('*name') are not supported: write the values out, or "
		"put quotes around a '*' that is meant as text\n");
	refused("apps: !!map {}\n", "f:1:7: error: tags ('!name') are not supported: remove it\n");
	refused(APP "---\n" APP,
		"f:2:1: error: a second document begins here; one file holds one configuration\n");
	refused("threads: \xff\n",
		"f:1:10: error: byte 0xff is not UTF-8: save the file as UTF-8\n");
	refused("threads: \x01\n",
		"f:1:10: error: a control character (0x01) stands here; this is a text file\n");
	refused("? [a]\n: b\n", "f:1:3: error: a key must be text\n");
	refused("run: \"a\\0b\"\n", "f:1:6: error: a NUL byte cannot stand in a value\n");
	refused("a: @b\n",
		"f:1:4: error: this character cannot begin a value; put the value in quotes\n");
	refused("[[[[[[[[[[[[[[[[[[[[[[[[[[[[[[", "f:1:17: error: nested too deeply\n");
	refused("apps:\n  a: {run: x\n  b: 5\n", "f:3:4: error: the '{' on line 2 wants ',' or '}' "
						 "here; a value with any of {}[], in it needs "
						 "quotes\n");
	refused("apps: {}\n",
		"f:1:1: error: there is no app; three lines make one: apps:, its name, and "
		"'run: COMMAND'\n");
	refused("log: {}\n",
		"f:1:1: error: there is no app; three lines make one: apps:, its name, and "
		"'run: COMMAND'\n");
}

static void usual_slips_are_recognized(void **state UNUSED)
{
	refused("apps:\n  web\n    run: x\n", "f:3:8: error: a ':' cannot stand here: a key above "
					      "lacks its ':', or this line is indented too "
					      "far, or the value holds a ': ' and needs quotes\n");
	refused("apps:\n  web:\n    run: \"x\n",
		"f:4:1: error: the quotes that begin on line 3 are never closed\n");
	refused("apps:\n  web:\n    run:serve\n", "f:3:5: error: app 'web': expected a map of keys "
						  "with 'run' or 'targets', found text; after the "
						  "':' of a key stands a space\n");
	refused("apps:\n  web:\n    run: a $PORT\n   hosts: [a]\n",
		"f:4:4: error: this line belongs nowhere: keys of one map (the one here begins on "
		"line 2) stand in "
		"the same column\n");
	refused("listen:\n  - http: 0.0.0.0:80\n   x\n",
		"f:3:4: error: this line belongs nowhere: each item of the list that begins on "
		"line 2 begins "
		"with '- '\n");
	refused("log: {}\napps\n", "f:3:1: error: a key stands here without ': ' after it\n");
	refused("apps: {a: {run: x $PORT, health: /up}}\n",
		"f:1:34: error: health: expected a map of keys (path, every, timeout, rise, fall), "
		"found text\n");
	refused("a: b: c\n",
		"f:1:5: error: a ':' cannot stand here: a key above lacks its ':', or this line is "
		"indented too far, or the value holds a ': ' and needs quotes\n");
}

static void a_byte_order_mark_and_crlf_do_no_harm(void **state UNUSED)
{
	warned("\xef\xbb\xbf"
	       "apps:\r\n  a:\r\n    run: x $PORT\r\n",
	       "");
}

static void the_first_error_is_the_callers_and_tells_of_the_rest(void **state UNUSED)
{
	const char *text = "log: { files: x }\nlog: 5\n" APP;
	struct conf *c = NULL;
	struct err e = {0};

	assert_int_equal(conf_parse("f.yaml", text, strlen(text), &c, NULL, &e), -ERR_INPUT);
	assert_string_equal(e.msg,
			    "f.yaml:1:15: log.files: expected a number, found 'x' (and 1 more)");
	assert_null(c);
}

static void problems_are_bounded_and_the_rest_is_counted(void **state UNUSED)
{
	CLEANUP_BUF struct buf text = {0};

	for (int i = 0; i < 500; i++)
		buf_addf(&text, "unknown%d: 5\n", i);
	buf_adds(&text, APP);
	assert_null(parse(buf_str(&text)));
	assert_int_equal(problems.len, CONF_PROBLEMS_MAX);
	assert_int_equal(problems.dropped, 300);
	assert_int_equal(problems.errors, 500);
	assert_non_null(strstr(buf_str(&said), "f: and 300 more\n"));
}

static void a_file_that_is_not_there_is_named(void **state UNUSED)
{
	struct conf *c = NULL;
	struct err e = {0};

	assert_int_equal(conf_load("/nowhere/upstate.yaml", &c, NULL, NULL, &e), -ERR_SYS);
	assert_string_equal(e.msg, "cannot read /nowhere/upstate.yaml: No such file or directory");
	assert_int_equal(conf_load("/", &c, NULL, NULL, &e), -ERR_INPUT);
	assert_string_equal(e.msg, "cannot read /: it is no file");
}

static void a_file_beyond_the_bound_is_refused(void **state UNUSED)
{
	size_t len = CONF_BYTES_MAX + 1;
	CLEANUP_FREE char *text = util_alloc(len + 1);

	memset(text, '#', len);
	refused(text, "f: error: the file is bigger than 16 MiB\n");
}

static void a_small_file_cannot_ask_for_a_huge_table(void **state UNUSED)
{
	CLEANUP_BUF struct buf text = {0};

	buf_adds(&text, "apps: {");
	for (int app = 0; app < 3; app++) {
		buf_addf(&text, "a%d: {run: x $PORT, hosts: [", app);
		for (int i = 0; i < 1000; i++)
			buf_addf(&text, "h%d-%d,", app, i);
		buf_adds(&text, "], path: [");
		for (int i = 0; i < 100; i++)
			buf_addf(&text, "/p%d,", i);
		buf_adds(&text, "]},");
	}
	buf_adds(&text, "}\n");
	refused(buf_str(&text), "f:1:1: error: the apps have 300000 pairs of a host and a path in "
				"all; 200000 are possible\n");
}

static void ten_thousand_apps_are_read_within_a_second(void **state UNUSED)
{
	CLEANUP_BUF struct buf text = {0};
	clock_t began;
	struct conf *c;

	buf_adds(&text, "apps:\n");
	for (int i = 0; i < 10000; i++)
		buf_addf(
		    &text,
		    "  app-%d:\n    hosts: [a%d.example.org, b%d.example.org]\n    path: [/, /x]\n"
		    "    run: serve $PORT\n    instances: 2\n    env: {A: b, C: d}\n    data: "
		    "app%d\n"
		    "    health: {path: /up, every: 2s}\n    hold: {wait: 5s}\n",
		    i, i, i, i);
	began = clock(); /* of this process: the machine may be busy */
	c = parse(buf_str(&text));
	began = clock() - began;
	assert_non_null(c);
	assert_string_equal(conf_app(c, "app-9999")->hosts.items[1], "b9999.example.org");
	conf_free(c);
	print_message("10,000 apps, %zu bytes: %u ms\n", text.len, (unsigned)(began / (CLOCKS_PER_SEC / 1000)));
#if !defined(__SANITIZE_ADDRESS__) && !defined(__clang__) /* sanitizers make it slower */
	assert_true(began < CLOCKS_PER_SEC);
#endif
}

int main(void)
{
	const struct CMUnitTest tests[] = {
	    cmocka_unit_test(three_lines_make_an_app_and_the_rest_has_defaults),
	    cmocka_unit_test(an_app_has_the_defaults_of_a_careful_operator),
	    cmocka_unit_test(everything_can_be_said),
	    cmocka_unit_test(addresses_with_https_have_certificates),
	    cmocka_unit_test(certificates_by_themselves_are_for_the_hosts_of_their_app),
	    cmocka_unit_test(what_no_authority_could_issue_is_refused),
	    cmocka_unit_test(one_certificate_has_so_many_names),
	    cmocka_unit_test(listeners_say_from_whom_a_proxy_header_comes),
	    cmocka_unit_test(targets_may_speak_http2),
	    cmocka_unit_test(an_app_may_have_an_address_of_its_own),
	    cmocka_unit_test(everything_can_be_said_of_an_app),
	    cmocka_unit_test(the_example_is_right),
	    cmocka_unit_test(durations_and_sizes_are_read_with_their_units),
	    cmocka_unit_test(the_nearest_word_is_near),
	    cmocka_unit_test(unknown_keys_come_with_the_right_word),
	    cmocka_unit_test(every_mistake_is_told_at_once_in_order),
	    cmocka_unit_test(the_first_ejection_is_not_longer_than_the_longest),
	    cmocka_unit_test(types_are_named_when_they_are_wrong),
	    cmocka_unit_test(ranges_are_told_with_their_bound),
	    cmocka_unit_test(an_app_runs_or_is_elsewhere),
	    cmocka_unit_test(hosts_are_needed_when_there_are_several_apps),
	    cmocka_unit_test(two_apps_cannot_have_the_same_host_and_path),
	    cmocka_unit_test(bad_hosts_are_explained),
	    cmocka_unit_test(bad_addresses_are_explained),
	    cmocka_unit_test(bad_names_and_paths_are_explained),
	    cmocka_unit_test(a_key_that_stands_twice_is_refused),
	    cmocka_unit_test(what_is_no_yaml_is_explained),
	    cmocka_unit_test(usual_slips_are_recognized),
	    cmocka_unit_test(a_byte_order_mark_and_crlf_do_no_harm),
	    cmocka_unit_test(the_first_error_is_the_callers_and_tells_of_the_rest),
	    cmocka_unit_test(problems_are_bounded_and_the_rest_is_counted),
	    cmocka_unit_test(a_file_that_is_not_there_is_named),
	    cmocka_unit_test(a_file_beyond_the_bound_is_refused),
	    cmocka_unit_test(a_small_file_cannot_ask_for_a_huge_table),
	    cmocka_unit_test(ten_thousand_apps_are_read_within_a_second),
	};

	return cmocka_run_group_tests(tests, NULL, teardown);
}
