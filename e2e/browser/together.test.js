import assert from "node:assert/strict";
import test from "node:test";
import { LoroMap } from "loro-crdt";
import { converged, eventually, inBrowser, stored } from "./browser.js";

test("two tabs write one text", (t) =>
  inBrowser(t, async ({ project, tab }) => {
    const [a, b] = await Promise.all([tab(), tab()]);
    await a.text.pressSequentially("The quick fox.");
    await b.page.waitForFunction(() => document.querySelector("textarea").value === "The quick fox.");

    // Both write at the same time, in different places.
    await a.text.evaluate((area) => area.setSelectionRange(10, 10));
    await b.text.evaluate((area) => area.setSelectionRange(14, 14));
    await b.text.focus();
    await Promise.all([a.page.keyboard.type("brown 🦊 "), b.page.keyboard.type(" It jumps.")]);
    const { text } = await converged(a, b);
    assert.equal(text, "The quick brown 🦊 fox. It jumps.");
    assert.equal(await a.text.inputValue(), text);
    assert.equal(await b.text.inputValue(), text);

    // A caret stays at its letter while others write before it.
    const caret = () => a.text.evaluate((area) => [area.selectionStart, area.selectionEnd]);
    await a.text.evaluate((area) => area.setSelectionRange(4, 9));
    await b.text.evaluate((area) => area.setSelectionRange(0, 0));
    await b.page.keyboard.type("Look! ");
    await a.page.waitForFunction(() => document.querySelector("textarea").value.startsWith("Look! The"));
    assert.deepEqual(await caret(), [10, 15]);

    await Promise.all([a.saved(), b.saved()]);
    assert.equal((await stored(project)).text, "Look! The quick brown 🦊 fox. It jumps.");
  }));

test("text that an input method composes is not disturbed by others", (t) =>
  inBrowser(t, async ({ tab }) => {
    const [a, b] = await Promise.all([tab(), tab()]);
    await a.text.pressSequentially("一三");
    await b.page.waitForFunction(() => document.querySelector("textarea").value === "一三");
    await a.text.evaluate((area) => area.setSelectionRange(1, 1));
    const keyboard = await a.page.context().newCDPSession(a.page);
    await keyboard.send("Input.imeSetComposition", { text: "に", selectionStart: 1, selectionEnd: 1 });
    await b.text.evaluate((area) => area.setSelectionRange(0, 0));
    await b.text.focus();
    await b.page.keyboard.type("数: ");
    await eventually("a knows what b wrote", async () => (await a.json()).text, (text) => text === "数: 一三");
    assert.equal(await a.text.inputValue(), "一に三", "but leaves the text area alone");
    await keyboard.send("Input.insertText", { text: "二" });
    assert.equal((await converged(a, b)).text, "数: 一二三");
    for (const each of [a, b]) assert.equal(await each.text.inputValue(), "数: 一二三");
    assert.deepEqual(await a.text.evaluate((area) => area.selectionStart), 5);
  }));

test("undo takes back a user's own edits and leaves the others'", (t) =>
  inBrowser(t, async ({ tab }) => {
    const [a, b] = await Promise.all([tab(), tab()]);
    await a.text.pressSequentially("mine ");
    await b.page.waitForFunction(() => document.querySelector("textarea").value === "mine ");
    await b.text.press("End");
    await b.page.keyboard.type("yours");
    await a.page.waitForFunction(() => document.querySelector("textarea").value === "mine yours");
    await eventually(
      "all of mine is undone",
      async () => {
        await a.page.getByTestId("undo").click();
        return a.text.inputValue();
      },
      (text) => text === "yours",
    );
    assert.equal((await converged(a, b)).text, "yours");
  }));

