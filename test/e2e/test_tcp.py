# SPDX-License-Identifier: Apache-2.0
"""TCP apps behind the whole program: deployed under load, killed, held, beside an app of HTTP."""

import os
import signal
import socket
import subprocess
import threading

import pytest

import apps
from load import assert_no_failure, load
from upstate import free_port, wait_for

# Says its release first, then gives back every line; ends on TERM when its last connection does.
ECHO = r'''#!/usr/bin/env python3
import os, signal, socketserver, threading

VERSION = open("VERSION").read()

class Handler(socketserver.StreamRequestHandler):
    def handle(self):
        self.wfile.write(f"{VERSION} {os.getpid()}\n".encode())
        for line in self.rfile:
            self.wfile.write(line)

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

Server(os.environ["UPSTATE_SOCKET"], Handler).serve_forever()
'''

CONFIG = """
listen: [ { http: "127.0.0.1:{port}" } ]
admin: { http: "127.0.0.1:{admin}" }
apps:
  lines:
    tcp: 127.0.0.1:{tcp}
    run: ./echo.py --socket $UPSTATE_SOCKET
    instances: 2
    health: { every: 200ms }
    bake: 300ms
    drain: 20s
    ready: { within: 10s }
  web:
    run: upstate files .
    bake: 100ms
"""


def config(port, text=CONFIG):
    return text.replace("{tcp}", str(port))


def files(version):
    return {"echo.py": ECHO, "VERSION": version}


class Lines:
    """A connection that speaks lines."""

    def __init__(self, port):
        self.sock = socket.create_connection(("127.0.0.1", port), 30)
        self.file = self.sock.makefile("rwb")
        self.version, self.pid = self.line().split()

    def line(self):
        got = self.file.readline()
        assert got.endswith(b"\n"), got
        return got.decode().rstrip("\n")

    def say(self, text):
        self.file.write(text.encode() + b"\n")
        self.file.flush()
        return self.line()

    def close(self):
        self.file.close()
        self.sock.close()


class Callers:
    """Connects, says a few lines, and leaves, again and again, in some threads."""

    def __init__(self, port, threads=4):
        self.port, self.count, self.failed, self.over = port, 0, [], False
        self.threads = [threading.Thread(target=self.run) for _ in range(threads)]
        for t in self.threads:
            t.start()

    def run(self):
        while not self.over:
            try:
                c = Lines(self.port)
                for i in range(3):
                    assert c.say(f"line {i}") == f"line {i}"
                c.close()
                self.count += 1
            except (OSError, AssertionError) as e:
                self.failed.append(repr(e))

    def more(self, n):
        before = self.count
        wait_for(lambda: self.count >= before + n, f"{n} more connections", 60)

    def stop(self):
        self.over = True
        for t in self.threads:
            t.join()


@pytest.fixture
def tcp(serve, tree):
    """An app of TCP, and one of HTTP beside it: (Upstate, port, Callers)."""
    port = free_port()
    u = serve(config(port))
    u.deploy("lines", tree("one", files("one")))
    callers = Callers(port)
    yield u, port, callers
    callers.stop()


def test_a_deploy_under_load_loses_no_connection(tcp, tree):
    u, port, callers = tcp
    held = [Lines(port) for _ in range(10)]
    assert {c.version for c in held} == {"one"} and len({c.pid for c in held}) == 2
    receipt = {}
    deploy = threading.Thread(target=lambda: receipt.update(u.deploy("lines", tree("two", files("two")))))
    deploy.start()
    wait_for(lambda: next_version(port) == "two", "the new release is reached")
    # Those that are open live on in the old one, for as long as drain says.
    assert all(c.say("still here") == "still here" for c in held)
    for c in held:
        c.close()
    deploy.join()
    callers.more(20)
    assert callers.failed == []
    assert receipt["outcome"] == "done" and receipt["failed"] == 0 and receipt["answered"] > 0
    assert next_version(port) == "two"
    u.cli("rollback", "lines", "--why", "a test")
    callers.more(20)
    assert callers.failed == [] and next_version(port) == "one"


def next_version(port):
    c = Lines(port)
    c.close()
    return c.version


def test_what_is_open_when_drain_is_over_is_cut_and_counted(serve, tree):
    port = free_port()
    u = serve(config(port).replace("drain: 20s", "drain: 200ms"))
    u.deploy("lines", tree("one", files("one")))
    held = Lines(port)
    receipt = u.deploy("lines", tree("two", files("two")))
    assert receipt["outcome"] == "done" and receipt["failed"] == 1
    with pytest.raises((ConnectionResetError, AssertionError)):
        held.line()


def test_an_instance_that_is_killed_takes_only_its_own(tcp):
    u, port, callers = tcp
    other = Lines(port)
    callers.stop()
    victim = next(i for i in u.app("lines")["instances"] if str(i["pid"]) != other.pid)
    os.kill(victim["pid"], signal.SIGKILL)
    for _ in range(20):
        assert next_version(port) == "one"
    assert other.say("untouched") == "untouched"


def test_connections_wait_while_the_app_is_held(tcp):
    u, port, callers = tcp
    callers.stop()
    u.cli("hold", "lines", "--why", "a test")
    waiting = [threading.Thread(target=next_version, args=[port]) for _ in range(5)]
    for t in waiting:
        t.start()
    wait_for(lambda: u.app("lines")["waiting"] == 5, "they wait")
    u.cli("resume", "lines", "--why", "a test")
    for t in waiting:
        t.join()
    assert u.app("lines")["failed"] == 0


