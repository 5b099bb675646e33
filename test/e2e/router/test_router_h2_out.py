# SPDX-License-Identifier: Apache-2.0
"""Targets that speak HTTP/2, for users who speak either."""
import os
import signal
import threading

import pytest
from h2_kit import (CANCEL, DATA, END_STREAM, H2, INTERNAL_ERROR, NO_ERROR, REFUSED_STREAM, SET_STREAMS,
                    SET_WINDOW)
from h2_target import H2Target, answer
from router_kit import get, ok, post, until

GRPC = [("content-type", "application/grpc"), ("te", "trailers")]
CHUNKED = "POST / HTTP/1.1\r\nHost: any\r\nTransfer-Encoding: chunked\r\n"


def stop(r):
    """And waits until all of its threads are."""
    os.kill(r.pid, signal.SIGSTOP)
    tasks = ["/proc/%d/task/%s/stat" % (r.pid, t) for t in os.listdir("/proc/%d/task" % r.pid)]
    until(lambda: all(open(t).read().rsplit(")", 1)[1].split()[0] == "T" for t in tasks))


def test_a_request_of_http1_becomes_one_of_http2(serve_h2):
    r, t = serve_h2(answer(b"hello", fields=[("x-word", "One"), ("content-length", "5")]))
    c = r.connect()
    c.send("GET /a?b=c HTTP/1.1\r\nHost: Any.example:80\r\nX-One: A b\r\nConnection: x-gone\r\nX-Gone: 1\r\n"
           "Cookie: a=1; b=2\r\nUpgrade: h2c\r\nKeep-Alive: 5\r\nTE: gzip\r\n\r\n")
    line, f = c.head()
    assert line == "HTTP/1.1 200 OK" and f == {"x-word": ["One"], "content-length": ["5"]}
    assert c.read(5) == b"hello"
    fields = t.seen[0][1]
    assert list(fields)[:4] == [":method", ":scheme", ":authority", ":path"]
    assert [fields[n] for n in list(fields)[:4]] == ["GET", "http", "Any.example:80", "/a?b=c"]
    assert (fields["x-one"], fields["cookie"], fields["x-forwarded-for"]) == ("A b", "a=1; b=2", "127.0.0.1")
    assert not {"host", "connection", "x-gone", "upgrade", "keep-alive", "te", "transfer-encoding"} & set(fields)
    r.until("a/1", "inflight", 0)
    n = r.n("a/1")
    assert (n["answered_2xx"], n["requests"], n["connects"]) == (1, 1, 1)
    c.send(get("/next"))
    assert c.answer()[2] == b"hello"
    n = r.n("a/1")
    assert (n["connects"], n["reused"], n["connections"]) == (1, 1, 1)


def test_a_call_of_grpc_comes_back_with_its_trailer(serve_h2):
    r, t = serve_h2(answer(b"reply", fields=[("content-type", "application/grpc")],
                           trailer=[("grpc-status", "5"), ("grpc-message", "no")]))
    c = H2(r.port)
    sid = c.ask(fields=GRPC + [("grpc-timeout", "5S"), ("x-bin", "AA==")], end=False, method="POST", path="/s.S/M")
    c.data(sid, b"ask", True)
    s = c.answer(sid)
    assert (s.status, s.body, s.reset) == (200, b"reply", None)
    assert s.trailer == [("grpc-status", "5"), ("grpc-message", "no")]
    fields = t.seen[0][1]
    assert (fields["te"], fields["content-type"], fields["grpc-timeout"]) == ("trailers", "application/grpc", "5S")


def test_an_answer_may_be_a_trailer_alone(serve_h2):
    r, t = serve_h2(answer(b"", fields=[("content-type", "application/grpc"), ("grpc-status", "12")]))
    c = H2(r.port)
    sid = c.ask(fields=GRPC, end=False, method="POST")
    c.data(sid, b"ask", True)
    s = c.answer(sid)
    assert s.status == 200 and s.fields["grpc-status"] == ["12"] and s.trailer is None and s.body == b""


