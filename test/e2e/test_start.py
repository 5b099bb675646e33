# SPDX-License-Identifier: Apache-2.0
"""Starting: what is handed over, what is in the way, who may, and what a file with mistakes does."""

import json
import os
import pwd
import re
import signal
import socket
import subprocess
import sys

import pytest

import apps
import faults
from upstate import BINARY, wait_for

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="becomes another user: needs root")
NOBODY = 65534


def serve_once(u, within=20, env=None, prefix=(), **more):
    """`upstate serve` that is expected to end by itself."""
    return subprocess.run([*prefix, BINARY, "serve", "-c", str(u.config), "--state", str(u.state)],
                          capture_output=True, text=True, timeout=within, env=dict(u.env, **(env or {})),
                          stdin=subprocess.DEVNULL, **more)


def hold_port(port=0, host="127.0.0.1"):
    s = socket.socket()
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    s.bind((host, port))
    s.listen()
    return s


def test_a_socket_of_the_service_manager_is_used(serve, tree):
    u = serve(apps.CONFIG, start=False)
    with hold_port(u.port) as s:
        waiting = socket.create_connection(("127.0.0.1", u.port))  # before anything runs
        waiting.sendall(b"GET / HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n")
        script = "import os, sys; os.dup2(int(sys.argv[1]), 3); os.environ.update(LISTEN_FDS='1', " \
                 "LISTEN_PID=str(os.getpid())); os.execv(sys.argv[2], sys.argv[2:])"
        with open(u.log, "a") as log:
            u.process = subprocess.Popen(
                [sys.executable, "-c", script, str(s.fileno()), BINARY, "serve", "-c", str(u.config), "--state",
                 str(u.state)], pass_fds=[s.fileno(), 3] if s.fileno() != 3 else [3], stdout=log, stderr=log, env=u.env)
    wait_for(u.is_ready, "it serves")
    u.deploy("web", tree("one", apps.files("one")))
    assert u.get("/")[1].startswith("one 1 ")
    waiting.settimeout(20)
    answer = b""
    while more := waiting.recv(65536):
        answer += more
    waiting.close()
    assert b" 200 " in answer.split(b"\r\n")[0], answer
    environ = open(f"/proc/{faults.processes(u).popitem()[0]}/environ").read()
    assert "LISTEN_" not in environ


def test_the_service_manager_is_told_when_it_serves(serve, folder):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as s:
        s.bind(str(folder / "notify"))
        s.settimeout(20)
        u = serve(apps.CONFIG, start=False, env={"NOTIFY_SOCKET": str(folder / "notify")})
        u.start(ready=False)
        assert b"READY=1" in s.recv(4096).split(b"\n")
        socket.create_connection(("127.0.0.1", u.port)).close()
        assert u.api("GET", "/v1/status")[0] == 200
        u.process.send_signal(signal.SIGTERM)
        assert b"STOPPING=1" in s.recv(4096).split(b"\n")
        u.process.wait(20)


def test_a_second_serve_is_refused_with_the_pid_of_the_first(serve):
    u = serve(apps.CONFIG)
    done = serve_once(u)
    assert done.returncode == 3 and str(u.process.pid) in done.stderr, done.stderr
    assert u.is_ready()


def test_a_port_in_use_names_who_holds_it(serve):
    u = serve(apps.CONFIG, start=False)
    with hold_port(u.port):
        done = serve_once(u)
    assert done.returncode in (2, 3), (done.returncode, done.stderr)
    assert f"127.0.0.1:{u.port} is in use by" in done.stderr and str(os.getpid()) in done.stderr, done.stderr


