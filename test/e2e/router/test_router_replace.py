# SPDX-License-Identifier: Apache-2.0
"""Another router takes the place of the one that serves, and nobody notices: connections between
requests and requests that wait go over, what is inside is answered first, streams end where nothing
is torn."""
import os
import random
import select
import signal
import socket
import threading
import time

import pytest

from router_kit import Conn, get, ok, post, until


def echo(c, line, fields):
    if "transfer-encoding" in fields:
        return ok(c.chunks()[0])
    return ok(c.read(int(fields.get("content-length", ["0"])[0])))


def app(t, more="", extra=""):
    return "%s\napp a %s\ntarget a/1 %s\n" % (extra, more, t.addr)


def failures(n):
    return {k: v for k, v in n["a"].items() if v and (k.startswith("failed") or k == "client_left")}


def settled(r):
    """Numbers once nothing is inside any more."""
    until(lambda: r.n("a")["inflight"] == 0)
    return r.numbers()


# --- between requests ---

def test_connections_between_requests_live_through_twenty_routers(serve):
    r, t = serve(echo)
    conns = [r.connect() for _ in range(60)]
    for c in conns[:50]:
        assert c.send(get()).answer()[0] == 200
    pids = {r.pid}
    for n in range(20):
        pids.add(r.replace())
        until(r.is_left)
        for c in conns:
            assert c.send(post("%d" % n)).answer()[2] == b"%d" % n
    assert len(pids) == 21
    n = settled(r)
    assert n["handed_over"] == n["taken_over"] == 20 * 60
    assert n["clients"] == 60 and n["accepted"] == 60
    assert n["a"]["requests"] == n["a"]["answered_2xx"] == 50 + 20 * 60
    assert failures(n) == {}


def test_part_of_a_head_goes_over(serve):
    r, t = serve(echo)
    c, d = r.connect(), r.connect()
    c.send("POST /x HTTP/1.1\r\nHost: any\r\nContent-Le")
    d.send("GET /" + "y" * 9000)
    until(lambda: r.n("clients") == 2)
    time.sleep(0.05)  # read or not, the bytes must arrive
    r.replace()
    until(r.is_left)
    assert c.send("ngth: 4\r\n\r\nbody").answer()[2] == b"body"
    assert d.send(" HTTP/1.1\r\nHost: any\r\n\r\n").answer()[0] == 200
    assert t.paths()[-1] == "/" + "y" * 9000


def test_a_client_that_sends_its_head_too_slowly_is_not_given_more_time(serve):
    r, t = serve(more="limit header_ms=700")
    c = r.connect().send("GET / HTTP/1.1\r\n")
    begun = time.monotonic()
    while time.monotonic() - begun < 0.6:
        r.replace()
        until(r.is_left)
    assert c.answer()[0] == 408


def test_what_is_inside_is_answered_first_and_then_goes_over(serve):
    go = threading.Semaphore(0)

    def handler(c, line, fields):
        go.acquire()
        return echo(c, line, fields)

    r, t = serve(handler)
    conns = [r.connect().send(post("b%d" % i) + get()) for i in range(5)]  # one more, pipelined
    until(lambda: len(t.seen) == 5)
    r.replace()
    assert not r.is_left()
    go.release(100)
    for i, c in enumerate(conns):
        status, fields, body = c.answer()
        assert (status, body, fields.get("connection")) == (200, b"b%d" % i, None)
    for c in conns:
        assert c.answer()[0] == 200
    until(r.is_left)
    for c in conns:
        assert c.send(get()).answer()[0] == 200
    assert failures(settled(r)) == {}


def test_the_limit_of_a_target_counts_what_is_inside_both_routers(serve):
    go = threading.Semaphore(0)

    def handler(c, line, fields):
        go.acquire()
        return echo(c, line, fields)

    r, t = serve(handler, "target_limit=2")
    old = [r.connect().send(post("old%d" % i)) for i in range(2)]
    until(lambda: len(t.seen) == 2)
    r.replace()
    new = [r.connect().send(post("new%d" % i)) for i in range(2)]
    r.until("a", "waiting", 2)
    time.sleep(0.2)  # they look for a place again and again
    assert len(t.seen) == 2
    go.release()
    until(lambda: len(t.seen) == 3)
    time.sleep(0.1)
    assert len(t.seen) == 3
    go.release(10)
    assert sorted(c.answer()[2] for c in old + new) == [b"new0", b"new1", b"old0", b"old1"]
    until(r.is_left)


