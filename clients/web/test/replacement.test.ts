import assert from "node:assert/strict";
import test from "node:test";
import { LoroDoc, type PeerID } from "loro-crdt";
import { takeNewPeer, underNewPeer } from "../src/replacement.js";

/** Makes a document that writes as peer 42. */
function as42(): LoroDoc {
  const doc = new LoroDoc();
  doc.setPeerId("42");
  return doc;
}

/** Appends each letter in a commit of its own; returns an update for each. */
function type(doc: LoroDoc, letters: string): Uint8Array[] {
  return [...letters].map((letter) => {
    const from = doc.oplogVersion();
    doc.getText("text").push(letter);
    doc.commit();
    return doc.export({ mode: "update", from });
  });
}

test("operations that the server has are not made anew, however they are cut into changes", () => {
  for (const interval of [0, 1_000]) {
    const doc = as42();
    const server = as42();
    server.setChangeMergeInterval(interval);
    for (const update of type(doc, "shared ")) server.import(update);
    type(server, "theirs, and more of it");
    doc.getText("text").push("mine");
    doc.commit();
    const fresh = underNewPeer(doc, [server.export({ mode: "update" })], new Map([["42" as PeerID, 0]]));
    assert.equal(fresh.getText("text").toString(), "shared mine");
    assert.equal(fresh.oplogVersion().get("42"), "shared ".length);
    server.import(fresh.export({ mode: "update" }));
    assert.match(server.getText("text").toString(), /^shared (minetheirs, and more of it|theirs, and more of itmine)$/);
  }
});

test("the same letters at another time are another client's", () => {
  const [doc, server, third] = [as42(), as42(), new LoroDoc()];
  type(third, "before ");
  server.import(third.export({ mode: "update" }));
  server.getText("text").push("same");
  doc.getText("text").push("same");
  for (const each of [doc, server]) each.commit();
  const fresh = underNewPeer(doc, [server.export({ mode: "update" })], new Map([["42" as PeerID, 0]]));
  server.import(fresh.export({ mode: "update" }));
  assert.equal(server.getText("text").toString().split("same").length, 3);
});

test("a shallow copy is made anew, too", () => {
  const whole = as42();
  type(whole, "history, ");
  const doc = as42();
  doc.import(whole.export({ mode: "shallow-snapshot", frontiers: whole.frontiers() }));
  type(whole, "theirs");
  type(doc, "mine");
  const start = doc.shallowSinceVV().get("42") ?? 0;
  const fresh = underNewPeer(doc, [whole.export({ mode: "update" })], new Map([["42" as PeerID, start]]));
  assert.equal(fresh.getText("text").toString(), "history, mine");
  whole.import(fresh.export({ mode: "update", from: whole.oplogVersion() }));
  assert.match(whole.getText("text").toString(), /^history, (minetheirs|theirsmine)$/);
});

test("a new document also has the updates that wait for others", () => {
  const doc = as42();
  const other = new LoroDoc();
  const [first, second] = type(other, "ab");
  doc.import(second!);
  type(doc, "mine");
  const fresh = underNewPeer(doc, [], new Map());
  fresh.import(first!);
  assert.equal([...fresh.getText("text").toString()].sort().join(""), "abeimn");
});

test("a new peer id is random, and pending edits stay those of the old one", () => {
  const doc = as42();
  doc.getText("text").push("old");
  takeNewPeer(doc);
  assert.deepEqual([...doc.oplogVersion().toJSON()], [["42", 3]]);
  assert.notEqual(doc.peerIdStr, "42");
  assert.equal(doc.opCount(), 3);
});

test("a new document keeps the application's settings of text styles", () => {
  const doc = as42();
  doc.configTextStyle({ comment: { expand: "none" } });
  type(doc, "mine");
  doc.getText("text").mark({ start: 0, end: 2 }, "comment", 1);
  doc.commit();
  const fresh = underNewPeer(doc, [], new Map());
  fresh.getText("text").insert(2, "!");
  const [styled] = fresh.getText("text").toDelta();
  assert.deepEqual(styled, { insert: "mi", attributes: { comment: 1 } });
});
