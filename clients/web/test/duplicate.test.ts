// Clients that write under one peer id, although no two should.
import assert from "node:assert/strict";
import { test } from "node:test";
import { LoroDoc, LoroMap } from "loro-crdt";
import { type Client, honest, join, live, offline, rejected, room, text, write } from "./client.js";
import type { RoomServer } from "./room-server.js";
import { eventually, until } from "./until.js";

/** Starts a server that refuses other operations under the same ids. */
async function strict(): Promise<RoomServer> {
  const server = await room();
  server.refusesDuplicates = true;
  return server;
}

/** Makes a document that writes as peer 42, with everything of another one. */
function as42(other?: LoroDoc): LoroDoc {
  const doc = new LoroDoc();
  if (other) doc.import(other.export({ mode: "snapshot" }));
  doc.setPeerId("42");
  return doc;
}

/** Connects an application that takes another document in place of its own. */
function taking(server: RoomServer, doc: LoroDoc): Client & { readonly taken: LoroDoc[] } {
  const taken: LoroDoc[] = [];
  const { connection, errors } = join(server, doc, { replaceDocument: (fresh) => taken.push(fresh) });
  const client = { connection, errors, taken, get doc() { return connection.doc; } };
  honest(server, client);
  return client;
}

/** Waits until all have the server's document, and returns its text. */
async function converged(server: RoomServer, ...clients: Client[]): Promise<string> {
  await Promise.all(clients.map(({ connection }) => connection.whenSaved()));
  await eventually("all have the same", () =>
    clients.every(({ doc }) => doc.oplogVersion().compare(server.doc.oplogVersion()) === 0),
  );
  for (const { doc } of clients) assert.deepEqual(doc.toJSON(), server.doc.toJSON());
  return text(server.doc);
}

test("two tabs that write different edits as one peer at once: both keep theirs, whichever wrote more", async () => {
  for (const [first, second] of [["aaaa", "bbbb"], ["aaaaaaaa", "bb"], ["aa", "bbbbbbbb"]] as const) {
    const server = await strict();
    const a = taking(server, as42());
    const b = taking(server, as42());
    await Promise.all([live(a.connection), live(b.connection)]);
    write(a.doc, first);
    write(b.doc, second);
    await Promise.all([a.connection.whenSaved(), b.connection.whenSaved()]);
    const all = await converged(server, a, b);
    assert.equal([...all].sort().join(""), first + second);
    assert.deepEqual([a.taken.length, b.taken.length], [0, 1]);
    assert.deepEqual(b.errors.map(({ code, frame, final }) => [code, frame, final]), [["duplicate_peer", 1, false]]);
    assert.match(b.errors[0]!.message, /a peer id must not be kept or shared/);
    assert.notEqual(b.doc.peerIdStr, "42");
    // Later edits are sent and saved as before.
    write(b.doc, "!");
    write(a.doc, "?");
    assert.equal((await converged(server, a, b)).length, all.length + 2);
  }
});

test("edits made offline as one peer in two tabs: both keep theirs, whichever wrote more, and what was saved before is not made anew", async () => {
  for (const [first, second] of [["aaaa", "bbbb"], ["aaaaaaaa", "bb"], ["aa", "bbbbbbbb"]] as const) {
    const server = await strict();
    const before = taking(server, as42());
    write(before.doc, "before ");
    await before.connection.whenSaved();
    before.connection.close();
    const [one, other] = [as42(before.doc), as42(before.doc)];
    write(one, first);
    write(other, second);
    const a = taking(server, one);
    await a.connection.whenSaved();
    const b = taking(server, other);
    const all = await converged(server, a, b);
    assert.equal([...all].sort().join(""), [..."before ", ...first, ...second].sort().join(""), all);
    assert.deepEqual([a.taken.length, b.taken.length], [0, 1]);
  }
});

test("an older copy with a kept peer id takes a new one before it writes, and nothing is refused", async () => {
  const server = await strict();
  const a = taking(server, as42());
  write(a.doc, "first, ");
  await a.connection.whenSaved();
  const old = as42(a.doc);
  write(a.doc, "second, ");
  await a.connection.whenSaved();
  a.connection.close();
  const b = taking(server, old);
  await live(b.connection);
  write(b.doc, "third");
  assert.equal(await converged(server, b), "first, second, third");
  assert.deepEqual([b.taken.length, b.errors.length], [0, 0]);
  assert.equal(b.doc, old);
});

test("a tab that sees another one write as its peer takes a new peer id at once", async () => {
  const server = await strict();
  const a = taking(server, as42());
  const b = taking(server, as42());
  await Promise.all([live(a.connection), live(b.connection)]);
  write(a.doc, "a");
  await eventually("b has it", () => text(b.doc) === "a");
  assert.notEqual(b.doc.peerIdStr, "42");
  write(b.doc, "b");
  write(a.doc, "c");
  await converged(server, a, b);
  assert.deepEqual([a.taken.length, b.taken.length, a.errors.length, b.errors.length], [0, 0, 0, 0]);
});

