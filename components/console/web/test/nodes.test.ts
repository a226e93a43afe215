import assert from "node:assert/strict";
import { test } from "node:test";
import { LoroDoc } from "loro-crdt";
import { type BoardNode, createNode, deleteNode, moveNode, readNodes, renameNode, setData } from "../src/nodes.js";

/** What a node is that has nothing but a place and a label. */
const PLAIN: Omit<BoardNode, "id" | "position" | "label"> = {
  status: undefined,
  src: undefined,
  error: undefined,
  taskId: undefined,
  prompt: undefined,
};

/** Two documents that have seen the same, and a way to make them so again. */
function pair(): [LoroDoc, LoroDoc, () => void] {
  const [a, b] = [new LoroDoc(), new LoroDoc()];
  const meet = (): void => {
    a.import(b.export({ mode: "update" }));
    b.import(a.export({ mode: "update" }));
    assert.deepEqual(a.toJSON(), b.toJSON());
  };
  return [a, b, meet];
}

test("a move, a new label and a task's progress at one time all survive", () => {
  const [a, b, meet] = pair();
  const id = createNode(a, { x: 1, y: 2 }, "first");
  meet();
  moveNode(a, id, { x: 30, y: 40 });
  renameNode(b, id, "second");
  setData(b, id, { status: "completed", src: "/assets/1" });
  setData(a, id, { taskId: "task_1" });
  meet();
  assert.deepEqual(readNodes(b), [
    { ...PLAIN, id, position: { x: 30, y: 40 }, label: "second", status: "completed", src: "/assets/1", taskId: "task_1" },
  ]);
});

test("what has been deleted stays deleted", () => {
  const [a, b, meet] = pair();
  const id = createNode(a, { x: 0, y: 0 }, "gone");
  meet();
  deleteNode(a, id);
  meet();
  moveNode(b, id, { x: 5, y: 5 });
  renameNode(b, id, "ghost");
  setData(b, id, { taskId: "t" });
  assert.deepEqual(readNodes(b), []);
});

test("a node written as a plain value keeps what else it says", () => {
  const doc = new LoroDoc();
  doc.getMap("nodes").set("n", { type: "image", position: { x: 0, y: 0 }, data: { label: "a", taskId: "t" } });
  moveNode(doc, "n", { x: 7, y: 8 });
  renameNode(doc, "n", "b");
  setData(doc, "n", { status: "failed", error: "no" });
  assert.deepEqual(doc.getMap("nodes").toJSON(), {
    n: { type: "image", position: { x: 7, y: 8 }, data: { label: "b", taskId: "t", status: "failed", error: "no" } },
  });
});

test("what is no node is passed over, and what a node lacks is filled in", () => {
  const doc = new LoroDoc();
  const nodes = doc.getMap("nodes");
  nodes.set("text", "hello");
  nodes.set("list", [1, 2]);
  nodes.set("bare", {});
  nodes.set("wrong", { position: { x: "far", y: null }, data: { label: 7, status: "" } });
  assert.deepEqual(
    readNodes(doc).map(({ id, position, label, status }) => [id, position, label, status]),
    [
      ["bare", { x: 0, y: 0 }, "", undefined],
      ["wrong", { x: 0, y: 0 }, "", undefined],
    ],
  );
});
