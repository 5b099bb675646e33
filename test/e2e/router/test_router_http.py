# SPDX-License-Identifier: Apache-2.0
"""HTTP/1.1 through the router: framing, bodies, interim answers, tunnels."""
import hashlib
import os
import socket
import threading
import time

from router_kit import get, ok, post, until


def test_a_connection_is_kept_on_both_sides(serve):
    r, t = serve()
    c = r.connect()
    for i in range(20):
        assert c.send(get("/%d" % i)).answer()[2] == b"ok"
    r.until("a", "answered_2xx", 20)  # answers are counted after they were sent
    n = r.n("a/1")
    assert t.paths() == ["/%d" % i for i in range(20)]
    assert n["connects"] == 1 and n["reused"] == 19
    assert r.n("a")["inflight"] == 0


def test_pipelined_requests_are_answered_in_order(serve):
    r, t = serve(lambda c, line, f: ok(line.split()[1]))
    c = r.connect()
    c.send("".join(get("/%d" % i) for i in range(50)))
    assert [c.answer()[2] for _ in range(50)] == [b"/%d" % i for i in range(50)]


def test_a_pipelined_request_behind_a_body_is_kept(serve):
    r, t = serve(lambda c, line, f: ok(c.body(f)))
    c = r.connect()
    c.send(post("first") + post("x" * 30000) + get())
    assert c.answer()[2] == b"first"
    assert c.answer()[2] == b"x" * 30000
    assert c.answer()[0] == 200


def test_a_request_that_comes_byte_by_byte_is_understood(serve):
    r, t = serve(lambda c, line, f: ok(c.body(f)))
    c = r.connect()
    c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for byte in post("abc").encode():
        c.send(bytes([byte]))
    assert c.answer()[2] == b"abc"


def test_chunked_bodies_go_both_ways_with_trailers(serve):
    def handler(c, line, f):
        if line.startswith("GET"):
            return ok()
        assert f["transfer-encoding"] == ["chunked"]
        body, trailer = c.chunks()
        assert trailer == [b"X-Sum: 7\r\n"]
        return (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" +
                b"".join(b"%x;ext=1\r\n%s\r\n" % (1, body[i:i + 1]) for i in range(len(body))) +
                b"0\r\nX-End: yes\r\n\r\n")

    r, t = serve(handler)
    for te, want in (("Connection: te\r\nTE: trailers\r\n", [b"X-End: yes\r\n"]), ("", [])):
        c = r.connect()
        c.send("POST / HTTP/1.1\r\nHost: any\r\nTransfer-Encoding: chunked\r\n" + te +
               "\r\n3\r\nabc\r\n5\r\ndefgh\r\n0\r\nX-Sum: 7\r\n\r\n")
        line, fields = c.head()
        assert fields["transfer-encoding"] == ["chunked"] and "content-length" not in fields
        assert c.chunks() == (b"abcdefgh", want)
        assert c.send(get("/next")).answer()[0] == 200


def test_chunks_that_arrive_in_pieces_are_put_together(serve):
    r, t = serve(lambda c, line, f: ok(c.body(f)))
    c = r.connect()
    c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    c.send("POST / HTTP/1.1\r\nHost: any\r\nTransfer-Encoding: chunked\r\n\r\n")
    for piece in ("4", "\r", "\nab", "cd\r", "\n0\r\n", "X-T: 1\r", "\n\r", "\n"):
        c.send(piece)
        time.sleep(0.005)  # so that pieces are likely to be read apart; right either way
    assert c.answer()[2] == b"abcd"


def test_an_old_client_gets_no_chunks_and_the_connection_ends(serve):
    def handler(c, line, f):
        assert line.endswith("HTTP/1.1") and "connection" not in f
        return b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nabc\r\n0\r\n\r\n"

    r, t = serve(handler)
    c = r.connect()
    c.send("GET / HTTP/1.0\r\nHost: any\r\nConnection: keep-alive\r\n\r\n")
    line, fields = c.head()
    assert "transfer-encoding" not in fields and fields["connection"] == ["close"]
    assert c.rest() == b"abc"


def test_an_old_client_may_keep_its_connection_when_the_length_is_known(serve):
    r, t = serve()
    c = r.connect()
    for _ in range(3):
        c.send("GET / HTTP/1.0\r\nHost: any\r\nConnection: keep-alive\r\n\r\n")
        status, fields, body = c.answer()
        assert body == b"ok" and fields["connection"] == ["keep-alive"]


