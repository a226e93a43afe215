import type { SocketConstructor } from "./socket.js";

/** Settings of a connection; all times in milliseconds. */
export interface Options {
  /** For platforms without one of their own: the class from the package `ws`. */
  readonly WebSocket?: SocketConstructor;
  /** Longest first wait before connecting again; doubles with each attempt. Default 500. */
  readonly minDelay?: number;
  /** Longest wait at all. Default 30,000. */
  readonly maxDelay?: number;
  /** A live connection that was quiet for so long is asked whether it is still there. Default 20,000. */
  readonly pingInterval?: number;
  /** And is given up if no frame comes for so long. Default 10,000. */
  readonly pingTimeout?: number;
  /** Longest wait for a socket to open, and for each next part of the first state. Default 60,000. */
  readonly syncTimeout?: number;
  /** For tests: a number in [0, 1). Default `Math.random`. */
  readonly random?: () => number;
}

/** Options with their defaults filled in. */
export type Settings = Required<Omit<Options, "WebSocket">>;

/** Fills in the defaults. */
export function withDefaults(options: Options): Settings {
  return {
    minDelay: options.minDelay ?? 500,
    maxDelay: options.maxDelay ?? 30_000,
    pingInterval: options.pingInterval ?? 20_000,
    pingTimeout: options.pingTimeout ?? 10_000,
    syncTimeout: options.syncTimeout ?? 60_000,
    random: options.random ?? Math.random,
  };
}
