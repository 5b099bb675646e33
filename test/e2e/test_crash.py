# SPDX-License-Identifier: Apache-2.0
"""Crash is a normal event: each of the processes dies or hangs at the worst moments, under load."""

import json
import os
import signal
import threading
import time

import pytest

import apps
import faults
from upstate import wait_for

CONFIG = apps.CONFIG.replace("bake: 300ms", "bake: 100ms")


@pytest.fixture
def armed(serve, folder):
    """An Upstate whose controller dies at a commit, and arm(n, when) for that."""
    fuse = folder / "fuse"

    def arm(n, when="after"):
        new = folder / "fuse.new"
        new.write_text(f"{n:<8} {when}\n")
        new.rename(fuse)

    u = serve(CONFIG, env={"LD_PRELOAD": str(faults.KILLER), "UPSTATE_TEST_DIE_FILE": str(fuse),
                           "ASAN_OPTIONS": "verify_asan_link_order=0"})
    return u, arm, fuse


def order(u, *words):
    """A verb that begins a change; its receipt."""
    done = u.cli(*words, "--why", "a test", "--json", ok=False)
    assert done.returncode in (0, 4), (words, done.returncode, done.stderr, u.log.read_text()[-3000:])
    return json.loads(done.stdout)


def starts(u):
    """How often a controller was started; it may be dying just now."""

    def look():
        try:
            return u.parts()["controller"]["starts"]
        except faults.GONE:
            return None

    return wait_for(look, "the controller answers")


def die_at_each_commit(u, arm, fuse, change, expect, full):
    """Runs change(n) with the controller dying at its n-th commit, n = 1, 2, ... until it lives through it; then
    expect(receipt, n) looks at the end state. Right after and right before the commit: in turns, or each at
    every n when it is `full`. Returns how often it died."""
    died = 0
    for sweep in (("after",), ("before",)) if full else (("after", "before"),):
        for n in range(1, 200):
            arm(n, sweep[(n - 1) % len(sweep)])
            before = starts(u)
            receipt = change(n)
            faults.at_rest(u)
            lived = fuse.exists()
            fuse.unlink(missing_ok=True)
            if not lived:
                died += 1
                wait_for(lambda: starts(u) > before, "a new controller")
            expect(receipt, n)
            faults.check_instances(u)
            faults.check_history(u)
            if lived:
                break
    return died


class Changes:
    """The kinds of change that the controller dies in: how it is ordered, and what must hold afterwards."""

    def __init__(self, u, tree):
        self.u = u
        self.trees = {f"web@{i}": tree(v, faults.files(v)) for i, v in ((1, "one"), (2, "two"))}
        self.bad = tree("bad", faults.files("bad"))
        for root in self.trees.values():
            u.deploy("web", root)
        self.before = self.wanted = None

    def look(self):
        self.before = faults.at_rest(self.u)["current"]
        self.wanted = {"web@1": "web@2", "web@2": "web@1"}.get(self.before)

    def deploy(self, n):
        self.look()
        return order(self.u, "deploy", "web", self.trees[self.wanted])

    def rollback(self, n):
        self.look()
        return order(self.u, "rollback", "web", self.wanted)

    def undone(self, n):
        self.look()
        self.wanted = self.before
        (self.bad / "sick").write_text("1")
        (self.bad / "VERSION").write_text(f"sick {n}")
        return order(self.u, "deploy", "web", self.bad)

    def aborted(self, n):
        self.look()
        self.wanted = self.before
        (self.bad / "late").write_text("20")
        (self.bad / "VERSION").write_text(f"late {n}")
        ended = begin(self.u, "deploy", "web", self.bad)

        def look():
            try:
                return self.u.app("web")["change"]
            except faults.GONE:
                return None

        wait_for(look, "the deploy has begun")
        self.u.cli("abort", "web", "--why", "a test")
        return json.loads(ended().stdout)

    def settings(self, n):
        self.look()
        self.wanted = self.before
        self.color = f"{n}-{time.monotonic_ns()}"
        self.u.configure(CONFIG.replace("bake: 100ms", f"bake: 100ms\n    env: {{ COLOR: '{self.color}' }}"))
        self.u.cli("reload")

        def all_new():
            try:
                envs = [open(f"/proc/{p}/environ").read() for p in faults.processes(self.u)]
            except OSError:
                return False
            return len(envs) == 2 and all(f"COLOR={self.color}" in e for e in envs)

        wait_for(all_new, "the new settings are rolled out", 30)


