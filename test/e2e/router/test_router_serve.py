# SPDX-License-Identifier: Apache-2.0
"""Nobody notices: holding, retrying, draining, swapping tables, losing the router itself."""
import os
import socket
import struct
import threading

import pytest

from router_kit import Conn, get, ok, post, until


def app(targets, more=""):
    return "app a %s\n" % more + "".join("target %s %s\n" % t for t in targets)


def reset(c):
    """Closes with a reset (TCP), or with unread input (unix)."""
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()


# --- hold ---

def test_requests_wait_by_order_and_go_on_when_the_table_says_so(router, target):
    t = target()
    r = router(app([("a/1", t.addr)], "hold=1"))
    conns = [r.connect().send(get("/%d" % i)) for i in range(30)]
    r.until("a", "waiting", 30)
    assert t.seen == []
    r.table(app([("a/1", t.addr)]))
    assert all(c.answer()[0] == 200 for c in conns)
    n = r.n("a")
    assert (n["held"], n["waiting"], n["waiting_bytes"]) == (30, 0, 0)


def test_open_tunnels_do_not_keep_held_requests_waiting(router, target):
    """After a hold, requests are let out at the pace of the answers: a WebSocket's never ends."""
    def handler(c, first, fields):
        if "upgrade" in fields:
            c.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: x\r\n\r\n")
            c.sock.recv(1)
            return False
        return b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"

    t = target(handler)
    table = "threads 1\napp a %s\ntarget a/1 " + t.addr + "\n"
    r = router(table % "")
    r.until("a/1", "state", 1)
    open_ones = [r.connect().send(get(extra="Connection: upgrade\r\nUpgrade: x\r\n")) for _ in range(20)]
    for c in open_ones:
        assert c.head()[0].split()[1] == "101"
    r.table(table % "hold=1")
    held = r.connect().send(get())
    r.until("a", "waiting", 1)
    r.table(table % "")
    assert held.answer()[0] == 200


def test_an_order_to_hold_is_bounded_in_time(router, target):
    t = target()
    r = router(app([("a/1", t.addr)], "hold=1 hold_wait_ms=50"))
    status, fields, body = r.get()
    assert status == 503 and int(fields["retry-after"][0]) >= 1 and b"Upstate" in body
    assert r.n("a")["failed_503_waited"] == 1


def test_the_waiting_room_is_bounded_in_number_and_bytes(router, target):
    t = target()
    r = router(app([("a/1", t.addr)], "hold=1 hold_requests=2"))
    inside = [r.connect().send(get()) for _ in range(2)]
    r.until("a", "waiting", 2)
    assert r.get()[0] == 503
    assert r.n("a")["failed_503_full"] == 1
    r.table(app([("a/1", t.addr)], "hold=1 hold_bytes=2000"))
    assert r.connect().send(post("x" * 3000)).answer()[0] == 503
    r.table(app([("a/1", t.addr)]))
    assert [c.answer()[0] for c in inside] == [200, 200]


def test_a_client_that_leaves_frees_its_place(router, target):
    t = target()
    r = router(app([("a/1", t.addr)], "hold=1 hold_requests=1"))
    c = r.connect().send(get())
    r.until("a", "waiting", 1)
    c.close()
    r.until("a", "waiting", 0)
    c = r.connect().send(get("/second"))
    r.until("a", "waiting", 1)
    r.table(app([("a/1", t.addr)]))
    assert c.answer()[0] == 200 and t.paths() == ["/second"]
    assert r.n("a")["client_left"] == 1


@pytest.mark.parametrize("tcp", [False, True])
def test_an_outage_is_waited_out(router, target, tcp):
    t = target(tcp=tcp)
    r = router(app([("a/1", t.addr)], "probe_ms=100"))
    assert r.get()[0] == 200
    t.stop()
    conns = [r.connect().send(get()) for _ in range(10)] + [r.connect().send(post("x"))]
    until(lambda: r.n("a")["waiting"] == 11)
    t.start()
    assert all(c.answer()[0] == 200 for c in conns)
    assert r.n("a")["failed_502"] == 0


