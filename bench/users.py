# SPDX-License-Identifier: Apache-2.0
"""The users of bench/changes: five kinds of load at once on one server, and connections that only wait.

They are strict and honest. Each looks whether its connection has ended right before it uses it again, takes
the server at its word (Connection: close, GOAWAY, close frames), judges each answer by its bytes, and sends
again only what the protocol says was not executed or may be sent twice:

    resent  a GET on a connection that was used before and ended without a byte of its answer (RFC 9112, 9.3.1);
            an HTTP/2 stream that was refused, or lies above the last one that GOAWAY names (RFC 9113, 8.7);
            a message of a WebSocket that was closed with a code
    failed  everything else without the right answer, and what failed again

A POST over HTTP/1 that got no answer has failed: nobody may send it again.
"""
import asyncio
import collections
import contextlib
import itertools
import random
import socket
import ssl
import struct

import hpack
import websockets

HOST = b"bench.localhost"
PATIENCE_S = 20
KEEP_ALIVE, POST, FRESH, H2, H2_EACH, SOCKETS, IDLE = 24, 12, 6, 4, 4, 20, 100
THINK_S = 0.05  # at most, between an answer and the next request of a user
TALK_S = 0.1  # between messages of a WebSocket
COME_BACK = (1001, 1012)  # going away, service restart


class Gone(Exception):
    """The connection has ended without the whole answer."""

    def __init__(self, why, begun=False):
        super().__init__(why)
        self.begun = begun


class Again(Exception):
    """It was not executed, says the protocol."""


def insecure():
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    return context


def request(method, number):
    """(bytes over HTTP/1, the body that the answer must have)"""
    if method == "GET":
        path = b"/get-%d" % number
        return b"GET %s HTTP/1.1\r\nHost: %s\r\n\r\n" % (path, HOST), path
    body = b"post-%d" % number
    return b"POST /p HTTP/1.1\r\nHost: %s\r\nContent-Length: %d\r\n\r\n%s" % (HOST, len(body), body), body


class Wire:
    """A connection of a client of HTTP/1."""

    def __init__(self, sock):
        self.sock, self.used, self.over = sock, False, False

    @classmethod
    async def open(cls, port):
        sock = socket.socket()
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        try:
            await asyncio.get_running_loop().sock_connect(sock, ("127.0.0.1", port))
        except BaseException:
            sock.close()
            raise
        return cls(sock)

    def ended(self):
        """As far as can be seen now."""
        try:
            self.sock.recv(1, socket.MSG_PEEK)
        except BlockingIOError:
            return False
        except OSError:
            pass
        return True

    async def ask(self, text):
        """(status, body); `over` afterwards: the server ends it."""
        loop, got = asyncio.get_running_loop(), b""
        try:
            await loop.sock_sendall(self.sock, text)
            while b"\r\n\r\n" not in got or len(got) < self.length(got):
                data = await loop.sock_recv(self.sock, 65536)
                if not data:
                    raise Gone("closed", bool(got))
                got += data
        except OSError as e:
            raise Gone(type(e).__name__, bool(got)) from e
        head, _, body = got.partition(b"\r\n\r\n")
        self.used, self.over = True, b"connection: close" in head.lower()
        return int(head.split(b" ", 2)[1]), body

    @staticmethod
    def length(got):
        head = got.lower().partition(b"\r\n\r\n")[0]
        return len(head) + 4 + int(head.split(b"content-length:")[1].split(b"\r\n")[0])

    def close(self):
        self.sock.close()


