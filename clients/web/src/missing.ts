import type { LoroDoc, VersionVector } from "loro-crdt";
import type { Oversized } from "./oversized.js";
import { type Span, withoutDependents } from "./spans.js";

/**
 * Reads an encoded version. The class is taken from the document's own build of Loro: an application may use
 * `loro-crdt`, `loro-crdt/web` or `loro-crdt/base64`, and one build does not accept another's objects.
 *
 * @throws if the bytes are not a version
 */
export function decodeVersion(doc: LoroDoc, bytes: Uint8Array): VersionVector {
  const Version = doc.oplogVersion().constructor as typeof VersionVector;
  return Version.decode(bytes);
}

/** The operations that a document has and another version lacks. */
export interface Missing {
  /** The updates, within the limits. They may be applied in any order. Empty if nothing is missing. */
  readonly updates: Uint8Array[];
  /** The version of the document that the updates lead to. */
  readonly version: VersionVector;
  /** An operation that is larger than `max`. It is left out, and so is everything that depends on it. */
  readonly oversized?: Oversized;
}

/** The limits on the sizes of messages, in bytes. */
export interface Limits {
  /** The largest size of a piece into which an update is cut, unless it is a single operation. */
  readonly piece: number;
  /** The largest size of any piece. */
  readonly max: number;
}

/**
 * Exports the updates that `doc` has and `theirs` lacks. Commits the document.
 *
 * @throws if `doc` is shallow and `theirs` lacks operations from before its start, because no update that depends on
 *   them could be applied
 */
export function missingUpdates(doc: LoroDoc, theirs: VersionVector, { piece, max }: Limits): Missing {
  const version = doc.oplogVersion();
  if (isAtLeast(theirs, version)) return { updates: [], version };
  if (doc.isShallow() && !isAtLeast(theirs, doc.shallowSinceVV())) {
    throw new Error("this is a shallow copy, and the server lacks the history before this document's start");
  }
  const whole = doc.export({ mode: "update", from: theirs });
  if (whole.length <= piece) return { updates: [whole], version };
  const known = theirs.toJSON();
  const spans: Span[] = [];
  for (const [peer, end] of version.toJSON()) {
    const counter = known.get(peer) ?? 0;
    if (end > counter) spans.push({ id: { peer, counter }, len: end - counter });
  }
  const updates = pieces(doc, spans, piece);
  const oversized = updates.filter(({ bytes }) => bytes.length > max);
  const [first] = oversized;
  if (!first) return { updates: updates.map(({ bytes }) => bytes), version };
  const rest = withoutDependents(doc, spans, oversized.map(({ spans: [span] }) => span!.id));
  return {
    updates: pieces(doc, rest, piece).map(({ bytes }) => bytes),
    version,
    oversized: { id: first.spans[0]!.id, size: first.bytes.length },
  };
}

function isAtLeast(version: VersionVector, other: VersionVector): boolean {
  const order = version.compare(other);
  return order !== undefined && order >= 0;
}

/** A part of the missing operations, and an update that contains it. */
interface Piece {
  readonly spans: Span[];
  readonly bytes: Uint8Array;
}

/** Halves the spans until each piece is small enough, or a single operation. */
function pieces(doc: LoroDoc, spans: Span[], limit: number): Piece[] {
  if (spans.length === 0) return [];
  const bytes = doc.export({ mode: "updates-in-range", spans });
  const operations = spans.reduce((sum, { len }) => sum + len, 0);
  if (bytes.length <= limit || operations <= 1) return [{ spans, bytes }];
  const first: Span[] = [];
  const second: Span[] = [];
  let room = Math.floor(operations / 2);
  for (const { id, len } of spans) {
    const taken = Math.min(room, len);
    if (taken > 0) first.push({ id, len: taken });
    if (taken < len) second.push({ id: { peer: id.peer, counter: id.counter + taken }, len: len - taken });
    room -= taken;
  }
  return [...pieces(doc, first, limit), ...pieces(doc, second, limit)];
}
