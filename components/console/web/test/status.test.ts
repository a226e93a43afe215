import assert from "node:assert/strict";
import test from "node:test";
import { savedWords, sentence, stateWords } from "../src/status.js";

const saved = (unsaved: number, refused = 0) => ({ all: false, unsaved, refused });

test("what is not saved is never called saved", () => {
  const cases = [
    [{ state: "live", saved: { all: true, unsaved: 0, refused: 0 } }, "All saved"],
    [{ state: "live", saved: saved(1) }, "Saving 1 edit"],
    [{ state: "live", saved: saved(0) }, ""],
    [{ state: "offline", saved: saved(0) }, ""],
    [{ state: "offline", saved: saved(2, 1) }, "2 edits not saved yet"],
    [{ state: "rejected", saved: saved(2, 1) }, "2 edits not saved"],
    [{ state: "rejected", saved: saved(0) }, "Not saved"],
  ] as const;
  for (const [status, words] of cases) assert.equal(savedWords(status), words);
});

test("each state has words", () => {
  const status = { reason: undefined, retryIn: undefined };
  assert.equal(stateWords({ ...status, state: "rejected", reason: "edits made here cannot be saved" }), "Stopped");
  assert.equal(stateWords({ ...status, state: "closed", reason: "no access to this project" }), "No access to this project");
  assert.equal(stateWords({ ...status, state: "offline", retryIn: 4_000 }), "Offline, trying again in 4 s");
  assert.equal(sentence("please sign in"), "Please sign in");
});
