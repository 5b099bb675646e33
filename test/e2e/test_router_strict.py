# SPDX-License-Identifier: Apache-2.0
"""What is refused, and what is said to the target about the client."""
import socket

import pytest

from router_kit import get, ok, post, until

CL, TE = "Content-Length: 5\r\n", "Transfer-Encoding: chunked\r\n"


@pytest.mark.parametrize("head", [
    CL + TE,
    CL + "Content-Length: 6\r\n",
    "Content-Length: +5\r\n",
    "Content-Length: 5, 5\r\n",
    "Content-Length: 0x5\r\n",
    "Content-Length : 5\r\n",
    TE + TE,
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: xchunked, chunked, identity\r\n",
    "X: a\r\n folded\r\n",
    "X\x00: a\r\n",
    "X: a\x00b\r\n",
    ": empty name\r\n",
    "Host: other\r\n",
    "X: a\n",
])
def test_what_two_parsers_could_read_differently_is_400_and_the_connection_closes(serve, head):
    r, t = serve()
    c = r.connect()
    c.send("POST / HTTP/1.1\r\nHost: any\r\n" + head + "\r\nhello" + get("/smuggled"))
    status, fields, body = c.answer()
    assert status in (400, 501) and fields["connection"] == ["close"] and b"Upstate" in body
    assert c.closed() and t.seen == []
    assert r.numbers()["bad_requests"] == 1


def test_malformed_chunks_are_400_and_what_follows_is_not_read(serve):
    r, t = serve(lambda c, line, f: ok(c.body(f)))
    for bad in ("g\r\n", "5\r\nhelloX\r\n", "5 \r\nhello\r\n", "fffffffffffffffff\r\n", "-1\r\n",
                "5\nhello\r\n", "0\r\nContent-Length: 3\r\n\r\n"):
        c = r.connect()
        c.send("POST / HTTP/1.1\r\nHost: any\r\n" + TE + "\r\n" + bad + get("/smuggled"))
        assert c.answer()[0] == 400
        assert c.closed()
    assert "/smuggled" not in t.paths()


def test_limits_of_heads_and_bodies(serve):
    r, t = serve(app="body_max=1000", more="limit header_bytes=4096 header_count=20")
    c = r.connect().send(get("/" + "x" * 5000))
    assert c.answer()[0] == 414 and c.closed()
    c = r.connect().send(get(extra="X-Long: " + "y" * 5000 + "\r\n"))
    assert c.answer()[0] == 431 and c.closed()
    c = r.connect().send(get(extra="X: y\r\n" * 30))
    assert c.answer()[0] == 431 and c.closed()
    c = r.connect().send(post("z" * 1001))
    assert c.answer()[0] == 413 and c.closed()
    c = r.connect().send("POST / HTTP/1.1\r\nHost: any\r\n" + TE + "\r\n" +
                         ("64\r\n" + "z" * 100 + "\r\n") * 11)
    assert c.answer()[0] == 413 and c.closed()
    assert r.n("a")["refused_4xx"] == 2 and r.numbers()["bad_requests"] == 3


def test_heads_longer_than_a_buffer_pass_within_the_limit(serve):
    r, t = serve(more="limit header_bytes=65536")
    c = r.connect().send(get("/" + "p" * 20000, extra="X-Long: " + "y" * 30000 + "\r\n"))
    assert c.answer()[0] == 200
    assert t.seen[0][1]["x-long"] == ["y" * 30000]


def test_other_versions_and_methods_that_are_not_ours(serve):
    r, t = serve()
    c = r.connect().send("GET / HTTP/2.0\r\nHost: any\r\n\r\n")
    assert c.answer()[0] == 505 and c.closed()
    c = r.connect().send("CONNECT any:80 HTTP/1.1\r\nHost: any:80\r\n\r\n")
    assert c.answer()[0] in (405, 501) and c.closed()
    c = r.connect().send("POST / HTTP/1.1\r\nHost: any\r\nTransfer-Encoding: gzip, chunked\r\n\r\n")
    assert c.answer()[0] == 501 and c.closed()
    assert t.seen == []


def test_an_unknown_host_is_told_so_by_upstate(router, target):
    t = target()
    r = router("app a hosts=known.org\ntarget a/1 %s\n" % t.addr)
    c = r.connect().send(get(host="Other.org"))
    status, fields, body = c.answer()
    assert status == 404 and b"Upstate" in body and b"no app" in body
    assert c.send(get(host="KNOWN.org.:80")).answer()[0] == 200  # and the connection went on
    assert r.numbers()["unknown_host"] == 1


def test_apps_are_found_by_host_and_path(router, target):
    one, two = target(lambda c, l, f: ok("one")), target(lambda c, l, f: ok("two"))
    r = router("app one hosts=x.org\ntarget one/1 %s\napp two hosts=x.org,*.x.org paths=/api\n"
               "target two/1 %s\n" % (one.addr, two.addr))
    assert r.get("/", "x.org")[2] == b"one"
    assert r.get("/api?x", "x.org")[2] == b"two"
    assert r.get("/api/y", "www.x.org")[2] == b"two"
    assert r.get("/apix", "x.org")[2] == b"one"
    assert r.get("/", "www.x.org")[0] == 404


def test_a_head_that_does_not_arrive_is_408(serve):
    r, t = serve(more="limit header_ms=50")
    c = r.connect().send("GET / HTTP/1.1\r\nHo")
    assert c.answer()[0] == 408 and c.closed()


