# SPDX-License-Identifier: Apache-2.0
"""Plugins, Debian's and hostile ones; and checks that are waited for."""

import json
import os
import pathlib
import re
import signal
import time

import pytest

from test_watch import config, device, feed, is_now, new_pid, page, talker  # noqa: F401
from upstate import free_port, wait_for
from watched import devices

SECRET = "s3cret-0123456789"


@pytest.fixture
def plugin(folder):
    """plugin(script) -> a command; the script may name its own folder as $HERE."""
    folder.joinpath("plugins").mkdir()
    folder.joinpath("plugins").chmod(0o777)

    def make(name, text):
        path = folder / "plugins" / name
        path.write_text("#!/bin/sh\nHERE=" + str(path.parent) + "\n" + text)
        path.chmod(0o755)
        return {"plugin": str(path)}

    return make


def running(word):
    """Processes with this in their command line."""
    found = []
    for p in pathlib.Path("/proc").glob("[0-9]*/cmdline"):
        try:
            if word.encode() in p.read_bytes():
                found.append(int(p.parent.name))
        except OSError:
            pass
    return found


def test_monitoring_plugins_of_debian(serve, page, talker):
    p, t, gone = page(), talker(b"hi"), free_port()
    u = serve(config({
        "tcp": device({"plugin": f"check_tcp -H 127.0.0.1 -p {t.port}"}, every="300ms"),
        "http": device({"plugin": f"check_http -H 127.0.0.1 -p {p.port} -w 5 -c 9", "ugly": "> 5s"}, every="300ms"),
        "closed": device({"plugin": f"check_tcp -H 127.0.0.1 -p {gone}"}, every="300ms"),
        "wrong": device({"plugin": "check_tcp --no-such"}, every="300ms"),
        "none": device({"plugin": "check_that_is_not_there"}, every="300ms"),
    }))
    is_now(u, "tcp", "good", "TCP OK")
    is_now(u, "http", "good", "HTTP OK")
    is_now(u, "closed", "ugly", "Connection refused")
    is_now(u, "wrong", "unknown")
    is_now(u, "none", "unknown", "cannot be run")
    assert re.fullmatch(r"[\d.e-]+ ms", devices(u)["tcp"]["checks"][0]["value"])
    p.status = 500
    is_now(u, "http", "ugly", "500")


@pytest.mark.parametrize("script, word, reason", [
    ("echo 'fine | a=3'; exit 0", "good", "fine"),
    ("echo slow; exit 1", "bad", "slow"),
    ("echo broken; exit 2", "ugly", "broken"),
    ("echo who knows; exit 3", "unknown", "who knows"),
    ("echo odd; exit 4", "unknown", "the program ended with status 4: odd"),
    ("exit 0", "good", "it printed nothing"),
    ("kill -SEGV $$", "unknown", "the program was killed by signal 11 (SEGV)"),
    (r"printf 'a\001\033[31m <b>x</b>\tb\nsecond'", "good", "a [31m x b"),
    ("yes | head -c 100000", "unknown", "the program printed more than 64 KiB, and was ended"),
])
def test_what_a_plugin_says(serve, plugin, script, word, reason):
    u = serve(config({"x": device(plugin("x", script))}))
    assert is_now(u, "x", word, reason) == reason


def test_the_first_number_is_compared(serve, plugin):
    u = serve(config({"x": device({**plugin("x", "echo 'ok | load=1.5;;'"), "bad": "> 1"}),
                      "y": device({**plugin("y", "echo 'ok | time=2s;;'"), "bad": "> 500ms", "ugly": "> 1s"})}))
    assert is_now(u, "x", "bad") == "ok: 1.5 > 1"
    assert is_now(u, "y", "ugly") == "ok: 2000 ms > 1s"


def test_stuck_plugins_hurt_no_other_check_and_end_with_all_that_they_started(serve, plugin, page):
    p = page()
    mark = f"777{os.getpid()}"
    hang = plugin("hang", f"sleep {mark} & sleep {mark}")
    leaves = plugin("leaves", f"setsid sleep {mark} >/dev/null 2>&1 & sleep {mark} & echo left; exit 0")
    floods = plugin("floods", "exec yes")  # for ever
    many = {f"hang-{i}": device(hang, timeout="1s") for i in range(70)}  # more than there are places
    u = serve(config({**many, "floods": device(floods, timeout="2s"), "leaves": device(leaves), "web": device({"http": p.url()})}))
    is_now(u, "web", "good")
    seen = len(p.seen)
    wait_for(lambda: len(p.seen) > seen + 10, "measured on, meanwhile")
    is_now(u, "hang-0", "ugly", "running the program: not done within 1.0 s")
    is_now(u, "hang-69", "ugly", "running the program: not done within 1.0 s")
    is_now(u, "floods", "unknown", "more than 64 KiB")
    is_now(u, "leaves", "good", "left")
    assert u.api("GET", "/v1/limits")[0] == 200
    u.configure(config({"web": device({"http": p.url()})}))
    wait_for(lambda: set(devices(u)) == {"web"}, "only one is left")
    wait_for(lambda: not running(mark), "nothing of them runs")
    is_now(u, "web", "good")


