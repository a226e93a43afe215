import assert from "node:assert/strict";
import test from "node:test";
import { LoroDoc, VersionVector } from "loro-crdt";
import { Known } from "../src/known.js";

/** Makes a document with this number of operations, all of peer 1. */
function written(operations: number): LoroDoc {
  const doc = new LoroDoc();
  doc.setPeerId("1");
  doc.getText("text").insert(0, "x".repeat(operations));
  doc.commit();
  return doc;
}

/** Makes a `Known` whose server has this number of operations of each peer. */
function known(doc: LoroDoc, ends: Record<`${number}`, number>): Known {
  const known = new Known(doc);
  known.hear(new VersionVector(new Map(Object.entries(ends) as [`${number}`, number][])));
  return known;
}

test("nothing is known before the server has sent its version, nor after the connection is gone", () => {
  const empty = new Known(new LoroDoc());
  assert.equal(empty.coversDocument(), false);
  empty.sent(new LoroDoc().oplogVersion());
  empty.received(new Map([["1", { start: 0, end: 3 }]]));
  assert.equal(empty.version, undefined);
  const gone = known(written(3), { 1: 3 });
  assert.equal(gone.coversDocument(), true);
  gone.forget();
  assert.equal(gone.coversDocument(), false);
});

test("sent operations are added to the server's version, and none are removed", () => {
  const doc = written(3);
  for (const others of [{}, { 2: 7 }] as Record<`${number}`, number>[]) {
    const some = known(doc, { 1: 2, ...others });
    assert.equal(some.coversDocument(), false);
    some.sent(doc.oplogVersion());
    assert.equal(some.coversDocument(), true);
    assert.equal(some.version?.get("2"), others["2"]);
  }
  const more = known(doc, { 1: 9 });
  more.sent(doc.oplogVersion());
  assert.equal(more.version?.get("1"), 9);
});

test("operations from the server after a gap do not fill the gap", () => {
  const some = known(written(9), { 1: 3 });
  some.received(new Map([["1", { start: 5, end: 9 }]]));
  assert.equal(some.version?.get("1"), 3);
  some.received(new Map([["1", { start: 2, end: 5 }]]));
  assert.equal(some.version?.get("1"), 5);
  some.received(new Map([["1", { start: 0, end: 2 }]]));
  assert.equal(some.version?.get("1"), 5);
});
