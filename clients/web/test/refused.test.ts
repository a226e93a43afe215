// What the server does not take.
import assert from "node:assert/strict";
import { test } from "node:test";
import { LoroDoc, LoroMap } from "loro-crdt";
import type { RoomServer } from "./room-server.js";
import { allSaved, honest, join, live, noise, offline, rejected, room, text, write } from "./client.js";
import { eventually, until } from "./until.js";

const READ_ONLY = { code: "read_only", message: "you may read this project, but not change it" };

/** A server that refuses the first `times` frames that come, over all connections. */
async function refusing(times: number): Promise<RoomServer> {
  const server = await room();
  let left = times;
  server.decide = () => ((left -= 1) >= 0 ? "refuse" : "store");
  return server;
}

/** Waits until a client of its own has been refused twice: more time than another needs for one more attempt. */
async function meanwhile(server: RoomServer): Promise<void> {
  const { decide } = server;
  server.decide = () => "refuse";
  const other = join(server);
  write(other.doc, "other");
  await rejected(other.connection);
  other.connection.close();
  server.decide = decide;
}

test("my edit was refused for no fault of its own: it is saved, and so is what I wrote on it", async () => {
  const server = await refusing(1);
  const { doc, connection, errors } = honest(server, join(server));
  await allSaved(connection);
  write(doc, "refused, ");
  write(doc, "at once, ");
  const { saved } = await until(connection, "refused", ({ saved }) => saved.refused > 0);
  assert.deepEqual(saved, { all: false, unsaved: 2, refused: 1 });
  write(doc, "meanwhile");
  assert.deepEqual(connection.status.saved, { all: false, unsaved: 3, refused: 1 });
  await connection.whenSaved();
  assert.equal(text(server.doc), "refused, at once, meanwhile");
  assert.deepEqual(connection.status.saved, { all: true, unsaved: 0, refused: 0 });
  assert.deepEqual(errors, [{ code: "invalid_update", message: "not a Loro update", frame: 1, final: false }]);
  assert.equal(server.joins.length, 2);
});

test("my edit was refused, and what I write on it is not called saved before it is", async () => {
  const server = await refusing(1);
  const { doc, connection } = honest(server, join(server));
  await allSaved(connection);
  write(doc, "refused, ");
  await offline(connection);
  server.decide = () => "ignore";
  write(doc, "built upon it");
  await live(connection);
  assert.deepEqual(connection.status.saved, { all: false, unsaved: 2, refused: 0 }, "both are on their way");
  server.decide = () => "store";
  server.cut();
  await allSaved(connection);
  assert.equal(text(server.doc), "refused, built upon it");
});

test("my edit was refused twice: it stops, says why, and calls nothing saved any more", async () => {
  const server = await room();
  server.refusal = READ_ONLY;
  const { doc, connection, errors } = honest(server, join(server));
  await allSaved(connection);
  server.decide = () => "refuse";
  write(doc, "refused");
  await assert.rejects(connection.whenSaved(), /cannot be saved: you may read this project, but not change it/);
  const { state, reason, saved, peers, retryIn } = connection.status;
  assert.deepEqual({ state, peers, retryIn }, { state: "rejected", peers: undefined, retryIn: undefined });
  assert.deepEqual(saved, { all: false, unsaved: 1, refused: 1 });
  assert.deepEqual(errors, [
    { ...READ_ONLY, frame: 1, final: false },
    { code: "read_only", message: reason, frame: 1, final: true },
  ]);

  // The document stays usable, and honest about it.
  server.decide = () => "store";
  write(doc, ", and more");
  assert.equal(text(doc), "refused, and more");
  assert.deepEqual(connection.status.saved, { all: false, unsaved: 2, refused: 1 });
  await assert.rejects(connection.whenSaved(), /cannot be saved/);
  await assert.rejects(connection.whenSynced(), /cannot be saved/);
  connection.resync();
  await meanwhile(server);
  assert.equal(connection.status.state, "rejected");
  assert.equal(server.joins.length, 2 + 2, "it has not joined again");

  connection.close();
  assert.equal(connection.status.state, "closed");
  assert.equal(connection.status.reason, reason);
  assert.equal(connection.status.saved.all, false);
  const again = honest(server, join(server, doc));
  await again.connection.whenSaved();
  assert.equal(text(server.doc), "refused, and more", "a new connection tries again");
});

