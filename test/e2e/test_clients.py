# SPDX-License-Identifier: Apache-2.0
"""Real clients and real servers, through the whole program: what flows, flows at once, whole, and in little memory.

With --full, what is large has 5 GB.
"""

import asyncio
import hashlib
import json
import os
import pathlib
import shutil
import signal
import ssl
import struct
import subprocess

import pytest

import flows
from test_tls import make
from upstate import free_port, wait_for

HERE = pathlib.Path(__file__).parent
MB = 1 << 20
# curl's options, and where it connects to.
WAYS = {
    "http1": (["--http1.1"], "http"),
    "http1-tls": (["--http1.1", "-k"], "https"),
    "h2-tls": (["--http2", "-k"], "https"),
    "h2c": (["--http2-prior-knowledge"], "http"),
}


class Site:
    """One of the servers of flows.py, behind Upstate, plain and over TLS."""

    def __init__(self, serve, tree, server="aiohttp", more=""):
        self.u, tls = serve("{}", start=False), free_port()
        make(self.u.folder, "site", ["site.test"])
        self.u.configure(flows.config(server).replace("{tls}", str(tls)) + more)
        self.u.start()
        self.u.deploy("site", tree(server, flows.files(server)))
        self.http, self.https = f"http://127.0.0.1:{self.u.port}", f"https://127.0.0.1:{tls}"
        self.router = self.u.parts()["router"]["pid"]

    def url(self, scheme):
        return self.https if scheme == "https" else self.http

    def status(self, what):
        """Of the router, in kB."""
        text = pathlib.Path(f"/proc/{self.router}/status").read_text()
        return int(text.split(what + ":")[1].split()[0])

    def open(self):
        return int(self.u.get("/open")[1])

    def app_pid(self):
        return self.u.app("site")["instances"][0]["pid"]

    def log(self, path):
        """The lines of the access log that are of this path."""
        log = self.u.state / "log" / "access.log"
        lines = [json.loads(line) for line in log.read_text().splitlines()] if log.exists() else []
        return [line for line in lines if line["path"].startswith(path)]


@pytest.fixture
def site(serve, tree):
    return lambda *args, **more: Site(serve, tree, *args, **more)


def node(what, url):
    done = subprocess.run(["node", HERE / "clients.js", what, url], capture_output=True, text=True, timeout=90)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def unverified():
    ctx = ssl.create_default_context()
    ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
    return ctx


# --- WebSocket ---


@pytest.mark.parametrize("server", flows.that("websocket"))
def test_websockets_go_through_in_every_way(site, server):
    s = site(server)
    for scheme in ("http", "https"):
        assert node("ws", s.url(scheme)) == {"protocol": "echo", "code": 1000}
        assert node("h2ws", s.url(scheme)) == {"protocol": "echo", "code": 1000}
        asyncio.run(python_websocket(s.url(scheme).replace("http", "ws", 1) + "/ws"))
    wait_for(lambda: s.open() == 0, "the app has seen every one end")
    wait_for(lambda: len(s.log("/ws")) == 6, "each is in the access log")
    assert sorted(line["http"] for line in s.log("/ws")) == [1.1] * 4 + [2.0] * 2
    assert s.u.app("site")["failed"] == 0


async def python_websocket(url):
    import websockets

    more = {"ssl": unverified()} if url.startswith("wss") else {}
    async with websockets.connect(url, subprotocols=["echo"], max_size=None, **more) as ws:  # with compression
        assert ws.subprotocol == "echo"
        for message in ("hello", "x" * 300_000, os.urandom(3 * MB), b""):
            await ws.send(message)
            assert await asyncio.wait_for(ws.recv(), 20) == message
        await asyncio.wait_for(await ws.ping(), 20)


