# SPDX-License-Identifier: Apache-2.0
"""W3C Trace Context through the router: what the target gets, and what the log says."""
import re

import pytest

from router_kit import get

ID, PARENT = "0af7651916cd43dd8448eb211c80319c", "b7ad6b7169203331"
CAME = f"00-{ID}-{PARENT}-01"


def ask(r, t, extra=""):
    """(traceparent taken apart or None, all fields of the target, the log's record)"""
    r.connect().send(get(extra=extra)).answer()
    fields = t.seen[-1][1]
    sent = fields.get("traceparent")
    assert sent is None or len(sent) == 1
    return sent and sent[0].split("-"), fields, r.log()[-1]


def test_a_trace_that_came_goes_on_with_a_new_parent(serve):
    r, t = serve()
    seen = set()
    for _ in range(20):
        (version, trace, parent, flags), _, rec = ask(r, t, f"Traceparent: {CAME}\r\n")
        assert (version, trace, flags) == ("00", ID, "01") and rec["trace"] == ID
        assert re.fullmatch("[0-9a-f]{16}", parent) and parent not in ("0" * 16, PARENT)
        seen.add(parent)
    assert len(seen) == 20
    assert ask(r, t, f"traceparent: 00-{ID}-{PARENT}-00\r\n")[0][3] == "00"
    assert ask(r, t, f"traceparent: cc-{ID}-{PARENT}-01-more\r\n")[0][:2] == ["00", ID]


def test_a_trace_begins_where_none_came_with_the_id_of_the_request(serve):
    r, t = serve()
    (version, trace, parent, flags), fields, rec = ask(r, t)
    assert (version, flags) == ("00", "01") and re.fullmatch("[0-9a-f]{32}", trace)
    assert [trace] == fields["x-request-id"] and rec["trace"] == rec["id"] == trace
    assert ask(r, t)[0][1] != trace


@pytest.mark.parametrize("bad", [
    f"00-{'0' * 32}-{PARENT}-01", f"00-{ID}-{'0' * 16}-01", f"ff-{ID}-{PARENT}-01", f"00-{ID.upper()}-{PARENT}-01",
    f"00-{ID}-{PARENT}", f"{CAME}-more", "", f"{CAME}\r\nTraceparent: {CAME}"])
def test_what_is_not_valid_is_replaced_and_its_state_dropped(serve, bad):
    r, t = serve()
    sent, fields, rec = ask(r, t, f"traceparent: {bad}\r\ntracestate: a=1\r\n")
    assert sent[1] != ID and sent[1] == rec["trace"] and "tracestate" not in fields


def test_state_goes_with_its_trace_up_to_a_bound(serve):
    r, t = serve()
    came = f"traceparent: {CAME}\r\n"
    assert ask(r, t, came + "tracestate: a=1,b=2\r\nTraceState: c=3\r\n")[1]["tracestate"] == ["a=1,b=2", "c=3"]
    assert "tracestate" not in ask(r, t, "tracestate: a=1\r\n")[1]
    long = "tracestate: a=%s\r\n"
    assert ask(r, t, came + long % ("x" * 510))[1]["tracestate"] == ["a=" + "x" * 510]
    sent, fields, _ = ask(r, t, came + long % ("x" * 511))
    assert "tracestate" not in fields and sent[1] == ID


def test_from_a_trusted_proxy_id_and_trace_are_two(serve):
    r, t = serve(more="trust 127.0.0.0/8")
    sent, fields, rec = ask(r, t, "X-Request-Id: mine\r\n")
    assert fields["x-request-id"] == ["mine"] == [rec["id"]] and sent[1] == rec["trace"] and len(sent[1]) == 32


def test_only_passed_on_none_begins(serve):
    r, t = serve(more="limit trace=1")
    sent, fields, rec = ask(r, t)
    assert sent is None and rec["trace"] == ""
    assert ask(r, t, "traceparent: nonsense\r\n")[0] is None
    assert ask(r, t, f"traceparent: {CAME}\r\n")[0][1] == ID


def test_off_its_fields_are_like_any_other(serve):
    r, t = serve(more="limit trace=0")
    assert ask(r, t)[0] is None
    _, fields, rec = ask(r, t, f"traceparent: {CAME}\r\ntracestate: a=1\r\n")
    assert fields["traceparent"] == [CAME] and fields["tracestate"] == ["a=1"] and rec["trace"] == ""


def test_a_retry_is_the_same_hop(serve):
    r, t = serve(lambda c, line, fields: False if len(t.seen) == 1 else b"HTTP/1.1 200 OK\r\nContent-Length: 0\r\n\r\n")
    assert r.connect().send(get()).answer()[0] == 200
    assert len(t.seen) == 2 and t.seen[0][1]["traceparent"] == t.seen[1][1]["traceparent"]
