/** The bounds of the wait before an attempt to connect. */
export interface Backoff {
  /** The ceiling of the first wait, in milliseconds. */
  readonly minDelay: number;
  /** The ceiling of every wait, in milliseconds. */
  readonly maxDelay: number;
}

/**
 * Returns the wait before attempt number `attempt` (from 0), in milliseconds. The ceiling doubles with each attempt
 * up to `maxDelay`. The wait is a random one from the upper half below the ceiling, so that the clients of a server that
 * restarts do not all come back at the same moment.
 *
 * @param random a number in [0, 1), as from `Math.random`
 */
export function delayBefore(attempt: number, { minDelay, maxDelay }: Backoff, random: () => number): number {
  const ceiling = Math.min(maxDelay, minDelay * 2 ** Math.min(attempt, 30));
  return Math.round(ceiling * (0.5 + random() / 2));
}

/** The time for which a connection must be live before its attempts are counted from 0 again, in milliseconds. */
const STABLE = 5_000;

/** The waits of one connection before its next attempts, whether it was lost or joins again because the versions do not fit. */
export class Attempts {
  readonly #backoff: Backoff;
  readonly #random: () => number;
  #count = 0;
  #liveSince: number | undefined;

  /** Begins to count from 0. */
  constructor(backoff: Backoff, random: () => number) {
    this.#backoff = backoff;
    this.#random = random;
  }

  /** Records that the connection is live. */
  live(): void {
    this.#liveSince = Date.now();
  }

  /** Returns the wait before the connection is opened again, in milliseconds; it is at least that of attempt number `least`. */
  beforeConnecting(least = 0): number {
    this.#interrupted();
    this.#count = Math.max(this.#count, least) + 1;
    return delayBefore(this.#count - 1, this.#backoff, this.#random);
  }

  /**
   * Returns the wait before a connection that is open joins again, in milliseconds. There is none if it was live for a while,
   * and a growing one otherwise, because the server may give the same answer again.
   */
  beforeJoining(): number {
    this.#interrupted();
    const earlier = this.#count;
    this.#count += 1;
    return earlier === 0 ? 0 : delayBefore(earlier - 1, this.#backoff, this.#random);
  }

  /** Counts from 0 again. */
  reset(): void {
    this.#count = 0;
    this.#liveSince = undefined;
  }

  #interrupted(): void {
    if (this.#liveSince !== undefined && Date.now() - this.#liveSince >= STABLE) this.#count = 0;
    this.#liveSince = undefined;
  }
}
