import type { LoroDoc } from "loro-crdt";
import { type BoardNode, createNode, type Position, setData } from "./nodes.js";

/** Waits before a request that did not get through is made again, in milliseconds. */
const DELAYS = [500, 2_000];

/** What a generator needs to know and to do. */
export interface Settings {
  readonly project: string;
  /** Resolves when the server has every edit. */
  readonly saved: () => Promise<void>;
  /** For tests: `fetch`. */
  readonly fetch?: (path: string, init: RequestInit) => Promise<Response>;
  /** For tests: a pause of so many milliseconds. */
  readonly pause?: (time: number) => Promise<void>;
}

/** Has a task of the server make a node's content. The server itself writes into the node how far the task is. */
export class Generator {
  readonly #doc: LoroDoc;
  readonly #settings: Required<Settings>;

  constructor(doc: LoroDoc, settings: Settings) {
    this.#doc = doc;
    this.#settings = {
      fetch: (path, init) => fetch(path, init),
      pause: (time) => new Promise((resolve) => setTimeout(resolve, time)),
      ...settings,
    };
  }

  /** Puts a node on the board and starts its task. If that fails, the node says why. */
  async generate(position: Position, prompt: string): Promise<void> {
    // The prompt has a place of its own: the label can be changed without changing what is asked for.
    const id = createNode(this.#doc, position, prompt, { prompt, status: "pending" });
    await this.#submit(id, prompt);
  }

  /** Tries again what has failed. Rejects, with words for a person, if the server will not try that task again. */
  async retry({ id, taskId, prompt }: BoardNode): Promise<void> {
    if (taskId !== undefined) {
      // Nothing is written here: the server may be ahead of this page, and it has the last word.
      await answer(await this.#send(`/tasks/${encodeURIComponent(taskId)}/retry`, {}));
    } else if (prompt !== undefined) {
      setData(this.#doc, id, { status: "pending", error: null });
      await this.#submit(id, prompt);
    }
  }

  async #submit(id: string, prompt: string): Promise<void> {
    try {
      // A task must not overtake its node, or the server has nowhere to write what comes of it.
      await this.#settings.saved();
      const { task_id } = await answer(
        await this.#sendSurely("/tasks", {
          headers: { "content-type": "application/json", "idempotency-key": crypto.randomUUID() },
          body: JSON.stringify({ project_id: this.#settings.project, task_type: "demo", params: { prompt }, node_id: id }),
        }),
      );
      if (typeof task_id !== "string") throw new Error("The server's answer names no task.");
      setData(this.#doc, id, { taskId: task_id });
    } catch (error) {
      setData(this.#doc, id, { status: "failed", error: words(error) });
    }
  }

  /** Sends once more, and then once more, if the server is away for a moment; the key in it keeps that from starting two tasks. */
  async #sendSurely(path: string, init: RequestInit): Promise<Response> {
    for (const delay of DELAYS) {
      const response = await this.#send(path, init).catch(() => undefined);
      if (response && ![502, 503, 504].includes(response.status)) return response;
      await this.#settings.pause(delay);
    }
    return this.#send(path, init);
  }

  /** A request that outlives the page: whoever leaves at once has asked nevertheless. */
  async #send(path: string, init: RequestInit): Promise<Response> {
    try {
      return await this.#settings.fetch(path, { ...init, method: "POST", keepalive: true });
    } catch {
      throw new Error("The server cannot be reached.");
    }
  }
}

/** What went wrong, for a person. */
export function words(error: unknown): string {
  return error instanceof Error ? error.message : String(error);
}

/** The answer's JSON, or an error with the words of the problem. */
async function answer(response: Response): Promise<Record<string, unknown>> {
  const body = ((await response.json().catch(() => undefined)) ?? {}) as Record<string, unknown>;
  if (response.ok) return body;
  throw new Error(String(body["detail"] || body["title"] || `The server answered ${response.status}.`));
}
