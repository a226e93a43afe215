// Pictures and films that a user drops or pastes.
import assert from "node:assert/strict";
import test from "node:test";
import { Cable } from "./cable.js";
import { eventually, inBrowser, server, stored } from "./browser.js";

/** A red picture of one pixel. */
const PNG = "iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mNk+M9QDwADhgGAWjR9awAAAABJRU5ErkJggg==";

test("pictures that are dropped become nodes where they were dropped, for all users", (t) =>
  inBrowser(t, async ({ project, tab }) => {
    const [a, b] = await Promise.all([tab(), tab()]);
    const box = await a.page.getByTestId("board").boundingBox();
    await drop(a, [["one.png", PNG], ["two.png", PNG]], { x: box.x + 300, y: box.y + 200 });
    for (const each of [a, b]) for (const name of ["one.png", "two.png"]) await each.drawn(name);
    // The head of the card is under the pointer.
    const card = await a.node("one.png").boundingBox();
    assert.ok(card.x < box.x + 300 && box.x + 300 < card.x + card.width, JSON.stringify(card));
    assert.ok(card.y < box.y + 200 && box.y + 200 < card.y + card.height / 2, JSON.stringify(card));
    assert.equal(await a.page.getByTestId("upload").count(), 0);
    await a.saved();

    const nodes = Object.values((await stored(project)).nodes);
    assert.deepEqual(nodes.map(({ data }) => data.label).sort(), ["one.png", "two.png"]);
    for (const { data } of nodes) {
      assert.match(data.src, /^\/assets\/asset_[a-z0-9]+$/, "the document has the path, and no content");
      const picture = await fetch(new URL(data.src, server));
      assert.equal(picture.headers.get("content-type"), "image/png");
      assert.deepEqual(Buffer.from(await picture.arrayBuffer()), Buffer.from(PNG, "base64"));
    }
    // An undo takes such a node back, too.
    await a.page.getByTestId("undo").click();
    await eventually("one is gone", () => b.nodes.count(), (count) => count === 1);
  }));

test("a picture that is pasted becomes a node, and text that is pasted stays text", (t) =>
  inBrowser(t, async ({ tab }) => {
    const a = await tab();
    await paste(a, "body", [["pasted.png", PNG]]);
    await a.drawn("pasted.png");
    await paste(a, "textarea", [["also.png", PNG]]);
    await a.drawn("also.png");
    await paste(a, "textarea", [["of-the-text.png", PNG]], "written");
    await paste(a, "body", [["last.png", PNG]]);
    await a.drawn("last.png");
    assert.equal(await a.nodes.count(), 3, "of text with a picture of it, only the text is taken");
  }));

test("a file that the server refuses is shown with the server's reason, and can be let go", (t) =>
  inBrowser(t, async ({ project, tab }) => {
    const a = await tab();
    await drop(a, [["drawing.svg", Buffer.from("<svg/>").toString("base64")], ["good.png", PNG]]);
    await refused(a, "drawing.svg", "The body must be a PNG, JPEG, WebP, GIF, BMP, HEIC or AVIF picture, or an MP4, QuickTime or WebM film.");
    await a.drawn("good.png");
    await drop(a, [["film.mp4", 9 * 1024 * 1024]]);
    await refused(a, "film.mp4", /8388608|8 MiB/);
    await upload(a, "film.mp4").getByTestId("upload-let-go").click();
    await a.page.route("**/assets", (route) =>
      route.fulfill({
        status: 507,
        contentType: "application/problem+json",
        body: JSON.stringify({ type: "urn:loro-sync:problem:quota", title: "The quota is used up", status: 507, detail: "The project is full." }),
      }),
    );
    await paste(a, "body", [["late.png", PNG]]);
    await refused(a, "late.png", "The project is full.");
    await a.page.unroute("**/assets");
    await upload(a, "late.png").getByTestId("upload-again").click();
    await a.drawn("late.png");
    await upload(a, "drawing.svg").getByTestId("upload-let-go").click();
    assert.equal(await a.page.getByTestId("upload").count(), 0);
    await drop(a, Array.from({ length: 51 }, (_, n) => [`${n}.png`, PNG]));
    await a.page.getByTestId("error").filter({ hasText: "at most 50 may come at once" }).waitFor();
    await a.saved();
    const labels = Object.values((await stored(project)).nodes).map(({ data }) => data.label);
    assert.deepEqual(labels.sort(), ["good.png", "late.png"]);
    // The browser logs each answer that is an error.
    assert.ok(a.errors.every((error) => /status of (413|415|507)/.test(error)), JSON.stringify(a.errors));
    a.errors.length = 0;
  }));