@pytest.mark.parametrize("kind", ["deploy", "rollback", "undone", "aborted", "settings", "mixed"])
def test_the_controller_may_die_at_every_commit(armed, tree, kind, request):
    full = request.config.getoption("--full")
    if kind in ("aborted", "settings", "mixed") and not full:
        pytest.skip("only with --full")
    u, arm, fuse = armed
    changes = Changes(u, tree)
    if kind == "undone":
        u.configure(CONFIG.replace("within: 5s", "within: 700ms"))
    if kind == "mixed":
        u.configure(CONFIG.replace("bake: 100ms", "bake: 100ms\n    mixed: never"))
    u.cli("reload")

    def expect(receipt, n):
        outcome = {"undone": "undone", "aborted": "undone"}.get(kind, "done")
        assert faults.at_rest(u)["current"] == changes.wanted
        assert receipt is None or receipt["outcome"] == outcome, (n, receipt)
        # What was held has been answered when a change ends: it is in the receipt.
        assert receipt is None or receipt["requests"] - receipt["answered"] < 20, (n, receipt)

    with faults.Load(u) as load:
        died = die_at_each_commit(u, arm, fuse, changes.deploy if kind == "mixed" else getattr(changes, kind),
                                  expect, full)
        total = load.finish()
    print(f"{kind}: died at {died} commits; {total['requests']} requests, {total['failed']} failed, "
          f"longest {total['longest_ms']:.0f} ms")
    assert died >= (10 if full else 5)
    faults.clean(total)


def current_pid(u, part):
    return u.parts()[part]["pid"]


def is_alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")")[1].split()[0] not in "ZX"
    except OSError:
        return False


def new_pid(u, part, old):
    def look():
        try:
            p = u.parts()[part]
        except faults.GONE:
            return None
        return p["pid"] if p["pid"] not in (0, old) and p["status"] == "good" else None

    return wait_for(look, f"a new {part}", 30)


def begin(u, *words):
    """A verb in the background; join() gives how it ended."""
    result = {}

    def run():
        result["done"] = u.cli(*words, "--why", "a test", "--json", ok=False)

    t = threading.Thread(target=run)
    t.start()

    def join():
        t.join()
        return result["done"]

    return join


def test_the_controller_stopped_for_a_moment_goes_on(serve, tree):
    u = serve(CONFIG)
    u.deploy("web", tree("one", faults.files("one")))
    with faults.Load(u) as load:
        ended = begin(u, "deploy", "web", tree("two", faults.files("two", late=0.5)))
        wait_for(lambda: u.app("web")["phase"] != "idle", "the rollout has begun")
        pid = current_pid(u, "controller")
        os.kill(pid, signal.SIGSTOP)
        seen = load.stat()["requests"]
        wait_for(lambda: load.stat()["requests"] > seen + 150, "traffic flows")
        os.kill(pid, signal.SIGCONT)
        done = ended()
        assert done.returncode == 0 and json.loads(done.stdout)["outcome"] == "done", done.stderr
        assert current_pid(u, "controller") == pid
        faults.clean(load.finish())
    faults.check_instances(u)
    faults.check_history(u)


def test_a_controller_that_hangs_is_killed_and_the_next_goes_on(serve, tree):
    u = serve(CONFIG)
    u.deploy("web", tree("one", faults.files("one")))
    with faults.Load(u) as load:
        ended = begin(u, "deploy", "web", tree("two", faults.files("two", late=0.5)))
        wait_for(lambda: u.app("web")["phase"] != "idle", "the rollout has begun")
        pid = current_pid(u, "controller")
        os.kill(pid, signal.SIGSTOP)
        done = ended()
        assert done.returncode == 0 and json.loads(done.stdout)["outcome"] == "done", done.stderr
        part = u.parts()["controller"]
        assert part["pid"] != pid and part["starts"] == 2
        faults.at_rest(u)
        faults.clean(load.finish())
    faults.check_instances(u)
    faults.check_history(u)


