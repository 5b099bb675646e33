#!/usr/bin/python3
# SPDX-License-Identifier: Apache-2.0
"""The demo: a guestbook under load, deployed, rolled back, broken and killed, and no user notices.

`./do demo` calls it. It starts Upstate with a state directory of its own, drives the guestbook with
build/bench/load, and walks through the steps below, each between a "mark" and an "end" of the client.

Two witnesses are heard. Upstate tells in the receipt of each change what users saw; the client tells
what it saw itself. They agree when
  - both count the same failed requests: of a change in its receipt, of a fault in the app's numbers. (Of a
    killed router, Upstate counts what was inside, which cannot be more than the client had in flight);
  - a receipt names as many requests as the client sent in that time (5 %, at least 25, of latitude, because
    the two do not begin at the same instant); around a fault, Upstate saw all that the client had answered.

What may fail is the client's knowledge alone: it notes what is in flight at the instant at which it
kills. Beyond that one failed request, a wrong answer, a lost or doubled POST, a planned step in which
someone waited over 1 s longer than without it, or a disagreement make the demo fail with 1.

build/demo.json holds all of it.
"""
import argparse
import collections
import http.client
import json
import os
import pathlib
import queue
import shutil
import signal
import socket
import sqlite3
import subprocess
import sys
import tempfile
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
APP = "guestbook"
RATE = 520
WAITED_MS = 1000  # longer than without the step; more is noticed


class Failed(Exception):
    pass


# --- talking to people ---


class Screen:
    """One line for each step: on a terminal it moves while the step goes on."""

    def __init__(self):
        self.live = sys.stdout.isatty()
        self.colour = self.live and os.environ.get("TERM", "dumb") != "dumb" and "NO_COLOR" not in os.environ

    def paint(self, code, text):
        return f"\033[{code}m{text}\033[0m" if self.colour else text

    def going_on(self, text):
        if self.live:
            width = shutil.get_terminal_size().columns - 1
            sys.stdout.write(f"\r\033[K{text[:width]}")
            sys.stdout.flush()

    def line(self, text=""):
        sys.stdout.write(("\r\033[K" if self.live else "") + text + "\n")
        sys.stdout.flush()

    def verdict(self, good):
        return self.paint("32", "ok    ") if good else self.paint("1;31", "FAILED")


# --- the client ---


class Load:
    """build/bench/load, led by commands. What it says is read by a thread, so that it never waits."""

    def __init__(self, address, rate):
        command = [ROOT / "build" / "bench" / "load", "--rate", str(rate), "--verify", address]
        self.process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.said = queue.Queue()
        threading.Thread(target=self.listen, daemon=True).start()
        self.rate = rate
        self.hear("ready", 10)

    def listen(self):
        for line in self.process.stdout:
            self.said.put(json.loads(line))
        self.said.put(None)

    def hear(self, event, seconds):
        try:
            while (heard := self.said.get(timeout=seconds)) is not None:
                if heard["event"] == event:
                    return heard
                if heard["event"] == "error":
                    raise Failed(f"the load client says: {heard['text']}")
        except queue.Empty:
            raise Failed(f"the load client said no '{event}' within {seconds} s") from None
        raise Failed("the load client ended too early")

    def tell(self, command, event, seconds=60):
        try:
            self.process.stdin.write(command + "\n")
            self.process.stdin.flush()
        except BrokenPipeError:
            raise Failed("the load client ended too early") from None
        return self.hear(event, seconds)

    def stop(self):
        if self.process.poll() is None:
            self.process.kill()
        self.process.wait()


# --- Upstate ---


def free_port(wanted):
    """The wanted port, or another when it is taken."""
    for port in (wanted, 0):
        with socket.socket() as s:
            s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            try:
                s.bind(("127.0.0.1", port))
                return s.getsockname()[1]
            except OSError:
                continue
    raise Failed("no free port on 127.0.0.1")


class ControlSocket(http.client.HTTPConnection):
    def __init__(self, path):
        super().__init__("upstate", timeout=20)
        self.path = str(path)

    def connect(self):
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self.path)


