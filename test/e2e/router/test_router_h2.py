# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 from users, cleartext with prior knowledge, to targets that speak HTTP/1.1."""
import hashlib
import os
import subprocess
import threading

import pytest
from h2_kit import (CANCEL, DATA, END_STREAM, H2, HEADERS, INTERNAL_ERROR, NO_ERROR, PREFACE,
                    PROTOCOL_ERROR, REFUSED_STREAM, SET_CONNECT, SET_STREAMS, SET_WINDOW)
from router_kit import get, ok, post, until

CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


def curl(r, *args, path="/"):
    p = subprocess.run(["curl", "-sS", "--max-time", "20", "--http2-prior-knowledge",
                        "http://127.0.0.1:%d%s" % (r.port, path), *args], capture_output=True)
    assert p.returncode == 0, p.stderr
    return p.stdout


def test_a_request_goes_to_the_target_and_its_answer_comes_back(serve):
    r, t = serve(lambda c, line, f: ok(b"hello", "X-Word: One\r\nConnection: x-gone\r\nX-Gone: 1\r\n"
                                                 "Keep-Alive: timeout=5\r\n"))
    c = H2(r.port)
    s = c.get("/a?b=c", fields=[("user-agent", "test"), ("x-one", "1")], host="Any.example:80")
    assert (s.status, s.body, s.ended, s.reset) == (200, b"hello", True, None)
    assert dict(s.heads[0]) == {":status": "200", "content-length": "5", "x-word": "One"}
    line, f = t.seen[0]
    assert line == "GET /a?b=c HTTP/1.1"
    assert f["host"] == ["Any.example:80"] and f["x-one"] == ["1"]
    assert f["x-forwarded-for"] == ["127.0.0.1"] and len(f["x-request-id"][0]) == 32
    assert "connection" not in f and "transfer-encoding" not in f and "te" not in f
    rec = r.log()[0]
    assert rec["http"] == 20 and rec["status"] == 200 and rec["bytes_out"] == 5
    assert (rec["method"], rec["path"], rec["host"], rec["client"], rec["agent"]) == (
        "GET", "/a?b=c", "Any.example:80", "127.0.0.1", "test")
    assert r.n("a")["answered_2xx"] == 1 and r.n("h2_streams") == 1 and r.n("h2_connections") == 1
    assert r.n("clients") == 1


def test_many_requests_follow_one_another_on_a_connection(serve):
    r, t = serve(lambda c, line, f: ok(line.split()[1]))
    c = H2(r.port)
    for i in range(300):
        assert c.get("/%d" % i).body == b"/%d" % i
    r.until("a", "answered_2xx", 300)
    n = r.n("a/1")
    assert n["connects"] == 1 and n["reused"] == 299 and r.n("a")["inflight"] == 0


def test_it_is_for_the_beginning_of_a_connection_only(serve):
    r, t = serve()
    c = r.connect()
    assert c.send(get()).answer()[0] == 200
    assert c.send(PREFACE).answer()[0] == 505
    assert c.closed()


def test_it_may_follow_a_proxy_header(serve):
    r, t = serve(lambda c, line, f: ok(f["x-forwarded-for"][0]), more="proxied 127.0.0.0/8")
    c = H2(r.port, before=b"PROXY TCP4 192.0.2.7 198.51.100.2 4567 80\r\n")
    assert c.get().body == c.get().body == b"192.0.2.7"
    assert [rec["client"] for rec in r.log(2)] == ["192.0.2.7"] * 2


def test_it_can_be_switched_off(serve):
    r, t = serve(more="limit streams=0")
    c = r.connect()
    assert c.send(PREFACE).answer()[0] == 505


def test_a_preface_may_come_byte_by_byte_and_must_be_right(serve):
    r, t = serve()
    c = H2(r.port)
    c.close()
    c = r.connect()
    for byte in PREFACE + H2.frame(4, 0, 0):
        c.send(bytes([byte]))
    assert c.read(9)[3] == 4
    c = r.connect()
    c.send(PREFACE[:18] + b"XX\r\n\r\n")
    assert c.closed()