def test_a_trailer_goes_both_ways_for_http1_too(serve_h2):
    def handler(peer, sid):
        s = peer.whole(sid)
        peer.reply(sid, s.body, trailer=s.trailer)

    r, t = serve_h2(handler)
    c = r.connect()
    c.send(CHUNKED + "Connection: te\r\nTE: trailers\r\n\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n")
    assert "transfer-encoding" in c.head()[1]
    assert c.chunks() == (b"abc", [b"x-sum: 7\r\n"])
    c.send(CHUNKED + "\r\n3\r\nabc\r\n0\r\nX-Sum: 7\r\n\r\n")  # nobody wants to hear it
    c.head()
    assert c.chunks() == (b"abc", [])


@pytest.mark.parametrize("http2", [False, True])
def test_answers_without_a_body(serve_h2, http2):
    def handler(peer, sid):
        status = int(peer.asks(sid)[":path"][1:])
        length = [("content-length", "99")] if status != 204 else []
        peer.head(sid, status, length + [("x-a", "b")], end=status != 304)
        if status == 304:
            peer.data(sid, b"", True)

    r, t = serve_h2(handler)
    c = H2(r.port) if http2 else r.connect()
    for method, path in (("HEAD", "/200"), ("GET", "/204"), ("GET", "/304")):
        if http2:
            s = c.get(path, method=method)
            assert (s.status, s.body, s.fields["x-a"]) == (int(path[1:]), b"", ["b"])
        else:
            c.send("%s %s HTTP/1.1\r\nHost: any\r\n\r\n" % (method, path))
            line, f = c.head()
            assert line.split()[1] == path[1:] and "transfer-encoding" not in f and f["x-a"] == ["b"]
            assert f.get("content-length") == (None if path == "/204" else ["99"])
    r.until("a/1", "inflight", 0)
    assert r.n("a/1")["connects"] == 1


def test_an_empty_answer_has_a_length_for_http1(serve_h2):
    r, t = serve_h2(answer(b""))
    c = r.connect()
    for _ in range(2):
        assert c.send(get()).head()[1] == {"content-length": ["0"]}


def test_interim_answers_are_passed_on(serve_h2):
    def handler(peer, sid):
        peer.head(sid, 103, [("link", "</a>")]).head(sid, 103, [("link", "</b>")])
        peer.reply(sid, b"last")

    r, t = serve_h2(handler)
    c = r.connect().send(get())
    assert c.head()[1] == {"link": ["</a>"]} and c.head()[1] == {"link": ["</b>"]}
    assert c.answer()[2] == b"last"
    s = H2(r.port).get()
    assert [dict(h)[":status"] for h in s.heads] == ["103", "103", "200"] and s.body == b"last"
    assert r.n("a/1")["answered_1xx"] == 4


def test_who_expects_to_be_told_to_go_on_is_told(serve_h2):
    def handler(peer, sid):
        peer.head(sid, 100)
        peer.reply(sid, peer.whole(sid).body)

    r, t = serve_h2(handler)
    c = r.connect().send("POST / HTTP/1.1\r\nHost: any\r\nContent-Length: 3\r\nExpect: 100-continue\r\n\r\n")
    assert c.head()[0].startswith("HTTP/1.1 100")
    assert c.send("abc").answer()[2] == b"abc"


def test_both_sides_may_speak_at_once(serve_h2):
    def handler(peer, sid):
        s = peer.streams[sid]
        peer.head(sid)
        for n in range(1, 6):
            peer.until(lambda: len(s.body) == n)
            peer.data(sid, s.body[-1:] * 2)
        peer.until(lambda: s.ended)
        peer.send(peer.head_frame([("grpc-status", "0")], True, sid)[1])

    r, t = serve_h2(handler)
    c = H2(r.port)
    sid = c.ask(fields=GRPC, end=False, method="POST")
    s = c.streams[sid]
    c.head(sid)
    for n, letter in enumerate(b"abcde"):
        c.data(sid, bytes([letter]))
        c.until(lambda: len(s.body) == 2 * n + 2)
    c.data(sid, b"", True)
    assert c.answer(sid).body == b"aabbccddee" and s.trailer == [("grpc-status", "0")]


