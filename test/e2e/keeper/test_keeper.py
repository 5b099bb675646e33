# SPDX-License-Identifier: Apache-2.0
"""The keeper, with a controller that is this test (keeper_host.c): it holds, starts, reaps, restarts
and ends, whatever happens to the processes around it. As root every test runs twice, the second
time as an ordinary user."""
import glob
import os
import select
import shutil
import signal
import socket
import subprocess
import tempfile
import time

import pytest

HOST = os.environ.get("KEEPER_HOST", "build/test/e2e/keeper_host")
ROOT = os.geteuid() == 0
NOBODY = 65534
APP_USER = 64123
STATES = {"0": "starting", "1": "up", "2": "down"}


def until(condition, what, seconds=15):
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        result = condition()
        if result:
            return result
        time.sleep(0.01)
    raise AssertionError(f"did not happen: {what}")


def alive(pid):
    try:
        with open(f"/proc/{pid}/stat") as f:
            return f.read().rsplit(")", 1)[1].split()[0] != "Z"
    except (FileNotFoundError, ProcessLookupError):
        return False


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


class Controller:
    """One life of the controller: what it is told, and what it orders."""

    def __init__(self, sock):
        self.sock, self.data, self.seen, self.at = sock, b"", [], 0
        sock.settimeout(15)

    def order(self, *words):
        self.sock.sendall("\t".join(str(w) for w in words).encode() + b"\n")

    def read(self, seconds):
        if not select.select([self.sock], [], [], seconds)[0]:
            return False
        got = self.sock.recv(65536)
        self.data += got
        *lines, self.data = self.data.split(b"\n")
        self.seen += [line.decode().split("\t") for line in lines]
        return bool(got)

    def wait(self, *words, seconds=15):
        """The next message that begins with these words (None: any)."""
        end = time.monotonic() + seconds
        while True:
            while self.at < len(self.seen):
                m = self.seen[self.at]
                self.at += 1
                if len(m) >= len(words) and all(w is None or str(w) == g for w, g in zip(words, m)):
                    return m
            left = end - time.monotonic()
            assert left > 0 and self.read(left), f"no {words}; seen: {self.seen}"

    def close(self):
        self.sock.close()


class Keeper:
    def __init__(self, as_root, env=None, fds=()):
        self.as_root = as_root
        self.base = tempfile.mkdtemp(prefix="upk", dir="/run" if ROOT else None)
        os.chmod(self.base, 0o755)
        self.state = f"{self.base}/s"
        self.release = f"{self.base}/release"
        os.mkdir(self.release)
        self.host = shutil.copy(HOST, f"{self.base}/host")
        self.ctl_path = f"{self.base}/ctl"
        self.listener = socket.socket(socket.AF_UNIX)
        self.listener.bind(self.ctl_path)
        self.listener.listen()
        self.listener.settimeout(15)
        os.chmod(self.ctl_path, 0o777)
        if ROOT and not as_root:
            os.chown(self.base, NOBODY, NOBODY)
        self.errors = open(f"{self.base}/stderr", "w+")
        self.env, self.fds = env or {}, fds
        self.proc = self.c = None

    def spawn(self):
        become = ["setpriv", "--reuid", str(NOBODY), "--regid", str(NOBODY), "--clear-groups"]
        return subprocess.Popen(
            (become if ROOT and not self.as_root else []) +
            [self.host, "serve", self.state, self.ctl_path],
            stderr=self.errors, env={**os.environ, "UPSTATE_THREADS": "2", **self.env},
            pass_fds=self.fds)

    def start(self):
        self.proc = self.spawn()
        return self.controller()

    def controller(self):
        self.c = Controller(self.listener.accept()[0])
        self.c.wait("SYNCED")
        return self.c

    def ready(self):
        self.c.order("table", 1)
        self.c.order("ready")
        until(lambda: "serve.ready" in self.said(), "ready")

    def run(self, ident, *argv, uid=None, data=False, grace=2000, writes="", env=""):
        uid = (APP_USER if self.as_root and ROOT else -1) if uid is None else uid
        self.c.order("start", ident, "book", f"book@1/{ident}", self.release,
                     f"{self.state}/run/{ident}", f"{self.state}/data/book" if data else "", uid,
                     grace, writes, env, *argv)

    def said(self):
        with open(f"{self.base}/stderr") as f:
            return f.read()

    def log(self):
        try:
            with open(f"{self.state}/log/book.log") as f:
                return f.read()
        except FileNotFoundError:
            return ""

    def part(self, name):
        """Its pid, as the kernel sees it."""
        for pid in os.listdir("/proc"):
            if not pid.isdigit():
                continue
            try:
                with open(f"/proc/{pid}/cmdline") as f:
                    words = f.read().split("\0")
                with open(f"/proc/{pid}/stat") as f:
                    parent = int(f.read().rsplit(")", 1)[1].split()[1])
            except (FileNotFoundError, ProcessLookupError):
                continue
            if parent == self.proc.pid and len(words) > 1 and words[1] == "_" + name:
                return int(pid)
        return None

    def close(self):
        if self.c:
            self.c.close()
        if self.proc and self.proc.poll() is None:
            self.proc.kill()
            self.proc.wait()
        self.listener.close()
        self.errors.close()
        self.remove_groups()
        shutil.rmtree(self.base, ignore_errors=True)

    def remove_groups(self):
        """A keeper that was killed leaves control groups for its successor, which here never comes."""
        tag = 0xCBF29CE484222325
        for byte in os.path.realpath(self.state).encode():
            tag = (tag ^ byte) * 0x100000001B3 & 0xFFFFFFFFFFFFFFFF
        for top in ("/sys/fs/cgroup", "/sys/fs/cgroup/unified"):
            for group in glob.glob(f"{top}/**/upstate-{tag:016x}-*", recursive=True):
                def removed():
                    try:
                        os.rmdir(group)
                    except FileNotFoundError:
                        pass
                    except OSError:
                        return False
                    return True
                until(removed, f"{group} is empty")


