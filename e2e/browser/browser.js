// Chromium, and the page as the tests use it.
import assert from "node:assert/strict";
import { randomUUID } from "node:crypto";
import { mkdir } from "node:fs/promises";
import { fileURLToPath } from "node:url";
import { isDeepStrictEqual } from "node:util";
import { LoroDoc } from "loro-crdt";
import { connect } from "loro-sync-client-web";
import { chromium } from "playwright-core";
import { WebSocket } from "ws";

/** The longest wait for any condition, in milliseconds. */
export const PATIENCE = 30_000;

const failures = fileURLToPath(new URL("../../target/browser-tests/", import.meta.url));

/** The address of the server that the tests run against. */
export const server = new URL(
  process.env.LORO_URL ?? assert.fail("LORO_URL is not set: start the server and give its address, e.g. http://127.0.0.1:8787"),
);

/**
 * Runs a test in a project of its own, with a browser that is closed afterwards and gets these further arguments. If the
 * test fails, a picture of each page is kept in target/browser-tests.
 */
export async function inBrowser(test, act, { args = [] } = {}) {
  const browser = await chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: [
      "--no-sandbox",
      "--disable-gpu",
      "--disable-quic",
      "--no-first-run",
      "--disable-background-networking",
      "--disable-component-update",
      "--disable-sync",
      ...args,
    ],
  });
  const closed = [];
  const tabs = [];
  const project = `browser-${randomUUID()}`;
  const session = {
    project,
    /** Opens a tab on the project, in which a function runs before the page does, and waits until it is live. */
    async tab({ address = server, context, before } = {}) {
      const own = context ?? (await browser.newContext({ viewport: { width: 1280, height: 800 } }));
      const tab = new Tab(await own.newPage());
      tabs.push(tab);
      if (before) await tab.page.addInitScript(before);
      await tab.page.goto(new URL(`#${project}`, address).href);
      await tab.live();
      return tab;
    },
    /** Opens an empty page, which may log errors. */
    page: () => browser.newPage(),
    /** Opens a script's document, and waits until it is live. */
    async script() {
      const doc = new LoroDoc();
      const connection = connect(new URL(`/sync/${project}`, server), doc, { WebSocket });
      closed.push(() => connection.close());
      await within("the script is live", connection.whenSynced());
      return { doc, connection };
    },
    /** Calls a function after the test. */
    atEnd: (close) => closed.push(close),
  };
  try {
    await act(session);
    assert.deepEqual(tabs.flatMap(({ errors }) => errors), [], "the pages logged no error");
  } catch (error) {
    await mkdir(failures, { recursive: true });
    const name = test.name.replaceAll(/[^a-z0-9]+/gi, "-");
    for (const [index, { page }] of tabs.entries()) {
      // The test's own error matters more than an error of the screenshot.
      await page.screenshot({ path: `${failures}${name}-${index + 1}.png` }).catch(() => {});
    }
    throw error;
  } finally {
    for (const close of closed) await close();
    await browser.close();
  }
}

/** An open page. */
class Tab {
  /** The errors that the page logged or threw. */
  errors = [];

  constructor(page) {
    this.page = page;
    page.setDefaultTimeout(PATIENCE);
    page.on("pageerror", (error) => this.errors.push(String(error)));
    page.on("console", (message) => {
      // A connection that breaks during a request is not an error of the page, nor is a header that needs https.
      if (message.type() === "error" && !/Cross-Origin-Opener-Policy|ERR_CONNECTION|ERR_SOCKET_NOT_CONNECTED|ERR_EMPTY_RESPONSE|WebSocket connection/.test(message.text())) this.errors.push(message.text());
    });
    this.text = page.getByTestId("text");
    this.nodes = page.getByTestId("node");
  }

  /** The node with this label. */
  node(label) {
    return this.page.getByRole("article", { name: `Node ${label}`, exact: true });
  }

  live() {
    return this.state("live");
  }

  state(state) {
    return this.page.waitForFunction((wanted) => globalThis.loro?.connection.status.state === wanted, state);
  }

