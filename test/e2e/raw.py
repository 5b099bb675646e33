# SPDX-License-Identifier: Apache-2.0
"""Clients that see every byte, on connections that they keep: an end without an answer is a failure."""

import pathlib
import socket
import sys
import threading

sys.path.insert(0, str(pathlib.Path(__file__).parent / "router"))
from router_kit import Conn  # noqa: E402


def connect(u):
    return Conn(socket.create_connection(("127.0.0.1", u.port)))


def ask(conn, path="/", body=None):
    """(status, fields, body) of a GET, or of a POST when there is a body."""
    head = f"{'GET' if body is None else 'POST'} {path} HTTP/1.1\r\nHost: localhost\r\n"
    if body is not None:
        head += f"Content-Length: {len(body)}\r\n"
    return conn.send(head + "\r\n" + (body or "")).answer()


class Load:
    """Asks one after another, on one connection or on a fresh one each time, until told to end."""

    def __init__(self, u, fresh=False, path="/"):
        self.u, self.fresh, self.path = u, fresh, path
        self.done, self.failed, self.closed, self.ends = 0, [], 0, False
        self.thread = threading.Thread(target=self.run, daemon=True)
        self.thread.start()

    def run(self):
        conn = None
        while not self.ends:
            try:
                conn = conn or connect(self.u)
                body = f"b{self.done}" if self.done % 2 else None
                status, fields, got = ask(conn, self.path, body)
                assert status == 200 and (body or "") in got.decode(), (status, got)
                self.done += 1
                if self.fresh or fields.get("connection") == ["close"]:
                    self.closed += not self.fresh
                    conn.close()
                    conn = None
            except (OSError, EOFError, AssertionError) as e:
                self.failed.append(repr(e))
                conn = None
        if conn:
            conn.close()

    def end(self):
        self.ends = True
        self.thread.join(60)
        assert not self.thread.is_alive()
        return self.failed


def loads(u, path="/"):
    return [Load(u, path=path) for _ in range(3)] + [Load(u, fresh=True, path=path)]
