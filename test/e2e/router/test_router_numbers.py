# SPDX-License-Identifier: Apache-2.0
"""What is there now, in numbers, comes back to nothing when it is gone."""
from router_kit import get, until


def test_connections_to_a_target_are_counted_as_long_as_they_are_open(serve):
    r, t = serve(more="threads 1")
    clients = [r.connect() for _ in range(3)]
    for c in clients:
        c.send(get()).answer()  # one after the other: each takes the connection that the one before left
    assert r.n("a/1")["connections"] == 1 and r.n("a/1")["connects"] == 1
    t.stop()
    r.until("a/1", "connections", 0)
    t.start()
    r.until("a/1", "state", 1)
    clients[0].send(get()).answer()
    assert r.n("a/1")["connections"] == 1 and r.n("a/1")["connects"] == 2


def test_a_router_that_died_leaves_no_connections_behind(serve):
    r, _ = serve(more="threads 1")
    r.get()
    assert r.n("a/1")["connections"] == 1
    r.kill()
    r.until("a/1", "connections", 0)
    until(lambda: r.get()[0] == 200)
    assert r.n("a/1")["connections"] == 1 and r.n("a/1")["requests"] == 2