def test_real_clients_are_served(serve, tmp_path):
    def handler(c, line, f):
        return ok(c.body(f) if line.startswith(("POST", "PUT")) else b"got")

    r, t = serve(handler)
    assert curl(r) == b"got"
    assert curl(r, "-d", "some data") == b"some data"
    assert curl(r, "-d", "") == b""
    assert b"content-length: 3" in curl(r, "-I")
    big = tmp_path / "big"
    big.write_bytes(os.urandom(3000000))
    assert curl(r, "-T", str(big)) == big.read_bytes()
    out = subprocess.run(["nghttp", "-v", "http://127.0.0.1:%d/x" % r.port], capture_output=True, text=True)
    assert ":status: 200" in out.stdout
    out = subprocess.run(["h2load", "-n", "5000", "-c", "4", "-m", "20", "http://127.0.0.1:%d/" % r.port],
                         capture_output=True, text=True).stdout
    assert "5000 succeeded, 0 failed, 0 errored" in out, out


def test_bodies_go_up_with_and_without_a_length(serve):
    def handler(c, line, f):
        if "transfer-encoding" in f:
            assert "content-length" not in f
            return ok(b"chunked:" + c.chunks()[0])
        return ok(b"plain:" + c.body(f))

    r, t = serve(handler)
    c = H2(r.port)
    sid = c.ask([("content-length", "6")], end=False, method="POST")
    c.data(sid, b"abc").data(sid, b"def", end=True)
    assert c.answer(sid).body == b"plain:abcdef"
    sid = c.ask(end=False, method="POST")
    c.data(sid, b"abc").data(sid, b"def").data(sid, b"", end=True)
    assert c.answer(sid).body == b"chunked:abcdef"
    sid = c.ask(method="POST")
    assert c.answer(sid).body == b"plain:"
    sid = c.ask([("content-length", "0")], method="POST")
    assert c.answer(sid).body == b"plain:"
    r.until("a", "bytes_in", 12)


def test_an_answer_that_comes_before_the_mark_of_the_end_is_not_reset(serve):
    r, t = serve(lambda c, line, f: ok(c.body(f)))
    c = H2(r.port)
    sid = c.ask([("content-length", "3")], end=False, method="POST")
    c.data(sid, b"abc")
    s = c.answer(sid)
    assert s.body == b"abc" and s.ended
    c.data(sid, b"", end=True)
    assert c.get().status == 200 and s.reset is None


def test_the_rest_of_a_refused_upload_is_thrown_away_for_a_while(serve):
    r, t = serve(app="body_max=10")
    c = H2(r.port)
    sid = c.ask([("content-length", "1000000")], end=False, method="POST")
    c.data(sid, b"x" * 16384).data(sid, b"x" * 16384)
    s = c.answer(sid)
    assert s.status == 413 and s.ended
    assert c.get().status == 200
    c.until(lambda: s.reset is not None)
    assert s.reset == NO_ERROR and sid not in c.windows
    assert curl(r, "-d", "x" * 100000, "-o", os.devnull, "-w", "%{http_code}") == b"413"


