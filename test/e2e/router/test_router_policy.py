# SPDX-License-Identifier: Apache-2.0
"""What an app's operator decided for it: fields, redirects, pages, who may come and how often."""
import base64
import hashlib
import socket

import pytest

from router_kit import get, ok, post, until


def ask(r, text):
    c = r.connect()
    got = c.send(text).answer(to_head=text.startswith("HEAD"))
    c.close()
    return got


# --- fields ---

def test_fields_of_a_request_are_set_and_taken_out(serve):
    r, t = serve(more="", app="\nrule REQUEST_SET X-Stage live\nrule REQUEST_SET X-Empty\n"
                             "rule REQUEST_REMOVE X-Internal-User\nrule REQUEST_REMOVE user-agent")
    ask(r, get(extra="X-stage: evil\r\nX_Stage: evil\r\nX-Internal_User: root\r\nUser-Agent: me\r\n"
                     "x-internal-user: root\r\nConnection: X-Stage\r\nX-Other: 1\r\n"))
    fields = t.seen[0][1]
    assert fields["x-stage"] == ["live"] and fields["x-empty"] == [""] and fields["x-other"] == ["1"]
    assert not {"x_stage", "x-internal-user", "x-internal_user", "user-agent"} & set(fields)
    assert fields["x-forwarded-for"] == ["127.0.0.1"] and len(fields["x-request-id"]) == 1


def test_fields_of_an_answer_are_set_and_taken_out(serve):
    def handler(c, line, f):
        return ok(b"x" * 9000, "X-Powered-By: me\r\nX-Frame-Options: no\r\nConnection: X-Frame-Options\r\n")

    r, t = serve(handler, app="\nrule ANSWER_SET X-Frame-Options DENY,~always\nrule ANSWER_REMOVE X-Powered-By")
    for _ in range(3):
        status, fields, body = ask(r, get())
        assert (status, fields["x-frame-options"]) == (200, ["DENY, always"])
        assert "x-powered-by" not in fields and body == b"x" * 9000
    status, fields, body = ask(r, "GET / HTTP/1.0\r\n\r\n")
    assert fields["x-frame-options"] == ["DENY, always"] and body == b"x" * 9000


def test_as_many_fields_as_possible_and_those_that_are_set_fit(serve):
    r, t = serve(more="limit header_count=128 header_bytes=32768",
                 app="".join("\nrule REQUEST_SET X-Set-%d %s" % (i, "v" * 900) for i in range(16)))
    ask(r, get(extra="".join("X-%d: %d\r\n" % (i, i) for i in range(127))))
    fields = t.seen[0][1]
    assert all(fields["x-set-%d" % i] == ["v" * 900] for i in range(16))
    assert all(fields["x-%d" % i] == [str(i)] for i in range(127))


# --- redirects ---

def test_a_path_is_redirected_and_counted(serve):
    r, t = serve(app="\nrule REDIRECT /old /new 308\nrule REDIRECT /b/* https://b.example/* 301")
    status, fields, body = ask(r, get("/old?a=b"))
    assert (status, fields["location"], fields["connection"]) == (308, ["/new?a=b"], ["keep-alive"])
    assert ask(r, get("/b/x/y?q"))[1]["location"] == ["https://b.example/x/y?q"]
    long = "/b/" + "x" * 9000
    assert ask(r, get(long))[1]["location"] == ["https://b.example/" + "x" * 9000]
    assert ask(r, get("/b"))[0] == 200
    status, fields, body = ask(r, "HEAD /old HTTP/1.1\r\nHost: any\r\n\r\n")
    assert status == 308 and int(fields["content-length"][0]) > 0
    c = r.connect()  # a body that nobody reads: the connection ends in order
    status, fields, body = c.send(post("x" * 100, "/old")).answer()
    assert (status, fields["connection"]) == (308, ["close"]) and c.closed()
    n = r.n("a")
    assert n["redirected"] == 5 and n["requests"] == 6 and t.paths() == ["/b"]
    assert n["refused_4xx"] == 0 and n["answered_3xx"] == 0
    assert [(x["status"], x["end"]) for x in r.log(6)].count((308, 1)) == 3


@pytest.mark.parametrize("path", ["/go//evil.example", "/go/%09/evil.example", "/go/\\evil.example",
                                  "/go//\\/evil.example"])
def test_a_redirect_does_not_lead_where_a_client_says(serve, path):
    r, t = serve(app="\nrule REDIRECT /go/* /* 302")
    place = ask(r, get(path))[1]["location"][0]
    assert place.startswith("/") and place[1:2] not in ("/", "\\")


