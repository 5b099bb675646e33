// SPDX-License-Identifier: Apache-2.0
//
// Node's clients: node clients.js WHAT URL. What went wrong is said and ends it with 1; what was seen is a line of JSON.
//
//   ws     a WebSocket by Debian's node-ws, over HTTP/1.1
//   h2ws   a WebSocket over HTTP/2 (RFC 8441): Node's own http2 beneath the frames of node-ws
//   h2     an upload, an event stream and 50 requests at once over one connection of Node's http2
//   fetch  the same by fetch(), which is undici
'use strict';
const assert = require('assert'), crypto = require('crypto'), http2 = require('http2'), { once } = require('events');
const { WebSocket, Receiver, Sender } = require('/usr/share/nodejs/ws');

process.env.NODE_TLS_REJECT_UNAUTHORIZED = '0';
process.removeAllListeners('warning');
const [what, url] = process.argv.slice(2);
const BODY = crypto.randomBytes(3 << 20);
const SUM = `${BODY.length} ${crypto.createHash('sha256').update(BODY).digest('hex')}`;
const MESSAGES = ['hello', 'x'.repeat(300000), BODY, Buffer.alloc(0)];

async function ws() {
  const socket = new WebSocket(url.replace(/^http/, 'ws') + '/ws', ['other', 'echo'], { rejectUnauthorized: false });
  await once(socket, 'open');
  for (const message of MESSAGES) {
    socket.send(message);
    const [data, binary] = await once(socket, 'message');
    assert(binary ? data.equals(message) : data.toString() === message);
  }
  socket.ping('still there?');
  assert.strictEqual((await once(socket, 'pong'))[0].toString(), 'still there?');
  socket.close(1000, 'enough');
  const [code] = await once(socket, 'close');
  return { protocol: socket.protocol, code };
}

async function session() {
  const client = http2.connect(url, { rejectUnauthorized: false });
  await once(client, 'remoteSettings');
  return client;
}

async function text(stream) {
  let all = '';
  for await (const piece of stream.setEncoding('utf8')) all += piece;
  return all;
}

async function ask(client, method, path, body) {
  const stream = client.request({ ':method': method, ':path': path }, { endStream: body === undefined });
  if (body !== undefined) stream.end(body);
  const [headers] = await once(stream, 'response');
  return [headers[':status'], await text(stream)];
}

async function h2ws() {
  const client = await session();
  assert(client.remoteSettings.enableConnectProtocol);
  const stream = client.request({ ':method': 'CONNECT', ':protocol': 'websocket', ':path': '/ws',
                                  'sec-websocket-version': '13', 'sec-websocket-protocol': 'other, echo' });
  const [headers] = await once(stream, 'response');
  assert.strictEqual(headers[':status'], 200);
  const receiver = new Receiver({ isServer: false });
  const sender = new Sender(stream);
  stream.pipe(receiver);
  for (const message of MESSAGES) {
    sender.send(message, { fin: true, mask: true, compress: false, binary: typeof message !== 'string' });
    const [data, binary] = await once(receiver, 'message');
    assert(binary ? data.equals(message) : data.toString() === message);
  }
  assert.strictEqual((await ask(client, 'GET', '/open'))[1], '1'); // beside it, over the same connection
  sender.close(1000, 'enough', true);
  const [code] = await once(receiver, 'conclude');
  stream.end();
  await once(stream, 'close');
  client.close();
  return { protocol: headers['sec-websocket-protocol'], code };
}

async function h2() {
  const client = await session();
  const events = client.request({ ':path': '/events', 'last-event-id': '41' });
  events.setEncoding('utf8');
  let heard = '';
  events.on('data', (piece) => { heard += piece; });
  const hear = async (data) => { while (!heard.endsWith(`data: ${data}\n\n`)) await once(events, 'data'); };
  await hear('41');
  for (const word of ['one', 'two']) {
    assert.deepStrictEqual(await ask(client, 'POST', '/say', word), [200, '1']);
    await hear(word);
  }
  const answers = await Promise.all(Array.from({ length: 50 }, () => ask(client, 'GET', '/up')));
  assert(answers.every(([status, body]) => status === 200 && body === 'up'));
  assert.deepStrictEqual(await ask(client, 'POST', '/sum', BODY), [200, SUM]);
  events.close(http2.constants.NGHTTP2_CANCEL);
  while ((await ask(client, 'GET', '/open'))[1] !== '0');
  client.close();
  return { events: heard.match(/^data: .*$/gm) };
}

async function fetched() {
  const heard = [], gone = new AbortController();
  const events = await fetch(url + '/events', { headers: { 'last-event-id': '41' }, signal: gone.signal });
  const reader = events.body.pipeThrough(new TextDecoderStream()).getReader();
  const hear = async (data) => {
    for (let all = ''; !all.endsWith(`data: ${data}\n\n`);) all += (await reader.read()).value;
    heard.push(`data: ${data}`);
  };
  await hear('41');
  const post = async (path, body, more) => (await fetch(url + path, { method: 'POST', body, ...more })).text();
  for (const word of ['one', 'two']) {
    assert.strictEqual(await post('/say', word), '1');
    await hear(word);
  }
  assert.strictEqual(await post('/sum', BODY), SUM);
  assert.strictEqual(await post('/sum', new Blob([BODY]).stream(), { duplex: 'half' }), SUM); // chunked
  await Promise.all(Array.from({ length: 50 }, async () => assert.strictEqual(await (await fetch(url + '/up')).text(), 'up')));
  await reader.cancel(); // Node 18 does not take abort() for that any more, once the body is piped
  gone.abort();
  while (await (await fetch(url + '/open')).text() !== '0');
  return { events: heard };
}

setTimeout(() => { throw new Error('it hangs'); }, 60000).unref();
({ ws, h2ws, h2, fetch: fetched })[what]().then((seen) => {
  console.log(JSON.stringify(seen));
  process.exit(0);
}, (e) => {
  console.error(e);
  process.exit(1);
});
