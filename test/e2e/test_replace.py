# SPDX-License-Identifier: Apache-2.0
"""Another router takes the place of the one that serves, by order, through the whole program."""

import asyncio
import json
import os
import signal
import threading

import websockets

import apps
import raw
from test_streams import CHAT
from upstate import wait_for

CONFIG = """
listen:
  - http: 127.0.0.1:{port}
admin:
  http: 127.0.0.1:{admin}
apps:
  book:
    run: ./server $UPSTATE_SOCKET
    health: { path: /up }
    drain: 2s
    bake: 1s
"""


def deploy(serve, tree, config=CONFIG, **more):
    u = serve(config)
    u.deploy("book", tree("one", {"server": apps.SERVER, "VERSION": "one", **more}))
    return u


def leaving(u):
    return [p for p in u.parts() if "(" in p]


def restarts(u):
    return [r["data"] for r in u.api("GET", "/v1/history?limit=1000")[1]["records"] if r["kind"] == "restart"]


def children(pid):
    with open(f"/proc/{pid}/task/{pid}/children") as f:
        return [int(x) for x in f.read().split()]


def routers(u):
    found = []
    for pid in children(u.process.pid):
        try:
            with open(f"/proc/{pid}/cmdline") as f:
                if "_router" in f.read():
                    found.append(pid)
        except FileNotFoundError:
            pass
    return found


def test_twenty_routers_and_nobody_notices(serve, tree):
    u = deploy(serve, tree)
    idle = [raw.connect(u) for _ in range(30)]
    for c in idle:
        assert raw.ask(c)[0] == 200
    instance = u.app("book")["instances"][0]["pid"]
    load, pids = raw.loads(u), set()
    for n in range(20):
        before = [x.done for x in load]
        u.cli("restart", "router", "--why", f"number {n}")
        pids.add(u.parts()["router"]["pid"])
        wait_for(lambda: all(x.done > b or x.failed for x, b in zip(load, before)), "load goes on")
        wait_for(lambda: not leaving(u), "the router before ended")
        for c in idle:
            assert raw.ask(c, body="still")[0] == 200
    assert [x.end() for x in load] == [[]] * 4 and [x.closed for x in load] == [0] * 4
    assert len(pids) == 20
    app = u.app("book")
    assert app["receipt"]["failed"] == 0 and app["instances"][0]["pid"] == instance
    assert app["receipt"]["requests"] == app["receipt"]["answered"] == sum(x.done for x in load) + 21 * 30
    done = restarts(u)
    assert [(r["outcome"], r["why"]) for r in done] == [("done", f"number {n}") for n in range(20)]
    assert all(r["who"] for r in done)
    assert u.parts()["router"]["starts"] == 21


def test_held_requests_are_answered_after_the_router_was_replaced(serve, tree):
    u = deploy(serve, tree)
    u.cli("hold", "book", "--why", "a test")
    conns = [raw.connect(u) for _ in range(20)]
    for i, c in enumerate(conns):
        c.send(f"POST /{i} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\n\r\nb{i:02}")
    wait_for(lambda: u.app("book")["waiting"] == 20, "they wait")
    u.cli("restart", "router")
    wait_for(lambda: not leaving(u), "the router before ended")
    assert u.app("book")["waiting"] == 20
    u.cli("resume", "book")
    for i, c in enumerate(conns):
        status, fields, body = c.answer()
        assert status == 200 and f"b{i:02}" in body.decode()
    assert u.app("book")["receipt"]["failed"] == 0


def test_a_second_one_is_refused_while_the_first_finishes(serve, tree):
    u = deploy(serve, tree, slow="1.5")
    c = raw.connect(u).send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wait_for(lambda: u.app("book")["instances"][0]["inside"] == 1, "it is inside")
    u.cli("restart", "router")
    assert "router (leaving)" in u.parts() and "1 connection is left" in u.cli("status").stdout
    assert any(x["name"] == "routers" and x["used"] == x["bound"] == 2
               for x in u.api("GET", "/v1/limits")[1]["limits"])
    refused = u.cli("restart", "router", ok=False)
    assert refused.returncode == 3 and "has not finished yet" in refused.stderr
    assert c.answer()[0] == 200
    wait_for(lambda: not leaving(u), "the router before ended")
    assert raw.ask(c)[0] == 200
    u.cli("restart", "router")


def test_a_websocket_client_is_told_to_come_back(serve, tree):
    u = serve(CONFIG)
    u.deploy("book", tree("chat", {"server": CHAT, "VERSION": "one"}))

    async def chat():
        async with websockets.connect(f"ws://127.0.0.1:{u.port}/chat") as ws:
            await ws.send("a")
            assert await ws.recv() == "one heard a"
            await asyncio.get_running_loop().run_in_executor(None, u.cli, "restart", "router")
            await ws.wait_closed()
            assert (ws.close_code, ws.close_rcvd.code) == (1012, 1012)
        async with websockets.connect(f"ws://127.0.0.1:{u.port}/chat") as ws:
            await ws.send("b")
            assert await ws.recv() == "one heard b"

    asyncio.run(chat())
    wait_for(lambda: not leaving(u), "the router before ended")
    assert u.app("book")["receipt"]["failed"] == 0


def next_router(u, do):
    """Orders a replacement and does something to the next router as soon as it is there: mostly before
    it can be ready, which this has to hurry for."""
    old, outcome = routers(u), []
    order = threading.Thread(target=lambda: outcome.append(u.cli("restart", "router", ok=False)), daemon=True)
    order.start()
    while not (new := [p for p in routers(u) if p not in old]):
        assert order.is_alive(), outcome
    do(new[0])
    order.join(60)
    return old[0], outcome[0]


def test_a_next_router_that_hangs_or_dies_changes_nothing(serve, tree):
    u = deploy(serve, tree)
    load = raw.loads(u)
    for sign, word in ((signal.SIGSTOP, "not ready within 5 s"), (signal.SIGKILL, "killed by signal 9")):
        old, refused = next_router(u, lambda pid: os.kill(pid, sign))
        while refused.returncode == 0:  # the signal came too late: it is the router, and is started anew
            wait_for(lambda: len(routers(u)) == 1 and u.is_ready(), "one router")
            old, refused = next_router(u, lambda pid: os.kill(pid, sign))
        assert refused.returncode == 1 and word in refused.stderr
        assert routers(u) == [old]
        assert restarts(u)[-1]["outcome"] == "refused" and word in restarts(u)[-1]["reason"]
    assert not leaving(u)
    [x.end() for x in load]
    assert not any("Timeout" in f for x in load for f in x.failed)
    c = raw.connect(u)
    assert raw.ask(c)[0] == 200
    u.cli("restart", "router")
    assert raw.ask(c)[0] == 200


def test_the_router_before_is_killed_and_the_next_one_goes_on(serve, tree):
    u = deploy(serve, tree, slow="1.5")
    c = raw.connect(u).send("GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
    wait_for(lambda: u.app("book")["instances"][0]["inside"] == 1, "it is inside")
    before = u.parts()["router"]["pid"]
    u.cli("restart", "router")
    os.kill(before, signal.SIGKILL)
    assert c.closed()
    wait_for(lambda: not leaving(u), "it is gone")
    wait_for(lambda: u.app("book")["receipt"]["failed"] == 1, "it is counted")
    assert json.loads(u.cli("status", "book", "--json").stdout)["instances"][0]["inside"] == 0
    assert raw.ask(raw.connect(u))[0] == 200
