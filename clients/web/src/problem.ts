/** The server's answer to a request that it refuses (`application/problem+json`). */
export interface Problem {
  /** The stable name of the kind of refusal, such as `urn:loro-sync:problem:quota`. */
  readonly type: string;
  /** The reason in words for a user, if the server gave any. */
  readonly words: string | undefined;
}

const PREFIX = "urn:loro-sync:problem:";

/** Reads the problem in an answer; `undefined` if the answer is not one of the sync server's problems. */
export async function problemOf(answer: Response): Promise<Problem | undefined> {
  const problem = (await answer.json().catch(() => undefined)) as { type?: unknown; title?: unknown; detail?: unknown } | undefined;
  if (typeof problem?.type !== "string" || !problem.type.startsWith(PREFIX)) return undefined;
  const words = problem.detail || problem.title;
  return { type: problem.type, words: words ? String(words) : undefined };
}