def test_a_change_of_the_configuration_leaves_connections_alone(tcp):
    u, port, callers = tcp
    held, other = Lines(port), free_port()
    u.configure(config(port) + f"  more:\n    tcp: 127.0.0.1:{other}\n    targets: [127.0.0.1:{port}]\n")
    u.cli("reload")
    wait_for(lambda: answers(other), "the new app is reached")
    assert next_version(other) == "one"  # through both
    u.configure(config(port))
    u.cli("reload")
    wait_for(lambda: not answers(other), "the address is given back")
    assert held.say("untouched") == "untouched"
    callers.more(20)
    assert callers.failed == []


def answers(port):
    with socket.socket() as s:
        return s.connect_ex(("127.0.0.1", port)) == 0


def test_an_app_of_http_beside_it_needs_no_hosts(tcp, folder):
    u, _, _ = tcp
    (folder / "site").mkdir()
    (folder / "site/index.html").write_text("hello\n")
    u.deploy("web", folder / "site")
    assert u.get("/")[:2] == (200, "hello\n")


REDIS = """
listen: [ { http: "127.0.0.1:{port}" } ]
admin: { http: "127.0.0.1:{admin}" }
apps:
  store:
    tcp: 127.0.0.1:{tcp}
    run: exec redis-server --port 0 --unixsocket $UPSTATE_SOCKET --unixsocketperm 770 --save "" --dir $UPSTATE_DATA
    data: store
    mixed: never
    bake: 300ms
"""


def test_redis_is_an_app(serve, tree):
    port = free_port()
    u = serve(config(port, REDIS))
    u.deploy("store", tree("one", {"VERSION": "one"}))

    def cli(*words):
        return subprocess.run(["redis-cli", "-p", str(port), *words], capture_output=True, text=True, timeout=30,
                              check=True).stdout.strip()

    assert cli("set", "a", "b") == "OK" and cli("get", "a") == "b"
    value = "x" * (32 << 20)
    done = subprocess.run(["redis-cli", "-p", str(port), "-x", "set", "large"], input=value, capture_output=True,
                          text=True, timeout=60, check=True)
    assert done.stdout.strip() == "OK" and cli("strlen", "large") == str(len(value))
    assert subprocess.run(["redis-benchmark", "-p", str(port), "-q", "-n", "5000", "-c", "50", "-t", "set,get"],
                          capture_output=True, text=True, timeout=60, check=True).stderr == ""
    # One at a time: in between, connections wait.
    assert u.deploy("store", tree("two", {"VERSION": "two"}))["outcome"] == "done"
    assert cli("ping") == "PONG"


PROXIED = """
listen: [ { http: "127.0.0.1:{port}", proxy: [127.0.0.0/8] } ]
admin: { http: "127.0.0.1:{admin}" }
apps:
  inner:
    hosts: ["*"]
    run: ./server.py --socket $UPSTATE_SOCKET
    health: { path: /up, every: 200ms }
    bake: 100ms
"""


def test_one_upstate_behind_another_knows_the_client(serve, tree, folder):
    """proxy: v2 of a TCP app in front, proxy: of the listener behind."""
    inner = serve(PROXIED, start=False)
    inner.start()
    inner.deploy("inner", tree("one", apps.files("one")))
    port = free_port()
    serve("listen: [ { http: \"127.0.0.1:{port}\" } ]\nadmin: { http: \"127.0.0.1:{admin}\" }\n"
          f"apps:\n  front:\n    tcp: 127.0.0.1:{port}\n    proxy: v2\n    targets: [127.0.0.1:{inner.port}]\n")
    wait_for(lambda: answers(port), "the front listens")
    # By an address of its own, to be told from the front's.
    got = subprocess.run(["curl", "-sS", "-m", "20", "--interface", "127.0.0.9", f"http://127.0.0.1:{port}/same"],
                         capture_output=True, text=True, check=True).stdout
    assert got == "same"
    log = inner.state / "log/access.log"
    wait_for(lambda: log.exists() and '"client":"127.0.0.9"' in log.read_text(), "the log has its address")
    direct = subprocess.run(["curl", "-sS", "-m", "20", f"http://127.0.0.1:{inner.port}/same"], capture_output=True)
    assert direct.returncode in (52, 56)  # without a header: closed


@pytest.mark.parametrize("rate", [200])
def test_http_is_carried_by_a_tcp_app_under_load(serve, tree, rate):
    inner = serve(apps.CONFIG)
    inner.deploy("web", tree("one", apps.files("one")))
    port = free_port()
    serve("listen: [ { http: \"127.0.0.1:{port}\" } ]\nadmin: { http: \"127.0.0.1:{admin}\" }\n"
          f"apps:\n  front:\n    tcp: 127.0.0.1:{port}\n    targets: [127.0.0.1:{inner.port}]\n")
    wait_for(lambda: answers(port), "the front listens")
    with load(port, path="/same", rate=rate) as client:
        with client.step("deploy") as seen:
            assert inner.deploy("web", tree("two", apps.files("two")))["outcome"] == "done"
            client.more(50)
        assert_no_failure(seen, at_least=50)
