# SPDX-License-Identifier: Apache-2.0
"""The other kinds of checks, each with a real partner."""

import os
import shutil
import socket
import subprocess
import threading
import time

import pytest

from test_watch import config, device, is_now, page, talker  # noqa: F401
from upstate import BINARY, free_port, wait_for
from watched import devices


@pytest.fixture
def run():
    """run(*command) -> a process that is ended afterwards"""
    made = []

    def start(*command, **more):
        made.append(subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
                                     stdin=subprocess.DEVNULL, **more))
        return made[-1]

    yield start
    for p in made:
        p.kill()
        p.wait()


def answers(port):
    try:
        socket.create_connection(("127.0.0.1", port), 1).close()
    except OSError:
        return False
    return True


# --- tls ---


def certificate(folder, name, days, names=("shop.example",), ca=None):
    key, pem = folder / f"{name}.key", folder / f"{name}.pem"
    sign = ["-CA", ca[0], "-CAkey", ca[1]] if ca else []
    subprocess.run(["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes",
                    "-keyout", key, "-out", pem, "-subj", f"/CN={name}", "-days", str(days),
                    "-addext", "subjectAltName=" + ",".join("DNS:" + n for n in names), *sign], check=True, capture_output=True)
    pem.chmod(0o644)
    return pem, key


@pytest.fixture
def tls_server(run, folder):
    def start(*args):
        pem, key = certificate(folder, *args)
        port = free_port()
        run("openssl", "s_server", "-accept", str(port), "-cert", str(pem), "-key", str(key), "-quiet", "-www")
        wait_for(lambda: answers(port), "openssl s_server")
        return port, str(pem)

    return start


def test_certificates(serve, tls_server, talker):
    far, far_pem = tls_server("far", 300)
    near, near_pem = tls_server("near", 5)
    plain = talker(b"220 no TLS here\r\n")

    def tls(port, ca, **more):
        return device({"tls": f"127.0.0.1:{port}", "server_name": "shop.example", "ca": ca, **more})

    u = serve(config({
        "good": tls(far, far_pem),
        "soon": tls(near, near_pem),
        "later": tls(near, near_pem, expires="3d"),
        "strange": device({"tls": f"127.0.0.1:{far}", "server_name": "shop.example"}),
        "other": tls(far, far_pem, server_name="bank.example"),
        "any": device({"tls": f"127.0.0.1:{far}", "verify": False}),
        "plain": device({"tls": f"127.0.0.1:{plain.port}"}),
        "no-ca": tls(far, "/no/such/file"),
        "https-soon": device({"http": f"https://127.0.0.1:{near}/", "verify": False}),
        "https-strange": device({"http": f"https://127.0.0.1:{far}/"}),
        "closed": device({"tls": f"127.0.0.1:{free_port()}"}),
    }))
    assert is_now(u, "good", "good").startswith("TLSv1.")
    is_now(u, "soon", "bad", "its certificate expires 20")
    is_now(u, "later", "good")
    is_now(u, "strange", "ugly", "its certificate: self-signed certificate")
    is_now(u, "other", "ugly", "its certificate: hostname mismatch")
    is_now(u, "any", "good")
    is_now(u, "plain", "ugly", "shaking hands: ")
    is_now(u, "no-ca", "unknown", "the authorities that are trusted cannot be read: /no/such/file")
    is_now(u, "https-soon", "bad", "its certificate expires 20")
    is_now(u, "https-strange", "ugly", "certificate")
    is_now(u, "closed", "ugly", "Connection refused")


# --- dns ---

ZONE = """$ORIGIN shop.test.
@ 60 IN SOA ns.shop.test. ops.shop.test. 7 3600 600 86400 60
@ 60 IN NS ns.shop.test.
ns 60 IN A 127.0.0.1
www 60 IN A 192.0.2.7
www 60 IN A 192.0.2.8
www 60 IN AAAA 2001:db8::7
alias 60 IN CNAME www.shop.test.
@ 60 IN MX 10 mail.shop.test.
@ 60 IN TXT "v=spf1" " -all"
"""


@pytest.fixture
def knot(run, folder):
    port, home = free_port(), folder / "knot"
    home.mkdir()
    (home / "shop.test.zone").write_text(ZONE)
    (home / "knot.conf").write_text(f"""server:
  rundir: "{home}"
  listen: 127.0.0.1@{port}
database:
  storage: "{home}"
zone:
  - domain: shop.test
    storage: "{home}"
    file: shop.test.zone
""")
    run("knotd", "-c", str(home / "knot.conf"))
    wait_for(lambda: answers(port), "knotd")
    return port


