import type { LoroDoc } from "loro-crdt";
import type { SocketConstructor } from "./socket.js";

/** The settings of a connection; all times are in milliseconds. */
export interface Options {
  /** The WebSocket class, on platforms without one of their own: that of the package `ws`. */
  readonly WebSocket?: SocketConstructor;
  /**
   * Takes another document in place of the present one, because another client writes under the same peer id, and the server
   * refuses this document's edits. The new one has the same contents under a peer id of its own, and is kept in step from now
   * on; the old one is not. By default the connection is `rejected` instead.
   */
  readonly replaceDocument?: (doc: LoroDoc) => void;
  /** The longest first wait before connecting again; it doubles with each attempt. Default 500. */
  readonly minDelay?: number;
  /** The longest wait before any attempt. Default 30,000. */
  readonly maxDelay?: number;
  /** The time between the answer to a ping and the next ping of a live connection. Default 20,000. */
  readonly pingInterval?: number;
  /** The longest wait for a frame after a ping, after which the connection is given up. Default 10,000. */
  readonly pingTimeout?: number;
  /** The longest wait for a socket to open, and for each next part of the first state. Default 60,000. */
  readonly syncTimeout?: number;
  /** Returns a number in [0, 1); tests replace it. Default `Math.random`. */
  readonly random?: () => number;
}

/** The options with their defaults filled in. */
export type Settings = Required<Omit<Options, "WebSocket" | "replaceDocument">> & Pick<Options, "replaceDocument">;

/** Fills in the defaults. */
export function withDefaults(options: Options): Settings {
  return {
    ...(options.replaceDocument && { replaceDocument: options.replaceDocument }),
    minDelay: options.minDelay ?? 500,
    maxDelay: options.maxDelay ?? 30_000,
    pingInterval: options.pingInterval ?? 20_000,
    pingTimeout: options.pingTimeout ?? 10_000,
    syncTimeout: options.syncTimeout ?? 60_000,
    random: options.random ?? Math.random,
  };
}