def test_a_websocket_whose_client_vanishes_ends_for_the_app_too(site):
    s = site()
    for scheme in ("http", "https"):
        client = subprocess.Popen(
            ["/usr/bin/python3", "-c", "import asyncio, sys, ssl, websockets\n"
             "async def stay():\n"
             "  c = ssl.create_default_context(); c.check_hostname, c.verify_mode = False, ssl.CERT_NONE\n"
             "  async with websockets.connect(sys.argv[1], **({'ssl': c} if 'wss' in sys.argv[1] else {})):\n"
             "    await asyncio.Future()\n"
             "asyncio.run(stay())", s.url(scheme).replace("http", "ws", 1) + "/ws"])
        wait_for(lambda: s.open() == 1, "it is open")
        client.kill()
        client.wait()
        wait_for(lambda: s.open() == 0, "the app knows that it has gone")


# --- events ---


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("server", flows.that("events"))
def test_events_arrive_when_they_are_said_and_the_app_sees_the_client_go(site, server, way):
    s = site(server)
    options, scheme = WAYS[way]
    with subprocess.Popen(["curl", "-sSN", *options, "-H", "Last-Event-ID: 41", s.url(scheme) + "/events"],
                          stdout=subprocess.PIPE, text=True) as curl:
        def heard(data):
            """Each event arrives before the next is said, or this does not end."""
            lines = iter(curl.stdout.readline, "")
            assert next(line for line in lines if line.startswith("data:")) == f"data: {data}\n"

        heard("41")
        for text in ("one", "two", "x" * 100_000, "three"):
            assert s.u.get("/say", method="POST", body=text)[1] == "1"
            heard(text)
        curl.kill()
    wait_for(lambda: s.open() == 0, "the app knows that its client has gone")
    assert s.u.app("site")["failed"] == 0


# --- clients of other libraries ---


@pytest.mark.parametrize("client, server", [("h2", "aiohttp"), ("h2", "node-ws"), ("fetch", "node-ws"),
                                            ("fetch", "aiohttp")])
def test_nodes_clients_are_served(site, client, server):
    s = site(server)
    for scheme in ("http", "https"):
        assert node(client, s.url(scheme)) == {"events": ["data: 41", "data: one", "data: two"]}
    wait_for(lambda: len(s.log("/sum")) == (2 if client == "h2" else 4), "the access log")
    assert {line["http"] for line in s.log("/sum")} == {2.0 if client == "h2" else 1.1}
    assert s.u.app("site")["failed"] == 0


HTTPX = r"""
import asyncio, hashlib, os, sys, httpx
body = os.urandom(3 << 20)
want = f"{len(body)} {hashlib.sha256(body).hexdigest()}"

async def pieces():
    for at in range(0, len(body), 70001):
        yield body[at:at + 70001]

async def story(url, h2):
    async with httpx.AsyncClient(http1=not h2, http2=h2, verify=False, timeout=60) as c:
        for content in (body, pieces()):
            r = await c.post(url + "/sum", content=content)
            assert (r.status_code, r.text) == (200, want), r
        answers = await asyncio.gather(*[c.get(url + "/up") for _ in range(30)])
        assert {(r.text, r.http_version) for r in answers} == {("up", "HTTP/2" if h2 else "HTTP/1.1")}

asyncio.run(story(sys.argv[1], sys.argv[2] == "h2"))
"""


@pytest.mark.parametrize("server", flows.that("sum"))
def test_httpx_is_served_over_both_versions(site, server):
    s = site(server)
    for scheme, version in (("http", "h1"), ("https", "h1"), ("http", "h2"), ("https", "h2")):
        done = subprocess.run(["/usr/bin/python3", "-c", HTTPX, s.url(scheme), version], capture_output=True, text=True,
                              timeout=90)
        assert done.returncode == 0, (scheme, version, done.stderr[-2000:])
    assert s.u.app("site")["failed"] == 0


def browser():
    return shutil.which("chromium")


@pytest.mark.skipif(not browser(), reason="no chromium")
def test_a_browser_gets_events_and_a_websocket_over_one_http2_connection(site, folder):
    s = site()
    args = [browser(), "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage", "--no-first-run",
            "--ignore-certificate-errors", "--disable-background-networking", f"--user-data-dir={folder}/profile"]
    with open(folder / "browser.log", "w") as log:
        process = subprocess.Popen([*args, s.https + "/page"], stdout=log, stderr=log, start_new_session=True)
    try:
        text = wait_for(lambda: s.u.get("/report")[1], "the page has told what it saw", 60)
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    assert json.loads(text) == {"events": ["-", "one", "two"], "messages": [True] * 3, "protocol": "echo",
                                "closed": [1000, True], "hops": ["h2"]}
    wait_for(lambda: s.log("/ws") and s.log("/events"), "the access log")
    assert [line["http"] for line in s.log("/ws") + s.log("/events")] == [2.0, 2.0]