test("a picture that is dropped while there is no network waits on the page for another try", (t) =>
  inBrowser(t, async ({ tab, atEnd }) => {
    const cable = await Cable.to(server);
    atEnd(() => cable.close());
    const [a, b] = await Promise.all([tab({ address: cable.address }), tab()]);
    cable.cut();
    await a.state("offline");
    await drop(a, [["offline.png", PNG]]);
    await refused(a, "offline.png", "The server cannot be reached");
    assert.equal(await b.nodes.count(), 0);
    cable.mend();
    await upload(a, "offline.png").getByTestId("upload-again").click();
    for (const each of [a, b]) await each.drawn("offline.png");
  }));

test("a node says until when a service keeps its content", (t) =>
  inBrowser(t, async ({ tab, script }) => {
    const [a, { doc }] = await Promise.all([tab(), script()]);
    const src = new URL("/", server).href;
    doc.getMap("nodes").set("film", { position: { x: 24, y: 24 }, data: { label: "Film", status: "completed", src, taskId: "task_1" } });
    doc.commit();
    await a.node("Film").waitFor();
    assert.equal(await a.node("Film").getByTestId("node-kept").isVisible(), false);
    doc.getMap("tasks").set("task_1", { task_type: "kling_video", src, result_expires_at: 4_000_000_000 });
    doc.commit();
    await a.node("Film").getByTestId("node-kept").filter({ hasText: /Kept by Kling until .*2096/ }).waitFor();
  }));

/** The card of a file that has not become a node. */
function upload(tab, name) {
  return tab.page.getByRole("article", { name: `Upload of ${name}`, exact: true });
}

/** Waits until a file's card gives this reason. */
function refused(tab, name, hasText) {
  return upload(tab, name).getByTestId("upload-error").filter({ hasText }).waitFor();
}

/** Makes the data of a drop or a paste: files with a content in base64, or films of this many bytes, and perhaps a text. */
function transfer(tab, files, text) {
  return tab.page.evaluateHandle(
    ([files, text]) => {
      const made = new DataTransfer();
      for (const [name, content] of files) {
        const bytes = typeof content === "number" ? new Uint8Array(content) : Uint8Array.from(atob(content), (char) => char.charCodeAt(0));
        if (typeof content === "number") bytes.set(new TextEncoder().encode("\0\0\0\u0018ftypisom"));
        made.items.add(new File([bytes], name));
      }
      if (text) made.setData("text/plain", text);
      return made;
    },
    [files, text],
  );
}

/** Drops files onto the board, at this place of the page. */
async function drop(tab, files, at) {
  const board = await tab.page.getByTestId("board").boundingBox();
  const { x, y } = at ?? { x: board.x + 140, y: board.y + 60 };
  const place = { dataTransfer: await transfer(tab, files), clientX: x, clientY: y };
  await tab.page.dispatchEvent("#board", "dragover", place);
  await tab.page.dispatchEvent("#board", "drop", place);
}

/** Pastes files, and perhaps a text, into an element. */
async function paste(tab, into, files, text) {
  const brought = await transfer(tab, files, text);
  await tab.page.evaluate(
    ([into, clipboardData]) => document.querySelector(into).dispatchEvent(new ClipboardEvent("paste", { clipboardData, bubbles: true, cancelable: true })),
    [into, brought],
  );
}