class Upstate:
    def __init__(self, place):
        self.place = place
        self.state = place / "state"
        self.state.mkdir()
        self.binary = ROOT / "build" / "upstate"
        self.port, self.admin = free_port(8080), free_port(8081)
        self.conf = place / "upstate.yaml"
        text = (HERE / "upstate.yaml").read_text()
        self.conf.write_text(text.replace(":8080", f":{self.port}").replace(":8081", f":{self.admin}"))
        self.log = place / "upstate.log"
        self.process = None

    def start(self):
        with open(self.log, "wb") as log:
            self.process = subprocess.Popen(
                [self.binary, "serve", "-c", self.conf, "--state", self.state], stdin=subprocess.DEVNULL,
                stdout=log, stderr=log, start_new_session=True)
        self.until("Upstate answers", 15, lambda: self.status() is not None)

    def until(self, what, seconds, condition, tick=lambda: None):
        end = time.monotonic() + seconds
        while not condition():
            if self.process.poll() is not None:
                raise Failed(f"upstate serve ended with {self.process.returncode}: {self.last_words()}")
            if time.monotonic() > end:
                raise Failed(f"not within {seconds} s: {what}")
            tick()
            time.sleep(0.05)

    def last_words(self):
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-8:])

    def api(self, path):
        """The answer of the API, or None when nobody answers just now."""
        connection = ControlSocket(self.state / "control.sock")
        try:
            connection.request("GET", path)
            return json.loads(connection.getresponse().read())
        except (OSError, http.client.HTTPException, ValueError):
            return None
        finally:
            connection.close()

    def status(self):
        return self.api("/v1/status")

    def app(self):
        status = self.status()
        return next((a for a in status["apps"] if a["name"] == APP), None) if status else None

    def part(self, name):
        status = self.status()
        return next((p for p in status["parts"] if p["name"] == name), None) if status else None

    def is_well(self):
        """All parts and the app are good, and no change is going on."""
        status = self.status()
        if not status:
            return False
        app = next((a for a in status["apps"] if a["name"] == APP), None)
        return bool(app) and app["status"] == "good" and app["phase"] == "idle" and all(
            part["status"] == "good" for part in status["parts"])

    def change(self, verb, *words, why, tick):
        """Runs a verb that makes a change; its exit status and the change with its receipt."""
        with tempfile.TemporaryFile("w+") as out, tempfile.TemporaryFile("w+") as errors:
            process = subprocess.Popen(
                [self.binary, verb, APP, *words, "--why", why, "--json", "--state", self.state],
                stdin=subprocess.DEVNULL, stdout=out, stderr=errors)
            end = time.monotonic() + 90
            while process.poll() is None:
                if time.monotonic() > end:
                    process.kill()
                    raise Failed(f"upstate {verb} did not end within 90 s")
                tick()
                time.sleep(0.05)
            out.seek(0)
            errors.seek(0)
            return process.returncode, last_json(out.read(), errors.read(), verb)

    def stop(self):
        if not self.process or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(timeout=30)
        except subprocess.TimeoutExpired:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()


def last_json(text, errors, verb):
    """The change: all of the output, or its last line when lines for the steps stand before it."""
    for candidate in (text, (text.strip().splitlines() or [""])[-1]):
        try:
            return json.loads(candidate)
        except ValueError:
            continue
    raise Failed(f"upstate {verb} printed no JSON: {(errors or text).strip()[-300:]}")


# --- the steps ---

# kind: a change (planned, undone), or a fault; action(demo) returns (outcome, receipt of Upstate, problems)
Step = collections.namedtuple("Step", "name planned action")


def deploy(version, why, code=0, outcome="done"):
    def action(demo):
        return demo.make_change(code, outcome, "deploy", str(demo.release(version)), why=why)

    return Step(f"deploy {version}" if code == 0 else f"deploy '{version}': undone", True, action)


def rollback(why):
    return Step("rollback", True, lambda demo: demo.make_change(0, "done", "rollback", why=why))


