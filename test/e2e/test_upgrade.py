# SPDX-License-Identifier: Apache-2.0
"""Upstate becomes another program while it serves: nobody notices; and a program that is no good
leaves the one that is there."""

import json
import os
import pathlib
import re
import shutil
import signal
import subprocess

import pytest

import apps
import faults
import raw
import test_replace
import upstate
from upstate import wait_for

CONFIG = test_replace.CONFIG.replace("drain:", "instances: 2\n    drain:")
BINARY = pathlib.Path(upstate.BINARY).resolve()
STATE_FORMAT = re.search(r"SCHEMA_VERSION (\d+)",
                         (pathlib.Path(__file__).parents[2] / "src/state/state.c").read_text())[1]
FAULT = faults.BUILD / "test" / "e2e" / "fail_at_resume.so"

# Passes what it is asked to by its name in argv[1]; $WHAT says how it behaves there.
FAKE = r'''
#include <stdio.h>
#include <string.h>
#include <unistd.h>
int main(int argc, char **argv)
{
	if (argc > 1 && !strcmp(argv[1], "_trial"))
		%s
	fputs("upstate: this one reads another format\n", stderr);
	return 3;
}
'''


@pytest.fixture
def running(serve, tree, folder):
    """Upstate from a program of its own, with two instances; the path of the program."""
    program = shutil.copy(BINARY, folder / "upstate")
    made = []

    def start(**more):
        old, upstate.BINARY = upstate.BINARY, str(program)
        try:
            u = serve(CONFIG, **more)
            u.deploy("book", tree("one", {"server": apps.SERVER, "VERSION": "one"}))
        finally:
            upstate.BINARY = old
        made.append(u)
        return u, pathlib.Path(program)

    return start


def replace_file(program, extra=b""):
    """Another program where the running one came from, as a package manager does it."""
    new = program.with_suffix(".new")
    new.write_bytes(BINARY.read_bytes() + extra)
    new.chmod(0o755)
    new.rename(program)


def pids(u):
    return u.process.pid, [i["pid"] for i in u.app("book")["instances"]]


def settle(u):
    wait_for(lambda: not [p for p in u.parts() if "(" in p], "the router before ended")


def upgrades(u):
    return [r["data"] for r in u.api("GET", "/v1/history?limit=1000")[1]["records"] if r["kind"] == "upgrade"]


def still_serves(u, before, c):
    """Nothing has changed: the same processes, the same connection."""
    assert pids(u) == before and raw.ask(c)[0] == 200
    assert all(p["status"] == "good" for p in u.parts().values())


def test_twenty_upgrades_and_nobody_notices(running):
    u, program = running()
    before, load = pids(u), raw.loads(u)
    idle = [raw.connect(u) for _ in range(20)]
    for c in idle:
        assert raw.ask(c)[0] == 200
    for n in range(20):
        done = [x.done for x in load]
        replace_file(program, b"%d" % n)
        said = u.cli("upgrade", "--why", f"number {n}").stdout
        assert "tried: " in said and "done: " in said
        wait_for(lambda: all(x.done > d or x.failed for x, d in zip(load, done)), "load goes on")
        settle(u)
        for c in idle:
            assert raw.ask(c, body="still")[0] == 200
        assert pids(u) == before
    assert [x.end() for x in load] == [[]] * 4 and [x.closed for x in load] == [0] * 4
    receipt = u.app("book")["receipt"]
    assert receipt["failed"] == 0 and receipt["requests"] == receipt["answered"]
    told = upgrades(u)
    assert [(r["outcome"], r["why"], bool(r["who"])) for r in told] == [("done", f"number {n}", True) for n in range(20)]
    assert [r["from"]["hash"] for r in told[1:]] == [r["to"]["hash"] for r in told[:-1]]
    assert len({r["to"]["hash"] for r in told}) == 20
    exe = os.readlink(f"/proc/{u.process.pid}/exe")
    assert exe == str(program)
    assert "number 19" in u.cli("history").stdout


