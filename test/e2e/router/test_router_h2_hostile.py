# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 clients that mean harm: what they do stays bounded, and what is refused reaches no target."""
import os
import threading

import pytest
from h2_kit import (ACK, CALM, CONTINUATION, DATA, END_HEADERS, END_STREAM, H2, HEADERS, NO_ERROR, PING, PREFACE,
                    PRIORITY, PROTOCOL_ERROR, SET_WINDOW, SETTINGS, Stream)
from router_kit import ok, until

SANITIZED = "asan" in os.environ.get("ROUTER_HOST", "")


def flood(c, data, times):
    """Sends until the other side has had enough; the error codes of its GOAWAYs."""
    def write():
        try:
            for _ in range(times):
                c.send(data())
        except OSError:
            pass

    writer = threading.Thread(target=write)
    writer.start()
    codes = c.ended()
    writer.join()
    return codes


def calmed(r, c, data, times=20000):
    other = H2(r.port)
    assert other.get().status == 200
    before = r.memory_kb()
    codes = flood(c, data, times)
    # A reset may take the last word with it on its way: we close with bytes unread.
    assert codes in ([CALM], [])
    until(lambda: r.n("h2_calmed") == 1)
    assert other.get().status == 200  # nobody else notices
    other.close()
    until(lambda: r.n("clients") == 0)
    assert SANITIZED or r.memory_kb() - before < 8000
    assert r.n("a")["inflight"] == 0


def test_rapid_reset(serve):
    r, t = serve()
    c = H2(r.port)

    def one():
        sid, data = c.head_frame(c.usual())
        return data + c.rst_frame(sid)

    calmed(r, c, one)
    assert len(t.seen) < 600


def test_rapid_reset_in_one_write_starts_nothing(serve):
    r, t = serve()
    c = H2(r.port)
    data = b""
    for _ in range(150):
        sid, head = c.head_frame(c.usual())
        data += head + c.rst_frame(sid)
    c.send(data)
    assert c.get().status == 200
    assert len(t.seen) < 50


def test_resets_that_the_client_makes_us_send(serve):
    r, t = serve()
    c = H2(r.port)

    with pytest.raises(AssertionError, match="the connection ended"):
        for _ in range(100):  # no more at a time than streams may be there
            c.send(b"".join(c.head_frame(c.usual() + [("X-Upper", "1")])[1] for _ in range(50)))
            c.ping()
    assert [code for _, code in c.goaways] == [CALM] and r.n("h2_calmed") == 1
    assert len([s for s in c.streams.values() if s.reset == PROTOCOL_ERROR]) >= 200 and not t.seen


def test_continuation_flood(serve):
    r, t = serve()
    c = H2(r.port)
    c.send(c.frame(HEADERS, END_STREAM, 1, b""))
    codes = flood(c, lambda: c.frame(CONTINUATION, 0, 1, b"\x00\x01x\x01y" * 3000), 2000)
    assert NO_ERROR not in codes and not t.seen
    until(lambda: r.n("clients") == 0)


def test_hpack_bomb(serve):
    r, t = serve()
    c = H2(r.port)
    big = [("x-big", "b" * 3000)]
    block = c.enc.encode(c.usual() + big, huffman=False)
    index = c.enc.encode(big)
    assert len(index) == 1
    before = r.memory_kb()
    c.send(c.frame(HEADERS, END_STREAM, 1, block + index * 10000) +
           c.frame(CONTINUATION, END_HEADERS, 1, index * 10000))
    assert c.ended() in ([CALM], []) and not t.seen
    assert r.n("h2_calmed") == 1
    assert SANITIZED or r.memory_kb() - before < 4000