# --- pages ---

def test_an_app_has_pages_of_its_own_for_its_errors(serve):
    r, t = serve(lambda c, line, f: False,
                 app="\nrule PAGE text/plain gone:~{id}~{id} 502\nrule PAGE text/html late 503")
    status, fields, body = ask(r, post(""))
    assert (status, fields["content-type"]) == (502, ["text/plain"])
    record = r.log(1)[0]
    assert body.decode() == "gone: %s {id}" % record["id"] and len(record["id"]) == 32
    status, fields, body = ask(r, "HEAD / HTTP/1.1\r\nHost: any\r\n\r\n")
    assert (status, int(fields["content-length"][0]), body) == (502, 6 + 32 + 5, b"")
    assert r.n("a")["failed_502"] == 2


def test_a_page_may_be_large_and_stays_while_the_table_is_swapped(router, target):
    t = target(lambda c, line, f: False)
    page = "<p>{id}" + "x" * 65000
    table = "\napp a\ntarget a/1 %s\n" % t.addr
    r = router(table + "rule PAGE text/html %s 502\n" % page)
    r.until("a/1", "state", 1)
    c = r.connect()
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
    c.send("".join(post("") for _ in range(3)))
    c.head()
    r.table(table)
    first = c.read(len(page) - 4 + 32)
    assert first.startswith(b"<p>") and first.endswith(b"x" * 65000)
    body = c.answer()[2]
    assert b"502" in body or body.endswith(b"x" * 65000)


# --- maintenance ---

def test_in_maintenance_nobody_reaches_the_app(router, target):
    t = target()
    table = "\napp a\ntarget a/1 %s\n" % t.addr
    r = router(table + "policy maintenance=1\nrule REDIRECT /old /new 301\nrule PAGE text/plain soon 503\n")
    r.until("a/1", "state", 1)
    for path in ("/", "/old"):
        status, fields, body = ask(r, get(path))
        assert (status, body, fields["retry-after"]) == (503, b"soon", ["60"])
    n = r.n("a")
    assert n["refused_503"] == 2 and n["failed_503_full"] == n["failed_503_waited"] == 0 and not t.seen
    r.table(table)
    assert ask(r, get())[0] == 200
    r.table("\napp b hosts=b\ntarget b/1 %s\n" % t.addr)  # an app that goes takes its policy with it
    assert ask(r, get())[0] == 404


# --- who may come ---

FROM = "X-Forwarded-For: %s\r\n"


def test_networks_are_let_in_by_the_address_behind_trusted_proxies(serve):
    r, t = serve(app="\nallow 192.0.2.0/24\nallow 2001:db8::/32\ndeny 192.0.2.7",
                 more="trust 127.0.0.0/8\ntrust 10.0.0.0/8")
    for who, status in (("192.0.2.1", 200), ("192.0.2.7", 403), ("198.51.100.1", 403), ("2001:db8::5", 200),
                        ("198.51.100.1, 192.0.2.1", 200),  # what stands before that is anyone's word
                        ("192.0.2.1, 198.51.100.1", 403), ("192.0.2.1, 10.0.0.1, 10.0.0.2", 200),
                        ("192.0.2.1, unknown", 403), ("unknown, 192.0.2.1:99", 200)):
        assert ask(r, get(extra=FROM % who))[0] == status, who
    assert ask(r, get())[0] == 403  # 127.0.0.1 itself
    assert ask(r, get(extra=FROM % "192.0.2.1" + FROM % "198.51.100.1"))[0] == 403
    assert ask(r, get(extra=FROM % "198.51.100.1" + FROM % "192.0.2.1"))[0] == 200
    assert ask(r, get(extra='Forwarded: for="[2001:db8::9]:80";proto=https\r\n'))[0] == 200
    assert ask(r, get(extra=FROM % "192.0.2.1" + "Forwarded: for=198.51.100.1\r\n"))[0] == 200
    n = r.n("a")
    assert n["refused_403"] == n["refused_4xx"] == 6 and len(t.seen) == n["requests"] - 6
    assert [x["end"] for x in r.log(14) if x["status"] == 403] == [1] * 6


def test_what_an_untrusted_client_claims_lets_nobody_in(serve):
    r, t = serve(app="\nallow 192.0.2.0/24")
    assert ask(r, get(extra=FROM % "192.0.2.1"))[0] == 403
    assert ask(r, get(extra="Forwarded: for=192.0.2.1\r\n"))[0] == 403


# --- how often ---