def test_in_a_long_outage_nobody_waits_first(router, target):
    t = target(listen=False)
    r = router(app([("a/1", t.addr)], "hold_wait_ms=100 probe_ms=100"))
    status, fields, body = r.get()
    assert status == 503 and "retry-after" in fields
    r.until("a/1", "state", 2)
    until(lambda: r.get()[0] == 503 and r.n("a")["held"] <= 2)
    held = r.n("a")["held"]
    for _ in range(5):
        assert r.get()[0] == 503
    assert r.n("a")["held"] == held
    assert r.n("a")["waiting"] == 0


def test_a_target_that_comes_back_is_noticed_by_its_probe(router, target):
    t = target(listen=False)
    r = router(app([("a/1", t.addr)], "health=/up rise=1 fall=1 probe_ms=200"))
    r.until("a/1", "state", 2)
    t.start()
    r.until("a/1", "state", 1)
    assert r.numbers()["bells"] >= 1
    assert r.get()[0] == 200


# --- places ---

def test_what_is_over_the_limit_of_a_target_waits_in_the_router(router, target):
    go, now, most = threading.Semaphore(0), [0], [0]

    def handler(c, line, f):
        with t.lock:
            now[0] += 1
            most[0] = max(most[0], now[0])
        go.acquire()
        with t.lock:
            now[0] -= 1
        return ok()

    t = target(handler)
    r = router("threads 2\n" + app([("a/1", t.addr)], "target_limit=2"))
    conns = [r.connect().send(get()) for _ in range(12)]
    until(lambda: now[0] == 2)
    r.until("a", "waiting", 10)
    for _ in conns:
        go.release()
    assert all(c.answer()[0] == 200 for c in conns)
    assert most[0] == 2


def test_work_goes_to_the_target_with_the_fewest_outstanding(router, target):
    go = threading.Semaphore(0)
    slow = target(lambda c, l, f: (go.acquire(), ok("slow"))[1])
    fast = target(lambda c, l, f: ok("fast"))
    r = router("threads 1\n" + app([("a/1", slow.addr), ("a/2", fast.addr)]))
    r.until("a/1", "state", 1), r.until("a/2", "state", 1)
    stuck = []
    while not slow.seen:
        stuck.append(r.connect().send(get()))
        until(lambda: len(slow.seen) + len(fast.seen) == len(stuck))
        until(lambda: r.n("a/2")["inflight"] == 0)
    for _ in range(10):
        assert r.get()[2] == b"fast"
    go.release()
    assert {c.answer()[2] for c in stuck} <= {b"slow", b"fast"}


def test_a_full_backlog_is_waited_for(router, target, tmp_path):
    path = str(tmp_path / "full")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen(0)
    filler = []
    while True:  # fill it up, the probe's place included
        s = socket.socket(socket.AF_UNIX)
        s.setblocking(False)
        try:
            s.connect(path)
        except BlockingIOError:
            break
        filler.append(s)
    r = router(app([("a/1", "unix:" + path)], "fall=1000000 probe_ms=100000"))
    c = r.connect().send(get())
    r.until("a", "waiting", 1)

    def serve():
        while True:
            try:
                conn = Conn(sock.accept()[0])
                conn.head()
                conn.send(ok("at last"))
            except EOFError:
                continue
            except OSError:
                return

    for s in filler:
        s.close()
    threading.Thread(target=serve, daemon=True).start()
    assert c.answer()[2] == b"at last"
    sock.close()


# --- retry ---

def breaking(how, then=ok):
    """A handler that breaks under the first request, and serves the next ones."""
    state = {"first": True}

    def handler(c, line, f):
        if state["first"]:
            state["first"] = False
            how(c, f)
            return False
        c.body(f)
        return then()

    return handler


def test_a_small_post_that_a_unix_target_did_not_read_is_sent_again(router, tmp_path):
    path = str(tmp_path / "s")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen(10)
    bodies = []

    def serve():
        first = True
        while True:
            try:
                conn = Conn(sock.accept()[0])
            except OSError:
                return
            if first and not select_probe(conn):
                first = False
                conn.close()  # with unread input: ECONNRESET
                continue
            try:
                line, f = conn.head()
                bodies.append(conn.body(f))
                conn.send(ok())
            except EOFError:
                pass
            conn.close()

    def select_probe(conn):
        """Waits for input without reading it; is it a bare connection of a probe?"""
        return conn.sock.recv(1, socket.MSG_PEEK) == b""

    threading.Thread(target=serve, daemon=True).start()
    r = router(app([("a/1", "unix:" + path)], "fall=100"))
    assert r.connect().send(post("pay once")).answer()[0] == 200
    assert bodies == [b"pay once"]
    assert r.n("a")["retried_unread"] == 1
    sock.close()


