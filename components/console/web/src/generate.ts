import { newId } from "./id.js";
import { type BoardNode, createNode, type Position, setData } from "./nodes.js";
import type { Holder } from "./open.js";
import { words } from "./words.js";

/** The waits before a request that did not get through is sent again, in milliseconds. */
const DELAYS = [500, 2_000];

/** The settings of a generator. */
export interface Settings {
  readonly project: string;
  /** Resolves when the server has every edit. */
  readonly saved: () => Promise<void>;
  /** Fetches a path relative to the page's address; tests replace it. */
  readonly fetch?: (path: string, init: RequestInit) => Promise<Response>;
  /** Pauses for a number of milliseconds; tests replace it. */
  readonly pause?: (time: number) => Promise<void>;
}

/** Starts tasks at the server that make a node's content. The server writes the progress of a task into the node. */
export class Generator {
  readonly #open: Holder;
  readonly #settings: Required<Settings>;

  constructor(open: Holder, settings: Settings) {
    this.#open = open;
    this.#settings = {
      fetch: (path, init) => fetch(path, init),
      pause: (time) => new Promise((resolve) => setTimeout(resolve, time)),
      ...settings,
    };
  }

  /** Puts a node on the board and starts its task. If that fails, the node says why. */
  async generate(position: Position, prompt: string): Promise<void> {
    // The prompt is stored apart from the label, so that a new label does not change the request.
    const id = createNode(this.#open.doc, position, prompt, { prompt, status: "pending" });
    await this.#submit(id, prompt);
  }

  /** Retries a failed task. Rejects, with words for a user, if the server does not restart the task. */
  async retry({ id, taskId, prompt }: BoardNode): Promise<void> {
    if (taskId !== undefined) {
      // The page writes nothing into the node, because the server's state may be newer than the page's.
      await answer(await this.#send(`tasks/${encodeURIComponent(taskId)}/retry`, {}));
    } else if (prompt !== undefined) {
      setData(this.#open.doc, id, { status: "pending", error: null });
      await this.#submit(id, prompt);
    }
  }

  async #submit(id: string, prompt: string): Promise<void> {
    try {
      // The server must have the node before the task, or it cannot write the result.
      await this.#settings.saved();
      const { task_id } = await answer(
        await this.#sendSurely("tasks", {
          headers: { "content-type": "application/json", "idempotency-key": newId() },
          body: JSON.stringify({ project_id: this.#settings.project, task_type: "demo", params: { prompt }, node_id: id }),
        }),
      );
      if (typeof task_id !== "string") throw new Error("The server's answer names no task.");
      setData(this.#open.doc, id, { taskId: task_id });
    } catch (error) {
      setData(this.#open.doc, id, { status: "failed", error: words(error) });
    }
  }

  /** Sends again, up to twice, if the server is unavailable for a moment. The key in the request prevents a second task. */
  async #sendSurely(path: string, init: RequestInit): Promise<Response> {
    for (const delay of DELAYS) {
      const response = await this.#send(path, init).catch(() => undefined);
      if (response && ![502, 503, 504].includes(response.status)) return response;
      await this.#settings.pause(delay);
    }
    return this.#send(path, init);
  }

  /** Sends a request that outlives the page, so that it arrives even if the user leaves at once. */
  async #send(path: string, init: RequestInit): Promise<Response> {
    try {
      return await this.#settings.fetch(path, { ...init, method: "POST", keepalive: true });
    } catch {
      throw new Error("The server cannot be reached.");
    }
  }
}

/** Returns the answer's JSON, or throws an error with the detail of the problem. */
async function answer(response: Response): Promise<Record<string, unknown>> {
  const body = ((await response.json().catch(() => undefined)) ?? {}) as Record<string, unknown>;
  if (response.ok) return body;
  throw new Error(String(body["detail"] || body["title"] || `The server answered ${response.status}.`));
}