# --- waiting ---

def test_requests_that_wait_go_over_with_their_bytes(router, target):
    t = target(echo)
    r = router(app(t, "hold=1"))
    big = "x" * 100000
    waiting = [(get("/g"), b""), (post("small"), b"small"), (post(big), big.encode()),
               ("POST /c HTTP/1.1\r\nHost: any\r\nTransfer-Encoding: chunked\r\n\r\n"
                "4\r\nwiki\r\n5;a=b\r\npedia\r\n0\r\n\r\n", b"wikipedia"),
               ("POST /e HTTP/1.1\r\nHost: any\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", b""),
               (post("first") + post("second"), b"first")] * 5
    conns = [r.connect().send(out) for out, _ in waiting]
    later = r.connect().send("POST /later HTTP/1.1\r\nHost: any\r\nContent-Length: 6\r\n\r\nabc")
    chunked = r.connect().send("POST /n HTTP/1.1\r\nHost: any\r\nTransfer-Encoding: chunked\r\n\r\n")
    r.until("a", "waiting", len(conns) + 2)
    for _ in range(3):
        r.replace()
        until(r.is_left)
        assert r.n("a")["waiting"] == len(conns) + 2
    assert t.seen == []
    later.send("def")
    chunked.send("3\r\nabc\r\n0\r\n\r\n")
    r.table(app(t))
    for c, (_, body) in zip(conns, waiting):
        status, fields, got = c.answer()
        assert (status, got) == (200, body)
    assert later.answer()[2] == b"abcdef" and chunked.answer()[2] == b"abc"
    assert [c.answer()[2] for c, (out, _) in zip(conns, waiting) if "second" in out] == [b"second"] * 5
    n = settled(r)
    assert failures(n) == {} and n["a"]["held"] >= len(conns) + 2
    assert n["a"]["waiting"] == n["a"]["waiting_bytes"] == 0
    log = r.log(len(conns) + 7)
    assert {e["path"] for e in log} == {"/g", "/", "/c", "/e", "/later", "/n"}
    assert all(e["client"] == "127.0.0.1" and e["host"] == "any" and e["id"] for e in log)


