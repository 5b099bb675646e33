# SPDX-License-Identifier: Apache-2.0
"""TCP apps: connections that nobody reads are balanced, held, tried elsewhere, drained and counted."""
import os
import socket
import struct
import threading

import pytest

from router_kit import until


def echo(conn, name=b""):
    """Says its name, then gives back what it gets, until that ends."""
    conn.send(name + b"\n")
    while more := conn.sock.recv(65536):
        conn.sock.sendall(more)
    conn.close()


def probe_or(handler):
    """Probes open a connection and close it: nothing comes."""
    def serve(conn):
        try:
            handler(conn)
        except OSError:
            pass
    return serve


@pytest.fixture
def echoes(target):
    def make(name, tcp=False, handler=None, **more):
        t = target(tcp=tcp, listen=False)
        t.serve = probe_or(handler or (lambda conn: echo(conn, name.encode())))
        return t.start(**more) if more.pop("listen", True) else t

    return make


def app(*targets, more="", use={}):
    return "app a probe_ms=100 %s\n" % more + "".join(
        "target a/%d %s %s\n" % (i, t.addr, use.get(i, "")) for i, t in enumerate(targets)) + "tcp\n"


def line(c):
    return c.read_to(b"\n").strip().decode()


def speak(r, text=b"hello\n"):
    c = r.connect()
    name = line(c)
    assert line(c.send(text)) == text.strip().decode()
    return c, name


def reset(c):
    try:
        c.rest()
        return False
    except ConnectionResetError:
        return True


@pytest.mark.parametrize("tcp", [False, True])
def test_bytes_go_both_ways_and_are_counted(router, echoes, tcp):
    t = echoes("one", tcp)
    r = router(app(t))
    r.until("a/0", "state", 1)
    c, name = speak(r)
    assert name == "one" and r.n("a")["tunnels"] == 1 and r.n("a")["inflight"] == 0
    c.sock.shutdown(socket.SHUT_WR)  # the target reads that, says all it has, and ends
    assert c.rest() == b""
    record = r.log(1)[0]
    assert (record["method"], record["app"], record["target"], record["bytes_in"], record["bytes_out"]) == (
        "TCP", "a", "a/0", 6, 10)
    n = r.n("a")
    assert (n["requests"], n["answered_2xx"], n["upgraded"], n["tunnels"], n["bytes_in"], n["bytes_out"]) == (
        1, 1, 1, 0, 6, 10)
    assert r.n("a/0")["tunnels"] == 0 and r.n("a/0")["inflight"] == 0


def test_what_was_said_before_the_target_is_there_arrives_with_its_end(router, echoes):
    t = echoes("late", listen=False)
    r = router(app(t))
    r.until("a/0", "state", 2)
    c = r.connect().send(b"early\n")
    c.sock.shutdown(socket.SHUT_WR)
    r.until("a", "waiting", 1)
    t.start()
    assert c.rest() == b"late\nearly\n"
    until(lambda: r.n("a")["answered_2xx"] == 1)
    n = r.n("a")
    assert (n["held"], n["client_left"]) == (1, 0)


def test_connections_are_balanced_and_limited(router, echoes):
    t = [echoes("t%d" % i) for i in range(3)]
    r = router(app(*t, more="target_limit=2"))
    for i in range(3):
        r.until("a/%d" % i, "state", 1)
    conns = [speak(r) for _ in range(6)]
    assert sorted(name for _, name in conns) == ["t0", "t0", "t1", "t1", "t2", "t2"]
    seventh = r.connect()
    r.until("a", "waiting", 1)
    conns[0][0].close()
    assert line(seventh) == conns[0][1]


def test_a_target_that_refuses_is_passed_over(router, echoes):
    good, gone = echoes("good", tcp=True), echoes("gone", tcp=True)
    r = router(app(gone, good, more="hold_wait_ms=1000"))
    r.until("a/0", "state", 1)
    r.until("a/1", "state", 1)
    gone.stop()
    assert [speak(r)[1] for _ in range(20)] == ["good"] * 20
    assert r.n("a")["failed_502"] == 0


@pytest.mark.parametrize("tcp", [False, True])
def test_a_target_that_dies_with_a_connection_in_its_backlog_has_cost_nothing(router, echoes, tcp):
    dying, good = echoes("dying", tcp, listen=False), echoes("good", tcp)
    silent = socket.socket(socket.AF_INET if tcp else socket.AF_UNIX)  # takes connections and never accepts
    if tcp:
        silent.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    silent.bind(("127.0.0.1", dying.port) if tcp else dying.path)
    silent.listen(16)
    r = router(app(dying, good, use={1: "use=probe"}))
    r.until("a/0", "state", 1)
    r.until("a/1", "state", 1)
    c = r.connect()
    r.until("a", "tunnels", 1)
    r.table(app(dying, good))
    silent.close()
    assert line(c) == "good"
    n = r.n("a")
    assert (n["tunnels"], n["retried_unsent"], n["failed_cut"], n["inflight"]) == (1, 1, 0, 0)
    assert r.n("a/0")["tunnels"] == 0


