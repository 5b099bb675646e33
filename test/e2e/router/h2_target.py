# SPDX-License-Identifier: Apache-2.0
"""A target that speaks HTTP/2 frame by frame, so that it can do anything."""
import queue
import struct

from h2_kit import END_STREAM, GOAWAY, H2, PREFACE, RST, SETTINGS
from router_kit import WAIT, Target


class Peer(H2):
    """The target's end of a connection of the router's."""

    def __init__(self, sock, settings, auto):
        self.begin(sock, auto)
        self.asked = []  # streams, in their order
        while len(self.buf) < len(PREFACE):
            got = sock.recv(65536)
            if not got:
                raise EOFError
            self.buf += got
        assert self.buf.startswith(PREFACE)
        self.buf = self.buf[len(PREFACE):]
        self.send(self.frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *s) for s in settings)))

    def take(self, kind, flags, sid, payload):
        new = sid and sid not in self.streams
        super().take(kind, flags, sid, payload)
        if new and self.streams[sid].heads:
            self.asked.append(sid)

    def request(self, n=0):
        """The number of the n-th stream, when its head is here."""
        self.until(lambda: len(self.asked) > n)
        return self.asked[n]

    def whole(self, sid):
        """Its request, when it is here to its end."""
        s = self.streams[sid]
        self.until(lambda: s.ended or s.reset is not None)
        return s

    def asks(self, sid):
        return dict(self.streams[sid].heads[0])

    def head(self, sid, status=200, fields=(), end=False):
        return self.send(self.head_frame([(":status", str(status)), *fields], end, sid)[1])

    def reply(self, sid, body=b"ok", fields=(), trailer=None):
        """A whole answer, in one write."""
        out = self.head_frame([(":status", "200"), *fields], not body and trailer is None, sid)[1]
        if body:
            out += self.frame(0, END_STREAM if trailer is None else 0, sid, body)
        if trailer is not None:
            out += self.head_frame(trailer, True, sid)[1]
        return self.send(out)

    def reset(self, sid, code):
        return self.send(self.rst_frame(sid, code))

    def goaway(self, last, code=0):
        return self.send(self.frame(GOAWAY, 0, 0, struct.pack(">II", last, code)))


class H2Target(Target):
    """handler(peer, sid) is called for each request, when its head is here. Without one, who wants to play the target
    gets connections from peer(), each with its first request."""

    def __init__(self, handler=None, unix=None, settings=(), auto=True, **more):
        self.settings, self.auto, self.peers = settings, auto, queue.Queue()
        super().__init__(handler or self.give, unix=unix, **more)

    def give(self, peer, sid):
        self.peers.put(peer)
        return False

    def peer(self):
        return self.peers.get(timeout=WAIT)

    def serve(self, conn):
        try:
            peer = Peer(conn.sock, self.settings, self.auto)
            done = 0
            while True:
                sid = peer.request(done)
                done += 1
                if peer.asks(sid).get("user-agent") == "upstate-probe":
                    peer.reply(sid)
                    continue
                with self.lock:
                    self.seen.append((sid, peer.asks(sid)))
                if self.handler(peer, sid) is False:
                    return
        except (AssertionError, EOFError, OSError):
            conn.close()

    def paths(self):
        return [f[":path"] for _, f in self.seen]


def answer(body=b"ok", **more):
    """A handler that takes the whole request."""
    def handler(peer, sid):
        peer.whole(sid)
        peer.reply(sid, body, **more)
    return handler
