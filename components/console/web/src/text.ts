import type { Delta, LoroText } from "loro-crdt";
import type { OpenDocument } from "./open.js";
import type { GestureUndo } from "./undo.js";

/** A replacement in a text. Indexes count UTF-16 units, as in JavaScript and in Loro's text. */
export interface Replacement {
  readonly index: number;
  readonly removed: number;
  readonly inserted: string;
}

/**
 * Finds the smallest single replacement that turns `before` into `after`; `undefined` if they are equal.
 *
 * @param caret the place of the caret in `after`. The typed letters are before it, which decides the place of a letter
 *   beside an equal one.
 */
export function difference(before: string, after: string, caret = after.length): Replacement | undefined {
  if (before === after) return undefined;
  const shorter = Math.min(before.length, after.length);
  let index = 0;
  while (index < shorter && before[index] === after[index]) index += 1;
  let suffix = 0;
  while (suffix < shorter && before.at(-1 - suffix) === after.at(-1 - suffix)) suffix += 1;
  if (index + suffix > shorter) {
    // Several places are possible; take the one that ends at the caret.
    suffix = Math.max(shorter - index, Math.min(suffix, after.length - caret));
    index = shorter - suffix;
  }
  // Half of a surrogate pair is not a character, so the replacement takes both halves.
  if (index > 0 && isHighSurrogate(before, index - 1)) index -= 1;
  if (suffix > 0 && isHighSurrogate(before, before.length - suffix - 1)) suffix -= 1;
  return { index, removed: before.length - suffix - index, inserted: after.slice(index, after.length - suffix) };
}

function isHighSurrogate(text: string, index: number): boolean {
  return (text.charCodeAt(index) & 0xfc00) === 0xd800;
}

/** Returns a position as it is after the text is changed by `delta`. An insertion at the position goes after it. */
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

/** Keeps a text area and the document's text `text` equal. Letters that are typed without a pause are undone together. */
export function bindText(area: HTMLTextAreaElement, open: OpenDocument, undo: GestureUndo): void {
  let text: LoroText;
  /** The contents of the text area when it last agreed with the document. */
  let shown = "";
  let composing = false;
  /** Says whether an edit from the text area is being written, which the text area therefore shows already. */
  let writing = false;
  /** The edits of other users while an input method was composing, when the text area must not be changed. */
  let missed: Delta<string>[][] = [];
  const write = (): void => {
    const edit = difference(shown, area.value, area.selectionEnd);
    shown = area.value;
    if (!edit) return;
    const start = missed.reduce((position, delta) => follow(delta, position), edit.index);
    const end = missed.reduce((position, delta) => follow(delta, position), edit.index + edit.removed);
    writing = true;
    try {
      undo.type("text", true);
      if (end > start) text.delete(start, end - start);
      if (edit.inserted) text.insert(start, edit.inserted);
      open.doc.commit();
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
  area.addEventListener("blur", () => undo.endTyping());
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
  open.each((doc) => {
    text = doc.getText("text");
    text.subscribe(({ events }) => {
      if (writing) return;
      const deltas = events.flatMap(({ diff }) => (diff.type === "text" ? [diff.diff] : []));
      if (composing) missed.push(...deltas);
      else show(deltas);
    });
    if (!composing) show([]);
  });
}