# --- what is large ---


class Large:
    """A file of which every MiB begins with its number; the rest are zeros that take no place."""

    def __init__(self, path, size):
        self.path, self.size = path, size
        with open(path, "wb") as f:
            f.truncate(size)
            for at in range(0, size, MB):
                os.pwrite(f.fileno(), struct.pack("<Q", at), at)
        path.chmod(0o644)

    def sum(self):
        with open(self.path, "rb") as f:
            return digest(f)[1]


def digest(stream, halfway=0, then=None):
    """(size, SHA-256) of what can be read; calls then() once halfway."""
    sha, size = hashlib.sha256(), 0
    while piece := stream.read(MB):
        sha.update(piece)
        size += len(piece)
        if then and size > halfway:
            then()
            then = None
    return size, sha.hexdigest()


@pytest.fixture
def large(request, folder):
    return Large(folder / "large", 5 * 1000**3 if request.config.getoption("--full") else 100 * MB)


def until_nothing_flows(s):
    """The router has used no time for thirty looks: every buffer between the two ends is full."""
    def used():
        return pathlib.Path(f"/proc/{s.router}/stat").read_text().split(")")[1].split()[11:13]

    seen = []

    def still():
        seen.append(used())
        return len(seen) > 30 and len({tuple(u) for u in seen[-30:]}) == 1

    wait_for(still, "nothing flows", 60)


class flat:
    """The router needs hardly more memory for what is done here than before, at no moment of it."""

    def __init__(self, s):
        self.s = s

    def __enter__(self):
        for scheme in ("http", "https"):  # what each thread needs once
            subprocess.run(["curl", "-skZ", "--parallel-max", "8", *[f"{self.s.url(scheme)}/up"] * 16], check=True,
                           stdout=subprocess.DEVNULL)
        self.before = self.s.status("VmHWM")

    def __exit__(self, *failed):
        if not any(failed):
            grown = self.s.status("VmHWM") - self.before
            assert grown < 8 * 1024, f"{grown} kB more"