def test_what_runs_is_watched_and_heard_afterwards(running):
    u, program = running()
    keeper, instances = pids(u)
    u.cli("upgrade")
    settle(u)
    for path in ("/said-after-it", "/said-again"):  # both instances
        for _ in range(4):
            assert u.get(path)[0] == 200
    wait_for(lambda: "said-after-it" in u.cli("logs", "book").stdout, "output is logged")
    for pid in instances:
        os.kill(pid, signal.SIGKILL)
    wait_for(lambda: all(i["pid"] not in instances and i["status"] == "good" for i in u.app("book")["instances"]),
             "they run again")
    assert u.process.poll() is None
    u.deploy("book", u.folder.parent / "one", why="works as before")
    assert u.cli("verify").returncode == 0
    os.kill(keeper, signal.SIGTERM)
    assert u.process.wait(20) == 0


def test_an_instance_that_ends_during_the_upgrade_is_not_missed(running):
    u, program = running()
    for n in range(3):
        pid = u.app("book")["instances"][0]["pid"]
        order = subprocess.Popen([BINARY, "upgrade"], env=dict(u.env, UPSTATE_STATE=str(u.state)),
                                 stdout=subprocess.DEVNULL)
        wait_for(lambda: u.log.read_text().count("step=exec") > n, "it goes on")
        os.kill(pid, signal.SIGKILL)
        assert order.wait(60) == 0
        wait_for(lambda: all(i["pid"] not in (0, pid) and i["status"] == "good"
                             for i in u.app("book")["instances"]), "it runs again")
        settle(u)


def test_held_requests_are_answered_after_an_upgrade(running):
    u, program = running()
    u.cli("hold", "book", "--why", "a test")
    conns = [raw.connect(u) for _ in range(20)]
    for i, c in enumerate(conns):
        c.send(f"POST /{i} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nb{i:02}")
    wait_for(lambda: u.app("book")["waiting"] == 20, "they wait")
    u.cli("upgrade")
    settle(u)
    u.cli("resume", "book")
    for i, c in enumerate(conns):
        status, fields, body = c.answer()
        assert status == 200 and f"b{i:02}" in body.decode()
    assert u.app("book")["receipt"]["failed"] == 0


def compile_fake(folder, statement):
    source, program = folder / "fake.c", folder / "fake"
    source.write_text(FAKE % statement)
    subprocess.run(["cc", "-o", program, source], check=True)
    return program


def lacks_a_library(folder):
    program = folder / "lacks"
    data = BINARY.read_bytes()
    assert b"libjansson.so.4" in data
    program.write_bytes(data.replace(b"libjansson.so.4", b"libjansson.so.9"))
    program.chmod(0o755)
    return program


@pytest.mark.parametrize("make, words", [
    (lacks_a_library, "libjansson.so.9"),
    (lambda f: compile_fake(f, "return 1;"), "says nothing"),
    (lambda f: compile_fake(f, "return *(volatile int *)0;"), "killed by signal 11"),
    (lambda f: compile_fake(f, 'return puts("{\\"version\\": \\"9\\", \\"state\\": 99}") < 0;'),
     "state in format 99"),
    (lambda f: compile_fake(f, 'return puts("{\\"version\\": \\"9\\", \\"state\\": %s}") < 0;' % STATE_FORMAT),
     "this one reads another format"),
    (lambda f: compile_fake(f, "for (;;) pause();"), "does not answer"),
    (lambda f: shutil.copy("/usr/bin/yes", f / "yes"), "does not answer"),
    (lambda f: shutil.copy(__file__, f / "text"), "cannot be run"),
], ids=["library", "exit", "crash", "state", "keeper", "hang", "flood", "text"])
def test_a_program_that_is_no_good_is_refused_and_nothing_has_changed(running, folder, make, words):
    u, program = running()
    before, c, load = pids(u), raw.connect(u), raw.loads(u)
    assert raw.ask(c)[0] == 200
    parts = {n: p["pid"] for n, p in u.parts().items()}
    bad = make(folder)
    refused = u.cli("upgrade", bad, "--why", "let us see", ok=False)
    assert refused.returncode == 3, (refused.returncode, refused.stdout, refused.stderr)
    assert words in refused.stderr + refused.stdout
    still_serves(u, before, c)
    assert {n: p["pid"] for n, p in u.parts().items()} == parts
    assert [x.end() for x in load] == [[]] * 4
    assert upgrades(u)[-1]["outcome"] == "refused" and words in upgrades(u)[-1]["reason"]
    assert not (u.state / "trial").exists()
    u.cli("upgrade")
    settle(u)
    still_serves(u, before, c)


