# SPDX-License-Identifier: Apache-2.0
"""The judge is judged: servers that are broken in one known way each, and load must name it.

A server here is a function that gets a connection and the request's words, once for each request;
what it returns false for, it has closed. Every count is exact, because the test decides which
requests are answered badly.
"""
import json
import os
import pathlib
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOAD = pathlib.Path(os.environ.get("UPSTATE_BUILD", ROOT / "build")) / "bench" / "load"


class Request:
    def __init__(self, method, path, body):
        self.method, self.path, self.body = method, path, body
        found = re.search(r"(r[0-9a-f]{8}-)(\d+)", path + body)
        self.id, self.n = (found.group(0), int(found.group(2))) if found else (None, None)
        lines = re.search(r"lines=(\d+)", path)
        self.lines = int(lines.group(1)) if lines else 0
        self.chunked = "chunked=1" in path

    def good_body(self):
        if self.method == "POST":
            return f"signed v1 {self.id}\n"
        return f"guestbook v1 {self.id}\n" + f"{self.id}\n" * self.lines


def counted(body, status="200 OK", extra=""):
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\n{extra}\r\n{body}".encode()


def in_chunks(body):
    parts = "".join(f"{len(p):x}\r\n{p}\r\n" for p in (body[:7], body[7:]) if p)
    return f"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n{parts}0\r\n\r\n".encode()


class Server:
    """Answers well, except what `spoil(server, connection, request)` takes over: it returns True when
    it answered, False when the connection is over, None to leave it to the server."""

    def __init__(self, spoil=lambda server, connection, request: None):
        self.spoil = spoil
        self.book = []
        self.lock = threading.Lock()
        self.listener = socket.create_server(("127.0.0.1", 0), backlog=512)
        self.address = "127.0.0.1:%d" % self.listener.getsockname()[1]
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                connection, _ = self.listener.accept()
            except OSError:
                return
            threading.Thread(target=self.serve, args=(connection,), daemon=True).start()

    def serve(self, connection):
        data = b""
        with connection:
            try:
                while True:
                    while b"\r\n\r\n" not in data:
                        more = connection.recv(65536)
                        if not more:
                            return
                        data += more
                    head, data = data.split(b"\r\n\r\n", 1)
                    length = re.search(rb"(?i)content-length: (\d+)", head)
                    length = int(length.group(1)) if length else 0
                    while len(data) < length:
                        data += connection.recv(65536)
                    body, data = data[:length], data[length:]
                    method, path, _ = head.split(b"\r\n")[0].decode().split(" ")
                    if not self.answer(connection, Request(method, path, body.decode())):
                        return
            except OSError:
                return

    def answer(self, connection, request):
        if request.path.startswith("/book"):
            with self.lock:
                lines = list(self.book)
            connection.sendall(in_chunks("".join(f"{i}\n" for i in lines) + f"end {len(lines)}\n"))
            return True
        done = self.spoil(self, connection, request)
        if done is not None:
            return done
        if request.method == "POST":
            self.sign(request)
        body = request.good_body()
        connection.sendall(in_chunks(body) if request.chunked else counted(body))
        return True

    def sign(self, request):
        with self.lock:
            self.book.append(request.id)

    def close(self):
        self.listener.close()


@pytest.fixture
def serve():
    servers = []

    def start(spoil=lambda server, connection, request: None):
        servers.append(Server(spoil))
        return servers[-1]

    yield start
    for server in servers:
        server.close()


def run(address, *options, rate=200, seconds=1):
    done = subprocess.run(
        [LOAD, "--rate", str(rate), "--seconds", str(seconds), *options, address],
        stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, timeout=60)
    return done.returncode, json.loads(done.stdout.splitlines()[-1])


def every_tenth(action, method=None):
    """Spoils the requests whose number ends in 3."""

    def spoil(server, connection, request):
        if request.n % 10 != 3 or (method and request.method != method):
            return None
        return action(server, connection, request)

    return spoil


def reset(server, connection, request):
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    connection.close()
    return False


def say(make):
    """An answer in place of the right one; the connection stays."""

    def action(server, connection, request):
        connection.sendall(make(request))
        return True

    return action


def say_and_close(make):
    def action(server, connection, request):
        connection.sendall(make(request))
        return False

    return action


