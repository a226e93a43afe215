import assert from "node:assert/strict";
import { test } from "node:test";
import { resultUrl } from "../src/index.js";

test("a result is found wherever the client reaches the server", () => {
  const id = "asset_0123456789abcdefghijklmnop";
  const [root, below] = ["ws://board.example:8787/sync/demo?token=t", "wss://h.example/canvas/sync/demo"];
  const cases: [unknown, string, string | undefined][] = [
    [`/assets/${id}`, root, `http://board.example:8787/assets/${id}`],
    [`/assets/${id}`, below, `https://h.example/canvas/assets/${id}`],
    [`/assets/${id}.mp4`, below, `https://h.example/canvas/assets/${id}.mp4`],
    [`/assets/${id}`, "https://h.example/canvas/", `https://h.example/canvas/assets/${id}`],
    [`/assets/${id}`, "https://h.example/canvas", `https://h.example/canvas/assets/${id}`],
    [`/assets/${id}`, "https://h.example", `https://h.example/assets/${id}`],
    [`/assets/${id}`, "https://h.example/canvas/index.html", `https://h.example/canvas/assets/${id}`],
    [`/assets/${id}`, "https://h.example/canvas/#project", `https://h.example/canvas/assets/${id}`],
    // The addresses in documents of earlier releases.
    [`http://0.0.0.0:8787/assets/${id}`, below, `https://h.example/canvas/assets/${id}`],
    [`http://127.0.0.1:1234/assets/${id}`, root, `http://board.example:8787/assets/${id}`],
    [`http://localhost:1234/assets/${id}`, root, `http://board.example:8787/assets/${id}`],
    [`http://[::1]:1234/assets/${id}`, root, `http://board.example:8787/assets/${id}`],
    [`http://[fd00::1]:8787/assets/${id}`, below, `https://h.example/canvas/assets/${id}`],
    [`http://[fe80::1]:8787/assets/${id}`, root, `http://board.example:8787/assets/${id}`],
    [`http://canvas:8787/assets/${id}`, below, `https://h.example/canvas/assets/${id}`],
    [`http://my-mac.local:8787/assets/${id}`, root, `http://board.example:8787/assets/${id}`],
    [`http://host.docker.internal:8787/assets/${id}`, root, `http://board.example:8787/assets/${id}`],
    [`http://100.64.0.7:8787/assets/${id}`, root, `http://board.example:8787/assets/${id}`],
    [`http://192.168.1.5:8787/old/assets/${id}`, below, `https://h.example/canvas/assets/${id}`],
    // Another server's results, and addresses that are not results.
    [`http://[2600::1]:8787/assets/${id}`, below, `http://[2600::1]:8787/assets/${id}`],
    [`https://other.example/assets/${id}`, below, `https://other.example/assets/${id}`],
    ["https://cdn.example/a.mp4?sign=1", below, "https://cdn.example/a.mp4?sign=1"],
    ["http://127.0.0.1:1234/a.png", root, "http://127.0.0.1:1234/a.png"],
    ["/icon.svg", below, "https://h.example/icon.svg"],
    ["//cdn.example/a.png", below, "https://cdn.example/a.png"],
    ["javascript:alert(1)", root, undefined],
    ["data:image/png;base64,AAEC", root, undefined],
    [`/assets/${id}`, "/sync/demo", undefined],
    // A task without a result.
    [null, root, undefined],
    [undefined, root, undefined],
    ["", root, undefined],
    [7, root, undefined],
  ];
  for (const [src, server, url] of cases) assert.equal(resultUrl(src, server), url, `${String(src)} at ${server}`);
});
