# SPDX-License-Identifier: Apache-2.0
"""TLS on the router's port: what is agreed, what is resumed, what is refused, and that bytes come through."""
import os
import signal
import socket
import ssl
import subprocess
import threading

import pytest
from router_kit import WAIT, Conn, Target, get, ok, post, until


def make_cert(folder, name, names, key="ec"):
    """A self-signed pair for these names; returns "cert CERT KEY" for the table."""
    paths = [str(folder / (name + end)) for end in (".pem", ".key")]
    kind = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256"] if key == "ec" else ["-newkey", "rsa:2048"]
    subprocess.run(["openssl", "req", "-x509", *kind, "-nodes", "-keyout", paths[1], "-out", paths[0], "-days", "30",
                    "-subj", "/CN=" + name, "-addext", "subjectAltName=" + ",".join("DNS:" + n for n in names)],
                   check=True, capture_output=True)
    return "cert %s %s\n" % tuple(paths)


@pytest.fixture(scope="session")
def certs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("certs")
    return (make_cert(folder, "first", ["first.test"]) + make_cert(folder, "exact", ["www.a.test"], "rsa") +
            make_cert(folder, "wild", ["*.a.test", "a.test"]))


@pytest.fixture
def tls(serve, certs):
    """(router, target) whose TLS port has three certificates."""

    def make(handler=None, more="", **rest):
        return serve(handler, more=certs + more, **rest)

    return make


def context(version=None, **settings):
    c = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    c.check_hostname, c.verify_mode = False, ssl.CERT_NONE
    if version:
        c.minimum_version = c.maximum_version = version
    for name, value in settings.items():
        setattr(c, name, value)
    return c


def dial(r, host="first.test", ctx=None, session=None, rcvbuf=None):
    raw = socket.socket()
    if rcvbuf:
        raw.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, rcvbuf)
    raw.settimeout(WAIT)
    raw.connect(("127.0.0.1", r.tls_port))
    return Conn((ctx or context()).wrap_socket(raw, server_hostname=host, session=session,
                                              suppress_ragged_eofs=False))


def name_of(c):
    der = c.sock.getpeercert(binary_form=True)
    text = subprocess.run(["openssl", "x509", "-inform", "DER", "-noout", "-subject"], input=der, capture_output=True,
                          check=True).stdout.decode()
    return text.split("CN = ")[1].strip()


VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]


@pytest.mark.parametrize("version", VERSIONS)
def test_both_versions_carry_requests(tls, version):
    r, t = tls(lambda c, line, f: ok(c.body(f)))
    c = dial(r, ctx=context(version))
    assert c.sock.version() == ("TLSv1.2" if version == ssl.TLSVersion.TLSv1_2 else "TLSv1.3")
    for n in range(3):
        assert c.send(get()).answer()[0] == 200
        assert c.send(post("x" * 100000)).answer()[2] == b"x" * 100000
    assert r.n("tls_handshakes") == 1
    assert r.numbers()["a"]["requests"] == 6


@pytest.mark.parametrize("version", ["-tls1", "-tls1_1", "-cipher AES128-SHA -tls1_2", "-alpn h3"])
def test_what_is_out_of_date_is_refused(tls, version):
    r, _ = tls()
    done = subprocess.run(["openssl", "s_client", "-connect", "127.0.0.1:%d" % r.tls_port, *version.split(),
                           *(["-cipher", "ALL:@SECLEVEL=0"] if version.startswith("-tls1") else [])],
                          stdin=subprocess.DEVNULL, capture_output=True, timeout=WAIT)
    assert done.returncode != 0
    until(lambda: r.n("tls_unshared") == 1)
    assert r.n("tls_handshakes") == 0 and r.numbers()["a"]["requests"] == 0


