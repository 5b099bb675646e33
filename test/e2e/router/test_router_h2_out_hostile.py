# SPDX-License-Identifier: Apache-2.0
"""Targets that speak HTTP/2 wrongly, or mean harm: what they do stays bounded, harms their own requests alone, and nobody
gets bytes that were not meant for him."""
import struct
import threading

import pytest
from h2_kit import (CALM, CANCEL, CONTINUATION, DATA, END_HEADERS, END_STREAM, H2, HEADERS, PING, PRIORITY, PUSH,
                    SET_WINDOW, SETTINGS)
from h2_target import H2Target, answer
from router_kit import WAIT, get, post, until


def flood(p, data, times=20000):
    """Sends until the router has had enough; the error codes of its GOAWAYs."""
    def write():
        try:
            for _ in range(times):
                p.send(data())
        except OSError:
            pass

    writer = threading.Thread(target=write)
    writer.start()
    codes = p.ended()
    writer.join()
    return codes


@pytest.mark.parametrize("frame", [
    lambda p: p.frame(SETTINGS, 0, 0) * 100,
    lambda p: p.frame(PING, 0, 0, b"01234567") * 100,
    lambda p: p.frame(PRIORITY, 0, 1, b"\0\0\0\0\1") * 100,
    lambda p: p.window_frame(0, 1) * 100,
    lambda p: p.frame(DATA, 0, p.asked[0]) * 100,
], ids=["settings", "ping", "priority", "window", "empty"])
def test_a_flood_ends_its_connection(router, target, frame):
    bad, good = target(kind=H2Target), target(answer(b"good"), kind=H2Target)
    r = router("threads 1\napp a h2=1\ntarget a/1 %s\ntarget a/2 %s use=probe\n" % (bad.addr, good.addr))
    r.until("a/1", "state", 1)
    r.until("a/2", "state", 1)
    c = r.connect().send(get())
    p = bad.peer()
    p.head(p.request())
    r.table("threads 1\napp a h2=1\ntarget a/1 %s use=drain drain_ms=20000\ntarget a/2 %s\n" % (bad.addr, good.addr))
    before = r.memory_kb()
    assert flood(p, lambda: frame(p)) in ([CALM], [])
    until(lambda: r.n("h2_calmed") == 1)
    assert r.get()[2] == b"good"
    assert c.head()[0].startswith("HTTP/1.1 200")
    with pytest.raises((EOFError, ConnectionResetError)):
        c.chunks()
    if not r.sanitized():
        assert r.memory_kb() < before + 4096


@pytest.mark.parametrize("fields", [
    [("content-length", "5"), ("content-length", "6")],
    [("connection", "close")],
    [("transfer-encoding", "chunked")],
    [("upgrade", "h2c")],
    [("keep-alive", "1")],
    [("content-length", "x")],
    [("X-Upper", "1")],
    [("x y", "1")],
    [("x", "a\r\nb: c")],
    [("x", "a\0b")],
    [(":path", "/")],
    [(":status", "200")],
], ids=repr)
@pytest.mark.parametrize("where", ["head", "trailer", "interim"])
def test_fields_that_may_not_be(serve_h2, fields, where):
    def handler(peer, sid):
        if where == "head":
            peer.head(sid, 200, fields)
            peer.data(sid, b"body", True)
        elif where == "interim":
            peer.head(sid, 103, fields)
            peer.reply(sid)
        else:
            peer.head(sid, 200)
            peer.data(sid, b"body")
            peer.send(peer.head_frame(fields, True, sid)[1])

    r, t = serve_h2(handler)
    c = r.connect().send("POST / HTTP/1.1\r\nHost: any\r\nContent-Length: 0\r\nTE: trailers\r\nConnection: te\r\n\r\n")
    if where == "trailer":
        assert c.head()[0].startswith("HTTP/1.1 200")
        with pytest.raises((EOFError, ConnectionResetError)):
            c.chunks()
    else:
        status, f, _ = c.answer()
        assert status == 502 and "x" not in f


@pytest.mark.parametrize("status", ["", "20", "2000", "abc", "99", "101", "600", "-10", "1e1"])
def test_a_status_that_is_none(serve_h2, status):
    r, t = serve_h2(lambda p, sid: p.send(p.head_frame([(":status", status)], True, sid)[1]) and None)
    assert r.connect().send(post("x")).answer()[0] == 502


def test_an_answer_without_a_status(serve_h2):
    r, t = serve_h2(lambda p, sid: p.send(p.head_frame([("x", "y")], True, sid)[1]) and None)
    assert r.connect().send(post("x")).answer()[0] == 502


def test_data_without_a_head(serve_h2):
    r, t = serve_h2(lambda p, sid: p.data(sid, b"x", True) and None)
    assert r.connect().send(post("x")).answer()[0] == 502


