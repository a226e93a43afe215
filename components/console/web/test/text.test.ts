import assert from "node:assert/strict";
import { test } from "node:test";
import { difference, follow } from "../src/text.js";

test("the replacement is the smallest one, and the caret decides its place", () => {
  const cases: [string, string, number | undefined, unknown][] = [
    ["same", "same", undefined, undefined],
    ["", "a", undefined, { index: 0, removed: 0, inserted: "a" }],
    ["abc", "", undefined, { index: 0, removed: 3, inserted: "" }],
    ["one two", "one and two", undefined, { index: 4, removed: 0, inserted: "and " }],
    ["one two", "one 2", undefined, { index: 4, removed: 3, inserted: "2" }],
    // A letter beside an equal one: the caret decides which is new.
    ["aaa", "aaaa", 1, { index: 0, removed: 0, inserted: "a" }],
    ["aaa", "aaaa", 4, { index: 3, removed: 0, inserted: "a" }],
    // Two pictures that share half of their code are replaced whole.
    ["x\u{1F600}y", "x\u{1F601}y", undefined, { index: 1, removed: 2, inserted: "\u{1F601}" }],
    ["x\u{1F600}y", "x\u{1FA00}y", undefined, { index: 1, removed: 2, inserted: "\u{1FA00}" }],
  ];
  for (const [before, after, caret, replacement] of cases) {
    assert.deepEqual(difference(before, after, caret), replacement, `${before} -> ${after}`);
  }
});

test("the replacement always turns the first text into the second", () => {
  const letters = ["a", "b", "\u{1F600}", "\u{1F601}", "\u{1FA00}", "\n"];
  let seed = 7;
  const random = (below: number): number => {
    seed = (seed * 48_271) % 2_147_483_647;
    return seed % below;
  };
  const word = (): string => Array.from({ length: random(6) }, () => letters[random(letters.length)]).join("");
  for (let turn = 0; turn < 20_000; turn += 1) {
    const [before, after] = [word(), word()];
    const edit = difference(before, after, random(after.length + 1));
    const made = edit ? before.slice(0, edit.index) + edit.inserted + before.slice(edit.index + edit.removed) : before;
    assert.equal(made, after);
    assert.ok(!edit || isWhole(edit.inserted), "no half of a surrogate pair is written");
  }
});

/** Returns whether a text has no half of a surrogate pair. */
function isWhole(text: string): boolean {
  return new TextDecoder().decode(new TextEncoder().encode(text)) === text;
}

test("a position stays at its letter", () => {
  const cases: [Parameters<typeof follow>[0], number, number][] = [
    [[], 4, 4],
    [[{ insert: "abc" }], 4, 7],
    [[{ retain: 4 }, { insert: "abc" }], 4, 4],
    [[{ retain: 5 }, { insert: "abc" }], 4, 4],
    [[{ delete: 2 }], 4, 2],
    [[{ retain: 2 }, { delete: 5 }], 4, 2],
    [[{ retain: 4 }, { delete: 5 }], 4, 4],
    [[{ retain: 1 }, { insert: "xy" }, { retain: 1 }, { delete: 1 }], 4, 5],
  ];
  for (const [delta, position, moved] of cases) assert.equal(follow(delta, position), moved, JSON.stringify(delta));
});
