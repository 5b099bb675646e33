"""Small apps to deploy: one Python file, no library, one socket."""

# Answers every request with its release and pid, and /same always alike. What it does besides is set by files beside it:
# `sick` (health answers 500), `crash` (ends that many seconds after it began to serve), `late` (waits that
# long before it listens), `slow` (seconds for each answer).
SERVER = r'''#!/usr/bin/env python3
import http.server, os, socket, socketserver, threading, time

def setting(name):
    try:
        return open(os.path.join(os.path.dirname(os.path.abspath(__file__)), name)).read().strip()
    except FileNotFoundError:
        return ""

class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def answer(self):
        length = int(self.headers.get("content-length") or 0)
        body = self.rfile.read(length) if length else b""
        if setting("slow") and self.path != "/up":
            time.sleep(float(setting("slow")))
        status = 500 if setting("sick") and self.path == "/up" else 200
        text = f"{setting('VERSION')} {os.environ['UPSTATE_RELEASE']} {os.getpid()} {body.decode()}".encode()
        if self.path == "/same":
            text = b"same"
        self.send_response(status)
        self.send_header("content-length", str(len(text)))
        self.end_headers()
        self.wfile.write(text)

    do_GET = do_POST = answer

    def address_string(self):
        return "unix"

    def log_message(self, *args):
        print(*args[1:], flush=True)

class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True
    request_queue_size = 128

if setting("late"):
    time.sleep(float(setting("late")))
server = Server(os.environ["UPSTATE_SOCKET"], Handler)
if setting("crash"):
    threading.Timer(float(setting("crash")), lambda: os._exit(7)).start()
print("listening", flush=True)
server.serve_forever()
'''

CONFIG = """
listen: [ { http: "127.0.0.1:{port}" } ]
admin: { http: "127.0.0.1:{admin}" }
apps:
  web:
    hosts: ["*"]
    run: ./server.py --socket $UPSTATE_SOCKET
    instances: 2
    health: { path: /up, every: 200ms }
    bake: 300ms
    drain: 5s
    ready: { within: 5s }
"""


def files(version, **settings):
    return dict({"server.py": SERVER, "VERSION": version}, **{k: str(v) for k, v in settings.items()})