def test_fields_beyond_the_bounds_are_answered_with_431_and_414(serve):
    r, t = serve()
    c = H2(r.port)
    for fields, path, status in (([("x-big", "b" * 12000), ("x-more", "b" * 5000)], "/", 431),
                                 ([("x-%d" % i, "") for i in range(110)], "/", 431),
                                 ([], "/" + "a" * 20000, 414)):
        block = c.enc.encode(c.usual(path=path) + fields, huffman=False)
        sid, c.next = c.next, c.next + 2
        c.streams[sid] = Stream()
        c.send(c.frame(HEADERS, END_STREAM | (END_HEADERS if len(block) <= 16384 else 0), sid, block[:16384]))
        if len(block) > 16384:
            c.send(c.frame(CONTINUATION, END_HEADERS, sid, block[16384:]))
        assert c.answer(sid).status == status
    assert not t.seen and r.n("bad_requests") == 3
    assert c.get().status == 200


def test_settings_flood(serve):
    r, t = serve()
    c = H2(r.port)
    calmed(r, c, lambda: c.frame(SETTINGS, 0, 0, b"\0\3\0\0\0\1" * 20))


def test_ping_flood(serve):
    r, t = serve()
    c = H2(r.port)
    calmed(r, c, lambda: c.frame(PING, 0, 0, b"12345678") * 20)


def test_ping_flood_by_a_client_that_does_not_read(serve):
    r, t = serve()
    c = H2(r.port)
    before = r.memory_kb()
    try:
        for _ in range(3000):
            c.send(c.frame(PING, 0, 0, b"12345678") * 50)
    except OSError:
        pass
    until(lambda: r.n("clients") == 0)
    assert SANITIZED or r.memory_kb() - before < 4000


def test_priority_flood(serve):
    r, t = serve()
    c = H2(r.port)
    calmed(r, c, lambda: b"".join(c.frame(PRIORITY, 0, i, b"\0\0\0\0\x10") for i in range(3, 103, 2)))


def test_unknown_frames_are_passed_over_and_keep_nothing_alive(serve):
    r, t = serve(more="limit idle_ms=500")
    c = H2(r.port)
    c.send(c.frame(0x77, 0xff, 7, b"x" * 100) * 1000)
    assert c.get().status == 200
    assert flood(c, lambda: c.frame(0x77, 0, 0, b""), 10**7) in ([NO_ERROR, NO_ERROR], [])


def test_window_update_flood(serve):
    r, t = serve()
    c = H2(r.port, window=0)
    calmed(r, c, lambda: c.window_frame(0, 1) * 20)


def test_flood_of_empty_data(serve):
    r, t = serve(lambda c, line, f: ok() if line.startswith("GET") else ok(c.body(f)))
    c = H2(r.port)
    sid = c.ask(end=False, method="POST")
    calmed(r, c, lambda: c.frame(DATA, 0, sid, b"") * 20)


def test_empty_data_in_padding(serve):
    r, t = serve(lambda c, line, f: ok() if line.startswith("GET") else ok(c.body(f)))
    c = H2(r.port)
    sid = c.ask(end=False, method="POST")
    calmed(r, c, lambda: c.frame(DATA, 8, sid, b"\x0a" + bytes(10)) * 10)


def test_a_window_that_opens_by_single_bytes(serve):
    r, t = serve(lambda c, line, f: ok(b"x" * (1 if line.startswith("GET / ") else 100000)))
    c = H2(r.port, settings=[(SET_WINDOW, 0)], auto=False)
    sid = c.ask(path="/big")
    c.head(sid)
    calmed(r, c, lambda: c.window_frame(sid, 1) * 10)


def test_streams_that_are_left_half_open_run_out_of_time(serve):
    r, t = serve(lambda c, line, f: ok(c.body(f)), app="body_ms=500")
    c = H2(r.port)
    sids = [c.ask([("content-length", "10")], end=False, method="POST") for _ in range(20)]
    assert [c.answer(s).status for s in sids] == [408] * 20
    assert c.get().status == 200


def test_a_head_that_does_not_end_runs_out_of_time(serve):
    r, t = serve(more="limit header_ms=300")
    c = H2(r.port).ping()
    c.send(c.frame(HEADERS, END_STREAM, 1, c.enc.encode(c.usual())))
    assert c.ended() == [CALM]
    until(lambda: r.n("clients") == 0)


