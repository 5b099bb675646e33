# SPDX-License-Identifier: Apache-2.0
"""Many hostile clients at once: each costs no more than its bound, others are served beside them, and all of it
comes back. And every form of a request's target, and every control byte, by what the target is shown of it."""
import socket
import ssl
import struct
import subprocess
import threading
import time

import pytest
from h2_kit import CONTINUATION, END_STREAM, H2, HEADERS
from router_kit import Conn, get, ok, post, until
from test_router_hostile import HIDDEN, at_rest, many
from test_router_tls import WAIT, certs, context, dial, tls, until_read  # noqa: F401, two fixtures


class bounded:
    """What is done here costs the router so many bytes for each of `count`, and others are served meanwhile."""

    def __init__(self, r, count, each, spare_kb=3000):
        self.r, self.most_kb = r, count * each // 1024 + spare_kb

    def __enter__(self):
        for _ in range(20):  # what is needed once
            assert self.r.get()[0] == 200
        self.before = self.r.memory_kb()
        return self

    def others(self):
        for _ in range(20):
            assert self.r.get()[0] == 200
            assert self.r.connect().send(post("body")).answer()[0] == 200

    def __exit__(self, *failed):
        if not any(failed):
            self.others()
            grown = self.r.memory_kb() - self.before
            assert grown <= self.most_kb or self.r.sanitized(), "%d of %d kB" % (grown, self.most_kb)


def close_all(r, conns, *names):
    for c in conns:
        c.close()
    at_rest(r, *names)
    assert r.get()[0] == 200


def swallow(c, line, f):
    """Reads as long as something comes."""
    if line.startswith("POST /slow"):
        c.rest()
        return False
    return ok(c.body(f))


# --- many at once ---


def test_a_thousand_connections_that_say_nothing(serve):
    many(1000)
    r, t = serve(more="limit clients=3000 idle_ms=600000")
    with bounded(r, 1000, 600, spare_kb=700):
        conns = [r.connect() for _ in range(1000)]
        until(lambda: r.n("clients") >= 1000)
    close_all(r, conns, "a", "a/1")


def test_hundreds_of_heads_of_the_greatest_size_that_do_not_end(serve):
    many(500)
    r, t = serve(more="limit clients=3000 header_ms=600000 header_bytes=32768")
    with bounded(r, 500, 40 * 1024):
        conns = [r.connect().send("GET / HTTP/1.1\r\nHost: any\r\n" + "X-Y: %s\r\n" % ("z" * 1000) * 31)
                 for _ in range(500)]
        until(lambda: r.n("clients") >= 500)
    close_all(r, conns, "a", "a/1")


def test_heads_beyond_every_bound_are_refused_and_nothing_is_kept(serve):
    r, t = serve(more="limit header_bytes=16384 header_count=100")
    with bounded(r, 0, 0):
        for head, status in (("GET /%s HTTP/1.1\r\nHost: any\r\n\r\n" % ("x" * 500000), 414),
                             (get(extra="X: %s\r\n" % ("x" * 500000)), 431),
                             (get(extra="%s: 1\r\n" % ("x" * 500000)), 431),
                             (get(extra="X: y\r\n" * 100000), 431),
                             (get(extra=":\r\n" * 100000), 431),
                             ("x" * 500000, 414)):
            for _ in range(10):
                c = r.connect()
                sender = threading.Thread(target=send_all, args=(c, head.encode()))
                sender.start()
                assert c.answer()[0] == status, head[:30]
                sender.join()
                c.close()
    at_rest(r, "a")
    assert all(p == "/" for p in t.paths())


def send_all(c, data):
    try:
        c.send(data)
    except OSError:
        pass  # it was refused before it was all there


