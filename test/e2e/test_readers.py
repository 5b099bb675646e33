# SPDX-License-Identifier: Apache-2.0
"""What real feed readers show when a device goes good, bad, ugly, good: the table of docs/FEEDS.md."""

import email
import email.policy
import html
import os
import pathlib
import re
import signal
import sqlite3
import subprocess

import feedparser
import pytest

import apps
from upstate import wait_for

CONFIG = apps.CONFIG.replace("every: 200ms", "every: 100ms, timeout: 200ms, fall: 2").replace("run: ", "run: exec ")
SCHEMA = pathlib.Path(__file__).parent / "atom.rnc"


def is_web(id_):
    """The article of the device `web`, in either profile."""
    return re.fullmatch(r"tag:[^:]*:device/web(#\d+)?", id_)


class Reader:
    """look() fetches the feed and returns the titles of `web` that its user is shown as new; titles() all that
    it then shows of it."""

    def __init__(self, folder, url, kind):
        self.home = folder / "home"
        self.home.mkdir()
        self.url = url
        self.start()

    def run(self, *args, **more):
        done = subprocess.run(args, env={**os.environ, "HOME": str(self.home), "XDG_CONFIG_HOME": str(self.home),
                                         "XDG_DATA_HOME": str(self.home), "LC_ALL": "C.UTF-8"},
                              capture_output=True, text=True, timeout=60, **more)
        assert done.returncode == 0, (args, done.stdout, done.stderr)
        return done.stdout


class Newsboat(Reader):
    settings = ""

    def start(self):
        (self.home / "urls").write_text(self.url + "\n")
        (self.home / "config").write_text(self.settings.format(url=self.url))

    def ask(self, sql):
        db = sqlite3.connect(self.home / "cache.db")
        with db:
            rows = db.execute(sql).fetchall()
        db.close()
        return rows

    def look(self):
        self.run("newsboat", "-C", self.home / "config", "-u", self.home / "urls", "-c", self.home / "cache.db",
                 "-x", "reload")
        new = [title for guid, title in self.ask("SELECT guid, title FROM rss_item WHERE unread ORDER BY id")
               if is_web(guid)]
        self.ask("UPDATE rss_item SET unread = 0")
        return new

    def titles(self):
        return [t for guid, t in self.ask("SELECT guid, title FROM rss_item ORDER BY pubDate, id") if is_web(guid)]


class NewsboatReset(Newsboat):
    settings = 'reset-unread-on-update "{url}"\n'


class Feedparser(Reader):
    """A script that remembers what it has shown. Not by id and date alone: in RSS that has whole seconds."""

    def start(self):
        self.seen, self.now = set(), []

    def look(self):
        feed = feedparser.parse(self.url)
        assert feed.status == 200 and not feed.bozo, feed
        found = [e for e in feed.entries if is_web(e.id)]
        new = [e.title for e in found if (e.id, e.summary) not in self.seen]
        self.seen |= {(e.id, e.summary) for e in found}
        self.now = [e.title for e in found]
        return new

    def titles(self):
        return self.now


class Sfeed(Reader):
    """Merges by id, title and link."""

    def start(self):
        (self.home / "rc").write_text(f'sfeedpath={self.home}/feeds\nfeeds() {{ feed web "{self.url}"; }}\n')
        self.known = set()

    def titles(self):
        rows = [line.split("\t") for line in (self.home / "feeds" / "web").read_text().splitlines()]
        return [row[1] for row in rows if is_web(row[5])]

    def look(self):
        self.run("sfeed_update", self.home / "rc")
        new = [t for t in self.titles() if t not in self.known]
        self.known |= set(new)
        return new


class Rss2email(Reader):
    more = ""

    def start(self):
        self.box, self.config = self.home / "mail", self.home / "r2e.cfg"
        for name in ("cur", "new", "tmp"):
            (self.box / name).mkdir(parents=True)
        self.config.write_text(f"[DEFAULT]\nfrom = up@localhost\nto = me@localhost\nemail-protocol = maildir\n"
                               f"maildir-path = {self.box}\nmaildir-mailbox = \n{self.more}\n")
        self.r2e("add", "web", self.url)

    def r2e(self, *args):
        self.run("r2e", "-c", self.config, "-d", self.home / "r2e.json", *args)

    def mails(self):
        found = sorted((self.box / "new").iterdir(), key=lambda p: p.stat().st_mtime_ns)
        mails = [email.message_from_bytes(p.read_bytes(), policy=email.policy.default) for p in found]
        return [" ".join(html.unescape(m["subject"]).split()) for m in mails]

    def look(self):
        before = len(self.mails())
        self.r2e("run")
        return [s for s in self.mails()[before:] if re.match(r"[A-Z]+ web[: ]", s)]

    def titles(self):
        return [s for s in self.mails() if re.match(r"[A-Z]+ web[: ]", s)]


