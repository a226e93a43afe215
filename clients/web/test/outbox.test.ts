import assert from "node:assert/strict";
import test from "node:test";
import { Outbox } from "../src/outbox.js";

test("an edit is saved when its frame is decided, and not before", () => {
  const outbox = new Outbox();
  outbox.send(1);
  outbox.send(1);
  assert.equal(outbox.unsaved, 2);
  outbox.decided(1);
  assert.equal(outbox.unsaved, 1);
  outbox.decided(2);
  assert.equal(outbox.unsaved, 0);
});

test("what was on its way when the connection broke is unsaved until a join says otherwise", () => {
  const outbox = new Outbox();
  outbox.send(1);
  outbox.send(1);
  outbox.decided(1);
  outbox.lost();
  outbox.keep();
  assert.equal(outbox.unsaved, 2);
  outbox.sendAll(0);
  assert.equal(outbox.unsaved, 0, "the server has everything");
});

test("frames are numbered anew on each connection", () => {
  const outbox = new Outbox();
  outbox.send(1);
  outbox.send(1);
  outbox.lost();
  outbox.sendAll(2);
  outbox.send(1);
  assert.equal(outbox.unsaved, 3);
  outbox.decided(1);
  assert.equal(outbox.unsaved, 3, "what was offline is saved with its last frame");
  outbox.decided(2);
  assert.equal(outbox.unsaved, 1);
  outbox.decided(3);
  assert.equal(outbox.unsaved, 0);
});

test("a refused frame never becomes saved on this connection, in whichever order error and confirmation come", () => {
  for (const errorFirst of [true, false]) {
    const outbox = new Outbox();
    outbox.send(1);
    outbox.send(1);
    if (errorFirst) outbox.refuse(1);
    outbox.decided(2);
    if (!errorFirst) outbox.refuse(1);
    assert.equal(outbox.unsaved, 1);
    outbox.lost();
    assert.equal(outbox.unsent, 1, "it is offered again");
  }
});
