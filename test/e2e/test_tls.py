# SPDX-License-Identifier: Apache-2.0
"""Certificates, from the files that people change to what clients are shown."""

import datetime
import json
import os
import shutil
import signal
import socket
import ssl
import subprocess
import threading

import pytest

import apps
from upstate import BINARY, free_port, wait_for

CONFIG = """
listen: [ { http: "127.0.0.1:{port}" }, { https: "127.0.0.1:{tls}" } ]
admin: { http: "127.0.0.1:{admin}" }
certificates:
  - { cert: first.pem, key: first.key }
  - cert: certs/second.pem
    key: certs/second.key
apps:
  web:
    targets: ["127.0.0.1:{target}"]
    health: { path: /up, every: 200ms }
"""


def openssl(*args, **more):
    return subprocess.run(["openssl", *map(str, args)], check=True, capture_output=True, **more).stdout.decode()


def make(folder, name, hosts, cn=None, days=60):
    """NAME.pem and NAME.key, put in place by rename, the key first."""
    folder.mkdir(exist_ok=True)
    pem, key = folder / f"{name}.pem", folder / f"{name}.key"
    openssl("req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", f"{key}.new",
            "-out", f"{pem}.new", "-days", days, "-subj", f"/CN={cn or name}", "-addext",
            "subjectAltName=" + ",".join("DNS:" + h for h in hosts))
    os.chmod(f"{key}.new", 0o600)
    os.rename(f"{key}.new", key)
    os.rename(f"{pem}.new", pem)


def make_expired(folder, name):
    """A certificate whose days are over: `req -x509` has no way to say so, `ca` has."""
    ca = folder / "ca"
    ca.mkdir()
    (ca / "index").touch()
    (ca / "serial").write_text("01\n")
    (ca / "conf").write_text(f"[ca]\ndefault_ca=d\n[d]\ndatabase={ca}/index\nserial={ca}/serial\nnew_certs_dir={ca}\n"
                             "default_md=sha256\npolicy=p\n[p]\ncommonName=supplied\n")
    openssl("req", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:P-256", "-nodes", "-keyout", folder / f"{name}.key",
            "-out", ca / "csr", "-subj", "/CN=expired")
    openssl("ca", "-batch", "-selfsign", "-config", ca / "conf", "-keyfile", folder / f"{name}.key", "-in", ca / "csr",
            "-startdate", "20200101000000Z", "-enddate", "20200201000000Z", "-notext", "-out", folder / f"{name}.pem")


