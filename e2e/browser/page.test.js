// The static files as a browser gets them.
import assert from "node:assert/strict";
import { request } from "node:http";
import test from "node:test";
import { server } from "./browser.js";

const get = (path, headers = {}, method = "GET") => fetch(new URL(path, server), { headers, method });

test("the page comes with a strict policy, and is requested anew each time", async () => {
  const response = await get("/");
  assert.equal(response.status, 200);
  assert.equal(response.headers.get("content-type"), "text/html; charset=utf-8");
  assert.equal(response.headers.get("cache-control"), "public, no-cache");
  assert.equal(response.headers.get("x-content-type-options"), "nosniff");
  const policy = response.headers.get("content-security-policy");
  assert.match(policy, /script-src 'self' 'wasm-unsafe-eval'/);
  assert.doesNotMatch(policy, /unsafe-inline/);
  const etag = response.headers.get("etag");
  await response.arrayBuffer();
  const again = await get("/", { "if-none-match": etag });
  assert.equal(again.status, 304);
  assert.equal(again.headers.get("etag"), etag);
});

test("a refusal has the same headers as the page, and is kept by no browser", async () => {
  const page = await get("/");
  for (const [path, method, status] of [["/nothing", "GET", 404], ["/", "POST", 405], ["/nothing", "DELETE", 405]]) {
    const refused = await get(path, {}, method);
    assert.equal(refused.status, status, `${method} ${path}`);
    assert.equal(refused.headers.get("cache-control"), "no-store");
    for (const name of [
      "content-security-policy", "cross-origin-opener-policy", "permissions-policy", "referrer-policy",
      "x-content-type-options",
    ]) {
      assert.ok(page.headers.get(name), name);
      assert.equal(refused.headers.get(name), page.headers.get(name), `${name} of ${method} ${path}`);
    }
  }
});

test("files may be kept forever, and come compressed", async () => {
  const page = await (await get("/")).text();
  const files = [...new Set([...page.matchAll(/"(static\/[^"]+)"/g)].map(([, path]) => `/${path}`))];
  assert.deepEqual(files.map((path) => path.split(".").at(-1)).sort(), ["css", "js", "svg", "wasm"]);
  const types = { css: "text/css; charset=utf-8", js: "text/javascript; charset=utf-8", svg: "image/svg+xml", wasm: "application/wasm" };
  for (const path of files) {
    const plain = await get(path, { "accept-encoding": "identity" });
    assert.equal(plain.status, 200, path);
    assert.equal(plain.headers.get("content-type"), types[path.split(".").at(-1)]);
    assert.equal(plain.headers.get("cache-control"), "public, max-age=31536000, immutable");
    assert.match(plain.headers.get("vary"), /accept-encoding/i);
    const bytes = Buffer.from(await plain.arrayBuffer());
    for (const encoding of ["br", "gzip"]) {
      const compressed = await get(path, { "accept-encoding": encoding });
      assert.equal(compressed.headers.get("content-encoding"), encoding, path);
      assert.notEqual(compressed.headers.get("etag"), plain.headers.get("etag"));
      assert.ok(bytes.equals(Buffer.from(await compressed.arrayBuffer())), `${path} is the same, ${encoding} or not`);
    }
    const head = await get(path, {}, "HEAD");
    assert.equal(head.status, 200);
    assert.equal((await head.arrayBuffer()).byteLength, 0);
  }
});

/** Requests a path exactly as written, because `fetch` would normalise it. */
function getRaw(path) {
  return new Promise((resolve, reject) => {
    const { hostname, port } = server;
    const asked = request({ hostname, port, path }, async (response) => {
      response.setEncoding("utf8");
      const body = (await response.toArray()).join("");
      resolve({ status: response.statusCode, type: response.headers["content-type"], body });
    });
    asked.on("error", reject);
    asked.end();
  });
}

test("a missing file is a problem, and so is a write", async () => {
  const paths = ["/nothing", "/static/", "/static/../index.html", "/../../etc/passwd", "/%2e%2e/etc/passwd", "/index.html.br", "/static/%00"];
  for (const path of paths) {
    const { status, type, body } = await getRaw(path);
    assert.equal(status, 404, path);
    assert.equal(type, "application/problem+json", path);
    assert.equal(JSON.parse(body).type, "urn:loro-sync:problem:not-found", path);
  }
  const response = await get("/", {}, "POST");
  assert.equal(response.status, 405);
  assert.equal(response.headers.get("allow"), "GET, HEAD");
  assert.equal((await response.json()).type, "urn:loro-sync:problem:method-not-allowed");
});
