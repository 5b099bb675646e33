# SPDX-License-Identifier: Apache-2.0
"""The command line as a client: a small server on a unix socket gives canned answers and keeps what it
was asked; looked at are the requests, what is printed, and the exit status."""
import hashlib
import http.server
import json
import os
import re
import shutil
import signal
import socket
import socketserver
import subprocess
import tempfile
import threading

import pytest

UPSTATE = os.path.abspath(os.environ.get("UPSTATE", "build/upstate"))
ROOT = os.geteuid() == 0
DONE = {
    "change": 7, "app": "shop", "kind": "deploy", "from": "shop@1", "to": "shop@2",
    "outcome": "done", "reason": "", "who": "ann", "when": "2026-11-22T01:00:00.000Z", "why": "w",
    "steps": [{"name": "shop@2/1 is ready", "at": "2026-11-22T01:00:00.400Z", "ms": 400},
              {"name": "shop@2/1 serves", "at": "2026-11-22T01:00:02.400Z", "ms": 2400}],
    "requests": 1532, "answered": 1532, "failed": 0, "held": 3, "retried": 1, "slowed": 0,
    "p50_ms": 1.9, "p99_ms": 8.0, "longest_ms": 200,
}
RECEIPT = ("shop@2 done in 2.4 s: 1,532 requests, 0 failed, 3 held (longest 200 ms), 1 retried, "
           "p50 1.9 ms, p99 8 ms\n")
STEPS = "   400 ms  shop@2/1 is ready\n    2.4 s  shop@2/1 serves\n"


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def handle_any(self):
        length = int(self.headers.get("Content-Length") or 0)
        body = self.rfile.read(length)
        self.server.asked.append((self.command, self.path, body))
        answer = self.server.answers.get((self.command, self.path.split("?")[0]))
        if callable(answer):
            answer = answer(self, body)
        if answer is not None:
            self.answer(*answer)

    do_GET = do_POST = do_PUT = handle_any

    def answer(self, status, body):
        data = body if isinstance(body, bytes) else json.dumps(body).encode()
        self.send_response(status)
        self.send_header("Content-Length", str(len(data)))
        self.end_headers()
        self.wfile.write(data)

    def lines(self, lines, end=True):
        """A chunked answer; without an end the connection is cut."""
        self.send_response(200)
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        for line in lines:
            data = json.dumps(line).encode() + b"\n"
            self.wfile.write(b"%x\r\n%s\r\n" % (len(data), data))
        self.wfile.flush()
        if end:
            self.wfile.write(b"0\r\n\r\n")
        else:
            self.close_connection = True

    def address_string(self):
        return "client"

    def log_message(self, *args):
        pass


class Server(socketserver.ThreadingMixIn, socketserver.UnixStreamServer):
    daemon_threads = True

    def handle_error(self, request, client_address):
        pass  # a client that left is what some tests are about


class World:
    def __init__(self, folder):
        self.dir = folder
        self.env = {k: v for k, v in os.environ.items() if k not in ("UPSTATE_STATE", "NO_COLOR")}

    def serve(self):
        self.server = Server(os.path.join(self.dir, "control.sock"), Handler)
        self.server.answers, self.server.asked = {}, []
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))
        self.thread.start()

    def on(self, method, path, status, body=None):
        self.server.answers[(method, path)] = status if callable(status) else (status, body)

    def run(self, *words, **options):
        return subprocess.run([UPSTATE, *words, "--state", self.dir], stdin=subprocess.DEVNULL,
                              capture_output=True, text=True, timeout=60, cwd=self.dir, env=self.env,
                              **options)

    def asked(self, method, path):
        return [b for m, p, b in self.server.asked if m == method and p.split("?")[0] == path]


@pytest.fixture
def world():
    folder = tempfile.mkdtemp(prefix="upstate-cli-")
    w = World(folder)
    w.serve()
    yield w
    w.server.shutdown()
    w.thread.join()
    w.server.server_close()
    shutil.rmtree(folder)


def tree(folder, files):
    for name, content in files.items():
        path = os.path.join(folder, name)
        os.makedirs(os.path.dirname(path), exist_ok=True)
        with open(path, "wb") as f:
            f.write(content)
    return folder


