import type { LoroDoc } from "loro-crdt";

/** An object that holds the present document, which another one may replace. */
export interface Holder {
  readonly doc: LoroDoc;
}

/**
 * The page's document. The connection puts another one in its place, with the same contents, if another client writes under the
 * same peer id.
 */
export class OpenDocument implements Holder {
  #doc: LoroDoc;
  readonly #followers: ((doc: LoroDoc) => void)[] = [];

  constructor(doc: LoroDoc) {
    this.#doc = doc;
  }

  get doc(): LoroDoc {
    return this.#doc;
  }

  /** Calls `follow` with the document now, and with each one that takes its place. */
  each(follow: (doc: LoroDoc) => void): void {
    this.#followers.push(follow);
    follow(this.#doc);
  }

  /** Puts another document in place of the present one. */
  replace(doc: LoroDoc): void {
    this.#doc = doc;
    for (const follow of this.#followers) follow(doc);
  }
}