def test_the_answer_may_end_before_the_request_does(serve_h2):
    r, t = serve_h2()
    c = H2(r.port)
    sid = c.ask(fields=GRPC, end=False, method="POST")
    c.data(sid, b"first")
    p = t.peer()
    one = p.request()
    p.until(lambda: p.streams[one].body == b"first")
    p.reply(one, b"enough", trailer=[("grpc-status", "9")])
    s = c.answer(sid)
    assert (s.body, s.trailer) == (b"enough", [("grpc-status", "9")])
    assert p.whole(one).reset == CANCEL and not p.streams[one].ended
    sid = c.ask(path="/2")
    p.reply(p.request(1), b"second")
    assert c.answer(sid).body == b"second"
    assert r.n("a/1")["connects"] == 1 and r.n("a")["failed_cut"] == 0


def test_an_answer_may_end_with_a_reset_that_means_no_harm(serve_h2):
    def handler(peer, sid):
        peer.until(lambda: peer.streams[sid].body)
        peer.reply(sid, b"enough")
        peer.reset(sid, NO_ERROR)

    r, t = serve_h2(handler)
    c = H2(r.port)
    sid = c.ask(end=False, method="POST")
    c.data(sid, b"first")
    assert c.answer(sid).body == b"enough"
    r.until("a", "answered_2xx", 1)
    assert r.n("a")["failed_cut"] == 0


@pytest.mark.parametrize("http2", [False, True])
@pytest.mark.parametrize("length", [False, True])
def test_large_bodies_pass_in_both_directions(serve_h2, http2, length):
    def handler(peer, sid):
        body = peer.whole(sid).body
        peer.head(sid, fields=[("content-length", str(len(body)))] if length else [])
        for at in range(0, len(body), 16000):
            peer.until(lambda: peer.windows.get(sid, 0) + 65535 >= at + 16000)
            peer.until(lambda: peer.windows.get(0, 0) + 65535 >= at + 16000)
            peer.data(sid, body[at:at + 16000])
        peer.data(sid, b"", True)

    r, t = serve_h2(handler)
    body = bytes(range(256)) * 8000
    if http2:
        c = H2(r.port)
        sid = c.ask([("content-length", str(len(body)))] if length else [], end=False, method="POST")
        for at in range(0, len(body), 16000):
            c.until(lambda: c.windows.get(sid, 0) + 65535 >= at + 16000 and c.windows.get(0, 0) + 65535 >= at + 16000)
            c.data(sid, body[at:at + 16000])
        c.data(sid, b"", True)
        assert c.answer(sid).body == body
        return
    c = r.connect()
    if length:
        c.send(b"POST / HTTP/1.1\r\nHost: any\r\nContent-Length: %d\r\n\r\n" % len(body) + body)
    else:
        c.send(CHUNKED + "\r\n").send(b"%x\r\n" % len(body) + body + b"\r\n0\r\n\r\n")
    assert c.answer()[2] == body


# --- connections ---

def test_many_requests_at_once_share_a_connection(serve_h2):
    r, t = serve_h2(more="threads 1")
    c = H2(r.port)
    sids = [c.ask(path="/%d" % i) for i in range(50)]
    p = t.peer()
    p.request(49)
    for one in reversed(p.asked):
        p.reply(one, p.asks(one)[":path"].encode())
    for i, sid in enumerate(sids):
        assert c.answer(sid).body == b"/%d" % i
    assert r.n("a/1")["connects"] == 1
    r.until("a/1", "inflight", 0)


def test_as_many_streams_as_the_target_allows(serve_h2):
    """One after the other, so that each connection has told how many it takes."""
    r, t = serve_h2(more="threads 1", settings=[(SET_STREAMS, 2)])
    c = H2(r.port)
    sids, peers = [], []
    for i in range(6):
        sids.append(c.ask(path="/%d" % i))
        if i % 2 == 0:
            peers.append(t.peer())
        peers[-1].request(i % 2)
        peers[-1].ping()
    assert [len(p.asked) for p in peers] == [2, 2, 2]
    for p in reversed(peers):
        for one in p.asked:
            p.reply(one, p.asks(one)[":path"].encode())
    assert [c.answer(sid).body for sid in sids] == [b"/%d" % i for i in range(6)]
    assert r.n("a/1")["connects"] == 3


