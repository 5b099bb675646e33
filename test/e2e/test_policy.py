# SPDX-License-Identifier: Apache-2.0
"""Policies from the file to what users see, with the whole program."""
import base64
import subprocess

import pytest

import apps
import faults
from load import assert_no_failure, load
from test_targets import target  # noqa: F401, a fixture
from upstate import BINARY, wait_for

CONFIG = """
listen: [ { http: "127.0.0.1:{port}" } ]
admin: { http: "127.0.0.1:{admin}" }
trusted_proxies: [127.0.0.0/8]
apps:
  a:
    targets: [%s]
    health: { every: 100ms, fall: 1 }
"""


@pytest.fixture
def run(serve, target, folder):  # noqa: F811
    """One app with so many targets, and more keys: (upstate, targets)."""

    def make(keys, targets=1, files=None):
        servers = [target("t%d" % i, unix=True) for i in range(targets)]
        base = CONFIG % ", ".join('"%s"' % s.address for s in servers)
        for name, text in (files or {}).items():
            (folder / "u0").mkdir(exist_ok=True)
            (folder / "u0" / name).write_text(text)
        up = serve(base + keys)
        up.base = base
        wait_for(lambda: up.app("a")["status"] != "ugly" and
                 all(t["status"] == "good" for t in up.app("a")["targets"]), "its targets serve")
        return up, servers

    return make


def test_redirects_fields_and_networks(run):
    up, _ = run("""
    deny: [192.0.2.0/24]
    redirects:
      - { from: /old, to: /new, status: 301 }
      - { from: /blog/*, to: "https://blog.example/*" }
    headers: { response: { set: { X-Frame-Options: DENY }, remove: [Server] } }
""")
    status, body, fields = up.get("/")
    assert (status, body, fields["X-Frame-Options"]) == (200, "t0", "DENY") and "Server" not in fields
    status, _, fields = up.get("/blog/x?y")
    assert (status, fields["Location"]) == (307, "https://blog.example/x?y")
    assert up.get("/old")[0] == 301
    assert up.get("/", headers={"X-Forwarded-For": "192.0.2.9"})[0] == 403
    receipt = wait_for(lambda: (r := up.app("a")["receipt"])["requests"] == 4 and r, "all is counted")
    assert (receipt["answered"], receipt["refused"], receipt["failed"]) == (3, 1, 0)


def test_a_rate_and_its_bound(run):
    up, _ = run("    rate: { requests: 2, per: 1h, by: header X-Key }\n")
    got = [up.get(headers={"X-Key": "k"}) for _ in range(4)]
    assert [x[0] for x in got] == [200, 200, 429, 429] and int(got[3][2]["Retry-After"]) > 1700
    assert up.get(headers={"X-Key": "other"})[0] == 200
    bounds = {x["name"]: x for x in up.api("GET", "/v1/limits")[1]["limits"]}
    assert bounds["a.rate.clients"]["bound"] == 8192 and bounds["a.rate.clients"]["overflowed"] == 0
    up.configure(up.base)
    up.cli("reload")
    assert up.get(headers={"X-Key": "k"})[0] == 200


def test_users_by_the_line_that_upstate_prints(run):
    def line(text):
        return subprocess.run([BINARY, "password", "ann"], input=text, capture_output=True, text=True, timeout=20)

    assert line("too short\n").returncode == 2 and line("").returncode == 2
    made = line("correct horse battery\n")
    assert made.returncode == 0 and made.stdout.count("\n") == 1 and "horse" not in made.stdout + made.stderr
    up, (server,) = run("    auth: { users: [%s], realm: Office }\n" % made.stdout.strip())
    assert up.get()[0] == 401
    word = base64.b64encode(b"ann:correct horse battery").decode()
    assert up.get(headers={"Authorization": "Basic " + word})[0] == 200
    up.configure(up.base + "    auth: { users: [ann:secret] }\n")
    done = up.cli("check", "-c", up.config, ok=False)
    assert done.returncode == 2 and ":9:21: error: auth.users: " in done.stderr


def test_pages_and_maintenance(run):
    up, (server,) = run("    errors: { 502: sorry.html, 503: soon.txt }\n    hold: { wait: 0s }\n",
                        files={"sorry.html": "<p>sorry {id}</p>", "soon.txt": "soon"})
    up.cli("maintenance", "a", "on", "--why", "the cellar is wet")
    status, body, fields = up.get()
    assert (status, body, fields["Content-Type"]) == (503, "soon", "text/plain; charset=utf-8")
    assert "maintenance" in up.app("a")["reason"] and up.app("a")["maintenance"]
    record = [r for r in up.api("GET", "/v1/history?app=a")[1]["records"] if r["kind"] == "maintenance"][0]
    assert record["data"]["why"] == "the cellar is wet"
    up.stop()  # the order outlives everything
    up.start()
    assert up.get()[0] == 503
    up.cli("maintenance", "a", "off")
    wait_for(lambda: up.get()[0] == 200, "it serves again")
    assert up.api("GET", "/v1/history?app=a")[1]["records"][-1]["kind"] == "maintenance.end"
    assert up.app("a")["receipt"]["failed"] == 0
    # In the file, with a page of its own; then the verb cannot end it.
    (up.folder / "works.html").write_text("<p>works")
    up.configure(up.base + "    maintenance: works.html\n")
    up.cli("reload")
    assert up.get()[:2] == (503, "<p>works")
    assert up.cli("maintenance", "a", "off", ok=False).returncode == 3
    assert up.cli("maintenance", "a", "maybe", ok=False).returncode == 2
    # A page that is lost: no reload, but what is in force stays, also over a restart.
    (up.folder / "works.html").unlink()
    assert "works.html: No such file" in up.cli("reload", ok=False).stderr
    assert up.get()[:2] == (503, "<p>works")
    up.stop()
    up.start()
    status, body, _ = up.get()
    assert status == 503 and "maintenance" in body
    up.configure(up.base + "    errors: { 504: big.html }\n")
    (up.folder / "big.html").write_text("x" * 65537)
    assert "larger than 64 KiB" in up.cli("reload", ok=False).stderr


def test_sticky_clients_stay_and_a_restart_forgets_nobody(run):
    up, servers = run("    sticky: true\n", targets=3)
    status, body, fields = up.get()
    mine = {"Cookie": fields["Set-Cookie"].split(";")[0]}
    assert mine["Cookie"].startswith("upstate-a=")
    assert {up.get(headers=mine)[1] for _ in range(9)} == {body}
    up.stop()
    up.start()
    wait_for(lambda: all(t["status"] == "good" for t in up.app("a")["targets"]), "its targets serve")
    assert {up.get(headers=mine)[1] for _ in range(9)} == {body}
    up.cli("drain", "a", servers[int(body[1:])].address)
    status, other, fields = up.get(headers=mine)
    assert status == 200 and other != body and "Set-Cookie" in fields


@pytest.mark.parametrize("keys", ["sticky: true", "balance: hash path", "balance: hash address"])
def test_a_deploy_under_a_policy_fails_no_request(serve, tree, keys):
    u = serve(apps.CONFIG + "    %s\n" % keys)
    root = tree("app", faults.files("0"))
    u.deploy("web", root)
    with load(u.port, path="/same", rate=150) as client:
        with client.step("changes") as seen:
            client.more(50)
            (root / "VERSION").write_text("1")
            u.deploy("web", root)
            u.cli("rollback", "web", "--why", "a test")
            client.more(50)
    assert_no_failure(seen, 100)
