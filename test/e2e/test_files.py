# SPDX-License-Identifier: Apache-2.0
"""`upstate files`: a folder as an app; asked directly with curl, and behind the whole program."""

import gzip
import hashlib
import os
import pathlib
import signal
import socket
import subprocess

import pytest

from load import assert_no_failure, load
from upstate import BINARY, Socket, free_port, wait_for

CONFIG = """
listen: [ { http: "127.0.0.1:{port}" } ]
admin: { http: "127.0.0.1:{admin}" }
apps:
  site:
    run: upstate files .
    bake: 300ms
"""

PAGE = b"<h1>Hello</h1>\n"
SCRIPT = b"".join(b"line %d\n" % i for i in range(40000))


def tag(content):
    return '"' + hashlib.sha256(content).hexdigest()[:32] + '"'


def make_site(root):
    for path, content in {
            "index.html": PAGE, "404.html": b"not here\n", "docs/index.html": b"docs\n", "app.3f2a1b9c.js": SCRIPT,
            "app.3f2a1b9c.js.gz": gzip.compress(SCRIPT), "style.css": b"body {}\n", ".env": b"secret\n",
            ".well-known/acme": b"token\n", "a b/\u00e4.txt": b"umlaut\n", "empty.txt": b""}.items():
        (root / path).parent.mkdir(parents=True, exist_ok=True)
        (root / path).write_bytes(content)
    return root


class Files:
    """`upstate files` by itself."""

    def __init__(self, root, *options, unix=None):
        self.port, self.unix, self.root = free_port(), unix, root
        env = {k: v for k, v in os.environ.items() if k not in ("PORT", "UPSTATE_SOCKET", "NOTIFY_SOCKET")}
        env.update({"UPSTATE_SOCKET": str(unix)} if unix else {"PORT": str(self.port)})
        self.log = open(root.parent / "files.log", "a+")
        self.process = subprocess.Popen([BINARY, "files", root, *options], env=env, stderr=self.log)
        wait_for(self.answers, "it answers")

    def answers(self):
        assert self.process.poll() is None
        with socket.socket(socket.AF_UNIX if self.unix else socket.AF_INET) as s:
            return s.connect_ex(str(self.unix) if self.unix else ("127.0.0.1", self.port)) == 0

    def curl(self, path, *args):
        """Status, headers (lower case) and body."""
        where = ["--unix-socket", self.unix, "http://x" + path] if self.unix else [
            f"http://127.0.0.1:{self.port}{path}"]
        got = subprocess.run(["curl", "-sS", "-i", "--path-as-is", "-m", "30", *map(str, args), *where],
                             capture_output=True, check=True).stdout
        head, _, body = got.partition(b"\r\n\r\n")
        lines = head.decode().split("\r\n")
        headers = {k.lower(): v for k, v in (line.split(": ", 1) for line in lines[1:])}
        return int(lines[0].split()[1]), headers, body

    def stop(self):
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()
            raise
        finally:
            self.log.close()


@pytest.fixture
def files(folder):
    running = []

    def start(*options, **more):
        f = Files(make_site(folder / "site"), *options, **more)
        running.append(f)
        return f

    yield start
    for f in running:
        assert f.stop() == 0
    assert "Sanitizer" not in (folder / "files.log").read_text()


def test_a_file_is_served_with_its_type_and_tag(files):
    f = files()
    status, headers, body = f.curl("/")
    assert (status, body) == (200, PAGE)
    assert headers["content-type"] == "text/html; charset=utf-8"
    assert headers["etag"] == tag(PAGE)
    assert headers["cache-control"] == "no-cache" and headers["content-length"] == str(len(PAGE))
    assert "last-modified" not in headers
    assert f.curl("/style.css")[1]["content-type"] == "text/css; charset=utf-8"
    assert f.curl("/a%20b/%C3%A4.txt")[2] == b"umlaut\n"
    status, headers, body = f.curl("/empty.txt")
    assert (status, headers["content-length"], body) == (200, "0", b"")
    assert f.curl("/app.3f2a1b9c.js")[1]["cache-control"] == "public, max-age=31536000, immutable"


def test_head_says_what_get_would(files):
    f = files()
    got, asked = f.curl("/app.3f2a1b9c.js"), f.curl("/app.3f2a1b9c.js", "--head")
    assert asked[0] == 200 and asked[2] == b"" and got[2] == SCRIPT
    del got[1]["date"], asked[1]["date"]
    assert got[1] == asked[1]
    missing = f.curl("/nope", "--head")
    assert missing[0] == 404 and missing[1]["content-length"] == str(len(b"not here\n"))


def test_other_methods_are_refused_with_what_is_allowed(files):
    f = files()
    for method in ("POST", "PUT", "DELETE", "OPTIONS"):
        status, headers, _ = f.curl("/", "-X", method, *(["-d", "x" * 100000] if method == "POST" else []))
        assert (status, headers["allow"]) == (405, "GET, HEAD"), method


