import assert from "node:assert/strict";
import { test } from "node:test";
import { LoroDoc } from "loro-crdt";
import { ACCOUNT, createNode, DRAG, dragNode, dropNode, readNodes, renameNode, setData } from "../src/nodes.js";
import { GestureUndo } from "../src/undo.js";

/** A document with another user's copy, and a clock that the test sets. */
function desk() {
  const [doc, other, clock] = [new LoroDoc(), new LoroDoc(), { now: 0 }];
  const undo = new GestureUndo(doc, [ACCOUNT, DRAG], () => clock.now);
  /** Lets the other user make an edit, and brings it here. */
  const meanwhile = (edit: () => void): void => {
    other.import(doc.export({ mode: "update" }));
    edit();
    other.commit();
    doc.import(other.export({ mode: "update" }));
  };
  const type = (letters: string, place = "text"): void => {
    for (const letter of letters) {
      undo.type(place, true);
      doc.getText("text").push(letter);
      doc.commit();
    }
  };
  return { doc, other, clock, undo, meanwhile, type, text: () => doc.getText("text").toString() };
}

const at = (doc: LoroDoc): { x: number; y: number } | undefined => readNodes(doc)[0]?.position;

test("a drag of a hundred steps is one undo, also if another user edits the node meanwhile", () => {
  const { doc, other, undo, meanwhile } = desk();
  const id = createNode(doc, { x: 0, y: 0 }, "node");
  for (let step = 1; step <= 100; step += 1) {
    dragNode(doc, id, { x: step, y: step });
    if (step % 40 === 0) meanwhile(() => setData(other, id, { status: `at ${step}` }));
  }
  dropNode(doc, id, { x: 0, y: 0 }, { x: 101, y: 101 });
  meanwhile(() => setData(other, id, { status: "after" }));
  undo.undo();
  assert.deepEqual(at(doc), { x: 0, y: 0 });
  undo.redo();
  assert.deepEqual(at(doc), { x: 101, y: 101 });
  undo.undo();
  undo.undo();
  assert.deepEqual([readNodes(doc), undo.canUndo], [[], false]);
});

test("all letters typed without a pause are one undo, also if another user types meanwhile", () => {
  const { other, clock, undo, meanwhile, type, text } = desk();
  type("one ");
  meanwhile(() => other.getText("text").insert(0, "their "));
  type("two ");
  meanwhile(() => other.getText("text").insert(0, "and "));
  clock.now += 999;
  type("three ");
  clock.now += 1_000;
  type("later ");
  assert.equal(text(), "and their one two three later ");
  undo.undo();
  assert.equal(text(), "and their one two three ");
  undo.undo();
  assert.equal(text(), "and their ");
  undo.redo();
  assert.equal(text(), "and their one two three ");
  undo.redo();
  assert.equal(text(), "and their one two three later ");
  assert.equal(undo.canRedo, false);
  undo.undo();
  undo.undo();
  assert.deepEqual([text(), undo.canUndo], ["and their ", false]);
});

test("typing ends where another gesture begins", () => {
  const { doc, undo, type, text } = desk();
  type("a text");
  undo.endTyping();
  const id = createNode(doc, { x: 0, y: 0 }, "first");
  // The progress of a task is not an edit of the user.
  setData(doc, id, { taskId: "task_1" });
  for (const label of ["s", "se", "second"]) {
    undo.type("label", false);
    renameNode(doc, id, label);
  }
  undo.undo();
  assert.equal(readNodes(doc)[0]?.label, "first");
  undo.undo();
  assert.deepEqual(readNodes(doc), []);
  assert.equal(text(), "a text");
  undo.undo();
  assert.equal(text(), "");
  for (let times = 0; times < 3; times += 1) undo.redo();
  assert.deepEqual([text(), readNodes(doc)[0]?.label, undo.canRedo], ["a text", "second", false]);
});

test("after another document has taken the place of the first, edits of that one can be undone", () => {
  const first = new LoroDoc();
  const undo = new GestureUndo(first, [], () => 0);
  createNode(first, { x: 0, y: 0 }, "before");
  const second = first.fork();
  undo.follow(second);
  assert.equal(undo.canUndo, false);
  createNode(second, { x: 0, y: 0 }, "after");
  undo.undo();
  assert.deepEqual(readNodes(second).map(({ label }) => label), ["before"]);
});
