# SPDX-License-Identifier: Apache-2.0
"""What the tests of the router stand on: the router under its small keeper, targets that do exactly
what a test tells them, and a client that sees every byte."""
import json
import os
import socket
import subprocess
import tempfile
import threading
import time

HOST = os.environ.get("ROUTER_HOST", "build/test/e2e/router_host")
WAIT = 20  # longer than anything takes; nothing is waited for by time


def until(what, timeout=WAIT):
    """Waits until what() is true and returns it."""
    end = time.monotonic() + timeout
    while True:
        got = what()
        if got:
            return got
        assert time.monotonic() < end, "never came true"
        time.sleep(0.002)


class Conn:
    """A connection that reads exactly."""

    def __init__(self, sock):
        self.sock, self.buf = sock, b""
        self.sock.settimeout(WAIT)

    def send(self, data):
        self.sock.sendall(data if isinstance(data, bytes) else data.encode())
        return self

    def more(self):
        got = self.sock.recv(65536)
        self.buf += got
        return bool(got)

    def take(self, n):
        out, self.buf = self.buf[:n], self.buf[n:]
        return out

    def read(self, n):
        while len(self.buf) < n:
            if not self.more():
                raise EOFError(self.buf)
        return self.take(n)

    def read_to(self, end):
        while end not in self.buf:
            if not self.more():
                raise EOFError(self.buf)
        return self.take(self.buf.index(end) + len(end))

    def rest(self):
        while self.more():
            pass
        return self.take(len(self.buf))

    def head(self):
        """(first line, {lower-case name: [values]})"""
        lines = self.read_to(b"\r\n\r\n").decode("latin-1").split("\r\n")
        fields = {}
        for line in lines[1:-2]:
            name, value = line.split(":", 1)
            fields.setdefault(name.lower(), []).append(value.strip())
        return lines[0], fields

    def chunks(self):
        """The body of a chunked message and its trailer lines."""
        body = b""
        while True:
            n = int(self.read_to(b"\r\n").split(b";")[0], 16)
            if n == 0:
                break
            body += self.read(n)
            assert self.read(2) == b"\r\n"
        trailer = []
        while (line := self.read_to(b"\r\n")) != b"\r\n":
            trailer.append(line)
        return body, trailer

    def rest_of_chunks(self):
        return self.chunks()[0]

    def body(self, fields):
        if "transfer-encoding" in fields:
            return self.chunks()[0]
        return self.read(int(fields.get("content-length", ["0"])[0]))

    def answer(self, to_head=False):
        """(status, fields, body) of the next final answer."""
        while True:
            line, fields = self.head()
            status = int(line.split()[1])
            if status >= 200:
                break
        if to_head or status in (204, 304):
            return status, fields, b""
        if "content-length" in fields or "transfer-encoding" in fields:
            return status, fields, self.body(fields)
        return status, fields, self.rest()

    def closed(self):
        """The other side ended the connection, in whatever way."""
        try:
            return self.rest() == b""
        except ConnectionResetError:
            return True

    def close(self):
        self.sock.close()


def ok(body=b"ok", extra=""):
    body = body if isinstance(body, bytes) else body.encode()
    return b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n%s\r\n" % (len(body), extra.encode()) + body


class Target:
    """A server whose handler gets (conn, first line, fields) for each request, body unread; it returns
    the bytes to answer, or None when it has answered itself, or False to close."""

    def __init__(self, handler=None, unix=None, backlog=128, listen=True):
        self.handler = handler or (lambda c, line, fields: ok())
        self.seen, self.conns, self.lock = [], [], threading.Lock()
        self.path = unix
        self.open = False
        if unix:
            self.addr = "unix:" + unix
        else:
            probe = socket.socket()
            probe.bind(("127.0.0.1", 0))
            self.port = probe.getsockname()[1]
            self.addr = "127.0.0.1:%d" % self.port
            probe.close()
        if listen:
            self.start(backlog)

    def start(self, backlog=128):
        if self.path:
            if os.path.exists(self.path):
                os.unlink(self.path)
            self.sock = socket.socket(socket.AF_UNIX)
            self.sock.bind(self.path)
        else:
            self.sock = socket.socket()
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            self.sock.bind(("127.0.0.1", self.port))
        self.sock.listen(backlog)
        self.open = True
        threading.Thread(target=self.accept, args=(self.sock,), daemon=True).start()
        return self

    def accept(self, sock):
        while True:
            try:
                conn = Conn(sock.accept()[0])
            except OSError:
                return
            with self.lock:
                self.conns.append(conn)
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        try:
            while True:
                line, fields = conn.head()
                if "upstate-probe" in fields.get("user-agent", [""])[0]:
                    conn.send(ok())
                    break
                with self.lock:
                    self.seen.append((line, fields))
                out = self.handler(conn, line, fields)
                if out is False:
                    break
                if out is not None:
                    conn.send(out)
        except (EOFError, OSError, ValueError):
            pass
        conn.close()

    def paths(self):
        return [line.split()[1] for line, _ in self.seen]

    def stop(self):
        """As when its process is killed: nobody listens, and what was open is gone."""
        if not self.open:
            return
        self.open = False
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        if self.path:
            os.unlink(self.path)
        with self.lock:
            for conn in self.conns:
                try:
                    conn.sock.shutdown(socket.SHUT_RDWR)
                except OSError:
                    pass
                conn.close()
            self.conns = []


