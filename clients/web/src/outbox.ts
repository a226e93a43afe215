/**
 * Counts the edits of this client that the server has not yet confirmed.
 *
 * An edit is one local commit. It is unsent, then on its way in a frame, and saved once the server says
 * that the frame is decided and has not refused it. When a connection is lost, what was on its way counts as
 * unsent again: only the next join tells whether it had arrived.
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

  /** Edits that the server has refused; it is asked again at the next join. */
  get refused(): number {
    return this.#refused;
  }

  /** Edits that wait for a connection. */
  get unsent(): number {
    return this.#unsent;
  }

  /** An edit was made that cannot be sent now. */
  keep(): void {
    this.#unsent += 1;
  }

  /** The next binary frame of this connection goes out, with so many edits in it. */
  send(edits: number): void {
    this.#frames += 1;
    this.#onTheWay.push({ frame: this.#frames, edits });
  }

  /** The server has decided on all frames up to this one. */
  decided(frame: number): void {
    this.#onTheWay = this.#onTheWay.filter((sent) => sent.frame > frame);
  }

  /** The server refused one frame. What it held stays unsaved, and is offered again at the next join. */
  refuse(frame: number): void {
    const sent = this.#onTheWay.find((each) => each.frame === frame);
    this.#refused += Math.max(1, sent?.edits ?? 1);
    this.#onTheWay = this.#onTheWay.filter((each) => each !== sent);
  }

  /** The connection is gone, and with it the numbers of its frames. */
  lost(): void {
    this.#unsent = this.unsaved;
    this.#refused = 0;
    this.#frames = 0;
    this.#onTheWay = [];
  }

  /**
   * A join told what the server lacks, and it goes out in so many frames now. None: all is saved.
   * Every edit counts with the last frame, for only then is all of it there.
   */
  sendAll(frames: number): void {
    const edits = Math.max(1, this.#unsent);
    this.#unsent = 0;
    for (let frame = 1; frame <= frames; frame += 1) this.send(frame === frames ? edits : 0);
  }
}
