# SPDX-License-Identifier: Apache-2.0
"""The servers of bench/changes, and how each is changed while it runs."""
import asyncio
import contextlib
import os
import pathlib
import shutil
import signal
import socket
import ssl
import subprocess
import tempfile
import time

from servers import BUILD, Server, free_port, make_certificate, tree
from users import insecure

WITHIN_S = 30  # for a change to take effect

NGINX = """
daemon on; pid {dir}/nginx.pid; error_log {dir}/error.log; worker_processes 2;
events {{ worker_connections 4096; }}
http {{
 access_log {dir}/access.log combined buffer=64k flush=1s;
 keepalive_timeout 300s; keepalive_requests 1000000000; tcp_nodelay on;
 client_body_temp_path {dir}/b; proxy_temp_path {dir}/p; fastcgi_temp_path {dir}/f;
 uwsgi_temp_path {dir}/u; scgi_temp_path {dir}/s;
 upstream web {{ server {target}; keepalive 64; keepalive_requests 1000000000; keepalive_timeout 300s; }}
 upstream chat {{ server {chat}; }}
 server {{ listen 127.0.0.1:{port} backlog=4096; listen 127.0.0.1:{tls} ssl http2 backlog=4096;
  ssl_certificate {cert}; ssl_certificate_key {key};
  add_header X-Change {number};
  location / {{ proxy_pass http://web; proxy_http_version 1.1; proxy_set_header Connection ""; }}
  location /chat {{ proxy_pass http://chat; proxy_http_version 1.1; proxy_set_header Upgrade $http_upgrade;
   proxy_set_header Connection upgrade; proxy_read_timeout 300s; }} }}
}}
"""

HAPROXY = """
global
 nbthread 2
 maxconn 4096
 log stdout format raw local0
 stats socket {dir}/stats.sock mode 600 level admin expose-fd listeners
defaults
 mode http
 log global
 option httplog
 option idle-close-on-response
 retry-on conn-failure empty-response response-timeout
 timeout client 300s
 timeout server 300s
 timeout tunnel 300s
 timeout connect 5s
 timeout http-keep-alive 300s
frontend f
 bind 127.0.0.1:{port} backlog 4096
 bind 127.0.0.1:{tls} ssl crt {pem} alpn h2,http/1.1 backlog 4096
 http-response set-header X-Change {number}
 http-request disable-l7-retry unless METH_GET
 use_backend chat if {{ path /chat }}
 default_backend web
backend web
 server s {target}
backend chat
 server s {chat}
"""

UPSTATE = """
listen:
  - http: 127.0.0.1:{port}
  - https: 127.0.0.1:{tls}
certificates:
  - {{ cert: {cert}, key: {key} }}
admin:
  http: 127.0.0.1:{admin}
limits: {{ clients: 4096, idle: 300s }}
apps:
  web:
    hosts: ["*"]
    targets: ["{target}"]
    drain: 2s
    headers: {{ response: {{ set: {{ X-Change: "{number}" }} }} }}
  chat:
    hosts: ["*"]
    path: /chat
    targets: ["{chat}"]
    drain: 4s
"""


async def until(condition, what):
    end = time.monotonic() + WITHIN_S
    while not await asyncio.to_thread(condition):
        if time.monotonic() > end:
            raise SystemExit(f"bench/changes: not within {WITHIN_S} s: {what}")
        await asyncio.sleep(0.02)


def is_alive(pid):
    try:
        return pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[0] != "Z"
    except OSError:
        return False


def command_of(pid):
    with contextlib.suppress(OSError):
        return pathlib.Path(f"/proc/{pid}/cmdline").read_text()
    return ""


class Proxy(Server):
    """A proxy that can be changed. Its program is a copy, which an upgrade replaces."""

    form, threads = "", 2

    def __init__(self, name, target, chat, place):
        super().__init__(name, "changes", target, place)
        self.chat, self.number, self.conf = chat, 0, self.dir / "conf"
        self.admin, self.master, self.masters = free_port(), None, []
        self.program = self.dir / name
        self.source = BUILD / "upstate" if name == "upstate" else pathlib.Path(
            shutil.which(name, path=os.environ["PATH"] + ":/usr/sbin:/sbin"))
        self.replace_program()
        self.renew_files()

    def replace(self, path, data, mode=0o600):
        new = path.with_suffix(".new")
        new.write_bytes(data)
        new.chmod(mode)
        new.rename(path)

    def replace_program(self):
        """The same program, as another file with other bytes."""
        self.replace(self.program, self.source.read_bytes() + b"%d" % time.monotonic_ns(), 0o755)

    def renew_files(self):
        with tempfile.TemporaryDirectory(dir=self.dir) as new:
            new = pathlib.Path(new)
            make_certificate(new)
            for name in ("key.pem", "cert.pem", "both.pem"):
                (new / name).rename(self.dir / name)
        self.wanted = ssl.PEM_cert_to_DER_cert((self.dir / "cert.pem").read_text())

    def configure(self):
        self.number += 1
        text = self.form.format(dir=self.dir, port=self.port, tls=self.tls, target=self.target, chat=self.chat,
                                admin=self.admin, number=self.number, cert=self.dir / "cert.pem",
                                key=self.dir / "key.pem", pem=self.dir / "both.pem")
        self.replace(self.conf, text.encode())

    def begin(self):
        self.configure()
        self.start(",".join(map(str, sorted(os.sched_getaffinity(0)))))
        self.find_master()

    def find_master(self):
        self.master = self.process.pid

    # What is seen from outside.

    def shows_number(self):
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5) as s:
                s.sendall(b"GET /number HTTP/1.1\r\nHost: bench.localhost\r\nConnection: close\r\n\r\n")
                return b"x-change: %d\r\n" % self.number in s.recv(4096).lower()
        except OSError:
            return False

    def shows_certificate(self):
        with contextlib.suppress(OSError):
            with socket.create_connection(("127.0.0.1", self.tls), timeout=5) as s:
                with insecure().wrap_socket(s, server_hostname="bench.localhost") as t:
                    return t.getpeercert(True) == self.wanted
        return False

    def runs_the_file(self):
        with contextlib.suppress(OSError):
            return os.path.samefile(f"/proc/{self.master}/exe", self.program)
        return False

    def old_ones(self):
        """Processes that a change has left behind and that end by themselves."""
        return []

    # The changes.

    async def reload(self):
        self.configure()
        self.signal_reload()
        await until(self.shows_number, f"{self.name} answers by its new configuration")

    async def replaced(self):
        await self.reload()

    async def upgrade(self):
        self.replace_program()
        await self.reload()
        await until(self.runs_the_file, f"{self.name} runs the new file")

    async def renew(self):
        await asyncio.to_thread(self.renew_files)
        self.take_certificate()
        await until(self.shows_certificate, f"{self.name} shows the new certificate")

    async def change(self, kind):
        await {"reload": self.reload, "replace": self.replaced, "upgrade": self.upgrade, "renew": self.renew}[kind]()