test("everything in a document is made anew, with what was imported meanwhile, and nothing twice", async () => {
  const server = await strict();
  const start = new LoroDoc();
  start.getText("text").insert(0, "common ");
  start.getMap("nodes").ensureMergeableMap("old").set("x", 1);
  start.getMovableList("list").push("one");
  start.getMovableList("list").push("two");
  start.getTree("tree").createNode().data.set("name", "root");
  start.commit();
  server.doc.import(start.export({ mode: "update" }));
  const [one, other] = [as42(start), as42(start)];
  write(one, "from a");
  const nodes = other.getMap("nodes");
  nodes.ensureMergeableMap("old").set("x", 2);
  nodes.ensureMergeableMap("new").ensureMergeableMap("data").set("label", "new");
  nodes.setContainer("plain", new LoroMap()).set("deep", 1);
  other.getMovableList("list").move(1, 0);
  other.getTree("tree").roots()[0]!.createNode().data.set("name", "child");
  other.getText("text").mark({ start: 0, end: 6 }, "bold", true);
  other.getCounter("counter").increment(3);
  other.commit();
  const file = new LoroDoc();
  file.getMap("file").set("imported", true);
  file.commit();
  other.import(file.export({ mode: "update" }));
  const a = taking(server, one);
  await a.connection.whenSaved();
  const b = taking(server, other);
  await converged(server, a, b);
  const { nodes: made, ...rest } = server.doc.toJSON();
  assert.deepEqual(made, { old: { x: 2 }, new: { data: { label: "new" } }, plain: { deep: 1 } });
  assert.deepEqual([rest.text, rest.list, rest.counter, rest.file], ["common from a", ["two", "one"], 3, { imported: true }]);
  assert.equal(server.doc.getTree("tree").roots()[0]!.children()![0]!.data.get("name"), "child");
  assert.deepEqual(server.doc.getText("text").toDelta()[0], { insert: "common", attributes: { bold: true } });
});

test("edits between the refusal and the new document, committed or not, are in it", async () => {
  const server = await strict();
  const [a, b] = [taking(server, as42()), taking(server, as42())];
  await Promise.all([live(a.connection), live(b.connection)]);
  write(a.doc, "a");
  write(b.doc, "b");
  await offline(b.connection);
  write(b.doc, "c");
  server.state = (version) => {
    // The user writes while the server's document is on its way.
    if (b.taken.length === 0) setTimeout(() => b.doc.getText("text").push("d"));
    return [server.doc.export({ mode: "update", from: version })];
  };
  await eventually("the other document was taken", () => b.taken.length === 1);
  server.state = undefined;
  const all = await converged(server, a, b);
  assert.match(all, /^(abcd?|bcd?a)$/);
  b.doc.commit();
  assert.equal(b.taken[0], b.doc);
});

test("an application that can take no other document gets the reason in words, and keeps its edits", async () => {
  const server = await strict();
  const a = join(server, as42());
  const b = honest(server, join(server, as42()));
  await Promise.all([live(a.connection), live(b.connection)]);
  write(a.doc, "a");
  write(b.doc, "b");
  const { reason, saved } = await rejected(b.connection);
  assert.match(reason ?? "", /^edits made here cannot be saved: another client has written as the same peer; a peer id must not be kept or shared$/);
  assert.deepEqual(b.errors, [{ code: "duplicate_peer", message: reason, frame: 1, final: true }]);
  assert.equal(saved.all, false);
  assert.equal(text(b.doc), "b");
});

test("an application that fails to take the other document keeps its own, and the connection ends in words", async () => {
  const server = await strict();
  const a = join(server, as42());
  await live(a.connection);
  const doc = as42();
  const b = join(server, doc, {
    replaceDocument: () => {
      throw new Error("no page to show it on");
    },
  });
  await live(b.connection);
  write(a.doc, "a");
  write(b.doc, "b");
  const { reason } = await rejected(b.connection);
  assert.match(reason ?? "", /could not be made anew: no page to show it on/);
  assert.equal(b.connection.doc, doc);
  assert.equal(text(doc), "b");
});

test("a server that calls every edit a duplicate is asked twice, and then the connection ends", async () => {
  const server = await room();
  server.refusal = { code: "duplicate_peer", message: "always" };
  server.decide = () => "refuse";
  const b = taking(server, new LoroDoc());
  await live(b.connection);
  write(b.doc, "kept");
  await rejected(b.connection);
  assert.equal(b.taken.length, 1);
  assert.equal(text(b.doc), "kept");
  assert.equal(b.connection.status.saved.all, false);
});

test("a connection that is closed while it hands over a document stays closed", async () => {
  const server = await strict();
  const a = join(server, as42());
  await live(a.connection);
  const b = join(server, as42(), { replaceDocument: () => b.connection.close() });
  await live(b.connection);
  write(a.doc, "a");
  write(b.doc, "b");
  await until(b.connection, "closed", ({ state }) => state === "closed");
  await eventually("gone", () => server.members.size === 1);
  assert.equal(b.connection.status.state, "closed");
});