def sha(data):
    return hashlib.sha256(data).hexdigest()


def refused(code, message, exit_status):
    return {"error": {"code": code, "message": message, "exit": exit_status}}


def accept_deploys(w, missing, change=None):
    w.on("GET", "/v1/apps/shop", 200, {"name": "shop"})
    w.on("POST", "/v1/apps/shop/missing", 200, {"release": "x", "files": 1, "missing": missing, "bytes": 9})
    w.on("PUT", "/v1/objects", 200, {"objects": len(missing)})
    w.on("POST", "/v1/apps/shop/deploy", 202, {"change": 7})
    end = change or DONE
    w.on("GET", "/v1/changes/7", lambda h, b: h.lines(end["steps"] + [end]))


# --- deploy ---

def test_deploy_sends_what_is_lacking_and_ends_with_the_receipt(world):
    big = os.urandom(3 << 20)
    folder = tree(world.dir + "/app", {"a.txt": b"hello", "big": big, "sub/c": b"here already", "empty": b""})
    os.chmod(folder + "/a.txt", 0o755)
    accept_deploys(world, [sha(b"hello"), sha(big), sha(b"")])
    r = world.run("deploy", "shop", folder, "--why", "first")
    assert r.stderr == "" and r.returncode == 0
    assert r.stdout.endswith(STEPS + RECEIPT)
    manifest = world.asked("POST", "/v1/apps/shop/missing")[0]
    assert manifest.startswith(b"upstate-manifest 1\n")
    sent = {}
    body = world.asked("PUT", "/v1/objects")[0]
    while body:
        header, body = body.split(b"\n", 1)
        name, size, x = header.decode().split(" ")
        sent[name + x], body = body[:int(size)], body[int(size):]
    assert sent == {sha(b"hello") + "x": b"hello", sha(big) + "-": big, sha(b"") + "-": b""}
    order = json.loads(world.asked("POST", "/v1/apps/shop/deploy")[0])
    assert len(order.pop("key")) == 32  # of this order: sent again, it would be carried out once
    assert order == {"why": "first", "release": sha(manifest), "source": folder}


def test_deploy_of_a_known_tree_sends_nothing(world):
    accept_deploys(world, [])
    r = world.run("deploy", "shop", tree(world.dir + "/app", {"a": b"1"}), "--why", "again")
    assert r.returncode == 0
    assert world.asked("PUT", "/v1/objects") == []


def test_deploy_as_json_is_the_change_alone(world):
    accept_deploys(world, [])
    folder = tree(world.dir + "/app", {"a": b"1"})
    r = world.run("deploy", "shop", folder, "--why", "x", "--json")
    assert json.loads(r.stdout) == DONE
    r = world.run("deploy", "shop", folder, "--why", "x", "--json", "--detach")
    assert json.loads(r.stdout) == {"change": 7}


def test_a_deploy_that_is_undone_ends_with_4(world):
    accept_deploys(world, [], {**DONE, "outcome": "undone", "reason": "shop@2/1 was not ready"})
    r = world.run("deploy", "shop", tree(world.dir + "/app", {"a": b"1"}), "--why", "x")
    assert r.returncode == 4
    assert "shop@2 undone in 2.4 s (shop@2/1 was not ready), shop@1 serves: " in r.stdout


def test_a_deploy_that_is_refused_ends_with_what_the_api_says(world):
    accept_deploys(world, [])
    world.on("POST", "/v1/apps/shop/deploy", 409,
             refused("REFUSED", "change 6 of ann is going on; `upstate attach 6` follows it", 3))
    r = world.run("deploy", "shop", tree(world.dir + "/app", {"a": b"1"}), "--why", "x")
    assert r.returncode == 3
    assert r.stderr == "upstate: change 6 of ann is going on; `upstate attach 6` follows it\n"


def test_a_full_disk_is_told_while_files_are_sent(world):
    accept_deploys(world, [sha(b"1")])
    world.on("PUT", "/v1/objects", 507, refused("FULL", "no room: 1 MB is free, 9 MB are needed", 3))
    r = world.run("deploy", "shop", tree(world.dir + "/app", {"a": b"1"}), "--why", "x")
    assert (r.returncode, r.stderr) == (3, "upstate: no room: 1 MB is free, 9 MB are needed\n")
    assert world.asked("POST", "/v1/apps/shop/deploy") == []


