import type { ImportStatus, LoroDoc, PeerID } from "loro-crdt";

/**
 * The size from which on an import may take long, in bytes. Loro compares letters written at the same time with each other: two
 * pastes of this size take a fifth of a second or so, and two of 1 MiB twenty seconds.
 */
const LARGE = 64 * 1024;

/** The longest wait for the browser to show a frame, in milliseconds. A page may become hidden meanwhile, and has none then. */
const FRAME = 250;

/** Tells whether the import of these blobs may take so long that the application should be told first. */
export function mayTakeLong(blobs: readonly Uint8Array[]): boolean {
  return blobs.reduce((sum, { length }) => sum + length, 0) > LARGE;
}

/** Resolves after the browser has shown what the page looks like now; on other platforms, soon. */
export function shown(): Promise<void> {
  return new Promise((resolve) => {
    if (globalThis.document?.visibilityState !== "visible") {
      setTimeout(resolve);
      return;
    }
    const timer = setTimeout(resolve, FRAME);
    requestAnimationFrame(() => {
      clearTimeout(timer);
      // The frame is drawn after this function.
      setTimeout(resolve);
    });
  });
}

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

/** Returns the peers that wrote the operations in a blob, each with the end of its operations; none if it cannot be read. */
export function authors(doc: LoroDoc, blob: Uint8Array): Map<PeerID, number> {
  const scratch = new (doc.constructor as typeof LoroDoc)();
  // A detached document computes no state, so this takes next to no time.
  scratch.detach();
  try {
    const { success, pending } = scratch.import(blob);
    return new Map([...success, ...(pending ?? [])].map(([peer, { end }]) => [peer, end]));
  } catch {
    return new Map();
  } finally {
    scratch.free();
  }
}

/** Returns the length of the imported updates that wait for operations they depend on; 0 with older versions of Loro. */
export function waitingBytes(doc: LoroDoc): number {
  return doc.exportPendingUpdates?.()?.length ?? 0;
}
