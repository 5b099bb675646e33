# SPDX-License-Identifier: Apache-2.0
"""A SOURCE that cannot be shipped: it is named, refused, and nothing of it stays in the store."""

import os
import socket
import subprocess
import threading

import pytest

import apps
import faults
from upstate import BINARY, Socket, wait_for


@pytest.fixture
def u(serve, tree):
    """One release runs."""
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one")))
    return u


def stored(u):
    """Every file of the store, but for empty folders."""
    return sorted(str(p.relative_to(u.state)) for p in (u.state / "store").rglob("*") if not p.is_dir())


@pytest.fixture
def refused(u):
    """refused(SOURCE, words...): exit 2, these words are said, the store is as before and the app serves."""

    def check(source, *words, code=2, prefix=()):
        before, records = stored(u), len(faults.history(u))
        done = subprocess.run([*prefix, BINARY, "deploy", "web", str(source), "--why", "a test", "--state", str(u.state)],
                              capture_output=True, text=True, timeout=60, stdin=subprocess.DEVNULL)
        assert done.returncode == code, (done.returncode, done.stdout, done.stderr)
        for word in words:
            assert str(word) in done.stderr, (word, done.stderr)
        assert stored(u) == before
        assert len(faults.history(u)) == records
        assert u.get("/")[1].startswith("one 1 ") and u.app("web")["phase"] == "idle"

    return check


def test_a_source_that_is_not_there(refused, folder):
    refused(folder / "nowhere", folder / "nowhere", "No such file")


def test_a_source_that_is_empty(refused, folder):
    (folder / "empty").mkdir()
    refused(folder / "empty", folder / "empty", "empty")


def test_a_source_that_is_a_file(refused, tree):
    refused(tree("one", apps.files("one")) / "VERSION", "VERSION")


def test_a_source_with_a_socket(refused, tree):
    root = tree("bad", apps.files("bad"))
    with socket.socket(socket.AF_UNIX) as s:
        s.bind(str(root / "door"))
        refused(root, "'door' is a socket")


def test_a_source_with_a_fifo(refused, tree):
    root = tree("bad", apps.files("bad"))
    os.mkfifo(root / "pipe")
    refused(root, "'pipe' is a FIFO")


@pytest.mark.skipif(os.geteuid() != 0, reason="makes a device: needs root")
def test_a_source_with_a_device(refused, tree):
    root = tree("bad", apps.files("bad"))
    try:
        os.mknod(root / "null", 0o020666, os.makedev(1, 3))
    except PermissionError:
        pytest.skip("no devices may be made here")
    refused(root, "'null' is a device")


@pytest.mark.parametrize("target", ["/etc/passwd", "../outside", "sub/../../outside", ".."])
def test_a_link_that_leaves_the_tree(refused, tree, target):
    root = tree("bad", dict(apps.files("bad"), **{"sub/file": "x"}))
    (root / "way-out").symlink_to(target)
    refused(root, "way-out", target)


def test_links_within_the_tree_are_shipped(u, tree):
    root = tree("links", dict(apps.files("links"), **{"sub/file": "x"}))
    (root / "sub" / "up").symlink_to("../VERSION")
    (root / "later").symlink_to("not-there-yet")
    assert u.deploy("web", root)["outcome"] == "done"


@pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: needs root")
def test_a_file_that_may_not_be_read(serve, tree):
    u = serve(apps.CONFIG, start=False)
    u.state.mkdir()
    os.chown(u.state, 65534, 65534)
    nobody = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    with open(u.log, "a") as log:
        u.process = subprocess.Popen([*nobody, BINARY, "serve", "-c", str(u.config), "--state", str(u.state)],
                                     stdout=log, stderr=log)
    wait_for(u.is_ready, "it serves")
    root = tree("bad", dict(apps.files("bad"), **{"secret": "x", "sub/file": "x"}))
    before = stored(u)
    for closed in ("secret", "sub"):
        os.chmod(root / closed, 0)
        done = subprocess.run([*nobody, BINARY, "deploy", "web", str(root), "--why", "x", "--state", str(u.state)],
                              capture_output=True, text=True, timeout=60)
        os.chmod(root / closed, 0o755)
        assert done.returncode == 2 and closed in done.stderr and "ermission denied" in done.stderr, \
            (done.returncode, done.stderr)
        assert stored(u) == before


def test_a_file_that_changes_while_it_is_read(refused, tree):
    root = tree("bad", apps.files("bad"))
    (root / "data").write_bytes(os.urandom(40 << 20))
    over = threading.Event()

    def write():
        with open(root / "data", "r+b") as f:
            while not over.is_set():
                f.seek(20 << 20)
                f.write(os.urandom(64))
                f.flush()

    t = threading.Thread(target=write)
    t.start()
    try:
        refused(root, "data", "changed while it was read")
    finally:
        over.set()
        t.join()


def test_a_file_that_changes_between_hashing_and_sending(u, tree):
    """The API is given another content than it was promised; nothing of it may be taken."""
    root = tree("late", apps.files("late"))
    digest = "ab" * 32
    before = stored(u)
    status, answer = raw(u, "PUT", "/v1/objects", f"{digest} 5 -\nhello".encode())
    assert status >= 400 and digest[:8] in answer, (status, answer)
    assert stored(u) == before
    status, answer = raw(u, "PUT", "/v1/objects", f"{digest} 5000 -\nhello".encode())  # ends too early
    assert status >= 400, (status, answer)
    assert stored(u) == before
    assert u.deploy("web", root)["outcome"] == "done"


def raw(u, method, path, body):
    c = Socket(u.state / "control.sock")
    try:
        c.request(method, path, body)
        answer = c.getresponse()
        return answer.status, answer.read().decode()
    finally:
        c.close()


def test_an_upload_that_breaks_off_leaves_nothing(u):
    before = stored(u)
    with socket.socket(socket.AF_UNIX) as s:
        s.connect(str(u.state / "control.sock"))
        s.sendall(b"PUT /v1/objects HTTP/1.1\r\nHost: x\r\nContent-Length: 1000000\r\n\r\n" + b"cd" * 32 + b" 900000 -\n")
        s.sendall(b"x" * 500000)
        wait_for(lambda: os.listdir(u.state / "store" / "incoming"), "it arrives")
    wait_for(lambda: stored(u) == before and not os.listdir(u.state / "store" / "incoming"), "nothing of it is left")
