import type { Delta, LoroDoc, LoroText } from "loro-crdt";

/** One replacement in a text; indexes count UTF-16 units, as JavaScript and Loro's text do. */
export interface Replacement {
  readonly index: number;
  readonly removed: number;
  readonly inserted: string;
}

/**
 * The smallest single replacement that makes `after` of `before`, or `undefined` if they are equal.
 *
 * @param caret where the caret is in `after`: what was typed lies before it, which decides where a letter went
 *   that stands beside its like
 */
export function difference(before: string, after: string, caret = after.length): Replacement | undefined {
  if (before === after) return undefined;
  const shorter = Math.min(before.length, after.length);
  let index = 0;
  while (index < shorter && before[index] === after[index]) index += 1;
  let suffix = 0;
  while (suffix < shorter && before.at(-1 - suffix) === after.at(-1 - suffix)) suffix += 1;
  if (index + suffix > shorter) {
    // Several places would do; of those, the one that ends at the caret.
    suffix = Math.max(shorter - index, Math.min(suffix, after.length - caret));
    index = shorter - suffix;
  }
  // Half of a surrogate pair is no character.
  if (index > 0 && isHighSurrogate(before, index - 1)) index -= 1;
  if (suffix > 0 && isHighSurrogate(before, before.length - suffix - 1)) suffix -= 1;
  return { index, removed: before.length - suffix - index, inserted: after.slice(index, after.length - suffix) };
}

function isHighSurrogate(text: string, index: number): boolean {
  return (text.charCodeAt(index) & 0xfc00) === 0xd800;
}

/** Where a position comes to lie when the text is changed by `delta`. What is inserted at it goes after it. */
export function follow(delta: readonly Delta<string>[], position: number): number {
  let at = 0;
  let moved = position;
  for (const { retain, insert, delete: removed } of delta) {
    if (at >= moved) break;
    if (retain !== undefined) {
      at += retain;
    } else if (insert !== undefined) {
      at += insert.length;
      moved += insert.length;
    } else if (removed !== undefined) {
      moved -= Math.min(removed, moved - at);
    }
  }
  return moved;
}

/** Keeps a text area and a text of the document the same. */
export function bindText(area: HTMLTextAreaElement, doc: LoroDoc, text: LoroText): void {
  /** What the text area showed when it last agreed with the document. */
  let shown = text.toString();
  let composing = false;
  /** The text area knows already what is written from it. */
  let writing = false;
  /** What others did while an input method was composing: then the text area must not be touched. */
  let missed: Delta<string>[][] = [];
  area.value = shown;

  const write = (): void => {
    const edit = difference(shown, area.value, area.selectionEnd);
    shown = area.value;
    if (!edit) return;
    const start = missed.reduce((position, delta) => follow(delta, position), edit.index);
    const end = missed.reduce((position, delta) => follow(delta, position), edit.index + edit.removed);
    writing = true;
    try {
      if (end > start) text.delete(start, end - start);
      if (edit.inserted) text.insert(start, edit.inserted);
      doc.commit();
    } finally {
      writing = false;
    }
  };

  const show = (deltas: readonly Delta<string>[][]): void => {
    const current = text.toString();
    shown = current;
    if (area.value === current) return;
    const { selectionStart, selectionEnd, selectionDirection, scrollTop } = area;
    const moved = (position: number): number => deltas.reduce((to, delta) => follow(delta, to), position);
    area.value = current;
    area.setSelectionRange(moved(selectionStart), moved(selectionEnd), selectionDirection);
    area.scrollTop = scrollTop;
  };

  area.addEventListener("input", () => composing || write());
  area.addEventListener("compositionstart", () => {
    composing = true;
  });
  area.addEventListener("compositionend", () => {
    composing = false;
    write();
    const deltas = missed;
    missed = [];
    show(deltas);
  });
  text.subscribe(({ events }) => {
    if (writing) return;
    const deltas = events.flatMap(({ diff }) => (diff.type === "text" ? [diff.diff] : []));
    if (composing) missed.push(...deltas);
    else show(deltas);
  });
}