@pytest.mark.parametrize("length, body", [(5, b"abc"), (5, b"abcdefgh"), (0, b"abc"), (3, b"")])
def test_a_length_that_is_not_that_of_the_body(serve_h2, length, body):
    """No client may take it for whole, nor what is behind it for the next answer."""
    def handler(peer, sid):
        peer.head(sid, 200, [("content-length", str(length))])
        peer.data(sid, body, True)

    r, t = serve_h2(handler)
    c = r.connect().send(get()).send(get("/next", extra="Connection: close\r\n"))
    got = b""
    try:
        got = c.rest()
    except ConnectionResetError:
        got = c.buf
    assert got.startswith((b"HTTP/1.1 200", b"HTTP/1.1 502"))
    if got.startswith(b"HTTP/1.1 200"):
        head, rest = got.split(b"\r\n\r\n", 1)
        assert len(rest) < length or (length == 0 and rest[:5] in (b"", b"HTTP/"))
        assert b"content-length: %d" % length in head.lower()


def test_data_after_the_end_reaches_nobody(serve_h2):
    def handler(peer, sid):
        peer.whole(sid)
        out = peer.head_frame([(":status", "200")], False, sid)[1]
        peer.send(out + peer.frame(DATA, END_STREAM, sid, b"right") + peer.frame(DATA, 0, sid, b"WRONG"))

    r, t = serve_h2(handler)
    c = r.connect()
    for _ in range(3):
        assert c.send(get()).answer()[2] == b"right"


def test_frames_of_streams_that_are_not(serve_h2):
    def handler(peer, sid):
        peer.send(peer.frame(DATA, 0, sid + 2, b"WRONG") + peer.frame(DATA, 0, 2, b"WRONG"))
        peer.reply(sid)

    r, t = serve_h2(handler)
    assert r.connect().send(post("x")).answer()[0] == 502
    r.until("a/1", "connections", 0)


def test_a_push_that_nobody_wants(serve_h2):
    def handler(peer, sid):
        block = peer.enc.encode(peer.usual())
        peer.send(peer.frame(PUSH, END_HEADERS, sid, struct.pack(">I", 2) + block))
        peer.reply(sid)

    r, t = serve_h2(handler)
    assert r.connect().send(post("x")).answer()[0] == 502


def test_interim_answers_are_bounded(serve_h2):
    def handler(peer, sid):
        for i in range(1000):
            peer.head(sid, 103, [("link", "x" * 100)])
        peer.reply(sid)

    r, t = serve_h2(handler)
    c = r.connect().send(post("x"))
    n = 0
    try:
        while c.head()[0].startswith("HTTP/1.1 103"):
            n += 1
    except (EOFError, ConnectionResetError):
        pass
    assert n <= 18
    r.until("a", "inflight", 0)


def test_an_answer_whose_head_is_too_long(serve_h2):
    def handler(peer, sid):
        if peer.asks(sid)[":path"] == "/long":
            peer.send(long_head(peer, sid))
        else:
            peer.reply(sid)

    r, t = serve_h2(handler, more="threads 1")
    assert r.connect().send(post("x", "/long")).answer()[0] == 502
    assert r.get()[2] == b"ok"  # over the same connection
    assert r.n("a/1")["connects"] == 1


def long_head(p, sid, fields=40):
    """In as many frames as it takes."""
    block = p.enc.encode([(":status", "200")] + [("x-%d" % i, "y" * 1000) for i in range(fields)], huffman=False)
    out, kind = b"", HEADERS
    while block:
        piece, block = block[:16000], block[16000:]
        flags = (END_STREAM if kind == HEADERS else 0) | (0 if block else END_HEADERS)
        out += p.frame(kind, flags, sid, piece)
        kind = CONTINUATION
    return out


def test_a_head_as_long_as_may_be_passes(serve_h2):
    r, t = serve_h2(lambda p, sid: p.send(long_head(p, sid, 29)) and None)
    status, f, body = r.connect().send(get()).answer()
    assert status == 200 and f["x-28"] == ["y" * 1000] and body == b""


def test_a_flood_of_continuations(serve_h2):
    def handler(peer, sid):
        peer.send(peer.frame(HEADERS, 0, sid, peer.enc.encode([(":status", "200")])))
        flood(peer, lambda: peer.frame(CONTINUATION, 0, sid, peer.enc.encode([("x", "y")])) * 100, 1000)
        return False

    r, t = serve_h2(handler)
    assert r.connect().send(post("x")).answer()[0] == 502
    r.until("a/1", "connections", 0)


def test_a_bomb_of_fields(serve_h2):
    """A table of one large field, named thousands of times."""
    def handler(peer, sid):
        peer.enc.header_table_size = 4096
        block = peer.enc.encode([(":status", "200"), ("x", "y" * 3900)])
        one = peer.enc.encode([("x", "y" * 3900)])
        assert len(one) < 4
        peer.send(peer.frame(HEADERS, END_HEADERS | END_STREAM, sid, block + one * 4000))
        peer.ended()
        return False

    r, t = serve_h2(handler)
    before = r.memory_kb()
    assert r.connect().send(post("x")).answer()[0] == 502
    until(lambda: r.n("h2_calmed") == 1)
    if not r.sanitized():
        assert r.memory_kb() < before + 4096


