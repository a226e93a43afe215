import type { LoroDoc, PeerID, VersionVector } from "loro-crdt";
import type { Operation } from "./waiting.js";

/** The code of an error that tells of updates which the server has moved aside, or will not take because it has. */
export const QUARANTINED = "quarantined";

/**
 * The updates of this document that the server may have moved aside. The server tells only that it has moved updates. If they
 * are this document's, all that builds upon them is stored, but in no document that others see, and the server's version at
 * the next join shows it.
 */
export class Aside {
  #words: string | undefined;
  /** Says whether the server has told on the present socket. */
  #isTold = false;
  #isOpen = false;
  #operations: readonly Operation[] = [];
  /** The operations that were offered once more and stored, each as its peer and counter. */
  readonly #offered = new Map<string, number>();
  #again: readonly Operation[] = [];

  /** Returns whether updates were moved since the last join. */
  get isOpen(): boolean {
    return this.#isOpen;
  }

  /** The first operations of each peer that the server's document lacks, until they are stored again. */
  get operations(): readonly Operation[] {
    return this.#operations;
  }

  /** The server's words. */
  get words(): string {
    return this.#words ?? "";
  }

  /** Records what the server has told, and returns whether it is news: on each new socket the server tells the same once. */
  told(words: string): boolean {
    const isNews = this.#isTold || words !== this.#words;
    this.#isTold = true;
    this.#words = words;
    this.#isOpen ||= isNews;
    return isNews;
  }

  /** Compares the document with the server's version. */
  joined(doc: LoroDoc, theirs: VersionVector): void {
    const isAsked = this.#isOpen || this.#operations.length > 0;
    this.#isOpen = false;
    this.#operations = [];
    if (!isAsked) return;
    const mine = doc.oplogVersion();
    const ends = [...mine.toJSON()].map(([peer, end]) => ({ peer, end, counter: theirs.get(peer) ?? 0 }));
    mine.free();
    this.#operations = ends.filter(({ end, counter }) => counter < end).map(({ peer, counter }) => ({ peer, counter }));
    this.#again = this.#operations.filter(({ peer, counter }) => counter <= (this.#offered.get(peer) ?? -1));
  }

  /**
   * Returns whether the server's version lacks what was stored once more after the server had moved it: it may have moved it
   * again.
   */
  get isAgain(): boolean {
    return this.#again.length > 0;
  }

  /**
   * Tells whether the server has moved it again. Its version may say less than it has, and then its state has the rest.
   *
   * @param has the ends of the operations in the server's state
   */
  isOut(has: ReadonlyMap<PeerID, number>): boolean {
    const isOut = this.#again.some(({ peer, counter }) => (has.get(peer as PeerID) ?? 0) <= counter);
    this.#again = [];
    return isOut;
  }

  /** Records that the server has stored what was offered at the join. */
  stored(): void {
    for (const { peer, counter } of this.#operations) this.#offered.set(peer, counter);
    this.#operations = [];
  }

  /** Records that the connection is gone. */
  lost(): void {
    this.#isTold = false;
    this.#again = [];
  }
}
