import assert from "node:assert/strict";
import test from "node:test";
import { LoroDoc } from "loro-crdt";
import { Copy } from "../src/rejected.js";

test("my copy has everything that I see, committed or not, and opens anywhere", () => {
  const doc = new LoroDoc();
  doc.getText("text").insert(0, "committed, ");
  doc.commit();
  doc.getText("text").push("and not");
  const opened = new LoroDoc();
  opened.import(new Copy({ doc }).take());
  assert.equal(opened.getText("text").toString(), "committed, and not");
  assert.equal(opened.isShallow(), false);
});

test("a copy is good until I write on", () => {
  const doc = new LoroDoc();
  const copy = new Copy({ doc });
  assert.equal(copy.isCurrent(), false, "none was taken");
  copy.take();
  assert.equal(copy.isCurrent(), true);
  doc.getText("text").push("more");
  doc.commit();
  assert.equal(copy.isCurrent(), false);
  copy.take();
  assert.equal(copy.isCurrent(), true);
});
