/**
 * Gathers what arrives in one turn of the event loop, and hands it over together: Loro takes ten concurrent updates
 * much faster at once than one by one, and a busy room sends them faster than that.
 */
export class Inbox {
  readonly #take: (blobs: Uint8Array[]) => void;
  readonly #soon: (task: () => void) => void;
  #blobs: Uint8Array[] = [];
  #due = false;

  /** @param take is given the blobs in the order in which they came */
  constructor(take: (blobs: Uint8Array[]) => void) {
    this.#take = take;
    this.#soon = nextTurn();
  }

  /** Keeps a blob until `flush`. */
  keep(blob: Uint8Array): void {
    this.#blobs.push(blob);
  }

  /** Keeps a blob until those that have come already are here too. */
  push(blob: Uint8Array): void {
    this.keep(blob);
    if (this.#due) return;
    this.#due = true;
    this.#soon(() => {
      this.#due = false;
      this.flush();
    });
  }

  /** Hands over what is here now. */
  flush(): void {
    const blobs = this.#blobs;
    this.#blobs = [];
    if (blobs.length > 0) this.#take(blobs);
  }
}

/** Runs a task after the events that wait already. Not `setTimeout`: browsers let it wait for a minute in a hidden tab. */
function nextTurn(): (task: () => void) => void {
  const { setImmediate } = globalThis as { setImmediate?: (task: () => void) => void };
  if (setImmediate) return (task) => setImmediate(task);
  const { port1, port2 } = new MessageChannel();
  const tasks: (() => void)[] = [];
  port1.onmessage = () => tasks.shift()?.();
  return (task) => {
    tasks.push(task);
    port2.postMessage(null);
  };
}
