import type { VersionVector } from "loro-crdt";

/** An operation, by its peer and its counter. */
export interface Operation {
  readonly peer: string;
  readonly counter: number;
}

/**
 * The operations that edits of this client wait for at the server. The server tells of them only in the connection in which
 * the edits were sent. After the next join, they are over as soon as the server has them.
 */
export class Waiting {
  #operations: readonly Operation[] = [];
  #isCurrent = false;

  /** The operations, each once. The same array until something changes. */
  get operations(): readonly Operation[] {
    return this.#operations;
  }

  /** Records what the server has told: always the whole list. */
  told(operations: readonly Operation[]): void {
    this.#isCurrent = true;
    const each = new Map(operations.map(({ peer, counter }) => [`${counter}@${peer}`, { peer, counter }]));
    this.#operations = [...each.values()];
  }

  /** Ends those that the server has, if the list is of an earlier connection. */
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
