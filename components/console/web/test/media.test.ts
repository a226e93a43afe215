import assert from "node:assert/strict";
import { test } from "node:test";
import { mediaOf } from "../src/media.js";

test("the address distinguishes pictures from films, and only an http(s) address is either", () => {
  const base = "https://here.example/#project";
  const cases: [string | undefined, string | undefined, string?][] = [
    ["https://cdn.example/a.png?sign=1.mp4", "image", "https://cdn.example/a.png?sign=1.mp4"],
    ["http://cdn.example/a", "image", "http://cdn.example/a"],
    ["https://cdn.example/a.mp4?sign=1", "video", "https://cdn.example/a.mp4?sign=1"],
    ["https://cdn.example/A.WEBM#t=1", "video", "https://cdn.example/A.WEBM#t=1"],
    ["/assets/1", "image", "https://here.example/assets/1"],
    ["assets/1.mov", "video", "https://here.example/assets/1.mov"],
    ["//cdn.example/a.png", "image", "https://cdn.example/a.png"],
    [undefined, undefined],
    ["http://", undefined],
    ["javascript:alert(1)", undefined],
    [" JavaScript:alert(1)//.mp4", undefined],
    ["java\nscript:alert(1)", undefined],
    ["data:image/svg+xml,<svg/>", undefined],
    ["blob:https://here.example/1", undefined],
    ["file:///a.png", undefined],
    ["ftp://cdn.example/a.png", undefined],
  ];
  for (const [src, kind, address] of cases) {
    assert.deepEqual(mediaOf(src, base), kind && { kind, address }, JSON.stringify(src));
  }
});
