# SPDX-License-Identifier: Apache-2.0
"""Certificates by themselves, from a real ACME server."""

import json
import os
import pathlib
import shutil
import signal
import socket

import pytest

import upstate
from acme import Pebble
from test_tls import Clients, Site, make
from upstate import wait_for

CONFIG = """
listen: [ { http: "127.0.0.1:{port}" }, { https: "127.0.0.1:{tls}" } ]
admin: { http: "127.0.0.1:{admin}" }
acme: { agree: true, server: "{acme}", mail: ops@first.test }
apps:
  web:
    hosts: [first.test, www.first.test]
    tls: auto
    https: redirect
    maintenance: false
    targets: ["127.0.0.1:{target}"]
"""


class Auto(Site):
    """Upstate before pebble: nothing is asked for until start()."""

    def __init__(self, serve, folder, config=CONFIG, **pebble):
        self.template = config
        self.acme = None
        super().__init__(serve, folder, "apps: { web: { targets: ['127.0.0.1:1'] } }", start=False)
        self.acme = Pebble(folder / "acme", self.u.port, **pebble)
        self.u.wrap = self.acme.wrap
        self.configure(config)

    def configure(self, config):
        super().configure(config.replace("{acme}", self.acme.url if self.acme else ""))

    def certificate(self):
        return self.certificates()[0]

    def issued(self, within=30):
        try:
            return wait_for(lambda: (c := self.certificate())["status"] == "good" and c, "the certificate is good", within)
        except AssertionError as e:
            raise AssertionError(f"{e}: {self.certificate()}; {self.u.log.read_text()[-3000:]}") from None

    def failed(self, text, within=60):
        return wait_for(lambda: text in (c := self.certificate())["reason"] and c, f"a reason with '{text}'", within)

    def history(self):
        return [r for r in self.u.api("GET", "/v1/history")[1]["records"] if r["kind"] == "certificate"]


pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="trusts one authority more, in mounts of its own: needs root")
AS_NOBODY = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]


@pytest.fixture
def auto(serve, folder):
    made = []

    def start(*args, **more):
        made.append(Auto(serve, folder, *args, **more))
        return made[-1]

    yield start
    for s in made:
        s.u.stop()
        s.acme.close()
        s.server.kill()
        s.server.wait()


def uacmes(u):
    """Processes of uacme below this Upstate."""
    found = []
    for p in pathlib.Path("/proc").glob("[0-9]*"):
        try:
            if (p / "comm").read_text() == "uacme\n" and str(u.state) in os.readlink(p / "cwd"):  # in mounts of its own
                found.append(int(p.name))
        except OSError:
            pass
    return found


@pytest.mark.parametrize("user", [[], AS_NOBODY], ids=["root", "nobody"])
def test_the_first_certificate_is_there_soon_after_the_start(auto, user):
    """In maintenance and with a redirect: neither keeps the authority away."""
    s = auto(CONFIG.replace("maintenance: false", "maintenance: true"))
    s.u.wrap = s.u.wrap + user
    if user:
        os.chown(s.u.folder, 65534, 65534)
    s.u.start()
    subject = s.shown()[0]
    assert "no certificate yet" in subject or subject == "first.test"  # a handshake works from the beginning
    c = s.issued()
    assert c["names"] == ["first.test", "www.first.test"] and c["auto"]["failures"] == 0
    wait_for(lambda: "no certificate yet" not in s.shown()[0], "it is shown")
    assert wait_for(lambda: "certificate/first.test" in s.feed() and "valid until" in s.feed(), "it is news")
    assert [r["data"]["names"] for r in s.history()] == [["first.test", "www.first.test"]]
    assert s.history()[0]["app"] == "web" and s.history()[0]["data"]["until"] == c["expires"]
    assert "valid until" in s.u.cli("history").stdout
    # Nobody else may read what lies there, and who spoke with the network had no key of a certificate.
    for path in [s.u.state / "acme", *(s.u.state / "acme").rglob("*")]:
        assert path.stat().st_mode & 0o077 == 0, path
    if not user:
        assert (s.u.state / "acme" / "run").stat().st_uid != 0 and (s.u.state / "acme" / "web.pem").stat().st_uid == 0
    assert "PRIVATE KEY" in (s.u.state / "acme" / "web.pem").read_text()
    assert not [p for p in (s.u.state / "acme" / "run").rglob("*") if p.is_file() and p.name != "key.pem" and
                "PRIVATE" in p.read_text()]
    limits = {x["name"]: x for x in s.u.api("GET", "/v1/limits")[1]["limits"]}
    assert limits["certificates.failures"]["bound"] == 5 and limits["certificates"]["used"] == 1
    # The same certificate after everything began anew, without asking for another.
    before, asked = s.shown(), s.acme.log.read_text().count("/finalize-order/")
    again = shutil.copy(upstate.BINARY, s.u.folder / "again")  # where that user may look
    s.u.cli("upgrade", again, "--why", "a test")
    assert s.shown() == before
    s.u.stop()
    s.u.start()
    assert s.shown() == before and s.certificate()["status"] == "good"
    assert s.acme.log.read_text().count("/finalize-order/") == asked


