import assert from "node:assert/strict";
import test from "node:test";
import { Cable } from "./cable.js";
import { converged, inBrowser, server, stored } from "./browser.js";

test("edits made while the cable is out arrive when it is back in", (t) =>
  inBrowser(t, async ({ tab, atEnd }) => {
    const cable = await Cable.to(server);
    atEnd(() => cable.close());
    const [a, b] = await Promise.all([tab({ address: cable.address }), tab()]);
    await a.text.pressSequentially("Before. ");
    await a.saved();
    await b.page.waitForFunction(() => document.querySelector("textarea").value === "Before. ");

    cable.cut();
    await a.state("offline");
    await a.text.pressSequentially("Offline. ");
    await a.addNode("Made offline");
    await b.addNode("Made meanwhile");
    await b.saved();
    assert.equal(await a.page.getByTestId("saved").getAttribute("data-saved"), "no");
    assert.match(await a.page.getByTestId("saved").textContent(), /edits not saved yet/);
    assert.equal(await b.node("Made offline").count(), 0);

    cable.mend();
    await a.saved();
    await Promise.all([a.node("Made meanwhile").waitFor(), b.node("Made offline").waitFor()]);
    const { text, nodes } = await converged(a, b);
    assert.equal(text, "Before. Offline. ");
    assert.equal(Object.keys(nodes).length, 2);
    await a.state("live");
  }));

test("a reload keeps everything, and a new browser gets everything", (t) =>
  inBrowser(t, async ({ project, tab }) => {
    const a = await tab();
    await a.text.pressSequentially("Kept.");
    await a.addNode("Kept too");
    await a.saved();
    const before = await a.json();

    await a.page.reload();
    await a.live();
    await a.node("Kept too").waitFor();
    assert.equal(await a.text.inputValue(), "Kept.");
    assert.deepEqual(await a.json(), before);
    await a.saved();

    await a.page.close();
    const b = await tab();
    await b.node("Kept too").waitFor();
    assert.deepEqual(await b.json(), before);
    assert.deepEqual(await stored(project), before);
  }));

test("projects are apart", (t) =>
  inBrowser(t, async ({ tab }) => {
    const a = await tab();
    await a.text.pressSequentially("Here.");
    await a.saved();
    const other = `${new URL(a.page.url()).hash.slice(1)}-other`;
    await a.page.getByTestId("project").fill(other);
    await a.page.getByTestId("project").press("Enter");
    await a.page.waitForFunction((name) => document.title.startsWith(`${name} `), other);
    await a.live();
    assert.equal(await a.text.inputValue(), "");
    await a.page.goBack();
    await a.page.waitForFunction(() => document.querySelector("textarea").value === "Here.");
  }));