def test_a_watcher_that_ends_takes_its_plugins_along(serve, plugin):
    mark = f"778{os.getpid()}"
    u = serve(config({"x": device(plugin("x", f"exec sleep {mark}"), timeout="100s")}))
    wait_for(lambda: running(f"sleep\0{mark}"), "it runs")
    old = u.parts()["watcher"]["pid"]
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: u.parts()["watcher"]["pid"] != old, "another watcher")
    wait_for(lambda: len(running(f"sleep\0{mark}")) == 1, "it runs once")
    u.stop()
    assert not running(f"sleep\0{mark}")


def test_what_a_plugin_finds(serve, plugin, folder):
    out = folder / "plugins" / "seen"
    u = serve(config({"x": device(plugin("x", "env >$HERE/seen.new; id -u >>$HERE/seen.new; ls -l /proc/self/fd >>$HERE/seen.new; "
                                               "mv $HERE/seen.new $HERE/seen; echo ok"))}), env={"MY_SECRET": "x"})
    is_now(u, "x", "good")
    text = out.read_text()
    assert "MY_SECRET" not in text and "PATH=/usr/lib/nagios/plugins:" in text
    if os.geteuid() == 0:
        assert "\n64997\n" in text
    assert not re.search(r"socket:|memfd|eventfd", text), text


# --- push ---


def test_who_is_waited_for(serve):
    u = serve(config({"job": device({"push": "1s"})}, shop=["job"]))
    assert is_now(u, "job", "unknown") == "not measured yet"
    assert "no beat within 1s; the last one came never" in is_now(u, "job", "ugly")
    answer = json.loads(u.cli("beat", "job", "--value", "3", "--took", "20.5", "--json").stdout)
    assert answer["status"] == "good"
    is_now(u, "job", "good", "beats")
    assert devices(u)["job"]["checks"][0]["value"] == "3"
    is_now(u, "job", "ugly", "the last one came 20")
    wait_for(lambda: feed(u, "shop")["job"].startswith("UGLY"), "an article")


def test_a_beat_is_judged_by_its_value(serve):
    u = serve(config({"job": device({"push": "1h", "name": "rows", "bad": "< 10", "ugly": "= 0"}, {"push": "1h", "name": "size"})}))
    assert "give the name of one" in u.cli("beat", "job", ok=False).stderr
    u.cli("beat", "job", "size")
    u.cli("beat", "job", "rows", "--value", "12")
    is_now(u, "job", "good")
    u.cli("beat", "job", "rows", "--value", "9")
    assert is_now(u, "job", "bad") == "rows: 9 < 10"
    u.cli("beat", "job", "rows", "--value", "0")
    assert is_now(u, "job", "ugly") == "rows: 0 = 0"
    for words, part in ((("nobody",), "no device 'nobody'"), (("job", "x"), "has no push check 'x'"),
                        (("job", "rows", "--value", "x"), "'x' is no number")):
        assert part in u.cli("beat", *words, ok=False).stderr


def test_over_the_network_a_beat_needs_a_secret(serve):
    u = serve(config({"job": device({"push": "1h", "secret": SECRET}), "other": device({"push": "1h"})}))
    token = (u.state / "token").read_text()

    def beat(path, **more):
        return u.get(path, port=u.admin, method="POST", **more)[0]

    assert beat("/v1/beat/job") == 403
    assert beat("/v1/beat/job?secret=" + SECRET[:-1] + "x") == 403
    assert beat("/v1/beat/other?secret=" + SECRET) == 403
    assert beat("/v1/beat/none?secret=" + SECRET) == 403, "who knows nothing learns nothing"
    assert beat("/v1/beat/job?secret=" + SECRET) == 200
    assert beat("/v1/beat/other", headers={"Authorization": "Bearer " + token}) == 200
    assert beat("/v1/beat/job?secret=" + SECRET, body='{"value": "x"}') == 400
    assert beat("/v1/beat/job?secret=" + SECRET, body='{"value": 1e999}') == 400
    is_now(u, "job", "good")
    is_now(u, "other", "good")


def test_a_beat_that_was_answered_is_remembered(serve):
    u = serve(config({"job": device({"push": "3s"})}))
    u.cli("beat", "job")
    began = time.monotonic()
    old = u.parts()["controller"]["pid"]
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: u.is_ready() and u.parts()["controller"]["pid"] != old, "another controller")
    is_now(u, "job", "ugly", "the last one came 20")
    assert time.monotonic() - began >= 2.5, "the time went on; it neither began anew nor was it over at once"
