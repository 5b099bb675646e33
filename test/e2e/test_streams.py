# SPDX-License-Identifier: Apache-2.0
"""What flows: tunnels, events, bodies of any size, and clients of every kind, through the whole program."""

import asyncio
import contextlib
import hashlib
import http.client
import json
import os
import pathlib
import socket
import subprocess

import pytest
import websockets

import apps

CHAT = r'''#!/usr/bin/python3
import asyncio, http, os, websockets

VERSION = open(os.path.join(os.path.dirname(os.path.abspath(__file__)), "VERSION")).read()

async def plain(path, headers):
    if path != "/chat":
        return http.HTTPStatus.OK, [], VERSION.encode()

async def chat(socket):
    async for message in socket:
        await socket.send(f"{VERSION} heard {message}" if isinstance(message, str) else message)

async def main():
    async with websockets.unix_serve(chat, os.environ["UPSTATE_SOCKET"], process_request=plain, max_size=None):
        await asyncio.Future()

asyncio.run(main())
'''

# /events waits for a go of the test (a byte in a named pipe) before each event; /sum hashes what it is sent;
# /zeros?N sends N bytes; /echo answers with the method, the headers it got and the body, as JSON.
STREAMS = r'''#!/usr/bin/python3
import hashlib, http.server, json, os, socketserver

HERE = os.path.dirname(os.path.abspath(__file__))

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def say(self, body):
        self.send_response(200)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(body)

    def body(self):
        if self.headers.get("transfer-encoding") == "chunked":
            while size := int(self.rfile.readline(), 16):
                yield self.rfile.read(size)
                self.rfile.readline()
            self.rfile.readline()
            return
        left = int(self.headers.get("content-length") or 0)
        while left:
            piece = self.rfile.read1(min(left, 1 << 18))
            left -= len(piece)
            yield piece

    def answer(self):
        path, _, query = self.path.partition("?")
        if path == "/events":
            self.send_response(200)
            self.send_header("Content-Type", "text/event-stream")
            self.end_headers()
            self.close_connection = True
            with open(query, "rb", buffering=0) as go:
                while number := go.read(1):
                    self.wfile.write(b"data: " + number + b"\n\n")
        elif path == "/sum":
            digest, size = hashlib.sha256(), 0
            for piece in self.body():
                digest.update(piece)
                size += len(piece)
            self.say(f"{size} {digest.hexdigest()}".encode())
        elif path == "/zeros":
            self.send_response(200)
            self.send_header("Content-Length", query)
            self.end_headers()
            left, piece = int(query), bytes(1 << 18)
            while left:
                left -= self.wfile.write(piece[:left])
        elif path == "/echo":
            body = b"".join(self.body()).decode()
            self.say(json.dumps({"method": self.command, "path": self.path, "body": body,
                                 "headers": {k.lower(): v for k, v in self.headers.items()}}).encode())
        else:
            self.say(b"up")

    do_GET = do_POST = do_PUT = do_HEAD = answer

    def address_string(self):
        return "unix"

    def log_message(self, *args):
        pass

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

Server(os.environ["UPSTATE_SOCKET"], Handler).serve_forever()
'''

CONFIG = """
listen: [ { http: "127.0.0.1:{port}" } ]
admin: { http: "127.0.0.1:{admin}" }
apps:
  web:
    hosts: [web.localhost]
    run: ./server.py --socket $UPSTATE_SOCKET
    instances: 2
    health: { path: /up, every: 200ms }
    bake: 300ms
    drain: 5s
  chat:
    hosts: [chat.localhost]
    run: ./server.py $UPSTATE_SOCKET
    health: { path: /up, every: 200ms }
    bake: 100ms
    drain: 700ms
  streams:
    hosts: ["*"]
    run: ./server.py $UPSTATE_SOCKET
    health: { path: /up, every: 200ms }
    bake: 100ms
"""


def release(source, version):
    return {"server.py": source, "VERSION": version}


@pytest.fixture
def streams(serve, tree):
    u = serve(CONFIG)
    u.deploy("streams", tree("streams", release(STREAMS, "one")))
    return u


@pytest.fixture
def connect(streams):
    """A raw connection to the router: connect() -> (socket, its buffered reader)."""
    open_ones = contextlib.ExitStack()

    def make(receive_buffer=None):
        s = open_ones.enter_context(socket.socket())
        if receive_buffer:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, receive_buffer)
        s.settimeout(30)
        s.connect(("127.0.0.1", streams.port))
        return s, open_ones.enter_context(s.makefile("rb"))

    with open_ones:
        yield make


def answer(reader, method="GET"):
    """(status, headers, body) of the next answer on a connection."""
    status = reader.readline().split()
    headers = http.client.parse_headers(reader)
    length = headers.get("content-length")
    if method == "HEAD":
        return int(status[1]), headers, b""
    return int(status[1]), headers, reader.read(int(length)) if length is not None else None


