/** What a heartbeat needs of its connection. */
export interface Pulse {
  /** How long a connection may be quiet before it is asked, in milliseconds. */
  readonly interval: number;
  /** How long the answer may take, in milliseconds. */
  readonly timeout: number;
  /** Asks. */
  ping(): void;
  /** Bytes that wait to be sent: while they get fewer, the connection is slow but alive. */
  buffered(): number;
  /** Nothing came back. */
  dead(): void;
}

/** Notices a connection that is gone without a word: a closed lid, a changed network, a lost NAT entry. */
export class Heartbeat {
  readonly #pulse: Pulse;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #asked: { readonly buffered: number } | undefined;

  /** Starts to watch. */
  constructor(pulse: Pulse) {
    this.#pulse = pulse;
    this.#rest();
  }

  /** A frame came. */
  heard(): void {
    if (this.#asked) {
      this.#asked = undefined;
      this.#rest();
    }
  }

  /** Asks at once rather than when the interval is over: the network may just have changed. */
  probe(): void {
    if (!this.#asked) this.#ask();
  }

  /** Ends the watch. */
  stop(): void {
    clearTimeout(this.#timer);
  }

  #rest(): void {
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#ask(), this.#pulse.interval);
  }

  #ask(): void {
    this.#asked = { buffered: this.#pulse.buffered() };
    this.#pulse.ping();
    clearTimeout(this.#timer);
    this.#timer = setTimeout(() => this.#judge(), this.#pulse.timeout);
  }

  #judge(): void {
    if (this.#asked && this.#pulse.buffered() < this.#asked.buffered) this.#ask();
    else this.#pulse.dead();
  }
}
