# SPDX-License-Identifier: Apache-2.0
"""gRPC through the whole program, with a client and a server that others wrote (Debian's python3-grpcio)."""
import pathlib
import subprocess
import threading

import grpc
import pytest

from upstate import free_port, wait_for

APP = (pathlib.Path(__file__).parent / "grpc_app.py").read_text()
CONFIG = """
listen: [ { http: "127.0.0.1:{port}" } ]
admin: { http: "127.0.0.1:{admin}" }
apps:
  calls:
    run: ./app.py %s
    protocol: h2c
    instances: 2
    data: calls
    bake: 300ms
    drain: 20s
    health: { every: 200ms }
    ready: { within: 20s }
    hold: { wait: 1s }
"""
UNIX = CONFIG % "unix:$UPSTATE_SOCKET"


def files(version):
    return {"app.py": APP, "VERSION": version}


class Client:
    def __init__(self, port, host="localhost", channel=None):
        self.channel = channel or grpc.insecure_channel("127.0.0.1:%d" % port, options=[
            ("grpc.max_receive_message_length", -1), ("grpc.enable_retries", 0), ("grpc.default_authority", host),
            ("grpc.use_local_subchannel_pool", 1)])

    def unary(self, method, ask=b"", **more):
        return self.channel.unary_unary("/t.T/" + method)(ask, timeout=30, **more)

    def call(self, method, ask=b"", timeout=30, **more):
        return self.channel.unary_unary("/t.T/" + method).with_call(ask, timeout=timeout, **more)

    def many(self, method, ask=b""):
        return self.channel.unary_stream("/t.T/" + method)(ask, timeout=30)

    def total(self, asks):
        return self.channel.stream_unary("/t.T/Total")(asks, timeout=30)

    def echo(self, asks):
        return self.channel.stream_stream("/t.T/Echo")(asks, timeout=30)


@pytest.fixture(params=["unix", "tcp"])
def served(request, serve, tree):
    u = serve(UNIX if request.param == "unix" else CONFIG % "127.0.0.1:$PORT")
    u.deploy("calls", tree("one", files("one")))
    c = Client(u.port)
    yield u, c
    c.channel.close()


def test_all_kinds_of_calls(served):
    u, c = served
    answer, call = c.call("Unary", b"hello")
    assert answer == b"hello" and dict(call.trailing_metadata())["version"] == "one"
    assert call.code() == grpc.StatusCode.OK
    assert list(c.many("Count", b"1000")) == [b"%d" % i for i in range(1000)]
    assert c.total(b"%d" % i for i in range(1000)) == b"499500"
    assert list(c.echo(iter([b"a", b"b", b""]))) == [b"a", b"b", b""]
    assert len(c.unary("Large", b"3000000")) == 3000000
    assert c.unary("Unary", b"y" * 3000000) == b"y" * 3000000


def test_both_sides_take_turns(served):
    """Each message is sent when the one before has come back; then the server ends it, and the client has not."""
    u, c = served
    came, last = threading.Semaphore(1), []

    def asks():
        for i in range(20):
            assert came.acquire(timeout=20)
            yield b"%d" % i
        assert came.acquire(timeout=20)
        yield b"enough"
        came.acquire(timeout=20)

    answers = c.echo(asks())
    for a in answers:
        last.append(a)
        came.release()
    assert last == [b"%d" % i for i in range(20)] and answers.code() == grpc.StatusCode.OK
    came.release()


def test_errors_come_as_the_server_said_them(served):
    u, c = served
    with pytest.raises(grpc.RpcError) as e:
        c.unary("Fail")
    assert e.value.code() == grpc.StatusCode.FAILED_PRECONDITION
    assert e.value.details() == "not like that: \u00e9 %"
    assert dict(e.value.trailing_metadata())["reason-bin"] == b"\x00\xff"
    with pytest.raises(grpc.RpcError) as e:
        c.unary("Nothing")
    assert e.value.code() == grpc.StatusCode.UNIMPLEMENTED


def noted(u, text):
    file = u.state / "data" / "calls" / "notes"
    wait_for(lambda: file.exists() and text in file.read_text().split(), text)


