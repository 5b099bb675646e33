# SPDX-License-Identifier: Apache-2.0
"""Clients and targets that mean harm, or are merely broken. What is asserted is what others notice
(their answers, the router's memory, its gauges) and what reaches the target, byte by byte."""
import os
import random
import resource
import signal
import socket
import struct
import threading

import pytest

from router_kit import Conn, get, ok, post, until

GAUGES = ("inflight", "waiting", "waiting_bytes", "tunnels")


def reset(c):
    """Closes with a reset."""
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()


class asleep:
    """While the router sleeps, everything that is done here is one event to it."""

    def __init__(self, r):
        self.pid = r.pid

    def __enter__(self):
        os.kill(self.pid, signal.SIGSTOP)
        until(lambda: open("/proc/%d/stat" % self.pid).read().split(")")[1].split()[0] == "T")

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGCONT)


def at_rest(r, *names):
    """Nothing is inside any more, and no gauge kept anything."""
    until(lambda: r.numbers()["clients"] == 0)
    for name in names:
        until(lambda: all(r.n(name)[g] == 0 for g in GAUGES))


# --- ends at a bad moment ---

def test_a_client_that_is_gone_before_our_own_answer_is_counted_once(serve):
    r, t = serve(app="body_max=10")
    for _ in range(10):
        c = r.connect()
        with asleep(r):
            c.send("POST / HTTP/1.1\r\nHost: any\r\nContent-Length: 11\r\n\r\n")
            reset(c)
    assert r.get()[0] == 200
    n = r.n("a")
    assert n["refused_4xx"] + n["client_left"] == n["requests"] - 1
    at_rest(r, "a", "a/1")


def test_streams_do_not_use_up_the_window_after_a_hold(router, target):
    done = threading.Event()

    def stream(c, line, f):
        c.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        done.wait(60)
        return False

    t = target(stream)
    text = "threads 1\napp a %s hold_wait_ms=60000 probe_ms=60000\ntarget a/1 " + t.addr + "\n"
    r = router(text % "hold=1")
    conns = [r.connect().send(get("/%d" % i)) for i in range(20)]
    r.until("a", "waiting", 20)
    r.table(text % "")
    try:
        assert [c.head()[0] for c in conns] == ["HTTP/1.1 200 OK"] * 20
    finally:
        done.set()


def test_what_breaks_in_the_window_after_a_hold_lets_the_others_go_on(router, target):
    gate, lock, count = threading.Event(), threading.Lock(), [0]

    def breaks(c, line, f):
        with lock:
            count[0] += 1
            first = count[0] <= 8
        if first:
            if count[0] == 8:
                gate.set()
            gate.wait(20)
            return False
        return ok()

    t = target(breaks)
    text = "threads 1\napp a %s hold_wait_ms=60000 probe_ms=60000\ntarget a/1 " + t.addr + "\n"
    r = router(text % "hold=1")
    conns = [r.connect().send(get("/%d" % i)) for i in range(20)]
    r.until("a", "waiting", 20)
    r.table(text % "")
    assert [c.answer()[0] for c in conns] == [200] * 20


def test_a_client_that_does_not_read_cannot_buy_time_by_sending(serve):
    r, t = serve(lambda c, line, f: ok(b"x" * (32 << 20)), app="body_ms=300")
    c = r.connect().send(get())
    c.head()

    def cut():
        try:
            c.sock.send(b"G")
        except OSError:
            pass
        return r.n("a")["failed_cut"] == 1

    until(cut)


# --- targets that say too much ---

def test_what_comes_behind_an_answer_is_never_anyones_answer(serve):
    head = b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n"
    poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

    def handler(c, line, f):
        if line.split()[1] == "/first":
            size = 16384 - len(head % 16000)
            with asleep(r):
                c.send(head % size + b"x" * size + poison)
            return None
        return ok(b"clean")

    r, t = serve(handler, more="threads 1")
    c = r.connect()
    for _ in range(5):
        assert set(c.send(get("/first")).answer()[2]) == {ord("x")}
        assert c.send(get("/second")).answer()[2] == b"clean"