@pytest.mark.parametrize("how", ["content", "longer", "shorter", "gone", "link"])
def test_a_file_that_changes_while_it_is_read_is_named_and_nothing_deployed(world, how):
    folder = tree(world.dir + "/app", {"a": b"one", "b": b"two"})

    def change(handler, body):
        path = folder + "/b"
        if how in ("gone", "link"):
            os.unlink(path)
        if how == "link":
            os.symlink("a", path)
        elif how != "gone":
            with open(path, "wb") as f:
                f.write({"content": b"TWO", "longer": b"twofold", "shorter": b"t"}[how])
        return 200, {"release": "x", "files": 2, "missing": [sha(b"one"), sha(b"two")], "bytes": 6}

    accept_deploys(world, [])
    world.on("POST", "/v1/apps/shop/missing", change)
    # The server gets a body that ends early; it must not wait for the rest for ever.
    r = world.run("deploy", "shop", folder, "--why", "x")
    assert r.returncode == 2
    assert f"{folder}/b changed while it was read: nothing was deployed" in r.stderr
    assert world.asked("POST", "/v1/apps/shop/deploy") == []


def test_without_a_terminal_a_reason_is_needed(world):
    folder = tree(world.dir + "/app", {"a": b"1"})
    for words in (["deploy", "shop", folder], ["rollback", "shop"], ["deploy", "shop", folder, "--why", " "]):
        r = world.run(*words)
        assert r.returncode == 2
        assert "needs a reason for the history: --why" in r.stderr
    assert world.server.asked == []


def test_a_source_that_is_not_there_is_named(world):
    accept_deploys(world, [])
    r = world.run("deploy", "shop", world.dir + "/nowhere", "--why", "x")
    assert r.returncode == 2 and "/nowhere" in r.stderr
    assert world.asked("POST", "/v1/apps/shop/missing") == []


def test_an_unknown_app_is_told_before_anything_is_hashed(world):
    world.on("GET", "/v1/apps/shpo", 404, refused("NOT_FOUND", "no app 'shpo'; apps: shop", 2))
    r = world.run("deploy", "shpo", "/proc", "--why", "x")
    assert (r.returncode, r.stderr) == (2, "upstate: no app 'shpo'; apps: shop\n")


def test_on_a_terminal_progress_is_shown_and_the_reason_asked_for(world):
    accept_deploys(world, [sha(b"1")])
    folder = tree(world.dir + "/app", {"a": b"1"})
    master, slave = os.openpty()
    p = subprocess.Popen([UPSTATE, "deploy", "shop", folder, "--state", world.dir], stdin=slave, stdout=slave,
                         stderr=slave, env=world.env)
    os.close(slave)
    seen = b""
    while b"why? " not in seen:
        seen += os.read(master, 1000)
    os.write(master, b"typed by hand\n")
    try:
        while True:
            data = os.read(master, 1000)
            if not data:
                break
            seen += data
    except OSError:  # the terminal is gone: all was read
        pass
    os.close(master)
    assert p.wait(60) == 0
    assert b"100 %" in seen and b"shop@2 done in 2.4 s" in seen
    assert json.loads(world.asked("POST", "/v1/apps/shop/deploy")[0])["why"] == "typed by hand"


# --- following ---

def test_a_lost_connection_is_asked_again_and_no_step_is_told_twice(world):
    calls = []

    def follow(handler, body):
        calls.append(1)
        if len(calls) == 1:
            handler.lines([{"step": "shop@2/1 is ready", "ms": 400}], end=False)
        elif len(calls) == 2:
            handler.close_connection = True
        else:
            handler.lines(DONE["steps"] + [DONE])

    world.on("GET", "/v1/changes/7", follow)
    r = world.run("attach", "7")
    assert (r.returncode, r.stdout, r.stderr) == (0, STEPS + RECEIPT, "")
    assert len(calls) == 3


