/**
 * Keeps a Loro document in step with a room of a Loro Sync Server.
 *
 * ```ts
 * import { LoroDoc } from "loro-crdt";
 * import { connect } from "loro-sync-client-web";
 *
 * const doc = new LoroDoc();
 * const connection = connect("ws://127.0.0.1:8787/sync/demo", doc);
 * connection.on("status", ({ state, saved }) => console.log(state, saved.all ? "all saved" : saved.unsaved));
 * await connection.whenSynced();
 * doc.getText("text").insert(0, "hello");
 * await connection.whenSaved();
 * connection.close();
 * ```
 *
 * @module
 */
export { connect } from "./connection.js";
export type { Connection } from "./handle.js";
export type { Options } from "./options.js";
export { resultUrl } from "./result.js";
export type { SocketConstructor, SocketLike } from "./socket.js";
export type { State, Status, SyncError } from "./status.js";
export { upload, UploadError, type Upload, type UploadOptions } from "./upload.js";
export type { Operation } from "./waiting.js";
