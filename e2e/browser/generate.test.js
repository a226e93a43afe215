// Tasks as the board shows them.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import test from "node:test";
import { LoroMap } from "loro-crdt";
import { resultUrl } from "loro-sync-client-web";
import { converged, eventually, inBrowser, server, stored, within } from "./browser.js";

const NODES = 7;

test("a prompt in one tab becomes a picture in both", (t) =>
  inBrowser(t, async ({ project, tab }) => {
    const [a, b] = await Promise.all([tab(), tab()]);
    const prompt = "A lighthouse <at> dusk & “rain”";
    await a.generate(prompt);
    await status(a, prompt, /waiting|in progress/);
    const { height } = await a.node(prompt).boundingBox();
    assert.equal(await a.page.getByTestId("prompt").inputValue(), "", "the next picture may be requested");

    for (const each of [a, b]) {
      await status(each, prompt, "done");
      await each.drawn(prompt);
      assert.equal(await each.node(prompt).getByTestId("node-media").getAttribute("alt"), prompt);
      assert.equal((await each.node(prompt).boundingBox()).height, height, "the card has kept its size");
    }

    await a.saved();
    const { nodes } = await converged(a, b);
    const [{ id, data }] = Object.values(nodes);
    const task = await ask(`/tasks/${data.taskId}`);
    assert.equal(task.project_id, project);
    assert.equal(task.status, "completed");
    assert.equal(JSON.parse(task.params).prompt, prompt);
    await isPicture(data.src);
    assert.deepEqual(await stored(project), { nodes: { [id]: nodes[id] }, text: "" });
  }));

test("seven nodes made at one time by seven scripts all get their pictures", (t) =>
  inBrowser(t, async ({ project, tab, script }) => {
    const writers = await Promise.all(Array.from({ length: NODES }, () => script()));
    const position = (n) => ({ x: 24 + 214 * (n % 4), y: 24 + 260 * Math.floor(n / 4) });
    // Each task is posted before its node is stored.
    const tasks = await Promise.all(
      writers.map(async ({ doc, connection }, n) => {
        const data = createNode(doc, `node-${n}`, position(n), `Picture ${n}`);
        const { task_id } = await submit({ project_id: project, params: { prompt: `Picture ${n}` }, node_id: `node-${n}` });
        data.set("taskId", task_id);
        await within(`writer ${n} is saved`, connection.whenSaved());
        return task_id;
      }),
    );
    assert.equal(new Set(tasks).size, NODES);

    await Promise.all(
      writers.map(({ doc }, n) =>
        eventually(
          `writer ${n} sees all of them done`,
          async () => Object.values(doc.getMap("nodes").toJSON()).map(({ data }) => data),
          (all) => all.length === NODES && all.every(({ status, src }) => status === "completed" && src),
        ),
      ),
    );
    const { nodes } = await converged(...writers);
    for (let n = 0; n < NODES; n += 1) {
      const { data, ...rest } = nodes[`node-${n}`];
      assert.deepEqual(rest, { id: `node-${n}`, position: position(n) });
      assert.equal(data.label, `Picture ${n}`);
      assert.equal(data.taskId, tasks[n]);
      await isPicture(data.src);
      const task = await ask(`/tasks/${tasks[n]}`);
      assert.equal(JSON.parse(task.params).prompt, data.label);
      assert.equal(new URL(task.result_url, server).href, new URL(data.src, server).href, "each node has its own task's picture");
    }
    assert.equal(new Set(Object.values(nodes).map(({ data }) => data.src)).size, NODES);
    assert.deepEqual(await stored(project), { nodes, text: "" });

    const late = await tab();
    for (let n = 0; n < NODES; n += 1) await late.drawn(`Picture ${n}`);
  }));

