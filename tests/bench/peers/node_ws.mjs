// A peer: Node and the package `ws`, one send for each client that listens.
// Prints its port, serves until it is ended.
import { createRequire } from "node:module";
import net from "node:net";

const [natsPort, modules] = process.argv.slice(2);
const { WebSocketServer, WebSocket } = createRequire(`${modules}/`)("ws");

const listeners = new Map();
const server = new WebSocketServer({ host: "127.0.0.1", port: 0, perMessageDeflate: false });

server.on("listening", () => console.log(JSON.stringify({ port: server.address().port })));
server.on("connection", (socket) => {
  const own = new Set();
  socket.on("message", (data) => {
    for (const symbol of JSON.parse(data).symbols) {
      own.add(symbol);
      if (!listeners.has(symbol)) listeners.set(symbol, new Set());
      listeners.get(symbol).add(socket);
    }
  });
  socket.on("error", () => socket.terminate());
  socket.on("close", () => own.forEach((symbol) => listeners.get(symbol).delete(socket)));
});

function deliver(subject, payload) {
  const sockets = listeners.get(subject.slice(subject.lastIndexOf(".") + 1));
  if (!sockets) return;
  const frame = payload.subarray(payload.indexOf(',"frame":') + 9, payload.length - 1).toString();
  for (const socket of sockets) if (socket.readyState === WebSocket.OPEN) socket.send(frame);
}

// The least that a subscriber of NATS must understand.
const nats = net.connect(Number(natsPort), "127.0.0.1");
let rest = Buffer.alloc(0);
nats.setNoDelay(true);
nats.write('CONNECT {"verbose":false,"pedantic":false}\r\nSUB prices.> 1\r\n');
nats.on("close", () => process.exit(1));
nats.on("data", (data) => {
  const input = rest.length ? Buffer.concat([rest, data]) : data;
  let at = 0;
  for (;;) {
    const lineEnd = input.indexOf("\r\n", at);
    if (lineEnd < 0) break;
    let next = lineEnd + 2;
    const words = input.toString("latin1", at, lineEnd).split(" ");
    if (words[0] === "MSG") {
      const end = next + Number(words.at(-1));
      if (end + 2 > input.length) break;
      deliver(words[1], input.subarray(next, end));
      next = end + 2;
    } else if (words[0] === "PING") {
      nats.write("PONG\r\n");
    }
    at = next;
  }
  rest = Buffer.from(input.subarray(at));
});
