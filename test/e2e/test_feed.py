# SPDX-License-Identifier: Apache-2.0
"""The feeds, as newsboat reads them, which knows nothing of Upstate; and as bytes."""

import gzip
import json
import os
import re
import signal
import sqlite3
import subprocess
import time
import urllib.parse
import xml.etree.ElementTree as xml

import pytest

import apps
from load import assert_no_failure, load
from upstate import free_port, wait_for

# A probe that hangs is noticed soon. {dead} is a port at which nobody listens.
CONFIG = apps.CONFIG.replace("every: 200ms", "every: 100ms, timeout: 200ms, fall: 2").replace("run: ", "run: exec ") + """
  legacy:
    hosts: [old.localhost]
    targets: ["127.0.0.1:{dead}"]
    health: { every: 100ms }
"""
ATOM = "{http://www.w3.org/2005/Atom}"
DEVICES = ["web", "web/1", "web/2", "upstate/keeper", "upstate/router", "upstate/controller", "upstate/logger",
           "upstate/watcher"]
KINDS = ["atom", "rss"]


@pytest.fixture
def web(serve, tree):
    """Deployed once, and good."""
    u = serve(CONFIG.replace("{dead}", str(free_port())))
    u.deploy("web", tree("one", apps.files("one")))
    wait_for(lambda: u.app("web")["status"] == "good" and title(u, "web").startswith("GOOD"), "all is good")
    return u


def feed(u, name="web.atom", etag=None):
    """(status, text, ETag)"""
    status, text, headers = u.get(f"/feeds/{name}", port=u.admin, headers={"If-None-Match": etag} if etag else None)
    return status, text, headers.get("ETag")


def entries(u, name="web.atom"):
    """The articles: last part of the id -> (title, date, text)."""
    found = {}
    for e in xml.fromstring(feed(u, name)[1]).iter(ATOM + "entry"):
        id_ = urllib.parse.unquote(e.find(ATOM + "id").text.split(":", 2)[2].split("/", 1)[1])
        assert id_ not in found
        found[id_] = tuple(e.find(ATOM + key).text for key in ("title", "updated", "content"))
    return found


def title(u, device, name="web.atom"):
    return entries(u, name).get(device, [""])[0]


class Newsboat:
    """A reader with its own folder; read() fetches, and returns its articles by guid."""

    def __init__(self, folder, url):
        self.home = folder / "newsboat"
        self.home.mkdir()
        (self.home / "urls").write_text(url + "\n")
        (self.home / "config").write_text(f"reset-unread-on-update \"{url}\"\n")

    def run(self, *args):
        done = subprocess.run(
            ["newsboat", "-C", self.home / "config", "-u", self.home / "urls", "-c", self.home / "cache.db", *args],
            env={**os.environ, "HOME": str(self.home)}, capture_output=True, text=True, timeout=60)
        assert done.returncode == 0, (done.stdout, done.stderr)
        return done.stdout

    def read(self):
        self.run("-x", "reload")
        db = sqlite3.connect(self.home / "cache.db")
        try:
            rows = db.execute("SELECT guid, title, url, pubDate, content, unread FROM rss_item").fetchall()
        finally:
            db.close()
        keys = ("title", "url", "date", "content", "unread")
        return {guid.split(":", 2)[2].split("/", 1)[1]: dict(zip(keys, rest)) for guid, *rest in rows}

    def mark_all_read(self):
        db = sqlite3.connect(self.home / "cache.db")
        with db:
            db.execute("UPDATE rss_item SET unread = 0")
        db.close()


@pytest.fixture
def newsboat(folder):
    return lambda u, kind="atom": Newsboat(folder, f"http://127.0.0.1:{u.admin}/feeds/web.{kind}")


@pytest.mark.parametrize("kind", KINDS)
def test_newsboat_shows_an_article_for_each_device_and_change(web, newsboat, kind):
    seen = newsboat(web, kind).read()
    assert set(DEVICES) <= set(seen)
    for device in DEVICES:
        assert re.match(rf"GOOD {device}: \S.*, since \d\d:\d\d UTC(, was (BAD|UGLY) for .*)?$", seen[device]["title"]), seen[device]
        assert device in seen[device]["content"] and "status" in seen[device]["content"]
    assert "deploy" in seen["1"]["title"] and "web@1" in seen["1"]["title"]
    assert "0 of 0 requests failed" in seen["1"]["title"]
    for article in seen.values():
        assert abs(article["date"] - time.time()) < 60
        status, page, _ = web.get(article["url"].split(str(web.admin), 1)[1], port=web.admin)
        assert status == 200 and "<html" in page


