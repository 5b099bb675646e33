# SPDX-License-Identifier: Apache-2.0
"""upstate top against canned numbers, in a pipe and in a terminal."""
import fcntl
import json
import os
import pty
import re
import select
import signal
import struct
import subprocess
import termios
import time

import pytest

from test_cli_client import UPSTATE, world  # noqa: F401 (a fixture)

BUCKETS = [32] + [(5 + (i - 1) % 4) << ((i - 1) // 4 + 3) for i in range(1, 120)]


def numbers(step):
    """Two seconds between steps: 200 requests, 4 of them failed, 2 retried; 100 took under 64 us, 4 took 12 ms."""
    def row(share, **more):
        n = step * share
        return dict({"status": "good", "reason": "all 2 serve", "release": "shop@3",
                     "counts": {"requests": 1000 + 200 * n, "failed_502": 1 + 3 * n, "failed_504": 7 + n,
                                "retried_safe": 2 * n},
                     "now": {"inflight": 5 * share, "waiting": 3, "connections": 6 * ("app" in more)},
                     "latency_us": 1000 + n, "latency": [[3, 50], [4, 100 * n], [34, 4 * n]]}, **more)

    return {"now_us": 5_000_000 + 2_000_000 * step, "buckets_us": BUCKETS,
            "apps": [row(1, name="shop", held=False), row(2, name="blog", held=True, status="bad", reason="held")],
            "targets": [row(1, app="shop", name="shop@3/1", use="serve", state="running"),
                        row(0, app="shop", name="shop@3/2", use="drain", state="running")]}


def serve(world, last=10 ** 9):
    steps = iter(range(10 ** 9))
    world.on("GET", "/v1/numbers", lambda handler, body: (200, numbers(min(next(steps), last))))


def test_rates_are_differences_over_the_time_between(world):
    serve(world)
    got = json.loads(world.run("top", "--json").stdout)
    assert got["seconds"] == 2.0
    blog, shop = got["apps"]  # the one with more requests first
    assert (blog["name"], shop["name"]) == ("blog", "shop")
    assert (shop["requests_per_s"], shop["failed_per_s"], shop["retried_per_s"]) == (100.0, 2.0, 1.0)
    assert (shop["p50_ms"], shop["p99_ms"]) == (BUCKETS[4] / 1000, BUCKETS[34] / 1000)
    assert (shop["inside"], shop["waiting"], shop["held"], shop["release"]) == (5, 3, False, "shop@3")
    assert blog["held"] is True and blog["connections"] == 0 and blog["targets"] == []
    one, two = shop["targets"]
    assert (one["name"], one["requests_per_s"], one["use"]) == ("shop@3/1", 100.0, "serve")
    assert (two["requests_per_s"], two["p50_ms"], two["p99_ms"], two["use"]) == (0.0, None, None, "drain")
    assert shop["connections"] == 12  # those of its targets


def test_a_pipe_gets_one_plain_table(world):
    serve(world)
    for words in (["top"], ["top", "--once"]):
        out = world.run(*words).stdout
        assert "\033" not in out
        lines = [re.split(r"\s{1,}", line) for line in out.splitlines()]
        assert lines[0] == ["NAME", "STATUS", "REQ/S", "P50", "P99", "FAIL/S", "RETRY/S", "HELD", "INSIDE", "CONNS",
                            "RELEASE", "REMARK"]
        shop = next(line for line in lines if line[0] == "shop")
        assert shop[:11] == ["shop", "good", "100", "0.1ms", "12ms", "2.0", "1.0", "3", "5", "12", "shop@3"]
        assert next(line for line in lines if line[0] == "blog")[1] == "held"
        assert next(line for line in lines if line[1:2] == ["shop@3/2"])[2] == "drain"


def test_after_a_new_keeper_nothing_is_said_of_the_interval(world):
    answers = [numbers(5), numbers(0)]
    answers[1]["now_us"] = answers[0]["now_us"] + 1_000_000
    world.on("GET", "/v1/numbers", lambda handler, body: (200, answers.pop(0)))
    shop = next(a for a in json.loads(world.run("top", "--json").stdout)["apps"] if a["name"] == "shop")
    assert shop["requests_per_s"] is None and shop["p99_ms"] is None and shop["inside"] == 5


def test_an_app_that_is_not_there_is_an_error(world):
    world.on("GET", "/v1/numbers", 404, {"error": {"code": "NOT_FOUND", "message": "no app 'x'", "exit": 2}})
    done = world.run("top", "x")
    assert done.returncode == 2 and done.stderr == "upstate: no app 'x'\n" and done.stdout == ""


class Terminal:
    def __init__(self, world, width=80, height=24, **env):
        self.master, slave = pty.openpty()
        self.size(width, height, slave)
        self.before = termios.tcgetattr(slave)
        self.proc = subprocess.Popen([UPSTATE, "top", "--state", world.dir], stdin=slave, stdout=slave, stderr=slave,
                                     env=dict(world.env, TERM="xterm", **env), start_new_session=True)
        self.slave, self.text = slave, ""

    def size(self, width, height, fd=None):
        fcntl.ioctl(fd or self.master, termios.TIOCSWINSZ, struct.pack("HHHH", height, width, 0, 0))

    def read(self):
        while select.select([self.master], [], [], 0.05)[0]:
            self.text += os.read(self.master, 65536).decode()

    def frame(self):
        """The last whole screen, as lines without codes."""
        self.read()
        frames = re.findall(r"\033\[H(.*?)\033\[J", self.text, re.S)
        return re.sub(r"\033\[[0-9;?]*[a-zA-Z]", "", frames[-1]).split("\r\n") if frames else []

    def until(self, what):
        end = time.monotonic() + 20
        while not what(self.frame()):
            assert time.monotonic() < end, self.frame()
        return self.frame()

    def press(self, keys):
        os.write(self.master, keys.encode())

    def end(self):
        code = self.proc.wait(20)
        self.read()
        restored = termios.tcgetattr(self.slave) == self.before
        os.close(self.master), os.close(self.slave)
        return code, restored


def has_rates(frame):
    return any(line.startswith("shop ") and " 100 " in line for line in frame)


@pytest.mark.parametrize("width,height", [(80, 24), (200, 50), (40, 6)])
def test_a_screen_fits_whatever_its_size(world, width, height):
    serve(world)
    t = Terminal(world, width, height)
    t.until(lambda frame: any(line.startswith("blog") for line in frame))
    frame = t.until(lambda frame: " 200 " in "".join(frame))
    assert len(frame) == height and max(map(len, frame)) <= width
    assert frame[1].startswith("NAME") and ("RELEASE" in frame[1]) == (width == 200)
    t.press("q")
    assert t.end() == (0, True)


def test_keys_sort_filter_pause_and_end(world):
    serve(world)
    t = Terminal(world)
    t.until(has_rates)
    assert t.frame()[2].startswith("blog")
    t.press("n/sh")
    t.until(lambda frame: "filter: sh_" in frame[0] and frame[2].startswith("blog") is False)
    t.press("op\n")
    frame = t.until(lambda frame: "filter: shop" in frame[0] and "_" not in frame[0])
    assert [line.split()[0] for line in frame[2:5]] == ["shop", "shop@3/1", "shop@3/2"]
    t.press("t")
    t.until(lambda frame: not any("shop@3/1" in line for line in frame))
    t.press(" ")
    t.until(lambda frame: "PAUSED" in frame[0])
    asked = len(world.asked("GET", "/v1/numbers"))
    t.press("/\033")
    t.until(lambda frame: any(line.startswith("blog") for line in frame))
    assert len(world.asked("GET", "/v1/numbers")) <= asked + 1
    t.press("q")
    assert t.end() == (0, True)


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_the_terminal_as_it_was(world, signum):
    serve(world)
    t = Terminal(world)
    t.until(has_rates)
    assert "\033[?1049h" in t.text and "\033[?25l" in t.text
    t.proc.send_signal(signum)
    assert t.end() == (0, True)
    assert t.text.endswith("\033[?25h\033[?1049l")


def test_a_new_size_is_taken_up_at_once(world):
    serve(world)
    t = Terminal(world)
    t.until(has_rates)
    t.size(60, 10)
    t.proc.send_signal(signal.SIGWINCH)
    t.until(lambda frame: len(frame) == 10 and max(map(len, frame)) <= 60)
    t.press("q")
    assert t.end() == (0, True)


def test_colours_are_for_terminals_that_want_them(world):
    serve(world)
    for env, wanted in (({}, True), ({"NO_COLOR": "1"}, False)):
        t = Terminal(world, **env)
        t.until(has_rates)
        assert ("\033[32m" in t.text) == wanted
        t.press("q")
        assert t.end() == (0, True)


def test_old_numbers_are_said_to_be_old(world):
    calls = []

    def answer(handler, body):
        calls.append(1)
        if len(calls) == 3:
            return 500, {"error": {"code": "SYS", "message": "the disk is gone", "exit": 1}}
        return 200, numbers(len(calls))

    world.on("GET", "/v1/numbers", answer)
    t = Terminal(world)
    t.until(lambda frame: frame and frame[0].startswith("OLD: the disk is gone"))
    t.until(lambda frame: not frame[0].startswith("OLD"))
    t.press("q")
    assert t.end() == (0, True)


def test_names_cannot_command_the_terminal(world):
    n = numbers(0)
    n["apps"][0]["name"] = "a\033[2Jb"
    world.on("GET", "/v1/numbers", 200, n)
    out = world.run("top").stdout
    assert "\033" not in out and "a [2Jb" in out
