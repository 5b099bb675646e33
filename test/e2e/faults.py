"""What the tests of faults share: load that counts every failure, the processes of an app, what history must hold."""

import http.client
import json
import os
import pathlib
import queue
import subprocess
import threading

import apps
from upstate import BINARY, wait_for

BUILD = pathlib.Path(BINARY).parent
LOAD = BUILD / "bench" / "load"
KILLER = BUILD / "test" / "e2e" / "die_at_commit.so"

# /same is answered with the same text by every release, which is what `load --plain` wants to see; and fast.
SERVER = apps.SERVER.replace("self.send_response(status)", '''if self.path == "/same":
            text = b"the same"
        self.send_response(status)''')


def files(version, **settings):
    return dict(apps.files(version, **settings), **{"server.py": SERVER})


# What a call of the API may raise while the controller is being replaced.
GONE = (OSError, ValueError, http.client.HTTPException)


class Load:
    """bench/load, led through its standard input; a with statement ends it."""

    def __init__(self, u, rate=100, path="/same", *more):
        self.process = subprocess.Popen(
            [str(LOAD), "--rate", str(rate), "--plain", path, "--host", "localhost", *more, f"127.0.0.1:{u.port}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, bufsize=1)
        self.heard = queue.Queue()
        self.listener = threading.Thread(target=self.listen)
        self.listener.start()

    def __enter__(self):
        return self

    def __exit__(self, *_):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.listener.join()
        self.process.stdin.close()
        self.process.stdout.close()

    def tell(self, command):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()

    def listen(self):
        for line in self.process.stdout:
            self.heard.put(json.loads(line))

    def hear(self, event, within=60):
        while True:
            line = self.heard.get(timeout=within)
            if line["event"] == event:
                return line

    def stat(self):
        self.tell("stat")
        return self.hear("stat")

    def finish(self):
        """Ends it; what it counted in all."""
        self.tell("quit")
        return self.hear("total")


def clean(total):
    """Nothing failed, nothing was wrong, and there was something."""
    assert total["requests"] > 0 and total["failed"] == 0 and total["wrong"] == 0, \
        {k: total[k] for k in ("requests", "failed", "wrong", "classes", "failures")}


def processes(u):
    """{pid: release number} of all processes that are instances below this state directory."""
    found, mark = {}, f"UPSTATE_SOCKET={u.state}/".encode()
    for pid in filter(str.isdigit, os.listdir("/proc")):
        try:
            with open(f"/proc/{pid}/environ", "rb") as f:
                env = f.read().split(b"\0")
        except OSError:
            continue
        if any(e.startswith(mark) for e in env):
            found[int(pid)] = next((e[16:].decode() for e in env if e.startswith(b"UPSTATE_RELEASE=")), "?")
    return found


def at_rest(u, app="web", within=30):
    """The app as it is when nothing changes any more; waits out a controller that is just being replaced."""

    def look():
        try:
            a = u.app(app)
        except GONE:
            return None
        return a if a.get("phase") == "idle" and a["status"] == "good" else None

    return wait_for(look, f"{app} is at rest", within)


def history(u):
    """All records of history, in order."""
    out, after = [], 0
    while True:
        some = u.api("GET", f"/v1/history?after={after}&limit=1000")[1]["records"]
        some = [r for r in some if r["seq"] > after]
        if not some:
            return out
        out += some
        after = out[-1]["seq"]


def check_history(u):
    """The chain verifies, numbers have no gap, each change that began ended once. Returns {change: its end}."""
    records = history(u)
    assert u.api("GET", "/v1/history/verify")[1]["records"] == len(records)
    assert [r["seq"] for r in records] == list(range(1, len(records) + 1))
    began = {r["data"]["change"] for r in records if r["kind"] in ("change.accepted", "change.begin")}
    ends = {}
    for r in records:
        if r["kind"] == "change.end":
            assert r["data"]["change"] not in ends, f"change {r['data']['change']} ended twice"
            ends[r["data"]["change"]] = r["data"]
    assert not began - set(ends), f"changes {began - set(ends)} began and did not end"
    return ends


def check_instances(u, count=2, app="web"):
    """Exactly `count` processes run, all of the release in force."""
    current = u.app(app)["current"].split("@")[1]

    def right():
        return sorted(processes(u).values()) == [current] * count

    wait_for(right, f"{count} processes of release {current} run; there are {processes(u)}", 15)
