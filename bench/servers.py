# SPDX-License-Identifier: Apache-2.0
"""What the benchmarks share: the servers side by side, and what the kernel knows of their cost."""
import contextlib
import json
import os
import pathlib
import platform
import re
import signal
import socket
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[1]
BUILD = next((b for b in (ROOT / "build-bench", ROOT / "build") if b.exists()), ROOT / "build")
PEERS = ("nginx", "haproxy")
CONNECTIONS = 32


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


# --- the servers ---

# All speak the same TLS, as far as they can be told: nginx 1.22 would not speak 1.3, and it and HAProxy leave
# the choice to the client, which likes the more expensive ciphers best.
CIPHERS = ("TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256",
           "ECDHE-ECDSA-AES128-GCM-SHA256:ECDHE-RSA-AES128-GCM-SHA256")

NGINX = """
daemon off; pid {dir}/nginx.pid; error_log {dir}/error.log; worker_processes 1;
worker_rlimit_nofile {files};
events {{ worker_connections {clients}; multi_accept on; }}
http {{
 access_log {dir}/access.log combined buffer=64k flush=1s;
 keepalive_timeout 300s; keepalive_requests 1000000000; tcp_nodelay on;
 client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
 uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
 upstream target {{ server {target}; keepalive 128; keepalive_requests 1000000000; keepalive_timeout 300s; }}
 server {{ listen 127.0.0.1:{port} backlog=4096; listen 127.0.0.1:{tls} ssl http2;
  ssl_protocols TLSv1.2 TLSv1.3; ssl_prefer_server_ciphers on;
  ssl_ciphers {ciphers[1]}; ssl_conf_command Ciphersuites {ciphers[0]};
  ssl_certificate {cert}; ssl_certificate_key {key};
  location / {{ proxy_pass http://target; proxy_http_version 1.1; proxy_set_header Connection "";
   proxy_set_header Host $host; proxy_set_header X-Forwarded-For $proxy_add_x_forwarded_for; }} }}
}}
"""

HAPROXY = """
global
 nbthread 1
 maxconn {clients}
 log stdout format raw local0
 ssl-default-bind-options ssl-min-ver TLSv1.2
 ssl-default-bind-ciphersuites {ciphers[0]}
 ssl-default-bind-ciphers {ciphers[1]}
defaults
 mode http
 log global
 option httplog
 option forwardfor
 http-reuse always
 timeout client 300s
 timeout server 300s
 timeout connect 5s
 timeout http-keep-alive 300s
frontend f
 bind 127.0.0.1:{port} backlog 4096
 bind 127.0.0.1:{tls} ssl crt {pem} alpn h2,http/1.1
 default_backend b
backend b
 server s {target}
"""

UPSTATE = """
listen:
  - http: 127.0.0.1:{port}
  - https: 127.0.0.1:{tls}
certificates:
  - {{ cert: {cert}, key: {key} }}
admin:
  http: 127.0.0.1:{admin}
limits: {{ clients: {clients}, idle: 300s }}
apps:
  bench:
    hosts: ["*"]
    targets: ["{target}"]
"""


def make_certificate(place):
    """A self-signed pair in `place`: ECDSA on P-256, what is got for nothing today."""
    cert, key = place / "cert.pem", place / "key.pem"
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-days",
                    "30", "-subj", "/CN=bench.localhost", "-addext", "subjectAltName=DNS:bench.localhost",
                    "-keyout", key, "-out", cert], check=True, capture_output=True)
    (place / "both.pem").write_text(cert.read_text() + key.read_text())
    for path in (cert, key, place / "both.pem"):
        path.chmod(0o644)  # of a key that nobody trusts, for servers that give up their rights