def test_an_interrupt_leaves_the_change_and_says_how_to_come_back(world):
    there, leave = threading.Event(), threading.Event()

    def follow(handler, body):
        handler.lines(DONE["steps"][:1], end=False)
        there.set()
        leave.wait(60)

    world.on("GET", "/v1/changes/7", follow)
    p = subprocess.Popen([UPSTATE, "attach", "7", "--state", world.dir], stdout=subprocess.PIPE,
                         stderr=subprocess.PIPE, text=True, env=world.env)
    assert there.wait(60)
    assert p.stdout.readline() == STEPS.splitlines(True)[0]
    p.send_signal(signal.SIGINT)
    out, err = p.communicate(timeout=60)
    leave.set()
    assert p.returncode == 130
    assert err == "change 7 goes on; `upstate attach 7` follows it again\n"


def test_an_unknown_change_is_refused_at_once(world):
    world.on("GET", "/v1/changes/9", 404, refused("NOT_FOUND", "no change 9; the last is 7", 2))
    r = world.run("attach", "9")
    assert (r.returncode, r.stderr) == (2, "upstate: no change 9; the last is 7\n")


def test_rollback_and_abort_follow_to_the_end(world):
    world.on("POST", "/v1/apps/shop/rollback", 202, {"change": 7})
    world.on("POST", "/v1/apps/shop/abort", 202, {"change": 8})
    world.on("GET", "/v1/changes/7", lambda h, b: h.lines([DONE]))
    world.on("GET", "/v1/changes/8", lambda h, b: h.lines([{**DONE, "outcome": "undone"}]))
    assert world.run("rollback", "shop", "shop@1", "--why", "w").returncode == 0
    assert world.run("rollback", "shop", "--why", "w").stdout == STEPS + RECEIPT
    asked = [json.loads(b) for b in world.asked("POST", "/v1/apps/shop/rollback")]
    assert len({order.pop("key") for order in asked}) == 2
    assert asked == [{"why": "w", "release": "shop@1"}, {"why": "w", "release": None}]
    assert world.run("abort", "shop").returncode == 0  # undone is what was asked for


# --- who answers ---

def test_without_upstate_it_is_said_so(world):
    empty = tempfile.mkdtemp()
    r = subprocess.run([UPSTATE, "status", "--state", empty], capture_output=True, text=True)
    assert r.returncode == 1
    assert r.stderr == (f"upstate: no Upstate answers on {empty}/control.sock: is `upstate serve` running? "
                        "(or give --state DIR)\n")
    with socket.socket(socket.AF_UNIX) as s:  # a socket that nobody listens on any more
        s.bind(empty + "/control.sock")
    r = subprocess.run([UPSTATE, "status"], capture_output=True, text=True,
                       env={**world.env, "UPSTATE_STATE": empty})
    assert r.returncode == 1 and "no Upstate answers on " + empty in r.stderr
    shutil.rmtree(empty)


@pytest.mark.skipif(not ROOT, reason="only root can become someone who may not")
def test_who_may_not_is_told_who_may(world):
    os.chmod(world.dir, 0o755)
    os.chmod(world.dir + "/control.sock", 0o660)
    copy = shutil.copy(UPSTATE, world.dir + "/upstate-copy")
    r = subprocess.run([copy, "status", "--state", world.dir], capture_output=True, text=True, user=65534,
                       group=65534, extra_groups=[], cwd="/")
    assert r.returncode == 3
    assert re.fullmatch(rf"upstate: nobody may not use {world.dir}/control.sock: root and members of group "
                        r"\w+ may\n", r.stderr), r.stderr


def test_a_path_too_long_for_a_socket_is_told(world):
    r = subprocess.run([UPSTATE, "status", "--state", "/tmp/" + "x" * 120], capture_output=True, text=True)
    assert r.returncode == 2 and "too long for a socket" in r.stderr


def test_answers_that_are_not_upstates_are_told(world):
    world.on("GET", "/v1/status", 502, b"<html>")
    r = world.run("status")
    assert r.returncode == 1 and "answered 502 without a reason; is it Upstate?" in r.stderr
    world.on("GET", "/v1/status", 200, b"<html>")
    r = world.run("status")
    assert r.returncode == 1 and "no JSON" in r.stderr