def resident(u):
    """Bytes of memory of the router that it does not share with others."""
    status = pathlib.Path(f"/proc/{u.parts()['router']['pid']}/status").read_text()
    return int(status.split("RssAnon:")[1].split()[0]) * 1024


# --- tunnels ---


async def chats(u, socket, text):
    await socket.send(text)
    return await asyncio.wait_for(socket.recv(), 10)


def dial(u):
    return websockets.connect(f"ws://127.0.0.1:{u.port}/chat", extra_headers={}, host="127.0.0.1", port=u.port,
                              max_size=None, open_timeout=10)


def test_a_websocket_outlives_deploys_of_others_and_reloads_and_ends_with_its_own(serve, tree):
    u = serve(CONFIG.replace('"*"', "elsewhere.localhost").replace("chat.localhost", '"*"'))
    u.deploy("chat", tree("chat1", release(CHAT, "one")))
    u.deploy("web", tree("web1", apps.files("one")))

    async def story():
        async with dial(u) as ws:
            assert await chats(u, ws, "hello") == "one heard hello"
            await asyncio.to_thread(u.deploy, "web", tree("web2", apps.files("two")))
            assert await chats(u, ws, "after a deploy") == "one heard after a deploy"

            u.configure(u.config.read_text().replace("instances: 2", "instances: 3"))
            await asyncio.to_thread(u.cli, "reload")
            assert await chats(u, ws, "after a reload") == "one heard after a reload"
            assert await chats(u, ws, bytes(range(256)) * 10000) == bytes(range(256)) * 10000

            receipt = await asyncio.to_thread(u.deploy, "chat", tree("chat2", release(CHAT, "two")))
            with pytest.raises(websockets.ConnectionClosed):
                await asyncio.wait_for(ws.recv(), 10)
            return receipt

    receipt = asyncio.run(story())
    assert receipt["outcome"] == "done"
    assert receipt["failed"] == 1  # what its user saw: the connection was cut
    assert any(step["name"].endswith("cut 1") for step in receipt["steps"]), receipt["steps"]
    assert u.get("/")[:2] == (200, "two")


def test_a_websocket_that_ends_within_the_drain_is_not_cut(serve, tree):
    u = serve(CONFIG.replace('"*"', "elsewhere.localhost").replace("chat.localhost", '"*"').replace("700ms", "20s"))
    u.deploy("chat", tree("chat1", release(CHAT, "one")))

    async def story():
        async with dial(u) as ws:
            deploying = asyncio.create_task(
                asyncio.to_thread(u.deploy, "chat", tree("chat2", release(CHAT, "two"))))
            while u.get("/")[1] != "two":
                await asyncio.sleep(0.01)
            assert await chats(u, ws, "still there") == "one heard still there"
            assert not deploying.done()
        return await deploying

    receipt = asyncio.run(story())
    assert receipt["outcome"] == "done" and receipt["failed"] == 0
    assert not any("cut" in step["name"] for step in receipt["steps"])


# --- events ---


def test_each_event_arrives_before_the_next_is_made(streams, connect, folder):
    pipe = folder / "go"
    os.mkfifo(pipe)
    pipe.chmod(0o666)
    client, reader = connect()
    client.sendall(f"GET /events?{pipe} HTTP/1.1\r\nHost: x\r\n\r\n".encode())
    with open(pipe, "wb", buffering=0) as go:  # opens once the app has
        assert reader.readline().split()[1] == b"200"
        assert http.client.parse_headers(reader)["content-type"] == "text/event-stream"
        for number in b"12345":
            go.write(bytes([number]))
            assert reader.read(14) == b"9\r\ndata: %c\n\n\r\n" % number
    assert reader.read(5) == b"0\r\n\r\n"


# --- bodies ---

MB = 1 << 20
LARGE = 300 * MB


def curl(u, path, *options):
    return subprocess.Popen(["curl", "-sS", "--max-time", "60", *options, f"http://127.0.0.1:{u.port}{path}"],
                            stdout=subprocess.PIPE, stderr=subprocess.PIPE)


def most_memory(u, process):
    """Of the router, while the process runs."""
    most = resident(u)
    while process.poll() is None:
        most = max(most, resident(u))
    return most


@pytest.mark.parametrize("framing", ["counted", "chunked"])
def test_a_large_upload_streams_through_a_small_router(streams, folder, framing):
    path = folder / "large"
    with open(path, "wb") as f:
        f.truncate(LARGE)  # zeros that take no place
    before = resident(streams)
    with curl(streams, "/sum", "-T", path, *(["-H", "Transfer-Encoding: chunked"] if framing == "chunked" else [])) as up:
        most = most_memory(streams, up)
        said, errors = up.communicate()
    digest = hashlib.sha256()
    for _ in range(300):
        digest.update(bytes(MB))
    assert said.decode() == f"{LARGE} {digest.hexdigest()}", errors
    assert most - before < 8 * MB