def test_a_deadline_and_a_cancel_reach_the_server(served):
    u, c = served
    with pytest.raises(grpc.RpcError) as e:
        c.call("Sleep", b"late", timeout=0.5)
    assert e.value.code() == grpc.StatusCode.DEADLINE_EXCEEDED
    noted(u, "late-ended")
    future = c.channel.unary_unary("/t.T/Sleep").future(b"gone", timeout=30)
    noted(u, "gone-began")
    future.cancel()
    noted(u, "gone-ended")
    with pytest.raises(grpc.FutureCancelledError):
        future.result()
    assert c.unary("Unary", b"next") == b"next"


def test_what_upstate_answers_is_understood(serve, tree):
    """A plain HTTP status: what it means, gRPC says for all (doc/http-grpc-status-mapping.md)."""
    u = serve(UNIX.replace("instances: 2", "hosts: [localhost]\n    timeouts: { response: 300ms }") + """
  down:
    hosts: [down]
    targets: [127.0.0.1:1]
    protocol: h2c
    hold: { wait: 100ms }
""")
    u.deploy("calls", tree("one", files("one")))
    c = Client(u.port)
    with pytest.raises(grpc.RpcError) as e:
        c.unary("Sleep", b"x")
    assert e.value.code() == grpc.StatusCode.UNAVAILABLE and "504" in e.value.details()
    for host, status, code in (("down", "503", grpc.StatusCode.UNAVAILABLE),
                               ("nobody", "404", grpc.StatusCode.UNIMPLEMENTED)):
        d = Client(u.port, host)
        with pytest.raises(grpc.RpcError) as e:
            d.unary("Unary")
        assert e.value.code() == code and status in e.value.details()
        d.channel.close()
    c.channel.close()


def test_a_deploy_under_load_fails_no_call(served, tree):
    u, c = served
    count, failed, versions, over = [0], [], set(), threading.Event()
    lock = threading.Lock()

    def work(n):
        mine = Client(u.port)
        i = 0
        while not over.is_set():
            ask = b"%d-%d" % (n, i)
            i += 1
            try:
                answer, call = mine.call("Unary", ask)
                if answer != ask:
                    failed.append((ask, answer))
                with lock:
                    versions.add(dict(call.trailing_metadata())["version"])
                    count[0] += 1
            except grpc.RpcError as e:
                failed.append((ask, e.code(), e.details()))
        mine.channel.close()

    workers = [threading.Thread(target=work, args=(n,)) for n in range(6)]
    for w in workers:
        w.start()
    try:
        for i, name in enumerate(("two", "three")):
            wait_for(lambda: count[0] >= 3000 * (i + 1) or failed, "calls come back", 120)
            receipt = u.deploy("calls", tree(name, files(name)))
            assert receipt["outcome"] == "done" and receipt["failed"] == 0, receipt
        wait_for(lambda: count[0] >= 10000 or failed, "calls come back", 120)
    finally:
        over.set()
        for w in workers:
            w.join()
    assert failed == []
    assert versions == {"one", "two", "three"}


def test_over_tls_and_on_while_parts_are_replaced(serve, tree, folder):
    """Users come with TLS; the router is replaced under their calls."""
    key, cert = folder / "key.pem", folder / "cert.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", key,
                    "-out", cert, "-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "30"],
                   check=True, capture_output=True)
    port = free_port()
    u = serve(UNIX.replace('{ http: "127.0.0.1:{port}" }', '{ https: "127.0.0.1:%d" }' % port) +
              "certificates: [ { cert: %s, key: %s } ]\n" % (cert, key))
    u.deploy("calls", tree("one", files("one")))
    trust = grpc.ssl_channel_credentials(cert.read_bytes())
    c = Client(port, channel=grpc.secure_channel("localhost:%d" % port, trust))
    assert c.unary("Unary", b"hello") == b"hello"
    gate = threading.Semaphore(1)

    def asks():
        for i in range(10):
            assert gate.acquire(timeout=20)
            yield b"%d" % i
        assert gate.acquire(timeout=20)

    answers = c.echo(asks())
    assert next(answers) == b"0"
    u.cli("restart", "router", "--why", "a test")
    for i in range(1, 10):  # the old router goes on with what it has
        gate.release()
        assert next(answers) == b"%d" % i
        assert c.unary("Unary", b"%d" % i) == b"%d" % i
    gate.release()
    assert list(answers) == [] and answers.code() == grpc.StatusCode.OK
    c.channel.close()
