import assert from "node:assert/strict";
import { test } from "node:test";
import { decodeImportBlobMeta, LoroDoc, UndoManager, VersionVector } from "loro-crdt";
import { WebSocket } from "ws";
import { connect } from "../src/index.js";
import { allSaved, honest, join, live, noise, room, text, write } from "./client.js";
import { eventually, until } from "./until.js";

test("the first state, then live updates both ways", async () => {
  const server = await room();
  write(server.doc, "before ");
  const a = join(server);
  const b = join(server);
  const states: string[] = [];
  a.connection.on("status", ({ state }) => states.at(-1) !== state && states.push(state));
  await Promise.all([a.connection.whenSynced(), b.connection.whenSynced()]);
  assert.equal(text(a.doc), "before ");
  assert.deepEqual(states, ["connecting", "syncing", "live"].slice(-states.length));
  assert.equal((await until(a.connection, "two peers", ({ peers }) => peers === 2)).peers, 2);
  write(a.doc, "and after");
  await eventually("b has it", () => text(b.doc) === "before and after");
  await a.connection.whenSaved();
  assert.deepEqual(a.connection.status.saved, { all: true, unsaved: 0, refused: 0, waitsFor: [] });
  b.connection.close();
  await until(a.connection, "one peer", ({ peers }) => peers === 1);
});

test("edits made before the connection are sent at the join, and count as unsaved until then", async () => {
  const server = await room();
  server.decide = () => "ignore";
  const { doc, connection } = join(server, new LoroDoc());
  assert.equal(connection.status.saved.all, false, "the server's version is not known yet");
  write(doc, "early");
  await live(connection);
  assert.deepEqual(connection.status.saved, { all: false, unsaved: 1, refused: 0, waitsFor: [] });
  server.decide = () => "store";
  connection.resync();
  await allSaved(connection);
  assert.equal(text(server.doc), "early");
});

test("saved says so only when the server has confirmed every frame", async () => {
  const server = await room();
  const { doc, connection } = join(server);
  await live(connection);
  server.decide = (frame) => (frame === 1 ? "ignore" : "store");
  write(doc, "1");
  assert.deepEqual(connection.status.saved, { all: false, unsaved: 1, refused: 0, waitsFor: [] });
  server.decide = () => "ignore";
  write(doc, "2");
  write(doc, "3");
  assert.equal(connection.status.saved.unsaved, 3);
  await eventually("three frames arrived", () => [...server.members][0]?.frames === 3);
  server.tell({ type: "saved", frames: 2, rev: 2 });
  await until(connection, "one left", ({ saved, rev }) => saved.unsaved === 1 && !saved.all && rev === 2);
  server.tell({ type: "saved", frames: 3, rev: 3 });
  await allSaved(connection);
});

test("edits made while the server is away arrive when it is back", async () => {
  const first = await room();
  const a = join(first);
  const b = join(first);
  await Promise.all([live(a.connection), live(b.connection)]);
  write(a.doc, "online. ");
  await allSaved(a.connection);
  const { port } = first;
  await first.stop();
  await until(a.connection, "offline", ({ state }) => state === "offline");
  assert.equal(a.connection.status.peers, undefined);
  assert.deepEqual(a.connection.status.saved, { all: false, unsaved: 0, refused: 0, waitsFor: [] }, "unknown until the next join");
  write(a.doc, "offline a. ");
  write(b.doc, "offline b. ");
  await until(a.connection, "reported as unreachable", ({ reason }) => reason === "the server cannot be reached");
  assert.deepEqual(a.connection.status.saved, { all: false, unsaved: 1, refused: 0, waitsFor: [] });
  assert.ok(a.errors.some(({ code, final }) => code === "unreachable" && !final));

  const second = await room({ port });
  second.doc.import(first.doc.export({ mode: "snapshot" }));
  await Promise.all([allSaved(a.connection), allSaved(b.connection)]);
  await eventually("both clients have both edits", () => text(a.doc) === text(b.doc) && text(a.doc).length === "online. offline a. offline b. ".length);
  assert.ok(VersionVector.decode(second.versions[0]!).length() > 0, "the join carries the client's version");
});