def test_a_full_standard_output_is_an_error(world):
    world.on("GET", "/v1/status", 200, STATUS)
    with open("/dev/full", "w") as full:
        r = subprocess.run([UPSTATE, "status", "--state", world.dir], stdout=full, stderr=subprocess.PIPE,
                           text=True)
    assert r.returncode == 1 and "cannot write to standard output" in r.stderr


# --- showing ---

INSTANCE = {"name": "shop@2/1", "device": "shop/1", "status": "good", "reason": "", "release": "shop@2",
            "use": "serve", "state": "running", "pid": 42, "starts": 1, "since": "2026-11-22T01:00:00Z",
            "inside": 2, "requests": 99}
APP = {"name": "shop", "status": "bad", "reason": "1 of 2 instances is up", "held": True, "current": "shop@2",
       "id": "ab", "phase": "bake", "change": 7, "previous": None, "waiting": 3, "requests": 12345, "failed": 1,
       "p50_ms": 1.94, "p99_ms": 12.6, "instances": [INSTANCE, {**INSTANCE, "status": "ugly", "reason": "exit 1"}],
       "targets": []}
STATUS = {"upstate": {"version": "x"}, "apps": [APP], "parts": [
    {"name": "router", "status": "good", "reason": "", "pid": 5, "starts": 1, "since": "2026-11-22T01:00:00Z"}]}


def test_status_is_a_table(world):
    world.on("GET", "/v1/status", 200, STATUS)
    r = world.run("status")
    assert r.stdout == (
        "APP   STATUS  RELEASE  UP      REQUESTS  FAILED  P50     P99    REMARKS\n"
        "shop  bad     shop@2   1 of 2  12,345    1       1.9 ms  13 ms  requests are held; change 7: bake; "
        "3 waiting; 1 of 2 instances is up\n\n"
        "PART    STATUS  PID  STARTS  SINCE                REMARKS\n"
        "router  good    5    1       2026-11-22 01:00:00\n")
    assert json.loads(world.run("status", "--json").stdout) == STATUS
    world.on("GET", "/v1/apps/shop", 200, APP)
    r = world.run("status", "shop")
    assert "shop@2/1  ugly    serve  running  42   1       2       99        2026-11-22 01:00:00  exit 1\n" \
        in r.stdout


def test_names_are_escaped_on_their_way(world):
    world.on("GET", "/v1/apps/a%2Fb%20c", 404, refused("NOT_FOUND", "no app 'a/b c'; apps: shop", 2))
    r = world.run("status", "a/b c")
    assert (r.returncode, r.stderr) == (2, "upstate: no app 'a/b c'; apps: shop\n")


def test_history_tells_who_and_why(world):
    change = {"change": 7, "kind": "deploy", "who": "ann", "to": "shop@2", "from": "shop@1", "why": "new logo",
              "outcome": "running"}
    records = [
        {"seq": 1, "kind": "change.begin", "app": "shop", "data": change},
        {"seq": 2, "kind": "hold", "app": "shop", "data": {"who": "bob", "why": "the disk is being replaced"}},
        {"seq": 3, "kind": "change.end", "app": "shop",
         "data": dict(change, outcome="done", ms=2400, requests=1532, failed=0)},
        {"seq": 4, "kind": "change.begin", "app": "shop", "data": dict(change, change=8, to="shop@3", why="a typo")}]
    world.on("GET", "/v1/history", 200, {"head": {"seq": 4, "hash": "h"}, "records": [
        dict(r, time="2026-11-22T01:00:00.000Z", prev="", hash="") for r in records]})
    r = world.run("history", "shop", "--limit", "5")
    assert r.stdout == (
        "CHANGE  TIME (UTC)           KIND    APP   WHO  WHAT\n"
        "-       2026-11-22 01:00:00  hold    shop  bob  \"the disk is being replaced\"\n"
        "7       2026-11-22 01:00:00  deploy  shop  ann  shop@1 -> shop@2: done in 2.4 s, 0 of 1,532 requests failed;"
        " \"new logo\"\n"
        "8       2026-11-22 01:00:00  deploy  shop  ann  shop@1 -> shop@3: running; \"a typo\"\n")
    assert world.server.asked[0][1] == "/v1/history?limit=5&app=shop"
    assert world.run("history", "--limit", "0").returncode == 2
    assert world.run("history", "--at", "yesterday").returncode == 2
    assert world.run("history", "--checkout", "x").returncode == 2


