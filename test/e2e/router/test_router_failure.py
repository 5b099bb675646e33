# SPDX-License-Identifier: Apache-2.0
"""Targets that fail in the ways that are hard to tell from being well: they end idle connections at the
wrong moment, answer errors, are slow, or take everything and answer nothing."""
import random
import threading
import time

from router_kit import get, ok, post, until


# --- idle connections that end ---

def closes_at_random(mean_s, executed):
    """A handler for targets that answer, and end the connection after some time without a question."""
    lock = threading.Lock()

    def handler(c, line, fields):
        body = c.body(fields)
        if line.startswith("POST"):
            with lock:
                executed[body] = executed.get(body, 0) + 1
        c.send(ok(body))
        c.sock.settimeout(random.uniform(0, 2 * mean_s))
        try:
            if not c.buf and not c.more():
                return False
        except TimeoutError:
            return False
        c.sock.settimeout(20)
        return None

    return handler


def race(r, seconds, answered, failed):
    """Clients that leave pauses as long as the target's patience, until the time is over."""
    end = time.monotonic() + seconds

    def client(number):
        rnd, c = random.Random(number), r.connect()
        for i in range(100000):
            if time.monotonic() > end:
                break
            is_post = rnd.random() < 0.4
            body = "%d-%d" % (number, i)
            try:
                c.send(post(body) if is_post else get())
                status = c.answer()[0]
            except (EOFError, OSError) as e:
                status, c = repr(e), r.connect()
            if status == 200:
                answered.append(body if is_post else "")
            else:
                failed.append(("POST" if is_post else "GET", status))
            time.sleep(rnd.uniform(0, 0.006))
        c.close()

    threads = [threading.Thread(target=client, args=(i,)) for i in range(6)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()


def check_race(r, executed, answered, failed):
    posts = [a for a in answered if a]
    assert len(answered) > 200 and len(posts) > 50
    assert max(executed.values()) == 1
    assert all(executed.get(p.encode()) == 1 for p in posts)
    assert not [f for f in failed if f[0] == "GET"], failed
    n = r.n("a/1")
    assert n["reused"] > 0 and n["connects"] > 1


def test_over_unix_sockets_a_target_that_ends_idle_connections_costs_nothing(serve):
    executed, answered, failed = {}, [], []
    r, t = serve(closes_at_random(0.003, executed))
    race(r, 3, answered, failed)
    check_race(r, executed, answered, failed)
    assert not failed


def test_over_tcp_a_target_that_ends_idle_connections_costs_no_get_and_hardly_a_post(serve):
    executed, answered, failed = {}, [], []
    r, t = serve(closes_at_random(0.003, executed), tcp=True)
    race(r, 3, answered, failed)
    check_race(r, executed, answered, failed)
    assert len(failed) <= max(1, len(answered) // 100), failed


def test_a_learned_limit_lets_posts_use_older_connections(serve):
    """Nothing is known at first, and a POST on a connection idle for over 1 s gets a fresh one."""
    closing = threading.Event()

    def handler(c, line, fields):
        c.send(ok(c.body(fields)))
        if line.split()[1] == "/old":
            closing.wait(20)
            return False
        return None

    r, t = serve(handler, tcp=True, more="threads 1")
    c = r.connect()
    assert c.send(get()).answer()[0] == 200
    time.sleep(1.1)
    assert c.send(post("x")).answer()[0] == 200
    assert r.n("a/1")["connects"] == 2
    # The target ends one at an age of over 3 s: half of that is sure from then on.
    assert c.send(get("/old")).answer()[0] == 200
    time.sleep(3.2)
    closing.set()
    until(lambda: any(k.sock.fileno() < 0 for k in t.conns))
    assert c.send(get()).answer()[0] == 200
    connects = r.n("a/1")["connects"]
    time.sleep(1.2)
    assert c.send(post("y")).answer()[0] == 200
    assert r.n("a/1")["connects"] == connects