def kill_part(name):
    def action(demo):
        before = demo.upstate.part(name)
        demo.fault(f"{name}-killed", before["pid"])

        def is_new():
            now = demo.upstate.part(name)
            return now and now["pid"] not in (0, before["pid"]) and now["starts"] > before["starts"]

        demo.until(f"a new {name} works", 20, lambda: is_new() and demo.upstate.is_well())
        return "recovered", None, []

    return Step(f"kill the {name}", False, action)


def kill_instance(demo):
    before = next(i for i in demo.upstate.app()["instances"] if i["pid"])
    group = os.getpgid(before["pid"]) == before["pid"]  # with its workers, as when it runs out of memory
    demo.fault("instance-killed", -before["pid"] if group else before["pid"])

    def is_back():
        app = demo.upstate.app()
        return app and any(i["device"] == before["device"] and i["pid"] not in (0, before["pid"])
                           for i in app["instances"])

    demo.until(f"{before['name']} is back", 30, lambda: is_back() and demo.upstate.is_well())
    return "recovered", None, []


def stop_controller(demo):
    pid = demo.upstate.part("controller")["pid"]
    demo.fault("controller-stopped", pid, signal.SIGSTOP)
    demo.watch_for(3)
    os.kill(pid, signal.SIGCONT)
    demo.until("the controller answers again", 20, demo.upstate.is_well)
    return "recovered", None, []


STEPS = (
    Step("nothing happens", True, lambda demo: demo.watch_for(3) or ("done", None, [])),
    deploy("v2", "green is calmer"),
    deploy("v3", "autumn"),
    deploy("v4", "an invitation came"),
    deploy("v5", "dark at night"),
    deploy("v6", "back to normal"),
    rollback("the colour of v6 hurts"),
    deploy("never-healthy", "a version whose health check fails", 4, "undone"),
    deploy("crashes", "a version that dies while it serves", 4, "undone"),
    Step("kill an instance", False, kill_instance),
    kill_part("controller"),
    kill_part("router"),
    kill_part("logger"),
    Step("stop the controller for 3 s", False, stop_controller),
)


