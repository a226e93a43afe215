import assert from "node:assert/strict";
import test from "node:test";
import { LoroMap } from "loro-crdt";
import { converged, inBrowser, stored, within } from "./browser.js";

const WRITERS = 10;
const NODES = 25;

test("two tabs and a script with ten writers at once converge to the same document", (t) =>
  inBrowser(t, async ({ project, tab, script }) => {
    const [a, b] = await Promise.all([tab(), tab()]);
    const writers = await Promise.all(Array.from({ length: WRITERS }, () => script()));

    const write = async ({ doc, connection }, writer) => {
      for (let n = 0; n < NODES; n += 1) {
        const id = `w${writer}-${n}`;
        const node = doc.getMap("nodes").setContainer(id, new LoroMap());
        node.set("id", id);
        node.set("position", { x: 30 + 214 * writer, y: 120 + 60 * n });
        node.setContainer("data", new LoroMap()).set("label", `Writer ${writer}, node ${n}`);
        doc.getText("text").insert(0, `${id} `);
        doc.commit();
        // Other writers run between two edits.
        await new Promise((resolve) => setImmediate(resolve));
      }
      await within(`writer ${writer} is saved`, connection.whenSaved());
    };
    await Promise.all([
      ...writers.map(write),
      a.addNode("From a"),
      b.addNode("From b"),
    ]);
    await Promise.all([a.saved(), b.saved()]);

    const { nodes, text } = await converged(a, b, ...writers);
    assert.equal(Object.keys(nodes).length, WRITERS * NODES + 2);
    for (let writer = 0; writer < WRITERS; writer += 1) {
      for (let n = 0; n < NODES; n += 1) {
        assert.equal(nodes[`w${writer}-${n}`].data.label, `Writer ${writer}, node ${n}`);
        assert.ok(text.includes(`w${writer}-${n} `));
      }
    }
    assert.deepEqual(
      Object.values(nodes)
        .map(({ data }) => data.label)
        .filter((label) => label.startsWith("From"))
        .sort(),
      ["From a", "From b"],
    );
    for (const each of [a, b]) {
      await each.page.waitForFunction((count) => document.querySelectorAll(".node").length === count, WRITERS * NODES + 2);
      assert.equal(await each.text.inputValue(), text);
    }
    assert.deepEqual(await stored(project), { nodes, text });
  }));