class Liar:
    """A name server that answers with whatever it is given."""

    def __init__(self, answer):
        self.sock = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.sock.bind(("127.0.0.1", 0))
        self.port = self.sock.getsockname()[1]
        self.answer = answer
        threading.Thread(target=self.run, daemon=True).start()

    def run(self):
        while True:
            try:
                query, who = self.sock.recvfrom(4096)
                self.sock.sendto(self.answer(query), who)
            except OSError:
                return


def lies():
    def head(q, flags=0x8580, answers=1):
        return q[:2] + flags.to_bytes(2, "big") + b"\0\1" + answers.to_bytes(2, "big") + b"\0\0\0\0" + q[12:].split(b"\0\0\x29")[0]

    return {
        "loop": lambda q: head(q) + b"\xc0\x0c\0\5\0\1\0\0\0\x3c\0\2" + (len(head(q)) + 12 | 0xc000).to_bytes(2, "big"),
        "short": lambda q: head(q) + b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\2ab",
        "cut": lambda q: head(q) + b"\xc0\x0c\0\1\0\1\0\0",
        "many": lambda q: head(q, answers=60000),
        "noise": lambda q: q[:2] + b"\x85\x80" + bytes(range(200)),
        "nothing": lambda q: q[:2],
    }


def test_a_name_server(serve, knot):
    def dns(name, **more):
        return device({"dns": name, "server": f"127.0.0.1:{knot}", **more})

    u = serve(config({
        "a": dns("www.shop.test", **{"is": "192.0.2.8"}),
        "aaaa": dns("www.shop.test", type="AAAA", **{"is": "2001:db8::7"}),
        "mx": dns("shop.test", type="MX", **{"is": "10 mail.shop.test"}),
        "txt": dns("shop.test", type="TXT", **{"is": "v=spf1 -all"}),
        "ns": dns("shop.test", type="NS", authoritative=True),
        "cname": dns("alias.shop.test", type="CNAME", **{"is": "www.shop.test"}),
        "through": dns("alias.shop.test"),
        "soa": dns("shop.test", type="SOA"),
        "other": dns("www.shop.test", **{"is": "192.0.2.9"}),
        "none": dns("no.shop.test"),
        "no-such": dns("www.shop.test", type="MX"),
        "refused": dns("www.example.org"),
        "silent": device({"dns": "x.test", "server": f"127.0.0.1:{free_port()}"}, timeout="1s"),
    }))
    for name in ("a", "aaaa", "mx", "txt", "ns", "cname", "through", "soa"):
        is_now(u, name, "good")
    assert devices(u)["a"]["checks"][0]["value"].endswith(" ms")
    is_now(u, "other", "ugly", ", expected 192.0.2.9")
    is_now(u, "none", "ugly", "there is no such name")
    is_now(u, "no-such", "ugly", "the name has no MX")
    is_now(u, "refused", "ugly", "the server refuses")
    is_now(u, "silent", "ugly")


def test_a_name_server_that_lies(serve, page):
    p = page()
    liars = {name: Liar(answer) for name, answer in lies().items()}
    u = serve(config({"web": device({"http": p.url()}),
                      **{name: device({"dns": "www.shop.test", "server": f"127.0.0.1:{x.port}"}, timeout="600ms")
                         for name, x in liars.items()}}))
    for name in liars:
        is_now(u, name, "ugly")
    is_now(u, "web", "good")
    assert u.parts()["watcher"]["starts"] == 1
    for x in liars.values():
        x.sock.close()


# --- icmp ---


def test_icmp(serve):
    u = serve(config({"up": device({"icmp": "127.0.0.1"}), "six": device({"icmp": "::1"}),
                      "down": device({"icmp": "192.0.2.77"}, timeout="600ms")}))
    wait_for(lambda: devices(u)["up"]["reason"] != "not measured yet", "measured")
    if os.geteuid() == 0:
        is_now(u, "up", "good")
        assert devices(u)["up"]["checks"][0]["value"].endswith(" ms")
        is_now(u, "down", "ugly", "waiting for an echo: not done within 600 ms")
    elif devices(u)["up"]["status"] != "good":
        is_now(u, "up", "unknown", "net.ipv4.ping_group_range")


# --- version ---


