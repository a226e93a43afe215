import assert from "node:assert/strict";
import test from "node:test";
import { LoroDoc } from "loro-crdt";
import { decodeVersion, missingUpdates } from "../src/missing.js";

/** A document of three peers with 60 KB of text. */
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

test("nothing is missing to one who has the same or more", () => {
  const doc = written();
  const copy = doc.fork();
  assert.deepEqual(missingUpdates(doc, copy.oplogVersion(), 1_000_000), []);
  copy.getMap("map").set("more", true);
  copy.commit();
  assert.deepEqual(missingUpdates(doc, copy.oplogVersion(), 1_000_000), []);
  assert.equal(missingUpdates(copy, doc.oplogVersion(), 1_000_000).length, 1);
});

test("each lacks what the other has, after edits at one time", () => {
  const a = written();
  const b = a.fork();
  a.getMap("map").set("a", true);
  b.getMap("map").set("b", true);
  a.commit();
  b.commit();
  for (const update of missingUpdates(a, decodeVersion(a, b.oplogVersion().encode()), 1_000_000)) b.import(update);
  assert.deepEqual(b.getMap("map").toJSON(), { "from 1": 1, "from 2": 2, "from 3": 3, a: true, b: true });
});

test("what is too long for one message goes in pieces, in any order", () => {
  const doc = written();
  const updates = missingUpdates(doc, new LoroDoc().oplogVersion(), 10_000);
  assert.ok(updates.length >= 6, `${updates.length} pieces`);
  for (const update of updates) assert.ok(update.length <= 10_000);
  const copy = new LoroDoc();
  for (const update of updates.reverse()) copy.import(update);
  assert.deepEqual(copy.toJSON(), doc.toJSON());
});