test("a frame that was on its way when the connection broke is sent again", async () => {
  const server = await room();
  const { doc, connection } = join(server);
  await live(connection);
  server.decide = () => "ignore";
  write(doc, "lost?");
  await eventually("it arrived and was forgotten", () => [...server.members][0]?.frames === 1);
  assert.equal(text(server.doc), "");
  server.decide = () => "store";
  server.cut();
  await until(connection, "offline", ({ state }) => state === "offline");
  assert.deepEqual(connection.status.saved, { all: false, unsaved: 1, refused: 0, waitsFor: [] });
  await allSaved(connection);
  assert.equal(text(server.doc), "lost?");
});

test("a frame that was stored but not confirmed is offered once more, because another client may have written as this peer", async () => {
  const server = await room();
  server.refusesDuplicates = true;
  const { doc, connection, errors } = honest(server, join(server));
  await live(connection);
  write(doc, "confirmed, ");
  await allSaved(connection);
  server.decide = (_frame, update) => {
    server.doc.import(update);
    return "ignore";
  };
  write(doc, "stored");
  await eventually("stored", () => text(server.doc) === "confirmed, stored");
  assert.equal(connection.status.saved.all, false);
  const sent: number[] = [];
  server.decide = (_frame, update) => {
    sent.push(decodeImportBlobMeta(update, false).partialStartVersionVector.get(doc.peerIdStr) ?? 0);
    return "store";
  };
  server.cut();
  await until(connection, "offline", ({ state }) => state === "offline");
  await allSaved(connection);
  assert.deepEqual(sent, ["confirmed, ".length], "and what was confirmed is not");
  server.cut();
  await until(connection, "offline", ({ state }) => state === "offline");
  await allSaved(connection);
  assert.deepEqual([text(doc), sent.length, errors.length], ["confirmed, stored", 1, 0]);
});

test("a document with 5,000 peers joins, and gets only what it lacks", async () => {
  const server = await room();
  for (let peer = 1; peer <= 5_000; peer += 1) {
    server.doc.setPeerId(BigInt(peer) * 1_000_003n);
    server.doc.getMap("peers").set(`${peer % 7}`, peer);
    server.doc.commit();
  }
  const doc = server.doc.fork();
  write(server.doc, "new");
  let sent = 0;
  server.state = (version) => {
    const state = server.doc.export({ mode: "update", from: version });
    sent = state.length;
    return [state];
  };
  const { connection } = honest(server, join(server, doc));
  await live(connection);
  write(doc, "er");
  await connection.whenSaved();
  assert.equal(text(server.doc), "newer");
  assert.ok(server.versions[0]!.length > 25_000 && sent < 200, `${server.versions[0]!.length} bytes of version, ${sent} of state`);
  assert.ok(server.joins[0]!.href.length < 100);
});

test("a bad update from the server is reported and skipped", async () => {
  const server = await room();
  const { doc, connection, errors } = join(server);
  await live(connection);
  server.broadcast(new Uint8Array([1, 2, 3]));
  const other = new LoroDoc();
  write(other, "good");
  server.broadcast(other.export({ mode: "update" }));
  await eventually("the good update arrived", () => text(doc) === "good");
  assert.deepEqual(errors.map(({ code, final }) => [code, final]), [["import_failed", false]]);
  assert.equal(connection.status.state, "live");
});

test("a bad part of the first state does not keep the other parts away", async () => {
  const server = await room();
  write(server.doc, "state");
  server.state = () => [server.doc.export({ mode: "snapshot" }), new Uint8Array(40), new Uint8Array()];
  const { doc, connection, errors } = join(server);
  await live(connection);
  assert.equal(text(doc), "state");
  assert.ok(errors.length >= 1 && errors.every(({ code }) => code === "import_failed"));
});

test("after a close for maintenance, overload or slowness, the client joins again", async () => {
  const server = await room();
  const { connection } = join(server);
  for (const code of [1001, 1013, 4008, 1011, 1008]) {
    await live(connection);
    server.closeAll(code);
    await until(connection, `offline after ${code}`, ({ state }) => state === "offline");
  }
  await live(connection);
  assert.equal(server.joins.length, 6);
});