def test_it_is_renewed_in_time_and_nobody_notices(auto):
    """One that lives 15 s: four of them, one after the other, under load."""
    s = auto(CONFIG + '  rest: { hosts: ["*"], targets: ["127.0.0.1:{target}"] }\n', life=15)
    s.u.start()
    s.issued()
    wait_for(lambda: "no certificate yet" not in s.shown()[0], "it is shown")
    clients, serials = Clients(s), {s.shown()[1]}
    try:
        while len(serials) < 4:
            serials.add(wait_for(lambda: (seen := s.shown()[1]) not in serials and seen, "a new one is shown", 40))
            clients.more(20)
    finally:
        clients.stop()
    assert s.u.app("rest")["failed"] == 0 and len(s.history()) >= 4


def test_a_server_that_is_away_leaves_the_old_one_and_is_told(auto):
    s = auto()
    s.u.start()
    s.issued()
    wait_for(lambda: "no certificate yet" not in s.shown()[0], "it is shown")
    before = s.shown()
    s.acme.stop()
    s.configure(CONFIG.replace("www.first.test", "www.first.test, new.first.test"))
    s.u.cli("reload")
    c = s.failed("Couldn't connect")
    assert c["status"] == "bad" and "lacks hosts" in c["reason"] and "valid until" in c["reason"]
    assert c["auto"]["failures"] == 1 and c["auto"]["next"] > "2020"
    wait_for(lambda: "connect" in s.feed(), "it is news")
    assert s.shown() == before and s.u.app("web")["status"] == "good"
    # What was remembered outlives the controller, and so does the certificate.
    pid = s.u.parts()["controller"]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: s.u.is_ready() and s.u.parts()["controller"]["pid"] != pid, "a new controller")
    assert s.certificate()["auto"]["failures"] == 1 and "Couldn't connect" in s.certificate()["reason"]
    assert s.shown() == before
    # An app that is renamed goes on with what was shown.
    renamed = CONFIG.replace("www.first.test", "www.first.test, new.first.test").replace("  web:", "  site:")
    s.configure(renamed)
    s.u.cli("reload")
    assert s.certificate()["auto"]["app"] == "site" and s.shown() == before
    s.acme.start()
    wait_for(lambda: not uacmes(s.u), "the try for that is over", 60)
    s.u.cli("reload")  # or two minutes
    c = s.issued()
    assert c["names"][-1] == "new.first.test" and [r["app"] for r in s.history()] == ["web", "site"]
    wait_for(lambda: s.shown() != before, "the new one is shown")


