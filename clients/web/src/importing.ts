import type { ImportStatus, LoroDoc } from "loro-crdt";

/**
 * Imports blobs from the server. What one bad blob holds is lost to this client until it joins again, but the others
 * still arrive; `failed` is called for each bad one.
 *
 * Several blobs go in together only if nothing was there before: Loro does that by leaving the latest version and coming
 * back to it, at which an `UndoManager` forgets everything.
 */
export function importEach(doc: LoroDoc, blobs: Uint8Array[], failed: (error: unknown) => void): ImportStatus[] {
  if (blobs.length > 1 && doc.opCount() === 0) {
    try {
      return [doc.importBatch(blobs)];
    } catch {
      // One of them is bad; the loop finds out which.
    }
  }
  return blobs.flatMap((blob) => {
    try {
      return [doc.import(blob)];
    } catch (error) {
      failed(error);
      return [];
    }
  });
}

/** The length of what was imported but waits for operations that it builds upon. Older versions of Loro do not tell. */
export function waitingBytes(doc: LoroDoc): number {
  return doc.exportPendingUpdates?.()?.length ?? 0;
}
