import type { ImportStatus, LoroDoc, VersionVector } from "loro-crdt";

/**
 * The version that the server has of a document, including the frames that are on their way to it. It is known only after
 * the server has sent its version, and forgotten with the socket.
 */
export class Known {
  readonly #doc: LoroDoc;
  #version: VersionVector | undefined;
  /** The last comparison with the document. With thousands of peers, each takes a third of a millisecond. */
  #compared: { readonly operations: number; readonly uncommitted: number; readonly covers: boolean } | undefined;

  /** Begins without a known version. */
  constructor(doc: LoroDoc) {
    this.#doc = doc;
  }

  /** The server's version; `undefined` until the server has sent it. */
  get version(): VersionVector | undefined {
    return this.#version;
  }

  /** Returns whether the server is known to have everything in the document, committed or not. */
  coversDocument(): boolean {
    if (!this.#version) return false;
    const [operations, uncommitted] = [this.#doc.opCount(), this.#doc.getPendingTxnLength()];
    const last = this.#compared;
    if (last?.operations === operations && last.uncommitted === uncommitted) return last.covers;
    const mine = this.#doc.oplogVersion();
    const order = this.#version.compare(mine);
    // A version's memory belongs to Wasm, so the JavaScript engine's collector is slow to free it.
    mine.free();
    const covers = order !== undefined && order >= 0;
    this.#compared = { operations, uncommitted, covers };
    return covers;
  }

  /** Records the version that the server has sent. Takes ownership of the object. */
  hear(version: VersionVector): void {
    this.#replace(version);
  }

  /** Records that everything up to this version of the document was sent. Takes ownership of the object. */
  sent(mine: VersionVector): void {
    if (!this.#version) return;
    if (this.#version.compare(mine) === -1) {
      this.#replace(mine);
      return;
    }
    // The server also has operations that this document lacks.
    for (const [peer, end] of mine.toJSON()) this.#raise(peer, end);
    mine.free();
  }

  /** Records operations that the server has sent. */
  received(spans: ImportStatus["success"]): void {
    for (const [peer, { start, end }] of spans) {
      // Operations after a gap do not prove that the server has those in the gap.
      if (start <= (this.#version?.get(peer) ?? 0)) this.#raise(peer, end);
    }
  }

  /** Forgets the version, because the socket is gone: only the next join shows what has arrived. */
  forget(): void {
    this.#replace(undefined);
  }

  #raise(peer: `${number}`, end: number): void {
    if (end <= (this.#version?.get(peer) ?? 0)) return;
    this.#version?.setEnd({ peer, counter: end });
    this.#compared = undefined;
  }

  #replace(version: VersionVector | undefined): void {
    this.#version?.free();
    this.#version = version;
    this.#compared = undefined;
  }
}
