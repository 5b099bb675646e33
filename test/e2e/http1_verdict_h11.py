# SPDX-License-Identifier: Apache-2.0
"""What Python's h11 makes of the bytes of a connection: as http1_verdict.js says it of Node."""
import json
import sys

import h11


def take(conn, event, seen):
    """One event; the answer is given as soon as the request is there, so that the next may be read."""
    if isinstance(event, h11.Request):
        headers = [part.decode("latin-1") for pair in event.headers.raw_items() for part in pair]
        host = [value.decode("latin-1") for name, value in event.headers if name == b"host"]
        seen.append({"method": event.method.decode("latin-1"), "url": event.target.decode("latin-1"),
                     "version": event.http_version.decode("latin-1"), "host": host[0] if host else "",
                     "headers": headers, "body": 0, "complete": False})
    elif isinstance(event, h11.Data):
        seen[-1]["body"] += len(event.data)
    elif isinstance(event, h11.EndOfMessage):
        seen[-1]["complete"] = True
        conn.send(h11.Response(status_code=200, headers=[("content-length", "0")]))
        conn.send(h11.EndOfMessage())
        if conn.our_state is h11.DONE:
            conn.start_next_cycle()


def verdict(data):
    conn = h11.Connection(h11.SERVER)
    seen = []
    conn.receive_data(data)
    conn.receive_data(b"")
    while True:
        try:
            event = conn.next_event()
            if event in (h11.NEED_DATA, h11.PAUSED) or isinstance(event, h11.ConnectionClosed):
                return {"requests": seen, "error": None}
            take(conn, event, seen)
        except h11.ProtocolError as e:
            return {"requests": seen, "error": str(e)}


for line in sys.stdin:
    print(json.dumps(verdict(bytes.fromhex(line.strip()))))
