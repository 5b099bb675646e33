# SPDX-License-Identifier: Apache-2.0
"""build/bench/load, led by a test: an open-loop client that judges every answer it gets."""

import contextlib
import json
import os
import pathlib
import queue
import subprocess
import threading

from upstate import ROOT, wait_for

LOAD = pathlib.Path(os.environ.get("UPSTATE_BUILD", ROOT / "build")) / "bench" / "load"


class Load:
    """GETs of one path, `rate` a second whatever becomes of those before; all answers must be equal."""

    def __init__(self, port, path="/", rate=100, host="localhost", fresh=20):
        self.rate = rate
        self.process = subprocess.Popen(
            [LOAD, "--rate", str(rate), "--plain", path, "--host", host, "--fresh", str(fresh), f"127.0.0.1:{port}"],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said = queue.Queue()
        threading.Thread(target=self.listen, daemon=True).start()
        self.hear("ready")

    def listen(self):
        for line in self.process.stdout:
            self.said.put(json.loads(line))
        self.said.put({"event": None})

    def hear(self, event, within=60):
        while True:
            heard = self.said.get(timeout=within)
            if heard["event"] == event:
                return heard
            assert heard["event"] not in (None, "error"), heard

    def tell(self, command, event, within=60):
        self.process.stdin.write(command + "\n")
        self.process.stdin.flush()
        return self.hear(event, within)

    @contextlib.contextmanager
    def step(self, name):
        """What is seen while the body goes on stands in the dict it yields, once the body is left."""
        self.tell(f"mark {name}", "mark")
        seen = {}
        yield seen
        seen.update(self.tell("end", "step"))

    def kill(self, pid):
        """SIGKILL, with what is in flight noted at that very moment."""
        return self.tell(f"fault instance-killed {pid}", "fault")

    def more(self, count):
        """Waits until so many more requests came to their end."""
        before = self.tell("stat", "stat")["requests"]
        wait_for(lambda: self.tell("stat", "stat")["requests"] >= before + count, f"{count} more requests", 60)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()
        self.process.stdin.close()


@contextlib.contextmanager
def load(*args, **more):
    client = Load(*args, **more)
    try:
        yield client
    finally:
        client.stop()


def assert_no_failure(seen, at_least=1):
    assert seen["requests"] >= at_least, seen
    assert seen["failed"] == 0 and seen["wrong"] == 0, seen["failures"]


def assert_agree(seen, receipt, rate):
    """The client and the receipt of a change tell the same story.

    They do not begin at the same instant, and the change is shorter than the command: so as many requests as
    were due in the time that the receipt names, give or take a few.
    """
    assert receipt["failed"] == seen["failed"], (receipt, seen["failures"])
    due = rate * receipt["ms"] / 1000
    assert abs(receipt["requests"] - due) <= max(25, 0.1 * due), (receipt["requests"], due)
    assert receipt["requests"] <= seen["requests"] + 5
