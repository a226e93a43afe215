import assert from "node:assert/strict";
import test from "node:test";
import { Outbox } from "../src/outbox.js";

/** Makes an outbox with this number of edits on their way, each in a frame of its own. */
function sent(edits: number): Outbox {
  const outbox = new Outbox();
  for (let edit = 0; edit < edits; edit += 1) {
    outbox.keep();
    outbox.sendAll(1);
  }
  return outbox;
}

test("an edit is saved when its frame is decided, and not before", () => {
  const outbox = sent(2);
  assert.equal(outbox.unsaved, 2);
  outbox.decided(1);
  assert.equal(outbox.unsaved, 1);
  assert.equal(outbox.decidedAll, false);
  outbox.decided(2);
  assert.equal(outbox.unsaved, 0);
  assert.equal(outbox.decidedAll, true);
});

test("edits that were on their way when the connection broke are unsaved until a join confirms them", () => {
  const outbox = sent(2);
  outbox.decided(1);
  outbox.lost();
  outbox.keep();
  assert.equal(outbox.unsaved, 2);
  outbox.sendAll(0);
  assert.equal(outbox.unsaved, 0, "the server has everything");
});

test("frames are numbered anew on each connection", () => {
  const outbox = sent(2);
  outbox.lost();
  outbox.sendAll(2);
  assert.equal(outbox.frames, 2);
  outbox.keep();
  outbox.sendAll(1);
  assert.equal(outbox.frames, 3);
  assert.equal(outbox.unsaved, 3);
  outbox.decided(1);
  assert.equal(outbox.unsaved, 3, "edits made offline are saved with their last frame");
  outbox.decided(2);
  assert.equal(outbox.unsaved, 1);
  outbox.decided(3);
  assert.equal(outbox.unsaved, 0);
});

test("an import by the application counts as one edit", () => {
  const outbox = new Outbox();
  outbox.sendAll(3);
  assert.equal(outbox.unsaved, 1);
  outbox.decided(3);
  assert.equal(outbox.unsaved, 0);
});

test("a refused frame never becomes saved on this connection, in whichever order the error and the confirmation come", () => {
  for (const errorFirst of [true, false]) {
    const outbox = sent(2);
    if (errorFirst) outbox.refuse(1);
    outbox.decided(2);
    if (!errorFirst) outbox.refuse(1);
    assert.equal(outbox.unsaved, 1);
    assert.equal(outbox.refused, 1);
    outbox.lost();
    assert.equal(outbox.unsaved, 1);
    assert.equal(outbox.refused, 1, "also while it waits to be offered again");
    outbox.sendAll(1);
    assert.equal(outbox.unsaved, 1);
    assert.equal(outbox.refused, 0, "now it is on its way");
  }
});

test("edits that were sent in several frames are refused together, and counted once", () => {
  for (const frame of [1, 2, 3]) {
    const outbox = new Outbox();
    for (let edit = 0; edit < 5; edit += 1) outbox.keep();
    outbox.sendAll(3);
    outbox.refuse(frame);
    assert.deepEqual([outbox.unsaved, outbox.refused], [5, 5]);
  }
});

test("edits that were sent in part do not count as saved", () => {
  const outbox = new Outbox();
  outbox.keep();
  outbox.keep();
  outbox.sendPart(2);
  assert.equal(outbox.decidedAll, false);
  outbox.decided(2);
  assert.equal(outbox.decidedAll, true);
  assert.equal(outbox.unsaved, 2);
});