test("a picture that is done while its card is dragged undoes no move, and no move undoes it", (t) =>
  inBrowser(t, async ({ project, tab }) => {
    const [a, b] = await Promise.all([tab(), tab()]);
    await a.generate("Moving");
    await b.node("Moving").waitFor();
    const node = async (each) => Object.values((await each.json()).nodes)[0];
    const start = (await node(a)).position;

    const move = await a.hold("Moving");
    let steps = 0;
    await eventually(
      "both tabs see it done, amid the moves",
      async () => {
        steps += 1;
        await move(160 + Math.round(120 * Math.cos(steps / 8)), 120 + Math.round(90 * Math.sin(steps / 8)));
        return Promise.all([a, b].map(async (each) => (await node(each)).data.status));
      },
      (all) => all.every((each) => each === "completed"),
    );
    assert.ok(steps > 1, "it was moved before it was done");
    await move(203, 111);
    await a.page.mouse.up();

    const end = { x: start.x + 203, y: start.y + 111 };
    for (const each of [a, b]) {
      const { position, data } = await eventually(
        "it is where it was let go",
        () => node(each),
        ({ position: { x, y } }) => x === end.x && y === end.y,
      );
      assert.deepEqual(position, end);
      assert.equal(data.status, "completed");
      await isPicture(data.src);
      await each.drawn("Moving");
      const shown = () => each.node("Moving").evaluate(({ style }) => [style.left, style.top]);
      await eventually("it is shown there", shown, ([left, top]) => left === `${end.x}px` && top === `${end.y}px`);
    }
    await a.saved();
    assert.deepEqual(await stored(project), await converged(a, b));
  }));

test("a failed task says why, and can be tried again", (t) =>
  inBrowser(t, async ({ project, tab, script }) => {
    const { doc, connection } = await script();
    const data = createNode(doc, "node", { x: 24, y: 24 }, "Doomed");
    const { task_id } = await submit({
      project_id: project,
      params: { prompt: "Doomed", fail: "The muse is away.", seconds: 2 },
      max_retries: 0,
      node_id: "node",
    });
    data.set("taskId", task_id);
    await within("the node is saved", connection.whenSaved());

    const a = await tab();
    const retry = a.node("Doomed").getByTestId("node-retry");
    const fails = async () => {
      await status(a, "Doomed", "failed");
      await a.node("Doomed").getByTestId("node-error").filter({ hasText: "The muse is away." }).waitFor();
    };
    await fails();
    await retry.click();
    await status(a, "Doomed", /waiting|in progress/);
    await retry.waitFor({ state: "hidden" });
    assert.equal(await a.node("Doomed").getByTestId("node-error").isVisible(), false);
    await fails();
    const { tasks } = await ask(`/tasks?project_id=${project}`);
    assert.deepEqual(tasks.map((task) => [task.task_id, task.status]), [[task_id, "failed"]], "it is the same task");
  }));

/** Waits until a node shows this state. */
function status(tab, label, hasText) {
  return tab.node(label).getByTestId("node-status").filter({ hasText }).waitFor();
}

/** Adds a node to a script's document, and returns its data. */
function createNode(doc, id, position, label) {
  const node = doc.getMap("nodes").setContainer(id, new LoroMap());
  node.set("id", id);
  node.set("position", position);
  const data = node.setContainer("data", new LoroMap());
  data.set("label", label);
  doc.commit();
  return data;
}

/** Posts a demo task, and returns the answer. */
async function submit(task) {
  const response = await fetch(new URL("/tasks", server), {
    method: "POST",
    headers: { "content-type": "application/json", "idempotency-key": randomUUID() },
    body: JSON.stringify({ task_type: "demo", ...task }),
  });
  assert.equal(response.status, 201, await response.clone().text());
  return response.json();
}

async function ask(path) {
  const response = await fetch(new URL(path, server));
  assert.equal(response.status, 200, path);
  return response.json();
}

/** Asserts that an address serves a picture. */
async function isPicture(src) {
  const response = await fetch(resultUrl(src, server));
  assert.equal(response.status, 200, src);
  assert.match(response.headers.get("content-type"), /^image\//);
  assert.ok((await response.arrayBuffer()).byteLength > 0);
}