def test_a_client_has_its_rate_over_all_threads(serve):
    r, t = serve(app="\npolicy rate=1 rate_requests=3 rate_ms=3600000 rate_burst=5", more="threads 4\ntrust 127.0.0.0/8")
    got = [ask(r, get(extra=FROM % "192.0.2.1"))[0] for _ in range(12)]
    assert got == [200] * 5 + [429] * 7
    assert ask(r, get(extra=FROM % "192.0.2.2"))[0] == 200
    status, fields, body = ask(r, get(extra=FROM % "192.0.2.1"))
    assert (status, fields["connection"]) == (429, ["keep-alive"]) and 1100 <= int(fields["retry-after"][0]) <= 1200
    # One network of IPv6 is one client; the next one is another.
    got = [ask(r, get(extra=FROM % ("2001:db8:0:1::%x" % i)))[0] for i in range(6)]
    assert got == [200] * 5 + [429]
    assert ask(r, get(extra=FROM % "2001:db8:0:2::1"))[0] == 200
    n = r.n("a")
    assert n["refused_429"] == n["refused_4xx"] == 9 and n["requests"] == 21 and len(t.seen) == 12


def test_a_rate_outlives_a_table_and_ends_with_its_numbers(router, target):
    t = target()
    table = "app a\ntarget a/1 %s\npolicy rate=1 rate_ms=3600000 rate_requests=1 rate_burst=" % t.addr
    r = router(table + "2\n")
    r.until("a/1", "state", 1)
    assert [ask(r, get())[0] for _ in range(3)] == [200, 200, 429]
    r.table(table + "2 maintenance=0\nrule REDIRECT /x /y 301\n")
    assert ask(r, get())[0] == 429
    r.table(table + "3\n")
    assert [ask(r, get())[0] for _ in range(4)] == [200, 200, 200, 429]
    r.table("app a\ntarget a/1 %s\n" % t.addr)
    assert ask(r, get())[0] == 200


def test_a_rate_counts_by_a_field_or_else_by_address(serve):
    r, t = serve(app="\npolicy rate=2 rate_header=x-key rate_requests=1 rate_ms=3600000 rate_burst=1")
    assert [ask(r, get(extra="X-Key: %s\r\n" % k))[0] for k in "aabab"] == [200, 429, 200, 429, 429]
    assert [ask(r, get())[0] for _ in range(2)] == [200, 429]


def test_a_rate_that_comes_back_lets_through_again(serve):
    r, t = serve(app="\npolicy rate=1 rate_requests=50 rate_ms=1000 rate_burst=1")
    c = r.connect()
    assert c.send(get()).answer()[0] == 200
    until(lambda: c.send(get()).answer()[0] == 429)
    until(lambda: c.send(get()).answer()[0] == 200)


# --- the same target again ---

def targets_of(router, target, n, more="", app=""):
    made = [target(lambda c, line, f, i=i: ok("t%d" % i)) for i in range(n)]
    table = more + "\napp a %s\n" % app + "".join("target a/%d %s%%s\n" % (i, t.addr) for i, t in enumerate(made))
    return made, table


def cookie(fields):
    return fields["set-cookie"][0].split(";")[0]


def test_a_client_with_a_cookie_comes_back_to_its_target(router, target):
    made, table = targets_of(router, target, 4, more="threads 3\ntrust 127.0.0.0/8")
    table += "policy near=1 near_name=up\n"
    r = router(table % ("", "", "", ""))
    for i in range(4):
        r.until("a/%d" % i, "state", 1)
    status, fields, body = ask(r, get())
    text = fields["set-cookie"][0]
    assert text.endswith("; Path=/; HttpOnly; SameSite=Lax") and len(cookie(fields)) == 3 + 16
    mine = "Cookie: a=b; %s\r\n" % cookie(fields)
    assert {ask(r, get(extra=mine))[2] for _ in range(20)} == {body}
    assert "set-cookie" not in ask(r, get(extra=mine))[1]
    assert len({ask(r, get())[2] for _ in range(20)}) > 1
    assert "Secure" in ask(r, get(extra="X-Forwarded-Proto: https\r\n"))[1]["set-cookie"][0]
    # What is no cookie of ours gets one.
    assert "set-cookie" in ask(r, get(extra="Cookie: up=0123456789abcdef\r\n"))[1]
    # Its target drains: another one takes the client over, and keeps it.
    at = int(body[1:])
    r.table(table % tuple(" use=drain drain_ms=60000" if i == at else "" for i in range(4)))
    status, fields, other = ask(r, get(extra=mine))
    assert other != body and cookie(fields) != mine.split("; ")[1].strip()
    now = "Cookie: %s\r\n" % cookie(fields)
    assert {ask(r, get(extra=now))[2] for _ in range(10)} == {other}
    # A router that comes after it finds the same.
    r.kill()
    for i in range(4):
        if i != at:
            r.until("a/%d" % i, "state", 1)
    assert {ask(r, get(extra=now))[2] for _ in range(10)} == {other}
    made[int(other[1:])].stop()
    status, fields, third = ask(r, get(extra=now))  # gone: no failure, but another target
    assert status == 200 and third not in (body, other)
    r.until("a/%s" % other[1:].decode(), "state", 2)
    assert "set-cookie" in ask(r, get(extra=now))[1]


