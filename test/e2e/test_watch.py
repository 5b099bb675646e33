# SPDX-License-Identifier: Apache-2.0
"""Devices and their checks: the whole way from a partner that changes to the feed of the app that needs it."""

import json
import os
import re
import signal
import xml.etree.ElementTree as xml

import pytest

import upstate
from upstate import free_port, wait_for
from watched import Page, Talker, as_yaml, devices, status

ATOM = "{http://www.w3.org/2005/Atom}"
APPS = """
listen: [{http: "127.0.0.1:{port}"}]
admin: {http: "127.0.0.1:{admin}"}
apps:
  shop: { hosts: [shop.localhost], targets: ["127.0.0.1:1"], health: {every: 60s}, needs: SHOP }
  blog: { hosts: [blog.localhost], targets: ["127.0.0.1:1"], health: {every: 60s}, needs: BLOG }
"""


def config(devices_, shop=(), blog=()):
    def needs(names):
        return json.dumps(list(names))

    text = APPS
    text = text.replace(", needs: SHOP", f", needs: {needs(shop)}" if shop else "")
    text = text.replace(", needs: BLOG", f", needs: {needs(blog)}" if blog else "")
    return text + "devices: " + as_yaml(devices_) + "\n"


@pytest.fixture
def page():
    made = []

    def make(**more):
        made.append(Page(**more))
        return made[-1]

    yield make
    for p in made:
        p.close()


@pytest.fixture
def talker():
    made = []

    def make(*args, **more):
        made.append(Talker(*args, **more))
        return made[-1]

    yield make
    for t in made:
        t.close()


def device(*checks, **more):
    return {"every": "100ms", "timeout": "2s", "fall": 1, "checks": list(checks), **more}


def is_now(u, name, word, part=""):
    got = []

    def look():
        got[:] = status(u, name)
        return got[0] == word and part in got[1]

    try:
        wait_for(look, "")
    except AssertionError:
        raise AssertionError(f"{name} is {got}, not {word} with '{part}'; {u.log.read_text()[-2000:]}") from None
    return got[1]


def feed(u, name):
    """The articles of a feed: id -> title."""
    _, text, _ = u.get(f"/feeds/{name}.atom", port=u.admin)
    return {e.find(ATOM + "id").text.split("/", 1)[1]: e.find(ATOM + "title").text
            for e in xml.fromstring(text).iter(ATOM + "entry")}


# --- statuses ---


def test_a_page_goes_bad_and_good_again_and_the_feed_says_so(serve, page):
    p = page()
    u = serve(config({"web": device({"http": p.url(), "bad": "> 5s"}, needs=["switch"]), "switch": device(), "other": device({"http": p.url()})},
                     shop=["web"]).replace('"checks": []', '"at": "rack 3"'))
    is_now(u, "web", "good", "HTTP 200")
    assert is_now(u, "switch", "unknown") == "nobody measures it"
    p.status = 500
    assert is_now(u, "web", "ugly") == "HTTP status 500, expected 200-399"
    wait_for(lambda: feed(u, "shop").get("web", "").startswith("UGLY web"), "an article")
    assert "switch" in feed(u, "shop"), "what is needed by what is needed"
    assert "other" not in feed(u, "shop") and "web" not in feed(u, "blog")
    assert {"web", "switch", "other"} <= set(feed(u, "all"))
    p.status = 204
    is_now(u, "web", "good", "HTTP 204")
    wait_for(lambda: feed(u, "shop")["web"].startswith("GOOD"), "another article")
    line = [x for x in u.cli("status").stdout.splitlines() if x.startswith("switch")]
    assert line and "unknown" in line[0] and "rack 3" in line[0]
    assert u.get("/devices/web", port=u.admin)[0] == 200
    text = u.get("/", port=u.admin)[1]
    assert 'href="/devices/web"' in text and "nobody measures it" in text and "rack 3" in text


def test_between_changes_not_a_byte_of_the_feed_moves(serve, page):
    p = page()
    u = serve(config({"web": device({"http": p.url()})}, shop=["web"]))
    is_now(u, "web", "good")
    wait_for(lambda: feed(u, "shop").get("web"), "an article")

    def stays():
        one, seen = u.get("/feeds/shop.atom", port=u.admin)[1], len(p.seen)
        wait_for(lambda: len(p.seen) > seen + 5, "measured again")
        return u.get("/feeds/shop.atom", port=u.admin)[1] == one

    wait_for(stays, "all has been told, and then nothing moves")
    assert stays()


