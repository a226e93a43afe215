// A proxy in front of the server that refuses edits on demand.
import { createServer, request } from "node:http";
import { WebSocket, WebSocketServer } from "ws";

export class RefusingDoor {
  /** The number of the next edits, over all sockets, that are refused with an error frame instead of passed on. */
  refusals = 0;
  /** The error with which an edit is refused. */
  error = { code: "invalid_update", message: "not a Loro update" };

  #server;
  #target;
  #sockets = new WebSocketServer({ noServer: true });

  /** Starts a proxy to the server at this address; the browser connects to `door.address`. */
  static async to(target) {
    const door = new RefusingDoor();
    door.#target = target;
    door.#server = createServer((asked, answer) => {
      const passed = request(new URL(asked.url, target), { method: asked.method, headers: asked.headers }, (response) => {
        answer.writeHead(response.statusCode, response.headers);
        response.pipe(answer);
      });
      passed.on("error", () => answer.destroy());
      asked.pipe(passed);
    });
    door.#server.on("upgrade", (asked, socket, head) => {
      door.#sockets.handleUpgrade(asked, socket, head, (near) => door.#join(near, asked.url));
    });
    await new Promise((resolve) => door.#server.listen(0, "127.0.0.1", resolve));
    door.address = new URL(`http://127.0.0.1:${door.#server.address().port}`);
    return door;
  }

  /** Ends it. */
  async close() {
    for (const near of this.#sockets.clients) near.terminate();
    this.#server.closeAllConnections();
    await new Promise((resolve) => this.#server.close(resolve));
  }

  #join(near, path) {
    const url = new URL(path, this.#target);
    url.protocol = "ws:";
    const far = new WebSocket(url);
    const early = [];
    // The first binary frame is the client's version.
    let frames = -1;
    // The server counts only the frames that it gets, so no frame after a refused one is passed on.
    let refused = false;
    const pass = (data, binary) => (far.readyState === WebSocket.OPEN ? far.send(data, { binary }) : early.push([data, binary]));
    near.on("message", (data, binary) => {
      if (binary) frames += 1;
      if (frames > 0 && binary && (refused || this.refusals > 0)) {
        if (!refused) this.refusals -= 1;
        refused = true;
        near.send(JSON.stringify({ type: "error", ...this.error, frame: frames }));
        return;
      }
      pass(data, binary);
    });
    far.on("open", () => early.splice(0).forEach(([data, binary]) => far.send(data, { binary })));
    far.on("message", (data, binary) => near.send(data, { binary }));
    for (const [end, other] of [
      [near, far],
      [far, near],
    ]) {
      end.on("error", () => {});
      end.on("close", () => other.terminate());
    }
  }
}
