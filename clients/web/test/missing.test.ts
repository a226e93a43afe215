import assert from "node:assert/strict";
import test from "node:test";
import { LoroDoc } from "loro-crdt";
import { decodeVersion, missingUpdates } from "../src/missing.js";

/** Makes a document of three peers with 60 KB of text. */
function written(): LoroDoc {
  const doc = new LoroDoc();
  for (let peer = 1; peer <= 3; peer += 1) {
    const other = new LoroDoc();
    other.setPeerId(BigInt(peer));
    other.import(doc.export({ mode: "snapshot" }));
    other.getText("text").insert(0, Array.from({ length: 20_000 }, (_, i) => String.fromCharCode(97 + ((i * 7919) % 26))).join(""));
    other.getMap("map").set(`from ${peer}`, peer);
    doc.import(other.export({ mode: "update", from: doc.oplogVersion() }));
  }
  return doc;
}

/** Limits the pieces to this number of bytes, but not single operations. */
const upTo = (piece: number) => ({ piece, max: Infinity });

test("nothing is missing from an equal or a newer version", () => {
  const doc = written();
  const copy = doc.fork();
  assert.deepEqual(missingUpdates(doc, copy.oplogVersion(), upTo(1_000_000)).updates, []);
  copy.getMap("map").set("more", true);
  copy.commit();
  assert.deepEqual(missingUpdates(doc, copy.oplogVersion(), upTo(1_000_000)).updates, []);
  assert.equal(missingUpdates(copy, doc.oplogVersion(), upTo(1_000_000)).updates.length, 1);
});

test("after concurrent edits, each of two documents lacks the other's", () => {
  const a = written();
  const b = a.fork();
  a.getMap("map").set("a", true);
  b.getMap("map").set("b", true);
  a.commit();
  b.commit();
  const { updates } = missingUpdates(a, decodeVersion(a, b.oplogVersion().encode()), upTo(1_000_000));
  for (const update of updates) b.import(update);
  assert.deepEqual(b.getMap("map").toJSON(), { "from 1": 1, "from 2": 2, "from 3": 3, a: true, b: true });
});

test("an update that is too long for one message is cut into pieces, which apply in any order", () => {
  const doc = written();
  const { updates } = missingUpdates(doc, new LoroDoc().oplogVersion(), upTo(10_000));
  assert.ok(updates.length >= 6, `${updates.length} pieces`);
  for (const update of updates) assert.ok(update.length <= 10_000);
  const copy = new LoroDoc();
  for (const update of updates.reverse()) copy.import(update);
  assert.deepEqual(copy.toJSON(), doc.toJSON());
});

test("an operation that is too large is left out, with everything that depends on it and nothing else", () => {
  const doc = written();
  const theirs = doc.oplogVersion();
  const author = doc.fork();
  author.setPeerId(10n);
  author.getMap("map").set("before", 1);
  author.commit();
  const before = author.export({ mode: "update", from: theirs });
  author.getMap("map").set("image", "x".repeat(5_000));
  author.getMap("map").set("after", 1);
  author.commit();
  // One client that has the image, and one that does not.
  const reader = author.fork();
  reader.setPeerId(11n);
  reader.getMap("map").set("seen", 1);
  reader.commit();
  const other = doc.fork();
  other.setPeerId(12n);
  other.import(before);
  other.getMap("map").set("not seen", 1);
  other.commit();
  for (const each of [reader, other]) doc.import(each.export({ mode: "update" }));

  const { updates, oversized } = missingUpdates(doc, theirs, { piece: 1_000, max: 2_000 });
  assert.deepEqual(oversized?.id, { peer: "10", counter: 1 });
  assert.ok(oversized.size > 5_000 && oversized.size < 5_500, `${oversized.size} bytes`);
  const copy = written();
  for (const update of updates) assert.equal(copy.import(update).pending, null, "no update waits for one that is left out");
  const { "from 1": _1, "from 2": _2, "from 3": _3, ...map } = copy.getMap("map").toJSON() as Record<string, unknown>;
  assert.deepEqual(map, { before: 1, "not seen": 1 });
});

test("a shallow document reports an error if the server lacks its history", () => {
  const doc = written();
  const shallow = new LoroDoc();
  shallow.import(doc.export({ mode: "shallow-snapshot", frontiers: doc.frontiers() }));
  shallow.getMap("map").set("new", true);
  shallow.commit();
  assert.throws(() => missingUpdates(shallow, new LoroDoc().oplogVersion(), upTo(1_000_000)), /lacks the history/);
  const [update] = missingUpdates(shallow, doc.oplogVersion(), upTo(1_000_000)).updates;
  assert.equal(doc.import(update!).pending, null);
  assert.equal(doc.getMap("map").get("new"), true);
});
