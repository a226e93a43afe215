import type { LoroDoc, PeerID, VersionVector } from "loro-crdt";
import type { Operation } from "./waiting.js";

/** The code of an error about updates that the server has moved aside, or refuses because it has moved their operations aside. */
export const QUARANTINED = "quarantined";

/**
 * The updates of this document that the server may have moved aside. The server reports only that it has moved some updates. If
 * they are this document's, everything that builds on them is stored, but in no document that others see; the server's version
 * at the next join shows whether they are.
 */
export class Aside {
  #words: string | undefined;
  /** Says whether the server has reported moved updates on the present socket. */
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

  /** Records a report of the server, and returns whether it is news: on each new socket the server repeats the last one once. */
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
   * Returns whether the server's version lacks operations that it had moved aside, and had then stored when they were offered
   * again: it may have moved them once more.
   */
  get isAgain(): boolean {
    return this.#again.length > 0;
  }

  /**
   * Returns whether the server has moved these operations once more. Its version may lack some that its state has, so the state
   * decides.
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