def test_a_port_in_use_at_a_reload_changes_nothing(serve, tree):
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one")))
    with hold_port() as s:
        taken = s.getsockname()[1]
        u.configure(apps.CONFIG.replace('[ { http: "127.0.0.1:{port}" } ]',
                                        '[ { http: "127.0.0.1:{port}" }, { http: "127.0.0.1:%d" } ]' % taken))
        # Until the one that the change of the file began is over, an order is refused.
        wait_for(lambda: str(os.getpid()) in u.cli("reload", ok=False).stderr, "it says who has the port")
        assert u.get("/")[0] == 200
    # (The file was seen to change, too: that reload may still be going on.)
    wait_for(lambda: u.cli("reload", ok=False).returncode == 0, "the reload")
    wait_for(lambda: u.get("/", port=taken)[0] == 200, "it serves there too")


MISTAKES = """listen: [ { http: "127.0.0.1:{port}" } ]
apps:
  web:
    hosts: ["*"]
    run: ./server.py
    instancez: 2
    drain: soon
"""


def test_mistakes_at_the_first_start_are_told_all_at_once(serve):
    u = serve(MISTAKES, start=False)
    done = serve_once(u)
    assert done.returncode == 2, (done.returncode, done.stderr)
    assert re.search(rf"{re.escape(str(u.config))}:6:5: .*instancez.*instances", done.stderr), done.stderr
    assert re.search(rf"{re.escape(str(u.config))}:7:12: .*soon", done.stderr), done.stderr


def test_a_file_that_is_not_there_is_named(serve):
    u = serve(apps.CONFIG, start=False)
    u.config.unlink()
    done = serve_once(u)
    assert done.returncode in (1, 2) and str(u.config) in done.stderr and "No such file" in done.stderr, done.stderr


def test_mistakes_at_a_later_start_leave_the_last_good_configuration_in_force(serve, tree):
    u = serve(apps.CONFIG)
    u.deploy("web", tree("one", apps.files("one")))
    u.stop()
    u.configure(MISTAKES)
    u.start()
    faults.at_rest(u)
    assert u.get("/")[1].startswith("one 1 ") and len(u.app("web")["instances"]) == 2
    said = u.log.read_text()
    assert "last in force" in said and "instancez" in said, said
    os.kill(u.parts()["controller"]["pid"], signal.SIGKILL)  # and the next controller does the same
    faults.at_rest(u)
    assert len(u.app("web")["instances"]) == 2


def test_a_state_directory_whose_path_is_too_long_is_refused(serve, folder):
    u = serve(apps.CONFIG, start=False)
    u.state = folder / ("long" * 25)
    done = serve_once(u)
    assert done.returncode == 2 and "too long" in done.stderr, (done.returncode, done.stderr)
    done = u.cli("status", ok=False)
    assert done.returncode == 2 and "too long" in done.stderr, (done.returncode, done.stderr)


def test_a_state_directory_that_cannot_be_made_is_named(serve, folder):
    u = serve(apps.CONFIG, start=False)
    (folder / "file").write_text("")
    u.state = folder / "file" / "state"
    done = serve_once(u)
    assert done.returncode in (1, 2) and str(u.state) in done.stderr, (done.returncode, done.stderr)


# --- as an ordinary user ---

AS_NOBODY = ["setpriv", f"--reuid={NOBODY}", f"--regid={NOBODY}", "--clear-groups"]


@pytest.fixture
def ordinary(serve):
    """serve(config) as a user without any right."""

    def start(config, ready=True, **more):
        u = serve(config, start=False, **more)
        u.state.mkdir(exist_ok=True)
        os.chown(u.state, NOBODY, NOBODY)
        os.chmod(u.config, 0o644)
        if not ready:
            return u
        with open(u.log, "a") as log:
            u.process = subprocess.Popen([*AS_NOBODY, BINARY, "serve", "-c", str(u.config), "--state", str(u.state)],
                                         stdout=log, stderr=log, env=u.env)
        wait_for(u.is_ready, f"it serves: {u.log.read_text()}")
        return u

    return start


