import type { LoroDoc, PeerID } from "loro-crdt";
import type { Span } from "./missing.js";

type Id = Span["id"];

/** A single operation that is too large for one message. It cannot be cut into several. */
export interface Oversized {
  readonly id: Id;
  /** The length of an update with this operation alone, in bytes. */
  readonly size: number;
}

const MIB = 1024 * 1024;

/** The advice for a user whose operation is too large. */
export const ADVICE = "images and other media belong beside the document, and only their address (a URL) in it";

/** Describes in words for a user which operation is too large to be saved. */
export function describeOversized(doc: LoroDoc, { id, size }: Oversized, max: number): string {
  // Rounded up, so that the size never looks as if it fitted.
  const [has, takes] = [Math.ceil((size / MIB) * 10) / 10, Math.floor((max / MIB) * 10) / 10];
  return `${describe(doc, id)} is too large to be saved (${has} MiB; the server takes ${takes} MiB at a time): ${ADVICE}`;
}

/** Names the place to which an operation writes, e.g. `"image" in the map "root"`. */
function describe(doc: LoroDoc, { peer, counter }: Id): string {
  const op = doc.exportJsonInIdSpan({ peer, counter, length: 1 })[0]?.ops[0];
  if (!op) return "one operation";
  const { container, content } = op;
  const kind = container.slice(container.lastIndexOf(":") + 1);
  // A container that was deleted since has no path.
  const path = doc.getPathToContainer(container)?.join("/") ?? container;
  const place = `the ${KINDS[kind] ?? "container"} "${path}"`;
  if ("key" in content) return `"${content.key}" in ${place}`;
  if ("style_key" in content) return `"${content.style_key}" on ${place}`;
  return `an item in ${place}`;
}

const KINDS: Record<string, string> = { Map: "map", List: "list", MovableList: "list", Text: "text", Tree: "tree" };

/** Returns the spans without these operations, and without everything of any peer that depends on them. */
export function withoutOversized(doc: LoroDoc, spans: readonly Span[], oversized: readonly Id[]): Span[] {
  /** The counter from which on no operation of a peer can be applied. */
  const ends = new Map<PeerID, number>();
  const end = ({ peer, counter }: Id): unknown => ends.set(peer, Math.min(counter, ends.get(peer) ?? Infinity));
  for (const id of oversized) end(id);
  // The dependencies of a change have lower Lamport times, so they come before it.
  const changes = [...doc.getAllChanges().values()].flat().sort((a, b) => a.lamport - b.lamport);
  for (const { peer, counter, deps } of changes) {
    if (deps.some((dep) => dep.counter >= (ends.get(dep.peer) ?? Infinity))) end({ peer, counter });
  }
  return spans
    .map(({ id, len }) => ({ id, len: Math.min(len, (ends.get(id.peer) ?? Infinity) - id.counter) }))
    .filter(({ len }) => len > 0);
}