class Demo:
    def __init__(self, place, options):
        self.place, self.rate = place, options.rate
        self.screen = Screen()
        self.upstate = Upstate(place)
        self.load = None
        self.steps, self.total, self.feed = [], None, []
        self.now, self.now_since, self.now_stat, self.stat_at = "", 0.0, "", 0.0
        self.in_flight = None

    # What the steps call.

    def release(self, version):
        to = self.place / "releases" / version
        if not to.exists():
            subprocess.run([HERE / "release", version, to], check=True)
        return to

    def tick(self):
        """Moves the line of the step that goes on."""
        now = time.monotonic()
        if self.load and self.screen.live and now - self.stat_at > 0.25:
            s = self.load.tell("stat", "stat")
            self.now_stat = f"{s['requests']:,} requests answered, {s['failed']} failed"
            self.stat_at = now
        self.screen.going_on(f"  {self.now:<30} {now - self.now_since:4.1f} s   {self.now_stat}")

    def until(self, what, seconds, condition):
        self.upstate.until(what, seconds, condition, self.tick)

    def watch_for(self, seconds):
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            self.tick()
            time.sleep(0.05)

    def fault(self, kind, pid, signo=signal.SIGKILL):
        # The client counts a request with the step in which it was sent, Upstate with that in which it ended.
        # What was sent before the step shall have ended before the fault.
        self.watch_for(0.5)
        said = self.load.tell(f"fault {kind} {pid} {int(signo)}", "fault")
        if "error" in said:
            raise Failed(f"{kind}: {said['error']}")
        self.in_flight = said

    def make_change(self, code, outcome, verb, *words, why):
        got, change = self.upstate.change(verb, *words, why=why, tick=self.tick)
        problems = []
        if "error" in change:
            return "refused", None, [f"upstate {verb}: {change['error'].get('message')}"]
        if got != code:
            problems.append(f"upstate {verb} ended with {got}, expected {code}")
        if change.get("outcome") != outcome:
            problems.append(f"outcome '{change.get('outcome')}' ({change.get('reason')}), expected '{outcome}'")
        self.until("all is well again", 30, self.upstate.is_well)
        return change.get("outcome"), change, problems

    # One step, and what the two witnesses say of it.

    def step(self, step):
        self.now, self.now_since, self.in_flight = step.name, time.monotonic(), None
        self.tick()
        before = self.upstate.app()
        self.load.tell(f"mark {step.name}", "mark")
        outcome, receipt, problems = step.action(self)
        if not step.planned:
            self.watch_for(1)  # what the fault left behind, if anything, shows now
        client = self.load.tell("end", "step")
        after = self.upstate.app()
        entry = self.entry(step, outcome, receipt, client, before, after)
        problems += self.disagreements(step, entry, receipt)
        problems += self.noticed(step, entry)
        entry["problems"], entry["agree"] = problems, not problems
        self.steps.append(entry)
        self.screen.line(f"{self.screen.verdict(not problems)} {self.sentence(entry)}")
        for text in problems:
            self.screen.line(f"         {text}")

    def entry(self, step, outcome, receipt, client, before, after):
        def upstate(key):
            """Of the change's receipt; else how far the app's own numbers went on."""
            if receipt:
                return receipt.get(key)
            old, new = ({**a, **a.get("receipt", {})} for a in (before, after))
            return new[key] - old[key] if isinstance(new.get(key), int) and key in old and not isinstance(
                new[key], bool) else None

        entry = {"name": step.name, "planned": step.planned, "outcome": outcome,
                 "seconds": round(client["seconds"], 2)}
        for key in ("requests", "failed", "permitted", "not_permitted", "wrong"):
            entry[key] = client[key]
        for key in ("held", "retried"):
            entry[key] = upstate(key)
        for key in ("p50_ms", "p99_ms", "longest_ms"):
            entry[key] = round(client[key], 2)
        entry["upstate"] = {key: upstate(key) for key in ("requests", "failed", "held", "retried")}
        if receipt:
            entry["upstate"]["ms"] = receipt.get("ms")
            entry["change"] = receipt.get("change")
        entry["client"] = client
        return entry

    def disagreements(self, step, entry, receipt):
        seen, told, found = entry["client"], entry["upstate"], []
        if told["failed"] is None or told["requests"] is None:
            return ["Upstate tells nothing about this step"]
        if self.in_flight and self.in_flight["kind"] == "router-killed":
            if told["failed"] > self.in_flight["in_flight"]:
                found.append(f"Upstate lost {told['failed']} requests with the router, and the client had only "
                             f"{self.in_flight['in_flight']} in flight")
        elif told["failed"] != seen["failed"]:
            found.append(f"the client counts {seen['failed']} failed, Upstate {told['failed']}")
        if receipt and receipt.get("ms"):
            expected = self.load.rate * receipt["ms"] / 1000
            if abs(told["requests"] - expected) > max(25, expected * 0.05):
                found.append(f"the receipt names {told['requests']} requests in {receipt['ms']} ms, the client sent "
                             f"{expected:.0f}")
        elif told["requests"] < seen["requests"] - seen["failed"]:
            found.append(f"the client had {seen['requests'] - seen['failed']} answers, Upstate counts only "
                         f"{told['requests']} requests")
        return found

    def noticed(self, step, entry):
        """What a user would have noticed and may not."""
        found = []
        if entry["not_permitted"]:
            found.append(f"{entry['not_permitted']} failed that may not: {'; '.join(entry['client']['failures'][:4])}")
        if entry["wrong"]:
            found.append(f"{entry['wrong']} wrong answers: {'; '.join(entry['client']['failures'][:4])}")
        usual = self.steps[0]["longest_ms"] if self.steps else entry["longest_ms"]
        if step.planned and entry["longest_ms"] > usual + WAITED_MS:
            found.append(f"someone waited {entry['longest_ms']:.0f} ms; without a change {usual:.0f} ms is the longest")
        return found

    @staticmethod
    def sentence(e):
        permitted = f" ({e['permitted']} permitted)" if e["permitted"] else ""
        return (f"{e['name']:<30} {e['seconds']:5.1f} s {e['requests']:>7,} requests, {e['failed']} failed{permitted}, "
                f"p99 {e['p99_ms']:.0f} ms, longest {e['longest_ms']:.0f} ms")

    # The whole.

    def run(self):
        self.now, self.now_since = "start", time.monotonic()
        self.screen.line("Upstate starts, and ships the guestbook for the first time ...")
        self.upstate.start()
        code, change = self.upstate.change("deploy", self.release("v1"), why="the first version", tick=self.tick)
        if code != 0:
            raise Failed(f"the first deploy ended with {code}: {change}")
        self.until("the guestbook is up", 20, self.upstate.is_well)
        self.screen.line(f"http://127.0.0.1:{self.upstate.port}/ is the guestbook; {self.rate} requests a second "
                         "come in from now on, a fifth of them POSTs.")
        self.screen.line()
        self.load = Load(f"127.0.0.1:{self.upstate.port}", self.rate)
        for step in STEPS:
            self.step(step)
        self.total = self.load.tell("quit", "total", 120)
        self.feed = read_feed(self.place, f"http://127.0.0.1:{self.upstate.admin}/feeds/{APP}.atom")

    def problems(self):
        found = [f"{e['name']}: {p}" for e in self.steps for p in e["problems"]]
        total = self.total
        if not total:
            return found + ["it did not come to its end"]
        for key, text in (("not_permitted", "requests failed that may not"), ("wrong", "wrong answers"),
                          ("missing_posts", "acknowledged POSTs are missing from the book"),
                          ("double_posts", "POSTs are in the book twice"),
                          ("strange_posts", "entries in the book were never sent")):
            if total.get(key, 0):
                found.append(f"{total[key]} {text}")
        if not total["verified"]:
            found.append(f"the book could not be read: {total.get('verify_error')}")
        chain = self.upstate.api("/v1/history/verify")
        if not chain or "records" not in chain:
            found.append(f"the history's chain does not verify: {chain}")
        if not self.feed:
            found.append("newsboat shows no feed")
        return found

    def json(self, problems, seconds):
        total = self.total or {}
        keys = ("requests", "failed", "permitted", "not_permitted", "wrong", "missing_posts", "double_posts",
                "acknowledged_posts", "p50_ms", "p99_ms", "longest_ms", "rate")
        return {"passed": not problems, "problems": problems, "seconds": round(seconds, 1),
                **{key: total.get(key) for key in keys}, "steps": self.steps, "feed": self.feed}