def test_connections_are_held_by_order_and_go_on(router, echoes):
    t = echoes("one")
    r = router(app(t, more="hold=1"))
    conns = [r.connect() for _ in range(30)]
    r.until("a", "waiting", 30)
    r.table(app(t))
    assert all(line(c) == "one" for c in conns)
    assert r.n("a")["held"] == 30


def test_holding_is_bounded_in_number_and_time(router, echoes):
    t = echoes("one")
    r = router(app(t, more="hold=1 hold_requests=2 hold_wait_ms=300"))
    conns = [r.connect() for _ in range(3)]
    assert all(reset(c) for c in conns)
    n = r.n("a")
    assert (n["failed_503_full"], n["failed_503_waited"], n["waiting"], n["inflight"]) == (1, 2, 0, 0)
    assert {rec["end"] for rec in r.log(3)} == {1}


def test_a_drained_target_keeps_what_it_has_until_its_time_is_over(router, echoes):
    old, new = echoes("old"), echoes("new")
    r = router(app(old, new, use={1: "use=probe"}))
    r.until("a/0", "state", 1)
    r.until("a/1", "state", 1)
    held, name = speak(r)
    assert name == "old"
    r.table(app(old, new, use={0: "use=drain drain_ms=30000"}))
    assert [speak(r)[1] for _ in range(10)] == ["new"] * 10
    assert line(held.send(b"still here\n")) == "still here"
    r.table(app(old, new, use={0: "use=drain drain_ms=20"}))
    assert reset(held)
    n = r.n("a/0")
    assert (n["failed_cut"], n["tunnels"]) == (1, 0)


def test_a_connection_to_a_target_that_dies_ends(router, echoes):
    def breaks(conn):
        conn.send(b"half")
        conn.sock.recv(1)
        conn.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        conn.close()

    t = echoes("x", tcp=True, handler=breaks)
    r = router(app(t))
    r.until("a/0", "state", 1)
    c = r.connect()
    assert c.read(4) == b"half"
    c.send(b"!")
    assert reset(c)
    until(lambda: r.n("a")["failed_cut"] == 1)
    assert r.log(1)[-1]["end"] == 3


def test_silence_has_a_limit(router, echoes):
    t = echoes("one")
    r = router(app(t, more="tunnel_ms=100"))
    r.until("a/0", "state", 1)
    c, _ = speak(r)
    assert c.closed()


def test_two_gigabytes_pass_and_a_slow_reader_is_waited_for(router, echoes):
    size, block = 2 << 30, os.urandom(1 << 20)
    pending = []

    def source(conn):
        for i in range(size // len(block)):
            conn.sock.sendall(block)
            pending.append(i)
        conn.close()

    t = echoes("x", handler=source)
    r = router(app(t))
    c = r.connect()
    c.read(1000)
    # Nobody reads: what stands between the two is bounded.
    last = -1
    while len(pending) != last:
        last = len(pending)
        threading.Event().wait(0.2)
    assert last < 64
    before = r.memory_kb()
    n, more, twice = 1000, c.buf, block * 2
    while more:
        assert more == twice[n % len(block):n % len(block) + len(more)]
        n += len(more)
        more = c.sock.recv(1 << 20)
    assert n == size
    assert r.memory_kb() - before < 4096


def test_many_idle_connections_hold_no_buffers(router, echoes):
    t = echoes("one", backlog=512)
    r = router(app(t, more="target_limit=0"))
    r.until("a/0", "state", 1)
    speak(r)
    before = r.memory_kb()
    conns = [speak(r) for _ in range(300)]
    assert (r.memory_kb() - before) / len(conns) < 4


@pytest.mark.parametrize("version", [1, 2])
def test_a_target_is_told_who_the_client_is(router, echoes, version):
    heads = []

    def serve(conn):
        head = conn.read_to(b"\r\n") if version == 1 else conn.read(16)
        if version == 2:
            head += conn.read(struct.unpack(">H", head[14:])[0])
        if head not in (b"PROXY UNKNOWN\r\n", b"\r\n\r\n\0\r\nQUIT\n\x20\0\0\0"):
            heads.append(head)
            echo(conn, b"one")

    t = echoes("x", handler=serve)
    r = router(app(t, more="proxy=%d" % version))
    r.until("a/0", "state", 1)
    conns = [speak(r)[0] for _ in range(2)]
    ports = [c.sock.getsockname()[1] for c in conns]
    if version == 1:
        assert heads == [b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (p, r.port) for p in ports]
    else:
        assert [struct.unpack(">HH", h[-4:]) for h in heads] == [(p, r.port) for p in ports]