def test_a_large_post_is_never_sent_again(router, target):
    t = target(breaking(lambda c, f: c.read(100)))
    other = target()
    r = router(app([("a/1", t.addr)]))
    assert r.connect().send(post("x" * 20000)).answer()[0] == 502
    n = r.n("a")
    assert n["failed_502"] == 1 and n["retried_unread"] + n["retried_safe"] + n["retried_unsent"] == 0


def test_a_read_post_is_not_sent_again(router, target):
    t = target(breaking(lambda c, f: c.body(f)))
    r = router(app([("a/1", t.addr)]))
    assert r.connect().send(post("small")).answer()[0] == 502
    assert len(t.seen) == 1


def test_a_post_over_tcp_is_not_sent_again(router, target):
    t = target(breaking(lambda c, f: reset(c)), tcp=True)
    r = router(app([("a/1", t.addr)]))
    assert r.connect().send(post("small")).answer()[0] == 502
    assert len(t.seen) == 1


@pytest.mark.parametrize("tcp", [False, True])
def test_a_get_is_sent_once_more(router, target, tcp):
    t = target(breaking(lambda c, f: None), tcp=tcp)
    r = router(app([("a/1", t.addr)]))
    assert r.get()[0] == 200
    assert len(t.seen) == 2 and r.n("a")["retried_safe"] == 1


def test_a_get_under_which_two_targets_died_is_given_up(router, target):
    one, two, three = (target(lambda c, l, f: False) for _ in range(3))
    r = router(app([("a/1", one.addr), ("a/2", two.addr), ("a/3", three.addr)]))
    assert r.get()[0] == 502
    assert len(one.seen) + len(two.seen) + len(three.seen) == 2


def test_the_switch_for_unread_is_obeyed(router, tmp_path):
    path = str(tmp_path / "s")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    sock.listen(10)

    def serve():
        while True:
            try:
                conn = sock.accept()[0]
            except OSError:
                return
            conn.recv(1, socket.MSG_PEEK)
            conn.close()

    threading.Thread(target=serve, daemon=True).start()
    r = router(app([("a/1", "unix:" + path)], "retry_unread=0"))
    assert r.connect().send(post("small")).answer()[0] == 502
    sock.close()


def test_a_refused_connection_goes_to_the_next_target(router, target):
    gone, there = target(), target()
    r = router(app([("a/1", gone.addr), ("a/2", there.addr)], "probe_ms=100000 fall=100000"))
    r.until("a/1", "state", 1), r.until("a/2", "state", 1)
    gone.stop()
    for _ in range(6):
        assert r.connect().send(post("x")).answer()[0] == 200
    assert len(there.seen) == 6


def test_a_connection_that_does_not_open_goes_to_the_next_target(router, target):
    """A listener whose backlog is full drops a SYN: the connection neither opens nor fails."""
    deaf = socket.socket()
    deaf.bind(("127.0.0.1", 0))
    deaf.listen(0)
    filler = []
    for _ in range(3):
        s = socket.socket()
        s.setblocking(False)
        s.connect_ex(deaf.getsockname())
        filler.append(s)
    there = target()
    r = router(app([("a/1", "127.0.0.1:%d" % deaf.getsockname()[1]), ("a/2", there.addr)],
                   "connect_ms=50 probe_ms=100000 probe_timeout_ms=100000"))
    r.until("a/2", "state", 1)
    r.table(app([("a/1", "127.0.0.1:%d" % deaf.getsockname()[1])],
                "connect_ms=50 probe_ms=100000 probe_timeout_ms=100000"))
    c = r.connect().send(post("x"))
    until(lambda: r.n("a/1")["connect_failed"] >= 1)
    r.table(app([("a/1", "127.0.0.1:%d" % deaf.getsockname()[1]), ("a/2", there.addr)],
                "connect_ms=50 probe_ms=100000 probe_timeout_ms=100000"))
    assert c.answer()[0] == 200
    for s in filler + [deaf]:
        s.close()