def test_a_full_target_is_passed_over_and_the_cookie_stays(router, target):
    gates = []
    held = []

    def slow(c, line, f):
        if line.split()[1] == "/slow":
            held.append(c)
            return None
        return ok("slow")

    a, b = target(slow), target(lambda c, line, f: ok("other"))
    r = router("app a target_limit=1\ntarget a/1 %s\ntarget a/2 %s\npolicy near=1 near_name=up\n" % (a.addr, b.addr))
    r.until("a/1", "state", 1), r.until("a/2", "state", 1)
    until(lambda: gates.append(ask(r, get())) or gates[-1][2] == b"slow")
    mine = "Cookie: %s\r\n" % cookie(gates[-1][1])
    r.until("a/1", "inflight", 0)  # its place is free just after the answer was sent
    c = r.connect().send(get("/slow", extra=mine))
    until(lambda: held)
    status, fields, body = ask(r, get(extra=mine))
    assert body == b"other" and "set-cookie" not in fields
    held[0].send(ok("late"))
    assert c.answer()[2] == b"late"
    r.until("a/1", "inflight", 0)
    assert ask(r, get(extra=mine))[2] == b"slow"


@pytest.mark.parametrize("near, extra", [("near=4 near_name=x-tenant", "X-Tenant: %d\r\n"), ("near=3", ""),
                                         ("near=2", FROM % "192.0.2.%d")])
def test_a_hash_chooses_the_target_the_same_in_all_threads_and_routers(router, target, near, extra):
    made, table = targets_of(router, target, 3, more="threads 4\ntrust 127.0.0.0/8")
    table += "policy %s\n" % near
    r = router(table % ("", "", ""))

    def ready(but=()):
        for i in range(3):
            if i not in but:
                r.until("a/%d" % i, "state", 1)

    def where():
        return [ask(r, get("/%d" % (i if near == "near=3" else 0), extra=extra and extra % i))[2] for i in range(24)]

    ready()
    first = where()
    assert len(set(first)) == 3 and where() == first
    r.kill()
    ready()
    assert where() == first
    r.table(table % ("", " use=drain drain_ms=60000", ""))
    after = where()
    assert all(b == a for a, b in zip(first, after) if a != b"t1") and b"t1" not in after


# --- who it is ---

def basic(text):
    return "Authorization: Basic %s\r\n" % base64.b64encode(text.encode()).decode()


def user(name, password):
    salt = bytes(range(16))
    return "%s sha256:%s:%s" % (name, salt.hex(), hashlib.sha256(salt + password.encode()).hexdigest())


def test_only_users_reach_the_app_and_it_does_not_see_their_password(serve):
    r, t = serve(app="\npolicy auth=1 realm=office\nrule USER %s\nrule USER %s\nrule REQUEST_REMOVE authorization\n"
                     "rule REDIRECT /old /new 301" % (user("ann", "correct horse"), user("bob", "battery:staple")))
    status, fields, body = ask(r, get("/old"))
    assert (status, fields["www-authenticate"]) == (401, ['Basic realm="office", charset="UTF-8"'])
    for who in ("ann:correct hors", "ann:battery:staple", "eve:correct horse", ":", "ann:", ":correct horse"):
        assert ask(r, get(extra=basic(who)))[0] == 401, who
    for field in ("Basic", "Bearer abc", "Basic !!!", "Basic " + "A" * 4000):
        assert ask(r, get(extra="Authorization: %s\r\n" % field))[0] == 401, field
    assert ask(r, get(extra=basic("ann:correct horse") + basic("ann:x")))[0] == 401
    assert not t.seen
    assert ask(r, get(extra=basic("ann:correct horse")))[0] == 200
    assert ask(r, get(extra=basic("bob:battery:staple")))[0] == 200
    assert ask(r, get("/old", extra=basic("bob:battery:staple")))[0] == 301
    assert all("authorization" not in fields for line, fields in t.seen)
    n = r.n("a")
    assert n["refused_401"] == n["refused_4xx"] == 12 and n["answered_2xx"] == 2 and n["redirected"] == 1


