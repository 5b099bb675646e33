# SPDX-License-Identifier: Apache-2.0
"""Our HTTP/1 parser beside Node's and h11's: whatever we take, they must read identically.

A head that we take and they refuse is harmless. One that both take and read differently, in the
method, the target, a header or where the body ends, is how requests are smuggled.
"""
import json
import os
import pathlib
import random
import subprocess

import pytest

HERE = pathlib.Path(__file__).parent
ROOT = HERE.parent.parent
BUILD = pathlib.Path(os.environ.get("UPSTATE_BUILD", ROOT / "build"))
SEED = int(os.environ.get("HTTP1_SEED", "20261122"))
CASES = int(os.environ.get("HTTP1_CASES", "1500"))

GOOD = [
    b"GET / HTTP/1.1\r\nHost: a\r\n\r\n",
    b"GET /a/b?c=d&e=%20 HTTP/1.1\r\nHost: shop.example:8080\r\nUser-Agent: x\r\nAccept: */*\r\n\r\n",
    b"HEAD /x HTTP/1.1\r\nHost: a\r\nConnection: keep-alive\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\nContent-Type: text/plain\r\n\r\n",
    b"POST /x HTTP/1.1\r\nHost: a\r\nTransfer-Encoding: chunked\r\n\r\n",
    b"PUT /x HTTP/1.0\r\nHost: a\r\nContent-Length: 12\r\nConnection: keep-alive\r\n\r\n",
    b"GET http://a:80/x?y HTTP/1.1\r\nHost: a:80\r\n\r\n",
    b"OPTIONS * HTTP/1.1\r\nHost: a\r\n\r\n",
    b"DELETE /x HTTP/1.1\r\nHost: [::1]:80\r\nX-A: b\tc \r\nX-B:\r\nCookie: a=b; c=d\r\n\r\n",
]
LINES = [
    b"Content-Length: 5", b"Content-Length: 0", b"Content-Length: 05", b"Content-Length: 5, 5",
    b"Content-Length: +5", b"Content-Length: 0x5", b"Content-Length: 5 ", b"content-length:5",
    b"Content-Length : 5", b"Content-Length: 5\t", b"Content_Length: 5", b"Content-Length: 5 5",
    b"Transfer-Encoding: chunked", b"transfer-encoding:chunked", b"Transfer-Encoding: Chunked ",
    b"Transfer-Encoding: gzip, chunked", b"Transfer-Encoding: chunked, identity",
    b"Transfer-Encoding: xchunked", b"Transfer-Encoding:\x0bchunked", b"Transfer-Encoding: \tchunked",
    b"Transfer-Encoding : chunked", b"Transfer_Encoding: chunked", b"X: y\nTransfer-Encoding: chunked",
    b"X: y\rTransfer-Encoding: chunked", b" Transfer-Encoding: chunked", b"Transfer-Encoding:\r\n chunked",
    b"Host: a", b"Host: b", b"Host: a\x00", b"Connection: close", b"Connection: content-length",
    b"Connection: keep-alive, close", b"Connection: Upgrade\r\nUpgrade: x", b"Expect: 100-continue",
    b"Trailer: Content-Length", b"TE: trailers", b"X: \xff\x80", b"X-\x80: a", b": a", b"X", b"X:",
    b"X: a\x0cb", b"X:\t a\t \t", b"X: a\x00b", b"X!#$%&'*+-.^_`|~: v", b"Keep-Alive: timeout=5",
]
BYTES = [bytes([c]) for c in b"\r\n\t \x00\x0b\x0c\x7f\x80\xff:;,#?/%\\\"{}|^`<>@[]*0aZ"] + [b"\r\n", b"\n\n"]
MARKER = b"GET /marker HTTP/1.1\r\nHost: marker\r\n\r\n"


def mutate(rng):
    """A good head with zero to three things wrong."""
    head = rng.choice(GOOD)
    for _ in range(rng.randrange(4)):
        at = rng.randrange(len(head))
        kind = rng.randrange(7)
        if kind < 2:  # another header line
            lines = head.split(b"\r\n")
            lines.insert(rng.randrange(1, len(lines) - 1) if len(lines) > 2 else 1, rng.choice(LINES))
            head = b"\r\n".join(lines)
        elif kind == 2:
            head = head[:at] + rng.choice(BYTES) + head[at:]
        elif kind == 3:
            head = head[:at] + rng.choice(BYTES) + head[at + 1 :]
        elif kind == 4:
            head = head[:at] + head[at + 1 :]
        elif kind == 5:
            head = head[:at] + head[at : at + 1].swapcase() + head[at + 1 :]
        else:
            lines = head.split(b"\r\n")
            i = rng.randrange(len(lines))
            head = b"\r\n".join(lines[:i] + [lines[i]] + lines[i:])
    return head + b"\r\n\r\n" * (not head.endswith(b"\r\n\r\n"))


