import type { ImportStatus, LoroDoc, VersionVector } from "loro-crdt";
import { decodeVersion } from "./missing.js";

/**
 * The version that the server has of a document, counting what is on its way to it. It is known only after the server
 * has told its version, and forgotten with the socket.
 */
export class Known {
  readonly #doc: LoroDoc;
  #version: VersionVector | undefined;

  /** Starts with nothing known. */
  constructor(doc: LoroDoc) {
    this.#doc = doc;
  }

  /** What the server has; `undefined` while it has not said so. */
  get version(): VersionVector | undefined {
    return this.#version;
  }

  /** Whether the server is known to have everything that is in the document, committed or not. */
  coversDocument(): boolean {
    if (!this.#version) return false;
    const mine = this.#doc.oplogVersion();
    const order = this.#version.compare(mine);
    // The memory behind a version is not the JavaScript engine's, so its collector does not hurry.
    mine.free();
    return order !== undefined && order >= 0;
  }

  /**
   * The server has told its version.
   *
   * @throws if the bytes are no version
   */
  hear(version: Uint8Array): void {
    this.#replace(decodeVersion(this.#doc, version));
  }

  /** Everything up to this version of the document was sent. Takes the object over. */
  sent(mine: VersionVector): void {
    if (!this.#version) return;
    if (this.#version.compare(mine) === -1) {
      this.#replace(mine);
      return;
    }
    // The server also has what this document lacks.
    for (const [peer, end] of mine.toJSON()) this.#raise(peer, end);
    mine.free();
  }

  /** The server has sent these operations. */
  received(spans: ImportStatus["success"]): void {
    for (const [peer, { start, end }] of spans) {
      // What begins after a gap does not tell who has the operations in the gap.
      if (start <= (this.#version?.get(peer) ?? 0)) this.#raise(peer, end);
    }
  }

  /** The socket is gone: only the next join tells what has arrived. */
  forget(): void {
    this.#replace(undefined);
  }

  #raise(peer: `${number}`, end: number): void {
    if (end > (this.#version?.get(peer) ?? 0)) this.#version?.setEnd({ peer, counter: end });
  }

  #replace(version: VersionVector | undefined): void {
    this.#version?.free();
    this.#version = version;
  }
}