# --- the end ---


def read_feed(place, url):
    """What newsboat, which knows nothing of us, makes of the feed: (date, title), newest first."""
    home = place / "newsboat"
    home.mkdir(exist_ok=True)
    (home / "urls").write_text(url + "\n")
    (home / "config").write_text("")
    subprocess.run(["newsboat", "-C", home / "config", "-u", home / "urls", "-c", home / "cache.db", "-x", "reload"],
                   env={**os.environ, "HOME": str(home)}, timeout=60, capture_output=True, check=False)
    if not (home / "cache.db").exists():
        return []
    with sqlite3.connect(home / "cache.db") as db:
        rows = db.execute("SELECT pubDate, title FROM rss_item ORDER BY pubDate DESC, id DESC").fetchall()
    return [{"time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(at)), "title": title} for at, title in rows]


def table(steps):
    head = ("step", "outcome", "requests", "Upstate", "failed", "Upstate", "permitted", "held", "retried", "p50 ms",
            "p99 ms", "longest", "agree")
    rows = [head]
    for e in steps:
        told = e["upstate"]
        cells = (e["name"], e["outcome"], f"{e['requests']:,}", told["requests"], e["failed"], told["failed"],
                 e["permitted"], e["held"], e["retried"], f"{e['p50_ms']:.1f}", f"{e['p99_ms']:.1f}",
                 f"{e['longest_ms']:.0f}", "yes" if e["agree"] else "NO")
        rows.append(tuple("-" if c is None else str(c) for c in cells))
    widths = [max(len(r[i]) for r in rows) for i in range(len(head))]
    return ["  ".join(c.ljust(w) if i < 2 else c.rjust(w) for i, (c, w) in enumerate(zip(r, widths))).rstrip()
            for r in rows]


def report(demo, problems, options, seconds):
    line = demo.screen.line
    line()
    line("What the client saw, beside what Upstate says of it:")
    line()
    for row in table(demo.steps):
        line("  " + row)
    if demo.feed:
        line()
        line(f"The feed as newsboat shows it ({len(demo.feed)} articles):")
        line()
        for item in demo.feed[:16]:
            line(f"  {item['time'][11:19]}  {item['title']}")
    if demo.total:
        t = demo.total
        line()
        line(f"{t['requests']:,} requests in {seconds:.0f} s: {t['failed']} failed, {t['permitted']} of them permitted by a kill, "
             f"{t['wrong']} wrong. {t.get('acknowledged_posts', 0):,} POSTs were acknowledged: "
             f"{t.get('missing_posts', '?')} missing, {t.get('double_posts', '?')} twice.")
    for text in problems:
        line(f"{demo.screen.paint('1;31', 'FAILED')}: {text}")
    line(f"All numbers: {options.out}")
    if options.stay:
        line()
        line(f"Guestbook   http://127.0.0.1:{demo.upstate.port}/")
        line(f"Status      http://127.0.0.1:{demo.upstate.admin}/")
        line(f"Feed        http://127.0.0.1:{demo.upstate.admin}/feeds/{APP}.atom")
        line(f"Commands    build/upstate status --state {demo.upstate.state}")
        line(f"It goes on until: kill {demo.upstate.process.pid}")
    else:
        line("The status page was at http://127.0.0.1:%d/; './do demo --stay' leaves all of it running."
             % demo.upstate.admin)


def play(demo):
    """The problems that were found, the end of the play among them when it came too early."""
    try:
        demo.run()
        return demo.problems()
    except Failed as e:
        return demo.problems() + [str(e)]
    except KeyboardInterrupt:
        return demo.problems() + ["interrupted"]


def serve_until_interrupted(demo):
    """--run: the guestbook, and no load."""
    line = demo.screen.line
    demo.upstate.start()
    demo.upstate.change("deploy", demo.release("v1"), why="the first version", tick=demo.tick)
    state, command = demo.upstate.state, demo.upstate.binary.relative_to(ROOT)
    line(f"Guestbook   http://127.0.0.1:{demo.upstate.port}/")
    line(f"Status      http://127.0.0.1:{demo.upstate.admin}/")
    line(f"Next        {command} deploy {APP} {demo.release('v2')} --why 'green is calmer' --state {state}")
    line(f"And back    {command} rollback {APP} --why 'not that green' --state {state}")
    line("Ctrl-C ends it.")
    try:
        demo.upstate.process.wait()
    except KeyboardInterrupt:
        line()


def main():
    parser = argparse.ArgumentParser(description="a guestbook under load is deployed, rolled back, broken and killed")
    parser.add_argument("--run", action="store_true", help="only serve the guestbook, until Ctrl-C")
    parser.add_argument("--stay", action="store_true", help="leave it running at the end")
    parser.add_argument("--rate", type=int, default=RATE, help="requests a second")
    parser.add_argument("--out", type=pathlib.Path, default=ROOT / "build" / "demo.json")
    options = parser.parse_args()
    place = pathlib.Path(tempfile.mkdtemp(prefix="upstate-demo-"))
    place.chmod(0o755)  # as root, instances run as users of their own
    begun = time.monotonic()
    demo = Demo(place, options)
    problems = [] if options.run else ["it did not begin"]
    try:
        if options.run:
            serve_until_interrupted(demo)
            return 0
        problems = play(demo)
        seconds = time.monotonic() - begun
        options.out.write_text(json.dumps(demo.json(problems, seconds), indent=1) + "\n")
        report(demo, problems, options, seconds)
    finally:
        if demo.load:
            demo.load.stop()
        if not options.stay:
            demo.upstate.stop()
            if problems:
                print(f"What Upstate wrote is kept in {place}")
            else:
                shutil.rmtree(place, ignore_errors=True)
    return 1 if problems else 0


if __name__ == "__main__":
    sys.exit(main())
