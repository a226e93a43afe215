// Operations that are in the document but are not edits made here.
import assert from "node:assert/strict";
import { test } from "node:test";
import { LoroDoc } from "loro-crdt";
import { allSaved, honest, join, live, noise, offline, room, text, write } from "./client.js";
import { eventually } from "./until.js";

/** Makes a file that contains this text, as an application would import it. */
function file(words: string, doc = new LoroDoc()): Uint8Array {
  const from = doc.oplogVersion();
  write(doc, words);
  return doc.export({ mode: "update", from });
}

test("a file imported before another join counts as saved only once the server has it", async () => {
  const server = await room();
  const client = join(server);
  await allSaved(client.connection);
  client.doc.import(file("imported"));
  client.connection.resync();
  assert.equal(client.connection.status.saved.all, false);
  await client.connection.whenSaved();
  assert.equal(text(server.doc), "imported");
});

test("a file imported without any edit is sent, and does not count as saved before", async () => {
  const server = await room();
  const { doc, connection } = honest(server, join(server));
  await allSaved(connection);
  doc.import(file("imported"));
  assert.deepEqual(connection.status.saved, { all: false, unsaved: 1, refused: 0, waitsFor: [] });
  await allSaved(connection);
  assert.equal(text(server.doc), "imported");
  assert.equal(server.joins.length, 1);
});

test("an edit that depends on an imported file can be applied by the server", async () => {
  for (const detached of [false, true]) {
    const server = await room();
    const { doc, connection } = honest(server, join(server));
    await allSaved(connection);
    // Loro reports no import into a detached document.
    if (detached) doc.detach();
    doc.import(file("imported"));
    if (detached) doc.attach();
    write(doc, " and written");
    await connection.whenSaved();
    assert.equal(text(server.doc), "imported and written");
    assert.equal(server.joins.length, 1);
  }
});

test("an import without a visible change is saved, too", async () => {
  const server = await room();
  const { doc, connection } = honest(server, join(server));
  await allSaved(connection);
  const other = new LoroDoc();
  other.getText("text").insert(0, "gone");
  other.getText("text").delete(0, 4);
  other.commit();
  let told = false;
  doc.subscribe(() => (told = true));
  doc.import(other.export({ mode: "update" }));
  assert.equal(told, false, "Loro does not report it");
  assert.equal(connection.status.saved.all, false);
  server.tell({ type: "peers", count: 1 });
  await allSaved(connection);
  assert.equal(server.doc.oplogVersion().compare(doc.oplogVersion()), 0);
});

test("a file imported while there is no connection is sent later", async () => {
  const server = await room();
  const { doc, connection } = honest(server, join(server));
  doc.import(file("while connecting, "));
  connection.resync();
  connection.resync();
  await connection.whenSaved();
  server.cut();
  await offline(connection);
  doc.import(file("while offline, "));
  assert.equal(connection.status.saved.all, false);
  await connection.whenSaved();
  assert.equal(text(server.doc).length, "while connecting, while offline, ".length);
});

test("a file imported just before close is sent", async () => {
  const server = await room();
  const { doc, connection } = join(server);
  await live(connection);
  doc.detach();
  doc.import(file("imported"));
  connection.close();
  assert.equal(connection.status.saved.all, false, "it is no longer known");
  await eventually("it arrived", () => text(server.doc) === "imported");
});

test("the second half of a file is imported here, and the first comes from the server", async () => {
  for (const before of [true, false]) {
    const server = await room();
    const author = new LoroDoc();
    const first = file("first, ", author);
    const second = file("second", author);
    const { doc, connection } = honest(server, join(server));
    if (!before) await allSaved(connection);
    assert.ok(doc.import(second).pending, "it waits for the first half");
    server.doc.import(first);
    if (!before) server.broadcast(first);
    await eventually("the document is complete", () => text(doc) === "first, second");
    await connection.whenSaved();
    assert.equal(text(server.doc), "first, second");
  }
});

