// The failures that users of such pages and clients reported, each under the user's words.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { createServer } from "node:http";
import test from "node:test";
import { LoroDoc, LoroMap } from "loro-crdt";
import { connect, resultUrl } from "loro-sync-client-web";
import { WebSocket } from "ws";
import { below } from "./below.js";
import { converged, eventually, inBrowser, server, within } from "./browser.js";

test("from another machine no node can be added", (t) =>
  inBrowser(
    t,
    async ({ tab }) => {
      // To the browser, a name that is not this machine's is an insecure address.
      const a = await tab({ address: new URL(`http://my-mac.local:${server.port}/`) });
      assert.equal(await a.page.evaluate(() => isSecureContext), false);
      await a.addNode("Idea");
      await a.generate("A hill");
      await a.drawn("A hill");
      await a.saved();
      // The page also showed no error when a button failed.
      await a.page.evaluate(() => setTimeout(() => {
        throw new Error("the button is broken");
      }));
      await a.page.getByTestId("error").filter({ hasText: "the button is broken" }).waitFor();
      await eventually("the error is logged", () => a.errors.length, (count) => count === 1);
      a.errors.length = 0;
    },
    { args: ["--host-resolver-rules=MAP my-mac.local 127.0.0.1"] },
  ));

test("the prompt turns red after each picture, and undo takes a drag apart", (t) =>
  inBrowser(t, async ({ tab, script }) => {
    const [a, { doc, connection }] = await Promise.all([tab(), script()]);
    await a.generate("A hill");
    assert.equal(await a.page.locator("#prompt:user-invalid").count(), 0);
    const node = () => Object.values(doc.getMap("nodes").toJSON())[0];
    const start = await eventually("the script has the node", node, (found) => found?.position);

    const move = await a.hold("A hill");
    for (let step = 1; step <= 60; step += 1) {
      await move(step, 2 * step);
      if (step % 20 !== 0) continue;
      // Another user edits the same node meanwhile.
      await eventually("the drag is seen", node, ({ position }) => position.x > start.position.x);
      doc.getMap("nodes").get(start.id).get("data").set("note", step);
      await within("saved", connection.whenSaved());
    }
    await a.page.mouse.up();
    await a.page.getByTestId("undo").click();
    await eventually("one undo takes it back to its place", node, ({ position }) => position.x === start.position.x && position.y === start.position.y);
    await a.page.getByTestId("redo").click();
    await eventually("one redo takes it there again", node, ({ position }) => position.x === start.position.x + 60);

    // One undo takes back all that was typed without a pause, although another user types meanwhile.
    await a.text.click();
    await a.page.keyboard.type("mine");
    await eventually("the script has it", () => doc.getText("text").toString(), (text) => text === "mine");
    doc.getText("text").insert(0, "theirs ");
    await within("saved", connection.whenSaved());
    await a.page.waitForFunction(() => document.querySelector("textarea").value === "theirs mine");
    await a.page.getByTestId("undo").click();
    await eventually("one undo takes it all back", () => a.text.inputValue(), (text) => text === "theirs ");
    await converged(a, { doc });
  }));

test("below a path of our proxy it connects for ever, and old pictures are gone", (t) =>
  inBrowser(t, async ({ project, tab, script, atEnd }) => {
    const proxy = await below("/canvas");
    atEnd(() => proxy.close());
    const a = await tab({ address: proxy.address });
    await a.generate("A hill");
    await a.drawn("A hill");
    await a.saved();
    const { doc, connection } = await script();
    const [{ data }] = Object.values(doc.getMap("nodes").toJSON());
    assert.match(data.src, /^\/assets\/asset_[a-z0-9]+$/, "the document has no origin");
    for (const address of [proxy.address, server]) {
      const picture = await fetch(resultUrl(data.src, new URL(`sync/${project}`, address)));
      assert.equal(picture.status, 200, address.href);
    }
    // An earlier release, on another port, wrote addresses with their origin.
    const old = doc.getMap("nodes").setContainer("old", new LoroMap());
    old.set("position", { x: 300, y: 300 });
    const content = old.setContainer("data", new LoroMap());
    content.set("label", "Old");
    content.set("status", "completed");
    content.set("src", `http://0.0.0.0:1234${data.src}`);
    await within("saved", connection.whenSaved());
    await a.drawn("Old");
  }));

test("behind our nginx it says that the proxy passes no upgrades on, although it does", (t) =>
  inBrowser(t, async ({ page, atEnd }) => {
    const proxy = await below("", { keepsHost: false });
    atEnd(() => proxy.close());
    const own = await page();
    await own.goto(new URL("#field", proxy.address).href);
    const why = `SPIN_VARIABLE_ALLOWED_ORIGINS=${proxy.address.origin}`;
    await own.getByTestId("connection").filter({ hasText: why }).waitFor();
  }));

test("my own page on another port cannot be reached, and nothing says why", (t) =>
  inBrowser(t, async ({ page, atEnd }) => {
    const development = createServer((_, response) => response.setHeader("content-type", "text/html").end("<title>mine</title>"));
    await new Promise((resolve) => development.listen(0, "127.0.0.1", resolve));
    atEnd(() => development.close());
    const origin = `http://localhost:${development.address().port}`;
    const own = await page();
    await own.goto(origin);
    const [status, problem] = await own.evaluate(async (address) => {
      const answer = await fetch(address, { credentials: "include", headers: { "if-none-match": "*" } });
      return [answer.status, await answer.json()];
    }, new URL("/sync/demo", server).href);
    assert.equal(status, 403);
    assert.ok(problem.detail.includes(`SPIN_VARIABLE_ALLOWED_ORIGINS=${origin}`), problem.detail);
  }));

test("my room has a name that the server does not take, and it connects for ever", async (t) => {
  for (const name of ["my project", "team/board1", "画布", "", "x".repeat(129)]) {
    const connection = connect(new URL(`/sync/${name}`, server), new LoroDoc(), { WebSocket });
    t.after(() => connection.close());
    await assert.rejects(within(`"${name}" is refused`, connection.whenSynced()), /A project id has 1 to 128 characters/, name);
    assert.equal(connection.status.state, "closed", name);
  }
});

test("I made the same node as another user, and a part of it vanished", async (t) => {
  const project = `field-${randomUUID()}`;
  const writers = ["label", "taskId"].map((key) => {
    const doc = new LoroDoc();
    const node = doc.getMap("nodes").ensureMergeableMap("node");
    node.set("id", "node");
    node.ensureMergeableMap("data").set(key, `the ${key}`);
    const connection = connect(new URL(`/sync/${project}`, server), doc, { WebSocket });
    t.after(() => connection.close());
    return { doc, connection };
  });
  await Promise.all(writers.map(({ connection }) => within("saved", connection.whenSaved())));
  const { nodes } = await converged(...writers);
  assert.deepEqual(nodes, { node: { id: "node", data: { label: "the label", taskId: "the taskId" } } });
});