def test_what_a_new_connection_refuses_is_sent_again(serve_h2):
    """Its limit is not known before its SETTINGS are here."""
    def handler(peer, sid):
        peer.whole(sid)
        if 3 <= len(t.seen) <= 30:
            peer.reset(sid, REFUSED_STREAM)
        else:
            peer.reply(sid, peer.streams[sid].body)

    r, t = serve_h2(handler, more="threads 1")
    c = H2(r.port)
    sids, out = [], b""
    for i in range(30):
        sid, head = c.head_frame(c.usual("POST"), False)
        sids.append(sid)
        out += head + c.frame(DATA, END_STREAM, sid, b"%d" % sid)
    c.send(out)
    assert [c.answer(sid).body for sid in sids] == [b"%d" % sid for sid in sids]
    assert r.n("a")["retried_unread"] > 0 and r.n("a")["failed_502"] == 0


def test_the_number_of_connections_is_bounded(serve_h2):
    r, t = serve_h2(more="threads 1", settings=[(SET_STREAMS, 1)])
    c = H2(r.port)
    sids, peers = [], []
    for i in range(16):  # one by one, so that each connection has told its limit
        sids.append(c.ask(path="/%d" % i))
        p = t.peer()
        p.request()
        p.ping()
        peers.append(p)
    late = c.ask(path="/late")
    r.until("a", "waiting", 1)
    assert r.n("a/1")["connects"] == 16
    peers[7].reply(peers[7].request())
    assert c.answer(sids[7]).body == b"ok"
    peers[7].reply(peers[7].request(1), b"late")
    assert c.answer(late).body == b"late"
    for i, p in enumerate(peers):
        if i != 7:
            p.reply(p.request())
            assert c.answer(sids[i]).body == b"ok"


def test_a_limit_of_the_app_holds_for_streams(serve_h2):
    r, t = serve_h2(app="target_limit=2")
    c = H2(r.port)
    sids = [c.ask(path="/%d" % i) for i in range(3)]
    p = t.peer()
    p.request(1)
    r.until("a", "waiting", 1)
    assert r.n("a/1")["inflight"] == 2
    p.reply(p.request(0))
    p.request(2)
    p.reply(p.request(1)).reply(p.request(2))
    assert all(c.answer(sid).status == 200 for sid in sids)


# --- what a target says it does not work on ---

def test_streams_above_the_last_of_a_goaway_go_elsewhere_posts_too(serve_h2):
    r, t = serve_h2(more="threads 1")
    c = H2(r.port)
    sids = []
    for i in range(3):
        sids.append(c.ask(end=False, method="POST", path="/%d" % i))
        c.data(sids[i], b"body%d" % i, True)
    p = t.peer()
    for i in range(3):
        p.whole(p.request(i))
    p.goaway(p.asked[0])
    q = t.peer()
    for i in range(2):
        s = q.whole(q.request(i))
        q.reply(q.asked[i], s.body)
    assert [c.answer(sid).body for sid in sids[1:]] == [b"body1", b"body2"]
    p.reply(p.asked[0], b"late")
    assert c.answer(sids[0]).body == b"late"
    assert p.ended() in ([], [NO_ERROR])  # it was the last on this connection
    n = r.n("a")
    assert n["retried_unread"] == 2 and n["failed_502"] == 0 and r.n("a/1")["tries_failed"] == 0
    r.until("a/1", "connections", 1)


def test_a_refused_post_is_sent_again(serve_h2):
    r, t = serve_h2(more="threads 1")
    c = r.connect().send(post("once"))
    p = t.peer()
    assert p.whole(p.request()).body == b"once"
    p.reset(p.asked[0], REFUSED_STREAM)
    assert p.whole(p.request(1)).body == b"once"
    p.reply(p.asked[1], b"done")
    assert c.answer()[2] == b"done"
    assert r.n("a")["retried_unread"] == 1 and r.n("a/1")["tries_failed"] == 0 and r.n("a/1")["connects"] == 1


