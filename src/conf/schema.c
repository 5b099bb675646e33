/* SPDX-License-Identifier: Apache-2.0
 *
 * A row a key, in the order in which the manual tells them. A section stands before
 * the keys below it.
 */
#include "conf/schema.h"

#include <signal.h>
#include <string.h>

#define HOUR 3600000ull
#define DAY (24 * HOUR)
#define GIB (1ull << 30)

static const char *const proxy_words[] = {"off", "v1", "v2", NULL}; /* as enum proxy_version */
static const char *const mixed_words[] = {"ok", "never", NULL};
static const char *const trace_words[] = {"off", "pass", "make", NULL}; /* enum table_trace */
/* From CONF_ON on they mean yes. */
static const char *const switch_words[] = {"false", "no", "off", "true", "yes", "on", NULL};
static const char *const protocol_words[] = {"http1", "h2c", NULL}; /* enum conf_protocol */
const char *const conf_check_methods[] = {"GET", "HEAD", "POST", NULL};
const char *const conf_check_records[] = {"A", "AAAA", "CNAME", "MX", "NS", "PTR", "SOA", "TXT", NULL};
const char *const conf_check_ofs[] = {"age", "size", NULL};
static const char *const https_words[] = {"optional", "redirect", NULL};
static const char *const tls_words[] = {"files", "auto", NULL}; /* enum conf_tls */

#define TOP(field) SCHEMA_TOP, .offset = offsetof(struct conf, field)
#define APP(field) SCHEMA_APP, .offset = offsetof(struct conf_app, field)
#define DEVICE(field) SCHEMA_DEVICE, .offset = offsetof(struct conf_device, field)
#define CHECK(field) SCHEMA_CHECK, .offset = offsetof(struct conf_check, field)
#define KIND(name) (1u << CONF_CHECK_##name)
#define CERT(field) SCHEMA_CERT, .offset = offsetof(struct conf_certificate, field)
#define ROW(own, path_, type_, min_, max_, fallback_, ...)                                         \
	{                                                                                          \
		.owner = own, .path = path_, .type = SCHEMA_##type_, .min = min_, .max = max_,     \
		.fallback = fallback_, __VA_ARGS__                                                 \
	}

