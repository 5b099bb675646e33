# SPDX-License-Identifier: Apache-2.0
"""Servers that Upstate does not run: routed to, drained, lost and found; and very many apps at once."""

import contextlib
import http.client
import http.server
import json
import os
import re
import socket
import socketserver
import subprocess
import threading
import time

import pytest

from load import assert_no_failure, load
from upstate import BINARY, free_port, wait_for

CONFIG = """
listen: [ { http: "127.0.0.1:{port}" } ]
admin: { http: "127.0.0.1:{admin}" }
apps:
"""
APP = """
  %s:
    hosts: [%s]
    targets: [%s]
    health: { every: 100ms, timeout: 1s, fall: 1 }
    %s
"""


def app(name, hosts, *targets, more=""):
    return APP % (name, ", ".join(f'"{h}"' for h in hosts), ", ".join(f'"{t}"' for t in targets), more)


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    wbufsize = -1  # an answer goes out whole, or not at all

    def do_GET(self):
        if self.path != "/up":
            with self.server.lock:
                self.server.requests += 1
            if self.server.gate:
                self.server.waiting.release()
                self.server.gate.wait(30)
        body = b"same" if self.path == "/same" else self.server.name.encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    do_POST = do_GET

    def address_string(self):
        return "-"

    def log_message(self, *args):
        pass


class Broken:
    """A gate at which the connection ends."""

    def wait(self, _):
        raise ConnectionAbortedError

    def set(self):
        pass