class Nginx(Proxy):
    form = NGINX

    def command(self):
        return [self.program, "-c", self.conf, "-p", self.dir]

    def pid(self):
        with contextlib.suppress(OSError, ValueError):
            return int((self.dir / "nginx.pid").read_text())
        return None

    def start(self, core):
        done = subprocess.run(list(map(str, self.command())), capture_output=True, text=True)
        end = time.monotonic() + 15
        while done.returncode or not self.answers():
            if done.returncode or time.monotonic() > end:
                raise SystemExit(f"bench/changes: nginx does not answer: {done.stderr}")
            time.sleep(0.05)

    def find_master(self):
        self.master = self.pid()
        self.masters.append(self.master)

    def signal_reload(self):
        os.kill(self.master, signal.SIGHUP)

    take_certificate = signal_reload

    async def upgrade(self):
        old = self.master
        self.replace_program()
        os.kill(old, signal.SIGUSR2)
        await until(lambda: self.pid() not in (None, old) and len(tree(self.pid())) > 2, "the new nginx has workers")
        self.find_master()
        await until(self.runs_the_file, "nginx runs the new file")
        os.kill(old, signal.SIGWINCH)
        await asyncio.sleep(0.2)
        os.kill(old, signal.SIGQUIT)

    def old_ones(self):
        """Masters before this one, and workers that finish what they have."""
        ours = {pid for m in self.masters for pid in tree(m) if is_alive(pid)}
        return [p for p in ours if "shutting down" in command_of(p) or (p in self.masters and p != self.master)]

    def stop(self):
        if self.master:
            for pid in (*self.old_ones(), self.master):
                with contextlib.suppress(OSError):
                    os.kill(pid, signal.SIGTERM)
            end = time.monotonic() + 15
            while is_alive(self.master) and time.monotonic() < end:
                time.sleep(0.05)


class Haproxy(Proxy):
    form = HAPROXY

    def command(self):
        return [self.program, "-W", "-f", self.conf]

    def signal_reload(self):
        os.kill(self.master, signal.SIGUSR2)

    def say(self, text):
        with socket.socket(socket.AF_UNIX) as s:
            s.connect(str(self.dir / "stats.sock"))
            s.sendall(text.encode())
            s.shutdown(socket.SHUT_WR)
            return b"".join(iter(lambda: s.recv(4096), b"")).decode()

    def take_certificate(self):
        pem = self.dir / "both.pem"
        said = self.say(f"set ssl cert {pem} <<\n{pem.read_text()}\n")
        said += self.say(f"commit ssl cert {pem}\n")
        if "Success" not in said:
            raise SystemExit(f"bench/changes: haproxy says: {said}")

    def old_ones(self):
        workers = sorted((p for p in tree(self.master) if p != self.master and is_alive(p)), key=started)
        return workers[:-1]


def started(pid):
    with contextlib.suppress(OSError):
        return int(pathlib.Path(f"/proc/{pid}/stat").read_text().rsplit(")", 1)[1].split()[19])
    return 0


class Upstate(Proxy):
    form = UPSTATE

    def command(self):
        return [self.program, "serve", "-c", self.conf, "--state", self.dir / "state"]

    def cli(self, *words):
        done = subprocess.run([self.program, *words, "--state", self.dir / "state"], capture_output=True, text=True)
        if done.returncode:
            raise SystemExit(f"bench/changes: upstate {' '.join(words)}: {done.stdout}{done.stderr}")

    async def reload(self):
        self.configure()
        await asyncio.to_thread(self.cli, "reload")
        await until(self.shows_number, "upstate answers by its new configuration")

    async def replaced(self):
        before = self.routers()
        await asyncio.to_thread(self.cli, "restart", "router", "--why", "bench")
        await until(lambda: set(self.routers()) - set(before), "a new router")

    async def upgrade(self):
        self.replace_program()
        await asyncio.to_thread(self.cli, "upgrade", "--why", "bench")
        await until(self.runs_the_file, "upstate runs the new file")

    def take_certificate(self):
        """It looks by itself."""

    def routers(self):
        return sorted((p for p in tree(self.master) if "_router" in command_of(p) and is_alive(p)), key=started)

    def old_ones(self):
        return self.routers()[:-1]


KINDS = {"nginx": Nginx, "haproxy": Haproxy, "upstate": Upstate}