class Server:
    """One proxy before one target. `processes()` are all of its own."""

    threads = 1  # of Upstate; the others have theirs in their configuration

    def __init__(self, name, kind, target, place):
        self.name, self.kind, self.target = name, kind, target
        self.place, self.dir = place, place / f"{name}-{kind}"
        self.dir.mkdir()
        self.dir.chmod(0o777)
        self.port, self.tls = free_port(), free_port()
        self.process = None

    def values(self):
        files = 20000
        if not (self.place / "both.pem").exists():
            make_certificate(self.place)
        return dict(dir=self.dir, port=self.port, target=self.target, files=files, clients=9000, admin=free_port(),
                    ciphers=CIPHERS, tls=self.tls, cert=self.place / "cert.pem", key=self.place / "key.pem",
                    pem=self.place / "both.pem")

    def command(self):
        conf = self.dir / "conf"
        if self.name == "relay":
            return [BUILD / "bench" / "relay", f"127.0.0.1:{self.port}", self.target]
        if self.name == "nginx":
            conf.write_text(NGINX.format(**self.values()))
            return ["nginx", "-c", conf, "-p", self.dir]
        if self.name == "haproxy":
            target = self.target.replace("unix:", "unix@")
            conf.write_text(HAPROXY.format(**{**self.values(), "target": target}))
            return ["haproxy", "-db", "-f", conf]
        conf.write_text(UPSTATE.format(**self.values()))
        return [BUILD / "upstate", "serve", "-c", conf, "--state", self.dir / "state"]

    def start(self, core):
        out = open(self.dir / "out", "wb")
        path = os.environ["PATH"] + ":/usr/sbin:/sbin"
        self.process = subprocess.Popen(
            ["taskset", "-c", core, *map(str, self.command())], stdin=subprocess.DEVNULL, stdout=out,
            stderr=subprocess.STDOUT, env={**os.environ, "PATH": path, "UPSTATE_THREADS": str(self.threads)})
        until = time.monotonic() + 15
        while not self.answers():
            if self.process.poll() is not None or time.monotonic() > until:
                text = (self.dir / "out").read_text(errors="replace")
                raise SystemExit(f"bench: {self.name} does not answer: {text[-2000:]}")
            time.sleep(0.05)

    def answers(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=2) as s:
                s.sendall(b"GET / HTTP/1.1\r\nHost: bench.localhost\r\nConnection: close\r\n\r\n")
                return s.recv(4096).startswith(b"HTTP/1.1 200")
        except OSError:
            return False

    def processes(self):
        return tree(self.process.pid)

    def stop(self):
        if not self.process:
            return
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(timeout=15)
        except subprocess.TimeoutExpired:
            for pid in self.processes():
                os.kill(pid, signal.SIGKILL)
            self.process.wait()
        self.process = None


# --- what the kernel knows ---


def tree(root):
    """The process and all below it."""
    found, todo = [], [root]
    while todo:
        pid = todo.pop()
        found.append(pid)
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(OSError):
                    todo += map(int, pathlib.Path(f"/proc/{pid}/task/{task}/children").read_text().split())
    return found


def cpu_us(pids):
    """Time on a CPU, user and kernel, of all their threads: in nanoseconds where the kernel counts them."""
    total = 0.0
    for pid in pids:
        with contextlib.suppress(OSError):
            for task in os.listdir(f"/proc/{pid}/task"):
                with contextlib.suppress(OSError):
                    total += int(pathlib.Path(f"/proc/{pid}/task/{task}/schedstat").read_text().split()[0])
    return total / 1000


def pss_bytes(pids):
    total = 0
    for pid in pids:
        text = pathlib.Path(f"/proc/{pid}/smaps_rollup").read_text()
        total += int(re.search(r"^Pss: +(\d+) kB", text, re.M).group(1)) * 1024
    return total


def load(server, seconds, rate, core, connections=CONNECTIONS * 4):
    """What the open-loop load client says of so many GETs a second."""
    done = subprocess.run(
        ["taskset", "-c", core, BUILD / "bench/load", "--plain", "/", "--rate", str(rate), "--seconds",
         str(seconds), "--fresh", "0", "--connections", str(connections), "--host", "bench.localhost",
         f"127.0.0.1:{server.port}"],
        stdin=subprocess.DEVNULL, capture_output=True, text=True)
    return json.loads(done.stdout.splitlines()[-1])


# --- what is told ---


def show(text):
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\033[K{text}")
    else:
        print(text, file=sys.stderr)


def version(*command):
    done = subprocess.run(command, capture_output=True, text=True,
                          env={**os.environ, "PATH": os.environ["PATH"] + ":/usr/sbin:/sbin"})
    return (done.stdout + done.stderr).strip().splitlines()[0] if (done.stdout + done.stderr).strip() else "?"


def machine():
    """Two lines of Markdown: the machine and the programs."""
    cpu = re.search(r"model name\s*: (.*)", pathlib.Path("/proc/cpuinfo").read_text())
    peers = "; ".join((version("nginx", "-v"), version("haproxy", "-v"), version("wrk", "-v")))
    return (f"- {time.strftime('%Y-%m-%d')}; {cpu.group(1) if cpu else platform.machine()}, "
            f"{len(os.sched_getaffinity(0))} cores, Linux {platform.release()}\n- {peers}")


def write_section(path, title, body):
    """Puts a section into the file of results, in the place of the one with this title."""
    text = path.read_text() if path.exists() else "# Results\n"
    parts = re.split(r"(?m)^(?=## )", text)
    section = f"## {title}\n\n{body.strip()}\n"
    same = [i for i, part in enumerate(parts) if part.startswith(f"## {title}\n")]
    if same:
        parts[same[0]] = section
    else:
        parts.append(section)
    path.write_text("\n".join(part.strip() + "\n" for part in parts))