test("what I wrote before the connection is refused twice", async () => {
  const server = await room();
  server.decide = () => "refuse";
  const doc = new LoroDoc();
  write(doc, "early");
  const { connection } = honest(server, join(server, doc));
  await assert.rejects(connection.whenSaved(), /cannot be saved: not a Loro update/);
  assert.deepEqual(connection.status.saved, { all: false, unsaved: 1, refused: 1 });
});

test("I was refused, then all was saved: a later refusal starts anew", async () => {
  const server = await room();
  const { doc, connection, errors } = honest(server, join(server));
  await allSaved(connection);
  for (let turn = 0; turn < 4; turn += 1) {
    let refused = false;
    server.decide = () => {
      if (refused) return "store";
      refused = true;
      return "refuse";
    };
    write(doc, `${turn}`);
    await connection.whenSaved();
  }
  assert.equal(text(server.doc), "0123");
  assert.deepEqual(errors.map(({ final }) => final), [false, false, false, false]);
});

test("I was refused and never stop writing: what was offered again is saved, so a later refusal starts anew", async () => {
  const server = await refusing(1);
  const { doc, connection } = honest(server, join(server));
  await allSaved(connection);
  write(doc, "refused, ");
  await offline(connection);
  // The join's frame is stored, but that is told only when the next edit is on its way: nothing is ever all saved.
  server.decide = (_frame, update) => {
    server.doc.import(update);
    return "ignore";
  };
  await live(connection);
  write(doc, "undecided, ");
  await eventually("both frames came", () => [...server.members][0]?.frames === 2);
  server.tell({ type: "saved", frames: 1, rev: 1 });
  await until(connection, "offered again and saved", ({ saved, rev }) => rev === 1 && saved.unsaved === 1);
  server.decide = () => "refuse";
  write(doc, "refused again");
  await offline(connection);
  server.decide = () => "store";
  await connection.whenSaved();
  assert.equal(text(server.doc), "refused, undecided, refused again");
});

test("I may only read, and was given leave to write while I wrote: all that I wrote is saved", async () => {
  const server = await room();
  server.refusal = READ_ONLY;
  server.decide = () => "refuse";
  const { doc, connection, errors } = honest(server, join(server));
  await allSaved(connection);
  connection.on("error", () => (server.decide = () => "store"));
  for (const letter of "typed in one go") write(doc, letter);
  await connection.whenSaved();
  assert.equal(text(server.doc), "typed in one go");
  assert.deepEqual(errors.map(({ code, final }) => [code, final]), [["read_only", false]], "one refusal, however many frames");
});

test("a server that takes edits at a join alone is not asked without a pause", async () => {
  const server = await room();
  const { doc, connection } = honest(server, join(server, new LoroDoc(), { minDelay: 8, maxDelay: 64, random: () => 0.999 }));
  await allSaved(connection);
  // What comes after the join's own frame is refused.
  server.decide = (frame) => (frame === 1 && server.joins.length > 1 ? "store" : "refuse");
  const waits: number[] = [];
  connection.on("status", ({ state, retryIn, saved }) => {
    if (state === "offline" && retryIn !== undefined && retryIn !== waits.at(-1)) waits.push(retryIn);
    if (state === "live" && saved.all && waits.length < 4) queueMicrotask(() => write(doc, "x"));
  });
  write(doc, "x");
  await eventually("refused again and again", () => waits.length === 4);
  assert.deepEqual(waits, [8, 16, 32, 64]);
  await allSaved(connection);
});

test("an error about no edit at all is told, and all goes on", async () => {
  const server = await room();
  const { doc, connection, errors } = honest(server, join(server));
  await allSaved(connection);
  server.tell({ type: "error", code: "unexpected_text", message: "updates are binary frames" });
  write(doc, "saved");
  await connection.whenSaved();
  assert.deepEqual(errors, [{ code: "unexpected_text", message: "updates are binary frames", final: false }]);
  assert.equal(server.joins.length, 1);
});

test("I put a picture of 17 MB into a map: it says which and what to do instead, and all else is saved", async () => {
  const server = await room();
  const { doc, connection, errors } = honest(server, join(server));
  await allSaved(connection);
  write(doc, "before");
  doc.getMap("root").set("image", noise(17_000_000));
  doc.commit();
  await assert.rejects(connection.whenSaved(), /"image" in the map "root" is too large .*16\.3 MiB.*16 MiB.*address \(a URL\)/);
  assert.equal(connection.status.state, "rejected");
  assert.equal(connection.status.saved.all, false);
  assert.deepEqual(errors, [{ code: "too_large", message: connection.status.reason, final: true }]);
  assert.equal(text(server.doc), "before");
  write(doc, ", after");
  assert.equal(connection.status.saved.unsaved, 2);
  await meanwhile(server);
  assert.equal(server.joins.length, 1 + 2);
  assert.ok(server.bytesReceived < 100_000, `${server.bytesReceived} bytes were uploaded`);
});

