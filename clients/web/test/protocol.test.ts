import assert from "node:assert/strict";
import test from "node:test";
import { joinUrl, parseEvent, socketUrl } from "../src/protocol.js";

test("text frames are read, and unknown ones are ignored", () => {
  const cases: [string, unknown][] = [
    ['{"type":"joined","rev":3,"version":"-_8"}', { type: "joined", rev: 3, version: new Uint8Array([0xfb, 0xff]) }],
    ['{"type":"synced"}', { type: "synced" }],
    ['{"type":"saved","frames":2,"rev":9}', { type: "saved", frames: 2, rev: 9 }],
    ['{"type":"peers","count":4}', { type: "peers", count: 4 }],
    [
      '{"type":"error","code":"invalid_update","message":"no","frame":3}',
      { type: "error", code: "invalid_update", message: "no", frame: 3 },
    ],
    ['{"type":"error"}', { type: "error", code: "unknown", message: "" }],
    ['{"type":"saved"}', undefined],
    ['{"type":"tomorrow"}', undefined],
    ["pong", undefined],
    ["null", undefined],
    ["7", undefined],
  ];
  for (const [text, event] of cases) assert.deepEqual(parseEvent(text), event, text);
});

test("the address keeps its own parameters and gets the client's", () => {
  const url = new URL(joinUrl(socketUrl("https://example.org/sync/a?token=t#x"), new Uint8Array([0xfb, 0xff, 0])));
  assert.equal(url.href, "wss://example.org/sync/a?token=t&events=1&version=-_8A");
});

test("a version that makes the address too long is left out", () => {
  const base = socketUrl("ws://example.org/sync/a");
  assert.ok(new URL(joinUrl(base, new Uint8Array(3_000))).searchParams.has("version"));
  const url = new URL(joinUrl(base, new Uint8Array(4_000)));
  assert.equal(url.searchParams.get("events"), "1");
  assert.ok(!url.searchParams.has("version"));
});

test("an address that is not a server's is refused at once", () => {
  for (const address of ["/sync/demo", "ftp://example.org/", "nonsense"]) {
    assert.throws(() => socketUrl(address), TypeError, address);
  }
});