test("two tabs share one board", (t) =>
  inBrowser(t, async ({ project, tab }) => {
    const [a, b] = await Promise.all([tab(), tab()]);
    await a.addNode("Idea");
    await b.node("Idea").waitFor();
    const [before] = Object.values((await converged(a, b)).nodes);

    // One tab drags while the other renames, and both changes survive.
    await Promise.all([b.dragNode("Idea", 160, 90), a.node("Idea").getByTestId("node-label").fill("Plan")]);
    await b.node("Plan").waitFor();
    const moved = await eventually(
      "a sees where b put it",
      async () => Object.values((await a.json()).nodes)[0],
      ({ position }) => position.x === before.position.x + 160 && position.y === before.position.y + 90,
    );
    assert.equal(moved.data.label, "Plan");
    assert.equal(moved.id, before.id);
    await eventually(
      "a shows it there",
      async () => (await a.node("Plan").boundingBox()).x - (await b.node("Plan").boundingBox()).x,
      (apart) => apart === 0,
    );

    // The keyboard alone moves the node and deletes it.
    await a.node("Plan").focus();
    await a.page.keyboard.press("ArrowRight");
    await eventually("b sees the step", async () => Object.values((await b.json()).nodes)[0].position.x, (x) => x === moved.position.x + 12);
    await a.page.keyboard.press("Delete");
    await eventually("b sees it gone", () => b.nodes.count(), (count) => count === 0);
    await a.saved();
    assert.deepEqual((await stored(project)).nodes, {});
  }));

test("the number of clients is shown, and decreases if one leaves", (t) =>
  inBrowser(t, async ({ tab, script }) => {
    const a = await tab();
    const peers = (count) => a.page.locator(`[data-testid="peers"][data-count="${count}"]`).waitFor();
    await peers(1);
    const b = await tab();
    const c = await script();
    await peers(3);
    await b.page.close();
    await peers(2);
    c.connection.close();
    await peers(1);
  }));

test("the state of a task is shown on its node, however the node is written", (t) =>
  inBrowser(t, async ({ tab, script }) => {
    const { doc, connection } = await script();
    const nodes = doc.getMap("nodes");
    nodes.set("plain", {
      id: "plain",
      position: { x: 40, y: 40 },
      data: { label: "Plain", status: "failed", error: "refused: <b>no</b>" },
    });
    const nested = nodes.setContainer("nested", new LoroMap());
    nested.set("position", { x: 300, y: 40 });
    const data = nested.setContainer("data", new LoroMap());
    data.set("label", "Nested");
    data.set("status", "processing");
    nodes.set("odd", "not a node");
    await connection.whenSaved();

    const a = await tab();
    await a.node("Plain").getByTestId("node-status").filter({ hasText: "failed" }).waitFor();
    assert.equal(await a.node("Plain").getByTestId("node-error").textContent(), "refused: <b>no</b>");
    await a.node("Nested").getByTestId("node-status").filter({ hasText: "in progress" }).waitFor();

    data.set("status", "completed");
    data.set("src", await a.page.locator('link[rel="icon"]').getAttribute("href"));
    nodes.set("script", { position: { x: 40, y: 260 }, data: { label: "Script", src: "javascript:alert(1)" } });
    nodes.set("inline", { position: { x: 300, y: 300 }, data: { label: "Inline", src: "data:image/svg+xml,<svg/>" } });
    await connection.whenSaved();
    await a.node("Nested").getByTestId("node-status").filter({ hasText: "done" }).waitFor();
    await a.drawn("Nested");
    for (const refused of ["Script", "Inline"]) {
      await a.node(refused).waitFor();
      assert.equal(await a.node(refused).getByTestId("node-media").count(), 0);
    }

    // A plain node can be edited, too, and keeps its other values.
    await a.node("Plain").getByTestId("node-label").fill("Renamed");
    await a.saved();
    const { nodes: json } = await converged(a, { doc });
    assert.deepEqual(json.plain, {
      id: "plain",
      position: { x: 40, y: 40 },
      data: { label: "Renamed", status: "failed", error: "refused: <b>no</b>" },
    });
  }));
