import assert from "node:assert/strict";
import { afterEach } from "node:test";
import { LoroDoc } from "loro-crdt";
import { WebSocket } from "ws";
import { connect, type Connection, type Options, type SyncError } from "../src/index.js";
import { type Faults, RoomServer } from "./room-server.js";
import { until } from "./until.js";

const open: { close(): void | Promise<void> }[] = [];

afterEach(async () => {
  for (const each of open.splice(0).reverse()) await each.close();
});

/** A document, its connection, and the errors that it has reported so far. */
export interface Client {
  readonly doc: LoroDoc;
  readonly connection: Connection;
  readonly errors: SyncError[];
}

/** Starts a server that is stopped when the test is over. */
export async function room(faults: Faults = {}): Promise<RoomServer> {
  const server = await RoomServer.start(faults);
  open.push({ close: () => server.stop() });
  return server;
}

/** Connects a document until the test is over. */
export function join(server: RoomServer, doc = new LoroDoc(), options: Options = {}): Client {
  const connection = connect(server.address, doc, { WebSocket, minDelay: 10, maxDelay: 100, ...options });
  open.push(connection);
  const errors: SyncError[] = [];
  connection.on("error", (error) => errors.push(error));
  return { doc, connection, errors };
}

/** Appends to the document's text and commits. */
export function write(doc: LoroDoc, text: string): void {
  doc.getText("text").push(text);
  doc.commit();
}

/** Returns the text that `write` has written. */
export const text = (doc: LoroDoc) => doc.getText("text").toString();

export const live = (connection: Connection) => until(connection, "live", ({ state }) => state === "live");
export const offline = (connection: Connection) => until(connection, "offline", ({ state }) => state === "offline");
export const rejected = (connection: Connection) => until(connection, "rejected", ({ state }) => state === "rejected");
export const allSaved = (connection: Connection) => until(connection, "all saved", ({ saved }) => saved.all);

/** Makes a text of this length that compression does not shorten. */
export function noise(length: number): string {
  const letters = Buffer.alloc(length);
  let seed = 1;
  for (let at = 0; at < length; at += 1) {
    seed = (seed * 48_271) % 2_147_483_647;
    letters[at] = 33 + (seed % 90);
  }
  return letters.toString("latin1");
}

/** Fails the test, with an uncaught error, if the client ever reports all as saved while the server lacks something. */
export function honest(server: RoomServer, client: Client): Client {
  client.connection.on("status", ({ saved }) => {
    if (!saved.all) return;
    const order = server.doc.oplogVersion().compare(client.doc.oplogVersion());
    assert.ok(order !== undefined && order >= 0, "the client reports all as saved, but the server lacks something");
  });
  return client;
}
