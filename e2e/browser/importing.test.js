// A join that takes its time.
import assert from "node:assert/strict";
import test from "node:test";
import { LoroDoc } from "loro-crdt";
import { inBrowser, store } from "./browser.js";

/** The length of each of two pastes. Loro takes about a second to merge them, because they are concurrent; otherwise milliseconds. */
const LENGTH = 100_000;

/** Makes a document's update with one long text. */
function paste() {
  const doc = new LoroDoc();
  doc.getText("text").insert(0, Array.from({ length: LENGTH }, () => String.fromCharCode(97 + Math.random() * 26)).join(""));
  doc.commit();
  return doc.export({ mode: "update" });
}

/** Records what the page shows, frame by frame, without repetitions. Runs in the page. */
function record() {
  globalThis.shown = [];
  const look = () => {
    const [state, text] = ["connection", "text"].map((id) => document.getElementById(id));
    const now = state && `${state.textContent}, ${text.value.length}`;
    if (now && now !== globalThis.shown.at(-1)) globalThis.shown.push(now);
    requestAnimationFrame(look);
  };
  requestAnimationFrame(look);
}

test("before an import that takes a second, the page shows that it is working", (t) =>
  inBrowser(t, async ({ project, tab, atEnd }) => {
    const writer = await store(project, [paste(), paste()]);
    atEnd(() => writer.terminate());
    const a = await tab({ before: record });
    await a.page.waitForFunction((all) => globalThis.shown.at(-1).endsWith(`, ${all}`), 2 * LENGTH);
    const shown = await a.page.evaluate(() => globalThis.shown);
    assert.deepEqual(shown.slice(-2), ["Working: merging edits, 0", `Connected, ${2 * LENGTH}`], shown.join("; "));
  }));
