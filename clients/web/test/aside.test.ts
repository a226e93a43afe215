// Updates that the server had stored, and has moved out of its document since.
import assert from "node:assert/strict";
import { test } from "node:test";
import { LoroDoc, VersionVector } from "loro-crdt";
import { allSaved, honest, join, live, rejected, room, text, write } from "./client.js";
import type { RoomServer } from "./room-server.js";
import { eventually, until } from "./until.js";

/** Notifies all clients that this number of updates was moved aside. */
function tell(server: RoomServer, updates: number): void {
  server.tell({ type: "error", code: "quarantined", message: `${updates} updates were moved aside` });
}

/** Starts a server whose document has a base, and a client that has received a bad edit after it and has written a good one after that. */
async function begin() {
  const server = await room();
  write(server.doc, "base, ");
  const base = server.doc.export({ mode: "update" });
  const client = join(server);
  await live(client.connection);
  const bad = new LoroDoc();
  bad.setPeerId("42");
  bad.import(base);
  const from = bad.oplogVersion();
  write(bad, "bad, ");
  const update = bad.export({ mode: "update", from });
  server.doc.import(update);
  server.broadcast(update);
  await eventually("it has the bad one", () => text(client.doc) === "base, bad, ");
  write(client.doc, "good");
  await allSaved(client.connection);
  /** Moves the bad edit aside, and with it what builds on it. */
  const moveAside = (updates: number): void => {
    server.doc = new LoroDoc();
    server.doc.import(base);
    tell(server, updates);
  };
  return { server, moveAside, ...client };
}

test("after another client's update was moved aside, it joins once to compare, and stays live until then", async () => {
  const server = await room();
  const { doc, connection, errors } = join(server);
  await live(connection);
  write(doc, "mine");
  await allSaved(connection);
  tell(server, 1);
  const told = await until(connection, "told", ({ saved }) => !saved.all);
  assert.deepEqual([told.state, told.saved.unsaved, told.saved.waitsFor], ["live", 0, []]);
  await allSaved(connection);
  assert.equal(server.joins.length, 2);
  // Each new socket gets the same notice.
  tell(server, 1);
  server.tell({ type: "peers", count: 99 });
  const { saved } = await until(connection, "it has read that", ({ peers }) => peers === 99);
  assert.deepEqual([saved.all, server.joins.length], [true, 2]);
  // But a further notice on one socket is about further updates.
  tell(server, 1);
  await eventually("it compares again", () => server.joins.length === 3);
  await allSaved(connection);
  assert.deepEqual(errors.map(({ code, final }) => [code, final]), [["quarantined", false], ["quarantined", false], ["quarantined", false]]);
});

test("operations that the server has moved aside are offered once, and their refusal ends the connection", async () => {
  const { server, moveAside, doc, connection, errors } = await begin();
  honest(server, { doc, connection, errors });
  server.decide = () => "refuse";
  server.refusal = { code: "quarantined", message: "these operations were moved aside" };
  moveAside(1);
  const { saved, reason } = await rejected(connection);
  const own = { peer: doc.peerIdStr as string, counter: 0 };
  const missing = [...saved.waitsFor].sort((a, b) => a.peer.length - b.peer.length);
  assert.deepEqual([saved.all, missing], [false, [{ peer: "42", counter: 0 }, own]]);
  assert.equal(reason, "edits made here cannot be saved: these operations were moved aside");
  assert.deepEqual(errors.map(({ code, final }) => [code, final]), [["quarantined", false], ["quarantined", true]]);
  assert.equal(text(doc), "base, bad, good", "the edits stay in the document");
  await assert.rejects(connection.whenSaved(), /moved aside/);
  assert.deepEqual([server.joins.length, text(server.doc)], [2, "base, "]);
});

test("a refusal with this code is final at once, also without a notice before it", async () => {
  const server = await room();
  server.decide = () => "refuse";
  server.refusal = { code: "quarantined", message: "these operations were moved aside" };
  const { doc, connection, errors } = join(server);
  await live(connection);
  write(doc, "bad");
  const { saved } = await rejected(connection);
  assert.deepEqual([saved.all, saved.unsaved, saved.refused], [false, 1, 1]);
  assert.deepEqual(errors.map(({ code, frame, final }) => [code, frame, final]), [["quarantined", 1, true]]);
  assert.equal(server.joins.length, 1);
});

test("operations that are stored again and moved aside again are not offered a third time", async () => {
  const { server, moveAside, doc, connection, errors } = await begin();
  moveAside(1);
  await until(connection, "it is missing", ({ saved }) => saved.waitsFor.length === 2 && !saved.all);
  await allSaved(connection);
  assert.deepEqual([text(server.doc), server.joins.length], ["base, bad, good", 2]);
  moveAside(2);
  const { saved, reason } = await rejected(connection);
  await eventually("it has left", () => server.members.size === 0);
  assert.deepEqual([saved.all, saved.waitsFor.length, text(server.doc), text(doc)], [false, 2, "base, ", "base, bad, good"]);
  assert.equal(reason, "edits made here cannot be saved: 2 updates were moved aside");
  assert.deepEqual([errors.at(-1)?.code, errors.at(-1)?.final, server.joins.length], ["quarantined", true, 3]);
});

test("a client that gets the notice before it is live compares once it is live", async () => {
  const server = await room();
  server.state = () => {
    server.state = undefined;
    tell(server, 1);
    return [server.doc.export({ mode: "snapshot" })];
  };
  const { connection } = join(server);
  await live(connection);
  assert.equal(connection.status.saved.all, false);
  await allSaved(connection);
  assert.equal(server.joins.length, 2);
});

test("a connection that is lost before the server has decided does not forget what is missing", async () => {
  const { server, moveAside, connection } = await begin();
  server.decide = () => "ignore";
  moveAside(1);
  await until(connection, "it is missing", ({ saved }) => saved.waitsFor.length === 2);
  server.decide = () => "store";
  server.cut();
  await allSaved(connection);
  moveAside(2);
  await rejected(connection);
});

test("operations that are in the server's state, and not in its version, are not missing", async () => {
  const { server, moveAside, doc, connection } = await begin();
  moveAside(1);
  await until(connection, "it is missing", ({ saved }) => saved.waitsFor.length === 2);
  await allSaved(connection);
  server.version = () => new VersionVector(null);
  server.state = () => [server.doc.export({ mode: "update" })];
  tell(server, 2);
  await eventually("it compares", () => server.joins.length === 3);
  await live(connection);
  write(doc, ", better");
  await allSaved(connection);
  assert.equal(text(server.doc), "base, bad, good, better");
});