def test_hundreds_of_bodies_that_trickle(serve):
    r, t = serve(swallow, app="body_ms=600000 target_limit=0", more="limit clients=3000")
    with bounded(r, 200, 12 * 1024) as b:
        conns = [r.connect().send("POST /slow HTTP/1.1\r\nHost: any\r\nContent-Length: 1000000\r\n\r\nx") for _ in range(100)]
        conns += [r.connect().send("POST /slow HTTP/1.1\r\nHost: any\r\nTransfer-Encoding: chunked\r\n\r\n") for _ in range(100)]
        r.until("a/1", "inflight", 200)
        for _ in range(10):
            for c in conns[:100]:
                c.send("x")
            for c in conns[100:]:
                c.send("1;%s\r\nx\r\n" % ("e" * 50))
            b.others()
    close_all(r, conns, "a", "a/1")


def test_a_hundred_who_read_nothing_of_what_they_ask_for(serve):
    def handler(c, line, f):
        return ok(b"x" * (4 << 20)) if "/big" in line else ok(c.body(f))

    r, t = serve(handler, app="body_ms=600000 target_limit=0", more="limit clients=3000")
    with bounded(r, 100, 48 * 1024):
        conns = []
        for i in range(100):
            s = socket.socket()
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
            s.connect(("127.0.0.1", r.port))
            conns.append(Conn(s).send(get("/big") * 50))
        for c in conns:
            assert c.head()[0].endswith("200 OK")  # and no further
    close_all(r, conns, "a", "a/1")


def test_a_hundred_continuation_floods(serve):
    """A head that goes on over frames has one bound, however many there are."""
    r, t = serve()
    with bounded(r, 0, 0, spare_kb=4000):
        for _ in range(100):
            c = H2(r.port)
            c.send(c.frame(HEADERS, END_STREAM, 1, b""))
            try:
                for _ in range(100):
                    c.send(c.frame(CONTINUATION, 0, 1, b"\x00\x01x\x01y" * 3000))
            except OSError:
                pass
            c.ended()
            c.close()
    until(lambda: r.n("clients") == 0)
    assert all(p == "/" for p in t.paths())


# --- TLS ---

HELLO = b"\x16\x03\x01\x40\x00\x01"  # a record of 16 KiB, which begins a ClientHello of the length that follows


def raw_tls(r):
    s = socket.create_connection(("127.0.0.1", r.tls_port))
    s.settimeout(WAIT)
    return Conn(s)


def client_hello():
    out = ssl.MemoryBIO()
    s = context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="first.test")
    with pytest.raises(ssl.SSLWantReadError):
        s.do_handshake()
    return out.read()


@pytest.mark.parametrize("how", ["nothing", "half", "hello", "long"])
def test_hundreds_of_handshakes_that_do_not_go_on(tls, how):  # noqa: F811
    """By where they stop: before the first byte, in the ClientHello, behind it (which the server has answered), and
    in one that says it is 128 KiB long, of which 16 KiB are there."""
    begin = {"nothing": b"", "half": client_hello()[:100], "hello": client_hello(),
             "long": HELLO + b"\x01\xff\xff\x03\x03" + b"x" * 16000}[how]
    many(400)
    r, t = tls(more="limit clients=3000 header_ms=600000\n")
    assert dial(r).send(get()).answer()[0] == 200
    with bounded(r, 400, 64 * 1024):
        conns = [raw_tls(r).send(begin) for _ in range(400)]
        if how == "hello":
            assert all(c.read(5)[0] == 22 for c in conns)
        until(lambda: r.n("clients") >= 400)
        assert dial(r).send(get()).answer()[0] == 200
    for c in conns:
        c.close()
    until(lambda: r.n("clients") == 0)
    assert dial(r).send(get()).answer()[0] == 200


def test_a_handshake_that_trickles_ends_by_the_clock_not_by_its_bytes(tls):  # noqa: F811
    r, t = tls(more="limit header_ms=400\n")
    hello = client_hello()
    c = raw_tls(r)
    for at in range(len(hello) - 1):
        try:
            c.sock.send(hello[at:at + 1])
        except OSError:
            break
        if r.n("tls_late") == 1:
            break
        time.sleep(0.005)  # slow is what it is about; the whole of it would take seconds
    until(lambda: r.n("tls_late") == 1 and r.n("clients") == 0)
    assert dial(r).send(get()).answer()[0] == 200


