import type { LoroDoc, PeerID } from "loro-crdt";

/**
 * The size from which on an import may take long, in bytes. Loro compares letters written at the same time with each other: two
 * pastes of this size take a fifth of a second or so, and two of 1 MiB twenty seconds.
 */
const LARGE = 64 * 1024;

/** The longest wait for the browser to show a frame, in milliseconds. A page may become hidden meanwhile, and has none then. */
const FRAME = 250;

/** The time for which updates are imported until the page may respond again, in milliseconds. No single import can be interrupted. */
const TURN = 25;

/** Returns whether the import of these blobs may take so long that the application should be notified first. */
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
 * Returns a function that returns whether imports have taken {@link TURN}, so that the page should respond before the next one.
 * A hidden page need not respond, and its timers are slow.
 */
export function turn(): () => boolean {
  const end = performance.now() + TURN;
  return () => globalThis.document?.visibilityState !== "hidden" && performance.now() >= end;
}

/**
 * Makes one update of those that follow a room's snapshot, which the document has imported. Loro imports one far sooner than
 * many that were written at the same time, and than a batch of long ones. Updates that are bad, or wait for others, follow
 * unchanged.
 */
export function asOne(doc: LoroDoc, blobs: readonly Uint8Array[]): Uint8Array[] {
  const history = new (doc.constructor as typeof LoroDoc)();
  // The export commits, so the version is read after it.
  const snapshot = doc.export({ mode: "snapshot" });
  const from = doc.oplogVersion();
  try {
    history.import(snapshot);
    // A detached document computes no state, so this takes next to no time.
    history.detach();
    const apart = blobs.filter((blob) => isApart(history, blob));
    return [history.export({ mode: "update", from }), ...apart];
  } finally {
    from.free();
    history.free();
  }
}

/** Imports a blob, and returns whether an export lacks it: it is bad, or waits for others. */
function isApart(doc: LoroDoc, blob: Uint8Array): boolean {
  try {
    return Boolean(doc.import(blob).pending);
  } catch {
    return true;
  }
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