def test_what_was_refused_is_sent_again_only_while_all_of_it_is_here(serve_h2):
    r, t = serve_h2(more="threads 1")
    c = H2(r.port)
    short, long = c.ask(end=False, method="POST"), c.ask(end=False, method="POST", path="/long")
    p = t.peer()
    for i in range(3):
        c.data(short, b"piece%d" % i)
        p.until(lambda: len(p.streams[p.request()].body) == 6 * (i + 1))
    c.data(long, b"x" * 5000)
    p.until(lambda: p.streams[p.request(1)].body)
    for one in p.asked[:2]:
        p.reset(one, REFUSED_STREAM)
    assert c.answer(long).status == 502
    two = p.request(2)
    c.data(short, b"last", True)
    assert p.whole(two).body == b"piece0piece1piece2last"
    p.reply(two)
    assert c.answer(short).body == b"ok"


def test_what_was_refused_while_more_of_it_came(serve_h2):
    """The piece in hand, which is too large to be kept, stands behind what is sent again."""
    r, t = serve_h2(more="threads 1")
    body = bytes(range(256)) * 100
    c = r.connect().send(b"POST / HTTP/1.1\r\nHost: any\r\nContent-Length: %d\r\n\r\n" % len(body))
    p = t.peer()
    one = p.request()
    p.ping()
    stop(r)  # so that both come in one turn
    p.reset(one, REFUSED_STREAM)
    c.send(body)
    os.kill(r.pid, signal.SIGCONT)
    until(lambda: r.n("a")["retried_unread"] + r.n("a")["failed_502"])
    if r.n("a")["failed_502"]:
        assert c.answer()[0] == 502  # it came first, and some of it went out
        return
    two = p.request(1)
    assert p.whole(two).body == body
    p.reply(two)
    assert c.answer()[2] == b"ok"


def test_who_refuses_for_ever_is_not_asked_for_ever(serve_h2):
    r, t = serve_h2(lambda p, sid: p.reset(sid, REFUSED_STREAM) and None, app="hold_wait_ms=300")
    assert r.connect().send(post("x")).answer()[0] == 503
    assert r.n("a/1")["requests"] < 100  # at the pace of the waiting room


def test_a_post_that_was_reset_may_have_been_executed(serve_h2):
    r, t = serve_h2(lambda p, sid: p.whole(sid) and p.reset(sid, INTERNAL_ERROR) and None)
    assert r.connect().send(post("once")).answer()[0] == 502
    assert len(t.seen) == 1 and r.n("a/1")["failed_502"] == 1


def test_a_get_that_was_reset_is_tried_once_more(router, target):
    bad = target(lambda p, sid: p.reset(sid, INTERNAL_ERROR) and None, kind=H2Target)
    good = target(answer(b"good"), kind=H2Target)
    r = router("app a h2=1\ntarget a/1 %s\ntarget a/2 %s\n" % (bad.addr, good.addr))
    r.until("a/1", "state", 1)
    r.until("a/2", "state", 1)
    for _ in range(4):
        assert r.get() == (200, {"transfer-encoding": ["chunked"]}, b"good")
    assert r.n("a")["retried_safe"] == len(bad.seen) > 0


@pytest.mark.parametrize("tcp", [False, True])
def test_a_connection_that_breaks_takes_its_posts_with_it(router, target, tcp):
    came = []

    def die(peer, sid):
        peer.request(1)
        came.extend(peer.asked)
        peer.sock.close()
        return False

    bad = target(die, kind=H2Target, tcp=tcp)
    r = router("threads 1\napp a h2=1\ntarget a/1 %s\n" % bad.addr)
    r.until("a/1", "state", 1)
    one, two = r.connect().send(post("a")), r.connect().send(post("b"))
    assert one.answer()[0] == 502 and two.answer()[0] == 502
    assert r.n("a/1")["failed_502"] == 2 and len(came) == 2
    r.until("a/1", "connections", 0)


def test_what_could_not_be_written_was_not_sent(serve_h2):
    """The target ends an idle connection, and a POST comes, in one turn."""
    r, t = serve_h2(answer(b"once"), more="threads 1")
    for i in range(30):
        c = r.connect()
        assert c.send(get()).answer()[0] == 200
        r.until("a/1", "inflight", 0)
        stop(r)
        c.send(post("x"))
        with t.lock:
            conns, t.conns = t.conns, []
        for conn in conns:
            try:
                conn.sock.shutdown(2)
            except OSError:
                pass
        os.kill(r.pid, signal.SIGCONT)
        assert c.answer()[2] == b"once"
        c.close()
    assert r.n("a")["failed_502"] == 0