@pytest.mark.parametrize("way", WAYS)
def test_a_large_download_past_a_reader_that_stops(site, large, way):
    s = site()
    options, scheme = WAYS[way]
    want = large.sum()
    with flat(s):
        with subprocess.Popen(["curl", "-sS", *options, f"{s.url(scheme)}/file?path={large.path}"],
                              stdout=subprocess.PIPE) as curl:
            got = digest(curl.stdout, large.size // 2, lambda: until_nothing_flows(s))
        assert curl.returncode == 0 and got == (large.size, want)
    wait_for(lambda: s.log("/file"), "the access log")
    assert s.log("/file")[0]["bytes_out"] == large.size
    assert s.log("/file")[0]["http"] == (2.0 if way.startswith("h2") else 1.1)


@pytest.mark.parametrize("framing", ["counted", "unknown"])
@pytest.mark.parametrize("way", WAYS)
def test_a_large_upload_past_an_app_that_stops(site, large, way, framing):
    s = site()
    options, scheme = WAYS[way]
    app = s.app_pid()
    with flat(s), open(large.path, "rb") as file:
        curl = subprocess.Popen(["curl", "-sS", *options, "-T", large.path if framing == "counted" else "-",
                                 s.url(scheme) + "/sum"], stdin=file, stdout=subprocess.PIPE)
        wait_for(lambda: read_by(curl) > large.size // 4, "it is under way", 120)
        os.kill(app, signal.SIGSTOP)
        try:
            until_nothing_flows(s)
        finally:
            os.kill(app, signal.SIGCONT)
        said = curl.communicate(timeout=600)[0]
        assert curl.returncode == 0 and said.decode() == f"{large.size} {large.sum()}"
    wait_for(lambda: s.log("/sum"), "the access log")
    assert s.log("/sum")[0]["bytes_in"] == large.size


def read_by(process):
    """Bytes that a process has read so far."""
    with open(f"/proc/{process.pid}/io") as io:
        return int(io.readline().split()[1])


@pytest.mark.parametrize("way", WAYS)
def test_a_slow_upload_is_as_good_as_a_fast_one(site, folder, way):
    s = site()
    options, scheme = WAYS[way]
    with flat(s), subprocess.Popen(["curl", "-sS", *options, "-T", "-", s.url(scheme) + "/sum"], stdin=subprocess.PIPE,
                                   stdout=subprocess.PIPE) as curl:
        sha = hashlib.sha256()
        for n in range(20):
            piece = b"%d" % n * 5000
            sha.update(piece)
            curl.stdin.write(piece)
            curl.stdin.flush()
            assert s.u.get("/up")[0] == 200  # others go on meanwhile
        curl.stdin.close()
        assert curl.stdout.read().decode().split()[1] == sha.hexdigest()


@pytest.mark.parametrize("way", WAYS)
def test_a_download_that_broke_off_is_taken_up_by_curl(site, large, folder, way):
    s = site()
    options, scheme = WAYS[way]
    part = folder / "part"
    command = ["curl", "-sS", *options, "-o", part, f"{s.url(scheme)}/file?path={large.path}"]
    with subprocess.Popen(command + ["--limit-rate", "50M"]) as curl:
        wait_for(lambda: part.exists() and part.stat().st_size > MB, "a part of it is here")
        curl.kill()
    had = part.stat().st_size
    assert MB < had < large.size
    subprocess.run(command + ["-C", "-"], check=True, timeout=600)
    with open(part, "rb") as f:
        assert digest(f) == (large.size, large.sum())
    wait_for(lambda: len(s.log("/file")) == 2, "the access log")
    assert [line["status"] for line in s.log("/file")] == [200, 206]
    assert s.log("/file")[1]["bytes_out"] == large.size - had


def test_wget_takes_up_a_download_too(site, large, folder):
    s = site()
    for n, scheme in enumerate(("http", "https")):
        part = folder / f"part{n}"
        with open(part, "wb") as f, open(large.path, "rb") as whole:
            f.write(whole.read(MB))
        subprocess.run(["wget", "-q", "-c", "--no-check-certificate", "-O", part,
                        f"{s.url(scheme)}/file?path={large.path}"], check=True, timeout=600)
        with open(part, "rb") as f:
            assert digest(f) == (large.size, large.sum())
        part.unlink()
    wait_for(lambda: len(s.log("/file")) == 2, "the access log")
    assert [line["status"] for line in s.log("/file")] == [206, 206]


# --- what is refused ---


@pytest.mark.parametrize("way", WAYS)
def test_a_body_over_the_limit_is_refused_before_it_is_sent(site, large, way):
    s = site(more="    body: 1M\n")
    options, scheme = WAYS[way]
    command = ["curl", "-s", *options, "-o", os.devnull, "-w", "%{http_code} %{size_upload}", s.url(scheme) + "/sum"]
    if way.startswith("http1"):  # curl waits for the word
        out = subprocess.run(command + ["-T", large.path, "-H", "Expect: 100-continue", "--expect100-timeout", "30"],
                             capture_output=True, text=True, timeout=60).stdout
        assert out == "413 0"
    out = subprocess.run(command + ["-T", large.path, "-H", "Expect:"], capture_output=True, text=True, timeout=60).stdout
    assert out.split()[0] == "413" and int(out.split()[1]) < 10 * MB, out
    with open(large.path, "rb") as f:  # of unknown length: when it is over
        out = subprocess.run(command + ["-T", "-"], stdin=f, capture_output=True, text=True, timeout=60).stdout
    assert out.split()[0] == "413" and int(out.split()[1]) < 10 * MB, out
    small = subprocess.run(["curl", "-sS", *options, "-d", "x" * 1000, s.url(scheme) + "/sum"], capture_output=True,
                           text=True, check=True).stdout
    assert small.startswith("1000 ")