@pytest.fixture(params=["root", "user"] if ROOT else ["user"])
def keeper(request):
    k = Keeper(request.param == "root")
    yield k
    if request.node.stash.get(FAILED, False):
        print(k.said())
    k.close()


FAILED = pytest.StashKey[bool]()


@pytest.hookimpl(tryfirst=True, hookwrapper=True)
def pytest_runtest_makereport(item, call):
    outcome = yield
    item.stash[FAILED] = outcome.get_result().failed


def once(keeper):
    if keeper.as_root:
        pytest.skip("takes its time, and is the same for every user")


def test_a_new_controller_is_told_all_that_is(keeper):
    c = keeper.start()
    assert [m[0] for m in c.seen[:7]] == ["SHARED"] + ["PART"] * 5 + ["SYNCED"]
    assert c.seen[0][1:3] == ["4", "2"]  # numbers, results and their bells; two threads
    assert [m[1] for m in c.seen[1:6]] == ["keeper", "router", "controller", "logger", "watcher"]


def test_it_says_ready_once_the_router_has_taken_a_table(keeper):
    path = f"{keeper.base}/manager"
    manager = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    manager.bind(path)
    os.chmod(path, 0o777)
    manager.settimeout(15)
    keeper.env["NOTIFY_SOCKET"] = path
    c = keeper.start()
    c.order("ready")
    c.wait("PART", "controller", "1")
    assert "serve.ready" not in keeper.said()
    c.order("table", 5)
    assert manager.recv(100) == b"READY=1"
    manager.close()


def test_an_instance_runs_and_says_ready_and_its_output_is_logged(keeper):
    keeper.start()
    keeper.run(1, "python3", "-c", """
import os, socket, sys
print("hello from", os.environ["NAME"], os.getcwd(), flush=True)
s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
s.connect(os.environ["NOTIFY_SOCKET"])
s.send(b"STATUS=x\\nREADY=1\\n")
sys.stdin.read()
import time
time.sleep(1000)
""".replace("\n", ";").replace(";;", ";").strip(";"), env="NAME=it")
    m = keeper.c.wait("INSTANCE", 1, "running")
    assert m[4] == "1" and alive(m[3])
    until(lambda: f" book@1/1 hello from it {keeper.release}\n" in keeper.log(), "a line in the log")


def test_one_that_ends_is_restarted_after_a_growing_pause(keeper):
    c = keeper.start()
    keeper.run(1, "/bin/sh", "-c", "exit 3")
    pauses = []
    for starts in (1, 2):
        m = c.wait("INSTANCE", 1, "waiting")
        assert m[4] == str(starts)
        assert m[7].startswith("exited with status 3 after")
        pauses.append(int(m[6]))
    assert 700 <= pauses[0] <= 1010 and 1450 <= pauses[1] <= 2010