def test_what_cannot_go_over_waits_where_it_is(router, target):
    t = target(echo)
    r = router(app(t, "hold=1"))
    c = r.connect().send("POST / HTTP/1.1\r\nHost: any\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
    r.until("a", "waiting", 1)
    r.replace()
    assert r.n("handed_over") == 0 and not r.is_left()
    r.table(app(t))  # the old one takes it up as well
    c.send("0\r\n\r\n")
    assert c.answer()[2] == b"abc"
    until(r.is_left)
    assert c.send(get()).answer()[0] == 200
    assert failures(settled(r)) == {}


def test_the_time_to_wait_goes_on(router, target):
    t = target(echo)
    r = router(app(t, "hold=1 hold_wait_ms=600"))
    c = r.connect().send(get())
    r.until("a", "waiting", 1)
    begun = time.monotonic()
    while time.monotonic() - begun < 0.5:
        r.replace()
        until(r.is_left)
    status, fields, body = c.answer()
    assert status == 503
    assert r.n("a")["failed_503_waited"] == 1
    assert c.send(get()).answer()[0] == 503


def test_a_client_that_leaves_frees_its_place_in_the_next_router(router, target):
    t = target(echo)
    r = router(app(t, "hold=1"))
    c = r.connect().send(get())
    r.until("a", "waiting", 1)
    r.replace()
    until(r.is_left)
    c.close()
    r.until("a", "waiting", 0)
    assert r.n("a")["client_left"] == 1


# --- under load ---

class Load(threading.Thread):
    """Requests one after another until told to stop; an end or a reset without an answer is a failure."""

    def __init__(self, r, fresh, wait=0.0):
        super().__init__(daemon=True)
        self.r, self.fresh, self.wait = r, fresh, wait
        self.done, self.failed, self.ends = 0, [], False
        self.start()

    def run(self):
        c = None
        while not self.ends:
            try:
                if self.fresh or not c:
                    c = self.r.connect()
                body = "%d" % self.done
                status, fields, got = c.send(post(body) if self.done % 2 else get()).answer()
                assert status == 200 and got == (body.encode() if self.done % 2 else b""), (status, got)
                if self.fresh or "close" in fields.get("connection", []):
                    c.close()
                    c = None
                self.done += 1
            except (OSError, EOFError, AssertionError) as e:
                self.failed.append(repr(e))
                c = None
            if self.wait:
                time.sleep(random.random() * self.wait)
        if c:
            c.close()

    def end(self):
        self.ends = True
        self.join(30)
        assert not self.is_alive()
        return self.failed


@pytest.mark.parametrize("tcp", [False, True])
def test_twenty_routers_under_load_and_nothing_fails(serve, tcp):
    r, t = serve(echo, tcp=tcp)
    load = [Load(r, False) for _ in range(4)] + [Load(r, True) for _ in range(2)] + \
           [Load(r, False, 0.02) for _ in range(8)]
    for _ in range(20):
        before = [x.done for x in load]
        r.replace()
        until(lambda: all(x.done > b for x, b in zip(load, before)) or any(x.failed for x in load))
        until(r.is_left)
    assert [x.end() for x in load] == [[]] * len(load)
    n = settled(r)
    assert failures(n) == {}
    done = sum(x.done for x in load)
    assert n["a"]["requests"] == n["a"]["answered_2xx"] == done
    assert n["handed_over"] == n["taken_over"] >= 20 * 10


def test_tables_and_routers_change_at_once(router, target):
    t, u = target(echo), target(echo)
    one, two = ("app a\ntarget a/1 %s use=%s drain_ms=5000\ntarget a/2 %s use=%s drain_ms=5000\n" %
                (t.addr, x, u.addr, y) for x, y in (("serve", "drain"), ("drain", "serve")))
    r = router(one)
    load = [Load(r, False) for _ in range(4)] + [Load(r, True)]
    for i in range(10):
        r.replace()
        r.table(one if i % 2 else two)
        until(r.is_left)
    assert [x.end() for x in load] == [[]] * len(load)
    assert failures(settled(r)) == {}


# --- without an heir ---

def test_without_an_heir_each_connection_ends_with_its_next_answer(serve):
    r, t = serve(echo)
    idle = [r.connect().send(get()) for _ in range(5)]
    assert all(c.answer()[0] == 200 for c in idle)
    r.replace(alone=True)
    assert r.n("handed_over") == 0

    def is_told(c):  # as soon as its thread has heard that it leaves
        status, fields, body = c.send(post("x")).answer()
        assert (status, body) == (200, b"x")
        return fields.get("connection") == ["close"]

    for c in idle:
        until(lambda: is_told(c))
        assert c.closed()
    until(r.is_left)
    assert r.get()[0] == 200


def test_without_an_heir_quiet_connections_are_closed_when_the_drain_is_over(serve):
    r, t = serve(echo, "drain_ms=300")
    c = r.connect()
    assert c.send(get()).answer()[0] == 200
    r.replace(alone=True)
    assert c.closed()
    until(r.is_left)


def test_an_answer_that_takes_longer_than_the_drain_is_cut_and_counted(serve):
    go = threading.Event()

    def handler(c, line, fields):
        if "slow" not in line:
            return echo(c, line, fields)
        if "begun" in line:
            c.send("HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\n12345")
        go.wait(20)
        return ok()

    r, t = serve(handler, "drain_ms=300")
    c, d = r.connect().send(get("/slow")), r.connect().send(get("/slow/begun"))
    assert d.read_to(b"12345")
    until(lambda: len(t.seen) == 2)
    r.replace()
    assert c.answer()[0] == 503
    assert d.closed()
    until(r.is_left)
    go.set()
    assert r.n("a")["failed_cut"] == 2 and r.get()[0] == 200


# --- streams ---

SWITCH = "HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n\r\n"
ASK = get("/ws", extra="Upgrade: websocket\r\nConnection: Upgrade\r\nSec-WebSocket-Version: 13\r\n"
                       "Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n")


@pytest.mark.parametrize("drain", [400, 2000])
def test_a_websocket_ends_with_1012_between_two_frames(serve, drain):
    at_target = []
    rest = threading.Event()

    def handler(c, line, fields):
        if "/ws" not in line:
            return echo(c, line, fields)
        c.send(SWITCH)
        c.send(b"\x81\x05hello" + b"\x81\x7e\x01\x00" + b"a" * 100)  # a frame of 256 bytes, not all of it
        rest.wait(20)
        c.send(b"b" * 156)
        at_target.append(c.read(8))
        c.send(b"\x88\x02\x03\xf4")
        at_target.append(c.closed())
        return False

    r, t = serve(handler, "drain_ms=%d" % drain)
    c = r.connect().send(ASK)
    assert c.head()[0].split()[1] == "101"
    assert c.read(7 + 4 + 100)
    idle = r.connect()
    assert idle.send(get()).answer()[0] == 200
    r.replace()
    assert r.n("a")["tunnels"] == 1
    assert idle.send(get()).answer()[0] == 200
    if drain == 400:  # the frame is never finished: that is cut when the time is over
        assert c.closed()
        rest.set()
        until(r.is_left)
        assert r.n("a")["failed_cut"] == 1
        return
    until(lambda: not r.is_left())
    time.sleep(1.1)  # its turn has come, but the frame is not at its end
    rest.set()
    assert c.read(156) == b"b" * 156
    assert c.read(4) == b"\x88\x02\x03\xf4"
    c.send(b"\x88\x82mask" + bytes([3 ^ ord("m"), 0xf4 ^ ord("a")]))
    assert c.closed()
    until(lambda: len(at_target) == 2)
    assert at_target[0][:2] == b"\x88\x82"
    until(r.is_left)
    assert failures(settled(r)) == {} and r.n("a")["tunnels"] == 0


def test_a_websocket_does_not_end_between_a_message_and_its_answer(serve):
    def handler(c, line, fields):
        if "/ws" not in line:
            return echo(c, line, fields)
        c.send(SWITCH)
        while (frame := c.read(7))[0] == 0x82:
            time.sleep(0.15)  # the work that a message is
            c.send(b"\x82\x01" + bytes([frame[6] ^ ord("m")]))
        return False

    r, t = serve(handler, "drain_ms=4000")
    conns, lost = [r.connect().send(ASK) for _ in range(10)], []
    for c in conns:
        assert c.head()[0].split()[1] == "101"

    def talk(c):
        said, heard = 0, b""
        while heard != b"\x88\x02\x03\xf4":
            if heard:  # nothing else has come since the answer
                lost.append((said, heard))
                return
            c.send(b"\x82\x81mask" + bytes([said ^ ord("m")]))
            heard = c.read(3)
            if heard == bytes([0x82, 1, said]):
                said += 1
                heard = c.read(4) if c.buf or select.select([c.sock], [], [], 0.05)[0] else b""
        c.send(b"\x88\x81maskm")
        assert c.closed()

    threads = [threading.Thread(target=talk, args=(c,)) for c in conns]
    for x in threads:
        x.start()
    until(lambda: len(t.seen) == 10)
    r.replace()
    for x in threads:
        x.join(30)
    assert not lost
    until(r.is_left)
    assert failures(settled(r)) == {}


def test_a_message_that_is_never_answered_keeps_no_websocket(serve):
    def handler(c, line, fields):
        c.send(SWITCH)
        c.read(7)
        assert c.read(7)
        return False

    r, t = serve(handler, "drain_ms=4000")
    c = r.connect().send(ASK)
    assert c.head()[0].split()[1] == "101"
    c.send(b"\x82\x81maskm")
    r.replace()
    assert c.read(4) == b"\x88\x02\x03\xf4"
    c.send(b"\x88\x81maskm")
    assert c.closed()
    until(r.is_left)
    assert failures(settled(r)) == {}


def test_many_websockets_end_spread_over_half_the_drain(serve):
    def handler(c, line, fields):
        if "/ws" not in line:
            return echo(c, line, fields)
        c.send(SWITCH.encode() + b"\x82\x01x")
        c.read(2)
        return False

    r, t = serve(handler, "drain_ms=2000")
    conns = [r.connect().send(ASK) for _ in range(20)]
    for c in conns:
        c.head()
        c.read(3)
    r.replace()
    begun, ends = time.monotonic(), []

    def wait(c):
        assert c.read(4) == b"\x88\x02\x03\xf4"
        ends.append(time.monotonic() - begun)
        c.send(b"\x88\x80mask")
        assert c.closed()

    threads = [threading.Thread(target=wait, args=(c,)) for c in conns]
    for x in threads:
        x.start()
    for x in threads:
        x.join(30)
    assert len(ends) == 20 and max(ends) - min(ends) > 0.2
    until(r.is_left)
    assert failures(settled(r)) == {}


def test_an_event_stream_ends_behind_an_event_and_its_connection_lives_on(serve):
    go, gone = threading.Semaphore(0), []

    def handler(c, line, fields):
        if "/events" not in line:
            return echo(c, line, fields)
        c.send("HTTP/1.1 200 OK\r\nContent-Type: Text/Event-Stream; charset=utf-8\r\n"
               "Transfer-Encoding: chunked\r\n\r\n9\r\ndata: 1\n\n\r\n9\r\ndata: hal\r\n")
        go.acquire()
        c.send("3\r\nf\n\n\r\n")
        gone.append(c.closed())
        return False

    r, t = serve(handler, "drain_ms=1000")
    c = r.connect().send(get("/events"))
    assert c.head()[0].split()[1] == "200"
    assert c.read_to(b"data: hal\r\n")
    r.replace()
    time.sleep(0.6)  # its turn has come
    assert not r.is_left()
    go.release()
    assert c.rest_of_chunks() == b"f\n\n"
    until(lambda: gone == [True])
    until(r.is_left)
    assert c.send(get()).answer()[0] == 200
    assert failures(settled(r)) == {}


# --- when one of them dies ---

def test_the_new_one_is_killed_while_it_takes_over(serve):
    r, t = serve(echo)
    held = [r.connect() for _ in range(300)]
    for c in held:
        assert c.send(get()).answer()[0] == 200
    for _ in range(5):
        r.replace()
        r.kill()  # another one comes, and what is left goes to it
        until(r.is_left)
        alive = []
        for c in held:
            try:
                if c.send(get()).answer()[0] == 200:
                    alive.append(c)
            except (OSError, EOFError):
                pass
        held = alive + [r.connect() for _ in range(300 - len(alive))]
    until(lambda: r.n("clients") == 300)
    assert r.get()[0] == 200


def test_a_new_one_that_hangs_gets_nothing_and_the_old_one_goes_on(serve):
    r, t = serve(echo)
    conns = [r.connect() for _ in range(300)]
    for c in conns:
        assert c.send(get()).answer()[0] == 200
    pid = r.replace_with_stopped()
    try:
        # Nothing was acknowledged, so after a while the old one takes them all back, and answers.
        until(lambda: r.said().count("leave.alone") == 2)
        for c in conns:
            status, fields, body = c.send(post("x")).answer()
            assert (status, body, fields["connection"]) == (200, b"x", ["close"])
        until(r.is_left)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert r.get()[0] == 200
    until(lambda: r.n("clients") == 0)
    assert failures(settled(r)) == {}


def test_the_old_one_is_killed_while_it_hands_over(router, target):
    t = target(echo)
    r = router(app(t, "hold=1"))
    held = [r.connect().send(post("%d" % i)) for i in range(100)]
    r.until("a", "waiting", 100)
    old = r.pid
    r.replace()
    os.kill(old, signal.SIGKILL)
    until(r.is_left)
    r.table(app(t))
    answered = 0
    for i, c in enumerate(held):
        try:
            status, fields, body = c.answer()
            assert (status, body) == (200, b"%d" % i)
            answered += 1
        except (OSError, EOFError):
            pass
    n = settled(r)
    assert n["a"]["requests"] == 100
    # The one that was on its way into the socket when the process died is in nobody's numbers.
    assert 99 <= answered + n["a"]["failed_lost"] <= 100
    assert len(t.seen) == len({f["x-request-id"][0] for _, f in t.seen}) == answered
    assert r.get()[0] == 200


# --- other listeners ---

def test_who_a_proxy_says_it_is_goes_over(serve):
    def who(c, line, fields):
        return ok(fields["x-forwarded-for"][0])

    r, t = serve(who, more="proxied 127.0.0.0/8")
    said = r.connect().send("PROXY TCP4 192.0.2.7 198.51.100.2 4567 80\r\n" + get())
    assert said.answer()[2] == b"192.0.2.7"
    silent, half = r.connect(), r.connect().send("PROXY TCP4 192.0.2.8 198.51")
    until(lambda: r.n("clients") == 3)
    for _ in range(3):
        r.replace()
        until(r.is_left)
    assert r.n("handed_over") == 9
    assert said.send(get()).answer()[2] == b"192.0.2.7"
    assert half.send(".100.2 4567 80\r\n" + get()).answer()[2] == b"192.0.2.8"
    assert silent.send("PROXY TCP4 192.0.2.9 198.51.100.2 4567 80\r\n" + get()).answer()[2] == b"192.0.2.9"
    assert r.n("proxy_refused") == 0


def test_connections_of_a_tcp_app_drain_and_new_ones_go_to_the_next_router(router, target):
    def serve(conn):
        try:
            conn.send("hello\n")
            while more := conn.sock.recv(65536):
                conn.send(more)
        except OSError:
            pass
        conn.close()

    t = target(listen=False)
    t.serve = serve
    t.start()
    table = "app a probe_ms=100 drain_ms=%d %s\ntarget a/1 %s\ntcp\n"
    r = router(table % (1000, "", t.addr))
    old = r.connect()
    assert old.read(6) == b"hello\n"
    r.table(table % (1000, "hold=1", t.addr))
    waiting = r.connect()
    r.until("a", "waiting", 1)
    r.replace()
    assert old.send("still").read(5) == b"still"
    r.table(table % (1000, "", t.addr))  # the old one takes it up as well
    assert waiting.read(6) == b"hello\n"
    new = r.connect()
    assert new.read(6) == b"hello\n"
    assert old.closed() and waiting.closed()  # the drain is over
    until(r.is_left)
    assert new.send("on").read(2) == b"on"
    assert r.n("a")["failed_cut"] == 2


# --- what the operator decided ---

def test_what_was_found_out_about_a_waiting_request_goes_over(router, target):
    a, b = target(lambda c, line, fields: ok("a")), target(lambda c, line, fields: ok("b"))
    table = "app a %s\ntarget a/1 " + a.addr + "\ntarget a/2 " + b.addr + "\npolicy near=4 near_name=x-tenant\n"
    r = router(table % "")
    until(lambda: r.n("a/1")["state"] == r.n("a/2")["state"] == 1)

    def ask(i):
        return get("/%d" % i, extra="X-Tenant: %d\r\ntraceparent: 00-%032x-%016x-01\r\n" % (i, i + 1, i + 1))

    found = [r.connect().send(ask(i)).answer()[2] for i in range(48)]
    r.log(48)
    # Of each target's only as many as are never too many for it (NEAR_LEAST in core/near.h).
    some = [i for who in (b"a", b"b") for i in [i for i in range(48) if found[i] == who][:4]]
    assert len(some) == 8
    r.table(table % "hold=1")
    conns = [r.connect().send(ask(i)) for i in some]
    r.until("a", "waiting", 8)
    r.replace()
    until(r.is_left)
    assert r.n("a")["held_now"] == 8
    r.table(table % "")
    assert [c.answer()[2] for c in conns] == [found[i] for i in some]
    assert {e["trace"] for e in r.log(8)} == {"%032x" % (i + 1) for i in some}
    until(lambda: r.n("a")["held_now"] == 0)


def test_connections_of_an_address_are_counted_by_the_next_router(router, target):
    t = target(echo)
    r = router(app(t, extra="limit connections=3"))
    r.until("a/1", "state", 1)
    conns = [r.connect() for _ in range(3)]
    for c in conns:
        assert c.send(get()).answer()[0] == 200
    for _ in range(2):
        r.replace()
        until(r.is_left)
        assert r.connect().closed()
        assert all(c.send(get()).answer()[0] == 200 for c in conns)
    conns.pop().close()

    def another():
        try:
            return r.get()[0] == 200
        except (OSError, EOFError):
            return False

    until(another)


# --- over TLS ---

def test_a_tls_connection_ends_with_its_next_answer(serve, tmp_path):
    from test_router_tls import dial, make_cert

    r, t = serve(echo, more=make_cert(tmp_path, "one", ["first.test"]))
    c = dial(r)
    assert c.send(get()).answer()[0] == 200
    r.replace()
    assert not r.is_left()
    fields = {}
    while fields.get("connection") != ["close"]:  # the word to leave may still be on its way
        status, fields, body = c.send(post("x")).answer()
        assert (status, body) == (200, b"x")
    assert c.closed()
    until(r.is_left)
    d = dial(r)
    assert d.send(get()).answer()[0] == 200


def test_a_connection_of_http2_is_told_to_go_away(serve):
    r, t = serve(echo)
    c = r.connect().send(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + b"\0\0\0\4\0\0\0\0\0")

    def frames_until(kind):
        while True:
            head = c.read(9)
            payload = c.read(int.from_bytes(head[:3], "big"))
            if head[3] == kind:
                return payload

    frames_until(4)  # SETTINGS
    r.replace()
    assert frames_until(7)[:4] == b"\x7f\xff\xff\xff"  # GOAWAY, for no stream yet
    c.close()
    until(r.is_left)