def test_folders_and_what_is_missing(files):
    f = files()
    status, headers, _ = f.curl("/docs?a=b")
    assert (status, headers["location"]) == (301, "/docs/?a=b")
    assert f.curl("/docs/")[2] == b"docs\n"
    assert f.curl("/nope")[::2] == (404, b"not here\n")
    assert f.curl("/index.html/")[0] == 404
    (f.root / "404.html").unlink()
    (f.root / "docs/index.html").unlink()
    status, _, body = wait_for(lambda: b"not here" not in f.curl("/nope")[2] and f.curl("/docs/"), "looked up anew")
    assert status == 404 and b"there is no such file" in body  # no list of the folder either


def test_nothing_outside_and_nothing_hidden_is_served(files, folder):
    f = files()
    (folder / "secret").write_text("secret\n")
    (f.root / "out").symlink_to("../secret")
    (f.root / "far").symlink_to("/etc/passwd")
    (f.root / "in").symlink_to("docs/index.html")
    (f.root / "up").symlink_to("..")
    os.mkfifo(f.root / "pipe")
    assert f.curl("/in")[2] == b"docs\n"
    for path in ("/../secret", "/%2e%2e/secret", "/..%2fsecret", "/docs/../../secret", "/docs/..%5c..%5csecret",
                 "/%00", "/style.css%00.html", "/./style.css", "/%2e%2e%2f%2e%2e%2fetc/passwd", "/docs%2findex.html"):
        status, _, body = f.curl(path)
        assert status == 400 and b"secret" not in body, path
    for path in ("/out", "/far", "/up/secret", "/up/", "/.env", "/%2eenv", "//style.css", "//evil.example/docs",
                 "/pipe", "/docs//index.html", "/.well-known"):
        status, _, body = f.curl(path)
        assert status == 404 and b"secret" not in body, path
    assert f.curl("/.well-known/acme")[2] == b"token\n"


def test_conditions(files):
    f = files()
    good, other = tag(PAGE), '"00"'

    def ask(*fields):
        return f.curl("/", *(x for field in fields for x in ("-H", field)))

    status, headers, body = ask(f"If-None-Match: {good}")
    assert (status, body, headers["etag"]) == (304, b"", good) and "content-length" not in headers
    assert ask(f"If-None-Match: {other}, W/{good}")[0] == 304
    assert ask("If-None-Match: *")[0] == 304
    assert ask(f"If-None-Match: {other}")[::2] == (200, PAGE)
    assert ask("If-Modified-Since: Thu, 26 Nov 2099 00:00:00 GMT")[0] == 200
    assert ask(f"If-Match: {good}")[0] == 200
    assert ask(f"If-Match: W/{good}")[0] == 412
    assert ask(f"If-Match: {other}")[0] == 412


def test_ranges(files):
    f = files()

    def ask(value, *fields, path="/app.3f2a1b9c.js"):
        return f.curl(path, "-H", f"Range: {value}", *(x for field in fields for x in ("-H", field)))

    status, headers, body = ask("bytes=10-19")
    assert (status, body) == (206, SCRIPT[10:20])
    assert headers["content-range"] == f"bytes 10-19/{len(SCRIPT)}" and headers["content-length"] == "10"
    assert ask("bytes=-7")[2] == SCRIPT[-7:]
    assert ask("bytes=100000-")[2] == SCRIPT[100000:]
    assert ask("bytes=0-99999999999999999999")[::2] == (206, SCRIPT)
    status, headers, body = ask(f"bytes={len(SCRIPT)}-")
    assert (status, headers["content-range"], body) == (416, f"bytes */{len(SCRIPT)}", b"")
    assert ask("bytes=0-", path="/empty.txt")[0] == 416
    for value in ("bytes=5-3", "lines=1-2", "bytes=0-1,5-6", "bytes=x"):
        assert ask(value)[::2] == (200, SCRIPT), value
    assert ask("bytes=0-4", f"If-Range: {tag(SCRIPT)}")[0] == 206
    assert ask("bytes=0-4", 'If-Range: "00"')[::2] == (200, SCRIPT)
    assert ask("bytes=0-4", "If-Range: Thu, 26 Nov 2026 11:20:00 GMT")[0] == 200
    assert ask("bytes=0-4", f"If-None-Match: {tag(SCRIPT)}")[0] == 304
    assert f.curl("/", "--head", "-H", "Range: bytes=0-1")[0] == 200


