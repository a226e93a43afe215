/**
 * Counts the edits of this client that the server has not yet confirmed.
 *
 * An edit is one local commit, or one import by the application. It is unsent, then on its way in a frame, and saved
 * once the server says that the frame is decided and has not refused it. When a connection is lost, what was on its way
 * counts as unsent again: only the next join tells whether it had arrived.
 */
export class Outbox {
  #unsent = 0;
  #refused = 0;
  #frames = 0;
  #onTheWay: { readonly frame: number; readonly edits: number }[] = [];

  /** Edits that are not known to be saved. */
  get unsaved(): number {
    return this.#onTheWay.reduce((sum, { edits }) => sum + edits, this.#unsent + this.#refused);
  }

  /** Edits that the server has refused, until they are offered again. */
  get refused(): number {
    return this.#refused;
  }

  /** Binary frames that were sent on this connection. */
  get frames(): number {
    return this.#frames;
  }

  /** Whether the server has decided on every frame that was sent on this connection. */
  get decidedAll(): boolean {
    return this.#onTheWay.length === 0;
  }

  /** An edit was made that is not sent yet. */
  keep(): void {
    this.#unsent += 1;
  }

  /**
   * All that the server lacks goes out in so many frames now. None: all is saved. Every edit counts with the last frame,
   * for only then is all of it there.
   */
  sendAll(frames: number): void {
    // What is missing and was not counted as an edit here is an import by the application.
    const edits = Math.max(1, this.#unsent + this.#refused);
    this.#unsent = 0;
    this.#refused = 0;
    for (let frame = 1; frame <= frames; frame += 1) this.#send(frame === frames ? edits : 0);
  }

  /** Only a part of what the server lacks goes out, in so many frames. No edit counts as sent: it may not be whole in them. */
  sendPart(frames: number): void {
    if (this.#unsent + this.#refused === 0) this.#unsent = 1;
    for (let frame = 1; frame <= frames; frame += 1) this.#send(0);
  }

  /** The server has decided on all frames up to this one. */
  decided(frame: number): void {
    this.#onTheWay = this.#onTheWay.filter((sent) => sent.frame > frame);
  }

  /** The server refused one frame. What it held stays unsaved. */
  refuse(frame: number): void {
    const sent = this.#onTheWay.find((each) => each.frame === frame);
    // Edits that went out in several frames are counted with the last of them.
    const counted = sent && this.#onTheWay.find((each) => each.frame >= frame && each.edits > 0);
    this.#onTheWay = this.#onTheWay.filter((each) => each !== sent && each !== counted);
    if (counted) {
      this.#refused += counted.edits;
    } else {
      this.#refused += Math.max(1, this.#unsent);
      this.#unsent = 0;
    }
  }

  /** The connection is gone, and with it the numbers of its frames. */
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
