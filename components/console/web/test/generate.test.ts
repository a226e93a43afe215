import assert from "node:assert/strict";
import { test } from "node:test";
import { LoroDoc, UndoManager } from "loro-crdt";
import { Generator, type Settings } from "../src/generate.js";
import { ACCOUNT, type BoardNode, deleteNode, readNodes, renameNode, setData } from "../src/nodes.js";

const PLACE = { x: 1, y: 2 };

/** The server's answers, request by request: an answer, or the failure of the network. */
type Reply = Response | Error | (() => Response);

interface Request {
  readonly path: string;
  readonly method: string | undefined;
  readonly key: string | null;
  readonly body: unknown;
}

/** Makes a generator on an empty document, and records its requests and its pauses. */
function generator(replies: Reply[], settings: Partial<Settings> = {}): { doc: LoroDoc; asked: Request[]; pauses: number[]; it: Generator } {
  const doc = new LoroDoc();
  const asked: Request[] = [];
  const pauses: number[] = [];
  const it = new Generator({ doc }, {
    project: "p",
    saved: async () => {},
    fetch: async (path, { method, headers, body }) => {
      asked.push({
        path,
        method,
        key: new Headers(headers).get("idempotency-key"),
        body: body === undefined ? undefined : JSON.parse(body as string),
      });
      const reply = replies.shift();
      assert.ok(reply, "no further request was expected");
      if (reply instanceof Error) throw reply;
      return typeof reply === "function" ? reply() : reply;
    },
    pause: async (time) => void pauses.push(time),
    ...settings,
  });
  return { doc, asked, pauses, it };
}

const created = (id: string): Response => Response.json({ task_id: id, status: "pending", created_at: 1 }, { status: 201 });
const problem = (status: number, words: object): Response => Response.json({ status, ...words }, { status });

function only(doc: LoroDoc): BoardNode {
  const [node, ...others] = readNodes(doc);
  assert.ok(node && others.length === 0, "there is one node");
  return node;
}

test("a prompt becomes a node and a task, and the node has the task's id", async () => {
  const { doc, asked, it } = generator([created("task_1")]);
  const done = it.generate(PLACE, "a lighthouse");
  assert.equal(only(doc).status, "pending", "it is seen at once");
  await done;
  const { id, ...rest } = only(doc);
  assert.deepEqual(rest, {
    position: PLACE,
    label: "a lighthouse",
    prompt: "a lighthouse",
    status: "pending",
    taskId: "task_1",
    src: undefined,
    error: undefined,
    kept: undefined,
  });
  const [request] = asked;
  assert.match(request?.key ?? "", /^[!-~]{1,255}$/);
  assert.deepEqual(asked, [
    {
      path: "tasks",
      method: "POST",
      key: request?.key,
      body: { project_id: "p", task_type: "demo", params: { prompt: "a lighthouse" }, node_id: id },
    },
  ]);
});

test("the server is asked only when it has the node", async () => {
  let stored = (): void => {};
  const { asked, it } = generator([created("task_1")], { saved: () => new Promise((resolve) => (stored = resolve)) });
  const done = it.generate(PLACE, "x");
  await new Promise((resolve) => setImmediate(resolve));
  assert.equal(asked.length, 0);
  stored();
  await done;
  assert.equal(asked.length, 1);
});

test("a task that is done before its answer has come stays done", async () => {
  const { doc, it } = generator([
    () => {
      setData(doc, only(doc).id, { status: "completed", src: "/assets/1" });
      return created("task_1");
    },
  ]);
  await it.generate(PLACE, "x");
  const { status, src, taskId } = only(doc);
  assert.deepEqual({ status, src, taskId }, { status: "completed", src: "/assets/1", taskId: "task_1" });
});

test("a node that is deleted meanwhile stays deleted", async () => {
  for (const reply of [created("task_1"), problem(422, { detail: "No." })]) {
    const { doc, it } = generator([
      () => {
        deleteNode(doc, only(doc).id);
        return reply;
      },
    ]);
    await it.generate(PLACE, "x");
    assert.deepEqual(readNodes(doc), []);
  }
});

test("a server that is away for a moment is asked again, with the same key", async () => {
  const { doc, asked, pauses, it } = generator([new TypeError("Failed to fetch"), problem(503, { detail: "Away." }), created("task_1")]);
  await it.generate(PLACE, "x");
  assert.equal(only(doc).taskId, "task_1");
  assert.equal(new Set(asked.map((request) => JSON.stringify(request))).size, 1, "three times the same");
  assert.deepEqual(pauses, [500, 2_000]);
});

test("the reason of a failure is written on the node", async () => {
  const away = new TypeError("Failed to fetch");
  const cases: [Reply[], string][] = [
    [[problem(422, { title: "Invalid task", detail: "The prompt is empty." })], "The prompt is empty."],
    [[problem(409, { title: "Conflict" })], "Conflict"],
    [[new Response("<html>", { status: 500 })], "The server answered 500."],
    [[away, away, away], "The server cannot be reached."],
    [[away, problem(502, {}), problem(503, { detail: "The app is away." })], "The app is away."],
    [[Response.json({ status: "pending" }, { status: 201 })], "The server's answer names no task."],
  ];
  for (const [replies, error] of cases) {
    const { doc, it } = generator(replies);
    await it.generate(PLACE, "x");
    const node = only(doc);
    assert.deepEqual([node.status, node.error, node.taskId], ["failed", error, undefined]);
    assert.equal(replies.length, 0, "all was asked");
  }

  const { doc, it } = generator([], { saved: () => Promise.reject(new Error("the connection is closed")) });
  await it.generate(PLACE, "x");
  assert.equal(only(doc).error, "the connection is closed");
});

test("a node whose task was never made gets one by a retry, with the same prompt", async () => {
  const { doc, asked, it } = generator([problem(422, { detail: "No." }), created("task_2")]);
  await it.generate(PLACE, "a lighthouse");
  renameNode(doc, only(doc).id, "my favourite");
  await it.retry(only(doc));
  const { label, status, error, taskId } = only(doc);
  assert.deepEqual({ label, status, error, taskId }, { label: "my favourite", status: "pending", error: undefined, taskId: "task_2" });
  assert.deepEqual(asked[0]?.body, asked[1]?.body);
  assert.notEqual(asked[0]?.key, asked[1]?.key);
});

test("the server retries a task that failed, and the page writes nothing into the node", async () => {
  const { doc, asked, it } = generator([created("task/1"), Response.json({ status: "pending" }), problem(409, { detail: "It is under way." })]);
  await it.generate(PLACE, "x");
  setData(doc, only(doc).id, { status: "failed", error: "No." });
  const before = doc.toJSON();
  await it.retry(only(doc));
  assert.deepEqual(asked[1], { path: "tasks/task%2F1/retry", method: "POST", key: null, body: undefined });
  await assert.rejects(it.retry(only(doc)), { message: "It is under way." });
  assert.deepEqual(doc.toJSON(), before);
});

test("undo takes back the node, and skips the commits that record its task", async () => {
  const { doc, it } = generator([created("task_1")]);
  const undo = new UndoManager(doc, { excludeOriginPrefixes: [ACCOUNT], mergeInterval: 0 });
  await it.generate(PLACE, "x");
  assert.equal(only(doc).taskId, "task_1");
  undo.undo();
  assert.deepEqual(readNodes(doc), []);
  assert.equal(undo.canUndo(), false);
});
