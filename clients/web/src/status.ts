/**
 * - `connecting`: a socket is being opened.
 * - `syncing`: the room's state is on its way.
 * - `live`: edits go both ways as they are made.
 * - `offline`: there is no connection, and the next attempt is due after `status.retryIn`. Edits are kept in the document.
 * - `rejected`: over, because edits made here cannot be saved (`status.reason`). The document stays usable, but nothing
 *   more is sent or received. To try again, `close()` and connect anew.
 * - `closed`: over, by `close()` or because the server does not let this client in (`status.reason`).
 */
export type State = "connecting" | "syncing" | "live" | "offline" | "rejected" | "closed";

/** How a connection is. A new object at each change. */
export interface Status {
  readonly state: State;
  readonly saved: {
    /**
     * The server has confirmed, on the present socket, that everything in the document is stored. False while that is
     * not known: before the first join, and from the loss of a connection until the next join.
     */
    readonly all: boolean;
    /** Edits (local commits, or imports by the application) of which that is not known. */
    readonly unsaved: number;
    /** Those of them that the server has refused. Unless the state is `rejected`, they are offered once more. */
    readonly refused: number;
  };
  /** Sockets in the room, this one among them; unknown while not live. */
  readonly peers: number | undefined;
  /** The room's rev, as last heard. */
  readonly rev: number | undefined;
  /** Why it is offline, rejected or closed, in words for a user. */
  readonly reason: string | undefined;
  /** While offline: milliseconds from the loss of the connection to the next attempt. */
  readonly retryIn: number | undefined;
}

/** Something that went wrong. Only if `final` is the connection over; otherwise it goes on. */
export interface SyncError {
  /**
   * The server's own code (`invalid_update`, `read_only`, …), or one of these:
   *
   * - `unreachable`: no connection could be opened.
   * - `refused`: the server does not let this client in.
   * - `closed`: the server ended the connection, and not for maintenance.
   * - `too_large`: an operation, or a message, is larger than the server takes.
   * - `import_failed`: an update from the server could not be applied.
   * - `export_failed`: what the server lacks could not be read from the document.
   */
  readonly code: string;
  /** In words for a user. */
  readonly message: string;
  readonly final: boolean;
  /** The server refused this frame: the edits in it are not saved. */
  readonly frame?: number;
}