def test_a_large_download_streams_through_a_small_router(streams, folder):
    before = resident(streams)
    with curl(streams, f"/zeros?{LARGE}", "-o", "/dev/null", "-w", "%{size_download}") as down:
        most = most_memory(streams, down)
        said, errors = down.communicate()
    assert said.decode() == str(LARGE) and down.returncode == 0, errors
    assert most - before < 8 * MB


def test_a_slow_reader_is_waited_for_and_costs_the_router_nothing(streams, connect):
    before = resident(streams)
    readers = []
    for _ in range(20):
        client, reader = connect(receive_buffer=4096)
        client.sendall(f"GET /zeros?{4 * MB} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        assert reader.readline().split()[1] == b"200"  # and no further: its answer piles up
        readers.append(reader)
    assert streams.get("/up")[0] == 200  # others are not held back
    assert resident(streams) - before < 8 * MB
    for reader in readers[:3]:
        headers = http.client.parse_headers(reader)
        assert len(reader.read()) == int(headers["content-length"]) == 4 * MB


# --- clients ---


def test_pipelined_requests_are_answered_in_order(streams, connect):
    client, reader = connect()
    requests = []
    for n in range(30):
        body = f"body {n}"
        requests.append(f"POST /echo?{n} HTTP/1.1\r\nHost: x\r\nContent-Length: {len(body)}\r\n\r\n{body}"
                        if n % 3 == 0 else f"GET /echo?{n} HTTP/1.1\r\nHost: x\r\n\r\n")
    client.sendall("".join(requests).encode())
    for n in range(30):
        status, _, body = answer(reader)
        said = json.loads(body)
        assert status == 200 and said["path"] == f"/echo?{n}"
        assert said["body"] == (f"body {n}" if n % 3 == 0 else "")


def test_an_old_client_gets_a_whole_answer_and_the_end(streams, connect, folder):
    client, reader = connect()
    client.sendall(b"GET /up HTTP/1.0\r\n\r\n")
    status, headers, body = answer(reader)
    assert (status, body) == (200, b"up") and reader.read() == b""
    assert "transfer-encoding" not in headers

    client, reader = connect()
    client.sendall(b"GET /up HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" * 2)
    for _ in range(2):
        status, headers, body = answer(reader)
        assert (status, body) == (200, b"up") and headers["connection"].lower() == "keep-alive"


def test_curl_waits_for_100_continue_and_gets_it(streams, folder):
    path = folder / "body"
    path.write_bytes(b"x" * 100_000)
    with curl(streams, "/sum", "-H", "Expect: 100-continue", "--expect100-timeout", "30", "-T", path, "-v") as up:
        said, seen = up.communicate()
    assert said.decode() == f"100000 {hashlib.sha256(b'x' * 100_000).hexdigest()}"
    assert b"< HTTP/1.1 100 Continue" in seen
    assert b"Done waiting for 100-continue" not in seen


def test_head_has_the_length_and_no_body(streams, connect):
    client, reader = connect()
    client.sendall(b"HEAD /up HTTP/1.1\r\nHost: x\r\n\r\nGET /up HTTP/1.1\r\nHost: x\r\n\r\n")
    status, headers, _ = answer(reader, "HEAD")
    assert status == 200 and headers["content-length"] == "2"
    assert answer(reader)[2] == b"up"


def test_the_app_is_told_who_asks_and_for_what(streams):
    said = json.loads(streams.get("/echo", host="Shop.Example:80", headers={
        "X-Forwarded-For": "6.6.6.6", "Connection": "close, X-Hop", "X-Hop": "a", "X-End": "b"})[1])["headers"]
    assert said["host"] == "Shop.Example:80" and said["x-end"] == "b"
    assert said["x-forwarded-for"] == "127.0.0.1"  # who is not trusted is not believed
    assert said["x-forwarded-proto"] == "http" and said["x-forwarded-host"] == "Shop.Example:80"
    assert "x-hop" not in said and said["x-request-id"]


@pytest.mark.parametrize("request_", [
    b"GET / HTTP/1.1\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: a\r\nHost: b\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
    b"POST / HTTP/1.1\r\nHost: x\r\nContent-Length: 3\r\nContent-Length: 4\r\n\r\nabc",
    b"GET / HTTP/1.1\r\nHost: x\r\nA : b\r\n\r\n",
    b"GET / HTTP/1.1\r\nHost: x\r\n folded: b\r\n\r\n",
])
def test_what_could_be_read_in_two_ways_is_refused_and_the_connection_ends(streams, connect, request_):
    client, reader = connect()
    client.sendall(request_ + b"x" * 50_000)  # the answer arrives though all of this is never read
    status, headers, _ = answer(reader)
    assert status == 400 and headers["connection"].lower() == "close"
    assert reader.read() == b""
