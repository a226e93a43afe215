import { problemOf } from "./problem.js";

/** The longest wait for the answer, in milliseconds. */
const PATIENCE = 10_000;

/** The statuses with which another attempt meets the same refusal: the address, or what is sent to it, is wrong. */
const FINAL = new Set([400, 404, 413, 414, 422, 426, 431]);

/** The statuses among these that an HTTP server answers by itself, because it reads no further, each with words of ours. */
const TOO_LONG = new Map([
  [414, "the address of the room is too long for the server"],
  [431, "the address of the room, or the cookies sent to it, are too long for the server"],
]);

/** The statuses that signing in, or being let in, cures. */
const DENIED = new Set([401, 403]);

/** The reason why no connection can be opened. */
export interface Refusal {
  /** Says whether signing in, or being let in, may cure it; otherwise the address is wrong. */
  readonly curable: boolean;
  /** The reason in words for a user: the server's own, if it gave any. */
  readonly words: string;
  /** Says whether it may pass by itself: too many requests, or a server that is not ready. */
  readonly passing: boolean;
  /** Says whether the sync server itself said so. Another program in its place may do so for a moment only. */
  readonly certain: boolean;
}

/**
 * The parameter that names the page's origin. A browser sends the origin with an upgrade, but not with a plain request to the
 * page's own server. If a proxy changes the server's name on the way, the sync server refuses the upgrade as one of another
 * server's page, and without this parameter it would not refuse the plain request alike.
 */
const ORIGIN = "origin";

/**
 * Finds out why the server refuses this client; `undefined` if it does not, or says nothing. A browser does not
 * reveal the answer to an upgrade, but the server answers plain HTTP at the same address alike.
 *
 * @param address the room's address, with `ws:` or `wss:`
 */
export async function refusal(address: URL): Promise<Refusal | undefined> {
  const url = new URL(address);
  url.protocol = url.protocol === "wss:" ? "https:" : "http:";
  // Node has no origin.
  const { origin } = globalThis as { origin?: unknown };
  if (typeof origin === "string") url.searchParams.set(ORIGIN, origin);
  try {
    // With this header, the server need not send the document if it lets the client in.
    const headers = new Headers({ "if-none-match": "*" });
    const { username, password } = url;
    if (username || password) {
      // A WebSocket takes these in its address, `fetch` does not.
      headers.set("authorization", `Basic ${btoa(`${decodeURIComponent(username)}:${decodeURIComponent(password)}`)}`);
      url.username = "";
      url.password = "";
    }
    const answer = await fetch(url, {
      credentials: "include",
      headers,
      signal: AbortSignal.timeout(PATIENCE),
    });
    return read(answer.status, await words(answer));
  } catch {
    return undefined;
  }
}

function read(status: number, told: string | undefined): Refusal | undefined {
  const certain = told !== undefined || TOO_LONG.has(status);
  if (DENIED.has(status) || FINAL.has(status)) {
    const guess = `this address answers ${status}, so it may not be that of a sync server`;
    const words = told ?? TOO_LONG.get(status) ?? guess;
    return { curable: DENIED.has(status), passing: false, words, certain };
  }
  if ((status >= 200 && status < 300) || status === 304) {
    const words = "the server answers, but opens no WebSocket here: a proxy before it may not pass upgrades on";
    return { curable: false, passing: false, words, certain: false };
  }
  return told === undefined ? undefined : { curable: false, passing: true, words: told, certain };
}

/** Reads what the sync server says about the refusal; `undefined` if the answer is not one of its problems. */
async function words(answer: Response): Promise<string | undefined> {
  if (answer.ok || answer.status === 304) {
    await answer.body?.cancel();
    return undefined;
  }
  const problem = await problemOf(answer);
  return problem && (problem.words ?? "the server does not let this client in");
}