test("updates from the server are not sent back, whether at the join, before the state is complete, or live", async () => {
  const server = await room();
  write(server.doc, "stored, ");
  const author = server.doc.fork();
  server.state = (version) => {
    const state = server.doc.export({ mode: "update", from: version });
    // It was stored after the server had sent its version, and before the state was complete.
    const late = file("late, ", author);
    server.doc.import(late);
    return [state, late];
  };
  server.decide = () => assert.fail("nothing should be sent");
  const { doc, connection } = honest(server, join(server));
  await allSaved(connection);
  const update = file("live", author);
  server.doc.import(update);
  server.broadcast(update);
  await eventually("it came", () => text(doc) === "stored, late, live");
  await connection.whenSaved();
  assert.deepEqual(connection.status.saved, { all: true, unsaved: 0, refused: 0, waitsFor: [] });
});

test("edits made in reaction to the server's updates are sent, and nothing else", async () => {
  const server = await room();
  const author = new LoroDoc();
  const { doc, connection } = honest(server, join(server));
  await allSaved(connection);
  let sent = 0;
  server.decide = (_frame, update) => {
    sent += update.length;
    return "store";
  };
  doc.subscribe(({ by }) => {
    if (by !== "import" || doc.getMap("seen").get("it")) return;
    doc.getMap("seen").set("it", true);
    doc.commit();
    doc.import(file("x"));
  });
  const update = file("a long text that would be noticed. ".repeat(20), author);
  server.doc.import(update);
  server.broadcast(update);
  await eventually("it came", () => doc.getMap("seen").get("it") === true);
  await connection.whenSaved();
  assert.equal(server.doc.getMap("seen").get("it"), true);
  assert.ok(text(server.doc).includes("x"));
  assert.ok(sent < update.length, `${sent} bytes`);
});

test("uncommitted edits are not sent", async () => {
  const server = await room();
  const { doc, connection } = honest(server, join(server));
  await allSaved(connection);
  doc.getText("text").push("half a");
  server.tell({ type: "peers", count: 7 });
  await eventually("the event arrived", () => connection.status.peers === 7);
  assert.equal(doc.getPendingTxnLength(), "half a".length);
  doc.getText("text").push(" sentence");
  doc.commit();
  await connection.whenSaved();
  assert.equal([...server.members][0]?.frames, 1);
});

test("the status is right when an application asks for it at each edit", async () => {
  const server = await room();
  const { doc, connection } = honest(server, join(server));
  await allSaved(connection);
  const answers: Promise<void>[] = [];
  doc.subscribe(() => answers.push(connection.whenSaved()));
  write(doc, "one, ");
  write(doc, "two");
  assert.equal(answers.length, 2);
  await Promise.all(answers);
  assert.deepEqual(connection.status.saved, { all: true, unsaved: 0, refused: 0, waitsFor: [] });
});

test("an edit in a checked-out past is sent, too", async () => {
  const server = await room();
  const { doc, connection } = honest(server, join(server));
  write(doc, "one, ");
  const past = doc.frontiers();
  write(doc, "two");
  await connection.whenSaved();
  doc.checkout(past);
  doc.setDetachedEditing(true);
  doc.getMap("map").set("edited", "then");
  doc.commit();
  await connection.whenSaved();
  assert.equal(server.doc.getMap("map").get("edited"), "then");
});

test("before an import that may take long, listeners are notified, and nothing that came meanwhile is lost or out of order", async () => {
  const server = await room();
  server.doc.getText("text").insert(0, noise(100_000));
  server.doc.commit();
  const { doc, connection } = honest(server, join(server));
  const told: string[] = [];
  connection.on("status", ({ state, importing }) => told.push(`${state}${importing ? ", importing" : ""}, ${text(doc).length}`));
  await live(connection);
  assert.deepEqual([...new Set(told)].slice(-2), ["syncing, importing, 0", "live, 100000"]);

  // Two large updates that arrive live, and a small one that builds on them while they wait.
  const author = server.doc.fork();
  told.length = 0;
  for (const length of [100_000, 80_000, 1]) {
    const update = file(noise(length), author);
    server.doc.import(update);
    server.broadcast(update);
  }
  await eventually("all came", () => text(doc).length === 280_001);
  assert.equal(connection.status.importing, false);
  assert.ok(told.includes("live, importing, 100000"), told.join());
  assert.equal(server.joins.length, 1);
});

