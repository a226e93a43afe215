import type { Operation } from "./waiting.js";

/**
 * The state of a connection:
 *
 * - `connecting`: a socket is being opened.
 * - `syncing`: the room's state is on its way.
 * - `live`: edits go both ways as they are made.
 * - `offline`: there is no connection, and the next attempt is due after `status.retryIn`. Edits are kept in the document.
 * - `rejected`: ended, because edits made here cannot be saved (`status.reason`). The document stays usable, but nothing
 *   more is sent or received. To try again, `close()` and connect again.
 * - `denied`: the server does not let this client in (`status.reason`): not signed in, or no access. No attempt is made before
 *   `reconnect()`. Edits are kept in the document.
 * - `closed`: ended, by `close()` or because there is no room at this address (`status.reason`).
 */
export type State = "connecting" | "syncing" | "live" | "offline" | "rejected" | "denied" | "closed";

/** The status of a connection. Each change makes a new object. */
export interface Status {
  readonly state: State;
  readonly saved: {
    /**
     * Says whether the server has confirmed, on the present socket, that everything in the document is stored. False while
     * that is not known: before the first join, from the loss of a connection until the next join, and after the server has
     * moved updates aside.
     */
    readonly all: boolean;
    /** The number of edits (local commits, or imports by the application) that are not known to be stored. */
    readonly unsaved: number;
    /** The number of these edits that the server has refused. Unless `rejected`, they are offered once more. */
    readonly refused: number;
    /**
     * The operations that the server lacks, although edits that it has stored build on them. `all` is false until they come,
     * because these edits are on its disk, but not in the document that others see. Operations that the server has moved
     * aside are among them.
     */
    readonly waitsFor: readonly Operation[];
  };
  /**
   * Says whether an import that may take seconds is announced or under way. The page responds between two updates, but not
   * while one is imported. A browser shows what a listener writes into the page when this becomes true, before the import
   * begins.
   */
  readonly importing: boolean;
  /** The number of sockets in the room, including this one; `undefined` while it is not known. */
  readonly peers: number | undefined;
  /** The room's rev, as the server last sent it. */
  readonly rev: number | undefined;
  /** The reason why the connection is offline, rejected, denied or closed, in words for a user. */
  readonly reason: string | undefined;
  /** The time from the loss of the connection to the next attempt, in milliseconds; `undefined` unless offline. */
  readonly retryIn: number | undefined;
}

/** An error of a connection. If it is `final`, the connection has ended, or is `denied`; otherwise it continues. */
export interface SyncError {
  /**
   * The server's own code (`invalid_update`, `read_only`, …), or one of these:
   *
   * - `quarantined`: the server has moved updates out of its document, because they cannot be applied. It is final if the
   *   document has any of them, because then no later edit of it can be saved.
   * - `unreachable`: no connection could be opened.
   * - `refused`: the server does not let this client in, or there is no room at this address.
   * - `closed`: the server ended the connection for another reason than maintenance.
   * - `too_large`: an operation, or a message, is larger than the server accepts.
   * - `import_failed`: an update from the server could not be applied.
   * - `export_failed`: what the server lacks could not be read from the document.
   * - `duplicate_peer`: another client writes under the same peer id. The edits are made anew in another document, if the
   *   application can take one (`replaceDocument`).
   */
  readonly code: string;
  /** The error in words for a user. */
  readonly message: string;
  readonly final: boolean;
  /** The number of the frame that the server refused. The edits in it are not saved. */
  readonly frame?: number;
}