def test_a_good_server_is_found_good(serve):
    code, total = run(serve().address, "--verify")
    assert code == 0
    assert (total["requests"], total["classes"]["ok"]) == (200, 200)
    assert total["acknowledged_posts"] == total["found_posts"] == total["post"]["requests"] > 0
    assert 0 < total["p50_ms"] <= total["p99_ms"] <= total["longest_ms"]
    assert total["connections_opened"] < 200, "some connections are used again"


BROKEN = {
    "cut within a counted body": ("cut", say_and_close(lambda r: counted(r.good_body())[:-1])),
    "cut within a chunked body": ("cut", say_and_close(lambda r: in_chunks(r.good_body())[:-1])),
    "cut within the head": ("cut", say_and_close(lambda r: b"HTTP/1.1 200 O")),
    "closed without an answer": ("eof", lambda s, c, r: False),
    "reset": ("reset", reset),
    "502": ("s5xx", say(lambda r: counted("bad gateway\n", "502 Bad Gateway"))),
    "404": ("s4xx", say(lambda r: counted("nothing here\n", "404 Not Found"))),
    "a redirect": ("status", say(lambda r: counted("", "302 Found", "Location: /\r\n"))),
    "another request's answer": ("wrong", say(lambda r: counted(r.good_body().replace(r.id, r.id + "0")))),
    "a line too much": ("wrong", say(lambda r: counted(r.good_body() + r.id + "\n"))),
    "a line too few": ("wrong", say(lambda r: counted(r.good_body()[:-5]))),
    "an empty body": ("wrong", say(lambda r: counted(""))),
    "no length": ("malformed", say_and_close(
        lambda r: f"HTTP/1.1 200 OK\r\n\r\n{r.good_body()}".encode())),
    "two lengths": ("malformed", say_and_close(
        lambda r: counted(r.good_body(), extra=f"Content-Length: {len(r.good_body())}\r\n"))),
    "length and chunks": ("malformed", say_and_close(
        lambda r: in_chunks(r.good_body()).replace(b"\r\n", b"\r\nContent-Length: 3\r\n", 1))),
    "a chunk longer than it says": ("malformed", say_and_close(
        lambda r: in_chunks(r.good_body()).replace(b"\r\n7\r\n", b"\r\n5\r\n", 1))),
    "a chunk's size is no number": ("malformed", say_and_close(
        lambda r: in_chunks(r.good_body()).replace(b"\r\n7\r\n", b"\r\n0x7\r\n", 1))),
    "a bare LF": ("malformed", say_and_close(lambda r: b"HTTP/1.1 200 OK\nContent-Length: 0\n\n")),
    "no HTTP": ("malformed", say_and_close(lambda r: b"hello, here is your page\r\n\r\n")),
}


@pytest.mark.parametrize("kind", BROKEN)
def test_each_broken_answer_is_noticed_and_named(serve, kind):
    outcome, action = BROKEN[kind]
    code, total = run(serve(every_tenth(action)).address)
    others = {k: v for k, v in total["classes"].items() if v and k not in ("ok", outcome)}
    assert code == 1
    assert (total["classes"][outcome], total["classes"]["ok"], others) == (20, 180, {})
    assert total["wrong"] == (20 if outcome == "wrong" else 0)
    assert total["not_permitted"] == total["failed"] == (0 if outcome == "wrong" else 20)


def test_an_answer_given_twice_is_a_stray(serve):
    def twice(server, connection, request):
        connection.sendall(counted(request.good_body()) * 2)
        return True

    code, total = run(serve(every_tenth(twice, "GET")).address, "--fresh", "0")
    assert code == 1
    assert total["failed"] == 0
    assert total["stray"] == total["wrong"] > 0


def test_bytes_on_an_idle_connection_are_strays(serve):
    def later(server, connection, request):
        connection.sendall(counted(request.good_body()))
        time.sleep(0.01)  # the fault is made of time: the connection is idle meanwhile
        connection.sendall(b"HTTP/1.1 408 Request Timeout\r\nContent-Length: 0\r\n\r\n")
        return False

    code, total = run(serve(every_tenth(later)).address, "--fresh", "0", "--post", "0", rate=20)
    assert code == 1 and total["stray"] > 0 and total["failed"] == 0


def test_interim_answers_are_not_the_answer(serve):
    early = b"HTTP/1.1 103 Early Hints\r\nLink: </a.css>\r\n\r\n"
    code, total = run(serve(every_tenth(say(lambda r: early + counted(r.good_body())), "GET")).address)
    assert (code, total["classes"]["ok"]) == (0, 200)


