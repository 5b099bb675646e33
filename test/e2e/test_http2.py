# SPDX-License-Identifier: Apache-2.0
"""HTTP/2 through the whole program: deploys under load, and what is told of it afterwards."""
import json
import pathlib
import re
import subprocess
import sys
import threading

import pytest

import apps
from upstate import wait_for

sys.path.insert(0, str(pathlib.Path(__file__).parent / "router"))
from h2_kit import H2  # noqa: E402

STREAMS = 8


class Users(threading.Thread):
    """One connection with some requests in flight at any time, half of them POSTs, until told to stop."""

    def __init__(self, u):
        super().__init__(daemon=True)
        self.client, self.over = H2(u.port), threading.Event()
        self.done, self.wrong, self.goaways = 0, [], 0

    def ask(self, i):
        if i % 2:
            return self.client.ask(path="/x", host="web")
        sid = self.client.ask([("content-length", "4")], end=False, method="POST", host="web")
        self.client.data(sid, b"body", end=True)
        return sid

    def run(self):
        try:
            sids = [self.ask(i) for i in range(STREAMS)]
            while sids:
                s = self.client.answer(sids.pop(0))
                body = s.body.decode()
                if s.reset is not None or s.status != 200 or not re.fullmatch(r"\S+ \S+ \d+ (body)?", body):
                    self.wrong.append((s.reset, s.heads, body))
                self.done += 1
                if not self.over.is_set():
                    sids.append(self.ask(self.done))
            self.goaways = len(self.client.goaways)
        except (AssertionError, OSError) as e:
            self.wrong.append(e)

    def finish(self):
        self.over.set()
        self.join(60)
        self.client.close()
        assert not self.wrong, self.wrong[:3]
        assert not self.is_alive() and not self.goaways
        return self.done


@pytest.fixture
def web(serve, tree):
    u = serve(apps.CONFIG)
    root = tree("app", apps.files("0"))
    u.deploy("web", root)
    return u, root


def test_deploys_and_reloads_under_load_cost_no_stream(web):
    u, root = web
    users = [Users(u) for _ in range(4)]
    for user in users:
        user.start()
    for i in range(1, 5):
        before = sum(user.done for user in users)
        (root / "VERSION").write_text(str(i))
        receipt = u.deploy("web", root)
        assert receipt["outcome"] == "done" and receipt["failed"] == 0, receipt
        assert receipt["requests"] > 0
        u.configure(apps.CONFIG.replace("drain: 5s", f"drain: {5 + i}s"))
        u.cli("reload")
        wait_for(lambda: sum(user.done for user in users) > before + 100, "100 more answers")
    assert sum(user.finish() for user in users) > 400


def test_a_line_of_the_access_log_names_the_protocol(web):
    u, _ = web
    assert u.get("/one")[0] == 200
    c = H2(u.port)
    assert c.get("/two", host="web").status == 200
    c.close()
    log = u.state / "log" / "access.log"
    wait_for(lambda: log.exists() and '"/two"' in log.read_text(), "the access log")
    lines = {line["path"]: line for line in map(json.loads, log.read_text().splitlines())}
    assert lines["/one"]["http"] == 1.1 and lines["/two"]["http"] == 2.0
    assert lines["/two"]["status"] == 200 and lines["/two"]["app"] == "web"


def test_h2load_sees_no_failure_over_a_deploy(web):
    u, root = web
    load = subprocess.Popen(["h2load", "-D", "4", "-c", "8", "-m", "10", f"http://127.0.0.1:{u.port}/same"],
                            stdout=subprocess.PIPE, text=True)
    (root / "VERSION").write_text("2")
    assert u.deploy("web", root)["failed"] == 0
    said = load.communicate()[0]
    # Those that are in flight when its time is up, h2load itself lets go of.
    got = re.search(r"(\d+) done, (\d+) succeeded, (\d+) failed, (\d+) errored", said)
    assert got and int(got[1]) > 100 and got[1] == got[2] and got[3] == got[4] == "0", said
