import type { LoroDoc, PeerID, VersionVector } from "loro-crdt";

/**
 * Reads an encoded version. The class is taken from the document's own build of Loro: an application may use
 * `loro-crdt`, `loro-crdt/web` or `loro-crdt/base64`, and objects of one are strangers to the others.
 *
 * @throws if the bytes are no version
 */
export function decodeVersion(doc: LoroDoc, bytes: Uint8Array): VersionVector {
  const Version = doc.oplogVersion().constructor as typeof VersionVector;
  return Version.decode(bytes);
}

/**
 * The updates that `doc` has and the holder of `theirs` lacks, none of them longer than `limit` bytes (unless
 * a single operation is). Empty when nothing is missing. The updates need not be applied in order.
 */
export function missingUpdates(doc: LoroDoc, theirs: VersionVector, limit: number): Uint8Array[] {
  const mine = doc.oplogVersion();
  const known = theirs.toJSON();
  const spans: Span[] = [];
  for (const [peer, end] of mine.toJSON()) {
    const counter = known.get(peer) ?? 0;
    if (end > counter) spans.push({ id: { peer, counter }, len: end - counter });
  }
  if (spans.length === 0) return [];
  const whole = doc.export({ mode: "update", from: theirs });
  return whole.length <= limit ? [whole] : pieces(doc, spans, limit);
}

interface Span {
  readonly id: { readonly peer: PeerID; readonly counter: number };
  readonly len: number;
}

/** Halves what is to be sent until each piece is small enough. */
function pieces(doc: LoroDoc, spans: Span[], limit: number): Uint8Array[] {
  const bytes = doc.export({ mode: "updates-in-range", spans });
  const operations = spans.reduce((sum, { len }) => sum + len, 0);
  if (bytes.length <= limit || operations <= 1) return [bytes];
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