def test_the_name_chooses_the_certificate(tls):
    r, _ = tls()
    for host, name in [("www.a.test", "exact"), ("WWW.a.test", "exact"), ("x.a.test", "wild"), ("a.test", "wild"),
                       ("x.y.a.test", "first"), ("first.test", "first"), ("unknown.test", "first")]:
        assert name_of(dial(r, host)) == name, host
    assert name_of(dial(r, None)) == "first"


def test_http1_is_agreed_upon(tls):
    r, _ = tls()
    ctx = context()
    ctx.set_alpn_protocols(["h2", "http/1.1"])
    c = dial(r, ctx=ctx)
    assert c.sock.selected_alpn_protocol() in ("http/1.1", "h2")
    ctx.set_alpn_protocols(["http/1.1"])
    c = dial(r, ctx=ctx)
    assert c.sock.selected_alpn_protocol() == "http/1.1"
    assert c.send(get()).answer()[0] == 200


def resumed(r, ctx, session):
    """A connection with this session; returns (was it resumed, the session to use next)."""
    c = dial(r, ctx=ctx, session=session)
    assert c.send(get()).answer()[0] == 200  # tickets of 1.3 come with it
    reused, session = c.sock.session_reused, c.sock.session
    c.sock.unwrap()
    c.close()
    return reused, session


@pytest.mark.parametrize("version", VERSIONS)
def test_sessions_outlive_the_router_and_new_keys(tls, certs, version):
    r, t = tls()
    ctx = context(version)
    reused, session = resumed(r, ctx, None)
    assert not reused
    reused, session = resumed(r, ctx, session)
    assert reused
    reused, session = resumed(r, ctx, session)  # of 1.3, with the ticket that the one before brought
    assert reused
    r.kill()
    assert resumed(r, ctx, session)[0]
    table = certs + "app a\ntarget a/1 %s\n" % t.addr
    for _ in range(2):  # the last two keys are still understood
        r.table(table, rotate=True)
        assert resumed(r, ctx, session)[0]
    r.table(table, rotate=True)
    assert not resumed(r, ctx, session)[0]
    assert r.n("tls_resumed") == 5 and r.n("tls_handshakes") == 7