def test_an_answer_without_a_length_becomes_chunked(serve):
    def handler(c, line, f):
        c.send(b"HTTP/1.0 200 OK\r\n\r\nuntil the end")
        return False

    r, t = serve(handler)
    c = r.connect()
    for _ in range(2):
        c.send(get())
        line, fields = c.head()
        assert fields["transfer-encoding"] == ["chunked"]
        assert c.chunks()[0] == b"until the end"


def test_head_204_and_304_have_no_body(serve):
    def handler(c, line, f):
        if line.startswith("HEAD"):
            return b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n"
        if "/204" in line:
            return b"HTTP/1.1 204 No Content\r\n\r\n"
        return b"HTTP/1.1 304 Not Modified\r\nContent-Length: 55\r\nETag: \"x\"\r\n\r\n"

    r, t = serve(handler)
    c = r.connect()
    for _ in range(3):
        status, fields, _ = c.send("HEAD / HTTP/1.1\r\nHost: any\r\n\r\n").answer(to_head=True)
        assert status == 200 and fields["content-length"] == ["1000"]
        assert c.send(get("/204")).answer()[0] == 204
        status, fields, _ = c.send(get("/304")).answer()
        assert status == 304 and fields["etag"] == ['"x"']
    assert r.n("a/1")["connects"] == 1