def test_a_killed_router_loses_only_what_is_inside(serve, tree):
    u = serve(CONFIG)
    u.deploy("web", tree("one", faults.files("one")))
    took = []
    with faults.Load(u, 200) as load:
        for _ in range(5):
            seen = load.stat()["requests"]  # over 1 s from here on, so that no start is put off
            wait_for(lambda: load.stat()["requests"] > seen + 250, "traffic flows")
            pid = current_pid(u, "router")
            load.tell(f"fault router-killed {pid} KILL")
            began = time.monotonic()
            wait_for(lambda: not is_alive(pid), "it is dead")
            assert u.get("/same")[0] == 200  # a new connection waits in the listening socket
            took.append((time.monotonic() - began) * 1000)
            new_pid(u, "router", pid)
        total = load.finish()
    print(f"a router killed: the first answer after {', '.join(f'{ms:.0f}' for ms in took)} ms; "
          f"{total['failed']} of {total['requests']} failed, {total['permitted']} were inside; "
          f"longest {total['longest_ms']:.0f} ms")
    assert total["not_permitted"] == 0 and total["wrong"] == 0, (total["classes"], total["failures"])
    assert max(took) < 1000
    assert u.app("web")["status"] == "good"


def test_requests_lost_with_a_router_are_in_the_receipt(serve, tree):
    u = serve(CONFIG)
    u.deploy("web", tree("one", faults.files("one", slow=1)))
    u.configure(CONFIG.replace("bake: 100ms", "bake: 3s"))
    u.cli("reload")
    ended = begin(u, "deploy", "web", tree("two", faults.files("two", slow=1)))
    wait_for(lambda: u.app("web")["phase"] == "bake", "it bakes")
    answers = []

    def ask():
        try:
            answers.append(u.get("/")[0])
        except faults.GONE:
            answers.append("lost")

    threads = [threading.Thread(target=ask) for _ in range(6)]
    for t in threads:
        t.start()
    wait_for(lambda: sum(i["inside"] for i in u.app("web")["instances"]) == 6, "six are inside")
    os.kill(current_pid(u, "router"), signal.SIGKILL)
    for t in threads:
        t.join()
    receipt = json.loads(ended().stdout)
    assert answers == ["lost"] * 6
    assert receipt["failed"] == 6, receipt
    assert u.get("/")[0] == 200


def test_a_killed_logger_blocks_nobody_and_output_goes_on(serve, tree):
    u = serve(CONFIG)
    u.deploy("web", tree("one", faults.files("one")))
    with faults.Load(u) as load:
        for i in range(3):
            pid = current_pid(u, "logger")
            os.kill(pid, signal.SIGKILL)
            new_pid(u, "logger", pid)
            u.get(f"/said-after-{i}")
            wait_for(lambda: f"/said-after-{i}" in u.cli("logs", "web").stdout, "its words are in the log")
        faults.clean(load.finish())


def test_everything_ends_with_the_keeper_and_begins_again(serve, tree):
    u = serve(CONFIG)
    u.deploy("web", tree("one", faults.files("one")))
    u.deploy("web", tree("two", faults.files("two")))
    pids = [p["pid"] for p in u.parts().values()] + list(faults.processes(u))
    u.process.kill()
    u.process.wait()
    wait_for(lambda: not any(map(is_alive, pids)), "nothing of it is left")
    u.start()
    faults.at_rest(u)
    assert u.app("web")["current"] == "web@2" and u.get("/")[1].startswith("two 2 ")
    faults.check_instances(u)
    faults.check_history(u)


def test_the_keeper_killed_in_mid_rollout_leaves_the_old_release(serve, tree):
    u = serve(CONFIG)
    u.deploy("web", tree("one", faults.files("one")))
    ended = begin(u, "deploy", "web", tree("two", faults.files("two", late=2)))
    wait_for(lambda: u.app("web")["phase"] != "idle", "the rollout has begun")
    u.process.kill()
    u.process.wait()
    u.start()
    faults.at_rest(u)
    assert u.app("web")["current"] == "web@1" and u.get("/")[1].startswith("one 1 ")
    faults.check_instances(u)
    assert [e["outcome"] for e in faults.check_history(u).values()] == ["done", "undone"]
    done = ended()
    assert done.returncode == 4, (done.returncode, done.stdout, done.stderr)
