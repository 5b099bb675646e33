# SPDX-License-Identifier: Apache-2.0
"""Clients and targets that mean harm, or are merely broken. What is asserted is what others notice
(their answers, the router's memory, its gauges) and what reaches the target, byte by byte."""
import os
import signal
import socket
import struct

from router_kit import until

GAUGES = ("inflight", "waiting", "waiting_bytes", "tunnels")


def reset(c):
    """Closes with a reset."""
    c.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    c.close()


class asleep:
    """While the router sleeps, everything that is done here is one event to it."""

    def __init__(self, r):
        self.pid = r.pid

    def __enter__(self):
        os.kill(self.pid, signal.SIGSTOP)
        until(lambda: open("/proc/%d/stat" % self.pid).read().split(")")[1].split()[0] == "T")

    def __exit__(self, *_):
        os.kill(self.pid, signal.SIGCONT)


def at_rest(r, *names):
    """Nothing is inside any more, and no gauge kept anything."""
    until(lambda: r.numbers()["clients"] == 0)
    for name in names:
        until(lambda: all(r.n(name)[g] == 0 for g in GAUGES))


# --- ends at a bad moment ---

def test_a_client_that_is_gone_before_our_own_answer_is_counted_once(serve):
    r, t = serve(app="body_max=10")
    for _ in range(10):
        c = r.connect()
        with asleep(r):
            c.send("POST / HTTP/1.1\r\nHost: any\r\nContent-Length: 11\r\n\r\n")
            reset(c)
    assert r.get()[0] == 200
    n = r.n("a")
    assert n["refused_4xx"] + n["client_left"] == n["requests"] - 1
    at_rest(r, "a", "a/1")