def ask(command, connections):
    """One line of hex in, one line of JSON out, for each."""
    text = "".join(c.hex() + "\n" for c in connections)
    run = subprocess.run(command, input=text, capture_output=True, text=True, timeout=120, check=True)
    answers = [json.loads(line) for line in run.stdout.splitlines()]
    assert len(answers) == len(connections), run.stderr
    return answers


def body(ours):
    """Bytes and decoded length of a body by our framing."""
    if ours["framing"] == "chunked":
        return b"5\r\nhello\r\n3;x=y\r\nabc\r\n0\r\n\r\n", 8
    length = min(ours["length"], 20000) if ours["framing"] == "length" else 0
    return b"x" * length, length


def origin(url):
    """Node leaves an absolute form as it came: its authority and its path."""
    for scheme in ("http://", "https://"):
        if url.lower().startswith(scheme):
            rest = url[len(scheme) :]
            host, slash, path = rest.partition("/")
            return host, slash + path
    return None, url


def comparable(headers):
    """h11 tells the coding in lower case, which is the same (RFC 9112, 7)."""
    return [text.lower() if i % 2 and headers[i - 1].lower() == "transfer-encoding" else text
            for i, text in enumerate(headers)]


def differences(ours, theirs):
    """What the two read differently; nothing when the other refused."""
    if not theirs["requests"] or theirs["requests"][0]["method"] == "CONNECT":
        return []
    first = theirs["requests"][0]
    authority, target = origin(first["url"])
    headers = [text for pair in ours["headers"] for text in pair]
    pairs = [
        ("method", ours["method"], first["method"]),
        ("target", ours["target"], target or ("*" if ours["method"] == "OPTIONS" else "/")),
        ("host", ours["host"], first["host"] if authority is None else authority),
        ("version", f"1.{ours['minor']}", first["version"]),
        ("headers", comparable(headers), comparable(first["headers"])),
    ]
    whole = ours["length"] <= 20000
    if not theirs["error"] or len(theirs["requests"]) > 1:
        pairs.append(("body", body(ours)[1], first["body"]))
        pairs.append(("end of the body", whole, first["complete"]))
    upgrade = any(name.lower() == "upgrade" for name, _ in ours["headers"])
    if whole and ours["keep_alive"] and not upgrade and not theirs["error"]:
        # What stands behind the body must be the next request, and nothing else. (Behind Upgrade,
        # Node waits for what its answer makes of the connection, even in HTTP/1.0, which RFC 9110,
        # 7.8 forbids; no such header is passed on in 1.0.)
        pairs.append(("next", ["/marker"], [r["url"] for r in theirs["requests"][1:]]))
    return [f"{what}: {a!r} here, {b!r}" for what, a, b in pairs if a != b]


PEERS = {
    "Node": ["node", HERE / "http1_verdict.js"],
    "h11": ["/usr/bin/python3", HERE / "http1_verdict_h11.py"],
}


@pytest.mark.parametrize("peer", PEERS)
def test_what_we_accept_others_read_identically(peer):
    rng = random.Random(SEED)
    heads = list(GOOD) + [mutate(rng) for _ in range(CASES)]
    heads += [p.read_bytes() for p in sorted((ROOT / "test/fuzz/corpus/http1_request").iterdir())]
    verdicts = ask([BUILD / "test/fuzz/http1_verdict"], heads)
    taken = [(h, v) for h, v in zip(heads, verdicts) if "error" not in v]
    connections = [h[: v["head_len"]] + body(v)[0] + MARKER for h, v in taken]
    theirs = ask(PEERS[peer], connections)

    wrong = []
    for connection, (_, ours), says in zip(connections, taken, theirs):
        for difference in differences(ours, says):
            wrong.append(f"{connection[:300]!r}\n    {difference} in {peer}")
    assert not wrong, f"seed {SEED}:\n" + "\n".join(wrong[:20])
    # Lest it compares nothing: many were refused here, and many read by both.
    both = sum(bool(n["requests"]) for n in theirs)
    assert len(heads) - len(taken) > CASES / 4 and both > CASES / 4, (len(heads), len(taken), both)
    for good, ours in zip(GOOD, verdicts):
        assert "error" not in ours, good
