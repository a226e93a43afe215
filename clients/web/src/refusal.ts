import { describeClose } from "./protocol.js";

/** What an answer's status stands for among close codes. */
const CODES: Record<number, number> = { 401: 4401, 403: 4403, 404: 4404 };

const PROBLEM = "urn:loro-sync:problem:";

/** How long to wait for the answer, in milliseconds. */
const PATIENCE = 10_000;

/**
 * Why the server does not let this client in, if that is so and trying again cannot help. A browser does not tell how an
 * upgrade was answered, but plain HTTP at the same address is answered alike.
 */
export async function refusal(base: URL): Promise<string | undefined> {
  const url = new URL(base);
  url.protocol = url.protocol === "wss:" ? "https:" : "http:";
  try {
    const answer = await fetch(url, {
      credentials: "include",
      // Whoever may come in need not be sent the document for that.
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
