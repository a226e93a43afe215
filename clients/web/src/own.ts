import type { ImportStatus, LoroDoc, PeerID, VersionVector } from "loro-crdt";

/** The ends of the operations of some peers: the counters after their last ones. */
type Ends = ReadonlyMap<PeerID, number>;

/**
 * The version up to which the server has confirmed this document's own operations. If the server has further operations of the
 * document's own peer, they may come from this document (the confirmation was lost), or from another client that writes under
 * the same peer id. Only the server can tell them apart, so this document's are offered again.
 */
export class Own {
  readonly #doc: LoroDoc;
  /** The peers as which this document has written, each with the end of what is confirmed. */
  readonly #confirmed = new Map<PeerID, number>();
  #onTheWay: { readonly frame: number; readonly ends: Ends }[] = [];

  /** Begins with nothing confirmed, because another client may have the same peer id. */
  constructor(doc: LoroDoc) {
    this.#doc = doc;
    this.wrote();
  }

  /** The ends of what is confirmed, of each peer as which this document has written. */
  get confirmed(): Ends {
    return this.#confirmed;
  }

  /** Records that the document writes as its present peer. */
  wrote(): void {
    const peer = this.#doc.peerIdStr;
    if (this.#confirmed.has(peer)) return;
    // A shallow copy cannot offer what it wrote before its start.
    const start = this.#doc.shallowSinceVV();
    this.#confirmed.set(peer, start.get(peer) ?? 0);
    start.free();
  }

  /**
   * Returns the peers as which the document has written operations that are not confirmed, committed or not, each with the end of
   * what is confirmed.
   */
  unconfirmed(): Ends {
    const ends = this.#ends();
    const writing = this.#doc.getPendingTxnLength() > 0 ? this.#doc.peerIdStr : undefined;
    return new Map([...this.#confirmed].filter(([peer, confirmed]) => peer === writing || (ends.get(peer) ?? 0) > confirmed));
  }

  /**
   * Compares the document with the version that the server has sent, and lowers that version to what is confirmed, so that the
   * rest is offered again. Returns whether the server has operations that may be this document's or another client's.
   */
  compare(theirs: VersionVector): boolean {
    let isInDoubt = false;
    const mine = this.#ends();
    for (const [peer, confirmed] of this.#confirmed) {
      const end = theirs.get(peer) ?? 0;
      // A server that was restored from a backup may have lost what it had confirmed.
      const agreed = Math.min(end, confirmed);
      this.#confirmed.set(peer, agreed);
      if (agreed === end || mine.get(peer) === agreed) continue;
      theirs.setEnd({ peer, counter: agreed });
      isInDoubt = true;
    }
    return isInDoubt;
  }

  /** Records that everything that the document has is sent, with this frame as the last one. */
  sent(frame: number): void {
    this.#onTheWay.push({ frame, ends: this.#ends() });
  }

  /** Records that the server has stored all frames up to this one. */
  stored(frame: number): void {
    for (const sent of this.#onTheWay) {
      if (sent.frame <= frame) for (const [peer, end] of sent.ends) this.#raise(peer, end);
    }
    this.#onTheWay = this.#onTheWay.filter((sent) => sent.frame > frame);
  }

  /** Records operations that the server has sent. */
  received(spans: ImportStatus["success"]): void {
    for (const [peer, { start, end }] of spans) if (start <= (this.#confirmed.get(peer) ?? 0)) this.#raise(peer, end);
  }

  /** Records that the connection is gone, and with it the numbers of its frames. */
  lost(): void {
    this.#onTheWay = [];
  }

  #raise(peer: PeerID, end: number): void {
    const confirmed = this.#confirmed.get(peer);
    if (confirmed !== undefined && end > confirmed) this.#confirmed.set(peer, end);
  }

  #ends(): Ends {
    const version = this.#doc.oplogVersion();
    const ends = new Map<PeerID, number>();
    for (const peer of this.#confirmed.keys()) ends.set(peer, version.get(peer) ?? 0);
    version.free();
    return ends;
  }
}