class H2Connection:
    """A client's connection of HTTP/2 over TLS, frame by frame: python3-h2 lets go of all streams on GOAWAY."""

    def __init__(self, reader, writer, counts):
        self.reader, self.writer, self.counts = reader, writer, counts
        self.enc, self.dec = hpack.Encoder(), hpack.Decoder()
        self.streams, self.next, self.leaving, self.gone = {}, 1, False, False
        self.closed = False  # by this side
        self.task = asyncio.create_task(self.listen())

    @classmethod
    async def open(cls, port, counts):
        context = insecure()
        context.set_alpn_protocols(["h2"])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context,
                                                       server_hostname=HOST.decode())
        writer.write(b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n" + cls.frame(4, 0, 0) +
                     cls.frame(8, 0, 0, struct.pack(">I", 2**30)))
        return cls(reader, writer, counts)

    @staticmethod
    def frame(kind, flags, sid, payload=b""):
        return struct.pack(">I", len(payload))[1:] + bytes([kind, flags]) + struct.pack(">I", sid) + payload

    async def listen(self):
        try:
            while True:
                head = await self.reader.readexactly(9)
                payload = await self.reader.readexactly(int.from_bytes(head[:3], "big"))
                self.take(head[3], head[4], int.from_bytes(head[5:9], "big"), payload)
        except (OSError, EOFError) as e:
            self.gone = True
            if not self.leaving and not self.closed:
                self.counts("h2", "cut")
            for stream in self.streams.values():
                if not stream["answer"].done():
                    stream["answer"].set_exception(Gone(type(e).__name__))
            self.writer.close()

    def take(self, kind, flags, sid, payload):
        stream = self.streams.get(sid)
        if kind == 1:
            fields = self.dec.decode(payload)
            if stream:
                stream["head"].update(fields)
        elif kind == 0 and stream:
            stream["body"] += payload
        elif kind == 3 and stream and not stream["answer"].done():
            code = struct.unpack(">I", payload)[0]
            stream["answer"].set_exception(Again("refused") if code == 7 else Gone(f"reset {code}"))
        elif kind == 4 and not flags & 1:
            self.writer.write(self.frame(4, 1, 0))
        elif kind == 6 and not flags & 1:
            self.writer.write(self.frame(6, 1, 0, payload))
        elif kind == 7:
            last = struct.unpack(">I", payload[:4])[0]
            if not self.leaving:
                self.counts("h2", "goaway")
            self.leaving = True
            for number, s in self.streams.items():
                if number > last and not s["answer"].done():
                    s["answer"].set_exception(Again("above GOAWAY"))
            self.close_if_done()
        if kind in (0, 1) and flags & 1 and stream and not stream["answer"].done():
            stream["answer"].set_result((int(stream["head"][":status"]), stream["body"]))

    async def ask(self, method, number):
        sid, self.next = self.next, self.next + 2
        text, want = request(method, number)
        path = want.decode() if method == "GET" else "/p"
        fields = [(":method", method), (":scheme", "https"), (":authority", HOST.decode()), (":path", path)]
        if method == "POST":
            fields.append(("content-length", str(len(want))))
        answer = asyncio.get_running_loop().create_future()
        self.streams[sid] = {"head": {}, "body": b"", "answer": answer}
        out = self.frame(1, 4 | (method == "GET"), sid, self.enc.encode(fields))
        self.writer.write(out + (self.frame(0, 1, sid, want) if method == "POST" else b""))
        try:
            return await answer
        finally:
            del self.streams[sid]
            self.close_if_done()

    def close_if_done(self):
        if self.leaving and not self.streams:
            self.close()

    def usable(self):
        return not self.leaving and not self.gone

    def close(self):
        self.closed = True
        self.writer.close()