def test_an_idle_connection_is_closed_without_a_word(serve):
    r, t = serve(more="limit idle_ms=50")
    c = r.connect()
    assert c.rest() == b""
    until(lambda: r.numbers()["clients"] == 0)


def test_a_body_that_does_not_arrive_is_408(serve):
    r, t = serve(lambda c, line, f: ok(c.body(f)), app="body_ms=50")
    c = r.connect().send("POST / HTTP/1.1\r\nHost: any\r\nContent-Length: 10\r\n\r\nhalf")
    assert c.answer()[0] == 408 and c.closed()


def test_a_target_that_does_not_answer_is_504(serve):
    r, t = serve(lambda c, line, f: c.rest() and None, app="response_ms=50")
    assert r.get()[0] == 504
    assert r.n("a")["failed_504"] == 1 and r.n("a/1")["inflight"] == 0


def test_more_clients_than_allowed_are_closed_and_counted(serve):
    r, t = serve(more="limit clients=3\nthreads 1")
    kept = [r.connect() for _ in range(3)]
    for c in kept:
        assert c.send(get()).answer()[0] == 200
    assert r.connect().closed()
    kept.pop().close()
    until(lambda: r.numbers()["clients"] == 2)
    assert r.connect().send(get()).answer()[0] == 200
    assert r.numbers()["clients_refused"] == 1


def test_headers_of_one_connection_are_not_passed_on(serve):
    hop = ("Connection: X-Mine, keep-alive\r\nX-Mine: 1\r\nKeep-Alive: 5\r\nProxy-Connection: x\r\n"
           "TE: gzip\r\nTrailer: X\r\nUpgrade: h2c\r\nX-Other: stays\r\n")
    r, t = serve(lambda c, l, f: ok("ok", "Connection: X-His\r\nX-His: 1\r\nKeep-Alive: 1\r\nX-Y: z\r\n"))
    c = r.connect().send(get(extra=hop))
    status, fields, body = c.answer()
    seen = t.seen[0][1]
    assert seen["x-other"] == ["stays"] and fields["x-y"] == ["z"]
    for gone in ("connection", "x-mine", "keep-alive", "proxy-connection", "te", "trailer", "upgrade"):
        assert gone not in seen
    for gone in ("connection", "x-his", "keep-alive"):
        assert gone not in fields


LIES = ("X-Forwarded-For: 9.9.9.9\r\nX-Forwarded-Proto: https\r\nX-Forwarded-Host: evil\r\n"
        "Forwarded: for=9.9.9.9\r\nX-Request-Id: mine-1.a_B\r\n")


def test_a_stranger_cannot_say_who_it_is(serve):
    r, t = serve()
    r.connect().send(get(host="any:80", extra=LIES)).answer()
    f = t.seen[0][1]
    assert f["host"] == ["any:80"]
    assert f["x-forwarded-for"] == ["127.0.0.1"] and f["x-forwarded-proto"] == ["http"]
    assert f["x-forwarded-host"] == ["any:80"]
    assert f["forwarded"] == ['for=127.0.0.1;host="any:80";proto=http']
    assert len(f["x-request-id"][0]) == 32 and f["x-request-id"] != ["mine-1.a_B"]
    assert r.log()[-1]["id"] == f["x-request-id"][0]


def test_a_trusted_proxy_is_believed_and_added_to(serve):
    r, t = serve(more="trust 127.0.0.0/8")
    r.connect().send(get(extra=LIES + "X-Forwarded-For: 8.8.8.8\r\n")).answer()
    f = t.seen[0][1]
    assert f["x-forwarded-for"] == ["9.9.9.9, 8.8.8.8, 127.0.0.1"]
    assert f["x-forwarded-proto"] == ["https"] and f["x-forwarded-host"] == ["evil"]
    assert f["forwarded"] == ['for=9.9.9.9, for=127.0.0.1;host="any";proto=http']
    assert f["x-request-id"] == ["mine-1.a_B"]
    r.connect().send(get(extra="X-Request-Id: not fine\r\n")).answer()
    assert len(t.seen[1][1]["x-request-id"][0]) == 32


def test_the_access_log_says_what_happened(serve):
    r, t = serve(lambda c, l, f: ok(c.body(f) * 2))
    r.connect().send(post("abc", "/p?q=1", "User-Agent: me\r\n")).answer()
    rec = r.log()[-1]
    assert (rec["method"], rec["host"], rec["path"], rec["app"], rec["target"], rec["client"]) == (
        "POST", "any", "/p?q=1", "a", "a/1", "127.0.0.1")
    assert (rec["status"], rec["bytes_in"], rec["bytes_out"], rec["tries"], rec["agent"]) == (
        200, 3, 6, 1, "me")


def test_a_full_access_log_holds_nobody_up(serve):
    r, t = serve(more="threads 1")
    c = r.connect()
    agent = "User-Agent: %s\r\n" % ("x" * 2000)
    for _ in range(600):
        assert c.send(get(extra=agent)).answer()[0] == 200
    r.until("a", "answered_2xx", 600)
    until(lambda: sum(r.numbers()[k] for k in ("log_dropped", "log_written")) == 600)
    n = r.numbers()
    assert n["log_dropped"] > 0 and len(r.log(n["log_written"])) == n["log_written"]
