import type { LoroDoc } from "loro-crdt";
import type { Status, SyncError } from "./status.js";

/** The events of a connection, by name. */
export interface Events {
  readonly status: Status;
  readonly error: SyncError;
}

/** A document's connection to its room. `connect` makes it. */
export interface Connection {
  /** The document that is kept in step: the one that was given, or the last one that `replaceDocument` was called with. */
  readonly doc: LoroDoc;
  /** The present status. */
  readonly status: Status;
  /** Calls `listener` at each change of the status, or at each error. Returns a function that removes the listener. */
  on<Name extends keyof Events>(name: Name, listener: (event: Events[Name]) => void): () => void;
  /** Resolves when the document has the room's state; rejects if the connection is `denied`, `closed` or `rejected` before that. */
  whenSynced(): Promise<void>;
  /**
   * Commits, and resolves when the server has confirmed that everything in the document is stored. Rejects, with the
   * reason in words, if the connection is `denied`, `closed` or `rejected` before that.
   */
  whenSaved(): Promise<void>;
  /**
   * Joins again, so that both sides compare what they have. Rarely needed, because the client notices edits, imports
   * and a lost connection by itself. Does nothing while the connection is `denied`, and once it is `closed` or `rejected`.
   */
  resync(): void;
  /**
   * Tries again at once while the connection is `denied`, because the user has signed in, or was let in, meanwhile; or while it
   * is `offline`. Otherwise does nothing.
   */
  reconnect(): void;
  /** Ends the connection for good. Edits that are not saved yet may be lost to the server: await `whenSaved()` first. */
  close(): void;
}
