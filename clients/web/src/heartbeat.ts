/** The settings and functions that a heartbeat needs from its connection. */
export interface Pulse {
  /** The time between the answer to a ping and the next ping, in milliseconds. */
  readonly interval: number;
  /** The time that the answer to a ping may take, in milliseconds. */
  readonly timeout: number;
  /** Sends a ping. */
  ping(): void;
  /** Returns the number of bytes that wait to be sent. While it falls, the connection is slow but alive. */
  buffered(): number;
  /** Handles a connection that did not answer. */
  dead(): void;
}

/** Detects a connection that is gone without a close: a closed lid, a changed network, a lost NAT entry. */
export class Heartbeat {
  readonly #pulse: Pulse;
  #timer: ReturnType<typeof setTimeout> | undefined;
  #asked: { readonly buffered: number } | undefined;

  /** Starts to watch. */
  constructor(pulse: Pulse) {
    this.#pulse = pulse;
    this.#rest();
  }

  /**
   * Records that a frame has arrived. Any frame answers a ping. If no ping is under way, the next one comes when it is due: a ping
   * to a busy server costs less than a timer that is set anew with each frame.
   */
  heard(): void {
    if (this.#asked) {
      this.#asked = undefined;
      this.#rest();
    }
  }

  /** Sends a ping at once instead of after the interval, because the network may just have changed. */
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
