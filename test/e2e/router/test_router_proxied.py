# SPDX-License-Identifier: Apache-2.0
"""The PROXY protocol, in and out."""
import json
import socket
import struct

import pytest

from router_kit import get, ok, post, until

V2 = b"\r\n\r\n\0\r\nQUIT\n"
LINE = b"PROXY TCP4 192.0.2.7 198.51.100.2 4567 80\r\n"
BINARY = V2 + b"\x21\x11" + struct.pack(">H4s4sHH", 12, bytes([192, 0, 2, 7]), bytes([198, 51, 100, 2]), 4567, 80)
SIX = V2 + b"\x21\x21" + struct.pack(">H16s16sHH", 36 + 5, socket.inet_pton(socket.AF_INET6, "2001:db8::7"),
                                    socket.inet_pton(socket.AF_INET6, "2001:db8::1"), 4567, 80) + b"\x04\0\x02ab"


def who(c, line, fields):
    return ok(fields["x-forwarded-for"][0])


def proxied(serve, **more):
    return serve(who, more="proxied 127.0.0.0/8", **more)


@pytest.mark.parametrize("header, address", [(LINE, "192.0.2.7"), (BINARY, "192.0.2.7"), (SIX, "2001:db8::7")])
def test_the_address_in_the_header_is_the_clients(serve, header, address):
    r, t = proxied(serve)
    c = r.connect().send(header + get().encode())
    assert c.answer()[2].decode() == address
    c.send(get())  # and stays it
    assert c.answer()[2].decode() == address
    assert [rec["client"] for rec in r.log(2)] == [address] * 2


@pytest.mark.parametrize("header", [b"PROXY UNKNOWN\r\n", V2 + b"\x20\0\0\0", V2 + b"\x21\x00\0\x03abc",
                                    V2 + b"\x21\x31\0\xd8" + b"x" * 216])
def test_a_header_that_names_nobody_leaves_the_connections_own_address(serve, header):
    r, t = proxied(serve)
    assert r.connect().send(header + get().encode()).answer()[2] == b"127.0.0.1"


def test_a_header_may_come_in_pieces(serve):
    r, t = proxied(serve)
    for header in (LINE, BINARY):
        c = r.connect()
        c.sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        for byte in header:
            c.send(bytes([byte]))
        assert c.send(get()).answer()[2] == b"192.0.2.7"


@pytest.mark.parametrize("begin", [b"GET / HTTP/1.1\r\nHost: any\r\n\r\n", b"PROXY TCP4 1 2 3 4\r\n", b"\r\n\r\n\0x",
                                   V2 + b"\x21\x11\xff\xff", b"PROXY UNKNOWN " + b"x" * 200])
def test_a_connection_without_a_right_header_is_closed_and_counted(serve, begin):
    r, t = proxied(serve)
    assert r.connect().send(begin).closed()
    until(lambda: r.n("proxy_refused") == 1)
    assert t.seen == []


def test_a_header_that_does_not_come_in_time_or_ends_is_counted(serve):
    r, t = proxied(serve, app="\nlimit header_ms=50")
    silent, half = r.connect(), r.connect().send(LINE[:20])
    ended = r.connect().send(LINE[:20])
    ended.sock.shutdown(socket.SHUT_WR)
    assert silent.closed() and half.closed() and ended.closed()
    until(lambda: r.n("proxy_refused") == 3)


def test_who_is_not_in_the_networks_is_taken_as_he_is(serve):
    r, t = serve(who, more="proxied 10.0.0.0/8")
    assert r.get()[2] == b"127.0.0.1"
    assert r.connect().send(LINE + get().encode()).answer()[0] == 400


def test_what_the_address_claims_is_believed_by_the_networks_of_the_address(serve):
    r, t = serve(who, more="proxied 127.0.0.0/8\ntrust 127.0.0.0/8")
    claim = get(extra="X-Forwarded-For: 203.0.113.9\r\n").encode()
    assert r.connect().send(LINE + claim).answer()[2] == b"192.0.2.7"
    r.table("proxied 127.0.0.0/8\ntrust 192.0.2.0/24\napp a\ntarget a/1 %s\n" % t.addr)
    assert r.connect().send(LINE + claim).answer()[2] == b"203.0.113.9, 192.0.2.7"


# --- out ---

class Reader:
    """A target's part: reads the header, then says in its answers what it was."""

    def __init__(self, version):
        self.version, self.headers = version, []

    def serve(self, conn):
        try:
            if self.version == 1:
                head = conn.read_to(b"\r\n")
            else:
                head = conn.read(16)
                head += conn.read(struct.unpack(">H", head[14:])[0])
            while True:
                line, fields = conn.head()
                if "upstate-probe" in fields.get("user-agent", [""])[0]:
                    self.probe = head
                    conn.send(ok())
                    break
                if "content-length" in fields:
                    conn.read(int(fields["content-length"][0]))
                self.headers.append(head)
                conn.send(ok(json.dumps(len(self.headers))))
        except (EOFError, OSError):
            pass
        conn.close()


@pytest.mark.parametrize("version", [1, 2])
@pytest.mark.parametrize("tcp", [False, True])
def test_a_target_is_told_who_the_client_is(router, target, version, tcp):
    t, reader = target(tcp=tcp), Reader(version)
    t.serve = reader.serve
    r = router("app a proxy=%d health=/up probe_ms=100\ntarget a/1 %s\n" % (version, t.addr))
    r.until("a/1", "state", 1)
    assert reader.probe == (b"PROXY UNKNOWN\r\n" if version == 1 else V2 + b"\x20\0\0\0")
    c = r.connect()
    port = c.sock.getsockname()[1]
    for i in range(3):
        assert c.send(post("x" * 100) if i else get()).answer()[0] == 200
    for head in reader.headers:
        if version == 1:
            assert head == b"PROXY TCP4 127.0.0.1 127.0.0.1 %d %d\r\n" % (port, r.port)
        else:
            assert head == V2 + b"\x21\x11\0\x0c" + b"\x7f\0\0\1" * 2 + struct.pack(">HH", port, r.port)
    # Each request has a connection of its own: who it is from must be right.
    assert len(reader.headers) == 3
    n = r.n("a/1")
    assert (n["connects"], n["reused"]) == (3, 0)


def test_what_came_in_with_a_header_goes_out_with_it(router, target):
    t, reader = target(), Reader(1)
    t.serve = reader.serve
    r = router("proxied 127.0.0.0/8\napp a proxy=1\ntarget a/1 %s\n" % t.addr)
    r.until("a/1", "state", 1)
    assert r.connect().send(LINE + get().encode()).answer()[0] == 200
    assert reader.headers == [b"PROXY TCP4 192.0.2.7 127.0.0.1 4567 %d\r\n" % r.port]
    assert r.connect().send(SIX + get().encode()).answer()[0] == 200
    assert reader.headers[1] == b"PROXY TCP6 2001:db8::7 ::ffff:127.0.0.1 4567 %d\r\n" % r.port