def test_guessing_is_bounded_by_the_rate_and_the_closed_door_comes_first(serve):
    r, t = serve(app="\npolicy auth=1 realm=x rate=1 rate_requests=1 rate_ms=3600000 rate_burst=2\nrule USER %s\n"
                     "deny 192.0.2.0/24" % user("ann", "correct horse"), more="trust 127.0.0.0/8")
    assert [ask(r, get())[0] for _ in range(3)] == [401, 401, 429]
    assert [ask(r, get(extra=FROM % "192.0.2.1"))[0] for _ in range(3)] == [403] * 3


# --- connections ---

def test_an_address_has_so_many_connections_and_no_more(router, target):
    t = target()
    app = "\nthreads 4\napp a\ntarget a/1 %s\n" % t.addr
    r = router("limit connections=3" + app)
    r.until("a/1", "state", 1)
    conns = [r.connect() for _ in range(3)]
    assert all(c.send(get()).answer()[0] == 200 for c in conns)
    over = [r.connect() for _ in range(4)]
    assert all(c.closed() for c in over)
    assert r.numbers()["connections_refused"] == 4 and r.numbers()["clients"] == 3
    conns.pop().close()  # its place is another's

    def let_in():
        c = r.connect()
        try:
            return c.send(get()).more() and c
        except OSError:  # closed at once
            return None

    conns.append(until(let_in))
    assert all(c.send(get()).answer()[0] == 200 for c in conns[:2])
    r.table("limit connections=0" + app)  # no limit: those that were counted leave as they came
    more = [r.connect() for _ in range(6)]
    assert all(c.send(get()).answer()[0] == 200 for c in more)
    for c in conns + more:
        c.close()
    until(lambda: r.numbers()["clients"] == 0)
    r.table("limit connections=3" + app)
    conns = [r.connect() for _ in range(3)]
    assert all(c.send(get()).answer()[0] == 200 for c in conns)


def test_a_limit_counts_who_stands_behind_a_proxy_and_not_the_proxy(router, target):
    t = target()
    app = "\napp a\ntarget a/1 %s\n" % t.addr
    r = router("limit connections=2\nproxied 127.0.0.0/8" + app)
    r.until("a/1", "state", 1)

    def come(who):
        c = r.connect()
        c.send("PROXY TCP4 %s 127.0.0.1 99 80\r\n" % who + get())
        return c

    conns = [come(who) for who in ("192.0.2.1", "192.0.2.2", "192.0.2.1")]
    assert all(c.answer()[0] == 200 for c in conns)
    assert come("192.0.2.1").closed()
    assert come("192.0.2.3").answer()[0] == 200
    r.table("limit connections=2\ntrust 127.0.0.0/8" + app)
    conns += [r.connect().send(get()) for _ in range(5)]
    assert all(c.answer()[0] == 200 for c in conns[3:])
    assert r.numbers()["connections_refused"] == 1


# --- TCP apps ---

def test_a_tcp_app_resets_who_may_not_come(router, target):
    t = target(lambda c, line, f: ok("here"))
    table = "app a\ntarget a/1 %s\ntcp\n" % t.addr
    r = router(table + "policy rate=1 rate_requests=1 rate_ms=3600000 rate_burst=2\n")
    r.until("a/1", "state", 1)

    def carried():
        c = r.connect()
        try:
            return c.send(get()).answer()[2] == b"here"
        except (OSError, EOFError):
            return False

    assert [carried() for _ in range(4)] == [True, True, False, False]
    r.table(table + "deny 127.0.0.0/8\n")
    assert not carried()
    r.table(table + "policy maintenance=1\n")
    assert not carried()
    n = r.n("a")
    assert (n["refused_429"], n["refused_403"], n["refused_503"], n["refused_4xx"]) == (2, 1, 1, 3)
    r.table(table + "policy near=2\n")
    assert carried() and r.n("a")["requests"] == 7


def test_who_may_not_come_is_told_so_before_how_large_a_body_may_be(serve):
    r, t = serve(app="body_max=10\ndeny 192.0.2.0/24", more="trust 127.0.0.0/8")
    assert ask(r, post("x" * 20, extra=FROM % "192.0.2.1"))[0] == 403
    assert ask(r, post("x" * 20))[0] == 413
