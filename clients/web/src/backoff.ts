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
