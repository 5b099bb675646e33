# SPDX-License-Identifier: Apache-2.0
"""Servers that no one here wrote, each with an app whose answers flow.

  /up               for the router's probes
  /events           an event stream: first the Last-Event-ID that the client sent, or "-", then what is said
  POST /say         sends its body as an event to every stream; answers with their number
  /open             how many streams and WebSockets are open, as the app sees it
  /ws               a WebSocket that sends back what it gets, by the protocol "echo" if that is offered
  POST, PUT /sum    "BYTES SHA-256" of its body
  /page             a page for a browser (page.html beside the app), /report keeps what is posted and gives it back

SERVERS: name -> (files of a release, what its configuration says beside that, what it can).
"""

import pathlib

AIOHTTP = r'''
import asyncio, hashlib, pathlib, sys
from aiohttp import WSMsgType, web

streams, sockets, reports = set(), set(), []

async def events(request):
    answer = web.StreamResponse(headers={"Content-Type": "text/event-stream", "Cache-Control": "no-store"})
    await answer.prepare(request)
    said = asyncio.Queue()
    said.put_nowait(request.headers.get("Last-Event-ID", "-"))
    streams.add(said)
    number = 0
    try:
        while True:
            try:
                text = await asyncio.wait_for(said.get(), 0.02)
            except asyncio.TimeoutError:
                if request.transport is None or request.transport.is_closing():
                    return answer
                continue
            await answer.write(f"id: {number}\ndata: {text}\n\n".encode())
            number += 1
    except ConnectionError:
        return answer
    finally:
        streams.discard(said)

async def say(request):
    text = await request.text()
    for said in streams:
        said.put_nowait(text)
    return web.Response(text=str(len(streams)))

async def socket(request):
    ws = web.WebSocketResponse(protocols=["echo"], max_msg_size=0)
    await ws.prepare(request)
    sockets.add(ws)
    async for message in ws:
        await (ws.send_str if message.type == WSMsgType.TEXT else ws.send_bytes)(message.data)
    sockets.discard(ws)
    return ws

async def summed(request):
    digest, size = hashlib.sha256(), 0
    async for piece in request.content.iter_any():
        digest.update(piece)
        size += len(piece)
    return web.Response(text=f"{size} {digest.hexdigest()}")

async def report(request):
    if request.method == "POST":
        reports.append(await request.text())
    return web.Response(text=reports[-1] if reports else "")

async def text(request):
    return web.Response(text=str(len(streams) + len(sockets)) if request.path == "/open" else "up")

async def file(request):
    return web.FileResponse(request.query["path"], chunk_size=1 << 18)

async def page(request):
    return web.FileResponse(pathlib.Path(__file__).with_name("page.html"))

app = web.Application(client_max_size=1 << 40)
app.add_routes([web.get("/up", text), web.get("/open", text), web.get("/events", events), web.post("/say", say),
                web.get("/ws", socket), web.post("/sum", summed), web.put("/sum", summed), web.get("/file", file),
                web.get("/page", page), web.get("/report", report), web.post("/report", report)])
web.run_app(app, path=sys.argv[1], access_log=None, print=None)
'''

NODE = r'''
const crypto = require("crypto"), http = require("http");
const { WebSocketServer } = require("/usr/share/nodejs/ws");
const streams = new Set();
const all = async (request) => { let text = ""; for await (const piece of request) text += piece; return text; };
const routes = {
  "/up": (request, answer) => answer.end("up"),
  "/open": (request, answer) => answer.end(String(streams.size + sockets.clients.size)),
  "/events": (request, answer) => {
    let number = 0;
    const say = (text) => answer.write(`id: ${number++}\ndata: ${text}\n\n`);
    answer.writeHead(200, { "Content-Type": "text/event-stream", "Cache-Control": "no-store" });
    say(request.headers["last-event-id"] || "-");
    streams.add(say);
    answer.on("close", () => streams.delete(say));
  },
  "/say": async (request, answer) => {
    const text = await all(request);
    streams.forEach((say) => say(text));
    answer.end(String(streams.size));
  },
  "/sum": async (request, answer) => {
    const digest = crypto.createHash("sha256");
    let size = 0;
    for await (const piece of request) { digest.update(piece); size += piece.length; }
    answer.end(`${size} ${digest.digest("hex")}`);
  },
};
const server = http.createServer({ requestTimeout: 0 }, (request, answer) => routes[request.url](request, answer));
const sockets = new WebSocketServer({ server, path: "/ws", maxPayload: 0,
                                      handleProtocols: (offered) => offered.has("echo") ? "echo" : false });
sockets.on("connection", (ws) => ws.on("message", (data, binary) => ws.send(data, { binary })));
server.listen(process.argv[2]);
'''

WSGI = r'''
import hashlib, queue

streams = set()

def events(last):
    said = queue.Queue()
    said.put(last)
    streams.add(said)
    try:
        number = 0
        while True:
            try:
                yield f"id: {number}\ndata: {said.get(timeout=0.1)}\n\n".encode()
                number += 1
            except queue.Empty:
                yield b": still there\n\n"  # only by writing does it learn that nobody reads any more
    finally:
        streams.discard(said)

def app(environ, start_response):
    path, given = environ["PATH_INFO"], environ["wsgi.input"]
    if path == "/events":
        start_response("200 OK", [("Content-Type", "text/event-stream"), ("Cache-Control", "no-store")])
        return events(environ.get("HTTP_LAST_EVENT_ID", "-"))
    body = b"up"
    if path == "/open":
        body = b"%d" % len(streams)
    elif path == "/say":
        text = given.read().decode()
        for said in list(streams):
            said.put(text)
        body = b"%d" % len(streams)
    elif path == "/sum":
        digest, size = hashlib.sha256(), 0
        while piece := given.read(1 << 18):
            digest.update(piece)
            size += len(piece)
        body = b"%d %s" % (size, digest.hexdigest().encode())
    start_response("200 OK", [("Content-Type", "text/plain"), ("Content-Length", str(len(body)))])
    return [body]
'''

PAGE = pathlib.Path(__file__).with_name("clients.html")

SERVERS = {
    "aiohttp": ({"app.py": AIOHTTP, "page.html": PAGE.read_text()}, "run: exec /usr/bin/python3 app.py $UPSTATE_SOCKET",
                {"events", "websocket", "sum", "file"}),
    "node-ws": ({"app.js": NODE}, "run: exec node app.js $UPSTATE_SOCKET", {"events", "websocket", "sum"}),
    "gunicorn": ({"app.py": WSGI}, "run: exec gunicorn --threads 8 --timeout 0 --bind unix:$UPSTATE_SOCKET app:app",
                 {"events", "sum"}),
}


def that(can):
    return [name for name, (_, _, what) in SERVERS.items() if can in what]


CONFIG = """
listen: [ {{ http: "127.0.0.1:{{port}}" }}, {{ https: "127.0.0.1:{{tls}}" }} ]
admin: {{ http: "127.0.0.1:{{admin}}" }}
certificates: [ {{ cert: site.pem, key: site.key }} ]
apps:
  site:
    hosts: ["*"]
    {how}
    health: {{ path: /up, every: 200ms }}
    bake: 100ms
    drain: 5s
    ready: {{ within: 20s }}
"""


def config(name):
    return CONFIG.format(how=SERVERS[name][1])


def files(name):
    return SERVERS[name][0]