test("I put a picture of 17 MB into a node while offline: what I and others wrote besides is saved", async () => {
  const server = await room();
  const doc = new LoroDoc();
  write(doc, "mine, ");
  const friend = doc.fork();
  const data = doc.getMap("nodes").setContainer("n1", new LoroMap()).setContainer("data", new LoroMap());
  data.set("src", noise(17_000_000));
  doc.commit();
  write(doc, "on top of it");
  write(friend, "a friend's");
  doc.import(friend.export({ mode: "update" }));
  const { connection } = honest(server, join(server, doc));
  // The connection breaks before the rest is confirmed.
  server.decide = () => "ignore";
  await live(connection);
  assert.equal(connection.status.saved.all, false);
  server.decide = () => "store";
  server.cut();
  const { reason, saved } = await rejected(connection);
  assert.match(reason ?? "", /^"src" in the map "nodes\/n1\/data" is too large/);
  assert.equal(saved.all, false);
  assert.equal(text(server.doc), "mine, a friend's");
  assert.ok(server.bytesReceived < 100_000, `${server.bytesReceived} bytes were uploaded`);
});

test("a proxy takes smaller messages than the server: many edits made offline get through all the same", async () => {
  const server = await room({ maxMessage: 300_000 });
  const doc = new LoroDoc();
  for (let line = 0; line < 700; line += 1) write(doc, `${line} ${noise(1_000)}`);
  const { connection, errors } = honest(server, join(server, doc));
  await connection.whenSaved();
  assert.equal(text(server.doc), text(doc));
  assert.deepEqual(errors.map(({ code, final }) => [code, final]), [["too_large", false]]);
});

test("a proxy takes smaller messages than one edit: it stops and says why", async () => {
  const server = await room({ maxMessage: 100_000 });
  const { doc, connection, errors } = honest(server, join(server));
  await allSaved(connection);
  doc.getMap("root").set("image", noise(200_000));
  doc.commit();
  await assert.rejects(connection.whenSaved(), /cannot be saved: .*larger than the server accepts.*address \(a URL\)/);
  assert.deepEqual(errors.map(({ code, final }) => [code, final]), [
    ["too_large", false],
    ["too_large", true],
  ]);
  assert.equal(connection.status.saved.all, false);
  await meanwhile(server);
  assert.equal(server.joins.length, 2 + 2);
});

test("closed for a size while nothing was on its way: it just joins again", async () => {
  const server = await room();
  const { doc, connection, errors } = honest(server, join(server));
  for (let turn = 0; turn < 3; turn += 1) {
    await allSaved(connection);
    server.closeAll(1009);
    await offline(connection);
  }
  assert.deepEqual(errors.map(({ code, final }) => [code, final]), Array(3).fill(["closed", false]));
  write(doc, "saved");
  await connection.whenSaved();
});

test("a document without its history cannot be saved where the history is missing: it says so", async () => {
  const server = await room();
  const whole = new LoroDoc();
  write(whole, "history");
  const doc = new LoroDoc();
  doc.import(whole.export({ mode: "shallow-snapshot", frontiers: whole.frontiers() }));
  write(doc, ", and more");
  const { connection, errors } = honest(server, join(server, doc));
  await assert.rejects(connection.whenSaved(), /cannot be saved: .*no history/);
  assert.deepEqual(errors.map(({ code, final }) => [code, final]), [
    ["export_failed", false],
    ["export_failed", true],
  ]);
  connection.close();
  server.doc.import(whole.export({ mode: "update" }));
  await honest(server, join(server, doc)).connection.whenSaved();
  assert.equal(text(server.doc), "history, and more");
});

test("I close the connection when I hear that something went wrong: it stays closed", async () => {
  const server = await refusing(1);
  const { doc, connection } = join(server);
  await allSaved(connection);
  connection.on("error", () => connection.close());
  write(doc, "refused");
  await until(connection, "closed", ({ state }) => state === "closed");
  await meanwhile(server);
  assert.equal(connection.status.state, "closed");
  assert.equal(server.joins.length, 1 + 2);
});