@ROOT_ONLY
def test_everything_works_as_an_ordinary_user(ordinary, tree):
    u = ordinary(apps.CONFIG)

    def cli(*words):
        done = subprocess.run([*AS_NOBODY, BINARY, *map(str, words), "--why", "a test", "--json", "--state", str(u.state)],
                              capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (words, done.stderr)
        return json.loads(done.stdout)

    assert cli("deploy", "web", tree("one", faults.files("one")))["outcome"] == "done"
    with faults.Load(u) as load:
        assert cli("deploy", "web", tree("two", faults.files("two")))["outcome"] == "done"
        assert cli("rollback", "web")["outcome"] == "done"
        os.kill(u.parts()["controller"]["pid"], signal.SIGKILL)
        faults.at_rest(u)
        faults.clean(load.finish())
    faults.check_instances(u)
    assert [e["who"] for e in faults.check_history(u).values()] == [pwd.getpwuid(NOBODY).pw_name] * 3
    for pid in [*faults.processes(u), *(p["pid"] for p in u.parts().values())]:
        assert os.stat(f"/proc/{pid}").st_uid in (NOBODY, 0)
        assert re.search(rf"^Uid:\s+{NOBODY}\s+{NOBODY}", open(f"/proc/{pid}/status").read(), re.M)
    assert "sandbox" in u.log.read_text()  # what it could isolate, and what not


@ROOT_ONLY
def test_a_port_below_1024_says_what_it_needs(ordinary):
    u = ordinary(apps.CONFIG.replace('"127.0.0.1:{port}"', '"127.0.0.1:81"'), ready=False)
    start = int(open("/proc/sys/net/ipv4/ip_unprivileged_port_start").read())
    if start <= 81:
        pytest.skip("ports below 1024 are free for all here")
    done = serve_once(u, prefix=AS_NOBODY)
    assert done.returncode != 0 and "below 1024" in done.stderr and "CAP_NET_BIND_SERVICE" in done.stderr, \
        (done.returncode, done.stderr)


@ROOT_ONLY
def test_a_user_that_may_not_is_told_who_may(serve):
    u = serve(apps.CONFIG)
    os.chmod(u.state, 0o711)
    done = subprocess.run([*AS_NOBODY, BINARY, "status", "--state", str(u.state)], capture_output=True, text=True)
    assert done.returncode != 0 and "nobody may not" in done.stderr and "root" in done.stderr, \
        (done.returncode, done.stderr)


@ROOT_ONLY
def test_a_state_of_another_user_is_named(serve):
    u = serve(apps.CONFIG, start=False)
    u.state.mkdir()
    os.chmod(u.state, 0o700)
    done = serve_once(u, prefix=AS_NOBODY)
    assert done.returncode != 0 and str(u.state) in done.stderr and "ermi" in done.stderr, (done.returncode, done.stderr)


# --- the shell in front of an app ---

STUBBORN = apps.SERVER.replace("server.serve_forever()", '''import signal, sys
def bye(*_):
    print("asked to end", flush=True)
    os._exit(0)
signal.signal(signal.SIGTERM, bye)
server.serve_forever()''')


@pytest.mark.parametrize("run", [
    "./server.py --socket $UPSTATE_SOCKET", "exec ./server.py $UPSTATE_SOCKET", "cd . && exec ./server.py $UPSTATE_SOCKET",
    '"./server.py" --name "a b" $UPSTATE_SOCKET', "COLOR=blue exec ./server.py $UPSTATE_SOCKET"])
def test_an_app_is_asked_to_end_itself_whatever_its_command(serve, tree, run):
    u = serve(apps.CONFIG.replace("run: ./server.py --socket $UPSTATE_SOCKET", f"run: '{run}'"))
    u.deploy("web", tree("one", dict(apps.files("one"), **{"server.py": STUBBORN})))
    u.deploy("web", tree("two", dict(apps.files("two"), **{"server.py": STUBBORN})))
    wait_for(lambda: u.cli("logs", "web").stdout.count("asked to end") == 2, "both said that they were asked")
