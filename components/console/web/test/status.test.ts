import assert from "node:assert/strict";
import test from "node:test";
import { savedWords, sentence, stateWords } from "../src/status.js";

const saved = (unsaved: number, refused = 0) => ({ all: false, unsaved, refused, waitsFor: [] });

const waiting = (unsaved: number) => ({ ...saved(unsaved), waitsFor: [{ peer: "42", counter: 1 }] });

test("an edit that is not saved is never called saved", () => {
  const cases = [
    [{ state: "live", saved: { all: true, unsaved: 0, refused: 0, waitsFor: [] } }, "All saved"],
    [{ state: "live", saved: saved(1) }, "Saving 1 edit"],
    [{ state: "live", saved: saved(0) }, ""],
    [{ state: "offline", saved: saved(0) }, ""],
    [{ state: "offline", saved: saved(2, 1) }, "2 edits not saved yet"],
    [{ state: "rejected", saved: saved(2, 1) }, "2 edits not saved"],
    [{ state: "rejected", saved: saved(0) }, "Not saved"],
    [{ state: "live", saved: waiting(0) }, "Stored, but waiting for another client's edits"],
    [{ state: "offline", saved: waiting(0) }, "Stored, but waiting for another client's edits"],
    [{ state: "rejected", saved: waiting(0) }, "Not saved"],
    [{ state: "live", saved: waiting(1) }, "Saving 1 edit"],
  ] as const;
  for (const [status, words] of cases) assert.equal(savedWords(status), words);
});

test("each state has words", () => {
  const status = { importing: false, reason: undefined, retryIn: undefined };
  assert.equal(stateWords({ ...status, state: "rejected", reason: "edits made here cannot be saved" }), "Stopped");
  assert.equal(stateWords({ ...status, state: "closed", reason: "no access to this project" }), "No access to this project");
  assert.equal(stateWords({ ...status, state: "offline", retryIn: 4_000 }), "Offline, trying again in 4 s");
  for (const state of ["syncing", "live"] as const) {
    assert.equal(stateWords({ ...status, state, importing: true }), "Working: merging edits");
  }
  assert.equal(sentence("please sign in"), "Please sign in");
});