def test_the_chain_is_verified(world):
    world.on("GET", "/v1/history/verify", 200, {"records": 1234, "head": "ab12"})
    assert world.run("history", "--verify").stdout == \
        "1,234 records, and the chain is whole; its head is ab12\n"
    world.on("GET", "/v1/history/verify", 500, refused("CORRUPT", "record 5 is not what was written", 1))
    r = world.run("history", "--verify")
    assert (r.returncode, r.stderr) == (1, "upstate: record 5 is not what was written\n")


def past(world, manifest, contents, apps=("shop",)):
    release = sha(manifest)
    world.on("GET", "/v1/history", 200, {"head": {}, "records": [], "ran": [
        {"app": a, "release": a + "@2", "id": release, "settings": "s", "since": "2026-11-21T00:00:00Z"}
        for a in apps]})
    world.on("GET", "/v1/releases/" + release, 200, manifest)
    for name, data in contents.items():
        world.on("GET", "/v1/objects/" + name, 200, data)
    return release


def test_what_ran_at_a_time_is_shown_and_checked_out(world):
    data, script = os.urandom(1 << 20), b"#!/bin/sh\n"
    manifest = (f"upstate-manifest 1\nf 0755 {len(script)} {sha(script)} run.sh\nd 0755 sub\n"
                f"f 0644 {len(data)} {sha(data)} sub/data\nl sub/data\tz\n").encode()
    release = past(world, manifest, {sha(script): script, sha(data): data})
    r = world.run("history", "shop", "--at", "2026-11-22T10:30", "--checkout", "then")
    assert r.returncode == 0, r.stderr
    assert r.stdout == (f"APP   RELEASE  ID            SINCE (UTC)\nshop  shop@2   {release[:12]}  "
                        "2026-11-21 00:00:00\n")
    assert "at=2026-11-22T10%3A30%3A00.000Z" in world.server.asked[0][1]
    then = world.dir + "/then"
    assert open(then + "/sub/data", "rb").read() == data and os.readlink(then + "/z") == "sub/data"
    assert os.stat(then + "/run.sh").st_mode & 0o777 == 0o755
    r = world.run("history", "shop", "--at", "2026-11-22", "--checkout", "then")
    assert r.returncode == 3 and "then is there already" in r.stderr


def test_a_checkout_believes_nothing(world):
    manifest = f"upstate-manifest 1\nf 0644 3 {sha(b'one')} a\n".encode()
    release = past(world, manifest, {sha(b"one"): b"two"})
    r = world.run("history", "--at", "2026-11-22", "--checkout", "t1")
    assert r.returncode == 1 and "a is not what was shipped" in r.stderr
    world.on("GET", "/v1/releases/" + release, 200, manifest.replace(b" a\n", b" b\n"))
    r = world.run("history", "--at", "2026-11-22", "--checkout", "t2")
    assert r.returncode == 1 and "the manifest's hash is" in r.stderr
    assert not os.path.exists(world.dir + "/t2")
    past(world, manifest, {}, apps=("a", "b"))
    r = world.run("history", "--at", "2026-11-22", "--checkout", "t3")
    assert r.returncode == 2 and "several apps ran then: name one" in r.stderr


def test_commands_say_what_is_now(world):
    world.on("POST", "/v1/apps/shop/hold", 200, {"app": "shop", "held": True})
    world.on("POST", "/v1/apps/shop/resume", 200, {"app": "shop", "held": False})
    world.on("POST", "/v1/apps/shop/drain", 200, {"target": "shop/1", "use": "drain"})
    world.on("POST", "/v1/apps/shop/serve", 200, {"target": "shop/1", "use": "serve"})
    assert world.run("hold", "shop", "--why", "w").stdout == \
        "requests of shop wait; `upstate resume shop` lets them go on\n"
    assert world.run("resume", "shop").stdout == "requests of shop go on\n"
    assert world.run("drain", "shop", "shop/1").stdout == "shop/1: drain\n"
    assert world.run("unfence", "shop", "shop/1").stdout == "shop/1: serve\n"
    assert [json.loads(b) for _, _, b in world.server.asked] == [
        {"why": "w"}, {"why": ""}, {"why": "", "target": "shop/1"}, {"why": "", "target": "shop/1"}]