def test_a_stale_connection_costs_nothing(router, target):
    """The target closes each connection after its answer, without saying so."""
    def handler(c, line, f):
        c.body(f)
        c.send(ok())
        return False

    for tcp in (False, True):
        t = target(handler, tcp=tcp)
        r = router(app([("a/1", t.addr)]))
        c = r.connect()
        for i in range(100):
            assert c.send(get()).answer()[0] == 200


# --- drain ---

def test_a_draining_target_gets_nothing_new_and_finishes_what_it_has(router, target):
    go = threading.Event()
    old = target(lambda c, l, f: (go.wait(), ok("old"))[1])
    new = target(lambda c, l, f: ok("new"))
    r = router(app([("a/1", old.addr)]))
    c = r.connect().send(get())
    until(lambda: old.seen)
    r.table(app([("a/2", new.addr), ("a/1", old.addr + " use=drain drain_ms=20000")]))
    for _ in range(5):
        assert r.get()[2] == b"new"
    assert r.n("a/1")["inflight"] == 1
    before = r.numbers()["bells"]
    go.set()
    assert c.answer()[2] == b"old"
    until(lambda: r.numbers()["bells"] > before)
    assert r.n("a/1")["inflight"] == 0 and r.n("a")["failed_cut"] == 0


def test_the_end_of_a_drain_cuts_and_says_so(router, target):
    old = target(lambda c, l, f: c.rest() and None)
    r = router(app([("a/1", old.addr)]))
    c = r.connect().send(post("x"))
    until(lambda: old.seen)
    r.table(app([("a/1", old.addr + " use=drain drain_ms=50")]))
    assert c.answer()[0] == 502
    assert r.n("a")["failed_cut"] == 1 and r.n("a/1")["failed_cut"] == 1
    assert r.n("a")["failed_502"] == 0 and r.n("a/1")["inflight"] == 0


@pytest.mark.parametrize("how", [" use=fence", None])
def test_a_fenced_or_removed_target_is_cut_at_once(router, target, how):
    def handler(c, line, f):
        c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n")
        c.rest()
        return False

    old, new = target(handler), target()
    r = router(app([("a/1", old.addr)]))
    c = r.connect().send(get())
    c.read_to(b"abc\r\n")
    keep = [("a/1", old.addr + how)] if how else []
    r.table(app([("a/2", new.addr)] + keep))
    assert c.closed()
    assert r.n("a")["failed_cut"] == 1 and r.n("a")["inflight"] == 0
    assert r.get()[0] == 200


def test_a_get_on_a_fenced_target_goes_elsewhere(router, target):
    old, new = target(lambda c, l, f: c.rest() and None), target(lambda c, l, f: ok("new"))
    r = router(app([("a/1", old.addr)]))
    c = r.connect().send(get())
    until(lambda: old.seen)
    r.table(app([("a/2", new.addr), ("a/1", old.addr + " use=fence")]))
    assert c.answer()[2] == b"new"


# --- swap and restart ---

def test_swapping_tables_keeps_connections_on_both_sides(serve):
    r, t = serve()
    conns = [r.connect() for _ in range(8)]
    for c in conns:
        assert c.send(get()).answer()[0] == 200
    before = r.n("a/1")["connects"]
    for i in range(30):
        r.table(app([("a/1", t.addr)]) + "app b%d hosts=b%d\n" % (i, i))
        for c in conns:
            assert c.send(get()).answer()[0] == 200
    assert r.n("a/1")["connects"] == before
    assert r.n("a/1")["state"] == 1


