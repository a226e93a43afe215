import assert from "node:assert/strict";
import test from "node:test";
import { Attempts, delayBefore } from "../src/backoff.js";

const backoff = { minDelay: 500, maxDelay: 30_000 };

test("the wait doubles up to its ceiling", () => {
  const longest = Array.from({ length: 9 }, (_, attempt) => delayBefore(attempt, backoff, () => 1));
  assert.deepEqual(longest, [500, 1_000, 2_000, 4_000, 8_000, 16_000, 30_000, 30_000, 30_000]);
});

test("jitter shortens the wait by up to half", () => {
  for (let attempt = 0; attempt < 9; attempt += 1) {
    assert.equal(delayBefore(attempt, backoff, () => 0), delayBefore(attempt, backoff, () => 1) / 2);
    const waits = new Set(Array.from({ length: 50 }, () => delayBefore(attempt, backoff, Math.random)));
    assert.ok(waits.size > 10, "the waits of clients differ");
  }
});

test("the thousandth attempt still has a wait", () => {
  assert.equal(delayBefore(1_000, backoff, () => 1), 30_000);
});

test("the first join again is at once, and all later attempts of either kind wait longer, until they are counted anew", () => {
  const attempts = new Attempts(backoff, () => 1);
  assert.deepEqual([attempts.beforeJoining(), attempts.beforeJoining(), attempts.beforeJoining()], [0, 500, 1_000]);
  assert.deepEqual([attempts.beforeConnecting(), attempts.beforeJoining()], [4_000, 4_000]);
  attempts.live();
  assert.equal(attempts.beforeJoining(), 8_000, "it was live for a moment only");
  attempts.reset();
  assert.deepEqual([attempts.beforeConnecting(), attempts.beforeJoining()], [500, 500]);
  attempts.reset();
  assert.deepEqual([attempts.beforeConnecting(2), attempts.beforeJoining()], [2_000, 2_000]);
});
