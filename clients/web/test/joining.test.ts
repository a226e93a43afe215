// The waits of a client that joins again because what the server sends does not fit its document. The time is not real.
import assert from "node:assert/strict";
import { afterEach, beforeEach, mock, test } from "node:test";
import { LoroDoc } from "loro-crdt";
import { connect, type Connection } from "../src/index.js";
import type { SocketLike } from "../src/socket.js";
import { write } from "./client.js";

const NOTHING = Buffer.from(new LoroDoc().oplogVersion().encode()).toString("base64url");

let connection: Connection;
/** The update that the server sends to each client that joins, after a state that is empty. */
let update: Uint8Array;
/** The bytes that the server sends as the state. */
let state: Uint8Array;
/** The times of all joins so far, from the start of the test on. */
let joins: number[];
let sockets: Endless[];

/** A socket without a network, whose server has nothing, sends the same to each client that joins, and confirms nothing. */
class Endless implements SocketLike {
  binaryType = "";
  readonly bufferedAmount = 0;
  onopen: SocketLike["onopen"] = null;
  onmessage: SocketLike["onmessage"] = null;
  onclose: SocketLike["onclose"] = null;
  onerror: SocketLike["onerror"] = null;
  #isJoined = false;

  constructor() {
    joins.push(Date.now());
    sockets.push(this);
    queueMicrotask(() => this.onopen?.({}));
  }

  send(): void {
    if (this.#isJoined) return;
    this.#isJoined = true;
    queueMicrotask(() => {
      this.tell({ type: "joined", rev: 1, version: NOTHING });
      this.give(state);
      this.tell({ type: "synced" });
      this.give(update);
    });
  }

  tell(event: object): void {
    this.onmessage?.({ data: JSON.stringify(event) });
  }

  give(blob: Uint8Array): void {
    if (blob.length > 0) this.onmessage?.({ data: new Uint8Array(blob).buffer });
  }

  close(): void {}
}

/** Makes another edit than the document's under the same id. */
function contradiction(): Uint8Array {
  const other = new LoroDoc();
  other.setPeerId("42");
  write(other, "other");
  return other.export({ mode: "update" });
}

/** Connects a document that has an edit. */
function begin(): void {
  const doc = new LoroDoc();
  doc.setPeerId("42");
  write(doc, "mine");
  connection = connect("ws://server/sync/test", doc, { WebSocket: Endless, random: () => 0 });
}

/** Lets this time pass, with all that happens in it. */
async function pass(time: number): Promise<void> {
  for (let each = 0; each <= time; each += 50) {
    // A join takes a few turns.
    for (let turn = 0; turn < 5; turn += 1) await new Promise((resolve) => setImmediate(resolve));
    if (each < time) mock.timers.tick(50);
  }
}

beforeEach(() => {
  [joins, sockets, state, update] = [[], [], new Uint8Array(), new Uint8Array()];
  mock.timers.enable({ apis: ["setTimeout", "Date"], now: 0 });
});

afterEach(() => {
  connection.close();
  mock.timers.reset();
});

test("a client that is always contradicted joins again with growing waits: at most ten times in a minute", async () => {
  update = contradiction();
  begin();
  await pass(60_000);
  assert.deepEqual(joins, [0, 0, 250, 750, 1_750, 3_750, 7_750, 15_750, 30_750, 45_750]);
  const { state, saved, retryIn } = connection.status;
  assert.deepEqual([state, saved.all, retryIn], ["offline", false, 15_000]);
});

test("after a contradiction is over and the client was live for a while, it joins again at once", async () => {
  update = contradiction();
  begin();
  await pass(1_000);
  assert.deepEqual(joins, [0, 0, 250, 750]);
  update = new Uint8Array();
  await pass(10_000);
  assert.deepEqual([joins.length, connection.status.state], [5, "live"]);
  sockets.at(-1)!.tell({ type: "pending", updates: [{ frame: 1, waits_for: { peer: "42", counter: 0 } }] });
  await pass(0);
  assert.deepEqual([joins.length, connection.status.state], [6, "live"]);
});

test("a client that was live for a moment only waits, however often the server lists what it waits for", async () => {
  begin();
  write(connection.doc, "a text with enough operations");
  for (let counter = 0; counter < 20; counter += 1) {
    sockets.at(-1)!.tell({ type: "pending", updates: [{ frame: 1, waits_for: { peer: "42", counter } }] });
    await pass(500);
  }
  assert.ok(joins.length > 1 && joins.length <= 7, `${joins.length} joins in 10 seconds`);
});

test("a state that contradicts the document is left until the server has decided on what was offered, without another join", async () => {
  begin();
  // A copy has the edit, and a further one.
  const copy = connection.doc.fork();
  copy.setPeerId("42");
  write(copy, "!");
  state = copy.export({ mode: "update" });
  await pass(1_000);
  assert.deepEqual([joins.length, connection.status.state, connection.doc.opCount()], [1, "syncing", 4]);
  sockets[0]!.tell({ type: "saved", frames: 1, rev: 2 });
  await pass(0);
  assert.deepEqual([joins.length, connection.status.state, connection.doc.opCount()], [1, "live", 5]);
});