def test_an_answer_that_is_cut_does_not_look_whole(serve_h2):
    def handler(peer, sid):
        peer.head(sid)
        peer.data(sid, b"part")
        if peer.asks(sid)[":path"] == "/reset":
            peer.reset(sid, INTERNAL_ERROR)
        else:
            peer.sock.close()
            return False

    r, t = serve_h2(handler)
    for path in ("/reset", "/end"):
        s = H2(r.port).get(path)
        assert s.reset == INTERNAL_ERROR and not s.ended
        c = r.connect().send(get(path))
        c.head()
        with pytest.raises((EOFError, ConnectionResetError)):
            c.chunks()
    assert r.n("a")["failed_cut"] == 4


# --- clients that leave, targets that are slow ---

def test_a_client_that_leaves_is_told_to_the_target(serve_h2):
    r, t = serve_h2(more="threads 1")
    c = H2(r.port)
    sid = c.ask()
    p = t.peer()
    one = p.request()
    c.send(c.rst_frame(sid))
    p.until(lambda: p.streams[one].reset == CANCEL)
    d = r.connect().send(get("/2"))
    two = p.request(1)
    p.head(two)
    d.head()
    d.close()
    while p.streams[two].reset is None:
        p.data(two, b"x").ping()
    assert p.streams[two].reset == CANCEL
    r.until("a", "client_left", 2)
    assert r.n("a/1")["inflight"] == 0 and r.n("a/1")["connects"] == 1


def test_who_does_not_answer_in_time_is_told_so(serve_h2):
    r, t = serve_h2(app="response_ms=200")
    c = r.connect().send(post("x"))
    p = t.peer()
    assert c.answer()[0] == 504
    p.until(lambda: p.streams[p.request()].reset == CANCEL)
    assert r.n("a/1")["failed_504"] == 1


def test_who_reads_slowly_holds_up_nobody_else(serve_h2):
    """And what waits for him is bounded by the window of his stream."""
    r, t = serve_h2(more="threads 1")
    slow = [H2(r.port, settings=[(SET_WINDOW, 0)], auto=False) for _ in range(40)]
    for c in slow:
        c.ask(path="/slow")
    p = t.peer()
    p.request(39)
    for sid in p.asked:
        p.head(sid)
        p.until(lambda: p.windows.get(0, 0) + 65535 >= 65535 * (1 + p.asked.index(sid)))
        for _ in range(4):
            p.data(sid, b"x" * 16000)
    p.ping()
    assert all(p.windows.get(sid, 0) < 65535 for sid in p.asked)
    fast = r.connect().send(get("/fast"))
    p.reply(p.request(40), b"fast")
    assert fast.answer()[2] == b"fast"


def test_a_target_that_reads_slowly_holds_the_client_back(serve_h2):
    r, t = serve_h2(auto=False)
    c = H2(r.port)
    sid = c.ask(end=False, method="POST")
    sent = 0
    p = t.peer()
    one = p.request()
    while True:
        c.ping()
        room = min(c.windows.get(sid, 0), c.windows.get(0, 0)) + 65535 - sent
        if room <= 0:
            break
        n = min(room, 16000)
        c.data(sid, b"x" * n)
        sent += n
        assert sent < 1 << 20
    p.until(lambda: len(p.streams[one].body) == 65535)
    p.send(p.window_frame(one, 1 << 20) + p.window_frame(0, 1 << 20))
    p.until(lambda: len(p.streams[one].body) == sent)
    c.data(sid, b"", True)
    p.whole(one)
    p.reply(one)
    assert c.answer(sid).body == b"ok"


def test_a_connection_without_another_end_is_found_out(serve_h2):
    """Nobody answers PING there: not a word for a quarter of the response's limit, and again."""
    r, t = serve_h2(app="response_ms=2000", tcp=True, more="threads 1")
    c = r.connect().send(get("/lost"))
    t.peer().request()
    q = t.peer()  # it was a GET
    q.reply(q.request(), b"found")
    assert c.answer()[2] == b"found"
    n = r.n("a")
    assert n["retried_safe"] == 1 and n["failed_504"] == 0