def test_reload_tells_what_changed_or_every_mistake(world):
    world.on("POST", "/v1/reload", 200, {"changed": ["a", "b"], "warnings": ["odd"]})
    assert world.run("reload").stdout == "warning: odd\nthe configuration is taken; changed: a, b\n"
    world.on("POST", "/v1/reload", 400, {**refused("INPUT", "upstate.yaml has 2 mistakes", 2), "problems": [
        {"line": 3, "column": 5, "text": "unknown key 'host'"}, {"line": 4, "column": 1, "text": "x"}]})
    r = world.run("reload")
    assert r.returncode == 2
    assert r.stderr == "3:5: unknown key 'host'\n4:1: x\nupstate: upstate.yaml has 2 mistakes\n"


def test_limits_and_verify_are_shown(world):
    world.on("GET", "/v1/limits", 200, {"limits": [
        {"name": "clients", "what": "connections", "bound": 10000, "used": 3, "overflowed": 0}]})
    assert world.run("limits").stdout == ("LIMIT    BOUND   USED  OVERFLOWED  WHAT\n"
                                          "clients  10,000  3     0           connections\n")
    release = {"app": "shop", "release": "shop@2", "id": "ab" * 32, "ok": True, "differences": []}
    world.on("GET", "/v1/verify", 200, {"releases": [release]})
    r = world.run("verify")
    assert (r.returncode, r.stdout) == (0, "shop@2 (abababababab): as it was shipped\n")
    world.on("GET", "/v1/verify", 200, {"releases": [{**release, "ok": False, "differences": ["a: content"]}]})
    r = world.run("verify", "shop")
    assert (r.returncode, r.stdout) == (1, "shop@2 (abababababab): DIFFERS\n    a: content\n")
    assert world.server.asked[-1][1] == "/v1/verify?app=shop"


def test_logs_come_as_they_are(world):
    world.on("GET", "/v1/apps/shop/logs", 200, b"one\ntwo\n")
    assert world.run("logs", "shop", "-n", "2", "-f").stdout == "one\ntwo\n"
    assert world.server.asked[0][1] == "/v1/apps/shop/logs?lines=2&follow=1"


# --- without a server ---

def test_init_and_check_work_alone(world):
    r = world.run("init")
    assert r.returncode == 0 and "upstate.yaml is written" in r.stdout
    assert world.run("check").stdout == "upstate.yaml is right: 1 app\n"
    r = world.run("init")
    assert (r.returncode, r.stderr) == (3, "upstate: upstate.yaml is there already: it is left as it is\n")
    with open(world.dir + "/upstate.yaml", "a") as f:
        f.write("limit: 5\n")
    r = world.run("check")
    assert r.returncode == 2
    assert re.fullmatch(r"upstate.yaml:\d+:1: error: unknown key 'limit'; did you mean 'limits'\?\n"
                        r"upstate: upstate.yaml has 1 mistake\n", r.stderr)
    r = world.run("check", "--json")
    assert r.returncode == 2 and json.loads(r.stdout)["problems"][0]["column"] == 1
    r = world.run("check", "-c", "nowhere.yaml")
    assert r.returncode == 1 and "cannot read nowhere.yaml" in r.stderr


def test_completion_is_good_bash(world):
    script = world.run("completion", "bash").stdout
    test = script + "COMP_WORDS=(upstate de) COMP_CWORD=1; _upstate; echo ${COMPREPLY[@]}\n" \
        "COMP_WORDS=(upstate --state /x deploy --d) COMP_CWORD=4; _upstate; echo ${COMPREPLY[@]}\n"
    r = subprocess.run(["bash", "-c", test], capture_output=True, text=True)
    assert (r.stdout, r.stderr) == ("deploy\n--detach\n", "")