test("after a close for not signed in or no access, the connection says why and waits for reconnect()", async () => {
  for (const code of [4401, 4403]) {
    const server = await room();
    server.closesNew = { code };
    const { doc, connection, errors } = join(server);
    const { reason } = await until(connection, "denied", ({ state }) => state === "denied");
    assert.ok(reason && reason.length > 5);
    assert.deepEqual(errors.map(({ final }) => final), [true]);
    await assert.rejects(connection.whenSynced(), new RegExp(reason));
    write(doc, "meanwhile");
    connection.resync();
    assert.deepEqual([connection.status.state, connection.status.saved.unsaved, server.joins.length], ["denied", 1, 1]);
    server.closesNew = undefined;
    connection.reconnect();
    await connection.whenSaved();
    assert.equal(text(server.doc), "meanwhile");
  }
});

test("after a close for no such project, the connection ends and says why", async () => {
  const server = await room();
  server.closesNew = { code: 4404 };
  const { connection, errors } = join(server);
  const { reason } = await until(connection, "closed", ({ state }) => state === "closed");
  assert.match(reason ?? "", /no such project/);
  assert.deepEqual(errors.map(({ final }) => final), [true]);
  await assert.rejects(connection.whenSynced(), /no such project/);
  connection.reconnect();
  assert.deepEqual([connection.status.state, server.joins.length], ["closed", 1]);
});

test("if the server refuses a client, the client says why in the server's words and does not try again", async () => {
  const type = "urn:loro-sync:problem:whatever";
  for (const status of [400, 401, 403, 404, 413, 414, 422, 426, 431]) {
    const server = await room();
    server.refuses = { status, type, detail: `words about ${status}` };
    const { connection, errors } = join(server);
    const over = status === 401 || status === 403 ? "denied" : "closed";
    const { reason } = await until(connection, over, ({ state }) => state === over);
    assert.equal(reason, `words about ${status}`);
    assert.deepEqual(errors.at(-1), { code: "refused", message: reason, final: true });
    assert.equal(server.upgrades, 1);
  }
});

test("an address with a name and a password is refused in the server's words, too", async () => {
  const server = await room();
  server.refuses = { status: 400, type: "urn:loro-sync:problem:whatever", detail: "not a project id" };
  const connection = connect(server.address.replace("//", "//me:p%20w@"), new LoroDoc(), { WebSocket });
  const { reason } = await until(connection, "closed", ({ state }) => state === "closed");
  assert.equal(reason, "not a project id");
});

test("a page names its origin when it asks why, because its browser does not", async (t) => {
  const server = await room();
  server.refuses = { status: 403, type: "urn:loro-sync:problem:cross-site", detail: "Not from there." };
  Object.defineProperty(globalThis, "origin", { value: "http://canvas.example", configurable: true });
  t.after(() => Reflect.deleteProperty(globalThis, "origin"));
  const { connection } = join(server);
  const { reason } = await until(connection, "denied", ({ state }) => state === "denied");
  assert.equal(reason, "Not from there.");
  assert.equal(server.asked.at(-1)?.searchParams.get("origin"), "http://canvas.example");
});

test("a client that was let in meanwhile reconnects by reconnect()", async () => {
  const server = await room();
  server.refuses = { status: 401, type: "urn:loro-sync:problem:unauthenticated", detail: "Sign in." };
  const { connection } = join(server);
  await until(connection, "denied", ({ state, reason }) => state === "denied" && reason === "Sign in.");
  server.refuses = undefined;
  connection.reconnect();
  await live(connection);
});

test("an answer of another program, or a temporary one, leads to another attempt", async () => {
  for (const refuses of [{ status: 404, type: "about:blank" }, { status: 503, type: "urn:loro-sync:problem:unavailable" }]) {
    const server = await room();
    server.refuses = refuses;
    const { connection } = join(server);
    await until(connection, "offline", ({ state }) => state === "offline");
    server.refuses = undefined;
    await live(connection);
  }
});

