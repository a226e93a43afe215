/**
 * Counts the edits of this client that the server has not yet confirmed.
 *
 * An edit is one local commit, or one import by the application. It is first unsent, then on its way in a frame, and
 * saved once the server has decided on the frame and has not refused it. When a connection is lost, edits that were on
 * their way count as unsent again, because only the next join shows whether they had arrived.
 */
export class Outbox {
  #unsent = 0;
  #refused = 0;
  #frames = 0;
  #onTheWay: { readonly frame: number; readonly edits: number }[] = [];

  /** The number of edits that are not known to be saved. */
  get unsaved(): number {
    return this.#onTheWay.reduce((sum, { edits }) => sum + edits, this.#unsent + this.#refused);
  }

  /** The number of edits that the server has refused and that were not offered again yet. */
  get refused(): number {
    return this.#refused;
  }

  /** The number of binary frames that were sent on this connection. */
  get frames(): number {
    return this.#frames;
  }

  /** Returns whether the server has decided on every frame that was sent on this connection. */
  get decidedAll(): boolean {
    return this.#onTheWay.length === 0;
  }

  /** Returns whether the server has decided on this frame and on all before it. */
  isDecided(frame: number): boolean {
    return this.#onTheWay.every((sent) => sent.frame > frame);
  }

  /** Counts an edit that is not sent yet. */
  keep(): void {
    this.#unsent += 1;
  }

  /**
   * Records that everything the server lacks is sent in this number of frames; with 0, everything is saved already. Every
   * edit counts with the last frame, because only then has the server all of it.
   */
  sendAll(frames: number): void {
    // If something is missing but no edit was counted, it is an import by the application.
    const edits = Math.max(1, this.#unsent + this.#refused);
    this.#unsent = 0;
    this.#refused = 0;
    for (let frame = 1; frame <= frames; frame += 1) this.#send(frame === frames ? edits : 0);
  }

  /**
   * Records that a part of what the server lacks is sent in this number of frames. No edit counts as sent, because a part of
   * it may be left out.
   */
  sendPart(frames: number): void {
    if (this.#unsent + this.#refused === 0) this.#unsent = 1;
    for (let frame = 1; frame <= frames; frame += 1) this.#send(0);
  }

  /** Records that the server has decided on all frames up to this one. */
  decided(frame: number): void {
    this.#onTheWay = this.#onTheWay.filter((sent) => sent.frame > frame);
  }

  /** Records that the server refused a frame. Its edits stay unsaved. */
  refuse(frame: number): void {
    const sent = this.#onTheWay.find((each) => each.frame === frame);
    // Edits that were sent in several frames are counted with the last of them.
    const counted = sent && this.#onTheWay.find((each) => each.frame >= frame && each.edits > 0);
    this.#onTheWay = this.#onTheWay.filter((each) => each !== sent && each !== counted);
    if (counted) {
      this.#refused += counted.edits;
    } else {
      this.#refused += Math.max(1, this.#unsent);
      this.#unsent = 0;
    }
  }

  /** Records that the connection is gone, and with it the numbers of its frames. */
  lost(): void {
    this.#unsent = this.unsaved - this.#refused;
    this.#frames = 0;
    this.#onTheWay = [];
  }

  #send(edits: number): void {
    this.#frames += 1;
    this.#onTheWay.push({ frame: this.#frames, edits });
  }
}