@pytest.mark.parametrize("length", [0x020200, 0xffffff])
def test_a_client_hello_larger_than_any_is_refused_at_its_length(tls, length):  # noqa: F811
    r, t = tls()
    with bounded(r, 0, 0):
        for _ in range(20):
            c = raw_tls(r).send(HELLO + struct.pack(">I", length)[1:] + b"\x03\x03" + b"x" * 1000)
            send_all(c, b"x" * 300000)
            try:
                c.rest()
            except ConnectionResetError:
                pass
            c.close()
    until(lambda: r.n("clients") == 0)
    assert r.n("tls_garbage") + r.n("tls_left") == 20


def test_a_client_hello_of_60_kb_that_is_one_is_answered(tls):  # noqa: F811
    """Up to OpenSSL's own bound it is read, in many records, and costs what it is long, until the handshake is over."""
    hello = client_hello()[5:]
    at = 4 + 2 + 32 + 1 + hello[38]  # behind the session id
    at += 2 + int.from_bytes(hello[at:at + 2], "big")  # the ciphers
    at += 1 + hello[at]  # the compressions
    grow = 60_000
    extensions = int.from_bytes(hello[at:at + 2], "big") + grow + 4
    size = int.from_bytes(hello[1:4], "big") + grow + 4
    whole = (hello[:1] + struct.pack(">I", size)[1:] + hello[4:at] + struct.pack(">H", extensions) + hello[at + 2:] +
             b"\xfa\xfa" + struct.pack(">H", grow) + bytes(grow))
    records = b"".join(b"\x16\x03\x01" + struct.pack(">H", len(whole[i:i + 16384])) + whole[i:i + 16384]
                       for i in range(0, len(whole), 16384))
    r, t = tls(more="limit clients=3000 header_ms=600000\n")
    with bounded(r, 50, 140 * 1024):
        conns = [raw_tls(r).send(records) for _ in range(50)]
        for c in conns:
            assert c.read(6)[5] == 2  # ServerHello
    for c in conns:
        c.close()
    until(lambda: r.n("clients") == 0)


