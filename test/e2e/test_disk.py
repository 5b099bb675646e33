# SPDX-License-Identifier: Apache-2.0
"""No disk space left: deploys are refused, traffic flows, history stays whole, the way back works.

The state is on a small tmpfs of its own, so these need root.
"""

import json
import os
import pathlib
import subprocess
import threading

import pytest

import apps
import faults
from upstate import wait_for

pytestmark = pytest.mark.skipif(os.geteuid() != 0, reason="mounts a small file system: needs root")

SIZE = 96 << 20
CONFIG = apps.CONFIG.replace("bake: 300ms", "bake: 100ms")


class Disk:
    """A small disk, and ballast on it."""

    def __init__(self, path):
        self.path = pathlib.Path(path)
        self.ballast = self.path / "ballast"

    def free(self):
        s = os.statvfs(self.path)
        return s.f_bavail * s.f_frsize

    def fill(self, leave=0):
        """Takes all space but `leave`; again and again until nothing more comes free."""
        with open(self.ballast, "ab") as f:
            while True:
                take = self.free() - leave
                if take <= 0:
                    break
                end = f.tell()
                try:
                    os.posix_fallocate(f.fileno(), end, take)
                except OSError:  # somebody else was faster
                    continue
                f.seek(0, os.SEEK_END)

    def empty(self):
        self.ballast.unlink(missing_ok=True)


@pytest.fixture
def disk(folder):
    path = folder / "u0" / "state"
    path.mkdir(parents=True)
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={SIZE},mode=0755", "upstate-test", path], check=True)
    yield Disk(path)
    subprocess.run(["umount", "-l", path], check=True)


@pytest.fixture
def full(disk, serve, tree):
    """Two releases were deployed; then the disk is filled."""
    u = serve(CONFIG)
    u.deploy("web", tree("one", faults.files("one")))
    u.deploy("web", tree("two", faults.files("two")))
    faults.at_rest(u)
    yield u, disk
    u.stop()  # before its disk goes


def reserve(disk):
    f = disk.path / "reserve"
    return f.stat().st_blocks * 512 if f.exists() else 0


def test_a_full_disk_refuses_deploys_and_nothing_else(full, tree):
    u, disk = full
    assert reserve(disk) == 16 << 20
    with faults.Load(u) as load:
        disk.fill()
        done = u.cli("deploy", "web", tree("three", faults.files("three", data="x" * 100000)), "--why", "a test",
                     ok=False)
        assert done.returncode == 3, (done.returncode, done.stderr)
        assert "free" in done.stderr or "space" in done.stderr or "room" in done.stderr, done.stderr
        assert u.get("/same")[0] == 200
        u.cli("hold", "web", "--why", "full")
        u.cli("resume", "web", "--why", "full")
        back = json.loads(u.cli("rollback", "web", "--why", "full", "--json").stdout)
        assert back["outcome"] == "done" and back["to"] == "web@1"
        assert u.get("/")[1].startswith("one 1 ")
        faults.check_history(u)
        kinds = [r["kind"] for r in faults.history(u)]
        assert kinds.count("hold") == 1 and kinds.count("resume") == 1
        assert reserve(disk) == 0
        disk.empty()
        wait_for(lambda: reserve(disk) == 16 << 20, "the reserve is back")
        assert u.deploy("web", tree("four", faults.files("four")))["outcome"] == "done"
        faults.clean(load.finish())
    faults.check_instances(u)
    faults.check_history(u)


def test_many_ways_back_fit_into_the_reserve(full):
    u, disk = full
    disk.fill()
    for i in range(20):
        for to in ("web@1", "web@2"):
            back = json.loads(u.cli("rollback", "web", to, "--why", "full", "--json").stdout)
            assert back["outcome"] == "done" and back["to"] == to
        u.cli("hold", "web", "--why", "full")
        u.cli("resume", "web", "--why", "full")
        disk.fill()
    assert len(faults.check_history(u)) == 42


def test_the_controller_may_die_while_the_disk_is_full(full):
    u, disk = full
    disk.fill()
    pid = u.parts()["controller"]["pid"]
    os.kill(pid, 9)
    faults.at_rest(u)
    assert u.get("/same")[0] == 200
    back = json.loads(u.cli("rollback", "web", "--why", "full", "--json").stdout)
    assert back["outcome"] == "done" and back["to"] == "web@1"
    os.kill(u.parts()["controller"]["pid"], 9)
    faults.at_rest(u)
    assert u.app("web")["current"] == "web@1"
    faults.check_instances(u)
    faults.check_history(u)


def test_a_disk_that_fills_up_during_the_upload(full, tree):
    u, disk = full
    big = tree("big", faults.files("big"))
    (big / "data").write_bytes(os.urandom(20 << 20))
    done = {}

    def deploy():
        done["d"] = u.cli("deploy", "web", big, "--why", "a test", ok=False)

    t = threading.Thread(target=deploy)
    store, before = disk.path / "store", 0
    before = disk.free()
    t.start()
    wait_for(lambda: disk.free() < before - (64 << 10) or not t.is_alive(), "it is being sent")
    disk.fill()
    t.join()
    assert done["d"].returncode == 3, (done["d"].returncode, done["d"].stdout, done["d"].stderr)
    assert u.get("/")[1].startswith("two 2 ")
    disk.empty()
    assert list((store / "tmp").iterdir()) == [] if (store / "tmp").exists() else True
    assert u.deploy("web", big)["outcome"] == "done"
    faults.check_history(u)


def test_a_disk_that_fills_up_in_mid_rollout(full, tree):
    u, disk = full
    done = {}

    def deploy():
        done["d"] = u.cli("deploy", "web", tree("three", faults.files("three", late=0.5)), "--why", "a test",
                          "--json", ok=False)

    with faults.Load(u) as load:
        t = threading.Thread(target=deploy)
        t.start()
        wait_for(lambda: u.app("web")["phase"] != "idle", "the rollout has begun")
        disk.fill()
        t.join()
        assert done["d"].returncode in (0, 4), done["d"].stderr
        faults.at_rest(u)
        faults.clean(load.finish())
    faults.check_instances(u)
    faults.check_history(u)


def test_an_abort_is_recorded_on_a_full_disk(full, tree):
    u, disk = full
    done = {}

    def deploy():
        done["d"] = u.cli("deploy", "web", tree("three", faults.files("three", late=4)), "--why", "a test",
                          "--json", ok=False)

    t = threading.Thread(target=deploy)
    t.start()
    wait_for(lambda: u.app("web")["phase"] != "idle", "the rollout has begun")
    disk.fill()
    u.cli("abort", "web", "--why", "full")
    t.join()
    assert done["d"].returncode == 4 and json.loads(done["d"].stdout)["outcome"] == "undone", done["d"].stderr
    assert u.app("web")["current"] == "web@2"
    faults.check_instances(u)
    faults.check_history(u)