test("a server that is not ready, or is asked too often, is tried again, and its words are shown", async () => {
  const type = "urn:loro-sync:problem:unavailable";
  for (const status of [429, 500, 503]) {
    const server = await room();
    server.refuses = { status, type, detail: `words about ${status}` };
    const { connection, errors } = join(server, new LoroDoc(), { minDelay: 30 });
    await until(connection, "offline", ({ state, reason }) => state === "offline" && reason === `words about ${status}`);
    await eventually("three attempts", () => server.upgrades >= 3);
    assert.equal(connection.status.reason, `words about ${status}`, "the words stay while it tries again");
    assert.ok(errors.every(({ final }) => !final));
    server.refuses = undefined;
    await live(connection);
    assert.equal(connection.status.reason, undefined);
  }
});

test("an address that an HTTP server finds too long is wrong at once, in words, whichever server says so", async () => {
  for (const status of [414, 431]) {
    const server = await room();
    server.refuses = { status, type: "about:blank" };
    const { connection } = join(server);
    const { reason } = await until(connection, "closed", ({ state }) => state === "closed");
    assert.match(reason ?? "", /too long for the server/);
    assert.equal(server.upgrades, 1);
  }
});

test("an answer of another program is believed after the fifth time in a row", async () => {
  const cases = [
    { status: 404, over: "closed", words: /answers 404, so it may not be that of a sync server/ },
    { status: 403, over: "denied", words: /answers 403/ },
    { status: 200, over: "closed", words: /opens no WebSocket here: a proxy/ },
    { status: 304, over: "closed", words: /opens no WebSocket here: a proxy/ },
  ];
  for (const { status, over, words } of cases) {
    const server = await room();
    server.refuses = { status, type: "about:blank" };
    const { connection } = join(server, new LoroDoc(), { minDelay: 30 });
    const { reason } = await until(connection, over, ({ state }) => state === over);
    assert.match(reason ?? "", words);
    assert.ok(server.upgrades >= 5, `${status}: ${server.upgrades} attempts`);
  }
});

test("an address at which the platform opens no WebSocket is refused when it is given", () => {
  class Refusing {
    constructor() {
      throw new DOMException("An insecure WebSocket connection may not be initiated.", "SecurityError");
    }
  }
  const connecting = () => connect("ws://127.0.0.1:1/sync/a", new LoroDoc(), { WebSocket: Refusing as never });
  assert.throws(connecting, (error) => error instanceof TypeError && /at ws:\/\/127.0.0.1:1\/sync\/a: An insecure/.test(error.message));
  for (const impossible of ["", "nonsense", "/sync/a", "sync/a", "ftp://127.0.0.1/sync/a", "ws://", "ws://127.0.0.1:99999/sync/a"]) {
    assert.throws(() => connect(impossible, new LoroDoc()), TypeError, impossible);
  }
});

test("waits grow while the server is away, within their bounds", async () => {
  const server = await room();
  server.closesNew = { code: 1001 };
  const { connection } = join(server, new LoroDoc(), { minDelay: 8, maxDelay: 64, random: () => 0.999 });
  const waits: number[] = [];
  await until(connection, "six attempts", ({ state, retryIn }) => {
    if (state === "offline" && retryIn !== undefined) waits.push(retryIn);
    return waits.length === 6;
  });
  assert.deepEqual(waits, [8, 16, 32, 64, 64, 64]);
});

test("an overloaded server is given more time", async () => {
  const server = await room();
  const { connection } = join(server, new LoroDoc(), { random: () => 0 });
  await live(connection);
  server.closeAll(1013);
  const { retryIn } = await until(connection, "offline", ({ state }) => state === "offline");
  assert.equal(retryIn, 20, "half of the third ceiling");
});

test("a dead connection is noticed and replaced", async () => {
  const server = await room();
  const { doc, connection } = join(server, new LoroDoc(), { pingInterval: 20, pingTimeout: 50 });
  await live(connection);
  let pings = 0;
  for (const { socket } of server.members) socket.on("message", () => (pings += 1));
  await eventually("a ping after one that was answered", () => pings >= 2);
  server.answersPings = false;
  server.decide = () => "ignore";
  write(doc, "into the void");
  const { reason } = await until(connection, "offline", ({ state }) => state === "offline");
  assert.match(reason ?? "", /no longer answers/);
  server.answersPings = true;
  server.decide = () => "store";
  await allSaved(connection);
  assert.equal(text(server.doc), "into the void");
});