def test_key_updates_without_end_cost_nothing(tls):  # noqa: F811
    """Each is answered with another one (RFC 8446, 4.6.3); here the client asks for it and reads no more than it must."""
    r, t = tls()
    with bounded(r, 0, 0) as b:
        p = subprocess.Popen(["openssl", "s_client", "-tls1_3", "-connect", "127.0.0.1:%d" % r.tls_port],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        for _ in range(300):  # it takes one from each read
            p.stdin.write(b"K\n")
            p.stdin.flush()
            until_read(p, b"KEYUPDATE")
        b.others()
        p.stdin.write(get(extra="Connection: close\r\n").encode())
        p.stdin.flush()
        until_read(p, b"200 OK")
        p.communicate(timeout=WAIT)
    until(lambda: r.n("clients") == 0)


@pytest.mark.parametrize("hello", [b"", client_hello()], ids=["before", "behind"])
def test_records_without_bytes_are_not_read_for_ever(tls, hello):  # noqa: F811
    r, t = tls(more="limit header_ms=600000\n")
    c = raw_tls(r).send(hello)
    send_all(c, b"\x16\x03\x03\x00\x00" * 1000)
    try:
        c.rest()
    except ConnectionResetError:
        pass
    until(lambda: r.n("clients") == 0)
    assert r.n("tls_garbage") + r.n("tls_left") == 1
    assert dial(r).send(get()).answer()[0] == 200


# --- the forms of a target, and who is meant ---


@pytest.mark.parametrize("line, host, shown", [
    ("GET http://any/p?q HTTP/1.1", "any", "GET /p?q HTTP/1.1"),
    ("GET HTTP://ANY/p HTTP/1.1", "any", "GET /p HTTP/1.1"),
    ("GET http://any HTTP/1.1", "any:80", "GET / HTTP/1.1"),
    ("GET http://any:80/ HTTP/1.1", "any", "GET / HTTP/1.1"),
    ("GET https://any:443/ HTTP/1.1", "any", "GET / HTTP/1.1"),
    ("OPTIONS * HTTP/1.1", "any", "OPTIONS * HTTP/1.1"),
    ("OPTIONS http://any HTTP/1.1", "any", "OPTIONS * HTTP/1.1"),
    ("GET //any/p HTTP/1.1", "any", "GET //any/p HTTP/1.1"),
    ("GET /http://other/ HTTP/1.1", "any", "GET /http://other/ HTTP/1.1"),
    ("GET /%00%0d%0a?%23 HTTP/1.1", "any", "GET /%00%0d%0a?%23 HTTP/1.1"),
])
def test_forms_that_have_one_meaning_arrive_as_one_form(recorded, line, host, shown):
    r, b = recorded()
    assert r.connect().send("%s\r\nHost: %s\r\n\r\n" % (line, host)).answer()[0] == 200
    lines = b"".join(b.got).decode().split("\r\n")
    assert lines[0] == shown
    assert [x.lower().split(":")[1].strip() for x in lines if x.lower().startswith("host:")] == ["any"]


@pytest.mark.parametrize("line, fields", [
    ("GET http://other/ HTTP/1.1", "Host: any"),
    ("GET http://any/ HTTP/1.1", "Host: other"),
    ("GET http://any:81/ HTTP/1.1", "Host: any"),
    ("GET http://any@other/ HTTP/1.1", "Host: other"),
    ("GET http://user:pw@any/ HTTP/1.1", "Host: any"),
    ("GET http:///any HTTP/1.1", "Host: any"),
    ("GET http:/any HTTP/1.1", "Host: any"),
    ("GET any HTTP/1.1", "Host: any"),
    ("GET ftp://any/ HTTP/1.1", "Host: any"),
    ("GET http://any/#x HTTP/1.1", "Host: any"),
    ("GET /#x HTTP/1.1", "Host: any"),
    ("GET * HTTP/1.1", "Host: any"),
    ("OPTIONS *x HTTP/1.1", "Host: any"),
    ("POST * HTTP/1.1", "Host: any"),
    ("CONNECT / HTTP/1.1", "Host: any"),
    ("GET / HTTP/1.1", "X: no host"),
    ("GET / HTTP/1.1", "Host:"),
    ("GET / HTTP/1.1", "Host: any\r\nHost: any"),
    ("GET / HTTP/1.1", "Host: any\r\nHost: other"),
    ("GET / HTTP/1.1", "Host: any, other"),
    ("GET / HTTP/1.1", "Host: any other"),
    ("GET / HTTP/1.1", "Host: any/other"),
    ("GET / HTTP/1.1", "Host: any@other"),
    ("GET / HTTP/1.1", "Host: any\\other"),
    ("GET / HTTP/1.1", "Host: any#"),
    ("GET / HTTP/1.1", "Host: any?"),
    ("GET / HTTP/1.1", "Host: any:80:80"),
    ("GET / HTTP/1.1", "Host: any:8a"),
    ("GET / HTTP/1.1", "Host: any:99999"),
    ("GET / HTTP/1.1", "Host: [::1"),
    ("GET / HTTP/1.1", "Host: http://any"),
    ("GET / HTTP/1.1", "Host : any"),
    ("GET / HTTP/1.1", " Host: any"),
    ("GET  / HTTP/1.1", "Host: any"),
    ("GET / HTTP/1.1 ", "Host: any"),
    ("GET\t/ HTTP/1.1", "Host: any"),
    (" GET / HTTP/1.1", "Host: any"),
    ("GET / http/1.1", "Host: any"),
    ("GET / HTTP/01.1", "Host: any"),
    ("GET / HTTP/1.1x", "Host: any"),
    ("GET /a b HTTP/1.1", "Host: any"),
    ("GET /", "Host: any"),
    ("G(T / HTTP/1.1", "Host: any"),
])
def test_who_or_what_is_meant_is_never_guessed(recorded, line, fields):
    r, b = recorded()
    c = r.connect().send("%s\r\n%s\r\n\r\n%s" % (line, fields, HIDDEN))
    assert c.answer()[0] == 400 and c.closed()
    c.close()
    at_rest(r, "a")
    assert b.got == []


CONTROLS = [c for c in range(33) if c != 32] + [127]
PLACES = {
    "method": "G%sT / HTTP/1.1\r\nHost: any\r\n\r\n",
    "path": "GET /a%sb HTTP/1.1\r\nHost: any\r\n\r\n",
    "query": "GET /?a%sb HTTP/1.1\r\nHost: any\r\n\r\n",
    "version": "GET / HTTP/1%s.1\r\nHost: any\r\n\r\n",
    "the end of the line": "GET / HTTP/1.1%s\r\nHost: any\r\n\r\n",
    "host": "GET / HTTP/1.1\r\nHost: a%sny\r\n\r\n",
    "name": "GET / HTTP/1.1\r\nHost: any\r\nX%sY: 1\r\n\r\n",
    "between name and colon": "GET / HTTP/1.1\r\nHost: any\r\nX%s: 1\r\n\r\n",
    "value": "GET / HTTP/1.1\r\nHost: any\r\nX: long before it, a%sb and long behind it\r\n\r\n",
    "the end of a value": "GET / HTTP/1.1\r\nHost: any\r\nX: a%s\r\n\r\n",
    "the beginning of a line": "GET / HTTP/1.1\r\nHost: any\r\n%sX: a\r\n\r\n",
    "before the request": "%sGET / HTTP/1.1\r\nHost: any\r\n\r\n",
    "the empty line": "GET / HTTP/1.1\r\nHost: any\r\n%s\r\n\r\n",
    "a length": "POST / HTTP/1.1\r\nHost: any\r\nContent-Length: 1%s\r\n\r\n",
    "within a length": "POST / HTTP/1.1\r\nHost: any\r\nContent-Length: 1%s0\r\n\r\n",
    "a coding": "POST / HTTP/1.1\r\nHost: any\r\nTransfer-Encoding: chunked%s\r\n\r\n0\r\n\r\n",
}
# Where a byte of this kind means nothing, or is what it would be anyway (RFC 9110, 5.5; RFC 9112, 2.2).
HARMLESS = {("value", 9), ("the end of a value", 9), ("a length", 9), ("a coding", 9)}


@pytest.mark.parametrize("place", PLACES)
def test_a_control_byte_anywhere_is_refused(recorded, place):
    r, b = recorded()
    for byte in CONTROLS:
        if (place, byte) in HARMLESS:
            continue
        c = r.connect().send((PLACES[place] % chr(byte)) + HIDDEN)
        assert c.answer()[0] in (400, 501, 505), (place, byte)
        assert c.closed(), (place, byte)
        c.close()
    at_rest(r, "a")
    assert b.got == []


@pytest.mark.parametrize("head", ["GET / HTTP/1.1\nHost: any\n\n", "GET / HTTP/1.1\r\nHost: any\n\r\n",
                                  "GET / HTTP/1.1\nHost: any\r\n\r\n", "GET / HTTP/1.1\r\nHost: any\r\n\n",
                                  "GET / HTTP/1.1\rHost: any\r\r", "GET / HTTP/1.1\r\nHost: any\r\r\n\r\n",
                                  "GET / HTTP/1.1\r\nHost: any\n\rX: y\r\n\r\n"])
def test_lines_end_with_both_bytes_and_nothing_else(recorded, head):
    r, b = recorded()
    c = r.connect().send(head + HIDDEN)
    assert c.answer()[0] == 400 and c.closed()
    c.close()
    at_rest(r, "a")
    assert b.got == []