test("edits on their way when the connection breaks, as one peer in two tabs, are lost in neither", async () => {
  const server = await strict();
  const [a, b] = [taking(server, as42()), taking(server, as42())];
  await Promise.all([live(a.connection), live(b.connection)]);
  server.decide = () => "ignore";
  write(a.doc, "aaaa");
  write(b.doc, "bb");
  await eventually("both frames came", () => [...server.members].every(({ frames }) => frames === 1));
  server.decide = () => "store";
  server.cut();
  await Promise.all([offline(a.connection), offline(b.connection)]);
  const all = await converged(server, a, b);
  assert.equal([...all].sort().join(""), "aaaabb");
  assert.equal(a.taken.length + b.taken.length, 1);
});

test("a tab that writes while the state with another tab's edits is on its way: both keep theirs", async () => {
  const server = await strict();
  const other = as42();
  write(other, "theirs");
  const update = other.export({ mode: "update" });
  server.state = () => {
    // It is stored after the version was sent, and the user writes before it comes.
    server.doc.import(update);
    return [update];
  };
  const b = taking(server, as42());
  b.connection.on("status", ({ rev }) => rev === 0 && text(b.doc) === "" && write(b.doc, "mine"));
  await eventually("the other document was taken", () => b.taken.length === 1);
  server.state = undefined;
  const all = await converged(server, b);
  assert.ok(["theirsmine", "minetheirs"].includes(all), all);
});

test("an edit on its way is not contradicted by a snapshot that holds only what was saved", async () => {
  const server = await strict();
  const a = taking(server, new LoroDoc());
  await live(a.connection);
  write(a.doc, "saved, ");
  await a.connection.whenSaved();
  const { decide } = server;
  server.decide = () => "ignore";
  write(a.doc, "on its way");
  server.broadcast(server.doc.export({ mode: "snapshot" }));
  server.tell({ type: "peers", count: 9 });
  await until(a.connection, "it came", ({ peers }) => peers === 9);
  assert.equal(server.joins.length, 1);
  server.decide = decide;
  server.cut();
  await converged(server, a);
});

test("an edit that comes back, because it was on its way over an earlier socket, is not taken for another client's", async () => {
  const server = await strict();
  const a = taking(server, new LoroDoc());
  await live(a.connection);
  server.confirms = false;
  write(a.doc, "mine");
  await eventually("it came", () => text(server.doc) === "mine");
  server.confirms = true;
  server.broadcast(server.doc.export({ mode: "update" }));
  await eventually("joined again", () => server.joins.length === 2);
  assert.equal(await converged(server, a), "mine");
  assert.deepEqual([a.taken.length, a.errors.length, server.joins.length], [0, 0, 2]);
});

test("four tabs of one peer id, with broken connections and reloads: each edit is in the document once, by seed", async () => {
  for (let seed = 1; seed <= SEEDS; seed += 1) {
    const random = numbers(seed);
    const server = await strict();
    let tabs = Array.from({ length: 4 }, () => taking(server, as42()));
    let edits = 0;
    const act: (() => void | Promise<void>)[] = [
      () => {
        const { doc } = tabs[random(4)]!;
        doc.getMap("edits").set(`${edits}`, true);
        write(doc, `<${edits}>`);
        edits += 1;
      },
      () => new Promise((resolve) => setTimeout(resolve, random(8))),
      () => server.cut(),
      () => {
        // Frames that are sent from now on arrive, and are not confirmed.
        server.confirms = false;
      },
      () => {
        server.confirms = true;
        server.cut();
      },
      async () => {
        // A page that is loaded again keeps its copy and its peer id, as it should not.
        const at = random(4);
        const { doc, connection } = tabs[at]!;
        connection.close();
        tabs[at] = taking(server, as42(doc));
      },
    ];
    for (let step = 0; step < 40; step += 1) await act[[0, 0, 0, 0, 1, 1, 2, 3, 4, 5][random(10)]!]!();
    server.confirms = true;
    server.cut();
    await eventually(`all are saved, with seed ${seed}`, () => tabs.every(({ connection }) => ["rejected", "live"].includes(connection.status.state)));
    const all = await converged(server, ...tabs);
    const told = [...all.matchAll(/<(\d+)>/g)].map(([, edit]) => Number(edit)).sort((a, b) => a - b);
    assert.deepEqual(told, Array.from({ length: edits }, (_, edit) => edit), `seed ${seed}: ${all}`);
    assert.equal(Object.keys(server.doc.getMap("edits").toJSON() as object).length, edits);
    for (const { connection } of tabs) connection.close();
    tabs = [];
  }
});

const SEEDS = Number(process.env["SEEDS"] ?? 10);

/** Returns a source of numbers below a bound that depend on the seed alone. */
function numbers(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1_103_515_245) + 12_345) & 0x7fffffff;
    return Math.floor((state / 0x80000000) * below);
  };
}