/* clang-format off */
const struct schema_row schema_rows[] = {
	/* --- the whole --- */
	ROW(TOP(listen), "listen", LISTEN, 1, 64, NULL, .check = text_listen,
	    .example = "[{http: 0.0.0.0:8080}]",
	    .doc = "Where users' requests come in: a list of addresses, each as http: ADDRESS:PORT, or https: "
		   "ADDRESS:PORT where TLS is spoken (which needs certificates). Without it Upstate listens on "
		   "127.0.0.1:8080, which only this machine can reach. With proxy: true beside it, "
		   "connections from trusted_proxies must begin with a PROXY protocol header (version 1 or 2), and the address "
		   "in it is the client's; proxy: [10.0.0.0/8] says from which networks instead. Connections from elsewhere are "
		   "taken as they are."),
	ROW(TOP(certificates), "certificates", CERTS, 1, 1000, NULL,
	    .example = "[{cert: example.org.pem, key: example.org.key}]",
	    .doc = "For the addresses with https, where not every app has tls: auto: a list, each with cert and key. A client gets the one that has "
		   "the name it asks for (exact, then *.name for one label), else the first. Files that change are "
		   "taken up by themselves when they are right; until then the ones before stay in force."),
	ROW(CERT(cert), "cert", TEXT, 1, 4095, NULL, .check = text_file, .example = "example.org.pem",
	    .doc = "PEM file with the certificate, then those that issued it, in order. A path that does not begin "
		   "with / counts from the folder of the configuration."),
	ROW(CERT(key), "key", TEXT, 1, 4095, NULL, .check = text_file, .example = "example.org.key",
	    .doc = "PEM file with its private key, without a pass phrase."),
	ROW(SCHEMA_TOP, "acme", SECTION, 0, 0, NULL,
	    .doc = "Who issues the certificates of apps with tls: auto (RFC 8555). The program uacme asks for them; a private "
		   "authority must be among those that this machine trusts (update-ca-certificates)."),
	ROW(TOP(acme_agree), "acme.agree", BOOL, 0, 1, "false", .example = "true",
	    .doc = "You agree to the server's terms of service. Nothing is asked of it before."),
	ROW(TOP(acme_server), "acme.server", TEXT, 1, 1000, "letsencrypt", .check = text_acme_server,
	    .example = "staging",
	    .doc = "letsencrypt; staging, Let's Encrypt's for trying out, whose certificates nobody trusts; or the URL of "
		   "another server's directory. With another server the certificates that are there stay until their time."),
	ROW(TOP(acme_mail), "acme.mail", TEXT, 3, 254, NULL, .check = text_mail, .example = "ops@example.org",
	    .doc = "Where the server may write to, told to it when the account is made."),
	ROW(SCHEMA_TOP, "admin", SECTION, 0, 0, NULL,
	    .doc = "Where people look, and who may command."),
	ROW(TOP(admin), "admin.http", TEXT, 1, 80, "127.0.0.1:8081", .check = text_admin,
	    .doc = "Address of the status page, the feeds and the API (which wants the token that stands in "
		   "the state directory); off for none."),
	ROW(TOP(admin_group), "admin.group", TEXT, 1, 32, NULL, .check = text_group, .example = "ops",
	    .doc = "Members of this group may use the control socket, beside root and the user that runs "
		   "Upstate."),
	ROW(TOP(trusted_proxies), "trusted_proxies", LIST, 0, 1000, NULL, .check = text_network,
	    .example = "[10.0.0.0/8]",
	    .doc = "Networks whose X-Forwarded-For and Forwarded are believed. From anyone else they are "
		   "replaced."),

	ROW(SCHEMA_TOP, "limits", SECTION, 0, 0, NULL, .doc = "Bounds of what clients may ask of the router."),
	ROW(TOP(clients), "limits.clients", INT, 1, 1000000, "10000",
	    .doc = "Client connections at once; more of them wait in the listening socket."),
	ROW(TOP(connections), "limits.connections", INT, 0, 1000000, "0",
	    .doc = "Connections at once from one address (of IPv6: the first 64 bits); more are closed at once. "
		   "Trusted proxies have no such limit. 0: nobody has."),
	ROW(TOP(header_bytes), "limits.header", BYTES32, 1024, 1 << 20, "32KiB",
	    .doc = "Size of a request's head; more is answered with 431, or 414 when it is the first line."),
	ROW(TOP(header_count), "limits.headers", INT, 8, 128, "100",
	    .doc = "Header lines of a request; more is answered with 431."),
	ROW(TOP(header_ms), "limits.header_time", MS, 100, HOUR, "10s",
	    .doc = "Time from a request's first byte to the end of its head."),
	ROW(TOP(idle_ms), "limits.idle", MS, 100, DAY, "75s",
	    .doc = "Time that a client's connection is kept open between requests."),
	ROW(TOP(streams), "limits.streams", INT, 0, 10000, "128",
	    .doc = "Requests at once on one HTTP/2 connection; 0: HTTP/2 is not spoken."),

	ROW(SCHEMA_TOP, "log", SECTION, 0, 0, NULL, .doc = "Files below log/ in the state directory."),
	ROW(TOP(access_log), "log.access", BOOL, 0, 1, "true",
	    .doc = "Write a line of JSON for each request."),
	ROW(TOP(log_sample), "log.sample", PERCENT, 0, 1000000, "100%", .example = "10%",
	    .doc = "Share of the requests that are logged. Those that failed (5xx, cut), waited, were sent more than "
		   "once or were slow always are. The rest is chosen by the id of the trace, so that each Upstate on its "
		   "way logs it or none does; the share stands in each line as sample, to correct sums by: 1/sample."),
	ROW(TOP(log_slow_ms), "log.slow", MS, 0, DAY, "1s",
	    .doc = "A request that took longer is always logged; 0: that is no reason."),
	ROW(TOP(log_bytes), "log.size", BYTES, 64 * 1024, 100 * GIB, "10MiB",
	    .doc = "A log is rotated when it has grown to this size."),
	ROW(TOP(log_files), "log.files", INT, 1, 1000, "5",
	    .doc = "Files that are kept of each log, with the one in use."),

	ROW(TOP(trace), "trace", WORD, 0, 0, "make", .words = trace_words,
	    .doc = "W3C Trace Context. make: a valid traceparent is passed on with Upstate's own id as the parent, and a "
		   "trace begins where none came. pass: none begins here. off: the header is like any other. The trace's id "
		   "stands in the access log."),

	ROW(TOP(apps), "apps", APPS, 1, CONF_APPS_MAX, NULL,
	    .doc = "The apps, each under its name (lower-case letters, digits and '-')."),
	ROW(TOP(devices), "devices", DEVICES, 0, CONF_DEVICES_MAX, NULL,
	    .doc = "What the apps stand on, each under a name that no app has. Its checks are measured by a process of their own; "
		   "status changes are in the feeds of the apps that need it."),

	/* --- an app --- */
	ROW(APP(hosts), "hosts", LIST, 1, 1000, NULL, .check = text_host,
	    .example = "[example.org, \"*.example.org\"]",
	    .doc = "The names under which users reach it: exact, *.SUFFIX, or * for what no other app takes. "
		   "The most specific wins. An app that is the only one may leave it out and gets *."),
	ROW(APP(paths), "path", LIST, 1, 100, "/", .check = text_route_path, .example = "/api",
	    .doc = "Path prefixes that it answers; whole segments (/api takes /api/x and not /apix). The "
		   "longest wins."),
	ROW(APP(tcp), "tcp", TEXT, 1, 80, NULL, .check = text_listen, .example = "0.0.0.0:6379",
	    .doc = "Instead of hosts and path: users reach it at this address of its own, and what they speak is passed on as it "
		   "is. What is said here of requests holds for its connections: they are balanced, limited, held and tried "
		   "elsewhere like those; what cannot be served is reset. In a change, new connections go to the new release and "
		   "old ones live until drain is over. Its health is that a connection opens."),
	ROW(APP(run), "run", TEXT, 1, 32768, NULL, .check = text_command,
	    .example = "gunicorn --bind unix:$UPSTATE_SOCKET app:app",
	    .doc = "The command that runs one instance, for /bin/sh, in the directory of the release; upstate files . serves "
		   "its files. It listens on the unix socket $UPSTATE_SOCKET if the command names that; else on 127.0.0.1 at "
		   "$PORT. A single command takes the shell's place and gets the stop signal itself; where there "
		   "are several, put exec before the last."),
	ROW(APP(targets), "targets", LIST, 1, 1000, NULL, .check = text_target,
	    .example = "[127.0.0.1:9001, unix:/run/old.sock]",
	    .doc = "Instead of run: addresses of servers that Upstate does not run, as ADDRESS:PORT, NAME:PORT or "
		   "unix:/PATH."),
	ROW(APP(instances), "instances", INT, 1, 64, "1", .run_only = true,
	    .doc = "How many instances run at once."),
	ROW(APP(env), "env", ENV, 0, 1000, NULL, .run_only = true, .example = "{LANG: C.UTF-8}",
	    .doc = "Environment of the instances. Names that begin with UPSTATE_ are Upstate's own."),
	ROW(APP(data), "data", TEXT, 1, 63, NULL, .run_only = true, .check = text_data, .example = "guestbook",
	    .doc = "Name of a directory that is kept across releases; instances find it in $UPSTATE_DATA."),
	ROW(APP(stop), "stop", SIGNAL, 0, 0, "TERM", .run_only = true,
	    .doc = "The signal that asks an instance to end, sent to its main process."),
	ROW(APP(grace_ms), "grace", MS, 0, HOUR, "10s", .run_only = true,
	    .doc = "Time from that signal until what is left is killed."),
	ROW(APP(files_max), "files", INT, 0, 1 << 20, "0", .run_only = true,
	    .doc = "Descriptors an instance may open (RLIMIT_NOFILE); 0: what Upstate was started with."),
	ROW(SCHEMA_APP, "ready", SECTION, 0, 0, NULL, .run_only = true,
	    .doc = "When a new instance counts as ready."),
	ROW(APP(ready_ms), "ready.within", MS, 100, DAY, "60s", .run_only = true,
	    .doc = "A new instance that is not ready by then fails the deploy."),
	ROW(APP(notify), "ready.notify", BOOL, 0, 1, "false", .run_only = true,
	    .doc = "The instance says READY=1 to $NOTIFY_SOCKET, as under systemd; before that it gets no "
		   "request."),

	ROW(SCHEMA_APP, "health", SECTION, 0, 0, NULL, .doc = "How the router finds out that a target is up."),
	ROW(APP(health_path), "health.path", TEXT, 1, 1023, NULL, .check = text_health_path, .example = "/up",
	    .doc = "A GET of this path must be answered with 2xx or 3xx. Without it a connection that opens is "
		   "enough."),
	ROW(APP(health_every_ms), "health.every", MS, 100, HOUR, "1s",
	    .doc = "Time between probes; while a target is not up, ten times as often."),
	ROW(APP(health_timeout_ms), "health.timeout", MS, 10, HOUR, "5s",
	    .doc = "A probe that takes longer has failed."),
	ROW(APP(health_rise), "health.rise", INT, 1, 100, "1", .doc = "Good probes in a row until it is up."),
	ROW(APP(health_fall), "health.fall", INT, 1, 100, "3", .doc = "Failed probes in a row until it is down."),

	ROW(APP(drain_ms), "drain", MS, 0, DAY, "30s",
	    .doc = "How long requests that are inside a target may go on when it is to end; then they are cut, and "
		   "counted."),
	ROW(SCHEMA_APP, "hold", SECTION, 0, 0, NULL,
	    .doc = "Requests wait rather than fail while there is nowhere to send them."),
	ROW(APP(hold_wait_ms), "hold.wait", MS, 0, HOUR, "30s",
	    .doc = "How long one may wait; then it is answered with 503. In an outage the time counts from its "
		   "start."),
	ROW(APP(hold_requests), "hold.requests", INT, 0, 1000000, "1000", .doc = "How many may wait."),
	ROW(APP(hold_bytes), "hold.bytes", BYTES, 0, 64 * GIB, "64MiB",
	    .doc = "How much memory the waiting may take."),
	ROW(APP(target_limit), "limit", INT, 0, 1000000, "128",
	    .doc = "Requests at once to each target; more wait, and can still go to another. 0: no limit. For an app "
		   "with tcp the default is 1024."),
	ROW(APP(body_max), "body", BYTES, 0, 1ull << 50, "0",
	    .doc = "Size of a request's body; more is answered with 413. 0: no limit."),
	ROW(APP(slow_start_ms), "slow_start", MS, 0, HOUR, "0",
	    .doc = "A target that came up, or came back, gets a share of the requests that grows to its full one in "
		   "this time. For apps that are slow while their caches are cold."),
	ROW(SCHEMA_APP, "timeouts", SECTION, 0, 0, NULL, .doc = "How long the router waits for a target."),
	ROW(APP(connect_ms), "timeouts.connect", MS, 10, HOUR, "2s",
	    .doc = "For a connection; then the next target is tried."),
	ROW(APP(response_ms), "timeouts.response", MS, 100, DAY, "60s",
	    .doc = "From the end of the request to the head of the response."),
	ROW(APP(body_ms), "timeouts.body", MS, 100, DAY, "60s",
	    .doc = "Between two pieces of a body, either way."),
	ROW(APP(tunnel_ms), "timeouts.tunnel", MS, 0, 7 * DAY, "0",
	    .doc = "Silence in both directions of an upgraded connection (WebSocket) or one of tcp; 0: no limit."),
	ROW(APP(request_ms), "timeouts.request", MS, 0, 7 * DAY, "0",
	    .doc = "For a request as a whole, from its head to the end of the answer, waiting and further tries "
		   "included; 0: no limit. Before the answer has begun it is 504 (408 while the client owes its "
		   "body), then the answer is cut. It is not for upgraded connections, nor for event streams "
		   "(text/event-stream)."),
	ROW(APP(retry_unread), "retry_unread", BOOL, 0, 1, "true",
	    .doc = "Send a request to another target, whatever its method, when the unix socket proves that the "
		   "first did not read it."),
	ROW(APP(https), "https", WORD, 0, 0, "optional", .words = https_words,
	    .doc = "redirect: a request over plain HTTP is answered with 308 to the same over https, but for "
		   "/.well-known/acme-challenge/."),
	ROW(APP(tls), "tls", WORD, 0, 0, "files", .words = tls_words,
	    .doc = "auto: Upstate gets a certificate for the hosts of this app by itself and renews it when two thirds of its "
		   "life are over; see acme. The authority must reach this machine at port 80 under each of the names, which "
		   "must be exact ones. While none is there yet, clients get the certificate they would get for a name "
		   "that has none: one with a wildcard, or the first (one that nobody trusts, if there is no other). "
		   "files: what certificates say."),
	ROW(APP(hsts_s), "hsts", SECONDS, 0, 730 * DAY, "0", .example = "365d",
	    .doc = "Answers over https tell browsers to use nothing else for this long "
		   "(Strict-Transport-Security); 0: they do not. There is no way back for browsers that have "
		   "seen it: begin with a short time."),
	ROW(SCHEMA_APP, "retry", SECTION, 0, 0, NULL,
	    .doc = "How many GETs and HEADs may be tried again at another target, so that an overload is not "
		   "doubled. What is proven unread or could not be sent does not count, nor what met an idle "
		   "connection that was just ending."),
	ROW(APP(retry_share), "retry.share", INT, 0, 100, "20",
	    .doc = "Percent of the app's recent requests (about 10 s)."),
	ROW(APP(retry_least), "retry.least", INT, 0, 1000000, "10", .doc = "So many a second in any case."),

	ROW(APP(protocol), "protocol", WORD, 0, 0, "http1", .words = protocol_words,
	    .doc = "What is spoken with the targets. http1: HTTP/1.1. h2c: HTTP/2 without TLS and from the first byte on (prior "
		   "knowledge), as servers of gRPC do; many requests share a connection, and trailers go both ways. Users may come "
		   "with either. A target that says of a request that it does not work on it (REFUSED_STREAM, or a stream above "
		   "the last of its GOAWAY) has not got it: it is sent again, whatever its method. Without health.path the target "
		   "is up when it speaks HTTP/2. HTTP/2 over TLS to targets is not there, nor a WebSocket over HTTP/2 to them."),
	ROW(APP(proxy), "proxy", WORD, 0, 0, "off", .words = proxy_words,
	    .doc = "Begin each connection to a target with a PROXY protocol header of this version, which says who the client "
		   "is. Such a connection serves one request and is not kept. Probes say LOCAL (UNKNOWN in v1)."),

	/* In the order in which they are looked at. */
	ROW(APP(maintenance), "maintenance", PAGE, 1, 1023, "false", .words = switch_words,
	    .example = "pages/soon.html",
	    .doc = "true, or a page's file: every request is answered with 503 and Retry-After, and none reaches "
		   "the app. Without a file the page of errors.503 is shown, or Upstate's own. upstate maintenance "
		   "does the same without a change of this file. What a request meets comes in this order: "
		   "to https; maintenance; allow and deny; rate; auth; redirects; then the app. With tcp, who is refused is "
		   "reset."),
	ROW(APP(allow), "allow", LIST, 1, 1000, NULL, .check = text_network, .example = "[10.0.0.0/8]",
	    .doc = "Networks that may use the app; anyone else is answered with 403. Of all networks of allow and "
		   "deny that hold the client's address, the smallest decides, and deny where both name the same. "
		   "The address is that of the connection; when a trusted proxy made it, the last one in "
		   "X-Forwarded-For (or else Forwarded) that is no trusted proxy's."),
	ROW(APP(deny), "deny", LIST, 1, 1000, NULL, .check = text_network, .example = "[192.0.2.7]",
	    .doc = "Networks that may not. Without allow, everyone else may."),
	ROW(SCHEMA_APP, "rate", SECTION, 0, 0, NULL,
	    .doc = "How many requests (with tcp: connections) one client may make; more are answered with 429 and "
		   "Retry-After."),
	ROW(APP(rate_requests), "rate.requests", INT, 0, 1000000, "0",
	    .doc = "Requests in the time of rate.per. 0: no limit."),
	ROW(APP(rate_ms), "rate.per", MS, 10, DAY, "1s", .doc = "The time in which so many may come."),
	ROW(APP(rate_burst), "rate.burst", INT, 0, 1000000, "0",
	    .doc = "Requests that may come at once after a pause (the size of the bucket). 0: as rate.requests."),
	ROW(APP(rate_by), "rate.by", TEXT, 1, 200, "address", .check = text_key_by,
	    .example = "header X-Api-Key",
	    .doc = "Who counts as one client: address (of IPv6 the first 64 bits), or header NAME (requests without "
		   "it count by address)."),
	ROW(SCHEMA_APP, "auth", SECTION, 0, 0, NULL,
	    .doc = "Basic authentication (RFC 7617): who is no user of it gets 401."),
	ROW(APP(users), "auth.users", LIST, 1, CONF_USERS_MAX, NULL, .check = text_user,
	    .example = "[\"ann:sha256:6c6e...:a7f1...\"]",
	    .doc = "Users, each with the hash of a password, as upstate password NAME prints them. The hash is a fast "
		   "one, since it is computed for each request: only long passwords make it safe to show."),
	ROW(APP(realm), "auth.realm", TEXT, 1, 100, "restricted", .check = text_realm,
	    .doc = "What browsers show when they ask for the password."),
	ROW(APP(auth_pass), "auth.pass", BOOL, 0, 1, "false",
	    .doc = "Pass the Authorization field on to the app."),
	ROW(APP(redirects), "redirects", REDIRECTS, 1, CONF_REDIRECTS_MAX, NULL,
	    .example = "[{ from: /blog/*, to: \"https://blog.example.org/*\", status: 308 }]",
	    .doc = "Paths that are answered with a redirect, each as from, to and status (301, 302, 307, 308; "
		   "default 307). from is a whole path, or with a final * everything that begins so; a final * of to "
		   "stands for the rest. The query goes along unless to has one. The first that fits is taken."),
	ROW(SCHEMA_APP, "headers", SECTION, 0, 0, NULL,
	    .doc = "Fields that are added, replaced or taken out on the way. Those that concern the connection, the "
		   "framing, or who the client is are Upstate's own."),
	ROW(SCHEMA_APP, "headers.request", SECTION, 0, 0, NULL, .doc = "On the way to the app."),
	ROW(APP(request_set), "headers.request.set", FIELDS, 1, 16, NULL, .check = text_request_field,
	    .example = "{ X-Stage: live }",
	    .doc = "Fields that the app gets so, whatever the client sent under their names."),
	ROW(APP(request_remove), "headers.request.remove", LIST, 1, 32, NULL, .check = text_request_field,
	    .example = "[X-Internal-User]",
	    .doc = "Fields that the app does not get. In names of requests _ counts as -."),
	ROW(SCHEMA_APP, "headers.response", SECTION, 0, 0, NULL,
	    .doc = "On the way to the client; answers that Upstate gives itself are left alone."),
	ROW(APP(answer_set), "headers.response.set", FIELDS, 1, 16, NULL, .check = text_answer_field,
	    .example = "{ X-Frame-Options: DENY }", .doc = "Fields that the client gets so."),
	ROW(APP(answer_remove), "headers.response.remove", LIST, 1, 32, NULL, .check = text_answer_field,
	    .example = "[X-Powered-By]", .doc = "Fields that the client does not get."),
	ROW(SCHEMA_APP, "errors", SECTION, 0, 0, NULL,
	    .doc = "Pages for answers that Upstate gives itself, as files beside this one, of at most 64 KiB each. "
		   "The status stays; the type goes by the file's name (.html, .txt, .json, .xml); the first {id} "
		   "becomes the request's id. A changed page is taken up by upstate reload."),
#define X(status)                                                                                  \
	ROW(APP(pages[CONF_PAGE_##status]), "errors." #status, PAGE, 1, 1023, NULL,                \
	    .example = "pages/" #status ".html", .doc = "The page for status " #status "."),
	CONF_PAGE_TABLE(X)
#undef X
	ROW(APP(sticky), "sticky", TEXT, 1, 100, "false", .check = text_sticky, .example = "true",
	    .doc = "true, or the name of a cookie (true: upstate- and the app's name): a client goes to the same "
		   "target while that serves and is up, else to another from then on. A target at its limit is "
		   "passed over for the moment. The cookie tells nothing of the target."),
	ROW(APP(balance), "balance", TEXT, 1, 200, "least", .check = text_balance,
	    .example = "hash header X-Tenant",
	    .doc = "Which target gets a request: least (the one with the fewest inside), or one that a hash "
		   "chooses: hash address, hash path, hash header NAME. Equal ones then go to the same target, the "
		   "others' places do not change when one comes or goes, and none gets more than 5/4 of its share, "
		   "or 8 at once where that is more."),

	ROW(SCHEMA_APP, "eject", SECTION, 0, 0, NULL,
	    .doc = "When a target that is up is given a rest, because it serves worse than the others. Never the "
		   "last one that is up, and never more than half of them. 0 switches a reason off."),
	ROW(APP(eject_failures), "eject.failures", INT, 0, 1000, "5",
	    .doc = "So many tries in a row failed: no connection, broken off, no answer in time. An idle connection "
		   "that had ended is none of these."),
	ROW(APP(eject_errors), "eject.errors", INT, 0, 100, "50",
	    .doc = "Such a share of its tries failed, in percent."),
	ROW(APP(eject_server_errors), "eject.server_errors", INT, 0, 100, "50",
	    .doc = "Its share of 5xx is so many points of percent above the median of the other targets. What all "
		   "of them answer is the app's, and nobody is ejected for it."),
	ROW(APP(eject_latency), "eject.latency", INT, 0, 1000, "5",
	    .doc = "It takes so many times as long until an answer begins as the median of the other targets."),
	ROW(APP(eject_latency_by_ms), "eject.latency_by", MS, 0, HOUR, "500ms",
	    .doc = "And by so much longer at least."),
	ROW(APP(eject_requests), "eject.requests", INT, 1, 1000000, "50",
	    .doc = "Shares and times are judged by this many requests at least, of it and of those that it is "
		   "compared with."),
	ROW(APP(eject_window_ms), "eject.window", MS, 1000, HOUR, "10s",
	    .doc = "The time over which they are judged."),
	ROW(APP(eject_silence_ms), "eject.silence", MS, 0, HOUR, "250ms",
	    .doc = "A target that owes answers and says nothing for so long, and for much longer than it usually "
		   "takes, while others answer, gets no new requests and is probed at once. As much later without an "
		   "answer to that either it is ejected as stuck: GETs and HEADs that it has not answered "
		   "are tried elsewhere, once. A probe that is answered brings it back."),
	ROW(APP(eject_time_ms), "eject.time", MS, 100, HOUR, "5s",
	    .doc = "How long the first time; each time in a row twice as long. Where there is a health path, it must "
		   "be answered well too before the target is back."),
	ROW(APP(eject_most_ms), "eject.most", MS, 100, DAY, "2m",
	    .doc = "The longest time. After as long without another one it begins anew."),

	ROW(APP(mixed), "mixed", WORD, 0, 0, "ok", .run_only = true, .words = mixed_words,
	    .doc = "never: two releases must not run side by side. A change then holds all requests, ends the "
		   "old instances, starts the new ones, and releases."),
	ROW(APP(bake_ms), "bake", MS, 0, DAY, "10s", .run_only = true,
	    .doc = "How long a new release must do well before its deploy is done. Until then the old one is kept "
		   "running, and a failure undoes the deploy."),
	ROW(APP(keep), "keep", INT, 0, 1000, "5", .run_only = true,
	    .doc = "Releases whose files are kept beside those in use."),
	ROW(APP(needs), "needs", NEEDS, 1, CONF_NEEDS_MAX, NULL, .example = "[web-1, {any: [power-a, power-b]}]",
	    .doc = "Devices without which it does not work. They, and those that they need, stand in its feed. Of "
		   "what stands below any, one is enough."),

	/* --- a device --- */
	ROW(DEVICE(needs), "needs", NEEDS, 1, CONF_NEEDS_MAX, NULL, .example = "[switch-1]",
	    .doc = "Devices without which it does not work, as for an app."),
	ROW(DEVICE(at), "at", TEXT, 1, 200, NULL, .example = "row 3, rack 12", .doc = "Where it stands, for who has to go there."),
	ROW(DEVICE(runbook), "runbook", TEXT, 1, 1000, NULL, .check = text_url, .example = "https://wiki/web-1",
	    .doc = "What to do about it."),
	ROW(DEVICE(every_ms), "every", MS, 100, DAY, "60s", .doc = "How often its checks measure."),
	ROW(DEVICE(timeout_ms), "timeout", MS, 10, HOUR, "10s", .doc = "How long a measurement may take."),
	ROW(DEVICE(rise), "rise", INT, 1, 100, "1", .doc = "So many better measurements in a row, and the status is better."),
	ROW(DEVICE(fall), "fall", INT, 1, 100, "2", .doc = "So many worse ones in a row, and it is worse."),
	ROW(DEVICE(checks), "checks", CHECKS, 1, CONF_DEVICE_CHECKS_MAX, NULL,
	    .example = "[{http: \"http://10.0.0.5/\", bad: \"> 150ms\"}]",
	    .doc = "What is measured: each begins with its kind. The device is as good as the worst of them."),

	/* --- a check --- */
	ROW(CHECK(what), "http", TEXT, 1, 2000, NULL, .kinds = KIND(HTTP), .check = text_url, .example = "http://10.0.0.5/up",
	    .doc = "Asks for a URL, http or https, over a connection of its own. ugly: no answer, or another one than expected. "
		   "The value is the time until the whole answer was there."),
	ROW(CHECK(what), "tcp", TEXT, 1, 300, NULL, .kinds = KIND(TCP), .check = text_address, .example = "10.0.0.5:22",
	    .doc = "Opens a connection to HOST:PORT. The value is the time until it is open, or until what is expected came."),
	ROW(CHECK(what), "tls", TEXT, 1, 300, NULL, .kinds = KIND(TLS), .check = text_address, .example = "10.0.0.5:443",
	    .doc = "Opens a connection to HOST:PORT and shakes hands. ugly: it fails, or the certificate is not right. The value is "
		   "the time that took."),
	ROW(CHECK(what), "dns", TEXT, 1, 255, NULL, .kinds = KIND(DNS), .check = text_domain, .example = "example.org",
	    .doc = "Asks a name server for a name. ugly: no answer, no record, or another than expected. The value is the time "
		   "until the answer."),
	ROW(CHECK(what), "icmp", TEXT, 1, 255, NULL, .kinds = KIND(ICMP), .check = text_host_name, .example = "10.0.0.5",
	    .doc = "Sends an echo request (ping) to a host, up to three times. The value is the time until the echo."),
	ROW(CHECK(what), "version", TEXT, 1, 2000, NULL, .kinds = KIND(VERSION), .check = text_version, .example = "/version",
	    .doc = "Asks for a URL, or a path of the device's first http check, and compares what it says it runs with is. "
		   "bad: another version."),
	ROW(CHECK(what), "file", TEXT, 1, 4095, NULL, .kinds = KIND(FILE), .check = text_absolute, .example = "/var/backups/last.tar",
	    .doc = "Looks at a file of this machine. ugly: it is not there. The value is its age, or its size."),
	ROW(CHECK(what), "host", TEXT, 1, 4095, NULL, .kinds = KIND(HOST), .check = text_measure, .example = "disk /var",
	    .doc = "Measures this machine: load (of the last minute), or the share in percent that is used of cpu, memory, "
		   "swap, disk PATH, inodes PATH."),
	ROW(CHECK(what), "process", TEXT, 1, 255, NULL, .kinds = KIND(PROCESS), .check = text_program, .example = "cron",
	    .doc = "Counts the processes of this machine whose program has this name. Without thresholds none is ugly."),
	ROW(CHECK(what), "plugin", TEXT, 1, 2000, NULL, .kinds = KIND(PLUGIN), .check = text_command,
	    .example = "\"check_disk -w 10% -c 5% -p /\"",
	    .doc = "Runs a command, for /bin/sh, that keeps to the rules of monitoring-plugins: status 0 good, 1 bad, 2 ugly, 3 "
		   "unknown, and a line of text. The value is the first number behind the '|'. It runs as Upstate's watcher (a user of "
		   "its own when Upstate runs as root), with all that it starts in one process group, which is killed when its time "
		   "is over or it prints over 64 KiB."),
	ROW(CHECK(what), "push", TEXT, 1, 20, NULL, .kinds = KIND(PUSH), .check = text_period, .example = "25h",
	    .doc = "Nothing is measured: somebody must say within this time, again and again, that all is well. upstate beat "
		   "DEVICE does, or POST /v1/beat/DEVICE."),
	ROW(CHECK(secret), "secret", TEXT, 16, 200, NULL, .kinds = KIND(PUSH), .check = text_secret, .example = "2f1e7a90c4b85d36",
	    .doc = "Who knows it may say so on the admin address: /v1/beat/DEVICE?secret=2f1e7a90c4b85d36."),
	ROW(CHECK(label), "name", TEXT, 1, 63, NULL, .check = text_label, .example = "front page",
	    .doc = "What the check is called; by it its past is found again when checks of its kind are added before it."),
	ROW(CHECK(every_ms), "every", MS, 100, DAY, NULL, .kinds = ~KIND(PUSH), .example = "10s", .doc = "How often; default: the device's."),
	ROW(CHECK(timeout_ms), "timeout", MS, 10, HOUR, NULL, .kinds = ~KIND(PUSH), .example = "5s", .doc = "How long it may take; default: the device's."),
	ROW(CHECK(rise), "rise", INT, 1, 100, NULL, .kinds = ~KIND(PUSH), .example = "2", .doc = "As the device's, for this check."),
	ROW(CHECK(fall), "fall", INT, 1, 100, NULL, .kinds = ~KIND(PUSH), .example = "3", .doc = "As the device's, for this check."),
	ROW(CHECK(bad), "bad", TEXT, 1, 80, NULL, .check = text_threshold, .example = "\"> 150ms\"",
	    .doc = "With such a value it works, but worse than it should: <, <=, >, >=, = or != and a number with its "
		   "unit. Of a plugin, the name of one of its values may stand before it."),
	ROW(CHECK(ugly), "ugly", TEXT, 1, 80, NULL, .check = text_threshold, .example = "\"> 5s\"",
	    .doc = "With such a value it does not work."),
	ROW(CHECK(status), "status", TEXT, 1, 80, "200-399", .kinds = KIND(HTTP), .check = text_statuses,
	    .example = "\"200, 301-302\"", .doc = "The statuses that are expected."),
	ROW(CHECK(text), "text", TEXT, 1, 500, NULL, .kinds = KIND(HTTP) | KIND(FILE), .example = "Welcome",
	    .doc = "The answer's body, or the file, must have this, within its first 256 KiB."),
	ROW(CHECK(json), "json", TEXT, 1, 200, NULL, .kinds = KIND(HTTP) | KIND(VERSION), .check = text_json_path, .example = "data.nodes.0.state",
	    .doc = "The answer must be JSON with a value at this path: keys and indexes with dots between."),
	ROW(CHECK(is), "is", TEXT, 1, 500, NULL, .kinds = KIND(HTTP) | KIND(VERSION) | KIND(DNS), .example = "green",
	    .doc = "What stands there: at the path of json, as the version, or among the records of the name."),
	ROW(CHECK(header), "header", TEXT, 1, 500, NULL, .kinds = KIND(HTTP), .check = text_expect_header,
	    .example = "\"Content-Type: text/html\"", .doc = "The answer must have this field, and this text in it."),
	ROW(CHECK(method), "method", WORD, 0, 0, "GET", .kinds = KIND(HTTP) | KIND(VERSION), .words = conf_check_methods, .doc = "How it asks."),
	ROW(CHECK(headers), "headers", FIELDS, 0, 50, NULL, .kinds = KIND(HTTP) | KIND(VERSION), .check = text_check_field,
	    .example = "{Host: shop.example.org}", .doc = "Fields of the request."),
	ROW(CHECK(redirects), "redirects", INT, 0, 10, "0", .kinds = KIND(HTTP) | KIND(VERSION),
	    .doc = "How many redirects are followed. The default looks at the redirect itself."),
	ROW(CHECK(expires_s), "expires", SECONDS, 0, 3650 * DAY, "14d", .kinds = KIND(HTTP) | KIND(TLS),
	    .doc = "bad when the certificate is valid for a shorter time."),
	ROW(CHECK(verify), "verify", BOOL, 0, 1, "true", .kinds = KIND(HTTP) | KIND(VERSION) | KIND(TLS),
	    .doc = "ugly when the certificate is not for this name, or not from an authority that this machine trusts."),
	ROW(CHECK(ca), "ca", TEXT, 1, 4095, NULL, .kinds = KIND(HTTP) | KIND(VERSION) | KIND(TLS), .check = text_absolute,
	    .example = "/etc/upstate/ca.pem", .doc = "PEM file with the authorities that are trusted instead."),
	ROW(CHECK(server_name), "server_name", TEXT, 1, 255, NULL, .kinds = KIND(TLS), .check = text_host_name,
	    .example = "shop.example.org", .doc = "The name that is asked for, and that the certificate must have; default: the host."),
	ROW(CHECK(record), "type", WORD, 0, 0, "A", .kinds = KIND(DNS), .words = conf_check_records, .doc = "The records that are asked for."),
	ROW(CHECK(server), "server", TEXT, 1, 60, NULL, .kinds = KIND(DNS), .check = text_server, .example = "10.0.0.53",
	    .doc = "Which name server, as ADDRESS or ADDRESS:PORT; default: those of this machine."),
	ROW(CHECK(authoritative), "authoritative", BOOL, 0, 1, "false", .kinds = KIND(DNS),
	    .doc = "The server must have authority over the name."),
	ROW(CHECK(of), "of", WORD, 0, 0, "age", .kinds = KIND(FILE), .words = conf_check_ofs, .doc = "What the value is."),
	ROW(CHECK(send), "send", TEXT, 1, 1000, NULL, .kinds = KIND(TCP), .example = "\"PING\\r\\n\"",
	    .doc = "What is said once the connection is open."),
	ROW(CHECK(expect), "expect", TEXT, 1, 1000, NULL, .kinds = KIND(TCP), .example = "SSH-2.0",
	    .doc = "What must come, within the first 64 KiB."),
};
/* clang-format on */

const size_t schema_len = ARRAY_LEN(schema_rows);

const char *schema_expected(enum schema_type type)
{
	static const char *const expected[] = {
#define X(name, expected, manual) [SCHEMA_##name] = expected,
	    SCHEMA_TYPE_TABLE(X)
#undef X
	};

	return expected[type];
}

const char *schema_type_name(enum schema_type type)
{
	static const char *const names[] = {
#define X(name, expected, manual) [SCHEMA_##name] = manual,
	    SCHEMA_TYPE_TABLE(X)
#undef X
	};

	return names[type];
}

const char *schema_number(enum schema_type type, uint64_t v, char text[SCHEMA_NUMBER])
{
	static const struct {
		const char *unit;
		uint64_t factor;
	} ms[] = {{"d", DAY}, {"h", HOUR}, {"m", 60000}, {"s", 1000}, {"ms", 1}},
	  bytes[] = {{"TiB", 1ull << 40},
		     {"GiB", GIB},
		     {"MiB", 1 << 20},
		     {"KiB", 1 << 10},
		     {"", 1}},
	  none[] = {{"", 1}};
	const __typeof__(ms[0]) *u = type == SCHEMA_MS || type == SCHEMA_SECONDS ? ms
				     : type == SCHEMA_INT			     ? none
										     : bytes;

	if (type == SCHEMA_PERCENT) {
		snprintf(text, SCHEMA_NUMBER, "%.10g%%", (double)v / 10000);
		return text;
	}

	while (v % u->factor)
		u++;
	snprintf(text, SCHEMA_NUMBER, "%llu%s", (unsigned long long)(v / u->factor),
		 v ? u->unit : "");
	return text;
}

const char *schema_key(const struct schema_row *row)
{
	const char *dot = strrchr(row->path, '.');

	return dot ? dot + 1 : row->path;
}

bool schema_below(const struct schema_row *row, enum schema_owner owner, const char *prefix)
{
	size_t n = strlen(prefix);

	return row->owner == owner && strncmp(row->path, prefix, n) == 0 &&
	       !strchr(row->path + n, '.');
}

const struct schema_row *schema_find(enum schema_owner owner, const char *prefix, const char *key)
{
	for (size_t i = 0; i < schema_len; i++)
		if (schema_below(&schema_rows[i], owner, prefix) &&
		    strcmp(schema_rows[i].path + strlen(prefix), key) == 0)
			return &schema_rows[i];
	return NULL;
}

const char *const schema_signals[] = {"TERM", "INT",  "QUIT",  "HUP",  "USR1",
				      "USR2", "KILL", "WINCH", "ABRT", NULL};

int schema_signal(const char *name)
{
	static const int numbers[] = {SIGTERM, SIGINT,	SIGQUIT,  SIGHUP, SIGUSR1,
				      SIGUSR2, SIGKILL, SIGWINCH, SIGABRT};

	static_assert(ARRAY_LEN(numbers) + 1 == ARRAY_LEN(schema_signals), "a number a name");
	for (size_t i = 0; schema_signals[i]; i++)
		if (strcmp(schema_signals[i], name) == 0)
			return numbers[i];
	return 0;
}
