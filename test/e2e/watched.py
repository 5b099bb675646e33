"""Partners that the watcher measures: each does what the test tells it to."""

import http.server
import json
import socket
import threading


class Page:
    """An HTTP server on a free port; what it answers can be changed at any time."""

    def __init__(self, status=200, body="hello", headers=None, port=0):
        self.status, self.body, self.headers = status, body, headers or {}
        self.hold = threading.Event()  # clear: answers wait
        self.hold.set()
        self.seen = []
        page = self

        class Handler(http.server.BaseHTTPRequestHandler):
            def do_GET(self):
                page.seen.append((self.command, self.path, dict(self.headers)))
                page.hold.wait(30)
                data = page.body.encode()
                self.send_response(page.status)
                for name, value in page.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", str(len(data)))
                self.end_headers()
                if self.command != "HEAD":
                    self.wfile.write(data)

            do_POST = do_HEAD = do_GET

            def log_message(self, *args):
                pass

        class Server(http.server.ThreadingHTTPServer):
            daemon_threads = True
            allow_reuse_address = True

            def handle_error(self, *args):
                pass

        self.server = Server(("127.0.0.1", port), Handler)
        self.port = self.server.server_address[1]
        self.thread = threading.Thread(target=self.server.serve_forever, kwargs={"poll_interval": 0.02})
        self.thread.start()

    def url(self, path="/"):
        return f"http://127.0.0.1:{self.port}{path}"

    def close(self):
        self.hold.set()
        if self.server:
            self.server.shutdown()
            self.server.server_close()
            self.thread.join()
            self.server = None


class Talker:
    """A TCP server that says what it is told to each one that connects."""

    def __init__(self, say=b"", after=b""):
        self.say, self.after = say, after
        self.sock = socket.create_server(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.kept = []
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                c = self.sock.accept()[0]
            except OSError:
                return
            self.kept.append(c)
            try:
                if self.after:
                    c.recv(1000)
                c.sendall(self.say)
            except OSError:
                pass

    def close(self):
        if self.sock.fileno() < 0:
            return
        self.sock.shutdown(socket.SHUT_RDWR)
        self.sock.close()
        for c in self.kept:
            c.close()


def devices(u):
    return {d["name"]: d for d in u.api("GET", "/v1/status")[1]["devices"]}


def status(u, name):
    d = devices(u)[name]
    return d["status"], d["reason"]


def as_yaml(value):
    """JSON is YAML enough for our files."""
    return json.dumps(value)
