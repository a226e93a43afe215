import type { LoroDoc } from "loro-crdt";
import type { Span } from "./spans.js";

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