def test_the_version_that_runs_is_the_one_that_should(serve, page):
    p, j = page(body=" 4.2\n"), page(body='{"build": {"version": "4.2"}}')
    u = serve(config({"web": device({"http": p.url("/up")}, {"version": "/version", "is": "4.2"}),
                      "json": device({"version": j.url(), "json": "build.version", "is": "4.2"})}))
    is_now(u, "web", "good")
    is_now(u, "json", "good")
    assert "/version" in [x[1] for x in p.seen]
    p.body, j.body = "4.1", '{"build": {}}'
    is_now(u, "web", "bad", "version: runs '4.1', should run '4.2'")
    is_now(u, "json", "bad", "runs '', should run '4.2'")
    p.status = 404
    is_now(u, "web", "ugly", "http: HTTP status 404")


# --- this machine ---


def test_files(serve, folder):
    f = folder / "last.tar"
    f.write_text("all is well\n")
    u = serve(config({
        "fresh": device({"file": str(f), "bad": "> 1h"}),
        "size": device({"file": str(f), "of": "size", "bad": "< 5B", "ugly": "= 0"}),
        "text": device({"file": str(f), "text": "well"}),
        "other": device({"file": str(f), "text": "wrong"}),
        "none": device({"file": str(folder / "none")}),
    }))
    for name in ("fresh", "size", "text"):
        is_now(u, name, "good")
    assert devices(u)["size"]["checks"][0]["value"] == "12 B"
    is_now(u, "other", "ugly", "the file does not have 'wrong'")
    is_now(u, "none", "ugly", "No such file or directory")
    old = time.time() - 7200
    os.utime(f, (old, old))
    is_now(u, "fresh", "bad", " > 1h")
    f.write_text("")
    is_now(u, "size", "ugly", "= 0")
    if os.geteuid() == 0:
        f.chmod(0o600)
        is_now(u, "text", "unknown", "Permission denied")


def test_a_file_that_cannot_be_looked_at_hurts_no_other_check(serve, page, folder):
    os.mkfifo(folder / "fifo")
    p = page()
    u = serve(config({"fifo": device({"file": str(folder / "fifo"), "text": "x"}, timeout="300ms"), "web": device({"http": p.url()})}))
    is_now(u, "web", "good")
    is_now(u, "fifo", "ugly")


def test_host_and_processes(serve, run, folder):
    shutil.copy("/bin/sleep", folder / "zzz-watched")
    one = run(str(folder / "zzz-watched"), "1000")
    u = serve(config({
        "load": device({"host": "load", "bad": "> 100000"}),
        "cpu": device({"host": "cpu", "bad": "> 101%"}),
        "memory": device({"host": "memory", "bad": "< 0%"}),
        "swap": device({"host": "swap"}),
        "disk": device({"host": "disk /", "ugly": "> 100%"}),
        "full": device({"host": "disk /proc", "bad": ">= 0%"}),
        "inodes": device({"host": f"inodes {folder}"}),
        "no-disk": device({"host": "disk /no/such/folder"}),
        "process": device({"process": "zzz-watched"}),
        "more": device({"process": "zzz-watched", "bad": "< 2"}),
    }, ).replace('"disk /proc"', '"disk /"'))
    for name in ("load", "cpu", "memory", "swap", "disk", "inodes", "process"):
        is_now(u, name, "good")
    assert devices(u)["disk"]["checks"][0]["value"].endswith(" %")
    is_now(u, "full", "bad", ">= 0%")
    is_now(u, "no-disk", "ugly", "No such file or directory")
    is_now(u, "more", "bad", "processes: 1 < 2")
    one.kill()
    one.wait()
    is_now(u, "process", "ugly", "it does not run")


# --- the monitor's own fault ---


@pytest.mark.skipif(os.geteuid() != 0, reason="needs a network of its own")
def test_without_a_network_nothing_is_bad(serve, page, folder):
    p = page()
    checks = {"web": device({"http": p.url()}), "tcp": device({"tcp": f"127.0.0.1:{p.port}"}), "away": device({"tcp": "192.0.2.1:80"}),
              "file": device({"file": "/etc/passwd"})}
    wrapper = folder / "alone"
    wrapper.write_text(f"#!/bin/sh\nexec unshare -n {BINARY} \"$@\"\n")
    wrapper.chmod(0o755)
    u = serve(config(checks), start=False)
    try:
        u.process = subprocess.Popen([str(wrapper), "serve", "-c", str(u.config), "--state", str(u.state)],
                                     stdout=open(u.log, "a"), stderr=subprocess.STDOUT)
        wait_for(u.is_ready, "serving")
        for name in ("web", "tcp", "away"):
            is_now(u, name, "unknown", "this machine's own fault: connecting: Network is unreachable")
        is_now(u, "file", "good")
    finally:
        u.stop()