def test_100_continue_is_the_targets_to_say(serve):
    def handler(c, line, f):
        assert f["expect"] == ["100-continue"]
        c.send(b"HTTP/1.1 100 Continue\r\n\r\n")
        return ok(c.body(f))

    r, t = serve(handler)
    c = r.connect()
    c.send("POST / HTTP/1.1\r\nHost: any\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    assert c.head()[0] == "HTTP/1.1 100 Continue"
    assert c.send("hello").answer()[2] == b"hello"


def test_a_refusal_instead_of_100_reaches_the_client(serve):
    r, t = serve(lambda c, line, f: b"HTTP/1.1 417 No\r\nContent-Length: 2\r\n\r\nno")
    c = r.connect()
    c.send("POST / HTTP/1.1\r\nHost: any\r\nContent-Length: 5\r\nExpect: 100-continue\r\n\r\n")
    status, fields, body = c.answer()
    assert (status, body, fields["connection"]) == (417, b"no", ["close"])
    assert c.closed()


def test_interim_answers_are_passed_on_to_those_who_know_them(serve):
    r, t = serve(lambda c, line, f: b"HTTP/1.1 103 Early Hints\r\nLink: </x>\r\n\r\n" + ok())
    c = r.connect().send(get())
    line, fields = c.head()
    assert line == "HTTP/1.1 103 Early Hints" and fields["link"] == ["</x>"]
    assert c.answer()[2] == b"ok"
    c = r.connect().send("GET / HTTP/1.0\r\nHost: any\r\n\r\n")
    assert c.head()[0] == "HTTP/1.1 200 OK"


def test_bodies_of_200_mb_pass_whole_in_both_directions(serve):
    piece, pieces = os.urandom(1 << 20), 200

    def handler(c, line, f):
        left, h = int(f["content-length"][0]), hashlib.sha256()
        while left:
            got = c.read(min(left, 1 << 16)) if c.buf else c.sock.recv(min(left, 1 << 20))
            assert got
            h.update(got)
            left -= len(got)
        c.send("HTTP/1.1 200 OK\r\nX-Sum: %s\r\nContent-Length: %d\r\n\r\n" %
               (h.hexdigest(), pieces << 20))
        for _ in range(pieces):
            c.send(piece)

    r, t = serve(handler)
    want = hashlib.sha256()
    c = r.connect()
    c.send("POST / HTTP/1.1\r\nHost: any\r\nContent-Length: %d\r\n\r\n" % (pieces << 20))
    for _ in range(pieces):
        c.send(piece)
        want.update(piece)
    line, fields = c.head()
    assert fields["x-sum"] == [want.hexdigest()]
    got, left = hashlib.sha256(c.buf), (pieces << 20) - len(c.buf)
    while left:
        data = c.sock.recv(1 << 20)
        assert data
        got.update(data)
        left -= len(data)
    assert got.hexdigest() == want.hexdigest()
    until(lambda: r.n("a")["inflight"] == 0)
    assert r.n("a")["bytes_in"] == pieces << 20 and r.n("a")["bytes_out"] == pieces << 20
    assert r.memory_kb() < 200000


def test_a_slow_reader_holds_the_target_back_and_memory_stays_bounded(serve):
    stop, sent = threading.Event(), [0]

    def handler(c, line, f):
        c.send(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        c.sock.settimeout(0.5)
        try:
            while not stop.is_set():
                c.send(b"10000\r\n" + b"x" * 65536 + b"\r\n")
                sent[0] += 65536
        except socket.timeout:
            stop.set()
        return False

    r, t = serve(handler)
    before = r.memory_kb()
    c = r.connect().send(get())
    c.head()
    until(stop.is_set)  # nobody takes any more: the target could not go on sending
    assert r.memory_kb() - before < 2000
    assert sent[0] < 64 << 20


def test_server_sent_events_are_never_kept_back(serve):
    go = threading.Semaphore(0)

    def handler(c, line, f):
        c.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        for i in range(5):
            go.acquire()
            c.send(b"data: %d\n\n" % i)
        return False

    r, t = serve(handler)
    c = r.connect().send(get())
    c.head()
    for i in range(5):
        go.release()
        c.read_to(b"\r\n")
        assert c.read_to(b"\n\n") == b"data: %d\n\n" % i
        c.read(2)
    assert c.read(5) == b"0\r\n\r\n"


def test_a_silent_event_stream_ends_with_its_client(serve):
    """No event may come for long by which it would show that nobody listens."""
    gone = threading.Event()

    def handler(c, line, f):
        c.send(b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\n\r\n")
        c.rest()
        gone.set()
        return False

    r, t = serve(handler)
    c = r.connect().send(get())
    c.head()
    c.close()
    assert gone.wait(20)
    until(lambda: r.n("a")["client_left"] == 1)
    assert r.n("a")["inflight"] == 0 and r.n("a")["failed_cut"] == 0


def test_an_upgrade_becomes_a_tunnel_with_half_close(serve):
    def handler(c, line, f):
        assert f["upgrade"] == ["websocket"] and f["connection"] == ["upgrade"]
        c.send(b"HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n"
               b"Sec-WebSocket-Accept: x\r\n\r\nhello")
        assert c.rest() == b"early" + b"y" * 100000
        c.send(b"bye" * 50000)
        return False

    r, t = serve(handler)
    c = r.connect()
    c.send(get(extra="Connection: Upgrade\r\nUpgrade: websocket\r\n") + "early")
    line, fields = c.head()
    assert line.startswith("HTTP/1.1 101") and fields["upgrade"] == ["websocket"]
    assert fields["sec-websocket-accept"] == ["x"]
    assert c.read(5) == b"hello"
    assert r.n("a")["tunnels"] == 1 and r.n("a")["inflight"] == 0
    c.send(b"y" * 100000)
    c.sock.shutdown(socket.SHUT_WR)
    assert c.rest() == b"bye" * 50000
    r.until("a", "tunnels", 0)
    assert r.n("a")["upgraded"] == 1 and r.n("a/1")["inflight"] == 0


def test_a_switch_that_nobody_asked_for_is_a_bad_answer(serve):
    r, t = serve(lambda c, line, f: b"HTTP/1.1 101 X\r\nConnection: upgrade\r\nUpgrade: y\r\n\r\n")
    assert r.get()[0] == 502


def test_an_answer_that_is_no_http_is_502(serve):
    r, t = serve(lambda c, line, f: b"SSH-2.0-OpenSSH\r\n\r\n")
    status, fields, body = r.get()
    assert status == 502 and b"Upstate" in body
    assert r.n("a")["failed_502"] == 1


def test_an_answer_cut_short_is_cut_for_the_client_too(serve):
    def handler(c, line, f):
        c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nonly this")
        return False

    r, t = serve(handler)
    c = r.connect().send(get())
    c.head()
    got = b""
    try:
        got = c.rest()
    except ConnectionResetError:
        pass
    assert len(got) <= len(b"only this")
    r.until("a", "failed_cut", 1)
    assert r.n("a")["answered_2xx"] == 0
    assert r.log()[-1]["end"] == 3


def test_the_target_that_answers_early_is_heard(serve):
    def handler(c, line, f):
        c.send(b"HTTP/1.1 413 Too Large\r\nContent-Length: 3\r\nConnection: close\r\n\r\nbig")
        return False

    r, t = serve(handler)
    c = r.connect()
    c.send("POST / HTTP/1.1\r\nHost: any\r\nContent-Length: 50000000\r\n\r\n" + "x" * 100000)
    status, fields, body = c.answer()
    assert (status, body) == (413, b"big")


def test_targets_over_tcp_work_alike(serve):
    r, t = serve(lambda c, line, f: ok(c.body(f)), tcp=True)
    c = r.connect()
    for i in range(5):
        assert c.send(post("abc%d" % i)).answer()[2] == b"abc%d" % i
    assert r.n("a/1")["connects"] == 1