def test_a_target_that_is_only_slow_answers_ping(serve_h2):
    r, t = serve_h2(app="response_ms=2000", tcp=True)
    c = r.connect().send(get())
    p = t.peer()
    one = p.request()
    before = p.pings
    p.until(lambda: p.pings > before)
    p.reply(one, b"slow")
    assert c.answer()[2] == b"slow" and len(t.seen) == 1


def test_a_ping_of_the_target_is_answered(serve_h2):
    r, t = serve_h2()
    c = r.connect().send(get())
    p = t.peer()
    p.ping()
    p.reply(p.request())
    assert c.answer()[0] == 200


# --- health and changes ---

def test_a_target_that_speaks_something_else_is_not_up(router, target):
    t = target(lambda c, line, f: ok())
    r = router("app a h2=1\ntarget a/1 %s\n" % t.addr)
    r.until("a/1", "state", 2)
    assert r.n("a/1")["passed"] == 0


def test_a_health_path_is_asked_for_in_http2(router, target):
    good = target(answer(), kind=H2Target)
    bad = target(lambda p, sid: p.head(sid, 500, end=True) and None, kind=H2Target)
    bad.give = None
    seen = []

    def serve(conn):  # its probes too
        from h2_target import Peer
        try:
            peer = Peer(conn.sock, (), True)
            sid = peer.request()
            seen.append(peer.asks(sid))
            peer.head(sid, 500, end=True)
            peer.ended()
        except (AssertionError, EOFError, OSError):
            pass

    bad.serve = serve
    r = router("app a h2=1 health=/up hosts=a.example\ntarget a/1 %s\ntarget a/2 %s\n" % (good.addr, bad.addr))
    r.until("a/1", "state", 1)
    r.until("a/2", "state", 2)
    assert (seen[0][":path"], seen[0][":authority"], seen[0][":method"]) == ("/up", "a.example", "GET")


def test_a_target_that_drains_finishes_its_streams(router, target):
    old, new = target(kind=H2Target), target(answer(b"new"), kind=H2Target)
    r = router("threads 1\napp a h2=1\ntarget a/1 %s\n" % old.addr)
    r.until("a/1", "state", 1)
    c = r.connect().send(post("old"))
    p = old.peer()
    one = p.request()
    r.table("threads 1\napp a h2=1\ntarget a/1 %s use=drain drain_ms=20000\ntarget a/2 %s\n" % (old.addr, new.addr))
    r.until("a/2", "state", 1)
    for _ in range(5):
        assert r.get()[2] == b"new"
    assert len(old.seen) == 1
    p.reply(one, b"old")
    assert c.answer()[2] == b"old"
    assert p.ended() == [NO_ERROR]
    r.until("a/1", "connections", 0)
    r.table("threads 1\napp a h2=1\ntarget a/2 %s\n" % new.addr)
    assert r.get()[2] == b"new"


def test_a_target_whose_time_to_drain_is_over_is_cut(router, target):
    old = target(kind=H2Target)
    r = router("app a h2=1\ntarget a/1 %s\n" % old.addr)
    r.until("a/1", "state", 1)
    c = r.connect().send(get())
    p = old.peer()
    p.head(p.request())
    c.head()
    r.table("app a h2=1\ntarget a/1 %s use=drain drain_ms=100\n" % old.addr)
    p.until(lambda: p.streams[p.request()].reset == CANCEL)
    assert p.ended() == [NO_ERROR]
    assert r.n("a")["failed_cut"] == 1
    r.until("a/1", "connections", 0)


def test_an_app_that_is_removed_leaves_nothing(router, target):
    t, u = target(answer(), kind=H2Target), target()
    r = router("app a h2=1\ntarget a/1 %s\n" % t.addr)
    r.until("a/1", "state", 1)
    assert r.get()[2] == b"ok"
    r.table("app b\ntarget b/1 %s\n" % u.addr)
    r.until("b/1", "state", 1)
    until(lambda: r.get()[0] == 200)


