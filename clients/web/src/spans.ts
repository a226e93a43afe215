import type { LoroDoc, PeerID } from "loro-crdt";

/** A run of consecutive operations of one peer. */
export interface Span {
  readonly id: { readonly peer: PeerID; readonly counter: number };
  readonly len: number;
}

/** Returns the spans without these operations, and without everything of any peer that depends on them. */
export function withoutDependents(doc: LoroDoc, spans: readonly Span[], operations: readonly Span["id"][]): Span[] {
  /** The counter from which on no operation of a peer can be applied. */
  const ends = new Map<PeerID, number>();
  const end = ({ peer, counter }: Span["id"]): unknown => ends.set(peer, Math.min(counter, ends.get(peer) ?? Infinity));
  for (const id of operations) end(id);
  // The dependencies of a change have lower Lamport times, so they come before it.
  const changes = [...doc.getAllChanges().values()].flat().sort((a, b) => a.lamport - b.lamport);
  for (const { peer, counter, deps } of changes) {
    if (deps.some((dep) => dep.counter >= (ends.get(dep.peer) ?? Infinity))) end({ peer, counter });
  }
  return spans
    .map(({ id, len }) => ({ id, len: Math.min(len, (ends.get(id.peer) ?? Infinity) - id.counter) }))
    .filter(({ len }) => len > 0);
}
