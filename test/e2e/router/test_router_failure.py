# SPDX-License-Identifier: Apache-2.0
"""Targets that fail in the ways that are hard to tell from being well: they end idle connections at the
wrong moment, answer errors, are slow, or take everything and answer nothing."""
import os
import random
import signal
import subprocess
import sys
import threading
import time

import pytest

from router_kit import get, ok, post, until


# --- idle connections that end ---

def closes_at_random(mean_s, executed):
    """A handler for targets that answer, and end the connection after some time without a question."""
    lock = threading.Lock()

    def handler(c, line, fields):
        body = c.body(fields)
        if line.startswith("POST"):
            with lock:
                executed[body] = executed.get(body, 0) + 1
        c.send(ok(body))
        c.sock.settimeout(random.uniform(0, 2 * mean_s))
        try:
            if not c.buf and not c.more():
                return False
        except TimeoutError:
            return False
        c.sock.settimeout(20)
        return None

    return handler


def race(r, seconds, answered, failed):
    """Clients that leave pauses as long as the target's patience, until the time is over."""
    end = time.monotonic() + seconds

    def client(number):
        rnd, c = random.Random(number), r.connect()
        for i in range(100000):
            if time.monotonic() > end:
                break
            is_post = rnd.random() < 0.4
            body = "%d-%d" % (number, i)
            try:
                c.send(post(body) if is_post else get())
                status = c.answer()[0]
            except (EOFError, OSError) as e:
                status, c = repr(e), r.connect()
            if status == 200:
                answered.append(body if is_post else "")
            else:
                failed.append(("POST" if is_post else "GET", status))
            time.sleep(rnd.uniform(0, 0.006))
        c.close()

    threads = [threading.Thread(target=client, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def check_race(r, executed, answered, failed):
    posts = [a for a in answered if a]
    assert len(answered) > 200 and len(posts) > 50
    assert max(executed.values()) == 1
    assert all(executed.get(p.encode()) == 1 for p in posts)
    assert not [f for f in failed if f[0] == "GET"], failed
    n = r.n("a/1")
    assert n["reused"] > 0 and n["connects"] > 1


def test_over_unix_sockets_a_target_that_ends_idle_connections_costs_nothing(serve):
    executed, answered, failed = {}, [], []
    r, t = serve(closes_at_random(0.003, executed))
    race(r, 3, answered, failed)
    check_race(r, executed, answered, failed)
    assert not failed


def test_over_tcp_a_target_that_ends_idle_connections_costs_no_get_and_hardly_a_post(serve):
    executed, answered, failed = {}, [], []
    r, t = serve(closes_at_random(0.003, executed), tcp=True)
    race(r, 3, answered, failed)
    check_race(r, executed, answered, failed)
    assert len(failed) <= max(1, len(answered) // 100), failed


def test_a_learned_limit_lets_posts_use_older_connections(serve):
    """Nothing is known at first, and a POST on a connection idle for over 1 s gets a fresh one."""
    closing = threading.Event()

    def handler(c, line, fields):
        c.send(ok(c.body(fields)))
        if line.split()[1] == "/old":
            closing.wait(20)
            return False
        return None

    r, t = serve(handler, tcp=True, more="threads 1")
    c = r.connect()
    assert c.send(get()).answer()[0] == 200
    time.sleep(1.1)
    assert c.send(post("x")).answer()[0] == 200
    assert r.n("a/1")["connects"] == 2
    # The target ends one at an age of over 3 s: half of that is sure from then on.
    assert c.send(get("/old")).answer()[0] == 200
    time.sleep(3.2)
    closing.set()
    until(lambda: any(k.sock.fileno() < 0 for k in t.conns))
    assert c.send(get()).answer()[0] == 200
    connects = r.n("a/1")["connects"]
    time.sleep(1.2)
    assert c.send(post("y")).answer()[0] == 200
    assert r.n("a/1")["connects"] == connects


# --- a target that takes everything and answers nothing ---

PROCESS = """
import os, sys, threading, time
sys.path.insert(0, %r)
from router_kit import Target, ok

def handler(c, line, fields):
    body = c.body(fields)
    method, path = line.split()[:2]
    if method == "POST":
        os.write(1, b"post " + body + b"\\n")  # whole, whichever thread writes
    if path.startswith("/slow"):
        time.sleep(0.15)
    return ok(sys.argv[1])

t = Target(handler, unix=sys.argv[2] if len(sys.argv) > 2 else None)
print("at", t.addr, flush=True)
sys.stdin.read()
"""


class Process:
    """A target that is a process of its own, so that it can be stopped."""

    def __init__(self, name, path=None):
        code = PROCESS % os.path.dirname(__file__)
        self.proc = subprocess.Popen([sys.executable, "-c", code, name] + ([path] if path else []),
                                     stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.addr = self.proc.stdout.readline().split()[1]
        self.posts = []
        threading.Thread(target=self.read, daemon=True).start()

    def read(self):
        for line in self.proc.stdout:
            self.posts.append(line.split()[1])

    def stop(self):
        os.kill(self.proc.pid, signal.SIGSTOP)

    def go_on(self):
        os.kill(self.proc.pid, signal.SIGCONT)

    def end(self):
        self.proc.kill()
        self.proc.wait()


@pytest.fixture
def processes(tmp_path):
    made = []

    def make(count, tcp):
        for i in range(count):
            made.append(Process("t%d" % i, None if tcp else str(tmp_path / ("p%d" % i))))
        return made[-count:]

    yield make
    for p in made:
        p.end()


def pair(router, made, app):
    r = router("threads 2\napp a %s\n" % app + "".join(
        "target a/%d %s\n" % (i, p.addr) for i, p in enumerate(made)))
    for i in range(len(made)):
        r.until("a/%d" % i, "state", 1)
    return r


class Ask:
    """One request, by a thread of its own: what became of it and how long it took."""

    def __init__(self, r, what):
        self.r, self.what, self.status, self.ms, self.body = r, what, None, None, b""
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        begun = time.monotonic()
        try:
            c = self.r.connect()
            c.send(self.what)
            self.status, _, self.body = c.answer()
            c.close()
        except (EOFError, OSError) as e:
            self.status = repr(e)
        self.ms = (time.monotonic() - begun) * 1000

    def done(self):
        self.thread.join(60)
        return self.status


STUCK = "eject_silent_ms=250 target_limit=8 response_ms=20000 probe_timeout_ms=5000 probe_ms=500"


@pytest.mark.parametrize("tcp", [False, True], ids=["unix", "tcp"])
@pytest.mark.parametrize("health", ["", "health=/up "], ids=["connect", "path"])
def test_a_stopped_target_costs_no_get_and_only_posts_sent_to_it(router, processes, tcp, health):
    made = processes(2, tcp)
    r = pair(router, made, health + STUCK)
    warm = [Ask(r, get()) for _ in range(40)]
    assert {a.done() for a in warm} == {200}
    # Its places are full when it stops: half of what is asked now is inside it.
    asks = [Ask(r, post("p%d" % i, "/slow") if i % 4 == 0 else get("/slow")) for i in range(12)]
    until(lambda: r.n("a/0")["inflight"] >= 4)
    made[0].stop()
    number, end = 100, time.monotonic() + 3
    while time.monotonic() < end:
        number += 1
        asks.append(Ask(r, post("p%d" % number) if number % 5 == 0 else get()))
        time.sleep(0.01)
    n = r.n("a/0")
    assert n["cause"] == 5 and n["ejected"] == 1 and n["suspected"] >= 1, n
    gets = [a for a in asks if a.what.startswith("GET")]
    assert [a.done() for a in gets] == [200] * len(gets)
    assert max(a.ms for a in gets) < 2000
    assert r.n("a/1")["retried_moved"] == 0 and n["retried_moved"] >= 1
    inside = [a for a in asks if a.status is None]
    assert all(a.what.startswith("POST") for a in inside)
    assert len(inside) == r.n("a/0")["inflight"] <= 8
    made[0].go_on()
    # It answers what it owes, is back at once, and nothing was done twice.
    assert [a.done() for a in asks] == [200] * len(asks)
    until(lambda: r.n("a/0")["cause"] == 0)
    after = [Ask(r, get()) for _ in range(40)]
    assert {a.done() for a in after} == {200} and {a.body for a in after} == {b"t0", b"t1"}
    posts = made[0].posts + made[1].posts
    assert len(posts) == len(set(posts)) == len([a for a in asks if a.what.startswith("POST")])


def test_when_all_are_silent_nobody_is_stuck(router, target):
    """A database that hangs makes every target silent: to move requests about would only add to it."""
    gate = threading.Event()

    def handler(c, line, fields):
        if line.split()[1] == "/hang":
            gate.wait(30)
        return ok()

    made = [target(handler), target(handler)]
    r = router("threads 1\napp a %s\ntarget a/0 %s\ntarget a/1 %s\n" % (STUCK, made[0].addr, made[1].addr))
    r.until("a/0", "state", 1)
    r.until("a/1", "state", 1)
    assert [Ask(r, get()).done() for _ in range(20)] == [200] * 20
    asks = [Ask(r, get("/hang")) for _ in range(6)]
    r.until("a", "inflight", 6)
    time.sleep(1)
    n = r.numbers()
    assert n["a"]["ejected"] == 0 and n["a"]["retried_moved"] == 0, n
    assert len(made[0].paths()) + len(made[1].paths()) == 26
    gate.set()
    assert [a.done() for a in asks] == [200] * 6


def test_one_slow_answer_is_not_taken_for_a_stuck_target(router, target):
    """It answers a probe meanwhile: so it is not stuck, and nothing is asked twice."""
    gate, probed = threading.Event(), []

    def handler(c, line, fields):
        if line.startswith("OPTIONS"):
            probed.append(line)
        if line.split()[1] == "/slow":
            gate.wait(30)
        return ok()

    made = [target(handler), target(handler)]
    r = router("threads 1\napp a %s\ntarget a/0 %s\ntarget a/1 %s\n" % (STUCK, made[0].addr, made[1].addr))
    r.until("a/0", "state", 1)
    r.until("a/1", "state", 1)
    assert [Ask(r, get()).done() for _ in range(20)] == [200] * 20
    slow = Ask(r, get("/slow"))
    until(lambda: r.n("a")["suspected"] >= 1)
    assert [Ask(r, get()).done() for _ in range(20)] == [200] * 20
    time.sleep(0.6)
    n = r.n("a")
    assert n["ejected"] == 0 and n["retried_moved"] == 0
    gate.set()
    assert slow.done() == 200
    assert sum(p.count("/slow") for p in (made[0].paths(), made[1].paths())) == 1


# --- a target that fails ---

def failing(router, target, app, bad, count=3):
    """The first target answers as bad(c) does while `broken` is set, the others well."""
    broken = threading.Event()
    broken.set()

    def handler(first):
        def answer(c, line, fields):
            c.body(fields)
            return bad(c) if first and broken.is_set() else ok()
        return answer

    made = [target(handler(i == 0)) for i in range(count)]
    r = router("threads 1\napp a health=/up probe_ms=100 %s\n" % app + "".join(
        "target a/%d %s\n" % (i, t.addr) for i, t in enumerate(made)))
    for i in range(count):
        r.until("a/%d" % i, "state", 1)
    return r, made, broken


def test_failures_in_a_row_eject_and_time_brings_it_back(router, target):
    r, made, broken = failing(router, target, "eject_failures=5 eject_time_ms=300", lambda c: False)
    statuses = [r.get()[0] for _ in range(60)]
    assert statuses == [200] * 60  # each GET was tried once more elsewhere
    n = r.n("a/0")
    assert n["cause"] == 1 and n["ejected"] == 1 and n["tries_failed"] == 5
    # It comes back, fails again, and is out for twice as long.
    begun = time.monotonic()
    until(lambda: r.get()[0] == 200 and r.n("a/0")["ejected"] == 2)
    until(lambda: r.get()[0] == 200 and r.n("a/0")["ejected"] == 3)
    assert time.monotonic() - begun > 0.8
    broken.clear()
    until(lambda: r.get()[0] == 200 and r.n("a/0")["cause"] == 0)
    before = len(made[0].seen)
    until(lambda: r.get()[0] == 200 and len(made[0].seen) > before + 5)
    assert r.n("a/0")["ejected"] == 3


def test_an_ejected_target_is_back_only_when_its_health_path_is_well_too(router, target):
    ill, ill_probes = threading.Event(), []
    made = [target(lambda c, line, f: False if ill.is_set() else ok()), target(), target()]
    usual = made[0].serve

    def serve_probes(conn):
        if ill.is_set():
            conn.sock.settimeout(0.05)
            try:
                if b"/up" in conn.read_to(b"\r\n\r\n"):
                    conn.send(b"HTTP/1.1 503 Ill\r\nContent-Length: 0\r\n\r\n")
                    ill_probes.append(1)
            except (EOFError, OSError):
                pass
            conn.close()
        else:
            usual(conn)

    made[0].serve = serve_probes
    r = router("threads 1\napp a health=/up probe_ms=1000 fall=1000 eject_failures=3 eject_time_ms=100\n"
               + "".join("target a/%d %s\n" % (i, t.addr) for i, t in enumerate(made)))
    for i in range(3):
        r.until("a/%d" % i, "state", 1)
    ill.set()
    until(lambda: r.get()[0] == 200 and r.n("a/0")["cause"] == 1)
    until(lambda: len(ill_probes) > 4)  # they go on, and faster
    assert r.n("a/0")["cause"] == 1 and r.n("a/0")["state"] == 1
    ill.clear()
    until(lambda: r.n("a/0")["cause"] == 0)
    assert [r.get()[0] for _ in range(10)] == [200] * 10


def test_the_last_one_and_more_than_half_are_never_ejected(router, target):
    made = [target(lambda c, line, f: False) for _ in range(3)]
    r = router("threads 1\napp a health=/up probe_ms=100 eject_failures=2 eject_time_ms=60000\n" + "".join(
        "target a/%d %s\n" % (i, t.addr) for i, t in enumerate(made)))
    for i in range(3):
        r.until("a/%d" % i, "state", 1)
    for _ in range(40):
        assert r.get()[0] == 502
    assert sum(r.n("a/%d" % i)["cause"] != 0 for i in range(3)) == 1


@pytest.mark.parametrize("all_bad", [False, True], ids=["one", "all"])
def test_server_errors_eject_only_who_gives_more_of_them(router, target, all_bad):
    error = b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"

    def handler(first):
        return lambda c, line, f: error if first or all_bad else ok()

    made = [target(handler(i == 0)) for i in range(3)]
    r = router("threads 1\napp a health=/up probe_ms=100 eject_server_errors=50 eject_requests=20 "
               "eject_time_ms=60000\n" + "".join("target a/%d %s\n" % (i, t.addr) for i, t in enumerate(made)))
    for i in range(3):
        r.until("a/%d" % i, "state", 1)
    c = r.connect()
    seen = []

    def ask(n):
        for _ in range(n):
            seen.append(c.send(get()).answer()[0])

    if all_bad:
        end = time.monotonic() + 2.5  # two looks at least
        while time.monotonic() < end:
            ask(10)
        assert r.n("a")["ejected"] == 0
        return
    until(lambda: ask(10) or r.n("a/0")["cause"] == 3)
    before = len(made[0].seen)
    ask(50)
    assert len(made[0].seen) == before and seen[-50:] == [200] * 50


def test_one_that_is_much_slower_than_the_others_is_ejected(router, target):
    def handler(first):
        def answer(c, line, f):
            if first:
                time.sleep(0.05)
            return ok()
        return answer

    made = [target(handler(i == 0)) for i in range(3)]
    r = router("threads 1\napp a health=/up probe_ms=100 eject_latency=3 eject_latency_least_ms=20 "
               "eject_requests=10 eject_time_ms=60000\n"
               + "".join("target a/%d %s\n" % (i, t.addr) for i, t in enumerate(made)))
    for i in range(3):
        r.until("a/%d" % i, "state", 1)
    c = r.connect()
    until(lambda: [c.send(get()).answer()[0] for _ in range(5)] and r.n("a/0")["cause"] == 4)
    assert r.n("a/1")["cause"] == 0 and r.n("a/2")["cause"] == 0


# --- how often is tried again ---

def test_retries_stay_within_their_budget(router, target):
    """Everything breaks: a tenth is tried again, and each of the others gets its error at once."""
    made = [target(lambda c, line, f: False) for _ in range(3)]
    r = router("threads 1\napp a retry_share=10 retry_least=0\n" + "".join(
        "target a/%d %s\n" % (i, t.addr) for i, t in enumerate(made)))
    for i in range(3):
        r.until("a/%d" % i, "state", 1)
    c = r.connect()
    statuses = []
    for _ in range(300):
        statuses.append(c.send(get()).answer()[0])
    n = r.n("a")
    assert statuses == [502] * 300
    assert 10 <= n["retried_safe"] <= 35, n
    assert n["retried_safe"] + n["retry_refused"] == 300
    assert sum(len(t.seen) for t in made) == 300 + n["retried_safe"]


def test_what_is_proven_unread_needs_no_budget(router, target, tmp_path):
    gone = str(tmp_path / "gone")
    t = target()
    r = router("threads 1\napp a retry_share=0 retry_least=0 fall=1000\ntarget a/0 unix:%s\ntarget a/1 %s\n"
               % (gone, t.addr))
    r.until("a/1", "state", 1)
    for i in range(20):
        assert r.connect().send(post("x") if i % 2 else get()).answer()[0] == 200
    assert r.n("a")["retry_refused"] == 0


# --- slow start ---

def test_a_target_that_came_up_grows_into_its_share(router, target):
    made = [target(), target()]
    r = router("threads 1\napp a slow_start_ms=3000 probe_ms=100\n" + "".join(
        "target a/%d %s\n" % (i, t.addr) for i, t in enumerate(made)))
    c = r.connect()

    def shares(n=200):
        was = [len(t.seen) for t in made]
        for _ in range(n):
            assert c.send(get()).answer()[0] == 200
        return [len(t.seen) - w for t, w in zip(made, was)]

    for i in range(2):
        r.until("a/%d" % i, "state", 1)
    until(lambda: shares() == [100, 100])
    # One that dies and comes back begins with a tenth.
    made[1].stop()
    time.sleep(3)  # the other one is through with it
    made[1].start()
    r.until("a/1", "state", 1)
    got = shares(100)
    assert 1 <= got[1] <= 35, got
    until(lambda: shares() == [100, 100])


# --- the limit for the whole request ---

def test_a_request_as_a_whole_has_a_limit(serve):
    def handler(c, line, fields):
        path = line.split()[1]
        if path == "/silent":
            c.rest()
            return False
        if path in ("/drip", "/events"):
            kind = "text/event-stream; charset=utf-8" if path == "/events" else "text/plain"
            c.send("HTTP/1.1 200 OK\r\nContent-Type: %s\r\nTransfer-Encoding: chunked\r\n\r\n" % kind)
            for _ in range(12):
                c.send(b"1\r\nx\r\n")
                time.sleep(0.1)
            return b"0\r\n\r\n"
        if path == "/up":
            c.send(b"HTTP/1.1 101 Switching\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
            c.send(c.read(2))
            return False
        return ok(c.body(fields))

    r, t = serve(handler, app="request_ms=600")
    c = r.connect()
    assert c.send(get("/silent")).answer()[0] == 504
    assert c.send(get()).answer()[0] == 200  # its connection goes on
    n = r.n("a")
    assert n["over_time"] == 1 and n["failed_504"] == 1 and r.n("a/1")["failed_504"] == 1
    # An answer that has begun is cut, however lively it is.
    with pytest.raises((EOFError, ConnectionResetError)):
        r.connect().send(get("/drip")).answer()
    assert r.n("a")["over_time"] == 2 and r.n("a")["failed_cut"] == 1
    # Events and tunnels may take longer.
    assert r.connect().send(get("/events")).answer()[2] == b"x" * 12
    c = r.connect().send(get("/up", extra="Connection: upgrade\r\nUpgrade: x\r\n"))
    assert c.head()[0].split()[1] == "101"
    time.sleep(0.8)
    assert c.send(b"hi").read(2) == b"hi"
    # A body that comes in too slowly is over time as well, and that is not the app's fault.
    c = r.connect().send("POST / HTTP/1.1\r\nHost: any\r\nContent-Length: 10\r\n\r\nfive!")
    assert c.answer()[0] == 408
    assert r.n("a")["over_time"] == 3 and r.n("a")["failed_504"] == 1


def test_waiting_counts_for_the_limit_of_the_whole_request(router, target):
    t = target(listen=False)
    r = router("threads 1\napp a request_ms=300 hold_wait_ms=60000\ntarget a/1 %s\n" % t.addr)
    assert r.get()[0] == 504
    n = r.n("a")
    assert n["over_time"] == 1 and n["held"] == 1 and n["waiting"] == 0 and n["waiting_bytes"] == 0


def test_an_idle_connection_that_had_ended_needs_no_budget(serve):
    """The target ends each connection after its answer, without saying so."""
    def handler(c, line, f):
        c.send(ok(c.body(f)))
        return False

    r, t = serve(handler, tcp=True, app="retry_share=0 retry_least=0")
    c = r.connect()
    assert [c.send(get()).answer()[0] for _ in range(300)] == [200] * 300
    n = r.n("a/1")
    assert n["retry_refused"] == 0 and n["tries_failed"] == 0