def test_a_router_is_replaced_under_streams(serve_h2):
    r, t = serve_h2()
    c = H2(r.port)
    sid = c.ask()
    p = t.peer()
    one = p.request()
    r.replace()
    p.reply(one, b"old")
    assert c.answer(sid).body == b"old"
    until(r.is_left)
    assert p.ended() in ([], [NO_ERROR])


def test_a_stuck_target_is_left_by_gets(router, target):
    stuck, good = target(kind=H2Target), target(answer(b"good"), kind=H2Target)
    app = "app a h2=1 eject_silent_ms=100 probe_ms=200 probe_timeout_ms=200\n"
    r = router("threads 1\n%starget a/1 %s\ntarget a/2 %s\n" % (app, stuck.addr, good.addr))
    r.until("a/1", "state", 1)
    r.until("a/2", "state", 1)
    conns = [r.connect().send(get("/%d" % i)) for i in range(6)]
    p = stuck.peer()
    stuck.serve = lambda conn: None  # its probes wait
    for c in conns:
        assert c.answer()[2] == b"good"
    assert r.n("a")["retried_moved"] >= 1
    p.until(lambda: p.streams[p.request()].reset == CANCEL)


@pytest.mark.parametrize("tcp", [False, True])
def test_an_idle_connection_that_ends_harms_nobody(serve_h2, tcp):
    r, t = serve_h2(answer(), tcp=tcp)
    for i in range(100):
        assert r.connect().send(get() if i % 2 else post("x")).answer()[0] == 200
        with t.lock:
            conns, t.conns = t.conns, []
        for conn in conns:
            try:
                conn.sock.shutdown(2)
            except OSError:
                pass
    r.until("a", "answered_2xx", 100)
    assert r.n("a")["failed_502"] == 0


def test_a_request_without_a_host(serve_h2):
    """Cannot be told in HTTP/2, or the other end would have to guess."""
    r, t = serve_h2(answer())
    assert r.connect().send("GET / HTTP/1.0\r\n\r\n").answer()[0] == 400
    assert r.connect().send("GET / HTTP/1.0\r\nHost: any\r\n\r\n").answer()[2] == b"ok"


def test_a_request_with_as_many_fields_as_there_may_be(serve_h2):
    r, t = serve_h2(answer(), more="limit header_count=128 header_bytes=65536")
    many = "".join("X-%d: %s\r\n" % (i, "y" * 100) for i in range(126))
    c = r.connect().send("GET / HTTP/1.1\r\nHost: any\r\nTE: trailers\r\nConnection: te\r\n" +
                         many[:many.index("X-125")] + "\r\n")
    assert c.answer()[0] == 200
    assert t.seen[0][1]["x-124"] == "y" * 100


def test_a_websocket_is_asked_for_as_a_plain_get(serve_h2):
    """An upgrade may be ignored; and who came over HTTP/2 may not take the answer for a WebSocket that is open."""
    r, t = serve_h2(answer())
    c = r.connect().send("GET /ws HTTP/1.1\r\nHost: any\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
                         "Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\n\r\n")
    assert c.answer()[2] == b"ok"
    assert not {"connection", "upgrade"} & set(t.seen[0][1]) and t.seen[0][1][":method"] == "GET"
    h = H2(r.port)
    s = h.answer(h.ask(whole=[(":method", "CONNECT"), (":protocol", "websocket"), (":scheme", "http"), (":path", "/ws"),
                              (":authority", "any"), ("sec-websocket-version", "13")], end=False))
    assert s.reset == INTERNAL_ERROR and not s.heads


def test_threads_and_clients_in_numbers(serve_h2):
    r, t = serve_h2(answer(b"x"))
    bad = []

    def work(http2):
        c = H2(r.port) if http2 else r.connect()
        for i in range(100):
            if http2:
                got = c.get("/%d" % i).body
            else:
                got = c.send(get("/%d" % i)).answer()[2]
            if got != b"x":
                bad.append(got)

    workers = [threading.Thread(target=work, args=(i % 2,)) for i in range(8)]
    for w in workers:
        w.start()
    for w in workers:
        w.join()
    assert not bad
    r.until("a", "answered_2xx", 800)
    n = r.n("a/1")
    assert n["connects"] <= 2 * 2 and n["inflight"] == 0
