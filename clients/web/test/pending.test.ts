// Edits that are stored, but wait at the server for operations that it lacks.
import assert from "node:assert/strict";
import { test } from "node:test";
import { LoroDoc } from "loro-crdt";
import { allSaved, honest, join, live, offline, room, text, write } from "./client.js";
import { eventually, until } from "./until.js";

/** Makes the event that lists these operations, each of which an update waits for. */
function pending(...operations: { peer: string; counter: number }[]): object {
  return { type: "pending", updates: operations.map((waits_for, index) => ({ frame: index + 1, waits_for })) };
}

const ELSEWHERE = { peer: "42", counter: 1 };

test("stored edits that wait for others do not count as saved, until the server says so", async () => {
  const server = await room();
  const { doc, connection } = honest(server, join(server));
  await live(connection);
  write(doc, "stored");
  await allSaved(connection);
  server.tell(pending(ELSEWHERE, { peer: "7", counter: 0 }, ELSEWHERE));
  const { saved } = await until(connection, "pending", ({ saved }) => !saved.all);
  assert.deepEqual(saved, { all: false, unsaved: 0, refused: 0, waitsFor: [ELSEWHERE, { peer: "7", counter: 0 }] });
  server.tell(pending(ELSEWHERE));
  await until(connection, "one is left", ({ saved }) => saved.waitsFor.length === 1 && !saved.all);
  server.tell(pending());
  await connection.whenSaved();
  assert.deepEqual(connection.status.saved, { all: true, unsaved: 0, refused: 0, waitsFor: [] });
  assert.equal(server.joins.length, 1);
});

test("operations that the server lacks and this client has are offered again, once", async () => {
  const server = await room();
  const { doc, connection } = join(server);
  await live(connection);
  // The server says that it stores the first edit, and loses it.
  server.decide = () => {
    server.tell({ type: "saved", frames: 1, rev: 1 });
    return "ignore";
  };
  doc.setPeerId("42");
  doc.getText("text").push("lost, ");
  connection.resync();
  await live(connection);
  connection.whenSaved().catch(() => {});
  await eventually("it came", () => [...server.members][0]?.frames === 1);
  server.decide = () => "store";
  server.tell(pending({ peer: "42", counter: 0 }));
  await eventually("offered again", () => text(server.doc) === "lost, ");
  await live(connection);
  const joins = server.joins.length;
  server.tell(pending({ peer: "42", counter: 0 }));
  await until(connection, "pending", ({ saved }) => saved.waitsFor.length === 1);
  server.tell(pending());
  await allSaved(connection);
  assert.equal(server.joins.length, joins, "a server that insists is not asked without end");
});

test("after another join the wait is over once the server has the missing operations, and not before", async () => {
  for (const meanwhile of [true, false]) {
    const server = await room();
    const { doc, connection } = honest(server, join(server));
    await live(connection);
    write(doc, "stored");
    await allSaved(connection);
    server.tell(pending(ELSEWHERE));
    await until(connection, "pending", ({ saved }) => !saved.all);
    server.cut();
    await offline(connection);
    assert.deepEqual(connection.status.saved.waitsFor, [ELSEWHERE]);
    const other = new LoroDoc();
    other.setPeerId("42");
    write(other, "it");
    const missing = other.export({ mode: "update" });
    if (meanwhile) server.doc.import(missing);
    await live(connection);
    if (!meanwhile) {
      assert.deepEqual([connection.status.saved.all, connection.status.saved.waitsFor], [false, [ELSEWHERE]]);
      server.doc.import(missing);
      server.broadcast(missing);
    }
    await connection.whenSaved();
    assert.deepEqual(connection.status.saved.waitsFor, []);
  }
});
