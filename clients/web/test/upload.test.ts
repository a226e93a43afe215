import assert from "node:assert/strict";
import { test } from "node:test";
import { upload, UploadError } from "../src/index.js";

interface Asked {
  readonly address: string;
  readonly init: RequestInit;
}

/** Makes a `fetch` that gives one answer, or fails, and records its requests. */
function answering(answer: Response | Error): { asked: Asked[]; fetch: (address: URL, init: RequestInit) => Promise<Response> } {
  const asked: Asked[] = [];
  const fetch = async (address: URL, init: RequestInit): Promise<Response> => {
    asked.push({ address: address.href, init });
    if (answer instanceof Error) throw answer;
    return answer.clone();
  };
  return { asked, fetch };
}

const id = "asset_0123456789abcdefghijklmnop";
const created = Response.json({ id, path: `/assets/${id}`, url: "x", media_type: "image/png", length: 3 }, { status: 201 });
const picture = new Uint8Array([1, 2, 3]);

test("an upload goes to the room's project, below the path of a proxy, with the token in a header", async () => {
  const cases: [string, string, string | null][] = [
    ["ws://board.example:8787/sync/demo", "http://board.example:8787/projects/demo/assets", null],
    ["wss://h.example/canvas/sync/my-project?token=lst_1", "https://h.example/canvas/projects/my-project/assets", "Bearer lst_1"],
    ["https://h.example/sync/demo#x", "https://h.example/projects/demo/assets", null],
  ];
  for (const [room, address, authorization] of cases) {
    const { asked, fetch } = answering(created);
    assert.deepEqual(await upload(room, picture, { fetch }), { id, path: `/assets/${id}`, mediaType: "image/png", length: 3 });
    const [only, ...others] = asked;
    assert.ok(only && others.length === 0, "it is sent once");
    assert.equal(only.address, address);
    assert.equal(only.init.method, "POST");
    assert.equal(only.init.body, picture);
    assert.equal(new Headers(only.init.headers).get("authorization"), authorization);
  }
});

test("a refusal has the server's words, status and type", async () => {
  const type = "urn:loro-sync:problem:quota";
  const refused = Response.json({ type, title: "The quota is used up", status: 507, detail: "The project is full." }, { status: 507 });
  const cases: [Response | Error, Partial<UploadError>][] = [
    [refused, { message: "The project is full.", status: 507, type }],
    [new Response("<html>", { status: 413 }), { message: "the server answered 413", status: 413 }],
    [Response.json({ id }), { message: "the server's answer names no upload", status: 200 }],
    [new TypeError("fetch failed"), { message: "the server cannot be reached" }],
  ];
  for (const [answer, expected] of cases) {
    await assert.rejects(upload("ws://h.example/sync/demo", picture, answering(answer)), (error) => {
      assert.ok(error instanceof UploadError);
      const { message, status, type } = error;
      assert.deepEqual({ message, status, type }, { status: undefined, type: undefined, ...expected });
      return true;
    });
  }
});

test("an upload that its caller gives up rejects with the caller's reason", async () => {
  const gone = new AbortController();
  const waiting = upload("ws://h.example/sync/demo", picture, {
    signal: gone.signal,
    fetch: (_, { signal }) => new Promise((_, reject) => signal?.addEventListener("abort", () => reject(signal.reason as Error))),
  });
  gone.abort(new Error("the user has left"));
  await assert.rejects(waiting, /the user has left/);
});

test("an address that is not a room's is refused at once", async () => {
  const { asked, fetch } = answering(created);
  await assert.rejects(upload("ws://h.example/", picture, { fetch }), TypeError);
  await assert.rejects(upload("ftp://h.example/sync/demo", picture, { fetch }), TypeError);
  assert.deepEqual(asked, []);
});

test("a large upload has more time than a small one", async (t) => {
  const limits: number[] = [];
  t.mock.method(AbortSignal, "timeout", (milliseconds: number) => {
    limits.push(milliseconds);
    return new AbortController().signal;
  });
  const mib = 1 << 20;
  for (const content of [new Uint8Array(40), new Blob([new Uint8Array(40 * mib)])]) {
    await upload("ws://h.example/sync/demo", content, answering(created));
  }
  assert.deepEqual(limits, [180_001, 180_000 + mib]);
});