class Users:
    def __init__(self, port, tls):
        self.port, self.tls, self.over = port, tls, False
        self.counted, self.why = collections.Counter(), collections.Counter()
        self.numbers, self.dice, self.answered = itertools.count(1), random.Random(4711), []
        self.tasks, self.idle, self.sockets, self.round = [], [], collections.Counter(), 0

    def counts(self, kind, what, why=None):
        self.counted[kind, what] += 1
        if why:
            self.why[f"{kind} {what}: {why}"] += 1

    # --- requests ---

    async def think(self):
        await asyncio.sleep(self.dice.random() * THINK_S)

    def judge(self, kind, method, number, got):
        status, body = got
        if status != 200 or body != request(method, number)[1]:
            self.counts(kind, "failed", f"{status} {body[:40]!r}")
        elif method == "POST":
            self.answered.append(body.decode())

    async def attempt(self, kind, method, send, again):
        """Sends a request, once more where `again` (of what was raised) says that it may be."""
        number = next(self.numbers)
        self.counts(kind, "sent")
        for last in (False, True):
            try:
                self.judge(kind, method, number, await asyncio.wait_for(send(number), PATIENCE_S))
            except (Again, Gone, OSError, EOFError, asyncio.TimeoutError) as e:
                if not last and again(e):
                    self.counts(kind, "resent")
                    continue
                self.counts(kind, "failed", f"{type(e).__name__} {e}")
            return

    async def keep_alive(self, kind, method):
        wire = None

        async def send(number):
            nonlocal wire
            if wire and wire.ended():
                self.counts(kind, "closed")
                wire.close()
                wire = None
            wire = wire or await Wire.open(self.port)
            try:
                got = await wire.ask(request(method, number)[0])
            except BaseException as e:
                e.reused = wire.used
                wire.close()
                wire = None
                raise
            if wire.over:
                wire.close()
                wire = None
            return got

        def again(e):
            return method == "GET" and isinstance(e, Gone) and e.reused and not e.begun

        while not self.over:
            await self.think()
            await self.attempt(kind, method, send, again)
        if wire:
            wire.close()

    async def fresh(self):
        """Half of them with TLS."""

        async def plain(number):
            wire = await Wire.open(self.port)
            try:
                return await wire.ask(request("GET", number)[0])
            finally:
                wire.close()

        async def secure(number):
            reader, writer = await asyncio.open_connection("127.0.0.1", self.tls, ssl=insecure(),
                                                           server_hostname=HOST.decode())
            try:
                writer.write(request("GET", number)[0].replace(b"\r\n\r\n", b"\r\nConnection: close\r\n\r\n"))
                head, _, body = (await reader.read()).partition(b"\r\n\r\n")
                if not head:
                    raise Gone("closed")
                return int(head.split(b" ", 2)[1]), body
            finally:
                writer.close()

        for send in itertools.cycle((plain, secure)):
            if self.over:
                return
            await self.think()
            await self.attempt("fresh", "GET", send, lambda e: False)

    async def h2(self):
        connection, lock = None, asyncio.Lock()

        async def send_as(method, number):
            nonlocal connection
            async with lock:
                if not connection or not connection.usable():
                    connection = await H2Connection.open(self.tls, self.counts)
                answer = connection.ask(method, number)
            return await answer

        async def one(method):
            while not self.over:
                await self.think()
                await self.attempt("h2", method, lambda n: send_as(method, n), lambda e: isinstance(e, Again))

        await asyncio.gather(*(one(("GET", "POST")[i % 2]) for i in range(H2_EACH)))
        if connection:
            connection.close()

    # --- WebSockets ---

    async def chat(self):
        while not self.over:
            try:
                ws = await websockets.connect(f"ws://127.0.0.1:{self.port}/chat", ping_interval=None,
                                              compression=None, open_timeout=PATIENCE_S, close_timeout=2)
            except Exception as e:
                self.counts("websocket", "failed", f"not opened: {e!r}")
                await asyncio.sleep(TALK_S)
                continue
            begun = self.round
            self.sockets[begun] += 1
            try:
                await self.talk(ws, begun)
            finally:
                self.sockets[begun] -= 1
                await ws.close()

    async def talk(self, ws, begun):
        while not self.over and self.round == begun:
            text, open_message = f"message {next(self.numbers)}", False
            try:
                if ws.open:
                    open_message = True
                    self.counts("websocket", "sent")
                    await ws.send(text)
                got = await asyncio.wait_for(ws.recv(), PATIENCE_S)
                open_message = False
                if got != text:
                    self.counts("websocket", "failed", f"{got!r} for {text!r}")
                await asyncio.wait_for(ws.wait_closed(), TALK_S)
            except asyncio.TimeoutError:
                if open_message:
                    self.counts("websocket", "failed", "no echo")
                    return
            except websockets.ConnectionClosed as e:
                code = e.rcvd.code if e.rcvd else None
                told = code in COME_BACK
                self.counts("websocket", "told" if told else "cut", None if told else f"code {code}")
                if open_message:
                    self.counts("websocket", "resent" if told else "failed")
                return

    # --- connections that wait ---

    async def wait_idle(self):
        wire = await Wire.open(self.port)
        number = next(self.numbers)
        self.judge("idle", "GET", number, await wire.ask(request("GET", number)[0]))
        self.idle.append(wire)

    async def fill(self):
        """All of them are there, and have been used."""
        await asyncio.gather(*(self.wait_idle() for _ in range(IDLE - len(self.idle))))
        while self.sockets[self.round] < SOCKETS:
            await asyncio.sleep(0.01)
        self.counted["idle", "held"] += IDLE
        self.counted["websocket", "held"] += SOCKETS

    async def use_idle(self, wire):
        """What became of one that waited: it is used once more."""
        number = next(self.numbers)
        if wire.ended():
            self.counts("idle", "closed")
            wire.over = True
        else:
            try:
                got = await asyncio.wait_for(wire.ask(request("GET", number)[0]), PATIENCE_S)
                self.judge("idle", "GET", number, got)
                self.counted["idle", "told"] += wire.over
            except (Gone, asyncio.TimeoutError) as e:
                self.counts("idle", "failed", str(e))
                wire.over = True
        if wire.over:
            wire.close()

    async def look(self):
        await asyncio.gather(*map(self.use_idle, self.idle))
        self.idle = [wire for wire in self.idle if not wire.over]

    def renew(self):
        """WebSockets are closed and opened again, so that no process of before is kept by them."""
        self.round += 1

    # --- from beginning to end ---

    def start(self):
        for count, one in ((KEEP_ALIVE, lambda: self.keep_alive("keep-alive", "GET")),
                           (POST, lambda: self.keep_alive("POST", "POST")), (FRESH, self.fresh), (H2, self.h2),
                           (SOCKETS, self.chat)):
            self.tasks += [asyncio.create_task(one()) for _ in range(count)]

    async def stop(self):
        self.over = True
        with contextlib.suppress(asyncio.TimeoutError):
            await asyncio.wait_for(asyncio.gather(*self.tasks), PATIENCE_S)
        for wire in self.idle:
            wire.close()

    def take_counts(self):
        counted, self.counted = self.counted, collections.Counter()
        why, self.why = self.why, collections.Counter()
        return counted, why