def test_a_resumed_session_brings_the_next_ticket(tls, tmp_path):
    """In 1.3 each is used once: without another, every second connection would be a whole handshake."""
    r, _ = tls()
    saved = str(tmp_path / "session")
    for option in ("-sess_out", "-sess_in"):
        p = subprocess.Popen(["openssl", "s_client", "-tls1_3", "-connect", "127.0.0.1:%d" % r.tls_port, option, saved],
                             stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
        p.stdin.write(get().encode())
        p.stdin.flush()
        seen = until_read(p, b"200 OK") + p.communicate(timeout=WAIT)[0]
        assert b"New Session Ticket arrived" in seen, seen
    assert r.n("tls_resumed") == 1


def by_hand(r, ctx):
    """(TLS, its end of what comes, of what goes, socket) after a handshake, with every byte in our hands."""
    inc, out = ssl.MemoryBIO(), ssl.MemoryBIO()
    s = ctx.wrap_bio(inc, out, server_hostname="first.test")
    raw = socket.create_connection(("127.0.0.1", r.tls_port))
    raw.settimeout(WAIT)
    while True:
        try:
            s.do_handshake()
            return s, inc, out, raw
        except ssl.SSLWantReadError:
            raw.sendall(out.read())
            inc.write(raw.recv(65536))


def records(data):
    """How many TLS records these bytes are."""
    n = 0
    while data:
        data, n = data[5 + int.from_bytes(data[3:5], "big"):], n + 1
    return n


def test_tickets_go_out_with_the_first_answer(tls):
    asked, go = threading.Event(), threading.Event()

    def handler(c, line, f):
        asked.set()
        go.wait(WAIT)
        return ok()

    r, _ = tls(handler)
    s, inc, out, raw = by_hand(r, context(ssl.TLSVersion.TLSv1_3))
    s.write(get().encode())
    raw.sendall(out.read())
    assert asked.wait(WAIT)
    raw.setblocking(False)
    with pytest.raises(BlockingIOError):
        raw.recv(1)
    raw.settimeout(WAIT)
    go.set()
    data = raw.recv(65536)
    assert records(data) == 3  # for two connections side by side
    inc.write(data)
    assert b"200 OK" in s.read(65536) and s.session.has_ticket
    raw.close()


def test_http2_gets_one_ticket(tls):
    r, _ = tls()
    ctx = context(ssl.TLSVersion.TLSv1_3)
    ctx.set_alpn_protocols(["h2"])
    s, inc, out, raw = by_hand(r, ctx)
    raw.sendall(out.read())
    data = raw.recv(65536)
    assert records(data) == 2  # and SETTINGS
    inc.write(data)
    assert s.read(65536) and s.session.has_ticket
    raw.close()


def test_certificates_are_swapped_and_open_connections_stay(tls, tmp_path):
    r, t = tls()
    old = dial(r)
    assert old.send(get()).answer()[0] == 200
    r.table(make_cert(tmp_path, "other", ["first.test"]) + "app a\ntarget a/1 %s\n" % t.addr)
    assert name_of(dial(r)) == "other"
    assert old.send(get()).answer()[0] == 200


def test_the_target_is_told_that_it_was_https(tls):
    r, t = tls()
    dial(r).send(get()).answer()
    _, fields = t.seen[-1]
    assert fields["x-forwarded-proto"] == ["https"] and fields["forwarded"][0].endswith("proto=https")
    assert r.get()[0] == 200
    _, fields = t.seen[-1]
    assert fields["x-forwarded-proto"] == ["http"] and fields["forwarded"][0].endswith("proto=http")


def test_plain_requests_are_redirected_but_for_the_challenge(tls):
    r, t = tls(app="to_https=1 hsts_s=3600", more="limit https_port=8443\ntrust 127.0.0.2/32\n")
    status, fields, _ = r.get("/a/b?c=d&e=%2F", "www.a.test:8080")
    assert status == 308 and fields["location"] == ["https://www.a.test:8443/a/b?c=d&e=%2F"]
    assert "strict-transport-security" not in fields
    c = r.connect()
    assert c.send(post("x" * 10)).answer()[0] == 308
    long = "/" + "x" * 9000
    assert r.get(long)[1]["location"] == ["https://any:8443" + long]
    assert t.seen == []
    assert r.get("/.well-known/acme-challenge/token")[0] == 200
    status, fields, _ = dial(r).send(get()).answer()
    assert status == 200 and fields["strict-transport-security"] == ["max-age=3600"]
    r.table("limit https_port=443\ntrust 127.0.0.0/8\napp a to_https=1 hsts_s=3600\ntarget a/1 %s\n" % t.addr)
    assert r.get("/", "www.a.test")[1]["location"] == ["https://www.a.test/"]
    c = r.connect()  # a trusted proxy says that its user came over https
    assert c.send(get(extra="X-Forwarded-Proto: https\r\n")).answer()[0] == 200
    assert r.n("a")["redirected"] == 4


def test_a_challenge_is_answered_before_anything_that_keeps_others_away(tls):
    """Redirects, maintenance, passwords, rates and a target that is held: the certificate comes first."""
    r, t = tls(app="hosts=a.test,b.test paths=/api to_https=1 acme=1 hold=1"
                   "\npolicy maintenance=1 auth=1 realm=x rate=1 rate_requests=1 rate_ms=60000 rate_burst=1",
               more="thumbprint THUMB_-9\n")
    for _ in range(3):
        status, fields, body = r.get("/.well-known/acme-challenge/to-ken_1?x=y", "b.test:80")
        assert (status, body, fields["content-type"]) == (200, b"to-ken_1.THUMB_-9", ["application/octet-stream"])
    c = dial(r)
    for _ in range(2):  # over https too, and the connection stays
        assert c.send(get("/.well-known/acme-challenge/x", "a.test")).answer()[2] == b"x.THUMB_-9"
    head = c.send("HEAD /.well-known/acme-challenge/x HTTP/1.1\r\nHost: a.test\r\n\r\n").answer(to_head=True)
    assert head[0] == 200 and head[1]["content-length"] == ["10"]
    for path in ("", "x/", "x.y", "..%2fx", "x" * 129, "x\xe4"):
        c = r.connect()
        assert c.send(("GET /.well-known/acme-challenge/%s HTTP/1.1\r\nHost: a.test\r\n\r\n" % path).encode("latin-1")
                      ).answer()[0] in (400, 404), path
    asked = post("x" * 10, "/.well-known/acme-challenge/x").replace("Host: any", "Host: a.test")
    assert r.connect().send(asked).answer()[0] == 404
    assert r.get("/.well-known/acme-challenge/x", "c.test")[0] == 404 and r.get("/api", "a.test")[0] == 308
    assert t.seen == []


def test_an_apps_own_hsts_stays(tls):
    r, _ = tls(lambda c, line, f: ok(extra="Strict-Transport-Security: max-age=1\r\n"), app="hsts_s=3600")
    assert dial(r).send(get()).answer()[1]["strict-transport-security"] == ["max-age=1"]


def test_plain_http_to_the_tls_port_is_told_so(tls):
    r, t = tls()
    c = Conn(socket.create_connection(("127.0.0.1", r.tls_port)))
    status, _, body = c.send(get()).answer()
    assert status == 400 and b"https://" in body
    assert c.closed() and t.seen == []


@pytest.mark.parametrize("bytes_", [b"\0" * 100, b"SSH-2.0-x\r\n", os.urandom(5000) + b"x", b"\x16\x03\x01\x40\x01" * 50,
                                    b"\x80\x2e\x01\x00\x02" + b"x" * 50])
def test_garbage_is_closed_and_counted(tls, bytes_):
    r, _ = tls()
    c = Conn(socket.create_connection(("127.0.0.1", r.tls_port)))
    c.send(b"\x01" + bytes_ if bytes_[:1] == b"G" else bytes_)
    try:
        c.sock.shutdown(socket.SHUT_WR)
    except OSError:
        pass
    try:
        c.rest()  # an alert, perhaps
    except ConnectionResetError:
        pass
    until(lambda: r.n("tls_garbage") + r.n("tls_left") == 1 and r.n("clients") == 0)
    assert dial(r).send(get()).answer()[0] == 200


def test_a_handshake_that_does_not_go_on_ends(tls):
    r, _ = tls(more="limit header_ms=200\n")
    silent = [Conn(socket.create_connection(("127.0.0.1", r.tls_port))) for _ in range(3)]
    silent[1].send(b"\x16\x03\x01\x02\x00")
    for c in silent:
        assert c.closed()
    assert r.n("tls_late") == 3
    c = dial(r)  # the time of the handshake is not that of what follows
    assert c.send(get()).answer()[0] == 200


def test_a_flood_of_hellos_is_taken_in_turns(tls):
    """What has come while the router stood still is one turn's events: a request is not behind all of it."""
    r, _ = tls()
    count = 50
    raws = [socket.create_connection(("127.0.0.1", r.tls_port)) for _ in range(count)]
    until(lambda: r.n("clients") == count)
    hellos = []
    for _ in raws:
        out = ssl.MemoryBIO()
        s = context().wrap_bio(ssl.MemoryBIO(), out, server_hostname="first.test")
        with pytest.raises(ssl.SSLWantReadError):
            s.do_handshake()
        hellos.append(out.read())
    os.kill(r.pid, signal.SIGSTOP)
    for raw, hello in zip(raws, hellos):
        raw.sendall(hello)
    os.kill(r.pid, signal.SIGCONT)
    for raw in raws:  # each gets its turn
        raw.settimeout(WAIT)
        assert raw.recv(1) == b"\x16"
        raw.close()
    assert r.n("tls_put_off") >= count - 2 * 8


def test_renegotiation_is_refused(tls):
    r, _ = tls()
    p = subprocess.Popen(["openssl", "s_client", "-tls1_2", "-connect", "127.0.0.1:%d" % r.tls_port], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    p.stdin.write(b"R\n")
    p.stdin.flush()
    out = p.communicate(timeout=WAIT)[0]
    assert b"RENEGOTIATING" in out and b"no renegotiation" in out, out
    assert r.n("tls_handshakes") == 1


def test_a_key_update_is_answered_in_the_midst_of_requests(tls):
    r, _ = tls()
    p = subprocess.Popen(["openssl", "s_client", "-tls1_3", "-connect", "127.0.0.1:%d" % r.tls_port], stdin=subprocess.PIPE,
                         stdout=subprocess.PIPE, stderr=subprocess.STDOUT)
    for _ in range(3):
        p.stdin.write(get().encode())
        p.stdin.flush()
        until_read(p, b"200 OK")
        p.stdin.write(b"K\n")
        p.stdin.flush()
        until_read(p, b"KEYUPDATE")
    p.stdin.write(get(extra="Connection: close\r\n").encode())
    p.stdin.flush()
    until_read(p, b"200 OK")
    p.communicate(timeout=WAIT)


def until_read(p, word):
    seen = b""
    while word not in seen:
        more = p.stdout.read1(65536)
        assert more, seen
        seen += more
    return seen


BIG = os.urandom(1 << 20) * 12


def is_read(c, body):
    """Reads as much and compares; a difference is not printed."""
    parts = [c.take(len(c.buf))]
    left = len(body) - len(parts[0])
    while left > 0:
        parts.append(c.sock.recv(65536))
        if not parts[-1]:
            return False
        left -= len(parts[-1])
    return b"".join(parts) == body


def upload(body):
    return b"POST /upload HTTP/1.1\r\nHost: any\r\nContent-Length: %d\r\n\r\n" % len(body) + body


def test_large_bodies_both_ways_past_a_slow_reader(tls):
    """What does not fit waits, in the router as on either side; nothing is lost, and its memory stays small."""
    taken = threading.Event()

    def handler(c, line, f):
        if "upload" in line:
            taken.wait(WAIT)
            return ok(b"%d" % is_read(c, BIG))
        return ok(BIG)

    r, _ = tls(handler)
    before = r.memory_kb()
    c = dial(r, rcvbuf=16384)
    c.send(get())
    slow = c.head()
    assert len(BIG) == int(slow[1]["content-length"][0])
    up = dial(r)
    sender = threading.Thread(target=up.send, args=(upload(BIG),))
    sender.start()
    assert is_read(c, BIG)
    taken.set()
    sender.join()
    assert up.answer()[2] == b"1"
    assert r.memory_kb() < before + 6000 or r.sanitized()


def test_chunked_answers_and_uploads(tls):
    def handler(c, line, f):
        body = c.body(f)
        c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n")
        for i in range(0, len(body), 70001):
            piece = body[i:i + 70001]
            c.send(b"%x\r\n" % len(piece) + piece + b"\r\n")
        c.send("0\r\n\r\n")

    r, _ = tls(handler)
    c = dial(r)
    part = BIG[:3000000]
    c.send("POST / HTTP/1.1\r\nHost: any\r\nTransfer-Encoding: chunked\r\n\r\n")
    for i in range(0, len(part), 50000):
        c.send(b"%x\r\n" % len(part[i:i + 50000]) + part[i:i + 50000] + b"\r\n")
    assert c.send("0\r\n\r\n").answer()[2] == part, "differs"
    assert c.send(get()).answer()[0] == 200


def test_the_end_is_told_and_a_cut_is_not_taken_for_one(tls):
    """HTTP/1.0: the end of the connection is the end of the body, so close_notify must come, and only then."""
    cut = []

    def handler(c, line, f):
        c.send("HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n")
        if "cut" not in line:
            c.send("0\r\n\r\n")
        return False

    r, _ = tls(handler)
    c = dial(r)
    c.send("GET / HTTP/1.0\r\nHost: any\r\n\r\n").head()
    assert c.rest() == b"hello"  # without close_notify it would be SSLEOFError
    c = dial(r)
    c.send("GET /cut HTTP/1.0\r\nHost: any\r\n\r\n").head()
    with pytest.raises((ssl.SSLEOFError, ConnectionResetError)):
        cut.append(c.rest())
        raise AssertionError(cut)


def test_a_slow_reader_is_told_the_end_as_well(tls):
    r, _ = tls(lambda c, line, f: ok(BIG[:4000000]))
    c = dial(r, rcvbuf=16384)
    c.send(get(extra="Connection: close\r\n")).head()
    assert is_read(c, BIG[:4000000])
    assert c.rest() == b""


def test_a_client_that_says_no_more_still_gets_its_answer(tls):
    """Half-close: the request ends with close_notify and FIN; the answer comes all the same."""
    go = threading.Event()

    def handler(c, line, f):
        go.wait(WAIT)
        return ok(b"late")

    r, _ = tls(handler)
    out, inc = ssl.MemoryBIO(), ssl.MemoryBIO()
    s = context().wrap_bio(inc, out, server_hostname="first.test")
    raw = socket.create_connection(("127.0.0.1", r.tls_port))
    raw.settimeout(WAIT)

    def pump(what):
        while True:
            try:
                got = what()
                raw.sendall(out.read())
                return got
            except ssl.SSLWantReadError:
                raw.sendall(out.read())
                more = raw.recv(65536)
                inc.write(more) if more else inc.write_eof()

    pump(s.do_handshake)
    pump(lambda: s.write(get().encode()))
    try:
        s.unwrap()  # says close_notify
    except ssl.SSLError:
        pass
    raw.sendall(out.read())
    raw.shutdown(socket.SHUT_WR)
    go.set()
    seen = b""
    while more := raw.recv(65536):
        seen += more
    assert len(seen) > 100, seen  # records with the answer; this side cannot open them any more
    until(lambda: r.n("a")["answered_2xx"] == 1)


def test_a_websocket_and_its_ends(tls):
    def handler(c, line, f):
        c.send("HTTP/1.1 101 Switching Protocols\r\nConnection: upgrade\r\nUpgrade: websocket\r\n\r\nhi")
        while c.more():
            c.send(c.take(len(c.buf)))
        c.send(b"bye")
        return False

    r, t = tls(handler)
    c = dial(r)
    c.send(get(extra="Connection: upgrade\r\nUpgrade: websocket\r\n"))
    assert c.head()[0].split()[1] == "101" and c.read(2) == b"hi"
    for n in (1, 1000, 16384, 50000):  # one thread at a time: Python's sockets are for one only
        for i in range(0, 200000, n * 40):
            assert c.send(BIG[i:i + n]).read(n) == BIG[i:i + n]
    c.sock.close()
    until(lambda: r.n("a")["tunnels"] == 0)


def test_a_pipelined_request_in_the_handshakes_last_bytes(tls):
    """What came with the end of the handshake raises no event of its own."""
    r, _ = tls()
    for version in VERSIONS:
        s, inc, out, raw = by_hand(r, context(version))
        for _ in range(3):
            s.write(get().encode())
        raw.sendall(out.read())
        seen = b""
        while seen.count(b"200 OK") < 3:
            try:
                seen += s.read(65536)
            except ssl.SSLWantReadError:
                more = raw.recv(65536)
                assert more
                inc.write(more)
        raw.close()


def test_bytes_one_at_a_time(tls):
    """Records that arrive in pieces, and a head in many records."""
    r, _ = tls()
    c = dial(r)
    for ch in get():
        c.send(ch)
    assert c.answer()[0] == 200
    out, inc = ssl.MemoryBIO(), ssl.MemoryBIO()
    s = context().wrap_bio(inc, out, server_hostname="first.test")
    raw = socket.create_connection(("127.0.0.1", r.tls_port))
    raw.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    raw.settimeout(WAIT)

    def send_slowly():
        for b in out.read():
            raw.send(bytes([b]))

    while True:
        try:
            s.do_handshake()
            break
        except ssl.SSLWantReadError:
            send_slowly()
            inc.write(raw.recv(65536))
    s.write(get().encode())
    send_slowly()
    while True:
        try:
            assert s.read(65536).startswith(b"HTTP/1.1 200")
            break
        except ssl.SSLWantReadError:
            inc.write(raw.recv(65536))
    raw.close()


def test_a_proxy_header_stands_before_the_handshake(tls):
    r, t = tls(more="proxied 127.0.0.0/8\n")
    raw = socket.create_connection(("127.0.0.1", r.tls_port))
    raw.settimeout(WAIT)
    raw.sendall(b"PROXY TCP4 192.0.2.7 127.0.0.1 1234 443\r\n")
    c = Conn(context().wrap_socket(raw, server_hostname="first.test"))
    assert c.send(get()).answer()[0] == 200
    fields = t.seen[-1][1]
    assert fields["x-forwarded-for"] == ["192.0.2.7"] and fields["x-forwarded-proto"] == ["https"]


def test_without_a_certificate_connections_wait(router, target, certs):
    t = target()
    table = "app a\ntarget a/1 %s\n" % t.addr
    r = router(table)
    raw = socket.create_connection(("127.0.0.1", r.tls_port))  # in the kernel's queue
    raw.settimeout(WAIT)
    assert r.get()[0] == 200
    r.table(certs + table)
    c = Conn(context().wrap_socket(raw, server_hostname="first.test"))
    assert c.send(get()).answer()[0] == 200


def test_an_idle_connection_is_cheap(tls):
    r, _ = tls()
    warm = [dial(r) for _ in range(50)]
    for c in warm:
        assert c.send(get()).answer()[0] == 200
    before, many = r.memory_kb(), []
    for _ in range(300):
        many.append(dial(r))
        assert many[-1].send(get()).answer()[0] == 200
    each = (r.memory_kb() - before) * 1024 / len(many)
    print("bytes of each idle TLS connection:", each)
    assert each < 18000 or r.sanitized()


def curl(r, *args):
    return subprocess.run(["curl", "-sSk", "--http2", "--max-time", str(WAIT), *map(str, args),
                           "https://127.0.0.1:%d/" % r.tls_port], capture_output=True, check=True).stdout


def test_http2_is_agreed_and_carries_what_http1_does(tls, tmp_path):
    def handler(c, line, f):
        body = c.body(f)
        return ok(body if body else (f["x-forwarded-proto"][0] + " " + f["forwarded"][0]).encode())

    r, t = tls(handler, app="hsts_s=3600")
    assert curl(r, "-w", " %{http_version}") == b"https for=127.0.0.1;host=\"127.0.0.1:%d\";proto=https 2" % r.tls_port
    assert b"strict-transport-security: max-age=3600" in curl(r, "-I")
    big = tmp_path / "big"
    big.write_bytes(os.urandom(20 << 20))
    assert curl(r, "-T", big) == big.read_bytes()
    run = subprocess.run(["h2load", "-n", "2000", "-c", "10", "-m", "20", "https://127.0.0.1:%d/" % r.tls_port],
                         capture_output=True, text=True, check=True)
    assert "2000 succeeded, 0 failed" in run.stdout, run.stdout
    assert r.n("h2_connections") == 13


def test_http2_is_not_offered_when_it_is_switched_off(tls):
    r, t = tls(more="limit streams=0\n")
    assert curl(r, "-o", os.devnull, "-w", "%{http_version}") == b"1.1"
