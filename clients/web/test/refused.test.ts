// Updates that the server refuses.
import assert from "node:assert/strict";
import { test } from "node:test";
import { LoroDoc, LoroMap } from "loro-crdt";
import type { RoomServer } from "./room-server.js";
import { allSaved, honest, join, live, noise, offline, rejected, room, text, write } from "./client.js";
import { eventually, until } from "./until.js";

const READ_ONLY = { code: "read_only", message: "you may read this project, but not change it" };

/** Starts a server that refuses the first `times` frames, counted over all connections. */
async function refusing(times: number): Promise<RoomServer> {
  const server = await room();
  let left = times;
  server.decide = () => ((left -= 1) >= 0 ? "refuse" : "store");
  return server;
}

/** Waits until another client has been refused twice, which takes longer than one more attempt of the client under test. */
async function meanwhile(server: RoomServer): Promise<void> {
  const { decide } = server;
  server.decide = () => "refuse";
  const other = join(server);
  write(other.doc, "other");
  await rejected(other.connection);
  other.connection.close();
  server.decide = decide;
}

test("an edit that is refused once, and the edits after it, are saved in the end", async () => {
  const server = await refusing(1);
  const { doc, connection, errors } = honest(server, join(server));
  await allSaved(connection);
  write(doc, "refused, ");
  write(doc, "at once, ");
  const { saved } = await until(connection, "refused", ({ saved }) => saved.refused > 0);
  assert.deepEqual(saved, { all: false, unsaved: 2, refused: 1, waitsFor: [] });
  write(doc, "meanwhile");
  assert.deepEqual(connection.status.saved, { all: false, unsaved: 3, refused: 1, waitsFor: [] });
  await connection.whenSaved();
  assert.equal(text(server.doc), "refused, at once, meanwhile");
  assert.deepEqual(connection.status.saved, { all: true, unsaved: 0, refused: 0, waitsFor: [] });
  assert.deepEqual(errors, [{ code: "invalid_update", message: "not a Loro update", frame: 1, final: false }]);
  assert.equal(server.joins.length, 2);
});

test("an edit that depends on a refused one does not count as saved before that one", async () => {
  const server = await refusing(1);
  const { doc, connection } = honest(server, join(server));
  await allSaved(connection);
  write(doc, "refused, ");
  await offline(connection);
  server.decide = () => "ignore";
  write(doc, "built upon it");
  await live(connection);
  assert.deepEqual(connection.status.saved, { all: false, unsaved: 2, refused: 0, waitsFor: [] }, "both are on their way");
  server.decide = () => "store";
  server.cut();
  await allSaved(connection);
  assert.equal(text(server.doc), "refused, built upon it");
});