def test_a_preface_that_does_not_end_runs_out_of_time(serve):
    r, t = serve(more="limit header_ms=300 idle_ms=300")
    for n in (10, 17, 18, 23, 24):
        c = r.connect()
        c.send(PREFACE[:n])
        c.rest()
    until(lambda: r.n("clients") == 0)


def fields(**changed):
    base = {"method": "GET", "scheme": "http", "authority": "any", "path": "/"}
    base.update(changed)
    return [(":" + k, v) for k, v in base.items() if v is not None]


WRONG = {
    "upper case": fields() + [("X-Up", "1")],
    "space in a name": fields() + [("x up", "1")],
    "colon in a name": fields() + [("x:up", "1")],
    "line end in a name": fields() + [("x\r\ny", "1")],
    "no name": fields() + [("", "1")],
    "line end in a value": fields() + [("x", "1\r\ny: 2")],
    "LF in a value": fields() + [("x", "1\ny: 2")],
    "CR in a value": fields() + [("x", "1\ry: 2")],
    "NUL in a value": fields() + [("x", "1\0")],
    "control byte in a value": fields() + [("x", "\1")],
    "space before a value": fields() + [("x", " 1")],
    "transfer-encoding": fields() + [("transfer-encoding", "chunked")],
    "transfer-encoding in a POST": fields(method="POST") + [("transfer-encoding", "chunked")],
    "connection": fields() + [("connection", "close")],
    "keep-alive": fields() + [("keep-alive", "1")],
    "proxy-connection": fields() + [("proxy-connection", "close")],
    "upgrade": fields() + [("upgrade", "h2c")],
    "te": fields() + [("te", "gzip")],
    "two lengths": fields() + [("content-length", "0"), ("content-length", "0")],
    "a length that is none": fields() + [("content-length", "+0")],
    "a list of lengths": fields() + [("content-length", "0, 0")],
    "two authorities": fields() + [(":authority", "other")],
    "two paths": fields() + [(":path", "/x")],
    "pseudo field behind others": fields(path=None) + [("x", "1"), (":path", "/")],
    "unknown pseudo field": fields() + [(":version", "2")],
    "pseudo field of answers": fields() + [(":status", "200")],
    "no method": fields(method=None),
    "no path": fields(path=None),
    "no scheme": fields(scheme=None),
    "no authority": fields(authority=None),
    "empty path": fields(path=""),
    "path of a URI": fields(path="http://any/"),
    "path without a slash": fields(path="x"),
    "space in the path": fields(path="/a HTTP/1.1"),
    "line end in the path": fields(path="/ HTTP/1.1\r\nx: y"),
    "tab in the path": fields(path="/\t"),
    "fragment": fields(path="/#a"),
    "star": fields(path="*"),
    "method with a space": fields(method="GET /x"),
    "method with a line end": fields(method="GET\r\n"),
    "scheme": fields(scheme="ftp"),
    "user in the authority": fields(authority="me@any"),
    "space in the authority": fields(authority="any other"),
    "comma in the authority": fields(authority="any,other"),
    "another Host": fields() + [("host", "other")],
    "two Hosts": fields(authority=None) + [("host", "any"), ("host", "any")],
    "websocket that is no CONNECT": fields() + [(":protocol", "websocket")],
    "another protocol": fields(method="CONNECT") + [(":protocol", "connect-udp")],
}


@pytest.mark.parametrize("what", WRONG)
def test_what_is_malformed_reaches_no_target(serve, what):
    r, t = serve()
    c = H2(r.port)
    sid = c.ask(whole=WRONG[what])
    s = c.answer(sid)
    assert s.reset == PROTOCOL_ERROR or s.status == 400
    assert c.get("/after").status == 200
    assert t.paths() == ["/after"]