def test_more_than_the_window_allows(serve_h2):
    def handler(peer, sid):
        peer.head(sid)
        for _ in range(200):
            peer.data(sid, b"x" * 16000)
        peer.until(lambda: peer.streams[sid].reset is not None)
        over.set()

    over = threading.Event()
    r, t = serve_h2(handler)
    c = H2(r.port, settings=[(SET_WINDOW, 100)])
    sid = c.ask()
    assert over.wait(WAIT)
    c.send(c.window_frame(sid, 1 << 20))
    s = c.answer(sid)
    assert s.reset is not None and not s.ended and 100 <= len(s.body) < 200000


@pytest.mark.parametrize("data", [b"HTTP/1.1 400 Bad\r\nContent-Length: 0\r\n\r\n", b"\0" * 100, b"\xff" * 100,
                                  b"\0\0\4\1\5\0\0\0\1abcd", b""])
def test_a_target_that_says_something_else(router, target, data):
    bad, good = target(kind=H2Target), target(answer(b"good"), kind=H2Target)
    r = router("threads 1\napp a h2=1 probe_ms=60000\ntarget a/1 %s\ntarget a/2 %s\n" % (bad.addr, good.addr))
    r.until("a/1", "state", 1)
    r.until("a/2", "state", 1)

    def serve(conn):
        conn.sock.recv(65536)
        conn.sock.sendall(data)
        conn.sock.close()

    bad.serve = serve
    for _ in range(6):
        assert r.get()[2] == b"good"
    r.until("a/1", "connections", 0)


def test_a_goaway_at_once(serve_h2):
    """It works on nothing, ever: waits, and is told that there is nobody."""
    r, t = serve_h2(lambda p, sid: p.goaway(0) and None, app="hold_wait_ms=300")
    assert r.connect().send(post("x")).answer()[0] == 503
    r.until("a/1", "connections", 0)
    assert r.n("a/1")["requests"] < 200


@pytest.mark.parametrize("last", [0x7fffffff, 5])
def test_a_goaway_that_takes_back_what_it_said(serve_h2, last):
    def handler(peer, sid):
        peer.goaway(1).goaway(last)
        peer.reply(sid)

    r, t = serve_h2(handler)
    assert r.connect().send(post("x")).answer()[0] in (200, 502)
    assert len(t.seen) == 1
    r.until("a/1", "connections", 0)


def test_a_target_that_takes_nothing(serve_h2):
    """Windows of nothing: the response's limit ends it."""
    r, t = serve_h2(app="response_ms=300", settings=[(SET_WINDOW, 0)], more="threads 1")
    p = None
    for _ in range(3):
        c = r.connect().send(post("x" * 100))
        p = p or t.peer()
        assert c.answer()[0] == 504
    p.until(lambda: sum(s.reset == CANCEL for s in p.streams.values()) == 3)
    assert r.n("a/1")["inflight"] == 0


def test_a_window_that_overflows(serve_h2):
    def handler(peer, sid):
        peer.send(peer.window_frame(sid, 0x7fffffff) + peer.window_frame(0, 0x7fffffff))

    r, t = serve_h2(handler)
    assert r.connect().send(post("x")).answer()[0] == 502
    r.until("a/1", "connections", 0)


def test_a_target_that_does_not_end_its_streams(serve_h2):
    """What was told by a length is whole all the same, and what never ends is ended here."""
    def handler(peer, sid):
        peer.whole(sid)
        peer.head(sid, 200, [("content-length", "2")])
        peer.data(sid, b"ok")

    r, t = serve_h2(handler, more="threads 1")
    c = r.connect()
    for _ in range(600):
        assert c.send(get()).answer()[2] == b"ok"
    r.until("a/1", "inflight", 0)
    assert r.n("a/1")["connects"] <= 3


def test_frames_cut_anywhere(serve_h2):
    """However the bytes come, the answer is the same."""
    def handler(peer, sid):
        peer.whole(sid)
        out = peer.head_frame([(":status", "103"), ("a", "b")], False, sid)[1]
        out += peer.head_frame([(":status", "200"), ("c", "d")], False, sid)[1]
        out += peer.frame(DATA, 0, sid, b"hello") + peer.frame(DATA, 8, sid, b"\3 you\0\0\0")
        out += peer.head_frame([("x-sum", "1")], True, sid)[1]
        for i in range(len(out)):
            peer.send(out[i:i + 1])

    r, t = serve_h2(handler)
    c = r.connect().send("GET / HTTP/1.1\r\nHost: any\r\nTE: trailers\r\nConnection: te\r\n\r\n")
    assert c.head()[1] == {"a": ["b"]}
    assert c.head()[1] == {"c": ["d"], "transfer-encoding": ["chunked"]}
    assert c.chunks() == (b"hello you", [b"x-sum: 1\r\n"])
