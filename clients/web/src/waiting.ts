import type { VersionVector } from "loro-crdt";

/** An operation, by its peer and its counter. */
export interface Operation {
  readonly peer: string;
  readonly counter: number;
}

/**
 * The operations that edits of this client wait for at the server. The server lists them only on the connection on which the
 * edits were sent. After the next join, each is removed as soon as the server has it.
 */
export class Waiting {
  #operations: readonly Operation[] = [];
  #isCurrent = false;

  /** The operations, each once. The same array until something changes. */
  get operations(): readonly Operation[] {
    return this.#operations;
  }

  /** Records the server's list, which is always the whole one. */
  told(operations: readonly Operation[]): void {
    this.#isCurrent = true;
    const each = new Map(operations.map(({ peer, counter }) => [`${counter}@${peer}`, { peer, counter }]));
    this.#operations = [...each.values()];
  }

  /** Removes those that the server has, if the list is of an earlier connection. */
  look(theirs: VersionVector | undefined): void {
    if (this.#isCurrent || !theirs) return;
    const left = this.#operations.filter(({ peer, counter }) => (theirs.get(peer as `${number}`) ?? 0) <= counter);
    if (left.length < this.#operations.length) this.#operations = left;
  }

  /** Records that the connection is gone. */
  lost(): void {
    this.#isCurrent = false;
  }

  /** Forgets all, because the edits that wait are to be made anew. */
  forget(): void {
    this.#operations = [];
  }
}
