# SPDX-License-Identifier: Apache-2.0
"""Which requests are logged when only a share is: by the id of the trace, so always the same ones."""
import json
import time

from router_kit import get, ok, until

PARENT = "b7ad6b7169203331"
IDS = ["%032x" % (i * 0x9E3779B97F4A7C15F39CC0605CEDC835 % 2 ** 128) for i in range(1, 401)]


def ask(c, trace, extra=""):
    return c.send(get(extra=f"traceparent: 00-{trace}-{PARENT}-01\r\n" + extra)).answer()


def logged(r, answered):
    """All records, once as many requests are accounted for."""
    records = []

    def all_there():
        records.extend(json.loads(r.ask("log")))
        return len(records) + r.n("log_left_out") >= answered

    until(all_there)
    return records


def run(router, target, more, handler=None):
    t = target(handler)
    r = router("threads 1\n%s\napp a\ntarget a/1 %s\n" % (more, t.addr))
    r.until("a/1", "state", 1)
    c = r.connect()
    for trace in IDS:
        ask(c, trace)
    return {rec["trace"] for rec in logged(r, len(IDS))}


def test_the_same_traces_are_logged_on_every_hop_and_a_smaller_share_is_a_part(router, target):
    tenth = run(router, target, "limit log_sample=100000")
    assert 25 <= len(tenth) <= 55  # of 400; these are always the same ones
    assert run(router, target, "limit log_sample=100000") == tenth
    half = run(router, target, "limit log_sample=500000")
    assert tenth < half and 170 <= len(half) <= 230
    assert run(router, target, "limit log_sample=0") == set()
    assert run(router, target, "limit log_sample=1000000") == set(IDS)


def test_a_record_says_what_share_it_stands_for(router, target):
    t = target()
    r = router("threads 1\nlimit log_sample=250000\napp a\ntarget a/1 %s\n" % t.addr)
    r.until("a/1", "state", 1)
    c = r.connect()
    for trace in IDS:
        ask(c, trace)
    records = logged(r, len(IDS))
    assert {rec["sample"] for rec in records} == {250000}
    assert abs(sum(1e6 / rec["sample"] for rec in records) - len(IDS)) < 80  # 2.3 sigma; and always the same
    assert r.n("log_left_out") == len(IDS) - len(records) and r.n("log_written") == len(records)


def test_what_failed_was_retried_held_or_slow_is_always_logged(router, target):
    def handler(c, line, fields):
        path = line.split()[1]
        if path == "/500":
            return b"HTTP/1.1 500 Oops\r\nContent-Length: 0\r\n\r\n"
        if path == "/cut":
            c.send(b"HTTP/1.1 200 OK\r\nContent-Length: 100\r\n\r\nhalf")
            return False
        if path == "/again" and t.paths().count(path) == 1:
            return False
        if path == "/slow":
            time.sleep(0.06)
        return ok()

    t = target(handler)
    table = "threads 1\nlimit log_sample=0 log_slow_ms=50\n%s\ntarget a/1 %s\n"
    r = router(table % ("app a", t.addr))
    r.until("a/1", "state", 1)
    for path in ("/", "/500", "/cut", "/again", "/slow", "/404"):
        c = r.connect()
        c.send(get(path))
        c.rest() if path == "/cut" else c.answer()
        c.close()
    c = r.connect().send(get("/none", host="nobody"))
    c.answer()
    records = logged(r, 7)
    assert sorted(rec["path"] for rec in records) == ["/500", "/again", "/cut", "/slow"]
    assert {rec["sample"] for rec in records} == {1000000}
    r.table(table % ("app a hold=1", t.addr))
    held = r.connect().send(get("/held"))
    r.until("a", "waiting", 1)
    r.table(table % ("app a", t.addr))
    assert held.answer()[0] == 200
    assert [rec["path"] for rec in r.log()] == ["/held"]


def test_connections_of_tcp_apps_are_sampled_each_by_itself(router, target):
    t = target(tcp=True)
    r = router("threads 1\nlimit log_sample=500000\napp a\ntarget a/1 %s\ntcp\n" % t.addr)
    r.until("a/1", "state", 1)
    for _ in range(60):
        c = r.connect()
        c.send(get()).answer()
        c.close()
    assert 0 < len(logged(r, 60)) < 60