@pytest.mark.parametrize("check, answer, word, reason", [
    ({"status": "200, 404"}, {"status": 404}, "good", "HTTP 404"),
    ({"status": "200"}, {"status": 301}, "ugly", "HTTP status 301, expected 200"),
    ({"text": "hell"}, {}, "good", "HTTP 200"),
    ({"text": "heaven"}, {}, "ugly", "the answer does not have 'heaven'"),
    ({"json": "a.1.b", "is": "x"}, {"body": '{"a": [0, {"b": "x"}]}'}, "good", ""),
    ({"json": "a.1.b", "is": "y"}, {"body": '{"a": [0, {"b": "x"}]}'}, "ugly", "'a.1.b' is 'x', expected 'y'"),
    ({"json": "a.2"}, {"body": '{"a": [0, 1]}'}, "ugly", "the answer has nothing at 'a.2'"),
    ({"json": "a"}, {"body": '{"a": ['}, "ugly", "the answer is no JSON"),
    ({"json": "queue", "bad": "> 10"}, {"body": '{"queue": 11}'}, "bad", "queue: 11 > 10"),
    ({"json": "queue", "bad": "> 10", "ugly": "> 100"}, {"body": '{"queue": 101}'}, "ugly", "queue: 101 > 100"),
    ({"header": "X-Version: 4.2"}, {"headers": {"x-version": "4.2.1"}}, "good", ""),
    ({"header": "X-Version: 4.3"}, {"headers": {"x-version": "4.2.1"}}, "ugly", "field 'X-Version: 4.3' is another"),
    ({"header": "X-Version: 4.3"}, {}, "ugly", "there is no field 'X-Version: 4.3'"),
    ({"redirects": 3}, {"status": 302, "headers": {"Location": "/again"}}, "ugly", "more than 3 redirects"),
    ({"redirects": 1}, {"status": 302, "headers": {"Location": "ftp://x/"}}, "ugly", ""),
    ({"bad": "> 0ms"}, {}, "bad", " > 0ms"),
    ({"text": "x"}, {"body": "y" * (8 << 20) + "x"}, "ugly", "the answer does not have 'x'"),
])
def test_what_an_answer_says(serve, page, check, answer, word, reason):
    p = page(**answer)
    u = serve(config({"web": device({"http": p.url(), **check})}))
    assert reason in is_now(u, "web", word)


def test_how_it_asks(serve, page):
    p = page()
    u = serve(config({"web": device({"http": p.url("/x?y=1"), "method": "HEAD", "headers": {"Host": "shop.example", "X-A": "b"}})}),
              env={"http_proxy": "http://127.0.0.1:1/", "all_proxy": "http://127.0.0.1:1/"})
    is_now(u, "web", "good")
    method, path, fields = p.seen[0]
    assert (method, path, fields["Host"], fields["X-A"]) == ("HEAD", "/x?y=1", "shop.example", "b")
    assert fields["User-Agent"].startswith("Upstate/")


def test_a_name_is_looked_up(serve, page):
    p = page()
    u = serve(config({"web": device({"http": f"http://localhost:{p.port}/"}),
                      "none": device({"tcp": "no-such-host.invalid:80"})}))
    is_now(u, "web", "good")
    assert status(u, "none")[0] in ("unknown", "ugly")


def test_who_does_not_answer_in_time(serve, page):
    p = page()
    p.hold.clear()
    u = serve(config({"web": device({"http": p.url()}, timeout="200ms")}))
    assert is_now(u, "web", "ugly") == "waiting for the answer: not done within 200 ms"
    p.hold.set()
    is_now(u, "web", "good")


def test_tcp(serve, talker):
    t, mute = talker(b"SSH-2.0-x\r\n"), talker()
    echo = talker(b"+PONG\r\n", after=b"PING")
    gone = free_port()
    u = serve(config({
        "open": device({"tcp": f"127.0.0.1:{t.port}"}),
        "expects": device({"tcp": f"127.0.0.1:{t.port}", "expect": "SSH-2.0"}),
        "asks": device({"tcp": f"localhost:{echo.port}", "send": "PING\r\n", "expect": "+PONG"}),
        "other": device({"tcp": f"127.0.0.1:{t.port}", "expect": "220 "}, timeout="300ms"),
        "mute": device({"tcp": f"127.0.0.1:{mute.port}", "expect": "220 "}, timeout="300ms"),
        "closed": device({"tcp": f"127.0.0.1:{gone}"}),
    }))
    for name in ("open", "expects", "asks"):
        is_now(u, name, "good")
    is_now(u, "other", "ugly", "connected, waiting for an answer: not done within 300 ms")
    is_now(u, "mute", "ugly", "connected, waiting for an answer: not done within 300 ms")
    assert is_now(u, "closed", "ugly") == "connecting: Connection refused"


