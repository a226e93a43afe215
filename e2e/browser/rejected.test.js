import assert from "node:assert/strict";
import { readFile } from "node:fs/promises";
import test from "node:test";
import { LoroDoc } from "loro-crdt";
import { converged, eventually, inBrowser, server, stored } from "./browser.js";
import { RefusingDoor } from "./refusing.js";

/** Opens a tab behind a proxy that can refuse its edits. */
async function behindDoor({ tab, atEnd }) {
  const door = await RefusingDoor.to(server);
  atEnd(() => door.close());
  return { door, a: await tab({ address: door.address }) };
}

test("an edit that was refused once is saved, and so is what was written on it", (t) =>
  inBrowser(t, async (session) => {
    const { door, a } = await behindDoor(session);
    await a.text.pressSequentially("Before. ");
    await a.saved();
    door.refusals = 1;
    await a.text.pressSequentially("Refused, and written upon.");
    await a.saved();
    assert.equal(door.refusals, 0);
    assert.equal((await stored(session.project)).text, "Before. Refused, and written upon.");
    assert.equal(await a.page.getByTestId("rejected").isVisible(), false);
  }));

test("an edit that was refused twice: the page says why, and I can keep my copy and see what the server has", (t) =>
  inBrowser(t, async (session) => {
    const { door, a } = await behindDoor(session);
    await a.text.pressSequentially("Before. ");
    await a.saved();
    door.refusals = 2;
    await a.text.pressSequentially("Refused. ");
    await a.state("rejected");
    await a.page.getByTestId("rejected").waitFor();
    assert.equal(await a.page.getByTestId("rejected-reason").textContent(), "Edits made here cannot be saved: not a Loro update");
    assert.equal(await a.page.getByTestId("error").isVisible(), false, "it is said once");

    // I can still write, and the page does not say that it is saved.
    await a.text.pressSequentially("Written after.");
    assert.equal(await a.text.inputValue(), "Before. Refused. Written after.");
    assert.equal(await a.page.getByTestId("saved").getAttribute("data-saved"), "no");
    assert.match(await a.page.getByTestId("saved").textContent(), /^\d+ edits not saved$/);

    // The browser asks before I leave, because my edits would be lost without a copy.
    const asked = a.page.waitForEvent("dialog");
    const clicked = a.page.getByTestId("reload").click();
    const dialog = await asked;
    assert.equal(dialog.type(), "beforeunload");
    await dialog.dismiss();
    await clicked;
    assert.equal(await a.text.inputValue(), "Before. Refused. Written after.");

    const [download] = await Promise.all([a.page.waitForEvent("download"), a.page.getByRole("button", { name: "Download my copy" }).click()]);
    assert.equal(download.suggestedFilename(), `${session.project}.loro`);
    const copy = new LoroDoc();
    copy.import(new Uint8Array(await readFile(await download.path())));
    assert.equal(copy.getText("text").toString(), "Before. Refused. Written after.");

    await a.page.getByRole("button", { name: "Reload" }).click();
    await a.page.getByTestId("rejected").waitFor({ state: "hidden" });
    await a.live();
    assert.equal(await a.text.inputValue(), "Before. ");
    await a.text.press("End");
    await a.page.keyboard.type("Again.");
    await a.saved();
    assert.equal((await stored(session.project)).text, "Before. Again.");
  }));

test("an edit under a peer id that another client has used is made anew, and I go on writing", (t) =>
  inBrowser(t, async (session) => {
    const { door, a } = await behindDoor(session);
    const b = await session.tab();
    const peer = () => a.page.evaluate(() => globalThis.loro.doc.peerIdStr);
    await a.text.pressSequentially("Before. ");
    await a.saved();
    const first = await peer();
    door.error = { code: "duplicate_peer", message: "another client has written as the same peer" };
    door.refusals = 1;
    await a.addNode("Made anew");
    await a.text.press("End");
    await a.page.keyboard.type("Meanwhile. ");
    await a.saved();
    await b.node("Made anew").waitFor();
    assert.notEqual(await peer(), first);
    assert.equal(await a.page.evaluate(() => globalThis.loro.connection.doc === globalThis.loro.doc), true);

    // The page shows the new document: what I and others do next is in it, and can be undone.
    await a.text.press("End");
    await a.page.keyboard.type("After.");
    await b.dragNode("Made anew", 60, 40);
    const left = (tab) => tab.node("Made anew").evaluate((node) => node.style.left);
    const place = await left(b);
    await eventually("a shows it where b put it", () => left(a), (at) => at === place);
    await a.saved();
    const { text, nodes } = await converged(a, b);
    assert.equal(text, "Before. Meanwhile. After.");
    assert.equal(await a.text.inputValue(), text);
    assert.equal(Object.keys(nodes).length, 1);
    await a.page.getByTestId("undo").click();
    assert.equal(await a.text.inputValue(), "Before. Meanwhile. ");
  }));

test("a picture of 17 MB in the document: the page says which and what to do, and what was written before is saved", (t) =>
  inBrowser(t, async ({ project, tab }) => {
    const [a, b] = await Promise.all([tab(), tab()]);
    await a.text.pressSequentially("Before.");
    await a.page.evaluate(() => {
      const { doc } = globalThis.loro;
      doc.getMap("root").set("image", "x".repeat(17_000_000));
      doc.commit();
    });
    await a.state("rejected");
    const reason = await a.page.getByTestId("rejected-reason").textContent();
    assert.match(reason, /^"image" in the map "root" is too large to be saved .*address \(a URL\)/);
    assert.equal(await a.page.getByTestId("saved").getAttribute("data-saved"), "no");
    await b.page.waitForFunction(() => document.querySelector("textarea").value === "Before.");
    assert.equal((await stored(project)).text, "Before.");
  }));
