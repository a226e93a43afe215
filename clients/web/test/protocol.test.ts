import assert from "node:assert/strict";
import test from "node:test";
import { joinUrl, MAX_VERSION, parseEvent, socketUrl, versionFrame } from "../src/protocol.js";

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
    [
      '{"type":"pending","updates":[{"frame":3,"waits_for":{"peer":"42","counter":17}}]}',
      { type: "pending", waitsFor: [{ peer: "42", counter: 17 }] },
    ],
    ['{"type":"pending","updates":[]}', { type: "pending", waitsFor: [] }],
    ['{"type":"pending"}', undefined],
    ['{"type":"pending","updates":[null]}', undefined],
    ['{"type":"pending","updates":[{"waits_for":{"peer":"me","counter":1}}]}', undefined],
    ['{"type":"saved"}', undefined],
    ['{"type":"tomorrow"}', undefined],
    ["pong", undefined],
    ["null", undefined],
    ["7", undefined],
  ];
  for (const [text, event] of cases) assert.deepEqual(parseEvent(text), event, text);
});

test("the address keeps its own parameters and gets the client's", () => {
  const url = joinUrl(socketUrl("https://example.org/sync/a?token=t#x"));
  assert.equal(url, "wss://example.org/sync/a?token=t&events=1&version=frame");
});

test("a version that is larger than the server takes is left out", () => {
  assert.equal(versionFrame(new Uint8Array(MAX_VERSION)).length, MAX_VERSION);
  assert.equal(versionFrame(new Uint8Array(MAX_VERSION + 1)).length, 0);
});

test("an address that is not a server's is refused at once", () => {
  for (const address of ["/sync/demo", "ftp://example.org/", "nonsense"]) {
    assert.throws(() => socketUrl(address), TypeError, address);
  }
});