def test_newsboat_shows_a_change_of_status_as_news_and_nothing_else(web, newsboat):
    reader = newsboat(web)
    before = reader.read()
    reader.mark_all_read()
    dates = {device: date for device, (_, date, _) in entries(web).items()}
    pid = web.app("web")["instances"][0]["pid"]
    os.kill(pid, signal.SIGSTOP)  # it takes connections and answers nothing
    try:
        wait_for(lambda: title(web, "web/1").startswith("UGLY"), "the hung instance is noticed")
        wait_for(lambda: title(web, "web").startswith("BAD"), "the app works, but worse than it should")
        seen = reader.read()
        assert seen["web/1"]["title"].startswith("UGLY web/1: ") and seen["web"]["title"].startswith("BAD web: ")
        assert {d for d, article in seen.items() if article["unread"]} == {"web", "web/1"}
        assert set(seen) == set(before)  # the same articles, published again
        now = {device: date for device, (_, date, _) in entries(web).items()}
        assert {d for d in now if now[d] != dates[d]} == {"web", "web/1"}
        assert now["web"] > dates["web"] and now["web/1"] > dates["web/1"]
        reader.mark_all_read()
    finally:
        os.kill(pid, signal.SIGCONT)
    wait_for(lambda: title(web, "web").startswith("GOOD") and title(web, "web/1").startswith("GOOD"), "good again")
    seen = reader.read()
    assert {d for d, article in seen.items() if article["unread"]} == {"web", "web/1"}


def test_an_app_that_answers_nobody_is_ugly_and_says_why(web):
    pids = [i["pid"] for i in web.app("web")["instances"]]
    for pid in pids:
        os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: title(web, "web").startswith("UGLY web: "), "nobody answers")
    finally:
        for pid in pids:
            os.kill(pid, signal.SIGCONT)
    wait_for(lambda: title(web, "web").startswith("GOOD web: "), "all answer")


def test_a_target_that_upstate_does_not_run_has_its_article_too(web):
    target = next(t["name"] for t in web.app("legacy")["targets"])

    def told():
        found = entries(web, "legacy.atom")
        return found.get(f"legacy/{target}", [""])[0].startswith(f"UGLY legacy/{target}: it does not serve: "
                                                                 "Connection refused") \
            and found["legacy"][0].startswith("UGLY legacy: none of 1 serves")

    wait_for(told, "nobody listens there")
    assert f"legacy/{target}" in {e for e in entries(web, "all.atom")}


def test_without_a_change_not_a_byte_moves_under_load(web):
    names = ["web.atom", "web.rss", "web.json", "all.atom", "web.atom?profile=change"]
    # The app without a server becomes ugly on its own time.
    wait_for(lambda: title(web, "legacy", "all.atom").startswith("UGLY"), "all has become what it stays")
    first = {name: feed(web, name) for name in names}
    with load(web.port, path="/same", rate=300) as client:
        client.process.stdin.flush()
        with client.step("watched") as seen:
            for _ in range(15):
                client.more(20)
                for name in names:
                    assert feed(web, name) == first[name]
                    assert feed(web, name, first[name][2])[:2] == (304, "")
    assert seen["requests"] >= 300
    for name in names:
        assert feed(web, name, '"another"')[:2] == first[name][:2]


def test_a_change_makes_a_new_etag(web):
    etag = feed(web)[2]
    pid = web.parts()["logger"]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: feed(web, etag=etag)[0] == 200, "the feed is another one")
    wait_for(lambda: title(web, "upstate/logger").startswith("GOOD"), "a new logger runs")
    assert feed(web)[2] != etag


def test_what_went_wrong_and_right_again_between_two_looks_is_told(web):
    pid = web.app("web")["instances"][0]["pid"]
    by_change = set(entries(web, "web.atom?profile=change"))
    os.kill(pid, signal.SIGSTOP)
    try:
        wait_for(lambda: title(web, "web/1").startswith("UGLY"), "the hung instance is noticed")
    finally:
        os.kill(pid, signal.SIGCONT)
    told = wait_for(lambda: title(web, "web/1").startswith("GOOD") and entries(web)["web/1"], "it is good again")
    assert re.search(r", was UGLY for \d", told[0])
    assert re.search(r"\nbefore:\n\S+ ugly    \S", told[2])
    # For readers that ignore updates each of these was an article of its own.
    new = [e for e in entries(web, "web.atom?profile=change") if e.startswith("web/1#")]
    assert len(new) == 1 and new[0] not in by_change
    status, page, _ = web.get("/devices/web/1", port=web.admin)
    assert status == 200 and f'<tr id="{new[0].split("#")[1]}">' in page