class Site:
    """Upstate with TLS before a target that answers `hello`."""

    def __init__(self, serve, folder, config=CONFIG, start=True):
        self.target, self.tls = free_port(), free_port()
        self.server = subprocess.Popen(
            ["/usr/bin/python3", "-c", TARGET, str(self.target)], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        self.u = serve("{}", start=False)
        make(self.u.folder, "first", ["first.test"])
        make(self.u.folder / "certs", "second", ["*.second.test"])
        self.configure(config)
        if start:
            self.u.start()
            wait_for(lambda: self.u.app("web")["status"] == "good", "the target is up")

    def configure(self, config):
        self.u.configure(config.replace("{tls}", str(self.tls)).replace("{target}", str(self.target)))

    def connect(self, host="first.test", **more):
        ctx = more.pop("ctx", None) or context()
        raw = socket.create_connection(("127.0.0.1", self.tls), 20)
        return ctx.wrap_socket(raw, server_hostname=host, **more)

    def shown(self, host="first.test"):
        """(subject, serial) of the certificate for this name."""
        with self.connect(host) as s:
            text = openssl("x509", "-inform", "DER", "-noout", "-subject", "-serial", text=False,
                           input=s.getpeercert(binary_form=True))
        subject, serial = text.splitlines()[:2]
        return subject.split("CN = ")[1], serial

    def certificates(self):
        return self.u.api("GET", "/v1/status")[1]["certificates"]

    def feed(self):
        return self.u.get("/feeds/all.atom", port=self.u.admin)[1]


TARGET = r"""
import http.server, socketserver, sys
class H(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"
    def do_GET(self):
        self.send_response(200)
        self.send_header("content-length", "5")
        self.end_headers()
        self.wfile.write(b"hello")
class S(socketserver.ThreadingTCPServer):
    request_queue_size = 128
    daemon_threads = allow_reuse_address = True
S(("127.0.0.1", int(sys.argv[1])), H).serve_forever()
"""


def context():
    ctx = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    ctx.check_hostname, ctx.verify_mode = False, ssl.CERT_NONE
    return ctx


def ask(s, close=False):
    s.sendall(b"GET / HTTP/1.1\r\nHost: any\r\n%s\r\n" % (b"Connection: close\r\n" if close else b""))
    seen = b""
    while not seen.endswith(b"\r\n\r\nhello"):
        more = s.recv(65536)
        assert more, seen
        seen += more
    assert seen.startswith(b"HTTP/1.1 200")


@pytest.fixture
def site(serve, folder):
    made = []

    def start(*args, **more):
        made.append(Site(serve, folder, *args, **more))
        return made[-1]

    yield start
    for s in made:
        s.server.kill()
        s.server.wait()


class Clients:
    """Keep-alive and fresh connections that ask all the time; every failure is kept."""

    def __init__(self, site, kept=4, fresh=2):
        self.site, self.failed, self.done, self.ends = site, [], 0, threading.Event()
        self.threads = [threading.Thread(target=self.run, args=(i < kept,)) for i in range(kept + fresh)]
        for t in self.threads:
            t.start()

    def run(self, keep):
        s, ctx = None, context()
        while not self.ends.is_set():
            try:
                s = s or self.site.connect(ctx=ctx)
                ask(s)
                self.done += 1
                if not keep:
                    s.unwrap()
                    s.close()
                    s = None
            except Exception as e:  # noqa: BLE001: whatever it was, a user saw it
                self.failed.append(repr(e))
                s = None
        if s:
            s.close()

    def more(self, n):
        before = self.done
        wait_for(lambda: self.done >= before + n, "the clients go on", 60)

    def stop(self):
        self.ends.set()
        for t in self.threads:
            t.join()
        assert self.failed == [], self.failed[:5]


def test_curl_is_served_by_both_versions_and_the_status_tells(site):
    s = site()
    for version in ("1.2", "1.3"):
        out = subprocess.run(["curl", "-sk", "--tls-max", version, f"https://127.0.0.1:{s.tls}/", "-w", " %{http_code}"],
                             capture_output=True, text=True, check=True).stdout
        assert out == "hello 200"
    verified = subprocess.run(["curl", "-s", "--cacert", s.u.folder / "certs/second.pem", "--resolve",
                               f"x.second.test:{s.tls}:127.0.0.1", f"https://x.second.test:{s.tls}/"],
                              capture_output=True, text=True)
    assert verified.stdout == "hello", verified
    first, second = s.certificates()
    assert first["name"] == "first.test" and first["status"] == "good" and first["file"].endswith("/first.pem")
    assert second["names"] == ["*.second.test"]
    days = (datetime.datetime.fromisoformat(second["expires"].replace("Z", "+00:00")) -
            datetime.datetime.now(datetime.timezone.utc)).days
    assert 58 <= days <= 60
    assert "first.test" in s.u.cli("status").stdout
    limits = {x["name"]: x for x in s.u.api("GET", "/v1/limits")[1]["limits"]}
    assert limits["certificates"]["used"] == 2 and "tls.handshake" in limits


def test_twenty_renewals_under_load(site):
    """The file on disk changes, clients are shown the new one, nobody fails and nobody is closed."""
    s = site()
    clients = Clients(s)
    serials = {s.shown()}
    for _ in range(20):
        make(s.u.folder, "first", ["first.test"])
        new = wait_for(lambda: (seen := s.shown()) not in serials and seen, "the new certificate is shown")
        serials.add(new)
        clients.more(20)
    clients.stop()
    assert s.u.app("web")["failed"] == 0
    assert all(c["status"] == "good" for c in s.certificates())


def test_renewed_by_symbolic_links_and_in_place(site):
    """As certbot does it, and as cp does it."""
    s = site()
    archive = s.u.folder / "archive"
    for n in range(2):
        make(archive, f"c{n}", ["*.second.test"], cn=f"renewed{n}")
        for end in ("pem", "key"):
            link = s.u.folder / "certs" / f"second.{end}"
            link.unlink()
            link.symlink_to(archive / f"c{n}.{end}")
        wait_for(lambda: s.shown("x.second.test")[0] == f"renewed{n}", "the links' new aim is shown")
    make(archive, "copied", ["first.test"], cn="copied")
    for end in ("key", "pem"):
        shutil.copyfile(archive / f"copied.{end}", s.u.folder / f"first.{end}")
    wait_for(lambda: s.shown()[0] == "copied", "the copy is shown")


def test_a_bad_pair_keeps_the_one_before_and_says_so(site):
    s = site()
    before, other = s.shown(), s.shown("x.second.test")
    make(s.u.folder / "other", "first", ["first.test"])
    (s.u.folder / "first.key").unlink()
    shutil.copyfile(s.u.folder / "other" / "first.key", s.u.folder / "first.key")
    wait_for(lambda: s.certificates()[0]["status"] == "bad", "it is said")
    wait_for(lambda: "certificate/first.test" in s.feed(), "it is news")
    assert "does not belong" in s.certificates()[0]["reason"] and "certificate.refused" in s.u.log.read_text()
    assert s.shown() == before
    # A good one beside it is taken up, and the bad one's former self lives on in every process.
    make(s.u.folder / "certs", "second", ["*.second.test"])
    wait_for(lambda: s.shown("x.second.test") != other, "the good one is shown")
    for part in ("controller", "router"):
        pid = s.u.parts()[part]["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: s.u.is_ready() and s.u.parts()[part]["pid"] != pid, f"a new {part}")
        assert s.shown() == before
        assert s.certificates()[0]["status"] == "bad"
    reload = s.u.cli("reload", ok=False)
    assert reload.returncode == 2 and "upstate.yaml:5:5" in reload.stderr and "does not belong" in reload.stderr
    assert s.shown() == before
    shutil.copyfile(s.u.folder / "other" / "first.pem", s.u.folder / "first.pem")
    wait_for(lambda: s.certificates()[0]["status"] == "good", "both files fit again")
    wait_for(lambda: s.shown() != before, "the new one is shown")
    s.u.cli("reload")


def resumed(s, ctx, session):
    with s.connect(ctx=ctx, session=session) as c:
        ask(c)
        return c.session_reused, c.session


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
def test_sessions_outlive_every_process_but_the_keeper(site, version):
    s = site()
    ctx = context()
    ctx.minimum_version = ctx.maximum_version = version
    session = resumed(s, ctx, None)[1]
    assert resumed(s, ctx, session)[0]
    for part in ("router", "controller"):
        pid = s.u.parts()[part]["pid"]
        os.kill(pid, signal.SIGKILL)
        wait_for(lambda: s.u.is_ready() and s.u.parts()[part]["pid"] != pid, f"a new {part}")
        assert resumed(s, ctx, session)[0], part
    s.u.cli("reload")
    assert resumed(s, ctx, session)[0]
    make(s.u.folder, "first", ["first.test"], cn="renewed")
    wait_for(lambda: s.shown()[0] == "renewed", "a renewed certificate")
    assert resumed(s, ctx, session)[0]


def test_check_tells_expiry_mismatch_and_what_cannot_be_read(site):
    s = site(start=False)
    check = lambda: s.u.cli("check", "-c", s.u.config, ok=False)  # noqa: E731
    assert check().returncode == 0
    make(s.u.folder, "first", ["first.test"], days=20)
    done = check()
    assert done.returncode == 0 and "upstate.yaml:5:5: warning: certificate" in done.stderr and "expires in 1" in done.stderr
    os.chmod(s.u.folder / "first.key", 0o644)
    assert "everyone on this machine can read the key" in check().stderr
    for change, said in [
            (lambda f: shutil.copyfile(f / "certs/second.key", f / "first.key"), "does not belong to the certificate"),
            (lambda f: (f / "first.key").write_text("none"), "no private key can be read"),
            (lambda f: openssl("genpkey", "-algorithm", "EC", "-pkeyopt", "ec_paramgen_curve:P-256", "-aes256", "-pass",
                               "pass:x", "-out", f / "first.key"), "has a pass phrase"),
            (lambda f: (f / "first.key").unlink(), "cannot read"),
            (lambda f: (f / "first.pem").write_text("-----BEGIN CERTIFICATE-----\nxx\n-----END CERTIFICATE-----\n"),
             "certificate 1 cannot be read"),
            (lambda f: (f / "first.pem").write_text(""), "has no certificate"),
            (lambda f: (f / "first.pem").write_text((f / "certs/second.pem").read_text() * 2 +
                                                    (f / "other.pem").read_text()), "chain is not in order"),
            (lambda f: make_expired(f, "first"), "has expired: 2020-02-01")]:
        make(s.u.folder, "first", ["first.test"])
        make(s.u.folder, "other", ["other.test"])
        change(s.u.folder)
        done = check()
        assert done.returncode == 2 and "upstate.yaml:5:5: error: certificate" in done.stderr, (said, done)
        assert said in done.stderr, done.stderr
    problems = json.loads(s.u.cli("check", "-c", s.u.config, "--json", ok=False).stdout)["problems"]
    assert problems[0]["line"] == 5 and not problems[0]["warning"]


def test_an_expired_certificate_does_not_stop_a_start_nor_a_reload_of_something_else(site):
    s = site(start=False)
    make_expired(s.u.folder, "first")
    s.u.start()
    assert s.certificates()[0]["status"] == "ugly" and s.shown()[0] == "expired"
    s.configure(CONFIG + "    limit: 7\n")
    assert "has expired" in s.u.cli("reload").stdout + s.u.log.read_text()
    make(s.u.folder, "first", ["first.test"])
    wait_for(lambda: s.shown()[0] == "first", "the renewed one is shown")
    assert s.certificates()[0]["status"] == "good"


def test_https_comes_and_goes_with_a_reload(site):
    """On the same address too: what is spoken there changes, the socket does not."""
    s = site()
    plain = CONFIG.replace('{ https: "127', '{ http: "127')
    s.configure(plain)
    s.u.cli("reload")
    wait_for(lambda: try_plain(s), "the address speaks plain HTTP")
    s.configure(CONFIG)
    s.u.cli("reload")
    wait_for(lambda: not try_plain(s), "and TLS again")
    assert s.shown()[0] == "first"
    s.configure(CONFIG.replace("first.key", "certs/second.key"))
    done = s.u.cli("reload", ok=False)
    assert done.returncode == 2 and "does not belong" in done.stderr
    assert s.shown()[0] == "first"


def try_plain(s):
    with socket.create_connection(("127.0.0.1", s.tls), 20) as c:
        c.sendall(b"GET / HTTP/1.1\r\nHost: any\r\nConnection: close\r\n\r\n")
        return c.makefile("rb").readline().startswith(b"HTTP/1.1 200")


def test_redirect_and_hsts_as_configured(site):
    s = site(CONFIG + "    https: redirect\n    hsts: 365d\n")
    status, _, fields = s.u.get("/x?y=1", host="first.test")
    fields = {k.lower(): v for k, v in fields.items()}
    assert status == 308 and fields["location"] == f"https://first.test:{s.tls}/x?y=1"
    assert s.u.get("/.well-known/acme-challenge/x", host="first.test")[0] == 200
    explained = [json.loads(s.u.cli("explain", f"{scheme}://first.test/x", "--json", ok=False).stdout)
                 for scheme in ("http", "https")]
    assert explained[0]["status"] == 308 and explained[1]["verdict"] == "send"
    assert {"name": "X-Forwarded-Proto", "value": "https"} in explained[1]["headers"]
    out = subprocess.run(["curl", "-skiL", "--connect-to", f"::127.0.0.1:{s.tls}", f"https://first.test:{s.tls}/"],
                         capture_output=True, text=True, check=True).stdout.lower()
    assert "strict-transport-security: max-age=31536000" in out


def test_keys_are_in_no_log_and_no_dump(site):
    s = site()
    body = "".join((s.u.folder / "first.key").read_text().splitlines()[1:-1])
    for path in [s.u.log, *(s.u.state / "log").glob("**/*")]:
        if path.is_file():
            assert body not in path.read_text(errors="replace")
    database = b"".join(p.read_bytes() for p in s.u.state.glob("state.db*"))
    assert body.encode() not in database
    for part in ("router", "controller"):  # 0: its memory is not dumped, and belongs to root alone
        owner = os.stat(f"/proc/{s.u.parts()[part]['pid']}/mem").st_uid
        assert owner == 0


def test_a_start_with_a_pair_that_does_not_fit_says_so_and_ends(site):
    s = site(start=False)
    shutil.copyfile(s.u.folder / "certs/second.key", s.u.folder / "first.key")
    done = subprocess.run([BINARY, "serve", "-c", str(s.u.config), "--state", str(s.u.state)], capture_output=True,
                          text=True, timeout=30, env=s.u.env)
    assert done.returncode == 2 and "upstate.yaml:5:5" in done.stderr and "does not belong" in done.stderr


def test_apps_that_are_run_are_reached_too(serve, tree, site):
    s = site(CONFIG.replace('targets: ["127.0.0.1:{target}"]', "run: ./server.py --socket $UPSTATE_SOCKET"), start=False)
    s.u.start()
    s.u.deploy("web", tree("one", apps.files("one")))
    out = subprocess.run(["curl", "-sk", f"https://127.0.0.1:{s.tls}/"], capture_output=True, text=True, check=True).stdout
    assert out.startswith("one 1 ")
