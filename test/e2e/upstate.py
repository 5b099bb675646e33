"""What end-to-end tests share: a running Upstate in a folder of its own, and conditions to wait for.

Nothing here sleeps for a time to pass; wait_for() looks again until something is so.
"""

import http.client
import json
import os
import pathlib
import signal
import socket
import subprocess
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
BINARY = os.environ.get("UPSTATE_BINARY", str(ROOT / "build" / "upstate"))


def free_port():
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return s.getsockname()[1]


def wait_for(condition, what, within=20.0):
    """Looks until condition() is true; returns what it returned."""
    end = time.monotonic() + within
    while True:
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            raise AssertionError(f"not within {within} s: {what}")
        time.sleep(0.01)


class Socket(http.client.HTTPConnection):
    """HTTP over a unix socket."""

    def __init__(self, path, timeout=20):
        super().__init__("upstate", timeout=timeout)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Upstate:
    """`upstate serve` on free ports, with a configuration that the test gives.

    {port} and {admin} in the configuration stand for the ports.
    """

    def __init__(self, folder, config, start=True, env=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        os.chmod(self.folder, 0o755)
        self.state = self.folder / "state"
        self.port, self.admin = free_port(), free_port()
        self.config = self.folder / "upstate.yaml"
        self.log = self.folder / "serve.log"
        self.log.touch()
        self.env = dict(os.environ, **(env or {}))
        self.process = None
        self.wrap = []  # a command that runs it
        self.configure(config)
        if start:
            self.start()

    def configure(self, text):
        new = self.config.with_suffix(".new")
        new.write_text(text.replace("{port}", str(self.port)).replace("{admin}", str(self.admin)))
        new.rename(self.config)

    def start(self, ready=True):
        with open(self.log, "a") as log:
            self.process = subprocess.Popen(
                [*self.wrap, BINARY, "serve", "-c", str(self.config), "--state", str(self.state)],
                stdout=log, stderr=log, env=self.env)
        if ready:
            wait_for(self.is_ready, f"serving; its log: {self.log.read_text()[-2000:]}")
        return self

    def is_ready(self):
        assert self.process.poll() is None, self.log.read_text()
        try:
            status = self.api("GET", "/v1/status")[1]
        except OSError:
            return False
        return all(p["status"] == "good" for p in status["parts"])

    def stop(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()
        self.process = None

    def cli(self, *args, ok=True, **more):
        done = subprocess.run([BINARY, *map(str, args)], capture_output=True, text=True, timeout=120,
                              env=dict(self.env, UPSTATE_STATE=str(self.state)), stdin=subprocess.DEVNULL, **more)
        if ok:
            assert done.returncode == 0, (args, done.returncode, done.stdout, done.stderr)
        return done

    def deploy(self, app, folder, why="a test", ok=True):
        done = self.cli("deploy", app, folder, "--why", why, "--json", ok=ok)
        return json.loads(done.stdout) if done.stdout.strip() else done

    def api(self, method, path, body=None, timeout=20):
        c = Socket(self.state / "control.sock", timeout)
        try:
            c.request(method, path, json.dumps(body) if body is not None else None)
            answer = c.getresponse()
            text = answer.read()
        finally:
            c.close()
        kind = answer.getheader("content-type") or ""
        return answer.status, json.loads(text) if kind.startswith("application/json") else text.decode()

    def app(self, name):
        return self.api("GET", f"/v1/apps/{name}")[1]

    def parts(self):
        return {p["name"]: p for p in self.api("GET", "/v1/status")[1]["parts"]}

    def get(self, path="/", host="localhost", port=None, method="GET", body=None, headers=None, timeout=40):
        c = http.client.HTTPConnection("127.0.0.1", port or self.port, timeout=timeout)
        try:
            c.request(method, path, body, dict({"Host": host}, **(headers or {})))
            answer = c.getresponse()
            return answer.status, answer.read().decode("utf-8", "replace"), dict(answer.getheaders())
        finally:
            c.close()
