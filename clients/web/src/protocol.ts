import type { Operation } from "./waiting.js";

/** The largest message that the server accepts, in bytes. */
export const MAX_MESSAGE = 16 * 1024 * 1024;

/**
 * The largest message in which refused edits are offered again, in bytes, unless it is a single operation. It is far below
 * the server's own limit, because a proxy before the server may accept less (1 MiB is a common limit), and because good edits
 * then share no message with a bad one. It is not smaller, because a server merges a few large pieces of one paste far quicker
 * than many small ones.
 */
export const SMALL_MESSAGE = 256 * 1024;

/** The largest version that the server takes, in bytes: that of some 80,000 peers. */
export const MAX_VERSION = 1024 * 1024;

/** The events that the server sends in text frames. */
export type ServerEvent =
  /** The first event: the room's rev, and its version, from which the client finds out what the server lacks. */
  | { readonly type: "joined"; readonly rev: number; readonly version: Uint8Array }
  /** The whole state has been sent. */
  | { readonly type: "synced" }
  /** The server has stored this connection's first `frames` binary frames, or refused them with an error. */
  | { readonly type: "saved"; readonly frames: number; readonly rev: number }
  /**
   * The operations that stored updates of this connection have been waiting for, for 5 s or longer; none once the last of these
   * updates is applied.
   */
  | { readonly type: "pending"; readonly waitsFor: readonly Operation[] }
  /** The number of sockets in the room, including this one. */
  | { readonly type: "peers"; readonly count: number }
  /** An error; `frame` is the number (from 1) of the binary frame that the server refused. */
  | { readonly type: "error"; readonly code: string; readonly message: string; readonly frame?: number };

/** Reads a text frame; `undefined` if this client does not know the event, and should ignore it. */
export function parseEvent(text: string): ServerEvent | undefined {
  let event: Record<string, unknown>;
  try {
    event = JSON.parse(text) as Record<string, unknown>;
  } catch {
    return undefined;
  }
  if (typeof event !== "object" || event === null) return undefined;
  const { type, rev, version, frames, updates, count, code, message, frame } = event;
  switch (type) {
    case "joined":
      if (typeof rev !== "number" || typeof version !== "string") return undefined;
      return { type, rev, version: fromBase64Url(version) };
    case "synced":
      return { type };
    case "saved":
      if (typeof frames !== "number" || typeof rev !== "number") return undefined;
      return { type, frames, rev };
    case "pending": {
      if (!Array.isArray(updates)) return undefined;
      const waitsFor = updates.map((update: { waits_for?: Partial<Operation> } | null) => update?.waits_for);
      return waitsFor.every(isOperation) ? { type, waitsFor } : undefined;
    }
    case "peers":
      return typeof count === "number" ? { type, count } : undefined;
    case "error": {
      const what = { type, code: String(code ?? "unknown"), message: String(message ?? "") } as const;
      return typeof frame === "number" ? { ...what, frame } : what;
    }
    default:
      return undefined;
  }
}

function isOperation(value: Partial<Operation> | undefined): value is Operation {
  return typeof value?.peer === "string" && /^\d+$/.test(value.peer) && typeof value.counter === "number";
}

/** Returns the URL of a join: the room's address with the opt-in to events, and to a version in the first frame. */
export function joinUrl(base: URL): string {
  const url = new URL(base);
  url.searchParams.set("events", "1");
  url.searchParams.set("version", "frame");
  return url.href;
}

/**
 * Returns the first frame of a join, from which the server finds out what the document lacks. A version that is too large is
 * left out, and the server sends the whole state.
 */
export function versionFrame(version: Uint8Array): Uint8Array {
  return version.length > MAX_VERSION ? new Uint8Array() : version;
}

/**
 * Makes an absolute WebSocket URL from the address that the caller passes: a URL with `ws:`, `wss:`, `http:` or `https:`,
 * or, in a browser, an address relative to the page's (`sync/demo`, or `/sync/demo` on the page's own server).
 *
 * @throws TypeError if the address is none of these
 */
export function socketUrl(address: string | URL): URL {
  const url = new URL(address, globalThis.document?.baseURI);
  if (url.protocol === "http:") url.protocol = "ws:";
  if (url.protocol === "https:") url.protocol = "wss:";
  if (url.protocol !== "ws:" && url.protocol !== "wss:") {
    throw new TypeError(`${url.protocol} is not the scheme of a sync server: use ws:, wss:, http: or https:`);
  }
  url.hash = "";
  return url;
}

/** Describes a close in words for a user: the server's reason, or else the meaning of the code. */
export function describeClose(code: number, reason: string): string {
  const known: Record<number, string> = {
    1000: "the server ended the connection",
    1001: "the server is restarting",
    1006: "the connection was lost",
    1008: "the server refused what this client sent",
    1009: "a message was larger than the server accepts",
    1011: "the server had an internal error",
    1013: "the server is overloaded for the moment",
    4008: "this client was too slow to follow",
    4401: "please sign in",
    4403: "no access to this project",
    4404: "there is no such project",
  };
  return reason || (known[code] ?? `the connection was closed (${code})`);
}

/** Returns whether another attempt cannot help after this close code: there is no such project. */
export function isFinal(code: number): boolean {
  return code === 4404;
}

/** Returns whether another attempt helps only once the user has signed in, or was let in: not signed in, no access. */
export function isCurable(code: number): boolean {
  return code === 4401 || code === 4403;
}

function fromBase64Url(text: string): Uint8Array {
  const binary = atob(text.replaceAll("-", "+").replaceAll("_", "/"));
  return Uint8Array.from(binary, (char) => char.charCodeAt(0));
}