def test_a_closed_idle_connection_is_not_used_again(serve):
    """The server closes after each answer and does not say so: a good client sees it and loses nothing."""
    code, total = run(serve(every_tenth(say_and_close(
        lambda r: counted(r.good_body())), "GET")).address, "--post", "0", rate=100)
    assert (code, total["failed"]) == (0, 0)


def test_silence_is_a_timeout_and_counts_from_when_it_was_due(serve):
    def silent(server, connection, request):
        connection.recv(1)  # until the client gives up
        return False

    code, total = run(serve(every_tenth(silent)).address, "--timeout", "300", rate=50)
    assert (code, total["classes"]["timeout"]) == (1, 5)
    assert total["longest_ms"] >= 300


def test_nobody_listening_is_refused():
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    code, total = run(f"127.0.0.1:{port}", rate=50)
    assert (code, total["classes"]["refused"]) == (1, 50)


def test_slow_answers_do_not_slow_the_arrivals(serve):
    """Open loop: with one connection and 20 ms an answer, 200 requests a second pile up, and their times
    count the pile."""

    def slow(server, connection, request):
        time.sleep(0.02)
        return None

    code, total = run(serve(slow).address, "--connections", "1", "--fresh", "0", rate=200)
    assert (code, total["requests"]) == (0, 200)
    assert total["waited"] > 150 and total["waiting_most"] > 100
    assert total["longest_ms"] > 2500, "the last one waited for 200 answers of 20 ms"


def test_a_lost_post_is_missing(serve):
    def lose(server, connection, request):
        connection.sendall(counted(request.good_body()))
        return True

    code, total = run(serve(every_tenth(lose, "POST")).address, "--post", "100", "--verify")
    assert (code, total["missing_posts"], total["double_posts"]) == (1, 20, 0)


def test_a_post_that_is_done_twice_is_double(serve):
    def twice(server, connection, request):
        server.sign(request)
        return None

    code, total = run(serve(every_tenth(twice, "POST")).address, "--post", "100", "--verify")
    assert (code, total["missing_posts"], total["double_posts"]) == (1, 0, 20)


def test_a_failed_post_may_be_in_the_book_once_but_not_twice(serve):
    def fail(times):
        def action(server, connection, request):
            for _ in range(times):
                server.sign(request)
            return False

        return every_tenth(action, "POST")

    for times, doubled in ((0, 0), (1, 0), (2, 20)):
        code, total = run(serve(fail(times)).address, "--post", "100", "--verify")
        assert (code, total["failed"]) == (1, 20)
        assert (total["missing_posts"], total["double_posts"]) == (0, doubled)


def test_an_entry_that_nobody_sent_is_strange(serve):
    def invent(server, connection, request):
        with server.lock:
            server.book.append(request.id + "000000")
        return None

    code, total = run(serve(every_tenth(invent, "POST")).address, "--post", "100", "--verify")
    assert (code, total["strange_posts"]) == (1, 20)


def test_a_book_that_is_cut_is_not_believed(serve):
    server = serve()
    honest = server.answer

    def cut(connection, request):
        if not request.path.startswith("/book"):
            return honest(connection, request)
        connection.sendall(counted("".join(f"{i}\n" for i in server.book)))
        return True

    server.answer = cut
    code, total = run(server.address, "--verify")
    assert (code, total["verified"]) == (1, False)
    assert "no end" in total["verify_error"]


