import { describeClose } from "./protocol.js";

/** The close code that corresponds to an HTTP status. */
const CODES: Record<number, number> = { 401: 4401, 403: 4403, 404: 4404 };

const PROBLEM = "urn:loro-sync:problem:";

/** The longest wait for the answer, in milliseconds. */
const PATIENCE = 10_000;

/**
 * Finds out why the server refuses this client; `undefined` if it does not, or another attempt may help. A browser does not
 * reveal the answer to an upgrade, but the server answers plain HTTP at the same address alike.
 */
export async function refusal(base: URL): Promise<string | undefined> {
  const url = new URL(base);
  url.protocol = url.protocol === "wss:" ? "https:" : "http:";
  try {
    const answer = await fetch(url, {
      credentials: "include",
      // With this header, the server need not send the document if it lets the client in.
      headers: { "if-none-match": "*" },
      signal: AbortSignal.timeout(PATIENCE),
    });
    const code = CODES[answer.status];
    if (code === undefined) {
      await answer.body?.cancel();
      return undefined;
    }
    const problem = (await answer.json()) as { type?: unknown; detail?: unknown };
    if (typeof problem.type !== "string" || !problem.type.startsWith(PROBLEM)) return undefined;
    return describeClose(code, "");
  } catch {
    return undefined;
  }
}