class Rss2emailReply(Rss2email):
    more = "reply-changes = True"


# Reader -> by device, by change: is a change shown as news?
SHOWN = {
    Newsboat: (False, True),
    NewsboatReset: (True, True),
    Feedparser: (True, True),
    Sfeed: (True, True),
    Rss2email: (False, True),
    Rss2emailReply: (True, True),
}


@pytest.fixture
def web(serve, tree):
    u = serve(CONFIG)
    u.deploy("web", tree("one", apps.files("one")))
    u.status_is = lambda s: wait_for(lambda: u.app("web")["status"] == s.lower() and told(u).startswith(s),
                                     f"{s} is told")
    u.status_is("GOOD")
    return u


def told(u):
    text = u.get("/feeds/web.rss", port=u.admin)[1]
    return re.search(r"<title>([A-Z]+ web(: |,| ).*)</title>", text)[1]


class Trouble:
    def __init__(self, u):
        self.u, self.pids = u, [i["pid"] for i in u.app("web")["instances"]]

    def to(self, status):
        wanted = {"GOOD": 0, "BAD": 1, "UGLY": 2}[status]
        for i, pid in enumerate(self.pids):
            os.kill(pid, signal.SIGSTOP if i < wanted else signal.SIGCONT)
        self.u.status_is(status)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for pid in self.pids:
            os.kill(pid, signal.SIGCONT)


@pytest.fixture
def readers(web, folder):
    """readers(kind, profile) -> all of them, which know the feed as it is."""

    def make(kind, profile):
        made = []
        for c in SHOWN:
            (folder / c.__name__).mkdir()
            made.append(c(folder / c.__name__, f"http://127.0.0.1:{web.admin}/feeds/web.{kind}?profile={profile}", kind))
        for r in made:
            assert len(r.look()) == 1 and r.look() == [], r
        return made

    return make


def look(readers, profile):
    """What the readers show as new; those that never do for this profile must show nothing."""
    new = {type(r): r.look() for r in readers}
    assert {c.__name__ for c, titles in new.items() if titles and not SHOWN[c][profile == "change"]} == set()
    return {c: titles for c, titles in new.items() if SHOWN[c][profile == "change"]}


@pytest.mark.parametrize("profile", ["device", "change"])
@pytest.mark.parametrize("kind", ["atom", "rss"])
def test_readers_show_each_change_that_they_are_there_for(web, readers, kind, profile):
    all_ = readers(kind, profile)
    with Trouble(web) as trouble:
        for status in ("BAD", "UGLY"):
            trouble.to(status)
            for c, titles in look(all_, profile).items():
                assert [t.split()[0] for t in titles] == [status], (c, titles)
            assert not any(look(all_, profile).values())
    web.status_is("GOOD")
    for c, titles in look(all_, profile).items():
        assert len(titles) == 1 and re.match(r"GOOD web.*, was UGLY for \d", titles[0]), (c, titles)


@pytest.mark.parametrize("profile", ["device", "change"])
def test_readers_that_were_away_are_told_what_went_by(web, readers, profile):
    all_ = readers("atom", profile)
    with Trouble(web) as trouble:
        trouble.to("BAD")
        trouble.to("UGLY")
    web.status_is("GOOD")
    for c, titles in look(all_, profile).items():
        assert len(titles) == 1 and re.match(r"GOOD web.*, was UGLY for \d", titles[0]), (c, titles)
    # Where it is not new, it still stands there; only what was mailed is not mailed again.
    silent = {type(r).__name__ for r in all_ if not any("was UGLY for" in t for t in r.titles())}
    assert silent == ({"Rss2email"} if profile == "device" else set())


@pytest.mark.parametrize("profile", ["device", "change"])
def test_the_schema_of_atom_accepts_it(web, folder, profile):
    with Trouble(web) as trouble:
        trouble.to("BAD")
    web.status_is("GOOD")
    path = folder / "feed.atom"
    for name in ("web", "all"):
        path.write_text(web.get(f"/feeds/{name}.atom?profile={profile}", port=web.admin)[1])
        done = subprocess.run(["jing", "-c", SCHEMA, path], capture_output=True, text=True)
        assert done.returncode == 0, done.stdout
    # It does look.
    path.write_text(path.read_text().replace("<updated>", "<updated>x", 1))
    assert subprocess.run(["jing", "-c", SCHEMA, path], capture_output=True).returncode == 1
