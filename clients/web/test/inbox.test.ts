import assert from "node:assert/strict";
import test from "node:test";
import { Inbox } from "../src/inbox.js";

test("what comes in one turn is handed over together, in order, and once", async () => {
  const taken: number[][] = [];
  const inbox = new Inbox((blobs) => taken.push(blobs.map((blob) => blob[0] ?? 0)));
  inbox.push(Uint8Array.of(1));
  inbox.push(Uint8Array.of(2));
  assert.deepEqual(taken, [], "not at once");
  await new Promise((resolve) => setImmediate(resolve));
  inbox.push(Uint8Array.of(3));
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(taken, [[1, 2], [3]]);
});

test("what is kept waits for the flush, which takes what is due as well", async () => {
  const taken: number[][] = [];
  const inbox = new Inbox((blobs) => taken.push(blobs.map((blob) => blob[0] ?? 0)));
  inbox.keep(Uint8Array.of(1));
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(taken, []);
  inbox.push(Uint8Array.of(2));
  inbox.flush();
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(taken, [[1, 2]]);
});