class Led:
    """load with a script."""

    def __init__(self, address, *options):
        self.process = subprocess.Popen(
            [LOAD, *options, address], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.read()["event"] == "ready"

    def read(self):
        return json.loads(self.process.stdout.readline())

    def tell(self, line):
        self.process.stdin.write(line + "\n")
        self.process.stdin.flush()
        return self.read()

    def quit(self):
        total = self.tell("quit")
        return self.process.wait(timeout=30), total


class Gate:
    """Requests with these numbers are read, then nothing happens until the test decides."""

    def __init__(self, numbers):
        self.inside, self.all_inside, self.open = [], threading.Event(), threading.Event()
        self.numbers = numbers

    def __call__(self, server, connection, request):
        if request.n not in self.numbers:
            return None
        self.inside.append(request)
        if len(self.inside) == len(self.numbers):
            self.all_inside.set()
        self.open.wait(30)
        return reset(server, connection, request)


def in_flight_then_reset(serve, *words):
    """Ten requests are inside when the fault is noted; then all ten are reset."""
    gate = Gate(range(10, 20))
    led = Led(serve(gate).address, "--rate", "200", "--post", "50", "--seed", "7")
    assert led.tell("mark kill")["event"] == "mark"
    assert gate.all_inside.wait(10)
    fault = led.tell("fault " + " ".join(words))
    gate.open.set()
    step = led.tell("end")
    code, total = led.quit()
    posts = sum(r.method == "POST" for r in gate.inside)
    assert 0 < posts < 10
    return code, total, step, fault, posts


def test_what_was_inside_a_killed_router_may_fail(serve):
    code, total, step, fault, posts = in_flight_then_reset(serve, "router-killed")
    assert fault["in_flight"] >= 10 and fault["in_flight_posts"] >= posts
    assert (code, total["failed"], total["permitted"], total["not_permitted"]) == (0, 10, 10, 0)


def test_only_posts_inside_a_killed_instance_may_fail(serve):
    code, total, step, fault, posts = in_flight_then_reset(serve, "instance-killed")
    assert (code, total["failed"], total["permitted"]) == (1, 10, posts)


def test_no_other_fault_permits_anything(serve):
    code, total, step, fault, posts = in_flight_then_reset(serve, "controller-killed")
    assert (code, total["failed"], total["permitted"], total["not_permitted"]) == (1, 10, 0, 10)


def test_what_is_sent_after_a_kill_on_a_new_connection_may_not_fail(serve):
    gate = threading.Event()

    def after(server, connection, request):
        return reset(server, connection, request) if gate.is_set() else None

    led = Led(serve(after).address, "--rate", "100", "--fresh", "100")
    led.tell("fault router-killed")
    while led.tell("stat")["requests"] < 20:
        pass
    gate.set()
    while led.tell("stat")["failed"] < 5:
        pass
    gate.clear()
    code, total = led.quit()
    assert code == 1 and total["permitted"] == 0 and total["not_permitted"] >= 5


def test_it_kills_at_the_instant_at_which_it_looks(serve):
    victim = subprocess.Popen(["sleep", "60"])
    led = Led(serve().address, "--rate", "50")
    fault = led.tell(f"fault controller-killed {victim.pid} {signal.SIGKILL.value}")
    assert victim.wait(timeout=5) == -signal.SIGKILL
    assert "error" not in fault
    gone = led.tell(f"fault controller-killed {victim.pid}")
    assert gone["error"] == "No such process"
    assert led.quit()[0] == 0


def test_a_request_belongs_to_the_step_in_which_it_was_due(serve):
    gate = Gate([5])
    led = Led(serve(gate).address, "--rate", "100")
    led.tell("mark first")
    assert gate.all_inside.wait(10)
    led.process.stdin.write("end\nmark second\n")
    led.process.stdin.flush()
    assert led.read() == {"event": "mark", "name": "second"}, "the first is not over: one is inside"
    gate.open.set()
    first = led.read()
    assert (first["event"], first["name"], first["failed"]) == ("step", "first", 1)
    second = led.tell("end")
    assert (second["name"], second["failed"]) == ("second", 0)
    code, total = led.quit()
    assert total["requests"] >= first["requests"] + second["requests"]


@pytest.mark.parametrize("line", ["", "nonsense", "fault", "fault x 1", "fault x -1", "end", "x" * 2000])
def test_a_bad_command_is_said_and_harms_nothing(serve, line):
    led = Led(serve().address, "--rate", "50")
    if line:
        assert led.tell(line)["event"] == "error"
    assert led.quit()[0] == 0


@pytest.mark.parametrize("options", [
    [], ["--rate", "0", "127.0.0.1:1"], ["--rate", "x", "127.0.0.1:1"], ["--post", "101", "127.0.0.1:1"],
    ["127.0.0.1"], ["127.0.0.1:99999"], ["nowhere:80"], ["unix:" + "x" * 200], ["--nonsense", "127.0.0.1:1"],
    ["--plain", "x", "127.0.0.1:1"]])
def test_wrong_usage_is_refused(options):
    done = subprocess.run([LOAD, *options], stdin=subprocess.DEVNULL, capture_output=True)
    assert done.returncode == 2
    assert done.stderr
