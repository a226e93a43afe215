import assert from "node:assert/strict";
import { test } from "node:test";
import { LoroDoc, type Value } from "loro-crdt";
import { keptBy, keptWords } from "../src/kept.js";
import { createNode, readNodes } from "../src/nodes.js";

const src = "https://cdn.example/film.mp4";

test("a node names the service that keeps its content, until the node shows something else", () => {
  const doc = new LoroDoc();
  createNode(doc, { x: 0, y: 0 }, "film", { src, taskId: "task_1" });
  const kept = () => readNodes(doc)[0]?.kept;
  assert.equal(kept(), undefined, "the task has no entry");
  const entry = doc.getMap("tasks").ensureMergeableMap("task_1");
  for (const [key, value] of Object.entries({ task_type: "kling_video", src, result_expires_at: 1_800_000_000 })) entry.set(key, value);
  assert.deepEqual(kept(), { service: "Kling", until: 1_800_000_000 });
  entry.set("src", "/assets/asset_1");
  assert.equal(kept(), undefined);
});

test("an entry may be a plain value, and a value that is not a time counts as none", () => {
  const cases: [Value | undefined, string | undefined][] = [
    [{ task_type: "fal:some/model", src, result_expires_at: 1 }, "fal"],
    [{ task_type: "nano_banana_pro", src, result_expires_at: 1 }, "Gemini"],
    [{ task_type: "sculpture", src, result_expires_at: 1 }, "its service"],
    [{ task_type: "kling_video", src, result_expires_at: null }, undefined],
    [{ task_type: "kling_video", src, result_expires_at: "soon" }, undefined],
    [{ task_type: "kling_video", src }, undefined],
    ["text", undefined],
    [undefined, undefined],
  ];
  for (const [entry, service] of cases) assert.equal(keptBy(entry, src)?.service, service, JSON.stringify(entry));
});

test("the words say whether the time has passed", () => {
  const until = Date.UTC(2026, 11, 24, 12) / 1_000;
  const day = new Date(until * 1_000).toLocaleDateString(undefined, { dateStyle: "medium" });
  assert.equal(keptWords({ service: "Kling", until }, until * 1_000 - 1), `Kept by Kling until ${day}`);
  assert.equal(keptWords({ service: "Kling", until }, until * 1_000), `Was kept by Kling until ${day}`);
});