def test_json_feed_tells_the_same(web):
    status, text, headers = web.get("/feeds/web.json", port=web.admin)
    assert status == 200 and headers["Content-Type"].startswith("application/feed+json")
    f = json.loads(text)
    assert f["version"] == "https://jsonfeed.org/version/1.1"
    items = {urllib.parse.unquote(i["id"].split(":", 2)[2].split("/", 1)[1]): i for i in f["items"]}
    atom = entries(web)
    assert {(k, i["title"], i["date_modified"], i["content_html"]) for k, i in items.items()} == \
        {(k, *v) for k, v in atom.items()}


def test_it_is_compressed_for_whom_asks(web):
    url = f"http://127.0.0.1:{web.admin}/feeds/web.atom"

    def ask(*more):
        done = subprocess.run(["curl", "-sS", "-D", "-", *more, url], capture_output=True, check=True)
        head, _, body = done.stdout.partition(b"\r\n\r\n")
        return head.decode(), body

    head, plain = ask()
    assert "content-encoding" not in head.lower() and "Vary: Accept-Encoding" in head
    head, small = ask("-H", "Accept-Encoding: br;q=1.0, gzip;q=0.8")
    assert "Content-Encoding: gzip" in head and len(small) < len(plain) / 2
    assert gzip.decompress(small) == plain
    tag = re.search(r'ETag: ("[0-9a-f]{64}-gzip")', head)[1]
    assert " 304 " in ask("-H", "Accept-Encoding: gzip", "-H", f"If-None-Match: {tag}")[0]
    assert "content-encoding" not in ask("-H", "Accept-Encoding: gzip;q=0")[0].lower()


def test_a_new_controller_tells_the_same(web):
    before = entries(web)
    pid = web.parts()["controller"]["pid"]
    os.kill(pid, signal.SIGKILL)
    wait_for(lambda: web.parts()["controller"]["pid"] != pid, "a new controller runs")
    wait_for(lambda: title(web, "upstate/controller") != before["upstate/controller"][0], "that is told")
    after = entries(web)
    assert {k: v for k, v in after.items() if k != "upstate/controller"} == \
        {k: v for k, v in before.items() if k != "upstate/controller"}


@pytest.mark.parametrize("name,status", [("web.xml", 404), ("nobody.atom", 404), ("web.atom?profile=x", 400)])
def test_a_feed_that_is_not_there_says_which_are(web, name, status):
    answer = feed(web, name)
    assert answer[0] == status and "message" in json.loads(answer[1])["error"]


def test_deploys_and_rollbacks_stand_in_it_with_their_receipts(web, tree, newsboat):
    with load(web.port, path="/same", rate=100) as client:
        with client.step("changes") as seen:
            two = web.deploy("web", tree("two", apps.files("two")), why="two is better")
            back = json.loads(web.cli("rollback", "web", "--why", "it is not", "--json").stdout)
    assert_no_failure(seen, at_least=20)
    sick = web.cli("deploy", "web", tree("sick", apps.files("sick", crash=0)), "--why", "x", "--json", ok=False)
    assert sick.returncode == 4, sick.stderr
    wait_for(lambda: "4" in entries(web) or len(entries(web)) >= len(DEVICES) + 4, "all are told")
    seen = newsboat(web).read()
    for change, kind, why in ((two, "deploy", "two is better"), (back, "rollback", "it is not")):
        article = seen[str(change["change"])]
        assert kind in article["title"] and change["to"] in article["title"] and "done" in article["title"]
        assert f"0 of {change['requests']} requests failed" in article["title"]
        assert why in article["content"] and f"{change['requests']} requests" in article["content"]
    assert "undone" in seen[str(json.loads(sick.stdout)["change"])]["title"]


@pytest.mark.parametrize("kind", KINDS)
def test_it_is_well_formed_whatever_people_write(web, tree, folder, kind):
    why = "a <b>&amp; ]]> \x01\x1b[31m \u2028 \u00e9 \U0001F600 " + "long " * 200
    web.deploy("web", tree("two", apps.files("two")), why=why)
    text = wait_for(lambda: "web@2" in feed(web, f"web.{kind}")[1] and feed(web, f"web.{kind}")[1], "it is told")
    path = folder / "feed.xml"
    path.write_text(text)
    done = subprocess.run(["xmllint", "--noout", path], capture_output=True, text=True)
    assert done.returncode == 0, done.stderr
    assert "a &lt;b>&amp;amp; ]]" in "".join(xml.fromstring(text).itertext())