test("a connection that breaks while an import is announced imports at the next join", async () => {
  const server = await room();
  server.doc.getText("text").insert(0, noise(100_000));
  server.doc.commit();
  const { doc, connection } = honest(server, join(server));
  const stop = connection.on("status", ({ importing }) => {
    if (!importing) return;
    stop();
    connection.resync();
  });
  await live(connection);
  assert.deepEqual([text(doc).length, connection.status.importing, server.joins.length], [100_000, false, 2]);
});

test("the updates after a snapshot are imported as one, except those that are bad or wait for others", async () => {
  const server = await room();
  const author = new LoroDoc();
  const updates = Array.from({ length: 100 }, () => file(noise(1_000), author));
  for (const update of updates) server.doc.import(update);
  const other = new LoroDoc();
  file("lost", other);
  const waits = file("waits", other);
  const bad = updates[7]!.slice(0, -1);
  server.state = () => [new LoroDoc().export({ mode: "snapshot" }), updates[0]!, waits, bad, ...updates.slice(1)];
  const { doc, connection, errors } = join(server);
  const imports = counted(doc);
  await live(connection);
  assert.equal(text(doc), text(server.doc));
  assert.equal(imports.length, 5, "the snapshot, the first update with operations, all others as one, what waits, what is bad");
  assert.deepEqual(errors.map(({ code }) => code), ["import_failed"]);
  assert.ok((doc.exportPendingUpdates()?.length ?? 0) > 0, "it waits");
  assert.equal(server.joins.length, 1);
});

test("many updates are imported in turns, between which the page responds, and nothing is lost or out of order", async () => {
  const server = await room();
  const author = new LoroDoc();
  const updates = Array.from({ length: 60 }, (_, n) => file(`${n}, `, author));
  for (const update of updates) server.doc.import(update);
  server.state = () => updates;
  // A document that is not empty cannot take them as one.
  const { doc, connection } = honest(server, join(server, undefined, { syncTimeout: 1_000 }));
  doc.getMap("map").set("mine", true);
  doc.commit();
  // Each takes longer than a turn, and all of them longer than the client waits for a part of the state.
  const imports = counted(doc, 30);
  const told: boolean[] = [];
  connection.on("status", ({ importing }) => told.push(importing));
  const turns = [0];
  let meanwhile = 0;
  const timer = setInterval(() => {
    turns.push(imports.length);
    if (imports.length === 0 || imports.length >= updates.length) return;
    meanwhile += 1;
    doc.getMap("map").set(`meanwhile ${meanwhile}`, true);
    doc.commit();
    if (meanwhile > 1) return;
    const late = file("late", author);
    server.doc.import(late);
    server.broadcast(late);
  });
  await live(connection);
  clearInterval(timer);
  await eventually("all came", () => text(doc) === text(server.doc));
  await connection.whenSaved();
  const most = Math.max(...turns.slice(1).map((count, at) => count - turns[at]!));
  assert.equal(most, 1, "the page responds after each");
  assert.ok(told.includes(true) && !connection.status.importing, "it says that it is working");
  assert.equal(imports.length, updates.length + 1);
  assert.ok(meanwhile > 0, "edits were made meanwhile");
  assert.deepEqual(server.doc.getMap("map").toJSON(), doc.getMap("map").toJSON());
  assert.equal(server.joins.length, 1);
});

/** Records the document's imports, and makes each take this many milliseconds. */
function counted(doc: LoroDoc, time = 0): Uint8Array[] {
  const imports: Uint8Array[] = [];
  const original = doc.import.bind(doc);
  doc.import = (blob) => {
    imports.push(blob);
    const end = performance.now() + time;
    while (performance.now() < end);
    return original(blob);
  };
  return imports;
}