@pytest.mark.parametrize("extra", ["HEAD", "304", "204"])
def test_a_body_where_none_may_be_does_not_become_an_answer(serve, extra):
    poison = b"HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\npoison"

    def handler(c, line, f):
        if line.split()[1] != "/first":
            return ok(b"clean")
        status = b"200 OK" if extra == "HEAD" else extra.encode() + b" Nothing"
        return b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(poison) + poison

    r, t = serve(handler)
    for _ in range(5):
        c = r.connect()
        method = "HEAD" if extra == "HEAD" else "GET"
        c.send("%s /first HTTP/1.1\r\nHost: any\r\n\r\n" % method)
        status, fields, _ = c.answer(to_head=True)
        assert ("content-length" in fields) == (extra != "204")
        assert c.send(get("/second")).answer()[2] == b"clean"
        c.close()


def test_a_switch_before_the_request_is_whole_is_a_bad_answer(serve):
    r, t = serve(lambda c, line, f: b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\n"
                 b"Upgrade: websocket\r\n\r\n")
    c = r.connect().send("POST / HTTP/1.1\r\nHost: any\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                         "Content-Length: 10\r\n\r\n12345")
    assert c.answer()[0] == 502
    at = r.n("a")
    assert at["upgraded"] == 0 and at["failed_502"] == 1


def test_interim_answers_without_end_are_given_up(serve):
    def handler(c, line, f):
        try:
            while True:
                c.send(b"HTTP/1.1 103 Early Hints\r\nLink: </a>\r\n\r\n" * 100)
        except OSError:
            return False

    r, t = serve(handler)
    c = r.connect().send(get())
    assert c.answer()[0] == 502


# --- smuggling: what reaches the target ---



def test_who_the_client_is_cannot_be_said_in_other_spellings(serve):
    r, t = serve()
    c = r.connect().send(get(extra="X_Forwarded_For: 6.6.6.6\r\nx-forwarded_host: evil\r\nX-Real-IP: 6.6.6.6\r\n"
                                   "X_Real_Ip: 6.6.6.6\r\nX-Forwarded-Port: 6\r\nX-Forwarded-Ssl: on\r\n"
                                   "Content_Length: 5\r\nTransfer_Encoding: chunked\r\n"
                                   "My_Own: fine\r\nX-Forward: fine\r\n"))
    assert c.answer()[0] == 200
    fields = t.seen[-1][1]
    assert fields["x-forwarded-for"] == ["127.0.0.1"]
    assert fields["my_own"] == ["fine"] and fields["x-forward"] == ["fine"]
    assert not {f for f in fields if f.replace("_", "-") in (
        "x-real-ip", "x-forwarded-port", "x-forwarded-ssl", "content-length", "transfer-encoding")}
    assert "x_forwarded_for" not in fields and "x-forwarded_host" not in fields


def test_a_trusted_proxy_may_say_more_but_no_framing(serve):
    r, t = serve(more="trust 127.0.0.0/8")
    r.connect().send(get(extra="X-Real-IP: 1.2.3.4\r\nX-Forwarded-Port: 443\r\nContent_Length: 5\r\n")).answer()
    fields = t.seen[-1][1]
    assert fields["x-real-ip"] == ["1.2.3.4"] and fields["x-forwarded-port"] == ["443"]
    assert "content_length" not in fields


@pytest.mark.parametrize("protocol", ["h2c", "H2C", "websocket, h2c", "HTTP/2.0"])
def test_a_tunnel_of_http_is_not_opened(serve, protocol):
    """Behind it, requests would pass that the router neither routes nor sees."""
    r, t = serve()
    c = r.connect().send(get(extra="Connection: Upgrade, HTTP2-Settings\r\nUpgrade: %s\r\n"
                                   "HTTP2-Settings: AAMAAABkAAQAAP__\r\n" % protocol))
    assert c.answer()[0] == 200
    fields = t.seen[-1][1]
    assert not {"upgrade", "connection", "http2-settings"} & set(fields)


# --- many, slow, large ---

def many(n):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if hard < n + 200:
        pytest.skip("needs %d descriptors" % n)
    resource.setrlimit(resource.RLIMIT_NOFILE, (max(soft, n + 200), hard))


def test_giving_memory_back_does_not_end_the_router(serve):
    many(1500)
    r, t = serve(more="threads 1\nlimit clients=10000 header_ms=600000")
    conns = [r.connect().send("GET / HTTP/1.1\r\nX: " + "x" * 2000) for _ in range(1500)]
    until(lambda: r.numbers()["clients"] == 1500)
    for c in conns:
        c.close()
    until(lambda: r.numbers()["clients"] == 0)
    assert r.get()[0] == 200


def test_thousands_of_half_sent_heads_cost_little_and_hinder_nobody(serve):
    many(2000)
    r, t = serve(more="limit clients=10000 header_ms=600000")
    assert r.get()[0] == 200
    before = r.memory_kb()
    conns = [r.connect().send("GET / HTTP/1.1\r\nHost: any\r\n") for _ in range(2000)]
    until(lambda: r.numbers()["clients"] >= 2000)
    assert r.get()[0] == 200
    for c in conns:
        c.send("X-Slow: 1\r\n")
    assert r.get()[0] == 200
    assert r.memory_kb() - before < 2000 * 5
    for c in conns[:50]:  # and they are still understood
        c.send("\r\n")
        assert c.answer()[0] == 200
    for c in conns:
        c.close()
    at_rest(r, "a", "a/1")


def test_a_head_in_small_pieces_may_become_large_and_have_a_body(serve):
    def handler(c, line, f):
        body, trailer = c.chunks()
        return ok(b"%d %d" % (len(body), sum(len(l) for l in trailer)))

    r, t = serve(handler)
    c = r.connect().send("POST / HTTP/1.1\r\nHost: any\r\n")
    until(lambda: r.numbers()["clients"] >= 1)
    for i in range(12):
        with asleep(r):  # one event each
            c.send("X-%d: %s\r\n" % (i, "v" * 700))
    with asleep(r):
        c.send("Transfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\nX-Late: ")
    for i in range(8):
        with asleep(r):
            c.send("v" * 700)
    c.send("\r\n\r\n")
    assert c.answer()[2] == b"3 5610"


def test_a_head_that_trickles_ends_by_the_clock_not_by_its_bytes(serve):
    r, t = serve(more="limit header_ms=400")
    c = r.connect().send("GET / HTTP/1.1\r\nHost: any\r\nX: ")

    def ended():
        try:
            c.sock.send(b"a")
        except OSError:
            return True
        return r.numbers()["clients"] == 0

    until(ended)
    assert t.seen == []


def test_a_body_that_trickles_hinders_nobody_and_ends_when_it_stops(serve):
    r, t = serve(lambda c, line, f: ok(c.body(f)), app="body_ms=500")
    slow = r.connect().send("POST / HTTP/1.1\r\nHost: any\r\nContent-Length: 100\r\n\r\n")
    for i in range(20):
        slow.send("x")
        assert r.connect().send(post("quick")).answer()[2] == b"quick"
    assert slow.answer()[0] == 408
    at_rest(r, "a", "a/1")


def test_a_flood_of_pipelined_requests_is_answered_in_turns(serve):
    r, t = serve(lambda c, line, f: ok(line.split()[1].encode()))
    assert r.get()[0] == 200
    before = r.memory_kb()
    c = r.connect()
    n = 5000
    sender = threading.Thread(target=lambda: c.send("".join(get("/%d" % i) for i in range(n))))
    sender.start()
    other = [r.get("/other")[2] for _ in range(20)]
    assert other == [b"/other"] * 20
    for i in range(n):
        assert c.answer()[2] == b"/%d" % i
    sender.join()
    assert r.memory_kb() - before < 4000


def test_without_descriptors_clients_wait_and_nobody_inside_is_hurt(serve):
    r, t = serve(more="threads 1")
    inside = r.connect().send(get())
    assert inside.answer()[0] == 200
    used = len(os.listdir("/proc/%d/fd" % r.pid))
    whole = resource.prlimit(r.pid, resource.RLIMIT_NOFILE)
    resource.prlimit(r.pid, resource.RLIMIT_NOFILE, (used + 3, whole[1]))
    conns = [r.connect().send(get("/%d" % i)) for i in range(20)]
    until(lambda: r.numbers()["accept_failed"] > 0)
    assert inside.send(get()).answer()[0] == 200
    resource.prlimit(r.pid, resource.RLIMIT_NOFILE, whole)
    assert [c.answer()[0] for c in conns] == [200] * 20


def test_without_memory_requests_fail_and_the_router_does_not(serve):
    many(1500)
    r, t = serve(more="threads 1\nlimit clients=100000 header_ms=600000 header_bytes=131072")
    assert r.get()[0] == 200
    with open("/proc/%d/statm" % r.pid) as f:
        size = int(f.read().split()[0]) * 4096
    if size > 1 << 40:
        pytest.skip("a sanitizer's address space has no small limit")
    whole = resource.prlimit(r.pid, resource.RLIMIT_AS)
    resource.prlimit(r.pid, resource.RLIMIT_AS, (size + (8 << 20), whole[1]))
    conns = []
    for i in range(1000):
        try:
            conns.append(r.connect().send("GET / HTTP/1.1\r\nHost: any\r\n" + "X: " + "a" * 60000))
        except OSError:
            pass  # ended while it sent
    until(lambda: r.numbers()["no_memory"] > 0)
    for c in conns:
        c.close()
    resource.prlimit(r.pid, resource.RLIMIT_AS, whole)
    until(lambda: r.get()[0] == 200)
    at_rest(r, "a", "a/1")


# --- framing: what reaches the target ---

HIDDEN = "GET /hidden HTTP/1.1\r\nHost: any\r\n\r\n"


@pytest.mark.parametrize("framing", [
    "Content-Length: 4\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding: chunked\r\nContent-Length: 4\r\n",
    "Content-Length: 0\r\nContent-Length: %d\r\n" % len(HIDDEN),
    "Content-Length: 0, %d\r\n" % len(HIDDEN),
    "Content-Length: +%d\r\n" % len(HIDDEN),
    "Content-Length: 0x10\r\n",
    "Content-Length: -0\r\n",
    "Content-Length: 1 6\r\n",
    "Content-Length: \r\n",
    "Content-Length: 18446744073709551617\r\n",
    "Content-Length : 4\r\n",
    "Content-Length\t: 4\r\n",
    " Content-Length: 4\r\n",
    "X: y\r\n Content-Length: 4\r\n",
    "Content-Length: 4\n",
    "Content-Length: 4\rX: y\r\n",
    "X: y\x00\r\nContent-Length: 4\r\n",
    "Transfer-Encoding: xchunked\r\n",
    "Transfer-Encoding: chunked, identity\r\n",
    "Transfer-Encoding: identity, chunked\r\n",
    "Transfer-Encoding: chunked, chunked\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: identity\r\n",
    "Transfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n",
    "Transfer-Encoding:\x0bchunked\r\n",
    "Transfer-Encoding: \"chunked\"\r\n",
    "Transfer-Encoding: chunked;q=1\r\n",
    "Transfer-Encoding : chunked\r\n",
    "Transfer-Encoding\r\n: chunked\r\n",
    "Transfer-Encoding: gzip, chunked\r\n",
    "Transfer-Encoding:\r\n chunked\r\n",
    "Transfer-Encoding: chunked\n",
    "Host: other\r\n",
])
def test_doubtful_framing_reaches_nobody(recorded, framing):
    r, b = recorded()
    c = r.connect().send("POST /seen HTTP/1.1\r\nHost: any\r\n%s\r\n0\r\n\r\n%s" % (framing, HIDDEN))
    status = c.answer()[0]
    assert status in (400, 501)
    assert c.closed()
    c.close()
    at_rest(r, "a")
    assert b.got == []


@pytest.mark.parametrize("body", [
    "0_\r\n\r\n", "-1\r\n\r\n", "+0\r\n\r\n", " 0\r\n\r\n", "0 \r\n\r\n", "0x0\r\n\r\n", "\r\n0\r\n\r\n",
    "0\n\r\n", "0\r\n\n", "0\r\r\n", "3\nabc\r\n0\r\n\r\n", "3\r\nabcd\r\n0\r\n\r\n", "3\r\nabc0\r\n\r\n",
    "3\r\nabc\n0\r\n\r\n", "1000000000000000f\r\n", "10000000000000000\r\n", "3;\x00\r\nabc\r\n0\r\n\r\n",
    "3;a\nb\r\nabc\r\n0\r\n\r\n", "0\r\nContent-Length: 3\r\n\r\n", "0\r\nHost: evil\r\n\r\n",
    "0\r\nTransfer-Encoding: chunked\r\n\r\n", "0\r\nX-Forwarded-For: 6\r\n\r\n", "0\r\n folded\r\n\r\n",
    "3" + ";" + "e" * 5000 + "\r\nabc\r\n0\r\n\r\n", "0\r\nX: " + "y" * 9000 + "\r\n\r\n",
])
def test_doubtful_chunks_do_not_end_a_request(recorded, body):
    """The target may have the head by then; what is behind the doubt it must never see."""
    r, b = recorded()
    c = r.connect().send("POST /seen HTTP/1.1\r\nHost: any\r\nTransfer-Encoding: chunked\r\n\r\n" + body + HIDDEN)
    c.sock.shutdown(socket.SHUT_WR)
    c.rest()
    at_rest(r, "a", "a/1")
    seen = b"".join(b.got)
    assert b"hidden" not in seen and not seen.endswith(b"0\r\n\r\n")
    assert seen.count(b" HTTP/1.1\r\n") <= 1


@pytest.mark.parametrize("head", [
    "", "Connection: Content-Length\r\n", "Connection: Transfer-Encoding, Host, Content-Length\r\n",
    "Connection: close, content-length\r\n", "Expect: 100-continue\r\n",
])
def test_a_body_that_looks_like_a_request_stays_a_body(recorded, head):
    r, b = recorded()
    c = r.connect()
    c.send("POST /seen HTTP/1.1\r\nHost: any\r\n%sContent-Length: %d\r\n\r\n%s" % (head, len(HIDDEN), HIDDEN))
    c.answer()
    at = b"".join(b.got)
    head, _, body = at.partition(b"\r\n\r\n")
    assert body == HIDDEN.encode()
    assert head.lower().count(b"content-length: %d\r\n" % len(HIDDEN)) == 1
    assert b"transfer-encoding" not in head.lower() and head.lower().count(b"\r\nhost: any\r\n") == 1


def test_chunks_are_framed_anew(recorded):
    r, b = recorded()
    c = r.connect().send("POST /seen HTTP/1.1\r\nHost: any\r\nTransfer-Encoding: CHUNKED\r\n\r\n"
                         "000003;a=\"b\";c\r\nabc\r\n00\r\n\r\n")
    assert c.answer()[0] == 200
    head, _, body = b"".join(b.got).partition(b"\r\n\r\n")
    assert b"Transfer-Encoding: chunked\r\n" in head + b"\r\n" and body == b"3\r\nabc\r\n0\r\n\r\n"


def test_a_request_behind_a_refused_upgrade_is_one_of_its_own(recorded):
    r, b = recorded()
    c = r.connect().send(get("/up", extra="Connection: upgrade\r\nUpgrade: websocket\r\n") + get("/next"))
    assert c.answer()[0] == 200 and c.answer()[0] == 200
    assert [g.split(b" ")[1] for g in b.got] == [b"/up", b"/next"]
    assert all(b"X-Forwarded-For: 127.0.0.1\r\n" in g for g in b.got)


def test_what_follows_connect_is_not_read(recorded):
    r, b = recorded()
    c = r.connect().send("CONNECT any:80 HTTP/1.1\r\nHost: any:80\r\n\r\n" + HIDDEN)
    assert c.answer()[0] == 405
    assert c.closed() and b.got == []


def test_the_rest_of_an_upload_that_was_answered_early_is_no_request(serve):
    r, t = serve(lambda c, line, f: ok(b"early"))
    c = r.connect()
    c.send("POST /seen HTTP/1.1\r\nHost: any\r\nContent-Length: 1000000\r\n\r\n")
    status, fields, body = c.answer()
    assert (status, body, fields["connection"]) == (200, b"early", ["close"])
    try:
        c.send(HIDDEN * 100)
        c.closed()
    except OSError:
        pass
    at_rest(r, "a", "a/1")
    assert t.paths() == ["/seen"]


def test_a_refusal_reaches_a_client_that_goes_on_sending(serve):
    """A reset, because too much came to be read out, would take the answer with it."""
    r, t = serve(lambda c, line, f: ok(c.body(f)), app="body_max=1000")
    for head in ("Content-Length: 100000000\r\n\r\n", "Transfer-Encoding: chunked\r\n\r\n5f5e100\r\n"):
        c = r.connect().send("POST / HTTP/1.1\r\nHost: any\r\n" + head)
        c.sock.settimeout(0.3)
        with pytest.raises(socket.timeout):  # no more goes out
            while True:
                c.sock.send(b"x" * 65536)
        assert c.answer()[0] == 413
        c.close()
    at_rest(r, "a", "a/1")


# --- everything at once ---

def test_after_a_storm_every_gauge_is_at_nothing(router, target):
    """Clients that leave at any moment, targets that break at any moment, tables that change meanwhile."""
    def handler(c, line, f):
        path = line.split()[1]
        if path == "/break":
            return False
        if path == "/half":
            c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            return False
        if path == "/up":
            c.send(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
            c.rest()
            return False
        if path == "/big":
            return ok(b"x" * 300000)
        return ok(c.body(f))

    def text(extra="", use="serve"):
        return "threads 2\napp a target_limit=3 hold_wait_ms=3000 probe_ms=100 %s\n" % extra + "".join(
            "target a/%d %s %s\n" % (i, t.addr, "use=%s drain_ms=50" % use if i == 1 else "")
            for i, t in enumerate(targets))

    targets = [target(handler), target(handler, tcp=True), target(handler)]
    r = router(text())
    stop = threading.Event()

    def client(seed):
        rnd = random.Random(seed)
        while not stop.is_set():
            c = r.connect()
            try:
                for _ in range(rnd.randrange(1, 4)):
                    c.send(rnd.choice([
                        get("/break"), get("/half"), get("/big"), get(), post("x" * rnd.randrange(9000)),
                        get("/up", extra="Connection: upgrade\r\nUpgrade: x\r\n"), "GET / HT", "junk\r\n\r\n",
                        "POST / HTTP/1.1\r\nHost: any\r\nContent-Length: 100\r\n\r\nhalf"]))
                    if rnd.random() < 0.5:
                        c.sock.settimeout(0.02)
                        c.more()
            except OSError:
                pass
            (reset if rnd.random() < 0.5 else Conn.close)(c)

    threads = [threading.Thread(target=client, args=(i,)) for i in range(12)]
    for th in threads:
        th.start()
    for round_ in range(12):
        r.table(text("hold=1" if round_ % 4 == 1 else "", ("serve", "drain", "fence")[round_ % 3]))
        was = r.n("a")["requests"]
        until(lambda: r.n("a")["requests"] > was + 20)
    stop.set()
    for th in threads:
        th.join()
    r.table(text())
    at_rest(r, "a", "a/0", "a/1", "a/2")
    assert r.get()[0] == 200
    n = r.n("a")
    ends = ("refused_4xx", "failed_502", "failed_503_full", "failed_503_waited", "failed_504")
    assert sum(n[e] for e in ends) <= n["requests"]