def test_an_instance_that_cannot_run_says_why(keeper):
    c = keeper.start()
    keeper.run(1, "no-such-program")
    assert c.wait("INSTANCE", 1, "waiting")[7] == "cannot run 'no-such-program': No such file or directory"
    keeper.run(2, "true", writes="/no/such/folder")
    assert "/no/such/folder" in c.wait("INSTANCE", 2, "waiting")[7]
    keeper.release += "/missing"
    keeper.run(3, "true")
    assert "release/missing" in c.wait("INSTANCE", 3, "waiting")[7]


def test_what_the_main_process_left_is_killed_before_the_next_start(keeper):
    c = keeper.start()
    keeper.run(1, "/bin/sh", "-c", "sleep 1000 & echo child $!; kill -9 $$")
    until(lambda: "child " in keeper.log(), "the child's pid")
    child = keeper.log().split("child ")[1].split()[0]
    m = c.wait("INSTANCE", 1, "waiting")
    assert m[7].startswith("killed by signal 9 (KILL)")
    until(lambda: not alive(child), "the end of the child")


def test_stop_sends_the_signal_to_the_main_process_and_reports_the_end_once(keeper):
    c = keeper.start()
    keeper.run(1, "/bin/sh", "-c", "trap 'echo bye; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    until(lambda: " up\n" in keeper.log(), "the start")
    c.order("stop", 1, int(signal.SIGTERM), 10000)
    c.wait("INSTANCE", 1, "stopping")
    m = c.wait("INSTANCE", 1, "gone")
    assert m[7].startswith("exited with status 0")
    assert " bye\n" in until(lambda: "bye" in keeper.log() and keeper.log(), "last words")
    until(lambda: os.listdir(f"{keeper.state}/run") == ["bin"], "its folder is removed")
    c.order("stop", 1, int(signal.SIGTERM), 10000)
    assert c.wait("INSTANCE", 1)[2:3] == ["gone"]  # unknown now, and said so at once


def test_after_the_grace_all_of_it_is_killed(keeper):
    c = keeper.start()
    keeper.run(1, "/bin/sh", "-c", "trap '' TERM; (trap '' TERM; while :; do sleep 1; done) & echo child $!; "
               "while :; do sleep 1; done")
    until(lambda: "child " in keeper.log(), "the child's pid")
    child = keeper.log().split("child ")[1].split()[0]
    c.order("stop", 1, int(signal.SIGTERM), 200)
    m = c.wait("INSTANCE", 1, "gone")
    assert m[7].startswith("killed by signal 9") and "grace" in m[7]
    until(lambda: not alive(child), "the end of the child")


def test_a_process_that_left_for_a_session_of_its_own_is_found_by_its_control_group(keeper):
    c = keeper.start()
    if "cgroups=1" not in keeper.said():
        pytest.skip("no control groups here for this user")
    keeper.run(1, "/bin/sh", "-c", "setsid -f sh -c 'echo child $$; exec sleep 1000'; exec sleep 1000")
    until(lambda: "child " in keeper.log(), "the child's pid")
    child = keeper.log().split("child ")[1].split()[0]
    c.order("stop", 1, int(signal.SIGTERM), 5000)
    c.wait("INSTANCE", 1, "gone")
    until(lambda: not alive(child), "the end of the child")


def test_a_second_stop_only_makes_it_sooner(keeper):
    c = keeper.start()
    keeper.run(1, "/bin/sh", "-c", "trap 'echo told' TERM; echo up; while :; do sleep 0.02; done")
    until(lambda: " up\n" in keeper.log(), "the start")
    c.order("stop", 1, int(signal.SIGTERM), 60000)
    until(lambda: "told" in keeper.log(), "the signal")
    c.order("stop", 1, int(signal.SIGTERM), 100)
    c.wait("INSTANCE", 1, "gone", seconds=10)
    assert keeper.log().count("told") == 1


def test_instances_outlive_the_controller_and_are_restarted_without_it(keeper):
    c = keeper.start()
    keeper.ready()
    keeper.run(1, "/bin/sh", "-c", "echo pid $$; exec sleep 1000")
    keeper.run(2, "/bin/sh", "-c", "exec sleep 1000")
    pid = c.wait("INSTANCE", 1, "starting")[3]
    other = c.wait("INSTANCE", 2, "starting")[3]
    os.kill(keeper.part("controller"), signal.SIGKILL)
    os.kill(int(pid), signal.SIGKILL)
    c.close()
    c = keeper.controller()
    by_id = {m[1]: m for m in c.seen if m[0] == "INSTANCE"}
    assert set(by_id) == {"1", "2"} and by_id["2"][3] == other and alive(other)
    if by_id["1"][2] == "waiting" or by_id["1"][3] == pid:
        c.at = 0
        until(lambda: c.wait("INSTANCE", 1)[4] == "2", "its next start")
    keeper.run(1, "false")  # told again: it is the same one, nothing is started twice
    assert c.wait("INSTANCE", 1)[4] == "2"


def test_a_hung_controller_is_ended_and_told_everything_anew(keeper):
    once(keeper)
    c = keeper.start()
    keeper.ready()
    port = free_port()
    c.order("listen", 9, 1, f"127.0.0.1:{port}")
    c.wait("LISTENING", 9, 1, 0, 1)
    hung = keeper.part("controller")
    os.kill(hung, signal.SIGSTOP)
    c.close()
    keeper.listener.settimeout(30)
    c = keeper.controller()
    assert not alive(hung)
    assert ["LISTENING", "9", "1", "0", "1", f"127.0.0.1:{port}", ""] in c.seen
    assert "hung" in keeper.said()


def test_a_keeper_that_slept_does_not_blame_the_others(keeper):
    once(keeper)
    keeper.start()
    keeper.ready()
    parts = [keeper.part(p) for p in ("router", "controller", "logger", "watcher")]
    keeper.proc.send_signal(signal.SIGSTOP)
    time.sleep(11)  # the length of the sleep is what is tested
    keeper.proc.send_signal(signal.SIGCONT)
    keeper.run(1, "/bin/sh", "-c", "echo up; exec sleep 1000")
    until(lambda: " up\n" in keeper.log(), "work goes on")
    assert all(alive(p) for p in parts) and "part.ended" not in keeper.said()


def talk(port):
    with socket.create_connection(("127.0.0.1", port), timeout=15) as s:
        return s.makefile().readline()


def answers(port):
    """What the dying router had taken already dies with it; that nobody listens must never be said."""
    try:
        return "pid=" in talk(port)
    except ConnectionResetError:
        return False


def test_the_router_dies_and_no_connection_is_refused(keeper):
    c = keeper.start()
    port = free_port()
    c.order("listen", 7, 0, f"127.0.0.1:{port}")
    assert c.wait("LISTENING", 7, 0, 0)[4] == "0"  # the socket went to the router
    keeper.ready()
    first = talk(port)
    uid = 64999 if keeper.as_root else os.getuid() or NOBODY
    assert first.endswith(f"uid={uid}\n")
    for _ in range(5):
        os.kill(keeper.part("router") or 0, signal.SIGKILL)
        until(lambda: answers(port), "an answer")
        until(lambda: keeper.part("router"), "a router")
    assert talk(port) != first
    c.order("unlisten", 7)
    until(lambda: refused(port), "nobody listens there any more")


def test_a_table_that_kills_the_router_is_replaced_by_the_one_before(keeper):
    c = keeper.start()
    port = free_port()
    c.order("listen", 7, 0, f"127.0.0.1:{port}")
    c.wait("LISTENING", 7, 0, 0)
    keeper.ready()
    for table in (666, 666):  # twice: the first bad one must not push out the good one
        c.order("table", table)
    until(lambda: "table.older generation=1 instead=666" in keeper.said(), "the table before")
    assert "pid=" in talk(port)


def test_certificates_are_held_for_routers_and_controllers_to_come(keeper):
    c = keeper.start()
    port = free_port()
    c.order("listen", 7, 0, f"127.0.0.1:{port}")
    c.wait("LISTENING", 7, 0, 0)
    keeper.ready()
    for generation in (3, 4):
        c.order("certs", generation)
        until(lambda: f"certs={generation} before_table=0 " in talk(port), "the router has them")
    os.kill(keeper.part("router"), signal.SIGKILL)
    until(lambda: answers(port) and "certs=4 before_table=4 " in talk(port), "a new router has them before its table")
    c.order("exit", 0)
    c = keeper.controller()
    assert ["CERTS", "4", "1"] in c.seen
    assert c.seen.index(["CERTS", "4", "1"]) < c.seen.index(["SYNCED"])


def refused(port):
    try:
        socket.create_connection(("127.0.0.1", port), timeout=1).close()
    except ConnectionRefusedError:
        return True
    except ConnectionResetError:
        pass  # it was in the backlog of a socket that is being closed
    return False


def test_a_port_in_use_is_said_with_its_owner(keeper):
    c = keeper.start()
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        c.order("listen", 1, 0, f"127.0.0.1:{port}")
        m = c.wait("LISTENING", 1)
        assert int(m[3]) != 0
        if keeper.as_root:
            assert f"127.0.0.1:{port} is in use by" in m[6] and f"(pid {os.getpid()})" in m[6]
        else:
            assert f"127.0.0.1:{port} is in use by" in m[6]
    c.order("listen", 1, 0, f"127.0.0.1:{port}")  # free now: asking again is right
    assert c.wait("LISTENING", 1)[3] == "0"
    c.order("listen", 2, 0, "nonsense")
    assert "not an address" in c.wait("LISTENING", 2)[6]


def test_the_control_socket_is_the_owners_and_goes_with_the_keeper(keeper):
    c = keeper.start()
    path = f"{keeper.state}/control.sock"
    c.order("listen", 3, 2, path)
    assert c.wait("LISTENING", 3, 2, 0, 1)
    assert os.stat(path).st_mode & 0o777 == 0o600
    keeper.proc.terminate()
    assert keeper.proc.wait(20) == 0
    assert not os.path.exists(path)


def test_a_socket_that_was_passed_is_used(keeper):
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        s.listen()
        port = s.getsockname()[1]
        # It must be descriptor 3 of the keeper, and LISTEN_PID its pid: a wrapper sees to both.
        wrap = f"{keeper.base}/wrap"
        with open(wrap, "w") as f:
            f.write("#!/usr/bin/python3\nimport os, sys\n"
                    f"os.dup2({s.fileno()}, 3)\n"
                    "os.environ.update(LISTEN_FDS='1', LISTEN_PID=str(os.getpid()))\n"
                    f"os.execv({keeper.host!r}, [{keeper.host!r}] + sys.argv[1:])\n")
        os.chmod(wrap, 0o755)
        keeper.host, keeper.fds = wrap, (s.fileno(),)
        c = keeper.start()
        c.order("listen", 4, 0, f"127.0.0.1:{port}")
        assert c.wait("LISTENING", 4)[3] == "0"
        keeper.ready()
    assert "pid=" in talk(port)


def test_a_second_serve_is_refused_with_the_pid_of_the_first(keeper):
    keeper.start()
    second = keeper.spawn()
    assert second.wait(15) == 3
    assert f"(pid {keeper.proc.pid})" in keeper.said()


def test_a_state_too_deep_for_sockets_is_refused(keeper):
    keeper.state += "/" + "d" * 90
    assert keeper.spawn().wait(15) == 2
    assert "bytes too long" in keeper.said()


def test_a_bad_configuration_at_the_first_start_ends_it(keeper):
    keeper.listener.close()
    os.unlink(keeper.ctl_path)
    assert keeper.spawn().wait(15) == 7


def test_everything_dies_with_the_keeper(keeper):
    c = keeper.start()
    keeper.run(1, "/bin/sleep", "1000")
    pids = [c.wait("INSTANCE", 1, "starting")[3]]
    pids += [keeper.part(p) for p in ("router", "controller", "logger", "watcher")]
    c.wait("INSTANCE", 1, "starting")  # exec has succeeded
    keeper.proc.kill()
    keeper.proc.wait()
    until(lambda: not any(alive(p) for p in pids), "the end of all")
    c.close()
    keeper.start()  # and the state can be used again at once


def test_the_end_in_order(keeper):
    c = keeper.start()
    keeper.run(1, "/bin/sh", "-c", "trap 'echo last words; exit 0' TERM; echo up; while :; do sleep 0.05; done")
    until(lambda: " up\n" in keeper.log(), "the start")
    parts = [keeper.part(p) for p in ("router", "controller", "logger", "watcher")]
    c.order("shutdown")
    assert keeper.proc.wait(20) == 0
    assert "last words" in keeper.log()
    assert not any(alive(p) for p in parts)


def test_told_twice_it_ends_at_once(keeper):
    c = keeper.start()
    keeper.run(1, "/bin/sh", "-c", "trap '' TERM; echo up; while :; do sleep 1; done", grace=60000)
    until(lambda: " up\n" in keeper.log(), "the start")
    pid = c.wait("INSTANCE", 1, "starting")[3]
    keeper.proc.terminate()
    until(lambda: "to=stopping" in keeper.said(), "the first was heard")
    keeper.proc.terminate()
    assert keeper.proc.wait(10) == 1
    until(lambda: not alive(pid), "the end of the instance")


def test_hup_asks_the_controller_to_reload(keeper):
    c = keeper.start()
    keeper.proc.send_signal(signal.SIGHUP)
    c.wait("RELOAD")


def test_the_sandbox_lets_an_instance_write_only_where_it_may(keeper):
    keeper.start()
    os.mkdir(f"{keeper.base}/open")
    os.mkdir(f"{keeper.base}/listed")
    for name in ("open", "listed"):
        os.chmod(f"{keeper.base}/{name}", 0o777)
    os.chmod(keeper.release, 0o777)
    script = ("for f in $TMPDIR/a $HOME/b /tmp/upk-c \"$1\"/listed/d \"$1\"/open/e ./f; do "
              "if (echo x > $f) 2>/dev/null; then echo yes $f; else echo no $f; fi; done; "
              "rm -f /tmp/upk-c; grep -h -E 'NoNewPrivs|^Uid|^Groups' /proc/self/status; "
              "echo fds $(ls /proc/self/fd | wc -l); echo done; exec sleep 1000")
    keeper.run(1, "/bin/sh", "-c", script, "sh", keeper.base, data=True, writes=f"{keeper.base}/listed")
    until(lambda: " done\n" in keeper.log(), "the script")
    said = [line.split(" ", 2)[2] for line in keeper.log().splitlines()]
    answers = {line.rsplit("/", 1)[1]: line.split()[0] for line in said if line[:3] in ("yes", "no ")}
    assert answers == {"a": "yes", "b": "yes", "upk-c": "yes", "d": "yes", "e": "no", "f": "no"}
    assert "NoNewPrivs:\t1" in said
    assert "fds 4" in said  # 0, 1, 2 and the folder that ls reads
    assert os.stat(f"{keeper.state}/data/book").st_mode & 0o777 == 0o700
    if keeper.as_root:
        assert f"Uid:\t{APP_USER}\t{APP_USER}\t{APP_USER}\t{APP_USER}" in said and "Groups:\t " in said
        st = os.stat(f"{keeper.state}/run/1")
        assert (st.st_uid, st.st_gid, st.st_mode & 0o7777) == (APP_USER, 64999, 0o2770)
        assert os.path.exists(f"{keeper.state}/run/1/tmp/a")


def test_a_private_tmp_when_root(keeper):
    if not keeper.as_root:
        pytest.skip("needs root: mounts")
    keeper.start()
    keeper.run(1, "/bin/sh", "-c", "echo secret > /tmp/upk-private; echo done; exec sleep 1000")
    until(lambda: " done\n" in keeper.log(), "the script")
    assert not os.path.exists("/tmp/upk-private")
    assert os.path.exists(f"{keeper.state}/run/1/tmp/upk-private")


def test_the_logger_dies_and_nothing_that_is_printed_is_lost(keeper):
    keeper.start()
    keeper.run(1, "/bin/sh", "-c", "i=0; while [ $i -lt 300 ]; do echo n$i; i=$((i+1)); sleep 0.005; done; "
               "echo end; exec sleep 1000")
    until(lambda: " n20\n" in keeper.log(), "a start")
    os.kill(keeper.part("logger"), signal.SIGKILL)
    until(lambda: " end\n" in keeper.log(), "the end")
    # What was read and not yet written when it died may be lost; what came after must be there.
    there = {line.split(" ")[2] for line in keeper.log().splitlines()}
    assert len([i for i in range(300) if f"n{i}" in there]) >= 298