def test_the_worst_check_is_the_device_and_several_in_a_row_are_needed(serve, page):
    p, q = page(), page()
    u = serve(config({"web": device({"http": p.url(), "name": "front"}, {"http": q.url(), "fall": 3})}))
    is_now(u, "web", "good", "front: HTTP 200")
    before, q.status = len(q.seen), 500
    is_now(u, "web", "ugly", "http: HTTP status 500")
    assert len(q.seen) - before >= 2, "one may have been on its way"
    p.status = 501
    is_now(u, "web", "ugly", "front: HTTP status 501")
    q.status = 200
    p.status = 200
    is_now(u, "web", "good")


# --- what dies ---


def new_pid(u, part, old):
    return wait_for(lambda: (pid := u.parts()[part]["pid"]) not in (0, old) and pid, f"a new {part}")


def test_a_killed_watcher_is_started_anew_and_measures_on(serve, page):
    p = page()
    u = serve(config({"web": device({"http": p.url()})}))
    is_now(u, "web", "good")
    old = u.parts()["watcher"]["pid"]
    os.kill(old, signal.SIGKILL)
    p.status = 500
    new_pid(u, "watcher", old)
    is_now(u, "web", "ugly")


def test_a_hung_watcher_is_ended_and_no_device_is_ugly_for_it(serve, page):
    p = page()
    u = serve(config({"web": device({"http": p.url()}, timeout="300ms")}))
    is_now(u, "web", "good")
    old = u.parts()["watcher"]["pid"]
    os.kill(old, signal.SIGSTOP)
    new_pid(u, "watcher", old)
    p.status = 500
    is_now(u, "web", "ugly", "500")
    assert "status device=web status=ugly reason=\"waiting" not in u.log.read_text()


def test_a_stopped_watcher_does_not_blame_the_device(serve, page):
    p = page()
    u = serve(config({"web": device({"http": p.url()}, timeout="1s")}))
    is_now(u, "web", "good")
    p.hold.clear()
    seen = len(p.seen)
    wait_for(lambda: len(p.seen) > seen, "it is being asked")
    pid = u.parts()["watcher"]["pid"]
    os.kill(pid, signal.SIGSTOP)
    seen = len(p.seen)
    began = wait_for(lambda: upstate.time.monotonic(), "")
    wait_for(lambda: upstate.time.monotonic() - began > 4, "it stands still")
    os.kill(pid, signal.SIGCONT)
    assert "stood still" in is_now(u, "web", "unknown")
    p.hold.set()
    is_now(u, "web", "good")


def test_what_changes_while_the_controller_is_dead_is_told_by_the_next_one(serve, page):
    p = page()
    u = serve(config({"web": device({"http": p.url()})}, shop=["web"]))
    is_now(u, "web", "good")
    wait_for(lambda: feed(u, "shop").get("web"), "an article")
    old = u.parts()["controller"]["pid"]
    os.kill(old, signal.SIGSTOP)
    p.status, seen = 500, len(p.seen)
    wait_for(lambda: len(p.seen) > seen + 3, "measured meanwhile")
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: u.is_ready() and u.parts()["controller"]["pid"] != old, "another controller")
    is_now(u, "web", "ugly")
    assert feed(u, "shop")["web"].startswith("UGLY")


def test_a_status_survives_a_controller_and_is_no_news(serve, page):
    p = page(status=500)
    u = serve(config({"web": device({"http": p.url()}, every="1s")}, shop=["web"]))
    is_now(u, "web", "ugly")
    wait_for(lambda: feed(u, "shop").get("web"), "an article")
    one = u.get("/feeds/shop.atom", port=u.admin)[1]
    old = u.parts()["controller"]["pid"]
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: u.is_ready() and u.parts()["controller"]["pid"] != old, "another controller")
    assert status(u, "web")[0] == "ugly", "known before anything was measured"
    seen = len(p.seen)
    wait_for(lambda: len(p.seen) > seen + 1, "measured again")

    def article(text):
        return [xml.tostring(e) for e in xml.fromstring(text).iter(ATOM + "entry") if e.find(ATOM + "id").text.endswith("/web")]

    assert article(u.get("/feeds/shop.atom", port=u.admin)[1]) == article(one)


def test_reload_takes_devices_in_and_out(serve, page):
    p = page()
    first = {"web": device({"http": p.url()})}
    u = serve(config(first, shop=["web"]))
    is_now(u, "web", "good")
    u.configure(config({"web": device({"http": p.url()}), "two": device({"http": p.url("/two")})}, shop=["web", "two"]))
    wait_for(lambda: "two" in devices(u), "the new one")
    is_now(u, "two", "good")
    assert status(u, "web")[0] == "good"
    wait_for(lambda: "two" in feed(u, "shop"), "an article")
    u.configure(config(first, shop=["web"]))
    wait_for(lambda: "two" not in devices(u) and "two" not in feed(u, "shop"), "it is gone")
    wait_for(lambda: any(x[1] == "/" for x in p.seen), "the first goes on")


