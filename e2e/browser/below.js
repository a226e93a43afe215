// A reverse proxy that passes requests below a path on to the root of the server under test, sockets included.
import { createServer, request as ask } from "node:http";
import { connect } from "node:net";
import { server } from "./browser.js";

/**
 * Starts the proxy. Its `address` is that of the page; `close` ends it. It passes on the client's header `host`, or sends
 * the server's instead, as nginx does by default.
 */
export async function below(path, { keepsHost = true } = {}) {
  const headersOf = (request) => (keepsHost ? request.headers : { ...request.headers, host: server.host });
  const inside = (url) => (url.startsWith(`${path}/`) ? url.slice(path.length) : undefined);
  const proxy = createServer((request, response) => {
    const url = inside(request.url);
    if (url === undefined) {
      response.writeHead(404).end("nothing here");
      return;
    }
    const options = { host: server.hostname, port: server.port, method: request.method, path: url, headers: headersOf(request) };
    const passed = ask(options, (answer) => {
      response.writeHead(answer.statusCode, answer.headers);
      answer.pipe(response);
    });
    passed.on("error", () => response.destroy());
    request.pipe(passed);
  });
  const sockets = new Set();
  proxy.on("upgrade", (request, socket, head) => {
    const url = inside(request.url);
    if (url === undefined) {
      socket.destroy();
      return;
    }
    const headers = Object.entries(headersOf(request)).map(([name, value]) => `${name}: ${value}\r\n`);
    const passed = connect(server.port, server.hostname, () => {
      passed.write(`GET ${url} HTTP/1.1\r\n${headers.join("")}\r\n`);
      passed.write(head);
      socket.pipe(passed).pipe(socket);
    });
    for (const each of [socket, passed]) {
      sockets.add(each);
      each.on("error", () => {}).on("close", () => sockets.delete(each));
    }
  });
  await new Promise((resolve) => proxy.listen(0, "127.0.0.1", resolve));
  return {
    address: new URL(`http://127.0.0.1:${proxy.address().port}${path}/`),
    close() {
      for (const socket of sockets) socket.destroy();
      proxy.closeAllConnections();
      return new Promise((resolve) => proxy.close(resolve));
    },
  };
}