@pytest.mark.parametrize("length", [True, False])
def test_100_mb_go_both_ways_in_little_memory(serve, length):
    size = 100 << 20
    piece = bytes(range(256)) * 64

    def handler(c, line, f):
        if line.startswith("GET"):
            c.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size if length else CHUNKED)
            for _ in range(size // len(piece)):
                c.send(piece if length else b"%x\r\n%s\r\n" % (len(piece), piece))
            return b"" if length else b"0\r\n\r\n"
        digest, left = hashlib.sha256(), size
        while length and left:
            got = c.take(len(c.buf)) or c.read(1)
            digest.update(got)
            left -= len(got)
        while not length:
            n = int(c.read_to(b"\r\n"), 16)
            digest.update(c.read(n))
            c.read(2)
            if not n:
                break
        return ok(digest.hexdigest())

    r, t = serve(handler)
    before = r.memory_kb()
    want = hashlib.sha256(piece * (size // len(piece))).hexdigest()
    p = subprocess.Popen(["curl", "-sS", "--http2-prior-knowledge", "http://127.0.0.1:%d/" % r.port],
                         stdout=subprocess.PIPE)
    digest = hashlib.sha256()
    while got := p.stdout.read(1 << 20):
        digest.update(got)
    assert p.wait() == 0 and digest.hexdigest() == want
    p = subprocess.Popen(["curl", "-sS", "--http2-prior-knowledge", "-X", "POST", "-T", "-",
                          *(["-H", "Content-Length: %d" % size] if length else []),
                          "http://127.0.0.1:%d/" % r.port], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    for _ in range(size // len(piece)):
        p.stdin.write(piece)
    p.stdin.close()
    assert p.stdout.read().decode() == want and p.wait() == 0
    if "asan" not in os.environ.get("ROUTER_HOST", ""):
        assert r.memory_kb() - before < 4000


def test_100_streams_go_at_once_and_a_slow_one_blocks_none(serve):
    go = threading.Event()

    def handler(c, line, f):
        if line.split()[1] == "/slow":
            go.wait()
        return ok(line.split()[1].encode() * 2000)

    r, t = serve(handler, app="target_limit=0")
    c = H2(r.port)
    slow = c.ask(path="/slow")
    sids = {c.ask(path="/%d" % i): i for i in range(100)}
    for sid, i in sids.items():
        assert c.answer(sid).body == b"/%d" % i * 2000
    assert not c.streams[slow].heads
    go.set()
    assert c.answer(slow).status == 200


def test_more_streams_than_allowed_are_refused(serve):
    go = threading.Event()
    r, t = serve(lambda c, line, f: go.wait() and ok(), more="limit streams=3")
    c = H2(r.port)
    heads = [c.head_frame(c.usual()) for _ in range(4)]
    c.send(b"".join(data for _, data in heads))  # before it could know the bound
    sids = [sid for sid, _ in heads]
    assert c.answer(sids[3]).reset == REFUSED_STREAM and c.settings[SET_STREAMS] == 3
    go.set()
    assert [c.answer(s).status for s in sids[:3]] == [200] * 3
    assert c.get().status == 200


def test_trailers_go_both_ways(serve):
    def handler(c, line, f):
        assert f["te"] == ["trailers"] and f["connection"] == ["te"]
        body, trailer = c.chunks()
        assert trailer == [b"x-sum: 7\r\n"]
        return CHUNKED + b"3\r\nabc\r\n0\r\nGrpc-Status: 0\r\n\r\n"

    r, t = serve(handler)
    c = H2(r.port)
    for _ in range(2):
        sid = c.ask([("te", "trailers")], end=False, method="POST")
        c.data(sid, b"body").trailers(sid, [("x-sum", "7")])
        s = c.answer(sid)
        assert s.body == b"abc" and s.trailer == [("grpc-status", "0")] and s.reset is None


def test_interim_answers_are_passed_on(serve):
    def handler(c, line, f):
        if line.startswith("POST"):
            assert f["expect"] == ["100-continue"]
            c.send(b"HTTP/1.1 100 Continue\r\n\r\n")
            return ok(c.body(f))
        c.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n")
        return ok()

    r, t = serve(handler)
    c = H2(r.port)
    s = c.get()
    assert s.heads[0] == [(":status", "103"), ("link", "</a.css>")] and s.status == 200
    sid = c.ask([("expect", "100-continue"), ("content-length", "2")], end=False, method="POST")
    assert c.head(sid).status == 100
    c.data(sid, b"ok", end=True)
    assert c.answer(sid).body == b"ok"


def test_answers_without_a_body_end_with_their_head(serve):
    def handler(c, line, f):
        if line.startswith("HEAD"):
            return b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        code = line.split()[1][1:]
        return ("HTTP/1.1 %s X\r\n%s\r\n" % (code, "Content-Length: 0\r\n" if code == "200" else "")).encode()

    r, t = serve(handler)
    c = H2(r.port)
    s = c.get("/", method="HEAD")
    assert s.fields["content-length"] == ["1000"] and s.body == b"" and s.ended
    for code in (204, 304, 200):
        s = c.get("/%d" % code)
        assert s.status == code and s.ended and s.body == b"" and s.reset is None


def test_our_own_answers_come_as_answers(serve):
    r, t = serve(app="hosts=known body_max=10")
    c = H2(r.port)
    s = c.get(host="other")
    assert s.status == 404 and b"no app" in s.body and "connection" not in s.fields
    s = c.get(host="other", method="HEAD")
    assert s.status == 404 and s.body == b""
    sid = c.ask([("content-length", "11")], end=False, host="known", method="POST")
    s = c.answer(sid)
    assert s.status == 413
    c.until(lambda: s.reset is not None)
    assert s.reset == NO_ERROR  # the rest is not wanted
    assert c.get(host="known").status == 200
    s = c.get(whole=[(":method", "CONNECT"), (":authority", "known:80")])
    assert s.status == 405


def test_crumbs_of_cookies_become_one(serve):
    r, t = serve()
    c = H2(r.port)
    c.get(fields=[("cookie", "a=1"), ("x-a", "1"), ("cookie", "b=2"), ("cookie", "c=3"), ("x-b", "2")])
    f = t.seen[0][1]
    assert f["cookie"] == ["a=1; b=2; c=3"] and f["x-a"] == ["1"] and f["x-b"] == ["2"]


def test_host_may_stand_in_for_authority_and_must_agree_with_it(serve):
    r, t = serve(app="hosts=known")
    c = H2(r.port)
    base = [(":method", "GET"), (":scheme", "http"), (":path", "/")]
    assert c.get(whole=base + [("host", "known")]).status == 200
    assert c.get(host="known", fields=[("host", "KNOWN")]).status == 200
    assert c.get(host="known", fields=[("host", "other")]).status == 400
    assert c.get(whole=base).reset == PROTOCOL_ERROR
    assert len(t.seen) == 2 and all(f["host"] == ["known"] for _, f in t.seen)


def test_options_star_is_passed_on(serve):
    r, t = serve()
    assert H2(r.port).get("*", method="OPTIONS").status == 200
    assert t.seen[0][0] == "OPTIONS * HTTP/1.1"


def test_a_client_that_resets_has_left(serve):
    ended = threading.Event()

    def handler(c, line, f):
        if line.split()[1] == "/stay":
            return ok()
        c.closed()
        ended.set()
        return False

    r, t = serve(handler)
    c = H2(r.port)
    sid = c.ask(path="/wait")
    until(lambda: t.seen)
    c.send(c.rst_frame(sid))
    ended.wait()
    r.until("a", "client_left", 1)
    assert c.get("/stay").status == 200
    assert r.n("a")["inflight"] == 0


def test_a_client_that_goes_has_left_with_all_its_streams(serve):
    go = threading.Event()
    r, t = serve(lambda c, line, f: go.wait() and False)
    c = H2(r.port)
    for _ in range(5):
        c.ask()
    until(lambda: len(t.seen) == 5)
    c.close()
    r.until("a", "client_left", 5)
    go.set()
    until(lambda: r.n("clients") == 0)


@pytest.mark.parametrize("head", [b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nshort", CHUNKED + b"5\r\nshort\r\n"])
def test_a_cut_answer_never_looks_whole(serve, head):
    def handler(c, line, f):
        if line.split()[1] == "/whole":
            return ok()
        c.send(head)
        return False

    r, t = serve(handler)
    c = H2(r.port)
    s = c.get("/cut")
    assert s.reset == INTERNAL_ERROR and not s.ended
    assert r.n("a")["failed_cut"] == 1
    assert c.get("/whole").status == 200


def test_a_client_without_window_stops_the_target_and_then_its_time_is_up(serve):
    sent = []

    def handler(c, line, f):
        if line.split()[1] == "/small":
            return ok()
        c.send(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % (64 << 20))
        c.sock.settimeout(60)
        for _ in range(64):
            c.send(b"x" * (1 << 20))
            sent.append(1)
        return b""

    r, t = serve(handler, app="body_ms=700")
    c = H2(r.port, settings=[(SET_WINDOW, 0)], auto=False)
    sid = c.ask(path="/big")
    other = c.ask(path="/small")
    assert c.head(other).status == 200  # its head needs no window
    s = c.answer(sid)
    assert s.reset == INTERNAL_ERROR and s.body == b"" and len(sent) < 60
    assert r.n("a")["failed_cut"] == 1


def test_small_windows_are_filled_and_waited_for(serve):
    r, t = serve(lambda c, line, f: ok(b"abcdefghij"))
    c = H2(r.port, settings=[(SET_WINDOW, 3)], auto=False)
    sid = c.ask()
    s = c.streams[sid]
    for want in (b"abc", b"abcd", b"abcdefghij"):
        c.until(lambda: s.body == want)
        c.send(c.window_frame(sid, 1 if len(want) == 3 else 100))
    assert s.ended


def test_an_upload_is_not_read_further_than_the_target_takes_it(serve):
    go = threading.Event()

    def handler(c, line, f):
        go.wait()
        return ok(b"%d" % len(c.body(f)))

    r, t = serve(handler)
    size = 8 << 20
    c = H2(r.port)
    c.ping()
    sid = c.ask([("content-length", str(size))], end=False, method="POST")
    left, given, had = size, 65535, 256 << 10

    def room():
        return min(given + c.windows.get(sid, 0), had + c.windows.get(0, 0) - (had - 65535)) - (size - left)

    while room() > 0:
        n = min(room(), 16384, left)
        c.data(sid, b"y" * n)
        left -= n
        c.ping()
    assert size - left < 2 << 20  # the socket of the target, and what may wait here
    go.set()
    while left:
        c.until(lambda: room() > 0)
        n = min(room(), 16384, left)
        left -= n
        c.data(sid, b"y" * n, end=not left)
    assert c.answer(sid).body == b"%d" % size


def test_who_is_taken_all_from_may_send_more_ahead(serve):
    """On a long way a window is what one round trip brings."""
    size, sent, rooms, taken = 2 << 20, 0, [], [0]

    def handler(c, line, f):
        while taken[0] < size:
            taken[0] += len(c.take(len(c.buf))) or len(c.read(1))
        return ok()

    r, t = serve(handler)
    c = H2(r.port)
    sid = c.ask([("content-length", str(size))], end=False, method="POST")
    while sent < size:
        c.ping()  # what was given back is here
        room = min(65535 + c.windows.get(sid, 0), 65535 + c.windows.get(0, 0), size) - sent
        rooms.append(room)
        for at in range(0, room, 16384):
            n = min(16384, room - at)
            sent += n
            c.data(sid, b"y" * n, end=sent == size)
        until(lambda: taken[0] == sent)
    assert c.answer(sid).status == 200
    assert rooms[0] == 65535 and 128 << 10 < max(rooms) <= 256 << 10


def test_requests_wait_while_nobody_can_take_them(serve, target):
    r, t = serve(app="hold=1 hold_wait_ms=20000")
    c = H2(r.port)
    sids = [c.ask() for _ in range(20)]
    gone = c.ask()
    r.until("a", "waiting", 21)
    c.send(c.rst_frame(gone))
    r.until("a", "waiting", 20)
    r.table("app a \ntarget a/1 %s\n" % t.addr)
    assert [c.answer(s).status for s in sids] == [200] * 20
    assert r.n("a")["held"] == 21


def test_a_small_body_that_came_with_its_head_goes_out_with_it(serve):
    reads = []

    def handler(c, line, f):
        reads.append(c.buf)
        return ok(c.body(f))

    r, t = serve(handler)
    c = H2(r.port)
    sid, data = c.head_frame(c.usual(method="POST") + [("content-length", "5")], end=False)
    c.send(data + c.frame(DATA, END_STREAM, sid, b"hello"))
    assert c.answer(sid).body == b"hello" and reads == [b"hello"]


def websocket(path="/ws", fields=()):
    return [(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", path),
            (":authority", "any"), ("sec-websocket-version", "13"), ("origin", "http://any"), *fields]


def test_a_websocket_goes_through(serve):
    def handler(c, line, f):
        assert line == "GET /ws HTTP/1.1" and f["connection"] == ["upgrade"] and f["upgrade"] == ["websocket"]
        assert len(f["sec-websocket-key"][0]) == 24 and f["sec-websocket-version"] == ["13"]
        assert "content-length" not in f and "transfer-encoding" not in f
        c.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
               b"Sec-WebSocket-Accept: x\r\nSec-WebSocket-Protocol: chat\r\n\r\nhi")
        c.send(c.read(5)[::-1])
        c.send(b"bye" if c.rest() == b"last" else b"bad")
        return False

    r, t = serve(handler)
    c = H2(r.port)
    c.ping()
    assert c.settings[SET_CONNECT] == 1
    sid = c.ask(whole=websocket(), end=False)
    s = c.head(sid)
    assert dict(s.heads[0]) == {":status": "200", "sec-websocket-protocol": "chat"}
    c.data(sid, b"hello")
    c.until(lambda: s.body == b"hiolleh")
    assert r.n("a")["tunnels"] == 1
    c.data(sid, b"last", end=True)
    assert c.answer(sid).body == b"hiollehbye" and s.reset is None
    r.until("a", "tunnels", 0)
    assert r.log()[0]["end"] == 4


def test_a_websocket_that_the_app_does_not_want_gets_its_answer(serve):
    r, t = serve(lambda c, line, f: b"HTTP/1.1 403 No\r\nContent-Length: 2\r\n\r\nno")
    c = H2(r.port)
    s = c.answer(c.ask(whole=websocket(), end=False))
    assert s.status == 403 and s.body == b"no"


def test_a_websocket_that_breaks_is_reset_on_either_side(serve):
    broken = threading.Event()

    def handler(c, line, f):
        c.send(b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\n")
        if line.split()[1] == "/target":
            c.read(1)
            c.sock.setsockopt(1, 13, b"\1\0\0\0\0\0\0\0")  # SO_LINGER: a reset
            return False
        try:
            c.rest()
        finally:
            broken.set()
        return False

    r, t = serve(handler, tcp=True)
    c = H2(r.port)
    sid = c.ask(whole=websocket("/target"), end=False)
    c.head(sid)
    c.data(sid, b"x")
    assert c.answer(sid).reset == CANCEL
    sid = c.ask(whole=websocket("/client"), end=False)
    c.head(sid)
    c.send(c.rst_frame(sid))
    broken.wait()
    r.until("a", "tunnels", 0)


def test_an_idle_connection_ends_in_two_steps(serve):
    r, t = serve(more="limit idle_ms=300")
    c = H2(r.port)
    assert c.get().status == 200
    c.ended()
    assert c.goaways == [(2**31 - 1, NO_ERROR), (1, NO_ERROR)]
    until(lambda: r.n("clients") == 0)


def test_a_request_that_meets_the_first_goaway_is_answered(serve):
    r, t = serve(more="limit idle_ms=300")
    c = H2(r.port)
    c.until(lambda: c.goaways)
    sid = c.ask()
    assert c.answer(sid).status == 200
    c.ended()
    assert c.goaways[-1] in ((sid, NO_ERROR), (0, NO_ERROR))


def test_a_stream_outlives_the_drain_of_its_connection(serve):
    go = threading.Event()
    r, t = serve(lambda c, line, f: go.wait() and ok(), more="limit idle_ms=300")
    c = H2(r.port)
    c.until(lambda: c.goaways)
    sid = c.ask()
    c.until(lambda: len(c.goaways) == 2)  # the PING was answered
    deaf = H2(r.port)
    until(lambda: r.n("clients") == 2)
    until(lambda: r.n("clients") == 1)  # its PING was not: its time to drain went by
    go.set()
    assert c.answer(sid).status == 200 and c.goaways[1] == (sid, NO_ERROR)
    c.ended()
    deaf.close()


def test_resets_beside_answers_are_no_flood(serve):
    r, t = serve()
    c = H2(r.port)
    for i in range(600):
        sid = c.ask()
        c.send(c.rst_frame(sid))
        assert c.get().status == 200
    assert r.n("h2_calmed") == 0


def test_a_long_stream_outlives_the_idle_limit(serve):
    go = threading.Event()

    def handler(c, line, f):
        c.send(CHUNKED + b"1\r\na\r\n")
        go.wait()
        return b"1\r\nb\r\n0\r\n\r\n"

    r, t = serve(handler, more="limit idle_ms=200")
    c = H2(r.port)
    sid = c.ask()
    c.until(lambda: c.streams[sid].body == b"a")
    short = H2(r.port)
    short.ended()  # a whole idle limit passes
    go.set()
    assert c.answer(sid).body == b"ab" and not c.goaways[1:]


def test_it_speaks_http_1_to_those_who_do(serve):
    r, t = serve(lambda c, line, f: ok(c.body(f)))
    c, d = r.connect(), H2(r.port)
    for _ in range(5):
        assert c.send(post("abc")).answer()[2] == b"abc"
        assert d.get().status == 200
    assert sorted(x["http"] for x in r.log(10)) == [11] * 5 + [20] * 5