test("a connection whose pings are answered stays", async () => {
  const server = await room();
  const { connection } = join(server, new LoroDoc(), { pingInterval: 5, pingTimeout: 2_000 });
  await live(connection);
  let pings = 0;
  for (const { socket } of server.members) socket.on("message", () => (pings += 1));
  await eventually("twenty pings", () => pings >= 20);
  assert.equal(connection.status.state, "live");
  assert.equal(server.joins.length, 1);
});

test("a join that is never answered is given up", async () => {
  const server = await room();
  server.answersJoins = false;
  const { connection } = join(server, new LoroDoc(), { syncTimeout: 50 });
  await until(connection, "offline", ({ state }) => state === "offline");
  server.answersJoins = true;
  await live(connection);
});

test("an edit too large for one message arrives in pieces", async () => {
  const server = await room();
  const { doc, connection } = join(server);
  await live(connection);
  const long = noise(18 * 1024 * 1024);
  doc.getText("text").insert(0, long);
  doc.commit();
  await connection.whenSaved();
  assert.equal(server.doc.getText("text").length, long.length);
});

test("other clients' edits never empty the undo stack, live or at a join", async () => {
  const server = await room();
  const a = join(server);
  const b = join(server);
  await Promise.all([live(a.connection), live(b.connection)]);
  const undo = new UndoManager(a.doc, {});
  write(a.doc, "mine ");
  await eventually("b has it", () => text(b.doc) === "mine ");
  for (const word of ["a ", "b ", "c "]) write(b.doc, word);
  await eventually("a has it", () => text(a.doc) === "mine a b c ");
  server.state = (version) => {
    server.doc.getText("text").push("d ");
    const first = server.doc.export({ mode: "update", from: version });
    const then = server.doc.oplogVersion();
    server.doc.getText("text").push("e");
    return [first, server.doc.export({ mode: "update", from: then })];
  };
  a.connection.resync();
  await eventually("the state came in two parts", () => text(a.doc).endsWith("d e"));
  assert.ok(undo.undo());
  assert.equal(text(a.doc), "a b c d e");
});

test("ten writers at once converge", async () => {
  const server = await room();
  const writers = Array.from({ length: 10 }, () => join(server));
  await Promise.all(writers.map(({ connection }) => connection.whenSynced()));
  for (let turn = 0; turn < 20; turn += 1) {
    for (const [index, { doc }] of writers.entries()) {
      doc.getMap("map").set(`${index}-${turn}`, turn);
      write(doc, `${index},`);
    }
    if (turn === 10) server.cut();
  }
  await Promise.all(writers.map(({ connection }) => connection.whenSaved()));
  await eventually("all clients agree", () => writers.every(({ doc }) => doc.oplogVersion().compare(server.doc.oplogVersion()) === 0));
  for (const { doc } of writers) assert.deepEqual(doc.toJSON(), server.doc.toJSON());
  assert.equal(Object.keys(server.doc.getMap("map").toJSON() as object).length, 200);
});

test("close sends all committed edits, and then nothing more happens", async () => {
  const server = await room();
  const { doc, connection } = join(server);
  await live(connection);
  doc.getText("text").push("goodbye");
  connection.close();
  await eventually("it arrived", () => text(server.doc) === "goodbye");
  assert.equal(connection.status.state, "closed");
  write(doc, " more");
  await eventually("gone", () => server.members.size === 0);
  await assert.rejects(connection.whenSaved(), /closed/);
  assert.equal(server.joins.length, 1);
});

test("a listener that throws is reported as uncaught, and the other listeners are called", async (context) => {
  const server = await room();
  const thrown: unknown[] = [];
  context.mock.method(globalThis, "queueMicrotask", (task: () => void) => {
    try {
      task();
    } catch (error) {
      thrown.push(error);
    }
  });
  const { connection } = join(server);
  const stop = connection.on("status", () => {
    stop();
    throw new Error("mine");
  });
  await live(connection);
  assert.deepEqual(thrown.map(String), ["Error: mine"]);
});

test("on a platform without WebSocket, the error says what to install", { skip: "WebSocket" in globalThis }, () => {
  assert.throws(() => connect("ws://127.0.0.1:1/sync/a", new LoroDoc()), /npm install ws/);
});
