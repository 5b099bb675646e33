// SPDX-License-Identifier: Apache-2.0
//
// What Node's HTTP server makes of the bytes of a connection: in hex on each line of the input, a
// line of JSON for each, in order: the requests that it saw, with their bodies' lengths, and the
// error if there was one. No network: each connection is a stream in memory.
'use strict';
const http = require('http');
const { Duplex } = require('stream');

function verdict(bytes) {
  return new Promise((resolve) => {
    const seen = { requests: [], error: null };
    const server = http.createServer();
    const take = (req, res) => {
      const it = { method: req.method, url: req.url, version: req.httpVersion,
                   host: req.headers.host || '', headers: req.rawHeaders, body: 0, complete: false };
      seen.requests.push(it);
      req.on('data', (piece) => { it.body += piece.length; });
      req.on('end', () => { it.complete = true; if (res) res.end(); });
      req.on('error', () => {});
    };
    server.on('request', take);
    server.on('checkContinue', take);
    server.on('checkExpectation', take);
    server.on('connect', (req, socket) => { take(req); socket.destroy(); });
    server.on('clientError', (error, socket) => { seen.error = error.code; socket.destroy(); });
    const socket = new Duplex({
      read() {},
      write(chunk, encoding, done) { done(); },
    });
    socket.on('error', () => {});
    socket.on('close', () => resolve(seen));
    socket.on('end', () => setImmediate(() => setImmediate(() => socket.destroy())));
    socket.setTimeout = socket.setNoDelay = socket.setKeepAlive = socket.ref = socket.unref = () => socket;
    server.emit('connection', socket);
    socket.push(bytes);
    socket.push(null);
  });
}

(async () => {
  const input = require('fs').readFileSync(0, 'latin1').split('\n').filter((line) => line);
  for (const line of input)
    console.log(JSON.stringify(await verdict(Buffer.from(line, 'hex'))));
})();
