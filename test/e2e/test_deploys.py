# SPDX-License-Identifier: Apache-2.0
"""Deploy after deploy under load, while the controller is killed at random: nobody notices.

A short run always; with --full, 100 completed deploys within 5 minutes.
"""

import json
import os
import random
import signal
import threading
import time

import apps
import faults

CONFIG = apps.CONFIG


class Killer:
    """Kills the controller again and again, at random moments, until stopped."""

    def __init__(self, u, seed, between):
        self.u, self.random, self.between = u, random.Random(seed), between
        self.kills, self.over = 0, threading.Event()
        self.thread = threading.Thread(target=self.run)

    def run(self):
        while not self.over.wait(self.random.uniform(*self.between)):
            try:
                os.kill(self.u.parts()["controller"]["pid"], signal.SIGKILL)
                self.kills += 1
            except faults.GONE:
                pass

    def __enter__(self):
        self.thread.start()
        return self

    def __exit__(self, *_):
        self.over.set()
        self.thread.join()


def test_deploys_under_load_while_the_controller_is_killed(serve, tree, request):
    full = request.config.getoption("--full")
    count, seconds, rate = (100, 300, 300) if full else (8, 60, 150)
    seed = int(os.environ.get("SEED") or random.SystemRandom().randrange(1 << 32))
    print(f"seed {seed} (again with SEED={seed})")
    u = serve(CONFIG)
    root = tree("app", faults.files("0"))
    u.deploy("web", root)
    done, slowest = 0, 0
    began = time.monotonic()
    with faults.Load(u, rate) as load, Killer(u, seed, (0.3, 2)) as killer:
        while done < count:
            assert time.monotonic() - began < seconds, f"only {done} deploys in {seconds} s"
            (root / "VERSION").write_text(str(done + 1))
            start = time.monotonic()
            end = u.cli("deploy", "web", root, "--why", f"deploy {done + 1}", "--json", ok=False)
            assert end.returncode == 0, (done, end.returncode, end.stdout, end.stderr, u.log.read_text()[-3000:])
            receipt = json.loads(end.stdout)
            assert receipt["outcome"] == "done" and receipt["failed"] == 0, receipt
            slowest = max(slowest, time.monotonic() - start)
            done += 1
        took = time.monotonic() - began
        total = load.finish()
    faults.at_rest(u)
    print(f"{done} deploys in {took:.1f} s (the slowest {slowest:.1f} s), the controller killed {killer.kills} times; "
          f"{total['requests']} requests, {total['failed']} failed, {total['wrong']} wrong, p99 {total['p99_ms']:.1f} ms, "
          f"longest {total['longest_ms']:.0f} ms")
    faults.clean(total)
    assert killer.kills >= (20 if full else 2)
    faults.check_instances(u)
    ends = faults.check_history(u)
    assert [e["why"] for e in ends.values()][1:] == [f"deploy {i + 1}" for i in range(count)]
    assert all(e["outcome"] == "done" for e in ends.values())
    assert u.get("/")[1].startswith(f"{count} ")
