import { UndoManager, type LoroDoc } from "loro-crdt";

/** The pause after which further typing is a gesture of its own, in milliseconds. */
const PAUSE = 1_000;

/** The most commits that can be undone. */
const MAX_STEPS = 1_000;

/** Returns the time in milliseconds; tests replace it. */
export type Clock = () => number;

/**
 * Undoes the user's own edits, gesture by gesture: each commit is one, except that all letters typed in one place without
 * a pause are one together. Loro may split what it groups when another user edits meanwhile, so each of its steps carries the
 * number of its gesture, and the steps of one gesture are undone together.
 */
export class GestureUndo {
  readonly #excluded: string[];
  readonly #now: Clock;
  #manager: UndoManager;
  #gesture = 0;
  /** The place where the user is typing, and the time of the last letter. */
  #typing: { readonly place: string; readonly at: number } | undefined;
  /** Says whether steps that are recorded now belong to the gesture that is undone or redone. */
  #replaying = false;

  /** Follows a document. Commits whose origin begins with one of `excluded` do not count as the user's edits. */
  constructor(doc: LoroDoc, excluded: string[], now: Clock = () => performance.now()) {
    this.#excluded = excluded;
    this.#now = now;
    this.#manager = this.#follow(doc);
  }

  /** Continues with another document. Edits of the one before cannot be undone any more. */
  follow(doc: LoroDoc): void {
    this.endTyping();
    this.#manager = this.#follow(doc);
  }

  #follow(doc: LoroDoc): UndoManager {
    return new UndoManager(doc, {
      mergeInterval: 0,
      maxUndoSteps: MAX_STEPS,
      excludeOriginPrefixes: this.#excluded,
      onPush: () => {
        if (!this.#replaying && !this.#typing) this.#gesture += 1;
        return { value: this.#gesture, cursors: [] };
      },
    });
  }

  get canUndo(): boolean {
    return this.#manager.canUndo();
  }

  get canRedo(): boolean {
    return this.#manager.canRedo();
  }

  /**
   * Begins a gesture of typing, or continues the one in this place; to be called before each commit of a letter.
   *
   * @param grouped whether the place is a Loro text. Its letters become one step, which is undone at once; but if another
   *   user edits the same map meanwhile, Loro undoes only a part of a step of values in a map.
   */
  type(place: string, grouped: boolean): void {
    const at = this.#now();
    if (this.#typing?.place !== place || at - this.#typing.at >= PAUSE) {
      this.endTyping();
      this.#gesture += 1;
    }
    this.#typing = { place, at };
    if (grouped) this.#group();
  }

  /** Ends the gesture of typing, because the user has left the place. */
  endTyping(): void {
    this.#typing = undefined;
    this.#manager.groupEnd();
  }

  /** Opens a group. Another user's edit may have ended the one before; if it has not, Loro refuses a second one. */
  #group(): void {
    try {
      this.#manager.groupStart();
    } catch {
      // The group is open.
    }
  }

  /** Takes back the last gesture. */
  undo(): void {
    this.#replay(() => this.#manager.undo(), () => this.#manager.topUndoValue());
  }

  /** Repeats the gesture that was taken back last. */
  redo(): void {
    this.#replay(() => this.#manager.redo(), () => this.#manager.topRedoValue());
  }

  #replay(step: () => boolean, top: () => unknown): void {
    this.endTyping();
    const gesture = top();
    if (typeof gesture !== "number") return;
    const last = this.#gesture;
    this.#gesture = gesture;
    this.#replaying = true;
    try {
      while (top() === gesture && step());
    } finally {
      this.#replaying = false;
      this.#gesture = last;
    }
  }
}