@pytest.mark.parametrize("tcp", [False, True])
def test_switching_between_targets_under_load_loses_nothing(router, target, tcp):
    def handler(c, line, f):
        return ok(c.body(f))

    both = [target(handler, tcp=tcp), target(handler, tcp=tcp)]
    r = router(app([("a/1", both[0].addr), ("a/2", both[1].addr + " use=probe")]))
    stop, wrong, done = threading.Event(), [], [0] * 6

    def load(i):
        c = r.connect()
        while not stop.is_set():
            if done[i] % 10 == 9:
                c.close()
                c = r.connect()
            body = "%d-%d" % (i, done[i])
            status, fields, got = c.send(post(body) if done[i] % 3 == 0 else get()).answer()
            if status != 200 or (done[i] % 3 == 0 and got != body.encode()):
                wrong.append((status, got))
            done[i] += 1

    threads = [threading.Thread(target=load, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for turn in range(40):
        new, old = turn % 2, 1 - turn % 2
        r.until("a/%d" % (new + 1), "state", 1)
        r.table(app([("a/%d" % (new + 1), both[new].addr),
                     ("a/%d" % (old + 1), both[old].addr + " use=drain drain_ms=20000")],
                    "hold=%d" % (turn % 5 == 0)))
        r.until("a/%d" % (old + 1), "inflight", 0)
        if turn % 5 == 0:
            r.table(app([("a/%d" % (new + 1), both[new].addr),
                         ("a/%d" % (old + 1), both[old].addr + " use=probe")]))
        before = sum(done)
        until(lambda: sum(done) > before + 20)
    stop.set()
    for t in threads:
        t.join()
    assert not wrong
    r.until("a", "answered_2xx", sum(done))
    n = r.n("a")
    assert n["requests"] == sum(done) and n["inflight"] == 0
    assert sum(n[k] for k in n if k.startswith("failed")) == 0


def test_an_app_that_is_removed_lets_its_waiting_requests_go(router, target):
    t = target()
    r = router("app a hosts=a.org hold=1\ntarget a/1 %s\n" % t.addr)
    c = r.connect().send(get(host="a.org"))
    r.until("a", "waiting", 1)
    r.table("app b\ntarget b/1 %s\n" % t.addr)
    assert c.answer()[0] == 404
    assert r.get()[0] == 200


def test_a_killed_router_loses_only_what_was_inside(serve):
    r, t = serve(lambda c, l, f: ok() if "/slow" not in l else (c.rest() and None))
    inside = [r.connect().send(get("/slow/%d" % i)) for i in range(3)]
    r.until("a", "inflight", 3)
    idle = r.connect()
    assert idle.send(get()).answer()[0] == 200
    r.until("a", "answered_2xx", 1)  # an answer is counted after it was sent
    r.kill()
    assert all(c.closed() for c in inside + [idle])
    assert r.get()[0] == 200
    r.until("a", "answered_2xx", 2)
    n = r.n("a")
    assert (n["failed_lost"], n["inflight"]) == (3, 0)
    assert r.numbers()["clients"] <= 1


def test_an_instance_that_is_killed_under_load_costs_no_get(router, target):
    both = [target(), target()]
    r = router(app([("a/1", both[0].addr), ("a/2", both[1].addr)], "probe_ms=100"))
    stop, wrong, done = threading.Event(), [], [0] * 4

    def load(i):
        c = r.connect()
        while not stop.is_set():
            status = c.send(get()).answer()[0]
            if status != 200:
                wrong.append(status)
            done[i] += 1

    threads = [threading.Thread(target=load, args=(i,)) for i in range(4)]
    for t in threads:
        t.start()
    for turn in range(10):
        t = both[turn % 2]
        t.stop()
        before = sum(done)
        until(lambda: sum(done) > before + 50)
        t.start()
        r.until("a/%d" % (turn % 2 + 1), "state", 1)
    stop.set()
    for t in threads:
        t.join()
    assert not wrong


def test_the_router_says_that_it_is_not_stuck(serve):
    r, t = serve()
    until(lambda: int(r.ask("beats")) >= 2)


def test_the_router_has_no_rights_that_it_does_not_need(serve):
    r, t = serve()
    with open("/proc/%d/status" % r.pid) as f:
        status = dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)
    assert status["NoNewPrivs"] == "1"
    with open(r.log_file.name) as f:
        sanitized = "built with a sanitizer" in f.read()
    if not sanitized:
        assert status["Seccomp"] == "2"
        for task in os.listdir("/proc/%d/task" % r.pid):
            with open("/proc/%d/task/%s/status" % (r.pid, task)) as f:
                assert "Seccomp:\t2" in f.read()


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can become another user")
def test_as_root_it_becomes_another_user(serve):
    r, t = serve(tcp=True, more="user 65534")
    assert r.get()[0] == 200
    with open("/proc/%d/status" % r.pid) as f:
        status = dict(line.split(":\t", 1) for line in f.read().splitlines() if ":\t" in line)
    assert set(status["Uid"].split()) == set(status["Gid"].split()) == {"65534"}
    assert status["Groups"].strip() == "" and int(status["CapEff"], 16) == 0
