import type { ImportStatus, LoroDoc } from "loro-crdt";

/**
 * Imports blobs from the server, and calls `failed` for each bad one. This client lacks the contents of a bad blob until
 * it joins again, but the other blobs are applied.
 *
 * Several blobs are imported together only if the document was empty: Loro checks out an earlier version for that and
 * comes back, and an `UndoManager` then forgets everything.
 */
export function importEach(doc: LoroDoc, blobs: Uint8Array[], failed: (error: unknown) => void): ImportStatus[] {
  if (blobs.length > 1 && doc.opCount() === 0) {
    try {
      return [doc.importBatch(blobs)];
    } catch {
      // At least one blob is bad; the loop below finds out which.
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

/** Returns the length of the imported updates that wait for operations they depend on; 0 with older versions of Loro. */
export function waitingBytes(doc: LoroDoc): number {
  return doc.exportPendingUpdates?.()?.length ?? 0;
}