class Unix(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 512


class Tcp(socketserver.ThreadingMixIn, socketserver.TCPServer):
    daemon_threads = True
    allow_reuse_address = True
    request_queue_size = 512


class Target:
    """A server of ours that says its name. gate(): it takes requests and answers none until open()."""

    def __init__(self, name, where):
        self.name, self.where = name, where
        self.address = f"unix:{where}" if isinstance(where, str) else f"127.0.0.1:{where}"
        self.server = None
        self.start()

    def start(self):
        if isinstance(self.where, str):
            with contextlib.suppress(FileNotFoundError):
                os.unlink(self.where)
            self.server = Unix(self.where, Handler)
            os.chmod(self.where, 0o666)
        else:
            self.server = Tcp(("127.0.0.1", self.where), Handler)
        self.server.name, self.server.lock, self.server.requests = self.name, threading.Lock(), 0
        self.server.gate, self.server.waiting = None, threading.Semaphore(0)
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()

    def gate(self):
        self.server.gate = threading.Event()

    def inside(self, count):
        """Waits until so many requests came in at the closed gate."""
        for _ in range(count):
            assert self.server.waiting.acquire(timeout=20)

    def open(self):
        gate, self.server.gate = self.server.gate, None
        gate.set()

    @property
    def requests(self):
        return self.server.requests

    def stop(self):
        if self.server:
            if self.server.gate:
                self.open()
            self.server.shutdown()
            self.server.server_close()
        self.server = None


@pytest.fixture
def target(folder):
    """target(name) listens at a port, target(name, unix=True) at a socket."""
    all_ = []

    def make(name, unix=False):
        all_.append(Target(name, str(folder / f"{name}.sock") if unix else free_port()))
        return all_[-1]

    yield make
    for t in all_:
        t.stop()


def good(u, *names):
    wait_for(lambda: all(u.app(name)["status"] == "good" for name in names), f"{names} are good")


def use(u, app_, name):
    return next(t for t in u.app(app_)["targets"] if t["name"] == name)


def reload(u, text):
    """The answer of a reload with this file. While it is open for writing, Upstate does not take it up by itself."""
    with open(u.config, "w") as f:
        f.write(text.replace("{port}", str(u.port)).replace("{admin}", str(u.admin)))
        f.flush()
        return json.loads(u.cli("reload", "--json").stdout)


# --- routes ---


def test_tcp_and_unix_targets_share_the_work(serve, target):
    tcp, unix = target("tcp"), target("unix", unix=True)
    u = serve(CONFIG + app("old", ["*"], tcp.address, unix.address))
    good(u, "old")
    with load(u.port, path="/same", rate=200) as client, client.step("both") as seen:
        client.more(60)
    assert_no_failure(seen, at_least=50)
    assert tcp.requests >= 5 and unix.requests >= 5


def test_the_most_specific_host_and_the_longest_path_win(serve, target):
    t = {name: target(name, unix=True) for name in ("exact", "suffix", "any", "api", "deep")}
    u = serve(CONFIG + app("exact", ["shop.example"], t["exact"].address)
              + app("suffix", ["*.shop.example"], t["suffix"].address)
              + app("any", ["*"], t["any"].address)
              + app("api", ["shop.example"], t["api"].address, more="path: /api")
              + app("deep", ["shop.example"], t["deep"].address, more="path: [/api/v2, /img]"))
    good(u, *t)
    for host, path, expected in (
            ("shop.example", "/", "exact"), ("SHOP.example:8080", "/", "exact"), ("shop.example.", "/", "exact"),
            ("a.shop.example", "/", "suffix"), ("b.a.shop.example", "/api", "suffix"),
            ("xshop.example", "/", "any"), ("127.0.0.1", "/api", "any"),
            ("shop.example", "/api", "api"), ("shop.example", "/api/", "api"), ("shop.example", "/api/v1/x", "api"),
            ("shop.example", "/api?x=/api/v2", "api"), ("shop.example", "/apix", "exact"),
            ("shop.example", "/api/v2", "deep"), ("shop.example", "/api/v2/x?y", "deep"),
            ("shop.example", "/api/v20", "api"), ("shop.example", "/img/a.png", "deep")):
        assert u.get(path, host=host)[:2] == (200, expected), (host, path)


def test_an_unknown_host_is_told_so_by_upstate(serve, target):
    u = serve(CONFIG + app("shop", ["shop.example"], target("shop").address))
    good(u, "shop")
    status, body, _ = u.get("/", host="other.example")
    assert status == 404 and "Upstate" in body
    assert u.app("shop")["requests"] == 0


# --- one target out and back ---


@pytest.mark.parametrize("verb", ["drain", "fence"])
@pytest.mark.parametrize("unix", [False, True], ids=["tcp", "unix"])
def test_a_target_goes_out_and_comes_back_under_load(serve, target, verb, unix):
    a, b = target("a", unix), target("b", unix)
    u = serve(CONFIG + app("old", ["*"], a.address, b.address))
    good(u, "old")
    with load(u.port, path="/same", rate=300) as client, client.step(verb) as seen:
        client.more(30)
        u.cli(verb, "old", a.address, "--why", "a test")
        wait_for(lambda: use(u, "old", a.address)["inside"] == 0, "nothing is inside")
        client.more(30)  # what was cut on its way is still read by the target, and counted there
        before = a.requests
        client.more(60)
        assert a.requests == before
        assert u.app("old")["status"] == "bad"  # it works, with less than it should have
        u.cli("unfence", "old", a.address, "--why", "a test")
        wait_for(lambda: a.requests > before, "it works again")
    assert_no_failure(seen, at_least=80)
    good(u, "old")


def test_a_drained_target_finishes_what_is_inside_and_a_fenced_one_does_not(serve, target):
    a, b = target("a"), target("b")
    u = serve(CONFIG + app("old", ["*"], a.address, more="drain: 20s"))
    good(u, "old")
    a.gate()
    said = []
    asking = threading.Thread(target=lambda: said.append(u.get("/")))
    asking.start()
    a.inside(1)
    u.configure(CONFIG + app("old", ["*"], a.address, b.address, more="drain: 20s"))
    u.cli("reload")
    u.cli("drain", "old", a.address, "--why", "a test")
    assert u.get("/")[1] == "b" and not said
    a.open()
    asking.join()
    assert said[0][:2] == (200, "a")
    u.cli("unfence", "old", a.address, "--why", "a test")
    good(u, "old")

    a.gate(), b.gate()
    said.clear()
    askings = [threading.Thread(target=lambda: said.append(u.get("/"))) for _ in range(2)]
    for t in askings:
        t.start()
    a.inside(1), b.inside(1)
    u.cli("fence", "old", a.address, "--why", "a test")
    b.inside(1)  # a GET may be asked again elsewhere
    b.open()
    for t in askings:
        t.join()
    assert [s[:2] for s in said] == [(200, "b")] * 2


# --- one that serves badly ---


def test_a_target_that_breaks_off_is_ejected_and_status_says_why(serve, target):
    a, b = target("a"), target("b")
    u = serve(CONFIG + app("old", ["*"], a.address, b.address, more="eject: { failures: 3, time: 1s }"))
    good(u, "old")
    a.server.gate = Broken()
    for _ in range(20):
        assert u.get("/")[:2] == (200, "b")  # each was tried once more
    status = use(u, "old", a.address)
    assert status["status"] == "bad", status
    assert re.fullmatch(r"ejected: 3 failures in a row, until \d\d:\d\d:\d\d UTC", status["reason"])
    assert "ejected" in u.cli("status", "old").stdout
    assert u.app("old")["failed"] == 0 and u.app("old")["status"] == "bad"
    a.server.gate = None
    good(u, "old")
    wait_for(lambda: u.get("/")[1] == "a", "it is back")


# --- the configuration ---


def test_a_reload_takes_targets_in_and_out_and_nobody_notices(serve, target):
    a, b, c = target("a"), target("b", unix=True), target("c")
    u = serve(CONFIG + app("old", ["*"], a.address, b.address) + app("other", ["other.example"], c.address))
    good(u, "old", "other")
    idle = [http.client.HTTPConnection("127.0.0.1", u.port, timeout=20) for _ in range(10)]

    def ask_all(expected):
        for connection in idle:
            connection.request("GET", "/", headers={"Host": "other.example"})
            answer = connection.getresponse()
            assert (answer.status, answer.read().decode()) == (200, expected)

    ask_all("c")
    ends = [connection.sock.getsockname() for connection in idle]
    with load(u.port, path="/same", rate=300) as client, client.step("reloads") as seen:
        for targets in ([b, c], [c], [a, b, c], [a], [a, b]):
            said = reload(u, CONFIG + app("old", ["*"], *(t.address for t in targets))
                          + app("other", ["other.example"], c.address))
            assert said["changed"] == ["old"] and said["applied"]
            names = {t.address for t in targets}
            wait_for(lambda: {t["name"] for t in u.app("old")["targets"]} == names, "the targets are those")
            good(u, "old")
            client.more(30)
            ask_all("c")
    assert_no_failure(seen, at_least=120)
    assert [connection.sock.getsockname() for connection in idle] == ends  # not one was closed
    for connection in idle:
        connection.close()


@pytest.mark.parametrize("key", ["body: 1M", "hold: { requests: 7 }", "timeouts: { response: 9s }", "path: /x"])
def test_a_reload_names_the_apps_that_changed(serve, target, key):
    a = target("a")
    u = serve(CONFIG + app("old", ["*"], a.address) + app("other", ["other.example"], a.address))
    text = CONFIG + app("old", ["*"], a.address, more=key) + app("other", ["other.example"], a.address)
    assert reload(u, text)["changed"] == ["old"]
    assert reload(u, text)["changed"] == []
    assert "path" not in key or u.get("/")[0] == 404


@pytest.mark.parametrize("order", ["finishes", "is cut at the end of the drain"])
def test_what_is_inside_a_target_that_is_taken_out(serve, target, order):
    a, b = target("a"), target("b")
    drain = "20s" if order == "finishes" else "300ms"
    u = serve(CONFIG + app("old", ["*"], a.address, more=f"drain: {drain}"))
    good(u, "old")
    a.gate()
    with socket.create_connection(("127.0.0.1", u.port), timeout=20) as client:
        client.sendall(b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\nConnection: close\r\n\r\n")
        a.inside(1)
        u.configure(CONFIG + app("old", ["*"], b.address, more=f"drain: {drain}"))
        u.cli("reload")
        assert u.get("/")[1] == "b"
        assert {t["name"] for t in u.app("old")["targets"]} == {b.address}
        if order == "finishes":
            a.open()
        said = b""
        while more := client.recv(1000):
            said += more
    if order == "finishes":
        assert said.startswith(b"HTTP/1.1 200 ") and said.endswith(b"a")
        assert u.app("old")["failed"] == 0
    else:
        assert said.startswith(b"HTTP/1.1 502 ")  # a POST may have been done: it is not sent again
        assert u.app("old")["failed"] == 1


# --- nobody there ---


def ask_in_threads(u, count, said, **more):
    def ask():
        begun = time.monotonic()
        status, _, headers = u.get("/", **more)
        said.append((status, time.monotonic() - begun, headers))

    threads = [threading.Thread(target=ask) for _ in range(count)]
    for t in threads:
        t.start()
    return threads


def test_an_outage_is_waited_out(serve, target):
    a = target("a")
    u = serve(CONFIG + app("old", ["*"], a.address))
    good(u, "old")
    a.stop()
    said = []
    threads = ask_in_threads(u, 5, said)
    wait_for(lambda: u.app("old")["waiting"] == 5, "five wait")
    assert u.app("old")["status"] == "ugly" and not said
    a.start()
    for t in threads:
        t.join()
    assert [status for status, *_ in said] == [200] * 5


def test_in_an_outage_the_wait_counts_from_its_start(serve, target):
    a = target("a")
    u = serve(CONFIG + app("old", ["*"], a.address, more="hold: { wait: 2s }"))
    good(u, "old")
    a.stop()
    wait_for(lambda: u.app("old")["status"] == "ugly", "nobody is there")
    begun = time.monotonic()
    first = []
    for t in ask_in_threads(u, 3, first):
        t.join()
    assert [status for status, *_ in first] == [503] * 3
    assert time.monotonic() - begun < 2.5
    assert all(int(headers["Retry-After"]) >= 1 for *_, headers in first)
    late = []
    for t in ask_in_threads(u, 3, late):
        t.join()
    assert [status for status, *_ in late] == [503] * 3
    assert max(took for _, took, _ in late) < 1  # nobody waits 2 s for hours


def test_the_queue_is_bounded_and_who_leaves_frees_his_place(serve, target):
    a = target("a")
    u = serve(CONFIG + app("old", ["*"], a.address, more="hold: { wait: 30s, requests: 4 }"))
    good(u, "old")
    u.cli("hold", "old", "--why", "a test")
    with contextlib.ExitStack() as stack:
        leaving = [stack.enter_context(socket.create_connection(("127.0.0.1", u.port))) for _ in range(4)]
        for s in leaving:
            s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\n\r\n")
        wait_for(lambda: u.app("old")["waiting"] == 4, "four wait")
        status, _, headers = u.get("/")
        assert status == 503 and int(headers["Retry-After"]) >= 1
        for s in leaving[:2]:
            s.close()
        wait_for(lambda: u.app("old")["waiting"] == 2, "two left")
        said = []
        threads = ask_in_threads(u, 2, said)
        wait_for(lambda: u.app("old")["waiting"] == 4, "four wait again")
        u.cli("resume", "old", "--why", "a test")
        for t in threads:
            t.join()
        assert [status for status, *_ in said] == [200, 200]
        for s in leaving[2:]:
            assert s.recv(100).startswith(b"HTTP/1.1 200")
    limits = {x["name"]: x for x in u.api("GET", "/v1/limits")[1]["limits"]}
    assert limits["old.hold.requests"]["bound"] == 4 and limits["old.hold.requests"]["overflowed"] == 1


def test_what_is_over_the_limit_of_a_target_waits_and_goes_elsewhere(serve, target):
    a, b = target("a"), target("b")
    u = serve(CONFIG + app("old", ["*"], a.address, b.address, more="limit: 2"))
    good(u, "old")
    a.gate(), b.gate()
    said = []
    threads = ask_in_threads(u, 10, said)
    a.inside(2), b.inside(2)
    wait_for(lambda: u.app("old")["waiting"] == 6, "six wait in the router")
    b.open()
    wait_for(lambda: len(said) == 8, "b answers all but those that are inside a")
    a.open()
    for t in threads:
        t.join()
    assert [status for status, *_ in said] == [200] * 10


# --- very many ---


def many(count, target_, changed=""):
    parts = [CONFIG]
    for n in range(count):
        wait = 11 if f"app-{n}" == changed else 10
        parts.append(f"  app-{n}: {{ hosts: [app-{n}.example], targets: ['{target_.address}'], "
                     f"hold: {{ wait: {wait}s }}, health: {{ every: 1h }} }}\n")
    return "".join(parts)


def test_ten_thousand_apps(serve, target):
    count = 10_000
    one = target("one", unix=True)
    u = serve(many(count, one), start=False)
    done = subprocess.run([BINARY, "check", "-c", u.config], capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    u.start()
    for n in (0, 1, 4_999, count - 1):
        assert u.get("/", host=f"app-{n}.example")[:2] == (200, "one")
    assert u.get("/", host=f"app-{count}.example")[0] == 404
    connection = http.client.HTTPConnection("127.0.0.1", u.port, timeout=20)
    with contextlib.closing(connection), load(u.port, path="/same", rate=200, host="app-7.example") as client:
        connection.request("GET", "/", headers={"Host": "app-1.example"})
        assert connection.getresponse().read() == b"one"
        end = connection.sock.getsockname()
        text = many(count, one, changed="app-3")
        with client.step("reload") as seen:
            begun = time.monotonic()
            said = reload(u, text)
            took = time.monotonic() - begun
            client.more(20)
        assert said["changed"] == ["app-3"]
        assert_no_failure(seen, at_least=20)
        assert seen["longest_ms"] < 1000
        assert took < 5
        connection.request("GET", "/", headers={"Host": "app-1.example"})
        assert connection.getresponse().read() == b"one" and connection.sock.getsockname() == end