def test_what_was_compressed_beforehand_is_sent_to_who_takes_it(files):
    f = files()
    compressed = (f.root / "app.3f2a1b9c.js.gz").read_bytes()
    status, headers, body = f.curl("/app.3f2a1b9c.js", "-H", "Accept-Encoding: br, gzip")
    assert (status, body, headers["content-encoding"]) == (200, compressed, "gzip")
    assert headers["content-type"] == "text/javascript; charset=utf-8" and headers["etag"] == tag(compressed)
    assert headers["vary"] == "Accept-Encoding"
    status, headers, body = f.curl("/app.3f2a1b9c.js", "-H", "Accept-Encoding: gzip;q=0")
    assert body == SCRIPT and "content-encoding" not in headers and headers["vary"] == "Accept-Encoding"
    assert "vary" not in f.curl("/style.css", "-H", "Accept-Encoding: gzip")[1]
    headers = f.curl("/app.3f2a1b9c.js.gz")[1]
    assert headers["content-type"] == "application/gzip" and "content-encoding" not in headers
    (f.root / "app.3f2a1b9c.js.br").write_bytes(b"brotli")
    wait_for(lambda: f.curl("/app.3f2a1b9c.js", "-H", "Accept-Encoding: gzip, br")[2] == b"brotli", "br is found")


def test_a_cut_download_is_resumed(files, folder):
    f = files()
    part = folder / "part.js"
    part.write_bytes(SCRIPT[:123456])
    subprocess.run(["curl", "-sS", "-m", "30", "-C", "-", "-o", part, f"http://127.0.0.1:{f.port}/app.3f2a1b9c.js"],
                   check=True)
    assert part.read_bytes() == SCRIPT


def test_a_file_of_five_gigabytes(files):
    f = files()
    with open(f.root / "big.bin", "wb") as big:
        big.truncate(5 << 30)
        big.seek(5 << 30)
        big.write(b"tail\n")
    status, headers, body = f.curl("/big.bin", "-r", "-5")
    assert (status, body) == (206, b"tail\n")
    assert headers["content-range"] == f"bytes {5 << 30}-{(5 << 30) + 4}/{(5 << 30) + 5}"
    assert f.curl("/big.bin", "--head")[1]["content-length"] == str((5 << 30) + 5)
    assert f.curl("/")[2] == PAGE  # others are answered while it is hashed
    wait_for(lambda: "etag" in f.curl("/big.bin", "--head")[1], "its hash is known", 120)


def test_an_app_of_one_page(files):
    f = files("--spa", "--cache", "max-age=60")
    assert f.curl("/some/where")[::2] == (200, PAGE)
    assert f.curl("/missing.js")[0] == 404
    assert f.curl("/style.css")[1]["cache-control"] == "max-age=60"


def test_many_requests_on_one_connection_and_a_head_in_pieces(files):
    f = files()
    one = b"GET /style.css HTTP/1.1\r\nHost: x\r\n\r\n"
    with socket.create_connection(("127.0.0.1", f.port)) as s:
        s.settimeout(20)
        s.sendall(one * 99 + b"GET /style.css HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        got = b"".join(iter(lambda: s.recv(65536), b""))
    assert got.count(b"HTTP/1.1 200 OK") == 100 and got.count(b"body {}\n") == 100
    with socket.create_connection(("127.0.0.1", f.port)) as s:
        s.settimeout(20)
        for byte in one:
            s.sendall(bytes([byte]))
        assert b" 200 OK" in s.recv(65536)
        s.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n")
        assert b" 400 " in b"".join(iter(lambda: s.recv(65536), b""))


def test_it_ends_after_what_it_has_begun(files, folder):
    f = files(unix=folder / "sock")
    slow, idle = Socket(f.unix), Socket(f.unix)
    (f.root / "long.bin").write_bytes(os.urandom(8 << 20))
    slow.request("GET", "/long.bin")
    answer = slow.getresponse()
    begun = answer.read(1000)
    idle.request("GET", "/")
    assert idle.getresponse().read() == PAGE
    f.process.send_signal(signal.SIGTERM)
    assert begun + answer.read() == (f.root / "long.bin").read_bytes()
    slow.close()
    assert f.process.wait(20) == 0


def test_a_site_is_three_lines(serve, folder):
    u = serve(CONFIG)
    site = make_site(folder / "site")
    u.deploy("site", site)
    status, body, headers = u.get("/")
    assert (status, body, headers["ETag"]) == (200, PAGE.decode(), tag(PAGE))
    instance = u.app("site")["instances"][0]
    environ = pathlib.Path(f"/proc/{instance['pid']}/environ").read_bytes().split(b"\0")
    assert not [e for e in environ if e.startswith(b"PORT=")]
    # What runs is what runs, whatever becomes of the file it was started from.
    assert os.path.samefile(f"/proc/{instance['pid']}/exe", u.state / "run/bin/upstate")
    os.kill(instance["pid"], signal.SIGKILL)
    assert u.get("/docs/")[:2] == (200, "docs\n")


def test_a_site_is_replaced_under_load(serve, folder):
    u = serve(CONFIG + "    instances: 2\n")
    site = make_site(folder / "site")
    u.deploy("site", site)
    with load(u.port, path="/style.css", rate=200) as client:
        with client.step("deploys") as seen:
            for i in range(3):
                (site / "index.html").write_text(f"release {i}\n")
                assert u.deploy("site", site)["outcome"] == "done"
                assert u.get("/")[1] == f"release {i}\n"
        assert_no_failure(seen, at_least=100)