  /** Waits until the page says that the server has every edit. */
  saved() {
    return this.page.locator('[data-testid="saved"][data-saved="yes"]').waitFor();
  }

  /** The document's contents. */
  json() {
    return this.page.evaluate(() => {
      const { doc } = globalThis.loro;
      return { nodes: doc.getMap("nodes").toJSON(), text: doc.getText("text").toString() };
    });
  }

  /** Adds a node with this label with the page's button. */
  async addNode(label) {
    await this.page.getByTestId("add-node").click();
    await this.page.keyboard.type(label);
    await this.page.keyboard.press("Enter");
    await this.node(label).waitFor();
  }

  /** Requests a picture with the page's form. */
  async generate(prompt) {
    await this.page.getByTestId("prompt").fill(prompt);
    await this.page.getByTestId("generate").click();
    await this.node(prompt).waitFor();
  }

  /** Waits until a node's picture is drawn. */
  drawn(label) {
    const picture = this.node(label).getByTestId("node-media");
    return eventually(`${label} is drawn`, () => picture.evaluate((image) => image.naturalWidth), (width) => width > 0);
  }

  /** Grabs a node at its lower edge, and returns a function that moves it relative to its first place. */
  async hold(label) {
    const box = await this.node(label).boundingBox();
    const [x, y] = [box.x + box.width / 2, box.y + box.height - 4];
    await this.page.mouse.move(x, y);
    await this.page.mouse.down();
    return (dx, dy) => this.page.mouse.move(x + dx, y + dy);
  }

  /** Drags a node by its lower edge. */
  async dragNode(label, dx, dy) {
    const move = await this.hold(label);
    await move(dx / 2, dy / 2);
    await move(dx, dy);
    await this.page.mouse.up();
  }
}

/** Reads a value until it fulfils a condition, and returns it. */
export async function eventually(what, read, holds, patience = PATIENCE) {
  const end = Date.now() + patience;
  for (;;) {
    const value = await read();
    if (holds(value)) return value;
    if (Date.now() > end) assert.fail(`not within ${patience / 1_000} s: ${what}; last seen: ${JSON.stringify(value)?.slice(0, 2_000)}`);
    await new Promise((resolve) => setTimeout(resolve, 20));
  }
}

/** Waits until all pages and scripts have the same document, and returns it. */
export async function converged(...holders) {
  const all = await eventually(
    "all have the same document",
    () => Promise.all(holders.map((each) => (each instanceof Tab ? each.json() : contents(each.doc)))),
    ([first, ...others]) => others.every((other) => isDeepStrictEqual(first, other)),
  );
  return all[0];
}

/** Reads the stored document from the server over plain HTTP. */
export async function stored(project) {
  const response = await fetch(new URL(`/sync/${project}`, server));
  assert.equal(response.status, 200);
  const doc = new LoroDoc();
  doc.import(new Uint8Array(await response.arrayBuffer()));
  return contents(doc);
}

/** The contents that the page shows. `doc.toJSON()` leaves out a text that was never read. */
function contents(doc) {
  return { nodes: doc.getMap("nodes").toJSON(), text: doc.getText("text").toString() };
}

/** Stores updates in a project, and returns a socket that stays in it, because the server computes the state when all have left. */
export async function store(project, updates) {
  const socket = new WebSocket(new URL(`/sync/${project}?events=1`, server));
  await new Promise((resolve, reject) => {
    socket.on("error", reject);
    socket.on("open", () => updates.forEach((update) => socket.send(update)));
    socket.on("message", (data, binary) => {
      const event = binary ? {} : JSON.parse(data);
      if (event.type === "error") reject(new Error(event.message));
      if (event.type === "saved" && event.frames === updates.length) resolve();
    });
  });
  return socket;
}

/** Waits for a promise, for at most the longest wait. */
export async function within(what, promise) {
  let timer;
  const late = new Promise((_, reject) => {
    timer = setTimeout(() => reject(new Error(`not within ${PATIENCE / 1_000} s: ${what}`)), PATIENCE);
  });
  try {
    return await Promise.race([promise, late]);
  } finally {
    clearTimeout(timer);
  }
}
