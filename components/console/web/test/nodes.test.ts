import assert from "node:assert/strict";
import { test } from "node:test";
import { LoroDoc, LoroMap } from "loro-crdt";
import { LoroDoc as OldLoroDoc } from "loro-crdt-1.8";
import { type BoardNode, createNode, deleteNode, moveNode, readNodes, renameNode, setData } from "../src/nodes.js";

/** A node that has nothing but a place and a label. */
const PLAIN: Omit<BoardNode, "id" | "position" | "label"> = {
  status: undefined,
  src: undefined,
  error: undefined,
  taskId: undefined,
  prompt: undefined,
  kept: undefined,
};

/** Makes two empty documents, and a function that brings each the other's edits. */
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

test("a deleted node stays deleted", () => {
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

test("if two clients write at the same time into a node that has no data yet, everything survives", () => {
  const [a, b, meet] = pair();
  a.getMap("nodes").setContainer("n", new LoroMap()).set("id", "n");
  a.commit();
  meet();
  renameNode(a, "n", "a label");
  setData(b, "n", { taskId: "task_1", status: "pending" });
  meet();
  assert.deepEqual(a.getMap("nodes").toJSON(), { n: { id: "n", data: { label: "a label", taskId: "task_1", status: "pending" } } });
});

test("a client of Loro 1.8 sees bytes in place of a new node, its content in another root, and loses nothing of it", () => {
  const doc = new LoroDoc();
  const id = createNode(doc, { x: 1, y: 2 }, "new");
  const old = new OldLoroDoc();
  old.import(doc.export({ mode: "snapshot" }));
  assert.ok(old.getMap("nodes").get(id) instanceof Uint8Array);
  const elsewhere = Object.entries(old.toJSON() as Record<string, unknown>).filter(([root]) => root.startsWith("🤝"));
  assert.deepEqual(elsewhere.map(([root]) => root).sort(), [`🤝:$nodes>${id}`, `🤝:$nodes>${id}>data`]);
  // A client of this release reads the old client's node, and the node that the old client saw as bytes is still whole.
  old.getMap("nodes").set("theirs", { position: { x: 3, y: 4 }, data: { label: "theirs" } });
  old.commit();
  doc.import(old.export({ mode: "update" }));
  assert.deepEqual(readNodes(doc).map(({ label, position }) => [label, position]).sort(), [
    ["new", { x: 1, y: 2 }],
    ["theirs", { x: 3, y: 4 }],
  ]);
});

test("a node written as a plain value keeps its other fields", () => {
  const doc = new LoroDoc();
  doc.getMap("nodes").set("n", { type: "image", position: { x: 0, y: 0 }, data: { label: "a", taskId: "t" } });
  moveNode(doc, "n", { x: 7, y: 8 });
  renameNode(doc, "n", "b");
  setData(doc, "n", { status: "failed", error: "no" });
  assert.deepEqual(doc.getMap("nodes").toJSON(), {
    n: { type: "image", position: { x: 7, y: 8 }, data: { label: "b", taskId: "t", status: "failed", error: "no" } },
  });
});

test("a value that is not a node is passed over, and missing fields of a node are filled in", () => {
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
