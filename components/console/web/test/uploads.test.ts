import assert from "node:assert/strict";
import { test } from "node:test";
import { UploadError } from "loro-sync-client-web";
import { LoroDoc } from "loro-crdt";
import { readNodes } from "../src/nodes.js";
import { MAX_FILES, Uploads } from "../src/uploads.js";

/** A file as the user sees it, with the controls that they have. */
interface Seen {
  readonly name: string;
  state: string;
  again?: () => void;
  readonly letGo: () => void;
}

/** A request that the test answers. */
interface Sent {
  readonly name: string;
  readonly signal: AbortSignal;
  readonly stored: (path: string) => void;
  readonly refused: (error: Error) => void;
}

function desk(): { doc: LoroDoc; uploads: Uploads; seen: Seen[]; sent: Sent[] } {
  const [doc, seen, sent] = [new LoroDoc(), [] as Seen[], [] as Sent[]];
  const uploads = new Uploads(
    { doc },
    {
      room: "sync/p",
      show: (name, _, letGo) => {
        const one: Seen = { name, state: "", letGo };
        seen.push(one);
        return {
          sending: () => (one.state = "sending"),
          failed: (reason, again) => Object.assign(one, { state: reason, again }),
          end: () => (one.state = "gone"),
        };
      },
      send: (room, { name }, signal) =>
        new Promise((resolve, reject) => {
          assert.equal(room, "sync/p");
          const stored = (path: string) => resolve({ id: path, path, mediaType: "image/png", length: 1 });
          sent.push({ name, signal, stored, refused: reject });
        }),
    },
  );
  return { doc, uploads, seen, sent };
}

const file = (name: string): File => new File(["picture"], name);

/** Waits until a condition holds, for at most a hundred turns of the event loop. */
async function until(holds: () => boolean): Promise<void> {
  for (let turn = 0; turn < 100 && !holds(); turn += 1) await new Promise((resolve) => setImmediate(resolve));
  assert.ok(holds());
}

test("files go two at a time, and each becomes a node beside the one before it", async () => {
  const { doc, uploads, seen, sent } = desk();
  uploads.add(["a", "b", "c", "d", "e"].map(file), { x: 10, y: 20 });
  assert.equal(seen.length, 5, "all are seen at once");
  await until(() => sent.length === 2);
  for (let n = 0; n < 5; n += 1) {
    await until(() => sent.length > n);
    assert.ok(sent.length <= n + 2, "two are under way");
    assert.equal(readNodes(doc).length, n, "no node is there before its picture");
    sent[n]?.stored(`/assets/${n}`);
    await until(() => readNodes(doc).length === n + 1);
  }
  const nodes = readNodes(doc).sort((a, b) => (a.label < b.label ? -1 : 1));
  assert.deepEqual(
    nodes.map(({ label, src, position: { x, y } }) => [label, src, x, y]),
    [
      ["a", "/assets/0", 10, 20],
      ["b", "/assets/1", 214, 20],
      ["c", "/assets/2", 418, 20],
      ["d", "/assets/3", 622, 20],
      ["e", "/assets/4", 10, 238],
    ],
  );
  assert.ok(seen.every(({ state }) => state === "gone"));
  assert.equal(uploads.areUnsettled, false);
});

test("a refused file shows the server's words, holds up no other file, and can be sent again", async () => {
  const { doc, uploads, seen, sent } = desk();
  uploads.add(["a", "b", "c"].map(file), { x: 0, y: 0 });
  await until(() => sent.length === 2);
  sent[0]?.refused(new UploadError("the project is full", 507));
  await until(() => sent.length === 3);
  assert.equal(seen[0]?.state, "The project is full");
  sent[1]?.stored("/assets/b");
  sent[2]?.stored("/assets/c");
  await until(() => readNodes(doc).length === 2);
  assert.equal(uploads.areUnsettled, true, "its user may still try again");
  seen[0]?.again?.();
  assert.equal(seen[0]?.state, "sending");
  await until(() => sent.length === 4);
  sent[3]?.stored("/assets/a");
  await until(() => readNodes(doc).length === 3);
  assert.equal(uploads.areUnsettled, false);
});

test("a file that the user lets go becomes no node, whether it was waiting, under way or refused", async () => {
  const { doc, uploads, seen, sent } = desk();
  uploads.add(["under way", "under way too", "waiting"].map(file), { x: 0, y: 0 });
  await until(() => sent.length === 2);
  seen[0]?.letGo();
  seen[2]?.letGo();
  assert.equal(sent[0]?.signal.aborted, true);
  sent[0]?.stored("/assets/late");
  sent[1]?.refused(new Error("no"));
  await until(() => seen[1]?.state === "No");
  seen[1]?.letGo();
  assert.equal(uploads.areUnsettled, false);
  assert.deepEqual([sent.length, readNodes(doc), seen.map(({ state }) => state)], [2, [], ["gone", "gone", "gone"]]);
});

test("a file that cannot be read is not sent, and too many files are refused together", async () => {
  const { uploads, seen, sent } = desk();
  const folder = Object.assign(file("a folder"), {
    slice: () => ({ arrayBuffer: () => Promise.reject(new Error("no file")) }),
  });
  uploads.add([folder], { x: 0, y: 0 });
  await until(() => seen[0]?.state !== "sending");
  assert.match(seen[0]?.state ?? "", /^A folder cannot be read/);
  assert.throws(() => uploads.add(Array.from({ length: MAX_FILES + 1 }, () => file("x")), { x: 0, y: 0 }), /51 files; at most 50/);
  assert.deepEqual([seen.length, sent.length], [1, 0]);
});