@pytest.mark.parametrize("length, body", [(5, b""), (5, b"abc"), (5, b"abcdefGET / HTTP/1.1\r\nHost: any\r\n\r\n")])
def test_a_body_of_another_length_is_an_error_and_no_second_request(serve, length, body):
    def handler(c, line, f):
        return ok(c.body(f))

    r, t = serve(handler)
    c = H2(r.port)
    sid, head = c.head_frame(c.usual(method="POST", path="/first") + [("content-length", str(length))], end=False)
    c.send(head + c.frame(DATA, END_STREAM, sid, body))
    s = c.answer(sid)
    assert s.reset == PROTOCOL_ERROR
    assert c.get("/after").status == 200
    assert [p for p in t.paths() if p != "/first"] == ["/after"]
    sid = c.ask([("content-length", "5")], end=True, method="POST", path="/ended")
    assert c.answer(sid).reset == PROTOCOL_ERROR
    assert "/ended" not in t.paths()


def test_trailers_cannot_say_what_heads_say(serve):
    answers = []

    def handler(c, line, f):
        if line.startswith("GET"):
            return ok()
        answers.append(c.chunks())
        return ok()

    r, t = serve(handler)
    c = H2(r.port)
    for name, value in (("content-length", "3"), ("host", "other"), ("transfer-encoding", "chunked"),
                        ("connection", "close"), (":path", "/x"), ("x", "a\r\nb: c")):
        sid = c.ask(end=False, method="POST", path="/first")
        c.data(sid, b"abc")
        c.trailers(sid, [(name, value)])
        s = c.answer(sid)
        assert s.reset == PROTOCOL_ERROR or s.status == 400, name
    assert c.get("/after").status == 200
    assert not answers


@pytest.mark.parametrize("frames", [
    H2.frame(DATA, 0, 1, b"x"),  # of a stream that is not there
    H2.frame(HEADERS, END_HEADERS, 2, b"\x82"),  # an even number
    H2.frame(HEADERS, END_HEADERS, 0, b"\x82"),
    H2.frame(HEADERS, END_HEADERS, 1, b"\xff\xff\xff\xff\xff\xff\xff"),  # a bad block
    H2.frame(CONTINUATION, END_HEADERS, 1, b""),
    H2.frame(5, END_HEADERS, 1, b"\0\0\0\2"),  # a push from a client
    H2.frame(SETTINGS, 0, 0, b"\0\4\xff\xff\xff\xff"),
    H2.frame(SETTINGS, 0, 0, b"\0"),
    H2.frame(SETTINGS, ACK, 0, b"\0\0\0\0\0\0"),
    H2.frame(PING, 0, 0, b"short"),
    H2.window_frame(H2, 0, 2**31 - 1) * 2,
    b"\xff\xff\xff\0\0\0\0\0\1",  # a frame of 16 MB
    b"GET / HTTP/1.1\r\nHost: any\r\n\r\n",
])
def test_wrong_frames_end_the_connection(serve, frames):
    r, t = serve()
    c = H2(r.port)
    c.send(frames)
    codes = c.ended()
    assert codes and NO_ERROR not in codes
    c.close()
    until(lambda: r.n("clients") == 0)
    assert not t.seen


def test_idle_connections_stay_small(serve):
    r, t = serve(more="threads 1")
    clients = [H2(r.port).ping() for _ in range(50)]  # what the thread needs once
    before = r.memory_kb()
    clients += [H2(r.port).ping() for _ in range(400)]
    assert SANITIZED or r.memory_kb() - before < 400 * 12
    assert all(c.get().status == 200 for c in clients[::20])


def test_open_streams_stay_within_their_memory(serve):
    go = threading.Event()
    r, t = serve(lambda c, line, f: go.wait() and ok(), app="target_limit=0", more="threads 1")
    c = H2(r.port).ping()
    assert r.n("clients") == 1
    before = r.memory_kb()
    sids = [c.ask(path="/%d" % i) for i in range(100)]
    until(lambda: len(t.seen) == 100)
    assert SANITIZED or r.memory_kb() - before < 100 * 24
    go.set()
    assert all(c.answer(s).status == 200 for s in sids)
