import type { Events } from "./handle.js";
import { Listeners } from "./listeners.js";
import type { Status, SyncError } from "./status.js";

/** The status of a connection, and its listeners. */
export class Reporter {
  readonly #listeners = new Listeners<Events>();
  #status: Status = {
    state: "connecting",
    saved: { all: false, unsaved: 0, refused: 0, waitsFor: [] },
    importing: false,
    peers: undefined,
    rev: undefined,
    reason: undefined,
    retryIn: undefined,
  };

  get status(): Status {
    return this.#status;
  }

  /** Returns whether the connection has ended, or makes no further attempt by itself. */
  get isOver(): boolean {
    return ["denied", "closed", "rejected"].includes(this.#status.state);
  }

  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void {
    return this.#listeners.on(name, listener);
  }

  /** Merges a change into the status, and notifies the listeners if the status differs. */
  update(change: Partial<Status>): void {
    const before = this.#status;
    const after = { ...before, ...change };
    if (same(after.saved, before.saved)) after.saved = before.saved;
    if (same(after, before)) return;
    this.#status = after;
    this.#listeners.tell("status", after);
  }

  /** Notifies the listeners of an error. */
  report(error: SyncError): void {
    this.#listeners.tell("error", error);
  }

  /** Resolves once the condition holds; rejects, with the reason in words, if the connection is over before that. */
  when(holds: () => boolean): Promise<void> {
    return new Promise((resolve, reject) => {
      const look = (): void => {
        // The condition may update the status, so it comes first.
        const reached = holds();
        const over = this.isOver;
        if (!reached && !over) return;
        stop();
        if (over) reject(new Error(this.#status.reason ?? "the connection is closed"));
        else resolve();
      };
      const stop = this.on("status", look);
      look();
    });
  }

  /** Forgets all listeners. */
  clear(): void {
    this.#listeners.clear();
  }
}

/** Returns whether two objects with the same keys have the same values. */
function same<Type extends object>(a: Type, b: Type): boolean {
  return (Object.keys(a) as (keyof Type)[]).every((key) => a[key] === b[key]);
}