test("after a second refusal, the client stops, says why, and no longer counts anything as saved", async () => {
  const server = await room();
  server.refusal = READ_ONLY;
  const { doc, connection, errors } = honest(server, join(server));
  await allSaved(connection);
  server.decide = () => "refuse";
  write(doc, "refused");
  await assert.rejects(connection.whenSaved(), /cannot be saved: you may read this project, but not change it/);
  const { state, reason, saved, peers, retryIn } = connection.status;
  assert.deepEqual({ state, peers, retryIn }, { state: "rejected", peers: undefined, retryIn: undefined });
  assert.deepEqual(saved, { all: false, unsaved: 1, refused: 1, waitsFor: [] });
  assert.deepEqual(errors, [
    { ...READ_ONLY, frame: 1, final: false },
    { code: "read_only", message: reason, frame: 1, final: true },
  ]);

  // The document stays usable, and later edits count as unsaved.
  server.decide = () => "store";
  write(doc, ", and more");
  assert.equal(text(doc), "refused, and more");
  assert.deepEqual(connection.status.saved, { all: false, unsaved: 2, refused: 1, waitsFor: [] });
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

test("an edit from before the connection is refused twice", async () => {
  const server = await room();
  server.decide = () => "refuse";
  const doc = new LoroDoc();
  write(doc, "early");
  const { connection } = honest(server, join(server, doc));
  await assert.rejects(connection.whenSaved(), /cannot be saved: not a Loro update/);
  assert.deepEqual(connection.status.saved, { all: false, unsaved: 1, refused: 1, waitsFor: [] });
});

test("after a refusal and a complete save, a later refusal counts as the first", async () => {
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

test("during continuous edits, a later refusal counts as the first once the edits offered again are saved", async () => {
  const server = await refusing(1);
  const { doc, connection } = honest(server, join(server));
  await allSaved(connection);
  write(doc, "refused, ");
  await offline(connection);
  // The join's frame is stored, but the server confirms it only when the next edit is on its way, so at no time everything is saved.
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

test("a reader that becomes a writer while it writes gets all its edits saved", async () => {
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

test("a server that accepts edits only at a join is not asked without pauses", async () => {
  const server = await room();
  const { doc, connection } = honest(server, join(server, new LoroDoc(), { minDelay: 8, maxDelay: 64, random: () => 0.999 }));
  await allSaved(connection);
  // The server refuses every frame after the join's own.
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

test("an error that concerns no edit is reported, and the connection continues", async () => {
  const server = await room();
  const { doc, connection, errors } = honest(server, join(server));
  await allSaved(connection);
  server.tell({ type: "error", code: "unexpected_text", message: "updates are binary frames" });
  write(doc, "saved");
  await connection.whenSaved();
  assert.deepEqual(errors, [{ code: "unexpected_text", message: "updates are binary frames", final: false }]);
  assert.equal(server.joins.length, 1);
});

test("a picture of 17 MB in a map: the reason names it and gives advice, and everything else is saved", async () => {
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

test("a picture of 17 MB in a node while offline: all other edits, from here and elsewhere, are saved", async () => {
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

test("if a proxy accepts only smaller messages than the server, many edits made offline still get through", async () => {
  const server = await room({ maxMessage: 300_000 });
  const doc = new LoroDoc();
  for (let line = 0; line < 700; line += 1) write(doc, `${line} ${noise(1_000)}`);
  const { connection, errors } = honest(server, join(server, doc));
  await connection.whenSaved();
  assert.equal(text(server.doc), text(doc));
  assert.deepEqual(errors.map(({ code, final }) => [code, final]), [["too_large", false]]);
});

test("if a proxy accepts only smaller messages than one edit, the client stops and says why", async () => {
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

test("after a close for a message's size while nothing was on its way, the client joins again", async () => {
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

test("a shallow document is not saved if the server lacks its history, and the client says so", async () => {
  const server = await room();
  const whole = new LoroDoc();
  write(whole, "history");
  const doc = new LoroDoc();
  doc.import(whole.export({ mode: "shallow-snapshot", frontiers: whole.frontiers() }));
  write(doc, ", and more");
  const { connection, errors } = honest(server, join(server, doc));
  await assert.rejects(connection.whenSaved(), /cannot be saved: .*lacks the history/);
  assert.deepEqual(errors.map(({ code, final }) => [code, final]), [
    ["export_failed", false],
    ["export_failed", true],
  ]);
  connection.close();
  server.doc.import(whole.export({ mode: "update" }));
  await honest(server, join(server, doc)).connection.whenSaved();
  assert.equal(text(server.doc), "history, and more");
});

test("a shallow document without any edit is not saved either if the server lacks its history", async () => {
  const server = await room();
  const whole = new LoroDoc();
  write(whole, "history, ");
  const before = whole.oplogVersion();
  write(whole, "and more");
  for (const known of [[], [whole.export({ mode: "updates-in-range", spans: [{ id: { peer: whole.peerIdStr, counter: 0 }, len: 3 }] })]]) {
    for (const update of known) server.doc.import(update);
    const doc = new LoroDoc();
    doc.import(whole.export({ mode: "shallow-snapshot", frontiers: whole.frontiers() }));
    const { connection, errors } = honest(server, join(server, doc));
    const { reason, saved } = await rejected(connection);
    assert.match(reason ?? "", /the server lacks the history before this document's start/);
    assert.equal(errors[0]?.code, "export_failed");
    assert.equal(saved.all, false);
    assert.ok(!text(server.doc).includes("more"));
  }
  // A server that has the history before the start takes the rest.
  server.doc.import(whole.export({ mode: "update" }));
  const doc = new LoroDoc();
  doc.import(whole.export({ mode: "shallow-snapshot", frontiers: whole.vvToFrontiers(before) }));
  const { connection } = honest(server, join(server, doc));
  await connection.whenSaved();
});

test("a connection that is closed by an error listener stays closed", async () => {
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
