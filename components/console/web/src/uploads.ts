import { upload, type Upload } from "loro-sync-client-web";
import { createNode, type Position } from "./nodes.js";
import type { Holder } from "./open.js";
import { sentence } from "./status.js";
import { words } from "./words.js";

/** The most files that one drop, or one paste, may bring. */
export const MAX_FILES = 50;

/** The number of files that are sent at once. */
const AT_ONCE = 2;

/** The number of files of one drop beside each other, before the next row begins. */
const COLUMNS = 4;

/** The distances between the nodes of one drop, in CSS pixels: a node with a picture and a gap. */
const STEP = { x: 204, y: 218 };

/** The state of a file that a user sees until it has become a node, or they have let it go. */
export interface Showing {
  /** Shows that the file is being sent. */
  sending(): void;
  /** Shows why the file was not stored; `again` sends it once more. */
  failed(reason: string, again: () => void): void;
  /** Removes the file from view. */
  end(): void;
}

/** The settings of uploads. */
export interface Settings {
  /** The address of the room, which may be relative to the page's. */
  readonly room: string;
  /** Shows a file at a place on the board; `letGo` is called if the user no longer wants it. */
  readonly show: (name: string, at: Position, letGo: () => void) => Showing;
  /** Stores a file at the server; tests replace it. */
  readonly send?: (room: string, file: File, signal: AbortSignal) => Promise<Upload>;
}

/** Sends files to the server. Each becomes a node once it is stored there, so that other users never see an unfinished one. */
export class Uploads {
  readonly #open: Holder;
  readonly #settings: Required<Settings>;
  readonly #waiting: (() => Promise<void>)[] = [];
  #underWay = 0;
  #unsettled = 0;

  constructor(open: Holder, settings: Settings) {
    this.#open = open;
    this.#settings = { send: (room, file, signal) => upload(room, file, { signal }), ...settings };
  }

  /** Returns whether a file has not become a node yet, and its user has not let it go. */
  get areUnsettled(): boolean {
    return this.#unsettled > 0;
  }

  /** Takes the files of one drop, whose first node goes to this place. Throws if there are too many. */
  add(files: readonly File[], { x, y }: Position): void {
    if (files.length > MAX_FILES) throw new Error(`These are ${files.length} files; at most ${MAX_FILES} may come at once.`);
    for (const [n, file] of files.entries()) {
      this.#add(file, { x: x + (n % COLUMNS) * STEP.x, y: y + Math.floor(n / COLUMNS) * STEP.y });
    }
  }

  #add(file: File, at: Position): void {
    const unwanted = new AbortController();
    const settle = (): void => {
      this.#unsettled -= 1;
      showing.end();
    };
    const showing = this.#settings.show(file.name, at, () => {
      unwanted.abort();
      settle();
    });
    const send = async (): Promise<void> => {
      if (unwanted.signal.aborted) return;
      try {
        await readable(file);
        const { path } = await this.#settings.send(this.#settings.room, file, unwanted.signal);
        if (unwanted.signal.aborted) return;
        createNode(this.#open.doc, at, file.name, { src: path });
        settle();
      } catch (error) {
        if (!unwanted.signal.aborted) showing.failed(sentence(words(error)), start);
      }
    };
    const start = (): void => {
      showing.sending();
      this.#waiting.push(send);
      this.#next();
    };
    this.#unsettled += 1;
    start();
  }

  #next(): void {
    while (this.#underWay < AT_ONCE) {
      const send = this.#waiting.shift();
      if (!send) return;
      this.#underWay += 1;
      void send().finally(() => {
        this.#underWay -= 1;
        this.#next();
      });
    }
  }
}

/** Rejects, in words for a user, if the file cannot be read; a request would fail as if there were no server. */
async function readable(file: File): Promise<void> {
  try {
    await file.slice(0, 1).arrayBuffer();
  } catch {
    throw new Error(`${file.name} cannot be read: it is a folder, or it has changed meanwhile.`);
  }
}
