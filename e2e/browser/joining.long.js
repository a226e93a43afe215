// Joining rooms whose state is hard to compute, before and after the server has it. It takes minutes, and prints what it measured.
import assert from "node:assert/strict";
import test from "node:test";
import { decodeImportBlobMeta, LoroDoc } from "loro-crdt";
import { eventually, inBrowser, server, store } from "./browser.js";

const KIB = 1024;

/** The longest join once there is a snapshot, in milliseconds. */
const JOIN = 1_000;

/** The longest wait for a snapshot of a room that must have one, and of any other, in milliseconds. */
const SNAPSHOT = 120_000;
const MAYBE = 200_000;

/** The longest time that a page may import, in milliseconds. */
const IMPORT = 200_000;

/** The longest time that a page may not respond before it has shown that it is working, in milliseconds. */
const UNTOLD = 1_000;

/** The rooms, each with its updates and whether it must have a snapshot in time. The last two, of 2 MiB, are twice as large as the two before. */
const ROOMS = [
  ["one writer, 384 × 1 KiB", () => appended(384, KIB), true],
  ["one writer, 100 × 10 KiB", () => appended(100, 10 * KIB), true],
  ["one writer, 300 × 16 KiB", () => appended(300, 16 * KIB), true],
  ["ten writers, 390 × 1 KiB anywhere", () => tenWriters(39, KIB), true],
  ["two who never meet, 100 × 10 KiB", () => neverMeet(100, 10 * KIB), true],
  ["two pastes of 512 KiB", () => neverMeet(2, 512 * KIB), true],
  ["two who never meet, 200 × 10 KiB", () => neverMeet(200, 10 * KIB), false],
  ["two pastes of 1 MiB", () => neverMeet(2, 1024 * KIB), false],
];

/** Makes a text of this length with lines. */
function lines(length) {
  return "All who write here write at once, and in one place.\n".repeat(length / 50).slice(0, length);
}

/** Makes an edit and returns its update. */
function edit(doc, at, length) {
  const from = doc.oplogVersion();
  doc.getText("text").insert(at, lines(length));
  doc.commit();
  return doc.export({ mode: "update", from });
}

const append = (doc, length) => edit(doc, doc.getText("text").length, length);

function appended(count, length) {
  const doc = new LoroDoc();
  return Array.from({ length: count }, () => append(doc, length));
}

/** Makes updates in rounds: in each, every writer inserts once, and then sees what the others inserted. */
function tenWriters(rounds, length) {
  const writers = Array.from({ length: 10 }, () => new LoroDoc());
  const updates = [];
  for (let round = 0; round < rounds; round += 1) {
    const seen = writers.map((doc, writer) => edit(doc, ((round * 7_919 + writer * 104_729) * KIB) % (doc.getText("text").length + 1), length));
    for (const doc of writers) for (const update of seen) doc.import(update);
    updates.push(...seen);
  }
  return updates;
}

function neverMeet(count, length) {
  const writers = [new LoroDoc(), new LoroDoc()];
  return Array.from({ length: count }, (_, n) => append(writers[n % 2], length));
}

/**
 * Joins with a new document, and measures how long that takes, how long the page does not respond, and how long it does not
 * respond before the client has reported an import. Runs in a page whose own project is another one, so that it shows
 * nothing of the document.
 */
function measure([address, patience]) {
  const { doc: other, connection } = globalThis.loro;
  const [LoroDoc, Connection] = [other.constructor, connection.constructor];
  const doc = new LoroDoc();
  const seen = { longest: 0, untold: 0 };
  const start = performance.now();
  const joined = new Connection(new URL(address), doc, {});
  return new Promise((resolve, reject) => {
    let last = start;
    let wasTold = false;
    const look = () => {
      const now = performance.now();
      seen.longest = Math.max(seen.longest, now - last);
      if (!wasTold) seen.untold = Math.max(seen.untold, now - last);
      last = now;
      if (seen.join === undefined && now - start < patience) return;
      clearInterval(timer);
      joined.close();
      if (seen.join === undefined) reject(new Error("it did not join"));
      else resolve({ ...seen, length: doc.getText("text").length });
    };
    joined.on("status", ({ state, importing }) => {
      wasTold ||= importing;
      if (state === "live") seen.join ??= performance.now() - start;
    });
    const timer = setInterval(look, 5);
  });
}

/** Joins in a page, and returns what that measured, in milliseconds. */
async function join(session, page, length) {
  const address = new URL(`/sync/${session.project}`, server);
  address.protocol = "ws:";
  const seen = await page.evaluate(measure, [address.href, IMPORT]);
  assert.equal(seen.length, length);
  return seen;
}

/** Returns what the server hands out: a snapshot, or an update that has no state. It asks seldom, because a merge waits for all requests. */
async function mode(project) {
  await new Promise((resolve) => setTimeout(resolve, 1_000));
  const response = await fetch(new URL(`/sync/${project}`, server));
  assert.equal(response.status, 200);
  return decodeImportBlobMeta(new Uint8Array(await response.arrayBuffer()), false).mode;
}

const seconds = (time) => `${(time / 1_000).toFixed(2)} s`;

const words = ({ join, longest }) => `joined in ${seconds(join)}, without response for ${seconds(longest)}`;

for (const [name, make, isSure] of ROOMS) {
  test(`a browser joins a room of ${name}`, (t) =>
    inBrowser(t, async (session) => {
      const updates = make();
      const whole = new LoroDoc();
      whole.detach();
      for (const update of updates) whole.import(update);
      const length = [...whole.oplogVersion().toJSON().values()].reduce((sum, end) => sum + end, 0);
      const page = await session.page();
      await page.goto(new URL(`#elsewhere-${session.project}`, server).href);
      await page.waitForFunction(() => globalThis.loro?.connection.status.state === "live");
      const writer = await store(session.project, updates);
      const first = await join(session, page, length);
      console.log(`${name}: as written: ${words(first)}`);
      assert.ok(first.untold < UNTOLD, `it did not respond for ${seconds(first.untold)}, and had not said why`);
      writer.terminate();
      const start = performance.now();
      const limit = isSure ? SNAPSHOT : MAYBE;
      const found = await eventually("a snapshot", () => mode(session.project), (found) => found === "snapshot" || (!isSure && performance.now() - start > limit), limit);
      if (found !== "snapshot") {
        console.log(`${name}: it stays a blob for ${seconds(limit)}`);
        return;
      }
      console.log(`${name}: a snapshot after ${seconds(performance.now() - start)}`);
      const second = await join(session, page, length);
      console.log(`${name}: snapshot: ${words(second)}`);
      assert.ok(second.join < JOIN, `the join took ${seconds(second.join)}`);
    }));
}
