# SPDX-License-Identifier: Apache-2.0
"""A guestbook: small, but with all that makes replacing an app hard. It keeps data, so
a request that is done twice is seen; it answers in counted and in chunked form; and
every answer says which request it answers and which version gave it.

    GET  /                       the book, for people
    POST /sign  id=ID&text=TEXT  adds an entry: "signed VERSION ID"
    GET  /echo/ID?lines=N        "guestbook VERSION ID", then N times ID; chunked=1: in chunks
    GET  /book?prefix=P          all ids that begin with P, a line each, then "end COUNT"
    GET  /up                     health

On purpose nothing here keeps an id from standing in the book twice: if something between
a user and this app repeats a POST, the book must show it.
"""
import os
import pathlib
import secrets
import sqlite3
import threading

import flask

import behaviour

HERE = pathlib.Path(__file__).parent
VERSION, COLOUR, GREETING = (HERE / "VERSION").read_text().splitlines()[:3]
DATA = pathlib.Path(os.environ.get("UPSTATE_DATA", "data"))
RECENT = 12

app = flask.Flask(__name__)
local = threading.local()


def database():
    """This thread's connection. In WAL mode what is committed outlives the process."""
    if not hasattr(local, "db"):
        DATA.mkdir(parents=True, exist_ok=True)
        local.db = sqlite3.connect(DATA / "guestbook.db", timeout=10, isolation_level=None)
        local.db.execute("PRAGMA journal_mode=WAL")
        local.db.execute("PRAGMA synchronous=NORMAL")
        local.db.execute(
            "CREATE TABLE IF NOT EXISTS entries (n INTEGER PRIMARY KEY, id TEXT NOT NULL,"
            " text TEXT NOT NULL, version TEXT NOT NULL, at TEXT NOT NULL DEFAULT (datetime('now')))"
        )
    return local.db


def plain(body):
    return flask.Response(body, mimetype="text/plain")


@app.get("/")
def page():
    db = database()
    entries = db.execute(
        "SELECT text, version, at FROM entries ORDER BY n DESC LIMIT ?", (RECENT,)
    ).fetchall()
    (count,) = db.execute("SELECT count(*) FROM entries").fetchone()
    return flask.render_template(
        "book.html", version=VERSION, colour=COLOUR, greeting=GREETING, entries=entries, count=count
    )


@app.post("/sign")
def sign():
    text = flask.request.form.get("text", "").strip()[:4000]
    entry = flask.request.form.get("id", "")[:80]
    if not text:
        return flask.Response("a text is wanted\n", 400, mimetype="text/plain")
    database().execute(
        "INSERT INTO entries (id, text, version) VALUES (?, ?, ?)",
        (entry or secrets.token_hex(8), text, VERSION),
    )
    return plain(f"signed {VERSION} {entry}\n") if entry else flask.redirect("/", 303)


@app.get("/echo/<entry>")
def echo(entry):
    lines = min(flask.request.args.get("lines", 0, type=int), 10000)
    head, line = f"guestbook {VERSION} {entry}\n", f"{entry}\n"
    if "chunked" in flask.request.args:
        return plain(part for part in [head, *[line * 10] * (lines // 10), line * (lines % 10)] if part)
    return plain(head + line * lines)


@app.get("/book")
def book():
    prefix = flask.request.args.get("prefix", "")
    rows = database().execute(
        "SELECT id FROM entries WHERE substr(id, 1, ?) = ? ORDER BY n", (len(prefix), prefix)
    )

    def lines():
        count = 0
        while some := rows.fetchmany(1000):
            count += len(some)
            yield "".join(f"{entry}\n" for (entry,) in some)
        yield f"end {count}\n"

    return plain(lines())


@app.get("/up")
def up():
    database().execute("SELECT 1")
    return plain("ok\n")


behaviour.install(app)