class Bytes:
    """A target that keeps what each connection brought, byte by byte, and answers each head it sees."""

    def __init__(self, path):
        self.addr, self.got, self.lock = "unix:" + path, [], threading.Lock()
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.bind(path)
        self.sock.listen(64)
        threading.Thread(target=self.accept, daemon=True).start()

    def accept(self):
        while True:
            try:
                conn = self.sock.accept()[0]
            except OSError:
                return
            threading.Thread(target=self.serve, args=(conn,), daemon=True).start()

    def serve(self, conn):
        all_of_it, answered = b"", 0
        while True:
            try:
                more = conn.recv(65536)
            except OSError:
                more = b""
            if not more:
                conn.close()
                return
            all_of_it += more
            if b"upstate-probe" in all_of_it:
                conn.sendall(ok())
                conn.close()
                return
            with self.lock:
                self.got.append(more)
            heads = all_of_it.count(b" HTTP/1.1\r\n")
            try:
                conn.sendall(b"".join(ok(b"%d" % i) for i in range(answered, heads)))
            except OSError:
                pass
            answered = max(answered, heads)

    def close(self):
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()


class Router:
    """The router, under router_host."""

    def __init__(self, table):
        self.dir = tempfile.TemporaryDirectory(prefix="upstate-router-")
        self.file = os.path.join(self.dir.name, "table.txt")
        self.write(table)
        self.log_file = open(os.path.join(self.dir.name, "log"), "w+")
        self.proc = subprocess.Popen([HOST, self.file], stdin=subprocess.PIPE, stdout=subprocess.PIPE,
                                     stderr=self.log_file, text=True)
        word = self.proc.stdout.readline().split()
        self.port, self.pid, self.tls_port = int(word[1]), int(word[3]), int(word[5])

    def write(self, table):
        with open(self.file, "w") as f:
            f.write(table)

    def ask(self, order):
        self.proc.stdin.write(order + "\n")
        self.proc.stdin.flush()
        return self.proc.stdout.readline()

    def table(self, table, rotate=False):
        self.write(table)
        assert self.ask("rotate" if rotate else "table") == "ok\n"

    def numbers(self):
        return json.loads(self.ask("numbers"))

    def n(self, name):
        return self.numbers()[name]

    def log(self, n=1):
        """The next n records or more; they are written after the answer was sent."""
        got = []

        def enough():
            got.extend(json.loads(self.ask("log")))
            return len(got) >= n

        until(enough)
        return got

    def kill(self):
        self.pid = int(self.ask("kill"))

    def replace(self, alone=False):
        """Another router takes the place of this one; its pid."""
        self.pid = int(self.ask("replace alone" if alone else "replace"))
        return self.pid

    def replace_with_stopped(self):
        """The same, but the next one is stopped as soon as it is ready."""
        self.pid = int(self.ask("replace stopped"))
        return self.pid

    def said(self):
        with open(self.log_file.name) as f:
            return f.read()

    def is_left(self):
        return self.ask("left") == "0\n"

    def until(self, name, field, value):
        until(lambda: self.n(name)[field] == value)

    def connect(self):
        return Conn(socket.create_connection(("127.0.0.1", self.port)))

    def get(self, path="/", host="any"):
        c = self.connect()
        c.send("GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (path, host))
        got = c.answer()
        c.close()
        return got

    def memory_kb(self):
        with open("/proc/%d/status" % self.pid) as f:
            return int([line for line in f if line.startswith("VmRSS")][0].split()[1])

    def sanitized(self):
        """Then its memory says nothing."""
        with open(self.log_file.name) as f:
            return "built with a sanitizer" in f.read()

    def close(self):
        self.proc.stdin.close()
        code = self.proc.wait(WAIT)
        self.log_file.seek(0)
        text = self.log_file.read()
        self.log_file.close()
        self.dir.cleanup()
        assert code == 0, text
        assert "Sanitizer" not in text and "runtime error" not in text and "bug:" not in text, text


def get(path="/", host="any", extra=""):
    return "GET %s HTTP/1.1\r\nHost: %s\r\n%s\r\n" % (path, host, extra)


def post(body, path="/", extra=""):
    body = body if isinstance(body, str) else body.decode("latin-1")
    return "POST %s HTTP/1.1\r\nHost: any\r\nContent-Length: %d\r\n%s\r\n%s" % (
        path, len(body), extra, body)