def test_a_challenge_that_fails_says_why_and_no_more_is_asked_than_allowed(auto):
    """The authority looks where nobody answers."""
    s = auto()
    with socket.socket() as nobody:
        nobody.bind(("127.0.0.1", 0))
        s.acme.stop()
        config = json.loads(s.acme.config.read_text())
        config["pebble"]["httpPort"] = nobody.getsockname()[1]
        s.acme.config.write_text(json.dumps(config))
        s.acme.start()
        s.u.start()
        c = s.failed("connection refused", 30)
        assert c["status"] == "ugly" and "no certificate yet" in c["reason"] and c["expires"] == ""
        assert "no certificate yet" in s.shown()[0]
        for n in range(2, 6):  # somebody is impatient
            s.u.cli("reload")
            wait_for(lambda: s.certificate()["auto"]["failures"] == n and not uacmes(s.u), f"failure {n}")
            wait_for(lambda: "acme.failed" in s.u.log.read_text() and
                     s.u.log.read_text().count("acme.failed") == n, f"failure {n} is told")
        s.u.cli("reload")
        s.u.cli("reload")
        assert s.certificate()["auto"]["failures"] == 5 and not uacmes(s.u)
        assert s.u.log.read_text().count("acme.begin") == 5


def test_a_controller_that_dies_in_the_middle_leaves_nothing_behind(auto):
    s = auto()
    s.u.start()
    s.issued()
    wait_for(lambda: "no certificate yet" not in s.shown()[0], "it is shown")
    before = s.shown()
    os.kill(s.acme.processes[-1].pid, signal.SIGSTOP)  # the server takes the connection, and says nothing
    s.configure(CONFIG.replace("www.first.test", "www.first.test, new.first.test"))
    s.u.cli("reload")
    first = wait_for(lambda: uacmes(s.u), "uacme runs")
    pid = s.u.parts()["controller"]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: not set(uacmes(s.u)) & set(first), "it ends with the controller")
    wait_for(lambda: s.u.is_ready() and s.u.parts()["controller"]["pid"] != pid, "a new controller")
    c = s.failed("interrupted")
    assert c["status"] == "bad" and c["auto"]["failures"] == 1 and s.shown() == before
    assert not uacmes(s.u)  # not tried again at once
    os.kill(s.acme.processes[-1].pid, signal.SIGCONT)
    s.u.cli("reload")
    assert s.issued()["names"][-1] == "new.first.test"


def test_a_certificate_from_files_serves_until_there_is_one(auto):
    """A wildcard's owner moves to tls: auto: nobody is shown one that nobody trusts."""
    s = auto(CONFIG.replace("apps:", "certificates: [{ cert: star.pem, key: star.key }]\napps:"))
    make(s.u.folder, "star", ["first.test", "*.first.test"], cn="star")
    s.acme.stop()
    s.u.start()
    assert s.shown("www.first.test")[0] == "star"
    s.acme.start()
    s.u.cli("reload")
    wait_for(lambda: s.certificates()[1]["status"] == "good", "it was issued", 60)
    wait_for(lambda: s.shown("www.first.test")[0] != "star", "it is shown")
    assert s.shown("first.test")[0] == "star" and s.shown("other.test")[0] == "star"


def test_check_and_explain_know_of_it(auto):
    s = auto()
    done = s.u.cli("check", "-c", s.u.config, ok=False)
    assert done.returncode == 0 and "asks at port 80" in done.stderr
    s.u.env["PATH"] = str(s.u.folder)
    assert "uacme is not installed" in s.u.cli("check", "-c", s.u.config).stderr
    del s.u.env["PATH"]
    s.configure(CONFIG.replace("www.first.test", '"*.first.test"'))
    done = s.u.cli("check", "-c", s.u.config, ok=False)
    assert done.returncode == 2 and "a wildcard cannot be proven over HTTP" in done.stderr
    s.configure(CONFIG)
    s.u.start()
    s.issued()
    a = json.loads(s.u.cli("explain", "http://first.test/.well-known/acme-challenge/x", "--json").stdout)
    assert (a["verdict"], a["status"]) == ("answer", 200)
    assert s.u.get("/.well-known/acme-challenge/x", host="first.test")[1].startswith("x.")
    assert s.u.get("/x", host="first.test")[0] == 308


def test_without_uacme_its_absence_is_told(auto):
    s = auto()
    s.u.env["PATH"] = str(s.u.folder)
    s.u.wrap = ["/usr/bin/" + s.u.wrap[0], "-m", "/bin/sh", "-c", s.u.wrap[4].replace("mount", "/bin/mount"), "sh"]
    s.u.start()
    assert "package uacme" in s.failed("uacme")["reason"]