def test_an_upgrade_replaces_the_watcher_and_measures_on(serve, page):
    p = page()
    u = serve(config({"web": device({"http": p.url()})}))
    is_now(u, "web", "good")
    old = u.parts()["watcher"]["pid"]
    u.cli("upgrade", "--why", "test")
    new_pid(u, "watcher", old)
    p.status = 500
    is_now(u, "web", "ugly")


def test_as_json_and_in_the_limits(serve, page):
    p = page()
    u = serve(config({"web": device({"http": p.url()}, at="rack 3", runbook="https://wiki/web", needs=["a", {"any": ["b", "c"]}]),
                      "a": {}, "b": {}, "c": {}}))
    is_now(u, "web", "good")
    d = {x["name"]: x for x in json.loads(u.cli("status", "--json").stdout)["devices"]}["web"]
    assert d["at"] == "rack 3" and d["runbook"] == "https://wiki/web" and d["needs"] == ["a", {"any": ["b", "c"]}]
    check = d["checks"][0]
    assert check["kind"] == "http" and check["status"] == "good" and check["value"].endswith(" ms")
    limits = {x["name"]: x for x in json.loads(u.cli("limits", "--json").stdout)["limits"]}
    assert limits["devices"]["used"] == 4 and limits["checks"]["used"] == 1
    assert limits["watch.running"]["bound"] == 1000


# --- devices that need one another ---


def test_who_is_behind_a_dead_switch_is_folded_under_it(serve, page, talker):
    switch, pages = talker(), [page() for _ in range(3)]
    kids = {f"web-{i}": device({"http": p.url()}, needs=["switch"]) for i, p in enumerate(pages)}
    u = serve(config({"switch": device({"tcp": f"127.0.0.1:{switch.port}"}, every="1h"), **kids}, shop=list(kids)))
    for name in ["switch", *kids]:
        is_now(u, name, "good") if name != "switch" else wait_for(lambda: status(u, name)[0] == "good", "the switch is good", 90)
    switch.close()
    for p in pages:
        p.status = 500
    # Its own turn is in an hour: it is measured because a child failed.
    is_now(u, "switch", "ugly")
    for name in kids:
        assert is_now(u, name, "ugly", "on account of switch: HTTP status 500")
        assert devices(u)[name]["place"] == "folded" and devices(u)[name]["cause"] == "switch"
        wait_for(lambda: feed(u, "shop").get(name, "").startswith("UGLY"), f"{name} is told")
    assert "status=ugly reason=\"HTTP" not in u.log.read_text(), "none was told on its own account"
    one = u.get("/feeds/shop.atom", port=u.admin)[1]
    old = u.parts()["controller"]["pid"]
    os.kill(old, signal.SIGKILL)
    wait_for(lambda: u.is_ready() and u.parts()["controller"]["pid"] != old, "another controller")
    seen = len(pages[0].seen)
    wait_for(lambda: len(pages[0].seen) > seen + 3, "measured again")
    assert devices(u)["web-1"]["cause"] == "switch"
    articles = re.findall(r"<entry>.*?</entry>", one, re.S)
    for a in [a for a in articles if "/web-" in a]:
        assert a in u.get("/feeds/shop.atom", port=u.admin)[1], "a new controller is no news"


def test_half_of_a_pair_is_bad_though_users_feel_nothing(serve, page, talker):
    a, b, p = talker(), talker(), page()
    u = serve(config({"a": device({"tcp": f"127.0.0.1:{a.port}"}), "b": device({"tcp": f"127.0.0.1:{b.port}"}),
                      "web": device({"http": p.url()}, needs=[{"any": ["a", "b"]}])}))
    for name in ("a", "b", "web"):
        is_now(u, name, "good")
    a.close()
    is_now(u, "a", "ugly")
    assert is_now(u, "web", "bad", "one is down") == "of several that it needs one is down: a"
    b.close()
    is_now(u, "b", "ugly")
    assert devices(u)["web"]["status"] == "bad", "what measures well is not ugly, whatever its parents seem to be"


def test_flapping_is_called_so(serve, page):
    p = page()
    u = serve(config({"web": device({"http": p.url()})}, shop=["web"]))
    is_now(u, "web", "good")
    for i in range(12):
        p.status, seen = 500 if i % 2 == 0 else 200, len(p.seen)
        wait_for(lambda: len(p.seen) > seen + 1, "measured")
    wait_for(lambda: "it flaps" in status(u, "web")[1], "it flaps")
