/** How long to wait before the next attempt to connect. */
export interface Backoff {
  /** Ceiling of the first wait, in milliseconds. */
  readonly minDelay: number;
  /** Ceiling of every wait, in milliseconds. */
  readonly maxDelay: number;
}

/**
 * The wait before attempt number `attempt` (from 0), in milliseconds: the ceiling doubles with each attempt
 * up to `maxDelay`, and the wait is drawn from its upper half, so that the clients of a server that
 * restarts do not all come back in the same instant.
 *
 * @param random a number in [0, 1), as from `Math.random`
 */
export function delayBefore(attempt: number, { minDelay, maxDelay }: Backoff, random: () => number): number {
  const ceiling = Math.min(maxDelay, minDelay * 2 ** Math.min(attempt, 30));
  return Math.round(ceiling * (0.5 + random() / 2));
}