@pytest.mark.parametrize("fault, words", [
    ("crash", "crashed while it took over"), ("hang", "did not take over in time"), ("fail", "Too many open files"),
    ("logger", "the new logger"), ("controller", "the new controller"), ("router", "the next router"),
])
def test_a_program_that_fails_while_it_takes_over_is_undone(running, folder, fault, words):
    file = folder / "fault"
    folder.chmod(0o777)  # the router is another user: it removes the file, and may not look where this was built
    fault_so = shutil.copy(FAULT, folder)
    u, program = running(env={"LD_PRELOAD": str(fault_so), "UPSTATE_TEST_FAULT_FILE": str(file),
                              "ASAN_OPTIONS": "verify_asan_link_order=0"})
    before, c, load = pids(u), raw.connect(u), raw.loads(u)
    assert raw.ask(c)[0] == 200
    replace_file(program, b"another")
    old = os.readlink(f"/proc/{u.process.pid}/exe")
    assert old.endswith(" (deleted)")
    # The controller's own trial must pass: the fault comes when it is over.
    order = subprocess.Popen([BINARY, "upgrade"], env=dict(os.environ, UPSTATE_STATE=str(u.state)),
                             stdout=subprocess.PIPE, text=True)
    if fault == "controller":
        wait_for(lambda: (u.state / "trial").exists() or order.poll() is not None, "it is tried")
        wait_for(lambda: not (u.state / "trial").exists() or order.poll() is not None, "it was tried")
    file.write_text(fault)
    said = order.communicate(timeout=120)[0]
    assert order.returncode == 4 and words in said, (order.returncode, said)
    assert not file.exists()
    wait_for(u.is_ready, "all parts serve")
    settle(u)
    assert os.readlink(f"/proc/{u.process.pid}/exe") == old
    still_serves(u, before, c)
    assert [x.end() for x in load] == [[]] * 4
    assert upgrades(u)[-1]["outcome"] == "undone"
    u.cli("upgrade")
    settle(u)
    assert os.readlink(f"/proc/{u.process.pid}/exe") == str(program)
    still_serves(u, before, c)


def test_only_one_at_a_time_and_not_while_a_router_leaves(running):
    u, program = running()
    both = [subprocess.Popen([BINARY, "upgrade"], env=dict(u.env, UPSTATE_STATE=str(u.state)),
                             stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for _ in range(2)]
    said = [p.communicate(timeout=120)[0] for p in both]
    assert sorted(p.returncode for p in both) == [0, 3], said
    settle(u)


def test_who_may_only_order_cannot_name_a_program(running):
    u, program = running()
    import http.client
    token = (u.state / "token").read_text()
    c = http.client.HTTPConnection("127.0.0.1", u.admin, timeout=20)
    c.request("POST", "/v1/upgrade", json.dumps({"path": "/bin/true"}), {"Authorization": f"Bearer {token}"})
    answer = c.getresponse()
    assert answer.status == 403 and "may name a program" in answer.read().decode()
    c.close()
    assert upgrades(u) == []
