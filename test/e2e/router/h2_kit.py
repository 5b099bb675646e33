# SPDX-License-Identifier: Apache-2.0
"""A client that speaks HTTP/2 frame by frame, so that a test can say anything."""
import socket
import struct

import hpack

from router_kit import WAIT

PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
DATA, HEADERS, PRIORITY, RST, SETTINGS, PUSH, PING, GOAWAY, WINDOW, CONTINUATION = range(10)
END_STREAM, ACK, END_HEADERS = 1, 1, 4
NO_ERROR, PROTOCOL_ERROR, INTERNAL_ERROR = 0, 1, 2
REFUSED_STREAM, CANCEL, CALM = 7, 8, 11
SET_TABLE, SET_PUSH, SET_STREAMS, SET_WINDOW, SET_FRAME, SET_LIST, SET_CONNECT = 1, 2, 3, 4, 5, 6, 8


class Stream:
    def __init__(self):
        self.heads, self.body, self.trailer = [], b"", None
        self.ended, self.reset = False, None

    @property
    def status(self):
        return int(dict(self.heads[-1])[":status"])

    @property
    def fields(self):
        got = {}
        for name, value in self.heads[-1]:
            got.setdefault(name, []).append(value)
        return got


class H2:
    def __init__(self, port, settings=(), window=2**30, auto=True, before=b""):
        """auto: windows are opened as data comes. before: bytes that the preface follows."""
        sock = socket.create_connection(("127.0.0.1", port))
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.begin(sock, auto)
        hello = before + PREFACE + self.frame(SETTINGS, 0, 0, b"".join(struct.pack(">HI", *s) for s in settings))
        if window:
            hello += self.window_frame(0, window)
        self.send(hello)

    def begin(self, sock, auto):
        self.sock = sock
        self.sock.settimeout(WAIT)
        self.enc, self.dec, self.auto = hpack.Encoder(), hpack.Decoder(), auto
        self.streams, self.goaways, self.settings, self.pongs, self.pings = {}, [], {}, 0, 0
        self.next, self.buf, self.eof, self.windows = 1, b"", False, {}

    # --- out ---

    def send(self, data):
        self.sock.sendall(data)
        return self

    @staticmethod
    def frame(kind, flags, sid, payload=b""):
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", sid) + payload

    def window_frame(self, sid, n):
        return self.frame(WINDOW, 0, sid, struct.pack(">I", n))

    def rst_frame(self, sid, code=CANCEL):
        return self.frame(RST, 0, sid, struct.pack(">I", code))

    @staticmethod
    def usual(method="GET", path="/", host="any"):
        return [(":method", method), (":scheme", "http"), (":authority", host), (":path", path)]

    def head_frame(self, fields, end=True, sid=None):
        """(sid, bytes)"""
        if sid is None:
            sid, self.next = self.next, self.next + 2
        self.streams.setdefault(sid, Stream())
        block = self.enc.encode(fields, huffman=False)
        return sid, self.frame(HEADERS, END_HEADERS | (END_STREAM if end else 0), sid, block)

    def ask(self, fields=(), end=True, whole=None, **usual):
        sid, data = self.head_frame(whole if whole is not None else self.usual(**usual) + list(fields), end)
        self.send(data)
        return sid

    def data(self, sid, body, end=False):
        return self.send(self.frame(DATA, END_STREAM if end else 0, sid, body))

    def trailers(self, sid, fields):
        return self.send(self.head_frame(fields, True, sid)[1])

    # --- in ---

    def read_frame(self):
        while len(self.buf) < 9 or len(self.buf) < 9 + int.from_bytes(self.buf[:3], "big"):
            try:
                got = self.sock.recv(65536)
            except ConnectionResetError:
                got = b""
            if not got:
                self.eof = True
                return None
            self.buf += got
        n = int.from_bytes(self.buf[:3], "big")
        kind, flags = self.buf[3], self.buf[4]
        sid = int.from_bytes(self.buf[5:9], "big")
        payload, self.buf = self.buf[9:9 + n], self.buf[9 + n:]
        return kind, flags, sid, payload

    def turn(self):
        """Takes a frame in. False: the connection has ended."""
        got = self.read_frame()
        if not got:
            return False
        try:
            self.take(*got)
        except (BrokenPipeError, ConnectionResetError):
            pass  # what came before is still to be read
        return True

    def take(self, kind, flags, sid, payload):
        s = self.streams.setdefault(sid, Stream()) if sid else None
        if kind == HEADERS:
            assert flags & END_HEADERS
            fields = self.dec.decode(payload)
            if fields and fields[0][0].startswith(":"):
                s.heads.append(fields)
            else:
                s.trailer = fields
        elif kind == DATA:
            s.body += payload
            if self.auto and payload:
                self.send(self.window_frame(0, len(payload)) +
                          (self.window_frame(sid, len(payload)) if not flags & END_STREAM else b""))
        elif kind == RST:
            s.reset = struct.unpack(">I", payload)[0]
        elif kind == SETTINGS and not flags & ACK:
            self.settings.update(struct.iter_unpack(">HI", payload))
            self.send(self.frame(SETTINGS, ACK, 0))
        elif kind == PING and flags & ACK:
            self.pongs += 1
        elif kind == PING:
            self.pings += 1
            self.send(self.frame(PING, ACK, 0, payload))
        elif kind == GOAWAY:
            self.goaways.append(struct.unpack(">II", payload[:8]))
        elif kind == WINDOW:
            self.windows[sid] = self.windows.get(sid, 0) + struct.unpack(">I", payload)[0]
        if kind in (HEADERS, DATA) and flags & END_STREAM:
            s.ended = True

    def until(self, what):
        while not what():
            assert self.turn(), "the connection ended: goaways %s" % self.goaways
        return self

    def answer(self, sid):
        s = self.streams[sid]
        self.until(lambda: s.ended or s.reset is not None)
        return s

    def head(self, sid):
        s = self.streams[sid]
        self.until(lambda: s.heads or s.reset is not None)
        return s

    def get(self, path="/", **more):
        return self.answer(self.ask(path=path, **more))

    def ping(self):
        """All that was sent before was read, and what it made at once is here."""
        n = self.pongs
        self.send(self.frame(PING, 0, 0, b"12345678"))
        return self.until(lambda: self.pongs > n)

    def ended(self):
        """Reads to the end of the connection; the error codes of its GOAWAYs."""
        while self.turn():
            pass
        return [code for _, code in self.goaways]

    def close(self):
        self.sock.close()
